"""What becomes which HTTP answer, once for all: RFC 9457 problem documents.

No answer repeats a submitted value: not in ``detail``, not in ``errors``, not in a pointer.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from socket import gaierror
from typing import Any, Final

import orjson
import structlog
from asyncpg import InterfaceError, PostgresError
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from redis.exceptions import RedisError
from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError
from starlette.exceptions import HTTPException
from starlette.responses import Response

from mcsync import mailchimp
from mcsync.core import errors
from mcsync.core.crypto import SecretError
from mcsync.core.db.troubles import WORDS, trouble_of
from mcsync.core.errors import FieldProblem, McsyncError
from mcsync.core.logging import cause_of
from mcsync.core.web.problems import problem_kind

PROBLEM_TYPE: Final = "application/problem+json"
_RETRY_SECONDS: Final = 30
_SOON_SECONDS: Final = 5
_EXPECTED: Final = "Input should be "
_PLAIN_NAME: Final = re.compile(r"^[A-Za-z_]{1,30}[0-9]{0,2}$")
"""A field name that may be repeated in a pointer; whatever looks otherwise could be a secret."""

_log = structlog.get_logger(__name__)


def problem_body(error: McsyncError, request_id: str | None = None) -> dict[str, object]:
    """The problem document of an error. Its ``instance`` is the request's id: a path may hold secrets."""
    kind = problem_kind(error.code, error.status, error.title)
    body: dict[str, object] = {
        "type": f"/problems/{kind.code}",
        "title": kind.title,
        "status": error.status,
        "detail": error.detail,
        "code": error.code,
        "errors": [
            {"pointer": one.pointer, "code": one.code, "message": one.message}
            for one in error.errors
        ],
    }
    if request_id:
        body["instance"] = f"urn:mcsync:request:{request_id}"
        body["requestId"] = request_id
    if error.retry_after is not None:
        body["retryAfter"] = error.retry_after
    return {**error.extra, **body}


def problem_response(
    error: McsyncError,
    *,
    request_id: str | None = None,
    headers: Mapping[str, str] | None = None,
) -> Response:
    """The HTTP answer of an error."""
    sent = dict(headers or {})
    if error.retry_after is not None:
        sent["Retry-After"] = str(error.retry_after)
    if error.status == errors.UnauthenticatedError.status:
        sent["WWW-Authenticate"] = 'Bearer realm="mcsync"'
    body = problem_body(error, request_id)
    return Response(
        orjson.dumps(body), status_code=error.status, headers=sent, media_type=PROBLEM_TYPE
    )


class _InternalError(McsyncError):
    """500: nobody expected this."""


class InvalidRequestError(McsyncError):
    """422: the request does not match its schema."""

    status = 422
    default_code = "invalid_request"
    title = "The request does not match its schema"


class _HttpError(McsyncError):
    """What the framework itself refuses."""

    def __init__(self, status: int, code: str, detail: str) -> None:
        super().__init__(detail, code=code)
        self.status = status  # type: ignore[misc]


def as_mcsync_error(error: Exception) -> McsyncError:
    """The expected error that an exception stands for; a plain 500 for what nobody expected."""
    match error:
        case McsyncError():
            return error
        case RequestValidationError():
            return _invalid(error.errors(), error.body)
        case HTTPException():
            return _http(error)
        case mailchimp.MailchimpError():
            return _mailchimp(error)
        case SecretError():
            message = "A stored secret cannot be read; an operator has to look at the master keys."
            return _InternalError(message, code="secret_unreadable")
        case RedisError() | PoolTimeoutError():
            return _passing("A part of the service cannot be reached just now.", _SOON_SECONDS)
    trouble = trouble_of(error)
    if trouble is not None:
        words = WORDS[trouble]
        return errors.UnavailableError(words.detail, code=words.code, retry_after=words.retry_after)
    return _InternalError("The request could not be completed. Report the requestId if it stays.")


def _passing(detail: str, seconds: int) -> McsyncError:
    return errors.UnavailableError(detail, retry_after=seconds)


def _http(error: HTTPException) -> McsyncError:
    match error.status_code:
        case 404:
            return _HttpError(404, "no_such_procedure", "There is no such procedure; see /docs.")
        case 405:
            return _HttpError(405, "method_not_allowed", "Queries are GET, mutations are POST.")
        case 413:
            return errors.TooLargeError("The body is larger than this procedure takes.")
        case 400:
            return errors.BadRequestError("The body could not be read.")
        case status:
            return _HttpError(status, f"http_{status}", "The request was refused.")


def _mailchimp(error: mailchimp.MailchimpError) -> McsyncError:
    upstream = {
        "upstream": {"status": error.status, "title": error.title, "instance": error.instance}
    }
    wait = math.ceil(error.retry_after or _RETRY_SECONDS)
    match error:
        case mailchimp.MailchimpTimeout():
            message = "Mailchimp did not answer in time."
            return errors.UpstreamTimeoutError(message, extra={**upstream})
        case mailchimp.ThrottledError():
            message = "Mailchimp is receiving too many requests of this account."
            return errors.UnavailableError(
                message, code="mailchimp_busy", retry_after=wait, extra={**upstream}
            )
        case mailchimp.UnsafeConnectionError():
            return errors.UnavailableError(
                error.title, code="mailchimp_unavailable", retry_after=wait, extra={**upstream}
            )
        case mailchimp.TransientError():
            message = "Mailchimp cannot be reached, or is in trouble itself."
            return errors.UnavailableError(
                message, code="mailchimp_unavailable", retry_after=wait, extra={**upstream}
            )
        case mailchimp.CredentialError():
            message = "Mailchimp refuses the connected API key; connect a new one."
            return errors.UpstreamRefusedError(
                message, code="mailchimp_key_refused", extra={**upstream}
            )
    return errors.UpstreamRefusedError("Mailchimp refused this request.", extra={**upstream})


def _invalid(found: Sequence[Any], body: object) -> McsyncError:
    if isinstance(body, bytes):  # another content type: it was not even looked at
        wanted = "Send a JSON object, with the header Content-Type: application/json."
        return InvalidRequestError(wanted, errors=[FieldProblem("", "json_expected", wanted)])
    by_place: dict[tuple[object, ...], list[Mapping[str, Any]]] = {}
    for one in found:
        by_place.setdefault(_place(one, body), []).append(one)
    problems = [_field_problem(place, several) for place, several in by_place.items()]
    return InvalidRequestError(
        "The request does not match its schema; see errors.", errors=problems
    )


def _place(found: Mapping[str, Any], body: object) -> tuple[object, ...]:
    """Where it is wrong. Of a union, pydantic also names the kind it tried: no part of the body."""
    where, *path = found.get("loc") or ("body",)
    if where != "body":
        return (where, *path[:1])
    place, at = [where], body
    for number, part in enumerate(path):
        lacking = number == len(path) - 1 and found.get("type") == "missing"
        if isinstance(at, Mapping) and (part in at or lacking):
            at = at.get(part)
        elif isinstance(at, list) and isinstance(part, int) and part < len(at):
            at = at[part]
        else:
            continue
        place.append(part)
    return tuple(place)


def _field_problem(place: tuple[object, ...], several: Sequence[Mapping[str, Any]]) -> FieldProblem:
    """One problem of a place; where several kinds are possible, that of the kind which was meant."""
    meant = [one for one in several if not str(one.get("type", "")).endswith("_type")]
    found = (meant or several)[0]
    kind, message = str(found.get("type", "invalid")), str(found.get("msg", ""))
    if kind == "json_invalid":
        return FieldProblem("", "json_invalid", "The body is not valid JSON.")
    if "valid email address" in message:
        # pydantic's own text repeats parts of the address
        kind, message = "invalid_email", "Not a valid e-mail address."
    if not meant:
        others = {str(one.get("msg", "")).removeprefix(_EXPECTED): None for one in several}
        message = _EXPECTED + " or ".join(others) if len(others) > 1 else message
    where, path = place[0], place[1:]
    if where == "body":
        pointer = "".join(f"/{_plain(part)}" for part in path)
    else:
        pointer = f"{'?' if where == 'query' else f'{where}:'}{_plain(path[0]) if path else ''}"
    return FieldProblem(pointer, kind, message.removeprefix("Value error, "))


def _plain(part: object) -> str:
    """A part of a pointer; ``*`` for a key that the caller chose and that could be anything."""
    if isinstance(part, int) or _PLAIN_NAME.match(str(part)):
        return str(part)
    return "*"


ACTOR: Final = "mcsync.actor"
"""Where in the ASGI scope the caller is noted once its token is known, for the access log."""


def request_id_of(scope: Mapping[str, Any]) -> str | None:
    """The id that the middleware gave to the request."""
    found = scope.get("mcsync.request_id")
    return found if isinstance(found, str) else None


def log_failure(error: Exception, expected: McsyncError) -> None:
    """One line for a request that failed for a reason that is known: ``expected``, as which ``error`` counts."""
    trouble, kind = trouble_of(error), cause_of(error)
    # One outage has many kinds of errors: the log tells of it under one name.
    named = kind if trouble is None else f"database_{trouble.value}"
    _log.warning("request_failed", code=expected.code, error=named, type=kind)


async def handle(request: Request, error: Exception) -> Response:
    """The one exception handler."""
    expected = as_mcsync_error(error)
    if isinstance(expected, _InternalError) or expected.status == errors.UnavailableError.status:
        log_failure(error, expected)
    headers = error.headers if isinstance(error, HTTPException) else None
    return problem_response(
        expected,
        request_id=request_id_of(request.scope),
        headers={name: value for name, value in (headers or {}).items() if name == "Allow"},
    )


def install_error_handlers(app: FastAPI) -> None:
    """Makes every error of the app a problem document. Unexpected ones: see the middleware."""
    for kind in (
        McsyncError,
        RequestValidationError,
        HTTPException,
        mailchimp.MailchimpError,
        SecretError,
        RedisError,
        PoolTimeoutError,
        DBAPIError,
        PostgresError,
        InterfaceError,
        ConnectionError,
        gaierror,
    ):
        app.add_exception_handler(kind, handle)
