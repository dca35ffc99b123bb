"""The tables of sources and of what was pulled from them."""

from __future__ import annotations

from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import ForeignKey, Index, text
from sqlalchemy.orm import Mapped, mapped_column

from mcsync.core.db.base import Base, Identified, Leased, OrgScoped, Timestamped


class Source(Identified, OrgScoped, Timestamped, Base):
    """A read-only query against the organisation's own database, and how its rows become contacts.

    ``url`` is the encrypted envelope; a removal destroys it and sets ``soft_deleted_at``. ``place`` is
    all that is ever shown of it. ``watermark`` is the packed value (:mod:`values`) that the next pull
    begins at; null: at the beginning. ``time_zone``: of its times of consent that name none. ``scheduled_for``: the latest nightly pull that was asked for.
    """

    __tablename__ = "sources"

    name: Mapped[str]
    url: Mapped[str | None]
    kind: Mapped[str]
    place: Mapped[str]
    query: Mapped[str]
    mode: Mapped[str]
    watermark_column: Mapped[str | None]
    watermark: Mapped[dict[str, Any] | None]
    overlap: Mapped[int] = mapped_column(server_default="300")
    key_column: Mapped[str | None]
    acknowledge: Mapped[str | None]
    mapping: Mapped[dict[str, Any]]
    snapshot: Mapped[bool] = mapped_column(server_default="false")
    timeout_seconds: Mapped[int] = mapped_column(server_default="300")
    time_zone: Mapped[str | None]
    status: Mapped[str] = mapped_column(server_default="new")
    status_code: Mapped[str | None]
    status_detail: Mapped[str | None]
    scheduled_for: Mapped[datetime | None]
    soft_deleted_at: Mapped[datetime | None]

    __table_args__ = (
        Index(
            "uq_sources_name",
            "org_id",
            text("lower(name)"),
            unique=True,
            postgresql_where=text("soft_deleted_at is null"),
        ),
    )


class SourcePull(Identified, OrgScoped, Leased, Base):
    """One pull: its own outbox (lease, epoch, next attempt), and afterwards its report.

    ``report`` holds the counts; ``import_id`` leads to the rejected rows, which are kept like those of
    any other import.
    """

    __tablename__ = "source_pulls"

    source_id: Mapped[UUID] = mapped_column(ForeignKey("sources.id", ondelete="CASCADE"))
    trigger: Mapped[str]
    status: Mapped[str] = mapped_column(server_default="queued")
    from_start: Mapped[bool] = mapped_column(server_default="false")
    confirm_withdrawals: Mapped[bool] = mapped_column(server_default="false")
    confirm_deletions: Mapped[bool] = mapped_column(server_default="false")
    import_id: Mapped[UUID | None]
    report: Mapped[dict[str, Any]] = mapped_column(server_default=text("'{}'"))
    error: Mapped[dict[str, Any] | None]
    request_id: Mapped[str | None]
    created_at: Mapped[datetime] = mapped_column(server_default=text("now()"))
    started_at: Mapped[datetime | None]
    finished_at: Mapped[datetime | None]

    __table_args__ = (
        Index("ix_source_pulls_source", "source_id", "id"),
        Index(
            "uq_source_pulls_live",
            "source_id",
            unique=True,
            postgresql_where=text("status in ('queued', 'pulling')"),
        ),
        Index(
            "ix_source_pulls_due",
            "next_attempt_at",
            postgresql_where=text("status in ('queued', 'pulling')"),
        ),
    )
