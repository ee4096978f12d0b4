"""report.html: one self-contained page about a dataset. No script, nothing from another address, everything escaped."""

import random
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from workbench import _html, store
from workbench.records import QA
from workbench.runs import Run, cost_text
from workbench.stages import Growth

_STYLE = (
    "body{max-width:900px;margin:2em auto;padding:0 1em;font:15px/1.6 system-ui,sans-serif;color:#1a1a1a;background:#fff}"
    "h1{font-size:1.5em}h2{font-size:1.15em;margin:2em 0 .5em}mark{background:#cfe6f5}blockquote{margin:.3em 0;padding-left:.8em;border-left:3px solid #ccc;white-space:pre-wrap}"
    ".row{border-top:1px solid #ddd;padding:.8em 0}.faint{color:#666;font-size:.9em}.loud{border-left:4px solid #D55E00;padding:.4em .8em;background:#fdf3ec}"
)


def write_report(
    path: Path, run: Run, records: Sequence[QA], growth: Growth | None = None, spent: Mapping[str, Any] | None = None
) -> Path:
    """Write the page and return its path: the waterfall, the stages, the cost, and samples of rows and of losses.

    `spent` is what was paid for all of it, as Ledger.spent gives it; the run's own when it is left out."""
    spent = spent or run.spent
    parts = [
        f"<h1>{_html.escaped(len(records))} questions with evidence</h1>",
        _notice(run, growth),
        "<h2>From what was asked to what is kept</h2>",
        _html.bars([(step.label, step.count, step.kind) for step in run.funnel()], max(step.count for step in run.funnel())),
        _stages(growth),
        "<h2>What it took</h2>",
        _html.facts(
            {
                "model": run.info["client"]["model"], "requests paid": spent["requests"], "prompt tokens": spent["prompt_tokens"],
                "completion tokens": spent["completion_tokens"], "cost": cost_text(spent), "time, all sessions": f"{run.seconds:.1f} s",
            }
        ),
        "<h2>What is in it</h2>",
        _contents(records),
        "<h2>Rows, drawn at random</h2>",
        *(_row(record) for record in random.Random(0).sample(list(records), min(8, len(records)))),
        "<h2>Losses, drawn at random</h2>",
        _losses(run),
    ]  # fmt: skip
    page = f"<!doctype html><html lang='en'><meta charset='utf-8'><meta name='viewport' content='width=device-width'><title>{len(records):,} questions with evidence</title><style>{_STYLE}</style><body>{''.join(parts)}</body></html>"
    with store.atomically(path) as temporary:
        temporary.write_text(page, encoding="utf-8")
    return path


def _notice(run: Run, growth: Growth | None) -> str:
    said = []
    if run.is_offline:
        said.append(
            "These rows were written by the rule-based offline writer, not by a model. They show that everything works; they are no data to train on."
        )
    if growth and growth.why_fewer:
        said.append(f"Fewer rows than the {growth.rows:,} asked for. {growth.why_fewer}")
    elif run.warning:
        said.append(run.warning)
    return "".join(f"<p class='loud'>{_html.escaped(text, 2000)}</p>" for text in said)


def _stages(growth: Growth | None) -> str:
    if growth is None:
        return ""
    columns, rows = growth.table()
    return "<h2>Stages</h2>" + _html.html_table(columns, rows)


def _contents(records: Sequence[QA]) -> str:
    documents = {record.passage.span.document_id for record in records}
    personas = {record.persona for record in records if record.persona}
    pairs = {
        "answerable": sum(record.is_answerable for record in records), "unanswerable controls": sum(not record.is_answerable for record in records),
        "documents": len(documents), "passages": len({record.passage.span for record in records}), "personas": len(personas),
        "hard negatives": sum(len(record.negatives) for record in records),
    }  # fmt: skip
    prompts = sorted({record.provenance.prompt for record in records})
    return _html.facts(pairs) + f"<p class='faint'>Prompts: {_html.escaped(', '.join(prompts))}</p>"


def _row(record: QA) -> str:
    passage, place = record.passage, record.evidence_span
    if place is None:
        shown, answer = _html.escaped(passage.text, 700), "<i>not answered by this passage</i>"
    else:
        start, end = place.start - passage.span.start, place.end - passage.span.start
        before, after = passage.text[max(0, start - 250) : start], passage.text[end : end + 250]
        shown = (
            f"{_html.escaped(before)}<mark>{_html.escaped(passage.text[start:end], 2000)}</mark>{_html.escaped(after)}"
        )
        answer = _html.escaped(record.answer, 1000)
    asker = f"<div class='faint'>asked as: {_html.escaped(record.persona)}</div>" if record.persona else ""
    return f"<div class='row'><b>{_html.escaped(record.question, 500)}</b>{asker}<div>{answer}</div><blockquote>{shown}</blockquote><div class='faint'>{record.id}, {_html.escaped(record.provenance.prompt)}</div></div>"


def _losses(run: Run) -> str:
    failures = random.Random(0).sample(run.failures, min(6, len(run.failures)))
    lost = {verdict.record_id: verdict for verdict in run.verdicts if not verdict.passed and verdict.check != "rows"}
    marked = [record for record in run.records if record.id in lost]
    marked = random.Random(0).sample(marked, min(6, len(marked)))
    rows = [[f"{failure.reason}", failure.detail, " ".join(failure.raw.split())] for failure in failures]
    rows += [
        [f"{lost[r.id].check}: {lost[r.id].reason}", lost[r.id].detail, getattr(r, r.text_fields[0])] for r in marked
    ]
    return _html.html_table(["reason", "in words", "what came"], rows) if rows else "<p>None.</p>"
