"""Metrics: how good one row is, from 0 to 1, and what to mend: for optimising and comparing prompts, and as checks.

    metric = metrics.question_metric(prompt)
    metric(row)                                     # 0.83: the value, each part's value, and feedback for the prompt
    check = metrics.as_check(metrics.stands_alone, name="stands_alone", at_least=0.5)

A part judges one thing about one record by rules over words, so that the same row always scores the same and nothing is
asked of a model. Rules can be pleased without being right: read rows before a score is believed. What a part cannot see
stands in its docstring."""

import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from difflib import SequenceMatcher
from functools import cached_property, partial
from numbers import Real

from workbench import embed
from workbench._code import code_fingerprint
from workbench.corpus import Corpus, locate
from workbench.errors import CallFailed, InputError
from workbench.prompts.library import Prompt
from workbench.quality import checks, rules
from workbench.quality.checks import TEXTS, Finding, Verdicts, is_blank, quoted, words
from workbench.quality.support import lexical_support, passage_rank
from workbench.records import QA, Failure, Persona, Record, content_hash, one_kind

# Reasons of a failure that left nothing to read: the answer had no form, or there was no answer.
_UNREAD = frozenset(("parse", "exception", *CallFailed.REASONS))


@dataclass(frozen=True)
class Score:
    """How good, 0 to 1, and below 1 what to mend: one or two imperative sentences that quote what was wrong."""

    value: float
    feedback: str = ""

    def __post_init__(self):
        if not isinstance(self.value, Real) or not 0 <= self.value <= 1:
            raise InputError(f"a score is a number from 0 to 1, got {self.value!r}.")
        object.__setattr__(self, "value", float(self.value))


Part = Callable[[Record], Score]
_FULL = Score(1.0)


@dataclass(frozen=True)
class Scored:
    """A metric's answer: its value, each part's value, and all feedback, a line per part, most weight lost first."""

    value: float
    parts: Mapping[str, float]
    feedback: str = ""

    def __str__(self) -> str:
        return f"{self.value:.2f} ({', '.join(f'{name} {value:.2f}' for name, value in self.parts.items())})"


@dataclass(frozen=True, eq=False, repr=False)
class Metric:
    """The weighted mean of parts, each 0 to 1; a weight is 1 where none is named.

    The part "parsed" is always there, first: 1 for a record, and for a Failure that could be read and was no row (nothing
    to ask, say); 0 where nothing could be read. A Failure scores 0 in all other parts. Calling the metric raises
    InputError when a part raises, or gives no score from 0 to 1: a silent 0 would be optimised away from."""

    parts: Mapping[str, Part]
    weights: Mapping[str, float] = field(default_factory=dict)

    def __post_init__(self):
        object.__setattr__(self, "parts", dict(self.parts))
        object.__setattr__(self, "weights", dict(self.weights))
        if "parsed" in self.parts:
            raise InputError("every metric has a part 'parsed' of its own. Give yours another name.")
        if wrong := [name for name, each in self.parts.items() if not callable(each)]:
            raise InputError(f"metric part {wrong[0]!r} is no function of a record: {self.parts[wrong[0]]!r}.")
        if unknown := [name for name in self.weights if name not in ("parsed", *self.parts)]:
            raise InputError(f"there is no part {unknown[0]!r} to weigh; there are parsed, {', '.join(self.parts)}.")
        for name, weight in self._weights.items():
            if not isinstance(weight, Real) or not 0 <= weight < math.inf:
                raise InputError(f"the weight of {name!r} must be a number from 0 up, got {weight!r}.")
        if not sum(self._weights.values()):
            raise InputError("all weights are 0. Give at least one part a weight.")

    @property
    def _weights(self) -> dict[str, float]:
        return {name: self.weights.get(name, 1.0) for name in ("parsed", *self.parts)}

    def __call__(self, outcome: Record | Failure) -> Scored:
        weights = self._weights
        if isinstance(outcome, Failure):
            values = dict.fromkeys(weights, 0.0) | {"parsed": float(outcome.reason not in _UNREAD)}
            lines = [f"{outcome.reason}: {outcome.detail}"]
        elif isinstance(outcome, Record):
            scores = {name: _scored(name, each, outcome) for name, each in self.parts.items()}
            values = {"parsed": 1.0} | {name: score.value for name, score in scores.items()}
            lost = {name: weights[name] * (1 - score.value) for name, score in scores.items() if score.feedback}
            lines = [f"{name}: {scores[name].feedback}" for name in sorted(lost, key=lambda n: -lost[n]) if lost[name]]
        else:
            raise InputError(f"a metric scores a record or a Failure, got {type(outcome).__name__}.")
        total = sum(weights[name] * value for name, value in values.items())
        return Scored(total / sum(weights.values()), values, "\n".join(lines))

    def asked_by(self, prompt: Prompt) -> "Metric":
        """Return this metric for answers to that prompt: `no_copied_prompt` then knows its words and demonstrations.

        By another version's words the new one could copy its own for nothing."""
        if "no_copied_prompt" not in self.parts:
            return self
        return replace(self, parts={**self.parts, "no_copied_prompt": no_copied_prompt(prompt)})

    @property
    def name(self) -> str:
        """What is added up: "parsed + 2 evidence_found + ..."."""
        return " + ".join(name if weight == 1 else f"{weight:g} {name}" for name, weight in self._weights.items())

    @cached_property
    def content_id(self) -> str:
        """The hash of names, weights and code: a score is comparable with one of the same metric only."""
        code = code_fingerprint(partial(Metric.__call__, list(self.parts.items())))  # type: ignore[arg-type]
        return content_hash([list(self._weights.items()), code])

    def __repr__(self) -> str:
        return f"Metric({self.name})"


def _scored(name: str, each: Part, record: Record) -> Score:
    """The part's score. Raises InputError that names the part for whatever is none."""
    what = f"part {name!r}, asked about {type(record).__name__} {record.id},"
    try:
        score = each(record)
    except Exception as error:
        raise InputError(f"{what} raised {type(error).__name__}: {error}. Mend it, or leave it out.") from error
    if not isinstance(score, Score):
        raise InputError(f"{what} gave {score!r:.80}; it must give a Score(value, feedback).")
    return score


def as_check(part: Part, *, name: str, at_least: float) -> Callable[[Sequence[Record]], Verdicts]:
    """Return a quality check: a record fails, for the reason `name`, where the part's score is below `at_least`.

    The verdict's score is the part's, its detail the feedback. Raises InputError when `at_least` is not in (0, 1]."""
    if not 0 < at_least <= 1:
        raise InputError(f"at_least must be above 0 and at most 1, got {at_least}.")

    def judge(record: Record, _: str) -> Finding:
        score = _scored(name, part, record)
        return (score.value, "", "") if score.value >= at_least else (score.value, name, score.feedback)

    return lambda records: checks.judged(name, records, judge)


def question_metric(prompt: Prompt) -> Metric:
    """Return the metric for rows that a prompt such as rag/question makes of passages.

    Weight 2 have the parts whose loss makes a row wrong or useless: a quotation that is not there, an answer that nothing
    proves, a question that nobody can answer without the page or that is none. What makes a row poor has weight 1."""
    parts = {
        "evidence_found": evidence_found, "answer_supported": answer_supported, "stands_alone": stands_alone,
        "is_question": is_question, "no_copied_prompt": no_copied_prompt(prompt), "length_fits": length_fits,
    }  # fmt: skip
    return Metric(parts, dict.fromkeys(("evidence_found", "answer_supported", "stands_alone", "is_question"), 2.0))


def persona_metric(prompt: Prompt) -> Metric:
    """Return the metric for people that a prompt such as persona/from_text describes; `specific`, the point of it, twice."""
    parts = {
        "specific": specific, "no_real_names": no_real_names, "distinct_from": distinct_from(),
        "no_copied_prompt": no_copied_prompt(prompt), "length_fits": length_fits,
    }  # fmt: skip
    return Metric(parts, {"specific": 2.0})


# --- any record -------------------------------------------------------------------------------------------------------


def length_fits(record: Record) -> Score:
    """1 where each text has as many words as `TEXTS` allows, as in `rules.length`; else by how far the worst is off.

    Half as many words as the least give 0.5, and so do twice as many as the most; no text gives 0."""
    worst = _FULL
    for name, (least, most) in TEXTS[type(record).__name__].items():
        text = getattr(record, name)
        if is_blank(text):
            if checks.may_be_missing(record, name):
                continue
            return Score(0.0, f"Write the {name}: there is none.")
        count = len(words(text)) or len(text.split())
        value = min(1.0, count / least, most / count)
        if value < worst.value:
            wanted = f"at least {least}" if count < least else f"at most {most}"
            worst = Score(value, f"Give the {name} {wanted} words; {quoted(text)} has {count:,}.")
    return worst


def no_copied_prompt(prompt: Prompt) -> Part:
    """Return the part that is 0 where a text has a run of 8 words from the prompt's messages that are not in the passage.

    It knows this prompt only: `Metric.asked_by` puts the one in that was asked."""

    def part(record: Record) -> Score:
        found = rules.copied_prompt([record], prompts=[prompt])[0]
        return _FULL if found.passed else Score(0.0, f"Do not repeat the prompt's own words, as in {found.detail}.")

    return part


# --- a question, its answer and its evidence --------------------------------------------------------------------------


def evidence_found(record: QA) -> Score:
    """0 unless the evidence is two words or more that stand in the passage (`corpus.locate`); then 1, less above 60 words.

    A near miss gets no credit, for the row is lost all the same; the feedback shows where it departs from the passage. A
    quotation of the whole passage would prove anything: one of n words above 60 gets 60 / n. An unanswerable question
    has no evidence, and full marks."""
    if not record.is_answerable:
        return _FULL
    if is_blank(record.evidence):
        return Score(0.0, "Quote the words of the passage that prove the answer: there is no evidence.")
    evidence, passage = record.evidence.strip(), record.passage.text
    if locate(evidence, passage) is None:
        departure = _departure(evidence, passage)
        return Score(0.0, f"Copy the evidence from the passage character for character: {departure}.")
    count = len(words(evidence.replace("-", " ")))
    if count < 2:
        return Score(0.0, f"Quote enough to prove the answer; one word, {quoted(evidence)}, proves nothing.")
    if count > _LONGEST_EVIDENCE:
        return Score(
            _LONGEST_EVIDENCE / count, f"Quote one or two sentences, and not {count:,} words: {quoted(evidence)}."
        )
    return _FULL


_LONGEST_EVIDENCE = 60


def _departure(evidence: str, passage: str) -> str:
    """Where the quotation stops being the passage's text, for a reader."""
    match = SequenceMatcher(None, evidence, passage, autojunk=False).find_longest_match()
    if match.size < min(20, len(evidence) / 4):
        return f"nothing like {quoted(evidence)} stands there"
    at = match.a + match.size if match.a + match.size < len(evidence) else match.a
    meant = quoted(passage, at=match.b - match.a + at, width=60)
    return f"it says {quoted(evidence, at=at, width=60)} where the passage has {meant}"


def answer_supported(record: QA) -> Score:
    """The share of the answer's content words that the evidence holds, words of the question aside (`lexical_support`).

    By the evidence and not by the whole passage, since the evidence has to prove the answer alone. Evidence that is not in
    the passage earns nothing: where the passage holds fewer of these words, its share counts. Words of the question are
    neither for nor against, unless the answer has no others ("a hose or a bucket?"). It sees words and no claims: a denial
    of what the evidence says scores 1."""
    if not record.is_answerable:
        return _FULL
    if is_blank(record.answer) or is_blank(record.evidence):
        return Score(0.0, "Give an answer, and the evidence for it.")
    evidence, passage = (
        _share_beyond(record.question, record.answer, it) for it in (record.evidence, record.passage.text)
    )
    value = min(evidence, passage)
    if value == 1:
        return _FULL
    source, name = (record.evidence, "evidence") if evidence <= passage else (record.passage.text, "passage")
    held = set(words(f"{record.question}\n{source}"))
    told = (word for word in dict.fromkeys(record.answer.split()) if lexical_support(word, word))
    shown = " ".join(word for word in told if held.isdisjoint(words(word))) or record.answer
    return Score(
        value, f"Answer {quoted(record.question)} with what the {name} says alone: it does not hold {quoted(shown)}."
    )


def _share_beyond(question: str, answer: str, source: str) -> float:
    """The share of the answer's content words that the source holds, of those that are not in the question."""
    known = lexical_support(answer, question)
    if known is None:  # a sign such as "->", or a bare yes
        return float(locate(answer, source) is not None)
    if known == 1:
        return lexical_support(answer, source)  # type: ignore[return-value]
    return (lexical_support(answer, f"{question}\n{source}") - known) / (1 - known)  # type: ignore[operator]


def stands_alone(record: QA) -> Score:
    """How well the question can be understood without its passage, 0 to 1.

    0 where it points at "the passage" (`rules.names_passage`). Else half a point for each content word that the passage
    has too, up to two: a question that shares none says nothing of what it is about. Halved where "these", "their", "she"
    and the like come before any such word. English only; a lone "it" is let pass ("Why is it better to ...")."""
    if is_blank(record.question):
        return Score(0.0, "Write a question: there is none.")
    if failed := rules.names_passage([record]).failed:
        return Score(
            0.0, f"Ask so that it makes sense without the passage, unlike {failed[0].detail}. Name the thing itself."
        )
    question, held = record.question.replace("’", "'").lower(), set(words(record.passage.text))
    named = [word for word in dict.fromkeys(words(question)) if word in held and lexical_support(word, word)]
    value = min(1.0, len(named) / 2)
    feedback = (
        "" if value == 1 else f"Name what the question is about in the passage's words: {quoted(record.question)}."
    )
    if (dangling := _DANGLING.search(question)) and not (named and question.find(named[0]) < dangling.start()):
        value /= 2
        feedback = f"Say what “{dangling[0]}” stands for in {quoted(record.question)}."
    return Score(value, feedback)


_DANGLING = re.compile(r"\b(?:this|these|those|they|them|their|he|him|his|she|her|such)\b")


def is_question(record: QA) -> Score:
    """1 for one question about something definite; 0.5 for several at once, and for one that asks for anything there is
    ("What is said about ..."); 0 for a gap to fill, and for what does not end with a question mark. The third in English
    only."""
    question = "" if is_blank(record.question) else record.question.strip()
    if gap := _GAP.search(question):
        return Score(0.0, f"Ask a question rather than set a gap to fill: {quoted(question, at=gap.start())}.")
    if not re.search(r"[?？؟][\"'”’»)*`]*$", question):
        return Score(0.0, f"Ask a question that ends with a question mark, unlike {quoted(question)}.")
    if len(re.findall(r"[?？؟](?!\w)[\"'”’»)*`]*(?:\s|$)", question)) > 1:
        return Score(0.5, f"Ask one thing, and not several: {quoted(question)}.")
    if _ANYTHING.search(question):
        return Score(0.5, f"Ask for one specific thing that the passage states, unlike {quoted(question)}.")
    return _FULL


_GAP = re.compile(r"_{3,}|(?<!\w)__(?!\w)|\[(?:blank|mask|\.{3}|…)\]", re.IGNORECASE)  # and not the __init__ of Python
_ANYTHING = re.compile(
    r"\bwhat (?:is|was|are|were|has been|can be|information is) (?:said|written|stated|mentioned|known|discussed|there|given"
    r"|provided) (?:about|on|of|regarding)\b"
    r"|\bwhat (?:should|can|could|do|must) (?:one|i|we|you|people|users|readers) (?:know|say|learn) (?:about|of|regarding)\b"
    r"|\b(?:can|could|would|will) (?:you|somebody|anybody) (?:please )?(?:tell|explain|say|share|describe)\b.{0,80} about\b"
    r"|^(?:please )?tell (?:me|us)\b.{0,80} about\b|^what about\b|\bis there (?:anything|something|any information) (?:on|about)\b"
    r"|\bmain (?:topic|idea|subject|theme|purpose of the (?:text|passage|section))\b",
    re.IGNORECASE,
)


def retrievable(corpus: Corpus) -> Part:
    """Return the part that scores a question by 1 / the rank at which BM25 finds its passage in the corpus, 0 beyond 10.

    Kept out of `question_metric`: it also rewards questions that copy the passage's words, which teach a retriever
    little. Raises InputError, when asked, for a passage that the corpus does not hold."""
    spans = frozenset(chunk.passage.span for chunk in corpus.chunks)

    def part(record: QA) -> Score:
        if record.passage.span not in spans:
            raise InputError(f"{corpus} does not hold the passage at {record.passage.span}")
        if (rank := passage_rank(record, corpus)) == 1:
            return _FULL
        found = [chunk.text for chunk in corpus.search(record.question, 1)]
        instead = f"a search finds {quoted(found[0])} first" if found else "a search finds no passage at all"
        feedback = f"Name in the question what tells its passage from others: for {quoted(record.question)} {instead}."
        return Score(1 / rank if rank else 0.0, feedback)

    return part


# --- an invented person -----------------------------------------------------------------------------------------------


def specific(record: Persona) -> Score:
    """How much is said of a person, 0 to 1: the mean of a role, a setting, a concern, and 15 to 50 words.

    The role counts where the noun after "A" says more than "person" or "user"; the setting where the role has a place ("in
    a", "at the"), or a verb of living or working has one; the concern grows with the content words of its clause ("who",
    "whose", "trying to", the second sentence), 5 being enough, mere interest aside. English only, and patterns: it cannot
    tell a telling detail from an idle one."""
    text = " ".join(record.text.split())
    clause = _CLAUSE.search(text)
    head, told = (text[: clause.start()], text[clause.start() :]) if clause else (text, "")
    noun = re.match(r"an? .*?([\w'’-]+)(?:$|[,;:]| (?:in|at|on|of|for|with|from|near|to|by)\b| *$)", head[:300], re.I)
    concern = {word for word in words(told) if lexical_support(word, word) and not _INTEREST.match(word)}
    count = len(words(text))
    values = {
        f"an occupation or role, not {quoted(head.strip(), width=40)}": float(bool(noun and noun[1] not in _ANYBODY)),
        "the setting they work or live in": float(bool(_PLACE.search(head) or _WORKING.search(text))),
        "one concern, habit or goal": min(1.0, len(concern) / 5),
        f"15 to 50 words rather than {count}": min(1.0, count / 15, 50 / max(1, count)),
    }
    missing = [name for name, value in values.items() if value < 1]
    feedback = f"Say more of this person than {quoted(text)}: {'; '.join(missing)}." if missing else ""
    return Score(sum(values.values()) / len(values), feedback)


_CLAUSE = re.compile(
    r"\b(?:who(?:se|m)?|that|which|worried|keen|determined|passionate|interested|trying|looking|seeking|hoping|struggling)\b"
    r"|[.!](?: |$)",
    re.IGNORECASE,
)
_ANYBODY = frozenset(
    "person individual someone somebody man woman human people user reader writer critic practitioner guy lady adult "  # noqa: SIM905
    "member fan expert professional enthusiast character customer consumer citizen".split()
)
_INTEREST = re.compile(r"(?:interest|passion|enjoy|lik(?:e|ing)|lov(?:e|ing)|curious|want|know|learn|keen|fascinat)")
_PLACE = re.compile(r"\b(?:in|at|on|from|near|within|outside|along|across|around) \w", re.I)
_WORKING = re.compile(
    r"\b(?:work|liv|bas|run|teach|volunteer|serv|manag|farm|stud|employ|own)(?:s|es|ed|ing|ies|ying)?\b"
    r"(?: [\w'’-]+){0,4}? (?:in|at|on|for|from|near|within|outside|along|across|around|out of) \w",
    re.IGNORECASE,
)


def no_real_names(record: Persona) -> Score:
    """1 where no personal name, company or address shows; 0 for a sure sign of one, 0.5 for a likely one.

    Sure: an e-mail or web address, "Dr. Smith", "named Ana", "Ana is a ...", "Acme Ltd". Likely: two capitalised words in a
    row where no place is ("in New York"), and one after "at" or "works for". A single first name elsewhere, or a name in
    small letters, goes unseen; the World War of a historian is taken for a name. English only."""
    text = " ".join(record.text.split())
    sure = _SURE_NAME.search(text)
    if (found := sure or _likely_name(text)) is None:
        return _FULL
    feedback = f"Describe an invented person, and name no people or companies; leave out {quoted(found[0].strip())}."
    return Score(0.0 if sure else 0.5, feedback)


# Nothing is matched twice over (++, bounds): a text of one endless word must not take for ever.
_CAPITALISED = r"\b(?!(?:An|The|She|He|They|It|This|Her|His|Their|In|At|As|When|With|After|Although|Having)\b)[A-Z](?=\w*[a-z])\w++"
_SURE_NAME = re.compile(
    r"[\w.+-]{1,64}@[\w-]{1,64}\.\w|\b[a-z]{2,6}://\S|\bwww\.\w|(?<!\w)@\w"
    rf"|\b(?:Mr|Mrs|Ms|Dr|Prof|Professor|Sir|Lady)\.? {_CAPITALISED}"
    rf"|\b(?:[Nn]amed|called|by the name of|alias) [\"“']?{_CAPITALISED}"
    rf"|^{_CAPITALISED}(?: {_CAPITALISED})*(?:,| is\b| was\b| has\b| works\b| lives\b)"
    r"|\b[A-Z][\w&]*+,? (?:Inc|Ltd|LLC|GmbH|Corp|Corporation|Limited|plc|& Co)\b"
)
_TWO_CAPITALISED = re.compile(rf"{_CAPITALISED}(?: [A-Z]\.)? {_CAPITALISED}")
_TO_A_PLACE = re.compile(r"\b(?:in|from|near|around|outside|across)(?: the)? $", re.IGNORECASE)
_EMPLOYER = re.compile(rf"\b(?:at|works? for|working for|worked for|employed by) {_CAPITALISED}")


def _likely_name(text: str) -> re.Match[str] | None:
    pairs = (found for found in _TWO_CAPITALISED.finditer(text) if not _TO_A_PLACE.search(text[: found.start()]))
    return next(pairs, None) or _EMPLOYER.search(text)


# What models tend to write when they are asked for a person; written for this list.
OVERUSED = (
    "A software engineer who is passionate about building scalable applications and learning new technologies.",
    "A data scientist who enjoys finding insights in large datasets and applying machine learning.",
    "A high school teacher who is dedicated to helping students reach their full potential.",
    "A small business owner who wants to grow the business and reach more customers.",
    "A busy working mother who tries to balance her career and her family life.",
    "A university student who is preparing for exams and wants to understand the subject better.",
    "A researcher who studies the topic and wants to stay up to date with the latest developments.",
    "A journalist who writes about current events and social issues.",
    "A retired person who enjoys gardening, reading and spending time with grandchildren.",
    "An environmental activist who is concerned about climate change and sustainability.",
    "A project manager who coordinates a team and makes sure that deadlines are met.",
    "A person who is interested in the topic and wants to learn more about it.",
)
_UNRELATED = 0.25  # nine in ten of 4,775 personas of Persona Hub are less like the nearest of these


def distinct_from(references: Sequence[str] = OVERUSED) -> Part:
    """Return the part that scores a record's asking text by 1 - its similarity to the closest reference, 0 to 1.

    Similarity is the cosine of `embed`'s hashing vectors, from what unrelated texts have (0.25 or less, which gives 1) to
    equal ones (0): it sees shared words and not a shared idea. Raises InputError when there are no references."""
    if isinstance(references, str) or not references:
        raise InputError(f"references must be a list of one text or more, got {references!r}.")
    references = tuple(references)
    known = embed.texts(references)

    def part(record: Record) -> Score:
        similar = embed.similarity(embed.texts([_asking(record)]), known)[0]
        return _distinctness(record, float(similar.max()), references[int(similar.argmax())])

    return part


def distinct(records: Sequence[Record]) -> list[Score]:
    """Return for each record how far it is from its nearest neighbour in the set, as in `distinct_from`, in their order.

    A record that is there twice scores 0 twice, one alone 1. All records are of one kind."""
    if not records:
        return []
    one_kind(records)
    texts = [_asking(record) for record in records]
    vectors = embed.texts(texts)
    scores = []
    for at, record in enumerate(records):
        similar = embed.similarity(vectors[at], vectors)
        similar[at] = -1.0
        nearest = int(similar.argmax())
        scores.append(_distinctness(record, float(similar[nearest]), texts[nearest]))
    return scores


def _asking(record: Record) -> str:
    return getattr(record, next(iter(TEXTS[type(record).__name__])))


def _distinctness(record: Record, similarity: float, other: str) -> Score:
    value = min(1.0, (1 - round(similarity, 6)) / (1 - _UNRELATED))  # single precision: equal texts come out below 1
    feedback = f"Write something unlike {quoted(other)}; {quoted(_asking(record))} is too near to it."
    return Score(max(0.0, value), feedback if value < 1 else "")
