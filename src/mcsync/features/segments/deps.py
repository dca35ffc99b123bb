"""What a higher floor provides to the segments' procedures."""

from __future__ import annotations

from typing import Annotated

from fastapi import Depends, Request

from mcsync.core.web.deps import ResourcesDep
from mcsync.features.segments.service import LeaveHook


async def leave_hook(request: Request, resources: ResourcesDep) -> LeaveHook:
    """The hook that starts a leaving run; ``app.py`` puts sync's into ``app.state``."""
    hook: LeaveHook = await request.app.state.leave_hook(resources)
    return hook


LeaveDep = Annotated[LeaveHook, Depends(leave_hook)]
