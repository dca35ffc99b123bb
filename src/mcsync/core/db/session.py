"""Transactions: explicit blocks, bound to one organisation, committed in one place."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any
from uuid import UUID

from sqlalchemy import text
from sqlalchemy.ext.asyncio import (
    AsyncEngine,
    AsyncSession,
    async_sessionmaker,
    create_async_engine,
)
from sqlalchemy.pool import NullPool

from mcsync.core.db.driver import Connector, OrgConnection, ping_only_idle
from mcsync.core.db.gates import LockGates, Room, remember_gate
from mcsync.core.db.hold import CommitHold, current_hold, run_after_commit, run_before_commit
from mcsync.core.postgres_url import read_postgres_url

_BIND = text("select set_config('app.org_id', :org, true)")


def make_engine(
    url: str,
    *,
    pool_size: int | None = 10,
    overflow: int | None = None,
    application_name: str = "mcsync",
) -> AsyncEngine:
    """An engine on asyncpg for any PostgreSQL URL. Raises ``PostgresUrlError`` for one that cannot be used.

    ``pool_size``: ``None`` keeps no connection. ``overflow``: connections beyond ``pool_size`` under load,
    by default as many again. Parameters are hidden from error texts, since they carry personal data.
    """
    pool: dict[str, Any] = {"poolclass": NullPool}
    if pool_size is not None:
        pool = {
            "pool_size": pool_size,
            "max_overflow": pool_size if overflow is None else overflow,
        }
    connector = Connector(read_postgres_url(url), application_name)
    engine = create_async_engine(
        "postgresql+asyncpg://",
        hide_parameters=True,
        connect_args={"async_creator_fn": connector},
        **pool,
    )
    ping_only_idle(engine)
    return engine


class Database:
    """Opens transactions. The only place where ``commit`` is written.

    ``most``: transactions at a time, for processes whose work can wait; the others have their turn however long
    it takes. The pool's remaining connections are for ``vital`` ones, which keep leases and heartbeats alive.
    """

    def __init__(self, engine: AsyncEngine, *, most: int | None = None) -> None:
        self.engine = engine
        self._room = Room(most) if most is not None else None
        self._gates = LockGates()
        self._sessions = async_sessionmaker(engine, expire_on_commit=False, autoflush=False)

    @asynccontextmanager
    async def transaction(
        self, org_id: UUID, *, behind: str | None = None, waiters: int = 2, vital: bool = False
    ) -> AsyncIterator[AsyncSession]:
        """One transaction that sees one organisation (``app.org_id``, transaction-local).

        Callbacks added by :func:`before_commit` run last inside it, those added by
        :func:`after_commit` once it is committed. Raising rolls back.

        ``behind``: the name of a lock that the transaction will wait for. At most ``waiters`` of this process
        wait for it with a connection in hand, until they call ``lock_obtained``; the others wait without one.
        ``vital``: it keeps a lease or a heartbeat alive, so it never waits for room.
        """
        async with AsyncExitStack() as entered:
            leave = None
            if behind is not None:
                leave = await entered.enter_async_context(self._gates.before(behind, waiters))
            hold = current_hold.get()
            if hold is not None and hold.org_id == org_id and not hold.closed:
                session = await entered.enter_async_context(self._held(hold))
            else:
                if self._room is not None and not vital:
                    await entered.enter_async_context(self._room.taken())
                session = await entered.enter_async_context(self._plain(org_id))
            if leave is not None:
                remember_gate(session, leave)
            yield session

    @asynccontextmanager
    async def _plain(self, org_id: UUID) -> AsyncIterator[AsyncSession]:
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
    async def system(self, *, vital: bool = False) -> AsyncIterator[AsyncSession]:
        """A transaction bound to no organisation: sees no tenant's rows, may call the look-ups.

        ``vital``: see :meth:`transaction`.
        """
        async with AsyncExitStack() as entered:
            if self._room is not None and not vital:
                await entered.enter_async_context(self._room.taken())
            session = await entered.enter_async_context(self._sessions())
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
