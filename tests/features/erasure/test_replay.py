"""After a restore: erased again are those, and only those, whom the list of keyed hashes names."""

from __future__ import annotations

from mcsync.features.erasure import replay
from mcsync.features.erasure.subject import BY_ADDRESS, BY_ENTITY, address_key, entity_key
from tests.features.erasure.acts import Acts
from tests.features.sync.world import World

ADA = "ada.lovelace@acme.example"
BEN = "ben@acme.example"
CLEO = "cleo@acme.example"
CLEO_BEFORE = "cleo.before@acme.example"
NOBODY = "nobody@acme.example"


def _address(world: World, email: str) -> replay.Key:
    return BY_ADDRESS, address_key(world.org.hash_key, email)


async def test_who_is_back_is_erased_again_and_nobody_else(world: World, acts: Acts) -> None:
    ada, ben = await world.contact(ADA), await world.contact(BEN)
    cleo = await world.contact(CLEO_BEFORE)
    segment = await world.segment()
    await world.sync(segment)
    await world.upsert(cleo, email=CLEO)
    await world.sync(segment)
    keys = {
        (BY_ENTITY, entity_key(world.org.hash_key, "employee", ada)),
        *(_address(world, email) for email in (ADA, BEN, CLEO_BEFORE, NOBODY)),
    }

    done = await replay.replay(world.resources, world.actor, keys)

    assert (done.remembered, done.suppressed, done.held, done.failed) == (0, 1, 1, 0)
    assert len(done.erasures) == 2, "Ada, and the former address of Cleo"
    for erasure in done.erasures:
        assert (await acts.work(erasure, times=5)).status == "done"
    assert await acts.traces(ADA, CLEO_BEFORE) == []
    left = await world.sql("select entity_id from contacts where email is not null order by email")
    assert [row.entity_id for row in left] == [ben, cleo]
    for email in (ADA, NOBODY):
        result = await world.upsert("another", refused=True, email=email, optStatus="opted_in")
        assert [r.code for r in result.rejections] == ["suppressed"]

    again = await replay.replay(world.resources, world.actor, keys)
    assert (again.remembered, again.erasures, again.suppressed, again.held) == (5, [], 0, 0)


async def test_what_is_exported_is_all_that_a_replay_needs(world: World, acts: Acts) -> None:
    ada = await world.contact(ADA)
    await world.contact(BEN)
    await acts.erase(ada)

    exported = await replay.remembered(world.resources, world.org.id)

    keys = {key for key, _ in exported}
    assert keys == {
        (BY_ENTITY, entity_key(world.org.hash_key, "employee", ada)),
        _address(world, ADA),
    }
    done = await replay.replay(world.resources, world.actor, keys)
    assert (done.remembered, done.erasures) == (2, [])
