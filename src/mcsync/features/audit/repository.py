"""The SQL of the audit."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any
from uuid import UUID

from sqlalchemy import Select, func, insert, select, text, update
from sqlalchemy.ext.asyncio import AsyncSession

from mcsync.features.audit.chain import GENESIS
from mcsync.features.audit.models import AuditEntry, AuditHead
from mcsync.features.audit.schemas import AuditFilter

_NEW_HEAD = text(
    "insert into audit_heads (org_id, seq, hash) values (:org, 0, :genesis) on conflict do nothing"
)


async def lock_head(session: AsyncSession, org_id: UUID) -> tuple[int, bytes]:
    """The newest link, locked until commit; makes it for an organisation's first entry."""
    query = (
        select(AuditHead.seq, AuditHead.hash).where(AuditHead.org_id == org_id).with_for_update()
    )
    found = (await session.execute(query)).one_or_none()
    if found is None:
        await session.execute(_NEW_HEAD, {"org": org_id, "genesis": GENESIS})
        found = (await session.execute(query)).one()
    return found.seq, found.hash


async def append(
    session: AsyncSession, org_id: UUID, rows: Sequence[Mapping[str, Any]], newest: bytes
) -> None:
    """Writes entries and moves the head behind them, in one statement."""
    entries = (
        insert(AuditEntry).values([dict(row) for row in rows]).returning(AuditEntry.seq).cte("new")
    )
    await session.execute(
        update(AuditHead)
        .where(AuditHead.org_id == org_id)
        .values(seq=select(entries.c.seq).order_by(entries.c.seq.desc()).limit(1).scalar_subquery())
        .values(hash=newest)
        .execution_options(synchronize_session=False)
    )


async def read_head(session: AsyncSession, org_id: UUID) -> tuple[int, bytes] | None:
    """The newest link; None where nothing was ever recorded."""
    query = select(AuditHead.seq, AuditHead.hash).where(AuditHead.org_id == org_id)
    found = (await session.execute(query)).one_or_none()
    return None if found is None else (found.seq, found.hash)


async def read_chain(
    session: AsyncSession, org_id: UUID, *, after: int, until: int, limit: int
) -> list[AuditEntry]:
    """Entries in the order of the chain."""
    found = await session.scalars(
        select(AuditEntry)
        .where(AuditEntry.org_id == org_id, AuditEntry.seq > after, AuditEntry.seq <= until)
        .order_by(AuditEntry.seq)
        .limit(limit)
        .execution_options(populate_existing=True)
    )
    return list(found)


async def outlasts_head(session: AsyncSession, org_id: UUID) -> bool:
    """Whether entries lie beyond the head; one statement, so that it sees both at one moment."""
    head = select(AuditHead.seq).where(AuditHead.org_id == org_id).scalar_subquery()
    query = (
        select(AuditEntry.seq)
        .where(AuditEntry.org_id == org_id, AuditEntry.seq > func.coalesce(head, 0))
        .limit(1)
    )
    return (await session.execute(query)).first() is not None


async def list_entries(
    session: AsyncSession, org_id: UUID, wanted: AuditFilter, *, limit: int, before: int | None
) -> list[AuditEntry]:
    """Entries, newest first."""
    query = _filtered(org_id, wanted)
    if before is not None:
        query = query.where(AuditEntry.seq < before)
    return list(await session.scalars(query.order_by(AuditEntry.seq.desc()).limit(limit)))


async def next_entries(
    session: AsyncSession, org_id: UUID, wanted: AuditFilter, *, limit: int, after: int, until: int
) -> list[AuditEntry]:
    """Entries in the order of the chain."""
    query = _filtered(org_id, wanted).where(AuditEntry.seq > after, AuditEntry.seq <= until)
    return list(await session.scalars(query.order_by(AuditEntry.seq).limit(limit)))


def _filtered(org_id: UUID, wanted: AuditFilter) -> Select[AuditEntry]:
    query = select(AuditEntry).where(AuditEntry.org_id == org_id)
    for column, value in (
        (AuditEntry.action, wanted.action),
        (AuditEntry.entity_type, wanted.entity_type),
        (AuditEntry.entity_id, wanted.entity_id),
        (AuditEntry.actor_id, wanted.actor_id),
    ):
        if value is not None:
            query = query.where(column == value)
    if wanted.since is not None:
        query = query.where(AuditEntry.at >= wanted.since)
    if wanted.until is not None:
        query = query.where(AuditEntry.at < wanted.until)
    return query
