"""What a higher floor provides to the segments' procedures."""

from __future__ import annotations

from typing import Annotated

from fastapi import Depends

from mcsync.features.segments.service import LeaveHook


def leave_hook() -> LeaveHook:
    """The hook that starts a leaving run; the app puts sync's in place (``dependency_overrides``)."""
    message = "the app must override segments.deps.leave_hook"
    raise RuntimeError(message)


LeaveDep = Annotated[LeaveHook, Depends(leave_hook)]
