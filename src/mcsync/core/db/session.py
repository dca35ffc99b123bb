"""Transactions: explicit blocks, bound to one organisation, committed in one place."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from uuid import UUID

from sqlalchemy import text
from sqlalchemy.ext.asyncio import (
    AsyncEngine,
    AsyncSession,
    async_sessionmaker,
    create_async_engine,
)

from mcsync.core.db.driver import OrgConnection, ping_only_idle
from mcsync.core.db.hold import CommitHold, current_hold, run_after_commit, run_before_commit

_BIND = text("select set_config('app.org_id', :org, true)")


def asyncpg_url(url: str) -> str:
    """The URL with asyncpg as its driver; takes ``postgres://``, ``postgresql://`` or its own form."""
    for prefix in ("postgresql+asyncpg://", "postgresql://", "postgres://"):
        if url.startswith(prefix):
            return "postgresql+asyncpg://" + url.removeprefix(prefix)
    return url


def make_engine(url: str, *, pool_size: int = 10, application_name: str = "mcsync") -> AsyncEngine:
    """An engine on asyncpg for any PostgreSQL URL.

    JIT is off: it costs hundreds of milliseconds on short statements over large tables.
    Parameters are hidden from error texts, since they carry personal data.
    """
    engine = create_async_engine(
        asyncpg_url(url),
        pool_size=pool_size,
        max_overflow=pool_size,
        hide_parameters=True,
        connect_args={
            "connection_class": OrgConnection,
            "server_settings": {"jit": "off", "application_name": application_name},
        },
    )
    ping_only_idle(engine)
    return engine


class Database:
    """Opens transactions. The only place where ``commit`` is written."""

    def __init__(self, engine: AsyncEngine) -> None:
        self.engine = engine
        self._sessions = async_sessionmaker(engine, expire_on_commit=False, autoflush=False)

    @asynccontextmanager
    async def transaction(self, org_id: UUID) -> AsyncIterator[AsyncSession]:
        """One transaction that sees one organisation (``app.org_id``, transaction-local).

        Callbacks added by :func:`before_commit` run last inside it, those added by
        :func:`after_commit` once it is committed. Raising rolls back.
        """
        hold = current_hold.get()
        if hold is not None and hold.org_id == org_id and not hold.closed:
            async with self._held(hold) as session:
                yield session
            return
        async with self._sessions() as session:
            await _bind(session, org_id)
            yield session
            await run_before_commit(session)
            await session.commit()
        await run_after_commit(session)

    @asynccontextmanager
    async def _held(self, hold: CommitHold) -> AsyncIterator[AsyncSession]:
        """Like :meth:`transaction`, but leaves the commit to the hold."""
        await hold.settle()
        session = self._sessions()
        try:
            await _bind(session, hold.org_id)
            yield session
            # What would fail at commit fails here, where the service expects it.
            await session.flush()
        except BaseException:
            await session.close()
            raise
        await hold.take(session)

    @asynccontextmanager
    async def system(self) -> AsyncIterator[AsyncSession]:
        """A transaction bound to no organisation: sees no tenant's rows, may call the look-ups."""
        async with self._sessions() as session:
            yield session
            await session.commit()

    async def close(self) -> None:
        """Closes every pooled connection."""
        await self.engine.dispose()


BY_KEY = """set_config('enable_seqscan', 'off', true),
    set_config('random_page_cost', '1.1', true), set_config('plan_cache_mode', 'force_custom_plan', true)"""
"""In a ``select``: for the rest of the transaction, statements about some hundred rows find them by index.

Left to itself the planner reads a table that is still small from end to end for each of the rows. The
table may have grown to a million by the time that the plan, or even the one execution, is through.
"""


async def look_up_by_key(session: AsyncSession) -> None:
    """Asks for :data:`BY_KEY` in this transaction."""
    await session.execute(text("select " + BY_KEY))


def org_of(session: AsyncSession) -> UUID:
    """The organisation that this session's transaction is bound to."""
    org_id = session.info["org_id"]
    assert isinstance(org_id, UUID)
    return org_id


async def _bind(session: AsyncSession, org_id: UUID) -> None:
    """Binds the session's transaction, which begins with its first statement."""
    session.info["org_id"] = org_id
    connection = (await session.connection()).sync_connection
    driver = connection.connection.driver_connection if connection is not None else None
    if isinstance(driver, OrgConnection):
        driver.next_org = org_id
    else:
        await session.execute(_BIND, {"org": str(org_id)})
