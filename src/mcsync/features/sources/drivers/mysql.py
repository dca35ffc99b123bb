"""Sources in MySQL and MariaDB, by PyMySQL on a thread of its own (the extra ``mcsync[mysql]``)."""

from __future__ import annotations

import ssl
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager, suppress
from typing import TYPE_CHECKING, Any, Final

from mcsync.certificates import tls_problem
from mcsync.features.sources import errors
from mcsync.features.sources.drivers.base import CONNECT_SECONDS, GRACE_SECONDS, OneThread, Rows
from mcsync.features.sources.drivers.url import SourceUrl
from mcsync.features.sources.statements import with_keys
from mcsync.features.sources.values import UNREADABLE, Clock

if TYPE_CHECKING:
    from pymysql.connections import Connection

_LOGIN: Final = frozenset({1045, 1044, 1698, 1251, 2049, 2059})
_BUSY: Final = frozenset({1040, 1203, 1226, 1205, 1213})
_SLOW: Final = frozenset({1317, 1969, 3024})
_WROTE: Final = frozenset({1792, 1290, 1836})
_OF_THE_TEXT: Final = frozenset({1049, 1052, 1054, 1060, 1064, 1142, 1143, 1146, 1248, 1305, 1370})
"""Errors whose sentence is about the statement: unknown names, syntax, missing rights."""
_NOT_SECURE: Final = 3159
_LOST: Final = range(2000, 2100)


@contextmanager
def _explained(seconds: int) -> Iterator[None]:
    import pymysql

    try:
        yield
    except pymysql.MySQLError as error:
        raise _refused(error, seconds) from None
    except TimeoutError:
        raise errors.too_slow(seconds) from None
    except (OSError, EOFError):
        raise errors.unreachable() from None
    except (TypeError, ValueError, RuntimeError, AttributeError):
        # what the driver says of a line that broke in mid-sentence, or of a login it does not know
        raise errors.refused_query("the driver did not understand it.") from None


def _refused(error: Exception, seconds: int) -> errors.SourceError:
    code = error.args[0] if error.args and isinstance(error.args[0], int) else 0
    if code in _LOGIN:
        return errors.refused_login()
    if code in _BUSY:
        return errors.busy()
    if code in _SLOW:
        return errors.too_slow(seconds)
    if code in _WROTE:
        return errors.wrote()
    if code == _NOT_SECURE:
        return errors.insecure(
            "The database wants TLS from here. Write ssl-mode=VERIFY_IDENTITY in the source's URL."
        )
    if code in _LOST or code == 0:
        cause = getattr(error, "original_exception", error)
        why = tls_problem(
            cause, of="The database", authority="the parameter ssl-ca of the source's URL"
        )
        return errors.unreachable() if why is None else errors.insecure(why)
    sentence = str(error.args[1]) if code in _OF_THE_TEXT and len(error.args) > 1 else None
    return errors.refused_query(f"error {code}.", sentence=sentence)


def _tls(options: dict[str, str]) -> dict[str, Any]:
    """``ssl-mode`` as MySQL's own clients know it; without it TLS is used where the server offers it."""
    mode = options.get("ssl-mode", options.get("ssl_mode", "")).upper().replace("-", "_")
    authority = options.get("ssl-ca", options.get("ssl_ca"))
    if mode == "DISABLED":
        return {"ssl_disabled": True}
    if mode == "REQUIRED" and authority is None:
        context = ssl.create_default_context()
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
        return {"ssl": context}
    if mode in {"VERIFY_CA", "VERIFY_IDENTITY", "REQUIRED"} or authority is not None:
        context = ssl.create_default_context(cafile=authority)
        context.check_hostname = mode == "VERIFY_IDENTITY"
        return {"ssl": context}
    return {}


class _Server:
    """One connection: its calls on its thread."""

    def __init__(self, seconds: int) -> None:
        self.seconds = seconds
        self._thread = OneThread("mysql")
        self.connection: Connection[Any] | None = None

    async def connect(self, url: SourceUrl) -> None:
        try:
            import pymysql
            from pymysql.cursors import SSCursor
        except ImportError:
            raise errors.SourceError(
                "source_driver_missing",
                "MySQL and MariaDB need a driver: install mcsync[mysql] where the workers run.",
            ) from None

        def act() -> Connection[Any]:
            return pymysql.connect(
                host=url.host, port=url.port, user=url.user, password=url.password or "",
                database=url.database, charset="utf8mb4", cursorclass=SSCursor, autocommit=True,
                connect_timeout=CONNECT_SECONDS, read_timeout=self.seconds + GRACE_SECONDS,
                write_timeout=CONNECT_SECONDS, local_infile=False, **_tls(url.options),
            )  # fmt: skip

        self.connection = await self.run(act)

    async def run(self, act: Any) -> Any:
        with _explained(self.seconds):
            # the socket's own time-out is the first to speak; this one is for a thread that hangs
            return await self._thread(act, seconds=self.seconds + 2 * GRACE_SECONDS)

    async def limit(self) -> None:
        """Ends statements that take too long, at the server."""
        connection: Any = self.connection
        maria = "mariadb" in str(connection.get_server_info()).lower()
        limit = (
            f"set session max_statement_time = {self.seconds}" if maria
            else f"set session max_execution_time = {self.seconds * 1000}"
        )  # fmt: skip
        await self.run(lambda: self.execute(
            limit, "set session innodb_lock_wait_timeout = 10", "set session time_zone = '+00:00'",
        ))  # fmt: skip

    def execute(self, *statements: str) -> None:
        assert self.connection is not None
        for statement in statements:
            with self.connection.cursor() as cursor:
                cursor.execute(statement)

    def close(self) -> None:
        """Hangs up: there may be a million rows still to come, which nobody waits for."""
        connection: Any = self.connection
        if connection is not None:
            result = connection._result  # noqa: SLF001 - else its end is read from the line
            if result is not None:
                result.unbuffered_active = False
            with suppress(Exception):
                connection._force_close()  # noqa: SLF001 - close without a farewell
        self._thread.end()


def _tolerant(cursor: Any) -> None:
    """Lets a value that cannot be read stand as one, instead of ending the result in the middle of a row.

    PyMySQL decodes a row as it is read, and gives a date that does not exist (`0000-00-00`) as text.
    """
    from pymysql.constants import FIELD_TYPE

    times = {
        FIELD_TYPE.DATE, FIELD_TYPE.NEWDATE, FIELD_TYPE.DATETIME, FIELD_TYPE.TIMESTAMP, FIELD_TYPE.TIME,
    }  # fmt: skip

    def reader(encoding: str | None, convert: Any, field_type: int) -> Any:
        def read(raw: bytes) -> Any:
            try:
                value: Any = raw if encoding is None else raw.decode(encoding)
                value = value if convert is None else convert(value)
            except (ValueError, TypeError, ArithmeticError):
                return UNREADABLE
            return UNREADABLE if field_type in times and isinstance(value, str) else value

        return read

    result = cursor._result  # noqa: SLF001 - it offers no other place
    result.converters = [
        (None, reader(encoding, convert, column.type_code))
        for (encoding, convert), column in zip(result.converters, result.fields, strict=True)
    ]


class _Reader:
    def __init__(self, server: _Server) -> None:
        self._server = server
        self._cursor: Any = None

    async def clock(self) -> Clock:
        from datetime import UTC

        def act() -> Any:
            assert self._server.connection is not None
            with self._server.connection.cursor() as cursor:
                # the session's zone is UTC; the system's is what its applications may write
                cursor.execute("select utc_timestamp(6), convert_tz(now(6), '+00:00', 'SYSTEM')")
                return cursor.fetchall()

        ((utc, local),) = await self._server.run(act)
        return Clock(utc.replace(tzinfo=UTC), min(utc, local or utc))

    async def open(self, sql: str, *parameters: Any) -> tuple[str, ...]:
        def act() -> Any:
            assert self._server.connection is not None
            cursor = self._server.connection.cursor()
            cursor.execute(sql, parameters or None)
            _tolerant(cursor)
            return cursor

        self._cursor = await self._server.run(act)
        return tuple(column[0] for column in self._cursor.description or ())

    async def fetch(self, most: int) -> Rows:
        rows: Rows = await self._server.run(lambda: self._cursor.fetchmany(most))
        return rows


@asynccontextmanager
async def reading(url: SourceUrl, *, seconds: int) -> AsyncIterator[_Reader]:
    """A session that sees one moment of the database and can change nothing."""
    server = _Server(seconds)
    try:
        await server.connect(url)
        await server.limit()
        await server.run(lambda: server.execute(
            "set session transaction read only",
            "set session transaction isolation level repeatable read",
            "start transaction with consistent snapshot, read only",
        ))  # fmt: skip
        yield _Reader(server)
    finally:
        server.close()


class _Acknowledger:
    def __init__(self, server: _Server, statement: str) -> None:
        self._server = server
        self._statement = statement

    async def acknowledge(self, keys: Sequence[Any]) -> None:
        def act() -> None:
            connection = self._server.connection
            assert connection is not None
            connection.begin()
            with connection.cursor() as cursor:
                for key in keys:
                    cursor.execute(self._statement, {"key": key})
            connection.commit()

        await self._server.run(act)


@asynccontextmanager
async def acknowledging(
    url: SourceUrl, statement: str, *, seconds: int
) -> AsyncIterator[_Acknowledger]:
    """A session that runs the acknowledging statement."""
    server = _Server(seconds)
    try:
        await server.connect(url)
        await server.limit()
        yield _Acknowledger(server, with_keys(statement, "mysql", lambda: "%(key)s"))
    finally:
        server.close()
