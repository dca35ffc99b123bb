"""One mailbox, two spellings: under which hash a contact's address is found in an audience.

A domain outside ASCII is written in Unicode (``bücher.example``) or as an A-label
(``xn--bcher-kva.example``). Our tables know the mailbox by the hash of the A-label form; Mailchimp keeps a
member by the hash of the address as it is spelled there, and may have one under each spelling. A *spelling
alias* says which of them stands for the mailbox in an audience, as an alias of a person who moved there
does; without one it is the member in the A-label form. So no second member is ever made.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final
from uuid import UUID

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from mcsync.core.db import org_of
from mcsync.features.contacts.models import TWO_SPELLINGS

RANK: Final = """case when {0}.status in ('subscribed', 'pending') then 1
     when {0}.status <> 'absent' then 2
     when coalesce({0}.intent_at, {0}.pending_added_at, {0}.requested_at) is not null
          or exists (select from audience_refusals r where r.audience_id = {0}.audience_id
                     and r.address_hash = {0}.address_hash
                     and r.code in ('forgotten', 'compliance', 'unsubscribed', 'cleaned'))
          then 3
     else 5 end"""
"""Which member of a mailbox stands for it: an active one, any other, one that is on its way there or that
only the person can bring back; then (4) the spelling of the contact, and last a member that is gone."""

# Of the mailboxes of some contacts: what stands for each. A tie leaves it with the one that stood for it.
_SETTLE: Final = f"""
with found as materialized (
    select c.address_hash as box, c.email, c.updated_at, c.id
    from contacts c
    where c.org_id = :org and c.deleted_at is null and c.address_hash is not null
      and {TWO_SPELLINGS.replace("email", "c.email")} and ({{which}})
), boxes as materialized (
    select distinct on (f.box) f.box, f.email, lower(regexp_replace(f.email, '@[^@]*$', '')) as local,
           substring(f.email from '[^@]*$') ~ '[^ -~]' as in_unicode, x.member_hash as now
    from found f
    left join audience_aliases x on x.audience_id = :audience and x.source_hash = f.box
    where substring(f.email from '[^@]*$') ~ '[^ -~]|xn--' and f.email !~ '[^ -~].*@'
      and coalesce(x.spelling, true)  -- else the person has another address at Mailchimp
    order by f.box, f.updated_at desc, f.id
), candidates as (
    select b.box, b.now, m.address_hash as h, b.local || '@' || m.spelled_domain as email,
           {RANK.format("m")} as rank
    from boxes b join audience_members m on m.audience_id = :audience and m.address_hash = b.box
    union all
    select b.box, b.now, m.address_hash, b.local || '@' || m.spelled_domain, {RANK.format("m")}
    from boxes b join audience_members m on m.audience_id = :audience and m.mailbox_hash = b.box
    union all
    select box, now, case when in_unicode then md5(lower(email))::uuid else box end, email, 4 from boxes
), chosen as materialized (
    select distinct on (box) box, h, email, now from candidates
    order by box, rank, h = coalesce(now, box) desc, h = box desc, h
), given_up as (
    delete from audience_aliases x
    where x.audience_id = :audience and x.spelling
      and x.source_hash = any(array(select box from chosen where h = box and now is not null))
), given as (
    insert into audience_aliases as x (org_id, audience_id, source_hash, member_hash, email, spelling)
    select :org, :audience, box, h, email, true from chosen where h <> box
    on conflict (audience_id, source_hash) do update
    set member_hash = excluded.member_hash, email = excluded.email
    where x.spelling and (x.member_hash, x.email) is distinct from (excluded.member_hash, excluded.email)
)
select box, h, coalesce(now, box) as before from chosen where h is distinct from coalesce(now, box)
"""

OF_BOXES: Final = "c.address_hash = any(cast(:boxes as uuid[]))"


async def settle(
    session: AsyncSession, audience_id: UUID, which: str, params: Mapping[str, Any]
) -> set[UUID]:
    """Settles which member stands for each mailbox of these contacts (a condition about ``c``).

    Answers the hashes, before and after, of those for which it is another member by now.
    """
    statement = text(_SETTLE.format(which=which))
    wanted = {"org": org_of(session), "audience": audience_id, **params}
    names = statement._bindparams  # noqa: SLF001 - the names that this text really has
    rows = await session.execute(statement, {k: v for k, v in wanted.items() if k in names})
    return {found for row in rows for found in row}


async def settle_boxes(
    session: AsyncSession, audience_id: UUID, boxes: Sequence[UUID]
) -> set[UUID]:
    """:func:`settle` of the contacts with these addresses."""
    return await settle(session, audience_id, OF_BOXES, {"boxes": list(boxes)})
