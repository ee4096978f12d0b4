"""`python -m tests.bench.argilla [RECORDS]`: how fast our Argilla starts, takes records in and finds them, and what memory it takes.

Each record has a text of about 60 words, two suggestions, a vector of 64 numbers and three metadata values; every tenth has
an answer. Times are wall clock, beside the processor's own (the server's, where there is /proc), which other work on the
machine does not lengthen; of searches, pages of 10 records, the median of 15."""

import os
import random
import statistics
import sys
import tempfile
import time
from collections.abc import Callable

import numpy as np

from tests.argilla import LABELS, Data, between, by, scope, terms
from workbench.review import server

RECORDS, TIMES, PART, SIZE = 10_000, 15, 500, 64
WORDS = [
    f"{a}{b}"
    for a in ("wren", "owl", "finch", "swift", "crane", "heron")
    for b in ("", "s", "like", "song", "wing", "egg", "nest", "land")
]


def main(count: int) -> None:
    with tempfile.TemporaryDirectory() as folder:
        server.start(folder).stop()  # the environment is there, and so is the database
        started = time.perf_counter()
        running = server.start(folder)
        seconds, pid = time.perf_counter() - started, server.status(folder).pid
        rows = [
            ("start, environment and database there", f"{seconds:.1f} s   ({cpu(pid):.1f} s of CPU)"),
            ("memory after the start", memory(folder)),
        ]
        try:
            data = Data(
                running,
                "bench",
                metadata={"cluster": "terms", "n": "integer", "score": "float"},
                vectors={"v": SIZE},
                submitted=2,
            )
            anna = data.member("anna")
            parts = list(records(data, count, anna.get("me")["id"]))
            started, before = time.perf_counter(), cpu(pid)
            for part in parts:
                data.push(part)
            seconds, busy = time.perf_counter() - started, cpu(pid) - before
            each = f"{count / seconds:.0f} records/s   ({1000 * busy / count:.1f} ms of CPU each)"
            rows.append((f"push {count:,} records in parts of {PART}", each))
            rows += [(f"search: {name}", timed(search, pid)) for name, search in searches(data, anna).items()]
            rows.append(("memory after the searches", memory(folder)))
        finally:
            running.stop()
    for name, value in rows:
        print(f"{name:52}{value}")


def records(data: Data, count: int, annotator: str):
    draw, vectors = random.Random(0), np.random.default_rng(0).normal(size=(count, SIZE)).round(4)
    for start in range(0, count, PART):
        yield [
            {
                "external_id": f"r{at}",
                "fields": {"text": " ".join(draw.choices(WORDS, k=60))},
                "metadata": {"cluster": f"c{at % 20}", "n": at, "score": draw.random()},
                "vectors": {"v": vectors[at].tolist()},
                "suggestions": [
                    {
                        "question_id": data.questions["label"],
                        "value": draw.choice(LABELS),
                        "score": draw.random(),
                        "agent": "judge",
                    },
                    {
                        "question_id": data.questions["rating"],
                        "value": draw.randrange(1, 6),
                        "score": draw.random(),
                        "agent": "judge",
                    },
                ],
                "responses": [{"user_id": annotator, "status": "submitted", "values": {"label": {"value": "yes"}}}]
                if at % 10 == 0
                else [],
            }
            for at in range(start, min(start + PART, count))
        ]


def searches(data: Data, anna: server.Server) -> dict[str, Callable[[], object]]:
    pending = terms(scope("response", property="status"), "pending")
    like = data.found(limit=1)["items"][0]["record"]["id"]
    page = lambda query=None, **more: lambda: data.found(query, limit=10, **more)
    return {
        "what is next for an annotator": page(user=anna, filters=[pending]),
        "words": page('wrensong +"owlnest finch" | heronegg'),
        "words, what is next for an annotator": page("owl*", user=anna, filters=[pending]),
        "a range of metadata": page(filters=[between(scope("metadata", "n"), 100, 5_000)]),
        "a suggested label": page(filters=[terms(scope("suggestion", "label", "value"), "yes")]),
        "sorted by the score of a suggestion": page(sort=[by(scope("suggestion", "label", "score"), "desc")]),
        "similar to a record": page({"vector": {"name": "v", "record_id": like}}),
        "progress of the dataset": lambda: data.server.get(f"datasets/{data.id}/progress"),
    }


def timed(search: Callable[[], object], pid: int) -> str:
    times = [seconds(search)]
    before = cpu(pid)
    times += [seconds(search) for _ in range(TIMES)]
    busy = (cpu(pid) - before) / TIMES
    return f"{1000 * statistics.median(times[1:]):.0f} ms   ({1000 * busy:.0f} ms of CPU; the first {1000 * times[0]:.0f} ms)"


def seconds(work: Callable[[], object]) -> float:
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def cpu(pid: int) -> float:
    """Seconds of a process on the processor, 0 where there is no /proc."""
    path = f"/proc/{pid}/stat"
    if not os.path.exists(path):
        return 0.0
    with open(path) as file:
        fields = file.read().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def memory(folder: str) -> str:
    return f"{server.status(folder).megabytes} MB"


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else RECORDS)
