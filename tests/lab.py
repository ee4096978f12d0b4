"""Kernels, JupyterLab and a browser for tests: what a person at a notebook uses, started and stopped.

with kernel(tmp_path) as k:                  # a kernel of its own, no browser
    cell = k.start("1 + 1")                  # or k.run(source), which waits for the end
    k.interrupt(); k.finish(cell); cell.error, cell.text, cell.stderr

with jupyterlab(tmp_path) as lab, browser() as page:
    notebook = lab.open(page, "first", [source, source])
    notebook.run_all(); notebook.press("interrupt-kernel"); notebook.wait_for(0); notebook.outputs(0)
    assert page.outside == []                # addresses asked for that are not on this machine"""

import contextlib
import functools
import json
import os
import re
import secrets
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import ROOT

CHROMIUM = os.environ.get("CHROMIUM") or shutil.which("chromium") or shutil.which("google-chrome")
# No sandbox, because CI runs as root; the rest keeps the browser from calling home.
FLAGS = [
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync",
]  # fmt: skip
ON_THIS_MACHINE = re.compile(r"(https?|wss?)://127\.0\.0\.1[:/]|data:|blob:")
COLOUR_CODES = re.compile(r"\x1b\[[0-9;]*m")


@functools.cache
def why_no_browser() -> str:
    """Why no browser can be started here; empty when one can."""
    try:
        import jupyterlab  # noqa: F401
        import playwright  # noqa: F401
    except ImportError as error:
        return f"needs {error.name}: pip install -e .[notebook,test]"
    return "" if CHROMIUM else "needs Chromium: apt-get install chromium, or set CHROMIUM to its path"


needs_browser = pytest.mark.skipif(bool(why_no_browser()), reason=why_no_browser())


def environment(home: Path) -> dict[str, str]:
    """This process's environment with every Jupyter folder under `home`, and the project importable."""
    return {
        **os.environ, "HOME": str(home), "IPYTHONDIR": str(home / "ipython"), "PYTHONPATH": str(ROOT),
        **{f"JUPYTER_{name}_DIR": str(home / name.lower()) for name in ("CONFIG", "DATA", "RUNTIME")},
    }  # fmt: skip


# --- a kernel without a browser ---------------------------------------------------------------------------------------


@dataclass
class Cell:
    """One execution: what it printed, what it showed, how it ended."""

    message: str
    text: str = ""  # standard output
    stderr: str = ""
    shown: list[dict[str, Any]] = field(default_factory=list)  # MIME bundles of results and displays
    error: str = ""  # the name of the exception; empty when there was none
    error_text: str = ""
    traceback: str = ""  # as a notebook shows it, without colours


class Kernel:
    """A running kernel and the one client that drives it."""

    def __init__(self, manager: Any, client: Any, log: Path):
        self.manager, self._client, self._log = manager, client, log

    def start(self, source: str) -> Cell:
        """Return the cell when the kernel has begun to execute it: an interrupt that comes before is lost."""
        cell = Cell(self._client.execute(source))
        next(message for message in self._messages(cell) if message["msg_type"] == "execute_input")
        return cell

    def finish(self, cell: Cell, seconds: float = 30) -> Cell:
        """Return the cell, filled in, when it has ended. Raises queue.Empty after `seconds` without a message."""
        for message in self._messages(cell, seconds):
            content = message["content"]
            match message["msg_type"]:
                case "stream":
                    if content["name"] == "stdout":
                        cell.text += content["text"]
                    else:
                        cell.stderr += content["text"]
                case "execute_result" | "display_data":
                    cell.shown.append(content["data"])
                case "error":
                    cell.error, cell.error_text = content["ename"], content["evalue"]
                    cell.traceback = COLOUR_CODES.sub("", "\n".join(content["traceback"]))
                case "status" if content["execution_state"] == "idle":
                    break
        return cell

    def _messages(self, cell: Cell, seconds: float = 30) -> Iterator[dict[str, Any]]:
        while True:
            message = self._client.get_iopub_msg(timeout=seconds)
            if message["parent_header"].get("msg_id") == cell.message:
                yield message

    def run(self, source: str) -> Cell:
        return self.finish(self.start(source))

    def interrupt(self) -> None:
        """What the stop button does."""
        self.manager.interrupt_kernel()

    def stop(self) -> None:
        """End the kernel in good order, so that what it says at its end is in the log."""
        self.manager.shutdown_kernel()

    @property
    def log(self) -> str:
        """What the kernel's process wrote to its terminal, less its greeting."""
        return "\n".join(line for line in self._log.read_text().splitlines() if "TCP without encryption" not in line)


@contextlib.contextmanager
def kernel(home: Path) -> Iterator[Kernel]:
    """A kernel of its own whose working folder is `home`."""
    from jupyter_client.manager import KernelManager

    home.mkdir(parents=True, exist_ok=True)
    manager = KernelManager(kernel_name="python3")
    log = home / "kernel.log"
    with log.open("w") as terminal:
        manager.start_kernel(env=environment(home), cwd=str(home), stdout=terminal, stderr=terminal)
        client = manager.client()
        client.start_channels()
        try:
            client.wait_for_ready(timeout=60)
            yield Kernel(manager, client, log)
        finally:
            client.stop_channels()
            manager.shutdown_kernel(now=True)


# --- JupyterLab and a browser -----------------------------------------------------------------------------------------

# The toolbar says "idle" before there is a session, and running in that window opens a dialog.
_IS_READY = """() => {
    const panel = window.jupyterapp?.shell?.currentWidget;
    const kernel = panel?.sessionContext?.session?.kernel;
    return panel?.sessionContext?.isReady && kernel?.status === 'idle' && panel.content?.model?.cells?.length > 0;
}"""
# Lab draws cells lazily, so their state is read from the model and not from the page. The kernel's own state would not
# do: messages of widgets that come in between set it to idle while a cell is still running.
_CELL = "window.jupyterapp.shell.currentWidget.content.model.cells.get(at)"
_OUTPUTS = f"at => {_CELL}.outputs.toJSON()"
_HAS_ENDED = f"at => {_CELL}.executionState === 'idle' && {_CELL}.executionCount !== null"


class Notebook:
    """An open notebook in a page."""

    def __init__(self, page: Any):
        self.page = page

    def command(self, name: str) -> None:
        """Begin one of JupyterLab's commands, for example "notebook:run-all-cells"."""
        self.page.evaluate("name => void window.jupyterapp.commands.execute(name)", name)

    def run_all(self) -> None:
        self.command("notebook:run-all-cells")

    def run(self, at: int) -> None:
        """Select a cell and press the toolbar's run button."""
        self.page.evaluate("at => { window.jupyterapp.shell.currentWidget.content.activeCellIndex = at }", at)
        self.press("run-cell-and-select-next")

    def press(self, name: str) -> None:
        """Click the toolbar button of a command, for example "interrupt-kernel"."""
        self.page.locator(f".jp-NotebookPanel-toolbar [data-command='notebook:{name}']").first.click()

    def outputs(self, at: int) -> list[dict[str, Any]]:
        """The outputs of a cell, as in the file."""
        return self.page.evaluate(_OUTPUTS, at)

    def cell(self, at: int) -> Any:
        """The cell as it is drawn."""
        return self.page.locator(f".jp-Notebook .jp-Cell[data-windowed-list-index='{at}']")

    def wait_for(self, at: int, seconds: float = 30) -> None:
        """Wait until a cell that was started has ended, well or not."""
        self.page.wait_for_function(_HAS_ENDED, arg=at, timeout=seconds * 1000)


@dataclass(frozen=True)
class Lab:
    """A running JupyterLab; notebooks are in `folder`."""

    url: str
    token: str
    folder: Path

    def open(self, page: Any, name: str, cells: list[str]) -> Notebook:
        """Write a notebook of these code cells and open it, with its kernel ready."""
        import nbformat

        book = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(source) for source in cells])
        book.metadata["kernelspec"] = {"name": "python3", "display_name": "Python 3", "language": "python"}
        nbformat.write(book, self.folder / f"{name}.ipynb")
        page.goto(f"{self.url}/lab/tree/{name}.ipynb?token={self.token}&reset")
        page.wait_for_function(_IS_READY, timeout=90_000)
        return Notebook(page)


@contextlib.contextmanager
def jupyterlab(home: Path) -> Iterator[Lab]:
    """A JupyterLab on loopback that reads and writes nothing outside `home`."""
    folder = home / "notebooks"
    folder.mkdir(parents=True, exist_ok=True)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    token, url = secrets.token_hex(8), f"http://127.0.0.1:{port}"
    command = [
        sys.executable, "-m", "jupyterlab", "--no-browser", "--allow-root", "--ip=127.0.0.1", f"--port={port}",
        "--ServerApp.port_retries=0", f"--IdentityProvider.token={token}", f"--ServerApp.root_dir={folder}",
        "--LabApp.expose_app_in_browser=True",
    ]  # fmt: skip
    # The news popup covers the lower right of the page, and asks the network.
    settings = home / "settings" / "overrides.json"
    settings.parent.mkdir(exist_ok=True)
    no_news = {"fetchNews": "false", "checkForUpdates": False}
    settings.write_text(json.dumps({"@jupyterlab/apputils-extension:notification": no_news}))
    command.append(f"--LabServerApp.app_settings_dir={settings.parent}")
    with (home / "jupyterlab.log").open("w") as log:
        process = subprocess.Popen(command, env=environment(home), cwd=home, stdout=log, stderr=log)
        try:
            _wait_for(lambda: _answers(f"{url}/api/status?token={token}"), process, home / "jupyterlab.log")
            yield Lab(url, token, folder)
        finally:
            process.terminate()
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                process.kill()


def _answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=2):
            return True
    except OSError:
        return False


def _wait_for(is_there: Callable[[], bool], process: subprocess.Popen, log: Path, seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while not is_there():
        assert process.poll() is None and time.monotonic() < deadline, log.read_text()[-2000:]
        time.sleep(0.1)


@contextlib.contextmanager
def browser(width: int = 1400, height: int = 1000) -> Iterator[Any]:
    """A page of a headless Chromium; `page.outside` lists the addresses it asked for that are not on this machine."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        page = chromium.new_page(viewport={"width": width, "height": height})
        page.outside = []

        def note(url: str) -> None:
            if not ON_THIS_MACHINE.match(url):
                page.outside.append(url)

        page.on("request", lambda request: note(request.url))
        page.on("websocket", lambda socket: note(socket.url))
        try:
            yield page
        finally:
            chromium.close()


def darken(page: Any) -> None:
    """Change JupyterLab to its dark theme, and wait until the page is drawn in it."""
    page.evaluate("void window.jupyterapp.commands.execute('apputils:change-theme', { theme: 'JupyterLab Dark' })")
    page.wait_for_function("document.body.dataset.jpThemeLight === 'false'")
    page.locator("#jupyterlab-splash").wait_for(state="detached")
    page.wait_for_timeout(500)
