"""The store: documents in, one schema a kind, whole files or none, and SQL that reads tables and nothing else."""

import csv
import errno
import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests import kinds, tasks
from tests.conftest import ROOT
from tests.test_records import Page
from workbench import runner, store
from workbench.errors import InputError, MissingLibrary, RecordError, StoreError
from workbench.llm import Scripted
from workbench.records import KINDS, Document, Failure, Label, Preference, Provenance, Verdict, to_row
from workbench.store import Rows

HTML = "<html><body><h1>Springs</h1><p>A spring is where <b>groundwater</b> leaves.</p><script>alert('no text')</script></body></html>"


def write_pdf(path, text):
    canvas = pytest.importorskip("reportlab.pdfgen.canvas")
    page = canvas.Canvas(str(path))
    page.drawString(72, 720, text)
    page.save()


def write_docx(path, heading, text):
    document = pytest.importorskip("docx").Document()
    document.add_heading(heading, level=1)
    document.add_paragraph(text)
    document.save(str(path))


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A folder as people have them: several formats, in depth, with files that are no documents and files that are broken."""
    pytest.importorskip("markitdown")
    root = tmp_path_factory.mktemp("documents")
    for inner in ("b/deep/er", ".git", "b/.hidden"):
        (root / inner).mkdir(parents=True)
    texts = {
        "z.md": "# The last\n\nGrüße.", "a.txt": "plain words", "b/m.mdx": "# An mdx page\n\n<Tip>words</Tip>", "b/deep/er/UPPER.MD": "# Upper",
        "b/page.html": HTML, ".secret.md": "hidden", ".git/x.md": "hidden", "b/.hidden/y.txt": "hidden", "b/code.py": "print()", "b/table.csv": "a,b",
        "b/no-end.markdown": "text", "empty.md": "", "blank.txt": " \n\t\r\n",
    }  # fmt: skip
    for name, text in texts.items():
        (root / name).write_text(text, encoding="utf-8")
    (root / "latin.txt").write_bytes("Grüße".encode("latin-1"))
    (root / "zeros.txt").write_bytes(b"a\x00b")
    (root / "utf16.txt").write_text("sixteen bits", encoding="utf-16")
    (root / "bom.md").write_text("# With a mark", encoding="utf-8-sig")
    write_pdf(root / "b/paper.pdf", "A weir measures discharge.")
    write_docx(root / "letter.docx", "A letter", "Dough rises slowly.")
    for name in ("b/paper.pdf", "letter.docx"):
        whole = (root / name).read_bytes()
        (root / f"cut-{Path(name).name}").write_bytes(whole[: len(whole) // 2])
    (root / "fake.pdf").write_text("this is no PDF")
    return root


# --- documents


def test_a_folder_gives_its_documents_in_depth_sorted_by_path_without_hidden_ones(folder):
    found = store.documents(folder)
    assert [document.path for document in found] == [
        "a.txt", "b/deep/er/UPPER.MD", "b/m.mdx", "b/no-end.markdown", "b/page.html", "b/paper.pdf", "bom.md", "letter.docx", "utf16.txt", "z.md",
    ]  # fmt: skip
    texts = {document.path: document.text for document in found}
    assert (
        texts["z.md"] == "# The last\n\nGrüße."
        and texts["utf16.txt"] == "sixteen bits"
        and texts["bom.md"] == "# With a mark"
    )
    assert "A weir measures discharge." in texts["b/paper.pdf"] and "Dough rises slowly." in texts["letter.docx"]
    assert "**groundwater**" in texts["b/page.html"] and "alert" not in texts["b/page.html"]


def test_what_cannot_be_read_is_skipped_by_name_with_a_reason_and_the_rest_is_read(folder):
    skipped = dict(store.documents(folder).skipped)
    assert skipped.keys() == {
        "latin.txt",
        "zeros.txt",
        "empty.md",
        "blank.txt",
        "cut-paper.pdf",
        "cut-letter.docx",
        "fake.pdf",
    }
    assert "not UTF-8 (byte 2)" in skipped["latin.txt"] and "zero bytes" in skipped["zeros.txt"]
    assert skipped["empty.md"] == skipped["blank.txt"] == "it holds no text"
    for name in ("cut-letter.docx", "fake.pdf"):
        assert skipped[name].startswith("it could not be converted: ") and len(skipped[name]) > 30, skipped[name]


def test_a_list_of_documents_says_how_many_there_are_and_what_was_skipped(folder):
    found = store.documents(folder)
    characters = sum(len(document.text) for document in found)
    assert repr(found) == f"10 documents, {characters:,} characters, 7 files skipped (blank.txt: it holds no text)"
    page = Page(found._repr_html_())
    assert "b/m.mdx" in page.text and "An mdx page" in page.text
    evil = store.Documents([Document("x", path="<script>", title="<img src=x>")])
    assert not Page(evil._repr_html_()).foreign


def test_titles_come_from_the_first_heading_or_the_front_matter_or_the_file_name(tmp_path):
    texts = {
        "a.md": "Words first.\n\n# The title { #anchor }\n\n# Another",
        "b.md": "---\ntags: x\ntitle: 'From the front'\n---\n\n## Only second level",
        "my-long_name.txt": "No heading here.",
        "code.md": "```sh\n# install it\npip install x\n```\n\n# After the code\n",
        "only-code.md": "Words.\n\n~~~\n# a comment\n~~~\n",
    }
    for name, text in texts.items():
        (tmp_path / name).write_text(text)
    assert {document.path: document.title for document in store.documents(tmp_path)} == {
        "a.md": "The title", "b.md": "From the front", "my-long_name.txt": "my long name", "code.md": "After the code", "only-code.md": "only code",
    }  # fmt: skip


def test_line_ends_of_every_system_become_one(tmp_path):
    (tmp_path / "a.txt").write_bytes(b"one\r\ntwo\rthree\nfour")
    assert store.documents(tmp_path)[0].text == "one\ntwo\nthree\nfour"


def test_one_file_can_be_named(tmp_path):
    (tmp_path / "a.md").write_text("# One")
    (tmp_path / "b.md").write_text("# Two")
    assert store.documents(tmp_path / "a.md") == [Document("# One", path="a.md", title="One")]
    assert store.documents(str(tmp_path / "b.md"))[0].title == "Two"


def test_a_folder_read_twice_gives_the_same_ids_wherever_it_lies(tmp_path):
    ids = []
    for name in ("here", "there"):
        (tmp_path / name / "x").mkdir(parents=True)
        (tmp_path / name / "x/a.md").write_text("# One")
        ids.append([document.id for document in store.documents(tmp_path / name)])
    assert ids[0] == ids[1]


def test_nothing_to_read_is_an_error_that_names_the_path(tmp_path):
    with pytest.raises(InputError, match=rf"there is no file or folder {tmp_path / 'nowhere'}"):
        store.documents(tmp_path / "nowhere")
    (tmp_path / "code.py").write_text("print()")
    with pytest.raises(InputError, match=r"holds no document \(.*\.docx, .*\.md, .*\.pdf"):
        store.documents(tmp_path)


def test_a_folder_of_nothing_but_unreadable_files_is_an_error_with_the_first_reason(tmp_path):
    (tmp_path / "a.md").write_bytes(b"\xff\xff")
    (tmp_path / "b.md").write_text("")
    with pytest.raises(InputError, match=r"none of the 2 documents in .* could be read; a\.md: it is not UTF-8"):
        store.documents(tmp_path)


def test_a_file_that_cannot_be_opened_is_skipped_with_the_systems_reason(tmp_path, monkeypatch):
    (tmp_path / "a.md").write_text("# One")
    (tmp_path / "b.md").write_text("# Two")
    read = Path.read_bytes

    def refuse(path):
        if path.name == "a.md":
            raise PermissionError(errno.EACCES, "Permission denied", str(path))
        return read(path)

    monkeypatch.setattr(Path, "read_bytes", refuse)
    found = store.documents(tmp_path)
    assert [document.path for document in found] == ["b.md"] and found.skipped == (("a.md", "Permission denied"),)


def test_without_the_converter_the_error_says_what_to_install(tmp_path, monkeypatch):
    (tmp_path / "a.html").write_text(HTML)
    monkeypatch.setitem(sys.modules, "markitdown", None)
    with pytest.raises(
        MissingLibrary, match=r"'markitdown' is not installed.*pip install 'synthetic-data-workbench\[documents\]'"
    ):
        store.documents(tmp_path)


def test_a_table_with_a_text_column_is_documents_and_its_empty_rows_are_skipped_by_number(tmp_path):
    pandas = pytest.importorskip("pandas")
    frame = pandas.DataFrame(
        {"text": ["one", None, float("nan"), "", " ", "two"], "title": ["T", None, "", "", "", None], "n": range(6)}
    )
    frame.to_parquet(tmp_path / "t.parquet")
    found = store.documents(tmp_path / "t.parquet")
    assert found == [Document("one", path="row 0", title="T"), Document("two", path="row 5")]
    assert [name for name, _ in found.skipped] == ["row 1", "row 2", "row 3", "row 4"]
    pq.write_table(pa.table({"text": [None, 1.5]}), tmp_path / "numbers.parquet")
    with pytest.raises(InputError, match="holds no text in its column 'text'"):
        store.documents(tmp_path / "numbers.parquet")


def test_a_table_without_a_text_column_names_the_columns_it_has(tmp_path):
    pq.write_table(pa.table({"body": ["x"], "url": ["y"]}), tmp_path / "t.parquet")
    with pytest.raises(InputError, match=r"has no column 'text'; it has body, url. Rename"):
        store.documents(tmp_path / "t.parquet")


def test_documents_that_the_workbench_wrote_come_back_themselves_and_an_edited_one_is_refused(tmp_path):
    made = [Document("one", path="a.md", provenance=Provenance("given", parents=("p",))), Document("two", title="T")]
    path = store.write(made, tmp_path / "d.parquet")
    assert store.documents(path) == made
    rows = store.read_table(path)
    edited = rows.set_column(rows.column_names.index("text"), rows.schema.field("text"), pa.array(["one", "three"]))
    pq.write_table(edited, path)
    with pytest.raises(InputError, match=r"row 1: Document .* has the id of another content"):
        store.documents(path)


# --- Parquet


@pytest.mark.parametrize("kind", [*KINDS.values(), Failure, Verdict], ids=lambda kind: kind.__name__)
def test_a_kinds_schema_has_its_fields_with_the_id_first_and_survives_an_empty_file(kind, tmp_path):
    found = store.schema(kind)
    if kind in KINDS.values():
        assert found.names[0] == "id" and found.names[-1] == "provenance"
    path = store.write([], tmp_path / "none.parquet", kind=kind)
    assert store.read(path) == [] and store.read_table(path).schema.names == found.names


def test_only_fields_that_may_be_none_are_nullable():
    found = store.schema(KINDS["QA"])
    assert {field.name for field in found if field.nullable} == {"answer", "evidence", "evidence_span", "persona"}


def test_two_kinds_have_no_common_table(tmp_path):
    with pytest.raises(RecordError, match="got Document, Label"):
        store.write([Label("a", "b"), Document("c")], tmp_path / "x.parquet")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("row", [Document(None), Document(3), Label("a", ["b"])], ids=["none", "number", "list"])
def test_a_row_that_is_no_text_where_text_belongs_is_refused_and_leaves_no_file(row, tmp_path):
    with pytest.raises(StoreError, match=r"these (Document|Label) rows (do not fit the kind's schema|have no 'text')"):
        store.write(
            [Document("fine") if isinstance(row, Document) else Label("fine", "x"), row], tmp_path / "x.parquet"
        )
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "stop", [KeyboardInterrupt(), SystemExit(), MemoryError()], ids=lambda error: type(error).__name__
)
def test_a_write_that_is_interrupted_leaves_the_old_file_and_nothing_else(stop, tmp_path, monkeypatch):
    path = store.write([Label("old", "x")], tmp_path / "labels.parquet")

    def half(table, where, **_):
        Path(where).write_bytes(b"PAR1 half a file")
        raise stop

    with monkeypatch.context() as patch:
        patch.setattr(pq, "write_table", half)
        with pytest.raises(type(stop)):
            store.write([Label("new", "x")], path)
    assert store.read(path) == [Label("old", "x")] and list(tmp_path.iterdir()) == [path]
    store.write([Label("new", "x")], path)
    assert store.read(path) == [Label("new", "x")] and list(tmp_path.iterdir()) == [path]


def test_a_reader_never_sees_a_file_that_is_not_whole(tmp_path, monkeypatch):
    path, seen = tmp_path / "labels.parquet", []
    write = pq.write_table

    def watched(table, where, **options):
        seen.append(path.exists())
        write(table, where, **options)
        seen.append(path.exists())

    monkeypatch.setattr(pq, "write_table", watched)
    store.write([Label("a", "x")], path)
    assert seen == [False, False] and store.read(path) == [Label("a", "x")]


def test_a_full_disk_is_said_to_be_full_and_leaves_the_old_file_and_no_other(tmp_path, monkeypatch):
    path = store.write([Label("old", "x")], tmp_path / "labels.parquet")
    if not Path("/dev/full").exists():
        pytest.skip("needs /dev/full, the device that is always full")

    def on_the_full_device(dir, prefix):
        name = f"{dir}/{prefix}full"
        os.symlink("/dev/full", name)
        return os.open(os.devnull, os.O_RDONLY), name

    monkeypatch.setattr(tempfile, "mkstemp", on_the_full_device)
    with pytest.raises(
        StoreError, match=rf"cannot write {path}: .*(?i:no space left on device).*Free some space and run again"
    ):
        store.write([Label("new " * 9_000, "x")], path)
    monkeypatch.undo()
    assert store.read(path) == [Label("old", "x")] and list(tmp_path.iterdir()) == [path]


def test_a_disk_that_fills_up_while_other_code_writes_leaves_no_file_either(tmp_path):
    with pytest.raises(StoreError, match=r"No space left on device\. Free some space"):
        with store.atomically(tmp_path / "x.json") as temporary:
            temporary.write_text("{")
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    assert list(tmp_path.iterdir()) == []


def test_a_file_over_the_systems_limit_is_a_store_error_in_a_real_process(tmp_path):
    code = (
        "import resource, sys; from workbench import store; from workbench.errors import StoreError; from workbench.records import Label\n"
        "import pyarrow, random\n"
        "path = store.write([Label('old', 'x')], sys.argv[1])\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))\n"
        "try: store.write([Label(random.Random(0).randbytes(99_000).hex(), 'x')], path)\n"
        "except StoreError as error: print(error)\n"
        "assert store.read(path) == [Label('old', 'x')]"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "l.parquet")], cwd=ROOT, capture_output=True, text=True
    )
    assert done.returncode == 0 and "cannot write" in done.stdout and "File too large" in done.stdout, done
    assert [path.name for path in tmp_path.iterdir()] == ["l.parquet"]


def test_a_folder_that_cannot_be_made_is_a_store_error_with_the_next_move(tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(StoreError, match=r"cannot write .*Check that the folder is there and can be written"):
        store.write([Label("a", "x")], tmp_path / "file" / "labels.parquet")


def test_a_file_that_was_cut_off_anywhere_is_a_store_error(tmp_path):
    path = store.write([Label(f"text {at}", "x") for at in range(200)], tmp_path / "labels.parquet")
    whole = path.read_bytes()
    for length in [0, 1, 4, 8, *range(9, len(whole), 97), len(whole) - 1]:
        path.write_bytes(whole[:length])
        with pytest.raises(StoreError, match=r"is no whole Parquet file: .*copy it again"):
            store.read(path)
    for middle in (b"x" * 300, os.urandom(300)):
        path.write_bytes(middle)
        with pytest.raises(StoreError, match="no whole Parquet file"):
            store.read_table(path)


def test_a_file_that_is_missing_or_a_folder_or_of_no_kind_is_a_store_error_with_the_next_move(tmp_path):
    with pytest.raises(StoreError, match=r"there is no file .*run what makes it first"):
        store.read(tmp_path / "none.parquet")
    with pytest.raises(StoreError, match="no whole Parquet file"):
        store.read(tmp_path)
    pq.write_table(pa.table({"a": [1], "b": [2]}), tmp_path / "foreign.parquet")
    with pytest.raises(
        StoreError, match=r"names no record kind; it has the columns a, b\. Read it with store\.read_table\(\)"
    ):
        store.read(tmp_path / "foreign.parquet")
    assert store.read_table(tmp_path / "foreign.parquet").to_pylist() == [{"a": 1, "b": 2}]


def test_a_text_that_was_edited_in_the_file_is_refused_by_its_id(tmp_path):
    path = store.write([Label("a", "x"), Label("b", "x")], tmp_path / "labels.parquet")
    rows = [to_row(Label("a", "x")), {**to_row(Label("b", "x")), "label": "y"}]
    pq.write_table(pa.Table.from_pylist(rows, schema=store.schema(Label)), path)
    with pytest.raises(RecordError, match="has the id of another content"):
        store.read(path)


# --- SQL


SCORED = [Preference("p", "c", "r", 0.5, 0.25), Preference("q", "c", "r", None, 1)]


def test_a_query_reads_records_arrow_tables_data_frames_files_and_other_rows(tmp_path):
    records = [Label("a", "x"), Label("b", "y")]
    path = store.write(records, tmp_path / "l.parquet")
    tables = [
        records,
        tuple(records),
        store.table(records),
        path,
        str(path),
        store.query("SELECT * FROM t", t=records),
        iter(records),
    ]
    pandas = pytest.importorskip("pandas")
    tables += [
        pandas.DataFrame({"text": ["a", "b"], "label": ["x", "y"]}),
        pa.table({"text": ["a", "b"], "label": ["x", "y"]}),
    ]
    for table in tables:
        assert store.query("SELECT text FROM t WHERE label = 'y'", t=table).to_pylist() == [{"text": "b"}]


def test_a_run_is_a_table_of_its_records(tmp_path):
    run = runner.run(tasks.make, tasks.tasks(5), client=Scripted(tasks.echo), out=tmp_path)
    found = store.query(
        "SELECT r.instruction, l.label FROM run r JOIN l ON r.output = l.text", run=run, l=[Label("TEXT 3", "mine")]
    )
    assert found.to_pylist() == [{"instruction": "text 3", "label": "mine"}]


def test_values_go_in_as_parameters_and_stay_values():
    evil = "x' OR 1=1; DROP TABLE t; --"
    t = [Label(evil, "yes"), Label("a", "no")]
    assert store.query("SELECT label FROM t WHERE text = ?", [evil], t=t)["label"] == ["yes"]
    assert store.query("SELECT label FROM t WHERE text = $text", {"text": evil}, t=t)["label"] == ["yes"]
    assert store.query("SELECT $a AS a, $b AS b, $c AS c", {"a": None, "b": [1, 2], "c": "é\u2028"}).to_pylist() == [
        {"a": None, "b": [1, 2], "c": "é\u2028"}
    ]


@pytest.mark.parametrize(
    "sql, parameters",
    [
        ("SELECT nothing FROM scores", None), ("SELECT * FROM nowhere", None), ("SELEC 1", None), ("SELECT score_chosen / 'x' FROM scores", None),
        ("SELECT $missing", None), ("SELECT 1", {"extra": 1}), ("SELECT ?", [object()]), ("SELECT ? + ?", [1]),
    ],
)  # fmt: skip
def test_a_query_that_is_wrong_says_what_tables_and_columns_there_are(sql, parameters):
    with pytest.raises(StoreError) as caught:
        store.query(sql, parameters, scores=SCORED, labels=[Label("a", "x")])
    said = str(caught.value)
    assert (
        "There are: scores(id, prompt, chosen, rejected, score_chosen, score_rejected, provenance); labels(id, text, label, provenance)."
        in said
    )
    assert "Error" in said.splitlines()[0]
    with pytest.raises(StoreError, match="There are: no tables"):
        store.query("SELECT * FROM nowhere")


@pytest.mark.parametrize("statement", ["", "-- nothing", ";"])
def test_a_statement_that_gives_no_rows_is_told_to_be_a_select(statement):
    with pytest.raises(StoreError, match="Write a SELECT"):
        store.query(statement)


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT * FROM read_csv('{there}')", "SELECT * FROM read_csv_auto('{there}')", "SELECT * FROM read_text('{there}')", "SELECT * FROM '{there}'",
        "SELECT * FROM read_blob('{there}')", "SELECT * FROM read_parquet('{table}')", "SELECT * FROM parquet_scan('{table}')", "SELECT * FROM '{table}'",
        "SELECT * FROM glob('{folder}/*')", "SELECT * FROM parquet_metadata('{table}')", "COPY (SELECT 1) TO '{new}'", "COPY t FROM '{there}'",
        "ATTACH '{new}' AS other", "EXPORT DATABASE '{new}'", "IMPORT DATABASE '{folder}'", "INSTALL httpfs", "LOAD httpfs",
        "SET enable_external_access = true; SELECT * FROM read_text('{there}')", "RESET enable_external_access; SELECT * FROM read_text('{there}')",
        "SELECT * FROM read_csv('https://127.0.0.1/x.csv')",
    ],
)  # fmt: skip
def test_sql_reads_and_writes_no_file_and_no_address(sql, tmp_path):
    (tmp_path / "there.csv").write_text("secret\n42\n")
    store.write([Label("secret", "x")], tmp_path / "table.parquet")
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    names = {
        "there": tmp_path / "there.csv",
        "table": tmp_path / "table.parquet",
        "new": tmp_path / "new",
        "folder": tmp_path,
    }
    with pytest.raises(StoreError) as caught:
        store.query(sql.format(**names), t=[Label("a", "x")])
    assert "secret" not in str(caught.value)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


@pytest.mark.parametrize(
    "sql",
    [
        "CALL enable_logging(level='trace', storage='file', storage_path='{folder}/log')",
        "EXPLAIN ANALYZE CALL enable_logging(level='trace', storage='file', storage_path='{folder}/log')",
        "EXPLAIN ANALYZE FROM enable_logging(level='trace', storage='file', storage_path='{folder}/log')",
        "EXPLAIN SELECT 1", "PRAGMA version", "SET threads = 1", "CREATE TABLE kept AS SELECT 1 AS a", "INSERT INTO t VALUES (1)", "CALL range(3)",
    ],
)  # fmt: skip
def test_what_is_no_query_is_refused_in_words_and_the_process_lives(sql, tmp_path):
    with pytest.raises(StoreError, match=r"^[A-Z]+ is no query, it may change something\. Write a SELECT"):
        store.query(sql.format(folder=tmp_path), t=SCORED)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("sql", ["SELECT 1; SELECT 2", "CREATE TABLE kept AS SELECT 1 AS a; SELECT * FROM kept"])
def test_two_statements_are_no_query(sql):
    with pytest.raises(StoreError, match=r"the query has 2 statements\. Write one"):
        store.query(sql)


@pytest.mark.parametrize(
    "sql",
    [
        "FROM t", "WITH a AS (FROM t) FROM a", "VALUES (1)", "(SELECT 1)", "TABLE t", "DESCRIBE t", "SUMMARIZE t", "SHOW TABLES",
        "PIVOT t ON prompt USING count(*)", "/* a */ SELECT 1; -- b",
    ],
)  # fmt: skip
def test_every_statement_that_reads_is_a_query(sql):
    assert len(store.query(sql, t=SCORED)) > 0


def test_sql_sees_no_variable_of_python():
    secret = pa.table({"a": [1]})
    assert secret.num_rows == 1
    for name in ("secret", "value", "tables", "shown", "found", "database", "relation", "parameters"):
        with pytest.raises(StoreError, match=f"{name} does not exist"):
            store.query(f"SELECT * FROM {name}", t=secret)


@pytest.mark.parametrize("value", [3, None, object(), ["text"], [{"a": 1}], {"a": [1]}, "nowhere.parquet"], ids=repr)
def test_what_is_no_table_is_refused_in_words(value):
    with pytest.raises(
        StoreError,
        match=r"no table\. Give records, an Arrow table, a data frame or a Parquet path|there is no file nowhere",
    ):
        store.query("SELECT 1", t=value)


def test_a_name_that_cannot_be_a_tables_is_refused():
    with pytest.raises(StoreError, match="'a b' cannot be a table's name"):
        store.query("SELECT 1", **{"a b": SCORED})


def test_an_empty_list_is_no_table_and_the_empty_table_of_a_kind_is_one():
    with pytest.raises(StoreError, match=r"an empty list has no columns\. Give store\.table\(\[\], kind\)"):
        store.query("SELECT 1", x=[])
    assert len(store.query("SELECT id FROM x", x=store.table([], Label))) == 0


def test_columns_of_one_name_are_kept_apart():
    found = store.query(
        "SELECT a.label, b.label, b.label AS label_1, a.label FROM a JOIN b USING (text)",
        a=[Label("t", "x")],
        b=[Label("t", "y")],
    )
    assert found.columns == ["label", "label_1", "label_1_1", "label_2"]
    assert found.to_pylist() == [{"label": "x", "label_1": "y", "label_1_1": "y", "label_2": "x"}]
    assert repr(found).splitlines()[2].split() == ["x", "y", "y", "x"]


# --- a run's tables


def marked(folder, count=40):
    """A run of several kinds, with a verdict on each of its preferences."""
    run = kinds.run(folder, count)
    preferences = [record for record in run.records if isinstance(record, Preference)]
    return run.mark(
        [Verdict(record.id, "gap", record.score_chosen - record.score_rejected > 0.3) for record in preferences]
    )


def test_a_run_brings_a_table_for_each_kind_it_holds_and_its_failures_and_verdicts(tmp_path):
    run = marked(tmp_path)
    assert [*run.tables()] == ["instruction", "preference", "image_pair", "failure", "verdict"]
    for name in ("Instruction", "Preference", "ImagePair", "Failure"):
        table = {"ImagePair": "image_pair"}.get(name, name.lower())
        found = store.query(f"SELECT * FROM {table}", run=run)
        assert found.columns == store.schema({**KINDS, "Failure": Failure}[name]).names
        assert (
            found.to_pylist()
            == [to_row(row) for row in (*run.records, *run.failures) if type(row).__name__ == name]
            != []
        )
    wide = "SELECT id FROM preference WHERE score_chosen - score_rejected > $gap"
    assert store.query(wide, {"gap": 0.3}, run=run)["id"] == [
        record.id for record in run.kept() if isinstance(record, Preference)
    ]
    joined = store.query(
        'SELECT p.id FROM preference p JOIN verdict v ON v.record_id = p.id WHERE v."check" = ? AND NOT v.passed',
        ["gap"],
        run=run,
    )
    assert len(joined) == sum(not verdict.passed for verdict in run.verdicts) > 0


def test_the_names_that_sql_is_shown_with_are_those_that_it_takes():
    names = ["id", "check", "inner", "Select", "value", "first", "a b", 'a "b"', "é", "1st", ""]
    table = pa.table({name or "empty": [at] for at, name in enumerate(names)})
    shown = store.described({"t": table})
    assert shown.startswith('t(id, "check", "inner", "Select", value, first, "a b", "a ""b""", é, "1st", ')
    assert store.query(f"SELECT {shown[2:-1]} FROM t", t=table).to_pylist() == table.to_pylist()
    words = pa.table(
        {name: [name] for name in store.query("SELECT DISTINCT keyword_name FROM duckdb_keywords()")["keyword_name"]}
    )
    shown = store.described({"t": words})
    assert words.num_columns > 400 > 150 > shown.count('"') / 2 > 50
    assert store.query(f"SELECT {shown[2:-1]} FROM t", t=words).to_pylist() == words.to_pylist()


def test_a_run_that_nothing_was_marked_in_has_an_empty_table_of_verdicts_and_one_with_no_loss_of_failures(tmp_path):
    run = runner.run(tasks.make, tasks.tasks(3), client=Scripted(tasks.echo), out=tmp_path)
    kept = "SELECT count(*) AS n FROM instruction WHERE id NOT IN (SELECT record_id FROM verdict WHERE NOT passed)"
    assert store.query(kept, run=run)["n"] == [3]
    assert store.query("SELECT * FROM failure", run=run).to_pylist() == []


def test_two_runs_have_their_names_before_those_of_their_tables_and_a_given_table_goes_before_a_runs_own(tmp_path):
    before, after = marked(tmp_path / "before", 20), marked(tmp_path / "after", 40)
    sql = "SELECT count(*) AS n FROM after_preference LEFT JOIN before_preference USING (id) WHERE before_preference.id IS NULL"
    assert store.query(sql, before=before, after=after)["n"] == [18]
    assert store.query("SELECT label FROM preference", run=after, preference=[Label("a", "mine")])["label"] == ["mine"]
    one = runner.run(tasks.make, tasks.tasks(3), client=Scripted(tasks.echo), out=tmp_path / "one")
    assert store.query("SELECT count(*) AS n FROM a JOIN b_instruction USING (id)", a=one, b=one)["n"] == [3]
    assert len(store.query("SELECT * FROM preference", **after.tables())) == 36
    with pytest.raises(
        StoreError, match=r"run does not exist(?s:.*)There are: instruction\(id, .*verdict\(record_id, \"check\","
    ):
        store.query("SELECT * FROM run", run=after)


def test_a_runs_files_are_read_only_where_the_query_needs_them(tmp_path):
    run = marked(tmp_path)
    for path in tmp_path.glob("shards/*/Preference.parquet"):
        path.write_bytes(path.read_bytes()[:100])
    assert len(store.query("SELECT * FROM instruction", run=run)) == 72
    with pytest.raises(StoreError, match=r"Parquet magic bytes not found(?s:.*)There are: instruction"):
        store.query("SELECT prompt FROM preference", run=run)
    path.unlink()
    with pytest.raises(StoreError, match=r"a file of this run is gone: .*Preference\.parquet\. Run again what made it"):
        store.query("SELECT 1", run=run)


def test_a_column_that_older_shards_do_not_have_is_null_there(tmp_path):
    run = marked(tmp_path)
    path = next(tmp_path.glob("shards/000001/Preference.parquet"))
    pq.write_table(store.read_table(path).drop_columns(["score_rejected"]), path)
    found = store.query("SELECT count(*) AS n, count(score_rejected) AS scored FROM preference", run=run)
    assert found.to_pylist() == [{"n": 36, "scored": 27}]


# --- numpy's values, large results, the stop button


def test_numpys_numbers_and_vectors_are_parameters_like_pythons():
    for value in (np.float32(0.5), np.float64(0.5), np.int64(3), np.bool_(True), np.str_("a")):
        assert (
            store.query("SELECT $v AS v", {"v": value})["v"]
            == store.query("SELECT ? AS v", [value])["v"]
            == [value.item()]
        )
    vector = np.arange(3, dtype=np.float32)
    assert store.query("SELECT $v::FLOAT[3] AS v", {"v": vector})["v"] == [[0.0, 1.0, 2.0]]
    assert store.query("SELECT list_sum(?) AS v", [vector])["v"] == [3.0]


def test_a_result_that_would_fill_the_memory_ends_in_words(monkeypatch):
    monkeypatch.setattr(store.sql, "MOST_BYTES", 2**20)
    everything = "SELECT a.range AS a, b.range AS b FROM range(1000000) a, range(1000000) b"
    with pytest.raises(StoreError, match=r"gives more than 0\.000977 GB of rows\. Add a LIMIT"):
        store.query(everything)
    assert len(store.query(f"{everything} LIMIT 20000")) == 20_000


def test_an_error_that_comes_after_the_first_rows_is_said_like_any_other():
    late = "SELECT range, CASE WHEN range = 900000 THEN error('too late') END AS x FROM range(1000000)"
    with pytest.raises(StoreError, match=r"too late\nThere are: no tables"):
        store.query(late)


def test_a_query_hears_the_stop_button_while_it_computes():
    threading.Timer(0.5, lambda: os.kill(os.getpid(), signal.SIGINT)).start()
    started = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        store.query("SELECT sum(sqrt(a.range + b.range)) AS n FROM range(10000000) a, range(10000000) b")
    assert time.monotonic() - started < 20  # it would take weeks
    assert store.query("SELECT 1 AS a")["a"] == [1]


@pytest.mark.parametrize("seconds", [0, 0.3])
def test_a_query_in_another_thread_is_stopped_by_its_event(seconds):
    stop = threading.Event()
    threading.Timer(seconds, stop.set).start()
    with pytest.raises(StoreError, match=r"the query was stopped\."):
        store.sql.answer(
            "SELECT sum(sqrt(a.range)) AS n FROM range(10000000) a, range(10000000) b", None, {}, stop=stop
        )


# --- vectors


def unit(rows, size, seed=0):
    array = np.random.default_rng(seed).standard_normal((rows, size))
    return array / np.linalg.norm(array, axis=1, keepdims=True)


def test_the_nearest_are_those_that_numpy_finds_by_brute_force_in_the_same_order():
    array, wanted = unit(3_000, 64), unit(5, 64, seed=1)
    for vector in wanted:
        cosines = array @ vector
        best = np.argsort(-cosines)[:20]
        found = store.nearest(store.vectors([f"r{at}" for at in range(3_000)], array), vector * 7, count=20)
        assert found.columns == ["id", "similarity"] and found["id"] == [f"r{at}" for at in best]
        assert found["similarity"] == pytest.approx(cosines[best], abs=1e-6)
        sql = "SELECT id, array_cosine_similarity(vector, $query::FLOAT[64]) AS s FROM v ORDER BY s DESC LIMIT 20"
        assert store.query(sql, {"query": vector}, v=array)["id"] == best.tolist()  # of a bare array: the places


def test_other_columns_stay_and_ties_are_in_the_order_of_their_ids_and_zeros_come_last(tmp_path):
    array = np.array([[0, 0], [1, 0], [-1, 0], [2, 0], [0, 3]], dtype=np.float32)
    table = store.vectors(["e", "d", "c", "b", "a"], array).append_column("similarity", [["x"] * 5])
    table = table.append_column("text", [["zero", "one", "minus", "two", "up"]])
    found = store.nearest(table, [1, 0], count=9)
    assert found.to_pylist() == [
        {"id": "b", "text": "two", "similarity": 1.0}, {"id": "d", "text": "one", "similarity": 1.0},
        {"id": "a", "text": "up", "similarity": 0.0}, {"id": "c", "text": "minus", "similarity": -1.0},
        {"id": "e", "text": "zero", "similarity": None},
    ]  # fmt: skip
    for count in range(6):
        assert store.nearest(table, [1, 0], count=count).to_pylist() == found.to_pylist()[:count]
    # Other tools keep vectors as lists of any length, and as float64.
    lists = table.set_column(1, "vector", pa.array(array.tolist(), pa.list_(pa.float64())))
    assert store.nearest(lists, [1, 0], count=9).to_pylist() == found.to_pylist()
    assert store.nearest(store.export(table, tmp_path / "v.parquet"), [1, 0], count=9).to_pylist() == found.to_pylist()


def test_vectors_keep_their_numbers_and_are_not_copied_where_they_are_float32():
    array = unit(10, 4).astype(np.float32)
    column = store.vectors(range(10), array).column("vector")
    assert column.type == pa.list_(pa.float32(), 4) and np.array_equal(np.array(column.to_pylist(), np.float32), array)
    assert column.chunk(0).values.buffers()[1].address == array.ctypes.data
    backwards = array[::-1, ::2]
    assert np.array_equal(np.array(store.vectors(range(10), backwards)["vector"].to_pylist(), np.float32), backwards)


@pytest.mark.parametrize(
    ("ids", "array", "said"),
    [
        ([1, 2], np.ones((3, 4)), r"2 ids and an array of shape \(3, 4\): give \(n, d\)"), ([1, 2], np.ones(2), r"of shape \(2,\)"),
        ([1], np.ones((1, 0)), r"of shape \(1, 0\)"), (["a", "b"], np.array([[1, 2], [np.nan, 1]]), "the vector of 'b' holds a number that is not finite"),
    ],
)  # fmt: skip
def test_what_are_no_vectors_is_refused(ids, array, said):
    with pytest.raises(StoreError, match=said):
        store.vectors(ids, array)


def test_nearest_refuses_what_has_no_direction_or_another_length():
    array = unit(5, 3)
    for vector in ([0, 0, 0], [np.nan, 1, 1], array):
        with pytest.raises(StoreError, match="nothing is near to a vector of shape"):
            store.nearest(array, vector)
    with pytest.raises(StoreError, match=r"(?i)cannot cast array of size 3 to array of size 2"):
        store.nearest(array, [1, 2])
    with pytest.raises(
        StoreError, match=r"the table has no column 'vector'; it has id, text.*store\.vectors\(ids, array\)"
    ):
        store.nearest([Label("a", "x")], [1, 2])


# --- export


def test_an_export_to_parquet_gives_back_the_same_rows_and_one_to_csv_the_same_values(tmp_path):
    sql = "SELECT * FROM (VALUES ('a \"b\"\n,c', 1, 0.5, true, [1, 2], {'x': 'é', 'y': NULL}), ('', NULL, NULL, false, [], NULL), (NULL, 2, 1, NULL, NULL, NULL)) t(text, n, f, b, list, deep)"
    rows = store.query(sql)
    assert (
        store.query("SELECT * FROM t", t=store.export(rows, tmp_path / "in" / "rows.parquet")).to_pylist()
        == rows.to_pylist()
    )
    path = store.export(rows, tmp_path / "rows.csv")
    with path.open(newline="", encoding="utf-8") as file:
        found = list(csv.DictReader(file))
    assert [row["text"] for row in found] == ['a "b"\n,c', "", ""] and [row["n"] for row in found] == ["1", "", "2"]
    assert [row["f"] for row in found] == ["0.5", "", "1.0"] and [row["b"] for row in found] == ["true", "false", ""]
    assert json.loads(found[0]["list"]) == [1, 2] and json.loads(found[0]["deep"]) == {"x": "é", "y": None}
    assert path.read_text().splitlines()[-2:] == ['"",,,false,"[]",', ",2,1.0,,,"]  # no text is not the empty text
    assert (
        store.export(SCORED, tmp_path / "records.parquet").exists()
        and store.read(tmp_path / "records.parquet") == SCORED
    )


def test_an_export_to_another_format_or_of_an_odd_type_is_refused_and_leaves_no_file(tmp_path):
    for name in ("rows.xlsx", "rows", "parquet"):
        with pytest.raises(StoreError, match=r"is neither \.parquet nor \.csv"):
            store.export(SCORED, tmp_path / name)
    everything = store.query("SELECT * FROM test_all_types()").arrow
    refused = []
    for suffix in (".csv", ".parquet"):
        for column in everything.column_names:
            path = tmp_path / f"{column}{suffix}"
            try:
                assert store.export(everything.select([column]), path) == path and path.exists()
            except StoreError as error:
                assert "Give that column another type in SQL: column::VARCHAR" in str(error) and not path.exists()
                refused.append(path.name)
    assert {"interval.csv", "interval.parquet"} <= {*refused} and len(refused) < 15
    assert not [path for path in tmp_path.iterdir() if path.name.startswith(".")]


# --- rows


def test_rows_know_their_columns_and_turn_into_what_people_use():
    rows = store.query("SELECT prompt, score_chosen FROM t ORDER BY prompt", t=SCORED)
    assert len(rows) == 2 and rows.columns == ["prompt", "score_chosen"] and rows["prompt"] == ["p", "q"]
    assert rows.to_pylist() == [{"prompt": "p", "score_chosen": 0.5}, {"prompt": "q", "score_chosen": None}]
    pytest.importorskip("pandas")
    assert list(rows.to_pandas()["prompt"]) == ["p", "q"]


def test_rows_print_as_a_table_with_numbers_to_the_right_and_say_how_many_there_are():
    assert (
        repr(store.query("SELECT * FROM (VALUES ('a', 1000), ('bcd', 20)) AS t(word, n)"))
        == "word      n\n----  -----\na     1,000\nbcd      20"
    )
    long = store.query("SELECT range AS n FROM range(50)")
    assert repr(long).endswith("(20 of 50 rows)") and len(repr(long).splitlines()) == 23
    assert repr(store.query("SELECT 1 AS a WHERE false")) == "a\n-"


def test_rows_print_what_python_has_no_place_for_as_text():
    rows = store.query(
        "SELECT DATE '20000-01-01' AS day, [DATE '20000-01-02', NULL] AS days, 'infinity'::TIMESTAMP AS never, 7 AS n UNION ALL SELECT NULL, NULL, NULL, 1000"
    )
    assert (
        repr(rows).splitlines()[2].startswith("20000-01-01")
        and "[20000-01-02, NULL]" in repr(rows)
        and "infinity" in repr(rows)
        and repr(rows).endswith("1,000")
    )
    assert "20000-01-02" in rows._repr_html_()


def test_rows_keep_the_query_and_its_parameters():
    rows = store.query("SELECT $v AS v", {"v": np.float32(0.5)})
    assert (rows.sql, rows.parameters) == ("SELECT $v AS v", {"v": 0.5}) and store.query("SELECT 1").parameters is None


def test_rows_show_what_a_model_wrote_as_text():
    evil = "<script>alert(1)</script>\n| <img src=x onerror=alert(1)>"
    rows = Rows(pa.table({"<b>column</b>": [evil] * 25}))
    page = Page(rows._repr_html_())
    assert (
        not page.foreign
        and page.text.count(evil) == 20
        and "<b>column</b>" in page.text
        and "20 of 25 rows" in page.text
    )
    assert "\n| <img" not in repr(rows)  # one row, one line


def test_a_file_whose_name_is_not_utf8_is_skipped_and_the_rest_is_read(tmp_path):
    (tmp_path / "good.md").write_text("A page with some words.")
    try:
        (tmp_path / os.fsdecode(b"bad\xff.md")).write_text("Another page.")
    except OSError:
        pytest.skip("this file system takes no such names")
    documents = store.documents(tmp_path)
    assert [document.path for document in documents] == ["good.md"]
    assert "not UTF-8" in documents.skipped[0][1] and "bad" in repr(documents)
