"""The dispatcher of runs and orders, which is also the sweeper (T A3), and the nightly sync."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from datetime import datetime
from typing import Any, Final
from uuid import UUID

import structlog
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from mcsync.core.auth import Actor
from mcsync.core.jobs import ORDER, SCHEDULED_SYNC, SEGMENT_SYNC, Due, last_due, tick
from mcsync.core.resources import Resources
from mcsync.features import audit
from mcsync.features.audit import AuditAction
from mcsync.features.sync import runs

_log = structlog.get_logger(__name__)

Before = Callable[[Resources, AsyncSession, datetime], Awaitable[datetime | None]]
"""What an organisation does before its nightly sync; answers how long the sync waits for it, if at all."""
DUE: Final = (Due("mcsync_due_orders", ORDER), Due("mcsync_due_runs", SEGMENT_SYNC))
"""Every run and order that is due and that nobody holds."""


async def schedule(resources: Resources, before: Before | None = None) -> int:
    """``mailchimp-scheduled-sync``: one run for every live segment of every connected organisation.

    With ``before``, an organisation's runs wait as long as that says, or until :func:`release_waiting`.

    Does nothing where the latest 05:00 UTC was already served. Answers how many runs were made.
    """
    due = last_due(resources.clock())
    async with tick(resources.db, SCHEDULED_SYNC, due) as session:
        if session is None:
            return 0
        organisations = (
            await session.execute(text("select * from mcsync_connected_organisation_ids()"))
        ).scalars()
        made = 0
        for org_id in organisations:
            made += await _schedule_one(resources, org_id, due, before)
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
