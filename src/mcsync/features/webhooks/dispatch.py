"""Which posts, webhooks and pulls are due, for the dispatcher (T A3)."""

from __future__ import annotations

from typing import Final

from mcsync.core.jobs import AUDIENCE_PULL, WEBHOOK, WEBHOOKS, Due, ring_due
from mcsync.core.resources import Resources
from mcsync.features.webhooks.polling import interval

DUE: Final = (Due("mcsync_due_webhook_events", WEBHOOK),)
"""Every audience whose inbox is not empty."""
_CHECKS: Final = Due("mcsync_due_webhook_checks", WEBHOOKS)
_PULLS: Final = Due("mcsync_due_audience_pulls", AUDIENCE_PULL)


async def ring_checks(resources: Resources) -> int:
    """Rings for webhooks to be registered or looked after, and for pulls between runs."""
    looks = [_CHECKS] if resources.settings.public_url else []
    if interval(resources.settings):
        looks.append(_PULLS)
    return await ring_due(resources.db, resources.jobs, *looks)
