"""The ceiling: bare aiohttp, 64 requests in flight, one JSON line written per answer, and nothing else.

Run as a module (`python -m tests.bench.peers.aiohttp`), so that `aiohttp` means the library.
"""

import asyncio
import json
from pathlib import Path

import aiohttp

from tests.bench.peers import common


def prepare(rows: int, base_url: str, work: Path):
    prompts = [common.prompt(index) for index in range(rows)]

    async def worker(session: aiohttp.ClientSession, todo, out) -> None:
        for index, prompt in todo:
            body = {"model": common.MODEL, "messages": [{"role": "user", "content": prompt}]}
            async with session.post(f"{base_url}/chat/completions", json=body) as response:
                response.raise_for_status()
                reply = await response.json()
            out.write(json.dumps({"index": index, "text": reply["choices"][0]["message"]["content"]}) + "\n")

    async def job() -> None:
        todo = iter(enumerate(prompts))
        connector = aiohttp.TCPConnector(limit=common.CONCURRENCY)
        with open(work / "rows.jsonl", "w") as out:
            async with aiohttp.ClientSession(connector=connector) as session:
                await asyncio.gather(*(worker(session, todo, out) for _ in range(common.CONCURRENCY)))

    def run() -> int:
        asyncio.run(job())
        return sum(1 for _ in open(work / "rows.jsonl"))

    return run


if __name__ == "__main__":
    common.main(run=prepare)
