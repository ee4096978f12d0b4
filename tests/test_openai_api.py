"""The OpenAI client against a server that fails on purpose: nothing lost, everything counted, the run ends."""

import asyncio
import json
import time

import pytest

from tests import tasks
from tests.servers import serving
from workbench import llm, runner
from workbench.errors import BudgetExhausted, CallFailed, ClientError
from workbench.llm import Budget, Limits, Price, Request, Sampling

FAST = Limits(concurrency=8, timeout_seconds=1.0, max_attempts=3, backoff_seconds=0.02, patience_seconds=5)
ASK = Request(({"role": "user", "content": "hello"},))


def complete(client, request=ASK):
    async def ask():
        try:
            return await client.complete(request)
        finally:
            await client.aclose()

    return asyncio.run(ask())


@pytest.mark.parametrize(
    ("fault", "reason", "requests"),
    [
        ("status 500", "server_error", 3), ("status 503", "server_error", 3), ("status 400", "rejected", 1),
        ("status 401", "rejected", 1), ("status 404", "rejected", 1), ("close", "connection", 3), ("hang", "timeout", 3),
        ("truncated", "bad_response", 3), ("not-json", "bad_response", 3), ("wrong-schema", "bad_response", 1),
        ("empty-choices", "empty", 1), ("empty-text", "empty", 1), ("refusal", "refusal", 1), ("length", "length", 1),
        ("content-filter", "content_filter", 1),
    ],
)  # fmt: skip
def test_a_fault_that_stays_is_a_failure_with_its_reason_after_the_attempts_it_deserves(fault, reason, requests):
    with serving(fault=lambda number, body: fault) as server:
        with pytest.raises(CallFailed) as failed:
            complete(llm.OpenAI(server.url, "m", limits=FAST))
    assert (failed.value.reason, server.count) == (reason, requests)


@pytest.mark.parametrize("fault", ["status 500", "close", "truncated", "not-json", "429 0", "429"])
def test_a_fault_that_passes_is_retried_and_the_answer_says_how_often(fault):
    with serving(lambda body: "fine", fault=lambda number, body: fault if number < 2 else None) as server:
        answer = complete(llm.OpenAI(server.url, "m", limits=FAST))
    assert (answer.text, answer.attempts, server.count) == ("fine", 3, 3)


def test_retry_after_is_honoured_in_seconds_and_as_a_date():
    with serving(lambda body: "fine", fault=lambda number, body: "429 1" if number == 0 else None) as server:
        complete(llm.OpenAI(server.url, "m", limits=FAST))
        assert server.times[1] - server.times[0] >= 1.0
    from workbench.llm.openai_api import _seconds

    assert 58 < _seconds(time.strftime("%a, %d %b %Y %H:%M:%S GMT", time.gmtime(time.time() + 60))) <= 60
    assert _seconds("Wed, 21 Oct 2015 07:28:00 GMT") == 0.0
    assert _seconds("soon") is None


def test_a_rate_limit_is_no_attempt_and_ends_when_patience_does():
    with serving(fault=lambda number, body: "429 0.2") as server:
        limits = Limits(max_attempts=1, backoff_seconds=0.05, patience_seconds=1)
        with pytest.raises(CallFailed) as failed:
            complete(llm.OpenAI(server.url, "m", limits=limits))
    assert failed.value.reason == "rate_limited"
    assert server.count > 1


def test_concurrency_falls_on_429_and_recovers():
    with serving(
        lambda body: tasks.echo(body), fault=lambda number, body: "429 0" if number < 8 else None, seconds=0.01
    ) as server:
        client = llm.OpenAI(server.url, "m", limits=FAST)

        async def many():
            await asyncio.gather(
                *(client.complete(Request(({"role": "user", "content": f"x\n{n}"},))) for n in range(8))
            )
            fallen = client._gate.limit
            for n in range(60):
                await client.complete(Request(({"role": "user", "content": f"y\n{n}"},)))
            await client.aclose()
            return fallen, client._gate.limit

        fallen, recovered = asyncio.run(many())
    assert server.most_under_way <= 8
    assert fallen < 8 and recovered > fallen + 1


def test_every_fault_at_once_loses_nothing_and_the_run_ends(tmp_path):
    faults = [
        "429 0",
        "status 500",
        "slow",
        "close",
        "truncated",
        "not-json",
        "wrong-schema",
        "empty-choices",
        "refusal",
        "length",
        None,
        None,
    ]
    # By text and not by number: the same task meets the same fault each time it is tried.
    fault = lambda number, body: (
        faults[int(body["messages"][-1]["content"].split()[2]) % len(faults)] if number < 400 else None
    )
    with serving(tasks.echo, fault=fault) as server:
        limits = Limits(concurrency=16, timeout_seconds=2, max_attempts=2, backoff_seconds=0.01, patience_seconds=0.5)
        client = llm.OpenAI(server.url, "m", limits=limits)
        result = runner.run(tasks.make, tasks.tasks(120), client=client, out=tmp_path)
        assert result.record_count + len(result.failures) == result.tasks == 120
        assert result.losses == {
            "rate_limited": 10, "server_error": 10, "connection": 10, "bad_response": 30, "empty": 10, "refusal": 10, "length": 10,
        }  # fmt: skip
        assert all(failure.detail for failure in result.failures)
        by_reason = {failure.reason: failure for failure in result.failures}
        assert "unfinis" in by_reason["length"].raw and "I cannot help" in by_reason["refusal"].raw
        assert len(client_ledger(result).failures()) == 90
        server.fault = lambda number, body: None
        again = runner.run(tasks.make, tasks.tasks(120), client=client, out=tmp_path)
    assert (again.record_count, len(again.failures)) == (120, 0)


def client_ledger(run):
    return run._open_ledger()


def test_a_refused_key_stops_the_run_at_once_and_says_so(tmp_path):
    with serving(fault=lambda number, body: "status 401") as server:
        client = llm.OpenAI(server.url, "m", limits=FAST)
        result = runner.run(tasks.make, tasks.tasks(5000), client=client, out=tmp_path)
    assert server.count <= 64 and "key" in result.stopped and "401" in repr(result)


def test_a_server_that_is_down_stops_the_run_instead_of_failing_every_task(tmp_path):
    with serving() as server:
        url = server.url
    limits = Limits(concurrency=8, max_attempts=2, backoff_seconds=0.01)
    result = runner.run(
        tasks.make,
        tasks.tasks(5000),
        client=llm.OpenAI(url, "m", limits=limits),
        out=tmp_path,
        options=runner.Options(concurrency=8),
    )
    assert result.losses.keys() == {"connection"} and result.tasks < 100
    assert "Check the server and run again" in result.stopped


def test_what_is_sent_is_what_was_asked(monkeypatch):
    monkeypatch.setenv("TEST_KEY", "sk-secret-123")
    with serving(lambda body: "fine") as server:
        client = llm.OpenAI(
            server.url + "/",
            "m",
            api_key_env="TEST_KEY",
            sampling=Sampling(temperature=0.5, max_tokens=9, seed=7, stop=("END",)),
        )
        complete(client, Request(ASK.messages, Sampling(temperature=0.0), sample=2, n=2))
    assert server.bodies[0] == {
        "model": "m", "messages": [{"role": "user", "content": "hello"}], "temperature": 0.0, "max_tokens": 9, "seed": 9, "stop": ["END"], "n": 2,
    }  # fmt: skip
    assert server.headers[0]["Authorization"] == "Bearer sk-secret-123"


def test_the_parameters_on_record_are_those_that_were_sent():
    with serving(lambda body: "fine") as server:
        client = llm.OpenAI(
            server.url, "m", sampling=Sampling(max_tokens=9, seed=7, extra={"max_completion_tokens": 50, "top_k": 3})
        )
        answer = complete(client, Request(ASK.messages, Sampling(temperature=0.0), sample=2))
    recorded = json.loads(answer.sampling)
    assert recorded.pop("sample") == 2
    assert recorded == {name: value for name, value in server.bodies[0].items() if name not in ("model", "messages")}


def test_a_json_schema_is_sent_only_where_it_was_asked_for():
    schema = {"type": "object"}
    with serving(lambda body: "{}") as server:
        complete(llm.OpenAI(server.url, "m"), Request(ASK.messages, schema=schema))
        complete(llm.OpenAI(server.url, "m", sampling=Sampling(json_schema=True)), Request(ASK.messages, schema=schema))
    assert "response_format" not in server.bodies[0]
    assert server.bodies[1]["response_format"]["json_schema"]["schema"] == schema


def test_the_key_shows_nowhere(tmp_path, monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", "sk-secret-123")
    with serving(tasks.echo, fault=lambda number, body: "status 400" if number % 2 else None) as server:
        client = llm.OpenAI(server.url, "m", limits=FAST)
        # A server that repeats the key in its error.
        server.fail = echo_key
        result = runner.run(tasks.make, tasks.tasks(10), client=client, out=tmp_path)
    assert "sk-secret" not in repr(client)
    assert result.losses["rejected"] == 5
    written = b"".join(path.read_bytes() for path in tmp_path.rglob("*") if path.is_file())
    assert b"sk-secret" not in written + repr(result.failures).encode()


async def echo_key(fault, request):
    from aiohttp import web

    return web.json_response({"error": {"message": f"bad key {request.headers['Authorization']}"}}, status=400)


@pytest.mark.parametrize(
    "url", ["localhost:8000/v1", "ftp://x/v1", "http://user:pass@host/v1", "http://host/v1?key=abc", ""]
)
def test_an_address_that_cannot_be_used_or_would_leak_is_refused(url):
    with pytest.raises(ClientError) as refused:
        llm.OpenAI(url, "m")
    assert "pass" not in str(refused.value).replace("password", "") and "abc" not in str(refused.value)


def test_an_unknown_price_is_unknown_and_never_zero(tmp_path):
    with serving(tasks.echo) as server:
        unknown = runner.run(tasks.make, tasks.tasks(3), client=llm.OpenAI(server.url, "m"), out=tmp_path / "a")
        known = runner.run(
            tasks.make, tasks.tasks(3), client=llm.OpenAI(server.url, "m", price=Price(100, 200)), out=tmp_path / "b"
        )
    assert unknown.spent["unpriced"] == 3 and "unknown" in repr(unknown)
    # 3 requests of 10 prompt tokens at $100 and 5 completion tokens at $200 a million.
    assert known.spent["cost"] == pytest.approx(3 * (10 * 100 + 5 * 200) / 1e6)
    assert llm.OpenAI("https://api.openai.com/v1", "gpt-4o-mini").price == Price(0.15, 0.6)
    assert llm.OpenAI("http://127.0.0.1:1/v1", "gpt-4o-mini").price is None


@pytest.mark.parametrize("caps", [{"requests": 7}, {"tokens": 2000}, {"money": 0.01}])
def test_a_budget_is_never_passed_whatever_is_under_way(tmp_path, caps):
    budget = Budget(**caps)
    with serving(tasks.echo, seconds=0.005) as server:
        client = llm.OpenAI(server.url, "m", price=Price(10, 20), sampling=Sampling(max_tokens=100))
        result = runner.run(tasks.make, tasks.tasks(500), client=client, out=tmp_path, budget=budget)
    for name, cap in caps.items():
        assert 0 < budget.used[name] <= cap
    assert server.count == budget.used["requests"] == result.record_count
    assert result.losses["budget"] >= 1 and "budget" in result.stopped
    # It went on as far as it could: one more request at its longest would have passed the cap.
    assert (
        budget._most(ASK, Sampling(max_tokens=100), Price(10, 20))[next(iter(caps))] + budget.used[next(iter(caps))]
        <= next(iter(caps.values())) + 300
    )


def test_retries_count_against_a_budget_of_requests():
    with serving(fault=lambda number, body: "status 500") as server:
        client = llm.OpenAI(server.url, "m", limits=Limits(max_attempts=10, backoff_seconds=0.01))
        with pytest.raises(BudgetExhausted):
            complete(client, Request(ASK.messages, budget=Budget(requests=4)))
    assert server.count == 4


def test_a_money_budget_without_a_price_or_a_longest_answer_is_refused_before_anything_is_sent(tmp_path):
    with serving(tasks.echo) as server:
        for client, missing in [
            (llm.OpenAI(server.url, "m", sampling=Sampling(max_tokens=5)), "price"),
            (llm.OpenAI(server.url, "m", price=Price(1, 1)), "max_tokens"),
        ]:
            with pytest.raises(ClientError, match=missing):
                runner.run(tasks.make, tasks.tasks(3), client=client, out=tmp_path / missing, budget=Budget(money=1))
    assert server.count == 0


def test_several_choices_come_back_together_and_are_replayed_together(tmp_path):
    from workbench.llm.openai_api import _read

    answer = _read(
        json.dumps(
            {
                "model": "real-name",
                "choices": [{"message": {"content": t}, "finish_reason": "stop"} for t in ("one", "two")],
            }
        ).encode(),
        "asked",
    )
    client = llm.Ledger(llm.Scripted([answer]), tmp_path / "ledger.sqlite")
    first = asyncio.run(client.complete(Request(ASK.messages, n=2)))
    second = asyncio.run(client.complete(Request(ASK.messages, n=2)))
    assert [c.text for c in first.choices] == [c.text for c in second.choices] == ["one", "two"]
    assert second.is_from_ledger and second.model == "real-name"


def test_a_server_that_refuses_every_request_stops_the_run_too(tmp_path):
    with serving(fault=lambda number, body: "status 400") as server:
        client = llm.OpenAI(server.url, "no-such-model", limits=FAST)
        result = runner.run(tasks.make, tasks.tasks(5000), client=client, out=tmp_path)
    assert server.count < 300 and "rejected" in result.stopped
