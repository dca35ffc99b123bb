"""The dispatcher of transactional mail, also its sweeper: what is due in PostgreSQL is rung for (T A3)."""

from __future__ import annotations

from sqlalchemy import text

from mcsync.core.auth.organisations import organisation_ids
from mcsync.core.jobs import TRANSACTIONAL_OUTCOMES, TRANSACTIONAL_SEND
from mcsync.core.resources import Resources
from mcsync.features.transactional import hooks, inbox

_MOST = 100


async def ring_due(resources: Resources) -> int:
    """Rings for every message and organisation with something due. Answers how many."""
    async with resources.db.system() as session:
        messages = (
            await session.execute(text("select * from mcsync_due_messages(:most)"), {"most": _MOST})
        ).all()
        outcomes = (
            await session.scalars(text("select mcsync_due_outcomes(:most)"), {"most": _MOST})
        ).all()
    for row in messages:
        await resources.jobs.ring(TRANSACTIONAL_SEND, row.message_id, row.org_id, epoch=row.epoch)
    for org_id in outcomes:
        await resources.jobs.ring(TRANSACTIONAL_OUTCOMES, org_id, org_id)
    return len(messages) + len(outcomes)


async def tidy(resources: Resources) -> None:
    """Once an hour: forgets what is no longer needed, and looks after the webhooks."""
    for org_id in await organisation_ids(resources.db):
        async with resources.db.transaction(org_id) as session:
            await inbox.tidy(session)
    await hooks.ensure_all(resources)
