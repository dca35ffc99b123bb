"""An operator's call and a form post act on the member there is, whichever spelling its domain has."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import asyncpg
import httpx
import pytest
from fastapi import FastAPI

from mcsync.core.auth.tokens import issue_token
from mcsync.core.resources import Resources
from tests.conftest import MakeContacts
from tests.features.connection.bench import Caller
from tests.features.subscribers.test_forms import SUBSCRIBE, requests, work
from tests.features.subscribers.test_subscribers import (
    DIRECT,
    carry_out,
    ok,
    refused,
    status,
    suppress,
    who,
)
from tests.support.organisations import Org
from tests.support.sandbox import ALL_STAFF, SandboxControl

UNICODE = "ida@bücher.example"
A_LABEL = "ida@xn--bcher-kva.example"
BOTH_WAYS = pytest.mark.parametrize(
    ("named", "there"), [(UNICODE, A_LABEL), (A_LABEL, UNICODE)], ids=["unicode", "a-label"]
)
FIELDS = {"FNAME": "Ida", "LNAME": "L"}


async def spelled(mailchimp: SandboxControl) -> list[tuple[str, str]]:
    """The members of the mailbox, as they are spelled, with their status."""
    members = await mailchimp.members(ALL_STAFF, UNICODE, A_LABEL)
    return [(m["email"], m["status"]) for m in members]


@BOTH_WAYS
class TestAMemberInTheOtherSpelling:
    async def test_is_shown(
        self, connected: Caller, viewer: Caller, mailchimp: SandboxControl, named: str, there: str
    ) -> None:
        await mailchimp.person(ALL_STAFF, there, "subscribe_form", merge_fields=FIELDS)
        shown = await status(viewer, named)
        assert (shown["status"], shown["email"]) == ("subscribed", there)

    async def test_is_on_the_list_already(
        self, connected: Caller, editor: Caller, mailchimp: SandboxControl, named: str, there: str
    ) -> None:
        await mailchimp.person(ALL_STAFF, there, "subscribe_form", merge_fields=FIELDS)
        body = who(named, mergeFields=FIELDS)
        await refused(editor, "subscribe", 409, "already_on_list", **body)
        assert await spelled(mailchimp) == [(there, "subscribed")]

    async def test_is_asked_to_confirm_after_it_left(
        self, connected: Caller, editor: Caller, mailchimp: SandboxControl, named: str, there: str
    ) -> None:
        await mailchimp.person(ALL_STAFF, there, "subscribe_form", merge_fields=FIELDS)
        await mailchimp.person(ALL_STAFF, there, "unsubscribe")
        answer = await ok(editor, "subscribe", **who(named, mergeFields=FIELDS))
        assert answer["status"] == "pending"
        assert await spelled(mailchimp) == [(there, "pending")]

    async def test_is_not_subscribed_over_its_own_withdrawal(
        self, connected: Caller, owner: Caller, mailchimp: SandboxControl, named: str, there: str
    ) -> None:
        await mailchimp.person(ALL_STAFF, there, "subscribe_form", merge_fields=FIELDS)
        await mailchimp.person(ALL_STAFF, there, "unsubscribe", reason="Unspecified")
        body = who(named, mergeFields=FIELDS, **DIRECT)
        await refused(owner, "subscribe", 409, "compliance", **body)
        assert await spelled(mailchimp) == [(there, "unsubscribed")]

    @pytest.mark.parametrize("strategy", ["create_first", "update_first"])
    async def test_is_updated_and_not_made_twice(
        self, connected: Caller, editor: Caller, mailchimp: SandboxControl, named: str, there: str,
        strategy: str,
    ) -> None:  # fmt: skip
        await mailchimp.person(ALL_STAFF, there, "subscribe_form", merge_fields=FIELDS)
        body = who(named, mergeFields={"FNAME": "Idun"}, strategy=strategy)
        answer = await ok(editor, "createOrUpdate", **body)
        assert answer["created"] is False
        assert answer["subscriber"]["mergeFields"]["FNAME"] == "Idun"
        assert await spelled(mailchimp) == [(there, "subscribed")]

    async def test_is_updated_archived_and_unsubscribed(
        self, connected: Caller, editor: Caller, mailchimp: SandboxControl, organisation: Org,
        resources: Resources, onlooker: asyncpg.Connection, named: str, there: str,
    ) -> None:  # fmt: skip
        await mailchimp.person(ALL_STAFF, there, "subscribe_form", merge_fields=FIELDS)
        assert (await ok(editor, "update", **who(named, vip=True)))["vip"] is True
        await ok(editor, "unsubscribe", **who(named, source="phone"))
        await carry_out(resources, organisation, onlooker)
        assert await spelled(mailchimp) == [(there, "unsubscribed")]
        shown = await ok(editor, "archive", **who(named))
        assert shown["status"] == "archived"
        assert await spelled(mailchimp) == [(there, "archived")]

    async def test_consent_is_shared(
        self, connected: Caller, editor: Caller, onlooker: asyncpg.Connection,
        make_contacts: MakeContacts, named: str, there: str,
    ) -> None:  # fmt: skip
        await make_contacts(1, email=there)
        await ok(editor, "unsubscribe", **who(named, source="phone"))
        found = await onlooker.fetchval("select status from email_preferences")
        assert found == "opted_out"
        assert (await status(editor, there))["consent"]["withdrawn"] is True

    async def test_an_erased_address_is_refused(
        self, connected: Caller, editor: Caller, resources: Resources, organisation: Org,
        named: str, there: str,
    ) -> None:  # fmt: skip
        await suppress(resources, organisation, A_LABEL)
        for email in (named, there):
            body = who(email, mergeFields=FIELDS)
            await refused(editor, "subscribe", 409, "suppressed", **body)


@pytest.mark.parametrize("email", [UNICODE, A_LABEL])
async def test_nobody_there_is_added_as_spelled(
    connected: Caller, editor: Caller, mailchimp: SandboxControl, onlooker: asyncpg.Connection,
    email: str,
) -> None:  # fmt: skip
    await ok(editor, "subscribe", **who(email, mergeFields=FIELDS))
    assert await spelled(mailchimp) == [(email, "pending")]
    row = await onlooker.fetchrow("select mailbox_hash is null as own from audience_members")
    assert row is not None
    assert row["own"] is (email == A_LABEL)


class TestForms:
    @pytest.fixture
    async def form(
        self, app: FastAPI, connected: Caller, resources: Resources, organisation: Org
    ) -> AsyncIterator[Caller]:
        """A page with a publishable token for one audience."""
        assert (await connected.query("connection.listAudiences")).status_code == 200
        async with resources.db.transaction(organisation.id) as session:
            issued = await issue_token(
                session, resources.hash_keys, name="site", role=None, audiences=[ALL_STAFF]
            )
        transport = httpx.ASGITransport(app=app, client=("203.0.113.7", 4711))
        headers = {"Authorization": f"Bearer {issued.token}"}
        async with httpx.AsyncClient(
            transport=transport, base_url="http://api", headers=headers
        ) as client:
            yield Caller(client)

    @BOTH_WAYS
    async def test_a_post_finds_the_member(
        self, form: Caller, mailchimp: SandboxControl, resources: Resources, organisation: Org,
        onlooker: asyncpg.Connection, named: str, there: str,
    ) -> None:  # fmt: skip
        await mailchimp.person(ALL_STAFF, there, "subscribe_form", merge_fields=FIELDS)
        body: dict[str, Any] = who(named, mergeFields=FIELDS)
        assert (await form.http.post(SUBSCRIBE, json=body)).status_code == 200
        await work(resources, organisation, onlooker)
        assert await requests(onlooker) == [("already", "subscribed")]
        await mailchimp.person(ALL_STAFF, there, "unsubscribe")
        assert (await form.http.post(SUBSCRIBE, json=body)).status_code == 200
        await work(resources, organisation, onlooker)
        assert await spelled(mailchimp) == [(there, "pending")]
