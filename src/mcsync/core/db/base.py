"""The declarative base, the naming convention and the columns that tables share."""

from __future__ import annotations

from datetime import datetime
from typing import Any, ClassVar
from uuid import UUID

from sqlalchemy import BigInteger, DateTime, ForeignKey, MetaData, Text, func, text
from sqlalchemy import Uuid as SqlUuid
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import DeclarativeBase, Mapped, MappedColumn, mapped_column
from uuid6 import uuid7

NAMING = {
    "ix": "ix_%(table_name)s_%(column_0_N_name)s",
    "uq": "uq_%(table_name)s_%(column_0_N_name)s",
    "ck": "ck_%(table_name)s_%(constraint_name)s",
    "fk": "fk_%(table_name)s_%(column_0_name)s_%(referred_table_name)s",
    "pk": "pk_%(table_name)s",
}

CURRENT_XID = "(pg_current_xact_id()::text::bigint)"
"""The writing transaction's id. A reader that remembers ``pg_snapshot_xmin`` of its snapshot finds all
that was committed since by ``changed_xid >= that``, whatever the order of commits (a clock cannot)."""


class Base(DeclarativeBase):
    """Base of all tables."""

    metadata = MetaData(naming_convention=NAMING)
    type_annotation_map: ClassVar[dict[Any, Any]] = {
        str: Text(),
        datetime: DateTime(timezone=True),
        UUID: SqlUuid(),
        dict[str, Any]: JSONB(),
        list[Any]: JSONB(),
    }


def org_key() -> MappedColumn[UUID]:
    """``org_id`` as (part of) the primary key."""
    return mapped_column(ForeignKey("organisations.id", ondelete="CASCADE"), primary_key=True)


class OrgScopedRow:
    """Like :class:`OrgScoped`, for tables that are written by the million.

    No foreign keys there: each would cost a look-up and a lock for every row, and nothing ever deletes
    what they would point to (organisations, audiences and segments are only soft-deleted).
    """

    org_id: Mapped[UUID] = mapped_column(sort_order=-1)


class Identified:
    """A primary key of our own: UUIDv7, so that new rows lie together in the index."""

    id: Mapped[UUID] = mapped_column(
        primary_key=True, default=uuid7, server_default=text("mcsync_uuid7()"), sort_order=-2
    )


class OrgScoped:
    """Belongs to exactly one organisation; guarded by row-level security."""

    org_id: Mapped[UUID] = mapped_column(
        ForeignKey("organisations.id", ondelete="CASCADE"), sort_order=-1
    )


class Timestamped:
    """When the row was made and last changed."""

    created_at: Mapped[datetime] = mapped_column(server_default=func.now(), sort_order=90)
    updated_at: Mapped[datetime] = mapped_column(
        server_default=func.now(), onupdate=func.now(), sort_order=91
    )


class Leased:
    """Work that a worker holds for a while: the row is its outbox (``core/jobs/lease.py``).

    ``epoch`` fences: it grows with each claim, and every write of a worker carries the one it claimed.
    """

    epoch: Mapped[int] = mapped_column(server_default="0", sort_order=80)
    attempts: Mapped[int] = mapped_column(server_default="0", sort_order=81)
    next_attempt_at: Mapped[datetime] = mapped_column(server_default=func.now(), sort_order=82)
    lease_owner: Mapped[str | None] = mapped_column(sort_order=83)
    lease_until: Mapped[datetime | None] = mapped_column(sort_order=84)


class ChangeTracked:
    """Carries the id of the transaction that wrote it last (a trigger keeps it true)."""

    changed_xid: Mapped[int] = mapped_column(
        BigInteger, server_default=text(CURRENT_XID), sort_order=92
    )
