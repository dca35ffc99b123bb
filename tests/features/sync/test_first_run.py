"""The ordinary life of a segment."""

from __future__ import annotations

from tests.features.sync.world import World


class TestFirstRun:
    async def test_adds_who_opted_in_with_fields_and_tag_and_then_has_nothing_to_do(
        self, world: World
    ) -> None:
        for number in range(3):
            await world.contact(f"in{number}@acme.test")
        await world.contact("unset@acme.test", opted=None)
        await world.contact("out@acme.test", opted="out")
        segment = await world.segment()

        run = await world.sync(segment)

        assert run.status == "succeeded", run
        assert run.counts.add == 3
        assert run.counts.done == 3
        assert run.skipped_by_reason == {"not_opted_in": 1, "opted_out": 1}
        member = await world.member("in1@acme.test")
        assert member is not None
        assert member["status"] == "subscribed"
        assert member["tags"] == ["mcsync: Sales"]
        assert member["mergeFields"]["FNAME"] == "First2"
        assert await world.status("unset@acme.test") == "absent"
        assert await world.status("out@acme.test") == "absent"

        for _ in range(2):
            since = await world.sandbox.seq()
            again = await world.sync(segment)
            assert again.status == "succeeded", again
            assert again.counts.unchanged == 3
            assert again.skipped_by_reason == run.skipped_by_reason
            assert await world.writes(since) == []
        await world.nothing_left(segment)
