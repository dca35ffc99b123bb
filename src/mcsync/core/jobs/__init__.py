"""Waking workers: ARQ as a bell, never as a store."""

from mcsync.core.jobs.queue import (
    CAMPAIGN_STATS,
    FORM_POST,
    ORDER,
    SCHEDULED_SYNC,
    SEGMENT_SYNC,
    JobQueue,
)

__all__ = [
    "CAMPAIGN_STATS",
    "FORM_POST",
    "ORDER",
    "SCHEDULED_SYNC",
    "SEGMENT_SYNC",
    "JobQueue",
]
