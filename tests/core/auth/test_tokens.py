"""Service tokens: form, memory, end."""

from __future__ import annotations

import asyncio
import re
from datetime import timedelta
from uuid import UUID, uuid4

import asyncpg
import httpx
import pytest
from fastapi import FastAPI
from uuid6 import uuid7

from mcsync.core.auth import Role, Scope, scopes_of
from mcsync.core.auth.token_format import make_token, read_token_id
from mcsync.core.auth.tokens import TokenVerifier, issue_token, list_tokens, revoke_token
from mcsync.core.clock import utc_now
from mcsync.core.errors import NotFoundError, UnauthenticatedError
from mcsync.core.resources import Resources
from tests.core.api import client_of
from tests.core.api import make_token as make_stored_token
from tests.support.organisations import Org


class TestForm:
    @pytest.mark.parametrize("token_id", [uuid7(), UUID(int=0), UUID(int=(1 << 128) - 1)])
    def test_carries_its_id(self, token_id: UUID) -> None:
        token = make_token(token_id)
        assert re.fullmatch(r"mcs_[0-9A-Za-z]{22}_[0-9A-Za-z]{49}", token)
        assert read_token_id(token) == token_id

    def test_one_for_a_public_page_looks_otherwise(self) -> None:
        token_id = uuid7()
        token = make_token(token_id, publishable=True)
        assert token.startswith("mcp_")
        assert read_token_id(token) == token_id
        assert read_token_id("mcs_" + token.removeprefix("mcp_")) is None

    def test_a_single_changed_character_is_noticed(self) -> None:
        token = make_token(uuid7())
        for place in range(4, len(token)):
            if token[place] != "_":
                other = "a" if token[place] != "a" else "b"
                assert read_token_id(token[:place] + other + token[place + 1 :]) is None

    @pytest.mark.parametrize(
        "text", ["", "mcs_", "mcs_x_y", "Bearer x", "mcs_" + "z" * 22 + "_" + "z" * 49]
    )
    def test_rubbish_is_none(self, text: str) -> None:
        assert read_token_id(text) is None


class TestVerification:
    async def test_gives_the_actor(self, resources: Resources, organisation: Org) -> None:
        issued = await make_stored_token(resources, organisation, Role.EDITOR, "platform")
        actor = await TokenVerifier(resources).verify(issued.token)
        assert (actor.org_id, actor.kind, actor.id) == (organisation.id, "token", str(issued.id))
        assert actor.label == "platform"
        assert actor.scopes == scopes_of(Role.EDITOR)
        assert issued.token not in repr(issued)

    async def test_only_a_keyed_hash_is_stored(
        self, resources: Resources, organisation: Org, onlooker: asyncpg.Connection
    ) -> None:
        issued = await make_stored_token(resources, organisation)
        row = await onlooker.fetchrow("select * from service_tokens")
        assert row is not None
        assert issued.token not in str(dict(row))
        assert len(row["token_hash"]) == 32
        assert issued.token.endswith(row["last4"])

    async def test_refuses_another_secret_under_the_same_id(
        self, resources: Resources, organisation: Org
    ) -> None:
        issued = await make_stored_token(resources, organisation)
        with pytest.raises(UnauthenticatedError):
            await TokenVerifier(resources).verify(make_token(issued.id))

    async def test_refuses_an_unknown_id(self, resources: Resources) -> None:
        with pytest.raises(UnauthenticatedError):
            await TokenVerifier(resources).verify(make_token(uuid7()))

    async def test_refuses_an_expired_token_even_from_memory(
        self, resources: Resources, organisation: Org
    ) -> None:
        async with resources.db.transaction(organisation.id) as session:
            issued = await issue_token(
                session,
                resources.hash_keys,
                name="short",
                role=Role.VIEWER,
                expires_at=utc_now() + timedelta(minutes=1),
            )
        verifier = TokenVerifier(resources)
        await verifier.verify(issued.token)
        resources.clock = lambda: utc_now() + timedelta(minutes=2)
        with pytest.raises(UnauthenticatedError):
            await verifier.verify(issued.token)

    async def test_a_revoked_token_ends_when_its_memory_does(
        self, resources: Resources, organisation: Org
    ) -> None:
        issued = await make_stored_token(resources, organisation)
        verifier = TokenVerifier(resources)
        await verifier.verify(issued.token)
        async with resources.db.transaction(organisation.id) as session:
            await revoke_token(session, issued.id, at=utc_now())
        verifier.forget()
        with pytest.raises(UnauthenticatedError):
            await verifier.verify(issued.token)

    async def test_one_organisation_cannot_revoke_anothers(
        self, resources: Resources, organisation: Org, other_organisation: Org
    ) -> None:
        issued = await make_stored_token(resources, organisation)
        async with resources.db.transaction(other_organisation.id) as session:
            with pytest.raises(NotFoundError):
                await revoke_token(session, issued.id, at=utc_now())
            assert await list_tokens(session) == []

    async def test_many_callers_ask_the_database_once(
        self, resources: Resources, organisation: Org
    ) -> None:
        issued = await make_stored_token(resources, organisation)
        verifier = TokenVerifier(resources)
        asked = 0
        system = resources.db.system

        def counted() -> object:
            nonlocal asked
            asked += 1
            return system()

        resources.db.system = counted  # type: ignore[assignment, method-assign]
        await asyncio.gather(*(verifier.verify(issued.token) for _ in range(50)))
        await verifier.verify(issued.token)
        assert asked == 1

    async def test_use_is_noted_once_a_minute(
        self, resources: Resources, organisation: Org, onlooker: asyncpg.Connection
    ) -> None:
        issued = await make_stored_token(resources, organisation)
        seen = []
        for _ in range(2):
            await TokenVerifier(resources).verify(issued.token)
            seen.append(await onlooker.fetchval("select last_used_at from service_tokens"))
        assert seen[0] is not None
        assert seen[0] == seen[1]


class TestScopes:
    def test_roles_build_on_each_other(self) -> None:
        viewer, editor, owner = (scopes_of(role) for role in (Role.VIEWER, Role.EDITOR, Role.OWNER))
        assert viewer < editor < owner == frozenset(Scope)
        assert all(scope.endswith(":read") for scope in viewer)
        assert owner - editor == {
            Scope.CONNECTION_MANAGE,
            Scope.CONSENT_ERASE,
            Scope.SOURCES_PULL,
            Scope.SUBSCRIBERS_DIRECT,
        }

    async def test_without_a_token_is_401_with_a_challenge(
        self, anonymous: httpx.AsyncClient
    ) -> None:
        answer = await anonymous.get("/mailchimp/audit/list")
        assert answer.status_code == 401
        assert answer.headers["www-authenticate"].startswith("Bearer")

    @pytest.mark.parametrize(
        "header",
        ["Bearer x", "Bearer", "Basic eDp5", "Bearer " + make_token(uuid4())],
        ids=["garbage", "nothing", "another scheme", "of nobody"],  # the same in each process
    )
    async def test_with_a_bad_token_is_401(self, anonymous: httpx.AsyncClient, header: str) -> None:
        answer = await anonymous.get("/mailchimp/audit/list", headers={"Authorization": header})
        assert answer.status_code == 401
        assert answer.json()["code"] == "unauthenticated"

    async def test_without_the_scope_is_403_naming_it(self, viewer: httpx.AsyncClient) -> None:
        answer = await viewer.post("/mailchimp/probe/act", json={"name": "x"})
        assert answer.status_code == 403
        assert "segments:write" in answer.json()["detail"]

    async def test_a_token_sees_its_own_organisation(
        self, app: FastAPI, resources: Resources, owner: httpx.AsyncClient, other_organisation: Org
    ) -> None:
        await owner.post("/mailchimp/probe/act", json={"name": "x"})
        other = await make_stored_token(resources, other_organisation)
        async with client_of(app, other.token) as stranger:
            assert (await stranger.get("/mailchimp/audit/list")).json()["items"] == []
        assert len((await owner.get("/mailchimp/audit/list")).json()["items"]) == 1
