"""Answers that are there already, put onto a server as their people: what was labelled elsewhere, in a notebook, or by a model.

    answers = review.replay.from_votes(votes, records)             # each vote as an answer to "better"
    review.replay.answer(answers, server, "rag-check")             # each as its own user; to do it again changes nothing
    review.pull(server, "rag-check")

What an annotator is asked stays what it was: an answer that the page would not take is refused here too."""

from collections.abc import Iterable
from itertools import groupby
from typing import TYPE_CHECKING, Any

from workbench.errors import InputError, ReviewError
from workbench.records import ImagePair, Preference, Vote
from workbench.review import _dataset, _wire, questions
from workbench.review._rest import Rest
from workbench.review.responses import Response, Responses, now

if TYPE_CHECKING:
    from workbench.review.server import Server

_AT_ONCE = 100  # the server's own limit
_OTHER = {"first": "second", "second": "first", "tie": "tie"}


def from_votes(votes: Iterable[Vote], records: Iterable[Preference | ImagePair]) -> Responses:
    """Return votes on the two texts of each record as answers to "better", in the order in which people see them.

    The inverse of `Responses.votes`. Votes on other texts are counted in the notes; where a person voted twice on two texts, the
    later vote counts."""
    places = {}
    for record in records:
        first, second = questions.text_ids(record)
        places[first, second], places[second, first] = (record.id, False), (record.id, True)
    found, others, at = [], 0, now()
    for vote in votes:
        if (place := places.get((vote.first, vote.second))) is None:
            others += 1
            continue
        record_id, is_turned = place
        winner = _OTHER[vote.winner] if is_turned else vote.winner
        found.append(Response(record_id, "better", winner, vote.rater, "submitted", at))
    return Responses(tuple(found), (f"{others:,} votes are on texts that are not among the records",) if others else ())


def answer(responses: Responses, server: "Server", name: str) -> int:
    """Put responses onto a dataset, each as the user who gave it, and return how many records were answered, once per person.

    Users must be there and see the dataset: `push` lets its annotators in. Drafts stay drafts, and what was discarded is.
    Raises InputError for records that the dataset does not have, and ReviewError for users that are not there and answers that
    the server refuses; what it had taken stays."""
    dataset = _dataset.found(server, name)
    asked = {each["name"]: _wire.asked_there(each) for each in dataset.items("questions")}
    ids = {record["external_id"]: record["id"] for record in dataset.records()}
    if unknown := sorted({each.record_id for each in responses} - ids.keys()):
        raise InputError(
            f"{len(unknown):,} records were never pushed to {name!r}, such as {unknown[0]}. Push them first."
        )
    if odd := sorted({each.question for each in responses} - asked.keys()):
        raise InputError(f"{name!r} does not ask {odd[0]!r}; it asks {', '.join(asked)}.")
    keys = {user["username"]: user.get("api_key") for user in server.get("users")["items"]}
    if missing := [person for person in responses.annotators if not keys.get(person)]:
        raise ReviewError(
            f"{missing[0]!r} is no user of {server.url} whose answers can be put there. Name them in push(annotators=...)."
        )
    count = 0
    by_person = sorted(responses, key=lambda each: (each.annotator, each.record_id))
    for person, theirs in groupby(by_person, key=lambda each: each.annotator):
        rest = Rest(server.url, keys[person], headers=_headers(server))
        bodies = [
            _body(ids[record_id], list(said), asked)
            for record_id, said in groupby(theirs, key=lambda each: each.record_id)
        ]
        for start in range(0, len(bodies), _AT_ONCE):
            given = rest.post("me/responses/bulk", {"items": bodies[start : start + _AT_ONCE]})
            if refused := [each["error"]["detail"] for each in given["items"] if each.get("error")]:
                raise ReviewError(f"{len(refused):,} answers of {person} are refused, the first because: {refused[0]}")
            count += len(given["items"])
    return count


def _headers(server: "Server") -> Any:
    return getattr(getattr(server, "rest", None), "headers", {})


def _body(record_id: str, said: list[Response], asked: dict[str, _wire.Asked]) -> dict[str, Any]:
    """One person's answers about one record, as the server takes them."""
    statuses = {each.status for each in said}
    if len(statuses) > 1:
        raise InputError(
            f"{said[0].annotator}'s answers about {said[0].record_id} are {' and '.join(sorted(statuses))}: one record has one status."
        )
    values = {
        each.question: {"value": _wire.to_wire(asked[each.question].kind, each.value)}
        for each in said
        if each.value is not None
    }
    return {"record_id": record_id, "status": statuses.pop(), "values": values or None}
