"""What webhooks put in place of the hooks that lower floors leave open, and their own wiring."""

from __future__ import annotations

from typing import Annotated

from fastapi import Depends, Request

from mcsync.core.auth import Actor
from mcsync.core.web.deps import ResourcesDep
from mcsync.features.connection.service import DisconnectHook
from mcsync.features.webhooks import service
from mcsync.features.webhooks.intake import Intake


async def disconnect_hook(resources: ResourcesDep) -> DisconnectHook:
    """Removes the webhooks while the key is still there."""

    async def farewell(actor: Actor) -> None:
        await service.farewell(resources, actor)

    return farewell


async def intake(request: Request) -> Intake:
    """This process's door for posts; ``app.py`` makes it."""
    found = request.app.state.webhook_intake
    assert isinstance(found, Intake)
    return found


IntakeDep = Annotated[Intake, Depends(intake)]
