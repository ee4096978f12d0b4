"""An OpenAI-compatible server on loopback, in a thread: it counts, it waits, and it fails in every way on request."""

import asyncio
import contextlib
import json
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

from aiohttp import web

Fault = Callable[[int, dict[str, Any]], "str | None"]


def completion(
    text: str | None, *, finish: str = "stop", model: str = "test-model", refusal: str | None = None
) -> dict[str, Any]:
    """A chat completion as a server answers it."""
    return {
        "id": "x", "object": "chat.completion", "model": model,
        "choices": [{"index": 0, "message": {"role": "assistant", "content": text, "refusal": refusal}, "finish_reason": finish}],
        "usage": {"prompt_tokens": 10, "completion_tokens": 5, "total_tokens": 15},
    }  # fmt: skip


def first_sentence(body: dict[str, Any]) -> str:
    """A rag answer to any rag prompt: the first line of the passage that is long enough, as question, answer and evidence."""
    last = body["messages"][-1]["content"]
    if "Could a reader who has this passage" in last:
        return '{"quote": "NONE", "answerable": "no"}'
    passage = last.partition("<passage>\n")[2].partition("\n</passage>")[0]
    lines = [line for line in passage.splitlines() if len(line.split()) > 5] or ["NONE"]
    line = lines[0]
    return f"[[ ## question ## ]]\nWhat is said about {line[:50]}?\n\n[[ ## answer ## ]]\n{line[:40]}\n\n[[ ## evidence ## ]]\n{line}\n\n[[ ## completed ## ]]"


class Server:
    """What was asked, and how to answer. `fault(number, body)` names what goes wrong with a request, or None."""

    def __init__(self, answer: Callable[[dict[str, Any]], str], fault: Fault, seconds: float):
        self.answer, self.fault, self.seconds = answer, fault, seconds
        self.bodies: list[dict[str, Any]] = []  # every request that came
        self.headers: list[dict[str, str]] = []
        self.answered: Counter[str] = Counter()  # bodies (as JSON) whose answer was sent completely
        self.under_way = self.most_under_way = 0
        self.times: list[float] = []
        self.url = ""

    @property
    def count(self) -> int:
        return len(self.bodies)

    async def handle(self, request: web.Request) -> web.StreamResponse:
        raw = await request.read()
        body = json.loads(raw)
        number = len(self.bodies)
        self.bodies.append(body)
        self.headers.append(dict(request.headers))
        self.times.append(time.monotonic())
        self.under_way += 1
        self.most_under_way = max(self.most_under_way, self.under_way)
        try:
            if self.seconds:
                await asyncio.sleep(self.seconds)
            fault = self.fault(number, body)
            if fault is not None:
                return await self.fail(fault, request)
            response = web.json_response(completion(self.answer(body)))
            await response.prepare(request)
            await response.write_eof()
            self.answered[raw.decode()] += 1
            return response
        finally:
            self.under_way -= 1

    async def fail(self, fault: str, request: web.Request) -> web.StreamResponse:
        match fault.split():
            case ["429", *after]:
                headers = {"Retry-After": after[0]} if after else {}
                return web.json_response({"error": {"message": "slow down"}}, status=429, headers=headers)
            case ["status", code]:
                return web.json_response({"error": {"message": f"status {code} on purpose"}}, status=int(code))
            case ["slow"]:
                await asyncio.sleep(0.3)
                return web.json_response(completion("[[ ## answer ## ]]\nslow"))
            case ["hang"]:
                await asyncio.sleep(30)
            case ["close"]:
                request.transport.close()
            case ["truncated"]:
                whole = json.dumps(completion("[[ ## answer ## ]]\ncut")).encode()
                response = web.StreamResponse(
                    headers={"Content-Length": str(len(whole)), "Content-Type": "application/json"}
                )
                await response.prepare(request)
                await response.write(whole[: len(whole) // 2])
                request.transport.close()
                return response
            case ["not-json"]:
                return web.Response(text="<html>gateway error</html>")
            case ["wrong-schema"]:
                return web.json_response({"result": "text"})
            case ["empty-choices"]:
                return web.json_response({**completion("x"), "choices": []})
            case ["empty-text"]:
                return web.json_response(completion("  "))
            case ["refusal"]:
                return web.json_response(completion(None, refusal="I cannot help with that."))
            case ["length"]:
                return web.json_response(completion("[[ ## answer ## ]]\nunfinis", finish="length"))
            case ["content-filter"]:
                return web.json_response(completion("", finish="content_filter"))
        return web.Response(status=500, text=f"unknown fault {fault}")


@contextlib.contextmanager
def serving(
    answer: Callable[[dict[str, Any]], str] = first_sentence,
    *,
    fault: Fault = lambda number, body: None,
    seconds: float = 0.0,
) -> Iterator[Server]:
    """A running server; `server.url` is its base_url."""
    server = Server(answer, fault, seconds)
    loop = asyncio.new_event_loop()
    ready = threading.Event()

    async def start() -> web.AppRunner:
        application = web.Application()
        application.router.add_post("/v1/chat/completions", server.handle)
        runner = web.AppRunner(application, handle_signals=False, shutdown_timeout=0.1)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        server.url = f"http://127.0.0.1:{runner.addresses[0][1]}/v1"
        return runner

    def work() -> None:
        asyncio.set_event_loop(loop)
        runner = loop.run_until_complete(start())
        ready.set()
        loop.run_forever()
        loop.run_until_complete(runner.cleanup())
        loop.close()

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    ready.wait(10)
    try:
        yield server
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join(10)
