"""What a plan or push needs to know, read in one transaction."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import RowMapping, text
from sqlalchemy.ext.asyncio import AsyncSession

from mcsync.features.audiences import repository as audiences
from mcsync.features.audiences.models import Audience
from mcsync.features.audiences.service import (
    merge_fields,
    merge_map,
    permissions_fed,
    warnings,
)
from mcsync.features.connection import capabilities
from mcsync.features.connection.capabilities import Capabilities
from mcsync.features.sync.decide import PlanScope, PlanSegment

_SEGMENTS = """
select id, name, segment_type, filters, legal_basis, on_leave, opt_in, soft_deleted_at, planned_xid,
       last_synced_at, audience_id
from contact_segments where {} order by id
"""


@dataclass(frozen=True, slots=True)
class Context:
    """A segment in an audience. ``mark``: where the next incremental plan begins, None for a full one.

    ``lives``: it was not deleted, and this is its audience. ``definition_xid``: moves when a segment of the
    audience or its merge-field map changes. ``permissions``: ids of the marketing permissions that an opt-in ticks.
    ``warnings``: what a run of it shows.
    """

    scope: PlanScope
    lives: bool
    definition_xid: int
    list_id: str
    account_id: str
    gone: bool
    requires_status: bool
    capabilities: Capabilities
    merge_fields_at: datetime | None
    mark: int | None
    first_run: bool
    permissions: tuple[str, ...]
    warnings: tuple[dict[str, str], ...]


def plan_segment(row: RowMapping | Mapping[str, Any]) -> PlanSegment:
    """A segment's row as the planner wants it."""
    return PlanSegment(
        row["id"], row["name"], row["segment_type"], row["filters"], row["legal_basis"],
        row["on_leave"], row["opt_in"],
    )  # fmt: skip


async def live_segments(session: AsyncSession, audience_id: UUID) -> list[PlanSegment]:
    """All live segments of an audience."""
    return [plan_segment(row) for row in await _live(session, audience_id)]


async def load(
    session: AsyncSession,
    *,
    segment_id: UUID,
    audience_id: UUID,
    now: datetime,
    leave: bool = False,
) -> Context | None:
    """The context of one segment in one audience; None where the segment does not exist."""
    row = (
        (await session.execute(text(_SEGMENTS.format("id = :segment")), {"segment": segment_id}))
        .mappings()
        .one_or_none()
    )
    audience = await audiences.get(session, audience_id)
    if row is None or audience is None:
        return None
    live = await live_segments(session, audience_id)
    able = await capabilities.known(session, audience.account_id)
    return _context(row, audience, live, able, now, leave=leave)


async def load_all(session: AsyncSession, audience_id: UUID, *, now: datetime) -> list[Context]:
    """The contexts of all live segments of an audience, read once for all of them."""
    audience = await audiences.get(session, audience_id)
    if audience is None:
        return []
    rows = await _live(session, audience_id)
    live = [plan_segment(row) for row in rows]
    able = await capabilities.known(session, audience.account_id)
    return [_context(row, audience, live, able, now, leave=False) for row in rows]


async def _live(session: AsyncSession, audience_id: UUID) -> Sequence[RowMapping]:
    rows = await session.execute(
        text(_SEGMENTS.format("audience_id = :audience and soft_deleted_at is null")),
        {"audience": audience_id},
    )
    return rows.mappings().all()


def _context(
    row: RowMapping, audience: Audience, live: Sequence[PlanSegment], able: Capabilities,
    now: datetime, *, leave: bool,
) -> Context:  # fmt: skip
    mark = row["planned_xid"]
    if (
        leave
        or mark is None
        or audience.definition_xid >= mark
        or row["audience_id"] != audience.id
    ):
        mark = None
    return Context(
        scope=PlanScope(
            org_id=audience.org_id,
            audience_id=audience.id,
            segment=plan_segment(row),
            others=[s for s in live if s.id != row["id"]],
            merge_map=merge_map(audience),
            merge_fields=merge_fields(audience),
            now=now,
            leave=leave,
        ),
        lives=row["soft_deleted_at"] is None and row["audience_id"] == audience.id,
        definition_xid=audience.definition_xid,
        list_id=audience.list_id,
        account_id=audience.account_id,
        gone=audience.gone_at is not None,
        requires_status=audience.requires_status or able.requires_status,
        capabilities=able,
        merge_fields_at=audience.merge_fields_at,
        mark=mark,
        first_run=row["last_synced_at"] is None,
        permissions=permissions_fed(audience),
        warnings=tuple(each.model_dump() for each in warnings(audience)),
    )
