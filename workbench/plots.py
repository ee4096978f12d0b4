"""Plots: a table or a run in, a plotly figure out.

    plots.show(plots.waterfall(run))
    plots.show(plots.proportions(shares, what="Rows verified", of=run), "98% of the rows are verified.")

Titles are computed from the data; n and 95% intervals are drawn; what is tested is blue and controls are grey, with
labels beside their marks; paper is transparent, and text a grey that reads on white and on black. `of` names the run,
runs or records that the numbers come from, so that what the offline rules made says so; None where there are none."""

import base64
import html
import json
import logging
import math
import textwrap
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from workbench import intervals
from workbench._html import ACCENT, GREY, escaped
from workbench.errors import InputError, MissingLibrary, require
from workbench.intervals import Interval
from workbench.quality.calibration import Calibration
from workbench.quality.dedup import NearDuplicates
from workbench.runs import FunnelStep, Run

OFFLINE_NOTE = "offline rules, no model"
_TEXT = "#7A7A7A"  # contrast 4.3 to 1 on white, and 4.4 to 1 on GitHub's #0d1117
_GRID = "rgba(128,128,128,0.25)"
_CLEAR = "rgba(0,0,0,0)"
_SHARE_TICKS = [0, 0.25, 0.5, 0.75, 1]
_BINS = 20
_SERIES = (ACCENT, "#D55E00", "#009E73", "#CC79A7")  # Okabe and Ito's, told apart by the colour-blind
_WIDTH = 800  # pixels, of the static image
_FEW_TICKS = 12


# --- tables -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Share:
    """A row for `proportions`: `hits` of `n` trials of an arm, which may be a control. As text, with its interval."""

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
        """The 95% score interval of Wilson 1927, (low, high)."""
        return intervals.wilson(self.hits, self.n)

    def __str__(self) -> str:
        low, high = self.interval
        return f"{percent(self.value)} of {self.n:,} ({percent(low)} to {percent(high)})"


@dataclass(frozen=True)
class Scores:
    """A row for `spread`: an arm's scores, each from 0 to 1; None (no score) is left out. As text, with interval."""

    label: str
    scores: Sequence[float | None]
    is_control: bool = False

    def __post_init__(self):
        if not self.known or not all(0 <= score <= 1 for score in self.known):
            raise InputError(f"{self.label}: scores must be from 0 to 1, at least one, got {list(self.known[:5])}.")

    @cached_property
    def known(self) -> tuple[float, ...]:
        return tuple(float(score) for score in self.scores if score is not None)

    @property
    def value(self) -> float:
        return sum(self.known) / len(self.known)

    @cached_property
    def interval(self) -> tuple[float, float]:
        """The 95% bootstrap interval of the mean (2,000 draws, seed 0), (low, high); of one score, all of 0 to 1."""
        if len(self.known) == 1:
            return 0.0, 1.0
        found = intervals.mean(self.known)
        return found.low, found.high

    def at_least(self, least: float) -> Share:
        """Return the share of the scores that are `least` or more."""
        return Share.of(self.label, [score >= least for score in self.known], self.is_control)

    def __str__(self) -> str:
        low, high = self.interval
        return f"{self.value:.2f} (n {len(self.known):,}, {low:.2f} to {high:.2f})"


@dataclass(frozen=True)
class _Difference:
    """A row for `forest`: how much more than its baseline a prompt scores."""

    prompt: str
    baseline: str
    part: str
    difference: float
    low: float
    high: float
    n: int

    @classmethod
    def of(cls, row: Mapping[str, Any]) -> "_Difference":
        try:
            return cls(*(row[name] for name in ("prompt", "baseline", "part", "difference", "low", "high", "n")))
        except KeyError as error:
            raise InputError(f"a row of a forest needs {error}; this one has {', '.join(row)}.") from None

    @property
    def value(self) -> float:
        return self.difference

    @property
    def interval(self) -> tuple[float, float]:
        return self.low, self.high

    @property
    def is_control(self) -> bool:
        """Drawn in grey: the interval holds zero."""
        return self.low <= 0 <= self.high

    @property
    def label(self) -> str:
        return self.prompt if self.part == "all" else f"{self.prompt}: {self.part}"

    @property
    def shown(self) -> str:
        return f"{_signed(self.value)} ({_signed(self.low)} to {_signed(self.high)})"


def percent(share: float) -> str:
    """Return a share as text: 12%, 99.6%; 0% and 100% only where that is exact."""
    if (text := f"{share:.0%}") not in ("0%", "100%") or share in (0, 1):
        return text
    return f"{share:.1%}" if 0.0005 <= share < 0.9995 else "<0.1%" if share < 0.5 else ">99.9%"


# --- figures ----------------------------------------------------------------------------------------------------------


def waterfall(steps: Run | Sequence[FunnelStep], *, of: Any = None) -> Any:
    """Return the waterfall of a run, or of funnel steps: what was asked, the losses, what was made and kept."""
    if isinstance(steps, Run):
        steps, of = steps.funnel(), steps
    if not (totals := [step for step in steps if step.kind == "total"]):
        raise InputError("a waterfall needs a total to begin with. Give a run, or its funnel().")
    first, last, whole = totals[0], totals[-1], max(step.count for step in steps)
    losses = [step for step in steps if step.kind == "loss" and not step.label.startswith("rows:")]  # too many: no loss
    worst = max(losses, key=lambda step: step.count, default=None)
    lost = (
        f"largest loss {_reason(worst.label).removeprefix('failed: ')} ({worst.count:,})"
        if worst
        else "nothing was lost"
    )
    starts, left = [], 0
    for step in steps:
        left = step.count if step.kind == "total" else left - step.count
        starts.append(0 if step.kind == "total" else left)
    colours = [ACCENT if step.kind == "total" else GREY for step in steps]
    bars = _bars([step.count for step in steps], range(len(steps)), starts, colours) | {
        "orientation": "h",
        "width": 0.7,
    }
    shown = [f"{s.count:,}" if s.kind == "total" else f"−{s.count:,} ({percent(s.count / whole)})" for s in steps]
    texts = _texts([start + step.count for start, step in zip(starts, steps, strict=True)], shown)
    title = f"{last.count:,} {last.label} of {first.count:,} {first.label}; {lost}"
    axis = {"title": "tasks, then rows (count)", "range": [0, 1.18 * whole], "showgrid": False}
    return _lines(title, [_reason(step.label) for step in steps], [bars, texts], axis, of)


def _reason(label: str) -> str:
    """A step's label; a check whose one reason has its own name is named once."""
    check, _, reason = label.partition(": ")
    return reason if check == reason else label


def proportions(rows: Iterable[Share | Mapping[str, Any]], *, what: str, of: Any) -> Any:
    """Return labelled shares as dots with n and their 95% intervals (Wilson); `what` says which share it is.

    `rows` are `Share`s, or a query's rows with the columns label, hits, n and perhaps is_control."""
    rows = rows.to_pylist() if hasattr(rows, "to_pylist") else rows  # type: ignore[union-attr]
    shares = [row if isinstance(row, Share) else Share(**row) for row in rows]
    texts = _texts([row.interval[1] for row in shares], [f"{percent(row.value)} of {row.n:,}" for row in shares])
    axis = {"title": f"{what}, share of n (95% interval, Wilson)", "range": [-0.02, 1.32], "tickformat": ".0%"}
    axis["tickvals"] = _SHARE_TICKS
    return _lines(_comparison(what, shares, percent), [row.label for row in shares], [_dots(shares), texts], axis, of)


def spread(rows: Sequence[Scores], *, what: str, of: Any) -> Any:
    """Return how scores from 0 to 1 are spread, an arm a line: histogram, mean with its 95% interval (bootstrap), n."""
    centres, marks = [(at + 0.5) / _BINS for at in range(_BINS)], []
    for place, row in enumerate(rows):
        counts = Counter(min(_BINS - 1, int(_BINS * score + 1e-9)) for score in row.known)
        heights = [-0.72 * counts[at] / max(counts.values()) for at in range(_BINS)]  # up, on an axis that points down
        colour = GREY if row.is_control else ACCENT
        marks.append(_bars(centres, heights, [place + 0.3] * _BINS, colour) | {"width": 0.92 / _BINS, "opacity": 0.45})
    texts = _texts([1.02] * len(rows), [f"{row.value:.2f}, n {len(row.known):,}" for row in rows])
    about = "bars: rows a bin, each arm to its own height; dot: mean, 95% interval"
    axis = {"title": f"{what}, 0 to 1 ({about})", "range": [-0.02, 1.3], "tickvals": _SHARE_TICKS}
    title = _comparison(f"Mean {what}", rows, "{:.2f}".format)
    return _lines(title, [row.label for row in rows], [*marks, _dots(rows, below=0.38), texts], axis, of, line=64)


def forest(rows: Any, *, what: str, of: Any) -> Any:
    """Return paired differences as dots with their intervals around zero: blue where zero is excluded, else grey.

    `rows` are a Comparison, or rows as its table has them (prompt, baseline, part, difference, low, high, n); `what` says
    what is scored. The title is about the part "all", where there is one."""
    rows = rows.table() if hasattr(rows, "table") else rows
    rows = rows.to_pylist() if hasattr(rows, "to_pylist") else list(rows)
    if not rows:
        raise InputError("a forest needs at least one difference. Give a comparison, or rows of its table.")
    lines = [_Difference.of(row) for row in rows]
    ends = [0.0, *(end for line in lines for end in line.interval)]
    least, most = min(ends), max(ends)
    room = (most - least) or 1.0
    zero = {
        "type": "scatter", "mode": "lines", "x": [0, 0], "y": [-0.6, len(lines) - 0.4], "hoverinfo": "skip",
        "line": {"color": GREY, "width": 1.5},
    }  # fmt: skip
    texts = _texts([max(0.0, line.high) for line in lines], [line.shown for line in lines])
    are_of_one = len({line.prompt for line in lines}) == 1
    labels = [f"{line.part if are_of_one else line.label}, n {line.n:,}" for line in lines]
    step = next((step for step in (0.01, 0.02, 0.05, 0.1, 0.2, 0.5) if room <= 6 * step), room)
    axis = {
        "title": f"{what}: difference from {_baselines(lines)} on the same inputs (mean, interval)", "tickformat": ".2~f",
        "range": [least - 0.06 * room, most + 0.8 * room],
        "tickvals": [place * step for place in range(math.ceil(least / step), math.floor(most / step) + 1)],
    }  # fmt: skip
    return _lines(_told(what, lines), labels, [zero, _dots(lines), texts], axis, of)


def _told(what: str, lines: Sequence[_Difference]) -> str:
    """What the differences say in one line: those of all parts together, where there are such."""
    lines = [line for line in lines if line.part == "all"] or lines
    if not (told := [line for line in lines if not line.is_control]):
        return f"{what}: no difference from {_baselines(lines)} can be told"
    said = ", ".join(f"{line.label} {_signed(line.difference)}" for line in told[:3])
    more = f" and {len(told) - 3} more" if len(told) > 3 else ""
    untold = (
        f"; no difference can be told for {len(lines) - len(told)} of {len(lines)}" if len(told) < len(lines) else ""
    )
    return f"{what}: {said}{more}, against {_baselines(lines)}{untold}"


def _baselines(lines: Sequence[_Difference]) -> str:
    return ", ".join(dict.fromkeys(line.baseline for line in lines))


def _signed(value: float) -> str:
    return f"{value:+.3f}".replace("-", "−")


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
        colour = _SERIES[at % len(_SERIES)]
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
            "type": "scatter", "mode": "text", "x": [end], "y": [place], "text": [f"  {_inert(name, 30)} {best[-1]:.2f}"],
            "textposition": "middle right", "textfont": {"color": colour}, "cliponaxis": False, "hoverinfo": "skip",
        })  # fmt: skip
    winner = max(tried, key=lambda name: tried[name][-1].best)
    title = f"{winner} has the best {what}, {tried[winner][-1].best:.2f}; the first candidate had {tried[winner][0].score:.2f}"
    x = {"title": "requests asked (count); a dot is a candidate, a line the best so far", "range": [0, 1.3 * end]}
    y = {"title": f"{what}, 0 to 1", "range": [min(low, *taken) - 0.06 * room, high + 0.08 * room]}
    return _figure(title, marks, (x, y), of, height=400)


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
    note = _note("the bound: as many as under way ", 13) | {"x": end, "y": end, "xanchor": "right", "yanchor": "bottom"}
    x = {"title": "requests allowed under way at once (count)", "range": [0, 1.12 * end], "tickvals": sorted({*widths})}
    y = {"title": "requests sent again after the kill (count)", "range": [-0.04 * end, 1.1 * end]}
    return _figure(title, [bound, dots], (x, y), of, height=420, notes=[note])


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
        "range": [least - 0.02, 1.32], "tickvals": [*([-0.5] if least < -0.25 else []), *_SHARE_TICKS],
    }  # fmt: skip
    said = ", ".join(f"{each.judge.model} {percent(each.accuracy.value)}" for each in found)
    among = percent(people[0].value) if people else "unknown"
    title = f"Agreement with people: {said}; people with each other {among}"
    texts = _texts([row.interval[1] for row in rows], [row.shown for row in rows])
    return _lines(title, [row.label for row in rows], [_dots(rows), texts], axis, [of, *found])


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
            line | {"x": [*at, *reversed(at)], "y": band, "fill": "toself", "fillcolor": _GRID, "line": {"width": 0}}
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
        text = {"text": [f"   {_inert(label, 26)}"], "textposition": "middle right", "textfont": {"color": colour}}
        marks.append(words | {"x": [x[-1]], "y": [y]} | text)
    room = (x[-1] - x[0]) or 1.0
    ticks = {"tickvals": x, "ticktext": [f"{gap:.3g}" for gap in x]} if len(x) <= _FEW_TICKS else {}
    across = {"title": "score gap of the pair, at least (each dot: all pairs from there on)", **ticks}
    up = {"title": "share of pairs with the same winner", "range": [bottom - 0.04, 1.04], "tickformat": ".0%"}
    axes = (across | {"range": [x[0] - 0.08 * room, x[-1] + 0.42 * room]}, up)
    return _figure(_gap_title(calibration), marks, axes, [of, calibration], height=420)


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
        _beside(found.threshold, here, f"  {here:,} of {n:,} at {found.threshold:g}", "top right", ACCENT),
        _beside(1, copies, f"  {copies:,} copies", "middle right", GREY),
    ]  # fmt: skip
    title = (
        f"{found.search.name} at {found.threshold:g} removes {here:,} of {n:,} records ({percent(here / n)}), "
        f"{copies:,} of them copies; at {x[0]:g} it would remove {removed[0]:,}"
    )
    room = 1 - x[0]
    across = {"title": "threshold (similarity from which records are joined; 1 is the same text)"}
    across |= {"range": [x[0] - 0.03 * room, 1 + 0.25 * room], "tickformat": ".2~f"}
    up = {"title": f"records removed (count, of {n:,})", "range": [-0.04 * top, 1.14 * top]}
    return _figure(title, marks, (across, up), [of, *found.search.texts.records], height=400)


def _beside(x: float, y: float, text: str, position: str, colour: str) -> dict[str, Any]:
    return {
        "type": "scatter", "mode": "text", "x": [x], "y": [y], "text": [text], "textposition": position,
        "textfont": {"color": colour}, "cliponaxis": False, "hoverinfo": "skip",
    }  # fmt: skip


# --- what they share --------------------------------------------------------------------------------------------------


def _comparison(what: str, rows: Sequence[Any], shown: Any) -> str:
    """What the rows say in one line: each tested arm, or the range of many, then the controls."""
    arms, controls = ([row for row in rows if row.is_control is wanted] for wanted in (False, True))
    said = [", ".join(f"{arm.label} {shown(arm.value)}" for arm in arms) if len(arms) <= 3 else _range(arms, shown)]
    if controls:
        said.append(f"control{'s' if len(controls) > 1 else ''} {_range(controls, shown)}")
    return f"{what}: {'; '.join(part for part in said if part)}"


def _range(rows: Sequence[Any], shown: Any) -> str:
    values = sorted(row.value for row in rows)
    return " to ".join(dict.fromkeys([shown(values[0]), shown(values[-1])]))


def _bars(x: Iterable[float], y: Iterable[float], base: Sequence[float], colour: Any) -> dict[str, Any]:
    return {"type": "bar", "x": list(x), "y": list(y), "base": base, "marker": {"color": colour}, "hoverinfo": "skip"}


def _dots(rows: Sequence[Any], below: float = 0.0) -> dict[str, Any]:
    return {
        "type": "scatter", "mode": "markers", "hoverinfo": "skip",
        "x": [row.value for row in rows], "y": [place + below for place in range(len(rows))],
        "marker": {"size": 11, "opacity": 1, "color": [GREY if row.is_control else ACCENT for row in rows]},
        "error_x": {
            "array": [row.interval[1] - row.value for row in rows],
            "arrayminus": [row.value - row.interval[0] for row in rows], "color": _TEXT, "thickness": 1.6, "width": 5,
        },
    }  # fmt: skip


def _texts(ends: Sequence[float], shown: Sequence[str]) -> dict[str, Any]:
    return {
        "type": "scatter", "mode": "text", "x": list(ends), "y": list(range(len(ends))), "hoverinfo": "skip",
        "text": [f"  {text}" for text in shown], "textposition": "middle right", "cliponaxis": False,
    }  # fmt: skip


def _note(text: str, size: int) -> dict[str, Any]:
    return {"text": text, "showarrow": False, "font": {"size": size, "color": _TEXT}}


def _lines(
    title: str, labels: Sequence[str], marks: list[Any], axis: Mapping[str, Any], of: Any, *, line: int = 34
) -> Any:
    """A figure with one labelled line a row, the first on top."""
    ticks = [f"{_inert(label, 48)}  " for label in labels]
    y = {"tickvals": list(range(len(labels))), "ticktext": ticks, "range": [len(labels) - 0.4, -0.6], "showgrid": False}
    return _figure(title, marks, (axis, {**y, "automargin": True}), of, height=150 + line * len(labels))


def _figure(
    title: str, marks: list[Any], axes: tuple[Any, Any], of: Any, *, height: int, notes: Sequence[Any] = ()
) -> Any:
    wrapped = textwrap.wrap(title, 84)
    if _is_offline(of):
        place = {"xref": "paper", "yref": "paper", "x": 1, "y": 0, "yshift": -56, "xanchor": "right", "yanchor": "top"}
        notes = [*notes, _note(OFFLINE_NOTE, 11) | place]
    x, y = ({"gridcolor": _GRID, "zeroline": False, **axis} for axis in axes)
    for axis in (x, y):
        if isinstance(text := axis.get("title"), str):
            axis["title"] = {"text": _inert(text, 120), "font": {"size": 12}, "standoff": 12}
    layout = {
        "template": "none", "paper_bgcolor": _CLEAR, "plot_bgcolor": _CLEAR, "font": {"color": _TEXT, "size": 13},
        "height": height + 18 * len(wrapped), "margin": {"l": 60, "r": 10, "t": 34 + 20 * len(wrapped), "b": 74},
        "title": {
            "text": "<br>".join(_inert(part, 200) for part in wrapped), "font": {"size": 16}, "pad": {"l": 10, "t": 12},
            "x": 0, "xref": "container", "xanchor": "left", "y": 1, "yref": "container", "yanchor": "top",
        },
        "xaxis": x, "yaxis": y, "showlegend": False, "barmode": "overlay", "annotations": list(notes),
    }  # fmt: skip
    return require("plotly.graph_objects", extra="notebook").Figure(data=marks, layout=layout)


def _is_offline(of: Any) -> bool:
    """True when a run or a record among these was made by the offline rules."""
    if isinstance(of, Iterable):
        return any(map(_is_offline, of))
    return bool(getattr(of, "is_offline", False) or getattr(getattr(of, "provenance", None), "is_offline", False))


def _inert(text: str, limit: int) -> str:
    """Text that plotly shows as it is: its own little HTML, TeX between dollars and %{...} mean nothing in it."""
    cut = text if len(text) <= limit else text[: limit - 1] + "…"
    return html.escape(" ".join(cut.split()), quote=False).replace("$", "&#36;").replace("%{", "%&#123;")


# --- showing ----------------------------------------------------------------------------------------------------------


def show(figure: Any, sentence: str = "") -> None:
    """Display a figure, interactive and as a static PNG in one output, so that a page without scripts shows the PNG,
    and then a sentence, as text. Without a Chrome on the machine it is the interactive figure alone."""
    display = require("IPython.display", extra="notebook").display
    config = {"displaylogo": False, "responsive": True}
    title = html.unescape(figure.layout.title.text or "").replace("<br>", " ")
    bundle: dict[str, Any] = {"application/vnd.plotly.v1+json": {**json.loads(figure.to_json()), "config": config}}
    bundle["text/plain"] = f"<Figure: {title}>"
    if image := png(figure):
        bundle["image/png"] = base64.b64encode(image).decode()
    display(bundle, raw=True, metadata={"image/png": {"width": _WIDTH}} if image else None)
    if sentence:
        text = f"<p style='max-width:{_WIDTH}px'>{escaped(sentence, 2000)}</p>"
        display({"text/plain": sentence, "text/html": text}, raw=True)


def png(figure: Any) -> bytes | None:
    """Return the figure as a PNG, 800 pixels wide at 1.25 dots a pixel; None without kaleido or a working Chrome."""
    try:
        kaleido = require("kaleido", extra="notebook")
    except MissingLibrary:
        return None
    from kaleido import errors

    # choreographer, below kaleido, logs each message of Chrome's that it could not read and ignored; it would land in the
    # notebook's outputs.
    was_disabled = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    options = {"format": "png", "width": _WIDTH, "height": figure.layout.height or 450, "scale": 1.25}
    try:
        # One browser an image, a second or two each: kaleido's lasting one waits for ever when its Chrome ends.
        # mathjax=False, or the page asks a CDN for a script.
        return kaleido.calc_fig_sync(figure.to_plotly_json(), opts=options, kopts={"mathjax": False})
    except (errors.ChromeNotFoundError, errors.BrowserFailedError, errors.BrowserClosedError):
        return None
    finally:
        logging.disable(was_disabled)
