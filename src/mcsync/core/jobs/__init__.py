"""Waking workers: ARQ as a bell, never as a store."""

from mcsync.core.jobs.queue import (
    AUDIENCE_PULL,
    ERASURE,
    ORDER,
    SCHEDULED_SYNC,
    SEGMENT_SYNC,
    WEBHOOK,
    WEBHOOKS,
    JobQueue,
)

__all__ = [
    "AUDIENCE_PULL",
    "ERASURE",
    "ORDER",
    "SCHEDULED_SYNC",
    "SEGMENT_SYNC",
    "WEBHOOK",
    "WEBHOOKS",
    "JobQueue",
]
