"""Learning curves: each size is a beginning of the next, gates keep bad rows out, and what is said is what was measured."""

import itertools
import math
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import settings as examples
from hypothesis import strategies as st

from workbench import experiments, intervals, plots
from workbench.errors import InputError, RunError
from workbench.experiments import Experiment
from workbench.intervals import Interval
from workbench.quality.calibration import Agreement, Calibration, Judge
from workbench.records import QA, Instruction, Passage, Preference, Provenance, Span, content_hash
from workbench.runs import Run
from workbench.train import known, learning, trl_runs
from workbench.train.compare import Plan
from workbench.train.learning import Gates, Look, Stages
from workbench.train.trl_runs import Settings

SEEDS, ITEMS = 3, 24
GROUPS = [f"group {at // 2}" for at in range(ITEMS)]


def measured(means, *, metric="probability", noise=0.01):
    """Items of arms with these means, the base's the same for every seed; the values, (seeds, items), by arm."""
    draw = np.random.default_rng(0)
    values = {
        arm: mean + noise * draw.normal(size=(1 if arm == "base" else SEEDS, ITEMS)) for arm, mean in means.items()
    }
    rows = [
        {"arm": arm, "seed": None if arm == "base" else seed, "item": f"item {at:02}", "group": GROUPS[at], "metric": metric, "value": value}
        for arm, table in values.items() for seed, row in enumerate(table.tolist()) for at, value in enumerate(row)
    ]  # fmt: skip
    return pa.Table.from_pylist(rows), values


def filed(folder, by_size, *, looks=(), metric="probability", base=0.5, noise=0.01, stopped="", **settings):
    """A curve as `learning.curve` files it, of measurements that were made up: {size: (rows, control)}."""
    control = "mismatched answers" if metric == "loss" else "shuffled labels"
    means = {f"{size} rows{of}": mean for size, pair in by_size.items() for of, mean in zip(("", f", {control}"), pair, strict=True)}  # fmt: skip
    items, values = measured({"base": base, **means}, metric=metric, noise=noise)
    looks = looks or [Look(size, size, None, 0.0, None, 0.0, None) for size in by_size]
    about = {
        "primary_metric": metric, "method": "sft" if metric == "loss" else "dpo", "plan": {"seeds": SEEDS, "level": 0.95},
        "sizes": [look.rows for look in looks], "sizes_left_out": [], "available": 2000, "equal": "steps",
        "epochs": {str(look.rows): 1 for look in looks}, "gates": looks, "limits": Gates().limits, "held_out": {"rows": ITEMS, "groups": ITEMS // 2},
        "arms": list(means),
    }  # fmt: skip
    one = Experiment(
        id="1", kind="training", name="learning curve", started="", stopped=stopped, settings=about | settings
    )
    experiments.write(folder, one)
    pq.write_table(items, folder / "items.parquet")
    return learning.read(folder), values


def rows_of(*groups):
    """Preferences of as many rows a group as these numbers say; a group is a document."""
    return [
        Preference(f"What is {group} {at}?", f"good {group} {at}", f"bad {group} {at}", provenance=Provenance("given", parents=(f"page {group}",)))
        for group, count in enumerate(groups) for at in range(count)
    ]  # fmt: skip


# --- sizes ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("sizes", [(), (1, 10), (0,), (10, 10), (100, 10), (2.5,), (True, 5)])
def test_sizes_are_whole_numbers_that_rise_from_two(sizes):
    with pytest.raises(InputError, match="sizes"):
        Stages(sizes=sizes)


def test_what_is_equal_is_steps_or_epochs():
    with pytest.raises(InputError, match="'steps' or 'epochs', got 'tokens'"):
        Stages(equal="tokens")


@given(st.lists(st.integers(1, 12), min_size=1, max_size=8), st.integers(0, 1000), st.randoms())
@examples(max_examples=40, deadline=None)
def test_any_beginning_of_an_order_has_each_groups_share_of_the_rows_to_within_one(counts, seed, shuffler):
    rows = rows_of(*counts)
    group_of = {row.id: row.provenance.parents[0] for row in rows}
    order = learning._ordered(rows, list(group_of.values()), seeds=(0, seed))
    assert sorted(row.id for row in order) == sorted(group_of)
    # Each group is less than one row off the same share, so two groups are off each other by less than a row of each.
    for n in range(1, len(rows) + 1):
        shares = [
            sum(group_of[row.id] == f"page {group}" for row in order[:n]) / count for group, count in enumerate(counts)
        ]
        assert all(abs(a - b) < 1 / counts[i] + 1 / counts[j] + 1e-9 for (i, a), (j, b) in itertools.combinations(enumerate(shares), 2))  # fmt: skip
    moved = rows.copy()
    shuffler.shuffle(moved)
    assert learning._ordered(moved, [group_of[row.id] for row in moved], seeds=(0, seed)) == order


def test_seeds_draw_orders_of_their_own_and_every_row_comes_first_in_some():
    rows = rows_of(4, 4)
    orders = [learning._ordered(rows, [row.provenance.parents[0] for row in rows], seeds=(0, seed)) for seed in range(200)]  # fmt: skip
    firsts = [order[0].id for order in orders]
    assert all(abs(firsts.count(row.id) / 200 - 1 / 8) < 0.1 for row in rows)  # 4 standard errors


@pytest.mark.parametrize("batch, epochs", [(16, 1), (16, 3), (7, 2)])
def test_with_equal_steps_small_sizes_repeat_their_rows_until_they_have_as_many_steps(batch, epochs):
    sizes = (10, 100, 500, 1000)
    plan = Plan(settings=Settings(batch_size=batch, epochs=epochs))
    pool = learning._Pool(None, (), (), sizes, plan, Stages(sizes=sizes), {})
    steps = lambda size: math.ceil(size / batch) * pool.settings(size).epochs
    assert pool.settings(1000).epochs == epochs
    for size in sizes:  # whole epochs, so to within half an epoch
        assert abs(steps(size) - steps(1000)) <= math.ceil(size / batch) / 2
    by_epochs = replace(pool, stages=Stages(sizes=sizes, equal="epochs"))
    assert [by_epochs.settings(size).epochs for size in sizes] == [epochs] * 4


# --- gates ------------------------------------------------------------------------------------------------------------


def test_a_row_that_repeats_an_earlier_one_or_one_of_its_stage_counts_and_the_first_of_each_does_not():
    rows = rows_of(10)
    again = [replace(rows[0], prompt=rows[0].prompt.upper()), rows[1], rows_of(11)[10], rows_of(11)[10]]
    assert learning._repeats([*rows, *again], 10) == 3
    assert learning._repeats([*rows, *again], 12) == 1
    assert learning._repeats(rows, 0) == 0 and learning._repeats([rows[0], *rows], 0) == 1


def test_rates_are_over_the_orders_of_all_seeds_and_say_what_does_not_hold():
    rows = rows_of(20)
    again = [*rows[:10], *(replace(row, rejected=row.rejected.upper()) for row in rows[:5]), *rows[10:15]]
    scores = {row.id: float(at < 10) for at, row in enumerate(rows[:15])}
    look = learning._look([again, rows, again], 10, Gates(scores=scores, judge_score=0.2))
    assert (look.rows, look.new, look.duplicate_rate, look.parse_rate, look.agreement) == (20, 10, 1 / 3, None, None)
    # In each order 5 of the 10 new rows are scored, with 0.
    assert (look.judge_score, look.judged) == (0.0, 0.5)
    assert look.broken == (
        "33.3% of the next 10 rows repeat others, 20% allowed", "the next 10 rows are scored 0 on average, 0.2 is wanted",
    )  # fmt: skip
    first = learning._look([again], 0, Gates(duplicate_rate=0.1))
    assert first.broken == ("25% of the first 20 rows repeat others, 10% allowed",)
    assert learning._look([again], 0, Gates(duplicate_rate=0.25)).broken == ()  # at the limit it holds
    assert learning._look([again], 0, Gates(duplicate_rate=None)).broken == ()


def test_a_parse_rate_is_of_the_run_or_of_a_count_or_not_known():
    assert learning._parsed(Gates(), 30) is None
    assert learning._parsed(Gates(failures=10), 30) == 0.75 and learning._parsed(Gates(failures=0), 30) == 1
    run = Run.__new__(Run)
    # 4 could not be read; the timeout was never answered, and what had no evidence was read.
    run.manifests = [{"rows": {"QA": 14, "Failure": 7}, "failures": {"parse": 4, "timeout": 1, "evidence": 2}}]
    assert learning._parsed(Gates(failures=run), 30) == pytest.approx(16 / 20)
    look = learning._look([rows_of(12)], 0, Gates(), parsed=0.8)
    assert look.broken == ("80% of the answers could be read, 90% are wanted",)


def test_agreement_is_the_low_end_of_kappa():
    kappa = Interval(0.6, 0.41, 0.8, 50)
    found = Calibration(Judge("m"), (), 50, 0, 0, 0, 0, (Agreement("overall", 50, kappa, kappa=kappa),))
    look = learning._look([rows_of(12)], 0, Gates(calibration=found, agreement=0.5))
    assert look.agreement == 0.41 and look.broken == ("the judge's kappa with people may be as low as 0.41, 0.50 is wanted",)  # fmt: skip
    assert not learning._look([rows_of(12)], 0, Gates(calibration=found, agreement=0.4)).broken
    with pytest.raises(InputError, match="this calibration has no kappa"):
        Gates(agreement=0.4, calibration=replace(found, agreements=(Agreement("overall", 50, kappa),)))


def test_a_gate_without_anything_to_hold_against_it_is_refused():
    with pytest.raises(InputError, match=r"Give scores= by record id"):
        Gates(judge_score=3)
    with pytest.raises(InputError, match="there is no calibration"):
        Gates(agreement=0.5)
    with pytest.raises(InputError, match="duplicate_rate is a share"):
        Gates(duplicate_rate=20)
    with pytest.raises(InputError, match="how many answers"):
        Gates(failures=-1)


# --- what is said -----------------------------------------------------------------------------------------------------


def test_differences_are_paired_by_seed_and_row_and_count_the_luck_of_the_lot(tmp_path):
    found, values = filed(tmp_path, {10: (0.52, 0.5), 100: (0.6, 0.51)})
    few, many = (values[f"{size} rows"] for size in (10, 100))
    few_lot, many_lot = (values[f"{size} rows, shuffled labels"] for size in (10, 100))
    shared = lambda rows, lot: lot.mean(axis=1) * math.sqrt(rows / 2000)  # of the rows that are there
    lot = shared(100, many_lot)
    first, last = found.points
    assert first.bought is None
    assert last.gain == intervals.crossed(many - many_lot, groups=GROUPS, draws=lot)
    assert last.over_base == intervals.crossed(many - values["base"], groups=GROUPS, draws=lot)
    assert first.gain == intervals.crossed(few - few_lot, groups=GROUPS, draws=shared(10, few_lot))
    assert last.bought == intervals.crossed(many - few, groups=GROUPS)
    assert last.value == intervals.crossed(many, groups=GROUPS)
    assert last.seeds == pytest.approx(many.mean(axis=1)) and last.control_seeds == pytest.approx(many_lot.mean(axis=1))
    assert found.base == pytest.approx(values["base"].mean())


def test_the_luck_that_seeds_share_is_counted_in_by_how_many_rows_they_share():
    """Rows worth nothing, whose luck moves models: intervals hold 0 as often as they say, at any share of the rows."""
    draw, pool, repeats = np.random.default_rng(0), 200, 300
    held = {10: 0, 100: 0, 200: 0, (100, 200): 0}
    for _ in range(repeats):
        luck = draw.normal(size=pool)
        orders = [draw.permutation(pool) for _ in range(SEEDS)]
        models = {}
        for size in (10, 100, 200):
            signs = [draw.permutation([-1, 1] * (size // 2)) for _ in orders]
            moved, by_lot = (np.array([(sign * luck[order[:size]]).sum() for sign, order in zip(of, orders, strict=True)]) for of in ([1] * SEEDS, signs))  # fmt: skip
            models[size] = moved[:, None] / math.sqrt(size) + 0.2 * draw.normal(size=(SEEDS, ITEMS))
            found = intervals.crossed(models[size], draws=learning._shared(by_lot / math.sqrt(size), size / pool))
            held[size] += found.low <= 0 <= found.high
        step = intervals.crossed(models[200] - models[100])
        held[100, 200] += step.low <= 0 <= step.high
    assert all(0.88 * repeats <= times <= 0.99 * repeats for times in held.values()), held


def test_of_a_loss_a_gain_is_a_fall_and_values_stay_as_they_are(tmp_path):
    found, _ = filed(tmp_path, {10: (2.9, 3.0), 100: (2.0, 3.0)}, metric="loss", base=3.5)
    last = found.points[-1]
    assert last.seeds == pytest.approx([2.0] * 3, abs=0.01) and last.control_seeds == pytest.approx([3.0] * 3, abs=0.01)
    assert last.value.value == pytest.approx(2.0, abs=0.01) and last.value.low < last.value.value < last.value.high
    assert last.gain.value == pytest.approx(1.0, abs=0.01) and last.bought.value == pytest.approx(0.9, abs=0.01)
    assert last.over_base.value == pytest.approx(1.5, abs=0.01) and found.control == "mismatched answers"
    assert found.sentence.startswith("By loss, where a gain is a fall, a gain over its control (mismatched answers)")


def test_a_curve_says_from_where_it_gains_what_each_step_bought_and_where_that_is_nothing(tmp_path):
    found, _ = filed(tmp_path, {10: (0.5, 0.5), 100: (0.6, 0.5), 500: (0.7, 0.5), 1000: (0.7, 0.5)})
    assert (found.shown_from, found.flat_from) == (100, 500)
    gains = [str(f"{point.gain.value:+.3f} ({point.gain.low:+.3f} to {point.gain.high:+.3f})") for point in found.points]  # fmt: skip
    assert found.sentence.startswith(
        "By probability, a gain over its control (shuffled labels) and the untouched base is shown from 100 rows on: "
        f"{gains[1]} at 100, {gains[2]} at 500 and {gains[3]} at 1,000. 10 to 100 rows bought +0."
    )
    last = found.points[-1].bought
    assert f"500 to 1,000 rows bought {last.value:+.3f} ({last.low:+.3f} to {last.high:+.3f}), which cannot be told from nothing." in found.sentence  # fmt: skip
    assert found.sentence.endswith(" From 500 rows on, more rows are not shown to buy anything.")
    assert found.sentence.count("cannot be told") == 1
    assert found.sentence in repr(found) and "What more rows buy" in found._repr_html_()


def test_a_level_stretch_before_the_last_rise_is_not_where_it_flattens(tmp_path):
    sizes = {10: (0.5, 0.5), 100: (0.5, 0.5), 500: (0.6, 0.5), 1000: (0.6, 0.5)}
    assert filed(tmp_path, sizes)[0].flat_from == 500


def test_a_curve_that_still_rises_or_falls_says_so(tmp_path):
    rising, _ = filed(tmp_path, {10: (0.5, 0.5), 100: (0.6, 0.5)})
    assert (rising.shown_from, rising.flat_from) == (100, None)
    assert "is shown at 100 rows alone, +0." in rising.sentence
    assert rising.sentence.endswith("At 100 rows it still gains by more rows.")
    falling, _ = filed(tmp_path, {10: (0.6, 0.5), 100: (0.4, 0.5)})
    assert falling.shown_from is None
    assert "no gain over its control (shuffled labels) is shown at 100 rows, -0.10" in falling.sentence
    assert ", for the worse. At 100 rows it still loses by more rows." in falling.sentence
    assert "Worse than the untouched base: 100 rows, -0.10" in falling.sentence


def test_what_a_small_size_shows_by_itself_is_not_said_where_a_larger_one_does_not(tmp_path):
    found, _ = filed(tmp_path, {10: (0.6, 0.5), 100: (0.5, 0.5), 500: (0.6, 0.5)})
    assert found.points[0].is_shown and found.shown_from == 500
    none, _ = filed(tmp_path, {10: (0.6, 0.5), 100: (0.5, 0.5)})
    assert none.shown_from is None


def test_what_beats_its_control_but_not_the_base_has_not_gained(tmp_path):
    found, _ = filed(tmp_path, {10: (0.48, 0.4)})
    assert found.points[0].gain.low > 0 and found.shown_from is None and found.flat_from is None
    assert found.sentence.startswith("By probability, no gain over the untouched base is shown at 10 rows, -0.0")
    assert "bought" not in found.sentence


def test_gates_are_a_table_and_what_was_forced_or_left_out_is_said(tmp_path):
    wall = "38% of the next 90 rows repeat others, 20% allowed"
    looks = [Look(10, 10, 0.97, 0.0, None, 0.0, None), Look(100, 90, 0.97, 0.38, None, 0.0, None, (wall,)), Look(500, 400, 0.97, 0.5, None, 0.0, None, ("x",))]  # fmt: skip
    found, _ = filed(
        tmp_path, {10: (0.52, 0.5), 100: (0.6, 0.5)}, looks=looks, stopped="stopped before 500 rows: x", sizes_left_out=[1000], available=640,
    )  # fmt: skip
    assert [(row["rows"], row["new"], row["duplicate_rate"], row["is_trained"]) for row in found.gates.to_pylist()] == [
        (10, 10, 0.0, True), (100, 90, 0.38, True), (500, 400, 0.5, False),
    ]  # fmt: skip
    assert found.forced == (f"went on to 100 rows by force: {wall}",)
    said = repr(found)
    assert "Stopped before 500 rows: x\nWent on to 100 rows by force: 38%" in said
    assert "1,000 rows are left out: 640 are left to train on." in said and "not known" in said
    assert found.table()["rows"].to_pylist() == [10, 100] and found.table()["bought"].to_pylist()[0] is None


def test_only_a_curve_that_is_done_is_read(tmp_path):
    filed(tmp_path, {10: (0.6, 0.5)}, stopped="stopped before 100 rows: x")
    one = experiments.read(tmp_path)
    experiments.write(tmp_path, replace(one, stopped="unfinished"))
    with pytest.raises(RunError, match=r"unfinished\. The call that began it goes on"):
        learning.read(tmp_path)
    experiments.write(tmp_path, replace(one, settings={}))
    with pytest.raises(RunError, match="no learning curve"):
        learning.read(tmp_path)


def test_controls_at_a_size_are_controls_in_the_table_of_steps(tmp_path):
    filed(tmp_path, {10: (0.6, 0.5)})
    for name in ("10-rows", "10-rows,-shuffled-labels"):
        folder = tmp_path / "arms" / name / "seed-0"
        folder.mkdir(parents=True)
        (folder / "steps.jsonl").write_text('{"step": 1, "steps": 1, "loss": 0.5}\n')
    rows = experiments.steps(tmp_path).to_pylist()
    assert {row["arm"]: row["is_control"] for row in rows} == {"10 rows": False, "10 rows, shuffled labels": True}


# --- the plot ---------------------------------------------------------------------------------------------------------


def traces(figure, mode, colour):
    of = lambda trace: trace.line.color or trace.marker.color
    return [trace for trace in figure.data if trace.mode == mode and of(trace) == colour]


def test_a_figure_has_each_arm_with_intervals_at_real_sizes_the_base_and_what_the_gates_saw(tmp_path):
    looks = [Look(10, 10, 0.97, 0.0, None, 0.0, None), Look(100, 90, 0.97, 0.1, None, 0.0, None), Look(500, 400, 0.97, 0.38, None, 0.0, None, ("x",))]  # fmt: skip
    found, _ = filed(tmp_path, {10: (0.5, 0.5), 100: (0.6, 0.5)}, looks=looks, stopped="stopped before 500 rows: x")
    figure = plots.learning_curve(found, of=found)
    (ours,) = traces(figure, "lines+markers", plots.ACCENT)
    (theirs,) = traces(figure, "lines+markers", plots.GREY)
    assert list(ours.y) == [point.value.value for point in found.points]
    assert list(theirs.y) == [point.control.value for point in found.points]
    assert [y + up for y, up in zip(ours.y, ours.error_y.array, strict=True)] == pytest.approx([point.value.high for point in found.points])  # fmt: skip
    assert [y - down for y, down in zip(theirs.y, theirs.error_y.arrayminus, strict=True)] == pytest.approx([point.control.low for point in found.points])  # fmt: skip
    assert list(ours.x) == pytest.approx([10, 100], rel=0.1) and figure.layout.xaxis.type == "log"
    assert list(figure.layout.xaxis.tickvals) == [10, 100, 500] and figure.layout.xaxis.ticktext[-1] == "500"
    dashed = [trace for trace in figure.data if trace.mode == "lines" and trace.line.dash == "dash"]
    assert [trace.y[0] for trace in dashed] == [pytest.approx(found.base), 0.9, 0.2]
    strips = [trace for trace in figure.data if trace.mode == "lines+markers+text"]
    assert [(trace.yaxis, list(trace.y)) for trace in strips] == [("y2", [0.97] * 3), ("y3", [0.0, 0.1, 0.38])]
    assert list(strips[1].marker.symbol) == ["circle", "circle", "x"] and len(set(strips[1].marker.color)) == 2
    assert list(strips[1].text) == ["0%", "10%", "38%"] and set(strips[0].marker.color) == {plots.ACCENT}
    texts = [trace.text[0].strip() for trace in figure.data if trace.mode == "text"]
    assert texts[-2:] == ["parse rate: at least 90%", "repeated rows: at most 20%"]
    title = figure.layout.title.text.replace("<br>", " ")
    assert "is shown with 100 rows alone; stopped before 500 rows: x" in title and title.startswith("probability 0.5")
    assert f"mean of {SEEDS} seeds, 95% interval, n {ITEMS}" in figure.layout.yaxis.title.text
    assert figure.layout.xaxis.title.text.endswith("crosses: kept out; not known: judge score, judge's kappa")
    assert list(strips[1].textposition) == ["bottom center", "bottom center", "top center"]  # away from the limit


def test_panels_do_not_overlap_and_labels_are_apart(tmp_path):
    looks = [Look(10, 10, 0.97, 0.0, 4.0, 1.0, 0.5), Look(100, 90, 0.97, 0.1, 3.0, 1.0, 0.5)]
    found, _ = filed(tmp_path, {10: (0.5, 0.5), 100: (0.5, 0.5)}, looks=looks, limits={"judge_score": 3.5})
    figure = plots.learning_curve(found, of=None)
    domains = [figure.layout[f"yaxis{ending}"].domain for ending in ("", 2, 3, 4, 5)]
    assert all(after[1] < before[0] for before, after in itertools.pairwise(domains)) and domains[-1][0] >= 0
    low, high = figure.layout.yaxis.range
    places = sorted(trace.y[0] for trace in figure.data if trace.mode == "text" and (trace.yaxis or "y") == "y")
    assert min(after - before for before, after in itertools.pairwise(places)) > 0.04 * (high - low)
    assert low < places[0] and figure.layout.yaxis4.range[0] < 3 and figure.layout.yaxis4.range[1] > 4
    assert "not shown" in figure.layout.title.text and "kept out" not in figure.layout.xaxis.title.text


def test_where_no_size_was_trained_there_is_no_figure_and_the_gate_is_named(tmp_path):
    looks = [Look(10, 10, None, 0.5, None, 0.0, None, ("x",))]
    found, _ = filed(tmp_path, {}, looks=looks, stopped="stopped before 10 rows: x")
    assert found.points == () and found.sentence == "No size was trained." and "Stopped before 10 rows" in repr(found)
    with pytest.raises(InputError, match="stopped before 10 rows: x"):
        plots.learning_curve(found, of=None)


# --- trainings --------------------------------------------------------------------------------------------------------

PLAN = Plan(seeds=2, held_out=0.5, settings=Settings(batch_size=8, learning_rate=2e-3))
SIZES = (8, 16)


@pytest.fixture(scope="module")
def pairs(bundled):
    return known.plain_or_hedged(bundled, 70)


@pytest.fixture(scope="module")
def pool(pairs):
    return learning._Pool.of(pairs, learning.load("tiny-base"), PLAN, Stages(sizes=(*SIZES, 500)), ())


def test_each_size_begins_the_next_under_every_seed_and_its_control_has_the_same_texts(pool):
    assert pool.sizes == SIZES
    texts = lambda rows: sorted(sorted((row.chosen, row.rejected)) for row in rows)
    for size in SIZES:
        (_, ours), (_, theirs), (_, other), _ = pool.arms[size]
        assert (ours.name, theirs.name) == (f"{size} rows", f"{size} rows, shuffled labels")
        assert ours.rows == pool.orders[0][:size] and other.rows == pool.orders[1][:size] and ours.rows != other.rows
        assert texts(ours.rows) == texts(theirs.rows) and ours.rows != theirs.rows
    held = {row.id for row in pool.prepared.held_out}
    assert not held & {row.id for order in pool.orders for row in order}


def test_gates_see_questions_and_not_the_passages_that_go_with_them_in_training():
    passage = "One long passage that many questions are asked about, so that what is trained on is much the same. " * 4
    words = ["red", "blue", "green", "cold", "warm", "old", "new", "far", "near", "dry", "wet", "high", "low", "thin", "wide", "soft"]  # fmt: skip
    asked = [f"{a} {b}" for a, b in itertools.pairwise(words)] + [f"{word} ones" for word in words]
    rows = [QA(f"Why {words}?", f"Of {words}.", None, Passage(passage, Span(f"page {words}", 0, 9))) for words in asked]
    pool = learning._Pool.of(rows, learning.load("tiny-base"), replace(PLAN, method="sft"), Stages(sizes=(4,)), ())
    assert learning._look(pool.given, 0, Gates()).duplicate_rate == 0
    assert learning._look(pool.orders, 0, Gates()).duplicate_rate > 0.5
    (_, ours), (_, theirs), *_ = pool.arms[4]
    assert theirs.name == "4 rows, mismatched answers" and ours.rows == pool.orders[0][:4]


def test_what_cannot_make_a_curve_is_refused_before_anything_is_trained(tmp_path, pairs):
    refused = lambda message: pytest.raises(InputError, match=message)
    with refused("one seed shows nothing"):
        learning.curve(pairs, out=tmp_path, plan=replace(PLAN, seeds=1))
    with refused("are left to train on, and the smallest size is 500"):
        learning.curve(pairs, out=tmp_path, plan=PLAN, stages=Stages(sizes=(500,)))
    with refused(r"held-out rows are of \d groups, and intervals need 10"):
        learning.curve(pairs, out=tmp_path, plan=replace(PLAN, held_out=0.1))
    with refused("'loss' is not measured of dpo"):
        learning.curve(pairs, out=tmp_path, plan=replace(PLAN, primary="loss"))
    with refused("'likelier' is not measured of reward; there are probability, margin, accuracy"):
        learning.curve(pairs, out=tmp_path, plan=replace(PLAN, method="reward", primary="likelier"))
    with refused("none of the scores is of one of these rows"):
        learning.curve(pairs, out=tmp_path, plan=PLAN, stages=Stages(gates=Gates(judge_score=1, scores={"other": 2})))
    with refused("has no rows"):
        learning.curve([], out=tmp_path, plan=PLAN)
    same = [Instruction("Say it.", output=f"word {at}") for at in range(60)]
    with refused("ask"):  # answers that cannot be dealt out: all rows ask the same
        learning.curve(same, out=tmp_path, plan=replace(PLAN, method="sft"), held_out=[Instruction(f"Ask {at}", output=f"{at}!") for at in range(12)])  # fmt: skip
    assert not list(tmp_path.iterdir())


def test_a_gate_that_does_not_hold_at_first_trains_nothing_and_is_filed(tmp_path, pairs):
    found = learning.curve(pairs, out=tmp_path, plan=PLAN, stages=Stages(sizes=SIZES, gates=Gates(failures=30)))
    assert found.stopped == "stopped before 8 rows: 70% of the answers could be read, 90% are wanted"
    assert found.points == () and found == learning.read(tmp_path)
    assert experiments.read(tmp_path).status == "stopped" and not list(tmp_path.glob("arms/*/seed-*"))


@pytest.fixture(scope="module")
def trained(tmp_path_factory, pairs, pool):
    """A curve that a gate stopped after 8 rows, and the same one forced on, with when each training was filed."""
    out = tmp_path_factory.mktemp("curve")
    good = {row.id for order in pool.given for row in order[: SIZES[0]]}
    gates = Gates(judge_score=1.0, scores={row.id: float(row.id in good) for row in pairs})
    stages = Stages(sizes=(*SIZES, 500), gates=gates)
    stopped = learning.curve(pairs, out=out, plan=PLAN, stages=stages)
    before = {path: path.stat().st_mtime_ns for path in out.glob("arms/*/*/*.json*")}
    forced = learning.curve(pairs, out=out, plan=PLAN, stages=replace(stages, gates=replace(gates, force=True)))
    return stopped, forced, before


def test_a_gate_stops_the_curve_before_the_size_whose_rows_it_keeps_out(trained):
    stopped, _, before = trained
    assert stopped.stopped.startswith("stopped before 16 rows: the next 8 rows are scored 0.")
    assert [point.rows for point in stopped.points] == [8] and [look.rows for look in stopped.looks] == [8, 16]
    assert {path.parts[-3] for path in before} == {"8-rows", "8-rows,-shuffled-labels"}
    assert stopped.experiment.records == 8 and stopped.left_out.startswith("500 rows are left out: ")


def test_forced_on_it_trains_what_is_missing_and_nothing_again(trained):
    stopped, forced, before = trained
    assert not forced.stopped and forced.experiment.status == "finished" and len(forced.forced) == 1
    assert before and all(path.stat().st_mtime_ns == when for path, when in before.items())
    assert [point.rows for point in forced.points] == [8, 16] and forced.points[0] == stopped.points[0]
    assert learning.read(forced.folder) == forced and "by force: the next 8 rows" in repr(forced)
    # Two steps each: one of 16 rows would be two of 8, and 8 rows are seen twice.
    runs = [trl_runs.read(path.parent) for path in forced.folder.glob("arms/*/*/trained.json")]
    assert {(run.steps, run.rows) for run in runs} == {(2, 16)} and len(runs) == 8


def test_it_is_filed_as_a_training_with_its_arms_scores_and_data(trained, pool):
    forced = trained[1]
    one = experiments.read(forced.folder)
    arms = ["base", "8 rows", "8 rows, shuffled labels", "16 rows", "16 rows, shuffled labels"]
    assert one.kind == "training" and one.name == "learning curve of tiny-base@1 by dpo" and one.settings["arms"] == arms  # fmt: skip
    assert set(forced.items["arm"].to_pylist()) == set(arms) and one.records == 16
    assert one.score["value"] == pytest.approx(forced.points[-1].value.value) and one.score["prompt"] == "16 rows"
    assert one.settings["data"]["8 rows"] == content_hash([[row.id for row in order[:8]] for order in pool.orders])
    assert one.settings["reason"] == forced.sentence and one.seconds > 0
    assert {row["arm"] for row in experiments.steps(forced.folder).to_pylist()} == set(arms[1:])


def test_a_folder_keeps_to_what_it_was_begun_with_but_for_its_gates(trained, pairs):
    forced = trained[1]
    with pytest.raises(InputError, match=r"was begun with another .*equal"):
        learning.curve(pairs, out=forced.folder, plan=PLAN, stages=Stages(sizes=(*SIZES, 500), equal="epochs"))
    with pytest.raises(InputError, match=r"was begun with another .*data"):
        learning.curve(pairs[:-1], out=forced.folder, plan=PLAN, stages=Stages(sizes=(*SIZES, 500)))
    assert learning.read(forced.folder) == forced
