"""Consent: who may be written to, since when, and what lifts a withdrawal."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from uuid import UUID

import asyncpg
import pytest
from sqlalchemy import text
from uuid6 import uuid7

from mcsync.core.auth import Actor
from mcsync.core.resources import Resources
from mcsync.features.preferences import service
from mcsync.mailchimp import subscriber_hash
from tests.features.contacts.callers import PERSON, Caller
from tests.support.organisations import Org

WHO = {"entityType": "employee", "entityId": "E-1"}
OTHER = PERSON | {"entityId": "E-2"}
"""Another contact with the same address."""
EMAIL = PERSON["email"]


def days_ago(days: float) -> str:
    return (datetime.now(UTC) - timedelta(days=days)).isoformat()


async def audience(resources: Resources, org: Org, member_status: str | None = None) -> UUID:
    """An audience, in whose mirror the person may be a member."""
    audience_id = uuid7()
    async with resources.db.transaction(org.id) as session:
        await session.execute(
            text(
                "insert into audiences (id, org_id, account_id, list_id, name)"
                " values (:id, :org, 'acc', :list, 'Staff')"
            ),
            {"id": audience_id, "org": org.id, "list": audience_id.hex},
        )
        if member_status is not None:
            await session.execute(
                text(
                    "insert into audience_members (org_id, audience_id, address_hash, email, status)"
                    " values (:org, :id, :hash, :email, :status)"
                ),
                {"id": audience_id, "org": org.id, "hash": UUID(subscriber_hash(EMAIL)),
                 "email": EMAIL, "status": member_status},
            )  # fmt: skip
    return audience_id


async def orders(onlooker: asyncpg.Connection) -> list[UUID]:
    rows = await onlooker.fetch(
        "select audience_id from audience_orders where status = 'open' and kind = 'withdrawal'"
    )
    return [row["audience_id"] for row in rows]


class TestUpdateOptStatus:
    async def test_anonymous_is_refused(self, anyone: Caller) -> None:
        assert (await anyone.says("opted_in")).status_code == 401

    async def test_a_viewer_may_not(self, viewer: Caller) -> None:
        assert (await viewer.says("opted_in")).status_code == 403

    async def test_a_foreign_or_unknown_contact_is_not_found(
        self, editor: Caller, stranger: Caller
    ) -> None:
        await editor.upserted(PERSON)
        assert (await stranger.says("opted_out")).status_code == 404
        assert (await editor.says("opted_out", "nobody")).status_code == 404

    async def test_an_opt_in_is_kept_with_source_and_proof(
        self, editor: Caller, onlooker: asyncpg.Connection
    ) -> None:
        await editor.upserted(PERSON)
        given = days_ago(3)
        proof = {"form": "/newsletter", "wordingVersion": "2026-03", "ipAddress": "2001:db8::1"}
        answer = (
            await editor.says("opted_in", source="intranet", consentGivenAt=given, proof=proof)
        ).json()
        assert (answer["status"], answer["source"], answer["proof"]) == (
            "opted_in",
            "intranet",
            proof,
        )
        assert datetime.fromisoformat(answer["consentGivenAt"]) == datetime.fromisoformat(given)
        assert answer["address"]["status"] == "opted_in"
        assert await editor.preference() == answer
        (event,) = await editor.history()
        assert (event["status"], event["applied"], event["proof"]) == ("opted_in", True, proof)
        rows = await onlooker.fetch("select action, diff::text from audit_entries order by seq")
        assert [row["action"] for row in rows] == ["contacts.upsert", "preferences.opt_in"]
        assert rows[1]["diff"] == '{"status": ["unset", "opted_in"]}'

    async def test_a_withdrawal_orders_its_way_to_mailchimp_at_once(
        self, editor: Caller, resources: Resources, organisation: Org, onlooker: asyncpg.Connection
    ) -> None:
        subscribed = await audience(resources, organisation, "subscribed")
        await audience(resources, organisation, "unsubscribed")
        await editor.upserted(PERSON)
        await editor.says("opted_in")
        assert await orders(onlooker) == []
        answer = (await editor.says("opted_out")).json()
        assert (answer["status"], answer["address"]["withdrawn"]) == ("opted_out", True)
        assert answer["consentWithdrawnAt"] > answer["consentGivenAt"]
        assert await orders(onlooker) == [subscribed]

    async def test_an_older_opt_in_does_not_lift_a_withdrawal_a_newer_does(
        self, editor: Caller
    ) -> None:
        await editor.upserted(PERSON)
        await editor.says("opted_out")
        refused = await editor.says("opted_in", consentGivenAt=days_ago(1))
        assert (refused.status_code, refused.json()["code"]) == (409, "opt_in_not_newer")
        assert (await editor.preference())["status"] == "opted_out"
        assert (await editor.says("opted_in")).json()["status"] == "opted_in"
        lifted = await editor.preference()
        assert lifted["address"]["withdrawn"] is False
        assert [event["status"] for event in await editor.history()] == ["opted_out", "opted_in"]

    async def test_a_withdrawal_of_the_address_by_another_holds_too(self, editor: Caller) -> None:
        await editor.upserted(PERSON, OTHER)
        await editor.says("opted_out", "E-2")
        refused = await editor.says("opted_in", consentGivenAt=days_ago(1))
        assert refused.json()["code"] == "opt_in_not_newer"
        own = await editor.preference()
        assert (own["status"], own["address"]["status"]) == ("unset", "opted_out")
        # newer lifts the address's own withdrawal, but not that of the other contact
        await editor.says("opted_in")
        own = await editor.preference()
        assert own["status"] == "opted_in"
        assert (own["address"]["status"], own["address"]["withdrawn"]) == ("opted_out", False)
        assert own["address"]["otherContacts"] == 1

    async def test_a_withdrawal_stays_with_the_address_and_with_the_contact(
        self, editor: Caller
    ) -> None:
        await editor.upserted(PERSON)
        await editor.says("opted_out")
        await editor.upserted(PERSON | {"email": "new@address.example"})
        moved = await editor.preference()
        assert (moved["status"], moved["address"]["withdrawn"]) == ("opted_out", False)
        await editor.upserted(OTHER)
        assert (await editor.preference("E-2"))["address"]["status"] == "opted_out"

    async def test_unset_takes_an_opt_in_back_but_lifts_no_withdrawal(self, editor: Caller) -> None:
        await editor.upserted(PERSON)
        assert (await editor.says("unset")).json()["status"] == "unset"
        await editor.says("opted_in")
        assert (await editor.says("unset")).json()["status"] == "unset"
        await editor.says("opted_out")
        refused = await editor.says("unset")
        assert (refused.status_code, refused.json()["code"]) == (409, "withdrawal_stands")

    async def test_withdrawing_again_moves_the_time(self, editor: Caller) -> None:
        await editor.upserted(PERSON)
        first = (await editor.says("opted_out")).json()["consentWithdrawnAt"]
        second = (await editor.says("opted_out")).json()["consentWithdrawnAt"]
        assert second > first
        assert len(await editor.history()) == 2

    async def test_an_earlier_opt_in_than_the_recorded_one_is_only_remembered(
        self, editor: Caller
    ) -> None:
        await editor.upserted(PERSON)
        await editor.says("opted_in", consentGivenAt=days_ago(2))
        before = await editor.preference()
        given = days_ago(5)
        for _ in range(2):
            assert (await editor.says("opted_in", consentGivenAt=given)).status_code == 200
        assert (await editor.preference())["consentGivenAt"] == before["consentGivenAt"]
        events = await editor.history()
        assert [(e["applied"], e["reason"]) for e in events] == [
            (True, None), (False, "already_opted_in"),
        ]  # fmt: skip

    @pytest.mark.parametrize(("status", "days"), [("opted_in", -1), ("opted_out", 1), ("unset", 1)])
    async def test_times_that_make_no_sense(self, editor: Caller, status: str, days: float) -> None:
        await editor.upserted(PERSON)
        answer = await editor.says(status, consentGivenAt=days_ago(days))
        assert (answer.status_code, answer.json()["code"]) == (400, "invalid_consent_time")
        assert answer.json()["errors"][0]["pointer"] == "/consentGivenAt"

    async def test_a_contact_that_left_still_has_a_say(self, editor: Caller) -> None:
        await editor.upserted(PERSON)
        await editor.mutate("contacts.delete", WHO)
        assert (await editor.says("opted_out")).json()["status"] == "opted_out"
        await editor.upserted(PERSON)
        assert (await editor.preference())["status"] == "opted_out"


class TestReading:
    async def test_anonymous_and_stranger(
        self, editor: Caller, anyone: Caller, stranger: Caller
    ) -> None:
        await editor.upserted(PERSON)
        await editor.says("opted_in")
        for procedure in ("getForEntity", "history"):
            name = f"preferences.{procedure}"
            assert (await anyone.query(name, **WHO)).status_code == 401
            assert (await stranger.query(name, **WHO)).status_code == 404
        assert (await anyone.query("preferences.list")).status_code == 401
        assert (await stranger.query("preferences.list")).json()["items"] == []

    async def test_nothing_recorded_is_unset(self, viewer: Caller, editor: Caller) -> None:
        await editor.upserted(PERSON)
        found = await viewer.preference()
        assert (found["status"], found["source"], found["address"]["status"]) == (
            "unset",
            None,
            "unset",
        )
        assert (await viewer.query("preferences.list")).json()["items"] == []

    async def test_a_list_by_status_in_pages(self, viewer: Caller, editor: Caller) -> None:
        contacts = [PERSON | {"entityId": f"E-{n}", "email": f"p{n}@n.example"} for n in range(5)]
        await editor.upserted(*contacts)
        for number in range(5):
            await editor.says("opted_in" if number % 2 else "opted_out", f"E-{number}")
        page = (await viewer.query("preferences.list", status="opted_out", limit=2)).json()
        rest = (
            await viewer.query(
                "preferences.list", status="opted_out", limit=2, cursor=page["nextCursor"]
            )
        ).json()
        assert [i["entityId"] for i in page["items"] + rest["items"]] == ["E-0", "E-2", "E-4"]
        assert rest["nextCursor"] is None


class TestPulled:
    """What people did at Mailchimp comes home in sets."""

    async def pull(
        self, resources: Resources, org: Org, kind: str, at: datetime, email: str = EMAIL
    ) -> int:
        actor = Actor.system(org.id, "pull")
        async with resources.db.transaction(org.id) as session:
            await session.execute(
                text(
                    "create temp table pulled (address_hash uuid, effective_at timestamptz) on commit drop"
                )
            )
            await session.execute(
                text("insert into pulled values (:hash, :at)"),
                {"hash": UUID(subscriber_hash(email)), "at": at},
            )
            record = (
                service.record_withdrawals_pulled
                if kind == "withdrawal"
                else service.record_opt_ins_pulled
            )
            return await record(session, actor, source="mailchimp", table="pulled")

    async def test_a_withdrawal_reaches_every_contact_with_the_address_once(
        self, editor: Caller, resources: Resources, organisation: Org, onlooker: asyncpg.Connection
    ) -> None:
        elsewhere = await audience(resources, organisation, "subscribed")
        await audience(resources, organisation)
        await editor.upserted(
            PERSON, OTHER, PERSON | {"entityId": "E-3", "email": "else@n.example"}
        )
        at = datetime.now(UTC) - timedelta(hours=1)
        assert await self.pull(resources, organisation, "withdrawal", at) == 2
        for entity in ("E-1", "E-2"):
            found = await editor.preference(entity)
            assert (found["status"], found["source"]) == ("opted_out", "mailchimp")
            assert datetime.fromisoformat(found["consentWithdrawnAt"]) == at
        assert (await editor.preference("E-3"))["address"]["status"] == "unset"
        assert await orders(onlooker) == [elsewhere]
        assert await self.pull(resources, organisation, "withdrawal", at) == 0
        assert len(await editor.history()) == 1
        actions = await onlooker.fetch("select action from audit_entries order by seq")
        assert [row["action"] for row in actions] == ["contacts.upsert", "preferences.pulled"]

    async def test_one_older_than_an_opt_in_is_only_remembered(
        self, editor: Caller, resources: Resources, organisation: Org, onlooker: asyncpg.Connection
    ) -> None:
        await audience(resources, organisation, "subscribed")
        await editor.upserted(PERSON)
        await editor.says("opted_in", consentGivenAt=days_ago(1))
        at = datetime.now(UTC) - timedelta(days=2)
        for _ in range(2):
            assert await self.pull(resources, organisation, "withdrawal", at) == 0
        assert (await editor.preference())["address"]["status"] == "opted_in"
        assert [(e["status"], e["applied"], e["reason"]) for e in await editor.history()] == [
            ("opted_in", True, None), ("opted_out", False, "older_than_opt_in"),
        ]  # fmt: skip
        assert await orders(onlooker) == []

    async def test_an_opt_in_lifts_only_an_earlier_withdrawal(
        self, editor: Caller, resources: Resources, organisation: Org
    ) -> None:
        await editor.upserted(PERSON)
        now = datetime.now(UTC)
        await self.pull(resources, organisation, "withdrawal", now - timedelta(days=2))
        for _ in range(2):
            assert await self.pull(resources, organisation, "opt_in", now - timedelta(days=3)) == 0
        assert (await editor.preference())["status"] == "opted_out"
        assert await self.pull(resources, organisation, "opt_in", now - timedelta(days=1)) == 1
        assert await self.pull(resources, organisation, "opt_in", now - timedelta(days=1)) == 0
        found = await editor.preference()
        assert (found["status"], found["address"]["withdrawn"]) == ("opted_in", False)
        assert len(await editor.history()) == 3
        # the withdrawal pulled once more after all that changes nothing
        assert await self.pull(resources, organisation, "withdrawal", now - timedelta(days=2)) == 0
        assert len(await editor.history()) == 3

    async def test_a_case_of_one_address_in_two_audiences_at_different_times(
        self, editor: Caller, resources: Resources, organisation: Org
    ) -> None:
        await editor.upserted(PERSON)
        now = datetime.now(UTC)
        later, earlier = now - timedelta(hours=1), now - timedelta(hours=2)
        assert await self.pull(resources, organisation, "withdrawal", earlier) == 1
        assert await self.pull(resources, organisation, "withdrawal", later) == 1
        assert await self.pull(resources, organisation, "withdrawal", earlier) == 0
        found = await editor.preference()
        assert datetime.fromisoformat(found["consentWithdrawnAt"]) == later
