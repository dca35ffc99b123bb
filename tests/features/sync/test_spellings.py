"""One mailbox, two spellings (``sync.md`` 1): ``x@bücher.example`` and ``x@xn--bcher-kva.example`` are one person.

Each test runs with the contact in one spelling and the member in the other, in both directions.
"""

from __future__ import annotations

import pytest

from mcsync.features.sync import explain, service
from mcsync.features.sync.schemas import PreviewInput
from mcsync.mailchimp import subscriber_hash
from tests.features.sync.conftest import Between
from tests.features.sync.world import World, counted

UNICODE = "ida@bücher.example"
A_LABEL = "ida@xn--bcher-kva.example"
BOTH_WAYS = pytest.mark.parametrize(
    ("here", "there"),
    [(UNICODE, A_LABEL), (A_LABEL, UNICODE)],
    ids=["unicode-here", "a-label-here"],
)
EITHER = pytest.mark.parametrize("email", [UNICODE, A_LABEL], ids=["unicode", "a-label"])


async def only(world: World, email: str) -> None:
    """The audience has this one member, and no other of the mailbox."""
    members = await world.sandbox.members(world.list_id)
    assert [m["email"] for m in members] == [email]


async def signed_up(world: World, *emails: str) -> None:
    for email in emails:
        await world.person(email, "subscribe_form")


class TestAdded:
    @EITHER
    async def test_in_the_spelling_that_was_given(self, world: World, email: str) -> None:
        person = await world.contact(email)
        segment = await world.segment()
        run = await world.sync(segment)
        assert counted(run)["add"] == 1
        await only(world, email)
        assert await world.status(email) == "subscribed"
        again = await world.sync(segment)
        assert not counted(again).get("add")
        await world.nothing_left(segment)
        assert (await world.sql("select owned from audience_members"))[0].owned
        await world.opt(person, "out")
        await world.orders()
        assert await world.status(email) == "unsubscribed"
        await only(world, email)

    @BOTH_WAYS
    async def test_two_contacts_share_it(self, world: World, here: str, there: str) -> None:
        await world.contact(here)
        await world.contact(there, opted=None)
        segment = await world.segment(legalBasis="legitimate_interest")
        run = await world.sync(segment)
        assert counted(run)["add"] == 1
        assert run.skipped_by_reason == {"shared_address": 1}
        assert len(await world.sandbox.members(world.list_id)) == 1

    @BOTH_WAYS
    async def test_the_strictest_consent_of_both_counts(
        self, world: World, here: str, there: str
    ) -> None:
        await world.contact(here)
        await world.contact(there, opted="out")
        segment = await world.segment()
        run = await world.sync(segment)
        assert run.skipped_by_reason == {"address_opted_out": 1, "opted_out": 1}
        assert await world.sandbox.members(world.list_id) == []

    @BOTH_WAYS
    async def test_an_import_in_the_other_spelling_is_no_change_of_address(
        self, world: World, here: str, there: str
    ) -> None:
        await world.upsert("E1", email=here, department="Sales", optStatus="opted_in")
        segment = await world.segment()
        await world.sync(segment)
        await world.upsert("E1", email=there, department="Sales")
        assert [c.email for c in await world.sql("select email from contacts")] == [there]
        assert await world.sql("select * from contact_addresses") == []
        run = await world.sync(segment)
        assert counted(run) == {}
        await only(world, here)
        await world.nothing_left(segment)

    async def test_full_width_dots_capitals_and_composed_letters_are_the_same_mailbox(
        self, world: World
    ) -> None:
        await signed_up(world, A_LABEL)
        odd = ["IDA@BÜCHER.example", "ida@bu\u0308cher.example", "ida@bücher。example"]
        for number, email in enumerate(odd):
            await world.upsert(f"E{number}", email=email, department="Sales", optStatus="opted_in")
        segment = await world.segment()
        run = await world.sync(segment)
        assert counted(run) == {"update": 1, "done": 1}
        assert run.skipped_by_reason == {"shared_address": 2}
        await only(world, A_LABEL)


class TestAMemberInTheOtherSpelling:
    @BOTH_WAYS
    @pytest.mark.parametrize("mirrored_first", [True, False])
    async def test_is_updated_and_no_second_one_is_made(
        self, world: World, here: str, there: str, mirrored_first: bool
    ) -> None:
        await signed_up(world, there)
        segment = await world.segment()
        if mirrored_first:
            await world.sync(segment)
        await world.contact(here, first_name="Ida")
        preview = (
            await service.preview(
                world.resources, world.actor, PreviewInput.model_validate({"id": segment})
            )
            if mirrored_first
            else None
        )
        run = await world.sync(segment)
        if preview is not None:
            assert preview.counts.update == 1
            assert preview.counts.add == 0
        assert (run.counts.add, run.counts.update) == (0, 1)
        await only(world, there)
        member = await world.member(there)
        assert member is not None
        assert member["mergeFields"]["FNAME"] == "Ida"
        assert member["tags"] == ["mcsync: Sales"]
        await world.nothing_left(segment)

    @BOTH_WAYS
    @pytest.mark.parametrize("act", ["unsubscribe", "bounce"])
    async def test_who_left_there_is_never_subscribed(
        self, world: World, here: str, there: str, act: str
    ) -> None:
        await signed_up(world, there)
        await world.contact(here)  # opted in before they left: a newer opt-in would ask them again
        await world.person(there, act)  # type: ignore[arg-type]
        status = await world.status(there)
        assert status in ("unsubscribed", "cleaned")
        segment = await world.segment()
        run = await world.sync(segment)
        assert counted(run) == {}
        assert sum(run.skipped_by_reason.values()) == 1
        await only(world, there)
        assert await world.status(there) == status

    @BOTH_WAYS
    async def test_who_leaves_there_later_is_withdrawn_here(
        self, world: World, here: str, there: str
    ) -> None:
        entity = await world.contact(here)
        await signed_up(world, there)
        segment = await world.segment()
        await world.sync(segment)
        await world.person(there, "unsubscribe")
        run = await world.sync(segment)
        assert run.skipped_by_reason == {"opted_out": 1}
        (found,) = await world.sql(
            "select status, source from email_preferences where entity_id = :e", e=entity
        )
        assert tuple(found) == ("opted_out", "mailchimp")
        await only(world, there)

    @BOTH_WAYS
    @pytest.mark.parametrize("mirrored", [True, False])
    async def test_an_opt_out_reaches_it(
        self, world: World, here: str, there: str, mirrored: bool
    ) -> None:
        entity = await world.contact(here)
        if mirrored:
            await signed_up(world, there)
            await world.sync(await world.segment())
        else:
            await world.sync(await world.segment(filters={"department": ["Nobody"]}))
            await signed_up(world, there)
        await world.opt(entity, "out")
        await world.orders()
        assert await world.status(there) == "unsubscribed"
        await only(world, there)
        left = await world.sql(
            "select * from audience_orders where status = 'open' and kind = 'withdrawal'"
        )
        assert left == []

    @BOTH_WAYS
    async def test_an_opt_out_by_the_other_address_withdraws_the_contact(
        self, world: World, here: str, there: str
    ) -> None:
        entity = await world.contact(here)
        segment = await world.segment()
        await world.sync(segment)
        await world.unsubscribe(there, source="link")
        await world.orders()
        assert await world.status(here) == "unsubscribed"
        (found,) = await world.sql(
            "select status from email_preferences where entity_id = :e", e=entity
        )
        assert found.status == "opted_out"

    @BOTH_WAYS
    async def test_an_opt_in_is_carried_to_it_at_once(
        self, world: World, here: str, there: str
    ) -> None:
        segment = await world.segment()
        await world.contact("somebody@acme.example")
        await world.sync(segment)
        entity = await world.contact(here, opted=None)
        await signed_up(world, there)  # after the pull: the mirror does not know
        await world.opt(entity, "in")
        await world.live()
        assert await world.status(there) == "subscribed"
        assert await world.member(here) is None
        member = await world.member(there)
        assert member is not None
        assert member["tags"] == ["mcsync: Sales"]

    @BOTH_WAYS
    async def test_it_leaves_with_the_contact(self, world: World, here: str, there: str) -> None:
        entity = await world.contact(here)
        await signed_up(world, there)
        segment = await world.segment()
        await world.sync(segment)
        await world.leave(entity)
        run = await world.sync(segment)
        assert counted(run)["untag"] == 1  # they signed up by themselves: not ours to archive
        assert await world.status(there) == "subscribed"
        member = await world.member(there)
        assert member is not None
        assert member["tags"] == []

    @BOTH_WAYS
    async def test_who_withdrew_between_plan_and_push_is_not_added(
        self, world: World, here: str, there: str, before_push: Between
    ) -> None:
        await world.contact(here)
        segment = await world.segment()

        async def withdraw() -> None:
            await world.unsubscribe(there, source="link")

        before_push(withdraw)
        await world.sync(segment)
        await world.orders()
        assert await world.sandbox.members(world.list_id) == []


class TestBothAreMembers:
    @EITHER
    async def test_a_withdrawal_reaches_both(self, world: World, email: str) -> None:
        entity = await world.contact(email)
        await signed_up(world, UNICODE, A_LABEL)
        segment = await world.segment()
        run = await world.sync(segment)
        assert (run.counts.add, run.counts.update) == (0, 1)
        await world.opt(entity, "out")
        await world.orders()
        assert await world.statuses() == {"unsubscribed": 2}

    @EITHER
    async def test_a_sync_takes_both_out_where_no_order_did(self, world: World, email: str) -> None:
        await world.contact("else@acme.example")
        for address in (UNICODE, A_LABEL):
            await world.admin(address, "subscribe")
        segment = await world.segment()
        await world.sync(segment)  # nobody here has the address yet, so no spelling of it is kept
        await world.contact(email, opted="out")
        await world.sync(segment)
        assert await world.statuses() == {"subscribed": 1, "unsubscribed": 2}
        await world.nothing_left(segment)

    @EITHER
    @pytest.mark.parametrize("left", [UNICODE, A_LABEL])
    async def test_who_leaves_one_leaves_both(self, world: World, email: str, left: str) -> None:
        await world.contact(email)
        await signed_up(world, UNICODE, A_LABEL)
        segment = await world.segment()
        await world.sync(segment)
        await world.person(left, "unsubscribe")
        await world.sync(segment)
        await world.orders()
        assert await world.statuses() == {"unsubscribed": 2}
        await world.nothing_left(segment)

    @EITHER
    async def test_the_active_one_stands_for_the_mailbox(self, world: World, email: str) -> None:
        await world.contact(email)
        await signed_up(world, UNICODE, A_LABEL)
        segment = await world.segment()
        await world.admin(A_LABEL, "archive")
        run = await world.sync(segment)
        assert (run.counts.add, run.counts.update) == (0, 1)
        tagged = {m["email"] for m in await world.sandbox.members(world.list_id) if m["tags"]}
        assert tagged == {UNICODE}
        await world.nothing_left(segment)

    async def test_a_withdrawal_that_no_order_reached_is_found_by_a_plan(
        self, world: World
    ) -> None:
        await world.contact(UNICODE, opted="out")
        for email in (UNICODE, A_LABEL):
            await world.admin(email, "subscribe")
        await world.sql("delete from address_consents")  # withdrawn before it had this address
        segment = await world.segment()
        await world.sync(segment)
        await world.sync(segment)
        assert await world.statuses() == {"unsubscribed": 2}

    async def test_the_one_that_stands_for_it_stays_when_the_other_comes(
        self, world: World
    ) -> None:
        await world.contact(UNICODE)
        segment = await world.segment()
        await world.sync(segment)
        await signed_up(world, A_LABEL)
        run = await world.sync(segment)
        assert counted(run) == {}
        assert await world.statuses() == {"subscribed": 2}
        await world.nothing_left(segment)


class TestMoving:
    async def test_to_an_address_in_unicode_is_a_rename(self, world: World) -> None:
        entity = await world.contact("ida@acme.example")
        segment = await world.segment()
        await world.sync(segment)
        await world.move(entity, UNICODE)
        run = await world.sync(segment)
        assert run.counts.rename == 1
        await only(world, UNICODE)
        await world.nothing_left(segment)
        await world.opt(entity, "out")
        await world.orders()
        assert await world.status(UNICODE) == "unsubscribed"

    @BOTH_WAYS
    async def test_at_mailchimp_from_one_spelling_to_the_other(
        self, world: World, here: str, there: str
    ) -> None:
        entity = await world.contact(here)
        segment = await world.segment()
        await world.sync(segment)
        await world.person(here, "change_email", new_email=there)
        run = await world.sync(segment)
        assert not run.counts.add
        await only(world, there)
        await world.nothing_left(segment)
        await world.opt(entity, "out")
        await world.orders()
        assert await world.status(there) == "unsubscribed"

    async def test_away_from_an_address_in_unicode_withdraws_the_member_left_behind(
        self, world: World
    ) -> None:
        entity = await world.contact(UNICODE)
        segment = await world.segment()
        await world.sync(segment)
        await world.move(entity, "ida@acme.example")
        await world.unsubscribe(A_LABEL, source="link")
        await world.orders()
        assert await world.status(UNICODE) == "unsubscribed"
        (found,) = await world.sql(
            "select status from email_preferences where entity_id = :e", e=entity
        )
        assert found.status == "opted_out"


class TestExplained:
    @BOTH_WAYS
    @pytest.mark.parametrize("asked", [UNICODE, A_LABEL])
    async def test_by_either_address(self, world: World, here: str, there: str, asked: str) -> None:
        await signed_up(world, there)
        segment = await world.segment()
        await world.sync(segment)
        await world.contact(here)
        told = await explain.explain(world.resources, world.actor, email=asked)
        assert [c.email for c in told.contacts] == [here]
        (audience,) = [a for a in told.audiences if a.audience_id == world.list_id]
        assert audience.member is not None
        assert audience.member.status == "subscribed"
        assert audience.other_member is None
        assert [s.action for s in audience.segments] == ["update"]

    async def test_a_member_without_a_contact(self, world: World) -> None:
        await signed_up(world, UNICODE)
        await world.unsubscribe(A_LABEL, source="link")
        await world.sync(await world.segment())
        told = await explain.explain(world.resources, world.actor, email=A_LABEL)
        (audience,) = [a for a in told.audiences if a.audience_id == world.list_id]
        assert audience.member is not None
        assert audience.member.status == "unsubscribed"

    async def test_both_members_are_told(self, world: World) -> None:
        await world.contact(UNICODE)
        await signed_up(world, UNICODE, A_LABEL)
        await world.sync(await world.segment())
        told = await explain.explain(world.resources, world.actor, email=A_LABEL)
        (audience,) = [a for a in told.audiences if a.audience_id == world.list_id]
        assert audience.member is not None
        assert audience.other_member is not None


def test_the_two_spellings_have_two_hashes_at_mailchimp() -> None:
    assert subscriber_hash(UNICODE) != subscriber_hash(A_LABEL)
