"""The tables of transactional mail.

What a message says is kept sealed and only until it was handed over; who it went to and what became of
it stays, in columns that an erasure can find by the keyed hash of the address.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import BigInteger, ForeignKey, Index, func, text
from sqlalchemy.orm import Mapped, mapped_column

from mcsync.core.db.base import Base, Identified, Leased, OrgScoped, OrgScopedRow, Timestamped


class TransactionalConnection(Identified, OrgScoped, Timestamped, Base):
    """The organisation's one live link to a Mailchimp Transactional account.

    ``api_key`` is the encrypted envelope; a disconnect destroys it. ``webhook_secret`` seals the address
    that Mailchimp posts to and the key it signs with; the address is found by the hash of its token.
    """

    __tablename__ = "transactional_connections"

    account_id: Mapped[str]
    username: Mapped[str]
    api_key: Mapped[str | None]
    key_last4: Mapped[str]
    key_fingerprint: Mapped[bytes]
    status: Mapped[str] = mapped_column(server_default="connected")
    status_code: Mapped[str | None]
    status_detail: Mapped[str | None]
    connected_at: Mapped[datetime]
    verified_at: Mapped[datetime]
    metadata_declared: Mapped[bool] = mapped_column(server_default="false")
    webhook_id: Mapped[int | None] = mapped_column(BigInteger)
    webhook_secret: Mapped[str | None]
    webhook_token_hash: Mapped[bytes | None]
    webhook_error: Mapped[str | None]
    webhook_checked_at: Mapped[datetime | None]
    soft_deleted_at: Mapped[datetime | None]

    __table_args__ = (
        Index(
            "uq_transactional_connections_live",
            "org_id",
            unique=True,
            postgresql_where=text("soft_deleted_at is null"),
        ),
        Index("uq_transactional_connections_token", "webhook_token_hash", unique=True),
    )


class TransactionalMessage(Identified, OrgScoped, Timestamped, Leased, Base):
    """A message on its way: the row is the outbox (T A3).

    The caller's own key is kept as a keyed hash, since it may name a person.
    ``payload`` is the sealed content, gone once it cannot be needed again. ``hand_ins`` counts how often
    the message was handed to Mailchimp and fences what is recorded about one of them; ``handed_in_at`` is
    the time before that call.
    """

    __tablename__ = "transactional_messages"

    idempotency_digest: Mapped[bytes | None]
    request_digest: Mapped[bytes | None]
    template: Mapped[str | None]
    tags: Mapped[list[Any]] = mapped_column(server_default=text("'[]'"))
    # megabytes: read by the hand-over alone
    payload: Mapped[str | None] = mapped_column(deferred=True, deferred_raiseload=True)
    size: Mapped[int]
    send_at: Mapped[datetime | None]
    allow_duplicates: Mapped[bool] = mapped_column(server_default="false")
    status: Mapped[str] = mapped_column(server_default="queued")
    error_code: Mapped[str | None]
    account_id: Mapped[str | None]
    hand_ins: Mapped[int] = mapped_column(server_default="0")
    handed_in_at: Mapped[datetime | None]
    look_first: Mapped[bool] = mapped_column(server_default="false")
    looks: Mapped[int] = mapped_column(server_default="0")
    submitted_at: Mapped[datetime | None]
    request_id: Mapped[str | None]

    __table_args__ = (
        Index(
            "uq_transactional_messages_key",
            "org_id",
            "idempotency_digest",
            unique=True,
            postgresql_where=text("idempotency_digest is not null"),
        ),
        Index(
            "ix_transactional_messages_due",
            "next_attempt_at",
            postgresql_where=text("status in ('queued', 'sending')"),
        ),
        Index("ix_transactional_messages_org", "org_id", "id"),
    )


class TransactionalRecipient(OrgScopedRow, Base):
    """One recipient of a message and what became of it there. ``email`` is null once erased.

    ``own`` seals what belongs to this recipient alone, its name and merge values, as long as the message's
    content is kept.
    """

    __tablename__ = "transactional_recipients"

    message_id: Mapped[UUID] = mapped_column(
        ForeignKey("transactional_messages.id", ondelete="CASCADE"), primary_key=True
    )
    no: Mapped[int] = mapped_column(primary_key=True)
    email: Mapped[str | None]
    address_key: Mapped[UUID | None]
    type: Mapped[str]
    own: Mapped[str | None]
    provider_id: Mapped[str | None]
    status: Mapped[str] = mapped_column(server_default="pending")
    reason: Mapped[str | None]
    opens: Mapped[int] = mapped_column(server_default="0")
    clicks: Mapped[int] = mapped_column(server_default="0")
    last_event_at: Mapped[datetime | None]
    polls: Mapped[int] = mapped_column(server_default="0")
    next_poll_at: Mapped[datetime | None]

    __table_args__ = (
        Index("ix_transactional_recipients_provider", "org_id", "provider_id"),
        Index("ix_transactional_recipients_address", "org_id", "address_key"),
        Index(
            "ix_transactional_recipients_poll",
            "next_poll_at",
            postgresql_where=text("next_poll_at is not null"),
        ),
    )


class TransactionalEvent(Identified, OrgScopedRow, Base):
    """The inbox of Mailchimp's reports: what an event says, without whom it names.

    ``digest`` tells a repeated one. Worked on in the order of arrival; kept for a week.
    """

    __tablename__ = "transactional_events"

    digest: Mapped[bytes]
    event: Mapped[str]
    provider_id: Mapped[str]
    message_id: Mapped[UUID | None]
    address_key: Mapped[UUID | None]
    reason: Mapped[str | None]
    happened_at: Mapped[datetime | None]
    received_at: Mapped[datetime] = mapped_column(server_default=func.now())
    worked_at: Mapped[datetime | None]

    __table_args__ = (
        Index("uq_transactional_events_digest", "org_id", "digest", unique=True),
        Index(
            "ix_transactional_events_waiting",
            "org_id",
            postgresql_where=text("worked_at is null"),
        ),
    )
