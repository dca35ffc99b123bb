"""Finds due erasures in PostgreSQL and rings for them; is also the sweeper, as for runs (T A3)."""

from __future__ import annotations

from typing import Final

from mcsync.core import jobs
from mcsync.core.jobs import ERASURE, Due
from mcsync.core.resources import Resources

_DUE: Final = Due("mcsync_due_erasures", ERASURE)


async def ring_due(resources: Resources) -> int:
    """Rings for every erasure that is due and that nobody holds. Answers how many."""
    return await jobs.ring_due(resources.db, resources.jobs, _DUE)
