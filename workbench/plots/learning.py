"""Learning curves: what more rows bought, and what the gates saw of the rows before they were trained on."""

import math
from collections.abc import Sequence
from typing import Any

from workbench._html import ACCENT, GREY
from workbench.errors import InputError
from workbench.experiments import is_lower_better
from workbench.plots.drawing import GRID, SERIES, TEXT, chart, inert, percent, text_beside

_PANEL, _STRIP, _GAP = 300, 84, 24  # pixels: the curve, each gate below it, and between them
_ASIDE = 0.01  # of the axis: how far the two arms of a size stand from it, so that their intervals lie apart
_BROKEN = SERIES[1]
# By name: what it is called, how a value reads, and what its limit is.
_GATES = {
    "parse_rate": ("parse rate", percent, "at least"),
    "duplicate_rate": ("repeated rows", percent, "at most"),
    "judge_score": ("judge score", "{:.3g}".format, "at least"),
    "agreement": ("judge's kappa", "{:.2f}".format, "at least"),
}


def learning_curve(curve: Any, *, of: Any) -> Any:
    """Return the primary metric by rows, with intervals, beside that of the controls and of the untouched base, and below it
    what each gate saw of the rows of each size; a size that a gate kept out has a cross.

    `curve` is what `learning.curve` gives. Gates of which nothing is known are not drawn, and named below. Raises InputError
    where no size was trained."""
    if not curve.points:
        raise InputError(f"no size was trained, so there is no curve: {curve.stopped or 'it has no points'}.")
    looks = curve.gates.to_pylist()
    sizes = [look["rows"] for look in looks]
    known = [name for name in _GATES if any(look[name] is not None for look in looks)]
    # Labels stand to the right of the last size, within the axes.
    first, last = math.log10(sizes[0]), math.log10(sizes[-1])
    span = max(last - first, 0.5)
    ends = (10 ** (first - 0.08 * span), 10 ** (last + 0.06 * span))
    marks, y = _curve(curve, ends, 10 ** (_ASIDE * span))
    axes, area = {}, _PANEL + (_STRIP + _GAP) * len(known)
    domain = lambda top, height: [max(0.0, 1 - (top + height) / area), 1 - top / area]
    for number, name in enumerate(known, 2):
        top = _PANEL + _GAP + (number - 2) * (_STRIP + _GAP)
        strip, axis = _strip(name, looks, curve.limits.get(name), ends)
        marks += [{**mark, "yaxis": f"y{number}"} for mark in strip]
        axes[f"yaxis{number}"] = {
            **axis, "domain": domain(top, _STRIP), "anchor": "x", "gridcolor": GRID, "zeroline": False,
        }  # fmt: skip
    missing = [label for name, (label, _, _) in _GATES.items() if name not in known]
    notes = ["crosses: kept out"] if len(looks) > len(curve.points) else []
    notes += [f"not known: {', '.join(missing)}"] if missing else []
    x = {
        "title": "; ".join(["rows trained on (count, log scale)", *notes]), "type": "log", "showgrid": False, "tickvals": sizes,
        "ticktext": [f"{size:,}" for size in sizes], "range": [math.log10(end) for end in ends], "anchor": f"y{len(known) + 1}" if known else "y",
    }  # fmt: skip
    figure = chart(_title(curve), marks, (x, {**y, "domain": domain(0, _PANEL)}), of, height=area + 130)
    figure.update_layout(**axes)
    figure.layout.margin.r = 20 + 7 * max(len(mark["text"][0]) for mark in marks if mark.get("name") == "label")
    return figure


def _title(curve: Any) -> str:
    first, last = curve.points[0], curve.points[-1]
    said = f"{curve.primary} {first.value.value:.3f} with {first.rows:,} rows"
    if last is not first:
        said += f", {last.value.value:.3f} with {last.rows:,}"
    since = f"shown from {curve.shown_from:,} rows on" if curve.shown_from else "not shown"
    if curve.shown_from == last.rows:
        since = f"shown with {last.rows:,} rows{' alone' if last is not first else ''}"
    said += f"; a gain over {curve.control} and base is {since}"
    return f"{said}; {curve.stopped}" if curve.stopped else said


def _curve(curve: Any, ends: tuple[float, float], aside: float) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """The marks of the upper panel, and its axis."""
    points, marks = curve.points, []
    values = [
        each
        for point in points
        for found in (point.value, point.control)
        for each in (found.low, found.high)
    ]  # fmt: skip
    values += [curve.base, *(value for point in points for value in (*point.seeds, *point.control_seeds))]
    least, most = min(values), max(values)
    room = (most - least) or 0.1
    marks.append(_dashed(ends, curve.base, GREY))
    arms = (("control", "control_seeds", GREY, aside), ("value", "seeds", ACCENT, 1 / aside))
    for name, seeds, colour, beside in arms:
        x, found = [point.rows * beside for point in points], [getattr(point, name) for point in points]
        marks.append({
            "type": "scatter", "mode": "markers", "hoverinfo": "skip", "marker": {"size": 5, "opacity": 0.45, "color": colour},
            "x": [at * beside for at, point in zip(x, points, strict=True) for _ in getattr(point, seeds)],
            "y": [value for point in points for value in getattr(point, seeds)],
        })  # fmt: skip
        marks.append({
            "type": "scatter", "mode": "lines+markers", "hoverinfo": "skip", "x": x, "y": [each.value for each in found],
            "line": {"color": colour, "width": 2}, "marker": {"size": 10, "opacity": 1, "color": colour},
            "error_y": {
                "array": [each.high - each.value for each in found], "arrayminus": [each.value - each.low for each in found],
                "color": colour, "thickness": 1.6, "width": 5,
            },
        })  # fmt: skip
    last = points[-1]
    lines = [
        (last.value.value, f"rows as they are {last.value.value:.3f}", ACCENT),
        (last.control.value, f"{curve.control} {last.control.value:.3f}", TEXT),
        (curve.base, f"untouched base {curve.base:.3f}", TEXT),
    ]
    place = math.inf
    for value, text, colour in sorted(lines, key=lambda line: -line[0]):
        # Pushed apart where lines end together.
        place = min(value, place - 0.085 * room)
        marks.append(_label(ends[1], place, text, colour))
    better = " (lower is better)" if is_lower_better(curve.primary) else ""
    title = (
        f"{curve.primary}{better}: mean of {len(last.seeds)} seeds, {last.value.level:.0%} interval, n {last.value.n:,}"
    )
    return marks, {"title": title, "range": [min(least, place) - 0.06 * room, most + 0.06 * room]}


def _strip(
    name: str, looks: Sequence[dict[str, Any]], limit: float | None, ends: tuple[float, float]
) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """The marks of one gate, and its axis: shares from 0 to 1, others over what there is."""
    label, shown, side = _GATES[name]
    found = [look for look in looks if look[name] is not None]
    values = [look[name] for look in found]
    is_broken = [
        limit is not None and (look[name] > limit if side == "at most" else look[name] < limit) for look in found
    ]
    colours = [_BROKEN if broken else ACCENT for broken in is_broken]
    # Away from the limit's line.
    places = ["bottom center" if limit is not None and value < limit else "top center" for value in values]
    symbols = ["circle" if look["is_trained"] else "x" for look in found]
    marks = [{
        "type": "scatter", "mode": "lines+markers+text", "hoverinfo": "skip", "x": [look["rows"] for look in found], "y": values,
        "line": {"color": GREY, "width": 1.5}, "marker": {"size": 9, "opacity": 1, "color": colours, "symbol": symbols},
        "text": [shown(value) for value in values], "textposition": places, "textfont": {"color": colours}, "cliponaxis": False,
    }]  # fmt: skip
    said, at = label, values[-1]
    if limit is not None:
        marks.append(_dashed(ends, limit, GREY))
        said, at = f"{label}: {side} {shown(limit)}", limit
    marks.append(_label(ends[1], at, said, TEXT))
    everything = [*values, *([limit] if limit is not None else [])]
    low, high = (0.0, 1.0) if name.endswith("rate") else (min(everything), max(everything))
    room = 0.4 * ((high - low) or 1.0)  # for the text of a value at the edge
    ticks = [0, 1] if name.endswith("rate") else sorted({low, high})
    axis = {"range": [low - room, high + room / 2], "tickvals": ticks, "ticktext": [shown(tick) for tick in ticks]}
    return marks, axis


def _dashed(ends: tuple[float, float], value: float, colour: str) -> dict[str, Any]:
    line = {"color": colour, "width": 1.5, "dash": "dash"}
    return {"type": "scatter", "mode": "lines", "x": list(ends), "y": [value] * 2, "line": line, "hoverinfo": "skip"}


def _label(x: float, y: float, text: str, colour: str) -> dict[str, Any]:
    return text_beside(x, y, f"  {inert(text, 40)}", "middle right", colour) | {"name": "label"}
