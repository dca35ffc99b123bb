"""The webhooks' tables: where Mailchimp reports to, what it reported, and when an audience is pulled."""

from __future__ import annotations

from datetime import datetime
from uuid import UUID

from sqlalchemy import ForeignKey, Index, LargeBinary, func, text
from sqlalchemy.orm import Mapped, mapped_column

from mcsync.core.db.base import Base, Identified, OrgScoped, OrgScopedRow, Timestamped


class WebhookEndpoint(Identified, OrgScoped, Timestamped, Base):
    """One audience's address for Mailchimp's posts. A row is kept for good, so that it can answer 410.

    ``token``: the secret part of the path, sealed; ``token_hash`` its SHA-256, by which a post finds the
    row. During a rotation the token before is accepted until ``previous_until``, with the signing secret
    that was its own. ``webhook_id``: of the webhook at Mailchimp; null until one is registered.
    ``status``: ``missing`` (to be registered), ``active``, ``disabled`` (Mailchimp stopped posting; being
    repaired), ``error`` (see ``last_error``), ``removed`` (answers 410). ``renewed_at``: when Mailchimp last
    confirmed the webhook by asking the URL. ``next_check_at``: when the watchdog looks at it again.
    ``checked_url``: the public URL that the process had which looked last; null where it had none.
    """

    __tablename__ = "webhook_endpoints"

    audience_id: Mapped[UUID] = mapped_column(ForeignKey("audiences.id", ondelete="CASCADE"))
    account_id: Mapped[str]
    list_id: Mapped[str]
    token: Mapped[str]
    token_hash: Mapped[bytes] = mapped_column(LargeBinary)
    signing_secret: Mapped[str | None]
    webhook_id: Mapped[str | None]
    previous_token_hash: Mapped[bytes | None] = mapped_column(LargeBinary)
    previous_until: Mapped[datetime | None]
    previous_signing_secret: Mapped[str | None]
    status: Mapped[str] = mapped_column(server_default="missing")
    last_event_at: Mapped[datetime | None]
    checked_at: Mapped[datetime | None]
    renewed_at: Mapped[datetime | None]
    last_error: Mapped[str | None]
    attempts: Mapped[int] = mapped_column(server_default="0")
    next_check_at: Mapped[datetime] = mapped_column(server_default=func.now())
    lease_until: Mapped[datetime | None]
    checked_url: Mapped[str | None]

    __table_args__ = (
        Index("uq_webhook_endpoints_audience", "org_id", "audience_id", unique=True),
        Index("uq_webhook_endpoints_token", "token_hash", unique=True),
        Index(
            "uq_webhook_endpoints_previous",
            "previous_token_hash",
            unique=True,
            postgresql_where=text("previous_token_hash is not null"),
        ),
        Index(
            "ix_webhook_endpoints_due",
            "next_check_at",
            postgresql_where=text("status <> 'removed'"),
        ),
    )


class WebhookEvent(Identified, OrgScopedRow, Base):
    """The inbox: one post of Mailchimp, worked on after it was answered.

    ``address_hash``: of the member at Mailchimp (of an address change: the one before, ``new_hash`` the one
    after). ``email`` and ``new_email`` are there only until the event is ``worked``. ``dedupe``: a keyed hash
    of what repetitions of one post share.
    """

    __tablename__ = "webhook_events"

    audience_id: Mapped[UUID] = mapped_column()
    endpoint_id: Mapped[UUID]
    type: Mapped[str]
    address_hash: Mapped[UUID]
    email: Mapped[str | None]
    new_hash: Mapped[UUID | None]
    new_email: Mapped[str | None]
    action: Mapped[str | None]
    reason: Mapped[str | None]
    fired_at: Mapped[datetime | None]
    dedupe: Mapped[bytes] = mapped_column(LargeBinary)
    received_at: Mapped[datetime] = mapped_column(server_default=func.now())
    status: Mapped[str] = mapped_column(server_default="due")
    outcome: Mapped[str | None]
    attempts: Mapped[int] = mapped_column(server_default="0")
    next_attempt_at: Mapped[datetime] = mapped_column(server_default=func.now())
    lease_until: Mapped[datetime | None]
    worked_at: Mapped[datetime | None]
    last_error: Mapped[str | None]

    __table_args__ = (
        Index("uq_webhook_events_dedupe", "audience_id", "dedupe", unique=True),
        Index(
            "ix_webhook_events_due",
            "audience_id",
            "next_attempt_at",
            postgresql_where=text("status = 'due'"),
        ),
        Index("ix_webhook_events_address", "audience_id", "address_hash"),
        Index("ix_webhook_events_received", "org_id", "received_at"),
    )


class AudiencePull(OrgScoped, Base):
    """When an audience that live segments use is pulled next outside of runs (``mailchimp-audience-pull``)."""

    __tablename__ = "audience_pulls"

    audience_id: Mapped[UUID] = mapped_column(
        ForeignKey("audiences.id", ondelete="CASCADE"), primary_key=True, sort_order=-2
    )
    next_pull_at: Mapped[datetime] = mapped_column(server_default=func.now())
    lease_until: Mapped[datetime | None]
    attempts: Mapped[int] = mapped_column(server_default="0")
    pulled_at: Mapped[datetime | None]
    last_error: Mapped[str | None]

    __table_args__ = (Index("ix_audience_pulls_due", "next_pull_at"),)
