"""Pushing (``sync.md`` 5): every row accounted for, refusals kept, older accounts, nothing parked."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import orjson
import pytest

from mcsync.features.sync import execute, lanes, push
from mcsync.features.sync.schemas import RunView
from mcsync.mailchimp import (
    BatchResult,
    InvalidRequestError,
    MailchimpClient,
    TransientError,
)
from tests.features.sync.conftest import Between, Configure
from tests.features.sync.world import World, counted

ADA = "ada@acme.example"
BULK = "POST "


async def refusals(world: World, run: RunView) -> list[str | None]:
    """Why rows of the run were refused."""
    return [c.outcome_code for c in await world.changes(run, state="failed")]


def spoil(monkeypatch: pytest.MonkeyPatch, bad: Callable[[str], bool]) -> list[int]:
    """Calls that hold a bad row are refused as a whole; answers the sizes of all calls."""
    sizes: list[int] = []
    send = MailchimpClient.batch_subscribe

    async def batch_subscribe(
        self: MailchimpClient, list_id: str, members: Any, **given: Any
    ) -> BatchResult:
        sizes.append(len(members))
        if any(bad(m if isinstance(m, str) else m["email_address"]) for m in members):
            raise InvalidRequestError("Invalid Resource", status=400)
        return await send(self, list_id, members, **given)

    monkeypatch.setattr(MailchimpClient, "batch_subscribe", batch_subscribe)
    return sizes


class TestChunks:
    async def test_are_full_however_many_lanes_there_are(self, world: World) -> None:
        segment = await world.segment()
        for name in ("First", "Changed"):
            await world.crowd(1000, firstName=name)
            await world.crowd(100, start=1000, firstName=name)
            since = await world.sandbox.seq()

            run = await world.sync(segment)

            assert run.counts.done == 1100
            assert (await world.writes(since)).count(BULK) == 3


class TestAChunkRefusedAsAWhole:
    async def test_is_halved_until_the_bad_row_stands_alone(
        self, world: World, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        await world.crowd(500)
        segment = await world.segment()
        sizes = spoil(monkeypatch, lambda row: "c321@acme.example" in row)

        run = await world.sync(segment)

        assert run.status == "succeeded_with_errors"
        assert counted(run) == {"add": 500, "done": 499, "failed": 1}
        failed = await world.changes(run, state="failed")
        assert [c.email for c in failed] == ["c321@acme.example"]
        assert len(sizes) < 25
        assert await world.statuses() == {"subscribed": 499}
        sizes.clear()
        await world.sync(segment)
        assert sizes == []

    async def test_an_unsubscribe_is_then_sent_alone(
        self, world: World, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        await world.crowd(3)
        segment = await world.segment()
        await world.sync(segment)
        for number in range(3):
            await world.opt(f"C{number}", "out")
        spoil(monkeypatch, lambda row: "c1@acme.example" in row)
        since = await world.sandbox.seq()

        run = await world.sync(segment)

        assert run.status == "succeeded"
        assert counted(run) == {"unsubscribe": 3, "done": 3}
        assert await world.statuses() == {"unsubscribed": 3}
        assert [w for w in await world.writes(since) if w.startswith("PATCH members/")]

    async def test_who_withdraws_between_its_parts_is_left_out(
        self, world: World, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        await world.crowd(8)
        segment = await world.segment()
        spoil(monkeypatch, lambda row: "c3@acme.example" in row)
        send = MailchimpClient.batch_subscribe
        sent: list[set[str]] = []
        withdrawn: list[str] = []

        async def batch_subscribe(
            self: MailchimpClient, list_id: str, members: Any, **given: Any
        ) -> BatchResult:
            sent.append({orjson.loads(m)["email_address"] for m in members})
            result = await send(self, list_id, members, **given)
            if not withdrawn:  # a part was taken, another one is still to be sent
                withdrawn.append(min(sent[0] - set().union(*sent[1:]) - {"c3@acme.example"}))
                await world.opt(withdrawn[0].split("@")[0].upper(), "out")
            return result

        monkeypatch.setattr(MailchimpClient, "batch_subscribe", batch_subscribe)

        run = await world.sync(segment)

        assert counted(run) == {"add": 8, "done": 6, "failed": 1}
        assert await world.statuses() == {"subscribed": 6}
        assert await world.status(withdrawn[0]) == "absent"


class TestRefusalsKeepTheirReason:
    async def test_a_required_field_that_nothing_feeds(self, world: World) -> None:
        person = await world.contact(ADA, first_name=None)
        await world.contact("bob@acme.example", first_name="Bob")
        segment = await world.segment()
        await world.require_field("FNAME")

        run = await world.sync(segment)

        assert run.status == "succeeded_with_errors"
        assert counted(run) == {"add": 2, "done": 1, "failed": 1}
        assert await refusals(world, run) == ["required_field_missing"]
        since = await world.sandbox.seq()
        run = await world.sync(segment)
        assert run.skipped_by_reason == {"refused_required_field_missing": 1}
        assert await world.writes(since) == []
        # something about them changed
        await world.change(person, first_name="Ada")
        run = await world.sync(segment)
        assert counted(run) == {"add": 1, "done": 1}
        await world.nothing_left(segment)

    async def test_an_unsubscribe_does_not_care_about_required_fields(self, world: World) -> None:
        person = await world.contact(ADA, first_name=None)
        segment = await world.segment()
        await world.sync(segment)
        await world.require_field("FNAME")
        await world.opt(person, "out")

        run = await world.sync(segment)

        assert run.status == "succeeded"
        assert await world.status(ADA) == "unsubscribed"

    async def test_a_value_that_mailchimp_refuses(self, world: World, before_push: Between) -> None:
        await world.contact(ADA, attributes={"size": "Huge"})
        await world.make_field("SIZE", "dropdown", choices=["Small", "Large", "Huge"])
        await world.map_fields({"SIZE": "attributes.size"})
        segment = await world.segment()

        async def take_a_choice_away() -> None:
            await world.change_field("SIZE", options={"choices": ["Small", "Large"]})

        before_push(take_a_choice_away)
        run = await world.sync(segment)

        assert await refusals(world, run) == ["invalid_value"]
        assert await world.status(ADA) == "absent"
        # the next run knows the choices: the field is left out, and the person is added
        run = await world.sync(segment)
        assert counted(run) == {"add": 1, "unreadable_fields": 1, "done": 1}

    async def test_no_refusal_repeats_the_address(self, world: World, configure: Configure) -> None:
        await configure(fakePattern="^ada@")
        await world.contact(ADA)
        segment = await world.segment()

        run = await world.sync(segment)

        rows = await world.sql("select message from audience_refusals")
        assert all(ADA not in row.message for row in rows)
        assert all(ADA not in (c.outcome or "") for c in await world.changes(run))


class TestTheAnswerIsNotTrusted:
    async def test_a_member_who_left_since_the_pull_is_not_brought_back(
        self, world: World, before_push: Between
    ) -> None:
        await world.contact(ADA)
        segment = await world.segment()

        async def come_and_go() -> None:
            await world.sandbox.person(world.list_id, ADA, "subscribe_form")
            await world.sandbox.person(world.list_id, ADA, "unsubscribe")

        before_push(come_and_go)
        run = await world.sync(segment)

        assert counted(run) == {"add": 1, "failed": 1}
        assert await refusals(world, run) == ["unsubscribed"]
        assert await world.status(ADA) == "unsubscribed"
        for _ in range(3):
            assert counted(await world.sync(segment)) == {}

    async def test_kept_unsubscribed_without_a_word(
        self, world: World, before_push: Between, configure: Configure
    ) -> None:
        await configure(silentKeepUnsubscribed=True)
        person = await world.contact(ADA)
        await world.contact("stays@acme.example")
        segment = await world.segment(onLeave="unsubscribe")
        await world.sync(segment)
        await world.change(person, department="Elsewhere")
        await world.sync(segment)
        await world.wait()
        await world.change(person, department="Sales")

        async def unsubscribe() -> None:
            await world.sandbox.person(world.list_id, ADA, "unsubscribe")

        before_push(unsubscribe)
        run = await world.sync(segment)

        assert counted(run) == {"resubscribe": 1, "failed": 1}
        assert await refusals(world, run) == ["unsubscribed"]
        run = await world.sync(segment)
        assert counted(run) == {}
        assert await world.status(ADA) == "unsubscribed"
        row = (
            await world.sql("select unsubscribed_by from audience_members where email = :e", e=ADA)
        )[0]
        assert row.unsubscribed_by == "person"

    async def test_an_answer_without_our_tag_is_followed_by_a_call_for_the_tag(
        self, world: World, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        await world.crowd(3)
        segment = await world.segment()
        send = MailchimpClient.batch_subscribe

        async def drop_tags(
            self: MailchimpClient, list_id: str, members: Any, **given: Any
        ) -> BatchResult:
            kept = [m.replace('"tags"', '"tagz"') if isinstance(m, str) else m for m in members]
            return await send(self, list_id, kept, **given)

        monkeypatch.setattr(MailchimpClient, "batch_subscribe", drop_tags)
        since = await world.sandbox.seq()

        run = await world.sync(segment)

        assert run.status == "succeeded", run
        writes = await world.writes(since)
        assert writes[:2] == ["POST segments", BULK]
        assert writes[2].startswith("POST segments/")
        member = await world.member("c1@acme.example")
        assert member is not None
        assert member["tags"] == ["mcsync: Sales"]
        await world.nothing_left(segment)

    async def test_a_row_that_the_answer_does_not_mention_is_read_again(
        self, world: World, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        await world.crowd(3)
        segment = await world.segment()
        send = MailchimpClient.batch_subscribe
        missed: list[int] = []

        async def forget_one(
            self: MailchimpClient, list_id: str, members: Any, **given: Any
        ) -> BatchResult:
            members = [m for m in members if missed or "c1@" not in str(m)]
            missed.append(1)
            return await send(self, list_id, members, **given)

        monkeypatch.setattr(MailchimpClient, "batch_subscribe", forget_one)

        run = await world.sync(segment)

        assert counted(run) == {"add": 3, "done": 2, "failed": 1}
        assert await refusals(world, run) == ["not_accounted"]
        run = await world.sync(segment)
        assert counted(run) == {"add": 1, "done": 1}
        await world.nothing_left(segment)


class TestAccountsOfBefore2026:
    @pytest.fixture(
        autouse=True, params=[False, True], ids=["refused as a whole", "refused row by row"]
    )
    async def _old_account(self, configure: Configure, request: pytest.FixtureRequest) -> None:
        await configure(requireStatus=True, schemaErrorsPerRow=request.param)

    async def test_adds_carry_a_status_and_updates_go_one_by_one_without(
        self, world: World
    ) -> None:
        person = await world.contact(ADA)
        segment = await world.segment()

        run = await world.sync(segment)
        assert run.status == "succeeded", run
        assert counted(run) == {"add": 1, "done": 1}
        assert await world.status(ADA) == "subscribed"
        await world.nothing_left(segment)

        await world.change(person, first_name="Adele")
        since = await world.sandbox.seq()
        run = await world.sync(segment)
        assert counted(run) == {"update": 1, "done": 1}
        writes = await world.writes(since)
        assert [w.partition("/")[0] for w in writes] == ["PATCH members"]
        member = await world.member(ADA)
        assert member is not None
        assert member["mergeFields"]["FNAME"] == "Adele"
        await world.nothing_left(segment)

    async def test_calls_that_several_lanes_sent_before_anybody_knew_cost_nobody_anything(
        self, world: World
    ) -> None:
        for start in (0, 1000):
            await world.crowd(1000, start=start)
        segment = await world.segment()

        run = await world.sync(segment)

        assert run.status == "succeeded", run
        assert counted(run) == {"add": 2000, "done": 2000}
        assert await world.statuses() == {"subscribed": 2000}

    async def test_a_foreign_member_is_tagged_and_nobody_is_subscribed_again(
        self, world: World, before_push: Between
    ) -> None:
        await world.admin("foreign@acme.example", "subscribe")
        await world.contact("foreign@acme.example")
        await world.contact(ADA)
        segment = await world.segment()

        async def come_and_go() -> None:
            await world.sandbox.person(world.list_id, ADA, "subscribe_form")
            await world.sandbox.person(world.list_id, ADA, "unsubscribe")

        before_push(come_and_go)
        run = await world.sync(segment)

        assert await refusals(world, run) == ["unsubscribed"]
        assert await world.status(ADA) == "unsubscribed"
        foreign = await world.member("foreign@acme.example")
        assert foreign is not None
        assert foreign["tags"] == ["mcsync: Sales"]

    async def test_the_rest_of_the_table_holds(self, world: World) -> None:
        await world.contact("stays@acme.example")
        leaver = await world.contact(ADA)
        quitter = await world.contact("bob@acme.example")
        segment = await world.segment()
        await world.sync(segment)
        await world.delete(leaver)
        await world.opt(quitter, "out")
        run = await world.sync(segment)
        assert counted(run) == {"archive": 1, "unsubscribe": 1, "done": 2}
        await world.upsert(leaver, email=ADA)
        await world.wait()
        await world.opt(quitter, "in")
        run = await world.sync(segment)
        assert counted(run) == {"add": 1, "resubscribe": 1, "done": 2}
        assert await world.statuses() == {"subscribed": 3}
        await world.nothing_left(segment)


class TestTroubleOnTheWay:
    @pytest.mark.parametrize("kind", ["504_after", "reset_after", "reset", "429_empty", "502_html"])
    async def test_a_lost_answer_costs_nobody_anything(self, world: World, kind: str) -> None:
        leaver = await world.contact("leaver@acme.example")
        await world.crowd(3)
        segment = await world.segment()
        await world.sandbox.fault(kind, method="POST", path=f"^/lists/{world.list_id}$", times=2)

        run = await world.sync(segment)

        assert run.status == "succeeded", run
        assert await world.statuses() == {"subscribed": 4}
        await world.nothing_left(segment)
        # what our lost call added is ours all the same
        await world.delete(leaver)
        await world.sync(segment)
        assert await world.status("leaver@acme.example") == "archived"

    @pytest.mark.parametrize("working", [2, 1000], ids=["now and then", "never"])
    async def test_a_run_is_tried_again_as_long_as_it_gets_further(
        self, world: World, monkeypatch: pytest.MonkeyPatch, working: int
    ) -> None:
        monkeypatch.setattr(lanes, "_GIVE_UP_AFTER", 1)
        monkeypatch.setattr(execute, "_MOST_ATTEMPTS", 3)
        monkeypatch.setattr(push, "BATCH_SIZE", 5)
        one_lane = 1 - world.resources.settings.slots_per_account
        monkeypatch.setattr(push, "SPARE_LANES", one_lane)
        send, calls = MailchimpClient.batch_subscribe, 0

        async def batch_subscribe(
            self: MailchimpClient, list_id: str, members: Any, **given: Any
        ) -> BatchResult:
            nonlocal calls
            calls += 1
            if calls % working:
                raise TransientError("bad weather", status=502)
            return await send(self, list_id, members, **given)

        monkeypatch.setattr(MailchimpClient, "batch_subscribe", batch_subscribe)
        await world.crowd(30)

        run = await world.sync(await world.segment())

        if working == 2:
            assert (run.status, await world.statuses()) == ("succeeded", {"subscribed": 30})
        else:
            assert run.status == "failed"
            assert run.error is not None
            assert run.error.code == "mailchimp_unavailable"


class TestATakenChunkIsDecidedAgain:
    async def test_who_withdrew_between_plan_and_push_is_not_added(
        self, world: World, before_push: Between
    ) -> None:
        person = await world.contact(ADA)
        await world.contact("bob@acme.example")
        segment = await world.segment()
        before_push(lambda: world.opt(person, "out"))

        run = await world.sync(segment)

        assert run.status == "succeeded"
        assert [c.email for c in await world.changes(run, state="dropped")] == [ADA]
        assert await world.status(ADA) == "absent"
        await world.nothing_left(segment)

    async def test_who_came_back_between_plan_and_push_is_not_archived(
        self, world: World, before_push: Between
    ) -> None:
        person = await world.contact(ADA)
        await world.contact("bob@acme.example")
        segment = await world.segment()
        await world.sync(segment)
        await world.delete(person)

        async def back() -> None:
            await world.upsert(person, email=ADA)

        before_push(back)
        await world.sync(segment)

        assert await world.status(ADA) == "subscribed"
        await world.sync(segment)
        member = await world.member(ADA)
        assert member is not None
        assert member["tags"] == ["mcsync: Sales"]
        await world.nothing_left(segment)
