"""The generated OpenAPI document as the walks read it: operations, schemas, examples, and a judge of answers."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from functools import cache
from typing import Any
from uuid import UUID

import httpx
from jsonschema import Draft202012Validator, FormatChecker

from mcsync.app import create_app
from mcsync.core.settings import Settings

PROBLEM = "application/problem+json"
JSON = "application/json"

_PREVIEWS = {"segments_preview", "transactional_render_template"}

_formats = FormatChecker(formats=())


@_formats.checks("uuid", raises=ValueError)
def _is_uuid(value: object) -> bool:
    return not isinstance(value, str) or str(UUID(value)) == value.lower()


@_formats.checks("date-time", raises=ValueError)
def _is_moment(value: object) -> bool:
    """RFC 3339 with an offset."""
    return not isinstance(value, str) or datetime.fromisoformat(value).tzinfo is not None


@cache
def document() -> dict[str, Any]:
    """The description of the API; needs no server."""
    return create_app(Settings()).openapi()


@dataclass(frozen=True)
class Operation:
    """One procedure of the description."""

    id: str
    method: str
    path: str
    raw: Mapping[str, Any]

    @property
    def needs_token(self) -> bool:
        return bool(self.raw.get("security"))

    @property
    def is_post(self) -> bool:
        return self.method == "post"

    @property
    def changes(self) -> bool:
        """Whether it may change anything: previews are queries that need a body."""
        return self.is_post and self.id not in _PREVIEWS

    @property
    def scope(self) -> str:
        """The one scope that it asks for."""
        ((_, scopes),) = self.raw["security"][0].items()
        assert len(scopes) == 1, self.id
        return str(scopes[0])

    def parameters(self, place: str) -> list[Mapping[str, Any]]:
        """Its parameters in ``query`` or ``header``."""
        return [one for one in self.raw.get("parameters", ()) if one["in"] == place]

    @property
    def request(self) -> Mapping[str, Any]:
        """Content type to media type of the body; empty where there is none."""
        content: Mapping[str, Any] = self.raw.get("requestBody", {}).get("content", {})
        return content

    @property
    def body_schema(self) -> dict[str, Any] | None:
        """The schema of a JSON body."""
        found = self.request.get(JSON)
        return None if found is None else dict(found["schema"])

    def __str__(self) -> str:
        return self.id


@cache
def operations() -> tuple[Operation, ...]:
    """All operations of the description."""
    return tuple(
        Operation(raw["operationId"], method, path, raw)
        for path, item in document()["paths"].items()
        for method, raw in item.items()
    )


def operation(name: str) -> Operation:
    """The operation with this id."""
    (found,) = (one for one in operations() if one.id == name)
    return found


def resolved(schema: Mapping[str, Any]) -> dict[str, Any]:
    """The schema that a reference stands for."""
    reference = schema.get("$ref")
    if reference is None:
        return dict(schema)
    name = reference.removeprefix("#/components/schemas/")
    return dict(document()["components"]["schemas"][name])


def wrong_with(schema: Mapping[str, Any], value: Any) -> list[str]:
    """What keeps a value from matching a schema of the document."""
    whole = {**schema, "components": document()["components"]}
    judge = Draft202012Validator(whole, format_checker=_formats)
    return [f"{error.json_path}: {error.message}" for error in judge.iter_errors(value)]


def examples(media: Mapping[str, Any]) -> list[Any]:
    """The examples of a media type, its own or its schema's."""
    own = [media["example"]] if "example" in media else []
    own += [one["value"] for one in media.get("examples", {}).values()]
    if own:
        return own
    schema = resolved(media.get("schema", {}))
    return [*schema.get("examples", ()), *([schema["example"]] if "example" in schema else ())]


def wrong_with_answer(op: Operation, answer: httpx.Response) -> list[str]:
    """How an answer differs from what the description promises of the operation."""
    promised = op.raw["responses"].get(str(answer.status_code))
    if promised is None:
        return [f"status {answer.status_code} is not described: {answer.text[:300]}"]
    if answer.status_code >= 400 and op.needs_token:
        return wrong_with_problem(answer, answer.status_code)
    kind = answer.headers["content-type"].partition(";")[0]
    media = promised["content"].get(kind)
    if media is None:
        return [f"{kind} is not described"]
    return [] if kind != JSON else wrong_with(media["schema"], answer.json())


def wrong_with_problem(answer: httpx.Response, *statuses: int) -> list[str]:
    """How an answer falls short of a problem document with one of these statuses (none given: any 4xx)."""
    found = []
    if answer.status_code not in (statuses or range(400, 500)):
        found.append(f"status {answer.status_code}")
    if answer.headers.get("content-type") != PROBLEM:
        return [*found, f"content type {answer.headers.get('content-type')}: {answer.text[:200]}"]
    body = answer.json()
    found += wrong_with({"$ref": "#/components/schemas/Problem"}, body)
    request_id = answer.headers.get("x-request-id")
    if not request_id or body.get("requestId") != request_id:
        found.append("the request id is missing, or another one in header and body")
    if body.get("status") != answer.status_code:
        found.append(f"says status {body.get('status')}")
    if body.get("type") != f"/problems/{body.get('code')}":
        found.append(f"type {body.get('type')} is not the page of {body.get('code')}")
    if not body.get("title") or not body.get("detail"):
        found.append("title or detail is empty")
    return found


def components() -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Name and schema of each component."""
    yield from document()["components"]["schemas"].items()
