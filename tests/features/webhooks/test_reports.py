"""What people and staff do at Mailchimp comes home, in whatever order and number it is reported."""

from __future__ import annotations

from typing import Any, Literal

import pytest

from mcsync.features.webhooks import inbox, work
from tests.features.webhooks.conftest import Configure
from tests.features.webhooks.door import Door, form

ADA = "ada@acme.example"
BOB = "bob@acme.example"


async def synced(door: Door, *emails: str) -> list[str]:
    """Contacts in a synced segment, with a registered webhook."""
    people = [await door.world.contact(email) for email in emails]
    await door.world.sync(await door.world.segment())
    await door.register()
    await door.work()
    return people


class TestAPersonUnsubscribes:
    async def test_and_it_is_recorded_from_reading_the_member(self, door: Door) -> None:
        (person,) = await synced(door, ADA)

        await door.world.person(ADA, "unsubscribe")
        await door.world.sandbox.delivered()
        assert await door.held(ADA), "at once, before anybody read"
        assert await door.consent(person) == ("opted_in", "console"), "nothing recorded on hearsay"
        await door.work()

        assert await door.consent(person) == ("opted_out", "mailchimp")
        assert not await door.held(ADA)
        (event,) = await door.events()
        assert (event.type, event.status, event.outcome) == ("unsubscribe", "worked", "read")
        assert event.email is None

    async def test_and_leaves_every_other_audience_as_well(self, door: Door) -> None:
        await synced(door, ADA)
        await door.world.person(ADA, "subscribe_form", list_id=door.world.other_list_id)
        others = await door.world.segment("Others", audienceId=door.world.other_list_id)
        await door.world.sync(others)
        await door.world.person(ADA, "unsubscribe")
        await door.work()
        await door.world.orders()
        assert await door.world.status(ADA, door.world.other_list_id) == "unsubscribed"

    async def test_and_an_admin_does_not_withdraw_for_them(self, door: Door) -> None:
        (person,) = await synced(door, ADA)
        await door.world.admin(ADA, "unsubscribe")
        await door.work()
        assert await door.consent(person) == ("opted_in", "console")
        assert await door.world.status(ADA) == "unsubscribed"

    async def test_and_comes_back_by_the_form(self, door: Door) -> None:
        (person,) = await synced(door, ADA)
        await door.world.person(ADA, "unsubscribe")
        await door.work()
        await door.world.person(ADA, "resubscribe_form")
        await door.work()
        assert await door.consent(person) == ("opted_in", "mailchimp")

    async def test_whatever_the_action_is_called(self, door: Door, configure: Configure) -> None:
        await configure(webhooks={"actionMissing": True})
        (person,) = await synced(door, ADA)
        await door.world.person(ADA, "unsubscribe")
        await door.work()
        assert await door.consent(person) == ("opted_out", "mailchimp")


class TestOtherReports:
    async def test_a_bounce_belongs_to_the_address(self, door: Door) -> None:
        (person,) = await synced(door, ADA)
        await door.world.person(ADA, "bounce")
        await door.work()
        assert await door.consent(person) == ("opted_in", "console")
        rows = await door.world.sql("select status from audience_members where email = :e", e=ADA)
        assert [row.status for row in rows] == ["cleaned"]

    async def test_a_change_of_address_is_followed(self, door: Door) -> None:
        person, _ = await synced(door, ADA, BOB)
        await door.world.person(ADA, "change_email", new_email="ada@home.example")
        await door.work()
        (alias,) = await door.world.sql("select email from audience_aliases")
        assert alias.email == "ada@home.example"
        await door.world.person("ada@home.example", "unsubscribe")
        await door.work()
        assert await door.consent(person) == ("opted_out", "mailchimp")

    async def test_two_changes_of_address_told_backwards(self, door: Door) -> None:
        (person,) = await synced(door, ADA)
        await door.world.sandbox.hold_deliveries()
        await door.world.person(ADA, "change_email", new_email="ada@one.example")
        await door.world.person("ada@one.example", "change_email", new_email="ada@two.example")
        await door.world.sandbox.release_deliveries("reversed")
        await door.work()
        aliases = await door.world.sql("select email from audience_aliases")
        assert [a.email for a in aliases] == ["ada@two.example"]
        await door.world.person("ada@two.example", "unsubscribe")
        await door.work()
        assert await door.consent(person) == ("opted_out", "mailchimp")

    async def test_the_first_of_two_changes_alone_finds_the_person(self, door: Door) -> None:
        await synced(door, ADA)
        await door.world.sandbox.hold_deliveries()
        await door.world.person(ADA, "change_email", new_email="ada@one.example")
        await door.world.person("ada@one.example", "change_email", new_email="ada@two.example")
        first = (
            await door.world.sandbox.deliveries(
                list_id=door.world.list_id, type="upemail", state="held"
            )
        )[0]
        hook = (await door.hooks())[0]
        await door.world.sql("update webhook_endpoints set signing_secret = null")
        await door.post(first["body"].encode(), url=hook["url"])
        await door.work()
        aliases = await door.world.sql("select email from audience_aliases")
        assert [a.email for a in aliases] == ["ada@two.example"]
        await door.world.sandbox.release_deliveries()
        await door.work()

    async def test_our_own_writes_do_not_echo(self, door: Door) -> None:
        await synced(door, ADA)
        assert await door.events() == []

    async def test_who_was_deleted_for_good_is_gone_from_the_mirror(self, door: Door) -> None:
        await synced(door, ADA, BOB)
        await door.world.admin(ADA, "delete_permanent")
        await door.work()
        (event,) = await door.events()
        assert event.outcome == "absent"
        rows = await door.world.sql("select status from audience_members where email = :e", e=ADA)
        assert [row.status for row in rows] == ["absent"]

    async def test_a_list_that_is_gone_is_not_an_empty_one(self, door: Door) -> None:
        await synced(door, ADA)
        await door.world.sandbox.hold_deliveries()
        await door.world.person(ADA, "unsubscribe")
        await door.world.sandbox.release_deliveries()
        await door.world.sandbox.delivered()
        await door.world.sandbox.delete_list(door.world.list_id)
        await door.work()
        rows = await door.world.sql("select status from audience_members where email = :e", e=ADA)
        assert [row.status for row in rows] == ["subscribed"]
        (audience,) = await door.world.sql(
            "select gone_at from audiences where list_id = :l", l=door.world.list_id
        )
        assert audience.gone_at is not None


class TestOrderAndNumber:
    @pytest.mark.parametrize("order", ["fifo", "reversed", "shuffled"])
    async def test_late_and_in_any_order_ends_in_what_mailchimp_says(
        self, door: Door, order: Literal["fifo", "reversed", "shuffled"]
    ) -> None:
        gone, back = await synced(door, ADA, BOB)
        await door.world.sandbox.hold_deliveries()
        await door.world.person(ADA, "unsubscribe")
        await door.world.person(BOB, "unsubscribe")
        await door.world.person(ADA, "resubscribe_form")
        await door.world.person(BOB, "resubscribe_form")
        await door.world.person(ADA, "unsubscribe")
        await door.world.wait(600)
        await door.world.sandbox.release_deliveries(order)
        await door.work()
        assert await door.consent(gone) == ("opted_out", "mailchimp")
        assert (await door.consent(back))[0] == "opted_in"
        assert not await door.held(ADA)
        assert not await door.held(BOB)

    async def test_doubled_posts_are_one_event(self, door: Door, configure: Configure) -> None:
        (person,) = await synced(door, ADA)
        await configure(webhooks={"doubleEvery": 1})
        await door.world.person(ADA, "unsubscribe")
        await door.work()
        assert len(await door.events()) == 1
        (delivery, _) = await door.world.sandbox.deliveries(
            list_id=door.world.list_id, email=ADA, type="unsubscribe"
        )
        await door.world.person(ADA, "resubscribe_form")
        await door.work()
        await door.world.sandbox.repeat_delivery(delivery["seq"], times=3)
        assert await door.work() == 0
        assert await door.consent(person) == ("opted_in", "mailchimp")
        assert not await door.held(ADA), "a repetition holds nobody"

    async def test_many_at_once_are_one_pull(self, door: Door) -> None:
        await door.world.crowd(40)
        await door.world.sync(await door.world.segment())
        await door.register()
        await door.world.wait()
        for number in range(40):
            await door.world.sandbox.person(
                door.world.list_id, f"c{number}@acme.example", "unsubscribe"
            )
        await door.world.sandbox.delivered()
        since = await door.world.sandbox.seq()
        assert await door.work() == 40
        calls = await door.world.sandbox.calls(since=since)
        assert len(calls) < 5
        (out,) = await door.world.sql(
            "select count(*) as n from email_preferences where status = 'opted_out'"
        )
        assert out.n == 40
        events = await door.events()
        assert {event.outcome for event in events} == {"pulled"}
        assert not [event for event in events if event.email]

    async def test_many_at_once_with_some_deleted_for_good(self, door: Door) -> None:
        await door.world.crowd(40)
        await door.world.sync(await door.world.segment())
        await door.register()
        await door.world.wait()
        for number in range(40):
            act: Any = "delete_permanent" if number < 3 else "unsubscribe"
            await door.world.sandbox.admin(door.world.list_id, f"c{number}@acme.example", act)
        await door.work()
        rows = await door.world.sql(
            "select status, count(*) as n from audience_members group by 1 order by 1"
        )
        assert [(r.status, r.n) for r in rows] == [("absent", 3), ("unsubscribed", 37)]

    async def test_one_worker_works_on_an_audience_at_a_time(self, door: Door) -> None:
        ada, bob = await synced(door, ADA, BOB)
        await door.world.person(ADA, "unsubscribe")
        await door.world.sandbox.delivered()
        audience = await door.audience()
        async with door.world.resources.db.transaction(door.world.org.id) as session:
            held = await inbox.claim_events(session, audience, most=10, lease_seconds=30)
        assert len(held) == 1
        await door.world.person(BOB, "unsubscribe")

        assert await door.work() == 0, "whoever holds some goes on with what came since"
        await door.world.wait(20)
        async with door.world.resources.db.transaction(door.world.org.id) as session:
            await inbox.renew_events(session, held, lease_seconds=30)
        await door.world.wait(20)
        assert await door.work() == 0, "a lease that is renewed"
        await door.world.wait(20)

        assert await door.work() == 2, "a dead worker's come back"
        for person in (ada, bob):
            assert await door.consent(person) == ("opted_out", "mailchimp")


class TestTrouble:
    async def test_nobody_expected_costs_no_event(
        self, door: Door, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        (person,) = await synced(door, ADA)
        await door.world.person(ADA, "unsubscribe")
        await door.world.sandbox.delivered()
        with monkeypatch.context() as patch:
            patch.setattr(work, "merge_and_record", None)
            with pytest.raises(TypeError):
                await door.work()
        (event,) = await door.events()
        assert (event.status, event.last_error, event.lease_until) == ("due", "TypeError", None)
        await door.world.wait(5)
        await door.work()
        assert await door.consent(person) == ("opted_out", "mailchimp")

    async def test_mailchimp_is_asked_again_after_trouble(self, door: Door) -> None:
        (person,) = await synced(door, ADA)
        await door.world.person(ADA, "unsubscribe")
        await door.world.sandbox.delivered()
        await door.world.sandbox.fault("500", method="GET", path="/members/", times=3)
        await door.work()
        (event,) = await door.events()
        assert (event.status, event.email, event.attempts) == ("due", ADA, 1)
        assert await door.held(ADA), "until it was read"
        await door.world.wait(600)
        await door.work()
        assert await door.consent(person) == ("opted_out", "mailchimp")

    async def test_a_refused_key_keeps_the_events(self, door: Door) -> None:
        await synced(door, ADA)
        await door.world.person(ADA, "unsubscribe")
        await door.world.sandbox.delivered()
        await door.world.sandbox.revoke(door.world.api_key)
        await door.work()
        (event,) = await door.events()
        assert (event.status, event.last_error) == ("due", "mailchimp_key_refused")
        (connection,) = await door.world.sql("select status from mailchimp_connections")
        assert connection.status == "needs_attention"

    async def test_an_event_that_the_read_contradicts_is_read_again_for_a_while(
        self, door: Door
    ) -> None:
        (person,) = await synced(door, ADA)
        await door.world.wait(5)
        await door.world.sql("update webhook_endpoints set signing_secret = null")
        hook = (await door.hooks())[0]
        now = door.world.now().timestamp()
        body = form("unsubscribe", now, email=ADA, id="1234567890", list_id=door.world.list_id)
        assert (await door.post(body, url=hook["url"])).status_code == 200
        for _ in range(4):
            assert await door.held(ADA)
            assert await door.work() == 1
            await door.world.wait(30)
        assert await door.work() == 0
        assert not await door.held(ADA)
        (event,) = await door.events()
        assert (event.outcome, event.email) == ("contradicted", None)
        assert await door.consent(person) == ("opted_in", "console"), "forged: nothing recorded"
