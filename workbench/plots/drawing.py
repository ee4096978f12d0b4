"""What all figures share: colours, text that plotly takes for text, marks, titles and axes."""

import html
import textwrap
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from workbench._html import ACCENT, GREY
from workbench.errors import require

OFFLINE_NOTE = "offline rules, no model"
TEXT = "#7A7A7A"  # contrast 4.3 to 1 on white, and 4.4 to 1 on GitHub's #0d1117
GRID = "rgba(128,128,128,0.25)"
CLEAR = "rgba(0,0,0,0)"
SHARE_TICKS = [0, 0.25, 0.5, 0.75, 1]
BINS = 20
SERIES = (ACCENT, "#D55E00", "#009E73", "#CC79A7")  # Okabe and Ito's, told apart by the colour-blind
WIDTH = 800  # pixels, of the static image
FEW_TICKS = 12


def percent(share: float) -> str:
    """Return a share as text: 12%, 99.6%; 0% and 100% only where that is exact."""
    if (text := f"{share:.0%}") not in ("0%", "100%") or share in (0, 1):
        return text
    return f"{share:.1%}" if 0.0005 <= share < 0.9995 else "<0.1%" if share < 0.5 else ">99.9%"


def comparison(what: str, rows: Sequence[Any], shown: Any) -> str:
    """What the rows say in one line: each tested arm, or the range of many, then the controls."""
    arms, controls = ([row for row in rows if row.is_control is wanted] for wanted in (False, True))
    said = [
        ", ".join(f"{arm.label} {shown(arm.value)}" for arm in arms) if len(arms) <= 3 else value_range(arms, shown)
    ]
    if controls:
        said.append(f"control{'s' if len(controls) > 1 else ''} {value_range(controls, shown)}")
    return f"{what}: {'; '.join(part for part in said if part)}"


def value_range(rows: Sequence[Any], shown: Any) -> str:
    values = sorted(row.value for row in rows)
    return " to ".join(dict.fromkeys([shown(values[0]), shown(values[-1])]))


def bar_marks(x: Iterable[float], y: Iterable[float], base: Sequence[float], colour: Any) -> dict[str, Any]:
    return {"type": "bar", "x": list(x), "y": list(y), "base": base, "marker": {"color": colour}, "hoverinfo": "skip"}


def dot_marks(rows: Sequence[Any], below: float = 0.0) -> dict[str, Any]:
    return {
        "type": "scatter", "mode": "markers", "hoverinfo": "skip",
        "x": [row.value for row in rows], "y": [place + below for place in range(len(rows))],
        "marker": {"size": 11, "opacity": 1, "color": [GREY if row.is_control else ACCENT for row in rows]},
        "error_x": {
            "array": [row.interval[1] - row.value for row in rows],
            "arrayminus": [row.value - row.interval[0] for row in rows], "color": TEXT, "thickness": 1.6, "width": 5,
        },
    }  # fmt: skip


def text_marks(ends: Sequence[float], shown: Sequence[str]) -> dict[str, Any]:
    return {
        "type": "scatter", "mode": "text", "x": list(ends), "y": list(range(len(ends))), "hoverinfo": "skip",
        "text": [f"  {text}" for text in shown], "textposition": "middle right", "cliponaxis": False,
    }  # fmt: skip


def text_beside(x: float, y: float, text: str, position: str, colour: str) -> dict[str, Any]:
    return {
        "type": "scatter", "mode": "text", "x": [x], "y": [y], "text": [text], "textposition": position,
        "textfont": {"color": colour}, "cliponaxis": False, "hoverinfo": "skip",
    }  # fmt: skip


def annotation(text: str, size: int) -> dict[str, Any]:
    return {"text": text, "showarrow": False, "font": {"size": size, "color": TEXT}}


def labelled_rows(
    title: str, labels: Sequence[str], marks: list[Any], axis: Mapping[str, Any], of: Any, *, line: int = 34
) -> Any:
    """A figure with one labelled line a row, the first on top."""
    ticks = [f"{inert(label, 48)}  " for label in labels]
    y = {"tickvals": list(range(len(labels))), "ticktext": ticks, "range": [len(labels) - 0.4, -0.6], "showgrid": False}
    return chart(title, marks, (axis, {**y, "automargin": True}), of, height=150 + line * len(labels))


def chart(
    title: str, marks: list[Any], axes: tuple[Any, Any], of: Any, *, height: int, notes: Sequence[Any] = ()
) -> Any:
    wrapped = textwrap.wrap(title, 84)
    top = 12 if len(wrapped) < 2 else 24  # plotly sets a title of several lines higher than one of one line
    if is_offline(of):
        place = {"xref": "paper", "yref": "paper", "x": 1, "y": 0, "yshift": -56, "xanchor": "right", "yanchor": "top"}
        notes = [*notes, annotation(OFFLINE_NOTE, 11) | place]
    x, y = ({"gridcolor": GRID, "zeroline": False, **axis} for axis in axes)
    for axis in (x, y):
        if isinstance(text := axis.get("title"), str):
            axis["title"] = {"text": inert(text, 120), "font": {"size": 12}, "standoff": 12}
    layout = {
        "template": "none", "paper_bgcolor": CLEAR, "plot_bgcolor": CLEAR, "font": {"color": TEXT, "size": 13},
        "height": height + top - 12 + 18 * len(wrapped), "margin": {"l": 60, "r": 10, "t": 22 + top + 20 * len(wrapped), "b": 74},
        "title": {
            "text": "<br>".join(inert(part, 200) for part in wrapped), "font": {"size": 16}, "pad": {"l": 10, "t": top},
            "x": 0, "xref": "container", "xanchor": "left", "y": 1, "yref": "container", "yanchor": "top",
        },
        "xaxis": x, "yaxis": y, "showlegend": False, "barmode": "overlay", "annotations": list(notes),
    }  # fmt: skip
    return require("plotly.graph_objects", extra="notebook").Figure(data=marks, layout=layout)


def is_offline(of: Any) -> bool:
    """True when a run or a record among these was made by the offline rules."""
    if isinstance(of, Iterable):
        return any(map(is_offline, of))
    return bool(getattr(of, "is_offline", False) or getattr(getattr(of, "provenance", None), "is_offline", False))


def inert(text: str, limit: int) -> str:
    """Text that plotly shows as it is: its own little HTML, TeX between dollars and %{...} mean nothing in it."""
    cut = text if len(text) <= limit else text[: limit - 1] + "…"
    return html.escape(" ".join(cut.split()), quote=False).replace("$", "&#36;").replace("%{", "%&#123;")
