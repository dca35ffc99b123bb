"""Members read from Mailchimp come in: the mirror follows, and what people did there is recorded."""

from __future__ import annotations

from uuid import UUID

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from mcsync.core.auth import Actor
from mcsync.features.audiences import mirror
from mcsync.features.preferences import service as preferences
from mcsync.mailchimp import Member

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
    members: tuple[Member, ...] | list[Member],
) -> None:
    """Merges members read from Mailchimp; withdrawals and opt-ins among them are recorded."""
    arrivals = await mirror.merge(session, actor.org_id, audience_id, members)
    if arrivals.withdrawals:
        await preferences.record_withdrawals_pulled(
            session, actor, source="mailchimp", table="pulled_withdrawals"
        )
        await session.execute(text(_NOTE.format("withdrawn", "pulled_withdrawals")))
    if arrivals.opt_ins:
        await preferences.record_opt_ins_pulled(
            session, actor, source="mailchimp", table="pulled_opt_ins"
        )
        await session.execute(text(_NOTE.format("given", "pulled_opt_ins")))
