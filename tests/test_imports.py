"""Existing sets come in as records with counts that add up: nothing is dropped in silence, and nothing is made up."""

import gzip
import json
from collections import Counter

import pyarrow as pa
import pyarrow.parquet
import pytest

from workbench import imports
from workbench.errors import InputError
from workbench.records import by_id

MODELS = ("alpaca-7b", "claude-2", "gpt4", "llama-2-70b-chat-hf", "phi-2", "text_davinci_001", "vicuna-13b")


def lines(path, rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def reasons(found):
    return [failure.reason for failure in found.failures]


# --- hh-rlhf ----------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def harmless(shared):
    path = shared / "hh_rlhf_harmless" / "test.jsonl.gz"
    return path, [json.loads(line) for line in gzip.open(path)]


def test_hh_rlhf_has_its_2303_pairs_and_says_of_the_other_9_rows_why_not(harmless):
    found = imports.hh_rlhf(harmless[0])
    assert found.counts == {"rows": 2312, "preferences": 2303}
    assert found.by_reason == {"prompts_differ": 5, "empty": 4}
    assert len(found.preferences) + len(found.failures) == len(harmless[1])
    assert all(json.loads(failure.raw) in harmless[1] for failure in found.failures)
    assert found.failures[0].detail.startswith("test.jsonl.gz, line ")


def test_prompt_and_answer_of_hh_rlhf_are_the_dialogues_to_the_letter(harmless):
    whole = {(row["chosen"], row["rejected"]) for row in harmless[1]}
    for pair in imports.hh_rlhf(harmless[0]).preferences:
        assert (pair.prompt + pair.chosen, pair.prompt + pair.rejected) in whole
        assert pair.prompt.endswith("\n\nAssistant:") and "\n\nAssistant:" not in pair.chosen


def test_pairs_of_one_text_or_seen_before_or_without_an_answer_are_no_pairs(tmp_path):
    asked = "\n\nHuman: Hi\n\nAssistant:"
    rows = [
        {"chosen": asked + " Hello", "rejected": asked + " Go away"},
        {"chosen": asked + " Hello", "rejected": asked + " Go away"},
        {"chosen": asked + " Hello", "rejected": asked + " Hello"},
        {"chosen": asked + " Hello", "rejected": asked + "  Hello\n"},
        {"chosen": asked + " ", "rejected": asked + " Hello"},
        {"chosen": "Hello", "rejected": "Go away"},
        {"chosen": asked + " Hello", "rejected": 7},
        {"chosen": asked + " Half a pair \ud800", "rejected": asked + " Hello"},
        {"chosen": asked + " Hello"},
        ["chosen", "rejected"],
    ]
    found = imports.hh_rlhf(lines(tmp_path / "pairs.jsonl", rows))
    assert len(found.preferences) == 1
    wanted = ["duplicate", "identical", "identical", "empty", *["odd_value"] * 3, "missing_column", "odd_value"]
    assert reasons(found) == wanted
    assert found.failures[0].detail == "pairs.jsonl, line 2: says what pairs.jsonl, line 1 says"
    assert "\\ud800" in found.failures[6].raw


# --- AlpacaEval -------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def evaluated(shared):
    """All models with their annotations, and the raw rows of both."""
    folder = shared / "alpaca_eval"
    outputs = [folder / "outputs" / f"{model}.json" for model in (*MODELS, "falcon-7b-instruct", "text_davinci_003")]
    annotations = [folder / "annotations_gpt4" / f"{model}.json" for model in MODELS]
    raw = [[json.loads(path.read_text()) for path in paths] for paths in (outputs, annotations)]
    return imports.alpaca_eval(outputs, annotations=annotations), *raw


def test_every_row_of_alpaca_eval_is_a_record_or_a_failure_by_a_count_of_the_raw_files(evaluated):
    found, outputs, annotations = evaluated
    answered = [row for rows in outputs for row in rows]
    judged = [row for rows in annotations for row in rows]
    assert found.counts["rows"] == len(answered) + len(judged) == 7240 + 5635
    assert [len(rows) for rows in outputs] == [805, 805, 805, 804, 803, 803, 805, 805, 805]
    empty = sum(not row["output"].strip() for row in answered)
    missing = sum(805 - len(rows) for rows in outputs)
    null = sum(row["preference"] is None for row in judged)
    assert (empty, missing, null) == (2, 5, 9)
    assert found.by_reason == {"null": null, "missing": missing, "empty": empty}
    assert len(found.votes) == len(judged) - null
    written = {(row["instruction"], row["output"], row["generator"]) for row in answered if row["output"].strip()}
    named = {(row["instruction"], row[f"output_{n}"], row[f"generator_{n}"]) for row in judged for n in (1, 2)}
    assert len(found.instructions) == len(written | named)
    assert found.counts["texts of annotations alone"] == len(named - written) == 790


def test_each_preference_of_alpaca_eval_is_the_vote_that_its_rules_say(evaluated):
    found, _, annotations = evaluated
    texts = by_id(found.instructions)
    raw = [row for rows in annotations for row in rows if row["preference"] is not None]
    assert Counter(row["preference"] for row in raw) == {1: 2194, 2: 3355, 0: 77}
    for vote, row in zip(found.votes, raw, strict=True):
        assert vote.winner == {1: "first", 2: "second", 0: "tie"}[row["preference"]]
        assert (texts[vote.first].output, texts[vote.second].output) == (row["output_1"], row["output_2"])
        assert texts[vote.first].instruction == row["instruction"]
        assert vote.rater == vote.provenance.model == "alpaca_eval_gpt4"
    same, empty = (
        sum(row["output_1"] == row["output_2"] for row in raw),
        sum(not row["output_2"].strip() for row in raw),
    )
    assert (
        (found.counts["votes on identical texts"], found.counts["votes on an empty text"]) == (same, empty) == (77, 5)
    )
    assert found.counts["ties"] == 77


def test_outputs_keep_the_name_of_the_model_that_wrote_them(evaluated):
    found, outputs, _ = evaluated
    models = Counter(text.provenance.model for text in found.instructions)
    for rows, model in zip(outputs, (*MODELS, "falcon-7b-instruct"), strict=False):
        assert models[model] == len(rows) + sum(
            f"{model} has no row" in failure.detail for failure in found.failures
        ) * (model != "falcon-7b-instruct")
    assert {text.provenance.recipe for text in found.instructions} == {"given"}


def annotation(preference, **changed):
    return {
        "instruction": "Name a colour.", "output_1": "Red", "output_2": "Blue", "generator_1": "old", "generator_2": "new",
        "annotator": "judge", "preference": preference,
    } | changed  # fmt: skip


def test_all_codes_of_a_preference_are_read_and_no_other(tmp_path):
    codes = [1, 2.0, 0, 1.5, None, 1.37, "2", True, [1]]
    (tmp_path / "judged.json").write_text(json.dumps([annotation(code) for code in codes]))
    found = imports.alpaca_eval([], annotations=[tmp_path / "judged.json"])
    assert [vote.winner for vote in found.votes] == ["first", "second", "tie", "tie"]
    assert reasons(found) == ["null", *["odd_value"] * 4]
    assert "1.37" in found.failures[1].detail


def test_a_model_without_a_row_for_a_prompt_is_missed_and_a_row_said_twice_is_counted(tmp_path):
    row = {"instruction": "Name a colour.", "output": "Blue", "generator": "new"}
    (tmp_path / "new.json").write_text(json.dumps([row, row, {**row, "output": "Green"}]))
    judged = [annotation(1), annotation(2, instruction="Name a fish.", output_2="")]
    (tmp_path / "judged.json").write_text(json.dumps(judged))
    found = imports.alpaca_eval(tmp_path / "new.json", annotations=tmp_path / "judged.json")
    assert reasons(found) == ["duplicate", "missing"]
    assert json.loads(found.failures[1].raw) == {"instruction": "Name a fish."}
    assert [text.output for text in found.instructions] == ["Blue", "Green", "Red", "Red", ""]
    assert found.counts["votes on an empty text"] == 1


# --- PandaLM ----------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def pandas(shared):
    return imports.pandalm(shared / "pandalm"), json.loads((shared / "pandalm" / "testset-v1.json").read_text())


def test_pandalm_has_the_votes_of_three_people_and_two_judges_on_999_rows(pandas):
    found, _ = pandas
    raters = Counter(vote.rater for vote in found.votes)
    assert raters == dict.fromkeys(("annotator1", "annotator2", "annotator3", "pandalm-7b"), 999) | {
        "gpt-3.5-turbo": 974
    }
    assert found.counts["rows"] == 3 * 999 and found.by_reason == {"odd_value": 25}
    assert all("'garbage'" in failure.detail for failure in found.failures)
    assert found.counts["responses that are no text"] == 6
    assert {text.output for text in found.instructions if text.instruction.startswith("Verify the corr")} >= {"true"}


def test_people_of_pandalm_are_unanimous_879_times_and_never_of_three_opinions(pandas):
    found, _ = pandas
    of = [[vote for vote in found.votes if vote.rater == f"annotator{n}"] for n in (1, 2, 3)]
    opinions = [{vote.winner for vote in row} for row in zip(*of, strict=True)]
    assert Counter(map(len, opinions)) == {1: 879, 2: 120}
    best = Counter(Counter(vote.winner for vote in row).most_common(1)[0][0] for row in zip(*of, strict=True))
    assert best == {"second": 472, "first": 422, "tie": 105}


def test_every_vote_of_pandalm_finds_both_its_texts_and_models(pandas):
    found, rows = pandas
    texts, models = by_id(found.instructions), {(text.id, text.provenance.model) for text in found.instructions}
    assert len(texts) < len(models) == len(found.instructions)  # some models wrote the same
    for vote, row in zip((vote for vote in found.votes if vote.rater == "annotator2"), rows, strict=True):
        first, second = row["cmp_key"].split("_")
        assert (vote.first, first) in models and (vote.second, second) in models
        assert texts[vote.first].input == row["input"]
        assert texts[vote.first].output == (row["response1"] if row["response1"] is not True else "true")


def test_a_judge_of_pandalm_that_skips_or_repeats_a_row_is_told_of(tmp_path):
    row = {
        "idx": 0, "instruction": "Say hi.", "input": "", "response1": "Hi", "response2": "No", "cmp_key": "a_b",
        "annotator1": 1, "annotator2": 1, "annotator3": 0,
    }  # fmt: skip
    (tmp_path / "testset-v1.json").write_text(json.dumps([row, {**row, "idx": 1}, {**row, "idx": 2, "cmp_key": "a"}]))
    judged = [{"idx": idx, "gpt_result": said} for idx, said in ((0, "Tie"), (0, "1"), (7, "2"))]
    (tmp_path / "gpt-testset-v1.json").write_text(json.dumps(judged))
    found = imports.pandalm(tmp_path)
    assert reasons(found) == ["odd_value", "duplicate", "odd_value", "missing"]
    assert [vote.winner for vote in found.votes] == ["first", "first", "tie"] * 2 + ["tie"]


# --- UltraFeedback ----------------------------------------------------------------------------------------------------


def judged(rating, why="because"):
    return {"Rating": rating, "Rationale": why}


@pytest.fixture
def feedback(tmp_path):
    """The layout of OpenBMB's files, with what goes wrong in them."""
    aspects = {
        "instruction_following": judged("4"), "honesty": judged("N/A", "a poem"),
        "truthfulness": {"Type": ["1"], "Rationale": "of the type", "Rating": "5", "Rationale For Rating": "of the rating"},
        "helpfulness": judged("2"),
    }  # fmt: skip
    made = {"principle": "helpfulness", "custom_system_prompt": "Help.", "critique": "Good.", "overall_score": 10.0}
    answers = [
        {"model": "alpaca-7b", "response": "Roses are red.", "annotations": aspects, **made},
        {"model": "bard", "response": "", "annotations": aspects, **made},
        {"model": "falcon", "response": "Violets.", "annotations": {**aspects, "helpfulness": judged("7")}, **made},
        {"model": "gpt-4", "response": "Blue.", "annotations": {}, **made},
        {"model": "mpt", "response": "Green.", "annotations": {"honesty": {"Rating": None}}, **made},
    ]
    models = [answer["model"] for answer in answers]
    rows = [
        {"source": "sharegpt", "instruction": "Write a poem.", "models": [*models, "starchat"], "completions": answers},
        {"source": "sharegpt", "instruction": "Write more.", "models": [], "completions": None},
    ]
    return lines(tmp_path / "sharegpt.jsonl", rows)


def test_ultrafeedback_keeps_each_rating_with_what_it_rates_and_none_where_it_does_not_apply(feedback):
    found = imports.ultrafeedback(feedback)
    first = found.instructions[0]
    assert (first.instruction, first.output, first.provenance.model) == ("Write a poem.", "Roses are red.", "alpaca-7b")
    rated = {rating.dimension: rating.value for rating in found.ratings if rating.subject == first.id}
    assert rated == {"instruction_following": 4, "honesty": None, "truthfulness": 5, "helpfulness": 2}
    assert next(r.rationale for r in found.ratings if r.dimension == "truthfulness") == "of the rating"
    assert {rating.rater for rating in found.ratings} == {"gpt-4"}
    assert found.counts == {"rows": 2, "instructions": 4, "ratings": 7}


def test_ultrafeedback_says_what_is_missing_and_never_uses_the_broken_overall_score(feedback):
    found = imports.ultrafeedback(feedback)
    assert reasons(found) == ["missing", "empty", "odd_value", "missing", "missing", "odd_value"]
    assert [failure.detail.partition(": ")[2] for failure in found.failures] == [
        "no completion of starchat", "response is empty", "the rating of helpfulness is '7'",
        "the completion has no ratings", "no rating of honesty", "completions is no list of objects",
    ]  # fmt: skip
    assert 10.0 not in [rating.value for rating in found.ratings]


# --- instructions and chats -------------------------------------------------------------------------------------------


def test_alpaca_rows_come_in_from_a_list_and_from_lines_alike(tmp_path):
    rows = [
        {"instruction": "Add.", "input": "1 and 2", "output": "3"}, {"instruction": "Greet.", "output": "Hello"},
        {"instruction": "Add.", "input": "1 and 2", "output": "3"}, {"instruction": "Add.", "input": "", "output": " "},
        {"instruction": "Add.", "input": 3, "output": "4"}, {"instruction": "Add."},
        {"instruction": "Part.", "input": None, "output": "Bye"},
    ]  # fmt: skip
    (tmp_path / "list.json").write_text(json.dumps(rows, indent=1))
    found = imports.alpaca(tmp_path / "list.json", model="text-davinci-003")
    assert [(text.instruction, text.input, text.output) for text in found.instructions] == [
        ("Add.", "1 and 2", "3"),
        ("Greet.", "", "Hello"),
        ("Part.", "", "Bye"),
    ]
    assert {text.provenance.model for text in found.instructions} == {"text-davinci-003"}
    assert reasons(found) == ["duplicate", "empty", "odd_value", "missing_column"]
    again = imports.alpaca(lines(tmp_path / "lines.jsonl", rows), model="text-davinci-003")
    assert again.instructions == found.instructions and reasons(again) == reasons(found)


def test_the_expert_outputs_of_self_instruct_come_in_as_chats(shared, tmp_path):
    rows = [json.loads(line) for line in (shared / "self_instruct" / "seed_tasks.jsonl").open()]
    chats = [[row["instruction"], row["instances"][0]["output"]] for row in rows]
    roles = ("user", "assistant")
    path = lines(
        tmp_path / "chat.jsonl",
        [{"messages": [{"role": r, "content": t} for r, t in zip(roles, chat, strict=True)]} for chat in chats],
    )
    found = imports.chat(path)
    assert [[text.instruction, text.output] for text in found.instructions] == chats and not found.failures


def test_a_conversation_keeps_its_turns_and_its_system_prompt_before_the_last_answer(tmp_path):
    turns = [("system", "Be brief."), ("human", "Hi"), ("gpt", "Hello"), ("human", "Bye"), ("gpt", "So long")]
    rows = [
        {"conversations": [{"from": who, "value": what} for who, what in some]}
        for some in (
            turns,
            turns[1:3],
            turns[:4],
            [("tool", "x"), *turns],
            [("human", " "), ("gpt", "?")],
            [turns[2]],
            [],
        )
    ]
    rows.append({"conversations": [{"from": "human", "value": ["a part"]}]})
    found = imports.sharegpt(lines(tmp_path / "shared.json", rows), model="gpt-3.5")
    first, second = found.instructions
    assert first.instruction == "\n\nSystem: Be brief.\n\nHuman: Hi\n\nAssistant: Hello\n\nHuman: Bye\n\nAssistant:"
    assert first.output == "So long" and (second.instruction, second.output) == ("Hi", "Hello")
    assert found.counts == {"rows": 8, "instructions": 2, "conversations of several turns": 1}
    assert reasons(found) == ["no_answer", "odd_value", "empty", "empty", "empty", "odd_value"]
    assert found.instructions[0].provenance.model == "gpt-3.5"


# --- distilabel -------------------------------------------------------------------------------------------------------


def test_distilabel_columns_give_completions_ratings_and_pairs_but_never_a_pair_of_a_tie(tmp_path):
    said = lambda text: [{"role": "user", "content": "Hi?"}, {"role": "assistant", "content": text}]
    pair = {"prompt": "Hi?", "chosen": said("Hello"), "rejected": said("No"), "chosen_rating": 5, "rejected_rating": 2}
    rated = {
        "instruction": "Hi?", "generations": ["Hello", "No", None], "model_names": ["a", "b", "c"], "ratings": [5, None, 1],
        "rationales": ["kind", None, "empty"], "model_name": "judge",
    }  # fmt: skip
    rows = [
        {**rated, **pair}, {**pair, "rejected": said("Hello")}, {**pair, "chosen_rating": 2.0},
        {**pair, "chosen_rating": "high"}, {**rated, "model_names": ["a"]},
        {"instruction": "Bye?", "generation": "Bye", "model_name": "a"},
    ]  # fmt: skip
    found = imports.distilabel(lines(tmp_path / "rows.jsonl", rows), dimension="helpfulness")
    assert [(text.output, text.provenance.model) for text in found.instructions] == [
        ("Hello", "a"),
        ("No", "b"),
        ("Bye", "a"),
    ]
    (rating,) = found.ratings
    assert (rating.subject, rating.dimension, rating.value, rating.rater) == (
        found.instructions[0].id, "helpfulness", 5.0, "judge",
    )  # fmt: skip
    (made,) = found.preferences
    assert (made.prompt, made.chosen, made.rejected, made.score_chosen, made.score_rejected) == (
        "Hi?",
        "Hello",
        "No",
        5,
        2,
    )
    assert reasons(found) == ["missing", "empty", "identical", "tie", "odd_value", "odd_value"]


def turns(*said):
    """Messages: what the user says and the assistant answers, in turn."""
    return [{"role": ("user", "assistant")[at % 2], "content": text} for at, text in enumerate(said)]


SYSTEM = {"role": "system", "content": "Be brief."}


def test_distilabel_keeps_all_turns_and_the_system_prompt_before_the_answer(tmp_path):
    asked, good, bad = turns("Hi?", "Hello", "Bye?"), turns("", "So long")[1:], turns("", "No")[1:]
    whole = "\n\nSystem: Be brief.\n\nHuman: Hi?\n\nAssistant: Hello\n\nHuman: Bye?\n\nAssistant:"
    prompts = [[SYSTEM, *asked], [SYSTEM, *asked], "Bye?", asked[-1:], [SYSTEM, asked[0]], [SYSTEM, *asked]]
    before = [[], [SYSTEM, *asked], [SYSTEM, *asked], [SYSTEM, *asked], [SYSTEM, *asked], asked[-1:]]
    for at, (prompt, earlier) in enumerate(zip(prompts, before, strict=True)):
        row = {"prompt": prompt, "chosen": [*earlier, *good], "rejected": [*earlier, *bad]}
        found = imports.distilabel(lines(tmp_path / f"{at}.jsonl", [row]))
        assert [(pair.prompt, pair.chosen, pair.rejected) for pair in found.preferences] == [(whole, "So long", "No")]
    row = {"prompt": [SYSTEM, *asked], "generations": ["So long"], "generation_model": "a"}
    (made,) = imports.distilabel(lines(tmp_path / "made.jsonl", [row])).instructions
    assert (made.instruction, made.output) == (whole, "So long")


def test_distilabel_pairs_without_an_answer_or_of_other_turns_are_no_pairs(tmp_path):
    good, bad = turns("Hi?", "Hello"), turns("Hi?", "No")
    rows = [
        {"prompt": "Hi?", "chosen": [*good, *turns("And?")], "rejected": bad},
        {"prompt": "Hi?", "chosen": turns("Hi?"), "rejected": turns("Hi?")},
        {"prompt": "Hi?", "chosen": good, "rejected": turns("Bye?", "No")},
        {"prompt": "Bye?", "chosen": good, "rejected": bad},
        {"prompt": "Hi?", "chosen": [SYSTEM, *good], "rejected": [*turns("Oh"), *bad]},
        {"prompt": good, "chosen": good, "rejected": bad},
        {"prompt": "Hi?", "chosen": [{"role": "tool", "content": "x"}, *good[1:]], "rejected": bad},
        {"prompt": "Hi?", "chosen": [*turns(None, " "), *good], "rejected": turns("Hi?", None)},
        {"prompt": [], "chosen": good, "rejected": bad},
    ]
    found = imports.distilabel(lines(tmp_path / "rows.jsonl", rows))
    assert reasons(found) == [
        "no_answer", "no_answer", *["prompts_differ"] * 3, "odd_value", "odd_value", "empty", "odd_value",
    ]  # fmt: skip
    assert not found.preferences and [json.loads(failure.raw) for failure in found.failures] == rows


def test_a_chosen_answer_that_is_rated_below_the_rejected_one_is_no_pair(tmp_path):
    pair = {"prompt": "Hi?", "chosen": "Hello", "rejected": "No"}
    rows = [{**pair, "chosen_rating": good, "rejected_rating": 3} for good in (2, 3, 4, None)]
    found = imports.distilabel(lines(tmp_path / "rows.jsonl", rows))
    assert reasons(found) == ["odd_value", "tie"] and len(found.preferences) == 2
    assert found.failures[0].detail.endswith("chosen is rated 2, below rejected with 3")


def test_distilabel_parquet_with_one_model_for_all_is_read(tmp_path):
    rows = [{"instruction": "Hi?", "generations": ["Hello", "No"], "generation_model": "a", "ratings": ["4", "1"]}]
    pyarrow.parquet.write_table(pa.Table.from_pylist(rows), tmp_path / "train.parquet")
    found = imports.distilabel(tmp_path / "train.parquet")
    assert [rating.value for rating in found.ratings] == [4.0, 1.0] and not found.failures
    # What failed in a pipeline is None in its table; beside ratings, model_name is the judge's, failed or not.
    rows = [
        {"instruction": "Hi?", "generations": ["Hello"], "ratings": None, "model_name": "judge"},
        {"instruction": "Bye?", "generations": None, "ratings": [3], "model_name": "judge"},
    ]
    pyarrow.parquet.write_table(pa.Table.from_pylist(rows), tmp_path / "train.parquet")
    found = imports.distilabel(tmp_path / "train.parquet")
    assert reasons(found) == ["missing", "empty"] and not found.ratings
    assert [(text.output, text.provenance.model) for text in found.instructions] == [("Hello", "")]
    (tmp_path / "not.parquet").write_text("instruction")
    with pytest.raises(InputError, match="no Parquet file"):
        imports.distilabel(tmp_path / "not.parquet")


def test_a_failure_holds_the_row_as_it_was(tmp_path):
    said = [{"role": "user", "content": "Hi?"}, {"role": "assistant", "content": "Hello"}]
    row = {"prompt": said[:1], "chosen": said, "rejected": said}
    (lost,) = imports.distilabel(lines(tmp_path / "rows.jsonl", [row])).failures
    assert lost.reason == "identical" and json.loads(lost.raw) == row
    (lost,) = imports.alpaca(lines(tmp_path / "rows.jsonl", [{"instruction": "Hi", "output": ""}])).failures
    assert json.loads(lost.raw) == {"instruction": "Hi", "output": ""}


# --- what cannot be read ----------------------------------------------------------------------------------------------


def test_a_file_that_is_not_there_or_holds_nothing_is_named(tmp_path):
    with pytest.raises(InputError, match=r"no file .*gone\.jsonl"):
        imports.alpaca(tmp_path / "gone.jsonl")
    for text in ("", "\n \n", "[]"):
        (tmp_path / "empty.json").write_text(text)
        with pytest.raises(InputError, match=r"empty\.json is empty"):
            imports.alpaca(tmp_path / "empty.json")


@pytest.mark.parametrize(
    ("text", "where"),
    [
        ('{"instruction": "a", "output": "b"}\n{"instruction": "a", "out', "line 2, column"),
        ('[\n{"instruction": "a", "output": "b"},\n{"instruction" "a"}]', "line 3, column 16"),
        ('{\n"data": []}', "line 1, column 2"),
    ],
)
def test_a_broken_file_is_named_with_its_line(tmp_path, text, where):
    (tmp_path / "broken.json").write_text(text)
    with pytest.raises(InputError, match=f"broken.json is broken at {where}"):
        imports.alpaca(tmp_path / "broken.json")


def test_a_file_in_another_encoding_or_cut_off_is_named(tmp_path):
    (tmp_path / "latin.jsonl").write_bytes('{"instruction": "Grüße", "output": "b"}'.encode("latin-1"))
    with pytest.raises(InputError, match=r"latin\.jsonl cannot be read as UTF-8"):
        imports.alpaca(tmp_path / "latin.jsonl")
    (tmp_path / "cut.jsonl.gz").write_bytes(gzip.compress(b'{"instruction": "a"}' * 99)[:-9])
    with pytest.raises(InputError, match=r"cut\.jsonl\.gz cannot be read"):
        imports.alpaca(tmp_path / "cut.jsonl.gz")


def test_other_columns_are_named_beside_those_that_are_wanted(tmp_path):
    path = lines(tmp_path / "other.jsonl", [{"question": "a", "answer": "b"}])
    with pytest.raises(InputError, match="has the columns question, answer; alpaca needs instruction, output"):
        imports.alpaca(path)
    with pytest.raises(InputError, match="chosen, rejected"):
        imports.hh_rlhf(path)
    with pytest.raises(InputError, match="no row is an object"):
        imports.chat(lines(tmp_path / "texts.jsonl", ["a"]))
    with pytest.raises(InputError, match="instruction, generations or prompt, generations or"):
        imports.distilabel(path)


def test_a_byte_order_mark_is_no_part_of_the_first_row(tmp_path):
    (tmp_path / "bom.jsonl").write_bytes(b"\xef\xbb\xbf" + b'{"instruction": "a", "output": "b"}')
    assert len(imports.alpaca(tmp_path / "bom.jsonl").instructions) == 1


def test_what_was_imported_prints_itself_and_its_text_stays_text(tmp_path):
    rows = [{"instruction": "<b>Hi</b>", "output": ""}, {"instruction": "Hi", "output": "Hello", "<i>": 1}, {"<i>": 2}]
    found = imports.alpaca(lines(tmp_path / "rows.jsonl", rows))
    assert repr(found) == "alpaca: 3 rows, 1 instructions; 2 failed (1 empty, 1 missing_column)"
    shown = found._repr_html_()
    assert "failed: missing_column" in shown and "<i>" not in shown and "&lt;i&gt;" in shown
