"""Who keeps a connection waiting for a lock, in words for the operator."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from typing import Final

from sqlalchemy import text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

_POLL_SECONDS: Final = 0.5
# A role that is no superuser sees neither age nor state of other roles' sessions, so these may be null.
_BLOCKERS: Final = text("""
    select a.pid, a.usename, a.application_name, a.state,
           extract(epoch from clock_timestamp() - a.xact_start)::bigint as seconds,
           exists (select from pg_locks l where l.pid = a.pid and l.locktype = 'advisory'
                      and l.granted and l.objid = :advisory) as migrates
      from pg_stat_activity a where a.pid = any(pg_blocking_pids(:pid)) order by a.xact_start, a.pid
""")


async def watch(
    engine: AsyncEngine, pid: int, tell: Callable[[str], None], *, advisory: int
) -> None:
    """Tells who blocks the backend ``pid``, whenever that changes, until it is cancelled.

    ``advisory``: the key of the lock that only another migrator holds. A server that has no connection
    left for this is no reason to fail: then nothing is told.
    """
    with contextlib.suppress(DBAPIError, OSError):
        async with engine.connect() as onlooker:
            await _watch(onlooker, pid, tell, advisory)


async def _watch(
    onlooker: AsyncConnection, pid: int, tell: Callable[[str], None], advisory: int
) -> None:
    last: list[int] = []
    while True:
        rows = (await onlooker.execute(_BLOCKERS, {"pid": pid, "advisory": advisory})).all()
        await onlooker.rollback()  # the onlooker must not be a long transaction itself
        seen = [row.pid for row in rows]
        if seen and seen != last:
            tell("; ".join(_words(*row) for row in rows))
        last = seen
        await asyncio.sleep(_POLL_SECONDS)


def _words(
    pid: int, role: str | None, application: str | None, state: str | None, seconds: int | None,
    migrates: bool,
) -> str:  # fmt: skip
    if migrates:
        return f"another migration, process {pid} of PostgreSQL"
    parts = [f"role {role}"] if role else []
    parts += [f"application {application}"] if application else []
    parts += [state] if state else []
    parts += [f"in a transaction for {seconds} s"] if seconds is not None else []
    return f"process {pid} of PostgreSQL ({', '.join(parts)})"
