"""Pools: one run asks several clients, each answer is its member's own, and the ledger knows which."""

import asyncio

import pytest

from tests import tasks
from workbench import llm, runner
from workbench.errors import ClientError
from workbench.llm import Price, Request, Sampling
from workbench.llm.client import request_key
from workbench.records import Instruction


def scripted(name, **options):
    return llm.Scripted(
        lambda request: tasks.answer(f"{name} says {request.messages[-1]['content'].split()[1]}"), model=name, **options
    )


async def both(task, client):
    made = []
    for name in ("small", "large"):
        answer = await llm.ask(llm.to(client, name), task.prompt, {"text": task.text})
        made.append(Instruction(task.text, output=answer["answer"], provenance=answer.provenance("both")))
    return made


def test_a_run_asks_every_member_and_each_row_names_the_model_that_wrote_it(tmp_path):
    small, large = scripted("small-model"), scripted("large-model")
    run = runner.run(both, tasks.tasks(5), client=llm.Pool(small=small, large=large), out=tmp_path)
    assert [row.provenance.model for row in run.records] == ["small-model", "large-model"] * 5
    assert [row.output.split()[0] for row in run.records] == ["small-model", "large-model"] * 5
    assert len(small.requests) == len(large.requests) == 5
    ledger = run._open_ledger()
    assert {ledger.entry(row.provenance.requests[0])["request"]["model"] for row in run.records} == {
        "small-model",
        "large-model",
    }


def test_the_same_run_again_asks_nobody(tmp_path):
    pool = llm.Pool(small=scripted("a"), large=scripted("b"))
    first = runner.run(both, tasks.tasks(4), client=pool, out=tmp_path / "one")
    again = runner.run(
        both, tasks.tasks(4), client=llm.Ledger(pool, tmp_path / "one" / "ledger.sqlite"), out=tmp_path / "two"
    )
    assert again.records == first.records and again.replayed == 8
    assert all(len(client.requests) == 4 for client in pool.members.values())


def test_an_answer_has_the_key_that_it_would_have_without_the_pool():
    one = llm.Scripted([], model="m", sampling=Sampling(temperature=0.3))
    asked = Request(({"role": "user", "content": "x"},))
    inside = Request(asked.messages, to="one")
    assert request_key(one, asked) == request_key(llm.Pool(one=one, two=scripted("other")), inside)


def test_the_budget_is_one_and_each_member_has_its_own_price(tmp_path):
    pool = llm.Pool(small=scripted("a", price=Price(1, 1)), large=scripted("b", price=Price(100, 100)))
    budget = llm.Budget(requests=5)
    run = runner.run(
        both, tasks.tasks(10), client=pool, out=tmp_path, budget=budget, options=runner.Options(concurrency=1)
    )
    assert sum(len(client.requests) for client in pool.members.values()) == 5 and "budget" in run.stopped
    rows = {
        row["model"]: row["cost"]
        for row in run._open_ledger()._rows("SELECT model, max(cost) AS cost FROM calls GROUP BY model")
    }
    assert rows["b"] == pytest.approx(100 * rows["a"])


def test_the_member_has_the_sampling_of_its_client(tmp_path):
    pool = llm.Pool(short=scripted("a", sampling=Sampling(max_tokens=7)), other=scripted("b"))
    assert llm.to(llm.Ledger(pool, tmp_path / "l.sqlite"), "short").sampling.max_tokens == 7


@pytest.mark.parametrize("changed", [{"sampling": Sampling(temperature=1.0)}, {"model": "b2"}])
def test_a_run_in_the_same_folder_asks_a_member_that_was_changed_again(changed, tmp_path):
    runner.run(both, tasks.tasks(3), client=llm.Pool(small=scripted("a"), large=scripted("b")), out=tmp_path)
    reply = lambda request: tasks.answer("anew")
    pool = llm.Pool(small=scripted("a"), large=llm.Scripted(reply, **{"model": "b"} | changed))
    run = runner.run(both, tasks.tasks(3), client=pool, out=tmp_path)
    assert len(pool.member("large").requests) == 3 and not pool.member("small").requests
    assert [row.output for row in run.records][1::2] == ["anew"] * 3


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        (lambda: llm.Pool(), "at least one client"),
        (lambda: llm.Pool(a=llm.Pool(b=scripted("b"))), "is a pool or a ledger"),
        (lambda: llm.to(llm.Pool(a=scripted("a")), "b"), "has no 'b'; it has a"),
        (lambda: llm.to(scripted("a"), "b"), "is no pool"),
        (lambda: asyncio.run(llm.Pool(a=scripted("a")).complete(Request(()))), "say which of a"),
    ],
)
def test_what_cannot_be_asked_is_said_in_words(wrong, said):
    with pytest.raises(ClientError, match=said):
        wrong()


def test_a_pool_of_offline_writers_says_so(tmp_path):
    run = runner.run(
        both, tasks.tasks(2), client=llm.Pool(small=llm.Offline("weak"), large=llm.Offline()), out=tmp_path
    )
    assert run.is_offline and "no model" in repr(run)
