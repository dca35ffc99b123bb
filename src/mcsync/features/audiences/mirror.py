"""The mirror: what Mailchimp last told us of each member (``sync.md`` 2).

Everything read comes in through :func:`merge`, a page at a time, as sets. A row never goes back in
``last_changed``; on a tie the stricter status stays. Who unsubscribed a member follows from what we
had asked for ourselves (an intent is committed before each call) and from Mailchimp's reason.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from mcsync.core.db import look_up_by_key, wrote
from mcsync.features.audiences import spellings
from mcsync.features.audiences.attribution import WHO, WHO_AT_FIRST
from mcsync.mailchimp import Member as MailchimpMember
from mcsync.mailchimp import (
    MemberStatus,
    mailbox_hash,
    normalise_address,
    spelled_domain,
    subscriber_hash,
)

FIELDS = (
    "id", "email_address", "contact_id", "status", "unsubscribe_reason", "source",
    "timestamp_opt", "timestamp_signup", "last_changed",
)  # fmt: skip
"""All that the mirror needs of a member."""

STATUSES = tuple(status.value for status in MemberStatus)

_STRICTNESS = """array_position(
    array['subscribed', 'pending', 'transactional', 'unsubscribed', 'archived', 'cleaned'], {})"""

_ARRIVED = """
create temp table if not exists arrived (
    h uuid primary key, email text, contact_id text, status text, last_changed timestamptz,
    opt timestamptz, signup timestamptz, reason text, source text, box uuid, spelled text, known boolean
) on commit drop
"""

_FILL = """
insert into arrived
select distinct on (1) *, false from unnest(
    cast(:h as uuid[]), cast(:email as text[]), cast(:contact_id as text[]), cast(:status as text[]),
    cast(:last_changed as timestamptz[]), cast(:opt as timestamptz[]), cast(:signup as timestamptz[]),
    cast(:reason as text[]), cast(:source as text[]), cast(:box as uuid[]), cast(:spelled as text[]))
order by 1, 5 desc nulls last
"""

# Read before as unsubscribed by the person, and nothing says that they were subscribed in between: what moved
# ``last_changed`` was something else, a tag for one, and is no second withdrawal.
_KNOWN = """
update arrived a set known = true
where a.status = 'unsubscribed' and exists (
    select from audience_members m
    where m.audience_id = :audience and m.address_hash = a.h and m.status = 'unsubscribed'
      and m.unsubscribed_by = 'person' and not coalesce(a.opt > m.timestamp_opt, false)
      and not coalesce(a.signup > m.timestamp_signup, false))
"""

# The member's contact_id is known here under another address: the person (or an admin) changed it at
# Mailchimp. Our own source still says the old one, which from now on stands for the new.
_MOVED = """
create temp table moved on commit drop as
select a.h as new_hash, a.email, a.box as new_box, a.spelled, m.address_hash as old_hash,
       coalesce(m.mailbox_hash, m.address_hash) as old_box
from arrived a
join audience_members m on m.audience_id = '{audience}' and m.contact_id = a.contact_id
     and a.contact_id <> '' and m.address_hash <> a.h and m.status <> 'absent'
     and (m.last_changed is null or a.last_changed is null or a.last_changed >= m.last_changed)
"""

_MOVE = (
    """delete from audience_members m using moved v
       where m.audience_id = :audience and m.address_hash = v.new_hash""",
    """update audience_members m set address_hash = v.new_hash, email = v.email,
           mailbox_hash = nullif(v.new_box, v.new_hash), spelled_domain = v.spelled
       from moved v
       where m.audience_id = :audience and m.address_hash = v.old_hash""",
    """insert into segment_members (org_id, segment_id, audience_id, address_hash)
       select t.org_id, t.segment_id, t.audience_id, v.new_hash from segment_members t
       join moved v on t.address_hash = v.old_hash where t.audience_id = :audience
       on conflict do nothing""",
    """delete from segment_members t using moved v
       where t.audience_id = :audience and t.address_hash = v.old_hash""",
    """update audience_aliases x set member_hash = v.new_hash, email = v.email,
           spelling = x.source_hash = v.new_box
       from moved v
       where x.audience_id = :audience and x.member_hash = v.old_hash""",
    # changed back to what our source says: no alias any more
    """delete from audience_aliases x
       where x.audience_id = :audience and x.source_hash = x.member_hash""",
    """insert into audience_aliases (org_id, audience_id, source_hash, member_hash, email, spelling)
       select :org, :audience, v.old_box, v.new_hash, v.email, v.old_box = v.new_box from moved v
       where v.old_box <> v.new_hash
         and exists (select from contacts c where c.org_id = :org and c.deleted_at is null
                     and c.address_hash = v.old_box)
       on conflict (audience_id, source_hash) do update
       set member_hash = excluded.member_hash, email = excluded.email, spelling = excluded.spelling""",
)

_FORM = "({0}.source ilike '%form%' or {0}.source ilike '%page%')"

_UPSERT = f"""
insert into audience_members as m (
    org_id, audience_id, address_hash, email, contact_id, status, last_changed, timestamp_opt,
    timestamp_signup, unsubscribe_reason, source, mailbox_hash, spelled_domain, unsubscribed_by)
select :org, :audience, a.h,
       case when exists (select from contacts c where c.org_id = :org and c.address_hash = a.box)
              or exists (select from address_consents k
                         where k.org_id = :org and k.address_hash = a.box)
              or exists (select from audience_aliases x
                         where x.audience_id = :audience and x.member_hash = a.h)
              or exists (select from segment_members t
                         where t.audience_id = :audience and t.address_hash = a.h)
            then a.email end,
       a.contact_id, a.status, a.last_changed, a.opt, a.signup, a.reason, a.source,
       nullif(a.box, a.h), a.spelled, {WHO_AT_FIRST}
from arrived a
order by a.h  -- whoever writes members locks them in this order: two at a time end in no deadlock
on conflict (audience_id, address_hash) do update set
    email = coalesce(excluded.email, m.email),
    contact_id = excluded.contact_id,
    status = excluded.status,
    last_changed = excluded.last_changed,
    timestamp_opt = excluded.timestamp_opt,
    timestamp_signup = excluded.timestamp_signup,
    unsubscribe_reason = excluded.unsubscribe_reason,
    source = excluded.source,
    unsubscribed_by = {WHO},
    unsubscribe_cause = case when ({WHO}) = 'us' then
        case when m.status = 'unsubscribed' then m.unsubscribe_cause else m.unsubscribe_intent end end,
    archived_by_us = excluded.status = 'archived' and (
        (m.status = 'archived' and m.archived_by_us)
        or (m.status = 'subscribed' and m.archive_intent_at is not null
            and excluded.last_changed >= date_trunc('second', m.archive_intent_at))),
    resubscribed_at = case
        when excluded.status in ('subscribed', 'pending')
             and m.status in ('unsubscribed', 'archived', 'cleaned')
             then excluded.last_changed
        when excluded.status in ('subscribed', 'pending') then m.resubscribed_at end,
    pending_added_at = case when excluded.status = 'subscribed' then null
                            else m.pending_added_at end,
    owned = case
        -- who signed up by themselves, or was put there by staff, is no longer ours to remove
        when {_FORM.format("excluded")} or excluded.source ilike 'admin%' then false
        -- the answer to our own call was lost, and this is what it did
        when m.intent_at is not null and coalesce(excluded.source, '') ilike 'api%'
             and greatest(excluded.timestamp_opt, excluded.timestamp_signup)
                 >= date_trunc('second', m.intent_at) then m.owned or m.status = 'absent'
        else m.owned and (m.status in ('subscribed', 'pending')
                          or excluded.status not in ('subscribed', 'pending')) end
where m.status = 'absent' or m.last_changed is null or excluded.last_changed is null
   or excluded.last_changed > m.last_changed
   or (excluded.last_changed = m.last_changed
       and ({_STRICTNESS.format("excluded.status")}) >= ({_STRICTNESS.format("m.status")})
       and ((m.status, m.contact_id, m.unsubscribe_reason, m.source, m.timestamp_opt, m.timestamp_signup)
           is distinct from (excluded.status, excluded.contact_id, excluded.unsubscribe_reason,
                             excluded.source, excluded.timestamp_opt, excluded.timestamp_signup)
            or m.unsubscribed_by is distinct from {WHO}))
returning address_hash, status, unsubscribed_by, last_changed, (xmax = 0) as is_new
"""

_OWN = """
with own as (  -- our own hashes behind each member that arrived
    select a.h as mh, a.box as h from arrived a
    union all
    select a.h, x.source_hash from arrived a
    join audience_aliases x on x.audience_id = :audience and x.member_hash = a.h
)
"""

# The member behind each row, by its key and nothing else (that is what ``offset 0`` is for): of a mirror
# that was filled a minute ago the planner believes that nobody in it has a status or a time yet, and would
# read all of it for every page.
_MEMBER = """cross join lateral (
    select * from audience_members
    where audience_id = :audience and address_hash = {0}.mh offset 0) m"""

# Of what just arrived: unsubscribed by the person. Under our own hashes, where a contact has or had the
# address or the member was fed from one. Mailchimp tells whole seconds: of an opt-in and a withdrawal in
# the same second, the withdrawal is the later one.
_PULLED_WITHDRAWALS = f"""
insert into pulled_withdrawals
{_OWN}
select o.h, max(m.last_changed) + interval '0.999999 seconds'
from own o
{_MEMBER.format("o")}
where m.status = 'unsubscribed' and m.unsubscribed_by = 'person'
  and (exists (select from contacts c where c.org_id = :org and c.address_hash = o.h)
       or exists (select from address_consents k where k.org_id = :org and k.address_hash = o.h)
       or m.fed_by is not null)
  and not exists (
      select from arrived a join address_consents k on k.org_id = :org and k.address_hash = o.h
      where a.h = o.mh and a.known and k.withdrawn_at is not null and k.withdrawn_source = 'mailchimp')
group by o.h
"""

# Subscribed again after a withdrawal, not by us: an opt-in, where the person did it (sync.md 2). The
# withdrawal may be the address's own, or that of a contact who moved to it since. A newer ``timestamp_opt``
# alone proves nothing, since any program's POST moves it: the member must have come by a form, and signed
# up there after the withdrawal (a source may be years old).
_PULLED_OPT_INS = f"""
insert into pulled_opt_ins
{_OWN}, standing as materialized (
    select o.mh, o.h, k.withdrawn_at as at
    from own o join address_consents k on k.org_id = :org and k.address_hash = o.h
    where k.withdrawn_at is not null and (k.given_at is null or k.given_at <= k.withdrawn_at)
    union all
    select o.mh, o.h, p.consent_withdrawn_at
    from own o join contacts c on c.org_id = :org and c.address_hash = o.h
    join email_preferences p on p.org_id = :org and p.entity_type = c.entity_type
         and p.entity_id = c.entity_id and p.status = 'opted_out'
)
select s.h, m.timestamp_opt
from standing s
{_MEMBER.format("s")}
where m.status = 'subscribed' and m.timestamp_opt is not null
  and {_FORM.format("m")}
group by s.h, m.timestamp_opt, m.timestamp_signup
having m.timestamp_opt > max(s.at) and m.timestamp_signup > max(s.at)
union
-- asked to confirm at the person's own request, and confirmed
select o.h, m.timestamp_opt
from own o
{_MEMBER.format("o")}
where m.requested_at is not null and m.status = 'subscribed'
  and m.timestamp_opt >= date_trunc('second', m.requested_at)
  and m.timestamp_opt < m.requested_at + interval '70 days'  -- a pending one lapses before
  and coalesce(m.source, '') not ilike 'admin%'
"""

# Rows of before the spelling was kept, and those that a call of ours made.
_SPELLED = """
update audience_members m set mailbox_hash = nullif(a.box, a.h), spelled_domain = a.spelled
from arrived a
where m.audience_id = :audience and m.address_hash = a.h and a.spelled is not null
  and (m.mailbox_hash, m.spelled_domain) is distinct from (nullif(a.box, a.h), a.spelled)
"""

_ANSWERED = """
update audience_members m set requested_at = null from arrived a
where m.audience_id = :audience and m.address_hash = a.h and m.requested_at is not null
  and case when a.status = 'pending' then false
           when a.status = 'subscribed' then a.last_changed >= date_trunc('second', m.requested_at)
           -- in the second of the request, this may be what was before it
           else a.last_changed > m.requested_at end
"""


@dataclass(frozen=True, slots=True)
class Arrivals:
    """What a page brought: rows that changed the mirror, withdrawals and opt-ins to record."""

    changed: int
    withdrawals: int
    opt_ins: int


async def merge(
    session: AsyncSession, org_id: UUID, audience_id: UUID, members: Sequence[MailchimpMember]
) -> Arrivals:
    """Brings a page of members into the mirror.

    Leaves two temporary tables (``address_hash``, ``effective_at``; our own hashes) for
    the consent records: ``pulled_withdrawals`` and ``pulled_opt_ins``. Addresses are ours: those that a
    contact has, or whose consent is on record. A member that does not say who it is, or whether it may
    be mailed, changes nothing.
    """
    members = [member for member in members if member.identified]
    base = {"org": org_id, "audience": audience_id}
    await look_up_by_key(session)
    wrote(session, len(members))
    await session.execute(text("drop table if exists arrived, moved"))
    await session.execute(text(_ARRIVED))
    await session.execute(text(_FILL), _columns(members))
    await session.execute(text(_MOVED.format(audience=audience_id)))
    if (await session.execute(text("select exists (select from moved)"))).scalar_one():
        for statement in _MOVE:
            await session.execute(text(statement), _only(statement, base))
    await session.execute(text(_KNOWN), {"audience": audience_id})
    changed = len((await session.execute(text(_UPSERT), base)).all())
    respelled = [m for m in members if spelled_domain(m.email_address) is not None]
    if respelled:
        await session.execute(text(_SPELLED), {"audience": audience_id})
        boxes = {UUID(hex=mailbox_hash(m.email_address)) for m in respelled}
        await spellings.settle_boxes(session, audience_id, list(boxes))
    for table in ("pulled_withdrawals", "pulled_opt_ins"):
        await session.execute(text(f"drop table if exists {table}"))
        await session.execute(
            text(
                f"create temp table {table} (address_hash uuid, effective_at timestamptz)"
                " on commit drop"
            )
        )
    withdrawals = await session.execute(text(_PULLED_WITHDRAWALS), base)
    opt_ins = await session.execute(text(_PULLED_OPT_INS), base)
    await session.execute(text(_ANSWERED), {"audience": audience_id})
    # who is a member again has outlived what was once refused
    await session.execute(
        text(
            """delete from audience_refusals r using arrived a
               where r.audience_id = :audience and r.address_hash = a.h
                 and r.code in ('forgotten', 'fake', 'compliance', 'unsubscribed', 'throttled',
                                'exists', 'archived')
                 and a.status in ('subscribed', 'pending')"""
        ),
        {"audience": audience_id},
    )
    return Arrivals(changed, _count(withdrawals), _count(opt_ins))


def _count(result: Any) -> int:
    return int(result.rowcount)


def _only(statement: str, params: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in params.items() if f":{name}" in statement}


def member_hash(member: MailchimpMember) -> UUID:
    """The hash a member is addressed by: Mailchimp's own id where it is one, else ours (MC 4.1)."""
    try:
        return UUID(hex=member.id)
    except (ValueError, AttributeError):
        return UUID(hex=subscriber_hash(member.email_address))


def _columns(members: Sequence[MailchimpMember]) -> dict[str, list[Any]]:
    return {
        "h": [member_hash(m) for m in members],
        "email": [normalise_address(m.email_address) for m in members],
        "contact_id": [m.contact_id for m in members],
        "status": [str(m.status) for m in members],
        "last_changed": [m.last_changed for m in members],
        "opt": [m.timestamp_opt for m in members],
        "signup": [m.timestamp_signup for m in members],
        "reason": [m.unsubscribe_reason for m in members],
        "source": [m.source for m in members],
        "box": [mailbox_of_member(member_hash(m), m.email_address) for m in members],
        "spelled": [spelled_domain(m.email_address) for m in members],
    }


def mailbox_of_member(address_hash: UUID, email: str) -> UUID:
    """The hash of a member's mailbox, by which our own tables know the address."""
    return address_hash if email.isascii() else UUID(hex=mailbox_hash(email))


async def mark_absent(session: AsyncSession, audience_id: UUID, hashes: Sequence[UUID]) -> None:
    """These addresses are not on the list: Mailchimp answered 404 for each."""
    await session.execute(
        text(
            """update audience_members set status = 'absent', contact_id = null, last_changed = null,
                   owned = false
               where audience_id = :audience and address_hash = any(cast(:hashes as uuid[]))"""
        ),
        {"audience": audience_id, "hashes": list(hashes)},
    )


async def mark_seen(
    session: AsyncSession, audience_id: UUID, hashes: Sequence[UUID], generation: int
) -> None:
    """These members were part of a full pull; :func:`drop_unseen` removes the others."""
    await session.execute(
        text(
            """update audience_members set pulled_in = :generation
               where audience_id = :audience and address_hash = any(cast(:hashes as uuid[]))"""
        ),
        {"audience": audience_id, "hashes": list(hashes), "generation": generation},
    )


async def drop_unseen(
    session: AsyncSession, audience_id: UUID, generation: int, *, started_at: datetime
) -> int:
    """After a complete full pull: members it did not show are gone. Answers how many."""
    gone = await session.execute(
        text(
            """update audience_members set status = 'absent', contact_id = null, last_changed = null,
                   owned = false
               where audience_id = :audience and status <> 'absent'
                 and pulled_in is distinct from :generation
                 and (pushed_at is null or pushed_at < :started)"""
        ),
        {"audience": audience_id, "generation": generation, "started": started_at},
    )
    return _count(gone)


async def status_counts(session: AsyncSession, audience_id: UUID) -> dict[str, int]:
    """How many members the mirror holds in each of Mailchimp's statuses."""
    rows = await session.execute(
        text(
            """select status, count(*) from audience_members
               where audience_id = :audience and status <> 'absent' group by status"""
        ),
        {"audience": audience_id},
    )
    return {str(row[0]): int(row[1]) for row in rows}
