"""Consent of an address: of every contact that has it, and of the address itself, contact or not.

For what comes by address alone: a newsletter form, an unsubscribe link, an operator's call. Nothing here
writes to the audit; the caller's one entry tells what happened.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final
from uuid import UUID

import orjson
from sqlalchemy import Result, text
from sqlalchemy.ext.asyncio import AsyncSession

from mcsync.core.auth import Actor
from mcsync.core.crypto import HashKeys, keyed_hash
from mcsync.core.db import org_of
from mcsync.core.errors import BadRequestError, ConflictError
from mcsync.core.jobs import JobQueue
from mcsync.features.audiences.orders import (
    order_opt_ins_from,
    order_withdrawals,
    order_withdrawals_from,
    ring_orders,
)
from mcsync.features.contacts.intake.addresses import Addresses
from mcsync.features.preferences import left_behind, repository
from mcsync.features.preferences.events import numbers, remember_of_addresses
from mcsync.mailchimp import mailbox_hash, mailbox_of

# Every contact with the address, or with the one that it stands for at Mailchimp.
_HELD: Final = """c.address_hash = any(array(
    select cast(:hash as uuid) union all
    select x.source_hash from audience_aliases x
    where x.org_id = :org and x.member_hash = cast(:hash as uuid)))"""
_LEFT: Final = f"c.id = any(array({left_behind.STILL_AT.format(hash='cast(:hash as uuid)')}))"
_STATED: Final = """
select cast(null as bigint) as line, c.entity_type, c.entity_id, c.address_hash, c.address_key, c.email,
       cast(:at as timestamptz) as at, cast(:source as text) as source, cast(:proof as jsonb) as proof
from contacts c
where c.org_id = :org and ({whose})
"""

# What was said is in the history of the contacts that have the address; of one that none has, in its own.
_WITHDRAW_ITSELF: Final = """
with itself as (
    insert into address_consents as a (org_id, address_key, address_hash, withdrawn_at, withdrawn_source)
    values (:org, :key, :hash, :at, :source)
    on conflict (org_id, address_key) do update
    set withdrawn_at = greatest(a.withdrawn_at, excluded.withdrawn_at, a.given_at),
        withdrawn_source = excluded.withdrawn_source, address_hash = excluded.address_hash
    returning address_key, withdrawn_at
)
""" + remember_of_addresses("""
    select address_key, 'opted_out' as status, withdrawn_at as at, :source as source,
           cast(:proof as jsonb) as proof, cast(null as text) as reason
    from itself
    where not exists (select from contacts c where c.org_id = :org and c.address_hash = :hash)
""")

# The same once more adds nothing. A contact's own history may have nothing to add either, because the
# contact said so before it came to this address; then that of the address remembers it.
_REMEMBER_OPT_IN: Final = remember_of_addresses("""
    select i.address_key, 'opted_in' as status, cast(:at as timestamptz) as at, :source as source,
           cast(:proof as jsonb) as proof,
           case when b.given_at >= :at then 'already_opted_in' end as reason
    from itself i left join before b on true
    where not exists (
        select from preference_events e
        where e.org_id = :org and e.address_key = :key and e.status = 'opted_in'
          and e.effective_at = :at and e.source = :source and e.proof = cast(:proof as jsonb))
""")
_OPT_IN_ITSELF: Final = f"""
with before as materialized (
    select given_at from address_consents where org_id = :org and address_key = :key
), itself as (
    insert into address_consents as a (org_id, address_key, address_hash, given_at, given_source)
    values (:org, :key, :hash, :at, :source)
    on conflict (org_id, address_key) do update
    set given_source = case when excluded.given_at > coalesce(a.given_at, '-infinity')
                            then excluded.given_source else a.given_source end,
        given_at = greatest(a.given_at, excluded.given_at), address_hash = excluded.address_hash
    where a.withdrawn_at is null or a.withdrawn_at < excluded.given_at
    returning address_key
), remembered as ({_REMEMBER_OPT_IN})
select count(*) from itself
"""

_ENSURE: Final = """
insert into address_consents as a (org_id, address_key, address_hash) values (:org, :key, :hash)
on conflict (org_id, address_key) do update set address_hash = excluded.address_hash
where a.address_hash is null
"""


@dataclass(frozen=True, slots=True)
class Address:
    """An address as it was given, and the MD5 and our keyed hash of its mailbox.

    Both hashes are the same for both spellings of a domain; a member at Mailchimp may have another.
    """

    email: str
    hash: UUID
    key: UUID


@dataclass(frozen=True, slots=True)
class Recorded:
    """What is on record of an address itself."""

    given_at: datetime | None
    given_source: str | None
    withdrawn_at: datetime | None
    withdrawn_source: str | None

    @property
    def withdrawn(self) -> bool:
        """Whether a withdrawal stands."""
        return self.withdrawn_at is not None and (
            self.given_at is None or self.given_at <= self.withdrawn_at
        )


def usable(hash_key: bytes, email: str) -> str:
    """The address as it is stored. Raises ``BadRequestError`` (``invalid_email``) for what is none."""
    usable = Addresses(hash_key).usable(email)
    if usable is None:
        raise BadRequestError("This cannot be an e-mail address.", code="invalid_email")
    return usable


async def address_of(where: AsyncSession | UUID, hash_keys: HashKeys, email: str) -> Address:
    """The address under both its hashes, for the session's organisation or the one with this id."""
    key = await hash_keys.hash_key(where)
    return Address(email, UUID(mailbox_hash(email)), keyed_hash(key, "address", mailbox_of(email)))


async def is_suppressed(session: AsyncSession, address: Address) -> bool:
    """Whether the address was erased, and that was not lifted."""
    return bool(
        await session.scalar(
            text(
                """select exists (select from suppressions where org_id = :org and kind = 'address'
                                  and key = :key and lifted_at is null)"""
            ),
            {"org": org_of(session), "key": address.key},
        )
    )


async def recorded(session: AsyncSession, address: Address) -> Recorded | None:
    """What is on record of the address itself; None where nothing is."""
    row = (
        await session.execute(
            text(
                """select given_at, given_source, withdrawn_at, withdrawn_source
                   from address_consents where org_id = :org and address_key = :key"""
            ),
            {"org": org_of(session), "key": address.key},
        )
    ).one_or_none()
    return None if row is None else Recorded(*row)


async def ensure_recorded(session: AsyncSession, address: Address) -> None:
    """Makes sure that the address has a record, empty or not, so that what Mailchimp tells finds it."""
    await session.execute(
        text(_ENSURE), {"org": org_of(session), "key": address.key, "hash": address.hash}
    )


async def withdraw(
    session: AsyncSession, actor: Actor, address: Address, *, source: str,
    proof: Mapping[str, Any], jobs: JobQueue,
) -> tuple[int, int]:  # fmt: skip
    """Withdraws the address and every contact with it, as of now, whatever was recorded.

    Orders it in every audience, also where the mirror does not know the address. Answers how many
    contacts changed, and how many audiences the withdrawal is on its way to.
    """
    now = await repository.moment(session)
    contacts = await _state(session, actor, "opted_out", address, None, source, proof, now)
    await _state_itself(session, actor, _WITHDRAW_ITSELF, address, now, source, proof)
    audiences = await order_withdrawals_from(session, repository.APPLIED, {}, everywhere=True)
    audiences |= await order_withdrawals(session, [(address.hash, address.email)], everywhere=True)
    ring_orders(session, jobs, audiences)
    return contacts, len(audiences)


async def opt_in(
    session: AsyncSession, actor: Actor, address: Address, *, at: datetime, source: str,
    proof: Mapping[str, Any], jobs: JobQueue,
) -> int:  # fmt: skip
    """Records an opt-in of the address and of every contact with it; answers how many changed.

    Raises ``ConflictError`` (``opt_in_not_newer``) where a withdrawal of any of them is not older.
    """
    now = await repository.moment(session)
    before = await recorded(session, address) if at > now else None
    contacts = await _state(session, actor, "opted_in", address, at, source, proof, now)
    refused = await repository.refusal(session) == "opt_in_not_newer"
    if before is not None and before.withdrawn:  # a time of the future lifts nothing
        refused = True
    at = min(at, now)
    taken = await _state_itself(session, actor, _OPT_IN_ITSELF, address, at, source, proof)
    if refused or not taken.scalar_one():
        raise ConflictError(
            "A withdrawal of this address is recorded that is not older than the opt-in, so it stands."
            " Record a newer consent, or let the person confirm with the status pending.",
            code="opt_in_not_newer",
        )
    ring_orders(session, jobs, await order_opt_ins_from(session, repository.APPLIED, {}))
    return contacts


async def _state(
    session: AsyncSession, actor: Actor, status: str, address: Address, at: datetime | None,
    source: str, proof: Mapping[str, Any], now: datetime,
) -> int:  # fmt: skip
    await repository.state(
        session,
        status,
        _STATED.format(whose=f"{_HELD} or {_LEFT}" if status == "opted_out" else _HELD),
        {
            "at": at, "source": source, "proof": orjson.dumps(dict(proof)).decode(),
            "hash": address.hash,
        },
        now=now,
        actor_kind=actor.kind,
        actor_id=actor.id,
        at_once=at is None,
        again=True,
    )  # fmt: skip
    return (await repository.outcome_counts(session))[0]


async def _state_itself(
    session: AsyncSession, actor: Actor, statement: str, address: Address, at: datetime,
    source: str, proof: Mapping[str, Any],
) -> Result[Any]:  # fmt: skip
    return await session.execute(
        text(statement),
        {
            "org": org_of(session), "key": address.key, "hash": address.hash, "at": at,
            "source": source, "proof": orjson.dumps(dict(proof)).decode(),
            "actor_kind": actor.kind, "actor_id": actor.id, **numbers(),
        },
    )  # fmt: skip
