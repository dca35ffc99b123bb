"""Every SQL statement about erasures themselves; what they go through stands in :mod:`stores`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

import orjson
from sqlalchemy import select, text
from sqlalchemy.ext.asyncio import AsyncSession

from mcsync.core.db import org_of
from mcsync.features.erasure.models import Erasure, ErasureTarget
from mcsync.features.erasure.subject import Address
from mcsync.features.preferences.left_behind import STILL_AT
from mcsync.features.preferences.models import Suppression

_FRESH = {"populate_existing": True}

# ---- finding a person


@dataclass(frozen=True, slots=True)
class Person:
    """A contact as an erasure needs it."""

    id: UUID
    entity_type: str
    entity_id: str
    email: str | None
    address_hash: UUID | None
    deleted_at: datetime | None


_PERSON = (
    "select id, entity_type, entity_id, email, address_hash, deleted_at from contacts c where "
)


_AT = f"""{_PERSON}
c.org_id = :org and c.id = any(array(
    select h.id from contacts h where h.org_id = :org and h.address_hash = :address
    union all
    select h.id from audience_aliases x
    join contacts h on h.org_id = :org and h.address_hash = x.source_hash
    where x.org_id = :org and x.member_hash = any(cast(:hashes as uuid[]))
    union all ({STILL_AT.format(hash=":address")})))
order by c.id
"""


async def contact(
    session: AsyncSession, entity_type: str, entity_id: str, *, lock: bool
) -> Person | None:
    """The contact, also one that left. ``lock``: until commit nobody records anything about it."""
    row = (
        await session.execute(
            text(
                _PERSON
                + "c.org_id = :org and c.entity_type = :type and c.entity_id = :id"
                + (" for update" if lock else "")
            ),
            {"org": org_of(session), "type": entity_type, "id": entity_id},
        )
    ).one_or_none()
    return None if row is None else Person(*row)


async def contacts_at(session: AsyncSession, address: UUID, hashes: Sequence[UUID]) -> list[Person]:
    """The contacts that have the address (``hashes``: of each spelling), those that left included.

    Here, or at Mailchimp: who took it there, or is known there by nothing but that still.
    """
    rows = await session.execute(
        text(_AT), {"org": org_of(session), "address": address, "hashes": list(hashes)}
    )
    return [Person(*row) for row in rows]


async def entity_is_known(session: AsyncSession, entity_type: str, entity_id: str) -> bool:
    """Whether consent was ever recorded of the entity, though there is no contact any more."""
    found = await session.scalar(
        text(
            """select exists (select from email_preferences
                              where org_id = :org and entity_type = :type and entity_id = :id)
                   or exists (select from preference_events
                              where org_id = :org and entity_type = :type and entity_id = :id)"""
        ),
        {"org": org_of(session), "type": entity_type, "id": entity_id},
    )
    return bool(found)


async def address_is_known(
    session: AsyncSession, hashes: Sequence[UUID], key: UUID, *, at_mailchimp_only: bool = False
) -> bool:
    """Whether anything is held under the address: consent, a member, a former address, an order.

    ``hashes``: of each spelling. Or that somebody asked to be subscribed, was sent a single message, or was posted about.
    """
    found = await session.scalar(
        text(
            """select exists (select from audience_members m join audiences a on a.id = m.audience_id
                              where a.org_id = :org and (m.address_hash = any(cast(:hashes as uuid[])) or m.mailbox_hash = any(cast(:hashes as uuid[])))
                                and m.status <> 'absent')
                   or (not :narrow and (
                       exists (select from address_consents where org_id = :org
                               and (address_key = :key or address_hash = any(cast(:hashes as uuid[]))))
                       or exists (select from audience_members m
                                  join audiences a on a.id = m.audience_id
                                  where a.org_id = :org and m.address_hash = any(cast(:hashes as uuid[])))
                       or exists (select from segment_members m
                                  join audiences a on a.id = m.audience_id
                                  where a.org_id = :org and m.address_hash = any(cast(:hashes as uuid[])))
                       or exists (select from audience_aliases x
                                  join audiences a on a.id = x.audience_id
                                  where a.org_id = :org
                                    and (x.member_hash = any(cast(:hashes as uuid[])) or x.source_hash = any(cast(:hashes as uuid[]))))
                       or exists (select from contact_addresses
                                  where org_id = :org and address_hash = any(cast(:hashes as uuid[])))
                       or exists (select from audience_orders
                                  where org_id = :org and address_hash = any(cast(:hashes as uuid[])))
                       or exists (select from subscription_requests
                                  where org_id = :org and address_key = :key)
                       or exists (select from transactional_recipients where org_id = :org
                                  and address_key = :key
                                  and (email is not null or own is not null))
                       or exists (select from webhook_events
                                  where org_id = :org and (address_hash = any(cast(:hashes as uuid[])) or new_hash = any(cast(:hashes as uuid[]))))))"""
        ),
        {"org": org_of(session), "hashes": list(hashes), "key": key, "narrow": at_mailchimp_only},
    )
    return bool(found)


async def former_addresses(session: AsyncSession, contact_id: UUID) -> list[Address]:
    """The addresses the contact had before, the newest first."""
    rows = await session.execute(
        text(
            """select address_hash, email from contact_addresses
               where org_id = :org and contact_id = :contact order by replaced_at desc, email"""
        ),
        {"org": org_of(session), "contact": contact_id},
    )
    return [Address(*row) for row in rows]


async def addresses_at_mailchimp(
    session: AsyncSession, hashes: Sequence[UUID], contact_id: UUID | None
) -> list[Address]:
    """Other addresses under which Mailchimp knows the person.

    Changed there by themselves, or the one that was fed from the contact when it was last pushed.
    """
    rows = await session.execute(
        text(
            """select x.member_hash as h, x.email from audience_aliases x
               where x.org_id = :org and x.source_hash = any(cast(:hashes as uuid[]))
               union
               select m.address_hash, m.email from audiences a
               join audience_members m on m.audience_id = a.id
               where a.org_id = :org and m.fed_by = cast(:contact as uuid)
               union
               select m.address_hash, m.email from audiences a
               join audience_members m on m.audience_id = a.id
                    and m.mailbox_hash = any(cast(:hashes as uuid[]))
               where a.org_id = :org
               order by 1, 2"""
        ),
        {"org": org_of(session), "hashes": list(hashes), "contact": contact_id},
    )
    # the one with the address in clear, where both are there
    best: dict[UUID, Address] = {}
    for row in rows:
        if row.h not in best or best[row.h].email is None:
            best[row.h] = Address(row.h, row.email)
    return list(best.values())


async def holders(
    session: AsyncSession, hashes: Sequence[UUID], besides: UUID | None
) -> dict[UUID, int]:
    """How many other living contacts hold each address."""
    rows = await session.execute(
        text(
            """select address_hash, count(*) from contacts
               where org_id = :org and address_hash = any(cast(:hashes as uuid[]))
                 and deleted_at is null and id is distinct from cast(:besides as uuid)
               group by 1"""
        ),
        {"org": org_of(session), "hashes": list(hashes), "besides": besides},
    )
    return {row[0]: int(row[1]) for row in rows}


# ---- suppressions


async def suppress(
    session: AsyncSession, keys: Sequence[tuple[str, UUID]], erasure_id: UUID | None
) -> None:
    """Refuses later imports of these; one already refused is now refused for this erasure, if any."""
    await session.execute(
        text(
            """insert into suppressions as s (org_id, kind, key, erasure_id)
               select distinct cast(:org as uuid), kind, key, cast(:erasure as uuid)
               from unnest(cast(:kinds as text[]), cast(:keys as uuid[])) as t(kind, key)
               on conflict (org_id, kind, key) where lifted_at is null
               do update set erasure_id = excluded.erasure_id, created_at = now()"""
        ),
        {
            "org": org_of(session), "erasure": erasure_id,
            "kinds": [kind for kind, _ in keys], "keys": [key for _, key in keys],
        },
    )  # fmt: skip


async def live_suppressions(
    session: AsyncSession, keys: Sequence[tuple[str, UUID]], *, lock: bool = False
) -> list[Suppression]:
    """The suppressions that stand for these (kind, key)."""
    query = (
        select(Suppression)
        .where(
            Suppression.org_id == org_of(session),
            Suppression.key.in_([key for _, key in keys]),
            Suppression.lifted_at.is_(None),
        )
        .order_by(Suppression.id)
    )
    if lock:
        query = query.with_for_update()
    found = (await session.execute(query, execution_options=_FRESH)).scalars()
    return [row for row in found if (row.kind, row.key) in keys]


# ---- erasures and their targets


async def newest_of(session: AsyncSession, kind: str, key: UUID) -> Erasure | None:
    """The latest erasure of a subject."""
    query = (
        select(Erasure)
        .where(
            Erasure.org_id == org_of(session),
            Erasure.subject_kind == kind,
            Erasure.subject_key == key,
        )
        .order_by(Erasure.id.desc())
        .limit(1)
    )
    return (await session.execute(query, execution_options=_FRESH)).scalar_one_or_none()


async def get(session: AsyncSession, erasure_id: UUID, *, lock: bool = False) -> Erasure | None:
    """One erasure."""
    query = select(Erasure).where(Erasure.org_id == org_of(session), Erasure.id == erasure_id)
    if lock:
        query = query.with_for_update()
    return (await session.execute(query, execution_options=_FRESH)).scalar_one_or_none()


async def page(
    session: AsyncSession, *, status: str | None, before: UUID | None, limit: int
) -> list[Erasure]:
    """Erasures, newest first."""
    query = select(Erasure).where(Erasure.org_id == org_of(session))
    if status is not None:
        query = query.where(Erasure.status == status)
    if before is not None:
        query = query.where(Erasure.id < before)
    return list((await session.execute(query.order_by(Erasure.id.desc()).limit(limit))).scalars())


async def targets(session: AsyncSession, erasure_ids: Sequence[UUID]) -> list[ErasureTarget]:
    """All targets of these erasures, in a fixed order."""
    query = (
        select(ErasureTarget)
        .where(ErasureTarget.org_id == org_of(session), ErasureTarget.erasure_id.in_(erasure_ids))
        .order_by(ErasureTarget.address_no, ErasureTarget.account_id, ErasureTarget.list_id)
    )
    return list((await session.execute(query, execution_options=_FRESH)).scalars())


async def target(
    session: AsyncSession, target_id: UUID, *, lock: bool = False
) -> ErasureTarget | None:
    """One target."""
    query = select(ErasureTarget).where(
        ErasureTarget.org_id == org_of(session), ErasureTarget.id == target_id
    )
    if lock:
        query = query.with_for_update()
    return (await session.execute(query, execution_options=_FRESH)).scalar_one_or_none()


# Every address in every audience of the connected account: the person may have signed up a minute ago.
# In other accounts, which cannot be asked, wherever anything is known of the address.
_TARGETS = """
insert into erasure_targets (org_id, erasure_id, account_id, audience_id, list_id, address_no,
                             address_hash, member_id)
select :org, :erasure, a.account_id, a.id, a.list_id, t.no, t.h, nullif(m.contact_id, '')
from audiences a
cross join unnest(cast(:numbers as integer[]), cast(:hashes as uuid[])) as t(no, h)
left join audience_members m on m.audience_id = a.id and m.address_hash = t.h
where a.org_id = :org and (
    a.account_id = :account or m.address_hash is not null
    or exists (select from segment_members g where g.audience_id = a.id and g.address_hash = t.h)
    or exists (select from audience_orders o where o.audience_id = a.id and o.address_hash = t.h))
on conflict do nothing
"""


async def aim(
    session: AsyncSession,
    erasure_id: UUID,
    addresses: Sequence[tuple[int, Address]],
    account_id: str | None,
) -> None:
    """Adds the targets of these (number, address) that are not there yet."""
    await session.execute(
        text(_TARGETS),
        {
            "org": org_of(session), "erasure": erasure_id, "account": account_id,
            "numbers": [number for number, _ in addresses],
            "hashes": [address.hash for _, address in addresses],
        },
    )  # fmt: skip


_UNSENT = """
update audience_calls set state = 'answered', answered_at = clock_timestamp(), error = 'erased'
where org_id = :org and state = 'taken' and sent_at is null
  and addresses && cast(:hashes as uuid[])
"""


async def stop_unsent_calls(session: AsyncSession, hashes: Sequence[UUID]) -> None:
    """Calls that carry an address and wait for a slot never leave; their rows are decided anew."""
    await session.execute(text(_UNSENT), {"org": org_of(session), "hashes": list(hashes)})


_AWAITED = """
select exists (select from audience_calls l
               where l.audience_id = :audience and l.state <> 'answered'
                 and cast(:hash as uuid) = any(l.addresses)
                 and coalesce(l.sent_at, l.taken_at)
                     > clock_timestamp() - make_interval(secs => :barrier))
    or exists (select from audience_orders o
               where o.audience_id = :audience and o.address_hash = cast(:hash as uuid)
                 and o.lease_until > clock_timestamp())
"""


async def call_under_way(
    session: AsyncSession, audience_id: UUID, address: UUID, *, barrier_seconds: float
) -> bool:
    """Whether a call that carries the address may still change something at Mailchimp."""
    found = await session.scalar(
        text(_AWAITED), {"audience": audience_id, "hash": address, "barrier": barrier_seconds}
    )
    return bool(found)


# ---- reports


def as_json(value: Mapping[str, Any] | Sequence[Any]) -> str:
    """A value for a jsonb parameter."""
    return orjson.dumps(value).decode()
