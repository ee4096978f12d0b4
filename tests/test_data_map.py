"""The static picture of a map: every row once, names over each other never, and text that stays text."""

import re
from dataclasses import replace
from xml.etree import ElementTree

import numpy as np
import pyarrow as pa
import pytest

from tests import maps
from workbench import plots
from workbench._colours import APART, shades
from workbench._html import GREY
from workbench.clusters import NOISE
from workbench.errors import InputError


@pytest.fixture(scope="module")
def found():
    return maps.made(400)


def names(figure):
    """Text of each name without its line breaks."""
    return [note.text.replace("<br>", " ") for note in figure.layout.annotations if note.bgcolor]


def colours(figure, found):
    """The colour of every row, by where it is drawn; each is drawn once."""
    at = {tuple(place): row for row, place in enumerate(found.xy.tolist())}
    drawn = {}
    for trace in figure.data:
        for place in zip(trace.x.tolist(), trace.y.tolist(), strict=True):
            assert at[place] not in drawn
            drawn[at[place]] = trace.marker.color
    assert len(drawn) == len(found)
    return [drawn[row] for row in range(len(found))]


def boxes(figure):
    """Where names are in pixels of the picture, made anew from the figure: (left, top, right, bottom)."""
    (left, right), (low, high) = figure.layout.xaxis.range, figure.layout.yaxis.range
    margin, height = figure.layout.margin, figure.layout.height
    per_x = (800 - margin.l - margin.r) / (right - left)
    per_y = (height - margin.t - margin.b) / (high - low)
    found = []
    for note in figure.layout.annotations:
        lines = note.text.split("<br>")
        wide, tall = 5.6 * max(len(re.sub(r"&[^;]+;", "_", line)) for line in lines) + 5, 12 * len(lines) + 5
        x, y = (note.x - left) * per_x + (note.xshift or 0), (high - note.y) * per_y
        found.append((x - wide / 2, y - tall / 2, x + wide / 2, y + tall / 2))
    return found


def overlaps(boxes):
    return [
        (a, b)
        for at, a in enumerate(boxes)
        for b in boxes[:at]
        if a[0] < b[2] and b[0] < a[2] and a[1] < b[3] and b[1] < a[3]
    ]


def test_every_row_is_drawn_once_in_the_colour_of_its_cluster_and_noise_in_grey(found):
    figure = plots.data_map(found)
    drawn = colours(figure, found)
    assert {drawn[at] for at in found.members(NOISE)} == {GREY}
    assert all(len({drawn[at] for at in found.members(number)} - {GREY}) == 1 for number in range(8))
    assert figure.data[0].marker.color == GREY and figure.data[0].marker.opacity < figure.data[1].marker.opacity
    assert figure.layout.title.text == "400 rows in 8 clusters, 9% in none; 8 of 8 clusters named"


def test_the_same_colour_goes_to_clusters_that_are_far_from_each_other():
    found = maps.made(2400, count=24)  # in a circle
    drawn = colours(plots.data_map(found), found)
    of = [drawn[found.members(number)[0]] for number in range(24)]
    assert all(of[at] != of[(at + step) % 24] for at in range(24) for step in (1, 2))
    assert set(of) == set(APART)


def test_names_are_where_their_clusters_are_and_never_over_each_other(found):
    figure = plots.data_map(found)
    assert len(names(figure)) == 8 and not overlaps(boxes(figure))
    for note in figure.layout.annotations:
        number = [each.name for each in found.clusters].index(
            note.text.replace("&lt;", "<").replace("&gt;", ">").replace("&#36;", "$")
        )
        members = found.xy[found.members(number)]
        assert np.linalg.norm([note.x, note.y] - np.median(members, axis=0)) < 1
        assert [note.x, note.y] in members.tolist()
    crowded = maps.made(4000, count=40)
    figure = plots.data_map(crowded, labels=40)
    named = len(names(figure))
    assert 8 < named < 40 and not overlaps(boxes(figure))
    assert figure.layout.title.text.endswith(f"; {named} of 40 clusters named")


def test_the_largest_clusters_are_named_first_and_no_more_than_are_wanted(found):
    sizes = [50, 10, 90, 20, 30, 80, 5, 70]
    clusters = tuple(replace(each, size=size) for each, size in zip(found.clusters, sizes, strict=True))
    figure = plots.data_map(replace(found, clusters=clusters), labels=3)
    assert names(figure) == ["queue, worker", "tooth, jaw", "sail, mast"]
    assert names(plots.data_map(found, labels=0)) == []


def test_names_stay_in_the_picture_and_long_ones_are_cut(found):
    clusters = tuple(
        replace(each, name=f"{each.number} " + "a long name of many words " * 5) for each in found.clusters
    )
    wide = np.column_stack([20 * (found.labels % 2), found.labels]).astype(
        np.float32
    )  # at both edges, and nowhere else
    wide[found.labels == NOISE] = [0, 0]
    figure = plots.data_map(replace(found, clusters=clusters, xy=wide))
    for left, top, right, bottom in boxes(figure):
        assert left > 0 and right < 760 and top > -10 and bottom < figure.layout.height
    assert all(len(name) < 60 and name.endswith("…") for name in names(figure)) and not overlaps(boxes(figure))


def test_numbers_have_a_scale_with_its_ends_and_what_is_missing_is_grey(found):
    values = [None if at % 10 == 0 else float("nan") if at % 10 == 1 else at / 400 for at in range(400)]
    figure = plots.data_map(found, color={"<b>share</b>": values})
    missing, known = figure.data
    assert len(missing.x) == 80 and missing.marker.color == GREY and len(known.x) == 320
    bar = known.marker.colorbar
    assert bar.title.text == "&lt;b&gt;share&lt;/b&gt;" and bar.ticktext == ("0.013", "0.99")
    order = np.argsort(
        [found.xy.tolist().index([x, y]) for x, y in zip(known.x.tolist(), known.y.tolist(), strict=True)]
    )
    assert (np.diff(np.asarray(known.marker.color)[order]) >= 0).all()
    assert (
        len(names(figure)) == 8
        and "by &lt;b&gt;share&lt;/b&gt;, most of them 0.013 to 0.99" in figure.layout.title.text
    )
    by_name = plots.data_map(found, color="membership")
    assert "by membership" in by_name.layout.title.text and len(by_name.data[1].x) == 400


def test_texts_have_colours_and_are_named_themselves(found):
    figure = plots.data_map(found, color={"kind": ["<b>yes</b>" if at % 2 else None for at in range(400)]})
    assert names(figure) == ["&lt;b&gt;yes&lt;/b&gt;"]
    assert figure.layout.title.text == "400 rows by kind, 50% without one; 1 of 1 values named"
    drawn = colours(plots.data_map(found, color="category"), found)
    assert {drawn[at] for at in found.members(1)}.isdisjoint(drawn[at] for at in found.members(2))


def test_a_map_without_clusters_or_of_one_place_is_drawn_all_the_same(found):
    none = np.full(400, NOISE, np.int32)
    figure = plots.data_map(replace(found, labels=none, clusters=()))
    assert figure.layout.title.text == "400 rows in 0 clusters, 100% in none; 0 of 0 clusters named"
    same = plots.data_map(replace(found, xy=np.ones((400, 2), np.float32)))
    assert len(names(same)) == 1 and np.isfinite([*same.layout.xaxis.range, *same.layout.yaxis.range]).all()


def test_both_axes_have_one_unit_and_no_ticks_and_the_caption_says_what_distances_mean(found):
    figure = plots.data_map(found)
    layout = figure.layout
    wide = (800 - layout.margin.l - layout.margin.r) / np.ptp(layout.xaxis.range)
    tall = (layout.height - layout.margin.t - layout.margin.b) / np.ptp(layout.yaxis.range)
    assert wide == pytest.approx(tall, rel=0.05)
    assert not layout.xaxis.showticklabels and not layout.yaxis.showticklabels
    assert "distances across the map" in layout.xaxis.title.text
    low, high = found.xy.min(axis=0), found.xy.max(axis=0)
    assert layout.xaxis.range[0] < low[0] and high[1] < layout.yaxis.range[1]


@pytest.mark.parametrize(
    ("color", "why"),
    [
        ("nothing", "the map has no column 'nothing'; it has id, text, x"),
        ({"a": [1]}, "'a' has 1 values and the map 400 rows. Give one for each"),
        ({"a": [1] * 400, "b": [1] * 400}, "color is one column, got 2: a, b"),
        ({"a": [[1]] * 400}, "a column of list<.*> has no colours: 'a'"),
    ],
)
def test_a_colour_that_does_not_fit_is_refused(found, color, why):
    with pytest.raises(InputError, match=why):
        plots.data_map(found, color=color)


def test_the_colours_of_many_values_are_found_in_no_time_and_of_none_are_grey():
    xy = np.random.default_rng(0).standard_normal((50_000, 2))
    many = shades(pa.array([f"value {at}" for at in range(50_000)]), xy, name="each")
    assert many.slots.max() < len(APART) and len(many.values) == 50_000 and many.without == 0
    none = shades(pa.array([None, None], pa.string()), xy[:2], name="none")
    assert none.without == 2 and none.values == ()
    coded = shades(pa.array(["b", "a", "b", None]).dictionary_encode(), xy[:4], name="coded")
    assert coded.values == (("b", 2), ("a", 1)) and coded.of_value.tolist() == [0, 1, 0, -1]


def test_what_the_offline_rules_made_says_so(found):
    class Made:
        is_offline = True

    figure = plots.data_map(found, of=Made())
    assert plots.OFFLINE_NOTE in [note.text for note in figure.layout.annotations]


def test_a_picture_is_a_png_and_an_svg_with_the_names_as_text(found):
    figure = plots.data_map(found)
    image = plots.png(figure)
    if image is None:
        pytest.skip("needs kaleido and a Chrome")
    assert image.startswith(b"\x89PNG")
    drawn = plots.svg(figure)
    root = ElementTree.fromstring(drawn)
    texts = ["".join(each.itertext()) for each in root.iter("{http://www.w3.org/2000/svg}text")]
    assert "bread, oven" in texts and "<b>bold</b>, $x$" in texts
    assert len([each for each in root.iter() if each.get("class") == "point"]) == 400
    assert not re.search(r"(href|src)=\"https?:", drawn)


def test_many_rows_are_drawn_by_webgl_so_that_the_file_stays_small():
    few, many = maps.made(300), maps.made(20_001)
    assert {trace.type for trace in plots.data_map(few).data} == {"scatter"}
    assert {trace.type for trace in plots.data_map(many).data} == {"scattergl"}
