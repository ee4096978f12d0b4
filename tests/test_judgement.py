"""Judgements of given texts: each two answers to a prompt in a duel, all of them in each dimension, nothing else."""

import json
from itertools import combinations

import pytest

from workbench import llm, runner
from workbench.errors import InputError
from workbench.llm.judge import DIMENSIONS
from workbench.recipes import judgement
from workbench.records import Instruction, Provenance, Rating, Vote


def answer(prompt, text, model="m"):
    return Instruction(prompt, output=text, provenance=Provenance("given", model=model, parents=(model,)))


TEXTS = [
    answer(f"Prompt {at}", f"{word} answer to prompt {at}", word) for at in range(4) for word in ("one", "two", "three")
]


def by_length(request):
    """A judge that likes the longer text, whatever stands in it."""
    if '"better"' in request.messages[0]["content"]:
        shown = request.messages[-1]["content"]
        first, second = (shown.partition(f"<text_{n}>\n")[2].partition(f"\n</text_{n}>")[0] for n in (1, 2))
        better = "tie" if len(first) == len(second) else "first" if len(first) > len(second) else "second"
        return json.dumps({"rationale": "it is longer", "better": better})
    count = request.messages[-1]["content"].count("\n</text_")
    return json.dumps({"ratings": [{"text": at + 1, "rationale": "fine", "rating": 3} for at in range(count)]})


def test_every_two_answers_to_a_prompt_are_compared_and_all_are_rated(tmp_path):
    plan = judgement.plan(TEXTS)
    run = runner.run(judgement.make, plan, client=llm.Scripted(by_length), out=tmp_path)
    votes = [row for row in run.records if isinstance(row, Vote)]
    ratings = [row for row in run.records if isinstance(row, Rating)]
    wanted = {pair for at in range(4) for pair in combinations([t.id for t in TEXTS[3 * at : 3 * at + 3]], 2)}
    assert {(vote.first, vote.second) for vote in votes} == wanted and len(votes) == len(wanted)
    assert {(r.subject, r.dimension) for r in ratings} == {(t.id, d) for t in TEXTS for d in DIMENSIONS}
    assert plan.total == run.tasks == len(votes) + 4 * len(DIMENSIONS)
    lengths = {text.id: len(text.output) for text in TEXTS}
    for vote in votes:
        gap = lengths[vote.first] - lengths[vote.second]
        assert vote.winner == ("tie" if not gap else "first" if gap > 0 else "second") and vote.is_flip is False


def test_blank_answers_and_repeated_ones_are_not_judged(tmp_path):
    texts = [
        answer("P", "same", "a"),
        answer("P", " same ", "b"),
        answer("P", "", "c"),
        answer("P", "other", "d"),
        answer("Q", "alone"),
    ]
    plan = judgement.plan(texts, dimensions=())
    assert [tuple(text.output for text in task.texts) for task in plan] == [("same", "other")]
    assert [plan.settings[name] for name in ("blank", "repeated", "alone")] == [1, 1, 1]
    run = runner.run(judgement.make, plan, client=llm.Scripted(by_length, model="d"), out=tmp_path)
    for said in (
        "1 texts are blank",
        "1 texts say the same",
        "1 texts are the only one",
        "The judge d is of the family d, as d is",
    ):
        assert said in repr(run) and said in run._repr_html_()


def test_a_member_of_a_pool_judges(tmp_path):
    pool = llm.Pool(judge=llm.Scripted(by_length, model="the-judge"), other=llm.Scripted([]))
    run = runner.run(
        judgement.make, judgement.plan(TEXTS, judge="judge", dimensions=("honesty",)), client=pool, out=tmp_path
    )
    assert {row.rater for row in run.records} == {"the-judge"}


def test_a_judge_that_breaks_the_rules_is_a_failure_and_never_a_guess(tmp_path):
    client = llm.Scripted(lambda request: '{"rationale": "both", "better": "both"}')
    run = runner.run(judgement.make, judgement.plan(TEXTS, dimensions=()), client=client, out=tmp_path)
    assert not run.records and len(run.failures) == run.tasks == 12


def test_more_answers_than_a_judge_rates_at_once_are_rated_in_equal_parts(tmp_path):
    texts = [answer("P", f"answer {at}") for at in range(19)]
    plan = judgement.plan(texts, dimensions=("honesty",), duels=False)
    assert [len(task.texts) for task in plan] == [6, 6, 7] and plan.total == 3
    run = runner.run(judgement.make, plan, client=llm.Scripted(by_length), out=tmp_path)
    assert sorted(row.subject for row in run.records) == sorted(text.id for text in texts)


@pytest.mark.parametrize(
    ("texts", "options", "said"),
    [
        ([], {}, "none of 0 texts"),
        ([answer("P", "a"), answer("Q", "b")], {}, "shares its prompt with another"),
        (TEXTS, {"dimensions": ("beauty",)}, "no dimension 'beauty'"),
    ],
)
def test_what_cannot_be_judged_is_refused(texts, options, said):
    with pytest.raises(InputError, match=said):
        judgement.plan(texts, **options)
