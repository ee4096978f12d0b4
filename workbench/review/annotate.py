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
from workbench.errors import InputError, ReviewError
from workbench.records import ImagePair, Label, Preference, Rating, Record, Verdict, Vote, by_id, one_kind
from workbench.review import _wire, questions
from workbench.review._wire import Suggestion
from workbench.review.questions import Question
from workbench.review.responses import Response, Responses
from workbench.review.sampling import Sample

if TYPE_CHECKING:
    from workbench.review.server import Server

WORKSPACE = "workbench"
MOST_RECORDS = 500  # in one request
_MOST_BYTES = 12_000_000  # in one request, or a single record
_PAGE, _PAGE_OF_IMAGES = 500, 10  # records in one answer
_ABOUT = "workbench"  # what we keep in a dataset's own metadata


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
    given, once = list(records), by_id(records)
    kind = one_kind(given)
    asked = _asked(kind, questions)
    hidden = (sample is not None and sample.is_for_calibration) if hidden is None else hidden
    people = _people(annotators, overlap)
    if not isinstance(name, str) or not 0 < len(name.strip()) <= 200:
        raise InputError(f"a dataset's name has 1 to 200 characters, got {name!r:.80}.")
    by_name = _wire.vectors_by_id(given, vectors)
    items = _wire.items(once, asked, sample, () if hidden else suggestions, metadata or {}, by_name)
    dataset = _Dataset.made(server, name, kind, asked, items, overlap=overlap, hidden=hidden)
    _let_in(server, dataset.workspace_id, people)
    before = dataset.total()
    _send(dataset, items.bodies)
    repeats = [f"{len(given) - len(once):,} records are there twice, and are one"] if len(given) > len(once) else []
    return Pushed(
        name, f"{server.url}/dataset/{dataset.id}/annotation-mode", len(once), dataset.total() - before, people,
        overlap, hidden, (*repeats, *dataset.notes, *items.notes), server,
    )  # fmt: skip


def pull(server: "Server", name: str) -> Responses:
    """Return all that people said in a dataset, by record id, with who said it, when, and whether it was submitted.

    A record that somebody discarded has a discarded answer to every question, and a question that somebody left open or
    cleared, after he had saved once, a draft of None, so that no older answer of his stays when these are merged with what
    was pulled before. `notes` name what could not be read: records that were not pushed from here, kinds of questions that
    we do not have, people that are gone. Raises ReviewError when there is no such dataset."""
    dataset = _Dataset.found(server, name)
    asked = {each[0]: each[1:3] for each in map(_wire.question, dataset.items("questions"))}
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
    people = tuple(dict.fromkeys(annotators))
    if odd := [each for each in people if not isinstance(each, str) or not each.strip()]:
        raise InputError(f"an annotator is a name, got {odd[0]!r}.")
    if isinstance(overlap, bool) or not isinstance(overlap, int) or overlap < 1:
        raise InputError(f"overlap is how many people judge each record, 1 or more, got {overlap!r}.")
    if people and overlap > len(people):
        raise InputError(
            f"each record is to get {overlap} answers, and only {', '.join(people)} may give them. Name more, or pass overlap={len(people)}."
        )
    return people


def _let_in(server: "Server", workspace_id: str, people: Sequence[str]) -> None:
    """Make users of those who are none, and let them see the workspace."""
    if not people:
        return
    for name in people:
        server.add_user(name)
    ids = {each["username"]: each["id"] for each in server.get("users")["items"]}
    there = {each["id"] for each in server.get(f"workspaces/{workspace_id}/users")["items"]}
    for name in people:
        if ids[name] not in there:
            server.post(f"workspaces/{workspace_id}/users", {"user_id": ids[name]})


# --- a dataset of the server ------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Dataset:
    """A dataset that is there and ready."""

    server: Any
    name: str
    id: str
    workspace_id: str
    notes: tuple[str, ...] = ()

    def items(self, what: str) -> list[dict[str, Any]]:
        return self.server.get(f"datasets/{self.id}/{what}")["items"]

    def total(self) -> int:
        return self.server.get(f"datasets/{self.id}/progress")["total"]

    @classmethod
    def found(cls, server: Any, name: str) -> "_Dataset":
        """The dataset of this name, in our workspace or the only other one that has it."""
        spaces = {each["id"]: each["name"] for each in server.get("me/workspaces")["items"]}
        every = server.get("me/datasets")["items"]
        same = [each for each in every if each["name"] == name]
        ours = [each for each in same if spaces.get(each["workspace_id"]) == WORKSPACE] or same
        if not ours:
            there = ", ".join(sorted({each["name"] for each in every})) or "none"
            raise ReviewError(f"{server.url} has no dataset {name!r}; it has {there}. Push one first.")
        if len(ours) > 1:
            where = ", ".join(sorted(spaces.get(each["workspace_id"], "?") for each in ours))
            raise ReviewError(f"{name!r} is in several workspaces: {where}. Rename all but one.")
        return cls(server, name, ours[0]["id"], ours[0]["workspace_id"])

    @classmethod
    def made(
        cls, server: Any, name: str, kind: type[Record], asked: Sequence[Question], items: _wire.Items, *,
        overlap: int, hidden: bool,
    ) -> "_Dataset":  # fmt: skip
        """The dataset of this name in our workspace, made where there is none, with all that these items need.

        One that was begun and never finished is finished. Raises ReviewError when it asks something else."""
        space = _workspace(server)
        mine = server.get("me/datasets", workspace_id=space)["items"]
        about = {"kind": kind.__name__, "is_hidden": hidden}
        distribution = {"strategy": "overlap", "min_submitted": overlap}
        there = next((each for each in mine if each["name"] == name), None)
        if there is None:
            there = server.post("datasets", {
                "name": name, "workspace_id": space, "guidelines": questions.guidelines(kind, asked),
                "distribution": distribution, "metadata": {_ABOUT: about},
            })  # fmt: skip
        found = cls(server, name, there["id"], space)
        found._check(there, about)
        found._complete(there["status"] == "ready", asked, items, hidden)
        notes = []
        if (before := there["distribution"]["min_submitted"]) != overlap:
            server.patch(f"datasets/{found.id}", {"distribution": distribution})
            notes.append(f"a record was done with {before} answers, and now is with {overlap}")
        return cls(server, name, found.id, space, tuple(notes))

    def _check(self, there: Mapping[str, Any], about: Mapping[str, Any]) -> None:
        known = (there.get("metadata") or {}).get(_ABOUT, {})
        if known.get("kind", about["kind"]) != about["kind"]:
            raise ReviewError(f"{self.name!r} holds {known['kind']} records, and these are {about['kind']}. {_OTHER}")
        if known.get("is_hidden", about["is_hidden"]) != about["is_hidden"]:
            was = "kept back in" if known["is_hidden"] else "shown in"
            raise ReviewError(
                f"suggestions are {was} {self.name!r}, and must not be half the time. Pass hidden={known['is_hidden']}, or give another name."
            )

    def _complete(self, is_ready: bool, asked: Sequence[Question], items: _wire.Items, hidden: bool) -> None:
        wanted = [_wire.settings(each) for each in asked]
        self._same("questions", self.items("questions"), wanted, is_ready, _wire.question)
        first = next(iter(items.fields))
        fields = [
            {"name": each, "title": each.capitalize(), "required": each == first, "settings": {"type": kind}}
            for each, kind in items.fields.items()
        ]
        self._same(
            "fields", self.items("fields"), fields, is_ready, lambda each: (each["name"], each["settings"]["type"])
        )
        there = {each["name"]: each for each in self.server.get(f"me/datasets/{self.id}/metadata-properties")["items"]}
        for each, kind in items.metadata.items():
            if each not in there:
                body = {"name": each, "title": each, "settings": {"type": kind}, "visible_for_annotators": not hidden}
                self.server.post(f"datasets/{self.id}/metadata-properties", body)
            elif (was := there[each]["settings"]["type"]) != kind:
                raise ReviewError(
                    f"metadata {each!r} of {self.name!r} is {was}, and this is {kind}. Give another name."
                )
        sizes = {each["name"]: each["dimensions"] for each in self.items("vectors-settings")}
        for each, size in items.vectors.items():
            if each not in sizes:
                body = {"name": each, "title": each, "dimensions": size}
                self.server.post(f"datasets/{self.id}/vectors-settings", body)
            elif sizes[each] != size:
                raise ReviewError(f"vectors {each!r} of {self.name!r} have {sizes[each]} numbers, and these {size}.")
        if not is_ready:
            self.server.put(f"datasets/{self.id}/publish")

    def _same(
        self, what: str, there: list[dict[str, Any]], wanted: list[dict[str, Any]], is_ready: bool, key: Any
    ) -> None:
        """Make what is missing, while it can be made; raise ReviewError for what is different."""
        known, mine = {key(each) for each in there}, {key(each): each for each in wanted}
        if known - mine.keys() or (is_ready and mine.keys() - known):
            names = lambda keys: ", ".join(sorted(each[0] for each in keys)) or "nothing"
            differ = names(known ^ mine.keys())
            raise ReviewError(
                f"{self.name!r} is there with other {what}: it has {names(known)}, and this push {names(mine)} (different: {differ}). {_OTHER}"
            )
        for each in wanted:
            if key(each) not in known:
                self.server.post(f"datasets/{self.id}/{what}", each)

    def records(self) -> Iterator[dict[str, Any]]:
        """All records with their responses, each once.

        Pages are cut by offset in a list that may grow meanwhile, and whose order leaves equal times open."""
        has_images = any(each["settings"]["type"] == "image" for each in self.items("fields"))
        limit, seen = _PAGE_OF_IMAGES if has_images else _PAGE, set()
        for _ in range(_ROUNDS):
            offset, total = 0, 1
            while offset < total:
                page = self.server.get(f"datasets/{self.id}/records", include="responses", offset=offset, limit=limit)
                offset, total = offset + limit, page["total"]
                for record in page["items"]:
                    if record["id"] not in seen:
                        seen.add(record["id"])
                        yield record
            if len(seen) >= total:
                return
        raise ReviewError(f"{self.name!r} has {total:,} records, and {len(seen):,} could be read. Pull again.")


_OTHER = "Give another name, or ask the same."
_ROUNDS = 3


def _workspace(server: Any) -> str:
    mine = server.get("me/workspaces")["items"]
    found = next((each["id"] for each in mine if each["name"] == WORKSPACE), None)
    return found or server.post("workspaces", {"name": WORKSPACE})["id"]


# --- there and back ---------------------------------------------------------------------------------------------------


def _send(dataset: _Dataset, bodies: Sequence[dict[str, Any]]) -> None:
    from tqdm.auto import tqdm

    ids = {each["name"]: each["id"] for each in dataset.items("questions")}
    sent = 0
    with tqdm(total=len(bodies), desc=f"push {dataset.name}", unit=" records", leave=False) as bar:
        for part in _parts(bodies):
            items = [
                each
                | {"suggestions": [{"question_id": ids[name], **body} for name, body in each["suggestions"].items()]}
                for each in part
            ]
            try:
                dataset.server.put(f"datasets/{dataset.id}/records/bulk", {"items": items})
            except ReviewError as error:
                at = re.search(r"Record at position (\d+)", str(error))
                which = f" (the record is {part[int(at[1])]['external_id']})" if at and int(at[1]) < len(part) else ""
                raise ReviewError(
                    f"{sent:,} of {len(bodies):,} records are there; push again to send the rest: {error}{which}"
                ) from error
            sent += len(part)
            bar.update(len(part))


def _parts(bodies: Iterable[dict[str, Any]]) -> Iterator[list[dict[str, Any]]]:
    """Bodies in parts that the server takes at once: images are large."""
    part: list[dict[str, Any]] = []
    size = 0
    for body in bodies:
        length = len(orjson.dumps(body))
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
    response: Mapping[str, Any], key: str, annotator: str, asked: Mapping[str, tuple[str, tuple[str, ...]]],
    notes: Counter[str],
) -> Iterator[Response]:  # fmt: skip
    """One person's answers about one record."""
    at, status = _utc(response["updated_at"]), response["status"]
    values = response["values"] or {}
    for name in values.keys() - asked.keys():
        notes[f"answers to {name!r}, which is no question of the dataset any more"] += 1
    for name, (kind, options) in asked.items():
        if not kind:
            notes[f"answers to {name!r}, which is of a kind that we do not have"] += name in values
            continue
        value = _wire.from_wire(kind, options, values[name]["value"]) if name in values else None
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
