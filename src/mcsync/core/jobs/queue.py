"""Rings a worker awake. The row in PostgreSQL is the outbox: a lost ring only costs latency."""

from __future__ import annotations

import asyncio
import contextlib
import random
import time
from collections.abc import Callable
from typing import Final
from uuid import UUID

import orjson
import structlog
from arq.connections import ArqRedis
from redis.asyncio.connection import BlockingConnectionPool
from redis.exceptions import RedisError

QUEUE: Final = "mcsync"
SEGMENT_SYNC: Final = "mailchimp-segment-sync"
ORDER: Final = "mailchimp-order"
SCHEDULED_SYNC: Final = "mailchimp-scheduled-sync"
WEBHOOK: Final = "mailchimp-webhook"
WEBHOOKS: Final = "mailchimp-webhooks"
AUDIENCE_PULL: Final = "mailchimp-audience-pull"
ERASURE: Final = "gdpr-erasure"
SOURCE_PULL: Final = "source-pull"
CAMPAIGN_STATS: Final = "mailchimp-campaign-stats-refresh"
FORM_POST: Final = "mailchimp-form-post"
TRANSACTIONAL_SEND: Final = "mailchimp-transactional-send"
TRANSACTIONAL_OUTCOMES: Final = "mailchimp-transactional-outcomes"

_EXPIRES_SECONDS: Final = 60
"""A ring nobody heard for so long is void: the dispatcher has rung again meanwhile."""
_HEARD_SECONDS: Final = 15
"""So long one ring stands for all others about the same row and epoch."""
_TIMEOUT_SECONDS: Final = 1.0
_PROBE_SECONDS: Final = 1.0
"""After a failure nobody rings until Redis answers again, which is asked this often beside the requests: none of
them may wait for a dead Redis."""

_PROBE_KEY: Final = "mcsync:probe"
REDIS_ERRORS: Final = (RedisError, OSError, TimeoutError, RuntimeError)
"""What calls to Redis raise while it is away; uvloop says ``RuntimeError`` of a connection closed meanwhile."""

_log = structlog.get_logger(__name__)


def dump(value: object) -> bytes:
    """Serialises a job. JSON, not pickle: who can write to Redis must not execute code in workers."""
    return orjson.dumps(value)


def load(data: bytes) -> object:
    """Reads what :func:`dump` wrote."""
    return orjson.loads(data)


class JobQueue:
    """The bell. Connects when first rung; never raises."""

    def __init__(self, redis_url: str) -> None:
        pool = BlockingConnectionPool.from_url(
            redis_url,
            max_connections=20,
            timeout=_TIMEOUT_SECONDS,
            socket_connect_timeout=_TIMEOUT_SECONDS,
            socket_timeout=_TIMEOUT_SECONDS,
        )
        self._redis = ArqRedis(
            pool,
            job_serializer=dump,
            job_deserializer=load,  # type: ignore[arg-type]
            default_queue_name=QUEUE,
        )
        self._away: asyncio.Task[None] | None = None
        self._start_here: Callable[..., object] | None = None
        self._is_heard: Callable[[], bool] = _always

    def start_here(self, start: Callable[..., object], *, is_heard: Callable[[], bool]) -> None:
        """For workers: what cannot be rung, or not be heard in this process, starts here instead.

        ``start(kind, org_id, id)`` starts a job, which takes the row only where no other process holds it.
        """
        self._start_here, self._is_heard = start, is_heard

    async def ring(
        self,
        kind: str,
        id: UUID,  # noqa: A002 - the name of the column
        org_id: UUID,
        *,
        epoch: int = 0,
        at_once: bool = False,
    ) -> None:
        """Asks for job ``kind`` about the row ``id`` of an organisation; best effort.

        One ring a row and epoch is kept at a time, for some seconds: a worker that died between hearing it
        and claiming the row would else be waited for. ``at_once``: for one second only, since a job that
        has just found nothing more to do is still there. The job function gets ``(ctx, org_id, id)`` as
        text.
        """
        rung = self._away is None and await self._rung(kind, id, org_id, epoch, at_once)
        if self._start_here is not None and not (rung and self._is_heard()):
            self._start_here(kind, str(org_id), str(id))

    async def _rung(self, kind: str, id: UUID, org_id: UUID, epoch: int, at_once: bool) -> bool:  # noqa: A002
        heard = f"now:{int(time.time())}" if at_once else str(int(time.time() / _HEARD_SECONDS))
        try:
            await self._redis.enqueue_job(
                kind,
                str(org_id),
                str(id),
                _job_id=f"{kind}:{id}:{epoch}:{heard}",
                _expires=_EXPIRES_SECONDS,
            )
        except REDIS_ERRORS as error:
            if self._away is None:
                _log.warning("bell_not_rung", error=type(error).__name__)
                self._away = asyncio.create_task(self._until_it_answers())
            return False
        return True

    async def _until_it_answers(self) -> None:
        """Writes a little: Redis may answer and yet take no rings (loading, a replica, its memory full)."""
        began = time.monotonic()
        while True:
            await asyncio.sleep(_PROBE_SECONDS * (0.5 + random.random()))  # noqa: S311
            with contextlib.suppress(*REDIS_ERRORS):
                await self._redis.set(_PROBE_KEY, b"1", px=1000)
                break
        self._away = None
        _log.info("bell_rung_again", seconds=round(time.monotonic() - began, 1))

    async def close(self) -> None:
        """Closes the connections."""
        if self._away is not None:
            self._away.cancel()
            await asyncio.gather(self._away, return_exceptions=True)
        await self._redis.aclose(close_connection_pool=True)


def _always() -> bool:
    return True
