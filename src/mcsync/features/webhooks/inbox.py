"""The inbox's SQL: taking in what Mailchimp posts, working it off, forgetting it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final
from uuid import UUID

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from mcsync.core.db import org_of
from mcsync.mailchimp import spellings, subscriber_hash

HOLD_MINUTES: Final = 15
"""How long an unsubscribe that was only posted keeps us from sending; the read ends it sooner."""
_SEEN_SECONDS: Final = 10
"""``last_event_at`` is no finer than this: thousands of posts must not queue for one row."""

# --- the intake -----------------------------------------------------------------------------------

_FIND = text("select * from mcsync_webhook_endpoint(:hash)")

_LOAD = text("""
select e.id, e.audience_id, e.list_id, e.token_hash, e.signing_secret, e.previous_token_hash,
       e.previous_signing_secret,
       e.status <> 'removed' and exists (
           select from mailchimp_connections c
           where c.account_id = e.account_id and c.soft_deleted_at is null) as live
from webhook_endpoints e where e.id = :id
""")

# One statement: the event, unless it is a repetition; the hold, which only a new event may place; and
# that something arrived at all. The hold depends on the event, so locks are taken in one order.
_RECEIVE = text(f"""
with event as (
    insert into webhook_events (org_id, audience_id, endpoint_id, type, address_hash, email, new_hash,
                                new_email, action, reason, fired_at, dedupe)
    values (:org, :audience, :endpoint, :type, :hash, :email, :new_hash, :new_email, :action, :reason,
            :fired_at, :dedupe)
    on conflict (audience_id, dedupe) do nothing
    returning address_hash
), free as (  -- whoever has the row locked is writing what Mailchimp just told: nobody waits for that
    select m.audience_id, m.address_hash from audience_members m, event
    where cast(:reduces as boolean)
      and m.audience_id = :audience and m.address_hash = any(cast(:hashes as uuid[]))
      -- not where a read has shown it already: in a flood of posts a pull is ahead of most of them
      and not coalesce(m.status in ('unsubscribed', 'cleaned') and m.last_changed >= :fired_at
                       and (m.status = 'cleaned' or m.unsubscribed_by = 'person'), false)
    for update of m skip locked
), held as (
    update audience_members m set hold_until = now() + interval '{HOLD_MINUTES} minutes'
    from free f where m.audience_id = f.audience_id and m.address_hash = f.address_hash
), seen as (
    update webhook_endpoints set last_event_at = now()
    where id = :endpoint
      and (last_event_at is null or last_event_at < now() - interval '{_SEEN_SECONDS} seconds')
)
select exists (select from event)
""")


async def find(session: AsyncSession, token_hash: bytes) -> tuple[UUID, UUID] | None:
    """Endpoint and organisation of a token, by the look-up across organisations."""
    row = (await session.execute(_FIND, {"hash": token_hash})).one_or_none()
    return None if row is None else (row.endpoint_id, row.org_id)


async def load(session: AsyncSession, endpoint_id: UUID) -> Any | None:
    """What the intake needs to know of an endpoint."""
    return (await session.execute(_LOAD, {"id": endpoint_id})).one_or_none()


async def receive(session: AsyncSession, **event: Any) -> bool:
    """Puts an event into the inbox; False for a repetition, which changes nothing."""
    org = {"org": org_of(session)}
    return bool((await session.execute(_RECEIVE, {**org, **event})).scalar_one())


# --- the inbox ------------------------------------------------------------------------------------

# One worker an audience: what another one holds it is about to read, with all that came since. Whoever finds
# another one claiming leaves: what is still due then is found again within a second.
_ALONE = text("""
select pg_try_advisory_xact_lock(hashtextextended('webhook_events ' || cast(:audience as text), 0))
""")

_CLAIM = text("""
with n as materialized (
    select id from webhook_events
    where audience_id = :audience and status = 'due' and next_attempt_at <= clock_timestamp()
      and not exists (select from webhook_events o where o.audience_id = :audience
                      and o.status = 'due' and o.lease_until > clock_timestamp())
    order by received_at limit :most for update skip locked)
update webhook_events w set lease_until = clock_timestamp() + make_interval(secs => :lease),
       attempts = attempts + 1
from n where w.id = n.id
returning w.id, w.type, w.address_hash, w.email, w.new_hash, w.new_email, w.fired_at, w.attempts
""")

# One of them stands for all: as long as it is held, nobody claims any.
_RENEW = text("""
update webhook_events set lease_until = clock_timestamp() + make_interval(secs => :lease)
where id = (select id from webhook_events
            where id = any(cast(:ids as uuid[])) and status = 'due' limit 1)
""")

# What was worked on keeps no address, and its hash only as long as the inbox itself is kept.
_WORKED = text("""
update webhook_events set status = 'worked', outcome = :outcome, email = null, new_email = null,
       lease_until = null, worked_at = clock_timestamp(), last_error = null
where id = any(cast(:ids as uuid[]))
""")

# A late post about somebody who was erased leaves nothing: no member, no event.
_FORGET_STRANGERS = text("""
delete from webhook_events w
where w.id = any(cast(:ids as uuid[]))
  and exists (select from suppressions u where u.org_id = w.org_id and u.kind = 'address'
              and u.lifted_at is null)
  and not exists (select from audience_members m where m.audience_id = w.audience_id
                  and m.address_hash in (w.address_hash, w.new_hash))
""")

_RELEASE_HOLDS = text("""
update audience_members m set hold_until = null
where m.audience_id = :audience and m.address_hash = any(cast(:hashes as uuid[]))
  and m.hold_until is not null
  -- another post about the same person came in after we read: it still has to be worked on
  and not exists (select from webhook_events w
                  where w.audience_id = m.audience_id and w.address_hash = m.address_hash
                    and w.status = 'due' and not w.id = any(cast(:ids as uuid[])))
""")

_POSTPONE = text("""
update webhook_events set lease_until = null, last_error = :error,
       next_attempt_at = clock_timestamp() + make_interval(
           secs => least(:most, :first * power(2, least(attempts - 1, 12))))
where id = any(cast(:ids as uuid[])) and status = 'due'
""")


@dataclass(frozen=True, slots=True)
class Event:
    """One event that this worker holds."""

    id: UUID
    type: str
    address_hash: UUID
    email: str | None
    new_hash: UUID | None
    new_email: str | None
    fired_at: datetime | None
    attempts: int

    @property
    def members(self) -> dict[UUID, str | None]:
        """Those it may be about: the one it names, and the same mailbox under its other spellings."""
        others = spellings(self.email) if self.email is not None else ()
        named: dict[UUID, str | None] = {self.address_hash: self.email}
        return named | {UUID(hex=subscriber_hash(each)): each for each in others[1:]}


async def claim_events(
    session: AsyncSession, audience_id: UUID, *, most: int, lease_seconds: float
) -> list[Event]:
    """Takes the audience's due events, oldest first; none while another worker holds some."""
    if not await session.scalar(_ALONE, {"audience": str(audience_id)}):
        return []
    rows = await session.execute(
        _CLAIM, {"audience": audience_id, "most": most, "lease": lease_seconds}
    )
    return [Event(*row) for row in rows]


async def renew_events(
    session: AsyncSession, events: Sequence[Event], *, lease_seconds: float
) -> None:
    """Keeps hold of the events."""
    await session.execute(_RENEW, {"ids": [event.id for event in events], "lease": lease_seconds})


async def finish_events(
    session: AsyncSession, audience_id: UUID, events: Sequence[Event], outcome: str
) -> None:
    """The events are worked on: they lose their addresses, their members are not held any more."""
    ids = [event.id for event in events]
    await session.execute(_WORKED, {"ids": ids, "outcome": outcome})
    hashes = set().union(*(event.members for event in events))
    await session.execute(
        _RELEASE_HOLDS, {"audience": audience_id, "hashes": list(hashes), "ids": ids}
    )
    await session.execute(_FORGET_STRANGERS, {"ids": ids})


async def postpone_events(
    session: AsyncSession, events: Sequence[Event], error: str, *, first: float, most: float
) -> None:
    """The events are tried again, later each time: after ``first`` to ``most`` seconds."""
    await session.execute(
        _POSTPONE,
        {"ids": [event.id for event in events], "error": error, "first": first, "most": most},
    )


async def known_hashes(
    session: AsyncSession, audience_id: UUID, hashes: Sequence[UUID]
) -> list[UUID]:
    """Which of the addresses the mirror shows as members."""
    rows = await session.execute(
        text(
            """select address_hash from audience_members
               where audience_id = :audience and status <> 'absent'
                 and address_hash = any(cast(:hashes as uuid[]))"""
        ),
        {"audience": audience_id, "hashes": list(hashes)},
    )
    return list(rows.scalars())


async def forget_events(session: AsyncSession, *, days: int) -> None:
    """Removes what was worked on so long ago, and ends holds and rotations that are over."""
    await session.execute(
        text(
            """delete from webhook_events
               where status = 'worked' and worked_at < now() - make_interval(days => :days)"""
        ),
        {"days": days},
    )
    await session.execute(
        text("update audience_members set hold_until = null where hold_until < now()")
    )
    await session.execute(
        text(
            """update webhook_endpoints set previous_token_hash = null, previous_until = null,
                   previous_signing_secret = null
               where previous_until < now()"""
        )
    )


async def contradicted(
    session: AsyncSession, audience_id: UUID, events: Sequence[Event]
) -> set[UUID]:
    """Of events that say somebody left: those whose member the mirror still shows, older than the event."""
    rows = await session.execute(
        text(
            """select w.id from webhook_events w
               join audience_members m on m.audience_id = w.audience_id
                    and m.address_hash = w.address_hash
               where w.audience_id = :audience and w.id = any(cast(:ids as uuid[]))
                 and w.type in ('unsubscribe', 'cleaned', 'upemail')
                 and m.status in ('subscribed', 'pending')
                 and (m.last_changed is null or w.fired_at is null or m.last_changed < w.fired_at)"""
        ),
        {"audience": audience_id, "ids": [event.id for event in events]},
    )
    return set(rows.scalars())
