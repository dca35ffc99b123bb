"""Finds due pulls and rings for them; asks for the nightly ones. Safe in any number of processes."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import datetime, timedelta
from functools import partial
from typing import Final
from uuid import UUID

import structlog
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from mcsync.core.auth import Actor
from mcsync.core.db import after_commit, org_of
from mcsync.core.jobs import SOURCE_PULL, last_due
from mcsync.core.resources import Resources
from mcsync.features import audit
from mcsync.features.audit import AuditAction
from mcsync.features.sources import pulls

_log = structlog.get_logger(__name__)

_MOST: Final = 100


async def ring_due(resources: Resources) -> int:
    """Rings for every pull that is due and that nobody holds. Answers how many."""
    async with resources.db.system() as session:
        due = (
            await session.execute(
                text("select * from mcsync_due_source_pulls(:most)"), {"most": _MOST}
            )
        ).all()
    for row in due:
        await resources.jobs.ring(SOURCE_PULL, row.pull_id, row.org_id, epoch=row.epoch)
    return len(due)


async def schedule(resources: Resources) -> int:
    """Asks for the nightly pull of every live source, where the latest 05:00 UTC was not served yet.

    Organisations that sync are asked for already by :func:`before_sync`; this is for all others, and
    asking twice asks once. Answers how many pulls were made.
    """
    due = last_due(resources.clock())
    async with resources.db.system() as tick:
        await tick.execute(
            text(
                "insert into job_ticks (job, due_at) values (:job, :due) on conflict (job) do nothing"
            ),
            {"job": SOURCE_PULL, "due": due},
        )
        served = await tick.scalar(
            text("select due_at from job_ticks where job = :job for update skip locked"),
            {"job": SOURCE_PULL},
        )
        if served is None or served >= due:
            return 0
        made = 0
        async for org_id in _organisations(tick):
            async with resources.db.transaction(org_id) as session:
                made += await _ask(resources, session, due)
        await tick.execute(
            text("update job_ticks set due_at = :due where job = :job"),
            {"job": SOURCE_PULL, "due": due},
        )
    _log.info("scheduled_pulls", pulls=made)
    return made


async def before_sync(
    resources: Resources, session: AsyncSession, due: datetime
) -> datetime | None:
    """For the nightly sync of one organisation: asks for its pulls, and says how long to wait for them.

    None: there is nothing to wait for. Whatever becomes of the pulls, the sync begins at that time.
    """
    await _ask(resources, session, due)
    if not await pulls.any_live(session):
        return None
    return resources.clock() + timedelta(minutes=resources.settings.source_wait_minutes)


async def _ask(resources: Resources, session: AsyncSession, due: datetime) -> int:
    org_id = org_of(session)
    made = await pulls.ask_for_the_night(session, due)
    for pull_id in made:
        audit.record(
            session, Actor.system(org_id, SOURCE_PULL), AuditAction.SOURCES_PULL, entity="source_pull",
            entity_id=pull_id, diff={"trigger": "schedule"},
        )  # fmt: skip
        after_commit(session, partial(resources.jobs.ring, SOURCE_PULL, pull_id, org_id))
    return len(made)


async def _organisations(session: AsyncSession) -> AsyncIterator[UUID]:
    found = await session.execute(text("select * from mcsync_source_organisation_ids()"))
    for org_id in found.scalars().all():
        yield org_id
