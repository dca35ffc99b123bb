"""The night: sources are pulled before the sync, which waits for them, but never for ever."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest

from mcsync.core.jobs import ring_due
from mcsync.core.resources import Resources
from mcsync.features.sources import dispatch as sources
from mcsync.features.sources import jobs, pulls, service
from mcsync.features.sync import dispatch as sync
from mcsync.features.sync import runs
from tests.features.sources.world import World
from tests.support.organisations import Org

EVENING = datetime(2026, 11, 22, 22, tzinfo=UTC)
MORNING = datetime(2026, 11, 23, 5, 0, 1, tzinfo=UTC)

pytestmark = pytest.mark.parametrize("home", ["sqlite_home"], indirect=True)
SetClock = Callable[[datetime], None]


@pytest.fixture
def at(resources: Resources) -> SetClock:
    def turn(moment: datetime) -> None:
        resources.clock = lambda: moment

    return turn


async def connect(world: World) -> UUID:
    """A connection and a segment, as far as the schedule looks at them."""
    ids = [uuid4() for _ in range(3)]
    org, run = world.org.id, world.onlooker.execute
    await run(
        "insert into mailchimp_connections (id, org_id, account_id, account_name, data_centre,"
        " key_last4, key_fingerprint, connected_at, verified_at)"
        " values ($1, $2, 'acc', 'A', 'us1', '0000', '', now(), now())",
        ids[0], org,
    )  # fmt: skip
    await run(
        "insert into audiences (id, org_id, account_id, list_id, name)"
        " values ($1, $2, 'acc', 'l', 'L')",
        ids[1], org,
    )  # fmt: skip
    await run(
        "insert into contact_segments (id, org_id, audience_id, name, segment_type)"
        " values ($1, $2, $3, 'S', 'mixed')",
        ids[2], org, ids[1],
    )  # fmt: skip
    return ids[2]


async def night(world: World) -> None:
    """What each worker does every twenty seconds."""
    await sync.schedule(world.resources, sources.before_sync)
    await sources.schedule(world.resources)


async def waits(world: World) -> list[bool]:
    """For each run, whether it has to wait."""
    rows = await world.onlooker.fetch("select next_attempt_at, created_at from sync_runs")
    return [row["next_attempt_at"] > row["created_at"] + timedelta(minutes=1) for row in rows]


def worker(world: World) -> dict[str, Any]:
    return {
        "resources": world.resources, "stopping": asyncio.Event(), "worker_id": "w",
        "pulling": jobs.Pulling(pulled=sync.release_waiting),
    }  # fmt: skip


async def test_the_sync_waits_for_the_pulls_and_no_longer(world: World, at: SetClock) -> None:
    await connect(world)
    await world.people([1, 2])
    await world.source()
    await world.source(name="second")
    at(EVENING)
    await night(world)
    assert await world.onlooker.fetchval("select count(*) from source_pulls") == 0
    at(datetime.now(UTC) + timedelta(days=1))
    await asyncio.gather(night(world), night(world))
    await night(world)
    asked = await world.onlooker.fetch("select id, trigger from source_pulls order by id")
    assert [row["trigger"] for row in asked] == ["schedule", "schedule"]
    assert await waits(world) == [True]

    context = worker(world)
    await jobs.source_pull(context, str(world.org.id), str(asked[0]["id"]))
    assert await waits(world) == [True]
    await jobs.source_pull(context, str(world.org.id), str(asked[1]["id"]))
    assert await world.contacts() == ["1", "2"]
    due = await world.onlooker.fetchval(
        "select next_attempt_at <= clock_timestamp() from sync_runs"
    )
    assert due is True
    assert await world.onlooker.fetchval(
        "select count(*) from audit_entries where action = 'sources.pull'"
    ) == 2  # fmt: skip


async def test_a_source_that_hangs_holds_nobody_for_longer_than_set(
    world: World, at: SetClock
) -> None:
    await connect(world)
    await world.people([1])
    await world.source()
    at(EVENING)
    await night(world)
    morning = datetime.now(UTC) + timedelta(days=1)
    at(morning)
    await night(world)
    until = await world.onlooker.fetchval("select next_attempt_at from sync_runs")
    minutes = world.resources.settings.source_wait_minutes
    assert until == morning + timedelta(minutes=minutes)


async def test_without_sources_nothing_waits(world: World, at: SetClock) -> None:
    await connect(world)
    at(EVENING)
    await night(world)
    at(MORNING)
    await night(world)
    assert await waits(world) == [False]


async def test_a_source_that_fails_lets_the_sync_go(world: World, at: SetClock) -> None:
    await connect(world)
    await world.people([1])
    await world.source()
    await world.onlooker.execute("update sources set query = 'select 1 as nothing'")
    at(EVENING)
    await night(world)
    at(datetime.now(UTC) + timedelta(days=1))
    await night(world)
    assert await waits(world) == [True]
    pull = await world.onlooker.fetchval("select id from source_pulls")
    await jobs.source_pull(worker(world), str(world.org.id), str(pull))
    assert (await world.source_row())["status"] == "error"
    assert await world.onlooker.fetchval(
        "select next_attempt_at <= clock_timestamp() from sync_runs"
    )


async def test_somebody_who_asks_for_a_sync_does_not_wait(world: World, at: SetClock) -> None:
    segment = await connect(world)
    await world.people([1])
    await world.source()
    at(EVENING)
    await night(world)
    at(datetime.now(UTC) + timedelta(days=1))
    await night(world)
    audience = await world.onlooker.fetchval("select id from audiences")
    async with world.resources.db.transaction(world.org.id) as session:
        _, new = await runs.create(
            session, segment_id=segment, audience_id=audience, trigger="manual"
        )
    assert not new
    assert await waits(world) == [False]


async def test_organisations_without_mailchimp_are_pulled_too(world: World, at: SetClock) -> None:
    await world.people([1])
    await world.source()
    at(EVENING)
    await night(world)
    at(MORNING)
    await night(world)
    assert await world.onlooker.fetchval("select count(*) from source_pulls") == 1


async def test_due_pulls_are_found_by_ids_only_and_rung_for(
    world: World, other_organisation: Org
) -> None:
    await world.people([1])
    await world.source()
    async with world.resources.db.transaction(world.org.id) as session:
        source = (await service.find(world.resources, world.actor, "hr")).id
        pull_id, _ = await pulls.create(
            session, source, trigger="request", wish=pulls.Wish(), request_id=None
        )
    assert await ring_due(world.resources.db, world.resources.jobs, *sources.DUE) == 1
    found = await world.resources.redis.keys("arq:job:source-pull:*")
    assert [key.decode().rpartition(":")[0] for key in found] == [
        f"arq:job:source-pull:{pull_id}:0"
    ]
    async with world.resources.db.transaction(other_organisation.id) as session:
        assert await pulls.claim(session, pull_id, owner="x", lease_seconds=9) is None
        assert not await pulls.any_live(session)
