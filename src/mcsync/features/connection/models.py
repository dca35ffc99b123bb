"""The connection's table."""

from __future__ import annotations

from datetime import datetime
from uuid import UUID

from sqlalchemy import Index, text
from sqlalchemy.orm import Mapped, mapped_column

from mcsync.core.db.base import Base, Identified, OrgScoped, Timestamped, org_key


class AccountAnswer(Base):
    """How an account answers one open question about Mailchimp, as ``mcsync probe`` last saw it.

    Belongs to the account and survives a disconnect. Written by ``capabilities.record`` alone.
    """

    __tablename__ = "account_answers"

    org_id: Mapped[UUID] = org_key()
    account_id: Mapped[str] = mapped_column(primary_key=True)
    question: Mapped[str] = mapped_column(primary_key=True)
    answer: Mapped[str]
    seen_at: Mapped[datetime]


class Connection(Identified, OrgScoped, Timestamped, Base):
    """The organisation's one live link to a Mailchimp account.

    ``api_key`` is the encrypted envelope; a disconnect destroys it and sets ``soft_deleted_at``.
    ``track_campaigns_since``: campaigns made from then on are tracked by themselves; null: none are.
    """

    __tablename__ = "mailchimp_connections"

    account_id: Mapped[str]
    account_name: Mapped[str]
    data_centre: Mapped[str]
    api_key: Mapped[str | None]
    key_last4: Mapped[str]
    key_fingerprint: Mapped[bytes]
    status: Mapped[str] = mapped_column(server_default="connected")
    status_code: Mapped[str | None]
    status_detail: Mapped[str | None]
    connected_at: Mapped[datetime]
    verified_at: Mapped[datetime]
    soft_deleted_at: Mapped[datetime | None]
    track_campaigns_since: Mapped[datetime | None]

    __table_args__ = (
        Index(
            "uq_mailchimp_connections_live",
            "org_id",
            unique=True,
            postgresql_where=text("soft_deleted_at is null"),
        ),
    )
