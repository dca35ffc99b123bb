"""How often something may happen, counted in Redis over all processes.

While Redis cannot be reached each process counts for itself and allows a quarter: nothing stops, and
nothing is let loose.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Callable
from typing import Final

import structlog
from redis.asyncio import Redis
from redis.exceptions import RedisError

_PREFIX: Final = "mcsync:limit:"
_SILENCE_SECONDS: Final = 5.0
"""After a failure Redis is not asked for so long: a caller must not wait for a dead one each time."""
_PATIENCE_SECONDS: Final = 1.0
"""A Redis that hangs is waited for no longer, by one caller."""
_ALONE_SHARE: Final = 4
_MOST_REMEMBERED: Final = 50_000

# One step for all processes: count, and begin the window with the first.
_TAKE: Final = """
local count = redis.call('incr', KEYS[1])
if count == 1 then redis.call('pexpire', KEYS[1], ARGV[2]) end
if count <= tonumber(ARGV[1]) then return 0 end
return math.max(redis.call('pttl', KEYS[1]), 1)
"""

_log = structlog.get_logger(__name__)


class RateLimiter:
    """Counts in windows that begin with the first event of a name."""

    def __init__(self, redis: Redis, *, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._script = redis.register_script(_TAKE)
        self._monotonic = monotonic
        self._silent_until = 0.0
        self._alone: dict[str, tuple[int, float]] = {}

    async def take(self, name: str, *, limit: int, seconds: int) -> int | None:
        """Counts one event; None while there are at most ``limit`` of them in ``seconds``.

        Else the seconds until the next one may happen. ``name`` goes into Redis as it is: no personal data.
        """
        now = self._monotonic()
        if now >= self._silent_until:
            if self._silent_until:  # one caller looks whether Redis is back, the others do not wait
                self._silent_until = now + _SILENCE_SECONDS
            try:
                async with asyncio.timeout(_PATIENCE_SECONDS):
                    wait = await self._script(keys=[_PREFIX + name], args=[limit, seconds * 1000])
                self._silent_until = 0.0
                return math.ceil(int(wait) / 1000) or None
            except (RedisError, OSError, TimeoutError, RuntimeError) as error:
                self._silent_until = self._monotonic() + _SILENCE_SECONDS
                _log.warning("rate_limit_alone", error=type(error).__name__)
        return self._take_alone(name, max(1, limit // _ALONE_SHARE), seconds)

    def _take_alone(self, name: str, limit: int, seconds: int) -> int | None:
        now = self._monotonic()
        count, until = self._alone.get(name, (0, 0.0))
        if until <= now:
            count, until = 0, now + seconds
        if len(self._alone) >= _MOST_REMEMBERED:
            self._alone = {key: kept for key, kept in self._alone.items() if kept[1] > now}
            if len(self._alone) >= _MOST_REMEMBERED:
                # so many names at once is an attack: nothing new until a window ends
                return seconds
        self._alone[name] = (count + 1, until)
        return None if count < limit else max(1, math.ceil(until - now))
