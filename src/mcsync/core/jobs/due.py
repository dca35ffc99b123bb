"""Finding due work in PostgreSQL and ringing for it; serving what a clock makes due (T A3).

Safe in any number of processes. Redis may lose everything: within a second all that is due rings again.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from mcsync.core.db import Database
from mcsync.core.jobs.queue import JobQueue

_MOST: Final = 100


@dataclass(frozen=True, slots=True)
class Due:
    """A look-up of due rows that nobody holds, and the job to ring for each.

    ``look_up`` is a function of the database that takes how many at most. Its first column is what the
    job is about; ``org_id`` (without it, the first column is the organisation) and ``epoch`` may follow.
    """

    look_up: str
    kind: str


async def ring_due(db: Database, jobs: JobQueue, *looks: Due) -> int:
    """Rings for every row that is due; answers how many."""
    found = []
    async with db.system(vital=True) as session:
        for due in looks:
            rows = await session.execute(
                text(f"select * from {due.look_up}(:most)"), {"most": _MOST}
            )
            found += [(due.kind, row) for row in rows]
    for kind, row in found:
        named = row._mapping  # noqa: SLF001 - SQLAlchemy's public name
        org_id = named.get("org_id", row[0])
        await jobs.ring(kind, row[0], org_id, epoch=named.get("epoch", 0))
    return len(found)


@asynccontextmanager
async def tick(
    db: Database, job: str, due: datetime, *, served_before: datetime | None = None
) -> AsyncIterator[AsyncSession | None]:
    """The work that a clock made due at ``due``: a session to do it in, or None where it was served.

    One process at a time (the job's row is locked); what was missed while no worker ran is made up for.
    It counts as served when the block ends well. ``served_before``: what a database that never saw the
    job takes for served, by default ``due`` itself.
    """
    async with db.system() as session:
        await session.execute(
            text(
                "insert into job_ticks (job, due_at) values (:job, :due) on conflict (job) do nothing"
            ),
            {"job": job, "due": served_before or due},
        )
        served = await session.scalar(
            text("select due_at from job_ticks where job = :job for update skip locked"),
            {"job": job},
        )
        if served is None or served >= due:
            yield None
            return
        yield session
        await session.execute(
            text("update job_ticks set due_at = :due where job = :job"), {"job": job, "due": due}
        )
