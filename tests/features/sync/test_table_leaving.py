"""Rows 4 to 8, 14 and 17 of the table in ``sync.md`` 3: changed addresses, leaving, coming back."""

from __future__ import annotations

import pytest

from tests.features.sync.world import World, counted

ADA = "ada@acme.example"
NEW = "ada.new@acme.example"
BULK = "POST "


@pytest.fixture(autouse=True)
async def _bystander(world: World) -> None:
    """Somebody who stays: a source that suddenly matches nobody is another matter (the guard's)."""
    await world.contact("stays@acme.example", location="Berlin")


class TestRow4AddressChanged:
    async def test_the_owned_member_is_renamed_and_keeps_its_history(self, world: World) -> None:
        person = await world.contact(ADA)
        segment = await world.segment()
        await world.sync(segment)
        before = await world.member(ADA)
        await world.upsert(person, email=NEW, firstName="Adele")
        since = await world.sandbox.seq()

        run = await world.sync(segment)

        assert counted(run) == {"rename": 1, "done": 1}
        writes = await world.writes(since)
        assert len(writes) == 1
        assert writes[0].startswith("PATCH members/")
        after = await world.member(NEW)
        assert before is not None
        assert after is not None
        assert after["contactId"] == before["contactId"]
        assert after["tags"] == ["mcsync: Sales"]
        assert after["mergeFields"]["FNAME"] == "Adele"
        assert await world.status(ADA) == "absent"
        await world.nothing_left(segment)
        # still ours: it may be archived when it leaves
        await world.delete(person)
        await world.sync(segment)
        assert await world.status(NEW) == "archived"

    async def test_not_owned_the_new_one_is_added_and_the_old_one_only_untagged(
        self, world: World
    ) -> None:
        await world.admin(ADA, "subscribe")
        person = await world.contact(ADA)
        segment = await world.segment()
        await world.sync(segment)
        await world.upsert(person, email=NEW)

        run = await world.sync(segment)

        assert counted(run) == {"add": 1, "untag": 1, "done": 2}
        assert await world.status(NEW) == "subscribed"
        old = await world.member(ADA)
        assert old is not None
        assert (old["status"], old["tags"]) == ("subscribed", [])
        await world.nothing_left(segment)

    async def test_claimed_by_somebody_else_too_the_old_one_stays(self, world: World) -> None:
        person = await world.contact(ADA)
        await world.contact(ADA)
        segment = await world.segment()
        await world.sync(segment)
        await world.upsert(person, email=NEW)

        run = await world.sync(segment)

        assert run.counts.rename == 0
        assert run.counts.add == 1
        assert await world.status(ADA) == "subscribed"
        assert await world.status(NEW) == "subscribed"
        await world.nothing_left(segment)

    async def test_with_double_opt_in_the_new_address_is_asked_and_the_old_one_leaves(
        self, world: World
    ) -> None:
        person = await world.contact(ADA)
        segment = await world.segment(optIn="double")
        await world.sync(segment)
        await world.person(ADA, "confirm")
        await world.sync(segment)
        await world.upsert(person, email=NEW)

        run = await world.sync(segment)

        assert counted(run) == {"add": 1, "archive": 1, "done": 2}
        assert await world.status(NEW) == "pending"
        assert await world.status(ADA) == "archived"

    async def test_refused_renames_become_additions_and_the_old_ones_leave_in_the_next_run(
        self, world: World
    ) -> None:
        people = [await world.contact(f"p{n}@acme.example") for n in range(12)]
        segment = await world.segment()
        await world.sync(segment)
        for n, person in enumerate(people):
            await world.upsert(person, email=f"q{n}@acme.example")
        await world.sandbox.fault("400", method="PATCH", path="/members/", times=12)

        run = await world.sync(segment)

        assert run.status == "succeeded_with_errors", run
        assert run.counts.rename == 12
        done = await world.changes(run, state="done")
        assert [c.action for c in done] == ["add"] * 12
        assert {await world.status(f"q{n}@acme.example") for n in range(12)} == {"subscribed"}
        again = await world.sync(segment)
        assert again.counts.archive == 12, again
        assert {await world.status(f"p{n}@acme.example") for n in range(12)} == {"archived"}
        await world.nothing_left(segment)

    async def test_an_address_changed_at_mailchimp_stays_until_our_source_changes_it_again(
        self, world: World
    ) -> None:
        person = await world.contact(ADA)
        segment = await world.segment()
        await world.sync(segment)
        theirs = "ada.home@acme.example"
        await world.person(ADA, "change_email", new_email=theirs)

        run = await world.sync(segment)
        assert counted(run) == {}
        await world.upsert(person, firstName="Adele", email=ADA)
        await world.sync(segment)
        member = await world.member(theirs)
        assert member is not None
        assert member["mergeFields"]["FNAME"] == "Adele"
        assert await world.status(ADA) == "absent"
        await world.nothing_left(segment)

        await world.upsert(person, email=NEW)
        run = await world.sync(segment)
        assert counted(run) == {"rename": 1, "done": 1}
        after = await world.member(NEW)
        assert after is not None
        assert after["contactId"] == member["contactId"]
        assert await world.status(theirs) == "absent"
        await world.nothing_left(segment)

    async def test_a_member_that_stands_for_two_contacts_is_not_renamed_away_from_the_other(
        self, world: World
    ) -> None:
        first, _ = await world.contact(ADA), await world.contact(ADA)
        await world.wait()
        await world.change(first, first_name="Adele")
        segment = await world.segment()
        await world.sync(segment)
        theirs = "ada.home@acme.example"
        await world.person(ADA, "change_email", new_email=theirs)
        await world.sync(segment)
        await world.upsert(first, email=NEW)

        run = await world.sync(segment)

        assert run.counts.rename == 0
        assert await world.status(NEW) == "subscribed"
        assert await world.status(theirs) == "subscribed"
        await world.nothing_left(segment)


class TestRow5LeftButClaimedByAnotherSegment:
    async def test_loses_the_one_tag_and_nothing_else(self, world: World) -> None:
        person = await world.contact(ADA, location="Berlin")
        sales = await world.segment("Sales")
        berlin = await world.segment("Berlin", filters={"location": ["Berlin"]})
        await world.sync(sales)
        await world.sync(berlin)
        await world.change(person, department="Elsewhere")
        since = await world.sandbox.seq()

        run = await world.sync(sales)

        assert counted(run) == {"untag": 1, "done": 1}
        assert (await world.planned(run))[ADA] == ("untag", "left_still_claimed")
        assert len(await world.writes(since)) == 1
        member = await world.member(ADA)
        assert member is not None
        assert (member["status"], member["tags"]) == ("subscribed", ["mcsync: Berlin"])
        await world.nothing_left(sales)

        await world.change(person, location="Osaka")
        run = await world.sync(berlin)
        assert counted(run) == {"archive": 1, "done": 1}
        assert await world.status(ADA) == "archived"

    async def test_a_foreign_member_that_leaves_both_is_left_alone(self, world: World) -> None:
        await world.admin(ADA, "subscribe")
        person = await world.contact(ADA, location="Berlin")
        sales = await world.segment("Sales")
        berlin = await world.segment("Berlin", filters={"location": ["Berlin"]})
        await world.sync(sales)
        await world.sync(berlin)
        await world.delete(person)

        await world.sync(sales)
        await world.sync(berlin)

        member = await world.member(ADA)
        assert member is not None
        assert (member["status"], member["tags"]) == ("subscribed", [])


class TestRow6LeftWhileSubscribedAndOwned:
    @pytest.mark.parametrize(
        ("on_leave", "status", "counts"),
        [
            ("archive", "archived", {"archive": 1, "done": 1}),
            ("unsubscribe", "unsubscribed", {"unsubscribe": 1, "done": 1}),
            ("keep", "subscribed", {"untag": 1, "done": 1}),
        ],
    )
    async def test_is_untagged_and_treated_as_the_segment_says(
        self, world: World, on_leave: str, status: str, counts: dict[str, int]
    ) -> None:
        person = await world.contact(ADA)
        segment = await world.segment(onLeave=on_leave)
        await world.sync(segment)
        await world.delete(person)

        run = await world.sync(segment)

        assert counted(run) == counts
        assert {reason for _, reason in (await world.planned(run)).values()} == {"left"}
        member = await world.member(ADA)
        assert member is not None
        assert (member["status"], member["tags"]) == (status, [])
        await world.nothing_left(segment)

    @pytest.mark.parametrize("how", ["no address", "changed basis", "consent taken back"])
    async def test_leaving_has_many_causes(self, world: World, how: str) -> None:
        person = await world.contact(ADA, opted="in" if how != "changed basis" else None)
        segment = await world.segment(
            legalBasis="legitimate_interest" if how == "changed basis" else "consent"
        )
        await world.sync(segment)
        assert await world.status(ADA) == "subscribed"
        if how == "no address":
            await world.change(person, email=None, address_hash=None, address_key=None)
        elif how == "changed basis":
            await world.update_segment(segment, legalBasis="consent")
        else:
            await world.upsert(person, email=ADA, optStatus="unset")

        run = await world.sync(segment)

        assert counted(run) == {"archive": 1, "done": 1}
        assert await world.status(ADA) == "archived"
        await world.nothing_left(segment)

    @pytest.mark.parametrize("first", ["Keeping", "Archiving"])
    async def test_of_differing_segments_the_mildest_rule_holds_whichever_runs_first(
        self, world: World, first: str
    ) -> None:
        person = await world.contact(ADA)
        keeping = await world.segment("Keeping", onLeave="keep")
        archiving = await world.segment("Archiving", onLeave="archive")
        for segment in (keeping, archiving):
            await world.sync(segment)
        await world.wait()
        await world.delete(person)
        await world.wait()

        order = [keeping, archiving]
        for segment in order if first == "Keeping" else reversed(order):
            await world.sync(segment)

        member = await world.member(ADA)
        assert member is not None
        assert (member["status"], member["tags"]) == ("subscribed", [])

    async def test_who_left_the_keeping_segment_long_ago_is_archived(self, world: World) -> None:
        person = await world.contact(ADA, location="Berlin")
        keeping = await world.segment("Keeping", onLeave="keep")
        archiving = await world.segment(
            "Archiving", onLeave="archive", filters={"location": ["Berlin"]}
        )
        for segment in (keeping, archiving):
            await world.sync(segment)
        await world.wait()
        await world.change(person, department="Elsewhere")
        for segment in (keeping, archiving):
            await world.wait()
            await world.sync(segment)
        await world.delete(person)

        await world.sync(archiving)

        assert await world.status(ADA) == "archived"


class TestRow7LeftWhilePendingAndOwned:
    @pytest.mark.parametrize(
        ("on_leave", "status"),
        [("archive", "unsubscribed"), ("unsubscribe", "unsubscribed"), ("keep", "pending")],
    )
    async def test_is_unsubscribed_unless_kept(
        self, world: World, on_leave: str, status: str
    ) -> None:
        person = await world.contact(ADA)
        segment = await world.segment(onLeave=on_leave, optIn="double")
        await world.sync(segment)
        await world.delete(person)

        await world.sync(segment)

        member = await world.member(ADA)
        assert member is not None
        assert (member["status"], member["tags"]) == (status, [])
        await world.nothing_left(segment)

    async def test_also_after_a_full_pull_whose_tag_list_shows_subscribed_members_only(
        self, world: World
    ) -> None:
        person = await world.contact(ADA)
        segment = await world.segment(optIn="double")
        await world.sync(segment)
        await world.wait(days=8)
        await world.delete(person)

        await world.sync(segment)

        assert await world.status(ADA) == "unsubscribed"


class TestRow8LeftInAnyOtherState:
    @pytest.mark.parametrize("state", ["foreign", "unsubscribed", "cleaned", "archived"])
    async def test_is_untagged_only(self, world: World, state: str) -> None:
        if state == "foreign":
            await world.admin(ADA, "subscribe")
        person = await world.contact(ADA)
        segment = await world.segment()
        await world.sync(segment)
        if state == "unsubscribed":
            await world.admin(ADA, "unsubscribe")
        elif state == "cleaned":
            await world.person(ADA, "bounce")
        elif state == "archived":
            await world.admin(ADA, "archive")
        before = await world.status(ADA)
        await world.delete(person)
        since = await world.sandbox.seq()

        run = await world.sync(segment)

        assert counted(run) == {"untag": 1, "done": 1}
        assert len(await world.writes(since)) == 1
        assert await world.status(ADA) == before
        await world.nothing_left(segment)

    async def test_who_signed_up_themselves_later_is_ours_no_more(self, world: World) -> None:
        person = await world.contact(ADA)
        segment = await world.segment()
        await world.sync(segment)
        await world.delete(person)
        await world.sync(segment)
        assert await world.status(ADA) == "archived"
        await world.person(ADA, "subscribe_form")
        await world.upsert(person, email=ADA)
        await world.sync(segment)
        await world.delete(person)

        await world.sync(segment)

        assert await world.status(ADA) == "subscribed"

    async def test_nor_after_they_had_vanished(self, world: World) -> None:
        person = await world.contact(ADA)
        segment = await world.segment()
        await world.sync(segment)
        await world.admin(ADA, "delete_permanent")
        await world.sync(segment)
        await world.person(ADA, "subscribe_form")
        await world.sync(segment)
        await world.delete(person)

        await world.sync(segment)

        assert await world.status(ADA) == "subscribed"


class TestRow14UnsubscribedByUsBecauseItLeft:
    async def test_comes_back_when_it_is_wanted_again(self, world: World) -> None:
        person = await world.contact(ADA)
        segment = await world.segment(onLeave="unsubscribe")
        await world.sync(segment)
        await world.change(person, department="Elsewhere")
        await world.sync(segment)
        assert await world.status(ADA) == "unsubscribed"
        await world.wait()
        await world.change(person, department="Sales")
        since = await world.sandbox.seq()

        run = await world.sync(segment)

        assert counted(run) == {"resubscribe": 1, "done": 1}
        assert (await world.planned(run))[ADA] == ("resubscribe", "back")
        assert await world.writes(since) == [BULK]
        member = await world.member(ADA)
        assert member is not None
        assert (member["status"], member["tags"]) == ("subscribed", ["mcsync: Sales"])
        await world.nothing_left(segment)

    async def test_not_while_a_withdrawal_stands_that_came_since(self, world: World) -> None:
        person = await world.contact(ADA)
        segment = await world.segment(onLeave="unsubscribe")
        await world.sync(segment)
        await world.change(person, department="Elsewhere")
        await world.sync(segment)
        await world.opt(person, "out")
        await world.change(person, department="Sales")

        run = await world.sync(segment)

        assert counted(run) == {}
        assert run.skipped_by_reason == {"opted_out": 1}
        assert await world.status(ADA) == "unsubscribed"

    async def test_not_who_then_unsubscribed_in_person_too(self, world: World) -> None:
        person = await world.contact(ADA)
        segment = await world.segment(onLeave="unsubscribe")
        await world.sync(segment)
        await world.change(person, department="Elsewhere")
        await world.sync(segment)
        await world.person(ADA, "unsubscribe")
        await world.change(person, department="Sales")

        run = await world.sync(segment)

        assert counted(run) == {}
        assert await world.status(ADA) == "unsubscribed"


class TestRow17Archived:
    async def test_archived_by_us_comes_back_when_it_is_wanted_again(self, world: World) -> None:
        person = await world.contact(ADA)
        segment = await world.segment()
        await world.sync(segment)
        await world.delete(person)
        await world.sync(segment)
        assert await world.status(ADA) == "archived"
        await world.upsert(person, email=ADA)
        since = await world.sandbox.seq()

        run = await world.sync(segment)

        assert counted(run) == {"add": 1, "done": 1}
        assert (await world.planned(run))[ADA] == ("add", "back")
        assert await world.writes(since) == [BULK]
        member = await world.member(ADA)
        assert member is not None
        assert (member["status"], member["tags"]) == ("subscribed", ["mcsync: Sales"])
        await world.nothing_left(segment)

    async def test_not_while_a_withdrawal_stands_that_came_since(self, world: World) -> None:
        person = await world.contact(ADA)
        segment = await world.segment()
        await world.sync(segment)
        await world.delete(person)
        await world.sync(segment)
        await world.upsert(person, email=ADA)
        await world.opt(person, "out")
        await world.orders()

        run = await world.sync(segment)

        assert counted(run) == {}
        assert await world.status(ADA) == "archived"

    async def test_archived_by_an_admin_is_skipped(self, world: World) -> None:
        await world.contact(ADA)
        segment = await world.segment()
        await world.sync(segment)
        await world.admin(ADA, "archive")
        since = await world.sandbox.seq()

        run = await world.sync(segment)

        assert counted(run) == {}
        assert run.skipped_by_reason == {"archived": 1}
        assert await world.writes(since) == []
        assert await world.status(ADA) == "archived"
