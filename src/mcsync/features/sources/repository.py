"""Reading and writing sources and the reports of their pulls; a pull's life is in :mod:`pulls`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

import orjson
from sqlalchemy import func, select, text, update
from sqlalchemy.dialects.postgresql import distinct_on
from sqlalchemy.ext.asyncio import AsyncSession

from mcsync.core.db import org_of
from mcsync.features.contacts.staging import STAGED
from mcsync.features.sources.models import Source, SourcePull


async def page(session: AsyncSession, *, after: UUID | None, limit: int) -> list[Source]:
    """Live sources, oldest first."""
    query = select(Source).where(Source.org_id == org_of(session), Source.soft_deleted_at.is_(None))
    if after is not None:
        query = query.where(Source.id > after)
    return list((await session.execute(query.order_by(Source.id).limit(limit))).scalars())


async def get(session: AsyncSession, source_id: UUID) -> Source | None:
    """A live source by its id."""
    return (
        await session.execute(
            select(Source).where(
                Source.org_id == org_of(session),
                Source.id == source_id,
                Source.soft_deleted_at.is_(None),
            )
        )
    ).scalar_one_or_none()


async def by_name(session: AsyncSession, name: str) -> Source | None:
    """A live source by its name, whatever the case."""
    return (
        await session.execute(
            select(Source).where(
                Source.org_id == org_of(session),
                func.lower(Source.name) == name.lower(),
                Source.soft_deleted_at.is_(None),
            )
        )
    ).scalar_one_or_none()


async def lock(session: AsyncSession, source_id: UUID) -> Source | None:
    """A live source, as it is now and kept so until the transaction ends."""
    return (
        await session.execute(
            select(Source)
            .where(
                Source.org_id == org_of(session),
                Source.id == source_id,
                Source.soft_deleted_at.is_(None),
            )
            .with_for_update(),
            execution_options={"populate_existing": True},
        )
    ).scalar_one_or_none()


async def remove(session: AsyncSession, source_id: UUID) -> None:
    """Ends the source and destroys its credentials; its contacts and reports stay."""
    await session.execute(
        update(Source)
        .where(Source.org_id == org_of(session), Source.id == source_id)
        .values(url=None, soft_deleted_at=func.now()),
        execution_options={"synchronize_session": False},
    )
    await session.execute(
        text(
            """update source_pulls set status = 'failed', finished_at = now(), lease_until = null,
                      error = '{"code": "source_removed", "message": "The source was removed."}'::jsonb
               where org_id = :org and source_id = :source and status in ('queued', 'pulling')"""
        ),
        {"org": org_of(session), "source": source_id},
    )


async def envelopes(session: AsyncSession) -> list[tuple[UUID, str]]:
    """The sealed URLs of the organisation, each with its source's id."""
    rows = await session.execute(
        select(Source.id, Source.url).where(
            Source.org_id == org_of(session), Source.url.is_not(None)
        )
    )
    return [(source_id, envelope) for source_id, envelope in rows if envelope is not None]


async def reseal(session: AsyncSession, source_id: UUID, *, old: str, new: str) -> bool:
    """Replaces an envelope, unless it was replaced meanwhile."""
    result = await session.execute(
        update(Source)
        .where(Source.org_id == org_of(session), Source.id == source_id, Source.url == old)
        .values(url=new, updated_at=Source.updated_at),
        execution_options={"synchronize_session": False},
    )
    return bool(result.rowcount)  # type: ignore[attr-defined]


async def move_watermark(session: AsyncSession, source_id: UUID, packed: dict[str, Any]) -> None:
    """Where the next pull begins."""
    await session.execute(
        text("update sources set watermark = cast(:mark as jsonb) where id = :source"),
        {"source": source_id, "mark": orjson.dumps(packed).decode()},
    )


# ------------------------------------------------------------------------------------- pulls


async def pull(session: AsyncSession, pull_id: UUID) -> SourcePull | None:
    """One pull, as it stands."""
    return (
        await session.execute(
            select(SourcePull).where(
                SourcePull.org_id == org_of(session), SourcePull.id == pull_id
            ),
            execution_options={"populate_existing": True},
        )
    ).scalar_one_or_none()


async def pull_page(
    session: AsyncSession, *, source_id: UUID | None, before: UUID | None, limit: int
) -> list[SourcePull]:
    """Pulls, newest first."""
    query = select(SourcePull).where(SourcePull.org_id == org_of(session))
    if source_id is not None:
        query = query.where(SourcePull.source_id == source_id)
    if before is not None:
        query = query.where(SourcePull.id < before)
    query = query.order_by(SourcePull.id.desc()).limit(limit)
    return list((await session.execute(query)).scalars())


async def latest_pulls(session: AsyncSession, source_ids: Sequence[UUID]) -> dict[UUID, SourcePull]:
    """The newest pull of each source that has one."""
    rows = await session.execute(
        select(SourcePull)
        .ext(distinct_on(SourcePull.source_id))
        .where(SourcePull.org_id == org_of(session), SourcePull.source_id.in_(source_ids))
        .order_by(SourcePull.source_id, SourcePull.id.desc())
    )
    return {row.source_id: row for row in rows.scalars()}


# ----------------------------------------------------------- what a pull does beside the merge


_FIRST: str = f"""
select entity_type, entity_id, min(line) as line from {STAGED} where code is null
group by 1, 2 having count(*) > 1
"""
# The newest row takes an opt-out over that an older one states, unless it states a dated opt-in.
_OPT_OUTS_OF_OLDER = f"""
update {STAGED} s
set opt_status = 'opted_out', consent_source = o.consent_source, consent_given_at = o.consent_given_at
from ({_FIRST}) d
join {STAGED} o on o.entity_type = d.entity_type and o.entity_id = d.entity_id
     and o.code is null and o.line > d.line and o.opt_status = 'opted_out'
where s.code is null and s.line = d.line and s.opt_status is distinct from 'opted_out'
  and not (s.opt_status is not distinct from 'opted_in' and s.consent_given_at is not null)
"""


async def drop_superseded(session: AsyncSession) -> int:
    """Of staged rows about one person only the first stays; answers how many went."""
    await session.execute(text(_OPT_OUTS_OF_OLDER))
    result = await session.execute(
        text(
            f"""delete from {STAGED} s using ({_FIRST}) d
                where s.code is null and s.entity_type = d.entity_type
                  and s.entity_id = d.entity_id and s.line > d.line"""
        )
    )
    return int(result.rowcount)  # type: ignore[attr-defined]


@dataclass(frozen=True, slots=True)
class Absent:
    """How many of a source's contacts a whole pull did not bring, and how many there are."""

    absent: int
    contacts: int


_ABSENT = f"""
insert into absent_contacts
select c.id from contacts c
where c.org_id = :org and c.source_id = :source and c.deleted_at is null
  and not exists (select from {STAGED} s
                  where s.entity_type = c.entity_type and s.entity_id = c.entity_id)
  and (c.entity_type, c.entity_id) not in (
      select r.t, r.i from unnest(cast(:types as text[]), cast(:ids as text[])) as r(t, i))
"""


async def find_absent(
    session: AsyncSession, source_id: UUID, present: set[tuple[str, str]]
) -> Absent:
    """Notes the contacts of the source that are not staged. ``present``: who is, in refused rows."""
    await session.execute(text("create temp table absent_contacts (id uuid) on commit drop"))
    ordered = list(present)
    result = await session.execute(
        text(_ABSENT),
        {
            "org": org_of(session), "source": source_id,
            "types": [kind for kind, _ in ordered], "ids": [one for _, one in ordered],
        },
    )  # fmt: skip
    total = await session.scalar(
        text(
            """select count(*) from contacts
               where org_id = :org and source_id = :source and deleted_at is null"""
        ),
        {"org": org_of(session), "source": source_id},
    )
    return Absent(int(result.rowcount), int(total or 0))  # type: ignore[attr-defined]


async def mark_absent_left(session: AsyncSession) -> int:
    """The contacts noted by :func:`find_absent` leave; nothing of them is erased."""
    result = await session.execute(
        text(
            """update contacts c set deleted_at = now(), version = version + 1, updated_at = now()
               from absent_contacts a
               where c.org_id = :org and c.id = a.id and c.deleted_at is null"""
        ),
        {"org": org_of(session)},
    )
    return int(result.rowcount)  # type: ignore[attr-defined]
