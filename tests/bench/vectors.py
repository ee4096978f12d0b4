"""`python -m tests.bench.vectors`: how long 100,000 vectors of 384 numbers take to be searched in SQL, beside numpy.

Times are medians of 9, in seconds; the first query of a process is among them."""

import statistics
import time
from collections.abc import Callable

import numpy as np

from workbench import store

ROWS, SIZE, TIMES = 100_000, 384, 9
COSINE = "SELECT id, array_cosine_similarity(vector, $to::FLOAT[384]) AS s FROM v ORDER BY s DESC LIMIT 10"


def main() -> None:
    array = np.random.default_rng(0).standard_normal((ROWS, SIZE), dtype=np.float32)
    array /= np.linalg.norm(array, axis=1, keepdims=True)
    ids, wanted = [f"{at:024x}" for at in range(ROWS)], array[7]
    table = store.vectors(ids, array)
    for name, work in {
        "store.vectors(ids, array)": lambda: store.vectors(ids, array),
        "store.query(array_cosine_similarity)": lambda: store.query(COSINE, {"to": wanted}, v=table),
        "store.nearest(table, vector)": lambda: store.nearest(table, wanted),
        "numpy, argsort(array @ vector)": lambda: np.argsort(array @ wanted)[-10:],
    }.items():
        times = seconds(work)
        print(f"{name:40}{statistics.median(times):7.3f}   ({min(times):.3f} to {max(times):.3f})")


def seconds(work: Callable[[], object]) -> list[float]:
    found = []
    for _ in range(TIMES):
        started = time.perf_counter()
        work()
        found.append(time.perf_counter() - started)
    return found


if __name__ == "__main__":
    main()
