"""The contacts' tables."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Final
from uuid import UUID

from sqlalchemy import BigInteger, Index, func, text
from sqlalchemy.orm import Mapped, mapped_column

from mcsync.core.db.base import (
    Base,
    ChangeTracked,
    Identified,
    OrgScoped,
    OrgScopedRow,
    Timestamped,
)

TWO_SPELLINGS: Final = "(octet_length(email) <> length(email) or strpos(email, 'xn--') > 0)"
"""In SQL: the address may have two spellings. The condition of an index, so it is spelled the same everywhere."""


class Contact(Identified, OrgScopedRow, Timestamped, ChangeTracked, Base):
    """An employee or vendor, keyed by the id its own system gave it.

    ``address_hash`` is the MD5 of the address's mailbox (:func:`mcsync.mailchimp.mailbox_of`; for nearly
    all addresses what Mailchimp calls the subscriber hash), kept as a uuid (16 bytes) since every join of
    a sync runs over it; ``email`` is spelled as it was given; ``address_key`` is the organisation's keyed hash (HMAC) of the same,
    under which a withdrawal or erasure survives. Both are null where there is no usable address.
    ``deleted_at``: the contact left; nothing of it is erased. ``source_id``: the source whose pull
    brought the contact last, if one ever did.
    """

    __tablename__ = "contacts"

    entity_type: Mapped[str]
    entity_id: Mapped[str]
    email: Mapped[str | None]
    address_hash: Mapped[UUID | None]
    address_key: Mapped[UUID | None]
    first_name: Mapped[str | None]
    last_name: Mapped[str | None]
    department: Mapped[str | None]
    location: Mapped[str | None]
    employment_type: Mapped[str | None]
    employment_status: Mapped[str | None]
    attributes: Mapped[dict[str, Any]] = mapped_column(server_default=text("'{}'"))
    version: Mapped[int] = mapped_column(server_default="1")
    deleted_at: Mapped[datetime | None]
    source_id: Mapped[UUID | None]

    __table_args__ = (
        Index("uq_contacts_entity", "org_id", "entity_type", "entity_id", unique=True),
        Index("ix_contacts_address", "org_id", "address_hash"),
        Index("ix_contacts_changed", "org_id", "changed_xid"),
        Index(
            "ix_contacts_source",
            "org_id",
            "source_id",
            postgresql_where=text("source_id is not null"),
        ),
        Index(
            "ix_contacts_two_spellings",
            "org_id",
            "address_hash",
            postgresql_where=text(TWO_SPELLINGS),
        ),
    )


class FormerAddress(OrgScopedRow, Base):
    """An address a contact had before: a sync finds what it left, an erasure what it must reach."""

    __tablename__ = "contact_addresses"

    contact_id: Mapped[UUID] = mapped_column(primary_key=True)
    address_hash: Mapped[UUID] = mapped_column(primary_key=True)
    address_key: Mapped[UUID]
    email: Mapped[str]
    replaced_at: Mapped[datetime] = mapped_column(server_default=func.now())


class ImportReport(Identified, OrgScoped, Base):
    """What became of one import; its rejected rows are :class:`ImportRejection`."""

    __tablename__ = "contact_imports"

    kind: Mapped[str]
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())
    counts: Mapped[dict[str, Any]]


class ImportRejection(OrgScopedRow, Base):
    """One thing wrong with one row of an import: where and what, never the value.

    ``line`` is 1-based, of the record's first line in the file. ``field`` is empty where the row as a
    whole is wrong. ``taken``: the row was taken, without that field.
    """

    __tablename__ = "contact_import_rejections"

    import_id: Mapped[UUID] = mapped_column(primary_key=True)
    line: Mapped[int] = mapped_column(BigInteger, primary_key=True)
    field: Mapped[str] = mapped_column(primary_key=True)
    code: Mapped[str]
    taken: Mapped[bool] = mapped_column(server_default="false")
