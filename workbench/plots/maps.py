"""The static picture of a map."""

import textwrap
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from workbench._colours import Shades, shades
from workbench._html import GREY
from workbench.clusters import NOISE, Map
from workbench.errors import InputError
from workbench.plots.drawing import WIDTH, annotation, chart, inert, percent

_HEIGHT, _MARGIN = 560, 20  # pixels: of the dots, and what `chart` leaves beside them
_SVG_DOTS = 20_000  # above, dots are drawn by WebGL: 100,000 of them in SVG take 15 s and 19 MB
_LETTER, _LINE, _WIDE, _LINES = 5.8, 13, 22, 2  # of a name: pixels of a letter and a line, letters in a line, lines
_CAPTION = "dots near each other are alike; distances across the map and the sizes of gaps mean nothing"


def data_map(
    found: Map, *, color: str | Mapping[str, Sequence[Any]] | None = None, labels: int = 20, of: Any = None
) -> Any:
    """Return the rows of a map as dots in the colours of their clusters, grey for none, and names where the clusters are.

    `color` is a column of `found.table()`, or one of your own, as {"words": counts}: numbers get a scale, texts colours.
    Up to `labels` names are drawn, the largest first, and none over another; a cluster's is at the row nearest its median.
    Raises InputError for a column that is not there, or not of a value for each row."""
    name, shaded = _shaded(found, color)
    groups = _groups(found, name, shaded)
    height, right = _HEIGHT, 100 if shaded.ends else 0  # for the scale
    across, up, place = _frame(found.xy, WIDTH - 2 * _MARGIN - right, height - 90)
    notes = _names(found, groups, place, labels)
    what = "values" if name and shaded.ends is None else "clusters"
    title = f"{len(found):,} rows {_said_of(found, name, shaded)}; {len(notes):,} of {len(groups):,} {what} named"
    bare = {"showticklabels": False, "showgrid": False, "ticks": ""}
    figure = chart(
        title,
        _dots(found.xy, name, shaded),
        ({**bare, "range": across, "title": _CAPTION}, {**bare, "range": up}),
        of,
        height=height,
        notes=notes,
    )
    figure.update_layout(margin={"l": _MARGIN, "r": _MARGIN + right})
    return figure


def _shaded(found: Map, color: str | Mapping[str, Sequence[Any]] | None) -> tuple[str, Shades]:
    """The name of the column, "" for the clusters, and the colours."""
    import pyarrow as pa

    if color is None:  # by number, since two clusters may have one name
        numbers = [None if each == NOISE else each for each in found.labels.tolist()]
        return "", shades(pa.array(numbers, pa.int64()).cast(pa.string()), found.xy, name="cluster")
    if isinstance(color, str):
        table = found.table()
        if color not in table.column_names:
            there = ", ".join(table.column_names)
            raise InputError(
                f"the map has no column {color!r}; it has {there}. Give one of your own as {{name: values}}."
            )
        return color, shades(table.column(color), found.xy, name=color)
    if len(color) != 1:
        raise InputError(f"color is one column, got {len(color)}: {', '.join(map(str, color))}. Give {{name: values}}.")
    ((name, values),) = color.items()
    if len(values) != len(found):
        raise InputError(f"{name!r} has {len(values):,} values and the map {len(found):,} rows. Give one for each.")
    return str(name), shades(pa.array(values), found.xy, name=str(name))


def _groups(found: Map, name: str, shaded: Shades) -> list[tuple[str, np.ndarray, str]]:
    """(name, places, colour) of what may be named, the largest first: the values of a column of texts, else the clusters."""
    if name and shaded.ends is None:
        places = lambda at: np.flatnonzero(shaded.of_value == at)
        return [(value, places(at), shaded.colour(at)) for at, (value, _) in enumerate(shaded.values)]
    groups = []
    for each in sorted(found.clusters, key=lambda each: -each.size):
        places = np.flatnonzero(found.labels == each.number)
        groups.append((each.name, places, GREY if name else shaded.colours[shaded.slots[places[0]]]))
    return groups


def _said_of(found: Map, name: str, shaded: Shades) -> str:
    without = percent(shaded.without / len(found))
    if not name:
        return f"in {len(found.clusters):,} clusters, {without} in none"
    if shaded.ends is None:
        return f"by {name}, {without} without one"
    low, high = shaded.ends
    return f"by {name}, most of them {low:.2g} to {high:.2g}"


def _frame(xy: np.ndarray, width: int, height: int) -> tuple[list[float], list[float], np.ndarray]:
    """The ranges of both axes, one unit as long on each, and where each row is in pixels, (n, 2), y downwards."""
    low, high = xy.min(axis=0).astype(float), xy.max(axis=0).astype(float)
    unit = max((high - low) / (width - 30, height - 30)) or 1.0
    middle, half = (low + high) / 2, unit * np.array([width, height]) / 2
    across, up = (middle - half).tolist(), (middle + half).tolist()
    pixels = (xy - across) / unit
    return [across[0], up[0]], [across[1], up[1]], np.column_stack([pixels[:, 0], height - pixels[:, 1]])


def _dots(xy: np.ndarray, name: str, shaded: Shades) -> list[dict[str, Any]]:
    kind = "scatter" if len(xy) <= _SVG_DOTS else "scattergl"
    size = float(np.clip(60 / len(xy) ** 0.3, 2, 8))

    def dots(is_shown: np.ndarray, **marker: Any) -> dict[str, Any]:
        x, y = xy[is_shown].T
        marker = {"size": size, "opacity": 0.75, "line": {"width": 0}, **marker}
        return {"type": kind, "mode": "markers", "x": x, "y": y, "marker": marker, "hoverinfo": "skip"}

    grey = len(shaded.colours) - 1
    marks = [dots(shaded.slots == grey, color=GREY, opacity=0.3)]  # below all others
    if shaded.ends is None:
        return marks + [dots(shaded.slots == slot, color=shaded.colours[slot]) for slot in range(grey)]
    steps = np.linspace(0, 1, grey).tolist()
    ends = [f"{end:.2g}" for end in shaded.ends]
    bar = {
        "title": {"text": inert(name, 20)},
        "tickvals": [0, grey - 1],
        "ticktext": ends,
        "thickness": 12,
        "outlinewidth": 0,
    }
    scale = {
        "colorscale": list(zip(steps, shaded.colours[:grey], strict=True)),
        "cmin": 0,
        "cmax": grey - 1,
        "colorbar": bar,
    }
    is_known = shaded.slots < grey
    return [*marks, dots(is_known, color=shaded.slots[is_known], **scale)]


def _names(
    found: Map, groups: list[tuple[str, np.ndarray, str]], pixels: np.ndarray, most: int
) -> list[dict[str, Any]]:
    """The names that have room, as annotations; one that would lie over a larger cluster's is left out."""
    notes: list[dict[str, Any]] = []
    boxes: list[tuple[float, float, float, float]] = []
    for name, places, colour in groups:
        if len(notes) == most:
            break
        lines = textwrap.wrap(" ".join(name.split()), _WIDE, max_lines=_LINES, placeholder="…") or ["(no name)"]
        across, down = _LETTER * max(map(len, lines)) + 14, _LINE * len(lines) + 10
        here = places[np.linalg.norm(found.xy[places] - np.median(found.xy[places], axis=0), axis=1).argmin()]
        x = float(np.clip(pixels[here, 0], across / 2, max(across / 2, pixels[:, 0].max() - across / 2)))
        y = float(pixels[here, 1])
        box = (x - across / 2, y - down / 2, x + across / 2, y + down / 2)
        if any(box[0] < b[2] and b[0] < box[2] and box[1] < b[3] and b[1] < box[3] for b in boxes):
            continue
        boxes.append(box)
        # On paper of its own, since dots of every colour are below and nobody knows whether the page is white or black.
        notes.append(
            annotation("<br>".join(inert(line, 60) for line in lines), 10)
            | {"x": float(found.xy[here, 0]), "y": float(found.xy[here, 1]), "xshift": x - pixels[here, 0]}
            | {"font": {"size": 10, "color": "#222222"}, "bgcolor": "rgba(255,255,255,0.75)"}
            | {"bordercolor": colour, "borderpad": 1, "borderwidth": 1}
        )
    return notes
