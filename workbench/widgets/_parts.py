"""What the widgets share: how they look, what they say, and rows as a table."""

from collections.abc import Callable
from typing import Any

import pyarrow as pa

from workbench import store
from workbench._html import escaped
from workbench.errors import WorkbenchError

_SHOWN_ROWS, _SHOWN_COLUMNS = 200, 40
_SHORT, _LONG = 80, 2_000  # characters of a value: unfolded, and at all

STYLE = """<style>
.sdw { color: var(--jp-content-font-color1, inherit); font: 13px/1.5 var(--jp-ui-font-family, system-ui, sans-serif) }
.sdw code, .sdw pre, .sdw-query { font: 12px/1.5 var(--jp-code-font-family, monospace) }
.sdw code { background: none; color: inherit; padding: 0 }
.sdw-soft { opacity: .7 }
.sdw-said { margin: 4px 0; white-space: pre-wrap; overflow-wrap: anywhere }
.sdw-error { border-left: 4px solid #D55E00; padding: 2px 8px }
.sdw-grid { max-height: 420px; overflow: auto; border: 1px solid var(--jp-border-color1, #999) }
.sdw-grid table { border-collapse: separate; border-spacing: 0; margin: 0; width: 100% }
.sdw-grid th { position: sticky; top: 0; background: var(--jp-layout-color2, Canvas); font-weight: 600 }
.sdw-grid th, .sdw-grid td { padding: 2px 12px 2px 8px; text-align: left; vertical-align: top; white-space: pre-wrap;
  overflow-wrap: break-word; max-width: 420px; border-bottom: 1px solid var(--jp-border-color2, #9995) }
.sdw-grid .number { text-align: right; font-variant-numeric: tabular-nums }
.sdw-grid summary { cursor: pointer }
</style>"""


def attempt(work: Callable[[], str]) -> str:
    """What `work` says, or what kept it from its end: a widget's exceptions would be seen by nobody."""
    try:
        return work()
    except (WorkbenchError, OverflowError, ValueError) as error:  # the last two are ids that Python has no place for
        return said(str(error), kind="sdw-error")


def said(text: str, call: str = "", *, kind: str = "") -> str:
    code = f"\n<code class='sdw-soft'>{escaped(call, 1_000)}</code>" if call else ""
    return f"<div class='sdw sdw-said {kind}'>{escaped(text, 4_000)}{code}</div>"


def grid(rows: store.Rows, shown_rows: int = _SHOWN_ROWS) -> str:
    """The first rows and columns as an HTML table, long values folded."""
    shown = store.sql.readable(rows.arrow.slice(0, shown_rows).select(rows.columns[:_SHOWN_COLUMNS]))
    classes = ["number" if _is_number(field.type) else "text" for field in shown.schema]
    columns = [
        [_cell(value, kind) for value in column.to_pylist()]
        for column, kind in zip(shown.columns, classes, strict=True)
    ]
    head = "".join(
        f"<th class='{kind}'>{escaped(name)}</th>" for name, kind in zip(shown.column_names, classes, strict=True)
    )
    body = "".join(f"<tr>{''.join(cells)}</tr>" for cells in zip(*columns, strict=True))
    left_out = [
        f"the first {there:,} of {of:,} {what}"
        for there, of, what in ((shown.num_rows, len(rows), "rows"), (len(columns), len(rows.columns), "columns"))
        if there < of
    ]
    foot = f"<div class='sdw-soft'>{', '.join(left_out)}</div>" if left_out else ""
    return f"<div class='sdw'><div class='sdw-grid'><table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>{foot}</div>"


def _is_number(kind: pa.DataType) -> bool:
    return pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_decimal(kind)


def _cell(value: Any, kind: str) -> str:
    if value is None:
        return f"<td class='{kind} sdw-soft'>null</td>"
    text = f"{value:.6g}" if isinstance(value, float) else f"{value:,}" if kind == "number" else str(value)
    if len(text) <= _SHORT:
        return f"<td class='{kind}'>{escaped(text)}</td>"
    first = escaped(" ".join(text.split()), _SHORT)
    summary = f"<summary>{first} <span class='sdw-soft'>({len(text):,} characters)</span></summary>"
    return f"<td><details>{summary}{escaped(text, _LONG)}</details></td>"
