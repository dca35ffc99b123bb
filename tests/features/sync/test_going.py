"""What ends with a segment, a connection or a key: nothing is sent for what is not there any more."""

from __future__ import annotations

import asyncio
from typing import Any
from uuid import UUID

import pytest
from sqlalchemy import text

from mcsync.core.errors import ConflictError
from mcsync.features.connection import service as connection
from mcsync.features.segments import service as segments
from mcsync.features.sync import execute, service
from mcsync.features.sync.schemas import RunView
from mcsync.mailchimp import BatchResult, MailchimpClient
from tests.features.sync.conftest import Between
from tests.features.sync.world import World, counted

ADA = "ada@acme.example"


async def status(world: World, segment: UUID) -> tuple[str, str | None]:
    """What the segment shows."""
    view = await segments.get(world.resources, world.actor, segment)
    return view.status, view.status_code


async def last_leave(world: World) -> UUID:
    """The last run that lets members leave."""
    found = await world.sql("select id from sync_runs where leave order by id desc limit 1")
    run_id: UUID = found[0].id
    return run_id


async def read(world: World, run: RunView) -> RunView:
    return await service.get(world.resources, world.actor, run.id)


async def go(world: World, segment: UUID, how: str) -> None:
    """The segment is deleted, or goes to the other audience."""
    if how == "deleted":
        await world.delete_segment(segment)
    else:
        await world.update_segment(segment, audienceId=world.other_list_id)


@pytest.fixture
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Workers look after every step whether somebody decided otherwise."""
    monkeypatch.setattr(execute, "_LOOK_SECONDS", 0.0)


@pytest.mark.parametrize("how", ["deleted", "moved"])
class TestASegmentThatGoes:
    async def test_takes_its_queued_run_along(self, world: World, how: str) -> None:
        await world.contact(ADA)
        segment = await world.segment()
        run = await service.start(world.resources, world.actor, segment, dry_run=False)

        await go(world, segment, how)
        run = await world.work(run.id)

        assert run.status == "cancelled"
        assert run.error is not None
        assert run.error.code == "segment_gone"
        assert await world.status(ADA) == "absent"

    async def test_takes_along_what_waits_for_approval(self, world: World, how: str) -> None:
        await world.contact(ADA)
        segment = await world.segment()
        await world.sync(segment)
        await world.crowd(600)
        run = await world.sync(segment)
        assert run.status == "awaiting_approval"

        await go(world, segment, how)

        assert (await read(world, run)).status == "cancelled"
        with pytest.raises(ConflictError):
            await world.approve(run.id)
        assert await world.statuses() == {"subscribed": 1}

    async def test_ends_its_run_under_way(
        self, world: World, how: str, before_push: Between
    ) -> None:
        await world.contact(ADA)
        segment = await world.segment()
        before_push(lambda: go(world, segment, how))

        run = await world.sync(segment)

        assert run.status == "cancelled"
        assert await world.status(ADA) == "absent"
        if how == "moved":
            assert await status(world, segment) == ("pending", None)

    async def test_a_run_made_at_the_same_moment_does_nothing(self, world: World, how: str) -> None:
        await world.contact(ADA)
        segment = await world.segment()
        audience = (await world.sql("select audience_id as id from contact_segments"))[0].id
        await go(world, segment, how)
        made = await world.sql(
            """insert into sync_runs (org_id, segment_id, audience_id, trigger)
               values (:org, :segment, :audience, 'manual') returning id""",
            org=world.org.id, segment=segment, audience=audience,
        )  # fmt: skip

        run = await world.work(made[0].id)

        assert run.status == "cancelled"
        assert await world.status(ADA) == "absent"


class TestMembersWhoLeaveWithTheirSegment:
    async def test_a_run_in_the_new_audience_does_not_supersede_their_leaving(
        self, world: World
    ) -> None:
        await world.crowd(300)
        segment = await world.segment()
        await world.sync(segment)
        await world.update_segment(segment, audienceId=world.other_list_id, leave=True)
        leave = await world.work(await last_leave(world))
        assert leave.status == "awaiting_approval"

        run = await world.sync(segment)

        assert counted(run) == {"add": 300, "done": 300}
        assert (await read(world, leave)).status == "awaiting_approval"
        assert (await world.approve(leave.id)).status == "succeeded"
        assert await world.statuses() == {"archived": 300}
        assert await world.statuses(world.other_list_id) == {"subscribed": 300}

    async def test_they_stay_where_the_segment_comes_back(self, world: World) -> None:
        await world.crowd(300)
        segment = await world.segment()
        await world.sync(segment)
        await world.update_segment(segment, audienceId=world.other_list_id, leave=True)
        leave = await world.work(await last_leave(world))

        await world.update_segment(segment, audienceId=world.list_id)

        assert (await read(world, leave)).status == "cancelled"
        await world.sync(segment)
        assert await world.statuses() == {"subscribed": 300}

    async def test_those_of_a_call_without_an_answer_leave_too(
        self, world: World, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        await world.contact(ADA)
        await world.contact("bob@acme.example")
        segment = await world.segment()
        sent = asyncio.Event()
        send = MailchimpClient.batch_subscribe

        async def never_answered(
            self: MailchimpClient, list_id: str, members: Any, **given: Any
        ) -> BatchResult:
            await send(self, list_id, members, **given)
            sent.set()
            await asyncio.Event().wait()
            raise AssertionError

        monkeypatch.setattr(MailchimpClient, "batch_subscribe", never_answered)
        run = await service.start(world.resources, world.actor, segment, dry_run=False)
        working = asyncio.create_task(
            execute.work_on(
                world.resources, world.org.id, run.id, owner="one", stopping=world.stopping
            )
        )
        await sent.wait()

        deleting = asyncio.create_task(world.delete_segment(segment, leave=True))
        await working
        monkeypatch.undo()
        await world.wait(130)  # until then Mailchimp may still be working on the call
        leave = await deleting

        assert leave is not None
        assert leave.status == "succeeded", leave
        assert await world.statuses() == {"archived": 2}


class TestWhatWaitedIsGone:
    async def test_a_segment_whose_held_run_is_cancelled_shows_what_it_was(
        self, world: World
    ) -> None:
        await world.contact(ADA)
        segment = await world.segment()
        await world.sync(segment)
        await world.crowd(600)
        run = await world.sync(segment)
        assert await status(world, segment) == ("error", "approval_needed")

        await service.cancel(world.resources, world.actor, run.id)

        assert await status(world, segment) == ("synced", None)

    async def test_a_cancelled_run_that_superseded_one_leaves_nothing_to_approve(
        self, world: World
    ) -> None:
        await world.contact(ADA)
        segment = await world.segment()
        await world.sync(segment)
        await world.crowd(600)
        await world.sync(segment)
        run = await service.start(world.resources, world.actor, segment, dry_run=False)

        await service.cancel(world.resources, world.actor, run.id)

        assert await status(world, segment) == ("synced", None)


@pytest.mark.usefixtures("at_once")
class TestARunUnderWay:
    async def test_stops_where_the_account_is_disconnected(
        self, world: World, before_push: Between
    ) -> None:
        await world.contact(ADA)
        segment = await world.segment()

        async def disconnect() -> None:
            await connection.disconnect(world.resources, world.actor)

        before_push(disconnect)
        run = await world.sync(segment)

        assert run.status == "failed"
        assert run.error is not None
        assert run.error.code == "not_connected"
        assert await world.status(ADA) == "absent"

    async def test_goes_on_with_the_new_key(
        self, world: World, before_push: Between, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        await world.contact(ADA)
        segment = await world.segment()
        # until it looks, the old key is used, and refused
        monkeypatch.setattr(execute, "_LOOK_SECONDS", 60.0)

        async def replace() -> None:
            await world.sql("update mailchimp_connections set key_fingerprint = 'another'")
            await world.sandbox.fault("401", method="POST", times=1)

        before_push(replace)
        run = await world.sync(segment)

        assert run.status == "succeeded", run
        live = await connection.get(world.resources, world.actor)
        assert live is not None
        assert live.status == "connected"

    async def test_follows_a_segment_that_changes(self, world: World, before_push: Between) -> None:
        await world.contact(ADA)
        await world.contact("bob@acme.example", department="Support")
        segment = await world.segment(filters={"department": ["Sales", "Support"]})

        async def narrow() -> None:
            await world.update_segment(segment, filters={"department": ["Sales"]})

        before_push(narrow)
        run = await world.sync(segment)

        assert run.status == "succeeded", run
        assert await world.statuses() == {"subscribed": 1}
        await world.nothing_left(segment)

    async def test_ends_where_it_is_cancelled(self, world: World, before_push: Between) -> None:
        await world.contact(ADA)
        segment = await world.segment()

        async def cancel() -> None:
            async with world.resources.db.transaction(world.org.id) as session:
                found = await session.execute(
                    text("select id from sync_runs order by id desc limit 1")
                )
                run_id = found.scalar_one()
            await service.cancel(world.resources, world.actor, run_id)

        before_push(cancel)
        run = await world.sync(segment)

        assert run.status == "cancelled"
        assert await world.status(ADA) == "absent"
