"""The proof of consent goes to Mailchimp with the row that subscribes, and with no other."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from mcsync.features.preferences import service as preferences
from tests.features.sync.conftest import Between
from tests.features.sync.world import World, counted

ADA = "ada@acme.example"
GIVEN = datetime(2026, 3, 14, 9, 26, 53, tzinfo=UTC)
CALLER = "127.0.0.1"
"""What Mailchimp stores of a row that names no network address: the caller's own (MC 21)."""


async def opt_in(world: World, entity_id: str, at: datetime | None, **proof: Any) -> None:
    async with world.resources.db.transaction(world.org.id) as session:
        await preferences.record(
            session, world.actor, entity_type="employee", entity_id=entity_id, status="opted_in",
            effective_at=at, source="form", proof=proof, jobs=None,
        )  # fmt: skip


async def proof(world: World, email: str = ADA) -> tuple[str, str]:
    member = await world.member(email)
    assert member is not None
    return member["timestampOpt"], member["ipOpt"]


async def test_an_added_member_carries_when_and_whence_the_opt_in_came(world: World) -> None:
    person = await world.contact(ADA, opted=None)
    await opt_in(world, person, GIVEN, ipAddress="2001:db8::7", form="/newsletter")
    segment = await world.segment()

    run = await world.sync(segment)

    assert counted(run) == {"add": 1, "done": 1}
    assert await proof(world) == ("2026-03-14T09:26:53+00:00", "2001:db8::7")
    await world.nothing_left(segment)


async def test_without_a_network_address_the_time_alone(world: World) -> None:
    person = await world.contact(ADA, opted=None)
    await opt_in(world, person, GIVEN)
    await world.sync(await world.segment())
    assert await proof(world) == ("2026-03-14T09:26:53+00:00", CALLER)


async def test_an_update_carries_none(world: World) -> None:
    person = await world.contact(ADA, opted=None)
    await opt_in(world, person, GIVEN, ipAddress="192.0.2.1")
    segment = await world.segment()
    await world.sync(segment)
    await opt_in(world, person, GIVEN + timedelta(days=9), ipAddress="192.0.2.9")

    run = await world.sync(segment)
    assert counted(run) == {}, "a newer proof alone is no reason to send anything"
    await world.change(person, first_name="Augusta")
    run = await world.sync(segment)

    assert counted(run) == {"update": 1, "done": 1}
    assert await proof(world) == ("2026-03-14T09:26:53+00:00", "192.0.2.1")


async def test_an_opt_in_that_an_import_only_assumed_is_no_proof(world: World) -> None:
    await world.upsert("E9", email=ADA, department="Sales", optStatus="opted_in")
    before = world.now() - timedelta(seconds=5)
    await world.sync(await world.segment())
    opted, ip = await proof(world)
    assert datetime.fromisoformat(opted) > before
    assert ip == CALLER


async def test_an_import_that_says_when_is_one(world: World) -> None:
    await world.upsert(
        "E9", email=ADA, department="Sales", optStatus="opted_in", consentGivenAt=GIVEN.isoformat()
    )
    await world.sync(await world.segment())
    assert (await proof(world))[0] == "2026-03-14T09:26:53+00:00"


async def test_no_proof_where_mailchimp_asks_the_person(world: World) -> None:
    person = await world.contact(ADA, opted=None)
    await opt_in(world, person, GIVEN, ipAddress="192.0.2.1")
    await world.sync(await world.segment(optIn="double"))
    assert await world.status(ADA) == "pending"
    assert await proof(world) == ("", "")


async def test_legitimate_interest_sends_no_proof_of_what_nobody_gave(world: World) -> None:
    await world.contact(ADA, opted=None)
    await world.sync(await world.segment(legalBasis="legitimate_interest"))
    assert datetime.fromisoformat((await proof(world))[0]).year == world.now().year
    assert (await proof(world))[1] == CALLER


async def test_who_comes_back_comes_with_the_newer_opt_in(world: World) -> None:
    person = await world.contact(ADA, opted=None)
    await opt_in(world, person, GIVEN)
    segment = await world.segment()
    await world.sync(segment)
    await world.wait(60)
    await world.opt(person, "out")
    await world.sync(segment)
    await world.wait(60)
    again = world.now().replace(microsecond=0)
    await opt_in(world, person, again, ipAddress="192.0.2.4")

    run = await world.sync(segment)

    assert counted(run) == {"resubscribe": 1, "done": 1}
    assert await proof(world) == (again.isoformat(), "192.0.2.4")


async def test_of_several_with_one_address_the_latest_opt_in_speaks(world: World) -> None:
    first, second = (
        await world.contact(ADA, opted=None), await world.contact(ADA, opted=None)
    )  # fmt: skip
    await opt_in(world, first, GIVEN, ipAddress="192.0.2.1")
    await opt_in(world, second, GIVEN + timedelta(days=2), ipAddress="192.0.2.2")
    await world.change(first, first_name="Ada")  # changed last: feeds the fields
    await world.sync(await world.segment())
    assert await proof(world) == ("2026-03-16T09:26:53+00:00", "192.0.2.2")


@pytest.mark.parametrize("kind", ["504_after", "reset_after"])
async def test_a_lost_answer_still_leaves_the_member_ours(world: World, kind: str) -> None:
    person = await world.contact(ADA, opted=None)
    await opt_in(world, person, GIVEN)
    segment = await world.segment()
    await world.sandbox.fault(kind, method="POST", path=f"^/lists/{world.list_id}$", times=2)

    run = await world.sync(segment)

    assert run.status == "succeeded"
    (row,) = await world.sql("select owned, timestamp_opt from audience_members")
    assert row.owned is True
    assert row.timestamp_opt == GIVEN


async def test_a_member_whom_others_added_meanwhile_is_not_ours(
    world: World, before_push: Between
) -> None:
    person = await world.contact(ADA, opted=None)
    await opt_in(world, person, GIVEN)
    segment = await world.segment()

    async def signs_up() -> None:
        await world.person(ADA, "subscribe_form")

    before_push(signs_up)
    await world.sync(segment)

    (row,) = await world.sql("select owned from audience_members")
    assert row.owned is False
