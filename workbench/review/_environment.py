"""The server's own Python environment: argilla-server pins what a notebook needs in other versions."""

import contextlib
import fcntl
import hashlib
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from workbench._background import progress_bar
from workbench.errors import ReviewError

FOLDER = Path(__file__).with_name("_server")
ARGILLA = "2.8.0"
PYTHONS = ((3, 11), (3, 12), (3, 13))  # pydantic-core 2.23, which it pins, has no wheel for 3.14
_MEGABYTES = 440  # installed


def environment(python: str | os.PathLike[str] = "") -> Path:
    """Return the interpreter of the server's environment, which is made where there is none yet.

    `python` is the interpreter to make it with, by default this one. It is in $WORKBENCH_CACHE, by default a folder in
    the user's cache, for every project with the same lock and the same version of Python. It is made with the lock's
    exact packages, from where pip is set up to look; this takes the network once, and some 440 MB. Raises ReviewError
    when the version of Python will not do, or with pip's own words."""
    version = _version(python)
    lock = FOLDER / "requirements.lock"
    digest = hashlib.sha256(lock.read_bytes()).hexdigest()[:12]
    folder = cache() / f"argilla-{ARGILLA}-py{version[0]}.{version[1]}-{digest}"
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with _only_maker(folder.with_suffix(f"{folder.suffix}.lock")):
            if not (folder / ".ready").exists():
                _make(folder, str(python) or sys.executable, lock)
    except OSError as error:
        raise ReviewError(
            f"Argilla's environment cannot be made in {folder.parent}: {error.strerror}. It needs {_MEGABYTES} MB there; "
            "set WORKBENCH_CACHE to a folder elsewhere."
        ) from error
    return _interpreter(folder)


def cache() -> Path:
    """Return the folder of what can be made again."""
    given = os.environ.get("WORKBENCH_CACHE")
    return Path(given or Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache", "synthetic-data-workbench")).expanduser()


def forget(interpreter: Path) -> None:
    """Let an environment be made anew the next time, because something in it is broken."""
    (interpreter.parents[1] / ".ready").unlink(missing_ok=True)


def _interpreter(folder: Path) -> Path:
    return folder / "bin" / "python"


def _version(python: str | os.PathLike[str]) -> tuple[int, int]:
    version = sys.version_info[:2]
    if python:
        asked = [str(python), "-c", "import sys; print(*sys.version_info[:2])"]
        try:
            major, minor = subprocess.run(asked, capture_output=True, text=True, check=True).stdout.split()
            version = int(major), int(minor)
        except (OSError, ValueError, subprocess.CalledProcessError) as error:
            raise ReviewError(f"{str(python)!r} is no Python that runs: {error}. Give the path of one.") from error
    if version not in PYTHONS:
        raise ReviewError(
            f"argilla-server {ARGILLA} runs on Python 3.11 to 3.13, and this is {version[0]}.{version[1]}. It gets an environment of its "
            "own, so another Python on this machine will do: review.start(python='python3.13')."
        )
    return version


@contextlib.contextmanager
def _only_maker(path: Path) -> Iterator[None]:
    with path.open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _make(folder: Path, python: str, lock: Path) -> None:
    """Make the environment; the mark that it is ready comes last, so that one that was cut off is made again."""
    shutil.rmtree(folder, ignore_errors=True)
    packages = sum(1 for line in lock.read_text().splitlines() if "==" in line)
    with progress_bar("Argilla's environment, once", packages, "packages") as bar:
        _run([python, "-m", "venv", str(folder)], bar)
        # Isolated, or packages that PYTHONPATH shows would count as installed.
        pip = [
            str(_interpreter(folder)),
            "-I",
            "-m",
            "pip",
            "install",
            "--no-deps",
            "--only-binary=:all:",
            "--no-input",
        ]
        _run([*pip, "--disable-pip-version-check", "--progress-bar=off", "-r", str(lock)], bar)
    (folder / ".ready").touch()


def _run(command: list[str], bar: object) -> None:
    """Run a command to its end, with a step of the bar for each package it collects. Raises ReviewError with what it said last."""
    said: list[str] = []
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace")
    try:
        for line in process.stdout:
            said.append(line)
            if bar is not None and line.startswith("Collecting "):
                bar.update()
            if bar is not None and line.startswith("Installing collected"):
                bar.set_postfix_str("installing")
        process.wait()
    finally:
        process.kill()  # after the stop button
        process.wait()
    if process.returncode:
        last = "".join(said[-12:]).strip() or "It said nothing."
        raise ReviewError(
            f"Argilla's environment could not be made ({' '.join(command[:5])} …):\n{last}\nIt takes the network once; run it again "
            "when that is there. A server elsewhere needs none of this: review.connect(url, api_key)."
        )
