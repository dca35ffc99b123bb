"""PostgreSQL's times and texts that Python has no value for, read as :data:`UNREADABLE`.

asyncpg's own codecs raise in the middle of a row, and with it every row of the same answer is lost.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, date, datetime, time, timedelta, timezone
from typing import Any, Final

import asyncpg

from mcsync.features.sources.values import UNREADABLE

_EPOCH: Final = datetime(2000, 1, 1)  # noqa: DTZ001 - of PostgreSQL's times without a zone
_EPOCH_UTC: Final = _EPOCH.replace(tzinfo=UTC)
_DAY_ZERO: Final = _EPOCH.toordinal()
_MICROSECOND: Final = timedelta(microseconds=1)
_MONTHS: Final = 12
_TEXTS: Final = ("text", "varchar", "bpchar", "name")


async def read_odd_values(connection: asyncpg.Connection) -> None:
    """Sets the codecs on a connection."""
    for name, (encode, decode) in _CODECS.items():
        await connection.set_type_codec(
            name, schema="pg_catalog", encoder=encode, decoder=_safe(decode), format="tuple"
        )
    if without_encoding(connection):
        for name in _TEXTS:
            await connection.set_type_codec(
                name, schema="pg_catalog", encoder=str.encode, decoder=_safe(bytes.decode),
                format="binary",
            )  # fmt: skip


def without_encoding(connection: asyncpg.Connection) -> bool:
    """Whether the database was made without an encoding: only such a one can hold text in none."""
    return bool(connection.get_settings().server_encoding == "SQL_ASCII")


def _safe(decode: Callable[[Any], Any]) -> Callable[[Any], Any]:
    def read(raw: Any) -> Any:
        try:
            return decode(raw)
        except (ValueError, OverflowError):
            return UNREADABLE

    return read


def _interval(raw: tuple[int, int, int]) -> timedelta:
    """A month is 30 days and a year 365, as asyncpg counts them."""
    months, days, microseconds = raw
    years, rest = divmod(abs(months), _MONTHS)
    sign = -1 if months < 0 else 1
    return timedelta(days=days + sign * (rest * 30 + years * 365), microseconds=microseconds)


def _time(microseconds: int) -> time:
    if not 0 <= microseconds < timedelta(days=1) // _MICROSECOND:
        raise ValueError  # 24:00:00
    return (_EPOCH + timedelta(microseconds=microseconds)).time()


def _microseconds(value: time) -> int:
    return (datetime.combine(_EPOCH, value.replace(tzinfo=None)) - _EPOCH) // _MICROSECOND


_CODECS: Final[dict[str, tuple[Callable[[Any], Any], Callable[[Any], Any]]]] = {
    "date": (
        lambda value: (value.toordinal() - _DAY_ZERO,),
        lambda raw: date.fromordinal(raw[0] + _DAY_ZERO),
    ),
    "timestamp": (
        lambda value: ((value.replace(tzinfo=None) - _EPOCH) // _MICROSECOND,),
        lambda raw: _EPOCH + timedelta(microseconds=raw[0]),
    ),
    "timestamptz": (
        lambda value: ((value.astimezone(UTC) - _EPOCH_UTC) // _MICROSECOND,),
        lambda raw: _EPOCH_UTC + timedelta(microseconds=raw[0]),
    ),
    "time": (lambda value: (_microseconds(value),), lambda raw: _time(raw[0])),
    "timetz": (
        lambda value: (
            _microseconds(value),
            -int((value.utcoffset() or timedelta()).total_seconds()),
        ),
        # PostgreSQL counts the seconds west of Greenwich
        lambda raw: _time(raw[0]).replace(tzinfo=timezone(timedelta(seconds=-raw[1]))),
    ),
    "interval": (
        lambda value: (0, value.days, value.seconds * 1_000_000 + value.microseconds),
        _interval,
    ),
}
