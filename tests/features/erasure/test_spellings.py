"""An address with two spellings is erased under both, and stays away under both."""

from __future__ import annotations

import pytest

from mcsync.core.web.paging import PageParams
from mcsync.features.erasure import service
from mcsync.features.erasure.schemas import SubjectInput
from mcsync.features.preferences import service as preferences
from tests.features.erasure.acts import Acts, states, targets
from tests.features.sync.world import World

UNICODE = "ida@bücher.example"
A_LABEL = "ida@xn--bcher-kva.example"
BOTH_WAYS = pytest.mark.parametrize(
    ("here", "there"),
    [(UNICODE, A_LABEL), (A_LABEL, UNICODE)],
    ids=["unicode-here", "a-label-here"],
)


@BOTH_WAYS
@pytest.mark.parametrize("by", ["entity", "here", "there"])
@pytest.mark.parametrize("mirrored", [True, False])
async def test_both_members_are_gone_and_proven_so(
    world: World, acts: Acts, here: str, there: str, by: str, mirrored: bool
) -> None:
    person = await world.contact(here)
    segment = await world.segment()
    await world.sync(segment)
    await world.person(there, "subscribe_form")
    await world.person(there, "subscribe_form", list_id=world.other_list_id)
    if mirrored:
        await world.sync(segment)

    done = await acts.erase(person if by == "entity" else None, email={
        "entity": None, "here": here, "there": there}[by])  # fmt: skip

    assert await acts.traces(here, there) == []
    assert await world.sandbox.members(world.list_id) == []
    assert await world.sandbox.members(world.other_list_id) == []
    assert states(done) == {"confirmed"}
    for number in (1, 2):  # both spellings, each in both audiences
        assert [t.read_back_status for t in targets(done, number)] == [404, 404]


@BOTH_WAYS
async def test_who_is_only_a_member_there_is_found_by_either(
    world: World, acts: Acts, here: str, there: str
) -> None:
    await world.person(there, "subscribe_form")
    await world.sync(await world.segment())
    await acts.erase(email=here)
    assert await world.sandbox.members(world.list_id) == []
    assert await acts.traces(here, there) == []


@BOTH_WAYS
async def test_an_import_in_the_other_spelling_is_refused(
    world: World, acts: Acts, here: str, there: str
) -> None:
    person = await world.contact(here)
    await acts.erase(person)
    for email in (here, there):
        result = await world.upsert("another", refused=True, email=email, optStatus="opted_in")
        assert [r.code for r in result.rejections] == ["suppressed"]


@BOTH_WAYS
async def test_an_address_that_is_shared_in_the_other_spelling_is_told(
    world: World, acts: Acts, here: str, there: str
) -> None:
    person = await world.contact(here)
    await world.contact(there)
    await world.sync(await world.segment())
    asked = await acts.ask(person)
    assert [(s.address, s.contacts) for s in asked.shared_addresses] == [(1, 1), (2, 1)]


@BOTH_WAYS
async def test_access_and_history_are_answered_by_either(
    world: World, here: str, there: str
) -> None:
    await world.contact(here)
    await world.sync(await world.segment())
    shown = await service.export(
        world.resources, world.actor, SubjectInput.model_validate({"email": there})
    )
    assert set(shown.addresses) == {here, there}
    held = {s.store for s in shown.stores if s.rows}
    assert {"contacts", "mirror", "preference_history"} <= held
    page = await preferences.history(
        world.resources, world.actor, PageParams(200, None), email=there
    )
    assert [event.status for event in page.items] == ["opted_in"]
