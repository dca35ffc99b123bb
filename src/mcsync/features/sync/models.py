"""The runs' tables. A run's row is its outbox: committed with the request, found by the dispatcher."""

from __future__ import annotations

from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import BigInteger, ForeignKey, Index, Uuid, func, text
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import Mapped, mapped_column

from mcsync.core.db.base import Base, Identified, Leased, OrgScoped, OrgScopedRow


class Run(Identified, OrgScoped, Leased, Base):
    """One sync of one segment: pull, plan, push. Outlives every process.

    ``unreadable``: by merge tag, of how many members a field was left out because Mailchimp does not take the
    contact's value. ``warnings``: what of the audience needed attention when the run was planned.
    ``revision`` grows with each visible change (the event id of watchRun). ``immediate``: made for a few
    addresses; takes no turn.
    """

    __tablename__ = "sync_runs"

    segment_id: Mapped[UUID] = mapped_column(ForeignKey("contact_segments.id", ondelete="CASCADE"))
    audience_id: Mapped[UUID] = mapped_column(ForeignKey("audiences.id", ondelete="CASCADE"))
    trigger: Mapped[str]
    dry_run: Mapped[bool] = mapped_column(server_default="false")
    leave: Mapped[bool] = mapped_column(server_default="false")
    approved: Mapped[bool] = mapped_column(server_default="false")
    immediate: Mapped[bool] = mapped_column(server_default="false")
    status: Mapped[str] = mapped_column(server_default="queued")
    status_before: Mapped[str | None]
    matched: Mapped[int] = mapped_column(server_default="0")
    planned: Mapped[dict[str, Any]] = mapped_column(server_default=text("'{}'"))
    skipped: Mapped[dict[str, Any]] = mapped_column(server_default=text("'{}'"))
    unreadable: Mapped[dict[str, Any]] = mapped_column(server_default=text("'{}'"))
    warnings: Mapped[list[Any]] = mapped_column(server_default=text("'[]'"))
    held: Mapped[int] = mapped_column(server_default="0")
    hold_reasons: Mapped[list[Any]] = mapped_column(server_default=text("'[]'"))
    done: Mapped[int] = mapped_column(server_default="0")
    failed: Mapped[int] = mapped_column(server_default="0")
    calls: Mapped[int] = mapped_column(server_default="0")
    plan_xmin: Mapped[int | None] = mapped_column(BigInteger)
    error: Mapped[dict[str, Any] | None] = mapped_column(JSONB(none_as_null=True))
    request_id: Mapped[str | None]
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())
    started_at: Mapped[datetime | None]
    push_started_at: Mapped[datetime | None]
    finished_at: Mapped[datetime | None]
    cancel_requested_at: Mapped[datetime | None]
    revision: Mapped[int] = mapped_column(server_default="1")

    __table_args__ = (
        Index(
            "uq_sync_runs_live_segment",
            "segment_id",
            unique=True,
            postgresql_where=text(
                "not dry_run and not immediate and status in ('queued', 'pulling', 'planning', 'pushing')"
            ),
        ),
        Index(
            "uq_sync_runs_live_audience",
            "audience_id",
            unique=True,
            postgresql_where=text(
                "not dry_run and not immediate and status in ('pulling', 'planning', 'pushing')"
            ),
        ),
        Index(
            "ix_sync_runs_due",
            "next_attempt_at",
            postgresql_where=text("status in ('queued', 'pulling', 'planning', 'pushing')"),
        ),
        Index("ix_sync_runs_segment", "segment_id", "id"),
    )


class Change(OrgScopedRow, Base):
    """One planned action on one member, with its reason and outcome.

    ``state``: ``planned``, ``held`` (by the guard), ``taken`` (in a call), ``done``, ``failed`` (refused),
    ``dropped`` (no longer held when its call was taken), ``obsolete`` (held, and no longer true when
    approved) or ``skipped``. ``unreadable``: problem by tag of the fields that are not sent because Mailchimp
    does not take the contact's value.
    """

    __tablename__ = "sync_changes"

    run_id: Mapped[UUID] = mapped_column(primary_key=True)
    seq: Mapped[int] = mapped_column(BigInteger, primary_key=True, autoincrement=False)
    address_hash: Mapped[UUID | None]
    contact_id: Mapped[UUID | None] = mapped_column(Uuid())
    email: Mapped[str | None]
    action: Mapped[str]
    reason: Mapped[str]
    untag: Mapped[bool] = mapped_column(server_default="false")
    untagged: Mapped[bool] = mapped_column(server_default="false")
    old_hash: Mapped[UUID | None]
    unreadable: Mapped[dict[str, Any] | None] = mapped_column(JSONB(none_as_null=True))
    state: Mapped[str]
    call_id: Mapped[UUID | None]
    tries: Mapped[int] = mapped_column(server_default="0")
    outcome_code: Mapped[str | None]
    outcome: Mapped[str | None]
    done_at: Mapped[datetime | None]

    __table_args__ = (
        Index(
            "ix_sync_changes_todo",
            "run_id",
            "seq",
            postgresql_where=text("state = 'planned'"),
        ),
        Index("ix_sync_changes_call", "call_id", postgresql_where=text("call_id is not null")),
        Index(
            "ix_sync_changes_done",
            "org_id",
            "done_at",
            postgresql_where=text("done_at is not null and action in ('archive', 'unsubscribe')"),
        ),
    )
