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
from mcsync.features.preferences.events import numbers, remember_of_addresses
from mcsync.mailchimp import Member, mailbox_of

_SOURCE = "mailchimp"

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
        if keyed_hash(key, "address", mailbox_of(member.email_address)) not in gone
    ]


# An address that no contact has (any more), but whose consent is on record, keeps its own.
_NOTE = """
with noted as (
    update address_consents k set {side}_at = t.effective_at, {side}_source = '{source}'
    from (select address_hash, max(effective_at) as effective_at from {table} group by 1) t
    where k.address_hash = t.address_hash and (k.{side}_at is null or k.{side}_at < t.effective_at)
      and not exists (select from contacts c where c.address_hash = k.address_hash)
    returning k.*
)
""" + remember_of_addresses("""
    select address_key, '{status}' as status, {side}_at as at, '{source}' as source,
           cast('{{}}' as jsonb) as proof, case when {too_old} then '{reason}' end as reason
    from noted
""")
_NOTE_WITHDRAWALS = _NOTE.format(
    side="withdrawn", table="pulled_withdrawals", status="opted_out", source=_SOURCE,
    too_old="given_at > withdrawn_at", reason="older_than_opt_in",
)  # fmt: skip
_NOTE_OPT_INS = _NOTE.format(
    side="given", table="pulled_opt_ins", status="opted_in", source=_SOURCE,
    too_old="given_at <= withdrawn_at", reason="opt_in_not_newer",
)  # fmt: skip


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
            session, actor, source=_SOURCE, table="pulled_withdrawals",
            unwatched=bool(pulled_before),
        )  # fmt: skip
        await _note(session, actor, _NOTE_WITHDRAWALS)
    if arrivals.opt_ins:
        await preferences.record_opt_ins_pulled(
            session, actor, source=_SOURCE, table="pulled_opt_ins"
        )
        await _note(session, actor, _NOTE_OPT_INS)


async def _note(session: AsyncSession, actor: Actor, statement: str) -> None:
    await session.execute(
        text(statement),
        {
            "org": org_of(session), "actor_kind": actor.kind, "actor_id": actor.id, **numbers(),
        },
    )  # fmt: skip
