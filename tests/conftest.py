"""What every test may use: the bundled documents, the shared real data, and servers on loopback."""

import os
import signal
from pathlib import Path

import pytest
from hypothesis import settings

# In CI the same examples every time: a new one found by chance should stop a person, not an unrelated change.
settings.register_profile("ci", derandomize=True)
if os.environ.get("CI"):
    settings.load_profile("ci")

# Started in the background by a shell, a process ignores Ctrl-C and so do those it starts; tests of the stop button send it.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

ROOT = Path(__file__).parents[1]
os.environ.setdefault("HF_HUB_OFFLINE", "1")  # no test reaches for the network
os.environ.setdefault("OMP_NUM_THREADS", "1")  # two threads on shared cores are slower than one


@pytest.fixture(scope="session")
def bundled():
    """The bundled documents."""
    from workbench import store

    return store.documents(ROOT / "data" / "documents")


@pytest.fixture(scope="session")
def shared():
    """The folder of real data beside the project; tests that need it are skipped where it is absent."""
    folder = ROOT.parent / "shared" / "data"
    if not folder.is_dir():
        pytest.skip("needs the shared real data, which is not beside this checkout")
    return folder


@pytest.fixture(scope="session")
def argilla(tmp_path_factory):
    """A running Argilla, empty at first. Its environment is made once, in the user's cache; skipped where that cannot be."""
    from workbench.errors import ReviewError
    from workbench.review import _environment, server

    try:
        _environment.environment()
    except ReviewError as error:
        if os.environ.get("CI"):
            raise  # or a lock that cannot be installed would look like a missing network
        pytest.skip(f"needs Argilla's environment: {error}")
    running = server.start(tmp_path_factory.mktemp("argilla"))
    yield running
    running.stop()
