"""Orders (``sync.md`` 5): a withdrawal reaches Mailchimp by itself, and is not over before it is certain."""

from __future__ import annotations

from typing import Any
from uuid import UUID, uuid4

import pytest

from mcsync.core.web.paging import PageParams
from mcsync.features.preferences import service as preferences
from mcsync.mailchimp import subscriber_hash
from tests.features.sync.test_push import spoil
from tests.features.sync.world import World, ago

ADA = "ada@acme.example"


async def open_orders(world: World) -> list[Any]:
    """What is still on its way."""
    return list(
        await world.sql(
            "select * from audience_orders where status = 'open' and kind = 'withdrawal'"
        )
    )


async def call_under_way(world: World, email: str) -> UUID:
    """A bulk call that was taken before, carries the address, and is not answered yet."""
    call = uuid4()
    await world.sql(
        """insert into audience_calls (id, org_id, audience_id, kind, state, addresses, sent_at)
           select :id, org_id, id, 'add', 'taken', array[cast(:hash as uuid)], now()
           from audiences where list_id = :list""",
        id=call, hash=UUID(subscriber_hash(email)), list=world.list_id,
    )  # fmt: skip
    return call


class TestOneWithdrawal:
    async def test_of_a_member_that_the_mirror_knows_is_one_bulk_call(self, world: World) -> None:
        person = await world.contact(ADA)
        segment = await world.segment()
        await world.sync(segment)
        since = await world.sandbox.seq()
        await world.opt(person, "out")

        await world.orders()

        assert await world.status(ADA) == "unsubscribed"
        assert await world.writes(since) == ["POST "]
        assert await open_orders(world) == []
        run = await world.sync(segment)
        assert run.skipped_by_reason == {"opted_out": 1}
        await world.nothing_left(segment)

    async def test_of_one_that_it_does_not_know_is_found_in_every_audience(
        self, world: World
    ) -> None:
        person = await world.contact(ADA)
        await world.person(ADA, "subscribe_form")
        await world.person(ADA, "subscribe_form", list_id=world.other_list_id)
        await world.opt(person, "out")

        await world.orders()

        assert await world.status(ADA) == "unsubscribed"
        assert await world.status(ADA, world.other_list_id) == "unsubscribed"
        assert await open_orders(world) == []

    @pytest.mark.parametrize("act", ["bounce", "archive", None])
    async def test_never_creates_or_brings_back_anybody(self, world: World, act: Any) -> None:
        person = await world.contact(ADA)
        if act:
            segment = await world.segment()
            await world.sync(segment)
            if act == "archive":
                await world.admin(ADA, "archive")
            else:
                await world.person(ADA, act)
            await world.sync(segment)  # what the mirror shows is what counts
        before = await world.status(ADA)
        await world.opt(person, "out")
        since = await world.sandbox.seq()

        await world.orders()

        assert await world.status(ADA) == before
        assert not [
            h for h in await world.sandbox.history(email=ADA, since=since)
            if h["list_id"] == world.list_id and h["to_status"] != "unsubscribed"
        ]  # fmt: skip
        assert await open_orders(world) == []

    async def test_a_later_opt_in_lifts_it(self, world: World) -> None:
        person = await world.contact(ADA)
        segment = await world.segment()
        await world.sync(segment)
        await world.opt(person, "out")
        await world.wait()
        await world.opt(person, "in")
        since = await world.sandbox.seq()

        await world.orders()

        assert await world.writes(since) == []
        assert await world.status(ADA) == "subscribed"
        assert await open_orders(world) == []

    async def test_an_opt_in_that_is_not_later_does_not(self, world: World) -> None:
        person = await world.contact(ADA)
        segment = await world.segment()
        await world.sync(segment)
        await world.opt(person, "out")
        await world.upsert(
            person, email=ADA, optStatus="opted_in",
            consentGivenAt=(world.now() - (ago() - ago(hours=1))).isoformat(),
        )  # fmt: skip

        await world.orders()

        assert await world.status(ADA) == "unsubscribed"


class TestAnAddressLeftBehind:
    """Changed here, and not yet, or never again, at Mailchimp: the person is still written to there."""

    async def test_goes_with_the_withdrawal(self, world: World) -> None:
        person = await world.contact("old@acme.example")
        segment = await world.segment(onLeave="keep")
        await world.sync(segment)
        await world.move(person, ADA)
        await world.opt(person, "out")

        await world.orders()

        assert await world.status("old@acme.example") == "unsubscribed"
        assert await open_orders(world) == []
        for email, entity in (("old@acme.example", None), (ADA, person)):
            page = await preferences.history(
                world.resources, world.actor, PageParams(200, None), email=email
            )
            said = page.items[0]
            assert (said.entity_id, said.status, said.applied) == (entity, "opted_out", True)
        await world.sync(segment)
        await world.nothing_left(segment)

    async def test_also_where_one_row_says_both(self, world: World) -> None:
        person = await world.contact("old@acme.example")
        await world.sync(await world.segment())
        await world.upsert(person, email=ADA, optStatus="opted_out")

        await world.orders()

        assert await world.status("old@acme.example") == "unsubscribed"

    async def test_also_where_it_was_being_added_meanwhile(self, world: World) -> None:
        person = await world.contact("old@acme.example")
        await world.sql(
            """insert into audience_members (org_id, audience_id, address_hash, email, status, intent_at)
               select org_id, id, :hash, 'old@acme.example', 'absent', now()
               from audiences where list_id = :list""",
            hash=UUID(subscriber_hash("old@acme.example")), list=world.list_id,
        )  # fmt: skip
        await world.move(person, ADA)
        await world.opt(person, "out")
        await world.admin("old@acme.example", "subscribe")

        await world.orders()

        assert await world.status("old@acme.example") == "unsubscribed"

    async def test_but_not_where_another_contact_has_it_now(self, world: World) -> None:
        person = await world.contact("desk@acme.example")
        await world.sync(await world.segment())
        await world.move(person, ADA)
        await world.contact("desk@acme.example")
        await world.opt(person, "out")

        await world.orders()

        assert await world.status("desk@acme.example") == "subscribed"


class TestOneWhoChangedTheAddressAtMailchimp:
    @pytest.mark.parametrize("pulled", [True, False])
    async def test_and_came_back_with_the_first_is_reached_under_both(
        self, world: World, pulled: bool
    ) -> None:
        person = await world.contact(ADA)
        segment = await world.segment()
        await world.sync(segment)
        await world.person(ADA, "change_email", new_email="moved@home.example")
        await world.sync(segment)
        await world.person(ADA, "subscribe_form")
        if pulled:
            await world.sync(segment)
        await world.opt(person, "out")

        await world.orders()

        assert await world.status(ADA) == "unsubscribed"
        assert await world.status("moved@home.example") == "unsubscribed"
        assert await open_orders(world) == []
        await world.sync(segment)
        await world.nothing_left(segment)

    async def test_is_caught_by_the_next_run_at_the_latest(self, world: World) -> None:
        person = await world.contact(ADA)
        segment = await world.segment()
        await world.sync(segment)
        await world.person(ADA, "change_email", new_email="moved@home.example")
        await world.sync(segment)
        await world.opt(person, "out")
        await world.orders()
        await world.admin(ADA, "subscribe")

        await world.sync(segment)

        assert await world.status(ADA) == "unsubscribed"
        await world.nothing_left(segment)


class TestCallsUnderWay:
    async def test_it_stays_open_until_a_call_with_the_address_is_answered(
        self, world: World
    ) -> None:
        person = await world.contact(ADA)
        segment = await world.segment()
        await world.sync(segment)
        call = await call_under_way(world, ADA)
        await world.opt(person, "out")

        await world.orders()

        assert await world.status(ADA) == "unsubscribed"
        assert len(await open_orders(world)) == 1
        # the call under way subscribes them again, at Mailchimp only a moment later
        await world.admin(ADA, "subscribe")
        await world.wait(2)
        await world.orders()
        assert await world.status(ADA) == "unsubscribed"
        assert len(await open_orders(world)) == 1

        await world.sql("update audience_calls set state = 'answered' where id = :id", id=call)
        await world.wait(10)
        await world.orders()
        assert await open_orders(world) == []

    async def test_or_two_minutes_after_it_was_sent(self, world: World) -> None:
        person = await world.contact(ADA)
        await call_under_way(world, ADA)
        await world.opt(person, "out")
        await world.wait(100)
        await world.orders()
        assert len(await open_orders(world)) == 1

        await world.wait(30)
        await world.orders()

        assert await open_orders(world) == []

    async def test_calls_with_other_addresses_do_not_matter(self, world: World) -> None:
        person = await world.contact(ADA)
        await call_under_way(world, "bob@acme.example")
        await world.opt(person, "out")

        await world.orders()

        assert await open_orders(world) == []


class TestAnAudienceThatNoSegmentUses:
    async def test_is_reached_by_an_import_too(self, world: World) -> None:
        person = await world.contact(ADA)
        await world.person(ADA, "subscribe_form", list_id=world.other_list_id)
        await world.upsert(person, email=ADA, optStatus="opted_out")

        await world.orders()

        assert await world.status(ADA, world.other_list_id) == "unsubscribed"
        assert await open_orders(world) == []

    async def test_and_by_who_unsubscribes_elsewhere_at_mailchimp(self, world: World) -> None:
        await world.contact(ADA)
        segment = await world.segment()
        await world.sync(segment)
        await world.person(ADA, "subscribe_form", list_id=world.other_list_id)
        await world.person(ADA, "unsubscribe")
        await world.sync(segment)

        await world.orders()

        assert await world.status(ADA, world.other_list_id) == "unsubscribed"


class TestManyAtOnce:
    async def test_go_in_bulk(self, world: World) -> None:
        await world.crowd(600)
        segment = await world.segment()
        await world.sync(segment)
        since = await world.sandbox.seq()
        await world.crowd(600, optStatus="opted_out")

        await world.orders()

        assert await world.statuses() == {"unsubscribed": 600}
        assert await world.writes(since) == ["POST ", "POST "]
        assert await open_orders(world) == []

    async def test_one_that_is_refused_keeps_no_other_waiting(
        self, world: World, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        await world.crowd(3)
        segment = await world.segment()
        await world.sync(segment)
        spoil(monkeypatch, lambda row: "c1@acme.example" in row)
        bad = subscriber_hash("c1@acme.example")
        await world.sandbox.fault("400", method="PATCH", path=f"/members/{bad}", times=1)
        await world.crowd(3, optStatus="opted_out")

        await world.orders()

        assert await world.statuses() == {"unsubscribed": 2, "subscribed": 1}
        left = await open_orders(world)
        assert [o.email for o in left] == ["c1@acme.example"]
        assert left[0].last_error == "refused"
        await world.wait(5)
        await world.orders()
        assert await world.statuses() == {"unsubscribed": 3}
        assert await open_orders(world) == []


class TestNothingDelaysIt:
    async def test_neither_a_waiting_run_nor_a_cancelled_one(self, world: World) -> None:
        await world.crowd(30)
        await world.contact("stays@acme.example")
        segment = await world.segment()
        await world.sync(segment)
        await world.crowd(30, department="Elsewhere")
        run = await world.sync(segment)
        assert run.status == "awaiting_approval"
        await world.opt("C7", "out")

        await world.orders()

        assert await world.status("c7@acme.example") == "unsubscribed"
        run = await world.approve(run.id)
        assert await world.status("c7@acme.example") == "unsubscribed"

    async def test_while_mailchimp_is_away_it_stays_open(self, world: World) -> None:
        person = await world.contact(ADA)
        segment = await world.segment()
        await world.sync(segment)
        await world.opt(person, "out")
        await world.sandbox.revoke(world.api_key)
        await world.orders()
        assert len(await open_orders(world)) == 2

        await world.sandbox.rekey(world.api_key, world.api_key)
        await world.wait(600)
        await world.orders()

        assert await world.status(ADA) == "unsubscribed"
        assert await open_orders(world) == []
