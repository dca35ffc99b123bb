"""Slots: how many calls to one account may be under way at once (MC 15).

Mailchimp refuses the eleventh simultaneous call of a user, over all keys and processes, so
a call is made only while holding a slot. Slots come in two lanes that never lend to each
other: a bulk push must not delay a withdrawal, which takes the live lane.

A store keeps the leases: `MemorySlotStore` for one process, `RedisSlotStore` for many.
`SlotLimiter` waits for leases, renews them during the call and gives them back.
"""

import asyncio
import contextlib
import random
import time
import uuid
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final, Literal, Protocol

BULK_SLOTS: Final = 8
"""Default calls of the bulk lane; two of the ten are left to the account's other tools."""
LIVE_SLOTS: Final = 2
"""Default calls of the live lane."""
MAX_SLOTS: Final = 10
"""Both lanes together, whatever is asked for: Mailchimp's own limit (MC 15)."""
MAX_CALL_SECONDS: Final = 120.0
"""Mailchimp ends a call after this time, so no call occupies it longer (MC 15)."""
MIN_LEASE_SECONDS: Final = 10.0
"""A lease is never shorter: a busy worker must find time to renew it."""
THROTTLE_SECONDS: Final = 60.0
"""How long a 429 keeps the account's slots halved."""

_RENEW_SECONDS: Final = 3.0
POLL_SECONDS: Final = 0.2
"""The longest pause before the store is asked again for a slot that another process frees."""


class Lane(StrEnum):
    """Which slots a call uses."""

    BULK = "bulk"
    LIVE = "live"


@dataclass(frozen=True, slots=True)
class Grant:
    """A slot was given, for `ttl` seconds unless renewed."""

    ttl: float


@dataclass(frozen=True, slots=True)
class Wait:
    """No slot now; `seconds` is when one may come back at the latest without being released."""

    seconds: float
    reason: Literal["busy", "unreachable"] = "busy"


class SlotsUnreachableError(ConnectionError):
    """The store of the slots cannot be reached, so nobody knows whether a call may be made."""


class SlotStore(Protocol):
    """Where the leases of all processes are kept.

    A `holder` is a unique name for one hold; asking twice with one name gives one slot.
    """

    async def acquire(
        self, account: str, lane: Lane, holder: str, *, cap: int | None = None
    ) -> Grant | Wait:
        """Take a slot of the lane if fewer than `cap` are held (None: the lane's default)."""
        ...

    async def renew(self, account: str, holder: str, ttl: float) -> bool:
        """Lengthen a lease to `ttl` seconds from now; False when it is not held any more."""
        ...

    async def release(
        self, account: str, holder: str, seconds: float, throttled: bool, *, abandoned: bool = False
    ) -> None:
        """Give a slot back after a call of `seconds`.

        `throttled` reports a 429 and halves the account's slots for a minute. `abandoned`
        says that the call was given up without an answer: Mailchimp may go on working on it,
        so the slot comes back only when that is unlikely.
        """
        ...


def lease_seconds(slowest: float) -> float:
    """Return the life of a lease, given the slowest recent call in seconds."""
    return min(MAX_CALL_SECONDS, max(MIN_LEASE_SECONDS, 3 * slowest))


def linger_seconds(slowest: float, elapsed: float) -> float:
    """Return how long an abandoned call still counts, `elapsed` seconds after its start."""
    expected = 3 * slowest if slowest > 0 else MIN_LEASE_SECONDS
    return max(0.0, min(MAX_CALL_SECONDS, max(expected, elapsed + 1.0)) - elapsed)


class Slot:
    """A slot while it is held. Report to it what the call met."""

    def __init__(self, account: str, lane: Lane, holder: str) -> None:
        self.account = account
        self.lane = lane
        self.holder = holder
        self.lost = False
        """True once the lease ran out under the call; the call goes on, uncounted."""
        self._began = time.monotonic()
        self._slowest: float | None = None
        self._throttled = False
        self._abandoned = False

    @property
    def seconds(self) -> float:
        """The slowest call made in the slot; without any, the time since it was taken."""
        return time.monotonic() - self._began if self._slowest is None else self._slowest

    @property
    def is_throttled(self) -> bool:
        """Whether a call in this slot met a 429."""
        return self._throttled

    @property
    def is_abandoned(self) -> bool:
        """Whether a call in this slot was given up without an answer."""
        return self._abandoned

    def record(self, seconds: float) -> None:
        """Note how long a call took, so that waiting for the slot's release does not count."""
        self._slowest = max(self._slowest or 0.0, seconds)

    def throttled(self) -> None:
        """Report a 429: the account's slots are halved for a minute."""
        self._throttled = True

    def abandoned(self) -> None:
        """Report a call given up without an answer: Mailchimp may still be working on it."""
        self._abandoned = True


@dataclass(slots=True)
class _Queue:
    """The waiters of one process for one lane of one account."""

    room: asyncio.Semaphore
    turn: asyncio.Lock = field(default_factory=asyncio.Lock)
    released: asyncio.Event = field(default_factory=asyncio.Event)
    users: int = 0


class SlotLimiter:
    """Gives out slots to the tasks of this process.

    `bulk` and `live` are the caps of the lanes over all processes; `process_cap` bounds what
    this process holds of each lane, a second fence for when the store forgets. Use one
    limiter per event loop. `patience`: where somebody waits for the answer, nobody waits
    longer than so many seconds for a store that cannot be reached.
    """

    def __init__(
        self,
        store: SlotStore,
        *,
        bulk: int = BULK_SLOTS,
        live: int = LIVE_SLOTS,
        process_cap: int | None = None,
        poll_seconds: float = POLL_SECONDS,
        patience: float | None = None,
        rand: Callable[[], float] = random.random,
    ) -> None:
        if bulk < 1 or live < 1 or bulk + live > MAX_SLOTS:
            message = f"slots must be at least 1 a lane and {MAX_SLOTS} together"
            raise ValueError(message)
        self._store = store
        self._caps = {Lane.BULK: bulk, Lane.LIVE: live}
        self._process_cap = process_cap
        self._poll_seconds = poll_seconds
        self._patience = patience
        self._unreachable_since: float | None = None
        self._rand = rand
        self._queues: dict[tuple[str, Lane], _Queue] = {}
        self._releases: set[asyncio.Task[None]] = set()

    @contextlib.asynccontextmanager
    async def hold(self, account: str, lane: Lane) -> AsyncIterator[Slot]:
        """Wait for a slot, keep it during the block, give it back.

        Waits as long as it takes while others have all slots, and also while the store
        cannot be reached unless there is a `patience`: then `SlotsUnreachableError` is
        raised. Bound it with `asyncio.timeout` where that matters.
        """
        queue = self._enter(account, lane)
        try:
            async with queue.room:
                slot = Slot(account, lane, uuid.uuid4().hex)
                ttl = await self._acquire(queue, slot)
                slot._began = time.monotonic()  # noqa: SLF001 - the wait is not the call
                renewal = asyncio.create_task(self._renew(slot, ttl))
                try:
                    yield slot
                finally:
                    renewal.cancel()
                    await asyncio.shield(self._release(queue, slot))
        finally:
            self._leave(account, lane, queue)

    async def aclose(self) -> None:
        """Wait until every slot given back has reached the store."""
        while self._releases:
            await asyncio.gather(*self._releases, return_exceptions=True)

    def _enter(self, account: str, lane: Lane) -> _Queue:
        cap = self._caps[lane]
        queue = self._queues.get((account, lane))
        if queue is None:
            room = asyncio.Semaphore(min(cap, self._process_cap or cap))
            queue = self._queues[account, lane] = _Queue(room)
        queue.users += 1
        return queue

    def _leave(self, account: str, lane: Lane, queue: _Queue) -> None:
        queue.users -= 1
        if not queue.users:
            # Accounts come and go; a process must not remember all it ever saw.
            del self._queues[account, lane]

    async def _acquire(self, queue: _Queue, slot: Slot) -> float:
        # One waiter of the process asks the store, the others queue behind it: fair, and
        # the store is not asked once per waiter.
        async with queue.turn:
            while True:
                # Cleared before asking, so that a release during the question still wakes.
                queue.released.clear()
                answer = await self._ask(queue, slot)
                if isinstance(answer, Grant):
                    return answer.ttl
                if self._is_given_up:
                    # The store may have given it all the same.
                    slot.record(0.0)
                    self._release(queue, slot)
                    message = "the store of the slots cannot be reached"
                    raise SlotsUnreachableError(message)
                pause = min(answer.seconds, self._poll_seconds) * (0.5 + self._rand() / 2)
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(max(pause, 0.005)):
                        await queue.released.wait()

    async def _ask(self, queue: _Queue, slot: Slot) -> Grant | Wait:
        asked = asyncio.ensure_future(
            self._store.acquire(slot.account, slot.lane, slot.holder, cap=self._caps[slot.lane])
        )
        try:
            answer = await asyncio.shield(asked)
        except asyncio.CancelledError:
            # The store may be granting the slot at this instant: let it answer, then give
            # the slot back, else it would be missing until its lease ends.
            slot.record(0.0)
            asked.add_done_callback(lambda _: self._release(queue, slot))
            raise
        if isinstance(answer, Grant) or answer.reason != "unreachable":
            self._unreachable_since = None
        elif self._unreachable_since is None:
            self._unreachable_since = time.monotonic()
        return answer

    @property
    def _is_given_up(self) -> bool:
        """Whether the store has been away too long, for all waiters alike."""
        since = self._unreachable_since
        return (
            self._patience is not None
            and since is not None
            and time.monotonic() - since >= self._patience
        )

    async def _renew(self, slot: Slot, ttl: float) -> None:
        while not slot.lost:
            await asyncio.sleep(min(ttl / 3, _RENEW_SECONDS))
            slot.lost = not await self._store.renew(slot.account, slot.holder, ttl)

    def _release(self, queue: _Queue, slot: Slot) -> asyncio.Task[None]:
        task = asyncio.create_task(self._give_back(queue, slot))
        # The loop keeps weak references only; the task must live until the store knows.
        self._releases.add(task)
        task.add_done_callback(self._releases.discard)
        return task

    async def _give_back(self, queue: _Queue, slot: Slot) -> None:
        try:
            await self._store.release(
                slot.account,
                slot.holder,
                slot.seconds,
                slot.is_throttled,
                abandoned=slot.is_abandoned,
            )
        finally:
            queue.released.set()
