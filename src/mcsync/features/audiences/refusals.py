"""Reading what Mailchimp refused. It is written by the pushes of ``sync``."""

from __future__ import annotations

from typing import Final
from uuid import UUID

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from mcsync.core.auth import Actor
from mcsync.core.db import org_of
from mcsync.core.resources import Resources
from mcsync.features.contacts.refusals import RefusalReader, RefusalView

COLUMNS: Final = (
    "r.code, r.message, r.field, r.attempts, r.first_seen_at, r.last_seen_at, r.next_try_at"
)

# Also under the address that the person took at Mailchimp.
_OF_ADDRESS = f"""
select a.list_id, a.name, {COLUMNS}
from audiences a
left join audience_aliases x on x.audience_id = a.id and x.source_hash = :hash
join audience_refusals r on r.audience_id = a.id
     and r.address_hash = coalesce(x.member_hash, :hash)
where a.org_id = :org
order by a.name, a.list_id
"""


async def refusals_of(session: AsyncSession, address_hash: UUID) -> list[RefusalView]:
    """What was last refused for an address, in every audience."""
    rows = await session.execute(text(_OF_ADDRESS), {"org": org_of(session), "hash": address_hash})
    return [RefusalView.of({str(k): v for k, v in row.items()}) for row in rows.mappings()]


async def refusal_reader(resources: Resources, actor: Actor) -> RefusalReader:
    """What ``app.py`` hands to contacts.get."""

    async def read(address_hash: UUID) -> list[RefusalView]:
        async with resources.db.transaction(actor.org_id) as session:
            return await refusals_of(session, address_hash)

    return read
