"""Carrying out orders: a withdrawal reaches Mailchimp within seconds, whatever runs (``sync.md`` 5).

On the slots reserved for live changes; no run, guard or cancellation delays it. An order closes only
when the member was answered or read as neither subscribed nor pending *after* every call that was
taken before it and carries the address was answered, or two minutes after that call was sent.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from datetime import datetime
from uuid import UUID

import structlog
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from mcsync.core.auth import Actor
from mcsync.core.db import BY_KEY, lock_obtained
from mcsync.core.errors import ConflictError
from mcsync.core.jobs import kept_alive
from mcsync.core.resources import Resources
from mcsync.features.audiences import mirror
from mcsync.features.audiences.barrier import LOCK, lock_name
from mcsync.features.connection import service as connection
from mcsync.features.sync.decide import consent_ctes
from mcsync.features.sync.pull import merge_and_record
from mcsync.mailchimp import (
    BATCH_SIZE,
    CredentialError,
    InvalidRequestError,
    Lane,
    MailchimpClient,
    MailchimpError,
    NotFoundError,
    RefusedError,
    account_rows,
    spelled_domain,
    spellings,
    subscriber_hash,
)

_log = structlog.get_logger(__name__)

_LEASE_SECONDS = 180
_REDUCED = ("unsubscribed", "cleaned", "archived", "transactional", "absent")

_CLAIM = """
with n as materialized (
    select id from audience_orders
    where audience_id = :audience and status = 'open' and kind = 'withdrawal'
      and next_attempt_at <= clock_timestamp()
      and (lease_until is null or lease_until < clock_timestamp())
    order by created_at limit :most for update skip locked)
update audience_orders o set lease_until = clock_timestamp() + make_interval(secs => :lease),
       attempts = attempts + 1
from n where o.id = n.id
returning o.id, o.address_hash, o.email, o.attempts
"""

# For each order: is the address still withdrawn (a newer opt-in lifts it), what does the mirror say,
# and is a call under way that was taken without knowing of the order?
_STATE = f"""
with cand as (select h as mh from unnest(cast(:hashes as uuid[])) as t(h)),
{consent_ctes(by_key=True)},
preferred as (
    select s.mh, bool_or(p.status = 'opted_out') as out
    from src s join contacts c on c.org_id = :org and c.address_hash = s.sh
    join email_preferences p on p.org_id = c.org_id and p.entity_type = c.entity_type
         and p.entity_id = c.entity_id
    where c.deleted_at is null group by 1
)
select k.mh, coalesce(a.withdrawn, false) or coalesce(f.out, false) as withdrawn,
       coalesce(m.status, 'absent') as status,
       exists (select from audience_calls l where l.audience_id = :audience
               and l.state <> 'answered' and k.mh = any(l.addresses)
               and coalesce(l.sent_at, l.taken_at)
                   > clock_timestamp() - make_interval(secs => :barrier)) as awaited
from cand k left join address_state a using (mh) left join preferred f using (mh)
left join audience_members m on m.audience_id = :audience and m.address_hash = k.mh
"""

_INTEND = """
update audience_members set unsubscribe_intent = 'withdrawal',
    -- a call whose answer was lost explains what the one that repeats it finds
    unsubscribe_intent_at = case
        when unsubscribe_intent = 'withdrawal' and unsubscribe_intent_at > now() - interval '1 day'
        then unsubscribe_intent_at else now() end
where audience_id = :audience and address_hash = any(cast(:hashes as uuid[]))
"""

_RECORD = """
update audience_members m set status = t.status,
    last_changed = coalesce(t.changed, m.last_changed),
    -- by us only if it was our call that changed it (sync.md 1); where not, the next read tells
    unsubscribed_by = case when m.status = 'unsubscribed' then m.unsubscribed_by
                           when t.ours or t.changed >= date_trunc('second', m.unsubscribe_intent_at)
                           then 'us' end,
    unsubscribe_cause = case when m.status = 'unsubscribed' then m.unsubscribe_cause
                             when t.ours or t.changed >= date_trunc('second', m.unsubscribe_intent_at)
                           then 'withdrawal' end,
    unsubscribe_reason = case when m.status = 'unsubscribed' then m.unsubscribe_reason end,
    unsubscribe_intent = null, unsubscribe_intent_at = null, resubscribed_at = null, pushed_at = clock_timestamp()
from unnest(cast(:hashes as uuid[]), cast(:statuses as text[]), cast(:changed as timestamptz[]),
            cast(:ours as boolean[]))
     as t(h, status, changed, ours)
where m.audience_id = :audience and m.address_hash = t.h
  and (m.last_changed is null or t.changed is null or t.changed >= m.last_changed)
"""


@dataclass(slots=True)
class _Order:
    id: UUID
    address_hash: UUID
    email: str
    attempts: int
    withdrawn: bool = True
    status: str = "absent"
    awaited: bool = False
    outcome: str | None = None
    changed: datetime | None = None
    error: str | None = None
    answered: bool = field(default=False)
    ours: bool = field(default=False)

    @property
    def names_member(self) -> bool:
        """Whether the address is spelled as the member's is at Mailchimp."""
        return (
            spelled_domain(self.email) is None
            or subscriber_hash(self.email) == self.address_hash.hex
        )

    def spelled_otherwise(self) -> list[_Order]:
        """The mailbox under its other spellings, as orders that are kept nowhere; none where it has one."""
        found = {UUID(subscriber_hash(each)): each for each in spellings(self.email)}
        if len(found) < 2 or self.address_hash not in found:
            return []
        return [
            _Order(self.id, known, email, self.attempts)
            for known, email in found.items()
            if known != self.address_hash
        ]


async def carry_out(resources: Resources, org_id: UUID, audience_id: UUID) -> int:
    """Works on the audience's due orders, 500 at a time; answers how many were looked at."""
    worked = 0
    while True:
        orders = await _claim(resources, org_id, audience_id)
        if not orders:
            return worked
        worked += len(orders)
        async with held(resources, org_id, [o.id for o in orders], lease_seconds=_LEASE_SECONDS):
            await _work(resources, org_id, audience_id, orders)


def held(
    resources: Resources, org_id: UUID, ids: Sequence[UUID], *, lease_seconds: int
) -> AbstractAsyncContextManager[None]:
    """Keeps the leases of orders: they may wait long for a slot, and nobody else should begin meanwhile."""

    async def renew() -> None:
        async with resources.db.transaction(org_id, vital=True) as session:
            await session.execute(
                text(
                    """update audience_orders
                       set lease_until = clock_timestamp() + make_interval(secs => :lease)
                       where id = any(cast(:ids as uuid[])) and status = 'open'
                         and lease_until is not null"""
                ),
                {"ids": list(ids), "lease": lease_seconds},
            )

    return kept_alive(renew, lease_seconds=lease_seconds, orders=len(ids))


async def _claim(resources: Resources, org_id: UUID, audience_id: UUID) -> list[_Order]:
    async with resources.db.transaction(org_id, behind=lock_name(audience_id)) as session:
        # alone for a moment: every taker that does not know of these orders has committed its call
        await session.execute(
            text(f"select {BY_KEY}, " + LOCK.format(shared="")), {"audience": str(audience_id)}
        )
        lock_obtained(session)
        rows = await session.execute(
            text(_CLAIM),
            {"audience": audience_id, "lease": _LEASE_SECONDS, "most": BATCH_SIZE},
        )
        orders = [_Order(*row) for row in rows]
        if not orders:
            return []
        by_hash = {order.address_hash: order for order in orders}
        states = await session.execute(
            text(_STATE),
            {
                "org": org_id, "audience": audience_id, "hashes": list(by_hash),
                "barrier": float(resources.settings.order_barrier_seconds),
            },
        )  # fmt: skip
        for row in states:
            order = by_hash[row.mh]
            order.withdrawn, order.status, order.awaited = row.withdrawn, row.status, row.awaited
            if not order.withdrawn:
                order.outcome = "lifted"
        await session.execute(
            text(_INTEND),
            {"audience": audience_id, "hashes": [o.address_hash for o in orders if o.withdrawn]},
        )
    return orders


async def _work(
    resources: Resources, org_id: UUID, audience_id: UUID, orders: Sequence[_Order]
) -> None:
    standing = [order for order in orders if order.withdrawn]
    link: connection.Link | None = None
    try:
        if standing:
            list_id = await _list_id(resources, org_id, audience_id)
            link = await connection.open_link(resources, org_id, lane=Lane.LIVE)
            if link.account_id != list_id[1]:
                raise ConflictError("Another account is connected.", code="account_mismatch")
            carrier = _Carrier(resources, org_id, audience_id, list_id[0], link.client)
            await carrier.unsubscribe(standing)
    except CredentialError as error:
        detail = connection.refused_detail(error)
        await connection.mark_needs_attention(
            resources, org_id, error.code, detail, fingerprint=link.fingerprint if link else None
        )
        _not_now(standing, "mailchimp_key_refused")
    except ConflictError as error:
        _not_now(standing, error.code)
    except MailchimpError as error:
        _log.info("orders_delayed", error=type(error).__name__, status=error.status)
        _not_now(standing, type(error).__name__)
    async with resources.db.transaction(org_id) as session:
        await _settle(session, audience_id, orders)


def _not_now(orders: Sequence[_Order], error: str) -> None:
    for order in orders:
        order.error = order.error or (None if order.outcome else error)


async def _list_id(resources: Resources, org_id: UUID, audience_id: UUID) -> tuple[str, str]:
    async with resources.db.transaction(org_id) as session:
        row = (
            await session.execute(
                text("select list_id, account_id from audiences where id = :audience"),
                {"audience": audience_id},
            )
        ).one()
    return row.list_id, row.account_id


class _Carrier:
    """The Mailchimp side of orders."""

    def __init__(
        self, resources: Resources, org_id: UUID, audience_id: UUID, list_id: str,
        client: MailchimpClient,
    ) -> None:  # fmt: skip
        self._db = resources.db
        self._hash_keys = resources.hash_keys
        self._org_id = org_id
        self._audience_id = audience_id
        self._list_id = list_id
        self._client = client
        self._actor = Actor.system(org_id, "mailchimp-order")

    async def unsubscribe(self, orders: Sequence[_Order]) -> None:
        """Members known as subscribed go in one bulk call; all others are read first.

        The bulk call would create who is absent, and bring back who is archived.
        """
        # a bulk call names members by address: those whose order has the other spelling go alone
        known = [o for o in orders if o.status in ("subscribed", "pending") and o.names_member]
        if known:
            await self._in_bulk(known)
        known_hashes = {o.address_hash for o in orders}
        for order in orders:
            for other in order.spelled_otherwise():
                if other.address_hash not in known_hashes:
                    known_hashes.add(other.address_hash)
                    await self._other_spelling(order, other)
        for order in orders:
            if order.outcome is not None:
                continue
            try:
                await self._alone(order)
            except (InvalidRequestError, RefusedError) as error:
                # stays open and is tried again; the others do not wait for it
                _log.warning("withdrawal_refused", order=str(order.id), title=error.title)
                order.error = "refused"

    async def _other_spelling(self, order: _Order, other: _Order) -> None:
        """The same mailbox under the other spelling: a member that the mirror need not know."""
        try:
            await self._alone(other)
        except (InvalidRequestError, RefusedError) as error:
            _log.warning("withdrawal_refused", order=str(order.id), title=error.title)
            order.error = "refused"

    async def _in_bulk(self, orders: Sequence[_Order]) -> None:
        rows = [{"email_address": o.email, "status": "unsubscribed"} for o in orders]
        began = time.monotonic()
        try:
            result = await self._client.batch_subscribe(
                self._list_id, rows, update_existing=True, skip_merge_validation=True
            )
        except (InvalidRequestError, RefusedError):
            return  # one bad row refuses them all: each goes alone
        since = self._client.began(began)
        fates = account_rows([o.email for o in orders], result).rows
        for order, fate in zip(orders, fates, strict=True):
            if fate.member is not None and fate.member.status == "unsubscribed":
                order.outcome, order.changed = "unsubscribed", fate.member.last_changed
                order.answered = True
                order.ours = (
                    since is not None and order.changed is not None and order.changed >= since
                )

    async def _alone(self, order: _Order) -> None:
        member = await self._client.find_member(self._list_id, order.address_hash.hex)
        if member is not None and member.status in ("subscribed", "pending"):
            async with self._db.transaction(self._org_id) as session:
                # the mirror may not know the member: without this, our own unsubscribe would look
                # like somebody else's when it is read back
                await merge_and_record(
                    session, self._actor, self._audience_id, [member], self._hash_keys
                )
                await session.execute(
                    text(_INTEND),
                    {"audience": self._audience_id, "hashes": [order.address_hash]},
                )
            try:
                member = await self._client.update_member(
                    self._list_id, order.address_hash.hex, {"status": "unsubscribed"},
                    skip_merge_validation=True,
                )  # fmt: skip
            except NotFoundError:
                member = None
        async with self._db.transaction(self._org_id) as session:
            if member is None:
                await mirror.mark_absent(session, self._audience_id, [order.address_hash])
            else:
                await merge_and_record(
                    session, self._actor, self._audience_id, [member], self._hash_keys
                )
        order.outcome = member.status if member else "absent"


async def _settle(session: AsyncSession, audience_id: UUID, orders: Sequence[_Order]) -> None:
    """Writes outcomes; closes what is done, and asks for another look at what is not."""
    answered = [o for o in orders if o.answered]
    await session.execute(
        text(_RECORD),
        {
            "audience": audience_id,
            "hashes": [o.address_hash for o in answered],
            "statuses": ["unsubscribed"] * len(answered),
            "changed": [o.changed for o in answered],
            "ours": [o.ours for o in answered],
        },
    )
    closing = [
        o for o in orders
        if o.outcome == "lifted" or (o.outcome in _REDUCED and not o.awaited and not o.error)
    ]  # fmt: skip
    await session.execute(
        text(
            """update audience_orders o set outcome = t.outcome, last_error = t.error,
                   lease_until = null,
                   answered_at = case when t.outcome is not null then clock_timestamp()
                                      else o.answered_at end,
                   status = case when t.closes and o.attempts = t.attempts then 'closed'
                                 else o.status end,
                   closed_at = case when t.closes and o.attempts = t.attempts
                                    then clock_timestamp() end,
                   next_attempt_at = case when o.attempts <> t.attempts then o.next_attempt_at
                       else clock_timestamp() + make_interval(secs => t.seconds) end
               from unnest(cast(:ids as uuid[]), cast(:outcomes as text[]), cast(:errors as text[]),
                           cast(:closes as boolean[]), cast(:attempts as integer[]),
                           cast(:seconds as double precision[]))
                    as t(id, outcome, error, closes, attempts, seconds)
               where o.id = t.id and o.status = 'open'"""
        ),
        {
            "ids": [o.id for o in orders],
            "outcomes": [o.outcome for o in orders],
            "errors": [o.error for o in orders],
            "closes": [o in closing for o in orders],
            "attempts": [o.attempts for o in orders],
            "seconds": [_delay(o) for o in orders],
        },
    )


def _delay(order: _Order) -> float:
    """Seconds until the next look: soon where a call is awaited, longer the more often it failed."""
    if order.error in ("not_connected", "account_mismatch", "api_key_unreadable"):
        return 300.0
    return float(min(60, 1 << min(max(order.attempts - 1, 0), 6)))
