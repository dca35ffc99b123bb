"""Workers killed at every step of an erasure: another one takes over and completes it."""

from __future__ import annotations

import asyncio
import json
import os
import re
import signal
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest

import mcsync
from mcsync.core.settings import Settings
from tests.features.erasure.acts import Acts, answers, states
from tests.features.sync.world import World

ADA = "ada.lovelace@acme.example"
WORKER = Path(__file__).with_name("dying_worker.py")
POINTS = (
    "erasure.claimed",
    "erasure.scrubbed",
    "erasure.listed",
    "erasure.before_delete",
    "erasure.after_delete",
    "erasure.delete_recorded",
    "erasure.read_back",
    "erasure.confirmed",
    "erasure.all_confirmed",
    "erasure.completing",
    "erasure.done",
)
TAKEN_OVER_BY_A_PROCESS = ("erasure.claimed", "erasure.after_delete", "erasure.completing")
"""There the whole way is walked, lease and all; elsewhere the heir works in the test's own process."""
GATE_AND_CHAOS = [
    point if point in TAKEN_OVER_BY_A_PROCESS else pytest.param(point, marks=pytest.mark.chaos)
    for point in POINTS
]
"""Each kill starts processes of its own: the gate kills at three points, ``make chaos`` at all."""
_SECONDS = 120.0

Start = Callable[..., Awaitable[asyncio.subprocess.Process]]


@pytest.fixture
async def start(settings: Settings) -> AsyncIterator[Start]:
    """``await start("erasure.claimed")``: a worker of its own that dies there; without a point it lives."""
    given = {
        "DATABASE_URL": settings.database_url,
        "REDIS_URL": settings.redis_url,
    }
    env = {f"MCSYNC_{name}": url.get_secret_value() for name, url in given.items() if url}
    keys = {kid: key.get_secret_value() for kid, key in settings.master_keys.items()}
    env |= {
        "MCSYNC_MASTER_KEYS": json.dumps(keys), "MCSYNC_MAILCHIMP_URL": settings.mailchimp_url,
        "MCSYNC_RUN_LEASE_SECONDS": "3", "MCSYNC_DATABASE_POOL_SIZE": "2",
        "PYTHONPATH": str(Path(mcsync.__file__).parents[1]),
    }  # fmt: skip
    running: list[asyncio.subprocess.Process] = []

    async def begin(*point: str) -> asyncio.subprocess.Process:
        process = await asyncio.create_subprocess_exec(
            sys.executable, str(WORKER), *point, env={**os.environ, **env},
            stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.DEVNULL,
        )  # fmt: skip
        running.append(process)
        return process

    yield begin
    for process in running:
        if process.returncode is None:
            process.kill()
        await process.wait()


def test_every_point_is_walked() -> None:
    source = "".join(
        path.read_text(encoding="utf-8")
        for path in (Path(mcsync.__file__).parent / "features" / "erasure").glob("*.py")
    )
    assert set(re.findall(r'crash_point\("([a-z_.]+)"\)', source)) == set(POINTS)


@pytest.mark.slow
class TestKilled:
    @pytest.mark.parametrize("point", GATE_AND_CHAOS)
    async def test_another_worker_completes_it(
        self, world: World, acts: Acts, start: Start, point: str
    ) -> None:
        await world.wait(days=1)  # so that no clock but the common one is right
        person = await world.contact(ADA)
        segment = await world.segment()
        await world.sync(segment)
        await world.person(ADA, "subscribe_form", list_id=world.other_list_id)
        asked = await acts.ask(person)

        victim = await start(point)
        assert await asyncio.wait_for(victim.wait(), _SECONDS) == -signal.SIGKILL

        left = await acts.get(asked.id)
        assert (left.status == "done") == (point == "erasure.done")
        if point in TAKEN_OVER_BY_A_PROCESS:
            heir = await start()
            async with asyncio.timeout(_SECONDS):
                while (done := await acts.get(asked.id)).status != "done":
                    assert heir.returncode is None
                    await asyncio.sleep(0.1)
        else:
            await world.wait(4)  # the lease runs out
            done = await acts.work(asked.id, times=3)
            assert done.status == "done"
        await acts.is_sound(done)
        assert states(done) == {"confirmed"}
        assert set(answers(done)) <= {204, 404}
        assert await acts.at_mailchimp(ADA) == []
        assert await world.sandbox.forgotten(world.list_id, ADA) == [ADA]
        assert await acts.traces(ADA) == []
