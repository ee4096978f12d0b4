"""workbench: the rag_qa recipe through the runner, with a ledger, its own prompt, parser and evidence check.

Three jobs. `run`: `rows` questions for `rows` distinct passages, into a ledger and a run folder. `replay`: the same
again from that ledger into a new folder, in a new process; no request is sent. `planned`: a plan of `rows` tasks
that a budget of 2,000 requests stops, to see what memory a long plan takes; its `rows` is what was made.

No unanswerable controls and no hard negatives: both are work of the recipe that the other tools do not do here.
"""

from pathlib import Path

from tests.bench.peers import common
from workbench import llm, runner
from workbench.corpus import Chunk, Corpus
from workbench.recipes import rag_qa
from workbench.records import Passage, Span

PLAIN = rag_qa.Mix(unanswerable=0, negatives=0)
OPTIONS = runner.Options(concurrency=common.CONCURRENCY, progress=False)
PLANNED_PASSAGES = 1_000
PLANNED_REQUESTS = 2_000


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
    plan = rag_qa.plan(corpus(PLANNED_PASSAGES), per_chunk=rows // PLANNED_PASSAGES, mix=PLAIN)
    assert plan.total == rows

    def run() -> int:
        budget, ledger = llm.Budget(requests=PLANNED_REQUESTS), client(base_url, work)
        result = runner.run(rag_qa.make, plan, client=ledger, out=work / "out", budget=budget, options=OPTIONS)
        return result.record_count

    return run


if __name__ == "__main__":
    common.main(run=into("out"), replay=into("replay"), planned=planned)
