"""Poolers between mcsync and PostgreSQL: found, and those that lose prepared statements told of.

A pooler such as PgBouncer answers with a process id of its own invention, which is how it is found. In its
transaction mode each transaction may be on another session of the server. Prepared statements survive that
from PgBouncer 1.21 on, where ``max_prepared_statements`` is not 0.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Final

from asyncpg import Connection, PostgresError
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from mcsync.core.db.troubles import sqlstate_of

_SECONDS: Final = 2.0
"""How long a second session may take; a pooler that has only one would wait for ever."""
_TRIES: Final = 3
_STATEMENT_LOST: Final = ("26000", "42P05")
"""SQLSTATEs: there is no such prepared statement; there is one of this name already."""
_PID: Final = "select pg_backend_pid()"


@dataclass(frozen=True, slots=True)
class Pooler:
    """What stands between. ``shares``: sessions of the server change hands between transactions."""

    shares: bool
    keeps_statements: bool

    @property
    def problem(self) -> str | None:
        """Why the service cannot work through it, and what to do; ``None`` where it can."""
        if self.keeps_statements:
            return None
        return (
            "The pooler between mcsync and PostgreSQL loses prepared statements. Use PgBouncer 1.21 or"
            " newer with max_prepared_statements = 200, let it pool sessions, or connect to PostgreSQL"
            " itself."
        )


async def find_pooler(engine: AsyncEngine) -> Pooler | None:
    """Looks with two connections of the engine's; ``None`` where PostgreSQL itself answers.

    Raises what connecting raises.
    """
    try:
        async with engine.connect() as one:
            first = await _driver(one)
            if await first.fetchval(_PID) == first.get_server_pid():
                return None
            try:
                async with asyncio.timeout(_SECONDS), engine.connect() as other:
                    return await _examine(first, await _driver(other))
            except TimeoutError:  # it has a single session: nothing can be said
                return Pooler(shares=False, keeps_statements=True)
    except (PostgresError, DBAPIError) as error:
        if sqlstate_of(error) in _STATEMENT_LOST:  # other processes have met it before us
            return Pooler(shares=True, keeps_statements=False)
        raise


async def _driver(connection: AsyncConnection) -> Connection:
    driver = (await connection.get_raw_connection()).driver_connection
    assert isinstance(driver, Connection)
    return driver


async def _examine(first: Connection, second: Connection) -> Pooler:
    shares = False
    statement = await first.prepare(_PID)
    for _ in range(_TRIES):
        mine = await statement.fetchval()
        async with second.transaction():
            # It gets the session that was free last, so that the statement has to go to another one.
            shares = await second.fetchval(_PID) == mine or shares
            await statement.fetchval()
    return Pooler(shares=shares, keeps_statements=True)
