"""Waking workers: ARQ as a bell, never as a store."""

from mcsync.core.jobs.queue import (
    ORDER,
    SCHEDULED_SYNC,
    SEGMENT_SYNC,
    TRANSACTIONAL_OUTCOMES,
    TRANSACTIONAL_SEND,
    JobQueue,
)

__all__ = [
    "ORDER",
    "SCHEDULED_SYNC",
    "SEGMENT_SYNC",
    "TRANSACTIONAL_OUTCOMES",
    "TRANSACTIONAL_SEND",
    "JobQueue",
]
