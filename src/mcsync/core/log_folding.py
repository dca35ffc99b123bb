"""One line per cause: what fails again and again is written once, then counted.

The first event of a cause is written at once. Those that follow are counted, and a line with ``count`` tells
of them a minute later, then each minute while there are more. All lines of a cause together (a line without
``count`` stands for one event) account for every event.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from structlog import DropEvent
from structlog.processors import TimeStamper
from structlog.types import EventDict, WrappedLogger

FOLD_SECONDS: Final = 60.0
_MOST_CAUSES: Final = 500
_OF_A_CAUSE: Final = ("logger", "event", "level", "error", "code", "loop", "route", "kind")
_SINGLE: Final = frozenset(
    {"request_id", "run", "order", "id", "pull", "erasure", "message", "epoch", "org", "job"}
)
"""What belongs to one of the events alone, and would mislead in a line that stands for many."""

_stamp = TimeStamper(fmt="iso", utc=True)


@dataclass(slots=True)
class _Cause:
    since: float
    count: int = 0
    first_at: str = ""
    last: EventDict | None = None


class Folder:
    """structlog processor, the last before rendering; ``write`` takes the lines that stand for several.

    Folds errors: events with ``error`` or ``exception``, and warnings of libraries (which have a
    ``template``, their message before its values are put in). Other events are facts, each of its own.
    """

    def __init__(
        self, write: Callable[[EventDict], None], *, seconds: float = FOLD_SECONDS,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:  # fmt: skip
        self._write = write
        self._seconds = seconds
        self._clock = clock
        self._lock = threading.Lock()
        self._causes: dict[tuple[str, ...], _Cause] = {}
        self._timer: threading.Timer | None = None

    def __call__(self, _: WrappedLogger, __: str, event: EventDict) -> EventDict:
        """The event if it is to be written now. Raises ``DropEvent`` where it is only counted."""
        template = event.pop("template", None)
        key = _cause_of(event, template)
        if key is None:
            return event
        with self._lock:
            cause = self._causes.get(key)
            if cause is None:
                if len(self._causes) < _MOST_CAUSES:
                    self._causes[key] = _Cause(self._clock())
                    self._arm()
                return event
            cause.count += 1
            cause.first_at = cause.first_at or str(event.get("timestamp", ""))
            cause.last = dict(event)
        raise DropEvent

    def flush(self, *, all_of_them: bool = True) -> None:
        """Writes what was counted; with ``all_of_them`` false, only where a minute is over."""
        now = self._clock()
        lines: list[EventDict] = []
        with self._lock:
            for key, cause in list(self._causes.items()):
                if not all_of_them and now - cause.since < self._seconds:
                    continue
                if cause.last is None:  # a minute without: the next event is a first one again
                    del self._causes[key]
                    continue
                lines.append(_summary(cause))
                self._causes[key] = _Cause(now)
            self._timer = None
            if self._causes and not all_of_them:
                self._arm()
        for line in lines:
            self._write(line)

    def close(self) -> None:
        """Writes what was counted, and looks no more."""
        with self._lock:
            timer, self._timer = self._timer, None
        if timer is not None:
            timer.cancel()
        self.flush()

    def _arm(self) -> None:
        """Looks again when the oldest cause is a minute old."""
        if self._timer is None:
            oldest = min(cause.since for cause in self._causes.values())
            wait = max(0.0, oldest + self._seconds - self._clock())
            self._timer = threading.Timer(wait, self.flush, kwargs={"all_of_them": False})
            self._timer.daemon = True
            self._timer.start()


def _cause_of(event: EventDict, template: object) -> tuple[str, ...] | None:
    exception = event.get("exception")
    failed = isinstance(event.get("error"), str) or exception is not None
    if not failed and (template is None or event.get("level") in {"debug", "info"}):
        return None
    parts = [str(event.get(name, "")) for name in _OF_A_CAUSE]
    if template is not None:
        parts[1] = str(template)
    if isinstance(exception, dict):
        causes = exception.get("causes") or [exception]
        parts += [str(exception.get("type")), str(causes[-1].get("type"))]
        parts += [str(frame) for frame in exception.get("frames", ())[-1:]]
    return tuple(parts)


def _summary(cause: _Cause) -> EventDict:
    assert cause.last is not None
    line = {name: value for name, value in cause.last.items() if name not in _SINGLE}
    line |= {"count": cause.count, "first_at": cause.first_at, "last_at": line.get("timestamp")}
    line.pop("timestamp", None)
    return _stamp(None, "", line)
