"""What is sent to a model and what comes back: Request, Completion, the Client protocol, Budget and prices."""

import asyncio
import dataclasses
import hashlib
import json
import os
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from functools import cache, lru_cache
from pathlib import Path
from typing import Any, Protocol, Self

from workbench.errors import BudgetExhausted, CallFailed, ClientError
from workbench.records import content_hash

Messages = tuple[dict[str, str], ...]


@dataclass(frozen=True)
class Sampling:
    """Decoding parameters; None is not sent, so that the server's own default holds.

    `json_schema=True` asks the server to hold a JSON prompt's answer to its schema, where the server can.
    `extra` goes into the request body as it is, and wins (for example {"max_completion_tokens": 500})."""

    temperature: float | None = None
    top_p: float | None = None
    max_tokens: int | None = None
    seed: int | None = None
    stop: tuple[str, ...] | None = None
    json_schema: bool | None = None
    extra: Mapping[str, Any] | None = None

    def __post_init__(self):
        if self.extra is not None:
            object.__setattr__(
                self, "extra", json.loads(json.dumps(dict(self.extra)))
            )  # a copy: nobody changes it afterwards

    def __hash__(self) -> int:
        return hash((self.temperature, self.top_p, self.max_tokens, self.seed, self.stop, self.json_schema))

    def over(self, other: Self) -> Self:
        """Return these parameters where they are set, and the other's where they are not."""
        return _over(self, other)

    def sent(self, sample: int = 0) -> dict[str, Any]:
        """The parameters that are sent for a sample, as plain JSON: each sample has a seed of its own, or it would be the
        same draw again."""
        values = {
            name: list(value) if isinstance(value, tuple) else value
            for name, value in vars(self).items()
            if value is not None
        }
        if self.seed is not None:
            values["seed"] = self.seed + sample
        extra = values.pop("extra", {})
        if "max_completion_tokens" in extra:
            values.pop("max_tokens", None)  # its new name; servers that know the one refuse the other
        return {**values, **extra}


@lru_cache(1024)  # the same few pairs, for every request
def _over(first: Sampling, second: Sampling) -> Sampling:
    mine = {name: value for name, value in vars(first).items() if value is not None}
    return dataclasses.replace(second, **mine) if mine else second


@dataclass(frozen=True)
class Request:
    """One thing to ask. `sample` numbers independent draws of the same question, so that each has a ledger key of its own.

    `n` asks for several choices at once. `to` names a member of a Pool. `run` and `budget` travel along and are no part of
    what is asked."""

    messages: Messages
    sampling: Sampling = Sampling()
    sample: int = 0
    n: int = 1
    schema: Mapping[str, Any] | None = None
    to: str = ""
    run: str = field(default="", compare=False)
    budget: "Budget | None" = field(default=None, compare=False)


@dataclass(frozen=True, slots=True)
class Choice:
    """One text that a model gave, and why it ended."""

    text: str
    finish: str = "stop"


@dataclass(frozen=True, slots=True)
class Completion:
    """A usable answer. `model` is the model as answered; token counts are None where the server gave none; `cost` is in
    US dollars, None where no price is known; `seconds` is the time the request that worked took."""

    choices: tuple[Choice, ...]
    model: str
    endpoint: str = ""
    key: str = ""
    sampling: str = "{}"
    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    cost: float | None = None
    seconds: float = 0.0
    attempts: int = 1
    is_from_ledger: bool = False

    @property
    def text(self) -> str:
        return self.choices[0].text


class Client(Protocol):
    """Anything that answers. `endpoint` says where, without secrets; `sampling` holds defaults that a request may override."""

    model: str
    endpoint: str
    sampling: Sampling

    async def complete(self, request: Request) -> Completion:
        """Return the answer; raise CallFailed when there is no usable one."""
        ...


def what_is_sent(client: Client, request: Request) -> dict[str, Any]:
    """Return everything that decides the answer: endpoint, model, messages, parameters, sample number.

    The ledger keys by this, so what is not in here must not be sent."""
    if request.to:
        client = member(client, request.to)
    sampling = request.sampling.over(client.sampling)
    sent = {
        "endpoint": client.endpoint,
        "model": client.model,
        "messages": request.messages,
        "sampling": sampling.sent(request.sample),
        "sample": request.sample,
    }
    if request.n != 1:
        sent["n"] = request.n
    if request.schema is not None and sampling.json_schema:
        sent["schema"] = request.schema
    return sent


def member(client: Any, name: str) -> Client:
    """Return the member of a pool, also behind a ledger. Raises ClientError when there is none of that name."""
    if (find := getattr(client, "member", None)) is None:
        raise ClientError(f"{client!r} is no pool, and a request is for its member {name!r}. Give llm.Pool(...).")
    return find(name)


def request_key(client: Client, request: Request) -> str:
    """Return the ledger key: the hash of everything that is sent."""
    return key_of(what_is_sent(client, request))


def key_of(sent: Mapping[str, Any]) -> str:
    """Return the hash of what is sent. A system message enters by its own hash, taken once: it is long and always the same."""
    messages = [
        {**message, "content": None, "sha256": text_hash(message["content"])}
        if message["role"] == "system"
        else message
        for message in sent["messages"]
    ]
    return content_hash({**sent, "messages": messages})


@lru_cache(4096)
def text_hash(text: str) -> str:
    """Return 24 hex digits of a text's SHA-256."""
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:24]


@lru_cache(4096)
def _sampling_json(sampling: Sampling, sample: int) -> str:
    """The parameters as sent, as JSON, the sample number with them."""
    return json.dumps({**sampling.sent(sample), "sample": sample}, sort_keys=True)


# --- prices ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Price:
    """US dollars per million tokens."""

    prompt: float
    completion: float

    def of(self, prompt_tokens: int | None, completion_tokens: int | None) -> float | None:
        """Return the cost in US dollars; None when a count is unknown."""
        if prompt_tokens is None or completion_tokens is None:
            return None
        return (prompt_tokens * self.prompt + completion_tokens * self.completion) / 1e6


@cache
def price_table() -> dict[str, Any]:
    """The bundled price table: {"version", "source", "hosts": {host: {model: [prompt, completion]}}}, US dollars per million tokens."""
    return json.loads((Path(__file__).parent / "prices.json").read_text())


def price_of(host: str, model: str) -> Price | None:
    """Return the table's price of a model at a host, or None: an unknown price is unknown, never zero.

    By host, because the same model name on somebody's own server costs something else."""
    row = price_table()["hosts"].get(host, {}).get(model)
    return Price(*row) if row else None


# --- budget ---------------------------------------------------------------------------------------------------------


class Budget:
    """A hard cap on money (US dollars), tokens and requests, shared by everything it is handed to.

    Before a request is sent, the most it can use is set aside: a prompt has at most as many tokens as bytes, an answer at
    most `max_tokens`. A request that would pass a cap even so waits for those under way to settle, and raises
    BudgetExhausted when none is left that could make room. What one request really used replaces what was set aside."""

    def __init__(self, *, money: float | None = None, tokens: int | None = None, requests: int | None = None):
        for name, cap in (("money", money), ("tokens", tokens), ("requests", requests)):
            if cap is not None and not cap >= 0:
                raise ClientError(f"a budget's {name} must be zero or more, got {cap!r}.")
        self.caps = {"money": money, "tokens": tokens, "requests": requests}
        self.used = {"money": 0.0, "tokens": 0, "requests": 0}
        self._held = {"money": 0.0, "tokens": 0, "requests": 0}
        self._waiting: list[asyncio.Future[None]] = []

    async def hold(self, request: Request, sampling: Sampling, price: Price | None) -> dict[str, float]:
        """Set aside the most that this request can use, and return it for `settle`.

        Raises BudgetExhausted when it does not fit, ClientError when a money cap meets an unknown price or a money or token
        cap meets an answer of unlimited length."""
        most = self._most(request, sampling, price)
        while wall := next(
            (k for k, cap in self.caps.items() if cap is not None and self.used[k] + self._held[k] + most[k] > cap),
            None,
        ):
            if not any(self._held.values()):
                raise BudgetExhausted(
                    f"the next request may use {_amount(wall, most[wall])}, {_amount(wall, self.used[wall])} of {_amount(wall, self.caps[wall])} are used. Raise the budget and run again: what finished is kept."
                )
            future = asyncio.get_running_loop().create_future()
            self._waiting.append(future)
            await future
        for name, amount in most.items():
            self._held[name] += amount
        return most

    def settle(self, held: Mapping[str, float], *, money: float | None = None, tokens: int | None = None) -> None:
        """Replace what was set aside by what was used; what is unknown counts as all of it."""
        used = {
            "money": held["money"] if money is None else money,
            "tokens": held["tokens"] if tokens is None else tokens,
            "requests": 1,
        }
        for name in self.used:
            self._held[name] -= held[name]
            self.used[name] += used[name]
        if all(abs(left) < 1e-12 for left in self._held.values()):
            self._held = dict.fromkeys(
                self._held, 0
            )  # no dust of floating point that would look like a request under way
        waiting, self._waiting = self._waiting, []
        for future in waiting:
            if not future.done():
                future.set_result(None)

    def _most(self, request: Request, sampling: Sampling, price: Price | None) -> dict[str, float]:
        # 16 tokens a message for the chat template's own marks; a byte-level tokenizer never makes more tokens than bytes.
        prompt = sum(len(m["content"].encode()) + 16 for m in request.messages)
        extra = sampling.extra or {}
        longest = extra.get("max_completion_tokens") or extra.get("max_tokens") or sampling.max_tokens
        if longest is None and (self.caps["money"] is not None or self.caps["tokens"] is not None):
            raise ClientError(
                "a budget of money or tokens needs an answer's longest length: set Sampling(max_tokens=...)."
            )
        if self.caps["money"] is not None and price is None:
            raise ClientError(
                "a budget of money needs a price, and none is known for this model: give the client price=Price(prompt=..., completion=...), or cap tokens or requests instead."
            )
        answer = extra.get("n", request.n) * (longest or 0)
        return {"money": price.of(prompt, answer) if price else 0.0, "tokens": prompt + answer, "requests": 1}  # type: ignore[dict-item]

    def __repr__(self) -> str:
        caps = [f"{_amount(k, self.used[k])} of {_amount(k, cap)}" for k, cap in self.caps.items() if cap is not None]
        return f"Budget({', '.join(caps) or 'no cap'})"


def _amount(name: str, value: float | None) -> str:
    return f"${value:.4f}" if name == "money" else f"{value:,.0f} {name}"


async def metered(
    client: Client, request: Request, price: Price | None, send: Callable[[], Awaitable[Completion]]
) -> Completion:
    """Return what one attempt to send gives, with its cost, time and what was sent; the budget is held around it."""
    sampling = request.sampling.over(client.sampling)
    budget, held = request.budget, None
    if budget is not None:
        held = await budget.hold(request, sampling, price)
    started, cost, tokens = time.perf_counter(), None, None
    try:
        answer = await send()
        tokens = _sum(answer.prompt_tokens, answer.completion_tokens)
        cost = (
            answer.cost
            if answer.cost is not None
            else price.of(answer.prompt_tokens, answer.completion_tokens)
            if price
            else None
        )
    except CallFailed as error:
        tokens = _sum(error.prompt_tokens, error.completion_tokens)
        error.cost = cost = price.of(error.prompt_tokens, error.completion_tokens) if price else None
        if tokens is None and error.reason in ("connection", "rate_limited", "server_error", "rejected"):
            tokens, cost = 0, 0.0  # nothing was generated; only an answer cut off on its way may have been paid for
        raise
    finally:
        if held is not None:
            budget.settle(held, money=cost, tokens=tokens)  # type: ignore[union-attr]
    return Completion(
        answer.choices, answer.model, client.endpoint, answer.key, _sampling_json(sampling, request.sample), answer.prompt_tokens,
        answer.completion_tokens, cost, time.perf_counter() - started, answer.attempts,
    )  # fmt: skip


def _sum(a: int | None, b: int | None) -> int | None:
    return None if a is None or b is None else a + b


# --- secrets --------------------------------------------------------------------------------------------------------


def key_from_environment(name: str) -> str:
    """Return the API key of that environment variable, or "" when it is not set. Keys never come from anywhere else."""
    return os.environ.get(name, "")
