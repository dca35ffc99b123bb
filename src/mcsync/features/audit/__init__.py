"""Who did what: an append-only chain for each organisation. Use ``audit.record(...)``."""

from typing import TYPE_CHECKING, Any

from mcsync.features.audit.actions import AuditAction

if TYPE_CHECKING:
    from mcsync.features.audit.service import record

__all__ = ["AuditAction", "record"]


def __getattr__(name: str) -> Any:
    # not at the top: the command line wants the list of actions, and not the store
    if name == "record":
        from mcsync.features.audit.service import record

        globals()["record"] = record
        return record
    message = f"module {__name__!r} has no attribute {name!r}"
    raise AttributeError(message)
