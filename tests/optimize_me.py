"""A search in a process of its own, to be killed: python -m tests.optimize_me URL OUT METHOD"""

import sys

from workbench import llm, store
from workbench.prompts import examples, optimize

CONCURRENCY = 4
METHODS = {
    "bootstrap": optimize.Bootstrap(demonstrations=2, candidates=2, min_score=0.3),
    "mipro": optimize.MIPRO(demonstrations=2, candidates=3, trials=2, min_score=0.3),
    "gepa": optimize.GEPA(metric_calls=30),
}


def split(kind="rag_question"):
    documents = store.documents("data/documents")
    return getattr(examples, kind)(documents, count=30, seed=0).split(train=0.3, dev=0.3, seed=0)


def go(url, out, name):
    client = llm.OpenAI(url, "test-model")
    settings = optimize.Settings(concurrency=CONCURRENCY, progress=False)
    return optimize.search("rag/question@1", split(), client=client, out=out, method=METHODS[name], settings=settings)


if __name__ == "__main__":
    go(*sys.argv[1:])
