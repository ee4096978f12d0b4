"""What each tool's script shares: the prompts, the clock, and the one JSON line it prints.

Standard library only: it is imported inside every tool's own environment.
"""

import argparse
import json
import os
import resource
import time
from collections.abc import Callable
from pathlib import Path

CONCURRENCY = 64  # requests in flight, for the tools that have such a setting
MODEL = "bench-model"

SENTENCE = "When the queue is full, the service returns status 429."

FILLER = (
    "Each worker takes the oldest job from the queue and holds a lease on it for thirty seconds. "
    "A lease that runs out puts the job back at the head of the queue, and the attempt is counted. "
    f"{SENTENCE} "
    "Clients are expected to wait for the time in the reply's header before they send the job again. "
    "The length of the queue is set when the service starts and can not be changed while it runs."
)


def passage(index: int) -> str:
    """A text of about 500 characters that differs from every other index's."""
    return f"Section {index:07d} of the operations manual of the job service, revision {index * 7919 % 10007}. {FILLER}"


def prompt(index: int) -> str:
    """A user prompt of about 600 characters, distinct per index."""
    return f"Write one question about the passage, its answer, and the sentence that proves it.\n\n{passage(index)}"


def cpu_seconds() -> float:
    """User and system CPU seconds so far of this process and of its children, ended or still alive."""
    own = resource.getrusage(resource.RUSAGE_SELF)
    ended = resource.getrusage(resource.RUSAGE_CHILDREN)
    total = own.ru_utime + own.ru_stime + ended.ru_utime + ended.ru_stime
    return total + sum(_stat_cpu(pid) for pid in descendants(os.getpid()))


def peak_rss_mb() -> float:
    """Peak resident memory in MB (10**6 bytes) of this process or of its largest ended child: ru_maxrss."""
    usage = (resource.getrusage(who).ru_maxrss for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return max(usage) * 1024 / 1e6


def descendants(pid: int) -> list[int]:
    """The pids of all live descendants of `pid`, read from /proc; those that end meanwhile are left out."""
    found = []
    for listing in Path(f"/proc/{pid}/task").glob("*/children"):
        try:
            children = [int(child) for child in listing.read_text().split()]
        except OSError:
            continue
        for child in children:
            found += [child, *descendants(child)]
    return found


def _stat_cpu(pid: int) -> float:
    """CPU seconds of a live process and of the children it has waited for, 0 if it has gone."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return 0.0
    return sum(map(int, fields[11:15])) / os.sysconf("SC_CLK_TCK")


def main(**jobs: Callable[[int, str, Path], Callable[[], int]]) -> None:
    """Time one job of this tool and print one JSON line about it.

    A job is a function `prepare(rows, base_url, work)` that builds everything and returns `run`; `run()` does the
    work, leaves the texts stored the tool's usual way, and returns how many there are. Only `run()` is timed:
    imports and the making of the prompts are not. The line has rows, seconds (wall), cpu_seconds (this process and
    its children) and peak_rss_mb. `--job` picks one by its name here, "run" unless told.
    """
    parser = argparse.ArgumentParser()
    parser.add_argument("--rows", type=int, required=True)
    parser.add_argument("--base-url", required=True, help="ends before /chat/completions")
    parser.add_argument("--work", type=Path, required=True, help="folder for everything the tool writes")
    parser.add_argument("--job", choices=jobs, default="run")
    args = parser.parse_args()
    args.work.mkdir(parents=True, exist_ok=True)
    run = jobs[args.job](args.rows, args.base_url, args.work.resolve())
    cpu, start = cpu_seconds(), time.perf_counter()
    rows = run()
    seconds, cpu = time.perf_counter() - start, cpu_seconds() - cpu
    line = {
        "rows": rows,
        "seconds": round(seconds, 4),
        "cpu_seconds": round(cpu, 4),
        "peak_rss_mb": round(peak_rss_mb(), 1),
    }
    print("\n" + json.dumps(line), flush=True)
