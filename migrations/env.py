"""Alembic's environment: one connection, one transaction for each migration, one migrator at a time."""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import AsyncIterator

from alembic import context
from sqlalchemy import Connection, text
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from mcsync.core.db import blockers
from mcsync.core.db.migrations import MigrationPooledError, revisions
from mcsync.core.db.pooler import find_pooler
from mcsync.core.db.session import make_engine
from mcsync.models import Base

# Two migrators at once would both create the same tables; the second waits and then has nothing to do.
MIGRATION_LOCK = 4_279_133_311


def _url() -> str:
    url = context.config.attributes.get("url")
    if not url:
        url = os.environ.get("MCSYNC_MIGRATION_DATABASE_URL") or os.environ.get(
            "MCSYNC_DATABASE_URL"
        )
    if not url:
        message = "Set MCSYNC_MIGRATION_DATABASE_URL (or MCSYNC_DATABASE_URL) to migrate."
        raise SystemExit(message)
    return str(url)


def _run(connection: Connection) -> None:
    context.configure(
        connection=connection,
        target_metadata=Base.metadata,
        compare_type=True,
        compare_server_default=False,
        transaction_per_migration=True,
    )
    at = context.get_context().get_current_revision()
    if context.config.attributes.get("leave_newer") and at is not None and at not in revisions():
        context.config.attributes["newer"] = at
        return
    with context.begin_transaction():
        context.run_migrations()


async def _online() -> None:
    engine = make_engine(_url(), pool_size=None, application_name="mcsync_migrate")
    pooler = await find_pooler(engine)
    if pooler is not None and pooler.shares:
        raise MigrationPooledError
    async with engine.connect() as connection, _watched(engine, connection):
        await connection.execute(text("select pg_advisory_lock(:key)"), {"key": MIGRATION_LOCK})
        # Whoever waits for a lock on a table keeps everybody else from the table meanwhile.
        await connection.execute(text("set lock_timeout = '5s'"))
        await connection.commit()
        await connection.run_sync(_run)
        await connection.commit()
    await engine.dispose()


@contextlib.asynccontextmanager
async def _watched(engine: AsyncEngine, connection: AsyncConnection) -> AsyncIterator[None]:
    """Tells ``on_blocked``, if there is one, who keeps the connection waiting."""
    tell = context.config.attributes.get("on_blocked")
    if tell is None:
        yield
        return
    pid = await connection.scalar(text("select pg_backend_pid()"))
    await connection.commit()
    task = asyncio.create_task(
        blockers.watch(engine, int(pid or 0), tell, advisory=MIGRATION_LOCK & 0xFFFFFFFF)
    )
    try:
        yield
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


asyncio.run(_online())
