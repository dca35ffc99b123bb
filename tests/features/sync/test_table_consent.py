"""Rows 1, 2, 3, 13, 15, 16 and 18 of the table in ``sync.md`` 3: what a withdrawal stops and a consent lifts."""

from __future__ import annotations

from typing import Any

import pytest

from tests.features.sync.conftest import Between
from tests.features.sync.world import World, ago, counted

ADA = "ada@acme.example"
BULK = "POST "


class TestRow1ErasedOrSuppressed:
    async def test_a_suppressed_address_is_wanted_nowhere_and_left_to_the_erasure(
        self, world: World
    ) -> None:
        await world.contact(ADA)
        segment = await world.segment()
        await world.sync(segment)
        await world.sql(
            """insert into suppressions (org_id, kind, key)
               select org_id, 'address', address_key from contacts"""
        )
        since = await world.sandbox.seq()

        run = await world.sync(segment)

        assert counted(run) == {}
        assert run.skipped_by_reason == {"suppressed": 1}
        assert await world.writes(since) == []
        assert await world.status(ADA) == "subscribed"

    async def test_a_lifted_suppression_is_noticed(self, world: World) -> None:
        await world.contact(ADA)
        segment = await world.segment()
        await world.sql(
            """insert into suppressions (org_id, kind, key)
               select org_id, 'address', address_key from contacts"""
        )
        await world.sync(segment)
        assert await world.status(ADA) == "absent"

        await world.sql("update suppressions set lifted_at = now()")
        run = await world.sync(segment)

        assert counted(run) == {"add": 1, "done": 1}
        assert await world.status(ADA) == "subscribed"


class TestRow2WithdrawnAndStillAMember:
    async def test_is_unsubscribed_by_the_run_where_the_order_did_not_come_first(
        self, world: World
    ) -> None:
        person = await world.contact(ADA)
        segment = await world.segment()
        await world.sync(segment)
        await world.opt(person, "out")
        since = await world.sandbox.seq()

        run = await world.sync(segment)

        assert counted(run) == {"unsubscribe": 1, "done": 1}
        assert await world.planned(run) == {ADA: ("unsubscribe", "withdrawn")}
        assert await world.writes(since) == [BULK]
        member = await world.member(ADA)
        assert member is not None
        assert member["status"] == "unsubscribed"
        assert member["tags"] == ["mcsync: Sales"]
        await world.nothing_left(segment)

    async def test_is_unsubscribed_in_every_audience_whoever_added_it(self, world: World) -> None:
        await world.admin(ADA, "subscribe", list_id=world.other_list_id)
        other = await world.segment("Others", audienceId=world.other_list_id)
        await world.sync(other)
        # withdrew under another address, and moved to this one: no order knows of this member
        person = await world.contact("old@acme.example")
        await world.opt(person, "out")
        await world.upsert(person, email=ADA, department="Elsewhere")

        run = await world.sync(other)

        assert counted(run) == {"unsubscribe": 1, "done": 1}
        assert await world.status(ADA, world.other_list_id) == "unsubscribed"
        await world.nothing_left(other)

    async def test_is_unsubscribed_while_pending(self, world: World) -> None:
        person = await world.contact(ADA)
        segment = await world.segment(optIn="double")
        await world.sync(segment)
        assert await world.status(ADA) == "pending"
        await world.opt(person, "out")

        run = await world.sync(segment)

        assert counted(run) == {"unsubscribe": 1, "done": 1}
        assert await world.status(ADA) == "unsubscribed"

    async def test_loses_the_tag_too_where_it_no_longer_matches_and_nothing_more(
        self, world: World
    ) -> None:
        person = await world.contact(ADA)
        segment = await world.segment(onLeave="archive")
        await world.sync(segment)
        await world.change(person, department="Elsewhere")
        await world.opt(person, "out")
        since = await world.sandbox.seq()

        run = await world.sync(segment)

        assert counted(run) == {"unsubscribe": 1, "done": 1}
        assert len(await world.writes(since)) == 2
        member = await world.member(ADA)
        assert member is not None
        assert (member["status"], member["tags"]) == ("unsubscribed", [])
        await world.nothing_left(segment)

    async def test_resubscribed_by_an_admin_after_our_own_withdrawal_is_taken_off_again(
        self, world: World
    ) -> None:
        person = await world.contact(ADA)
        segment = await world.segment()
        await world.sync(segment)
        await world.opt(person, "out")
        await world.sync(segment)
        await world.admin(ADA, "subscribe")

        run = await world.sync(segment)

        assert await world.planned(run) == {ADA: ("unsubscribe", "resubscribed_by_others")}
        assert counted(run) == {"unsubscribe": 1, "done": 1}
        assert await world.status(ADA) == "unsubscribed"


class TestRow3WithdrawnAndNoMember:
    @pytest.mark.parametrize("act", ["bounce", "archive", None])
    async def test_nothing_happens(self, world: World, act: Any) -> None:
        person = await world.contact(ADA)
        segment = await world.segment()
        if act:
            await world.sync(segment)
            if act == "bounce":
                await world.person(ADA, "bounce")
            else:
                await world.admin(ADA, "archive")
        before = await world.status(ADA)
        await world.opt(person, "out")
        since = await world.sandbox.seq()

        run = await world.sync(segment)

        assert counted(run) == {}
        assert run.skipped_by_reason == {"opted_out": 1}
        assert await world.writes(since) in ([], ["POST segments"])
        assert await world.status(ADA) == before


class TestRow13ConsentGivenAgain:
    async def test_unsubscribed_by_us_after_a_withdrawal_comes_back_with_a_later_consent(
        self, world: World
    ) -> None:
        person = await world.contact(ADA)
        segment = await world.segment()
        await world.sync(segment)
        await world.opt(person, "out")
        await world.orders()
        assert await world.status(ADA) == "unsubscribed"
        await world.sync(segment)
        await world.wait()
        await world.opt(person, "in")
        since = await world.sandbox.seq()

        run = await world.sync(segment)

        assert counted(run) == {"resubscribe": 1, "done": 1}
        assert (await world.planned(run))[ADA] == ("resubscribe", "consent_given_again")
        assert await world.writes(since) == [BULK]
        assert await world.status(ADA) == "subscribed"
        await world.nothing_left(segment)

    async def test_is_asked_where_a_claiming_segment_wants_double_opt_in(
        self, world: World
    ) -> None:
        person = await world.contact(ADA)
        segment = await world.segment()
        await world.sync(segment)
        await world.opt(person, "out")
        await world.orders()
        await world.update_segment(segment, optIn="double")
        await world.wait()
        await world.opt(person, "in")

        await world.sync(segment)

        assert await world.status(ADA) == "pending"

    async def test_who_never_confirms_is_not_added_again_once_the_request_has_lapsed(
        self, world: World
    ) -> None:
        person = await world.contact(ADA)
        segment = await world.segment(optIn="double")
        await world.sync(segment)
        await world.person(ADA, "confirm")
        await world.sync(segment)
        await world.opt(person, "out")
        await world.orders()
        await world.wait()
        await world.opt(person, "in")
        await world.sync(segment)
        assert await world.status(ADA) == "pending"
        await world.admin(ADA, "pending_lapse")

        await world.update_segment(segment, optIn="single")
        run = await world.sync(segment)

        assert counted(run) == {}
        assert run.skipped_by_reason == {"unconfirmed": 1}
        assert await world.status(ADA) == "absent"

    async def test_a_compliance_refusal_is_recorded_and_not_retried(
        self, world: World, before_push: Between
    ) -> None:
        person = await world.contact(ADA)
        segment = await world.segment()
        await world.sync(segment)
        await world.opt(person, "out")
        await world.orders()
        await world.wait()
        await world.opt(person, "in")

        async def unsubscribe() -> None:
            await world.sandbox.person(world.list_id, ADA, "unsubscribe")

        before_push(unsubscribe)
        run = await world.sync(segment)

        assert run.status == "succeeded_with_errors"
        assert counted(run) == {"resubscribe": 1, "failed": 1}
        failed = await world.changes(run, state="failed")
        assert [c.outcome_code for c in failed] == ["compliance"]
        for _ in range(2):
            since = await world.sandbox.seq()
            await world.sync(segment)
            assert await world.writes(since) == []
        assert await world.status(ADA) == "unsubscribed"


class TestRow15UnsubscribedInPersonAndOptedInAgainHere:
    async def test_is_asked_once_per_opt_in(self, world: World) -> None:
        person = await world.contact(ADA)
        segment = await world.segment()
        await world.sync(segment)
        await world.person(ADA, "unsubscribe")
        await world.sync(segment)
        await world.wait()
        await world.opt(person, "in")
        since = await world.sandbox.seq()

        run = await world.sync(segment)

        assert counted(run) == {"resubscribe": 1, "done": 1}
        assert (await world.planned(run))[ADA] == ("resubscribe", "ask_again")
        assert await world.writes(since) == [BULK]
        assert await world.status(ADA) == "pending"
        await world.nothing_left(segment)
        # asked, and the answer was no
        await world.person(ADA, "unsubscribe")
        for _ in range(2):
            run = await world.sync(segment)
            assert counted(run) == {}
        assert await world.status(ADA) == "unsubscribed"
        await world.wait()
        await world.opt(person, "in")
        run = await world.sync(segment)
        assert await world.status(ADA) == "pending"
        await world.person(ADA, "confirm")
        await world.sync(segment)
        assert await world.status(ADA) == "subscribed"

    async def test_who_was_asked_and_never_answered_is_not_added_when_the_request_lapses(
        self, world: World
    ) -> None:
        person = await world.contact(ADA)
        segment = await world.segment()
        await world.sync(segment)
        await world.person(ADA, "unsubscribe")
        await world.sync(segment)
        await world.wait()
        await world.opt(person, "in")
        await world.sync(segment)
        await world.admin(ADA, "pending_lapse")

        run = await world.sync(segment)

        assert counted(run) == {}
        assert run.skipped_by_reason == {"unconfirmed": 1}
        assert await world.status(ADA) == "absent"

    async def test_an_opt_in_before_the_unsubscribe_does_not_count(self, world: World) -> None:
        await world.person(ADA, "subscribe_form")
        await world.person(ADA, "unsubscribe")
        await world.wait(120)
        await world.person("bob@acme.example", "subscribe_form")
        segment = await world.segment()
        await world.sync(segment)
        person = await world.contact(ADA, opted=None)
        await world.opt(person, "in", at=world.now() - (ago() - ago(hours=1)))

        run = await world.sync(segment)

        assert counted(run) == {}
        assert run.skipped_by_reason == {"unsubscribed_by_person": 1}
        assert await world.status(ADA) == "unsubscribed"

    async def test_an_opt_in_that_an_import_only_assumed_does_not_count(self, world: World) -> None:
        await world.person(ADA, "subscribe_form")
        await world.person(ADA, "unsubscribe")
        segment = await world.segment()
        await world.sync(segment)
        await world.wait()
        await world.upsert("E9", email=ADA, department="Sales", optStatus="opted_in")

        run = await world.sync(segment)

        assert counted(run) == {}
        assert run.skipped_by_reason == {"unsubscribed_by_person": 1}
        assert await world.status(ADA) == "unsubscribed"
        # the same with its own time is a statement about the person
        await world.wait(10)
        given = world.now() - (ago() - ago(seconds=5))
        await world.upsert(
            "E9", email=ADA, department="Sales", optStatus="opted_in",
            consentGivenAt=given.isoformat(),
        )  # fmt: skip
        await world.sync(segment)
        assert await world.status(ADA) == "pending"


class TestRow16UnsubscribedByOthersOrCleaned:
    async def test_unsubscribed_by_an_admin_stays_so_whatever_is_recorded_here(
        self, world: World
    ) -> None:
        person = await world.contact(ADA)
        segment = await world.segment()
        await world.sync(segment)
        await world.admin(ADA, "unsubscribe")
        await world.wait()
        await world.opt(person, "in")
        since = await world.sandbox.seq()

        run = await world.sync(segment)

        assert counted(run) == {}
        assert run.skipped_by_reason == {"unsubscribed_by_others": 1}
        assert await world.writes(since) == []
        assert await world.status(ADA) == "unsubscribed"

    async def test_unsubscribed_in_person_without_another_opt_in(self, world: World) -> None:
        await world.contact(ADA)
        segment = await world.segment()
        await world.sync(segment)
        await world.person(ADA, "unsubscribe")

        run = await world.sync(segment)

        assert counted(run) == {}
        assert run.skipped_by_reason == {"opted_out": 1}
        assert await world.status(ADA) == "unsubscribed"

    async def test_cleaned_is_skipped_and_stays_cleaned(self, world: World) -> None:
        person = await world.contact(ADA)
        segment = await world.segment()
        await world.sync(segment)
        await world.person(ADA, "bounce")
        await world.wait()
        await world.opt(person, "in")

        run = await world.sync(segment)

        assert counted(run) == {}
        assert run.skipped_by_reason == {"cleaned": 1}
        assert await world.status(ADA) == "cleaned"


class TestRow18Transactional:
    async def test_with_a_recorded_opt_in_is_asked(self, world: World) -> None:
        await world.sandbox.seed(world.list_id, 1, prefix="shop", status="transactional")
        await world.contact("shop0@sandbox.test")
        segment = await world.segment()

        run = await world.sync(segment)

        assert counted(run) == {"resubscribe": 1, "done": 1}
        assert (await world.planned(run))["shop0@sandbox.test"][1] == "transactional_opted_in"
        assert await world.status("shop0@sandbox.test") == "pending"

    async def test_without_one_is_skipped(self, world: World) -> None:
        await world.sandbox.seed(world.list_id, 1, prefix="shop", status="transactional")
        await world.contact("shop0@sandbox.test", opted=None)
        segment = await world.segment(legalBasis="legitimate_interest")

        run = await world.sync(segment)

        assert counted(run) == {}
        assert run.skipped_by_reason == {"transactional": 1}
        assert await world.status("shop0@sandbox.test") == "transactional"
