"""What is changed in argilla-server 2.8.0 as it runs. Each says why; none changes what a well-formed request gets."""

import functools
import json
import math
import re
from pathlib import Path
from typing import Any

_FONTS = re.compile(r"@import url\(https?://fonts\.googleapis\.com[^)]*\);?")


def apply() -> None:
    """Apply all of them. To be called once, after argilla_server is imported."""
    _build_adapters_once()
    _build_events_for_listeners_only()
    _refuse_what_cannot_be_sent_back()
    _serve_no_foreign_fonts()


def _build_adapters_once() -> None:
    """A pydantic adapter was built for each suggestion and each metadata value: half the time of a bulk."""
    from argilla_server.models import database

    database.TypeAdapter = functools.lru_cache(None)(database.TypeAdapter)


class _UnheardEvent:
    async def notify(self, db: Any) -> list[Any]:
        return []


def _build_events_for_listeners_only() -> None:
    """The event of each record was built, with five queries, before it was asked whether any webhook is there."""
    from argilla_server.contexts.webhooks import list_enabled_webhooks
    from argilla_server.webhooks.v1 import records, responses

    def if_heard(build: Any) -> Any:
        async def built(db: Any, *event: Any) -> Any:
            if "is_heard" not in db.info:  # a session lives as long as its request
                db.info["is_heard"] = bool(await list_enabled_webhooks(db))
            return await build(db, *event) if db.info["is_heard"] else _UnheardEvent()

        return built

    records.build_record_event = if_heard(records.build_record_event)
    responses.build_response_event = if_heard(responses.build_response_event)


def _refuse_what_cannot_be_sent_back() -> None:
    """Half a surrogate pair in metadata, or NaN in a vector, was stored, and from then on every page with that record failed."""
    from starlette.requests import Request

    async def read(self: Request) -> Any:
        if not hasattr(self, "_json"):
            self._json = _strictly(await self.body())
        return self._json

    Request.json = read


def _strictly(body: bytes) -> Any:
    found = json.loads(body, parse_constant=lambda name: _refuse(f"{name} is no number in JSON"), parse_float=_finite)
    if b"\\ud" in body.lower():
        try:
            json.dumps(found, ensure_ascii=False).encode()
        except UnicodeEncodeError as error:
            _refuse(f"{error.object[error.start : error.end]!a} is half a surrogate pair, and no text")
    return found


def _finite(digits: str) -> float:
    number = float(digits)
    return number if math.isfinite(number) else _refuse(f"{digits} is too large for a number")


def _refuse(why: str) -> Any:
    from fastapi import HTTPException

    raise HTTPException(422, why)


def _serve_no_foreign_fonts() -> None:
    """The page asked fonts.googleapis.com for two of its fonts. Its files are this process's copy, so they may be changed."""
    from argilla_server import app

    folder = next(route.app.directory for route in app.routes if getattr(route, "name", "") == "static")
    for path in Path(folder).rglob("*.css"):
        style = path.read_text(encoding="utf-8")
        if "fonts.googleapis.com" in style:
            path.write_text(_FONTS.sub("", style), encoding="utf-8")
