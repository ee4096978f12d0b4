"""llm.OpenAI against a server nobody here wrote: `transformers serve`, with the tiny model, on loopback."""

import asyncio
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import pytest

from tests import tiny_model as tiny
from workbench import llm, prompts
from workbench.errors import CallFailed
from workbench.llm import Request, Sampling
from workbench.prompts import examples, optimize
from workbench.quality import metrics
from workbench.records import Instruction

tiny_model = tiny.tiny_model  # the fixture
QUESTIONS = [f"Question {i}: how does {('water', 'bread', 'tern')[i % 3]} work?" for i in range(8)]
LONG = Sampling(max_tokens=200)


@pytest.fixture(scope="module")
def server(tiny_model, tmp_path_factory):
    """The address and log of a server started in the model's parent folder, so that the model's name is no path."""
    program = Path(sys.executable).with_name("transformers")
    pytest.importorskip("uvicorn", reason="needs transformers[serving]")
    if not program.exists():
        pytest.skip("needs the transformers command beside python")
    home = tmp_path_factory.mktemp("hf")
    (home / "hub").mkdir()  # without it GET /v1/models is a 500
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    options = ["--device", "cpu", "--dtype", "float32", "--host", "127.0.0.1", "--port", str(port)]
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "HF_HOME": str(home), "OMP_NUM_THREADS": "1"}
    log = home / "log"
    with log.open("wb") as written:
        process = subprocess.Popen(
            [program, "serve", tiny_model.name, *options], cwd=tiny_model.parent, env=environment, stdout=written,
            stderr=subprocess.STDOUT, start_new_session=True,
        )  # fmt: skip
    try:
        deadline = time.monotonic() + 240
        while not is_healthy(port):
            assert process.poll() is None and time.monotonic() < deadline, log.read_text()
            time.sleep(0.1)
        yield f"http://127.0.0.1:{port}/v1", log
    finally:
        os.killpg(process.pid, signal.SIGKILL)  # its own session: no other process is in it
        process.wait()


def is_healthy(port):
    try:
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        with opener.open(f"http://127.0.0.1:{port}/health", timeout=5) as response:
            return response.status == 200
    except OSError:
        return False


def ask(client, *requests):
    """Each request's completion or CallFailed, all asked at once."""

    async def together():
        answers = await asyncio.gather(*map(client.complete, requests), return_exceptions=True)
        if isinstance(client, llm.OpenAI):
            await client.aclose()
        return answers

    return asyncio.run(together())


def request(text, sampling=Sampling(), **others):  # noqa: B008  frozen
    return Request(({"role": "user", "content": text},), sampling, **others)


def posts(log):
    return log.read_text().count('"POST /v1/chat/completions')


def test_answers_come_back_with_the_model_as_answered_and_the_very_tokens_that_local_counts(server, tiny_model):
    url, _ = server
    served = ask(llm.OpenAI(url, tiny_model.name, sampling=LONG), *map(request, QUESTIONS))
    local = ask(llm.Local(tiny_model, sampling=LONG), *map(request, QUESTIONS))
    ended = 0
    for far, near in zip(served, local, strict=True):
        assert (far.prompt_tokens, far.completion_tokens) == (near.prompt_tokens, near.completion_tokens)
        if is_lost(near):
            assert (far.reason, far.raw) == (near.reason, near.raw)
        else:
            ended += 1
            assert (far.text, far.choices[0].finish, far.cost) == (near.text, "stop", None)
            assert (far.model, far.endpoint) == ("tiny@main", url)  # the server adds the revision that it loaded
    assert ended >= 4


def test_an_answer_that_reaches_max_tokens_is_a_failure_with_its_raw_text_and_its_tokens(server, tiny_model):
    [failure] = ask(llm.OpenAI(server[0], tiny_model.name), request(QUESTIONS[0], Sampling(max_tokens=2)))
    assert isinstance(failure, CallFailed) and (failure.reason, failure.attempts) == ("length", 1)
    assert failure.raw and failure.completion_tokens == 2 and failure.prompt_tokens > 2


def test_a_stop_text_ends_the_answer_and_the_server_leaves_it_in(server, tiny_model):
    client = llm.OpenAI(server[0], tiny_model.name, sampling=LONG)
    whole = {q: a.text for q, a in zip(QUESTIONS, ask(client, *map(request, QUESTIONS)), strict=True) if not is_lost(a)}
    question, text = max(whole.items(), key=lambda item: len(item[1]))
    stop = text[10:14]
    [answer] = ask(client, request(question, Sampling(stop=(stop,))))
    assert text.startswith(answer.text) and stop in answer.text and len(answer.text) < len(text)


def test_the_second_time_everything_comes_from_the_ledger_and_nothing_is_sent(server, tiny_model, tmp_path):
    url, log = server
    client = llm.OpenAI(url, tiny_model.name, sampling=LONG)
    ledger = llm.Ledger(client, tmp_path / "ledger.sqlite")

    async def ask_twice():
        sent = [posts(log)]
        first = await asyncio.gather(*(ledger.complete(request(q)) for q in QUESTIONS), return_exceptions=True)
        sent.append(posts(log))
        questions = [q for q, answer in zip(QUESTIONS, first, strict=True) if not is_lost(answer)]
        again = await asyncio.gather(*(ledger.complete(request(q)) for q in questions))
        sent.append(posts(log))
        other = await ledger.complete(request(questions[0], Sampling(max_tokens=201)))
        sent.append(posts(log))
        await client.aclose()
        return first, again, other, [after - sent[0] for after in sent[1:]]

    first, again, other, sent = asyncio.run(ask_twice())
    whole = [answer for answer in first if not is_lost(answer)]
    assert len(whole) >= 4 and len(ledger) == len(whole) + 1
    assert sent == [len(QUESTIONS), len(QUESTIONS), len(QUESTIONS) + 1]
    assert [a.text for a in again] == [a.text for a in whole] and all(a.is_from_ledger for a in again)
    assert not other.is_from_ledger  # another max_tokens is another request
    used = [*first, other]  # what was lost was paid for too
    assert ledger.spent()["requests"] == len(used)
    assert ledger.spent()["completion_tokens"] == sum(answer.completion_tokens for answer in used)
    ledger.close()


def is_lost(answer):
    return isinstance(answer, CallFailed)


def test_a_wrong_model_name_is_rejected_once_and_the_reason_names_the_model(server):
    [failure] = ask(llm.OpenAI(server[0], "another-model"), request("Hi", Sampling(max_tokens=2)))
    assert isinstance(failure, CallFailed) and (failure.reason, failure.attempts) == ("rejected", 1)
    assert "another-model" in failure.detail and "tiny" in failure.detail


def test_a_wrong_path_is_rejected_and_ends_the_run(server, tiny_model):
    [failure] = ask(llm.OpenAI(server[0] + "/nowhere", tiny_model.name), request("Hi", Sampling(max_tokens=2)))
    assert (failure.reason, failure.fatal) == ("rejected", True) and "base_url" in failure.detail


# --- searches for prompts ---------------------------------------------------------------------------------------------

ECHO = prompts.freeze(
    "test/short",
    [("system", "Say in a few words what the text is about."), ("user", "The text:\n{{text}}")],
    variables={"text": "data"},
    outputs={"about": "str: a few words"},
    sampling={"max_tokens": 40},
)


@pytest.mark.parametrize(
    "method",
    [optimize.Bootstrap(1, 1), optimize.MIPRO(1, 1, 1), optimize.GEPA(10)],
    ids=["bootstrap", "mipro", "gepa"],
)
def test_every_optimiser_runs_to_its_end_against_a_model_that_understands_nothing(method, server, tiny_model, tmp_path):
    rows = [{"text": question, "page": str(at)} for at, question in enumerate(QUESTIONS)]
    read = lambda example, fields: Instruction(example.values["text"], output=fields["about"])
    given = examples.of_rows(rows, read=read, metric=metrics.Metric({}), group="page", variables=["text"])
    client, proposer = (llm.OpenAI(server[0], tiny_model.name, sampling=Sampling(max_tokens=n)) for n in (40, 60))
    settings = optimize.Settings(progress=False, concurrency=2, proposer=proposer)
    before = posts(server[1])
    found = optimize.search(
        ECHO, given.split(train=0.3, dev=0.3), client=client, out=tmp_path, method=method, settings=settings
    )
    assert found.prompt.ref == "test/short@2" and found.prompt.made_by["model"] == "tiny@main"
    assert not found.prompt.made_by["is_offline"] and found.prompt.made_by["cost"] is None  # nobody knows its price
    assert found.prompt.made_by["requests"] <= posts(server[1]) - before
    assert "Cannot tell" in found.comparison.sentence
