"""Whether a worker works: what it notices about itself, and the port where others ask.

The port is served by a thread of its own. A worker whose event loop is stuck still answers, and says so;
one that is suspended does not answer at all.
"""

from __future__ import annotations

import asyncio
import functools
import os
import socket
import threading
import time
from collections.abc import Awaitable, Callable, Coroutine
from concurrent.futures import TimeoutError as FutureTimeoutError
from typing import TYPE_CHECKING, Any, Final

from mcsync.core.db.heartbeats import SILENT_SECONDS

if TYPE_CHECKING:
    import uvicorn
    from starlette.applications import Starlette

TURN_SECONDS: Final = 0.5
"""How often the event loop shows that it turns."""
LOOP_STUCK_SECONDS: Final = 20.0
"""An event loop that has not turned within this time is stuck."""
DISPATCHER_STUCK_SECONDS: Final = 60.0
"""A dispatcher that has not ended a turn within this time, although PostgreSQL answers, is stuck."""
NOT_TAKING_SECONDS: Final = 300.0
"""A worker with room that begins no job within this time, although work is due, takes none."""
_ANSWER_SECONDS: Final = 4.0
_END_SECONDS: Final = 0.5

Checks = Callable[[], Awaitable[dict[str, str]]]
"""What the process stands on, by name: ``ok``, or what is wrong (see ``core/web/health.py``)."""


class PortTakenError(Exception):
    """The health port cannot be opened; the message says which and why."""


class Pulse:
    """What a worker notices about itself. Only the event loop writes it; any thread may read it."""

    def __init__(self, *, room: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._room = room
        now = clock()
        self._turned = self._dispatched = self._beaten = self._began = now
        self._due_since: float | None = None
        self._failing = False
        self.jobs = 0
        """Jobs under way."""

    def work_begins(self) -> None:
        """The dispatcher and the heartbeats begin now: the time before counts against neither."""
        self._dispatched = self._beaten = self._began = self._clock()

    async def turn(self) -> None:
        """Shows again and again that the event loop turns; until cancelled."""
        while True:
            self._turned = self._clock()
            await asyncio.sleep(TURN_SECONDS)

    def dispatched(self, due: int) -> None:
        """The dispatcher ended a turn; so many rows were due."""
        self._dispatched = self._clock()
        self._failing = False
        if not due:
            self._due_since = None
        elif self._due_since is None:
            self._due_since = self._dispatched

    def dispatch_failed(self) -> None:
        """The dispatcher's turn ended with an error: it is not stuck, but nothing was looked for."""
        self._failing = True
        self._dispatched = self._clock()

    def beaten(self) -> None:
        """A heartbeat was written."""
        self._beaten = self._clock()

    def counted(
        self, work: Callable[..., Coroutine[Any, Any, None]]
    ) -> Callable[..., Coroutine[Any, Any, None]]:
        """The job's function, which notes that a job began and ended."""

        @functools.wraps(work)
        async def counting(*arguments: Any, **named: Any) -> None:
            self._began = self._clock()
            self.jobs += 1
            try:
                await work(*arguments, **named)
            finally:
                self.jobs -= 1

        return counting

    @property
    def dispatch_seconds(self) -> float:
        """Since the dispatcher ended a turn."""
        return self._clock() - self._dispatched

    @property
    def idle_seconds(self) -> float:
        """Since a job was begun."""
        return self._clock() - self._began

    def loop(self) -> str:
        """``ok``, or ``stuck``: the event loop does not turn."""
        return "stuck" if self._clock() - self._turned > LOOP_STUCK_SECONDS else "ok"

    def dispatcher(self) -> str:
        """``ok``; ``failing``; or ``stuck``: its turn does not end although heartbeats reach PostgreSQL.

        Where they do not either it is PostgreSQL that hangs, which no restart of this worker mends.
        """
        if self.dispatch_seconds > DISPATCHER_STUCK_SECONDS and self.heartbeat() == "ok":
            return "stuck"
        return "failing" if self._failing else "ok"

    def heartbeat(self) -> str:
        """``ok``, or ``missing``: none was written lately, so others take this worker for dead."""
        return "missing" if self._clock() - self._beaten > SILENT_SECONDS else "ok"

    def taking(self) -> str:
        """``ok``, or ``none``: work has been due for minutes, there is room, and no job was begun."""
        now, since = self._clock(), self._due_since
        starved = since is not None and min(now - since, now - self._began) > NOT_TAKING_SECONDS
        return "none" if starved and self.jobs < self._room else "ok"

    def alive(self) -> dict[str, str]:
        """What ``/health/live`` answers."""
        parts = {"loop": self.loop(), "dispatcher": self.dispatcher()}
        return {"status": "stuck" if "stuck" in parts.values() else "ok"} | parts

    def ready(self, found: dict[str, str]) -> dict[str, str]:
        """What ``/health/ready`` answers, given what the checks of its servers found (with ``status``)."""
        own = {
            "loop": self.loop(), "dispatcher": self.dispatcher(),
            "heartbeat": self.heartbeat(), "work": self.taking(),
        }  # fmt: skip
        status = found.get("status", "unavailable")
        # without Redis nothing rings; what is due is taken as soon as it is back
        excused = {"work"} if found.get("redis") != "ok" else set[str]()
        if any(state != "ok" for name, state in own.items() if name not in excused):
            status = "unavailable"
        return found | own | {"status": status}


class HealthPort:
    """``GET`` and ``HEAD`` of ``/health/live`` and ``/health/ready`` at an address, as the API has them.

    Made in the event loop that it tells about. Raises :class:`PortTakenError` where the address cannot be had.
    """

    def __init__(self, pulse: Pulse, checks: Checks, *, host: str, port: int) -> None:
        self._pulse = pulse
        self._checks = checks
        self._loop = asyncio.get_running_loop()
        self._socket = _listening(host, port)
        self._server: uvicorn.Server | None = None
        self._thread = threading.Thread(target=self._serve, name="health-port", daemon=True)

    @property
    def port(self) -> int:
        """The port it listens at; useful where port 0 was asked for."""
        port: int = self._socket.getsockname()[1]
        return port

    def start(self) -> None:
        """Begins to answer."""
        import uvicorn

        config = uvicorn.Config(
            self._app(), access_log=False, log_config=None, lifespan="off", loop="asyncio",
            server_header=False, timeout_graceful_shutdown=1, ws="none",
        )  # fmt: skip
        self._server = uvicorn.Server(config)
        self._thread.start()

    async def stop(self) -> None:
        """Ends answering, within half a second even where somebody is being answered."""
        if self._server is not None:
            self._server.should_exit = True
            await asyncio.to_thread(self._thread.join, _END_SECONDS)
            if self._thread.is_alive():
                self._server.force_exit = True
        self._socket.close()

    def _serve(self) -> None:
        assert self._server is not None
        self._server.run(sockets=[self._socket])

    def _app(self) -> Starlette:
        from starlette.applications import Starlette
        from starlette.concurrency import run_in_threadpool
        from starlette.requests import Request
        from starlette.responses import JSONResponse
        from starlette.routing import Route

        def answer(said: dict[str, str], *, good: bool) -> JSONResponse:
            headers = {"Cache-Control": "no-store"}
            return JSONResponse(said, status_code=200 if good else 503, headers=headers)

        async def live(_: Request) -> JSONResponse:
            said = self._pulse.alive()
            return answer(said, good=said["status"] == "ok")

        async def ready(_: Request) -> JSONResponse:
            said = await run_in_threadpool(self._ready)
            return answer(said, good=said["status"] in {"ok", "degraded"})

        return Starlette(
            routes=[Route("/health/live", live), Route("/health/ready", ready)]  # GET and HEAD
        )

    def _ready(self) -> dict[str, str]:
        """Asks the worker's loop for its servers, for as long as a probe may wait."""
        asking = asyncio.run_coroutine_threadsafe(_whole(self._checks), self._loop)
        try:
            found: dict[str, Any] = asking.result(_ANSWER_SECONDS)
        except FutureTimeoutError:
            asking.cancel()
            found = {"status": "unavailable"}
        except Exception as error:  # noqa: BLE001 - a probe answers whatever happens
            found = {"status": "unavailable", "error": type(error).__name__}
        return self._pulse.ready(found)


async def _whole(checks: Checks) -> dict[str, str]:
    return await checks()


def _listening(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, port), family=family, backlog=64)
    except OSError as error:
        message = (
            f"The health port {host}:{port} cannot be opened: {os.strerror(error.errno or 0)}."
            " Choose another with --port, or end the process that has it."
        )
        raise PortTakenError(message) from error
