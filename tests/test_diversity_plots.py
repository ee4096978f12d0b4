"""Plots of saturation, coverage, gains and thresholds: they draw the numbers they are given, and their titles say them."""

import itertools
import json

import pytest

from workbench import llm, personas, plots
from workbench.errors import InputError
from workbench.intervals import Interval
from workbench.quality import dedup
from workbench.quality.dedup import Removed
from workbench.quality.dedup.groups import At
from workbench.quality.diversity import SIMILAR, Compared, Comparison, Curve
from workbench.records import Document, Persona

PAGE = Document(
    "Drain a garden hose before the first frost, because water that freezes in it splits the rubber of the hose."
)


def between(value, low, high):
    return Interval(value, low, high, 10)


@pytest.fixture(scope="module")
def population(tmp_path_factory):
    """40 people, then the same again."""
    towns = ["valley", "harbour", "suburb", "village", "island"]
    roles = ["baker", "plumber", "nurse", "tailor", "pilot", "lawyer", "farmer", "painter"]
    people = itertools.cycle(f"A {role} of the {town} who counts every hour." for role in roles for town in towns)
    said = lambda request: json.dumps({"interest": "x", "link": "x", "persona": next(people)})
    settings = personas.Settings(rows=60, first=20, rounds=2, max_similar=1.0, concurrency=1)
    return personas.grow([PAGE], out=tmp_path_factory.mktemp("people"), client=llm.Scripted(said), settings=settings, gates=None)  # fmt: skip


def test_saturation_draws_the_curve_and_says_how_many_of_the_last_were_new(population):
    figure = plots.saturation(population, last=10)
    curve = population.curve().to_pydict()
    everybody, new = figure.data[0], figure.data[1]
    assert (
        list(new.x) == [0, *curve["made"]]
        and list(new.y) == [0, *curve["new"]]
        and list(everybody.y) == [0, curve["made"][-1]]
    )
    last = curve["new"][-1] - curve["new"][-11]
    title = figure.layout.title.text.replace("<br>", " ")
    assert (
        title
        == f"{curve['new'][-1]} different personas of {curve['made'][-1]} made; of the last 10 made, {last} were new"
    )
    texts = [trace.text[0].strip() for trace in figure.data if trace.mode == "text"]
    assert "texts" in texts and "round 1" in texts


def test_coverage_draws_each_curve_with_its_band_and_compares_at_the_size_of_the_smaller(population):
    one = Curve((1, 10, 20), (between(1, 1, 1), between(6, 5, 7), between(9, 7, 11)))
    two = Curve((1, 10), (between(1, 1, 1), between(4, 3, 5)))
    figure = plots.coverage({"with <b>": one, "without": two}, of=None)
    band, line = figure.data[0], figure.data[1]
    assert list(line.y) == [1, 6, 9] and list(band.y) == [1, 7, 11, 7, 5, 1] and figure.data[3].line.color == plots.GREY
    assert figure.layout.title.text == "Clusters covered by 10 rows: with &lt;b&gt; 6.0, without 4.0"
    assert all("<b>" not in str(trace.text) for trace in figure.data)
    with pytest.raises(InputError, match="no curve"):
        plots.coverage({}, of=None)


def test_gains_turn_the_sign_of_self_similarity_and_are_in_percent_of_the_value_without():
    def row(measure, is_stripped, without, difference, low, high):
        return Compared(
            measure, is_stripped, between(without, without, without), between(0, 0, 0), between(difference, low, high)
        )

    rows = [
        row("Vendi score", False, 50, 5, 2, 8),
        row(SIMILAR, False, 0.2, -0.02, -0.04, 0.0),
        row("nothing", False, 0, 1, 1, 1),
    ]
    rows += [row("Vendi score", True, 40, 2, -2, 6), row(SIMILAR, True, 0.2, 0.01, -0.02, 0.04)]
    figure = plots.gains(Comparison(tuple(rows), 30), of=None)
    whole, bare = (trace for trace in figure.data if trace.mode == "markers")
    assert list(whole.x) == pytest.approx([10, 10]) and list(bare.x) == pytest.approx([5, -5])
    assert list(whole.error_x.array) == pytest.approx([6, 10]) and list(whole.error_x.arrayminus) == pytest.approx(
        [6, 10]
    )
    assert list(bare.error_x.array) == pytest.approx([10, 15]) and list(bare.error_x.arrayminus) == pytest.approx(
        [10, 15]
    )
    assert [tick.strip() for tick in figure.layout.yaxis.ticktext] == ["Vendi score (50.0)", "self-similarity (0.20)"]
    assert "n 30 each" in figure.layout.xaxis.title.text


def test_removed_draws_the_shares_and_marks_the_best_threshold():
    rows = [At(t, kind, hit, 20) for t, copy, cousin in ((0.5, 20, 18), (0.8, 18, 2), (1.0, 10, 0)) for kind, hit in (("copy", copy), ("cousin", cousin))]  # fmt: skip
    figure = plots.removed(Removed(tuple(rows), "dedup.x"), remove="copy", spare="cousin", of=None)
    assert figure.layout.title.text == "dedup.x at 0.8 removes 90% of copy and 10% of cousin"
    lines = [list(trace.y) for trace in figure.data if trace.mode == "lines" and trace.fill is None]
    assert (
        [0.9, 0.1, 0.0] in lines
        and [1.0, 0.9, 0.5] in lines
        and any(list(trace.x) == [0.8, 0.8] for trace in figure.data)
    )


def test_a_long_title_has_room_above_the_picture():
    short, long = (_titled(words) for words in (3, 60))
    assert long.layout.title.text.count("<br>") >= 1
    assert long.layout.title.pad.t > short.layout.title.pad.t and long.layout.margin.t > short.layout.margin.t


def _titled(words):
    kind = "copy " * words
    rows = (At(0.5, kind, 1, 2), At(0.5, "cousin", 0, 2))
    return plots.removed(Removed(rows, "dedup.x"), remove=kind, spare="cousin", of=None)


def test_a_map_of_thresholds_is_drawn_of_real_records(tmp_path):
    records = Persona("A baker in a valley."), Persona("A baker in a valley!")
    found = dedup.by_kind(dedup.minhash(records), {records[0].id: "one", records[1].id: "two"})
    assert plots.removed(found, remove="two", spare="one", of=records).layout.title.text.startswith(
        "dedup.minhash at 1 removes 100% of two"
    )
