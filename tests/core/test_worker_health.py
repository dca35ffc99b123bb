"""What a worker says of itself, and that its port says so even while its event loop does not turn."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Callable

import httpx
import pytest

from mcsync.core import worker_health
from mcsync.core.db.heartbeats import SILENT_SECONDS
from mcsync.core.worker_health import (
    DISPATCHER_STUCK_SECONDS,
    LOOP_STUCK_SECONDS,
    NOT_TAKING_SECONDS,
    HealthPort,
    PortTakenError,
    Pulse,
)

FINE = {"status": "ok", "database": "ok", "migrations": "ok", "redis": "ok"}


class Hands:
    """A clock that stands until it is moved."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def hands() -> Hands:
    return Hands()


@pytest.fixture
def pulse(hands: Hands) -> Pulse:
    return Pulse(room=2, clock=hands)


async def _turn_once(pulse: Pulse) -> None:
    turning = asyncio.create_task(pulse.turn())
    await asyncio.sleep(0)
    turning.cancel()
    await asyncio.gather(turning, return_exceptions=True)


async def _all_goes_on(pulse: Pulse, *, due: int = 0) -> None:
    await _turn_once(pulse)
    pulse.beaten()
    pulse.dispatched(due)


async def test_a_worker_that_works_is_alive_and_ready(pulse: Pulse, hands: Hands) -> None:
    hands.now += 10_000
    await _all_goes_on(pulse)
    assert pulse.alive() == {"status": "ok", "loop": "ok", "dispatcher": "ok"}
    assert pulse.ready(FINE) == FINE | {
        "loop": "ok", "dispatcher": "ok", "heartbeat": "ok", "work": "ok",
    }  # fmt: skip


async def test_an_event_loop_that_does_not_turn_is_stuck(pulse: Pulse, hands: Hands) -> None:
    hands.now += LOOP_STUCK_SECONDS + 1
    pulse.beaten()
    pulse.dispatched(0)
    assert pulse.alive()["status"] == pulse.alive()["loop"] == "stuck"
    assert pulse.ready(FINE)["status"] == "unavailable"


async def test_a_dispatcher_whose_turn_does_not_end_is_stuck(pulse: Pulse, hands: Hands) -> None:
    hands.now += DISPATCHER_STUCK_SECONDS + 1
    await _turn_once(pulse)
    pulse.beaten()
    assert pulse.alive()["status"] == pulse.alive()["dispatcher"] == "stuck"


async def test_a_database_that_hangs_is_no_reason_to_restart_a_worker(
    pulse: Pulse, hands: Hands
) -> None:
    hands.now += DISPATCHER_STUCK_SECONDS + 1
    await _turn_once(pulse)
    assert pulse.alive()["status"] == "ok"
    said = pulse.ready({"status": "unavailable", "database": "unreachable"})
    assert (said["status"], said["heartbeat"]) == ("unavailable", "missing")


async def test_a_dispatcher_that_fails_is_alive_and_not_ready(pulse: Pulse, hands: Hands) -> None:
    hands.now += 1
    pulse.dispatch_failed()
    assert pulse.alive()["status"] == "ok"
    assert pulse.ready(FINE)["status"] == "unavailable"
    pulse.dispatched(0)
    assert pulse.ready(FINE)["status"] == "ok"


async def test_missed_beats_show(pulse: Pulse, hands: Hands) -> None:
    hands.now += SILENT_SECONDS + 1
    await _turn_once(pulse)
    pulse.dispatched(0)
    assert pulse.ready(FINE)["heartbeat"] == "missing"
    assert pulse.ready(FINE)["status"] == "unavailable"


async def test_work_that_is_due_for_minutes_and_not_taken_shows(pulse: Pulse, hands: Hands) -> None:
    await _all_goes_on(pulse, due=3)
    hands.now += NOT_TAKING_SECONDS + 1
    await _all_goes_on(pulse, due=3)
    assert (pulse.ready(FINE)["work"], pulse.ready(FINE)["status"]) == ("none", "unavailable")
    # without Redis nothing rings, which is no fault of this worker
    away = FINE | {"status": "degraded", "redis": "unreachable"}
    assert pulse.ready(away)["status"] == "degraded"
    # nothing is due any more
    await _all_goes_on(pulse, due=0)
    assert pulse.ready(FINE)["work"] == "ok"


async def test_a_worker_without_room_may_leave_work(pulse: Pulse, hands: Hands) -> None:
    enough, begun = asyncio.Event(), asyncio.Semaphore(0)

    async def job() -> None:
        begun.release()
        await enough.wait()

    counted = pulse.counted(job)
    running = [asyncio.create_task(counted()) for _ in range(2)]
    for _ in running:
        await begun.acquire()
    assert pulse.jobs == 2
    await _all_goes_on(pulse, due=5)
    hands.now += NOT_TAKING_SECONDS + 1
    await _all_goes_on(pulse, due=5)
    assert pulse.ready(FINE)["work"] == "ok"
    enough.set()
    await asyncio.gather(*running)
    assert pulse.jobs == 0
    assert pulse.ready(FINE)["work"] == "none"


@pytest.fixture
async def port(pulse: Pulse) -> AsyncIterator[HealthPort]:
    async def checks() -> dict[str, str]:
        return FINE

    opened = HealthPort(pulse, checks, host="127.0.0.1", port=0)
    opened.start()
    yield opened
    await opened.stop()


def _ask(port: HealthPort, path: str) -> Callable[[], httpx.Response]:
    return lambda: httpx.get(f"http://127.0.0.1:{port.port}/health/{path}", timeout=60)


async def test_the_port_answers_as_the_api_does(pulse: Pulse, port: HealthPort) -> None:
    await _all_goes_on(pulse)
    live = await asyncio.to_thread(_ask(port, "live"))
    ready = await asyncio.to_thread(_ask(port, "ready"))
    assert (live.status_code, live.json()["status"]) == (200, "ok")
    assert (ready.status_code, ready.json()["database"]) == (200, "ok")
    head = await asyncio.to_thread(
        lambda: httpx.head(f"http://127.0.0.1:{port.port}/health/ready", timeout=60)
    )
    assert (head.status_code, head.content) == (200, b"")
    assert (await asyncio.to_thread(_ask(port, "other"))).status_code == 404


async def test_the_port_answers_while_the_loop_is_blocked(
    pulse: Pulse, hands: Hands, port: HealthPort, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(worker_health, "_ANSWER_SECONDS", 0.2)
    hands.now += LOOP_STUCK_SECONDS + 1
    # asked without a thread, so that this test's own event loop, which the port tells of, stands still
    live, ready = _ask(port, "live")(), _ask(port, "ready")()
    assert (live.status_code, live.json()["loop"]) == (503, "stuck")
    assert (ready.status_code, ready.json()["status"]) == (503, "unavailable")


async def test_a_check_that_breaks_is_an_answer(pulse: Pulse) -> None:
    async def broken() -> dict[str, str]:
        raise KeyError("x")

    opened = HealthPort(pulse, broken, host="127.0.0.1", port=0)
    opened.start()
    try:
        ready = await asyncio.to_thread(_ask(opened, "ready"))
    finally:
        await opened.stop()
    assert (ready.status_code, ready.json()["error"]) == (503, "KeyError")


async def test_a_port_that_is_taken_is_named(pulse: Pulse) -> None:
    async def checks() -> dict[str, str]:
        return FINE

    with socket.create_server(("127.0.0.1", 0)) as taken:
        number = taken.getsockname()[1]
        with pytest.raises(
            PortTakenError, match=rf"127\.0\.0\.1:{number} cannot be opened: Address"
        ):
            HealthPort(pulse, checks, host="127.0.0.1", port=number)
