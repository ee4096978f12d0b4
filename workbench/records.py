"""The record types, and what is known about every row: Provenance, Failure, Verdict.

Records are frozen. A record's `id` is the hash of its kind, its content and its parents' ids, so that merging by id
works everywhere and a changed text is a new record. Fields that hold their default are left out of the hash: a field
added later does not change the ids of rows made before it."""

import dataclasses
import hashlib
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import MISSING, dataclass, field
from functools import cache
from pathlib import PurePath
from types import UnionType
from typing import Any, Self, Union, get_args, get_origin, get_type_hints

import orjson

from workbench.errors import RecordError

OPERATIONS = ("augmentation", "prompting", "reformation", "distillation")
SEED_KINDS = ("document", "persona", "paraphrase", "keyword", "instruction", "evaluation")

_CANONICAL = orjson.OPT_SORT_KEYS | orjson.OPT_PASSTHROUGH_DATACLASS | orjson.OPT_NON_STR_KEYS


def _plain(value: Any) -> Any:
    """What `content_hash` sees of a value that JSON has no word for."""
    kind = type(value)
    names = _compared_fields(kind)
    if (identity := getattr(value, "content_id", None)) is not None:
        return identity
    if names is not None:
        return {"": kind.__name__, **{name: getattr(value, name) for name in names}}
    if isinstance(value, set | frozenset):
        return sorted(value)
    if isinstance(value, PurePath):
        return str(value)
    if hasattr(value, "tolist"):  # numpy scalars and arrays
        return value.tolist()
    raise TypeError(f"{kind.__name__} has no content to hash")


@cache
def _compared_fields(kind: type) -> tuple[str, ...] | None:
    return tuple(f.name for f in dataclasses.fields(kind) if f.compare) if dataclasses.is_dataclass(kind) else None


def content_hash(value: Any) -> str:
    """Return 24 hex digits (96 bits of SHA-256) of a value's canonical JSON.

    Takes JSON values, dataclasses (by class name and compared fields), sets, paths, numpy values, and any object with a
    `content_id`. Raises RecordError for anything else, because a hash that ignores a part of its value lies."""
    try:
        encoded = orjson.dumps(value, default=_plain, option=_CANONICAL)
    except TypeError as error:
        raise RecordError(
            f"cannot hash a {type(value).__name__}: {error.__cause__ or error}. Use plain values or dataclasses."
        ) from error
    return hashlib.sha256(encoded).hexdigest()[:24]


@dataclass(frozen=True, slots=True)
class Span:
    """Characters [start, end) of a document's text."""

    document_id: str
    start: int
    end: int


@dataclass(frozen=True, slots=True)
class Provenance:
    """Where a row came from: only what was really sent and really came back.

    `model` is the model as answered; `sampling` the parameters as sent, as JSON; `requests` are keys of the ledger, in
    the order they were asked, a repair last; `parents` are ids of records; `source` is where text was taken from."""

    recipe: str
    operation: str = "prompting"
    seed_kinds: tuple[str, ...] = ()
    prompt: str = ""
    model: str = ""
    endpoint: str = ""
    sampling: str = "{}"
    requests: tuple[str, ...] = ()
    parents: tuple[str, ...] = ()
    source: Span | None = None
    repaired: bool = False

    def __post_init__(self):
        if self.operation not in OPERATIONS:
            raise RecordError(f"operation {self.operation!r} is not one of {', '.join(OPERATIONS)}")
        if unknown := [kind for kind in self.seed_kinds if kind not in SEED_KINDS]:
            raise RecordError(f"seed kind {unknown[0]!r} is not one of {', '.join(SEED_KINDS)}")

    @property
    def is_offline(self) -> bool:
        """True when the rule-based offline writer made this row, and no model did."""
        return self.model.startswith("offline-rules@")


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """The two fields every record has. Use a concrete kind; `replace()` makes a changed copy with its own id."""

    provenance: Provenance = field(default=Provenance("given"))
    id: str = field(init=False, default="", compare=False)

    def __post_init__(self):
        for name in _float_fields(type(self)):
            _set_number(self, name)
        content = {
            name: value for name, default in _content_fields(type(self)) if (value := getattr(self, name)) != default
        }
        object.__setattr__(self, "id", content_hash([type(self).__name__, content, self.provenance.parents]))

    @property
    def content_id(self) -> str:
        return self.id

    @property
    def text_fields(self) -> tuple[str, ...]:
        """The fields that a reader reads, most telling first."""
        return tuple(name for name, _ in _content_fields(type(self)) if isinstance(getattr(self, name), str))

    def _repr_html_(self) -> str:
        from workbench._html import record_card

        return record_card(type(self).__name__, to_row(self))


@cache
def _content_fields(kind: type) -> tuple[tuple[str, Any], ...]:
    return tuple((f.name, f.default) for f in dataclasses.fields(kind) if f.name not in ("id", "provenance"))


@cache
def _float_fields(kind: type) -> tuple[str, ...]:
    return tuple(f.name for f in dataclasses.fields(kind) if f.type in (float, float | None))


def _set_number(holder: Any, name: str) -> None:
    """Make a field a finite float or None: 1 and -0.0 equal 1.0 and 0.0, so they must share an id."""
    number = getattr(holder, name)
    if number is not None:
        if not math.isfinite(number):
            raise RecordError(
                f"{type(holder).__name__}.{name} is {number}, which JSON cannot hold. Use None where there is no number."
            )
        object.__setattr__(holder, name, float(number) + 0.0)


@dataclass(frozen=True, slots=True)
class Document(Record):
    """A text that was given: a page, a chapter, an article. `path` is relative to the folder it was read from."""

    text: str
    path: str = ""
    title: str = ""


@dataclass(frozen=True, slots=True)
class Persona(Record):
    """One or two sentences about who somebody is. A persona adds variety, never knowledge."""

    text: str
    relation: str = ""


@dataclass(frozen=True, slots=True)
class Instruction(Record):
    """An instruction, with an optional input and, once answered, an output."""

    instruction: str
    input: str = ""
    output: str | None = None

    @property
    def asked(self) -> str:
        """What a model is sent: the instruction, and the input below it where there is one."""
        return f"{self.instruction}\n\n{self.input}" if self.input else self.instruction


@dataclass(frozen=True, slots=True)
class Passage:
    """A piece of a document, with where it stands."""

    text: str
    span: Span


@dataclass(frozen=True, slots=True)
class QA(Record):
    """A question about one passage, its answer, and the words of the passage that prove it.

    `evidence_span` points into the document, so that `document.text[start:end] == evidence`. An unanswerable control has
    `is_answerable=False`, no answer and no evidence. `negatives` are passages that look right and are not."""

    question: str
    answer: str | None
    evidence: str | None
    passage: Passage
    evidence_span: Span | None = None
    is_answerable: bool = True
    persona: str | None = None
    negatives: tuple[Passage, ...] = ()


@dataclass(frozen=True, slots=True)
class Preference(Record):
    """Two answers to one prompt, the better one first. Scores are None where nobody scored."""

    prompt: str
    chosen: str
    rejected: str
    score_chosen: float | None = None
    score_rejected: float | None = None


@dataclass(frozen=True, slots=True)
class Rating(Record):
    """What a judge or a person gives one text in one dimension; None where the dimension does not apply to it.

    `subject` is the id of the record that is rated, `rater` a model as answered or a person's name."""

    subject: str
    dimension: str
    value: float | None
    rater: str = ""
    rationale: str = ""


@dataclass(frozen=True, slots=True)
class Vote(Record):
    """Which of two texts a judge or a person finds better: "first", "second" or "tie".

    `first` and `second` are ids of records. A judge that is asked in both orders and changes its mind with the order
    votes for a tie, with `is_flip=True`; None where nobody asked twice."""

    first: str
    second: str
    winner: str
    rater: str = ""
    rationale: str = ""
    is_flip: bool | None = None

    def __post_init__(self):
        if self.winner not in ("first", "second", "tie"):
            raise RecordError(f"a vote is for 'first', 'second' or 'tie', not {self.winner!r}.")
        Record.__post_init__(self)


@dataclass(frozen=True, slots=True)
class Label(Record):
    """A text and its class."""

    text: str
    label: str


@dataclass(frozen=True, slots=True)
class Step:
    """One message of a trace; `tool_calls` is the JSON list of calls, as sent."""

    role: str
    content: str
    tool_calls: str = ""
    tool_call_id: str = ""


@dataclass(frozen=True, slots=True)
class Trace(Record):
    """What an agent did for a task: its tools (JSON Schema, as JSON), its steps, and whether it was right."""

    task: str
    tools: str
    steps: tuple[Step, ...]
    is_success: bool | None = None


@dataclass(frozen=True, slots=True)
class ImagePair(Record):
    """Two images for one prompt, by path, the better one first."""

    prompt: str
    chosen: str
    rejected: str


KINDS: dict[str, type[Record]] = {
    kind.__name__: kind
    for kind in (Document, Persona, Instruction, QA, Preference, Rating, Vote, Label, Trace, ImagePair)
}


@dataclass(frozen=True, slots=True)
class Failure:
    """A loss, as a value: which task, why, what came back and what it cost. Never a row of None.

    `reason` is a code: one of CallFailed.REASONS, "parse", "exception", or a recipe's own."""

    reason: str
    detail: str
    raw: str = ""
    task_id: str = ""
    task_index: int = -1
    requests: tuple[str, ...] = ()
    cost: float | None = None
    traceback: str = ""

    def as_of(self, task_id: str, task_index: int, requests: tuple[str, ...], cost: float | None) -> Self:
        """Return this failure with what only the runner knows."""
        return dataclasses.replace(
            self,
            task_id=task_id,
            task_index=task_index,
            requests=requests or self.requests,
            cost=self.cost if self.cost is not None else cost,
        )


@dataclass(frozen=True, slots=True)
class Verdict:
    """A check's answer about a record. Checks mark; they never delete.

    `score` is the check's own measure, None where it has none; `survivor_id` is the record kept in this one's place."""

    record_id: str
    check: str
    passed: bool
    score: float | None = None
    reason: str = ""
    detail: str = ""
    survivor_id: str = ""

    def __post_init__(self):
        _set_number(self, "score")


def by_id(records: Iterable[Record]) -> dict[str, Record]:
    """Return records by id, the first of each id."""
    found: dict[str, Record] = {}
    for record in records:
        found.setdefault(record.id, record)
    return found


def kept(records: Iterable[Record], verdicts: Iterable[Verdict]) -> list[Record]:
    """Return the records that failed no check, each id once, in their order."""
    failed = {verdict.record_id for verdict in verdicts if not verdict.passed}
    return [record for record in by_id(records).values() if record.id not in failed]


# --- rows: plain dictionaries, for Parquet and JSON, and back -----------------------------------------------------------


def to_row(value: Any) -> Any:
    """Return a record, failure or verdict as plain dictionaries, lists and scalars (tuples become lists)."""
    if (plainers := _plainers(type(value))) is not None:
        return {
            name: getattr(value, name) if plain is None else plain(getattr(value, name)) for name, plain in plainers
        }
    return [to_row(item) for item in value] if isinstance(value, tuple) else value


@cache
def _plainers(kind: type) -> tuple[tuple[str, Any], ...] | None:
    """For each field a function that makes it plain, None for a scalar: looked up once a kind, since this runs for every row."""
    if not dataclasses.is_dataclass(kind):
        return None
    hints = get_type_hints(kind)
    return tuple((name, _plainer(hints[name])) for name in _field_names(kind))


def _plainer(hint: Any) -> Any:
    origin, args = get_origin(hint), get_args(hint)
    if origin in (Union, UnionType):
        inner = _plainer(next(arg for arg in args if arg is not type(None)))
        return inner and (lambda value: None if value is None else inner(value))
    if origin is tuple:
        inner = _plainer(args[0])
        return list if inner is None else (lambda value: [inner(item) for item in value])
    return to_row if dataclasses.is_dataclass(hint) else None


@cache
def _field_names(kind: type) -> tuple[str, ...]:
    names = tuple(f.name for f in dataclasses.fields(kind))
    # A table reads best with its id first and its provenance last.
    return (
        ("id", *(n for n in names if n not in ("id", "provenance")), "provenance")
        if issubclass(kind, Record)
        else names
    )


def from_row(kind: type, row: Mapping[str, Any]) -> Any:
    """Return the dataclass that `to_row` made this row of.

    Raises RecordError when a field is missing or unknown, or when the row's id is not the hash of its content: then
    somebody edited the text and kept the id."""
    builders = _builders(kind)
    if unknown := [name for name in row if name not in builders and name != "id"]:
        raise RecordError(f"a {kind.__name__} has no field {unknown[0]!r}; it has {', '.join(builders)}")
    values = {}
    for name, (build, required) in builders.items():
        if name in row:
            values[name] = build(row[name])
        elif required:
            raise RecordError(f"a {kind.__name__} needs {name!r}; this row has {', '.join(row)}")
    made = kind(**values)
    if issubclass(kind, Record) and row.get("id") not in (None, "", made.id):
        raise RecordError(
            f"{kind.__name__} {row['id']} has the id of another content (its own is {made.id}). A changed text is a new record: drop the id column to give it one."
        )
    return made


@cache
def _builders(kind: type) -> dict[str, tuple[Any, bool]]:
    hints = get_type_hints(kind)
    return {
        f.name: (_builder(hints[f.name]), f.default is MISSING and f.default_factory is MISSING)
        for f in dataclasses.fields(kind)
        if f.init
    }


def _builder(hint: Any):
    """A function that turns a plain value into one of this type."""
    origin, args = get_origin(hint), get_args(hint)
    if origin in (Union, UnionType):
        inner = _builder(next(arg for arg in args if arg is not type(None)))
        return lambda value: None if value is None else inner(value)
    if origin is tuple:
        inner = _builder(args[0])
        return lambda value: tuple(inner(item) for item in value)
    if dataclasses.is_dataclass(hint):
        return lambda value: value if isinstance(value, hint) else from_row(hint, value)
    return lambda value: value


def field_types(kind: type) -> Iterator[tuple[str, Any]]:
    """Yield (name, type) of a record kind's fields in table order."""
    hints = get_type_hints(kind)
    for name in _field_names(kind):
        yield name, hints[name]


def one_kind(records: Sequence[Record]) -> type[Record]:
    """Return the single kind of these records. Raises RecordError when there are several, or no records."""
    kinds = {type(record) for record in records}
    if len(kinds) != 1:
        names = ", ".join(sorted(kind.__name__ for kind in kinds)) or "none"
        raise RecordError(f"one kind of record is needed here, got {names}. Each kind has a table of its own.")
    return kinds.pop()
