"""The SQL console: buttons do what plain calls do, what models wrote is text, and a filter becomes a check's verdicts."""

import html
import re
import sys
import time

import pytest

from tests import kinds, lab, tasks
from tests.test_records import Page
from workbench import runner, store, widgets
from workbench.errors import InputError, MissingLibrary, RecordError
from workbench.llm import Scripted
from workbench.quality import filters
from workbench.records import Document, Instruction, Preference, Provenance, Rating, Verdict, Vote

LATE = "SELECT id, chosen, right(prompt, 1)::INT % 5 AS day\nFROM preference WHERE right(prompt, 1)::INT % 5 > 1"
JUDGED = "SELECT id FROM preference WHERE score_chosen - score_rejected > 0.3"  # the same ones


@pytest.fixture
def run(tmp_path):
    return kinds.run(tmp_path / "run")


def preferences(run):
    return [record for record in run.records if isinstance(record, Preference)]


def is_late(record):
    return int(record.prompt[-1]) % 5 > 1


# --- a query as a check


def test_what_rows_select_passes_and_the_others_of_its_kind_fail_by_the_query(run):
    verdicts = filters.passing(store.query(LATE, run=run), run, name="late")
    assert [verdict.record_id for verdict in verdicts] == [record.id for record in preferences(run)]
    assert [verdict.passed for verdict in verdicts] == [is_late(record) for record in preferences(run)]
    assert {(verdict.check, verdict.detail) for verdict in verdicts} == {("late", " ".join(LATE.split()))}
    assert verdicts.by_reason() == {"not_selected": 16} and len(verdicts) == 36
    kept = run.mark(verdicts).kept()
    assert len(kept) == len(run.records) - 16 and [record for record in kept if isinstance(record, Preference)] == [
        record for record in preferences(run) if is_late(record)
    ]


def test_what_rows_select_fails_and_the_others_pass_the_other_way_round(run):
    rows = store.query(LATE, run=run)
    passing, failing = filters.passing(rows, run, name="a"), filters.failing(rows, run, name="a")
    assert [verdict.passed for verdict in failing] == [not verdict.passed for verdict in passing]
    assert failing.by_reason() == {"selected": 20}


def test_rows_may_name_an_id_twice_and_ids_of_two_kinds(run):
    rows = store.query(
        "SELECT id FROM preference UNION ALL SELECT id FROM preference UNION ALL SELECT id FROM image_pair", run=run
    )
    verdicts = filters.passing(rows, run, name="both")
    assert len(rows) == 108 and len(verdicts) == 72 and not verdicts.failed


def test_a_filter_of_the_same_name_takes_the_place_of_the_older_one(run):
    for sql, name in (
        (LATE, "gap"),
        ("SELECT id FROM instruction LIMIT 5", "few"),
        ("SELECT id FROM image_pair LIMIT 1", "gap"),
    ):
        run.mark(filters.passing(store.query(sql, run=run), run, name=name))
    again = runner.load(run.folder)
    assert sorted(path.name for path in (run.folder / "verdicts").iterdir()) == ["few.parquet", "gap.parquet"]
    found = 'SELECT "check", count(*) AS n, count(*) FILTER (passed) AS passed FROM verdict GROUP BY ALL ORDER BY ALL'
    assert store.query(found, run=again).to_pylist() == [
        {"check": "few", "n": 72, "passed": 5}, {"check": "gap", "n": 36, "passed": 1},
    ]  # fmt: skip


@pytest.mark.parametrize("name", ["", " ", "a b", "../gap", "a/b", ".gap", "gap\n", "<b>"])
def test_a_name_that_no_check_has_is_refused_and_nothing_is_kept(run, name):
    with pytest.raises(RecordError, match="cannot be a check's name"):
        run.mark(filters.passing(store.query(LATE, run=run), run, name=name))
    assert run.verdicts == [] and not (run.folder / "verdicts").exists()


def test_rows_without_ids_or_with_ids_that_the_run_does_not_have_are_refused(run):
    with pytest.raises(
        InputError, match=r"no column 'id'; they have chosen\. Select the ids of the records: SELECT id, "
    ):
        filters.passing(store.query("SELECT chosen FROM preference", run=run), run, name="gap")
    for odd in ("'nobody'", "NULL", "7", "['x']", "chosen"):
        with pytest.raises(RecordError, match=r"1 of 1 ids are of no record of this run, such as "):
            filters.passing(store.query(f"SELECT {odd} AS id FROM preference LIMIT 1", run=run), run, name="gap")
    sql = "SELECT id FROM preference UNION ALL SELECT id FROM d"
    with pytest.raises(RecordError, match=f"1 of 37 ids are of no record of this run, such as '{Document('x').id}'"):
        filters.failing(store.query(sql, run=run, d=[Document("x")]), run, name="gap")


def test_rows_that_select_nothing_are_about_the_one_kind_there_is_and_refused_where_there_are_several(run, tmp_path):
    with pytest.raises(InputError, match="no row is selected, and the run holds 3 kinds of record"):
        filters.failing(store.query(f"{LATE} AND false", run=run), run, name="gap")
    one = runner.run(tasks.make, tasks.tasks(3), client=Scripted(tasks.echo), out=tmp_path / "one")
    none = store.query("SELECT id FROM run WHERE output = ''", run=one)
    assert [verdict.passed for verdict in filters.failing(none, one, name="empty")] == [True] * 3
    assert [verdict.passed for verdict in filters.passing(none, one, name="empty")] == [False] * 3


def test_scores_that_a_model_gave_select_nothing_until_the_caller_says_that_nobody_checked_the_judge(run):
    rows = store.query(JUDGED, run=run)
    for filter in (filters.passing, filters.failing):
        with pytest.raises(
            InputError,
            match=r"the rows of 'gap' must not filter: the query selects by score_chosen(?s:.*)uncalibrated=True",
        ):
            filter(rows, run, name="gap")
    verdicts = filters.passing(rows, run, name="gap", uncalibrated=True)
    assert [verdict.passed for verdict in verdicts] == [is_late(record) for record in preferences(run)]
    assert {(verdict.check, verdict.detail) for verdict in verdicts} == {
        ("uncalibrated.gap", f"{JUDGED}; uncalibrated: its judge was never compared with people")
    }
    assert run.mark(verdicts).warning.startswith(
        "Filtered by an uncalibrated judge: its judge was never compared with people."
    )
    with pytest.raises(RecordError, match="cannot be a check's name"):
        run.mark(filters.passing(rows, run, name="", uncalibrated=True))


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT subject AS id FROM rating WHERE value < 2", 'SELECT first AS id FROM "VOTE"',
        """SELECT record_id AS id FROM verdict WHERE "check" = 'judge' AND reason <> ''""",
    ],
)  # fmt: skip
def test_ratings_votes_and_marks_of_a_model_are_asked_after_and_those_of_people_are_not(sql, run, tmp_path):
    made = {}
    for by in ("model", "people"):
        given = Provenance("given", model="judge-1" if by == "model" else "")

        async def make(number, client, given=given):
            good, bad = Instruction(f"ask {number}", output="x" * number), Instruction(f"ask {number}", output="no")
            rating = Rating(good.id, "honesty", number, "r", provenance=given)
            return [good, bad, rating, Vote(good.id, bad.id, "first", "r", provenance=given)]

        made[by] = runner.run(make, range(4), client=Scripted(""), out=tmp_path / by)
    texts = [record for record in made["model"].records if isinstance(record, Instruction)]
    if "verdict" in sql:
        made["model"].mark([Verdict(text.id, "judge", True, 1.0, "low_rating") for text in texts[::2]])
        made["people"].mark([Verdict(text.id, "people", True, 1.0, "low_rating") for text in texts[::2]])
        sql = {"model": sql, "people": sql.replace("judge", "people")}
    else:
        sql = {"model": sql, "people": sql}
    with pytest.raises(InputError, match=r"must not filter: the query selects by (rating|VOTE|judge)"):
        filters.failing(store.query(sql["model"], run=made["model"]), made["model"], name="low")
    for by, options in (("people", {}), ("model", {"uncalibrated": True})):
        assert filters.failing(store.query(sql[by], run=made[by]), made[by], name="low", **options).failed
    # Other queries say nothing of the judge, whatever words stand in the texts.
    rows = store.query("SELECT id FROM instruction WHERE output LIKE '%vote%' OR length(output) > 1", run=made["model"])
    assert filters.passing(rows, made["model"], name="long").failed
    # Of rows without a query nobody knows.
    with pytest.raises(InputError, match="must not filter: no query says what selects them"):
        filters.passing(rows.arrow, made["model"], name="long")
    assert filters.passing(rows.arrow, made["people"], name="long").failed


def test_a_detail_has_the_parameters_and_of_a_long_query_a_hash_of_the_whole(run):
    detail = lambda sql, parameters: filters.passing(store.query(sql, parameters, run=run), run, name="a")[0].detail
    by_day = "SELECT id FROM preference WHERE right(prompt, 1)::INT % 5 > $day"
    assert detail(by_day, {"day": 1}) == f"{by_day} with {{'day': 1}}"
    long = [detail(f"{by_day} AND '{'x' * 300}' <> '{other}'", {"day": day}) for other in "ab" for day in (0, 1)]
    assert len(set(long)) == 4 and len({each[:300] for each in long}) == 1
    assert all(re.fullmatch(r"(?s:.{300})… \([0-9a-f]{24}\)", each) for each in long)


# --- the console without a browser


@pytest.fixture
def console(run, tmp_path):
    pytest.importorskip("anywidget", reason="needs anywidget: pip install -e .[notebook]")
    return widgets.console(run, folder=tmp_path / "exports")


class Drawn(Page):
    """A page whose layout may also have classes, and a style sheet of its own."""

    LAYOUT = Page.LAYOUT | {"code", "style"}

    def handle_starttag(self, tag, attrs):
        super().handle_starttag(tag, [(name, value) for name, value in attrs if name != "class"])

    @property
    def words(self):
        return "".join(self.text)


def said(console):
    return Drawn(console._said.value).words


def test_a_console_begins_with_the_tables_there_are_and_a_query_that_runs(console, run):
    header = Drawn(console.box.children[0].value)
    assert "preference(id, prompt, chosen, rejected, score_chosen, score_rejected, provenance)" in header.words
    assert 'verdict(record_id, "check", passed' in header.words and not header.foreign
    assert console.rows is None and console.export_button.disabled and console.save_button.disabled
    console.query(console.query_box.value)
    assert len(console.rows) == 20 and re.fullmatch(r"20 rows, \d+\.\d\d s", said(console))
    assert not console.export_button.disabled and not console.save_button.disabled
    bundle = console._repr_mimebundle_()
    assert bundle["text/plain"] == "SQL console over instruction, preference, image_pair, failure, verdict of kinds"
    assert "application/vnd.jupyter.widget-view+json" in bundle


def test_a_console_says_that_the_offline_rules_made_its_rows(tmp_path):
    from workbench.llm import Offline

    pytest.importorskip("anywidget", reason="needs anywidget: pip install -e .[notebook]")
    run = runner.run(tasks.make, tasks.tasks(2), client=Offline(), out=tmp_path)
    assert "offline rules, no model" in Drawn(widgets.console(run).box.children[0].value).words


def test_a_query_that_is_wrong_says_so_and_leaves_no_rows_to_export(console):
    console.query(LATE)
    console.query("SELECT gap FROM preference <script>")
    assert (
        console.rows is None
        and console._grid.value == ""
        and console.export_button.disabled
        and console.save_button.disabled
    )
    assert "Parser Error" in said(console) and "There are: instruction(id, " in said(console)
    assert "<script>" in said(console) and not Drawn(console._said.value).foreign
    for sql in (
        "SELECT * FROM read_text('/etc/hostname')",
        "COPY preference TO 'x.csv'",
        "",
    ):
        console.query(sql)
        assert len(said(console)) > 20 and "sdw-error" in console._said.value


def test_dates_that_python_has_no_place_for_are_text_in_the_grid(console):
    console.query("SELECT 'infinity'::DATE AS day, DATE '20000-01-01' AS far")
    assert len(console.rows) == 1 and "infinity" in Drawn(console._grid.value).words
    assert "20000-01-01" in Drawn(console._grid.value).words


def test_what_a_model_wrote_is_text_in_the_grid_in_messages_and_in_names(console):
    console.query(
        'SELECT output, output || output AS "<b>twice</b>", NULL AS nothing, '
        "'<i>' AS i, 12345 AS n, 0.1 + 0.2 AS exact, 0.1::DOUBLE + 0.2 AS f FROM instruction"
    )
    grid = Drawn(console._grid.value)
    assert not grid.foreign and grid.words.count(kinds.EVIL * 2) >= 36 and "<b>twice</b>" in grid.words
    assert "null" in grid.text and "12,345" in grid.text and "<i>" in grid.text and grid.text.count("0.3") == 144
    console.name.value, console.file.value = "<img src=x>", "<img src=x>.csv"
    console.export()
    assert not Drawn(console._kept.value).foreign and "exports/<img src=x>.csv" in Drawn(console._kept.value).words
    console.query(LATE)
    console.save()
    assert not Drawn(console._kept.value).foreign and "'<img src=x>' cannot be" in Drawn(console._kept.value).words


def test_a_large_result_is_drawn_in_part_and_kept_whole(console):
    columns = ", ".join(f"'{'long ' * 2_000}' AS c{at}" for at in range(50))
    console.query(f"SELECT range AS n, {columns} FROM range(3000)")
    grid = Drawn(console._grid.value)
    assert grid.words.endswith("the first 200 of 3,000 rows, the first 40 of 51 columns") and len(console.rows) == 3_000
    assert "(10,000 characters)" in grid.words and len(console._grid.value) < 200 * 40 * 2_400
    console.query("SELECT range AS n FROM range(100000)")
    console.export()
    assert len(store.query("SELECT n FROM t", t=console.folder / "rows.parquet")) == 100_000
    assert "100,000 rows are in" in Drawn(console._kept.value).words


def test_each_button_does_what_the_call_that_it_shows_does(console, run):
    console.query(LATE)
    console.name.value, console.file.value = " late ", "deep/late.csv"

    def call():
        return html.unescape(re.search(r"<code[^>]*>(.*)</code>", console._kept.value)[1])

    plain = {"store": store, "filters": filters, "run": run, "rows": store.query(LATE, run=run)}
    console.export_button.click()
    written = (console.folder / "deep" / "late.csv").read_bytes()
    assert written.startswith(b'"id","chosen","day"\n') and written.count(b"\n") == 21
    assert eval(call(), plain).read_bytes() == written

    console.save_button.click()
    assert "late: 36 records, 16 failed (16 not_selected). Saved." in Drawn(console._kept.value).words
    saved = run.verdicts
    assert eval(call(), plain).verdicts == saved and len(saved) == 36

    console.sense.label = "selected fail, others pass"
    console.save_button.click()
    assert "Saved, in place of 36 that had this name." in Drawn(console._kept.value).words
    assert [verdict.passed for verdict in run.verdicts] == [not verdict.passed for verdict in saved]
    assert call() == "run.mark(filters.failing(rows, run, name='late'))"


def test_the_console_saves_what_an_uncalibrated_judge_selects_only_where_its_box_is_ticked(console, run):
    console.query(JUDGED)
    console.name.value = "gap"
    console.save_button.click()
    assert "must not filter: the query selects by score_chosen" in Drawn(console._kept.value).words
    assert not run.verdicts
    console.uncalibrated.value = True
    for saved in ("Saved.", "Saved, in place of 36 that had this name."):
        console.save_button.click()
        assert f"uncalibrated.gap: 36 records, 16 failed (16 not_selected). {saved}" in Drawn(console._kept.value).words
    assert "run.mark(filters.passing(rows, run, name='gap', uncalibrated=True))" in Drawn(console._kept.value).words


def test_the_box_runs_a_query_in_a_thread_and_one_at_a_time_and_stops_it(console):
    def hear(**content):
        console.query_box._handle_custom_msg(content, [])

    def wait_until_it_is_idle():
        deadline = time.monotonic() + 30
        while console.query_box.is_running:
            assert time.monotonic() < deadline
            time.sleep(0.01)

    hear(run="SELECT sum(sqrt(a.range + b.range)) FROM range(10000000) a, range(10000000) b")
    hear(run="SELECT 1 AS later")
    assert console.query_box.is_running and console.export_button.disabled
    hear(stop=True)
    wait_until_it_is_idle()
    assert said(console) == "the query was stopped." and console.rows is None
    hear(stop=True)  # too late, which the next query does not suffer for
    hear(run="SELECT 2 AS next")
    assert not console._stop.is_set()
    wait_until_it_is_idle()
    assert console.rows["next"] == [2]


def test_a_query_that_an_interrupt_ended_leaves_the_console_as_it_was(console, monkeypatch):
    def interrupted(*_, **__):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(store.sql, "answer", interrupted)
        with pytest.raises(KeyboardInterrupt):
            console.query(LATE)
    assert not console.query_box.is_running and console.export_button.disabled and console.rows is None
    console.query(LATE)
    assert len(console.rows) == 20


def test_a_button_that_cannot_do_its_work_says_why(console, run):
    console.query("SELECT chosen FROM preference")
    for name, file, why in (("gap", "rows.txt", "neither .parquet nor .csv"), ("gap", "", "neither .parquet nor .csv")):
        console.name.value, console.file.value = name, file
        console.export_button.click()
        assert why in Drawn(console._kept.value).words
        console.save_button.click()
        assert "no column 'id'" in Drawn(console._kept.value).words
    console.query(LATE)
    console.save_button.click()
    assert "Saved" in Drawn(console._kept.value).words and len(run.verdicts) == 36
    console.name.value = "no name"
    console.save_button.click()
    assert "'no name' cannot be a check's name" in Drawn(console._kept.value).words and len(run.verdicts) == 36


@pytest.mark.parametrize("library", ["ipywidgets", "anywidget"])
def test_without_the_notebook_extra_the_console_says_what_to_install(run, library, monkeypatch):
    widgets.sql_console._query_box.cache_clear()
    monkeypatch.setitem(sys.modules, library, None)
    with pytest.raises(MissingLibrary, match=rf"'{library}' is not installed\. It comes with the 'notebook' extra"):
        widgets.console(run)


# --- the console in JupyterLab


@lab.needs_browser
def test_in_jupyterlab_a_query_is_typed_run_stopped_exported_and_saved(run, tmp_path):
    cells = [
        f"from workbench import runner, store, widgets\nrun = runner.load({str(run.folder)!r})\nconsole = widgets.console(run)\nconsole",
        "len(console.rows), sum(not verdict.passed for verdict in run.verdicts)",
        "6 * 7",
    ]
    with lab.jupyterlab(tmp_path / "home") as jupyter, lab.browser() as page:
        notebook = jupyter.open(page, "console", cells)
        notebook.run(0)
        drawn = notebook.cell(0)
        box = drawn.get_by_label("SQL")
        box.wait_for(timeout=20_000)
        box.fill("SELECT output, instruction FROM instruction ORDER BY 1")
        page.keyboard.press("Shift+Enter")
        drawn.get_by_text("72 rows,").wait_for(timeout=10_000)
        # The keys ran the query, and neither the cell again nor the next one.
        assert [output["execution_count"] for output in notebook.outputs(0)] == [1] and notebook.outputs(1) == []
        assert page.evaluate("document.activeElement.tagName") == "TEXTAREA"
        grid = drawn.locator(".sdw-grid")
        assert grid.locator("tbody tr").count() == 72 and grid.locator("img, script").count() == 0
        grid.locator("summary").first.click()
        assert kinds.EVIL * 2 in grid.locator("details").first.inner_text()
        page.screenshot(path=tmp_path / "1-light.png")

        box.fill("SELECT sum(sqrt(a.range + b.range)) FROM range(10000000) a, range(10000000) b")
        page.keyboard.press("Control+Enter")
        drawn.get_by_text("Running").wait_for(timeout=5_000)
        notebook.run(2)
        notebook.wait_for(2)  # the kernel is free meanwhile
        drawn.get_by_role("button", name="Stop").click()
        drawn.get_by_text("the query was stopped").wait_for(timeout=10_000)

        box.fill("SELECT nothing FROM preference")
        drawn.get_by_role("button", name="Run", exact=True).click()
        drawn.get_by_text("There are: instruction(id,").wait_for(timeout=10_000)
        assert grid.count() == 0 and drawn.get_by_role("button", name="Export").is_disabled()

        box.fill(LATE)
        page.keyboard.press("Control+Enter")
        drawn.get_by_text("20 rows,").wait_for(timeout=10_000)
        drawn.get_by_role("button", name="Export").click()
        drawn.get_by_text("20 rows are in").wait_for(timeout=10_000)
        assert len(store.query("SELECT * FROM t", t=run.folder / "exports" / "rows.parquet")) == 20
        drawn.get_by_placeholder("too_long").fill("gap")
        drawn.get_by_role("button", name="Save as verdicts").click()
        drawn.get_by_text("gap: 36 records, 16 failed (16 not_selected). Saved.").wait_for(timeout=10_000)
        notebook.run(1)
        notebook.wait_for(1)
        assert notebook.outputs(1)[0]["data"]["text/plain"] == "(20, 16)"

        lab.darken(page)
        page.screenshot(path=tmp_path / "2-dark.png")
        for part in (grid.locator("th").first, grid.locator("td").first, box, drawn.locator("code").first):
            colour = part.evaluate("part => getComputedStyle(part).color")
            assert min(map(int, re.findall(r"\d+", colour)[:3])) > 150, colour  # light text on dark paper
        assert page.title() != "broken in" and page.outside == []
