"""Which errors say that PostgreSQL cannot serve just now, and nothing about what was asked of it."""

from __future__ import annotations

from typing import Final

from sqlalchemy.exc import DBAPIError, InterfaceError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError

_PASSING: Final = ("08", "25006", "40", "53", "55P03", "57014", "57P", "58")
"""SQLSTATEs, or how they begin. Lost or refused connections, a standby (25006), rollbacks in favour of others,
no connection, memory or disk left (53), a lock not had in time, a cancelled statement, a server that stops,
starts or recovers (57P), and one that cannot read its files (58)."""


def is_passing(error: BaseException) -> bool:
    """Whether the database was away, overloaded or restarting, so that the same may succeed later.

    Takes SQLAlchemy's errors, those of asyncpg itself, and those of the network and of the pool.
    """
    if isinstance(error, (PoolTimeoutError, OSError)):
        return True
    if isinstance(error, DBAPIError):
        if error.connection_invalidated:
            return True
        return _is_passing_state(error.orig) or (
            isinstance(error, (OperationalError, InterfaceError)) and not _is_about_values(error)
        )
    return _is_passing_state(error)


def _is_passing_state(error: BaseException | None) -> bool:
    state = getattr(error, "sqlstate", None)
    return bool(state) and str(state).startswith(_PASSING)


def _is_about_values(error: DBAPIError) -> bool:
    """asyncpg says with an ``InterfaceError`` too that a parameter has the wrong type."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, (ValueError, TypeError)):
            return True
        cause = cause.__cause__ or getattr(cause, "orig", None)
    return False
