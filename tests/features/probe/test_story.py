"""A small sync story under every position of every switch: it ends as wanted, and mails nobody against their will."""

from __future__ import annotations

import pytest

from mcsync.features.connection import capabilities
from mcsync.features.connection import service as connection
from tests.features.probe.positions import POSITIONS, Position, position
from tests.features.sync.conftest import Configure
from tests.features.sync.world import World

ANN, BOB, CAT, DAN, EVE = (f"{name}@story.test" for name in ("ann", "bob", "cat", "dan", "eve"))
MAILED = {"subscribed", "pending"}

UNASKED = [
    # told by the sandbox itself in its default position, once
    *(p for p in POSITIONS if not p.default or p.question == "plain_listing"),
]
ASKED = [
    p
    for p in POSITIONS
    if not p.default
    and p.question
    in {"rows_without_status", "bulk_tags", "bulk_resubscribe", "plain_listing", "tag_change"}
]


async def ask(world: World, question: str, answer: str) -> None:
    """As if ``mcsync probe`` had been told this."""
    async with world.resources.db.transaction(world.org.id) as session:
        live = await connection.require_live(session)
        await capabilities.record(
            session, world.actor, live.account_id, {question: answer}, at=world.resources.clock()
        )


async def story(world: World) -> None:
    """Added, updated, opted out, left, unsubscribed by their own hand, come back."""
    names = {e: e.partition("@")[0] for e in (ANN, BOB, CAT, DAN, EVE)}
    ids = {e: await world.contact(e, first_name=name) for e, name in names.items()}
    segment = await world.segment()
    await world.sync(segment)
    assert await world.statuses() == {"subscribed": 5}
    await world.sandbox.admin(world.list_id, ANN, "tag", tag="VIP")

    await world.wait(2)
    await world.change(ids[ANN], first_name="Anna")
    await world.opt(ids[BOB], "out")
    await world.opt(ids[EVE], "out")
    await world.leave(ids[CAT])
    await world.sandbox.person(world.list_id, DAN, "unsubscribe")
    left_at = await world.sandbox.seq()
    await world.sync(segment)
    ann = await world.member(ANN)
    assert ann
    assert ann["mergeFields"]["FNAME"] == "Anna"
    assert "mcsync: Sales" in ann["tags"]
    assert [await world.status(e) for e in (ANN, BOB, CAT, DAN, EVE)] == [
        "subscribed", "unsubscribed", "archived", "unsubscribed", "unsubscribed",
    ]  # fmt: skip

    await world.wait(2)
    await world.opt(ids[EVE], "in")
    await world.change(ids[CAT], deleted_at=None)
    for email in (BOB, DAN):
        await world.change(ids[email], first_name="Still out")
    await world.sync(segment)
    await world.wait(2)
    await world.sync(segment)
    assert [await world.status(e) for e in (ANN, BOB, CAT, DAN)] == [
        "subscribed", "unsubscribed", "subscribed", "unsubscribed",
    ]  # fmt: skip
    for email in (BOB, DAN):
        after = await world.sandbox.history(email=email, list_id=world.list_id, since=left_at)
        assert MAILED.isdisjoint(change["to_status"] for change in after), after


class TestUnasked:
    @pytest.mark.parametrize("position", UNASKED, ids=str)
    async def test_the_story_ends_well(
        self, world: World, configure: Configure, position: Position
    ) -> None:
        await configure(**position.settings)
        await story(world)
        eve = await world.status(EVE)
        if position.question == "bulk_resubscribe":
            assert eve == "unsubscribed"  # nobody asked the account: it keeps Eve away, silently
        else:
            assert eve == "subscribed"


class TestAsked:
    @pytest.mark.parametrize("position", ASKED, ids=str)
    async def test_the_story_ends_well(
        self, world: World, configure: Configure, position: Position
    ) -> None:
        await configure(**position.settings)
        await ask(world, position.question, position.answer)
        await story(world)
        assert await world.status(EVE) == "subscribed"
        ann = await world.member(ANN)
        assert ann
        assert sorted(ann["tags"]) == ["VIP", "mcsync: Sales"]


class TestWhatTheNextSyncDoes:
    """Something else than before the account was asked."""

    async def test_rows_carry_a_status_at_once(self, world: World, configure: Configure) -> None:
        await configure(**position("rows_without_status", "whole_call_refused").settings)
        await ask(world, "rows_without_status", "whole_call_refused")
        await world.contact(ANN)
        since = await world.sandbox.seq()
        await world.sync(await world.segment())
        assert await world.status(ANN) == "subscribed"
        calls = await world.sandbox.calls(since=since, write=True)
        assert {call["status"] for call in calls} == {200}

    async def test_an_account_that_takes_rows_without_it_gets_them(self, world: World) -> None:
        await world.contact(ANN)
        segment = await world.segment()
        await world.sql("update audiences set requires_status = true")
        await ask(world, "rows_without_status", "accepted")
        found = await world.sql("select distinct requires_status from audiences")
        assert [row.requires_status for row in found] == [False]
        await world.sync(segment)
        since = await world.sandbox.seq()
        await world.change("E000001", first_name="Anna")
        await world.sync(segment)
        assert "PATCH" not in {c.split()[0] for c in await world.writes(since)}

    @pytest.mark.parametrize("asked", [False, True])
    async def test_tags_of_others_are_kept(
        self, world: World, configure: Configure, asked: bool
    ) -> None:
        await configure(bulkTags="replaced")
        if asked:
            await ask(world, "bulk_tags", "replaced")
        entity = await world.contact(ANN)
        segment = await world.segment()
        await world.sync(segment)
        await world.sandbox.admin(world.list_id, ANN, "tag", tag="VIP")
        await world.change(entity, first_name="Anna")
        await world.sync(segment)
        ann = await world.member(ANN)
        assert ann
        assert ("VIP" in ann["tags"]) == asked
        assert "mcsync: Sales" in ann["tags"]

    @pytest.mark.parametrize(("asked", "ends"), [(False, "unsubscribed"), (True, "subscribed")])
    async def test_who_opts_in_again_comes_back(
        self, world: World, configure: Configure, asked: bool, ends: str
    ) -> None:
        await configure(bulkResubscribeIgnored=True)
        if asked:
            await ask(world, "bulk_resubscribe", "ignored")
        entity = await world.contact(ANN)
        segment = await world.segment()
        await world.sync(segment)
        await world.wait(2)
        await world.opt(entity, "out")
        await world.sync(segment)
        await world.wait(2)
        await world.opt(entity, "in")
        await world.sync(segment)
        ann = await world.member(ANN)
        assert ann
        assert ann["status"] == ends
        assert "mcsync: Sales" in ann["tags"]

    async def test_a_lost_answer_brings_nobody_back_twice(
        self, world: World, configure: Configure
    ) -> None:
        """The single call arrived, its answer did not, and staff unsubscribed the member in between."""
        await configure(bulkResubscribeIgnored=True)
        await ask(world, "bulk_resubscribe", "ignored")
        entity = await world.contact(ANN)
        segment = await world.segment()
        await world.sync(segment)
        await world.wait(2)
        await world.opt(entity, "out")
        await world.sync(segment)
        await world.wait(2)
        await world.opt(entity, "in")
        await world.sandbox.fault("504_after", method="PATCH")
        since = await world.sandbox.seq()
        await world.sync(segment)
        assert await world.status(ANN) == "subscribed"
        patches = [c for c in await world.writes(since) if c.startswith("PATCH")]
        assert len(patches) == 1

    @pytest.mark.parametrize("asked", [False, True])
    async def test_archived_members_are_read_once(
        self, world: World, configure: Configure, asked: bool
    ) -> None:
        await configure(archivedInDefaultListing=True)
        if asked:
            await ask(world, "plain_listing", "with_archived")
        await world.sandbox.seed(world.list_id, 2)
        await world.sandbox.admin(world.list_id, "member0@sandbox.test", "archive")
        since = await world.sandbox.seq()
        await world.sync(await world.segment())
        read = [
            call
            for call in await world.sandbox.calls(since=since)
            if call["method"] == "GET" and call["path"].endswith("/members")
        ]
        assert len(read) == (1 if asked else 2)
        found = await world.sql("select status from audience_members order by status")
        assert [row.status for row in found] == ["archived", "subscribed"]

    @pytest.mark.parametrize("answer", ["moves", "does_not_move"])
    async def test_a_tag_that_was_taken_off_comes_back(
        self, world: World, configure: Configure, answer: str
    ) -> None:
        await configure(**position("tag_change", answer).settings)
        await ask(world, "tag_change", answer)
        await world.contact(ANN)
        segment = await world.segment()
        await world.sync(segment)
        await world.wait(20)
        await world.sandbox.admin(world.list_id, ANN, "untag", tag="mcsync: Sales")
        await world.sync(segment)
        ann = await world.member(ANN)
        assert ann
        assert ann["tags"] == (["mcsync: Sales"] if answer == "moves" else [])
        await world.sql("update audiences set full_pull_at = null")
        await world.sync(segment)
        ann = await world.member(ANN)
        assert ann
        assert ann["tags"] == ["mcsync: Sales"]
