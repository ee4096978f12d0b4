"""What a run needs of its process: one event loop in one background thread, a bar, the stop button, a folder to itself."""

import asyncio
import contextlib
import os
import signal
import sys
import threading
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from workbench.errors import RunError


class StopButton:
    """Counts SIGINT while it is entered, so that a stop never falls between two lines and leaves behind a run that goes on.

    Jupyter's own handler would not do: in a cell with `await` it waits for the event loop, which this call blocks."""

    def __init__(self) -> None:
        self.presses = 0

    def _press(self, *_: Any) -> None:
        self.presses += 1

    def __enter__(self) -> "StopButton":
        # Only the main thread may set a handler; an ignored signal (nohup) stays ignored.
        is_main = threading.current_thread() is threading.main_thread()
        self._is_held = is_main and callable(signal.getsignal(signal.SIGINT))
        if self._is_held:
            self._before = signal.signal(signal.SIGINT, self._press)
        return self

    def __exit__(self, *_: Any) -> None:
        if self._is_held:
            signal.signal(signal.SIGINT, self._before)


@contextlib.contextmanager
def progress_bar(label: str, total: int | None, unit: str, *, is_wanted: bool = True) -> Iterator[Any]:
    """Yield a tqdm bar, or None where nobody would see one: it is not wanted, or this is neither a notebook nor a terminal."""
    is_seen = "ipykernel" in sys.modules or sys.stderr.isatty()
    if not is_wanted or os.environ.get("TQDM_DISABLE") == "1" or not is_seen:
        yield None
        return
    from tqdm.auto import tqdm

    # In a narrow notebook only a bar of dynamic width keeps its text, on a line of its own.
    with tqdm(total=total, desc=label, unit=f" {unit}", leave=False, dynamic_ncols=True) as bar:
        yield bar


@contextlib.contextmanager
def only_writer(out: Path) -> Iterator[None]:
    """Hold the folder for one run; the lock goes with the process, so a killed run leaves none behind."""
    import fcntl

    with (out / ".lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise RunError(
                f"another run is writing to {out}. Wait for it, stop it, or give this run a folder of its own."
            ) from None
        yield


def _fastest_loop() -> asyncio.AbstractEventLoop:
    """uvloop where there is one: a quarter more rows a second."""
    try:
        import uvloop
    except ImportError:
        return asyncio.new_event_loop()
    return uvloop.new_event_loop()


_loops: dict[int, asyncio.AbstractEventLoop] = {}
_starting = threading.Lock()


def background_loop() -> asyncio.AbstractEventLoop:
    """The one background event loop of this process, by process id: a forked child inherits the loop and not its thread."""
    with _starting:
        if os.getpid() not in _loops:
            loop = _loops[os.getpid()] = _fastest_loop()
            threading.Thread(target=loop.run_forever, name="workbench", daemon=True).start()
        return _loops[os.getpid()]


using: Counter[int] = Counter()  # runs under way on the background loop, by the id of their client


async def close_unused(client: Any) -> None:
    """Close the client's connections after its last run: left open, they complain when client or program goes."""
    using[id(client)] -= 1
    if not using[id(client)]:
        del using[id(client)]
        if (close := getattr(client, "aclose", None)) is not None:
            await close()
