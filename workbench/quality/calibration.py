"""Calibration: what a judge is worth, by people's votes on the same texts; and the gate that asks for it.

    found = calibration.calibrate(judge_ratings, peoples_votes, texts=completions)
    found.sentence, found.is_good_enough, found.min_gap
    found.save("data/runs/judged")
    verdicts = calibration.filtered_by(calibration.marks(judge_ratings, at_least=4), found)

The rules. A vote is for the first text, the second, or a tie; ratings vote for the text with the higher mean of the
dimensions that apply to both, and for a tie where the means are equal. Accuracy is the share of pairs where the judge
votes as the majority of people does, a tie being a class of its own; pairs where no single winner has most votes are
left out, and counted. How far people agree is measured by leaving one out: each person's vote against the majority of the
others, where they have one. The judge is held against the very same majorities, so that the two are compared pair by
pair. A judge that leaves more than 5% of the pairs unanswered is not shown to be good enough: they may be the hard ones.
Intervals are 95% bootstrap intervals over whole prompts."""

import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import orjson

from workbench import intervals
from workbench._html import card, html_table, text_table
from workbench.errors import InputError, RecordError
from workbench.intervals import FEW, Interval
from workbench.quality.agreement import (
    SWAPPED,
    Texts,
    alpha,
    by_id,
    by_rating,
    cohen,
    compare,
    fleiss,
    kappa,
    krippendorff_alpha,
    majority,
    pairs,
    scores,
    text_of,
    values,
    win_rate,
    winner_of,
)
from workbench.quality.biases import length_report, position_report, share, shown
from workbench.quality.checks import Verdicts
from workbench.records import Rating, Verdict, Vote, content_hash, from_row, one_kind, to_row
from workbench.runs import UNCALIBRATED

__all__ = [
    "Agreement", "Calibration", "Judge", "Marks", "Step", "Stratum", "calibrate", "cohen", "filtered_by", "fleiss",
    "krippendorff_alpha", "length_report", "load", "marks", "position_report", "win_rate",
]  # fmt: skip

# How much less often than a person a judge may agree and still count as good as one. Calderon et al. 2025,
# arXiv:2501.10970, allow a model that is to replace people 0.1 (crowd workers) to 0.2 (experts); a gate asks more.
MARGIN = 0.05
MOST_UNANSWERED = 0.05  # the share of the pairs; no more than the margin, which is what they can hide
FILE = "calibration.json"
_OVERALL = "overall"
_NAMELESS = "people without a name"
_JUDGE = "\0judge"  # as a rater among people, whatever their names
_STEPS = 12


@dataclass(frozen=True)
class Judge:
    """Who judges: the model as answered, the prompts it was asked with, as they are in the provenance, and the dimensions
    that it rated, none where it voted."""

    model: str
    prompts: tuple[str, ...] = ()
    dimensions: tuple[str, ...] = ()

    @classmethod
    def of(cls, judged: Sequence[Vote | Rating]) -> "Judge":
        """Return the one judge of these. Raises InputError when there is none, or several."""
        names = sorted({(row.provenance.model or row.rater, row.rater) for row in judged})
        if len(names) != 1:
            they = ", ".join(f"{rater or 'nobody'} ({model})" for model, rater in names) or "none"
            raise InputError(f"one judge at a time: these are of {they}. Pick those of one.")
        prompts = sorted({row.provenance.prompt for row in judged} - {""})
        return cls(names[0][0], tuple(prompts), tuple(sorted({row.dimension for row in judged if type(row) is Rating})))

    @property
    def content_id(self) -> str:
        return content_hash([self.model, self.prompts, self.dimensions])

    def __str__(self) -> str:
        return f"{self.model} with {', '.join(self.prompts)}" if self.prompts else self.model


@dataclass(frozen=True)
class Agreement:
    """How a judge agrees with people in one dimension or "overall", over `prompts` prompts.

    `accuracy` and `kappa` are against the majority; `people` is how often a person votes as the majority of the
    others, `difference` how much more often the judge does (n counts votes), and `alpha` Krippendorff's among people.
    None where it is not defined: one person a pair, or votes that are all the same. `unanswered` is the share of pairs
    without a vote of the judge, 0 to 1, but for those that the dimension does not apply to; `asked` its prompts."""

    name: str
    prompts: int
    accuracy: Interval
    people: Interval | None = None
    difference: Interval | None = None
    kappa: Interval | None = None
    alpha: Interval | None = None
    unanswered: float = 0.0
    asked: tuple[str, ...] = ()


@dataclass(frozen=True)
class Step:
    """The agreement on the pairs whose score gap is `at_least` so much: `share` of those that have a majority."""

    at_least: float
    share: float
    agreement: Agreement


@dataclass(frozen=True)
class Stratum:
    """The accuracy on some of the pairs, which `label` names."""

    label: str
    accuracy: Interval


@dataclass(frozen=True, repr=False)
class Calibration:
    """How a judge agrees with people; prints itself. It holds for this judge, its prompts and texts like these alone.

    Of `pairs` that people voted on, `undecided` have no majority and `unanswered` no vote of the judge; `ties` are
    majorities for a tie, and `unmatched` the judge's votes on pairs of which people say nothing. `not_asked` pairs, with
    an empty text or the same one twice, need no judge: where it has no vote on them they are in no other count. `agreements` starts
    with the overall one, a dimension each after it; `by_gap` is empty where the judge gave no scores."""

    judge: Judge
    people: tuple[str, ...]
    pairs: int
    undecided: int
    unanswered: int
    unmatched: int
    ties: int
    agreements: tuple[Agreement, ...]
    by_length: tuple[Stratum, ...] = ()
    by_gap: tuple[Step, ...] = ()
    flip_rate: Interval | None = None
    margin: float = MARGIN
    missing_is_wrong: bool = False
    not_asked: int = 0

    @property
    def overall(self) -> Agreement:
        return self.agreements[0]

    @property
    def accuracy(self) -> Interval:
        return self.overall.accuracy

    @property
    def kappa(self) -> Interval | None:
        return self.overall.kappa

    @property
    def alpha(self) -> Interval | None:
        return self.overall.alpha

    @property
    def is_offline(self) -> bool:
        """True when the judge is the rule-based offline writer, and no model."""
        return self.judge.model.startswith("offline-rules@")

    @property
    def is_good_enough(self) -> bool:
        """True when the judge is shown to agree with people about as often as a person: at most `margin` less often,
        the low end of the interval too, over at least 10 prompts, and leaves at most 5% of the pairs unanswered."""
        return self._is_as_good(self.overall)

    @property
    def min_gap(self) -> float | None:
        """The smallest score gap from which on the judge is as good as a person (as is_good_enough), or None: `why_gap`
        says why. It was looked for on these pairs, so it is a little hopeful on others."""
        if self.overall.unanswered > MOST_UNANSWERED:
            return None
        return next((step.at_least for step in self.by_gap if self._is_as_good(step.agreement)), None)

    @property
    def why_gap(self) -> str:
        """What the proposed gap rests on, or why there is none."""
        if not self.by_gap:
            return "no gap is proposed: the judge gave votes, and no scores"
        if self.overall.difference is None:
            return "no gap is proposed: how far people agree is not known, since no pair has votes of two"
        if self.overall.unanswered > MOST_UNANSWERED:
            return f"no gap is proposed: {_too_many(self.overall)}"
        if (gap := self.min_gap) is None:
            widest = max(self.by_gap, key=lambda step: step.agreement.accuracy.value)
            return (
                f"no gap is proposed: at none is it shown to be as good as a person; "
                f"its best is {shown(widest.agreement.accuracy)} from {widest.at_least:g} on"
            )
        step = next(step for step in self.by_gap if step.at_least == gap)
        return (
            f"from a gap of {gap:g} on ({step.share:.0%} of the pairs) it agrees with people in "
            f"{shown(step.agreement.accuracy)}, at most {100 * self.margin:.0f} points less often than a person; "
            f"{self.chosen_among}"
        )

    @property
    def chosen_among(self) -> str:
        """What makes the proposed gap hopeful."""
        return f"the gap is the smallest such of {len(self.by_gap)} tried on these same pairs, so expect less on others"

    @property
    def verdict(self) -> str:
        """How the judge compares with a person, in words."""
        found = self.overall
        if found.difference is None:
            return "how far people agree is not known, since no pair has votes of two"
        if found.prompts < FEW:
            return f"{found.prompts} prompts are too few to compare them, at least {FEW} are needed"
        if found.unanswered > MOST_UNANSWERED:
            return _too_many(found)
        if self.is_good_enough:
            return f"as good as a person, at most {100 * self.margin:.0f} points less often"
        return (
            "not as good as a person"
            if found.difference.high < 0
            else "too few to tell whether it is as good as a person"
        )

    @property
    def sentence(self) -> str:
        """The result in one sentence."""
        with_each_other = (
            f"; people agree with each other in {shown(self.overall.people)}" if self.overall.people else ""
        )
        offline = " (offline rules, no model)" if self.is_offline else ""
        return (
            f"{self.judge.model}{offline} agrees with people in {shown(self.accuracy)} of {self.accuracy.n:,} pairs"
            f"{with_each_other}: {self.verdict}."
        )

    def agreement(self, name: str = _OVERALL) -> Agreement | None:
        """Return the agreement in a dimension, or overall; None where it was not compared."""
        if self.judge.dimensions == (name,):
            return self.overall
        return next((each for each in self.agreements if each.name == name), None)

    def why_not(self, judge: Judge, dimension: str = "") -> str:
        """Return why this judge may not filter by this calibration, "" when it may.

        In one dimension the prompts of that one are compared; else all, and the dimensions too."""
        name = dimension or _OVERALL
        if why := self.why_another(judge, dimension):
            return why
        if (found := self.agreement(name)) is None:
            return f"it was never compared with people in {name}"
        if found.unanswered > MOST_UNANSWERED:
            return f"it is not shown to be as good as a person: in {name} {_too_many(found)}"
        if not self._is_as_good(found):
            least = f"{-100 * found.difference.low:.0f} points below a person" if found.difference else "nobody knows"
            return (
                f"it is not shown to be as good as a person: {name} accuracy {shown(found.accuracy)}, at worst {least}"
            )
        return ""

    def why_another(self, judge: Judge, dimension: str = "") -> str:
        """Return why this calibration says nothing about a judge, "" when it is about this one."""
        mine = self.judge
        if dimension:
            found = self.agreement(dimension)
            mine = replace(mine, prompts=found.asked if found else judge.prompts)
        elif judge.model == mine.model and set(judge.dimensions) != set(mine.dimensions):
            return f"compared with people were its {_what(mine)}, and these are its {_what(judge)}"
        if judge.model == mine.model and set(judge.prompts) == set(mine.prompts):
            return ""
        return f"compared with people was {mine}, another judge"

    def save(self, path: str | os.PathLike[str]) -> Path:
        """Write this as JSON and return the file: `path` where it ends with .json, else calibration.json in there."""
        path = _file(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(orjson.dumps(to_row(self), option=orjson.OPT_INDENT_2))
        return path

    def _is_as_good(self, found: Agreement) -> bool:
        return (
            found.unanswered <= MOST_UNANSWERED
            and found.difference is not None
            and found.prompts >= FEW
            and found.difference.low >= -self.margin
        )

    def _tables(self) -> list[tuple[list[str], list[list[str]]]]:
        say = lambda interval: "" if interval is None else str(interval).partition(", n")[0] + ")"
        of = lambda interval: "" if interval is None else shown(interval)
        columns = ("pairs", "judge with people", "person with others")
        both = lambda each: [f"{each.accuracy.n:,}", shown(each.accuracy), of(each.people)]
        rows = [[each.name, *both(each), say(each.kappa), say(each.alpha)] for each in self.agreements]
        tables = [(["", *columns, "kappa", "alpha of people"], rows)]
        if self.by_length:
            rows = [[each.label, f"{each.accuracy.n:,}", shown(each.accuracy)] for each in self.by_length]
            tables.append((["length", *columns[:2]], rows))
        if self.by_gap:
            rows = [[f"{each.at_least:g}", *both(each.agreement)] for each in self.by_gap]
            tables.append((["score gap from", *columns], rows))
        return tables

    @property
    def _notes(self) -> str:
        wrong = "counted as wrong" if self.missing_is_wrong else "left out"
        who = ", ".join(self.people) if len(self.people) <= 5 else f"{len(self.people):,} people"
        notes = [
            f"{self.pairs:,} pairs that {who} voted on",
            f"{self.ties:,} majorities for a tie",
            f"{self.undecided:,} without a majority, left out",
            f"{self.unanswered:,} without a vote of the judge, {wrong}",
            *(
                [f"{self.not_asked:,} with an empty text or one twice, which it was not asked about, left out"]
                if self.not_asked
                else []
            ),
            *([f"{self.unmatched:,} votes of the judge on other pairs"] if self.unmatched else []),
            *([f"asked in both orders it changes its mind in {shown(self.flip_rate)}"] if self.flip_rate else []),
            self.why_gap,
        ]
        return "; ".join(notes) + "."

    def __repr__(self) -> str:
        return "\n\n".join([self.sentence, *(text_table(*table, width=60) for table in self._tables()), self._notes])

    def _repr_html_(self) -> str:
        body = "".join(html_table(*table) for table in self._tables())
        return card("Calibration", self.sentence, body + html_table([], [], note=self._notes))


def _what(judge: Judge) -> str:
    return f"ratings in {', '.join(judge.dimensions)}" if judge.dimensions else "votes"


def _too_many(found: Agreement) -> str:
    return (
        f"it left {100 * found.unanswered:.3g}% of the pairs unanswered, and above {MOST_UNANSWERED:.0%} they may hide too many "
        "that it would get wrong"
    )


@dataclass(frozen=True)
class _Case:
    """A pair that people voted on, and what the judge said of it."""

    votes: dict[str, str]
    said: str | None
    gap: float | None
    longer: int  # characters of the first text beyond the second
    prompt: str

    @property
    def best(self) -> str | None:
        return majority(self.votes.values())


def calibrate(
    judged: Sequence[Vote] | Sequence[Rating],
    people: Sequence[Vote] | Sequence[Rating],
    *,
    texts: Texts,
    missing_is_wrong: bool = False,
    margin: float = MARGIN,
    seed: int = 0,
) -> Calibration:
    """Return how one judge's votes or ratings agree with people's, whose `rater` is their name.

    `texts` are those that they are about. People's ratings are compared dimension by dimension, where the judge has
    it; people's votes with each dimension of the judge's. A pair that the judge gave no vote on is left out, or wrong.
    Raises InputError for no or several judges, nobody's votes or the judge's own among people's, an unknown text, pairs of
    fewer than two prompts, and no pair in common."""
    _check_two_sides(judged, people)
    judge, known = Judge.of(judged), by_id(texts)
    is_scored, by_dimension = one_kind(judged) is Rating, one_kind(people) is Rating
    votes = by_rating(people, texts=known) if by_dimension else people
    cases, unmatched, not_asked = _cases(judged, votes, known, keep_all=missing_is_wrong)
    overall = _agreement(_OVERALL, cases, missing_is_wrong, seed)
    if overall is None:
        raise InputError(
            f"{judge.model} and people have pairs of fewer than two prompts in common. Give votes on the same texts, of more prompts."
        )
    agreements = [replace(overall, asked=judge.prompts)]
    dimensions = sorted({rating.dimension for rating in judged}) if is_scored else []
    for name in dimensions if len(dimensions) > 1 else []:
        votes = by_rating(people, texts=known, dimension=name) if by_dimension else people
        found = _agreement(name, _cases(judged, votes, known, name, missing_is_wrong)[0], missing_is_wrong, seed)
        asked = Judge.of([rating for rating in judged if rating.dimension == name]).prompts
        agreements += [] if found is None else [replace(found, asked=asked)]
    return Calibration(
        judge=judge,
        people=tuple(sorted({row.rater or _NAMELESS for row in people})),
        pairs=len(cases),
        undecided=sum(case.best is None for case in cases),
        unanswered=sum(case.said is None for case in cases),
        unmatched=unmatched,
        ties=sum(case.best == "tie" for case in cases),
        agreements=tuple(agreements),
        by_length=_by_length(cases),
        by_gap=_by_gap(cases) if is_scored else (),
        flip_rate=None if is_scored else position_report(judged, texts=known).flips,
        margin=margin,
        missing_is_wrong=missing_is_wrong,
        not_asked=not_asked,
    )


def load(path: str | os.PathLike[str]) -> Calibration:
    """Return the calibration that `save` wrote. Raises InputError when there is none, or it was edited out of form."""
    path = _file(path)
    try:
        return from_row(Calibration, orjson.loads(path.read_bytes()))
    except FileNotFoundError:
        raise InputError(
            f"there is no calibration at {path}. Make one with calibrate(), and save() it there."
        ) from None
    except (orjson.JSONDecodeError, RecordError, TypeError, AttributeError) as error:
        raise InputError(f"{path} is no calibration: {error}. Make it again with calibrate().") from error


def _file(path: str | os.PathLike[str]) -> Path:
    path = Path(path)
    return path if path.suffix == ".json" else path / FILE


def _check_two_sides(judged: Sequence[Vote | Rating], people: Sequence[Vote | Rating]) -> None:
    for name, rows in (("judged", judged), ("people", people)):
        if not rows:
            raise InputError(f"{name} is empty. Give votes or ratings of the judge and of people, on the same texts.")
    its, theirs = ({each for row in rows for each in (row.rater, row.provenance.model)} for rows in (judged, people))
    if same := its & theirs - {""}:
        raise InputError(
            f"{min(same)} is among the people that it is to be compared with. Give people's own votes or ratings alone."
        )


def _cases(
    judged: Sequence[Vote | Rating], people: Sequence[Vote], known: dict, dimension: str = "", keep_all: bool = False
) -> tuple[list[_Case], int, int]:
    """The pairs that people voted on, how many votes of the judge are on others, and how many pairs need no judge and got
    none, which are left out unless `keep_all`; so are those that have a text to which the dimension does not apply.

    A judge that was asked once about each two texts gives its one vote wherever people voted on the same two again."""
    is_scored = one_kind(judged) is Rating
    asked = [] if is_scored else [replace(vote, rater=_JUDGE) for vote in judged]
    given = next(iter(values(judged, dimension).values()), {}) if is_scored else {}
    rated = {rating.subject for rating in judged if rating.dimension == dimension} if is_scored else set()
    once = {frozenset((vote.first, vote.second)): vote for vote in asked}
    if len(once) < len(asked):
        once = {}  # it was asked row by row, as people were
    cases, unmatched, not_asked = [], 0, 0
    for pair in pairs([*people, *asked]):
        said, gap = pair.votes.pop(_JUDGE, None), None
        if not pair.votes:
            unmatched += 1
            continue
        if said is None and (vote := once.get(frozenset((pair.first, pair.second)))) is not None:
            said = vote.winner if vote.first == pair.first else SWAPPED[vote.winner]
        if any(each in rated and each not in given for each in (pair.first, pair.second)):
            continue
        if (compared := compare(given.get(pair.first, {}), given.get(pair.second, {}))) is not None:
            gap = compared[0]
            said = winner_of(gap)
        first, second = text_of(known, pair.first), text_of(known, pair.second)
        texts = {(each.output or "").strip() for each in (first, second)}
        if said is None and not keep_all and (len(texts) < 2 or "" in texts):
            not_asked += 1
            continue
        longer = len(first.output or "") - len(second.output or "")
        cases.append(_Case(pair.votes, said, gap, longer, first.asked))
    return cases, unmatched, not_asked


def _agreement(
    name: str, cases: Iterable[_Case], missing_is_wrong: bool = False, seed: int | None = None
) -> Agreement | None:
    """The agreement on these cases, with kappa and alpha where there is a seed; None for fewer than two prompts."""
    every = list(cases)
    cases = [case for case in every if case.said is not None or missing_is_wrong]
    counted = [case for case in cases if case.best is not None]
    accuracy = share([case.said == case.best for case in counted], [case.prompt for case in counted])
    if accuracy is None:
        return None
    left_out = [
        (vote == best, case.said == best, case.prompt)
        for case in cases
        for person, vote in case.votes.items()
        if (best := majority(other for name, other in case.votes.items() if name != person)) is not None
    ]
    unanswered = sum(case.said is None for case in every) / len(every)
    found = Agreement(name, len({case.prompt for case in counted}), accuracy, unanswered=unanswered)
    if (different := len({prompt for _, _, prompt in left_out})) > 1:
        theirs, its, prompts = zip(*left_out, strict=True)
        found = replace(
            found, prompts=different, people=share(theirs, prompts), difference=_difference(theirs, its, prompts)
        )
    if seed is None:
        return found
    said = [case for case in counted if case.said is not None]
    several = [case for case in cases if len(case.votes) > 1]
    return replace(
        found,
        kappa=_of(kappa, said, seed, [case.said for case in said], [case.best for case in said]),
        alpha=_of(alpha, several, seed, [_counts(case) for case in several]),
    )


def _difference(theirs: Sequence[bool], its: Sequence[bool], prompts: Sequence[str]) -> Interval:
    """How much more often the judge agrees than a person. Where they never differ, the bootstrap has no width: then as
    wide as Wilson's interval of no difference in so many prompts."""
    found = intervals.paired(list(map(float, theirs)), list(map(float, its)), groups=prompts)
    if found.low < found.high:
        return found
    _, hidden = intervals.wilson(0, len(set(prompts)))
    return replace(found, low=found.value - hidden, high=found.value + hidden)


def _of(statistic, cases: Sequence[_Case], seed: int, *values) -> Interval | None:
    prompts = [case.prompt for case in cases]
    return statistic(*values, prompts, seed) if len(set(prompts)) > 1 else None


def _counts(case: _Case) -> list[int]:
    votes = list(case.votes.values())
    return [votes.count(each) for each in ("first", "second", "tie")]


def _by_length(cases: Iterable[_Case]) -> tuple[Stratum, ...]:
    """Accuracy by thirds of how much the lengths differ, and by which text people prefer."""
    import numpy as np

    cases = [case for case in cases if case.said is not None and case.best is not None]
    a, b = (
        (int(edge) for edge in np.quantile([abs(case.longer) for case in cases], [1 / 3, 2 / 3])) if cases else (0, 0)
    )
    prefers = lambda case, sign: case.best != "tie" and sign * case.longer * (1 if case.best == "first" else -1) > 0
    strata = {
        f"differ by up to {a:,} characters": [case for case in cases if abs(case.longer) <= a],
        f"by {a + 1:,} to {b:,}": [case for case in cases if a < abs(case.longer) <= b],
        f"by more than {b:,}": [case for case in cases if abs(case.longer) > b],
        "people prefer the longer text": [case for case in cases if prefers(case, 1)],
        "people prefer the shorter text": [case for case in cases if prefers(case, -1)],
    }
    found = {
        label: share([case.said == case.best for case in some], [case.prompt for case in some])
        for label, some in strata.items()
    }
    return tuple(Stratum(label, accuracy) for label, accuracy in found.items() if accuracy is not None)


def _by_gap(cases: Iterable[_Case]) -> tuple[Step, ...]:
    """The agreement from each gap on, at all gaps that there are, or at some spread evenly over the pairs.

    Pairs without a majority stay: without them two people would always agree with each other."""
    import numpy as np

    cases = [case for case in cases if case.gap is not None]
    gaps = np.round([abs(case.gap) for case in cases], 6)
    of_decided = gaps[[case.best is not None for case in cases]]
    edges = np.unique(of_decided)
    if len(edges) > _STEPS:
        edges = np.unique(np.quantile(of_decided, np.arange(_STEPS) / _STEPS, method="lower"))
    steps = []
    for edge in dict.fromkeys([0.0, *map(float, edges)]):
        some = [case for case, gap in zip(cases, gaps, strict=True) if gap >= edge]
        if (found := _agreement(f"gap {edge:g}", some)) is not None:
            steps.append(Step(edge, float((of_decided >= edge).mean()), found))
    return tuple(steps)


# --- the gate ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, repr=False)
class Marks(Verdicts):
    """What one judge thinks of each text. All of them pass: a mark is a score, and "low_rating" as the reason where it is
    below `at_least`. `filtered_by` makes verdicts of them that fail."""

    judge: Judge = field(default=Judge(""))
    dimension: str = ""
    at_least: float = 0.0

    @property
    def low(self) -> tuple[Verdict, ...]:
        """The marks below `at_least`."""
        return tuple(mark for mark in self.items if mark.reason)

    def _summary(self) -> str:
        return f"{len(self.low):,} of {len(self.items):,} records rated below {self.at_least:g}; marked, not filtered"


def marks(ratings: Sequence[Rating], *, at_least: float, dimension: str = "") -> Marks:
    """Return a mark per text that one judge rated, with the reason low_rating where its score is below `at_least`.

    The score is the mean of the dimensions that apply, or that of `dimension`; a text to which none applies has none.
    Marks take nothing out. Raises InputError for ratings of several judges, and for none in that dimension."""
    some = [rating for rating in ratings if dimension in ("", rating.dimension)]
    if ratings and not some:
        names = ", ".join(sorted({rating.dimension for rating in ratings}))
        raise InputError(f"nobody rated {dimension!r}; there are ratings of {names}.")
    judge = Judge.of(some)
    given = next(iter(scores(some).values()), {})
    found = []
    for subject in dict.fromkeys(rating.subject for rating in some):
        score = given.get(subject)
        is_low = score is not None and score < at_least
        detail = f"rated {score:g} by {judge.model}, at least {at_least:g} is wanted" if is_low else ""
        found.append(Verdict(subject, "judge", True, score, "low_rating" if is_low else "", detail))
    return Marks(tuple(found), f"judge {judge.model}", judge, dimension, at_least)


def filtered_by(marks: Marks, calibration: Calibration | None = None, *, uncalibrated: bool = False) -> Verdicts:
    """Return verdicts that fail the texts a judge marked low; their name says what the judge is worth.

    Raises InputError when it was not compared with people, by these prompts and in this dimension, or is not shown to
    be as good as a person, unless `uncalibrated`: then the check is called judge.uncalibrated and each detail says
    why, so that funnel, report and card do too."""
    why = (
        "it was never compared with people"
        if calibration is None
        else calibration.why_not(marks.judge, marks.dimension)
    )
    items = [replace(mark, passed=not mark.reason) for mark in marks]
    if not why:
        return Verdicts(tuple(items), f"judge {calibration.sentence}")
    if not uncalibrated:
        raise InputError(
            f"{marks.judge} must not filter: {why}. Calibrate it on votes of people, or pass uncalibrated=True, and all that is made of it will say so."
        )
    said = lambda each: f"{each.detail}; uncalibrated: {why}" if each.detail else f"uncalibrated: {why}"
    items = [replace(each, check=UNCALIBRATED, detail=said(each)) for each in items]
    return Verdicts(tuple(items), f"judge {marks.judge.model}, uncalibrated: {why}")
