"""The staging table of an import, and the set-based merge of it into the contacts.

COPY is refused on tables with row-level security, so rows go into a temporary table first. It lives in
the import's own transaction and holds the rows to take, and one row for every problem, of rows that are
refused and of rows that are taken without the field that is wrong.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Collection
from dataclasses import dataclass
from typing import Final
from uuid import UUID

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession
from uuid6 import uuid7

from mcsync.core.db import MUCH, analyse_grown_later, lock_obtained, org_of, wrote
from mcsync.features.contacts.intake import OPTIONAL_FIELDS, STAGED_COLUMNS
from mcsync.features.contacts.intake.rows import PROVIDED_BIT

STAGED: Final = "staged_contacts"
"""The temporary table's name. ``code`` is null for rows to take, else it is a problem of the row at this line;
``note`` is a code that is reported though the row was taken. ``opt_status`` may also be set where ``code`` is:
an opt-out holds in any case, for the entity and for the address that such a row names. ``repeated`` and
``address_repeated``: the opt-out of the entity, or of the address, is one that was imported before."""

_CREATE = f"""
create temp table {STAGED} (
    line bigint not null, code text, field text, provided integer not null,
    entity_type text, entity_id text, email text, address_hash uuid, address_key uuid, entity_key uuid,
    first_name text, last_name text, department text, location text, employment_type text,
    employment_status text, attributes jsonb,
    opt_status text, consent_source text, consent_given_at timestamptz, note text,
    repeated boolean not null default false, address_repeated boolean not null default false
) on commit drop
"""

# One merge at a time in an organisation: counts stay exact, two imports cannot lock each other up, and
# the insert needs no conflict clause. Uploads overlap freely, only the merges take turns.
_LOCK = text("select pg_advisory_xact_lock(hashtextextended('contacts.merge:' || :org, 0))")

WAITERS: Final = 4
"""Imports of an organisation that one process stages, or keeps waiting for their merge, at a time."""


def lock_name(org_id: UUID) -> str:
    """What a transaction that will call :func:`lock_merge` is opened ``behind``."""
    return f"contacts.merge:{org_id}"


_DUPLICATES = f"""
update {STAGED} s set code = 'duplicate_entity_id', field = 'entityId'
from (select entity_type, entity_id, min(line) as line from {STAGED}
      where code is null group by 1, 2 having count(*) > 1) d
where s.code is null and s.entity_type = d.entity_type and s.entity_id = d.entity_id
  and s.line > d.line
"""

_EMAIL: Final = PROVIDED_BIT["email"]
_KEPT_ADDRESSES = f"""
update {STAGED} s set email = c.email, address_hash = c.address_hash, address_key = c.address_key,
       provided = s.provided | {_EMAIL}
from contacts c
where s.code is null and s.provided & {_EMAIL} = 0
  and c.org_id = :org and c.entity_type = s.entity_type and c.entity_id = s.entity_id
"""
_NO_ADDRESS = f"""
update {STAGED} s set code = coalesce(p.code, 'missing_email'), field = 'email'
from {STAGED} r
left join (select line, min(code) as code from {STAGED} where code is not null and field = 'email'
           group by 1) p on p.line = r.line
where r.ctid = s.ctid and s.code is null and s.provided & {_EMAIL} = 0
"""
# A line has at most one row to take, beside any number of problems.
_REPORTED = f"""
select distinct s.line, coalesce(s.field, 'consentGivenAt') as field, coalesce(s.code, s.note) as code,
       t.line is not null as taken
from {STAGED} s left join {STAGED} t on t.line = s.line and t.code is null
where s.code is not null or s.note is not null
"""

# An erased person stays away under their own id, and under the address, unless a living contact holds it:
# whoever shared it keeps their record, and the address is wanted nowhere.
_SUPPRESSED = f"""
update {STAGED} s
set code = 'suppressed', field = case when e.key is null then 'email' else 'entityId' end
from {STAGED} r
left join suppressions e on e.org_id = :org and e.kind = 'entity' and e.lifted_at is null
     and e.key = r.entity_key
left join suppressions a on a.org_id = :org and a.kind = 'address' and a.lifted_at is null
     and a.key = r.address_key
where r.line = s.line and r.code is null and s.code is null
  and (e.key is not null or (a.key is not null and not exists (
        select from contacts c
        where c.org_id = :org and c.address_hash = r.address_hash and c.deleted_at is null)))
"""


@dataclass(frozen=True, slots=True)
class Merged:
    """How many rows were created, changed and left as they were."""

    created: int
    updated: int
    unchanged: int


async def create(session: AsyncSession) -> None:
    """Makes the staging table of this transaction."""
    await session.execute(text(f"drop table if exists pg_temp.{STAGED}"))
    await session.execute(text(_CREATE))


async def copy(session: AsyncSession, lines: AsyncIterator[bytes]) -> None:
    """COPYs lines of :mod:`intake` into the staging table, as they come."""
    connection = await session.connection()
    raw = (await connection.get_raw_connection()).driver_connection
    assert raw is not None
    await raw.copy_to_table(STAGED, source=lines, columns=STAGED_COLUMNS)


async def lock_merge(session: AsyncSession) -> None:
    """Waits until no other import of the organisation merges."""
    await session.execute(_LOCK, {"org": str(org_of(session))})
    lock_obtained(session)


async def prepare(session: AsyncSession, rows: int) -> None:
    """Gives the planner figures and room; the defaults are made for small statements.

    Of large sets it would loop over pairs where it cannot know a size (the results of writes), so that is
    forbidden for the rest of the transaction. After a large set the tables that have grown are analysed.
    """
    await session.execute(text("set local work_mem = '64MB'"))
    if rows > MUCH:
        analyse_grown_later(session)
        await session.execute(text("set local enable_nestloop = off"))
    else:
        wrote(session, rows)
    await session.execute(
        text(f"analyze {STAGED} (entity_type, entity_id, code, address_hash, opt_status)")
    )


async def keep_addresses(session: AsyncSession) -> None:
    """Rows that tell no usable address keep that of their contact; one of a new contact is refused."""
    await session.execute(text(_KEPT_ADDRESSES), {"org": org_of(session)})
    await session.execute(text(_NO_ADDRESS))


async def refuse_duplicates(session: AsyncSession) -> None:
    """Of rows about the same contact the first is taken."""
    await session.execute(text(_DUPLICATES))


async def erased_entities(session: AsyncSession) -> bool:
    """Whether anybody of the organisation is kept away under their own id."""
    found = await session.scalar(
        text(
            "select exists (select from suppressions"
            " where org_id = :org and kind = 'entity' and lifted_at is null)"
        ),
        {"org": org_of(session)},
    )
    return bool(found)


async def refuse_suppressed(session: AsyncSession) -> None:
    """Refuses rows about people who were erased."""
    org = {"org": org_of(session)}
    any_live = "select exists (select from suppressions where org_id = :org and lifted_at is null)"
    if await session.scalar(text(any_live), org):
        await session.execute(text(_SUPPRESSED), org)


async def merge(
    session: AsyncSession, fields: Collection[str], *, masked: bool, source_id: UUID | None = None
) -> Merged:
    """Creates and changes contacts from the rows to take.

    ``fields``: those the file provides; others keep their value. ``masked``: rows differ in what they
    provide (``provided``). A row that changes nothing bumps no version; a changed address moves the one
    before to ``contact_addresses``; a contact that had left is back. ``source_id``: the source that the
    rows were pulled from; they carry its mark from now on, which is no change of theirs.
    """
    org_id = org_of(session)
    total = await session.scalar(text(f"select count(*) from {STAGED} where code is null"))
    updated = await session.scalar(text(_update_sql(fields, masked=masked)), {"org": org_id})
    # ids of one import are one UUIDv7 with the line counted in, which is unique and cheap
    base = uuid7().hex
    inserted = await session.execute(
        text(_INSERT),
        {"org": org_id, "head": base[:20], "tail": base[28:], "source": source_id},
    )
    created = inserted.rowcount  # type: ignore[attr-defined]
    if source_id is not None:
        await session.execute(text(_MARK), {"org": org_id, "source": source_id})
    return Merged(created, updated or 0, (total or 0) - created - (updated or 0))


_INSERT = f"""
insert into contacts (id, org_id, entity_type, entity_id, email, address_hash, address_key,
    {", ".join(OPTIONAL_FIELDS.values())}, attributes, source_id)
select cast(:head || lpad(to_hex(s.line), 8, '0') || :tail as uuid), :org,
    s.entity_type, s.entity_id, s.email, s.address_hash, s.address_key,
    {", ".join("s." + column for column in OPTIONAL_FIELDS.values())}, jsonb_strip_nulls(s.attributes),
    cast(:source as uuid)
from {STAGED} s
where s.code is null and not exists (
    select from contacts c
    where c.org_id = :org and c.entity_type = s.entity_type and c.entity_id = s.entity_id)
"""

_MARK = f"""
update contacts c set source_id = :source from {STAGED} s
where s.code is null and c.org_id = :org and c.entity_type = s.entity_type
  and c.entity_id = s.entity_id and c.source_id is distinct from :source
"""


def _update_sql(fields: Collection[str], *, masked: bool) -> str:
    """One statement that finds what changes, keeps old addresses, and writes it."""
    new = {"email": "s.email", "address_hash": "s.address_hash", "address_key": "s.address_key"}
    for field, column in (*OPTIONAL_FIELDS.items(), ("attributes", "attributes")):
        if field in fields:
            value = f"s.{column}"
            if field == "attributes":
                value = "jsonb_strip_nulls(c.attributes || s.attributes)"
            given = f"s.provided & {PROVIDED_BIT[field]} <> 0"
            new[column] = f"case when {given} then {value} else c.{column} end" if masked else value
    differs = " or ".join(
        f"c.{column} is distinct from {value}"
        for column, value in new.items()
        if column != "address_key"  # follows the hash
    )
    return f"""
with changes as materialized (
    select c.id as contact_id, c.address_hash as old_hash, c.address_key as old_key,
           c.email as old_email, {", ".join(f"{value} as {column}" for column, value in new.items())}
    from {STAGED} s
    join contacts c on c.org_id = :org and c.entity_type = s.entity_type
         and c.entity_id = s.entity_id
    where s.code is null and (c.deleted_at is not null or {differs})
), left_behind as (
    insert into contact_addresses (org_id, contact_id, address_hash, address_key, email)
    select :org, contact_id, old_hash, old_key, old_email from changes
    where old_hash is distinct from address_hash and old_hash is not null
    on conflict (contact_id, address_hash) do update
    set replaced_at = excluded.replaced_at, email = excluded.email, address_key = excluded.address_key
), taken_up_again as (
    delete from contact_addresses f using changes n
    where f.contact_id = n.contact_id and f.address_hash = n.address_hash
), written as (
    update contacts c set {", ".join(f"{column} = n.{column}" for column in new)},
        version = c.version + 1, updated_at = now(), deleted_at = null
    from changes n where c.id = n.contact_id
    returning 1
)
select count(*) from written
"""


@dataclass(frozen=True, slots=True)
class Reported:
    """One thing that is reported of a row. ``taken``: all the same, the rest of the row was taken."""

    line: int
    field: str
    code: str
    taken: bool


async def keep_report(session: AsyncSession, import_id: UUID, *, most: int) -> list[Reported]:
    """Stores what is reported of the rows; answers the first ``most``."""
    await session.execute(
        text(
            f"""insert into contact_import_rejections (org_id, import_id, line, field, code, taken)
                select :org, :import, r.line, r.field, r.code, r.taken from ({_REPORTED}) r
                on conflict do nothing"""
        ),
        {"org": org_of(session), "import": import_id},
    )
    return await first_reported(session, most=most)


async def first_reported(session: AsyncSession, *, most: int) -> list[Reported]:
    """The first things to report, by line."""
    rows = await session.execute(
        text(f"select * from ({_REPORTED}) r order by line, field limit :most"), {"most": most}
    )
    return [Reported(*row) for row in rows]


async def refused(session: AsyncSession) -> int:
    """How many rows were refused (a row with several problems counts once)."""
    counted = await session.scalar(
        text(
            f"""select count(distinct s.line) from {STAGED} s
                where s.code is not null
                  and not exists (select from {STAGED} t where t.line = s.line and t.code is null)"""
        )
    )
    return counted or 0
