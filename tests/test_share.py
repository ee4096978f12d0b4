"""Exports: what each trainer reads, exactly, and equal records back; an edited or cut-off line is refused by its number."""

import csv
import errno
import itertools
import json
import os
from collections import Counter
from dataclasses import replace
from types import SimpleNamespace

import orjson
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.test_records import of_kind
from workbench import imports, runner, share, store, trl_forms
from workbench.errors import InputError, RecordError, StoreError
from workbench.llm import Offline
from workbench.recipes import persona, rag_qa
from workbench.records import (
    KINDS,
    QA,
    Document,
    ImagePair,
    Instruction,
    Label,
    Passage,
    Persona,
    Preference,
    Provenance,
    Rating,
    Span,
    Trace,
    Vote,
)

# What each kind can be exported as, said here once more by hand.
TRL = ["preference", "preference_chat", "unpaired", "reward"]
SUITS = {
    QA: ["chat", "alpaca", "rag", "triplets", "csv", "parquet"], Instruction: ["chat", "alpaca", "csv", "parquet"],
    Preference: ["chat", *TRL, "csv", "parquet"],
    **{kind: ["csv", "parquet"] for kind in (Document, Persona, Rating, Vote, Label, Trace, ImagePair)},
}  # fmt: skip
BESIDE = ["triplets", *TRL]  # whose records lie beside the file
PAIRS = [(format, kind) for kind, formats in SUITS.items() for format in formats]
LINES = [(format, kind) for format, kind in PAIRS if format in ("chat", "alpaca", "rag")]
EACH_PAIR = pytest.mark.parametrize("format, kind", PAIRS, ids=lambda value: getattr(value, "__name__", value))

HOSE = Passage("Drain the hose before frost.", Span("d", 10, 38))
OTHER, THIRD = Passage("Coil the hose.", Span("d", 50, 64)), Passage("Frost comes\nearly.", Span("e", 0, 18))
ROW = QA("When is a hose drained?", "Before frost.", "before frost", HOSE, Span("d", 25, 37), negatives=(OTHER, THIRD))
CONTROL = QA("When is a hose painted?", None, None, OTHER, is_answerable=False)
ONE_OF = {
    QA: ROW, Instruction: Instruction("Say hello."), Preference: Preference("p", "c", "r"), Document: Document("x"), Persona: Persona("A baker"),
    Rating: Rating("r", "honesty", None), Vote: Vote("a", "b", "tie", is_flip=True), Label: Label("a", "b"), Trace: Trace("t", "[]", ()), ImagePair: ImagePair("p", "a.png", "b.png"),
}  # fmt: skip


def test_every_kind_and_every_format_is_tested_here():
    assert set(SUITS) == set(KINDS.values()) and {format for format, _ in PAIRS} == set(share.FORMATS)


# --- there and back

# What breaks naive readers: line ends of all systems, separators that only some readers take for a line end, quotes and commas.
HARD = st.lists(st.sampled_from(["\r", "\n", "\r\n", "\u2028", "\u2029", "\x85", "\x0b", "\x0c", "\x1c", "\x7f", ",", '"', '""', "'", "\\", "\t", " ", ";", "=1+1",
                                 "null", "{", "}", "\ufeff", "é", "🜁", "\x00"]) | st.text(max_size=4), max_size=6).map("".join)  # fmt: skip
# What a trainer can learn from: three texts that are there, two of which differ.
SAID = st.tuples(HARD, st.sampled_from("ab"), HARD).map("".join)
LEARNABLE = of_kind(Preference, SAID).filter(lambda row: row.chosen.strip() != row.rejected.strip())


@EACH_PAIR
def test_an_export_loads_back_to_equal_records(format, kind, tmp_path):
    @settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.too_slow])
    @given(st.lists(LEARNABLE if format in TRL else of_kind(kind, HARD), min_size=1, max_size=3))
    def it_loads_back(records):
        written = share.export(records, tmp_path, formats=[format])
        back = share.load(written[format])
        assert back == records and repr(back) == repr(records) and [r.id for r in back] == [r.id for r in records]

    it_loads_back()


@pytest.mark.parametrize("kind", SUITS, ids=lambda kind: kind.__name__)
def test_without_named_formats_a_kind_is_exported_in_all_that_suit_it(kind, tmp_path):
    written = share.export([ONE_OF[kind]], tmp_path)
    assert list(written) == SUITS[kind]
    assert all(share.load(path) == [ONE_OF[kind]] for path in written.values())
    beside = {f"{kind.__name__.lower()}.{format}.records.parquet" for format in SUITS[kind] if format in BESIDE}
    assert {path.name for path in tmp_path.iterdir()} == {path.name for path in written.values()} | beside


def test_rows_that_the_offline_client_made_load_back_with_their_provenance(bundled, tmp_path):
    documents = bundled[:3]
    people = runner.run(
        persona.make, persona.plan(documents, count=4), client=Offline(), out=tmp_path / "personas"
    ).records
    plan = rag_qa.plan(documents, personas=people, mix=rag_qa.Mix(unanswerable=0.3)).first(60)
    rows = runner.run(rag_qa.make, plan, client=Offline(), out=tmp_path / "rows").records
    assert (
        len(rows) > 30 and {row.is_answerable for row in rows} == {True, False} and any(row.negatives for row in rows)
    )
    for records in (people, rows, list(documents)):
        written = share.export(records, tmp_path / "share")
        for path in written.values():
            back = share.load(path)
            assert back == records and [record.provenance for record in back] == [
                record.provenance for record in records
            ]
    assert all(
        row.provenance.is_offline and row.provenance.requests and len(row.provenance.parents) >= 2
        for row in share.load(written["csv"].with_name("qa.csv"))
    )


def test_an_export_can_be_loaded_from_another_folder_and_under_a_name_of_its_own(tmp_path):
    written = share.export([ROW, CONTROL], tmp_path / "a", name="my rows")
    assert {path.name for path in written.values()} == {
        "my rows.chat.jsonl", "my rows.alpaca.jsonl", "my rows.rag.jsonl", "my rows.triplets.jsonl", "my rows.csv", "my rows.parquet",
    }  # fmt: skip
    (tmp_path / "a").rename(tmp_path / "b")
    for path in written.values():
        assert share.load(str(tmp_path / "b" / path.name)) == [ROW, CONTROL]


def test_exporting_again_replaces_the_file_whole(tmp_path):
    share.export([ROW, CONTROL], tmp_path)
    before = sorted(path.name for path in tmp_path.iterdir())
    written = share.export([CONTROL], tmp_path)
    assert all(share.load(path) == [CONTROL] for path in written.values())
    assert sorted(path.name for path in tmp_path.iterdir()) == before


# --- what the trainers see


def shown(records, format, folder):
    """The lines of an export, without the record that travels with each."""
    lines = share.export(records, folder, formats=[format])[format].read_text(encoding="utf-8").split("\n")
    assert lines.pop() == ""
    found = [json.loads(line) for line in lines]
    if format not in BESIDE:
        records = [line.pop("record") for line in found]
        assert all(record["id"] and record["kind"] and record["provenance"] for record in records)
    return found


def test_chat_is_messages_from_a_user_and_an_assistant(tmp_path):
    def say(user, assistant):
        return {"messages": [{"role": "user", "content": user}, {"role": "assistant", "content": assistant}]}

    assert shown([ROW, CONTROL], "chat", tmp_path) == [
        say("Drain the hose before frost.\n\nQuestion: When is a hose drained?", "Before frost."),
        say("Coil the hose.\n\nQuestion: When is a hose painted?", "The passage does not answer this question."),
    ]
    assert shown([Instruction("Add.", "1, 2", "3"), Instruction("Say hi.", output=""), Instruction("Unanswered.")], "chat", tmp_path) == [
        say("Add.\n\n1, 2", "3"), say("Say hi.", ""), {"messages": [{"role": "user", "content": "Unanswered."}]},
    ]  # fmt: skip
    assert shown([Preference("Hi?", "Hello!", "No.", 5, 1)], "chat", tmp_path) == [say("Hi?", "Hello!")]


def test_alpaca_is_instruction_input_and_output(tmp_path):
    assert shown([ROW, CONTROL], "alpaca", tmp_path) == [
        {"instruction": "When is a hose drained?", "input": "Drain the hose before frost.", "output": "Before frost."},
        {
            "instruction": "When is a hose painted?",
            "input": "Coil the hose.",
            "output": "The passage does not answer this question.",
        },
    ]
    assert shown([Instruction("Add.", "1, 2", "3"), Instruction("Say hi.")], "alpaca", tmp_path) == [
        {"instruction": "Add.", "input": "1, 2", "output": "3"}, {"instruction": "Say hi.", "input": "", "output": None},
    ]  # fmt: skip


def test_rag_is_the_question_its_passage_the_evidence_and_where_it_stands(tmp_path):
    assert shown([ROW, CONTROL], "rag", tmp_path) == [
        {"query": "When is a hose drained?", "passage": "Drain the hose before frost.", "answer": "Before frost.", "evidence": "before frost",
         "evidence_start": 25, "evidence_end": 37, "document_id": "d", "is_answerable": True, "negatives": ["Coil the hose.", "Frost comes\nearly."]},
        {"query": "When is a hose painted?", "passage": "Coil the hose.", "answer": None, "evidence": None,
         "evidence_start": None, "evidence_end": None, "document_id": "d", "is_answerable": False, "negatives": []},
    ]  # fmt: skip


def test_triplets_are_three_columns_one_line_a_negative_and_none_for_a_control(tmp_path):
    without = replace(ROW, negatives=())
    control = replace(CONTROL, negatives=(THIRD,))
    assert shown([control, ROW, without], "triplets", tmp_path) == [
        {"anchor": "When is a hose drained?", "positive": "Drain the hose before frost.", "negative": "Coil the hose."},
        {
            "anchor": "When is a hose drained?",
            "positive": "Drain the hose before frost.",
            "negative": "Frost comes\nearly.",
        },
    ]
    assert share.load(tmp_path / "qa.triplets.jsonl") == [control, ROW, without]
    share.export([control, without], tmp_path, formats=["triplets"])
    assert (tmp_path / "qa.triplets.jsonl").read_bytes() == b"" and share.load(tmp_path / "qa.triplets.jsonl") == [
        control,
        without,
    ]


SKY = Preference("What colour is the sky?", "It is blue.", "It is green.", 5, 1.5)
SUN = Preference("Go on: The sun is\n\n", "in\nthe {sky}.", " in the sea.", 4, 1)
SEA = Preference("Human: é?\n\nAssistant:", "\n\nAssistant: 🜁", "\tNo", 3, 2)


def test_preference_is_texts_side_by_side_with_one_joint_that_belongs_to_the_completion(tmp_path):
    assert shown([SKY, SUN, SEA], "preference", tmp_path) == [
        {"prompt": "What colour is the sky?", "chosen": " It is blue.", "rejected": " It is green.", "score_chosen": 5, "score_rejected": 1.5},
        {"prompt": "Go on: The sun is", "chosen": " \n\nin\nthe {sky}.", "rejected": " \n\n in the sea.", "score_chosen": 4, "score_rejected": 1},
        {"prompt": "Human: é?\n\nAssistant:", "chosen": " \n\nAssistant: 🜁", "rejected": "\tNo", "score_chosen": 3, "score_rejected": 2},
    ]  # fmt: skip


def test_scores_are_a_column_only_where_every_pair_has_them(tmp_path):
    for unscored in (Preference("p", "c", "r", 5), Preference("p", "c", "r", None, 5), Preference("p", "c", "r")):
        lines = shown([SKY, unscored], "preference", tmp_path)
        assert [list(line) for line in lines] == [["prompt", "chosen", "rejected"]] * 2
        assert share.load(tmp_path / "preference.preference.jsonl") == [SKY, unscored]


def test_preference_chat_has_the_prompt_apart_and_only_the_answers_turns(tmp_path):
    say = lambda role, text: [{"role": role, "content": text}]
    assert shown([SKY, SUN], "preference_chat", tmp_path) == [
        {"prompt": say("user", row.prompt), "chosen": say("assistant", row.chosen), "rejected": say("assistant", row.rejected)}
        for row in (SKY, SUN)
    ]  # fmt: skip


def test_reward_has_two_whole_conversations_with_the_same_first_turn(tmp_path):
    say = lambda row, text: [{"role": "user", "content": row.prompt}, {"role": "assistant", "content": text}]
    assert shown([SKY, SEA], "reward", tmp_path) == [
        {"chosen": say(row, row.chosen), "rejected": say(row, row.rejected)} for row in (SKY, SEA)
    ]


TALK = "\n\nSystem: Be brief.\n\nHuman: Hi?\n\nWell?\n\nAssistant: Hello\n\nHuman: Bye? \n\nAssistant:"
TURNS = [("system", "Be brief."), ("user", "Hi?\n\nWell?"), ("assistant", "Hello"), ("user", "Bye? ")]


def test_a_prompt_of_several_turns_is_those_turns_in_messages_and_stays_one_text_in_texts(tmp_path):
    said = lambda *turns: [{"role": role, "content": text} for role, text in turns]
    pair = Preference(TALK, " So  long", "No")
    good, bad = ("assistant", "So  long"), ("assistant", "No")
    assert shown([pair], "preference_chat", tmp_path) == [
        {"prompt": said(*TURNS), "chosen": said(good), "rejected": said(bad)}
    ]
    assert shown([pair], "reward", tmp_path) == [{"chosen": said(*TURNS, good), "rejected": said(*TURNS, bad)}]
    instructions = [Instruction(TALK, output=" So  long"), Instruction(TALK)]
    assert shown([pair], "chat", tmp_path) == [{"messages": said(*TURNS, good)}]
    assert shown(instructions, "chat", tmp_path) == [{"messages": said(*TURNS, good)}, {"messages": said(*TURNS)}]
    assert shown([pair], "preference", tmp_path) == [{"prompt": TALK, "chosen": " So  long", "rejected": " No"}]
    for path in share.export([pair], tmp_path).values():
        assert share.load(path) == [pair]


def test_what_imports_write_of_a_chat_is_that_chat_again(tmp_path):
    chats = [[*TURNS, ("assistant", "So long")], [("user", "Hi"), ("assistant", "Hello")], [*TURNS[2:], TURNS[2]]]
    rows = [{"messages": [{"role": role, "content": text} for role, text in chat]} for chat in chats]
    (tmp_path / "chats.jsonl").write_text("\n".join(map(json.dumps, rows)))
    assert shown(imports.chat(tmp_path / "chats.jsonl").instructions, "chat", tmp_path) == rows


@pytest.mark.parametrize(
    "prompt",
    [
        "Human: Hi\n\nAssistant:", "\n\nHuman: Hi", "Read:\n\nHuman: Hi\n\nAssistant:", "\n\nSystem: Hi\n\nAssistant:", "\n\nAssistant:",
        "\n\nHuman: Hi\n\nAssistant: I", "",
    ],
)  # fmt: skip
def test_a_prompt_that_is_no_dialogue_is_one_turn_of_the_user(prompt):
    assert trl_forms.messages(prompt, " a") == [
        {"role": "user", "content": prompt},
        {"role": "assistant", "content": " a"},
    ]


def test_the_word_system_within_a_turn_is_no_turn():
    assert trl_forms.messages("\n\nHuman: My PC.\n\nSystem: Linux\n\nAssistant:") == [
        {"role": "user", "content": "My PC.\n\nSystem: Linux"}
    ]


@pytest.mark.parametrize("count", [1, 2, 3, 4, 5, 8, 9])
def test_unpaired_has_each_text_once_with_its_label_and_no_prompt_twice_in_a_row(count, tmp_path):
    pairs = [Preference(f"prompt {at}", f"good {at}", f"bad {at}") for at in range(count)]
    lines = shown(pairs, "unpaired", tmp_path)
    assert sorted((line["prompt"], line["completion"], line["label"]) for line in lines) == sorted(
        (pair.prompt, f" {text}", text is pair.chosen) for pair in pairs for text in (pair.chosen, pair.rejected)
    )
    assert [line["label"] for line in lines] == [True, False] * count
    if count > 2:  # KTO takes the line before for a completion to another prompt
        assert all(one["prompt"] != other["prompt"] for one, other in itertools.pairwise(lines))


def test_unpaired_has_a_completion_of_several_pairs_once(tmp_path):
    pairs = [
        Preference(f"prompt {at}", f"{good} {at}", f"bad {at}")
        for at in range(4)
        for good in ("best", "good", "fair")[: at + 1]
    ]
    lines = shown([*pairs, replace(pairs[0], score_chosen=5)], "unpaired", tmp_path)
    counted = Counter((line["prompt"], line["completion"], line["label"]) for line in lines)
    wanted = {(pair.prompt, f" {text}", text == pair.chosen) for pair in pairs for text in (pair.chosen, pair.rejected)}
    assert counted == dict.fromkeys(wanted, 1) and len(lines) == 9 + 4
    assert all(one["prompt"] != other["prompt"] for one, other in itertools.pairwise(lines))


def test_a_completion_that_is_chosen_and_rejected_is_refused_for_unpaired_alone(tmp_path):
    pairs = [Preference("p", "a", "b"), Preference("p", "b", "c"), Preference("q", "c", "b")]
    with pytest.raises(
        InputError, match=r"^1 completions are chosen in one pair and rejected in another.*per_prompt='best'"
    ):
        share.export(pairs, tmp_path)
    assert not list(tmp_path.iterdir())
    for path in share.export(pairs, tmp_path, formats=["preference", "preference_chat", "reward", "csv"]).values():
        assert share.load(path) == pairs


@settings(
    max_examples=30, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture]
)
@given(st.lists(of_kind(QA, HARD), min_size=1, max_size=3))
def test_every_line_of_a_file_is_one_json_object_whatever_the_texts_hold(tmp_path, records):
    for format in ("chat", "alpaca", "rag", "triplets"):
        lines = shown(records, format, tmp_path)
        count = (
            sum(len(record.negatives) for record in records if record.is_answerable)
            if format == "triplets"
            else len(records)
        )
        assert len(lines) == count


def test_csv_opens_in_any_reader_with_one_column_a_field(tmp_path):
    made = [ROW, replace(CONTROL, persona='A "quoted", two-line\nbaker')]
    with share.export(made, tmp_path, formats=["csv"])["csv"].open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0])[:4] == ["kind", "id", "question", "answer"] and [row["kind"] for row in rows] == ["QA", "QA"]
    assert [row["question"] for row in rows] == [ROW.question, CONTROL.question] and [
        row["answer"] for row in rows
    ] == ['"Before frost."', "null"]
    assert (
        json.loads(rows[0]["evidence_span"]) == {"document_id": "d", "start": 25, "end": 37}
        and json.loads(rows[1]["persona"]) == made[1].persona
    )


def test_parquet_is_the_records_own_table(tmp_path):
    path = share.export([ROW, CONTROL], tmp_path, formats=["parquet"])["parquet"]
    assert store.read(path) == [ROW, CONTROL] and store.query(
        "SELECT count(*) AS n FROM t WHERE is_answerable", t=path
    )["n"] == [1]


# --- what is refused


@pytest.mark.parametrize("format, kind", LINES, ids=lambda value: getattr(value, "__name__", value))
def test_a_line_that_was_cut_off_or_edited_is_refused_by_its_number(format, kind, tmp_path):
    record = {
        QA: ROW,
        Instruction: Instruction("When is a hose drained?", "in short", "Before frost."),
        Preference: Preference("When?", "Before frost.", "No."),
    }[kind]
    origin = replace(record, provenance=Provenance("given", parents=("p",)))
    path = share.export([origin, record, origin], tmp_path, formats=[format])[format]
    whole = path.read_bytes()
    first, second, third = whole.splitlines(keepends=True)
    for length in (1, 2, len(third) // 2, len(third) - 2):
        path.write_bytes(first + second + third[:length])
        with pytest.raises(RecordError, match=r"line 3: no whole record .*cut off or not exported"):
            share.load(path)
    # The text that a trainer reads, the record beside it, and both alike: all three are edits.
    head, _, tail = second.partition(b'"record"')
    for edited in (head.replace(b"efore frost", b"efore ice") + b'"record"' + tail, head + b'"record"' + tail.replace(b"efore frost", b"efore ice"),
                   second.replace(b"efore frost", b"efore ice")):  # fmt: skip
        assert edited != second
        path.write_bytes(first + edited + third)
        with pytest.raises(RecordError, match="line 2: "):
            share.load(path)
    path.write_bytes(first + b"\n  \n" + second + third[:-1])  # blank lines and a missing last line end say nothing
    assert share.load(path) == [origin, record, origin]


@pytest.mark.parametrize(
    "line",
    ["[]", "null", "3", "{}", '{"record": null}', '{"record": []}', '{"record": "x"}', '{"record": {}}', '{"record": {"kind": "Nothing"}}', '{"record": {"kind": ["QA"]}}',
     '{"record": {"kind": "Instruction"}}', '{"record": {"kind": "Instruction", "instruction": "x", "colour": "red"}}',
     '{"record": {"kind": "Instruction", "instruction": "x", "provenance": null}}', '{"messages": []}', "not JSON", '{"record": NaN}'],
)  # fmt: skip
def test_a_line_that_no_export_wrote_is_refused_by_its_number(line, tmp_path):
    path = share.export([Instruction("Say hello.")], tmp_path, formats=["chat"])["chat"]
    path.write_text(path.read_text() + line + "\n")
    with pytest.raises(RecordError, match="line 2: "):
        share.load(path)


@pytest.mark.parametrize("format", BESIDE)
def test_a_file_that_is_not_what_the_records_beside_it_give_is_refused_by_line(format, tmp_path):
    pairs = [Preference("Drain the hose?", "Before frost.", "Never."), Preference("Coil it?", "Yes.", "No.")]
    made = [ROW, CONTROL] if format == "triplets" else pairs
    path = share.export(made, tmp_path, formats=[format])[format]
    first, second, *rest = path.read_bytes().splitlines(keepends=True)
    tail = b"".join(rest)
    for edited, line in (
        (first, 2),
        (first + second[:-9] + tail, 2),
        (first.replace(b"frost", b"ice") + second + tail, 1),
        (first + second + tail + first, 3 + len(rest)),
        (b"", 1),
        (second + first + tail, 1),
    ):
        path.write_bytes(edited)
        with pytest.raises(RecordError, match=f"line {line}: .*export again"):
            share.load(path)
    path.write_bytes(first + second + tail)
    assert share.load(path) == made
    beside = path.with_suffix(".records.parquet")
    beside.unlink()
    with pytest.raises(StoreError, match=f"there is no file .*{beside.name}"):
        share.load(path)


def test_a_csv_row_that_was_cut_off_or_edited_is_refused_by_its_number(tmp_path):
    path = share.export([ROW, CONTROL], tmp_path, formats=["csv"])["csv"]
    whole = path.read_bytes()
    for edited in (
        whole[:-20], whole[: whole.index(b"painted")], whole.replace(b"painted", b"drawn"), whole.replace(b"Coil the hose.", b"Coil it."),
        whole.rstrip() + b",more\r\n", whole.replace(b"QA,", b"Row,"), whole.replace(b"kind,", b"sort,"), whole.replace(b",question,", b",query,"),
    ):  # fmt: skip
        path.write_bytes(edited)
        with pytest.raises(RecordError, match=r"row [12]: "):
            share.load(path)


def test_a_csv_that_a_spreadsheet_saved_in_another_encoding_is_refused_in_words(tmp_path):
    path = share.export([Label("Grüße", "x")], tmp_path, formats=["csv"])["csv"]
    path.write_bytes(path.read_text(encoding="utf-8").encode("latin-1"))
    with pytest.raises(RecordError, match=r"is not UTF-8 .*export again"):
        share.load(path)


def test_a_parquet_file_that_was_cut_off_is_refused(tmp_path):
    path = share.export([ROW], tmp_path, formats=["parquet"])["parquet"]
    path.write_bytes(path.read_bytes()[:-5])
    with pytest.raises(StoreError, match="no whole Parquet file"):
        share.load(path)


def test_an_unknown_format_is_refused_before_anything_is_written(tmp_path):
    with pytest.raises(
        InputError,
        match=r"'xml' is no export format; there are chat, alpaca, rag, triplets, preference, .*, csv, parquet",
    ):
        share.export([ROW], tmp_path, formats=["chat", "xml"])
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("kind", SUITS, ids=lambda kind: kind.__name__)
def test_a_format_that_a_kind_does_not_suit_is_refused_with_those_that_it_does(kind, tmp_path):
    for format in set(share.FORMATS) - set(SUITS[kind]):
        with pytest.raises(
            InputError, match=f"{format!r} has no place for {kind.__name__} records. Use {', '.join(SUITS[kind])}"
        ):
            share.export([ONE_OF[kind]], tmp_path, formats=[format])
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "texts, why",
    [(("", "a", "b"), "prompt text is empty"), (("p", " \n", "b"), "chosen text is empty"), (("p", "a", ""), "rejected text is empty"),
     (("p", "a", "a"), "chosen and rejected are the same text"), (("p", "a", " a\n"), "chosen and rejected are the same text")],
)  # fmt: skip
def test_a_pair_that_no_trainer_should_learn_from_is_refused_by_its_id_before_anything_is_written(texts, why, tmp_path):
    pair = Preference(*texts)
    for formats in ([format] for format in TRL):
        with pytest.raises(InputError, match=f"Preference {pair.id}: .*{why}.*Leave such pairs out"):
            share.export([Preference("p", "c", "r"), pair], tmp_path, formats=formats)
    with pytest.raises(InputError, match=why):  # all that suit the kind, without naming them
        share.export([pair], tmp_path)
    assert list(tmp_path.iterdir()) == []
    written = share.export([pair], tmp_path, formats=["csv", "parquet", "chat"])
    assert all(share.load(path) == [pair] for path in written.values())


def test_no_records_or_several_kinds_are_refused(tmp_path):
    with pytest.raises(RecordError, match="got none"):
        share.export([], tmp_path)
    with pytest.raises(RecordError, match="got Document, Label"):
        share.export([Label("a", "b"), Document("c")], tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_file_that_is_no_export_or_is_not_there_is_refused(tmp_path):
    with pytest.raises(InputError, match=r"notes\.txt is no exported file; there are .*\.chat\.jsonl"):
        share.load(tmp_path / "notes.txt")
    for name in ("x.chat.jsonl", "x.csv"):
        with pytest.raises(InputError, match=f"cannot read .*{name}: No such file or directory"):
            share.load(tmp_path / name)


def test_a_disk_that_fills_up_in_the_middle_leaves_the_old_export_and_no_other_file(tmp_path, monkeypatch):
    path = share.export([Instruction("old"), Instruction("older")], tmp_path, formats=["chat"])["chat"]
    left = iter([orjson.dumps])

    def dumps_once(*values):
        if (write := next(left, None)) is None:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return write(*values)

    with monkeypatch.context() as patch:
        patch.setattr(share, "orjson", SimpleNamespace(dumps=dumps_once))
        with pytest.raises(StoreError, match=r"No space left on device.*Free some space"):
            share.export([Instruction("new"), Instruction("newer")], tmp_path, formats=["chat"])
    assert share.load(path) == [Instruction("old"), Instruction("older")] and list(tmp_path.iterdir()) == [path]
