"""Metrics: values against oracles computed another way, ranks of rows that people and bad writers made, and loud failures."""

import json
import math
import os
import random
import re
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.conftest import ROOT
from workbench import embed, prompts
from workbench.corpus import Corpus
from workbench.errors import CallFailed, InputError, RecordError
from workbench.quality import metrics, rules
from workbench.quality.metrics import Metric, Score, as_check
from workbench.records import QA, Document, Failure, Instruction, Passage, Persona, Span

HOSE = (
    "A garden hose should be drained before the first frost, because water that freezes in it splits the rubber. "
    "Hang it in `loose coils`, at 2.5 m."
)
ROW = QA(
    "Why should a garden hose be drained before winter?",
    "Because water that freezes splits the rubber.",
    "water that freezes in it splits the rubber",
    Passage(HOSE, Span("d", 0, len(HOSE))),
)
CONTROL = replace(ROW, answer=None, evidence=None, is_answerable=False)
SURVEYOR = (
    "A building surveyor in a coastal town who inspects Victorian terraces for first-time buyers, and who has grown wary "
    "of remedies sold before anybody has measured the wall."
)
THIN = "A person who is interested in the dough."


def qa(question=ROW.question, answer=ROW.answer, evidence=ROW.evidence, passage=HOSE):
    return QA(question, answer, evidence, Passage(passage, Span("d", 0, len(passage))))


def constant(value, feedback="Mend it."):
    return lambda record: Score(value, "" if value == 1 else feedback)


# --- the metric -------------------------------------------------------------------------------------------------------


def test_the_value_is_the_weighted_mean_and_feedback_begins_with_what_costs_most():
    metric = Metric(
        {"a": constant(0.5, "Do a."), "b": constant(0.0, "Do b."), "c": constant(1.0), "d": constant(0.0, "Do d.")},
        {"a": 3, "b": 1, "d": 0},
    )
    scored = metric(ROW)
    assert scored.value == (1 + 3 * 0.5 + 0 + 1) / (1 + 3 + 1 + 1) and list(scored.parts) == ["parsed", *"abcd"]
    assert scored.parts == {"parsed": 1.0, "a": 0.5, "b": 0.0, "c": 1.0, "d": 0.0}
    assert scored.feedback == "a: Do a.\nb: Do b."  # a lost 1.5, b 1; d has no weight
    assert metric.name == "parsed + 3 a + b + c + 0 d" and repr(metric) == f"Metric({metric.name})"
    assert str(scored) == "0.58 (parsed 1.00, a 0.50, b 0.00, c 1.00, d 0.00)"


@given(st.lists(st.tuples(st.floats(0, 1), st.floats(0, 100)), min_size=1, max_size=6), st.floats(0.01, 100))
def test_the_value_agrees_with_numpy_and_stays_from_0_to_1(drawn, parsed):
    parts = {f"p{at}": constant(value) for at, (value, _) in enumerate(drawn)}
    weights = {f"p{at}": weight for at, (_, weight) in enumerate(drawn)} | {"parsed": parsed}
    value = Metric(parts, weights)(ROW).value
    wanted = np.average([1.0] + [value for value, _ in drawn], weights=[parsed] + [weight for _, weight in drawn])
    assert math.isclose(value, wanted, abs_tol=1e-12) and 0 <= value <= 1
    assert Metric(dict.fromkeys(parts, constant(1.0)), weights)(ROW).value == 1.0


@pytest.mark.parametrize("reason", ["parse", "exception", *CallFailed.REASONS])
def test_what_could_not_be_read_scores_nothing(reason):
    scored = Metric({"a": constant(1.0)})(Failure(reason, "field 'answer' is missing"))
    assert scored.value == 0 and scored.parts == {"parsed": 0.0, "a": 0.0}
    assert scored.feedback == f"{reason}: field 'answer' is missing"


@pytest.mark.parametrize("reason", ["nothing_to_ask", "evidence", "nothing_to_describe", "a_reason_of_ones_own"])
def test_what_could_be_read_and_is_no_row_scores_for_that_alone(reason):
    scored = Metric({"a": constant(1.0)}, {"a": 3})(Failure(reason, "why"))
    assert scored.value == 0.25 and scored.parts == {"parsed": 1.0, "a": 0.0}


def raises(record):
    raise ZeroDivisionError("oh")


@pytest.mark.parametrize(
    "part, why",
    [
        (raises, "raised ZeroDivisionError: oh"), (lambda record: Score(math.nan), "raised InputError: a score is a number from 0 to 1, got nan"),
        (lambda record: Score(1.2), "got 1.2"), (lambda record: Score(-0.1), "got -0.1"), (lambda record: Score(None), "got None"),
        (lambda record: 0.5, "gave 0.5; it must give a Score"), (lambda record: None, "gave None"), (metrics.specific, "raised AttributeError"),
    ],
)  # fmt: skip
def test_a_part_that_gives_no_score_is_an_error_that_names_it_and_never_a_0(part, why):
    for ask in (
        Metric({"fine": constant(1.0), "mine": part}),
        lambda row: as_check(part, name="mine", at_least=0.5)([row]),
    ):
        with pytest.raises(InputError, match=f"part 'mine', asked about QA {ROW.id}, .*{re.escape(why)}"):
            ask(ROW)


@pytest.mark.parametrize(
    "parts, weights, why",
    [
        ({"parsed": constant(1.0)}, {}, "part 'parsed' of its own"), ({"a": 0.5}, {}, "'a' is no function"),
        ({"a": constant(1.0)}, {"b": 1}, "no part 'b' to weigh; there are parsed, a"), ({"a": constant(1.0)}, {"a": -1}, "weight of 'a' must be"),
        ({"a": constant(1.0)}, {"a": math.nan}, "got nan"), ({"a": constant(1.0)}, {"a": math.inf}, "got inf"),
        ({"a": constant(1.0)}, {"a": "2"}, "got '2'"), ({"a": constant(1.0)}, {"a": 0, "parsed": 0}, "all weights are 0"),
    ],
)  # fmt: skip
def test_a_metric_that_cannot_be_is_refused_when_it_is_made(parts, weights, why):
    with pytest.raises(InputError, match=re.escape(why)):
        Metric(parts, weights)


def test_only_records_and_failures_are_scored():
    with pytest.raises(InputError, match="a record or a Failure, got NoneType"):
        Metric({})(None)


def test_a_metric_does_not_change_with_the_mapping_that_it_was_made_of():
    parts = {"a": constant(1.0)}
    metric = Metric(parts)
    parts["b"] = constant(0.0)
    assert metric(ROW).value == 1.0


# --- its identity -----------------------------------------------------------------------------------------------------


def test_the_identity_changes_with_names_weights_code_and_what_the_code_closes_over():
    one, other = prompts.load("rag/question@1"), prompts.load("rag/persona_question@1")
    same = lambda: Metric({"a": metrics.no_copied_prompt(one), "b": metrics.length_fits}, {"a": 2})
    different = [
        Metric({"z": metrics.no_copied_prompt(one), "b": metrics.length_fits}, {"z": 2}),
        Metric({"a": metrics.no_copied_prompt(one), "b": metrics.length_fits}),
        Metric({"a": metrics.no_copied_prompt(other), "b": metrics.length_fits}, {"a": 2}),
        Metric({"a": metrics.no_copied_prompt(one), "b": metrics.stands_alone}, {"a": 2}),
        Metric({"a": metrics.length_fits, "b": metrics.no_copied_prompt(one)}, {"a": 2}),
        Metric({"a": metrics.no_copied_prompt(one)}, {"a": 2}),
        Metric({"a": constant(0.5)}), Metric({"a": constant(0.6)}), Metric({"a": lambda record: Score(0.5)}),
        Metric({"a": metrics.distinct_from()}), Metric({"a": metrics.distinct_from(["A baker."])}), Metric({}),
    ]  # fmt: skip
    assert same().content_id == same().content_id
    assert len({same().content_id, *(metric.content_id for metric in different)}) == len(different) + 1


OWN = """
import sys
from workbench import prompts
from workbench.quality import metrics
from workbench.records import QA, Passage, Persona, Span
def part(record):
    return metrics.Score({score})
ready = lambda: (metrics.question_metric(prompts.load("rag/question@1")), metrics.persona_metric(prompts.load("persona/from_text@1")))
if sys.argv[1] == "used":  # what scoring leaves behind in caches is no code
    ready()[0](QA("Why?", "It is.", "it is so", Passage("It is so.", Span("d", 0, 9))))
    ready()[1](Persona("A baker in a town."))
print(*(metric.content_id for metric in (*ready(), metrics.Metric({{"own": part}}))))
"""


def test_the_identity_is_the_same_in_every_process_and_sees_an_edited_function():
    def said(score, seed, state):
        code, environment = OWN.format(score=score), os.environ | {"PYTHONHASHSEED": seed}
        done = subprocess.run(
            [sys.executable, "-c", code, state], cwd=ROOT, env=environment, capture_output=True, text=True
        )
        assert done.returncode == 0, done.stderr
        return done.stdout.split()

    first, second, edited = said("0.5", "1", "fresh"), said("0.5", "2", "used"), said("0.25", "1", "fresh")
    assert len(set(first)) == 3 and first == second and edited[:2] == first[:2] and edited[2] != first[2]


# --- as a check -------------------------------------------------------------------------------------------------------


def test_a_part_as_a_check_fails_what_is_below_the_bound_with_its_score_and_feedback():
    rows = [qa(question) for question in (ROW.question, "Why hoses?", "What is frost?", ROW.question)]
    verdicts = as_check(metrics.stands_alone, name="stands_alone", at_least=0.5)(rows)
    assert len(verdicts) == 3 and verdicts.by_reason() == {"stands_alone": 1}
    for verdict, row in zip(verdicts, rows, strict=False):
        score = metrics.stands_alone(row)
        assert (verdict.record_id, verdict.check, verdict.score) == (row.id, "stands_alone", score.value)
        assert verdict.passed == (score.value >= 0.5) and verdict.detail == ("" if verdict.passed else score.feedback)
    assert [verdict.passed for verdict in verdicts] == [True, False, True]


@pytest.mark.parametrize("least", [0, -1, 1.01, math.nan])
def test_a_bound_that_passes_all_or_none_is_refused(least):
    with pytest.raises(InputError, match="at_least must be above 0"):
        as_check(metrics.stands_alone, name="x", at_least=least)


def test_a_check_of_several_kinds_or_none():
    check = as_check(metrics.length_fits, name="length", at_least=1.0)
    with pytest.raises(RecordError, match="one kind of record"):
        check([ROW, Persona("A baker.")])
    assert len(check([])) == 0


# --- evidence ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "evidence, value, said",
    [
        (ROW.evidence, 1, ""), (f"“{ROW.evidence}”", 1, ""), ("water that  freezes\nin it", 1, ""), (HOSE, 1, ""),
        ("water that freezes splits", 0, "it says “water that freezes splits” where the passage has “"), ("rubber", 0, "one word, “rubber”"),
        ("Hang it in loose coils, at 2.5 m.", 0, "where the passage has “"), ("The moon is made of cheese.", 0, "nothing like “The moon is made of cheese.” stands there"),
        ("", 0, "there is no evidence"), (None, 0, "there is no evidence"),
    ],
)  # fmt: skip
def test_evidence_stands_in_the_passage_or_feedback_shows_where_it_departs(evidence, value, said):
    score = metrics.evidence_found(qa(evidence=evidence))
    assert score.value == value and said in score.feedback and bool(score.feedback) == (value < 1)


def test_the_feedback_on_a_departed_quotation_quotes_both_sides():
    score = metrics.evidence_found(qa(evidence="Hang it in loose coils, at 2.5 m."))
    assert "“Hang it in loose coils, at 2.5 m.”" in score.feedback and "`loose coils`" in score.feedback


def test_the_feedback_on_a_departed_quotation_shows_the_place_and_not_the_beginning():
    score = metrics.evidence_found(qa(evidence=HOSE.replace("rubber", "plastic")[:107]))
    assert "splits the plastic" in score.feedback and "splits the rubber" in score.feedback
    assert "A garden hose should" not in score.feedback


def test_a_quotation_of_everything_proves_less_the_longer_it_is():
    words = [f"word{at}" for at in range(240)]
    passage = " ".join(words)
    for count, value in ((2, 1.0), (60, 1.0), (61, 60 / 61), (120, 0.5), (240, 0.25)):
        assert metrics.evidence_found(qa(evidence=" ".join(words[:count]), passage=passage)).value == value


def test_an_unanswerable_control_has_no_evidence_to_find_and_no_answer_to_prove():
    assert metrics.evidence_found(CONTROL).value == metrics.answer_supported(CONTROL).value == 1.0


# --- support ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "question, answer, evidence, value",
    [
        ("Why drain it?", "Water freezes.", "water that freezes in it", 1.0),
        ("Why drain it?", "Water boils.", "water that freezes in it", 0.5),
        ("What does freezing water do to a hose?", "Water splits the hose.", "splits the rubber", 1.0),  # water, hose: asked
        ("What does freezing water do to a hose?", "Water cleans the hose.", "splits the rubber", 0.0),
        ("Is it water or rubber that splits?", "Rubber.", "splits the rubber", 1.0),  # all of the answer was in the question
        ("Is it water or iron that splits?", "Iron.", "splits the rubber", 0.0),
        ("How far?", "2.5 m", "at 2.5 m", 1.0), ("How far?", "2 m", "at 2.5 m", 0.5),  # 2.5 is one number
        ("Is it so?", "Yes.", "water that freezes", 0.0), ("Which sign?", "`", "in `loose coils`", 1.0),
        ("Why drain it?", "Cheese splits.", "The moon is cheese that splits.", 0.5),  # evidence that is made up: the passage has one
        ("Why drain it?", "Cheese.", "", 0.0), ("Why drain it?", "", "water that freezes", 0.0),
    ],
)  # fmt: skip
def test_support_is_the_share_of_new_content_words_that_stand_in_evidence_and_passage(
    question, answer, evidence, value
):
    assert metrics.answer_supported(qa(question, answer, evidence)).value == pytest.approx(value)


def test_an_answer_that_is_a_sign_is_supported_where_the_sign_stands():
    assert metrics.answer_supported(qa("Which sign?", "->", "write a -> b", "You write a -> b there.")).value == 1.0
    assert metrics.answer_supported(qa("Which sign?", "->", "write a to b", "You write a to b there.")).value == 0.0


VOCABULARY = ["hose", "frost", "rubber", "water", "coil", "the", "of", "is"]
FUNCTION = {"the", "of", "is"}
some_words = st.lists(st.sampled_from(VOCABULARY), min_size=1, max_size=6)


@settings(max_examples=300, deadline=None)
@given(some_words, some_words, some_words, some_words)
def test_support_agrees_with_sets_of_words(question, answer, evidence, rest):
    new = set(answer) - FUNCTION - set(question)
    judged = new or set(answer) - FUNCTION
    for passage in (evidence + rest, rest):  # with the evidence in it, and without
        share = lambda source: len(judged & set(source)) / len(judged)
        row = qa(*(" ".join(text) for text in (question, answer, evidence, passage)))
        if judged:
            assert metrics.answer_supported(row).value == pytest.approx(min(share(evidence), share(passage)))


def test_feedback_on_an_unsupported_answer_names_the_words_and_where_they_are_missing():
    feedback = metrics.answer_supported(qa(answer="Because cheese that freezes splits the moon.")).feedback
    assert "evidence" in feedback and "“cheese moon.”" in feedback
    assert "the passage says" in metrics.answer_supported(qa(answer="Cheese.", evidence="The moon is cheese.")).feedback


# --- the question -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "question, value",
    [
        (ROW.question, 1.0), ("Why is it better to drain a garden hose?", 1.0), ("Why drain a hose that they left in frost?", 1.0),
        ("What is frost?", 0.5), ("What does it do?", 0.0), ("What colour is the sky?", 0.0), ("What do these hoses need before frost?", 0.25),
        ("Why should they hang in loose coils?", 0.5), ("How is her hose drained before frost?", 0.5),
        ("According to the passage, why should a garden hose be drained?", 0.0), ("What does the text say about the garden hose?", 0.0), ("", 0.0),
    ],
)  # fmt: skip
def test_a_question_stands_alone_when_it_names_things_of_its_passage_and_points_at_nothing(question, value):
    score = metrics.stands_alone(qa(question))
    assert score.value == value and bool(score.feedback) == (value < 1)
    assert value == 1 or not question or any(word in score.feedback for word in question.split())


@pytest.mark.parametrize(
    "question, value",
    [
        ("Why drain it?", 1), ("What does `__init__` do?", 1), ("“Why drain it?”", 1), ("Which path serves /items?q=1 first?", 1), ("为什么？", 1),
        ("How does the server know about a new worker?", 1), ("Does Tern store any information about its clients?", 1),
        ("Why drain it", 0), ("Name a reason to drain it.", 0), ("", 0), ("A hose is drained before ____?", 0), ("Complete “drain __ now”, how?", 0),
        ("Which word is [BLANK] here?", 0), ("Why drain it? And when?", 0.5), ("What is said about frost?", 0.5), ("What about frost?", 0.5),
        ("What should one know about frost?", 0.5), ("Can you tell me more about frost?", 0.5), ("Is there anything on frost?", 0.5),
        ("What is the main topic of frost care?", 0.5),
    ],
)  # fmt: skip
def test_a_question_asks_one_thing_and_is_no_gap_to_fill(question, value):
    score = metrics.is_question(qa(question))
    assert score.value == value and bool(score.feedback) == (value < 1)


def squad(shared):
    """Questions that people wrote about passages of Wikipedia, the sentence of the answer as evidence."""
    rows = []
    for article in json.loads((shared / "squad_xquad" / "xquad.en.json").read_text())["data"]:
        for paragraph in article["paragraphs"]:
            text = paragraph["context"]
            for asked in paragraph["qas"]:
                at, answer = asked["answers"][0]["answer_start"], asked["answers"][0]["text"]
                start, end = text.rfind(". ", 0, at), text.find(". ", at + len(answer))
                evidence = text[start + 2 if start >= 0 else 0 : end + 1 if end >= 0 else len(text)]
                passage = Passage(text, Span(article["title"], 0, len(text)))
                rows.append(QA(asked["question"], answer, evidence, passage))
    return rows


PARTS = (
    metrics.evidence_found,
    metrics.answer_supported,
    metrics.stands_alone,
    metrics.is_question,
    metrics.length_fits,
)


def test_questions_that_people_wrote_score_near_1_and_their_answers_exchanged_near_0(shared):
    rows = squad(shared)
    mean = lambda part, rows: float(np.mean([part(row).value for row in rows]))
    assert len(rows) == 1190 and all(mean(part, rows[::3]) > 0.94 for part in PARTS)
    answers = [row.answer for row in rows]
    random.Random(0).shuffle(answers)
    exchanged = [replace(row, answer=answer) for row, answer in zip(rows, answers, strict=True)][::3]
    assert mean(metrics.answer_supported, exchanged) < 0.2
    elsewhere = [replace(row, passage=rows[at - 40].passage) for at, row in enumerate(rows)][::3]
    assert mean(metrics.evidence_found, elsewhere) < 0.05 and mean(metrics.stands_alone, elsewhere) < 0.7
    bare = [replace(row, question=re.sub(r"\b[A-Z]\w+|\b\w{5,}", "it", row.question)) for row in rows[::3]]
    assert mean(metrics.stands_alone, bare) < 0.3


@pytest.mark.parametrize("at", range(12))
def test_retrievable_is_the_reciprocal_of_the_rank_by_brute_force(at, bundled):
    corpus = Corpus.of(list(bundled)[:6])
    part = metrics.retrievable(corpus)
    own = corpus.chunks[at]
    question = "How many jobs and hours does the flour need, and which token?"
    scores = corpus.scores(question)
    rank = sorted(range(len(corpus)), key=lambda place: (-scores[place], place)).index(at) + 1
    score = part(QA(question, "x", "y", own.passage))
    assert score.value == (1 / rank if rank <= 10 and scores[at] > 0 else 0.0)
    assert bool(score.feedback) == (score.value < 1)


def test_a_question_that_finds_its_passage_first_and_one_that_finds_nothing(bundled):
    corpus = Corpus.of(list(bundled)[:6])
    part, own = metrics.retrievable(corpus), corpus.chunks[5]
    assert part(QA(own.text, "x", "y", own.passage)) == Score(1.0)
    nothing = part(QA("Zzz qqq?", "x", "y", own.passage))
    assert nothing.value == 0 and "finds no passage at all" in nothing.feedback
    with pytest.raises(InputError, match=r"part 'r', .* does not hold the passage"):
        Metric({"r": part})(ROW)


# --- any record -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "record, value",
    [
        (qa("why " * 3), 1.0), (qa("why " * 2), 2 / 3), (qa("why " * 60), 1.0), (qa("why " * 120), 0.5), (qa(answer="so " * 300), 0.5),
        (qa("why " * 120, "so " * 1500), 0.1), (qa(""), 0.0), (qa(answer=None), 0.0), (CONTROL, 1.0), (Persona("A baker"), 0.4),
        (Instruction("Sort these now."), 1.0), (Instruction("Sort"), 1 / 3),
    ],
)  # fmt: skip
def test_length_fits_falls_off_with_the_distance_from_the_range(record, value):
    score = metrics.length_fits(record)
    assert score.value == pytest.approx(value) and bool(score.feedback) == (value < 1)


@given(st.text(alphabet="ab \n为?", max_size=30), st.text(alphabet="ab ->", max_size=12))
def test_length_fits_is_1_exactly_where_the_rule_on_length_passes(question, answer):
    row = qa(question, answer)
    assert (metrics.length_fits(row).value == 1) == rules.length([row])[0].passed


def test_words_of_the_prompt_are_found_in_any_text_and_not_where_the_passage_has_them():
    prompt = prompts.load("rag/question@1")
    part = metrics.no_copied_prompt(prompt)
    copied = "a question-answering dataset. Each item will test whether a search system finds"
    assert part(ROW).value == 1 and part(Persona(SURVEYOR)).value == 1
    for record in (qa(copied), qa(answer=copied), Persona(copied)):
        score = part(record)
        assert score.value == 0 and "each item will test whether" in score.feedback
    assert part(qa(copied, passage=copied)).value == 1
    surveyor = metrics.no_copied_prompt(prompts.load("persona/from_text@1"))(Persona(SURVEYOR))
    assert surveyor.value == 0 and "coastal town" in surveyor.feedback  # the example of its prompt


def test_asked_by_another_prompt_a_metric_knows_its_words_and_demonstrations_instead():
    base = prompts.load("rag/question@1")
    told = "every washer on the barn roof was replaced in spring"
    shown = prompts.freeze(
        "rag/question", [("system", "Ask."), ("user", "{{a}}"), ("assistant", told), ("user", "{{a}}")],
        version=2, variables={"a": "data"}, outputs={"answer": "str: x"},
    )  # fmt: skip
    copied = qa(answer=f"Because {told}.")
    before = metrics.question_metric(base)
    after = before.asked_by(shown)
    assert (before(copied).parts["no_copied_prompt"], after(copied).parts["no_copied_prompt"]) == (1.0, 0.0)
    assert told in after(copied).feedback and after(ROW).value == before(ROW).value == 1.0
    assert (after.name, after.weights, [*after.parts]) == (before.name, before.weights, [*before.parts])
    plain = Metric({"length": metrics.length_fits})
    assert plain.asked_by(shown) is plain  # nothing of it depends on the prompt


# --- people -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "text, value",
    [
        (SURVEYOR, 1.0),
        ("A nurse on a busy ward. She checks every dose twice since a mistake nearly cost a patient dearly.", 1.0),
        (
            "A beekeeper based near a motorway who counts the dead bees each morning and writes long letters to the council.",
            1.0,
        ),
        (
            "A vet who works on a windswept island and doubts that its sheep need half the pills that are sold for them.",
            1.0,
        ),
        (SURVEYOR.replace(" in a coastal town", ""), 0.75),
        (SURVEYOR.replace("building surveyor", "person"), 0.75),
        (THIN, (0 + 0 + 1 / 5 + 8 / 15) / 4),  # "dough" is all that is told
        ("A baker.", (1 + 0 + 0 + 2 / 15) / 4),
        ("", 0.0),
        (f"{SURVEYOR} {'Damp. ' * 72}".strip(), (1 + 1 + 1 + 0.5) / 4),  # 100 words
    ],
)
def test_a_person_is_specific_by_role_setting_concern_and_length(text, value):
    score = metrics.specific(Persona(text))
    assert score.value == pytest.approx(value) and bool(score.feedback) == (value < 1)


def test_feedback_on_a_thin_person_says_what_lacks():
    feedback = metrics.specific(Persona(THIN)).feedback
    for said in (
        f"“{THIN}”",
        "occupation or role, not “A person”",
        "the setting",
        "one concern",
        "15 to 50 words rather than 8",
    ):
        assert said in feedback


@pytest.mark.parametrize("noun", ["person", "individual", "user", "young woman", "reader", "critic"])
def test_anybody_is_no_role(noun):
    article = "An" if noun[0] in "aei" else "A"
    vague, role = (Persona(SURVEYOR.replace("A building surveyor", each)) for each in (f"{article} {noun}", "A vet"))
    assert metrics.specific(role).value - metrics.specific(vague).value == 0.25


@pytest.fixture(scope="module")
def personas(shared):
    """Descriptions of people of Persona Hub, those in ASCII."""
    lines = (shared / "persona_hub" / "tool.jsonl").read_text().splitlines()[:1500]
    return [text for line in lines if (text := json.loads(line)["input persona"]).isascii()]


def test_people_of_persona_hub_cut_after_four_words_are_less_specific(personas):
    whole = [metrics.specific(Persona(text)).value for text in personas]
    cut = [metrics.specific(Persona(" ".join(text.split()[:4]))).value for text in personas]
    assert np.mean(whole) - np.mean(cut) > 0.2 and np.mean(np.array(whole) >= cut) > 0.97


@pytest.mark.parametrize(
    "text, value",
    [
        (SURVEYOR, 1.0), ("A Python developer from Malta who speaks German.", 1.0), ("An NHS nurse in New York who likes API design.", 1.0),
        ("A baker in the United Kingdom. She works on Mondays.", 1.0),
        ("A baker, ana@example.org, in a town.", 0.0), ("A baker who writes at https://bread.example daily.", 0.0), ("A baker named Ana.", 0.0),
        ("A pupil of Dr. Smith.", 0.0), ("Ana is a baker in a town.", 0.0), ("Ana Lopez, a baker in a town.", 0.0), ("A clerk of Acme Ltd who files.", 0.0),
        ("A friend of Ana Lopez who bakes.", 0.5), ("A friend of Ana M. Lopez who bakes.", 0.5), ("An engineer at Google who bakes.", 0.5),
        ("A clerk who works for Siemens in a town.", 0.5),
    ],
)  # fmt: skip
def test_names_of_people_and_companies_show_by_their_signs(text, value):
    score = metrics.no_real_names(Persona(text))
    assert score.value == value and bool(score.feedback) == (value < 1)


@pytest.mark.parametrize("word", ["b", "B", "Bb", "b.", "b-", "A B", "who ", "@", "a@", "?", "_ ", "this "])
def test_a_text_of_one_endless_word_is_scored_all_the_same(word):
    """The test's own time limit is the oracle: a pattern that goes over a text again and again takes minutes here."""
    text = "A " + word * (40_000 // len(word))
    for part in (metrics.no_real_names, metrics.specific, metrics.length_fits):
        assert 0 <= part(Persona(text)).value <= 1
    for part in (metrics.stands_alone, metrics.is_question, metrics.length_fits, metrics.answer_supported):
        assert 0 <= part(qa(text, text)).value <= 1


def test_full_names_from_a_corpus_of_personal_data_are_seen(shared):
    """Of the names of two or more capitalised words that Presidio's generator made, put where a persona might name them."""
    rows = json.loads((shared / "presidio_pii" / "synth_dataset_v2.json").read_text())
    spans = [span for row in rows for span in row["spans"]]
    people = {span["entity_value"] for span in spans if span["entity_type"] == "PERSON"}
    people = sorted(name for name in people if re.fullmatch(r"[A-Z][a-z]+ [A-Z][a-z]+", name))
    mails = sorted({span["entity_value"] for span in spans if span["entity_type"] == "EMAIL_ADDRESS"})
    assert len(people) > 200 and len(mails) > 20
    seen = [
        metrics.no_real_names(Persona(f"A nurse who looks after {name} in a small town.")).value < 1 for name in people
    ]
    assert np.mean(seen) > 0.99
    assert all(metrics.no_real_names(Persona(f"A nurse in a town, {mail}, who bakes.")).value == 0 for mail in mails)


def test_people_of_persona_hub_without_capitals_name_nobody(personas):
    plain = [text for text in personas if text[:1] == "A" and not re.search(r"[A-Z@/]", text[1:])]
    assert len(plain) > 500 and all(metrics.no_real_names(Persona(text)).value == 1 for text in plain)


def test_distinct_from_is_what_is_left_of_the_similarity_to_the_closest_reference():
    texts = [SURVEYOR, THIN, "A baker in a small town who bakes by night.", metrics.OVERUSED[0]]
    part = metrics.distinct_from()
    for text in texts:
        closest = max(float(embed.texts([text])[0] @ embed.texts([other])[0]) for other in metrics.OVERUSED)
        score = part(Persona(text))
        assert score.value == pytest.approx(min(1.0, max(0.0, (1 - closest) / 0.75)), abs=1e-5)
        assert bool(score.feedback) == (score.value < 1)
    assert part(Persona(SURVEYOR)).value == 1 and part(Persona(metrics.OVERUSED[0])).value == 0
    assert metrics.OVERUSED[-1][:40] in part(Persona(THIN)).feedback and part(Persona(THIN)).value < 0.8


def test_most_people_of_persona_hub_are_unlike_the_overused_ones(personas):
    part = metrics.distinct_from()
    assert 0.87 < np.mean([part(Persona(text)).value == 1 for text in personas[:500]]) < 0.95


@pytest.mark.parametrize("references", [(), [], "A baker."])
def test_no_references_are_refused(references):
    with pytest.raises(InputError, match="references must be a list"):
        metrics.distinct_from(references)


def test_distinct_is_the_distance_to_the_nearest_other_by_brute_force():
    texts = [
        SURVEYOR,
        THIN,
        "A baker in a town who bakes by night.",
        "A baker in a village who bakes by night.",
        "A vet.",
    ]
    people = [Persona(text) for text in texts]
    found = [score.value for score in metrics.distinct(people)]
    vectors = [embed.texts([text])[0] for text in texts]
    for at, value in enumerate(found):
        closest = max(float(vectors[at] @ other) for place, other in enumerate(vectors) if place != at)
        assert value == pytest.approx(min(1.0, (1 - closest) / 0.75), abs=1e-5)
    assert found[2] < 0.5 and "village" in metrics.distinct(people)[2].feedback and found[0] == 1


def test_a_record_that_is_there_twice_is_not_distinct_and_one_alone_is():
    assert [score.value for score in metrics.distinct([Persona(SURVEYOR), Persona(THIN), Persona(SURVEYOR)])][::2] == [
        0,
        0,
    ]
    assert {metrics.distinct([Persona(text)] * 2)[1].value for text in metrics.OVERUSED} == {0.0}
    assert metrics.distinct([Persona(THIN)]) == [Score(1.0)] and metrics.distinct([]) == []
    assert metrics.distinct([ROW, qa("What is cheese made of in Malta?")])[0].value == 1.0  # of questions too
    with pytest.raises(RecordError, match="one kind of record"):
        metrics.distinct([ROW, Persona(THIN)])


def test_the_ready_metrics_give_full_marks_to_a_good_row_and_say_what_they_add_up():
    metric = metrics.question_metric(prompts.load("rag/question@1"))
    assert metric(ROW).value == 1 and metric(ROW).feedback == ""
    assert metric.name == (
        "parsed + 2 evidence_found + 2 answer_supported + 2 stands_alone + 2 is_question + no_copied_prompt + length_fits"
    )
    people = metrics.persona_metric(prompts.load("persona/from_text@1"))
    assert people(Persona(SURVEYOR)).feedback.startswith("no_copied_prompt: ") and people(Persona(THIN)).value < 0.75
    assert (
        people(Persona("A vet on a windswept island who doubts that sheep need half the pills sold for them.")).value
        == 1
    )


def test_documents_have_no_asking_part():
    assert metrics.length_fits(Document("one two three four five")).value == 1
