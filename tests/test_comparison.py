"""Comparing prompts: the same inputs, what a model did is scored, an outage never is, and the words follow the interval."""

import asyncio
import os
import random
import re
import signal
import time
from collections import Counter
from dataclasses import replace

import pyarrow as pa
import pytest

from workbench import intervals, llm, prompts
from workbench.errors import BudgetExhausted, CallFailed, ClientError, InputError, PromptError
from workbench.llm import Budget, Scripted, answers
from workbench.prompts import _asking, comparison, examples, programs
from workbench.prompts.comparison import Comparison, Scores
from workbench.prompts.examples import Example, Examples
from workbench.quality.metrics import Metric, Score, Scored, no_copied_prompt
from workbench.records import Failure, Instruction
from workbench.runner import Stopped


def prompt(version=1, *, user="Look at {{text}}.", outputs=None, **header):
    variables = {"text": "plain"} if "{{text}}" in user else {"other": "plain"}
    return prompts.freeze(
        "test/made", [("system", f"Version {version}."), ("user", user)], version=version, variables=variables,
        outputs=outputs or {"answer": "str: the answer"}, **header,
    )  # fmt: skip


def read(example, fields):
    return Failure("nothing", "no <b>answer</b>") if fields["answer"] == "NONE" else Instruction(fields["answer"])


METRIC = Metric(
    {"right": lambda row: Score(1.0) if "good" in row.instruction else Score(0.0, "Be good.")}, {"parsed": 0.0}
)


def made(count=60, groups=12, metric=METRIC):
    rows = (Example({"text": f"number {at}"}, f"document {at % groups}") for at in range(count))
    return Examples(tuple(rows), read, metric, "numbers")


def answer(text="good"):
    return f"[[ ## answer ## ]]\n{text}"


def asked(request):
    """(version of the prompt, number of the example) of a request."""
    return tuple(int(re.search(r"\d+", message["content"])[0]) for message in request.messages)


def good(share_of_version):
    """A client whose answers to each version are right for this share of the examples, drawn for each by itself."""

    def reply(request):
        version, number = asked(request)
        return answer("good" if random.Random(f"{version}/{number}").random() < share_of_version[version] else "bad")

    return Scripted(reply)


class Slow:
    """A client that takes its time, presses the stop button at a certain request, and counts who closed it."""

    def __init__(self, seconds, press_at=None):
        self.model, self.endpoint, self.sampling = "slow", "slow", llm.Sampling()
        self.seconds, self.press_at, self.requests, self.closed = seconds, press_at, [], 0

    async def complete(self, request):
        self.requests.append(request)
        if len(self.requests) == self.press_at:
            os.kill(os.getpid(), signal.SIGINT)
        await asyncio.sleep(self.seconds)
        return llm.Completion((llm.Choice(answer()),), "slow")

    async def aclose(self):
        self.closed += 1


@pytest.fixture
def ledger(tmp_path):
    """A function that wraps a client in the ledger of this test."""
    opened = []

    def open_(client):
        opened.append(llm.Ledger(client, tmp_path / "ledger.sqlite"))
        return opened[-1]

    yield open_
    for each in opened:
        each.close()


# --- one prompt -------------------------------------------------------------------------------------------------------


def test_each_example_is_asked_once_and_scored_in_its_place():
    client = Scripted(lambda request: answer("good" if asked(request)[1] % 3 else "bad"))
    scores = comparison.score(prompt(), made(12, 4), client=client)
    assert sorted(asked(request)[1] for request in client.requests) == list(range(12))
    assert scores.of("all") == scores.of("right") == [float(at % 3 > 0) for at in range(12)]
    assert [outcome.instruction for outcome in scores.outcomes[:4]] == ["bad", "good", "good", "bad"]
    assert scores.value == pytest.approx(8 / 12) and scores.models == ("scripted",) and not scores.is_offline
    assert scores.interval() == intervals.mean(scores.of("all"), groups=[f"document {at % 4}" for at in range(12)])
    assert list(scores.parts()) == ["parsed", "right"] and scores.parts()["parsed"].low == 1.0
    assert scores.parts(0.5)["right"].level == 0.5
    assert repr(scores).startswith("test/made@1 scores 0.67 (") and repr(scores).endswith(
        "12 examples of 4 documents, by scripted"
    )


def test_what_is_sent_is_what_the_generator_sends(ledger):
    """So that an answer which a run paid for is not paid for again, whatever the prompt's format and sampling."""
    for made_prompt in (prompt(), prompt(2, format="json", sampling={"temperature": 0.5, "max_tokens": 50})):
        text = '{"answer": "good"}' if made_prompt.format == "json" else answer()
        client = Scripted(lambda request, text=text: text, sampling=llm.Sampling(json_schema=True, seed=3))
        book = ledger(client)
        paid = asyncio.run(answers.ask(book, made_prompt, {"text": "number 0"}))
        scores = comparison.score(made_prompt, made(4, 2), client=book)
        assert len(client.requests) == 4 and scores.requests[0] == paid.completions[0].key
        assert all(book.entry(key) for key in scores.requests)


def test_an_answer_that_cannot_be_read_is_not_repaired_and_counts_as_such():
    client = Scripted(lambda request: "no header" if asked(request)[1] < 3 else answer())
    scores = comparison.score(prompt(), made(12, 4), client=client)
    assert len(client.requests) == 12 and scores.value == 0.75 and scores.parts()["parsed"].value == 0.75
    assert [failure.reason for failure in scores.failures] == ["parse"] * 3
    assert scores.failures[0].raw == "no header" and scores.failures[0].requests == (scores.requests[0],)
    assert "3 failed (3 parse)" in repr(scores)


OF_ONE_REQUEST = ["bad_response", "rejected"]  # too long a prompt, an answer that is no text
OUTAGES = sorted({*CallFailed.REASONS} - _asking.OF_THE_MODEL - {*OF_ONE_REQUEST})


@pytest.mark.parametrize("reason", [*sorted(_asking.OF_THE_MODEL), *OF_ONE_REQUEST])
def test_what_a_model_or_server_does_to_one_request_scores_zero(reason):
    client = Scripted(lambda request: CallFailed(reason, "so it is", raw="cut") if asked(request)[1] == 5 else answer())
    scores = comparison.score(prompt(), made(8, 4), client=client, concurrency=1)
    assert scores.of("all") == [1.0] * 5 + [0.0] + [1.0] * 2 and len(client.requests) == 8
    assert (scores.outcomes[5].reason, scores.outcomes[5].detail, scores.outcomes[5].raw) == (reason, "so it is", "cut")


def test_every_reason_is_either_the_models_or_an_outage():
    assert OUTAGES == ["budget", "connection", "rate_limited", "server_error", "timeout"]


@pytest.mark.parametrize("reason", OF_ONE_REQUEST)
@pytest.mark.parametrize("fatal", [False, True])
def test_a_server_that_refuses_everything_or_the_key_is_an_outage(reason, fatal):
    """Before it has answered anything, nobody knows that it ever will; a refused key will not come back."""
    answered = 3 if fatal else 0
    reply = lambda request: CallFailed(reason, "no.", fatal=fatal) if asked(request)[1] >= answered else answer()
    client = Scripted(reply)
    with pytest.raises(CallFailed, match=rf"no\. An outage is no score.*: {answered} of 40 examples were answered"):
        comparison.score(prompt(), made(40), client=client, concurrency=1)
    assert len(client.requests) == answered + 1


@pytest.mark.parametrize("reason", OUTAGES)
def test_an_outage_is_raised_with_what_to_do_and_scores_nothing(reason, ledger):
    def reply(request):
        return CallFailed(reason, "it is down.") if asked(request)[1] == 5 else answer()

    client = Scripted(reply)
    with pytest.raises(
        CallFailed, match=r"it is down\. An outage is no score, so test/made@1 has none: 5 of 40 "
    ) as told:
        comparison.score(prompt(), made(40), client=client, concurrency=1)
    assert told.value.reason == reason and "Without a ledger they are lost" in str(told.value)
    assert len(client.requests) == 6  # nothing is asked of who does not answer
    with pytest.raises(CallFailed, match=r"in ledger.sqlite: make the same call again, and only the rest is sent"):
        comparison.score(prompt(), made(40), client=ledger(client), concurrency=1)
    mended = Scripted(lambda request: answer())
    assert comparison.score(prompt(), made(40), client=ledger(mended)).value == 1.0
    assert sorted(asked(request)[1] for request in mended.requests) == list(range(5, 40))


def test_a_client_that_was_set_up_wrong_is_raised_as_it_is():
    with pytest.raises(ClientError, match="no reply left"):
        comparison.score(prompt(), made(8), client=Scripted([answer()] * 3), concurrency=2)


def test_the_budget_holds_and_what_it_paid_for_is_kept(ledger):
    client = Scripted(lambda request: answer())
    budget = Budget(requests=10)
    with pytest.raises(BudgetExhausted, match="10 of 25 examples were answered"):
        comparison.score(prompt(), made(25), client=ledger(client), budget=budget)
    assert len(client.requests) == 10 and budget.used["requests"] == 10
    assert comparison.score(prompt(), made(25), client=ledger(client), budget=Budget(requests=15)).value == 1.0
    assert len(client.requests) == 25


def test_the_run_and_the_budget_are_on_every_request_and_no_part_of_its_key(ledger):
    client, budget = Scripted(lambda request: answer()), Budget(requests=100)
    book = ledger(client)
    comparison.score(prompt(), made(6, 3), client=book, run="search 1", budget=budget)
    assert {(request.run, request.budget) for request in client.requests} == {("search 1", budget)}
    assert book.spent("search 1")["requests"] == 6
    comparison.score(prompt(), made(6, 3), client=book, run="search 2")
    assert len(client.requests) == 6 and book.spent("search 2")["requests"] == 0


def test_no_more_is_under_way_than_was_allowed():
    client, most = Slow(0.005), [0]
    under_way = 0

    async def complete(request, inner=client.complete):
        nonlocal under_way
        under_way += 1
        most[0] = max(most[0], under_way)
        try:
            return await inner(request)
        finally:
            under_way -= 1

    client.complete = complete
    comparison.score(prompt(), made(30), client=client, concurrency=4)
    assert most == [4] and client.closed == 1  # and its connections are closed behind it
    with pytest.raises(InputError, match="concurrency must be 1 or more"):
        comparison.score(prompt(), made(3), client=client, concurrency=0)


def test_the_stop_button_keeps_what_finished_and_the_same_call_sends_the_rest(ledger):
    client = Slow(0.05, press_at=20)
    before = signal.getsignal(signal.SIGINT)
    with pytest.raises(
        Stopped, match=r"of 400 examples were answered. They are in ledger.sqlite: make the same call again"
    ):
        comparison.score(prompt(), made(400), client=ledger(client), concurrency=8)
    assert signal.getsignal(signal.SIGINT) is before and client.closed == 1
    sent = len(client.requests)
    assert 20 <= sent < 400
    time.sleep(0.1)
    assert len(client.requests) == sent  # nothing goes on behind one's back
    client.seconds = 0
    scores = comparison.score(prompt(), made(400), client=ledger(client))
    assert scores.value == 1.0 and Counter(asked(r)[1] for r in client.requests) == Counter(range(400))


def test_an_answer_that_does_not_come_is_given_up_soon_after_the_stop_button(monkeypatch):
    monkeypatch.setattr(_asking, "_GRACE_SECONDS", 0.2)
    client = Slow(3600, press_at=3)
    with pytest.raises(Stopped, match=r"0 of 8 examples were answered. Without a ledger they are lost"):
        comparison.score(prompt(), made(8), client=client)
    assert client.closed == 1


def test_a_press_at_the_last_answer_stops_the_comparison_too(ledger):
    client = Slow(0, press_at=12)
    with pytest.raises(Stopped, match="test/made@1: 12 of 12"):
        comparison.compare([prompt(1), prompt(2)], made(12, 4), client=ledger(client))
    assert len(client.requests) == 12


def test_a_metric_that_breaks_is_told_and_nothing_goes_on():
    client = Slow(0.02)
    broken = Metric({"broken": lambda row: 1 / 0})
    with pytest.raises(InputError, match=r"part 'broken'.*ZeroDivisionError"):
        comparison.score(prompt(), made(200, metric=broken), client=client, concurrency=2)
    while not client.closed:
        time.sleep(0.01)
    assert len(client.requests) < 200


def test_a_plain_call_works_while_a_loop_runs_as_in_a_notebook():
    async def cell():
        return comparison.score(prompt(), made(6, 3), client=Scripted(lambda request: answer()))

    assert asyncio.run(cell()).value == 1.0


def test_examples_of_one_document_have_a_mean_and_no_interval():
    scores = comparison.score(prompt(), made(6, 1), client=Scripted(lambda request: answer()))
    assert scores.value == 1.0 and "1.00 (no interval: one document)" in repr(scores)
    assert "no interval" in scores._repr_html_()
    with pytest.raises(InputError, match=r"of one group .* have no interval"):
        scores.interval()


def test_a_prompt_that_does_not_fit_the_examples_is_refused_before_anything_is_sent():
    client = Scripted([])
    with pytest.raises(PromptError, match=r"test/made@1 takes other; the examples give text\."):
        comparison.score(prompt(user="{{other}}"), made(3), client=client)
    with pytest.raises(PromptError, match="takes other; the examples give text"):
        comparison.compare([prompt(1), prompt(2, user="{{other}}")], made(), client=client)
    with pytest.raises(InputError, match="no example to ask test/made@1 with"):
        comparison.score(prompt(), made(0), client=client)


def test_a_prompt_that_gives_other_fields_than_are_read_is_told_so_and_gets_no_score():
    other = prompt(2, outputs={"reply": "str: the reply"})
    with pytest.raises(PromptError, match="test/made@2 gives reply; to read its answers the examples need 'answer'"):
        comparison.score(other, made(), client=Scripted(lambda request: "[[ ## reply ## ]]\nyes"))
    more = prompt(
        3, outputs={"why": "str: a reason", "answer": "str: the answer"}
    )  # fields that are not read do no harm
    text = f"[[ ## why ## ]]\nso\n\n{answer()}"
    assert comparison.score(more, made(), client=Scripted(lambda request: text)).value == 1.0


# --- two prompts ------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def better():
    """Version 2 is right far more often."""
    return comparison.compare([prompt(1), prompt(2)], made(120, 24), client=good({1: 0.3, 2: 0.8}))


def test_a_difference_that_is_there_is_found(better):
    [pair] = better.pairs
    assert (
        pair.verdict == "better" and pair.difference.excludes_zero and pair.difference.low < 0.5 < pair.difference.high
    )
    wanted = intervals.paired(pair.baseline.of("all"), pair.other.of("all"), groups=pair.baseline.groups)
    assert pair.difference == wanted
    size, low, high = (f"{value:.2f}" for value in (wanted.value, wanted.low, wanted.high))
    said = f"test/made@2 scores {size} more than test/made@1 ({low} to {high}, 120 examples of 24 documents)."
    assert better.sentence == pair.sentence == said and said in repr(better)


def test_rows_of_one_document_are_alike_and_count_as_such():
    """Better on 15 documents and worse on 9, on every row of them: 120 rows say no more than 24 documents."""

    def reply(request):
        version, number = asked(request)
        return answer("good" if (version == 2) == (number % 24 < 15) else "bad")

    pair = comparison.compare([prompt(1), prompt(2)], made(120, 24), client=Scripted(reply)).pairs[0]
    assert pair.difference.value == pytest.approx(0.25) and pair.verdict == "cannot tell"
    assert intervals.paired(pair.baseline.of("all"), pair.other.of("all")).excludes_zero  # as if rows were independent


def test_the_other_way_round_it_is_worse_by_as_much(better):
    first, second = better.scores
    turned = Comparison.of([second, first])
    assert turned.pairs[0].verdict == "worse"
    said = better.sentence.replace("@2 scores", "@X scores").replace("@1", "@2").replace("@X", "@1")
    assert re.sub(r"\(.*?,", "(", turned.sentence) == re.sub(r"\(.*?,", "(", said.replace("more", "less"))
    low, high = map(float, re.search(r"\(([\d.]+) to ([\d.]+),", turned.sentence).groups())
    assert 0 < low < turned.pairs[0].difference.value * -1 < high


def test_two_prompts_that_do_equally_well_cannot_be_told_apart():
    found = comparison.compare([prompt(1), prompt(2)], made(120, 24), client=good({1: 0.5, 2: 0.5}))
    assert found.pairs[0].verdict == "cannot tell"
    assert found.sentence.startswith("Cannot tell whether test/made@2 scores more or less than test/made@1: ")
    needed = found.pairs[0].needed
    assert needed > 120 and f"about {float(f'{needed:.2g}'):,.0f} examples would be needed" in found.sentence


def test_answers_that_are_all_alike_need_no_number_of_examples():
    found = comparison.compare([prompt(1), prompt(2)], made(), client=Scripted(lambda request: answer()))
    assert found.pairs[0].needed is None and "would be needed" not in found.sentence
    assert "+0.00 (+0.00 to +0.00, 60 examples of 12 documents)." in found.sentence
    assert "score differently on 0 of 60 inputs" in repr(found.examples()) and len(found.examples()) == 0


def test_a_small_difference_is_not_written_as_none():
    assert comparison._numbers(0.0812, 0.031, 0.129) == ["0.08", "0.03", "0.13"]
    assert comparison._numbers(0.004, 0.001, 0.007) == ["0.004", "0.001", "0.007"]
    assert comparison._numbers(0.004, 0.0, 0.007, sign="+") == ["+0.004", "+0.000", "+0.007"]
    assert comparison._numbers(0.00001, 0.0, 0.2) == ["0.0000", "0.0000", "0.2000"]


def test_the_same_comparison_again_sends_nothing(ledger):
    client = good({1: 0.3, 2: 0.8})
    first = comparison.compare([prompt(1), prompt(2)], made(), client=ledger(client))
    assert len(client.requests) == 120
    again = comparison.compare([prompt(1), prompt(2)], made(), client=ledger(client))
    assert len(client.requests) == 120 and again.rows() == first.rows()
    third = good({3: 0.5})  # asked about version 1 it would raise
    comparison.compare([prompt(1), prompt(3)], made(), client=ledger(third))
    assert len(third.requests) == 60


def test_a_prompt_is_loaded_from_the_folder_by_name_and_version(tmp_path):
    prompt(1).save(tmp_path)
    client = good({1: 0.3, 2: 0.8})
    found = comparison.compare(["test/made@1", prompt(2)], made(), client=client, folder=tmp_path)
    assert [each.prompt.id for each in found.scores] == [prompt(1).id, prompt(2).id]
    with pytest.raises(PromptError, match="there is no prompt 'test/made@9'"):
        comparison.compare(["test/made@1", "test/made@9"], made(), client=client, folder=tmp_path)


def test_the_table_has_a_row_for_all_and_for_each_part(better):
    table = better.table()
    assert isinstance(table, pa.Table) and table.column_names == [
        "prompt", "baseline", "part", "baseline_value", "value", "difference", "low", "high", "n", "groups", "verdict",
    ]  # fmt: skip
    assert table.column("part").to_pylist() == ["all", "parsed", "right"]
    row = table.to_pylist()[2]
    assert (row["prompt"], row["baseline"], row["n"], row["groups"]) == ("test/made@2", "test/made@1", 120, 24)
    assert row["difference"] == pytest.approx(row["value"] - row["baseline_value"]) and row["verdict"] == "better"
    assert table.to_pylist()[1]["verdict"] == "cannot tell"


def test_several_prompts_have_wider_intervals_so_that_the_level_holds_for_all():
    client = good({1: 0.3, 2: 0.8, 3: 0.3, 4: 0.35})
    pair = comparison.compare([prompt(1), prompt(2)], made(), client=client).pairs[0]
    found = comparison.compare([prompt(version) for version in (1, 2, 3, 4)], made(), client=client)
    assert [each.level for each in found.pairs] == pytest.approx([1 - 0.05 / 3] * 3)
    assert found.pairs[0].difference.low < pair.difference.low and found.pairs[0].difference.high > pair.difference.high
    assert "Bonferroni" in repr(found) and "98.33% interval" in repr(found) and "Bonferroni" not in repr(pair)
    assert len(found.rows()) == 9 and found.sentence.count("test/made@1") == 3
    assert found.sentence == " ".join(each.sentence for each in found.pairs)


def test_of_twenty_prompts_that_are_all_alike_seldom_one_is_called_better():
    rng = random.Random(0)
    base = Scores(prompt(1), made(200, 50), (), tuple(scored(rng.random()) for _ in range(200)), ("m",), ())
    told = 0
    for _ in range(15):
        others = [
            replace(base, prompt=prompt(version), scored=tuple(scored(rng.random()) for _ in range(200)))
            for version in range(2, 12)
        ]
        told += any(pair.difference.excludes_zero for pair in Comparison.of([base, *others]).pairs)
    assert told <= 4  # 10 comparisons of 95% each would find one in 40% of such families


def scored(value):
    return Scored(value, {"parsed": 1.0, "right": value})


def test_of_few_documents_nothing_is_told_however_clear_it_looks():
    """All 54 differences are 1, and the interval has no width: of nine documents it could be chance all the same."""
    always = good({1: 0.0, 2: 1.0})
    few = comparison.compare([prompt(1), prompt(2)], made(54, intervals.FEW - 1), client=always)
    assert few.pairs[0].difference.excludes_zero and few.pairs[0].difference.value == 1
    assert few.pairs[0].verdict == "cannot tell" == few.rows()[0]["verdict"] and few.rows()[0]["groups"] == 9
    assert few.sentence == (
        "Cannot tell whether test/made@2 scores more or less than test/made@1: +1.00 (+1.00 to +1.00, 54 examples of 9 "
        "documents). Of fewer than 10 documents no interval can be trusted: add documents."
    )
    assert "better" not in repr(few) + few._repr_html_()
    enough = comparison.compare([prompt(1), prompt(2)], made(60, intervals.FEW), client=always)
    assert enough.pairs[0].verdict == "better" == enough.rows()[0]["verdict"] and "add documents" not in enough.sentence


def test_what_cannot_be_compared_is_refused_before_anything_is_sent():
    client = Scripted([])
    for wrong in ([], [prompt()], "test/made@1", prompt()):
        with pytest.raises(InputError, match="a list of two prompts or more; the first is the baseline"):
            comparison.compare(wrong, made(), client=client)
    with pytest.raises(PromptError, match=r"test/made@1 is there twice\. Name each version once"):
        comparison.compare([prompt(1), prompt(2), prompt(1)], made(), client=client)
    with pytest.raises(InputError, match=r"one document.*several documents"):
        comparison.compare([prompt(1), prompt(2)], made(20, 1), client=client)
    with pytest.raises(InputError, match="no example to ask"):
        comparison.compare([prompt(1), prompt(2)], made(0), client=client)
    with pytest.raises(InputError, match="level must be between 0 and 1"):
        comparison.compare([prompt(1), prompt(2)], made(), client=client, level=95)


def test_scores_of_other_examples_or_by_another_metric_are_not_compared(better):
    client = good({1: 0.3, 2: 0.8})
    other = comparison.score(prompt(2), made(120, 20), client=client)
    with pytest.raises(InputError, match="Score both on the same examples by the same metric"):
        comparison.between(better.scores[0], other)
    harder = Metric({"right": lambda row: Score(0.0, "no")})
    with pytest.raises(InputError, match="by the same metric"):
        comparison.between(better.scores[0], comparison.score(prompt(2), made(120, 24, harder), client=client))
    with pytest.raises(InputError, match="the scores of two prompts or more"):
        Comparison.of(better.scores[:1])


def test_scores_of_the_same_examples_read_otherwise_are_not_compared(better):
    """The metric is the same, and what it is given is not."""
    other = replace(better.scores[1].examples, read=lambda example, fields: Instruction(fields["answer"].upper()))
    assert (other.sha256, other.metric.content_id) == (better.scores[0].examples.sha256, METRIC.content_id)
    with pytest.raises(InputError, match="Score both on the same examples by the same metric"):
        comparison.between(better.scores[0], replace(better.scores[1], examples=other))


def test_one_version_is_not_compared_with_itself(better):
    with pytest.raises(PromptError, match="both scores are of test/made@1"):
        comparison.between(better.scores[0], better.scores[0])
    draft = replace(better.scores[1], prompt=prompt(1, about="another draft"))
    with pytest.raises(PromptError, match="both scores are of test/made@1"):
        Comparison.of([better.scores[0], draft])


# --- what a prompt has seen ---------------------------------------------------------------------------------------------


def test_a_prompt_is_not_compared_on_documents_that_it_was_searched_for_on():
    hashes = [comparison.group_hash(f"document {at}") for at in range(3)]
    searched = prompt(2, made_by={"data": {"train": {"documents": hashes[:2]}, "dev": {"documents": hashes[2:]}}})
    rows, client = made(48, 12), Scripted([])
    assert comparison.seen_in(searched, rows) == (
        "test/made@2 was searched for on 3 of the documents that these examples are of."
    )
    with pytest.raises(
        InputError, match=r"test/made@2 was searched for on 3 .* such as the held-out part of its split"
    ):
        comparison.compare([prompt(1), searched], rows, client=client)
    assert client.requests == []
    unseen = replace(rows, rows=tuple(row for row in rows if int(row.group.split()[1]) > 2))
    assert comparison.seen_in(searched, unseen) == "" == comparison.seen_in(prompt(1), rows)
    found = comparison.compare([prompt(1), searched], unseen, client=good({1: 0.3, 2: 0.8}))
    assert len(found.scores[1].scored) == 36


def test_a_prompt_is_not_compared_on_an_example_that_it_shows():
    task = programs.Task("test/made", "Answer.", {"text": "data: a text"}, {"answer": "str: the answer"})
    shown = [{**programs.inputs(task, {"text": f"number {at}"}), "answer": "good"} for at in (4, 7)]
    demonstrated = programs.freeze(programs.program(task, demos=shown), task, version=2)
    assert comparison.seen_in(demonstrated, made(12)) == "test/made@2 shows 2 of these examples as a demonstration."
    assert comparison.seen_in(demonstrated, made(12)[:5]) == "test/made@2 shows 1 of these examples as a demonstration."
    assert comparison.seen_in(demonstrated, made(12)[:4]) == ""
    client = Scripted([])
    plain = prompt(1, user="Look at {{text}}.")
    with pytest.raises(InputError, match=r"shows 2 of these examples as a demonstration\. Compare on examples that it"):
        comparison.compare([plain, demonstrated], made(24), client=client)
    assert client.requests == []


def test_the_copied_words_that_count_are_those_of_the_prompt_that_was_asked():
    """A metric made for version 1 sees what version 2 copies out of its own messages, and version 2 alone."""
    told = "always keep the frozen hose away from any rubber boots"
    first, second = prompt(1), prompt(2, user=f"Remember: {told}. Look at {{{{text}}}}.")
    metric = Metric({"no_copied_prompt": no_copied_prompt(first)}, {"parsed": 0.0})
    client = Scripted(lambda request: answer(told))
    found = comparison.compare([first, second], made(24, 12, metric), client=client)
    assert [scores.value for scores in found.scores] == [1.0, 0.0]


# --- how it shows -----------------------------------------------------------------------------------------------------


def test_the_inputs_that_differ_most_come_first():
    graded = Metric({"length": lambda row: Score(len(row.instruction) / 20, "More.")}, {"parsed": 0.0})
    reply = lambda request: answer("x" * (10 + (asked(request)[1] % 7 - 3) * (asked(request)[0] == 2)))
    found = comparison.compare([prompt(1), prompt(2)], made(14, metric=graded), client=Scripted(reply)).examples(20)
    assert found.total == len(found) == 12  # all but those that are 3 or 10, whose answers are as long
    assert [abs(place % 7 - 3) for place in found.places] == [3] * 4 + [2] * 4 + [1] * 4


def test_the_inputs_that_differ_most_come_with_both_answers():
    def reply(request):
        version, number = asked(request)
        return "lost" if (version, number) == (2, 7) else answer("good" if (version, number) != (1, 3) else "bad")

    found = comparison.compare([prompt(1), prompt(2), prompt(3)], made(), client=Scripted(reply))
    shown = found.examples(1)
    assert shown.places in ((7,), (3,)) and shown.total == 2 and len(found.examples()) == 2
    text = repr(found.examples())
    assert "test/made@1 and test/made@2 score differently on 2 of 60 inputs" in text
    assert "[input] text: number 7\n[test/made@1] instruction: good\n[test/made@2] parse: " in text and "lost" in text
    assert "right 1.00 → 0.00" in text and "right 0.00 → 1.00" in text
    assert found.examples(prompt="test/made@3").total == found.examples(prompt=prompt(3)).total == 1
    with pytest.raises(InputError, match=r"'test/made@1' is not compared here; name one of test/made@2, test/made@3"):
        found.examples(prompt="test/made@1")


SCRIPT = "<script>alert(1)</script>"


def test_markup_in_inputs_answers_and_failures_is_shown_and_not_run():
    rows = tuple(Example({"text": f"number {at} {SCRIPT}"}, f"{SCRIPT} {at % 3}") for at in range(12))
    hostile = Examples(rows, read, METRIC, SCRIPT)
    about = {"about": SCRIPT}
    reply = lambda request: answer(f"good {SCRIPT}") if asked(request)[0] == 1 else f"unreadable {SCRIPT}"
    found = comparison.compare([prompt(1, **about), prompt(2, **about)], hostile, client=Scripted(reply, model=SCRIPT))
    for shown in (found, found.examples(), found.scores[1]):
        assert "<script" not in shown._repr_html_() and "&lt;script&gt;" in shown._repr_html_()
    assert found.examples()._repr_html_().count("&lt;script&gt;") >= 15


def test_the_card_has_the_sentence_the_rows_and_what_was_lost():
    reply = lambda request: "no header" if asked(request) == (2, 4) else answer()
    found = comparison.compare([prompt(1), prompt(2)], made(), client=Scripted(reply))
    html = found._repr_html_()
    for text in (found.sentence, "test/made@2: 1 failed (1 parse).", "exploratory", "95% interval"):
        assert text in html and text in repr(found)
    assert "<b>test/made@2 against test/made@1</b>" in html
    assert [line.split()[0] for line in repr(found).splitlines()[1:6]] == ["part", "------", "all", "parsed", "right"]


# --- the real examples, offline ---------------------------------------------------------------------------------------


def test_the_released_prompt_is_scored_offline_and_says_that_no_model_answered(bundled, ledger):
    rows = examples.rag_question(bundled, count=24)
    first = prompts.load("rag/question@1")
    again = replace(first, version=2)  # the same messages: nothing can differ, and nothing is asked twice
    book = ledger(llm.Offline())
    found = comparison.compare([first, again], rows, client=book)
    assert len(book) == 24 and found.is_offline and found.pairs[0].difference.value == 0
    assert found.sentence.endswith("Answered by the offline rules, no model.")
    assert "[offline rules, no model]" in repr(found) and "[offline rules, no model]" in repr(found.scores[0])
    assert 0 < found.scores[0].value <= 1
    by_hand = [
        rows.scored(row, first.parse(book.entry(key)["choices"][0])).value
        for row, key in zip(rows, found.scores[0].requests, strict=True)
    ]
    assert found.scores[0].of("all") == by_hand


def test_a_prompt_that_asks_for_worse_answers_is_found_out_offline(bundled, ledger):
    """The frozen prompt against one whose answers must be JSON and are not read as such."""
    rows = examples.rag_question(bundled, count=24)
    first = prompts.load("rag/question@1")
    broken = replace(first, version=2, format="json")
    found = comparison.compare([first, broken], rows, client=ledger(llm.Offline()))
    assert found.pairs[0].verdict == "worse" and found.pairs[0].differences["parsed"].value == -1
