"""The API with the contacts' and preferences' procedures, and callers of it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx
import pytest
from fastapi import FastAPI

from mcsync.app import create_app
from mcsync.core.auth import Role
from mcsync.core.auth.tokens import issue_token
from mcsync.core.resources import Resources
from tests.support.organisations import Org

JsonObject = dict[str, Any]
PERSON = {"entityType": "employee", "entityId": "E-1", "email": "ada@nordlicht-werke.example"}


class Caller:
    """Somebody with (or without) a token."""

    def __init__(self, client: httpx.AsyncClient) -> None:
        self.client = client

    async def query(self, procedure: str, **given: Any) -> httpx.Response:
        return await self.client.get(_path(procedure), params=given)

    async def mutate(
        self, procedure: str, body: JsonObject | None = None, **given: Any
    ) -> httpx.Response:
        return await self.client.post(_path(procedure), json=(body or {}) | given)

    async def send(
        self, content: bytes | str | AsyncIterator[bytes], kind: str = "text/csv", **given: Any
    ) -> httpx.Response:
        """A file to contacts.import."""
        body = content.encode() if isinstance(content, str) else content
        return await self.client.post(
            _path("contacts.import"), content=body, headers={"Content-Type": kind}, params=given
        )

    async def stated(
        self, content: bytes | str, kind: str = "text/csv", **given: Any
    ) -> httpx.Response:
        """A file to preferences.import."""
        body = content.encode() if isinstance(content, str) else content
        return await self.client.post(
            _path("preferences.import"), content=body, headers={"Content-Type": kind}, params=given
        )

    async def took(self, content: bytes | str, kind: str = "text/csv", **given: Any) -> JsonObject:
        """The answer to a file that is taken."""
        answer = await self.send(content, kind, **given)
        assert answer.status_code == 200, answer.text
        body: JsonObject = answer.json()
        return body

    async def upserted(self, *contacts: JsonObject, **given: Any) -> JsonObject:
        """The answer to contacts that are taken."""
        answer = await self.mutate("contacts.upsert", {"contacts": list(contacts)} | given)
        assert answer.status_code == 200, answer.text
        body: JsonObject = answer.json()
        return body

    async def contact(self, entity_id: str = "E-1", entity_type: str = "employee") -> JsonObject:
        answer = await self.query("contacts.get", entityType=entity_type, entityId=entity_id)
        assert answer.status_code == 200, answer.text
        body: JsonObject = answer.json()
        return body

    async def preference(self, entity_id: str = "E-1", entity_type: str = "employee") -> JsonObject:
        answer = await self.query(
            "preferences.getForEntity", entityType=entity_type, entityId=entity_id
        )
        assert answer.status_code == 200, answer.text
        body: JsonObject = answer.json()
        return body

    async def says(self, status: str, entity_id: str = "E-1", **given: Any) -> httpx.Response:
        """preferences.updateOptStatus of an employee."""
        return await self.mutate(
            "preferences.updateOptStatus",
            {"entityType": "employee", "entityId": entity_id, "status": status, "source": "test"}
            | given,
        )

    async def history(self, entity_id: str = "E-1") -> list[JsonObject]:
        """The contact's history, oldest first."""
        answer = await self.query(
            "preferences.history", entityType="employee", entityId=entity_id, limit=200
        )
        assert answer.status_code == 200, answer.text
        items: list[JsonObject] = answer.json()["items"]
        return items[::-1]


def _path(procedure: str) -> str:
    return "/mailchimp/" + procedure.replace(".", "/")


def codes(answer: JsonObject) -> list[tuple[int, str | None, str]]:
    """What was reported, as (line or index, field, code)."""
    return [
        (row.get("line", row.get("index")), row["field"], row["code"])
        for row in answer["rejections"]
    ]


def counts(answer: JsonObject) -> tuple[int, int, int, int, int]:
    """(received, created, updated, unchanged, rejected)."""
    return (
        answer["received"], answer["created"], answer["updated"], answer["unchanged"],
        answer["rejected"],
    )  # fmt: skip


@asynccontextmanager
async def caller_of(app: FastAPI, token: str | None) -> AsyncIterator[Caller]:
    async with httpx.AsyncClient(
        transport=httpx.ASGITransport(app),
        base_url="http://mcsync.test",
        headers={"Authorization": f"Bearer {token}"} if token else {},
        timeout=120,
    ) as client:
        yield Caller(client)


async def token_of(resources: Resources, org: Org, role: Role) -> str:
    async with resources.db.transaction(org.id) as session:
        issued = await issue_token(session, resources.hash_keys, name=role.value, role=role)
    return issued.token


@pytest.fixture
def app(resources: Resources) -> FastAPI:
    """The real app, without a server."""
    return create_app(resources=resources)


@pytest.fixture
async def anyone(app: FastAPI) -> AsyncIterator[Caller]:
    """A caller without a token."""
    async with caller_of(app, None) as caller:
        yield caller


@pytest.fixture
async def editor(app: FastAPI, resources: Resources, organisation: Org) -> AsyncIterator[Caller]:
    """A caller who may write contacts and preferences."""
    async with caller_of(app, await token_of(resources, organisation, Role.EDITOR)) as caller:
        yield caller


@pytest.fixture
async def viewer(app: FastAPI, resources: Resources, organisation: Org) -> AsyncIterator[Caller]:
    """A caller who may only read."""
    async with caller_of(app, await token_of(resources, organisation, Role.VIEWER)) as caller:
        yield caller


@pytest.fixture
async def stranger(
    app: FastAPI, resources: Resources, other_organisation: Org
) -> AsyncIterator[Caller]:
    """An editor of another organisation."""
    token = await token_of(resources, other_organisation, Role.EDITOR)
    async with caller_of(app, token) as caller:
        yield caller
