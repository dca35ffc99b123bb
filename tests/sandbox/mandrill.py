"""Short words for what the tests do to the Transactional API, and its published description as a judge. Raw HTTP."""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import httpx
from jsonschema import Draft4Validator

from tests.support.sandbox import SandboxControl

SPEC = (
    Path(__file__).parents[2].parent
    / "shared"
    / "spec"
    / "mailchimp-transactional-1.4.1.swagger.json"
)
# The guides name more states and events than the description (MC 17.2, 17.4).
_LAGGING = {"state", "events"}
# Described as arrays, but one message is meant and the guides show one object.
_ODD = {"messages/cancel-scheduled", "messages/reschedule"}


@cache
def document() -> dict[str, Any] | None:
    """The published description, None where it is not at hand."""
    found: dict[str, Any] | None = json.loads(SPEC.read_text()) if SPEC.exists() else None
    return found


def _without_nulls(value: Any) -> Any:
    """The description knows no null, which unset parts are, and no empty array for a mapping."""
    if isinstance(value, list):
        return [_without_nulls(each) for each in value]
    if not isinstance(value, dict):
        return value
    return {
        key: _without_nulls(each)
        for key, each in value.items()
        if each is not None and not (key in ("metadata", "headers") and each == [])
    }


def complaints(method: str, body: Any) -> list[str]:
    """What the description has against an answer of 200."""
    spec = document()
    if spec is None or method in _ODD:
        return []
    schema = spec["paths"][f"/{method}"]["post"]["responses"]["200"]["schema"]
    validator = Draft4Validator({**schema, "definitions": spec.get("definitions", {})})
    return [
        f"{list(each.absolute_path)}: {each.message}"
        for each in validator.iter_errors(_without_nulls(body))
        if not (each.validator == "enum" and _LAGGING & set(each.absolute_path))
    ]


@dataclass
class Mandrill:
    """One account, by its API and by the control API."""

    client: httpx.AsyncClient
    control: SandboxControl
    key: str

    async def call(self, method: str, **body: Any) -> httpx.Response:
        return await self.client.post(f"/{method}.json", json={"key": self.key, **body})

    async def ask(self, method: str, **body: Any) -> Any:
        """The body of an answer of 200, held against the published description."""
        answer = await self.call(method, **body)
        assert answer.status_code == 200, answer.text
        found = answer.json()
        assert complaints(method, found) == []
        return found

    async def refused(self, method: str, **body: Any) -> tuple[int, str]:
        """Status and name of a refusal."""
        answer = await self.call(method, **body)
        found = answer.json()
        assert set(found) == {"status", "code", "name", "message"}
        return answer.status_code, found["name"]

    async def send(self, *emails: str, send_at: str | None = None, **message: Any) -> list[Any]:
        """The outcomes of a message to these addresses."""
        to = [{"email": email} for email in emails or ("a@corp.test",)]
        given = {"from_email": "us@corp.test", "subject": "Hello", "text": "Hi", "to": to}
        found: list[Any] = await self.ask(
            "messages/send", message=given | message, **({"send_at": send_at} if send_at else {})
        )
        return found

    async def one(self, email: str = "a@corp.test", **message: Any) -> str:
        """The id of a message to one address."""
        [outcome] = await self.send(email, **message)
        ident: str = outcome["_id"]
        return ident

    async def state(self, ident: str) -> str:
        """Its state, as /messages/info shows it."""
        found: str = (await self.ask("messages/info", id=ident))["state"]
        return found
