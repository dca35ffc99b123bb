"""Times of consent as files spell them, read as the earliest moment that each can be.

A time without a zone, a date alone, and an hour that a zone has twice may be several moments. An opt-in
counts as given at the earliest of them, so that it never overrules a withdrawal that may be later.
"""

from __future__ import annotations

import re
import zoneinfo
from datetime import UTC, datetime, timedelta
from functools import cache
from typing import Final
from zoneinfo import ZoneInfo

from mcsync.core.clock import Clock
from mcsync.core.errors import BadRequestError

FUTURE_TOLERANCE: Final = timedelta(days=1)
"""How far ahead the time of an opt-in may lie: clocks differ. It counts as now, and lifts no withdrawal."""

_EARLIEST_ZONE: Final = timedelta(hours=14)
"""UTC+14, the zone in which each local time comes first."""

_SPACED_OFFSET: Final = re.compile(r"(?<=\d)\s+(?=[+-]\d|Z$)")
_UTC_NAME: Final = re.compile(r"(?<=\d)\s*(?:utc|gmt|z)$", re.IGNORECASE)
_SPREADSHEET: Final = re.compile(
    r"(?P<first>\d{1,2})(?P<sign>[./-])(?P<second>\d{1,2})(?P=sign)(?P<year>\d{4})"
    r"(?:(?:,?\s+|T)(?P<hour>\d{1,2}):(?P<minute>\d{2})(?::(?P<sec>\d{2})(?:[.,]\d+)?)?"
    r"(?:\s*(?P<half>[AaPp])\.?[Mm]\.?)?)?"
)
_MOST_KEPT: Final = 10_000
_NOON: Final = 12


@cache
def _zones() -> frozenset[str]:
    return frozenset(zoneinfo.available_timezones())


def zone_of(name: str | None) -> ZoneInfo | None:
    """The zone with an IANA name. Raises BadRequestError (``unknown_time_zone``)."""
    if name is None:
        return None
    if name not in _zones():
        raise BadRequestError(
            "This is not the name of a time zone. Send an IANA name such as Europe/Berlin, or UTC.",
            code="unknown_time_zone",
        )
    return ZoneInfo(name)


class Moments:
    """Reads times. ``zone``: of the times that name none; without it they may be of any zone."""

    def __init__(self, clock: Clock, zone: ZoneInfo | None = None) -> None:
        self._latest = clock() + FUTURE_TOLERANCE
        self._zone = zone
        self._known: dict[str, str] = {}

    def earliest(self, text: str) -> str | None:
        """The earliest moment that a text can be, as UTC text; ``None`` if it is none or lies ahead."""
        if text in self._known:
            return self._known[text]
        try:
            read = _parsed(text)
            moment = None if read is None else self._earliest(read)
        except (ValueError, OverflowError):
            return None
        if moment is None or moment > self._latest:
            return None
        if len(self._known) > _MOST_KEPT:
            self._known.clear()
        self._known[text] = moment.isoformat()
        return self._known[text]

    def _earliest(self, read: datetime) -> datetime:
        if read.tzinfo is not None:
            return read.astimezone(UTC)
        if self._zone is None:
            return read.replace(tzinfo=UTC) - _EARLIEST_ZONE
        # an hour that the clocks repeat, or leave out, has two readings
        return min(read.replace(tzinfo=self._zone, fold=fold).astimezone(UTC) for fold in (0, 1))


def _parsed(text: str) -> datetime | None:
    plain = _SPACED_OFFSET.sub("", _UTC_NAME.sub("Z", text.strip()))
    try:
        return datetime.fromisoformat(plain)
    except ValueError:
        return _from_spreadsheet(plain)


def _from_spreadsheet(text: str) -> datetime | None:
    """``01.06.2026 13:40``, or ``31/12/2026`` where only one order of day and month is possible."""
    found = _SPREADSHEET.fullmatch(text)
    if found is None:
        return None
    day, month = int(found["first"]), int(found["second"])
    if found["sign"] != "." and day != month:
        if day <= _NOON and month <= _NOON:
            return None  # either may be the month
        if month > _NOON:
            day, month = month, day
    hour = int(found["hour"] or 0)
    if found["half"]:
        if not 1 <= hour <= _NOON:
            return None
        hour = hour % _NOON + (_NOON if found["half"] in "Pp" else 0)
    return datetime(  # noqa: DTZ001 - its zone is found by the caller
        int(found["year"]), month, day, hour, int(found["minute"] or 0), int(found["sec"] or 0)
    )
