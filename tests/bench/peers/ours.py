"""workbench: the rag_qa recipe through the runner, with a ledger, its own prompt, parser and evidence check.

Four jobs. `run`: `rows` questions for `rows` distinct passages, into a ledger and a run folder. `replay`: the same
again from that ledger into a new folder, in a new process; no request is sent. `lookup`: answers served by the ledger
alone, without recipe or runner. `planned`: a plan of `rows` tasks that are all made, by a recipe that asks nothing, to
see what memory a long plan takes.

No unanswerable controls and no hard negatives: both are work of the recipe that the other tools do not do here.
"""

import asyncio
from pathlib import Path

from tests.bench.peers import common
from workbench import llm, runner
from workbench.corpus import Chunk, Corpus
from workbench.recipes import rag_qa
from workbench.records import Instruction, Passage, Span

PLAIN = rag_qa.Mix(unanswerable=0, negatives=0)
OPTIONS = runner.Options(concurrency=common.CONCURRENCY, progress=False)


def corpus(passages: int) -> Corpus:
    """Distinct passages, each holding the sentence that the server's answer quotes."""
    chunks, start = [], 0
    for index in range(passages):
        text = common.passage(index)
        chunks.append(Chunk(Passage(text, Span("manual", start, start + len(text))), ("Operations manual",)))
        start += len(text) + 2
    return Corpus(chunks)


def client(base_url: str, work: Path) -> llm.Ledger:
    return llm.Ledger(llm.OpenAI(base_url, common.MODEL), work / "ledger.sqlite")


def into(folder: str):
    """The job that makes one question for each passage, into a run folder of this name."""

    def prepare(rows: int, base_url: str, work: Path):
        plan = rag_qa.plan(corpus(rows), mix=PLAIN)

        def run() -> int:
            result = runner.run(rag_qa.make, plan, client=client(base_url, work), out=work / folder, options=OPTIONS)
            return result.table("QA").num_rows

        return run

    return prepare


def planned(rows: int, base_url: str, work: Path):
    async def make(task: int, client: llm.Client) -> Instruction:
        return Instruction(f"row {task}")

    plan = runner.Plan(lambda: iter(range(rows)), total=rows)

    def run() -> int:
        return runner.run(make, plan, client=client(base_url, work), out=work / "out", options=OPTIONS).record_count

    return run


def lookup(rows: int, base_url: str, work: Path):
    requests = [llm.Request(({"role": "user", "content": common.prompt(index)},)) for index in range(rows)]

    async def ask_all(ledger: llm.Ledger) -> int:
        left, answers = iter(requests), []

        async def work_through() -> None:
            for request in left:
                answers.append(await ledger.complete(request))

        await asyncio.gather(*(work_through() for _ in range(common.CONCURRENCY)))
        await ledger.client.aclose()
        return sum(answer.is_from_ledger for answer in answers)

    first = client(base_url, work)
    asyncio.run(ask_all(first))
    first.close()
    return lambda: asyncio.run(ask_all(client(base_url, work)))


if __name__ == "__main__":
    common.main(run=into("out"), replay=into("replay"), planned=planned, lookup=lookup)
