"""A tiny real HTTP server that misbehaves on request."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, MutableMapping
from dataclasses import dataclass, field

from tests.support.serving import serving as on_a_port

Message = MutableMapping[str, object]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]

JSON = [(b"content-type", b"application/json; charset=utf-8")]
MEGABYTE = b" " * 1024 * 1024


@dataclass
class Server:
    """What to do next, and what was asked."""

    url: str = ""
    behaviour: str = "ok"
    requests: list[tuple[str, str]] = field(default_factory=list)
    headers: dict[bytes, bytes] = field(default_factory=dict)
    drips: int = 0

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        assert scope["type"] == "http"
        self.requests.append((str(scope["method"]), str(scope["path"])))
        self.headers = dict(scope["headers"])  # type: ignore[call-overload]
        await getattr(self, f"_{self.behaviour}")(receive, send)

    async def _ok(self, _: Receive, send: Send) -> None:
        await answer(send, 200, b'{"account_id":"acc"}')

    async def _garbage(self, _: Receive, send: Send) -> None:
        await answer(send, 200, b"<html>not json")

    async def _redirect(self, _: Receive, send: Send) -> None:
        await send(
            {
                "type": "http.response.start",
                "status": 302,
                "headers": [(b"location", f"{self.url}/elsewhere".encode())],
            }
        )
        await send({"type": "http.response.body", "body": b""})

    async def _hang(self, receive: Receive, _: Send) -> None:
        while (await receive())["type"] != "http.disconnect":
            pass

    async def _drip(self, _: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": JSON})
        with contextlib.suppress(Exception):
            for _i in range(600):
                await send({"type": "http.response.body", "body": b" ", "more_body": True})
                self.drips += 1
                await asyncio.sleep(0.05)

    async def _flood(self, _: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": JSON})
        with contextlib.suppress(Exception):
            for _i in range(200):
                await send({"type": "http.response.body", "body": MEGABYTE, "more_body": True})
                await asyncio.sleep(0)

    async def _cut(self, _: Receive, send: Send) -> None:
        headers = [*JSON, (b"content-length", b"1000")]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": b"{", "more_body": True})
        raise ConnectionResetError


async def answer(send: Send, status: int, body: bytes) -> None:
    """Send a whole answer."""
    await send({"type": "http.response.start", "status": status, "headers": JSON})
    await send({"type": "http.response.body", "body": body})


@contextlib.asynccontextmanager
async def serving(app: Server) -> AsyncIterator[Server]:
    """Run the server on a free port of the loopback."""
    async with on_a_port(app) as app.url:
        yield app
