"""Who unsubscribed is a person until proven otherwise, and a newer ``timestamp_opt`` is nobody's opt-in."""

from __future__ import annotations

from typing import Any

import pytest

from tests.features.sync.conftest import Between, Configure
from tests.features.sync.test_pull import consent
from tests.features.sync.world import World, counted
from tests.support.rewriting import rewrite_answers

ADA = "ada@acme.example"
ADMIN = "N/A (Unsubscribed by admin)"
MISSING = "(missing)"


def reasons(world: World, told: Any, *, of: str) -> None:
    """Mailchimp says ``told`` where the sandbox gives ``of`` as the reason."""

    def change(found: dict[str, Any]) -> None:
        if found.get("unsubscribe_reason") != of:
            return
        if told == MISSING:
            del found["unsubscribe_reason"]
        else:
            found["unsubscribe_reason"] = told

    rewrite_answers(world.resources.http, change)


async def known(world: World) -> tuple[str | None, str | None]:
    """Whom the mirror takes for the one who unsubscribed, and why."""
    found = await world.sql(
        "select unsubscribed_by, unsubscribe_cause from audience_members where email = :email",
        email=ADA,
    )
    row = found[0]
    return row.unsubscribed_by, row.unsubscribe_cause


class TestThePerson:
    @pytest.mark.parametrize(
        "told",
        [
            "", " ", None, MISSING, [], {}, 7, "Unspecified", "Did not signup for list",
            "N/A (Unsubscribed by administrator)", "Unsubscribed by admin", "by admin",
        ],
    )  # fmt: skip
    async def test_whatever_the_reason_is(self, world: World, told: Any) -> None:
        person = await world.contact(ADA)
        segment = await world.segment()
        await world.sync(segment)
        reasons(world, told, of="None given")
        await world.person(ADA, "unsubscribe")

        run = await world.sync(segment)

        assert counted(run) == {}
        assert await known(world) == ("person", None)
        assert await consent(world, person) == ("opted_out", "mailchimp")

    async def test_on_the_first_pull_of_an_old_audience(self, world: World) -> None:
        reasons(world, "", of=ADMIN)
        await world.sandbox.seed(world.list_id, 1, prefix="ada", domain="acme.example")
        await world.admin("ada0@acme.example", "unsubscribe")
        person = await world.contact("ada0@acme.example")

        run = await world.sync(await world.segment())

        assert counted(run) == {}
        assert await consent(world, person) == ("opted_out", "mailchimp")

    async def test_who_was_quicker_than_our_own_unsubscribe(
        self, world: World, before_push: Between
    ) -> None:
        """The answer to our call says ``unsubscribed`` all the same."""
        reasons(world, "", of="None given")
        person = await world.contact(ADA)
        await world.contact("stays@acme.example")
        segment = await world.segment(onLeave="unsubscribe")
        await world.sync(segment)
        await world.change(person, department="Elsewhere")

        async def quicker() -> None:
            await world.person(ADA, "unsubscribe")
            await world.wait(5)

        before_push(quicker)
        await world.sync(segment)
        await world.change(person, department="Sales")
        await world.sync(segment)

        assert await known(world) == ("person", None)
        assert await consent(world, person) == ("opted_out", "mailchimp")
        assert await world.status(ADA) == "unsubscribed"

    async def test_a_tag_moved_later_is_no_second_withdrawal(
        self, world: World, configure: Configure
    ) -> None:
        await configure(tagsMoveLastChanged=True)
        reasons(world, "", of="None given")
        person = await world.contact(ADA)
        segment = await world.segment()
        await world.sync(segment)
        await world.person(ADA, "unsubscribe")
        await world.sync(segment)
        await world.wait()
        await world.opt(person, "in")
        await world.wait()
        await world.touch_tags(ADA)

        await world.sync(segment)

        assert await consent(world, person) == ("opted_in", "console")
        assert await world.status(ADA) == "pending"


class TestStaffAndPrograms:
    @pytest.mark.parametrize(
        "told", [ADMIN, "N/A (Unsubscribed by an admin)", " n/a (UNSUBSCRIBED  by an Admin) "]
    )
    async def test_by_their_two_wordings(self, world: World, told: str) -> None:
        person = await world.contact(ADA)
        segment = await world.segment()
        await world.sync(segment)
        reasons(world, told, of=ADMIN)
        await world.admin(ADA, "unsubscribe")

        run = await world.sync(segment)

        assert run.skipped_by_reason == {"unsubscribed_by_others": 1}
        assert await known(world) == ("others", None)
        assert await consent(world, person) == ("opted_in", "console")


@pytest.mark.parametrize("told", [ADMIN, "", None, MISSING])
class TestOurs:
    async def test_a_withdrawal_stays_ours(self, world: World, told: Any) -> None:
        reasons(world, told, of=ADMIN)
        person = await world.contact(ADA)
        segment = await world.segment()
        await world.sync(segment)
        await world.opt(person, "out")
        await world.orders()
        await world.sync(segment)
        await world.wait(days=8)  # a full pull
        await world.sync(segment)
        assert await known(world) == ("us", "withdrawal")
        assert await consent(world, person) == ("opted_out", "console")
        await world.wait()
        await world.opt(person, "in")

        await world.sync(segment)

        assert await world.status(ADA) == "subscribed"

    async def test_who_left_stays_ours_though_a_tag_moves_the_member(
        self, world: World, configure: Configure, told: Any
    ) -> None:
        await configure(tagsMoveLastChanged=True)
        reasons(world, told, of=ADMIN)
        person = await world.contact(ADA)
        await world.contact("stays@acme.example")
        segment = await world.segment(onLeave="unsubscribe")
        await world.sync(segment)
        await world.wait()
        await world.change(person, department="Elsewhere")
        await world.sync(segment)
        await world.touch_tags(ADA)
        await world.sync(segment)
        await world.wait(days=8)
        await world.sync(segment)
        assert await known(world) == ("us", "left")
        await world.change(person, department="Sales")

        await world.sync(segment)

        assert await world.status(ADA) == "subscribed"
        assert await consent(world, person) == ("opted_in", "console")

    async def test_but_not_once_they_came_back_in_between_and_left(
        self, world: World, told: Any
    ) -> None:
        reasons(world, told, of=ADMIN)
        reasons(world, "", of="None given")
        person = await world.contact(ADA)
        await world.contact("stays@acme.example")
        segment = await world.segment(onLeave="unsubscribe")
        await world.sync(segment)
        await world.wait()
        await world.change(person, department="Elsewhere")
        await world.sync(segment)
        await world.person(ADA, "resubscribe_form")
        await world.person(ADA, "unsubscribe")
        await world.change(person, department="Sales")

        run = await world.sync(segment)

        assert counted(run) == {}
        assert await known(world) == ("person", None)
        assert await consent(world, person) == ("opted_out", "mailchimp")


class TestANewerTimestampOpt:
    async def by_a_program(self, world: World) -> None:
        """Archived by the staff, and then added again by any program: POST sets ``timestamp_opt`` to now."""
        await world.admin(ADA, "archive")
        await world.wait()
        await world.program({"email_address": ADA, "status": "subscribed"})

    @pytest.mark.parametrize("by", ["person", "us"])
    async def test_alone_is_no_opt_in(self, world: World, by: str) -> None:
        person = await world.contact(ADA)
        segment = await world.segment()
        await world.sync(segment)
        if by == "person":
            await world.person(ADA, "unsubscribe")
        else:
            await world.opt(person, "out")
            await world.orders()
        await world.sync(segment)
        await self.by_a_program(world)

        run = await world.sync(segment)

        assert await world.planned(run) == {ADA: ("unsubscribe", "resubscribed_by_others")}
        assert await world.status(ADA) == "unsubscribed"
        assert (await consent(world, person))[0] == "opted_out"

    async def test_nor_beside_a_form_of_long_ago(self, world: World) -> None:
        await world.person(ADA, "subscribe_form")
        person = await world.contact(ADA)
        segment = await world.segment()
        await world.sync(segment)
        await world.wait()
        await world.opt(person, "out")
        await world.orders()
        await world.sync(segment)

        def still_of_the_form(found: dict[str, Any]) -> None:
            if found.get("source", "").startswith("API"):
                found["source"] = "Hosted Signup Form"

        rewrite_answers(world.resources.http, still_of_the_form)
        await self.by_a_program(world)

        run = await world.sync(segment)

        assert await world.planned(run) == {ADA: ("unsubscribe", "resubscribed_by_others")}
        assert await consent(world, person) == ("opted_out", "console")


@pytest.mark.parametrize("told", [ADMIN, ""])
async def test_ours_is_ours_though_its_answer_was_lost(
    world: World, configure: Configure, told: str
) -> None:
    reasons(world, told, of=ADMIN)
    person = await world.contact(ADA)
    await world.contact("stays@acme.example")
    segment = await world.segment(onLeave="unsubscribe")
    await world.sync(segment)
    await world.wait()
    await world.change(person, department="Elsewhere")
    lists = rf"/lists/{world.list_id}$"
    await world.sandbox.fault("reset_after", method="POST", path=lists, times=1)
    await world.sync(segment)
    await world.wait(days=8)
    await world.sync(segment)

    assert await world.status(ADA) == "unsubscribed"
    assert await known(world) == ("us", "left")
    assert await consent(world, person) == ("opted_in", "console")
