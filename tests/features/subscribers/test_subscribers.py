"""What an operator does for one person, against PostgreSQL and the sandbox."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import asyncpg
import pytest
from sqlalchemy import text

from mcsync.core.auth import Actor
from mcsync.core.crypto import keyed_hash
from mcsync.core.resources import Resources
from mcsync.features.audiences import repository as audiences
from mcsync.features.connection import service as connection
from mcsync.features.preferences.arrivals import merge_and_record
from mcsync.features.sync import withdrawals
from mcsync.mailchimp import Lane
from tests.conftest import MakeContacts
from tests.features.connection.bench import Caller, audit_actions
from tests.support.organisations import Org
from tests.support.sandbox import ALL_STAFF, SUPPLIERS, SandboxControl

ADA = "ada@lindqvist.example"
PROOF = {"form": "/newsletter", "wordingVersion": "2026-03", "ipAddress": "203.0.113.7"}
DIRECT: dict[str, Any] = {
    "status": "subscribed",
    "consentGivenAt": "2026-11-20T08:30:00Z",
    "proof": PROOF,
}


def who(email: str = ADA, **given: Any) -> dict[str, Any]:
    return {"audienceId": ALL_STAFF, "email": email, **given}


async def ok(caller: Caller, procedure: str, **given: Any) -> dict[str, Any]:
    answer = await caller.mutate(f"subscribers.{procedure}", **given)
    assert answer.status_code == 200, answer.text
    body: dict[str, Any] = answer.json()
    return body


async def refused(caller: Caller, procedure: str, expected: int, code: str, /, **given: Any) -> Any:
    answer = await caller.mutate(f"subscribers.{procedure}", **given)
    assert (answer.status_code, answer.json()["code"]) == (expected, code), answer.text
    return answer.json()


async def status(caller: Caller, email: str = ADA) -> dict[str, Any]:
    answer = await caller.query("subscribers.getStatus", audienceId=ALL_STAFF, email=email)
    assert answer.status_code == 200, answer.text
    body: dict[str, Any] = answer.json()
    return body


async def pull(resources: Resources, org: Org, *emails: str) -> None:
    """What a sync's pull does with these members."""
    link = await connection.open_link(resources, org.id, lane=Lane.LIVE)
    found = [await link.client.member(ALL_STAFF, email) for email in emails]
    async with resources.db.transaction(org.id) as session:
        audience = await audiences.by_list_id(session, ALL_STAFF)
        assert audience is not None
        await merge_and_record(
            session, Actor.system(org.id, "test"), audience.id, found, resources.hash_keys
        )


async def history(caller: Caller, email: str = ADA) -> list[dict[str, Any]]:
    """Everything stated under the address, oldest first."""
    answer = await caller.query("preferences.history", email=email)
    assert answer.status_code == 200, answer.text
    items: list[dict[str, Any]] = answer.json()["items"]
    return items[::-1]


async def suppress(resources: Resources, org: Org, email: str) -> None:
    async with resources.db.transaction(org.id) as session:
        await session.execute(
            text("insert into suppressions (org_id, kind, key) values (:org, 'address', :key)"),
            {"org": org.id, "key": keyed_hash(org.hash_key, "address", email)},
        )


async def preference(onlooker: asyncpg.Connection, number: int = 1) -> dict[str, Any] | None:
    row = await onlooker.fetchrow(
        "select * from email_preferences where entity_id = $1", f"E{number:06}"
    )
    return dict(row) if row else None


class TestGetStatus:
    async def test_anonymous_is_refused(self, anyone: Caller) -> None:
        answer = await anyone.query("subscribers.getStatus", audienceId=ALL_STAFF, email=ADA)
        assert answer.status_code == 401

    async def test_every_state_is_told(
        self, connected: Caller, viewer: Caller, mailchimp: SandboxControl
    ) -> None:
        assert (await status(viewer))["status"] == "not_on_list"
        assert (await status(viewer))["email"] is None
        await mailchimp.person(ALL_STAFF, ADA, "subscribe_form", merge_fields={"FNAME": "Ada"})
        found = await status(viewer, "  ADA@Lindqvist.example ".strip())
        assert (found["status"], found["mergeFields"]["FNAME"]) == ("subscribed", "Ada")
        assert found["optedInAt"].endswith("Z")
        await mailchimp.person(ALL_STAFF, ADA, "unsubscribe")
        assert (await status(viewer))["status"] == "unsubscribed"
        assert (await status(viewer))["unsubscribeReason"]
        await mailchimp.person(ALL_STAFF, ADA, "bounce")
        assert (await status(viewer))["status"] == "cleaned"
        await mailchimp.admin(ALL_STAFF, ADA, "archive")
        assert (await status(viewer))["status"] == "archived"
        await mailchimp.admin(ALL_STAFF, ADA, "delete_permanent")
        assert (await status(viewer))["status"] == "not_on_list"

    async def test_an_unknown_audience_is_not_found_and_no_address_is_repeated(
        self, connected: Caller
    ) -> None:
        answer = await connected.query("subscribers.getStatus", audienceId="0000000000", email=ADA)
        assert (answer.status_code, answer.json()["code"]) == (404, "audience_not_found")
        answer = await connected.query(
            "subscribers.getStatus", audienceId=ALL_STAFF, email="ada@nowhere"
        )
        assert answer.status_code == 422
        assert "nowhere" not in answer.text


class TestSubscribe:
    async def test_a_viewer_may_not(self, viewer: Caller) -> None:
        assert (await viewer.mutate("subscribers.subscribe", who())).status_code == 403

    async def test_it_asks_for_confirmation_and_owns_nobody(
        self, connected: Caller, editor: Caller, mailchimp: SandboxControl, organisation: Org,
        onlooker: asyncpg.Connection,
    ) -> None:  # fmt: skip
        body = await ok(editor, "subscribe", **who(mergeFields={"FNAME": "Ada"}, proof=PROOF))
        assert body["status"] == body["subscriber"]["status"] == "pending"
        assert body["subscriber"]["mergeFields"]["FNAME"] == "Ada"
        assert body["subscriber"]["consent"]["givenAt"] is None
        member = await mailchimp.member(ALL_STAFF, ADA)
        assert member is not None
        assert (member["status"], member["confirmationMails"]) == ("pending", 1)
        assert member["ipSignup"] == "203.0.113.7"
        row = await onlooker.fetchrow("select status, owned, requested_at from audience_members")
        assert row is not None
        assert (row["status"], row["owned"], row["requested_at"] is None) == (
            "pending", False, False,
        )  # fmt: skip
        kept = await onlooker.fetchrow("select * from subscription_requests")
        assert kept is not None
        assert (kept["state"], kept["email"], kept["via"]) == ("asked", None, "api")
        assert await onlooker.fetchval("select state from audience_calls") == "answered"
        assert (await audit_actions(onlooker, organisation))[1:] == ["subscribers.subscribe"]

    async def test_the_opt_in_is_recorded_when_mailchimp_shows_it_confirmed(
        self, connected: Caller, mailchimp: SandboxControl, resources: Resources,
        organisation: Org, onlooker: asyncpg.Connection, make_contacts: MakeContacts,
    ) -> None:  # fmt: skip
        """For somebody who is no contact under the address, for a contact also under the contact."""
        await make_contacts(1, email="grace@hopper.example")
        for email in (ADA, "grace@hopper.example"):
            await ok(connected, "subscribe", **who(email))
        await pull(resources, organisation, ADA, "grace@hopper.example")
        assert (await status(connected))["consent"]["givenAt"] is None
        assert await preference(onlooker) is None
        await mailchimp.advance_clock(2)
        for email in (ADA, "grace@hopper.example"):
            await mailchimp.person(ALL_STAFF, email, "confirm")
        await pull(resources, organisation, ADA, "grace@hopper.example")
        found = await status(connected)
        assert found["consent"]["givenSource"] == "mailchimp"
        assert found["consent"]["givenAt"] == found["optedInAt"]
        stated = await preference(onlooker)
        assert stated is not None
        assert (stated["status"], stated["source"]) == ("opted_in", "mailchimp")
        assert await onlooker.fetchval("select count(requested_at) from audience_members") == 0
        for email, entity in ((ADA, None), ("grace@hopper.example", "E000001")):
            (event,) = await history(connected, email)
            assert (event["entityId"], event["status"]) == (entity, "opted_in")
            assert (event["source"], event["applied"]) == ("mailchimp", True)
        assert event["effectiveAt"] == (await status(connected, email))["consent"]["givenAt"]

    async def test_what_an_address_of_no_contact_says_at_mailchimp_is_kept_once(
        self, connected: Caller, mailchimp: SandboxControl, resources: Resources,
        organisation: Org, onlooker: asyncpg.Connection,
    ) -> None:  # fmt: skip
        await ok(connected, "subscribe", **who(proof=PROOF))
        for act in ("confirm", "unsubscribe", "resubscribe_form"):
            await mailchimp.advance_clock(2)
            await mailchimp.person(ALL_STAFF, ADA, act)
            for _ in range(2):
                await pull(resources, organisation, ADA)
        events = await history(connected)
        assert [(e["entityId"], e["status"], e["source"], e["applied"]) for e in events] == [
            (None, "opted_in", "mailchimp", True),
            (None, "opted_out", "mailchimp", True),
            (None, "opted_in", "mailchimp", True),
        ]
        consent = (await status(connected))["consent"]
        assert events[2]["effectiveAt"] == consent["givenAt"]
        assert events[1]["effectiveAt"] == consent["withdrawnAt"]
        assert not await onlooker.fetchval("select count(*) from email_preferences")

    async def test_who_withdrew_comes_back_by_confirming(
        self, connected: Caller, mailchimp: SandboxControl, resources: Resources,
        organisation: Org, onlooker: asyncpg.Connection, make_contacts: MakeContacts,
    ) -> None:  # fmt: skip
        await make_contacts(1, email=ADA)
        await ok(connected, "subscribe", **who(**DIRECT))
        await ok(connected, "unsubscribe", **who())
        early = await refused(connected, "subscribe", 409, "already_on_list", **who())
        assert early["memberStatus"] == "subscribed"
        await carry_out(resources, organisation, onlooker)
        await ok(connected, "subscribe", **who())
        assert (await preference(onlooker) or {})["status"] == "opted_out"
        await mailchimp.advance_clock(2)
        await mailchimp.person(ALL_STAFF, ADA, "confirm")
        await pull(resources, organisation, ADA)
        assert (await preference(onlooker) or {})["status"] == "opted_in"
        assert (await status(connected))["consent"]["withdrawn"] is False

    async def test_while_a_withdrawal_is_on_its_way_nobody_is_asked(
        self, connected: Caller, mailchimp: SandboxControl, onlooker: asyncpg.Connection
    ) -> None:
        await ok(connected, "unsubscribe", **who())
        body = await refused(connected, "subscribe", 409, "withdrawal_under_way", **who())
        assert body["retryAfter"] > 0
        assert await mailchimp.member(ALL_STAFF, ADA) is None
        assert await onlooker.fetchval("select count(*) from audience_calls") == 0

    @pytest.mark.parametrize("already", ["subscribed", "pending"])
    async def test_who_is_there_already_is_told(
        self, connected: Caller, mailchimp: SandboxControl, already: str,
        organisation: Org, onlooker: asyncpg.Connection,
    ) -> None:  # fmt: skip
        await mailchimp.change_list(ALL_STAFF, double_optin=already == "pending")
        await mailchimp.person(ALL_STAFF, ADA, "subscribe_form")
        body = await refused(connected, "subscribe", 409, "already_on_list", **who())
        assert body["memberStatus"] == already
        assert (await audit_actions(onlooker, organisation))[1:] == []

    async def test_missing_and_wrong_fields_are_named(
        self, connected: Caller, mailchimp: SandboxControl
    ) -> None:
        await connected.mutate(
            "audiences.createMergeFields",
            audienceId=ALL_STAFF,
            fields=[
                {"tag": "SHOE", "name": "Shoe size", "type": "number", "required": True},
                {"tag": "BORN", "name": "Born on", "type": "date"},
            ],
        )
        body = await refused(connected, "subscribe", 400, "required_fields_missing", **who())
        assert [one["pointer"] for one in body["errors"]] == ["/mergeFields/SHOE"]
        body = await refused(
            connected, "subscribe", 400, "invalid_merge_fields",
            **who(mergeFields={"SHOE": 44, "NONE": "x"}),
        )  # fmt: skip
        assert [one["pointer"] for one in body["errors"]] == ["/mergeFields/NONE"]
        body = await refused(
            connected, "subscribe", 400, "invalid_merge_fields",
            **who(mergeFields={"SHOE": "enormous"}),
        )  # fmt: skip
        assert [one["pointer"] for one in body["errors"]] == ["/mergeFields/SHOE"]
        assert "enormous" not in str(body)
        assert (await ok(connected, "subscribe", **who(mergeFields={"SHOE": 44})))["status"]

    async def test_who_unsubscribed_by_themselves_is_asked_and_never_subscribed_directly(
        self, connected: Caller, mailchimp: SandboxControl
    ) -> None:
        await mailchimp.person(ALL_STAFF, ADA, "subscribe_form")
        await mailchimp.person(ALL_STAFF, ADA, "unsubscribe")
        await refused(connected, "subscribe", 409, "compliance", **who(**DIRECT))
        assert (await ok(connected, "subscribe", **who()))["status"] == "pending"
        await mailchimp.person(ALL_STAFF, "bo@unce.example", "subscribe_form")
        await mailchimp.person(ALL_STAFF, "bo@unce.example", "bounce")
        await refused(connected, "subscribe", 409, "cleaned", **who("bo@unce.example"))

    async def test_directly_needs_scope_time_and_proof(
        self, connected: Caller, editor: Caller, mailchimp: SandboxControl, organisation: Org,
        onlooker: asyncpg.Connection, make_contacts: MakeContacts,
    ) -> None:  # fmt: skip
        await make_contacts(2, email=ADA)
        await refused(editor, "subscribe", 403, "forbidden", **who(**DIRECT))
        body = await refused(
            connected, "subscribe", 400, "proof_required", **who(status="subscribed")
        )
        assert [one["pointer"] for one in body["errors"]] == ["/consentGivenAt", "/proof"]
        future = DIRECT | {"consentGivenAt": "2099-01-01T00:00:00Z"}
        await refused(connected, "subscribe", 400, "invalid_consent_time", **who(**future))
        assert await mailchimp.member(ALL_STAFF, ADA) is None
        body = await ok(connected, "subscribe", **who(**DIRECT, source="trade fair"))
        assert body["status"] == body["subscriber"]["status"] == "subscribed"
        assert body["subscriber"]["consent"]["givenAt"] == "2026-11-20T08:30:00Z"
        assert body["subscriber"]["optedInAt"] == "2026-11-20T08:30:00Z"
        for number in (1, 2):
            stated = await preference(onlooker, number)
            assert stated is not None
            assert (stated["status"], stated["source"]) == ("opted_in", "trade fair")
        assert (await audit_actions(onlooker, organisation))[1:] == ["subscribers.subscribe"]

    async def test_a_withdrawal_that_is_not_older_stands(
        self, connected: Caller, resources: Resources, organisation: Org,
        onlooker: asyncpg.Connection, mailchimp: SandboxControl,
    ) -> None:  # fmt: skip
        await ok(connected, "unsubscribe", **who())
        await carry_out(resources, organisation, onlooker)
        await refused(connected, "subscribe", 409, "opt_in_not_newer", **who(**DIRECT))
        ahead = DIRECT | {"consentGivenAt": (datetime.now(UTC) + timedelta(minutes=3)).isoformat()}
        await refused(connected, "subscribe", 409, "opt_in_not_newer", **who(**ahead))
        assert await mailchimp.member(ALL_STAFF, ADA) is None
        assert await onlooker.fetchval("select count(*) from subscription_requests") == 0

    async def test_an_erased_address_is_refused_everywhere(
        self, connected: Caller, resources: Resources, organisation: Org, mailchimp: SandboxControl
    ) -> None:
        await suppress(resources, organisation, ADA)
        for procedure, given in (
            ("subscribe", {}), ("update", {"vip": True}), ("unsubscribe", {}), ("archive", {}),
            ("createOrUpdate", {}),
        ):  # fmt: skip
            await refused(connected, procedure, 409, "suppressed", **who(ADA.upper(), **given))
        assert await mailchimp.member(ALL_STAFF, ADA) is None

    async def test_an_erased_person_who_came_back_may_leave_again(
        self, connected: Caller, resources: Resources, organisation: Org, mailchimp: SandboxControl,
        onlooker: asyncpg.Connection,
    ) -> None:  # fmt: skip
        await connected.query("connection.listAudiences")
        await suppress(resources, organisation, ADA)
        await mailchimp.person(SUPPLIERS, ADA, "subscribe_form")
        assert (await ok(connected, "unsubscribe", **who()))["status"] == "opted_out"
        await carry_out(resources, organisation, onlooker, audience=SUPPLIERS)
        member = await mailchimp.member(SUPPLIERS, ADA)
        assert member is not None
        assert member["status"] == "unsubscribed"

    async def test_so_may_a_contact_who_shares_an_erased_address(
        self, connected: Caller, resources: Resources, organisation: Org, make_contacts: MakeContacts,
        onlooker: asyncpg.Connection,
    ) -> None:  # fmt: skip
        await make_contacts(1, email=ADA)
        await suppress(resources, organisation, ADA)
        assert (await ok(connected, "unsubscribe", **who()))["contacts"] == 1
        stated = await preference(onlooker, 1)
        assert stated is not None
        assert stated["status"] == "opted_out"

    async def test_an_answer_that_is_lost_leaves_a_call_for_withdrawals_to_wait_for(
        self, connected: Caller, mailchimp: SandboxControl, onlooker: asyncpg.Connection
    ) -> None:
        await mailchimp.fault("504_after", method="POST", path="/members", times=1)
        answer = await connected.mutate("subscribers.subscribe", who())
        assert answer.status_code == 503
        call = await onlooker.fetchrow("select state, sent_at from audience_calls")
        assert call is not None
        assert call["state"] == "abandoned"
        assert await onlooker.fetchval("select state from subscription_requests") == "unknown"

    async def test_another_organisation_cannot_reach_our_audience(
        self, connected: Caller, stranger: Caller, mailchimp: SandboxControl
    ) -> None:
        key = "ccccddddeeeeffff0000111122223333-us4"
        await mailchimp.open_account(key, lists=["Theirs"])
        await stranger.mutate("connection.connect", apiKey=key)
        await refused(stranger, "subscribe", 404, "audience_not_found", **who())


async def carry_out(
    resources: Resources, org: Org, onlooker: asyncpg.Connection, *, audience: str = ALL_STAFF
) -> None:
    """What a worker does with the orders of an audience."""
    audience_id: UUID = await onlooker.fetchval(
        "select id from audiences where list_id = $1", audience
    )
    await withdrawals.carry_out(resources, org.id, audience_id)


class TestUpdate:
    async def test_only_what_is_named_changes(
        self, connected: Caller, editor: Caller, mailchimp: SandboxControl, organisation: Org,
        onlooker: asyncpg.Connection,
    ) -> None:  # fmt: skip
        await mailchimp.person(
            ALL_STAFF, ADA, "subscribe_form", merge_fields={"FNAME": "Ada", "LNAME": "L"}
        )
        body = await ok(editor, "update", **who(mergeFields={"LNAME": "Sol"}, vip=True))
        assert body["mergeFields"]["FNAME"] == "Ada"
        assert (body["mergeFields"]["LNAME"], body["vip"]) == ("Sol", True)
        assert body["status"] == "subscribed"
        emptied = await ok(editor, "update", **who(mergeFields={"LNAME": ""}, language="pt_PT"))
        assert (emptied["mergeFields"]["LNAME"], emptied["language"]) == ("", "pt_PT")
        assert (await audit_actions(onlooker, organisation))[1:] == ["subscribers.update"] * 2

    async def test_a_stranger_and_nothing_are_told(
        self, connected: Caller, mailchimp: SandboxControl
    ) -> None:
        await refused(connected, "update", 404, "not_on_list", **who(vip=True))
        await refused(connected, "update", 400, "nothing_to_change", **who())


class TestUnsubscribe:
    async def test_it_withdraws_every_contact_and_the_address_and_reaches_every_audience(
        self, connected: Caller, editor: Caller, mailchimp: SandboxControl, resources: Resources,
        organisation: Org, onlooker: asyncpg.Connection, make_contacts: MakeContacts,
    ) -> None:  # fmt: skip
        await make_contacts(2, email=ADA)
        await connected.query("connection.listAudiences")
        for audience in (ALL_STAFF, SUPPLIERS):
            await mailchimp.person(audience, ADA, "subscribe_form")
        body = await ok(editor, "unsubscribe", **who(source="by telephone"))
        assert body == {
            "audienceId": ALL_STAFF, "status": "opted_out", "contacts": 2, "audiences": 2,
        }  # fmt: skip
        for number in (1, 2):
            stated = await preference(onlooker, number)
            assert stated is not None
            assert (stated["status"], stated["source"]) == ("opted_out", "by telephone")
        for audience in (ALL_STAFF, SUPPLIERS):
            await carry_out(resources, organisation, onlooker, audience=audience)
            member = await mailchimp.member(audience, ADA)
            assert member is not None
            assert member["status"] == "unsubscribed"
        found = await status(connected)
        assert (found["status"], found["consent"]["withdrawn"]) == ("unsubscribed", True)
        assert (await audit_actions(onlooker, organisation))[1:] == ["subscribers.unsubscribe"]

    async def test_an_address_nobody_knows_is_remembered_too(
        self, connected: Caller, onlooker: asyncpg.Connection
    ) -> None:
        assert (await ok(connected, "subscribe", **who(**DIRECT)))["status"] == "subscribed"
        assert (await ok(connected, "unsubscribe", **who(source="call")))["contacts"] == 0
        joined, left = await history(connected)
        assert (joined["status"], joined["proof"]) == ("opted_in", PROOF)
        assert joined["effectiveAt"] == DIRECT["consentGivenAt"]
        assert (left["status"], left["source"], left["actorKind"]) == ("opted_out", "call", "token")
        upserted = await connected.mutate(
            "contacts.upsert",
            contacts=[{
                "entityType": "employee", "entityId": "E1", "email": ADA, "optStatus": "opted_in",
            }],
        )  # fmt: skip
        assert upserted.status_code == 200, upserted.text
        answer = await connected.query(
            "preferences.getForEntity", entityType="employee", entityId="E1"
        )
        assert answer.json()["address"]["status"] == "opted_out"


class TestArchive:
    async def test_a_member_is_archived_and_stays_so(
        self, connected: Caller, editor: Caller, mailchimp: SandboxControl, organisation: Org,
        onlooker: asyncpg.Connection,
    ) -> None:  # fmt: skip
        await mailchimp.person(ALL_STAFF, ADA, "subscribe_form")
        for _ in range(2):
            assert (await ok(editor, "archive", **who()))["status"] == "archived"
        row = await onlooker.fetchrow("select status, archived_by_us from audience_members")
        assert row is not None
        assert (row["status"], row["archived_by_us"]) == ("archived", False)
        assert (await audit_actions(onlooker, organisation))[1:] == ["subscribers.archive"] * 2

    async def test_who_cannot_be_archived_is_told(
        self, connected: Caller, mailchimp: SandboxControl
    ) -> None:
        await refused(connected, "archive", 404, "not_on_list", **who())
        await ok(connected, "subscribe", **who())
        body = await refused(connected, "archive", 409, "cannot_archive", **who())
        assert body["memberStatus"] == "pending"

    def test_the_description_says_what_erasing_takes(self, app: Any) -> None:
        told = app.openapi()["paths"]["/mailchimp/subscribers/archive"]["post"]["description"]
        assert "gdprDelete" in told


class TestCreateOrUpdate:
    @pytest.mark.parametrize("strategy", ["update_first", "create_first"])
    async def test_both_orders_end_the_same_and_differ_in_calls(
        self, connected: Caller, editor: Caller, mailchimp: SandboxControl, strategy: str,
        organisation: Org, onlooker: asyncpg.Connection,
    ) -> None:  # fmt: skip
        seq = await mailchimp.seq()
        body = await ok(
            editor, "createOrUpdate", **who(strategy=strategy, mergeFields={"FNAME": "Ada"})
        )
        assert (body["created"], body["subscriber"]["status"]) == (True, "pending")
        new = [call["method"] for call in await mailchimp.calls(since=seq, write=True)]
        assert new == (["PATCH", "POST"] if strategy == "update_first" else ["POST"])
        await mailchimp.person(ALL_STAFF, ADA, "confirm")
        seq = await mailchimp.seq()
        body = await ok(
            editor, "createOrUpdate", **who(strategy=strategy, mergeFields={"LNAME": "Sol"})
        )
        assert (body["created"], body["subscriber"]["status"]) == (False, "subscribed")
        assert body["subscriber"]["mergeFields"]["FNAME"] == "Ada"
        assert body["subscriber"]["mergeFields"]["LNAME"] == "Sol"
        known = [call["method"] for call in await mailchimp.calls(since=seq, write=True)]
        assert known == (["PATCH"] if strategy == "update_first" else ["POST", "PATCH"])
        assert (await onlooker.fetchval("select owned from audience_members")) is False
        actions = (await audit_actions(onlooker, organisation))[1:]
        assert set(actions) == {"subscribers.create_or_update"}

    @pytest.mark.parametrize("strategy", ["update_first", "create_first"])
    async def test_who_is_archived_comes_back_in_both_orders(
        self, connected: Caller, mailchimp: SandboxControl, strategy: str
    ) -> None:
        await mailchimp.person(ALL_STAFF, ADA, "subscribe_form")
        await ok(connected, "archive", **who())
        body = await ok(
            connected, "createOrUpdate", **who(strategy=strategy, mergeFields={"FNAME": "Ada"})
        )
        assert (body["created"], body["subscriber"]["status"]) == (True, "pending")
        assert body["subscriber"]["mergeFields"]["FNAME"] == "Ada"

    async def test_who_left_keeps_that_status(
        self, connected: Caller, mailchimp: SandboxControl
    ) -> None:
        await mailchimp.person(ALL_STAFF, ADA, "subscribe_form")
        await mailchimp.person(ALL_STAFF, ADA, "unsubscribe")
        for strategy in ("update_first", "create_first"):
            body = await ok(
                connected, "createOrUpdate", **who(strategy=strategy, mergeFields={"FNAME": "A"})
            )
            assert body["created"] is False
            assert body["subscriber"]["status"] == "unsubscribed"
