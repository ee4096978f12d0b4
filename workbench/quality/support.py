"""Support: whether what a row names holds it up, its provenance by documents and ledger, its answer by its passage, and
whether its question finds that passage.

    verdicts = support.traced(rows, among=[*documents, *personas], ledger=ledger)
    scores = [support.lexical_support(row.answer, row.passage.text) for row in rows]
    ranks = [support.passage_rank(row, corpus) for row in rows]"""

import json
import re
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from workbench.corpus import Corpus
from workbench.llm import Ledger
from workbench.quality.checks import Finding, Verdicts, quoted, words
from workbench.records import QA, Document, Persona, Record, Span, Verdict, by_id

_NUMBER = re.compile(r"\d+(?:[.,:]\d+)+")  # 2.99 is one word, and not a 2 and a 99
_FUNCTION_WORDS = frozenset(
    "a about after all also an and any are as at be because been before but by can could did do does "  # noqa: SIM905
    "each either for from had has have he her his how i if in into is it its may might more most must "
    "no nor not of off on once one only or other our over own per she should since so some such than "
    "that the their them then there these they this those through to too under until up upon us was "
    "we were what when where which while who whom whose why will with within without would yes you "
    "your".split()
)


def lexical_support(answer: str, source: str) -> float | None:
    """Return the share of the answer's content words that are in the source too, 0 to 1, or None.

    Words are compared as they are written, whatever their case; each counts once; function words (the, of, is, not)
    do not. It sees words and no claims: a negated answer scores the same, and a wrong number that the source holds
    elsewhere scores 1."""
    content = _tokens(answer) - _FUNCTION_WORDS
    return len(content & _tokens(source)) / len(content) if content else None


def _tokens(text: str) -> set[str]:
    return {*_NUMBER.findall(text), *words(_NUMBER.sub(" ", text))}


def passage_rank(row: QA, corpus: Corpus, *, depth: int = 10) -> int | None:
    """Return the place, 1 to `depth`, at which BM25 finds the row's passage for its question, or None.

    The reciprocal of the rank, 0 for None, averages to MRR@depth; the share of ranks that are 1 is hit@1."""
    spans = [chunk.passage.span for chunk in corpus.search(row.question, depth)]
    return spans.index(row.passage.span) + 1 if row.passage.span in spans else None


def traced(records: Sequence[Record], *, among: Iterable[Record], ledger: Ledger) -> Verdicts:
    """Return a verdict per distinct id: whether all the ancestry that its provenance names is there and agrees.

    Reasons: no_request (a made record names none), not_in_ledger, another_model (the ledger has another answer's),
    span (a passage or a quotation is not at its characters, or the source is not the passage), not_asked (no request of
    the record holds its source's text), not_answered (no answer in the ledger holds what the record says; for QA and
    Persona), no_parent, and parent (one fails by itself). `among` holds the parents. Detail says what; no score.

    A given record (a document, say) has no ancestry and passes. Records of several kinds may be mixed."""
    known = by_id([*among, *records])
    found: dict[str, Finding] = {}
    own = by_id(records)
    verdicts = [(record.id, _judged(record, known, ledger, found)) for record in own.values()]
    return Verdicts(
        tuple(Verdict(i, "traced", not why, score, why, detail) for i, (score, why, detail) in verdicts), "traced"
    )


def _judged(record: Record, known: dict[str, Record], ledger: Ledger, found: dict[str, Finding]) -> Finding:
    if record.id not in found:
        found[record.id] = None, "", ""  # a record among its own ancestors is no reason to go round for ever
        found[record.id] = next(_faults(record, known, ledger, found), (None, "", ""))
    return found[record.id]


def _faults(record: Record, known: dict[str, Record], ledger: Ledger, found: dict[str, Finding]) -> Iterator[Finding]:
    """What does not hold, the nearest to the record first."""
    origin = record.provenance
    if origin.recipe == "given":
        return
    if not origin.requests:
        yield None, "no_request", f"{origin.recipe} names no request"
    entries = {key: ledger.entry(key) for key in origin.requests}
    if missing := [key for key, entry in entries.items() if entry is None]:
        yield None, "not_in_ledger", f"request {missing[0]}"
    there: list[dict[str, Any]] = [entry for entry in entries.values() if entry is not None]
    if there and origin.model not in {entry["model"] for entry in there}:
        yield None, "another_model", f"{origin.model}, and the ledger says {there[0]['model']}"
    for text, span in _quotations(record):
        document = known.get(span.document_id)
        if not isinstance(document, Document):
            yield None, "no_parent", f"document {span.document_id}"
        elif document.text[span.start : span.end] != text:
            yield None, "span", f"characters {span.start:,} to {span.end:,} of {document.path} are not {quoted(text)}"
    if isinstance(record, QA) and origin.source not in (None, record.passage.span):
        yield None, "span", f"the source is at {origin.source}, the passage at {record.passage.span}"
    source = known.get(origin.source.document_id) if origin.source else None
    if origin.source and isinstance(source, Document):
        taken = source.text[origin.source.start : origin.source.end]
        asked = [message["content"] for entry in there for message in entry["request"]["messages"]]
        if not taken or not any(taken in content for content in asked):
            yield None, "not_asked", f"no request holds {quoted(taken)}"
    answered = " ".join(_plain(choice) for entry in there for choice in entry["choices"])
    for text in _written(record):
        if " ".join(text.split()) not in answered:
            yield None, "not_answered", f"no answer holds {quoted(text)}"
    for parent in origin.parents:
        if parent not in known:
            yield None, "no_parent", parent
        elif (reason := _judged(known[parent], known, ledger, found)[1]) != "":
            yield None, "parent", f"{parent}: {reason}"


def _quotations(record: Record) -> Iterator[tuple[str, Span]]:
    """Each text that a record took from a document, with where it says that it stands."""
    if isinstance(record, QA):
        for passage in (record.passage, *record.negatives):
            yield passage.text, passage.span
        if record.evidence is not None and record.evidence_span is not None:
            yield record.evidence, record.evidence_span


def _written(record: Record) -> list[str]:
    """What a model wrote of a record, of the kinds where that is known."""
    if isinstance(record, QA):
        return [record.question] if record.answer is None else [record.question, record.answer]
    return [record.text] if isinstance(record, Persona) else []


def _plain(choice: str) -> str:
    """An answer's text with single spaces; of a JSON answer its values as well, whose quotation marks are escaped."""
    start, end = choice.find("{"), choice.rfind("}")
    try:
        values = json.loads(choice[start : end + 1])
    except ValueError:
        values = {}
    texts = [choice, *(str(value) for value in values.values())] if isinstance(values, dict) else [choice]
    return " ".join(" ".join(texts).split())
