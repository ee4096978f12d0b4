"""Which records hold the words of a query, and how well: one FTS5 table in memory for each dataset."""

import json
import re
import sqlite3
import threading
from collections.abc import Iterable, Mapping
from typing import Any

from embedded_search.query import Group, Not, Part, Term, parse

# Chinese, Japanese and Korean are written without blanks, so each character is a word, as for Elasticsearch.
_NO_BLANKS = re.compile("([\u2e80-\u2fdf\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\uac00-\ud7af])")


class TextIndex:
    """The texts of one dataset; `fields` are their names and Argilla's types. `stamps` says which state of each record is in.

    Accents count and capitals do not, as with Elasticsearch's standard analyzer."""

    def __init__(self, fields: Mapping[str, str]):
        self.fields = dict(fields)
        self.stamps: dict[str, Any] = {}
        self._columns = {name: f"f{at}" for at, name in enumerate(self.fields)}
        self._rows: dict[str, int] = {}
        self._ids: dict[int, str] = {}
        self._next_row = 1
        self._lock = threading.Lock()  # it is read and written from the threads of different requests
        self._table = sqlite3.connect(":memory:", check_same_thread=False, isolation_level=None)
        self._table.execute(
            f"CREATE VIRTUAL TABLE t USING fts5({', '.join(self._columns.values())}, tokenize='unicode61 remove_diacritics 0')"
        )

    def update(self, gone: Iterable[str], changed: Iterable[tuple[str, Any, str]]) -> None:
        """Forget some records by id, and take in others as (id, stamp, fields in JSON)."""
        new = [(record, stamp, self._texts(json.loads(fields) or {})) for record, stamp, fields in changed]
        insert = f"INSERT INTO t(rowid, {', '.join(self._columns.values())}) VALUES (?{', ?' * len(self._columns)})"
        with self._lock:
            self._table.execute("BEGIN")
            for record in [*gone, *(record for record, _, _ in new if record in self._rows)]:
                row = self._rows.pop(record)
                del self._ids[row], self.stamps[record]
                self._table.execute("DELETE FROM t WHERE rowid = ?", (row,))
            for row, (record, stamp, texts) in enumerate(new, self._next_row):
                self._rows[record], self._ids[row], self.stamps[record] = row, record, stamp
                self._table.execute(insert, [row, *texts])
            self._next_row += len(new)
            self._table.execute("COMMIT")

    def _texts(self, values: Mapping[str, Any]) -> list[str | None]:
        return [_text(values.get(name), kind) for name, kind in self.fields.items()]

    def search(self, query: str, field: str | None = None) -> dict[str, float]:
        """Return {record id: score} of all that match, 0 and up, higher is better; in one field or in all taken together."""
        tree = parse(query)
        if tree is None or (field is not None and field not in self._columns):
            return {}
        with self._lock:
            return {self._ids[row]: score for row, score in self._found(tree, field).items()}

    def _found(self, part: Part, field: str | None) -> dict[int, float]:
        match part:
            case Term():
                return self._holding(part, field)
            case Not():
                without = self._found(part.part, field)
                return {row: 1.0 for row in self._ids if row not in without}
            case Group():
                found = self._found(part.first, field)
                for operator, other in part.rest:
                    if operator == "and":
                        # What is nowhere stays nowhere: a whole page pasted into the box costs one word.
                        more = self._found(other, field) if found else {}
                        found = {row: score + more[row] for row, score in found.items() if row in more}
                    else:
                        for row, score in self._found(other, field).items():
                            found[row] = found.get(row, 0.0) + score
                return found

    def _holding(self, term: Term, field: str | None) -> dict[int, float]:
        # FTS5 takes a NUL for the end of its query. Between quotes it knows no other sign.
        words = _spaced(term.text.replace('"', " ").replace("\0", " "))
        match = f'"{words}"' + ("*" if term.is_prefix else "")
        if field is not None:
            match = f"{self._columns[field]} : {match}"
        return dict(self._table.execute("SELECT rowid, -bm25(t) FROM t WHERE t MATCH ?", (match,)))


def _text(value: Any, kind: str) -> str | None:
    """The words of a field; None for what holds none."""
    if value is None:
        return None
    if kind == "chat" and isinstance(value, list):
        value = "\n".join(str(message.get("content") or "") for message in value if isinstance(message, dict))
    return _spaced(value if isinstance(value, str) else json.dumps(value, ensure_ascii=False))


def _spaced(text: str) -> str:
    # Half of a surrogate pair is no text that SQLite takes.
    return _NO_BLANKS.sub(r" \1 ", text).encode(errors="replace").decode()
