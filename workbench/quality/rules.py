"""Rules: what can be wrong with a text that no model is needed to see. `check` runs them all.

Each check is a function of records of one kind and returns one Verdict per distinct id; the first text that fails gives
reason and detail. What a check cannot judge (a text too short for it, none at all) it passes with score None; that a
text is missing is said once, by `length`. Left out of most checks is what is as it is on purpose: an instruction's
input, the rejected answer of a pair, the evidence of a QA (a quotation)."""

import re
from collections import Counter
from collections.abc import Sequence
from typing import Any

from workbench.prompts.library import Prompt
from workbench.quality import checks
from workbench.quality.checks import TEXTS, Finding, Limits, Verdicts, asked, judged, passage, quoted, texts, words
from workbench.records import Record, by_id, one_kind

DEFAULTS = Limits()


def check(records: Sequence[Record], *, limits: Limits = DEFAULTS, prompts: Sequence[Prompt] = ()) -> Verdicts:
    """Return the verdicts of every rule, one per distinct id and rule.

    `copied_prompt` runs when prompts are given, `names_passage` for QA. Raises RecordError for several kinds."""
    found = [length(records, limits=limits), repetition(records, limits=limits), refusal(records)]
    found += [copied_prompt(records, prompts=prompts, limits=limits)] if prompts else []
    found += [names_passage(records), placeholder(records)]
    found += [language(records, limits=limits), opening(records, limits=limits)]
    return Verdicts(tuple(verdict for verdicts in found for verdict in verdicts), "rules")


def length(records: Sequence[Record], *, limits: Limits = DEFAULTS) -> Verdicts:
    """Reasons empty (None, NaN, blank), too_short, too_long: each text in words, by `TEXTS` and `Limits`.

    Some texts may be missing (`checks.may_be_missing`). In scripts without blanks a character counts as a word. Score:
    words of the text that failed, or of the asking one."""

    def judge(record: Record, kind: str) -> Finding:
        first = None
        for name, default in TEXTS[kind].items():
            text = getattr(record, name)
            if checks.is_blank(text):
                if checks.may_be_missing(record, name):
                    continue
                return 0.0, "empty", f"{name}: no text ({text!r})"
            least, most = limits.words.get(f"{kind}.{name}", default)
            count = len(words(text)) or len(text.split())
            if count < least:
                return float(count), "too_short", f"{name}: {count:,} words, at least {least:,} wanted: {quoted(text)}"
            if count > most:
                return float(count), "too_long", f"{name}: {count:,} words, at most {most:,} wanted: {quoted(text)}"
            first = first or float(count)
        return first, "", ""

    return judged("length", records, judge)


def repetition(records: Sequence[Record], *, limits: Limits = DEFAULTS) -> Verdicts:
    """Reasons repeated_lines and repeated_ngrams: texts that go round in circles. Score: the largest of three shares.

    Rae et al. 2021, arXiv:2112.11446, Table A1, adapted from web pages to texts of a few sentences; fenced code is left
    out. Lines count from 4 words on (fields named "id" repeat rightly), and 0.30 of them may be repeats, as there. The
    most repeated 2- to 4-gram may hold half of the characters (there 0.16 to 0.20: five questions about one thing hold
    more), and counts from the third time on; 10-grams that were there before may hold 0.30 (there 0.10: an answer may
    say one sentence again). Texts below 20 words are too short for either."""

    def judge(record: Record, kind: str) -> Finding:
        worst = None
        for name, text in texts(record, kind):
            told = checks.FENCED.sub(" ", text)
            tokens = words(told)
            lines = Counter(" ".join(line) for line in map(words, told.splitlines()) if len(line) >= 4)
            share = (lines.total() - len(lines)) / lines.total() if lines else 0.0
            top, gram = max(checks.most_repeated(tokens, size) for size in (2, 3, 4))
            again = checks.said_before(tokens, 10)
            if share > limits.max_repeated_lines:
                line = lines.most_common(1)[0][0]
                return share, "repeated_lines", f"{name}: {share:.0%} of the lines are repeats: {quoted(line)}"
            if top > limits.max_repeated_ngrams:
                return top, "repeated_ngrams", f"{name}: {top:.0%} of it is “{' '.join(gram)}”: {quoted(text)}"
            if again > limits.max_repeated_passages:
                return again, "repeated_ngrams", f"{name}: {again:.0%} of it was said before: {quoted(text)}"
            worst = max(worst or 0.0, share, top, again)
        return worst, "", ""

    return judged("repetition", records, judge)


def refusal(records: Sequence[Record]) -> Verdicts:
    """Reason refusal: a text that begins by declining, or by saying that an AI writes it. English only; no score.

    Not a refusal: one that was asked for (the request speaks of refusing, declining, apologising), or that stands in
    the passage. The answers of a Preference are left out: in data about harm the refusal is the better one."""

    def judge(record: Record, kind: str) -> Finding:
        for name, text in texts(record, kind, without=("input", "chosen", "rejected")):
            found = _REFUSAL.match(" ".join(text.replace("’", "'").split()).lstrip("\"'“*#> "))
            if found is None or _ABOUT_REFUSING.search(asked(record, kind, name)):
                continue
            if found[0].casefold() not in passage(record).replace("’", "'").casefold():
                return None, "refusal", f"{name}: {quoted(text)}"
        return None, "", ""

    return judged("refusal", records, judge)


def copied_prompt(records: Sequence[Record], *, prompts: Sequence[Prompt], limits: Limits = DEFAULTS) -> Verdicts:
    """Reason copied_prompt: a run of `copied_words` words that is in a prompt's messages and not in the passage.

    Case and marks do not count; the place of a variable breaks a run. Score: words of the longest run, 0 for none."""
    size, prompts = limits.copied_words, (prompts,) if isinstance(prompts, Prompt) else prompts
    parts = [part for prompt in prompts for _, content in prompt.messages for part in _SLOT.split(content)]
    sent = {gram for part in parts for gram in checks.grams(words(part), size)}

    def judge(record: Record, kind: str) -> Finding:
        best, where = 0, ""
        for name, text in texts(record, kind, without=()):
            tokens, run = words(text), 0
            if sent.isdisjoint(checks.grams(tokens, size)):
                continue
            copied = sent.difference(checks.grams(words(passage(record)), size))
            for at, gram in enumerate(checks.grams(tokens, size)):
                run = run + 1 if gram in copied else 0
                if run and run + size - 1 > best:
                    best, where = run + size - 1, f"{name}: “{' '.join(tokens[at - run + 1 : at + size])}”"
        return float(best), "copied_prompt" if best else "", where

    return judged("copied_prompt", records, judge)


def names_passage(records: Sequence[Record]) -> Verdicts:
    """Reason names_passage: a QA's question that points at a passage which its reader will not have. No score.

    "According to the document", "the text above", "this section" always fail; "the passage" fails unless the passage
    has those words itself. Other kinds get no verdict. English only."""

    def judge(record: Record, kind: str) -> Finding:
        for name, text in texts(record, kind, without=("answer",)):
            bare = (m for m in _BARE.finditer(text) if m[0].casefold() not in passage(record).casefold())
            if found := _POINTING.search(text) or next(bare, None):
                return None, "names_passage", f"{name}: “{found[0]}” in {quoted(text, at=found.start())}"
        return None, "", ""

    return judged("names_passage", records if records and one_kind(records).__name__ == "QA" else (), judge)


def placeholder(records: Sequence[Record]) -> Verdicts:
    """Reason unfilled_template: {{x}}, [INSERT, [Name], lorem ipsum left in. Score: how many.

    Not counted: what the passage or the request has too, any where the request (or a text that has none) speaks of
    templates, and what is in the code of a Document."""

    def judge(record: Record, kind: str) -> Finding:
        total, where = 0, ""
        for name, text in texts(record, kind):
            if kind != "QA" and _ABOUT_TEMPLATES.search(asked(record, kind, name) or text):
                continue
            shown = checks.CODE.sub(" ", text) if kind == "Document" else text
            rightly = "".join((passage(record) + asked(record, kind, name)).casefold().split())
            found = [m for m in _PLACEHOLDER.finditer(shown) if "".join(m[0].casefold().split()) not in rightly]
            if found and not where:
                where = f"{name}: “{found[0][0]}” in {quoted(shown, at=found[0].start())}"
            total += len(found)
        return float(total), "unfilled_template" if total else "", where

    return judged("placeholder", records, judge)


def language(records: Sequence[Record], *, limits: Limits = DEFAULTS) -> Verdicts:
    """Reason language: a text in none of the expected languages. Score: their probability in the worst text (0 to 1).

    py3langid (after Lui & Baldwin 2012), restricted to 28 plausible languages and those expected. Undetermined: a text
    with too little prose (`checks.prose`), and one that answers a request that names a language. A text fails when the
    expected languages have less than 0.2 and another one at least 0.5."""

    def judge(record: Record, kind: str) -> Finding:
        lowest = None
        for name, text in texts(record, kind):
            plain = "" if _ABOUT_LANGUAGE.search(asked(record, kind, name)) else checks.prose(text)
            if not plain:
                continue
            chances = checks.language_chances(plain, limits.languages)
            expected, best = sum(chances[code] for code in limits.languages), max(chances, key=chances.__getitem__)
            if expected < 0.2 and chances[best] >= 0.5:
                wanted = " or ".join(limits.languages)
                return expected, "language", f"{name}: {best} rather than {wanted}: {quoted(text)}"
            lowest = min(expected, 1.0 if lowest is None else lowest)
        return lowest, "", ""

    return judged("language", records, judge)


def opening(records: Sequence[Record], *, limits: Limits = DEFAULTS) -> Verdicts:
    """Reason opening_repeated: a row that opens like too many before it. Score: how many of the set open so.

    The opening is the first `opening_words` words of the asking text, in lower case. The first max(max_openings,
    max_opening_share of the records) with one opening pass, in the given order; the others fail."""
    opens = _openings(records, limits.opening_words)
    counts, so_far = Counter(opens.values()), Counter()
    total = max(1, len(by_id(records)))

    def judge(record: Record, kind: str) -> Finding:
        if (start := opens.get(record.id)) is None:
            return None, "", ""
        so_far[start] += 1
        many = float(counts[start])
        if so_far[start] <= limits.max_openings or so_far[start] / total <= limits.max_opening_share:
            return many, "", ""
        return many, "opening_repeated", f"“{start}” opens {counts[start]:,} of {total:,} records"

    return judged("opening", records, judge)


def opening_table(records: Sequence[Record], *, words: int = 4) -> Any:
    """Return a pyarrow table of openings, most frequent first: opening, count, share (of the distinct records)."""
    import pyarrow as pa

    counts = Counter(_openings(records, words).values())
    ranked = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    total = max(1, len(by_id(records)))
    rows = [{"opening": start, "count": count, "share": count / total} for start, count in ranked]
    return pa.Table.from_pylist(rows, pa.schema({"opening": pa.string(), "count": pa.int64(), "share": pa.float64()}))


def _openings(records: Sequence[Record], size: int) -> dict[str, str]:
    """The first words of each record's asking text, by id; records without a text are left out."""
    first = next(iter(TEXTS[one_kind(records).__name__])) if records else ""
    starts = ((record.id, getattr(record, first)) for record in by_id(records).values())
    return {key: start for key, text in starts if not checks.is_blank(text) and (start := " ".join(words(text)[:size]))}


# --- what the checks look for -----------------------------------------------------------------------------------------

_SLOT = re.compile(r"\{\{\w+\}\}")
_AI = (
    r"(?:ai|artificial intelligence|(?:large )?language model|helpful assistant)"
    r"(?: (?:language |text-based )?(?:model|assistant|chatbot|program|ai))?(?: (?:developed|trained|created) by \w+)?"
)
_SORRY = (
    r"(?:(?:i(?:'m| am) (?:\w+ )?(?:sorry|afraid)|sorry|i (?:\w+ )?apologi[sz]e|my apologies|unfortunately|no)[,.;:]? ?"
    r"(?:but |however,? )?)"
)
_CANNOT = r"i(?: can't| cannot| can not| won't| will not|(?: am|'m) (?:unable|not able|not allowed) to)(?: be able to)?"
# What an assistant says it cannot do. People who write "I can't get cash" use other verbs.
_SERVE = (
    r"(?:(?:assist|help)(?: you| with|[.,!]|$)|comply|condone|endorse|fulfil|predict|recommend|suggest"
    r"|(?:provide|create|generate|write|produce|discuss|engage in|promote) (?!my\b|our\b)(?:\w+ ){0,3}(?:content|list|"
    r"opinions?|information|instructions|advice|guidance|assistance|that|this|such|explicit|harmful|illegal)\b"
    r"|(?:do|answer|respond to|complete|continue with) (?:that|this|your (?:question|request))\b)"
)
_REFUSAL = re.compile(
    rf"as an? {_AI},? (?:i\b|my\b|it(?:'s| is) not)"
    rf"|i(?:'m| am) (?:just |only )?an? {_AI}(?=[,.;!]|$| (?:and|so|that|without|designed|trained|created|developed)\b)"
    rf"|{_SORRY}?(?:{_CANNOT} {_SERVE}|i (?:can't|cannot)(?: do (?:that|this))?\W*$)"
    rf"|{_SORRY}{_CANNOT} (?:provide|create|generate|write|answer|access|browse|complete|translate|support)\b"
    rf"|{_SORRY}?i(?: do not| don't|'m not| am not) (?:feel )?comfortable (?:with that|"
    r"(?:provid|generat|mak|creat|discuss|role-?play|writ|attempt|assist|help|answer|engag)ing\b)"
    rf"|{_SORRY}?i (?:do not|don't) (?:actually )?have (?:enough (?:context|information)"
    r"|(?:any |a )?(?:strong |personal )(?:opinion|view|feeling))",
    re.IGNORECASE,
)
_ABOUT_REFUSING = re.compile(r"apolog|\b(?:sorry\b|refus|declin|reject|turn\w* (?:\w+ )?down\b|say(?:ing)? no\b)", re.I)

_NOUN = "(?:passage|text|excerpt|paragraph|section|document|article|context|snippet)"
# "in the text?" and "the text says", but neither "the text field" nor "the passage of the act".
_END = (
    r"(?=\s*(?:[?.,;:!)\"”]|$)|\s+(?:and|or|to|as|for|about|who|what|when|where|which|why|how|is|are|was|were|do|does|did"
    r"|has|can|says?|states?|mentions?|describes?|explains?|suggests?|claims?|gives?|lists?|provides?)\b)"
)
_SAID = "(?:mentioned|described|stated|listed|discussed|given|provided|shown|explained)"
_POINTING = re.compile(
    rf"\b(?:according to|based on|{_SAID} (?:in|by)) (?:the|this|that) (?:given |provided )?{_NOUN}{_END}"
    rf"|\b{_SAID} above\b|\bthis {_NOUN}{_END}|\b(?:the|this) {_NOUN} (?:above|below)\b"
    rf"|\bthe (?:above|given|provided) {_NOUN}\b"
    rf"|\b(?:does|do|did) the (?:author|{_NOUN}) (?:say|state|mention|describe|explain|suggest|claim|discuss)\b",
    re.IGNORECASE,
)
_BARE = re.compile(rf"\bthe (?:passage|excerpt|paragraph|snippet){_END}", re.IGNORECASE)

_ABOUT_LANGUAGE = re.compile(
    r"translat|\blanguages?\b|\b(?:french|german|italian|portuguese|dutch|russian|ukrainian|greek|latin|arabic|hebrew|hindi"
    r"|chinese|korean|czech|hungarian|romanian|norwegian|indonesian|persian|vietnamese|japanese|(?:span|pol|swed|dan|finn"
    r"|turk|engl)ish)\b",
    re.IGNORECASE,
)
_ABOUT_TEMPLATES = re.compile(r"\b(?:templates?|placeholders?|fill(?:ing)?[- ]in|blanks?|lorem ipsum|jinja)\b", re.I)
_WHOSE = (
    r"(?:\w+(?:['’]s)? ){0,2}(?:name|company|date|address|city|e-?mail|phone|number|title|position|employer|recipient|"
    r"signature|product|topic|location|url|link)s?"
)
_PLACEHOLDER = re.compile(
    r"(?<![$}\\^_{])\{\{\s*[\w.]+\s*\}\}|(?i:[\[<]\s*insert\b[^\]>\n]*[\]>]?|\[your [^\]\n]{1,40}\](?!\()"
    rf"|\blorem ipsum\b)|\[(?=[A-Z])(?i:{_WHOSE})\](?![(\[:])"
)
