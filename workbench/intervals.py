"""Intervals: how far a share, a mean or a difference of means may be from the truth, by how many values there were.

    intervals.wilson(48, 50)                                        # a share of trials
    intervals.mean(scores, groups=[row.document for row in rows])   # a mean, bootstrapped over documents
    intervals.paired(before, after, groups=...).excludes_zero       # a difference on the same inputs
    intervals.crossed(differences, groups=...)                      # of models trained with several seeds, (seeds, items)

Rows of one document are alike, so that ten of them say less than ten rows of ten documents. Where `groups` are given,
groups are resampled whole (the cluster bootstrap: Field and Welsh 2007, doi:10.1111/j.1467-9868.2007.00593.x). The
percentile interval is too narrow for few groups: of intervals called 95%, about 84% hold the truth with 5 groups, 90% with
10, 93% with 20 and 94% with 40 (tests/test_intervals.py measures it). Below FEW groups it is a hint and decides nothing.

Training again with another seed gives another model. That one model is better, by however narrow an interval over items,
does not say that its data are: `crossed` covers new seeds and new items both."""

import math
from bisect import bisect_left
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from statistics import NormalDist, variance
from typing import TYPE_CHECKING, NamedTuple

from workbench.errors import InputError

if TYPE_CHECKING:
    import numpy as np

FEW = 10
_AT_ONCE = 1_000_000  # drawn places in memory at a time, 8 MB
_MOST = 1_000_000  # seeds, or groups of items, beyond which nobody goes
_TERMS = 40  # of the continued fraction; 30 give 12 digits


@dataclass(frozen=True)
class Interval:
    """A value with the interval that holds the truth in about `level` of such samples; `n` values were counted."""

    value: float
    low: float
    high: float
    n: int
    level: float = 0.95

    @property
    def excludes_zero(self) -> bool:
        return self.low > 0 or self.high < 0

    def __str__(self) -> str:
        return f"{self.value:.2f} ({self.low:.2f} to {self.high:.2f}, n {self.n:,})"


def wilson(hits: int, n: int, *, level: float = 0.95) -> tuple[float, float]:
    """Return the score interval of a share, (low, high), both 0 to 1, by default the 95% one. Wilson 1927, doi:10.1080/01621459.1927.10502953.

    Raises InputError when `hits` of `n` is no share."""
    if not 0 <= hits <= n or n == 0:
        raise InputError(f"{hits} of {n} is no share. Leave out what was never tried, and say so.")
    share, z2 = hits / n, NormalDist().inv_cdf((1 + level) / 2) ** 2 / n
    middle, half = share + z2 / 2, math.sqrt(z2 * (share * (1 - share) + z2 / 4))
    low, high = (middle - half) / (1 + z2), (middle + half) / (1 + z2)
    return low if hits else 0.0, high if hits < n else 1.0  # exact, where floating point is not


def mean(
    values: Sequence[float],
    *,
    groups: Sequence[str] | None = None,
    level: float = 0.95,
    draws: int = 2000,
    seed: int = 0,
) -> Interval:
    """Return the mean with its percentile bootstrap interval, the same for the same seed.

    `values` are finite, (n,); `groups` names the group of each, (n,), or every value is one of its own. Raises InputError
    for no values, for NaN, and for fewer than 2 groups: one group does not show how groups differ. Values that are all the
    same give an interval of no width; for shares near 0 and 1 `wilson` is better. Efron and Tibshirani 1993, An
    Introduction to the Bootstrap, ch. 13."""
    import numpy as np

    sums, counts = _by_group(values, groups)
    if len(sums) < 2:
        what = "one value has" if groups is None else f"the {len(values):,} values of one group ({groups[0]!r}) have"
        raise InputError(f"{what} no interval: how much others would differ is not known. Add values of other groups.")
    _check(level, draws)
    rng, rows, means = np.random.default_rng(seed), max(1, _AT_ONCE // len(sums)), np.empty(draws)
    for start in range(0, draws, rows):
        places = rng.integers(0, len(sums), (min(rows, draws - start), len(sums)))
        means[start : start + rows] = sums[places].sum(axis=1) / counts[places].sum(axis=1)
    low, high = np.quantile(means, [(1 - level) / 2, (1 + level) / 2])
    return Interval(float(sums.sum() / counts.sum()), float(low), float(high), len(values), level)


def paired(
    a: Sequence[float],
    b: Sequence[float],
    *,
    groups: Sequence[str] | None = None,
    level: float = 0.95,
    draws: int = 2000,
    seed: int = 0,
) -> Interval:
    """Return the mean of b - a with its interval, as `mean` does; a and b are of the same inputs in the same order, (n,).

    Raises InputError when their lengths differ."""
    return mean(_differences(a, b), groups=groups, level=level, draws=draws, seed=seed)


def needed(
    a: Sequence[float],
    b: Sequence[float],
    *,
    groups: Sequence[str] | None = None,
    level: float = 0.95,
    power: float = 0.8,
) -> int | None:
    """Return about how many values would show a difference of this size, in `power` of such samples; None for none at all.

    With groups of the same sizes as here. By the normal approximation of the mean paired difference, its variance between
    groups (Cohen 1988, Statistical Power Analysis, ch. 2, with the cluster-robust variance)."""
    differences = _differences(a, b)
    sums, counts = _by_group(differences, groups)
    value = sums.sum() / counts.sum()
    if len(sums) < 2 or value == 0:
        return None
    error = math.sqrt(((sums - counts * value) ** 2).sum() * len(sums) / (len(sums) - 1)) / counts.sum()
    z = NormalDist().inv_cdf((1 + level) / 2) + NormalDist().inv_cdf(power)
    return max(2, math.ceil(len(differences) * (z * error / value) ** 2))


def crossed(
    values: Sequence[Sequence[float]],
    *,
    groups: Sequence[str] | None = None,
    level: float = 0.95,
    draws: Sequence[float] = (),
) -> Interval:
    """Return the mean with an interval for new seeds and new items both; its `n` is the number of items.

    `values` are finite, (seeds, items): the difference of two arms on each item under each training seed, the same items in
    every row. Where the arms have no seeds in common, pair them in any order; an untouched base is the same in every row.
    `groups` names the group of each item, (items,): groups vary as a whole. Values that are all the same give an interval
    of no width. Raises InputError for one seed, fewer than 2 groups, and values that are ragged, empty or not finite.

    `draws` are the means that training data drawn anew gave, such as those of an arm whose labels are dealt out by lot again
    under each seed. However many seeds, the data that is judged is one draw: where luck may have drawn it, the variance
    between draws is added once, or labels by lot that happened to point somewhere would look like data that help.

    The variance is that of the seeds' means plus that of the groups' means (cluster-robust), and the interval Student's,
    with Satterthwaite's degrees of freedom (1946, doi:10.2307/3002019). The residual, seed by item, is in both variances.
    Cameron et al. 2011 (doi:10.1198/jbes.2010.07136) take it out once, which can leave less than nothing; left in, it made
    intervals 1 to 11% wider in simulation, where those of 2 and 3 seeds are too narrow as it is.

    Of intervals called 95% as many held the truth in simulation: 87 to 98% with 2 seeds, 92 to 98% with 3, 94 to 98% with 5
    and 95 to 98% with 10; the fewest where seeds vary most. (Differences of -1, 0 and 1 on 100 to 400 items of 40 to 80
    groups; seeds varied by 0 to 6 standard errors of the items. tests/test_crossed_intervals.py measures some of it.)"""
    parts = _parts(values, groups, draws)
    _check(level)
    error, freedom = parts.error
    half = _student(level, freedom) * error
    return Interval(parts.value, parts.value - half, parts.value + half, parts.items, level)


def crossed_p(
    values: Sequence[Sequence[float]], *, groups: Sequence[str] | None = None, draws: Sequence[float] = ()
) -> float:
    """Return the two-sided p-value of a mean of zero: 1 less the level at which `crossed` just touches zero.

    1 where all values are zero, 0 (to rounding) where all are the same other one. Raises InputError as `crossed` does."""
    parts = _parts(values, groups, draws)
    error, freedom = parts.error
    if error == 0:
        return float(parts.value == 0)
    return _beyond(parts.value / error, freedom)


def holm(p_values: Mapping[str, float]) -> dict[str, float]:
    """Return the p-values adjusted for how many they are, in the order given; those up to 0.05 hold together at 5%.

    The chance that any true null is among these is 5% at most, however the tests depend on each other. Raises InputError
    for what is no p-value. Holm 1979, A simple sequentially rejective multiple test procedure, Scand. J. Statist. 6."""
    for name, p in p_values.items():
        if not 0 <= p <= 1:
            raise InputError(f"the p-value of {name!r} is {p}, wanted 0 to 1. Leave out what was not tested.")
    adjusted, largest = {}, 0.0
    for at, name in enumerate(sorted(p_values, key=p_values.__getitem__)):
        largest = max(largest, min(1.0, (len(p_values) - at) * p_values[name]))
        adjusted[name] = largest
    return {name: adjusted[name] for name in p_values}


def pigeonhole(
    values: Sequence[Sequence[float]],
    *,
    groups: Sequence[str] | None = None,
    level: float = 0.95,
    draws: int = 2000,
    seed: int = 0,
) -> Interval:
    """Return the mean with its pigeonhole bootstrap interval: seeds and groups are resampled apart, whole rows and columns.

    Takes and raises what `crossed` does. It assumes less about the form of the distribution, and counts the residual three
    times (Owen 2007, The pigeonhole bootstrap, doi:10.1214/07-AOAS122), but nothing makes up for how few the seeds are. In the simulation
    that `crossed` tells of, 68 to 99% of intervals called 95% held the truth with 2 seeds, 80 to 98% with 3, 86 to 98% with 5
    and 92 to 98% with 10: to lay beside `crossed`, not in its place."""
    import numpy as np

    sums, counts = _table(values, groups)
    _check(level, draws)
    seeds, places = sums.shape
    rng, rows, means = np.random.default_rng(seed), max(1, _AT_ONCE // places), np.empty(draws)
    times = rng.multinomial(seeds, np.full(seeds, 1 / seeds), draws)  # how often each seed is drawn
    for start in range(0, draws, rows):
        part = times[start : start + rows]
        drawn = rng.multinomial(places, np.full(places, 1 / places), len(part))
        means[start : start + rows] = (part @ sums * drawn).sum(axis=1) / (seeds * (drawn @ counts))
    low, high = np.quantile(means, [(1 - level) / 2, (1 + level) / 2])
    items = int(counts.sum())
    return Interval(float(sums.sum() / seeds / items), float(low), float(high), items, level)


@dataclass(frozen=True, repr=False)
class Needed:
    """About how much training, or how many items, would show a difference of `value`; prints itself.

    `seeds` is with the items there are and `items` with the seeds there are, `now`; None where no number would do. `smallest`
    is the difference that the experiment as it is shows, in `power` of such experiments at this `level`."""

    value: float
    seeds: int | None
    items: int | None
    smallest: float
    now: tuple[int, int]
    level: float
    power: float

    def __repr__(self) -> str:
        seeds, items = self.now
        said = f"{seeds:,} seeds and {items:,} items show a difference of {self.smallest:.2g} in {self.power:.0%} of experiments"
        if self.value == 0:
            return f"{said}; here there is none to show"
        more = f"{self.seeds:,} seeds" if self.seeds else "no number of seeds"
        wider = f"{self.items:,} items" if self.items else "no number of items"
        return (
            f"{said}; for one of {abs(self.value):.2g}, {more} would do with these items, and {wider} with these seeds"
        )


def seeds_and_items(
    values: Sequence[Sequence[float]],
    *,
    groups: Sequence[str] | None = None,
    level: float = 0.95,
    power: float = 0.8,
    draws: Sequence[float] = (),
) -> Needed:
    """Return about how many seeds, and how many items, would make `crossed` show a difference of this size.

    `values` and `groups` as `crossed` takes them, whose errors it raises; `power`, 0.5 to 1, is the share of such experiments
    whose interval excludes zero. New groups have the sizes of these. A difference is found where it is as large as the standard
    error times the sum of two quantiles of Student's t, of the level and of the power (Cohen 1988, Statistical Power
    Analysis, ch. 2); the variances of seeds, groups and residual are told apart by their expected mean squares. Where
    these were known, 78 to 84% of simulated experiments of the size told showed the difference, 80% wanted; but three seeds
    know their own variance badly, and a difference that was picked for its size is too large: take it for a plan, no more."""
    parts = _parts(values, groups, draws)
    _check(level)
    if not 0.5 <= power < 1:
        raise InputError(f"power must be 0.5 or more and less than 1, got {power}. 0.8 is usual.")
    smallest = lambda seeds, places: parts.smallest(seeds, places, level, power)
    shows = lambda seeds, places: 0 < abs(parts.value) >= smallest(seeds, places)
    seeds = _first(lambda count: shows(count, parts.groups), parts.seeds)
    places = _first(lambda count: shows(parts.seeds, count), parts.groups)
    items = places and math.ceil(places * parts.items / parts.groups)
    now = (parts.seeds, parts.items)
    return Needed(parts.value, seeds, items, smallest(parts.seeds, parts.groups), now, level, power)


class _Parts(NamedTuple):
    """A mean over seeds and items, and what its variance is made of: `residual` is in the other two as well."""

    value: float
    seeds: int
    items: int
    groups: int
    by_seed: float
    by_group: float
    residual: float
    by_draw: float
    draws: int

    @property
    def error(self) -> tuple[float, float]:
        """The standard error, and Satterthwaite's degrees of freedom."""
        return self._error(self.by_seed, self.by_group, self.seeds, self.groups)

    def _error(self, by_seed: float, by_group: float, seeds: int, groups: int) -> tuple[float, float]:
        return _error({seeds: by_seed}, {groups: by_group}, {self.draws: self.by_draw})

    def smallest(self, seeds: int, groups: int, level: float, power: float) -> float:
        """The smallest difference that so many seeds and groups show with this power."""
        residual = self.residual * self.seeds * self.groups / (seeds * groups)
        by_seed = max(0.0, self.by_seed - self.residual) * self.seeds / seeds + residual
        by_group = max(0.0, self.by_group - self.residual) * self.groups / groups + residual
        error, freedom = self._error(by_seed, by_group, seeds, groups)
        return (_student(level, freedom) + _student(2 * power - 1, freedom)) * error


def _error(*variances: Mapping[int, float]) -> tuple[float, float]:
    """The root of the sum of variances, each by how many values it was found from, and Satterthwaite's degrees of freedom."""
    known = [(count, variance) for each in variances for count, variance in each.items() if variance > 0]
    total = sum(variance for _, variance in known)
    if total == 0:
        return 0.0, 1.0  # of no width, whatever the degrees of freedom
    return math.sqrt(total), 1 / sum((variance / total) ** 2 / (count - 1) for count, variance in known)


def _parts(values: Sequence[Sequence[float]], groups: Sequence[str] | None, draws: Sequence[float]) -> _Parts:
    sums, counts = _table(values, groups)
    (seeds, places), items = sums.shape, int(counts.sum())
    value = float(sums.sum() / seeds / items)
    of_seeds = sums.sum(axis=1) / items - value
    of_groups = sums.mean(axis=0) - counts * value
    rest = sums - sums.mean(axis=0) - of_seeds[:, None] * counts
    robust = places / (places - 1) / items**2
    by_seed = float((of_seeds**2).sum() / (seeds - 1) / seeds)
    by_group = float((of_groups**2).sum() * robust)
    residual = float((rest**2).sum() * robust / (seeds - 1) / seeds)
    if len(draws) == 1 or not all(map(math.isfinite, draws)):
        raise InputError(
            f"draws are two or more finite means, got {list(draws)!r:.80}. Draw the data again under each seed."
        )
    by_draw = float(variance(draws)) if len(draws) else 0.0
    return _Parts(value, seeds, items, places, by_seed, by_group, residual, by_draw, len(draws))


def _table(values: Sequence[Sequence[float]], groups: Sequence[str] | None) -> "tuple[np.ndarray, np.ndarray]":
    """The sums of each seed and group, (seeds, groups), and the number of items of each group, (groups,)."""
    import numpy as np

    lengths = sorted({np.size(row) for row in values})
    if not any(lengths):
        raise InputError("no values, so there is no mean. Give a row for each seed, with the same items in each.")
    if len(lengths) > 1:
        raise InputError(f"seeds have {lengths[0]:,} to {lengths[-1]:,} items. Keep the items that every seed has.")
    numbers = np.asarray(values, dtype=float)
    if numbers.ndim != 2:
        raise InputError(f"values have the shape {numbers.shape}, wanted (seeds, items): a row for each seed.")
    if len(numbers) == 1:
        raise InputError(
            "one seed shows nothing about other seeds. Train with another, or take mean() of this one model."
        )
    if not np.isfinite(numbers).all():
        seed, item = np.argwhere(~np.isfinite(numbers))[0]
        raise InputError(
            f"seed {seed}, item {item} is {numbers[seed, item]}. Leave the item out under every seed, and say so."
        )
    table = [_by_group(row, groups) for row in numbers]
    sums, counts = np.stack([sums for sums, _ in table]), table[0][1]
    if len(counts) < 2:
        raise InputError(
            f"the items are of one group ({len(numbers[0]):,}), which shows nothing about others. Add items of other groups."
        )
    return sums, counts


def _first(enough: Callable[[int], bool], now: int) -> int | None:
    """The first number that is enough: from 2 up where `now` is enough, above it where not; None where none below _MOST is.

    Bisection alone would miss some: more is not always better. More items leave more of the variance to the seeds, and
    with 2 to 4 seeds the quantile of the fewer degrees of freedom may grow faster than the variance falls."""
    below, count = (1, 2) if enough(now) else (now, now + 1)
    while count < _MOST:
        if enough(count):
            between = range(below + 1, count + 1)
            return between[bisect_left(between, True, key=enough)]
        below, count = count, max(count + 1, count * 11 // 10)
    return None


def _student(level: float, freedom: float) -> float:
    """The two-sided quantile of Student's t: as far from 0 as a share `level` of it goes."""
    peak = math.exp(math.lgamma((freedom + 1) / 2) - math.lgamma(freedom / 2)) / math.sqrt(freedom * math.pi)
    t = 0.0
    while True:  # Newton's steps from 0 never pass the root: what lies beyond t is convex
        density = peak * (1 + t * t / freedom) ** (-(freedom + 1) / 2)
        step = (_beyond(t, freedom) - (1 - level)) / (2 * density)
        if step <= 1e-12 * t:
            return t
        t += step


def _beyond(t: float, freedom: float) -> float:
    """The share of Student's t further from 0 than t: the incomplete beta function by its continued fraction, DLMF 8.17.22.

    scipy has it too, but neither the core nor the "train" extra brings scipy."""
    if t * t == 0:
        return 1.0
    a, b, x, rest = freedom / 2, 0.5, freedom / (freedom + t * t), t * t / (freedom + t * t)
    if swapped := x > (a + 1) / (a + b + 2):  # converges fast on this side alone
        a, b, x, rest = b, a, rest, x
    fraction = 1.0
    for m in range(_TERMS, 0, -1):
        even = m * (b - m) * x / ((a + 2 * m - 1) * (a + 2 * m))
        odd = (a + m) * (a + b + m) * x / ((a + 2 * m) * (a + 2 * m + 1))
        fraction = 1 + even / (1 - odd / fraction)
    fraction = 1 - (a + b) * x / (a + 1) / fraction
    scale = math.lgamma(a + b) - math.lgamma(a) - math.lgamma(b) + a * math.log(x) + b * math.log(rest)
    share = math.exp(scale) / (a * fraction)
    return 1 - share if swapped else share


def _check(level: float, draws: int = 1) -> None:
    if not 0 < level < 1:
        raise InputError(f"level must be between 0 and 1, got {level}. 0.95 is usual.")
    if draws < 1:
        raise InputError(f"draws must be 1 or more, got {draws}. 2000 are usual.")


def _differences(a: Sequence[float], b: Sequence[float]) -> list[float]:
    if len(a) != len(b):
        raise InputError(f"{len(a):,} values cannot be paired with {len(b):,}. Score both on the same inputs.")
    return [after - before for before, after in zip(a, b, strict=True)]


def _by_group(values: Sequence[float], groups: Sequence[str] | None) -> "tuple[np.ndarray, np.ndarray]":
    """The sum and the number of values of each group, in the order the groups come, (groups,) each."""
    import numpy as np

    numbers = np.asarray(values, dtype=float)
    if not len(numbers):
        raise InputError("no values, so there is no mean. Score at least 2 inputs.")
    if not np.isfinite(numbers).all():
        at = int(np.flatnonzero(~np.isfinite(numbers))[0])
        raise InputError(f"value {at} is {numbers[at]}. Leave out what has no score, and say how many that were.")
    if groups is None:
        return numbers, np.ones(len(numbers))
    if len(groups) != len(numbers):
        raise InputError(f"{len(numbers):,} values and {len(groups):,} groups. Name the group of each value.")
    order = {group: at for at, group in enumerate(dict.fromkeys(groups))}
    places = [order[group] for group in groups]
    return np.bincount(places, weights=numbers), np.bincount(places).astype(float)
