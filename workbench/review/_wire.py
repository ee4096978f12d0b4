"""Records as an Argilla server takes them: fields, questions, suggestions, metadata, vectors, checked before any is sent.

What cannot be said to the server is either refused, naming the record, or left out and counted in `Items.notes`."""

import base64
import html
import math
import re
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from workbench.errors import InputError
from workbench.llm.judge import DIMENSIONS
from workbench.quality.agreement import SWAPPED
from workbench.records import ImagePair, Preference, Rating, Record, Verdict, Vote
from workbench.review import questions
from workbench.review.questions import Question
from workbench.review.sampling import Sample, clusters_of

MOST_IMAGE_CHARACTERS = 5_000_000  # of a data URI, that the server takes
_AGENT = re.compile(r"[^a-zA-Z0-9\-_:./ ]+")
_MAGIC = {rb"\x89PNG\r\n\x1a\n": "png", rb"\xff\xd8\xff": "jpeg", rb"GIF8[79]a": "gif", rb"RIFF(?s:....)WEBP": "webp"}
_TYPES = {"label": "label_selection", "multi_label": "multi_label_selection"}
KINDS = {_TYPES.get(kind, kind): kind for kind in questions.KINDS_OF_QUESTION}
_MOST_VECTORS = 5  # kinds of them in a dataset


@dataclass(frozen=True, slots=True)
class Suggestion:
    """An answer that somebody, mostly a model, proposes; `score` says how sure it is, 0 to 1."""

    record_id: str
    question: str
    value: Any
    agent: str = ""
    score: float | None = None


@dataclass(frozen=True)
class Items:
    """What is to be sent: a body per record (its suggestions by question), and the settings that these bodies need."""

    bodies: tuple[dict[str, Any], ...]
    fields: dict[str, str]  # name: "text" or "image"
    metadata: dict[str, str]  # name: "terms" or "float"
    vectors: dict[str, int]  # name: dimensions
    notes: tuple[str, ...]


def items(
    records: Mapping[str, Record],
    asked: Sequence[Question],
    sample: Sample | None,
    suggestions: Iterable[Suggestion | Rating | Vote | Verdict],
    metadata: Mapping[str, Any],
    vectors: Mapping[str, Mapping[str, Any]],
) -> Items:
    """Return these records, of one kind and by id, as the server takes them."""
    first = next(iter(records.values()))
    images = ("first", "second") if isinstance(first, ImagePair) else ()
    hidden = {each.name for each in asked}  # what is asked for is not told
    seen = [name for name in questions.shown(first) if name not in hidden]
    beside = {} if sample is None else sample.beside
    fields = {name: "image" if name in images else "text" for name in seen} | ({"beside": "text"} if beside else {})
    notes: Counter[str] = Counter()
    given = _metadata(records, sample, metadata, notes)
    embedded = _vectors(records, vectors, notes)
    proposed = _suggestions(records, {each.name: each for each in asked}, suggestions, notes)
    bodies = []
    for key, record in records.items():
        texts = {**questions.shown(record), "beside": beside.get(key)}
        found = {
            name: _image(texts[name], record) if kind == "image" else as_written(texts[name])
            for name, kind in fields.items()
            if texts[name] is not None
        }
        body: dict[str, Any] = {"external_id": key, "fields": found, "suggestions": proposed.get(key, {})}
        body["metadata"] = {name: values[key] for name, (_, values) in given.items() if key in values}
        body["vectors"] = {name: values[key] for name, values in embedded.items() if key in values}
        bodies.append(body)
    sizes = {name: len(next(iter(values.values()))) for name, values in embedded.items() if values}
    said = tuple(f"{count:,} {what}" for what, count in notes.items())
    return Items(tuple(bodies), fields, {name: kind for name, (kind, _) in given.items()}, sizes, said)


def as_written(text: str) -> str:
    """Return HTML that shows a text as it was written.

    Argilla's page puts the "plain" text of a field into the document as HTML, so that markup of a text is obeyed, an
    `onerror` among it, and its lines run together. A blank after a blank, and a tab, would be lost too."""
    lines = html.escape(text, quote=False).replace("\t", "    ").splitlines()
    return "<br>".join(re.sub(r"(?<= ) |^ ", "\u00a0", line) for line in lines)


# --- questions and answers --------------------------------------------------------------------------------------------


def settings(question: Question) -> dict[str, Any]:
    """Return a question as the server takes it."""
    about: dict[str, Any] = {"type": _TYPES.get(question.kind, question.kind)}
    if question.kind == "rating":
        about["options"] = [{"value": int(option)} for option in question.options]
    elif question.kind != "text":
        about["options"] = [{"value": option, "text": option} for option in question.options]
    body = {"name": question.name, "title": question.title, "required": question.is_required, "settings": about}
    return body | ({"description": question.description} if question.description else {})


class Asked(NamedTuple):
    """A question of the server, as far as it matters for answers; `kind` is "" where it is none of ours."""

    name: str
    kind: str
    options: tuple[str, ...]
    is_required: bool


def asked_there(found: Mapping[str, Any]) -> Asked:
    """Return what a question of the server, or one that was made for it, asks."""
    options = tuple(str(each["value"]) for each in found["settings"].get("options") or ())
    return Asked(found["name"], KINDS.get(found["settings"]["type"], ""), options, bool(found["required"]))


def to_wire(kind: str, value: Any) -> Any:
    """Return an answer as the server takes it."""
    if kind == "ranking":
        return [{"value": each, "rank": place} for place, each in enumerate(value, 1)]
    return list(value) if isinstance(value, tuple) else value


def from_wire(asked: Asked, value: Any) -> Any:
    """Return an answer of the server as `Response.value` has it; None for one that says nothing.

    Several labels come in the order of the options, so that the same choice is the same answer."""
    if asked.kind == "multi_label":
        place = {option: at for at, option in enumerate(asked.options)}
        return tuple(sorted(value, key=lambda each: place.get(each, len(place)))) or None
    if asked.kind == "ranking":
        ranked = [each for each in value if each.get("rank") is not None]
        return tuple(each["value"] for each in sorted(ranked, key=lambda each: each["rank"])) or None
    return None if isinstance(value, str) and not value.strip() else value


def _suggestions(
    records: Mapping[str, Record], asked: Mapping[str, Question], rows: Iterable[Any], notes: Counter[str]
) -> dict[str, dict[str, dict[str, Any]]]:
    """{record id: {question: body}}."""
    read, rows = _Reader(records, asked), list(rows)
    votes = {(row.first, row.second, row.rater) for row in rows if isinstance(row, Vote)}
    found: dict[str, dict[str, dict[str, Any]]] = defaultdict(dict)
    for row in rows:
        several, why = read.all(row)
        if isinstance(row, Vote) and (row.second, row.first, row.rater) in votes:
            # Of both orders that in which people see the texts counts, as in agreement.judged.
            several = [one for one in several if questions.text_ids(records[one.record_id])[0] == row.first]
        if why:
            notes[f"suggestions left out: {why}"] += 1
        for one in several:
            body = _proposed(one, asked)
            if found[one.record_id].setdefault(one.question, body) != body:
                other = found[one.record_id][one.question]
                raise InputError(
                    f"two suggestions for {one.question!r} of {one.record_id}: {other['value']!r} by {other.get('agent') or 'nobody'} and {body['value']!r} by {body.get('agent') or 'nobody'}. Give those of one judge, or one of each record."
                )
    return found


def _proposed(one: Suggestion, asked: Mapping[str, Question]) -> dict[str, Any]:
    if why := asked[one.question].why_not(one.value):
        raise InputError(f"{one.value!r:.80} is suggested for {one.question!r} of {one.record_id}: {why}.")
    if one.score is not None and not 0 <= one.score <= 1:
        raise InputError(f"the score of a suggestion is from 0 to 1, got {one.score} for {one.record_id}.")
    body: dict[str, Any] = {"value": to_wire(asked[one.question].kind, one.value), "type": "model"}
    agent = _AGENT.sub("-", one.agent)[:200]
    body |= {"agent": agent} if re.search("[a-zA-Z0-9]", agent) else {}
    if one.score is None:
        return body
    several = isinstance(body["value"], list)  # of which each must have a score
    return body | {"score": [float(one.score)] * len(body["value"]) if several else float(one.score)}


class _Reader:
    """What ratings, votes and verdicts suggest."""

    def __init__(self, records: Mapping[str, Record], asked: Mapping[str, Question]):
        self.records, self.asked = records, asked
        self.pairs: dict[frozenset[str], list[tuple[str, str]]] = defaultdict(list)
        self.sides: dict[str, list[tuple[str, str]]] = defaultdict(list)
        for key, record in records.items():
            if isinstance(record, Preference | ImagePair):
                ids = questions.text_ids(record)
                self.pairs[frozenset(ids)].append((key, ids[0]))
                for each, place in zip(ids, ("first", "second"), strict=True):
                    self.sides[each].append((key, place))

    def all(self, row: Any) -> tuple[list[Suggestion], str]:
        """The suggestions that one row makes, or why it makes none."""
        match row:
            case Suggestion():
                found = [row]
            case Rating():
                found = self._rated(row)
            case Vote():
                both = self.pairs.get(frozenset((row.first, row.second)), ())
                turned = lambda first: row.winner if row.first == first else SWAPPED[row.winner]
                found = [Suggestion(key, "better", turned(first), row.rater) for key, first in both]
            case Verdict():
                score = row.score if row.score is not None and 0 <= row.score <= 1 else None
                found = [Suggestion(row.record_id, row.check, "yes" if row.passed else "no", row.check, score)]
            case _:
                raise InputError(
                    f"suggestions are Suggestion values, ratings, votes or verdicts, got a {type(row).__name__}."
                )
        known = [one for one in found if one.record_id in self.records]
        if not known:
            return [], "about other records"
        known = [one for one in known if one.question in self.asked]
        if not known:
            return [], f"no question is called {found[0].question!r}"
        if isinstance(row, Rating):
            if row.value is None:
                return [], "the dimension does not apply"
            known = [one for one in known if not self.asked[one.question].why_not(one.value)]
            if not known:
                return [], "a rating between the steps of the scale, or off it"
        return known, ""

    def _rated(self, row: Rating) -> list[Suggestion]:
        value = int(row.value) if row.value is not None and row.value.is_integer() else row.value
        if row.subject in self.records:
            return [Suggestion(row.subject, row.dimension, value, row.rater)]
        suffix = lambda place: f"{row.dimension}_{place}" if row.dimension in DIMENSIONS else row.dimension
        return [Suggestion(key, suffix(place), value, row.rater) for key, place in self.sides.get(row.subject, ())]


# --- metadata and vectors ---------------------------------------------------------------------------------------------


def _metadata(
    records: Mapping[str, Record], sample: Sample | None, given: Mapping[str, Any], notes: Counter[str]
) -> dict[str, tuple[str, dict[str, Any]]]:
    """{name: (type, {record id: value})}: prompt and model of each record, why it was chosen, and what is given."""
    origins: dict[str, Any] = {
        "prompt": lambda record: record.provenance.prompt or None,
        "model": lambda record: record.provenance.model or None,
    }
    if sample is not None:
        origins["sampled"] = sample.reasons
    found = {}
    for name, source in {**origins, **given}.items():
        if not questions.NAME.fullmatch(name):
            raise InputError(f"metadata {name!r}: a name is made of small letters, digits, '_' and '-'.")
        read = _reading(name, source)
        values = {key: _plain(read(record)) for key, record in records.items()}
        odd = [key for key, value in values.items() if isinstance(value, float) and not math.isfinite(value)]
        if odd:
            notes[f"values of metadata {name!r} left out: not a finite number"] += len(odd)
        values = {key: value for key, value in values.items() if value is not None and key not in {*odd}}
        if values:
            found[name] = _typed(name, values)
        elif name in given:  # of no type yet: the server would hold on to the one that it is made with
            notes[f"records have no metadata {name!r}, which is left out"] += len(records)
    return found


def _reading(name: str, source: Any) -> Callable[[Record], Any]:
    if isinstance(source, Mapping):
        return lambda record: source.get(record.id)
    if callable(source):
        return source
    if hasattr(source, "clusters"):
        names = clusters_of(source)
        return lambda record: names.get(record.id)
    raise InputError(
        f"metadata {name!r} is {{record id: value}}, a function of a record or a map, got a {type(source).__name__}."
    )


def _plain(value: Any) -> Any:
    value = value.item() if isinstance(value, np.generic) else value
    if isinstance(value, bool):
        return "yes" if value else "no"
    return list(value) if isinstance(value, tuple | set | frozenset) else value


def _typed(name: str, values: dict[str, Any]) -> tuple[str, dict[str, Any]]:
    kinds = {type(value) for value in values.values()}
    if kinds <= {int, float} and kinds:
        return "float", {key: float(value) for key, value in values.items()}
    is_words = lambda value: isinstance(value, str) or (isinstance(value, list) and all(type(w) is str for w in value))
    if odd := next((key for key, value in values.items() if not is_words(value)), None):
        raise InputError(
            f"metadata {name!r} has {values[odd]!r:.60} for {odd}: values are all numbers, or all texts or lists of texts."
        )
    return "terms", values


def _vectors(
    records: Mapping[str, Record], given: Mapping[str, Mapping[str, Any]], notes: Counter[str]
) -> dict[str, dict[str, list[float]]]:
    """{name: {record id: numbers}}, those alone that are finite and not zero, since nothing is similar to such."""
    if len(given) > _MOST_VECTORS:
        raise InputError(f"a dataset has at most {_MOST_VECTORS} kinds of vectors, got {len(given)}.")
    found: dict[str, dict[str, list[float]]] = {}
    for name, by_id in given.items():
        if not questions.NAME.fullmatch(name):
            raise InputError(f"vectors {name!r}: a name is made of small letters, digits, '_' and '-'.")
        rows = {key: np.asarray(by_id[key], np.float64) for key in records if key in by_id}
        if not rows:
            raise InputError(
                f"vectors {name!r} know none of the records. Make them, or their map, with the records' ids."
            )
        if len(shapes := {row.shape for row in rows.values()}) > 1 or len(next(iter(shapes))) != 1:
            raise InputError(f"vectors {name!r} are of {', '.join(map(str, sorted(shapes)))} numbers. Use one model.")
        good = {key: row for key, row in rows.items() if np.isfinite(row).all() and row.any()}
        if len(good) < len(rows):
            notes[f"vectors {name!r} left out: not finite, or zero"] += len(rows) - len(good)
        if len(rows) < len(records):
            notes[f"records without a vector {name!r}"] += len(records) - len(rows)
        found[name] = {key: row.tolist() for key, row in good.items()}
    return found


def vectors_by_id(records: Sequence[Record], given: Any) -> dict[str, Mapping[str, Any]]:
    """Return {name: {record id: vector}} of what `push` takes: a map, an array with a row for each record, {id: vector}, or
    several of these by name."""
    if given is None:
        return {}
    if isinstance(given, Mapping) and not {*given} & {record.id for record in records}:
        return {name: one for name, some in given.items() for one in vectors_by_id(records, some).values()}
    if isinstance(given, Mapping):
        return {"similar": given}
    if hasattr(given, "clusters"):
        return {"similar": dict(zip(given.ids, given.vectors, strict=True))}
    rows = np.asarray(given)
    if rows.ndim != 2 or len(rows) != len(records):
        raise InputError(
            f"vectors are a map, ({len(records):,}, d) numbers, or {{record id: vector}}, got {rows.shape}."
        )
    return {"similar": {record.id: row for record, row in zip(records, rows, strict=True)}}


# --- images -----------------------------------------------------------------------------------------------------------


def _image(where: str, record: Record) -> str:
    """The data URI of an image file. Only images leave this machine, whatever path a record names."""
    if where.startswith("data:image/"):
        uri = where
    elif re.match(r"[a-z][a-z0-9+]+:", where, re.IGNORECASE):
        raise InputError(
            f"{record.id} has its image at {where[:80]}: the page would load it from there. Give the path of a file."
        )
    else:
        try:
            raw = Path(where).read_bytes()
        except (OSError, ValueError) as error:
            raise InputError(f"{record.id}: the image {where[:200]!r} cannot be read ({error}).") from None
        kind = next((kind for magic, kind in _MAGIC.items() if re.match(magic, raw)), None)
        if kind is None:
            raise InputError(f"{record.id}: {where[:200]!r} is no PNG, JPEG, GIF or WebP image.")
        uri = f"data:image/{kind};base64,{base64.b64encode(raw).decode()}"
    if len(uri) > MOST_IMAGE_CHARACTERS:
        raise InputError(
            f"{record.id}: the image {where[:80]!r} takes {len(uri):,} characters, and the server takes {MOST_IMAGE_CHARACTERS:,}, about {MOST_IMAGE_CHARACTERS * 3 // 4 / 1e6:.2f} MB. Make it smaller."
        )
    return uri
