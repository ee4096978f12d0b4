"""Plots of trainings: what is drawn is what the tables hold, titles are computed, controls are grey, text stays text."""

import itertools
import math

import pytest

from tests.test_compared import log, score, training, two_arms
from tests.test_plots import HOSTILE, notes, shown
from workbench import experiments, plots
from workbench.errors import InputError


def title(figure):
    return figure.layout.title.text.replace("<br>", " ")


def texts(figure):
    return [text.strip() for trace in figure.data for text in trace.text or ()]


def lines(figure, width):
    return [trace for trace in figure.data if trace.mode == "lines" and trace.line.width == width]


# --- curves -----------------------------------------------------------------------------------------------------------


def curves(tmp_path, losses, steps=30, metric="loss"):
    """A table of steps from {(arm, seed): losses at steps 10, 20 ...}."""
    for (arm, seed), values in losses.items():
        rows = [{"step": 10 * at, "steps": steps, metric: value} for at, value in enumerate(values, 1)]
        log(tmp_path, arm.replace(" ", "-"), seed, rows)
    return experiments.steps(tmp_path)


def test_each_seed_is_a_thin_line_and_their_mean_a_bold_one_in_the_colour_of_its_arm(tmp_path):
    table = curves(tmp_path, {("all", 0): [3, 2, 1], ("all", 1): [5, 4, 2], ("length only", 0): [9, 8, 7]})
    figure = plots.training_curves(table, of=None)
    assert [list(line.y) for line in lines(figure, 1)] == [[3, 2, 1], [5, 4, 2]]
    assert {tuple(line.y): line.line.color for line in lines(figure, 2.5)} == {
        (4, 3, 1.5): plots.ACCENT, (9, 8, 7): plots.GREY,
    }  # fmt: skip
    assert list(lines(figure, 1)[0].x) == [10, 20, 30]
    assert texts(figure) == ["length only 7, 1 seed", "all 1.5, 2 seeds"]
    assert title(figure) == "loss after 30 steps: all 1.5; control 7"
    assert (
        figure.layout.yaxis.title.text == "loss (lower is better)" and "steps (count)" in figure.layout.xaxis.title.text
    )


def test_a_mean_is_of_the_seeds_that_have_come_furthest_and_says_of_how_many(tmp_path):
    table = curves(tmp_path, {("all", 0): [3, 2], ("all", 1): [5, 4], ("all", 2): [99]})
    figure = plots.training_curves(table, of=None)
    assert [list(line.y) for line in lines(figure, 2.5)] == [[4, 3]] and texts(figure) == ["all 3, 2 of 3 seeds"]
    assert title(figure) == "loss after 20 of 30 steps: all 3"
    assert [trace.mode for trace in figure.data] == ["lines", "lines", "markers", "lines", "text"]  # one step is a dot


def test_several_experiments_are_named_and_labels_do_not_cover_each_other(tmp_path):
    for name in "ab":
        curves(tmp_path / name, {("all", 0): [1, 0.5], ("few", 0): [1, 0.501]})
    figure = plots.training_curves(experiments.steps(tmp_path / "a", tmp_path / "b"), of=None)
    assert {text.rpartition(" 0.5")[0] for text in texts(figure)} == {"a: all", "a: few", "b: all", "b: few"}
    places = sorted(trace.y[0] for trace in figure.data if trace.mode == "text")
    assert min(after - before for before, after in itertools.pairwise(places)) >= 0.034
    assert figure.layout.yaxis.range[0] < places[0]


def test_a_loss_that_is_no_number_breaks_its_line_and_is_said(tmp_path):
    figure = plots.training_curves(curves(tmp_path, {("all", 0): [1, math.nan], ("few", 0): [1, 2]}), of=None)
    assert [None if y is None else float(y) for y in lines(figure, 2.5)[0].y] == [1, None]
    assert "nan" in title(figure) and all(map(math.isfinite, figure.layout.yaxis.range))


def test_another_metric_is_drawn_and_one_that_was_not_logged_is_refused_with_those_there_are(tmp_path):
    table = curves(tmp_path, {("all", 0): [1, 2]}, metric="margin")
    assert plots.training_curves(table, metric="margin", of=None).layout.yaxis.title.text == "margin"
    with pytest.raises(InputError, match="no step has logged 'loss'; there are margin"):
        plots.training_curves(table, of=None)
    with pytest.raises(InputError, match="no steps yet"):
        plots.training_curves(experiments.steps(training(tmp_path / "empty")), of=None)


# --- differences ------------------------------------------------------------------------------------------------------


def row(arm, value, half=0.1, metric="accuracy", **changed):
    low, high = (None, None) if half is None else (value - half, value + half)
    return {
        "experiment": "b", "baseline": "a", "arm": arm, "baseline_arm": arm, "metric": metric, "difference": value, "low": low,
        "high": high, "level": 0.95, "n": 40, "seeds": 3, "is_paired": True, "is_primary": metric == "accuracy", **changed,
    }  # fmt: skip


def test_differences_have_a_panel_a_metric_with_an_axis_of_its_own_the_primary_one_first():
    rows = [row("all", -2.0, metric="loss"), row("all", 0.2), row("few", 0.05), row("few", 5.0, metric="margin")]
    figure = plots.differences(rows, of=None)
    dots = [trace for trace in figure.data if trace.mode == "markers"]
    assert [(list(trace.x), trace.xaxis) for trace in dots] == [([0.2, 0.05], "x"), ([-2.0], "x2"), ([5.0], "x3")]
    assert dots[0].marker.color == (plots.ACCENT, plots.GREY)
    assert dots[0].error_x.array == pytest.approx((0.1, 0.1)) and dots[0].error_x.arrayminus == pytest.approx(
        (0.1, 0.1)
    )
    assert title(figure) == "accuracy in b: all +0.200, against a; no difference can be told for 1 of 2"
    assert figure.layout.xaxis2.title.text == "loss (lower is better): difference from a (mean, interval)"
    domains = [figure.layout[name].domain for name in ("yaxis", "yaxis2", "yaxis3")]
    assert domains[0][1] == 1 and domains[2][0] == pytest.approx(0)
    assert domains[0][0] > domains[1][1] > domains[1][0] > domains[2][1]
    assert [tick.strip() for tick in figure.layout.yaxis.ticktext] == ["all, n 40", "few, n 40"]


def test_differences_of_several_experiments_are_named_unpaired_ones_too_and_those_without_interval_counted():
    rows = [row("all", 0.3), row("all", 0.3, experiment="c", is_paired=False), row("few", 0.1, None)]
    figure = plots.differences(rows, of=None)
    assert [tick.strip() for tick in figure.layout.yaxis.ticktext] == ["b: all, n 40", "c: all, unpaired, n 40"]
    assert title(figure).endswith("against a; 1 without an interval not drawn")
    with pytest.raises(InputError, match="no difference has an interval"):
        plots.differences(rows[2:], of=None)


def test_a_comparison_is_drawn_by_the_names_of_its_folders(tmp_path):
    a, b = two_arms(tmp_path)
    found = experiments.compare(a, b)
    figure = plots.differences(found, of=found.experiments)
    assert title(figure).startswith("accuracy in b: all +0.450, against a")
    assert plots.OFFLINE_NOTE not in notes(figure)
    training(b, scores=[score("all", "accuracy", 0.9, 0.1)], is_offline=True)
    found = experiments.compare(a, b)
    assert plots.OFFLINE_NOTE in notes(plots.differences(found, of=found.experiments))


# --- arms -------------------------------------------------------------------------------------------------------------


def arm(name, value, half=0.1, seeds=(), is_control=False):
    low, high = (None, None) if half is None else (value - half, value + half)
    return {"arm": name, "value": value, "low": low, "high": high, "seeds": list(seeds), "is_control": is_control}


def test_arms_have_their_interval_a_dot_a_seed_and_the_base_as_a_dashed_line():
    rows = [arm("base", 0.5, 0.05), arm("all", 0.7, seeds=[0.6, 0.8]), arm("length only", 0.55, None, [0.55], True)]
    figure = plots.arms(rows, what="accuracy", of=None)
    band, dashed, dots, seeds, _ = figure.data
    assert (min(band.x), max(band.x)) == pytest.approx((0.45, 0.55)) and list(dashed.x) == [0.5, 0.5]
    assert dashed.line.dash == "dash" and list(dots.x) == [0.7, 0.55] and list(seeds.x) == [0.6, 0.8, 0.55]
    assert dots.error_x.array == pytest.approx((0.1, 0)) and dots.marker.color == (plots.ACCENT, plots.GREY)
    assert [int(y) for y in seeds.y] == [0, 0, 1] and seeds.marker.color == (plots.ACCENT, plots.ACCENT, plots.GREY)
    assert texts(figure) == ["0.700 (0.600 to 0.800)", "0.550 (no interval)"]
    assert "untouched base 0.500 (0.450 to 0.550)" in notes(figure)
    assert title(figure) == "accuracy: all 0.700; control 0.550; untouched base 0.500"
    assert [tick.strip() for tick in figure.layout.yaxis.ticktext] == ["all, 2 seeds", "length only, 1 seed"]


def test_without_a_base_there_is_no_line_and_without_an_arm_no_plot():
    figure = plots.arms([arm("all", 0.7)], what="eval_loss", of=None)
    assert len(figure.data) == 3 and title(figure) == "eval_loss (lower is better): all 0.700"
    with pytest.raises(InputError, match="no trained arm"):
        plots.arms([arm("base", 0.5)], what="accuracy", of=None)


class Logged(list):
    """Rows as a table of steps gives them."""

    def to_pylist(self):
        return list(self)


@pytest.mark.parametrize("text", HOSTILE)
def test_markup_in_names_is_inert(text):
    steps = {"experiment": "x", "arm": text, "is_control": False, "seed": 0, "step": 1, "steps": 1, text: 0.5}
    figures = [
        plots.differences([row(text, 0.3, experiment=text, baseline=text), row("all", 1.0, metric=text)], of=None),
        plots.arms([arm(text, 0.5), arm("base", 0.4)], what=text, of=None),
        plots.training_curves(Logged([steps]), metric=text, of=None),
    ]
    for figure in figures:
        for drawn in shown(figure):
            assert not any(part in drawn for part in ("$", "%{", "<b>", "<a ", "<script"))
