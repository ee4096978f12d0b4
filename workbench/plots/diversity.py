"""Duplicates and diversity."""

import math
from collections.abc import Mapping
from typing import Any

from workbench._html import ACCENT, GREY
from workbench.errors import InputError
from workbench.personas import Population
from workbench.plots.drawing import SERIES, chart, inert, labelled_rows, percent, text_beside
from workbench.quality.dedup import NearDuplicates, Removed
from workbench.quality.diversity import SIMILAR, Comparison, Curve

_LINE = {"type": "scatter", "mode": "lines", "hoverinfo": "skip"}


def dedup_sweep(found: NearDuplicates, *, of: Any = None) -> Any:
    """Return how many records each threshold would remove, from the lowest that `found` knows to 1; nothing is compared again.

    Grey is what copies alone come to; the dotted line is the threshold of `found`, and the label what it removes."""
    if not (n := len(found)):
        raise InputError("a sweep needs at least one record. Give what dedup.minhash or dedup.similar returned.")
    table = found.sweep().to_pydict()
    x, removed, copies, here = table["threshold"], table["removed"], table["removed"][-1], len(found.failed)
    top = max(1, *removed)
    marks = [
        _LINE | {"x": [x[0], 1], "y": [copies, copies], "line": {"color": GREY, "width": 2}},
        _LINE | {"x": x, "y": removed, "line": {"color": ACCENT, "width": 2.5}},
        _LINE | {"x": [found.threshold] * 2, "y": [0, 1.1 * top], "line": {"color": ACCENT, "width": 1.5, "dash": "dot"}},
        text_beside(found.threshold, here, f"  {here:,} of {n:,} at {found.threshold:g}", "top right", ACCENT),
        text_beside(1, copies, f"  {copies:,} copies", "middle right", GREY),
    ]  # fmt: skip
    title = (
        f"{found.search.name} at {found.threshold:g} removes {here:,} of {n:,} records ({percent(here / n)}), "
        f"{copies:,} of them copies; at {x[0]:g} it would remove {removed[0]:,}"
    )
    room = 1 - x[0]
    across = {"title": "threshold (similarity from which records are joined; 1 is the same text)"}
    across |= {"range": [x[0] - 0.03 * room, 1 + 0.25 * room], "tickformat": ".2~f"}
    up = {"title": f"records removed (count, of {n:,})", "range": [-0.04 * top, 1.14 * top]}
    return chart(title, marks, (across, up), [of, *found.search.texts.records], height=400)


def removed(found: Removed, *, remove: str, spare: str, of: Any) -> Any:
    """Return the share of each kind of record that a threshold removes, with 95% bands; dotted is the threshold that removes
    most of `remove`, in blue, and least of `spare`, in orange. Other kinds are grey."""
    best = found.best(remove=remove, spare=spare)
    marks, ends = [], []
    others = [kind for kind in found.kinds if kind not in (remove, spare)]
    for kind in (*others, spare, remove):
        colour = ACCENT if kind == remove else SERIES[1] if kind == spare else GREY
        rows = [row for row in found.rows if row.kind == kind]
        x = [row.threshold for row in rows]
        band = [*(row.interval[1] for row in rows), *(row.interval[0] for row in reversed(rows))]
        fill = {"fill": "toself", "fillcolor": colour, "opacity": 0.13, "line": {"width": 0}}
        marks.append(_LINE | {"x": [*x, *reversed(x)], "y": band} | fill)
        marks.append(_LINE | {"x": x, "y": [row.share for row in rows], "line": {"color": colour, "width": 2.5}})
        ends.append((rows[0].share, f"{inert(kind, 30)}, n {rows[0].n:,}  ", colour))
    marks.append(_LINE | {"x": [best, best], "y": [0, 1.04], "line": {"color": ACCENT, "width": 1.5, "dash": "dot"}})
    least, place = found.rows[0].threshold, 2.0
    for share, label, colour in sorted(ends, reverse=True):
        place = min(share, place - 0.06)  # pushed apart where lines begin together
        marks.append(text_beside(least, place, label, "middle left", colour))
    here = found.at(best)
    title = f"{found.search} at {best:g} removes {percent(here[remove].share)} of {remove} and {percent(here[spare].share)} of {spare}"
    room = 1 - least
    across = {
        "title": "threshold (similarity from which records are joined)",
        "range": [least - 0.3 * room, 1 + 0.03 * room],
        "tickvals": [tick / 10 for tick in range(math.ceil(10 * least), 11)],
        "tickformat": ".2~f",
    }
    up = {"title": "share removed (95% interval)", "range": [-0.03, 1.06], "tickformat": ".0%"}
    return chart(title, marks, (across, up), of, height=420)


def saturation(found: Population, *, last: int = 50) -> Any:
    """Return how many personas were new over how many were made, with grey for all of them new; dotted where a round begins.

    The title says how many of the `last` made were new."""
    table = found.curve().to_pydict()
    made, new, rounds = table["made"], table["new"], table["round"]
    marks = [
        _LINE | {"x": [0, made[-1]], "y": [0, made[-1]], "line": {"color": GREY, "width": 2}},
        _LINE | {"x": [0, *made], "y": [0, *new], "line": {"color": ACCENT, "width": 2.5}},
        text_beside(made[-1], new[-1], f"  {new[-1]:,} new", "middle right", ACCENT),
    ]
    if made[-1] > 1.06 * new[-1]:
        marks.append(text_beside(made[-1], made[-1], f"  {made[-1]:,} made", "bottom right", GREY))
    free = 0.0
    for at in (at for at in range(len(made)) if not at or rounds[at] != rounds[at - 1]):
        if at:
            marks.append(
                _LINE | {"x": [at, at], "y": [0, made[-1]], "line": {"color": GREY, "width": 1, "dash": "dot"}}
            )
        source = f"round {rounds[at]}" if rounds[at] else "texts"
        if at >= free:  # a label needs the width of its words
            marks.append(text_beside(at, 1.02 * made[-1], f" {source}", "top right", GREY))
            free = at + 0.1 * made[-1]
    last = min(last, len(made))
    before = new[-last - 1] if last < len(made) else 0
    title = (
        f"{new[-1]:,} different personas of {made[-1]:,} made; of the last {last:,} made, {new[-1] - before:,} were new"
    )
    across = {"title": "personas made (count)", "range": [0, 1.22 * made[-1]]}
    up = {"title": "different personas (count)", "range": [0, 1.14 * made[-1]]}
    return chart(title, marks, (across, up), [*found.runs], height=420)


def coverage(curves: Mapping[str, Curve], *, of: Any) -> Any:
    """Return how many clusters so many rows cover, a line with its 95% band for each set; the last one named is the control,
    in grey, where there are several. The title compares them at as many rows as the smallest set has."""
    if not curves:
        raise InputError("there is no curve to draw. Give {name: diversity.coverage(labels)}.")
    marks, ends = [], []
    for at, (name, curve) in enumerate(curves.items()):
        colour = GREY if at and at == len(curves) - 1 else SERIES[at % len(SERIES)]
        x, values = list(curve.sizes), curve.clusters
        band = [*(each.high for each in values), *(each.low for each in reversed(values))]
        fill = {"fill": "toself", "fillcolor": colour, "opacity": 0.15, "line": {"width": 0}}
        marks.append(_LINE | {"x": [*x, *reversed(x)], "y": band} | fill)
        marks.append(_LINE | {"x": x, "y": [each.value for each in values], "line": {"color": colour, "width": 2.5}})
        ends.append((values[-1].value, x[-1], f"  {inert(name, 30)}", colour))
    top = max(each.high for curve in curves.values() for each in curve.clusters)
    place = 2 * top
    for value, x, label, colour in sorted(ends, reverse=True):
        place = min(value, place - 0.06 * top)  # pushed apart where lines end together
        marks.append(text_beside(x, place, label, "middle right", colour))
    rows = min(curve.sizes[-1] for curve in curves.values())
    said = ", ".join(f"{name} {_at(curve, rows):.1f}" for name, curve in curves.items())
    end = max(curve.sizes[-1] for curve in curves.values())
    across = {"title": "rows drawn (count)", "range": [0, 1.3 * end]}
    up = {"title": "clusters covered (mean over draws, 95% interval)", "range": [0, 1.06 * top]}
    return chart(f"Clusters covered by {rows:,} rows: {said}", marks, (across, up), of, height=420)


def _at(curve: Curve, rows: int) -> float:
    """The clusters that so many rows cover, between the sizes of the curve if need be."""
    import numpy as np

    return float(np.interp(rows, curve.sizes, [each.value for each in curve.clusters]))


def gains(found: Comparison, *, of: Any) -> Any:
    """Return the difference that personas make to each measure, in percent of its value without them, at equal n.

    Blue as the rows are, orange without the personas' words; to the right is more diverse, so that self-similarity is drawn
    with its sign turned. Measures that are zero without personas have no percentage and are left out."""
    names = list(dict.fromkeys(row.measure for row in found.rows if row.without.value))
    marks: list[dict[str, Any]] = [
        _LINE | {"x": [0, 0], "y": [-0.6, len(names) - 0.4], "line": {"color": GREY, "width": 1.5}}
    ]
    reach = 0.0
    for is_stripped, colour, below in ((False, ACCENT, -0.14), (True, SERIES[1], 0.14)):
        rows = [row for row in found.rows if row.is_stripped == is_stripped and row.measure in names]
        if not rows:
            continue
        values = [
            [_share_of(row, end) for end in (row.difference.value, row.difference.low, row.difference.high)]
            for row in rows
        ]
        x, ends = [value for value, _, _ in values], [sorted(each[1:]) for each in values]
        reach = max([reach, *(abs(end) for pair in ends for end in pair)])
        marks.append({
            "type": "scatter", "mode": "markers", "hoverinfo": "skip", "x": x,
            "y": [names.index(row.measure) + below for row in rows], "marker": {"size": 10, "color": colour, "opacity": 1},
            "error_x": {
                "array": [high - value for value, (_, high) in zip(x, ends, strict=True)], "thickness": 1.6, "width": 4,
                "arrayminus": [value - low for value, (low, _) in zip(x, ends, strict=True)], "color": colour,
            },
        })  # fmt: skip
        label = "without the personas' words" if is_stripped else "as they are"
        marks.append(
            text_beside(ends[0][1], names.index(rows[0].measure) + below, f"  {label}", "middle right", colour)
        )
    sides = {row.measure: row for row in reversed(found.rows) if not row.is_stripped}
    shown = lambda value: f"{value:,.0f}" if value >= 100 else f"{value:.1f}" if value >= 2 else f"{value:.2f}"
    labels = [f"{name} ({shown(sides[name].without.value)})" for name in names]
    axis = {
        "title": f"more diverse with personas, in % of the value without (in brackets); n {found.n:,} each, 95% interval",
        "range": [-1.1 * reach, 1.6 * reach], "ticksuffix": "%",
    }  # fmt: skip
    return labelled_rows(found.answer, labels, marks, axis, of, line=52)


def _share_of(row: Any, value: float) -> float:
    """A difference in percent of the value without personas, more diverse upwards."""
    return (-100 if row.measure == SIMILAR else 100) * value / row.without.value
