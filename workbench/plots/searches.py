"""Searches for prompts, and kills: what was found by when, and what was asked again."""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from workbench._html import ACCENT, GREY
from workbench.errors import InputError
from workbench.plots.drawing import SERIES, annotation, chart, inert


def curves(searches: Mapping[str, Sequence[Any]], *, what: str = "mean score on dev", of: Any) -> Any:
    """Return the best score so far over the requests asked, a line a search, and each candidate as a dot.

    `searches` maps names to candidates with `requests`, `score` and `best`; a search that tried none has no line."""
    tried = {name: list(rows) for name, rows in searches.items() if rows}
    if not tried:
        raise InputError("no search tried a candidate, so there is no curve. Give the candidates of a search.")
    end = max(rows[-1].requests for rows in tried.values())
    scores = [row.score for rows in tried.values() for row in rows]
    low, high = min(scores), max(scores)
    room = (high - low) or 0.1
    marks, taken = [], []
    for at, (name, rows) in enumerate(sorted(tried.items(), key=lambda item: -item[1][-1].best)):
        colour = SERIES[at % len(SERIES)]
        x, best = [row.requests for row in rows], [row.best for row in rows]
        line = {"color": colour, "width": 2, "shape": "hv"}
        marks.append(
            {
                "type": "scatter",
                "mode": "lines",
                "x": [*x, end],
                "y": [*best, best[-1]],
                "line": line,
                "hoverinfo": "skip",
            }
        )
        dots = {"color": colour, "size": 6, "opacity": 0.55}
        marks.append(
            {
                "type": "scatter",
                "mode": "markers",
                "x": x,
                "y": [row.score for row in rows],
                "marker": dots,
                "hoverinfo": "skip",
            }
        )
        # Labels beside the ends of their lines, pushed apart where lines end together.
        place = min([best[-1], *(other - 0.07 * room for other in taken)])
        taken.append(place)
        marks.append({
            "type": "scatter", "mode": "text", "x": [end], "y": [place], "text": [f"  {inert(name, 30)} {best[-1]:.2f}"],
            "textposition": "middle right", "textfont": {"color": colour}, "cliponaxis": False, "hoverinfo": "skip",
        })  # fmt: skip
    winner = max(tried, key=lambda name: tried[name][-1].best)
    title = f"{winner} has the best {what}, {tried[winner][-1].best:.2f}; the first candidate had {tried[winner][0].score:.2f}"
    x = {"title": "requests asked (count); a dot is a candidate, a line the best so far", "range": [0, 1.3 * end]}
    y = {"title": f"{what}, 0 to 1", "range": [min(low, *taken) - 0.06 * room, high + 0.08 * room]}
    return chart(title, marks, (x, y), of, height=400)


def repeats(kills: Sequence[Any], *, of: Any) -> Any:
    """Return requests repeated after each kill against the most that could be under way, which is the bound.

    `kills` have `concurrency` and `repeated`; equal points are drawn as one, larger, with how many there are."""
    points = Counter((kill.concurrency, kill.repeated) for kill in kills)
    (widths, counts), places = zip(*points, strict=True), sorted(points)
    above = sum(kill.repeated > kill.concurrency for kill in kills)
    held = f"{above:,} of them more than were allowed under way" if above else "never more than were allowed under way"
    title = f"{len(kills):,} kills: {min(counts):,} to {max(counts):,} requests sent twice, {held}"
    end = 1.12 * max(*widths, *counts)
    grey = {"color": GREY, "width": 2}
    bound = {"type": "scatter", "x": [0, end], "y": [0, end], "mode": "lines", "line": grey, "hoverinfo": "skip"}
    dots = {
        "type": "scatter", "mode": "markers+text", "x": [x for x, _ in places], "y": [y for _, y in places],
        "marker": {"color": ACCENT, "size": [10 + 3 * points[place] for place in places], "opacity": 1},
        "text": [f"  {y:,}" + (f" ({points[x, y]:,} kills)" if points[x, y] > 1 else "") for x, y in places],
        "textposition": "middle right", "hoverinfo": "skip",
    }  # fmt: skip
    note = annotation("the bound: as many as under way ", 13) | {
        "x": end,
        "y": end,
        "xanchor": "right",
        "yanchor": "bottom",
    }
    x = {"title": "requests allowed under way at once (count)", "range": [0, 1.12 * end], "tickvals": sorted({*widths})}
    y = {"title": "requests sent again after the kill (count)", "range": [-0.04 * end, 1.1 * end]}
    return chart(title, [bound, dots], (x, y), of, height=420, notes=[note])
