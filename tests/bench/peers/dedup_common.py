"""What each deduplicating script shares: the texts, the clock, and the one JSON line it prints. Standard library only."""

import json
import sys
import time
from collections.abc import Callable
from pathlib import Path


def peak_mb() -> float:
    """The most memory this program had; getrusage would count what had been its parent's when it was forked."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM")) / 1024


def main(removed: Callable[[list[str], float], list[int]], prepare: Callable[[list[str], Path], None] | None = None) -> None:
    """`script FOLDER THRESHOLD [...]`: print seconds, CPU seconds, peak memory before and in all, in MB, and the places of the rows removed."""
    folder, threshold = Path(sys.argv[1]), float(sys.argv[2])
    texts = (folder / "texts.txt").read_text(encoding="utf-8").splitlines()
    if prepare:
        prepare(texts, folder)
    before = peak_mb()
    started, cpu = time.perf_counter(), time.process_time()
    gone = removed(texts, threshold)
    found = {"seconds": time.perf_counter() - started, "cpu_seconds": time.process_time() - cpu}
    print(json.dumps({**found, "peak_mb": peak_mb(), "before_mb": before, "removed": sorted(gone)}))
