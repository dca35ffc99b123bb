"""Before a segment's members leave: what its last run was still doing to them comes to rest first."""

from __future__ import annotations

import asyncio

from sqlalchemy import text

from mcsync.core.resources import Resources
from mcsync.features.sync.pull import Check
from mcsync.features.sync.runs import Claimed

_LOOK_SECONDS = 0.5

# A call whose sender was stopped may still be carried out, for as long as an order would wait for it.
_UNDER_WAY = """
select exists (
    select from audience_calls c join sync_runs r on r.id = c.run_id
    where c.audience_id = :audience and r.segment_id = :segment and c.state <> 'answered'
      and c.kind not in ('unsubscribe', 'archive')
      and coalesce(c.sent_at, c.taken_at) > clock_timestamp() - make_interval(secs => :barrier))
"""

# Whom such a call carried may have got the tag, though no answer said so: then they leave like the others.
_MAY_BE_TAGGED = """
insert into segment_members (org_id, segment_id, audience_id, address_hash)
select h.org_id, :segment, :audience, h.address_hash
from sync_changes h
join audience_members m on m.audience_id = :audience and m.address_hash = h.address_hash
where h.run_id = (
        select r.id from sync_runs r
        where r.segment_id = :segment and r.audience_id = :audience and r.id <> :run
          and not r.leave and not r.dry_run and not r.immediate
        order by r.id desc limit 1)
  and h.action in ('add', 'update', 'resubscribe', 'rename')
  and (h.state = 'taken' or (h.state = 'planned' and h.tries > 0))
on conflict do nothing
"""


async def settle(resources: Resources, run: Claimed, check: Check) -> None:
    """Waits for the calls of the segment's earlier runs; whom an unanswered one carried counts as tagged."""
    params = {
        "run": run.id, "segment": run.segment_id, "audience": run.audience_id,
        "barrier": float(resources.settings.order_barrier_seconds),
    }  # fmt: skip
    while True:
        await check()
        async with resources.db.transaction(run.org_id) as session:
            if not await session.scalar(text(_UNDER_WAY), params):
                await session.execute(text(_MAY_BE_TAGGED), params)
                return
        await asyncio.sleep(_LOOK_SECONDS)
