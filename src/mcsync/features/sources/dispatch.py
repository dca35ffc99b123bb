"""Finds due pulls and rings for them; asks for the nightly ones. Safe in any number of processes."""

from __future__ import annotations

from datetime import datetime, timedelta
from functools import partial
from typing import Final

import structlog
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from mcsync.core.auth import Actor
from mcsync.core.db import after_commit, org_of
from mcsync.core.jobs import SOURCE_PULL, Due, last_due, tick
from mcsync.core.resources import Resources
from mcsync.features import audit
from mcsync.features.audit import AuditAction
from mcsync.features.sources import pulls

_log = structlog.get_logger(__name__)

DUE: Final = (Due("mcsync_due_source_pulls", SOURCE_PULL),)
"""Every pull that is due and that nobody holds."""


async def schedule(resources: Resources) -> int:
    """Asks for the nightly pull of every live source, where the latest 05:00 UTC was not served yet.

    Organisations that sync are asked for already by :func:`before_sync`; this is for all others, and
    asking twice asks once. Answers how many pulls were made.
    """
    due = last_due(resources.clock())
    async with tick(resources.db, SOURCE_PULL, due) as session:
        if session is None:
            return 0
        made = 0
        found = await session.execute(text("select * from mcsync_source_organisation_ids()"))
        for org_id in found.scalars():
            async with resources.db.transaction(org_id) as asking:
                made += await _ask(resources, asking, due)
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
