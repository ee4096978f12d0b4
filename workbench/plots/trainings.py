"""Trainings: how their losses fell, what each arm is worth, and how far two experiments are apart."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from workbench._html import ACCENT, GREY
from workbench.errors import InputError, require
from workbench.experiments import Compared, is_lower_better
from workbench.plots.drawing import (
    annotation,
    chart,
    comparison,
    dot_marks,
    inert,
    labelled_rows,
    text_beside,
    text_marks,
)
from workbench.plots.shares import Difference, baselines, differences_figure, told

_LEVELS = ("tokens", "steps", "step", "seconds", "seed")  # of a table of steps: how far it is, and no metric
_LINE, _GAP = 34, 92  # pixels: a labelled row, and between two panels
_BAND = "rgba(128,128,128,0.18)"


@dataclass(frozen=True)
class _Curve:
    """An arm's metric by step: a line a seed, and their mean at the steps of those that have come furthest."""

    label: str
    is_control: bool
    seeds: tuple[tuple[tuple[int, float], ...], ...]

    @cached_property
    def furthest(self) -> list[dict[int, float]]:
        end = max(points[-1][0] for points in self.seeds)
        return [dict(points) for points in self.seeds if points[-1][0] == end]

    @cached_property
    def mean(self) -> list[tuple[int, float]]:
        shared = sorted(set.intersection(*map(set, self.furthest)))
        return [(step, sum(one[step] for one in self.furthest) / len(self.furthest)) for step in shared]

    @property
    def value(self) -> float:
        return self.mean[-1][1]


def training_curves(steps_table: Any, *, metric: str = "loss", of: Any) -> Any:
    """Return a metric over the steps of a training: a thin line a seed, a bold one their mean; treatments blue, controls grey.

    `steps_table` is what `experiments.steps` gives. A mean is of the seeds that have come furthest: while an arm trains, a
    seed that has just begun would pull it up. A value that is not finite breaks its line. Raises InputError for a metric
    that was not logged."""
    rows = steps_table.to_pylist()
    curves = _curves(rows, metric)
    if not curves:
        names = sorted({name for row in rows for name, value in row.items() if _is_number(value)} - {*_LEVELS})
        raise InputError(f"no step has logged {metric!r}; there are {', '.join(names) or 'no steps yet'}. Wait, or name another.")  # fmt: skip
    end = max(points[-1][0] for curve in curves for points in curve.seeds)
    known = [value for curve in curves for points in curve.seeds for _, value in points if math.isfinite(value)]
    least, most = min(known, default=0.0), max(known, default=1.0)
    room = (most - least) or 0.1
    marks, labels, place = [], [], math.inf
    for curve in sorted(curves, key=lambda curve: -curve.value if math.isfinite(curve.value) else -math.inf):
        colour = GREY if curve.is_control else ACCENT
        if len(curve.seeds) > 1:
            marks += [_line(points, colour, 1) | {"opacity": 0.45} for points in curve.seeds]
        marks.append(_line(curve.mean, colour, 2.5))
        # Labels beside the ends of their lines, pushed apart where lines end together.
        place = min(curve.value if math.isfinite(curve.value) else most, place - 0.07 * room)
        there, of = len(curve.furthest), len(curve.seeds)
        count = f"{there} of {of} seeds" if there < of else "1 seed" if of == 1 else f"{of} seeds"
        text = f"  {inert(curve.label, 30)} {curve.value:.3g}, {count}"
        labels.append(text_beside(curve.mean[-1][0], place, text, "middle right", colour))
    whole = max((row["steps"] or 0 for row in rows), default=0)
    after = f"{end:,} of {whole:,}" if whole > end else f"{end:,}"
    x = {
        "title": "optimiser steps (count); thin: one seed, bold: their mean",
        "range": [0, end],
    }
    y = {"title": _named(metric), "range": [min(least, place) - 0.06 * room, most + 0.08 * room]}
    title = comparison(f"{metric} after {after} steps", curves, "{:.3g}".format)
    figure = chart(title, [*marks, *labels], (x, y), of, height=420)
    figure.layout.margin.r = 40 + 7 * max(len(label["text"][0]) for label in labels)  # the labels stand beside the axes
    return figure


def _curves(rows: Sequence[Mapping[str, Any]], metric: str) -> list[_Curve]:
    found: dict[tuple[str, str], dict[int, dict[int, float]]] = {}
    controls = {}
    for row in rows:
        if _is_number(row.get(metric)):
            key = row["experiment"], row["arm"]
            controls[key] = row["is_control"]
            found.setdefault(key, {}).setdefault(row["seed"], {})[row["step"]] = row[metric]
    is_one = len({experiment for experiment, _ in found}) == 1
    return [
        _Curve(
            key[1] if is_one else f"{key[0]}: {key[1]}",
            controls[key],
            tuple(tuple(sorted(by_step.items())) for by_step in seeds.values()),
        )
        for key, seeds in found.items()
    ]


def _line(points: Sequence[tuple[int, float]], colour: str, width: float) -> dict[str, Any]:
    x, y = zip(*points, strict=True)
    return {
        "type": "scatter", "mode": "lines" if len(x) > 1 else "markers", "x": list(x), "hoverinfo": "skip",
        "y": [value if math.isfinite(value) else None for value in y], "line": {"color": colour, "width": width},
        "marker": {"color": colour, "size": 5},
    }  # fmt: skip


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _named(metric: str) -> str:
    return f"{metric} (lower is better)" if is_lower_better(metric) else metric


def differences(rows: Compared | Any, *, of: Any, metrics: Sequence[str] = ()) -> Any:
    """Return differences between experiments around zero, a panel a metric, the primary one first: blue where zero is excluded.

    `rows` are what `experiments.compare` gives, or rows of its `differences`; `metrics` are those to draw, by default all. What has no interval is not drawn, and counted
    in the title. Raises InputError where none has one."""
    labels = rows.labels if isinstance(rows, Compared) else {}
    rows = rows.differences if isinstance(rows, Compared) else rows
    rows = rows.to_pylist() if hasattr(rows, "to_pylist") else list(rows)
    rows = [row for row in rows if not metrics or row["metric"] in metrics]
    drawn = [row for row in rows if row["low"] is not None]
    if not drawn:
        raise InputError("no difference has an interval, so there is nothing to draw. Compare experiments that have a metric in common.")  # fmt: skip
    is_one = len({row["experiment"] for row in drawn}) == 1
    in_one = f" in {labels.get(drawn[0]['experiment'], drawn[0]['experiment'])}" if is_one else ""
    panels: dict[str, list[Difference]] = {}
    for row in sorted(drawn, key=lambda row: not row["is_primary"]):
        arm, own, base = (
            row["arm"] or "all rows",
            *(labels.get(row[name], row[name]) for name in ("experiment", "baseline")),
        )
        name = arm if is_one else f"{own}: {arm}"
        values = (row[name] for name in ("difference", "low", "high", "n"))
        line = Difference(f"{name}{'' if row['is_paired'] else ', unpaired'}", base, "all", *values)
        panels.setdefault(row["metric"], []).append(line)
    missing = f"; {len(rows) - len(drawn)} without an interval not drawn" if len(drawn) < len(rows) else ""
    first = next(iter(panels))
    return _stacked([
        differences_figure(
            told(f"{_named(metric)}{in_one}", lines) + (missing if metric == first else ""),
            [f"{line.label}, n {line.n:,}" for line in lines], lines,
            f"{_named(metric)}: difference from {baselines(lines)} (mean, interval)", of,
        )
        for metric, lines in panels.items()
    ])  # fmt: skip


def _stacked(figures: Sequence[Any]) -> Any:
    """The figures below each other as one, under the title of the first: metrics have units of their own."""
    if len(figures) == 1:
        return figures[0]
    rows = [len(figure.layout.yaxis.tickvals) for figure in figures]
    area = _LINE * sum(rows) + _GAP * (len(figures) - 1)
    layout, marks, top = figures[0].layout.to_plotly_json(), [], float(area)
    for number, (figure, count) in enumerate(zip(figures, rows, strict=True), 1):
        ending = "" if number == 1 else str(number)
        own = figure.layout.to_plotly_json()
        low = top - _LINE * count
        layout[f"xaxis{ending}"] = {**own["xaxis"], "anchor": f"y{ending}"}
        layout[f"yaxis{ending}"] = {
            **own["yaxis"],
            "anchor": f"x{ending}",
            "domain": [max(0.0, low / area), top / area],
        }
        marks += [{**mark.to_plotly_json(), "xaxis": f"x{ending}", "yaxis": f"y{ending}"} for mark in figure.data]
        top = low - _GAP
    layout["height"] = area + layout["margin"]["t"] + layout["margin"]["b"]
    return require("plotly.graph_objects", extra="notebook").Figure(data=marks, layout=layout)


@dataclass(frozen=True)
class _Arm:
    """A row for `arms`; without an interval its ends are the value."""

    label: str
    value: float
    low: float | None
    high: float | None
    seeds: tuple[float, ...]
    is_control: bool

    @property
    def interval(self) -> tuple[float, float]:
        return (self.value, self.value) if self.low is None or self.high is None else (self.low, self.high)

    @property
    def shown(self) -> str:
        between = "no interval" if self.low is None or self.high is None else f"{self.low:.3f} to {self.high:.3f}"
        return f"{self.value:.3f} ({between})"


def arms(rows: Iterable[Mapping[str, Any]], *, what: str, of: Any) -> Any:
    """Return what each arm scored, with its interval and each seed as a small dot; the untouched base is a dashed line.

    `rows` have arm, value, low, high (null where there is no interval), seeds (a value each) and is_control; that of the
    arm "base" is the line, with its interval as a band. Raises InputError where no other arm is there."""
    rows = rows.to_pylist() if hasattr(rows, "to_pylist") else rows  # type: ignore[union-attr]
    found = [
        _Arm(row["arm"], row["value"], row["low"], row["high"], tuple(row["seeds"] or ()), bool(row["is_control"]))
        for row in rows
    ]
    base = next((row for row in found if row.label == "base"), None)
    if not (trained := [row for row in found if row is not base]):
        raise InputError(
            "there is no trained arm to draw. Give a row for each, and one for the base if it was measured."
        )
    ends = [end for row in found for end in (*row.interval, *row.seeds)]
    least, most = min(ends), max(ends)
    room = (most - least) or 1.0
    bottom = len(trained) - 0.4
    marks, notes, title = [], [], comparison(_named(what), trained, "{:.3f}".format)
    if base:
        low, high = base.interval
        band = {"mode": "lines", "line": {"width": 0}, "fill": "toself", "fillcolor": _BAND}
        dashed = {"mode": "lines", "line": {"color": GREY, "width": 1.5, "dash": "dash"}}
        marks = [
            {
                "type": "scatter",
                "x": [low, high, high, low],
                "y": [-0.6, -0.6, bottom, bottom],
                "hoverinfo": "skip",
                **band,
            },
            {"type": "scatter", "x": [base.value] * 2, "y": [-0.6, bottom], "hoverinfo": "skip", **dashed},
        ]
        above = {"x": base.value, "y": 1, "xref": "x", "yref": "paper", "yanchor": "bottom"}
        notes = [annotation(f"untouched base {base.shown}", 12) | above]
        title += f"; untouched base {base.value:.3f}"
    dots = {
        "type": "scatter", "mode": "markers", "hoverinfo": "skip", "x": [value for row in trained for value in row.seeds],
        "y": [place + 0.27 for place, row in enumerate(trained) for _ in row.seeds],
        "marker": {"size": 5, "opacity": 0.8, "color": [GREY if row.is_control else ACCENT for row in trained for _ in row.seeds]},
    }  # fmt: skip
    right = [max(row.interval[1], *row.seeds, row.value) for row in trained]
    texts = text_marks(right, [row.shown for row in trained])
    labels = [f"{row.label}, {len(row.seeds)} seed{'' if len(row.seeds) == 1 else 's'}" for row in trained]
    axis = {
        "title": f"{_named(what)} (mean, interval; small dots: seeds)",
        "range": [least - 0.06 * room, most + 0.7 * room],
    }
    figure = labelled_rows(title, labels, [*marks, dot_marks(trained), dots, texts], axis, of, line=44)
    figure.layout.annotations = [*figure.layout.annotations, *notes]
    return figure
