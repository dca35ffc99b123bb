"""A leaver whose address is blank leaves the audience: a blank never keeps older data in force."""

from __future__ import annotations

import pytest

from tests.features.sync.world import World, counted

ADA = "ada@acme.example"


@pytest.fixture(autouse=True)
async def _bystander(world: World) -> None:
    await world.contact("stays@acme.example", location="Berlin")


@pytest.mark.parametrize(
    ("on_leave", "status"),
    [("archive", "archived"), ("unsubscribe", "unsubscribed"), ("keep", "subscribed")],
)
async def test_the_member_leaves_as_the_segment_says(
    world: World, on_leave: str, status: str
) -> None:
    person = await world.contact(ADA)
    segment = await world.segment(onLeave=on_leave)
    await world.sync(segment)
    await world.upsert(person, email="", employmentStatus="terminated")

    await world.sync(segment)

    assert await world.status(ADA) == status
    member = await world.member(ADA)
    assert member is not None
    assert member["tags"] == []
    await world.nothing_left(segment)


async def test_the_address_again_adds_the_member_again(world: World) -> None:
    person = await world.contact(ADA)
    segment = await world.segment()
    await world.sync(segment)
    await world.upsert(person, email=None)
    await world.sync(segment)
    assert await world.status(ADA) == "archived"
    await world.upsert(person, email=ADA)
    run = await world.sync(segment)
    assert counted(run)["done"] == 1
    assert await world.status(ADA) == "subscribed"


async def test_a_withdrawal_with_a_blank_address_is_of_the_address_before(world: World) -> None:
    person = await world.contact(ADA)
    segment = await world.segment(onLeave="keep")
    await world.sync(segment)

    await world.upsert(person, email="", optStatus="opted_out")
    await world.orders()

    assert await world.status(ADA) == "unsubscribed"
    # and whoever is imported with it later meets the withdrawal
    await world.upsert("another", email=ADA, department="Sales", optStatus="opted_in")
    await world.sync(segment)
    assert await world.status(ADA) == "unsubscribed"


async def test_a_broken_row_unsubscribes_the_member(world: World) -> None:
    await world.contact(ADA)
    segment = await world.segment()
    await world.sync(segment)

    await world.upsert("", refused=True, email=ADA, optStatus="unsubscribed")
    await world.orders()

    assert await world.status(ADA) == "unsubscribed"
