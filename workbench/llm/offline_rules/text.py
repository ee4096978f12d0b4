"""What the offline writer knows of text: words and their stems, Markdown to sentences, capital letters.

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


def word_set(text: str) -> frozenset[str]:
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


BASE = word_set(_VERBS)
THIRD = {_third_person(verb): verb for verb in BASE}
A_BASE, A_THIRD = "|".join(sorted(BASE)), "|".join(sorted(THIRD))  # for patterns
HELPERS = word_set("is are was were can could may might must should will would shall cannot does do did has have had")
VERB_FORMS = BASE | THIRD.keys() | HELPERS
DETERMINERS = word_set(
    "a an the no all any each every some both one two three four five six another many most its their your"
)
PREPOSITIONS = word_set(
    """of in on at to from by for with within into onto over under above below between after before during until about
    through per without against among across towards via as like unlike"""
)
SUBORDINATORS = word_set(
    """that which who whose whom where when if because while whereas although though since unless until once than what
    how why whether"""
)
PRONOUNS = word_set("it its they them their he she his her")
POINTERS = word_set("this these those such here former latter following previous aforementioned above")
ANAPHORA = PRONOUNS | POINTERS - {"above"} | {"he", "there", "so"}
CONJUNCTS = word_set("therefore thus hence also however then consequently accordingly indeed")
ADVERBS = word_set(
    """usually often always never only still just simply normally typically automatically already rarely sometimes
    generally now not merely really actually"""
)
STOP = word_set(
    """a an the and or but if then else of in on at to from by for with within into over under above below between
    after before during until about through per without against than as is are was were be been being am do does did
    done has have had can could may might must should will would shall cannot not no nor so such that this these
    those it its they them their there here which who whom whose what when where why how you your we our us i my he
    his she her one two also only just very more most less least much many few some any each every all both either
    other another same own too up down out off again once while because since although though unless whether e.g i.e
    etc via use used using make makes made get gets"""
)
NUMBER_WORDS = word_set(
    "two three four five six seven eight nine ten eleven twelve fifteen twenty thirty forty fifty sixty hundred"
)

WORD = re.compile(r"\w[\w.'’-]*\w|\w")
_SUFFIXES = (
    ("ies", "y"), ("ied", "y"), ("sses", "ss"), ("ings", ""), ("ing", ""), ("edly", ""), ("ed", ""), ("es", ""),
    ("ly", ""), ("s", ""),
)  # fmt: skip


def words(text: str) -> list[str]:
    """Return the words of a plain text; dotted names such as `retry.cap` are one word."""
    return WORD.findall(text)


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
    return [stem(word) for word in words(text) if word.lower() not in STOP]


def has_anaphora(text: str, *, within: int = 99) -> bool:
    """Whether one of the first words points at something said elsewhere ("it", "these", "such")."""
    start = " ".join(text.split(maxsplit=within)[:within])
    return not ANAPHORA.isdisjoint(bare_words(start))


def bare_words(text: str) -> list[str]:
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
_NO_KEYWORD = word_set(
    "instead apart across whenever enough otherwise rather itself etc way lot thing things case cases"
)


def _is_noun_like(word: str) -> bool:
    is_verb = word in BASE or word in THIRD or word.endswith(("ly", "ing", "ed"))
    is_telling = word.isalpha() and word.islower() and len(word) > 2 and word not in STOP and word not in _NO_KEYWORD
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
_ABBREVIATIONS = word_set(
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


_CONNECTIVES = word_set("because if when unless since than If When Unless Because")


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
    if clean[-1] == ":" and (last in VERB_FORMS or _LEADS_ON.search(clean)):
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
        is_common = name.lower() in small or name.lower() in STOP or _COMMON_ENDING.search(name)
        if (verb in HELPERS or verb in THIRD) and not is_common:
            lone.add(name)
    return frozenset(code | lone | set(re.findall(r"(?<=[a-z,] )[A-Z][\w-]*", prose)))


def lowered(text: str, known: frozenset[str] = frozenset()) -> str:
    """Return the text with a small first letter, unless it begins with a name."""
    first, _, after = text.partition(" ")
    bare = first.strip("'’,").removesuffix("'s").removesuffix("’s")
    is_pair = re.match(r"[A-Z][a-z]", after) and bare.lower() not in STOP
    is_acronym = len(first) > 1 and not first[1:].islower() and "-" not in first
    return text if bare in known or is_pair or is_acronym else text[:1].lower() + text[1:]


def raised(text: str, known: frozenset[str] = frozenset()) -> str:
    """Return the text with a capital first letter, unless it begins with code."""
    first = text.split(" ", 1)[0].rstrip(",.;:")
    return text if first in known or re.search(r"[_./=\d]|^\W", first) else text[:1].upper() + text[1:]
