"""Where the migrations are, and bringing a database to their head."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.script import ScriptDirectory
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncSession

PACKAGE = Path(__file__).resolve().parents[2]


def alembic_ini() -> Path:
    """``alembic.ini``: shipped inside an installed package, at the top of a checkout.

    Raises ``FileNotFoundError`` when the installation has neither.
    """
    for folder in (PACKAGE, PACKAGE.parents[1]):
        if (folder / "alembic.ini").exists() and (folder / "migrations" / "env.py").exists():
            return folder / "alembic.ini"
    message = f"The migrations are missing from this installation ({PACKAGE}): install it again."
    raise FileNotFoundError(message)


def config(url: str | None = None) -> Config:
    """Alembic's configuration for a database; ``None`` leaves the URL to the environment."""
    made = Config(alembic_ini())
    made.attributes["url"] = url
    return made


@lru_cache(maxsize=1)
def head() -> str:
    """The revision that this version of mcsync needs."""
    found = ScriptDirectory.from_config(config()).get_current_head()
    assert found is not None
    return found


def upgrade(url: str) -> None:
    """Brings the database to :func:`head`. Safe to call twice, and from several processes at once."""
    _apart_from_the_loop(lambda: command.upgrade(config(url), "head"))


def check(url: str) -> None:
    """Raises ``alembic.util.CommandError`` when the models and the migrated database differ."""
    _apart_from_the_loop(lambda: command.check(config(url)))


def _apart_from_the_loop(work: Callable[[], None]) -> None:
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        work()
        return
    # Alembic's environment runs an event loop of its own, and a thread can have only one.
    with ThreadPoolExecutor(1) as pool:
        pool.submit(work).result()


async def current(session: AsyncSession) -> str | None:
    """The revision of the database, or ``None`` when it was never migrated."""
    try:
        async with session.begin_nested():
            row = await session.scalar(text("select version_num from alembic_version"))
    except DBAPIError:
        return None
    return str(row) if row is not None else None
