"""Fresh statistics where much has been written (``docs/decisions/0017-plans-without-statistics.md``)."""

from __future__ import annotations

from typing import Final

import structlog
from sqlalchemy import text
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession

from mcsync.core.db.hold import after_commit

MUCH: Final = 2_000
"""So many rows written at once are worth a look at which tables have grown."""

_LONGEST: Final = "20s"
_log = structlog.get_logger()


def analyse_grown_later(session: AsyncSession) -> None:
    """Asks for :func:`analyse_grown` once this transaction, which writes much, is committed."""
    engine = session.bind
    assert isinstance(engine, AsyncEngine)

    async def analyse() -> None:
        await analyse_grown(engine)

    after_commit(session, analyse)


async def analyse_grown(engine: AsyncEngine) -> int:
    """Analyses the tables that have grown by a tenth since they last were; answers how many.

    One runs at a time; where another does, or where it fails or takes longer than 20 seconds, nothing is
    analysed, and nothing is raised: no result depends on it.
    """
    try:
        async with engine.begin() as connection:
            await connection.execute(text(f"set local statement_timeout = '{_LONGEST}'"))
            return int(await connection.scalar(text("select mcsync_analyse_grown()")) or 0)
    except (SQLAlchemyError, OSError) as error:
        _log.warning("statistics_not_refreshed", error=type(error).__name__)
        return 0
