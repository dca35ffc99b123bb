"""Rings a worker awake. The row in PostgreSQL is the outbox: a lost ring only costs latency."""

from __future__ import annotations

import time
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
_SILENCE_SECONDS: Final = 2.0
"""After a failure nobody rings for so long: a request must not wait for a dead Redis each time."""

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
        self._silent_until = 0.0

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
        if time.monotonic() < self._silent_until:
            return
        heard = f"now:{int(time.time())}" if at_once else str(int(time.time() / _HEARD_SECONDS))
        try:
            await self._redis.enqueue_job(
                kind,
                str(org_id),
                str(id),
                _job_id=f"{kind}:{id}:{epoch}:{heard}",
                _expires=_EXPIRES_SECONDS,
            )
        except (RedisError, OSError, TimeoutError) as error:
            self._silent_until = time.monotonic() + _SILENCE_SECONDS
            _log.warning("job_not_rung", kind=kind, id=str(id), error=type(error).__name__)

    async def close(self) -> None:
        """Closes the connections."""
        await self._redis.aclose(close_connection_pool=True)
