"""contacts.explain: for each thing that keeps a person in or out, the answer says which and what follows."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from typing import Any
from uuid import UUID

import httpx
import pytest

from mcsync.app import create_app
from mcsync.core.auth import Role
from mcsync.core.errors import BadRequestError, NotFoundError
from mcsync.features.connection import service as connection
from mcsync.features.sync import decide, explain, explain_words
from mcsync.features.sync.explain_schemas import ExplainedAudience, Explanation
from tests.features.sync.conftest import Configure
from tests.features.sync.world import World, ago
from tests.support.organisations import make_token

ADA = "ada@acme.example"
BEN = "ben@acme.example"


async def told(world: World, email: str = ADA) -> Explanation:
    return await explain.explain(world.resources, world.actor, email=email)


async def people(world: World, email: str = ADA) -> ExplainedAudience:
    """What is told of the first audience; that the next sync does so is checked too."""
    answer = await told(world, email)
    (audience,) = [a for a in answer.audiences if a.name == "People"]
    for segment in audience.segments:
        await world.sql("update contact_segments set planned_xid = null")
        run = await world.sync(segment.id, dry_run=True)
        addresses = {email, audience.member.email if audience.member else email}
        changes = [c for c in await world.changes(run) if c.email in addresses]
        if segment.action is not None:
            assert (segment.action, segment.reason) in {(c.action, c.reason) for c in changes}
        else:
            assert {c.action for c in changes} <= {"skip"}, segment
    return audience


def rule(audience: ExplainedAudience) -> tuple[int | None, str | None, str | None]:
    (segment,) = audience.segments
    return segment.rule, segment.action, segment.reason


class TestWords:
    def test_there_are_words_for_everything_that_is_ever_decided(self) -> None:
        said = decide._PEOPLE.partition("when old_hash is not null then 'address_changed'")[2]
        reasons = set(re.findall(r"(?:then|else) '([a-z_]+)'", said.partition("end as reason")[0]))
        assert len(reasons) > 15
        worded = {reason for _, reason in explain_words.OUTCOMES}
        assert reasons - {"refused_"} <= worded | {"cleaned", "archived", "transactional"}
        passed = set(re.findall(r"then '([a-z_]+)'", decide.WHY_PASSED_OVER))
        assert passed == set(explain_words.PASSED_OVER)

    def test_every_row_of_the_table_is_told(self) -> None:
        rows = {row for row, _ in explain_words.OUTCOMES.values()}
        assert rows | {1, 3, 7, 12} == set(range(1, 21))


class TestWhy:
    async def test_about_to_be_added(self, world: World) -> None:
        await world.contact(ADA)
        await world.segment()

        answer = await told(world)

        assert answer.summary == "Opted in. In none of 2 audiences."
        assert [(c.entity_id, c.status, c.has_address) for c in answer.contacts] == [
            ("E000001", "opted_in", True)
        ]
        assert answer.address is not None
        assert answer.address.status == "opted_in"
        assert answer.address.other_contacts == 0
        audience = await people(world)
        assert rule(audience) == (9, "add", "new")
        assert audience.member is None
        assert "Wanted by Sales. The next sync adds them." in audience.summary
        (partners,) = [a for a in answer.audiences if a.name == "Partners"]
        assert "No segment uses this audience." in partners.summary

    async def test_in_and_as_it_should_be(self, world: World) -> None:
        await world.contact(ADA)
        run = await world.sync(await world.segment())

        audience = await people(world)

        assert rule(audience) == (12, None, None)
        assert audience.member is not None
        assert (audience.member.status, audience.member.owned) == ("subscribed", True)
        assert audience.member.since is not None
        assert audience.summary.startswith("Subscribed since 20")
        assert audience.summary.endswith("Wanted by Sales. The next sync changes nothing.")
        assert [(p.run_id, p.action, p.state) for p in audience.last_pushes] == [
            (run.id, "add", "done")
        ]
        assert (await told(world)).summary == "Opted in. In 1 of 2 audiences: People."

    async def test_no_opt_in_is_recorded(self, world: World) -> None:
        await world.contact(ADA, opted=None)
        await world.segment()
        audience = await people(world)
        assert rule(audience) == (None, None, "not_opted_in")
        assert "matches but does not want them: no opt-in is recorded" in audience.summary

    async def test_somebody_else_with_the_address_has_not_opted_in(self, world: World) -> None:
        await world.contact(ADA)
        await world.contact(ADA, opted=None, department="Elsewhere")
        await world.segment()
        audience = await people(world)
        assert rule(audience) == (None, None, "address_not_opted_in")
        answer = await told(world)
        assert answer.address is not None
        assert (answer.address.status, answer.address.other_contacts) == ("unset", 1)
        assert len(answer.contacts) == 2

    async def test_no_filter_matches(self, world: World) -> None:
        await world.contact(ADA, department="Elsewhere")
        await world.segment()
        audience = await people(world)
        assert rule(audience) == (None, None, None)
        assert "No segment's filters match them." in audience.summary

    async def test_withdrawn_and_on_its_way_then_done(self, world: World) -> None:
        person = await world.contact(ADA)
        await world.sync(await world.segment())
        await world.opt(person, "out")

        audience = await people(world)

        assert rule(audience) == (2, "unsubscribe", "withdrawn")
        assert "withdrawal" in {order.kind for order in audience.open_orders}
        assert "A withdrawal is on its way" in audience.summary
        await world.orders()
        audience = await people(world)
        assert rule(audience) == (3, None, "opted_out")
        assert "withdrawal" not in {order.kind for order in audience.open_orders}
        assert "Unsubscribed by mcsync, after a withdrawal since" in audience.summary
        assert audience.summary.endswith("does not want them: they withdrew their consent.")
        assert (await told(world)).summary.startswith("Opted out.")

    async def test_unsubscribed_in_person_and_the_way_back(self, world: World) -> None:
        person = await world.contact(ADA)
        segment = await world.segment()
        await world.sync(segment)
        await world.person(ADA, "unsubscribe")
        await world.sync(segment)
        audience = await people(world)
        assert audience.member is not None
        assert audience.member.unsubscribed_by == "person"
        assert "Unsubscribed by the person since" in audience.summary
        answer = await told(world)
        assert answer.address is not None
        assert answer.address.consent_withdrawn_source == "mailchimp"

        await world.wait(60)
        await world.opt(person, "in", at=world.now())
        audience = await people(world)
        assert rule(audience) == (15, "resubscribe", "ask_again")
        assert "lets Mailchimp ask them to confirm" in audience.summary

    async def test_unsubscribed_by_staff_there(self, world: World) -> None:
        await world.contact(ADA)
        segment = await world.segment()
        await world.sync(segment)
        await world.admin(ADA, "unsubscribe")
        await world.sync(segment)
        assert rule(await people(world)) == (16, "skip", "unsubscribed_by_others")

    async def test_bounced(self, world: World) -> None:
        await world.contact(ADA)
        segment = await world.segment()
        await world.sync(segment)
        await world.person(ADA, "bounce")
        await world.sync(segment)
        audience = await people(world)
        assert rule(audience) == (16, "skip", "cleaned")
        assert "No opt-in changes that" in audience.summary

    async def test_left_and_about_to_be_archived(self, world: World) -> None:
        person = await world.contact(ADA)
        await world.sync(await world.segment())
        await world.upsert(person, department="Elsewhere")
        assert rule(await people(world)) == (6, "archive", "left")

    async def test_moved_to_another_address(self, world: World) -> None:
        person = await world.contact(ADA)
        await world.sync(await world.segment())
        await world.upsert(person, email=BEN)

        assert rule(await people(world, BEN)) == (4, "rename", "address_changed")
        before = await told(world)
        assert [c.has_address for c in before.contacts] == [False]
        (audience,) = [a for a in before.audiences if a.name == "People"]
        assert rule(audience) == (4, None, None)
        assert "renames this member" in audience.segments[0].explanation

    async def test_a_changed_address_at_mailchimp_is_followed(self, world: World) -> None:
        await world.contact(ADA)
        segment = await world.segment()
        await world.sync(segment)
        await world.person(ADA, "change_email", new_email=BEN)
        await world.sync(segment)

        for email in (ADA, BEN):
            answer = await told(world, email)
            assert [c.has_address for c in answer.contacts] == [True], email
            (audience,) = [a for a in answer.audiences if a.name == "People"]
            assert audience.member is not None
            assert (audience.member.status, audience.segments[0].rule) == ("subscribed", 12)

    async def test_refused_by_mailchimp(self, world: World, configure: Configure) -> None:
        await configure(throttlePattern="^ada@")
        await world.contact(ADA)
        run = await world.sync(await world.segment())

        audience = await people(world)

        assert rule(audience) == (19, "skip", "throttled")
        assert audience.refusal is not None
        assert (audience.refusal.code, audience.refusal.attempts) == ("throttled", 1)
        assert audience.refusal.next_try_at is not None
        wait = audience.refusal.next_try_at - audience.refusal.last_seen_at
        assert 295 < wait.total_seconds() < 305
        assert f"Mailchimp said: {audience.refusal.message}" in audience.summary
        assert [(p.run_id, p.outcome_code) for p in audience.last_pushes] == [(run.id, "throttled")]

    async def test_erased(self, world: World) -> None:
        await world.contact(ADA)
        await world.segment()
        await world.sql(
            """insert into suppressions (org_id, kind, key)
               select org_id, 'address', address_key from contacts"""
        )
        audience = await people(world)
        assert rule(audience) == (1, None, "suppressed")
        answer = await told(world)
        assert answer.suppressed_at is not None
        assert answer.summary.startswith("Erased at their request since")

    async def test_disconnected(self, world: World) -> None:
        await world.contact(ADA)
        await world.sync(await world.segment())
        await connection.disconnect(world.resources, world.actor)
        (audience,) = [a for a in (await told(world)).audiences if a.name == "People"]
        assert audience.connected is False
        assert "not connected" in audience.summary

    async def test_a_member_who_is_no_contact(self, world: World) -> None:
        await world.admin(BEN, "subscribe")
        await world.sync(await world.segment())
        answer = await told(world, BEN)
        assert answer.contacts == []
        assert answer.address is None
        assert answer.summary == "In 1 of 2 audiences: People."

    async def test_several_segments_each_with_its_own_word(self, world: World) -> None:
        await world.contact(ADA, opted=None)
        await world.segment()
        await world.segment("Notices", legalBasis="legitimate_interest", optIn="double")
        audience = await people(world)
        assert [(s.name, s.wanted, s.action) for s in audience.segments] == [
            ("Sales", False, None),
            ("Notices", True, "add"),
        ]
        assert "Wanted by Notices." in audience.summary
        assert "as pending until they confirm" in audience.summary


class TestAsking:
    async def test_nothing_is_written(self, world: World) -> None:
        await world.contact(ADA)
        await world.sync(await world.segment())
        since = await world.sandbox.seq()
        before = await world.sql("select max(changed_xid) from audience_members")
        await told(world)
        assert await world.sandbox.calls(since=since) == []
        assert await world.sql("select max(changed_xid) from audience_members") == before

    async def test_somebody_unknown_is_not_found(self, world: World) -> None:
        await world.segment()
        with pytest.raises(NotFoundError):
            await told(world, "nobody@acme.example")
        with pytest.raises(NotFoundError):
            await explain.explain(
                world.resources, world.actor, entity_type="employee", entity_id="nobody"
            )
        with pytest.raises(BadRequestError):
            await told(world, "not an address")

    @pytest.mark.parametrize(
        "given",
        [{}, {"entity_type": "employee"}, {"entity_id": "E1", "email": ADA},
         {"entity_type": "employee", "entity_id": "E1", "email": ADA}],
    )  # fmt: skip
    async def test_who_is_meant_must_be_clear(self, world: World, given: dict[str, Any]) -> None:
        with pytest.raises(BadRequestError) as caught:
            await explain.explain(world.resources, world.actor, **given)
        assert caught.value.code == "nothing_to_explain"

    async def test_a_contact_without_an_address(self, world: World) -> None:
        person = await world.contact(ADA, opted="out")
        await world.sql("update contacts set email = null, address_hash = null, address_key = null")
        answer = await explain.explain(
            world.resources, world.actor, entity_type="employee", entity_id=person
        )
        assert (answer.email, answer.audiences) == (None, [])
        assert answer.summary.startswith("Opted out.")


@pytest.fixture
async def api(world: World) -> AsyncIterator[httpx.AsyncClient]:
    token = await make_token(world.resources, world.org, Role.VIEWER)
    async with httpx.AsyncClient(
        transport=httpx.ASGITransport(create_app(resources=world.resources)),
        base_url="http://mcsync.test", headers={"Authorization": f"Bearer {token}"},
    ) as client:  # fmt: skip
        yield client


class TestRefusalsAreShown:
    async def test_at_the_contact_and_at_the_change(
        self, world: World, configure: Configure, api: httpx.AsyncClient
    ) -> None:
        await configure(fakePattern="^ada@")
        person = await world.contact(ADA)
        segment = await world.segment()
        run = await world.sync(segment)
        again = await world.sync(segment)

        entity = {"entityType": "employee", "entityId": person}
        contact = (await api.get("/mailchimp/contacts/get", params=entity)).json()
        (refusal,) = contact["refusals"]
        assert (refusal["audienceId"], refusal["code"]) == (world.list_id, "fake")
        assert refusal["nextTryAt"] is None
        assert "not sent again" in refusal["outlook"]
        assert ADA not in refusal["message"]
        for run_id, state in ((run.id, "failed"), (again.id, "skipped")):
            changes = await _changes(api, run_id)
            assert [(c["state"], c["refusal"]["code"]) for c in changes] == [(state, "fake")]
        explained = (await api.get("/mailchimp/contacts/explain", params=entity)).json()
        assert explained["audiences"][1]["refusal"] == refusal

    async def test_none_where_all_is_well(self, world: World, api: httpx.AsyncClient) -> None:
        person = await world.contact(ADA)
        run = await world.sync(await world.segment())
        entity = {"entityType": "employee", "entityId": person}
        assert (await api.get("/mailchimp/contacts/get", params=entity)).json()["refusals"] == []
        assert [c["refusal"] for c in await _changes(api, run.id)] == [None]


async def _changes(api: httpx.AsyncClient, run_id: UUID) -> list[dict[str, Any]]:
    answer = await api.get("/mailchimp/segments/listChanges", params={"id": str(run_id)})
    assert answer.status_code == 200, answer.text
    items: list[dict[str, Any]] = answer.json()["items"]
    return items


class TestRefusalsFollowTheirRules:
    async def test_a_new_opt_in_brings_no_one_back_whose_mail_bounced_or_who_was_deleted(
        self, world: World
    ) -> None:
        ada, ben = await world.contact(ADA), await world.contact(BEN)
        segment = await world.segment()
        await world.sync(segment)
        await world.person(ADA, "bounce")
        await world.admin(BEN, "delete_permanent")
        await world.sync(segment)
        await world.wait(days=1)
        for person in (ada, ben):
            await world.opt(person, "in", at=world.now())
        since = await world.sandbox.seq()

        await world.sync(segment)

        assert await world.writes(since) == []
        bounced, deleted = await people(world, ADA), await people(world, BEN)
        assert rule(bounced) == (16, "skip", "cleaned")
        assert rule(deleted) == (19, "skip", "refused_forgotten")
        assert "No opt-in changes that" in bounced.summary
        assert "whatever consent is recorded here" in deleted.summary

    @pytest.mark.parametrize("code", ["invalid_address", "fake", "forgotten", "cleaned"])
    async def test_what_is_refused_for_good_is_not_sent_again(
        self, world: World, code: str
    ) -> None:
        person = await world.contact(ADA)
        segment = await world.segment()
        await world.sql(
            """insert into audience_refusals (org_id, audience_id, address_hash, code, message)
               select c.org_id, s.audience_id, c.address_hash, :code, 'no'
               from contacts c, contact_segments s""",
            code=code,
        )
        await world.opt(person, "in", at=ago(seconds=-1))
        await world.wait(days=30)
        since = await world.sandbox.seq()
        await world.sync(segment)
        assert [w for w in await world.writes(since) if w != "POST segments"] == []
        assert rule(await people(world)) == (19, "skip", f"refused_{code}")
