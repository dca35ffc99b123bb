"""Somebody who withdrew asks to come back: no run takes the question back while they think about it."""

from __future__ import annotations

from mcsync.features.subscribers import service as subscribers
from mcsync.features.subscribers.schemas import SubscribeInput, UnsubscribeInput
from tests.features.sync.world import World

ADA = "ada@acme.example"


async def ask(world: World) -> None:
    """A request to be subscribed, as an operator or a form post makes it."""
    await subscribers.subscribe(
        world.resources,
        world.actor,
        SubscribeInput.model_validate({"audienceId": world.list_id, "email": ADA}),
    )


async def withdraw(world: World) -> None:
    await subscribers.unsubscribe(
        world.resources,
        world.actor,
        UnsubscribeInput.model_validate({"audienceId": world.list_id, "email": ADA}),
    )
    await world.orders()


async def test_a_run_leaves_who_is_asked_to_confirm_and_subscribes_nobody_else(
    world: World,
) -> None:
    await world.contact(ADA)
    segment = await world.segment()
    await world.sync(segment)
    await world.wait()
    await withdraw(world)
    assert await world.status(ADA) == "unsubscribed"
    await world.wait()
    await ask(world)
    await world.wait()

    await world.sync(segment)
    await world.sync(segment)

    assert await world.status(ADA) == "pending"

    await world.person(ADA, "confirm")
    await world.sync(segment)

    assert await world.status(ADA) == "subscribed"
    (row,) = await world.sql("select status, source from email_preferences")
    assert (row.status, row.source) == ("opted_in", "mailchimp")
    await world.nothing_left(segment)


async def test_a_withdrawal_after_the_request_has_the_last_word(world: World) -> None:
    await world.contact(ADA)
    segment = await world.segment()
    await world.sync(segment)
    await world.wait()
    await withdraw(world)
    await world.wait()
    await ask(world)
    await world.wait()

    await withdraw(world)

    assert await world.status(ADA) == "unsubscribed"
    await world.sync(segment)
    assert await world.status(ADA) == "unsubscribed"


async def test_a_member_that_was_asked_here_is_nobodys_to_archive(world: World) -> None:
    ada = await world.contact(ADA, opted=None)
    segment = await world.segment()
    await world.sync(segment)
    await ask(world)
    await world.person(ADA, "confirm")
    await world.sync(segment)
    assert await world.status(ADA) == "subscribed"

    await world.change(ada, department="Elsewhere")
    run = await world.sync(segment)

    assert run.counts.archive == 0
    assert await world.status(ADA) == "subscribed"
