"""Reading contacts and import reports, and letting a contact leave. The merge is in :mod:`staging`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any
from uuid import UUID

from sqlalchemy import func, or_, select, tuple_, update
from sqlalchemy.ext.asyncio import AsyncSession

from mcsync.core.db import org_of
from mcsync.features.contacts.models import Contact, ImportRejection, ImportReport


@dataclass(frozen=True, slots=True)
class ContactFilter:
    """Which contacts; ``None`` is no condition."""

    entity_type: str | None = None
    department: str | None = None
    location: str | None = None
    employment_status: str | None = None
    search: str | None = None
    include_left: bool = False


async def page(
    session: AsyncSession, wanted: ContactFilter, *, after: tuple[str, str] | None, limit: int
) -> list[Contact]:
    """Contacts by entity type and id (the unique index gives this order for free)."""
    query = select(Contact).where(Contact.org_id == org_of(session))
    for column, value in (
        (Contact.entity_type, wanted.entity_type),
        (Contact.department, wanted.department),
        (Contact.location, wanted.location),
        (Contact.employment_status, wanted.employment_status),
    ):
        if value is not None:
            query = query.where(column == value)
    if not wanted.include_left:
        query = query.where(Contact.deleted_at.is_(None))
    if wanted.search:
        query = query.where(
            or_(
                *(
                    column.icontains(wanted.search, autoescape=True)
                    for column in (Contact.email, Contact.entity_id)
                ),
                func.concat_ws(" ", Contact.first_name, Contact.last_name).icontains(
                    wanted.search, autoescape=True
                ),
            )
        )
    if after is not None:
        query = query.where(tuple_(Contact.entity_type, Contact.entity_id) > after)
    query = query.order_by(Contact.entity_type, Contact.entity_id).limit(limit)
    return list((await session.execute(query)).scalars())


async def get(session: AsyncSession, entity_type: str, entity_id: str) -> Contact | None:
    """The contact, whether it left or not."""
    return (
        await session.execute(
            select(Contact).where(
                Contact.org_id == org_of(session),
                Contact.entity_type == entity_type,
                Contact.entity_id == entity_id,
            ),
            execution_options={"populate_existing": True},
        )
    ).scalar_one_or_none()


async def leave(session: AsyncSession, entity_type: str, entity_id: str) -> UUID | None:
    """Makes the contact *left*; its id, or None where it had left before (or is unknown)."""
    return (
        await session.execute(
            update(Contact)
            .where(
                Contact.org_id == org_of(session),
                Contact.entity_type == entity_type,
                Contact.entity_id == entity_id,
                Contact.deleted_at.is_(None),
            )
            .values(deleted_at=func.now(), version=Contact.version + 1)
            .returning(Contact.id),
            execution_options={"synchronize_session": False},
        )
    ).scalar_one_or_none()


def add_report(session: AsyncSession, report_id: UUID, kind: str, counts: dict[str, Any]) -> None:
    """Stores what became of an import."""
    session.add(ImportReport(id=report_id, org_id=org_of(session), kind=kind, counts=counts))


async def report(session: AsyncSession, report_id: UUID) -> ImportReport | None:
    """The stored report of an import."""
    return (
        await session.execute(
            select(ImportReport).where(
                ImportReport.org_id == org_of(session), ImportReport.id == report_id
            )
        )
    ).scalar_one_or_none()


async def rejections(
    session: AsyncSession, report_id: UUID, *, after: tuple[int, str] | None, limit: int
) -> list[ImportRejection]:
    """Rejected rows of an import, by line."""
    query = select(ImportRejection).where(
        ImportRejection.org_id == org_of(session), ImportRejection.import_id == report_id
    )
    if after is not None:
        query = query.where(tuple_(ImportRejection.line, ImportRejection.field) > after)
    query = query.order_by(ImportRejection.line, ImportRejection.field).limit(limit)
    return list((await session.execute(query)).scalars())


async def refused_lines(
    session: AsyncSession, report_id: UUID, *, first: int, last: int
) -> set[int]:
    """Which lines of a part of an import were not taken."""
    rows = await session.execute(
        select(ImportRejection.line).where(
            ImportRejection.org_id == org_of(session),
            ImportRejection.import_id == report_id,
            ImportRejection.line.between(first, last),
            ImportRejection.taken.is_(False),
        )
    )
    return set(rows.scalars())
