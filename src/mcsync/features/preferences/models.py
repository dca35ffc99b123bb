"""The consent tables."""

from __future__ import annotations

from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import Index, func, text
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import Mapped, mapped_column

from mcsync.core.db.base import (
    Base,
    ChangeTracked,
    Identified,
    OrgScoped,
    OrgScopedRow,
    Timestamped,
)


class Preference(Identified, OrgScopedRow, Timestamped, ChangeTracked, Base):
    """A contact's consent as it stands: ``opted_in`` or ``opted_out`` (no row, or ``unset``: neither)."""

    __tablename__ = "email_preferences"

    entity_type: Mapped[str]
    entity_id: Mapped[str]
    status: Mapped[str]
    consent_given_at: Mapped[datetime | None]
    consent_withdrawn_at: Mapped[datetime | None]
    source: Mapped[str]
    proof: Mapped[dict[str, Any]] = mapped_column(server_default=text("'{}'"))

    __table_args__ = (
        Index("uq_email_preferences_entity", "org_id", "entity_type", "entity_id", unique=True),
        Index("ix_email_preferences_changed", "org_id", "changed_xid"),
    )


class PreferenceEvent(Identified, OrgScopedRow, Base):
    """One event of a consent history; append-only, the proof of consent.

    Of a contact, with the address it had then; or, without an entity, of an address that no contact has.
    ``effective_at`` is when the person gave or withdrew; ``applied`` is false where an opt-in was not
    newer than a withdrawal and so changed nothing (``reason`` says so).
    """

    __tablename__ = "preference_events"

    entity_type: Mapped[str | None]
    entity_id: Mapped[str | None]
    address_key: Mapped[UUID | None]
    status: Mapped[str]
    effective_at: Mapped[datetime]
    source: Mapped[str]
    proof: Mapped[dict[str, Any]] = mapped_column(server_default=text("'{}'"))
    actor_kind: Mapped[str]
    actor_id: Mapped[str | None]
    applied: Mapped[bool]
    reason: Mapped[str | None]
    recorded_at: Mapped[datetime] = mapped_column(server_default=func.now())

    __table_args__ = (
        Index("ix_preference_events_entity", "org_id", "entity_type", "entity_id", "id"),
        Index("ix_preference_events_address", "org_id", "address_key", "id"),
    )


class AddressConsent(OrgScopedRow, ChangeTracked, Base):
    """The latest withdrawal and opt-in recorded for an address, under its keyed hash.

    The address is withdrawn while ``withdrawn_at`` is set and no ``given_at`` is later, whoever holds
    the address now. ``address_hash`` is dropped by an erasure.
    """

    __tablename__ = "address_consents"

    org_id: Mapped[UUID] = mapped_column(primary_key=True)
    address_key: Mapped[UUID] = mapped_column(primary_key=True)
    address_hash: Mapped[UUID | None]
    withdrawn_at: Mapped[datetime | None]
    withdrawn_source: Mapped[str | None]
    given_at: Mapped[datetime | None]
    given_source: Mapped[str | None]

    __table_args__ = (
        Index("ix_address_consents_hash", "org_id", "address_hash"),
        Index("ix_address_consents_changed", "org_id", "changed_xid"),
    )


class StatedOptOut(OrgScopedRow, Base):
    """That the last import of a channel said of somebody to be opted out, and a hash of what it said.

    ``entity_type`` is ``address`` where a refused row named an address; ``entity_id`` is then the keyed
    hash of it. See :mod:`mcsync.features.preferences.repeated`.
    """

    __tablename__ = "stated_opt_outs"

    org_id: Mapped[UUID] = mapped_column(primary_key=True)
    channel: Mapped[str] = mapped_column(primary_key=True)
    entity_type: Mapped[str] = mapped_column(primary_key=True)
    entity_id: Mapped[str] = mapped_column(primary_key=True)
    statement: Mapped[UUID]


class Suppression(Identified, OrgScoped, ChangeTracked, Base):
    """An erased address or entity, under its keyed hash: wanted nowhere until lifted.

    ``erasure_id``: the erasure it is of. ``lift``: the new consent for which an owner lifted it.
    """

    __tablename__ = "suppressions"

    kind: Mapped[str]
    key: Mapped[UUID]
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())
    lifted_at: Mapped[datetime | None]
    erasure_id: Mapped[UUID | None]
    lift: Mapped[dict[str, Any] | None] = mapped_column(JSONB(none_as_null=True))

    __table_args__ = (
        Index(
            "uq_suppressions_live",
            "org_id",
            "kind",
            "key",
            unique=True,
            postgresql_where=text("lifted_at is null"),
        ),
    )
