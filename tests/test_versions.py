"""Versions: a diff leaves nothing out and runs nothing, and a history lists every file, the broken ones too."""

import difflib
import html
import itertools
import json
import re
import shutil
from dataclasses import replace

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from workbench import prompts
from workbench.errors import PromptError
from workbench.prompts import versions

SCRIPT = "<script>alert(1)</script>"
OFFLINE = {
    "method": "Bootstrap",
    "base": "test/made@1#0123456789ab",
    "model": "offline-rules@1/fair",
    "is_offline": True,
}
SCORES = {
    "dev": {"value": 0.71, "low": 0.66, "high": 0.77, "n": 40, "parts": {"parsed": {"value": 1.0}}},
    "held_out": {"value": 0.69, "low": 0.61, "high": 0.75, "n": 44},
    "base": {"dev": {"value": 0.6, "low": 0.5, "high": 0.7, "n": 40}},
    "difference": {"value": 0.08, "low": -0.02, "high": 0.13, "n": 44},
}


def prompt(version=1, messages=None, **header):
    messages = messages or [("system", "Be brief.\nBe kind."), ("user", "{{text}}")]
    header = {"variables": {"text": "plain"}, "outputs": {"answer": "str: the answer"}, **header}
    return prompts.freeze("test/made", messages, version=version, **header)


def long_prompt(change=lambda lines: lines, version=1):
    lines = [f"Rule {at} is a rule of its own." for at in range(40)]
    return prompt(version, [("system", "\n".join(change(lines))), ("user", "{{text}}")])


def text_of(shown):
    """The text of some HTML, without its tags."""
    return html.unescape(re.sub(r"<[^>]*>", "", shown))


def marked(shown, tag):
    return [html.unescape(text) for text in re.findall(rf"<{tag} [^>]*>(.*?)</{tag}>", shown, re.DOTALL)]


# --- two versions -----------------------------------------------------------------------------------------------------


def test_as_text_it_is_the_unified_diff_of_both():
    a, b = prompt(1), prompt(2, [("system", "Be brief.\nBe very kind."), ("user", "{{text}}")])
    found = versions.diff(a, b)
    assert str(found) == repr(found)
    assert str(found).splitlines()[:2] == [f"--- {a.id}", f"+++ {b.id}"]
    assert "\n-Be kind.\n+Be very kind.\n" in str(found) and "\n Be brief.\n" in str(found)
    assert str(versions.diff(a, a)) == f"{a.id} and {a.id} say the same."


def test_every_field_of_the_header_that_changed_is_listed_and_no_other():
    a = prompt(
        1, [("user", "{{text}} {{kind}}")], variables={"text": "plain", "kind": "plain"}, sampling={"max_tokens": 70}
    )
    b = replace(
        a, version=2, variables={"text": "data", "kind": "plain"}, outputs={"answer": "str: one word", "why": "str: why"},
        sampling={"max_tokens": 90}, format="json", repair=False, about="Better.", made_by=OFFLINE, scores=SCORES,
    )  # fmt: skip
    assert versions.diff(a, b).header == {
        "variables.text": ("plain", "data"),
        "outputs": ("answer", "answer, why"),
        "outputs.answer": ("str: the answer", "str: one word"),
        "outputs.why": ("", "str: why"),
        "format": ("fields", "json"),
        "about": ("", "Better."),
        "made_by": ("hand", "Bootstrap from test/made@1, by offline rules, no model (offline-rules@1/fair)"),
        "scores.dev": ("", "0.71 (0.66 to 0.77, n 40)"),
        "scores.held_out": ("", "0.69 (0.61 to 0.75, n 44)"),
        "scores.base.dev": ("", "0.60 (0.50 to 0.70, n 40)"),
        "scores.difference": ("", "+0.08 (-0.02 to +0.13, n 44)"),
        "sampling.max_tokens": ("70", "90"),
        "repair": ("true", "false"),
    }
    for name, pair in versions.diff(a, b).header.items():
        assert all(
            not value or f"{sign}{name}: {value}" in str(versions.diff(a, b))
            for sign, value in zip("-+", pair, strict=True)
        )
        assert name in versions.diff(a, b)._repr_html_()
    assert versions.diff(a, a).header == {} and "the messages are the same" in versions.diff(a, b)._repr_html_()


def test_another_order_of_variables_is_a_difference_since_it_is_sent_so():
    a = prompt(1, [("user", "{{text}} {{kind}}")], variables={"text": "plain", "kind": "plain"})
    b = replace(a, version=2, variables={"kind": "plain", "text": "plain"})
    assert versions.diff(a, b).header == {"variables": ("text, kind", "kind, text")}


def test_no_field_of_a_prompt_is_left_out_of_the_header():
    """A field that is added to Prompt later shows up by itself."""
    shown = {name.partition(".")[0] for name in versions._header(prompt(sampling={"seed": 1}, scores=SCORES))}
    fields = set(prompt()._header()) - {"name", "version", "messages"}
    empty = {name for name in fields if getattr(prompt(), name, None) == {}}
    assert fields - empty <= shown


def test_changed_words_are_marked_and_the_others_are_not():
    a = prompt(1, [("system", "Write one short question about it."), ("user", "{{text}}")])
    b = prompt(2, [("system", "Write one very long question about it."), ("user", "{{text}}")])
    shown = versions.diff(a, b)._repr_html_()
    assert marked(shown, "del") == ["short "] and marked(shown, "ins") == ["very long "]
    assert "user, unchanged" in shown and "system, unchanged" not in shown


def test_a_text_that_was_written_anew_is_marked_whole_and_not_word_by_word():
    old = "You write items for a dataset, and the items will be checked by people against the passage."
    new = "Ask the reader one thing that the text says; an answer must be short, plain and there."
    shown = versions.diff(
        prompt(1, [("user", f"{old} {{{{text}}}}")]), prompt(2, [("user", f"{new} {{{{text}}}}")])
    )._repr_html_()
    assert marked(shown, "del") == [f"{old} {{{{text}}}}"] and marked(shown, "ins") == [f"{new} {{{{text}}}}"]


def test_long_unchanged_runs_are_folded_and_two_lines_stay_around_a_change():
    shown = versions.diff(
        long_prompt(), long_prompt(lambda lines: [*lines[:20], "Changed.", *lines[21:]], 2)
    )._repr_html_()
    assert re.findall(r"(\d+) unchanged lines", shown) == ["18", "17"]
    folded = "".join(re.findall(r"<details>.*?</details>", shown, re.DOTALL))
    assert "Rule 17 " in folded and "Rule 18 " not in folded and "Rule 22 " not in folded and "Rule 23 " in folded


@given(st.data())
@settings(max_examples=80, deadline=None)
def test_no_line_of_either_text_is_lost_in_the_side_by_side_view(data):
    lines = st.lists(
        st.sampled_from(["one", "two & more", "<b>", "", "  indented", "three four"]), min_size=1, max_size=25
    )
    before, after = data.draw(lines), data.draw(lines)
    left, right = [], []
    for row in versions._rows(before, after):
        cells = re.findall(r"<td[^>]*>(.*?)</td>", row, re.DOTALL)
        if len(cells) == 1:  # a folded run, the same on both sides
            cells = [re.search(r"<div[^>]*>(.*)</div>", cells[0], re.DOTALL)[1]] * 2
        left.append(text_of(cells[0]))
        right.append(text_of(cells[1]))
    # By words: an empty line cannot be told from no line.
    assert "\n".join(left).split() == "\n".join(before).split()
    assert "\n".join(right).split() == "\n".join(after).split()


def test_demonstrations_are_shown_as_added_and_what_stood_before_keeps_its_partner():
    first = prompts.load("rag/question@1")
    (system, told), (user, asked) = first.messages
    demo = lambda number: [
        (
            "user",
            asked.replace("{{passage}}", f"Passage {number}.\n" * 30)
            .replace("{{section}}", "A")
            .replace("{{kind}}", "fact"),
        ),
        ("assistant", f"[[ ## question ## ]]\nWhat is {number}?"),
    ]
    second = replace(
        first,
        version=2,
        messages=((system, told.replace("one question", "a single question")), *demo(1), *demo(2), (user, asked)),
    )
    pairs = list(versions._aligned(first.messages, second.messages))
    assert [(before and before[0], after and after[0]) for before, after in pairs] == [
        ("system", "system"), (None, "user"), (None, "assistant"), (None, "user"), (None, "assistant"), ("user", "user"),
    ]  # fmt: skip
    shown = versions.diff(first, second)._repr_html_()
    assert shown.count("user, added") == shown.count("assistant, added") == 2 and "user, unchanged" in shown
    assert "What is 2?" in shown and len(re.findall(r"<summary>Where the passage stands.*?\(\d+ lines\)", shown)) == 2
    back = versions.diff(second, first)._repr_html_()
    assert back.count("user, removed") == 2 and "added" not in back


@given(
    st.lists(st.tuples(st.sampled_from(["user", "assistant"]), st.sampled_from(["a b", "a c", "d"])), max_size=5),
    st.lists(st.tuples(st.sampled_from(["user", "assistant"]), st.sampled_from(["a b", "a c", "d"])), max_size=5),
)
@settings(max_examples=100, deadline=None)
def test_messages_are_aligned_in_order_by_role_and_as_well_as_can_be(before, after):
    pairs = list(versions._aligned(before, after))
    assert [a for a, _ in pairs if a is not None] == before and [b for _, b in pairs if b is not None] == after
    both = [(a, b) for a, b in pairs if a is not None and b is not None]
    assert all(a[0] == b[0] for a, b in both)

    def likeness(i, j):
        a, b = before[i][1].split(), after[j][1].split()
        return 0.01 + 2 * len(set(a) & set(b)) / (len(a) + len(b)) + (i == len(before) - 1 and j == len(after) - 1)

    best = 0.0  # by trying every way to pair some of the one with as many of the other, in order
    for size in range(1, min(len(before), len(after)) + 1):
        for one in itertools.combinations(range(len(before)), size):
            for other in itertools.combinations(range(len(after)), size):
                if all(before[i][0] == after[j][0] for i, j in zip(one, other, strict=True)):
                    best = max(best, sum(likeness(i, j) for i, j in zip(one, other, strict=True)))
    places, i, j = [], 0, 0
    for a, b in pairs:
        if a is not None and b is not None:
            places.append((i, j))
        i, j = i + (a is not None), j + (b is not None)
    assert sum(itertools.starmap(likeness, places)) == pytest.approx(best)


def test_markup_in_prompts_is_shown_and_not_run():
    a = prompt(1, [("system", f"Old {SCRIPT}"), ("user", "{{text}}")], about=SCRIPT, made_by={"method": SCRIPT})
    b = prompt(
        2, [("system", f"New <img src=x onerror=alert(1)> {SCRIPT}"), ("user", SCRIPT), ("user", "{{text}}")],
        outputs={"answer": f"str: {SCRIPT}"}, made_by={"method": "GEPA", "model": SCRIPT}, scores={"dev": {"value": 1.0}},
    )  # fmt: skip
    for shown in (versions.diff(a, b)._repr_html_(), versions.diff(b, a)._repr_html_()):
        assert "<script" not in shown and "<img" not in shown and shown.count("&lt;script&gt;") >= 5
    assert "var(--jp-" in versions.diff(a, b)._repr_html_() and "<style" not in versions.diff(a, b)._repr_html_()


def test_two_prompts_are_loaded_by_name_and_version(tmp_path):
    prompt(1).save(tmp_path)
    prompt(2, [("user", "{{text}}!")]).save(tmp_path)
    assert versions.diff("test/made@1", "test/made@2", folder=tmp_path).b.ref == "test/made@2"
    assert "rag/persona_question" in str(versions.diff("rag/question@1", "rag/persona_question@1"))
    with pytest.raises(PromptError, match="there is no prompt 'test/made@3'"):
        versions.diff("test/made@1", "test/made@3", folder=tmp_path)


# --- all versions -----------------------------------------------------------------------------------------------------


@pytest.fixture
def folders(tmp_path):
    """Two folders: versions 1 and 10 in the first, 2 (made offline) in the second."""
    prompt(1, about="By hand.").save(tmp_path / "released")
    prompt(10, made_by={"method": "GEPA", "base": "test/made@2#ba9876543210", "model": "a-model"}).save(
        tmp_path / "released"
    )
    prompt(2, made_by=OFFLINE, scores=SCORES).save(tmp_path / "found")
    prompts.freeze("test/made_too", [("user", "x")], variables={}, outputs={"y": "str: y"}).save(tmp_path / "found")
    return [tmp_path / "released", tmp_path / "found"]


def test_every_version_is_listed_in_order_with_how_it_was_made_and_what_it_scored(folders):
    found = versions.history("test/made", folders=folders)
    assert [each.version for each in found] == [1, 2, 10] and len(found) == 3
    table = found.table()
    assert isinstance(table, pa.Table)
    row = table.to_pylist()[1]
    assert row == {
        "version": 2, "id": prompt(2, made_by=OFFLINE, scores=SCORES).id, "method": "Bootstrap",
        "base": "test/made@1#0123456789ab", "model": "offline-rules@1/fair", "is_offline": True,
        "dev": 0.71, "dev_low": 0.66, "dev_high": 0.77, "dev_n": 40,
        "held_out": 0.69, "held_out_low": 0.61, "held_out_high": 0.75, "held_out_n": 44,
        "difference": 0.08, "difference_low": -0.02, "difference_high": 0.13, "difference_n": 44,
        "about": "", "folder": str(folders[1]), "broken": "",
    }  # fmt: skip
    assert table.to_pylist()[0]["dev"] is None and table.to_pylist()[0]["method"] == "hand"
    for shown in (repr(found), found._repr_html_()):
        assert "test/made: 3 versions" in shown and "Bootstrap from test/made@1" in shown and "By hand." in shown
        assert "offline rules, no model" in shown and "0.69 (0.61 to 0.75, n 44)" in shown and "+0.08 (-0.02" in shown


def test_the_released_prompts_have_a_history_that_names_no_folder_of_this_machine():
    [version] = versions.history("rag/question").versions[:1]
    assert version.ref == "rag/question@1" and version.folder == "workbench" and not version.broken
    assert str(prompts.FOLDER) not in repr(versions.history("rag/question").table().to_pylist())


def test_columns_that_no_version_fills_are_not_shown(tmp_path):
    prompt(1).save(tmp_path)
    assert repr(versions.history("test/made", folders=tmp_path)).splitlines()[1].split() == ["version", "made", "by"]


BREAK = {
    "edited": lambda path: path.write_text(path.read_text().replace("{{text}}", "{{text}}!")),
    "no JSON": lambda path: path.write_text("{"),
    "empty": lambda path: path.write_bytes(b""),
    "not UTF-8": lambda path: path.write_bytes(b"\xff\xfe"),
    "another form": lambda path: path.write_text(json.dumps({"name": "test/made"})),
    "a list": lambda path: path.write_text("[]"),
    "a folder": lambda path: (path.unlink(), path.mkdir()),
    "under another name": lambda path: shutil.copy(path.with_name("made@1.json"), path),
}


@pytest.mark.parametrize("how", BREAK)
def test_a_broken_file_is_listed_with_the_reason_and_the_others_too(how, tmp_path):
    prompt(1).save(tmp_path)
    prompt(2, about="Second.").save(tmp_path)
    BREAK[how](tmp_path / "test" / "made@2.json")
    found = versions.history("test/made", folders=[tmp_path])
    assert [(each.ref, bool(each.broken)) for each in found] == [("test/made@1", False), ("test/made@2", True)]
    assert "made@2.json" in found.versions[1].broken
    assert "test/made@2 is broken: " in repr(found) and "test/made@2 is broken: " in html.unescape(found._repr_html_())
    assert found.table().to_pylist()[1] | {"broken": ""} == dict.fromkeys(found.table().column_names) | {
        "version": 2, "id": "", "method": "", "base": "", "model": "", "is_offline": False, "about": "",
        "folder": str(tmp_path), "broken": "",
    }  # fmt: skip


def test_a_version_that_is_no_number_is_listed_and_not_taken_for_one(tmp_path):
    prompt(1).save(tmp_path)
    shutil.copy(tmp_path / "test" / "made@1.json", tmp_path / "test" / "made@draft.json")
    found = versions.history("test/made", folders=[tmp_path])
    assert {each.version for each in found} == {None, 1} and "'test/made@draft' is not name@version" in repr(found)


def test_the_same_file_in_two_folders_counts_once_and_two_contents_of_one_version_are_told(tmp_path):
    for name in ("one", "two"):
        prompt(1).save(tmp_path / name)
        prompt(2, about=name).save(tmp_path / name)
    found = versions.history("test/made", folders=[tmp_path / "one", tmp_path / "two"])
    assert [(each.version, each.folder.rpartition("/")[2]) for each in found] == [(1, "one"), (2, "one"), (2, "two")]
    assert found.notes() == [
        "test/made@2 stands in two folders with different content: save one of them as the next version."
    ]


def test_an_unknown_name_is_told_with_those_there_are(folders):
    for wrong in ("test/mad", "test", "test/made@1"):
        with pytest.raises(
            PromptError, match=rf"there is no prompt named '{wrong}' in .*; there are test/made, test/made_too\."
        ):
            versions.history(wrong, folders=folders)
    with pytest.raises(PromptError, match="there are none"):
        versions.history("test/made", folders=[folders[0].parent / "nowhere"])


@pytest.mark.parametrize(
    "scores",
    [
        {"dev": 0.5},
        {"dev": {"mean": 0.5}},
        {"dev": {"value": "high"}},
        {"dev": [1, 2]},
        {"dev": {"value": 0.5, "n": "many"}},
        {"note": "none"},
    ],
)
def test_scores_of_another_form_are_shown_as_they_are_and_break_nothing(scores, tmp_path):
    prompt(1).save(tmp_path)
    prompt(2, scores=scores).save(tmp_path)
    found = versions.history("test/made", folders=tmp_path)
    assert found.table().num_rows == 2 and "test/made@2" in repr(found) and found._repr_html_()
    assert "+scores." in str(versions.diff(prompt(1), prompt(2, scores=scores)))


def test_markup_in_a_history_is_shown_and_not_run(tmp_path):
    prompt(1, about=SCRIPT, made_by={"method": SCRIPT, "base": SCRIPT, "model": SCRIPT}).save(tmp_path)
    shown = versions.history("test/made", folders=tmp_path)._repr_html_()
    assert "<script" not in shown and shown.count("&lt;script&gt;") == 4


@given(st.text(max_size=60), st.text(max_size=60))
@settings(max_examples=60, deadline=None)
def test_marked_texts_are_the_texts_themselves(before, after):
    left, right = versions._marked(before, after)
    assert (text_of(left), text_of(right)) == (before, after)
    alike = difflib.SequenceMatcher(None, before.split(), after.split(), autojunk=False).ratio()
    if alike == 1 and before == after and before:
        assert "<del" not in left and "<ins" not in right
