"""Intervals: how far a share, a mean or a difference of means may be from the truth, by how many values there were.

    intervals.wilson(48, 50)                                        # a share of trials
    intervals.mean(scores, groups=[row.document for row in rows])   # a mean, bootstrapped over documents
    intervals.paired(before, after, groups=...).excludes_zero       # a difference on the same inputs

Rows of one document are alike, so that ten of them say less than ten rows of ten documents. Where `groups` are given,
groups are resampled whole (the cluster bootstrap: Field and Welsh 2007, doi:10.1111/j.1467-9868.2007.00593.x). The
percentile interval is too narrow for few groups: of intervals called 95%, about 84% hold the truth with 5 groups, 90% with
10, 93% with 20 and 94% with 40 (tests/test_intervals.py measures it). Below FEW groups it is a hint and decides nothing."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist
from typing import TYPE_CHECKING

from workbench.errors import InputError

if TYPE_CHECKING:
    import numpy as np

FEW = 10
_AT_ONCE = 1_000_000  # drawn places in memory at a time, 8 MB


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
    if not 0 < level < 1 or draws < 1:
        raise InputError(f"level must be between 0 and 1 and draws 1 or more, got {level} and {draws}.")
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
