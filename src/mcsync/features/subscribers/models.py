"""Who asked, or was asked for, to be subscribed."""

from __future__ import annotations

from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import Index, func, text
from sqlalchemy.orm import Mapped, mapped_column

from mcsync.core.db.base import Base, Identified, OrgScopedRow


class SubscriptionRequest(Identified, OrgScopedRow, Base):
    """One request, with its proof: of a public form (``via`` form) or of an operator (api).

    ``state``: ``queued`` (a form post on its way), ``asking`` (the call is under way), ``asked``
    (Mailchimp asks for confirmation), ``subscribed``, ``already`` (nothing to do), ``refused`` or
    ``dropped`` (``outcome`` says why), ``unknown`` (no answer came). Of one that went well ``outcome`` says
    what was left out. A form post holds its address and
    fields only until it is worked; afterwards its hashes and the proof stay. ``next_attempt_at`` null:
    nothing is due.
    """

    __tablename__ = "subscription_requests"

    audience_id: Mapped[UUID] = mapped_column()
    address_key: Mapped[UUID]
    address_hash: Mapped[UUID]
    email: Mapped[str | None]
    wanted: Mapped[str]
    merge_fields: Mapped[dict[str, Any]] = mapped_column(server_default=text("'{}'"))
    language: Mapped[str | None]
    via: Mapped[str]
    source: Mapped[str]
    proof: Mapped[dict[str, Any]] = mapped_column(server_default=text("'{}'"))
    state: Mapped[str]
    outcome: Mapped[str | None]
    requested_at: Mapped[datetime] = mapped_column(server_default=func.now())
    done_at: Mapped[datetime | None]
    attempts: Mapped[int] = mapped_column(server_default="0")
    epoch: Mapped[int] = mapped_column(server_default="0")
    lease_until: Mapped[datetime | None]
    next_attempt_at: Mapped[datetime | None]
    last_error: Mapped[str | None]

    __table_args__ = (
        Index("ix_subscription_requests_key", "org_id", "address_key"),
        Index("ix_subscription_requests_listed", "org_id", "requested_at", "id"),
        Index(
            "ix_subscription_requests_due",
            "next_attempt_at",
            postgresql_where=text("next_attempt_at is not null"),
        ),
    )
