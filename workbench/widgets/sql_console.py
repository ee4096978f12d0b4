"""The SQL console: a query box over a run's tables."""

import threading
import time
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import pyarrow as pa

from workbench import store
from workbench._html import escaped
from workbench.errors import WorkbenchError, require
from workbench.quality import filters
from workbench.runs import Run

_SHOWN_ROWS, _SHOWN_COLUMNS = 200, 40
_SHORT, _LONG = 80, 2_000  # characters of a value: unfolded, and at all

_STYLE = """<style>
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

_BOX_STYLE = """
.sdw-query { width: 100%; box-sizing: border-box; min-height: 84px; resize: vertical; padding: 6px 8px; border-radius: 3px;
  font: 13px/1.5 var(--jp-code-font-family, monospace); color: var(--jp-content-font-color1, FieldText);
  background: var(--jp-cell-editor-background, Field); border: 1px solid var(--jp-border-color1, #999) }
.sdw-run { padding: 4px 18px; margin: 4px 10px 0 0; border: 0; border-radius: 3px; cursor: pointer; color: white; background: #0072B2 }
.sdw-run:focus-visible, .sdw-query:focus-visible { outline: 2px solid #0072B2; outline-offset: 1px }
.sdw-hint { font: 12px var(--jp-ui-font-family, system-ui, sans-serif); color: var(--jp-content-font-color1, inherit); opacity: .7 }
"""

# The text goes with the wish to run it: what was typed last may still be on its way to the kernel.
_BOX_SCRIPT = """
export default { render({ model, el }) {
  const box = Object.assign(document.createElement("textarea"), { className: "sdw-query", spellcheck: false });
  const button = Object.assign(document.createElement("button"), { className: "sdw-run" });
  const hint = Object.assign(document.createElement("span"), { className: "sdw-hint", textContent: "Shift+Enter or Ctrl+Enter" });
  box.setAttribute("aria-label", "SQL");
  box.setAttribute("data-lm-suppress-shortcuts", "true");  // JupyterLab would run the cell
  const keep = () => { model.set("value", box.value); model.save_changes(); };
  const run = () => { if (!model.get("is_running")) { keep(); model.send({ run: box.value }); } };
  box.addEventListener("change", keep);
  box.addEventListener("keydown", event => {
    event.stopPropagation();
    if (event.key === "Enter" && (event.shiftKey || event.ctrlKey || event.metaKey)) { event.preventDefault(); run(); }
  });
  button.addEventListener("click", () => { if (model.get("is_running")) model.send({ stop: true }); else run(); });
  const show = () => {
    if (document.activeElement !== box) box.value = model.get("value");
    button.textContent = model.get("is_running") ? "Stop" : "Run";
  };
  model.on("change", show);
  show();
  el.append(box, button, hint);
  return () => model.off("change", show);
} };
"""


def console(run: Run, *, sql: str = "", folder: str | Path | None = None) -> "Console":
    """Return a query box over the run's tables, with a grid of the rows, and buttons that export them and keep them as a
    check's verdicts. Plain calls do the same:

        rows = store.query("SELECT id FROM instruction WHERE length(output) > 2000", run=run)
        store.export(rows, "rows.csv")
        run.mark(filters.failing(rows, run, name="too_long"))

    `sql` is the query to begin with, which is not run yet; files go into `folder`, by default `exports` in the run's own."""
    return Console(run, sql, Path(folder or run.folder / "exports"))


class Console:
    """What `console` returns: `rows` are those of the last query, None where it failed; `box` is the widget."""

    def __init__(self, run: Run, sql: str, folder: Path):
        widgets = require("ipywidgets", extra="notebook")
        self.run, self.folder, self.rows = run, folder, None
        first = next(iter(run.tables()))
        self.query_box = _query_box()(value=sql or f"SELECT * FROM {first} LIMIT 20")
        self.query_box.on_msg(lambda _, content, __: self._hear(content))
        self._stop = threading.Event()
        self._said, self._grid, self._kept = widgets.HTML(), widgets.HTML(), widgets.HTML()
        self.file = widgets.Text("rows.parquet", description="file", tooltip=".parquet or .csv")
        self.name = widgets.Text(placeholder="too_long", description="check")
        self.sense = widgets.Dropdown(
            options={"selected pass, others fail": filters.passing, "selected fail, others pass": filters.failing}
        )
        self.uncalibrated = widgets.Checkbox(description="uncalibrated judge", indent=False)
        self.export_button = widgets.Button(description="Export", disabled=True)
        self.save_button = widgets.Button(description="Save as verdicts", disabled=True)
        self.export_button.on_click(lambda _: self.export())
        self.save_button.on_click(lambda _: self.save())
        self.sense.layout.width, self.uncalibrated.layout.width = "200px", "150px"
        self.box = widgets.VBox([
            widgets.HTML(_header(run)), self.query_box, self._said, self._grid,
            widgets.HBox([self.file, self.export_button]),
            widgets.HBox([self.name, self.sense, self.uncalibrated, self.save_button]), self._kept,
        ])  # fmt: skip

    def _hear(self, content: dict[str, Any]) -> None:
        """Run a query, or stop it. It gets a thread of its own, so that the kernel stays free and Stop is heard."""
        if "stop" in content:
            self._stop.set()
        elif not self.query_box.is_running:
            self.query_box.is_running = True
            self._stop.clear()
            threading.Thread(target=self.query, args=(content["run"],), name="SQL console", daemon=True).start()

    def query(self, sql: str) -> None:
        """Run a query and show its rows, or why there are none."""
        self.query_box.is_running, self.query_box.value = True, sql
        self.export_button.disabled = self.save_button.disabled = True
        self.rows, self._said.value, self._grid.value, self._kept.value = None, _said("Running …"), "", ""
        started = time.perf_counter()

        def ask() -> str:
            self.rows = store.sql.answer(sql, None, {"run": self.run}, stop=self._stop)
            self._grid.value = _grid(self.rows)
            seconds = time.perf_counter() - started
            return _said(f"{len(self.rows):,} row{'' if len(self.rows) == 1 else 's'}, {seconds:.2f} s")

        try:
            self._said.value = _attempt(ask)
        finally:
            self.export_button.disabled = self.save_button.disabled = self.rows is None
            self.query_box.is_running = False

    def export(self) -> None:
        """Write the rows into the file that is named."""

        def write() -> str:
            path = store.export(self.rows, self.folder / self.file.value)
            return _said(f"{len(self.rows):,} rows are in {path}", f"store.export(rows, {str(path)!r})")

        self._kept.value = _attempt(write)

    def save(self) -> None:
        """Keep the rows as the verdicts of the check that is named."""

        def mark() -> str:
            name, uncalibrated = self.name.value.strip(), self.uncalibrated.value
            verdicts = self.sense.value(self.rows, self.run, name=name, uncalibrated=uncalibrated)
            older = 'SELECT count(*) AS n FROM verdict WHERE "check" = ?'
            before = store.query(older, [verdicts.name], run=self.run)["n"][0]
            self.run.mark(verdicts)
            instead = f", in place of {before:,} that had this name" if before else ""
            said = ", uncalibrated=True" if uncalibrated else ""
            call = f"run.mark(filters.{self.sense.value.__name__}(rows, run, name={name!r}{said}))"
            return _said(f"{verdicts!r}. Saved{instead}.", call)

        self._kept.value = _attempt(mark)

    def __repr__(self) -> str:
        return f"SQL console over {', '.join(self.run.tables())} of {self.run.info['recipe']}"

    def _repr_mimebundle_(self, **options: Any) -> dict[str, Any]:
        # The text is what is seen where no widget can be drawn, as on GitHub.
        return {**self.box._repr_mimebundle_(**options), "text/plain": repr(self)}


def _header(run: Run) -> str:
    """The run and its tables, as SQL names them."""
    note = " <span class='sdw-soft'>offline rules, no model</span>" if run.is_offline else ""
    tables = [
        f"<br><code>{escaped(store.described({name: part}), 2_000)}</code>" for name, part in run.tables().items()
    ]
    return f"{_STYLE}<div class='sdw'><b>{escaped(run.info['recipe'])}</b>{note}{''.join(tables)}</div>"


def _attempt(work: Callable[[], str]) -> str:
    """What `work` says, or what kept it from its end: a widget's exceptions would be seen by nobody."""
    try:
        return work()
    except (WorkbenchError, OverflowError, ValueError) as error:  # the last two are ids that Python has no place for
        return _said(str(error), kind="sdw-error")


def _said(text: str, call: str = "", *, kind: str = "") -> str:
    code = f"\n<code class='sdw-soft'>{escaped(call, 1_000)}</code>" if call else ""
    return f"<div class='sdw sdw-said {kind}'>{escaped(text, 4_000)}{code}</div>"


def _grid(rows: store.Rows) -> str:
    """The first rows and columns as an HTML table, long values folded."""
    shown = store.sql.readable(rows.arrow.slice(0, _SHOWN_ROWS).select(rows.columns[:_SHOWN_COLUMNS]))
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


@cache
def _query_box() -> type:
    """The class of the box that a query is typed into; its messages are {"run": text} and {"stop": true}."""
    anywidget, traitlets = require("anywidget", extra="notebook"), require("traitlets", extra="notebook")

    class QueryBox(anywidget.AnyWidget):
        _esm, _css = _BOX_SCRIPT, _BOX_STYLE
        value = traitlets.Unicode().tag(sync=True)
        is_running = traitlets.Bool().tag(sync=True)

    return QueryBox
