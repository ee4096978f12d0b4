"""Searches for prompts: what they return, what they may ask, and what is left when they are killed."""

import json
import os
import random
import signal
import subprocess
import sys
import threading
import time
from dataclasses import replace

import pytest

from tests import optimize_me
from tests.conftest import ROOT
from tests.servers import first_sentence, serving
from workbench import experiments, llm, prompts, store
from workbench.errors import BudgetExhausted, CallFailed, InputError, PromptError, RunError
from workbench.prompts import examples, optimize
from workbench.prompts.examples import Split
from workbench.quality import metrics
from workbench.runner import Stopped

METHODS = {
    "as_written": optimize.AsWritten(),
    "bootstrap": optimize.Bootstrap(demonstrations=2, candidates=2, min_score=0.8),
    "mipro": optimize.MIPRO(demonstrations=2, candidates=3, trials=2, min_score=0.8),
    "gepa": optimize.GEPA(metric_calls=30),
}
QUIET = optimize.Settings(progress=False)


@pytest.fixture(scope="module")
def split():
    return optimize_me.split()


@pytest.fixture
def ledger(tmp_path):
    ledger = llm.Ledger(llm.Offline("fair"), tmp_path / "ledger.sqlite")
    yield ledger
    ledger.close()


class Mute:
    """A client that is who it says and never answers: whatever reaches it was not in the ledger."""

    def __init__(self, like):
        self.model, self.endpoint, self.sampling = like.model, like.endpoint, like.sampling

    async def complete(self, request):
        raise AssertionError("this was not in the ledger")


# --- each method ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", METHODS.values(), ids=METHODS)
def test_a_search_returns_a_new_frozen_version_that_says_how_it_came_to_be(method, split, ledger, tmp_path, capfd):
    found = optimize.search("rag/question@1", split, client=ledger, out=tmp_path / "out", method=method, settings=QUIET)
    assert capfd.readouterr() == ("", "")  # DSPy prints by itself
    base, made = prompts.load("rag/question@1"), found.prompt.made_by
    assert found.prompt.ref == "rag/question@2"
    assert prompts.load("rag/question@2", folder=tmp_path / "out" / "prompts") == found.prompt
    assert (made["method"], made["base"], made["is_offline"]) == (type(method).__name__, base.id, True)
    assert made["model"] == "offline-rules@1/fair" and made["cost"] == 0 and made["dspy"]
    assert made["data"]["held_out"] == {
        "examples": len(split.held_out), "groups": len({e.group for e in split.held_out}), "sha256": split.held_out.sha256,
    }  # fmt: skip
    # What it says that it asked is what the ledger holds, and within what was announced.
    scoring = 2 * (len(split.dev) + len(split.held_out))
    assert made["requests"] == len(ledger) <= method.most_requests(len(split.train), len(split.dev)) + scoring
    spent = ledger.spent()
    assert (made["prompt_tokens"], made["completion_tokens"]) == (spent["prompt_tokens"], spent["completion_tokens"])
    # The search is an experiment, with the same numbers.
    [experiment] = experiments.find(tmp_path / "out")
    assert experiment.requests == made["requests"] and experiment.prompts == (found.prompt.id,)
    assert experiment.status == "finished" and experiment.score["value"] == found.prompt.scores["held_out"]["value"]


@pytest.mark.parametrize("adapter", ["chat", "json"])
def test_what_is_frozen_is_asked_by_the_very_bytes_that_dspy_sent(adapter, split, tmp_path):
    """So that the ledger knows the answers to all of dev, and no client is needed to score it; also where the client asks
    the server to hold the model to a schema."""
    client = llm.Offline("fair", sampling=llm.Sampling(json_schema=True))
    ledger = llm.Ledger(client, tmp_path / "ledger.sqlite")
    method = optimize.Bootstrap(demonstrations=2, candidates=1, min_score=0.5)
    settings = optimize.Settings(adapter=adapter, progress=False)
    asked = []

    class Noted(optimize.Desk):
        def complete(self, ledger, form, request):
            asked.append(request)
            return super().complete(ledger, form, request)

    original, optimize.Desk = optimize.Desk, Noted
    try:
        found = optimize.search("rag/question@1", split, client=ledger, out=tmp_path, method=method, settings=settings)
    finally:
        optimize.Desk = original
    assert any(role == "assistant" for role, _ in found.prompt.messages)  # it has demonstrations
    sent = {(r.system, *(m.text for m in r.messages)) for r in asked}
    for example in split.dev:
        rendered = found.prompt.render(**example.values)
        assert tuple(message["content"] for message in rendered) in sent
    mute = llm.Ledger(Mute(ledger.client), ledger.path)
    again = prompts.score(found.prompt, split.dev, client=mute, progress=False)
    assert again.value == pytest.approx(found.prompt.scores["dev"]["value"])
    mute.close()


def test_the_scores_in_the_header_are_those_of_the_metric_on_the_answers(split, ledger, tmp_path):
    found = optimize.search("rag/question@1", split, client=ledger, out=tmp_path, method=METHODS["bootstrap"], settings=QUIET)
    for prompt, scores in ((found.prompt, found.prompt.scores), (found.base, found.prompt.scores["base"])):
        values = []
        for example in split.held_out:
            [row] = ledger._rows(
                "SELECT choices FROM calls WHERE key = ?",
                (llm.client.request_key(ledger, llm.answers.request(ledger, prompt, example.values)),),
            )
            values.append(split.held_out.scored(example, prompt.parse(json.loads(row["choices"])[0][0])).value)
        assert scores["held_out"]["value"] == pytest.approx(sum(values) / len(values))
        assert scores["held_out"]["low"] <= scores["held_out"]["value"] <= scores["held_out"]["high"]
    best = max(candidate.score for candidate in found.candidates)
    assert found.prompt.scores["dev"]["value"] == pytest.approx(best)  # the winner on dev, scored by another path
    assert found.candidates[-1].best == best


def test_the_same_search_again_asks_nothing_and_gives_the_same_version(split, ledger, tmp_path):
    arguments = {"client": ledger, "out": tmp_path, "method": METHODS["mipro"], "settings": QUIET}
    first = optimize.search("rag/question@1", split, **arguments)
    before = len(ledger)
    mute = llm.Ledger(Mute(ledger.client), ledger.path)
    again = optimize.search("rag/question@1", split, **{**arguments, "client": mute})
    assert again.prompt == first.prompt and again.path == first.path and len(ledger) == before
    assert prompts.names(folder=tmp_path / "prompts") == ["rag/question@2"]
    mute.close()


def test_another_search_gives_the_next_version_and_edits_none(split, ledger, tmp_path):
    first = optimize.search("rag/question@1", split, client=ledger, out=tmp_path, method=METHODS["bootstrap"], settings=QUIET)
    before = first.path.read_bytes()
    other = optimize.Settings(seed=5, progress=False)
    second = optimize.search("rag/question@1", split, client=ledger, out=tmp_path, method=METHODS["gepa"], settings=other)
    assert second.prompt.ref == "rag/question@3" and first.path.read_bytes() == before


def test_a_frozen_version_can_be_optimised_further(split, ledger, tmp_path):
    first = optimize.search("rag/question@1", split, client=ledger, out=tmp_path, method=METHODS["bootstrap"], settings=QUIET)
    second = optimize.search(first.prompt, split, client=ledger, out=tmp_path, method=METHODS["gepa"], settings=QUIET)
    assert second.prompt.ref == "rag/question@3" and second.prompt.made_by["base"] == first.prompt.id
    demonstrations = lambda prompt: [content for role, content in prompt.messages if role == "assistant"]
    assert demonstrations(second.prompt) == demonstrations(first.prompt)  # GEPA rewrites the instruction and keeps them


def test_a_proposer_of_its_own_proposes_and_the_client_answers(split, tmp_path):
    written, proposed = [], []
    fair = llm.Offline("fair")

    class Noted:
        def __init__(self, model, notes):
            self.model, self.endpoint, self.sampling, self.notes = model, "here", llm.Sampling(), notes

        async def complete(self, request):
            self.notes.append(request)
            return await fair.complete(request)

    settings = optimize.Settings(progress=False, proposer=Noted("large", proposed))
    found = optimize.search(
        "rag/question@1", split, client=Noted("small", written), out=tmp_path, method=METHODS["gepa"], settings=settings
    )
    assert proposed and found.prompt.made_by["proposer"] == "large"
    assert all("Respond with" not in r.messages[-1]["content"] or r.sampling.temperature == 1.0 for r in proposed)
    assert len(written) + len(proposed) == found.prompt.made_by["requests"]


def test_a_prompt_for_persons_is_optimised_too(tmp_path):
    split = optimize_me.split(kind="persona")
    method = optimize.Bootstrap(demonstrations=2, candidates=1, min_score=0.6)
    found = optimize.search(
        "persona/from_text@1", split, client=llm.Offline("weak"), out=tmp_path, method=method, settings=QUIET
    )
    assert found.prompt.ref == "persona/from_text@2" and set(found.prompt.outputs) == {"interest", "persona"}


# --- what goes wrong --------------------------------------------------------------------------------------------------


def test_answers_that_cannot_be_read_score_nothing_and_end_nothing(split, tmp_path):
    client = llm.Scripted(lambda request: "I would rather talk about something else.")
    for method in METHODS.values():
        found = optimize.search("rag/question@1", split, client=client, out=tmp_path, method=method, settings=QUIET)
        assert found.prompt.scores["dev"]["value"] == found.prompt.scores["base"]["dev"]["value"] == 0
        assert "Cannot tell" in found.comparison.sentence


@pytest.mark.parametrize("method", [METHODS["bootstrap"], METHODS["mipro"], METHODS["gepa"]], ids=["bootstrap", "mipro", "gepa"])
def test_no_more_requests_are_sent_than_the_budget_has_and_more_budget_goes_on(method, split, tmp_path):
    with serving(first_sentence) as server:
        client = llm.OpenAI(server.url, "test-model")
        short = optimize.Settings(progress=False, budget=llm.Budget(requests=20))
        with pytest.raises(BudgetExhausted, match=r"This search takes up to .* requests") as error:
            optimize.search("rag/question@1", split, client=client, out=tmp_path, method=method, settings=short)
        assert "Raise the budget" in str(error.value)
        assert server.count == 20 and not prompts.names(folder=tmp_path / "prompts")
        [experiment] = experiments.find(tmp_path)
        assert experiment.status == "stopped" and "budget" in experiment.stopped.lower()
        enough = optimize.Settings(progress=False, budget=llm.Budget(requests=1000))
        found = optimize.search("rag/question@1", split, client=client, out=tmp_path, method=method, settings=enough)
    assert server.count == found.prompt.made_by["requests"]  # none of the first 20 was sent again


def test_a_server_that_goes_down_ends_the_search_and_scores_nothing(split, tmp_path):
    method = METHODS["bootstrap"]
    with serving(first_sentence, fault=lambda number, body: "401" if number >= 12 else None) as server:
        with pytest.raises(CallFailed, match="401|rejected|refused"):
            optimize.search(
                "rag/question@1", split, client=llm.OpenAI(server.url, "m"), out=tmp_path, method=method, settings=QUIET
            )
    assert not prompts.names(folder=tmp_path / "prompts")


def test_the_stop_button_keeps_what_was_answered(split, tmp_path):
    with serving(first_sentence, seconds=0.05) as server:
        client = llm.OpenAI(server.url, "test-model")
        threading.Thread(target=lambda: (wait_for(server, 10), os.kill(os.getpid(), signal.SIGINT)), daemon=True).start()
        with pytest.raises(Stopped, match="Run the same call again"):
            optimize.search("rag/question@1", split, client=client, out=tmp_path, method=METHODS["bootstrap"], settings=QUIET)
        stopped_at = server.count
        found = optimize.search(
            "rag/question@1", split, client=client, out=tmp_path, method=METHODS["bootstrap"], settings=QUIET
        )
    assert 10 <= stopped_at < server.count == found.prompt.made_by["requests"]


def test_a_prompt_of_other_variables_is_refused_before_anything_is_asked(split, tmp_path):
    client = llm.Scripted([])
    with pytest.raises(PromptError, match=r"relation"):
        optimize.search("persona/from_text@1", split, client=client, out=tmp_path, settings=QUIET)
    assert client.requests == []


def test_what_dspy_gives_up_on_is_said_in_words(split, tmp_path):
    class Broken(optimize.Bootstrap):
        def find(self, *_):
            raise AssertionError("the trainset must not be empty")

    with pytest.raises(RunError, match=r"DSPy's Broken gave up on rag/question@1: AssertionError: the trainset"):
        optimize.search("rag/question@1", split, client=llm.Offline(), out=tmp_path, method=Broken(), settings=QUIET)
    [experiment] = experiments.find(tmp_path)
    assert experiment.status == "stopped"


def test_a_metric_that_fails_ends_the_search_instead_of_scoring_nothing(split, tmp_path):
    broken = lambda record: metrics.Score(float("nan"))
    wrong = Split(*(replace(part, metric=metrics.Metric({"broken": broken})) for part in (split.train, split.dev, split.held_out)))
    with pytest.raises(InputError, match="broken"):
        optimize.search("rag/question@1", wrong, client=llm.Offline(), out=tmp_path, method=METHODS["bootstrap"], settings=QUIET)


@pytest.mark.parametrize(
    ("method", "field"),
    [(optimize.GEPA, "minibatch"), (optimize.MIPRO, "trials"), (optimize.Bootstrap, "candidates"), (optimize.Bootstrap, "rounds")],
)
def test_a_count_below_one_is_refused_at_once(method, field):
    with pytest.raises(InputError, match=f"{method.__name__}: {field} must be 1 or more, got 0"):
        method(**{field: 0})
    with pytest.raises(InputError, match="min_score must be between 0 and 1"):
        optimize.Bootstrap(min_score=1.5)


@pytest.mark.parametrize("candidates", [1, 2])
def test_the_smallest_searches_work(candidates, split, ledger, tmp_path):
    for method in (optimize.Bootstrap(1, candidates), optimize.MIPRO(1, candidates, 1), optimize.GEPA(1, 1)):
        optimize.search("rag/question@1", split, client=ledger, out=tmp_path, method=method, settings=QUIET)


# --- killed -----------------------------------------------------------------------------------------------------------


def wait_for(server, count):
    while server.count < count:
        time.sleep(0.001)


def finished(path):
    """Each request that the ledger holds, as its messages."""
    if not path.exists():
        return set()
    ledger = llm.Ledger(None, path)
    keys = [row["key"] for row in ledger._rows("SELECT key FROM calls")]
    found = {json.dumps(ledger.entry(key)["request"]["messages"]) for key in keys}
    ledger.close()
    return found


def asked(bodies):
    return {json.dumps(body["messages"]) for body in bodies}


@pytest.mark.parametrize("name", ["bootstrap", "mipro", "gepa"])
def test_a_search_killed_at_random_moments_repeats_no_finished_request_and_finds_the_same(name, split, tmp_path):
    with serving(first_sentence, seconds=0.004) as server:
        whole = optimize_me.go(server.url, tmp_path / "whole", name)
        total, rng = server.count, random.Random(name)
        for _ in range(2):
            begin, done = server.count, finished(tmp_path / "killed" / "ledger.sqlite")
            process = subprocess.Popen(
                [sys.executable, "-m", "tests.optimize_me", server.url, str(tmp_path / "killed"), name], cwd=ROOT
            )
            until = begin + rng.randint(5, max(6, (total - len(done)) // 2))
            while server.count < until and process.poll() is None:
                time.sleep(0.001)
            assert process.poll() is None, "it ended before the kill"
            process.send_signal(signal.SIGKILL)
            process.wait()
            time.sleep(0.05)
            assert not done & asked(server.bodies[begin:])
        begin, done = server.count, finished(tmp_path / "killed" / "ledger.sqlite")
        resumed = optimize_me.go(server.url, tmp_path / "killed", name)
        assert done and not done & asked(server.bodies[begin:])
    assert resumed.prompt.messages == whole.prompt.messages and resumed.prompt.id == whole.prompt.id
    assert server.count - total <= total + 2 * optimize_me.CONCURRENCY


# --- apart from dspy --------------------------------------------------------------------------------------------------

WITHOUT_DSPY = """
import sys
class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in ("dspy", "optuna", "gepa"):
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
sys.meta_path.insert(0, Absent())
from workbench import llm, prompts, runner, store
from workbench.recipes import rag_qa
prompt = prompts.load("rag/question@2", folder=sys.argv[1])
plan = rag_qa.plan(store.documents("data/documents"), prompt=prompt, seed=0).first(12)
run = runner.run(rag_qa.make, plan, client=llm.Offline(), out=sys.argv[2])
assert run.record_count > 6 and run.records[0].provenance.prompt == prompt.id, run
print("made", "dspy" in sys.modules)
"""


def test_generation_with_an_optimised_prompt_needs_no_dspy(split, ledger, tmp_path):
    found = optimize.search("rag/question@1", split, client=ledger, out=tmp_path, method=METHODS["bootstrap"], settings=QUIET)
    folder = str(found.path.parent.parent)
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT_DSPY, folder, str(tmp_path / "run")], cwd=ROOT, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == ["made", "False"]


def test_candidates_of_a_search_can_be_queried(split, ledger, tmp_path):
    found = optimize.search("rag/question@1", split, client=ledger, out=tmp_path, method=METHODS["bootstrap"], settings=QUIET)
    [path] = tmp_path.rglob("candidates.parquet")
    rows = store.query("SELECT max(score) AS best, count(*) AS n FROM c", c=path)
    assert rows["best"] == [found.candidates[-1].best] and rows["n"] == [len(found.candidates)]


# --- on real pages ----------------------------------------------------------------------------------------------------


def test_a_prompt_optimised_on_real_pages_beats_the_hand_written_one_on_pages_it_never_saw(shared, tmp_path):
    """By a writer that learns from what it is shown; the control, of the same words without demonstrations, gains nothing."""
    rows = examples.rag_question(store.documents(shared / "docs_fastapi"), count=400)
    split, ledger = rows.split(), llm.Ledger(llm.Offline("weak"), tmp_path / "ledger.sqlite")
    arms = {"shown": optimize.Bootstrap(candidates=4), "control": optimize.AsWritten()}
    found = {
        name: optimize.search("rag/question@1", split, client=ledger, out=tmp_path, method=method, settings=QUIET)
        for name, method in arms.items()
    }
    gains = {name: search.prompt.scores["difference"] for name, search in found.items()}
    assert gains["shown"]["low"] > 0, found["shown"]
    assert gains["control"]["low"] < 0 < gains["control"]["high"], found["control"]
    assert not {e.group for e in split.held_out} & {e.group for part in (split.train, split.dev) for e in part}
