"""Waking workers: ARQ as a bell, never as a store."""

from mcsync.core.jobs.queue import ERASURE, ORDER, SCHEDULED_SYNC, SEGMENT_SYNC, JobQueue

__all__ = ["ERASURE", "ORDER", "SCHEDULED_SYNC", "SEGMENT_SYNC", "JobQueue"]
