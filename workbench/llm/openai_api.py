"""A client for every server that speaks OpenAI's chat completions: vLLM, Ollama, TGI, llama.cpp, OpenAI itself.

Over aiohttp, because the client library decides the speed: `make bench` has bare aiohttp beside tools whose clients are
built on httpx, on one server."""

import asyncio
import random
import time
import weakref
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, replace
from email.utils import parsedate_to_datetime
from typing import Any
from urllib.parse import urlsplit, urlunsplit

import aiohttp
import orjson

from workbench.errors import CallFailed, ClientError
from workbench.llm.client import Choice, Completion, Price, Request, Sampling, key_from_environment, metered, price_of

_RAW_CHARACTERS = 4000  # of a broken answer are kept: enough to see what came, little enough for a million failures


@dataclass(frozen=True)
class Limits:
    """How hard and how long to try.

    `concurrency` is the most requests under way; it falls on 429 and recovers. An attempt may take `timeout_seconds`.
    Errors that may pass (5xx, timeouts, broken connections) are tried `max_attempts` times, waiting `backoff_seconds`
    doubled each time, with jitter. A 429 is no attempt: it is waited out, up to `patience_seconds` for one request."""

    concurrency: int = 64
    timeout_seconds: float = 120.0
    max_attempts: int = 5
    backoff_seconds: float = 0.5
    patience_seconds: float = 600.0


class OpenAI:
    """A client of one model on one server.

    `base_url` ends before `/chat/completions`, for example http://127.0.0.1:8000/v1. The key comes from the environment
    variable named `api_key_env`; a server without keys needs none. `price` replaces the bundled table's."""

    def __init__(
        self,
        base_url: str,
        model: str,
        *,
        api_key_env: str = "OPENAI_API_KEY",
        sampling: Sampling = Sampling(),  # noqa: B008  frozen
        limits: Limits = Limits(),
        price: Price | None = None,
    ):
        parts = urlsplit(base_url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ClientError(
                f"base_url {_without_secrets(base_url)!r} is not an http(s) address such as http://127.0.0.1:8000/v1."
            )
        if parts.username or parts.password:
            raise ClientError(
                "base_url holds a user or a password, which would end up in records. Put the key into the environment instead."
            )
        if parts.query or parts.fragment:
            raise ClientError(
                f"base_url {_without_secrets(base_url)!r} must have no query: a key in it would end up in records."
            )
        if not model:
            raise ClientError("model is empty. Name one that the server lists under GET /models.")
        self.model, self.endpoint, self.sampling, self.limits = model, base_url.rstrip("/"), sampling, limits
        self.price = price or price_of(parts.hostname, model)
        self._url = self.endpoint + "/chat/completions"
        self._headers = {"Content-Type": "application/json"}
        self._key = key_from_environment(api_key_env)
        if self._key:
            self._headers["Authorization"] = f"Bearer {self._key}"
        self._gate = Gate(limits.concurrency)
        self._sessions: weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, aiohttp.ClientSession] = (
            weakref.WeakKeyDictionary()
        )

    def __repr__(self) -> str:
        return f"OpenAI({self.endpoint!r}, {self.model!r}, key {'set' if self._key else 'not set'})"

    async def complete(self, request: Request) -> Completion:
        """Return the answer; raise CallFailed with its reason when there is none after every attempt."""
        body = orjson.dumps(self._body(request))
        attempts, waits, deadline = 0, 0, time.monotonic() + self.limits.patience_seconds
        while True:
            try:
                await self._gate.enter()
                try:
                    answer = await metered(self, request, self.price, lambda: self._post(body))
                finally:
                    self._gate.leave()
                self._gate.went_well()
                return answer if not attempts + waits else replace(answer, attempts=attempts + waits + 1)
            except CallFailed as error:
                error.attempts = attempts + waits + 1
                if error.reason == "rate_limited":
                    waits += 1
                    pause = _pause(error, self.limits.backoff_seconds, waits)
                    if time.monotonic() + pause > deadline:
                        self._gate.was_refused(0)
                        raise
                    self._gate.was_refused(pause)
                elif _may_pass(error):
                    attempts += 1
                    if attempts >= self.limits.max_attempts:
                        raise
                    pause = _pause(error, self.limits.backoff_seconds, attempts)
                    if time.monotonic() + pause > deadline:
                        raise
                else:
                    raise
                await asyncio.sleep(pause)

    def _body(self, request: Request) -> dict[str, Any]:
        sampling = request.sampling.over(self.sampling)
        sent = sampling.sent(request.sample)
        body: dict[str, Any] = {"model": self.model, "messages": request.messages}
        body.update((name, value) for name, value in sent.items() if name != "json_schema")
        if request.n != 1:
            body["n"] = request.n
        if request.schema is not None and sampling.json_schema:
            form = {"name": "answer", "strict": True, "schema": request.schema}
            body["response_format"] = {"type": "json_schema", "json_schema": form}
        return body

    async def _post(self, body: bytes) -> Completion:
        """One attempt. Raises CallFailed; everything a server can do wrong has a reason."""
        try:
            async with self._session().post(
                self._url, data=body, headers=self._headers, allow_redirects=False
            ) as response:
                raw = await response.read()
                status, headers = response.status, response.headers
        except TimeoutError:
            raise CallFailed(
                "timeout", f"no answer within {self.limits.timeout_seconds:g} s from {self.endpoint}"
            ) from None
        except aiohttp.ClientPayloadError as error:
            raise CallFailed("bad_response", f"the answer was cut off on its way: {self._mask(str(error))}") from None
        except (aiohttp.ClientError, OSError) as error:
            raise CallFailed(
                "connection", f"{self.endpoint}: {self._mask(str(error)) or type(error).__name__}"
            ) from None
        if status != 200:
            raise self._refused(status, headers, raw.decode("utf-8", "replace"))
        return _read(raw, self.model, self._mask)

    def _refused(self, status: int, headers: Any, text: str) -> CallFailed:
        text = self._mask(text)[:_RAW_CHARACTERS]
        said = f"{self.endpoint} answered {status}: {_message_in(text)}"
        if status == 429 or status >= 500 or status in (408, 409, 425):
            failure = CallFailed("rate_limited" if status == 429 else "server_error", said, raw=text)
            failure.retry_after_seconds = _seconds(headers.get("Retry-After"))
            return failure
        if status in (401, 403):
            return CallFailed("rejected", said + ". Check the key in the environment.", raw=text, fatal=True)
        if status in (404, 405) or 300 <= status < 400:
            return CallFailed(
                "rejected",
                said + f". Check base_url and that the server has the model {self.model!r}.",
                raw=text,
                fatal=True,
            )
        return CallFailed("rejected", said, raw=text)

    def _mask(self, text: str) -> str:
        return text.replace(self._key, "***") if self._key else text

    def _session(self) -> aiohttp.ClientSession:
        loop = asyncio.get_running_loop()
        session = self._sessions.get(loop)
        if session is None or session.closed:
            session = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(limit=0, ttl_dns_cache=300),
                timeout=aiohttp.ClientTimeout(total=self.limits.timeout_seconds),
                auto_decompress=True,
            )
            self._sessions[loop] = session
        return session

    async def aclose(self) -> None:
        """Close this event loop's connections. The next request opens new ones."""
        if session := self._sessions.pop(asyncio.get_running_loop(), None):
            await session.close()


def _read(raw: bytes, asked_model: str, mask: Callable[[str], str] = str) -> Completion:
    """The completion in a 200 answer; every finish other than a whole text is a CallFailed with its reason."""
    shown = mask(raw.decode("utf-8", "replace"))[:_RAW_CHARACTERS]
    try:
        body = orjson.loads(raw)
    except ValueError as error:
        raise CallFailed("bad_response", f"the answer is not JSON ({error})", raw=shown) from None
    try:
        usage = body.get("usage") or {}
        prompt_tokens, completion_tokens = usage.get("prompt_tokens"), usage.get("completion_tokens")
        found = body["choices"]
        texts = [
            (choice["message"].get("content"), choice["message"].get("refusal"), choice.get("finish_reason"))
            for choice in found
        ]
    except (AttributeError, KeyError, TypeError) as error:
        raise CallFailed(
            "bad_response", f"the answer is no chat completion: {type(error).__name__} {error}", raw=shown
        ) from None
    if not texts:
        failure = CallFailed("empty", "the answer has no choices", raw=shown)
    elif refusal := next((refusal for _, refusal, _ in texts if refusal), None):
        failure = CallFailed("refusal", str(refusal)[:500], raw=shown)
    elif any(finish == "length" for _, _, finish in texts):
        failure = CallFailed("length", "the answer reached max_tokens before its end", raw=str(texts[0][0] or ""))
    elif any(finish == "content_filter" for _, _, finish in texts):
        failure = CallFailed(
            "content_filter", "the server's content filter ended the answer", raw=str(texts[0][0] or "")
        )
    elif not all(isinstance(text, str) for text, _, _ in texts):
        failure = CallFailed("bad_response", "the answer's content is not a text", raw=shown)
    elif not all(text.strip() for text, _, _ in texts):
        failure = CallFailed("empty", "the answer is an empty text", raw=shown)
    else:
        model = body.get("model")
        return Completion(
            choices=tuple(Choice(text, finish or "stop") for text, _, finish in texts),
            model=model if isinstance(model, str) and model else asked_model,
            prompt_tokens=_count(prompt_tokens),
            completion_tokens=_count(completion_tokens),
        )
    failure.prompt_tokens, failure.completion_tokens = _count(prompt_tokens), _count(completion_tokens)
    raise failure


def _count(value: Any) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 2**53 else None


def _may_pass(error: CallFailed) -> bool:
    # An answer that was read to its end and is wrong was paid for, and will be wrong again: the next run may ask again.
    return error.reason in ("connection", "timeout", "server_error") or (
        error.reason == "bad_response" and ("cut off" in error.detail or "not JSON" in error.detail)
    )


def _pause(error: CallFailed, backoff_seconds: float, attempt: int) -> float:
    """The server's own Retry-After where it gave one, else exponential backoff; both with jitter, so that many waiters part."""
    if error.retry_after_seconds is not None:
        return error.retry_after_seconds + random.uniform(0, min(1.0, backoff_seconds))
    return random.uniform(0.5, 1.0) * min(60.0, backoff_seconds * 2 ** (attempt - 1))


def _seconds(retry_after: str | None) -> float | None:
    """Retry-After as seconds from now: it is a number or a date (RFC 9110, 10.2.3)."""
    if not retry_after:
        return None
    try:
        return max(0.0, float(retry_after))
    except ValueError:
        pass
    try:
        return max(0.0, parsedate_to_datetime(retry_after).timestamp() - time.time())
    except ValueError:
        return None


def _message_in(text: str) -> str:
    """What a person needs of an error body: OpenAI's error.message where there is one."""
    try:
        return str(orjson.loads(text)["error"]["message"])[:500]
    except (ValueError, KeyError, TypeError):
        return " ".join(text.split())[:200] or "nothing"


def _without_secrets(url: str) -> str:
    parts = urlsplit(url)
    return urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], parts.path, "", ""))


class Gate:
    """How many requests may be under way: at most `limit`, halved on 429 and won back one by one (AIMD).

    A 429 also closes the gate for everybody until its pause is over: the other requests would only be refused too."""

    def __init__(self, limit: int):
        if limit < 1:
            raise ClientError(f"concurrency must be at least 1, got {limit}.")
        self.limit, self._most, self._under_way = float(limit), limit, 0
        self._waiting: deque[asyncio.Future[None]] = deque()
        self._closed_until = self._halved_at = 0.0

    async def enter(self) -> None:
        while (pause := self._closed_until - time.monotonic()) > 0:  # noqa: ASYNC110  it is a time, no event
            await asyncio.sleep(pause)
        while self._under_way >= int(self.limit):
            future = asyncio.get_running_loop().create_future()
            self._waiting.append(future)
            try:
                await future
            except asyncio.CancelledError:
                self._wake()  # the place that was meant for this one goes to the next
                raise
        self._under_way += 1

    def leave(self) -> None:
        self._under_way -= 1
        self._wake()

    def _wake(self) -> None:
        free = int(self.limit) - self._under_way
        while self._waiting and free > 0:
            future = self._waiting.popleft()
            if not future.done():
                future.set_result(None)
                free -= 1

    def went_well(self) -> None:
        if self.limit < self._most:
            self.limit = min(self._most, self.limit + 1 / self.limit)
            self._wake()

    def was_refused(self, pause_seconds: float) -> None:
        now = time.monotonic()
        self._closed_until = max(self._closed_until, now + pause_seconds)
        if now - self._halved_at > 0.1:  # a burst of 429s is one signal, not sixty-four
            self._halved_at, self.limit = now, max(1.0, self.limit / 2)
