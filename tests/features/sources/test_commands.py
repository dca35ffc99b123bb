"""``mcsync sources`` as an operator types it, and the procedures as an owner calls them."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from typing import Any

import httpx
import pytest
from typer.testing import CliRunner

from mcsync.cli.app import app
from mcsync.core.auth import Role
from mcsync.core.settings import Settings
from mcsync.features.sources import service
from tests.features.sources.world import World

Command = Callable[..., Any]

pytestmark = pytest.mark.parametrize("home", ["sqlite_home"], indirect=True)
SELECT = "select emp_no, mail, first, dept from people"
MAPPED = ("--map", "entityId=emp_no", "--map", "email=mail", "--set", "entityType=employee")


@pytest.fixture
def environment(settings: Settings, world: World) -> dict[str, str]:
    keys = {kid: key.get_secret_value() for kid, key in settings.master_keys.items()}
    assert settings.database_url is not None
    assert settings.redis_url is not None
    return {
        "MCSYNC_DATABASE_URL": settings.database_url.get_secret_value(),
        "MCSYNC_REDIS_URL": settings.redis_url.get_secret_value(),
        "MCSYNC_MASTER_KEYS": json.dumps(keys),
        "MCSYNC_SOURCE_URL": world.home.url,
    }


@pytest.fixture
def mcsync(environment: dict[str, str]) -> Command:
    """Runs a command in a thread (it has a loop of its own): answers its JSON."""

    async def command(*arguments: str, code: int = 0, typed: str | None = None) -> Any:
        def act() -> Any:
            return CliRunner().invoke(app, ["sources", *arguments], env=environment, input=typed)

        done = await asyncio.to_thread(act)
        assert done.exit_code == code, (done.output, done.stderr, done.exception)
        if code in {0, 6} and done.stdout:
            return json.loads(done.stdout)
        return json.loads(done.stderr)["error"] if done.stderr.startswith("{") else done.stderr

    return command


class TestCommands:
    async def test_a_source_from_beginning_to_end(self, world: World, mcsync: Command) -> None:
        await world.people([1, 2])
        await world.people([3], mail="nobody")
        made = await mcsync("add", "hr", "--query", SELECT, *MAPPED)
        assert (made["name"], made["status"], made["place"]) == ("hr", "new", "file/people.db")
        tried = await mcsync("test", "hr", code=6)
        assert tried["counts"]["created"] == 2
        assert tried["ignoredColumns"] == ["first", "dept"]
        assert [r["row"] for r in tried["rejections"]] == [3]
        assert await world.contacts() == []
        pulled = await mcsync("pull", "hr", code=6)
        assert (pulled["status"], pulled["report"]["created"]) == ("succeeded_with_errors", 2)
        assert [r["code"] for r in pulled["firstRejections"]] == ["invalid_email"]
        (listed,) = await mcsync("list")
        assert (listed["status"], listed["lastPull"]["id"]) == ("ok", pulled["id"])
        assert str(world.home.url) not in json.dumps([made, tried, pulled, listed])
        await mcsync("remove", "HR", "--yes")
        assert await mcsync("list") == []
        assert await world.contacts() == ["1", "2"]
        actions = await world.onlooker.fetch("select action from audit_entries order by seq")
        assert [row["action"] for row in actions] == [
            "sources.add", "sources.pull", "sources.finish", "sources.remove",
        ]  # fmt: skip

    async def test_what_is_wrong_is_said_with_its_exit_code(
        self, world: World, mcsync: Command
    ) -> None:
        await world.people([1])
        refused = await mcsync("add", "hr", "--query", "delete from people", *MAPPED, code=4)
        assert refused["code"] == "invalid_source_query"
        assert (await mcsync("add", "hr", "--url", "oracle://x/y", "--query", SELECT, code=4))[
            "code"
        ] == "invalid_source_url"
        assert (await mcsync("add", "hr", "--mode", "watermark", "--query", SELECT, code=4))[
            "code"
        ] == "invalid_source"
        assert (await mcsync("add", "hr", "--query", SELECT, "--map", "email", code=2))[
            "code"
        ] == "usage"
        await mcsync("add", "hr", "--query", SELECT, *MAPPED)
        again = await mcsync("add", "HR", "--query", SELECT, *MAPPED, code=4)
        assert again["code"] == "source_name_taken"
        assert (await mcsync("pull", "payroll", code=4))["code"] == "source_not_found"
        gone = await mcsync("add", "x", "--url", world.home.url + "x", "--query", SELECT, code=5)
        assert gone["code"] == "source_unreachable"

    async def test_the_url_comes_by_standard_input_too(self, world: World, mcsync: Command) -> None:
        await world.people([1])
        typed = world.home.url + "\n"
        await mcsync("add", "hr", "--url", "-", "--query", SELECT, *MAPPED, typed=typed)
        assert (await mcsync("pull", "hr"))["status"] == "succeeded"


async def test_keys_rotate_seals_urls_anew(world: World) -> None:
    await world.people([1])
    await world.source()
    async with world.resources.db.transaction(world.org.id) as session:
        sealed = await service.sealed_urls(session)
        assert await service.rewrap_urls(world.resources, session) == 0
    ((envelope, context),) = sealed
    assert world.resources.keys.open(envelope, context=context) == world.home.url


class TestProcedures:
    async def test_an_owner_pulls_and_looks(self, world: World, api: httpx.AsyncClient) -> None:
        await world.people([1])
        source = await world.source()
        asked = await api.post("/mailchimp/sources/pull", json={"id": str(source.id)})
        assert asked.status_code == 202
        assert asked.json()["status"] == "queued"
        again = await api.post("/mailchimp/sources/pull", json={"id": str(source.id)})
        assert again.json()["id"] == asked.json()["id"]
        more = await api.post(
            "/mailchimp/sources/pull", json={"id": str(source.id), "fromStart": True}
        )
        assert (more.status_code, more.json()["code"]) == (409, "pull_under_way")
        await world.pull()
        seen = (await api.get(asked.headers["Location"])).json()
        assert (seen["status"], seen["report"]["created"]) == ("succeeded", 1)
        report = (await api.get(seen["rejections"])).json()
        assert (report["kind"], report["created"]) == ("source", 1)
        listed = (await api.get("/mailchimp/sources/list")).json()["items"]
        assert [(one["name"], one["lastPull"]["id"]) for one in listed] == [("hr", seen["id"])]
        one = (await api.get("/mailchimp/sources/get", params={"id": str(source.id)})).json()
        assert one == listed[0]
        pulls = await api.get("/mailchimp/sources/listPulls", params={"sourceId": str(source.id)})
        assert [pull["id"] for pull in pulls.json()["items"]] == [seen["id"]]

    async def test_only_owners_pull(
        self, world: World, api: httpx.AsyncClient, tokens: dict[Role, str]
    ) -> None:
        source = await world.source()
        for role, status in ((Role.VIEWER, 403), (Role.EDITOR, 403), (Role.OWNER, 202)):
            answer = await api.post(
                "/mailchimp/sources/pull", json={"id": str(source.id)},
                headers={"Authorization": f"Bearer {tokens[role]}"},
            )  # fmt: skip
            assert answer.status_code == status
