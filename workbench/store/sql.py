"""SQL over tables, by DuckDB: one query function, the rows that it gives, and vectors.

rows = store.query("SELECT id, chosen FROM preference WHERE score_chosen - score_rejected > 0.3", run=run)
found = store.vectors([record.id for record in records], embed.texts(texts))
store.nearest(found, found["vector"][0].as_py(), count=10)"""

import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from functools import cache
from pathlib import Path
from threading import Event
from typing import Any

import numpy as np
import orjson
import pyarrow as pa
import pyarrow.parquet as pq

from workbench.errors import StoreError, require
from workbench.store.parquet import atomically, read_table, table

MOST_BYTES = 4 * 2**30  # of a result: a join without a condition must end in words, not in a dead kernel
_BATCH_ROWS = 10_000
_NO_RECORDS = ("failure", "verdict")  # the tables of a run that say something about its records


class Rows:
    """The rows of a query: prints itself, `to_pandas()`, `to_pylist()`, `["column"]`, and `.arrow` for everything else.

    `sql` and `parameters` are the query that gave them; empty and None where there was none."""

    def __init__(self, arrow: pa.Table, sql: str = "", parameters: Sequence[Any] | Mapping[str, Any] | None = None):
        self.arrow, self.sql, self.parameters = arrow, sql, parameters

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

        return text_table(self.columns, self._first(), len(self))

    def _repr_html_(self) -> str:
        from workbench._html import html_table

        return html_table(self.columns, self._first(), len(self))

    def _first(self) -> list[list[Any]]:
        return [list(row.values()) for row in readable(self.arrow.slice(0, 20)).to_pylist()]


def query(sql: str, parameters: Sequence[Any] | Mapping[str, Any] | None = None, **tables: Any) -> Rows:
    """Return the rows of a DuckDB query over named tables: runs, Arrow tables and datasets, lists of records, data
    frames, Parquet files, (n, d) arrays of vectors.

        >>> store.query("SELECT count(*) AS n FROM qa WHERE length(answer) > $least", {"least": 20}, run=run)

    A run brings a table for each kind of record it holds, by the kind's name (qa, preference, image_pair), and its
    `failure` and `verdict`; its own name stands for its records where they are of one kind. Of several runs, the tables
    have the run's name before theirs (before_qa, after_qa).

    Values go into `parameters`, never into the text. Files that the query text names itself cannot be read. Raises
    StoreError with DuckDB's message and the tables and columns that are there, for what is no single SELECT (or WITH,
    FROM, VALUES, PIVOT, DESCRIBE, SUMMARIZE, SHOW), and for more than MOST_BYTES of rows."""
    return answer(sql, parameters, tables)


def answer(
    sql: str,
    parameters: Sequence[Any] | Mapping[str, Any] | None,
    tables: Mapping[str, Any],
    *,
    stop: Event | None = None,
) -> Rows:
    """Return what `query` does, for callers that may stop it: once `stop` is set it raises StoreError."""
    import duckdb

    parameters = _plain(parameters)
    with duckdb.connect() as database:
        shown = {name: value if _is_dataset(value) else as_table(value) for name, value in _named(tables).items()}
        for name, value in shown.items():
            database.register(name, value)
        database.execute("SET enable_external_access = false")
        work = lambda: _fetched(database.sql(sql, params=parameters))
        try:
            _check_that_it_selects(database.extract_statements(sql))
            found = _stoppable(database, work, stop or Event())
        except (duckdb.Error, pa.ArrowException, OSError) as error:
            raise StoreError(f"{str(error).strip()}\nThere are: {described(shown) or 'no tables'}.") from None
    return Rows(found.rename_columns(_apart(found.column_names)), sql, parameters)


def _check_that_it_selects(statements: Sequence[Any]) -> None:
    """Raise StoreError for what is not one statement that reads. Others may end the process: CALL enable_logging(...) does."""
    if not statements:
        raise StoreError("the query gives no rows. Write a SELECT.")
    if len(statements) > 1:
        raise StoreError(f"the query has {len(statements)} statements. Write one; WITH names parts of it.")
    kind = statements[0].type.name
    if kind not in ("SELECT", "MULTI"):  # what DuckDB makes of PIVOT is several
        raise StoreError(f"{kind} is no query, it may change something. Write a SELECT.")


def _named(tables: Mapping[str, Any]) -> dict[str, Any]:
    """The tables by name, with those of runs. What was given by a name has that name, whatever a run holds."""
    runs = {name: value.tables() for name, value in tables.items() if callable(getattr(value, "tables", None))}
    found = {}
    for own, parts in runs.items():
        found |= {name if len(runs) == 1 else f"{own}_{name}": part for name, part in parts.items()}
        kinds = [part for name, part in parts.items() if name not in _NO_RECORDS]
        if len(kinds) == 1:
            found[own] = kinds[0]
    found |= {name: value for name, value in tables.items() if name not in runs}
    if odd := [name for name in found if not name.isidentifier()]:
        raise StoreError(f"{odd[0]!r} cannot be a table's name. Use letters, digits and underscores.")
    return found


def described(tables: Mapping[str, Any]) -> str:
    """Return the tables with their columns, as SQL must write them: `qa(id, question); verdict(record_id, "check")`."""
    columns = lambda value: ", ".join(map(identifier, value.schema.names))
    return "; ".join(f"{identifier(name)}({columns(value)})" for name, value in tables.items())


def identifier(name: str) -> str:
    """Return a name as SQL must write it: in double quotes where it is a word of SQL's own or no plain word."""
    return name if name.isidentifier() and name.lower() not in _reserved() else '"' + name.replace('"', '""') + '"'


@cache
def _reserved() -> frozenset[str]:
    import duckdb

    with duckdb.connect() as database:
        database.execute(
            "SELECT keyword_name FROM duckdb_keywords() WHERE keyword_category IN ('reserved', 'type_function')"
        )
        return frozenset(name for (name,) in database.fetchall())


def _plain(parameters: Any) -> Any:
    """The parameters with numpy's numbers and vectors as Python's, which are all that DuckDB takes."""
    plain = lambda value: value.tolist() if isinstance(value, np.ndarray | np.generic) else value
    if isinstance(parameters, Mapping):
        return {name: plain(value) for name, value in parameters.items()}
    return parameters if parameters is None else [plain(value) for value in parameters]


def _stoppable(database: Any, work: Callable[[], pa.Table], stop: Event) -> pa.Table:
    """What `work` returns. It is done in a thread, because DuckDB does not hear the stop button while it computes."""
    with ThreadPoolExecutor(1) as pool:
        future = pool.submit(work)
        try:
            while not wait([future], timeout=0.05).done:
                if stop.is_set():
                    raise StoreError("the query was stopped.")
            return future.result()
        finally:
            while not future.done():  # an interrupt from before the query has begun is lost
                database.interrupt()
                wait([future], timeout=0.01)


def _fetched(relation: Any) -> pa.Table:
    read = getattr(relation, "to_arrow_reader", None) or relation.fetch_record_batch  # its name before DuckDB 1.5
    reader, batches, size = read(_BATCH_ROWS), [], 0
    for batch in reader:
        batches.append(batch)
        size += batch.nbytes
        if size > MOST_BYTES:
            raise StoreError(
                f"the query gives more than {MOST_BYTES / 2**30:.3g} GB of rows. Add a LIMIT, name fewer columns, or count and group in SQL."
            )
    return pa.Table.from_batches(batches, reader.schema)


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


def readable(found: pa.Table) -> pa.Table:
    """Return the table with texts for the columns that hold what Python has no place for, such as the year 20000."""
    for at, name in enumerate(found.column_names):
        column = found.column(at)
        try:
            column.to_pylist()
        except (OverflowError, ValueError):
            texts = query("SELECT value::VARCHAR AS value FROM given", given=pa.table({"value": column}))
            found = found.set_column(at, name, texts.arrow.column("value"))
    return found


def _is_dataset(value: Any) -> bool:
    return callable(getattr(value, "to_table", None))


def as_table(value: Any) -> pa.Table:
    """Return anything that holds rows as an Arrow table: a table, a dataset, Rows, records, a Parquet path, an (n, d)
    array of vectors (whose `id` is the place, from 0), or what has `.table()`."""
    if isinstance(value, pa.Table):
        return value
    if isinstance(value, Rows):
        return value.arrow
    if _is_dataset(value):
        return value.to_table()
    if callable(getattr(value, "table", None)):
        return value.table()
    if isinstance(value, str | os.PathLike):
        return read_table(value)
    if isinstance(value, np.ndarray):
        return vectors(range(len(value)), value)
    if callable(
        getattr(value, "__arrow_c_stream__", None)
    ):  # before Iterable: a data frame iterates over its column names
        return pa.table(value)
    if isinstance(value, Iterable):
        rows = list(value)
        if not rows:
            raise StoreError("an empty list has no columns. Give store.table([], kind) of the kind that it would hold.")
        return table(rows)
    raise StoreError(
        f"a {type(value).__name__} is no table. Give records, an Arrow table, a data frame or a Parquet path."
    )


# --- vectors --------------------------------------------------------------------------------------------------------


def vectors(ids: Iterable[Any], array: Any) -> pa.Table:
    """Return an Arrow table with the columns `id` and `vector`, which SQL sees as FLOAT[d].

        >>> store.query("SELECT id FROM v ORDER BY array_distance(vector, $to::FLOAT[384]) LIMIT 5", {"to": vector}, v=found)

    `array` is (n, d) and becomes float32, without a copy where it is. Raises StoreError for another shape, for other
    than n ids, and for a number that is not finite."""
    found, ids = np.ascontiguousarray(array, dtype=np.float32), list(ids)
    if found.ndim != 2 or not found.shape[1] or len(ids) != len(found):
        raise StoreError(f"{len(ids):,} ids and an array of shape {found.shape}: give (n, d), a row for each id.")
    if not np.isfinite(found).all():
        row = int(np.argmin(np.isfinite(found).all(axis=1)))
        raise StoreError(f"the vector of {ids[row]!r} holds a number that is not finite. Leave such rows out.")
    column = pa.FixedSizeListArray.from_arrays(pa.array(found.reshape(-1)), found.shape[1])
    return pa.table({"id": ids, "vector": column})


def nearest(table: Any, vector: Any, *, count: int = 10) -> Rows:
    """Return the `count` rows whose `vector` is most like the given one, best first, then by id.

    `table` has the columns `id` and `vector`, as `vectors` gives them, or is an (n, d) array. In the place of `vector` the
    rows have `similarity`, the cosine, -1 to 1; null, and last, for a vector of zeros. Raises StoreError where the
    lengths of the vectors differ."""
    found, wanted = as_table(table), np.asarray(vector, dtype=np.float32)
    if missing := {"id", "vector"} - set(found.column_names):
        raise StoreError(
            f"the table has no column {sorted(missing)[0]!r}; it has {', '.join(found.column_names)}. Make it with store.vectors(ids, array)."
        )
    if wanted.ndim != 1 or not np.isfinite(wanted).all() or not wanted.any():
        raise StoreError(
            f"nothing is near to a vector of shape {wanted.shape} with these numbers. Give (d,), not all zero."
        )
    kind = f"FLOAT[{len(wanted)}]"
    # Beside a vector of zeros DuckDB's cosine is NaN, and -1 before version 2.
    return query(
        f"""SELECT * EXCLUDE (vector, similarity), CASE WHEN array_inner_product(vector, vector) > 0 THEN similarity END AS similarity
            FROM (SELECT * REPLACE (vector::{kind} AS vector), nullif(array_cosine_similarity(vector::{kind}, $wanted::{kind}), 'nan') AS similarity
                  FROM given ORDER BY similarity DESC NULLS LAST, id LIMIT $count)
            ORDER BY similarity DESC NULLS LAST, id""",
        {"wanted": wanted, "count": count},
        given=found.select([name for name in found.column_names if name != "similarity"]),
    )


# --- files ----------------------------------------------------------------------------------------------------------


def export(rows: Any, path: str | os.PathLike[str]) -> Path:
    """Write rows (anything that `as_table` takes) as a .parquet or .csv file, by the path's ending; return the path.

    The file appears whole or not at all. CSV has texts in quotes, nested values as JSON, and nothing where there is none.
    Raises StoreError for another ending, and for a column of a type that the file has no place for."""
    path, found = Path(path), as_table(rows)
    if path.suffix not in (".parquet", ".csv"):
        raise StoreError(f"{path.name} is neither .parquet nor .csv. Give the file one of these endings.")
    try:
        with atomically(path) as temporary:
            if path.suffix == ".csv":
                _write_csv(found, temporary)
            else:
                pq.write_table(found, temporary, compression="zstd")
    except (pa.ArrowException, OverflowError, TypeError) as error:
        raise StoreError(
            f"cannot write {path}: {error}. Give that column another type in SQL: column::VARCHAR."
        ) from None
    return path


def _write_csv(found: pa.Table, path: Path) -> None:
    from pyarrow import csv

    for at, field in enumerate(found.schema):
        if pa.types.is_nested(field.type):
            values = [
                None if value is None else orjson.dumps(value, default=str).decode()
                for value in found.column(at).to_pylist()
            ]
            found = found.set_column(at, field.name, pa.array(values, pa.string()))
    csv.write_csv(found, path)
