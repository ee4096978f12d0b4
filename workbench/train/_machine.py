"""What trainings and measurements need of their machine: sums in one order, silent libraries, what it is and took."""

import contextlib
import importlib.metadata
import os
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path

from workbench._background import only_writer
from workbench.errors import RunError

_LIBRARIES = ("torch", "transformers", "trl", "peft", "accelerate")


def device() -> str:
    """Return "cpu", or the name of the GPU that is used."""
    import torch

    return torch.cuda.get_device_name() if torch.cuda.is_available() else "cpu"


def made_with() -> tuple[str, dict[str, str]]:
    """Return what numbers depend on beside data and settings: the device, and the versions of the libraries."""
    return device(), {name: importlib.metadata.version(name) for name in _LIBRARIES}


def memory_mb() -> float:
    """Return the peak memory so far: of the GPU where one is used, else of the process."""
    import resource

    import torch

    if torch.cuda.is_available():
        return torch.cuda.max_memory_allocated() / 2**20
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / 2**20 if sys.platform == "darwin" else peak / 2**10


@contextlib.contextmanager
def alone(threads: int = 1) -> Iterator[None]:
    """Within, torch sums in one order, nobody else's random numbers are drawn, no network is used, and libraries say nothing of
    their own affairs."""
    import datasets
    import torch
    from huggingface_hub import constants
    from transformers.utils import logging

    before, level = torch.get_num_threads(), logging.get_verbosity()
    bars, own_bars = datasets.are_progress_bars_disabled(), logging.is_progress_bar_enabled()
    torch.set_num_threads(threads)
    datasets.disable_progress_bars()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    # The base is a folder by now, and the libraries would still look for it at the Hub.
    was_offline, constants.HF_HUB_OFFLINE = constants.HF_HUB_OFFLINE, True
    try:
        with torch.random.fork_rng(), warnings.catch_warnings():
            # TRL hands transformers an argument by the name it had before; that is between the two.
            warnings.filterwarnings("ignore", message=".*checkpointing.* is deprecated", category=FutureWarning)
            yield
    finally:
        constants.HF_HUB_OFFLINE = was_offline
        torch.set_num_threads(before)
        logging.set_verbosity(level)
        if own_bars:
            logging.enable_progress_bar()
        if not bars:
            datasets.enable_progress_bars()


@contextlib.contextmanager
def held(out: str | os.PathLike[str]) -> Iterator[Path]:
    """Yield the folder, made where it is not there, and held for this process alone. Raises RunError where it cannot be."""
    out = Path(out)
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise RunError(f"cannot make {out}: {error.strerror}. Give out= a folder that can be written.") from None
    with only_writer(out):
        yield out
