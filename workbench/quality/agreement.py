"""Agreement: how far raters agree on which of two texts is better, with intervals, and how often a model wins.

    agreement.cohen(judge_votes, votes_of_one_person, texts=texts)
    agreement.krippendorff_alpha(votes_of_all, texts=texts)
    agreement.win_rate(votes, model="gpt4", texts=texts)

A vote is for the first text, the second, or a tie: three classes, and a tie agrees with a tie alone. Votes on the same
two texts are held against each other, whichever text comes first; where a rater voted on two texts several times, the
first vote meets the others' first, and so on. Votes without a name are of different people. Ratings compare two texts by
what both were rated in (`compare`). Intervals are 95% bootstrap intervals over whole prompts (see
workbench.intervals); without `texts` to tell the prompts by, each two texts are a prompt of their own."""

import itertools
import math
import warnings
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from statistics import fmean
from typing import TYPE_CHECKING, Any

from workbench.errors import InputError, require
from workbench.intervals import Interval
from workbench.records import Instruction, Rating, Vote

if TYPE_CHECKING:
    import numpy as np

WINNERS = ("first", "second", "tie")
SWAPPED = {"first": "second", "second": "first", "tie": "tie"}
_DRAWS = 2000
_EQUAL = 1e-9  # two means of the same ratings in another order may differ by less
_AT_ONCE = 1_000_000  # drawn groups in memory at a time, 8 MB

Texts = Iterable[Instruction] | Mapping[str, Instruction]


@dataclass(frozen=True)
class Pair:
    """Two texts by id, and what each rater says of them: {rater: "first" | "second" | "tie"}."""

    first: str
    second: str
    votes: dict[str, str] = field(default_factory=dict)

    @property
    def counts(self) -> list[int]:
        """How many raters vote for each of WINNERS."""
        found = Counter(self.votes.values())
        return [found[winner] for winner in WINNERS]


def pairs(votes: Iterable[Vote]) -> list[Pair]:
    """Return the pairs of texts in the order they were voted on first, each with at most one vote of a rater.

    A vote without a name is of a rater of its own."""
    found: list[Pair] = []
    by_texts: dict[frozenset[str], list[Pair]] = defaultdict(list)
    for vote in votes:
        same = by_texts[frozenset((vote.first, vote.second))]
        free = [pair for pair in same if not vote.rater or vote.rater not in pair.votes]
        # Where texts were judged in both orders, a vote belongs to the row that has its order.
        pair = next((pair for pair in free if pair.first == vote.first), free[0] if free else None)
        if pair is None:
            pair = Pair(vote.first, vote.second)
            same.append(pair)
            found.append(pair)
        pair.votes[vote.rater or f"\0{len(pair.votes)}"] = (
            vote.winner if pair.first == vote.first else SWAPPED[vote.winner]
        )
    return found


def majority(votes: Iterable[str]) -> str | None:
    """Return the winner with most votes, None where no single one has most."""
    (best, most), *rest = [*Counter(votes).most_common(2), ("", 0)][:2]
    return None if not most or (rest and rest[0][1] == most) else best


def by_id(texts: Texts) -> dict[str, Instruction]:
    """Return texts by id, the first of each."""
    found: dict[str, Instruction] = {}
    for text in texts.values() if isinstance(texts, Mapping) else texts:
        found.setdefault(text.id, text)
    return found


def values(ratings: Iterable[Rating], dimension: str = "") -> dict[str, dict[str, dict[str, float]]]:
    """Return {rater: {subject: {dimension: value}}} of the dimensions that apply, or one; the mean of repeated ratings."""
    given: dict[tuple[str, str], dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
    for rating in ratings:
        if rating.value is not None and dimension in ("", rating.dimension):
            given[rating.rater, rating.subject][rating.dimension].append(rating.value)
    found: dict[str, dict[str, dict[str, float]]] = defaultdict(dict)
    for (rater, subject), by_dimension in given.items():
        found[rater][subject] = {name: fmean(some) for name, some in by_dimension.items()}
    return dict(found)


def scores(ratings: Iterable[Rating], dimension: str = "") -> dict[str, dict[str, float]]:
    """Return {rater: {subject: score}}, each text's own mean of `values`. It says nothing of two texts: `compare` them."""
    found = values(ratings, dimension)
    return {rater: {text: fmean(rated.values()) for text, rated in of.items()} for rater, of in found.items()}


def compare(first: Mapping[Any, float], second: Mapping[Any, float]) -> tuple[float, float, float] | None:
    """Return (gap, mean of the first text, mean of the second) over what both were rated in; None when that is nothing.

    The gap is the first minus the second. A dimension that does not apply to one text would lift or lower its mean for no
    merit of its own (honesty, say, is rated lower than the rest), so it says nothing about the two."""
    both = first.keys() if first.keys() == second.keys() else first.keys() & second.keys()
    if not both:
        return None
    # Exact sums: no order of the judgements may change a gap.
    one, two = (math.fsum(map(each.__getitem__, both)) for each in (first, second))
    return (one - two) / len(both), one / len(both), two / len(both)


def winner_of(gap: float) -> str:
    """Return whom a score of the first text minus that of the second votes for."""
    return "tie" if abs(gap) < _EQUAL else "first" if gap > 0 else "second"


def by_rating(ratings: Iterable[Rating], *, texts: Texts, dimension: str = "") -> list[Vote]:
    """Return each rater's votes on all pairs of texts of one prompt that he rated in something, by `compare`."""
    known, found = by_id(texts), []
    for rater, of_texts in values(ratings, dimension).items():
        by_prompt: dict[str, list[str]] = defaultdict(list)
        for subject in of_texts:
            by_prompt[text_of(known, subject).asked].append(subject)
        for subjects in by_prompt.values():
            for a, b in itertools.combinations(subjects, 2):
                if (compared := compare(of_texts[a], of_texts[b])) is not None:
                    found.append(Vote(a, b, winner_of(compared[0]), rater))
    return found


def text_of(known: Mapping[str, Instruction], identity: str) -> Instruction:
    """Return the text of this id. Raises InputError when it is not among those given."""
    if identity not in known:
        raise InputError(
            f"a vote or rating is about {identity}, which is not among the {len(known):,} texts. Give all texts."
        )
    return known[identity]


# --- statistics -------------------------------------------------------------------------------------------------------


def cohen(a: Sequence[Vote], b: Sequence[Vote], *, texts: Texts = (), seed: int = 0) -> Interval:
    """Return Cohen's kappa of two raters over the pairs that both voted on: 1 is full agreement, 0 as by chance.

    By scikit-learn; the interval's draws by the same formula over sums of each prompt. Raises InputError when either
    has several raters, when they share no pair, and when kappa is not defined: all votes are the same. Cohen 1960,
    doi:10.1177/001316446002000104."""
    for votes in (a, b):
        if len(raters := sorted({vote.rater for vote in votes})) > 1:
            raise InputError(f"kappa is of two raters, and these votes are of {', '.join(raters)}. Pick one a side.")
    both = [pair for pair in pairs([*_as("a", a), *_as("b", b)]) if len(pair.votes) == 2]
    if not both:
        raise InputError("the two raters have no pair in common. Give votes on the same texts.")
    found = kappa([pair.votes["a"] for pair in both], [pair.votes["b"] for pair in both], _groups(both, texts), seed)
    return _defined(found, "kappa")


def krippendorff_alpha(votes: Sequence[Vote], *, texts: Texts = (), seed: int = 0) -> Interval:
    """Return Krippendorff's alpha (nominal) of all raters, over the pairs that two or more voted on; n counts pairs.

    By the library krippendorff; the interval's draws by the same formula. Raises InputError when no pair has two
    votes, and when all are the same. Krippendorff 2011, Computing Krippendorff's Alpha-Reliability."""
    several = [pair for pair in pairs(votes) if len(pair.votes) > 1]
    if not several:
        raise InputError("no pair has votes of two raters, so there is no agreement. Give the votes of all raters.")
    return _defined(alpha([pair.counts for pair in several], _groups(several, texts), seed), "alpha")


def fleiss(votes: Sequence[Vote], *, texts: Texts = (), seed: int = 0) -> Interval:
    """Return Fleiss' kappa over the pairs that most raters voted on: it needs equally many votes of each.

    n says how many pairs those are. Raises InputError as `krippendorff_alpha` does. Fleiss 1971,
    doi:10.1037/h0031619."""
    found = pairs(votes)
    raters = max((len(pair.votes) for pair in found), default=0)
    if raters < 2:
        raise InputError("no pair has votes of two raters, so there is no agreement. Give the votes of all raters.")
    full = [pair for pair in found if len(pair.votes) == raters]
    return _defined(fleiss_kappa([pair.counts for pair in full], _groups(full, texts), seed), "kappa")


def kappa(
    a: Sequence[str], b: Sequence[str], groups: Sequence[str], seed: int = 0, labels: Sequence[str] = WINNERS
) -> Interval | None:
    """Return Cohen's kappa of two lists of labels, (pairs,) each, as `cohen` does; None where it is not defined."""
    import numpy as np

    metrics = require("sklearn.metrics", extra="agreement")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that it is not defined, which is what None says
        value = metrics.cohen_kappa_score(a, b, labels=list(labels))
    place = {label: at for at, label in enumerate(labels)}
    tables = np.zeros((len(a), len(place), len(place)))
    tables[np.arange(len(a)), [place[each] for each in a], [place[each] for each in b]] = 1
    return _bootstrapped(value, _kappa, tables, groups, seed)


def alpha(
    counts: Sequence[Sequence[int]], groups: Sequence[str], seed: int = 0, *, is_ordinal: bool = False
) -> Interval | None:
    """Return Krippendorff's alpha of votes for each label, (pairs, labels), two or more a pair; None where not defined.

    Nominal, or ordinal, for labels that are given in their order."""
    import numpy as np

    library = require("krippendorff", extra="agreement")
    each = np.array(counts, dtype=float)
    with np.errstate(invalid="ignore"):
        value = library.alpha(value_counts=each, level_of_measurement="ordinal" if is_ordinal else "nominal")
    coincidences = (each[:, :, None] * each[:, None, :] - each[:, :, None] * np.eye(each.shape[1])) / (
        each.sum(axis=1)[:, None, None] - 1
    )
    return _bootstrapped(value, _ordinal_alpha if is_ordinal else _alpha, coincidences, groups, seed)


def fleiss_kappa(counts: Sequence[Sequence[int]], groups: Sequence[str], seed: int = 0) -> Interval | None:
    """Return Fleiss' kappa of votes for each label, (pairs, labels), equally many a pair; None where it is not defined."""
    import numpy as np

    each = np.array(counts, dtype=float)
    raters = each[0].sum()
    agreed = (each**2).sum(axis=1) - raters
    tables = np.column_stack([np.ones(len(each)), agreed / (raters * (raters - 1)), each / raters])
    with np.errstate(invalid="ignore"):
        value = float(_fleiss(tables.sum(axis=0)[None])[0])
    return _bootstrapped(value, _fleiss, tables, groups, seed)


def _kappa(tables: "np.ndarray") -> "np.ndarray":
    """Cohen's kappa of tables (draws, labels, labels) that count what a says by what b says."""
    total = tables.sum(axis=(1, 2))
    expected = (tables.sum(axis=1) * tables.sum(axis=2)).sum(axis=1) / total**2
    return (tables.trace(axis1=1, axis2=2) / total - expected) / (1 - expected)


def _alpha(coincidences: "np.ndarray") -> "np.ndarray":
    """Krippendorff's nominal alpha of coincidences (draws, labels, labels)."""
    of_each = coincidences.sum(axis=1)
    total = of_each.sum(axis=1)
    disagreed = total - coincidences.trace(axis1=1, axis2=2)
    return 1 - disagreed * (total - 1) / (total**2 - (of_each**2).sum(axis=1))


def _ordinal_alpha(coincidences: "np.ndarray") -> "np.ndarray":
    """Krippendorff's ordinal alpha of coincidences (draws, labels, labels), the labels in order."""
    of_each = coincidences.sum(axis=1)
    middles = (
        of_each.cumsum(axis=1) - of_each / 2
    )  # two labels are as far apart as there are votes between their middles
    squared = (middles[:, :, None] - middles[:, None, :]) ** 2
    observed = (coincidences * squared).sum(axis=(1, 2))
    expected = (of_each[:, :, None] * of_each[:, None, :] * squared).sum(axis=(1, 2))
    return 1 - (of_each.sum(axis=1) - 1) * observed / expected


def _fleiss(tables: "np.ndarray") -> "np.ndarray":
    """Fleiss' kappa of sums over pairs (draws, 2 + labels): how many, their agreement, their shares of each winner."""
    agreed, shares = tables[:, 1] / tables[:, 0], tables[:, 2:] / tables[:, :1]
    expected = (shares**2).sum(axis=1)
    return (agreed - expected) / (1 - expected)


def _bootstrapped(
    value: float, statistic: Callable[["np.ndarray"], "np.ndarray"], tables: "np.ndarray", groups: Sequence[str],
    seed: int,
) -> Interval | None:  # fmt: skip
    """A statistic of the sum of tables, (pairs, ...), with groups resampled whole; None where it is not defined."""
    import numpy as np

    if math.isnan(value):
        return None
    order = {group: at for at, group in enumerate(dict.fromkeys(groups))}
    if len(order) < 2:
        raise InputError("all pairs are of one prompt, which does not show how prompts differ. Add pairs of others.")
    sums = np.zeros((len(order), *tables.shape[1:]))
    np.add.at(sums, [order[group] for group in groups], tables)
    rng, rows, drawn = np.random.default_rng(seed), max(1, _AT_ONCE // len(order)), []
    with np.errstate(invalid="ignore", divide="ignore"):
        for start in range(0, _DRAWS, rows):
            times = rng.multinomial(len(order), np.full(len(order), 1 / len(order)), min(rows, _DRAWS - start))
            drawn.append(statistic(np.tensordot(times.astype(float), sums, 1)))
        low, high = np.nanquantile(np.concatenate(drawn), [0.025, 0.975])
    return Interval(float(value), float(low), float(high), len(tables))


def _as(rater: str, votes: Iterable[Vote]) -> list[Vote]:
    return [replace(vote, rater=rater) for vote in votes]


def _groups(found: Sequence[Pair], texts: Texts) -> list[str]:
    known = by_id(texts)
    return [
        known[pair.first].asked if pair.first in known else " ".join(sorted((pair.first, pair.second)))
        for pair in found
    ]


def _defined(found: Interval | None, name: str) -> Interval:
    if found is None:
        raise InputError(f"all votes are the same, so {name} is not defined: there is nothing to tell from chance.")
    return found


# --- win rates --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class WinRate:
    """How often a model wins, 0 to 1, a tie half; `standard_error` is sd / sqrt(n)."""

    model: str
    value: float
    standard_error: float
    n: int

    def __str__(self) -> str:
        return (
            f"{self.model} wins {100 * self.value:.2f}% (standard error {100 * self.standard_error:.2f}) of {self.n:,}"
        )


def win_rate(votes: Iterable[Vote], *, model: str, texts: Iterable[Instruction]) -> WinRate:
    """Return how often a model wins by AlpacaEval's rules: 1 for a win, 0 for a loss, half for a tie, none for no vote.

    `texts` say who wrote what. Votes on other models' texts do not count. Raises InputError when there is none of this
    model's, and where a text was written by several models, so that whose vote it is cannot be told: then give one
    model's votes and texts at a time."""
    import numpy as np

    writers: dict[str, set[str]] = defaultdict(set)
    for text in texts:
        writers[text.id].add(text.provenance.model)
    scores = []
    for vote in votes:
        contests = [(a, b) for a in writers[vote.first] for b in writers[vote.second] if a != b]
        if not (mine := [contest for contest in contests if model in contest]):
            continue
        sides = {WINNERS[contest.index(model)] for contest in mine}
        if len(mine) < len(contests) or (len(sides) > 1 and vote.winner != "tie"):
            others = ", ".join(sorted(writers[vote.first] | writers[vote.second]))
            raise InputError(
                f"whose vote {vote.id} is cannot be told: of {others} some wrote the same. Give the votes and texts of one annotations file."
            )
        scores.append(0.5 if vote.winner == "tie" else float(vote.winner in sides))
    if len(scores) < 2:
        raise InputError(f"{len(scores)} votes on texts of {model!r}. Give votes, and the texts that they are on.")
    return WinRate(model, float(np.mean(scores)), float(np.std(scores, ddof=1) / math.sqrt(len(scores))), len(scores))
