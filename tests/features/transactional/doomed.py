"""A real worker that kills itself at a named point of a hand-over: ``python -m ...doomed POINT``.

Its settings come from the environment, like any worker's. SIGKILL: nothing is cleaned up.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from typing import Any

from mcsync.core.settings import Settings
from mcsync.features.transactional import handover, repository
from mcsync.worker import serve

POINTS = (
    "after_claim",
    "before_call",
    "in_call",
    "after_call",
    "while_recording",
    "after_recording",
)


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def arm(point: str) -> None:
    """Puts the point into this process."""
    call, end = handover._call, repository.end
    suppress = repository.suppress

    async def dying_suppress(*arguments: Any) -> None:
        die()
        await suppress(*arguments)

    async def dying_call(*arguments: Any) -> Any:
        if point == "before_call":
            die()
        if point == "in_call":
            # long enough for the request to be on its way, too short for its answer
            asyncio.get_running_loop().call_later(3.0, die)
        answer = await call(*arguments)
        if point == "after_call":
            die()
        return answer

    async def dying_end(*arguments: Any, **given: Any) -> bool:
        done = await end(*arguments, **given)
        if point == "while_recording":
            die()  # not committed
        if point == "after_recording":
            asyncio.get_running_loop().call_later(0.2, die)
        return done

    if point == "after_claim":
        repository.suppress = dying_suppress  # type: ignore[assignment]
    handover._call = dying_call  # type: ignore[assignment]
    repository.end = dying_end


if __name__ == "__main__":
    if sys.argv[1] != "none":
        arm(sys.argv[1])
    asyncio.run(serve(Settings()))
