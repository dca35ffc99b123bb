"""The connection's procedures, against PostgreSQL and the sandbox."""

from __future__ import annotations

import asyncio
from typing import Any

import asyncpg
import pytest

from mcsync.core.errors import ConflictError, UpstreamRefusedError
from mcsync.core.resources import Resources
from mcsync.features.connection import service
from mcsync.mailchimp import CredentialError, Lane
from tests.features.connection.bench import Caller, audit_actions
from tests.support.organisations import Org
from tests.support.sandbox import SandboxControl, SandboxProcess

NEW_KEY = "0f1e2d3c4b5a69788796a5b4c3d2e1f0-us7"
OTHER_KEY = "aaaabbbbccccddddeeeeffff00001111-us2"


class TestGet:
    async def test_anonymous_is_refused(self, anyone: Caller) -> None:
        assert (await anyone.query("connection.get")).status_code == 401

    async def test_is_null_without_a_connection(self, viewer: Caller) -> None:
        answer = await viewer.query("connection.get")
        assert answer.status_code == 200
        assert answer.json() is None

    async def test_another_organisation_sees_nothing(
        self, connected: Caller, stranger: Caller
    ) -> None:
        assert (await stranger.query("connection.get")).json() is None

    async def test_shows_the_account_and_never_the_key(
        self, connected: Caller, viewer: Caller, mailchimp_process: SandboxProcess
    ) -> None:
        answer = await viewer.query("connection.get")
        body = answer.json()
        key = mailchimp_process.api_key
        assert body["status"] == "connected"
        assert body["dataCentre"] == "us1"
        assert body["keyLast4"] == key.split("-")[0][-4:]
        assert body["syncStatus"] == "idle"
        assert body["softDeletedAt"] is None
        assert key[:-8] not in answer.text

    @pytest.mark.parametrize(
        ("statuses", "shown"),
        [
            (["synced", "pending"], "idle"),
            (["error", "synced"], "error"),
            (["error", "syncing"], "syncing"),
        ],
    )
    async def test_the_sync_status_follows_the_segments(
        self,
        connected: Caller,
        organisation: Org,
        onlooker: asyncpg.Connection,
        statuses: list[str],
        shown: str,
    ) -> None:
        audience = await onlooker.fetchval(
            "insert into audiences (org_id, account_id, list_id, name) values ($1, 'a', 'l', 'n')"
            " returning id",
            organisation.id,
        )
        for number, status in enumerate(statuses):
            await onlooker.execute(
                "insert into contact_segments (org_id, name, segment_type, audience_id, status,"
                " syncing_until) values ($1, $2, 'mixed', $3, $4,"
                " case when $5 then now() + interval '1 minute' end)",
                organisation.id,
                f"s{number}",
                audience,
                "synced" if status == "syncing" else status,
                status == "syncing",
            )
        assert (await connected.query("connection.get")).json()["syncStatus"] == shown


class TestConnect:
    async def test_anonymous_is_refused(self, anyone: Caller) -> None:
        answer = await anyone.mutate("connection.connect", apiKey=NEW_KEY)
        assert answer.status_code == 401

    async def test_an_editor_may_not(self, editor: Caller) -> None:
        answer = await editor.mutate("connection.connect", apiKey=NEW_KEY)
        assert answer.status_code == 403

    async def test_a_malformed_key_is_422_and_not_echoed(self, owner: Caller) -> None:
        for key in (
            "",
            "short-us1",
            "0123456789abcdef0123456789abcdef",
            NEW_KEY + "\n",
            "x" * 40 + "-evil.com",
        ):
            answer = await owner.mutate("connection.connect", apiKey=key)
            assert answer.status_code == 422
            assert answer.json()["errors"][0]["pointer"] == "/apiKey"
            if key:
                assert key.strip() not in answer.text

    async def test_nonsense_is_422(self, owner: Caller) -> None:
        body: Any
        for body in ({}, {"apiKey": None}, {"apiKey": 5}, {"key": NEW_KEY}, []):
            answer = await owner.mutate("connection.connect", body=body)
            assert answer.status_code == 422
            assert NEW_KEY not in answer.text

    async def test_a_key_that_mailchimp_refuses_is_the_callers_mistake(
        self, owner: Caller, organisation: Org, onlooker: asyncpg.Connection
    ) -> None:
        answer = await owner.mutate("connection.connect", apiKey=NEW_KEY)
        assert answer.status_code == 400
        assert answer.json()["code"] == "api_key_refused"
        assert (await owner.query("connection.get")).json() is None
        assert await audit_actions(onlooker, organisation) == []

    async def test_stores_the_key_sealed_and_audits_once(
        self,
        connected: Caller,
        resources: Resources,
        organisation: Org,
        mailchimp_process: SandboxProcess,
        onlooker: asyncpg.Connection,
    ) -> None:
        row = await onlooker.fetchrow("select * from mailchimp_connections")
        assert row is not None
        key = mailchimp_process.api_key
        assert key not in row["api_key"]
        context = f"org:{organisation.id}|mailchimp_api_key|{row['id']}"
        assert resources.keys.open(row["api_key"], context=context) == key
        assert len(row["key_fingerprint"]) == 16
        assert await audit_actions(onlooker, organisation) == ["connection.connect"]

    async def test_another_key_of_the_same_account_takes_its_place(
        self,
        connected: Caller,
        mailchimp: SandboxControl,
        mailchimp_process: SandboxProcess,
        organisation: Org,
        onlooker: asyncpg.Connection,
    ) -> None:
        before = (await connected.query("connection.get")).json()
        await mailchimp.rekey(mailchimp_process.api_key, NEW_KEY)
        answer = await connected.mutate("connection.connect", apiKey=NEW_KEY)
        assert answer.status_code == 200
        after = answer.json()
        assert (after["id"], after["connectedAt"]) == (before["id"], before["connectedAt"])
        assert (after["keyLast4"], after["dataCentre"]) == ("e1f0", "us7")
        assert await audit_actions(onlooker, organisation) == [
            "connection.connect",
            "connection.replace_key",
        ]
        assert (await connected.query("connection.listAudiences")).status_code == 200

    async def test_a_key_of_another_account_is_refused(
        self,
        connected: Caller,
        mailchimp: SandboxControl,
        organisation: Org,
        onlooker: asyncpg.Connection,
    ) -> None:
        await mailchimp.open_account(OTHER_KEY, lists=["Elsewhere"])
        before = (await connected.query("connection.get")).json()
        answer = await connected.mutate("connection.connect", apiKey=OTHER_KEY)
        assert answer.status_code == 409
        assert answer.json()["code"] == "account_mismatch"
        assert (await connected.query("connection.get")).json() == before
        assert await audit_actions(onlooker, organisation) == ["connection.connect"]

    async def test_after_a_disconnect_any_account_may_connect(
        self, connected: Caller, mailchimp: SandboxControl
    ) -> None:
        await mailchimp.open_account(OTHER_KEY, lists=["Elsewhere"])
        assert (await connected.mutate("connection.disconnect", {})).status_code == 200
        answer = await connected.mutate("connection.connect", apiKey=OTHER_KEY)
        assert answer.status_code == 200
        names = (await connected.query("connection.listAudiences")).json()["items"]
        assert [audience["name"] for audience in names] == ["Elsewhere"]

    async def test_reconnecting_asks_for_a_full_pull(
        self,
        connected: Caller,
        mailchimp_process: SandboxProcess,
        onlooker: asyncpg.Connection,
    ) -> None:
        await connected.query("connection.listAudiences")
        await onlooker.execute("update audiences set high_water = now()")
        await connected.mutate("connection.connect", apiKey=mailchimp_process.api_key)
        assert await onlooker.fetchval("select count(high_water) from audiences") == 2
        await connected.mutate("connection.disconnect", {})
        await connected.mutate("connection.connect", apiKey=mailchimp_process.api_key)
        assert await onlooker.fetchval("select count(high_water) from audiences") == 0

    async def test_two_at_once_make_one_connection(
        self,
        owner: Caller,
        mailchimp_process: SandboxProcess,
        organisation: Org,
        onlooker: asyncpg.Connection,
    ) -> None:
        key = mailchimp_process.api_key
        answers = await asyncio.gather(
            *(owner.mutate("connection.connect", apiKey=key) for _ in range(2))
        )
        assert [answer.status_code for answer in answers] == [200, 200]
        assert len({answer.json()["id"] for answer in answers}) == 1
        assert await onlooker.fetchval("select count(*) from mailchimp_connections") == 1
        assert sorted(await audit_actions(onlooker, organisation)) == [
            "connection.connect",
            "connection.replace_key",
        ]

    async def test_trouble_at_mailchimp_is_told_and_changes_nothing(
        self, owner: Caller, mailchimp: SandboxControl, mailchimp_process: SandboxProcess
    ) -> None:
        await mailchimp.fault("500", times=10)
        answer = await owner.mutate("connection.connect", apiKey=mailchimp_process.api_key)
        assert answer.status_code == 503
        assert answer.headers["Retry-After"]
        await mailchimp.reset()
        assert (await owner.query("connection.get")).json() is None


class TestDisconnect:
    async def test_anonymous_is_refused(self, anyone: Caller) -> None:
        assert (await anyone.mutate("connection.disconnect", {})).status_code == 401

    async def test_an_editor_may_not(self, connected: Caller, editor: Caller) -> None:
        assert (await editor.mutate("connection.disconnect", {})).status_code == 403

    async def test_a_stranger_disconnects_nothing_of_ours(
        self, connected: Caller, stranger: Caller
    ) -> None:
        answer = await stranger.mutate("connection.disconnect", {})
        assert answer.json()["code"] == "not_connected"
        assert (await connected.query("connection.get")).json() is not None

    async def test_without_a_connection_it_is_a_conflict(self, owner: Caller) -> None:
        answer = await owner.mutate("connection.disconnect", {})
        assert answer.status_code == 409
        assert answer.json()["code"] == "not_connected"

    async def test_destroys_the_key_and_keeps_the_row(
        self, connected: Caller, organisation: Org, onlooker: asyncpg.Connection
    ) -> None:
        answer = await connected.mutate("connection.disconnect", {})
        assert answer.status_code == 200
        assert answer.json()["status"] == "disconnected"
        assert answer.json()["softDeletedAt"].endswith("Z")
        row = await onlooker.fetchrow("select api_key, soft_deleted_at from mailchimp_connections")
        assert row is not None
        assert row["api_key"] is None
        assert row["soft_deleted_at"] is not None
        assert (await connected.query("connection.get")).json() is None
        assert await audit_actions(onlooker, organisation) == [
            "connection.connect",
            "connection.disconnect",
        ]


class TestCalling:
    """The door to Mailchimp that the other features use."""

    async def test_a_revoked_key_marks_the_connection_once_and_a_new_one_clears_it(
        self,
        connected: Caller,
        mailchimp: SandboxControl,
        mailchimp_process: SandboxProcess,
        organisation: Org,
        onlooker: asyncpg.Connection,
    ) -> None:
        await mailchimp.revoke(mailchimp_process.api_key)
        for _ in range(2):
            answer = await connected.query("connection.listAudiences")
            assert answer.status_code == 502
            assert answer.json()["code"] == "mailchimp_key_refused"
        shown = (await connected.query("connection.get")).json()
        assert shown["status"] == "needs_attention"
        assert shown["statusCode"] == "api_key_invalid"
        assert "connection.connect" in shown["statusDetail"]
        await mailchimp.rekey(mailchimp_process.api_key, NEW_KEY)
        answer = await connected.mutate("connection.connect", apiKey=NEW_KEY)
        assert (answer.json()["status"], answer.json()["statusCode"]) == ("connected", None)
        assert await audit_actions(onlooker, organisation) == [
            "connection.connect",
            "connection.needs_attention",
            "connection.replace_key",
        ]

    async def test_a_call_that_works_again_clears_the_mark(
        self,
        connected: Caller,
        resources: Resources,
        organisation: Org,
        onlooker: asyncpg.Connection,
    ) -> None:
        assert await service.mark_needs_attention(resources, organisation.id, "forbidden", "x")
        assert (await connected.query("connection.listAudiences")).status_code == 200
        shown = (await connected.query("connection.get")).json()
        assert (shown["status"], shown["statusDetail"]) == ("connected", None)
        assert (await audit_actions(onlooker, organisation))[-1] == "connection.recovered"

    async def test_a_refusal_of_the_key_before_says_nothing_about_the_new_one(
        self, connected: Caller, resources: Resources, organisation: Org
    ) -> None:
        marked = await service.mark_needs_attention(
            resources, organisation.id, "api_key_invalid", "x", fingerprint=b"another key"
        )
        assert not marked
        assert (await connected.query("connection.get")).json()["status"] == "connected"

    async def test_a_key_that_cannot_be_opened_is_told(
        self,
        connected: Caller,
        resources: Resources,
        organisation: Org,
        onlooker: asyncpg.Connection,
    ) -> None:
        foreign = resources.keys.seal(NEW_KEY, context="org:somebody else")
        await onlooker.execute("update mailchimp_connections set api_key = $1", foreign)
        with pytest.raises(ConflictError) as caught:
            await service.client_for(resources, organisation.id, lane=Lane.LIVE)
        assert caught.value.code == "api_key_unreadable"
        shown = (await connected.query("connection.get")).json()
        assert shown["statusCode"] == "api_key_unreadable"

    async def test_without_a_connection_nothing_can_be_called(
        self, owner: Caller, resources: Resources, organisation: Org
    ) -> None:
        with pytest.raises(ConflictError) as caught:
            await service.client_for(resources, organisation.id, lane=Lane.BULK)
        assert caught.value.code == "not_connected"

    async def test_forbidden_and_disabled_say_what_to_do(
        self, connected: Caller, resources: Resources, organisation: Org
    ) -> None:
        error = CredentialError("Forbidden", status=403)
        error.code = "forbidden"
        with pytest.raises(UpstreamRefusedError, match="Manager"):
            async with service.calling(resources, organisation.id):
                raise error
        error.code = "user_disabled"
        assert "deactivated" in service.refused_detail(error)

    async def test_the_client_speaks_for_the_account_in_its_lane(
        self, connected: Caller, resources: Resources, organisation: Org
    ) -> None:
        client = await service.client_for(resources, organisation.id, lane=Lane.BULK)
        link = await service.open_link(resources, organisation.id, lane=Lane.BULK)
        assert (await client.account()).account_id == link.account_id


async def test_no_transaction_is_open_while_mailchimp_is_asked(
    owner: Caller,
    mailchimp: SandboxControl,
    mailchimp_process: SandboxProcess,
    database: str,
    onlooker: asyncpg.Connection,
) -> None:
    await mailchimp.configure(latency={"baseMs": 500})
    asking = asyncio.create_task(
        owner.mutate("connection.connect", apiKey=mailchimp_process.api_key)
    )
    await asyncio.sleep(0.3)
    states = await onlooker.fetch(
        "select state from pg_stat_activity where datname = $1 and pid <> pg_backend_pid()"
        " and backend_type = 'client backend'",
        database,
    )
    assert not asking.done()
    assert {row["state"] for row in states} == {"idle"}
    assert (await asking).status_code == 200
