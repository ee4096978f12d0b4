"""What the offline writer knows of text: Markdown to sentences, words to stems, and a clause to its subject and verb.

Classical means only: line rules for Markdown, an abbreviation list for sentence ends, a suffix stemmer, term frequency
for what a passage is about, and a list of common verbs instead of a tagger. Where the rules are unsure they give None."""

import html
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache

LONGEST_PASSAGE = 20_000  # characters; a model has a context window too, and time must stay bounded

_VERBS = """accept acknowledge add adjust affect allow answer appear apply arrive ask assign avoid bake become begin behave
belong block break bring build calculate call cancel carry catch cause change check choose claim clear close collect combine
come commit compare complete compress condense configure confirm connect consist contain continue control convert cool copy
correspond count cover create cut decide declare decrease deepen define delay delete deliver demand depend describe detect
determine develop differ disable display divide double draw drive drop dry embed enable encrypt end enforce ensure enter equal
evaluate exceed execute exist expand expire explain expose extend fail fall feed fill finish fire fit flow follow force form
gain gather generate get give go grow guarantee handle happen help hide hold identify ignore import imply improve include
increase indicate inherit insert inspect install introduce invalidate involve join judge keep kill know lack last lead leak
leave let lie lift load lock log lose lower make manage mark match matter mean measure meet merge mix move multiply need obey
occur offer open operate override pass pause pay perform permit persist pick place point pour prefer prepare preserve press
prevent produce protect prove provide publish pull push put raise range reach read rebuild receive record recover reduce refer
reflect refuse register reject relax release rely remain remove rename repeat replace report represent require reset resist
resolve respond restore restrict result resume retain retry return reveal rise rotate run save scale score seal search see
select send separate serve set settle shape share shorten show shrink sign simplify sink skip soften solve specify spend split
spread spring stand start state stay stop store strengthen submit subtract suggest suit supply support suspend take tell tend
test tighten tolerate track transfer transform travel treat trigger try turn understand update upgrade use validate vanish vary
verify visit wait warn wash watch weaken weigh work wrap write yield chill clean click deploy dust edit knead preheat rinse slice
spray sprinkle stir wipe""".split()
_PAST = {"began": "begin", "became": "become", "came": "come", "gave": "give", "held": "hold", "kept": "keep", "meant": "mean",
         "took": "take", "made": "make", "grew": "grow", "ran": "run", "wrote": "write", "rose": "rise", "fell": "fall"}  # fmt: skip
BASE = frozenset(_VERBS)


def _third_person(verb: str) -> str:
    if verb.endswith(("s", "x", "ch", "sh", "o")):
        return verb + "es"
    return verb[:-1] + "ies" if verb[-1] == "y" and verb[-2] not in "aeiou" else verb + "s"


def _past(verb: str) -> str:
    return verb + "d" if verb.endswith("e") else verb[:-1] + "ied" if verb[-1] == "y" and verb[-2] not in "aeiou" else verb + "ed"


THIRD = {_third_person(verb): verb for verb in _VERBS}
PAST = {_past(verb): verb for verb in _VERBS} | _PAST
HELPERS = frozenset("is are was were can could may might must should will would shall cannot does do did has have had".split())
DETERMINERS = frozenset("a an the no all any each every some both one two three four five six another many most its their your".split())
PREPOSITIONS = frozenset("of in on at to from by for with within into onto over under above below between after before during until about through per without against among across towards via as like unlike".split())
SUBORDINATORS = frozenset("that which who whose whom where when if because while whereas although though since unless until once than what how why whether".split())
_ANAPHORA = frozenset("it its they them their this these those such he she his her here former latter following previous above-mentioned aforementioned there so".split())
_VAGUE = re.compile(r"(?:the|both|each|either|neither|some|all|most|another|an?)?(?: [a-z]+)?(?: ?(?:other|one|ones|first|second|third|last|same|result|rest|two|three|reason|difference|answer|point|choice|change|example|idea|problem|goal|thing|way|part|step|advantage|drawback))+s?|everything|nothing|anything|something|all|most|both|each|some|many|others?", re.IGNORECASE)
_CONJUNCTS = frozenset("therefore thus hence also however then consequently accordingly indeed".split())
_ADVERBS = frozenset("usually often always never only still just simply normally typically automatically already rarely sometimes generally now not merely really actually".split())
_STOP = frozenset("""a an the and or but if then else of in on at to from by for with within into over under above below between after before
during until about through per without against than as is are was were be been being am do does did done has have had can could
may might must should will would shall cannot not no nor so such that this these those it its they them their there here which
who whom whose what when where why how you your we our us i my he she his her one two also only just very more most less least
much many few some any each every all both either other another same own too up down out off again once while because since
although though unless whether e.g i.e etc via use used using make makes made get gets""".split())  # fmt: skip

_ABBREVIATIONS = frozenset("e.g i.e vs cf fig figs no nos dr mr mrs ms st approx ca eq sec ch incl max min ed al inc ltd pp vol ref dept est viz resp".split())
_CODE = re.compile(r"(`+)([^`]+)\1")
_LINK = re.compile(r"!?\[([^\[\]]*)\](?:\([^()\n]{0,500}(?:\([^()\n]{0,100}\)[^()\n]{0,300})?\)|\[[^\[\]\n]{0,100}\])")
_MARKS = re.compile(r"\*{1,3}(?=\S)|(?<=\S)\*{1,3}|~~|(?<!\w)_{1,3}(?=\w)|(?<=[\w.!?)])_{1,3}(?!\w)|</?[a-zA-Z][^<>]{0,200}>|\[\^\w+\]|\{ *#[^{}\n]{0,80}\}|\\(?=[\\`*_{}\[\]()#+.!|<>~-])|\n[ \t]*>[ \t]?")
_EMOJI = re.compile("[\U0001f000-\U0001faff\u2600-\u27bf\u2b00-\u2bff\ufe0f\u200d\u2190-\u21ff]")
_FENCE = re.compile(r"[ \t>]*(`{3,}|~{3,})[ \t]*([^`\s]*)")
_HEADING = re.compile(r" {0,3}#{1,6}[ \t]+(.*?)[ \t#]*$")
_ITEM = re.compile(r"([ \t>]*)(?:[-*+•]|(\d{1,3})[.)])[ \t]+(?:\[[ xX]\][ \t]+)?(?=\S)")
_QUOTE = re.compile(r"(?:[ \t]*>)+[ \t]?")
_NOISE = re.compile(r"\s*(?:</?\w[^>]*>?\s*$|<!--|/{3,}|:::|!!!|\{[*%!{]|!\[|\[!\w|\[[^\]]+\]:|[-=_*\s]{3,}$|@\w|\$ |>>> |#!|[\w.]+ = |import \w|from \w+ import|def |class \w+[(:])")
_END = re.compile(r"(?:[.!?…]|:(?=\s*$))[\"')\]*_”’]*(?=\s+(\S)|\s*$)")
_WORD = re.compile(r"\w[\w.'’-]*\w|\w")
_URL = re.compile(r"https?://\S+")
_LEADS_ON = re.compile(r"(?:\bfollow(?:ing|s)\b.*|\b(?:below|this|these|like|examples?|instance|is|are|be|was|as|here|two|three|four|things|ways|steps|to|of|with|would|in|it|say|says|look|see)):$", re.IGNORECASE)
# Text that gives orders to whoever processes it, and text about where to read on: neither is a fact to ask about.
_UNFIT = re.compile(
    r"\[\[ ?##|\b(?:ignore|disregard|forget|override) (?:all |any |the |your |every )*(?:previous |prior |above |earlier |other )*(?:instruction|prompt|rule)"
    r"|\bsystem prompt|\byou are now\b|\b(?:reply|respond|answer) (?:only )?with\b|\blicen[sc]ed under|©|\bcopyright\b|all rights reserved|https?://"
    r"|^(?:see|read|check|visit|continue)\b.{0,30}\b(?:also|more|above|below|next|docs|documentation|page|section|chapter|reference)"
    r"|\bnext (?:chapter|section|page)|\bthis (?:page|chapter|section|guide|document|tutorial)\b|\b(?:example|table|figure|list) (?:above|below)\b|\b(?:read|learn) more\b",
    re.IGNORECASE,
)


@dataclass(frozen=True, slots=True)
class Sentence:
    """One sentence: `raw` is a substring of the passage, `plain` has no Markdown marks. `heading` is the nearest heading
    above it in the passage; `step` its number in an ordered list, 0 elsewhere; `score` 0 to about 2, how much it tells."""

    raw: str
    plain: str
    heading: str
    step: int
    stems: frozenset[str]
    score: float


@dataclass(frozen=True, slots=True)
class Clause:
    """A clause that can be turned round: `{helper} {subject} {verb} {rest}` is its question order."""

    subject: str
    helper: str
    verb: str
    rest: str


def plain(text: str) -> str:
    """Return the text without Markdown marks, tags, emoji and doubled blanks; the words of links and code stay."""
    parts = _CODE.split(_LINK.sub(r"\1", text))
    # split() gives text, ticks, code, text, ...: marks inside code are part of the code.
    kept = (part if at % 3 == 2 else "" if at % 3 == 1 else _MARKS.sub(lambda m: " " if m[0][0] == "\n" else "", part) for at, part in enumerate(parts))
    return " ".join(_EMOJI.sub("", html.unescape("".join(kept))).split())


@lru_cache(maxsize=50_000)
def stem(word: str) -> str:
    """Return a word's stem by suffix rules: `retries` and `retried` give `retry`."""
    word = word.lower().removesuffix("'s").removesuffix("’s")
    if len(word) < 5 or not word.isalpha():
        return word.removesuffix("s") if len(word) > 3 and not word.endswith("ss") else word
    for suffix, instead in (("ies", "y"), ("ied", "y"), ("sses", "ss"), ("ings", ""), ("ing", ""), ("edly", ""), ("ed", ""), ("es", ""), ("ly", ""), ("s", "")):
        if word.endswith(suffix) and len(word) - len(suffix) >= 3 and not word.endswith(("ss", "us")):
            word = word[: -len(suffix)] + instead
            break
    word = word[:-1] if len(word) > 4 and word[-1] == word[-2] and word[-1] not in "lse" else word
    return word.removesuffix("e")


def words(text: str) -> list[str]:
    """Return the words of a plain text; dotted names such as `retry.cap` are one word."""
    return _WORD.findall(text)


def content_stems(text: str) -> list[str]:
    """Return the stems of the words that carry content."""
    return [stem(word) for word in words(text) if word.lower() not in _STOP]


def phrases(text: str) -> list[str]:
    """Return runs of one to three plain lower-case content words (RAKE; Rose et al. 2010), the most frequent first."""
    found: Counter[str] = Counter()
    for run in re.split(r"[^\w\s'’-]|\d\S*", plain(text)):
        line: list[str] = []
        for word in [*run.split(), "the"]:
            is_noun_like = word.isalpha() and word.islower() and len(word) > 2 and word not in _STOP and word not in BASE and word not in THIRD and word not in PAST and not word.endswith(("ly", "ing", "ed"))
            if is_noun_like and len(line) < 3:
                line.append(word)
            elif line:
                found[" ".join(line)] += len(line)
                line = [word] if is_noun_like else []
    return [phrase for phrase, _ in sorted(found.items(), key=lambda pair: (-pair[1], pair[0])) if len(phrase) > 4]


def has_anaphora(text: str, *, within: int = 99) -> bool:
    """Whether one of the first words points at something said elsewhere ("it", "these", "such")."""
    return any(word.lower() in _ANAPHORA for word in words(text)[:within])


def _blocks(text: str) -> Iterator[tuple[int, int, str, int]]:
    """(start, end, heading above, list number) of each run of lines that may be prose."""
    fences = [match for line in text.split("\n") if (match := _FENCE.match(line))]
    # A chunk may begin inside a code block: then the fences are odd in number, and the first one has no language.
    is_code = len(fences) % 2 == 1 and not fences[0][2]
    heading, step, start, end, at = "", 0, -1, -1, 0
    for line in [*text.split("\n"), ""]:
        begin, at = at, at + len(line) + 1
        is_fence = _FENCE.match(line)
        title = None if is_code else _HEADING.match(line)
        item = None if title else _ITEM.match(line)
        stops = is_code or is_fence or title or not line.strip() or line.count("|") > 1 or _NOISE.match(line)
        if start >= 0 and (stops or item):
            yield start, end, heading, step
            start, step = -1, 0
        is_code = not is_code if is_fence else is_code
        if title:
            heading = plain(title[1])
        if stops:
            continue
        if start < 0:
            quote = _QUOTE.match(line)
            start = begin + (item.end() if item else quote.end() if quote else 0)
            step = int(item[2] or 0) if item else 0
        end = begin + len(line)


def _split(text: str) -> Iterator[str]:
    """The sentences of one block, exactly as they stand in it."""
    masked = _CODE.sub(lambda m: "X" * len(m[0]), text)
    masked = _URL.sub(lambda m: "X" * len(m[0]), _LINK.sub(lambda m: "X" * len(m[0]), masked))
    start = 0
    for match in _END.finditer(masked):
        after = match[1]
        before = masked[max(start, match.start() - 12) : match.start()].split()
        last = before[-1].lstrip("(*_\"'“") if before else ""
        is_short = last.lower() in _ABBREVIATIONS or (len(last) == 1 and last.isupper() and match[0] == ".")
        if after is not None and (after.islower() or is_short):
            continue
        yield text[start : match.end()].strip()
        start = match.end()


def _is_fit(raw: str, clean: str) -> bool:
    """Whether this is a sentence that a question can be asked about, and that survives being quoted."""
    count = len(clean.split())
    if not 5 <= count <= 60 or clean[-1] not in ".!:" or _LEADS_ON.search(clean) or not (clean[0].isupper() or clean[0].isdigit() or raw[0] == "`"):
        return False
    if raw.startswith("**") and raw.rstrip(".!").endswith("**"):
        return False  # a label in bold, the heading of what follows
    letters = sum(char.isalpha() or char == " " for char in clean)
    # Quoted text is read back line by line: a line end that is not "\n" would come back changed.
    return letters > 0.7 * len(clean) and not _UNFIT.search(clean) and not _URL.search(raw) and raw.splitlines() == raw.split("\n")


def sentences(passage: str, section: str = "") -> tuple[Sentence, ...]:
    """Return the sentences of a passage that state something, in order, each with a score of how much it tells."""
    text = passage[:LONGEST_PASSAGE]
    found = []
    for start, end, heading, step in _blocks(text):
        for place, raw in enumerate(_split(text[start:end])):
            clean = plain(raw)
            if clean and _is_fit(raw, clean):
                found.append((raw, clean, heading, step if place == 0 else 0, content_stems(clean)))
    frequency = Counter(each for *_, stems in found for each in stems)
    about = set(content_stems(plain(section)))
    return tuple(Sentence(raw, clean, heading, step, frozenset(stems), _informativeness(clean, stems, frequency, about)) for raw, clean, heading, step, stems in found)


def _informativeness(clean: str, stems: list[str], frequency: Counter[str], about: set[str]) -> float:
    if not stems:
        return 0.0
    density = sum(min(frequency[each], 4) + (2 if each in about else 0) for each in stems) / (4 * len(stems))
    bonus = 0.2 * bool(re.search(r"\d", clean)) + 0.2 * bool(re.search(r"\b(?:because|if|when|unless|so that|since|than)\b", clean))
    count = len(clean.split())
    return density + bonus + (0.2 if 8 <= count <= 30 else 0) - (0.4 if has_anaphora(clean, within=2) else 0) - (0.2 if count > 40 else 0)


@lru_cache(maxsize=4096)
def clause(text: str) -> Clause | None:
    """Return the clause's subject, helper verb and rest; None when the rules cannot tell where the subject ends.

    >>> clause("A worker sends its names")
    Clause(subject='A worker', helper='does', verb='send', rest='its names')"""
    tokens = text.split()
    if len(tokens) < 3 or not _can_start(tokens):
        return None
    for at in range(1, min(10, len(tokens))):
        token = tokens[at].lower()
        previous = tokens[at - 1]
        if previous[-1] in ",;:)—–" or previous == "-" or previous[0] == "(" or token in SUBORDINATORS:
            return None
        if token in HELPERS:
            return _with_helper(tokens, at)
        if (found := _with_verb(tokens, at)) is not None:
            return found
    return None


def _can_start(tokens: list[str]) -> bool:
    first, second = tokens[0].lower(), tokens[1].lower()
    if first in _ANAPHORA or first in PREPOSITIONS or first in SUBORDINATORS or first in _CONJUNCTS or first in _ADVERBS or first in ("and", "but", "or", "yet", "let", "let's", "otherwise", "instead", "afterwards", "later", "meanwhile", "next", "especially"):
        return False
    return not is_imperative(" ".join(tokens[:6])) and second != "to" and first != "i"


def is_imperative(text: str) -> bool:
    """Whether a clause begins with a verb in its base form, as an instruction does."""
    tokens = text.lower().split()
    if len(tokens) < 2:
        return False
    if tokens[0] in ("never", "always", "don't") or tokens[:2] == ["do", "not"]:
        return True
    return tokens[0].strip(",") in BASE and not any(token in HELPERS or token in THIRD or token == "of" for token in tokens[1:3])


def _subject(tokens: list[str], at: int) -> tuple[str, str]:
    """The subject before place `at`, and the adverbs between it and the verb that go along with the verb."""
    end = at
    while end > 1 and tokens[end - 1].lower().strip(",") in _CONJUNCTS | _ADVERBS:
        end -= 1
    adverbs = [token for token in tokens[end:at] if token.lower() in _ADVERBS]
    return " ".join(tokens[:end]), " ".join(adverbs)


def _head(tokens: list[str]) -> str:
    """The subject's head noun: the last word before the first preposition."""
    stop = next((at for at, token in enumerate(tokens) if at and token.lower() in PREPOSITIONS), len(tokens))
    return tokens[stop - 1]


def _is_plural(tokens: list[str]) -> bool:
    head = _head(tokens)
    return (head.islower() or len(tokens) == 1) and head.endswith("s") and not head.endswith(("ss", "us", "is")) or "and" in tokens or head.lower() in ("you", "we", "people", "data", "most", "many")


def _with_helper(tokens: list[str], at: int) -> Clause | None:
    subject, adverbs = _subject(tokens, at)
    rest = tokens[at + 1 :]
    if at > 1 and subject.split()[-1].lower() in ("you", "we", "it", "they", "i"):
        return None
    while rest and rest[0].lower().strip(",") in _CONJUNCTS:
        rest = rest[1:]
    helper = tokens[at].lower()
    if not rest or has_anaphora(subject) or _VAGUE.fullmatch(subject):
        return None
    if helper == "cannot":
        helper, rest = "can", ["not", *rest]
    if helper in ("does", "do", "did") and rest[0].lower() not in BASE and rest[0].lower() != "not":
        return Clause(subject, helper, f"{adverbs} do".strip(), " ".join(rest))
    if helper in ("has", "have", "had") and not (rest[0].endswith(("ed", "en")) or rest[0] in ("not", "never") or rest[0] in PAST):
        support = {"has": "does", "have": "do", "had": "did"}[helper]
        return Clause(subject, support, f"{adverbs} have".strip(), " ".join(rest))
    return Clause(subject, helper, adverbs, " ".join(rest))


def _with_verb(tokens: list[str], at: int) -> Clause | None:
    token, following = tokens[at].lower(), tokens[at + 1].lower() if at + 1 < len(tokens) else ""
    subject, adverbs = _subject(tokens, at)
    last = subject.split()[-1].lower()
    if not following or last in DETERMINERS or last in PREPOSITIONS or last in ("and", "or") or has_anaphora(subject) or _VAGUE.fullmatch(subject):
        return None
    is_plural = _is_plural(subject.split())
    if token in THIRD and not is_plural:
        helper, verb = "does", THIRD[token]
    elif token in BASE and is_plural:
        helper, verb = "do", token
    elif token in PAST and (following in DETERMINERS or following[0].isdigit()):
        helper, verb = "did", PAST[token]
    else:
        return None
    # "The server logs are kept": a second verb right after means that the first was a noun.
    for later in tokens[at + 1 : at + 6]:
        word = later.lower()
        if word in SUBORDINATORS or word == "and" or later[-1] in ",;:":
            break
        if word in HELPERS:
            return None
    if following in ("of", "and", "or") or following in THIRD:
        return None
    return Clause(subject, helper, f"{adverbs} {verb}".strip(), " ".join(tokens[at + 1 :]))


# --- what can be asked of a sentence ---------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Draft:
    """Something to ask: the `form` names a family of wordings in offline.py, and `slots` fill it."""

    kind: str
    form: str
    slots: dict[str, str]
    answer: str
    sentence: Sentence
    quality: float


_LABEL = re.compile(r"^(?:note|warning|tip|important|caution|info|safety|hint|example)(?: that)?[:.]? (?=[A-Z])|^(?:note that|notice that|recall that|remember that|keep in mind that|in fact,|of course,|however,|therefore,|thus,|in addition,|moreover,|also,|finally,|similarly,|likewise,|basically,|internally,|by default,|(?:and|but|so|also|now|then)(?: then| also| still)?,?) ", re.IGNORECASE)
_NEGATION = re.compile(r"\b(is|are|was|were|do|does|did|ca|wo|could|should|would|has|have)n['’]t\b")
_BREAK = re.compile(r"(?:,? [—–-] |: |, (?=(?:and|but|so|or|yet|nor|which|who|where|whereas|while|although|though|since|because|as|with|including|not|then|unlike|e\.g\.|i\.e\.|even|plus|typically|depending|like)\b)| and (?=(?:%s)\b)|,? \()" % "|".join(sorted(THIRD)))
_SECOND_VERB = re.compile(r",? (?:and|but|or) (?:then |also |\w+ly )?(?:%s)\b|, (?:%s)\b" % ("|".join(sorted(THIRD) + ["is", "are", "go"]), "|".join(sorted(THIRD))))
_LISTED_VERB = re.compile(r", (?:%s)\b" % "|".join(sorted(THIRD)))
_SECOND_ACTION = re.compile(r",? and (?:%s) (?:it|them|the|a)\b|, (?:%s) (?:it|them|the|a)\b" % ("|".join(_VERBS), "|".join(_VERBS)))
_LEADING = re.compile(r"(If|When|Once|While|Unless|After|Before|Until|Whenever|As soon as|As long as) (.+)")
_TRAILING = re.compile(r"(.+?),? (if|when|once|unless|until|after|before|while|whenever|as soon as|as long as|only if|only when|only after|only until) (.+)")
_NOT_A_CONDITION = frozenset("know tell say see time day moment even and or check out is are was than case decide whether not even days hours minutes long shortly soon immediately right just".split())
_REASON = re.compile(r"(.+?),? (because|since|so that|lest) (?!of\b|v?\d|version|then\b|before\b)(.+)")
_LEADING_REASON = re.compile(r"(Because|Since) (?!of\b|v?\d|version|then\b|before\b)(.+?), (.+)")
_LEADING_PURPOSE = re.compile(r"(?:To|In order to) ([a-z]+) (.+)")
_PURPOSE = re.compile(r"(.+?) (?:in order )?to (%s) (.+)" % "|".join(_VERBS))
_NO_PURPOSE = frozenset("able going need needs want wants have has try allowed likely due up how way time ought used free ready enough required has going where what when possible easy hard sure tends want supposed meant set right begin begins start starts or and not".split())
_MEANS = re.compile(r"(.+?) by ((?:not )?[a-z]+ing\b.+)")
_TO_DO = re.compile(r"(\w+(?: \w+){0,3}) to ((?:%s)\b.+)" % "|".join(_VERBS))
_INTRANSITIVE = frozenset("lie occur happen rise fall arrive exist vanish come go differ vary sink behave begin stand travel live last".split())
_TAIL = re.compile(r"(.+?),? ((?:when|if|once|while|after|before|until|unless|so that|in order to|rather than|instead of) .+)")
_PASSIVE = re.compile(r"((?:be |been )?(?:\w+ly |also |not )?(?:\w{2,}ed|\w+en|kept|held|found|put|set|run|read|built|made|sent|known|drawn|meant|lost|cut))(| [^,]{1,40}?) (by|with|from|for|into|as|on|in|at|to) (.+)")
_NUMBER_WORDS = "two|three|four|five|six|seven|eight|nine|ten|eleven|twelve|fifteen|twenty|thirty|forty|fifty|sixty|hundred"
_QUANTITY = re.compile(
    r"(?<![\w.,/:–−×=-])(?:(?P<about>about|up to|at least|at most|more than|less than|around|roughly|nearly|over) )?"
    rf"(?P<number>\d[\d,]*(?:\.\d+)?(?:\s?(?:–|-|to|or|and)\s?\d[\d,]*(?:\.\d+)?)?|(?:(?:one|{_NUMBER_WORDS}) (?:to|or) )?(?:{_NUMBER_WORDS})\b)(?![\w.:/–×^-]*[\w:/^])"
    r"(?:\s?(?P<sign>%|°C|°F|°)| (?P<unit>[A-Za-zµ]+(?:[/³²]\w*)?(?: [a-z]+s\b)?))?",
    re.IGNORECASE,
)
_UNITS = {"s": "seconds", "ms": "milliseconds", "min": "minutes", "h": "hours", "g": "grams", "kg": "kilograms", "mm": "millimetres",
          "cm": "centimetres", "m": "metres", "km": "kilometres", "ml": "millilitres", "l": "litres", "°c": "degrees Celsius", "°f": "degrees Fahrenheit",
          "°": "degrees", "kib": "KiB", "mib": "MiB", "gib": "GiB", "mb": "MB", "gb": "GB", "tb": "TB", "µs": "microseconds", "m³/s": "cubic metres per second",
          "mg/l": "milligrams per litre", "hpa": "hPa", "µs/cm": "µS/cm", "w": "watts", "n": "newtons"}  # fmt: skip
_NAMED = frozenset("version v step code port level row table chapter section python http status line page day figure item option phase stage class grade python type no number since in".split())
_MOVABLE = frozenset("to within after for by in at over every until above below under with".split())
_CONTRAST = re.compile(r"(.+?),? (?:whereas|while|but) (.+)")
_THAN = re.compile(r"(.+?\b(?:(?!rather|other)\w+er|worse|(?:more|less|fewer|better)\b[^,;]{0,40}?)) than (.+)")


def drafts(passage: str, section: str = "") -> tuple[Draft, ...]:
    """Return everything that the rules can ask about a passage, best first."""
    return _drafts(passage[:LONGEST_PASSAGE], section)


@lru_cache(maxsize=256)
def _drafts(passage: str, section: str) -> tuple[Draft, ...]:
    known = names(passage)
    found = []
    for sentence in sentences(passage, section):
        for segment in _segments(sentence.plain):
            for rule in (_condition, _reason, _purpose, _by_means, _definition, _object, _passive, _subject_is, _number, _comparison):
                found += [_draft(sentence, made, known) for made in rule(segment, known)]
        found += [_draft(sentence, made, known) for made in (*_step(sentence), *_cloze(sentence))]
    return tuple(sorted((draft for draft in found if _is_askable(draft)), key=lambda draft: -draft.quality))


def _draft(sentence: Sentence, made: tuple[str, str, dict[str, str], str, float], names: frozenset[str]) -> Draft:
    kind, form, slots, answer, quality = made
    length = sum(len(value.split()) for value in slots.values())
    quality = quality * (0.6 + sentence.score) - max(0, length - 16) * 0.03
    if has_anaphora(answer, within=2) or re.search(r"\b(?:this|these|those|such|here|above|for that)\b", answer):
        quality *= 0.8
    return Draft(kind, form, slots, _closed(answer, form, names), sentence, quality)


_POINTERS = frozenset("this these those such here former latter following previous aforementioned above".split())
_PRONOUNS = frozenset("it its they them their he she his her".split())


def _is_askable(draft: Draft) -> bool:
    """Whether the question will stand alone: nothing in it points at something said elsewhere."""
    if draft.form.startswith("what_object") and has_anaphora(draft.answer, within=1):
        return False
    for value in (*draft.slots.values(), draft.answer):
        if any(value.count(left) != value.count(right) for left, right in ("()", "[]", "“”")) or value.count('"') % 2:
            return False
    for value in draft.slots.values():
        tokens = [word.lower() for word in words(value)]
        # "you" is nobody that "it" could point at.
        nearby = tokens if "you" in tokens[:3] else tokens[:3]
        if any(word in _POINTERS for word in tokens) or any(word in _PRONOUNS for word in nearby) or len(tokens) > 30:
            return False
    return bool(draft.answer)


@lru_cache(maxsize=256)
def names(passage: str) -> frozenset[str]:
    """Return the words that keep their first letter anywhere: code, words with a capital in the middle of a sentence, and
    lone subjects ("Tern keeps ...") that the passage never writes small."""
    prose = "\n".join(line for line in passage.split("\n") if not line.lstrip().startswith(("#", "|")))
    code = {found[0] for match in _CODE.finditer(prose) if (found := words(match[2]))}
    prose = _CODE.sub("", prose)
    small = frozenset(re.findall(r"\b[a-z]+\b", prose))
    lone = {
        match[1]
        for match in re.finditer(r"(?:^|[.!?] )([A-Z][a-z]+) (?:also |then )?([a-z]+)\b", prose, re.MULTILINE)
        if (match[2] in HELPERS or match[2] in THIRD) and match[1].lower() not in small | _STOP
        and not re.search(r"(?:s|ing|tion|ity|ment|ness|age|ure|er|ance|ence|th)$", match[1])
    }
    return frozenset(code | lone | set(re.findall(r"(?<=[a-z,] )[A-Z][\w-]*", prose)))


def lowered(text: str, names: frozenset[str] = frozenset()) -> str:
    """Return the text with a small first letter, unless it begins with a name."""
    first, _, after = text.partition(" ")
    bare = first.strip("'’,").removesuffix("'s").removesuffix("’s")
    is_pair = re.match(r"[A-Z][a-z]", after) and bare.lower() not in _STOP
    is_name = bare in names or is_pair or (not first[1:].islower() and len(first) > 1 and "-" not in first)
    return text if is_name else text[:1].lower() + text[1:]


def raised(text: str, names: frozenset[str] = frozenset()) -> str:
    """Return the text with a capital first letter, unless it begins with code."""
    first = text.split(" ", 1)[0].rstrip(",.;:")
    return text if first in names or re.search(r"[_./=\d]|^\W", first) else text[:1].upper() + text[1:]


def _closed(answer: str, form: str, names: frozenset[str]) -> str:
    answer = answer if form == "cloze" else raised(answer.strip(" ,;:"), names)
    return answer + "." if len(answer.split()) > 3 and answer[-1] not in ".!?" else answer


def _segments(text: str) -> list[str]:
    text = text.rstrip(".!: ")
    text = re.sub(r",? for (?:example|instance)\b,?| \([^()]*\)", "", text)
    text = _NEGATION.sub(lambda match: f"{ {'ca': 'can', 'wo': 'will'}.get(match[1], match[1])} not", _LABEL.sub("", _LABEL.sub("", text)))
    return [part[:1].upper() + part[1:] if part[:1].islower() and at else part for at, part in enumerate(re.split(r"; ", raised(text))) if len(part.split()) >= 4]


@lru_cache(maxsize=4096)
def _main(text: str) -> str:
    """The main clause: what stands before the first "and", "but", "which", bracket or dash that follows it."""
    match = next((match for match in _BREAK.finditer(text) if len(text[: match.start()].split()) >= 4), None)
    return text[: match.start()] if match else text


def _turned(found: Clause, names: frozenset[str], rest: str | None = None) -> str:
    rest = found.rest if rest is None else rest
    if found.helper in ("does", "do"):  # "does it rise and falls": what a second verb says is left out
        match = _SECOND_VERB.search(rest)
        rest = rest[: match.start()] if match else rest
    return " ".join(part for part in (found.helper, lowered(found.subject, names), found.verb, rest) if part)


def _advice(text: str) -> str:
    """An instruction as what "you should" be followed by: "Do not freeze it" gives "not freeze it"."""
    text = text[:1].lower() + text[1:]
    return "not " + text[7:] if text.startswith("do not ") else text


def _condition(text, names):
    if match := _LEADING.match(text):
        if parts := _after_condition(match[2]):
            yield from _outcome(match[1].lower(), *parts, 0.95, names)
        return
    match = _TRAILING.fullmatch(_main_before(text))
    if match is None or match[1].split()[-1].lower() in _NOT_A_CONDITION or len(match[1].split()) < 3 or re.search(r"\b(?:that|which|who|whether|because|since|so)\b", match[1]):
        return
    outcome, sub, condition = match[1], match[2], _main(match[3])
    if sub == "while" and text[match.end(1)] == ",":
        return  # "A does this, while B does that" is a contrast
    answer = f"{sub} {condition}"
    form = {"if": "in_case", "only if": "in_case", "until": "how_long"}.get(sub, "at_what_time")
    if sub != "unless":
        if is_imperative(outcome):
            yield "condition", form, {"turned": f"should you {_advice(outcome)}"}, answer, 0.85
        elif found := clause(outcome):
            yield "condition", form, {"turned": _turned(found, names)}, answer, 0.9
    is_outcome = is_imperative(outcome) or clause(outcome) is not None
    if sub in ("if", "when", "unless", "once", "after", "while", "as soon as") and is_outcome and (clause(condition) or condition.startswith("you ")):
        yield from _outcome(sub, condition, outcome, 0.8, names)


def _after_condition(text: str) -> tuple[str, str] | None:
    """The condition and the outcome, parted at the first comma after which a clause begins."""
    for match in re.finditer(r", (?:then )?", text):
        condition, outcome = text[: match.start()], text[match.end() :]
        is_clause = is_imperative(outcome) or clause(_main(outcome)) or re.match(r"(?:it|they|you|this|there|these|that|he|she|we)\b", outcome)
        if is_clause and len(outcome.split()) >= 3:
            length, last = len(condition.split()), condition.split()[-1].lower()
            is_clear = 2 <= length <= 18 and not has_anaphora(condition, within=1) and last not in PREPOSITIONS
            return (condition, outcome) if is_clear else None
    return None


def _main_before(text: str) -> str:
    """The text up to its first ", and", ", but" or dash, where a condition inside it ends."""
    match = re.search(r"(?:, (?:and|but|so|which|whereas|although|though|because|since)\b| [—–] |: )", text)
    return text[: match.start()] if match and len(text[: match.start()].split()) > 6 else text


def _outcome(sub, condition, outcome, quality, names):
    """What happens under a condition; the wording follows from what the outcome is."""
    slots = {"sub": sub, "condition": lowered(condition, names)}
    found = clause(_main(outcome))
    if is_imperative(outcome) or outcome.lower().startswith(("you should", "you must", "you need", "you have to")):
        yield "condition", "advice_if", slots, outcome, quality
    elif outcome.lower().startswith(("you can", "you could", "you may")):
        yield "condition", "options_if", slots, outcome, quality
    elif found and found.helper in ("does", "do") and found.verb not in ("have", "be"):
        yield "condition", "does_if", slots | {"subject": f"{found.helper} {lowered(found.subject, names)}"}, outcome, quality
    elif found and found.helper in ("is", "are") and re.match(r"(?:\w+ly |also |not )*(?:\w{2,}ed|\w+en|kept|held|sent|put)\b", found.rest):
        yield "condition", "happens_to_if", slots | {"subject": lowered(found.subject, names)}, outcome, quality
    elif found and found.helper in ("is", "are"):
        yield "condition", "holds_if", slots, outcome, quality - 0.15
    else:
        yield "condition", "happens_if", slots, outcome, quality - 0.05


def _reason(text, names):
    match = _LEADING_REASON.fullmatch(text)
    sub, cause, effect = (match[1].lower(), match[2], match[3]) if match else ("", "", "")
    if not match and (match := _REASON.fullmatch(text)):
        effect, sub, cause = match[1], match[2], match[3]
    if not match and (match := re.fullmatch(r"(.+?), so (?!that\b|much\b|far\b|as\b)(.+)", text)):
        effect, sub, cause = match[2], "because", match[1]
    if not match or len(effect.split()) < 3 or cause.startswith("Of "):
        return
    effect = effect.removeprefix("then ")
    if re.search(r", (?:which|whose|who|where)\b", effect):
        return
    if sub == "so that" or sub == "lest":
        answer = f"{sub} {cause}"
    else:
        answer = f"because {lowered(cause, names)}"
    if is_imperative(effect):
        yield "reason", "why", {"turned": f"should you {_advice(effect)}", "effect": f"you should {_advice(effect)}"}, answer, 0.95
    elif found := clause(effect):
        yield "reason", "why", {"turned": _turned(found, names), "effect": lowered(effect, names)}, answer, 1.0
    elif not has_anaphora(effect, within=6):
        yield "reason", "why_that", {"effect": lowered(effect, names)}, answer, 0.7


def _purpose(text, names):
    if match := _LEADING_PURPOSE.fullmatch(text):
        if match[1] in BASE and (parts := _after_condition(f"{match[1]} {match[2]}")):
            yield "procedure", "how_to", {"goal": parts[0]}, parts[1], 1.0
    elif (match := _PURPOSE.fullmatch(text)) and match[1].split()[-1].lower() not in _NO_PURPOSE:
        means, goal = match[1], _main(f"{match[2]} {match[3]}")
        if is_imperative(means) and 2 <= len(means.split()) <= 14 and "," not in means:
            yield "procedure", "how_to", {"goal": goal}, means, 0.9
        elif (match := re.fullmatch(r"(.+?) (?:is|are|can be) used", means)) and len(match[1].split()) <= 6:
            yield "procedure", "used_to", {"goal": goal}, match[1], 0.85


def _by_means(text, names):
    match = _MEANS.fullmatch(_main(text))
    if match is None or len(match[1].split()) < 3:
        return
    if is_imperative(match[1]) and not match[1].lower().startswith(("do not", "never", "always", "don't")):
        yield "procedure", "how_to", {"goal": _advice(match[1])}, f"by {match[2]}", 0.9
    elif found := clause(match[1]):
        yield "procedure", "how", {"turned": _turned(found, names)}, f"by {match[2]}", 0.85


def _definition(text, names):
    found = clause(text)
    if found is None or found.helper not in ("is", "are") or found.verb or len(found.subject.split()) > 6:
        return
    rest, about = _definiens(found.rest), lowered(found.subject, names)
    if not re.match(r"(?:a|an|the|any|one of|part of) \w+ \w+", rest) or re.match(r"(?:a|the) (?:good|bad|same|case|reason|little|bit|few|lot|only)\b", rest):
        return
    yield "definition", "what_is" if found.helper == "is" else "what_are", {"term": about}, f"{found.subject} {found.helper} {rest}", 1.0
    if found.helper == "is" and len(found.subject.split()) <= 4 and len(rest.split()) >= 5:
        yield "definition", "term_for", {"meaning": rest}, found.subject, 0.75


def _definiens(text: str) -> str:
    match = re.search(r"(?:, (?:and|but|so|yet|while|whereas) | [—–] |: )", text)
    return text[: match.start()] if match and len(text[: match.start()].split()) >= 4 else text


def _object(text, names):
    found = clause(_main(text))
    if found is None:
        return
    helper, verb, rest = found.helper, found.verb, found.rest
    if helper in ("can", "may", "must", "should", "will") and rest.split()[0] in BASE:
        verb, _, rest = rest.partition(" ")
    if helper in ("is", "are", "was", "were", "has", "have", "had") or not verb or not rest:
        return
    if match := _SECOND_ACTION.search(rest):
        rest = rest[: match.start()]
    match = _TAIL.fullmatch(rest)
    thing, tail = (match[1], " " + match[2]) if match else (rest, "")
    if verb == "use" and (match := re.fullmatch(r"(.+?) (to (?:%s) .+)" % "|".join(_VERBS), rest)):
        thing, tail = match[1], " " + match[2]
    if found.subject.lower() in ("you", "we") and not tail:
        return  # "What can you use?" could be about anything
    first, _, after = thing.partition(" ")
    particle = ""
    if verb in ("allow", "enable", "help", "tell", "ask", "cause", "force", "require", "permit") and (match := _TO_DO.fullmatch(thing)):
        particle, thing = f" {match[1]} to do", match[2]
    elif first in ("on", "to", "from", "with", "for", "of", "at") and after and after.split()[0] not in BASE:
        particle, thing = f" {first}", after
    first = thing.split()[0].lower()
    if first in PREPOSITIONS or first in SUBORDINATORS or first in _ADVERBS or first in ("not", "so", "elsewhere", "out", "off", "down", "together", "away", "back", "as", "very", "too", "well") or first.endswith(("ly", "ing")) or first[0].isdigit() or first in _NUMBER_WORDS.split("|"):
        return
    kind = "definition" if verb in ("mean", "refer", "describe", "represent", "consist", "contain") else "fact"
    slots = {"turned": f"{helper} {lowered(found.subject, names)} {verb}{particle}", "tail": tail}
    if not particle and verb.split()[-1] in _INTRANSITIVE:
        return
    is_thin = not tail and (len(content_stems(found.subject)) < 2 or verb in ("have", "need", "make", "take", "go", "get", "give", "do", "become", "come"))
    if len(thing.split()) <= 20:
        yield kind, "what_object" if tail else "what_object_plain", slots, thing, 0.85 if tail else 0.5 if is_thin else 0.75


def _passive(text, names):
    found = clause(_main(text))
    if found is None or found.helper in ("does", "do", "did", "has", "have") or not (match := _PASSIVE.fullmatch(found.rest)):
        return
    participle, between, preposition, thing = match.groups()
    first = thing.split()[0].lower()
    if first[0].isdigit() or first in _NUMBER_WORDS.split("|") or first in ("all", "most", "order", "time", "least", "once", "use", "default", "far", "well", "soon", "long", "much", "if", "though") or first in BASE or first.endswith("ing") or len(thing.split()) > 14:
        return
    turned = f"{found.helper} {lowered(found.subject, names)} {participle}{between}"
    if preposition in ("in", "on", "at", "into"):
        if re.search(r"\b(?:stored|kept|found|placed|written|located|saved|logged|put|held|defined|mounted|installed|shown|listed|declared|published|fixed|measured)$", participle):
            yield "fact", "where", {"turned": turned}, f"{preposition} {thing}", 0.85
        elif preposition == "into":
            yield "fact", "what_stranded", {"turned": turned, "preposition": "into"}, thing, 0.7
    elif preposition != "to":
        yield "fact", "what_stranded", {"turned": turned, "preposition": preposition}, thing, 0.75


def _subject_is(text, names):
    main = _main(text)
    found = clause(main)
    if found is None or found.helper in ("are", "were", "do", "have") or len(found.subject.split()) > 6 or _is_plural(found.subject.split()):
        return
    predicate = re.sub(r"^(?:%s) " % "|".join(sorted(_CONJUNCTS)), "", main[len(found.subject) :].strip())
    if match := _LISTED_VERB.search(predicate):
        predicate = predicate[: match.start()]
    if not 5 <= len(predicate.split()) <= 20 or re.match(r"(?:is|was) (?:a|an|the|not|only|in|on|at)\b|(?:does|is|did|can|will|cannot)\b.*\bnot\b|cannot\b", predicate):
        return
    if re.match(r"(?:no|nobody|none|nothing|only)\b", found.subject, re.IGNORECASE) or any(clause(part) for part in predicate.split(", ")[1:]) or re.match(r"(?:is|was) (?:what|that|to|why|how|when|where|[A-Z])", predicate):
        return
    yield "fact", "what_subject", {"predicate": predicate}, found.subject, 0.6 if " " in found.subject else 0.5


def _unit(match: re.Match[str], text: str) -> str:
    """What is counted: "seconds", "free slots", "" for a bare number."""
    sign, unit = match["sign"], match["unit"] or ""
    if sign == "%" or unit.startswith(("per cent", "percent")):
        return "per cent"
    if sign or unit.split(" ")[0].lower() in _UNITS:
        return _UNITS[(sign or unit.split(" ")[0]).lower()]
    for size in (1, 2):
        name = unit.split(" ")[:size]
        if len(name) == size and name[-1].endswith("s") and name[-1] not in ("is", "was", "has", "as", "this", "its", "less", "does") and name[0] not in PREPOSITIONS and name[0] not in _STOP and (size == 1 or name[-1] not in THIRD or name[-1][:-1] not in BASE):
            return " ".join(name)
    return ""


def _quantities(text: str) -> Iterator[tuple[int, int, str, str]]:
    """(start, end, "about how many seconds", "about 5 seconds") of each counted thing in a plain text."""
    for match in _QUANTITY.finditer(text):
        before = text[: match.start()].split()
        if before and before[-1].lower().strip("(“\"") in _NAMED and not match["sign"] and not match["unit"]:
            continue
        if before and before[-1].lower() in ("version", "python", "code", "step", "level", "day", "port", "status", "between", "number", "retry", "row", "and", "row"):
            continue
        unit = _unit(match, text)
        if not unit or match["number"] == "1":
            continue
        taken = match["sign"] or ((match["unit"] or "").split(" ")[0] if (match["unit"] or "").split(" ")[0].lower() in _UNITS else unit if unit != "per cent" else re.match(r"per cent|percent\w*", match["unit"])[0])
        end = text.index(taken, match.end("number")) + len(taken)
        asked = "how many " + unit
        if unit == "per cent" and text[end:].startswith(" of "):
            asked = "what percentage"
        yield match.start(), end, f"{(match['about'] or '').lower()} {asked}".strip(), text[match.start() : end]


def _number(text, names):
    main = _main(text)
    found = clause(main)
    for start, end, asked, quantity in _quantities(main):
        before, after = main[:start].strip(), main[end:]
        if start == 0 and found and found.subject.startswith(quantity):
            yield "number", "how_many_subject", {"asked": asked, "predicate": after.strip()}, quantity, 0.95
        elif found and start > len(found.subject) and not re.match(r" (?:of|to|and) ", after):
            yield from _fronted(found, main, start, asked, quantity, after, names)
        last = before.split()[-1].lower() if before else ""
        has_verb = any(word in HELPERS or word in THIRD for word in main.lower().split())
        is_plain = last in PREPOSITIONS or last in THIRD or last in HELPERS or last in ("than", "least", "most", "only")
        if is_plain and has_verb and " " in before and not has_anaphora(main, within=2) and len(main.split()) <= 24 and not is_imperative(main) and not re.match(r"(?:so|since|if|as|because)\b", main, re.IGNORECASE) and not re.match(r" (?:and )?\d", after):
            yield "number", "in_place", {"statement": f"{lowered(before, names)} {asked}{after}"}, quantity, 0.55
    if found and found.helper in ("is", "was") and not found.verb and (match := re.match(r"((?:about |at most |at least |only )?\d[\d,.]*(?:\s?[–-]\s?\d[\d,.]*)?(?:\s?(?:%|°C|[A-Za-zµ³/]+))?)(?= by default|$| in | at | for | on )(.*)", found.rest)):
        yield "number", "what_value", {"turned": f"{found.helper} {lowered(found.subject, names)}{match[2]}"}, match[1], 1.0


def _fronted(found: Clause, main: str, start: int, asked: str, quantity: str, after: str, names: frozenset[str]):
    """"A row holds up to 64 KiB" gives "up to how many KiB does a row hold"."""
    at = main.find(found.rest)
    between = main[at:start].split() if 0 < at <= start else ["?"] * 9
    preposition = between.pop() if between and between[-1].lower() in _MOVABLE else ""
    is_object = not between and (found.verb or found.helper not in ("is", "are", "was", "were"))
    if len(between) > 5 or not (preposition and (found.verb or between) or is_object) or any(word in SUBORDINATORS or word in ("and", "or", "of", "between") or word[-1] in ",:(" for word in between):
        return
    if is_object and not preposition and found.helper not in ("does", "do", "did"):
        return
    turned = " ".join(part for part in (found.helper, lowered(found.subject, names), found.verb, *between) if part) + after
    yield "number", "how_many", {"asked": f"{preposition} {asked}".strip(), "turned": turned}, f"{preposition} {quantity}".strip(), 1.0


def _comparison(text, names):
    main = text if len(text.split()) <= 32 else _main(text)
    if (match := re.fullmatch(r"Unlike (.+?), (.+)", main)) and (found := clause(match[2])):
        yield "comparison", "differ", {"one": lowered(found.subject, names), "other": match[1]}, match[2], 1.0
    elif (match := _CONTRAST.fullmatch(main)) and len(match[1].split()) <= 14 and not re.search(r"\b(?:so|because)\b", match[1]) and (one := clause(match[1])) and (other := clause(match[2][:1].upper() + match[2][1:])) and one.helper[:2] == other.helper[:2]:
        first, second = lowered(one.subject, names), lowered(other.subject, names)
        if len(first.split()) <= 6 and len(second.split()) <= 6 and first.lower() != second.lower():
            yield "comparison", "differ", {"one": first, "other": second}, text, 1.0
    if (match := _THAN.fullmatch(_main(text))) and (found := clause(match[1])) and len(match[2].split()) <= 10 and not match[2][0].isdigit():
        yield "comparison", "than_what", {"turned": _turned(found, names)}, match[2], 0.9
    if (match := re.fullmatch(r"(.+?),? (rather than|instead of) (.+)", _main(text))) and is_imperative(match[1]) and " " in match[3]:
        yield "comparison", "instead", {"preposition": match[2], "other": match[3]}, match[1], 0.9


def _step(sentence):
    """A numbered step under a heading that says what the steps are for."""
    if sentence.step and sentence.heading and len(sentence.plain.split()) <= 30 and not re.search(r"[?:]", sentence.heading):
        yield "procedure", "step", {"number": str(sentence.step), "goal": sentence.heading}, sentence.plain, 0.7


def _cloze(sentence):
    """The sentence with its most telling words left out: a figure, else its longest content words."""
    text = sentence.plain if len(sentence.plain.split()) <= 28 else _main(sentence.plain)
    tokens = text.lower().split()
    has_verb = any(word in HELPERS or word in THIRD or word in BASE for word in tokens)
    if not has_verb or has_anaphora(text, within=4) or tokens[0] in ("let's", "now", "imagine", "think", "suppose", "we", "i"):
        return
    gap = next(((start, end) for start, end, *_ in _quantities(text) if start), None)
    if gap is None:
        tokens = [match for match in _WORD.finditer(text) if match.start() and len(match[0]) > 4 and not re.search("['’]", match[0])]
        longest = max(tokens, key=lambda match: (not match[0].replace("-", "").isalpha(), len(match[0])), default=None)
        gap = longest.span() if longest else None
    if gap:
        yield "fact", "cloze", {"gapped": text[: gap[0]] + "____" + text[gap[1] :].rstrip(".!: ")}, text[gap[0] : gap[1]], 0.3
