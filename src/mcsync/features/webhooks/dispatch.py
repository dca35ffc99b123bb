"""Rings for posts, webhooks and pulls that are due (T A3). Safe in any number of processes."""

from __future__ import annotations

from typing import Final

from sqlalchemy import text

from mcsync.core.jobs import AUDIENCE_PULL, WEBHOOK, WEBHOOKS
from mcsync.core.resources import Resources
from mcsync.features.webhooks.polling import interval

_MOST: Final = 100


async def ring_due(resources: Resources) -> int:
    """Rings for every audience whose inbox is not empty. Answers how many."""
    async with resources.db.system() as session:
        due = (
            await session.execute(
                text("select * from mcsync_due_webhook_events(:most)"), {"most": _MOST}
            )
        ).all()
    for one in due:
        await resources.jobs.ring(WEBHOOK, one.audience_id, one.org_id)
    return len(due)


async def ring_checks(resources: Resources) -> int:
    """Rings for webhooks to be registered or looked after, and for pulls between runs."""
    rung = 0
    async with resources.db.system() as session:
        organisations = []
        if resources.settings.public_url:
            found = await session.execute(
                text("select * from mcsync_due_webhook_checks(:most)"), {"most": _MOST}
            )
            organisations = list(found.scalars())
        pulls = []
        if interval(resources.settings):
            pulls = list(
                await session.execute(
                    text("select * from mcsync_due_audience_pulls(:most)"), {"most": _MOST}
                )
            )
    for org_id in organisations:
        await resources.jobs.ring(WEBHOOKS, org_id, org_id)
        rung += 1
    for one in pulls:
        await resources.jobs.ring(AUDIENCE_PULL, one.audience_id, one.org_id)
        rung += 1
    return rung
