"""What happens around a commit: callbacks before and after it, and holding it back for a while.

A mutation with an ``Idempotency-Key`` must store its answer in the transaction of its effect, but the
answer is known only when the service has returned. So its transactions leave their commit to a
:class:`CommitHold`: the next transaction, a call to Mailchimp or a short time commits what is held; the
last one commits together with the stored answer. Services know nothing of it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextvars import ContextVar
from typing import Final
from uuid import UUID

from sqlalchemy.ext.asyncio import AsyncSession

BeforeCommit = Callable[[AsyncSession], Awaitable[None]]
AfterCommit = Callable[[], Awaitable[None]]

_LONGEST_SECONDS: Final = 0.25
"""No transaction stays open longer for the sake of an answer."""


def before_commit(session: AsyncSession, callback: BeforeCommit, *, last: bool = False) -> None:
    """Runs ``callback(session)`` as one of the last steps before commit; once per callback.

    ``last`` ones run after all others: what they lock makes others wait for the shortest time.
    """
    name = "before_commit_last" if last else "before_commit"
    callbacks: list[BeforeCommit] = session.info.setdefault(name, [])
    if callback not in callbacks:
        callbacks.append(callback)


def after_commit(session: AsyncSession, callback: AfterCommit) -> None:
    """Runs ``callback()`` after the commit, e.g. to ring Redis. Losing it must be harmless."""
    session.info.setdefault("after_commit", []).append(callback)


async def run_before_commit(session: AsyncSession) -> None:
    """Runs the callbacks of :func:`before_commit`."""
    for name in ("before_commit", "before_commit_last"):
        # They may add more while they run, so the list is walked as it grows.
        for callback in session.info.get(name, ()):
            await callback(session)


async def run_after_commit(session: AsyncSession) -> None:
    """Runs the callbacks of :func:`after_commit`."""
    for done in session.info.get("after_commit", ()):
        await done()


class CommitHold:
    """Keeps at most one finished transaction of an organisation open until it is settled.

    ``fence`` runs in every transaction that is settled before the last; it raises where this process
    has lost the right to go on, which rolls the transaction back.
    """

    def __init__(self, org_id: UUID, fence: BeforeCommit) -> None:
        self.org_id = org_id
        self.closed = False
        self._fence = fence
        self._held: AsyncSession | None = None
        self._lock = asyncio.Lock()
        self._timer: asyncio.Task[None] | None = None
        self._failure: Exception | None = None

    async def take(self, session: AsyncSession) -> None:
        """Keeps a transaction that is done but for its commit."""
        async with self._lock:
            if self._held is None and not self.closed:
                self._held = session
                self._timer = asyncio.create_task(self._settle_later())
                return
        # Two transactions side by side: one is held, the other commits now.
        await self._commit(session, self._fence)
        await run_after_commit(session)

    async def settle(self) -> None:
        """Commits what is held, if anything. Raises what the commit raises."""
        async with self._lock:
            session = self._release()
            if session is not None:
                await self._commit(session, self._fence)
        if session is not None:
            await run_after_commit(session)

    async def finish(self, last: BeforeCommit) -> bool:
        """Commits what is held together with ``last``; False when nothing is held any more.

        Raises what a commit in the background raised.
        """
        async with self._lock:
            self.closed = True
            session = self._release()
            if self._failure is not None:
                raise self._failure
            if session is None:
                return False
            await self._commit(session, last)
        await run_after_commit(session)
        return True

    async def abandon(self) -> None:
        """Rolls back what is held."""
        self.closed = True
        session = self._release()
        if session is not None:
            await session.close()

    def _release(self) -> AsyncSession | None:
        session, self._held = self._held, None
        timer, self._timer = self._timer, None
        if timer is not None and timer is not asyncio.current_task():
            timer.cancel()
        return session

    async def _settle_later(self) -> None:
        await asyncio.sleep(_LONGEST_SECONDS)
        try:
            await self.settle()
        except Exception as error:  # noqa: BLE001 - it is raised where somebody waits for it
            self._failure = error

    @staticmethod
    async def _commit(session: AsyncSession, last: BeforeCommit) -> None:
        async with session:
            await run_before_commit(session)
            await last(session)
            await session.commit()


current_hold: ContextVar[CommitHold | None] = ContextVar("mcsync_commit_hold", default=None)
"""The hold of the request under way, if it has one."""


async def settle_before_network(_: object) -> None:
    """An ``httpx`` hook: no call leaves while a transaction is open for the sake of an answer."""
    hold = current_hold.get()
    if hold is not None and not hold.closed:
        await hold.settle()
