"""What sync puts in place of the hooks that lower floors leave open."""

from __future__ import annotations

from functools import partial

from mcsync.core.web.deps import ResourcesDep
from mcsync.features.segments.service import LeaveHook
from mcsync.features.sync import service


async def leave_hook(resources: ResourcesDep) -> LeaveHook:
    """Ends the runs of a segment that goes, and starts the one that lets its members leave."""
    return partial(service.leave_audience, resources)
