"""When the nightly work is due."""

from __future__ import annotations

from datetime import UTC, datetime, time, timedelta

DAILY_AT = time(5, 0, tzinfo=UTC)
"""When ``mailchimp-scheduled-sync`` is due, and before it the pulls of all sources."""


def last_due(now: datetime) -> datetime:
    """The latest moment at or before ``now`` when the nightly work was due."""
    today = datetime.combine(now.astimezone(UTC).date(), DAILY_AT)
    return today if today <= now else today - timedelta(days=1)
