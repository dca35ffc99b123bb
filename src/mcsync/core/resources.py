"""What a process holds: built once, handed to services, closed at the end."""

from __future__ import annotations

import contextlib
import time
from dataclasses import dataclass, field
from typing import Final, Self

import httpx
from redis.asyncio import Redis
from redis.exceptions import RedisError
from sqlalchemy import text

from mcsync.core.clock import Clock, utc_now
from mcsync.core.crypto import HashKeys, KeyRing
from mcsync.core.db import Database, make_engine
from mcsync.core.db.hold import settle_before_network
from mcsync.core.jobs import JobQueue
from mcsync.core.rate_limit import RateLimiter
from mcsync.core.settings import Settings
from mcsync.mailchimp import RedisSlotStore, SlotLimiter, build_http

_REDIS_SECONDS: Final = 2.0
_VITAL: Final = 2
"""Connections of a worker's pool that only leases, heartbeats and the dispatcher take."""
_SINCE_KEY: Final = "mcsync:redis:since"
_CALL_SECONDS: Final = 120.0
"""Mailchimp ends every call after this time."""


PATIENCE_SECONDS: Final = 5.0
"""For processes that answer somebody; see :meth:`Resources.build`."""


@dataclass(slots=True)
class Resources:
    """The long-lived parts. Tests build one with fakes in it; nothing is made at import."""

    settings: Settings
    db: Database
    redis: Redis
    keys: KeyRing
    hash_keys: HashKeys
    http: httpx.AsyncClient
    slots: SlotLimiter
    jobs: JobQueue
    limits: RateLimiter
    clock: Clock = field(default=utc_now)
    start_checked: bool = True
    """False while the database has not answered the checks of the start: nothing may be served then."""

    @classmethod
    async def build(cls, settings: Settings, *, patience: float | None = None) -> Self:
        """Builds all parts; works while PostgreSQL and Redis are down.

        ``patience``: so many seconds calls to Mailchimp wait for a Redis that is down. A worker has
        all the time; where somebody waits for an answer, it is better to say so.

        Raises ``SettingsError`` listing everything that is missing.
        """
        settings.require_service()
        assert settings.database_url is not None
        assert settings.redis_url is not None
        db = Database(
            make_engine(
                settings.database_url.get_secret_value(),
                pool_size=settings.database_pool_size,
                overflow=settings.database_pool_overflow,
            ),
            # a worker's work waits for a connection as long as it takes; its leases must not
            most=settings.most_connections - _VITAL if patience is None else None,
        )
        redis_url = settings.redis_url.get_secret_value()
        redis: Redis = Redis.from_url(
            redis_url, socket_timeout=_REDIS_SECONDS, socket_connect_timeout=_REDIS_SECONDS
        )
        keys = KeyRing.from_settings(settings)
        memory = _MemoryOfCalls(redis, db)
        await memory.mark()
        store = RedisSlotStore(redis, recently_active=memory)
        proxy = settings.egress_proxy
        http = build_http(
            ca_file=settings.ca_file, proxy=proxy.get_secret_value() if proxy else None
        )
        http.event_hooks["request"].append(settle_before_network)
        return cls(
            settings=settings,
            db=db,
            redis=redis,
            keys=keys,
            hash_keys=HashKeys(keys, db.transaction),
            http=http,
            slots=SlotLimiter(
                store,
                bulk=settings.slots_per_account,
                live=settings.live_slots,
                patience=patience,
            ),
            jobs=JobQueue(redis_url),
            limits=RateLimiter(redis),
        )

    async def close(self) -> None:
        """Closes every connection; slots given back reach Redis first."""
        await self.slots.aclose()
        await self.http.aclose()
        await self.jobs.close()
        await self.redis.aclose()
        await self.db.close()


class _MemoryOfCalls:
    """Tells an account never seen from a Redis that lost its memory.

    Redis is marked with the time when it was first seen. If some worker, or this process, is older
    than the mark, the memory was lost while calls may have been under way; otherwise Redis knows of
    every call there can be.
    """

    def __init__(self, redis: Redis, db: Database) -> None:
        self._redis = redis
        self._db = db
        self._started = time.time()

    async def mark(self) -> None:
        """Marks a Redis that has no mark; left for later while it cannot be reached."""
        with contextlib.suppress(RedisError, OSError):
            await self._redis.set(_SINCE_KEY, repr(self._started), nx=True)

    async def __call__(self, _account: str) -> bool:
        """Whether calls to the account may be under way that Redis does not know of."""
        now = time.time()
        await self._redis.set(_SINCE_KEY, repr(now), nx=True)
        since = float(await self._redis.get(_SINCE_KEY) or now)
        if now - since > _CALL_SECONDS:
            return False
        if self._started < since:
            return True
        async with self._db.system() as session:
            alive = await session.scalar(
                text(
                    "select exists (select from worker_heartbeats "
                    "where started_at < to_timestamp(:since) "
                    "and seen_at > to_timestamp(:since - :call))"
                ),
                {"since": since, "call": _CALL_SECONDS},
            )
        return bool(alive)
