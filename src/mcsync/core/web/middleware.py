"""Pure ASGI, so that a request costs microseconds here: its id, its log line, its last net."""

from __future__ import annotations

import re
import secrets
import time
from typing import Final

import structlog
from starlette.datastructures import MutableHeaders
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from structlog.contextvars import bind_contextvars, clear_contextvars

from mcsync.core.errors import FieldProblem, McsyncError, UnavailableError
from mcsync.core.web.deps import body_limit
from mcsync.core.web.errors import (
    ACTOR,
    InvalidRequestError,
    as_mcsync_error,
    log_failure,
    problem_response,
    request_id_of,
)

_REQUEST_ID: Final = re.compile(rb"^[A-Za-z0-9._:-]{8,64}$")
_QUIET: Final = ("/health/", "/docs", "/problems")

_WITHOUT_DATABASE: Final = (*_QUIET, "/openapi.json")
_UNCHECKED: Final = UnavailableError(
    "This process has started, and its database has not answered all that must be known first. Repeat the"
    " request.",
    retry_after=5,
)
_NUL: Final = InvalidRequestError(
    "The query holds a NUL character (%00), which no value can keep.",
    errors=[FieldProblem("?", "nul_character", "Text must not contain NUL characters")],
)

_log = structlog.get_logger("mcsync.access")


class RequestContextMiddleware:
    """Gives every request an id, logs it without query and body, and turns a crash into a problem.

    The id comes from ``X-Request-Id`` where that is sensible, is answered in the same header, and is
    on every log line and audit entry of the request.
    """

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handles one request."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        request_id = _request_id(scope)
        scope["mcsync.request_id"] = request_id
        clear_contextvars()
        bind_contextvars(request_id=request_id)
        began = time.perf_counter()
        status = sent = 0

        async def send_marked(message: Message) -> None:
            nonlocal status, sent
            sent += len(message.get("body", b""))
            if message["type"] == "http.response.start":
                status = message["status"]
                headers = MutableHeaders(scope=message)
                headers["X-Request-Id"] = request_id
                headers.setdefault("X-Content-Type-Options", "nosniff")
                headers.setdefault("Cache-Control", "no-store")
            await send(message)

        try:
            refusal = _refusal(scope)
            if refusal is not None:
                await problem_response(refusal, request_id=request_id)(scope, receive, send_marked)
                return
            await self.app(scope, receive, send_marked)
        except Exception as error:
            expected = as_mcsync_error(error)
            if expected.status == UnavailableError.status:  # in the middle of a stream, mostly
                log_failure(error, expected)
            else:
                _log.exception("request_crashed", route=_route(scope))
            if status:
                raise
            response = problem_response(expected, request_id=request_id)
            await response(scope, receive, send_marked)
        finally:
            path = scope["path"]
            write = _log.debug if path.startswith(_QUIET) else _log.info
            write(
                "request",
                method=scope["method"],
                route=_route(scope),
                status=status,
                ms=round((time.perf_counter() - began) * 1000, 2),
                bytes=sent,
                **_caller(scope),
            )


class StartGateMiddleware:
    """Answers 503 until the database has said whether this process may serve (``core/start.py``).

    Probes and the documentation, which touch no organisation, are answered all the same.
    """

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handles one request."""
        free = scope["type"] != "http" or scope["path"].startswith(_WITHOUT_DATABASE)
        if free or scope["app"].state.resources.start_checked:
            await self.app(scope, receive, send)
            return
        answer = problem_response(_UNCHECKED, request_id=request_id_of(scope))
        await answer(scope, receive, send)


class BodyLimitMiddleware:
    """Ends the reading of a body beyond ``limit`` bytes with a 413.

    A route with a ``max_body_size`` of its own has that limit instead. (FastAPI's limit for a whole app
    answers in plain text and cannot be told otherwise.)
    """

    def __init__(self, app: ASGIApp, limit: int) -> None:
        self.app = app
        self._limit = limit

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handles one request."""
        if scope["type"] != "http" or scope["method"] in {"GET", "HEAD"}:
            await self.app(scope, receive, send)
            return
        size = 0

        async def receive_limited() -> Message:
            nonlocal size
            message = await receive()
            size += len(message.get("body", b""))
            # The route is known by now: nothing reads a body before it is found.
            if size > (body_limit(scope.get("route")) or self._limit):
                raise HTTPException(413)
            return message

        await self.app(scope, receive_limited, send)


def _caller(scope: Scope) -> dict[str, str]:
    """Who called, as far as it is known: the organisation, the token's id, the address.

    The address is the one that the server believes: behind a trusted proxy, what that forwards.
    """
    found = {}
    actor = scope.get(ACTOR)
    if actor is not None:
        found["org"] = str(actor.org_id)
        if actor.id is not None:
            found["token_id"] = str(actor.id)
    if scope.get("client"):
        found["client"] = scope["client"][0]
    return found


def _refusal(scope: Scope) -> McsyncError | None:
    if b"%00" in scope["query_string"]:
        return _NUL
    # Starlette's routes end in $, which would let a line feed pass that a proxy took for another path
    return as_mcsync_error(HTTPException(404)) if scope["path"].endswith("\n") else None


def _request_id(scope: Scope) -> str:
    for name, value in scope["headers"]:
        if name == b"x-request-id" and _REQUEST_ID.match(value):
            return str(value.decode())
    return secrets.token_hex(16)


def _route(scope: Scope) -> str:
    """The template of the route, never the path itself: a path may carry a secret."""
    path = getattr(scope.get("route"), "path", None)
    if isinstance(path, str):
        return path
    # answered before its route was looked up, as replays are; a procedure's path has no parameters
    return scope["path"] if scope["path"] in scope["app"].state.procedures else "(none)"
