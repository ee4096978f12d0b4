"""Where rows live: documents in, Parquet folders with one schema a record kind, and one DuckDB query function."""

import contextlib
import dataclasses
import os
import re
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path
from types import UnionType
from typing import Any, Union, get_args, get_origin

import orjson
import pyarrow as pa
import pyarrow.parquet as pq

from workbench.errors import InputError, RecordError, StoreError, WorkbenchError, require
from workbench.records import KINDS, Document, Failure, Record, Verdict, field_types, from_row, one_kind, to_row

_TABLES: dict[str, type] = {**KINDS, "Failure": Failure, "Verdict": Verdict}
_SCALARS = {str: pa.string(), int: pa.int64(), float: pa.float64(), bool: pa.bool_()}
_TEXT_SUFFIXES = {".md", ".mdx", ".markdown", ".txt"}
_CONVERTED_SUFFIXES = {".html", ".htm", ".pdf", ".docx"}
_KIND_KEY = b"workbench.kind"


# --- schemas --------------------------------------------------------------------------------------------------------


@cache
def schema(kind: type) -> pa.Schema:
    """Return the Arrow schema of a record kind (or Failure, Verdict), derived from its field types."""
    fields = [_arrow_field(name, hint) for name, hint in field_types(kind)]
    return pa.schema(fields, metadata={_KIND_KEY: kind.__name__.encode()})


def _arrow_field(name: str, hint: Any) -> pa.Field:
    origin, args = get_origin(hint), get_args(hint)
    if origin in (Union, UnionType):
        inner = next(arg for arg in args if arg is not type(None))
        return pa.field(name, _arrow_field(name, inner).type, nullable=True)
    if origin is tuple:
        return pa.field(name, pa.list_(_arrow_field("item", args[0]).type), nullable=False)
    if dataclasses.is_dataclass(hint):
        # Inside a struct everything may be null, because the struct itself may be.
        inside = [pa.field(n, _arrow_field(n, h).type) for n, h in field_types(hint)]  # type: ignore[arg-type]
        return pa.field(name, pa.struct(inside), nullable=False)
    return pa.field(name, _SCALARS[hint], nullable=False)


def table(rows: Sequence[Any], kind: type | None = None) -> pa.Table:
    """Return records (or failures, verdicts) of one kind as an Arrow table in that kind's schema.

    By way of JSON, which Arrow reads three times as fast as Python objects, and without importing pandas. Raises
    StoreError when a field holds what its kind has no place for."""
    kind = kind or (type(rows[0]) if rows and not isinstance(rows[0], Record) else one_kind(rows))
    if kind not in _TABLES.values():
        raise StoreError(
            f"{kind.__name__} values are no table. Give records, an Arrow table, a data frame or a Parquet path."
        )
    wanted = schema(kind)
    if not rows:
        return wanted.empty_table()
    from pyarrow import json as arrow_json

    may_be_null = pa.schema([field.with_nullable(True) for field in wanted])
    try:
        lines = b"\n".join(orjson.dumps(to_row(row)) for row in rows)
        found = arrow_json.read_json(
            pa.BufferReader(lines),
            read_options=arrow_json.ReadOptions(use_threads=False, block_size=min(len(lines) + 1, 2**31 - 1)),
            parse_options=arrow_json.ParseOptions(explicit_schema=may_be_null, unexpected_field_behavior="error"),
        )
    except (pa.ArrowException, TypeError, ValueError) as error:
        raise StoreError(
            f"these {kind.__name__} rows do not fit the kind's schema: {error}. Check the types of their fields."
        ) from error
    if empty := [field.name for field in wanted if not field.nullable and found.column(field.name).null_count]:
        raise StoreError(
            f"these {kind.__name__} rows have no {empty[0]!r} in some place, and it cannot be missing. Leave such rows out."
        )
    return pa.Table.from_arrays(found.columns, schema=wanted)


# --- Parquet --------------------------------------------------------------------------------------------------------


def write(rows: Sequence[Any], path: str | os.PathLike[str], *, kind: type | None = None) -> Path:
    """Write records of one kind as a Parquet file and return its path; the file appears whole or not at all."""
    path = Path(path)
    made = table(rows, kind)
    with atomically(path) as temporary:
        pq.write_table(made, temporary, compression="zstd")
    return path


@contextlib.contextmanager
def atomically(path: Path) -> Iterator[Path]:
    """Yield a temporary path beside `path` that takes its place when the block ends well, and is gone when it does not.

    Raises StoreError, naming the next move, when the disk is full or the folder cannot be written."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
        os.close(handle)
    except OSError as error:
        raise _cannot_write(path, error) from error
    temporary = Path(name)
    try:
        yield temporary
        temporary.chmod(0o666 & ~_umask())
        temporary.replace(path)
    except OSError as error:
        raise _cannot_write(path, error) from error
    finally:
        temporary.unlink(missing_ok=True)


def _umask() -> int:
    mask = os.umask(0o077)
    os.umask(mask)
    return mask


def _cannot_write(path: Path, error: OSError) -> StoreError:
    advice = (
        "Free some space and run again: what finished is kept."
        if error.errno == 28
        else "Check that the folder is there and can be written."
    )
    return StoreError(f"cannot write {path}: {error.strerror or error}. {advice}")


def read(path: str | os.PathLike[str]) -> list[Any]:
    """Return the records of a Parquet file that the workbench wrote.

    Raises StoreError when the file is missing, cut off or of no known kind, RecordError when a row's id does not fit."""
    found = read_table(path)
    name = (found.schema.metadata or {}).get(_KIND_KEY, b"").decode()
    if name not in _TABLES:
        raise StoreError(
            f"{path} names no record kind; it has the columns {', '.join(found.column_names)}. Read it with store.read_table(), or build records of its rows."
        )
    return [from_row(_TABLES[name], row) for row in found.to_pylist()]


def read_table(path: str | os.PathLike[str]) -> pa.Table:
    """Return a Parquet file as an Arrow table. Raises StoreError when it is missing or damaged."""
    try:
        return pq.ParquetFile(path).read()  # not read_table: that would guess partitions from folder names
    except FileNotFoundError:
        raise StoreError(f"there is no file {path}. Check the path, or run what makes it first.") from None
    except (pa.ArrowException, OSError) as error:
        raise StoreError(
            f"{path} is no whole Parquet file: {error}. If it was being copied, copy it again; if a run made it, run that again."
        ) from None


# --- SQL ------------------------------------------------------------------------------------------------------------


class Rows:
    """The rows of a query: prints itself, `to_pandas()`, `to_pylist()`, `["column"]`, and `.arrow` for everything else."""

    def __init__(self, arrow: pa.Table):
        self.arrow = arrow

    def __len__(self) -> int:
        return self.arrow.num_rows

    def __getitem__(self, column: str) -> list[Any]:
        return self.arrow.column(column).to_pylist()

    @property
    def columns(self) -> list[str]:
        return self.arrow.column_names

    def to_pylist(self) -> list[dict[str, Any]]:
        return self.arrow.to_pylist()

    def to_pandas(self) -> Any:
        require("pandas", extra="notebook")
        return self.arrow.to_pandas()

    def __repr__(self) -> str:
        from workbench._html import text_table

        return text_table(self.columns, [list(row.values()) for row in self.arrow.slice(0, 20).to_pylist()], len(self))

    def _repr_html_(self) -> str:
        from workbench._html import html_table

        return html_table(self.columns, [list(row.values()) for row in self.arrow.slice(0, 20).to_pylist()], len(self))


def query(sql: str, parameters: Sequence[Any] | Mapping[str, Any] | None = None, **tables: Any) -> Rows:
    """Return the rows of a DuckDB query over named tables: Arrow tables, lists of records, Parquet files, or runs.

        >>> store.query("SELECT count(*) AS n FROM qa WHERE length(answer) > $least", {"least": 20}, qa=run)

    Values go into `parameters`, never into the text. Files that the query text names itself cannot be read. Raises
    StoreError with DuckDB's message and the tables and columns that are there."""
    import duckdb

    with duckdb.connect() as database:
        shown = {}
        for name, value in tables.items():
            if not name.isidentifier():
                raise StoreError(f"{name!r} cannot be a table's name. Use letters, digits and underscores.")
            shown[name] = as_table(value)
            database.register(name, shown[name])
        database.execute("SET enable_external_access = false")
        try:
            relation = database.sql(sql, params=parameters)
            if relation is None:
                raise StoreError("the query gives no rows. Write a SELECT.")
            found = relation.to_arrow_table()
            found = found.rename_columns(_apart(found.column_names))
        except duckdb.Error as error:
            there = (
                "; ".join(f"{name}({', '.join(arrow.column_names)})" for name, arrow in shown.items()) or "no tables"
            )
            raise StoreError(f"{str(error).strip()}\nThere are: {there}.") from None
    return Rows(found)


def _apart(names: Iterable[str]) -> list[str]:
    """The names, with _1, _2 ... behind those that came before: a join gives two columns named id, and rows are dictionaries."""
    taken: dict[str, None] = {}
    for name in names:
        own, number = name, 0
        while own in taken:
            number += 1
            own = f"{name}_{number}"
        taken[own] = None
    return list(taken)


def as_table(value: Any) -> pa.Table:
    """Return anything that holds rows as an Arrow table: a table, Rows, records, a Parquet path, or what has `.table()`."""
    if isinstance(value, pa.Table):
        return value
    if isinstance(value, Rows):
        return value.arrow
    if callable(getattr(value, "table", None)):
        return value.table()
    if isinstance(value, str | os.PathLike):
        return read_table(value)
    if callable(
        getattr(value, "__arrow_c_stream__", None)
    ):  # before Iterable: a data frame iterates over its column names
        return pa.table(value)
    if isinstance(value, Iterable):
        return table(list(value))
    raise StoreError(
        f"a {type(value).__name__} is no table. Give records, an Arrow table, a data frame or a Parquet path."
    )


# --- documents ------------------------------------------------------------------------------------------------------


class Documents(list[Document]):
    """A list of documents, and the files that could not be read: `skipped` holds (path, why)."""

    skipped: tuple[tuple[str, str], ...] = ()

    def __repr__(self) -> str:
        characters = sum(len(document.text) for document in self)
        more = (
            f", {len(self.skipped)} files skipped ({self.skipped[0][0]}: {self.skipped[0][1]})" if self.skipped else ""
        )
        return f"{len(self):,} documents, {characters:,} characters{more}"

    def _repr_html_(self) -> str:
        from workbench._html import html_table

        rows = [[document.path, document.title, len(document.text)] for document in self[:10]]
        return html_table(["path", "title", "characters"], rows, len(self), note=repr(self))


def documents(path: str | os.PathLike[str]) -> Documents:
    """Return the documents of a folder (.md, .mdx, .txt, .html, .pdf, .docx, searched in depth), of one such file, or of
    a Parquet file with a `text` column, in order of their paths.

    A file that cannot be read is skipped and named in `.skipped`. Raises InputError when nothing is there or nothing
    could be read."""
    root = Path(path)
    if not root.exists():
        raise InputError(f"there is no file or folder {root}. Check the path.")
    if root.is_file() and root.suffix == ".parquet":
        return _documents_of_table(root)
    suffixes = _TEXT_SUFFIXES | _CONVERTED_SUFFIXES
    if root.is_file():
        files = [root] if root.suffix.lower() in suffixes else []
    else:
        there = [
            file for file in root.rglob("*") if not any(part.startswith(".") for part in file.relative_to(root).parts)
        ]
        # A run's own report is no document, where somebody put the output beside the pages.
        outputs = {file.parent for file in there if file.name in ("run.json", "ledger.sqlite")}
        files = sorted(
            file
            for file in there
            if file.is_file() and file.suffix.lower() in suffixes and not outputs & {*file.parents}
        )
    if not files:
        what = "is no document of a known kind" if root.is_file() else "holds no document"
        raise InputError(
            f"{root} {what} ({', '.join(sorted(suffixes))}, or a .parquet file with a text column). Name the folder that holds them."
        )
    found, skipped = Documents(), []
    for file in files:
        name = file.relative_to(root).as_posix() if root.is_dir() else file.name
        try:
            if name != name.encode("utf-8", "replace").decode():
                raise _Unreadable("its name is not UTF-8; rename it")
            text = _text_of(file)
            found.append(Document(text, path=name, title=_title(text, file)))
        except _Unreadable as error:
            skipped.append((name.encode("utf-8", "replace").decode(), str(error)))
    found.skipped = tuple(skipped)
    if not found:
        raise InputError(
            f"none of the {len(files)} documents in {root} could be read; {skipped[0][0]}: {skipped[0][1]}."
        )
    return found


class _Unreadable(Exception):
    """Why one file cannot be a document."""


def _text_of(file: Path) -> str:
    try:
        text = _converted(file) if file.suffix.lower() in _CONVERTED_SUFFIXES else _decoded(file.read_bytes())
    except OSError as error:
        raise _Unreadable(error.strerror or str(error)) from error
    text = text.replace("\r\n", "\n").replace("\r", "\n")
    if "\x00" in text:
        raise _Unreadable("it holds zero bytes: not a text file")
    if not text.strip():
        raise _Unreadable("it holds no text")
    return text


def _decoded(raw: bytes) -> str:
    encoding = "utf-16" if raw[:2] in (b"\xff\xfe", b"\xfe\xff") else "utf-8-sig"
    try:
        return raw.decode(encoding)
    except UnicodeDecodeError as error:
        raise _Unreadable(f"it is not UTF-8 (byte {error.start}); convert it, for example with iconv") from None


def _converted(file: Path) -> str:
    """HTML, PDF and Word as Markdown, by markitdown.

    Only the converter of the file's own kind is asked: by default markitdown takes a damaged PDF for plain text, and it
    would follow links and load plugins."""
    markitdown = require("markitdown", extra="documents")
    converter = markitdown.MarkItDown(enable_builtins=False, enable_plugins=False)
    name = {".pdf": "PdfConverter", ".docx": "DocxConverter"}.get(file.suffix.lower(), "HtmlConverter")
    converter.register_converter(getattr(require("markitdown.converters", extra="documents"), name)())
    try:
        return converter.convert_local(file).text_content
    except WorkbenchError:
        raise
    except Exception as error:
        # markitdown lets through what its parsers raise on a damaged file, of any class.
        raise _Unreadable(
            f"it could not be converted: {' '.join(str(error).split())[:200] or type(error).__name__}"
        ) from error


def _title(text: str, file: Path) -> str:
    prose = re.sub(
        r"^ *(```|~~~).*?(?:^ *\1|\Z)", "", text[:5000], flags=re.MULTILINE | re.DOTALL
    )  # a '#' in code is a comment
    heading = re.search(r"^# +(.+?)(?:\s*\{[^{}\n]*\})?\s*$", prose, re.MULTILINE) or re.search(
        r"\A---\n(?:.*\n)*?title: *(.+)\n", text[:2000]
    )
    return heading[1].strip(" \"'#") if heading else file.stem.replace("-", " ").replace("_", " ")


def _documents_of_table(path: Path) -> Documents:
    rows = read_table(path)
    if "text" not in rows.column_names:
        raise InputError(
            f"{path} has no column 'text'; it has {', '.join(rows.column_names)}. Rename the column that holds the documents."
        )
    found, skipped = Documents(), []
    has = set(rows.column_names)
    for at, row in enumerate(rows.to_pylist()):
        text = row["text"]
        if not isinstance(text, str) or not text.strip():
            skipped.append((f"row {at}", "its text is empty"))
            continue
        if {"id", "provenance"} <= has:
            try:
                found.append(from_row(Document, row))
                continue
            except RecordError as error:
                raise InputError(f"{path}, row {at}: {error}") from error
        found.append(Document(text, path=str(row.get("path") or f"row {at}"), title=str(row.get("title") or "")))
    if not found:
        raise InputError(f"{path} holds no text in its column 'text'.")
    found.skipped = tuple(skipped)
    return found
