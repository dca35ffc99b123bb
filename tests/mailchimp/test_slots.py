"""The rules of slots, the same for leases in memory and in Redis."""

import asyncio
from collections.abc import AsyncIterator

import pytest
from redis.asyncio import Redis

from mcsync.mailchimp import Grant, Lane, MemorySlotStore, RedisSlotStore, SlotLimiter, Wait
from mcsync.mailchimp.slots import SlotStore, lease_seconds, linger_seconds


async def nobody(account: str) -> bool:
    return False


@pytest.fixture(params=["memory", "redis"])
async def store(request: pytest.FixtureRequest, valkey: Redis) -> AsyncIterator[SlotStore]:
    if request.param == "memory":
        yield MemorySlotStore()
    else:
        yield RedisSlotStore(valkey, recently_active=nobody)


async def grants(store: SlotStore, lane: Lane, count: int, prefix: str = "h") -> int:
    answers = [await store.acquire("a", lane, f"{prefix}{lane}{n}") for n in range(count)]
    return sum(isinstance(answer, Grant) for answer in answers)


async def test_lanes_have_their_caps_and_never_lend(store: SlotStore) -> None:
    assert await grants(store, Lane.BULK, 12) == 8
    assert await grants(store, Lane.LIVE, 5) == 2


async def test_both_lanes_together_stay_within_ten(store: SlotStore) -> None:
    for n in range(12):
        await store.acquire("a", Lane.BULK, f"b{n}", cap=9)
    answers = [await store.acquire("a", Lane.LIVE, f"l{n}", cap=9) for n in range(5)]
    assert sum(isinstance(answer, Grant) for answer in answers) == 1


async def test_accounts_do_not_share(store: SlotStore) -> None:
    assert await grants(store, Lane.BULK, 8) == 8
    assert isinstance(await store.acquire("other", Lane.BULK, "x"), Grant)


async def test_asking_twice_gives_one_slot(store: SlotStore) -> None:
    for _ in range(3):
        assert isinstance(await store.acquire("a", Lane.LIVE, "same"), Grant)
    assert await grants(store, Lane.LIVE, 3) == 1


async def test_a_released_slot_is_free_and_stays_so(store: SlotStore) -> None:
    await store.acquire("a", Lane.LIVE, "one")
    await store.release("a", "one", 0.1, throttled=False)
    assert not await store.renew("a", "one", 10.0)
    assert await grants(store, Lane.LIVE, 5) == 2


async def test_a_held_lease_is_renewed(store: SlotStore) -> None:
    await store.acquire("a", Lane.LIVE, "one")
    assert await store.renew("a", "one", 10.0)


async def test_an_expired_lease_is_not_resurrected(store: SlotStore) -> None:
    await store.acquire("a", Lane.LIVE, "one")
    assert await store.renew("a", "one", 0.001)
    await asyncio.sleep(0.01)
    assert not await store.renew("a", "one", 10.0)
    assert await grants(store, Lane.LIVE, 3) == 2


async def test_a_lease_lives_three_times_the_slowest_call(store: SlotStore) -> None:
    first = await store.acquire("a", Lane.BULK, "one")
    assert first == Grant(10.0)
    await store.release("a", "one", 20.0, throttled=False)
    second = await store.acquire("a", Lane.BULK, "two")
    assert isinstance(second, Grant)
    assert second.ttl == pytest.approx(60.0, rel=0.01)
    await store.release("a", "two", 100.0, throttled=False)
    third = await store.acquire("a", Lane.BULK, "three")
    assert third == Grant(120.0)


async def test_throttling_halves_both_lanes(store: SlotStore) -> None:
    await store.acquire("a", Lane.BULK, "one")
    await store.release("a", "one", 0.0, throttled=True)
    assert await grants(store, Lane.BULK, 12) == 4
    assert await grants(store, Lane.LIVE, 5) == 1


async def test_calls_throttled_together_halve_once(store: SlotStore) -> None:
    for n in range(8):
        await store.acquire("a", Lane.BULK, f"t{n}")
    for n in range(8):
        await store.release("a", f"t{n}", 5.0, throttled=True)
    assert await grants(store, Lane.BULK, 12) == 4


async def test_throttling_again_and_again_leaves_one(store: SlotStore) -> None:
    for n in range(6):
        await store.acquire("a", Lane.BULK, f"t{n}")
        await asyncio.sleep(0.002)
        await store.release("a", f"t{n}", 0.0, throttled=True)
    assert await grants(store, Lane.BULK, 12) == 1


async def test_an_abandoned_call_still_counts(store: SlotStore) -> None:
    await store.acquire("a", Lane.LIVE, "one")
    await store.release("a", "one", 1.0, throttled=False, abandoned=True)
    assert await grants(store, Lane.LIVE, 3) == 1


def test_leases_and_lingering_are_bounded() -> None:
    assert [lease_seconds(slow) for slow in (0, 2, 5, 39, 50)] == [10, 10, 15, 117, 120]
    assert linger_seconds(0, 0.5) == 9.5
    assert linger_seconds(1, 0.5) == 2.5
    assert linger_seconds(1, 60) == 1.0
    assert linger_seconds(30, 60) == 30
    assert linger_seconds(60, 120) == 0


class TestLimiter:
    async def test_never_more_than_the_cap_and_everybody_gets_a_turn(
        self, store: SlotStore
    ) -> None:
        limiter = SlotLimiter(store, bulk=3, live=1)
        now = most = done = 0

        async def call() -> None:
            nonlocal now, most, done
            async with limiter.hold("a", Lane.BULK):
                now += 1
                most = max(most, now)
                await asyncio.sleep(0.001)
                now -= 1
                done += 1

        async with asyncio.timeout(60):
            await asyncio.gather(*(call() for _ in range(60)))
        assert (most, done) == (3, 60)

    async def test_the_live_lane_is_open_while_bulk_is_full(self, store: SlotStore) -> None:
        limiter = SlotLimiter(store, bulk=1, live=1)
        async with (
            asyncio.timeout(60),
            limiter.hold("a", Lane.BULK),
            limiter.hold("a", Lane.LIVE) as slot,
        ):
            assert slot.lane is Lane.LIVE

    async def test_a_release_wakes_the_next_waiter_without_its_pause(
        self, store: SlotStore
    ) -> None:
        limiter = SlotLimiter(store, bulk=2, live=1, poll_seconds=3600, rand=lambda: 1.0)
        # Another process has the second slot, so the waiter pauses at the store.
        await store.acquire("a", Lane.BULK, "elsewhere")
        async with asyncio.timeout(60):
            async with limiter.hold("a", Lane.BULK) as slot:
                await store.renew("a", slot.holder, 3600)
                await store.renew("a", "elsewhere", 3600)
                waiting = asyncio.create_task(self._hold_once(limiter))
                await asyncio.sleep(0.05)
                assert not waiting.done()
            await waiting

    async def test_a_cancelled_waiter_leaves_nothing_behind(self, store: SlotStore) -> None:
        limiter = SlotLimiter(store, bulk=1, live=1)
        for pause in (0, 0, 0.001, 0.01):
            task = asyncio.create_task(self._hold_once(limiter))
            await asyncio.sleep(pause)
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
        await asyncio.sleep(0.05)
        await limiter.aclose()
        async with asyncio.timeout(5):
            await self._hold_once(limiter)

    async def test_an_error_in_the_block_gives_the_slot_back(self, store: SlotStore) -> None:
        limiter = SlotLimiter(store, bulk=1, live=1)
        with pytest.raises(KeyError):
            async with limiter.hold("a", Lane.BULK):
                raise KeyError
        async with asyncio.timeout(5):
            await self._hold_once(limiter)

    async def test_a_report_of_throttling_reaches_the_store(self, store: SlotStore) -> None:
        limiter = SlotLimiter(store)
        async with limiter.hold("a", Lane.BULK) as slot:
            slot.record(0.0)
            slot.throttled()
        assert await grants(store, Lane.BULK, 12) == 4

    async def test_a_process_can_be_held_below_the_cap(self, store: SlotStore) -> None:
        limiter = SlotLimiter(store, process_cap=1)
        async with limiter.hold("a", Lane.BULK):
            waiting = asyncio.create_task(self._hold_once(limiter))
            await asyncio.sleep(0.05)
            assert await grants(store, Lane.BULK, 12) == 7
            waiting.cancel()
            await asyncio.gather(waiting, return_exceptions=True)

    async def test_it_forgets_accounts_that_nobody_waits_for(self, store: SlotStore) -> None:
        limiter = SlotLimiter(store)
        await self._hold_once(limiter)
        assert limiter._queues == {}

    @staticmethod
    async def _hold_once(limiter: SlotLimiter) -> None:
        async with limiter.hold("a", Lane.BULK):
            pass


@pytest.mark.parametrize(("bulk", "live"), [(0, 2), (8, 0), (9, 2)])
def test_impossible_caps_are_refused(bulk: int, live: int) -> None:
    with pytest.raises(ValueError, match="slots"):
        SlotLimiter(MemorySlotStore(), bulk=bulk, live=live)


async def test_memory_lets_a_dead_holders_slot_return_after_its_lease() -> None:
    now = 0.0
    store = MemorySlotStore(clock=lambda: now)
    assert await grants(store, Lane.LIVE, 2) == 2
    now = 9.9
    answer = await store.acquire("a", Lane.LIVE, "next")
    assert isinstance(answer, Wait)
    now = 10.1
    assert isinstance(await store.acquire("a", Lane.LIVE, "next"), Grant)


async def test_memory_forgets_throttling_after_a_minute() -> None:
    now = 100.0
    store = MemorySlotStore(clock=lambda: now)
    await store.release("a", "x", 0.0, throttled=True)
    now = 161.0
    assert await grants(store, Lane.BULK, 12) == 8
