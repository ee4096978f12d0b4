"""Biases: whether a judge goes by what it should not see, the length of the texts or their order.

    biases.length_report(ratings, texts=completions)      # of votes, ratings or preferences
    biases.position_report(votes)

Longer texts are often better, so a share above half is no proof by itself: hold it against how often people prefer the
longer one (`length_report` of their votes), and see Calibration.by_length, where the better text is the shorter one."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

from workbench import intervals
from workbench._html import card, html_table
from workbench.errors import InputError
from workbench.intervals import Interval
from workbench.quality.agreement import SWAPPED, Texts, by_id, by_rating, compare, text_of, values
from workbench.records import Preference, Rating, Vote, one_kind

_DRAWS = 1000


@dataclass(frozen=True, repr=False)
class LengthReport:
    """How a judge's choice goes with length, in characters.

    `longer_wins` is the share of the decided pairs of different lengths whose longer text wins; `correlation` is
    Spearman's, of score gap with length gap (-1 to 1; votes have gaps of 1, 0 and -1), each pair taken in both
    orders."""

    pairs: int
    ties: int
    same_length: int
    longer_wins: Interval | None
    correlation: Interval | None

    @property
    def leans_to_longer(self) -> bool:
        """True when the longer text wins more often than half the time, its interval too."""
        return self.longer_wins is not None and self.longer_wins.low > 0.5

    @property
    def sentence(self) -> str:
        if self.longer_wins is None or self.correlation is None:
            return (
                f"{self.pairs:,} pairs do not show whether length decides: too few prompts, or no lengths that differ."
            )
        found = self.correlation
        return (
            f"The longer text wins in {shown(self.longer_wins)} of {self.longer_wins.n:,} pairs; "
            f"score gap and length gap correlate with {found.value:.2f} ({found.low:.2f} to {found.high:.2f})."
        )

    def __repr__(self) -> str:
        return self.sentence

    def _repr_html_(self) -> str:
        rows = [("pairs", self.pairs), ("ties, left out", self.ties), ("of one length, left out", self.same_length)]
        return card("Length", self.sentence, html_table(["what", "count"], rows))


@dataclass(frozen=True, repr=False)
class PositionReport:
    """How a judge's choice goes with the order of the two texts.

    `first_wins` is the share of decided votes for the first text: half in a shuffled order, and anything where the
    first is always of the same writer. `flips` is the share of the pairs asked in both orders whose winner changed
    with the order, None where none were."""

    votes: int
    ties: int
    first_wins: Interval | None
    flips: Interval | None

    @property
    def is_by_position(self) -> bool:
        """True when more than half of the pairs flip, the interval too: a toss of a coin flips half."""
        return self.flips is not None and self.flips.low > 0.5

    @property
    def sentence(self) -> str:
        said = ["No pair was asked in both orders, so whether the order decides is not known"]
        if self.flips is not None:
            said = [f"Asked in both orders it changes its mind in {shown(self.flips)} of {self.flips.n:,} pairs"]
        if self.is_by_position:
            said.append("the order decides more than the texts do")
        if self.first_wins is not None:
            said.append(f"the first text wins {shown(self.first_wins)} of {self.first_wins.n:,} decided votes")
        return f"{'; '.join(said)}."

    def __repr__(self) -> str:
        return self.sentence

    def _repr_html_(self) -> str:
        return card(
            "Position", self.sentence, html_table(["what", "count"], [("votes", self.votes), ("ties", self.ties)])
        )


def length_report(
    judged: Sequence[Vote] | Sequence[Rating] | Sequence[Preference], *, texts: Texts = (), seed: int = 0
) -> LengthReport:
    """Return how the choice goes with length; `texts` are those that votes or ratings are about.

    A preference without scores has a gap of 1. Raises InputError for a vote or rating on a text that is not given, and
    for nothing judged."""
    if not judged:
        raise InputError("judged is empty. Give votes, ratings or preferences of some texts.")
    gaps = _gaps(judged, texts)
    decided = [(gap > 0) == (longer > 0) for gap, longer, _ in gaps if gap and longer]
    return LengthReport(
        pairs=len(gaps),
        ties=sum(not gap for gap, _, _ in gaps),
        same_length=sum(bool(gap) and not longer for gap, longer, _ in gaps),
        longer_wins=share(decided, [group for gap, longer, group in gaps if gap and longer]),
        correlation=_correlation(gaps, seed),
    )


def position_report(votes: Sequence[Vote], *, texts: Texts = ()) -> PositionReport:
    """Return how the choice goes with the order: by `is_flip`, and by votes of one rater on two texts in both orders,
    where he has a name.

    `texts` tell the prompts by which intervals are made; without them each two texts are a prompt of their own."""
    known = by_id(texts)
    group_of = lambda vote: known[vote.first].asked if vote.first in known else str(sorted((vote.first, vote.second)))
    decided = [vote for vote in votes if vote.winner != "tie"]
    flips = [(bool(vote.is_flip), group_of(vote)) for vote in votes if vote.is_flip is not None]
    waiting: dict[tuple[str, str, str], list[Vote]] = defaultdict(list)
    for vote in votes:
        rater = vote.rater or vote.provenance.model
        if vote.is_flip is not None or vote.first == vote.second or not rater:
            continue
        if earlier := waiting[rater, vote.second, vote.first]:
            flips.append((earlier.pop(0).winner != SWAPPED[vote.winner], group_of(vote)))
        else:
            waiting[rater, vote.first, vote.second].append(vote)
    return PositionReport(
        votes=len(votes),
        ties=len(votes) - len(decided),
        first_wins=share([vote.winner == "first" for vote in decided], list(map(group_of, decided))),
        flips=share([flip for flip, _ in flips], [group for _, group in flips]),
    )


def share(hits: Sequence[bool], groups: Sequence[str]) -> Interval | None:
    """Return the share of hits with its interval over groups; None for fewer than two groups.

    Where all are the same, the bootstrap has no width, and the interval is Wilson's of as many trials as groups."""
    if (different := len(set(groups))) < 2:
        return None
    if len(set(map(bool, hits))) == 1:
        return Interval(float(hits[0]), *intervals.wilson(different if hits[0] else 0, different), len(hits))
    return intervals.mean(list(map(float, hits)), groups=groups)


def shown(share: Interval) -> str:
    """Return a share as text: 67% (64 to 70)."""
    return f"{share.value:.0%} ({100 * share.low:.0f} to {100 * share.high:.0f})"


def _gaps(judged: Sequence[Vote | Rating | Preference], texts: Texts) -> list[tuple[float, int, str]]:
    """(score gap, length gap, prompt) of each pair, the first text minus the second."""
    if one_kind(judged) is Preference:
        is_scored = lambda row: row.score_chosen is not None and row.score_rejected is not None
        gap_of = lambda row: row.score_chosen - row.score_rejected if is_scored(row) else 1.0
        return [(gap_of(row), len(row.chosen) - len(row.rejected), row.prompt) for row in judged]
    known = by_id(texts)
    votes, of_rater = (judged, {}) if one_kind(judged) is Vote else (by_rating(judged, texts=known), values(judged))
    found = []
    for vote in votes:
        first, second = text_of(known, vote.first), text_of(known, vote.second)
        gap = float({"first": 1, "second": -1}.get(vote.winner, 0))
        if gap and (rated := of_rater.get(vote.rater)):
            gap, _, _ = compare(rated[vote.first], rated[vote.second])
        found.append((gap, len(first.output or "") - len(second.output or ""), first.asked))
    return found


def _correlation(gaps: Sequence[tuple[float, int, str]], seed: int) -> Interval | None:
    """Spearman's correlation of the two gaps, with prompts resampled whole; None where it is not defined."""
    import numpy as np

    order: dict[str, int] = {}
    places = np.array([order.setdefault(group, len(order)) for _, _, group in gaps])
    score, length = (np.array([gap[at] for gap in gaps], dtype=float) for at in (0, 1))
    if len(order) < 2 or not score.any() or not length.any():
        return None
    rng, drawn = np.random.default_rng(seed), []
    for _ in range(_DRAWS):
        times = np.bincount(rng.integers(0, len(order), len(order)), minlength=len(order))[places]
        drawn.append(_spearman(np.repeat(score, times), np.repeat(length, times)))
    low, high = np.nanquantile(drawn, [0.025, 0.975])
    return Interval(_spearman(score, length), float(low), float(high), len(gaps))


def _spearman(a, b) -> float:
    """Spearman's correlation of pairs taken in both orders: which text was called the first says nothing."""
    import numpy as np

    def ranks(values):
        _, at, counts = np.unique(np.concatenate([values, -values]), return_inverse=True, return_counts=True)
        return (np.cumsum(counts) - (counts - 1) / 2)[at]  # of equal values the mean rank

    with np.errstate(invalid="ignore", divide="ignore"):
        return float(np.corrcoef(ranks(a), ranks(b))[0, 1])
