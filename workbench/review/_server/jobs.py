"""Argilla's background jobs without Redis: a queue in this process's memory, a thread that works it off, and one that puts
back what waits for another try.

They are few and short: the status of records after a change of how many answers are asked for, and webhooks. What was
queued when the process ends is lost with it, as it is with a Redis that keeps nothing."""

import logging
import threading
import time

import fakeredis
import redis

_SECONDS_BETWEEN = 1.0  # looks for jobs whose time to be tried again has come


def install() -> None:
    """Make redis.from_url give the queue in memory. To be called before argilla_server is imported, which connects."""
    server = fakeredis.FakeServer()
    redis.from_url = lambda *_, **__: fakeredis.FakeStrictRedis(server=server)


def start() -> None:
    """Start both threads; they end with the process."""
    threading.Thread(target=_work, name="jobs", daemon=True).start()
    threading.Thread(target=_try_again, name="jobs to try again", daemon=True).start()


def _work() -> None:
    from argilla_server.jobs.queues import DEFAULT_QUEUE, HIGH_QUEUE, REDIS_CONNECTION
    from rq import SimpleWorker
    from rq.timeouts import TimerDeathPenalty

    class ThreadWorker(SimpleWorker):
        death_penalty_class = TimerDeathPenalty  # the usual one is a signal, which only the main thread may wait for

        def _install_signal_handlers(self) -> None:
            pass

    ThreadWorker([HIGH_QUEUE, DEFAULT_QUEUE], connection=REDIS_CONNECTION).work(logging_level=logging.WARNING)


def _try_again() -> None:
    from argilla_server.jobs.queues import DEFAULT_QUEUE, HIGH_QUEUE, REDIS_CONNECTION
    from rq.scheduler import RQScheduler

    scheduler = RQScheduler([HIGH_QUEUE, DEFAULT_QUEUE], connection=REDIS_CONNECTION)
    scheduler.acquire_locks()
    while True:
        time.sleep(_SECONDS_BETWEEN)
        scheduler.enqueue_scheduled_jobs()
