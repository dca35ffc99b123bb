"""The dispatcher, which is also the sweeper: finds due work in PostgreSQL and rings for it (T A3).

Safe in any number of processes. Redis may lose everything: within a second all that is due rings again.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from datetime import datetime
from typing import Any
from uuid import UUID

import structlog
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from mcsync.core.auth import Actor
from mcsync.core.jobs import ORDER, SCHEDULED_SYNC, SEGMENT_SYNC, last_due
from mcsync.core.resources import Resources
from mcsync.features import audit
from mcsync.features.audit import AuditAction
from mcsync.features.sync import runs

_log = structlog.get_logger(__name__)

Before = Callable[[Resources, AsyncSession, datetime], Awaitable[datetime | None]]
"""What an organisation does before its nightly sync; answers how long the sync waits for it, if at all."""
_MOST = 100


async def ring_due(resources: Resources) -> int:
    """Rings for every run and order that is due and that nobody holds. Answers how many."""
    async with resources.db.system() as session:
        due_runs = (
            await session.execute(text("select * from mcsync_due_runs(:most)"), {"most": _MOST})
        ).all()
        due_orders = (
            await session.execute(text("select * from mcsync_due_orders(:most)"), {"most": _MOST})
        ).all()
    for order in due_orders:
        await resources.jobs.ring(ORDER, order.audience_id, order.org_id)
    for run in due_runs:
        await resources.jobs.ring(SEGMENT_SYNC, run.run_id, run.org_id, epoch=run.epoch)
    return len(due_runs) + len(due_orders)


async def schedule(resources: Resources, before: Before | None = None) -> int:
    """``mailchimp-scheduled-sync``: one run for every live segment of every connected organisation.

    With ``before``, an organisation's runs wait as long as that says, or until :func:`release_waiting`.

    Does nothing where the latest 05:00 UTC was already served; makes up one that was missed while no
    worker was running. One process at a time (the row is locked). Answers how many runs were made.
    """
    due = last_due(resources.clock())
    async with resources.db.system() as tick:
        await tick.execute(
            text(
                """insert into job_ticks (job, due_at) values (:job, :due)
                   on conflict (job) do nothing"""
            ),
            {"job": SCHEDULED_SYNC, "due": due},
        )
        served = await tick.scalar(
            text("select due_at from job_ticks where job = :job for update skip locked"),
            {"job": SCHEDULED_SYNC},
        )
        if served is None or served >= due:
            return 0
        organisations = (
            await tick.execute(text("select * from mcsync_connected_organisation_ids()"))
        ).scalars()
        made = 0
        for org_id in organisations:
            made += await _schedule_one(resources, org_id, due, before)
        await tick.execute(
            text("update job_ticks set due_at = :due where job = :job"),
            {"job": SCHEDULED_SYNC, "due": due},
        )
    _log.info("scheduled_sync", runs=made)
    return made


async def _schedule_one(
    resources: Resources, org_id: UUID, due: datetime, before: Before | None
) -> int:
    actor = Actor.system(org_id, SCHEDULED_SYNC)
    made = 0
    async with resources.db.transaction(org_id) as session:
        not_before = await before(resources, session, due) if before else None
        for segment in await _segments(session):
            run_id, new = await runs.create(
                session, segment_id=segment.id, audience_id=segment.audience_id, trigger="schedule",
                not_before=not_before,
            )  # fmt: skip
            if new:
                made += 1
                audit.record(
                    session, actor, AuditAction.SYNC_START, entity="run", entity_id=run_id,
                    diff={"trigger": "schedule"},
                )  # fmt: skip
    return made


async def release_waiting(resources: Resources, org_id: UUID) -> None:
    """What the organisation's nightly runs waited for is done: they may begin."""
    async with resources.db.transaction(org_id) as session:
        await session.execute(
            text(
                """update sync_runs set next_attempt_at = clock_timestamp()
                   where org_id = :org and status = 'queued' and trigger = 'schedule'
                     and next_attempt_at > clock_timestamp()"""
            ),
            {"org": org_id},
        )


async def _segments(session: AsyncSession) -> list[Any]:
    rows = await session.execute(
        text(
            "select id, audience_id from contact_segments where soft_deleted_at is null order by id"
        )
    )
    return list(rows.all())
