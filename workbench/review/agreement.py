"""Agreement: how far people agree with each other and with a judge, what they say together, and what is left open.

    found = agreement.measure(responses, questions=questions.of(QA), judge=judged, clusters=cluster_of)
    queue = agreement.adjudication(responses)                        # where they disagree, most disputed first
    agreed = agreement.consensus(responses, method="dawid_skene")    # what they say together; ties stay ties
    run.mark(agreed.verdicts({"supported": "yes", "useful": 3}))
    agreement.needed(found.of("supported").alpha, width=0.2)         # how many more records to have answered

Submitted answers count, drafts and discarded ones do not. Answers that are texts are not compared, where `questions` say
which those are; a choice of several agrees with the same choice alone, a ranking with the same order alone, and a rating
by its distance on an ordinal scale wherever alpha is meant. Intervals are 95% bootstrap intervals over records, or over
the `groups` of records that are alike, such as those of one document, resampled whole."""

import itertools
import math
import warnings
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from statistics import NormalDist, fmean, median
from typing import Any

from workbench import intervals
from workbench._html import card, html_table, text_table
from workbench.errors import InputError, require
from workbench.intervals import FEW, Interval
from workbench.quality.agreement import SWAPPED, alpha, fleiss_kappa, kappa, majority
from workbench.quality.biases import share, shown
from workbench.quality.checks import TEXTS, Verdicts
from workbench.records import ImagePair, Label, Preference, Provenance, Rating, Record, Verdict, Vote, by_id
from workbench.review._wire import Suggestion
from workbench.review.questions import Question, text_ids
from workbench.review.responses import Response, Responses, now

_METHODS = {"majority": "majority", "weighted": "weighted majority", "dawid_skene": "Dawid and Skene"}
RELIABLE, TENTATIVE = 0.8, 0.667  # Krippendorff 2004, Content Analysis, ch. 11: what alpha asks of data to rest on
REJECTED, UNDECIDED = "rejected", "undecided"  # the reasons of verdicts
_EQUAL = 1e-6  # sums of weights, and probabilities, that are no more apart are equal
_STEPS = 100
_SHOWN = 20


@dataclass(frozen=True)
class _Question:
    """One question's answers: {record: {person: value}}, in the order they came."""

    name: str
    kind: str
    answers: dict[str, dict[str, Any]]

    @property
    def is_rating(self) -> bool:
        return self.kind == "rating"

    @property
    def people(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(person for given in self.answers.values() for person in given))

    @cached_property
    def span(self) -> float:
        """How far the lowest rating is from the highest."""
        values = [value for given in self.answers.values() for value in given.values()]
        return (max(values) - min(values)) if self.is_rating and values else 0.0


def _asked(responses: Iterable[Response], questions: Sequence[Question]) -> list[_Question]:
    """The answers to each question that can be compared, as `questions` order them, else in the order they came."""
    known = {each.name: each for each in questions}
    given: dict[str, dict[str, dict[str, Any]]] = {name: {} for name in known}
    for each in responses:
        if each.status == "submitted" and each.value is not None:
            value = each.value
            if each.question in known and known[each.question].kind == "multi_label":
                value = tuple(sorted(value))  # the same choice, in whatever order it was clicked
            given.setdefault(each.question, {}).setdefault(each.record_id, {})[each.annotator] = value
    found = []
    for name, answers in given.items():
        values = [value for of_record in answers.values() for value in of_record.values()]
        numbers = sum(isinstance(value, int | float) for value in values)
        kind = known[name].kind if name in known else "rating" if values and numbers == len(values) else "label"
        if kind == "rating" and numbers < len(values):
            odd = next(value for value in values if not isinstance(value, int | float))
            raise InputError(f"{name!r} is a rating, and {odd!r} is no number. Give the questions that were asked.")
        if values and kind != "text":
            found.append(_Question(name, kind, answers))
    return found


def _distance(question: _Question, a: Any, b: Any) -> float:
    """0 for the same answer to 1 for the furthest one; answers that are no ratings are the same or not."""
    if not question.is_rating:
        return float(a != b)
    return abs(a - b) / question.span if question.span else 0.0


def _central(question: _Question, values: Sequence[Any]) -> Any:
    """What these say together: the median of ratings, else the answer that most give, None where no single one is."""
    return (median(values) if values else None) if question.is_rating else majority(values)


# --- how far they agree -----------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Agreed:
    """How far people agree on one question, over all records or those of one `cluster`.

    `records`, of so many `groups`, have answers of two `people` or more. `same` is how often two of them give the same answer, `alpha`
    Krippendorff's (ordinal for ratings), `kappa` Cohen's of two people, else Fleiss' over the records that most answered.
    `person` is how often a person answers as the majority of the others, `judge` how often the judge answers as the
    majority, or the median of ratings, `difference` how much more often than a person on the same records. `judge_kappa` is Cohen's with the majority,
    `judge_alpha` Krippendorff's with the majority, or with the median of ratings. None where it is not defined: too few
    records, answers that are all the same, no judge."""

    question: str
    cluster: str
    records: int
    groups: int
    people: tuple[str, ...]
    same: Interval | None = None
    alpha: Interval | None = None
    kappa: Interval | None = None
    person: Interval | None = None
    judge: Interval | None = None
    difference: Interval | None = None
    judge_kappa: Interval | None = None
    judge_alpha: Interval | None = None

    @property
    def reading(self) -> str:
        """What Krippendorff reads from alpha, at the low end of its interval."""
        if self.alpha is None:
            return "not known"
        if self.groups < FEW:
            return f"{self.groups} {'records' if self.groups == self.records else 'groups'} are too few to tell"
        low = self.alpha.low
        return "reliable" if low >= RELIABLE else "tentative" if low >= TENTATIVE else "not shown to be reliable"


@dataclass(frozen=True)
class Between:
    """How far two people agree on one question: how often they give the `same` answer, and Cohen's `kappa`."""

    question: str
    first: str
    second: str
    same: Interval | None
    kappa: Interval | None


@dataclass(frozen=True, repr=False)
class Agreements(Sequence[Agreed]):
    """Agreement per question, and per cluster where there are some; prints itself. `left_out` says what did not count."""

    items: tuple[Agreed, ...]
    judge: str = ""
    left_out: Mapping[str, int] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.items)

    def __iter__(self) -> Iterator[Agreed]:
        return iter(self.items)

    def __getitem__(self, at: Any) -> Any:
        return self.items[at]

    def of(self, question: str, cluster: str = "") -> Agreed:
        """Return the agreement on a question, over all records or in one cluster. Raises InputError where there is none."""
        for each in self.items:
            if (each.question, each.cluster) == (question, cluster):
                return each
        names = ", ".join(
            dict.fromkeys(f"{each.question} in {each.cluster}" if each.cluster else each.question for each in self)
        )
        raise InputError(f"nobody was asked {question!r}{f' in {cluster!r}' if cluster else ''}; there are {names}.")

    @property
    def sentence(self) -> str:
        """The result in one sentence."""
        said = [
            f"{each.question} {_in_words(each.alpha)}, {each.reading}" if each.alpha else f"{each.question} not known"
            for each in self.items
            if not each.cluster
        ]
        return f"How far people agree (Krippendorff's alpha, 1 is fully, 0 as by chance): {'; '.join(said)}."

    def _table(self) -> tuple[list[str], list[list[str]]]:
        with_clusters, of = any(each.cluster for each in self.items), lambda found: shown(found) if found else ""
        columns = ["question", *(["cluster"] if with_clusters else []), "records", "people", "same answer", "alpha"]
        columns += ["kappa", "person with others"]
        columns += [f"{self.judge} with people", "kappa", "alpha"] if self.judge else []
        rows = []
        for each in self.items:
            row = [each.question, *([each.cluster or "all"] if with_clusters else [])]
            row += [f"{each.records:,}", f"{len(each.people):,}", of(each.same), _in_words(each.alpha)]
            row += [_in_words(each.kappa), of(each.person)]
            row += [of(each.judge), _in_words(each.judge_kappa), _in_words(each.judge_alpha)] if self.judge else []
            rows.append(row)
        return columns, rows

    @property
    def _note(self) -> str:
        counted = [f"{what}: {count:,}" for what, count in self.left_out.items() if count]
        return f"Left out: {'; '.join(counted)}." if counted else ""

    def __repr__(self) -> str:
        return "\n\n".join(filter(None, [self.sentence, text_table(*self._table(), width=60), self._note]))

    def _repr_html_(self) -> str:
        return card("Agreement", self.sentence, html_table(*self._table(), note=self._note))


def _in_words(found: Interval | None) -> str:
    return f"{found.value:.2f} ({found.low:.2f} to {found.high:.2f})" if found else ""


def measure(
    responses: Responses,
    *,
    questions: Sequence[Question] = (),
    judge: Iterable[Suggestion] = (),
    clusters: Mapping[str, str] | None = None,
    groups: Mapping[str, str] | None = None,
    seed: int = 0,
) -> Agreements:
    """Return how far people agree on each question, with each other and with a judge, over all records and per cluster.

    `judge` is what one judge answers (`judged` makes that of its ratings, votes or verdicts);
    `clusters` and `groups` are {record id: name}. Where `questions` are not given, numbers are ratings, all else labels.
    Raises InputError where nobody submitted anything, for several judges, and for a judge who is among the people."""
    asked = _asked(responses, questions)
    if not asked:
        raise InputError("no answer was submitted. Drafts do not count: submit them, or pull the answers again.")
    its, judges = _of_judge(judge, responses.annotators)
    group_of, found, alone, unjudged = groups or {}, [], 0, 0
    for question in asked:
        of_judge = its.get(question.name, {})
        alone += sum(len(given) < 2 for given in question.answers.values())
        unjudged += sum(record not in of_judge for record in question.answers) if its else 0
        by_cluster: dict[str, list[str]] = {"": list(question.answers)}
        for record in question.answers if clusters else ():
            by_cluster.setdefault((clusters or {}).get(record) or "in no cluster", []).append(record)
        for cluster, records in by_cluster.items():
            cases = [(group_of.get(each, each), question.answers[each], of_judge.get(each)) for each in records]
            found.append(_agreed(question, cluster, cases, seed))
    statuses = Counter(each.status for each in responses if each.value is not None or each.status == "discarded")
    left_out = {
        "drafts": statuses["draft"], "discarded answers": statuses["discarded"],
        "answers that nobody else gave one beside": alone, "answered records without the judge's": unjudged,
    }  # fmt: skip
    return Agreements(tuple(found), " and ".join(judges) or ("judge" if its else ""), left_out)


def _of_judge(judge: Iterable[Suggestion], people: Sequence[str]) -> tuple[dict[str, dict[str, Any]], list[str]]:
    """{question: {record: what the judge says}}, and its name, or names where each question has another."""
    found: dict[str, dict[str, Any]] = {}
    names: dict[str, set[str]] = {}
    for each in judge:
        found.setdefault(each.question, {})[each.record_id] = each.value
        names.setdefault(each.question, set()).add(each.agent)
    for question, of in names.items():
        if len(of) > 1:
            raise InputError(f"{question!r} is answered by {', '.join(sorted(of))}. Give what one judge says.")
        if of & {*people}:
            raise InputError(
                f"{min(of)} is among the people that it is compared with. Give people's own answers alone."
            )
    return found, sorted(set().union(*names.values()) - {""})


def between(
    responses: Responses,
    *,
    questions: Sequence[Question] = (),
    groups: Mapping[str, str] | None = None,
    seed: int = 0,
) -> tuple[Between, ...]:
    """Return how far each two people agree on each question, over the records that both answered."""
    found = []
    for question in _asked(responses, questions):
        for first, second in itertools.combinations(question.people, 2):
            both = {record: given for record, given in question.answers.items() if {first, second} <= given.keys()}
            names = [(groups or {}).get(record, record) for record in both]
            a, b = ([given[person] for given in both.values()] for person in (first, second))
            same = [float(x == y) for x, y in zip(a, b, strict=True)]
            found.append(Between(question.name, first, second, _mean(same, names), _cohen(a, b, names, seed)))
    return tuple(found)


def _agreed(question: _Question, cluster: str, cases: Sequence[tuple[str, dict[str, Any], Any]], seed: int) -> Agreed:
    """The agreement on these cases, (group, {person: value}, the judge's value or None) each."""
    several = [(group, given) for group, given, _ in cases if len(given) > 1]
    groups, values = [group for group, _ in several], [list(given.values()) for _, given in several]
    people = tuple(dict.fromkeys(person for _, given, _ in cases for person in given))
    same = [fmean(float(a == b) for a, b in itertools.combinations(each, 2)) for each in values]
    left_out = [
        (group, given[person] == best, said if said is None else said == best)
        for group, given, said in cases
        for person in given
        if (best := majority(value for other, value in given.items() if other != person)) is not None
    ]
    both = [each for each in left_out if each[2] is not None]
    centres = [
        (group, said, best)
        for group, given, said in cases
        if said is not None and (best := _central(question, list(given.values()))) is not None
    ]
    judge_groups = [group for group, _, _ in centres]
    its, theirs = ([each[at] for each in centres] for at in (1, 2))
    return Agreed(
        question=question.name,
        cluster=cluster,
        records=len(several),
        groups=len(set(groups)),
        people=people,
        same=_mean(same, groups),
        alpha=_alpha(values, groups, question.is_rating, seed),
        kappa=_kappa(several, seed),
        person=share([hit for _, hit, _ in left_out], [group for group, _, _ in left_out]),
        judge=share([a == b for a, b in zip(its, theirs, strict=True)], judge_groups),
        difference=_difference(both),
        judge_kappa=None if question.is_rating else _cohen(its, theirs, judge_groups, seed),
        judge_alpha=_alpha([[a, b] for a, b in zip(its, theirs, strict=True)], judge_groups, question.is_rating, seed),
    )


def _mean(values: Sequence[float], groups: Sequence[str]) -> Interval | None:
    """The mean of shares; as `share` where all are 0 or 1, None for fewer than two groups."""
    if set(values) <= {0.0, 1.0}:
        return share([bool(value) for value in values], groups)
    return intervals.mean(values, groups=groups) if len(set(groups)) > 1 else None


def _difference(both: Sequence[tuple[str, bool, bool]]) -> Interval | None:
    if len({group for group, _, _ in both}) < 2:
        return None
    groups, person, judge = zip(*both, strict=True)
    return intervals.paired(list(map(float, person)), list(map(float, judge)), groups=groups)


def _alpha(values: Sequence[Sequence[Any]], groups: Sequence[str], is_ordinal: bool, seed: int) -> Interval | None:
    labels = _labels(itertools.chain.from_iterable(values))
    if len(set(groups)) < 2 or len(labels) < 2:
        return None
    counts = [[each.count(label) for label in labels] for each in values]
    return alpha(counts, groups, seed, is_ordinal=is_ordinal)


def _kappa(several: Sequence[tuple[str, dict[str, Any]]], seed: int) -> Interval | None:
    """Cohen's kappa of two people, Fleiss' of more, over the records that have as many answers as most have."""
    people = list(dict.fromkeys(person for _, given in several for person in given))
    if len(people) == 2:
        a, b = ([given[person] for _, given in several] for person in people)
        return _cohen(a, b, [group for group, _ in several], seed)
    sizes = Counter(len(given) for _, given in several)
    size = max(sizes, key=lambda each: (sizes[each], each), default=0)
    full = [(group, list(given.values())) for group, given in several if len(given) == size]
    labels = _labels(value for _, values in full for value in values)
    if len({group for group, _ in full}) < 2 or len(labels) < 2:
        return None
    counts = [[values.count(label) for label in labels] for _, values in full]
    return fleiss_kappa(counts, [group for group, _ in full], seed)


def _cohen(a: Sequence[Any], b: Sequence[Any], groups: Sequence[str], seed: int) -> Interval | None:
    """Cohen's kappa of two lists of answers; None where it is not defined."""
    labels = _labels([*a, *b])
    if len(set(groups)) < 2 or len(labels) < 2:
        return None
    names = {label: f"{at}" for at, label in enumerate(labels)}  # answers may be sets, which are no labels to a library
    return kappa([names[each] for each in a], [names[each] for each in b], groups, seed, list(names.values()))


def _labels(values: Iterable[Any]) -> list[Any]:
    """The different answers, numbers in their order."""
    found = list(dict.fromkeys(values))
    return sorted(found) if all(isinstance(each, int | float) for each in found) else found


def judged(
    rows: Iterable[Rating | Vote | Verdict], records: Iterable[Record], *, question: str = ""
) -> list[Suggestion]:
    """Return what a judge says of these records as answers to the questions that people were asked, other records left out.

    A rating answers the question of its dimension, of one of a preference's two texts that with "_first" or "_second" after
    it; a verdict that of its check, yes where it passed, else no; a vote "better". Of votes on two texts in both orders that in
    the order that people see counts. `question` names another one."""
    known = by_id(records)
    sides: dict[str, list[tuple[str, str]]] = {}
    for key, record in known.items():
        if isinstance(record, Preference | ImagePair):
            for text, place in zip(text_ids(record), ("first", "second"), strict=True):
                sides.setdefault(text, []).append((key, place))
    found, as_shown, turned = [], set(), set()
    for row in rows:
        match row:
            case Rating(subject=subject, value=float(value)) if subject in known:
                found.append(Suggestion(subject, question or row.dimension, value, _judge_of(row)))
            case Rating(value=float(value)):
                for key, place in sides.get(row.subject, ()):
                    found.append(Suggestion(key, f"{question or row.dimension}_{place}", value, _judge_of(row)))
            case Verdict() if row.record_id in known:
                said = "yes" if row.passed else "no"
                found.append(Suggestion(row.record_id, question or row.check, said, row.check))
            case Vote():
                places = dict(sides.get(row.first, ()))
                for key, place in sides.get(row.second, ()):
                    if places.get(key, place) != place:
                        is_turned = place == "first"
                        winner = SWAPPED[row.winner] if is_turned else row.winner
                        if is_turned:
                            turned.add(len(found))
                        else:
                            as_shown.add((key, _judge_of(row)))
                        found.append(Suggestion(key, question or "better", winner, _judge_of(row)))
    return [each for at, each in enumerate(found) if at not in turned or (each.record_id, each.agent) not in as_shown]


def _judge_of(row: Rating | Vote) -> str:
    return row.rater or row.provenance.model


# --- what they disagree on --------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Dispute:
    """A record that people answered differently. `dispute` is how far apart two of their answers are on the average, 0 to 1:
    answers are the same or not, ratings as far apart as the highest and the lowest that anybody gave."""

    record_id: str
    question: str
    answers: Mapping[str, Any]
    dispute: float
    is_tied: bool  # no single answer has most people


@dataclass(frozen=True, repr=False)
class Queue(Sequence[Dispute]):
    """Disputes, the furthest apart first; prints itself. `answered` records had answers of two people or more."""

    items: tuple[Dispute, ...]
    answered: int

    def __len__(self) -> int:
        return len(self.items)

    def __iter__(self) -> Iterator[Dispute]:
        return iter(self.items)

    def __getitem__(self, at: Any) -> Any:
        return Queue(self.items[at], self.answered) if isinstance(at, slice) else self.items[at]

    @property
    def record_ids(self) -> tuple[str, ...]:
        """The records, each once, the most disputed first."""
        return tuple(dict.fromkeys(each.record_id for each in self.items))

    def of(self, records: Iterable[Record]) -> list[Record]:
        """Return the disputed ones of these records, the most disputed first: to look at, or to push again."""
        known = by_id(records)
        return [known[each] for each in self.record_ids if each in known]

    @property
    def sentence(self) -> str:
        """The result in one sentence."""
        tied = sum(each.is_tied for each in self.items)
        return (
            f"{len(self.record_ids):,} of {self.answered:,} records that several people answered are disputed: "
            f"{len(self.items):,} answers to settle, {tied:,} of them without a majority."
        )

    def _table(self) -> tuple[list[str], list[list[str]], int]:
        say = lambda each: ", ".join(f"{person}: {_shown(value)}" for person, value in each.answers.items())
        rows = [[each.record_id[:8], each.question, f"{each.dispute:.2f}", say(each)] for each in self.items[:_SHOWN]]
        return ["record", "question", "dispute", "answers"], rows, len(self.items)

    def __repr__(self) -> str:
        return f"{self.sentence}\n\n{text_table(*self._table(), width=80)}" if self.items else self.sentence

    def _repr_html_(self) -> str:
        return card("Disputed", self.sentence, html_table(*self._table()) if self.items else "")


def adjudication(
    responses: Responses, *, questions: Sequence[Question] = (), decided: Responses | None = None
) -> Queue:
    """Return what people disagree on, the furthest apart first, then those without a majority, then those with more answers.

    What somebody submitted in `decided` is settled, and not in the queue."""
    settled = {(each.record_id, each.question) for each in decided.submitted} if decided is not None else set()
    found, several = [], set()
    for question in _asked(responses, questions):
        for record, given in question.answers.items():
            if len(given) < 2:
                continue
            several.add(record)
            apart = fmean(_distance(question, a, b) for a, b in itertools.combinations(given.values(), 2))
            if apart and (record, question.name) not in settled:
                found.append(Dispute(record, question.name, given, apart, majority(given.values()) is None))
    found.sort(key=lambda each: (-each.dispute, not each.is_tied, -len(each.answers)))  # stable: then as they came
    return Queue(tuple(found), len(several))


def _shown(value: Any) -> str:
    return ", ".join(map(str, value)) if isinstance(value, tuple) else f"{value:g}" if _is_number(value) else str(value)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float)


# --- what they say together -------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Settled:
    """What `people` people say together of a record: `value`, None where several are tied, which `tied` has.

    `share` is the part of the answers, of the weights, or the probability that speaks for the value, or for each tied one."""

    record_id: str
    question: str
    value: Any
    share: float
    people: int
    tied: tuple[Any, ...] = ()
    by: str = ""  # who decided, where one person did


@dataclass(frozen=True, repr=False)
class Consensus(Sequence[Settled]):
    """What people say together, a row a record and question; prints itself.

    `weights` says what each person's answers count: {question: {person: weight}}, 0 to 1, empty for a majority. By
    agreement it is how near to the others' a person's answers are, by Dawid and Skene how often they are right."""

    items: tuple[Settled, ...]
    method: str
    weights: Mapping[str, Mapping[str, float]] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.items)

    def __iter__(self) -> Iterator[Settled]:
        return iter(self.items)

    def __getitem__(self, at: Any) -> Any:
        return Consensus(self.items[at], self.method, self.weights) if isinstance(at, slice) else self.items[at]

    @property
    def ties(self) -> tuple[Settled, ...]:
        """What nobody can say: the answers that are tied."""
        return tuple(each for each in self.items if each.tied)

    @property
    def rater(self) -> str:
        """Who says so, as the rater of ratings and votes."""
        return f"people by {_METHODS[self.method]}"

    def value(self, record_id: str, question: str) -> Any:
        """Return what people say together, None for a tie. Raises InputError where nobody answered."""
        for each in self.items:
            if (each.record_id, each.question) == (record_id, question):
                return each.value
        raise InputError(f"nobody answered {question!r} about {record_id}. Give a record that was answered.")

    def ratings(self, records: Iterable[Record]) -> list[Rating]:
        """Return what people say in numbers as ratings, of the subjects that `Responses.ratings` gives them to."""
        numbers = [each for each in self.items if _is_number(each.value)]
        named = Responses(tuple(self._as_response(each, at) for at, each in enumerate(numbers))).ratings(records)
        return [replace(each, value=numbers[int(each.value)].value) for each in named]

    def votes(self, records: Iterable[Record]) -> list[Vote]:
        """Return which text is better as votes, as `Responses.votes` does, where people are not tied."""
        settled = (each for each in self.items if each.question == "better" and not each.tied)
        return Responses(tuple(self._as_response(each, each.value) for each in settled)).votes(records)

    def _as_response(self, settled: Settled, value: Any) -> Response:
        return Response(settled.record_id, settled.question, value, self.rater, "submitted", now())

    def labels(self, records: Iterable[Record], *, question: str) -> list[Label]:
        """Return the records' asking texts with the class that people gave them, the records as parents; tied ones are left out.

        A Label whose class is the same stays as it is. Raises InputError for a record without a text."""
        said = {each.record_id: each.value for each in self.items if each.question == question and not each.tied}
        found = []
        for record in (record for record in by_id(records).values() if record.id in said):
            if isinstance(record, Label) and record.label == said[record.id]:
                found.append(record)
            elif (kind := type(record).__name__) not in TEXTS:
                raise InputError(f"a {kind} has no text to label. Give records that have one.")
            else:
                text = getattr(record, next(iter(TEXTS[kind])))
                found.append(
                    Label(text, _shown(said[record.id]), provenance=Provenance("review", parents=(record.id,)))
                )
        return found

    def verdicts(self, passing: Mapping[str, Any], *, name: str = "people") -> Verdicts:
        """Return a check per question, for run.mark: what people say passes or fails the record.

            run.mark(agreed.verdicts({"supported": "yes", "topic": ("law", "tax"), "useful": 3}))

        `passing` has for each question the answer that passes, or several, or for a rating the least. Checks are called
        `name`.question; records that do not pass fail as "rejected", and tied ones as "undecided": settle those first
        (`adjudication`), or leave them out. Raises InputError for a question that nobody answered."""
        asked = {each.question for each in self.items}
        if unknown := [question for question in passing if question not in asked]:
            raise InputError(f"nobody answered {unknown[0]!r}; there are answers to {', '.join(sorted(asked))}.")
        found = []
        for each in (each for each in self.items if each.question in passing):
            reason = UNDECIDED if each.tied else "" if _passes(each.value, passing[each.question]) else REJECTED
            found.append(
                Verdict(
                    each.record_id,
                    f"{name}.{each.question}",
                    not reason,
                    each.share,
                    reason,
                    _detail(each, self.method),
                )
            )
        return Verdicts(tuple(found), name)

    @property
    def sentence(self) -> str:
        """The result in one sentence."""
        settled = len(self.items) - len(self.ties)
        decided = sum(bool(each.by) for each in self.items)
        tied = f"; {len(self.ties):,} tied, which stay open" if self.ties else "; none tied"
        return (
            f"{settled:,} of {len(self.items):,} answers are settled ({self.rater}"
            f"{f', {decided:,} decided by one' if decided else ''}){tied}."
        )

    def _table(self) -> tuple[list[str], list[list[str]]]:
        counts: dict[tuple[str, str], int] = Counter(
            (each.question, "tied" if each.tied else _shown(each.value)) for each in self.items
        )
        return ["question", "answer", "records"], [[*key, f"{count:,}"] for key, count in counts.items()]

    @property
    def _note(self) -> str:
        said = [
            f"{question}: " + ", ".join(f"{person} {weight:.2f}" for person, weight in of.items())
            for question, of in self.weights.items()
        ]
        return f"What each person counts: {'; '.join(said)}." if said else ""

    def __repr__(self) -> str:
        return "\n\n".join(filter(None, [self.sentence, text_table(*self._table(), width=60), self._note]))

    def _repr_html_(self) -> str:
        return card("Consensus", self.sentence, html_table(*self._table(), note=self._note))


def consensus(
    responses: Responses,
    *,
    method: str = "majority",
    questions: Sequence[Question] = (),
    decided: Responses | None = None,
) -> Consensus:
    """Return what people say together about each record they answered. What one person submitted in `decided` holds there.

    By "majority" each answer counts the same; "weighted" by how near a person's answers are to those of the others; of
    ratings both give the median. By "dawid_skene" the answer that is most likely, given how often each person errs on
    each: it takes rather many answers a person, and knows no order of ratings. Ties stay ties. Dawid and Skene 1979,
    doi:10.2307/2346806, by the library crowd-kit."""
    if method not in _METHODS:
        raise InputError(f"{method!r} is no method; there are {', '.join(_METHODS)}.")
    by_one: dict[tuple[str, str], Settled] = {}
    for question in _asked(decided or (), questions):
        for record, given in question.answers.items():
            if len(given) > 1:
                raise InputError(
                    f"{', '.join(given)} all decided {question.name!r} about {record}. Let one person do so."
                )
            (person, value), *_ = given.items()
            by_one[record, question.name] = Settled(record, question.name, value, 1.0, 1, by=person)
    found, weights = [], {}
    for question in _asked(responses, questions):
        settled, of = {"majority": _by_majority, "weighted": _by_agreement, "dawid_skene": _by_dawid_skene}[method](
            question
        )
        found += [by_one.pop((each.record_id, each.question), each) for each in settled]
        weights |= {question.name: of} if of else {}
    return Consensus((*found, *by_one.values()), method, weights)


def _by_majority(question: _Question) -> tuple[list[Settled], dict[str, float]]:
    return _by_weight(question, dict.fromkeys(question.people, 1.0)), {}


def _by_agreement(question: _Question) -> tuple[list[Settled], dict[str, float]]:
    """Each person counts as much as they are near what the others say together, of records where those say something.

    By Laplace's rule of succession, so that few answers make nobody count for nothing, or for everything."""
    near: dict[str, list[float]] = {person: [] for person in question.people}
    for given in question.answers.values():
        for person, value in given.items():
            others = _central(question, [said for other, said in given.items() if other != person])
            if others is not None:
                near[person].append(1 - _distance(question, value, others))
    weights = {person: (sum(each) + 1) / (len(each) + 2) for person, each in near.items()}
    return _by_weight(question, weights), weights


def _by_weight(question: _Question, weights: Mapping[str, float]) -> list[Settled]:
    found = []
    for record, given in question.answers.items():
        sums: dict[Any, float] = {}
        for person, value in given.items():
            sums[value] = sums.get(value, 0.0) + weights[person]
        if question.is_rating:
            value, whole = _weighted_median(sums), sum(sums.values())
            found.append(Settled(record, question.name, value, sums.get(value, 0.0) / whole, len(given)))
        else:
            found.append(_settled(question, record, sums, len(given)))
    return found


def _settled(question: _Question, record: str, support: Mapping[Any, float], people: int) -> Settled:
    """The answer with most support, or the tied ones."""
    most, whole = max(support.values()), sum(support.values())
    best = [value for value, each in support.items() if most - each < _EQUAL * whole]
    value, tied = (best[0], ()) if len(best) == 1 else (None, tuple(best))
    return Settled(record, question.name, value, most / whole, people, tied)


def _weighted_median(sums: Mapping[float, float]) -> float:
    """The rating with half the weight on either side, between two of them the middle."""
    half, so_far = sum(sums.values()) / 2, 0.0
    ordered = sorted(sums)
    for value, after in zip(ordered, [*ordered[1:], ordered[-1]], strict=True):
        so_far += sums[value]
        if math.isclose(so_far, half, rel_tol=_EQUAL):
            return (value + after) / 2
        if so_far > half:
            return value
    return ordered[-1]


def _by_dawid_skene(question: _Question) -> tuple[list[Settled], dict[str, float]]:
    labels = _labels(value for given in question.answers.values() for value in given.values())
    if len(labels) < 2:
        return _by_majority(question)[0], dict.fromkeys(question.people, 1.0)
    rows = [
        (record, person, labels.index(value))
        for record, given in question.answers.items()
        for person, value in given.items()
    ]
    chances, priors, errors = dawid_skene(rows)
    settled = [
        _settled(question, record, dict(zip(labels, chances[record], strict=True)), len(given))
        for record, given in question.answers.items()
    ]
    is_right = {
        person: sum(prior * of.get((at, at), 0.0) for at, prior in enumerate(priors)) for person, of in errors.items()
    }
    return settled, is_right


def dawid_skene(
    rows: Sequence[tuple[str, str, int]],
) -> tuple[dict[str, list[float]], list[float], dict[str, dict[tuple[int, int], float]]]:
    """Return the chance of each label for each record, how frequent the labels are, and what each person says of which:
    {record: [chance]}, [share], {person: {(true label, said label): chance}}. A row is (record, person, label), labels 0 to k - 1.

    100 steps of EM from the shares of the answers, as in the paper. Raises MissingLibrary without crowd-kit."""
    library = require("crowdkit.aggregation", extra="review")
    import pandas

    data = pandas.DataFrame(rows, columns=["task", "worker", "label"])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of pandas, about the library's calls of it
        # All steps: its own rule watches a bound that counts the prior once an answer, and stops the paper's case after 4 of 23.
        model = library.DawidSkene(n_iter=_STEPS, tol=-math.inf).fit(data)
    labels = range(1 + max(label for _, _, label in rows))
    chances = model.probas_.reindex(columns=labels, fill_value=0.0)
    errors: dict[str, dict[tuple[int, int], float]] = {}
    for (person, said), row in model.errors_.iterrows():
        errors.setdefault(person, {}).update({(true, said): float(chance) for true, chance in row.items()})
    priors = [float(model.priors_.get(label, 0.0)) for label in labels]
    return dict(zip(chances.index, chances.to_numpy().tolist(), strict=True)), priors, errors


def _passes(value: Any, wanted: Any) -> bool:
    if _is_number(wanted):
        return _is_number(value) and value >= wanted
    return value in (wanted if isinstance(wanted, tuple | list | set | frozenset) else (wanted,))


def _detail(settled: Settled, method: str) -> str:
    if settled.by:
        return f"{_shown(settled.value)}, decided by {settled.by}"
    if settled.tied:
        return f"tied: {' and '.join(map(_shown, settled.tied))}, {settled.people:,} people"
    how = {"majority": "of the answers", "weighted": "of the weight", "dawid_skene": "likely"}[method]
    return f"{_shown(settled.value)}, {settled.share:.0%} {how}, {settled.people:,} people"


# --- how many more ----------------------------------------------------------------------------------------------------


def needed(found: Interval | float, width: float, *, level: float = 0.95) -> int:
    """Return about how many more records have to be answered for an interval that is `width` wide from end to end; 0 for none.

    Of an interval, of a kappa or alpha say: errors shrink with the root of the number, so n (its width / width)^2, as many
    people a record and records as alike as they were (Cantor 1996, doi:10.1037/1082-989X.1.2.150, with the variance of the
    interval itself). Of a share that is expected, 0 to 1: all that Wilson's interval needs, at `level` (Piegorsch 2004,
    Sample sizes for improved binomial confidence intervals). Raises InputError for an interval without a width."""
    if not 0 < width < 2:
        raise InputError(f"a width is how far the interval's ends are apart, more than 0 and less than 2, got {width}.")
    if isinstance(found, Interval):
        if (now := found.high - found.low) <= 0:
            raise InputError(
                "this interval has no width, so how it shrinks is not known. Give a share that you expect."
            )
        return max(0, math.ceil(round(found.n * ((now / width) ** 2 - 1), 6)))
    if not 0 <= found <= 1:
        raise InputError(f"a share is between 0 and 1, got {found}. Give an interval, or a share.")
    low, high = 0, 1
    while _wilson_width(found, high, level) > width:
        low, high = high, 2 * high
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if _wilson_width(found, middle, level) > width else (low, middle)
    return high


def _wilson_width(share: float, n: int, level: float) -> float:
    z2 = NormalDist().inv_cdf((1 + level) / 2) ** 2 / n
    return 2 * math.sqrt(z2 * (share * (1 - share) + z2 / 4)) / (1 + z2)
