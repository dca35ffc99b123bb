"""Orders: withdrawals on their way to one member of one audience (``sync.md`` 5, "withdrawals").

Written in the transaction that records the withdrawal; carried out by ``sync`` at once, by no run. Opt-ins
recorded for one person are ordered likewise, so that they need not wait for the night.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from typing import Any
from uuid import UUID

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from mcsync.core.db import after_commit, org_of
from mcsync.core.jobs import ORDER, JobQueue

# An order already open is made new again: the withdrawal behind this call is the later one, and what
# was answered before it proves nothing. `everywhere` also reaches audiences whose mirror does not know
# the address: the person may have signed up there a minute ago. Accounts that are not connected can
# only be reached later, so only members known there get an order.
_PLACE = """
with targets as materialized ({targets}),
reached as (  -- the address, and the one that it stands for: who moved there may have come back with it
    select a.id as audience_id, a.org_id, a.account_id, t.address_hash, t.email
    from targets t cross join audiences a
    where a.gone_at is null
    union all
    select a.id, a.org_id, a.account_id, x.member_hash, x.email
    from targets t join audience_aliases x on x.source_hash = t.address_hash
    join audiences a on a.id = x.audience_id and a.gone_at is null
    union all  -- every member of the mailbox, however it is spelled there
    select a.id, a.org_id, a.account_id, o.address_hash, coalesce(o.email, t.email)
    from targets t cross join audiences a
    join audience_members o on o.audience_id = a.id and o.mailbox_hash = t.address_hash
    where a.gone_at is null
)
insert into audience_orders (org_id, audience_id, address_hash, email, kind)
select distinct on (r.audience_id, r.address_hash)
       r.org_id, r.audience_id, r.address_hash, r.email, 'withdrawal'
from reached r
left join audience_members m on m.audience_id = r.audience_id and m.address_hash = r.address_hash
where m.status in ('subscribed', 'pending')
   or (m.status = 'absent' and m.intent_at is not null)
   or ((:everywhere or (:unwatched and not exists (
          select from contact_segments s
          where s.audience_id = r.audience_id and s.soft_deleted_at is null)))
       and exists (select from mailchimp_connections c
                   where c.account_id = r.account_id and c.soft_deleted_at is null))
on conflict (audience_id, address_hash, kind) where status = 'open'
do update set next_attempt_at = now(), answered_at = null, attempts = 0, created_at = now()
returning audience_id
"""


async def order_withdrawals_from(
    session: AsyncSession, select_sql: str, params: Mapping[str, Any], *, everywhere: bool,
    unwatched: bool = False,
) -> set[UUID]:  # fmt: skip
    """Orders the withdrawal of every row of ``select_sql`` (``address_hash uuid, email text``).

    ``unwatched``: also in audiences that no segment uses, whose mirror knows nobody. Answers the audiences
    that now have open orders, for :func:`ring_orders`.
    """
    rows = await session.execute(
        text(_PLACE.format(targets=select_sql)),
        {**params, "everywhere": everywhere, "unwatched": unwatched},
    )
    return {row.audience_id for row in rows}


_PLACE_OPT_INS = """
insert into audience_orders as o (org_id, audience_id, address_hash, email, kind)
select distinct on (a.id, coalesce(x.member_hash, t.address_hash))
       a.org_id, a.id, coalesce(x.member_hash, t.address_hash), coalesce(x.email, t.email), 'opt_in'
from ({targets}) t
cross join audiences a
join mailchimp_connections c on c.account_id = a.account_id and c.soft_deleted_at is null
left join audience_aliases x on x.audience_id = a.id and x.source_hash = t.address_hash
where a.gone_at is null
on conflict (audience_id, address_hash, kind) where status = 'open'
do update set next_attempt_at = now(), attempts = o.attempts + 1, created_at = now()
returning audience_id
"""


async def order_opt_ins_from(
    session: AsyncSession, select_sql: str, params: Mapping[str, Any]
) -> set[UUID]:
    """Asks that opt-ins (``address_hash uuid, email text``) be carried to the connected account now.

    Answers the audiences that now have open orders, for :func:`ring_orders`.
    """
    rows = await session.execute(text(_PLACE_OPT_INS.format(targets=select_sql)), params)
    return {row.audience_id for row in rows}


async def order_withdrawals(
    session: AsyncSession, targets: Sequence[tuple[UUID, str]], *, everywhere: bool
) -> set[UUID]:
    """Orders the withdrawal of each ``(address_hash, email)``; answers the audiences concerned."""
    if not targets:
        return set()
    return await order_withdrawals_from(
        session,
        "select * from unnest(cast(:hashes as uuid[]), cast(:emails as text[]))"
        " as given(address_hash, email)",
        {"hashes": [h for h, _ in targets], "emails": [e for _, e in targets]},
        everywhere=everywhere,
    )


def ring_orders(session: AsyncSession, jobs: JobQueue | None, audiences: Iterable[UUID]) -> None:
    """Rings for the orders of these audiences once they are committed; without ``jobs`` others find them."""
    if jobs is None:
        return
    org_id = org_of(session)
    for audience_id in audiences:
        after_commit(session, partial(jobs.ring, ORDER, audience_id, org_id, at_once=True))
