"""Every SQL statement about messages and their recipients."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final
from uuid import UUID

import orjson
from sqlalchemy import func, select, text, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncSession

from mcsync.core.db import org_of
from mcsync.features.transactional.models import TransactionalMessage as Message
from mcsync.features.transactional.models import TransactionalRecipient as Recipient

RANKS: Final = (
    "pending", "unconfirmed", "cancelled", "scheduled", "queued", "deferred", "unknown", "sent",
    "delivered", "soft_bounced", "bounced", "rejected", "invalid", "unsubscribed", "spam",
)  # fmt: skip
"""What is known of a recipient only ever moves on in this order: reports come late and out of order."""

_ADD_RECIPIENTS = text("""
insert into transactional_recipients (org_id, message_id, no, email, address_key, type, own)
select :org, :message, no, email, address_key, type, own
  from json_to_recordset(cast(:rows as json))
       as t(no integer, email text, address_key uuid, type text, own text)
""")
_OUTCOMES = text("""
select message_id, status, count(*) from transactional_recipients
 where org_id = :org and message_id = any(cast(:ids as uuid[])) group by 1, 2 order by 1, 2
""")
_CLAIM = text("""
update transactional_messages set epoch = epoch + 1, lease_owner = :owner,
       lease_until = clock_timestamp() + make_interval(secs => :lease)
 where org_id = :org and id = :message and status in ('queued', 'sending')
   and next_attempt_at <= clock_timestamp()
   and (lease_until is null or lease_until < clock_timestamp())
returning id, org_id, status, epoch, attempts, hand_ins, look_first, looks, allow_duplicates,
          account_id, payload, handed_in_at, request_id,
          extract(epoch from clock_timestamp() - handed_in_at)::float8 as age
""")
_RENEW = text("""
update transactional_messages set lease_until = clock_timestamp() + make_interval(secs => :lease)
 where org_id = :org and id = :message and epoch = :epoch and lease_until is not null
returning 1
""")
_SUPPRESS = text("""
update transactional_recipients r
   set status = 'rejected', reason = 'suppressed', email = null, own = null
 where r.org_id = :org and r.message_id = :message and r.status in ('pending', 'unconfirmed')
   and (r.email is null or exists (
        select from suppressions s where s.org_id = :org and s.kind = 'address'
          and s.key = r.address_key and s.lifted_at is null))
""")
# The row's lock decides between this and a cancellation; then nobody knows until an answer is stored.
_MARK = text("""
update transactional_messages set status = 'sending', hand_ins = hand_ins + 1, looks = 0,
       look_first = false, handed_in_at = clock_timestamp(), account_id = :account, error_code = null
 where org_id = :org and id = :message and epoch = :epoch and status = 'queued'
returning hand_ins
""")
_LATER = text("""
update transactional_messages set status = :status, error_code = :error, lease_until = null,
       attempts = :attempts, looks = :looks,
       next_attempt_at = clock_timestamp() + make_interval(secs => :seconds)
 where org_id = :org and id = :message and epoch = :epoch and status in ('queued', 'sending')
""")
# Not fenced by the lease but by the hand-in: an answer is true whoever still holds the row.
_END = text("""
update transactional_messages set status = cast(:status as text), error_code = :error,
       lease_until = null, updated_at = clock_timestamp(),
       submitted_at = case when cast(:status as text) = 'submitted'
                           then coalesce(submitted_at, clock_timestamp()) end,
       payload = case when cast(:status as text) = 'unconfirmed' then payload end
 where org_id = :org and id = :message and hand_ins = :hand_ins
   and status in ('queued', 'sending', 'unconfirmed')
returning 1
""")
_STORE = text("""
update transactional_recipients r
   set provider_id = coalesce(nullif(t.provider_id, ''), r.provider_id),
       status = case when array_position(cast(:ranks as text[]), t.status)
                          >= array_position(cast(:ranks as text[]), r.status)
                     then t.status else r.status end,
       reason = case when array_position(cast(:ranks as text[]), t.status)
                          >= array_position(cast(:ranks as text[]), r.status)
                     then coalesce(t.reason, r.reason) else r.reason end,
       opens = greatest(r.opens, t.opens), clicks = greatest(r.clicks, t.clicks),
       polls = 0, next_poll_at = clock_timestamp() + make_interval(secs => t.poll)
  from json_to_recordset(cast(:rows as json))
       as t(no integer, provider_id text, status text, reason text, opens integer, clicks integer,
            poll float8)
 where r.org_id = :org and r.message_id = :message and r.no = t.no
   and not (r.status = 'rejected' and r.reason = 'suppressed')
""")


@dataclass(frozen=True, slots=True)
class Claimed:
    """A message that this worker holds. ``age``: seconds since it was handed in."""

    id: UUID
    org_id: UUID
    status: str
    epoch: int
    attempts: int
    hand_ins: int
    look_first: bool
    looks: int
    allow_duplicates: bool
    account_id: str | None
    payload: str | None
    handed_in_at: datetime | None
    request_id: str | None
    age: float | None


async def add(
    session: AsyncSession, values: Mapping[str, Any], recipients: Sequence[Mapping[str, Any]]
) -> bool:
    """Stores a new message; False where its idempotency key belongs to another one."""
    statement = (
        insert(Message)
        .values(org_id=org_of(session), **values)
        .on_conflict_do_nothing(
            index_elements=[Message.org_id, Message.idempotency_digest],
            index_where=Message.idempotency_digest.is_not(None),
        )
        .returning(Message.id)
    )
    if (await session.execute(statement)).scalar_one_or_none() is None:
        return False
    rows = orjson.dumps(list(recipients), default=str).decode()
    await session.execute(
        _ADD_RECIPIENTS, {"org": org_of(session), "message": values["id"], "rows": rows}
    )
    return True


async def get(session: AsyncSession, message_id: UUID, *, lock: bool = False) -> Message | None:
    """A message, without its payload."""
    query = select(Message).where(Message.org_id == org_of(session), Message.id == message_id)
    if lock:
        query = query.with_for_update()
    found = await session.execute(query, execution_options={"populate_existing": True})
    return found.scalar_one_or_none()


async def get_by_key(session: AsyncSession, digest: bytes) -> Message | None:
    """The message of an idempotency key, by the key's hash."""
    query = select(Message).where(
        Message.org_id == org_of(session), Message.idempotency_digest == digest
    )
    return (await session.execute(query)).scalar_one_or_none()


async def list_messages(
    session: AsyncSession,
    *,
    limit: int,
    before: UUID | None,
    status: str | None,
    tag: str | None,
    address_key: UUID | None,
) -> list[Message]:
    """Messages, newest first."""
    query = select(Message).where(Message.org_id == org_of(session))
    if before is not None:
        query = query.where(Message.id < before)
    if status is not None:
        query = query.where(Message.status == status)
    if tag is not None:
        query = query.where(Message.tags.contains([tag]))
    if address_key is not None:
        query = query.where(
            Message.id.in_(
                select(Recipient.message_id).where(
                    Recipient.org_id == org_of(session), Recipient.address_key == address_key
                )
            )
        )
    return list(await session.scalars(query.order_by(Message.id.desc()).limit(limit)))


async def recipients(session: AsyncSession, message_id: UUID) -> list[Recipient]:
    """A message's recipients in their order."""
    found = await session.scalars(
        select(Recipient)
        .where(Recipient.org_id == org_of(session), Recipient.message_id == message_id)
        .order_by(Recipient.no)
        .execution_options(populate_existing=True)
    )
    return list(found)


async def outcomes(
    session: AsyncSession, message_ids: Sequence[UUID]
) -> dict[UUID, dict[str, int]]:
    """How many recipients of each message are in which state."""
    rows = await session.execute(_OUTCOMES, {"org": org_of(session), "ids": list(message_ids)})
    found: dict[UUID, dict[str, int]] = {}
    for message_id, status, count in rows:
        found.setdefault(message_id, {})[status] = count
    return found


async def cancel(session: AsyncSession, message_id: UUID) -> bool:
    """Takes a message back that nobody has begun to hand over."""
    done = await session.execute(
        update(Message)
        .where(
            Message.org_id == org_of(session), Message.id == message_id, Message.status == "queued"
        )
        .values(status="cancelled", payload=None, error_code=None, lease_until=None)
        .returning(Message.id)
    )
    if done.scalar_one_or_none() is None:
        return False
    await session.execute(
        update(Recipient)
        .where(
            Recipient.org_id == org_of(session),
            Recipient.message_id == message_id,
            Recipient.status.in_(("pending", "unconfirmed")),
        )
        .values(status="cancelled")
    )
    await _forget_own(session, message_id)
    return True


async def resend(session: AsyncSession, message_id: UUID) -> bool:
    """Queues an unconfirmed message again; it is looked for once more before it is handed over."""
    done = await session.execute(
        update(Message)
        .where(
            Message.org_id == org_of(session),
            Message.id == message_id,
            Message.status == "unconfirmed",
            Message.payload.is_not(None),
        )
        .values(
            status="queued", look_first=True, error_code=None, attempts=0, lease_until=None,
            next_attempt_at=func.now(),
        )
        .returning(Message.id)
    )  # fmt: skip
    return done.scalar_one_or_none() is not None


# ------------------------------------------------------------------------------ the hand-over


async def claim(
    session: AsyncSession, message_id: UUID, *, owner: str, lease_seconds: int
) -> Claimed | None:
    """Takes a message that is due and that nobody holds."""
    row = (
        await session.execute(
            _CLAIM,
            {
                "org": org_of(session),
                "message": message_id,
                "owner": owner,
                "lease": lease_seconds,
            },
        )
    ).one_or_none()
    return None if row is None else Claimed(**row._mapping)  # noqa: SLF001 - SQLAlchemy's public name


async def renew(session: AsyncSession, held: Claimed, *, lease_seconds: int) -> bool:
    """Keeps the lease; False where it is lost."""
    done = await session.execute(
        _RENEW,
        {"org": held.org_id, "message": held.id, "epoch": held.epoch, "lease": lease_seconds},
    )
    return done.first() is not None


async def next_due(session: AsyncSession) -> UUID | None:
    """Another message of the organisation that is due and that nobody holds."""
    found = await session.execute(
        text(
            """select id from transactional_messages
                where org_id = :org and status in ('queued', 'sending')
                  and next_attempt_at <= clock_timestamp()
                  and (lease_until is null or lease_until < clock_timestamp())
                order by next_attempt_at limit 1 for update skip locked"""
        ),
        {"org": org_of(session)},
    )
    return found.scalar_one_or_none()


async def suppress(session: AsyncSession, message_id: UUID) -> None:
    """Keeps back recipients whose address was erased, and keeps nothing of them either."""
    await session.execute(_SUPPRESS, {"org": org_of(session), "message": message_id})


async def mark_sending(session: AsyncSession, held: Claimed, account_id: str) -> int | None:
    """Notes the time before the call; the number of this hand-in, or None where it must not be made."""
    done = await session.execute(
        _MARK,
        {"org": held.org_id, "message": held.id, "epoch": held.epoch, "account": account_id},
    )
    return done.scalar_one_or_none()


async def later(
    session: AsyncSession,
    held: Claimed,
    *,
    status: str,
    error: str | None,
    seconds: float,
    attempts: int,
    looks: int,
) -> None:
    """Gives the message back until later; fenced by the lease."""
    await session.execute(
        _LATER,
        {
            "org": held.org_id, "message": held.id, "epoch": held.epoch, "status": status,
            "error": error, "seconds": seconds, "attempts": attempts, "looks": looks,
        },
    )  # fmt: skip


async def end(
    session: AsyncSession, message_id: UUID, *, hand_ins: int, status: str, error: str | None = None
) -> bool:
    """Puts a message to rest; its content goes, unless it may be wanted once more."""
    done = await session.execute(
        _END,
        {
            "org": org_of(session),
            "message": message_id,
            "hand_ins": hand_ins,
            "status": status,
            "error": error,
        },
    )
    if done.first() is None:
        return False
    if status != "unconfirmed":
        await _forget_own(session, message_id)
    return True


async def _forget_own(session: AsyncSession, message_id: UUID) -> None:
    await session.execute(
        update(Recipient)
        .where(
            Recipient.org_id == org_of(session),
            Recipient.message_id == message_id,
            Recipient.own.is_not(None),
        )
        .values(own=None)
    )


async def store_outcomes(
    session: AsyncSession, message_id: UUID, rows: Sequence[Mapping[str, Any]]
) -> None:
    """Stores what Mailchimp says of recipients, by their numbers."""
    await session.execute(
        _STORE,
        {
            "org": org_of(session),
            "message": message_id,
            "rows": orjson.dumps(list(rows)).decode(),
            "ranks": list(RANKS),
        },
    )


async def settle_recipients(
    session: AsyncSession, message_id: UUID, status: str, *, reason: str | None = None,
    before: Sequence[str] = ("pending",),
) -> None:  # fmt: skip
    """Gives every recipient of whom nothing is known this status, and why."""
    await session.execute(
        update(Recipient)
        .where(
            Recipient.org_id == org_of(session),
            Recipient.message_id == message_id,
            Recipient.status.in_(before),
        )
        .values(status=status, reason=func.coalesce(reason, Recipient.reason))
    )
