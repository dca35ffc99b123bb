"""What is forgotten after a while, and what needs to be found all the same."""

from __future__ import annotations

import asyncpg

from mcsync.features.sync import housekeeping
from tests.features.erasure.acts import Acts
from tests.features.sync.world import World

ADA, BOB, EVE = "ada@acme.example", "bob@acme.example", "eve@acme.example"


async def kept(world: World) -> list[tuple[str, str]]:
    """(address, status) of the withdrawals that there are."""
    rows = await world.sql(
        "select email, status from audience_orders where kind = 'withdrawal' order by email"
    )
    return [(row.email, row.status) for row in rows]


class TestOrders:
    async def test_that_were_closed_long_ago_are_forgotten_with_their_address(
        self, world: World
    ) -> None:
        people = [await world.contact(email) for email in (ADA, BOB, EVE)]
        await world.sync(await world.segment())
        for person in people[:2]:
            await world.opt(person, "out")
        await world.orders()
        await world.opt(people[2], "out")
        for email, days in ((ADA, 31), (BOB, 29), (EVE, 90)):
            await world.sql(
                """update audience_orders set created_at = created_at - make_interval(days => :days),
                       closed_at = closed_at - make_interval(days => :days) where email = :email""",
                email=email, days=days,
            )  # fmt: skip

        await housekeeping.tidy(world.resources)

        # one that is open has work to do, however old it is
        assert set(await kept(world)) == {(BOB, "closed"), (EVE, "open")}

    async def test_leave_what_an_erasure_has_to_find(
        self, world: World, onlooker: asyncpg.Connection
    ) -> None:
        """Also in the audiences of an account that is no longer connected."""
        person = await world.contact(ADA)
        await world.sync(await world.segment())
        await world.opt(person, "out")
        await world.orders()
        await world.sql("update audience_orders set closed_at = closed_at - interval '31 days'")
        await housekeeping.tidy(world.resources)
        assert await kept(world) == []
        await world.sql("update audiences set account_id = 'before'")

        asked = await Acts(world, onlooker).ask(email=ADA)

        assert (world.list_id, "before") in {(t.audience_id, t.account_id) for t in asked.targets}
