"""Waking workers: ARQ as a bell, never as a store."""

from mcsync.core.jobs.daily import DAILY_AT, last_due
from mcsync.core.jobs.queue import (
    AUDIENCE_PULL,
    ERASURE,
    ORDER,
    SCHEDULED_SYNC,
    SEGMENT_SYNC,
    SOURCE_PULL,
    WEBHOOK,
    WEBHOOKS,
    JobQueue,
)

__all__ = [
    "AUDIENCE_PULL",
    "DAILY_AT",
    "ERASURE",
    "ORDER",
    "SCHEDULED_SYNC",
    "SEGMENT_SYNC",
    "SOURCE_PULL",
    "WEBHOOK",
    "WEBHOOKS",
    "JobQueue",
    "last_due",
]
