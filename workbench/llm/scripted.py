"""Scripted: the client for tests. It answers what it was told to, and remembers what it was asked."""

from collections.abc import Callable, Sequence

from workbench.errors import CallFailed, ClientError
from workbench.llm.client import Choice, Completion, Price, Request, Sampling, metered

Reply = str | CallFailed | Completion


class Scripted:
    """A test double that answers with `replies`, in order, or with what a function of the request returns.

    A reply that is a CallFailed is raised. `requests` holds all that was asked. It says that it is a fake everywhere: its
    model is "scripted".

        >>> client = Scripted(lambda request: "[[ ## answer ## ]]\\n42")"""

    def __init__(
        self,
        replies: Sequence[Reply] | Callable[[Request], Reply],
        *,
        model: str = "scripted",
        sampling: Sampling = Sampling(),  # noqa: B008  frozen
        price: Price | None = None,
    ):
        self.model, self.endpoint, self.sampling, self.price = model, "scripted", sampling, price
        self.requests: list[Request] = []
        self._reply = replies if callable(replies) else None
        self._replies = iter(()) if callable(replies) else iter(replies)

    async def complete(self, request: Request) -> Completion:
        return await metered(self, request, self.price, lambda: self._answer(request))

    async def _answer(self, request: Request) -> Completion:
        self.requests.append(request)
        reply = self._reply(request) if self._reply else next(self._replies, None)
        if reply is None:
            raise ClientError(
                f"Scripted has no reply left for request {len(self.requests)}. Give it more, or a function."
            )
        if isinstance(reply, CallFailed):
            raise reply
        if isinstance(reply, Completion):
            return reply
        prompt_tokens = sum(len(m["content"].split()) for m in request.messages)
        return Completion(
            (Choice(reply),), self.model, prompt_tokens=prompt_tokens, completion_tokens=len(reply.split())
        )

    def __repr__(self) -> str:
        return f"Scripted(model={self.model!r}, {len(self.requests)} requests so far)"
