"""The description, the docs and the health checks."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from contextlib import AsyncExitStack
from typing import Any

import httpx
import pytest
from fastapi import FastAPI
from redis.asyncio import Redis
from sqlalchemy import make_url

from mcsync.app import create_app
from mcsync.core.resources import Resources
from mcsync.core.web.openapi import render_openapi


@pytest.fixture(scope="module")
def schema() -> dict[str, Any]:
    document: dict[str, Any] = json.loads(render_openapi(create_app()))
    return document


def _operations(schema: dict[str, Any]) -> list[tuple[str, str, dict[str, Any]]]:
    return [
        (path, method, operation)
        for path, item in schema["paths"].items()
        for method, operation in item.items()
    ]


def _texts(part: Any) -> Iterator[str]:
    """Every summary and description, wherever it stands."""
    for name, below in part.items() if isinstance(part, dict) else enumerate(part):
        if name in ("summary", "description") and isinstance(below, str):
            yield below
        elif isinstance(below, dict | list):
            yield from _texts(below)


class TestDescription:
    def test_is_the_same_each_time(self) -> None:
        assert render_openapi(create_app()) == render_openapi(create_app())

    def test_every_procedure_needs_a_token_and_one_scope(self, schema: dict[str, Any]) -> None:
        for path, _, operation in _operations(schema):
            if path.startswith("/mailchimp/"):
                (requirement,) = operation["security"]
                assert len(requirement["token"]) == 1, path

    def test_only_health_needs_none(self, schema: dict[str, Any]) -> None:
        free = {path for path, _, operation in _operations(schema) if not operation.get("security")}
        assert free == {"/health/live", "/health/ready"}

    def test_operations_are_named_after_tag_and_procedure(self, schema: dict[str, Any]) -> None:
        for path, _, operation in _operations(schema):
            procedure = path.rpartition("/")[2]
            name = re.sub(r"[A-Z]", lambda found: "_" + found[0].lower(), procedure)
            assert operation["operationId"] == f"{operation['tags'][0]}_{name}"

    def test_every_operation_has_a_summary_and_a_description(self, schema: dict[str, Any]) -> None:
        for path, _, operation in _operations(schema):
            assert operation.get("summary"), path
            assert operation.get("description"), path

    def test_every_procedure_that_a_text_names_exists(self, schema: dict[str, Any]) -> None:
        there = {path.removeprefix("/mailchimp/").replace("/", ".") for path in schema["paths"]}
        spaces = {name.partition(".")[0] for name in there if "." in name and name[0] != "."}
        words = re.compile(rf"\b(?:{'|'.join(spaces)})\.[a-z]\w+")
        named = {name for text in _texts(schema) for name in words.findall(text)}
        assert len(named) > 5
        assert named - there == set()

    def test_problems_are_problems_with_an_example(self, schema: dict[str, Any]) -> None:
        for path, _, operation in _operations(schema):
            if not path.startswith("/mailchimp/"):
                continue
            assert set(operation["responses"]) >= {"401", "403", "500", "503"}
            for status, response in operation["responses"].items():
                if status >= "400":
                    content = response["content"]["application/problem+json"]
                    assert content["schema"] == {"$ref": "#/components/schemas/Problem"}
                    assert content["example"]["status"] == int(status)

    def test_mutations_take_an_idempotency_key(self, schema: dict[str, Any]) -> None:
        for _, method, operation in _operations(schema):
            names = {one["name"] for one in operation.get("parameters", [])}
            assert ("Idempotency-Key" in names) == (method == "post")
            if method == "post":
                assert set(operation["responses"]) >= {"400", "409", "413"}

    def test_the_frameworks_own_error_is_gone(self, schema: dict[str, Any]) -> None:
        assert "HTTPValidationError" not in json.dumps(schema)

    def test_answers_have_no_optional_fields(self, schema: dict[str, Any]) -> None:
        for name, model in schema["components"]["schemas"].items():
            if name.endswith(("Out", "Page")):
                assert set(model["required"]) == set(model["properties"]), name


class TestDocs:
    async def test_load_nothing_from_elsewhere(self, anonymous: httpx.AsyncClient) -> None:
        page = await anonymous.get("/docs")
        assert page.status_code == 200
        assert not re.findall(r"(?:src|href)=\"(?:https?:)?//", page.text)
        assert "<script>" not in page.text
        assert "script-src 'self'" in page.headers["content-security-policy"]
        for asset in re.findall(r"(?:src|href)=\"(/docs/static/[^\"]+)", page.text):
            assert (await anonymous.get(asset)).status_code == 200

    async def test_every_code_has_a_page(self, anonymous: httpx.AsyncClient) -> None:
        index = await anonymous.get("/problems")
        pages = re.findall(r'href="(/problems/[a-z_0-9]+)"', index.text)
        assert len(pages) > 20
        for page in pages:
            assert (await anonymous.get(page)).status_code == 200
        unknown = await anonymous.get("/problems/<script>")
        assert unknown.status_code == 404
        assert "<script>" not in unknown.text

    async def test_the_root_leads_there(self, anonymous: httpx.AsyncClient) -> None:
        answer = await anonymous.get("/")
        assert (answer.status_code, answer.headers["location"]) == (307, "/docs")

    @pytest.mark.parametrize(
        ("path", "status"),
        [("/", 307), ("/docs", 200), ("/health/live", 200), ("/health/ready", 200)],
    )
    async def test_head_is_answered_as_get(
        self, anonymous: httpx.AsyncClient, path: str, status: int
    ) -> None:
        got, head = await anonymous.get(path), await anonymous.head(path)
        assert got.status_code == head.status_code == status
        assert head.headers["content-length"] == got.headers["content-length"]

    async def test_description_is_served(self, anonymous: httpx.AsyncClient) -> None:
        assert (await anonymous.get("/openapi.json")).json()["info"]["title"] == "mcsync"


class TestHealth:
    async def test_live_touches_nothing(self, app: FastAPI, anonymous: httpx.AsyncClient) -> None:
        app.state.resources = None
        assert (await anonymous.get("/health/live")).json() == {"status": "ok"}

    async def test_ready(self, anonymous: httpx.AsyncClient) -> None:
        answer = await anonymous.get("/health/ready")
        assert answer.json() == {
            "status": "ok", "database": "ok", "migrations": "ok", "redis": "ok",
            "start": "ok",
        }  # fmt: skip

    async def test_without_redis_it_is_degraded_and_serves(
        self, resources: Resources, anonymous: httpx.AsyncClient
    ) -> None:
        redis, resources.redis = resources.redis, Redis(host="127.0.0.1", port=9)
        answer = await anonymous.get("/health/ready")
        resources.redis = redis
        assert (answer.status_code, answer.json()["status"]) == (200, "degraded")

    async def test_without_the_database_it_is_unavailable(
        self, resources: Resources, anonymous: httpx.AsyncClient
    ) -> None:
        from mcsync.core.db import Database, make_engine

        db, resources.db = resources.db, Database(make_engine("postgresql://x@127.0.0.1:9/x"))
        answer = await anonymous.get("/health/ready")
        await resources.db.close()
        resources.db = db
        assert answer.status_code == 503
        assert answer.json()["database"] == "unreachable"

    @pytest.mark.parametrize(("revision", "status"), [("0000_before", 200), (None, 503)])
    async def test_compares_the_migrations(
        self,
        anonymous: httpx.AsyncClient,
        onlooker: Any,
        revision: str | None,
        status: int,
    ) -> None:
        await onlooker.execute("delete from alembic_version")
        if revision:
            await onlooker.execute("insert into alembic_version values ($1)", revision)
        answer = await anonymous.get("/health/ready")
        assert answer.status_code == status
        assert answer.json()["migrations"] == ("ahead" if revision else "behind")

    async def test_a_pool_in_use_is_busy_and_serves(
        self, resources: Resources, anonymous: httpx.AsyncClient
    ) -> None:
        async with AsyncExitStack() as held:
            for _ in range(2 * resources.settings.database_pool_size):
                await held.enter_async_context(resources.db.engine.connect())
            answer = await anonymous.get("/health/ready")
            assert answer.status_code == 200
            assert (answer.json()["status"], answer.json()["database"]) == ("degraded", "busy")
        assert (await anonymous.get("/health/ready")).json()["status"] == "ok"

    async def test_a_database_without_writes_says_so(
        self, resources: Resources, database: str, onlooker: Any, anonymous: httpx.AsyncClient
    ) -> None:
        await onlooker.execute(f"alter database {database} set default_transaction_read_only = on")
        await resources.db.engine.dispose()
        answer = await anonymous.get("/health/ready")
        await onlooker.execute("set default_transaction_read_only = off")
        await onlooker.execute(f"alter database {database} reset default_transaction_read_only")
        assert (answer.status_code, answer.json()["database"]) == (503, "read_only")

    async def test_a_wrong_password_is_no_silence(
        self, resources: Resources, database_url: str, anonymous: httpx.AsyncClient
    ) -> None:
        from mcsync.core.db import Database, make_engine

        nobody = make_url(database_url).set(username="nobody_at_all")
        url = nobody.render_as_string(hide_password=False)
        db, resources.db = resources.db, Database(make_engine(url))
        answer = await anonymous.get("/health/ready")
        await resources.db.close()
        resources.db = db
        assert (answer.status_code, answer.json()["database"]) == (503, "refused")
