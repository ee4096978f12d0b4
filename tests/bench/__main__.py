"""`python -m tests.bench`: one table of our runner, three other tools and bare aiohttp on one local server.

Every tool gets the same number of distinct prompts and the same static answer from an nginx on 127.0.0.1,
and stores its rows the way it usually does. The other tools live in environments of their own, made on the
first run (this needs pip) under $WORKBENCH_BENCH_VENVS, by default ~/.cache/workbench-bench. Runs of bare
aiohttp are interleaved with the runs of every tool, because other load on the machine comes and goes; the
column "x aiohttp" compares each run with the ones right before and after it.

Writes results.json and results.md next to this file.
"""

import argparse
import contextlib
import json
import os
import platform
import signal
import statistics
import subprocess
import sys
import tempfile
import time
import venv
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from tests.bench.peers.common import CONCURRENCY, descendants
from tests.bench.server import Server

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
VENVS = Path(os.environ.get("WORKBENCH_BENCH_VENVS", "~/.cache/workbench-bench")).expanduser()

TIMEOUT_S = 600  # a run that takes longer is ended and counts as failed
SKIP_S = 400  # a run predicted to take longer is not started
QUICK_S = 20  # a size whose first run takes longer than this is run once only
STALL_S = 60  # a killed run that is started again counts as hung once this long without a request
REPLAY_ROWS = 10_000  # rows of the run that is replayed from our ledger
PLANNED = (10_000, 1_000_000)  # tasks of the plans whose memory is compared
SAMPLE_S = 0.5  # how often memory is read; often enough to see batches, seldom enough not to slow the run

# No tool may talk to anything but 127.0.0.1: telemetry is off, and a proxy that nobody serves stops the rest.
ENV = {
    "CURATOR_DISABLE_RICH_DISPLAY": "1",
    "CURATOR_VIEWER": "0",
    "DISTILABEL_LOG_LEVEL": "WARNING",
    "DO_NOT_TRACK": "1",
    "HF_DATASETS_OFFLINE": "1",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "HF_HUB_OFFLINE": "1",
    "LITELLM_LOCAL_MODEL_COST_MAP": "True",
    "NEMO_TELEMETRY_ENABLED": "false",
    "OTEL_SDK_DISABLED": "true",
    "TELEMETRY_ENABLED": "false",
    **{name: "http://127.0.0.1:9" for name in ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY")},
    **{name: "127.0.0.1" for name in ("no_proxy", "NO_PROXY")},
}


@dataclass
class Tool:
    """One line of the table: the script peers/<module>.py and the packages it needs beside the standard library.

    Without packages the script runs with the interpreter that runs this driver.
    """

    name: str
    module: str
    packages: tuple[str, ...] = ()
    note: str = ""


CEILING = Tool(
    "aiohttp, bare",
    "aiohttp",
    note=f"{CONCURRENCY} requests in flight, writes one JSON line per answer, keeps nothing to resume from.",
)
TOOLS = [
    Tool(
        "workbench",
        "ours",
        note=f"{CONCURRENCY} requests in flight; rag_qa without controls and negatives: its own prompt (3,600 "
        "characters), answers parsed, evidence checked, every answer in the ledger before its row is made.",
    ),
    Tool(
        "distilabel",
        "distilabel",
        ("distilabel==1.5.3", "requests==2.34.2", "openai==3.54.0"),
        note="TextGeneration with input_batch_size 64 (50 and 500 did not differ beyond noise, two replicas were no "
        "faster), log level WARNING; a batch is sent at once and waited for, so 64 is also its concurrency. "
        "Resuming a killed run from its cache is a known problem (argilla-io/distilabel issue 1065).",
    ),
    Tool(
        "data-designer",
        "data_designer",
        ("data-designer==0.9.6",),
        note=f"max_parallel_requests {CONCURRENCY}, buffer_size 1,000 (its default), resume if_possible; its token "
        "statistics need a download and are left out offline.",
    ),
    Tool(
        "curator",
        "curator",
        ("bespokelabs-curator==0.1.31",),
        note=f"max_concurrent_requests {CONCURRENCY}, per-minute limits out of the way; every start sends one "
        "request of its own to read rate limits, and those count as repeated; making the LLM object took "
        "another 2 to 3 s, which is not in its first row.",
    ),
]


class Failed(Exception):
    """A tool gave no result; the text is the reason, short enough for the table."""


def interpreter(tool: Tool) -> str:
    """The Python that runs the tool's script, its environment made first if it is not there yet."""
    if not (HERE / "peers" / f"{tool.module}.py").exists():
        raise Failed(f"peers/{tool.module}.py is not there")
    if not tool.packages:
        return sys.executable
    folder = VENVS / tool.module
    ready = folder / "ready.txt"
    wanted = "\n".join(tool.packages)
    if not ready.exists() or ready.read_text() != wanted:
        print(f"making an environment for {tool.name} ...", file=sys.stderr)
        venv.create(folder, with_pip=True, clear=True)
        pip = [folder / "bin" / "python", "-m", "pip", "install", "-q", "--disable-pip-version-check"]
        done = subprocess.run([*pip, *tool.packages], capture_output=True, text=True)
        if done.returncode:
            raise Failed(f"pip install failed: {_last_line(done.stderr)}")
        ready.write_text(wanted)
    return str(folder / "bin" / "python")


@dataclass
class Job:
    """A started script of one tool; the process and its descendants form a session of their own."""

    tool: Tool
    rows: int
    url: str
    work: Path
    job: str = "run"

    def __post_init__(self):
        self.work.mkdir(parents=True, exist_ok=True)
        self.output = self.work / "output.txt"
        module = f"tests.bench.peers.{self.tool.module}"
        options = ["--rows", str(self.rows), "--base-url", self.url, "--work", str(self.work), "--job", self.job]
        with open(self.output, "w") as output:
            self.process = subprocess.Popen(
                [interpreter(self.tool), "-m", module, *options],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                cwd=self.work,
                env=os.environ | ENV | {"HOME": str(self.work), "PYTHONPATH": str(ROOT)},
                start_new_session=True,
            )

    def kill(self) -> None:
        """SIGKILL the process and everything it started."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()

    def result(self, watch: Callable[[], None] = lambda: None) -> dict:
        """Wait for the end and return the script's JSON line; Failed on an error or after TIMEOUT_S.

        peak_rss_mb becomes the larger of what the script says (ru_maxrss of one process) and the sampled
        sum over all its processes. `watch` is called with every sample and may raise.
        """
        deadline = time.monotonic() + TIMEOUT_S
        peak = 0.0
        try:
            while True:
                with contextlib.suppress(subprocess.TimeoutExpired):
                    self.process.wait(SAMPLE_S)
                    break
                if time.monotonic() > deadline:
                    raise Failed(f"not done after {TIMEOUT_S} s")
                watch()
                peak = max(peak, tree_mb(self.process.pid))
        finally:
            self.kill()
        text = self.output.read_text(errors="replace")
        lines = [line for line in text.splitlines() if line.startswith('{"rows"')]
        if self.process.returncode or not lines:
            raise Failed(_last_line(text) or f"exit code {self.process.returncode}")
        result = json.loads(lines[-1])
        result["peak_rss_mb"] = max(result["peak_rss_mb"], round(peak, 1))
        return result


def tree_mb(pid: int) -> float:
    """MB (10**6 bytes) of memory of a process and its descendants: the sum of PSS, so shared pages count once."""
    total = 0
    for one in [pid, *descendants(pid)]:
        try:
            rollup = Path(f"/proc/{one}/smaps_rollup").read_text()
        except OSError:
            continue
        total += sum(int(line.split()[1]) for line in rollup.splitlines() if line.startswith("Pss:"))
    return total * 1024 / 1e6


def complete(tool: Tool, rows: int, url: str, work: Path, **how) -> dict:
    """The result of one run that must give all `rows`."""
    result = Job(tool, rows, url, work, how.pop("job", "run")).result(**how)
    if result["rows"] != rows:
        raise Failed(f"{result['rows']} of {rows} rows")
    return result


class Bench:
    """All measurements of one call, each in a work folder of its own below `scratch`."""

    def __init__(self, scratch: Path):
        self.scratch = scratch
        self.runs = 0
        self.ceiling: dict[int, list[dict]] = {}

    def folder(self) -> Path:
        self.runs += 1
        return self.scratch / f"run{self.runs}"

    def speed(self, tool: Tool, rows: int, repeats: int) -> dict:
        """Medians over `repeats` runs, each between two runs of the ceiling."""
        runs, ratios = [], []
        with Server() as server:
            before = self._ceiling(rows, server.url)
            for _ in range(repeats):
                runs.append(complete(tool, rows, server.url, self.folder()))
                after = self._ceiling(rows, server.url)
                ratios.append((before + after) / 2 / runs[-1]["seconds"])
                before = after
                if runs[-1]["seconds"] > QUICK_S:
                    break
        return _medians(runs) | {"of_aiohttp": round(statistics.median(ratios), 3), "runs": len(runs)}

    def _ceiling(self, rows: int, url: str) -> float:
        """Seconds of one run of bare aiohttp, kept for its own line of the table."""
        result = complete(CEILING, rows, url, self.folder())
        self.ceiling.setdefault(rows, []).append(result)
        return result["seconds"]

    def first_row(self, tool: Tool, repeats: int) -> float:
        """Seconds from the call of run() to the rows of a 2-row job: the median of `repeats`."""
        with Server() as server:
            runs = [complete(tool, 2, server.url, self.folder()) for _ in range(repeats)]
        return _medians(runs)["seconds"]

    def repeated(self, tool: Tool, rows: int) -> dict:
        """Requests beyond `rows` that the server saw when a run was killed half way and started again.

        The kill is a SIGKILL to every process of the tool once half of the requests were answered; the
        second run has the same work folder.
        """
        work = self.folder()
        with Server(count=True) as server:
            job = Job(tool, rows, server.url, work)
            deadline = time.monotonic() + TIMEOUT_S
            try:
                while server.requests() < rows // 2:
                    if job.process.poll() is not None or time.monotonic() > deadline:
                        raise Failed("it ended before it could be killed")
                    time.sleep(0.001)
            finally:
                job.kill()
            at_kill = server.requests()
            complete(tool, rows, server.url, work, watch=_stall(server, rows))
            return {"rows": rows, "at_kill": at_kill, "repeated": server.requests() - rows}

    def tool(self, tool: Tool, sizes: list[int], repeats: int, kill_rows: int) -> dict:
        """Every measurement of one tool; where one fails its value is {"failed": reason}."""
        found: dict = {"first_row_seconds": _attempt(self.first_row, tool, repeats), "speed": {}}
        for rows in sizes:
            predicted = _predict(found, rows)
            if predicted > SKIP_S:
                found["speed"][rows] = {"failed": f"skipped: about {predicted:.0f} s predicted"}
            else:
                found["speed"][rows] = _attempt(self.speed, tool, rows, repeats)
        if _predict(found, kill_rows) > SKIP_S:
            kill_rows = min(sizes)
        found["kill"] = _attempt(self.repeated, tool, kill_rows)
        found["load"] = round(os.getloadavg()[0], 2)
        return found

    def ours(self) -> dict:
        """What only our tool has: replay from the ledger, and memory by the length of the plan.

        `replay` is a second run of REPLAY_ROWS in a new process, from the first one's ledger into a new folder;
        `lookup` is the ledger alone; `planned_mb` is peak memory in MB of plans of so many tasks, all of them made.
        """
        tool, work = TOOLS[0], self.folder()
        with Server(count=True) as server:
            complete(tool, REPLAY_ROWS, server.url, work)
            before = server.requests()
            replay = complete(tool, REPLAY_ROWS, server.url, work, job="replay")
            sent = server.requests() - before
            lookup = Job(tool, REPLAY_ROWS, server.url, self.folder(), "lookup").result()
            planned = {rows: Job(tool, rows, server.url, self.folder(), "planned").result() for rows in PLANNED}
        return {
            "replay": replay | {"requests_sent": sent},
            "lookup": lookup,
            "planned_mb": {rows: result["peak_rss_mb"] for rows, result in planned.items()},
        }


def _stall(server: Server, rows: int) -> Callable[[], None]:
    """A watch that fails once the server has had no new request for STALL_S."""
    last = [server.requests(), time.monotonic()]

    def watch() -> None:
        now, count = time.monotonic(), server.requests()
        if count != last[0]:
            last[:] = count, now
        elif now - last[1] > STALL_S:
            raise Failed(f"the second run hung: no request for {STALL_S} s, {count:,} of {rows:,} answered")

    return watch


def _attempt(measure, *args):
    try:
        return measure(*args)
    except Failed as reason:
        return {"failed": str(reason)}


def _predict(found: dict, rows: int) -> float:
    """Seconds that `rows` should take, by the fixed cost and the largest size measured so far; 0 if unknown."""
    known = {size: speed["seconds"] for size, speed in found["speed"].items() if "seconds" in speed}
    if not known or not isinstance(found["first_row_seconds"], float):
        return 0.0
    size, fixed = max(known), found["first_row_seconds"]
    return fixed + max(known[size] - fixed, 0) * rows / size


def _medians(runs: list[dict]) -> dict:
    return {key: statistics.median(run[key] for run in runs) for key in runs[0]} | {"rows": runs[0]["rows"]}


def _last_line(text: str) -> str:
    """The last line that says something, cut for a table cell."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[-1].replace("|", "/").replace(str(Path.home()), "~")[:160] if lines else ""


def machine() -> dict:
    """What the numbers depend on."""
    info = Path("/proc/cpuinfo").read_text()
    model = next((line.split(":", 1)[1].strip() for line in info.splitlines() if line.startswith("model name")), "")
    nginx = subprocess.run(
        ["nginx", "-v"], capture_output=True, text=True, env={"PATH": os.environ["PATH"] + ":/usr/sbin"}
    )
    return {
        "date": datetime.now(UTC).date().isoformat(),
        "cpu": model,
        "cores": len(os.sched_getaffinity(0)),
        "memory_gb": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9, 1),
        "python": platform.python_version(),
        "kernel": platform.release(),
        "nginx": nginx.stderr.strip().rpartition("/")[2],
        "load_before": [round(load, 2) for load in os.getloadavg()],
    }


def table(results: dict, sizes: list[int]) -> str:
    """The Markdown table and its notes."""
    largest = max(sizes)
    head = ["tool", *(f"rows/s, {rows:,}" for rows in sizes), f"x aiohttp, {largest:,}"]
    head += ["CPU s per 1,000 rows", "first row, s", "requests repeated after SIGKILL", "peak memory, MB"]
    lines = ["| " + " | ".join(head) + " |", "|---" + "|--:" * (len(head) - 1) + "|"]
    reasons = []

    def cell(value, show) -> str:
        if isinstance(value, dict) and "failed" in value:
            if value["failed"] not in reasons:
                reasons.append(value["failed"])
            return f"– ({reasons.index(value['failed']) + 1})"
        return show(value)

    for name, found in results["tools"].items():
        speed = found["speed"]
        done = [size for size in sizes if "seconds" in speed[size]]
        best = speed[max(done)] if done else speed[largest]
        cells = [cell(speed[size], lambda s: f"{s['rows'] / s['seconds']:,.0f}") for size in sizes]
        cells.append(cell(speed[largest], lambda s: f"{s['of_aiohttp']:.3f}"))
        cells.append(cell(best, lambda s: f"{s['cpu_seconds'] / s['rows'] * 1000:.2f}"))
        cells.append(cell(found["first_row_seconds"], lambda s: f"{s:.2f}" if s >= 0.1 else f"{s:.3f}"))
        cells.append(cell(found["kill"], lambda k: f"{k['repeated']:,} of {k['rows']:,}"))
        cells.append(cell(best, lambda s: f"{s['peak_rss_mb']:,.0f}"))
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    lines += ["", *(f"({number}) {reason}" for number, reason in enumerate(reasons, 1))]
    if reasons:
        lines.append("")
    lines += [f"- {name}: {found['note']}" for name, found in results["tools"].items()]
    lines += [
        f"- rows/s counts from the call of the tool's run() to all rows stored and read back; imports are not in it. "
        f"CPU and memory are those of the {largest:,}-row run, or of the largest that was done.",
        "- First row: wall time from the call of run() to the rows of a 2-row job; the tool is imported by then.",
        "- Repeated: every process of the tool gets SIGKILL when half of the requests are answered, and the same job "
        "is started again; counted are the requests that the server answered beyond the number of rows.",
        "- CPU: user and system time of the process and its children (getrusage). Peak memory: the larger of "
        f"ru_maxrss and the sum of PSS over the process tree, read every {SAMPLE_S} s.",
        f"- Medians of {results['repeats']} runs, one run where it takes more than {QUICK_S} s.",
    ]
    ours = results.get("ours", {})
    if "failed" in ours:
        lines.append(f"- workbench, replay and planned tasks: {ours['failed']}")
    elif ours:
        replay, planned = ours["replay"], ours["planned_mb"]
        lines += [
            f"- workbench, {replay['rows']:,} rows again from the ledger into a new folder: "
            f"{replay['rows'] / replay['seconds']:,.0f} rows/s, {replay['requests_sent']} requests sent.",
            f"- workbench, {ours['lookup']['rows']:,} answers served by the ledger alone: "
            f"{ours['lookup']['rows'] / ours['lookup']['seconds']:,.0f} a second.",
            "- workbench, peak memory of a plan whose tasks are all made: "
            + ", ".join(f"{mb:,.0f} MB with {rows:,} tasks planned" for rows, mb in planned.items())
            + ".",
        ]
    facts = results["machine"]
    lines.append(
        f"- {facts['cpu']}, {facts['cores']} cores shared with nginx {facts['nginx']}, {facts['memory_gb']} GB, "
        f"Python {facts['python']}, {facts['date']}; load average before: {facts['load_before'][0]}."
    )
    busy = {
        name: found["load"] for name, found in results["tools"].items() if found.get("load", 0) > facts["cores"] + 0.5
    }
    if busy:
        loads = ", ".join(f"{load} during {name}" for name, load in busy.items())
        lines.append(
            f"- NOT A QUIET MACHINE: load average {loads}, where a run alone makes at most about {facts['cores']}. "
            "Compare by x aiohttp, CPU and memory; the rows per second are too low."
        )
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.bench", description=__doc__.splitlines()[0])
    parser.add_argument("--tools", help="names of the tools to run, by comma; all without it")
    parser.add_argument("--sizes", default="1000,10000", help="rows per job, by comma")
    parser.add_argument("--kill-rows", type=int, default=10_000, help="rows of the job that is killed half way")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--out", type=Path, default=HERE, help="folder of results.json and results.md")
    args = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("stopped"))  # so that the server and the tools end with us
    sizes = sorted(int(size) for size in args.sizes.split(","))
    tools = [tool for tool in TOOLS if args.tools is None or tool.name in args.tools.split(",")]
    results: dict = {"machine": machine(), "repeats": args.repeats, "tools": {}}
    with tempfile.TemporaryDirectory(prefix="workbench-bench-", ignore_cleanup_errors=True) as scratch:
        bench = Bench(Path(scratch))
        for tool in tools:
            print(f"{tool.name} ...", file=sys.stderr, flush=True)
            found = bench.tool(tool, sizes, args.repeats, args.kill_rows)
            results["tools"][tool.name] = {"note": tool.note, "packages": tool.packages} | found
        print(f"{CEILING.name} ...", file=sys.stderr, flush=True)
        results["tools"][CEILING.name] = {
            "note": CEILING.note,
            "first_row_seconds": _attempt(bench.first_row, CEILING, args.repeats),
            "speed": {
                rows: _medians(bench.ceiling[rows]) | {"of_aiohttp": 1.0, "runs": len(bench.ceiling[rows])}
                if rows in bench.ceiling
                else {"failed": "no tool ran at this size"}
                for rows in sizes
            },
            "kill": _attempt(bench.repeated, CEILING, args.kill_rows),
        }
        if TOOLS[0] in tools:
            results["ours"] = _attempt(bench.ours)
    text = table(results, sizes)
    args.out.mkdir(parents=True, exist_ok=True)
    (args.out / "results.json").write_text(json.dumps(results, indent=1) + "\n")
    (args.out / "results.md").write_text(text)
    print(text)


if __name__ == "__main__":
    main()
