"""Duplicates and diversity."""

from typing import Any

from workbench._html import ACCENT, GREY
from workbench.errors import InputError
from workbench.plots.drawing import chart, percent, text_beside
from workbench.quality.dedup import NearDuplicates


def dedup_sweep(found: NearDuplicates, *, of: Any = None) -> Any:
    """Return how many records each threshold would remove, from the lowest that `found` knows to 1; nothing is compared again.

    Grey is what copies alone come to; the dotted line is the threshold of `found`, and the label what it removes."""
    if not (n := len(found)):
        raise InputError("a sweep needs at least one record. Give what dedup.minhash or dedup.similar returned.")
    table = found.sweep().to_pydict()
    x, removed, copies, here = table["threshold"], table["removed"], table["removed"][-1], len(found.failed)
    top = max(1, *removed)
    line = {"type": "scatter", "mode": "lines", "hoverinfo": "skip"}
    marks = [
        line | {"x": [x[0], 1], "y": [copies, copies], "line": {"color": GREY, "width": 2}},
        line | {"x": x, "y": removed, "line": {"color": ACCENT, "width": 2.5}},
        line | {"x": [found.threshold] * 2, "y": [0, 1.1 * top], "line": {"color": ACCENT, "width": 1.5, "dash": "dot"}},
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
