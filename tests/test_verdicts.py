"""Verdicts: of noise they seldom say anything, of an effect that was put in they say what it is, and why, in its numbers."""

import numpy as np
import pyarrow as pa
import pytest
from scipy import stats

from workbench import intervals
from workbench.errors import InputError
from workbench.train import verdicts
from workbench.train.verdicts import BALANCED, BASE, LENGTH, MISMATCHED, RANDOM, SHUFFLED, TWICE

SIZE = 2  # held-out rows of a group


def table(arms, groups, metric="probability"):
    """Items of arms: each (seeds, items), the base's one row."""
    rows = [
        (arm, None if arm == BASE else seed, f"item {at:03}", groups[at], metric, float(value))
        for arm, values in arms.items()
        for seed, line in enumerate(values)
        for at, value in enumerate(line)
    ]
    names = ("arm", "seed", "item", "group", "metric", "value")
    return pa.table(dict(zip(names, map(list, zip(*rows, strict=True)), strict=True)))


def names_of(groups):
    return [f"group {at:03}" for at in range(groups) for _ in range(SIZE)]


def arm(rng, seeds, groups, *, value=0.0, within=0.2):
    """Values of an arm: a common one, that of each item (`within` its group alike), a seed's, and a rest of 0.5."""
    items = rng.normal(size=groups).repeat(SIZE) * within**0.5 + rng.normal(size=groups * SIZE) * (1 - within) ** 0.5
    of_seeds = rng.normal(size=(seeds, 1)) / (groups * SIZE) ** 0.5
    return value + items + of_seeds + rng.normal(size=(seeds, groups * SIZE)) * 0.5


def world(rng, seeds, groups, *, own=0.0, length=0.0, within=0.2, luck=0.0):
    """Arms of noise, with a common value of the treatment and of the length arm; `luck` is how far data by lot push all items:
    one push for the treatment, and a new one under each seed for its controls."""
    push = lambda *size: luck * rng.normal(size=size)
    of = lambda value: arm(rng, seeds, groups, value=value, within=within)
    return {
        BASE: np.zeros((1, groups * SIZE)), "all": of(own + push(1)), SHUFFLED: of(push(seeds, 1)), LENGTH: of(length + push(1)),
        RANDOM: of(push(seeds, 1)),
    }  # fmt: skip


def sides(rng, count, share=0.5):
    return dict(zip((f"item {at:03}" for at in range(count)), (rng.random(count) < share).astype(float), strict=True))


def judged(arms, groups, longer=None, treatments=("all",), **more):
    return verdicts.judge(table(arms, groups), treatments, primary="probability", longer=longer, **more)


def clear(*, seeds=3, groups=12, seed=0, share=0.5, **values):
    """An experiment in which each arm's items are around its value, give or take 0.1; the seed decides nothing."""
    rng, count = np.random.default_rng(seed), groups * SIZE
    arms = {
        name.replace("_", " "): value + 0.1 * rng.normal(size=(1 if name == BASE else seeds, count))
        for name, value in values.items()
    }
    return arms, names_of(groups), {f"item {at:03}": float(at % 20 < 20 * share) for at in range(count)}


CONTROLS = {"base": 0.0, "shuffled_labels": 0.0, "length_only": 0.0, "random_pairs": 0.0}


# --- noise --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seeds", [3, 5])
@pytest.mark.parametrize("groups", [12, 40])
@pytest.mark.parametrize(
    "noise", [{}, {"luck": 1.0}, {"within": 0.9}], ids=["exchangeable", "by lot", "alike in groups"]
)
def test_of_noise_it_seldom_says_more_than_no_evidence(noise, seeds, groups):
    rng, count, said = np.random.default_rng([seeds, groups, *map(ord, str(noise))]), 100, []
    for _ in range(count):
        arms = world(rng, seeds, groups, **noise)
        said += [found.verdict for found in judged(arms, names_of(groups), sides(rng, groups * SIZE))]
    # At rates of 0.025 and 0.05 more than this comes once in a thousand times. A thousand each are told of in verdicts.py.
    assert said.count("helps") + said.count("confounded by length") <= stats.binom.ppf(0.999, count, 0.025)
    assert count - said.count("no evidence") <= stats.binom.ppf(0.999, count, 0.05)


def test_without_counting_the_draws_of_data_luck_would_be_taken_for_worth(monkeypatch):
    monkeypatch.setattr(verdicts._Measured, "draws", lambda *_: ())
    rng, said = np.random.default_rng(1), []
    for _ in range(40):
        arms = world(rng, 3, 40, luck=1.0)
        said += [found.verdict for found in judged(arms, names_of(40), sides(rng, 80))]
    assert said.count("no evidence") < 25


def test_several_treatments_of_noise_do_not_add_up_to_a_claim():
    rng, any_said = np.random.default_rng(2), 0
    for _ in range(40):
        arms = world(rng, 3, 12) | {f"part {at}": arm(rng, 3, 12) for at in range(4)}
        found = judged(arms, names_of(12), sides(rng, 24), ["all", *(f"part {at}" for at in range(4))])
        any_said += any(each.verdict != "no evidence" for each in found)
    assert any_said <= stats.binom.ppf(0.999, 40, 0.05)


# --- effects ------------------------------------------------------------------------------------------------------------


def test_an_effect_of_a_size_to_be_seen_helps():
    rng, said = np.random.default_rng(3), []
    for _ in range(25):
        arms = world(rng, 3, 40, own=1.0, luck=0.1)
        said += [found.verdict for found in judged(arms, names_of(40), sides(rng, 80))]
    assert said.count("helps") >= 20


def test_harm_harms():
    rng, said = np.random.default_rng(4), []
    for _ in range(25):
        said += [found.verdict for found in judged(world(rng, 3, 40, own=-1.0), names_of(40), sides(rng, 80))]
    assert said.count("harms") >= 22


def test_what_preferring_the_longer_text_does_as_well_is_confounded_by_length():
    rng, said = np.random.default_rng(5), []
    for _ in range(25):
        said += [
            found.verdict for found in judged(world(rng, 3, 40, own=1.0, length=1.0), names_of(40), sides(rng, 80, 0.7))
        ]
    assert said.count("confounded by length") >= 20 and "helps" not in said


@pytest.mark.parametrize("share", [0.7, 0.3, 0.15, 0.02])
@pytest.mark.parametrize("part", [0.6, -0.6], ids=["longer", "shorter"])
@pytest.mark.parametrize("groups", [12, 40])
def test_a_model_that_learnt_length_in_part_is_never_said_to_be_helped(share, part, groups):
    """It gains on one side what it loses on the other; the length arm gains and loses more, on its own side."""
    rng, count, said = np.random.default_rng([groups, int(100 * share)]), 30, []
    for _ in range(count):
        longer = sides(rng, groups * SIZE, share)
        sign = 2 * np.array(list(longer.values())) - 1
        arms = world(rng, 3, groups, own=5 * part * sign, length=5 * sign)
        said += [found.verdict for found in judged(arms, names_of(groups), longer)]
    assert said.count("helps") <= stats.binom.ppf(0.999, count, 0.025)
    if (share > 0.5) == (part > 0) and groups == 40:
        assert said.count("confounded by length") >= 24


def test_where_the_shorter_text_is_nearly_always_chosen_no_weights_balance_and_it_says_so():
    arms, groups, _ = clear(all=1.0, **CONTROLS)
    longer = {f"item {at:03}": float(at in (0, 1, 5)) for at in range(24)}
    (found,) = judged(arms, groups, longer)
    assert found.verdict == "confounded by length" and found.of(BALANCED) is None and found.needed is None
    assert found.reason.endswith(
        ", but the shorter text is chosen in 21 of 24 held-out pairs and the longer one in pairs of 2 groups, too few to balance "
        "by (5 at least), so that preferring the shorter one may be all there is to it."
    )
    # The other way round the length arm is a control of just that.
    (found,) = judged(arms, groups, {item: 1 - side for item, side in longer.items()})
    assert found.verdict == "helps" and found.of(BALANCED) is None


def test_five_groups_on_either_side_are_balanced_by_and_four_are_not():
    arms, groups, _ = clear(all=1.0, **CONTROLS)
    for count, verdict in ((8, "confounded by length"), (9, "helps")):
        (found,) = judged(arms, groups, {f"item {at:03}": float(at < count) for at in range(24)})
        assert found.verdict == verdict and (found.of(BALANCED) is not None) == (count == 9)


def test_pairs_of_equal_lengths_balance_nothing_and_confound_nothing():
    arms, groups, _ = clear(all=1.0, **CONTROLS)
    (found,) = judged(arms, groups, {f"item {at:03}": 0.5 for at in range(24)})
    assert found.verdict == "helps" and found.of(BALANCED) is None


def test_the_balanced_gain_is_the_mean_of_both_sides_and_its_error_that_of_two_means():
    rng, groups = np.random.default_rng(6), 60
    longer = {f"item {at:03}": float(at % 10 < 8) for at in range(groups * SIZE)}
    is_longer = np.array(list(longer.values())) == 1
    values = np.where(is_longer, 2.0, 1.0) + 0.1 * rng.normal(size=groups * SIZE)
    arms = {BASE: np.zeros((1, groups * SIZE)), "all": np.tile(values, (3, 1)), SHUFFLED: np.zeros((3, groups * SIZE))}
    arms |= {LENGTH: arms[SHUFFLED]}
    items = [f"group {at:03}" for at in range(groups * SIZE)]  # each its own
    found = judged(arms, items, longer)[0].of(BALANCED).interval
    one, other = values[is_longer], values[~is_longer]
    error = np.hypot(one.std(ddof=1) / len(one) ** 0.5, other.std(ddof=1) / len(other) ** 0.5) / 2
    assert found.value == pytest.approx((one.mean() + other.mean()) / 2)
    assert (found.high - found.low) / 2 == pytest.approx(1.98 * error, rel=0.03)


def test_luck_with_lengths_that_balancing_takes_out_is_not_counted_against_the_balanced_gain():
    arms, groups, longer = clear(all=1.0, **CONTROLS)
    sign = 2 * np.array(list(longer.values())) - 1
    arms[SHUFFLED] = arms[SHUFFLED] + np.array([[-3.0], [0.0], [3.0]]) * (sign - sign.mean() + 0.1)
    found = judged(arms, groups, longer)[0]
    width = lambda control: found.of(control).interval.high - found.of(control).interval.low
    pushed = (arms[SHUFFLED][:, sign > 0].mean(axis=1) + arms[SHUFFLED][:, sign < 0].mean(axis=1)) / 2
    expected = intervals.crossed(np.zeros((3, 24)), draws=pushed.tolist())
    assert width(BALANCED) == pytest.approx(expected.high - expected.low, rel=0.1)


# --- what is missing ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("value", [1.0, -1.0])
def test_without_an_arm_by_lot_nothing_is_said_neither_good_nor_bad(value):
    for without, longer in ((SHUFFLED, "shuffled labels"), (MISMATCHED, "mismatched answers")):
        arms, groups, which = clear(all=value, base=0.0, length_only=0.0)
        (found,) = judged(arms, groups, which if without == SHUFFLED else None)
        gained = found.of(BASE)
        assert found.verdict == "no evidence" and found.needed is None
        assert found.reason == (
            f"No arm with {longer} was trained, so any fine-tuning may do what this did (by probability, {gained} over the untouched "
            "base). Train one."
        )


def test_pairs_without_a_length_arm_may_be_length_alone():
    arms, groups, longer = clear(all=1.0, base=0.0, shuffled_labels=0.0)
    (found,) = judged(arms, groups, longer)
    assert found.verdict == "no evidence"
    assert found.reason.startswith(
        f"By probability it gains over the untouched base {found.of(BASE)} and shuffled labels {found.of(SHUFFLED)}, and "
    )
    assert ", and no arm with length only was trained, so length may be all there is to it. Train one." in found.reason
    (answers,) = judged(arms, groups, None)  # of answers there is no longer one
    assert answers.verdict == "helps"


def test_one_seed_and_few_groups_are_no_evidence_and_need_no_more_words():
    arms, groups, longer = clear(seeds=1, all=5.0, **CONTROLS)
    (found,) = judged(arms, groups, longer)
    assert (found.verdict, found.reason) == (
        "no evidence",
        "One seed shows nothing about other seeds: train with 3 or more.",
    )
    assert found.differences == () and found.needed is None and found.table().num_rows == 0
    arms, groups, longer = clear(groups=9, all=5.0, **CONTROLS)
    (found,) = judged(arms, groups, longer)
    assert found.verdict == "no evidence"
    assert (
        found.reason
        == "9 groups of held-out rows are too few to tell (10 at least): hold out rows of more documents or prompts."
    )
    assert judged(*clear(groups=10, all=5.0, **CONTROLS))[0].verdict == "helps"


def test_half_of_the_rows_twice_decides_nothing():
    arms, groups, longer = clear(all=1.0, half_twice=2.0, **CONTROLS)
    (found,) = judged(arms, groups, longer)
    assert found.verdict == "helps" and found.of(TWICE).interval.high < 0


# --- words and numbers --------------------------------------------------------------------------------------------------


def said(values, level=0.95, draws=(), groups=None):
    """A difference as it must be printed, from its values by hand: (seeds, items) of one value each."""
    found = intervals.crossed(values, groups=groups, level=level, draws=draws)
    return f"{np.mean(values):+.3f} ({found.low:+.3f} to {found.high:+.3f})"


def test_the_reason_names_each_control_with_the_difference_that_comes_out_by_hand():
    arms, groups, longer = clear(all=1.0, **CONTROLS)
    (found,) = judged(arms, groups, longer)
    lot = lambda name: arms[name].mean(axis=1).tolist()
    less = lambda name, draws: said(arms["all"] - arms[name], draws=draws, groups=groups)
    assert found.reason == (
        f"By probability it gains over the untouched base {less(BASE, lot(SHUFFLED))}, shuffled labels {less(SHUFFLED, lot(SHUFFLED))} "
        f"and random pairs {less(RANDOM, lot(RANDOM))}, and over preferring the longer text {less(LENGTH, ())} and the base where "
        f"lengths are balanced {found.of(BALANCED)}."
    )
    assert repr(found) == f"all: helps. {found.reason}"


def test_what_is_not_shown_is_said_with_what_would_show_it_and_what_is_shown_beside_it():
    rng = np.random.default_rng(7)
    arms, groups, longer = clear(all=1.0, **CONTROLS)
    arms[RANDOM] = 0.9 + rng.normal(size=(3, 24))
    (found,) = judged(arms, groups, longer)
    assert found.verdict == "no evidence" and found.of(RANDOM).interval.low < 0 < found.of(RANDOM).interval.value
    assert found.reason == (
        f"By probability its gain over random pairs cannot be told from none, {found.of(RANDOM)}; over the untouched base {found.of(BASE)} "
        f"and shuffled labels {found.of(SHUFFLED)} it is shown. {found.needed!r}."
    )
    assert found.needed.value == pytest.approx(found.of(RANDOM).interval.value)


def test_less_than_a_control_is_said_to_be_less_and_no_number_of_seeds_is_promised():
    arms, groups, longer = clear(all=1.0, **CONTROLS | {"shuffled_labels": 3.0})
    (found,) = judged(arms, groups, longer)
    assert found.verdict == "no evidence" and found.needed is None
    assert found.reason.startswith(
        f"By probability it is worse than shuffled labels, {found.of(SHUFFLED)}; over the untouched base"
    )
    assert "seeds" not in found.reason


def test_harm_is_told_from_the_harm_of_any_such_training():
    arms, groups, longer = clear(all=-1.0, **CONTROLS)
    (found,) = judged(arms, groups, longer)
    worse = f"By probability it is worse than the untouched base, {found.of(BASE)}; than with shuffled labels"
    assert found.verdict == "harms" and found.reason == f"{worse} too, {found.of(SHUFFLED)}."
    arms, groups, longer = clear(all=-1.0, **CONTROLS | {"shuffled_labels": -1.0})
    (found,) = judged(arms, groups, longer)
    assert found.verdict == "harms"
    assert found.reason.endswith(
        f"; than with shuffled labels it is not shown to be, {found.of(SHUFFLED)}, so that any such training may do it."
    )


def test_of_a_loss_less_is_better():
    arms, groups, _ = clear(all=2.0, base=3.0, mismatched_answers=3.5)
    (found,) = verdicts.judge(table(arms, groups, "loss"), ["all"], primary="loss")
    assert found.verdict == "helps"
    assert found.of(BASE).interval.value == pytest.approx((arms[BASE] - arms["all"]).mean())
    assert found.of(MISMATCHED).interval.value == pytest.approx((arms[MISMATCHED] - arms["all"]).mean())
    arms["all"] = arms["all"] + 2
    (found,) = verdicts.judge(table(arms, groups, "loss"), ["all"], primary="loss")
    assert found.verdict == "harms" and "worse than the untouched base, -" in found.reason


def test_other_metrics_are_shown_and_decide_nothing():
    arms, groups, longer = clear(all=1.0, **CONTROLS)
    worse = {name: -5 * values for name, values in arms.items()}
    items = pa.concat_tables([table(arms, groups), table(worse, groups, "likelier")])
    (found,) = verdicts.judge(items, ["all"], primary="probability", longer=longer)
    assert found.verdict == "helps" and found.of(BASE, "likelier").interval.value == pytest.approx(
        -5 * found.of(BASE).interval.value
    )
    rows = found.table().to_pylist()
    assert [row["is_primary"] for row in rows] == [True] * 5 + [False] * 4
    assert {row["control"] for row in rows if row["is_primary"]} == {BASE, SHUFFLED, LENGTH, RANDOM, BALANCED}
    row = next(row for row in rows if row["control"] == SHUFFLED and row["is_primary"])
    draws = arms[SHUFFLED].mean(axis=1).tolist()
    assert row["p"] == pytest.approx(intervals.crossed_p(arms["all"] - arms[SHUFFLED], groups=groups, draws=draws))


def test_a_metric_of_other_items_than_pairs_decides_without_lengths():
    arms, groups, longer = clear(all=2.0, base=3.0, shuffled_labels=3.0, length_only=3.0)
    items = table(arms, groups, "text loss")
    (found,) = verdicts.judge(items, ["all"], primary="text loss", longer={f"pair {name}": 0.0 for name in longer})
    assert found.verdict == "helps" and found.of(BALANCED) is None


def test_several_treatments_widen_the_level_and_are_set_against_the_first():
    arms, groups, longer = clear(all=1.0, part=0.5, **CONTROLS)
    first, second = judged(arms, groups, longer, ["all", "part"], level=0.9)
    assert {each.interval.level for each in (*first.differences, *second.differences)} == {0.95}
    assert first.of("part") is None and second.of("all").interval.value == pytest.approx(
        (arms["part"] - arms["all"]).mean()
    )
    (alone,) = judged(arms, groups, longer, level=0.9)
    width = lambda found: found.of(BASE).interval.high - found.of(BASE).interval.low
    values = lambda found: {each.control: each.interval.value for each in found.differences if each.control != "part"}
    assert width(alone) < width(first) and values(alone) == values(first)


def test_more_than_one_treatment_can_turn_help_into_no_evidence():
    arms, groups, longer = clear(all=1.0, part=1.0, **CONTROLS)
    arms[SHUFFLED] = arms[SHUFFLED] + np.array([[-0.2], [0.0], [0.2]])
    assert judged(arms, groups, longer)[0].verdict == "helps"
    assert {each.verdict for each in judged(arms, groups, longer, ["all", "part"])} == {"no evidence"}


# --- what cannot be judged ----------------------------------------------------------------------------------------------


def test_arms_of_other_items_or_seeds_are_refused():
    arms, groups, longer = clear(all=1.0, **CONTROLS)
    items = table(arms, groups)
    with pytest.raises(InputError, match=r"'random pairs', seed 2, was measured on 23 of 24 items by 'probability'"):
        verdicts.judge(items.slice(0, len(items) - 1), ["all"], primary="probability", longer=longer)
    with pytest.raises(InputError, match=r"'all' has 3 seeds and 'shuffled labels' 2\. Train both with the same seeds"):
        judged(arms | {SHUFFLED: arms[SHUFFLED][:2]}, groups, longer)
    # A control of one seed says nothing of its others: only the base has none.
    with pytest.raises(InputError, match=r"'all' has 3 seeds and 'length only' 1\."):
        judged(arms | {LENGTH: arms[LENGTH][:1]}, groups, longer)


def test_arms_that_were_not_measured_are_named():
    arms, groups, longer = clear(all=1.0, **CONTROLS)
    with pytest.raises(
        InputError, match=r"arm 'part' has no 'probability' among its items; arms are all, base, shuffled labels"
    ):
        judged(arms, groups, longer, ["all", "part"])
    with pytest.raises(InputError, match=r"arm 'base' has no 'accuracy'"):
        verdicts.judge(table(arms, groups), ["all"], primary="accuracy", longer=longer)


def test_a_finding_shows_itself_and_escapes_names():
    arms, groups, longer = clear(all=1.0, **CONTROLS)
    arms["<b>x"] = arms.pop("all")
    (found,) = judged(arms, groups, longer, ["<b>x"])
    assert "&lt;b&gt;x: helps" in found._repr_html_() and "<b>x" not in found._repr_html_()
    assert all(each.control in found._repr_html_() and str(each) in found._repr_html_() for each in found.differences)
