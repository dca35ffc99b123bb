"""Who did what: an append-only chain for each organisation. Use ``audit.record(...)``."""

from mcsync.features.audit.actions import AuditAction
from mcsync.features.audit.service import record

__all__ = ["AuditAction", "record"]
