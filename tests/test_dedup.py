"""Exact duplicates: of every group one stays, whatever the order; and what counts as the same text."""

import itertools
import json
import math
import random
import unicodedata

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from workbench.errors import InputError, RecordError
from workbench.quality import Verdicts, dedup
from workbench.records import (
    KINDS,
    QA,
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
    Vote,
    kept,
)


def persona(text, parent=""):
    """A persona; with another parent it is another record of the same text."""
    return Persona(text, provenance=Provenance("t", parents=(parent,) if parent else ()))


def personas(texts):
    return [persona(text, f"p{at}") for at, text in enumerate(texts)]


def groups_of(found):
    return {frozenset(members) for members in found.clusters["members"].to_pylist()}


# --- what is the same


SAME = [
    ("What is FastAPI?", "what is fastapi"),
    ("**What** is `FastAPI`?", "What is FastAPI"),
    ("> What is\n> FastAPI?", "What  is\tFastAPI ?"),
    ("“What” is—FastAPI…", '"What" is FastAPI'),
    ("Don’t run.", "don't run"),
    ("ＦａｓｔＡＰＩ ﬁles", "FastAPI files"),
    ("Straße", "STRASSE"),
    ("cafe\u0301", "café"),
    ("co\u00adoperate\u200b", "cooperate"),
    ("- 3 eggs\n- 1 onion", "* 3 eggs\n* 1 onion"),
    ("# Title #", "Title"),
    ("1, 2, 3", "1,2,3"),
    ("5 – 3", "5 - 3"),
    ("| a | b |\n", "a | b"),
]
OTHER = [
    ("What is C?", "What is C#?"),
    ("What is C?", "What is C++?"),
    ("What is 5 - 3?", "What is 5 + 3?"),
    ("What is 15 - 3?", "What is 15 / 3?"),
    ("Simplify x * y.", "Simplify x - y."),
    ("What is |-5|?", "What is |5|?"),
    ("What is -5 squared?", "What is 5 squared?"),
    ("-5 degrees", "5 degrees"),
    ("Is it 1.5 m?", "Is it 15 m?"),
    ("Is it 1.5 m?", "Is it 1/5 m?"),
    ("What is 5²?", "What is 52?"),
    ("What is 10% of 50?", "What is 10 of 50?"),
    ("if a = b", "if a != b"),
    ("It costs $5.", "It costs €5."),
    ("Good 🙂", "Good 🙁"),
    ("कि", "की"),
    ("resume", "résumé"),
    ("its", "it's"),
]


@pytest.mark.parametrize("one, other", SAME)
def test_spelling_marks_and_blanks_do_not_make_another_text(one, other):
    assert dedup.normalise(one) == dedup.normalise(other)
    assert dedup.exact(personas([one, other])).by_reason() == {"duplicate": 1}


@pytest.mark.parametrize("one, other", OTHER)
def test_marks_that_change_what_is_said_make_another_text(one, other):
    assert dedup.normalise(one) != dedup.normalise(other)
    assert dedup.exact(personas([one, other])).by_reason() == {}


MARKED = st.text(st.sampled_from("ab12 -.*/%#!=|&_`~>()[]\n$+\u2013\u2212²\u00adéÉß"), max_size=20)


@given(st.text(max_size=30) | MARKED)
@example("3 - (4)")
@example("a - ?")
@example("?>")
@example("10^*-3")
@example("\u1e9e\u0345")
def test_normalising_twice_changes_nothing(text):
    once = dedup.normalise(text)
    assert dedup.normalise(once) == once


@given(MARKED)
def test_case_outer_blanks_and_unicode_form_are_never_part_of_the_text(text):
    bare = dedup.normalise(text)
    assert dedup.normalise(f"  {unicodedata.normalize('NFD', text)} \n") == bare
    assert dedup.normalise(text.swapcase()) == bare


# --- one of every group stays

FEW = st.lists(st.sampled_from(["A rose", "a ROSE!", "a rose", "A tulip", "a tulip.", "?", "", "a fern"]), max_size=12)


@given(FEW)
def test_exactly_one_of_every_group_survives_and_it_is_the_first(texts):
    records = personas(texts)
    found = dedup.exact(records)
    assert [v.record_id for v in found] == [record.id for record in records]
    stays = {record.id for record in kept(records, found)}
    expected = {}
    for record in records:
        expected.setdefault(dedup.normalise(record.text) or record.text or record.id, record.id)
    assert stays == set(expected.values())
    for verdict in found.failed:
        assert verdict.survivor_id in stays and verdict.survivor_id in verdict.detail
        assert (verdict.reason, verdict.score) == ("duplicate", 1.0)
    for cluster in found.clusters.to_pylist():
        assert len(stays & set(cluster["members"])) == 1 and cluster["survivor"] == cluster["members"][0]
        assert cluster["size"] == len(cluster["members"]) >= 2
    assert found.clusters["cluster"].to_pylist() == list(range(found.clusters.num_rows))
    assert sum(found.clusters["size"].to_pylist()) - found.clusters.num_rows == len(found.failed)


@given(FEW, st.randoms(use_true_random=False))
def test_the_order_of_the_rows_decides_who_stays_and_never_what_stays(texts, rng):
    records = personas(texts)
    shuffled = rng.sample(records, len(records))
    one, other = dedup.exact(records), dedup.exact(shuffled)
    keys = [
        sorted(dedup.normalise(r.text) or r.text for r in kept(rs, v)) for rs, v in ((records, one), (shuffled, other))
    ]
    assert keys[0] == keys[1] and groups_of(one) == groups_of(other)


@given(FEW)
def test_what_survived_has_no_duplicates_left(texts):
    records = personas(texts)
    survivors = kept(records, dedup.exact(records))
    again = dedup.exact(survivors)
    assert not again.failed and kept(survivors, again) == survivors and again.clusters.num_rows == 0


def test_of_a_mutual_pair_one_stays_and_the_stranger_too():
    """Peers' B7: of A, A' and Z another library keeps only Z."""
    a, a2, z = personas(["A baker in Lyon.", "a BAKER in Lyon", "A pilot in Oslo."])
    for order in itertools.permutations([a, a2, z]):
        found = dedup.exact(order)
        stays = kept(order, found)
        assert z in stays and len(stays) == 2 and stays == [r for r in order if r in stays]
        assert [v.survivor_id for v in found.failed] == [next(r.id for r in order if r is not z)]


def test_the_same_record_twice_is_a_repeat_and_does_not_take_itself_along():
    a, a2 = persona("A baker"), persona("a baker!")
    found = dedup.exact([a, a, a2, a, a2])
    assert found.repeats == 3 and [v.passed for v in found] == [True, False]
    assert kept([a, a, a2, a, a2], found) == [a]
    assert found.clusters["members"].to_pylist() == [[a.id, a2.id]]
    assert repr(found) == "dedup.exact: 2 records, 1 failed (1 duplicate); 3 further copies of the same id"
    assert dedup.exact([a, a2]).repeats == 0


# --- what is compared


def test_each_kind_is_compared_by_what_makes_it_the_same():
    passage = Passage("Any text.", Span("d", 0, 9))
    assert dedup.KEYS.keys() == KINDS.keys()
    assert dedup.exact([QA("Why?", "a", None, passage), QA("why", "b", None, passage)]).failed
    assert dedup.exact([Label("Card lost", "card"), Label("card lost!", "money")]).failed
    assert dedup.exact([Instruction("Sum up.", "A text", "x"), Instruction("sum up", "a text", "y")]).failed
    assert not dedup.exact([Instruction("Sum up.", "A text"), Instruction("Sum up.", "Another")]).failed
    assert not dedup.exact([Instruction("Sum up", "a text"), Instruction("Sum up a", "text")]).failed
    assert not dedup.exact([Preference("Hi", "yes", "no"), Preference("Hi", "yes", "never")]).failed
    assert dedup.exact([Rating("a", "honesty", 4, "judge"), Rating("a", "honesty", 5, "judge")]).failed
    assert not dedup.exact([Vote("a", "b", "tie", "one person"), Vote("a", "b", "tie", "another")]).failed
    calls = [(Step("user", f"{word}"),) for word in ("go", "Go!", "stop")]
    traces = [Trace("Drive", "[]", steps, provenance=Provenance("t", parents=(str(steps),))) for steps in calls]
    assert [v.passed for v in dedup.exact(traces)] == [True, False, True]


def test_other_fields_can_be_named_and_unknown_ones_are_refused():
    records = [Label("Card lost", "card"), Label("Cash lost", "card")]
    assert not dedup.exact(records).failed
    assert dedup.exact(records, fields=("label",)).failed and dedup.exact(records, fields="label").failed
    with pytest.raises(InputError, match=r"no field 'lable'.*text, label"):
        dedup.exact(records, fields=("text", "lable"))
    with pytest.raises(InputError, match="no fields named"):
        dedup.exact(records, fields=())


@pytest.mark.parametrize("nothing", [None, math.nan, "", "  \n"])
def test_records_without_a_text_are_duplicates_of_nothing(nothing):
    found = dedup.exact([persona(nothing, "a"), persona(nothing, "b"), persona("A baker")])
    assert not found.failed and len(found) == 3


def test_texts_of_marks_alone_are_compared_as_they_stand():
    assert [v.passed for v in dedup.exact(personas(["???", "?!", "???"]))] == [True, True, False]


def test_no_records_give_no_verdicts_and_two_kinds_are_refused():
    found = dedup.exact([])
    assert len(found) == 0 and found.clusters.schema == dedup.exact([persona("A baker")]).clusters.schema
    with pytest.raises(RecordError, match="Label, Persona"):
        dedup.exact([persona("A baker"), Label("A baker", "x")])


def test_duplicates_are_verdicts_that_join_tabulate_and_escape():
    nasty = '<img src=x onerror="alert(1)">'
    found = dedup.exact(personas([nasty, nasty.upper()]))
    joined = found + Verdicts((), "rules")
    assert type(joined) is Verdicts and repr(joined) == "dedup.exact + rules: 2 records, 1 failed (1 duplicate)"
    assert found.table()["survivor_id"].to_pylist() == ["", found[0].record_id]
    assert "<img" not in found._repr_html_() and "&lt;img" in found._repr_html_()


# --- against brute force, on real rows


def test_three_hundred_real_rows_give_what_comparing_every_pair_gives(shared):
    folder = shared / "self_instruct"
    files = sorted(folder.glob("text-davinci-*_predictions.jsonl")) or pytest.skip("self_instruct has no predictions")
    rows = [json.loads(line) for file in files for line in file.read_text().splitlines()]
    rng = random.Random(0)
    records = []
    for at, row in enumerate(rng.sample(rows, 300)):
        shout = rng.choice([str, str.upper, "**{}**".format, " {}!\n".format])  # the same row as people retype it
        records.append(
            Instruction(shout(row["instruction"]), row["input"], provenance=Provenance("t", parents=(str(at),)))
        )

    def words(text):
        return "".join(
            char if char.isalnum() else " " for char in unicodedata.normalize("NFKC", text).casefold()
        ).split()

    keys = [(words(record.instruction), words(record.input)) for record in records]
    clusters, gone = {}, {}
    for (i, one), (j, other) in itertools.combinations(enumerate(keys), 2):
        if one == other and i not in gone:
            clusters.setdefault(i, [i]).append(j)
            gone[j] = i
    assert 50 < len(gone) < 250
    found = dedup.exact(records)
    assert [v.passed for v in found] == [at not in gone for at in range(300)]
    assert [v.survivor_id for v in found.failed] == [records[gone[at]].id for at in sorted(gone)]
    assert found.clusters["members"].to_pylist() == [[records[at].id for at in clusters[i]] for i in sorted(clusters)]
