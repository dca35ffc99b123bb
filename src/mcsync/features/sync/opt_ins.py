"""Opt-ins reach Mailchimp within seconds too, beside whatever run is under way (``design.md`` 2).

An opt-in recorded for one person leaves an order for each audience. Its members are read again, decided
by the same rules as ever, and what there is to do becomes the one or two rows of an *immediate* run on
the slots reserved for live changes: it takes no turn, so that a bulk push does not hold it up, and needs
no guard, since it only ever adds or updates the addresses it was made for.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from uuid import UUID

import orjson
import structlog
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from mcsync.core.auth import Actor
from mcsync.core.db import look_up_by_key
from mcsync.core.errors import ConflictError
from mcsync.core.resources import Resources
from mcsync.features.audiences import mirror
from mcsync.features.audiences.spellings import settle_boxes
from mcsync.features.connection import service as connection
from mcsync.features.sync import context, decide, execute, planner, withdrawals
from mcsync.features.sync.pull import merge_and_record
from mcsync.mailchimp import (
    CredentialError,
    Lane,
    MailchimpClient,
    MailchimpError,
    Member,
    mailbox_hash,
    spellings,
    subscriber_hash,
)

_log = structlog.get_logger(__name__)

_MOST = 50
_LEASE_SECONDS = 60
_ACTIONS = ("add", "update", "resubscribe")

# While a withdrawal of the same address is on its way, or Mailchimp posted that the person left and nobody
# has read the member since, nothing is decided: it would be decided again.
_CLAIM = """
with n as materialized (
    select o.id from audience_orders o
    where o.audience_id = :audience and o.status = 'open' and o.kind = 'opt_in'
      and o.next_attempt_at <= clock_timestamp()
      and (o.lease_until is null or o.lease_until < clock_timestamp())
      and not exists (select from audience_orders w where w.audience_id = o.audience_id
                      and w.address_hash = o.address_hash and w.kind = 'withdrawal'
                      and w.status = 'open')
      and not exists (select from audience_members m where m.audience_id = o.audience_id
                      and m.address_hash = o.address_hash and m.hold_until > clock_timestamp())
    order by o.created_at limit :most for update skip locked)
update audience_orders o set lease_until = clock_timestamp() + make_interval(secs => :lease),
       attempts = attempts + 1
from n where o.id = n.id
returning o.id, o.address_hash, o.attempts, o.email
"""

# A newer opt-in has made the order new again while we worked: it stays open.
_CLOSE = """
update audience_orders o set status = 'closed', outcome = :outcome, closed_at = clock_timestamp(),
       lease_until = null
from unnest(cast(:ids as uuid[]), cast(:attempts as integer[])) as t(id, attempts)
where o.id = t.id and o.attempts = t.attempts and o.status = 'open'
"""

_LATER = """
update audience_orders set lease_until = null, last_error = :error,
       next_attempt_at = clock_timestamp() + make_interval(secs => least(300, 2 ^ least(attempts, 9)))
where id = any(cast(:ids as uuid[])) and status = 'open'
"""

_DECIDE = """
with cand as (select h as mh from unnest(cast(:hashes as uuid[])) as t(h)),
{ctes}
select mh, coalesce(feeder, holder) as contact_id, email, action, reason, unreadable
from decided
where action = any(cast(:actions as text[])) and email is not null
"""

_RUN = """
insert into sync_runs (org_id, segment_id, audience_id, trigger, immediate, status, matched, planned,
                       unreadable, warnings, started_at, push_started_at)
values (:org, :segment, :audience, 'opt_in', true, 'pushing', :matched, cast(:planned as jsonb),
        cast(:unreadable as jsonb), cast(:warnings as jsonb), now(), now())
returning id
"""

_CHANGES = """
insert into sync_changes (org_id, run_id, seq, address_hash, contact_id, email, action, reason,
                          unreadable, state)
select :org, :run, row_number() over (), mh, contact_id, email, action, reason, unreadable, 'planned'
from json_to_recordset(cast(:rows as json))
     as t(mh uuid, contact_id uuid, email text, action text, reason text,
          unreadable jsonb)
"""


@dataclass(frozen=True, slots=True)
class _Order:
    id: UUID
    address_hash: UUID
    attempts: int
    email: str

    def hashes(self) -> set[UUID]:
        """Those of the member to look for: of each spelling, where the address has two."""
        spelled = {UUID(subscriber_hash(each)) for each in spellings(self.email)}
        return spelled | {self.address_hash} if len(spelled) > 1 else {self.address_hash}


async def carry_out(
    resources: Resources, org_id: UUID, audience_id: UUID, *, owner: str, stopping: asyncio.Event
) -> int:
    """Works on the audience's due opt-ins, 50 at a time; answers how many were looked at."""
    worked = 0
    while not stopping.is_set():
        async with resources.db.transaction(org_id) as session:
            claimed = await session.execute(
                text(_CLAIM), {"audience": audience_id, "most": _MOST, "lease": _LEASE_SECONDS}
            )
            orders = [_Order(*row) for row in claimed]
        if not orders:
            return worked
        worked += len(orders)
        try:
            ids = [order.id for order in orders]
            async with withdrawals.held(resources, org_id, ids, lease_seconds=_LEASE_SECONDS):
                made = await _plan(resources, org_id, audience_id, orders)
        except CredentialError as error:
            detail = connection.refused_detail(error)
            await connection.mark_needs_attention(resources, org_id, error.code, detail)
            await _later(resources, org_id, orders, "mailchimp_key_refused")
            return worked
        except MailchimpError as error:
            _log.info("opt_ins_delayed", error=type(error).__name__, status=error.status)
            await _later(resources, org_id, orders, type(error).__name__)
            return worked
        for run_id in made:
            await execute.work_on(resources, org_id, run_id, owner=owner, stopping=stopping)
    return worked


async def _plan(
    resources: Resources, org_id: UUID, audience_id: UUID, orders: Sequence[_Order]
) -> list[UUID]:
    """Reads the members, decides, and turns the orders into immediate runs; answers these."""
    hashes = sorted(set().union(*(order.hashes() for order in orders)))
    boxes = [UUID(mailbox_hash(o.email)) for o in orders if len(o.hashes()) > 1]
    async with resources.db.transaction(org_id) as session:
        # a segment's first run is its own: it makes the tag, and meets the guard
        contexts = [
            ctx
            for ctx in await context.load_all(session, audience_id, now=resources.clock())
            if not ctx.first_run and not ctx.gone
        ]
    client = await _client(resources, org_id, contexts) if contexts else None
    if client is not None:
        await _read(resources, org_id, audience_id, contexts[0].list_id, client, hashes)
    made = []
    async with resources.db.transaction(org_id) as session:
        await look_up_by_key(session)
        await planner.announce_plan(session)
        if boxes:
            await settle_boxes(session, audience_id, boxes)
        for ctx in contexts if client is not None else ():
            run_id = await _store(session, ctx, hashes)
            if run_id is not None:
                made.append(run_id)
        await session.execute(
            text(_CLOSE),
            {
                "ids": [order.id for order in orders],
                "attempts": [order.attempts for order in orders],
                # an audience that cannot be reached now: its next run sees the opt-in
                "outcome": "planned" if made else "nothing_to_do",
            },
        )
    return made


async def _client(
    resources: Resources, org_id: UUID, contexts: Sequence[context.Context]
) -> MailchimpClient | None:
    try:
        link = await connection.open_link(
            resources, org_id, lane=Lane.LIVE, retry=connection.INTERACTIVE
        )
    except ConflictError:
        return None
    return link.client if link.account_id == contexts[0].account_id else None


async def _read(
    resources: Resources, org_id: UUID, audience_id: UUID, list_id: str, client: MailchimpClient,
    hashes: Sequence[UUID],
) -> None:  # fmt: skip
    """What the mirror says of them may be a day old: somebody may have unsubscribed since."""
    found = await asyncio.gather(*(client.find_member(list_id, h.hex) for h in hashes))
    members: list[Member] = [member for member in found if member is not None]
    absent = [h for h, member in zip(hashes, found, strict=True) if member is None]
    actor = Actor.system(org_id, "mailchimp-order")
    async with resources.db.transaction(org_id) as session:
        await merge_and_record(session, actor, audience_id, members, resources.hash_keys)
        await mirror.mark_absent(session, audience_id, absent)


async def _store(
    session: AsyncSession, ctx: context.Context, hashes: Sequence[UUID]
) -> UUID | None:
    decision = decide.build(ctx.scope, by_key=True)
    decided = await session.execute(
        text(_DECIDE.format(ctes=decision.ctes)),
        {**decision.params, "hashes": list(hashes), "actions": list(_ACTIONS)},
    )
    rows = [dict(row) for row in decided.mappings()]
    if not rows:
        return None
    counted = {a: sum(1 for row in rows if row["action"] == a) for a in _ACTIONS}
    unreadable = Counter(tag for row in rows for tag in row["unreadable"] or ())
    plan = planner.Plan(
        xmin=0, full=False, matched=len(rows), planned=counted, unreadable=dict(unreadable)
    )
    problems = decide.problems(ctx.scope)
    for row in rows:
        row["unreadable"] = {tag: problems[tag] for tag in row["unreadable"] or ()} or None
    base = {"org": ctx.scope.org_id}
    run = await session.execute(
        text(_RUN),
        {
            **base, "segment": ctx.scope.segment.id, "audience": ctx.scope.audience_id,
            "matched": len(rows), "planned": orjson.dumps(plan.counts()).decode(),
            "unreadable": orjson.dumps(plan.unreadable).decode(),
            "warnings": orjson.dumps(ctx.warnings).decode(),
        },
    )  # fmt: skip
    run_id: UUID = run.scalar_one()
    await session.execute(
        text(_CHANGES),
        {**base, "run": run_id, "rows": orjson.dumps(rows, default=str).decode()},
    )
    return run_id


async def _later(resources: Resources, org_id: UUID, orders: Sequence[_Order], error: str) -> None:
    async with resources.db.transaction(org_id) as session:
        await session.execute(text(_LATER), {"ids": [order.id for order in orders], "error": error})
