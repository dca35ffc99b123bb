"""Leases kept in Redis or Valkey, for any number of processes.

Per account there are two sorted sets (one a lane) of holders scored by the end of their
lease, and a hash with what is known of the account. Every step is one script, so it is
atomic, and reads the server's clock: the clocks of the workers never matter. The keys share
a hash tag, so a cluster keeps them together. None of them expires; give the server an
eviction policy that spares keys without expiry (`noeviction`, `volatile-*`).

A killed holder's slot comes back when its lease ends. A server that lost its state cannot
know who is calling, so at first sight of the loss nobody takes a slot for the life of a
lease; holders that are alive enter their leases again meanwhile (`_RENEW`).
"""

import logging
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Final, cast

from redis.asyncio import Redis
from redis.exceptions import RedisError

from mcsync.mailchimp.slots import (
    BULK_SLOTS,
    LIVE_SLOTS,
    MAX_SLOTS,
    MIN_LEASE_SECONDS,
    Grant,
    Lane,
    Wait,
)

_log = logging.getLogger(__name__)

_UNREACHABLE: Final = Wait(0.5, "unreachable")
_COMPLAIN_SECONDS: Final = 30.0
_STATE_MISSING: Final = -1
_GRANTED: Final = 1

# Times in milliseconds. The numbers are those of slots.py: a lease lives three times the
# slowest recent call, 10 s to 120 s; the memory of the slowest call halves in 300 s; a 429
# counts for 60 s.
_COMMON: Final = """
local clock = redis.call('TIME')
local now = clock[1] * 1000 + math.floor(clock[2] / 1000)
local function known(field)
  return tonumber(redis.call('HGET', KEYS[3], field) or '0')
end
local function slowest()
  return known('slow') * 0.5 ^ ((now - known('slow_at')) / 300000)
end
local function lease()
  return math.floor(math.min(120000, math.max(10000, 3 * slowest())))
end
local function begin_quarantine(length)
  redis.call('HSET', KEYS[3], 'known', '1', 'seen', now, 'quarantine', now + length)
end
"""

# KEYS lane, other lane, state; ARGV holder, cap, cap of both, mode, longest lease known here.
# Answers {1, ttl}, {0, wait} or {-1, 0}: the state is missing and mode is 'ask'.
_ACQUIRE: Final = (
    _COMMON
    + """
if known('known') == 0 then
  if ARGV[4] == 'ask' then return {-1, 0} end
  begin_quarantine(ARGV[4] == 'fresh' and 0 or tonumber(ARGV[5]))
end
local ends = known('quarantine')
if ends > now then
  local mine = known('seen') + tonumber(ARGV[5])
  if mine > ends then
    ends = mine
    redis.call('HSET', KEYS[3], 'quarantine', ends)
  end
  return {0, ends - now}
end
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', now)
redis.call('ZREMRANGEBYSCORE', KEYS[2], '-inf', now)
local ttl = lease()
if not redis.call('ZSCORE', KEYS[1], ARGV[1]) then
  local cap = tonumber(ARGV[2])
  if known('throttled_until') > now then
    cap = math.max(1, math.floor(cap / known('divisor')))
  end
  local held = redis.call('ZCARD', KEYS[1])
  if held >= cap or held + redis.call('ZCARD', KEYS[2]) >= tonumber(ARGV[3]) then
    local wait = ttl
    for i = 1, 2 do
      local first = redis.call('ZRANGE', KEYS[i], 0, 0, 'WITHSCORES')
      if first[2] then wait = math.min(wait, tonumber(first[2]) - now) end
    end
    return {0, wait}
  end
end
redis.call('ZADD', KEYS[1], now + ttl, ARGV[1])
return {1, ttl}
"""
)

# ARGV holder, ttl, '1' when the lease cannot have ended by the holder's own reckoning. An
# ended lease stays ended: its slot may be somebody else's. But where the server forgot the
# lease and nobody may take a slot yet, entering it again is safe, and makes the count right.
_RENEW: Final = (
    _COMMON
    + """
local ttl = tonumber(ARGV[2])
local ends = redis.call('ZSCORE', KEYS[1], ARGV[1])
if ends then
  if tonumber(ends) <= now then return 0 end
  redis.call('ZADD', KEYS[1], now + ttl, ARGV[1])
  return 1
end
if ARGV[3] ~= '1' then return 0 end
if known('known') == 0 then begin_quarantine(ttl) end
if known('quarantine') <= now then return 0 end
redis.call('ZADD', KEYS[1], now + ttl, ARGV[1])
return 1
"""
)

# ARGV holder, milliseconds of the call, '1' when throttled, '1' when abandoned.
_RELEASE: Final = (
    _COMMON
    + """
local took = tonumber(ARGV[2])
local slow = slowest()
if ARGV[4] == '1' and redis.call('ZSCORE', KEYS[1], ARGV[1]) then
  local expected = slow > 0 and 3 * slow or 10000
  local rest = math.max(0, math.min(120000, math.max(expected, took + 1000)) - took)
  redis.call('ZADD', KEYS[1], now + math.floor(rest), ARGV[1])
else
  redis.call('ZREM', KEYS[1], ARGV[1])
end
if took > slow then redis.call('HSET', KEYS[3], 'slow', took, 'slow_at', now) end
if ARGV[3] == '1' and now - took >= known('throttled_at') then
  local divisor = 2
  if known('throttled_until') > now then divisor = math.min(known('divisor') * 2, 10) end
  redis.call('HSET', KEYS[3], 'divisor', divisor, 'throttled_at', now,
    'throttled_until', now + 60000)
end
return 1
"""
)


@dataclass(slots=True)
class _Lease:
    lane: Lane
    ends: float


class RedisSlotStore:
    """A `SlotStore` in Redis.

    While Redis cannot be reached nobody gets a slot: background work waits, and the calls
    under way end by themselves. `recently_active` is asked once when Redis knows nothing of
    an account: False means that no call can be under way (a new account), so there is
    nothing to wait for; without it, or when it fails, waiting is the safe answer.
    """

    def __init__(
        self,
        redis: Redis,
        *,
        prefix: str = "mcsync:slots",
        recently_active: Callable[[str], Awaitable[bool]] | None = None,
    ) -> None:
        self._prefix = prefix
        self._recently_active = recently_active
        self._acquire = redis.register_script(_ACQUIRE)
        self._renew = redis.register_script(_RENEW)
        self._release = redis.register_script(_RELEASE)
        self._leases: dict[tuple[str, str], _Lease] = {}
        self._longest: dict[str, float] = {}
        self._complained = -_COMPLAIN_SECONDS

    async def acquire(
        self, account: str, lane: Lane, holder: str, *, cap: int | None = None
    ) -> Grant | Wait:
        """See `SlotStore`; answers `Wait` also while Redis cannot be reached."""
        asked = time.monotonic()
        try:
            code, milliseconds = await self._try(account, lane, holder, cap, "ask")
            if code == _STATE_MISSING:
                mode = "lost" if await self._may_be_active(account) else "fresh"
                code, milliseconds = await self._try(account, lane, holder, cap, mode)
        except (RedisError, OSError) as error:
            if asked - self._complained >= _COMPLAIN_SECONDS:  # every waiting call comes by here
                self._complained = asked
                _log.warning("slot store unreachable: %s", type(error).__name__)
            # The slot may have been given all the same: asking again with the same holder
            # gets it, and giving up must give it back.
            self._leases[account, holder] = _Lease(lane, 0.0)
            return _UNREACHABLE
        seconds = milliseconds / 1000
        if code != _GRANTED:
            self._leases.pop((account, holder), None)
            return Wait(seconds)
        # Reckoned from before the question, so it ends no later here than on the server.
        self._leases[account, holder] = _Lease(lane, asked + seconds)
        self._longest[account] = seconds
        return Grant(seconds)

    async def renew(self, account: str, holder: str, ttl: float) -> bool:
        """See `SlotStore`; while Redis cannot be reached a lease holds until its time ends."""
        lease = self._leases.get((account, holder))
        if lease is None:
            return False
        asked = time.monotonic()
        alive = asked < lease.ends
        args = (holder, round(ttl * 1000), int(alive))
        try:
            renewed = bool(await self._renew(self._keys(account, lease.lane), args))
        except (RedisError, OSError):
            return alive
        if renewed:
            lease.ends = asked + ttl
        return renewed

    async def release(
        self, account: str, holder: str, seconds: float, throttled: bool, *, abandoned: bool = False
    ) -> None:
        """See `SlotStore`; while Redis cannot be reached the lease is left to its end."""
        lease = self._leases.pop((account, holder), None)
        if lease is None:
            return
        args = (holder, round(seconds * 1000), int(throttled), int(abandoned))
        try:
            await self._release(self._keys(account, lease.lane), args)
        except (RedisError, OSError) as error:
            _log.warning("slot not given back: %s", type(error).__name__)

    async def _try(
        self, account: str, lane: Lane, holder: str, cap: int | None, mode: str
    ) -> tuple[int, int]:
        limit = cap or (BULK_SLOTS if lane is Lane.BULK else LIVE_SLOTS)
        longest = round(self._longest.get(account, MIN_LEASE_SECONDS) * 1000)
        args: Sequence[str | int] = (holder, limit, MAX_SLOTS, mode, longest)
        answer = await self._acquire(self._keys(account, lane), args)
        code, milliseconds = cast("tuple[int, int]", answer)
        return code, milliseconds

    async def _may_be_active(self, account: str) -> bool:
        if self._recently_active is None:
            return True
        try:
            return await self._recently_active(account)
        except Exception:  # noqa: BLE001 - whatever it is, not knowing means waiting
            _log.exception("cannot tell whether calls are under way; waiting")
            return True

    def _keys(self, account: str, lane: Lane) -> list[str]:
        other = Lane.LIVE if lane is Lane.BULK else Lane.BULK
        stem = f"{self._prefix}:{{{account}}}"
        return [f"{stem}:{lane}", f"{stem}:{other}", f"{stem}:state"]
