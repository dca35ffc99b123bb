"""A call that brings somebody back, and whose answer is lost, is not simply repeated."""

from __future__ import annotations

import asyncio
from typing import Any
from uuid import UUID

import pytest

from mcsync.features.sync import execute, service
from mcsync.mailchimp import BatchResult, MailchimpClient, TransientError
from tests.features.sync.world import World, counted

ADA = "ada@acme.example"


@pytest.fixture
async def coming_back(world: World) -> UUID:
    """A segment that somebody left, was unsubscribed for it, and comes back to."""
    person = await world.contact(ADA)
    await world.contact("stays@acme.example")
    segment = await world.segment(onLeave="unsubscribe")
    await world.sync(segment)
    await world.change(person, department="Elsewhere")
    await world.sync(segment)
    assert await world.status(ADA) == "unsubscribed"
    await world.wait()
    await world.change(person, department="Sales")
    return segment


async def test_who_left_before_the_repetition_is_not_brought_back(
    world: World, coming_back: UUID, monkeypatch: pytest.MonkeyPatch
) -> None:
    send = MailchimpClient.batch_subscribe
    sent: list[int] = []

    async def lose_the_first(
        self: MailchimpClient, list_id: str, members: Any, **given: Any
    ) -> BatchResult:
        answer = await send(self, list_id, members, **given)
        sent.append(1)
        if len(sent) == 1:
            await world.person(ADA, "unsubscribe")
            raise TransientError("gateway time-out", status=504, outcome_unknown=True)
        return answer

    monkeypatch.setattr(MailchimpClient, "batch_subscribe", lose_the_first)
    run = await world.sync(coming_back)

    assert run.status == "succeeded", run
    assert await world.status(ADA) == "unsubscribed"
    assert (await world.sync(coming_back)).skipped_by_reason == {"opted_out": 1}
    await world.nothing_left(coming_back)


async def test_nor_is_who_left_while_no_worker_was_there(
    world: World, coming_back: UUID, monkeypatch: pytest.MonkeyPatch
) -> None:
    send = MailchimpClient.batch_subscribe
    sent = asyncio.Event()

    async def never_answered(
        self: MailchimpClient, list_id: str, members: Any, **given: Any
    ) -> BatchResult:
        await send(self, list_id, members, **given)
        sent.set()
        await asyncio.Event().wait()
        raise AssertionError

    monkeypatch.setattr(MailchimpClient, "batch_subscribe", never_answered)
    run = await service.start(world.resources, world.actor, coming_back, dry_run=False)
    working = asyncio.create_task(
        execute.work_on(world.resources, world.org.id, run.id, owner="one", stopping=world.stopping)
    )
    await sent.wait()
    working.cancel()
    await asyncio.gather(working, return_exceptions=True)
    monkeypatch.undo()
    await world.person(ADA, "unsubscribe")

    run = await world.work(run.id)

    assert run.status == "succeeded", run
    assert await world.status(ADA) == "unsubscribed"


async def test_who_is_a_member_is_settled_by_that(world: World, coming_back: UUID) -> None:
    await world.sandbox.fault("504_after", method="POST", path=f"^/lists/{world.list_id}$")

    run = await world.sync(coming_back)

    assert run.status == "succeeded", run
    assert counted(run) == {"resubscribe": 1, "done": 1}
    assert await world.status(ADA) == "subscribed"
    await world.sync(coming_back)
    await world.nothing_left(coming_back)


async def test_a_call_that_did_nothing_is_repeated(world: World, coming_back: UUID) -> None:
    await world.sandbox.fault("502_html", method="POST", path=f"^/lists/{world.list_id}$")

    run = await world.sync(coming_back)

    assert counted(run) == {"resubscribe": 1, "done": 1}
    assert await world.status(ADA) == "subscribed"
    await world.nothing_left(coming_back)
