"""Plain HTTP to an Argilla server: JSON in, JSON out, and errors that say what the server said."""

import http.client
import json
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import orjson

from workbench.errors import ReviewError

_ON_THIS_MACHINE = ("127.0.0.1", "localhost", "::1")
_INSIDE = ("detail", "params", "message", "errors")  # where Argilla's answers have what went wrong, one in the other


@dataclass(frozen=True)
class Rest:
    """A server by its address and an API key, which no repr shows.

        rest = Rest("http://127.0.0.1:6900", "...")
        rest.get("me/datasets"), rest.post("workspaces", {"name": "team"})

    Paths are below /api/v1. `headers` go with every request: a private Hugging Face Space asks for an Authorization of
    its own. Raises ReviewError for an address that is none, and every call does when the server cannot be reached,
    refuses, or is no Argilla."""

    url: str
    api_key: str = field(repr=False)
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    timeout_seconds: float = 120.0

    def __post_init__(self):
        object.__setattr__(self, "url", str(self.url).rstrip("/"))
        try:
            parts = urllib.parse.urlsplit(self.url)
            is_address = (
                parts.scheme in ("http", "https") and parts.hostname and parts.port != 0 and "@" not in parts.netloc
            )
        except ValueError:
            is_address = False
        if not is_address:
            # It is not shown: it may be the key, in the wrong place, or have a password in it.
            raise ReviewError(
                "the url is no address of a server. Give one such as http://127.0.0.1:6900, with no user or password in it; the key comes after it."
            )
        if not self.api_key or not all("!" <= letter <= "~" for letter in self.api_key):
            raise ReviewError(
                "an API key is a line of letters and signs, without blanks, and this is none. Copy it from the page “My settings” of the server."
            )

    def get(self, path: str, **params: Any) -> Any:
        """Return what the server has at a path; `params` make the query."""
        query = urllib.parse.urlencode({name: value for name, value in params.items() if value is not None}, True)
        return self._ask("GET", f"{path}?{query}" if query else path)

    def post(self, path: str, body: Any = None) -> Any:
        return self._ask("POST", path, body)

    def put(self, path: str, body: Any = None) -> Any:
        return self._ask("PUT", path, body)

    def patch(self, path: str, body: Any = None) -> Any:
        return self._ask("PATCH", path, body)

    def delete(self, path: str, **params: Any) -> Any:
        return self._ask("DELETE", f"{path}?{urllib.parse.urlencode(params)}" if params else path)

    def _ask(self, method: str, path: str, body: Any = None) -> Any:
        address = f"{self.url}/api/v1/{path.lstrip('/')}"
        data = None if body is None else orjson.dumps(body)
        headers = {**self.headers, "X-Argilla-Api-Key": self.api_key, "Accept": "application/json"}
        if data is not None:
            headers["Content-Type"] = "application/json"
        request = urllib.request.Request(address, data, headers, method=method)
        what = f"{method} {urllib.parse.urlsplit(address).path}"
        try:
            with self._opener().open(request, timeout=self.timeout_seconds) as answer:
                raw = answer.read()
        except urllib.error.HTTPError as error:
            with error:
                raise self._refused(what, error.code, error.headers, _read(error)) from None
        except (OSError, http.client.HTTPException) as error:
            raise ReviewError(
                f"no whole answer from {self.url} to {what}: {getattr(error, 'reason', None) or error or type(error).__name__}. Is the server running? "
                "review.status() says so; review.start() starts it, and keeps what it had."
            ) from None
        if not raw:
            return None
        try:
            return orjson.loads(raw)
        except orjson.JSONDecodeError:
            raise ReviewError(
                f"{self.url} answers {what} with a page and no data, so it is no Argilla server. Check the address."
            ) from None

    def _opener(self) -> urllib.request.OpenerDirector:
        # A proxy of the environment must not see what stays on this machine.
        own = urllib.parse.urlsplit(self.url).hostname in _ON_THIS_MACHINE
        return urllib.request.build_opener(_Stay, *([urllib.request.ProxyHandler({})] if own else []))

    def _refused(self, what: str, status: int, headers: Any, raw: bytes) -> ReviewError:
        if status in (301, 302, 303, 307, 308):
            return ReviewError(
                f"{self.url} sends {what} on to {headers.get('Location')}, and the key is not sent after it. Give the address that it names."
            )
        said = _said(raw)
        if status == 401:
            return ReviewError(f"{self.url} does not know this API key ({said}). Copy it from the page “My settings”.")
        if status == 403:
            return ReviewError(f"the user of this API key may not {what} at {self.url}: {said}. Use the owner's key.")
        return ReviewError(f"{self.url} answers {what} with {status}: {said}")


class _Stay(urllib.request.HTTPRedirectHandler):
    """urllib would send the key to wherever a redirect leads."""

    def redirect_request(self, *_: Any) -> None:
        return None


def _read(error: urllib.error.HTTPError) -> bytes:
    try:
        return error.read()
    except (OSError, http.client.HTTPException):
        return b""


def _said(raw: bytes, limit: int = 600) -> str:
    """What a server said of an error, in one line."""
    try:
        found = orjson.loads(raw)
    except orjson.JSONDecodeError:
        found = raw.decode(errors="replace")
    while isinstance(found, dict) and (name := next((name for name in _INSIDE if name in found), "")):
        found = found[name]
    if isinstance(found, list) and all(isinstance(each, dict) and "msg" in each for each in found):
        found = "; ".join(f"{'.'.join(map(str, each.get('loc', ())))}: {each['msg']}" for each in found)
    text = found if isinstance(found, str) else json.dumps(found, ensure_ascii=False)
    text = " ".join(text.split()) or "nothing"
    return text if len(text) <= limit else text[: limit - 1] + "…"
