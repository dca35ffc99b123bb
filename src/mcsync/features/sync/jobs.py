"""The ARQ functions: thin, called with ids only, harmless when called twice."""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import Any, Final
from uuid import UUID

from mcsync.core.resources import Resources
from mcsync.features.sync import dispatch, execute, opt_ins, withdrawals

ORDERS_EACH: Final = 4
"""Jobs at a time about the orders of one audience: one more withdrawal does not wait behind 500 single calls."""
_OPT_INS_EACH: Final = 2
"""Of these, how many may work on opt-ins."""


async def segment_sync(ctx: dict[str, Any], org_id: str, run_id: str) -> None:
    """``mailchimp-segment-sync``: one run. Where this worker is full, the dispatcher rings again."""
    resources: Resources = ctx["resources"]
    stopping: asyncio.Event = ctx["stopping"]
    room: asyncio.Semaphore = ctx["runs"]
    if stopping.is_set() or room.locked():
        return
    async with room:
        await execute.work_on(
            resources, UUID(org_id), UUID(run_id), owner=ctx["worker_id"], stopping=stopping
        )


async def order(ctx: dict[str, Any], org_id: str, audience_id: str) -> None:
    """``mailchimp-order``: the due withdrawals of one audience, then its due opt-ins."""
    resources: Resources = ctx["resources"]
    await withdrawals.carry_out(resources, UUID(org_id), UUID(audience_id))
    # opt-ins take longer: they must not take every place that this worker has for the audience's orders
    under_way: Counter[str] = ctx.setdefault("opt_ins", Counter())
    if under_way[audience_id] >= _OPT_INS_EACH:
        return
    under_way[audience_id] += 1
    try:
        await opt_ins.carry_out(
            resources, UUID(org_id), UUID(audience_id), owner=ctx["worker_id"],
            stopping=ctx["stopping"],
        )  # fmt: skip
    finally:
        under_way[audience_id] -= 1
        if not under_way[audience_id]:
            del under_way[audience_id]


async def scheduled_sync(ctx: dict[str, Any], *_: object) -> None:
    """``mailchimp-scheduled-sync``: a run for every live segment, where the day's is still due."""
    await dispatch.schedule(ctx["resources"], ctx.get("before_sync"))
