"""``webhooks.list``, ``webhooks.rotate``, and the same from the command line."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import httpx
import pytest
from typer.testing import CliRunner

from mcsync.cli.app import app as commands
from mcsync.cli.keys import secrets_by_key
from mcsync.core.auth import Role
from mcsync.core.settings import Settings
from mcsync.features.webhooks import service
from tests.features.webhooks.door import Door

ADA = "ada@acme.example"
LIST = "/mailchimp/webhooks/list"
ROTATE = "/mailchimp/webhooks/rotate"


async def registered(door: Door) -> None:
    await door.world.contact(ADA)
    await door.world.sync(await door.world.segment())
    await door.register()


class TestList:
    async def test_shows_each_audience_and_no_secret(
        self, door: Door, api: httpx.AsyncClient
    ) -> None:
        await registered(door)
        await door.world.person(ADA, "unsubscribe")
        await door.world.sandbox.delivered()
        answer = await api.get(LIST)
        (item,) = answer.json()["items"]
        assert item["audienceId"] == door.world.list_id
        assert (item["status"], item["signed"], item["waiting"]) == ("active", True, 1)
        assert item["lastEventAt"] is not None
        (hook,) = await door.hooks()
        for secret in (hook["url"].rpartition("/")[2], hook["signingSecret"], ADA):
            assert str(secret) not in answer.text

    async def test_comes_in_pages(self, door: Door, api: httpx.AsyncClient) -> None:
        await registered(door)
        await door.world.segment("Others", audienceId=door.world.other_list_id)
        await door.check()
        first = (await api.get(LIST, params={"limit": 1})).json()
        second = (await api.get(LIST, params={"limit": 1, "cursor": first["nextCursor"]})).json()
        seen = [page["items"][0]["audienceId"] for page in (first, second)]
        assert sorted(seen) == sorted([door.world.list_id, door.world.other_list_id])
        assert second["nextCursor"] is None


class TestRotate:
    async def test_is_the_owners(
        self, door: Door, api: httpx.AsyncClient, tokens: dict[Role, str]
    ) -> None:
        await registered(door)
        body = {"audienceId": door.world.list_id}
        headers = {"Authorization": f"Bearer {tokens[Role.EDITOR]}"}
        assert (await api.post(ROTATE, json=body, headers=headers)).status_code == 403
        answer = await api.post(ROTATE, json=body)
        assert answer.json()["previousUntil"] is not None
        found = await door.world.sql(
            "select actor_kind from audit_entries where action = 'webhooks.rotate'"
        )
        assert [row.actor_kind for row in found] == ["token"]

    async def test_of_no_webhook_is_not_found(self, door: Door, api: httpx.AsyncClient) -> None:
        answer = await api.post(ROTATE, json={"audienceId": door.world.list_id})
        assert (answer.status_code, answer.json()["code"]) == (404, "webhook_not_found")


class TestKeys:
    async def test_the_secrets_move_to_another_master_key(self, door: Door) -> None:
        await registered(door)
        await service.rotate(door.world.resources, door.world.actor, door.world.list_id)
        await door.register()
        (row,) = await secrets_by_key(door.world.resources)
        # the organisation's hash key, the API key, the token, and a signing secret old and new
        assert (row["secrets"], row["unreadable"]) == (5, 0)
        async with door.world.resources.db.transaction(door.world.org.id) as session:
            assert await service.rewrap(door.world.resources, session) == 0


class TestCommands:
    @pytest.fixture
    def mcsync(self, settings: Settings, monkeypatch: pytest.MonkeyPatch) -> Any:
        assert settings.database_url is not None
        assert settings.redis_url is not None
        assert settings.public_url is not None
        keys = {kid: key.get_secret_value() for kid, key in settings.master_keys.items()}
        for name, value in {
            "DATABASE_URL": settings.database_url.get_secret_value(),
            "REDIS_URL": settings.redis_url.get_secret_value(),
            "MASTER_KEYS": json.dumps(keys),
            "MAILCHIMP_URL": settings.mailchimp_url,
            "PUBLIC_URL": settings.public_url,
        }.items():
            monkeypatch.setenv(f"MCSYNC_{name}", value)

        async def command(*arguments: str) -> tuple[int, Any]:
            done = await asyncio.to_thread(CliRunner().invoke, commands, ["webhooks", *arguments])
            return done.exit_code, json.loads(done.stdout or done.stderr)

        return command

    async def test_check_list_and_rotate(self, door: Door, mcsync: Any) -> None:
        await door.world.contact(ADA)
        await door.world.sync(await door.world.segment())
        assert await mcsync("list") == (0, [])
        code, (row,) = await mcsync("check")
        assert (code, row["status"]) == (0, "active")
        (old,) = await door.hooks()
        code, answer = await mcsync("rotate", door.world.list_id, "--yes")
        assert (code, answer["status"]) == (0, "missing")
        code, (row,) = await mcsync("check")
        assert (code, row["status"]) == (0, "active")
        (new,) = await door.hooks()
        assert new["url"] != old["url"]
