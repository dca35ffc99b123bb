"""Sources in PostgreSQL, by asyncpg and its server-side cursors."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager, suppress
from typing import Any, Final

import asyncpg
from asyncpg import exceptions as failures

from mcsync.core.db.troubles import tls_words
from mcsync.core.postgres_url import PostgresUrlError, driver_arguments, read_postgres_url
from mcsync.features.sources import errors
from mcsync.features.sources.drivers.base import CONNECT_SECONDS, GRACE_SECONDS, Rows
from mcsync.features.sources.drivers.postgres_types import read_odd_values, without_encoding
from mcsync.features.sources.drivers.url import SourceUrl
from mcsync.features.sources.statements import with_keys
from mcsync.features.sources.values import Clock

_AUTHORITY: Final = "the parameter sslrootcert of the source's URL"
# For this transaction only: what a pooler hands on to the next client is as it was.
_LIMITS: Final = """
select set_config('statement_timeout', $1, true), set_config('lock_timeout', '10s', true),
       set_config('idle_in_transaction_session_timeout', $2, true), set_config('timezone', 'UTC', true)
"""
# The session's zone is UTC; its default is what the applications there may write.
_CLOCK: Final = """
select now() as aware, least(timezone('UTC', now()), (
    select timezone(reset_val, now()) from pg_settings where name = 'TimeZone')) as naive
"""


@contextmanager
def _explained(seconds: int) -> Iterator[None]:
    try:
        yield
    except (
        failures.InvalidAuthorizationSpecificationError,
        failures.InvalidPasswordError,
    ) as error:
        why = tls_words(error)
        raise (errors.refused_login() if why is None else errors.insecure(why)) from None
    except failures.InvalidCatalogNameError:
        raise errors.refused_query("there is no such database.") from None
    except failures.ReadOnlySQLTransactionError:
        raise errors.wrote() from None
    except failures.QueryCanceledError:
        raise errors.too_slow(seconds) from None
    except (failures.TooManyConnectionsError, failures.CannotConnectNowError):
        raise errors.busy() from None
    except failures.PostgresError as error:
        raise _refused(error) from None
    except TimeoutError:
        raise errors.too_slow(seconds) from None
    except (failures.InterfaceError, failures.InternalClientError, OSError) as error:
        why = tls_words(error, authority=_AUTHORITY)
        raise (errors.unreachable() if why is None else errors.insecure(why)) from None
    except (TypeError, ValueError, OverflowError):  # a value that the column does not take
        raise errors.refused_query("a value is of another type than its column.") from None


def _refused(error: failures.PostgresError) -> errors.SourceError:
    state = getattr(error, "sqlstate", None) or ""
    if state[:2] in {"08", "57"}:
        return errors.unreachable()
    if state.startswith("22"):
        return errors.failed_on_a_row(f"SQLSTATE {state}")
    # Class 42 is about the statement's text; all others may be about a row.
    sentence = getattr(error, "message", None) if state.startswith("42") else None
    return errors.refused_query(f"SQLSTATE {state}.", sentence=sentence)


@asynccontextmanager
async def _connected(url: SourceUrl) -> AsyncIterator[asyncpg.Connection]:
    try:
        arguments = driver_arguments(read_postgres_url(url.raw, writes=False))
    except PostgresUrlError as error:
        raise errors.unusable_url(f"It{error}") from None
    with _explained(CONNECT_SECONDS):
        try:
            connection = await asyncpg.connect(
                timeout=CONNECT_SECONDS, statement_cache_size=0, **arguments
            )
        except TimeoutError:
            raise errors.unreachable() from None
    try:
        yield connection
    finally:
        # a session in the middle of a result is ended, not waited for
        with suppress(Exception):
            async with asyncio.timeout(2):
                await connection.close(timeout=1)
        connection.terminate()


class _Reader:
    def __init__(self, connection: asyncpg.Connection, seconds: int) -> None:
        self._connection = connection
        self._seconds = seconds
        self._wait = seconds + GRACE_SECONDS
        self._cursor: Any = None

    async def clock(self) -> Clock:
        with _explained(self._seconds):
            row = await self._connection.fetchrow(_CLOCK, timeout=self._wait)
        assert row is not None
        return Clock(row["aware"], row["naive"])

    async def open(self, sql: str, *parameters: Any) -> tuple[str, ...]:
        with _explained(self._seconds):
            statement = await self._connection.prepare(sql, timeout=self._wait)
            if without_encoding(self._connection):
                # else the server itself refuses to send text that is no UTF-8; the bytes stay as they are
                await self._connection.execute("set local client_encoding = 'LATIN1'")
            self._cursor = await statement.cursor(*parameters, timeout=self._wait)
            return tuple(column.name for column in statement.get_attributes())

    async def fetch(self, most: int) -> Rows:
        with _explained(self._seconds):
            rows: Rows = await self._cursor.fetch(most, timeout=self._wait)
            return rows


@asynccontextmanager
async def reading(url: SourceUrl, *, seconds: int) -> AsyncIterator[_Reader]:
    """A session that sees one moment of the database and can change nothing."""
    async with _connected(url) as connection:
        with _explained(seconds):
            await connection.execute("begin isolation level repeatable read, read only")
            await connection.execute(_LIMITS, str(seconds * 1000), str((seconds + 60) * 1000))
            await read_odd_values(connection)
        yield _Reader(connection, seconds)


class _Acknowledger:
    def __init__(self, connection: asyncpg.Connection, statement: str, seconds: int) -> None:
        self._connection = connection
        self._statement = statement
        self._seconds = seconds

    async def acknowledge(self, keys: Sequence[Any]) -> None:
        with _explained(self._seconds):
            async with self._connection.transaction():
                await self._connection.execute(
                    _LIMITS, str(self._seconds * 1000), str((self._seconds + 60) * 1000)
                )
                await self._connection.executemany(
                    self._statement,
                    [(key,) for key in keys],
                    timeout=self._seconds + GRACE_SECONDS,
                )


@asynccontextmanager
async def acknowledging(
    url: SourceUrl, statement: str, *, seconds: int
) -> AsyncIterator[_Acknowledger]:
    """A session that runs the acknowledging statement."""
    async with _connected(url) as connection:
        sent = with_keys(statement, "postgresql", lambda: "$1")
        yield _Acknowledger(connection, sent, seconds)
