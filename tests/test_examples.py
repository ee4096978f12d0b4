"""Examples: passages drawn once and grouped by document, answers read as the recipes read them, splits that share nothing."""

import asyncio
import copy
from collections import Counter, defaultdict
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from workbench import prompts
from workbench.corpus import Corpus
from workbench.errors import InputError
from workbench.llm import Offline, Scripted, ask
from workbench.prompts import examples
from workbench.prompts.examples import Example, Examples, Split
from workbench.quality.metrics import Metric, Score, length_fits, question_metric
from workbench.recipes import persona, rag_qa
from workbench.records import QA, Document, Failure, Label, Persona

METRIC = Metric({"length_fits": length_fits})
HOSE = "A garden hose should be drained before the first frost, because water that freezes\nin it splits the rubber."
DOCUMENTS = [
    Document(f"# Page {name}\n\n{HOSE} On page {name} it hangs in loose coils.", path=name, title=name)
    for name in ("one", "two", "three", "four")
]
GOOD = {
    "question": "Why is a garden hose drained?",
    "answer": "Frozen water splits the rubber.",
    "evidence": "water that freezes in it splits the rubber",
}


def read_label(example, fields):
    return Label(example.values["text"], fields["label"])


def table(*sizes):
    """Rows of as many groups as there are sizes."""
    return [{"text": f"{group} {at}", "by": f"g{group}"} for group, size in enumerate(sizes) for at in range(size)]


def made(rows, **more):
    return examples.of_rows(rows, variables=["text"], group="by", read=read_label, metric=METRIC, **more)


# --- drawing ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("draw", [examples.rag_question, examples.persona])
def test_passages_are_drawn_once_spread_over_documents_and_grouped_by_them(draw, bundled):
    found = draw(bundled, count=100)
    texts = {chunk.text: chunk for chunk in Corpus.of(bundled).chunks}
    assert len(found) == 100 == len({row.values["passage"] for row in found}) == len({row.id for row in found})
    for row in found:
        chunk = texts[row.values["passage"]]
        assert (row.values["section"], row.group, row.source) == (chunk.section, chunk.passage.span.document_id, chunk)
    groups = Counter(row.group for row in found)
    assert len(groups) > 30 and max(groups.values()) < 10
    assert repr(found) == f"{found.name}: 100 examples of {len(groups)} groups"


def test_kinds_and_relations_are_the_recipes_own_and_all_of_them(bundled):
    assert {row.values["kind"] for row in examples.rag_question(bundled, count=100)} == set(rag_qa.KINDS)
    relations = Counter(row.values["relation"] for row in examples.persona(bundled, count=100))
    assert set(relations) == set(persona.RELATIONS) and min(relations.values()) > 15


def test_each_document_gives_what_the_generator_would_ask_of_it_first_and_as_many_as_the_others(bundled):
    asked = defaultdict(list)
    for task in rag_qa.plan(bundled, seed=3):
        asked[task.chunk.passage.span.document_id].append((task.chunk.text, task.kind))
    drawn = defaultdict(list)
    for row in examples.rag_question(bundled, count=200, seed=3):
        drawn[row.group].append((row.values["passage"], row.values["kind"]))
    most = max(map(len, drawn.values()))
    for document, rows in drawn.items():
        assert rows == asked[document][: len(rows)]
        assert len(rows) >= most - 1 or len(rows) == len(asked[document])


def test_a_document_of_very_many_passages_is_no_more_than_its_share():
    changelog = Document(
        "\n\n".join(f"## {at}\n\n{HOSE} It was coil number {at}. {HOSE}" for at in range(300)), path="log"
    )
    groups = Counter(row.group for row in examples.rag_question([changelog, *DOCUMENTS], count=5))
    assert len(Corpus.of([changelog])) > 50 and groups[changelog.id] == 1 and len(groups) == 5


@pytest.mark.parametrize("draw", [examples.rag_question, examples.persona])
def test_the_same_seed_draws_the_same_and_more_begin_alike(draw, bundled):
    corpus = Corpus.of(bundled)
    found = draw(bundled, count=30, seed=1)
    assert found.sha256 == draw(corpus, count=30, seed=1).sha256 == draw(corpus, count=50, seed=1)[:30].sha256
    assert found.sha256 != draw(corpus, count=30, seed=2).sha256 and len(found.sha256) == 24


@pytest.mark.parametrize("draw", [examples.rag_question, examples.persona])
def test_a_text_that_stands_on_several_pages_is_drawn_once(draw):
    notice = "This page may be copied by anybody who names its authors and keeps this notice with every copy."
    pages = [Document(f"# Page\n\n{notice}", path=str(at), title="") for at in range(5)]
    assert len(draw([*pages, *DOCUMENTS], count=5)) == 5
    with pytest.raises(InputError, match=r"have 5 different passages, and 6 examples .* or count=5"):
        draw([*pages, *DOCUMENTS], count=6)


def test_what_cannot_be_drawn_is_refused():
    with pytest.raises(InputError, match="count must be 1 or more, got 0"):
        examples.rag_question(DOCUMENTS, count=0)
    with pytest.raises(InputError, match="no passage to work with"):
        examples.persona([Document("short")], count=1)
    with pytest.raises(InputError, match="asks for a persona"):
        examples.rag_question(DOCUMENTS, count=1, prompt=prompts.load("rag/persona_question@1"))


def test_the_values_are_what_the_prompts_take(bundled):
    for draw, ref in ((examples.rag_question, "rag/question@1"), (examples.persona, "persona/from_text@1")):
        prompt = prompts.load(ref)
        assert prompt.render(**draw(bundled, count=3, prompt=prompt)[0].values)
        assert draw(bundled, count=3).name == prompt.name


# --- reading ----------------------------------------------------------------------------------------------------------


def said(fields):
    return "\n\n".join(f"[[ ## {name} ## ]]\n{value}" for name, value in fields.items())


FIELDS = [
    GOOD,
    GOOD | {"question": "NONE", "answer": "NONE"},
    GOOD | {"answer": " "},
    GOOD | {"evidence": "ice splits it"},
    GOOD | {"evidence": "  ice splits\n"},
    GOOD | {"evidence": "rubber"},
    GOOD | {"evidence": ""},
    GOOD | {"question": f"  {GOOD['question']}\n"},
]


@pytest.mark.parametrize("fields", FIELDS, ids=str)
def test_an_answer_is_read_as_the_recipe_reads_it_but_for_evidence_that_is_not_there(fields):
    corpus = Corpus.of(DOCUMENTS[:1])
    task = next(iter(rag_qa.plan(corpus, mix=rag_qa.Mix(unanswerable=0.0, negatives=0))))
    row = asyncio.run(rag_qa.make(task, Scripted([said(fields)])))
    (example,) = found = examples.rag_question(corpus, count=1)
    outcome = found.outcome(example, fields)
    if isinstance(row, QA):
        assert outcome == replace(row, provenance=outcome.provenance) and outcome.evidence_span == row.evidence_span
    elif row.reason == "evidence":
        assert (
            isinstance(outcome, QA) and outcome.evidence == fields["evidence"].strip() and outcome.evidence_span is None
        )
        scored = found.scored(example, fields)
        assert scored.parts["evidence_found"] == 0 and scored.parts["stands_alone"] == 1 and 0.2 < scored.value < 0.9
    else:
        assert (outcome.reason, outcome.detail) == (row.reason, row.detail)
        assert found.scored(example, fields).value == pytest.approx(1 / 11)


def test_the_recipe_refuses_evidence_exactly_where_the_metric_gives_it_nothing(bundled):
    """On what a careless writer says of real pages: both sides of the rule, by two implementations."""
    found = examples.rag_question(bundled, count=120)
    kept = Counter()
    for example, fields in zip(found, answers(found, "rag/question@1", "weak"), strict=True):
        if not isinstance(fields, Failure):
            refused = isinstance(rag_qa.read(fields, example.source.passage), Failure)
            assert refused == (found.scored(example, fields).parts["evidence_found"] == 0)
            kept[refused] += 1
    assert kept[True] > 3 and kept[False] > 60


def test_a_row_says_where_its_text_is_from_and_claims_no_request():
    (example, *_) = found = examples.rag_question(DOCUMENTS, count=4)
    row = found.outcome(example, GOOD)
    assert row.provenance.source == example.source.passage.span and row.provenance.parents == (example.group,)
    assert (row.provenance.requests, row.provenance.model, row.provenance.prompt) == ((), "", "")
    document = next(document for document in DOCUMENTS if document.id == example.group)
    assert document.text[row.evidence_span.start : row.evidence_span.end] == row.evidence


def test_a_person_is_read_as_the_recipe_reads_one():
    (example, *_) = found = examples.persona(DOCUMENTS, count=4)
    person = found.outcome(example, {"interest": "x", "persona": " A baker\nin a town. "})
    assert person == Persona("A baker in a town.", example.values["relation"], provenance=person.provenance)
    assert found.outcome(example, {"interest": "x", "persona": "NONE"}).reason == "nothing_to_describe"


def test_a_failure_stays_one_and_is_scored_as_one():
    (example, *_) = found = examples.rag_question(DOCUMENTS, count=4)
    failure = Failure("parse", "no header")
    assert found.outcome(example, failure) is failure
    assert (found.scored(example, failure).value, found.scored(example, failure).feedback) == (0.0, "parse: no header")


def test_a_metric_of_ones_own_takes_the_place_of_the_ready_one():
    found = examples.rag_question(DOCUMENTS, count=2, metric=METRIC)
    assert list(found.scored(found[0], GOOD).parts) == ["parsed", "length_fits"]
    default = examples.rag_question(DOCUMENTS, count=2).metric
    assert default.content_id == question_metric(prompts.load("rag/question@1")).content_id


# --- better writers score better --------------------------------------------------------------------------------------


def answers(found, ref, variant):
    """What an offline writer says to a prompt, example by example: fields, or why there are none."""
    prompt, client = prompts.load(ref), Offline(variant)

    async def every():
        return [await ask(client, prompt, row.values) for row in found]

    return [answer if isinstance(answer, Failure) else answer.values for answer in asyncio.run(every())]


def interval(values, groups):
    """The middle 95% of means of documents drawn with replacement."""
    by_group = defaultdict(list)
    for value, group in zip(values, groups, strict=True):
        by_group[group].append(value)
    sums, counts = np.array([sum(g) for g in by_group.values()]), np.array([len(g) for g in by_group.values()])
    drawn = np.random.default_rng(0).integers(0, len(sums), (2000, len(sums)))
    return np.quantile(sums[drawn].sum(axis=1) / counts[drawn].sum(axis=1), [0.025, 0.975])


def intervals(found, ref, variants):
    groups = [row.group for row in found]
    for variant in variants:
        fields = answers(found, ref, variant)
        yield interval([found.scored(row, each).value for row, each in zip(found, fields, strict=True)], groups)


def test_the_metric_for_questions_ranks_a_strong_writer_above_a_fair_one_above_a_weak_one(bundled):
    found = examples.rag_question(bundled, count=200)
    strong, fair, weak = intervals(found, "rag/question@1", ("strong", "fair", "weak"))
    assert strong[0] > fair[1] and fair[0] > weak[1], (strong, fair, weak)


def test_the_metric_for_people_ranks_a_strong_writer_above_a_weak_one(bundled):
    found = examples.persona(bundled, count=120)
    strong, weak = intervals(found, "persona/from_text@1", ("strong", "weak"))
    assert strong[0] > weak[1] and strong[0] > 0.95, (strong, weak)


# --- a sequence -------------------------------------------------------------------------------------------------------


def test_examples_are_a_sequence_whose_slices_keep_how_they_are_read_and_scored():
    found = made(table(2, 2, 2))
    assert len(found) == 6 and found[1] in found and list(found)[-1] == found[-1]
    assert isinstance(found[1:3], Examples) and found[1:3].rows == found.rows[1:3] and found[1:3].metric is found.metric
    assert found[1:3] == found[1:3] != found[1:4] and len({found[1:3], found[1:3]}) == 1
    assert repr(found[:1]) == "examples: 1 example of 1 group" and repr(found[:0]) == "examples: 0 examples of 0 groups"


def test_the_hash_is_over_values_groups_and_outputs_and_not_the_source():
    base = Example({"a": "x"}, "g", {"label": 1}, source=object())
    same = Example({"a": "x"}, "g", {"label": 1}, source=object())
    others = [
        replace(base, values={"a": "y"}), replace(base, values={"b": "x"}), replace(base, group="h"), replace(base, outputs={"label": 2}),
        replace(base, outputs={}),
    ]  # fmt: skip
    assert base == same and hash(base) == hash(same) and base.id == same.id
    assert len({base.id, *(other.id for other in others)}) == 6
    hashes = {Examples((row,), read_label, METRIC).sha256 for row in (base, *others)}
    assert len(hashes) == 6 and Examples((same,), read_label, METRIC, "named").sha256 in hashes


def test_an_example_does_not_change_with_the_mapping_that_it_was_made_of():
    values = {"a": "x"}
    example = Example(values, "g")
    values["a"] = "y"
    assert example.values == {"a": "x"} and copy.deepcopy(example) == example


def test_examples_with_the_same_values_or_other_variables_are_refused():
    one, twice, other = Example({"a": "x"}, "g"), Example({"a": "x"}, "h"), Example({"b": "x"}, "g")
    with pytest.raises(InputError, match="examples 0 and 2 have the same values"):
        Examples((one, Example({"a": "y"}, "g"), twice), read_label, METRIC)
    with pytest.raises(InputError, match="example 1 has b, and the first a"):
        Examples((one, other), read_label, METRIC)


def test_what_is_shown_in_a_notebook_is_escaped():
    shown = made([{"text": "<script>x</script>", "by": "<b>"}, {"text": "y", "by": "z"}])._repr_html_()
    assert "<script>" not in shown and "&lt;script&gt;" in shown and "&lt;b&gt;" in shown and METRIC.name in shown
    split = made(table(2, 2, 2)).split()
    assert all(part.sha256 in split._repr_html_() for part in split)


# --- any table --------------------------------------------------------------------------------------------------------


def test_rows_of_a_table_become_examples_with_gold_and_a_metric_that_knows_it():
    rows = [{"text": f"t{at}", "by": at % 3, "label": "ab"[at % 2], "idle": None} for at in range(6)]
    labels = {row["text"]: row["label"] for row in rows}
    right = lambda record: Score(float(record.label == labels[record.text]))
    found = examples.of_rows(
        rows, variables=["text"], group="by", outputs=["label"], read=read_label, metric=Metric({"right": right})
    )
    assert found[4] == Example({"text": "t4"}, "1", {"label": "a"})
    assert [found.scored(row, {"label": "a"}).parts["right"] for row in found] == [1, 0, 1, 0, 1, 0]


def test_an_arrow_table_is_a_table_too():
    import pyarrow as pa

    assert made(pa.Table.from_pylist(table(1, 2))).sha256 == made(table(1, 2)).sha256


ROWS = [{"text": "a", "by": "g", "gold": 1}, {"text": "b", "by": "h", "gold": 2}]


@pytest.mark.parametrize(
    "rows, why",
    [
        ([], "there are no rows"), ([*ROWS, "c"], "row 2 is a str, not a mapping"), ([*ROWS, {"text": "c", "gold": 3}], "row 2 has no 'by'; it has text, gold"),
        ([*ROWS, {"by": "g", "gold": 3}], "row 2 has no 'text'"), ([*ROWS, {"text": "c", "by": "g"}], "row 2 has no 'gold'"),
        ([*ROWS, {"text": float("nan"), "by": "g", "gold": 3}], "row 2: text must be text, got nan"), ([*ROWS, {"text": None, "by": "g", "gold": 3}], "got None"),
        ([*ROWS, {"text": 3, "by": "g", "gold": 3}], "text must be text, got 3"), ([*ROWS, {"text": "c", "by": float("nan"), "gold": 3}], "row 2: by is nan"),
        ([*ROWS, {"text": "c", "by": None, "gold": 3}], "row 2: by is None"), ([*ROWS, {"text": "c", "by": "g", "gold": np.float32("nan")}], "row 2: gold is nan"),
        ([*ROWS, {"text": "a", "by": "z", "gold": 3}], "examples 0 and 2 have the same values"),
    ],
    ids=str,
)  # fmt: skip
def test_a_table_that_cannot_be_used_is_refused_with_the_row_and_the_column(rows, why):
    with pytest.raises(InputError, match=why):
        made(rows, outputs=["gold"])


@pytest.mark.parametrize("variables", [(), "text"])
def test_variables_are_a_list_of_columns(variables):
    with pytest.raises(InputError, match="variables is a list of column names"):
        examples.of_rows(ROWS, variables=variables, group="by", read=read_label, metric=METRIC)


# --- splits -----------------------------------------------------------------------------------------------------------


shares = st.tuples(st.floats(0.05, 0.9), st.floats(0.05, 0.9)).filter(lambda pair: sum(pair) < 0.97)


@settings(max_examples=200, deadline=None)
@given(st.lists(st.integers(1, 9), min_size=3, max_size=12), shares, st.integers(0, 99))
def test_a_split_shares_no_group_loses_nothing_and_comes_near_the_shares(sizes, wanted, seed):
    found = made(table(*sizes))
    split = found.split(train=wanted[0], dev=wanted[1], seed=seed)
    groups = [{row.group for row in part} for part in split]
    assert all(groups) and not groups[0] & groups[1] and not groups[1] & groups[2] and not groups[0] & groups[2]
    assert sorted(row.id for part in split for row in part) == sorted(row.id for row in found)
    ids = [[row.id for row in part] for part in split]
    assert all(part == [row.id for row in found if row.id in set(part)] for part in ids)  # in their order
    again = found.split(train=wanted[0], dev=wanted[1], seed=seed)
    assert [part.sha256 for part in split] == [part.sha256 for part in again]
    # A cut is off by half a group at most, unless a part would be empty.
    if min(*wanted, 1 - sum(wanted)) * len(found) > 1.5 * max(sizes):
        assert abs(len(split.train) - wanted[0] * len(found)) <= max(sizes) / 2
        assert abs(len(split.train) + len(split.dev) - sum(wanted) * len(found)) <= max(sizes) / 2


def test_shares_are_of_rows_and_not_of_groups():
    found = made(table(*[1] * 60, *[30] * 6))
    sizes = np.array([[len(part) for part in found.split(seed=seed)] for seed in range(40)]) / len(found)
    assert np.abs(sizes - [0.4, 0.3, 0.3]).max() < 30 / 240 + 1e-9
    assert np.abs(sizes.mean(axis=0) - [0.4, 0.3, 0.3]).max() < 0.03


def test_another_seed_is_another_split_and_every_group_comes_to_every_part():
    found = made(table(*[2] * 8))
    homes = defaultdict(set)
    for seed in range(40):
        for name, part in zip(("train", "dev", "held out"), found.split(seed=seed), strict=True):
            assert part.name == f"examples, {name}"
            for row in part:
                homes[row.group].add(name)
    assert set(map(len, homes.values())) == {3}


def test_a_split_does_not_depend_on_the_order_of_rows():
    rows = table(3, 1, 4, 1, 5)
    one, other = made(rows).split(), made(rows[::-1]).split()
    assert [{row.id for row in part} for part in one] == [{row.id for row in part} for part in other]


@pytest.mark.parametrize(
    "wanted",
    [(0, 0.3), (0.4, 0), (-0.1, 0.3), (0.7, 0.3), (1.2, 0.3), (0.5, 0.6), (float("nan"), 0.3), (0.4, float("nan"))],
)
def test_shares_that_leave_a_part_empty_are_refused(wanted):
    with pytest.raises(InputError, match=f"train={wanted[0]}, dev={wanted[1]}"):
        made(table(1, 1, 1, 1)).split(train=wanted[0], dev=wanted[1])


@pytest.mark.parametrize("sizes", [(), (9,), (5, 5)])
def test_less_than_three_groups_cannot_be_split(sizes):
    found = made(table(*sizes)) if sizes else made(table(1))[:0]
    with pytest.raises(InputError, match=f"of {len(sizes)} groups? cannot be split in three.*Give 3 groups"):
        found.split()


def test_three_groups_are_enough_whatever_their_sizes():
    for sizes in ((1, 1, 1), (1, 1, 97), (97, 1, 1)):
        assert all(len(part) for part in made(table(*sizes)).split(train=0.01, dev=0.01))


def test_a_split_of_ones_own_is_refused_when_it_leaks_or_lacks_a_part():
    found = made(table(2, 2, 2))
    assert isinstance(Split(found[:2], found[2:4], found[4:]), Split)
    with pytest.raises(InputError, match="group g1 is in dev and in held_out"):
        Split(found[:2], found[2:3], found[3:])
    with pytest.raises(InputError, match="dev is empty"):
        Split(found[:2], found[:0], found[4:])


def test_a_split_of_ones_own_is_refused_when_an_input_is_in_two_parts_under_other_groups():
    """The same text on two pages: what was learnt of it in train would be tested on held-out pages."""
    copied = made([{"text": "0 0", "by": "g7"}, {"text": "0 1", "by": "g8"}, {"text": "new", "by": "g9"}])
    found = made(table(2, 2))
    with pytest.raises(InputError, match=r"2 inputs of held_out are in train too\. Leave them out of one of the two"):
        Split(found[:2], found[2:], copied)
    with pytest.raises(InputError, match="2 inputs of dev are in train too"):
        Split(found[:2], copied, found[2:])
    assert len(Split(found[:2], found[2:], copied[2:]).held_out) == 1


def test_a_split_of_ones_own_is_refused_when_a_part_is_read_or_scored_otherwise():
    found = made(table(2, 2, 2))
    harder = replace(found[2:4], metric=Metric({"length_fits": length_fits}, {"length_fits": 2.0}))
    with pytest.raises(InputError, match=r"dev is read or scored otherwise than train\. Make all three by"):
        Split(found[:2], harder, found[4:])
    other = replace(found[4:], read=lambda example, fields: Label(example.values["text"], "x"))
    with pytest.raises(InputError, match="held_out is read or scored otherwise than train"):
        Split(found[:2], found[2:4], other)


def test_a_split_says_how_large_its_parts_are():
    found = made(table(2, 2, 2))
    assert repr(Split(found[:2], found[2:4], found[4:])) == (
        "Split(2 examples of 1 group to train on, 2 examples of 1 group for dev, 2 examples of 1 group held out)"
    )


def test_the_bundled_documents_split_into_parts_that_can_be_used(bundled):
    split = examples.rag_question(bundled, count=120).split()
    assert [abs(len(part) / 120 - share) < 0.05 for part, share in zip(split, (0.4, 0.3, 0.3), strict=True)] == [
        True
    ] * 3
    assert all(len({row.group for row in part}) >= 8 for part in split)
