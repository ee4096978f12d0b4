"""A demonstration: what it costs when a run is killed, by a server that counts, a child process and SIGKILL.

    with demo.Server(llm.Offline()) as server:
        job = demo.Job(server.url, server.model, "data/documents")
        kill = demo.kill(job, server, "out", after=30)   # the run in `out` begins, and dies by SIGKILL
        run = job.run("out")                             # goes on where it ended
        server.repeated(kill)                            # requests that the server got a second time

The server hands each request to a client, and answers under that client's name. Only the notebook about durable runs
needs this module."""

import asyncio
import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from workbench import llm, runner, store
from workbench.errors import RunError
from workbench.recipes import rag_qa


@dataclass(frozen=True)
class Job:
    """A run that this process and a child can both make: questions about documents, asked of a model at `url`."""

    url: str
    model: str
    documents: str
    tasks: int = 60
    concurrency: int = 8
    temperature: float | None = None
    seed: int = 0

    def run(self, out: str | os.PathLike[str]) -> runner.Run:
        """Return the run in the folder `out`, begun or gone on with."""
        sampling = llm.Sampling(temperature=self.temperature)
        # api_key_env="": a demonstration takes no key along
        client = llm.OpenAI(self.url, self.model, api_key_env="", sampling=sampling)
        plan = rag_qa.plan(store.documents(self.documents), seed=self.seed).first(self.tasks)
        options = runner.Options(concurrency=self.concurrency, shard_tasks=16, progress=False)
        return runner.run(rag_qa.make, plan, client=client, out=out, options=options)


@dataclass(frozen=True)
class Kill:
    """A kill as it was: the requests that the server got before it, and the answers that the ledger then held.

    The difference was under way. `begin` is how many requests the server had got before the run began."""

    concurrency: int
    received: int
    in_ledger: int
    begin: int


@dataclass(frozen=True)
class Trial:
    """A kill, the run after it was gone on with, and the requests that the server got a second time."""

    kill: Kill
    run: runner.Run
    repeated: int

    @property
    def concurrency(self) -> int:
        return self.kill.concurrency


class Server:
    """An OpenAI-compatible server on 127.0.0.1, in a thread: `received` holds the body of every request that came.

    An answer takes `seconds`, as a model's does, so that a kill finds something under way. Close it, or use `with`."""

    def __init__(self, client: llm.Client, *, seconds: float = 0.03):
        self.client, self.seconds, self.url, self.under_way = client, seconds, "", 0
        self.received: list[bytes] = []
        self._loop = asyncio.new_event_loop()
        ready = threading.Event()
        self._thread = threading.Thread(target=self._serve, args=(ready,), name="demo server", daemon=True)
        self._thread.start()
        if not ready.wait(10):
            raise RunError("the demonstration's server did not start within 10 s. Is a loopback address allowed here?")

    @property
    def model(self) -> str:
        return self.client.model

    def repeated(self, kill: Kill) -> int:
        """Return how many requests came a second time since the killed run began."""
        return sum(count - 1 for count in Counter(self.received[kill.begin :]).values())

    def close(self) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)

    def __enter__(self) -> "Server":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"Server({len(self.received):,} requests received, {self.under_way:,} under way)"

    def _serve(self, ready: threading.Event) -> None:
        from aiohttp import web

        async def start() -> Any:
            application = web.Application()
            application.router.add_post("/v1/chat/completions", self._answer)
            site_runner = web.AppRunner(application, handle_signals=False, shutdown_timeout=0.1)
            await site_runner.setup()
            await web.TCPSite(site_runner, "127.0.0.1", 0).start()
            self.url = f"http://127.0.0.1:{site_runner.addresses[0][1]}/v1"
            return site_runner

        asyncio.set_event_loop(self._loop)
        serving = self._loop.run_until_complete(start())
        ready.set()
        self._loop.run_forever()
        self._loop.run_until_complete(serving.cleanup())
        self._loop.close()

    async def _answer(self, request: Any) -> Any:
        from aiohttp import web

        body = await request.read()
        self.received.append(body)
        self.under_way += 1
        try:
            await asyncio.sleep(self.seconds)
            asked = json.loads(body)
            answer = await self.client.complete(llm.Request(tuple(asked["messages"])))
            choice = {"index": 0, "message": {"role": "assistant", "content": answer.text}, "finish_reason": "stop"}
            usage = {"prompt_tokens": answer.prompt_tokens, "completion_tokens": answer.completion_tokens}
            return web.json_response(
                {"object": "chat.completion", "model": answer.model, "choices": [choice], "usage": usage}
            )
        finally:
            self.under_way -= 1


def kill(job: Job, server: Server, out: str | os.PathLike[str], *, after: int) -> Kill:
    """Begin the run in a child process, SIGKILL it when the server got `after` requests, and return how it was.

    Raises RunError when the run ends before."""
    begin = len(server.received)
    child = subprocess.Popen(
        [sys.executable, "-m", "workbench.demo", json.dumps(asdict(job)), str(out)], stderr=subprocess.PIPE, text=True
    )
    while len(server.received) < begin + after:
        if child.poll() is not None:
            said = (child.communicate()[1] or "").strip()[-500:]
            count = len(server.received) - begin
            raise RunError(f"the run ended after {count} requests, before the kill. Kill it earlier. {said}")
        time.sleep(0.001)
    os.kill(child.pid, signal.SIGKILL)
    child.communicate()
    time.sleep(0.05)  # what the child had sent may still be in a buffer
    while server.under_way:  # the server finishes what nobody waits for any more
        time.sleep(0.005)
    received = len(server.received) - begin
    path = Path(out) / "ledger.sqlite"
    in_ledger = 0
    if path.exists():
        with contextlib.closing(llm.Ledger(None, path)) as ledger:  # type: ignore[arg-type]  only read
            in_ledger = len(ledger)
    return Kill(job.concurrency, received, in_ledger, begin)


def trial(job: Job, server: Server, out: str | os.PathLike[str], *, after: int) -> Trial:
    """Return one kill and what came of it: `kill`, then the same run gone on with in this process."""
    killed = kill(job, server, out, after=after)
    run = job.run(out)
    return Trial(killed, run, server.repeated(killed))


if __name__ == "__main__":
    Job(**json.loads(sys.argv[1])).run(sys.argv[2])
