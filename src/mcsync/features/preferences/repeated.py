"""Opt-outs that an import merely repeats.

A nightly export states the same opt-out every night, without a time. What the person has given in the
meantime, by a newer and explicit opt-in, must not be withdrawn by that: a statement that is repeated as it
was is no new statement. So of each channel (way of import) it is stored which contacts, and which addresses
named in refused rows, it said last to be opted out, and a hash of what it said. The statement counts when it
first appears, when it changes, and when the channel said anything else, or nothing, in between.
"""

from __future__ import annotations

from typing import Final

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from mcsync.core.db import org_of
from mcsync.features.contacts.intake.rows import PROVIDED_BIT

_ADDRESS: Final = "address"
"""Stands for the entity type where a statement was about an address; the id is its keyed hash."""

_SAID: Final = """concat_ws('|', coalesce(s.consent_source, ''), extract(epoch from s.consent_given_at),
                            case when {own_proof} then s.attributes end)"""
_HASHED: Final = "cast(md5(string_agg(distinct {said}, E'\\n' order by {said})) as uuid)"

# A contact may stand in several rows: all that they say of it is one statement.
_OF_ENTITIES: Final = f"""
select s.entity_type, s.entity_id, {_HASHED.format(said=_SAID)} as statement
from {{staged}} s
where s.opt_status = 'opted_out' and s.entity_type is not null and s.entity_id is not null
group by 1, 2
"""
_OF_ADDRESSES: Final = f"""
select '{_ADDRESS}' as entity_type, cast(s.address_key as text) as entity_id,
       {_HASHED.format(said=_SAID)} as statement
from {{staged}} s
where s.opt_status = 'opted_out' and s.code is not null and s.address_key is not null
group by 1, 2
"""

_ANY: Final = (
    "select exists (select from stated_opt_outs where org_id = :org and channel = :channel)"
)

_MARK_ENTITIES: Final = f"""
update {{staged}} t set repeated = true
from ({_OF_ENTITIES}) o
join stated_opt_outs m on m.org_id = :org and m.channel = :channel
     and m.entity_type = o.entity_type and m.entity_id = o.entity_id and m.statement = o.statement
join email_preferences p on p.org_id = :org and p.entity_type = o.entity_type
     and p.entity_id = o.entity_id and p.status = 'opted_in'
where t.opt_status = 'opted_out' and t.entity_type = o.entity_type and t.entity_id = o.entity_id
"""
_MARK_ADDRESSES: Final = f"""
update {{staged}} t set address_repeated = true
from ({_OF_ADDRESSES}) o
join stated_opt_outs m on m.org_id = :org and m.channel = :channel
     and m.entity_type = o.entity_type and m.entity_id = o.entity_id and m.statement = o.statement
join address_consents a on a.org_id = :org and a.address_key = cast(o.entity_id as uuid)
     and a.given_at > coalesce(a.withdrawn_at, '-infinity')
where t.opt_status = 'opted_out' and t.code is not null and t.address_key = a.address_key
"""

# Rows that say something else, or nothing in a column of consent, end the repetition.
_FORGET: Final = f"""
delete from stated_opt_outs m using {{staged}} s
where m.org_id = :org and m.channel = :channel
  and m.entity_type = s.entity_type and m.entity_id = s.entity_id
  and s.code is null and s.provided & {PROVIDED_BIT["optStatus"]} <> 0
  and not exists (select from {{staged}} o where o.opt_status = 'opted_out'
                  and o.entity_type = s.entity_type and o.entity_id = s.entity_id)
"""
_REMEMBER: Final = f"""
insert into stated_opt_outs as m (org_id, channel, entity_type, entity_id, statement)
select :org, :channel, o.entity_type, o.entity_id, o.statement from ({_OF_ENTITIES}) o
join contacts c on c.org_id = :org and c.entity_type = o.entity_type and c.entity_id = o.entity_id
union all
select :org, :channel, o.entity_type, o.entity_id, o.statement from ({_OF_ADDRESSES}) o
join address_consents a on a.org_id = :org and a.address_key = cast(o.entity_id as uuid)
on conflict (org_id, channel, entity_type, entity_id) do update set statement = excluded.statement
where m.statement <> excluded.statement
"""


async def mark(session: AsyncSession, staged: str, channel: str, *, own_proof: bool) -> None:
    """Marks the staged opt-outs that only repeat what was said before the newest opt-in."""
    given = {"org": org_of(session), "channel": channel}
    if not await session.scalar(text(_ANY), given):
        return
    for statement in (_MARK_ENTITIES, _MARK_ADDRESSES):
        await session.execute(text(_over(statement, staged, own_proof=own_proof)), given)


async def remember(session: AsyncSession, staged: str, channel: str, *, own_proof: bool) -> None:
    """Stores what this import said, for the next one of its channel."""
    given = {"org": org_of(session), "channel": channel}
    if await session.scalar(text(_ANY), given):
        await session.execute(text(_over(_FORGET, staged, own_proof=own_proof)), given)
    await session.execute(text(_over(_REMEMBER, staged, own_proof=own_proof)), given)


def _over(statement: str, staged: str, *, own_proof: bool) -> str:
    return statement.format(staged=staged, own_proof="true" if own_proof else "false")
