"""Requests under way: many at once on the background loop, an outage told apart from what a model does to one request."""

import asyncio
import contextlib
import math
import queue
import time
from collections.abc import Callable, Sequence
from concurrent.futures import CancelledError
from typing import Any

from workbench._background import StopButton, background_loop, close_unused, using
from workbench.errors import CallFailed, InputError, LedgerError
from workbench.llm import Client, Completion, Ledger
from workbench.llm.client import Request

# What a model does to one request, and so a property of the prompt; every other loss is an outage, and no score.
OF_THE_MODEL = frozenset({"refusal", "length", "content_filter", "empty"})
# Of one request (too long a prompt, an answer that is no text) where the server has answered another; else an outage.
_OF_THE_REQUEST = frozenset({"rejected", "bad_response"})


def is_of_the_model(error: CallFailed, *, has_answered: bool) -> bool:
    """True when the loss is the prompt's own, and so scores 0; False for an outage, which scores nothing."""
    return error.reason in OF_THE_MODEL or (has_answered and error.reason in _OF_THE_REQUEST and not error.fatal)


_GRACE_SECONDS = 3.0  # for what is under way when the stop button is pressed
_CANCEL_SECONDS = 30.0  # for writing down what finished


class Asking:
    """Requests under way, `concurrency` at most at once, on the background loop; the calling thread takes what comes."""

    def __init__(self, client: Client, requests: Sequence[Request], concurrency: int):
        if concurrency < 1:
            raise InputError(f"concurrency must be 1 or more, got {concurrency}.")
        self.error: BaseException | None = None  # what ended it early
        self.is_stopped = False
        self._has_answered = False
        self._client, self._requests, self._concurrency = client, requests, concurrency
        self._came: queue.SimpleQueue[tuple[int, Completion | CallFailed] | None] = queue.SimpleQueue()
        self._driver: asyncio.Task[None] | None = None

    def wait(self, take: Callable[[int, Completion | CallFailed], None]) -> None:
        """Give every answer to `take`, in this thread, until all are there, one was an outage, or the stop button is pressed.

        Each press, or the end of patience, goes one step: finish what is under way, cancel it, leave."""
        step, until = 0, math.inf
        with StopButton() as button:
            future = asyncio.run_coroutine_threadsafe(self._drive(), background_loop())
            future.add_done_callback(lambda _: self._came.put(None))
            try:
                while True:
                    if button.presses > step or time.monotonic() > until:
                        step += 1
                        self.is_stopped = True
                        if step == 2:
                            self._cancel()
                        elif step == 3:
                            return
                        until = time.monotonic() + (_GRACE_SECONDS if step == 1 else _CANCEL_SECONDS)
                    with contextlib.suppress(queue.Empty):
                        if (came := self._came.get(timeout=0.1)) is None:
                            break
                        take(*came)
            except BaseException:
                self._cancel()  # nothing that nobody waits for must go on
                raise
            with contextlib.suppress(CancelledError):
                future.result()
            self.is_stopped = button.presses > 0

    def _cancel(self) -> None:
        self.is_stopped = True
        if self._driver is not None:
            background_loop().call_soon_threadsafe(self._driver.cancel)

    async def _drive(self) -> None:
        self._driver = asyncio.current_task()
        asked = self._client.client if isinstance(self._client, Ledger) else self._client
        using[id(asked)] += 1
        feed = iter(enumerate(self._requests))
        workers = [asyncio.create_task(self._work(feed)) for _ in range(min(self._concurrency, len(self._requests)))]
        try:
            await asyncio.gather(*workers)
        finally:
            for worker in workers:
                worker.cancel()
            await asyncio.gather(*workers, return_exceptions=True)
            if isinstance(self._client, Ledger):
                with contextlib.suppress(LedgerError):  # every answer was written down before it came
                    self._client.flush()
            await close_unused(asked)

    async def _work(self, feed: Any) -> None:
        for at, request in feed:
            if self.is_stopped or self.error is not None:
                return
            try:
                self._came.put((at, await self._client.complete(request)))
                self._has_answered = True
            except CallFailed as error:
                if is_of_the_model(error, has_answered=self._has_answered):
                    self._came.put((at, error))
                else:
                    self.error = self.error or error
            except Exception as error:  # a client that was set up wrong, a full disk
                self.error = self.error or error
