"""The registry of error codes: what each means and what to do. Feeds the answers, OpenAPI and /problems."""

from __future__ import annotations

from dataclasses import dataclass
from http import HTTPStatus


@dataclass(frozen=True, slots=True)
class ProblemKind:
    """One stable code. ``advice`` tells a caller what to do about it."""

    code: str
    status: int
    title: str
    advice: str


_KINDS: dict[str, ProblemKind] = {}


def register_problem(code: str, status: int, title: str, advice: str) -> ProblemKind:
    """Adds a code to the registry; a feature does so for its own codes at import."""
    kind = ProblemKind(code, status, title, advice)
    _KINDS[code] = kind
    return kind


def problem_kind(code: str, status: int, title: str = "") -> ProblemKind:
    """The registered kind, or one made up from what the error itself says."""
    known = _KINDS.get(code)
    if known is not None and known.status == status:
        return known
    return ProblemKind(code, status, title or HTTPStatus(status).phrase, "")


def all_problems() -> list[ProblemKind]:
    """Every registered kind, by status and code."""
    return sorted(_KINDS.values(), key=lambda kind: (kind.status, kind.code))


for _row in (
    ("bad_request", 400, "The request cannot be carried out as asked", "Read `detail`."),
    ("invalid_cursor", 400, "The cursor is not one of this list",
     "Pass `nextCursor` of the previous page unchanged, or start again without a cursor."),
    ("invalid_idempotency_key", 400, "The Idempotency-Key is not usable",
     "Send one key of 1 to 255 printable ASCII characters, for example a UUID made for this one request."),
    ("unauthenticated", 401, "A valid token is needed",
     "Send `Authorization: Bearer mcs_...` with a token that is neither expired nor revoked."),
    ("forbidden", 403, "The token does not allow this",
     "Use a token of a role with the scope named in `detail`."),
    ("not_found", 404, "Not found",
     "Check the id. Objects of another organisation look as if they did not exist."),
    ("no_such_procedure", 404, "No such procedure", "Check the path; /docs lists all procedures."),
    ("method_not_allowed", 405, "Wrong method", "Queries are GET, mutations are POST."),
    ("conflict", 409, "Not possible in the present state", "Read `detail`."),
    ("not_connected", 409, "No Mailchimp account is connected", "Call connection.connect first."),
    ("account_mismatch", 409, "The key belongs to another Mailchimp account",
     "Disconnect first, or use a key of the connected account."),
    ("idempotency_key_in_use", 409, "The same request is still under way",
     "Repeat it after `retryAfter` seconds with the same key."),
    ("idempotency_key_reused", 409, "The Idempotency-Key belongs to another request",
     "Make a new key for each new request; repeat a key only with the same path and body."),
    ("answer_erased", 409, "The answer to this Idempotency-Key was erased",
     "The request was carried out; look at its outcome instead of repeating it."),
    ("too_large", 413, "The body is too large",
     "Send less at once. contacts.import streams files of any size."),
    ("unsupported_media_type", 415, "This content type is not supported here",
     "Send the content type that the procedure documents."),
    ("invalid_request", 422, "The request does not match its schema",
     "`errors` lists each field with a JSON pointer; submitted values are not repeated."),
    ("too_many_requests", 429, "Too many requests", "Repeat after `retryAfter` seconds."),
    ("internal_error", 500, "Something went wrong on our side",
     "Repeat later. If it stays, report `requestId`: the logs know it."),
    ("secret_unreadable", 500, "A stored secret cannot be read",
     "An operator must configure its master key (`mcsync keys doctor`)."),
    ("mailchimp_refused", 502, "Mailchimp refused the request", "Read `detail` and `upstream`."),
    ("mailchimp_key_refused", 502, "Mailchimp refused the API key",
     "Make a new key at Mailchimp and pass it to connection.connect."),
    ("database_full", 503, "The disk of the database is full",
     "An operator must make room on it. Nothing was kept of the request: repeat it after that."),
    ("database_read_only", 503, "The database takes no changes",
     "An operator must point MCSYNC_DATABASE_URL at the primary server. Repeat the request after that."),
    ("unavailable", 503, "Temporarily unavailable", "Repeat after `retryAfter` seconds."),
    ("mailchimp_busy", 503, "Mailchimp is receiving too many requests",
     "Repeat after `retryAfter` seconds."),
    ("mailchimp_unavailable", 503, "Mailchimp cannot be reached", "Repeat after `retryAfter` seconds."),
    ("mailchimp_timeout", 504, "Mailchimp did not answer in time",
     "The change may have been applied; look before repeating."),
):  # fmt: skip
    register_problem(*_row)
