"""Fresh statistics where much has been written (``docs/decisions/0017-plans-without-statistics.md``)."""

from __future__ import annotations

from typing import Final
from weakref import WeakKeyDictionary

import structlog
from sqlalchemy import text
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession

from mcsync.core.db.hold import after_commit

MUCH: Final = 2_000
"""So many rows written at once are worth a look at which tables have grown."""

_LONGEST: Final = "20s"
_log = structlog.get_logger()
_written: WeakKeyDictionary[AsyncEngine, int] = WeakKeyDictionary()
"""Rows that :func:`wrote` was told of since it last had a look."""


def analyse_grown_later(session: AsyncSession) -> None:
    """Asks for :func:`analyse_grown` once this transaction, which writes much, is committed."""
    _after(session, only_underrated=False)


def wrote(session: AsyncSession, rows: int) -> None:
    """Counts rows of a long work that writes some at a time: a push, a pull, small imports.

    After each :data:`MUCH` of them the tables are analysed that the planner takes for nearly empty, and that
    are not: by and by each of the work's statements would read all that the work has written before.
    """
    engine = _engine_of(session)
    written = _written.get(engine, 0) + rows
    _written[engine] = written % MUCH
    if written >= MUCH:
        _after(session, only_underrated=True)


def _after(session: AsyncSession, *, only_underrated: bool) -> None:
    engine = _engine_of(session)

    async def analyse() -> None:
        await analyse_grown(engine, only_underrated=only_underrated)

    after_commit(session, analyse)


def _engine_of(session: AsyncSession) -> AsyncEngine:
    engine = session.bind
    assert isinstance(engine, AsyncEngine)
    return engine


async def analyse_grown(engine: AsyncEngine, *, only_underrated: bool = False) -> int:
    """Analyses the tables that have grown by a tenth since they last were; answers how many.

    ``only_underrated``: only those of more than 50 pages in which the planner expects less than 1,000 rows.
    One runs at a time; where another does, or where it fails or takes longer than 20 seconds, nothing is
    analysed, and nothing is raised: no result depends on it.
    """
    try:
        async with engine.begin() as connection:
            await connection.execute(text(f"set local statement_timeout = '{_LONGEST}'"))
            return int(
                await connection.scalar(
                    text("select mcsync_analyse_grown(:only)"), {"only": only_underrated}
                )
                or 0
            )
    except (SQLAlchemyError, OSError) as error:
        _log.warning("statistics_not_refreshed", error=type(error).__name__)
        return 0
