"""A row of a page that nobody can read is nobody's absence (MC 21)."""

from __future__ import annotations

from typing import Any

import pytest

from mcsync.features.sync import execute, service
from tests.features.sync.world import World, counted
from tests.support.rewriting import rewrite_answers

ADA = "ada@acme.example"
BEN = "ben@acme.example"


def spoil(world: World, **values: Any) -> list[int]:
    """Rows of pages that show Ada get odd values; answers how many did."""
    spoilt: list[int] = []

    def change(found: dict[str, Any]) -> None:
        for each in found.get("members", []):
            if each.get("email_address") == ADA:
                each.update(values)
                spoilt.append(1)

    rewrite_answers(world.resources.http, change, path="/members")
    return spoilt


async def statuses(world: World) -> dict[str, str]:
    rows = await world.sql("select email, status from audience_members where email is not null")
    return {row.email: row.status for row in rows}


@pytest.mark.parametrize(
    "values",
    [{"status": None}, {"status": []}, {"status": 7}, {"email_address": None}, {"status": ""}],
)
async def test_a_member_whose_row_cannot_be_read_is_not_taken_for_gone(
    world: World, values: dict[str, Any]
) -> None:
    await world.contact(ADA)
    await world.contact(BEN)
    segment = await world.segment()
    await world.sync(segment)
    await world.wait(days=8)  # a full pull
    spoilt = spoil(world, **values)
    since = await world.sandbox.seq()

    run = await world.sync(segment)

    assert spoilt
    assert counted(run) == {}
    assert await world.writes(since) == []
    assert await statuses(world) == {ADA: "subscribed", BEN: "subscribed"}


async def test_one_in_a_state_that_is_not_known_is_left_alone(world: World) -> None:
    await world.contact(ADA)
    segment = await world.segment()
    await world.sync(segment)
    spoil(world, status="snoozed")
    await world.person(ADA, "update_profile", merge_fields={"FNAME": "A"})
    since = await world.sandbox.seq()

    await world.sync(segment)

    assert await world.writes(since) == []
    assert await statuses(world) == {ADA: "snoozed"}


@pytest.mark.parametrize("value", [None, {}, "", 7])
async def test_pages_without_their_members_do_not_empty_the_mirror(
    world: World, value: Any
) -> None:
    await world.contact(ADA)
    segment = await world.segment()
    await world.sync(segment)
    await world.wait(days=8)

    def change(found: dict[str, Any]) -> None:
        if "members" in found and "total_items" in found and found["members"]:
            found["members"] = value

    rewrite_answers(world.resources.http, change, path="/members")
    since = await world.sandbox.seq()

    run = await service.start(world.resources, world.actor, segment, dry_run=False)
    await execute.work_on(
        world.resources, world.org.id, run.id, owner="test", stopping=world.stopping
    )

    assert await world.writes(since) == []
    assert await statuses(world) == {ADA: "subscribed"}


@pytest.mark.parametrize(
    "values",
    [
        {"merge_fields": None, "interests": [], "tags": None, "source": 7, "contact_id": {}},
        {"last_changed": None, "timestamp_opt": "", "timestamp_signup": "soon", "source": "\x00a"},
        {"last_changed": "2999-01-01T00:00:00+00:00"},
        {"timestamp_opt": "0000-00-00 00:00:00", "ip_opt": None, "web_id": "x"},
    ],
)
async def test_an_odd_value_beside_address_and_status_changes_nothing(
    world: World, values: dict[str, Any]
) -> None:
    await world.contact(ADA)
    await world.contact(BEN)
    segment = await world.segment()
    await world.sync(segment)
    spoilt = spoil(world, **values)
    await world.person(ADA, "update_profile", merge_fields={"FNAME": "A"})
    await world.wait(days=8)
    await world.sync(segment)
    assert spoilt
    assert await statuses(world) == {ADA: "subscribed", BEN: "subscribed"}
    await world.person(BEN, "unsubscribe")

    await world.sync(segment)

    assert await statuses(world) == {ADA: "subscribed", BEN: "unsubscribed"}
