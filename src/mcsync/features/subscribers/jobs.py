"""The ARQ function: thin, called with ids only, harmless when called twice."""

from __future__ import annotations

import asyncio
from typing import Any
from uuid import UUID

from mcsync.core.resources import Resources
from mcsync.features.subscribers import forms


async def form_post(ctx: dict[str, Any], org_id: str, request_id: str) -> None:
    """``mailchimp-form-post``: one post. Where this worker has enough, the dispatcher rings again."""
    resources: Resources = ctx["resources"]
    stopping: asyncio.Event = ctx["stopping"]
    room: asyncio.Semaphore = ctx["forms"]
    if stopping.is_set() or room.locked():
        return
    async with room:
        await forms.work_on(resources, UUID(org_id), UUID(request_id))
