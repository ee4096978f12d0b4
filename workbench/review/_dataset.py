"""A dataset of an Argilla server: found by name, or made with all that its records need."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from workbench.errors import ReviewError
from workbench.records import Record
from workbench.review import _wire, questions
from workbench.review.questions import Question

WORKSPACE = "workbench"
_ABOUT = "workbench"  # the key of what we keep in a dataset's own metadata
_MOST_GUIDELINES = 10_000  # characters
_PAGE, _PAGE_OF_IMAGES = 500, 10  # records in one answer
_ROUNDS = 3
_OTHER = "Give another name, or ask the same."


@dataclass(frozen=True)
class Dataset:
    """A dataset that is there and open for records."""

    server: Any
    name: str
    id: str
    workspace_id: str
    notes: tuple[str, ...] = ()

    def items(self, what: str) -> list[dict[str, Any]]:
        """Return its "questions", "fields" or "vectors-settings" as the server has them."""
        return self.server.get(f"datasets/{self.id}/{what}")["items"]

    def total(self) -> int:
        """Return how many records it has."""
        return self.server.get(f"datasets/{self.id}/progress")["total"]

    def records(self) -> Iterator[dict[str, Any]]:
        """Yield all records with their responses, each once. Raises ReviewError when some could not be read.

        Pages are cut by offset from a list that may grow meanwhile, and whose order leaves equal times open."""
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


def found(server: Any, name: str) -> Dataset:
    """Return the dataset of this name, in our workspace or in the only one that has it. Raises ReviewError for none."""
    spaces = {each["id"]: each["name"] for each in server.get("me/workspaces")["items"]}
    every = server.get("me/datasets")["items"]
    same = [each for each in every if each["name"] == name]
    same = [each for each in same if spaces.get(each["workspace_id"]) == WORKSPACE] or same
    if not same:
        there = ", ".join(sorted({each["name"] for each in every})) or "none"
        raise ReviewError(f"{server.url} has no dataset {name!r}; it has {there}. Push one first.")
    if len(same) > 1:
        where = ", ".join(sorted(spaces.get(each["workspace_id"], "?") for each in same))
        raise ReviewError(f"{name!r} is in several workspaces: {where}. Rename all but one.")
    return Dataset(server, name, same[0]["id"], same[0]["workspace_id"])


def made(
    server: Any, name: str, kind: type[Record], asked: Sequence[Question], items: _wire.Items, *, overlap: int, is_hidden: bool
) -> Dataset:  # fmt: skip
    """Return the dataset of this name in our workspace, made where there is none, with all that these items need.

    One whose making was cut off is made again. Raises ReviewError for one that asks or shows something else."""
    space = _workspace(server)
    about = {"kind": kind.__name__, "is_hidden": is_hidden}
    distribution = {"strategy": "overlap", "min_submitted": overlap}
    mine = server.get("me/datasets", workspace_id=space)["items"]
    there = next((each for each in mine if each["name"] == name), None)
    if there is not None and there["status"] != "ready" and _ABOUT in (there["metadata"] or {}):
        server.delete(f"datasets/{there['id']}")
        there = None
    wanted = [_wire.settings(each) for each in asked]
    fields = [
        {"name": each, "title": each.capitalize(), "required": at == 0, "settings": {"type": type_}}
        for at, (each, type_) in enumerate(items.fields.items())
    ]
    notes = []
    if there is None:
        guidelines = questions.guidelines(kind, asked)[:_MOST_GUIDELINES]
        there = server.post("datasets", {
            "name": name, "workspace_id": space, "guidelines": guidelines, "distribution": distribution, "metadata": {_ABOUT: about},
        })  # fmt: skip
        for what, bodies in (("fields", fields), ("questions", wanted)):
            for body in bodies:
                server.post(f"datasets/{there['id']}/{what}", body)
        server.put(f"datasets/{there['id']}/publish")
        dataset = Dataset(server, name, there["id"], space)
    else:
        dataset = Dataset(server, name, there["id"], space)
        _check(dataset, there, about)
        _refuse_other(dataset, "questions", wanted, _wire.asked_there)
        _refuse_other(dataset, "fields", fields, lambda each: (each["name"], each["settings"]["type"]))
        if (before := there["distribution"]["min_submitted"]) != overlap:
            server.patch(f"datasets/{dataset.id}", {"distribution": distribution})
            notes.append(f"a record was done with {before} answers, and now is with {overlap}")
    _add(dataset, items, is_hidden)
    return Dataset(server, name, dataset.id, space, tuple(notes))


def _workspace(server: Any) -> str:
    mine = server.get("me/workspaces")["items"]
    same = next((each["id"] for each in mine if each["name"] == WORKSPACE), None)
    return same or server.post("workspaces", {"name": WORKSPACE})["id"]


def _check(dataset: Dataset, there: Mapping[str, Any], about: Mapping[str, Any]) -> None:
    if there["status"] != "ready":
        raise ReviewError(f"{dataset.name!r} is being set up by somebody else. {_OTHER}")
    known = (there["metadata"] or {}).get(_ABOUT, about)
    if known["kind"] != about["kind"]:
        raise ReviewError(f"{dataset.name!r} holds {known['kind']} records, and these are {about['kind']}. {_OTHER}")
    if known["is_hidden"] != about["is_hidden"]:
        was = "kept back from" if known["is_hidden"] else "shown to"
        raise ReviewError(
            f"suggestions and metadata of {dataset.name!r} are {was} people, and must not be for some records alone. Pass hidden={known['is_hidden']}, or give another name."
        )


def _refuse_other(
    dataset: Dataset, what: str, wanted: Sequence[Mapping[str, Any]], key: Callable[[Any], tuple]
) -> None:
    there, mine = ({key(each) for each in some} for some in (dataset.items(what), wanted))
    if there != mine:
        names = lambda keys: ", ".join(sorted({each[0] for each in keys})) or "none"
        raise ReviewError(
            f"{dataset.name!r} is there with other {what}. It has {names(there)}, and this push {names(mine)}; not the same: {names(there ^ mine)}. {_OTHER}"
        )


def _add(dataset: Dataset, items: _wire.Items, is_hidden: bool) -> None:
    """Make the kinds of metadata and vectors that are not there yet, which may be done at any time."""
    path = f"datasets/{dataset.id}"
    types = {
        each["name"]: each["settings"]["type"] for each in dataset.server.get(f"me/{path}/metadata-properties")["items"]
    }
    for name, type_ in items.metadata.items():
        if types.get(name, type_) != type_:
            raise ReviewError(
                f"metadata {name!r} of {dataset.name!r} is {types[name]}, and this is {type_}. Give it another name."
            )
        if name not in types:
            body = {"name": name, "title": name, "settings": {"type": type_}, "visible_for_annotators": not is_hidden}
            dataset.server.post(f"{path}/metadata-properties", body)
    sizes = {each["name"]: each["dimensions"] for each in dataset.items("vectors-settings")}
    for name, size in items.vectors.items():
        if sizes.get(name, size) != size:
            raise ReviewError(
                f"vectors {name!r} of {dataset.name!r} have {sizes[name]} numbers, and these {size}. Give them another name."
            )
        if name not in sizes:
            dataset.server.post(f"{path}/vectors-settings", {"name": name, "title": name, "dimensions": size})
