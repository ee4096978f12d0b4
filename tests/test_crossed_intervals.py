"""Intervals over training seeds and items: they hold the truth as often as they say, agree with an analysis of variance
by hand and with scipy, and refuse what shows nothing about other seeds."""

import itertools
import math

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from scipy import stats

from workbench import intervals
from workbench.errors import InputError

# Differences of 3 seeds on 4 items, worked by hand below.
TABLE = [[1, 0, 1, 2], [0, 0, 1, 1], [2, 0, 1, 3]]


def simulated(rng, seeds, items, *, seed_spread, value):
    """Normal differences: items and seeds by items of variance 1 each, seeds of `seed_spread` squared."""
    table = value + rng.normal(0, seed_spread, (seeds, 1)) + rng.normal(size=items)
    return table + rng.normal(size=(seeds, items))


def as_expected(rng, seeds, items, *, seed_spread, value):
    """The same, whose mean squares are exactly those to be expected."""
    scaled = lambda effects, variance: (effects - effects.mean()) / effects.std(ddof=1) * math.sqrt(variance)
    rest = rng.normal(size=(seeds, items))
    rest = rest - rest.mean(axis=0) - rest.mean(axis=1, keepdims=True) + rest.mean()
    rest *= math.sqrt((seeds - 1) * (items - 1) / (rest**2).sum())
    of_seeds = scaled(rng.normal(size=seeds), seed_spread**2 + 1 / items)
    return value + of_seeds[:, None] + scaled(rng.normal(size=items), 1 + 1 / seeds) + rest


def right_or_wrong(rng, seeds, *, times):
    """Differences of -1, 0 and 1 with mean 0; the effect of a seed is `times` the standard error of the items."""
    cut, spread = 1.5, 0.7  # of a latent normal: groups and items of spread 0.7, seeds by items of 1
    error = 0.121  # of their mean over 40 groups of 5, on the latent scale, measured on 20,000 draws
    names = np.repeat(np.arange(40), 5)
    latent = rng.normal(0, spread, 40)[names] + rng.normal(0, spread, len(names))
    latent = latent + rng.normal(0, times * error, (seeds, 1)) + rng.normal(size=(seeds, len(names)))
    return (latent > cut).astype(float) - (latent < -cut), names.tolist()


# --- agreement with what is worked out otherwise ----------------------------------------------------------------------


def test_a_small_table_has_the_interval_that_an_analysis_of_variance_by_hand_gives():
    # means of seeds 1, 0.5, 1.5; of items 1, 0, 1, 2; of all 1. Mean squares: seeds 4 (0 + .25 + .25) / 2 = 1, items
    # 3 (0 + 1 + 0 + 1) / 3 = 2. Variances of the mean: 1 / 12 of seeds, 2 / 12 of items, together 0.25.
    freedom = 0.25**2 / ((1 / 12) ** 2 / 2 + (2 / 12) ** 2 / 3)  # 4.909
    found = intervals.crossed(TABLE)
    half = stats.t.ppf(0.975, freedom) * 0.5
    assert (found.value, found.low, found.high) == pytest.approx((1, 1 - half, 1 + half))
    assert found.n == 4 and found.level == 0.95
    assert intervals.crossed_p(TABLE) == pytest.approx(2 * stats.t.sf(2, freedom))


@pytest.mark.parametrize("level", [0.5, 0.8, 0.99])
def test_groups_of_any_size_give_the_cluster_robust_variance_written_out(level):
    rng = np.random.default_rng(2)
    names = [f"page {at}" for at in rng.integers(0, 12, 70)]
    table = rng.normal(size=(4, 70)) + rng.normal(size=(4, 1)) + 0.3
    count, value = len(set(names)), table.mean()
    of_groups = sum(
        sum(table[:, at].mean() - value for at in range(70) if names[at] == name) ** 2 for name in set(names)
    )
    of_groups *= count / (count - 1) / 70**2
    of_seeds = stats.sem(table.mean(axis=1)) ** 2
    freedom = (of_seeds + of_groups) ** 2 / (of_seeds**2 / 3 + of_groups**2 / (count - 1))
    wanted = stats.t.interval(level, freedom, loc=value, scale=(of_seeds + of_groups) ** 0.5)
    found = intervals.crossed(table, groups=names, level=level)
    assert (found.low, found.high) == pytest.approx(wanted)


def test_seeds_that_are_all_alike_leave_students_interval_over_items():
    row = np.random.default_rng(3).normal(0.3, 1, 50)
    found, wanted = intervals.crossed([row] * 3), stats.ttest_1samp(row, 0)
    assert (found.low, found.high) == pytest.approx(tuple(wanted.confidence_interval()))
    assert intervals.crossed_p([row] * 3) == pytest.approx(wanted.pvalue)


def test_items_that_are_all_alike_leave_students_interval_over_seeds():
    """As of an untouched base that fails on every item, and a treatment whose items all depend on its seed alone."""
    means = np.array([0.1, 0.4, 0.2, 0.25])
    found, wanted = intervals.crossed(np.repeat(means[:, None], 60, axis=1)), stats.ttest_1samp(means, 0)
    assert (found.low, found.high) == pytest.approx(tuple(wanted.confidence_interval()))


def test_items_that_are_each_their_own_group_are_items_without_groups():
    table = np.random.default_rng(4).normal(size=(3, 20))
    assert intervals.crossed(table, groups=list(range(20))) == intervals.crossed(table)
    assert intervals.pigeonhole(table, groups=list(range(20))) == intervals.pigeonhole(table)
    assert intervals.seeds_and_items(table, groups=list(range(20))) == intervals.seeds_and_items(table)


def test_copies_of_an_item_say_nothing_new_once_they_are_a_group():
    table = np.random.default_rng(5).normal(size=(3, 30))
    alone = intervals.crossed(table)
    copied = intervals.crossed(np.repeat(table, 10, axis=1), groups=np.repeat(np.arange(30), 10).tolist())
    assert (copied.low, copied.high) == pytest.approx((alone.low, alone.high))


@given(st.floats(1e-6, 1e4), st.floats(1, 1e5))
@example(1e-200, 3.0)
@example(1.0, 1.0)
@settings(max_examples=300, deadline=None)
def test_students_t_is_that_of_scipy(t, freedom):
    assert intervals._beyond(t, freedom) == pytest.approx(2 * stats.t.sf(t, freedom), rel=1e-8, abs=1e-300)


@given(st.floats(0.01, 0.9999), st.floats(1, 1e5))
@example(0.95, 1.0)
@settings(max_examples=100, deadline=None)
def test_quantiles_of_students_t_are_those_of_scipy(level, freedom):
    assert intervals._student(level, freedom) == pytest.approx(stats.t.ppf((1 + level) / 2, freedom), rel=1e-7)


def test_the_spread_of_pigeonhole_draws_is_that_of_owens_formula():
    """Seeds, groups and residual each with the divisor n of a bootstrap, the residual in all three (Owen 2007, sec. 3)."""
    rng = np.random.default_rng(6)
    table = rng.normal(size=(40, 60)) + rng.normal(0, 0.3, (40, 1)) + rng.normal(0, 0.3, 60)
    rest = table - table.mean(axis=0) - table.mean(axis=1, keepdims=True) + table.mean()
    variance = table.mean(axis=1).var() / 40 + table.mean(axis=0).var() / 60 + rest.var() / 2400
    found = intervals.pigeonhole(table, draws=20_000)
    assert found.value == pytest.approx(table.mean()) and found.n == 60
    assert found.high - found.low == pytest.approx(2 * 1.96 * math.sqrt(variance), rel=0.04)


def test_pigeonhole_draws_are_those_of_rows_and_columns_taken_by_hand():
    rng = np.random.default_rng(7)
    names = np.repeat(np.arange(15), rng.integers(1, 6, 15))
    table = 3 + rng.normal(size=(5, len(names))) + rng.normal(size=(5, 1)) + rng.normal(size=15)[names]
    means = []
    for _ in range(6000):
        columns = np.concatenate([np.flatnonzero(names == group) for group in rng.integers(0, 15, 15)])
        means.append(table[np.ix_(rng.integers(0, 5, 5), columns)].mean())
    low, high = np.quantile(means, [0.1, 0.9])
    found = intervals.pigeonhole(table, groups=names.tolist(), level=0.8, draws=6000)
    assert (found.low, found.high) == pytest.approx((low, high), abs=0.05 * (high - low))


def test_pigeonhole_draws_in_blocks_are_those_at_once(monkeypatch):
    table = np.random.default_rng(8).normal(size=(3, 50))
    whole = intervals.pigeonhole(table)
    assert whole != intervals.pigeonhole(table, seed=1)
    monkeypatch.setattr(intervals, "_AT_ONCE", 7 * 50)
    assert intervals.pigeonhole(table) == whole


# --- coverage ---------------------------------------------------------------------------------------------------------


# `times` is the spread of seeds in standard errors of the items; the shares are of 3,000 other tables.
@pytest.mark.parametrize(
    ("seeds", "times", "of_crossed", "of_pigeonhole"),
    [
        (2, 0, 0.969, 0.960),
        (2, 3, 0.906, 0.823),
        (3, 0, 0.965, 0.960),
        (3, 1, 0.961, 0.947),
        (3, 3, 0.936, 0.875),
        (3, 6, 0.921, 0.803),
        (5, 3, 0.953, 0.918),
        (10, 3, 0.954, 0.942),
    ],
)
def test_of_intervals_called_95_percent_as_many_hold_the_truth_as_the_docstrings_say(
    seeds, times, of_crossed, of_pigeonhole
):
    rng, crossed, pigeonhole = np.random.default_rng(100 * seeds + times), 0, 0
    for seed in range(350):
        table, groups = right_or_wrong(rng, seeds, times=times)
        found = intervals.crossed(table, groups=groups)
        crossed += found.low <= 0 <= found.high
        found = intervals.pigeonhole(table, groups=groups, draws=300, seed=seed)
        pigeonhole += found.low <= 0 <= found.high
    chance = lambda share: 3.3 * math.sqrt(share * (1 - share) / 350)
    assert crossed / 350 == pytest.approx(of_crossed, abs=chance(of_crossed))
    assert pigeonhole / 350 == pytest.approx(of_pigeonhole, abs=chance(of_pigeonhole))


def test_an_interval_over_items_alone_finds_differences_between_arms_that_differ_by_their_seeds():
    """Why seeds are part of the interval: each arm trained once, on data that are worth the same."""
    rng, over_items, over_both = np.random.default_rng(9), 0, 0
    for _ in range(200):
        table, groups = right_or_wrong(rng, 3, times=3)
        over_items += intervals.mean(table[0], groups=groups, draws=200).excludes_zero
        over_both += intervals.crossed(table, groups=groups).excludes_zero
    assert over_items > 80 and over_both < 30


# --- properties -------------------------------------------------------------------------------------------------------

tables = st.tuples(st.integers(2, 5), st.integers(2, 8), st.integers(0, 10_000)).map(
    lambda given: np.random.default_rng(given[2]).integers(-1, 2, given[:2]).astype(float)
)


@given(tables, st.floats(-3, 3), st.sampled_from([0.01, 0.5, 40.0]))
@settings(max_examples=80, deadline=None)
def test_differences_that_move_and_stretch_take_their_interval_with_them(table, by, times):
    found, moved = intervals.crossed(table), intervals.crossed(times * table + by)
    wanted = (times * found.value + by, times * found.low + by, times * found.high + by)
    assert (moved.value, moved.low, moved.high) == pytest.approx(wanted, abs=1e-6 * times)
    stretched = intervals.crossed_p(times * table)
    assert stretched == pytest.approx(intervals.crossed_p(table), abs=1e-9)
    assert intervals.crossed_p(-table) == pytest.approx(intervals.crossed_p(table), abs=1e-9)


@given(tables, st.randoms(use_true_random=False))
@settings(max_examples=60, deadline=None)
def test_the_order_of_seeds_and_items_changes_nothing(table, random):
    groups = [random.choice("abc") for _ in table[0]]
    groups[:2] = "ab"
    seeds, items = (random.sample(range(size), size) for size in table.shape)
    found, shuffled = (table, groups), (table[np.ix_(seeds, items)], [groups[at] for at in items])
    for about in (intervals.crossed, intervals.seeds_and_items):
        one, other = (vars(about(values, groups=names)) for values, names in (found, shuffled))
        assert {name: pytest.approx(value) for name, value in one.items()} == other
    p, other_p = (intervals.crossed_p(values, groups=names) for values, names in (found, shuffled))
    assert p == pytest.approx(other_p, abs=1e-9)


@given(tables)
@settings(max_examples=80, deadline=None)
def test_the_p_value_is_where_the_interval_just_touches_zero(table):
    p = intervals.crossed_p(table)
    if 1e-6 < p < 1 - 1e-6:
        assert not intervals.crossed(table, level=min(1 - 1e-12, 1 - 0.999 * p)).excludes_zero
        assert intervals.crossed(table, level=1 - min(1.001 * p, 1 - 1e-12)).excludes_zero
    assert (p < 0.05) == intervals.crossed(table).excludes_zero


# --- degenerate tables ------------------------------------------------------------------------------------------------


def test_arms_that_never_differ_have_an_interval_of_no_width_that_shows_nothing():
    for about in (intervals.crossed, intervals.pigeonhole):
        found = about(np.zeros((3, 20)), groups=[at // 2 for at in range(20)])
        assert (found.value, found.low, found.high, found.excludes_zero) == (0, 0, 0, False)
    assert intervals.crossed_p(np.zeros((3, 20))) == 1
    needed = intervals.seeds_and_items(np.zeros((3, 20)))
    assert (needed.seeds, needed.items, needed.smallest) == (None, None, 0)


def test_arms_that_always_differ_alike_have_an_interval_of_no_width_away_from_zero():
    table = np.full((3, 20), 0.1)  # a tenth has no exact binary fraction
    for about in (intervals.crossed, intervals.pigeonhole):
        found = about(table)
        assert (found.low, found.high) == pytest.approx((0.1, 0.1), abs=1e-12) and found.excludes_zero
    assert intervals.crossed_p(table) < 1e-12
    needed = intervals.seeds_and_items(table)
    assert (needed.seeds, needed.items) == (2, 2) and needed.smallest == pytest.approx(0, abs=1e-12)


def test_two_seeds_that_contradict_each_other_show_nothing():
    table = np.repeat([[0.5], [-0.5]], 30, axis=1)
    found = intervals.crossed(table)
    assert found.value == 0 and found.high == pytest.approx(0.5 * stats.t.ppf(0.975, 1))  # 12.7 standard errors
    assert intervals.crossed_p(table) == 1


# --- how many would do ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("seeds", "items", "seed_spread"), [(4, 60, 0.1), (6, 60, 0.3), (10, 40, 0.5)])
def test_with_as_many_seeds_or_items_as_are_needed_four_in_five_experiments_show_the_difference(
    seeds, items, seed_spread
):
    rng = np.random.default_rng(seeds)
    about = intervals.seeds_and_items(as_expected(rng, seeds, items, seed_spread=seed_spread, value=1))
    value = 0.9 * about.smallest
    needed = intervals.seeds_and_items(as_expected(rng, seeds, items, seed_spread=seed_spread, value=value))
    assert needed.smallest == pytest.approx(about.smallest) and needed.seeds > seeds and needed.items > items
    for design in (
        (seeds, items, about.smallest),
        (needed.seeds, items, value),
        (seeds, needed.items, value),
    ):
        tables = (simulated(rng, *design[:2], seed_spread=seed_spread, value=design[2]) for _ in range(400))
        found = sum(intervals.crossed(table).excludes_zero for table in tables)
        assert found / 400 == pytest.approx(0.8, abs=0.08), (design, found)


@given(tables, st.sampled_from([0.5, 0.8, 0.95]))
@example(np.tile([[1.0, 1, 1, 0], [1, 1, 1, -1]], 3), 0.5)  # 12 items are enough, and 1,000 are not
@settings(max_examples=80, deadline=None)
def test_an_experiment_is_large_enough_exactly_where_its_difference_is_not_below_the_smallest(table, power):
    needed = intervals.seeds_and_items(table, power=power)
    if needed.value:
        enough = needed.smallest <= abs(needed.value)
        assert (needed.seeds is not None and needed.seeds <= len(table)) == enough
        assert (needed.items is not None and needed.items <= len(table[0])) == enough


def test_as_many_seeds_as_a_t_test_needs_where_items_say_nothing():
    """statsmodels' TTestPower gives 33.37 for half a standard deviation at 80%; here by the noncentral t of scipy."""
    means = np.tile([1.0, -1.0], 30) * math.sqrt(59 / 60) + 0.5  # of standard deviation 1
    needed = intervals.seeds_and_items(np.repeat(means[:, None], 400, axis=1))
    power = lambda n: stats.nct.sf(stats.t.ppf(0.975, n - 1), n - 1, 0.5 * math.sqrt(n))
    wanted = next(n for n in itertools.count(2) if power(n) >= 0.8)
    assert wanted == 34 and abs(needed.seeds - wanted) <= 1
    assert needed.items == 2 and intervals.seeds_and_items(np.repeat(means[:30, None], 400, axis=1)).items is None


def test_more_items_can_be_worse_with_few_seeds_and_fewer_are_not_advised_for_it():
    of = lambda items: as_expected(np.random.default_rng(0), 3, items, seed_spread=0.17, value=0.48)
    enough, too_many = intervals.seeds_and_items(of(300)), intervals.seeds_and_items(of(3000))
    assert enough.smallest < 0.48 < too_many.smallest
    assert enough.items < 300 and too_many.items is None
    grown = intervals.seeds_and_items(of(50))  # 50 are too few
    assert 50 < grown.items == enough.items


def test_a_narrow_range_of_numbers_that_are_enough_is_found():
    assert intervals._first(lambda count: 5_000 <= count <= 5_500, 300) == 5_000
    assert intervals._first(lambda count: count >= 300, 300) == 300
    assert intervals._first(lambda count: True, 300) == 2
    assert intervals._first(lambda count: count > 10_000_000, 300) is None


@pytest.mark.parametrize("draw", range(4))
def test_the_smallest_difference_is_that_of_the_variances_written_out(draw):
    rng = np.random.default_rng(draw)
    names = rng.permutation(np.repeat(np.arange(8), [1, 2, 3, 4, 5, 6, 7, 12]))
    table = rng.normal(size=(3, 40)) + 0.2 * draw * (rng.normal(size=(3, 1)) + rng.normal(size=8)[names])
    of_seeds, of_groups, rest = stats.sem(table.mean(axis=1)) ** 2, 0.0, 0.0
    for at in (names == group for group in range(8)):
        of_groups += (table.mean(axis=0) - table.mean())[at].sum() ** 2 * 8 / 7 / 40**2
        for row in table:
            left = row - table.mean(axis=0) - row.mean() + table.mean()
            rest += left[at].sum() ** 2 * 8 / 7 / 40**2 / (3 * 2)
    of_seeds, of_groups = max(of_seeds, rest), max(of_groups, rest)  # neither is less than what both hold
    freedom = (of_seeds + of_groups) ** 2 / (of_seeds**2 / 2 + of_groups**2 / 7)
    wanted = stats.t.ppf([0.975, 0.9], freedom).sum() * (of_seeds + of_groups) ** 0.5
    assert intervals.seeds_and_items(table, groups=names.tolist(), power=0.9).smallest == pytest.approx(wanted)


def test_no_number_of_seeds_makes_up_for_items_that_differ_too_much():
    row = np.random.default_rng(11).normal(size=40)
    table = np.array([row - row.mean() + 0.01] * 3)
    needed = intervals.seeds_and_items(table)
    assert needed.seeds is None and needed.items > 10_000
    more = intervals.seeds_and_items(table, power=0.95)
    assert more.items > needed.items and more.smallest > needed.smallest
    assert intervals.seeds_and_items(table, level=0.99).items > needed.items


def test_new_groups_have_the_sizes_of_those_there_are():
    rng = np.random.default_rng(12)
    row = np.repeat(rng.normal(0.2, 1, 30), 5)
    grouped = intervals.seeds_and_items([row] * 3, groups=np.repeat(np.arange(30), 5).tolist())
    alone = intervals.seeds_and_items([row[::5]] * 3)
    assert grouped.items == 5 * alone.items and grouped.smallest == pytest.approx(alone.smallest)


def test_what_is_needed_says_itself_in_one_sentence():
    of = lambda **changed: repr(
        intervals.Needed(**{**dict(value=-0.031, seeds=9, items=1310, smallest=0.0618, now=(3, 400), level=0.95, power=0.8), **changed})
    )  # fmt: skip
    assert of() == (
        "3 seeds and 400 items show a difference of 0.062 in 80% of experiments; for one of 0.031, 9 seeds would do with "
        "these items, and 1,310 items with these seeds"
    )
    assert "no number of seeds would do with these items, and 1,310 items" in of(seeds=None)
    assert "9 seeds would do with these items, and no number of items with these seeds" in of(items=None)
    assert of(value=0.0, seeds=None, items=None).endswith("; here there is none to show")


# --- Holm -------------------------------------------------------------------------------------------------------------


def test_holm_adjusts_a_worked_example():
    # 0.005 x 4, 0.01 x 3, 0.03 x 2, and 0.04 x 1, which may not be below the one before it
    assert intervals.holm({"1": 0.01, "2": 0.04, "3": 0.03, "4": 0.005}) == pytest.approx(
        {"1": 0.03, "2": 0.06, "3": 0.06, "4": 0.02}
    )
    assert list(intervals.holm({"b": 0.5, "a": 0.1})) == ["b", "a"]
    assert intervals.holm({}) == {} and intervals.holm({"one": 0.04}) == {"one": 0.04}


@given(
    st.lists(st.sampled_from([0.0, 0.001, 0.01, 0.02, 0.02, 0.3, 0.7, 1.0]) | st.floats(0, 1), min_size=1, max_size=6)
)
@settings(max_examples=100, deadline=None)
def test_holm_is_the_closed_test_of_bonferronis(p_values):
    """A hypothesis falls where every set that holds it falls by Bonferroni (Marcus et al. 1976)."""
    named = dict(enumerate(p_values))
    sets = [chosen for size in range(1, len(named) + 1) for chosen in itertools.combinations(named, size)]
    bonferroni = lambda chosen: min(1.0, len(chosen) * min(named[at] for at in chosen))
    assert intervals.holm(named) == pytest.approx(
        {at: max(bonferroni(chosen) for chosen in sets if at in chosen) for at in named}
    )


def test_what_is_no_p_value_is_refused_by_its_name():
    for wrong in (float("nan"), -0.1, 1.1):
        with pytest.raises(InputError, match=r"the p-value of 'shuffled labels' is .*, wanted 0 to 1"):
            intervals.holm({"length only": 0.2, "shuffled labels": wrong})


# --- what is refused --------------------------------------------------------------------------------------------------

REFUSED = {
    "one seed shows nothing about other seeds. Train with another": ([[0, 1, 2]], None),
    "no values, so there is no mean": ([], None),
    "no values, so there is no": ([[], []], None),
    r"seeds have 2 to 3 items. Keep the items that every seed has": ([[0, 1, 2], [0, 1]], None),
    r"the shape \(3,\), wanted \(seeds, items\)": ([0, 1, 2], None),
    r"the shape \(2, 1, 2\), wanted": ([[[0, 1]], [[0, 1]]], None),
    "seed 1, item 2 is nan. Leave the item out under every seed": ([[0, 1, 2], [0, 1, float("nan")]], None),
    "seed 0, item 1 is nan": ([[0, None], [0, 1]], None),
    "seed 0, item 0 is inf": ([[float("inf"), 0], [0, 1]], None),
    r"the items are of one group \(2\), which shows nothing about others. Add items": ([[0, 1], [1, 1]], ["a", "a"]),
    r"the items are of one group \(1\)": ([[0], [1]], None),
    "3 values and 2 groups. Name the group of each": ([[0, 1, 2], [0, 1, 1]], ["a", "b"]),
}


@pytest.mark.parametrize("message", REFUSED)
def test_a_table_that_shows_nothing_is_refused_with_what_to_do(message):
    values, groups = REFUSED[message]
    for about in (intervals.crossed, intervals.crossed_p, intervals.pigeonhole, intervals.seeds_and_items):
        with pytest.raises(InputError, match=message):
            about(values, groups=groups)


def test_levels_draws_and_powers_that_are_none_are_refused():
    for level in (0, 1, 95, float("nan")):
        for about in (intervals.crossed, intervals.pigeonhole, intervals.seeds_and_items):
            with pytest.raises(InputError, match="level must be between 0 and 1, got"):
                about(TABLE, level=level)
    with pytest.raises(InputError, match="draws must be 1 or more, got 0"):
        intervals.pigeonhole(TABLE, draws=0)
    for power in (0.4, 1, 80):
        with pytest.raises(InputError, match=r"power must be 0\.5 or more and less than 1"):
            intervals.seeds_and_items(TABLE, power=power)
