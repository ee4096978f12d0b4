"""Completions of several writers under principles, judged: what is drawn, what is sent, what is lost and what is not."""

import asyncio
import json
import random
import re
import subprocess
import sys
import time
from collections import Counter
from dataclasses import replace

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binom

from tests.conftest import ROOT
from workbench import llm, prompts, runner, share, store
from workbench.errors import CallFailed, ClientError, InputError, PromptError, StoreError
from workbench.llm import Budget, Offline, Request, Scripted
from workbench.llm.judge import DIMENSIONS
from workbench.prompts import reading
from workbench.quality import pairs
from workbench.recipes import preference
from workbench.recipes.preference import PRINCIPLES, Style
from workbench.records import Failure, Instruction, Provenance, Rating

WRITERS = ("a", "b", "c", "d")
QUIET = runner.Options(progress=False)


def given_prompts(count):
    return [Instruction(f"Write line {number}.") for number in range(count)]


def tasks(count=1, **options):
    return list(preference.plan(given_prompts(count), **{"writers": WRITERS, **options}))


def writer(name):
    return Scripted(lambda request: f"{name} on {request.messages[-1]['content']}", model=f"model-{name}")


def shown_texts(request):
    """The texts that a judge is shown, in the order shown."""
    return [found[1] for found in re.findall(r"<(text_\d+)>\n(.*?)\n</\1>", request.messages[-1]["content"], re.DOTALL)]


def marks(ratings):
    entries = [{"text": at, "rationale": f"because {rating}", "rating": rating} for at, rating in enumerate(ratings, 1)]
    return json.dumps({"ratings": entries})


def judge(rating=lambda text: 1 + WRITERS.index(text[0])):
    return Scripted(lambda request: marks(map(rating, shown_texts(request))), model="judge-model")


def pool(**members):
    return llm.Pool(**{**{name: writer(name) for name in WRITERS}, "judge": judge(), **members})


def make(task, client):
    return asyncio.run(preference.make(task, client))


def kinds(outcomes):
    return Counter(outcome.reason if isinstance(outcome, Failure) else type(outcome).__name__ for outcome in outcomes)


# --- the plan


def test_every_prompt_gets_as_many_different_writers_as_asked_for_and_all_are_drawn_equally_often():
    names = tuple("abcdefg")
    plan = tasks(700, writers=names, each=4)
    assert all(len({each.name for each in task.writers}) == 4 for task in plan)
    counts = Counter(each.name for task in plan for each in task.writers)
    low, high = binom.ppf([1e-4, 1 - 1e-4], 700, 4 / 7)
    assert set(counts) == set(names) and all(low <= count <= high for count in counts.values())
    assert len({tuple(each.name for each in task.writers) for task in plan}) > 400, "the order is drawn too"


def test_principles_have_the_shares_of_their_weights_and_honesty_turns_into_calibration_now_and_then():
    shares = {"helpfulness": 0.6, "truthfulness": 0.2, "honesty": 0.18, "verbalized_calibration": 0.02}
    drawn = [each for task in tasks(1500) for each in task.writers]
    counts = Counter(each.principle for each in drawn)
    for name, expected in shares.items():
        low, high = binom.ppf([1e-4, 1 - 1e-4], len(drawn), expected)
        assert low <= counts[name] <= high, name
    style = Style(weights={"honesty": 1, "truthfulness": 3}, calibrated=0.5)
    drawn = [each for task in tasks(1000, style=style) for each in task.writers]
    counts = Counter(each.principle for each in drawn)
    for name, expected in {"truthfulness": 0.75, "honesty": 0.125, "verbalized_calibration": 0.125}.items():
        low, high = binom.ppf([1e-4, 1 - 1e-4], len(drawn), expected)
        assert low <= counts[name] <= high, name


def test_every_wording_of_a_principle_is_used_and_belongs_to_it():
    drawn = Counter((each.principle, each.prompt.ref) for task in tasks(1500) for each in task.writers)
    assert set(drawn) == {(name, ref) for name, refs in PRINCIPLES.items() for ref in refs}
    for name, refs in PRINCIPLES.items():
        counts = [drawn[name, ref] for ref in refs]
        assert min(counts) > 0.6 * max(counts) or name == "verbalized_calibration"
    words = [prompts.load(ref).messages[0][1] for refs in PRINCIPLES.values() for ref in refs]
    assert len(set(words)) == len(words)


def test_the_same_seed_draws_the_same_and_another_seed_something_else():
    assert tasks(40, seed=1) == tasks(40, seed=1) != tasks(40, seed=2)
    plan = preference.plan(given_prompts(5), writers=WRITERS, seed=3)
    assert list(plan) == list(plan) and plan.total == 5


def test_what_is_drawn_for_a_prompt_does_not_depend_on_the_prompts_around_it():
    of = lambda given: {task.instruction.instruction: task for task in preference.plan(given, writers=WRITERS)}
    few, many = of(given_prompts(3)), of(random.Random(0).sample(given_prompts(40), 40))
    assert all(many[asked] == task for asked, task in few.items())
    answered = replace(given_prompts(1)[0], output="an output, which is ignored")
    assert of([answered])["Write line 0."].writers == few["Write line 0."].writers


def test_writers_without_a_system_message_get_the_prompt_alone():
    plan = tasks(200, style=Style(without_system=("b", "d")))
    for task in plan:
        for each in task.writers:
            roles = [role for role, _ in each.prompt.messages]
            assert (each.principle == "") == (each.name in "bd") == (roles == ["user"])
    with_all = {each.name: each for each in tasks(200)[7].writers}
    assert all(with_all[each.name] == each for each in plan[7].writers if each.name in "ac"), (
        "the others draw as before"
    )


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"writers": ("a", "b")}, "each=4 needs 4 different writers, and there are 2: a, b. Add members to the pool"),
        ({"writers": (), "each": 2}, "there are 0: none"),
        ({"writers": ("a", "a", "b", "c")}, "writers are different names"),
        ({"writers": "abcd"}, "writers are different names"),
        ({"each": 1}, "each=1: a judge compares 2 to 8 completions"),
        ({"each": 9}, "each=9: a judge compares 2 to 8 completions"),
        ({"judge": "a"}, "'a' is to judge and to write"),
        ({"dimensions": ()}, "dimensions are different names"),
        ({"dimensions": "honesty"}, "dimensions are different names"),
        ({"dimensions": ("style",)}, "there is no dimension 'style'. Use some of instruction_following, honesty"),
        ({"style": Style(without_system=("z",))}, "without_system names 'z', which is no writer; there are a, b, c, d"),
    ],
)
def test_a_plan_that_cannot_work_is_refused_before_anything_is_paid(wrong, said):
    with pytest.raises(InputError, match=re.escape(said)):
        tasks(1, **wrong)


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"weights": {"kindness": 1}}, "there is no principle 'kindness'; there are helpfulness, honesty"),
        ({"weights": {"honesty": 0}}, "weights are zero or more and not all zero"),
        ({"weights": {}}, "weights are zero or more and not all zero"),
        ({"weights": {"honesty": 2, "helpfulness": -1}}, "weights are zero or more"),
        ({"calibrated": 1.5}, "calibrated is a share"),
    ],
)
def test_a_style_that_means_nothing_is_refused(wrong, said):
    with pytest.raises(InputError, match=said):
        Style(**wrong)


# --- prompts from files


def planned(path):
    plan = preference.plan(path, writers=WRITERS)
    return [(task.instruction.instruction, task.instruction.input) for task in plan], plan.settings


def test_a_text_file_has_a_prompt_a_line_and_blank_and_repeated_lines_are_counted(tmp_path):
    (tmp_path / "p.txt").write_bytes("\ufeffWhat is tea?\r\n\r\n  Write\u2028a poem. \n\nWhat is tea?\n".encode())
    found, settings = planned(tmp_path / "p.txt")
    assert found == [("What is tea?", ""), ("Write\u2028a poem.", "")]
    assert (settings["prompts"], settings["blank"], settings["repeated"]) == (2, 2, 1)
    said = preference.plan(tmp_path / "p.txt", writers=WRITERS).notes(pool())
    assert said == [
        "2 of the prompts given are blank and left out.",
        "1 of the prompts given is there more than once, and asked once.",
    ]


def test_json_lines_and_parquet_name_their_prompts(tmp_path):
    rows = [{"instruction": "Add.", "input": "1 and 2", "id": 7}, {"prompt": "Why?"}, {"prompt": "How?", "input": None}]
    wanted = [("Add.", "1 and 2"), ("Why?", ""), ("How?", "")]
    (tmp_path / "p.jsonl").write_text("\n".join(map(json.dumps, rows)) + "\n\n")
    found, settings = planned(str(tmp_path / "p.jsonl"))
    assert found == wanted and settings["blank"] == 1
    table = pa.table({"prompt": ["Why?", None, "How?"], "n": [1, 2, 3]})
    pq.write_table(table, tmp_path / "p.parquet")
    found, settings = planned(tmp_path / "p.parquet")
    assert found == wanted[1:] and settings["blank"] == 1


def test_records_of_the_workbench_keep_their_ids_in_a_file_too(tmp_path):
    given_records = [Instruction(f"Say {n}.", provenance=Provenance("evol", parents=("x",))) for n in range(3)]
    store.write(given_records, tmp_path / "p.parquet")
    assert [task.instruction for task in preference.plan(tmp_path / "p.parquet", writers=WRITERS)] == given_records


def test_the_same_prompt_with_another_input_is_another_prompt():
    given_records = [
        Instruction("Add.", "1 and 2"),
        Instruction("Add.", "3 and 4"),
        Instruction("Add."),
        Instruction("Add. "),
    ]
    plan = preference.plan(given_records, writers=WRITERS)
    assert plan.total == 3 and plan.settings["repeated"] == 1


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("p.txt", b" \n\n", "there is no prompt: 2 were given and all are blank"),
        ("p.jsonl", b"", "there is no prompt"),
        ("p.txt", b"caf\xe9\n", "is not UTF-8 (byte 3)"),
        ("p.jsonl", b'{"prompt": "x"}\n{"prompt": ', "p.jsonl, line 2 is not JSON"),
        ("p.jsonl", b'{"question": "x", "id": 1}', "line 1 has no 'instruction' and no 'prompt'; it has question, id"),
        ("p.jsonl", b"[1]", "line 1 has no 'instruction' and no 'prompt'; it has no columns"),
        (
            "p.jsonl",
            b'{"prompt": [{"role": "user", "content": "x"}]}',
            "prompt must be text, got list. A conversation is",
        ),
        ("p.jsonl", b'{"prompt": "x", "input": 3}', "input must be text, got int"),
        ("p.csv", b"prompt\nx", "prompts are read from .txt (one a line), .jsonl and .parquet files"),
    ],
)
def test_a_file_that_cannot_be_used_is_refused_with_the_place(tmp_path, name, content, said):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(InputError, match=re.escape(said)):
        preference.plan(tmp_path / name, writers=WRITERS)


def test_missing_files_and_other_kinds_of_records_are_refused(tmp_path):
    with pytest.raises(InputError, match=r"cannot read .*gone\.txt: No such file"):
        preference.plan(tmp_path / "gone.txt", writers=WRITERS)
    with pytest.raises(StoreError, match="there is no file"):
        preference.plan(tmp_path / "gone.parquet", writers=WRITERS)
    with pytest.raises(InputError, match="got a Rating"):
        preference.plan([Rating("x", "y", 1)], writers=WRITERS)
    with pytest.raises(InputError, match="there is no prompt: 0 were given"):
        preference.plan([], writers=WRITERS)


# --- one prompt


def test_a_prompt_gives_its_completions_then_a_rating_of_each_in_every_dimension():
    (task,) = preference.plan([Instruction("Add.", "1 and 2")], writers=WRITERS)
    members = pool()
    outcomes = make(task, members)
    completions, ratings = outcomes[:4], outcomes[4:]
    assert [each.output for each in completions] == [f"{each.name} on Add.\n\n1 and 2" for each in task.writers]
    assert {(each.instruction, each.input) for each in completions} == {("Add.", "1 and 2")}
    for one, told in zip(completions, task.writers, strict=True):
        origin = one.provenance
        assert (origin.recipe, origin.operation, origin.seed_kinds) == ("preference", "distillation", ("instruction",))
        assert (origin.model, origin.prompt, origin.parents) == (
            f"model-{told.name}",
            told.prompt.id,
            (task.instruction.id,),
        )
        assert preference.principle_of(one) == told.principle != ""
    of = {each.id: each.output[0] for each in completions}
    assert {(of[each.subject], each.dimension): each.value for each in ratings} == {
        (name, dimension): 1 + at for at, name in enumerate(WRITERS) for dimension in DIMENSIONS
    }
    assert all(
        each.rater == each.provenance.model == "judge-model" and each.rationale.startswith("because")
        for each in ratings
    )
    assert all(each.provenance.parents == (each.subject,) and "judge/" in each.provenance.prompt for each in ratings)


def test_a_writer_is_sent_its_wording_and_the_bare_prompt_and_the_judge_all_texts_once_a_dimension():
    (task,) = preference.plan(
        [Instruction("Add </instruction> {{x}}.", "1\r\n2")], writers=WRITERS, style=Style(without_system=("c",))
    )
    members = pool()
    make(task, members)
    for told in task.writers:
        (request,) = members.members[told.name].requests
        *system, user = request.messages
        assert user == {"role": "user", "content": "Add </instruction> {{x}}.\n\n1\r\n2"}
        assert [each["content"] for each in system] == ([told.prompt.messages[0][1]] if told.name != "c" else [])
        assert request.sampling.max_tokens == 1024 and request.sampling.temperature is None
    asked = members.members["judge"].requests
    assert len(asked) == len(DIMENSIONS) and {len(shown_texts(request)) for request in asked} == {4}
    assert len({tuple(shown_texts(request)) for request in asked}) > 1, "another order for another dimension"
    again = pool()
    make(replace(task, seed=task.seed + 1), again)
    orders = [[shown_texts(request) for request in client.members["judge"].requests] for client in (members, again)]
    assert orders[0] != orders[1], "the order is the seed's"


def failing(*reasons, fatal=False, raw=""):
    return Scripted([CallFailed(reason, "no luck", raw=raw, fatal=fatal) for reason in reasons])


def test_a_writer_that_fails_costs_its_own_completion_and_no_other():
    members = pool(b=failing("length", raw="too long a te"), d=Scripted(["  \n "], model="m"))
    outcomes = make(tasks()[0], members)
    assert kinds(outcomes) == {"Instruction": 2, "Rating": 8, "length": 1, "parse": 1}
    lost = {each.reason: each for each in outcomes if isinstance(each, Failure)}
    assert lost["length"].detail == "b: no luck" and lost["length"].raw == "too long a te"
    assert lost["parse"].detail.startswith("d: ") and "the answer is empty" in lost["parse"].detail
    assert [type(each).__name__ for each in outcomes] == ["Instruction"] * 2 + ["Rating"] * 8 + ["Failure"] * 2


def test_fewer_than_two_completions_are_not_judged_and_not_lost():
    members = pool(a=failing("timeout"), b=failing("refusal"), d=failing("length"))
    outcomes = make(tasks()[0], members)
    assert kinds(outcomes) == {"Instruction": 1, "timeout": 1, "refusal": 1, "length": 1, "too_few": 1}
    assert outcomes[-1].detail == "1 of 4 writers gave a completion: nothing to compare"
    assert not members.members["judge"].requests


def test_answers_that_were_cut_off_are_kept_even_when_all_were():
    outcomes = make(tasks()[0], pool(**{name: failing("length", raw=f"half of {name}") for name in WRITERS}))
    assert kinds(outcomes) == {"length": 4, "too_few": 1}
    assert {each.raw for each in outcomes} == {"", *(f"half of {name}" for name in WRITERS)}


def test_a_text_that_two_writers_gave_is_judged_once_and_kept_twice():
    same = Scripted(lambda _: "c or d", model="model-d")
    outcomes = make(tasks()[0], pool(c=Scripted(lambda _: " c or d\n", model="model-c"), d=same))
    assert kinds(outcomes) == {"Instruction": 4, "Rating": 3 * 4}
    assert sum(each.output == "c or d" for each in outcomes[:4]) == 2 and len({each.id for each in outcomes[:4]}) == 3
    outcomes = make(tasks()[0], pool(**{name: Scripted(lambda _: "all one") for name in WRITERS}))
    assert kinds(outcomes) == {"Instruction": 4, "too_few": 1} and "all with the same text" in outcomes[-1].detail


def test_a_dimension_that_cannot_be_judged_is_a_failure_and_the_others_stay():
    def reply(request):
        system, texts = request.messages[0]["content"], shown_texts(request)
        if "honesty" in request.messages[1]["content"]:
            return marks([6] * len(texts))
        if "truthfulness" in request.messages[1]["content"]:
            raise CallFailed("timeout", "too slow")
        return marks([3] * len(texts)) if system else ""

    outcomes = make(tasks()[0], pool(judge=Scripted(reply)))
    assert kinds(outcomes) == {"Instruction": 4, "Rating": 8, "rating": 1, "timeout": 1}
    details = [each.detail for each in outcomes if isinstance(each, Failure)]
    assert details[0].startswith("honesty: ") and "got 6" in details[0] and details[1] == "truthfulness: too slow"


def test_a_dimension_that_does_not_apply_is_a_rating_without_a_number():
    rating = lambda request: "N/A" if "honesty" in request.messages[1]["content"] else 4
    members = pool(judge=Scripted(lambda request: marks([rating(request)] * 4)))
    outcomes = make(tasks()[0], members)
    assert {each.dimension: each.value for each in outcomes[4:]} == {
        name: None if name == "honesty" else 4 for name in DIMENSIONS
    }


def test_no_answer_from_anybody_is_an_error_so_that_a_run_notices_a_server_that_is_down(tmp_path):
    down = {name: failing(*["connection"] * 3) for name in WRITERS}
    with pytest.raises(CallFailed, match=r"none of 4 writers answered; .: no luck") as error:
        make(tasks()[0], pool(**down))
    assert error.value.reason == "connection"
    refused = lambda: Scripted(lambda _: CallFailed("connection", "refused"))
    options = runner.Options(progress=False, concurrency=1)
    run = runner.run(
        preference.make, tasks(40), client=pool(**{name: refused() for name in WRITERS}), out=tmp_path, options=options
    )
    assert "20 tasks in a row got no answer" in run.stopped


def test_a_refused_key_or_a_spent_budget_ends_the_task_at_once():
    members = pool(**{tasks()[0].writers[0].name: failing("rejected", fatal=True)})
    with pytest.raises(CallFailed, match="rejected: no luck"):
        make(tasks()[0], members)
    assert sum(len(each.requests) for each in members.members.values()) == 1


def test_a_pool_without_the_judge_is_found_out_before_a_writer_is_paid():
    members = llm.Pool(**{name: writer(name) for name in WRITERS})
    with pytest.raises(ClientError, match="the pool has no 'judge'; it has a, b, c, d"):
        make(tasks()[0], members)
    assert not any(each.requests for each in members.members.values())
    with pytest.raises(ClientError, match="has no 'judge'"):
        preference.plan(given_prompts(1), writers=WRITERS).notes(members)


def test_a_judge_of_a_writers_family_is_warned_about_before_the_run():
    plan = preference.plan(given_prompts(1), writers=WRITERS)
    (said,) = plan.notes(pool(judge=Scripted([], model="model-9")))
    assert "model-9 is of the family model" in said and "model-a, model-b" in said
    assert plan.notes(pool()) == []


# --- runs


def test_a_run_that_a_budget_stopped_goes_on_to_what_the_uninterrupted_one_gives(tmp_path):
    plan = preference.plan(given_prompts(12), writers=WRITERS, seed=5)
    whole = runner.run(preference.make, plan, client=pool(), out=tmp_path / "whole", options=QUIET)
    members = pool()
    part = runner.run(
        preference.make, plan, client=members, out=tmp_path / "part", budget=Budget(requests=50), options=QUIET
    )
    assert "budget" in part.stopped and len(part.records) < len(whole.records) == 12 * (4 + 16)
    again = runner.run(preference.make, plan, client=members, out=tmp_path / "part", options=QUIET)
    assert again.records == whole.records and not again.failures and again.replayed == 50
    assert sum(len(each.requests) for each in members.members.values()) == 12 * 8


def test_a_lost_completion_is_drawn_anew_on_retry(tmp_path):
    replies = iter(["", "c at last"])
    members = pool(c=Scripted(lambda _: next(replies)))
    run = runner.run(preference.make, tasks(1), client=members, out=tmp_path, options=QUIET)
    assert run.losses == {"parse": 1}
    assert not run.retry().failures


def test_the_offline_pool_ends_in_pairs_where_the_strong_writer_wins_more_often_than_the_weak(shared, tmp_path):
    lines = (shared / "self_instruct" / "seed_tasks.jsonl").read_text().splitlines()
    seeds = [json.loads(line) for line in lines[::9]]
    given_records = [Instruction(seed["instruction"], seed["instances"][0]["input"]) for seed in seeds]
    members = llm.Pool(small=Offline("weak"), mid=Offline("fair"), large=Offline("strong"), judge=Offline())
    plan = preference.plan(given_records, writers=("small", "mid", "large"), each=3)
    run = runner.run(preference.make, plan, client=members, out=tmp_path, options=QUIET)
    texts = [each for each in run.records if isinstance(each, Instruction)]
    assert len(given_records) == 20 and len(texts) == 60 and run.is_offline
    made = pairs.pairs(texts, [each for each in run.records if isinstance(each, Rating)], per_prompt="all")
    model = {each.id: each.provenance.model for each in texts}
    wins = Counter(
        (model[winner], model[loser]) for winner, loser in (each.provenance.parents for each in made.records)
    )
    strong, weak = "offline-rules@1", "offline-rules@1/weak"
    assert len(made) > 15 and wins[strong, weak] > 3 * wins[weak, strong]


# --- the text format


def plain(**header):
    values = {
        "variables": {"instruction": "plain"},
        "outputs": {"answer": "str: the whole answer"},
        "format": "text",
        **header,
    }
    return prompts.freeze("test/plain", [("user", "{{instruction}}")], **values)


def test_a_text_prompt_takes_the_whole_answer_and_nothing_for_a_blank_one():
    prompt = plain()
    for text in ("[[ ## answer ## ]]\nx", '{"answer": "x"}', "a\n\nb"):
        assert prompt.parse(f"\n {text} \n") == {"answer": text}
    failure = prompt.parse(" \n")
    assert (
        isinstance(failure, Failure)
        and failure.reason == "parse"
        and failure.detail == "test/plain@1: the answer is empty"
    )
    assert "in the asked format: plain text." in prompt.repair_messages((), "", "x")[-1]["content"]
    assert "text" in reading.FORMATS


def test_a_text_prompt_survives_its_file_and_has_one_output_of_text(tmp_path):
    prompt = plain()
    prompt.save(tmp_path)
    assert prompts.load("test/plain@1", folder=tmp_path) == prompt
    for outputs in ({}, {"a": "str: x", "b": "str: y"}, {"a": "int: x"}):
        with pytest.raises(PromptError, match="a 'text' prompt has one output of type str"):
            plain(outputs=outputs)


# --- the offline writer


def written(instruction, variant="strong", ref="preference/helpfulness_1@1", **options):
    request = Request(prompts.load(ref).render(instruction=instruction), **options)
    return asyncio.run(Offline(variant).complete(request)).text


def test_the_variants_answer_alike_in_form_and_the_weak_one_goes_astray_or_refuses():
    ask = "Suggest three ways to keep a garden alive in a dry summer."
    about = lambda text: "garden" in text or "summer" in text
    share = {
        variant: sum(about(written(ask, variant, sample=sample)) for sample in range(60)) / 60
        for variant in ("strong", "fair", "weak")
    }
    assert share["strong"] == 1 > share["fair"] > share["weak"] > 0.2
    assert len({written(ask, "weak", sample=sample) for sample in range(30)}) > 10
    assert any("sorry" in written(ask, "weak", sample=sample) for sample in range(60))


def test_a_summary_is_made_of_the_given_sentences_and_a_rewrite_keeps_the_text():
    given_text = (
        "Rivers carry sand to the sea because their flow is strong in spring. It is nice. "
        "The sea returns sand to the beach when waves are low, and so a beach grows in summer."
    )
    summary = written(f"Summarize the text in two sentences.\n\n{given_text}")
    assert summary and all(part in given_text for part in summary.split(". "))
    assert len(summary) < len(given_text)
    edited = written("Rewrite this more plainly.\n\nin order to win  we utilize it. due to the fact that we can")
    assert edited == "To win we use it. Because we can."


def test_a_principle_of_calibration_gets_a_confidence_and_no_other_does():
    ask = "Explain why the sky is blue."
    for refs in PRINCIPLES.values():
        for ref in refs:
            assert ("Confidence: " in written(ask, ref=ref)) == ("calibration" in ref)
    sure = lambda variant: int(re.search(r"(\d+)%", written(ask, variant, "preference/verbalized_calibration_1@1"))[1])
    assert sure("weak") > sure("strong"), "the one that knows less is the surer one"


@settings(max_examples=150, deadline=None)
@given(text=st.text(max_size=300), more=st.text(max_size=100), variant=st.sampled_from(["strong", "fair", "weak"]))
def test_no_instruction_makes_the_offline_writer_raise_or_say_nothing(text, more, variant):
    for ref in ("preference/bare@1", "preference/verbalized_calibration_2@1"):
        assert written(f"{text}\n\n{more}", variant, ref).strip()


@pytest.mark.parametrize(
    "text", [" x" * 10_000, "a." * 10_000, "?" * 20_000, " " * 20_000 + "x", "a" * 20_000, "\n\n" * 9_000]
)
def test_an_instruction_made_to_be_slow_is_not(text):
    started = time.process_time()
    written(text)
    written(f"Rewrite this.\n\n{text}")
    assert time.process_time() - started < 1


# --- from a terminal --------------------------------------------------------------------------------------------------


def prefer(*arguments):
    command = [sys.executable, "-m", "workbench", "prefer", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, cwd=ROOT)


def test_the_command_answers_rates_pairs_and_exports_and_says_what_it_lost(tmp_path):
    done = prefer(ROOT / "data/pairs/written.jsonl", "--out", tmp_path / "p")
    assert done.returncode == 0, done.stderr
    for said in (
        "60 tasks",
        "offline rules, no model",
        "of the family offline",
        "with a gap of at least 1 (by default",
        "dropped:",
    ):
        assert said in done.stdout
    made = share.load(tmp_path / "p" / "preference.parquet")
    assert len(made) > 20 and all(each.score_chosen - each.score_rejected >= 1 for each in made)
    assert share.load(tmp_path / "p" / "preference.preference_chat.jsonl") == made
    again = prefer(ROOT / "data/pairs/written.jsonl", "--out", tmp_path / "p", "--min-gap", "0.5")
    assert again.returncode == 0 and len(share.load(tmp_path / "p" / "preference.parquet")) > len(made)


def test_the_command_says_in_one_line_what_is_wrong(tmp_path):
    (tmp_path / "p.txt").write_text("What is tea?\n")
    for arguments, said in (
        ((tmp_path / "none.txt", "--out", tmp_path / "o"), "cannot read"),
        ((tmp_path / "p.txt", "--out", tmp_path / "o", "--each", 4), "each=4 needs 4 different writers"),
        ((tmp_path / "p.txt", "--out", tmp_path / "o", "--writers", "a,b"), "where is 'a'?"),
        ((tmp_path / "p.txt", "--out", tmp_path / "o", "--calibration", tmp_path), "there is no calibration"),
        ((tmp_path / "p.txt", "--out", tmp_path / "o", "--min-gap", 4.5), "no pair is left to train on"),
    ):
        done = prefer(*arguments)
        assert done.returncode == 2 and said in done.stderr and "Traceback" not in done.stderr, done.stderr
