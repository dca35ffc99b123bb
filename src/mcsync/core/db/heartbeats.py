"""The heartbeats of workers: written by each worker for itself, read by whoever asks who works."""

from __future__ import annotations

import os
import socket
import time
from dataclasses import dataclass
from typing import Final

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from mcsync import __version__

BEAT_SECONDS: Final = 5.0
"""How often a worker writes its heartbeat."""
SILENT_SECONDS: Final = 3 * BEAT_SECONDS
"""A worker whose heartbeat is older than this stands still: killed, suspended, or cut off."""

_BEAT = text("""
insert into worker_heartbeats (worker_id, host, pid, version, started_at, seen_at, dispatch_seconds,
                               idle_seconds, jobs, clock_seconds)
values (:id, :host, :pid, :version, now(), now(), :dispatch, :idle, :jobs,
        :clock - extract(epoch from clock_timestamp()))
on conflict (worker_id) do update
set seen_at = excluded.seen_at, dispatch_seconds = excluded.dispatch_seconds,
    idle_seconds = excluded.idle_seconds, jobs = excluded.jobs, clock_seconds = excluded.clock_seconds
""")

_SEEN = text("""
select worker_id, host, pid, version, jobs, clock_seconds,
       extract(epoch from clock_timestamp() - seen_at)::float8 as silent_seconds,
       extract(epoch from clock_timestamp() - seen_at)::float8 + dispatch_seconds as dispatch_seconds,
       extract(epoch from clock_timestamp() - seen_at)::float8 + idle_seconds as idle_seconds
from worker_heartbeats order by started_at, worker_id
""")


@dataclass(frozen=True, slots=True)
class Heartbeat:
    """One worker, as it last reported itself. All times are seconds before now, by PostgreSQL's clock.

    ``dispatch_seconds``: since its dispatcher looked for due work; ``idle_seconds``: since it began a job;
    ``clock_seconds``: by how much its clock is ahead. None where the worker is of an older version.
    """

    worker_id: str
    host: str
    pid: int | None
    version: str
    jobs: int | None
    clock_seconds: float | None
    silent_seconds: float
    dispatch_seconds: float | None
    idle_seconds: float | None

    @property
    def silent(self) -> bool:
        """Whether it has missed its beats."""
        return self.silent_seconds > SILENT_SECONDS


async def beat(
    session: AsyncSession, worker_id: str, *, dispatch: float, idle: float, jobs: int
) -> None:
    """Writes the worker's heartbeat; forgets workers that have been silent for an hour."""
    await session.connection()  # which may have to be waited for, before the clock is read
    await session.execute(
        _BEAT,
        {
            "id": worker_id, "host": socket.gethostname(), "pid": os.getpid(), "version": __version__,
            "dispatch": dispatch, "idle": idle, "jobs": jobs, "clock": time.time(),
        },
    )  # fmt: skip
    await session.execute(
        text("delete from worker_heartbeats where seen_at < now() - interval '1 hour'")
    )


async def end(session: AsyncSession, worker_id: str) -> None:
    """Takes a worker out that stopped as it should."""
    await session.execute(
        text("delete from worker_heartbeats where worker_id = :id"), {"id": worker_id}
    )


async def seen(session: AsyncSession) -> list[Heartbeat]:
    """Every worker that reported itself within the last hour and did not stop as it should."""
    return [Heartbeat(**row._mapping) for row in await session.execute(_SEEN)]  # noqa: SLF001 - SQLAlchemy's public name
