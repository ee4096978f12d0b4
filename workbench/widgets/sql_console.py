"""The SQL console: a query box over a run's tables."""

import threading
import time
from functools import cache
from pathlib import Path
from typing import Any

from workbench import store
from workbench._html import escaped
from workbench.errors import require
from workbench.quality import filters
from workbench.runs import Run
from workbench.widgets._parts import STYLE, attempt, grid, said

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
        self.rows, self._said.value, self._grid.value, self._kept.value = None, said("Running …"), "", ""
        started = time.perf_counter()

        def ask() -> str:
            self.rows = store.sql.answer(sql, None, {"run": self.run}, stop=self._stop)
            self._grid.value = grid(self.rows)
            seconds = time.perf_counter() - started
            return said(f"{len(self.rows):,} row{'' if len(self.rows) == 1 else 's'}, {seconds:.2f} s")

        try:
            self._said.value = attempt(ask)
        finally:
            self.export_button.disabled = self.save_button.disabled = self.rows is None
            self.query_box.is_running = False

    def export(self) -> None:
        """Write the rows into the file that is named."""

        def write() -> str:
            path = store.export(self.rows, self.folder / self.file.value)
            return said(f"{len(self.rows):,} rows are in {path}", f"store.export(rows, {str(path)!r})")

        self._kept.value = attempt(write)

    def save(self) -> None:
        """Keep the rows as the verdicts of the check that is named."""

        def mark() -> str:
            name, uncalibrated = self.name.value.strip(), self.uncalibrated.value
            verdicts = self.sense.value(self.rows, self.run, name=name, uncalibrated=uncalibrated)
            older = 'SELECT count(*) AS n FROM verdict WHERE "check" = ?'
            before = store.query(older, [verdicts.name], run=self.run)["n"][0]
            self.run.mark(verdicts)
            instead = f", in place of {before:,} that had this name" if before else ""
            also = ", uncalibrated=True" if uncalibrated else ""
            call = f"run.mark(filters.{self.sense.value.__name__}(rows, run, name={name!r}{also}))"
            return said(f"{verdicts!r}. Saved{instead}.", call)

        self._kept.value = attempt(mark)

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
    return f"{STYLE}<div class='sdw'><b>{escaped(run.info['recipe'])}</b>{note}{''.join(tables)}</div>"


@cache
def _query_box() -> type:
    """The class of the box that a query is typed into; its messages are {"run": text} and {"stop": true}."""
    anywidget, traitlets = require("anywidget", extra="notebook"), require("traitlets", extra="notebook")

    class QueryBox(anywidget.AnyWidget):
        _esm, _css = _BOX_SCRIPT, _BOX_STYLE
        value = traitlets.Unicode().tag(sync=True)
        is_running = traitlets.Bool().tag(sync=True)

    return QueryBox
