"""Pool: several clients as one, so that one run can ask all of them, through one ledger and one budget.

    pool = llm.Pool(small=llm.OpenAI(url, "small"), large=llm.OpenAI(url, "large"), judge=llm.OpenAI(other, "judge"))
    small = llm.to(pool, "small")                 # a client: what it is asked goes to that member

A member's answers have keys of their own in the ledger, the same that they would have without the pool."""

import asyncio
import dataclasses

from workbench.errors import ClientError
from workbench.llm.client import Client, Completion, Request, Sampling, member


class Pool:
    """Clients by name. Its own model and endpoint name all members; it is asked through `to(pool, name)`."""

    def __init__(self, **members: Client):
        if not members:
            raise ClientError("a pool needs at least one client: Pool(small=llm.OpenAI(url, model)).")
        if nested := [name for name, client in members.items() if hasattr(client, "member")]:
            raise ClientError(
                f"{nested[0]!r} is a pool or a ledger. Give the pool plain clients, and the ledger the pool: llm.Ledger(pool, path)."
            )
        self.members = dict(members)
        self.model = " + ".join(f"{name}={client.model}" for name, client in members.items())
        self.endpoint = " + ".join(f"{name}={client.endpoint}" for name, client in members.items())
        # What each member is sent, by name: a run with another temperature is another run.
        self.sampling = Sampling(extra={name: client.sampling.sent() for name, client in members.items()})

    def member(self, name: str) -> Client:
        """Return the client of that name. Raises ClientError when there is none."""
        if name not in self.members:
            raise ClientError(f"the pool has no {name!r}; it has {', '.join(self.members)}.")
        return self.members[name]

    async def complete(self, request: Request) -> Completion:
        """Return the answer of the member that the request is for."""
        if not request.to:
            raise ClientError(f"say which of {', '.join(self.members)} is asked: llm.to(pool, name).complete(...).")
        return await self.member(request.to).complete(request)

    async def aclose(self) -> None:
        """Close the connections of all members that have any."""
        closes = [client.aclose() for client in self.members.values() if hasattr(client, "aclose")]
        await asyncio.gather(*closes)

    def __repr__(self) -> str:
        return f"Pool({', '.join(f'{name}={client!r}' for name, client in self.members.items())})"


class To:
    """One member of a pool, as a client that asks through the ledger, run and budget around the pool."""

    def __init__(self, client: Client, name: str):
        mine = member(client, name)
        self.model, self.endpoint, self.sampling = mine.model, mine.endpoint, mine.sampling
        self._client, self._name = client, name

    async def complete(self, request: Request) -> Completion:
        return await self._client.complete(dataclasses.replace(request, to=self._name))

    def __repr__(self) -> str:
        return f"to({self._client!r}, {self._name!r})"


def to(client: Client, name: str) -> Client:
    """Return a client whose requests go to the member `name` of a pool, or of the pool in a ledger or a run.

    Raises ClientError when the pool has no such member, and for a client that is no pool."""
    return To(client, name)
