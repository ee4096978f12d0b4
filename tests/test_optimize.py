"""Searches for prompts: what they return, what they may ask, and what is left when they are killed."""

import contextlib
import json
import os
import random
import re
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
from workbench.llm import Price, Scripted
from workbench.prompts import _desk, comparison, examples, optimize, programs
from workbench.prompts.examples import Example, Examples, Split
from workbench.quality import metrics
from workbench.records import Instruction
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


# A task so small that a function can be the model.
TOY = prompts.freeze(
    "test/made", [("system", "Say a word."), ("user", "Text:\n{{text}}")], variables={"text": "plain"},
    outputs={"answer": "str: a word"},
)  # fmt: skip


def is_good(row):
    return metrics.Score(1.0) if "good" in row.instruction else metrics.Score(0.0, "Say a good word.")


def toy(part=is_good, seed=0):
    rows = tuple(Example({"text": f"number {at};"}, f"page {at % 12} of Ana") for at in range(36))
    metric = metrics.Metric({"good": part}, {"parsed": 0.0})
    return Examples(rows, lambda example, fields: Instruction(fields["answer"]), metric, "toy").split(seed=seed)


def says(word):
    return f"[[ ## answer ## ]]\n{word}\n\n[[ ## completed ## ]]"


def number(request):
    """The number of the example that a request asks about."""
    return int(re.search(r"number (\d+);", request.messages[-1]["content"])[1])


def good_when_shown(request):
    """Answers of odd numbers are good, and all of them where a demonstration shows how."""
    is_shown = any(message["role"] == "assistant" for message in request.messages)
    return says("good" if is_shown or number(request) % 2 else "bad")


def toy_search(client, out, method=METHODS["as_written"], *, base=TOY, split=None, **settings):
    settings = optimize.Settings(**{"progress": False, "concurrency": 1, **settings})
    return optimize.search(base, split or toy(), client=client, out=out, method=method, settings=settings)


def demonstrations(prompt):
    return [content for role, content in prompt.messages if role == "assistant"]


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
    found = optimize.search(
        "rag/question@1", split, client=ledger, out=tmp_path, method=METHODS["bootstrap"], settings=QUIET
    )
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
    first = optimize.search(
        "rag/question@1", split, client=ledger, out=tmp_path, method=METHODS["bootstrap"], settings=QUIET
    )
    before = first.path.read_bytes()
    other = optimize.Settings(seed=5, progress=False)
    second = optimize.search(
        "rag/question@1", split, client=ledger, out=tmp_path, method=METHODS["gepa"], settings=other
    )
    assert second.prompt.ref == "rag/question@3" and first.path.read_bytes() == before


def test_a_frozen_version_can_be_optimised_further(split, ledger, tmp_path):
    first = optimize.search(
        "rag/question@1", split, client=ledger, out=tmp_path, method=METHODS["bootstrap"], settings=QUIET
    )
    second = optimize.search(first.prompt, split, client=ledger, out=tmp_path, method=METHODS["gepa"], settings=QUIET)
    assert second.prompt.ref == "rag/question@3" and second.prompt.made_by["base"] == first.prompt.id
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


# --- what the header says -----------------------------------------------------------------------------------------------


def test_the_header_says_what_was_needed_what_was_sent_and_of_which_documents(tmp_path):
    """Answers that an earlier search paid for are needed and not sent again; a document may be named after a person."""
    client = Scripted(lambda request: says("good"), price=Price(1, 10))
    ledger, split = llm.Ledger(client, tmp_path / "ledger.sqlite"), toy()
    first = toy_search(ledger, tmp_path)
    before = len(client.requests)
    made = first.prompt.made_by
    assert made["answers"] == made["requests"] == before == 2 * (len(split.dev) + len(split.held_out))
    method = optimize.Bootstrap(demonstrations=1, candidates=1)
    second = toy_search(ledger, tmp_path, method)
    made, sent = second.prompt.made_by, client.requests[before:]
    shared = len(split.dev) + len(split.held_out)  # the base's scores
    assert made["requests"] == len(sent) > 0 and made["answers"] >= len(sent) + shared
    spent = ledger.spent()
    assert (
        first.prompt.made_by["cost"]
        < made["cost"]
        == pytest.approx((made["prompt_tokens"] + 10 * made["completion_tokens"]) / 1e6)
    )
    # The table charges each search what it paid, so that sums are right; the header says what the result took.
    costs = [experiment.cost for experiment in experiments.find(tmp_path)]
    assert sum(costs) == pytest.approx(spent["cost"]) and costs[0] < made["cost"]
    table = experiments.find(tmp_path)[second.experiment.id]
    assert (table.requests, table.settings["answers"]) == (made["requests"], made["answers"])
    for name in ("train", "dev"):
        groups = {example.group for example in getattr(split, name)}
        assert made["data"][name]["documents"] == sorted(comparison.group_hash(group) for group in groups)
    assert "documents" not in made["data"]["held_out"] and "Ana" not in second.path.read_text()
    ledger.close()


BAD_UNLESS_MAGIC = lambda request: says("good" if "MAGIC" in request.messages[0]["content"] else "bad")


@pytest.mark.parametrize("price", [Price(5, 7), None])
def test_a_proposer_with_a_ledger_of_its_own_is_paid_for_too(price, tmp_path):
    writer = llm.Ledger(Scripted(BAD_UNLESS_MAGIC, price=Price(1, 2)), tmp_path / "writer.sqlite")
    proposer = llm.Ledger(Scripted(lambda request: "Say MAGIC.", model="large", price=price), tmp_path / "own.sqlite")
    found = toy_search(writer, tmp_path / "out", optimize.GEPA(metric_calls=60), proposer=proposer)
    made, both = found.prompt.made_by, [writer.spent(), proposer.spent()]
    assert len(proposer) > 0 and made["proposer"] == "large" and made["model"] == "scripted"
    assert made["requests"] == made["answers"] == len(writer) + len(proposer)
    for name in ("prompt_tokens", "completion_tokens"):
        assert made[name] == sum(spent[name] for spent in both) == getattr(found.experiment, name)
    cost = None if price is None else pytest.approx(sum(spent["cost"] for spent in both))
    assert made["cost"] == cost == found.experiment.cost  # one price that is not known, and the sum is not
    assert ("cost unknown (no price)" in repr(found)) == (price is None)
    assert found.experiment.requests == made["requests"]
    writer.close(), proposer.close()


# --- versions -----------------------------------------------------------------------------------------------------------


def test_a_version_is_not_searched_further_with_held_out_documents_that_it_has_seen(tmp_path):
    client = Scripted(lambda request: says("good"))
    first, other = toy_search(client, tmp_path), toy(seed=1)
    seen = {example.group for part in (toy().train, toy().dev) for example in part}
    met = {example.group for example in other.held_out} & seen
    asked = len(client.requests)
    with pytest.raises(
        InputError,
        match=rf"test/made@2 was searched for on {len(met)} of the documents .* go on with the split that it was found with",
    ):
        toy_search(client, tmp_path, base=first.prompt, split=other)
    assert len(client.requests) == asked and prompts.names(folder=tmp_path / "prompts") == ["test/made@2"]


def test_what_an_ancestor_has_seen_its_descendants_have_seen_too(tmp_path):
    """Version 3 is found on other documents than version 2, from which it comes."""
    whole = toy()
    rows = [example for part in whole for example in part]
    of = lambda *pages: replace(whole.train, rows=tuple(e for e in rows if int(e.group.split()[1]) in pages))
    client = Scripted(lambda request: says("good"))
    second = toy_search(client, tmp_path, split=Split(of(0), of(1, 2), of(10, 11)))
    third = toy_search(client, tmp_path, base=second.prompt, split=Split(of(3), of(4, 5), of(10, 11)), seed=1)
    assert third.prompt.version == 3 and len(third.prompt.made_by["data"]["dev"]["documents"]) == 4
    with pytest.raises(InputError, match="test/made@3 was searched for on 2 of the documents"):
        toy_search(client, tmp_path, base=third.prompt, split=Split(of(6), of(7, 8), of(0, 1)))


def test_a_base_that_shows_a_held_out_example_is_refused(tmp_path):
    split, task = toy(), programs.Task.of(TOY)
    shown = {**programs.inputs(task, split.held_out[0].values), "answer": "good"}
    base = programs.freeze(programs.program(task, demos=[shown]), task)
    client = Scripted([])
    with pytest.raises(
        InputError, match=r"test/made@1 shows 1 of these examples as a demonstration\. It would be judged"
    ):
        toy_search(client, tmp_path, base=base, split=split)
    assert client.requests == [] and not (tmp_path / "prompts" / "test").exists()


def test_a_version_that_another_search_took_a_moment_ago_is_left_alone(tmp_path, monkeypatch):
    client = Scripted(lambda request: says("good"))
    first = toy_search(client, tmp_path)
    before, free, stale = first.path.read_bytes(), optimize._Work._next_version, iter([2, 2])
    monkeypatch.setattr(optimize._Work, "_next_version", lambda work: next(stale, None) or free(work))
    second = toy_search(client, tmp_path, seed=1)
    assert next(stale, None) is None and (second.prompt.ref, first.path.read_bytes()) == ("test/made@3", before)
    assert prompts.load("test/made@3", folder=tmp_path / "prompts") == second.prompt


def test_two_processes_that_search_into_one_folder_make_two_versions(tmp_path):
    with serving(first_sentence, seconds=0.002) as server:
        command = [sys.executable, "-m", "tests.optimize_me", server.url, str(tmp_path)]
        both = [subprocess.Popen([*command, name], cwd=ROOT) for name in ("bootstrap", "gepa")]
        assert [process.wait(90) for process in both] == [0, 0]
    assert prompts.names(folder=tmp_path / "prompts") == ["rag/question@2", "rag/question@3"]
    made = [prompts.load(f"rag/question@{version}", folder=tmp_path / "prompts").made_by for version in (2, 3)]
    assert {each["method"] for each in made} == {"Bootstrap", "GEPA"}
    finished = experiments.find(tmp_path)
    assert {one.id for one in finished} == {each["search"] for each in made}
    assert {one.name for one in finished} == {"rag/question@2", "rag/question@3"}


def test_a_second_search_of_one_process_has_to_wait_and_loses_nothing(tmp_path):
    begun, go_on = threading.Event(), threading.Event()
    found = {}

    def slow(row):
        begun.set()
        go_on.wait()
        return is_good(row)

    client = Scripted(lambda request: says("good"))
    method = optimize.Bootstrap(demonstrations=1, candidates=1)
    work = lambda: found.update(first=toy_search(client, tmp_path, method, split=toy(slow)))
    thread = threading.Thread(target=work)
    thread.start()
    assert begun.wait(60)
    with pytest.raises(
        RunError, match=r"another search runs in this process\. Wait for it, or start this one in a process"
    ):
        toy_search(client, tmp_path, method)
    go_on.set()
    thread.join(60)
    second = toy_search(client, tmp_path, method)
    assert {found["first"].prompt.ref, second.prompt.ref} == {"test/made@2", "test/made@3"}


@pytest.mark.parametrize("written", [b'{"name": "test/made", "ver', b"", b'{"name": "test/made"}'])
def test_a_damaged_version_is_left_alone_and_the_next_number_is_free(written, tmp_path):
    damaged = tmp_path / "prompts" / "test" / "made@2.json"
    damaged.parent.mkdir(parents=True)
    damaged.write_bytes(written)
    found = toy_search(Scripted(lambda request: says("good")), tmp_path)
    assert found.prompt.ref == "test/made@3" and damaged.read_bytes() == written
    again = toy_search(Scripted(lambda request: says("good")), tmp_path)
    assert again.prompt == found.prompt  # and it finds its own among them


def test_an_answer_that_failed_at_first_does_not_make_the_same_search_a_better_version(tmp_path):
    """Asked again until all answers came, any prompt would look better than at first."""
    split = toy()
    unlucky = {int(re.search(r"\d+", part[-1].values["text"])[0]) for part in (split.dev, split.held_out)}
    failed = set()

    def reply(request):
        if (at := number(request)) in unlucky and (key := (at, request.messages[0]["content"])) not in failed:
            failed.add(key)
            return CallFailed("length", "cut")
        return says("good")

    client = Scripted(reply)
    first = toy_search(client, tmp_path)
    wanted = {part: 1 - 1 / len(getattr(split, part)) for part in ("dev", "held_out")}
    assert {part: first.prompt.scores[part]["value"] for part in wanted} == pytest.approx(wanted) and len(failed) == 4
    sent = len(client.requests)
    again = toy_search(client, tmp_path)
    assert len(client.requests) == sent + 4  # what failed is asked again, and comes
    assert again.prompt == first.prompt and again.path == first.path
    assert prompts.names(folder=tmp_path / "prompts") == ["test/made@2"] and len(experiments.find(tmp_path)) == 1


def test_going_on_from_an_optimised_version_never_ends_below_it_on_dev(tmp_path):
    """Methods begin without the base's demonstrations, and here all are lost."""

    class Forgets(optimize.AsWritten):
        def find(self, program, *_):
            return programs.program(programs.Task.of(first.prompt))

    client = Scripted(good_when_shown)
    first = toy_search(client, tmp_path, optimize.Bootstrap(demonstrations=1, candidates=1))
    assert (
        demonstrations(first.prompt)
        and first.prompt.scores["dev"]["value"] == 1 > first.prompt.scores["base"]["dev"]["value"]
    )
    second = toy_search(client, tmp_path, Forgets(), base=first.prompt)
    assert second.prompt.ref == "test/made@3" and second.prompt.messages == first.prompt.messages
    assert second.prompt.scores["dev"]["value"] == second.prompt.scores["base"]["dev"]["value"] == 1
    weaker = programs.freeze(programs.program(programs.Task.of(TOY)), programs.Task.of(TOY), version=4)
    better = toy_search(client, tmp_path, optimize.Bootstrap(demonstrations=1, candidates=1), base=weaker)
    assert demonstrations(better.prompt) and better.prompt.scores["dev"]["value"] == 1  # what is better is kept


def test_the_seed_decides_which_demonstrations_are_taken(tmp_path):
    method = optimize.Bootstrap(demonstrations=1, candidates=1)
    shown = {}
    for out, seed in {"a": 0, "b": 1, "c": 2, "d": 3, "again": 0}.items():
        found = toy_search(Scripted(good_when_shown), tmp_path / out, method, seed=seed)
        assert len(demonstrations(found.prompt)) == 1
        shown[out] = found.prompt.messages
    assert shown["a"] == shown["again"] and len(set(shown.values())) > 1


# --- proposals ----------------------------------------------------------------------------------------------------------


def test_a_proposal_in_plain_words_is_used_and_an_unreadable_answer_has_feedback(tmp_path):
    """Models forget the JSON that GEPA asks them for; and answers without a header are what there is to learn from."""

    def reply(request):
        return says("good") if "MAGIC" in request.messages[0]["content"] else "I say what I like."

    proposer = Scripted(lambda request: "Say MAGIC, whatever comes.", model="large")
    found = toy_search(Scripted(reply), tmp_path, optimize.GEPA(metric_calls=60), proposer=proposer)
    assert "Say MAGIC, whatever comes." in found.prompt.messages[0][1]
    scores = found.prompt.scores
    assert (scores["base"]["dev"]["value"], scores["dev"]["value"], scores["held_out"]["value"]) == (0, 1, 1)
    [base, new] = found.comparison.scores
    assert {failure.reason for failure in base.failures} == {"parse"} and not new.failures
    told = proposer.requests[0].messages[-1]["content"]
    assert "I say what I like." in told and "failed to parse" in told
    assert "lost_proposals" not in found.prompt.made_by and "never came" not in repr(found)


def test_a_part_of_an_answer_is_shown_to_who_proposes(split, tmp_path):
    writer = Scripted(lambda request: "[[ ## question ## ]]\nWhy is there a question and nothing else?")
    proposer = Scripted(lambda request: "Give all three fields.", model="large")
    settings = optimize.Settings(progress=False, proposer=proposer)
    found = optimize.search(
        "rag/question@1", split, client=writer, out=tmp_path, method=METHODS["gepa"], settings=settings
    )
    assert "Why is there a question and nothing else?" in proposer.requests[0].messages[-1]["content"]
    assert found.prompt.scores["dev"]["value"] == 0


def test_a_refused_proposal_is_counted_and_ends_nothing(tmp_path):
    refused = []

    def propose(request):
        if not refused:
            refused.append(request)
            return CallFailed("refusal", "I cannot help with that.")
        return '{"proposed_instruction": "Say MAGIC."}'

    method = optimize.MIPRO(demonstrations=1, candidates=2, trials=2)
    found = toy_search(Scripted(BAD_UNLESS_MAGIC), tmp_path, method, proposer=Scripted(propose, model="large"))
    assert len(refused) == 1 == found.prompt.made_by["lost_proposals"] == found.experiment.settings["lost_proposals"]
    assert "1 proposals never came" in repr(found) and "1 proposals never came" in found._repr_html_()
    assert experiments.find(tmp_path)[0].status == "finished"


# --- what goes wrong --------------------------------------------------------------------------------------------------


def test_answers_that_cannot_be_read_score_nothing_and_end_nothing(split, tmp_path):
    client = llm.Scripted(lambda request: "I would rather talk about something else.")
    for method in METHODS.values():
        found = optimize.search("rag/question@1", split, client=client, out=tmp_path, method=method, settings=QUIET)
        assert found.prompt.scores["dev"]["value"] == found.prompt.scores["base"]["dev"]["value"] == 0
        assert "Cannot tell" in found.comparison.sentence


@pytest.mark.parametrize(
    "method", [METHODS["bootstrap"], METHODS["mipro"], METHODS["gepa"]], ids=["bootstrap", "mipro", "gepa"]
)
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
        with pytest.raises(CallFailed, match=r"401|rejected|refused"):
            optimize.search(
                "rag/question@1", split, client=llm.OpenAI(server.url, "m"), out=tmp_path, method=method, settings=QUIET
            )
    assert not prompts.names(folder=tmp_path / "prompts")


@pytest.mark.parametrize("method", [METHODS["bootstrap"], METHODS["gepa"]], ids=["bootstrap", "gepa"])
def test_a_request_that_the_server_rejects_scores_nothing_and_the_search_goes_on(method, tmp_path):
    split = toy()
    rejected = [part[-1].values["text"] for part in (split.dev, split.held_out)]
    is_rejected = lambda number, body: number > 5 and any(text in body["messages"][-1]["content"] for text in rejected)
    fault = lambda number, body: "status 400" if is_rejected(number, body) else None
    with serving(lambda body: says("good"), fault=fault) as server:
        found = toy_search(llm.OpenAI(server.url, "m"), tmp_path, method)
    for scores in (found.prompt.scores, found.prompt.scores["base"]):
        for part in ("dev", "held_out"):
            assert (
                scores[part]["value"]
                == scores[part]["parts"]["parsed"]["value"]
                == pytest.approx(1 - 1 / len(getattr(split, part)))
            )
    for scores in found.comparison.scores:
        assert [failure.reason for failure in scores.failures] == ["rejected"] and "status 400" in scores.failures[
            0
        ].detail
    assert experiments.find(tmp_path)[0].status == "finished"


@pytest.mark.parametrize("method", METHODS.values(), ids=METHODS)
def test_a_server_that_rejects_everything_from_the_start_ends_the_search(method, tmp_path):
    with serving(fault=lambda number, body: "status 400") as server:
        with pytest.raises(CallFailed, match="status 400 on purpose") as told:
            toy_search(llm.OpenAI(server.url, "m"), tmp_path, method)
        assert told.value.reason == "rejected" and server.count == 1
    [experiment] = experiments.find(tmp_path)
    assert experiment.status == "stopped" and "status 400 on purpose" in experiment.stopped
    assert not prompts.names(folder=tmp_path / "prompts")


def test_a_finished_search_stays_finished_when_it_is_run_again_and_interrupted(tmp_path):
    client = Scripted(lambda request: says("good"))
    found = toy_search(client, tmp_path)
    before = (tmp_path / "searches" / found.experiment.id / "experiment.json").read_bytes()

    class AsWritten(optimize.AsWritten):
        """The same search by name and settings, at which somebody presses Ctrl-C."""

        def find(self, *_):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        toy_search(client, tmp_path, AsWritten())
    [experiment] = experiments.find(tmp_path)
    assert (experiment.id, experiment.status) == (found.experiment.id, "finished") and experiment.score["value"] == 1
    assert (experiment.folder / "experiment.json").read_bytes() == before
    with pytest.raises(KeyboardInterrupt):
        toy_search(client, tmp_path / "other", AsWritten())
    assert experiments.find(tmp_path / "other")[0].status == "stopped"  # one that never finished says so


def streams_and_settings():
    import dspy

    return (
        sys.stdout,
        sys.stderr,
        dspy.settings.lm,
        dspy.settings.adapter,
        dspy.settings.callbacks,
        dspy.settings.num_threads,
    )


def test_the_stop_button_ends_a_search_whose_metric_does_not_come_back(tmp_path, monkeypatch, capsys):
    """The test's own time limit is the oracle: the metric would wait for ever."""
    monkeypatch.setattr(_desk, "_GRACE_SECONDS", 0.1)
    begun, go_on = threading.Event(), threading.Event()

    def stuck(row):
        begun.set()
        go_on.wait()
        return is_good(row)

    threading.Thread(target=lambda: (begun.wait(), os.kill(os.getpid(), signal.SIGINT)), daemon=True).start()
    client, split, before = Scripted(lambda request: says("good")), toy(stuck), streams_and_settings()
    with pytest.raises(
        Stopped, match=r"the search was stopped after [1-9]\d* answers; they are in ledger.sqlite. Run the same"
    ):
        toy_search(client, tmp_path, METHODS["bootstrap"], split=split)
    assert not go_on.is_set() and streams_and_settings() == before
    print("out"), print("err", file=sys.stderr)
    assert capsys.readouterr() == ("out\n", "err\n")
    assert experiments.find(tmp_path)[0].status == "stopped"
    sent = len(client.requests)
    go_on.set()
    found = toy_search(client, tmp_path, METHODS["bootstrap"], split=split)
    assert sent and len(client.requests) == found.prompt.made_by["requests"]  # none of the first was sent again


def test_a_spent_budget_ends_a_search_whose_metric_is_slow(tmp_path, capsys):
    def slow(row):
        time.sleep(0.02)
        return is_good(row)

    client, before = Scripted(lambda request: says("good")), streams_and_settings()
    with pytest.raises(BudgetExhausted, match=r"This search takes up to .* \d+ answers are there"):
        toy_search(
            client, tmp_path, METHODS["bootstrap"], split=toy(slow), budget=llm.Budget(requests=15), concurrency=8
        )
    assert len(client.requests) == 15 == len(finished(tmp_path / "ledger.sqlite")) and streams_and_settings() == before
    print("out"), print("err", file=sys.stderr)
    assert capsys.readouterr() == ("out\n", "err\n")


def test_nothing_is_asked_any_more_when_the_calling_thread_fails(tmp_path, monkeypatch):
    """As where the bar cannot be drawn: the search would go on behind one's back, and cost."""

    class Bar:
        def set_postfix_str(self, *_):
            raise OSError("the terminal is gone")

    monkeypatch.setattr(optimize, "progress_bar", lambda *_, **__: contextlib.nullcontext(Bar()))
    with serving(lambda body: says("good"), seconds=0.05) as server:
        ledger = llm.Ledger(llm.OpenAI(server.url, "m"), tmp_path / "ledger.sqlite")
        with pytest.raises(RunError, match="the terminal is gone"):
            toy_search(ledger, tmp_path, METHODS["bootstrap"])
        sent = server.count
        for thread in [each for each in threading.enumerate() if each.name == "prompt search"]:
            thread.join(60)
        assert server.count <= sent + 1 < 20  # of 41
        ledger.close()


def test_the_stop_button_keeps_what_was_answered(split, tmp_path):
    with serving(first_sentence, seconds=0.05) as server:
        client = llm.OpenAI(server.url, "test-model")
        threading.Thread(
            target=lambda: (wait_for(server, 10), os.kill(os.getpid(), signal.SIGINT)), daemon=True
        ).start()
        with pytest.raises(Stopped, match="Run the same call again"):
            optimize.search(
                "rag/question@1", split, client=client, out=tmp_path, method=METHODS["bootstrap"], settings=QUIET
            )
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
    wrong = Split(
        *(replace(part, metric=metrics.Metric({"broken": broken})) for part in (split.train, split.dev, split.held_out))
    )
    with pytest.raises(InputError, match="broken"):
        optimize.search(
            "rag/question@1", wrong, client=llm.Offline(), out=tmp_path, method=METHODS["bootstrap"], settings=QUIET
        )


@pytest.mark.parametrize(
    ("method", "field"),
    [
        (optimize.GEPA, "minibatch"),
        (optimize.MIPRO, "trials"),
        (optimize.Bootstrap, "candidates"),
        (optimize.Bootstrap, "rounds"),
    ],
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
    command = lambda server, out: [sys.executable, "-m", "tests.optimize_me", server.url, str(tmp_path / out), name]
    with serving(first_sentence, seconds=0.004) as server:
        subprocess.run(command(server, "whole"), cwd=ROOT, check=True)
        total, rng = server.count, random.Random(name)
        for _ in range(2):
            begin, done = server.count, finished(tmp_path / "killed" / "ledger.sqlite")
            process = subprocess.Popen(command(server, "killed"), cwd=ROOT)
            until = begin + rng.randint(5, max(6, (total - len(done)) // 2))
            while server.count < until and process.poll() is None:
                time.sleep(0.001)
            assert process.poll() is None, "it ended before the kill"
            process.send_signal(signal.SIGKILL)
            process.wait()
            time.sleep(0.05)
            assert not done & asked(server.bodies[begin:])
        begin, done = server.count, finished(tmp_path / "killed" / "ledger.sqlite")
        subprocess.run(command(server, "killed"), cwd=ROOT, check=True)
        assert done and not done & asked(server.bodies[begin:])
    whole, resumed = (prompts.load("rag/question@2", folder=tmp_path / out / "prompts") for out in ("whole", "killed"))
    assert resumed.messages == whole.messages and resumed.id == whole.id
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
    found = optimize.search(
        "rag/question@1", split, client=ledger, out=tmp_path, method=METHODS["bootstrap"], settings=QUIET
    )
    folder = str(found.path.parent.parent)
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT_DSPY, folder, str(tmp_path / "run")], cwd=ROOT, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == ["made", "False"]


def test_candidates_of_a_search_can_be_queried(split, ledger, tmp_path):
    found = optimize.search(
        "rag/question@1", split, client=ledger, out=tmp_path, method=METHODS["bootstrap"], settings=QUIET
    )
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
