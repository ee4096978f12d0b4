"""The table of experiments: what the folders say, counted as plain Python counts it, and never older than they are."""

import json
import os
import random
import shutil
import signal
import time
from datetime import datetime
from pathlib import Path

import pytest

from tests import kill_me, tasks
from tests.servers import serving
from tests.test_kill import TASKS, start, wait_for
from workbench import experiments, llm, records, runner, store
from workbench.errors import CallFailed, InputError, RunError, StoreError
from workbench.experiments import Experiment
from workbench.llm import Budget, Ledger, Price, Sampling, Scripted
from workbench.recipes import persona, rag_qa
from workbench.records import Instruction, Verdict
from workbench.runner import Options, Plan

SMALL = Options(concurrency=4, shard_tasks=8)


def go(out, count=20, *, client=None, settings=(), make=tasks.make, budget=None):
    client = Scripted(tasks.echo) if client is None else client  # an empty ledger is false
    plan = Plan(lambda: iter(tasks.tasks(count)), total=count, settings=dict(settings))
    return runner.run(make, plan, client=client, out=out, budget=budget, options=SMALL)


def search(identity="a", **changed):
    """An experiment.json as a search for a prompt writes it."""
    score = {
        "split": "held_out",
        "part": "all",
        "prompt": "rag/question@2#b",
        "value": 0.7,
        "low": 0.6,
        "high": 0.8,
        "n": 40,
    }
    base = {**score, "prompt": "rag/question@1#a", "value": 0.5}
    return Experiment(**{
        "id": identity, "kind": "optimization", "name": "rag/question@2", "started": "2026-02-03T10:30:00+01:00", "seconds": 12.5,
        "prompts": ("rag/question@2#b",), "base": "rag/question@1#a", "model": "m", "endpoint": "http://here/v1",
        "settings": {"method": "gepa", "seed": 3}, "requests": 300, "prompt_tokens": 9000, "completion_tokens": 800,
        "cost": 0.25, "scores": (base, score, {**score, "part": "parsed", "value": 1.0}), **changed,
    })  # fmt: skip


# --- what a run says, against a count by hand -----------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(3))
def test_every_number_of_a_run_is_what_counting_its_records_and_verdicts_gives(tmp_path, seed):
    rng = random.Random(seed)

    async def make(task, client):
        made = await tasks.make(task, client)
        number = int(task.text.split()[1])
        return [made, Instruction(f"again {number % 3}", provenance=made.provenance)] if number % 5 == 0 else made

    reply = lambda request: (
        "unreadable" if request.messages[-1]["content"].split()[2] in ("3", "8") else tasks.echo(request)
    )
    client = Scripted(reply, model="m-1", price=Price(1, 10))
    run = go(tmp_path / "run", 40, client=client, make=make, settings={"seed": seed})
    stranger = Verdict("f" * 24, "length", False)  # of a row that was made before and is not there any more
    known = list(records.by_id(run.records))
    run.mark(
        [Verdict(i, "length", rng.random() < 0.8) for i in known] + [stranger],
        [Verdict(i, "judge", rng.random() < 0.5) for i in rng.sample(known, 7)],
        [Verdict(i, "rows", False) for i in rng.sample(known, 4)],
    )
    run = runner.load(tmp_path / "run")
    [row] = experiments.find(tmp_path).table().to_pylist()

    assert (row["tasks"], row["records"], row["failures"]) == (40, len(run.records), len(run.failures))
    assert row["kept"] == len(run.kept())
    assert row["prompts"] == sorted({record.provenance.prompt for record in run.records}) == [tasks.PROMPT.id]
    assert row["model"] == "m-1" and row["endpoint"] == "scripted" and row["code"] == run.info["code"]
    assert (row["id"], row["name"], row["folder"], row["status"], row["stopped"]) == (run.info["id"], run.info["recipe"], "run", "finished", "")  # fmt: skip
    words = lambda texts: sum(len(text.split()) for text in texts)
    asked = words(message["content"] for request in client.requests for message in request.messages)
    answered = words(reply(request) for request in client.requests)
    assert (row["requests"], row["prompt_tokens"], row["completion_tokens"]) == (len(client.requests), asked, answered)
    assert row["cost"] == pytest.approx((asked + 10 * answered) / 1e6)

    shares = {
        score["part"]: (round(score["value"] * score["n"], 6), score["n"])
        for score in experiments.find(tmp_path)[0].scores
    }
    failing = lambda *checks: {v.record_id for v in run.verdicts if v.check in checks and not v.passed} & set(known)
    judged = lambda *checks: {v.record_id for v in run.verdicts if v.check in checks} & set(known)
    assert shares == {
        "made": (len(run.records), len(run.records) + len(run.failures)),
        "kept": (len(known) - len(failing("length", "judge")), len(run.records)),
        "length": (len(known) - len(failing("length")), len(known)),
        "judge": (7 - len(failing("judge")), len(judged("judge"))),
    }
    assert row["score"] == shares["kept"][0] / shares["kept"][1]
    assert 0 < row["score_low"] < row["score"] < row["score_high"] < 1


def test_intervals_are_those_of_the_published_example_of_wilson(tmp_path):
    # 81 of 263: Newcombe 1998, Statistics in Medicine 17, table I, method 3 (Wilson's, without correction).
    reply = lambda request: tasks.echo(request) if int(request.messages[-1]["content"].split()[2]) < 81 else "?"
    go(tmp_path / "run", 263, client=Scripted(reply))
    [made] = experiments.find(tmp_path)[0].scores
    assert (made["part"], made["n"]) == ("made", 263)
    assert (round(made["low"], 4), round(made["high"], 4)) == (0.2553, 0.3662)


def test_what_was_never_checked_has_no_kept_rows_and_no_score(tmp_path):
    run = go(tmp_path)
    found = experiments.find(tmp_path)[0]
    assert found.kept is None and found.score is None and [score["part"] for score in found.scores] == ["made"]
    run.mark([Verdict("f" * 24, "length", True)])  # of no row of this run
    assert experiments.find(tmp_path)[0].kept is None
    run.mark([Verdict(run.records[0].id, "rows", False)])  # too many, which is no check
    assert experiments.find(tmp_path)[0].kept is None


@pytest.mark.parametrize("tokens", [None, 5])
def test_an_unknown_cost_is_unknown_and_not_zero(tmp_path, tokens):
    answer = llm.client.Completion(
        (llm.client.Choice(tasks.answer("x")),), "m", prompt_tokens=tokens, completion_tokens=tokens
    )
    go(tmp_path / "a", client=Scripted(lambda request: answer))
    go(tmp_path / "b", client=llm.Ledger(Scripted(lambda request: answer, price=Price(0, 0)), tmp_path / "b" / "ledger.sqlite"))  # fmt: skip
    costs = {one.folder.name: one.cost for one in experiments.find(tmp_path)}
    assert costs == {"a": None, "b": None if tokens is None else 0.0}
    assert "unknown" in repr(experiments.find(tmp_path))


def test_runs_that_share_a_ledger_are_each_charged_their_own(tmp_path):
    ledger = Ledger(Scripted(tasks.echo, price=Price(1, 1)), tmp_path / "ledger.sqlite")
    go(tmp_path / "first", 10, client=ledger)
    go(tmp_path / "second", 30, client=ledger)
    found = {one.folder.name: one for one in experiments.find(tmp_path)}
    assert (found["first"].requests, found["second"].requests) == (10, 20)
    assert sum(one.cost for one in found.values()) == pytest.approx(ledger.spent()["cost"])


def test_no_record_is_built_to_read_a_run(tmp_path, monkeypatch):
    run = go(tmp_path)
    run.mark([Verdict(record.id, "any", True) for record in run.records])
    for module in (records, store.parquet):
        monkeypatch.setattr(module, "from_row", lambda *_: pytest.fail("a record was built"))
    assert experiments.find(tmp_path)[0].kept == 20


# --- settings -------------------------------------------------------------------------------------------------------


def test_a_recipe_says_what_its_plan_was_made_with(bundled):
    plan = rag_qa.plan(bundled, per_chunk=2, seed=7, mix=rag_qa.Mix(negatives=1))
    assert plan.settings == {
        "recipe": "rag_qa", "prompt": next(iter(plan)).prompt.id, "seed": 7, "per_chunk": 2, "personas": 0, "passages": plan.total // 2,
        "mix": {"unanswerable": 0.1, "negatives": 1, "characters": [500, 1500]},
        "documents": records.content_hash(sorted(document.id for document in bundled)),
    }  # fmt: skip
    people = persona.plan(bundled, count=5, seed=1)
    assert people.settings["count"] == 5 and people.settings["documents"] == plan.settings["documents"]
    assert persona.plan(bundled[1:], count=5, seed=1).settings["documents"] != plan.settings["documents"]
    assert plan.first(3).settings == plan.settings and Plan(lambda: iter(())).settings == {}


def test_settings_are_kept_and_decide_nothing(tmp_path):
    client = Scripted(tasks.echo)
    first = go(tmp_path, client=client, settings={"seed": 1})
    written = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.parquet")}
    before = experiments.find(tmp_path)[0]
    second = go(tmp_path, client=client, settings={"seed": 2, "mix": rag_qa.Mix()})
    after = experiments.find(tmp_path)[0]
    assert (
        written == {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.parquet")}
        and len(client.requests) == 20
    )
    assert [manifest["key"] for manifest in first.manifests] == [manifest["key"] for manifest in second.manifests]
    assert before.settings == {"seed": 1} and after.settings["mix"]["characters"] == [500, 1500]
    assert before.started == after.started and before.id == after.id
    runner.run(tasks.make, tasks.tasks(20), client=client, out=tmp_path, options=SMALL)
    assert experiments.find(tmp_path)[0].settings == {}  # a list of tasks says nothing


def test_settings_that_no_file_takes_are_refused_with_what_to_give():
    for wrong in ({"client": object()}, {"name": "\ud83d"}):
        with pytest.raises(RunError, match="settings must fit into JSON"):
            Plan(lambda: iter(()), settings=wrong)
    given = {"seed": 2**100, "some": (1, 2)}
    plan = Plan(lambda: iter(()), settings=given)
    given["some"] = "changed"
    assert plan.settings == {"seed": str(2**100), "some": [1, 2]}


def test_comparing_shows_only_the_settings_that_differ_side_by_side(tmp_path, bundled):
    for name, seed, mix, client in [
        ("a", 0, rag_qa.Mix(), llm.Offline()),
        ("b", 1, rag_qa.Mix(negatives=0), llm.Offline(sampling=Sampling(temperature=0.5))),
    ]:
        plan = rag_qa.plan(bundled, seed=seed, mix=mix).first(5)
        runner.run(rag_qa.make, plan, client=client, out=tmp_path / name)
    found = experiments.find(tmp_path)
    a, b = (next(one.id for one in found if one.folder.name == name) for name in "ab")
    table = found.compare(a, b)
    assert table.columns == ["setting", a, b]
    assert {row["setting"]: (row[a], row[b]) for row in table.to_pylist()} == {
        "seed": ("0", "1"), "mix.negatives": ("3", "0"), "sampling.temperature": (None, "0.5"),
    }  # fmt: skip
    assert len(found.compare(0, 1)) == 3 and "mix.negatives" in repr(table)
    with pytest.raises(InputError, match="two experiments or more"):
        found.compare(a)
    with pytest.raises(InputError, match=f"no experiment 'zzz'.*{a}"):
        found.compare(a, "zzz")


def test_comparing_shows_another_model_and_another_prompt_where_all_settings_are_equal(tmp_path):
    go(tmp_path / "a", client=Scripted(tasks.echo, model="m-1"))
    go(tmp_path / "b", client=Scripted(tasks.echo, model="m-2"))
    assert experiments.find(tmp_path).compare(0, 1)["setting"] == ["model"]


# --- queries --------------------------------------------------------------------------------------------------------


def test_the_tables_answer_sql_across_kinds_of_experiments(tmp_path):
    go(tmp_path / "runs" / "a", 10, settings={"seed": 4}).mark([])
    go(tmp_path / "runs" / "b", 20, settings={"seed": 5})
    experiments.write(tmp_path / "prompts" / "x", search())
    found = experiments.find(tmp_path)
    assert found.query("SELECT kind, count(*) AS n FROM experiments GROUP BY kind ORDER BY kind").to_pylist() == [
        {"kind": "generation", "n": 2}, {"kind": "optimization", "n": 1},
    ]  # fmt: skip
    seeds = "SELECT folder FROM experiments WHERE CAST(settings->>'$.seed' AS INT) > $least ORDER BY folder"
    assert found.query(seeds, {"least": 3})["folder"] == ["runs/a", "runs/b"]
    gain = """SELECT e.name, max(s.value) FILTER (s.prompt = e.prompts[1]) - max(s.value) FILTER (s.prompt = e.base) AS gain
              FROM experiments e JOIN scores s ON s.experiment = e.id WHERE s.split = 'held_out' AND s.part = 'all' GROUP BY e.name"""
    assert [(row["name"], round(row["gain"], 6)) for row in found.query(gain).to_pylist()] == [("rag/question@2", 0.2)]
    assert store.query("SELECT sum(tasks) AS n FROM t", t=found)["n"] == [30]
    with pytest.raises(StoreError, match=r"There are: experiments\(id, kind.*scores\(experiment, split"):
        found.query("SELECT nothing FROM experiments")


def test_the_score_of_a_search_is_the_held_out_one_of_what_it_made_or_else_of_its_base(tmp_path):
    made = search()
    assert made.score["value"] == 0.7
    assert search(prompts=(), scores=made.scores[::-1]).score["value"] == 0.5
    assert search(prompts=(made.base, *made.prompts)).score["value"] == 0.7
    only_base = search(prompts=("rag/question@1#a",), scores=[made.scores[0]])
    assert only_base.score["value"] == 0.5
    dev = [{**score, "split": "dev"} for score in made.scores]
    assert search(scores=dev).score is None and search(scores=()).score is None


def test_experiments_are_newest_first_and_found_by_place_slice_id_and_kind(tmp_path):
    # Text would put the second last; its clock is ten hours ahead.
    started = {
        "old": "2026-01-01T10:00:00+00:00",
        "older": "2026-01-01T12:00:00+10:00",
        "new": "2026-01-01T11:00:00+00:00",
        "unknown": "",
    }
    for name, when in started.items():
        experiments.write(tmp_path / name, search(name, started=when))
    go(tmp_path / "run")
    found = experiments.find(tmp_path)
    assert [one.id for one in found][1:] == ["new", "old", "older", "unknown"] and len(found) == 5
    assert found[1].id == "new" == found["new"].id and [one.id for one in found[2:4]] == ["old", "older"]
    assert found.table()["started"].to_pylist()[2:] == [
        "2026-01-01T10:00:00.000+00:00",
        "2026-01-01T02:00:00.000+00:00",
        None,
    ]
    assert [one.kind for one in experiments.find(tmp_path, kind="generation")] == ["generation"]
    assert (
        len(experiments.find(tmp_path, kind="optimization")) == 4
        and len(experiments.find(tmp_path, kind="training")) == 0
    )


# --- never stale ----------------------------------------------------------------------------------------------------


def test_the_table_is_what_the_folders_are_at_this_moment(tmp_path):
    run = go(tmp_path / "a")
    go(tmp_path / "b")
    run.mark([Verdict(record.id, "any", at > 4) for at, record in enumerate(run.records)])
    kept = lambda: {one.folder.name: one.kept for one in experiments.find(tmp_path)}
    assert kept() == {"a": 15, "b": None}
    run.mark([Verdict(record.id, "other", at != 7) for at, record in enumerate(run.records)])
    assert kept() == {"a": 14, "b": None}
    (tmp_path / "deep" / "er").mkdir(parents=True)
    (tmp_path / "a").rename(tmp_path / "deep" / "er" / "moved")
    shutil.rmtree(tmp_path / "b")
    [moved] = experiments.find(tmp_path)
    assert (moved.id, moved.kept, moved.cost) == (
        run.info["id"],
        14,
        None,
    ) and moved.requests == 20  # its ledger moved too
    assert experiments.find(tmp_path).table()["folder"].to_pylist() == ["deep/er/moved"]
    assert [one.id for one in experiments.find(tmp_path / "deep" / "er" / "moved")] == [moved.id]  # the folder itself


def test_rows_of_an_earlier_code_or_prompt_are_not_counted(tmp_path):
    run = go(tmp_path)
    run.mark([Verdict(record.id, "any", False) for record in run.records])

    async def make(task, client):
        return Instruction(f"new {task.text}", provenance=(await tasks.make(task, client)).provenance)

    go(tmp_path, 12, make=make, budget=Budget(requests=0))
    [found] = experiments.find(tmp_path)
    assert (found.tasks, found.records, found.kept) == (12, 12, None)


def test_hidden_folders_and_a_runs_own_shards_are_not_searched(tmp_path):
    for name in (".hidden/x", "run/shards/000000", "run/verdicts/x"):
        experiments.write(tmp_path / name, search())
    assert len(experiments.find(tmp_path)) == 0 and experiments.find(tmp_path).skipped == ()


def test_an_empty_folder_gives_empty_tables_that_can_be_asked(tmp_path):
    found = experiments.find(tmp_path)
    assert (
        len(found) == 0
        and found.query("SELECT id, cost + 1 FROM experiments JOIN scores ON experiment = id").to_pylist() == []
    )
    assert "id" in repr(found) and "<table" in found._repr_html_()


def test_a_missing_folder_is_refused_with_what_to_do(tmp_path):
    (tmp_path / "file").write_text("")
    for wrong in ("nowhere", "file"):
        with pytest.raises(InputError, match=rf"no folder .*{wrong}.*find\('data/runs'\)"):
            experiments.find(tmp_path / wrong)


# --- runs that did not end well -------------------------------------------------------------------------------------


def test_a_killed_run_is_listed_as_unfinished_until_it_is_gone_on_with(tmp_path):
    with serving(tasks.echo, seconds=0.01) as server:
        process = start(server, tmp_path / "out")
        wait_for(server, 60, process)
        os.kill(process.pid, signal.SIGKILL)
        process.communicate()
        time.sleep(0.02)
        [killed] = experiments.find(tmp_path)
        assert (killed.status, killed.stopped, killed.folder.name) == ("unfinished", "unfinished", "out")
        assert killed.records == killed.tasks < TASKS and killed.requests >= killed.records
        kill_me.go(server.url, tmp_path / "out", TASKS)
    [whole] = experiments.find(tmp_path)
    assert (whole.status, whole.records, whole.requests) == ("finished", TASKS, TASKS)
    assert (whole.id, whole.started) == (killed.id, killed.started) and whole.started != ""


def test_a_run_that_was_stopped_says_why(tmp_path):
    go(tmp_path / "budget", budget=Budget(requests=9))
    go(
        tmp_path / "refused",
        client=Scripted(lambda request: CallFailed("rejected", "401, <b>wrong</b> key", fatal=True)),
    )
    found = {one.folder.name: one for one in experiments.find(tmp_path)}
    assert (
        found["budget"].status == "stopped"
        and "Raise the budget" in found["budget"].stopped
        and found["budget"].records == 9
    )
    assert found["refused"].status == "stopped" and found["refused"].records == 0
    assert found["refused"].model == "scripted" and found["refused"].prompts == ()  # what was asked; nobody answered


def test_a_run_written_before_there_were_settings_is_read(tmp_path):
    run = go(tmp_path, settings={"seed": 1})
    info = json.loads((tmp_path / "run.json").read_text())
    for name in ("settings", "started", "session"):
        del info[name]
    (tmp_path / "run.json").write_text(json.dumps(info))
    [old] = experiments.find(tmp_path)
    assert (old.settings, old.records, runner.load(tmp_path).record_count) == ({}, 20, 20)
    assert abs(datetime.fromisoformat(old.started).timestamp() - run.info["sessions"][0]["started"]) < 0.001
    again = go(tmp_path, settings={"seed": 1})
    assert again.info["started"][:19] == old.started[:19] and again.info["settings"] == {"seed": 1}


BROKEN = {
    "run.json cut off": ("run.json", lambda raw: raw[:40], "is not JSON"),
    "run.json of null": ("run.json", lambda raw: b"null", "no run"),
    "run.json of a list": ("run.json", lambda raw: b"[1]", "another program"),
    "run.json of another program": ("run.json", lambda raw: b'{"name": "x"}', "another program"),
    "run.json with another id": ("run.json", lambda raw: raw.replace(b'"id": "', b'"id": 4, "x": "'), "id must be"),
    "run.json with other sessions": ("run.json", lambda raw: raw.replace(b'"seconds"', b'"hours"'), "another program"),
    "run.json with odd settings": ("run.json", lambda raw: raw.replace(b'"settings": {}', b'"settings": 5'), "another program"),
}  # fmt: skip


@pytest.mark.parametrize("name", BROKEN)
def test_a_folder_that_cannot_be_read_is_named_and_hides_no_other(tmp_path, name):
    file, damage, says = BROKEN[name]
    for folder in ("a", "broken", "c"):
        go(tmp_path / folder, 3)
    path = tmp_path / "broken" / file
    assert damage(path.read_bytes()) != path.read_bytes()
    path.write_bytes(damage(path.read_bytes()))
    found = experiments.find(tmp_path)
    assert sorted(one.folder.name for one in found) == ["a", "c"]
    [(folder, why)] = found.skipped
    assert folder == "broken" and says in why and "broken: " in repr(found) and "broken: " in found._repr_html_()


INCOMPLETE = {
    "no ledger": ("ledger.sqlite", None, {"cost", "requests", "prompt_tokens", "completion_tokens"}),
    "a ledger cut off": ("ledger.sqlite", lambda raw: raw[:5000], {"cost", "requests", "prompt_tokens", "completion_tokens"}),
    "a ledger of zeros": ("ledger.sqlite", lambda raw: b"0" * 9000, {"cost", "requests", "prompt_tokens", "completion_tokens"}),
    "no shard file": ("shards/000001/Instruction.parquet", None, {"kept", "prompts", "score"}),
    "a shard cut off": ("shards/000000/Instruction.parquet", lambda raw: raw[:50], {"kept", "prompts", "score"}),
    "verdicts cut off": ("verdicts/any.parquet", lambda raw: raw[:-9], {"kept", "score"}),
    "verdicts of others": ("verdicts/any.parquet", "shards/000000/Instruction.parquet", {"kept", "score"}),
}  # fmt: skip


@pytest.mark.parametrize("name", INCOMPLETE)
def test_a_run_that_lost_a_file_is_listed_with_what_is_known(tmp_path, name):
    file, damage, unknown = INCOMPLETE[name]
    for folder in ("whole", "lost"):
        run = go(tmp_path / folder, client=Scripted(tasks.echo, price=Price(1, 1)))
        run.mark([Verdict(record.id, "any", True) for record in run.records])
        run._open_ledger().close()  # SQLite then puts all into the one file
    path = tmp_path / "lost" / file
    if damage is None:
        path.unlink()
    elif callable(damage):
        path.write_bytes(damage(path.read_bytes()))
    else:
        shutil.copy(tmp_path / "lost" / damage, path)
    found = experiments.find(tmp_path)
    whole, lost = sorted(found.table().to_pylist(), key=lambda row: row["folder"], reverse=True)
    differs = {name for name in whole if whole[name] != lost[name]} - {
        "id",
        "folder",
        "started",
        "seconds",
        "score_low",
        "score_high",
    }
    assert differs == unknown and not any(lost[name] for name in unknown) and lost["records"] == 20
    assert [folder for folder, _ in found.skipped] == ["lost"] and "unknown" in found.skipped[0][1]


def test_a_shard_without_a_manifest_is_not_there_and_the_rest_is(tmp_path):
    go(tmp_path)
    (tmp_path / "shards" / "000000" / "manifest.json").unlink()
    [found] = experiments.find(tmp_path)
    assert (found.tasks, found.records) == (12, 12)


def test_a_copied_folder_is_named_and_counted_once(tmp_path):
    go(tmp_path / "a")
    shutil.copytree(tmp_path / "a", tmp_path / "b")
    found = experiments.find(tmp_path)
    assert [one.folder.name for one in found] == ["a"]
    assert found.skipped[0][0] == "b" and "a copy of a" in found.skipped[0][1]


# --- experiment.json ------------------------------------------------------------------------------------------------


def test_what_is_read_is_what_was_written(tmp_path):
    import numpy as np

    odd = search(settings={"mix": rag_qa.Mix(), "some": (1, 2)}, cost=np.float64(0.5), kept=None, seconds=3)
    path = experiments.write(tmp_path / "deep" / "x", odd)
    assert path == tmp_path / "deep" / "x" / "experiment.json" and [file.name for file in path.parent.iterdir()] == [
        path.name
    ]
    assert experiments.read(path.parent) == odd and odd.settings["mix"]["negatives"] == 3 and odd.cost == 0.5
    assert experiments.read(path.parent).folder == path.parent and str(tmp_path) not in path.read_text()
    assert experiments.find(tmp_path)["a"] == odd
    assert search(cost=float("nan")).cost is None


def test_a_write_that_fails_leaves_the_old_file(tmp_path, monkeypatch):
    experiments.write(tmp_path, search())
    monkeypatch.setattr(Path, "write_bytes", lambda *_: (_ for _ in ()).throw(OSError(28, "No space left on device")))
    with pytest.raises(StoreError, match="Free some space"):
        experiments.write(tmp_path, search("b"))
    monkeypatch.undo()
    assert experiments.read(tmp_path).id == "a" and len(list(tmp_path.iterdir())) == 1


SCORE = search().scores[0]
WRONG = {
    "a cost in words": ({"cost": "free"}, "cost must be of type double, got 'free'"),
    "a true cost": ({"cost": True}, "cost must be"),
    "half a request": ({"requests": 1.5}, "requests must be of type int64"),
    "prompts as text": ({"prompts": "rag/question@2"}, "prompts must be of type list"),
    "prompts that are none": ({"prompts": [1]}, "prompts must be"),
    "no id": ({"id": ""}, "must not be empty"),
    "nothing as its name": ({"name": None}, "name must be"),
    "a time without a zone": ({"started": "2026-02-03T10:30:00"}, "with a zone"),
    "no time": ({"started": "yesterday"}, "ISO 8601"),
    "settings as text": ({"settings": "seed=3"}, "settings must be a mapping"),
    "scores by name": ({"scores": {"all": 1}}, "scores a list"),
    "a score with another name": ({"scores": [{**SCORE, "mean": 1}]}, "a score has"),
    "a score without a value": ({"scores": [{**SCORE, "value": None}]}, "value must be"),
    "a score of half an example": ({"scores": [{**SCORE, "n": 0.5}]}, "n must be"),
}


@pytest.mark.parametrize("name", WRONG)
def test_a_wrong_value_is_refused_when_it_is_made_and_when_it_is_read(tmp_path, name):
    changed, says = WRONG[name]
    with pytest.raises(StoreError, match=says):
        search(**changed)
    path = experiments.write(tmp_path / "wrong", search())
    path.write_text(json.dumps({**json.loads(path.read_text()), **changed}))
    with pytest.raises(StoreError, match=rf"wrong.experiment.json: .*{says}.*delete it and run"):
        experiments.read(path.parent)
    experiments.write(tmp_path / "good", search("good"))
    found = experiments.find(tmp_path)
    assert [one.id for one in found] == ["good"] and found.skipped[0][0] == "wrong" and says in found.skipped[0][1]


@pytest.mark.parametrize(
    "text",
    ["", "{", "[]", '"x"', "null", '{"id": "x"}', '{"id": "x", "kind": "k", "name": "n", "started": "", "typo": 1}'],
)
def test_a_file_that_is_no_experiment_is_named_with_the_next_move(tmp_path, text):
    (tmp_path / "experiment.json").write_text(text)
    with pytest.raises(StoreError, match=r"experiment\.json is no experiment: .*Restore it from a copy"):
        experiments.read(tmp_path)
    assert experiments.find(tmp_path).skipped[0][0] == "."


def test_reading_what_is_not_there_says_so(tmp_path):
    with pytest.raises(StoreError, match=r"there is no .*experiment\.json"):
        experiments.read(tmp_path)
    with pytest.raises(StoreError, match="does not fit into JSON"):
        search(settings={"client": object()})


# --- how it looks, and what it must not hold ------------------------------------------------------------------------


def test_what_people_and_models_wrote_is_escaped(tmp_path):
    bad = "<img src=x onerror=alert(1)>"
    go(tmp_path / "run", client=Scripted(tasks.echo, model=bad))
    experiments.write(tmp_path / "search", search("<b>id</b>", name=bad, model=bad))
    (tmp_path / "<i>odd").mkdir()
    (tmp_path / "<i>odd" / "run.json").write_text("<u>")
    found = experiments.find(tmp_path)
    for shown in (found._repr_html_(), found[0]._repr_html_(), found["<b>id</b>"]._repr_html_()):
        assert "&lt;img" in shown and "<img" not in shown
    assert (
        "<i>odd" not in found._repr_html_()
        and "<b>id" not in found._repr_html_()
        and "&lt;i&gt;odd" in found._repr_html_()
    )
    assert "<img" not in found.compare(0, 1)._repr_html_()


def test_rows_of_the_offline_rules_say_so_and_folders_are_relative(tmp_path, bundled):
    runner.run(rag_qa.make, rag_qa.plan(bundled).first(3), client=llm.Offline(), out=tmp_path / "off")
    experiments.write(tmp_path / "on", search())
    found = experiments.find(tmp_path)
    for shown in (repr(found), found._repr_html_()):
        assert (
            shown.count("offline rules, no model") == 1
            and "0.70 (0.60 to 0.80)" in shown
            and str(tmp_path) not in shown
        )
    assert [one.is_offline for one in found] == [True, False] and "off" in repr(found[0])
    assert repr(found).index("off") < repr(found).index("optimization")  # newest first


def test_a_long_list_shows_its_first_rows_and_how_many_there_are(tmp_path):
    for number in range(25):
        experiments.write(tmp_path / f"{number:02}", search(f"x{number}"))
        (tmp_path / f"broken {number}").mkdir()
        (tmp_path / f"broken {number}" / "experiment.json").write_text("{")
    found = experiments.find(tmp_path)
    assert "(20 of 25 rows)" in repr(found) and "20 of 25 rows" in found._repr_html_() and "and 22 more" in repr(found)
    assert "(2" not in repr(found[:3]) and len(found[:3]) == 3


def test_no_key_gets_into_the_folder_or_the_table(tmp_path, monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", "sk-very-secret")
    with serving(tasks.echo) as server:
        go(tmp_path / "run", 5, client=llm.OpenAI(server.url, "m"))
        found = experiments.find(tmp_path)
        assert found[0].endpoint == server.url or server.url.startswith(found[0].endpoint)
    said = (
        json.dumps([found.table().to_pylist(), found.scores().to_pylist()])
        + (tmp_path / "run" / "run.json").read_text()
    )
    assert "secret" not in said and "sk-" not in said
