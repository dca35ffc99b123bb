"""Whatever Mailchimp answers: only a read-back counts, and nothing is ever given up."""

from __future__ import annotations

import pytest

from mcsync.features.audiences import service as audience_service
from mcsync.features.connection import service as connection
from mcsync.mailchimp import subscriber_hash
from tests.features.erasure.acts import Acts, answers, targets
from tests.features.sync.world import World

ADA = "ada.lovelace@acme.example"
MEMBER = f"/members/{subscriber_hash(ADA)}"
DELETE = f"{MEMBER}/actions/delete-permanent"


@pytest.fixture
async def person(world: World) -> str:
    """A member of the first audience."""
    entity = await world.contact(ADA)
    await world.sync(await world.segment())
    return entity


CALLS = {
    "delete": ("POST", DELETE),
    "read back": ("GET", f"{MEMBER}$"),
    "list": ("GET", r"/lists/[0-9a-f]+$"),
    "lists": ("GET", r"/lists$"),
}
PASSING = {
    "429_json": "mailchimp_busy",
    "500": "mailchimp_unavailable",
    "502_html": "mailchimp_unavailable",
    "403_html": "mailchimp_busy",
    "reset": "mailchimp_unavailable",
    "reset_after": "mailchimp_unavailable",
    "504_after": "mailchimp_unavailable",
}

FAULTS = [
    fault
    if fault in ("429_json", "500", "504_after")
    else pytest.param(fault, marks=pytest.mark.chaos)
    for fault in PASSING
]
"""The gate meets three of them at each call, ``make chaos`` all."""


class TestTroubleThatPasses:
    @pytest.mark.parametrize("fault", FAULTS)
    @pytest.mark.parametrize("call", CALLS)
    async def test_is_visible_and_tried_again(
        self, world: World, acts: Acts, person: str, call: str, fault: str
    ) -> None:
        method, path = CALLS[call]
        asked = await acts.ask(person)
        await world.sandbox.fault(fault, method=method, path=path, times=2)

        seen = await acts.work(asked.id)

        assert seen.status == "open"
        assert seen.last_error is not None
        assert seen.last_error == PASSING[fault]
        assert seen.next_attempt_at is not None
        assert seen.attempts == 1
        done = await acts.work(asked.id, times=4)
        assert done.status == "done"
        assert await acts.at_mailchimp(ADA) == []
        assert await acts.traces(ADA) == []

    async def test_is_not_given_up(self, world: World, acts: Acts, person: str) -> None:
        asked = await acts.ask(person)
        await world.sandbox.fault("500", method="POST", path=DELETE, times=60)
        for _ in range(12):
            seen = await acts.work(asked.id)
            assert seen.status == "open"
        assert max(t.attempts for t in seen.targets) >= 12
        await world.sandbox.fault("500", method="POST", path=DELETE, times=0)
        done = await acts.work(asked.id, times=30)
        assert done.status == "done"
        assert await acts.at_mailchimp(ADA) == []


class TestAnAnswerThatIsNone:
    @pytest.mark.parametrize("status", ["404", "405"])
    async def test_to_the_delete_is_not_believed(
        self, world: World, acts: Acts, person: str, status: str
    ) -> None:
        asked = await acts.ask(person)
        await world.sandbox.fault(status, method="POST", path=DELETE, times=20)

        seen = await acts.work(asked.id)

        assert seen.status == "open"
        (there,) = [t for t in targets(seen) if t.audience_id == world.list_id]
        assert there.state == "open"
        assert there.last_error == "member_remains"
        assert there.read_back_status == 200
        assert {a.status for a in there.delete_answers} == {int(status)}
        assert await acts.at_mailchimp(ADA) == [world.list_id]
        for _ in range(8):
            done = await acts.work(asked.id)
        assert done.status == "done"
        assert answers(done).count(204) == 1
        assert await acts.at_mailchimp(ADA) == []
        await acts.is_sound(done)

    async def test_to_the_read_back_is_not_believed_where_the_list_is_gone(
        self, world: World, acts: Acts, person: str
    ) -> None:
        await world.sandbox.delete_list(world.list_id)
        done = await acts.erase(person)
        outcome = {t.audience_id: t.state for t in targets(done)}
        assert outcome == {
            world.list_id: "audience_gone", world.other_list_id: "confirmed"
        }  # fmt: skip


class TestARefusedKey:
    @pytest.mark.parametrize("call", CALLS)
    async def test_stops_it_until_another_comes(
        self, world: World, acts: Acts, person: str, call: str
    ) -> None:
        method, path = CALLS[call]
        asked = await acts.ask(person)
        await world.sandbox.fault("401", method=method, path=path, times=1)

        seen = await acts.work(asked.id)

        assert seen.status == "open"
        assert {t.last_error for t in seen.targets if t.state == "open"} == {
            "mailchimp_key_refused"
        }
        shown = await connection.get(world.resources, world.actor)
        assert shown is not None
        assert shown.status == "needs_attention"
        done = await acts.work(asked.id, times=3)
        assert done.status == "done"
        shown = await connection.get(world.resources, world.actor)
        assert shown is not None
        assert shown.status == "connected"

    async def test_that_was_revoked_and_replaced(
        self, world: World, acts: Acts, person: str
    ) -> None:
        await world.sandbox.revoke(world.api_key)
        asked = await acts.ask(person)
        seen = await acts.work(asked.id, times=2)
        assert seen.status == "open"
        new_key = "f" * 32 + "-us1"
        await world.sandbox.rekey(world.api_key, new_key)
        await connection.connect(world.resources, world.actor, new_key)
        world.api_key = new_key

        done = await acts.work(asked.id, times=3)

        assert done.status == "done"
        assert await acts.at_mailchimp(ADA) == []


class TestDisconnected:
    async def test_it_stays_open_and_goes_on_when_connected_again(
        self, world: World, acts: Acts, person: str
    ) -> None:
        await connection.disconnect(world.resources, world.actor)
        asked = await acts.ask(person)
        seen = await acts.work(asked.id, times=3)
        assert seen.status == "open"
        assert seen.last_error == "not_connected"
        assert await acts.traces("Lovelace") == []
        await connection.connect(world.resources, world.actor, world.api_key)

        done = await acts.work(asked.id, times=3)

        assert done.status == "done"
        assert await acts.at_mailchimp(ADA) == []
        assert await acts.traces(ADA) == []

    async def test_of_somebody_of_whom_nothing_is_known_there_waits_too(
        self, world: World, acts: Acts
    ) -> None:
        """They may have signed up there by themselves: who cannot be asked has not answered."""
        person = await world.contact(ADA)
        await world.person(ADA, "subscribe_form", list_id=world.other_list_id)
        await connection.disconnect(world.resources, world.actor)
        asked = await acts.ask(person)
        assert (await acts.work(asked.id, times=2)).last_error == "not_connected"
        await connection.connect(world.resources, world.actor, world.api_key)

        done = await acts.work(asked.id, times=3)

        assert done.status == "done"
        assert await acts.at_mailchimp(ADA) == []
        await acts.is_sound(done)

    async def test_where_no_account_ever_was_there_is_nobody_to_ask(
        self, world: World, acts: Acts
    ) -> None:
        person = await world.contact(ADA, opted=None)
        await world.sql("delete from mailchimp_connections")
        done = await acts.erase(person)
        assert done.targets == []
        assert await acts.traces(ADA) == []

    async def test_after_the_request(self, world: World, acts: Acts, person: str) -> None:
        asked = await acts.ask(person)
        await connection.disconnect(world.resources, world.actor)
        assert (await acts.work(asked.id)).status == "open"
        await connection.connect(world.resources, world.actor, world.api_key)
        assert (await acts.work(asked.id, times=3)).status == "done"
        assert await acts.at_mailchimp(ADA) == []

    async def test_answers_of_another_account_do_not_count(
        self, world: World, acts: Acts, person: str
    ) -> None:
        asked = await acts.ask(person)
        await connection.disconnect(world.resources, world.actor)
        other_key = "e" * 32 + "-us1"
        await world.sandbox.open_account(other_key, lists=["Elsewhere"])
        await connection.connect(world.resources, world.actor, other_key)
        await audience_service.list_audiences(world.resources, world.actor)

        seen = await acts.work(asked.id, times=3)

        assert seen.status == "open"
        assert {t.last_error for t in seen.targets} == {"account_mismatch"}
        assert await acts.at_mailchimp(ADA) == [world.list_id]
        await connection.disconnect(world.resources, world.actor)
        await connection.connect(world.resources, world.actor, world.api_key)
        done = await acts.work(asked.id, times=3)
        assert done.status == "done"
        assert await acts.at_mailchimp(ADA) == []


class TestAnAudienceNobodyMirrored:
    async def test_is_found_and_asked(self, world: World, acts: Acts, person: str) -> None:
        await world.person(ADA, "subscribe_form", list_id=world.other_list_id)
        await world.sql("delete from audiences where list_id = :list", list=world.other_list_id)

        done = await acts.erase(person)

        assert {t.audience_id for t in targets(done)} == {world.list_id, world.other_list_id}
        assert await acts.at_mailchimp(ADA) == []
