"""Without a public URL: changes come home at the next pull between runs."""

from __future__ import annotations

from typing import Any
from uuid import UUID

import pytest
from sqlalchemy import text

from mcsync.features.connection import service as connection
from mcsync.features.webhooks import dispatch, polling
from tests.features.sync.world import World

ADA = "ada@acme.example"


@pytest.fixture
def public() -> None:
    """No webhook can reach us."""


async def due(world: World) -> list[UUID]:
    async with world.resources.db.system() as session:
        rows = await session.execute(text("select * from mcsync_due_audience_pulls(100)"))
        return [row.audience_id for row in rows]


async def audience(world: World) -> UUID:
    (row,) = await world.sql("select id from audiences where list_id = :l", l=world.list_id)
    return UUID(str(row.id))


async def poll(world: World) -> bool:
    return await polling.pull_audience(world.resources, world.org.id, await audience(world))


async def later(world: World) -> None:
    """The interval is over."""
    await world.sql("update audience_pulls set next_pull_at = now() - interval '3 hours'")


async def status(world: World, entity: str) -> Any:
    (row,) = await world.sql(
        "select status, source from email_preferences where entity_id = :e", e=entity
    )
    return row.status, row.source


class TestPolling:
    async def test_an_unsubscribe_is_known_at_the_next_poll(self, world: World) -> None:
        person = await world.contact(ADA)
        await world.sync(await world.segment())
        assert await dispatch.ring_checks(world.resources) == 1
        assert not await poll(world), "the run has just pulled"
        await world.person(ADA, "unsubscribe")
        assert await due(world) == []
        await later(world)
        assert await due(world) == [await audience(world)]

        assert await poll(world)

        assert await status(world, person) == ("opted_out", "mailchimp")
        assert await due(world) == []
        assert not await poll(world), "not twice"
        (row,) = await world.sql("select next_pull_at - now() as wait from audience_pulls")
        assert 890 < row.wait.total_seconds() <= 900

    async def test_no_webhook_is_registered(self, world: World) -> None:
        await world.sync(await world.segment())
        await dispatch.ring_checks(world.resources)
        assert [h for h in await world.sandbox.webhooks() if h["listId"] == world.list_id] == []

    async def test_an_audience_that_no_segment_uses_is_left_alone(self, world: World) -> None:
        segment = await world.segment()
        assert len(await due(world)) == 1
        await world.delete_segment(segment)
        assert await due(world) == []

    async def test_nor_is_one_of_a_disconnected_account(self, world: World) -> None:
        await world.segment()
        await connection.disconnect(world.resources, world.actor)
        assert await due(world) == []

    async def test_a_run_pulls_by_itself(self, world: World) -> None:
        segment = await world.segment()
        await world.sync(segment)
        await poll(world)
        await later(world)
        await world.sql("update sync_runs set status = 'pushing', finished_at = null")
        assert await due(world) == []
        assert not await poll(world)

    async def test_a_full_pull_is_left_to_a_run(self, world: World) -> None:
        await world.segment()
        await poll(world)
        await later(world)
        since = await world.sandbox.seq()
        assert not await poll(world)
        assert await world.sandbox.calls(since=since) == []

    async def test_trouble_is_tried_again_soon(self, world: World) -> None:
        person = await world.contact(ADA)
        await world.sync(await world.segment())
        await poll(world)
        await later(world)
        await world.person(ADA, "unsubscribe")
        await world.sandbox.revoke(world.api_key)
        assert not await poll(world)
        (row,) = await world.sql("select last_error from audience_pulls")
        assert row.last_error == "mailchimp_key_refused"
        assert await status(world, person) == ("opted_in", "console")

    async def test_a_dead_workers_pull_is_taken_over(self, world: World) -> None:
        await world.sync(await world.segment())
        await poll(world)
        await later(world)
        await world.sql("update audience_pulls set lease_until = now() + interval '1 minute'")
        assert not await poll(world)
        await world.sql("update audience_pulls set lease_until = now() - interval '1 second'")
        assert await poll(world)

    async def test_it_can_be_switched_off(self, world: World) -> None:
        await world.segment()
        world.resources.settings = world.resources.settings.model_copy(
            update={"audience_pull_minutes": 0}
        )
        assert await dispatch.ring_checks(world.resources) == 0

    async def test_a_reconnect_meanwhile_is_not_forgotten(self, world: World) -> None:
        await world.sync(await world.segment())
        await poll(world)
        await later(world)
        await world.sql("update audiences set high_water = null")
        assert not await poll(world)
        (row,) = await world.sql(
            "select high_water from audiences where list_id = :l", l=world.list_id
        )
        assert row.high_water is None
