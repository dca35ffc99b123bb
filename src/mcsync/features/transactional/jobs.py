"""The ARQ functions: thin, called with ids only, harmless when called twice."""

from __future__ import annotations

import asyncio
import time
from typing import Any, Final
from uuid import UUID

from mcsync.core.resources import Resources
from mcsync.features.transactional import handover, outcomes, repository

_SLICE_SECONDS: Final = 15.0
"""So long one job goes on with other messages of the organisation; then others have their turn."""


async def transactional_send(ctx: dict[str, Any], org_id: str, message_id: str) -> None:
    """``mailchimp-transactional-send``: one message, and others of its organisation that are due.

    Where this worker is full, the dispatcher rings again.
    """
    resources: Resources = ctx["resources"]
    stopping: asyncio.Event = ctx["stopping"]
    room: asyncio.Semaphore = ctx["mails"]
    if stopping.is_set() or room.locked():
        return
    began, org, due = time.monotonic(), UUID(org_id), UUID(message_id)
    async with room:
        while await handover.work_on(resources, org, due, owner=ctx["worker_id"]):
            if stopping.is_set() or time.monotonic() - began > _SLICE_SECONDS:
                return
            async with resources.db.transaction(org) as session:
                found = await repository.next_due(session)
            if found is None:
                return
            due = found


async def transactional_outcomes(ctx: dict[str, Any], org_id: str, _id: str) -> None:
    """``mailchimp-transactional-outcomes``: an organisation's reports, and who is due to be asked for."""
    await outcomes.work(ctx["resources"], UUID(org_id), stopping=ctx["stopping"])
