"""The jobs that one worker runs, however it heard of them: by the bell, or because nobody could ring it.

A job belongs to this process and not to Redis: it goes on while Redis is away, and what it holds in
PostgreSQL (a lease with an epoch) keeps other processes from doing the same.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from contextvars import Context
from dataclasses import dataclass
from typing import Any, Final

import structlog
from redis.exceptions import RedisError

from mcsync.core.db import is_passing
from mcsync.core.logging import cause_of

JOB_SECONDS: Final = 3600.0
"""A job that takes longer is ended. One that needs longer works in slices and hands itself on before."""

_log = structlog.get_logger(__name__)

JobFunction = Callable[..., Awaitable[Any]]


@dataclass(slots=True)
class _Same:
    """The jobs about one row: those that run, and whether somebody asked for it meanwhile."""

    running: int = 0
    again: bool = False


class Crew:
    """Runs jobs in this process, a bounded number at a time and a bounded number about the same row.

    ``functions``: by kind; each is called with ``ctx``, then what the job is about. ``most``: jobs at a time.
    ``each``: how many at a time may be about the same row, by kind (one where it is not named); whoever asks
    for one more makes the last of them run once more, so that no request is overlooked.
    """

    def __init__(
        self,
        functions: Mapping[str, JobFunction],
        ctx: dict[str, Any],
        *,
        most: int,
        each: Mapping[str, int] | None = None,
    ) -> None:
        self._functions = functions
        self._ctx = ctx
        self._most = most
        self._each = dict(each or {})
        self._same: dict[tuple[str, ...], _Same] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._closed = False

    @property
    def is_full(self) -> bool:
        """Whether no other job may begin now."""
        return len(self._tasks) >= self._most

    @property
    def running(self) -> int:
        """How many jobs are under way."""
        return len(self._tasks)

    def start(self, kind: str, *about: str) -> bool:
        """Starts a job, unless enough about the same row are under way: then one of them runs once more.

        ``about``: the job's arguments, the organisation first. False, and nothing is started, where the
        worker is full or stops: the row stays due, and the dispatcher of some worker finds it again.
        """
        key = (kind, *about)
        same = self._same.get(key)
        if self._closed:
            return False
        if same is not None and same.running >= self._each.get(kind, 1):
            same.again = True
            return True
        if self.is_full:
            return False
        if same is None:
            same = self._same[key] = _Same()
        same.running += 1
        # in a context of its own: it may be asked for from inside a request's or another job's transaction
        task = asyncio.create_task(self._work(key, same), context=Context())
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return True

    async def drain(self, *, seconds: float) -> None:
        """Starts nothing more; waits for the jobs, which see that the worker stops, and ends the rest."""
        self._closed = True
        running = list(self._tasks)
        if running:
            await asyncio.wait(running, timeout=seconds)
        for task in running:
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)

    async def _work(self, key: tuple[str, ...], same: _Same) -> None:
        try:
            while True:
                same.again = False
                await self._once(key)
                if not same.again or self._closed:
                    return
        finally:
            same.running -= 1
            if not same.running:
                del self._same[key]

    async def _once(self, key: tuple[str, ...]) -> None:
        kind, *about = key
        try:
            async with asyncio.timeout(JOB_SECONDS):
                await self._functions[kind](self._ctx, *about)
        except Exception as error:  # noqa: BLE001 - no job ends the worker
            if is_passing(error) or isinstance(error, RedisError):
                _log.warning("job_interrupted", kind=kind, error=cause_of(error))
            else:
                _log.exception("job_failed", kind=kind, about=about[-1:])
