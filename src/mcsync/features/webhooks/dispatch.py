"""Rings for posts, webhooks and pulls that are due (T A3). Safe in any number of processes."""

from __future__ import annotations

from typing import Final

from mcsync.core import jobs
from mcsync.core.jobs import AUDIENCE_PULL, WEBHOOK, WEBHOOKS, Due
from mcsync.core.resources import Resources
from mcsync.features.webhooks.polling import interval

_INBOX: Final = Due("mcsync_due_webhook_events", WEBHOOK)
_CHECKS: Final = Due("mcsync_due_webhook_checks", WEBHOOKS)
_PULLS: Final = Due("mcsync_due_audience_pulls", AUDIENCE_PULL)


async def ring_due(resources: Resources) -> int:
    """Rings for every audience whose inbox is not empty. Answers how many."""
    return await jobs.ring_due(resources.db, resources.jobs, _INBOX)


async def ring_checks(resources: Resources) -> int:
    """Rings for webhooks to be registered or looked after, and for pulls between runs."""
    looks = [_CHECKS] if resources.settings.public_url else []
    if interval(resources.settings):
        looks.append(_PULLS)
    return await jobs.ring_due(resources.db, resources.jobs, *looks)
