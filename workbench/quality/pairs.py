"""Preference pairs of judged texts, and how far the judging followed their length.

    made = pairs.pairs(completions, ratings, calibration=calibration)     # of ratings, by a gap in score
    made = pairs.from_votes(completions, votes)                           # of votes, by majority
    made.records, made.dropped, made.length

A pair is made only where its two texts differ and their scores do. Two texts are compared by the judgements that both
have (agreement.compare): a dimension that does not apply to one of them says nothing about the two. A rating that was lost
is another matter: it is not known whether the dimension applies, so the text is left out. Whatever is left out is a Failure
that says why.

For one pair a prompt, UltraFeedback's binarised set takes the best text and a random other one. Here it is the two texts
that are furthest apart: no draw decides, and the wider the gap, the likelier people are to agree. `per_prompt="all"` gives
the closer pairs too."""

import math
from array import array
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import combinations
from typing import Any, NamedTuple

from workbench import _html
from workbench.errors import InputError
from workbench.intervals import Interval
from workbench.llm.judge import same_family_warning
from workbench.quality import biases
from workbench.quality.agreement import compare
from workbench.quality.calibration import Calibration, Judge
from workbench.quality.checks import quoted
from workbench.records import Failure, Instruction, Preference, Provenance, Rating, Vote

SCALE = (1, 5)
DEFAULT_GAP = 1.0  # one step of that scale, in the mean
_SAME = 1e-9  # scores are means: what differs by less differs by rounding
_DRAWS = 1000


@dataclass(frozen=True)
class Length:
    """How length and preference go together, in characters.

    `longer_wins` is the share of pairs whose longer text is chosen, of those whose lengths differ, by `biases.share`.
    `correlation` is Spearman's, of the gap in score with the gap in length, over all judged texts of a prompt two by two, in
    both orders, made into pairs or not; -1 to 1. Intervals are by bootstrap over prompts. None where it cannot be told, as of one
    prompt."""

    pairs: int
    longer_wins: Interval | None
    correlation: Interval | None
    mean_chosen: float
    mean_rejected: float

    def __str__(self) -> str:
        if not self.pairs:
            return "no pair, so nothing to say about length"
        share = self.longer_wins
        said = "fewer than two prompts have texts of different lengths, so whether the longer one wins cannot be told"
        if share is not None:
            said = f"the longer text is chosen in {share.value:.0%} of {share.n:,} pairs ({share.low:.0%} to {share.high:.0%})"
        if (found := self.correlation) is not None:
            verb = (
                "does not show that it follows"
                if not found.excludes_zero
                else "follows"
                if found.value > 0
                else "opposes"
            )
            said += (
                f"; judging {verb} length: rank correlation {found.value:.2f} ({found.low:.2f} to {found.high:.2f}) "
                f"over {found.n:,} prompts"
            )
        return f"{said}; {self.mean_chosen:,.0f} characters in chosen texts, {self.mean_rejected:,.0f} in rejected ones"


@dataclass(frozen=True, repr=False)
class Pairs:
    """Preference records, and all that was given and became none.

    `dropped` holds a Failure for every text ("empty", "not_rated", "not_applicable", "missing_rating", "identical"), prompt
    ("one_text") and pair ("tie", "below_gap", "nothing_in_common") that was left out, and one for all ratings or votes of texts that were not
    given ("no_such_text"); votes know "not_compared" for a text, and "different_prompts" for a pair. A pair has a gap of at least `min_gap`, None for votes."""

    records: tuple[Preference, ...]
    dropped: tuple[Failure, ...]
    min_gap: float | None
    length: Length
    prompts: int
    rule: str
    warning: str = ""

    def __len__(self) -> int:
        return len(self.records)

    def by_reason(self) -> dict[str, int]:
        """Return how much was dropped for each reason, most frequent first."""
        return dict(Counter(failure.reason for failure in self.dropped).most_common())

    def _lines(self) -> list[str]:
        reasons = ", ".join(f"{count:,} {reason}" for reason, count in self.by_reason().items())
        return [f"{self.rule}.", f"dropped: {reasons or 'nothing'}.", f"length: {self.length}."]

    def __repr__(self) -> str:
        head = f"{len(self.records):,} preference pairs of {self.prompts:,} prompts"
        return "\n".join([head, *(f"  {line}" for line in (*self._lines(), self.warning) if line)])

    def _repr_html_(self) -> str:
        example = {failure.reason: failure.detail for failure in reversed(self.dropped)}
        rows = [(reason, count, example[reason]) for reason, count in self.by_reason().items()]
        rule, _, length = (f"<div>{_html.escaped(line, 1000)}</div>" for line in self._lines())
        dropped = _html.html_table(("dropped", "", "the first"), rows) if rows else ""
        title = f"{len(self.records):,} preference pairs"
        return _html.card(title, f"of {self.prompts:,} prompts", rule + length + dropped, warning=self.warning)


class _Compared(NamedTuple):
    """Two texts of one prompt, by place, with the mean of the judgements that both have."""

    first: int
    second: int
    gap: float
    scores: tuple[float, float]


@dataclass(slots=True)
class _Judged:
    """The judgements of one text: a value for each dimension and rater, and where they came from."""

    values: dict[tuple[str, str], float] = field(default_factory=dict)
    not_applicable: tuple[tuple[str, str], ...] = ()
    origins: list[Provenance] = field(default_factory=list)
    counts: Counter[tuple[str, str]] = field(default_factory=Counter)

    def add(self, rating: Rating) -> None:
        self.origins.append(rating.provenance)
        cell = (rating.dimension, rating.rater)
        if rating.value is None:
            self.not_applicable += (cell,)
        elif cell in self.values:  # rated twice by the same: its mean
            self.counts[cell] += 1
            self.values[cell] += (rating.value - self.values[cell]) / (self.counts[cell] + 1)
        else:
            self.values[cell] = rating.value


def pairs(
    completions: Sequence[Instruction],
    ratings: Sequence[Rating],
    *,
    min_gap: float | None = None,
    dimension: str | None = None,
    per_prompt: str = "best",
    calibration: Calibration | None = None,
) -> Pairs:
    """Return the pairs of texts that answer the same prompt and whose scores are at least `min_gap` apart.

    A score is the mean of all dimensions rated (or the one `dimension`) that apply to both texts, by the same rater where
    there are several. A text that lacks a rating which its rater gave another text of the prompt, or most texts, lost it, and
    is left out: where that is meant, give the ratings of the other dimensions alone. `min_gap` is by default what the
    `calibration` proposes, else 1.0 for ratings of 1 to 5; a tie is never a pair. `per_prompt` is "best", the pair with the
    widest gap, or "all". Raises InputError for a dimension that nobody rated, for ratings of another scale without a gap, and
    for a calibration of another judge or other dimensions, or one that proposes no gap. Takes about 10 s for 64,000
    prompts with 4 texts of 4 ratings."""
    if per_prompt not in ("best", "all"):
        raise InputError(f"per_prompt is 'best' or 'all', not {per_prompt!r}.")
    _check_kind("completions", completions, Instruction)
    _check_kind("ratings", ratings, Rating)
    gap, why = _min_gap(min_gap, calibration, ratings, dimension)
    known = {rating.dimension for rating in ratings}
    if dimension is not None and dimension not in known:
        raise InputError(f"nobody rated {dimension!r}; there are ratings of {', '.join(sorted(known)) or 'nothing'}.")
    judged: dict[str, _Judged] = {completion.id: _Judged() for completion in completions}
    stray: Counter[str] = Counter()
    for rating in ratings:
        if rating.subject not in judged:
            stray[rating.subject] += 1
        elif dimension is None or rating.dimension == dimension:
            judged[rating.subject].add(rating)

    book, usual = _Book(dropped=_stray(stray, stray.total(), "ratings")), _usual(judged.values())
    for prompt, texts in _by_prompt(completions).items():
        expected = usual.union(*(_given(judged[text.id]) for text in texts))
        kept = book.usable(texts, {text.id: _unfit(judged[text.id], expected) for text in texts})
        if len(kept) < 2:
            book.drop("one_text", f"{len(kept)} of {len(texts)} texts can be compared", prompt)
        else:
            book.pair_up(prompt, kept, judged, gap, per_prompt == "all")
    book.prompts = len(_by_prompt(completions))
    what = f"by {dimension}" if dimension else "by the mean of the dimensions that apply to both"
    which = "every pair of a prompt" if per_prompt == "all" else "the widest gap of a prompt"
    rule = f"{which}, {what}, with a gap of at least {gap:g} ({why})"
    family = _family(completions, {rating.rater for rating in ratings})
    is_model = any(rating.provenance.model for rating in ratings)
    worth = "How far this judge agrees with people is not known: no calibration was given." if is_model else ""
    if calibration is not None:
        worth = "" if calibration.is_good_enough else calibration.sentence
    return book.closed(rule, gap, " ".join(filter(None, [family, worth])))


def from_votes(completions: Sequence[Instruction], votes: Sequence[Vote]) -> Pairs:
    """Return a pair for every two texts of which more than half of the raters prefer the same one.

    Scores are the shares of the raters who voted for the text. A rater who voted on the same two texts more than once and
    not always the same counts as a tie; votes without a name are of different people. Everything else as for `pairs`."""
    _check_kind("completions", completions, Instruction)
    _check_kind("votes", votes, Vote)
    known = {completion.id: completion for completion in completions}
    stray = [vote for vote in votes if not {vote.first, vote.second} <= known.keys()]
    unknown = Counter(each for vote in stray for each in (vote.first, vote.second) if each not in known)
    book = _Book(dropped=_stray(unknown, len(stray), "votes"))
    cast: dict[tuple[str, str], list[Vote]] = {}
    for vote in votes:
        if vote.first in known and vote.second in known:
            cast.setdefault((min(vote.first, vote.second), max(vote.first, vote.second)), []).append(vote)
    for (first, second), of_pair in cast.items():
        texts, prompt = (known[first], known[second]), known[first].asked
        if unfit := _unfit_pair(*texts):
            book.drop(unfit, f"a vote on {first} and {second}", prompt)
            continue
        counts = _counted(of_pair, first)
        shares = (counts["first"] / counts.total(), counts["second"] / counts.total())
        book.note(shares[0] - shares[1], *texts)
        if max(shares) <= 0.5:
            said = ", ".join(f"{counts[name]} {name}" for name in ("first", "second", "tie") if counts[name])
            book.drop("tie", f"no majority on {first} and {second}: {said}", prompt)
        else:
            winner = shares.index(max(shares))
            pair = (texts[winner], texts[1 - winner])
            book.keep(prompt, pair, (max(shares), min(shares)), [vote.provenance for vote in of_pair])
    compared = {i for pair in cast for i in pair}
    for text in known.values():
        if text.id not in compared:
            book.drop("not_compared", f"{text.id}: nobody voted on it", text.asked)
    book.prompts = len({text.asked for text in known.values()})
    rule = "every two texts with votes, by more than half of the raters"
    return book.closed(rule, None, _family(completions, {vote.rater for vote in votes}))


# --- one prompt -------------------------------------------------------------------------------------------------------


def _by_prompt(completions: Iterable[Instruction]) -> dict[str, list[Instruction]]:
    found: dict[str, list[Instruction]] = {}
    for completion in completions:
        found.setdefault(completion.asked, []).append(completion)
    return found


def _given(judged: _Judged) -> set[tuple[str, str]]:
    """Dimension and rater of each rating of a text, whether the dimension applied or not."""
    return {*judged.values, *judged.not_applicable}


def _usual(judged: Iterable[_Judged]) -> set[tuple[str, str]]:
    """Dimension and rater, of the ratings that a rater gave more than half of the texts he rated."""
    cells: Counter[tuple[str, str]] = Counter()
    texts: Counter[str] = Counter()
    for each in judged:
        given = _given(each)
        cells.update(given)
        texts.update({rater for _, rater in given})
    return {cell for cell, count in cells.items() if 2 * count > texts[cell[1]]}


def _unfit(judged: _Judged, expected: set[tuple[str, str]]) -> tuple[str, str]:
    """Why a text has no score, as reason and detail; empty when it has one."""
    if not judged.origins:
        return "not_rated", "nobody rated it"
    given = _given(judged)
    if missing := expected - given:
        raters = {rater for _, rater in given}
        if lost := sorted(name for name, rater in missing if rater in raters):
            return "missing_rating", f"its rating of {', '.join(lost)} is missing"
    return ("", "") if judged.values else ("not_applicable", "no dimension applies to it")


def _compare(texts: Sequence[Instruction], pair: tuple[int, int], judged: Mapping[str, _Judged]) -> _Compared | None:
    """The two texts by what both were rated in; None when that is nothing."""
    found = compare(*(judged[texts[at].id].values for at in pair))
    return _Compared(*pair, found[0], found[1:]) if found else None


def _unfit_pair(one: Instruction, other: Instruction) -> str:
    """Why two texts can never be a pair, as a reason; "" when they can."""
    words = [_words(text) for text in (one, other)]
    if words[0] == words[1]:
        return "identical"
    return "" if all(words) and one.asked == other.asked else "different_prompts" if all(words) else "empty"


def _words(text: Instruction) -> str:
    """The text with its white space folded; "" for none."""
    return " ".join((text.output or "").split())


def _counted(votes: Sequence[Vote], first: str) -> Counter[str]:
    """How many raters are for the first text, the second, neither."""
    ballots: dict[Any, set[str]] = {}
    for at, vote in enumerate(votes):
        turned = {"first": "second", "second": "first"}.get(vote.winner, "tie")
        ballots.setdefault(vote.rater or at, set()).add(vote.winner if vote.first == first else turned)
    return Counter(ballot.pop() if len(ballot) == 1 else "tie" for ballot in ballots.values())


# --- all prompts ------------------------------------------------------------------------------------------------------


@dataclass
class _Book:
    """What was kept and dropped, and each two texts that were compared: their gaps in score and in length."""

    dropped: list[Failure]
    records: list[Preference] = field(default_factory=list)
    prompts: int = 0
    gaps: array = field(default_factory=lambda: array("d"))
    lengths: array = field(default_factory=lambda: array("d"))
    groups: dict[str, int] = field(default_factory=dict)
    group_of: array = field(default_factory=lambda: array("q"))

    def drop(self, reason: str, detail: str, prompt: str) -> None:
        self.dropped.append(Failure(reason, f"{detail}; prompt {quoted(prompt)}"))

    def usable(self, texts: Sequence[Instruction], unfit: Mapping[str, tuple[str, str]]) -> list[Instruction]:
        """The texts that hold something, have a score, and are no copy of one before, whatever their white space."""
        kept: dict[str, Instruction] = {}
        for text in texts:
            words = _words(text)
            reason, detail = unfit[text.id] if words else ("empty", "no text")
            if not reason and words in kept:
                reason, detail = "identical", f"the same text as {kept[words].id}"
            if reason:
                self.drop(reason, f"{text.id}: {detail}", text.asked)
            else:
                kept[words] = text
        return list(kept.values())

    def pair_up(
        self, prompt: str, texts: Sequence[Instruction], judged: Mapping[str, _Judged], min_gap: float, is_all: bool
    ) -> None:
        """Keep or drop every two texts of a prompt, or the two that are furthest apart."""
        every = [_compare(texts, pair, judged) for pair in combinations(range(len(texts)), 2)]
        compared = [each for each in every if each]
        for each in compared:
            self.note(each.gap, texts[each.first], texts[each.second])
        for _ in range(len(every) - len(compared) if is_all else not compared):
            self.drop("nothing_in_common", "no dimension applies to both texts", prompt)
        for each in compared if is_all else [max(compared, key=lambda each: abs(each.gap))] if compared else []:
            high, low = max(each.scores), min(each.scores)
            if abs(each.gap) <= _SAME:
                self.drop("tie", f"both have {high:.2f}", prompt)
            elif abs(each.gap) < min_gap - _SAME:
                self.drop("below_gap", f"{high:.2f} and {low:.2f} are less than {min_gap:g} apart", prompt)
            else:
                pair = (texts[each.first], texts[each.second])[:: 1 if each.gap > 0 else -1]
                self.keep(prompt, pair, (high, low), [origin for text in pair for origin in judged[text.id].origins])

    def note(self, gap: float, first: Instruction, second: Instruction) -> None:
        self.gaps.append(round(gap, 9))  # what differs by rounding is one rank
        self.lengths.append(len(first.output or "") - len(second.output or ""))
        self.group_of.append(self.groups.setdefault(first.asked, len(self.groups)))

    def keep(
        self,
        prompt: str,
        pair: tuple[Instruction, Instruction],
        scores: tuple[float, float],
        origins: Sequence[Provenance],
    ) -> None:
        chosen, rejected = pair
        origins = list(
            {(each.prompt, each.model, each.endpoint, each.sampling, each.requests): each for each in origins}.values()
        )
        models = _distinct(origin.model for origin in origins)
        # Made by rules is made by rules, whoever judged it: nobody may take such a pair for a model's.
        writers = [text.provenance.model for text in pair if text.provenance.is_offline]
        models = models if not writers or models.startswith("offline-rules@") else _distinct([writers[0], models])
        sampling = {origin.sampling for origin in origins}
        origin = Provenance(
            "preference", "distillation", ("instruction",),
            prompt=_distinct(origin.prompt for origin in origins), model=models,
            endpoint=_distinct(origin.endpoint for origin in origins), sampling=sampling.pop() if len(sampling) == 1 else "{}",
            requests=tuple(dict.fromkeys(key for origin in origins for key in origin.requests)), parents=(chosen.id, rejected.id),
        )  # fmt: skip
        self.records.append(Preference(prompt, chosen.output or "", rejected.output or "", *scores, provenance=origin))

    def closed(self, rule: str, min_gap: float | None, warning: str) -> Pairs:
        length = _length(self.records, _correlation(self.gaps, self.lengths, self.group_of))
        return Pairs(tuple(self.records), tuple(self.dropped), min_gap, length, self.prompts, rule, warning)


def _distinct(names: Iterable[str]) -> str:
    return " + ".join(dict.fromkeys(name for name in names if name))


def _min_gap(
    given: float | None, calibration: Calibration | None, ratings: Sequence[Rating], dimension: str | None
) -> tuple[float, str]:
    """The gap and where it comes from."""
    if given is not None:
        if not given >= 0:
            raise InputError(f"min_gap is zero or more, got {given!r}; with 0 everything but a tie is a pair.")
        return float(given), "as given"
    if calibration is None:
        values = [each.value for each in ratings if each.value is not None and dimension in (None, each.dimension)]
        if values and not (SCALE[0] <= min(values) and max(values) <= SCALE[1]):
            raise InputError(
                f"the default gap of {DEFAULT_GAP:g} is one step of a scale from 1 to 5, and these ratings go from "
                f"{min(values):g} to {max(values):g}. Give min_gap=... yourself."
            )
        return DEFAULT_GAP, "by default, one step of 1 to 5: no calibration says which gaps people would agree with"
    if why := calibration.why_another(Judge.of(ratings)):
        raise InputError(f"{why}. Calibrate the judge of these ratings, or give min_gap=... yourself.")
    if dimension is not None:
        raise InputError(
            f"the calibration's gap is one of means over dimensions, and not of {dimension!r} alone. Give min_gap=... yourself."
        )
    if calibration.min_gap is None:
        raise InputError(f"{calibration.why_gap}. Give min_gap=... yourself.")
    return float(calibration.min_gap), f"proposed by the calibration: {calibration.chosen_among}"


def _check_kind(name: str, records: Sequence[Any], kind: type) -> None:
    if other := next((record for record in records if not isinstance(record, kind)), None):
        raise InputError(
            f"{name} are {kind.__name__} records, got a {type(other).__name__}. "
            f"Of a run's records take [r for r in run.records if isinstance(r, {kind.__name__})]."
        )


def _stray(subjects: Counter[str], count: int, what: str) -> list[Failure]:
    if not subjects:
        return []
    said = f"{count:,} {what} are of {len(subjects):,} texts that were not given, such as {next(iter(subjects))}"
    return [Failure("no_such_text", said)]


def _family(completions: Iterable[Instruction], raters: Iterable[str]) -> str:
    """What is to be said of judges that share a family with a writer."""
    writers = sorted({completion.provenance.model for completion in completions} - {""})
    return " ".join(filter(None, (same_family_warning(rater, writers) for rater in sorted(raters) if rater)))


# --- length -----------------------------------------------------------------------------------------------------------


def _length(records: Sequence[Preference], correlation: Interval | None) -> Length:
    sizes = [(len(record.chosen), len(record.rejected)) for record in records]
    differ = [(a > b, record.prompt) for record, (a, b) in zip(records, sizes, strict=True) if a != b]
    share = biases.share([longer for longer, _ in differ], [prompt for _, prompt in differ])
    mean = lambda at: sum(size[at] for size in sizes) / len(sizes) if sizes else 0.0
    return Length(len(records), share, correlation, mean(0), mean(1))


def _correlation(gaps: array, lengths: array, groups: array, seed: int = 0) -> Interval | None:
    """Spearman's rank correlation over both orders of every two texts, its interval by bootstrap over the groups.

    None with fewer than 2 groups, or where all scores or all lengths are the same."""
    import numpy as np

    count = max(groups, default=-1) + 1
    if count < 2:
        return None
    place, first, second = np.asarray(groups), _Ranked.of(gaps), _Ranked.of(lengths)

    def of(weights: Any) -> float:
        a, b = first.ranks(weights), second.ranks(weights)
        spread = (weights * a * a).sum() * (weights * b * b).sum()
        return float((weights * a * b).sum() / math.sqrt(spread)) if spread > 0 else math.nan

    value = of(np.ones(len(place)))
    if math.isnan(value):
        return None
    rng = np.random.default_rng(seed)
    draws = min(_DRAWS, max(200, 20_000_000 // len(place)))  # with so many pairs the interval is narrow anyway
    found = [of(np.bincount(rng.integers(0, count, count), minlength=count)[place].astype(float)) for _ in range(draws)]
    low, high = np.nanquantile(found, [0.025, 0.975])
    return Interval(value, float(low), float(high), count)


class _Ranked(NamedTuple):
    """Values sorted by size once, so that a draw need not sort again: their signs, and each one's place among the sizes."""

    signs: Any
    places: Any

    @classmethod
    def of(cls, values: array) -> "_Ranked":
        import numpy as np

        numbers = np.asarray(values)
        return cls(np.sign(numbers), np.unique(np.abs(numbers), return_inverse=True)[1])

    def ranks(self, weights: Any) -> Any:
        """Each value's rank among all values and all negated ones, counted from the middle, ties sharing theirs."""
        import numpy as np

        mass = np.bincount(self.places, weights)
        return self.signs * (2 * np.cumsum(mass) - mass)[self.places]
