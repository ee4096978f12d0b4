"""Run the notebooks and keep their outputs: python -m tests.notebooks [names]

Each is run top to bottom in a kernel of its own with notebooks/ as working directory. Only a run without an error is
written back, without what changes from run to run and means nothing (times of cells, versions, widget state)."""

import os
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import nbformat
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError

FOLDER = Path(__file__).parents[1] / "notebooks"
LIMIT_SECONDS = 240
# No progress bars, no debugger's warning, no network, one thread a library.
QUIET = {"TQDM_DISABLE": "1", "PYDEVD_DISABLE_FILE_VALIDATION": "1", "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}


def execute(
    path: Path, parameters: Mapping[str, Any] | None = None, environment: Mapping[str, str] | None = None
) -> Any:
    """Return the notebook as it is after a clean run, with `parameters` set after the cell that is tagged so.

    Raises CellExecutionError with the cell and its traceback, KeyError for a parameter that it does not have."""
    notebook = nbformat.read(path, as_version=4)
    for cell in notebook.cells:
        if cell.cell_type == "code":
            cell.outputs, cell.execution_count = [], None
    if parameters:
        at = next(at for at, cell in enumerate(notebook.cells) if "parameters" in cell.metadata.get("tags", []))
        names = {line.partition("=")[0].strip() for line in notebook.cells[at].source.splitlines()}
        if unknown := parameters.keys() - names:
            raise KeyError(f"{path.name} has no parameter {unknown.pop()!r}; it has {', '.join(sorted(names))}.")
        source = "\n".join(f"{name} = {value!r}" for name, value in parameters.items())
        notebook.cells.insert(at + 1, nbformat.v4.new_code_cell(source))
    before = {name: os.environ.get(name) for name in QUIET | dict(environment or {})}
    os.environ.update(QUIET | dict(environment or {}))  # the kernel inherits it
    try:
        client = NotebookClient(
            notebook, timeout=LIMIT_SECONDS, kernel_name="python3", record_timing=False, store_widget_state=False,
            resources={"metadata": {"path": str(FOLDER)}},
        )  # fmt: skip
        client.execute()
    finally:
        for name, value in before.items():
            os.environ.pop(name) if value is None else os.environ.update({name: value})
    return notebook


def tidy(notebook: Any) -> Any:
    """Return the notebook without what a machine or a moment puts into it."""
    notebook.metadata = {
        "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
        "language_info": {"name": "python"},
    }
    for number, cell in enumerate(notebook.cells):
        cell.id = f"cell-{number:02d}"
        cell.metadata = {name: value for name, value in cell.metadata.items() if name == "tags"}
        for output in cell.get("outputs", []):  # a view of a widget that is gone with its kernel; its text stays
            output.get("data", {}).pop("application/vnd.jupyter.widget-view+json", None)
    return notebook


def main(names: list[str]) -> int:
    failed = 0
    for path in sorted(FOLDER.glob("*.ipynb")):
        if names and not any(name in path.name for name in names):
            continue
        started = time.monotonic()
        try:
            notebook = tidy(execute(path))
        except CellExecutionError as error:
            failed += 1
            print(f"{path.name}: {error}")
            continue
        path.write_text(nbformat.writes(notebook) + "\n", encoding="utf-8")
        print(f"{path.name}: {time.monotonic() - started:.1f} s, {path.stat().st_size / 1000:,.0f} kB")
    return failed


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
