"""When rounds over campaigns are due: every six hours, the organisations spread over some minutes."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Final
from uuid import UUID

import structlog
from sqlalchemy import text

from mcsync.core.jobs import CAMPAIGN_STATS, Due, tick
from mcsync.core.resources import Resources
from mcsync.features.campaigns import repository

_log = structlog.get_logger(__name__)

EVERY_HOURS = 6
"""``mailchimp-campaign-stats-refresh`` is due at 00:00, 06:00, 12:00 and 18:00 UTC."""
DUE: Final = (Due("mcsync_due_campaigns", CAMPAIGN_STATS),)
"""Every round that is due and that nobody holds."""


def last_due(now: datetime) -> datetime:
    """The latest tick at or before ``now``."""
    at = now.astimezone(UTC)
    return at.replace(hour=at.hour - at.hour % EVERY_HOURS, minute=0, second=0, microsecond=0)


def delay(org_id: UUID, spread: int) -> float:
    """How many seconds after a tick an organisation's round begins: always the same for one."""
    return int.from_bytes(org_id.bytes[-4:]) / 2**32 * spread


async def schedule(resources: Resources) -> int:
    """``mailchimp-campaign-stats-refresh``: makes a round due for each connected organisation.

    Does nothing where the latest tick was already served. Answers how many rounds were made due.
    """
    due = last_due(resources.clock())
    never = due - timedelta(hours=EVERY_HOURS)
    async with tick(resources.db, CAMPAIGN_STATS, due, served_before=never) as session:
        if session is None:
            return 0
        organisations = await session.execute(
            text("select * from mcsync_connected_organisation_ids()")
        )
        armed = 0
        for org_id in organisations.scalars():
            async with resources.db.transaction(org_id) as arming:
                armed += await repository.arm(
                    arming, due, delay(org_id, resources.settings.campaign_spread_seconds)
                )
    _log.info("campaign_refresh_due", rounds=armed)
    return armed
