"""The tag follows its segment's name, whoever held that name before."""

from __future__ import annotations

import pytest

from tests.features.sync.world import World

ADA = "ada@acme.example"
BOB = "bob@acme.example"


async def tags(world: World, email: str) -> list[str]:
    """The member's tags at Mailchimp."""
    member = await world.member(email)
    assert member is not None
    return sorted(member["tags"])


@pytest.fixture
async def people(world: World) -> None:
    """One of Sales, one of Support."""
    await world.contact(ADA)
    await world.contact(BOB, department="Support")


@pytest.mark.usefixtures("people")
class TestARenamedSegment:
    async def test_takes_the_name_of_one_that_was_deleted(self, world: World) -> None:
        gone = await world.segment("Sales")
        support = await world.segment("Support", filters={"department": ["Support"]})
        await world.sync(gone)
        await world.sync(support)
        await world.delete_segment(gone)
        await world.update_segment(support, name="Sales")

        run = await world.sync(support)

        assert run.status == "succeeded", run
        assert await tags(world, BOB) == ["mcsync: Sales"]
        assert [t.partition(" (former")[0] for t in await tags(world, ADA)] == ["mcsync: Sales"]
        assert await tags(world, ADA) != await tags(world, BOB)

    async def test_changes_names_with_another(self, world: World) -> None:
        sales = await world.segment("Sales")
        support = await world.segment("Support", filters={"department": ["Support"]})
        await world.sync(sales)
        await world.sync(support)
        await world.update_segment(sales, name="In between")
        await world.update_segment(support, name="Sales")
        await world.update_segment(sales, name="Support")

        for segment in (sales, support):
            run = await world.sync(segment)
            assert run.status == "succeeded", run

        assert await tags(world, ADA) == ["mcsync: Support"]
        assert await tags(world, BOB) == ["mcsync: Sales"]

    async def test_is_refused_the_name_of_a_tag_that_is_not_ours(self, world: World) -> None:
        sales = await world.segment("Sales")
        await world.sync(sales)
        await world.make_tag("mcsync: Field force")
        await world.update_segment(sales, name="Field force")

        run = await world.sync(sales)

        assert run.error is not None
        assert run.error.code == "tag_taken"
        assert await tags(world, ADA) == ["mcsync: Sales"]

    async def test_of_the_longest_name_makes_way_too(self, world: World) -> None:
        name = "S" * 80
        gone = await world.segment(name)
        await world.sync(gone)
        await world.delete_segment(gone)

        run = await world.sync(await world.segment(name))

        assert run.status == "succeeded", run
        assert f"mcsync: {name}" in await tags(world, ADA)
