"""Erasing a person: here, at Mailchimp, for good, with a receipt (``design.md`` 6)."""

from __future__ import annotations

import io

import pytest

from mcsync.core.errors import (
    BadRequestError,
    ConflictError,
    NotFoundError,
    UpstreamRefusedError,
)
from mcsync.core.web.paging import PageParams
from mcsync.features.connection import service as connection
from mcsync.features.erasure import service
from mcsync.features.erasure.schemas import ErasureInput, LiftInput
from mcsync.features.erasure.subject import address_hash, address_key
from mcsync.features.preferences import service as preferences
from tests.features.erasure.acts import Acts, answers, states, targets
from tests.features.sync.world import World

ADA = "ada.lovelace@acme.example"
NAME = "Lovelacia"


async def said(world: World, email: str) -> list[str]:
    """The sources of what was stated under an address, newest first."""
    page = await preferences.history(
        world.resources, world.actor, PageParams(200, None), email=email
    )
    return [event.source for event in page.items]


class TestAMember:
    async def test_is_gone_everywhere_and_leaves_no_trace(
        self, world: World, acts: Acts, log: io.StringIO
    ) -> None:
        person = await world.contact(ADA, last_name=NAME, attributes={"badge": f"{NAME}-7"})
        await world.contact("bob@acme.example")
        segment = await world.segment()
        await world.sync(segment)
        await world.person(ADA, "subscribe_form", list_id=world.other_list_id)
        await world.opt(person, "out", source=f"form of {NAME}")
        await world.orders()
        assert len(await acts.traces(ADA, NAME)) > 5

        done = await acts.erase(person)

        assert await acts.traces(ADA, NAME, f'"{person}"') == []
        assert await acts.at_mailchimp(ADA) == []
        for one in (world.list_id, world.other_list_id):
            assert await world.sandbox.forgotten(one, ADA) == [ADA]
        assert states(done) == {"confirmed"}
        assert answers(done) == [204, 204]
        assert [t.read_back_status for t in targets(done)] == [404, 404]
        assert ADA not in log.getvalue()
        assert NAME not in log.getvalue()
        assert await world.status("bob@acme.example") == "subscribed"
        await world.nothing_left(segment)

    async def test_is_kept_away_from_then_on(self, world: World, acts: Acts) -> None:
        person = await world.contact(ADA)
        segment = await world.segment()
        await world.sync(segment)
        await acts.erase(person)

        for entity in (person, "another"):
            result = await world.upsert(entity, refused=True, email=ADA, optStatus="opted_in")
            assert [r.code for r in result.rejections] == ["suppressed"]
        with pytest.raises(NotFoundError):
            await world.opt(person, "in")
        run = await world.sync(segment)
        assert run.counts.matched == 0
        assert await acts.traces(ADA) == []

    async def test_whose_run_counts_stay_true(self, world: World, acts: Acts) -> None:
        person = await world.contact(ADA)
        await world.contact("bob@acme.example")
        run = await world.sync(await world.segment())
        before = len(await world.changes(run))

        await acts.erase(person)

        changes = await world.changes(run)
        assert len(changes) == before == run.counts.add
        assert {c.email for c in changes} == {None, "bob@acme.example"}
        assert {c.state for c in changes} == {"done"}


class TestSomebody:
    async def test_who_was_never_pushed(self, world: World, acts: Acts) -> None:
        person = await world.contact(ADA, last_name=NAME)
        done = await acts.erase(person)
        assert await acts.traces(ADA, NAME) == []
        assert answers(done) == [404, 404]
        assert states(done) == {"confirmed"}

    async def test_without_a_preference(self, world: World, acts: Acts) -> None:
        person = await world.contact(ADA, opted=None)
        await acts.erase(person)
        assert await acts.traces(ADA) == []

    async def test_without_an_address(self, world: World, acts: Acts) -> None:
        person = await world.contact(ADA, last_name=NAME)
        await world.change(person, email=None, address_hash=None, address_key=None)
        done = await acts.erase(person)
        assert done.addresses == 0
        assert done.targets == []
        assert await acts.traces(NAME) == []

    async def test_who_left_before(self, world: World, acts: Acts) -> None:
        person = await world.contact(ADA)
        await world.sync(await world.segment())
        await world.delete(person)
        await acts.erase(person)
        assert await acts.traces(ADA) == []
        assert await acts.at_mailchimp(ADA) == []

    async def test_of_whom_only_consent_is_left(self, world: World, acts: Acts) -> None:
        person = await world.contact(ADA)
        await world.sql("delete from contacts where entity_id = :id", id=person)
        await acts.erase(person)
        assert await acts.traces(f"{person}") == []

    async def test_nobody_knows(self, world: World, acts: Acts) -> None:
        for given in ({"entity_id": "nobody"}, {"email": "nobody@acme.example"}):
            with pytest.raises(NotFoundError) as error:
                await acts.ask(**given)
            assert error.value.code == "contact_not_found"
        with pytest.raises(BadRequestError):
            await acts.ask(email="no address")


class TestFormerAddresses:
    async def test_are_reached_too(self, world: World, acts: Acts) -> None:
        person = await world.contact("old@acme.example")
        await world.sync(await world.segment())
        await world.person("old@acme.example", "subscribe_form", list_id=world.other_list_id)
        await world.move(person, ADA)

        done = await acts.erase(person)

        assert done.addresses == 2
        assert await acts.at_mailchimp("old@acme.example") == []
        assert await acts.traces(ADA, "old@acme.example") == []

    async def test_changed_at_mailchimp_and_pulled(self, world: World, acts: Acts) -> None:
        person = await world.contact(ADA)
        segment = await world.segment()
        await world.sync(segment)
        await world.person(ADA, "change_email", new_email="moved@home.example")
        await world.sync(segment)

        done = await acts.erase(person)

        assert done.addresses == 2
        assert await acts.at_mailchimp("moved@home.example") == []
        assert await acts.traces(ADA, "moved@home.example") == []
        result = await world.upsert("another", refused=True, email="moved@home.example")
        assert [r.code for r in result.rejections] == ["suppressed"]

    async def test_changed_at_mailchimp_since_the_last_pull(self, world: World, acts: Acts) -> None:
        person = await world.contact(ADA)
        await world.sync(await world.segment())
        await world.person(ADA, "change_email", new_email="moved@home.example")

        done = await acts.erase(person)

        assert done.addresses == 2
        assert await acts.at_mailchimp("moved@home.example") == []
        assert await acts.traces(ADA, "moved@home.example") == []


class TestByAddress:
    async def test_somebody_whom_only_mailchimp_knows(self, world: World, acts: Acts) -> None:
        await world.contact("bob@acme.example")
        await world.person(ADA, "subscribe_form")
        await world.sync(await world.segment())

        done = await acts.erase(email=ADA.upper())

        assert await acts.traces(ADA) == []
        assert await acts.at_mailchimp(ADA) == []
        assert states(done) == {"confirmed"}

    async def test_the_one_contact_who_has_it(self, world: World, acts: Acts) -> None:
        person = await world.contact(ADA, last_name=NAME)
        done = await acts.erase(email=ADA)
        assert await acts.traces(ADA, NAME) == []
        assert (await acts.ask(person)).id == done.id

    async def test_that_a_contact_took_at_mailchimp(self, world: World, acts: Acts) -> None:
        person = await world.contact(ADA, last_name=NAME)
        segment = await world.segment()
        await world.sync(segment)
        await world.person(ADA, "change_email", new_email="moved@home.example")
        await world.sync(segment)

        await acts.erase(email="moved@home.example")

        assert await acts.traces(ADA, NAME, "moved@home.example", f'"{person}"') == []
        run = await world.sync(segment)
        assert run.counts.matched == 0
        assert await acts.at_mailchimp(ADA) == []

    async def test_of_whom_only_a_request_is_kept(self, world: World, acts: Acts) -> None:
        await world.sql(
            """insert into subscription_requests (org_id, audience_id, address_key, address_hash, email,
                   wanted, via, source, state)
               select org_id, id, :key, :hash, :email, 'pending', 'form', 'web', 'queued'
               from audiences where list_id = :list""",
            key=address_key(world.org.hash_key, ADA), hash=address_hash(ADA), email=ADA,
            list=world.list_id,
        )  # fmt: skip
        await acts.erase(email=ADA)
        assert await acts.traces(ADA) == []

    async def test_of_whom_only_single_messages_tell(self, world: World, acts: Acts) -> None:
        await world.sql(
            """with m as (insert into transactional_messages (org_id, size, status)
                          values (:org, 1, 'sent') returning id)
               insert into transactional_recipients (org_id, message_id, no, email, address_key, type)
               select :org, id, 1, :email, :key, 'to' from m""",
            org=world.org.id, key=address_key(world.org.hash_key, ADA), email=ADA,
        )  # fmt: skip
        await acts.erase(email=ADA)
        assert await acts.traces(ADA) == []

    async def test_that_several_contacts_have_is_not_guessed(
        self, world: World, acts: Acts
    ) -> None:
        await world.contact(ADA)
        other = await world.contact(ADA)
        with pytest.raises(ConflictError) as error:
            await acts.ask(email=ADA)
        assert error.value.code == "address_shared"
        assert other in str(error.value.extra["contacts"])

    async def test_who_came_back_at_mailchimp_may_ask_again(self, world: World, acts: Acts) -> None:
        await world.contact("bob@acme.example")
        await world.person(ADA, "subscribe_form")
        segment = await world.segment()
        await world.sync(segment)
        first = await acts.erase(email=ADA)
        await world.wait(days=1)
        await world.person(ADA, "subscribe_form")
        await world.sync(segment)

        second = await acts.erase(email=ADA)

        assert second.id != first.id
        assert await acts.at_mailchimp(ADA) == []
        assert await acts.traces(ADA) == []

    async def test_what_was_said_of_it_alone_is_shown_and_then_forgotten(
        self, world: World, acts: Acts
    ) -> None:
        for source in (f"form of {NAME}", "call"):
            await world.unsubscribe(ADA, source=source, evidence=f"{NAME} asked")
        assert await said(world, ADA) == ["call", f"form of {NAME}"]
        shown = await service.export(
            world.resources, world.actor, ErasureInput.model_validate({"email": ADA})
        )
        (rows,) = [s.rows for s in shown.stores if s.store == "preference_history"]
        assert [(r["entityId"], r["proof"]["evidence"]) for r in rows] == [
            (None, f"{NAME} asked")
        ] * 2

        await acts.erase(email=ADA)

        assert await acts.traces(ADA, NAME) == []
        assert await said(world, ADA) == []

    async def test_it_is_also_of_the_contact_who_came_later(self, world: World, acts: Acts) -> None:
        await world.unsubscribe(ADA, source=f"form of {NAME}")
        await world.unsubscribe("old@acme.example", source=f"form of {NAME}")
        person = await world.contact("old@acme.example", opted=None)
        await world.move(person, ADA)
        await acts.erase(person)
        assert await acts.traces(NAME) == []
        assert await said(world, ADA) == []

    async def test_it_is_forgotten_where_only_the_hash_of_the_address_is_known(
        self, world: World, acts: Acts
    ) -> None:
        person = await world.contact("old@acme.example")
        segment = await world.segment()
        await world.sync(segment)
        await world.unsubscribe(ADA, source=f"form of {NAME}")
        await world.person("old@acme.example", "change_email", new_email=ADA)
        await world.sync(segment)
        await world.sql("delete from audience_aliases")
        await world.sql("update audience_members set email = null")
        await acts.erase(person)
        assert await acts.traces(NAME) == []


class TestASharedAddress:
    async def test_stays_with_the_other_contact_and_is_wanted_nowhere(
        self, world: World, acts: Acts
    ) -> None:
        person = await world.contact(ADA, last_name=NAME)
        other = await world.contact(ADA, last_name="Byron")
        segment = await world.segment()
        await world.sync(segment)

        done = await acts.erase(person)

        assert [s.model_dump() for s in done.shared_addresses] == [{"address": 1, "contacts": 1}]
        assert done.receipt is not None
        assert done.receipt["sharedAddresses"] == [{"address": 1, "contacts": 1}]
        assert await acts.at_mailchimp(ADA) == []
        assert await acts.traces(NAME) == []
        kept = await world.sql("select status from email_preferences where entity_id = :e", e=other)
        assert [row.status for row in kept] == ["opted_in"]
        # its own rows are still accepted, and it is mailed nowhere
        await world.upsert(other, email=ADA, department="Sales", lastName="King")
        run = await world.sync(segment)
        assert run.skipped_by_reason == {"suppressed": 1}
        assert await acts.at_mailchimp(ADA) == []
        await world.opt(other, "in")
        await world.sync(segment)
        assert await acts.at_mailchimp(ADA) == []
        await world.nothing_left(segment)

    async def test_keeps_what_was_said_of_it_alone_until_nobody_else_has_it(
        self, world: World, acts: Acts
    ) -> None:
        await world.unsubscribe(ADA, source="call")
        person, other = [await world.contact(ADA, opted=None) for _ in range(2)]
        await acts.erase(person)
        assert await said(world, ADA) == ["call"]
        await acts.erase(other)
        assert await said(world, ADA) == []

    async def test_asked_for_by_address_again_spares_the_other(
        self, world: World, acts: Acts
    ) -> None:
        person = await world.contact(ADA)
        other = await world.contact(ADA)
        first = await acts.erase(person)
        assert (await acts.ask(email=ADA)).id == first.id
        second = await acts.erase(other)
        assert second.id != first.id
        assert await acts.traces(ADA) == []

    async def test_is_taken_from_contacts_that_left(self, world: World, acts: Acts) -> None:
        person = await world.contact(ADA)
        other = await world.contact(ADA, last_name="Byron")
        await world.delete(other)
        await acts.erase(person)
        assert await acts.traces(ADA) == []
        kept = await world.sql("select last_name from contacts where entity_id = :e", e=other)
        assert [row.last_name for row in kept] == ["Byron"]


class TestAskedAgain:
    async def test_the_same_erasure_is_answered(self, world: World, acts: Acts) -> None:
        person = await world.contact(ADA)
        asked = await acts.ask(person)
        assert (await acts.ask(person)).id == asked.id
        done = await acts.work(asked.id, times=3)
        assert done.status == "done"
        again = await acts.ask(person)
        assert again.id == asked.id
        assert again.receipt == done.receipt
        await acts.is_sound(again)

    async def test_a_job_that_runs_twice_is_harmless(self, world: World, acts: Acts) -> None:
        person = await world.contact(ADA)
        await world.sync(await world.segment())
        done = await acts.erase(person)
        assert (await acts.work(done.id, times=2)).receipt == done.receipt


class TestAnAddressThatOnlyMailchimpKnows:
    @pytest.mark.parametrize(
        "email",
        [
            "stranger@acme.example",
            "a..b@acme.example",
            ".dot@acme.example",
            '"ada"@acme.example',
            "ada@under_score.example",
            f"{'long' * 16}@acme.example",
            f"ada@{'long.' * 50}example.example",
        ],
    )
    async def test_is_looked_for_on_every_list_and_erased(
        self, world: World, acts: Acts, email: str
    ) -> None:
        """Also one that no contact could have; the list was never pulled, nor the address ever seen here."""
        await world.person(email, "subscribe_form", list_id=world.other_list_id)
        await world.sql("delete from audiences where list_id = :list", list=world.other_list_id)

        done = await acts.erase(email=email.upper())

        assert await acts.at_mailchimp(email) == []
        assert await world.sandbox.forgotten(world.other_list_id, email) == [email]
        assert await acts.traces(email) == []
        assert states(done) == {"confirmed"}

    async def test_an_archived_one_is_erased_too(self, world: World, acts: Acts) -> None:
        await world.person(ADA, "subscribe_form")
        await world.sandbox.admin(world.list_id, ADA, "archive")
        await acts.erase(email=ADA)
        assert await acts.at_mailchimp(ADA) == []

    async def test_of_one_that_came_back_unseen_a_new_erasure_is_made(
        self, world: World, acts: Acts
    ) -> None:
        await world.person(ADA, "subscribe_form")
        first = await acts.erase(email=ADA)
        assert (await acts.ask(email=ADA)).id == first.id
        await world.person(ADA, "subscribe_form", list_id=world.other_list_id)
        second = await acts.erase(email=ADA)
        assert second.id != first.id
        assert await acts.at_mailchimp(ADA) == []

    async def test_nobody_is_called_unknown_while_mailchimp_cannot_be_asked(
        self, world: World, acts: Acts
    ) -> None:
        await world.person(ADA, "subscribe_form")
        await world.sandbox.revoke(world.api_key)
        with pytest.raises(UpstreamRefusedError):
            await acts.ask(email=ADA)
        await world.sandbox.rekey(world.api_key, world.api_key)
        await connection.disconnect(world.resources, world.actor)
        with pytest.raises(ConflictError) as error:
            await acts.ask(email=ADA)
        assert error.value.code == "not_connected"

    async def test_its_suppression_can_be_lifted(self, world: World, acts: Acts) -> None:
        odd = "a..b@acme.example"
        await world.person(odd, "subscribe_form")
        await acts.erase(email=odd)
        given = LiftInput.model_validate(
            {"email": odd, "source": "letter", "proof": {"evidence": "letter 7"},
             "consentGivenAt": world.now().isoformat()}
        )  # fmt: skip
        assert (await service.lift(world.resources, world.actor, given)).address
