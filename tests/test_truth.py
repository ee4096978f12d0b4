"""What a folder shows belongs to the run that it names, whatever went wrong on the way."""

import asyncio
from dataclasses import replace

import pytest

from tests import tasks
from workbench import llm, runner, store
from workbench.errors import CallFailed, RecordError, RunError
from workbench.llm import Budget, Ledger, Price, Request, Sampling, Scripted
from workbench.records import Instruction, Verdict
from workbench.runner import Options, Plan
from workbench.stages import grow

SMALL = Options(concurrency=4, shard_tasks=8)


def go(out, made=None, client=None, **options):
    return runner.run(
        tasks.make, made or tasks.tasks(40), client=client or Scripted(tasks.echo), out=out, options=SMALL, **options
    )


def test_a_run_that_a_budget_stopped_shows_no_row_of_the_run_before(tmp_path):
    go(tmp_path)
    other = [
        replace(task, prompt=replace(tasks.PROMPT, version=2, sampling={"temperature": 0.5}))
        for task in tasks.tasks(40)
    ]
    stopped = go(tmp_path, other, budget=Budget(requests=10))
    assert {record.provenance.prompt.partition("#")[0] for record in stopped.records} == {
        "test/echo@2"
    } and stopped.record_count == 10


def test_a_plan_that_breaks_shows_no_row_of_the_run_before(tmp_path):
    go(tmp_path)

    def broken():
        yield from (tasks.Task(f"other {number}") for number in range(10))
        raise ValueError("broken")

    with pytest.raises(ValueError, match="broken"):
        go(tmp_path, Plan(broken))
    assert all(record.instruction.startswith("other") for record in runner.load(tmp_path).records)


def test_growing_again_re_makes_nothing_and_an_interrupted_growth_loses_nothing(tmp_path):
    client = Scripted(tasks.echo)
    accept = lambda records: [Verdict(record.id, "any", True) for record in records]
    plan = Plan(lambda: iter(tasks.tasks(500)), total=500)
    grow(tasks.make, plan, rows=200, client=client, out=tmp_path, check=accept, options=SMALL)
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("Instruction.parquet")}
    runner.run(tasks.make, plan.first(12), client=client, out=tmp_path, options=SMALL)  # the first stage, then a kill
    again = grow(tasks.make, plan, rows=200, client=client, out=tmp_path, check=accept, options=SMALL)
    kept = sum(before.get(path) == path.stat().st_mtime_ns for path in tmp_path.rglob("Instruction.parquet"))
    assert len(again.accepted) == 200 and kept >= len(before) - 2


def test_a_recipe_that_is_cancelled_or_interrupted_fails_one_task_and_not_the_run(tmp_path):
    async def make(task, client):
        if task == 5:
            raise asyncio.CancelledError
        if task == 6:
            raise KeyboardInterrupt
        return Instruction(str(task))

    run = runner.run(make, list(range(40)), client=Scripted([]), out=tmp_path, options=SMALL)
    assert (run.tasks, run.record_count, run.losses["exception"]) == (40, 38, 2)


def test_no_task_at_all_changes_nothing(tmp_path):
    once = iter(tasks.tasks(20))
    go(tmp_path, once)
    with pytest.raises(RunError, match="only once"):
        go(tmp_path, once)
    assert len(list(tmp_path.rglob("Instruction.parquet"))) == 3
    for wrong in ({"shard_tasks": 0}, {"concurrency": 0}):
        with pytest.raises(RunError, match="1 or more"):
            Options(**wrong)


def test_retrying_the_same_run_twice_throws_no_good_row_away(tmp_path):
    client = Scripted(lambda request: tasks.echo(request) if request.sample else "unreadable")
    run = go(tmp_path, tasks.tasks(3), client)
    assert run.retry().record_count == 3 == run.retry().record_count
    assert len(client.requests) == 6


def test_a_shard_that_was_whole_is_not_replaced_by_a_half_made_one(tmp_path):
    reply = lambda request: (
        CallFailed("timeout", "slow") if request.messages[-1]["content"].split()[2] == "7" else tasks.echo(request)
    )
    first = runner.run(
        tasks.make,
        tasks.tasks(100),
        client=Scripted(reply),
        out=tmp_path,
        options=Options(concurrency=4, shard_tasks=100),
    )
    (tmp_path / "ledger.sqlite").unlink()
    refused = Scripted(lambda request: CallFailed("rejected", "401", fatal=True))
    second = runner.run(
        tasks.make, tasks.tasks(100), client=refused, out=tmp_path, options=Options(concurrency=4, shard_tasks=100)
    )
    assert first.record_count == second.record_count == 99 and "401" in second.stopped


@pytest.mark.parametrize("damage", [b"", b"{", None])
def test_a_damaged_shard_is_made_again(tmp_path, damage):
    client = Scripted(tasks.echo)
    whole = go(tmp_path, client=client).records
    shard = tmp_path / "shards" / "000001"
    file = shard / ("Instruction.parquet" if damage is None else "manifest.json")
    file.write_bytes(file.read_bytes()[:50] if damage is None else damage)
    assert go(tmp_path, client=client).records == whole and len(client.requests) == 40


def test_a_check_may_not_have_a_path_for_a_name(tmp_path):
    run = go(tmp_path)
    for name in ("../../evil", "judge/faithful", ".hidden"):
        with pytest.raises(RecordError, match="check's name"):
            run.mark([Verdict(run.records[0].id, name, False)])


def test_what_people_marked_counts_when_growing_again(tmp_path):
    client = Scripted(tasks.echo)
    accept = lambda records: [Verdict(record.id, "any", True) for record in records]
    plan = Plan(lambda: iter(tasks.tasks(100)), total=100)
    growth = grow(tasks.make, plan, rows=10, client=client, out=tmp_path, check=accept)
    wrong = growth.accepted[:4]
    growth.run.mark([Verdict(record.id, "human", False, reason="wrong") for record in wrong])
    again = grow(tasks.make, plan, rows=10, client=client, out=tmp_path, check=accept)
    assert len(again.accepted) == 10 == len(again.run.kept()) and not {r.id for r in wrong} & {
        r.id for r in again.accepted
    }


def test_one_odd_number_or_character_costs_one_row_at_most(tmp_path):
    from workbench.llm import Completion
    from workbench.llm.client import Choice

    def reply(request):
        number = int(request.messages[-1]["content"].split()[2])
        text = "half \ud83d an emoji" if number == 3 else "fine"
        return Completion(
            (Choice(tasks.answer(text)),), "m", prompt_tokens=2**64 - 1 if number == 5 else 1, completion_tokens=1
        )

    run = go(tmp_path, client=Scripted(reply))
    assert (run.record_count, len(run.failures)) == (39, 1) and run.failures[0].task_index == 3


def test_one_record_of_a_wrong_type_is_one_failure_and_not_the_end_of_the_run(tmp_path):
    async def make(task, client):
        return Instruction(f"row {task}", output=5 if task == 7 else "fine")

    run = runner.run(make, list(range(20)), client=Scripted([]), out=tmp_path, options=SMALL)
    assert run.record_count == 19 and "schema" in run.failures[0].detail and run.failures[0].task_index == 7


def test_two_ledgers_on_one_file_agree_on_one_answer(tmp_path):
    class Slow(Scripted):
        async def complete(self, request):
            await asyncio.sleep(0.02)
            return await super().complete(request)

    async def both():
        ledgers = [Ledger(Slow([f"from {name}"]), tmp_path / "l.sqlite") for name in "AB"]
        request = Request(({"role": "user", "content": "same"},))
        return await asyncio.gather(*(ledger.complete(request) for ledger in ledgers)), ledgers[0]

    answers, ledger = asyncio.run(both())
    assert len({answer.text for answer in answers}) == 1
    assert ledger.entry(answers[0].key)["choices"] == [answers[0].text]


def test_one_ledger_serves_one_event_loop_after_another(tmp_path):
    ledger = Ledger(Scripted(lambda request: "x"), tmp_path / "l.sqlite")
    for _ in range(3):
        asyncio.run(ledger.complete(Request(({"role": "user", "content": "same"},))))


def test_a_failed_request_that_was_paid_for_is_in_its_failure_and_in_the_estimate(tmp_path):
    from workbench import stages

    def reply(request):
        if int(request.messages[-1]["content"].split()[2]) % 2:
            failure = CallFailed("length", "cut")
            failure.prompt_tokens, failure.completion_tokens = 0, 1000
            return failure
        return tasks.echo(request)

    ledger = Ledger(Scripted(reply, price=Price(0, 1000)), tmp_path / "l.sqlite")
    plan = Plan(lambda: iter(tasks.tasks(20)), total=20)
    guess = stages.estimate(tasks.make, plan, client=ledger, out=tmp_path / "pilot", pilot=20)
    low, _, high = guess.cost
    assert low <= ledger.spent()["cost"] <= high and ledger.spent()["cost"] > 10
    assert all(failure.requests for failure in runner.load(tmp_path / "pilot").failures)


def test_a_longer_answer_by_extra_parameters_is_budgeted():
    budget = Budget(tokens=2000)
    sampling = Sampling(max_tokens=10, extra={"max_tokens": 5000})
    assert budget._most(Request(()), sampling, None)["tokens"] == 5000


def test_a_runs_own_report_is_no_document(tmp_path, bundled):
    from workbench import generate

    docs = tmp_path / "docs"
    docs.mkdir()
    for document in bundled[:3]:
        (docs / document.path.replace("/", "-")).write_text(document.text)
    for _ in range(2):
        data = generate.from_documents(docs, out=docs / "run", client=llm.Offline(), settings=generate.Settings(rows=5))
        assert len(data.documents) == 3 == len(store.documents(docs))


def test_the_money_of_personas_and_pilot_is_in_the_report(tmp_path, bundled):
    from tests.servers import first_sentence
    from workbench import generate

    def reply(request):
        if "Wanted relation" in request.messages[-1]["content"]:
            number = len(client.requests)
            return (
                '{"interest": "x", "persona": "A harbour pilot number '
                + "n" * (number % 7 + 3)
                + ' who wants to know when the water rises and how the crew should prepare for it."}'
            )
        return first_sentence({"messages": request.messages})

    client = Scripted(reply, price=Price(1e6, 0))
    settings = generate.Settings(rows=5, personas=3)
    generate.estimate(bundled, out=tmp_path, client=client, settings=settings)
    data = generate.from_documents(bundled, out=tmp_path, client=client, settings=settings, gates=None)
    assert data.spent["requests"] == len(client.requests)
    assert f"<b>{len(client.requests):,}</b>" in data.report.read_text()
