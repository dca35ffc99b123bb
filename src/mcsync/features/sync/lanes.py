"""Several calls in flight, and when to give up: what every phase of a push has in common."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable
from uuid import UUID

import structlog

from mcsync.features.sync.pull import Check
from mcsync.mailchimp import MailchimpError

_log = structlog.get_logger(__name__)

SPARE_LANES = 3
"""Lanes beyond the slots: while some record an answer, the others keep every slot in use."""
SINGLES = 20
"""Changes that one lane takes at a time for single calls: deciding costs as much for one as for many."""
_WATCH_SECONDS = 0.2
_GRACE_SECONDS = 1.0
_GIVE_UP_AFTER = 25
"""So many calls in a row without one answer: the weather is too bad, the run is postponed."""


class WeatherError(Exception):
    """Mailchimp could not be worked with for a while. The run goes on later, where it stood."""


class Weather:
    """How many calls in a row were left without an answer."""

    def __init__(self, run_id: UUID, check: Check) -> None:
        self._run_id = run_id
        self._check = check
        self._misses = 0

    def answered(self) -> None:
        """Mailchimp is there."""
        self._misses = 0

    async def missed(self, error: MailchimpError) -> None:
        """Waits a little; raises :class:`WeatherError` after too many."""
        self._misses += 1
        _log.info("call_missed", run=str(self._run_id), error=type(error).__name__,
                  status=error.status, misses=self._misses)  # fmt: skip
        if self._misses >= _GIVE_UP_AFTER:
            raise WeatherError from error
        await self._check()
        await asyncio.sleep(random.random() * min(10.0, 0.25 * 2 ** min(self._misses, 6)))  # noqa: S311


async def in_lanes(
    step: Callable[[], Awaitable[bool]], *, lanes: int, rows: int, each: int, check: Check
) -> None:
    """Runs ``step`` in several lanes until each says that nothing is left; the first error ends all.

    No more lanes than it takes steps of ``each`` rows to do them all; none for no rows.
    """

    async def lane() -> None:
        while await step():
            await check()

    async def watch() -> None:
        while True:  # lanes that wait for a slot or an answer do not look themselves
            await asyncio.sleep(_WATCH_SECONDS)
            await check()

    watching = asyncio.create_task(watch())
    tasks = {asyncio.create_task(lane()) for _ in range(min(lanes, -(-rows // each)))}
    open_lanes = set(tasks)
    try:
        while open_lanes:
            done, _ = await asyncio.wait(
                {*open_lanes, watching}, return_when=asyncio.FIRST_COMPLETED
            )
            for task in done:
                task.result()
            open_lanes -= done
    except Exception:
        # calls under way may still be answered; what is cut off is decided and sent again
        await asyncio.wait(tasks, timeout=_GRACE_SECONDS)
        raise
    finally:
        for task in (watching, *tasks):
            task.cancel()
        await asyncio.gather(watching, *tasks, return_exceptions=True)
