"""Withdrawals in imported rows that name no contact, but an address.

Such a row was refused, and still says that whoever has this address withdraws: every contact with it, and
the address itself, so that a later import under it meets the withdrawal.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from mcsync.features.preferences import left_behind, repository
from mcsync.features.preferences.events import numbers, remember_of_addresses

_LIVING: Final = """exists (select from contacts v where v.org_id = :org and v.deleted_at is null
                     and v.address_hash = s.address_hash)"""
# Of a person who was erased nothing is stored again; nobody is sent anything under that address anyway.
_NAMED: Final = f"""
select distinct on (s.address_key) s.line, s.address_hash, s.address_key, s.email,
       coalesce(s.consent_source, :source) as source,
       cast(:proof as jsonb) || jsonb_build_object('line', s.line) as proof
from {{staged}} s
where s.opt_status = 'opted_out' and s.code is not null and s.address_key is not null
  and not s.address_repeated
  and ({_LIVING} or not exists (
         select from suppressions u where u.org_id = :org and u.kind = 'address'
         and u.lifted_at is null and u.key = s.address_key)
       and not exists (select from {{staged}} t where t.line = s.line and t.code = 'suppressed'))
order by s.address_key, s.line
"""

# First who they are, then their rows: as a condition it may be asked of each contact for each address.
_CONTACTS: Final = f"""
union all
select q.line, c.entity_type, c.entity_id, c.address_hash, c.address_key, c.email,
       cast(null as timestamptz) as at, q.source, q.proof
from ({_NAMED}) q
cross join lateral unnest(array(
    select h.id from contacts h where h.org_id = :org and h.address_hash = q.address_hash
    union all
    select h.id from audience_aliases x join contacts h on h.org_id = :org and h.address_hash = x.source_hash
    where x.org_id = :org and x.member_hash = q.address_hash
    union all ({left_behind.STILL_AT.format(hash="q.address_hash")}))) as who(id)
join contacts c on c.org_id = :org and c.id = who.id
"""

_WITHDRAW: Final = (
    f"""
with named as materialized ({_NAMED}), itself as (
    insert into address_consents as a (org_id, address_key, address_hash, withdrawn_at, withdrawn_source)
    select :org, address_key, address_hash, :now, source from named
    on conflict (org_id, address_key) do update
    set withdrawn_at = greatest(a.withdrawn_at, excluded.withdrawn_at, a.given_at),
        withdrawn_source = excluded.withdrawn_source, address_hash = excluded.address_hash
    where {repository.ADDRESS_WITHDRAWN.format(a="a")} is not true
    returning address_key, withdrawn_at
), alone as materialized (
    select n.*, i.withdrawn_at from itself i join named n using (address_key)
    where not exists (
        select from contacts c where c.org_id = :org and c.address_hash = n.address_hash)
), remembered as ("""
    + remember_of_addresses("""
    select address_key, 'opted_out' as status, withdrawn_at as at, source, proof,
           cast(null as text) as reason
    from alone
""")
    + f""")
insert into {repository.OUTCOMES}
select line, null, null, address_hash, email, true, null from alone
"""
)


def contacts(staged: str) -> str:
    """What the select of a staged import's withdrawals is joined with; binds source and proof."""
    return _CONTACTS.format(staged=staged)


async def withdraw(session: AsyncSession, staged: str, params: Mapping[str, Any]) -> None:
    """Withdraws the addresses themselves, after the contacts; adds to the outcomes those nobody has.

    ``params``: org, actor_kind, actor_id, now, source and proof.
    """
    await session.execute(text(_WITHDRAW.format(staged=staged)), {**params, **numbers()})
