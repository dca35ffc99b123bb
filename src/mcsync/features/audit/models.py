"""The audit chain's tables."""

from __future__ import annotations

from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import BigInteger, UniqueConstraint
from sqlalchemy.orm import Mapped, mapped_column

from mcsync.core.db.base import Base, OrgScoped, org_key


class AuditEntry(OrgScoped, Base):
    """One state change; entries of an organisation form a hash chain. Never updated or deleted."""

    __tablename__ = "audit_entries"

    org_id: Mapped[UUID] = org_key()
    seq: Mapped[int] = mapped_column(BigInteger, primary_key=True, autoincrement=False)
    at: Mapped[datetime]
    actor_kind: Mapped[str]
    actor_id: Mapped[str | None]
    actor_label: Mapped[str | None]
    action: Mapped[str]
    entity_type: Mapped[str]
    entity_id: Mapped[str | None]
    request_id: Mapped[str | None]
    diff: Mapped[dict[str, Any]]
    previous_hash: Mapped[bytes]
    hash: Mapped[bytes]

    __table_args__ = (UniqueConstraint("org_id", "hash"),)


class AuditHead(OrgScoped, Base):
    """The newest link of each organisation's chain; locked for the last statement of a transaction."""

    __tablename__ = "audit_heads"

    org_id: Mapped[UUID] = org_key()
    seq: Mapped[int] = mapped_column(BigInteger)
    hash: Mapped[bytes]
