"""A member that is said to have left gets nothing until it was read; what reduces is not held back."""

from __future__ import annotations

from typing import Any

import pytest

from tests.features.sync.world import World

ADA = "ada@acme.example"


async def hold(world: World, minutes: int = 15) -> None:
    await world.sql(
        "update audience_members set hold_until = now() + make_interval(mins => :m)", m=minutes
    )


@pytest.fixture
async def person(world: World) -> str:
    return await world.contact(ADA)


class TestHeld:
    async def test_an_update_waits(self, world: World, person: str) -> None:
        segment = await world.segment()
        await world.sync(segment)
        await world.change(person, first_name="Augusta")
        await hold(world)
        run = await world.sync(segment)
        assert run.skipped_by_reason == {"awaiting_read": 1}
        assert (await world.planned(run)) == {}

        await world.sql("update audience_members set hold_until = null")
        run = await world.sync(segment)
        assert await world.planned(run) == {ADA: ("update", "fields")}

    async def test_and_goes_on_by_itself_when_the_hold_is_over(
        self, world: World, person: str
    ) -> None:
        segment = await world.segment()
        await world.sync(segment)
        await world.change(person, first_name="Augusta")
        await hold(world)
        await world.sync(segment)
        await world.wait(16 * 60)
        run = await world.sync(segment)
        assert await world.planned(run) == {ADA: ("update", "fields")}

    async def test_a_return_waits(self, world: World, person: str) -> None:
        segment = await world.segment()
        await world.sync(segment)
        await world.opt(person, "out")
        await world.orders()
        await world.wait()
        await world.opt(person, "in")
        await hold(world)
        run = await world.sync(segment)
        assert await world.planned(run) == {}
        assert run.skipped_by_reason == {"awaiting_read": 1}
        assert await world.status(ADA) == "unsubscribed"

    async def test_a_rename_waits(self, world: World, person: str) -> None:
        segment = await world.segment()
        await world.sync(segment)
        await hold(world)
        await world.move(person, "ada@new.example")
        run = await world.sync(segment)
        assert "ada@new.example" not in await world.planned(run)
        assert run.skipped_by_reason == {"awaiting_read": 1}
        await world.sql("update audience_members set hold_until = null")
        run = await world.sync(segment)
        assert await world.planned(run) == {"ada@new.example": ("rename", "address_changed")}

    async def test_nothing_to_do_is_still_nothing(self, world: World, person: str) -> None:
        segment = await world.segment()
        await world.sync(segment)
        await hold(world)
        run = await world.sync(segment)
        assert (run.skipped_by_reason, await world.planned(run)) == ({}, {})

    async def test_a_withdrawal_does_not_wait(self, world: World, person: str) -> None:
        segment = await world.segment()
        await world.sync(segment)
        await hold(world)
        await world.opt(person, "out")
        await world.orders()
        assert await world.status(ADA) == "unsubscribed"

    @pytest.mark.parametrize("rule", ["archive", "unsubscribe"])
    async def test_nor_does_who_left(self, world: World, person: str, rule: Any) -> None:
        await world.contact("bob@acme.example")
        segment = await world.segment(onLeave=rule)
        await world.sync(segment)
        await hold(world)
        await world.change(person, department="Finance")
        await world.sync(segment)
        assert await world.status(ADA) in {"archived", "unsubscribed"}

    async def test_a_taken_call_drops_who_is_held_since(
        self, world: World, person: str, before_push: Any
    ) -> None:
        segment = await world.segment()
        await world.sync(segment)
        await world.change(person, first_name="Augusta")

        async def event() -> None:
            await hold(world)

        before_push(event)
        since = await world.sandbox.seq()
        await world.sync(segment)
        assert await world.writes(since) == []

    async def test_an_opt_in_waits_for_the_read_and_then_goes_on(
        self, world: World, person: str
    ) -> None:
        segment = await world.segment()
        await world.sync(segment)
        await world.opt(person, "out")
        await world.orders()
        await hold(world)
        await world.wait()
        await world.opt(person, "in")
        await world.live()
        assert await world.status(ADA) == "unsubscribed"

        await world.sql("update audience_members set hold_until = null")
        await world.live()
        assert await world.status(ADA) == "subscribed"
