"""What an error of PostgreSQL means to whoever asked: which passes, and what the operator must do.

Drivers' errors come as they are (a COPY goes to asyncpg directly) or wrapped by SQLAlchemy. Both carry the
SQLSTATE, by which they are told apart here and nowhere else.
"""

from __future__ import annotations

import ssl
import time
from dataclasses import dataclass
from enum import StrEnum
from socket import gaierror
from typing import Final

from asyncpg import InterfaceError as DriverInterfaceError
from sqlalchemy.exc import DBAPIError, InterfaceError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError

from mcsync.certificates import tls_problem
from mcsync.core.db.driver import schema_changed


class Trouble(StrEnum):
    """What is wrong with the database, in a word."""

    BUSY = "busy"
    """It answers, but no connection is free, or a lock or a race was lost. Passes by itself."""
    FULL = "full"
    """Its disk is full: an operator must make room."""
    READ_ONLY = "read_only"
    """It takes no changes: a standby, or set so."""
    STARTING = "starting"
    """It starts, stops or recovers. Passes by itself."""
    TOO_MANY_CONNECTIONS = "too_many_connections"
    """Others hold all connections that it allows."""
    REFUSED = "refused"
    """It refuses the role, its password or the database's name."""
    TLS = "tls"
    """The connection cannot be made secure, or not as the server wants it: :func:`tls_words` says why."""
    UNREACHABLE = "unreachable"
    """It cannot be reached, or the connection was cut."""


@dataclass(frozen=True, slots=True)
class Words:
    """What a caller is told: a stable code, a sentence, and after how many seconds to repeat."""

    code: str
    detail: str
    retry_after: int


WORDS: Final = {
    Trouble.BUSY: Words("unavailable", "The database is busy. Repeat the request.", 1),
    Trouble.FULL: Words(
        "database_full",
        "The disk of the database is full; nothing of this request was kept. An operator must make"
        " room on it. Repeat the request after that.",
        30,
    ),
    Trouble.READ_ONLY: Words(
        "database_read_only",
        "The database takes no changes at present; nothing of this request was kept. An operator must"
        " point the service at the primary server.",
        10,
    ),
    Trouble.STARTING: Words("unavailable", "The database is starting. Repeat the request.", 2),
    Trouble.TOO_MANY_CONNECTIONS: Words(
        "unavailable", "All connections of the database are taken. Repeat the request.", 2
    ),
    Trouble.REFUSED: Words(
        "unavailable",
        "The database refuses the service. An operator must look at MCSYNC_DATABASE_URL.",
        30,
    ),
    Trouble.TLS: Words(
        "unavailable",
        "The connection to the database cannot be made secure. An operator must look at what `mcsync"
        " doctor` says.",
        30,
    ),
    Trouble.UNREACHABLE: Words("unavailable", "The database cannot be reached just now.", 5),
}

_AUTHORITY: Final = "the parameter sslrootcert of MCSYNC_DATABASE_URL"
_STATES: Final = (
    ("53100", Trouble.FULL),
    ("53300", Trouble.TOO_MANY_CONNECTIONS),
    ("25006", Trouble.READ_ONLY),
    ("57P0", Trouble.STARTING),  # shutdown, crash of a neighbour, cannot connect now
    ("28", Trouble.REFUSED),
    ("3D000", Trouble.REFUSED),
    ("08", Trouble.UNREACHABLE),
    ("53", Trouble.BUSY),
    ("40", Trouble.BUSY),
    ("55P03", Trouble.BUSY),
    ("57014", Trouble.BUSY),
)

_PASSING: Final = (*(state for state, trouble in _STATES if trouble is not Trouble.REFUSED), "58")
"""What may be gone when the same is tried again: all but a refusal; and a server that cannot read its files (58)."""


def sqlstate_of(error: BaseException) -> str | None:
    """The SQLSTATE that an error, or what caused it, carries."""
    seen: BaseException | None = error
    while seen is not None:
        state = getattr(seen, "sqlstate", None)
        if isinstance(state, str) and state:
            return state
        seen = getattr(seen, "orig", None) or seen.__cause__
    return None


def trouble_of(error: BaseException) -> Trouble | None:
    """What is wrong with the database; ``None`` where the error says nothing of the kind.

    A full disk is remembered, so that readiness looks at once (see :func:`disk_suspected`).
    """
    if tls_words(error) is not None:
        return Trouble.TLS
    state = sqlstate_of(error)
    if state is not None:
        found = next((trouble for prefix, trouble in _STATES if state.startswith(prefix)), None)
        if found is Trouble.FULL:
            _Disk.suspected = True
        if found is not None:
            return found
    if isinstance(error, PoolTimeoutError):
        return Trouble.BUSY
    if isinstance(error, DBAPIError) and schema_changed(error):
        return Trouble.BUSY
    # Of all that a process connects to, only PostgreSQL's driver lets the system's own errors through.
    cut = isinstance(error, ConnectionError | gaierror) or (
        isinstance(error, DBAPIError) and error.connection_invalidated
    )
    if cut or (isinstance(error, DriverInterfaceError) and "closed" in str(error)):
        return Trouble.UNREACHABLE
    return None


def tls_words(error: BaseException, *, authority: str = _AUTHORITY) -> str | None:
    """What is wrong with TLS between a client and PostgreSQL, with what to do; ``None``: something else.

    ``authority``: where to name an authority that is not trusted yet. Only errors of connecting are looked
    at; those of Mailchimp's client, which may have the same causes, are others.
    """
    seen = getattr(error, "orig", None) or error
    if isinstance(seen, ssl.SSLError):
        return tls_problem(seen, of="PostgreSQL", authority=authority)
    if isinstance(seen, ConnectionError) and "rejected SSL upgrade" in str(seen):
        return (
            "PostgreSQL offers no TLS, which sslmode in its URL demands. Set ssl = on in postgresql.conf, or"
            " write another sslmode."
        )
    if sqlstate_of(seen) == "28000" and str(seen).endswith("no encryption"):
        return "PostgreSQL wants TLS from here, which sslmode in its URL rules out. Write sslmode=verify-full."
    return None


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


class _Disk:
    """Of this process: whether a full disk was met, and when the disk was last found to have room."""

    suspected = False
    looked_at = float("-inf")


_DISK_SECONDS: Final = 10.0


def disk_suspected() -> bool:
    """Whether the disk should be tried: a write failed on it, or it was not tried for ten seconds."""
    return _Disk.suspected or time.monotonic() - _Disk.looked_at > _DISK_SECONDS


def disk_has_room() -> None:
    """The disk was tried, and took what was written."""
    _Disk.suspected, _Disk.looked_at = False, time.monotonic()
