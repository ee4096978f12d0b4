"""The rules: each reason code is tripped by one text, and not by the text that looks most like it."""

import json
import math
import re

import pytest

from workbench import prompts
from workbench.errors import InputError, RecordError
from workbench.quality import Limits, Verdicts, rules
from workbench.records import (
    QA,
    Document,
    Instruction,
    Label,
    Passage,
    Persona,
    Preference,
    Provenance,
    Rating,
    Span,
    Verdict,
    Vote,
)

HOSE = "A garden hose should be drained before the first frost, because water that freezes in it splits the rubber."
ANSWER = "Because water that freezes in it splits the rubber."


def qa(question="Why should a garden hose be drained before winter?", answer=ANSWER, passage=HOSE, **more):
    return QA(question, answer, None, Passage(passage, Span("d", 0, len(passage))), **more)


def task(output, instruction="Answer the question in one paragraph.", given=""):
    return Instruction(instruction, given, output)


def reasons(check, *records, **options):
    return [verdict.reason for verdict in check(records, **options)]


# --- length


@pytest.mark.parametrize(
    "record, reason",
    [
        (qa("Why drain?"), "too_short"),
        (qa("Why drain hoses?"), ""),
        (qa("why " * 60), ""),
        (qa("why " * 61), "too_long"),
        (qa(answer="so " * 150), ""),
        (qa(answer="so " * 151), "too_long"),
        (qa("为什么要把水管放空？"), ""),  # a character of a script without blanks is a word
        (Persona("A retired beekeeper"), "too_short"),
        (Persona("A retired beekeeper from Malta"), ""),
        (task("→"), ""),  # a mark alone can be an answer
    ],
)
def test_a_text_outside_its_range_of_words_fails_and_one_at_its_edge_passes(record, reason):
    assert reasons(rules.length, record) == [reason]


@pytest.mark.parametrize("nothing", [None, math.nan, "", " \n\t"])
def test_a_missing_text_is_a_failure_with_a_reason_in_length_and_breaks_no_other_check(nothing):
    for record in (qa(nothing), qa(answer=nothing), task(nothing, nothing), Label(nothing, "x"), Document(nothing)):
        found = rules.check([record], prompts=[prompts.load("rag/question@1")])
        assert {v.check: v.reason for v in found.failed} == {"length": "empty"}, record
        assert "no text" in found.failed[0].detail


def test_texts_that_may_rightly_be_missing_are_no_failure():
    unanswerable = qa(answer=None, is_answerable=False)
    assert reasons(rules.length, unanswerable) == [""]
    assert reasons(rules.length, task(None), task("Yes.")) == ["", ""]
    assert reasons(rules.length, task(math.nan), task("")) == ["empty", "empty"]


def test_limits_of_single_texts_can_be_set_and_names_that_do_not_exist_are_refused():
    strict = Limits(words={"QA.question": (12, 40)})
    assert reasons(rules.length, qa(), limits=strict) == ["too_short"]
    with pytest.raises(InputError, match=r"no text 'QA.questoin'.*QA\.question"):
        Limits(words={"QA.questoin": (1, 2)})
    with pytest.raises(InputError, match="allows none"):
        Limits(words={"QA.question": (9, 2)})
    with pytest.raises(InputError, match=r"\('en', 'de'\)"):
        Limits(languages="en")


# --- repetition

POEM = [
    "The kettle sings on the stove",
    "and nobody minds the rain",
    "A dog is asleep by the door",
    "while Grandmother counts her sheep",
    "There is bread in a tin",
    "enough for us and them",
    "so let it pour tonight",
]


LONG = "internationalisation characteristically misrepresents responsibilities"


@pytest.mark.parametrize(
    "output, reason",
    [
        ("\n".join([*POEM, *POEM[:6:2]]), ""),  # 3 of 10 lines are repeats: 0.30
        ("\n".join([*POEM[:6], *POEM[:6:2]]), "repeated_lines"),  # 3 of 9
        ("\n".join(["User\n- id\n- name\n- e-mail", "Team\n- id\n- name\n- e-mail"] * 2), ""),  # short lines
        ("```\n" + "total = total + item.price\n" * 9 + "```\nThe loop adds up the prices.", ""),  # code
        ("the cat sat on the mat and " * 12, "repeated_ngrams"),
        ("no " * 30, "repeated_ngrams"),
        ("no " * 12, ""),  # too short to judge
        (
            " ".join(f"Which is the best {what} near the station and why?" for what in ("bar", "inn", "cafe", "diner")),
            "",
        ),
        (f"{LONG} is to be and if it is so we do so {LONG} or else", ""),  # more than half, and only twice
        (f"{HOSE} {HOSE}", "repeated_ngrams"),
        (f"{HOSE} In short: drain it, {HOSE[46:80]}.", ""),
    ],
)
def test_texts_that_go_in_circles_fail_and_parallel_ones_pass(output, reason):
    assert reasons(rules.repetition, task(output)) == [reason]


def test_the_input_of_an_instruction_and_a_rejected_answer_may_repeat_themselves():
    loop = "the same again and " * 20
    assert reasons(rules.repetition, task("It repeats.", "What is wrong with this text?", loop)) == [""]
    assert reasons(rules.repetition, Preference("Tell me a joke.", "A horse walks into a bar.", loop)) == [""]
    assert reasons(rules.repetition, Preference("Tell me a joke.", loop, "No.")) == ["repeated_ngrams"]


# --- refusals


@pytest.mark.parametrize(
    "text",
    [
        "As an AI language model, I cannot have opinions.",
        "As an AI, I do not eat.",
        "I'm just an AI, so I have no favourite colour.",
        "I'm sorry, but I cannot help with that.",
        "I’m sorry, but I can’t assist with this request.",
        "I can't help with picking locks.",
        "I cannot fulfill your request.",
        "Sorry, I am not able to provide medical advice.",
        "Unfortunately, I cannot answer that question.",
        "I apologize, but I do not feel comfortable writing such a story.",
        "I don't have enough information to say.",
        '"I cannot."',
    ],
)
def test_a_text_that_begins_by_declining_is_a_refusal(text):
    assert reasons(rules.refusal, task(text)) == ["refusal"]
    assert reasons(rules.refusal, Persona(text)) == ["refusal"]


@pytest.mark.parametrize(
    "text",
    [
        "As an AI engineer, I train models for hospitals.",
        "I am an AI researcher in Oslo who studies bias.",
        "I'm sorry for your loss. Here are three ways to cope.",
        "I'm sorry, but I cannot attend the party on Saturday.",
        "I cannot help but admire the bridge.",
        "I can't find my card and need a new one.",
        "Unfortunately, the museum closes at five.",
        'Support staff should not say "I\'m sorry, but I cannot help with that".',
        "When a model answers I can't help with that, the score is zero.",
        "As a general rule, it is not wise to prune in frost.",
    ],
)
def test_an_apology_an_inability_or_a_quoted_refusal_is_none(text):
    assert reasons(rules.refusal, task(text)) == [""]


def test_a_refusal_that_was_asked_for_or_that_the_passage_holds_is_none():
    decline = "I'm sorry, but I cannot help with that."
    assert reasons(rules.refusal, task(decline, "Politely refuse a request to lend money.")) == [""]
    assert reasons(rules.refusal, task(decline, "Explain how interest works.")) == ["refusal"]
    quoted = f"A locked terminal prints: {decline}"
    assert reasons(rules.refusal, qa("What does a locked terminal print?", decline, quoted)) == [""]
    assert reasons(rules.refusal, qa("What does a locked terminal print?", decline)) == ["refusal"]
    assert reasons(rules.refusal, Preference("How do I make a bomb?", decline, "Take a pipe.")) == [""]


# --- prompt text, and questions that point at the passage


def test_eight_words_of_a_prompt_in_a_text_are_copied_and_seven_are_not():
    prompt = prompts.load("rag/question@1")
    assert "it makes sense on its own, months later" in " ".join(str(prompt).split()).lower()
    eight, seven = "It makes sense on its own - MONTHS later", "It makes sense on its own, months"
    copied, near = (rules.copied_prompt([qa(answer=f"{text}.")], prompts=[prompt])[0] for text in (eight, seven))
    assert (copied.reason, copied.score) == ("copied_prompt", 8.0) and "months later" in copied.detail
    assert (near.reason, near.score) == ("", 0.0)
    assert reasons(rules.copied_prompt, qa(answer=eight, passage=f"{eight}, say gardeners."), prompts=prompt) == [""]
    run = "write one question that a real user of this documentation might ask"
    assert rules.copied_prompt([task(f"Please {run} now.")], prompts=[prompt])[0].score == 12


def test_a_run_does_not_reach_across_a_variable_and_nothing_is_checked_without_prompts():
    messages = [("user", "one two three four {{x}} five six seven eight")]
    prompt = prompts.freeze("t/x", messages, variables={"x": "plain"}, outputs={"y": "str: y"})
    assert reasons(rules.copied_prompt, task("one two three four five six seven eight"), prompts=[prompt]) == [""]
    assert reasons(rules.copied_prompt, task("one two three four x five six seven eight"), prompts=[prompt]) == [""]
    assert "copied_prompt" not in {v.check for v in rules.check([qa()])}
    assert "copied_prompt" in {v.check for v in rules.check([qa()], prompts=[prompt])}


@pytest.mark.parametrize(
    "question, reason",
    [
        ("What does the passage say about hoses?", "names_passage"),
        ("According to the document, when does rubber split?", "names_passage"),
        ("Why does rubber split, as described in the text above?", "names_passage"),
        ("What is this section about?", "names_passage"),
        ("Which three tools are mentioned above?", "names_passage"),
        ("What is the main point of the passage?", "names_passage"),
        ("Who drew up the passage of the bill?", ""),
        ("How wide is this section of the river?", ""),
        ("Which colour does the text field have?", ""),
        ("What is valid according to the document type definition?", ""),
        ("What does the document root of a server hold?", ""),
        ("Who wrote the article that started the strike?", ""),
    ],
)
def test_a_question_that_points_at_its_passage_fails_and_one_that_uses_the_word_passes(question, reason):
    assert reasons(rules.names_passage, qa(question)) == [reason]


def test_the_passage_may_be_named_when_it_is_what_the_text_is_about():
    corridor = "The passage is two metres wide and joins the kitchen to the yard."
    assert reasons(rules.names_passage, qa("How wide is the passage?", "Two metres.", corridor)) == [""]
    assert reasons(rules.names_passage, qa("How wide is the passage?", "Two metres.")) == ["names_passage"]
    assert not rules.names_passage([task("What does the passage say?")])


# --- placeholders


@pytest.mark.parametrize(
    "output, reason",
    [
        ("Dear [Name], thank you for your order.", "unfilled_template"),
        ("Yours, [Your Company Name]", "unfilled_template"),
        ("Add [INSERT DATE HERE] to the form.", "unfilled_template"),
        ("Hello {{ first_name }}, welcome.", "unfilled_template"),
        ("Lorem ipsum dolor sit amet.", "unfilled_template"),
        ("See the [Name](https://example.org) page.", ""),
        ("Run git branch [name] to list one branch.", ""),
        ("The workflow reads ${{ secrets.TOKEN }} at start.", ""),
        ("A dict in a dict is {'a': {'b': 1}} in Python.", ""),
        ("Insert [1] and [2] in order.", ""),
    ],
)
def test_a_placeholder_that_nobody_filled_in_fails_and_brackets_that_mean_themselves_pass(output, reason):
    assert reasons(rules.placeholder, task(output)) == [reason]


def test_a_placeholder_is_right_where_the_passage_or_the_request_has_it():
    docs = "In Jinja, {{ user }} prints a variable."
    assert reasons(rules.placeholder, qa("What does {{user}} print in Jinja?", "A variable.", docs)) == [""]
    assert reasons(rules.placeholder, qa("What does {{name}} print in Jinja?", "A variable.", docs)) == [
        "unfilled_template"
    ]
    assert reasons(rules.placeholder, task("Dear [Name],", "Write a letter template.")) == [""]
    assert reasons(rules.placeholder, task("[Name] is a noun.", "Is it a noun or a verb?", "[Name]")) == [""]
    assert reasons(rules.placeholder, Document("Write `{{ x }}` to print x."), Document("Dear {{ x }}, hello.")) == [
        "",
        "unfilled_template",
    ]


# --- language

FOREIGN = {
    "de": [
        "Der Schlauch sollte vor dem ersten Frost geleert werden.",
        "Warum wird in dieser Gegend so viel Wein angebaut?",
    ],
    "fr": [
        "Il faut vider le tuyau avant les premières gelées.",
        "Pourquoi cultive-t-on autant de vigne dans cette région ?",
    ],
    "es": ["Hay que vaciar la manguera antes de la primera helada.", "¿Por qué se cultiva tanta uva en esta región?"],
}


@pytest.mark.parametrize("code, text", [(code, text) for code, texts in FOREIGN.items() for text in texts])
def test_a_sentence_in_another_language_fails_unless_it_is_expected(code, text):
    verdict = rules.language([qa(text)])[0]
    assert verdict.reason == "language" and f"{code} rather than en" in verdict.detail and verdict.score < 0.2
    assert reasons(rules.language, qa(text), limits=Limits(languages=("en", code))) == [""]


@pytest.mark.parametrize(
    "text",
    ["Wie geht es dir?", "```\nfür jede Zeile die Summe aller Werte bilden\n```", "rnbqkbnr/pp1ppppp/8 w KQkq 1 2"],
)
def test_short_texts_and_code_are_undetermined_and_pass_without_a_score(text):
    verdict = rules.language([task(None, text)])[0]
    assert verdict.passed and verdict.score is None


def test_an_answer_in_another_language_is_right_when_it_was_asked_for():
    german = FOREIGN["de"][0]
    assert reasons(rules.language, task(german, "Translate the sentence about the garden hose, please.")) == [""]
    assert reasons(rules.language, task(german, "Explain what to do with the garden hose now.")) == ["language"]
    assert reasons(rules.language, Preference("What should I do with the garden hose?", ANSWER, german)) == [""]


def test_a_language_that_the_model_does_not_know_is_refused():
    with pytest.raises(InputError, match=r"'xx' is no language.*en"):
        rules.language([qa()], limits=Limits(languages=("xx",)))


# --- openings


def test_of_a_repeated_opening_the_first_five_or_a_twentieth_pass_and_the_rest_fail():
    few = [qa(f"What is the purpose of part {n}?") for n in range(7)]
    assert reasons(rules.opening, *few) == [""] * 5 + ["opening_repeated"] * 2
    others = [qa(f"Part{n} does what in the machine?") for n in range(133)]
    assert rules.opening(few + others).by_reason() == {}  # 7 of 140 are 5%
    assert rules.opening(few + others[:-1]).by_reason() == {"opening_repeated": 1}  # 6.95 may
    assert {v.score for v in rules.opening(few)} == {7.0}
    assert rules.opening_table([*few, others[0]]).to_pylist()[0] == {
        "opening": "what is the purpose",
        "count": 7,
        "share": 7 / 8,
    }
    assert rules.opening_table([]).num_rows == 0


def test_an_opening_is_the_same_in_any_case_and_another_fourth_word_makes_another_one():
    same = [qa(f"{'What IS the' if n % 2 else '“what is the'} cause of noise {n}?") for n in range(6)]
    assert reasons(rules.opening, *same)[-1] == "opening_repeated"
    assert reasons(rules.opening, *same[:5], qa("What is the reason of noise?"))[-1] == ""


# --- all together


def test_the_same_record_twice_is_judged_once_and_does_not_count_as_two_openings():
    copies = [qa()] * 9
    found = rules.check(copies)
    assert not found.failed and len(found) == len({v.check for v in found})


def test_records_of_two_kinds_are_refused_and_no_records_give_no_verdicts():
    with pytest.raises(RecordError, match="QA"):
        rules.check([qa(), Persona("A retired beekeeper from Malta.")])
    assert len(rules.check([])) == 0 and repr(rules.check([])) == "rules: 0 records, none failed"


def test_verdicts_count_say_and_tabulate_what_they_hold():
    records = [qa(f"Why {n}?") for n in range(3)] + [qa("What does the passage say about hoses?"), qa()]
    found = rules.check(records)
    assert repr(found) == "rules: 5 records, 4 failed (3 too_short, 1 names_passage)"
    assert found.by_reason() == {"too_short": 3, "names_passage": 1} and len(found.failed) == 4
    twice = rules.check([qa("What does the passage say about hoses?", "so " * 200)])
    assert repr(twice).startswith("rules: 1 record, 1 failed (1 names_passage, 1 repeated_ngrams, 1 too_long)")
    assert (
        found.table().num_rows == len(found)
        and found.table().filter(found.table()["passed"]).num_rows == len(found) - 4
    )
    assert found.table()["reason"].to_pylist() == [v.reason for v in found]
    assert rules.length(records) + rules.names_passage(records) == Verdicts(
        (*rules.length(records), *rules.names_passage(records)), "length + names_passage"
    )
    assert isinstance(found[:2], Verdicts) and found[0].check == "length"
    assert Verdicts().table().schema == found.table().schema


def test_the_card_escapes_every_text_shows_three_examples_and_takes_its_colours_from_the_page():
    nasty = "<script>alert('x')</script> & \"q\""
    found = rules.length([Label("word " * 1_001 + f"{nasty} {n}", "a") for n in range(5)])
    named = Verdicts((*found, Verdict("<i>", "<b>", False, 0.0, "<u>", nasty)), "<em>")
    html = named._repr_html_()
    assert "<script" not in html and "<em>" not in html and "<u>" not in html and "<i>" not in html
    assert "&lt;script&gt;" in html and html.count("words, at most") == 3
    assert not re.search(r"#[0-9a-f]{3,6}\b|rgb|class=|<style", html) and "var(--jp-" in html
    assert Verdicts()._repr_html_().startswith("<div")


# --- on texts of people


def test_of_the_questions_and_tasks_that_people_wrote_less_than_half_a_percent_fail(shared):
    pages = json.loads((shared / "squad_xquad" / "xquad.en.json").read_text())["data"]
    items = [(item, part["context"]) for page in pages for part in page["paragraphs"] for item in part["qas"]]
    asked = [
        qa(item["question"], item["answers"][0]["text"], text, provenance=Provenance("given", parents=(item["id"],)))
        for item, text in items
    ]
    seeds = [json.loads(line) for line in (shared / "self_instruct" / "seed_tasks.jsonl").read_text().splitlines()]
    written = [Instruction(seed["instruction"]) for seed in seeds]
    assert (len(asked), len(written)) == (1190, 175)
    assert rules.language([Instruction(record.question) for record in asked]).failed.by_reason() == {}
    assert rules.language(written).failed.by_reason() == {}
    assert len(rules.check(asked).failed) <= 2 and len(rules.check(written).failed) == 0


def test_a_model_that_loops_is_caught_and_one_that_does_not_is_left_alone(shared):
    lines = (shared / "self_instruct" / "davinci_predictions.jsonl").read_text().splitlines()
    looping = [Instruction(row["instruction"], row["input"], row["response"]) for row in map(json.loads, lines)]
    fluent = json.loads((shared / "alpaca_eval" / "outputs" / "claude-2.json").read_text())
    assert len(rules.repetition(looping).failed) > 0.95 * len(looping)
    assert len(rules.repetition([Label(row["output"] or "-", "") for row in fluent]).failed) < 0.01 * len(fluent)


@pytest.mark.parametrize("about", [Rating("a text", "honesty", 4.0), Vote("one", "other", "tie")])
def test_what_is_about_texts_and_has_none_is_refused_in_words(about):
    with pytest.raises(InputError, match=r"a (Rating|Vote) is about some. Check the records that it names"):
        rules.check([about])
