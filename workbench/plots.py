"""Plots: a table or a run in, a plotly figure out.

    plots.show(plots.waterfall(run))
    plots.show(plots.proportions(shares, what="Rows verified", of=run), "98% of the rows are verified.")

Titles are computed from the data; n and 95% intervals are drawn; what is tested is blue and controls are grey, labelled
beside their marks; paper is transparent and text a grey that reads on white and on black. `of` names the run, records or
runs that the numbers come from, so that what the offline rules made says so; None where no rows are behind them."""

import base64
import html
import json
import math
import textwrap
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from workbench._html import ACCENT, GREY, escaped
from workbench.errors import InputError, MissingLibrary, require
from workbench.runs import FunnelStep, Run

OFFLINE_NOTE = "offline rules, no model"
_TEXT = "#7A7A7A"  # contrast 4.3 to 1 on white, and 4.4 to 1 on GitHub's #0d1117
_GRID = "rgba(128,128,128,0.25)"
_WIDTH = 800  # pixels, of the static image
_Z = 1.959964


@dataclass(frozen=True)
class Share:
    """One row for `proportions`: `hits` of `n` trials of an arm, which may be a control. As text, with its interval."""

    label: str
    hits: int
    n: int
    is_control: bool = False

    def __post_init__(self):
        if not 0 <= self.hits <= self.n or self.n == 0:
            raise InputError(
                f"{self.label}: {self.hits} of {self.n} is no share. Leave out arms without rows, and say so."
            )

    @classmethod
    def of(cls, label: str, outcomes: Iterable[bool], is_control: bool = False) -> "Share":
        """Return the share of outcomes that are true."""
        outcomes = list(map(bool, outcomes))
        return cls(label, sum(outcomes), len(outcomes), is_control)

    @property
    def value(self) -> float:
        return self.hits / self.n

    @property
    def interval(self) -> tuple[float, float]:
        """The 95% interval of Wilson 1927, (low, high)."""
        share, z2 = self.value, _Z**2 / self.n
        middle, half = share + z2 / 2, math.sqrt(z2 * (share * (1 - share) + z2 / 4))
        # At the ends it is exact, and floating point is not.
        return (middle - half) / (1 + z2) if self.hits else 0.0, (middle + half) / (
            1 + z2
        ) if self.hits < self.n else 1.0

    def __str__(self) -> str:
        low, high = self.interval
        return f"{percent(self.value)} of {self.n:,} ({percent(low)} to {percent(high)})"


@dataclass(frozen=True)
class Scores:
    """One row for `spread`: the scores of an arm, each from 0 to 1, None (no score) left out. As text, mean and interval."""

    label: str
    scores: Sequence[float | None]
    is_control: bool = False

    def __post_init__(self):
        if not self.known or not all(0 <= score <= 1 for score in self.known):
            raise InputError(f"{self.label}: scores must be from 0 to 1, and at least one, got {list(self.known[:5])}.")

    @cached_property
    def known(self) -> tuple[float, ...]:
        return tuple(float(score) for score in self.scores if score is not None)

    @property
    def value(self) -> float:
        return sum(self.known) / len(self.known)

    @cached_property
    def interval(self) -> tuple[float, float]:
        """The 95% bootstrap interval of the mean (2,000 draws, seed 0), (low, high)."""
        import numpy as np

        draws = np.random.default_rng(0).integers(0, len(self.known), (2000, len(self.known)))
        low, high = np.quantile(np.array(self.known)[draws].mean(axis=1), [0.025, 0.975])
        return float(low), float(high)

    def at_least(self, least: float) -> Share:
        """Return the share of the scores that are `least` or more."""
        return Share.of(self.label, [score >= least for score in self.known], self.is_control)

    def __str__(self) -> str:
        low, high = self.interval
        return f"{self.value:.2f} (n {len(self.known):,}, {low:.2f} to {high:.2f})"


def percent(share: float) -> str:
    """Return a share as text: 12%, 99.6%; 0% and 100% only where that is exact."""
    text = f"{share:.0%}"
    return (
        text
        if text not in ("0%", "100%") or share in (0, 1)
        else f"{share:.1%}"
        if 0.0005 <= share <= 0.9995
        else "<0.1%"
        if share < 0.5
        else ">99.9%"
    )


# --- figures --------------------------------------------------------------------------------------------------------


def waterfall(steps: Run | Sequence[FunnelStep], *, of: Any = None) -> Any:
    """Return the waterfall of a run, or of funnel steps: what was asked, the losses by reason, what was made and kept."""
    if isinstance(steps, Run):
        steps, of = steps.funnel(), steps
    if not (totals := [step for step in steps if step.kind == "total"]):
        raise InputError("a waterfall needs a total to begin with. Give a run, or its funnel().")
    asked, last, whole = totals[0], totals[-1], max(step.count for step in steps)
    losses = [
        step for step in steps if step.kind == "loss" and not step.label.startswith("rows:")
    ]  # too many is no loss
    worst = max(losses, key=lambda step: step.count, default=None)
    lost = (
        f"largest loss {_reason(worst.label.removeprefix('failed: '))} ({worst.count:,})"
        if worst
        else "nothing was lost"
    )
    starts, left = [], 0
    for step in steps:
        left = step.count if step.kind == "total" else left - step.count
        starts.append(0 if step.kind == "total" else left)
    bar = {
        "type": "bar", "orientation": "h", "base": starts, "x": [step.count for step in steps], "y": list(range(len(steps))), "width": 0.7,
        "marker": {"color": [ACCENT if step.kind == "total" else GREY for step in steps]}, "hoverinfo": "skip",
    }  # fmt: skip
    shown = [
        f"{step.count:,}" if step.kind == "total" else f"−{step.count:,} ({percent(step.count / whole)})"
        for step in steps
    ]
    ends = [start + step.count for start, step in zip(starts, steps, strict=True)]
    title = f"{last.count:,} {last.label} of {asked.count:,} {asked.label}; {lost}"
    axis = {"title": "tasks, then rows (count)", "range": [0, 1.18 * whole], "showgrid": False}
    return _labelled(title, [_reason(step.label) for step in steps], [bar, _texts(ends, shown)], axis=axis, of=of)


def _reason(label: str) -> str:
    """A step's label; a check that has one reason of its own name is named once."""
    check, _, reason = label.partition(": ")
    return reason if check == reason else label


def proportions(rows: Iterable[Share | Mapping[str, Any]], *, what: str, of: Any) -> Any:
    """Return labelled shares as dots with their 95% intervals (Wilson) and n; `what` says which share it is.

    `rows` are `Share`s, or a query's rows with the columns label, hits, n and perhaps is_control."""
    rows = rows.to_pylist() if hasattr(rows, "to_pylist") else rows  # type: ignore[union-attr]
    shares = [row if isinstance(row, Share) else Share(**row) for row in rows]
    axis = {
        "title": f"{what}, share of n (95% interval, Wilson)",
        "range": [-0.02, 1.32],
        "tickvals": [0, 0.25, 0.5, 0.75, 1],
        "tickformat": ".0%",
    }
    shown = [f"{percent(row.value)} of {row.n:,}" for row in shares]
    marks = [_dots(shares), _texts([row.interval[1] for row in shares], shown)]
    return _labelled(_comparison(what, shares, percent), [row.label for row in shares], marks, axis=axis, of=of)


def spread(rows: Sequence[Scores], *, what: str, of: Any) -> Any:
    """Return how scores from 0 to 1 are spread, an arm a line: a histogram in 20 bins, the mean with its 95% interval, n."""
    bars = []
    for place, row in enumerate(rows):
        counts = [0] * 20
        for score in row.known:
            counts[min(19, int(20 * score + 1e-9))] += 1
        heights = [0.72 * count / max(counts) for count in counts]
        bars.append(
            {
                "type": "bar", "x": [(at + 0.5) / 20 for at in range(20)], "y": [-height for height in heights], "base": [place + 0.3] * 20,
                "width": 0.046, "marker": {"color": GREY if row.is_control else ACCENT, "opacity": 0.45}, "hoverinfo": "skip",
            }
        )  # fmt: skip
    means = [f"{row.value:.2f}, n {len(row.known):,}" for row in rows]
    axis = {
        "title": f"{what}, 0 to 1 (bars: rows a bin, each arm to its own height; dot: mean, 95% interval)",
        "range": [-0.02, 1.3],
        "tickvals": [0, 0.25, 0.5, 0.75, 1],
    }
    marks = [*bars, _dots(rows, below=0.38), _texts([1.02] * len(rows), means)]
    return _labelled(
        _comparison(f"Mean {what}", rows, "{:.2f}".format),
        [row.label for row in rows],
        marks,
        axis=axis,
        of=of,
        line_height=64,
    )


def repeats(kills: Sequence[Any], *, of: Any) -> Any:
    """Return requests repeated after each kill against the most that could be under way, which is the bound.

    `kills` have `concurrency` and `repeated`; equal points are drawn as one, larger, with how many there are."""
    points = Counter((kill.concurrency, kill.repeated) for kill in kills)
    most, top = max(kill.concurrency for kill in kills), max(kill.repeated for kill in kills)
    above = sum(kill.repeated > kill.concurrency for kill in kills)
    held = (
        "never more than were allowed under way" if not above else f"{above:,} of them more than were allowed under way"
    )
    title = f"{len(kills):,} kills: {min(kill.repeated for kill in kills):,} to {top:,} requests sent twice, {held}"
    places = sorted(points)
    end = 1.12 * max(most, top)
    bound = {
        "type": "scatter",
        "x": [0, end],
        "y": [0, end],
        "mode": "lines",
        "line": {"color": GREY, "width": 2},
        "hoverinfo": "skip",
    }
    dots = {
        "type": "scatter", "x": [x for x, _ in places], "y": [y for _, y in places], "mode": "markers+text", "hoverinfo": "skip",
        "marker": {"color": ACCENT, "size": [10 + 3 * points[place] for place in places]}, "textposition": "middle right",
        "text": [f" {y:,}" + (f" ({points[x, y]:,} kills)" if points[x, y] > 1 else "") for x, y in places],
    }  # fmt: skip
    note = {
        "x": end,
        "y": end,
        "text": "the bound: as many as under way ",
        "showarrow": False,
        "xanchor": "right",
        "yanchor": "bottom",
        "font": {"color": _TEXT},
    }
    layout = {
        "xaxis": {
            "title": "requests allowed under way at once (count)",
            "range": [0, 1.12 * end],
            "tickvals": sorted({x for x, _ in places}),
            "gridcolor": _GRID,
            "zeroline": False,
        },
        "yaxis": {
            "title": "requests sent again after the kill (count)",
            "range": [-0.04 * end, 1.1 * end],
            "gridcolor": _GRID,
            "zeroline": False,
        },
    }
    return _figure(title, [bound, dots], layout, height=420, of=of, annotations=[note])


# --- what they share ------------------------------------------------------------------------------------------------


def _comparison(what: str, rows: Sequence[Any], shown: Any) -> str:
    """What the rows say in one line: each tested arm, or the range of many, then the controls."""
    parts = []
    for name, arms in (
        ("", [row for row in rows if not row.is_control]),
        ("control", [row for row in rows if row.is_control]),
    ):
        ranked = sorted(arms, key=lambda row: row.value)
        if len(arms) == 1 and name:
            parts.append(f"control {shown(arms[0].value)}")
        elif len(arms) > (1 if name else 3):
            ends = dict.fromkeys([shown(ranked[0].value), shown(ranked[-1].value)])
            parts.append(f"{name + 's ' if name else ''}{' to '.join(ends)}")
        elif arms:
            parts.append(", ".join(f"{arm.label} {shown(arm.value)}" for arm in arms))
    return f"{what}: {'; '.join(parts)}"


def _dots(rows: Sequence[Any], below: float = 0.0) -> dict[str, Any]:
    return {
        "type": "scatter", "mode": "markers", "x": [row.value for row in rows], "y": [place + below for place in range(len(rows))], "hoverinfo": "skip",
        "marker": {"size": 11, "opacity": 1, "color": [GREY if row.is_control else ACCENT for row in rows]},
        "error_x": {
            "array": [row.interval[1] - row.value for row in rows], "arrayminus": [row.value - row.interval[0] for row in rows],
            "color": _TEXT, "thickness": 1.6, "width": 5,
        },
    }  # fmt: skip


def _texts(ends: Sequence[float], shown: Sequence[str]) -> dict[str, Any]:
    return {
        "type": "scatter", "mode": "text", "x": list(ends), "y": list(range(len(ends))), "text": [f"  {text}" for text in shown],
        "textposition": "middle right", "hoverinfo": "skip", "cliponaxis": False,
    }  # fmt: skip


def _labelled(
    title: str, labels: Sequence[str], marks: list[Any], *, axis: Mapping[str, Any], of: Any, line_height: int = 34
) -> Any:
    """A figure with one labelled line a row, the first on top."""
    ticks = {
        "tickvals": list(range(len(labels))),
        "ticktext": [f"{_inert(label, 48)}  " for label in labels],
        "range": [len(labels) - 0.4, -0.6],
    }
    layout = {
        "xaxis": {**axis, "gridcolor": _GRID, "zeroline": False},
        "yaxis": {**ticks, "showgrid": False, "zeroline": False, "automargin": True},
        "barmode": "overlay",
    }
    return _figure(title, marks, layout, height=150 + line_height * len(labels), of=of)


def _figure(
    title: str, marks: list[Any], layout: Mapping[str, Any], *, height: int, of: Any, annotations: Sequence[Any] = ()
) -> Any:
    lines = textwrap.wrap(title, 84)
    notes = [*annotations, _offline_note()] if _is_offline(of) else list(annotations)
    base = {
        "template": "none", "paper_bgcolor": "rgba(0,0,0,0)", "plot_bgcolor": "rgba(0,0,0,0)", "font": {"color": _TEXT, "size": 13}, "height": height + 18 * len(lines),
        "title": {"text": "<br>".join(_inert(line, 200) for line in lines), "x": 0, "xref": "container", "xanchor": "left", "y": 1, "yref": "container", "yanchor": "top", "pad": {"l": 10, "t": 12}, "font": {"size": 16}},
        "margin": {"l": 60, "r": 10, "t": 34 + 20 * len(lines), "b": 74}, "showlegend": False, "annotations": notes,
    }  # fmt: skip
    layout = {**base, **layout}
    for name in ("xaxis", "yaxis"):
        if isinstance(text := layout[name].get("title"), str):
            layout[name] = {**layout[name], "title": {"text": _inert(text, 120), "font": {"size": 12}, "standoff": 12}}
    return require("plotly.graph_objects", extra="notebook").Figure(data=marks, layout=layout)


def _offline_note() -> dict[str, Any]:
    return {
        "text": OFFLINE_NOTE,
        "xref": "paper",
        "yref": "paper",
        "x": 1,
        "y": 0,
        "yshift": -56,
        "xanchor": "right",
        "yanchor": "top",
        "showarrow": False,
        "font": {"size": 11, "color": _TEXT},
    }


def _is_offline(of: Any) -> bool:
    """True when a run or a record among these was made by the offline rules."""
    if isinstance(of, Iterable):
        return any(map(_is_offline, of))
    return bool(getattr(of, "is_offline", False) or getattr(getattr(of, "provenance", None), "is_offline", False))


def _inert(text: str, limit: int) -> str:
    """Text that plotly shows as it is: its own little HTML, TeX between dollars and %{...} mean nothing in it."""
    cut = text if len(text) <= limit else text[: limit - 1] + "…"
    return html.escape(" ".join(cut.split()), quote=False).replace("$", "&#36;").replace("%{", "%&#123;")


# --- showing --------------------------------------------------------------------------------------------------------


def show(figure: Any, sentence: str = "") -> None:
    """Display a figure, interactive and as a static PNG in one output, so that a page that runs no script shows the PNG;
    then a sentence, as text. Without a Chrome on the machine it is the interactive one alone."""
    display = require("IPython.display", extra="notebook").display
    bundle: dict[str, Any] = {
        "application/vnd.plotly.v1+json": {
            **json.loads(figure.to_json()),
            "config": {"displaylogo": False, "responsive": True},
        },
        "text/plain": f"<Figure: {html.unescape(figure.layout.title.text or '').replace('<br>', ' ')}>",
    }
    if image := png(figure):
        bundle["image/png"] = base64.b64encode(image).decode()
    display(bundle, raw=True, metadata={"image/png": {"width": _WIDTH}} if image else None)
    if sentence:
        display(
            {"text/plain": sentence, "text/html": f"<p style='max-width:800px'>{escaped(sentence, 2000)}</p>"}, raw=True
        )


def png(figure: Any) -> bytes | None:
    """Return the figure as a PNG, 800 pixels wide at 1.25 dots a pixel; None where there is no Chrome that starts, or no kaleido."""
    try:
        kaleido = require("kaleido", extra="notebook")
    except MissingLibrary:
        return None
    from kaleido import errors

    options = {"format": "png", "width": _WIDTH, "height": figure.layout.height or 450, "scale": 1.25}
    try:
        # One browser an image, which takes a second or two: kaleido's lasting one waits for ever when its Chrome ends.
        return kaleido.calc_fig_sync(
            figure.to_plotly_json(), opts=options, kopts={"mathjax": False}
        )  # no script from a CDN
    except (errors.ChromeNotFoundError, errors.BrowserFailedError, errors.BrowserClosedError):
        return None
