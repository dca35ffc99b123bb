"""The segments' tables."""

from __future__ import annotations

from datetime import datetime
from typing import Any, ClassVar
from uuid import UUID

from sqlalchemy import BigInteger, ForeignKey, Index, case, func, literal, text
from sqlalchemy.orm import Mapped, MappedSQLExpression, column_property, mapped_column

from mcsync.core.db.base import Base, Identified, OrgScoped, OrgScopedRow, Timestamped


class Segment(Identified, OrgScoped, Timestamped, Base):
    """A named filter over contacts, mapped to one audience, marked there by one Mailchimp tag.

    ``planned_xid``: every change committed before it was seen by the last run that carried out all it
    planned; null asks for a full plan. ``syncing_until`` follows the lease of the run under way, so that
    no segment ever looks as if it were syncing when nobody works on it; ``status`` is what it was before.
    """

    __tablename__ = "contact_segments"

    name: Mapped[str]
    description: Mapped[str | None]
    segment_type: Mapped[str]
    audience_id: Mapped[UUID] = mapped_column(ForeignKey("audiences.id"))
    filters: Mapped[dict[str, Any]] = mapped_column(server_default=text("'{}'"))
    legal_basis: Mapped[str] = mapped_column(server_default="consent")
    on_leave: Mapped[str] = mapped_column(server_default="archive")
    opt_in: Mapped[str] = mapped_column(server_default="single")
    status: Mapped[str] = mapped_column(server_default="pending")
    status_code: Mapped[str | None]
    status_detail: Mapped[str | None]
    version: Mapped[int] = mapped_column(server_default="1")
    planned_xid: Mapped[int | None] = mapped_column(BigInteger)
    last_synced_at: Mapped[datetime | None]
    syncing_until: Mapped[datetime | None]
    soft_deleted_at: Mapped[datetime | None]
    current_status: ClassVar[MappedSQLExpression[str]]

    __table_args__ = (
        Index(
            "uq_contact_segments_name",
            "org_id",
            "audience_id",
            text("lower(name)"),
            unique=True,
            postgresql_where=text("soft_deleted_at is null"),
        ),
        Index("ix_contact_segments_audience", "audience_id"),
    )


Segment.current_status = column_property(
    case((Segment.syncing_until > func.clock_timestamp(), literal("syncing")), else_=Segment.status)
)
"""The status as users know it: ``syncing`` while a live lease says so."""


class SegmentTag(OrgScoped, Base):
    """The Mailchimp tag that marks a segment in an audience: made by us, addressed by its stored id."""

    __tablename__ = "segment_tags"

    segment_id: Mapped[UUID] = mapped_column(
        ForeignKey("contact_segments.id", ondelete="CASCADE"), primary_key=True
    )
    audience_id: Mapped[UUID] = mapped_column(
        ForeignKey("audiences.id", ondelete="CASCADE"), primary_key=True
    )
    tag_id: Mapped[int] = mapped_column(BigInteger)
    name: Mapped[str]
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())


class TaggedMember(OrgScopedRow, Base):
    """We tagged this member for this segment (as far as Mailchimp's answers tell)."""

    __tablename__ = "segment_members"

    segment_id: Mapped[UUID] = mapped_column(primary_key=True)
    audience_id: Mapped[UUID] = mapped_column(primary_key=True)
    address_hash: Mapped[UUID] = mapped_column(primary_key=True)

    __table_args__ = (Index("ix_segment_members_address", "audience_id", "address_hash"),)


class Skip(OrgScopedRow, Base):
    """Why a contact that matches a segment is not (or not newly) sent, as of its last plan."""

    __tablename__ = "segment_skips"

    segment_id: Mapped[UUID] = mapped_column(primary_key=True)
    contact_id: Mapped[UUID] = mapped_column(primary_key=True)
    address_hash: Mapped[UUID | None]
    reason: Mapped[str]

    __table_args__ = (
        Index("ix_segment_skips_reason", "segment_id", "reason"),
        Index("ix_segment_skips_address", "segment_id", "address_hash"),
    )
