"""Answers that are there already, put onto a server as their people: what was labelled elsewhere, in a notebook, or by a model.

    answers = review.replay.from_votes(votes, records)             # each vote as an answer to "better"
    review.replay.answer(answers, server, "rag-check")             # each as its own user; to do it again changes nothing
    review.pull(server, "rag-check")

What an annotator is asked stays what it was: an answer that the page would not take is refused here too."""

from collections.abc import Iterable
from itertools import groupby
from typing import TYPE_CHECKING, Any

from workbench.errors import InputError, ReviewError
from workbench.quality.agreement import SWAPPED
from workbench.records import ImagePair, Preference, Vote, by_id
from workbench.review import _dataset, _wire, questions
from workbench.review._rest import Rest
from workbench.review.responses import Response, Responses, now

if TYPE_CHECKING:
    from workbench.review.server import Server

_AT_ONCE = 100  # the server's own limit


def from_votes(votes: Iterable[Vote], records: Iterable[Preference | ImagePair]) -> Responses:
    """Return votes on the two texts of each record as answers to "better", in the order in which people see them.

    The inverse of `Responses.votes`. Votes on other texts are counted in the notes; where a person voted twice on two texts, the
    later vote counts."""
    places: dict[tuple[str, str], list[tuple[str, bool]]] = {}
    for key, record in by_id(records).items():
        first, second = questions.text_ids(record)
        places.setdefault((first, second), []).append((key, False))
        places.setdefault((second, first), []).append((key, True))
    found, others, at = [], 0, now()
    for vote in votes:
        on = places.get((vote.first, vote.second), ())
        others += not on
        for record_id, is_turned in on:
            winner = SWAPPED[vote.winner] if is_turned else vote.winner
            found.append(Response(record_id, "better", winner, vote.rater, "submitted", at))
    return Responses(tuple(found), (f"{others:,} votes are on texts that are not among the records",) if others else ())


def answer(responses: Responses, server: "Server", name: str) -> int:
    """Put responses onto a dataset, each as the user who gave it, and return how many records are answered, once per person.

    Users must be there and see the dataset: `push` lets its annotators in. Drafts stay drafts, and what was discarded is. What
    is there already as it was said is left alone, with its time. Raises InputError for records that the dataset does not
    have, and for answers about one record of which some are submitted and others drafts or discarded, before any is put
    there, and ReviewError for users that are not there and answers that the server refuses; what it had taken stays."""
    dataset = _dataset.found(server, name)
    asked = {each["name"]: _wire.asked_there(each) for each in dataset.items("questions")}
    there = {record["external_id"]: record for record in dataset.records()}
    if unknown := sorted({each.record_id for each in responses} - there.keys()):
        raise InputError(
            f"{len(unknown):,} records were never pushed to {name!r}, such as {unknown[0]}. Push them first."
        )
    if odd := sorted({each.question for each in responses} - asked.keys()):
        raise InputError(f"{name!r} does not ask {odd[0]!r}; it asks {', '.join(asked)}.")
    users = {user["username"]: user for user in server.get("users")["items"] if user.get("api_key")}
    if missing := [person for person in responses.annotators if person.strip() not in users]:
        raise ReviewError(
            f"{missing[0]!r} is no user of {server.url} whose answers can be put there. Name them in push(annotators=...)."
        )
    bodies: dict[str, list[dict[str, Any]]] = {}
    for (person, record_id), said in groupby(sorted(responses, key=_whose), key=_whose):
        bodies.setdefault(person, []).append(_body(there[record_id]["id"], list(said), asked))
    before = {
        (record["id"], given["user_id"]): (given["status"], given["values"] or None)
        for record in there.values()
        for given in record["responses"] or ()
    }
    for person, theirs in bodies.items():
        rest = Rest(server.url, users[person]["api_key"], headers=_headers(server))
        is_there = lambda body, user: before.get((body["record_id"], user)) == (body["status"], body["values"])
        new = [body for body in theirs if not is_there(body, users[person]["id"])]
        for start in range(0, len(new), _AT_ONCE):
            given = rest.post("me/responses/bulk", {"items": new[start : start + _AT_ONCE]})
            if refused := [each["error"]["detail"] for each in given["items"] if each.get("error")]:
                raise ReviewError(f"{len(refused):,} answers of {person} are refused, the first because: {refused[0]}")
    return sum(map(len, bodies.values()))


def _whose(said: Response) -> tuple[str, str]:
    return said.annotator.strip(), said.record_id  # as push names them


def _headers(server: "Server") -> Any:
    return getattr(getattr(server, "rest", None), "headers", {})


def _body(record_id: str, said: list[Response], asked: dict[str, _wire.Asked]) -> dict[str, Any]:
    """One person's answers about one record, as the server takes them."""
    # A question that was left open has a draft of None, whatever was said to the others.
    statuses = {each.status for each in said if each.value is not None or each.status == "discarded"} or {"draft"}
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
