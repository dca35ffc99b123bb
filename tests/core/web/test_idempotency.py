"""The same key: one effect, one answer, through crowds and crashes; on a real PostgreSQL."""

from __future__ import annotations

import asyncio
import io
import random
from collections import Counter
from datetime import timedelta
from typing import Any

import asyncpg
import httpx
import orjson
import pytest
from fastapi import FastAPI

from mcsync.core.auth import Role
from mcsync.core.resources import Resources
from mcsync.core.web.idempotency import purge_idempotency_keys
from tests.core import api
from tests.core.api import client_of, make_token
from tests.support.organisations import Org

ACT = "/mailchimp/probe/act"


@pytest.fixture(autouse=True)
def _no_plans() -> None:
    api.plans.clear()
    api.inside = None


@pytest.fixture
def more_settings() -> dict[str, Any]:
    return {"database_pool_size": 10}


async def _effects(onlooker: asyncpg.Connection) -> int:
    return int(await onlooker.fetchval("select count(*) from audit_entries") or 0)


async def _call(
    client: httpx.AsyncClient, key: str, name: str = "x", path: str = ACT
) -> httpx.Response:
    return await client.post(path, json={"name": name}, headers={"Idempotency-Key": key})


class TestReplay:
    async def test_answers_the_same_and_does_nothing(
        self, owner: httpx.AsyncClient, onlooker: asyncpg.Connection
    ) -> None:
        first, second = [await _call(owner, "k") for _ in range(2)]
        assert (first.status_code, second.status_code) == (202, 202)
        assert first.content == second.content
        assert second.headers["location"] == first.headers["location"] == "/probe/x"
        assert "idempotency-replayed" not in first.headers
        assert second.headers["idempotency-replayed"] == "true"
        assert second.headers["content-type"] == "application/json"
        assert await _effects(onlooker) == 1

    async def test_is_logged_with_its_route(
        self, owner: httpx.AsyncClient, log: io.StringIO
    ) -> None:
        path = "/mailchimp/contacts/upsert"
        sent = {"contacts": [{"entityType": "vendor", "entityId": "V-1", "email": "a@b.example"}]}
        for _ in range(2):
            answer = await owner.post(path, json=sent, headers={"Idempotency-Key": "logged"})
        assert answer.headers["idempotency-replayed"] == "true"
        requests = [line for line in log.getvalue().splitlines() if '"route"' in line]
        assert [orjson.loads(line)["route"] for line in requests] == [path, path]

    async def test_without_a_key_everything_happens_each_time(
        self, owner: httpx.AsyncClient, onlooker: asyncpg.Connection
    ) -> None:
        for _ in range(2):
            await owner.post(ACT, json={"name": "x"})
        assert await _effects(onlooker) == 2
        assert await onlooker.fetchval("select count(*) from idempotency_keys") == 0

    async def test_another_request_under_the_key_is_refused(self, owner: httpx.AsyncClient) -> None:
        await _call(owner, "k")
        for name, path in (("y", ACT), ("x", "/mailchimp/probe/twice"), ("x", f"{ACT}?a=1")):
            answer = await _call(owner, "k", name, path)
            assert (answer.status_code, answer.json()["code"]) == (409, "idempotency_key_reused")

    async def test_another_caller_does_not_get_the_answer(
        self, app: FastAPI, resources: Resources, organisation: Org, owner: httpx.AsyncClient
    ) -> None:
        await _call(owner, "k")
        token = await make_token(resources, organisation, Role.VIEWER)
        async with client_of(app, token.token) as viewer:
            assert (await _call(viewer, "k")).status_code == 409

    async def test_keys_of_organisations_are_apart(
        self,
        app: FastAPI,
        resources: Resources,
        other_organisation: Org,
        owner: httpx.AsyncClient,
        onlooker: asyncpg.Connection,
    ) -> None:
        token = await make_token(resources, other_organisation)
        async with client_of(app, token.token) as other:
            assert (await _call(other, "k")).status_code == 202
        assert "idempotency-replayed" not in (await _call(owner, "k")).headers
        assert await _effects(onlooker) == 2

    @pytest.mark.parametrize("key", ["", "with space", "x" * 256, "é"])
    async def test_an_unusable_key_is_refused(self, owner: httpx.AsyncClient, key: str) -> None:
        answer = await owner.post(
            ACT, json={"name": "x"}, headers=[(b"Idempotency-Key", key.encode("latin-1"))]
        )
        assert (answer.status_code, answer.json()["code"]) == (400, "invalid_idempotency_key")

    async def test_two_keys_are_refused(self, owner: httpx.AsyncClient) -> None:
        two = [(b"Idempotency-Key", b"one"), (b"Idempotency-Key", b"two")]
        answer = await owner.post(ACT, json={"name": "x"}, headers=two)
        assert (answer.status_code, answer.json()["code"]) == (400, "invalid_idempotency_key")

    async def test_without_a_token_nothing_is_stored(
        self, anonymous: httpx.AsyncClient, onlooker: asyncpg.Connection
    ) -> None:
        assert (await _call(anonymous, "k")).status_code == 401
        assert await onlooker.fetchval("select count(*) from idempotency_keys") == 0

    async def test_after_its_time_the_key_is_free(
        self, owner: httpx.AsyncClient, onlooker: asyncpg.Connection
    ) -> None:
        await _call(owner, "k")
        await onlooker.execute("update idempotency_keys set created_at = now() - interval '25 h'")
        answer = await _call(owner, "k", "y")
        assert (answer.status_code, answer.json()["name"]) == (202, "y")

    async def test_old_answers_are_forgotten(
        self,
        resources: Resources,
        organisation: Org,
        owner: httpx.AsyncClient,
        onlooker: asyncpg.Connection,
    ) -> None:
        await _call(owner, "old")
        await onlooker.execute("update idempotency_keys set created_at = now() - interval '25 h'")
        await _call(owner, "new")
        await purge_idempotency_keys(resources.db, organisation.id, hours=24)
        assert await onlooker.fetchval("select string_agg(key, ',') from idempotency_keys") == "new"


class TestFailure:
    @pytest.mark.parametrize("step", ["before", "inside"])
    async def test_is_not_stored_and_can_be_repeated_at_once(
        self, owner: httpx.AsyncClient, onlooker: asyncpg.Connection, step: str
    ) -> None:
        api.plans["x"] = [step]
        assert (await _call(owner, "k")).status_code == 500
        assert await _effects(onlooker) == 0
        assert (await _call(owner, "k")).status_code == 202
        assert await _effects(onlooker) == 1

    async def test_of_validation_is_not_stored(self, owner: httpx.AsyncClient) -> None:
        bad = await owner.post(ACT, json={"name": 1}, headers={"Idempotency-Key": "k"})
        assert bad.status_code == 422
        assert (await _call(owner, "k")).status_code == 202


class TestTransactions:
    async def test_effect_and_answer_commit_together(
        self, owner: httpx.AsyncClient, onlooker: asyncpg.Connection
    ) -> None:
        await _call(owner, "k")
        xids = await onlooker.fetch(
            "select xmin::text from audit_entries union select xmin::text from idempotency_keys"
        )
        assert len(xids) == 1

    async def test_a_later_transaction_sees_the_earlier(
        self, owner: httpx.AsyncClient, onlooker: asyncpg.Connection
    ) -> None:
        answer = await _call(owner, "k", path="/mailchimp/probe/twice")
        assert answer.json()["seq"] == 2
        assert await _effects(onlooker) == 2

    async def test_none_stays_open_while_a_request_dawdles(
        self, owner: httpx.AsyncClient, onlooker: asyncpg.Connection
    ) -> None:
        api.plans["x"] = ["slow"]
        request = asyncio.create_task(_call(owner, "k"))
        for _ in range(100):
            await asyncio.sleep(0.01)
            if await _effects(onlooker):
                break
        assert not request.done()
        assert await _effects(onlooker) == 1
        assert (await request).status_code == 202
        assert (await _call(owner, "k")).headers["idempotency-replayed"] == "true"

    async def test_who_lost_the_lease_commits_nothing(
        self, owner: httpx.AsyncClient, onlooker: asyncpg.Connection
    ) -> None:
        """Another process took the key over while this one was at work."""

        async def steal() -> None:
            await onlooker.execute("update idempotency_keys set claim = gen_random_uuid()")

        api.inside = steal
        answer = await _call(owner, "k")
        assert (answer.status_code, answer.json()["code"]) == (409, "idempotency_key_in_use")
        assert answer.headers["retry-after"] == "1"
        assert await _effects(onlooker) == 0

    async def test_a_dead_claim_is_taken_over(
        self, owner: httpx.AsyncClient, onlooker: asyncpg.Connection
    ) -> None:
        """The process died before it answered: its lease ends, the same request goes through."""
        await _call(owner, "k")
        await onlooker.execute(
            "update idempotency_keys set status = null, locked_until = now() + $1",
            timedelta(seconds=30),
        )
        assert (await _call(owner, "k")).json()["code"] == "idempotency_key_in_use"
        await onlooker.execute("update idempotency_keys set locked_until = now()")
        assert (await _call(owner, "k", "y")).json()["code"] == "idempotency_key_reused"
        answer = await _call(owner, "k")
        assert answer.status_code == 202
        assert "idempotency-replayed" not in answer.headers


class TestStreams:
    async def test_are_known_by_length_and_type(
        self, owner: httpx.AsyncClient, onlooker: asyncpg.Connection
    ) -> None:
        async def send(body: bytes, kind: str = "text/csv") -> httpx.Response:
            headers = {"Idempotency-Key": "k", "Content-Type": kind}
            return await owner.post("/mailchimp/probe/stream", content=body, headers=headers)

        assert (await send(b"a,b\n1,2\n")).json()["seq"] == 8
        assert (await send(b"a,b\n1,2\n")).headers["idempotency-replayed"] == "true"
        assert (await send(b"a,b\n")).json()["code"] == "idempotency_key_reused"
        other = await send(b"a,b\n1,2\n", "application/x-ndjson")
        assert other.json()["code"] == "idempotency_key_reused"
        assert await _effects(onlooker) == 1


async def test_twenty_keys_and_ten_callers_each_make_twenty_effects(
    app: FastAPI, owner: httpx.AsyncClient, onlooker: asyncpg.Connection
) -> None:
    """A quarter of the first tries crash; everybody repeats until the answer is there."""
    for number in range(20):
        if number % 4 == 0:
            api.plans[f"n{number}"] = ["before", "inside"]

    async def caller(number: int) -> tuple[bytes, bool]:
        for _ in range(200):
            answer = await _call(owner, f"key-{number}", f"n{number}")
            if answer.status_code == 202:
                return answer.content, "idempotency-replayed" in answer.headers
            assert answer.status_code in {409, 500}
            await asyncio.sleep(0.2 + random.random() / 2)
        pytest.fail("never answered")

    answers = await asyncio.gather(*(caller(n) for n in range(20) for _ in range(10)))
    assert len({content for content, _ in answers}) == 20
    assert Counter(replayed for _, replayed in answers) == {False: 20, True: 180}
    assert await _effects(onlooker) == 20
    names = await onlooker.fetch("select diff->>'name' as name from audit_entries")
    assert {row["name"] for row in names} == {f"n{number}" for number in range(20)}
