"""What a higher floor provides to the connection's procedures."""

from __future__ import annotations

from typing import Annotated

from fastapi import Depends, Request

from mcsync.core.web.deps import ResourcesDep
from mcsync.features.connection.service import DisconnectHook


async def disconnect_hook(request: Request, resources: ResourcesDep) -> DisconnectHook:
    """What happens before a key is destroyed; ``app.py`` puts the webhooks' farewell into ``app.state``."""
    hook: DisconnectHook = await request.app.state.disconnect_hook(resources)
    return hook


DisconnectDep = Annotated[DisconnectHook, Depends(disconnect_hook)]
