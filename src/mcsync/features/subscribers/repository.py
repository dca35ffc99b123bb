"""Every SQL statement of subscribers: requests, and the calls that may subscribe somebody."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

import orjson
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from mcsync.core.db import lock_obtained, org_of
from mcsync.features.audiences.barrier import LOCK
from mcsync.features.audiences.mirror import mailbox_of_member
from mcsync.features.preferences.by_address import Address
from mcsync.mailchimp import spelled_domain

_UNDER_WAY = """
select exists (select from audience_orders
               where audience_id = :audience and address_hash = any(cast(:hashes as uuid[]))
               and kind = 'withdrawal' and status = 'open')
"""

_CALL = """
insert into audience_calls (org_id, audience_id, kind, addresses, sent_at)
values (:org, :audience, 'subscribe', cast(:hashes as uuid[]), clock_timestamp())
returning id
"""

# Whatever a run had intended for the address, this call is not a run's: the member is nobody's to remove.
_MARK = """
insert into audience_members as m (org_id, audience_id, address_hash, email, status, requested_at,
                                   mailbox_hash, spelled_domain)
values (:org, :audience, :hash, :email, 'absent', :requested, nullif(cast(:box as uuid), :hash), :spelled)
on conflict (audience_id, address_hash) do update
set requested_at = excluded.requested_at, email = coalesce(m.email, excluded.email),
    intent_at = case when m.status = 'absent' then null else m.intent_at end
"""


@dataclass(frozen=True, slots=True)
class FormPost:
    """A form post that a worker has taken."""

    id: UUID
    audience_id: UUID
    list_id: str
    email: str
    address_hash: UUID
    address_key: UUID
    merge_fields: dict[str, Any]
    language: str | None
    proof: dict[str, Any]
    note: str | None
    attempts: int
    epoch: int
    overdue: bool


async def is_held(session: AsyncSession, address: Address) -> bool:
    """Whether a living contact has the address."""
    found = await session.scalar(
        text(
            """select exists (select from contacts where org_id = :org and address_hash = :hash
                              and deleted_at is null)"""
        ),
        {"org": org_of(session), "hash": address.hash},
    )
    return bool(found)


async def unsubscribed_by_us(session: AsyncSession, audience_id: UUID, address: Address) -> bool:
    """Whether the mirror knows the address's member as unsubscribed by a call of ours."""
    found = await session.scalar(
        text(
            """select exists (select from audience_members where audience_id = :audience
                              and address_hash = :hash and status = 'unsubscribed'
                              and unsubscribed_by = 'us')"""
        ),
        {"audience": audience_id, "hash": address.hash},
    )
    return bool(found)


async def connected_lists(session: AsyncSession) -> list[str]:
    """The audiences of the connected account, by Mailchimp's ids; none where none is connected."""
    found = await session.execute(
        text(
            """select a.list_id from audiences a
               join mailchimp_connections c on c.account_id = a.account_id
                    and c.soft_deleted_at is null
               where a.org_id = :org and a.gone_at is null order by a.list_id"""
        ),
        {"org": org_of(session)},
    )
    return list(found.scalars())


async def take_call(
    session: AsyncSession, audience_id: UUID, hashes: Collection[UUID]
) -> UUID | None:
    """Notes a call that may subscribe the address, from before it is sent.

    ``hashes``: of its mailbox, and of the member.

    None, and nothing is noted, while a withdrawal of it is on its way there: that goes first.
    """
    where = {"audience": audience_id, "hashes": sorted(hashes)}
    await session.execute(
        text("select " + LOCK.format(shared="_shared")), {"audience": str(audience_id)}
    )
    lock_obtained(session)
    if await session.scalar(text(_UNDER_WAY), where):
        return None
    call_id: UUID | None = await session.scalar(text(_CALL), {**where, "org": org_of(session)})
    return call_id


async def end_call(session: AsyncSession, call_id: UUID, *, error: str | None, known: bool) -> None:
    """The call was answered; or (not ``known``) nobody knows, and an order waits for it a while."""
    await session.execute(
        text(
            """update audience_calls set state = :state, error = :error, answered_at =
                   case when :state = 'answered' then clock_timestamp() end
               where id = :id"""
        ),
        {"id": call_id, "state": "answered" if known else "abandoned", "error": error},
    )


async def mark_requested(
    session: AsyncSession, audience_id: UUID, address: Address, at: datetime | None
) -> datetime | None:
    """The member is about to be asked to confirm, at the person's request (None: to be subscribed).

    ``address``: as it is or will be spelled at Mailchimp, under the member's hash.

    Answers when it was asked before, without an answer yet.
    """
    before: datetime | None = await session.scalar(
        text(
            """select requested_at from audience_members
               where audience_id = :audience and address_hash = :hash"""
        ),
        {"audience": audience_id, "hash": address.hash},
    )
    await session.execute(
        text(_MARK),
        {
            "org": org_of(session), "audience": audience_id, "hash": address.hash,
            "email": address.email, "requested": at,
            "box": mailbox_of_member(address.hash, address.email),
            "spelled": spelled_domain(address.email),
        },
    )  # fmt: skip
    return before


async def take_back_mark(
    session: AsyncSession, audience_id: UUID, address_hash: UUID, before: datetime | None
) -> None:
    """The member was not asked after all."""
    await session.execute(
        text(
            """update audience_members set requested_at = :before
               where audience_id = :audience and address_hash = :hash"""
        ),
        {"audience": audience_id, "hash": address_hash, "before": before},
    )


async def add_request(
    session: AsyncSession, audience_id: UUID, address: Address, *, wanted: str, via: str, source: str,
    proof: Mapping[str, Any], state: str, merge_fields: Mapping[str, Any] | None = None,
    language: str | None = None, note: str | None = None,
) -> UUID:  # fmt: skip
    """Keeps a request. A queued one is due at once and holds address and fields until it is worked."""
    queued = state == "queued"
    request_id = await session.scalar(
        text(
            """insert into subscription_requests (org_id, audience_id, address_key, address_hash,
                   email, wanted, merge_fields, language, via, source, proof, state, outcome,
                   next_attempt_at)
               values (:org, :audience, :key, :hash, :email, :wanted, cast(:fields as jsonb),
                   :language, :via, :source, cast(:proof as jsonb), :state, :note,
                   case when :queued then clock_timestamp() end)
               returning id"""
        ),
        {
            "org": org_of(session), "audience": audience_id, "key": address.key,
            "hash": address.hash, "email": address.email if queued else None, "wanted": wanted,
            "fields": orjson.dumps(dict(merge_fields or {}) if queued else {}).decode(),
            "language": language, "via": via, "source": source,
            "proof": orjson.dumps(dict(proof)).decode(), "state": state, "queued": queued,
            "note": note,
        },
    )  # fmt: skip
    assert isinstance(request_id, UUID)
    return request_id


async def end_request(
    session: AsyncSession, request_id: UUID, *, state: str, outcome: str | None = None
) -> None:
    """The request is done: its address and fields go, its hashes and proof stay."""
    await session.execute(
        text(
            """update subscription_requests
               set state = :state, outcome = :outcome, done_at = clock_timestamp(), email = null,
                   merge_fields = '{}', next_attempt_at = null, lease_until = null
               where org_id = :org and id = :id"""
        ),
        {"org": org_of(session), "id": request_id, "state": state, "outcome": outcome},
    )


async def end_asking(session: AsyncSession, request_id: UUID, error: str) -> None:
    """No answer came. An operator was told so; a form post stays due."""
    await session.execute(
        text(
            """update subscription_requests
               set last_error = :error, state = case when via = 'form' then state else 'unknown' end,
                   done_at = case when via = 'form' then null else clock_timestamp() end
               where org_id = :org and id = :id"""
        ),
        {"org": org_of(session), "id": request_id, "error": error},
    )


async def claim_post(
    session: AsyncSession, request_id: UUID, lease_seconds: float, give_up_days: int
) -> FormPost | None:
    """Takes a form post that is due; None where it is not, or another worker has it."""
    row = (
        await session.execute(
            text(
                """update subscription_requests r
                   set lease_until = clock_timestamp() + make_interval(secs => :lease),
                       epoch = epoch + 1, attempts = attempts + 1
                   from audiences a
                   where r.org_id = :org and r.id = :id and r.next_attempt_at <= clock_timestamp()
                     and (r.lease_until is null or r.lease_until < clock_timestamp())
                     and a.id = r.audience_id
                   returning r.id, r.audience_id, a.list_id, r.email, r.address_hash, r.address_key,
                       r.merge_fields, r.language, r.proof, r.outcome, r.attempts, r.epoch,
                       r.requested_at < clock_timestamp() - make_interval(days => :days)"""
            ),
            {
                "org": org_of(session),
                "id": request_id,
                "lease": lease_seconds,
                "days": give_up_days,
            },
        )
    ).one_or_none()
    return None if row is None else FormPost(*row)


async def post_later(session: AsyncSession, post: FormPost, seconds: float, error: str) -> None:
    """Tries a form post again in a while."""
    await session.execute(
        text(
            """update subscription_requests
               set lease_until = null, last_error = :error,
                   next_attempt_at = clock_timestamp() + make_interval(secs => :seconds)
               where org_id = :org and id = :id and epoch = :epoch and next_attempt_at is not null"""
        ),
        {
            "org": org_of(session), "id": post.id, "epoch": post.epoch, "seconds": seconds,
            "error": error,
        },
    )  # fmt: skip


_REQUESTS = """
select r.id, a.list_id, r.via, r.source, r.wanted, r.state, r.outcome, r.email, r.requested_at, r.done_at,
       r.next_attempt_at, r.last_error
from subscription_requests r join audiences a on a.id = r.audience_id
where r.org_id = :org {conditions}
order by r.requested_at desc, r.id desc limit :limit
"""


async def page_of_requests(
    session: AsyncSession, *, status: str | None, list_id: str | None,
    after: tuple[datetime, UUID] | None, limit: int,
) -> list[Mapping[str, Any]]:  # fmt: skip
    """Requests, newest first, after the given one."""
    conditions = ""
    values: dict[str, Any] = {"org": org_of(session), "limit": limit}
    if status is not None:
        conditions += " and r.state = :status"
        values["status"] = status
    if list_id is not None:
        conditions += " and a.list_id = :list"
        values["list"] = list_id
    if after is not None:
        conditions += " and (r.requested_at, r.id) < (cast(:at as timestamptz), cast(:id as uuid))"
        values["at"], values["id"] = after
    rows = await session.execute(text(_REQUESTS.format(conditions=conditions)), values)
    return [dict(row) for row in rows.mappings()]


async def count_requests(
    session: AsyncSession, *, days: int, list_id: str | None = None
) -> dict[str, int]:
    """How many requests of the last days are in each status that any of them has."""
    rows = await session.execute(
        text(
            """select r.state, count(*) from subscription_requests r
               join audiences a on a.id = r.audience_id
               where r.org_id = :org and (cast(:list as text) is null or a.list_id = :list)
                 and r.requested_at > clock_timestamp() - make_interval(days => :days)
               group by 1 order by 1"""
        ),
        {"org": org_of(session), "days": days, "list": list_id},
    )
    return {row[0]: int(row[1]) for row in rows}
