"""`python -m tests.bench.map [rows ...]`: the map in JupyterLab and a headless Chromium, 100,000 rows unless others are named.

"first dots": from the start of the cell to dots on the page, in a new kernel, so imports are in it; "again": the same cell once
more. "lasso": from letting go of the mouse to the end of Python's callback, when the selection and its table are there; the
median and the worst of LASSOS. Chromium draws without a graphics card here."""

import math
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from tests import lab, maps

LASSOS = 7
CELLS = [
    """import time
from tests import maps
from workbench import widgets
view = widgets.map(maps.made({rows}, count=60))
heard = []
view.scatter.widget.observe(lambda _: heard.append((time.time(), len(view.selection))), names="selection")
view""",
    "print(*heard[-1])",
]


def main() -> None:
    if why := lab.why_no_browser():
        sys.exit(why)
    print(f"{'rows':>9}{'first dots s':>14}{'again s':>9}{'lasso s':>9}{'worst s':>9}{'selected':>10}")
    for rows in [int(each) for each in sys.argv[1:]] or [100_000]:
        with tempfile.TemporaryDirectory() as home, lab.jupyterlab(Path(home)) as jupyter, lab.browser() as page:
            notebook = jupyter.open(page, "map", [cell.format(rows=rows) for cell in CELLS])
            first, again = _dots(notebook), _dots(notebook)
            page.wait_for_timeout(3_000)
            found = [_lasso(notebook, at) for at in range(LASSOS)]
        seconds, selected = zip(*found, strict=True)
        print(
            f"{rows:>9,}{first:14.2f}{again:9.2f}{statistics.median(seconds):9.2f}{max(seconds):9.2f}{max(selected):>10,}",
            flush=True,
        )


def _dots(notebook: Any) -> float:
    """Seconds from the start of the first cell to dots on the page."""
    notebook.page.evaluate("window.jupyterapp.commands.execute('notebook:clear-all-cell-outputs')")
    notebook.page.locator(".sdw-map").wait_for(state="detached")
    started = time.perf_counter()
    notebook.run(0)
    notebook.page.wait_for_function(maps.HAS_DOTS, timeout=120_000, polling=50)
    return time.perf_counter() - started


def _lasso(notebook: Any, at: int) -> tuple[float, int]:
    """(seconds, rows selected) of a lasso around a part of the map, another each time."""
    page, box = notebook.page, notebook.cell(0).locator("canvas").first.bounding_box()

    def place(turn: float) -> tuple[float, float]:
        x, y = math.cos(turn) * 0.3, math.sin(turn) * 0.22
        return box["x"] + box["width"] * (0.5 + x) + 12 * (at - LASSOS / 2), box["y"] + box["height"] * (0.7 + y)

    page.mouse.move(*place(0))
    page.mouse.down()
    for step in range(1, 28):
        page.mouse.move(*place(step * 2 * math.pi / 30))
        page.wait_for_timeout(12)
    released = time.time()
    page.mouse.up()
    page.wait_for_timeout(2_500)
    notebook.run(1)
    notebook.wait_for(1)
    heard, selected = notebook.outputs(1)[0]["text"].split()
    if float(heard) < released:
        sys.exit("a lasso was not heard in 2.5 s")
    return float(heard) - released, int(selected)


if __name__ == "__main__":
    main()
