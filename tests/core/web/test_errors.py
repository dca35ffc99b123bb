"""Every error has one shape, and repeats nothing of what was sent."""

from __future__ import annotations

import io
import json
from collections.abc import AsyncIterator, Callable
from typing import Any

import httpx
import pytest
from asyncpg.exceptions import AdminShutdownError, DeadlockDetectedError, UniqueViolationError
from fastapi import FastAPI
from redis.exceptions import ConnectionError as RedisConnectionError
from sqlalchemy.exc import DBAPIError, IntegrityError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError
from starlette.responses import StreamingResponse

from mcsync import mailchimp
from mcsync.core import errors
from mcsync.core.crypto import UndecryptableError, UnknownKeyError
from tests.support.organisations import Org

CANARY = "canary.person@example.org"
KEY = "0123456789abcdef0123456789abcdef-us6"


def _throttled(seconds: float) -> mailchimp.ThrottledError:
    error = mailchimp.ThrottledError("Too Many Requests", status=429)
    error.retry_after = seconds
    return error


def _database(kind: type[Exception]) -> DBAPIError:
    return DBAPIError(f"select '{CANARY}'", {"email": CANARY}, kind(f"about {CANARY}"))


CASES: dict[str, tuple[Callable[[], Exception], int, str, int | None]] = {
    "bad request": (lambda: errors.BadRequestError("d"), 400, "bad_request", None),
    "unauthenticated": (lambda: errors.UnauthenticatedError("d"), 401, "unauthenticated", None),
    "forbidden": (lambda: errors.ForbiddenError("d"), 403, "forbidden", None),
    "not found": (lambda: errors.NotFoundError("d"), 404, "not_found", None),
    "conflict": (lambda: errors.ConflictError("d", code="odd_state"), 409, "odd_state", None),
    "too large": (lambda: errors.TooLargeError("d"), 413, "too_large", None),
    "media": (lambda: errors.UnsupportedMediaError("d"), 415, "unsupported_media_type", None),
    "throttled": (lambda: errors.ThrottledError("d", retry_after=7), 429, "too_many_requests", 7),
    "upstream refused": (lambda: errors.UpstreamRefusedError("d"), 502, "mailchimp_refused", None),
    "unavailable": (lambda: errors.UnavailableError("d", retry_after=3), 503, "unavailable", 3),
    "upstream slow": (lambda: errors.UpstreamTimeoutError("d"), 504, "mailchimp_timeout", None),
    "mailchimp slow": (lambda: mailchimp.MailchimpTimeout("x"), 504, "mailchimp_timeout", None),
    "mailchimp busy": (lambda: _throttled(4.2), 503, "mailchimp_busy", 5),
    "mailchimp down": (
        lambda: mailchimp.TransientError("x", status=500),
        503,
        "mailchimp_unavailable",
        30,
    ),
    "mailchimp key": (
        lambda: mailchimp.CredentialError("API Key Invalid", status=401, detail=CANARY),
        502,
        "mailchimp_key_refused",
        None,
    ),
    "mailchimp 404": (
        lambda: mailchimp.NotFoundError("Resource Not Found", status=404, detail=CANARY),
        502,
        "mailchimp_refused",
        None,
    ),
    "mailchimp 400": (
        lambda: mailchimp.RefusedError("Invalid", status=400, detail=CANARY),
        502,
        "mailchimp_refused",
        None,
    ),
    "unknown key": (lambda: UnknownKeyError("k"), 500, "secret_unreadable", None),
    "moved secret": (lambda: UndecryptableError("k"), 500, "secret_unreadable", None),
    "redis": (lambda: RedisConnectionError("x"), 503, "unavailable", 5),
    "no connection free": (lambda: PoolTimeoutError("x"), 503, "unavailable", 5),
    "no database": (lambda: ConnectionRefusedError("x"), 503, "unavailable", 5),
    "deadlock": (lambda: _database(DeadlockDetectedError), 503, "unavailable", 1),
    "broken rule": (
        lambda: IntegrityError("x", {"a": CANARY}, UniqueViolationError(f"Key ({CANARY})")),
        500,
        "internal_error",
        None,
    ),
    "unexpected": (lambda: RuntimeError(f"{CANARY} {KEY}"), 500, "internal_error", None),
}


def _is_problem(answer: httpx.Response, status: int, code: str) -> dict[str, Any]:
    assert answer.status_code == status
    assert answer.headers["content-type"] == "application/problem+json"
    body: dict[str, Any] = answer.json()
    assert set(body) >= {"type", "title", "status", "detail", "code", "errors", "requestId"}
    assert (body["status"], body["code"]) == (status, code)
    assert body["requestId"] == answer.headers["x-request-id"]
    return body


@pytest.mark.parametrize("name", CASES)
async def test_every_error_has_the_one_shape(
    name: str, app: FastAPI, anonymous: httpx.AsyncClient, log: io.StringIO
) -> None:
    make, status, code, retry_after = CASES[name]

    @app.get("/raise")
    async def route() -> None:
        raise make()

    answer = await anonymous.get("/raise", params={"email": CANARY})
    body = _is_problem(answer, status, code)
    assert body.get("retryAfter") == retry_after
    assert answer.headers.get("retry-after") == (str(retry_after) if retry_after else None)
    for canary in (CANARY, KEY):
        assert canary not in answer.text
        assert canary not in log.getvalue()


class TestFramework:
    async def test_unknown_path(self, anonymous: httpx.AsyncClient) -> None:
        _is_problem(await anonymous.get("/mailchimp/nothing"), 404, "no_such_procedure")

    async def test_wrong_method_names_the_right_one(self, anonymous: httpx.AsyncClient) -> None:
        answer = await anonymous.get("/mailchimp/probe/act")
        _is_problem(answer, 405, "method_not_allowed")
        assert answer.headers["allow"] == "POST"

    async def test_too_large_a_body(self, owner: httpx.AsyncClient, app: FastAPI) -> None:
        limit = app.state.resources.settings.max_body_bytes
        keyed: dict[str, str] = {"Idempotency-Key": "k1"}
        for headers in ({}, keyed):
            answer = await owner.post(
                "/mailchimp/probe/act",
                content=b'{"name": "' + b"x" * limit + b'"}',
                headers={"Content-Type": "application/json", **headers},
            )
            _is_problem(answer, 413, "too_large")

    async def test_a_stream_has_no_limit(self, owner: httpx.AsyncClient, app: FastAPI) -> None:
        limit = app.state.resources.settings.max_body_bytes
        answer = await owner.post(
            "/mailchimp/probe/stream",
            content=b"x" * (limit * 2),
            headers={"Content-Type": "text/csv"},
        )
        assert answer.json()["seq"] == limit * 2


class TestValidation:
    async def _errors(
        self, owner: httpx.AsyncClient, *, path: str = "/mailchimp/probe/act", **sent: Any
    ) -> list[dict[str, str]]:
        headers = {"Content-Type": "application/json"} if "content" in sent else {}
        answer = await owner.post(path, headers=headers, **sent)
        body = _is_problem(answer, 422, "invalid_request")
        assert CANARY not in answer.text
        assert KEY not in answer.text
        found: list[dict[str, str]] = body["errors"]
        return found

    async def test_points_at_the_field(self, owner: httpx.AsyncClient) -> None:
        (error,) = await self._errors(owner, json={"name": 7})
        assert (error["pointer"], error["code"]) == ("/name", "string_type")
        (error,) = await self._errors(owner, json={})
        assert (error["pointer"], error["code"]) == ("/name", "missing")

    async def test_unknown_fields_are_refused_and_secrets_in_names_not_repeated(
        self, owner: httpx.AsyncClient
    ) -> None:
        plain, *secrets = await self._errors(
            owner, json={"name": "x", "extra": CANARY, CANARY: 1, KEY: 2}
        )
        assert plain["pointer"] == "/extra"
        assert {error["pointer"] for error in secrets} == {"/*"}

    async def test_one_of_several_kinds_is_pointed_at_once(self, owner: httpx.AsyncClient) -> None:
        sent = {"kind": "room", "values": {"floor": [], "str": {}}}
        errors = await self._errors(
            owner, path="/mailchimp/probe/things", json={"things": [sent, {"values": {}}]}
        )
        assert [(error["pointer"], error["code"]) for error in errors] == [
            ("/things/0/values/floor", "string_type"),
            ("/things/0/values/str", "string_type"),
            ("/things/1/kind", "missing"),
        ]
        assert errors[0]["message"].startswith("Input should be a valid string or a valid integer")

    async def test_broken_json(self, owner: httpx.AsyncClient) -> None:
        (error,) = await self._errors(owner, content=f'{{"name": "{CANARY}"'.encode())
        assert (error["pointer"], error["code"]) == ("", "json_invalid")

    @pytest.mark.parametrize("kind", [None, "text/plain", "application/x-www-form-urlencoded"])
    async def test_what_is_not_said_to_be_json_is_told_so(
        self, owner: httpx.AsyncClient, kind: str | None
    ) -> None:
        content = f'{{"name": "{CANARY}"}}'.encode()
        headers = {"Content-Type": kind} if kind else {}
        answer = await owner.post("/mailchimp/probe/act", content=content, headers=headers)
        body = _is_problem(answer, 422, "invalid_request")
        assert "Content-Type: application/json" in body["detail"]
        assert [error["code"] for error in body["errors"]] == ["json_expected"]
        assert CANARY not in answer.text

    @pytest.mark.parametrize(
        ("raw", "code"),
        [(b'"a\\u0000b"', "nul_character"), (b'"\\ud800"', "invalid_text")],
    )
    async def test_text_that_cannot_be_stored(
        self, owner: httpx.AsyncClient, raw: bytes, code: str
    ) -> None:
        (error,) = await self._errors(owner, content=b'{"name": ' + raw + b"}")
        assert error["code"] == code

    async def test_query_parameters(self, owner: httpx.AsyncClient) -> None:
        answer = await owner.get("/mailchimp/audit/list", params={"limit": 500})
        body = _is_problem(answer, 422, "invalid_request")
        assert [error["pointer"] for error in body["errors"]] == ["?limit"]

    @pytest.mark.parametrize("cursor", ["x", "AAAA", "é", "eyJhIjoxfQ"])
    async def test_a_mangled_cursor(self, owner: httpx.AsyncClient, cursor: str) -> None:
        answer = await owner.get("/mailchimp/audit/list", params={"cursor": cursor})
        _is_problem(answer, 400, "invalid_cursor")


class TestRequestId:
    async def test_is_taken_over_where_sensible(self, anonymous: httpx.AsyncClient) -> None:
        answer = await anonymous.get("/health/live", headers={"X-Request-Id": "abc-12345"})
        assert answer.headers["x-request-id"] == "abc-12345"

    @pytest.mark.parametrize("given", ["short", "with space 1", "x" * 65, CANARY])
    async def test_is_made_otherwise(self, anonymous: httpx.AsyncClient, given: str) -> None:
        answer = await anonymous.get("/health/live", headers={"X-Request-Id": given})
        assert len(answer.headers["x-request-id"]) == 32

    async def test_access_log_shows_route_and_id_but_no_query(
        self, owner: httpx.AsyncClient, log: io.StringIO
    ) -> None:
        answer = await owner.get("/mailchimp/audit/list", params={"entityId": "query-canary"})
        text = log.getvalue()
        assert "/mailchimp/audit/list" in text
        assert answer.headers["x-request-id"] in text
        assert "query-canary" not in text
        assert "mcs_" not in text

    async def test_access_log_shows_who_called(
        self, owner: httpx.AsyncClient, organisation: Org, onlooker: Any, log: io.StringIO
    ) -> None:
        answer = await owner.get("/mailchimp/audit/list")
        replayed = {"Idempotency-Key": "the-same-one"}
        for _ in range(2):
            await owner.post("/mailchimp/probe/act", json={"name": "seen"}, headers=replayed)
        lines = [json.loads(line) for line in log.getvalue().splitlines()]
        seen = [line for line in lines if line["event"] == "request"]
        assert seen[0]["bytes"] == len(answer.content)
        token = await onlooker.fetchval("select id from service_tokens")
        for line in seen:
            assert line["org"] == str(organisation.id)
            assert line["token_id"] == str(token)
            assert line["client"] == "127.0.0.1"
        assert len(seen) == 3


async def test_a_stream_that_an_outage_cuts_off_is_no_crash(
    app: FastAPI, anonymous: httpx.AsyncClient, log: io.StringIO
) -> None:
    async def rows() -> AsyncIterator[bytes]:
        yield b"row"
        raise _database(AdminShutdownError)

    @app.get("/mailchimp/probe/stream")
    async def stream() -> StreamingResponse:
        return StreamingResponse(rows())

    with pytest.raises(Exception, match=r".*"):  # the connection is cut: half an answer is none
        await anonymous.get("/mailchimp/probe/stream")
    lines = [json.loads(line) for line in log.getvalue().splitlines()]
    assert [(line["event"], line.get("error")) for line in lines] == [
        ("request_failed", "database_starting"),
        ("request", None),
    ]
    assert CANARY not in log.getvalue()
