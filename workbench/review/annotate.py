"""Records to an Argilla server, to be judged by people, and their answers back, by record id.

    pushed = review.push(sample, server, name="rag-check", annotators=["ana", "ben"], suggestions=ratings)
    pushed.link("ana")                                      # holds ana's password: for her alone
    answers = review.pull(server, "rag-check")

Everything goes over plain HTTP. Of the Python SDK's export it is known that it breaks on records with no image."""

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import orjson

from workbench import _html
from workbench._background import progress_bar
from workbench.errors import InputError, ReviewError
from workbench.records import ImagePair, Label, Preference, Rating, Record, Verdict, Vote, by_id, one_kind
from workbench.review import _dataset, _wire, questions
from workbench.review._wire import Suggestion
from workbench.review.questions import Question
from workbench.review.responses import Response, Responses
from workbench.review.sampling import Sample

if TYPE_CHECKING:
    from workbench.review.server import Server

MOST_RECORDS = 500  # in one request
_MOST_BYTES = 12_000_000  # in one request, or a single record


@dataclass(frozen=True, repr=False)
class Pushed:
    """What a push did; prints itself. `records` are there now that were sent, `new` of them for the first time."""

    name: str
    url: str
    records: int
    new: int
    annotators: tuple[str, ...]
    overlap: int
    is_hidden: bool
    notes: tuple[str, ...] = ()
    server: Any = field(default=None, compare=False)

    def link(self, annotator: str) -> str:
        """Return the link that logs one annotator in. It holds the password: show it to nobody else."""
        if annotator not in self.annotators:
            raise InputError(f"{annotator!r} was not named; {', '.join(self.annotators) or 'nobody'} was.")
        return self.server.login_link(annotator)

    def _said(self) -> str:
        people = ", ".join(self.annotators) or "whoever may see the workspace"
        hidden = "; suggestions and metadata are kept back" if self.is_hidden else ""
        return f"{self.records:,} records ({self.new:,} new) for {people}, {self.overlap} answers each{hidden}"

    def __repr__(self) -> str:
        return "\n".join([f"{self.name}: {self._said()}", *(f"  {note}" for note in self.notes), f"  {self.url}"])

    def _repr_html_(self) -> str:
        notes = "".join(f"<div>{_html.escaped(note)}</div>" for note in self.notes)
        url = _html.escaped(self.url, 2_000)
        link = f"<div><a href='{url}' target='_blank' rel='noopener'>{url}</a></div>"
        return _html.card(self.name, self._said(), notes + link)


def push(
    records: Sequence[Record] | Sample,
    server: "Server",
    *,
    name: str,
    questions: Sequence[Question] | None = None,
    annotators: Sequence[str] = (),
    overlap: int = 2,
    suggestions: Iterable[Suggestion | Rating | Vote | Verdict] = (),
    hidden: bool | None = None,
    metadata: Mapping[str, Any] | None = None,
    vectors: Any = None,
) -> Pushed:
    """Send records of one kind to be judged, and return what was sent; to push again changes nothing that is the same.

    `name` is the dataset's, made on first use with the questions (by default those of the kind) and guidelines; more
    records may be pushed to it later. `annotators` become users where they are none. A record is done when `overlap` of them
    have submitted it. A record's id is that of its content: what was changed comes as a new record, beside the old one.

    `suggestions` fill the form in: a Rating for the question of its dimension, a Verdict ("yes" or "no") for that of its
    check, a Vote for "better". People lean towards what they are shown. So with `hidden`, the default for a
    sample `for_calibration()`, none is sent, and annotators see no metadata either; a dataset is one or the other.

    `metadata` ({name: {record id: value}, a function of a record, or a map}) is what the page filters and sorts by, with
    prompt, model and plan of sampling. `vectors` (a map, an array with a row for each record, or {id: vector}) are for
    finding similar ones. Texts are shown as they are, never as Markdown or HTML.

    Raises InputError for what cannot be asked or sent, before anything is sent, and ReviewError when the server refuses,
    has a dataset of this name with other questions, or goes away: what it had taken stays, and to push again sends the rest."""
    sample = records if isinstance(records, Sample) else None
    given = list(records)
    once, kind = by_id(given), one_kind(given)
    asked = _asked(kind, questions)
    hidden = (sample is not None and sample.is_for_calibration) if hidden is None else hidden
    people = _people(annotators, overlap)
    if not isinstance(name, str) or not 0 < len(name.strip()) <= 200:
        raise InputError(f"a dataset's name has 1 to 200 characters, got {name!r:.80}.")
    by_name = _wire.vectors_by_id(given, vectors)
    items = _wire.items(once, asked, sample, () if hidden else suggestions, metadata or {}, by_name)
    parts = list(_parts(items.bodies))
    dataset = _dataset.made(server, name, kind, asked, items, overlap=overlap, is_hidden=hidden)
    _let_in(server, dataset.workspace_id, people)
    before = dataset.total()
    _send(dataset, parts)
    repeats = [f"{len(given) - len(once):,} records are there twice, and are one"] if len(given) > len(once) else []
    return Pushed(
        name, f"{server.url}/dataset/{dataset.id}/annotation-mode", len(once), dataset.total() - before, people,
        overlap, hidden, (*repeats, *dataset.notes, *items.notes), server,
    )  # fmt: skip


def pull(server: "Server", name: str) -> Responses:
    """Return all that people said in a dataset, by record id, with who said it, when, and whether it was submitted.

    A record that somebody discarded has a discarded answer to every question. A question that was left open, or cleared,
    in an answer that was changed since it was first saved has a draft of None: merged with what was pulled before, it
    takes the place of the older answer. `notes` count what could not be read: records that were not pushed from here,
    kinds of questions that we do not have, people without a name. Raises ReviewError when there is no such dataset."""
    dataset = _dataset.found(server, name)
    asked = {each.name: each for each in map(_wire.asked_there, dataset.items("questions"))}
    names, notes = _Names(server), Counter()
    said = []
    for record in dataset.records():
        if (key := record.get("external_id")) is None:
            notes["records have no id of ours: they were not pushed from here"] += bool(record["responses"])
            continue
        for response in record["responses"] or ():
            said += _read(response, key, names(response["user_id"]), asked, notes)
    for unknown in names.unknown:
        notes[f"user is not known by name, and is called {unknown}"] += 1
    return Responses(tuple(said), tuple(f"{count:,} {what}" for what, count in notes.items() if count))


def claimed(records: Iterable[Record]) -> list[Suggestion]:
    """Return what records say of themselves as suggestions: which text of a preference is better, which label a text has."""
    found = []
    for record in records:
        agent = record.provenance.model
        if isinstance(record, Preference | ImagePair):
            better = "second" if questions.is_turned(record) else "first"
            found.append(Suggestion(record.id, "better", better, agent))
        elif isinstance(record, Label):
            found.append(Suggestion(record.id, "label", record.label, agent))
    return found


# --- what is asked, and whom ------------------------------------------------------------------------------------------


def _asked(kind: type[Record], given: Sequence[Question] | None) -> tuple[Question, ...]:
    asked = tuple(questions.of(kind) if given is None else given)
    names = [each.name for each in asked]
    if len(set(names)) < len(names) or not any(each.is_required for each in asked):
        raise InputError(
            f"questions need names of their own, and one of them must be required; got {', '.join(names) or 'none'}."
        )
    return asked


def _people(annotators: Sequence[str], overlap: int) -> tuple[str, ...]:
    if isinstance(annotators, str):
        raise InputError(f"annotators is a list of names, such as [{annotators!r}].")
    given = list(annotators)
    if odd := [each for each in given if not isinstance(each, str) or not each.strip()]:
        raise InputError(f"an annotator is a name, got {odd[0]!r}.")
    people = tuple(dict.fromkeys(each.strip() for each in given))  # as in the notebook, or one would be two people
    if isinstance(overlap, bool) or not isinstance(overlap, int) or overlap < 1:
        raise InputError(f"overlap is how many people judge each record, 1 or more, got {overlap!r}.")
    if people and overlap > len(people):
        raise InputError(
            f"each record is to get {overlap} answers, and only {', '.join(people)} may give them. Name more, or pass overlap={len(people)}."
        )
    return people


def _let_in(server: "Server", workspace_id: str, people: Sequence[str]) -> None:
    """Make users of those who are none, and let them see the workspace. Others keep their role and password."""
    if not people:
        return
    users = lambda path: {each["username"]: each["id"] for each in server.get(path)["items"]}
    there = users("users")
    for name in people:
        if name not in there:
            server.add_user(name)
    ids, inside = users("users"), users(f"workspaces/{workspace_id}/users")
    for name in people:
        if name not in inside:
            server.post(f"workspaces/{workspace_id}/users", {"user_id": ids[name]})


# --- there and back ---------------------------------------------------------------------------------------------------


def _send(dataset: _dataset.Dataset, parts: Sequence[list[dict[str, Any]]]) -> None:
    ids = {each["name"]: each["id"] for each in dataset.items("questions")}
    sent, total = 0, sum(map(len, parts))
    with progress_bar(f"push {dataset.name}", total, "records") as bar:
        for part in parts:
            items = [
                each
                | {"suggestions": [{"question_id": ids[name], **body} for name, body in each["suggestions"].items()]}
                for each in part
            ]
            try:
                dataset.server.put(f"datasets/{dataset.id}/records/bulk", {"items": items})
            except ReviewError as error:
                at = re.search(r"Record at position (\d+)", str(error))
                what = f"{part[int(at[1])]['external_id']} is refused" if at else "push again to send the rest"
                raise ReviewError(f"{sent:,} of {total:,} records are there; {what}: {error}") from error
            sent += len(part)
            if bar is not None:
                bar.update(len(part))


def _parts(bodies: Iterable[dict[str, Any]]) -> Iterator[list[dict[str, Any]]]:
    """Bodies in parts that the server takes at once: images are large. Raises InputError for what is no JSON."""
    part: list[dict[str, Any]] = []
    size = 0
    for body in bodies:
        try:
            length = len(orjson.dumps(body))
        except TypeError as error:
            raise InputError(f"{body['external_id']} cannot be sent: {error}. Look at its metadata.") from None
        if part and (len(part) == MOST_RECORDS or size + length > _MOST_BYTES):
            yield part
            part, size = [], 0
        part.append(body)
        size += length
    if part:
        yield part


class _Names:
    """Users by name; one that is not known is called by the id."""

    def __init__(self, server: Any):
        self._known = {each["id"]: each["username"] for each in server.get("users")["items"]}
        self.unknown: list[str] = []

    def __call__(self, user_id: str) -> str:
        if user_id not in self._known:
            self._known[user_id] = f"user {user_id}"
            self.unknown.append(self._known[user_id])
        return self._known[user_id]


def _read(
    response: Mapping[str, Any], key: str, annotator: str, asked: Mapping[str, _wire.Asked], notes: Counter[str]
) -> Iterator[Response]:
    """One person's answers about one record."""
    at, status = _utc(response["updated_at"]), response["status"]
    values = response["values"] or {}
    for name in values.keys() - asked.keys():
        notes[f"answers to {name!r}, which is no question of the dataset any more"] += 1
    for name, question in asked.items():
        if not question.kind:
            notes[f"answers to {name!r}, which is of a kind that we do not have"] += name in values
            continue
        value = _wire.from_wire(question, values[name]["value"]) if name in values else None
        if status == "discarded":
            yield Response(key, name, None, annotator, "discarded", at, "argilla")
        elif value is not None:
            yield Response(key, name, value, annotator, status, at, "argilla")
        elif response["updated_at"] != response["inserted_at"]:
            yield Response(key, name, None, annotator, "draft", at, "argilla")


def _utc(at: str) -> str:
    """Argilla writes UTC and does not say so."""
    time = datetime.fromisoformat(at)
    return (time if time.tzinfo else time.replace(tzinfo=UTC)).isoformat()
