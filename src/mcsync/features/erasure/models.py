"""The erasures' tables. An erasure's row is its outbox, like a run's."""

from __future__ import annotations

from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import ForeignKey, Index, func, text
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import Mapped, mapped_column

from mcsync.core.db.base import Base, Identified, Leased, OrgScoped


class Erasure(Identified, OrgScoped, Leased, Base):
    """One request to erase a person, from the request to the receipt.

    ``subject_key``: the organisation's keyed hash of the entity or, where a person is known by an address
    only, of that. ``subject``: who it is, sealed, while ``open``; null once ``done``. ``account_id``: the
    Mailchimp account connected at the request, or last before it. ``scrubbed_at``: the large tables were gone through for
    the first time. ``report`` and ``receipt`` hold no personal data.
    """

    __tablename__ = "erasures"

    status: Mapped[str] = mapped_column(server_default="open")
    subject_kind: Mapped[str]
    subject_key: Mapped[UUID]
    subject: Mapped[str | None]
    account_id: Mapped[str | None]
    requested_at: Mapped[datetime] = mapped_column(server_default=func.now())
    actor_kind: Mapped[str]
    actor_id: Mapped[str | None]
    scrubbed_at: Mapped[datetime | None]
    addresses: Mapped[int] = mapped_column(server_default="0")
    last_error: Mapped[str | None]
    report: Mapped[dict[str, Any]] = mapped_column(server_default=text("'{}'"))
    receipt: Mapped[dict[str, Any] | None] = mapped_column(JSONB(none_as_null=True))
    signature: Mapped[str | None]
    completed_at: Mapped[datetime | None]

    __table_args__ = (
        Index("ix_erasures_due", "next_attempt_at", postgresql_where=text("status = 'open'")),
        Index("ix_erasures_subject", "org_id", "subject_key"),
        Index(
            "uq_erasures_open",
            "org_id",
            "subject_kind",
            "subject_key",
            unique=True,
            postgresql_where=text("status = 'open'"),
        ),
    )


class ErasureTarget(Identified, OrgScoped, Base):
    """One place where Mailchimp must not know the person any more: an address in an audience.

    With ``audience_id`` null (and ``address_no`` 0): the account as a whole, whose audiences are still to be
    listed. ``state``: ``open``, ``confirmed`` (read back as 404), ``audience_gone`` or ``closed`` (by an
    owner). ``member_id``: Mailchimp's ``contact_id``, under which the member is found though the person
    changed their address there. Hash and ``member_id`` are null once the erasure is done.
    """

    __tablename__ = "erasure_targets"

    erasure_id: Mapped[UUID] = mapped_column(ForeignKey("erasures.id", ondelete="CASCADE"))
    account_id: Mapped[str]
    audience_id: Mapped[UUID | None]
    list_id: Mapped[str | None]
    address_no: Mapped[int]
    address_hash: Mapped[UUID | None]
    member_id: Mapped[str | None]
    state: Mapped[str] = mapped_column(server_default="open")
    delete_answers: Mapped[list[Any]] = mapped_column(server_default=text("'[]'"))
    read_back_at: Mapped[datetime | None]
    read_back_status: Mapped[int | None]
    attempts: Mapped[int] = mapped_column(server_default="0")
    next_attempt_at: Mapped[datetime] = mapped_column(server_default=func.now())
    last_error: Mapped[str | None]
    closed_reason: Mapped[str | None]
    closed_by: Mapped[str | None]
    closed_at: Mapped[datetime | None]

    __table_args__ = (
        Index(
            "uq_erasure_targets",
            "erasure_id",
            "account_id",
            "audience_id",
            "address_no",
            unique=True,
            postgresql_nulls_not_distinct=True,
        ),
    )
