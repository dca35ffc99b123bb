"""Every SQL statement about segments as such."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any
from uuid import UUID

from sqlalchemy import Select, select, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncSession

from mcsync.core.db import org_of
from mcsync.features.audiences.models import Audience
from mcsync.features.segments.models import Segment

_FRESH = {"populate_existing": True}
_NAME_INDEX = "uq_contact_segments_name"

SegmentRow = tuple[Segment, Audience]
"""A segment and the audience that it is mapped to."""


class NameTakenError(Exception):
    """A live segment of the audience has this name already (the unique index decides)."""


async def page(
    session: AsyncSession,
    *,
    status: str | None,
    segment_type: str | None,
    before: UUID | None,
    limit: int,
) -> list[SegmentRow]:
    """Live segments, newest first, at most ``limit``; ``before`` continues after that id."""
    statement = _live(session).order_by(Segment.id.desc()).limit(limit)
    if status is not None:
        statement = statement.where(Segment.current_status == status)
    if segment_type is not None:
        statement = statement.where(Segment.segment_type == segment_type)
    if before is not None:
        statement = statement.where(Segment.id < before)
    return _pairs((await session.execute(statement)).all())


async def get(session: AsyncSession, segment_id: UUID, *, lock: bool = False) -> SegmentRow | None:
    """A live segment and its audience; ``lock`` keeps others from changing the segment until commit."""
    statement = _live(session).where(Segment.id == segment_id)
    if lock:
        statement = statement.with_for_update(of=Segment)
    found = (await session.execute(statement, execution_options=_FRESH)).one_or_none()
    return None if found is None else (found[0], found[1])


async def add(session: AsyncSession, values: Mapping[str, Any]) -> UUID:
    """Stores a new segment; raises :class:`NameTakenError`."""
    statement = (
        insert(Segment)
        .values(org_id=org_of(session), **values)
        .on_conflict_do_nothing()
        .returning(Segment.id)
    )
    segment_id = (await session.execute(statement)).scalar_one_or_none()
    if segment_id is None:
        raise NameTakenError
    return segment_id


async def change(session: AsyncSession, segment_id: UUID, values: Mapping[str, Any]) -> None:
    """Sets columns of a segment; raises :class:`NameTakenError`, after which the session is done for."""
    try:
        await session.execute(update(Segment).where(Segment.id == segment_id).values(**values))
    except IntegrityError as error:
        if _NAME_INDEX in str(error.orig):
            raise NameTakenError from error
        raise


def _live(session: AsyncSession) -> Select[Segment, Audience]:
    return (
        select(Segment, Audience)
        .join(Audience, Audience.id == Segment.audience_id)
        .where(Segment.org_id == org_of(session), Segment.soft_deleted_at.is_(None))
    )


def _pairs(rows: Sequence[Any]) -> list[SegmentRow]:
    return [(row[0], row[1]) for row in rows]
