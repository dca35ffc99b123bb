"""Leases kept in this process, for a single process without Redis (same rules)."""

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from mcsync.mailchimp.slots import (
    BULK_SLOTS,
    LIVE_SLOTS,
    MAX_SLOTS,
    THROTTLE_SECONDS,
    Grant,
    Lane,
    Wait,
    lease_seconds,
    linger_seconds,
)

SLOWEST_HALF_LIFE_SECONDS = 300.0
"""The memory of the slowest call fades by half in this time."""


@dataclass(slots=True)
class _Account:
    leases: dict[str, tuple[Lane, float]] = field(default_factory=dict)
    slowest: float = 0.0
    slowest_at: float = 0.0
    divisor: int = 1
    throttled_at: float = -math.inf
    throttled_until: float = 0.0


class MemorySlotStore:
    """A `SlotStore` in memory. `clock` is monotonic seconds."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._accounts: dict[str, _Account] = {}

    async def acquire(
        self, account: str, lane: Lane, holder: str, *, cap: int | None = None
    ) -> Grant | Wait:
        """See `SlotStore`."""
        now = self._clock()
        state = self._accounts.setdefault(account, _Account())
        leases = {name: lease for name, lease in state.leases.items() if lease[1] > now}
        state.leases = leases
        ttl = lease_seconds(_slowest(state, now))
        if holder not in leases:
            default = BULK_SLOTS if lane is Lane.BULK else LIVE_SLOTS
            limit = min(default if cap is None else cap, MAX_SLOTS)
            if state.throttled_until > now:
                limit = max(1, limit // state.divisor)
            held = [expires for of, expires in leases.values() if of is lane]
            if len(held) >= limit or len(leases) >= MAX_SLOTS:
                expiries = [expires for _, expires in leases.values()]
                return Wait(min(expiries) - now)
        leases[holder] = (lane, now + ttl)
        return Grant(ttl)

    async def renew(self, account: str, holder: str, ttl: float) -> bool:
        """See `SlotStore`."""
        now = self._clock()
        state = self._accounts.get(account)
        if state is None or holder not in state.leases or state.leases[holder][1] <= now:
            return False
        state.leases[holder] = (state.leases[holder][0], now + ttl)
        return True

    async def release(
        self, account: str, holder: str, seconds: float, throttled: bool, *, abandoned: bool = False
    ) -> None:
        """See `SlotStore`."""
        now = self._clock()
        state = self._accounts.setdefault(account, _Account())
        lease = state.leases.pop(holder, None)
        slowest = _slowest(state, now)
        if abandoned and lease is not None:
            state.leases[holder] = (lease[0], now + linger_seconds(slowest, seconds))
        if seconds > slowest:
            state.slowest, state.slowest_at = seconds, now
        if throttled and now - seconds >= state.throttled_at:
            # Calls already under way at the last halving tell nothing about the new cap.
            again = state.throttled_until > now
            state.divisor = min(state.divisor * 2, MAX_SLOTS) if again else 2
            state.throttled_at, state.throttled_until = now, now + THROTTLE_SECONDS


def _slowest(state: _Account, now: float) -> float:
    return float(state.slowest * 0.5 ** ((now - state.slowest_at) / SLOWEST_HALF_LIFE_SECONDS))
