"""Plots say what the data say: titles, n, intervals, the offline note; and text in them stays text."""

import base64
import json
import math
import re
from collections import namedtuple

import pytest
from scipy.stats import binomtest

from tests import tasks
from workbench import llm, plots, runner, store
from workbench.errors import InputError, MissingLibrary
from workbench.plots import Scores, Share, drawing
from workbench.records import Provenance
from workbench.runs import FunnelStep

Point = namedtuple("Point", "concurrency repeated")


@pytest.fixture(scope="module")
def scripted_run(tmp_path_factory):
    """Nine tasks, of which two fail: one unreadable, one refused."""
    replies = {2: "no header", 5: "no header"}
    client = llm.Scripted(
        lambda request: replies.get(int(request.messages[-1]["content"].split()[2]), tasks.answer("x"))
    )
    return runner.run(tasks.make, tasks.tasks(9), client=client, out=tmp_path_factory.mktemp("scripted"))


@pytest.fixture(scope="module")
def offline_run(tmp_path_factory):
    return runner.run(tasks.make, tasks.tasks(3), client=llm.Offline(), out=tmp_path_factory.mktemp("offline"))


def notes(figure):
    return [note.text for note in figure.layout.annotations]


def shown(figure):
    """Every text that the figure draws."""
    found = [figure.layout.title.text, *notes(figure), *(figure.layout.yaxis.ticktext or ())]
    for axis in (figure.layout.xaxis, figure.layout.yaxis):
        found.append(axis.title.text or "")
    return [*found, *(text for trace in figure.data for text in (trace.text or ()))]


# --- shares and their intervals ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(("hits", "n"), [(0, 10), (1, 10), (5, 10), (10, 10), (48, 50), (399, 400), (0, 1), (7, 1000)])
def test_the_interval_is_that_of_wilson(hits, n):
    low, high = Share("rows", hits, n).interval
    wanted = binomtest(hits, n).proportion_ci(method="wilson")
    assert low == pytest.approx(wanted.low, abs=1e-6) and high == pytest.approx(wanted.high, abs=1e-6)


def test_wilson_by_hand_for_one_of_ten():
    # z = 1.96: (0.1 + 0.19208 +- 1.96 sqrt(0.009 + 0.0096040)) / 1.38416
    low, high = Share("rows", 1, 10).interval
    half = 1.96 * math.sqrt(0.1 * 0.9 / 10 + 1.96**2 / 400)
    assert (low, high) == pytest.approx(
        ((0.1 + 1.96**2 / 20 - half) / (1 + 1.96**2 / 10), (0.1 + 1.96**2 / 20 + half) / (1 + 1.96**2 / 10)), abs=1e-4
    )
    assert (round(low, 3), round(high, 3)) == (0.018, 0.404)


def test_an_arm_without_rows_is_refused_and_not_drawn_as_zero():
    for wrong in ((0, 0), (3, 2), (-1, 2)):
        with pytest.raises(InputError, match="is no share"):
            Share("nothing", *wrong)
    with pytest.raises(InputError, match="at least one"):
        Scores("nothing", [None, None])
    with pytest.raises(InputError, match="from 0 to 1"):
        Scores("percentages", [55.0])


def test_a_share_of_outcomes_and_its_text():
    share = Share.of("kept", [True, True, False, True], is_control=True)
    assert (share.hits, share.n, share.is_control) == (3, 4, True)
    assert str(share) == "75% of 4 (30% to 95%)"
    assert str(Share("all", 80, 80)) == "100% of 80 (95% to 100%)"


def test_a_share_is_said_to_be_all_or_nothing_only_where_it_is():
    assert [plots.percent(share) for share in (0, 1, 0.5, 0.996, 0.004, 0.99999, 0.00001)] == [
        "0%",
        "100%",
        "50%",
        "99.6%",
        "0.4%",
        ">99.9%",
        "<0.1%",
    ]


def test_scores_leave_out_what_has_no_score_and_count_what_reaches_a_bound():
    scores = Scores("rows", [1.0, None, 0.5, 0.0])
    assert scores.known == (1.0, 0.5, 0.0) and scores.value == 0.5
    low, high = scores.interval
    assert 0 <= low < 0.5 < high <= 1
    assert scores.at_least(0.5) == Share("rows", 2, 3)


# --- waterfall --------------------------------------------------------------------------------------------------------


def test_the_waterfall_adds_up_and_its_title_is_computed(scripted_run):
    figure = plots.waterfall(scripted_run)
    bars = figure.data[0]
    steps = scripted_run.funnel()
    assert list(bars.x) == [step.count for step in steps]
    for at, step in enumerate(steps):
        if step.kind == "loss":  # it hangs from the end of the bar before it
            assert bars.base[at] + bars.x[at] == (bars.base[at - 1] if steps[at - 1].kind == "loss" else bars.x[at - 1])
        elif at:
            assert bars.x[at] == bars.base[at - 1]
    assert figure.layout.title.text == "7 records made of 9 tasks asked; largest loss parse (2)"
    assert "9" in figure.data[1].text[0] and "−2 (22%)" in figure.data[1].text[1]


def test_losses_are_grey_and_totals_are_not(scripted_run):
    colours = plots.waterfall(scripted_run).data[0].marker.color
    assert colours == (plots.ACCENT, plots.GREY, plots.ACCENT)


def test_a_waterfall_of_other_numbers_has_another_title():
    steps = [
        FunnelStep("tasks asked", 1000, "total"),
        FunnelStep("records made", 1000, "total"),
        FunnelStep("rows: beyond_rows_asked", 100, "loss"),
        FunnelStep("records kept", 900, "total"),
    ]
    assert plots.waterfall(steps).layout.title.text == "900 records kept of 1,000 tasks asked; nothing was lost"
    steps.insert(1, FunnelStep("names_passage: names_passage", 7, "loss"))
    assert "largest loss names_passage (7)" in plots.waterfall(steps).layout.title.text
    with pytest.raises(InputError, match="needs a total"):
        plots.waterfall([])


# --- proportions and spread -------------------------------------------------------------------------------------------

ARMS = [Share("rows", 90, 100), Share("other rows", 48, 50), Share("shuffled", 5, 100, is_control=True)]


def test_dots_bars_and_n_are_drawn_and_controls_are_grey():
    figure = plots.proportions(ARMS, what="Rows supported", of=None)
    dots, texts = figure.data
    assert list(dots.x) == [0.9, 0.96, 0.05]
    for at, arm in enumerate(ARMS):
        assert dots.x[at] - dots.error_x.arrayminus[at] == pytest.approx(arm.interval[0])
        assert dots.x[at] + dots.error_x.array[at] == pytest.approx(arm.interval[1])
        assert f"of {arm.n}" in texts.text[at]
    assert dots.marker.color == (plots.ACCENT, plots.ACCENT, plots.GREY)
    assert figure.layout.title.text == "Rows supported: rows 90%, other rows 96%; control 5%"
    assert "95% interval" in figure.layout.xaxis.title.text


def test_proportions_take_the_rows_of_a_query():
    rows = store.query("SELECT 'rows' AS label, 3 AS hits, 4 AS n UNION ALL SELECT 'more', 2, 4 ORDER BY label DESC")
    assert plots.proportions(rows, what="Kept", of=None).layout.title.text == "Kept: rows 75%, more 50%"


def test_a_title_of_many_arms_gives_their_range():
    arms = [Share(str(at), at, 10) for at in range(1, 6)] + [Share("a", 0, 9, True), Share("b", 0, 7, True)]
    assert plots.proportions(arms, what="Hits", of=None).layout.title.text == "Hits: 10% to 50%; controls 0%"


def test_the_spread_counts_every_score_in_its_bin():
    figure = plots.spread(
        [Scores("rows", [0, 0.04, 0.05, 0.3, 1, 1, None]), Scores("control", [0.2], True)], what="support", of=None
    )
    heights = [-height for height in figure.data[0].y]
    assert [round(height / 0.36) for height in heights] == [2, 1, 0, 0, 0, 0, 1, *[0] * 12, 2]
    assert figure.layout.title.text == "Mean support: rows 0.40; control 0.20"
    assert "n 6" in figure.data[-1].text[0] and figure.data[1].marker.color == plots.GREY


def test_kills_are_counted_and_one_over_the_bound_is_said():
    figure = plots.repeats([Point(4, 4), Point(4, 4), Point(8, 3)], of=None)
    assert figure.layout.title.text == "3 kills: 3 to 4 requests sent twice, never more than were allowed under way"
    assert "(2 kills)" in figure.data[1].text[0]
    assert "1 of them more than" in plots.repeats([Point(4, 5)], of=None).layout.title.text


# --- forest -----------------------------------------------------------------------------------------------------------


def difference(part, value, low, high, prompt="a/b@2", n=60):
    return {
        "prompt": prompt, "baseline": "a/b@1", "part": part, "difference": value, "low": low, "high": high, "n": n,
        "groups": 12, "verdict": "",
    }  # fmt: skip


FOREST = [
    difference("all", 0.08, 0.03, 0.13), difference("parsed", 0.0, 0.0, 0.0), difference("short", -0.04, -0.07, -0.01),
    difference("found", 0.1, -0.01, 0.21, n=1200),
]  # fmt: skip


def test_a_forest_draws_each_difference_with_its_interval_around_zero():
    figure = plots.forest(FOREST, what="Score", of=None)
    zero, dots, texts = figure.data
    assert list(zero.x) == [0, 0] and list(dots.x) == [0.08, 0.0, -0.04, 0.1]
    for at, row in enumerate(FOREST):
        assert dots.x[at] - dots.error_x.arrayminus[at] == pytest.approx(row["low"])
        assert dots.x[at] + dots.error_x.array[at] == pytest.approx(row["high"])
        assert texts.x[at] >= max(0, row["high"])  # beside its interval, and not over the zero line
    assert dots.marker.color == (plots.ACCENT, plots.GREY, plots.ACCENT, plots.GREY)
    assert texts.text[2].strip() == "−0.040 (−0.070 to −0.010)"
    assert [tick.strip() for tick in figure.layout.yaxis.ticktext] == [
        "all, n 60", "parsed, n 60", "short, n 60", "found, n 1,200",
    ]  # fmt: skip
    least, most = figure.layout.xaxis.range
    assert least < -0.07 and most > 0.21 and 0 in figure.layout.xaxis.tickvals
    assert all(-0.07 <= tick <= 0.21 for tick in figure.layout.xaxis.tickvals)


def test_the_title_of_a_forest_says_what_can_be_told():
    title = lambda *rows: plots.forest(rows, what="Score", of=None).layout.title.text.replace("<br>", " ")
    assert title(*FOREST) == "Score: a/b@2 +0.080, against a/b@1"
    assert title(difference("all", -0.2, -0.3, -0.1)) == "Score: a/b@2 −0.200, against a/b@1"
    assert title(difference("all", 0.1, -0.1, 0.3), FOREST[2]) == "Score: no difference from a/b@1 can be told"
    assert title(FOREST[2]) == "Score: a/b@2: short −0.040, against a/b@1"  # no row is about all of it
    several = [difference("all", 0.1 * at, 0.1 * at - 0.15, 0.1 * at + 0.15, f"a/b@{at + 1}") for at in range(1, 4)]
    assert title(*several) == (
        "Score: a/b@3 +0.200, a/b@4 +0.300, against a/b@1; no difference can be told for 1 of 3"
    )  # fmt: skip
    assert "and 2 more, against" in title(*(difference("all", 0.2, 0.1, 0.3, f"a/b@{at}") for at in range(2, 7)))


def test_a_forest_of_several_prompts_names_each_line():
    rows = [*FOREST[:2], difference("all", 0.1, 0, 0.2, "a/b@3"), difference("parsed", 0.1, 0.05, 0.2, "a/b@3")]
    ticks = plots.forest(rows, what="Score", of=None).layout.yaxis.ticktext
    assert [tick.strip() for tick in ticks] == [
        "a/b@2, n 60",
        "a/b@2: parsed, n 60",
        "a/b@3, n 60",
        "a/b@3: parsed, n 60",
    ]


def test_a_forest_takes_a_comparison_a_table_or_rows():
    import pyarrow as pa

    table = pa.Table.from_pylist(FOREST)
    holder = type("Comparison", (), {"table": lambda self: table, "is_offline": True})()
    figures = [plots.forest(rows, what="Score", of=holder) for rows in (FOREST, table, holder, iter(FOREST))]
    assert len({figure.to_json() for figure in figures}) == 1 and plots.OFFLINE_NOTE in notes(figures[0])
    with pytest.raises(InputError, match="at least one difference"):
        plots.forest([], what="Score", of=None)
    with pytest.raises(InputError, match="a row of a forest needs 'low'; this one has prompt"):
        plots.forest([{name: value for name, value in FOREST[0].items() if name != "low"}], what="Score", of=None)


def test_differences_of_any_size_have_a_zero_on_the_axis():
    for size in (0.0, 1e-6, 0.004, 0.3, 2.0, 70.0):
        axis = plots.forest([difference("all", size, size / 2, size * 1.5)], what="x", of=None).layout.xaxis
        assert 0 in axis.tickvals and len(axis.tickvals) <= 8 and axis.range[0] < axis.range[1]


def test_one_score_says_nothing_of_the_mean_of_others():
    assert Scores("rows", [0.5]).interval == (0.0, 1.0)


# --- what every figure does -------------------------------------------------------------------------------------------


def test_what_the_offline_rules_made_says_so_in_every_plot(offline_run, scripted_run):
    def all_plots(of):
        yield plots.waterfall(of)
        yield plots.proportions(ARMS, what="x", of=of)
        yield plots.spread([Scores("rows", [0.5])], what="x", of=of)
        yield plots.repeats([Point(1, 1)], of=of)
        yield plots.forest(FOREST, what="x", of=of)

    assert all(plots.OFFLINE_NOTE in notes(figure) for figure in all_plots(offline_run))
    assert not any(plots.OFFLINE_NOTE in notes(figure) for figure in all_plots(scripted_run))


def test_one_offline_run_or_row_among_many_is_enough(offline_run, scripted_run):
    model, rules = (
        tasks.Instruction("x", provenance=Provenance("r", model="a-model")),
        tasks.Instruction("y", provenance=Provenance("r", model="offline-rules@1/weak")),
    )
    for of in ([scripted_run, offline_run], {"a": offline_run}.values(), [model, rules]):
        assert plots.OFFLINE_NOTE in notes(plots.proportions(ARMS, what="x", of=of))
    for of in (None, [], [model], [scripted_run]):
        assert plots.OFFLINE_NOTE not in notes(plots.proportions(ARMS, what="x", of=of))


HOSTILE = [
    "<b>bold</b>",
    "<a href='https://example.org'>x</a>",
    "<br>",
    "$\\alpha$ and $x$",
    "%{y} %{customdata}",
    "&lt;b&gt;",
    "<script>alert(1)</script>",
]


@pytest.mark.parametrize("text", HOSTILE)
def test_markup_in_labels_is_inert(text):
    steps = [FunnelStep("tasks", 9, "total"), FunnelStep(text, 3, "loss"), FunnelStep(text, 6, "total")]
    figures = [
        plots.waterfall(steps),
        plots.proportions([Share(text, 1, 2), Share("c", 1, 2, True)], what=text, of=None),
        plots.spread([Scores(text, [0.5])], what=text, of=None),
        plots.forest([difference(text, 0.1, 0, 1, text), difference("all", 0, 0, 1)], what=text, of=None),
    ]
    for figure in figures:
        for drawn in shown(figure):
            assert "$" not in drawn and "%{" not in drawn
            assert not re.search(
                r"<(?!br>)", drawn.replace("<br>", "", drawn.count("<br>") if drawn == figure.layout.title.text else 0)
            )
        assert any(
            "&lt;" in drawn or "&#36;" in drawn or "&#123;" in drawn or "&amp;" in drawn for drawn in shown(figure)
        )


def test_paper_is_transparent_and_axes_have_units():
    for figure in (
        plots.proportions(ARMS, what="x", of=None),
        plots.spread([Scores("rows", [0.5])], what="x", of=None),
        plots.repeats([Point(1, 1)], of=None),
        plots.forest(FOREST, what="x", of=None),
    ):
        assert figure.layout.paper_bgcolor == figure.layout.plot_bgcolor == "rgba(0,0,0,0)"
        assert figure.layout.xaxis.title.text and not figure.layout.showlegend


@pytest.mark.parametrize("background", ["#ffffff", "#0d1117", "#111111"])
@pytest.mark.parametrize(("colour", "least"), [(drawing.TEXT, 4.0), (plots.ACCENT, 3.0)])
def test_text_and_accent_have_contrast_on_light_and_dark(background, colour, least):
    def luminance(colour):
        channels = [int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5)]
        linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    dark, light = sorted([luminance(background), luminance(colour)])
    assert (light + 0.05) / (dark + 0.05) >= least


# --- showing ----------------------------------------------------------------------------------------------------------


@pytest.fixture
def displayed(monkeypatch):
    """What is displayed, as (bundle, keyword arguments)."""
    import IPython.display

    seen = []
    monkeypatch.setattr(IPython.display, "display", lambda bundle, **options: seen.append((bundle, options)))
    return seen


def test_show_gives_the_figure_and_a_static_image_in_one_output(displayed):
    import shutil

    if not any(map(shutil.which, ("chromium", "google-chrome", "chrome", "chromium-browser"))):
        pytest.skip("needs a Chrome or Chromium")
    plots.show(plots.proportions(ARMS, what="Rows <b>supported</b>", of=None), "90% <b>of</b> rows.")
    (bundle, options), (sentence, _) = displayed
    image = base64.b64decode(bundle["image/png"])
    assert image.startswith(b"\x89PNG") and len(image) < 100_000
    assert int.from_bytes(image[16:20], "big") == 1000 and options["metadata"] == {"image/png": {"width": 800}}
    assert json.loads(json.dumps(bundle["application/vnd.plotly.v1+json"]))["data"][0]["type"] == "scatter"
    assert bundle["text/plain"].startswith("<Figure: Rows <b>supported</b>: rows 90%")
    assert "&lt;b&gt;of" in sentence["text/html"] and sentence["text/plain"] == "90% <b>of</b> rows."


def test_without_a_chrome_the_interactive_figure_is_shown_and_nothing_fails(displayed, monkeypatch, tmp_path, capfd):
    monkeypatch.setenv("BROWSER_PATH", str(tmp_path / "no-chrome"))
    plots.show(plots.proportions(ARMS, what="x", of=None))
    ((bundle, _),) = displayed
    assert "application/vnd.plotly.v1+json" in bundle and "image/png" not in bundle
    assert capfd.readouterr() == ("", "")


def test_a_chrome_that_does_not_start_is_as_good_as_none(displayed, monkeypatch, tmp_path):
    broken = tmp_path / "chrome"
    broken.write_text("#!/bin/sh\nexit 1\n")
    broken.chmod(0o755)
    monkeypatch.setenv("BROWSER_PATH", str(broken))
    plots.show(plots.proportions(ARMS, what="x", of=None))
    assert "image/png" not in displayed[0][0]


def test_without_kaleido_or_plotly_what_to_type_is_said(displayed, monkeypatch):
    import sys

    figure = plots.proportions(ARMS, what="x", of=None)
    monkeypatch.setitem(sys.modules, "kaleido", None)
    plots.show(figure)
    assert "image/png" not in displayed[0][0]
    monkeypatch.setitem(sys.modules, "plotly.graph_objects", None)
    with pytest.raises(MissingLibrary, match=r"synthetic-data-workbench\[notebook\]"):
        plots.proportions(ARMS, what="x", of=None)
