"""Export formats: what trainers read, with the records beside it, so that an export loads back to equal records.

    chat       {"messages": [{"role", "content"}, ...]}            JSON Lines, for SFT
    alpaca     {"instruction", "input", "output"}                  JSON Lines
    rag        {"query", "passage", "answer", "evidence", ...}     JSON Lines, with spans and negatives
    triplets   {"anchor", "positive", "negative"}                  JSON Lines, for sentence-transformers, one line a negative
    csv        one column a field, nested fields as JSON
    parquet    the record's own schema

and of preferences `preference`, `preference_chat`, `unpaired` and `reward`, JSON Lines for TRL (see workbench.trl_forms).
Formats in messages give a prompt of several turns, as hh-rlhf has them and `imports` writes them, as those turns.

sentence-transformers takes every column as an input, and TRL's loader the type of every column from the first rows, so
files for these two hold nothing else: the records lie beside them in `<file>.records.parquet`. The other formats carry the
whole record in a column named `record`."""

import csv
import io
import itertools
import os
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import orjson

from workbench import store, trl_forms
from workbench.errors import InputError, RecordError
from workbench.records import KINDS, QA, Instruction, Preference, Record, field_types, from_row, one_kind, to_row

UNANSWERABLE = "The passage does not answer this question."
_SUFFIX = {
    "chat": ".chat.jsonl",
    "alpaca": ".alpaca.jsonl",
    "rag": ".rag.jsonl",
    "triplets": ".triplets.jsonl",
    "preference": ".preference.jsonl",
    "preference_chat": ".preference_chat.jsonl",
    "unpaired": ".unpaired.jsonl",
    "reward": ".reward.jsonl",
    "csv": ".csv",
    "parquet": ".parquet",
}
FORMATS = tuple(_SUFFIX)
Line = dict[str, Any]


def export(
    records: Sequence[Record], folder: str | os.PathLike[str], *, formats: Iterable[str] = FORMATS, name: str = ""
) -> dict[str, Path]:
    """Write records of one kind in each format that suits the kind, and return the files by format.

    Raises InputError for an unknown format, when a format named alone cannot hold this kind, for a preference that no
    trainer should learn from (a text is empty, both are the same), and for `unpaired` where a completion is chosen in
    one pair and rejected in another, before anything is written."""
    formats = tuple(formats)
    if unknown := [each for each in formats if each not in _SUFFIX]:
        raise InputError(f"{unknown[0]!r} is no export format; there are {', '.join(FORMATS)}.")
    kind = one_kind(records)
    name = name or kind.__name__.lower()
    suits = [each for each in FORMATS if each in ("csv", "parquet") or (each, kind) in _LINES | _BESIDE]
    if len(formats) == 1 and formats[0] not in suits:
        raise InputError(f"the format {formats[0]!r} has no place for {kind.__name__} records. Use {', '.join(suits)}.")
    formats = tuple(each for each in formats if each in suits)
    beside = {each: _BESIDE[each, kind](records) for each in formats if (each, kind) in _BESIDE}
    written: dict[str, Path] = {}
    for each in formats:
        path = written[each] = Path(folder) / f"{name}{_SUFFIX[each]}"
        if each == "parquet":
            store.write(records, path)
        elif each == "csv":
            _write_csv(records, kind, path)
        elif each in beside:
            _write_lines(beside[each], path)
            store.write(records, path.with_suffix(".records.parquet"))
        else:
            line_of = _LINES[each, kind]
            _write_lines(({**line_of(row), "record": {"kind": kind.__name__, **to_row(row)}} for row in records), path)
    return written


def load(path: str | os.PathLike[str]) -> list[Record]:
    """Return the records of an exported file, equal to those that were exported.

    Raises InputError for a file of no known format, RecordError, with the line, for a row that was edited or cut off."""
    path = Path(path)
    for (each, _), lines_of in _BESIDE.items():
        if path.name.endswith(_SUFFIX[each]):
            return _read_beside(path, lines_of)
    if path.suffix == ".parquet":
        return store.read(path)
    if path.suffix == ".csv":
        return _read_csv(path)
    if path.suffix == ".jsonl":
        return _read_lines(path)
    raise InputError(f"{path.name} is no exported file; there are {', '.join(sorted(set(_SUFFIX.values())))}.")


# --- what a line of each format is ----------------------------------------------------------------------------------


def qa_prompt(row: QA) -> str:
    """Return what a model is asked: the passage, and the question below it."""
    return f"{row.passage.text}\n\nQuestion: {row.question}"


def _qa_chat(row: QA) -> Line:
    answer = row.answer if row.is_answerable else UNANSWERABLE
    return {"messages": [{"role": "user", "content": qa_prompt(row)}, {"role": "assistant", "content": answer}]}


def _instruction_chat(row: Instruction) -> Line:
    return {"messages": trl_forms.messages(row.asked, row.output)}


def _preference_chat(row: Preference) -> Line:
    return {"messages": trl_forms.messages(row.prompt, row.chosen)}


def _qa_alpaca(row: QA) -> Line:
    answer = row.answer if row.is_answerable else UNANSWERABLE
    return {"instruction": row.question, "input": row.passage.text, "output": answer}


def _instruction_alpaca(row: Instruction) -> Line:
    return {"instruction": row.instruction, "input": row.input, "output": row.output}


def _qa_rag(row: QA) -> Line:
    span = row.evidence_span
    return {
        "query": row.question, "passage": row.passage.text, "answer": row.answer, "evidence": row.evidence,
        "evidence_start": span.start if span else None, "evidence_end": span.end if span else None,
        "document_id": row.passage.span.document_id, "is_answerable": row.is_answerable,
        "negatives": [negative.text for negative in row.negatives],
    }  # fmt: skip


def _triplets(rows: Sequence[QA]) -> list[Line]:
    return [
        {"anchor": row.question, "positive": row.passage.text, "negative": negative.text}
        for row in rows
        if row.is_answerable  # the passage of another is no positive
        for negative in row.negatives
    ]


# Formats whose line holds its record, and those whose records lie beside the file.
_LINES: dict[tuple[str, type], Callable[[Any], Line]] = {
    ("chat", QA): _qa_chat, ("chat", Instruction): _instruction_chat, ("chat", Preference): _preference_chat,
    ("alpaca", QA): _qa_alpaca, ("alpaca", Instruction): _instruction_alpaca, ("rag", QA): _qa_rag,
}  # fmt: skip
_BESIDE: dict[tuple[str, type], Callable[[Sequence[Any]], list[Line]]] = {
    ("triplets", QA): _triplets, ("preference", Preference): trl_forms.preference,
    ("preference_chat", Preference): trl_forms.preference_chat,
    ("unpaired", Preference): trl_forms.unpaired, ("reward", Preference): trl_forms.reward,
}  # fmt: skip


# --- files ----------------------------------------------------------------------------------------------------------


def _write_lines(lines: Iterable[Line], path: Path) -> None:
    with store.atomically(path) as temporary, temporary.open("wb") as file:
        for line in lines:
            file.write(orjson.dumps(line) + b"\n")


def _read_lines(path: Path) -> list[Record]:
    records = []
    for number, line in enumerate(_bytes(path).splitlines(), 1):
        if not line.strip():
            continue
        try:
            shown = orjson.loads(line)
            row = shown.pop("record")
            record = from_row(KINDS[row.pop("kind")], row)
            if not any(shown == line_of(record) for (_, kind), line_of in _LINES.items() if kind is type(record)):
                raise RecordError(
                    "the line says something else than its record. Make a changed text a new record, and export again."
                )
            records.append(record)
        except (AttributeError, ValueError, KeyError, TypeError) as error:
            raise RecordError(
                f"{path}, line {number}: no whole record ({type(error).__name__}: {error}). The file was cut off or not exported by share.export()."
            ) from None
        except RecordError as error:
            raise RecordError(f"{path}, line {number}: {error}") from None
    return records


def _read_beside(path: Path, lines_of: Callable[[Sequence[Any]], list[Line]]) -> list[Record]:
    records = store.read(path.with_suffix(".records.parquet"))
    wanted = map(orjson.dumps, lines_of(records))
    for number, (line, want) in enumerate(itertools.zip_longest(_bytes(path).splitlines(), wanted), 1):
        if line != want:
            raise RecordError(
                f"{path}, line {number}: not what its records beside it give. The file was cut off or edited; export again."
            )
    return records


def _write_csv(records: Sequence[Record], kind: type, path: Path) -> None:
    columns = [name for name, _ in field_types(kind)]
    with store.atomically(path) as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["kind", *columns])
        for record in records:
            row = to_row(record)
            # Text that is not None gets itself; everything else is JSON, so that None, "", 1 and "1" stay apart.
            writer.writerow([kind.__name__, *(_cell(row[name], hint) for name, hint in field_types(kind))])


def _cell(value: Any, hint: Any) -> str:
    return value if hint is str else orjson.dumps(value).decode()


def _read_csv(path: Path) -> list[Record]:
    records = []
    csv.field_size_limit(2**31 - 1)
    try:
        reader = csv.DictReader(io.StringIO(_bytes(path).decode("utf-8"), newline=""))
    except UnicodeDecodeError as error:
        raise RecordError(
            f"{path} is not UTF-8 ({error.reason} at byte {error.start}). A spreadsheet may have saved it: export again."
        ) from None
    for number, cells in enumerate(reader, 1):
        try:
            kind = KINDS[cells.pop("kind")]
            hints = dict(field_types(kind))
            records.append(
                from_row(
                    kind, {name: cell if hints[name] is str else orjson.loads(cell) for name, cell in cells.items()}
                )
            )
        except (ValueError, KeyError, TypeError) as error:
            raise RecordError(
                f"{path}, row {number}: no whole record ({type(error).__name__}: {error}). The file was cut off or not exported by share.export()."
            ) from None
        except RecordError as error:
            raise RecordError(f"{path}, row {number}: {error}") from None
    return records


def _bytes(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror}. Check the path.") from None
