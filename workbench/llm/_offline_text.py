"""What the offline writer knows of text: Markdown to sentences, a clause to subject and verb, a sentence to questions.

Classical means only: line rules for Markdown, an abbreviation list for sentence ends, a suffix stemmer, term frequency
for what a passage is about, and a list of common verbs instead of a tagger. Where the rules are unsure they give
nothing. Every pattern runs in linear time or on a text of bounded length, since the text can be anybody's."""

import html
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache

LONGEST_PASSAGE = 20_000  # characters; a model has a context window too
_LONGEST_SENTENCE = 600


def _set(text: str) -> frozenset[str]:
    return frozenset(text.split())


# --- words ------------------------------------------------------------------------------------------------------------

_VERBS = """
accept acknowledge add adjust affect aim allow answer appear apply arrive ask assign avoid bake become begin behave
belong block break bring build calculate call cancel carry catch cause change check chill choose claim clean clear
click close collect combine come commit compare compensate complete compress compute condense configure confirm
connect consist contain continue control convert cool copy correspond count cover create cut decide declare decrease
deepen define delay delete deliver demand depend deploy describe detect determine develop differ disable display
divide double draw drive drop dry dust edit embed enable encrypt end enforce ensure enter equal evaluate exceed
execute exist expand expect expire explain expose extend fail fall feed fill find finish fire fit flow follow force
form gain gather generate get give go grow guarantee handle happen hash help hide hold identify ignore imply import
improve include increase indicate inherit insert inspect install introduce invalidate involve join judge keep kill
knead know lack last lead leak leave let lie lift load lock log lose lower make manage mark match matter mean measure
meet merge mix mount move multiply need notice obey occur offer open operate override pass paste pause pay perform
permit persist pick place point pour prefer preheat prepare preserve press prevent produce protect prove provide
publish pull push put raise range reach read rebuild receive record recover reduce refer reflect refuse register
reject relax release rely remain remove rename renew repeat replace report represent require reset resist resolve
respond restore restrict result resume retain retry return reuse reveal rinse rise rotate run save scale score seal
search see select send separate serve set settle shape share shorten show shrink sign simplify sink skip slice soften
solve specify spend split spray spread spring sprinkle stand start state stay stir stop store stream strengthen submit
subtract suggest suit supply support suspend take tell tend test tighten tolerate track transfer transform travel
treat trigger try turn understand update upgrade use validate vanish vary verify visit wait warn wash watch weaken
weigh win wipe work wrap write yield"""


def _third_person(verb: str) -> str:
    if verb.endswith(("s", "x", "ch", "sh", "o")):
        return verb + "es"
    return verb[:-1] + "ies" if verb[-1] == "y" and verb[-2] not in "aeiou" else verb + "s"


BASE = _set(_VERBS)
THIRD = {_third_person(verb): verb for verb in BASE}
_A_BASE, _A_THIRD = "|".join(sorted(BASE)), "|".join(sorted(THIRD))  # for patterns
HELPERS = _set("is are was were can could may might must should will would shall cannot does do did has have had")
_VERB_FORMS = BASE | THIRD.keys() | HELPERS
DETERMINERS = _set(
    "a an the no all any each every some both one two three four five six another many most its their your"
)
PREPOSITIONS = _set(
    """of in on at to from by for with within into onto over under above below between after before during until about
    through per without against among across towards via as like unlike"""
)
SUBORDINATORS = _set(
    """that which who whose whom where when if because while whereas although though since unless until once than what
    how why whether"""
)
_PRONOUNS = _set("it its they them their he she his her")
_POINTERS = _set("this these those such here former latter following previous aforementioned above")
_ANAPHORA = _PRONOUNS | _POINTERS - {"above"} | {"he", "there", "so"}
_CONJUNCTS = _set("therefore thus hence also however then consequently accordingly indeed")
_ADVERBS = _set(
    """usually often always never only still just simply normally typically automatically already rarely sometimes
    generally now not merely really actually"""
)
_STOP = _set(
    """a an the and or but if then else of in on at to from by for with within into over under above below between
    after before during until about through per without against than as is are was were be been being am do does did
    done has have had can could may might must should will would shall cannot not no nor so such that this these
    those it its they them their there here which who whom whose what when where why how you your we our us i my he
    his she her one two also only just very more most less least much many few some any each every all both either
    other another same own too up down out off again once while because since although though unless whether e.g i.e
    etc via use used using make makes made get gets"""
)
_NUMBER_WORDS = _set(
    "two three four five six seven eight nine ten eleven twelve fifteen twenty thirty forty fifty sixty hundred"
)

_WORD = re.compile(r"\w[\w.'’-]*\w|\w")
_SUFFIXES = (
    ("ies", "y"), ("ied", "y"), ("sses", "ss"), ("ings", ""), ("ing", ""), ("edly", ""), ("ed", ""), ("es", ""),
    ("ly", ""), ("s", ""),
)  # fmt: skip


def words(text: str) -> list[str]:
    """Return the words of a plain text; dotted names such as `retry.cap` are one word."""
    return _WORD.findall(text)


@lru_cache(maxsize=50_000)
def stem(word: str) -> str:
    """Return a word's stem by suffix rules: `retries` and `retried` both give `retry`."""
    word = word.lower().removesuffix("'s").removesuffix("’s")
    if len(word) < 5 or not word.isalpha():
        return word.removesuffix("s") if len(word) > 3 and not word.endswith("ss") else word
    for suffix, instead in _SUFFIXES:
        if word.endswith(suffix) and len(word) - len(suffix) >= 3 and not word.endswith(("ss", "us")):
            word = word[: -len(suffix)] + instead
            break
    word = word[:-1] if len(word) > 4 and word[-1] == word[-2] and word[-1] not in "lse" else word
    return word.removesuffix("e")


def content_stems(text: str) -> list[str]:
    """Return the stems of the words that carry content, in order."""
    return [stem(word) for word in words(text) if word.lower() not in _STOP]


def has_anaphora(text: str, *, within: int = 99) -> bool:
    """Whether one of the first words points at something said elsewhere ("it", "these", "such")."""
    start = " ".join(text.split(maxsplit=within)[:within])
    return not _ANAPHORA.isdisjoint(_bare_words(start))


def _bare_words(text: str) -> list[str]:
    """The words in small letters without what follows an apostrophe: "it's" gives "it"."""
    return [word.partition("'")[0] for word in words(text.lower().replace("’", "'"))]


def phrases(text: str) -> list[str]:
    """Return runs of one to three plain small-letter words (RAKE; Rose et al. 2010), the most telling first."""
    found: Counter[str] = Counter()
    for part in re.split(r"[^\w\s'’-]|\d\S*", plain(text[:LONGEST_PASSAGE])):
        line: list[str] = []
        for word in [*part.split(), "the"]:
            if _is_noun_like(word) and len(line) < 3:
                line.append(word)
            else:
                found[" ".join(line)] += len(line)
                line = [word] if _is_noun_like(word) else []
    ranked = sorted(found.items(), key=lambda pair: (-pair[1], pair[0]))
    return [phrase for phrase, _ in ranked if len(phrase) > 4 and not _NO_NOUN.search(phrase)]


_NO_NOUN = re.compile(
    r"(?:ful|ous|able|ible|less|ive|ical|ional|\b(?:new|old|different|common|simple|large|small|high|low|long|short|certain"
    r"|additional|extra|normal|main|full|correct|incorrect|good|best|better|first|second|third|last|next|whole|half))$"
)
_NO_KEYWORD = _set("instead apart across whenever enough otherwise rather itself etc way lot thing things case cases")


def _is_noun_like(word: str) -> bool:
    is_verb = word in BASE or word in THIRD or word.endswith(("ly", "ing", "ed"))
    is_telling = word.isalpha() and word.islower() and len(word) > 2 and word not in _STOP and word not in _NO_KEYWORD
    return is_telling and not is_verb


# --- Markdown to sentences --------------------------------------------------------------------------------------------

# Opening ticks are a whole run, so that a row of a thousand ticks is looked at once.
_CODE = re.compile(r"(?<!`)(`{1,3})(?!`)([^`]+)\1(?!`)")
_LINK = re.compile(r"!?\[([^\[\]]*)\](?:\([^()\n]{0,500}(?:\([^()\n]{0,100}\)[^()\n]{0,300})?\)|\[[^\[\]\n]{0,100}\])")
_MARKS = re.compile(
    r"\*{1,3}(?=\S)|(?<=\S)\*{1,3}|~~|(?<!\w)_{1,3}(?=\w)|(?<=[\w.!?)])_{1,3}(?!\w)|</?[a-zA-Z][^<>]{0,200}>"
    r"|\[\^\w+\]|\{ {0,3}#[^{}\n]{0,80}\}|\\(?=[\\`*_{}\[\]()#+.!|<>~-])|\n[ \t]*>[ \t]?"
)
_EMOJI = re.compile(r"[\U0001f000-\U0001faff\u2600-\u27bf\u2b00-\u2bff\ufe0f\u200d\u2190-\u21ff\ud800-\udfff]")
_FENCE = re.compile(r"[ \t>]*(`{3,}|~{3,})[ \t]*([^`\s]*)")
_HEADING = re.compile(r" {0,3}#{1,6}[ \t]+(.*)")
_ITEM = re.compile(r"([ \t>]*)(?:[-*+•]|(\d{1,3})[.)])[ \t]+(?:\[[ xX]\][ \t]+)?(?=\S)")
_QUOTE = re.compile(r"(?:[ \t]*>)+[ \t]?")
# Lines that are no prose: HTML, admonition fences, includes, images, link definitions, rules, prompts and code.
_NOISE = re.compile(
    r"</?\w[^>]*>?$|<!--|/{3,}|:::|!!!|\{[*%!{]|!\[|\[!\w|\[[^\]]+\]:|[-=_*\s]{3,}$|@\w|\$ |>>> |#!|[\w.]+ = "
    r"|import \w|from \w+ import|def |class \w+[(:]"
)
_END = re.compile(r"(?:[.!?…]|:(?=\s*$))[\"')\]*_”’]*(?=\s+(\S)|\s*$)")
_URL = re.compile(r"https?://\S+")
_NOT_QUOTED = re.compile(r"https?://|[\ud800-\udfff]")  # half a surrogate pair cannot be written as UTF-8
_NO_LETTERS = re.compile(r"[\W\d_]+")
_ABBREVIATIONS = _set(
    """e.g i.e vs cf fig figs no nos dr mr mrs ms st approx ca eq sec ch incl max min ed al inc ltd pp vol ref dept est
    viz resp"""
)
# A sentence that ends in a colon and needs what comes after it.
_LEADS_ON = re.compile(
    r"(?:\bfollow(?:ing|s)\b.*|\b(?:below|this|these|like|examples?|instance|is|are|be|was|as|here|two|three|four"
    r"|things|ways|steps|to|of|with|would|in|it|say|says|look|see)):$",
    re.IGNORECASE,
)
# Text that gives orders to whoever processes it, notices, and text about where to read on: no facts to ask about.
# Both are held against small letters, which is twice as fast as a pattern that ignores case.
_UNFIT_START = re.compile(
    r"e\.g\.|(?:let's|now|imagine|think|suppose|we|i|that (?:is|was|will|would|can|could|means|makes|way))\b"
    r"|(?:see|read|check|visit|continue)\b.{0,30}\b(?:also|more|above|below|next|docs|documentation|page|section|chapter)"
)
_UNFIT = re.compile(
    r"\[\[ ?##|\b(?:ignore|disregard|forget|override) (?:(?:all|any|the|your|every|previous|prior|earlier|other) )*"
    r"(?:instruction|prompt|rule)|\bsystem prompt|\byou are now\b|\b(?:reply|respond|answer) (?:only )?with\b"
    r"|\blicen[sc]ed under|©|\bcopyright\b|all rights reserved|https?://|\b(?:read|learn) more\b"
    r"|\bnext (?:chapter|page)|\bthis (?:page|chapter|section|guide|document|tutorial)\b"
    r"|\b(?:example|table|figure|list) (?:above|below)\b"
)


_CONNECTIVES = _set("because if when unless since than If When Unless Because")


@dataclass(frozen=True, slots=True)
class Sentence:
    """One sentence: `raw` is a substring of the passage, `plain` has no Markdown marks. `heading` is the nearest one
    above it in the passage; `step` its number in an ordered list, else 0; `score` 0 to about 2, how much it tells."""

    raw: str
    plain: str
    heading: str
    step: int
    stems: frozenset[str]
    score: float


def plain(text: str) -> str:
    """Return the text without Markdown marks, tags, emoji and doubled blanks; the words of links and code stay."""
    parts = _CODE.split(_LINK.sub(r"\1", text))
    # split() gives text, ticks, code, text, ...: marks inside code are part of the code.
    parts[::3] = [_MARKS.sub(lambda match: " " if match[0][0] == "\n" else "", part) for part in parts[::3]]
    parts[1::3] = [""] * len(parts[1::3])
    return " ".join(_EMOJI.sub("", html.unescape("".join(parts))).split())


def sentences(passage: str, section: str = "") -> tuple[Sentence, ...]:
    """Return the sentences of a passage that state something, in order, each with a score of how much it tells."""
    text = passage[:LONGEST_PASSAGE]
    found = []
    for start, end, heading, step in _blocks(text):
        for place, raw in enumerate(_split(text[start:end])):
            clean = plain(raw) if len(raw) < 2 * _LONGEST_SENTENCE else ""
            if clean and _is_fit(raw, clean):
                found.append((raw, clean, heading, 0 if place else step, content_stems(clean)))
    frequency = Counter(each for *_, stems in found for each in stems)
    about = frozenset(content_stems(plain(section[:LONGEST_PASSAGE])))
    return tuple(
        Sentence(*rest, frozenset(stems), _informativeness(rest[1], stems, frequency, about)) for *rest, stems in found
    )


def _blocks(text: str) -> Iterator[tuple[int, int, str, int]]:
    """(start, end, heading above, list number) of each run of lines that may be prose."""
    lines = text.split("\n")
    fences = [match for line in lines if (match := _FENCE.match(line))]
    # A passage may begin inside a code block: then its fences are odd in number, and the first one names no language.
    is_code = len(fences) % 2 == 1 and not fences[0][2]
    heading, step, start, end, at = "", 0, -1, -1, 0
    for line in [*lines, ""]:
        begin, at = at, at + len(line) + 1
        fence, title = _FENCE.match(line), None if is_code else _HEADING.match(line)
        item = None if title else _ITEM.match(line)
        bare = line.strip()
        stops = is_code or fence or title or not bare or line.count("|") > 1 or _NOISE.match(bare)
        if start >= 0 and (stops or item):
            yield start, end, heading, step
            start, step = -1, 0
        is_code = not is_code if fence else is_code
        heading = plain(title[1].rstrip(" \t#")) if title else heading
        if stops:
            continue
        if start < 0:
            mark = item or _QUOTE.match(line)
            start = begin + (mark.end() if mark else 0)
            step = int(item[2] or 0) if item else 0
        end = begin + len(line)


def _split(text: str) -> Iterator[str]:
    """The sentences of one block, exactly as they stand in it."""
    masked = text
    for pattern in (_CODE, _LINK, _URL):
        masked = pattern.sub(lambda match: "X" * len(match[0]), masked)
    start = 0
    for match in _END.finditer(masked):
        before = masked[max(start, match.start() - 12) : match.start()].split()
        last = before[-1].lstrip("(*_\"'“") if before else ""
        is_initial = len(last) == 1 and last.isupper() and (len(before) < 2 or before[-2][0].isupper())
        is_short = last.lower() in _ABBREVIATIONS or is_initial
        if match[1] is None or not (match[1].islower() or is_short):
            yield text[start : match.end()].strip()
            start = match.end()


def _is_fit(raw: str, clean: str) -> bool:
    """Whether this is a sentence that a question can be asked about, and that survives being quoted."""
    if not 5 <= len(clean.split()) <= 60 or len(clean) > _LONGEST_SENTENCE or clean[-1] not in ".!:":
        return False
    if not (clean[0].isupper() or clean[0].isdigit() or raw[0] == "`"):
        return False
    if raw.startswith("**") and raw.rstrip(".!").endswith("**"):
        return False  # a label in bold, the heading of what follows
    last = clean[:-1].rpartition(" ")[2]
    if clean[-1] == ":" and (last in _VERB_FORMS or _LEADS_ON.search(clean)):
        return False  # what it states comes after the colon
    is_prose = len(_NO_LETTERS.sub("", clean)) > 0.55 * len(clean)
    # Quoted text is read back line by line: a line end that is not "\n" would come back changed.
    is_quotable = raw.splitlines() == raw.split("\n") and not _NOT_QUOTED.search(raw)
    small = clean.lower()
    return is_prose and is_quotable and not _UNFIT_START.match(small) and not _UNFIT.search(small)


def _informativeness(clean: str, stems: list[str], frequency: Counter[str], about: frozenset[str]) -> float:
    if not stems:
        return 0.0
    density = sum(min(frequency[each], 4) + (2 if each in about else 0) for each in stems) / (4 * len(stems))
    tokens = clean.split()
    count = len(tokens)
    bonus = 0.2 * bool(re.search(r"\d", clean)) + 0.2 * (not _CONNECTIVES.isdisjoint(tokens))
    bonus += 0.2 if 8 <= count <= 30 else -0.2 if count > 40 else 0
    return density + bonus - (0.4 if has_anaphora(clean, within=2) else 0)


# --- capital letters --------------------------------------------------------------------------------------------------

_FENCED = re.compile(r"^ *(`{3}|~{3}).*?^ *\1", re.MULTILINE | re.DOTALL)
_LONE = re.compile(r"(?:^|[.!?] )([A-Z][a-z]+) (?:also |then )?([a-z]+)\b", re.MULTILINE)
_COMMON_ENDING = re.compile(r"(?:s|ing|tion|ity|ment|ness|age|ure|er|ance|ence|th)$")


@lru_cache(maxsize=256)
def names(passage: str) -> frozenset[str]:
    """Return the words that keep their first letter anywhere: code, words with a capital in the middle of a sentence,
    and lone subjects ("Tern keeps ...") that the passage never writes small."""
    lines = passage[:LONGEST_PASSAGE].split("\n")
    prose = _FENCED.sub("", "\n".join(line for line in lines if not line.lstrip().startswith(("#", "|"))))
    code = {found[0] for match in _CODE.finditer(prose) if (found := words(match[2]))}
    prose = _CODE.sub("", prose)
    small = frozenset(re.findall(r"\b[a-z]+\b", prose))
    lone = set()
    for name, verb in _LONE.findall(prose):
        is_common = name.lower() in small or name.lower() in _STOP or _COMMON_ENDING.search(name)
        if (verb in HELPERS or verb in THIRD) and not is_common:
            lone.add(name)
    return frozenset(code | lone | set(re.findall(r"(?<=[a-z,] )[A-Z][\w-]*", prose)))


def lowered(text: str, known: frozenset[str] = frozenset()) -> str:
    """Return the text with a small first letter, unless it begins with a name."""
    first, _, after = text.partition(" ")
    bare = first.strip("'’,").removesuffix("'s").removesuffix("’s")
    is_pair = re.match(r"[A-Z][a-z]", after) and bare.lower() not in _STOP
    is_acronym = len(first) > 1 and not first[1:].islower() and "-" not in first
    return text if bare in known or is_pair or is_acronym else text[:1].lower() + text[1:]


def raised(text: str, known: frozenset[str] = frozenset()) -> str:
    """Return the text with a capital first letter, unless it begins with code."""
    first = text.split(" ", 1)[0].rstrip(",.;:")
    return text if first in known or re.search(r"[_./=\d]|^\W", first) else text[:1].upper() + text[1:]


# --- clauses ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Clause:
    """A clause that can be turned round: `{helper} {subject} {verb} {rest}` is its question order."""

    subject: str
    helper: str
    verb: str
    rest: str


_VAGUE = re.compile(
    r"(?:the|both|each|either|neither|some|all|most|another|an?)?(?: [a-z]+)?(?: ?(?:other|one|ones|first|second|third"
    r"|last|same|result|rest|two|three|reason|difference|answer|point|choice|change|example|idea|problem|goal|thing|way|part"
    r"|step|advantage|drawback))+s?|everything|nothing|nobody|none|anything|something|all|most|both|each|some|many|others?",
    re.IGNORECASE,
)
_NO_START = _set("and but or yet let i either neither otherwise instead afterwards later meanwhile next especially")
_HAVE = {"has": "does", "have": "do", "had": "did"}
_PARTICIPLE = r"(?:\w{2,}ed|\w+en|kept|held|found|put|set|run|read|built|made|sent|known|drawn|meant|lost|cut)"


@lru_cache(maxsize=4096)
def clause(text: str) -> Clause | None:
    """Return the clause's subject, helper verb and rest; None when the rules cannot tell where the subject ends.

    >>> clause("A worker sends its names")
    Clause(subject='A worker', helper='does', verb='send', rest='its names')"""
    tokens = text.split()
    if len(tokens) < 3 or not _can_start(tokens):
        return None
    for at in range(1, min(10, len(tokens))):
        token, previous = tokens[at].lower(), tokens[at - 1]
        if previous[-1] in ",;:)—–" or previous == "-" or previous[0] == "(" or token in SUBORDINATORS:
            return None
        if token in HELPERS:
            return _with_helper(tokens, at)
        if (found := _with_verb(tokens, at)) is not None:
            return found
    return None


def is_imperative(text: str) -> bool:
    """Whether a clause begins with a verb in its base form, as an instruction does."""
    tokens = text.lower().split()
    if len(tokens) < 2:
        return False
    if tokens[0] in ("never", "always", "don't") or tokens[:2] == ["do", "not"]:
        return True
    is_noun = any(token in HELPERS or token in THIRD or token == "of" for token in tokens[1:3])
    return tokens[0].strip(",") in BASE and not is_noun


def _can_start(tokens: list[str]) -> bool:
    first = tokens[0].lower()
    is_linked = first in PREPOSITIONS or first in SUBORDINATORS or first in _CONJUNCTS or first in _ADVERBS
    is_vague = first in _NO_START or first in _ANAPHORA or tokens[1] == "to"
    return not (is_linked or is_vague or is_imperative(" ".join(tokens[:6])))


def _subject(tokens: list[str], at: int) -> tuple[str, str]:
    """The subject before place `at`, and the adverbs between it and the verb that go along with the verb; "" for both
    where it points at something said elsewhere."""
    end = at
    while end > 1 and tokens[end - 1].lower().strip(",") in _CONJUNCTS | _ADVERBS:
        end -= 1
    subject = " ".join(tokens[:end])
    is_cut = end > 1 and tokens[end - 1].lower() in ("you", "we", "i")  # "the same way you" is the end of a subject
    if is_cut or has_anaphora(subject) or _VAGUE.fullmatch(subject):
        return "", ""
    return subject, " ".join(token for token in tokens[end:at] if token.lower() in _ADVERBS)


def _is_plural(subject: str) -> bool:
    """By its head, the last word before the first preposition."""
    tokens = subject.split()
    stop = next((at for at, token in enumerate(tokens) if at and token.lower() in PREPOSITIONS), len(tokens))
    head = tokens[stop - 1]
    has_ending = (head.islower() or len(tokens) == 1) and head.endswith("s") and not head.endswith(("ss", "us", "is"))
    return has_ending or "and" in tokens or head.lower() in ("you", "we", "people", "data", "most", "many")


def _with_helper(tokens: list[str], at: int) -> Clause | None:
    subject, adverbs = _subject(tokens, at)
    helper, rest = tokens[at].lower(), tokens[at + 1 :]
    while rest and rest[0].lower().strip(",") in _CONJUNCTS:
        rest = rest[1:]
    if not subject or not rest:
        return None
    first = rest[0].lower()
    if helper == "cannot":
        helper, rest = "can", ["not", *rest]
    elif helper in ("does", "do", "did") and first not in BASE and first != "not":
        adverbs = f"{adverbs} do".strip()
    elif helper in _HAVE and not (re.fullmatch(_PARTICIPLE, first) or first in ("not", "never", "been")):
        helper, adverbs = _HAVE[helper], f"{adverbs} have".strip()
    return Clause(subject, helper, adverbs, " ".join(rest))


def _with_verb(tokens: list[str], at: int) -> Clause | None:
    token, following = tokens[at].lower(), tokens[at + 1].lower() if at + 1 < len(tokens) else ""
    if not following or not (token in THIRD or token in BASE):
        return None
    subject, adverbs = _subject(tokens, at)
    last = subject.rpartition(" ")[2].lower()
    if not subject or last in DETERMINERS or last in PREPOSITIONS or last in ("and", "or"):
        return None
    if token in THIRD and not _is_plural(subject):
        helper, verb = "does", THIRD[token]
    elif token in BASE and _is_plural(subject):
        helper, verb = "do", token
    else:
        return None
    # "The server logs are kept": a second verb soon after means that the first was a noun.
    for word in tokens[at + 1 : at + 6]:
        if word.lower() in SUBORDINATORS or word == "and" or word[-1] in ",;:":
            break
        if word.lower() in HELPERS:
            return None
    is_noun = following in ("of", "and", "or") or following in THIRD
    return None if is_noun else Clause(subject, helper, f"{adverbs} {verb}".strip(), " ".join(tokens[at + 1 :]))


# --- what can be asked of a sentence ----------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Form:
    """A family of questions: its kind, how good it is as a question (0 to 1), and its wordings.

    The wordings are many and different: a set of questions that all open alike teaches a model to open alike."""

    kind: str
    quality: float
    wordings: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Draft:
    """Something to ask: `slots` fill the wordings of the form. `quality` also counts how much its sentence tells."""

    kind: str
    form: str
    slots: dict[str, str]
    answer: str
    sentence: Sentence
    quality: float


FORMS = {
    "what_is": Form("definition", 1.0, (
        "What is {term}?", "What exactly is {term}?", "How is {term} defined?", "What is meant by {term}?",
        "How would you explain {term}?", "What kind of thing is {term}?")),
    "what_are": Form("definition", 1.0, (
        "What are {term}?", "What exactly are {term}?", "How are {term} defined?", "What is meant by {term}?")),
    "term_for": Form("definition", 0.75, (
        "What is {meaning}?", "What would you call {meaning}?", "What can be described as {meaning}?")),
    "why": Form("reason", 1.0, (
        "Why {turned}?", "Why {turned}?", "Why is it that {effect}?", "What is the reason that {effect}?",
        "How come {effect}?", "What explains why {effect}?", "For what reason {turned}?")),
    "why_that": Form("reason", 0.7, (
        "Why is it that {effect}?", "What is the reason that {effect}?", "How come {effect}?",
        "What explains why {effect}?")),
    "at_what_time": Form("condition", 0.9, (
        "When {turned}?", "When exactly {turned}?", "At what point {turned}?", "Under which circumstances {turned}?")),
    "in_case": Form("condition", 0.9, (
        "Under what condition {turned}?", "In which case {turned}?", "When {turned}?", "On what condition {turned}?")),
    "how_long": Form("condition", 0.9, ("How long {turned}?", "Until when {turned}?", "Up to what point {turned}?")),
    "happens_if": Form("condition", 0.85, (
        "What happens {sub} {condition}?", "{sub} {condition}, what happens?", "What is the result {sub} {condition}?",
        "What follows {sub} {condition}?", "What is to be expected {sub} {condition}?",
        "{sub} {condition}, what follows?")),
    "does_if": Form("condition", 0.9, (
        "What {subject} do {sub} {condition}?", "{sub} {condition}, what {subject} do?",
        "How {subject} behave {sub} {condition}?", "{sub} {condition}, how {subject} react?")),
    "happens_to_if": Form("condition", 0.9, (
        "What happens to {subject} {sub} {condition}?", "{sub} {condition}, what becomes of {subject}?",
        "{sub} {condition}, what happens to {subject}?")),
    "advice_if": Form("condition", 0.9, (
        "What should you do {sub} {condition}?", "{sub} {condition}, what should you do?",
        "What is the advice {sub} {condition}?", "{sub} {condition}, what is there to do?")),
    "options_if": Form("condition", 0.85, (
        "What can you do {sub} {condition}?", "{sub} {condition}, what can you do?",
        "What is possible {sub} {condition}?", "Which option is there {sub} {condition}?")),
    "how_to": Form("procedure", 0.95, (
        "How do you {goal}?", "How can you {goal}?", "What is the way to {goal}?", "What should you do to {goal}?",
        "What does it take to {goal}?", "How would one {goal}?")),
    "how": Form("procedure", 0.85, ("How {turned}?", "By what means {turned}?", "In what way {turned}?")),
    "step": Form("procedure", 0.7, (
        "What is step {number} of “{goal}”?", "What do you do at step {number} of “{goal}”?",
        "In “{goal}”, what is step {number}?", "Which action is number {number} in “{goal}”?",
        "“{goal}”: what does step {number} ask for?")),
    "object_and_tail": Form("fact", 0.85, (
        "What {turned}{tail}?", "What exactly {turned}{tail}?", "{lead}, what {turned}?")),
    "object": Form("fact", 0.75, ("What {turned}?", "What exactly {turned}?", "What, precisely, {turned}?")),
    "stranded": Form("fact", 0.75, ("What {turned} {preposition}?", "{preposition} what {turned}?")),
    "subject": Form("fact", 0.6, ("What {predicate}?", "What is it that {predicate}?")),
    "how_many_subject": Form("number", 0.95, ("{asked} {predicate}?",)),
    "how_many": Form("number", 1.0, ("{asked} {turned}?",)),
    "value": Form("number", 1.0, ("What {turned}?", "How much {turned}?", "What exactly {turned}?")),
    "differ": Form("comparison", 1.0, (
        "How do {one} and {other} differ?", "What is the difference between {one} and {other}?",
        "How do {one} and {other} compare?", "What sets {one} apart from {other}?")),
    "than": Form("comparison", 0.9, ("What {turned} than?",)),
    "cloze": Form("fact", 0.3, (
        "What completes this statement: “{gapped}”?", "What is missing here: “{gapped}”?",
        "“{gapped}”: what belongs in the gap?", "Which words are left out of “{gapped}”?",
        "Can you fill the gap in “{gapped}”?", "In “{gapped}”, what does the gap stand for?",
        "How should the gap be filled in “{gapped}”?", "With what would you complete “{gapped}”?",
        "Fill in the blank: “{gapped}”?", "“{gapped}”: which words fill the blank?",
        "Where it says “{gapped}”, what should stand?", "To complete “{gapped}”, what is needed?")),
}  # fmt: skip

# What a rule makes: form, slots, answer, and a factor on the form's quality.
_Made = tuple[str, dict[str, str], str, float]

_LABEL = re.compile(
    r"^(?:note|warning|tip|important|caution|info|safety|hint|example)(?: that)?[:.]? (?=[A-Z])"
    r"|^(?:(?:note|notice|recall|remember|keep in mind) that|in fact,|of course,|however,|therefore,|thus,|in addition,"
    r"|moreover,|also,|finally,|similarly,|likewise,|basically,|internally,|by default,"
    r"|(?:and|but|so|also|now|then)(?: then| also| still)?,?) ",
    re.IGNORECASE,
)
_ASIDE = re.compile(r",? for (?:example|instance)\b,?| \([^()]*\)")
_NEGATION = re.compile(r"\b(is|are|was|were|do|does|did|ca|wo|could|should|would|has|have)n['’]t\b")
_BREAK = re.compile(
    r",? [—–-] |: |, (?=(?:and|but|so|or|yet|nor|which|who|where|whereas|while|although|though|since|because|as|with"
    r"|including|not|then|unlike|e\.g\.|i\.e\.|even|plus|typically|depending|like|it|they|you|there|we)\b)"
    rf"| and (?=(?:{_A_THIRD})\b)|,? \("
)
_SECOND_VERB = re.compile(rf",? (?:and|but|or) (?:then |also |\w+ly )?(?:{_A_THIRD}|is|are|go)\b|, (?:{_A_THIRD})\b")
_SECOND_ACTION = re.compile(rf",? and (?:{_A_BASE}) (?:it|them|the|a)\b|, (?:{_A_BASE}) (?:it|them|the|a)\b")


def drafts(passage: str, section: str = "") -> tuple[Draft, ...]:
    """Return everything that the rules can ask about a passage, best first."""
    return _drafts(passage[:LONGEST_PASSAGE], section)


@lru_cache(maxsize=256)
def _drafts(passage: str, section: str) -> tuple[Draft, ...]:
    known = names(passage)
    found = []
    for sentence in sentences(passage, section):
        made = [*_step(sentence), *_cloze(sentence)]
        for part in _parts(sentence.plain):
            for rule in _RULES:
                made += rule(part, known)
        found += [draft for each in made if _is_askable(draft := _draft(sentence, each, known))]
    return tuple(sorted(found, key=lambda draft: -draft.quality))


def _parts(text: str) -> list[str]:
    """What a sentence states, in pieces parted by semicolons, without labels, asides and contractions."""
    text = _ASIDE.sub("", text.rstrip(".!: "))
    text = _NEGATION.sub(lambda match: {"ca": "can", "wo": "will"}.get(match[1], match[1]) + " not", text)
    pieces = raised(_LABEL.sub("", _LABEL.sub("", text))).split("; ")
    return [pieces[0], *(piece[:1].upper() + piece[1:] for piece in pieces[1:] if len(piece.split()) >= 4)]


def _draft(sentence: Sentence, made: _Made, known: frozenset[str]) -> Draft:
    form, slots, answer, factor = made
    if form != "cloze":
        answer = raised(answer.strip(" ,;:"), known)
        answer += "." if len(answer.split()) > 3 and answer[-1] not in ".!?" else ""
    if has_anaphora(answer, within=2) or not _POINTERS.isdisjoint(answer.split()):
        factor *= 0.8
    kind, length = FORMS[form].kind, sum(len(value.split()) for value in slots.values())
    if form == "object" and re.search(r"\b(?:mean|refer to|describe|represent|consist of|contain)$", slots["turned"]):
        kind = "definition"
    quality = FORMS[form].quality * factor * (0.6 + sentence.score) - max(0, length - 16) * 0.03
    return Draft(kind, form, slots, answer, sentence, quality)


def _is_askable(draft: Draft) -> bool:
    """Whether the question will stand alone: nothing in it points at something said elsewhere."""
    for value in (*draft.slots.values(), draft.answer):
        if any(value.count(left) != value.count(right) for left, right in ("()", "[]", "“”")) or value.count('"') % 2:
            return False
    for value in draft.slots.values():
        tokens = _bare_words(value)
        # "you" is nobody that "it" could point at.
        nearby = tokens if "you" in tokens[:3] else tokens[:3]
        if not _POINTERS.isdisjoint(tokens) or not _PRONOUNS.isdisjoint(nearby) or len(tokens) > 30:
            return False
    return bool(draft.answer) and not (draft.form.startswith("object") and has_anaphora(draft.answer, within=1))


@lru_cache(maxsize=4096)
def _main(text: str) -> str:
    """The main clause: what stands before the first "and", "but", "which", bracket or dash that may end it."""
    return _single(_until(_BREAK, text, 3))


def _single(text: str) -> str:
    """The first of two clauses that "and" joins."""
    for match in re.finditer(r",? and ", text):
        if clause(text[match.end() :]) and clause(text[: match.start()]):
            return text[: match.start()]
    return text


def _until(end: re.Pattern[str], text: str, least: int) -> str:
    """The text before the first match that has at least that many blanks before it; all of it where there is none."""
    match = next((match for match in end.finditer(text) if text.count(" ", 0, match.start()) >= least), None)
    return text[: match.start()] if match else text


def _turned(found: Clause, known: frozenset[str]) -> str:
    """The clause in question order, as it follows "when" or "why"."""
    # "does it rise and falls": what a second verb says is left out.
    match = _SECOND_VERB.search(found.rest) if found.helper in ("does", "do") else None
    rest = found.rest[: match.start()] if match else found.rest
    return " ".join(part for part in (found.helper, lowered(found.subject, known), found.verb, rest) if part)


def _asked_of(text: str, known: frozenset[str]) -> tuple[str, str] | None:
    """A statement or an instruction in question order, and in statement order; None when it cannot be turned."""
    if is_imperative(text):
        advice = text[:1].lower() + text[1:]
        advice = "you should " + ("not " + advice[7:] if advice.startswith("do not ") else advice)
        return advice.replace("you should", "should you", 1), advice
    text = _single(text)
    found = clause(text)
    return (_turned(found, known), lowered(text, known)) if found else None


_LEADING = re.compile(r"(If|When|Once|While|Unless|After|Before|Until|Whenever|As soon as|As long as) (.+)")
_TRAILING = re.compile(
    r"(.+?),? (if|when|once|unless|until|after|before|while|whenever|as soon as|as long as|only if|only when|only after"
    r"|only until) (.+)"
)
_TRAILING_END = re.compile(r", (?:and|but|so|which|whereas|although|though|because|since)\b| [—–] |: ")
_NO_CONDITION_AFTER = _set(
    """know tell say see time day moment even and or check out is are was than case decide whether not days hours
    minutes long shortly soon immediately right just"""
)
_YOU_MUST, _YOU_CAN = ("you should", "you must", "you need", "you have to"), ("you can", "you could", "you may")


def _condition(text: str, known: frozenset[str]) -> Iterator[_Made]:
    if match := _LEADING.match(text):
        if parts := _after_condition(match[2]):
            yield _outcome(match[1].lower(), *parts, known, 1.05)
        return
    match = _TRAILING.fullmatch(_until(_TRAILING_END, text, 6))
    last = match[1].rpartition(" ")[2].lower() if match else ""
    if match is None or match[1].count(" ") < 2 or last in _NO_CONDITION_AFTER or last in PREPOSITIONS:
        return
    outcome, sub, condition = match[1], match[2], _main(match[3])
    # "A does this, while B does that" is a contrast; "that" or "because" before may own the condition.
    if (sub == "while" and text[match.end(1)] == ",") or re.search(r"\b(?:that|which|who|because|since|so)\b", outcome):
        return
    asked = _asked_of(outcome, known)
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
        if outcome.count(" ") >= 2 and (begins or is_imperative(outcome) or clause(_main(outcome))):
            last = condition.rpartition(" ")[2].lower()
            is_clear = last not in PREPOSITIONS | {"that"} and not has_anaphora(condition, within=1)
            is_clear = is_clear and 1 <= condition.count(" ") < 18
            return (condition, outcome) if is_clear else None
    return None


def _outcome(sub: str, condition: str, outcome: str, known: frozenset[str], factor: float) -> _Made:
    """What happens under a condition; the wording follows from what the outcome is."""
    slots = {"sub": sub, "condition": lowered(condition, known)}
    found, start = clause(_main(outcome)), outcome.lower()
    if is_imperative(outcome) or start.startswith(_YOU_MUST):
        return "advice_if", slots, outcome, factor
    if start.startswith(_YOU_CAN):
        return "options_if", slots, outcome, factor
    if found and found.helper in ("does", "do") and found.verb != "have":
        return "does_if", slots | {"subject": f"{found.helper} {lowered(found.subject, known)}"}, outcome, factor
    if found and found.helper in ("is", "are") and re.match(rf"(?:\w+ly |also |not )*{_PARTICIPLE}\b", found.rest):
        return "happens_to_if", slots | {"subject": lowered(found.subject, known)}, outcome, factor
    return "happens_if", slots, outcome, factor


# A verb among the first words, and a subject that is no mere "one".
_STATES = re.compile(
    rf"(?!(?:an?|the) (?:\w+ )?ones?\b)(?:\S+ ){{1,9}}(?:{_A_THIRD}|{'|'.join(sorted(HELPERS))}) ", re.IGNORECASE
)
_NO_REASON = r"(?!of\b|v?\d|version|then\b|before\b)"
_REASON = re.compile(rf"(?P<effect>.+?),? (?P<sub>because|since|so that|lest) {_NO_REASON}(?P<cause>.+)")
_LEADING_REASON = re.compile(rf"(?P<sub>Because|Since) {_NO_REASON}(?P<cause>.+?), (?P<effect>.+)")
_SO = re.compile(r"(?P<cause>.+?), (?P<sub>so) (?!that\b|much\b|far\b|as\b)(?:then )?(?P<effect>.+)")


def _reason(text: str, known: frozenset[str]) -> Iterator[_Made]:
    match = _LEADING_REASON.fullmatch(text) or _REASON.fullmatch(text) or _SO.fullmatch(text)
    if match is None or match["effect"].count(" ") < 2 or match["cause"].startswith("Of "):
        return
    effect, cause = match["effect"], match["cause"]
    # The reason may belong to the relative clause; "the greatest since" is a time.
    if re.search(r", (?:which|whose|who|where)\b|est$|^(?:let|but|and)\b", effect, re.IGNORECASE):
        return
    is_aim = match["sub"] in ("so that", "lest")
    answer = f"{match['sub']} {cause}" if is_aim else f"because {lowered(cause, known)}"
    if asked := _asked_of(effect, known):
        yield "why", {"turned": asked[0], "effect": asked[1]}, answer, 1.0
    elif not has_anaphora(effect, within=6) and _STATES.match(effect):
        yield "why_that", {"effect": lowered(effect, known)}, answer, 1.0


_LEADING_PURPOSE = re.compile(r"(?:To|In order to) ([a-z]+) (.+)")
_PURPOSE = re.compile(rf"(.+?) (?:in order )?to ((?:{_A_BASE}) .+)")
_NO_PURPOSE_AFTER = _set(
    """able going need needs want wants have has try allowed likely due up how way time ought used free ready enough
    required where what when possible easy hard sure tends supposed meant set right begin begins start starts or and
    not"""
)
_MEANS = re.compile(r"(.+?) by ((?:not )?[a-z]+ing\b.+)")


def _procedure(text: str, known: frozenset[str]) -> Iterator[_Made]:
    main = _main(text)
    if match := _LEADING_PURPOSE.fullmatch(text):
        parts = _after_condition(f"{match[1]} {match[2]}")
        if parts and match[1] not in _STOP:
            yield "how_to", {"goal": parts[0]}, parts[1], 1.05
    elif is_imperative(text) and (match := _PURPOSE.fullmatch(main)):
        means, last = match[1], match[1].rpartition(" ")[2].lower()
        if 1 <= means.count(" ") < 14 and "," not in means and last not in _NO_PURPOSE_AFTER:
            yield "how_to", {"goal": match[2]}, means, 0.95
    if (match := _MEANS.fullmatch(main)) and match[1].count(" ") >= 2:
        if found := clause(match[1]):
            yield "how", {"turned": _turned(found, known)}, f"by {match[2]}", 1.0
        elif is_imperative(match[1]) and match[1].split()[0].lower() in BASE - {"do"}:
            yield "how_to", {"goal": match[1][:1].lower() + match[1][1:]}, f"by {match[2]}", 0.95


_DEFINIENS = re.compile(r"(?:a|an|the|any|one of|part of) (?!good|bad|same|case|reason|little|bit|few|lot|only)\w+ \w+")
_DEFINIENS_END = re.compile(r", (?:and|but|so|yet|while|whereas) | [—–] |: ")


def _definition(text: str, known: frozenset[str]) -> Iterator[_Made]:
    found = clause(text)
    if found is None or found.helper not in ("is", "are") or found.verb or found.subject.count(" ") > 5:
        return
    meaning = _until(_DEFINIENS_END, found.rest, 3)
    if _DEFINIENS.match(meaning):
        whole = f"{found.subject} {found.helper} {meaning}"
        yield "what_is" if found.helper == "is" else "what_are", {"term": lowered(found.subject, known)}, whole, 1.0
        if found.helper == "is" and found.subject.count(" ") < 4 and meaning.count(" ") >= 4:
            yield "term_for", {"meaning": meaning}, found.subject, 1.0


_TAIL = re.compile(
    r"(.+?),? ((?:when|if|once|while|after|before|until|unless|so that|in order to|rather than|instead of) .+)"
)
_USE_TO = re.compile(rf"(.+?) (to (?:{_A_BASE}) .+)")
_TO_DO = re.compile(rf"(\w+(?: \w+){{0,3}}) to ((?:{_A_BASE})\b.+)")
_LETTING = _set("allow enable help tell ask cause force require permit")
_INTRANSITIVE = _set(
    "lie occur happen rise fall arrive exist vanish come go differ vary sink behave begin stand travel live last"
)
_THIN = _set("have need make take go get give do become come")
_NO_OBJECT = _set("not so elsewhere up out off down away back low high very too well") | PREPOSITIONS | SUBORDINATORS
_NO_OBJECT |= _ADVERBS | _NUMBER_WORDS


def _object(text: str, known: frozenset[str]) -> Iterator[_Made]:
    """What somebody or something does to a thing: "what does the server log when ..."."""
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
    rf"((?:be |been )?(?:\w+ly |also |not )?{_PARTICIPLE})(| [^,]{{1,40}}?) (by|with|from|for|into|as) (?!\d)(.+)"
)
_NO_AGENT = BASE | _NUMBER_WORDS | _set("all most order time least once default far well soon long much if though")


def _passive(text: str, known: frozenset[str]) -> Iterator[_Made]:
    found = clause(_main(text))
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


def _subject_of(text: str, known: frozenset[str]) -> Iterator[_Made]:
    """What it is that does something: "what keeps jobs apart"."""
    main = _main(text)
    found = clause(main)
    if found is None or found.helper in ("are", "were", "do", "have") or found.subject.count(" ") > 5:
        return
    predicate = main[len(found.subject) :].split()
    predicate = " ".join(predicate[1:] if predicate[0] in _CONJUNCTS else predicate)
    if match := _SECOND_VERB.search(predicate):
        predicate = predicate[: match.start()]
    is_list = any(clause(part) for part in predicate.split(", ")[1:])
    if is_list or _is_plural(found.subject) or _NO_PREDICATE.match(predicate) or not 4 <= predicate.count(" ") < 20:
        return
    if not re.match(r"(?:no|nobody|none|nothing|only)\b", found.subject, re.IGNORECASE):
        yield "subject", {"predicate": predicate}, found.subject, 1.0 if " " in found.subject else 0.85


_A_NUMBER = r"\d[\d,]*(?:\.\d+)?"
_A_NUMBER_WORD = "|".join(sorted(_NUMBER_WORDS))
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
_NAMED_BY_NUMBER = _set(
    """version v step code port level row table chapter section python http status line page day figure item option
    phase stage class grade type no number between retry and"""
)
_MOVABLE = _set("to within after for by in at over every until above below under with")
_TANGLES = _set("and or of between")
_VALUE = re.compile(
    rf"((?:about |at most |at least )?{_A_NUMBER}(?:\s?[–-]\s?{_A_NUMBER})?(?:\s?(?:%|°C|[A-Za-zµ³/]+))?)"
    r"(?= by default|$| in | at | for | on )(.*)"
)


def _quantities(text: str) -> Iterator[tuple[int, int, str]]:
    """(start, end, "about how many seconds") of each counted thing in a plain text."""
    if not re.search(r"\d", text) and _NUMBER_WORDS.isdisjoint(text.lower().split()):
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
        elif not counted and second and unit.lower() not in _STOP and second[1:] not in THIRD:
            counted, end = unit + second, match.end("second")
        if counted:
            is_share = counted == "per cent" and text.startswith(" of ", end)
            asked = "what percentage" if is_share else f"how many {counted}"
            yield match.start(), end, f"{(match['about'] or '').lower()} {asked}".strip()


def _is_counted(word: str) -> bool:
    is_word = word in PREPOSITIONS or word in _STOP or word in ("less", "this", "as")
    return word.endswith("s") and not is_word and not word.endswith("ss")


def _number(text: str, known: frozenset[str]) -> Iterator[_Made]:
    main = _main(text)
    found = clause(main)
    for start, end, asked in _quantities(main):
        quantity, after = main[start:end], main[end:]
        if found and start == 0 and found.subject.startswith(quantity):
            yield "how_many_subject", {"asked": asked, "predicate": after.strip()}, quantity, 1.0
        elif found and start > len(found.subject) and not re.match(r" (?:of|to|and) ", after):
            yield from _fronted(found, main, (start, end), asked, known)
    if found and found.helper in ("is", "was") and not found.verb and (match := _VALUE.match(found.rest)):
        yield "value", {"turned": f"{found.helper} {lowered(found.subject, known)}{match[2]}"}, match[1], 1.0


def _fronted(found: Clause, main: str, span: tuple[int, int], asked: str, known: frozenset[str]) -> Iterator[_Made]:
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


def _comparison(text: str, known: frozenset[str]) -> Iterator[_Made]:
    main = _main(text)
    match = _CONTRAST.fullmatch(text if text.count(" ") < 32 else main)
    if match and match[1].count(" ") < 14 and not re.search(r"\b(?:so|because)\b", match[1]):
        one, other = clause(match[1]), clause(match[2][:1].upper() + match[2][1:])
        if one and other and one.helper[:2] == other.helper[:2] and one.subject.lower() != other.subject.lower():
            yield "differ", {"one": lowered(one.subject, known), "other": lowered(other.subject, known)}, text, 1.0
    match = _THAN.fullmatch(main)
    if match and match[2].count(" ") < 10 and " not " not in main and (found := clause(match[1])):
        yield "than", {"turned": _turned(found, known)}, match[2], 1.0


_RULES = (_condition, _reason, _procedure, _definition, _object, _passive, _subject_of, _number, _comparison)


def _step(sentence: Sentence) -> Iterator[_Made]:
    """A numbered step under a heading that says what the steps are for."""
    is_titled = sentence.heading and not re.search(r"[?:]", sentence.heading)
    if sentence.step and is_titled and sentence.plain.count(" ") < 30:
        yield "step", {"number": str(sentence.step), "goal": sentence.heading}, sentence.plain, 1.0


def _cloze(sentence: Sentence) -> Iterator[_Made]:
    """The sentence with its most telling words left out: a figure, else its longest word."""
    text = (sentence.plain if sentence.plain.count(" ") < 28 else _main(sentence.plain)).rstrip(".!: ")
    if _VERB_FORMS.isdisjoint(text.lower().split()) or has_anaphora(text, within=4):
        return
    gap = next(((start, end) for start, end, _ in _quantities(text) if start), None)
    if gap is None:
        later = (match for match in _WORD.finditer(text) if match.start() > 0)
        longer = [match for match in later if len(match[0]) > 4 and "'" not in match[0] and match[0][-2:] != "ly"]
        # Names with dots and digits tell more than words.
        rank = lambda match: (not match[0].replace("-", "").isalpha(), len(match[0]))
        longest = max(longer, key=rank, default=None)
        gap = longest.span() if longest else None
    if gap:
        yield "cloze", {"gapped": f"{text[: gap[0]]}____{text[gap[1] :]}"}, text[slice(*gap)], 1.0
