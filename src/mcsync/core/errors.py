"""The error tree of mcsync.

::

    McsyncError
    ├── BadRequestError        400  understood, but cannot be acted on as asked
    ├── UnauthenticatedError   401  no token, or one that is not valid (any more)
    ├── ForbiddenError         403  the token's scopes do not allow this
    ├── NotFoundError          404  no such object in this organisation
    ├── ConflictError          409  the object's state does not allow this now
    ├── TooLargeError          413  the body is larger than the limit
    ├── UnsupportedMediaError  415  the body is not of a type this procedure takes
    ├── ThrottledError         429  too many requests; see ``retry_after``
    ├── UpstreamRefusedError   502  Mailchimp refused what we asked for
    ├── UnavailableError       503  a part that is needed is down or busy; see ``retry_after``
    └── UpstreamTimeoutError   504  Mailchimp did not answer in time

What becomes which HTTP answer is decided once, in ``core/web/errors.py``. 422 is kept for bodies that
do not match their schema (raised by FastAPI). The ``code`` is stable and documented; the ``detail``
says what to do, and never repeats a submitted value.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar


@dataclass(frozen=True, slots=True)
class FieldProblem:
    """One thing wrong with one field; ``pointer`` is a JSON pointer into the body (RFC 6901)."""

    pointer: str
    code: str
    message: str


class McsyncError(Exception):
    """Base of every expected error: an HTTP status, a stable code and a sentence that helps."""

    status: ClassVar[int] = 500
    default_code: ClassVar[str] = "internal_error"
    title: ClassVar[str] = "Something went wrong on our side"

    def __init__(
        self,
        detail: str,
        *,
        code: str | None = None,
        errors: Sequence[FieldProblem] = (),
        retry_after: int | None = None,
        extra: dict[str, object] | None = None,
    ) -> None:
        super().__init__(detail)
        self.detail = detail
        self.code = code or self.default_code
        self.errors = tuple(errors)
        self.retry_after = retry_after
        self.extra = extra or {}


class BadRequestError(McsyncError):
    """400: the body is well-formed, but cannot be acted on."""

    status = 400
    default_code = "bad_request"
    title = "The request cannot be carried out as asked"


class UnauthenticatedError(McsyncError):
    """401: no token, or one that is not valid (any more)."""

    status = 401
    default_code = "unauthenticated"
    title = "A valid token is needed"


class ForbiddenError(McsyncError):
    """403: the token is valid, but its scopes do not allow this."""

    status = 403
    default_code = "forbidden"
    title = "The token does not allow this"


class NotFoundError(McsyncError):
    """404: no such object in this organisation (a foreign organisation's looks the same)."""

    status = 404
    default_code = "not_found"
    title = "Not found"


class ConflictError(McsyncError):
    """409: the object's present state does not allow this."""

    status = 409
    default_code = "conflict"
    title = "Not possible in the present state"


class TooLargeError(McsyncError):
    """413: the body is larger than the limit of this procedure."""

    status = 413
    default_code = "too_large"
    title = "The body is too large"


class UnsupportedMediaError(McsyncError):
    """415: the body's content type is not one this procedure takes."""

    status = 415
    default_code = "unsupported_media_type"
    title = "This content type is not supported here"


class ThrottledError(McsyncError):
    """429: too many requests; ``retry_after`` says when to come back, in seconds."""

    status = 429
    default_code = "too_many_requests"
    title = "Too many requests"


class UpstreamRefusedError(McsyncError):
    """502: Mailchimp refused; never shown as our own 401 or 403."""

    status = 502
    default_code = "mailchimp_refused"
    title = "Mailchimp refused the request"


class UnavailableError(McsyncError):
    """503: something that is needed is down or busy; try again after ``retry_after`` seconds."""

    status = 503
    default_code = "unavailable"
    title = "Temporarily unavailable"


class UpstreamTimeoutError(McsyncError):
    """504: Mailchimp did not answer in time."""

    status = 504
    default_code = "mailchimp_timeout"
    title = "Mailchimp did not answer in time"
