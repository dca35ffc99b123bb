"""The sandbox on a real socket."""

from __future__ import annotations

import asyncio
import gc
import json
import socket
import sys
from collections.abc import Callable

import uvicorn

from .app import create_app
from .config import SandboxConfig

Ready = Callable[[dict[str, str]], None]


def print_ready(addresses: dict[str, str]) -> None:
    """One line of JSON, for whoever started the process."""
    sys.stdout.write(json.dumps(addresses) + "\n")
    sys.stdout.flush()


class _Server(uvicorn.Server):
    """Tells when it listens."""

    on_listening: Callable[[], None]

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self.on_listening()


async def serve(
    host: str = "127.0.0.1",
    port: int = 0,
    *,
    config: SandboxConfig | None = None,
    on_ready: Ready = print_ready,
) -> None:
    """Serve until SIGTERM or SIGINT (or cancellation). Port 0 takes a free one; `on_ready` is told the addresses."""
    config = config or SandboxConfig()
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.create_server((host, port), family=family, backlog=512)
    # A million members are a million objects that never die: the default thresholds would walk them all the time.
    gc.set_threshold(100_000, 50, 100)
    server = _Server(
        uvicorn.Config(
            create_app(config),
            lifespan="off",
            log_level="warning",
            access_log=False,
            proxy_headers=False,
            server_header=False,
            date_header=False,  # the sandbox has a clock of its own
            timeout_keep_alive=75,
            timeout_graceful_shutdown=1,
        )
    )
    shown = f"[{host}]" if ":" in host else host
    base = f"http://{shown}:{listener.getsockname()[1]}"
    addresses = {
        "url": f"{base}/3.0",
        "control": f"{base}/_sandbox",
        "apiKey": config.api_key,
        "mandrillUrl": f"{base}/api/1.0",
        "mandrillKey": config.mandrill.key,
    }
    server.on_listening = lambda: on_ready(addresses)
    try:
        await server.serve(sockets=[listener])
    finally:
        listener.close()


def run(host: str, port: int, config: SandboxConfig | None = None) -> None:
    """`serve` in an event loop of its own, with uvloop where there is one."""
    with asyncio.Runner(loop_factory=_loop_factory()) as runner:
        runner.run(serve(host, port, config=config))


def _loop_factory() -> Callable[[], asyncio.AbstractEventLoop] | None:
    try:
        import uvloop
    except ImportError:
        return None
    return uvloop.new_event_loop
