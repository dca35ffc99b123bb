"""Values of a source that outlive a pull: watermarks and queue keys, packed with their types.

Also the arithmetic of watermarks: the next pull begins at the highest value seen, less an overlap,
since rows become visible later than the time they carry (a transaction takes its time to commit).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from math import isfinite
from typing import Any, Final
from uuid import UUID

Packed = dict[str, Any]
Comparable = Any


class Unreadable:
    """Stands for a value that no Python value can be made of: a date before the year 1, text in no encoding.

    It says nothing of the value itself, so that no log or error can.
    """

    __slots__ = ()

    def __repr__(self) -> str:
        """The same for all."""
        return "UNREADABLE"


UNREADABLE: Final = Unreadable()


@dataclass(frozen=True, slots=True)
class Clock:
    """What time it is at the source; ``naive`` is the earlier of its local time and UTC.

    A time without a zone may be either. Taken for too early rows are read again, which costs nothing; taken
    for too late the changes in between would never be read.
    """

    aware: datetime
    naive: datetime


def pack(value: Any) -> Packed:
    """A value as JSON with its type. Raises ``TypeError`` for one that cannot be kept."""
    match value:
        case bool():
            raise TypeError
        case int():
            return {"type": "int", "value": str(value)}
        case float():
            return {"type": "float", "value": repr(value)}
        case Decimal():
            return {"type": "decimal", "value": str(value)}
        case str():
            return {"type": "text", "value": value}
        case datetime():
            return {"type": "moment", "value": value.isoformat()}
        case date():
            return {"type": "date", "value": value.isoformat()}
        case UUID():
            return {"type": "uuid", "value": str(value)}
        case bytes() | bytearray() | memoryview():
            return {"type": "bytes", "value": bytes(value).hex()}
    raise TypeError


def unpack(packed: Packed) -> Any:
    """The value again, as the driver gave it."""
    text = packed["value"]
    match packed["type"]:
        case "int":
            return int(text)
        case "float":
            return float(text)
        case "decimal":
            return Decimal(text)
        case "moment":
            return datetime.fromisoformat(text)
        case "date":
            return date.fromisoformat(text)
        case "uuid":
            return UUID(text)
        case "bytes":
            return bytes.fromhex(text)
    return text


def kind_of(value: Any) -> str | None:
    """Which values it can be compared with: those of the same kind; None for one that has no order."""
    match value:
        case bool():
            return None
        case float():
            return "number" if isfinite(value) else None
        case Decimal():
            return "number" if value.is_finite() else None
        case int():
            return "number"
        case str():
            return "text" if _iso(value) is None else "time as text"
        case datetime():
            return "moment" if value.tzinfo is not None else "moment without zone"
        case date():
            return "date"
        case UUID():
            return "uuid"
        case bytes() | bytearray() | memoryview():
            return "bytes"
    return None


@dataclass(slots=True)
class Highest:
    """The highest watermark that was read, among values that can be compared.

    A column may hold a few odd values: a word among times, NaN, a time beyond the year 9999. Compared with
    the others one of them would be the highest, and every later change would be hidden behind it.
    """

    found: dict[str, tuple[int, Any]] = field(default_factory=dict)
    without_order: bool = False

    def note(self, value: Any) -> None:
        """Takes a value into account."""
        kind = kind_of(value)
        if kind is None:
            odd = value is None or isinstance(value, Unreadable | float | Decimal)
            self.without_order |= not odd
            return
        count, highest = self.found.get(kind, (0, value))
        self.found[kind] = (count + 1, max(highest, value))

    def reached(self, before: Any | None) -> Any | None:
        """The highest value of the kind of ``before``, or without it of the most frequent kind; or None.

        Raises ``TypeError`` where the column has values and none of them has an order.
        """
        if not self.found:
            if self.without_order:
                raise TypeError
            return None
        kind = max(self.found, key=lambda one: self.found[one][0])
        if before is not None:
            kind = kind_of(before) or kind
        return self.found.get(kind, (0, None))[1]


def less(value: Comparable, overlap: int) -> Comparable:
    """The value less the overlap: seconds for times, steps for numbers.

    Text is taken for an ISO time where it is one (as SQLite keeps them), and answered cut to the second,
    which sorts before every longer form of it; other text has no distance and stays.
    """
    match value:
        case datetime():
            return value - timedelta(seconds=overlap)
        case date():
            return value - timedelta(days=-(-overlap // 86_400))
        case int() | float() | Decimal():
            return value - overlap
        case str():
            read = _iso(value)
            if read is None:
                return value
            earlier = (read - timedelta(seconds=overlap)).replace(tzinfo=None)
            if len(value) <= len("2026-01-01"):
                return (earlier - timedelta(days=1 if overlap else 0)).date().isoformat()
            return earlier.isoformat(sep=value[10], timespec="seconds")
    return value


def not_ahead(value: Comparable, clock: Clock) -> Comparable:
    """The value, or the source's present where the value lies ahead of it.

    One row with a time in the future must not hide every later change.
    """
    match value:
        case datetime() if value.tzinfo is not None:
            return min(value, clock.aware)
        case datetime():
            return min(value, clock.naive)
        case date():
            return min(value, clock.naive.date())
        case str() if (read := _iso(value)) is not None:
            now = clock.aware if read.tzinfo is not None else clock.naive
            if read > now:
                now = now.astimezone(read.tzinfo) if read.tzinfo is not None else now
                sep = value[10] if len(value) > len("2026-01-01") else "T"
                text = now.replace(tzinfo=None).isoformat(sep=sep, timespec="seconds")
                return text[: max(10, min(len(value), len(text)))]
    return value


def _iso(text: str) -> datetime | None:
    try:
        return datetime.fromisoformat(text) if len(text) >= len("2026-01-01") else None
    except ValueError:
        return None


def utc_clock(now: datetime) -> Clock:
    """The clock of a source that lives on this machine."""
    local = now.astimezone().replace(tzinfo=None)
    return Clock(now, min(local, now.astimezone(UTC).replace(tzinfo=None)))
