"""The lock between those who take addresses for a call to Mailchimp and the orders about the same audience."""

from __future__ import annotations

from uuid import UUID

LOCK = "pg_advisory_xact_lock{shared}(hashtextextended(cast(:audience as text), 0))"
"""Takers share it, an order's barrier takes it alone for a moment: so an order sees every call that was
taken without knowing of the withdrawal, and every later taker knows of it."""


def lock_name(audience_id: UUID) -> str:
    """What a transaction that will take :data:`LOCK` is opened ``behind``."""
    return f"audience:{audience_id}"
