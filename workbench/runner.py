"""run(make, tasks, client=, out=): every task asked, nothing lost, what finished durable, running again goes on.

A plain call that works in a running notebook kernel: one event loop in one background thread does the work, and the
calling thread shows progress and listens for the stop button. Tasks are taken from the plan as they are needed, so memory
does not grow with their number; results go to Parquet shards of a fixed number of tasks, in the plan's order, each with a
manifest written last. A shard is made again when its tasks, the recipe's code, the prompts or the client changed, and the
ledger then answers what had been asked before."""

import asyncio
import contextlib
import itertools
import json
import math
import os
import shutil
import time
import traceback
import uuid
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import CancelledError, Future, wait
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from types import MappingProxyType
from typing import Any

import workbench
from workbench import runs, store
from workbench._background import StopButton, background_loop, close_unused, only_writer, progress_bar, using
from workbench._code import code_fingerprint
from workbench.errors import CallFailed, ClientError, LedgerError, RunError, StoreError
from workbench.llm.client import Budget, Client, Completion, Request
from workbench.llm.ledger import Ledger
from workbench.records import Failure, Record, content_hash
from workbench.runs import Explanation, Run, explain, load

__all__ = ["Explanation", "Options", "Plan", "Run", "Stopped", "explain", "load", "run"]

# make(task, client): what one task gives.
Make = Callable[[Any, Client], Awaitable["Record | Failure | list[Record | Failure]"]]

_NO_ANSWER = {*CallFailed.REASONS, "exception"}  # losses that asking again as it is may mend
_PROVIDER_DOWN = {"connection", "timeout", "server_error", "rate_limited", "rejected"}
_ENDS_THE_RUN = (ClientError, LedgerError, StoreError)
_NEW_DRAW = 1000  # sample numbers of a retried task start here, once a retry; recipes number their own from 0
_GRACE_SECONDS = 3.0  # for what is under way when the stop button is pressed
_CANCEL_SECONDS = 30.0  # for writing down what finished


class Stopped(KeyboardInterrupt):
    """The stop button or Ctrl-C: what had finished is in the folder, and running again goes on."""

    def _render_traceback_(self) -> list[str]:
        """What a notebook shows: the sentence, without the lines of this module that led to it."""
        return [f"Stopped: {self}"]


@dataclass(frozen=True)
class Options:
    """How a run works: tasks under way at once, tasks in a shard, and whether a progress bar is shown."""

    concurrency: int = 64
    shard_tasks: int = 256
    progress: bool = True

    def __post_init__(self):
        if self.concurrency < 1 or self.shard_tasks < 1:
            raise RunError(
                f"concurrency and shard_tasks must be 1 or more, got {self.concurrency} and {self.shard_tasks}."
            )


class Plan:
    """Tasks that are drawn as they are needed, and can be drawn again: `Plan(lambda: (Task(i) for i in range(9)), total=9)`.

    `settings` say what it was made with, as plain values or dataclasses; a run keeps them in run.json, and they decide
    nothing. `notes`, given the client, say what a reader of the run must not overlook. Raises RunError when settings do not
    fit into JSON."""

    def __init__(
        self,
        draw: Callable[[], Iterator[Any]],
        *,
        total: int | None = None,
        is_part: bool = False,
        settings: Mapping[str, Any] = MappingProxyType({}),
        notes: Callable[[Client], Sequence[str]] = lambda client: (),
    ):
        self._draw, self.total, self.is_part, self.notes = draw, total, is_part, notes
        self.settings = _plain(settings)

    def __iter__(self) -> Iterator[Any]:
        return self._draw()

    def first(self, count: int) -> "Plan":
        """Return the plan of the first `count` tasks."""
        is_part = self.is_part or self.total is None or count < self.total
        return Plan(
            lambda: itertools.islice(self._draw(), count),
            total=count if self.total is None else min(count, self.total),
            is_part=is_part,
            settings=self.settings,
            notes=self.notes,
        )

    def __repr__(self) -> str:
        return f"Plan({'unknown number of' if self.total is None else f'{self.total:,}'} tasks)"


def run(
    make: Make,
    tasks: Iterable[Any],
    *,
    client: Client,
    out: str | os.PathLike[str],
    budget: Budget | None = None,
    options: Options = Options(),
) -> Run:
    """Return the run of `make(task, client)` over all tasks, in the folder `out`.

    A client that is no Ledger gets one in `out`. Any exception in `make` is a failure of its task, with the traceback
    kept; a wrong client, a full disk or a damaged ledger ends the run. On the stop button what is under way gets 3 seconds
    to finish, is written down, and Stopped is raised. Raises RunError when another run is writing to the folder."""
    return _Engine(make, tasks, client, Path(out), budget, options).run()


@dataclass(slots=True)
class _Shard:
    """Results of the tasks [first, first + len) of the plan, until all are there."""

    number: int
    first: int
    tasks: list[Any]
    ids: list[str]
    outcomes: list[list[Record | Failure] | None]
    left: int
    is_whole: bool = True
    same_as_old: bool = False  # the old shard of this number had these tasks, this code and this client


@dataclass
class _Counts:
    """What the progress bar shows."""

    done: int = 0
    records: int = 0
    failed: int = 0
    replayed: int = 0
    sent: int = 0
    tokens: int = 0
    cost: float = 0.0
    skipped: int = 0
    down_in_a_row: int = 0
    reasons: Counter[str] = field(default_factory=Counter)


class _TaskClient:
    """The client as one task sees it: the same, and it remembers what the task asked."""

    __slots__ = ("_engine", "_shift", "completions", "cost")

    def __init__(self, engine: "_Engine", shift: int):
        self._engine, self._shift = engine, shift
        self.completions: list[str] = []
        self.cost: float | None = None

    @property
    def model(self) -> str:
        return self._engine.ledger.model

    @property
    def endpoint(self) -> str:
        return self._engine.ledger.endpoint

    @property
    def sampling(self) -> Any:
        return self._engine.ledger.sampling

    def member(self, name: str) -> Client:
        return self._engine.ledger.member(name)

    async def complete(self, request: Request) -> Completion:
        engine = self._engine
        try:
            answer = await engine.ledger.complete(
                Request(
                    request.messages,
                    request.sampling,
                    request.sample + self._shift,
                    request.n,
                    request.schema,
                    request.to,
                    engine.id,
                    engine.budget,
                )
            )
        except CallFailed as error:
            if error.key:
                self.completions.append(error.key)
            self._count(error.cost, (error.prompt_tokens or 0) + (error.completion_tokens or 0))
            raise
        self.completions.append(answer.key)
        if answer.is_from_ledger:
            engine.counts.replayed += 1
        else:
            engine.counts.sent += 1
            self._count(answer.cost, (answer.prompt_tokens or 0) + (answer.completion_tokens or 0))
        return answer

    def _count(self, cost: float | None, tokens: int) -> None:
        self._engine.counts.tokens += tokens
        if cost is not None:
            self.cost = (self.cost or 0.0) + cost
            self._engine.counts.cost += cost


class _Engine:
    def __init__(
        self, make: Make, tasks: Iterable[Any], client: Client, out: Path, budget: Budget | None, options: Options
    ):
        if not callable(make):
            raise RunError(f"make must be a function make(task, client), got {type(make).__name__}.")
        self.make, self.tasks, self.out, self.budget, self.options = make, tasks, out, budget, options
        with _cannot_write(out):
            (out / "shards").mkdir(parents=True, exist_ok=True)
        self._given = client
        self.info = runs.read_info(out) or {"id": uuid.uuid4().hex[:16], "sessions": [], "retries": {}}
        self.ledger = client if isinstance(client, Ledger) else Ledger(client, out / "ledger.sqlite")
        self.id: str = self.info["id"]
        self.retries: dict[str, int] = self.info["retries"]
        self.counts = _Counts()
        self.code = content_hash([code_fingerprint(make), workbench.__version__])
        self.sender = content_hash([self.ledger.model, self.ledger.endpoint, self.ledger.sampling.sent()])
        self.stopped = ""
        self._old: dict[str, dict[str, Any]] = {}
        self._fatal: BaseException | None = None
        self._driver: asyncio.Task[None] | None = None

    # --- the calling thread ---

    def run(self) -> Run:
        with only_writer(self.out):
            for leftover in (self.out / "shards").glob(".0*"):
                shutil.rmtree(leftover)  # a shard that a killed process was writing
            for leftover in self.out.glob(".run.json.*"):
                leftover.unlink()
            self._old = {folder.name: manifest for folder, manifest in runs.shards(self.out)}
            self.info |= {
                "session": uuid.uuid4().hex[:16],
                "recipe": _name(self.make), "workbench": workbench.__version__, "code": self.code, "stopped": "unfinished",
                "client": {"model": self.ledger.model, "endpoint": self.ledger.endpoint, "sampling": self.ledger.sampling.sent()},
                "ledger": os.path.relpath(self.ledger.path, self.out), "shard_tasks": self.options.shard_tasks,
                "settings": self.tasks.settings if isinstance(self.tasks, Plan) else {},
                "notes": list(self.tasks.notes(self.ledger)) if isinstance(self.tasks, Plan) else [],
            }  # fmt: skip
            self.info.setdefault("started", _begun(self.info["sessions"]))
            runs.write_json(self.out / "run.json", self.info)
            started = time.time()
            total = getattr(self.tasks, "total", None) or _length(self.tasks)
            shown = progress_bar(_name(self.make), total, "tasks", is_wanted=self.options.progress)
            with StopButton() as button, shown as bar:
                self._wait(asyncio.run_coroutine_threadsafe(self._drive(), background_loop()), bar, button)
                self._finish(started)
        if self._fatal is not None:
            raise self._fatal
        result = Run(self.out, ledger=self.ledger, retry=self._retry)
        if button.presses:
            raise Stopped(f"{result!r}\nWhat finished is in {self.out}; run the same call again to go on.")
        return result

    def _wait(self, future: "Future[None]", bar: Any, button: "StopButton") -> None:
        """Wait for the end. Each press, or the end of patience, goes one step: finish what is under way, cancel it, leave."""
        step, until = 0, math.inf
        try:
            while not future.done():
                if button.presses > step or time.monotonic() > until:
                    step += 1
                    if step == 1:
                        self.stopped = self.stopped or "stopped by hand; run again to go on"
                        until = time.monotonic() + _GRACE_SECONDS
                    elif step == 2:
                        self._cancel(future)
                        until = time.monotonic() + _CANCEL_SECONDS
                    else:
                        return
                wait([future], timeout=0.1)
                self._show(bar)
        except BaseException:
            self._cancel(future)  # a run that nobody waits for must not go on
            raise
        self._show(bar)  # a bar that is not full when it is closed turns red
        with contextlib.suppress(CancelledError):
            future.result()

    def _cancel(self, future: "Future[None]") -> None:
        # future.cancel() alone is done at once, before the loop has written down what finished.
        if self._driver is None:
            future.cancel()
        else:
            background_loop().call_soon_threadsafe(self._driver.cancel)

    def _show(self, bar: Any) -> None:
        if bar is not None:
            c = self.counts
            bar.n = c.done + c.skipped
            bar.set_postfix_str(
                f"{c.records:,} records, {c.failed:,} failed, {c.tokens:,} tokens"
                + (f", ${c.cost:.2f}" if c.cost else "")
            )

    def _finish(self, started: float) -> None:
        c = self.counts
        if c.sent or c.replayed or c.done or not self.info["sessions"]:
            self.info["sessions"].append(
                {
                    "started": started,
                    "seconds": time.time() - started,
                    "sent": c.sent,
                    "replayed": c.replayed,
                    "tasks": c.done,
                    "skipped": c.skipped,
                }
            )
        self.info["stopped"] = self.stopped or None
        runs.write_json(self.out / "run.json", self.info)

    # --- the background loop ---

    async def _drive(self) -> None:
        self._driver = asyncio.current_task()
        using[id(self.ledger.client)] += 1
        shards: dict[int, _Shard] = {}
        feed = self._feed(shards)
        workers = [asyncio.create_task(self._work(feed)) for _ in range(self.options.concurrency)]
        try:
            await asyncio.gather(*workers)
        finally:
            for worker in workers:
                worker.cancel()
            await asyncio.gather(*workers, return_exceptions=True)
            self._write_partial(shards)
            with contextlib.suppress(LedgerError):
                self.ledger.flush()
            await close_unused(self.ledger.client)

    async def _work(self, feed: Iterator[tuple[dict[int, _Shard], _Shard, int]]) -> None:
        try:
            for shards, shard, at in feed:
                outcomes = await self._one(shard, at)
                shard.outcomes[at] = outcomes
                shard.left -= 1
                if shard.left == 0:
                    del shards[shard.number]
                    self._write(shard)
                if self.stopped:
                    return
        except _ENDS_THE_RUN as error:
            self._fatal = self._fatal or error
            self.stopped = self.stopped or str(error)

    def _feed(self, shards: dict[int, _Shard]) -> Iterator[tuple[dict[int, _Shard], _Shard, int]]:
        """Yield the tasks that have to be made, shard by shard; what is finished and unchanged is skipped."""
        plan = iter(self.tasks)
        size = self.options.shard_tasks
        seen = 0
        for number in itertools.count():
            tasks = list(itertools.islice(plan, size))
            if not tasks:
                break
            ids = [content_hash(task) for task in tasks]
            seen = number + 1
            folder, old = self.out / "shards" / f"{number:06d}", self._old.get(f"{number:06d}")
            is_same = (
                old is not None
                and old["key"] == self._key(ids)
                and not old["is_partial"]
                and runs.is_whole(folder, old)
            )
            if is_same and not _NO_ANSWER & old["failures"].keys():
                self._keep(folder, old)
                self.counts.skipped += len(tasks)
                self.counts.records += sum(count for kind, count in old["rows"].items() if kind != "Failure")
                self.counts.failed += sum(old["failures"].values())
            else:
                shard = shards[number] = _Shard(
                    number, number * size, tasks, ids, [None] * len(tasks), len(tasks), same_as_old=is_same
                )
                for at in range(len(tasks)):
                    if self.stopped:
                        return
                    yield shards, shard, at
            if self.stopped:
                return
        if not seen:
            raise RunError(
                "there is no task to run, so nothing was changed. A generator can be read only once: give a list or a Plan."
            )
        for name in self._old:  # shards of a longer plan of before; the first part of a plan may yet go on
            if int(name) >= seen and not getattr(self.tasks, "is_part", False):
                shutil.rmtree(self.out / "shards" / name)

    def _key(self, ids: list[str]) -> str:
        """What a shard's rows depend on beside the answers: its tasks, the code, the client, and the draws of retried tasks."""
        return content_hash([ids, self.code, self.sender, [self.retries.get(task_id, 0) for task_id in ids]])

    async def _one(self, shard: _Shard, at: int) -> list[Record | Failure]:
        """What one task gives; whatever goes wrong in it is its failure."""
        task_id = shard.ids[at]
        client = _TaskClient(self, _NEW_DRAW * self.retries.get(task_id, 0))
        try:
            made = await self.make(shard.tasks[at], client)
            outcomes = _checked(made)
            self.counts.down_in_a_row = 0
        except CallFailed as error:
            outcomes = [Failure(error.reason, error.detail, raw=error.raw)]
            self._notice(error)
        except _ENDS_THE_RUN:
            raise
        except asyncio.CancelledError as error:
            if (running := asyncio.current_task()) is None or running.cancelling():
                raise  # the run is being stopped
            outcomes = [Failure("exception", f"the recipe was cancelled: {error!r}", traceback=traceback.format_exc())]
        except BaseException as error:  # sys.exit() in a recipe would end the loop's thread, not the program
            outcomes = [Failure("exception", f"{type(error).__name__}: {error}", traceback=traceback.format_exc())]
        keys = tuple(client.completions)
        outcomes = [
            o.as_of(task_id, shard.first + at, keys, client.cost) if isinstance(o, Failure) else o for o in outcomes
        ]
        self.counts.done += 1
        failed = sum(isinstance(outcome, Failure) for outcome in outcomes)
        self.counts.failed += failed
        self.counts.records += len(outcomes) - failed
        return outcomes

    def _notice(self, error: CallFailed) -> None:
        """Stop early where going on would only fail: a refused key, a spent budget, a server that is down."""
        self.counts.down_in_a_row = self.counts.down_in_a_row + 1 if error.reason in _PROVIDER_DOWN else 0
        if error.fatal and not self.stopped:
            self.stopped = f"{error.reason}: {error.detail}"
        elif self.counts.down_in_a_row >= max(20, self.options.concurrency) and not self.stopped:
            self.stopped = f"{self.counts.down_in_a_row} tasks in a row got no answer, the last with {error.reason}: {error.detail}. Check the server and run again: what finished is kept."

    # --- shards ---

    def _write_partial(self, shards: dict[int, _Shard]) -> None:
        """Write what is there of the shards that are not whole, so that nothing that finished is lost to view."""
        for number in sorted(shards):
            shard = shards.pop(number)
            there = [at for at, outcomes in enumerate(shard.outcomes) if outcomes is not None]
            made = sum(isinstance(outcome, Record) for at in there for outcome in shard.outcomes[at] or ())
            old = self._old.get(f"{number:06d}")
            if shard.same_as_old and made <= sum(count for kind, count in old["rows"].items() if kind != "Failure"):
                self._keep(
                    self.out / "shards" / f"{number:06d}", old
                )  # it was whole, and this one was stopped half way
            elif there:
                shard.ids = [shard.ids[at] for at in there]
                shard.outcomes = [shard.outcomes[at] for at in there]
                shard.is_whole = False
                try:
                    self._write(shard)
                except StoreError as error:
                    self._fatal = self._fatal or error

    def _keep(self, folder: Path, manifest: dict[str, Any]) -> None:
        """Make an old shard one of this session: it was looked at, and it still is what its tasks give."""
        runs.write_json(folder / "manifest.json", {**manifest, "session": self.info["session"]})

    def _write(self, shard: _Shard) -> None:
        """Write the shard into a folder of its own and move it into place, manifest included, in one rename."""
        rows: dict[str, list[Any]] = {}
        for outcome in itertools.chain.from_iterable(outcomes or () for outcomes in shard.outcomes):
            rows.setdefault(type(outcome).__name__, []).append(outcome)
        folder = self.out / "shards" / f"{shard.number:06d}"
        temporary = self.out / "shards" / f".{shard.number:06d}.{os.getpid()}"
        manifest = {
            "key": self._key(shard.ids), "session": self.info["session"], "tasks": len(shard.ids), "is_partial": not shard.is_whole,
            "rows": {kind: len(of_kind) for kind, of_kind in rows.items()},
            "failures": Counter(failure.reason for failure in rows.get("Failure", ())),
        }  # fmt: skip
        with _cannot_write(folder):
            shutil.rmtree(temporary, ignore_errors=True)
            temporary.mkdir()
        try:
            for kind, of_kind in rows.items():
                store.write(of_kind, temporary / f"{kind}.parquet")
        except StoreError:
            if not (unfit := {id(o): error for of_kind in rows.values() for o in of_kind if (error := _unfit(o))}):
                raise  # the disk, and not a row
            for at, outcomes in enumerate(shard.outcomes):
                shard.outcomes[at] = [
                    Failure("exception", unfit[id(o)], task_id=shard.ids[at], task_index=shard.first + at)
                    if id(o) in unfit
                    else o
                    for o in outcomes or ()
                ]
            return self._write(shard)
        runs.write_json(temporary / "manifest.json", manifest)
        with _cannot_write(folder):
            if folder.exists():
                shutil.rmtree(folder)
            temporary.rename(folder)

    def _retry(self, last: Run, reason: str | None) -> Run:
        """The same call again; tasks that were answered and could not be used are drawn anew."""
        if iter(self.tasks) is self.tasks:
            raise RunError(
                "these tasks came from a generator, which can be read only once. Give run() a list or a Plan to be able to retry."
            )
        redrawn = {
            failure.task_id
            for failure in Run(self.out, ledger=self.ledger).failures
            if reason in (None, failure.reason) and failure.reason not in _NO_ANSWER
        }
        info = runs.read_info(self.out) or self.info
        for task_id in redrawn:
            info["retries"][task_id] = info["retries"].get(task_id, 0) + 1
        runs.write_json(self.out / "run.json", info)
        return run(self.make, self.tasks, client=self._given, out=self.out, budget=self.budget, options=self.options)


def _plain(settings: Mapping[str, Any]) -> dict[str, Any]:
    """A copy of the settings as JSON gives them back."""
    try:
        text = json.dumps(
            dict(settings),
            default=lambda value: value.tolist() if hasattr(value, "tolist") else asdict(value),
            ensure_ascii=False,
        )
        text.encode()  # raises for half an emoji, which no file takes
    except (TypeError, ValueError) as error:
        raise RunError(
            f"a plan's settings must fit into JSON: {error}. Give text, numbers, lists, mappings or dataclasses."
        ) from None
    # A seed of 128 bits is text: readers of JSON round whole numbers that are so long.
    return json.loads(text, parse_int=lambda digits: int(digits) if len(digits) < 19 else digits)


def _begun(sessions: list[dict[str, Any]]) -> str:
    """When the first session began, ISO 8601 in UTC: the one on record, where there is one, or now."""
    begun = datetime.fromtimestamp(sessions[0]["started"], UTC) if sessions else datetime.now(UTC)
    return begun.isoformat(timespec="milliseconds")


def _checked(made: Any) -> list[Record | Failure]:
    """The outcomes of a task, at least one, each a record or a failure: silence would be a lost row."""
    outcomes = list(made) if isinstance(made, list | tuple) else [made]
    if not outcomes:
        return [Failure("nothing", "make returned no record and no failure")]
    for outcome in outcomes:
        if not isinstance(outcome, Record | Failure):
            raise TypeError(f"make must return records and failures, got {type(outcome).__name__}")
    return outcomes


def _unfit(outcome: Record | Failure) -> str:
    """Why an outcome cannot be stored, in words; empty when it can."""
    try:
        store.table([outcome])
    except StoreError as error:
        return str(error)
    return ""


def _name(make: Make) -> str:
    function = getattr(make, "func", make)
    module, name = getattr(function, "__module__", ""), getattr(function, "__name__", type(function).__name__)
    return module.rpartition(".")[2] if name == "make" and module != "__main__" else name


def _length(tasks: Any) -> int | None:
    return len(tasks) if hasattr(tasks, "__len__") else None


@contextlib.contextmanager
def _cannot_write(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise store.cannot_write(path, error) from error
