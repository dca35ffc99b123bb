"""Rows 9 to 12, 19 and 20 of the table in ``sync.md`` 3, what differs, and several segments' claims."""

from __future__ import annotations

import pytest

from mcsync.features.connection import capabilities
from mcsync.features.connection import service as connection
from mcsync.features.sync import decide
from tests.features.sync.conftest import Configure
from tests.features.sync.world import World, counted

ADA = "ada@acme.example"
BULK = "POST "


class TestRow9Absent:
    async def test_is_added_as_subscribed_with_fields_and_tag(self, world: World) -> None:
        await world.contact(ADA, first_name="Ada", last_name="Byron")
        segment = await world.segment()
        since = await world.sandbox.seq()

        run = await world.sync(segment)

        assert counted(run) == {"add": 1, "done": 1}
        assert await world.planned(run) == {ADA: ("add", "new")}
        assert await world.writes(since) == ["POST segments", BULK]
        member = await world.member(ADA)
        assert member is not None
        assert member["status"] == "subscribed"
        assert member["tags"] == ["mcsync: Sales"]
        assert member["mergeFields"]["FNAME"] == "Ada"
        await world.nothing_left(segment)

    async def test_is_added_as_pending_where_the_segment_wants_double_opt_in(
        self, world: World
    ) -> None:
        await world.contact(ADA)
        segment = await world.segment(optIn="double")

        run = await world.sync(segment)

        assert counted(run) == {"add": 1, "done": 1}
        member = await world.member(ADA)
        assert member is not None
        assert (member["status"], member["confirmationMails"]) == ("pending", 1)
        await world.nothing_left(segment)

    async def test_or_where_another_claiming_segment_does(self, world: World) -> None:
        await world.contact(ADA)
        single = await world.segment("Single")
        await world.segment("Double", optIn="double")

        await world.sync(single)

        assert await world.status(ADA) == "pending"


class TestRow10AddedAsPendingAndNeverSeenSubscribed:
    async def test_is_not_added_again_until_a_newer_opt_in(self, world: World) -> None:
        person = await world.contact(ADA)
        segment = await world.segment(optIn="double")
        await world.sync(segment)
        await world.admin(ADA, "pending_lapse")
        since = await world.sandbox.seq()

        run = await world.sync(segment)

        assert counted(run) == {}
        assert run.skipped_by_reason == {"unconfirmed": 1}
        assert await world.writes(since) == []
        assert await world.status(ADA) == "absent"

        await world.wait()
        await world.opt(person, "in", at=world.now())
        run = await world.sync(segment)
        assert counted(run) == {"add": 1, "done": 1}
        assert await world.status(ADA) == "pending"


class TestRow11PayloadOrTagsDiffer:
    async def test_changed_fields_are_updated_and_no_status_is_sent(self, world: World) -> None:
        person = await world.contact(ADA)
        segment = await world.segment()
        await world.sync(segment)
        await world.change(person, first_name="Adele")
        since = await world.sandbox.seq()

        run = await world.sync(segment)

        assert counted(run) == {"update": 1, "done": 1}
        assert await world.planned(run) == {ADA: ("update", "fields")}
        assert await world.writes(since) == [BULK]
        member = await world.member(ADA)
        assert member is not None
        assert (member["status"], member["mergeFields"]["FNAME"]) == ("subscribed", "Adele")
        await world.nothing_left(segment)

    async def test_a_pending_member_is_updated_and_stays_pending(self, world: World) -> None:
        person = await world.contact(ADA)
        segment = await world.segment(optIn="double")
        await world.sync(segment)
        await world.update_segment(segment, optIn="single")
        await world.change(person, first_name="Adele")

        run = await world.sync(segment)

        assert counted(run) == {"update": 1, "done": 1}
        member = await world.member(ADA)
        assert member is not None
        assert (member["status"], member["mergeFields"]["FNAME"]) == ("pending", "Adele")

    async def test_a_member_that_somebody_else_added_gets_fields_and_tag_but_is_not_ours(
        self, world: World
    ) -> None:
        await world.admin(ADA, "subscribe")
        person = await world.contact(ADA)
        segment = await world.segment()

        run = await world.sync(segment)

        assert counted(run) == {"update": 1, "done": 1}
        member = await world.member(ADA)
        assert member is not None
        assert member["tags"] == ["mcsync: Sales"]
        await world.contact("stays@acme.example")
        await world.delete(person)
        await world.sync(segment)
        assert await world.status(ADA) == "subscribed"

    async def test_a_missing_tag_is_noticed_by_a_full_pull(
        self, world: World, configure: Configure
    ) -> None:
        """Where a change of tags alone does not move ``last_changed``, as the account has told."""
        await configure(tagsMoveLastChanged=False)
        async with world.resources.db.transaction(world.org.id) as session:
            account = (await connection.require_live(session)).account_id
            told = {"tag_change": "does_not_move"}
            await capabilities.record(session, world.actor, account, told, at=world.now())
        await world.contact(ADA)
        segment = await world.segment()
        await world.sync(segment)
        await world.admin(ADA, "untag", tag="mcsync: Sales")
        assert counted(await world.sync(segment)) == {}

        await world.wait(days=8)
        run = await world.sync(segment)

        assert await world.planned(run) == {ADA: ("update", "tag")}
        member = await world.member(ADA)
        assert member is not None
        assert member["tags"] == ["mcsync: Sales"]


class TestRow12TheSame:
    async def test_no_row_and_no_call(self, world: World) -> None:
        await world.contact(ADA)
        segment = await world.segment()
        await world.sync(segment)
        since = await world.sandbox.seq()

        run = await world.sync(segment)

        assert counted(run) == {}
        assert run.counts.unchanged == 1
        assert await world.changes(run) == []
        assert await world.writes(since) == []
        assert await world.status(ADA) == "subscribed"


class TestRow19RefusedForGood:
    async def test_permanently_deleted_is_refused_once_and_then_skipped(self, world: World) -> None:
        person = await world.contact(ADA)
        segment = await world.segment()
        await world.sync(segment)
        await world.admin(ADA, "delete_permanent")

        run = await world.sync(segment)

        assert run.status == "succeeded_with_errors"
        assert counted(run) == {"add": 1, "failed": 1}
        since = await world.sandbox.seq()
        await world.change(person, first_name="Adele")
        run = await world.sync(segment)
        assert counted(run) == {}
        assert run.skipped_by_reason == {"refused_forgotten": 1}
        assert await world.writes(since) == []
        assert await world.status(ADA) == "absent"
        # only the person can come back
        await world.person(ADA, "subscribe_form")
        run = await world.sync(segment)
        assert counted(run) == {"update": 1, "done": 1}
        assert run.skipped_by_reason == {}
        await world.nothing_left(segment)

    async def test_refused_as_fake(self, world: World, configure: Configure) -> None:
        await configure(fakePattern="^ada@")
        await world.contact(ADA)
        segment = await world.segment()

        run = await world.sync(segment)
        assert counted(run) == {"add": 1, "failed": 1}
        since = await world.sandbox.seq()
        await world.wait(days=30)
        run = await world.sync(segment)

        assert run.skipped_by_reason == {"refused_fake": 1}
        assert await world.writes(since) == []

    async def test_throttled_is_tried_after_five_minutes_one_two_and_seven_days(
        self, world: World, configure: Configure
    ) -> None:
        await configure(throttlePattern="^ada@")
        await world.contact(ADA)
        segment = await world.segment()
        assert counted(await world.sync(segment)) == {"add": 1, "failed": 1}
        for almost, rest in ((290, 20), (86_390, 20), (2 * 86_400 - 10, 20), (7 * 86_400 - 10, 20)):
            await world.wait(almost)
            run = await world.sync(segment)
            assert counted(run) == {}, almost
            assert run.skipped_by_reason == {"throttled": 1}
            await world.wait(rest)
            assert counted(await world.sync(segment)) == {"add": 1, "failed": 1}, almost
        await configure(throttlePattern="")
        await world.wait(days=8)
        assert counted(await world.sync(segment)) == {"add": 1, "done": 1}
        assert await world.status(ADA) == "subscribed"
        await world.nothing_left(segment)


class TestRow20NoneOfThese:
    def test_the_decision_has_a_word_for_it_and_sends_nothing(self) -> None:
        assert "else 'undecided'" in decide._PEOPLE

    @pytest.mark.parametrize(
        "status", ["subscribed", "unsubscribed", "cleaned", "pending", "transactional"]
    )
    async def test_every_status_of_a_foreign_member_is_decided(
        self, world: World, status: str
    ) -> None:
        await world.sandbox.seed(world.list_id, 1, prefix="m", status=status)
        await world.contact("m0@sandbox.test")
        segment = await world.segment()

        run = await world.sync(segment)

        assert "undecided" not in {c.reason for c in await world.changes(run)}


class TestDiffers:
    async def test_values_changed_at_mailchimp_stay_until_ours_change(self, world: World) -> None:
        person = await world.contact(ADA)
        segment = await world.segment()
        await world.sync(segment)
        await world.admin(ADA, "edit", merge_fields={"LNAME": "King"})

        assert counted(await world.sync(segment)) == {}
        member = await world.member(ADA)
        assert member is not None
        assert member["mergeFields"]["LNAME"] == "King"
        await world.change(person, first_name="Adele")
        assert counted(await world.sync(segment)) == {"update": 1, "done": 1}
        member = await world.member(ADA)
        assert member is not None
        assert member["mergeFields"]["LNAME"] == "Last1"

    async def test_an_empty_value_clears_ours_and_never_what_we_did_not_push(
        self, world: World
    ) -> None:
        await world.admin(ADA, "subscribe", merge_fields={"FNAME": "Theirs", "LNAME": "Theirs"})
        person = await world.contact(ADA, first_name=None, last_name="Byron")
        segment = await world.segment()
        await world.sync(segment)
        member = await world.member(ADA)
        assert member is not None
        assert (member["mergeFields"]["FNAME"], member["mergeFields"]["LNAME"]) == (
            "Theirs", "Byron",
        )  # fmt: skip

        await world.change(person, last_name=None)
        await world.sync(segment)

        member = await world.member(ADA)
        assert member is not None
        assert (member["mergeFields"]["FNAME"], member["mergeFields"]["LNAME"]) == ("Theirs", "")


class TestSharedAddresses:
    async def test_the_most_recently_changed_wanted_contact_feeds_the_fields(
        self, world: World
    ) -> None:
        first = await world.contact(ADA, first_name="First")
        await world.wait()
        second = await world.contact(ADA, first_name="Second")
        await world.wait()
        await world.change(second, first_name="Second again")
        segment = await world.segment()

        run = await world.sync(segment)

        assert counted(run) == {"add": 1, "done": 1}
        assert run.skipped_by_reason == {"shared_address": 1}
        member = await world.member(ADA)
        assert member is not None
        assert member["mergeFields"]["FNAME"] == "Second again"
        await world.wait()
        await world.change(first, first_name="First again")
        await world.sync(segment)
        member = await world.member(ADA)
        assert member is not None
        assert member["mergeFields"]["FNAME"] == "First again"
        await world.nothing_left(segment)

    async def test_stays_while_one_of_them_is_claimed(self, world: World) -> None:
        first = await world.contact(ADA)
        await world.contact(ADA)
        segment = await world.segment()
        await world.sync(segment)
        await world.delete(first)

        run = await world.sync(segment)

        assert counted(run) in ({}, {"update": 1, "done": 1})
        assert await world.status(ADA) == "subscribed"

    async def test_the_strictest_consent_of_all_wins_in_the_segment_or_not(
        self, world: World
    ) -> None:
        await world.contact(ADA)
        outside = await world.contact(ADA, opted=None, department="Elsewhere")
        segment = await world.segment()

        run = await world.sync(segment)
        assert counted(run) == {}
        assert run.skipped_by_reason == {"address_not_opted_in": 1}
        await world.opt(outside, "in")
        assert counted(await world.sync(segment)) == {"add": 1, "done": 1}
        await world.wait()
        await world.opt(outside, "out")

        run = await world.sync(segment)

        assert counted(run) == {"unsubscribe": 1, "done": 1}
        assert run.skipped_by_reason == {"address_opted_out": 1}
        assert await world.status(ADA) == "unsubscribed"


class TestTheTag:
    async def test_one_of_that_name_that_we_did_not_make_refuses_the_segment(
        self, world: World
    ) -> None:
        await world.admin("other@acme.example", "subscribe")
        await world.admin("other@acme.example", "tag", tag="MCSYNC: sales")
        await world.contact(ADA)
        segment = await world.segment()

        run = await world.sync(segment)

        assert run.status == "failed"
        assert run.error is not None
        assert run.error.code == "tag_taken"
        assert await world.status(ADA) == "absent"

    async def test_renaming_the_segment_renames_the_tag(self, world: World) -> None:
        person = await world.contact(ADA)
        segment = await world.segment()
        await world.sync(segment)
        await world.update_segment(segment, name="Sellers")
        await world.change(person, first_name="Adele")
        await world.sync(segment)
        member = await world.member(ADA)
        assert member is not None
        assert member["tags"] == ["mcsync: Sellers"]
        await world.nothing_left(segment)

    async def test_also_when_there_is_nothing_else_to_do(self, world: World) -> None:
        await world.contact(ADA)
        segment = await world.segment()
        await world.sync(segment)
        await world.update_segment(segment, name="Sellers")

        await world.sync(segment)

        member = await world.member(ADA)
        assert member is not None
        assert member["tags"] == ["mcsync: Sellers"]

    async def test_deleted_at_mailchimp_it_comes_back_as_ours(self, world: World) -> None:
        person = await world.contact(ADA)
        await world.contact("stays@acme.example")
        segment = await world.segment()
        await world.sync(segment)
        tag = (await world.sql("select tag_id from segment_tags"))[0].tag_id
        await world.delete_tag(tag)
        await world.wait()
        await world.change(person, first_name="Adele")

        await world.sync(segment)
        await world.wait(days=8)
        run = await world.sync(segment)

        assert run.status == "succeeded", run
        member = await world.member("stays@acme.example")
        assert member is not None
        assert member["tags"] == ["mcsync: Sales"]
        await world.delete(person)
        await world.sync(segment)
        gone = await world.member(ADA)
        assert gone is not None
        assert (gone["status"], gone["tags"]) == ("archived", [])

    async def test_deleting_the_segment_leaves_members_as_they_are(self, world: World) -> None:
        await world.contact(ADA)
        segment = await world.segment()
        await world.sync(segment)
        since = await world.sandbox.seq()

        await world.delete_segment(segment)

        assert await world.writes(since) == []
        member = await world.member(ADA)
        assert member is not None
        assert (member["status"], member["tags"]) == ("subscribed", ["mcsync: Sales"])

    async def test_deleting_it_with_leave_plans_its_claims_as_left(self, world: World) -> None:
        await world.admin("foreign@acme.example", "subscribe")
        await world.contact(ADA)
        await world.contact("foreign@acme.example")
        segment = await world.segment()
        await world.sync(segment)

        run = await world.delete_segment(segment, leave=True)

        assert run is not None
        assert run.status == "succeeded", run
        assert counted(run) == {"untag": 1, "archive": 1, "done": 2}
        assert await world.status(ADA) == "archived"
        foreign = await world.member("foreign@acme.example")
        assert foreign is not None
        assert (foreign["status"], foreign["tags"]) == ("subscribed", [])

    async def test_deleted_and_created_again_under_the_same_name_it_starts_anew(
        self, world: World
    ) -> None:
        await world.contact(ADA)
        person = await world.contact("bob@acme.example")
        first = await world.segment()
        await world.sync(first)
        await world.delete_segment(first)
        second = await world.segment()

        run = await world.sync(second)

        assert run.status == "succeeded", run
        assert counted(run) == {"update": 2, "done": 2}
        member = await world.member(ADA)
        assert member is not None
        assert "mcsync: Sales" in member["tags"]
        await world.nothing_left(second)
        # still ours: added by the first segment, archived by the rules of the second
        await world.delete(person)
        await world.sync(second)
        assert await world.status("bob@acme.example") == "archived"

    async def test_moved_to_another_audience_members_stay_unless_they_shall_leave(
        self, world: World
    ) -> None:
        await world.contact(ADA)
        segment = await world.segment()
        await world.sync(segment)
        await world.update_segment(segment, audienceId=world.other_list_id)
        await world.sync(segment)
        assert await world.status(ADA) == "subscribed"
        assert await world.status(ADA, world.other_list_id) == "subscribed"
        await world.update_segment(segment, audienceId=world.list_id, leave=True)
        found = await world.sql("select id from sync_runs where leave")
        run = await world.work(found[0].id)
        assert run.status == "succeeded", run
        assert await world.status(ADA, world.other_list_id) == "archived"
        assert await world.status(ADA) == "subscribed"
