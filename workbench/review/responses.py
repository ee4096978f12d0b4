"""What people answered: one row per record, question and person, whether it came from a server or from the notebook.

    answers = review.pull(server, "rag-check")
    answers = review.Responses.load("data/review/answers.parquet").merge(answers)
    answers.save("data/review/answers.parquet")
    answers.submitted.of("supported").table()

An answer is known by its record's id, its question's name and who gave it; of two of the same, the later one counts."""

import os
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import orjson

from workbench import _html
from workbench.errors import InputError, RecordError, StoreError
from workbench.llm.judge import DIMENSIONS
from workbench.records import ImagePair, Preference, Rating, Record, Vote, by_id
from workbench.review import questions

if TYPE_CHECKING:
    import pyarrow as pa

STATUSES = ("submitted", "draft", "discarded")
SOURCES = ("argilla", "notebook")
COLUMNS = ("record_id", "question", "value", "annotator", "status", "at", "source")
_KIND_KEY, _KIND = b"workbench.kind", b"Response"


@dataclass(frozen=True, slots=True)
class Response:
    """One person's answer to one question about one record.

    `value` is a str for a label or a text, an int for a rating, a tuple of options for several labels or a ranking, and
    None where it was discarded, or not answered yet. `at` is when it was last changed, ISO 8601; it is kept in UTC, to
    the microsecond, so that two can be compared as text. Raises RecordError for what is none of this."""

    record_id: str
    question: str
    value: Any
    annotator: str
    status: str
    at: str
    source: str = "notebook"

    def __post_init__(self):
        for name in ("record_id", "question", "annotator"):
            if not isinstance(getattr(self, name), str) or not getattr(self, name):
                raise RecordError(f"a response needs a {name.replace('_', ' ')}, got {getattr(self, name)!r}.")
        if self.status not in STATUSES:
            raise RecordError(f"a response is {', '.join(STATUSES)}, not {self.status!r}.")
        if self.source not in SOURCES:
            raise RecordError(f"a response comes from {' or '.join(SOURCES)}, not from {self.source!r}.")
        if isinstance(self.value, list):
            object.__setattr__(self, "value", tuple(self.value))
        several = self.value if isinstance(self.value, tuple) else ()
        if type(self.value) not in (str, int, tuple, type(None)) or not all(type(each) is str for each in several):
            raise RecordError(
                f"an answer is a text, a whole number, a tuple of texts or None, not {self.value!r:.80} ({self.question})."
            )
        if self.status != "draft" and (self.value is None) != (self.status == "discarded"):
            raise RecordError(
                f"what is submitted has an answer, and what is discarded has none; got {self.value!r:.80} as {self.status}."
            )
        object.__setattr__(self, "at", _utc(self.at))

    @property
    def key(self) -> tuple[str, str, str]:
        """What it is known by: record, question, annotator."""
        return self.record_id, self.question, self.annotator


def now() -> str:
    """Return the time as `Response.at` has it."""
    return _utc(datetime.now(UTC).isoformat())


def _utc(at: str) -> str:
    try:
        time = datetime.fromisoformat(at)
    except (TypeError, ValueError):
        time = None
    if time is None or time.tzinfo is None:
        raise RecordError(f"a time is ISO 8601 with its zone, such as 2026-05-01T12:00:00+00:00, got {at!r}.")
    return time.astimezone(UTC).isoformat(timespec="microseconds")


@dataclass(frozen=True, repr=False)
class Responses(Sequence[Response]):
    """Answers in the order in which they were first given here; prints itself.

    One per record, question and person: the latest `at` wins, and of two of the same time the one that comes last.
    `notes` say what was left out where they come from."""

    items: tuple[Response, ...] = ()
    notes: tuple[str, ...] = ()

    def __post_init__(self):
        latest: dict[tuple[str, str, str], Response] = {}
        for item in self.items:
            if not isinstance(item, Response):
                raise InputError(f"Responses are made of Response values, got a {type(item).__name__}.")
            if (older := latest.get(item.key)) is None or item.at >= older.at:
                latest[item.key] = item
        object.__setattr__(self, "items", tuple(latest.values()))
        object.__setattr__(self, "notes", tuple(dict.fromkeys(self.notes)))

    def __len__(self) -> int:
        return len(self.items)

    def __iter__(self) -> Iterator[Response]:
        return iter(self.items)

    def __getitem__(self, at: Any) -> Any:
        """The response at an index; a slice gives Responses."""
        return replace(self, items=self.items[at]) if isinstance(at, slice) else self.items[at]

    def merge(self, other: "Responses") -> "Responses":
        """Return these and the others, by record, question and person; the later of two wins, wherever it is from."""
        return Responses((*self.items, *other.items), (*self.notes, *other.notes))

    # --- parts

    @property
    def submitted(self) -> "Responses":
        """Those that their people stand by."""
        return self._where(lambda item: item.status == "submitted")

    def of(self, question: str) -> "Responses":
        """Return the answers to one question. Raises InputError when nobody was asked it."""
        if self.items and question not in self.questions:
            raise InputError(f"nobody was asked {question!r}; people were asked {', '.join(self.questions)}.")
        return self._where(lambda item: item.question == question)

    @property
    def questions(self) -> tuple[str, ...]:
        """The questions by name, in the order in which they come."""
        return tuple(dict.fromkeys(item.question for item in self.items))

    @property
    def annotators(self) -> tuple[str, ...]:
        """The people, by name."""
        return tuple(sorted({item.annotator for item in self.items}))

    def _where(self, is_wanted: Any) -> "Responses":
        return replace(self, items=tuple(item for item in self.items if is_wanted(item)))

    # --- what other parts read

    def votes(self, records: Iterable[Record]) -> list[Vote]:
        """Return the submitted answers to "better" as votes on the two texts of each preference, or images of a pair.

        A vote names its texts as `questions.text_ids` does. Answers about other records are not among them."""
        known, found = _pairs(records), []
        for item in self.submitted:
            if item.question == "better" and item.record_id in known:
                first, second = questions.text_ids(known[item.record_id])
                found.append(Vote(first, second, item.value, rater=item.annotator))
        return found

    def ratings(self, records: Iterable[Record]) -> list[Rating]:
        """Return the submitted answers that are numbers as ratings, the question being the dimension.

        The subject is the record; for the two texts of a preference ("honesty_first", "honesty_second") the text, as
        `questions.text_ids` names it, and the dimension "honesty". Answers about other records are not among them."""
        known, found = by_id(records), []
        pairs = _pairs(known.values())
        for item in self.submitted:
            if type(item.value) is not int or item.record_id not in known:
                continue
            subject, dimension = item.record_id, item.question
            name, _, place = item.question.rpartition("_")
            if item.record_id in pairs and name in DIMENSIONS and place in ("first", "second"):
                subject = questions.text_ids(pairs[item.record_id])[place == "second"]
                dimension = name
            found.append(Rating(subject, dimension, item.value, rater=item.annotator))
        return found

    def table(self) -> "pa.Table":
        """Return a pyarrow table, a row per answer, all columns text: those of Response, the value as JSON."""
        import pyarrow as pa

        columns = [[getattr(item, name) for item in self.items] for name in COLUMNS]
        columns[COLUMNS.index("value")] = [orjson.dumps(item.value).decode() for item in self.items]
        schema = pa.schema([pa.field(name, pa.string(), nullable=False) for name in COLUMNS], {_KIND_KEY: _KIND})
        return pa.table([pa.array(column, pa.string()) for column in columns], schema=schema)

    # --- files

    def save(self, path: str | os.PathLike[str]) -> Path:
        """Write the table as a Parquet file, which appears whole or not at all, and return its path."""
        import pyarrow.parquet as pq

        from workbench import store

        path = Path(path)
        with store.atomically(path) as temporary:
            pq.write_table(self.table(), temporary, compression="zstd")
        return path

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> "Responses":
        """Return what `save` wrote. Raises StoreError when the file is missing, cut off or of another kind."""
        from workbench import store

        table = store.read_table(path)
        if table.column_names != list(COLUMNS):
            raise StoreError(
                f"{path} holds no responses: it has the columns {', '.join(table.column_names)}, and not {', '.join(COLUMNS)}. Give a file that Responses.save() wrote."
            )
        try:
            return cls(tuple(Response(**row | {"value": orjson.loads(row["value"])}) for row in table.to_pylist()))
        except (RecordError, orjson.JSONDecodeError) as error:
            raise StoreError(f"a row of {path} is no response: {error} Save it again with Responses.save().") from None

    # --- how it looks

    def _said(self) -> str:
        counts = Counter(item.status for item in self.items)
        records = len({item.record_id for item in self.items})
        status = ", ".join(f"{counts[name]:,} {name}" for name in STATUSES if counts[name]) or "none"
        return f"{len(self.items):,} responses to {records:,} records by {_who(self.annotators)}: {status}"

    def _rows(self) -> list[tuple[Any, ...]]:
        rows = []
        for name in self.questions:
            of = [item for item in self.items if item.question == name]
            given = Counter(_short(item.value) for item in of if item.status == "submitted")
            said = ", ".join(f"{value} {count:,}" for value, count in sorted(given.items(), key=_by_count)[:_SHOWN])
            more = f", and {len(given) - _SHOWN:,} others" if len(given) > _SHOWN else ""
            rows.append((name, len({item.annotator for item in of}), sum(given.values()), said + more))
        return rows

    def __repr__(self) -> str:
        lines = [f"Responses: {self._said()}", *(f"  {note}" for note in self.notes)]
        return "\n".join([*lines, *([_html.text_table(_TITLES, self._rows(), width=90)] if self.items else [])])

    def _repr_html_(self) -> str:
        table = _html.html_table(_TITLES, self._rows()) if self.items else ""
        return _html.card("Responses", self._said(), table, warning="\n".join(self.notes))


_TITLES = ("question", "people", "submitted", "answers")
_SHOWN = 6


def load(path: str | os.PathLike[str]) -> Responses:
    """Return the responses in a file that `Responses.save` wrote."""
    return Responses.load(path)


def _pairs(records: Iterable[Record]) -> dict[str, Preference | ImagePair]:
    return {key: record for key, record in by_id(records).items() if isinstance(record, Preference | ImagePair)}


def _by_count(item: tuple[str, int]) -> tuple[int, str]:
    return -item[1], item[0]


def _short(value: Any) -> str:
    text = " > ".join(value) if isinstance(value, tuple) else str(value)
    return text if len(text) <= 30 else text[:29] + "…"


def _who(names: Sequence[str]) -> str:
    return ", ".join(names) if 0 < len(names) <= 4 else f"{len(names):,} people"
