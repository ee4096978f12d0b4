"""The map to draw on: what is selected is what Python has, a decision is a verdict at once, and what models wrote is text."""

import html
import json
import re
import sys

import numpy as np
import pyarrow as pa
import pytest

from tests import lab, maps
from tests.test_console import Drawn
from workbench import runner, store, widgets
from workbench.errors import InputError, MissingLibrary, RecordError
from workbench.quality import Verdicts, by_hand, filters
from workbench.records import Verdict
from workbench.runs import Run

EVIL_NAMES = ("x'; DROP TABLE verdict; --", "<img src=x onerror=alert(1)>", '"quoted" {run}', "π 文字", "../a/b")


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    return maps.run(tmp_path_factory.mktemp("run"), 60)


@pytest.fixture
def run(made):
    """The run without a decision, and as another session would open it."""
    for file in made[0].folder.glob("verdicts/*"):
        file.unlink()
    return runner.load(made[0].folder)


@pytest.fixture
def found(made):
    return made[1]


def in_folder(run):
    """(id, check, passed, reason, detail) of every verdict, as SQL sees them in the folder."""
    sql = 'SELECT record_id, "check", passed, reason, detail FROM verdict ORDER BY ALL'
    return [tuple(row.values()) for row in store.query(sql, run=runner.load(run.folder)).to_pylist()]


# --- decisions without a widget


def test_a_drop_is_a_failed_verdict_in_the_folder_and_the_run_keeps_all_others(run, found):
    decided = by_hand.drop(found.ids[:3], run)
    assert in_folder(run) == sorted((each, "by_hand", False, "dropped", "") for each in found.ids[:3])
    assert decided.by_reason() == {"dropped": 3} and repr(decided) == "by_hand: 3 records, 3 failed (3 dropped)"
    assert [record.id for record in run.kept()] == list(found.ids[3:])
    assert runner.load(run.folder).funnel()[-2:] == run.funnel()[-2:] and run.funnel()[-1].count == 57


def test_of_two_decisions_about_a_record_the_later_holds_and_the_others_stay(run, found):
    by_hand.drop(found.ids[:4], run)
    by_hand.keep(found.ids[2:6], runner.load(run.folder))  # another session
    assert {each: passed for each, _, passed, _, _ in in_folder(run)} == {
        each: at >= 2 for at, each in enumerate(found.ids[:6])
    }
    assert len(runner.load(run.folder).kept()) == 58


def test_a_label_fails_nobody_is_replaced_by_the_next_and_stays_beside_keep_and_drop(run, found):
    by_hand.label(found.ids[:3], run, "teacher")
    by_hand.drop(found.ids[:1], run)
    by_hand.label(found.ids[1:2], run, "  nurse ")
    labels = [(each, detail) for each, check, passed, reason, detail in in_folder(run) if check == "by_hand.label"]
    assert labels == sorted(zip(found.ids[:3], ("teacher", "nurse", "teacher"), strict=True))
    assert len(run.kept()) == 59 and not [row for row in in_folder(run) if row[1] == "by_hand.label" and not row[2]]


@pytest.mark.parametrize("name", EVIL_NAMES)
def test_a_label_is_text_whatever_it_says(run, found, name):
    by_hand.label(found.ids[:1], run, name)
    sql = """SELECT record_id FROM verdict WHERE "check" = 'by_hand.label' AND detail = $name"""
    assert store.query(sql, {"name": name}, run=run)["record_id"] == [found.ids[0]]
    assert sorted(file.name for file in (run.folder / "verdicts").iterdir()) == ["by_hand.label.parquet"]


@pytest.mark.parametrize("name", ["", " \n", None, 3])
def test_a_label_that_says_nothing_is_refused(run, found, name):
    with pytest.raises(InputError, match="a label is a text with something in it, got "):
        by_hand.label(found.ids[:1], run, name)
    assert in_folder(run) == []


def test_undo_takes_verdicts_out_of_the_folder_the_last_one_too(run, found):
    by_hand.drop(found.ids[:2], run)
    by_hand.label(found.ids[:2], run, "a")
    assert len(by_hand.undo(found.ids[:1], run)) == 2
    assert in_folder(run) == [
        (found.ids[1], "by_hand", False, "dropped", ""),
        (found.ids[1], "by_hand.label", True, "", "a"),
    ]
    assert by_hand.undo(found.ids, runner.load(run.folder)) == Verdicts((), "by_hand")
    assert in_folder(run) == [] and not list((run.folder / "verdicts").iterdir())
    assert runner.load(run.folder).verdicts == [] and len(runner.load(run.folder).kept()) == 60


def test_the_run_at_hand_sees_an_undo_too(run, found):
    by_hand.drop(found.ids[:2], run)
    assert len(run.verdicts) == 2
    by_hand.undo(found.ids[:2], run)
    assert run.verdicts == []


def test_undo_can_give_records_what_they_had_before(run, found):
    by_hand.keep(found.ids[:2], run)
    before = by_hand.label(found.ids[:1], run, "teacher")
    by_hand.drop(found.ids[:3], run)
    assert by_hand.undo(found.ids[:3], run, to=before) == before == by_hand.decided(run)
    with pytest.raises(RecordError, match="1 of 2 ids are of no record of this run"):
        by_hand.undo(found.ids[:1], run, to=[Verdict("nobody", "by_hand", True)])


def test_checks_of_others_are_left_alone(run, found):
    run.mark(filters.passing(store.query("SELECT id FROM run LIMIT 5", run=run), run, name="few"))
    by_hand.drop(found.ids[:1], run)
    by_hand.undo(found.ids[:1], run)
    assert {row[1] for row in in_folder(run)} == {"few"} and len(in_folder(run)) == 60
    with pytest.raises(InputError, match="'few' is no decision of a person"):
        by_hand.add(run.verdicts, run)


def test_decisions_about_some_records_do_not_make_a_run_warn_of_the_others(run, found):
    by_hand.drop(found.ids[:1], run)
    assert run.warning == ""
    run.mark([Verdict(found.ids[0], "rules", True)])
    assert run.warning.startswith("59 records were made after the last check")


@pytest.mark.parametrize(
    ("ids", "error", "why"),
    [
        (["nobody"], RecordError, "1 of 1 ids are of no record of this run, such as 'nobody'"),
        ("one", InputError, r"ids are several, got the text 'one'\. Give \['one'\]"),
        ([7], InputError, "the id of a record is a text, got 7"),
        ([None], InputError, "the id of a record is a text, got None"),
    ],
)
def test_what_is_no_id_of_a_record_is_refused_and_nothing_changes(run, found, ids, error, why):
    by_hand.drop(found.ids[:1], run)
    was = in_folder(run)
    for call in (by_hand.keep, by_hand.drop, by_hand.undo, lambda ids, run: by_hand.label(ids, run, "a")):
        with pytest.raises(error, match=why):
            call(ids, run)
    assert in_folder(run) == was


def test_without_a_run_decisions_go_from_call_to_call_and_into_a_folder_later(run, found):
    decisions = by_hand.drop(found.ids[:3], Verdicts())
    decisions = by_hand.keep(found.ids[2:4], decisions)
    decisions = by_hand.label(found.ids[:1], decisions, "teacher")
    decisions = by_hand.undo(found.ids[1:2], decisions)
    assert in_folder(run) == []
    by_hand.keep(found.ids[10:11], run)
    assert len(by_hand.add(decisions, run)) == 5
    assert sorted(map(by_hand.decided(run).items.count, decisions)) == [1] * 4
    assert [record.id for record in run.kept()] == list(found.ids[1:])


# --- the map without a browser


@pytest.fixture
def view(run, found):
    pytest.importorskip("jscatter", reason="needs jupyter-scatter: pip install -e .[notebook]")
    return widgets.map(found, run=run)


def told(view):
    return Drawn(view._said.value).words


def shown(view):
    """The places of the rows that the map shows."""
    hidden = view.scatter.widget.filter
    return list(range(len(view.found))) if hidden is None else hidden.tolist()


def draw(view, places):
    """What the browser says when somebody drew around these rows."""
    view.scatter.widget.selection = np.array(places, np.uint32)


def test_rows_that_are_drawn_around_come_in_the_maps_order_whatever_the_order_of_drawing(view, found):
    draw(view, [30, 2, 17, 2])
    assert view.selection == (found.ids[2], found.ids[17], found.ids[30])
    assert view.selected.column("id").to_pylist() == list(view.selection)
    assert view.selected.column("text").to_pylist() == [found.texts[at] for at in (2, 17, 30)]
    assert "3 of 60 rows selected:" in Drawn(view._count.value).words


def test_rows_that_are_selected_by_id_are_marked_on_the_map_and_shown_beside_it(view, found):
    view.select([found.ids[9], found.ids[4], found.ids[9]])
    assert view.scatter.widget.selection.tolist() == [4, 9] and view.selection == (found.ids[4], found.ids[9])
    assert found.texts[9] in Drawn(view._rows.value).words
    view.select([])
    assert view.selection == () and view.selected.num_rows == 0 and view._rows.value == ""
    assert "No row is selected" in Drawn(view._count.value).words and view.scatter.widget.selection.tolist() == []
    view.select([found.ids[0]])
    assert view.selection == found.ids[:1] and "1 of 60 rows selected:" in Drawn(view._count.value).words
    with pytest.raises(InputError, match=r"1 of 2 ids are not on the map, such as 'nobody'"):
        view.select([found.ids[0], "nobody"])
    assert view.selection == found.ids[:1]


def test_a_long_selection_is_shown_in_part_and_kept_whole(view, found):
    draw(view, range(55))
    assert "55 of 60 rows selected, the first 50:" in Drawn(view._count.value).words
    page = Drawn(view._rows.value)
    assert page.words.count("Text ") >= 50 and "Text 50" not in page.words and len(view.selection) == 55


def test_a_search_is_for_plain_text_in_capitals_or_not_and_never_a_pattern(view, found):
    count = sum("bread" in text for text in found.texts)
    assert view.search("BREAD") == count == len(view.selection) > 0
    assert f"{count} of 60 rows have 'BREAD' in their text." in told(view)
    assert view.search("Text .") == 0 and view.search("(") == 0 and view.selection == ()
    assert view.search("$x$") == sum("$x$" in text for text in found.texts) > 0
    assert view.search(" <script> ") == 12 and "<script>" in told(view) and not Drawn(view._said.value).foreign
    assert view.search("  ") == 0 and "nothing is searched for" in told(view)
    view.search_box.value = "oven"
    assert len(view.selection) == count
    view.select([])
    view.find_button.click()
    assert len(view.selection) == count


def test_a_cluster_is_picked_by_its_number_and_noise_too(view, found):
    view.pick(4)
    assert view.selection == tuple(found.ids[at] for at in found.members(4)) and len(view.selection) > 3
    view.cluster_box.value = -1
    assert view.selection == tuple(found.ids[at] for at in found.members(-1)) and len(view.selection) == 5
    view.cluster_box.value = None
    assert len(view.selection) == 5
    assert view.cluster_box.options[0] == ("select one …", None) and view.cluster_box.options[-1] == (
        "in no cluster (5)",
        -1,
    )


def test_dropped_rows_vanish_are_in_the_folder_and_are_neither_found_nor_picked_until_they_are_shown(view, run, found):
    breads = [at for at, text in enumerate(found.texts) if "bread" in text]
    view.search("bread")
    ids = view.selection
    view.drop_button.click()
    assert view.selection == ids  # and stays what the next click is about
    assert sorted(row[0] for row in in_folder(run)) == sorted(ids) and {row[3] for row in in_folder(run)} == {"dropped"}
    assert shown(view) == [at for at in range(60) if at not in breads]
    assert view.search("bread") == 0 and f"and {len(breads)} more that are dropped and not shown" in told(view)
    view.pick(0)
    assert view.selection == ()
    view.dropped_box.value = True
    assert shown(view) == list(range(60)) and view.search("bread") == len(breads)
    assert "dropped" in Drawn(view._rows.value).words
    view.keep_button.click()
    view.dropped_box.value = False
    assert shown(view) == list(range(60)) and {row[2] for row in in_folder(run)} == {True}


def test_a_map_of_rows_that_are_all_dropped_shows_none(view, found):
    view.select(found.ids)
    view.drop()
    assert shown(view) and set(shown(view)).isdisjoint(range(60))


def test_the_selection_is_marked_again_when_its_rows_come_back(view, found):
    view.select(found.ids[:3])
    view.drop()
    sent = []
    view.scatter.widget.observe(lambda change: sent.append(change["new"].tolist()), names="selection")
    view.dropped_box.value = True
    # The browser unmarked them when they vanished: what does not change here would not be sent to it.
    assert sent == [[], [0, 1, 2]] and view.selection == found.ids[:3]


def test_a_decision_is_there_in_the_next_session(view, run, found):
    view.select(found.ids[:5])
    view.drop()
    view.label("teacher")
    again = widgets.map(found, run=runner.load(run.folder))
    assert shown(again) == list(range(5, 60)) and len(again.decisions) == 10
    again.select(found.ids[3:7])
    again.keep()
    assert shown(again) == [3, 4, *range(5, 60)] and len(in_folder(run)) == 12
    assert repr(again) == "Map of 60 rows in 8 clusters: 4 selected; 5 'teacher', 4 kept, 3 dropped"


def test_undo_takes_back_one_click_after_the_other_and_gives_back_what_was_before(view, run, found):
    view.select(found.ids[:4])
    view.label("teacher")
    view.keep()
    kept = in_folder(run)
    view.select(found.ids[2:6])
    view.drop()
    view.select([])
    view.undo_button.click()
    assert in_folder(run) == kept and view.selection == found.ids[2:6] and shown(view) == list(range(60))
    assert "4 rows are not dropped any more; 2 have again what they had before." in told(view)
    assert "by_hand.undo(view.selection, run, to=view.before)" in told(view) and len(view.before) == 4
    view.undo()
    view.undo()
    assert in_folder(run) == [] and "4 rows are not labelled any more. 0 decided" in told(view)
    view.undo()
    assert "nothing was decided on this map" in told(view) and "sdw-error" in view._said.value


def test_undo_gives_back_what_another_session_decided_meanwhile(view, run, found):
    by_hand.label(found.ids[:1], runner.load(run.folder), "nurse")
    before = in_folder(run)
    view.select(found.ids[:2])
    view.drop()
    assert len(in_folder(run)) == 3
    by_hand.keep(found.ids[5:6], runner.load(run.folder))
    view.undo()
    assert in_folder(run) == sorted([*before, (found.ids[5], "by_hand", True, "", "")])


def test_each_button_does_what_the_call_that_it_shows_does(view, run, found):
    view.select(found.ids[7:9])
    for click, name in (
        (view.drop_button, ""),
        (view.label_button, EVIL_NAMES[0]),
        (view.keep_button, ""),
        (view.undo_button, ""),
    ):
        view.label_box.value = name
        click.click()
        call = html.unescape(re.search(r"<code[^>]*>(.*)</code>", view._said.value)[1])
        after = in_folder(run)
        for file in (run.folder / "verdicts").iterdir():
            file.unlink()
        by_hand.add(view.before, run)
        eval(call, {"by_hand": by_hand, "view": view, "run": run})
        assert in_folder(run) == after and len(after) > 0, call


def test_without_a_run_decisions_are_in_memory_and_the_map_says_what_keeps_them(run, found):
    view = widgets.map(found)
    view.select(found.ids[:2])
    view.drop()
    assert view.decisions.by_reason() == {"dropped": 2} and in_folder(run) == [] and shown(view) == list(range(2, 60))
    assert (
        "In memory only: give run= to widgets.map, or put them into a run's folder with by_hand.add(view.decisions, run)"
        in told(view)
    )
    assert "decisions = by_hand.drop(view.selection, decisions)" in told(view)
    by_hand.add(view.decisions, run)
    assert len(in_folder(run)) == 2
    view.undo()
    assert len(view.decisions) == 0 and shown(view) == list(range(60))


def test_a_button_that_has_nothing_to_do_says_why(view, run):
    for button in (view.keep_button, view.drop_button, view.label_button):
        button.click()
        assert "no row is selected" in told(view) and "sdw-error" in view._said.value
    view.select(view.found.ids[:1])
    view.label_button.click()
    assert "a label is a text with something in it, got ''" in told(view)
    view.label("\ud800")
    assert "sdw-error" in view._said.value and in_folder(run) == []


def test_what_is_selected_goes_to_review_and_an_answer_or_a_failure_is_told(run, found):
    asked = []

    def review(records):
        asked.append(records)
        if len(records) > 2:
            raise OSError("no <b>server</b>")
        return f"<i>{len(records)}</i> sent to argilla"

    view = widgets.map(found, run=run, on_review=review)
    draw(view, [8, 5])
    view.send_button.click()
    assert (
        [record.id for record in asked[0]]
        == [found.ids[5], found.ids[8]]
        == [r.id for r in run.records if r in asked[0]]
    )
    assert "2 sent: <i>2</i> sent to argilla" in told(view) and not Drawn(view._said.value).foreign
    draw(view, [1, 2, 3])
    view.send()
    assert "Not sent: OSError: no <b>server</b>" in told(view) and "sdw-error" in view._said.value
    view.select([])
    view.send()
    assert "no row is selected, so there is nothing to send" in told(view) and len(asked) == 2
    without_run = widgets.map(found, on_review=asked.append)
    without_run.select(found.ids[:2])
    without_run.send()
    assert asked[-1] == list(found.ids[:2]) and "2 sent" in told(without_run)


def test_without_somebody_to_review_the_button_is_off_and_says_what_to_give(view, found):
    assert (
        view.send_button.disabled
        and "Give widgets.map on_review=, a function of the selected records" in view.send_button.tooltip
    )
    view.select(found.ids[:1])
    view.send()
    assert "nobody to send to. Give widgets.map on_review=" in told(view)
    assert not widgets.map(found, on_review=len).send_button.disabled


# --- colours and other columns


def dots(view):
    """The colour of each row, as the map draws it."""
    widget = view.scatter.widget
    palette = ["#" + "".join(f"{round(255 * part):02X}" for part in colour[:3]) for colour in widget.color]
    return [palette[int(place)] for place in widget.points[:, 2]]


def test_clusters_have_colours_and_noise_is_grey(view, found):
    colours = dots(view)
    assert {colours[at] for at in found.members(-1)} == {"#9A9A9A"}
    for number in range(8):
        assert len({colours[at] for at in found.members(number)}) == 1
        assert colours[found.members(number)[0]] != "#9A9A9A"
    assert len(set(colours)) == 7  # six, and grey: eight clusters share them
    legend = Drawn(view._legend.value)
    assert not legend.foreign - {"style"} and "<b>bold</b>, $x$" in legend.words and "none (5)" in legend.words


def test_the_same_colour_is_given_to_clusters_that_are_far_from_each_other():
    found = maps.made(480, count=24)  # in a circle
    view = widgets.map(found)
    colours = dots(view)
    of = [colours[found.members(number)[0]] for number in range(24)]
    assert all(of[at] != of[(at + 1) % 24] for at in range(24))


def test_numbers_have_a_scale_and_what_is_missing_is_grey(found):
    numbers = [float(at) for at in range(60)]
    numbers[3], numbers[4], numbers[5] = float("nan"), None, float("inf")
    view = widgets.map(found, columns={"n": numbers, "none": [None] * 60, "same": [7] * 60}, color="n")
    colours = dots(view)
    assert [at for at, colour in enumerate(colours) if colour == "#9A9A9A"] == [3, 4, 5]
    assert colours[0] == "#0072B2" and colours[59] == "#E69F00" and len(set(colours)) > 20
    assert "none (3)" in Drawn(view._legend.value).words
    view.color_box.value = "none"
    assert set(dots(view)) == {"#9A9A9A"} and "none (60)" in Drawn(view._legend.value).words
    view.color("same")
    assert len(set(dots(view))) == 1 and set(dots(view)) != {"#9A9A9A"}
    view.color("cluster")
    assert len(set(dots(view))) == 7


def test_colours_of_truth_values_dates_and_markup_are_those_of_texts(found):
    import datetime

    days = [datetime.date(2026, 1, 1 + at % 3) for at in range(60)]
    names = ["<b>x</b>" if at % 2 else None for at in range(60)]
    view = widgets.map(found, columns={"ok": [at % 3 == 0 for at in range(60)], "day": days, "<i>name</i>": names})
    for name, colours in (("ok", 2), ("day", 3), ("<i>name</i>", 2)):
        view.color(name)
        view.select(found.ids[:4])
        assert len(set(dots(view))) == colours
        for part in (view._legend, view._rows):
            assert not Drawn(part.value).foreign - {"style"} and (
                name != "<i>name</i>" or name in Drawn(part.value).words
            )
    assert "<b>x</b>" in Drawn(view._rows.value).words and "null" in Drawn(view._rows.value).words


def test_other_columns_are_matched_by_id_where_they_have_one(run, found):
    rows = store.query("SELECT id, length(instruction) AS letters FROM run ORDER BY id LIMIT 40", run=run)
    view = widgets.map(found, run=run, columns=rows, color="letters")
    lengths = dict(zip(rows["id"], rows["letters"], strict=True))
    assert view.table.column("letters").to_pylist() == [lengths.get(each) for each in found.ids]
    view.select(found.ids[:2])
    assert view.selected.column("letters").to_pylist() == [lengths.get(each) for each in found.ids[:2]]
    by_place = widgets.map(found, columns=pa.table({"place": range(60)}))
    assert by_place.table.column("place").to_pylist() == list(range(60))


@pytest.mark.parametrize(
    ("columns", "why"),
    [
        ({"a": [1, 2]}, "columns= has 2 rows and the map 60. Give one for each, or a column id"),
        ({"cluster": ["a"] * 60}, "the map has a column 'cluster' of its own"),
        ({"decided": ["a"] * 60}, "the map has a column 'decided' of its own"),
        ({"a": [[1]] * 60}, "a column of list<.*> has no colours: 'a'"),
        ({"a": [1, "x"] * 30}, r"columns= is no table: .*Give \{name: values\}"),
        ({"id": ["x", "x"], "a": [1, 2]}, "columns= has an id twice"),
    ],
)
def test_columns_that_do_not_fit_are_refused(found, columns, why):
    with pytest.raises(InputError, match=why):
        widgets.map(found, columns=columns)


def test_a_colour_that_is_no_column_is_refused(view, found):
    for call in (lambda: widgets.map(found, color="nothing"), lambda: view.color("nothing")):
        with pytest.raises(
            InputError, match="no column 'nothing' to colour by; there are cluster, category, membership"
        ):
            call()


def test_a_map_without_clusters_is_drawn_all_the_same():
    from dataclasses import replace

    found = maps.made(30)
    none = np.full(30, -1, np.int32)
    view = widgets.map(replace(found, labels=none, nearest=none, clusters=(), categories=()))
    assert set(dots(view)) == {"#9A9A9A"} and len(view.cluster_box.options) == 2
    assert view.search("text") == 30


# --- what a model wrote, what is missing, and how it shows itself


def test_what_a_model_wrote_is_text_in_the_table_in_messages_and_in_the_card(view, found, monkeypatch):
    view.select(found.ids[:6])
    for name in EVIL_NAMES:
        view.label(name)
        assert not Drawn(view._said.value).foreign and repr(name) in told(view)
        page = Drawn(view._rows.value)
        assert not page.foreign and name in page.words
    assert maps.EVIL in Drawn(view._rows.value).words
    assert not Drawn(view.box.children[0].value).foreign - {"style"}
    sent = []
    monkeypatch.setattr(view.scatter.widget, "send", sent.append)
    card = {"type": "tooltip", "index": 15, "preview": "text", "properties": ["cluster", "category", "value"]}
    view.scatter.widget._handle_custom_msg(card, [])
    # The browser sets it as text, as its test below sees.
    assert maps.EVIL in sent[0]["preview"] and json.loads(json.dumps(sent[0]["properties"], allow_nan=False)) == {
        "cluster": "sail, mast", "category": "odd", "value": f"membership: {found.membership[15]:.4g}",
    }  # fmt: skip


def test_the_card_has_the_beginning_of_a_long_text_and_of_a_long_name(found):
    from dataclasses import replace

    clusters = (replace(found.clusters[0], name="n" * 100), *found.clusters[1:])
    view = widgets.map(replace(found, texts=("word " * 1000, *found.texts[1:]), clusters=clusters))
    assert len(view._frame["text"][0]) == 400 and len(view._frame["cluster"][0]) == 40
    assert max(len(label) for label, _ in view.cluster_box.options) < 60
    view.select(found.ids[:1])
    assert view.selected.column("text").to_pylist() == ["word " * 1000] and len(view._rows.value) < 4_000


def test_a_map_of_other_records_than_the_runs_is_refused(run, tmp_path):
    with pytest.raises(RecordError, match=r"60 of 60 ids are of no record of this run, such as 'row-0'"):
        widgets.map(maps.made(60), run=run)
    from tests import kinds

    several = kinds.run(tmp_path / "kinds", 10)
    ids = [record.id for record in several.records]
    view = widgets.map(maps.made(len(ids), ids=ids), run=several)
    view.select(ids[:2])
    view.drop()
    assert len(several.kept()) == len(ids) - 2


@pytest.mark.parametrize("library", ["jscatter", "ipywidgets"])
def test_without_the_notebook_extra_the_map_says_what_to_install(found, library, monkeypatch):
    monkeypatch.setitem(sys.modules, library, None)
    with pytest.raises(MissingLibrary, match=rf"'{library}' is not installed\. It comes with the 'notebook' extra"):
        widgets.map(found)


def test_the_map_shows_itself_and_as_text_where_no_widget_can_be_drawn(view):
    bundle = view._repr_mimebundle_()
    assert bundle["text/plain"] == repr(view) == "Map of 60 rows in 8 clusters: 0 selected; 0 decided"
    assert "application/vnd.jupyter.widget-view+json" in bundle
    words = Drawn(view.box.children[0].value).words
    assert "60 rows in 8 clusters, 8% in none" in words and "distances across the map" in words
    assert "offline rules" not in words


def test_a_map_says_that_the_offline_rules_made_its_rows(view, found, run, monkeypatch):
    monkeypatch.setattr(Run, "is_offline", True)
    assert "offline rules, no model" in Drawn(widgets.map(found, run=run).box.children[0].value).words


# --- the map in JupyterLab

CELLS = [
    """from tests import maps
from workbench import clusters, runner, widgets
from workbench.quality import by_hand
run, found = maps.run("made", 2000)
view = widgets.map(found, run=run, on_review=lambda records: f"{len(records)} <b>seen</b>")
view""",
    """decided = by_hand.decided(runner.load(run.folder))
dropped = {each.record_id for each in decided if not each.passed}
named = {each.record_id for each in decided if each.detail == "<b>teacher</b>'; --"}
print(len(view.selection), dropped == named == set(view.selection), len(runner.load(run.folder).kept()))""",
    "view.scatter.widget.show_tooltip(15)  # what a mouse over the dot of row 15 does",
]


# The colours between the dots and the page.
PAPERS = """canvas => {
    const found = [];
    for (let part = canvas; !part.classList.contains('sdw-map'); part = part.parentElement)
        found.push(getComputedStyle(part).backgroundColor);
    return found;
}"""


@lab.needs_browser
def test_in_jupyterlab_rows_are_drawn_around_looked_at_labelled_and_dropped(tmp_path):
    with lab.jupyterlab(tmp_path / "home") as jupyter, lab.browser() as page:
        notebook = jupyter.open(page, "map", CELLS)
        notebook.run(0)
        drawn = notebook.cell(0)
        canvas = drawn.locator("canvas").first
        canvas.wait_for(timeout=30_000)
        page.wait_for_function(maps.HAS_DOTS, timeout=20_000)
        assert [output["output_type"] for output in notebook.outputs(0)] == ["execute_result"]  # and no warning
        box = canvas.bounding_box()
        assert box["width"] > 400 and box["height"] > 400

        def at(turn, out=1.0):
            x, y = 0.42 * out * np.cos(turn * 2 * np.pi), 0.42 * out * np.sin(turn * 2 * np.pi)
            return box["x"] + box["width"] / 2 + box["height"] * x, box["y"] + box["height"] * (0.5 + y)

        # Out of a cluster, around the lower half and back to a dot beside the first one: that is no click on it.
        path = [*((turn / 40, 1.0) for turn in range(21)), (0.5, 0.5), (0.5, 0.1), (0, 0.1), (0, 0.5)]
        page.mouse.move(*at(0, 0.53))
        page.mouse.down()
        for point in path:
            page.mouse.move(*at(*point), steps=3)
            page.wait_for_timeout(15)
        x, y = at(0, 0.53)
        page.mouse.move(x - 1, y + 1)
        page.mouse.up()
        drawn.get_by_text("rows selected, the first 50:").wait_for(timeout=15_000)
        said = drawn.get_by_text("rows selected, the first 50:").inner_text()
        count = int(said.split(" of ")[0].replace(",", ""))
        rows = drawn.locator(".sdw-grid")
        assert 300 < count < 1500 and rows.locator("tbody tr").count() == 50
        assert rows.locator("img, script").count() == 0 and maps.EVIL[:20] in rows.inner_text()

        notebook.run(2)
        card = drawn.get_by_text(f"Text 15 of sail, mast {maps.EVIL}", exact=True).last
        card.wait_for(timeout=10_000)
        drawn.get_by_text("membership: ").wait_for(timeout=10_000)
        canvas.evaluate("canvas => canvas.scrollIntoView({ block: 'center' })")
        page.wait_for_timeout(300)  # the card comes in slowly
        page.screenshot(path=tmp_path / "1-light.png")

        drawn.get_by_placeholder("teacher").fill("<b>teacher</b>'; --")
        drawn.get_by_role("button", name="Label", exact=True).click()
        drawn.get_by_text("rows labelled as").wait_for(timeout=15_000)
        drawn.get_by_role("button", name="Send to review").click()
        drawn.get_by_text(f"{count:,} sent: {count} <b>seen</b>").wait_for(timeout=15_000)
        drawn.get_by_role("button", name="Drop", exact=True).click()
        drawn.get_by_text("by_hand.drop(view.selection, run)").wait_for(timeout=15_000)
        notebook.run(1)
        notebook.wait_for(1)
        assert notebook.outputs(1)[0]["text"].split() == [str(count), "True", str(2000 - count)]

        drawn.get_by_role("button", name="Undo", exact=True).click()
        drawn.get_by_text("rows are not dropped any more").wait_for(timeout=15_000)
        canvas.evaluate("canvas => canvas.scrollIntoView({ block: 'center' })")
        drawn.get_by_title("Lasso Type").click()
        page.get_by_text("Rectangle").click()
        page.keyboard.press("Escape")
        box = canvas.bounding_box()
        page.mouse.move(box["x"] + 5, box["y"] + 5)
        page.mouse.down()
        page.mouse.move(box["x"] + box["width"] - 5, box["y"] + box["height"] - 5, steps=8)
        page.mouse.up()
        drawn.get_by_text(re.compile("^1,9.* of 2,000 rows selected, the first 50:")).wait_for(timeout=15_000)

        lab.darken(page)
        page.screenshot(path=tmp_path / "2-dark.png")
        for part in (rows.locator("th").first, rows.locator("td").first, drawn.locator("code").first):
            colour = part.evaluate("part => getComputedStyle(part).color")
            assert min(map(int, re.findall(r"\d+", colour)[:3])) > 150, colour  # light text on dark paper
        papers = canvas.evaluate(PAPERS)
        assert papers and {paper for paper in papers if not paper.endswith(", 0)")} == set(), papers
        assert page.title() != "broken in" and page.outside == []
