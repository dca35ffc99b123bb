"""The checks behind ``/health/ready``: can this process serve, and if not, which part is to blame?

*No connection is free just now* is not *the database is away*: the first passes within moments, and a
process that is taken out of the load balancer for it makes the others busier.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Final, Literal

from redis import exceptions as redis_errors
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, AsyncSession, create_async_engine
from sqlalchemy.pool import NullPool, Pool, QueuePool

from mcsync.certificates import tls_error
from mcsync.core.db import migrations as schema
from mcsync.core.db.inspection import spill
from mcsync.core.db.troubles import Trouble, disk_has_room, disk_suspected, trouble_of
from mcsync.core.resources import Resources

DatabaseState = Literal[
    "ok",
    "busy",
    "full",
    "read_only",
    "starting",
    "too_many_connections",
    "refused",
    "tls",
    "unreachable",
]
MigrationState = Literal["ok", "behind", "ahead", "unknown"]
StartState = Literal["ok", "unchecked"]
RedisState = Literal["ok", "loading", "read_only", "full", "refused", "tls", "unreachable"]

_SECONDS: Final = 1.0
_PROBE_KEY: Final = "mcsync:readiness"

_SPILLED_ROWS: Final = 8_000


@dataclass(frozen=True, slots=True)
class Found:
    """What the checks found. ``database`` and ``redis`` are ``ok`` or the word for what is wrong."""

    database: DatabaseState
    migrations: MigrationState
    redis: RedisState
    start: StartState = "ok"

    @property
    def status(self) -> Literal["ok", "degraded", "unavailable"]:
        """``unavailable`` where the process cannot serve; ``degraded`` where it can, but with trouble."""
        serves = self.database in {"ok", "busy"} and self.migrations != "behind"
        if not serves or self.start != "ok":
            return "unavailable"
        return "ok" if self.database == "ok" and self.redis == "ok" else "degraded"


async def check(resources: Resources) -> Found:
    """Asks PostgreSQL, its migrations and Redis at the same time; answers within about two seconds."""
    (database, migrations), redis = await asyncio.gather(
        check_database(resources), check_redis(resources)
    )
    start: StartState = "ok" if resources.start_checked else "unchecked"
    return Found(database, migrations, redis, start)


async def check_database(resources: Resources) -> tuple[DatabaseState, MigrationState]:
    """The state of the database and of its migrations.

    Uses a pooled connection where there is one. Where all are in use, a connection outside of the pool
    tells whether the database answers: then it is ``busy``, and requests are served as others end.
    """
    pool = resources.db.engine.sync_engine.pool
    if _has_room(pool):
        try:
            async with asyncio.timeout(_SECONDS), resources.db.engine.connect() as connection:
                return await _ask(connection)
        except Exception as error:  # noqa: BLE001 - whatever it is, it has a word
            found = _word(error)
            # Our own connections may serve on while the server has none left for one more.
            if found == "too_many_connections" and _in_use(pool):
                return "busy", "unknown"
            if _has_room(pool):
                return found, "unknown"
    return await _ask_outside(resources.db.engine)


async def _ask_outside(engine: AsyncEngine) -> tuple[DatabaseState, MigrationState]:
    """All of the pool is in use: does the database answer on another connection?"""
    apart = create_async_engine(engine.url, pool=_like(engine.sync_engine.pool))
    try:
        async with asyncio.timeout(_SECONDS), apart.connect() as connection:
            found, migrations = await _ask(connection)
    except Exception as error:  # noqa: BLE001 - whatever it is, it has a word
        found, migrations = _word(error), "unknown"
        # The server answered that it has no more connections: it lives, and so do those of the pool.
        if found == "too_many_connections":
            found = "busy"
    finally:
        await apart.dispose()
    return ("busy" if found == "ok" else found), migrations


def _like(pool: Pool) -> Pool:
    """A pool that keeps nothing and connects as the given one does."""
    return NullPool(pool._creator, dialect=pool._dialect)  # noqa: SLF001 - SQLAlchemy has no public name for either


def _has_room(pool: Pool) -> bool:
    if not isinstance(pool, QueuePool):
        return True
    return pool.checkedout() < pool.size() + max(0, pool._max_overflow)  # noqa: SLF001 - no public name


def _in_use(pool: Pool) -> bool:
    return isinstance(pool, QueuePool) and pool.checkedout() > 0


async def _ask(connection: AsyncConnection) -> tuple[DatabaseState, MigrationState]:
    read_only = await connection.scalar(text("select current_setting('transaction_read_only')"))
    session = AsyncSession(connection)
    migrations: MigrationState = schema.compared(await schema.current(session))
    if read_only == "on":
        return "read_only", migrations
    if disk_suspected():
        try:
            await spill(session, rows=_SPILLED_ROWS)
        except Exception as error:
            if trouble_of(error) is Trouble.FULL:
                return "full", migrations
            raise
        disk_has_room()
    return "ok", migrations


def _word(error: BaseException) -> DatabaseState:
    found = trouble_of(error)
    return "unreachable" if found is None else found.value


async def check_redis(resources: Resources) -> RedisState:
    """The state of Redis, found by writing one short-lived key."""
    try:
        async with asyncio.timeout(_SECONDS):
            await resources.redis.set(_PROBE_KEY, b"1", ex=60)
    except redis_errors.BusyLoadingError:
        return "loading"
    except redis_errors.ReadOnlyError:
        return "read_only"
    except redis_errors.OutOfMemoryError:
        return "full"
    except (redis_errors.AuthenticationError, redis_errors.NoPermissionError):
        return "refused"
    except redis_errors.ResponseError as error:
        return "full" if "MISCONF" in str(error) else "refused"
    except Exception as error:  # noqa: BLE001 - whatever it is, it cannot be reached
        return "unreachable" if tls_error(error) is None else "tls"
    return "ok"
