"""The ARQ function: thin, called with ids only, harmless when called twice."""

from __future__ import annotations

import asyncio
from typing import Any
from uuid import UUID

from mcsync.core.resources import Resources
from mcsync.features.campaigns import dispatch, refresh


async def campaign_stats_refresh(
    ctx: dict[str, Any], org_id: str | None = None, *_: object
) -> None:
    """``mailchimp-campaign-stats-refresh``: the tick; or, rung for an organisation, its round.

    Where this worker has enough rounds under way, the dispatcher rings again.
    """
    resources: Resources = ctx["resources"]
    if org_id is None:
        await dispatch.schedule(resources)
        return
    stopping: asyncio.Event = ctx["stopping"]
    room: asyncio.Semaphore = ctx["refreshes"]
    if stopping.is_set() or room.locked():
        return
    async with room:
        await refresh.work_on(resources, UUID(org_id), stopping=stopping)
