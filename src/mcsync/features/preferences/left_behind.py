"""Addresses that a contact had before and is still written to at: withdrawals reach across the change.

A contact's address may have changed here while its member at Mailchimp, fed from the contact, still has
the one before: until the next run, or for ever where a segment keeps who left. Such an address is withdrawn
together with the contact, unless another living contact has it by now. And as long as the new address is
no member yet, who withdraws under the old one is the contact: nobody is added under another address by
having left a moment too late.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from mcsync.features.preferences.events import numbers, remember_of_addresses

TABLE: Final = "withdrawn_left_behind"
"""Temporary table (address_hash, email): the addresses that the last withdrawals reached besides."""

_CREATE: Final = f"""
create temp table if not exists {TABLE} (address_hash uuid, email text) on commit drop
"""

STILL_AT: Final = """
select n.id from audiences a
cross join lateral (
    select o.fed_by from audience_members o where o.audience_id = a.id and o.address_hash = {hash}
    union all
    select o.fed_by from audience_members o where o.audience_id = a.id and o.mailbox_hash = {hash}) m
join contacts n on n.id = m.fed_by
join contact_addresses f on f.contact_id = n.id and f.address_hash = {hash}
where a.org_id = :org and n.address_hash is distinct from {hash}
  and not exists (select from audience_members w where w.audience_id = a.id
                  and w.address_hash = n.address_hash and w.status <> 'absent')
  and not exists (select from audience_members w where w.audience_id = a.id
                  and w.mailbox_hash = n.address_hash and w.status <> 'absent')
"""
"""Select of the contacts that had an address, and whom Mailchimp still knows by nothing but that."""

# The proof is the contact's, and stays in its own history: another may have the address one day.
_REMEMBER: Final = remember_of_addresses("""
    select b.address_key, 'opted_out' as status, b.at, b.source, cast('{{}}' as jsonb) as proof,
           case when a.given_at > b.at then 'older_than_opt_in' end as reason
    from behind b
    left join address_consents a on a.org_id = :org and a.address_key = b.address_key
    where a.withdrawn_at is null or a.withdrawn_at < b.at
""")

# By the mirror's keys: an address, in each of the organisation's few audiences.
_WITHDRAW: Final = f"""
with behind as materialized (
    select distinct on (f.address_key) f.address_key, f.address_hash, f.email,
           p.consent_withdrawn_at as at, p.source
    from {{outcomes}} o
    join contacts c on c.org_id = :org and c.entity_type = o.entity_type and c.entity_id = o.entity_id
    join contact_addresses f on f.contact_id = c.id
         and f.address_hash is distinct from c.address_hash
    join email_preferences p on p.org_id = :org and p.entity_type = o.entity_type
         and p.entity_id = o.entity_id and p.status = 'opted_out'
    where o.applied and f.org_id = :org
      and exists (select from audiences a cross join lateral (
                      select o.status, o.fed_by, o.intent_at from audience_members o
                      where o.audience_id = a.id and o.address_hash = f.address_hash
                      union all
                      select o.status, o.fed_by, o.intent_at from audience_members o
                      where o.audience_id = a.id and o.mailbox_hash = f.address_hash) m
                  where a.org_id = :org
                    and ((m.status in ('subscribed', 'pending') and m.fed_by = c.id)
                         or (m.status = 'absent' and m.intent_at is not null)))
      and not exists (select from contacts n where n.org_id = :org and n.deleted_at is null
                      and n.address_hash = f.address_hash)
    order by f.address_key, p.consent_withdrawn_at desc
), written as (
    insert into address_consents as a
        (org_id, address_key, address_hash, withdrawn_at, withdrawn_source)
    select :org, address_key, address_hash, at, source from behind
    on conflict (org_id, address_key) do update
    set withdrawn_source = excluded.withdrawn_source, address_hash = excluded.address_hash,
        withdrawn_at = greatest(a.withdrawn_at, excluded.withdrawn_at)
), remembered as ({_REMEMBER})
insert into {TABLE} select address_hash, email from behind
"""


async def reset(session: AsyncSession) -> None:
    """Makes the table of this transaction, empty."""
    await session.execute(text(_CREATE))
    await session.execute(text(f"truncate {TABLE}"))


async def withdraw(session: AsyncSession, outcomes: str, actor: Mapping[str, Any]) -> None:
    """Withdraws the addresses left behind by the contacts whose withdrawal was just applied.

    ``actor``: who withdrew, as org, actor_kind and actor_id.
    """
    await session.execute(text(_WITHDRAW.format(outcomes=outcomes)), {**actor, **numbers()})
