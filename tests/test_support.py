"""Support: a score of shared words that says no more than it sees, and ancestries that are followed to their end."""

from dataclasses import replace

import pytest

from workbench import generate, llm
from workbench.corpus import Corpus
from workbench.quality import support
from workbench.records import Instruction, Passage, Persona, Provenance, Span

SOURCE = "The leaves dry within 2.5 hours, so water Tomatoes in the morning. Basil needs 4 hours."


@pytest.mark.parametrize(
    ("answer", "score"),
    [
        ("Leaves dry within 2.5 hours.", 1.0),
        ("tomatoes", 1.0),
        ("Tomatoes and pears", 0.5),
        ("pears", 0.0),
        ("2.5", 1.0),
        ("2", 0.0),  # 2.5 is one number, and not a 2
        ("morning morning morning pears", 0.5),  # each word counts once
        ("of the and it is", None),
        ("", None),
        ("...", None),
    ],
)
def test_lexical_support_is_the_share_of_content_words_in_the_source(answer, score):
    assert support.lexical_support(answer, SOURCE) == score


def test_lexical_support_does_not_see_a_denied_or_exchanged_claim():
    """As its docstring says; whoever needs more needs another check."""
    assert support.lexical_support("The leaves do not dry.", SOURCE) == 1.0
    assert support.lexical_support("The leaves dry within 4 hours.", SOURCE) == 1.0


def test_an_empty_source_supports_nothing():
    assert support.lexical_support("leaves", "") == 0.0


# --- the ancestry of real rows ----------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def made(bundled, tmp_path_factory):
    out = tmp_path_factory.mktemp("made")
    ledger = llm.Ledger(llm.Offline(), out / "ledger.sqlite")
    data = generate.from_documents(bundled, out=out, client=ledger, settings=generate.Settings(rows=40, personas=4))
    return data, [*data.documents, *data.personas], ledger


def reasons(records, known, ledger):
    return support.traced(records, among=known, ledger=ledger).by_reason()


def test_every_row_that_the_main_job_makes_is_traced(made):
    data, known, ledger = made
    kinds = {(row.is_answerable, row.persona is not None) for row in data.records}
    assert kinds == {(True, True), (False, True)}
    assert reasons([*data.records, *data.personas, *data.documents], known, ledger) == {}


def moved(span, by=1):
    return replace(span, start=span.start + by, end=span.end + by)


FALSIFIED = {
    "span of the passage": (
        lambda row: replace(row, passage=replace(row.passage, span=moved(row.passage.span))),
        "span",
    ),
    "span of the evidence": (lambda row: replace(row, evidence_span=moved(row.evidence_span, -1)), "span"),
    "text of the evidence": (lambda row: replace(row, evidence=row.evidence + " too"), "span"),
    "span of a negative": (
        lambda row: replace(row, negatives=(replace(row.negatives[0], span=moved(row.negatives[0].span)),)),
        "span",
    ),
    "a document that is not there": (lambda row: replace(row, passage=Passage("x", Span("f" * 24, 0, 1))), "no_parent"),
    "question": (lambda row: replace(row, question=row.question + " Really?"), "not_answered"),
    "answer": (lambda row: replace(row, answer="Forty-two, of course."), "not_answered"),
    "model": (lambda row: origin(row, model="famous-405b"), "another_model"),
    "a request of nowhere": (lambda row: origin(row, requests=("0" * 24,)), "not_in_ledger"),
    "no request": (lambda row: origin(row, requests=()), "no_request"),
    "another source": (lambda row: origin(row, source=moved(row.provenance.source, -1)), "span"),
    "a parent of nowhere": (lambda row: origin(row, parents=(*row.provenance.parents, "f" * 24)), "no_parent"),
}


def origin(row, **changes):
    return replace(row, provenance=replace(row.provenance, **changes))


@pytest.mark.parametrize("what", FALSIFIED)
def test_a_falsified_row_fails_for_its_reason(made, what):
    data, known, ledger = made
    falsify, reason = FALSIFIED[what]
    row = next(
        row
        for row in data.records
        if row.is_answerable and row.passage.span.start > 1 and row.evidence_span.start > 1 and row.negatives
    )
    assert reasons([falsify(row)], known, ledger) == {reason: 1}


def test_the_requests_of_another_row_hold_another_passage(made):
    data, known, ledger = made
    rows = [row for row in data.records if row.is_answerable]
    one, other = rows[0], next(row for row in rows if row.passage != rows[0].passage)
    assert reasons([origin(one, requests=other.provenance.requests)], known, ledger) == {"not_asked": 1}


def test_a_persona_whose_source_was_never_sent_fails(made):
    data, known, ledger = made
    persona = data.personas[0]
    source = persona.provenance.source
    for other in (moved(source, 50), replace(source, end=source.start)):
        assert reasons([origin(persona, source=other)], known, ledger) == {"not_asked": 1}


def test_a_row_fails_with_its_parent(made):
    data, known, ledger = made
    persona = data.personas[0]
    false_persona = origin(persona, model="famous-405b")
    row = next(row for row in data.records if persona.id in row.provenance.parents)
    others = [record for record in known if record is not persona]
    verdicts = support.traced([row], among=[*others, false_persona], ledger=ledger)
    assert verdicts.by_reason() == {"parent": 1} and f"{persona.id}: another_model" in verdicts[0].detail


def test_a_row_without_its_parents_at_hand_is_not_passed(made):
    data, _, ledger = made
    assert reasons(data.records[:1], data.personas, ledger) == {"no_parent": 1}


def test_records_of_several_kinds_get_one_verdict_an_id_and_given_ones_pass(tmp_path):
    ledger = llm.Ledger(llm.Offline(), tmp_path / "ledger.sqlite")
    given = Instruction("Sort these.")
    verdicts = support.traced(
        [given, given, Persona("A baker.", provenance=Provenance("persona", model="m"))], among=[], ledger=ledger
    )
    assert [(v.passed, v.reason, v.check) for v in verdicts] == [(True, "", "traced"), (False, "no_request", "traced")]
    assert len(support.traced([], among=[], ledger=ledger)) == 0


def test_words_that_json_escapes_are_found_in_a_json_answer(made):
    assert 'said "no"' in support._plain('{"persona": "A cook who said \\"no\\"", "age": 3}')
    assert support._plain("{broken") == "{broken" and support._plain("[1]") == "[1]"


def test_the_rank_is_the_place_of_the_rows_own_passage(bundled, made):
    data, _, _ = made
    corpus = Corpus.of(bundled)
    row = next(row for row in data.records if row.is_answerable)
    found = corpus.search(row.question, 10)
    for place, chunk in enumerate(found, 1):
        assert support.passage_rank(replace(row, passage=chunk.passage), corpus) == place
    assert support.passage_rank(replace(row, passage=found[2].passage), corpus, depth=2) is None
    assert support.passage_rank(replace(row, question="zzz qqq"), corpus) is None
