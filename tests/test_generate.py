"""The main job, from the command line and from a cell: documents in, accepted rows out, or words that say what to do."""

import json
import subprocess
import sys
from dataclasses import replace

import pytest

from tests.conftest import ROOT
from tests.servers import first_sentence, serving
from workbench import generate, llm, share, store
from workbench.errors import InputError
from workbench.generate import Settings


def command(*arguments, **options):
    return subprocess.run(
        [sys.executable, "-m", "workbench", "generate", *map(str, arguments)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=120,
        **options,
    )


def assert_evidence_is_where_it_says(records, documents):
    by_id = {document.id: document for document in documents}
    for record in records:
        passage = record.passage
        assert by_id[passage.span.document_id].text[passage.span.start : passage.span.end] == passage.text
        if record.is_answerable:
            span = record.evidence_span
            assert passage.span.start <= span.start < span.end <= passage.span.end
            assert by_id[span.document_id].text[span.start : span.end] == record.evidence
        else:
            assert record.answer is record.evidence is record.evidence_span is None


def assert_funnel_adds_up(run):
    level = None
    for step in run.funnel():
        if step.kind == "total":
            assert level in (None, step.count) or step.label == "outcomes of these tasks"
        level = step.count if step.kind == "total" else level - step.count


def test_the_command_makes_rows_a_report_and_exports_and_says_where(tmp_path):
    done = command("data/documents", "--out", tmp_path, "--rows", 40, "--personas", 4)
    assert done.returncode == 0, done.stderr
    assert "records kept" in done.stdout and "40 rows" in done.stdout and "no data to train on" in done.stdout
    report = (tmp_path / "report.html").read_text()
    assert (
        "rule-based offline writer" in report and "<script" not in report and "http" not in report.split("<h2>Rows")[0]
    )
    records = share.load(tmp_path / "export" / "qa.parquet")
    assert len(records) == 40
    for name in ("qa.chat.jsonl", "qa.alpaca.jsonl", "qa.rag.jsonl", "qa.csv", "qa.triplets.jsonl"):
        assert str(tmp_path / "export" / name) in done.stdout.replace("\n", "")
        assert share.load(tmp_path / "export" / name) == records
    assert_evidence_is_where_it_says(records, store.documents(ROOT / "data" / "documents"))
    again = command("data/documents", "--out", tmp_path, "--rows", 40, "--personas", 4)
    assert again.returncode == 0 and share.load(tmp_path / "export" / "qa.parquet") == records


def test_a_thousand_accepted_rows_from_real_documentation(shared, tmp_path):
    documents = store.documents(shared / "docs_fastapi")
    data = generate.from_documents(documents, out=tmp_path, client=llm.Offline(), settings=Settings(rows=1000))
    assert len(data.records) == 1000 == len({record.id for record in data.records}) and not data.why_fewer
    assert_funnel_adds_up(data.run)
    assert data.run.funnel()[-1].count == 1000
    assert_evidence_is_where_it_says(data.run.records, documents)
    assert {record.is_answerable for record in data.records} == {True, False}


def test_html_pdf_and_word_files_become_rows_too(tmp_path, bundled):
    docx, canvas = pytest.importorskip("docx"), pytest.importorskip("reportlab.pdfgen.canvas")
    folder = tmp_path / "docs"
    folder.mkdir()
    sentences = [
        "The archive keeps every reading for forty years because the climate office asked for it.",
        "When the pressure falls below 980 hectopascals, the station sends a warning to the harbour.",
        "The spare sensor is stored in the lower cabinet and is checked every second month.",
    ]
    (folder / "page.html").write_text(
        "<html><body><h1>Archive</h1>"
        + "".join(f"<p>{s}</p>" for s in sentences)
        + "<script>alert(1)</script></body></html>"
    )
    word = docx.Document()
    word.add_heading("Sensors", 1)
    for sentence in sentences:
        word.add_paragraph(sentence)
    word.save(str(folder / "notes.docx"))
    page = canvas.Canvas(str(folder / "warnings.pdf"))
    for at, sentence in enumerate(sentences):
        page.drawString(40, 780 - 20 * at, sentence)
    page.save()
    (folder / "broken.pdf").write_bytes(b"%PDF-1.4 nothing more")
    documents = store.documents(folder)
    assert [d.path for d in documents] == ["notes.docx", "page.html", "warnings.pdf"] and "alert" not in documents[
        1
    ].text
    assert documents.skipped[0][0] == "broken.pdf"
    data = generate.from_documents(
        documents, out=tmp_path / "out", client=llm.Offline(), settings=Settings(per_chunk=3)
    )
    assert {record.passage.span.document_id for record in data.records} == {document.id for document in documents}
    assert_evidence_is_where_it_says(data.records, documents)


def test_against_a_server_the_budget_holds_and_the_same_command_goes_on(tmp_path):
    with serving(first_sentence) as server:
        arguments = (
            "data/documents",
            "--out",
            tmp_path,
            "--base-url",
            server.url,
            "--model",
            "test-model",
            "--rows",
            60,
            "--no-gates",
            "--yes",
        )
        first = command(*arguments, "--max-requests", 30)
        assert server.count <= 30 and "estimate:" in first.stderr
        assert first.returncode in (2, 3) and "budget" in first.stderr
        second = command(*arguments)
        asked = [json.dumps(body) for body in server.bodies]
    assert len(asked) == len(set(asked))  # the pilot, the first run and the second never asked the same thing twice
    assert second.returncode in (0, 3), second.stderr


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("nowhere",), "there is no file or folder nowhere"),
        (("EMPTY",), "holds no document"),
        (("data/documents", "--model", "gpt-x"), "Give --base-url for a server"),
        (("data/documents", "--model", "m", "--base-url", "http://127.0.0.1:9/v1", "--budget", "5"), "--max-requests"),
        (("data/documents", "--model", "m", "--base-url", "http://user:pw@127.0.0.1:9/v1"), "environment"),
        (("data/documents", "--model", "offline/none"), "strong"),
        (("LICENSE",), "no document of a known kind"),
    ],
)
def test_what_cannot_be_used_is_said_in_one_line_with_the_next_move(tmp_path, arguments, says):
    (tmp_path / "empty").mkdir()
    arguments = [str(tmp_path / "empty") if a == "EMPTY" else a for a in arguments]
    done = command(*arguments, "--out", tmp_path / "out")
    assert done.returncode == 2 and says in done.stderr and "Traceback" not in done.stderr


def test_rows_that_cannot_be_reached_are_said_with_why(tmp_path):
    docs = tmp_path / "docs"
    docs.mkdir()
    (docs / "one.md").write_text(
        "# Kiln\n\nThe kiln reaches 1,220 degrees in nine hours and holds it for twenty minutes before it cools.\n"
    )
    done = command(docs, "--out", tmp_path / "out", "--rows", 500, "--no-gates")
    assert done.returncode == 3 and "plan ended" in done.stderr and "Give more documents" in done.stderr


def test_no_row_at_all_is_an_error_with_the_losses(tmp_path, bundled):
    client = llm.Scripted(lambda request: "I would rather not use headers.")
    with pytest.raises(InputError, match=r"no row was accepted[\s\S]*parse[\s\S]*rather not"):
        generate.from_documents(bundled, out=tmp_path, client=client, settings=Settings(rows=20))
    assert not (tmp_path / "export").exists()


def test_personas_that_nobody_accepted_end_the_job_before_questions_are_paid_for(tmp_path, bundled):
    client = llm.Scripted(lambda request: "nobody")
    with pytest.raises(InputError, match="no persona was accepted"):
        generate.from_documents(bundled, out=tmp_path, client=client, settings=Settings(rows=20, personas=3))
    assert all("Wanted relation" in request.messages[1]["content"] for request in client.requests)


def test_the_report_escapes_what_documents_and_models_say(tmp_path, bundled):
    def reply(request):
        text = first_sentence({"messages": request.messages})
        return text.replace("What is said", "What <script>alert(1)</script> is said").replace(
            "answer ## ]]\n", "answer ## ]]\n<img src=x onerror=alert(1)> "
        )

    data = generate.from_documents(
        bundled, out=tmp_path, client=llm.Scripted(reply), settings=Settings(rows=15), gates=None
    )
    page = data.report.read_text()
    assert "<script" not in page and "<img" not in page and "&lt;script&gt;" in page


def test_the_same_seed_gives_the_same_rows_and_another_seed_others(tmp_path, bundled):
    rows = [
        generate.from_documents(
            bundled, out=tmp_path / f"{at}", client=llm.Offline(), settings=Settings(rows=15, seed=seed)
        ).records
        for at, seed in enumerate((1, 1, 2))
    ]
    strip = lambda records: [replace(record, provenance=replace(record.provenance, requests=())) for record in records]
    assert rows[0] == rows[1] and strip(rows[0]) != strip(rows[2])


def test_a_later_run_without_rows_leaves_no_export_and_no_report_of_the_earlier_one(tmp_path, bundled):
    generate.from_documents(bundled, out=tmp_path, client=llm.Offline(), settings=Settings(rows=5))
    assert (tmp_path / "report.html").exists() and (tmp_path / "export").exists()
    with pytest.raises(InputError, match="no row was accepted"):
        generate.from_documents(
            bundled, out=tmp_path, client=llm.Scripted(lambda request: "no"), settings=Settings(rows=5)
        )
    assert not (tmp_path / "report.html").exists() and not (tmp_path / "export").exists()


def test_verdicts_of_other_checks_of_before_do_not_count(tmp_path, bundled):
    from workbench.records import Verdict

    data = generate.from_documents(bundled, out=tmp_path, client=llm.Offline(), settings=Settings(rows=5))
    data.run.mark([Verdict(record.id, "old", False, reason="gone") for record in data.records])
    again = generate.from_documents(bundled, out=tmp_path, client=llm.Offline(), settings=Settings(rows=5))
    assert len(again.run.kept()) == 5


def test_a_language_that_does_not_exist_is_refused_before_anything_is_paid_for(bundled, tmp_path):
    client = llm.Scripted([])
    with pytest.raises(InputError, match="'xx' is no language"):
        generate.from_documents(bundled, out=tmp_path, client=client, settings=Settings(languages=("xx",)))
    assert client.requests == []
