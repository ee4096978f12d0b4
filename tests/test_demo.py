"""The demonstration of a kill counts what it says that it counts."""

from collections import Counter

import pytest

from tests.conftest import ROOT
from tests.servers import serving
from workbench import demo, llm
from workbench.errors import RunError

DOCUMENTS = str(ROOT / "data" / "documents")


@pytest.fixture
def server():
    with demo.Server(llm.Offline(), seconds=0.02) as server:
        yield server


def job(server, **options):
    return demo.Job(server.url, server.model, DOCUMENTS, **options)


def test_a_kill_repeats_only_what_was_under_way_and_the_rows_are_equal(server, tmp_path):
    small = job(server, tasks=24, concurrency=4)
    whole = small.run(tmp_path / "whole")
    assert whole.is_offline and len(server.received) == len(set(server.received)) >= 24
    trial = demo.trial(small, server, tmp_path / "killed", after=12)
    assert trial.kill.received >= 12 and trial.kill.begin == len(set(server.received))
    repeated = [body for body, count in Counter(server.received[trial.kill.begin :]).items() if count > 1]
    assert len(repeated) == trial.repeated == trial.kill.received - trial.kill.in_ledger
    assert 0 < trial.repeated <= trial.concurrency == 4
    assert trial.run.records == whole.records


def test_no_key_goes_along(tmp_path, monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", "sk-secret")
    with serving() as other:
        demo.Job(other.url, "test-model", DOCUMENTS, tasks=2).run(tmp_path)
    assert other.headers and not any("Authorization" in headers for headers in other.headers)


def test_a_kill_that_comes_too_late_says_so(server, tmp_path):
    with pytest.raises(RunError, match="before the kill"):
        demo.kill(job(server, tasks=2), server, tmp_path / "late", after=50)


def test_it_leaves_no_open_connection_to_complain(server, tmp_path, caplog):
    import gc

    job(server, tasks=2).run(tmp_path)
    gc.collect()
    assert "Unclosed" not in caplog.text
