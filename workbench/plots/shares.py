"""Shares, scores and differences with their intervals, and what a run lost where."""

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from workbench import intervals
from workbench._html import ACCENT, GREY
from workbench.errors import InputError
from workbench.plots.drawing import (
    BINS,
    SHARE_TICKS,
    bar_marks,
    comparison,
    dot_marks,
    labelled_rows,
    percent,
    text_marks,
)
from workbench.runs import FunnelStep, Run


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
class Difference:
    """A row for `forest`: how much more than its baseline a prompt scores."""

    prompt: str
    baseline: str
    part: str
    difference: float
    low: float
    high: float
    n: int

    @classmethod
    def of(cls, row: Mapping[str, Any]) -> "Difference":
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
        return f"{signed(self.value)} ({signed(self.low)} to {signed(self.high)})"


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
    bars = bar_marks([step.count for step in steps], range(len(steps)), starts, colours) | {
        "orientation": "h",
        "width": 0.7,
    }
    shown = [f"{s.count:,}" if s.kind == "total" else f"−{s.count:,} ({percent(s.count / whole)})" for s in steps]
    texts = text_marks([start + step.count for start, step in zip(starts, steps, strict=True)], shown)
    title = f"{last.count:,} {last.label} of {first.count:,} {first.label}; {lost}"
    axis = {"title": "tasks, then rows (count)", "range": [0, 1.18 * whole], "showgrid": False}
    return labelled_rows(title, [_reason(step.label) for step in steps], [bars, texts], axis, of)


def _reason(label: str) -> str:
    """A step's label; a check whose one reason has its own name is named once."""
    check, _, reason = label.partition(": ")
    return reason if check == reason else label


def proportions(rows: Iterable[Share | Mapping[str, Any]], *, what: str, of: Any) -> Any:
    """Return labelled shares as dots with n and their 95% intervals (Wilson); `what` says which share it is.

    `rows` are `Share`s, or a query's rows with the columns label, hits, n and perhaps is_control."""
    rows = rows.to_pylist() if hasattr(rows, "to_pylist") else rows  # type: ignore[union-attr]
    shares = [row if isinstance(row, Share) else Share(**row) for row in rows]
    texts = text_marks([row.interval[1] for row in shares], [f"{percent(row.value)} of {row.n:,}" for row in shares])
    axis = {"title": f"{what}, share of n (95% interval, Wilson)", "range": [-0.02, 1.32], "tickformat": ".0%"}
    axis["tickvals"] = SHARE_TICKS
    return labelled_rows(
        comparison(what, shares, percent), [row.label for row in shares], [dot_marks(shares), texts], axis, of
    )


def spread(rows: Sequence[Scores], *, what: str, of: Any) -> Any:
    """Return how scores from 0 to 1 are spread, an arm a line: histogram, mean with its 95% interval (bootstrap), n."""
    centres, marks = [(at + 0.5) / BINS for at in range(BINS)], []
    for place, row in enumerate(rows):
        counts = Counter(min(BINS - 1, int(BINS * score + 1e-9)) for score in row.known)
        heights = [-0.72 * counts[at] / max(counts.values()) for at in range(BINS)]  # up, on an axis that points down
        colour = GREY if row.is_control else ACCENT
        marks.append(
            bar_marks(centres, heights, [place + 0.3] * BINS, colour) | {"width": 0.92 / BINS, "opacity": 0.45}
        )
    texts = text_marks([1.02] * len(rows), [f"{row.value:.2f}, n {len(row.known):,}" for row in rows])
    about = "bars: rows a bin, each arm to its own height; dot: mean, 95% interval"
    axis = {"title": f"{what}, 0 to 1 ({about})", "range": [-0.02, 1.3], "tickvals": SHARE_TICKS}
    title = comparison(f"Mean {what}", rows, "{:.2f}".format)
    return labelled_rows(
        title, [row.label for row in rows], [*marks, dot_marks(rows, below=0.38), texts], axis, of, line=64
    )


def forest(rows: Any, *, what: str, of: Any) -> Any:
    """Return paired differences as dots with their intervals around zero: blue where zero is excluded, else grey.

    `rows` are a Comparison, or rows as its table has them (prompt, baseline, part, difference, low, high, n); `what` says
    what is scored. The title is about the part "all", where there is one."""
    rows = rows.table() if hasattr(rows, "table") else rows
    rows = rows.to_pylist() if hasattr(rows, "to_pylist") else list(rows)
    if not rows:
        raise InputError("a forest needs at least one difference. Give a comparison, or rows of its table.")
    lines = [Difference.of(row) for row in rows]
    are_of_one = len({line.prompt for line in lines}) == 1
    labels = [f"{line.part if are_of_one else line.label}, n {line.n:,}" for line in lines]
    about = f"{what}: difference from {baselines(lines)} on the same inputs (mean, interval)"
    return differences_figure(told(what, lines), labels, lines, about, of)


def differences_figure(title: str, labels: Sequence[str], lines: Sequence[Any], about: str, of: Any) -> Any:
    """Return labelled differences around a line at zero. A line has value, interval, is_control (drawn in grey) and shown, its
    text; `about` is the title of their axis."""
    ends = [0.0, *(end for line in lines for end in line.interval)]
    least, most = min(ends), max(ends)
    room = (most - least) or 1.0
    zero = {
        "type": "scatter", "mode": "lines", "x": [0, 0], "y": [-0.6, len(lines) - 0.4], "hoverinfo": "skip",
        "line": {"color": GREY, "width": 1.5},
    }  # fmt: skip
    texts = text_marks([max(0.0, line.interval[1]) for line in lines], [line.shown for line in lines])
    step = next((step for step in (0.01, 0.02, 0.05, 0.1, 0.2, 0.5) if room <= 6 * step), room)
    axis = {
        "title": about, "tickformat": ".2~f", "range": [least - 0.06 * room, most + 0.8 * room],
        "tickvals": [place * step for place in range(math.ceil(least / step), math.floor(most / step) + 1)],
    }  # fmt: skip
    return labelled_rows(title, labels, [zero, dot_marks(lines), texts], axis, of)


def told(what: str, lines: Sequence[Difference]) -> str:
    """What the differences say in one line: those of all parts together, where there are such."""
    lines = [line for line in lines if line.part == "all"] or lines
    if not (clear := [line for line in lines if not line.is_control]):
        return f"{what}: no difference from {baselines(lines)} can be told"
    said = ", ".join(f"{line.label} {signed(line.difference)}" for line in clear[:3])
    more = f" and {len(clear) - 3} more" if len(clear) > 3 else ""
    untold = (
        f"; no difference can be told for {len(lines) - len(clear)} of {len(lines)}" if len(clear) < len(lines) else ""
    )
    return f"{what}: {said}{more}, against {baselines(lines)}{untold}"


def baselines(lines: Sequence[Difference]) -> str:
    return ", ".join(dict.fromkeys(line.baseline for line in lines))


def signed(value: float) -> str:
    return f"{value:+.3f}".replace("-", "−")
