"""The guard (``sync.md`` 4): what is held, and only that; what approval lets go."""

from __future__ import annotations

from typing import Any

import pytest

from mcsync.core.errors import ConflictError
from mcsync.features.segments import service as segments
from mcsync.features.sync import service
from tests.features.sync.world import World, counted


class TestRemovals:
    async def test_a_faulty_filter_waits_for_approval_and_all_else_is_pushed(
        self, world: World
    ) -> None:
        await world.crowd(40)
        await world.contact("stays@acme.example", location="Osaka")
        segment = await world.segment()
        await world.sync(segment)
        await world.contact("new@acme.example", location="Osaka")
        await world.opt("C0", "out")
        await world.update_segment(
            segment, filters={"department": ["Sales"], "location": ["Osaka"]}
        )

        run = await world.sync(segment)

        assert run.status == "awaiting_approval", run
        assert (run.held, run.counts.archive, run.counts.add) == (39, 39, 1)
        assert [(h.kind, h.count, h.limit) for h in run.holds] == [("removals", 39, 25)]
        assert await world.statuses() == {"subscribed": 41, "unsubscribed": 1}
        member = await world.member("c1@acme.example")
        assert member is not None
        assert member["tags"] == ["mcsync: Sales"]
        view = await segments.get(world.resources, world.actor, segment)
        assert (view.status, view.status_code) == ("error", "approval_needed")

    async def test_up_to_the_limit_nobody_is_asked(self, world: World) -> None:
        await world.crowd(30)
        segment = await world.segment()
        await world.sync(segment)
        await world.crowd(25, department="Elsewhere")

        run = await world.sync(segment)

        assert run.status == "succeeded", run
        assert await world.statuses() == {"subscribed": 5, "archived": 25}

    async def test_counts_over_a_day_and_all_runs_of_the_audience(self, world: World) -> None:
        await world.crowd(30)
        await world.crowd(30, start=30, department="Support")
        sales = await world.segment()
        support = await world.segment("Support", filters={"department": ["Support"]})
        await world.sync(sales)
        await world.sync(support)
        await world.crowd(20, department="Elsewhere")
        assert (await world.sync(sales)).status == "succeeded"
        await world.crowd(10, start=30, department="Elsewhere")

        run = await world.sync(support)

        assert run.status == "awaiting_approval"
        assert run.held == 10
        await world.wait(days=1.1)
        run = await world.sync(support)
        assert run.status == "succeeded", run
        assert await world.statuses() == {"subscribed": 30, "archived": 30}

    async def test_withdrawals_are_never_held(self, world: World) -> None:
        await world.crowd(30)
        await world.contact("stays@acme.example")
        segment = await world.segment()
        await world.sync(segment)
        await world.crowd(30, optStatus="opted_out")

        run = await world.sync(segment)

        assert run.status == "succeeded"
        assert counted(run) == {"unsubscribe": 30, "done": 30}
        assert await world.statuses() == {"subscribed": 1, "unsubscribed": 30}

    async def test_a_source_that_matches_nothing_is_held_however_small(self, world: World) -> None:
        await world.crowd(2)
        segment = await world.segment()
        await world.sync(segment)
        await world.crowd(2, department="sales")

        run = await world.sync(segment)

        assert run.status == "awaiting_approval"
        assert [h.kind for h in run.holds] == ["source_empty"]
        assert await world.statuses() == {"subscribed": 2}

    async def test_a_deleted_segment_whose_members_leave_is_guarded_too(self, world: World) -> None:
        await world.crowd(30)
        segment = await world.segment()
        await world.sync(segment)

        run = await world.delete_segment(segment, leave=True)

        assert run is not None
        assert run.status == "awaiting_approval"
        assert await world.statuses() == {"subscribed": 30}
        run = await world.approve(run.id)
        assert run.status == "succeeded"
        assert await world.statuses() == {"archived": 30}


class TestAdditions:
    @pytest.fixture
    def more_settings(self, more_settings: dict[str, Any]) -> dict[str, Any]:
        return more_settings | {"guard_additions_min": 5}

    async def test_the_first_run_may_add_as_many_as_it_likes_later_ones_may_not(
        self, world: World
    ) -> None:
        await world.crowd(20)
        segment = await world.segment()
        run = await world.sync(segment)
        assert run.status == "succeeded"
        await world.crowd(11, start=20)
        await world.upsert("C0", email="c0@acme.example", firstName="Zoe")

        run = await world.sync(segment)

        assert run.status == "awaiting_approval"
        assert [(h.kind, h.count, h.limit) for h in run.holds] == [("additions", 11, 10)]
        assert await world.statuses() == {"subscribed": 20}
        member = await world.member("c0@acme.example")
        assert member is not None
        assert member["mergeFields"]["FNAME"] == "Zoe"
        run = await world.approve(run.id)
        assert run.status == "succeeded"
        assert await world.statuses() == {"subscribed": 31}
        await world.nothing_left(segment)


class TestWaiting:
    async def waiting(self, world: World) -> tuple[Any, Any]:
        """A run that waits with 30 archives."""
        await world.crowd(30)
        await world.contact("stays@acme.example")
        segment = await world.segment()
        await world.sync(segment)
        await world.crowd(30, department="Elsewhere")
        run = await world.sync(segment)
        assert run.status == "awaiting_approval"
        return segment, run

    async def test_approved_it_pulls_again_and_does_what_still_holds(self, world: World) -> None:
        segment, run = await self.waiting(world)
        await world.upsert("C0", email="c0@acme.example", department="Sales")
        await world.person("c1@acme.example", "unsubscribe")
        await world.admin("c2@acme.example", "archive")

        run = await world.approve(run.id)

        assert run.status == "succeeded"
        states = [c.state for c in await world.changes(run, action="archive")]
        assert (states.count("done"), states.count("obsolete")) == (27, 3)
        assert await world.status("c0@acme.example") == "subscribed"
        assert await world.status("c1@acme.example") == "unsubscribed"
        again = await world.sync(segment)
        assert again.status == "succeeded"
        await world.nothing_left(segment)

    async def test_the_next_run_ends_it_as_superseded(self, world: World) -> None:
        segment, run = await self.waiting(world)
        await world.crowd(20, department="Sales")

        again = await world.sync(segment)

        assert again.status == "succeeded"
        old = await service.get(world.resources, world.actor, run.id)
        assert old.status == "cancelled"
        assert old.error is not None
        assert old.error.code == "superseded"
        with pytest.raises(ConflictError):
            await service.approve(world.resources, world.actor, run.id)

    async def test_cancelled_it_does_nothing(self, world: World) -> None:
        segment, run = await self.waiting(world)

        await service.cancel(world.resources, world.actor, run.id)

        assert await world.statuses() == {"subscribed": 31}
        view = await segments.get(world.resources, world.actor, segment)
        assert view.status_code is None
        run = await world.sync(segment)
        assert run.status == "awaiting_approval"

    async def test_an_approval_counts_against_the_day(self, world: World) -> None:
        segment, run = await self.waiting(world)
        await world.approve(run.id)
        await world.crowd(3, start=40)
        await world.sync(segment)
        await world.crowd(1, start=40, department="Elsewhere")

        run = await world.sync(segment)

        assert run.status == "awaiting_approval"
        assert run.held == 1
