"""Every SQL statement about consent. One contact or a million go through the same statements.

Times only ever move forward: a contact's and an address's latest withdrawal and latest opt-in are kept
side by side, and whichever is later holds. So nothing here needs a lock that would make an opt-out wait.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any, Final
from uuid import UUID

from sqlalchemy import Row, select, text, tuple_
from sqlalchemy.ext.asyncio import AsyncSession

from mcsync.core.db import org_of
from mcsync.features.preferences import left_behind
from mcsync.features.preferences.events import ID, NUMBERED, numbers
from mcsync.features.preferences.models import Preference

OUTCOMES: Final = "consent_outcomes"
"""Temporary table: what became of each statement that had an effect or was refused."""

ADDRESS_WITHDRAWN: Final = (
    "({a}.withdrawn_at is not null and ({a}.given_at is null or {a}.given_at <= {a}.withdrawn_at))"
)

_OUTCOMES = f"""
create temp table if not exists {OUTCOMES} (
    line bigint, entity_type text, entity_id text, address_hash uuid, email text,
    applied boolean not null, reason text
) on commit drop
"""

# A select of statements gives: line, entity_type, entity_id, address_hash, address_key, email, at, source,
# proof. `at` null: no time of its own.
_BEFORE = """
stated as materialized (
    select distinct on (entity_type, entity_id) * from ({stated}) every
    order by entity_type, entity_id, at desc nulls last, line
), before as materialized (  -- in the order of the keys, in which indexes are filled fastest
    select row_number() over (order by s.entity_type, s.entity_id) as n, s.line, s.entity_type, s.entity_id, s.address_hash, s.address_key, s.email, s.source, s.proof,
           s.at as own_at, p.status as was, p.consent_given_at as given,
           p.consent_withdrawn_at as withdrawn, a.given_at as address_given,
           a.withdrawn_at as address_withdrawn
    from stated s
    left join email_preferences p on p.org_id = :org and p.entity_type = s.entity_type
         and p.entity_id = s.entity_id
    left join address_consents a on a.org_id = :org and a.address_key = s.address_key
)"""

# A withdrawal without a time of its own holds at once, whatever was recorded; one with a time holds
# unless an opt-in of the contact or of the address is later. `:again`: said once more, it moves the time.
_WITHDRAW = f"""
with {_BEFORE}, judged as materialized (
    select b.*, coalesce(own_at, greatest(:now, given, address_given)) as at,
           own_at is null or own_at >= coalesce(greatest(given, address_given), '-infinity') as holds
    from before b
), written as (
    insert into email_preferences as p
        (id, org_id, entity_type, entity_id, status, consent_withdrawn_at, source, proof)
    select {ID}, :org, entity_type, entity_id, 'opted_out', at, source, proof from judged
    where holds and (was is distinct from 'opted_out' or (:again and (withdrawn is null or withdrawn < at)))
    on conflict (org_id, entity_type, entity_id) do update
    set status = 'opted_out', source = excluded.source, proof = excluded.proof, updated_at = now(),
        consent_withdrawn_at = greatest(p.consent_withdrawn_at, excluded.consent_withdrawn_at,
                                        case when :at_once then p.consent_given_at end)
    where :at_once or p.consent_given_at is null
          or excluded.consent_withdrawn_at >= p.consent_given_at
    returning entity_type, entity_id
), addressed as (
    insert into address_consents as a (org_id, address_key, address_hash, withdrawn_at, withdrawn_source)
    select distinct on (address_key) :org, address_key, address_hash, at, source from judged
    where holds and address_key is not null
      and (address_withdrawn is null or (address_withdrawn < at
           and (:again or address_given > address_withdrawn)))
    order by address_key, at desc
    on conflict (org_id, address_key) do update
    set withdrawn_source = case when excluded.withdrawn_at > coalesce(a.withdrawn_at, '-infinity')
                                then excluded.withdrawn_source else a.withdrawn_source end,
        withdrawn_at = greatest(a.withdrawn_at, excluded.withdrawn_at,
                                case when :at_once then a.given_at end),
        address_hash = excluded.address_hash
    returning address_key
), outcome as materialized (
    select j.*, w.entity_id is not null or d.address_key is not null as applied
    from judged j left join written w using (entity_type, entity_id) left join addressed d using (address_key)
), remembered as (
    insert into preference_events (id, org_id, entity_type, entity_id, address_key, status, effective_at, source,
        proof, actor_kind, actor_id, applied, reason)
    select {ID}, :org, entity_type, entity_id, address_key, 'opted_out', at, source, proof, :actor_kind, :actor_id,
           applied, case when not applied then 'older_than_opt_in' end
    from outcome o
    where applied or (not holds and not exists (
        select from preference_events e
        where e.org_id = :org and e.entity_type = o.entity_type and e.entity_id = o.entity_id
          and e.status = 'opted_out' and e.effective_at = o.at and e.source = o.source))
)
insert into {OUTCOMES}
select line, entity_type, entity_id, address_hash, email, applied,
       case when not holds then 'older_than_opt_in' end
from outcome where applied or not holds
"""

# An opt-in lifts a withdrawal, of the contact or of the address, only if it is later. One without a time
# of its own lifts none, nor does one of the future.
_OPT_IN = f"""
with {_BEFORE}, judged as materialized (
    select b.*, least(coalesce(own_at, :now), :now) as at,
           case when own_at is null or own_at > :now
                then was is distinct from 'opted_out' and not coalesce(
                     address_given <= address_withdrawn
                     or (address_withdrawn is not null and address_given is null), false)
                else own_at > coalesce(greatest(withdrawn, address_withdrawn), '-infinity')
           end as holds
    from before b
), written as (
    insert into email_preferences as p
        (id, org_id, entity_type, entity_id, status, consent_given_at, source, proof)
    select {ID}, :org, entity_type, entity_id, 'opted_in', at, source, proof from judged
    where holds and (was is distinct from 'opted_in'
                     or (own_at is not null and at > coalesce(given, '-infinity')))
    on conflict (org_id, entity_type, entity_id) do update
    set status = 'opted_in', source = excluded.source, proof = excluded.proof, updated_at = now(),
        consent_given_at = greatest(p.consent_given_at, excluded.consent_given_at)
    where p.consent_withdrawn_at is null or excluded.consent_given_at > p.consent_withdrawn_at
    returning entity_type, entity_id
), outcome as materialized (
    select j.*, w.entity_id is not null as applied from judged j left join written w using (entity_type, entity_id)
), addressed as (
    insert into address_consents as a (org_id, address_key, address_hash, given_at, given_source)
    select distinct on (address_key) :org, address_key, address_hash, at, source from outcome
    where applied and address_key is not null
    order by address_key, at desc
    on conflict (org_id, address_key) do update
    set given_source = case when excluded.given_at > coalesce(a.given_at, '-infinity')
                            then excluded.given_source else a.given_source end,
        given_at = greatest(a.given_at, excluded.given_at),
        address_hash = excluded.address_hash
), remembered as (
    insert into preference_events (id, org_id, entity_type, entity_id, address_key, status, effective_at, source,
        proof, actor_kind, actor_id, applied, reason)
    select {ID}, :org, entity_type, entity_id, address_key, 'opted_in', at, source, proof, :actor_kind, :actor_id,
           applied, case when applied then null when holds then 'already_opted_in' else 'opt_in_not_newer' end
    from outcome o
    where applied or (own_at is not null and at is distinct from given and not exists (
        select from preference_events e
        where e.org_id = :org and e.entity_type = o.entity_type and e.entity_id = o.entity_id
          and e.status = 'opted_in' and e.effective_at = o.at and e.source = o.source))
)
insert into {OUTCOMES}
select line, entity_type, entity_id, address_hash, email, applied,
       case when not holds then 'opt_in_not_newer' end
from outcome
where applied
   or (not holds and not (was is not distinct from 'opted_in' and (own_at is null or at <= given)))
"""

# Taking back an opt-in without a withdrawal. A withdrawal is not touched: only an opt-in lifts it.
_UNSET = f"""
with stated as materialized (
    select distinct on (entity_type, entity_id) * from ({{stated}}) every
    order by entity_type, entity_id, line
), written as (
    update email_preferences p
    set status = 'unset', source = s.source, proof = s.proof, updated_at = now()
    from stated s
    where p.org_id = :org and p.entity_type = s.entity_type and p.entity_id = s.entity_id
      and p.status = 'opted_in'
    returning s.*
), remembered as (
    insert into preference_events (id, org_id, entity_type, entity_id, address_key, status, effective_at, source,
        proof, actor_kind, actor_id, applied)
    select {NUMBERED}, :org, entity_type, entity_id, address_key, 'unset', :now, source, proof, :actor_kind, :actor_id, true
    from written
)
insert into {OUTCOMES}
select line, entity_type, entity_id, address_hash, email, true, null from written
"""

_STATEMENTS: Final = {"opted_out": _WITHDRAW, "opted_in": _OPT_IN, "unset": _UNSET}

_ONE = """
select cast(null as bigint) as line, c.entity_type, c.entity_id, c.address_hash, c.address_key, c.email,
       cast(:at as timestamptz) as at, cast(:source as text) as source, cast(:proof as jsonb) as proof
from contacts c
where c.org_id = :org and c.entity_type = :entity_type and c.entity_id = :entity_id
"""

_PULLED = """
select cast(null as bigint) as line, c.entity_type, c.entity_id, c.address_hash, c.address_key, c.email,
       {at} as at, cast(:source as text) as source, cast('{{}}' as jsonb) as proof
from {table} t {held}
for key share of c
"""
_HELD = "join contacts c on c.org_id = :org and c.address_hash = t.address_hash"
# First who they are, then their rows: as a condition it may be asked of each contact for each address.
_HELD_OR_LEFT = f"""cross join lateral unnest(array(
    select h.id from contacts h where h.org_id = :org and h.address_hash = t.address_hash
    union all ({left_behind.STILL_AT.format(hash="t.address_hash")}))) as who(id)
join contacts c on c.org_id = :org and c.id = who.id"""

# An opt-out counts even where the rest of its row was refused, if it names a contact that we know. One of a
# contact whose address was cleared, perhaps by this very row, is also of the address it had.
_STAGED = """
select s.line, c.entity_type, c.entity_id, {address},
       {at} as at, coalesce(s.consent_source, :source) as source,
       cast(:proof as jsonb) || jsonb_build_object('line', s.line){own_proof} as proof
from {staged} s
join contacts c on c.org_id = :org and c.entity_type = s.entity_type and c.entity_id = s.entity_id{had}
where s.opt_status = '{status}' and {taken}
"""
_ADDRESS = "c.address_hash, c.address_key, c.email"
_ADDRESS_HAD = """coalesce(c.address_hash, f.address_hash) as address_hash,
       coalesce(c.address_key, f.address_key) as address_key, coalesce(c.email, f.email) as email"""
_HAD = """
left join lateral (
    select b.address_hash, b.address_key, b.email from contact_addresses b
    where c.address_hash is null and b.contact_id = c.id and b.org_id = :org
      and not exists (select from contacts n where n.org_id = :org and n.deleted_at is null
                      and n.address_hash = b.address_hash)
    order by b.replaced_at desc limit 1) f on true"""


async def moment(session: AsyncSession) -> datetime:
    """The database's clock, now (not when the transaction began)."""
    now = await session.scalar(text("select clock_timestamp()"))
    assert isinstance(now, datetime)
    return now


async def state(
    session: AsyncSession, status: str, stated: str, params: Mapping[str, Any], *,
    now: datetime, actor_kind: str, actor_id: str | None, at_once: bool = False, again: bool = False,
) -> None:  # fmt: skip
    """Records statements of one status. What became of them is then in :data:`OUTCOMES`.

    ``stated``: a select as described above. ``at_once`` and ``again`` are about withdrawals: they hold
    whatever was recorded; repeating one moves its time.
    """
    await session.execute(text(_OUTCOMES))
    await session.execute(text(f"truncate {OUTCOMES}"))
    actor = {"org": org_of(session), "actor_kind": actor_kind, "actor_id": actor_id}
    every = {**actor, "now": now, **numbers(), **params}
    if status == "opted_out":
        every |= {"at_once": at_once, "again": again}
    await session.execute(text(_STATEMENTS[status].format(stated=stated)), every)
    await left_behind.reset(session)
    if status == "opted_out":
        await left_behind.withdraw(session, OUTCOMES, actor)


async def outcome_counts(session: AsyncSession) -> tuple[int, int]:
    """How many statements were applied, and how many refused."""
    row = (
        await session.execute(
            text(
                f"select count(*) filter (where applied), count(*) filter (where not applied)"
                f" from {OUTCOMES}"
            )
        )
    ).one()
    return row[0], row[1]


async def refusal(session: AsyncSession) -> str | None:
    """Why the one statement was refused, if it was."""
    reason: str | None = await session.scalar(
        text(f"select reason from {OUTCOMES} where not applied")
    )
    return reason


APPLIED: Final = f"""
select address_hash, email from {OUTCOMES} where applied and address_hash is not null
union
select address_hash, email from {left_behind.TABLE}
"""
"""The addresses of the statements just recorded that hold, for their orders."""


def one_contact() -> str:
    """Select of a statement about one contact; binds entity_type, entity_id, at, source and proof."""
    return _ONE


def pulled(table: str, *, left_behind_too: bool) -> str:
    """Select of the statements in a temporary table (address_hash, effective_at); binds source.

    ``left_behind_too``: also about contacts whom Mailchimp still knows by the address they had before.
    """
    # what happened at Mailchimp has happened, also where its clock is ahead of ours
    return _PULLED.format(
        table=table,
        held=_HELD_OR_LEFT if left_behind_too else _HELD,
        at="t.effective_at" if left_behind_too else "least(t.effective_at, :now)",
    )


def staged(table: str, status: str, *, own_proof: bool = False) -> str:
    """Select of the statements of one status in a staged import; binds source and proof.

    ``own_proof``: each row brings its own proof, in ``attributes``.
    """
    return _STAGED.format(
        staged=table,
        status=status,
        at="cast(null as timestamptz)" if status == "opted_out" else "s.consent_given_at",
        taken="not s.repeated" if status == "opted_out" else "s.code is null",
        address=_ADDRESS_HAD if status == "opted_out" else _ADDRESS,
        had=_HAD if status == "opted_out" else "",
        own_proof=" || coalesce(s.attributes, '{}')" if own_proof else "",
    )


async def staged_statuses(session: AsyncSession, table: str) -> set[str]:
    """Which statuses the rows of a staged import state at all."""
    found = await session.execute(
        text(f"select distinct opt_status from {table} where opt_status is not null")
    )
    return set(found.scalars())


async def note_refused(session: AsyncSession, table: str) -> None:
    """Marks the staged rows whose statement was refused."""
    await session.execute(
        text(
            f"update {table} s set note = o.reason from {OUTCOMES} o"
            " where o.line = s.line and s.code is null and not o.applied"
        )
    )


async def find_contacts(session: AsyncSession, table: str) -> None:
    """Gives the staged rows of a file of preferences their contact's address; refuses those of nobody."""
    await session.execute(
        text(
            f"""update {table} s set address_hash = c.address_hash, address_key = c.address_key,
                    code = case when c.id is null then 'contact_not_found' end,
                    field = case when c.id is null then 'entityId' end
                from {table} r
                left join contacts c on c.org_id = :org and c.entity_type = r.entity_type
                     and c.entity_id = r.entity_id
                where r.ctid = s.ctid and r.entity_id is not null and s.code is null"""
        ),
        {"org": org_of(session)},
    )


async def applied_of_refused(session: AsyncSession, table: str) -> int:
    """How many of the statements just recorded stood in rows that were refused otherwise."""
    counted = await session.scalar(
        text(
            f"""select count(*) from {OUTCOMES} o where o.applied and exists (
                    select from {table} s where s.line = o.line and s.code is not null)
                and not exists (
                    select from {table} s where s.line = o.line and s.code is null)"""
        )
    )
    return int(counted or 0)


_AFFECTED = f"""
select count(distinct c.id)
from contacts c
left join email_preferences p on p.org_id = c.org_id and p.entity_type = c.entity_type
     and p.entity_id = c.entity_id
left join address_consents a on a.org_id = c.org_id and a.address_key = c.address_key
{{among}}
where c.org_id = :org and c.deleted_at is null and coalesce(p.status, 'unset') <> 'opted_out'
  and not coalesce({ADDRESS_WITHDRAWN.format(a="a")}, false)
"""
_AMONG = """
join (select o.id from {staged} s
      join contacts o on o.org_id = :org and o.entity_type = s.entity_type and o.entity_id = s.entity_id
      where s.opt_status = 'opted_out' and not s.repeated
      union
      select o.id from {staged} s
      join contacts n on n.org_id = :org and n.entity_type = s.entity_type and n.entity_id = s.entity_id
      join contacts o on o.org_id = :org and o.address_hash = n.address_hash
      where s.opt_status = 'opted_out' and not s.repeated and (s.code is not null or s.email is null)
      union
      select o.id from {staged} s
      join contacts o on o.org_id = :org and o.address_hash = s.address_hash
      where s.opt_status = 'opted_out'
        and not case when s.code is null then s.repeated else s.address_repeated end
     ) hit on hit.id = c.id
"""


async def would_withdraw(session: AsyncSession, table: str) -> int:
    """How many living contacts, not withdrawn now, a staged import would withdraw.

    Through themselves or through their address; contacts that are new in the import do not count.
    """
    statement = _AFFECTED.format(among=_AMONG.format(staged=table))
    return int(await session.scalar(text(statement), {"org": org_of(session)}) or 0)


async def not_withdrawn(session: AsyncSession) -> int:
    """How many living contacts are not withdrawn now, neither themselves nor by their address."""
    statement = _AFFECTED.format(among="")
    return int(await session.scalar(text(statement), {"org": org_of(session)}) or 0)


# ---- reading

_STRICTEST = """case when bool_or(coalesce(p.status, 'unset') = 'opted_out') then 'opted_out'
                    when bool_and(coalesce(p.status, 'unset') = 'opted_in') then 'opted_in'
                    else 'unset' end"""

_EFFECTIVE = f"""
select coalesce(w.status, 'unset') as status, w.consent_given_at, w.consent_withdrawn_at, w.source,
       coalesce(w.proof, '{{}}') as proof, w.updated_at,
       c.email is not null as usable,
       {ADDRESS_WITHDRAWN.format(a="a")} as withdrawn,
       a.withdrawn_at, a.withdrawn_source, a.given_at, a.given_source,
       (select {_STRICTEST}
        from contacts o
        left join email_preferences p on p.org_id = o.org_id and p.entity_type = o.entity_type
             and p.entity_id = o.entity_id
        where o.org_id = c.org_id and o.address_hash = c.address_hash
          and (o.deleted_at is null or o.id = c.id)) as strictest,
       (select count(*) from contacts o where o.org_id = c.org_id and o.address_hash = c.address_hash
          and o.deleted_at is null and o.id <> c.id) as others
from contacts c
left join address_consents a on a.org_id = c.org_id and a.address_key = c.address_key
left join email_preferences w on w.org_id = c.org_id and w.entity_type = c.entity_type
     and w.entity_id = c.entity_id
where c.org_id = :org and c.entity_type = :entity_type and c.entity_id = :entity_id
"""


_STANDING = f"""
select {ADDRESS_WITHDRAWN.format(a="a")} as withdrawn,
       a.withdrawn_at, a.withdrawn_source, a.given_at, a.given_source, o.strictest, o.others
from (select {_STRICTEST} as strictest, count(*) as others
      from contacts o
      left join email_preferences p on p.org_id = o.org_id and p.entity_type = o.entity_type
           and p.entity_id = o.entity_id
      where o.org_id = :org and o.address_hash = :hash and o.deleted_at is null) o
left join address_consents a on a.org_id = :org and a.address_hash = :hash
where o.others > 0 or a.address_key is not null
"""


async def standing_of(session: AsyncSession, address_hash: UUID) -> Row[Any] | None:
    """What holds for an address, whoever has it; None: no living contact has it, nothing is recorded.

    ``others``: how many living contacts have it.
    """
    return (
        await session.execute(text(_STANDING), {"org": org_of(session), "hash": address_hash})
    ).one_or_none()


async def effective(session: AsyncSession, entity_type: str, entity_id: str) -> Row[Any] | None:
    """A contact's preference, and what holds for its address over all contacts that share it.

    None: no such contact.
    """
    return (
        await session.execute(
            text(_EFFECTIVE),
            {"org": org_of(session), "entity_type": entity_type, "entity_id": entity_id},
        )
    ).one_or_none()


async def hold_contact(session: AsyncSession, entity_type: str, entity_id: str) -> bool:
    """Whether there is such a contact; until commit it cannot be erased, so that nothing outlives it."""
    found = await session.execute(
        text(
            """select 1 from contacts where org_id = :org and entity_type = :entity_type
               and entity_id = :entity_id for key share"""
        ),
        {"org": org_of(session), "entity_type": entity_type, "entity_id": entity_id},
    )
    return found.one_or_none() is not None


async def get(session: AsyncSession, entity_type: str, entity_id: str) -> Preference | None:
    """The contact's preference; None: unset, nothing was ever recorded."""
    return (
        await session.execute(
            select(Preference).where(
                Preference.org_id == org_of(session),
                Preference.entity_type == entity_type,
                Preference.entity_id == entity_id,
            ),
            execution_options={"populate_existing": True},
        )
    ).scalar_one_or_none()


async def page(
    session: AsyncSession, *, status: str | None, after: tuple[str, str] | None, limit: int
) -> list[Preference]:
    """Preferences by entity type and id."""
    query = select(Preference).where(Preference.org_id == org_of(session))
    if status is not None:
        query = query.where(Preference.status == status)
    key = tuple_(Preference.entity_type, Preference.entity_id)
    if after is not None:
        query = query.where(key > after)
    query = query.order_by(Preference.entity_type, Preference.entity_id).limit(limit)
    return list((await session.execute(query)).scalars())
