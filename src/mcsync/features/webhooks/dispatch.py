"""Which posts, webhooks and pulls are due, for the dispatcher (T A3)."""

from __future__ import annotations

from typing import Final

from mcsync.core.jobs import AUDIENCE_PULL, WEBHOOK, WEBHOOKS, Due, ring_due
from mcsync.core.resources import Resources
from mcsync.features.webhooks import repository
from mcsync.features.webhooks.polling import interval

DUE: Final = (Due("mcsync_due_webhook_events", WEBHOOK),)
"""Every audience whose inbox is not empty."""
_CHECKS: Final = Due("mcsync_due_webhook_checks", WEBHOOKS)
_PULLS: Final = Due("mcsync_due_audience_pulls", AUDIENCE_PULL)


_CHANGED: Final = Due("mcsync_changed_webhooks", WEBHOOKS)


async def ring_checks(resources: Resources) -> int:
    """Rings for webhooks to be registered or looked after, and for pulls between runs."""
    looks = [_CHECKS, _CHANGED] if resources.settings.public_url else []
    if interval(resources.settings):
        looks.append(_PULLS)
    return await ring_due(resources.db, resources.jobs, *looks)


async def ring_elsewhere(resources: Resources) -> int:
    """For the start of a worker: webhooks last looked at with another public URL are looked at now.

    Not again and again: while processes of two settings run beside each other, they would change every
    webhook to and fro. Answers for how many organisations was rung. Harmless when done twice.
    """
    url = resources.settings.public_url
    async with resources.db.system() as session:
        found = await repository.elsewhere(session, url)
    for org_id in found:
        async with resources.db.transaction(org_id) as session:
            await repository.ask_elsewhere(session, url)
        await resources.jobs.ring(WEBHOOKS, org_id, org_id)
    return len(found)
