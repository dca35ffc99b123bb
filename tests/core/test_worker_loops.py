"""A worker's loops outlive every failure, and say what is wrong without drowning the log."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence

from mcsync.core.logging import flush_logs
from mcsync.worker import _every
from tests.support.logs import captured_logs


def _wrapped(cause: Exception) -> Exception:
    error = RuntimeError("a driver's error around it")
    error.__cause__ = cause
    return error


async def _told(turns: Sequence[Exception | None]) -> list[str]:
    """The errors logged of a loop whose turns end so; it stops after them."""
    stopping, left = asyncio.Event(), list(turns)

    async def act() -> None:
        turn = left.pop(0)
        if not left:
            stopping.set()
        if turn is not None:
            raise turn

    with captured_logs() as log:
        await asyncio.wait_for(_every(0.0, stopping, act), 30)
        flush_logs()  # what came back within the minute is counted first
        lines = [json.loads(line) for line in log.getvalue().splitlines()]
    assert all(line["loop"].endswith(".act") for line in lines)
    return [line["error"] for line in lines]


async def test_a_failure_that_stays_is_told_once_by_its_cause() -> None:
    failure = _wrapped(ConnectionRefusedError("host"))
    assert await _told([failure] * 30) == ["ConnectionRefusedError"]


async def test_another_failure_and_one_that_comes_back_are_told() -> None:
    one, another = _wrapped(ConnectionRefusedError("host")), ValueError("x")
    told = await _told([one, one, another, another, None, another, None])
    assert told == ["ConnectionRefusedError", "ValueError", "ValueError"]
