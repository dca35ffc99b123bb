"""Mailchimp's published OpenAPI document as a judge of answers and of the requests that the tests send."""

from __future__ import annotations

import json
import re
from functools import cache
from pathlib import Path
from typing import Any

import httpx
from jsonschema import Draft4Validator

SPEC = (
    Path(__file__).parents[2].parent / "shared" / "spec" / "mailchimp-marketing-3.0.85.openapi.json"
)

PROBLEM = "#/components/schemas/ProblemDetailDocument"


def _relaxed(node: Any) -> Any:
    """The document without what recorded answers contradict.

    Merge values are declared as objects, but are texts and numbers in every recording (MC 4.2). PUT takes any subset of an
    existing member (MC 4.3). `type` is absent in several problems (MC 14). Archived members that a bulk call leaves
    archived (MC 4.4) are missing in the statuses of its answer.
    """
    if isinstance(node, list):
        return [_relaxed(each) for each in node]
    if not isinstance(node, dict):
        return node
    made = {key: _relaxed(value) for key, value in node.items()}
    more = made.get("additionalProperties")
    if isinstance(more, dict) and "merge tags" in str(more.get("description", "")):
        made["additionalProperties"] = {}
    if "cleaned" in made.get("enum", []):
        made["enum"] = [*made["enum"], "archived"]
    required = made.get("required")
    if isinstance(required, list) and "status_if_new" in required:
        del made["required"]
    return made


@cache
def document() -> dict[str, Any] | None:
    """The relaxed document, None where it is not at hand."""
    if not SPEC.exists():
        return None
    made: dict[str, Any] = _relaxed(json.loads(SPEC.read_text()))
    made["components"]["schemas"]["ProblemDetailDocument"]["required"].remove("type")
    return made


@cache
def _patterns() -> list[tuple[re.Pattern[str], dict[str, Any]]]:
    spec = document()
    assert spec is not None
    # Fixed parts before variable ones, so that /lists/{id}/members is not taken for something else.
    paths = sorted(spec["paths"], key=lambda path: path.count("{"))
    return [
        (re.compile(re.sub(r"\{\w+\}", "[^/]+", path) + r"\Z"), spec["paths"][path])
        for path in paths
    ]


def operation(method: str, path: str) -> dict[str, Any]:
    """The published operation of a call; fails if Mailchimp has none."""
    for pattern, operations in _patterns():
        if pattern.match(path) and method.lower() in operations:
            found: dict[str, Any] = operations[method.lower()]
            return found
    raise AssertionError(f"Mailchimp publishes no {method} {path}")


def complaints(schema: dict[str, Any], instance: Any) -> list[str]:
    """What the published schema has against a document."""
    spec = document()
    assert spec is not None
    validator = Draft4Validator({**schema, "components": spec["components"]})
    return [
        f"{list(each.absolute_path)}: {each.message}" for each in validator.iter_errors(instance)
    ]


def _schema(content: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = content["content"]["application/json"]["schema"]
    return found


async def judge(response: httpx.Response) -> None:
    """An event hook: fails the test whose call or answer the published document does not know."""
    if document() is None or not response.headers.get("content-type", "").startswith(
        "application/"
    ):
        return
    await response.aread()
    if not response.content:
        return
    request = response.request
    path = request.url.path.partition("/3.0")[2] or "/"
    if response.is_error:
        assert complaints({"$ref": PROBLEM}, response.json()) == []
        return
    if "fields" in str(request.url.query):
        return
    found = operation(request.headers.get("x-http-method-override", request.method), path)
    assert "200" in found["responses"], f"{path} has no 200"
    assert complaints(_schema(found["responses"]["200"]), response.json()) == []
    if "requestBody" in found and request.content:
        assert complaints(_schema(found["requestBody"]), json.loads(request.content)) == []
