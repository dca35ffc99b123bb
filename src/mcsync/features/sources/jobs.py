"""The ARQ function: thin, called with ids only, harmless when called twice."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, Final
from uuid import UUID

from mcsync.core.resources import Resources
from mcsync.features.sources import execute, pulls

MAX_PULLS: Final = 4
"""Pulls that one worker works on at a time."""
_JOB_SECONDS: Final = 480.0
"""ARQ ends jobs after ten minutes, a pull may take longer: it goes on without its job, under its lease."""

Pulled = Callable[[Resources, UUID], Awaitable[None]]


class Pulling:
    """The pulls that a worker has under way. ``pulled``: told when an organisation has none left."""

    def __init__(self, pulled: Pulled) -> None:
        self.room = asyncio.Semaphore(MAX_PULLS)
        self.tasks: set[asyncio.Task[None]] = set()
        self.pulled = pulled

    async def drain(self) -> None:
        """Waits for pulls that outlived their jobs; they see that the worker stops."""
        await asyncio.gather(*self.tasks, return_exceptions=True)


async def source_pull(ctx: dict[str, Any], org_id: str, pull_id: str) -> None:
    """``source-pull``: one pull of one source. Where this worker is full, the dispatcher rings again."""
    pulling: Pulling = ctx["pulling"]
    if ctx["stopping"].is_set() or pulling.room.locked():
        return
    task = asyncio.create_task(_pull(ctx, pulling, UUID(org_id), UUID(pull_id)))
    pulling.tasks.add(task)
    task.add_done_callback(pulling.tasks.discard)
    await asyncio.wait({task}, timeout=_JOB_SECONDS)


async def _pull(ctx: dict[str, Any], pulling: Pulling, org_id: UUID, pull_id: UUID) -> None:
    resources: Resources = ctx["resources"]
    async with pulling.room:
        worked = await execute.work_on(
            resources, org_id, pull_id, owner=ctx["worker_id"], stopping=ctx["stopping"]
        )
        if not worked:
            return
        async with resources.db.transaction(org_id) as session:
            waiting = await pulls.any_live(session)
        if not waiting:
            await pulling.pulled(resources, org_id)
