"""Members read from Mailchimp come in: the mirror follows, and what people did there is recorded."""

from __future__ import annotations

from collections.abc import Sequence
from uuid import UUID

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from mcsync.core.auth import Actor
from mcsync.core.crypto import HashKeys, keyed_hash
from mcsync.core.db import org_of
from mcsync.features.audiences import mirror
from mcsync.features.preferences import service as preferences
from mcsync.mailchimp import Member, normalise_address

_JUST_ERASED = """
select array_agg(u.key) from suppressions u join erasures e on e.id = u.erasure_id
where u.org_id = :org and u.kind = 'address' and u.lifted_at is null
  and e.completed_at > clock_timestamp() - make_interval(mins => 10)
"""


async def without_erased(
    session: AsyncSession, hash_keys: HashKeys, members: Sequence[Member]
) -> Sequence[Member]:
    """The members but those whose erasure ended while they were read.

    What was read before that is out of date, and would bring back a trace; who signs up anew is seen by
    a later pull.
    """
    erased = await session.scalar(text(_JUST_ERASED), {"org": org_of(session)})
    if not erased:
        return members
    key, gone = await hash_keys.hash_key(session), set(erased)
    return [
        member
        for member in members
        if keyed_hash(key, "address", normalise_address(member.email_address)) not in gone
    ]


# An address that no contact has any more, but whose consent is on record, keeps its own.
_NOTE = """
update address_consents k set {0}_at = t.effective_at, {0}_source = 'mailchimp'
from {1} t
where k.address_hash = t.address_hash and (k.{0}_at is null or k.{0}_at < t.effective_at)
  and not exists (select from contacts c where c.address_hash = k.address_hash)
"""


async def merge_and_record(
    session: AsyncSession,
    actor: Actor,
    audience_id: UUID,
    members: Sequence[Member],
    hash_keys: HashKeys,
) -> None:
    """Merges members read from Mailchimp; withdrawals and opt-ins among them are recorded."""
    members = await without_erased(session, hash_keys, members)
    arrivals = await mirror.merge(session, actor.org_id, audience_id, members)
    if arrivals.withdrawals:
        # the first pull brings the withdrawals of years: too many to ask elsewhere for each
        pulled_before = await session.scalar(
            text("select full_pull_at is not null from audiences where id = :audience"),
            {"audience": audience_id},
        )
        await preferences.record_withdrawals_pulled(
            session, actor, source="mailchimp", table="pulled_withdrawals",
            unwatched=bool(pulled_before),
        )  # fmt: skip
        await session.execute(text(_NOTE.format("withdrawn", "pulled_withdrawals")))
    if arrivals.opt_ins:
        await preferences.record_opt_ins_pulled(
            session, actor, source="mailchimp", table="pulled_opt_ins"
        )
        await session.execute(text(_NOTE.format("given", "pulled_opt_ins")))
