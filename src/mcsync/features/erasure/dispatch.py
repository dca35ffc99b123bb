"""What of erasures is due, for the dispatcher, which is also their sweeper (T A3)."""

from __future__ import annotations

from typing import Final

from mcsync.core.jobs import ERASURE, Due

DUE: Final = (Due("mcsync_due_erasures", ERASURE),)
"""Every erasure that is due and that nobody holds."""
