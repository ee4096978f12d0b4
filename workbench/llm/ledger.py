"""The ledger: the one cache. A request that finished is never sent twice; resuming is running again.

A SQLite file in WAL mode around any client, keyed by the hash of everything that is sent. Only whole, usable answers are
served again; a failure is written down with what it cost, and asked again next time. An answer is handed on only after
it is committed, so a killed process repeats at most what was under way. Commits are shared: everything that arrives
within a few milliseconds goes in one transaction, which is why durability costs little.

What it survives: SIGKILL of the process. After a power cut, SQLite's WAL with synchronous=NORMAL stays consistent and may
miss the last commits; then those requests are sent again."""

import asyncio
import contextlib
import math
import os
import sqlite3
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import orjson

from workbench.errors import CallFailed, LedgerError
from workbench.llm.client import (
    Choice,
    Client,
    Completion,
    Request,
    Sampling,
    key_of,
    member,
    text_hash,
    what_is_sent,
)

_APPLICATION_ID = 0x5D_57_4C_31  # "SDW ledger 1", in SQLite's header, so that a foreign file is known as one
_VERSION = 1
_COMMIT_EVERY_SECONDS = 0.004

_SCHEMA = """
CREATE TABLE calls (
    key TEXT PRIMARY KEY, run TEXT, choices TEXT, model TEXT, endpoint TEXT, sampling TEXT,
    prompt_tokens INTEGER, completion_tokens INTEGER, cost REAL, seconds REAL, attempts INTEGER, created REAL, request TEXT);
CREATE TABLE failures (
    key TEXT, run TEXT, request TEXT, reason TEXT, detail TEXT, raw TEXT,
    prompt_tokens INTEGER, completion_tokens INTEGER, cost REAL, attempts INTEGER, created REAL);
CREATE TABLE texts (hash TEXT PRIMARY KEY, text TEXT);
CREATE TABLE asks (run TEXT, key TEXT, PRIMARY KEY (run, key)) WITHOUT ROWID;
CREATE INDEX calls_by_run ON calls (run);
CREATE INDEX failures_by_run ON failures (run);
CREATE INDEX failures_by_key ON failures (key);
"""
_ANSWER = "choices, model, endpoint, sampling, prompt_tokens, completion_tokens, cost, seconds, attempts"
_PUT_CALL = f"INSERT OR IGNORE INTO calls (key, run, {_ANSWER}, created, request) VALUES ({', '.join('?' * 13)})"
_PUT_FAILURE = f"INSERT INTO failures VALUES ({', '.join('?' * 11)})"
_PUT_ASK = "INSERT OR IGNORE INTO asks VALUES (?, ?)"
# An answer without a price may have cost anything, tokens counted or not; a failure only where something was generated.
_UNPRICED = {"calls": "cost IS NULL", "failures": "cost IS NULL AND completion_tokens IS NOT NULL"}
_PUT_TEXT = "INSERT OR IGNORE INTO texts VALUES (?, ?)"


class Ledger:
    """A client that asks `client` only what is not written down in the file at `path`; without a client, it is only read.

    Two processes may share a file; when both ask the same thing at the same moment, both send it and the first answer is
    the one that stays. Raises LedgerError when the file is damaged, foreign or cannot be written."""

    def __init__(self, client: Client | None, path: str | os.PathLike[str]):
        self._client, self.path = client, Path(path)
        self._lock = threading.Lock()
        self._database = _open(self.path)
        self._under_way: dict[tuple[int, str], asyncio.Future[Completion]] = {}
        self._texts: set[str] = set()
        self._queue: list[tuple[str, tuple[Any, ...]]] = []
        self._committed: dict[int, asyncio.Future[None]] = {}  # by event loop: each waits for a commit of its own
        self._lost_race: set[str] = set()  # keys whose answer another process wrote first

    @property
    def client(self) -> Client:
        """Who is asked what is not written down. Raises LedgerError for a ledger that was opened only to be read."""
        if self._client is None:
            raise LedgerError(
                f"{self.path.name} was opened without a client, to be read. Open it with one to ask: Ledger(client, path)."
            )
        return self._client

    @property
    def model(self) -> str:
        return self.client.model

    @property
    def endpoint(self) -> str:
        return self.client.endpoint

    @property
    def sampling(self) -> Sampling:
        return self.client.sampling

    def member(self, name: str) -> Client:
        """Return the member of that name of the pool that is asked. Raises ClientError when it is none."""
        return member(self.client, name)

    async def complete(self, request: Request) -> Completion:
        """Return the answer that is written down, or the client's, once it is. Raises what the client raises."""
        sent = what_is_sent(self.client, request)
        key = key_of(sent)
        place = (id(asyncio.get_running_loop()), key)
        # The same request under way already: wait for its answer instead of paying for it twice.
        while (same := self._under_way.get(place)) is not None:
            try:
                answer = await asyncio.shield(same)
                self._put(_PUT_ASK, (request.run, key))
                return replace(answer, is_from_ledger=True)
            except asyncio.CancelledError:
                if not same.cancelled() or (task := asyncio.current_task()) is None or task.cancelling():
                    raise
        if (row := self._get(key)) is not None:
            self._put(_PUT_ASK, (request.run, key))
            return _completion(key, row)
        mine = self._under_way[place] = asyncio.get_running_loop().create_future()
        try:
            came = await self.client.complete(request)
            answer = Completion(
                came.choices, came.model, came.endpoint, key, came.sampling, came.prompt_tokens, came.completion_tokens, came.cost,
                came.seconds, came.attempts,
            )  # fmt: skip
            choices = orjson.dumps([[c.text, c.finish] for c in answer.choices]).decode()
            await self._commit(
                (_PUT_ASK, (request.run, key)),
                (_PUT_CALL, (key, request.run, choices, answer.model, answer.endpoint, answer.sampling, answer.prompt_tokens,
                             answer.completion_tokens, answer.cost, answer.seconds, answer.attempts, time.time(), self._shown(sent))),
            )  # fmt: skip
        except CallFailed as error:
            error.key = key
            if (
                error.reason == "budget"
            ):  # never sent, so it has no entry; who waits for the same may have another budget
                mine.cancel()
            else:
                mine.set_exception(error)
                mine.exception()  # seen: nobody else may be waiting
                await self._commit(
                    (_PUT_FAILURE, (key, request.run, self._shown(sent), error.reason, error.detail, error.raw, error.prompt_tokens,
                                    error.completion_tokens, error.cost, error.attempts, time.time()))
                )  # fmt: skip
            raise
        except BaseException:
            mine.cancel()
            raise
        else:
            if key in self._lost_race and (row := self._get(key)) is not None:
                answer = _completion(key, row)  # what is written down is what counts
            mine.set_result(answer)
            return answer
        finally:
            del self._under_way[place]

    # --- writing: many answers, one transaction ---

    def _shown(self, sent: dict[str, Any]) -> str:
        """What was sent, as JSON. A system message stands in a table of its own, once: it is long and always the same."""
        messages = []
        for message in sent["messages"]:
            if message["role"] == "system":
                name = text_hash(message["content"])
                if name not in self._texts:
                    self._texts.add(name)
                    self._put(_PUT_TEXT, (name, message["content"]))
                message = {"role": "system", "text": name}
            messages.append(message)
        return orjson.dumps({**sent, "messages": messages}).decode()

    def _put(self, statement: str, values: tuple[Any, ...]) -> asyncio.Future[None]:
        """Queue a write, and return what is done when this loop's next commit is."""
        with self._lock:
            self._queue.append((statement, values))
        loop = asyncio.get_running_loop()
        committed = self._committed.get(id(loop))
        if committed is None or committed.get_loop() is not loop:  # an ended loop's number may come again
            committed = self._committed[id(loop)] = loop.create_future()
            loop.call_later(_COMMIT_EVERY_SECONDS, self._flush, committed)
        return committed

    async def _commit(self, *writes: tuple[str, tuple[Any, ...]]) -> None:
        for statement, values in writes:
            committed = self._put(statement, values)
        await asyncio.shield(committed)

    def _flush(self, committed: asyncio.Future[None]) -> None:
        self._committed.pop(id(committed.get_loop()), None)
        try:
            self.flush()
        except Exception as error:
            if not committed.done():
                committed.set_exception(error)
                committed.exception()
        else:
            if not committed.done():
                committed.set_result(None)

    def flush(self) -> None:
        """Commit what is queued. Raises LedgerError, and keeps the queue, when the disk is full or the file is damaged."""
        with self._lock:
            queue, self._queue = self._queue, []
            groups: dict[str, list[tuple[Any, ...]]] = {}
            for statement, values in queue:
                groups.setdefault(statement, []).append(tuple(map(_storable, values)))
            try:
                with self._database:
                    for statement, rows in groups.items():
                        written = self._database.executemany(statement, rows).rowcount
                        if statement is _PUT_CALL and written < len(rows):
                            self._lost_race.update(row[0] for row in rows)
            except sqlite3.Error as error:
                self._queue = queue + self._queue
                raise _explained(self.path, error) from error

    def close(self) -> None:
        """Commit what is queued and close the file. The ledger cannot be used afterwards."""
        self.flush()
        self._database.close()

    # --- reading ---

    def _get(self, key: str) -> tuple[Any, ...] | None:
        try:
            with self._lock:
                return self._database.execute(f"SELECT {_ANSWER} FROM calls WHERE key = ?", (key,)).fetchone()
        except sqlite3.Error as error:
            raise _explained(self.path, error) from error

    def _rows(self, sql: str, values: tuple[Any, ...] = ()) -> Iterator[dict[str, Any]]:
        try:
            with self._lock:
                cursor = self._database.execute(sql, values)
                names = [column[0] for column in cursor.description]
                rows = cursor.fetchall()
        except sqlite3.Error as error:
            raise _explained(self.path, error) from error
        return (dict(zip(names, row, strict=True)) for row in rows)

    def entry(self, key: str) -> dict[str, Any] | None:
        """Return what was asked and answered under a key, or None: `request` as sent, `choices`, `cost`, `created` and so on."""
        for row in self._rows("SELECT * FROM calls WHERE key = ?", (key,)):
            request = orjson.loads(row["request"])
            request["messages"] = [self._whole(message) for message in request["messages"]]
            return {**row, "request": request, "choices": [text for text, _ in orjson.loads(row["choices"])]}
        return None

    def _whole(self, message: dict[str, str]) -> dict[str, str]:
        if "text" not in message:
            return message
        [row] = self._rows("SELECT text FROM texts WHERE hash = ?", (message["text"],))
        return {"role": message["role"], "content": row["text"]}

    def failures(self, run: str | None = None) -> list[dict[str, Any]]:
        """Return the failures on record, oldest first, of one run or of all."""
        where, values = ("", ()) if run is None else (" WHERE run = ?", (run,))
        return list(self._rows(f"SELECT * FROM failures{where} ORDER BY created", values))

    def spent(self, run: str | None = None) -> dict[str, Any]:
        """Return what a run (or all of them) paid for: requests, prompt_tokens, completion_tokens, cost, unpriced.

        `cost` in US dollars sums what is known; `unpriced` counts the answers whose cost is not. What another run had
        paid for before is not in it, so sums over runs do not count twice."""
        where, values = ("", ()) if run is None else (" WHERE run = ?", (run,))
        total = {"requests": 0, "prompt_tokens": 0, "completion_tokens": 0, "cost": 0.0, "unpriced": 0}
        for table, is_unpriced in _UNPRICED.items():
            sums = (
                "count(*) AS requests, sum(prompt_tokens) AS prompt_tokens, sum(completion_tokens) AS completion_tokens,"
                f" sum(cost) AS cost, sum({is_unpriced}) AS unpriced"
            )
            for row in self._rows(f"SELECT {sums} FROM {table}{where}", values):
                total = {name: total[name] + (row[name] or 0) for name in total}
        return total

    def account(self, keys: Sequence[str]) -> dict[str, Any]:
        """Return what these requests took, every failed try included: tokens, prompt_tokens, completion_tokens, cost.

        The cost, US dollars, is None where one is unknown."""
        prompt, completion, cost = 0, 0, 0.0
        for key in keys:
            for table, is_unpriced in _UNPRICED.items():
                columns = f"prompt_tokens, completion_tokens, cost, {is_unpriced} AS is_unpriced"
                for row in self._rows(f"SELECT {columns} FROM {table} WHERE key = ?", (key,)):
                    prompt, completion = (
                        prompt + (row["prompt_tokens"] or 0),
                        completion + (row["completion_tokens"] or 0),
                    )
                    cost = math.nan if row["is_unpriced"] else cost + (row["cost"] or 0.0)
        return {
            "tokens": prompt + completion, "prompt_tokens": prompt, "completion_tokens": completion,
            "cost": None if math.isnan(cost) else cost,
        }  # fmt: skip

    def __len__(self) -> int:
        return next(self._rows("SELECT count(*) AS n FROM calls"))["n"]

    def __repr__(self) -> str:
        return f"Ledger({self._client!r}, {self.path.name}: {len(self):,} answers)"


def _storable(value: Any) -> Any:
    """What SQLite takes: half an emoji becomes a question mark, a count that no server can mean is unknown."""
    if isinstance(value, int) and not -(2**63) <= value < 2**63:
        return None
    return value.encode("utf-8", "replace").decode() if isinstance(value, str) and not value.isascii() else value


def _completion(key: str, row: tuple[Any, ...]) -> Completion:
    choices, model, endpoint, sampling, prompt_tokens, completion_tokens, cost, seconds, attempts = row
    return Completion(
        tuple(Choice(text, finish) for text, finish in orjson.loads(choices)),
        model, endpoint, key, sampling, prompt_tokens, completion_tokens, cost, seconds, attempts, is_from_ledger=True,
    )  # fmt: skip


def _open(path: Path) -> sqlite3.Connection:
    """The database, made if it is not there. Raises LedgerError for a file that is not a whole ledger of this version."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        _refuse_truncated(path)
        database = sqlite3.connect(path, timeout=60, check_same_thread=False)
    except (OSError, sqlite3.Error) as error:
        raise _explained(path, error) from error
    try:
        application, version = (
            database.execute(f"PRAGMA {name}").fetchone()[0] for name in ("application_id", "user_version")
        )
        is_new = database.execute("SELECT count(*) FROM sqlite_master").fetchone()[0] == 0
        if not is_new and application != _APPLICATION_ID:
            raise LedgerError(f"{path} is a SQLite file of another program. Give the ledger a path of its own.")
        if not is_new and version != _VERSION:
            raise LedgerError(
                f"{path} is a ledger of version {version}, and this workbench reads version {_VERSION}. Start a new ledger file; the old one stays readable with SQLite."
            )
        _to_wal(database)
        database.execute("PRAGMA synchronous = NORMAL")
        database.execute("PRAGMA wal_autocheckpoint = 4000")
        if is_new:
            with contextlib.suppress(sqlite3.OperationalError):  # another process may have made the tables a moment ago
                database.executescript(
                    f"BEGIN IMMEDIATE; {_SCHEMA} PRAGMA application_id = {_APPLICATION_ID}; PRAGMA user_version = {_VERSION}; COMMIT;"
                )
            if database.in_transaction:
                database.rollback()
        database.execute("SELECT key FROM calls LIMIT 1").fetchone()
        return database
    except sqlite3.Error as error:
        database.close()
        raise _explained(path, error) from error
    except LedgerError:
        database.close()
        raise


def _to_wal(database: sqlite3.Connection) -> None:
    """Switch to WAL. Two processes that do it at once refuse each other without waiting, whatever the timeout."""
    deadline = time.monotonic() + 60
    while True:
        try:
            database.execute("PRAGMA journal_mode = WAL")
            return
        except sqlite3.OperationalError as error:
            if "locked" not in str(error) or time.monotonic() > deadline:
                raise
            time.sleep(0.02)


def _refuse_truncated(path: Path) -> None:
    """SQLite notices a file that was cut off only when it reads a missing page; its header says so at once."""
    wal = path.with_name(path.name + "-wal")
    if not path.exists() or path.stat().st_size == 0 or (wal.exists() and wal.stat().st_size > 0):
        return
    with path.open("rb") as file:
        header = file.read(100)
    if header[:16] != b"SQLite format 3\0":
        raise LedgerError(f"{path} is not a ledger (not a SQLite file). Give the ledger another path.")
    page_size = int.from_bytes(header[16:18], "big")
    pages = int.from_bytes(header[28:32], "big")
    expected = (65536 if page_size == 1 else page_size) * pages
    if path.stat().st_size < expected:
        raise LedgerError(
            f"{path} was cut off: {path.stat().st_size:,} bytes of {expected:,}. Restore it from a copy, or save what is left with: sqlite3 {path.name} .recover | sqlite3 saved.sqlite"
        )


def _explained(path: Path, error: Exception) -> LedgerError:
    said = str(error)
    if "not a database" in said or "malformed" in said:
        advice = f"The file is damaged or no ledger. Restore it from a copy, or save what is left with: sqlite3 {path.name} .recover | sqlite3 saved.sqlite"
    elif "full" in said or getattr(error, "errno", None) == 28:
        advice = "The disk is full. Free some space and run again: what finished is kept."
    elif "locked" in said:
        advice = "Another process held it for a minute. Stop that one, or give this run a ledger of its own."
    else:
        advice = "Check that the folder is there and can be written."
    return LedgerError(f"ledger {path}: {said}. {advice}")
