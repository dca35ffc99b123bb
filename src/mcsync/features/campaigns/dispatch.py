"""When rounds over campaigns are due: every six hours, the organisations spread over some minutes."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from uuid import UUID

import structlog
from sqlalchemy import text

from mcsync.core.jobs import CAMPAIGN_STATS
from mcsync.core.resources import Resources
from mcsync.features.campaigns import repository

_log = structlog.get_logger(__name__)

EVERY_HOURS = 6
"""``mailchimp-campaign-stats-refresh`` is due at 00:00, 06:00, 12:00 and 18:00 UTC."""
_MOST = 100


async def ring_due(resources: Resources) -> int:
    """Rings for every round that is due and that nobody holds. Answers how many."""
    async with resources.db.system() as session:
        due = (
            await session.execute(
                text("select * from mcsync_due_campaigns(:most)"), {"most": _MOST}
            )
        ).all()
    for round_ in due:
        await resources.jobs.ring(CAMPAIGN_STATS, round_.org_id, round_.org_id, epoch=round_.epoch)
    return len(due)


def last_due(now: datetime) -> datetime:
    """The latest tick at or before ``now``."""
    at = now.astimezone(UTC)
    return at.replace(hour=at.hour - at.hour % EVERY_HOURS, minute=0, second=0, microsecond=0)


def delay(org_id: UUID, spread: int) -> float:
    """How many seconds after a tick an organisation's round begins: always the same for one."""
    return int.from_bytes(org_id.bytes[-4:]) / 2**32 * spread


async def schedule(resources: Resources) -> int:
    """``mailchimp-campaign-stats-refresh``: makes a round due for each connected organisation.

    Does nothing where the latest tick was already served; makes up one that was missed while no worker
    was running. One process at a time (the row is locked). Answers how many rounds were made due.
    """
    due = last_due(resources.clock())
    async with resources.db.system() as tick:
        await tick.execute(
            text(
                """insert into job_ticks (job, due_at) values (:job, :before)
                   on conflict (job) do nothing"""
            ),
            {"job": CAMPAIGN_STATS, "before": due - timedelta(hours=EVERY_HOURS)},
        )
        served = await tick.scalar(
            text("select due_at from job_ticks where job = :job for update skip locked"),
            {"job": CAMPAIGN_STATS},
        )
        if served is None or served >= due:
            return 0
        organisations = list(
            (
                await tick.execute(text("select * from mcsync_connected_organisation_ids()"))
            ).scalars()
        )
        armed = 0
        for org_id in organisations:
            async with resources.db.transaction(org_id) as session:
                armed += await repository.arm(
                    session, due, delay(org_id, resources.settings.campaign_spread_seconds)
                )
        await tick.execute(
            text("update job_ticks set due_at = :due where job = :job"),
            {"job": CAMPAIGN_STATS, "due": due},
        )
    _log.info("campaign_refresh_due", rounds=armed)
    return armed
