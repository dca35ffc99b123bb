"""The OpenAPI description: what FastAPI knows, completed with what holds for every procedure."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from typing import Any, Final

from fastapi import FastAPI
from fastapi.routing import APIRoute

from mcsync.core.web.errors import PROBLEM_TYPE
from mcsync.core.web.examples import complete_examples
from mcsync.core.web.idempotency import HEADER, REPLAYED
from mcsync.core.web.problems import problem_kind

TITLE: Final = "mcsync"
DESCRIPTION: Final = """\
Keeps Mailchimp audiences true to an organisation's own contacts.

**First steps**: paste a token under *Authorize*; connect a Mailchimp account (`connection`); see its
audiences; import contacts; create a segment; preview it; sync it.

Queries are `GET`, mutations `POST` with a JSON body, at `/mailchimp/<namespace>/<procedure>`. Times are
RFC 3339 in UTC. Lists take `limit` and `cursor` and answer `{items, nextCursor}`. Errors are problem
documents (RFC 9457) with a stable `code`; [all codes](/problems). Every answer carries `X-Request-Id`.
Mutations accept `Idempotency-Key`: sent twice, they happen once and are answered the same.
"""

TAGS: Final = [
    {
        "name": "connection",
        "description": "The link to the organisation's Mailchimp account: one API key, stored encrypted, "
        "never shown again.",
    },
    {
        "name": "audiences",
        "description": "A Mailchimp audience and which contact field feeds which of its merge fields.",
    },
    {
        "name": "contacts",
        "description": "The employees and vendors of the organisation, keyed by the ids of its own "
        "systems; one by one, in batches, or as a streamed file of any size.",
    },
    {
        "name": "preferences",
        "description": "Consent: who opted in or out, when, how, and the proof. A withdrawal reaches "
        "Mailchimp within seconds.",
    },
    {
        "name": "segments",
        "description": "Named filters over contacts, each kept true in one audience by syncs: preview, "
        "sync, watch, approve.",
    },
    {
        "name": "webhooks",
        "description": "How mcsync hears within seconds of what people do at Mailchimp.",
    },
    {
        "name": "sources",
        "description": "Queries against the organisation's own databases, from which contacts are pulled "
        "every night and on demand; set up by operators.",
    },
    {
        "name": "campaigns",
        "description": "Mailchimp campaigns that are followed: their status, opens, clicks and bounces, "
        "now and over time.",
    },
    {
        "name": "subscribers",
        "description": "Single members of an audience: a newsletter form's posts, and what an operator "
        "does for one person.",
    },
    {
        "name": "transactional",
        "description": "Single messages such as confirmations, sent through Mailchimp Transactional "
        "(Mandrill): queued durably, handed over once, with the outcome of every recipient.",
    },
    {"name": "audit", "description": "Who did what, when: append-only and verifiable."},
    {"name": "health", "description": "For load balancers and monitors; needs no token."},
]

_EXAMPLES: Final = {
    400: ("bad_request", "The request cannot be carried out as asked."),
    401: ("unauthenticated", "Send a valid token: it may be mistyped, expired or revoked."),
    403: ("forbidden", "This needs the scope segments:write."),
    404: ("not_found", "There is no such object."),
    409: ("conflict", "The object's present state does not allow this."),
    413: ("too_large", "The body is larger than this procedure takes."),
    415: ("unsupported_media_type", "Send the content type that the procedure documents."),
    422: ("invalid_request", "The request does not match its schema; see errors."),
    429: ("too_many_requests", "Too many requests."),
    500: (
        "internal_error",
        "The request could not be completed. Report the requestId if it stays.",
    ),
    502: ("mailchimp_key_refused", "Mailchimp refuses the connected API key; connect a new one."),
    503: ("unavailable", "A part of the service cannot be reached just now."),
    504: ("mailchimp_timeout", "Mailchimp did not answer in time."),
}
_RETRIED: Final = {429: 5, 503: 5}
_REQUEST_ID: Final = "6f1c1e0b7f3a4f1f9a7f5f0a3c2d1e0b"
_ID_NAME: Final = re.compile(r"^(id|[a-z]+Id)$")
_PROBLEM_REF: Final = {"$ref": "#/components/schemas/Problem"}
_PROBLEM: Final[dict[str, Any]] = {
    "type": "object",
    "title": "Problem",
    "description": "An error (RFC 9457). Submitted values are never repeated in it.",
    "required": ["type", "title", "status", "detail", "code", "errors"],
    "properties": {
        "type": {
            "type": "string",
            "format": "uri-reference",
            "description": "A page about this code.",
        },
        "title": {"type": "string"},
        "status": {"type": "integer"},
        "detail": {"type": "string", "description": "What is wrong, and what to do."},
        "code": {"type": "string", "description": "Stable; decide by it, not by the texts."},
        "instance": {"type": "string", "description": "This one occurrence, by its request id."},
        "requestId": {"type": "string", "description": "As in `X-Request-Id`."},
        "retryAfter": {"type": "integer", "description": "Seconds to wait before repeating."},
        "errors": {
            "type": "array",
            "items": {"$ref": "#/components/schemas/FieldProblem"},
        },
        "upstream": {"$ref": "#/components/schemas/UpstreamProblem"},
    },
}
_FIELD_PROBLEM: Final[dict[str, Any]] = {
    "type": "object",
    "title": "FieldProblem",
    "required": ["pointer", "code", "message"],
    "properties": {
        "pointer": {
            "type": "string",
            "description": "JSON pointer into the body (RFC 6901), or `?name` of a query parameter.",
        },
        "code": {"type": "string"},
        "message": {"type": "string"},
    },
}
_UPSTREAM_PROBLEM: Final[dict[str, Any]] = {
    "type": "object",
    "title": "UpstreamProblem",
    "description": "What Mailchimp said.",
    "required": ["status", "title", "instance"],
    "properties": {
        "status": {"type": ["integer", "null"]},
        "title": {"type": "string"},
        "instance": {"type": "string", "description": "Mailchimp's own id of the call."},
    },
}
_IDEMPOTENCY_PARAMETER: Final[dict[str, Any]] = {
    "name": HEADER,
    "in": "header",
    "required": False,
    "description": (
        "Makes repeating this call safe: 1 to 255 printable ASCII characters, e.g. a UUID made for "
        "this one request. The first success is kept for a day and replayed; failures are not. A key "
        "that is still at work or belongs to another request is a 409. A streamed file is recognised "
        "by path, query, declared length and type, not by its content."
    ),
    "schema": {"type": "string", "minLength": 1, "maxLength": 255, "pattern": "^[!-~]+$"},
}
_REPLAYED_HEADER: Final[dict[str, Any]] = {
    "description": "`true` where this is the stored answer of an earlier, identical request.",
    "schema": {"type": "string", "enum": ["true"]},
}


def operation_id(route: APIRoute) -> str:
    """``<tag>_<function>``, e.g. ``segments_list``: what generated clients call the procedure."""
    return f"{route.tags[0]}_{route.name}" if route.tags else route.name


def problems(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """``responses=`` of a route that has more problems than every route, e.g. ``problems(502, 504)``."""
    return {status: _problem_response(status) for status in statuses}


def _problem_response(status: int) -> dict[str, Any]:
    code, detail = _EXAMPLES[status]
    kind = problem_kind(code, status)
    example: dict[str, Any] = {
        "type": f"/problems/{code}",
        "title": kind.title,
        "status": status,
        "detail": detail,
        "code": code,
        "errors": [],
        "instance": f"urn:mcsync:request:{_REQUEST_ID}",
        "requestId": _REQUEST_ID,
    }
    if status == 422:
        example["errors"] = [{"pointer": "/name", "code": "missing", "message": "Field required"}]
    response: dict[str, Any] = {
        "description": kind.title,
        "content": {PROBLEM_TYPE: {"schema": _PROBLEM_REF, "example": example}},
    }
    if status in _RETRIED:
        example["retryAfter"] = _RETRIED[status]
        response["headers"] = {
            "Retry-After": {
                "description": "Seconds to wait before repeating.",
                "schema": {"type": "integer"},
            }
        }
    return response


def install_openapi(app: FastAPI) -> None:
    """Makes ``app.openapi()`` give the completed description."""
    plain = app.openapi

    def complete() -> dict[str, Any]:
        if app.openapi_schema is None:
            app.openapi_schema = _completed(plain())
        return app.openapi_schema

    app.openapi = complete  # type: ignore[method-assign]


def render_openapi(app: FastAPI) -> str:
    """The description as it is committed: sorted, so that a difference is a difference."""
    return json.dumps(app.openapi(), indent=2, sort_keys=True, ensure_ascii=False) + "\n"


def _completed(schema: dict[str, Any]) -> dict[str, Any]:
    components = schema.setdefault("components", {}).setdefault("schemas", {})
    for name in ("HTTPValidationError", "ValidationError"):
        components.pop(name, None)
    components["Problem"] = _PROBLEM
    components["FieldProblem"] = _FIELD_PROBLEM
    components["UpstreamProblem"] = _UPSTREAM_PROBLEM
    used: set[str] = set()
    for item in schema.get("paths", {}).values():
        for method, operation in item.items():
            used.update(operation.get("tags", ()))
            _complete_operation(operation, method, components)
    schema["tags"] = [tag for tag in TAGS if tag["name"] in used]
    complete_examples(schema)
    return schema


def _complete_operation(
    operation: dict[str, Any], method: str, components: Mapping[str, Any]
) -> None:
    is_mutation = method == "post" and bool(operation.get("security"))
    responses = operation["responses"]
    responses.pop("422", None)
    for status in _statuses(operation, is_mutation=is_mutation, components=components):
        responses.setdefault(str(status), _problem_response(status))
    operation["responses"] = dict(sorted(responses.items()))
    if is_mutation:
        operation.setdefault("parameters", []).append(_IDEMPOTENCY_PARAMETER)
        for status, response in responses.items():
            if status.startswith("2"):
                response.setdefault("headers", {})[REPLAYED] = _REPLAYED_HEADER


def _statuses(
    operation: Mapping[str, Any], *, is_mutation: bool, components: Mapping[str, Any]
) -> Iterable[int]:
    parameters = operation.get("parameters", [])
    required = {one["name"] for one in parameters if one.get("required")}
    required |= _required_of_body(operation, components)
    if operation.get("security"):
        yield from (401, 403, 500, 503)
    else:
        yield 500
    if is_mutation or any(one["name"] == "cursor" for one in parameters):
        yield 400
    if any(_ID_NAME.match(name) for name in required):
        yield 404
    if is_mutation:
        yield from (409, 413)
    if parameters or "requestBody" in operation:
        yield 422


def _required_of_body(operation: Mapping[str, Any], components: Mapping[str, Any]) -> set[str]:
    """The required fields of a JSON body."""
    content = operation.get("requestBody", {}).get("content", {})
    schema = content.get("application/json", {}).get("schema", {})
    reference = schema.get("$ref", "").rpartition("/")[2]
    return set(components.get(reference, schema).get("required", ()))
