"""The bell: what is rung for, and how often."""

from __future__ import annotations

from collections.abc import AsyncIterator
from uuid import UUID, uuid4

import pytest
from redis.asyncio import Redis

from mcsync.core.jobs import ORDER
from mcsync.core.jobs.queue import QUEUE, JobQueue

ROW, ORG = uuid4(), uuid4()


@pytest.fixture
async def queue(redis_url: str) -> AsyncIterator[JobQueue]:
    opened = JobQueue(redis_url)
    yield opened
    await opened.close()


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The time it is, in a list of one."""
    now = [1_800_000_000.0]
    monkeypatch.setattr("mcsync.core.jobs.queue.time.time", lambda: now[0])
    return now


async def waiting(redis_url: str) -> int:
    """How many rings nobody has heard yet."""
    async with Redis.from_url(redis_url) as redis:
        return int(await redis.zcard(QUEUE))


async def ring(queue: JobQueue, row: UUID = ROW, *, epoch: int = 0, at_once: bool = False) -> None:
    await queue.ring(ORDER, row, ORG, epoch=epoch, at_once=at_once)


async def test_one_ring_stands_for_all_about_a_row_for_some_seconds(
    queue: JobQueue, redis_url: str, clock: list[float]
) -> None:
    for _ in range(3):
        await ring(queue)
    assert await waiting(redis_url) == 1
    await ring(queue, uuid4())
    await ring(queue, epoch=1)
    assert await waiting(redis_url) == 3
    clock[0] += 15
    await ring(queue)
    assert await waiting(redis_url) == 4, "whoever heard the first may be dead"


async def test_a_job_that_is_ending_does_not_swallow_a_ring_at_once(
    queue: JobQueue, redis_url: str, clock: list[float]
) -> None:
    await ring(queue)
    for _ in range(3):
        await ring(queue, at_once=True)
    assert await waiting(redis_url) == 2
    clock[0] += 1
    await ring(queue, at_once=True)
    assert await waiting(redis_url) == 3
