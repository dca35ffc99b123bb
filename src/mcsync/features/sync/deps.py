"""What sync puts in place of the hooks that lower floors leave open."""

from __future__ import annotations

from uuid import UUID

from sqlalchemy.ext.asyncio import AsyncSession

from mcsync.core.auth import Actor
from mcsync.core.web.deps import ResourcesDep
from mcsync.features.segments.service import LeaveHook
from mcsync.features.sync import service


async def leave_hook(resources: ResourcesDep) -> LeaveHook:
    """Starts the run that lets a segment's members leave an audience."""

    async def leave(
        session: AsyncSession, segment_id: UUID, audience_id: UUID, actor: Actor
    ) -> None:
        await service.start_leave(resources, session, segment_id, audience_id, actor)

    return leave
