"""Opt-ins that reach Mailchimp by themselves, beside whatever run is under way."""

from __future__ import annotations

import asyncio
from typing import Any
from uuid import UUID

from mcsync.features.sync import opt_ins
from tests.features.sync.world import World

ADA = "ada@acme.example"
BOB = "bob@acme.example"


async def runs(world: World) -> list[Any]:
    """The immediate runs, in order."""
    return list(await world.sql("select * from sync_runs where immediate order by id"))


async def waiting(world: World) -> int:
    """How many opt-ins are still on their way."""
    rows = await world.sql(
        "select 1 from audience_orders where status = 'open' and kind = 'opt_in'"
    )
    return len(list(rows))


async def synced(world: World, **given: Any) -> UUID:
    """A segment that has had its first run."""
    await world.contact(BOB)
    segment = await world.segment(**given)
    await world.sync(segment)
    await world.live()  # what Bob's own opt-in asked for
    return segment


class TestAnOptIn:
    async def test_subscribes_without_a_run_of_the_segment(self, world: World) -> None:
        segment = await synced(world)
        ada = await world.contact(ADA, opted=None)
        await world.opt(ada, "in")

        await world.live()

        assert await world.status(ADA) == "subscribed"
        (run,) = await runs(world)
        assert (run.status, run.trigger, run.done) == ("succeeded", "opt_in", 1)
        assert await waiting(world) == 0
        await world.nothing_left(segment)

    async def test_is_owned_and_tagged_like_any_other_member(self, world: World) -> None:
        segment = await synced(world)
        ada = await world.contact(ADA)
        await world.live()

        await world.leave(ada)
        run = await world.sync(segment)

        assert run.counts.archive == 1
        assert await world.status(ADA) == "archived"

    async def test_does_not_wait_for_a_run_that_is_under_way(self, world: World) -> None:
        await synced(world)
        await world.sql("update sync_runs set status = 'pushing', lease_until = now() + '1 hour'")
        await world.contact(ADA)

        await world.live()

        assert await world.status(ADA) == "subscribed"

    async def test_leaves_a_segment_that_has_never_synced_to_its_first_run(
        self, world: World
    ) -> None:
        await world.segment()
        await world.contact(ADA)

        assert await world.live() == 2  # one look for each audience

        assert await world.status(ADA) == "absent"
        assert await runs(world) == []
        assert await waiting(world) == 0

    async def test_of_nobody_in_a_segment_changes_nothing(self, world: World) -> None:
        await synced(world)
        since = await world.sandbox.seq()
        await world.contact(ADA, department="Nowhere")

        await world.live()

        assert await world.writes(since) == []
        assert await waiting(world) == 0

    async def test_asks_for_confirmation_where_the_segment_does(self, world: World) -> None:
        await synced(world, optIn="double")
        await world.contact(ADA)

        await world.live()

        assert await world.status(ADA) == "pending"


class TestWhoUnsubscribed:
    async def test_in_person_is_asked_to_confirm(self, world: World) -> None:
        segment = await synced(world)
        ada = await world.contact(ADA)
        await world.live()
        await world.person(ADA, "unsubscribe")
        await world.sync(segment)
        await world.wait()
        await world.opt(ada, "in")

        await world.live()

        assert await world.status(ADA) == "pending"

    async def test_a_minute_ago_is_found_out_before_anything_is_sent(self, world: World) -> None:
        await synced(world)
        ada = await world.contact(ADA)
        await world.live()
        await world.opt(ada, "in")
        await world.wait()
        await world.person(ADA, "unsubscribe")
        since = await world.sandbox.seq()

        await world.live()

        assert await world.writes(since) == []
        assert await world.status(ADA) == "unsubscribed"

    async def test_and_is_withdrawn_here_again_is_decided_after_that_reached_mailchimp(
        self, world: World
    ) -> None:
        await synced(world)
        ada = await world.contact(ADA)
        await world.live()
        await world.opt(ada, "out")
        await world.wait()
        await world.opt(ada, "in")

        await world.live()
        assert await waiting(world) == 2  # in both audiences
        await world.orders()
        await world.live()

        assert await waiting(world) == 0
        assert await world.status(ADA) == "subscribed"


class TestTrouble:
    async def test_mailchimp_away_is_tried_again(self, world: World) -> None:
        await synced(world)
        await world.contact(ADA)
        await world.sandbox.fault("502", method="GET", path="/members/", times=3)

        await world.live()
        assert await waiting(world) == 1
        await world.sql("update audience_orders set next_attempt_at = now()")
        await world.live()

        assert await world.status(ADA) == "subscribed"

    async def test_a_worker_that_dies_before_it_sends_leaves_a_run_to_take_over(
        self, world: World
    ) -> None:
        await synced(world)
        await world.contact(ADA)
        for row in await world.sql("select id from audiences"):
            # from the second look on: the run is committed, and handed over at its first check
            await opt_ins.carry_out(
                world.resources, world.org.id, row.id, owner="dead", stopping=_SecondLook()
            )
        (run,) = await runs(world)
        assert run.status == "pushing"

        await world.work(run.id)

        assert await world.status(ADA) == "subscribed"


class _SecondLook(asyncio.Event):
    """Set from the second look on."""

    looks = 0

    def is_set(self) -> bool:
        self.looks += 1
        return self.looks > 1
