"""Waking workers: ARQ as a bell, never as a store."""

from mcsync.core.jobs.daily import DAILY_AT, last_due
from mcsync.core.jobs.queue import ORDER, SCHEDULED_SYNC, SEGMENT_SYNC, SOURCE_PULL, JobQueue

__all__ = [
    "DAILY_AT", "ORDER", "SCHEDULED_SYNC", "SEGMENT_SYNC", "SOURCE_PULL", "JobQueue", "last_due",
]  # fmt: skip
