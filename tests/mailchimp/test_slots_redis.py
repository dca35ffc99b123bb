"""What only leases in Redis must stand: lost state, killed holders, an absent server."""

import asyncio
import os
import random
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from redis.asyncio import Redis

from mcsync.mailchimp import Grant, Lane, RedisSlotStore, SlotLimiter, Wait
from mcsync.mailchimp.slots import SlotsUnreachableError

WORKER = Path(__file__).with_name("slot_worker.py")
SOURCE = Path(__file__).parents[2] / "src"


async def command(redis: Redis, *words: str | int) -> int:
    # By its plain name: redis-py types some commands for both of its clients at once.
    untyped: Any = redis
    return int(await untyped.execute_command(*words))


async def until(happened: Callable[[], bool]) -> None:
    async with asyncio.timeout(60):
        while not happened():  # noqa: ASYNC110 - the code under test has no event for it
            await asyncio.sleep(0.01)


async def nobody(account: str) -> bool:
    return False


async def somebody(account: str) -> bool:
    return True


async def shorten_quarantine(redis: Redis) -> None:
    """Move the end of the quarantine to now, instead of waiting for it."""
    await command(redis, "HSET", "mcsync:slots:{a}:state", "quarantine", 1)


class TestLostState:
    async def test_nobody_takes_a_slot_for_the_life_of_a_lease(self, valkey: Redis) -> None:
        store = RedisSlotStore(valkey)
        first = await store.acquire("a", Lane.BULK, "x")
        assert isinstance(first, Wait)
        assert 9 < first.seconds <= 10
        assert isinstance(await store.acquire("a", Lane.LIVE, "y"), Wait)
        await shorten_quarantine(valkey)
        assert isinstance(await store.acquire("a", Lane.BULK, "x"), Grant)

    async def test_after_a_flush_too(self, valkey: Redis) -> None:
        store = RedisSlotStore(valkey, recently_active=somebody)
        await store.acquire("a", Lane.BULK, "x")
        await shorten_quarantine(valkey)
        assert isinstance(await store.acquire("a", Lane.BULK, "x"), Grant)
        await valkey.flushall()
        assert isinstance(await store.acquire("a", Lane.BULK, "y"), Wait)

    async def test_who_remembers_slow_calls_waits_longer(self, valkey: Redis) -> None:
        store = RedisSlotStore(valkey, recently_active=nobody)
        await store.acquire("a", Lane.BULK, "x")
        await store.release("a", "x", 30.0, throttled=False)
        await store.acquire("a", Lane.BULK, "y")
        await valkey.flushall()
        stranger = await RedisSlotStore(valkey).acquire("a", Lane.BULK, "z")
        assert isinstance(stranger, Wait)
        assert stranger.seconds <= 10
        wait = await store.acquire("a", Lane.BULK, "z")
        assert isinstance(wait, Wait)
        assert 80 < wait.seconds <= 90

    async def test_a_new_account_does_not_wait_and_is_asked_about_once(self, valkey: Redis) -> None:
        asked: list[str] = []

        async def ask(account: str) -> bool:
            asked.append(account)
            return False

        store = RedisSlotStore(valkey, recently_active=ask)
        for n in range(3):
            assert isinstance(await store.acquire("a", Lane.BULK, f"x{n}"), Grant)
        assert asked == ["a"]

    async def test_not_knowing_means_waiting(self, valkey: Redis) -> None:
        async def fail(account: str) -> bool:
            raise RuntimeError

        store = RedisSlotStore(valkey, recently_active=fail)
        assert isinstance(await store.acquire("a", Lane.BULK, "x"), Wait)

    async def test_a_living_holder_is_counted_again(self, valkey: Redis) -> None:
        store = RedisSlotStore(valkey, recently_active=nobody)
        await store.acquire("a", Lane.LIVE, "alive")
        await store.acquire("a", Lane.LIVE, "silent")
        await valkey.flushall()
        assert await store.renew("a", "alive", 10.0)
        other = RedisSlotStore(valkey)
        assert isinstance(await other.acquire("a", Lane.LIVE, "new"), Wait)
        await shorten_quarantine(valkey)
        assert not await store.renew("a", "silent", 10.0)
        assert isinstance(await other.acquire("a", Lane.LIVE, "new"), Grant)
        assert isinstance(await other.acquire("a", Lane.LIVE, "next"), Wait)


async def test_the_hold_renews_and_notices_a_lost_lease(valkey: Redis) -> None:
    class Quick(RedisSlotStore):
        async def acquire(
            self, account: str, lane: Lane, holder: str, *, cap: int | None = None
        ) -> Grant | Wait:
            answer = await super().acquire(account, lane, holder, cap=cap)
            return Grant(0.3) if isinstance(answer, Grant) else answer

    limiter = SlotLimiter(Quick(valkey, recently_active=nobody))
    async with limiter.hold("a", Lane.BULK) as slot:
        lease = await valkey.zscore("mcsync:slots:{a}:bulk", slot.holder)
        for _ in range(100):
            await asyncio.sleep(0.05)
            if await valkey.zscore("mcsync:slots:{a}:bulk", slot.holder) != lease:
                break
        else:
            raise AssertionError("not renewed")
        assert not slot.lost
        await valkey.zrem("mcsync:slots:{a}:bulk", slot.holder)
        await until(lambda: slot.lost)


async def test_without_a_server_nobody_gets_a_slot_and_nothing_breaks(tmp_path: Path) -> None:
    store = RedisSlotStore(Redis(unix_socket_path=str(tmp_path / "nobody")))
    answer = await store.acquire("a", Lane.BULK, "x")
    assert answer == Wait(0.5, "unreachable")
    assert not await store.renew("a", "x", 10.0)
    await store.release("a", "x", 1.0, throttled=False)


async def test_who_is_waited_for_gives_up_on_a_server_that_is_away(
    valkey: Redis, tmp_path: Path
) -> None:
    store = RedisSlotStore(Redis(unix_socket_path=str(tmp_path / "nobody")))
    limiter = SlotLimiter(store, poll_seconds=0.01, patience=0.2)

    async def call() -> None:
        async with limiter.hold("a", Lane.LIVE):
            raise AssertionError("nobody may call")

    async with asyncio.timeout(10):
        found = await asyncio.gather(*(call() for _ in range(8)), return_exceptions=True)
    assert {type(error) for error in found} == {SlotsUnreachableError}
    limiter._store = RedisSlotStore(valkey, recently_active=nobody)
    async with asyncio.timeout(10), limiter.hold("a", Lane.LIVE):
        pass
    await limiter.aclose()


async def test_a_hold_outlives_the_servers_absence(valkey: Redis) -> None:
    store = RedisSlotStore(valkey, recently_active=nobody)
    await store.acquire("a", Lane.BULK, "x")
    broken = RedisSlotStore(Redis(unix_socket_path="/nonexistent"))
    broken._leases = store._leases
    assert await broken.renew("a", "x", 10.0), "the lease holds until its time ends"
    await broken.release("a", "x", 1.0, throttled=False)


async def test_killed_holders_never_raise_the_count_and_their_slots_come_back(
    valkey: Redis, valkey_socket: str
) -> None:
    # No quarantine for the test's account: the state is there and says so.
    await command(valkey, "HSET", "mcsync:slots:{account}:state", "known", 1, "quarantine", 0)
    rng = random.Random(7)
    workers = [await start(valkey_socket) for _ in range(4)]
    most = kills = 0
    began = time.monotonic()
    try:
        # A killed process leaves its names in `holding`: Mailchimp would go on working on
        # these calls, so they must count for as long as the shortest lease, 10 s.
        while kills < 3 and time.monotonic() - began < 8:
            await asyncio.sleep(0.02)
            most = max(most, await command(valkey, "SCARD", "holding"))
            if rng.random() < 0.02 and await command(valkey, "SCARD", "holding") > 5:
                victim = workers.pop(rng.randrange(len(workers)))
                victim.send_signal(signal.SIGKILL)
                await victim.wait()
                kills += 1
                workers.append(await start(valkey_socket))
        for _ in range(50):
            await asyncio.sleep(0.02)
            most = max(most, await command(valkey, "SCARD", "holding"))
        assert await valkey.get("calls") is not None
    finally:
        for worker in workers:
            worker.kill()
            await worker.wait()
    assert kills
    assert 0 < most <= 10
    await leases_return(valkey)


async def leases_return(valkey: Redis) -> None:
    """All slots can be taken again once the longest lease, 10 s, is over."""
    for lane, cap in ((Lane.BULK, 8), (Lane.LIVE, 2)):
        entries = await valkey.zrange(f"mcsync:slots:{{account}}:{lane}", 0, -1, withscores=True)
        seconds, micro = await valkey.time()
        now = seconds * 1000 + micro // 1000
        assert len(entries) <= cap
        assert all(score <= now + 10_000 for _, score in entries)
        # Let their time pass, without waiting for it.
        for name, _ in entries:
            await valkey.zadd(f"mcsync:slots:{{account}}:{lane}", {name: now - 1})
        store = RedisSlotStore(valkey)
        answers = [await store.acquire("account", lane, f"new{n}") for n in range(cap + 1)]
        assert sum(isinstance(answer, Grant) for answer in answers) == cap


async def start(socket: str) -> asyncio.subprocess.Process:
    environment = {**os.environ, "PYTHONPATH": str(SOURCE)}
    return await asyncio.create_subprocess_exec(
        sys.executable, str(WORKER), socket, env=environment
    )
