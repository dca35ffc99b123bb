"""Transactions: explicit blocks, bound to one organisation, committed in one place."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from uuid import UUID

from sqlalchemy import text
from sqlalchemy.ext.asyncio import (
    AsyncEngine,
    AsyncSession,
    async_sessionmaker,
    create_async_engine,
)

BeforeCommit = Callable[[AsyncSession], Awaitable[None]]
AfterCommit = Callable[[], Awaitable[None]]

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
    return create_async_engine(
        asyncpg_url(url),
        pool_size=pool_size,
        max_overflow=pool_size,
        pool_pre_ping=True,
        hide_parameters=True,
        connect_args={"server_settings": {"jit": "off", "application_name": application_name}},
    )


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
        async with self._sessions() as session:
            session.info["org_id"] = org_id
            await session.execute(_BIND, {"org": str(org_id)})
            yield session
            for callback in session.info.get("before_commit", ()):
                await callback(session)
            await session.commit()
        for done in session.info.get("after_commit", ()):
            await done()

    @asynccontextmanager
    async def system(self) -> AsyncIterator[AsyncSession]:
        """A transaction bound to no organisation: sees no tenant's rows, may call the look-ups."""
        async with self._sessions() as session:
            yield session
            await session.commit()

    async def close(self) -> None:
        """Closes every pooled connection."""
        await self.engine.dispose()


def org_of(session: AsyncSession) -> UUID:
    """The organisation that this session's transaction is bound to."""
    org_id = session.info["org_id"]
    assert isinstance(org_id, UUID)
    return org_id


def before_commit(session: AsyncSession, callback: BeforeCommit) -> None:
    """Runs ``callback(session)`` as one of the last steps before commit; once per callback."""
    callbacks: list[BeforeCommit] = session.info.setdefault("before_commit", [])
    if callback not in callbacks:
        callbacks.append(callback)


def after_commit(session: AsyncSession, callback: AfterCommit) -> None:
    """Runs ``callback()`` after the commit, e.g. to ring Redis. Losing it must be harmless."""
    session.info.setdefault("after_commit", []).append(callback)
