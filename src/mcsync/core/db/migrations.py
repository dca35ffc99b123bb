"""Where the migrations are, and bringing a database to their head."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from pathlib import Path
from typing import Final, Literal

from alembic import command
from alembic.config import Config
from alembic.script import ScriptDirectory
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncSession

from mcsync.core.db.session import make_engine

_NO_LOCK: Final = ("55P03", "40P01")
"""SQLSTATEs: no lock within ``lock_timeout``; a deadlock with the service."""
_PAUSE_SECONDS: Final = 3.0
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


@lru_cache(maxsize=1)
def revisions() -> frozenset[str]:
    """Every revision that this version knows."""
    found = ScriptDirectory.from_config(config()).walk_revisions()
    return frozenset(one.revision for one in found)


def compared(revision: str | None) -> Literal["ok", "behind", "ahead"]:
    """How a database's revision stands to the one that this version needs; ``None``: it has none."""
    if revision == head():
        return "ok"
    return "behind" if revision is None or revision in revisions() else "ahead"


class MigrationBlockedError(Exception):
    """A migration got no lock. Those that were done before it stay done; repeat the command."""

    def __init__(self, blocker: str | None) -> None:
        who = blocker or "somebody"
        super().__init__(
            f"The migration cannot go on: {who} holds a lock on a table that it needs. What was done"
            " so far stays. Wait until that transaction is over or end it"
            " (select pg_terminate_backend(PROCESS) in psql), and run `mcsync migrate` again."
        )


class MigrationPooledError(Exception):
    """A pooler is in the way. Nothing was done."""

    def __init__(self) -> None:
        super().__init__(
            "A migration needs one session of PostgreSQL from its begin to its end, and a pooler gives each"
            " transaction another one. Let MCSYNC_MIGRATION_DATABASE_URL name PostgreSQL itself."
        )


def upgrade(
    url: str, *, patience_seconds: float = 0, on_blocked: Callable[[str], None] | None = None
) -> str:
    """Brings the database to :func:`head`. Safe to call twice, and from several processes at once.

    Answers the revision it is at then. A database that a newer version migrated is left as it is, since
    this version works with it: a roll-back of the code must not fail at its first step.

    A migration waits for a lock for 5 s and then lets the service pass; it is tried again until
    ``patience_seconds`` have passed. ``on_blocked`` is called with who holds the lock. Raises
    :class:`MigrationBlockedError` and :class:`MigrationPooledError`.
    """
    seen: list[str] = []

    def told(blocker: str) -> None:
        seen[:] = [blocker]
        if on_blocked is not None:
            on_blocked(blocker)

    made = config(url)
    made.attributes |= {"on_blocked": told, "leave_newer": True}
    deadline = time.monotonic() + patience_seconds
    while True:
        try:
            _apart_from_the_loop(lambda: command.upgrade(made, "head"))
        except DBAPIError as error:
            if getattr(error.orig, "sqlstate", None) not in _NO_LOCK:
                raise
            if time.monotonic() >= deadline:
                raise MigrationBlockedError(seen[0] if seen else None) from error
            time.sleep(_PAUSE_SECONDS)
        else:
            return str(made.attributes.get("newer") or head())


def downgrade(url: str) -> None:
    """Takes every migration back: all data is lost."""
    _apart_from_the_loop(lambda: command.downgrade(config(url), "base"))


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


SERVICE_GROUP = "mcsync_app"


class UnknownRoleError(ValueError):
    """There is no such role, and no password to make it with."""


def admit(url: str, role: str, password: str | None) -> None:
    """Lets a login role work as the service: makes it if need be, and puts it into the group.

    Raises :class:`UnknownRoleError` when it does not exist and there is no password to make it with.
    """

    async def work() -> None:
        engine = make_engine(url, pool_size=None, application_name="mcsync_migrate")
        try:
            async with engine.begin() as connection:
                await _admit(connection, role, password)
        finally:
            await engine.dispose()

    _apart_from_the_loop(lambda: asyncio.run(work()))


async def _admit(connection: AsyncConnection, role: str, password: str | None) -> None:
    known = await connection.scalar(
        text("select true from pg_roles where rolname = :role"), {"role": role}
    )
    if not known:
        if not password:
            message = (
                f"The role {role} does not exist: give its password in MCSYNC_SERVICE_PASSWORD."
            )
            raise UnknownRoleError(message)
        # Utility statements take no parameters, so the server quotes them.
        create = await connection.scalar(
            text(
                "select format('create role %I login nosuperuser nobypassrls password %L',"
                " cast(:role as text), cast(:password as text))"
            ),
            {"role": role, "password": password},
        )
        await connection.exec_driver_sql(str(create))
    grant = await connection.scalar(
        text("select format('grant %I to %I', cast(:group as text), cast(:role as text))"),
        {"group": SERVICE_GROUP, "role": role},
    )
    await connection.exec_driver_sql(str(grant))
