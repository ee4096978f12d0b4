"""The ledger: a request that finished is never sent twice, and a file that is no whole ledger is refused."""

import asyncio
import sqlite3
import subprocess
import sys

import pytest

from tests import tasks
from tests.conftest import ROOT
from tests.servers import serving
from workbench import llm, runner
from workbench.errors import CallFailed, LedgerError
from workbench.llm import Completion, Ledger, Price, Request, Sampling, Scripted
from workbench.llm.client import Choice, request_key


def ask(text, **options):
    return Request(({"role": "user", "content": text},), **options)


def gather(*requests_and_client):
    *requests, client = requests_and_client

    async def all_at_once():
        return await asyncio.gather(*(client.complete(request) for request in requests), return_exceptions=True)

    return asyncio.run(all_at_once())


def test_an_answer_is_served_again_exactly_and_says_that_it_was(tmp_path):
    answer = Completion(
        (Choice("ünïcode \x00 text", "stop"), Choice("two")), "real-model", prompt_tokens=3, completion_tokens=None
    )
    ledger = Ledger(Scripted([answer], sampling=Sampling(temperature=0.5)), tmp_path / "l.sqlite")
    [first] = gather(ask("a"), ledger)
    [second] = gather(ask("a"), ledger)
    assert second.is_from_ledger and not first.is_from_ledger
    names = ("choices", "model", "endpoint", "key", "sampling", "prompt_tokens", "completion_tokens", "cost", "seconds")
    assert [getattr(first, n) for n in names] == [getattr(second, n) for n in names]
    assert second.sampling == '{"sample": 0, "temperature": 0.5}'


def test_every_part_of_a_request_is_in_the_key():
    client = Scripted([], sampling=Sampling(temperature=0.1))
    base = request_key(client, ask("a"))
    others = [
        request_key(client, ask("b")),
        request_key(client, Request(({"role": "system", "content": "a"},))),
        request_key(client, ask("a", sample=1)),
        request_key(client, ask("a", n=2)),
        request_key(client, ask("a", sampling=Sampling(temperature=0.2))),
        request_key(client, ask("a", sampling=Sampling(seed=1))),
        request_key(client, ask("a", sampling=Sampling(stop=("x",)))),
        request_key(client, ask("a", sampling=Sampling(extra={"k": 1}))),
        request_key(client, ask("a", sampling=Sampling(json_schema=True), schema={"type": "object"})),
        request_key(Scripted([], model="other", sampling=Sampling(temperature=0.1)), ask("a")),
        request_key(Scripted([]), ask("a")),
    ]
    assert len({base, *others}) == 1 + len(others)
    # The run that asks is not: two runs share an answer.
    assert request_key(client, ask("a", run="r1")) == base


def test_the_same_request_asked_at_once_is_sent_once(tmp_path):
    client = Scripted(lambda request: "one")
    answers = gather(*[ask("same")] * 20, Ledger(client, tmp_path / "l.sqlite"))
    assert len(client.requests) == 1 and {answer.text for answer in answers} == {"one"}


def test_a_failure_is_written_down_with_its_text_and_asked_again(tmp_path):
    failure = CallFailed("length", "cut", raw="half a te")
    failure.prompt_tokens, failure.completion_tokens = 1_000_000, 0
    client = Scripted([failure, "whole"], price=Price(2.0, 2.0))
    ledger = Ledger(client, tmp_path / "l.sqlite")
    [failed] = gather(ask("a", run="r"), ledger)
    assert isinstance(failed, CallFailed)
    assert [(f["reason"], f["raw"], f["cost"]) for f in ledger.failures("r")] == [("length", "half a te", 2.0)]
    [answer] = gather(ask("a", run="r"), ledger)
    assert answer.text == "whole" and ledger.spent("r")["requests"] == 2 and ledger.spent("r")["cost"] > 2.0


def test_what_one_run_paid_is_not_counted_for_the_next(tmp_path):
    ledger = Ledger(Scripted(lambda request: "x", price=Price(1e6, 0)), tmp_path / "l.sqlite")
    gather(ask("a", run="first"), ask("b", run="first"), ledger)
    gather(ask("a", run="second"), ask("c", run="second"), ledger)
    assert (ledger.spent("first")["cost"], ledger.spent("second")["cost"], ledger.spent()["cost"]) == (2.0, 1.0, 3.0)
    asks = {(row["run"], row["key"]) for row in ledger._rows("SELECT run, key FROM asks")}
    assert len(asks) == 4  # who asked what is known, also for what was served from the file


def test_an_entry_holds_what_was_sent(tmp_path):
    client = Scripted(["hello"], sampling=Sampling(temperature=0.3))
    ledger = Ledger(client, tmp_path / "l.sqlite")
    [answer] = gather(ask("hi"), ledger)
    entry = ledger.entry(answer.key)
    assert entry["request"] == {
        "endpoint": "scripted", "model": "scripted", "messages": [{"role": "user", "content": "hi"}], "sampling": {"temperature": 0.3}, "sample": 0,
    }  # fmt: skip
    assert entry["choices"] == ["hello"] and ledger.entry("no such key") is None


@pytest.mark.parametrize(
    "content",
    [b"not a database at all, but long enough to be looked at " * 40, b"SQLite format 3\x00" + b"\xff" * 4080],
)
def test_a_foreign_file_is_refused_and_left_as_it_is(tmp_path, content):
    path = tmp_path / "l.sqlite"
    path.write_bytes(content)
    with pytest.raises(LedgerError, match=r"path|copy"):
        Ledger(Scripted([]), path)
    assert path.read_bytes() == content


def test_another_programs_database_and_another_version_are_refused(tmp_path):
    path = tmp_path / "l.sqlite"
    with sqlite3.connect(path) as database:
        database.execute("CREATE TABLE calls (key)")
    with pytest.raises(LedgerError, match="another program"):
        Ledger(Scripted([]), path)
    Ledger(Scripted([]), tmp_path / "v.sqlite").close()
    with sqlite3.connect(tmp_path / "v.sqlite") as database:
        database.execute("PRAGMA user_version = 7")
    with pytest.raises(LedgerError, match="version 7"):
        Ledger(Scripted([]), tmp_path / "v.sqlite")


def test_a_truncated_or_damaged_ledger_is_refused_with_what_to_do(tmp_path):
    path = tmp_path / "l.sqlite"
    ledger = Ledger(Scripted(lambda request: "x" * 500), path)
    gather(*[ask(f"{n}") for n in range(200)], ledger)
    ledger.close()
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(LedgerError, match=r"cut off.*recover"):
        Ledger(Scripted([]), path)
    path.write_bytes(whole[:4096] + b"\x5a" * (len(whole) - 4096))
    with pytest.raises(LedgerError, match="recover"):
        damaged = Ledger(Scripted(lambda request: "y"), path)
        for answer in gather(*[ask(f"{n}") for n in range(200)], damaged):
            if isinstance(answer, Exception):
                raise answer


def test_a_full_disk_ends_the_run_in_words_and_loses_nothing_that_finished(tmp_path):
    path = tmp_path / "l.sqlite"
    client = Scripted(tasks.echo)
    ledger = Ledger(client, path)
    pages = ledger._database.execute("PRAGMA page_count").fetchone()[0]
    ledger._database.execute(f"PRAGMA max_page_count = {pages + 30}")
    with pytest.raises(LedgerError, match=r"full.*run again"):
        runner.run(tasks.make, tasks.tasks(3000), client=ledger, out=tmp_path / "out")
    kept = len(ledger)
    assert 0 < kept < 3000
    ledger._database.execute("PRAGMA max_page_count = 1000000")
    before = len(client.requests)
    assert runner.run(tasks.make, tasks.tasks(3000), client=ledger, out=tmp_path / "out").record_count == 3000
    assert len(client.requests) - before <= 3000 - kept


def test_a_folder_that_cannot_be_written_is_said_in_words(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(LedgerError, match="can be written"):
        Ledger(Scripted([]), tmp_path / "file" / "l.sqlite")


TWO = """
import sys
from tests import tasks
from workbench import llm, runner
ledger = llm.Ledger(llm.OpenAI(sys.argv[1], "m"), sys.argv[2])
run = runner.run(tasks.make, tasks.tasks(120), client=ledger, out=sys.argv[3])
assert run.record_count == 120, run
"""


def test_two_processes_may_share_one_ledger(tmp_path):
    with serving(tasks.echo, seconds=0.002) as server:
        both = [
            subprocess.Popen(
                [sys.executable, "-c", TWO, server.url, str(tmp_path / "l.sqlite"), str(tmp_path / name)],
                cwd=ROOT,
                stderr=subprocess.PIPE,
                text=True,
            )
            for name in ("a", "b")
        ]
        for process in both:
            _, errors = process.communicate(timeout=60)
            assert process.returncode == 0, errors
        sent = server.count
        ledger = Ledger(llm.OpenAI(server.url, "m"), tmp_path / "l.sqlite")
        assert len(ledger) == 120 and 120 <= sent <= 240
        third = runner.run(tasks.make, tasks.tasks(120), client=ledger, out=tmp_path / "c")
        assert server.count == sent
    assert third.records == runner.load(tmp_path / "a").records == runner.load(tmp_path / "b").records
