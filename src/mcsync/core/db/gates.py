"""Who may take a connection of the pool: bounds for those who would hold one while they wait for others.

A transaction that waits for a lock holds its connection meanwhile. Without a bound, the waiters of one audience
take the whole pool, and with it every other audience's work and the heartbeats that keep leases.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from contextvars import ContextVar
from dataclasses import dataclass

from sqlalchemy.ext.asyncio import AsyncSession

_GATE = "lock_gate"


@dataclass(slots=True)
class _Gate:
    room: asyncio.Semaphore
    users: int = 0


class LockGates:
    """Of those who want one lock, a few wait for it in PostgreSQL; the others wait here, without a connection."""

    def __init__(self) -> None:
        self._gates: dict[str, _Gate] = {}

    @asynccontextmanager
    async def before(self, name: str, waiters: int) -> AsyncIterator[Callable[[], None]]:
        """Waits until fewer than ``waiters`` are waiting; yields what to call once the lock is held."""
        gate = self._gates.get(name)
        if gate is None:
            gate = self._gates[name] = _Gate(asyncio.Semaphore(waiters))
        gate.users += 1
        held = False

        def leave() -> None:
            nonlocal held
            if held:
                held = False
                gate.room.release()

        try:
            await gate.room.acquire()
            held = True
            yield leave
        finally:
            leave()
            gate.users -= 1
            if not gate.users:
                del self._gates[name]


def remember_gate(session: AsyncSession, leave: Callable[[], None]) -> None:
    """Notes for :func:`lock_obtained` which gate the session's transaction came through."""
    session.info[_GATE] = leave


def lock_obtained(session: AsyncSession) -> None:
    """The transaction holds the lock that it was opened for: the next one may wait for it.

    Does nothing where the transaction was opened for no lock. See ``behind`` in ``Database.transaction``.
    """
    leave = session.info.pop(_GATE, None)
    if leave is not None:
        leave()


_inside: ContextVar[bool] = ContextVar("mcsync_inside_transaction", default=False)


class Room:
    """How many transactions may be open at a time; the others wait, however long, in turn.

    Whoever is inside one already may open another: two that wait for each other's room would wait for ever.
    """

    def __init__(self, most: int) -> None:
        self._room = asyncio.Semaphore(max(1, most))

    @asynccontextmanager
    async def taken(self) -> AsyncIterator[None]:
        """Waits for room, and keeps it during the block."""
        if _inside.get():
            yield
            return
        async with self._room:
            token = _inside.set(True)
            try:
                yield
            finally:
                _inside.reset(token)
