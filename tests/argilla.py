"""Datasets on a running Argilla, made over its REST API with nothing of ours between.

data = argilla.Data(server, "birds", metadata={"n": "integer"}, vectors={"v": 3})
data.push([{"external_id": "a", "fields": {"text": "a wren"}, "metadata": {"n": 1}, "vectors": {"v": [1, 0, 0]}}])
data.search("wren"), data.search(filters=[data.terms("metadata", "n", 1)])      # external ids, in order"""

from collections.abc import Mapping, Sequence
from typing import Any

from workbench.review.server import Server

LABELS = ("yes", "no", "maybe")


class Data:
    """One published dataset: two text fields, a label, a rating, and what else is asked for."""

    def __init__(
        self,
        server: Server,
        name: str,
        *,
        metadata: Mapping[str, str] = {},
        vectors: Mapping[str, int] = {},
        submitted: int = 1,
    ):
        self.server = server
        there = {each["name"]: each["id"] for each in server.get("me/workspaces")["items"]}
        self.workspace = there.get("tests") or server.post("workspaces", {"name": "tests"})["id"]
        distribution = {"strategy": "overlap", "min_submitted": submitted}
        made = server.post("datasets", {"name": name, "workspace_id": self.workspace, "distribution": distribution})
        self.id = made["id"]
        for field in ("text", "other"):
            body = {"name": field, "title": field, "required": field == "text", "settings": {"type": "text"}}
            server.post(f"datasets/{self.id}/fields", body)
        options = [{"value": value, "text": value} for value in LABELS]
        ratings = [{"value": value} for value in range(1, 6)]
        self.questions = {}
        for question, kind in (
            ("label", {"type": "label_selection", "options": options}),
            ("rating", {"type": "rating", "options": ratings}),
        ):
            body = {"name": question, "title": question, "required": question == "label", "settings": kind}
            self.questions[question] = server.post(f"datasets/{self.id}/questions", body)["id"]
        for property, kind in metadata.items():
            body = {"name": property, "title": property, "settings": {"type": kind}, "visible_for_annotators": True}
            server.post(f"datasets/{self.id}/metadata-properties", body)
        for vector, size in vectors.items():
            server.post(f"datasets/{self.id}/vectors-settings", {"name": vector, "title": vector, "dimensions": size})
        server.put(f"datasets/{self.id}/publish")

    def push(self, items: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
        """Insert or change records by their external id; return them as the server has them."""
        return self.server.put(f"datasets/{self.id}/records/bulk", {"items": list(items)})["items"]

    def member(self, name: str) -> Server:
        """The server as another user sees it, who belongs to the workspace."""
        from dataclasses import replace

        from workbench.review._rest import Rest

        self.server.add_user(name)
        user = {each["username"]: each for each in self.server.get("users")["items"]}[name]
        members = [each["id"] for each in self.server.get(f"workspaces/{self.workspace}/users")["items"]]
        if user["id"] not in members:
            self.server.post(f"workspaces/{self.workspace}/users", {"user_id": user["id"]})
        return replace(self.server, rest=Rest(self.server.url, user["api_key"]), owner=name)

    def found(self, query: Any = None, *, user: Server | None = None, limit: int = 1000, **more: Any) -> dict[str, Any]:
        """What a search answers: {"items": [{"record", "query_score"}], "total"}. With a user it is that user's own search."""
        body = {
            **({"query": query if isinstance(query, dict) else {"text": {"q": query}}} if query is not None else {})
        }
        if filters := more.pop("filters", None):
            body["filters"] = {"type": "and", "and": filters}
        if sort := more.pop("sort", None):
            body["sort"] = sort
        offset = more.pop("offset", 0)
        assert not more, more
        path = f"datasets/{self.id}/records/search?limit={limit}&offset={offset}"
        return (user or self.server).post(f"me/{path}" if user else path, body)

    def search(self, query: Any = None, **more: Any) -> list[str]:
        """The external ids of what a search finds, in its order."""
        return [item["record"]["external_id"] for item in self.found(query, **more)["items"]]


def scope(entity: str, name: str = "", property: str | None = None) -> dict[str, Any]:
    """A scope as the API writes it: ("metadata", name), ("record", property), ("response" or "suggestion", question)."""
    match entity:
        case "metadata":
            return {"entity": "metadata", "metadata_property": name}
        case "record":
            return {"entity": "record", "property": name}
    found = {"entity": entity, **({"question": name} if name else {})}
    return {**found, "property": property} if property else found


def terms(of: dict[str, Any], *values: Any) -> dict[str, Any]:
    return {"type": "terms", "scope": of, "values": list(values)}


def between(of: dict[str, Any], low: Any = None, high: Any = None) -> dict[str, Any]:
    ends = {name: value for name, value in (("ge", low), ("le", high)) if value is not None}
    return {"type": "range", "scope": of, **ends}


def by(of: dict[str, Any], order: str = "asc") -> dict[str, Any]:
    return {"scope": of, "order": order}
