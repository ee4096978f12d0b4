"""Judges against people."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from workbench._html import ACCENT, GREY
from workbench.errors import InputError
from workbench.intervals import Interval
from workbench.plots.drawing import (
    FEW_TICKS,
    GRID,
    SHARE_TICKS,
    chart,
    dot_marks,
    inert,
    labelled_rows,
    percent,
    text_marks,
)
from workbench.quality.calibration import Calibration


@dataclass(frozen=True)
class _Agreed:
    """A row for `agreement`."""

    label: str
    found: Interval
    is_control: bool = False
    is_share: bool = True

    @property
    def value(self) -> float:
        return self.found.value

    @property
    def interval(self) -> tuple[float, float]:
        return self.found.low, self.found.high

    @property
    def shown(self) -> str:
        return f"{percent(self.value) if self.is_share else f'{self.value:.2f}'}, n {self.found.n:,}"


def agreement(calibrations: Calibration | Sequence[Calibration], *, of: Any = None) -> Any:
    """Return how one judge, or several, agree with people: shares of pairs, then kappa and alpha, with 95% intervals.

    How people agree with each other is grey: on the pairs of the judge, or of the one with most. `of` adds to what the
    calibrations say of themselves."""
    found = [calibrations] if isinstance(calibrations, Calibration) else list(calibrations)
    if not found:
        raise InputError("a plot of agreement needs at least one calibration. Give one, or a list of some.")
    shares: list[_Agreed] = []
    for each in found:
        name = each.judge.model
        labels = (f"{name} with people" if part is each.overall else f"{name}: {part.name}" for part in each.agreements)
        shares += [_Agreed(label, part.accuracy) for label, part in zip(labels, each.agreements, strict=True)]
    most = max((each.overall for each in found), key=lambda part: part.accuracy.n)
    people = [_Agreed("people with each other", most.people, True)] if most.people else []
    kappas = [_Agreed(f"kappa, {each.judge.model}", each.kappa, is_share=False) for each in found if each.kappa]
    alphas = [_Agreed("alpha, people", most.alpha, True, False)] if most.alpha else []
    rows = [*shares, *people, *kappas, *alphas]
    least = min(0.0, *(row.interval[0] for row in rows))
    axis = {
        "title": "share of pairs with the same winner; kappa and alpha: 0 is chance (95% interval)",
        "range": [least - 0.02, 1.32], "tickvals": [*([-0.5] if least < -0.25 else []), *SHARE_TICKS],
    }  # fmt: skip
    said = ", ".join(f"{each.judge.model} {percent(each.accuracy.value)}" for each in found)
    among = percent(people[0].value) if people else "unknown"
    title = f"Agreement with people: {said}; people with each other {among}"
    texts = text_marks([row.interval[1] for row in rows], [row.shown for row in rows])
    return labelled_rows(title, [row.label for row in rows], [dot_marks(rows), texts], axis, [of, *found])


def by_gap(calibration: Calibration, *, of: Any = None) -> Any:
    """Return a judge's accuracy on the pairs whose score gap is at least so much, beside people's own agreement on them.

    Both with 95% intervals, people's as a grey band; the number of pairs stands at the bottom, and the dotted line marks the
    gap that the calibration proposes. Raises InputError for a judge without scores."""
    steps = calibration.by_gap
    if not steps:
        raise InputError(f"{calibration.judge.model} gave no scores, so there are no gaps. Calibrate its ratings.")
    x, judge = [step.at_least for step in steps], [step.agreement.accuracy for step in steps]
    among = [(step.at_least, step.agreement.people) for step in steps if step.agreement.people]
    bottom = min(found.low for found in [*judge, *(found for _, found in among)]) - 0.1
    line = {"type": "scatter", "mode": "lines", "hoverinfo": "skip"}
    words = {"type": "scatter", "mode": "text", "hoverinfo": "skip", "cliponaxis": False}
    marks: list[dict[str, Any]] = []
    if among:
        at, theirs = zip(*among, strict=True)
        band = [*(found.high for found in theirs), *(found.low for found in reversed(theirs))]
        marks.append(
            line | {"x": [*at, *reversed(at)], "y": band, "fill": "toself", "fillcolor": GRID, "line": {"width": 0}}
        )
        marks.append(line | {"x": at, "y": [found.value for found in theirs], "line": {"color": GREY, "width": 2}})
    if (gap := calibration.min_gap) is not None:
        marks.append(
            line | {"x": [gap, gap], "y": [bottom + 0.03, 1], "line": {"color": ACCENT, "width": 1.5, "dash": "dot"}}
        )
    marks.append({
        "type": "scatter", "mode": "lines+markers", "x": x, "y": [found.value for found in judge], "hoverinfo": "skip",
        "line": {"color": ACCENT, "width": 2}, "marker": {"color": ACCENT, "size": 9, "opacity": 1},
        "error_y": {
            "array": [found.high - found.value for found in judge], "color": ACCENT, "thickness": 1.4, "width": 4,
            "arrayminus": [found.value - found.low for found in judge],
        },
    })  # fmt: skip
    counts = [f"{found.n:,}" for found in judge]
    counts[0] = f"n {counts[0]}"
    marks.append(words | {"x": x, "y": [bottom] * len(x), "text": counts, "textfont": {"size": 11}})
    ends = [(judge[-1].value, calibration.judge.model, ACCENT)]
    ends += [(among[-1][1].value, "people with each other", GREY)] if among else []
    highest = max(ends)[0]
    for place, (value, label, colour) in enumerate(sorted(ends, reverse=True)):
        # Beside the ends of their lines, pushed apart where these meet.
        y = min(value, highest - 0.06 * place * (1.04 - bottom))
        text = {"text": [f"   {inert(label, 26)}"], "textposition": "middle right", "textfont": {"color": colour}}
        marks.append(words | {"x": [x[-1]], "y": [y]} | text)
    room = (x[-1] - x[0]) or 1.0
    ticks = {"tickvals": x, "ticktext": [f"{gap:.3g}" for gap in x]} if len(x) <= FEW_TICKS else {}
    across = {"title": "score gap of the pair, at least (each dot: all pairs from there on)", **ticks}
    up = {"title": "share of pairs with the same winner", "range": [bottom - 0.04, 1.04], "tickformat": ".0%"}
    axes = (across | {"range": [x[0] - 0.08 * room, x[-1] + 0.42 * room]}, up)
    return chart(_gap_title(calibration), marks, axes, [of, calibration], height=420)


def _gap_title(calibration: Calibration) -> str:
    name, gap = calibration.judge.model, calibration.min_gap
    if gap is None:
        best = max(calibration.by_gap, key=lambda step: step.agreement.accuracy.value)
        found = f"{percent(best.agreement.accuracy.value)} at best, from {best.at_least:g} on"
        return f"{name}: at no score gap shown to be as good as a person; {found}"
    step = next(step for step in calibration.by_gap if step.at_least == gap)
    theirs = percent(step.agreement.people.value) if step.agreement.people else "unknown"
    found = f"{percent(step.agreement.accuracy.value)}, people {theirs}"
    return f"{name}: as good as a person from a score gap of {gap:g} on ({found}; {percent(step.share)} of pairs)"
