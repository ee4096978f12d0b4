"""How results look: tables and cards in HTML and in text.

Inline styles and `var(--jp-...)` colours only, so that they survive Jupyter's sanitiser and the dark theme. Everything
that came from a person or a model is escaped here, at one place."""

import html
from collections.abc import Mapping, Sequence
from typing import Any

_BASE = "font:13px/1.5 var(--jp-ui-font-family,system-ui,sans-serif);color:var(--jp-content-font-color1,inherit)"
_CELL = "padding:2px 14px 2px 0;text-align:left;vertical-align:top"
_FAINT = "opacity:.65"
_PLAIN = "background:transparent"  # Jupyter stripes the rows of every table
_CARD = f"{_BASE};border:1px solid var(--jp-border-color1,#bbb);border-radius:6px;padding:8px 12px;max-width:820px;margin:4px 0"
ACCENT, GREY = "#0072B2", "#9A9A9A"  # Okabe and Ito's blue, safe for the colour-blind


def escaped(value: Any, limit: int = 300) -> str:
    """The value as HTML text, cut at `limit` characters."""
    text = (
        "" if value is None else f"{value:,}" if isinstance(value, int) and not isinstance(value, bool) else str(value)
    )
    return html.escape(text if len(text) <= limit else text[: limit - 1] + "…")


def html_table(columns: Sequence[str], rows: Sequence[Sequence[Any]], total: int | None = None, note: str = "") -> str:
    """Rows as an HTML table; `total` says how many there are when these are only the first."""
    head = "".join(f"<th style='{_CELL};{_FAINT};font-weight:normal'>{escaped(column)}</th>" for column in columns)
    body = "".join(
        f"<tr style='{_PLAIN}'>" + "".join(f"<td style='{_CELL}'>{escaped(value)}</td>" for value in row) + "</tr>"
        for row in rows
    )
    more = f"{len(rows):,} of {total:,} rows" if total is not None and total > len(rows) else ""
    foot = "".join(f"<div style='{_FAINT}'>{escaped(line, 1000)}</div>" for line in (note, more) if line)
    return f"<div style='{_BASE};overflow-x:auto'><table style='border-collapse:collapse'><tr>{head}</tr>{body}</table>{foot}</div>"


def text_table(columns: Sequence[str], rows: Sequence[Sequence[Any]], total: int | None = None, width: int = 40) -> str:
    """Rows as aligned text, numbers to the right."""
    cells = [[_short(value, width) for value in row] for row in rows]
    widths = [max([len(column), *(len(row[at]) for row in cells)]) for at, column in enumerate(columns)]
    right = [
        all(isinstance(row[at], int | float) or row[at] is None for row in rows) and bool(rows)
        for at in range(len(columns))
    ]
    line = lambda values: "  ".join(
        v.rjust(w) if r else v.ljust(w) for v, w, r in zip(values, widths, right, strict=True)
    ).rstrip()
    more = [f"({len(rows):,} of {total:,} rows)"] if total is not None and total > len(rows) else []
    return "\n".join([line(columns), line(["-" * w for w in widths]), *(line(row) for row in cells), *more])


def _short(value: Any, width: int) -> str:
    text = (
        ""
        if value is None
        else f"{value:,}"
        if isinstance(value, int) and not isinstance(value, bool)
        else f"{value:.4g}"
        if isinstance(value, float)
        else " ".join(str(value).split())
    )
    return text if len(text) <= width else text[: width - 1] + "…"


def bars(rows: Sequence[tuple[str, int, str]], whole: int) -> str:
    """A waterfall as HTML: (label, count, kind) with kind "total" or "loss". A loss hangs where the bar before it ended."""
    lines, left = [], 0
    for label, count, kind in rows:
        if kind == "total":
            start, colour, shown = 0, ACCENT, f"{count:,}"
            left = count
        else:
            left -= count
            start, colour, shown = left, GREY, f"−{count:,}"
        offset, size = (100 * start / whole, 100 * count / whole) if whole else (0, 0)
        bar = f"<div style='position:relative;height:14px;margin-top:3px'><div style='position:absolute;left:{offset:.2f}%;width:{max(size, 0.3):.2f}%;height:14px;background:{colour}'></div></div>"
        number = f"<td style='{_CELL};text-align:right;font-variant-numeric:tabular-nums'>{shown}</td>"
        lines.append(
            f"<tr style='{_PLAIN}'><td style='{_CELL};white-space:nowrap'>{escaped(label)}</td>{number}<td style='{_CELL};width:340px'>{bar}</td></tr>"
        )
    return f"<table style='border-collapse:collapse;margin:0;{_BASE}'>{''.join(lines)}</table>"


def facts(pairs: Mapping[str, Any]) -> str:
    """Name and value pairs side by side."""
    return "".join(
        f"<td style='{_CELL}'><span style='{_FAINT}'>{escaped(name)}</span><br><b>{escaped(value)}</b></td>"
        for name, value in pairs.items()
    ).join([f"<table style='border-collapse:collapse;margin:0'><tr style='{_PLAIN}'>", "</tr></table>"])


def card(title: str, subtitle: str, body: str, *, warning: str = "") -> str:
    """A framed result; `body` is HTML, the rest is text."""
    loud = (
        f"<div style='border-left:4px solid #D55E00;padding:4px 8px;margin:6px 0;white-space:pre-wrap'>{escaped(warning, 4000)}</div>"
        if warning
        else ""
    )
    return f"<div style='{_CARD}'><b>{escaped(title)}</b> <span style='{_FAINT}'>{escaped(subtitle)}</span>{loud}{body}</div>"


def curve(points: Sequence[tuple[float, float]], x: str, y: str, end: float | None = None) -> str:
    """A line through the points as SVG, with the first and the last value; `end` is where the axis ends, where it is known."""
    if not points:
        return ""
    width, height, pad = 420, 90, 6
    low, high = min(value for _, value in points), max(value for _, value in points)
    last = max(end or 0, points[-1][0], 1e-9)
    place = lambda at, value: (
        f"{pad + (width - 2 * pad) * at / last:.1f},{pad + (height - 2 * pad) * (1 - (value - low) / ((high - low) or 1)):.1f}"
    )
    line = " ".join(place(at, value) for at, value in points)
    said = f"{y} {points[0][1]:.3g} to {points[-1][1]:.3g} over {points[-1][0]:,g} {x}"
    return (
        f"<div style='{_BASE}'><svg width='{width}' height='{height}' role='img' aria-label='{escaped(said)}'>"
        f"<polyline points='{line}' fill='none' stroke='{ACCENT}' stroke-width='1.6'/></svg>"
        f"<div style='{_FAINT}'>{escaped(said)}</div></div>"
    )


def details(summary: str, text: str) -> str:
    """Text that opens on a click."""
    pre = "white-space:pre-wrap;overflow-wrap:anywhere;margin:4px 0;font-family:var(--jp-code-font-family,monospace);font-size:12px"
    return f"<details><summary>{escaped(summary)}</summary><pre style='{pre}'>{escaped(text, 20_000)}</pre></details>"


def record_card(kind: str, row: dict[str, Any]) -> str:
    """One record, given as its plain row: its text fields, then where it came from."""
    provenance, identity = row.pop("provenance"), row.pop("id")
    shown = [(name, value) for name, value in row.items() if value not in (None, "", [])]
    body = "".join(
        f"<tr><td style='{_CELL};{_FAINT}'>{escaped(name.replace('_', ' '))}</td><td style='{_CELL};white-space:pre-wrap'>{escaped(_readable(value), 1200)}</td></tr>"
        for name, value in shown
    )
    origin = ", ".join(str(provenance[name]) for name in ("recipe", "prompt", "model") if provenance[name])
    return card(
        kind,
        identity,
        f"<table style='border-collapse:collapse'>{body}</table><div style='{_FAINT}'>from {escaped(origin)}</div>",
    )


def _readable(value: Any) -> str:
    if isinstance(value, dict):
        return str(value["text"]) if "text" in value else ", ".join(f"{k} {v}" for k, v in value.items())
    if isinstance(value, list):
        return "\n".join(f"{at}. {' '.join(_readable(item).split())[:160]}" for at, item in enumerate(value, 1))
    return str(value)


def prompt_card(prompt: Any) -> str:
    """One prompt: what goes in, what comes out, and its messages as they are."""
    # The program, of which it can be thawed, holds all its demonstrations once more.
    made = ", ".join(f"{name}: {value}" for name, value in prompt.made_by.items() if name != "program")
    body = facts(
        {"takes": ", ".join(prompt.variables), "gives": ", ".join(prompt.outputs), "as": prompt.format, "made by": made}
    )
    return card(prompt.id, prompt.about, body + "".join(details(role, content) for role, content in prompt.messages))
