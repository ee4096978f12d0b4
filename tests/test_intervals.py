"""Intervals: they agree with published values and with scipy, hold the truth as often as they say, and refuse nonsense."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binomtest, bootstrap

from workbench import intervals
from workbench.errors import InputError
from workbench.intervals import Interval

# --- shares -----------------------------------------------------------------------------------------------------------


# Newcombe 1998, Statistics in Medicine 17, table I, method 3.
@pytest.mark.parametrize(
    ("hits", "n", "low", "high"),
    [(81, 263, 0.2553, 0.3662), (15, 148, 0.0624, 0.1605), (0, 20, 0.0, 0.1611), (1, 29, 0.0061, 0.1718)],
)
def test_wilson_gives_newcombes_published_examples(hits, n, low, high):
    assert intervals.wilson(hits, n) == pytest.approx((low, high), abs=5e-5)


@given(st.integers(1, 2000).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))))
def test_wilson_is_that_of_scipy(hits_of_n):
    wanted = binomtest(*hits_of_n).proportion_ci(method="wilson")
    assert intervals.wilson(*hits_of_n) == pytest.approx((wanted.low, wanted.high), abs=1e-6)


def test_what_is_no_share_is_refused():
    for wrong in ((0, 0), (3, 2), (-1, 2)):
        with pytest.raises(InputError, match="is no share"):
            intervals.wilson(*wrong)


# --- the bootstrap ----------------------------------------------------------------------------------------------------


def clustered(rng, groups, per_group, within=0.3):
    """Values of mean 0 whose groups differ: a share `within` of the variance lies between groups."""
    between = rng.normal(0, within**0.5, groups)[:, None]
    values = between + rng.normal(0, (1 - within) ** 0.5, (groups, per_group))
    return values.ravel().tolist(), [f"document {at}" for at in range(groups) for _ in range(per_group)]


def test_the_interval_of_a_mean_is_scipys_percentile_bootstrap():
    values = np.random.default_rng(3).exponential(size=80)
    found = intervals.mean(values, draws=20_000)
    wanted = bootstrap((values,), np.mean, n_resamples=20_000, method="percentile", rng=5).confidence_interval
    width = wanted.high - wanted.low
    assert found.value == pytest.approx(values.mean()) and found.n == 80
    assert (found.low, found.high) == pytest.approx((wanted.low, wanted.high), abs=0.04 * width)


@pytest.mark.parametrize("level", [0.8, 0.95])
def test_groups_are_resampled_whole_as_scipy_does_with_their_sums_and_sizes(level):
    rng = np.random.default_rng(4)
    sizes = rng.integers(1, 9, 40)
    groups = np.repeat(np.arange(40), sizes)
    values = 3 + rng.normal(size=40)[groups] + rng.normal(size=len(groups))
    shuffled = rng.permutation(len(values))  # rows of a group need not stand together
    found = intervals.mean(values[shuffled], groups=[f"d{at}" for at in groups[shuffled]], level=level, draws=20_000)
    sums = np.bincount(groups, weights=values)
    wanted = bootstrap(
        (sums, sizes), lambda s, c, axis: s.sum(axis=axis) / c.sum(axis=axis), paired=True, n_resamples=20_000,
        method="percentile", confidence_level=level, rng=5,
    ).confidence_interval  # fmt: skip
    width = wanted.high - wanted.low
    assert found.value == pytest.approx(values.mean()) and found.level == level
    assert (found.low, found.high) == pytest.approx((wanted.low, wanted.high), abs=0.04 * width)


def test_copies_of_a_row_say_nothing_new_once_they_are_a_group():
    values = np.random.default_rng(0).random(30)
    alone = intervals.mean(values)
    copied = intervals.mean(np.repeat(values, 10), groups=np.repeat(np.arange(30), 10).tolist())
    assert (copied.low, copied.high) == pytest.approx((alone.low, alone.high))
    taken_for_new = intervals.mean(np.repeat(values, 10))
    assert taken_for_new.high - taken_for_new.low < 0.4 * (alone.high - alone.low)


@pytest.mark.parametrize(
    ("groups", "least", "most"), [(5, 0.77, 0.90), (10, 0.85, 0.95), (20, 0.89, 0.97), (40, 0.91, 0.98)]
)
def test_of_intervals_called_95_percent_as_many_hold_the_truth_as_the_docstring_says(groups, least, most):
    rng = np.random.default_rng(groups)
    held = 0
    for seed in range(300):
        values, names = clustered(rng, groups, 5)
        found = intervals.mean(values, groups=names, draws=1000, seed=seed)
        held += found.low <= 0 <= found.high
    assert least <= held / 300 <= most


def test_of_two_hundred_comparisons_without_a_difference_about_one_in_twenty_finds_one():
    rng, found = np.random.default_rng(7), 0
    for seed in range(200):
        easy = rng.beta(2, 2, 40)[:, None]  # how easy a document is, for both prompts alike
        a, b = ((rng.random((40, 5)) < easy).astype(float).ravel() for _ in range(2))
        groups = [at for at in range(40) for _ in range(5)]
        found += intervals.paired(a, b, groups=groups, draws=1000, seed=seed).excludes_zero
    assert 2 <= found <= 24


def test_rows_taken_for_independent_find_differences_that_are_not_there():
    """Why groups are resampled whole."""
    rng, found = np.random.default_rng(8), 0
    for seed in range(100):
        values, _ = clustered(rng, 20, 20, within=0.5)
        found += intervals.mean(values, draws=500, seed=seed).excludes_zero
    assert found > 40


def test_a_paired_difference_is_the_mean_of_the_differences():
    rng = np.random.default_rng(1)
    a, b, groups = rng.random(60), rng.random(60), [at // 5 for at in range(60)]
    assert intervals.paired(a, b, groups=groups) == intervals.mean(b - a, groups=groups)
    other = intervals.paired(b, a, groups=groups)
    assert other.value == pytest.approx(-intervals.paired(a, b, groups=groups).value)


def test_pairing_takes_out_what_both_have_in_common():
    rng = np.random.default_rng(2)
    a = rng.random(100)
    b = a + 0.02 + rng.normal(0, 0.01, 100)
    found = intervals.paired(a, b)
    assert found.excludes_zero and 0.01 < found.low < found.value < found.high < 0.03
    assert intervals.mean(a).high > intervals.mean(b).low  # side by side they overlap


def test_the_same_seed_gives_the_same_interval_and_another_one_another():
    values = np.random.default_rng(0).random(50).tolist()
    assert intervals.mean(values) == intervals.mean(tuple(values)) != intervals.mean(values, seed=1)


def test_draws_taken_in_blocks_are_those_taken_at_once(monkeypatch):
    values = np.random.default_rng(0).random(300)
    whole = intervals.mean(values)
    places = np.random.default_rng(0).integers(0, 300, (2000, 300))
    assert (whole.low, whole.high) == pytest.approx(np.quantile(values[places].mean(axis=1), [0.025, 0.975]))
    monkeypatch.setattr(intervals, "_AT_ONCE", 7 * 300)
    assert intervals.mean(values) == whole


@given(
    st.lists(st.floats(0, 1), min_size=2, max_size=30), st.floats(-2, 2), st.sampled_from([0.5, 2.0]), st.integers(0, 9)
)
@settings(max_examples=60, deadline=None)
def test_values_that_move_and_stretch_take_their_interval_with_them(values, by, times, seed):
    found = intervals.mean(values, draws=200, seed=seed)
    moved = intervals.mean([times * value + by for value in values], draws=200, seed=seed)
    assert (moved.low, moved.high) == pytest.approx((times * found.low + by, times * found.high + by), abs=1e-9)
    assert min(values) - 1e-9 <= found.low <= found.high <= max(values) + 1e-9
    wider = intervals.mean(values, draws=200, seed=seed, level=0.99)
    assert wider.low <= found.low and wider.high >= found.high


# --- what is refused --------------------------------------------------------------------------------------------------


def test_values_without_a_mean_are_refused_with_what_to_do():
    with pytest.raises(InputError, match="no values"):
        intervals.mean([])
    for wrong in (float("nan"), None, float("inf")):
        with pytest.raises(InputError, match=r"value 1 is .* Leave out what has no score"):
            intervals.mean([1.0, wrong, 0.5])
    with pytest.raises(InputError, match="3 values and 2 groups"):
        intervals.mean([1, 2, 3], groups=["a", "b"])
    with pytest.raises(InputError, match=r"2 values cannot be paired with 3. Score both on the same inputs"):
        intervals.paired([1, 2], [1, 2, 3])
    for level, draws in ((0, 10), (1, 10), (95, 10), (0.9, 0)):
        with pytest.raises(InputError, match=r"level must be between 0 and 1|draws must be 1 or more"):
            intervals.mean([1, 2], level=level, draws=draws)


def test_one_group_has_no_interval_and_says_what_to_add():
    with pytest.raises(
        InputError, match=r"the 3 values of one group \('a'\) have no interval.*Add values of other groups"
    ):
        intervals.mean([1, 2, 3], groups=["a", "a", "a"])
    with pytest.raises(InputError, match="one value has no interval"):
        intervals.mean([1])


# --- what an interval says --------------------------------------------------------------------------------------------


def test_an_interval_excludes_zero_only_when_all_of_it_is_on_one_side():
    say = lambda low, high: Interval(0, low, high, 9).excludes_zero
    assert [say(0.1, 0.2), say(-0.2, -0.1), say(-0.1, 0.1), say(0, 0.1), say(-0.1, 0), say(0, 0)] == [
        True,
        True,
    ] + 4 * [False]
    assert str(Interval(0.123, 0.05, 0.194, 1200)) == "0.12 (0.05 to 0.19, n 1,200)"


def test_as_many_values_as_textbooks_say_are_needed_to_see_half_a_standard_deviation():
    # (1.960 + 0.842)^2 / 0.5^2 = 31.4; for 90% power (1.960 + 1.282)^2 / 0.25 = 42.03
    for n in (10, 50):
        spread = np.array([1.0, -1.0] * (n // 2)) * ((n - 1) / n) ** 0.5  # its standard deviation is 1
        b = spread + 0.5
        assert intervals.needed(np.zeros(n), b) == 32
        assert intervals.needed(np.zeros(n), b, power=0.9) == 43


def test_with_as_many_values_as_are_needed_four_in_five_samples_show_the_difference():
    rng = np.random.default_rng(5)
    values, groups = clustered(rng, 400, 5)
    n = intervals.needed(np.zeros(2000), np.array(values) + 0.2, groups=groups)
    documents = round(n / 5)
    assert n > 1.8 * intervals.needed(np.zeros(2000), np.array(values) + 0.2)  # 1 + (5 - 1) 0.3 = 2.2 times as many
    found = 0
    for seed in range(200):
        values, groups = clustered(rng, documents, 5)
        shown = np.array(values) + 0.2
        found += intervals.mean(shown, groups=groups, draws=500, seed=seed).low > 0
    assert 0.7 <= found / 200 <= 0.9


def test_no_number_of_values_shows_a_difference_that_is_none():
    assert intervals.needed([0.5, 0.5], [0.5, 0.5]) is None
    assert intervals.needed([0, 0], [1, 1], groups=["a", "a"]) is None
    assert intervals.needed([0, 0, 0], [0.1, 0.1, 0.1]) == 2
