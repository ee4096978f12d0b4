"""Parquet files with one schema a record kind, each of them whole or not there."""

import contextlib
import dataclasses
import os
import tempfile
from collections.abc import Iterator, Sequence
from functools import cache
from pathlib import Path
from types import UnionType
from typing import Any, Union, get_args, get_origin

import orjson
import pyarrow as pa
import pyarrow.parquet as pq

from workbench.errors import StoreError
from workbench.records import KINDS, Failure, Record, Verdict, field_types, from_row, one_kind, to_row

# What a file can hold: the kinds of record, and what is said of them.
TABLES: dict[str, type] = {**KINDS, "Failure": Failure, "Verdict": Verdict}
_SCALARS = {str: pa.string(), int: pa.int64(), float: pa.float64(), bool: pa.bool_()}
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
    if kind not in TABLES.values():
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
        raise cannot_write(path, error) from error
    temporary = Path(name)
    try:
        yield temporary
        temporary.chmod(0o666 & ~_umask())
        temporary.replace(path)
    except OSError as error:
        raise cannot_write(path, error) from error
    finally:
        temporary.unlink(missing_ok=True)


def _umask() -> int:
    mask = os.umask(0o077)
    os.umask(mask)
    return mask


def cannot_write(path: Path, error: OSError) -> StoreError:
    """Return the error to raise when the system could not write a file, with the next move."""
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
    if name not in TABLES:
        raise StoreError(
            f"{path} names no record kind; it has the columns {', '.join(found.column_names)}. Read it with store.read_table(), or build records of its rows."
        )
    return [from_row(TABLES[name], row) for row in found.to_pylist()]


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
