"""Sources in SQLite files, by the standard library on a thread of its own."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager, suppress
from datetime import UTC, datetime
from typing import Any, Final
from urllib.parse import quote

from mcsync.features.sources import errors
from mcsync.features.sources.drivers.base import GRACE_SECONDS, OneThread, Rows
from mcsync.features.sources.drivers.url import SourceUrl
from mcsync.features.sources.statements import with_keys
from mcsync.features.sources.values import UNREADABLE, Clock, Unreadable, utc_clock

_BUSY_SECONDS: Final = 10
_STEPS: Final = 10_000
"""Of SQLite's virtual machine, between two looks at the clock: some tenths of a millisecond."""
_READS: Final = frozenset({
    sqlite3.SQLITE_SELECT, sqlite3.SQLITE_READ, sqlite3.SQLITE_FUNCTION, sqlite3.SQLITE_RECURSIVE,
})  # fmt: skip
_NAMES: Final = {
    "SQLITE_BUSY": errors.busy,
    "SQLITE_LOCKED": errors.busy,
    "SQLITE_READONLY": errors.wrote,
    "SQLITE_AUTH": errors.wrote,
    "SQLITE_CANTOPEN": errors.unreachable,
    "SQLITE_NOTADB": errors.damaged_file,
    "SQLITE_CORRUPT": errors.damaged_file,
}


@contextmanager
def _explained(seconds: int, *, preparing: bool = False) -> Iterator[None]:
    try:
        yield
    except sqlite3.Error as error:
        name = getattr(error, "sqlite_errorname", "") or ""
        known = next((make for start, make in _NAMES.items() if name.startswith(start)), None)
        if known is not None:
            raise known() from None
        if name == "SQLITE_INTERRUPT":
            raise errors.too_slow(seconds) from None
        # Before the first row a message is about the statement; later it may be about a row.
        sentence = str(error) if preparing and name == "SQLITE_ERROR" else None
        raise errors.refused_query(f"{name or 'an error'}.", sentence=sentence) from None
    except TimeoutError:
        raise errors.too_slow(seconds) from None


def _text(raw: bytes) -> str | Unreadable:
    """Text of a file may be in any encoding, whatever the file says: its row's problem, not the query's."""
    try:
        return raw.decode()
    except UnicodeDecodeError:
        return UNREADABLE


def _only_reads(action: int, *_: Any) -> int:
    return sqlite3.SQLITE_OK if action in _READS else sqlite3.SQLITE_DENY


class _File:
    """One open file: calls on its thread, each with a limit that the file's own engine keeps."""

    def __init__(self, seconds: int) -> None:
        self._seconds = seconds
        self._thread = OneThread("sqlite")
        self._deadline = 0.0
        self.connection: sqlite3.Connection | None = None

    async def open(self, path: str, mode: str) -> sqlite3.Connection:
        def act() -> sqlite3.Connection:
            connection = sqlite3.connect(
                f"file:{quote(path)}?mode={mode}", uri=True, timeout=_BUSY_SECONDS,
                isolation_level=None, check_same_thread=False,
            )  # fmt: skip
            connection.set_progress_handler(lambda: time.monotonic() > self._deadline, _STEPS)
            return connection

        self.connection = await self.run(act)
        return self.connection

    async def run(self, act: Any, *, preparing: bool = False) -> Any:
        self._deadline = time.monotonic() + self._seconds
        with _explained(self._seconds, preparing=preparing):
            return await self._thread(act, seconds=self._seconds + GRACE_SECONDS)

    async def close(self) -> None:
        connection = self.connection
        if connection is not None:
            connection.interrupt()
            with suppress(sqlite3.Error, TimeoutError):
                await self._thread(connection.close, seconds=GRACE_SECONDS)
        self._thread.end()


class _Reader:
    def __init__(self, file: _File) -> None:
        self._file = file
        self._cursor: sqlite3.Cursor | None = None

    async def clock(self) -> Clock:
        return utc_clock(datetime.now(UTC))

    async def open(self, sql: str, *parameters: Any) -> tuple[str, ...]:
        connection = self._file.connection
        assert connection is not None
        self._cursor = await self._file.run(
            lambda: connection.execute(sql, parameters), preparing=True
        )
        return tuple(column[0] for column in self._cursor.description or ())

    async def fetch(self, most: int) -> Rows:
        cursor = self._cursor
        assert cursor is not None
        rows: Rows = await self._file.run(lambda: cursor.fetchmany(most))
        return rows


@asynccontextmanager
async def reading(url: SourceUrl, *, seconds: int) -> AsyncIterator[_Reader]:
    """The file opened for reading alone, and an engine that is told to refuse all else."""
    file = _File(seconds)
    try:
        connection = await file.open(url.database, "ro")
        connection.text_factory = _text
        # so that the first look at the file happens here, and is explained
        await file.run(lambda: connection.execute("pragma schema_version").fetchone())
        await file.run(lambda: connection.set_authorizer(_only_reads))
        yield _Reader(file)
    finally:
        await file.close()


class _Acknowledger:
    def __init__(self, file: _File, statement: str) -> None:
        self._file = file
        self._statement = statement

    async def acknowledge(self, keys: Sequence[Any]) -> None:
        connection = self._file.connection
        assert connection is not None

        def act() -> None:
            connection.execute("begin immediate")
            try:
                connection.executemany(self._statement, ({"key": key} for key in keys))
            except BaseException:
                connection.execute("rollback")
                raise
            connection.execute("commit")

        await self._file.run(act, preparing=True)


@asynccontextmanager
async def acknowledging(
    url: SourceUrl, statement: str, *, seconds: int
) -> AsyncIterator[_Acknowledger]:
    """The file opened for the acknowledging statement; it is not made where it is missing."""
    file = _File(seconds)
    try:
        await file.open(url.database, "rw")
        yield _Acknowledger(file, with_keys(statement, "sqlite", lambda: ":key"))
    finally:
        await file.close()
