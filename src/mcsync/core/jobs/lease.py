"""Working under a lease: kept alive while the work goes on, handed over when this process must stop (T A3)."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from contextlib import asynccontextmanager
from typing import Any

import structlog

from mcsync.core.db import is_passing

_log = structlog.get_logger(__name__)


class FencedError(Exception):
    """Another worker has taken this over: stop at once, write nothing."""


async def _keep_alive(
    renew: Callable[[], Awaitable[object]], *, lease_seconds: int, **named: object
) -> None:
    """Renews a lease three times in its length, until cancelled; ``named`` says in the log whose it is.

    Raises what ``renew`` raises (:class:`FencedError` where the lease is another's by now); a database
    that is away, or has no connection free, only costs a turn.
    """
    while True:
        await asyncio.sleep(lease_seconds / 3)
        try:
            await renew()
        except Exception as error:
            if not is_passing(error):
                raise
            _log.warning("lease_not_renewed", error=type(error).__name__, **named)


@asynccontextmanager
async def kept_alive(
    renew: Callable[[], Awaitable[object]], *, lease_seconds: int, **named: object
) -> AsyncIterator[None]:
    """Keeps a lease alive during the block, which goes on to its end even where the lease is lost."""
    pulse = asyncio.create_task(_keep_alive(renew, lease_seconds=lease_seconds, **named))
    try:
        yield
    finally:
        pulse.cancel()
        await asyncio.gather(pulse, return_exceptions=True)


async def under_lease(
    work: Coroutine[Any, Any, None],
    *,
    renew: Callable[[], Awaitable[object]],
    hand_over: Callable[[], Coroutine[Any, Any, None]],
    lease_seconds: int,
    stopping: asyncio.Event | None = None,
    **named: object,
) -> None:
    """Does the work while its lease is kept alive.

    A lost lease ends the work at once, and nothing is handed over: it is another's. Cancelled from outside
    (a deploy), the work is ended and handed over before the cancellation goes on. ``stopping``: for work
    that does not look itself whether it should stop; once set, it is ended and handed over.
    """
    working = asyncio.create_task(work)
    pulse = asyncio.create_task(_keep_alive(renew, lease_seconds=lease_seconds, **named))
    told = asyncio.create_task((stopping or asyncio.Event()).wait())
    try:
        await asyncio.wait({working, pulse, told}, return_when=asyncio.FIRST_COMPLETED)
        if working.done():
            working.result()
        elif pulse.done():
            working.cancel()
            if not isinstance(pulse.exception(), FencedError):
                pulse.result()
        else:
            await _end(working)
            await hand_over()
    except asyncio.CancelledError:
        await _end(working)
        if not pulse.done():
            await asyncio.shield(hand_over())
        raise
    finally:
        for task in (pulse, told, working):
            task.cancel()
        await asyncio.gather(pulse, told, working, return_exceptions=True)


async def _end(working: asyncio.Task[None]) -> None:
    working.cancel()
    await asyncio.gather(working, return_exceptions=True)
