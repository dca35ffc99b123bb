"""How ARQ is set up, for every worker. Each value has its reason (see also python-arq/arq issues).

ARQ never retries ordinary errors or time-outs and counts a SIGTERM as a try, so its own notion of
tries is switched off (``max_tries``) and the rows in PostgreSQL decide what happens again.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, Final

from arq.connections import RedisSettings
from arq.worker import Function, func

from mcsync.core.jobs.queue import QUEUE, dump, load

JOB_SECONDS: Final = 3600
"""ARQ's time-out. A job that needs longer works in slices and hands itself on before."""
MAX_TRIES: Final = 10_000
"""Deploys count as tries in ARQ; nothing may ever fail because there were many."""


def job(name: str, function: Callable[..., Awaitable[Any]]) -> Function:
    """An ARQ function under the name that users know, whose id is free again when it ends."""
    # The coroutine type of arq's stub is narrower than what it calls.
    return func(function, name=name, keep_result=0, timeout=JOB_SECONDS, max_tries=MAX_TRIES)  # type: ignore[arg-type]


def worker_options(redis_url: str) -> dict[str, Any]:
    """Keyword arguments for ``arq.worker.Worker`` (or attributes of a ``WorkerSettings`` class)."""
    redis = RedisSettings.from_dsn(redis_url)
    redis.conn_timeout = 2
    redis.conn_retries = 30
    return {
        "redis_settings": redis,
        "queue_name": QUEUE,
        "job_serializer": dump,
        "job_deserializer": load,
        "keep_result": 0,  # a kept result would swallow the next ring of the same row
        "max_tries": MAX_TRIES,
        "job_timeout": JOB_SECONDS,
        "poll_delay": 0.2,
        "health_check_interval": 15,
        "log_results": False,
        "allow_abort_jobs": False,  # a run is cancelled by its row
        "retry_jobs": True,  # a job cut off by SIGTERM is rung again
        "job_completion_wait": 10,
    }
