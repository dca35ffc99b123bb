"""Redis or PostgreSQL goes away in the middle of a push: nothing is lost, and no process ends.

The short story is part of the gate, the long ones of ``make chaos``.
"""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest
from redis import Redis

from tests.support.installation import Installation, Process, until
from tests.support.push import Push


@contextmanager
def push(folder: Path, *, calls: int) -> Iterator[Push]:
    """A push in an installation of its own, whose database outlives a crash."""
    settings = {"MCSYNC_SLOTS_PER_ACCOUNT": "1", "MCSYNC_LIVE_SLOTS": "1"}
    with Installation(folder, apis=1, workers=2, env=settings, durable=True) as there:
        yield Push(there, calls)


def redis_away(seconds: float) -> Callable[[Push], None]:
    def act(under: Push) -> None:
        there = under.there
        there.redis.stop()
        under.opt_out()
        time.sleep(seconds)
        assert there.ready().json()["status"] == "degraded"
        there.redis.start()

    return act


def redis_hangs(under: Push) -> None:
    server = psutil.Process(under.there.redis.pid)
    server.suspend()
    try:
        under.opt_out()
        time.sleep(20)
    finally:
        server.resume()


def redis_emptied(under: Push) -> None:
    with Redis.from_url(under.there.redis.url()) as redis:
        redis.flushall()
    under.opt_out()


def postgres_away(seconds: float) -> Callable[[Push], None]:
    def act(under: Push) -> None:
        there = under.there
        there.crash_postgres()
        time.sleep(seconds)
        assert there.ready().status_code == 503
        there.postgres.start()
        under.opt_out()

    return act


def both_away(under: Push) -> None:
    there = under.there
    there.crash_postgres()
    there.redis.stop()
    newcomer = there.start("worker-2", "worker")
    there.workers.append(newcomer)
    time.sleep(10)
    there.postgres.start()
    there.redis.start()
    under.opt_out()


_TAKER = """
import asyncio, sys, asyncpg
async def main():
    held = []
    while True:
        try:
            held.append(await asyncpg.connect(sys.argv[1]))
        except asyncpg.PostgresError:
            print(len(held), flush=True)
            await asyncio.sleep(1)
asyncio.run(main())
"""


def connections_taken(under: Push) -> None:
    """Others take every connection that the server has, and each one that comes free."""
    url = under.there.postgres.service_url("mcsync")
    taker = subprocess.Popen([sys.executable, "-c", _TAKER, url], stdout=subprocess.PIPE)
    try:
        assert taker.stdout is not None
        taker.stdout.readline()
        under.there.sql(
            "select count(pg_terminate_backend(pid)) from pg_stat_activity where application_name = 'mcsync'"
        )
        time.sleep(20)
    finally:
        taker.kill()
        taker.wait()
        if taker.stdout is not None:
            taker.stdout.close()
    under.opt_out()


LONG = {
    "redis for 1 s": redis_away(1),
    "redis for 60 s": redis_away(60),
    "redis for 10 minutes": redis_away(600),
    "redis hangs": redis_hangs,
    "redis emptied": redis_emptied,
    "postgres for 1 s": postgres_away(1),
    "postgres for 60 s": postgres_away(60),
    "both, and a worker that starts then": both_away,
    "connections taken": connections_taken,
}


@pytest.mark.chaos
@pytest.mark.timeout(1200)
@pytest.mark.parametrize("story", LONG)
def test_a_push_goes_on_after(story: str, tmp_path: Path) -> None:
    with push(tmp_path, calls=12) as under:
        LONG[story](under)
        under.ends_well()
        short_logs(under.there.workers)


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_a_push_outlives_redis_and_postgres(tmp_path: Path) -> None:
    with push(tmp_path, calls=5) as under:
        there = under.there
        there.redis.stop()
        under.opt_out()
        assert there.ready().json()["status"] == "degraded"
        there.redis.start()
        there.crash_postgres()
        assert there.ready().status_code == 503
        there.postgres.start()
        under.ends_well()


def short_logs(workers: list[Process]) -> None:
    """An outage is told once and again each minute, not for each attempt; never as a traceback's text."""
    for worker in workers:
        lines = [line for line in worker.log.read_text().splitlines() if line.strip()]
        events = [json.loads(line) for line in lines]
        assert max(map(len, lines)) < 4_000
        assert sum(event["level"] in ("warning", "error") for event in events) < 150


def test_a_worker_ends_when_it_is_told_while_redis_is_away(tmp_path: Path) -> None:
    with Installation(tmp_path, apis=1, workers=1) as there:
        there.redis.stop()
        worker = there.workers[0]
        until(lambda: bool(worker.events("bell_lost")), "it noticed", seconds=60)
        worker.send(signal.SIGTERM)
        assert worker.process.wait(60) == 0
        assert worker.events("worker_stopped")
