"""Tables of the platform itself: organisations, tokens, idempotency keys, ticks and heartbeats."""

from __future__ import annotations

from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import ARRAY, Index, Text, func, text
from sqlalchemy.orm import Mapped, mapped_column

from mcsync.core.db.base import Base, Identified, OrgScoped, Timestamped, org_key


class Organisation(Identified, Timestamped, Base):
    """A tenant. ``hash_key`` is the envelope of its key for keyed hashes of addresses and tokens."""

    __tablename__ = "organisations"

    name: Mapped[str]
    hash_key: Mapped[str]

    __table_args__ = (Index("uq_organisations_name", text("lower(name)"), unique=True),)


class ServiceToken(Identified, OrgScoped, Timestamped, Base):
    """A service token: only its keyed hash is kept. ``audience_ids``: of a publishable one (Mailchimp's)."""

    __tablename__ = "service_tokens"

    name: Mapped[str]
    role: Mapped[str]
    audience_ids: Mapped[list[str] | None] = mapped_column(ARRAY(Text))
    token_hash: Mapped[bytes]
    last4: Mapped[str]
    expires_at: Mapped[datetime | None]
    revoked_at: Mapped[datetime | None]
    last_used_at: Mapped[datetime | None]


class IdempotencyKey(OrgScoped, Base):
    """The first answer to a mutation that carried an ``Idempotency-Key``.

    While ``status`` is null the request is under way: ``claim`` names who does it until ``locked_until``.
    """

    __tablename__ = "idempotency_keys"

    org_id: Mapped[UUID] = org_key()
    key: Mapped[str] = mapped_column(primary_key=True)
    fingerprint: Mapped[str]
    claim: Mapped[UUID]
    locked_until: Mapped[datetime]
    status: Mapped[int | None]
    headers: Mapped[dict[str, Any] | None]
    body: Mapped[str | None]
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())


class JobTick(Base):
    """When a cron job last came due, so that a tick missed while down is made up. Not a tenant's."""

    __tablename__ = "job_ticks"

    job: Mapped[str] = mapped_column(primary_key=True)
    due_at: Mapped[datetime]


class WorkerHeartbeat(Base):
    """One row per living worker. Not a tenant's.

    As of ``seen_at``: ``dispatch_seconds`` is how long ago its dispatcher last looked for due work,
    ``idle_seconds`` how long ago it last began a job, ``jobs`` how many it works on, ``clock_seconds`` by
    how much its clock is ahead of PostgreSQL's. All are null in the rows of a worker of an older version.
    """

    __tablename__ = "worker_heartbeats"

    worker_id: Mapped[str] = mapped_column(primary_key=True)
    host: Mapped[str]
    version: Mapped[str]
    started_at: Mapped[datetime]
    seen_at: Mapped[datetime]
    pid: Mapped[int | None]
    dispatch_seconds: Mapped[float | None]
    idle_seconds: Mapped[float | None]
    jobs: Mapped[int | None]
    clock_seconds: Mapped[float | None]
