"""Cross-origin calls (the Fetch standard), for the few paths that pages of other sites may call."""

from __future__ import annotations

from collections.abc import Collection
from typing import Final

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

_ALLOWED_HEADERS: Final = "Authorization, Content-Type, Idempotency-Key"
_SHOWN_HEADERS: Final = "Retry-After, X-Request-Id"
_REMEMBERED_SECONDS: Final = "600"


class CorsMiddleware:
    """Lets browsers on pages of ``origins`` post to ``paths``; knows nothing of all other paths.

    Credentials of the browser are never asked for: the page's own token says who calls.
    """

    def __init__(self, app: ASGIApp, *, paths: Collection[str], origins: Collection[str]) -> None:
        self.app = app
        self._paths = frozenset(paths)
        self._origins = frozenset(origins)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handles one request."""
        if scope["type"] != "http" or scope["path"] not in self._paths or not self._origins:
            await self.app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        origin = headers.get("origin", "")
        known = origin in self._origins

        async def send_marked(message: Message) -> None:
            if message["type"] == "http.response.start":
                answer = MutableHeaders(scope=message)
                answer.add_vary_header("Origin")
                if known:
                    answer["Access-Control-Allow-Origin"] = origin
                    answer["Access-Control-Expose-Headers"] = _SHOWN_HEADERS
            await send(message)

        asked = scope["method"] == "OPTIONS" and "access-control-request-method" in headers
        if known and asked:
            await send_marked(
                {
                    "type": "http.response.start",
                    "status": 204,
                    "headers": [
                        (b"access-control-allow-methods", b"POST"),
                        (b"access-control-allow-headers", _ALLOWED_HEADERS.encode()),
                        (b"access-control-max-age", _REMEMBERED_SECONDS.encode()),
                    ],
                }
            )
            await send({"type": "http.response.body", "body": b""})
            return
        await self.app(scope, receive, send_marked)
