"""Marketing permissions: ticked for who opted in, once, never with a status, never for anybody else."""

from __future__ import annotations

from collections.abc import Sequence
from uuid import UUID

import pytest

from mcsync.features.audiences import marketing, service
from mcsync.features.audiences.schemas import AudienceView
from mcsync.features.sync import lanes, permissions
from tests.features.sync.conftest import Between
from tests.features.sync.world import World, counted

ADA = "ada@acme.example"
BEN = "ben@acme.example"
EMAIL, LETTERS = "Email", "Letters"
PATCH = "PATCH members/"


async def ask(world: World, *texts: str) -> dict[str, str]:
    """The owner switches the GDPR fields on; answers the ids by their texts, as audiences.get knows them."""
    ids = await world.sandbox.change_list(world.list_id, marketing_permissions=list(texts))
    await service.get(world.resources, world.actor, world.list_id, refresh=True)
    return {text: ident for ident, text in ids.items()}


async def feed(world: World, *ids: str) -> AudienceView:
    """The organisation maps them to consent."""
    return await marketing.set_marketing_permissions(
        world.resources, world.actor, world.list_id, dict.fromkeys(ids, "consent")
    )


async def ticks(world: World, email: str, of: dict[str, str]) -> list[str]:
    member = await world.member(email)
    assert member is not None
    held = member["marketingPermissions"]
    return [text for text, ident in of.items() if held.get(ident)]


async def patches(world: World, since: int) -> int:
    return sum(call.startswith(PATCH) for call in await world.writes(since))


async def synced(world: World, *emails: str, **segment: str) -> tuple[UUID, Sequence[str]]:
    people = [await world.contact(email) for email in emails]
    made = await world.segment(**segment)
    await world.sync(made)
    return made, people


async def test_an_opt_in_ticks_what_the_map_says_and_only_once(world: World) -> None:
    segment, _ = await synced(world, ADA, BEN)
    ids = await ask(world, EMAIL, LETTERS)
    await feed(world, ids[EMAIL])
    before = await world.sandbox.seq()

    run = await world.sync(segment)

    assert run.status == "succeeded"
    assert counted(run) == {}, "ticks are no changes of the plan"
    assert run.calls == 2
    assert await patches(world, before) == 2
    assert await ticks(world, ADA, ids) == [EMAIL]
    assert await world.statuses() == {"subscribed": 2}

    before = await world.sandbox.seq()
    run = await world.sync(segment)
    assert run.calls == 0
    assert await patches(world, before) == 0
    await world.sql("update contact_segments set planned_xid = null")
    assert (await world.sync(segment)).calls == 0


async def test_who_comes_later_is_ticked_in_the_run_that_adds_them(world: World) -> None:
    segment, _ = await synced(world, ADA)
    ids = await ask(world, EMAIL)
    await feed(world, ids[EMAIL])
    await world.sync(segment)
    await world.contact(BEN)
    before = await world.sandbox.seq()

    run = await world.sync(segment)

    assert counted(run) == {"add": 1, "done": 1}
    assert await patches(world, before) == 1
    assert await ticks(world, BEN, ids) == [EMAIL]


async def test_a_live_opt_in_is_ticked_at_once_and_nobody_else(world: World) -> None:
    segment, _ = await synced(world, ADA)
    ids = await ask(world, EMAIL)
    await feed(world, ids[EMAIL])
    await world.opt(await world.contact(BEN, opted=None), "in")
    await world.live()
    assert await ticks(world, BEN, ids) == [EMAIL]
    assert await ticks(world, ADA, ids) == [], "that is for the next sync"
    await world.sync(segment)
    assert await ticks(world, ADA, ids) == [EMAIL]


async def test_a_permission_that_is_not_in_the_map_is_never_touched(world: World) -> None:
    segment, _ = await synced(world, ADA)
    ids = await ask(world, EMAIL, LETTERS)
    await world.person(ADA, "update_profile", marketing_permissions={ids[LETTERS]: True})
    await feed(world, ids[EMAIL])
    await world.sync(segment)
    assert await ticks(world, ADA, ids) == [EMAIL, LETTERS]
    await feed(world)
    before = await world.sandbox.seq()
    await world.sync(segment)
    assert await patches(world, before) == 0
    assert await ticks(world, ADA, ids) == [EMAIL, LETTERS]


async def test_a_tick_that_the_person_takes_away_stays_away(world: World) -> None:
    segment, (ada,) = await synced(world, ADA)
    ids = await ask(world, EMAIL)
    await feed(world, ids[EMAIL])
    await world.sync(segment)
    await world.person(ADA, "update_profile", marketing_permissions={ids[EMAIL]: False})
    await world.change(ada, first_name="Augusta")
    await world.sync(segment)
    assert await ticks(world, ADA, ids) == []
    # ... until a newer opt-in brings them back
    await world.wait(60)
    await world.opt(ada, "out")
    await world.sync(segment)
    await world.wait(60)
    await world.opt(ada, "in")
    run = await world.sync(segment)
    assert counted(run) == {"resubscribe": 1, "done": 1}
    assert await ticks(world, ADA, ids) == [EMAIL]


async def test_legitimate_interest_ticks_nobody_who_did_not_opt_in(world: World) -> None:
    ada = await world.contact(ADA, opted=None)
    await world.contact(BEN)
    segment = await world.segment(legalBasis="legitimate_interest")
    await world.sync(segment)
    ids = await ask(world, EMAIL)
    await feed(world, ids[EMAIL])
    await world.sync(segment)
    assert await ticks(world, ADA, ids) == []
    assert await ticks(world, BEN, ids) == [EMAIL]

    await world.opt(ada, "in")
    run = await world.sync(segment)
    assert run.calls == 1, "an incremental plan's run finds who opted in since"
    assert await ticks(world, ADA, ids) == [EMAIL]


async def test_members_of_others_are_left_alone(world: World) -> None:
    segment, _ = await synced(world, ADA)
    await world.person(BEN, "subscribe_form")
    ids = await ask(world, EMAIL)
    await feed(world, ids[EMAIL])
    await world.sync(segment)
    assert await ticks(world, BEN, ids) == []


async def test_who_withdraws_between_plan_and_push_is_unsubscribed_and_not_ticked(
    world: World, before_push: Between
) -> None:
    segment, (ada, _) = await synced(world, ADA, BEN)
    ids = await ask(world, EMAIL)
    await feed(world, ids[EMAIL])
    await world.contact("new@acme.example")

    async def withdraws() -> None:
        await world.opt(ada, "out")

    before_push(withdraws)
    await world.sync(segment)
    await world.orders()

    assert await ticks(world, ADA, ids) == []
    assert await ticks(world, BEN, ids) == [EMAIL]
    assert await world.status(ADA) == "unsubscribed"


async def test_who_unsubscribed_at_mailchimp_a_moment_ago_stays_so(
    world: World, before_push: Between
) -> None:
    segment, (ada, _) = await synced(world, ADA, BEN)
    ids = await ask(world, EMAIL)
    await feed(world, ids[EMAIL])
    await world.contact("new@acme.example")

    async def leaves() -> None:
        await world.person(ADA, "unsubscribe")

    before_push(leaves)
    await world.sync(segment)

    assert await world.status(ADA) == "unsubscribed"
    found = await world.sql(
        "select status from email_preferences where entity_id = :entity", entity=ada
    )
    assert [row.status for row in found] == ["opted_out"], "the answer told of it"


async def test_of_a_larger_map_only_what_is_new_is_ticked(world: World) -> None:
    segment, _ = await synced(world, ADA, BEN)
    ids = await ask(world, EMAIL, LETTERS)
    await feed(world, ids[EMAIL])
    await world.sync(segment)
    await world.person(ADA, "update_profile", marketing_permissions={ids[EMAIL]: False})
    await feed(world, *ids.values())
    await world.sync(segment)
    assert await ticks(world, ADA, ids) == [LETTERS], "what the person took away stays away"
    assert await ticks(world, BEN, ids) == [EMAIL, LETTERS]
    before = await world.sandbox.seq()
    await feed(world, ids[EMAIL])
    await world.sync(segment)
    assert await patches(world, before) == 0, "a smaller map has nothing to send"


@pytest.mark.parametrize("kind", ["504_after", "504", "429_json", "reset_after"])
async def test_a_lost_answer_is_asked_again(world: World, kind: str) -> None:
    segment, _ = await synced(world, ADA, BEN)
    ids = await ask(world, EMAIL)
    await feed(world, ids[EMAIL])
    await world.sandbox.fault(kind, method="PATCH", times=2)
    run = await world.sync(segment)
    assert run.status == "succeeded"
    assert await ticks(world, ADA, ids) == await ticks(world, BEN, ids) == [EMAIL]
    left = await world.sql("select count(*) as n from audience_calls where state = 'taken'")
    assert left[0].n == 0


async def test_what_mailchimp_refuses_is_not_asked_again(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    segment, _ = await synced(world, ADA)
    ids = await ask(world, EMAIL)
    await feed(world, ids[EMAIL])
    carry_out = permissions.Ticking.carry_out

    async def replaced(ticking: permissions.Ticking) -> None:
        # at Mailchimp, after the run has read the permissions
        await world.sandbox.change_list(world.list_id, marketing_permissions=["Another"])
        await carry_out(ticking)

    with monkeypatch.context() as patch:
        patch.setattr(permissions.Ticking, "carry_out", replaced)
        run = await world.sync(segment)
    assert (run.status, run.calls) == ("succeeded", 1)
    await world.sql("update contact_segments set planned_xid = null")
    assert (await world.sync(segment)).calls == 0


async def test_a_run_that_is_taken_over_goes_on_where_it_stood(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    emails = [f"c{n}@acme.example" for n in range(45)]
    segment, _ = await synced(world, *emails)
    ids = await ask(world, EMAIL)
    await feed(world, ids[EMAIL])
    before = await world.sandbox.seq()
    # the first worker is stopped by the weather in the middle
    monkeypatch.setattr(lanes, "_GIVE_UP_AFTER", 3)
    await world.sandbox.fault("504", method="PATCH", times=5)
    run = await world.sync(segment)
    assert run.status == "succeeded"
    (row,) = await world.sql("select epoch from sync_runs where id = :run", run=run.id)
    assert row.epoch > 1
    done = [await ticks(world, email, ids) for email in emails]
    assert done == [[EMAIL]] * 45
    assert await patches(world, before) >= 45


async def test_an_audience_without_a_map_costs_no_call(world: World) -> None:
    segment, _ = await synced(world, ADA)
    ids = await ask(world, EMAIL)
    before = await world.sandbox.seq()
    await world.sync(segment)
    assert await world.writes(before) == []
    assert await ticks(world, ADA, ids) == []


async def test_a_dry_run_ticks_nobody(world: World) -> None:
    segment, _ = await synced(world, ADA)
    ids = await ask(world, EMAIL)
    await feed(world, ids[EMAIL])
    await world.sync(segment, dry_run=True)
    assert await ticks(world, ADA, ids) == []
