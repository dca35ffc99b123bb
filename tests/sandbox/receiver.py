"""A real HTTP server that webhooks can be sent to, and that remembers what came."""

from __future__ import annotations

import contextlib
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, MutableMapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qsl

from tests.support.serving import serving

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]


@dataclass
class Post:
    """One request: its form in the order it came."""

    path: str
    headers: dict[str, str]
    raw: bytes

    @property
    def form(self) -> dict[str, str]:
        return dict(parse_qsl(self.raw.decode(), keep_blank_values=True, strict_parsing=True))

    @property
    def type(self) -> str:
        return self.form["type"]


@dataclass
class Receiver:
    """`get` answers the validator; `answers` are used up by posts, then all are answered 200."""

    url: str = ""
    get: int = 200
    answers: deque[int] = field(default_factory=deque)
    hang: bool = False
    posts: list[Post] = field(default_factory=list)
    probes: list[dict[str, str]] = field(default_factory=list)

    @property
    def types(self) -> list[str]:
        return [post.type for post in self.posts]

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        headers = {name.decode(): value.decode() for name, value in scope["headers"]}
        if scope["method"] == "GET":
            self.probes.append(headers)
            await answer(send, self.get)
            return
        raw = b""
        while True:
            message = await receive()
            raw += message.get("body", b"")
            if not message.get("more_body"):
                break
        self.posts.append(Post(scope["path"], headers, raw))
        if self.hang:
            while (await receive())["type"] != "http.disconnect":
                pass
        await answer(send, self.answers.popleft() if self.answers else 200)


async def answer(send: Send, status: int) -> None:
    """An answer without content; redirects lead to the same place."""
    headers = [(b"content-length", b"0"), (b"location", b"/")]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": b""})


@contextlib.asynccontextmanager
async def receiving() -> AsyncIterator[Receiver]:
    """The receiver on a free port of the loopback."""
    app = Receiver()
    async with serving(app) as app.url:
        yield app
