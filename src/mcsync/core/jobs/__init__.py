"""Waking workers: ARQ as a bell, never as a store."""

from mcsync.core.jobs.bell import Bell
from mcsync.core.jobs.crew import Crew, JobFunction
from mcsync.core.jobs.daily import DAILY_AT, last_due
from mcsync.core.jobs.due import Due, ring_due, tick
from mcsync.core.jobs.lease import FencedError, kept_alive, under_lease
from mcsync.core.jobs.queue import (
    AUDIENCE_PULL,
    CAMPAIGN_STATS,
    ERASURE,
    FORM_POST,
    ORDER,
    SCHEDULED_SYNC,
    SEGMENT_SYNC,
    SOURCE_PULL,
    TRANSACTIONAL_OUTCOMES,
    TRANSACTIONAL_SEND,
    WEBHOOK,
    WEBHOOKS,
    JobQueue,
)

__all__ = [
    "AUDIENCE_PULL",
    "CAMPAIGN_STATS",
    "DAILY_AT",
    "ERASURE",
    "FORM_POST",
    "ORDER",
    "SCHEDULED_SYNC",
    "SEGMENT_SYNC",
    "SOURCE_PULL",
    "TRANSACTIONAL_OUTCOMES",
    "TRANSACTIONAL_SEND",
    "WEBHOOK",
    "WEBHOOKS",
    "Bell",
    "Crew",
    "Due",
    "FencedError",
    "JobFunction",
    "JobQueue",
    "kept_alive",
    "last_due",
    "ring_due",
    "tick",
    "under_lease",
]
