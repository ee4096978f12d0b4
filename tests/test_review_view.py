"""A review in the notebook: each answer is in the table at once, what models wrote is text, and keys do what plain calls do."""

import re
import sys
import time
from datetime import UTC, datetime, timedelta

import pytest

from tests import kinds, lab
from workbench import widgets
from workbench.errors import InputError, MissingLibrary, StoreError
from workbench.records import (
    QA,
    ImagePair,
    Instruction,
    Label,
    Passage,
    Preference,
    Provenance,
    Rating,
    Span,
    Verdict,
    Vote,
)
from workbench.review import Suggestion, agreement, questions, sampling
from workbench.review.questions import Question
from workbench.review.responses import Response, Responses

pytest.importorskip("anywidget", reason="needs anywidget: pip install -e .[notebook]")

LONG = "\n".join(f"Line {at} of a passage. {kinds.EVIL}" for at in range(200))
ALL_KINDS = (
    Question("good", "Is it good?", "label", ("yes", "no")),
    Question("useful", "How useful?", "rating", ("1", "2", "3", "4", "5")),
    Question("topics", "About what?", "multi_label", ("law", "tax", "work"), is_required=False),
    Question("order", "Which first?", "ranking", ("a", "b", "c"), is_required=False),
    Question("why", "Why?", "text", is_required=False),
)


def qas(count=4):
    texts = (f"Question {{}}? {kinds.EVIL}", f"Answer {{}}. {kinds.EVIL}", LONG)
    return [
        QA(texts[0].format(at), texts[1].format(at), "Line 1", Passage(texts[2], Span("d", 0, 10)))
        for at in range(count)
    ]


@pytest.fixture
def out(tmp_path):
    return tmp_path / "review" / "answers.parquet"


def view_of(records, out, **options):
    return widgets.review(records, out=out, **{"annotator": "ann"} | options)


def saved(out):
    """{(place, question): (value, status)} as another session reads the file."""
    return {(each.record_id, each.question): (each.value, each.status) for each in Responses.load(out)}


def press(view, do, record=None, **more):
    """What the page sends for a key or a button, about the record that it shows."""
    view.page._handle_custom_msg({"do": do, "record": record or view.page.state["record"], **more}, [])


# --- answers


def test_each_answer_is_in_the_file_at_once_as_a_draft_and_submitted_with_the_others(out):
    records = qas()
    view = view_of(records, out)
    assert not out.exists() and view.progress == (0, 4)
    view.answer("supported", "yes")
    assert saved(out) == {(records[0].id, "supported"): ("yes", "draft")} and view.status(records[0]) == "draft"
    view.answer("correct", "no")
    with pytest.raises(InputError, match=r"useful: not answered yet\. Answer, or discard the record"):
        view.submit()
    view.answer("useful", "yes")
    view.submit()
    assert set(saved(out).values()) == {("yes", "submitted"), ("no", "submitted")} and len(saved(out)) == 3
    assert view.at == 1 and view.progress == (1, 4) and view.status(records[0]) == "submitted"
    (first, *_) = view.responses
    assert (first.annotator, first.source) == ("ann", "notebook")
    assert abs(datetime.now(UTC) - datetime.fromisoformat(first.at)) < timedelta(minutes=1)
    assert list(view.responses) == list(Responses.load(out))


def test_a_record_that_cannot_be_judged_is_discarded_as_on_the_server(out):
    records = qas(2)
    view = view_of(records, out)
    view.answer("supported", "yes")
    view.discard()
    names = [each.name for each in questions.of(QA)]
    assert saved(out) == {(records[0].id, name): (None, "discarded") for name in names}
    assert view.at == 1 and view.progress == (1, 2)
    view.previous()
    view.answer("correct", "yes")  # it is looked at again
    wanted = {(records[0].id, name): (None, "draft") for name in names} | {(records[0].id, "correct"): ("yes", "draft")}
    assert saved(out) == wanted and view.status(records[0]) == "draft"


def test_all_kinds_of_answers_are_kept_as_they_are_and_checked(out):
    record = Instruction("do", output="done")
    view = view_of([record], out, questions=ALL_KINDS)
    for name, value in (
        ("good", "yes"), ("useful", 4), ("topics", ["work", "law"]), ("order", ("b", "a")), ("why", f" {kinds.EVIL}\n"),
    ):  # fmt: skip
        view.answer(name, value)
    with pytest.raises(InputError, match="order: all options are to be ranked"):
        view.submit()
    view.answer("order", ("b", "a", "c"))
    view.submit()
    assert {name: value for (_, name), value in saved(out).items()} == {
        "good": ("yes", "submitted"), "useful": (4, "submitted"), "topics": (("law", "work"), "submitted"),
        "order": (("b", "a", "c"), "submitted"), "why": (f" {kinds.EVIL}\n", "submitted"),
    }  # fmt: skip
    before = list(view.responses)
    for name, value in (
        ("good", "maybe"), ("good", 1), ("useful", "4"), ("useful", 6), ("useful", 2.5), ("useful", True), ("topics", ("law", "art")),
        ("topics", ("law", "law")), ("topics", ()), ("order", ("a", "z")), ("why", " "), ("why", 3), ("good", ["yes"]),
    ):  # fmt: skip
        with pytest.raises(InputError, match="is no answer to"):
            view.answer(name, value)
    with pytest.raises(InputError, match="'better' is not asked; good, useful, topics, order, why are"):
        view.answer("better", "first")
    assert list(view.responses) == before == list(Responses.load(out))


def test_an_answer_that_is_changed_stands_and_one_that_is_taken_back_opens_the_record_again(out):
    record = Instruction("do", output="done")
    view = view_of([record], out, questions=ALL_KINDS)
    for name, value in (("good", "yes"), ("useful", 4), ("topics", ("law",))):
        view.answer(name, value)
    view.submit()
    view.answer("good", "no")
    assert saved(out)[record.id, "good"] == ("no", "submitted") and view.progress == (1, 1)
    view.answer("topics", None)  # which may be left open
    assert saved(out)[record.id, "topics"] == (None, "draft") and view.status(record) == "submitted"
    view.answer("good", None)
    assert view.status(record) == "draft" and {status for _, status in saved(out).values()} == {"draft"}
    assert len(Responses.load(out).submitted) == 0 and view.progress == (0, 1)


# --- undo


def test_undo_takes_back_one_thing_after_the_other_and_goes_where_it_was(out):
    records = qas(3)
    view = view_of(records, out)
    for name in ("supported", "correct", "useful"):
        view.answer(name, "yes")
    view.submit()
    view.discard()
    assert view.at == 2
    view.undo()
    assert view.at == 1 and view.status(records[1]) == ""
    view.undo()
    assert view.at == 0 and view.status(records[0]) == "draft"
    view.undo()
    assert saved(out)[records[0].id, "useful"] == (None, "draft") and saved(out)[records[0].id, "correct"] == (
        "yes",
        "draft",
    )
    view.answer("correct", "no")
    view.undo()
    assert saved(out)[records[0].id, "correct"] == ("yes", "draft")
    view.undo()
    view.undo()
    assert {value for value, _ in saved(out).values()} == {None} and view.progress == (0, 3)
    with pytest.raises(InputError, match="nothing was said here"):
        view.undo()


def test_what_changes_nothing_is_nothing_to_take_back(out):
    view = view_of(qas(2), out)
    view.answer("supported", "yes")
    view.answer("supported", "yes")
    view.undo()
    with pytest.raises(InputError, match="nothing was said here"):
        view.undo()


def test_what_was_taken_back_stays_so_when_tables_are_merged(out):
    """An earlier copy of the table, merged in later, has the answer still; undoing it came after."""
    records = qas(2)
    view = view_of(records, out)
    view.answer("supported", "yes")
    copy = Responses.load(out)
    view.undo()
    merged = Responses.load(out).merge(copy)
    assert [(each.value, each.status) for each in merged] == [(None, "draft")] and len(merged.submitted) == 0


# --- one table


def test_another_session_goes_on_where_one_was(out):
    records = qas(4)
    view = view_of(records, out)
    for at in (0, 2):
        view.go(at)
        for name in ("supported", "correct", "useful"):
            view.answer(name, "no")
        view.submit()
    view.go(1)
    view.answer("correct", "yes")
    again = view_of(records, out)
    assert again.at == 1 and again.progress == (2, 4)
    state = again.page.state
    assert [each["value"] for each in state["questions"]] == [None, "yes", None] and state["status"] == "draft"
    with pytest.raises(InputError, match="nothing was said here"):
        again.undo()  # of this session
    assert view_of(records, out, annotator="ben").progress == (0, 4)
    more = view_of([*records, *qas(6)], out)  # the same records are the same, in whatever set
    assert more.progress == (2, 6) and len(more.records) == 6


def test_when_all_are_done_that_is_said(out):
    records = qas(2)
    view = view_of(records, out)
    view.discard()
    view.discard()
    assert view.at == 1 and view.page.state["said"].startswith("All 2 records are done.")
    assert view_of(records, out).page.state["said"].startswith("All 2 records are done.")


def test_answers_of_others_in_the_table_stay_and_what_another_notebook_writes_meanwhile_too(out):
    records = qas(2)
    pulled = Response(records[0].id, "supported", "no", "ben", "submitted", "2026-01-01T00:00:00+00:00", "argilla")
    out.parent.mkdir()
    Responses((pulled,)).save(out)
    ann, cem = view_of(records, out), view_of(records, out, annotator="cem")
    ann.answer("supported", "yes")
    cem.answer("supported", "no")
    ann.answer("correct", "yes")
    found = {(each.annotator, each.question): each.value for each in Responses.load(out)}
    assert found == {
        ("ben", "supported"): "no",
        ("ann", "supported"): "yes",
        ("cem", "supported"): "no",
        ("ann", "correct"): "yes",
    }
    assert {each.annotator for each in ann.responses} == {"ann", "ben", "cem"}
    # Even where somebody puts an older table in its place, what was said here is in the next one.
    Responses((pulled,)).save(out)
    ann.answer("useful", "yes")
    assert {(each.annotator, each.question) for each in Responses.load(out)} == {
        ("ben", "supported"), ("ann", "supported"), ("ann", "correct"), ("ann", "useful"),
    }  # fmt: skip


def test_an_answer_takes_the_place_of_one_that_a_clock_ahead_wrote(out):
    record = qas(1)[0]
    later = (datetime.now(UTC) + timedelta(hours=5)).isoformat()
    out.parent.mkdir()
    Responses((Response(record.id, "supported", "no", "ann", "submitted", later, "argilla"),)).save(out)
    view = view_of([record], out)
    view.answer("supported", "yes")
    assert saved(out)[record.id, "supported"] == ("yes", "submitted")


def test_what_cannot_be_saved_was_not_said(out, monkeypatch):
    record = qas(1)[0]
    view = view_of([record], out)
    view.answer("supported", "yes")

    def full(*_):
        raise StoreError("cannot write answers.parquet: No space left on device. Free some space and run again.")

    with monkeypatch.context() as patch:
        patch.setattr(Responses, "save", full)
        with pytest.raises(StoreError, match="No space left"):
            view.answer("correct", "yes")
        press(view, "answer", question="correct", value="yes")
        assert view.page.state["wrong"] and "No space left" in view.page.state["said"]
        assert [each["value"] for each in view.page.state["questions"]] == ["yes", None, None]
        with pytest.raises(StoreError):
            view.undo()
    assert saved(out) == {(record.id, "supported"): ("yes", "draft")} and len(view.responses) == 1
    view.undo()
    assert saved(out) == {(record.id, "supported"): (None, "draft")}


def test_what_is_given_must_be_reviewable(out, tmp_path):
    with pytest.raises(InputError, match="no records to look at"):
        view_of([], out)
    with pytest.raises(InputError, match="an annotator has a name"):
        view_of(qas(1), out, annotator=" ")
    with pytest.raises(InputError, match="there are no questions about a Rating"):
        view_of([Rating("x", "y", 1)], out)
    with pytest.raises(InputError, match="questions need names of their own"):
        view_of(qas(1), out, questions=[ALL_KINDS[0]] * 2)
    with pytest.raises(StoreError, match="is a folder"):
        view_of(qas(1), tmp_path)
    (tmp_path / "x.parquet").write_bytes(b"PAR1")
    with pytest.raises(StoreError, match="is no whole Parquet file"):
        view_of(qas(1), tmp_path / "x.parquet")
    view = view_of(qas(2), out)
    for place in (2, -1, "unknown"):
        with pytest.raises(InputError, match="there is no record"):
            view.go(place)


# --- what is shown


def test_texts_reach_the_page_as_they_are_and_long_ones_are_folded(out):
    view = view_of(qas(1), out)
    fields = {each["name"]: each for each in view.page.state["fields"]}
    assert list(fields) == ["question", "answer", "evidence", "passage"]
    assert fields["question"]["text"] == f"Question 0? {kinds.EVIL}" and not fields["question"]["folds"]
    assert fields["passage"]["folds"] and fields["passage"]["text"] == LONG and fields["passage"]["length"] == len(LONG)
    huge = view_of([Instruction("x" * 250_000)], out)
    field = huge.page.state["fields"][0]
    assert len(field["text"]) < 100_100 and field["text"].endswith("(the first 100,000 of 250,000 characters)")
    assert huge.page.state["fields"][-1] == {"name": "output", "text": None, "wide": True}


def test_two_texts_to_compare_stand_in_the_order_that_everybody_sees_and_votes_name_them(out):
    pairs = [Preference(f"ask {at}", f"good {at}", f"bad {at}") for at in range(6)]
    view = view_of(pairs, out, questions=questions.of(Preference)[:1])
    for _ in pairs:
        fields = {each["name"]: each for each in view.page.state["fields"]}
        assert [fields[name]["wide"] for name in ("prompt", "first", "second")] == [True, False, False]
        view.answer("better", "first" if fields["first"]["text"].startswith("good") else "second")
        view.submit()
    votes = view.responses.votes(pairs)
    good = [Instruction(pair.prompt, output=pair.chosen).id for pair in pairs]
    assert [vote.first if vote.winner == "first" else vote.second for vote in votes] == good
    assert len({vote.winner for vote in votes}) == 2


def test_what_is_asked_for_is_not_told(out):
    asked = questions.classes(["law", "tax"])
    fields = view_of([Label("a text", "tax")], out, questions=asked).page.state["fields"]
    assert [each["name"] for each in fields] == ["text"]


def test_suggestions_are_beside_the_questions_but_not_in_a_calibration(out):
    records = qas(2)
    rows = [
        Suggestion(records[0].id, "useful", "no", "judge-1"), Verdict(records[0].id, "supported", True),
        Rating(records[1].id, "quality", 4, "judge-1"),
    ]  # fmt: skip
    asked = view_of(records, out, suggestions=rows).page.state["questions"]
    assert [each["suggestion"] for each in asked] == [
        {"value": "yes", "agent": "supported"}, None, {"value": "no", "agent": "judge-1"},
    ]  # fmt: skip
    assert [each["value"] for each in asked] == [None] * 3  # nothing is answered by itself
    sample = sampling.by_ids(records, [record.id for record in records])
    assert view_of(sample, out, suggestions=rows).page.state["questions"][0]["suggestion"]
    hidden = view_of(sample.for_calibration(), out, suggestions=rows).page.state["questions"]
    assert [each["suggestion"] for each in hidden] == [None] * 3
    pair = Preference("ask", "good", "bad")
    first, second = questions.text_ids(pair)
    asked = view_of([pair], out, suggestions=[Vote(second, first, "first", "judge-1")]).page.state["questions"]
    assert asked[0]["suggestion"] == {"value": "second", "agent": "judge-1"}


def test_images_are_in_the_page_itself_and_one_that_is_not_there_is_said(out, tmp_path):
    png = tmp_path / "a.png"
    png.write_bytes(b"\x89PNG\r\n\x1a\n" + b"0" * 20)
    pair = ImagePair("draw", str(png), str(tmp_path / "gone.png"))
    fields = {each["name"]: each for each in view_of([pair], out).page.state["fields"]}
    shown, gone = sorted((fields["first"], fields["second"]), key=lambda each: "image" not in each)
    assert shown["image"].startswith("data:image/png;base64,") and "cannot be read" in gone["text"]


def test_the_view_says_of_itself_how_far_one_is(out):
    view = view_of(qas(4), out)
    view.answer("supported", "yes")
    view.next()
    view.discard()
    assert repr(view) == f"Review of 4 QA by ann: 0 submitted, 1 discarded, 1 draft, 2 to do; saved in {out.name}"
    bundle = view._repr_mimebundle_()
    assert bundle["text/plain"] == repr(view) and "application/vnd.jupyter.widget-view+json" in bundle


# --- keys and buttons


def test_messages_of_the_page_do_what_the_plain_calls_do(out):
    records = qas(3)
    view = view_of(records, out)
    for name in ("supported", "correct", "useful"):
        press(view, "answer", question=name, value="yes")
    press(view, "submit")
    press(view, "discard")
    press(view, "undo")
    press(view, "previous")
    press(view, "next")
    assert view.at == 1 and view.progress == (1, 3) and {value for value, _ in saved(out).values()} == {"yes", None}
    press(view, "submit")
    assert view.page.state["wrong"] and view.page.state["said"].startswith(
        "supported, correct, useful: not answered yet"
    )
    press(view, "answer", question="supported", value=["yes"])
    assert view.page.state["wrong"] and "is no answer" in view.page.state["said"]
    press(view, "answer", question="supported", value={"a": 1})
    assert view.page.state["wrong"]
    for verb in ("save", "go", "__init__", None):
        press(view, verb)
    assert view.at == 1 and not view.page.state["questions"][0]["value"]


def test_an_answer_to_a_record_that_is_gone_from_the_page_is_not_given_to_the_next_one(out):
    records = qas(3)
    view = view_of(records, out)
    press(view, "answer", record=records[2].id, question="supported", value="yes")
    press(view, "submit", record=records[1].id)
    press(view, "discard", record=records[1].id)
    assert view.page.state["wrong"] and "too fast" in view.page.state["said"] and not out.exists() and view.at == 0


@pytest.mark.parametrize("library", ["anywidget", "traitlets"])
def test_without_the_notebook_extra_the_review_says_what_to_install(out, library, monkeypatch):
    widgets.review_view._page.cache_clear()
    monkeypatch.setitem(sys.modules, library, None)
    with pytest.raises(MissingLibrary, match=rf"'{library}' is not installed\. It comes with the 'notebook' extra"):
        view_of(qas(1), out)


def test_two_reviews_of_one_set_are_measured_and_settled_together(out):
    pairs = [Preference(f"ask {at}", f"good {at}", f"bad {at}", provenance=Provenance("given")) for at in range(10)]
    asked = questions.of(Preference)[:1]
    for person, odd in (("ann", 3), ("ben", 7)):
        view = view_of(pairs, out, annotator=person, questions=asked)
        for at in range(10):
            view.answer("better", "second" if at >= odd else "first")
            view.submit()
    found = agreement.measure(view.responses, questions=asked).of("better")
    # Alike on 0 to 2 and 7 to 9. By chance 0.3 x 0.7 + 0.7 x 0.3 = 0.42, so kappa is (0.6 - 0.42) / 0.58.
    assert found.same.value == 0.6 and found.kappa.value == pytest.approx(0.18 / 0.58)
    assert agreement.adjudication(view.responses).of(pairs) == pairs[3:7]
    zoe = view_of(
        agreement.adjudication(view.responses).of(pairs),
        out.with_name("decided.parquet"),
        annotator="zoe",
        questions=asked,
    )
    for _ in range(4):
        zoe.answer("better", "tie")
        zoe.submit()
    settled = agreement.consensus(view.responses, decided=zoe.responses)
    assert [each.value for each in settled] == ["first"] * 3 + ["tie"] * 4 + ["second"] * 3 and not settled.ties


# --- in JupyterLab

CELLS = [
    """from tests.test_review_view import qas, ALL_KINDS, Suggestion
from workbench import widgets
records = qas(4)
suggestions = [Suggestion(records[0].id, "useful", 4, "judge-1"), Suggestion(records[0].id, "good", "no", "judge-1")]
view = widgets.review(records, out="answers.parquet", annotator="ann", questions=ALL_KINDS, suggestions=suggestions)
view""",
    "print([(each.question, each.value, each.status) for each in view.responses], view.progress, view.at)",
    """from workbench.records import Preference
pairs = [Preference("Which city is the capital of Australia, and why was it chosen over the two larger ones?", "Canberra. " * 60, "Sydney.")]
widgets.review(pairs, out="pairs.parquet", annotator="ann")""",
]


@lab.needs_browser
def test_in_jupyterlab_records_are_answered_by_keys_and_clicks(tmp_path):
    with lab.jupyterlab(tmp_path / "home") as jupyter, lab.browser(height=1300) as page:
        notebook = jupyter.open(page, "review", CELLS)
        notebook.run(0)
        drawn = notebook.cell(0)
        box = drawn.locator(".sdw-review")
        box.wait_for(timeout=30_000)
        assert box.locator(".fields img, script").count() == 0 and kinds.EVIL in box.locator(".text").first.inner_text()
        folded = box.get_by_role("button", name=re.compile("show all .* characters"))
        passage = box.locator(".text.folded")
        short = passage.bounding_box()["height"]
        page.screenshot(path=tmp_path / "1-light.png")
        folded.click()
        assert box.locator(".text").last.bounding_box()["height"] > 5 * short
        box.get_by_role("button", name="show less").click()

        # All by keys, from the first answer to the next record: no cell is run, cut or added by them.
        box.get_by_text("1 of 4").click()
        says = lambda text: box.get_by_role("status").get_by_text(text).wait_for(timeout=10_000)
        pressed = lambda name: box.get_by_role("button", name=name, exact=True, pressed=True)
        page.keyboard.press("Shift+Enter")
        says("good, useful: not answered yet")
        assert notebook.outputs(0)[0]["execution_count"] == 1 and notebook.outputs(1) == []
        # As fast as a person never types: good, useful, two topics, three places.
        for key in ("1", "4", "1", "3", "ArrowDown", "2", "1", "3", "ArrowDown"):
            page.keyboard.press(key)
        for name in ("1yes", "4", "1law", "3work", "2b (place 1)", "1a (place 2)", "3c (place 3)"):
            pressed(name).wait_for(timeout=10_000)
        assert page.evaluate("document.activeElement.tagName") == "TEXTAREA"
        page.keyboard.type(f"just because {kinds.EVIL}")
        page.screenshot(path=tmp_path / "2-answered.png")
        page.keyboard.press("Control+Enter")
        box.get_by_text("2 of 4").wait_for(timeout=10_000)
        notebook.run(1)
        notebook.wait_for(1)
        said = notebook.outputs(1)[0]["text"]
        assert said.startswith(
            "[('good', 'yes', 'submitted'), ('useful', 4, 'submitted'), ('topics', ('law', 'work'), 'submitted')"
        )
        assert (
            "('order', ('b', 'a', 'c'), 'submitted')" in said
            and f"just because {kinds.EVIL}" in eval(said.split("] (")[0] + "]")[4][1]
        )
        assert said.endswith("(1, 4) 1\n")

        box.get_by_text("2 of 4").click()
        page.keyboard.press("s")
        box.get_by_text("3 of 4").wait_for(timeout=10_000)
        page.keyboard.press("k")
        box.get_by_text("discarded", exact=True).wait_for(timeout=10_000)
        page.keyboard.press("j")
        box.get_by_text("3 of 4").wait_for(timeout=10_000)
        page.keyboard.press("u")
        box.get_by_text("2 of 4").wait_for(timeout=10_000)
        says("taken back")
        box.get_by_role("button", name="2no", exact=True).click()  # and by clicks
        pressed("2no").wait_for(timeout=10_000)
        box.get_by_role("button", name="Undo").click()
        says("taken back")
        assert pressed("2no").count() == 0
        cells = page.evaluate("window.jupyterapp.shell.currentWidget.content.model.cells.length")
        assert cells == 3 and notebook.outputs(0)[0]["execution_count"] == 1

        # A slow click right after typing is one, though what was typed is saved in between.
        for name in ("1yes", "5"):
            box.get_by_role("button", name=name, exact=True).click()
        box.get_by_label("Why?").last.fill("typed")
        submit = box.get_by_role("button", name="Submit").bounding_box()
        page.mouse.move(submit["x"] + 9, submit["y"] + 9)
        page.mouse.down()
        page.wait_for_timeout(600)
        page.mouse.up()
        box.get_by_text("3 of 4").wait_for(timeout=10_000)
        notebook.run(1)
        notebook.wait_for(1)
        assert "('why', 'typed', 'submitted')" in notebook.outputs(1)[0]["text"]

        # What is being typed is saved, and goes on being typed.
        box.get_by_label("Why?").last.fill("half a")
        deadline, table = time.monotonic() + 10, jupyter.folder / "answers.parquet"
        while "half a" not in [each.value for each in Responses.load(table)]:
            assert time.monotonic() < deadline
            page.wait_for_timeout(50)
        page.wait_for_timeout(500)  # for what the kernel sends back
        page.keyboard.type(" sentence")
        assert box.get_by_label("Why?").last.input_value() == "half a sentence"

        notebook.run(2)
        pair = notebook.cell(2).locator(".sdw-review")
        pair.wait_for(timeout=20_000)
        first, second = (pair.locator(".field").nth(at).bounding_box() for at in (1, 2))
        assert first["y"] == second["y"] and first["x"] < second["x"]
        pair.scroll_into_view_if_needed()
        page.screenshot(path=tmp_path / "3-pair.png")

        lab.darken(page)
        page.screenshot(path=tmp_path / "4-dark.png")
        for part in (pair.locator(".text").first, pair.locator("button").first, pair.locator(".soft").first):
            colour = part.evaluate("part => getComputedStyle(part).color")
            assert min(map(int, re.findall(r"\d+", colour)[:3])) > 150, colour  # light text on dark paper
        assert page.title() != "broken in" and page.outside == []
