"""What every driver offers to a pull."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final, Protocol, TypeVar

from mcsync.features.sources.values import Clock

Rows = Sequence[Sequence[Any]]
T = TypeVar("T")

CONNECT_SECONDS: Final = 10
GRACE_SECONDS: Final = 15
"""How much longer than the server's own limit we wait for it to say that it was reached."""


class Reader(Protocol):
    """One read-only session, with one statement at a time. Every failure is a ``SourceError``."""

    async def clock(self) -> Clock:
        """What time it is there."""
        ...

    async def open(self, sql: str, *parameters: Any) -> tuple[str, ...]:
        """Begins a statement; answers the names of its columns."""
        ...

    async def fetch(self, most: int) -> Rows:
        """The next rows; none at the end. Nothing is held but these."""
        ...


class Acknowledger(Protocol):
    """One session that may write what the operator gave for it, and nothing else is sent there."""

    async def acknowledge(self, keys: Sequence[Any]) -> None:
        """Runs the statement for each key, in one transaction."""
        ...


class OneThread:
    """Calls of a blocking driver, each on the same thread, which is not ours."""

    def __init__(self, name: str) -> None:
        self._executor = ThreadPoolExecutor(1, thread_name_prefix=f"source-{name}")

    async def __call__(self, act: Callable[[], T], *, seconds: float) -> T:
        """Raises ``TimeoutError`` where the call does not come back; it is left behind then."""
        async with asyncio.timeout(seconds):
            return await asyncio.get_running_loop().run_in_executor(self._executor, act)

    def end(self) -> None:
        """Lets go of the thread; it ends with the call it is in."""
        self._executor.shutdown(wait=False, cancel_futures=True)
