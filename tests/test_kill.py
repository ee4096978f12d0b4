"""SIGKILL and Ctrl-C at any moment: the resumed run equals the uninterrupted one, and nothing finished is sent again."""

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter

import pytest

from tests import kill_me, tasks
from tests.conftest import ROOT
from tests.servers import serving
from workbench import llm, runner, runs, store

TASKS = 150


def start(server, out):
    return subprocess.Popen(
        [sys.executable, "-m", "tests.kill_me", server.url, str(out), str(TASKS)],
        cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip


def wait_for(server, count, process):
    while server.count < count:
        assert process.poll() is None, process.communicate()
        time.sleep(0.001)


def finished(out):
    """The requests that the ledger holds, as the server sees them."""
    if not (out / "ledger.sqlite").exists():
        return set()
    ledger = llm.Ledger(None, out / "ledger.sqlite")
    texts = {row["request"] for row in ledger._rows("SELECT request FROM calls")}
    ledger.close()
    return {json.loads(text)["messages"][-1]["content"] for text in texts}


def asked(bodies):
    return [body["messages"][-1]["content"] for body in bodies]


@pytest.mark.parametrize("seed", range(4))
def test_a_run_killed_five_times_at_random_equals_the_uninterrupted_run(tmp_path, seed):
    moments = sorted(random.Random(seed).sample(range(1, TASKS - 1), 5))
    with serving(tasks.echo, seconds=0.004) as server:
        whole = kill_me.go(server.url, tmp_path / "whole", TASKS)
        for moment in moments:
            before = len(finished(tmp_path / "killed"))
            sent = server.count
            process = start(server, tmp_path / "killed")
            wait_for(server, sent + max(1, moment - before), process)
            os.kill(process.pid, signal.SIGKILL)
            process.communicate()
            time.sleep(0.02)  # what was under way reaches the server's end
            done, sent_until_now = finished(tmp_path / "killed"), server.count
            # Within this life nothing that an earlier life had finished was sent.
            assert not done.intersection(asked(server.bodies[sent_until_now:]))
        sent = server.count
        done = finished(tmp_path / "killed")
        resumed = kill_me.go(server.url, tmp_path / "killed", TASKS)
        assert not done.intersection(asked(server.bodies[sent:]))
    assert resumed.records == whole.records and [r.provenance for r in resumed.records] == [
        r.provenance for r in whole.records
    ]
    assert resumed.failures == [] and resumed.tasks == TASKS
    repeated = sum(count - 1 for count in Counter(asked(server.bodies[TASKS:])).values())
    assert repeated <= len(moments) * kill_me.CONCURRENCY


def test_ctrl_c_writes_down_what_was_under_way_and_running_again_sends_only_the_rest(tmp_path):
    with serving(tasks.echo, seconds=0.01) as server:
        process = start(server, tmp_path / "out")
        wait_for(server, 60, process)
        process.send_signal(signal.SIGINT)
        said, errors = process.communicate(timeout=30)
        assert process.returncode == 130, errors
        assert "run again to go on" in said and "run the same call again" in said
        stopped = runner.load(tmp_path / "out")
        assert stopped.record_count == server.count >= 60  # all that was sent came back and is on disk
        kill_me.go(server.url, tmp_path / "out", TASKS)
        assert server.count == TASKS


DIES_WRITING = """
import os, sys
from tests import kill_me
from workbench import store
real = store.write
def dies(rows, path, **options):
    real(rows, path, **options)
    if "000002" in str(path):
        os._exit(9)  # between the rows and the manifest
store.write = dies
kill_me.go(sys.argv[1], sys.argv[2], int(sys.argv[3]))
"""


def test_a_run_killed_while_it_writes_a_shard_leaves_no_half_shard(tmp_path):
    out = tmp_path / "out"
    with serving(tasks.echo) as server:
        process = subprocess.run(
            [sys.executable, "-c", DIES_WRITING, server.url, str(out), str(TASKS)], cwd=ROOT, timeout=60
        )
        assert process.returncode == 9
        assert [folder.name for folder, _ in runs.shards(out)] == ["000000", "000001"]
        for folder, manifest in runs.shards(out):
            assert (
                store.read_table(folder / "Instruction.parquet").num_rows
                == manifest["rows"]["Instruction"]
                == kill_me.SHARD
            )
        assert kill_me.go(server.url, out, TASKS).record_count == TASKS
    assert server.count <= TASKS + kill_me.CONCURRENCY
    assert not list((out / "shards").glob(".0*"))
