"""Growing in stages: N accepted rows, or why not; gates that stop before the money for the rest is spent."""

import pytest

from tests import tasks
from workbench import runner, stages
from workbench.llm import Budget, Ledger, Price, Scripted
from workbench.quality import dedup
from workbench.records import Verdict
from workbench.runner import Plan
from workbench.stages import Gates, grow


def plan(count):
    return Plan(lambda: iter(tasks.tasks(count)), total=count)


def accept_all(records):
    return [Verdict(record.id, "any", True) for record in records]


def test_exactly_the_rows_asked_for_are_accepted_and_the_rest_is_marked(tmp_path):
    every_third = lambda records: [
        Verdict(r.id, "third", int(r.instruction.split()[1]) % 3 > 0, reason="third") for r in records
    ]
    client = Scripted(tasks.echo)
    growth = grow(tasks.make, plan(2000), rows=250, client=client, out=tmp_path, check=every_third)
    assert (
        len(growth.accepted) == 250
        and growth.why_fewer == ""
        and [stage.target for stage in growth.stages] == [10, 100, 250]
    )
    assert growth.run.funnel()[-1].count == 250 == len(growth.run.kept())
    assert len(client.requests) < 250 * 1.5 * 1.2  # it asks for what the yield says it needs, not for all
    assert "250 of 250 rows accepted" in repr(growth)


def test_a_plan_that_is_too_short_says_so_and_keeps_what_there_is(tmp_path):
    growth = grow(tasks.make, plan(40), rows=100, client=Scripted(tasks.echo), out=tmp_path, check=accept_all)
    assert len(growth.accepted) == 40 and "plan ended after 40 tasks with 40 rows" in growth.why_fewer


@pytest.mark.parametrize(
    ("reply", "says"),
    [
        (lambda n: "no fields" if n >= 10 and n % 2 else None, "parse rate"),
        (lambda n: tasks.answer("always the same") if n >= 10 else None, "duplicate rate"),
    ],
)
def test_a_rate_that_falls_after_ten_good_rows_stops_before_the_rest_and_shows_what_changed(tmp_path, reply, says):
    client = Scripted(lambda request: reply(int(request.messages[-1]["content"].split()[2])) or tasks.echo(request))
    check = lambda records: dedup.exact(records, fields=("output",))
    growth = grow(
        tasks.make, plan(5000), rows=1000, client=client, out=tmp_path, check=check, gates=Gates(max_opening_share=1)
    )
    assert says in growth.why_fewer and "Before, at 1" in growth.why_fewer
    assert growth.stages[-1].target == 100 and len(client.requests) < 900 and len(growth.accepted) < 1000
    assert says in repr(growth) and says in growth._repr_html_()
    regardless = grow(tasks.make, plan(300), rows=120, client=client, out=tmp_path / "b", check=check, gates=None)
    assert says not in regardless.why_fewer


def test_a_yield_near_nothing_stops_before_it_empties_the_plan(tmp_path):
    client = Scripted(tasks.echo)
    one_in_fifty = lambda records: [
        Verdict(r.id, "rare", int(r.instruction.split()[1]) % 50 == 0, reason="rare") for r in records
    ]
    growth = grow(tasks.make, plan(100_000), rows=1000, client=client, out=tmp_path, check=one_in_fifty)
    assert "tasks gave an accepted row" in growth.why_fewer and len(client.requests) < 500


def test_a_source_that_runs_dry_stops_the_growth_though_all_in_all_enough_were_accepted(tmp_path):
    client = Scripted(tasks.echo)
    only_150 = lambda records: [
        Verdict(r.id, "dry", int(r.instruction.split()[1]) < 150, reason="dry") for r in records
    ]
    growth = grow(tasks.make, plan(100_000), rows=1000, client=client, out=tmp_path, check=only_150)
    assert "45 of the last" in growth.why_fewer and len(growth.accepted) == 150
    assert len(client.requests) < 2500 and growth.stages[-1].accepted >= 0.05 * growth.stages[-1].tasks


def test_a_helping_at_most_doubles_what_was_asked_whatever_the_yield_says(tmp_path):
    client = Scripted(tasks.echo)
    none = lambda records: [Verdict(r.id, "none", False, reason="none") for r in records]
    growth = grow(tasks.make, plan(5000), rows=10, client=client, out=tmp_path, check=none)
    assert "0 of 48 tasks" in growth.why_fewer and len(client.requests) == 48


def test_a_stock_phrase_stops_the_growth(tmp_path):
    from dataclasses import replace

    async def make(task, client):
        record = await tasks.make(task, client)
        return replace(record, instruction=f"What is the use of {task.text}?")

    growth = grow(make, plan(500), rows=300, client=Scripted(tasks.echo), out=tmp_path, check=accept_all)
    assert 'rows begin with "what is the use"' in growth.why_fewer


def test_an_evidence_rate_below_its_gate_stops_the_growth(tmp_path):
    from workbench.records import Failure

    async def make(task, client):
        record = await tasks.make(task, client)
        return record if int(task.text.split()[1]) % 2 else Failure("evidence", "not in the passage", raw="x")

    growth = grow(make, plan(500), rows=300, client=Scripted(tasks.echo), out=tmp_path, check=accept_all)
    assert "evidence rate 50%" in growth.why_fewer and growth.stages[-1].target == 10


def test_a_budget_ends_the_growth_with_its_reason_and_running_again_goes_on(tmp_path):
    client = Scripted(tasks.echo)
    first = grow(
        tasks.make, plan(500), rows=200, client=client, out=tmp_path, check=accept_all, budget=Budget(requests=50)
    )
    assert "budget" in first.why_fewer and len(first.accepted) == 50
    second = grow(tasks.make, plan(500), rows=200, client=client, out=tmp_path, check=accept_all)
    assert len(second.accepted) == 200 and second.why_fewer == ""
    keys = {request.messages[-1]["content"] for request in client.requests}
    assert len(keys) == len(client.requests)  # nothing was asked twice


def test_asking_for_fewer_rows_later_leaves_no_old_mark(tmp_path):
    ledger = Ledger(Scripted(tasks.echo), tmp_path / "l.sqlite")
    for rows in (30, 12, 40):
        growth = grow(tasks.make, plan(500), rows=rows, client=ledger, out=tmp_path / "out", check=accept_all)
        assert len(growth.run.kept()) == rows == len(growth.accepted)


def test_stage_sizes_are_ten_a_hundred_and_the_rest():
    assert stages.STAGES == (10, 100)


def test_an_estimate_has_an_interval_that_holds_the_truth_and_its_pilot_is_not_paid_twice(tmp_path):
    client = Scripted(
        lambda request: tasks.answer("word " * (1 + int(request.messages[-1]["content"].split()[2]) * 7 % 20)),
        price=Price(1.0, 10.0),
    )
    ledger = Ledger(client, tmp_path / "l.sqlite")
    made = tasks.tasks(300)
    guess = stages.estimate(
        tasks.make, Plan(lambda: iter(made), total=300), client=ledger, out=tmp_path / "pilot", pilot=40
    )
    assert len(client.requests) == 40
    run = runner.run(tasks.make, made, client=ledger, out=tmp_path / "out")
    assert len(client.requests) == 300
    low, middle, high = guess.cost
    assert low < middle < high
    assert 0.8 * low < ledger.spent()["cost"] < 1.2 * high
    assert run.spent["requests"] == 260
    assert guess.for_rows(600).tokens[1] == pytest.approx(2 * guess.tokens[1])
