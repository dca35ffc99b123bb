"""The sandbox's own time: real time plus a shift that only ever grows (MC 2: whole seconds go out)."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from functools import lru_cache


class Clock:
    """Real time plus an offset. It never goes backwards, so that change logs stay sorted."""

    __slots__ = ("_latest", "offset")

    def __init__(self) -> None:
        self.offset = 0.0
        self._latest = 0

    def now(self) -> float:
        """Seconds since the epoch, as the sandbox sees them."""
        return time.time() + self.offset

    def second(self) -> int:
        """The whole second that goes into `last_changed`; monotonic even if the host's clock is set back."""
        self._latest = max(self._latest, int(self.now()))
        return self._latest

    def advance(self, seconds: float) -> None:
        """Shift the clock forward. A negative shift would unsort the change log, so it is refused."""
        if seconds < 0:
            raise ValueError("the sandbox's clock only goes forward")
        self.offset += seconds


@lru_cache(maxsize=65_536)
def iso(second: int) -> str:
    """`2015-10-21T15:41:36+00:00`; an unset time (0) is the empty string, not null (MC 2)."""
    return datetime.fromtimestamp(second, UTC).isoformat() if second else ""


@lru_cache(maxsize=4_096)
def parse_time(text: str) -> int | None:
    """Whole second of an ISO 8601 text (offset, `Z` and milliseconds allowed, MC 2), or None if it is no time."""
    # A plus sign that nobody percent-encoded in a query arrives as a blank before the offset.
    candidate = text.strip()
    if len(candidate) > 6 and candidate[-6] == " ":
        candidate = f"{candidate[:-6]}+{candidate[-5:]}"
    try:
        moment = datetime.fromisoformat(candidate)
    except ValueError:
        return None
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    return int(moment.timestamp())
