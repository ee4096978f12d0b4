"""What the offline writer can ask of a sentence: one rule for each kind of question, from the clause to its parts.

A rule gives nothing where it is unsure. Every pattern runs on one sentence, which has a bounded length."""

import re
from collections.abc import Iterator

from workbench.llm.offline_rules.clauses import (
    PARTICIPLE,
    SECOND_ACTION,
    SECOND_VERB,
    Clause,
    as_question,
    clause,
    in_question_order,
    is_imperative,
    is_plural,
    main_clause,
    until,
)
from workbench.llm.offline_rules.text import (
    A_BASE,
    A_THIRD,
    ADVERBS,
    BASE,
    CONJUNCTS,
    HELPERS,
    NUMBER_WORDS,
    PREPOSITIONS,
    STOP,
    SUBORDINATORS,
    THIRD,
    VERB_FORMS,
    WORD,
    Sentence,
    content_stems,
    has_anaphora,
    lowered,
    raised,
    word_set,
)

# What a rule makes: form, slots, answer, and a factor on the form's quality.
Made = tuple[str, dict[str, str], str, float]

_LABEL = re.compile(
    r"^(?:note|warning|tip|important|caution|info|safety|hint|example)(?: that)?[:.]? (?=[A-Z])"
    r"|^(?:(?:note|notice|recall|remember|keep in mind) that|in fact,|of course,|however,|therefore,|thus,|in addition,"
    r"|moreover,|also,|finally,|similarly,|likewise,|basically,|internally,|by default,"
    r"|(?:and|but|so|also|now|then)(?: then| also| still)?,?) ",
    re.IGNORECASE,
)
_ASIDE = re.compile(r",? for (?:example|instance)\b,?| \([^()]*\)")
_NEGATION = re.compile(r"\b(is|are|was|were|do|does|did|ca|wo|could|should|would|has|have)n['’]t\b")


def everything(sentence: Sentence, known: frozenset[str]) -> Iterator[Made]:
    """All that the rules make of a sentence; `known` are the names of its passage."""
    yield from _step(sentence)
    yield from _cloze(sentence)
    for part in _parts(sentence.plain):
        for rule in _RULES:
            yield from rule(part, known)


def _parts(text: str) -> list[str]:
    """What a sentence states, in pieces parted by semicolons, without labels, asides and contractions."""
    text = _ASIDE.sub("", text.rstrip(".!: "))
    text = _NEGATION.sub(lambda match: {"ca": "can", "wo": "will"}.get(match[1], match[1]) + " not", text)
    pieces = raised(_LABEL.sub("", _LABEL.sub("", text))).split("; ")
    return [pieces[0], *(piece[:1].upper() + piece[1:] for piece in pieces[1:] if len(piece.split()) >= 4)]


_LEADING = re.compile(r"(If|When|Once|While|Unless|After|Before|Until|Whenever|As soon as|As long as) (.+)")
_TRAILING = re.compile(
    r"(.+?),? (if|when|once|unless|until|after|before|while|whenever|as soon as|as long as|only if|only when|only after"
    r"|only until) (.+)"
)
_TRAILING_END = re.compile(r", (?:and|but|so|which|whereas|although|though|because|since)\b| [—–] |: ")
_NO_CONDITION_AFTER = word_set(
    """know tell say see time day moment even and or check out is are was than case decide whether not days hours
    minutes long shortly soon immediately right just"""
)
_YOU_MUST, _YOU_CAN = ("you should", "you must", "you need", "you have to"), ("you can", "you could", "you may")


def _condition(text: str, known: frozenset[str]) -> Iterator[Made]:
    if match := _LEADING.match(text):
        if parts := _after_condition(match[2]):
            yield _outcome(match[1].lower(), *parts, known, 1.05)
        return
    match = _TRAILING.fullmatch(until(_TRAILING_END, text, 6))
    last = match[1].rpartition(" ")[2].lower() if match else ""
    if match is None or match[1].count(" ") < 2 or last in _NO_CONDITION_AFTER or last in PREPOSITIONS:
        return
    outcome, sub, condition = match[1], match[2], main_clause(match[3])
    # "A does this, while B does that" is a contrast; "that" or "because" before may own the condition.
    if (sub == "while" and text[match.end(1)] == ",") or re.search(r"\b(?:that|which|who|because|since|so)\b", outcome):
        return
    asked = as_question(outcome, known)
    if asked and sub != "unless":
        form = {"if": "in_case", "only if": "in_case", "until": "how_long"}.get(sub, "at_what_time")
        yield form, {"turned": asked[0]}, f"{sub} {condition}", 1.0
    is_clause = clause(condition) or condition.startswith("you ")
    if asked and is_clause and sub.split()[0] not in ("only", "before", "until"):
        yield _outcome(sub, condition, outcome, known, 0.9)


def _after_condition(text: str) -> tuple[str, str] | None:
    """The condition and the outcome, parted at the first comma after which a clause begins."""
    for match in re.finditer(r", (?:then )?", text):
        condition, outcome = text[: match.start()], text[match.end() :]
        begins = re.match(r"(?:it|they|you|this|there|these|that|he|she|we)\b", outcome)
        if outcome.count(" ") >= 2 and (begins or is_imperative(outcome) or clause(main_clause(outcome))):
            last = condition.rpartition(" ")[2].lower()
            is_clear = last not in PREPOSITIONS | {"that"} and not has_anaphora(condition, within=1)
            is_clear = is_clear and 1 <= condition.count(" ") < 18
            return (condition, outcome) if is_clear else None
    return None


def _outcome(sub: str, condition: str, outcome: str, known: frozenset[str], factor: float) -> Made:
    """What happens under a condition; the wording follows from what the outcome is."""
    slots = {"sub": sub, "condition": lowered(condition, known)}
    found, start = clause(main_clause(outcome)), outcome.lower()
    if is_imperative(outcome) or start.startswith(_YOU_MUST):
        return "advice_if", slots, outcome, factor
    if start.startswith(_YOU_CAN):
        return "options_if", slots, outcome, factor
    if found and found.helper in ("does", "do") and found.verb != "have":
        return "does_if", slots | {"subject": f"{found.helper} {lowered(found.subject, known)}"}, outcome, factor
    if found and found.helper in ("is", "are") and re.match(rf"(?:\w+ly |also |not )*{PARTICIPLE}\b", found.rest):
        return "happens_to_if", slots | {"subject": lowered(found.subject, known)}, outcome, factor
    return "happens_if", slots, outcome, factor


# A verb among the first words, and a subject that is no mere "one".
_STATES = re.compile(
    rf"(?!(?:an?|the) (?:\w+ )?ones?\b)(?:\S+ ){{1,9}}(?:{A_THIRD}|{'|'.join(sorted(HELPERS))}) ", re.IGNORECASE
)
_NO_REASON = r"(?!of\b|v?\d|version|then\b|before\b)"
_REASON = re.compile(rf"(?P<effect>.+?),? (?P<sub>because|since|so that|lest) {_NO_REASON}(?P<cause>.+)")
_LEADING_REASON = re.compile(rf"(?P<sub>Because|Since) {_NO_REASON}(?P<cause>.+?), (?P<effect>.+)")
_SO = re.compile(r"(?P<cause>.+?), (?P<sub>so) (?!that\b|much\b|far\b|as\b)(?:then )?(?P<effect>.+)")


def _reason(text: str, known: frozenset[str]) -> Iterator[Made]:
    match = _LEADING_REASON.fullmatch(text) or _REASON.fullmatch(text) or _SO.fullmatch(text)
    if match is None or match["effect"].count(" ") < 2 or match["cause"].startswith("Of "):
        return
    effect, cause = match["effect"], match["cause"]
    # The reason may belong to the relative clause; "the greatest since" is a time.
    if re.search(r", (?:which|whose|who|where)\b|est$|^(?:let|but|and)\b", effect, re.IGNORECASE):
        return
    is_aim = match["sub"] in ("so that", "lest")
    answer = f"{match['sub']} {cause}" if is_aim else f"because {lowered(cause, known)}"
    if asked := as_question(effect, known):
        yield "why", {"turned": asked[0], "effect": asked[1]}, answer, 1.0
    elif not has_anaphora(effect, within=6) and _STATES.match(effect):
        yield "why_that", {"effect": lowered(effect, known)}, answer, 1.0


_LEADING_PURPOSE = re.compile(r"(?:To|In order to) ([a-z]+) (.+)")
_PURPOSE = re.compile(rf"(.+?) (?:in order )?to ((?:{A_BASE}) .+)")
_NO_PURPOSE_AFTER = word_set(
    """able going need needs want wants have has try allowed likely due up how way time ought used free ready enough
    required where what when possible easy hard sure tends supposed meant set right begin begins start starts or and
    not"""
)
_MEANS = re.compile(r"(.+?) by ((?:not )?[a-z]+ing\b.+)")


def _procedure(text: str, known: frozenset[str]) -> Iterator[Made]:
    main = main_clause(text)
    if match := _LEADING_PURPOSE.fullmatch(text):
        parts = _after_condition(f"{match[1]} {match[2]}")
        if parts and match[1] not in STOP:
            yield "how_to", {"goal": parts[0]}, parts[1], 1.05
    elif is_imperative(text) and (match := _PURPOSE.fullmatch(main)):
        means, last = match[1], match[1].rpartition(" ")[2].lower()
        if 1 <= means.count(" ") < 14 and "," not in means and last not in _NO_PURPOSE_AFTER:
            yield "how_to", {"goal": match[2]}, means, 0.95
    if (match := _MEANS.fullmatch(main)) and match[1].count(" ") >= 2:
        if found := clause(match[1]):
            yield "how", {"turned": in_question_order(found, known)}, f"by {match[2]}", 1.0
        elif is_imperative(match[1]) and match[1].split()[0].lower() in BASE - {"do"}:
            yield "how_to", {"goal": match[1][:1].lower() + match[1][1:]}, f"by {match[2]}", 0.95


_DEFINIENS = re.compile(r"(?:a|an|the|any|one of|part of) (?!good|bad|same|case|reason|little|bit|few|lot|only)\w+ \w+")
_DEFINIENS_END = re.compile(r", (?:and|but|so|yet|while|whereas) | [—–] |: ")


def _definition(text: str, known: frozenset[str]) -> Iterator[Made]:
    found = clause(text)
    if found is None or found.helper not in ("is", "are") or found.verb or found.subject.count(" ") > 5:
        return
    meaning = until(_DEFINIENS_END, found.rest, 3)
    if _DEFINIENS.match(meaning):
        whole = f"{found.subject} {found.helper} {meaning}"
        yield "what_is" if found.helper == "is" else "what_are", {"term": lowered(found.subject, known)}, whole, 1.0
        if found.helper == "is" and found.subject.count(" ") < 4 and meaning.count(" ") >= 4:
            yield "term_for", {"meaning": meaning}, found.subject, 1.0


_TAIL = re.compile(
    r"(.+?),? ((?:when|if|once|while|after|before|until|unless|so that|in order to|rather than|instead of) .+)"
)
_USE_TO = re.compile(rf"(.+?) (to (?:{A_BASE}) .+)")
_TO_DO = re.compile(rf"(\w+(?: \w+){{0,3}}) to ((?:{A_BASE})\b.+)")
_LETTING = word_set("allow enable help tell ask cause force require permit")
_INTRANSITIVE = word_set(
    "lie occur happen rise fall arrive exist vanish come go differ vary sink behave begin stand travel live last"
)
_THIN = word_set("have need make take go get give do become come")
_NO_OBJECT = (
    word_set("not so elsewhere up out off down away back low high very too well") | PREPOSITIONS | SUBORDINATORS
)
_NO_OBJECT |= ADVERBS | NUMBER_WORDS


def _object(text: str, known: frozenset[str]) -> Iterator[Made]:
    """What somebody or something does to a thing: "what does the server log when ..."."""
    found = clause(main_clause(text))
    if found is None:
        return
    helper, verb, rest = found.helper, found.verb, found.rest
    if helper in ("can", "may", "must", "should", "will") and rest.split()[0] in BASE:
        verb, _, rest = rest.partition(" ")
    if helper in ("is", "are", "was", "were", "has", "have", "had") or not verb or not rest:
        return
    if match := SECOND_ACTION.search(rest):
        rest = rest[: match.start()]
    match = (_USE_TO if verb == "use" else _TAIL).fullmatch(rest)
    thing, tail = (match[1], match[2]) if match else (rest, "")
    first, _, after = thing.partition(" ")
    particle = ""
    if verb in _LETTING and (match := _TO_DO.fullmatch(thing)):
        particle, thing = f" {match[1]} to do", match[2]
    elif first in ("on", "to", "from", "with", "for", "of", "at") and after and after.split()[0] not in BASE:
        particle, thing = f" {first}", after
    elif first.lower() in _NO_OBJECT or first.endswith(("ly", "ing")) or verb.rpartition(" ")[2] in _INTRANSITIVE:
        return
    is_about_anything = found.subject.lower() in ("you", "we") and not tail  # "What can you use?"
    if is_about_anything or not thing or thing[0].isdigit() or thing.count(" ") >= 20:
        return
    slots = {"turned": f"{helper} {lowered(found.subject, known)} {verb}{particle}"}
    if tail:
        yield "object_and_tail", slots | {"tail": f" {tail}", "lead": tail}, thing, 1.0
    else:
        yield "object", slots, thing, 0.65 if verb in _THIN or len(content_stems(found.subject)) < 2 else 1.0


_PASSIVE = re.compile(
    rf"((?:be |been )?(?:\w+ly |also |not )?{PARTICIPLE})(| [^,]{{1,40}}?) (by|with|from|for|into|as) (?!\d)(.+)"
)
_NO_AGENT = BASE | NUMBER_WORDS | word_set("all most order time least once default far well soon long much if though")


def _passive(text: str, known: frozenset[str]) -> Iterator[Made]:
    found = clause(main_clause(text))
    if found is None or found.helper in ("does", "do", "did", "has", "have"):
        return
    match = _PASSIVE.fullmatch(found.rest)
    if match is None:
        return
    participle, between, preposition, thing = match.groups()
    first = thing.split()[0].lower()
    if first in _NO_AGENT or first.endswith("ing") or thing.count(" ") >= 14:
        return
    slots = {"turned": f"{found.helper} {lowered(found.subject, known)} {participle}{between}"}
    yield "stranded", slots | {"preposition": preposition}, thing, 1.0


_NO_PREDICATE = re.compile(
    r"(?:is|was) (?:a|an|the|not|only|in|on|at|what|that|to|why|how|when|where|[A-Z]\w*)\b"
    r"|(?:does|is|did|can|will|cannot)\b.*\bnot\b|cannot\b"
)


def _subject_of(text: str, known: frozenset[str]) -> Iterator[Made]:
    """What it is that does something: "what keeps jobs apart"."""
    main = main_clause(text)
    found = clause(main)
    if found is None or found.helper in ("are", "were", "do", "have") or found.subject.count(" ") > 5:
        return
    predicate = main[len(found.subject) :].split()
    predicate = " ".join(predicate[1:] if predicate[0] in CONJUNCTS else predicate)
    if match := SECOND_VERB.search(predicate):
        predicate = predicate[: match.start()]
    is_list = any(clause(part) for part in predicate.split(", ")[1:])
    if is_list or is_plural(found.subject) or _NO_PREDICATE.match(predicate) or not 4 <= predicate.count(" ") < 20:
        return
    if not re.match(r"(?:no|nobody|none|nothing|only)\b", found.subject, re.IGNORECASE):
        yield "subject", {"predicate": predicate}, found.subject, 1.0 if " " in found.subject else 0.85


_A_NUMBER = r"\d[\d,]*(?:\.\d+)?"
_A_NUMBER_WORD = "|".join(sorted(NUMBER_WORDS))
_QUANTITY = re.compile(
    r"(?<![\w.,/:–−×=-])(?:(?P<about>about|up to|at least|at most|more than|less than|around|roughly|nearly|over) )?"
    rf"(?P<number>{_A_NUMBER}(?:\s?(?:–|-|to|or|and)\s?{_A_NUMBER})?"
    rf"|(?:(?:one|{_A_NUMBER_WORD}) (?:to|or) )?(?:{_A_NUMBER_WORD})\b)(?![\w.:/–×^-]*[\w:/^])"
    r"(?:\s?(?P<sign>%|°C|°F|°)| (?P<unit>[A-Za-zµ]+(?:[/³²]\w*)?)(?P<second> [a-z]+s\b)?)?",
    re.IGNORECASE,
)
_UNITS = {
    "s": "seconds", "ms": "milliseconds", "min": "minutes", "h": "hours", "g": "grams", "kg": "kilograms",
    "m": "metres", "mm": "millimetres", "cm": "centimetres", "km": "kilometres", "ml": "millilitres", "l": "litres",
    "kib": "KiB", "mib": "MiB", "gib": "GiB", "mb": "MB", "gb": "GB", "tb": "TB", "µs": "microseconds", "%": "per cent",
    "°": "degrees", "°c": "degrees Celsius", "°f": "degrees Fahrenheit", "percent": "per cent",
    "mg/l": "milligrams per litre", "m³/s": "cubic metres per second", "hpa": "hPa",
}  # fmt: skip
_NAMED_BY_NUMBER = word_set(
    """version v step code port level row table chapter section python http status line page day figure item option
    phase stage class grade type no number between retry and"""
)
_MOVABLE = word_set("to within after for by in at over every until above below under with")
_TANGLES = word_set("and or of between")
_VALUE = re.compile(
    rf"((?:about |at most |at least )?{_A_NUMBER}(?:\s?[–-]\s?{_A_NUMBER})?(?:\s?(?:%|°C|[A-Za-zµ³/]+))?)"
    r"(?= by default|$| in | at | for | on )(.*)"
)


def _quantities(text: str) -> Iterator[tuple[int, int, str]]:
    """(start, end, "about how many seconds") of each counted thing in a plain text."""
    if not re.search(r"\d", text) and NUMBER_WORDS.isdisjoint(text.lower().split()):
        return
    for match in _QUANTITY.finditer(text):
        before = text[: match.start()].split()
        if match["number"] == "1" or (before and before[-1].lower().strip('(“"') in _NAMED_BY_NUMBER):
            continue
        unit, second = match["sign"] or match["unit"] or "", match["second"] or ""
        end = match.end("sign") if match["sign"] else match.end("unit")
        counted = _UNITS.get(unit.lower(), "")
        if unit == "per" and text.startswith(" cent", end):
            counted, end = "per cent", end + 5
        if not counted and _is_counted(unit):
            counted = unit
        elif not counted and second and unit.lower() not in STOP and second[1:] not in THIRD:
            counted, end = unit + second, match.end("second")
        if counted:
            is_share = counted == "per cent" and text.startswith(" of ", end)
            asked = "what percentage" if is_share else f"how many {counted}"
            yield match.start(), end, f"{(match['about'] or '').lower()} {asked}".strip()


def _is_counted(word: str) -> bool:
    is_word = word in PREPOSITIONS or word in STOP or word in ("less", "this", "as")
    return word.endswith("s") and not is_word and not word.endswith("ss")


def _number(text: str, known: frozenset[str]) -> Iterator[Made]:
    main = main_clause(text)
    found = clause(main)
    for start, end, asked in _quantities(main):
        quantity, after = main[start:end], main[end:]
        if found and start == 0 and found.subject.startswith(quantity):
            yield "how_many_subject", {"asked": asked, "predicate": after.strip()}, quantity, 1.0
        elif found and start > len(found.subject) and not re.match(r" (?:of|to|and) ", after):
            yield from _fronted(found, main, (start, end), asked, known)
    if found and found.helper in ("is", "was") and not found.verb and (match := _VALUE.match(found.rest)):
        yield "value", {"turned": f"{found.helper} {lowered(found.subject, known)}{match[2]}"}, match[1], 1.0


def _fronted(found: Clause, main: str, span: tuple[int, int], asked: str, known: frozenset[str]) -> Iterator[Made]:
    """The quantity asked for first: "up to how many KiB does a row hold"."""
    at = main.find(found.rest)
    between = main[at : span[0]].split() if 0 < at <= span[0] else ["?"] * 9
    preposition = between.pop() if between and between[-1].lower() in _MOVABLE else ""
    is_object = not between and not preposition and found.helper in ("does", "do", "did")
    is_adverbial = preposition and (found.verb or between)
    is_tangled = any(word in SUBORDINATORS | _TANGLES or word[-1] in ",:(" for word in between)
    if len(between) <= 5 and (is_object or is_adverbial) and not is_tangled:
        turned = " ".join(part for part in (found.helper, lowered(found.subject, known), found.verb, *between) if part)
        slots = {"asked": f"{preposition} {asked}".strip(), "turned": turned + main[span[1] :]}
        yield "how_many", slots, f"{preposition} {main[slice(*span)]}".strip(), 1.0


_CONTRAST = re.compile(r"(.+?),? (?:whereas|while|but) (.+)")
_THAN = re.compile(
    r"(.+?\b(?:(?!rather|other)\w+er|worse|(?:more|less|fewer|better)\b[^,;]{0,40}?)) than (?!\d|it\b|they\b|you\b)(.+)"
)


def _comparison(text: str, known: frozenset[str]) -> Iterator[Made]:
    main = main_clause(text)
    match = _CONTRAST.fullmatch(text if text.count(" ") < 32 else main)
    if match and match[1].count(" ") < 14 and not re.search(r"\b(?:so|because)\b", match[1]):
        one, other = clause(match[1]), clause(match[2][:1].upper() + match[2][1:])
        if one and other and one.helper[:2] == other.helper[:2] and one.subject.lower() != other.subject.lower():
            yield "differ", {"one": lowered(one.subject, known), "other": lowered(other.subject, known)}, text, 1.0
    match = _THAN.fullmatch(main)
    if match and match[2].count(" ") < 10 and " not " not in main and (found := clause(match[1])):
        yield "than", {"turned": in_question_order(found, known)}, match[2], 1.0


_RULES = (_condition, _reason, _procedure, _definition, _object, _passive, _subject_of, _number, _comparison)


def _step(sentence: Sentence) -> Iterator[Made]:
    """A numbered step under a heading that says what the steps are for."""
    is_titled = sentence.heading and not re.search(r"[?:]", sentence.heading)
    if sentence.step and is_titled and sentence.plain.count(" ") < 30:
        yield "step", {"number": str(sentence.step), "goal": sentence.heading}, sentence.plain, 1.0


def _cloze(sentence: Sentence) -> Iterator[Made]:
    """The sentence with its most telling words left out: a figure, else its longest word."""
    text = (sentence.plain if sentence.plain.count(" ") < 28 else main_clause(sentence.plain)).rstrip(".!: ")
    if VERB_FORMS.isdisjoint(text.lower().split()) or has_anaphora(text, within=4):
        return
    gap = next(((start, end) for start, end, _ in _quantities(text) if start), None)
    if gap is None:
        later = (match for match in WORD.finditer(text) if match.start() > 0)
        longer = [match for match in later if len(match[0]) > 4 and "'" not in match[0] and match[0][-2:] != "ly"]
        # Names with dots and digits tell more than words.
        rank = lambda match: (not match[0].replace("-", "").isalpha(), len(match[0]))
        longest = max(longer, key=rank, default=None)
        gap = longest.span() if longest else None
    if gap:
        yield "cloze", {"gapped": f"{text[: gap[0]]}____{text[gap[1] :]}"}, text[slice(*gap)], 1.0
