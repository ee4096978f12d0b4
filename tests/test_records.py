"""Records: ids that are content, rows that come back equal, and what cannot be true is refused."""

import dataclasses
import hashlib
import json
import math
import os
import subprocess
import sys
from dataclasses import dataclass, replace
from functools import cache
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.conftest import ROOT
from workbench import records, store
from workbench.errors import RecordError
from workbench.records import (
    KINDS,
    QA,
    Document,
    Failure,
    ImagePair,
    Instruction,
    Label,
    Passage,
    Persona,
    Preference,
    Provenance,
    Rating,
    Span,
    Step,
    Trace,
    Verdict,
    Vote,
    by_id,
    content_hash,
    from_row,
    kept,
    one_kind,
    to_row,
)  # fmt: skip

# --- records that Hypothesis makes; other tests import them


TEXT = st.text()


@cache  # a strategy is built once: building costs more than drawing
def provenances(text=TEXT):
    return st.builds(
        Provenance, text, st.sampled_from(records.OPERATIONS), st.lists(st.sampled_from(records.SEED_KINDS), max_size=3).map(tuple),
        text, text, text, text, tuples(text), tuples(text), st.none() | spans(text), st.booleans(),
    )  # fmt: skip


@cache
def spans(text=TEXT):
    return st.builds(Span, text, st.integers(0, 2**40), st.integers(0, 2**40))


@cache
def tuples(values):
    return st.lists(values, max_size=3).map(tuple)


@cache
def of_kind(kind, text=TEXT):
    """Records of one kind, every field drawn: a field that is added later must be added here."""
    passages = st.builds(Passage, text, spans(text))
    scores = st.none() | st.floats(allow_nan=False, allow_infinity=False) | st.integers(-(2**40), 2**40)
    maybe = st.none() | text
    fields = {
        Document: {"text": text, "path": text, "title": text},
        Persona: {"text": text, "relation": text},
        Instruction: {"instruction": text, "input": text, "output": maybe},
        QA: {"question": text, "answer": maybe, "evidence": maybe, "passage": passages, "evidence_span": st.none() | spans(text),
             "is_answerable": st.booleans(), "persona": maybe, "negatives": tuples(passages)},
        Preference: {"prompt": text, "chosen": text, "rejected": text, "score_chosen": scores, "score_rejected": scores},
        Label: {"text": text, "label": text},
        Trace: {"task": text, "tools": text, "steps": tuples(st.builds(Step, text, text, text, text)), "is_success": st.none() | st.booleans()},
        Rating: {"subject": text, "dimension": text, "value": scores, "rater": text, "rationale": text},
        Vote: {
            "first": text, "second": text, "winner": st.sampled_from(["first", "second", "tie"]), "rater": text,
            "rationale": text, "is_flip": st.none() | st.booleans(),
        },
        ImagePair: {"prompt": text, "chosen": text, "rejected": text},
    }[kind]  # fmt: skip
    assert {f.name for f in dataclasses.fields(kind)} == {"id", "provenance", *fields}, (
        f"{kind.__name__} has other fields: draw them here"
    )
    return st.builds(kind, provenance=provenances(text), **fields)


ALL_KINDS = pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS)
FEW = st.sampled_from(["", "a", "b"])  # few texts, so that equal records are drawn often


# --- ids


ORIGINS = st.builds(Provenance, FEW, parents=st.sampled_from([(), ("a",), ("b", "a")]))
SMALL = st.one_of(
    st.builds(Document, FEW, FEW, provenance=ORIGINS), st.builds(Persona, FEW, FEW, provenance=ORIGINS), st.builds(Label, FEW, FEW, provenance=ORIGINS),
    st.builds(Instruction, FEW, FEW, st.none() | FEW, provenance=ORIGINS),
)  # fmt: skip


@settings(max_examples=300, deadline=None)
@given(SMALL, SMALL)
def test_two_ids_are_equal_exactly_when_kind_content_and_parents_are(one, other):
    said = [
        (type(r), {f: getattr(r, f) for f in to_row(r) if f not in ("id", "provenance")}, r.provenance.parents)
        for r in (one, other)
    ]
    assert (one.id == other.id) == (said[0] == said[1])
    assert len({one, replace(one), other}) == (1 if one == other else 2)
    # Chance rarely draws two of a kind, so the same content is also given another origin.
    assert replace(one, provenance=Provenance("elsewhere", parents=one.provenance.parents)).id == one.id


@ALL_KINDS
def test_each_field_but_the_provenance_changes_the_id(kind):
    @settings(max_examples=20, deadline=None)
    @given(of_kind(kind, FEW), of_kind(kind, FEW))
    def changing_any_field_changes_the_id(one, other):
        for field in dataclasses.fields(kind):
            if field.name not in ("id", "provenance"):
                value = getattr(other, field.name)
                assert (replace(one, **{field.name: value}).id == one.id) == (value == getattr(one, field.name)), (
                    field.name
                )
        origin = replace(other.provenance, parents=one.provenance.parents)
        assert replace(one, provenance=origin).id == one.id
        assert replace(one, provenance=replace(origin, parents=(*origin.parents, "more"))).id != one.id

    changing_any_field_changes_the_id()


def test_an_id_is_the_first_96_bits_of_sha256_over_canonical_json_without_defaults():
    def expected(*value):
        encoded = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()
        return hashlib.sha256(encoded).hexdigest()[:24]

    assert Document("Grüße", path="a.md").id == expected("Document", {"text": "Grüße", "path": "a.md"}, [])
    assert Document("", title="", path="").id == expected("Document", {"text": ""}, [])
    span = {"": "Span", "document_id": "d", "start": 1, "end": 4}
    row = QA(
        "q?",
        None,
        None,
        Passage("pqr", Span("d", 1, 4)),
        is_answerable=False,
        provenance=Provenance("x", parents=("d", "p")),
    )
    passage = {"": "Passage", "text": "pqr", "span": span}
    content = {"question": "q?", "answer": None, "evidence": None, "passage": passage, "is_answerable": False}
    assert row.id == expected("QA", content, ["d", "p"])
    assert Preference("p", "c", "r", 1, -0.0).id == expected(
        "Preference", {"prompt": "p", "chosen": "c", "rejected": "r", "score_chosen": 1.0, "score_rejected": 0.0}, []
    )


def test_a_field_that_is_added_later_with_a_default_changes_no_id():
    def later():
        @dataclass(frozen=True, slots=True)
        class Label(records.Label):
            language: str = "en"

        return Label

    kind = later()
    assert kind("a", "b").id == Label("a", "b").id
    assert kind("a", "b", language="de").id != Label("a", "b").id


def test_a_changed_text_is_a_new_record_and_the_old_one_stays():
    old = Instruction("Say hello.", provenance=Provenance("x", parents=("seed",)))
    new = replace(old, instruction="Say hello twice.")
    assert new.id != old.id and old.instruction == "Say hello." and new.provenance == old.provenance
    assert replace(new, instruction="Say hello.") == old and replace(new, instruction="Say hello.").id == old.id
    with pytest.raises(dataclasses.FrozenInstanceError):
        old.instruction = "x"
    with pytest.raises((ValueError, TypeError)):
        replace(old, id="mine")


def test_scores_that_are_equal_numbers_give_equal_ids_and_what_is_no_number_is_refused():
    ints, floats = Preference("p", "c", "r", 1, 0), Preference("p", "c", "r", 1.0, -0.0)
    assert ints == floats and ints.id == floats.id and type(ints.score_chosen) is float
    for nothing in (math.nan, math.inf, -math.inf):
        with pytest.raises(RecordError, match=r"Preference\.score_rejected is .*Use None"):
            Preference("p", "c", "r", 1.0, nothing)
        with pytest.raises(RecordError, match=r"Verdict\.score is .*Use None"):
            Verdict("r", "check", True, nothing)


def test_a_content_hash_is_the_same_in_a_process_with_another_hash_seed():
    code = (
        "from pathlib import Path; import numpy as np; from workbench.records import *; from workbench.records import content_hash\n"
        "words = {'alpha', 'beta', 'gamma', 'delta', 'Grüße'}\n"
        "value = {'words': words, 'frozen': frozenset(words), 'path': Path('a/b'), 'array': np.arange(3), 'one': np.float32(0.5),\n"
        "         **{word: word for word in words}, 'span': Span('d', 1, 2), 'doc': Document('x')}\n"
        "print(content_hash(value), Document('Grüße').id, end='')"
    )
    seen = set()
    for seed in ("1", "2"):
        done = subprocess.run(
            [sys.executable, "-c", code],
            cwd=ROOT,
            env={**os.environ, "PYTHONHASHSEED": seed},
            capture_output=True,
            text=True,
            check=True,
        )
        seen.add(done.stdout)
    words = {"alpha", "beta", "gamma", "delta", "Grüße"}
    value = {
        "words": words,
        "frozen": words,
        "path": "a/b",
        "array": [0, 1, 2],
        "one": 0.5,
        **{w: w for w in words},
        "span": Span("d", 1, 2),
    }
    assert seen == {f"{content_hash({**value, 'doc': Document('x').id})} {Document('Grüße').id}"}


@pytest.mark.parametrize(
    "value",
    [object(), {"a": [object]}, {1, "a"}, b"bytes", 1j, lambda: 0, 2**80, "\ud800", "".join, ...],
    ids=[
        "object",
        "class",
        "mixed set",
        "bytes",
        "complex",
        "function",
        "wide integer",
        "half a surrogate pair",
        "method",
        "ellipsis",
    ],
)
def test_what_has_no_content_is_refused_instead_of_hashed_by_its_address(value):
    with pytest.raises(RecordError, match=r"cannot hash a .*Use plain values or dataclasses"):
        content_hash(value)


def test_what_differs_in_content_differs_in_hash_though_it_looks_alike():
    different = [
        "1",
        1,
        1.5,
        None,
        "",
        [],
        {},
        [[]],
        "null",
        {"a": None},
        ["a", None],
        Span("d", 1, 2),
        Span("d", 12, 2),
        Path("x"),
        True,
    ]
    assert len({content_hash(value) for value in different}) == len(different)
    assert content_hash({"a": 1, "b": 2}) == content_hash({"b": 2, "a": 1})
    assert content_hash(np.array([1, 2])) == content_hash([1, 2]) == content_hash((1, 2))


# --- provenance


def test_a_provenance_of_unknown_operation_or_seed_kind_is_refused_and_told_the_known_ones():
    with pytest.raises(
        RecordError, match=r"operation 'guessing' is not one of augmentation, prompting, reformation, distillation"
    ):
        Provenance("x", operation="guessing")
    with pytest.raises(
        RecordError,
        match=r"seed kind 'dream' is not one of document, persona, paraphrase, keyword, instruction, evaluation",
    ):
        Provenance("x", seed_kinds=("document", "dream"))


def test_only_a_row_of_the_offline_rules_says_that_no_model_made_it():
    assert Provenance("x", model="offline-rules@1/weak").is_offline
    assert not Provenance("x", model="gpt-offline-rules@1").is_offline and not Provenance("given").is_offline


# --- rows


@ALL_KINDS
def test_a_record_comes_back_equal_from_its_row_from_json_and_from_parquet(kind, tmp_path):
    @settings(max_examples=20, suppress_health_check=[HealthCheck.too_slow], deadline=None)
    @given(st.lists(of_kind(kind), min_size=1, max_size=4))
    def it_comes_back(made):
        ways = [
            [from_row(kind, to_row(record)) for record in made],
            [from_row(kind, json.loads(json.dumps(to_row(record)))) for record in made],
            store.read(store.write(made, tmp_path / "records.parquet")),
        ]
        for back in ways:
            # repr too: 1 == 1.0 and True == 1, and a list in place of a tuple would show.
            assert back == made and repr(back) == repr(made) and [r.id for r in back] == [r.id for r in made]

    it_comes_back()


@pytest.mark.parametrize("kind", [Failure, Verdict])
def test_failures_and_verdicts_come_back_equal_from_rows_and_parquet(kind, tmp_path):
    text, number = st.text(), st.none() | st.floats(allow_nan=False, allow_infinity=False) | st.integers(-9, 9)
    made = {
        Failure: st.builds(Failure, text, text, text, text, st.integers(-1, 2**40), tuples(text), number, text),
        Verdict: st.builds(Verdict, text, text, st.booleans(), number, text, text, text),
    }[kind]

    @settings(max_examples=20, deadline=None)
    @given(st.lists(made, min_size=1, max_size=3))
    def they_come_back(rows):
        assert [from_row(kind, to_row(row)) for row in rows] == rows
        assert store.read(store.write(rows, tmp_path / "rows.parquet")) == rows

    they_come_back()


def test_nothing_is_not_the_empty_text_and_no_negatives_are_not_one(tmp_path):
    passage = Passage("", Span("", 0, 0))
    made = [
        QA("", None, None, passage), QA("", "", "", passage, persona=""), QA("", "", None, passage, negatives=(passage,)),
        QA("", None, "", passage, evidence_span=Span("", 0, 0), provenance=Provenance("", source=Span("", 0, 0))),
    ]  # fmt: skip
    back = store.read(store.write(made, tmp_path / "qa.parquet"))
    assert back == made and len({record.id for record in back}) == 4
    assert [record.answer for record in back] == [None, "", "", None] and [
        len(record.negatives) for record in back
    ] == [0, 0, 1, 0]
    assert [record.evidence_span for record in back] == [None, None, None, Span("", 0, 0)]


def test_an_edited_text_with_the_old_id_is_refused_and_without_it_is_a_new_record():
    row = to_row(Document("as it was", path="a.md"))
    edited = {**row, "text": "as somebody wanted it"}
    with pytest.raises(RecordError, match=rf"{row['id']} has the id of another content.*drop the id column"):
        from_row(Document, edited)
    for none in (None, ""):
        assert from_row(Document, {**edited, "id": none}) == Document("as somebody wanted it", path="a.md")
    with pytest.raises(RecordError, match="another content"):
        from_row(Document, {**row, "provenance": {**row["provenance"], "parents": ["somebody"]}})


def test_an_edit_deep_inside_a_row_is_seen():
    row = to_row(QA("q", "a", "pq", Passage("pqr", Span("d", 0, 3)), negatives=(Passage("n", Span("d", 9, 10)),)))
    row["negatives"][0]["span"]["start"] = 8
    with pytest.raises(RecordError, match="another content"):
        from_row(QA, row)


def test_a_row_with_an_unknown_or_a_missing_field_is_refused_by_name():
    with pytest.raises(RecordError, match=r"a Document has no field 'body'; it has .*text, path, title"):
        from_row(Document, {"text": "x", "body": "y"})
    with pytest.raises(RecordError, match=r"a Document needs 'text'; this row has path"):
        from_row(Document, {"path": "x"})
    with pytest.raises(RecordError, match=r"a Span needs 'end'"):
        from_row(
            QA,
            {
                "question": "",
                "answer": None,
                "evidence": None,
                "passage": {"text": "", "span": {"document_id": "d", "start": 0}},
            },
        )
    with pytest.raises(RecordError, match=r"a Provenance has no field 'colour'"):
        from_row(Document, {"text": "x", "provenance": {"recipe": "given", "colour": "red"}})
    assert from_row(Document, {"text": "x"}) == Document("x")


# --- lists of records


def test_kept_holds_each_record_without_a_failed_check_once_and_in_order():
    a, b, c = Label("a", "x"), Label("b", "x"), Label("c", "x")
    verdicts = [
        Verdict(a.id, "one", True),
        Verdict(b.id, "one", True),
        Verdict(b.id, "two", False),
        Verdict("nobody", "one", False),
    ]
    assert kept([c, a, b, a], verdicts) == [c, a]
    assert kept([c, a, b], []) == [c, a, b] and kept([], verdicts) == []


def test_by_id_keeps_the_first_of_each_id():
    first, second = Label("a", "x", provenance=Provenance("first")), Label("a", "x", provenance=Provenance("second"))
    assert first.id == second.id and first != second
    assert by_id([first, second, Label("b", "x")]) == {first.id: first, Label("b", "x").id: Label("b", "x")}
    assert list(by_id(iter([second, first])).values()) == [second]


def test_several_kinds_or_none_are_refused_where_one_is_needed():
    assert one_kind([Label("a", "b"), Label("c", "d")]) is Label
    with pytest.raises(RecordError, match="got Document, Label"):
        one_kind([Label("a", "b"), Document("c")])
    with pytest.raises(RecordError, match="got none"):
        one_kind([])


# --- how they look


class Page(HTMLParser):
    """What a browser makes of HTML: its texts, and `foreign`, the tags and attributes that no layout needs."""

    LAYOUT = frozenset(
        ["b", "br", "details", "div", "pre", "span", "summary", "table", "tbody", "td", "th", "thead", "tr"]
    )

    def __init__(self, text):
        super().__init__()
        self.foreign, self.text = set(), []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.foreign |= {
            name
            for name in (tag, *(f"{tag} {name}" for name, _ in attrs))
            if name.removesuffix(" style") not in self.LAYOUT
        }

    def handle_data(self, data):
        self.text.append(data)


@ALL_KINDS
def test_a_card_shows_a_script_in_any_text_as_text(kind):
    evil = "<script>alert('x')</script><img src=x onerror=alert(1)>\"'&"

    @settings(max_examples=10, deadline=None)
    @given(of_kind(kind, st.just(evil)))
    def it_is_text(record):
        page = Page(record._repr_html_())
        assert not page.foreign and evil in "".join(page.text)

    it_is_text()


def test_a_card_names_what_is_there_and_leaves_out_what_is_not():
    page = "".join(
        Page(QA("Why?", None, None, Passage("Because.", Span("d", 0, 8)), is_answerable=False)._repr_html_()).text
    )
    assert (
        "Why?" in page
        and "Because." in page
        and "is answerable" in page
        and "persona" not in page
        and "None" not in page
    )
    with_persona = QA(
        "Why?",
        "So.",
        "Because",
        Passage("Because.", Span("d", 0, 8)),
        persona="A baker",
        negatives=(Passage("No.", Span("d", 9, 12)),),
    )
    page = "".join(Page(with_persona._repr_html_()).text)
    assert "A baker" in page and "1. No." in page and "from given" in page


def test_the_text_fields_of_a_record_are_its_texts_in_the_order_of_reading():
    assert QA("q", "a", None, Passage("p", Span("d", 0, 1))).text_fields == ("question", "answer")
    assert Document("x").text_fields[0] == "text" and Trace("t", "[]", ()).text_fields == ("task", "tools")
