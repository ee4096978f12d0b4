"""A run in a process of its own, to be killed: python -m tests.kill_me URL OUT TASKS"""

import sys

from tests import tasks
from workbench import llm, runner
from workbench.runner import Options

CONCURRENCY, SHARD = 8, 16


def go(url, out, count):
    client = llm.OpenAI(url, "test-model")
    return runner.run(
        tasks.make,
        tasks.tasks(count),
        client=client,
        out=out,
        options=Options(concurrency=CONCURRENCY, shard_tasks=SHARD),
    )


if __name__ == "__main__":
    try:
        go(sys.argv[1], sys.argv[2], int(sys.argv[3]))
    except KeyboardInterrupt as stopped:
        print(stopped)
        sys.exit(130)
