"""What mcsync promises above all: who left stays away, and who was not ours is left alone."""

from __future__ import annotations

from tests.features.sync.world import World, counted

ADA = "ada@acme.example"
BOB = "bob@acme.example"


class TestWhoUnsubscribedStaysUnsubscribed:
    async def test_after_ten_runs_a_new_import_and_the_segment_made_again(
        self, world: World
    ) -> None:
        await world.contact(BOB)
        await world.upsert("E9", email=ADA, department="Sales", optStatus="opted_in")
        segment = await world.segment()
        await world.sync(segment)
        await world.person(ADA, "unsubscribe")
        since = await world.sandbox.seq()

        for _ in range(10):
            await world.wait(3600)
            run = await world.sync(segment)
            assert run.status == "succeeded"
            assert counted(run) == {}
        await world.upsert(
            "E9", email=ADA, department="Sales", firstName="Ada", optStatus="opted_in"
        )
        await world.upsert("E10", email=ADA, department="Sales", optStatus="opted_in")
        await world.sync(segment)
        await world.delete("E9")
        await world.sync(segment)
        await world.upsert("E9", email=ADA, department="Sales", optStatus="opted_in")
        await world.sync(segment)
        await world.delete_segment(segment)
        for basis in ("consent", "legitimate_interest"):
            again = await world.segment(legalBasis=basis)
            await world.sync(again)
            await world.wait(days=8)
            await world.sync(again)
            await world.nothing_left(again)
            await world.delete_segment(again)

        assert await world.status(ADA) == "unsubscribed"
        assert [
            h["origin"] for h in await world.sandbox.history(email=ADA, since=since)
            if h["kind"] != "tags"
        ] == []  # fmt: skip

    async def test_however_the_segment_treats_those_who_leave(self, world: World) -> None:
        await world.contact(BOB)
        person = await world.contact(ADA)
        segment = await world.segment(onLeave="archive")
        await world.sync(segment)
        await world.person(ADA, "unsubscribe")
        await world.sync(segment)
        await world.delete(person)
        await world.sync(segment)
        await world.upsert(person, email=ADA, department="Sales")

        await world.sync(segment)

        assert await world.status(ADA) == "unsubscribed"


class TestTwoSegmentsOnOneAudience:
    async def test_leaving_one_keeps_the_member_leaving_both_ends_only_ours(
        self, world: World
    ) -> None:
        await world.contact("stays@acme.example", location="Berlin")
        await world.admin(BOB, "subscribe")
        ours = await world.contact(ADA, location="Berlin")
        foreign = await world.contact(BOB, location="Berlin")
        sales = await world.segment("Sales")
        berlin = await world.segment("Berlin", filters={"location": ["Berlin"]})
        for segment in (sales, berlin):
            await world.sync(segment)
        for person in (ours, foreign):
            await world.change(person, department="Elsewhere")
        for segment in (sales, berlin):
            await world.sync(segment)
        for email in (ADA, BOB):
            member = await world.member(email)
            assert member is not None
            assert (member["status"], member["tags"]) == ("subscribed", ["mcsync: Berlin"])

        for person in (ours, foreign):
            await world.change(person, location="Osaka")
        for segment in (sales, berlin):
            await world.sync(segment)

        assert await world.status(ADA) == "archived"
        member = await world.member(BOB)
        assert member is not None
        assert (member["status"], member["tags"]) == ("subscribed", [])


class TestAMessyNeighbourhood:
    async def test_two_contacts_who_swap_addresses_keep_their_consents(self, world: World) -> None:
        ada = await world.contact(ADA)
        bob = await world.contact(BOB)
        segment = await world.segment()
        await world.sync(segment)
        await world.opt(ada, "out")
        await world.orders()
        await world.upsert(ada, email="x@acme.example")
        await world.upsert(bob, email=ADA)
        await world.upsert(ada, email=BOB)

        run = await world.sync(segment)

        # one address was withdrawn, the other is held by somebody who withdrew
        assert run.status == "succeeded"
        assert await world.statuses() == {"unsubscribed": 2}
        await world.nothing_left(segment)
