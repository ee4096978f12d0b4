"""The runner: order by plan, bounded memory, failures as values, accounts that add up, plain calls in any place."""

import asyncio
import json
import sys
import threading
import tracemalloc
from dataclasses import replace

import pytest

from tests import tasks
from workbench import llm, runner, store
from workbench.errors import CallFailed, RunError
from workbench.llm import Scripted
from workbench.records import Failure, Instruction, Verdict
from workbench.runner import Options, Plan


def test_records_are_in_the_plans_order_whatever_order_the_answers_came_in(tmp_path):
    class Slow(Scripted):
        async def complete(self, request):
            await asyncio.sleep(0.02 * (int(request.messages[-1]["content"].split()[2]) * 5 % 7) / 7)
            return await super().complete(request)

    run = runner.run(
        tasks.make,
        tasks.tasks(200),
        client=Slow(tasks.echo),
        out=tmp_path,
        options=Options(concurrency=16, shard_tasks=32),
    )
    assert [record.instruction for record in run.records] == [task.text for task in tasks.tasks(200)]
    assert [
        json.loads((f / "manifest.json").read_text())["tasks"] for f in sorted((tmp_path / "shards").iterdir())
    ] == [32] * 6 + [8]


def test_any_exception_is_a_failure_of_its_task_with_the_traceback_kept(tmp_path):
    async def make(task, client):
        if task == 3:
            raise ZeroDivisionError("of task three")
        if task == 4:
            sys.exit("leaving")
        if task == 5:
            return None
        if task == 6:
            return []
        return Instruction(str(task))

    run = runner.run(make, list(range(8)), client=Scripted([]), out=tmp_path)
    assert [record.instruction for record in run.records] == ["0", "1", "2", "7"]
    failures = {failure.task_index: failure for failure in run.failures}
    assert (
        failures[3].detail == "ZeroDivisionError: of task three"
        and 'raise ZeroDivisionError("of task three")' in failures[3].traceback
    )
    assert failures[4].reason == "exception" and "must return" in failures[5].detail and failures[6].reason == "nothing"


def test_a_low_yield_is_said_loudly_with_three_raw_outputs(tmp_path):
    run = runner.run(
        tasks.make, tasks.tasks(50), client=Scripted(lambda request: "I had rather <b>chat</b>."), out=tmp_path
    )
    assert "Only 0 of 50 outcomes are records" in repr(run) and repr(run).count("I had rather") == 3
    assert "Only 0 of 50" in run._repr_html_() and "<b>chat" not in run._repr_html_()


def test_the_funnel_adds_up(tmp_path):
    reply = lambda request: "?" if "7" in request.messages[-1]["content"] else tasks.echo(request)
    run = runner.run(tasks.make, tasks.tasks(100), client=Scripted(reply), out=tmp_path)
    run.mark([Verdict(record.id, "short", at % 10 != 0, reason="too_short") for at, record in enumerate(run.records)])
    run = runner.load(tmp_path)
    level = None
    for step in run.funnel():
        if step.kind == "total":
            assert level in (None, step.count)
            level = step.count
        else:
            level -= step.count
    assert [step.count for step in run.funnel()] == [100, 19, 81, 9, 72]
    assert len(run.kept()) == 72


def test_a_record_made_twice_is_kept_once_and_accounted_for(tmp_path):
    async def make(task, client):
        return Instruction("the same")

    run = runner.run(make, [1, 2, 3], client=Scripted([]), out=tmp_path)
    run.mark([Verdict(run.records[0].id, "any", True)])
    assert len(run.kept()) == 1
    assert [(step.label, step.count) for step in run.funnel()][1:] == [
        ("records made", 3),
        ("the same record again", 2),
        ("records kept", 1),
    ]


def test_a_task_may_give_several_records_and_failures(tmp_path):
    async def make(task, client):
        return [Instruction(f"{task}a"), Instruction(f"{task}b"), Failure("half", "one part did not work")]

    run = runner.run(make, [1, 2], client=Scripted([]), out=tmp_path)
    assert (run.record_count, run.losses["half"]) == (4, 2)
    assert [(step.label, step.count) for step in run.funnel()] == [
        ("tasks asked", 2),
        ("outcomes of these tasks", 6),
        ("failed: half", 2),
        ("records made", 4),
    ]


def test_retry_asks_unanswered_tasks_again_and_draws_unusable_answers_anew(tmp_path):
    def reply(request):
        text = request.messages[-1]["content"]
        if "text 1" in text and len(client.requests) <= 20:
            return CallFailed("timeout", "too slow")
        if "text 2" in text and request.sample == 0:
            return "not in the format"
        return tasks.echo(request)

    client = Scripted(reply)
    run = runner.run(tasks.make, tasks.tasks(20), client=client, out=tmp_path)
    assert run.losses == {"timeout": 11, "parse": 1}
    only_parse = run.retry(reason="parse")
    assert only_parse.losses == {} and len(client.requests) == 20 + 11 + 1
    redrawn = next(record for record in only_parse.records if record.instruction == "text 2")
    assert '"sample": 1000' in redrawn.provenance.sampling
    # It stays so: running again neither sends nor goes back to the unusable answer.
    again = runner.run(tasks.make, tasks.tasks(20), client=client, out=tmp_path)
    assert again.records == only_parse.records and len(client.requests) == 32


def test_retry_needs_tasks_that_can_be_read_again(tmp_path):
    run = runner.run(tasks.make, (task for task in tasks.tasks(3)), client=Scripted(lambda request: "?"), out=tmp_path)
    with pytest.raises(RunError, match="list or a Plan"):
        run.retry()
    with pytest.raises(RunError, match="same plan"):
        runner.load(tmp_path).retry()


def test_memory_does_not_grow_with_the_number_of_planned_tasks(tmp_path):
    def peak(count):
        async def make(task, client):
            return Instruction(f"row {task}")

        tracemalloc.start()
        run = runner.run(make, Plan(lambda: iter(range(count))), client=Scripted([]), out=tmp_path / str(count))
        assert run.record_count == count
        _, most = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        return most

    peak(100)
    assert peak(20_000) < 1.3 * peak(2_000)


def test_the_plan_is_taken_only_as_far_as_it_is_needed(tmp_path):
    taken = []

    def endless():
        for number in range(10**9):
            taken.append(number)
            yield tasks.Task(f"text {number}")

    client = Scripted(tasks.echo)
    budget = llm.Budget(requests=100)
    run = runner.run(
        tasks.make,
        Plan(endless),
        client=client,
        out=tmp_path,
        budget=budget,
        options=Options(concurrency=4, shard_tasks=16),
    )
    assert len(client.requests) == 100 and len(taken) < 160 and "budget" in run.stopped
    assert run.record_count == 100


def test_run_is_a_plain_call_inside_a_running_event_loop_and_in_other_threads(tmp_path):
    async def cell():
        return runner.run(tasks.make, tasks.tasks(5), client=Scripted(tasks.echo), out=tmp_path / "loop")

    assert asyncio.run(cell()).record_count == 5
    made = []
    threads = [
        threading.Thread(
            target=lambda n=n: made.append(
                runner.run(tasks.make, tasks.tasks(5), client=Scripted(tasks.echo), out=tmp_path / f"{n}")
            )
        )
        for n in range(3)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [run.record_count for run in made] == [5, 5, 5]


def test_two_runs_may_not_write_to_one_folder(tmp_path):
    async def make(task, client):
        with pytest.raises(RunError, match="another run is writing"):
            await asyncio.to_thread(runner.run, tasks.make, tasks.tasks(2), client=Scripted(tasks.echo), out=tmp_path)
        return Instruction("done")

    assert runner.run(make, [1], client=Scripted([]), out=tmp_path).record_count == 1


def test_a_folder_that_is_no_run_is_refused(tmp_path):
    with pytest.raises(RunError, match=r"no run\.json"):
        runner.load(tmp_path)
    (tmp_path / "run.json").write_text("{")
    with pytest.raises(RunError, match="not JSON"):
        runner.load(tmp_path)


def test_a_disk_that_fills_up_ends_the_run_in_words_and_keeps_whole_shards(tmp_path, monkeypatch):
    real = store.write

    def full(rows, path, **options):
        if "000003" in str(path):
            raise store.cannot_write(path, OSError(28, "No space left on device"))
        return real(rows, path, **options)

    monkeypatch.setattr(store, "write", full)
    client = Scripted(tasks.echo)
    with pytest.raises(store.StoreError, match="Free some space and run again"):
        runner.run(
            tasks.make, tasks.tasks(100), client=client, out=tmp_path, options=Options(shard_tasks=16, concurrency=4)
        )
    assert runner.load(tmp_path).record_count >= 48
    monkeypatch.undo()
    sent = len(client.requests)
    run = runner.run(
        tasks.make, tasks.tasks(100), client=client, out=tmp_path, options=Options(shard_tasks=16, concurrency=4)
    )
    assert run.record_count == 100 and len(client.requests) == 100 >= sent


def test_an_error_in_the_plan_is_raised_and_what_finished_is_kept(tmp_path):
    def broken():
        yield from tasks.tasks(40)
        raise ValueError("the plan broke")

    with pytest.raises(ValueError, match="the plan broke"):
        runner.run(
            tasks.make,
            Plan(broken),
            client=Scripted(tasks.echo),
            out=tmp_path,
            options=Options(shard_tasks=8, concurrency=2),
        )
    assert runner.load(tmp_path).record_count >= 32


def test_a_task_that_cannot_be_hashed_is_refused(tmp_path):
    with pytest.raises(Exception, match="cannot hash"):
        runner.run(tasks.make, [object()], client=Scripted([]), out=tmp_path)


def test_explain_leads_from_a_row_to_its_document_and_its_request(tmp_path, bundled):
    from tests.servers import first_sentence
    from workbench.recipes import rag_qa

    client = Scripted(lambda request: first_sentence({"messages": request.messages}))
    run = runner.run(rag_qa.make, rag_qa.plan(bundled).first(20), client=client, out=tmp_path)
    row = next(record for record in run.records if record.is_answerable)
    said = repr(runner.explain(row, run, among=bundled))
    document = next(document for document in bundled if document.id == row.passage.span.document_id)
    assert document.path in said and row.provenance.requests[0] in said and "rag/question@1#" in said
    assert "not given" not in said
    without = repr(runner.explain(row, run))
    assert "not given: pass it in among=" in without
    assert "<script>" not in runner.explain(replace(row, question="<script>"), run)._repr_html_()
