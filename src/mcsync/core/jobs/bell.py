"""Listening to the bell: ARQ hears what is rung in Redis and hands it to the crew at once.

A job is over for ARQ as soon as it has begun here. So nothing of it is left in Redis while it runs, and a
Redis that goes away, or comes back as it was an hour ago, neither ends a job nor makes one begin twice.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import time
from collections.abc import Callable, Collection
from typing import Any, Final

import structlog
from arq.connections import ArqRedis
from arq.worker import Function, Worker, func
from redis.asyncio.connection import ConnectionPool

from mcsync.core.jobs.crew import Crew
from mcsync.core.jobs.queue import QUEUE, dump, load
from mcsync.core.logging import cause_of

_HAND_ON_SECONDS: Final = 5
"""ARQ's time-out for handing a ring on, which takes no time."""
_MAX_TRIES: Final = 10_000
"""Deploys count as tries in ARQ; nothing may ever fail because there were many."""
_SOCKET_SECONDS: Final = 5.0
"""No answer for this time: the connection is half-open, or Redis hangs. A new connection is tried."""
_AT_ONCE: Final = 64
"""Rings that ARQ hands on at a time."""
_FIRST_PAUSE: Final = 0.25
_LONGEST_PAUSE: Final = 5.0

_log = structlog.get_logger(__name__)


class _Listener(Worker):
    """ARQ's worker, which says when it has listened once without trouble.

    ``heard`` answers whether there is room for more; what this worker has no room for, another one hears.
    """

    def __init__(self, *, heard: Callable[[], bool], **options: Any) -> None:
        super().__init__(**options)
        self._heard = heard

    async def heart_beat(self) -> None:
        """See ARQ; called at the end of every poll."""
        await super().heart_beat()
        self.allow_pick_jobs = self._heard()


class Bell:
    """Listens until it is cancelled, through every failure of Redis.

    ``kinds``: of the jobs that may be rung for. :attr:`is_heard` says whether Redis can be listened to now;
    while it cannot, :class:`~mcsync.core.jobs.JobQueue` starts what the dispatcher finds in this process.
    """

    def __init__(self, redis_url: str, crew: Crew, kinds: Collection[str]) -> None:
        self._redis_url = redis_url
        self._crew = crew
        self._kinds = kinds
        self._lost_at: float | None = None
        self._pause = _FIRST_PAUSE
        self.is_heard = False

    async def listen(self) -> None:
        """Listens again and again; the pause between attempts grows to five seconds, with jitter."""
        while True:
            try:
                await self._listen_once()
            except Exception as error:  # noqa: BLE001 - whatever Redis does, the worker goes on
                self._lose(cause_of(error))
            await asyncio.sleep(self._pause * (0.5 + random.random() / 2))  # noqa: S311
            self._pause = min(_LONGEST_PAUSE, self._pause * 2)

    async def _listen_once(self) -> None:
        redis = ArqRedis(
            ConnectionPool.from_url(
                self._redis_url,
                socket_timeout=_SOCKET_SECONDS,
                socket_connect_timeout=_SOCKET_SECONDS,
            ),
            job_serializer=dump,
            job_deserializer=load,  # type: ignore[arg-type]
            default_queue_name=QUEUE,
        )
        listener = _Listener(
            heard=self._hear,
            functions=[self._function(kind) for kind in self._kinds],
            redis_pool=redis,
            queue_name=QUEUE,
            job_serializer=dump,
            job_deserializer=load,
            keep_result=0,  # a kept result would swallow the next ring of the same row
            max_tries=_MAX_TRIES,
            max_jobs=_AT_ONCE,
            job_timeout=_HAND_ON_SECONDS,
            poll_delay=0.2,
            health_check_interval=15,
            log_results=False,
            allow_abort_jobs=False,  # a run is cancelled by its row
            handle_signals=False,
        )
        try:
            await listener.async_run()
        finally:
            self.is_heard = False
            handing_on = list(listener.tasks.values())
            for task in handing_on:
                task.cancel()
            await asyncio.gather(*handing_on, return_exceptions=True)
            with contextlib.suppress(Exception):
                await redis.aclose(close_connection_pool=True)

    def _function(self, kind: str) -> Function:
        """An ARQ function under the name that users know, whose id is free again when it ends."""

        async def hand_on(_: dict[Any, Any], *about: str) -> None:
            self._crew.start(kind, *about)

        # The coroutine type of arq's stub is narrower than what it calls.
        return func(
            hand_on,  # type: ignore[arg-type]
            name=kind, keep_result=0, timeout=_HAND_ON_SECONDS, max_tries=_MAX_TRIES,
        )  # fmt: skip

    def _hear(self) -> bool:
        self.is_heard = True
        self._pause = _FIRST_PAUSE
        if self._lost_at is not None:
            seconds = round(time.monotonic() - self._lost_at, 1)
            self._lost_at = None
            _log.info("bell_heard_again", seconds=seconds)
        return not self._crew.is_full

    def _lose(self, cause: str) -> None:
        now = time.monotonic()
        if self._lost_at is None:
            self._lost_at = now
        _log.warning("bell_lost", error=cause, seconds=round(now - self._lost_at, 1))
