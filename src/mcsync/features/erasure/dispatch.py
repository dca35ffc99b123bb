"""Finds due erasures in PostgreSQL and rings for them; is also the sweeper, as for runs (T A3)."""

from __future__ import annotations

from typing import Final

from sqlalchemy import text

from mcsync.core.jobs import ERASURE
from mcsync.core.resources import Resources

_MOST: Final = 100


async def ring_due(resources: Resources) -> int:
    """Rings for every erasure that is due and that nobody holds. Answers how many."""
    async with resources.db.system() as session:
        due = (
            await session.execute(text("select * from mcsync_due_erasures(:most)"), {"most": _MOST})
        ).all()
    for row in due:
        await resources.jobs.ring(ERASURE, row.erasure_id, row.org_id, epoch=row.epoch)
    return len(due)
