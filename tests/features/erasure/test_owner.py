"""What an owner may do: give a target up, and let somebody come back for a new consent."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from mcsync.core.errors import BadRequestError, ConflictError, NotFoundError
from mcsync.features.audit import service as audit
from mcsync.features.connection import service as connection
from mcsync.features.erasure import service
from mcsync.features.erasure.schemas import CloseTargetInput, ErasureView, LiftInput, LiftView
from tests.features.erasure.acts import Acts
from tests.features.sync.world import World

ADA = "ada.lovelace@acme.example"


async def close(world: World, view: ErasureView, reason: str = "The account is gone.") -> Any:
    """Gives up the first open target."""
    target = next(t for t in view.targets if t.state == "open")
    return await service.close_target(
        world.resources,
        world.actor,
        CloseTargetInput.model_validate({"id": str(target.id), "reason": reason}),
    )


async def lift(world: World, *, after: timedelta = timedelta(0), **given: Any) -> LiftView:
    """A new consent, by default of just now."""
    body = {
        "source": "paper form", "consentGivenAt": (world.now() + after).isoformat(),
        "proof": {"form": "newsletter", "evidence": "box 7"},
    } | given  # fmt: skip
    return await service.lift(world.resources, world.actor, LiftInput.model_validate(body))


class TestClosingATarget:
    async def test_of_an_account_no_longer_connected_ends_it_and_says_so(
        self, world: World, acts: Acts
    ) -> None:
        person = await world.contact(ADA)
        await world.sync(await world.segment())
        await connection.disconnect(world.resources, world.actor)
        asked = await acts.ask(person)
        assert asked.open_targets

        closed = await close(world, asked)

        assert closed.open_targets == asked.open_targets - 1
        while closed.open_targets:
            closed = await close(world, closed)
        done = await acts.work(asked.id)
        assert done.status == "done"
        await acts.is_sound(done)
        assert done.receipt is not None
        for told in done.receipt["targets"]:
            assert told["outcome"] == "closed"
            assert told["readBack"] is None
            assert told["closed"]["reason"] == "The account is gone."
            assert told["closed"]["by"] == "cli"
        assert await acts.traces(ADA) == []

    async def test_is_refused_while_the_account_is_connected(
        self, world: World, acts: Acts
    ) -> None:
        asked = await acts.ask(await world.contact(ADA))
        with pytest.raises(ConflictError) as error:
            await close(world, asked)
        assert error.value.code == "account_connected"

    async def test_is_refused_with_a_reason_that_names_the_person(
        self, world: World, acts: Acts
    ) -> None:
        person = await world.contact(ADA)
        asked = await acts.ask(person)
        await connection.disconnect(world.resources, world.actor)
        for reason in (f"{ADA.upper()} is gone", f"{person} left us"):
            with pytest.raises(BadRequestError) as error:
                await close(world, asked, reason)
            assert error.value.code == "reason_names_person"
        await close(world, asked)
        with pytest.raises(ConflictError):
            await close(world, asked)  # the same target again


class TestLiftingASuppression:
    async def test_lets_entity_and_address_come_back(self, world: World, acts: Acts) -> None:
        person = await world.contact(ADA)
        segment = await world.segment()
        await world.sync(segment)
        await acts.erase(person)
        await world.wait(60)

        lifted = await lift(world, entityType="employee", entityId=person, email=ADA)

        assert (lifted.entity, lifted.address) == (True, True)
        result = await world.upsert(
            person, email=ADA, optStatus="opted_in", department="Sales",
            consentGivenAt=world.now().isoformat(),
        )  # fmt: skip
        assert result.created == 1
        # Mailchimp itself takes them back only through a form
        run = await world.sync(segment)
        assert [c.outcome_code for c in await world.changes(run, state="failed")] == ["forgotten"]
        entries = await world.sql(
            "select diff::text from audit_entries where action = 'suppression.lift'"
        )
        assert len(entries) == 1
        assert ADA not in entries[0][0]
        assert (await audit.verify(world.resources, world.org.id)).valid

    async def test_of_the_address_alone_keeps_the_entity_away(
        self, world: World, acts: Acts
    ) -> None:
        person = await world.contact(ADA)
        await acts.erase(person)
        await world.wait(60)
        lifted = await lift(world, email=ADA)
        assert (lifted.entity, lifted.address) == (False, True)
        result = await world.upsert(person, refused=True, email=ADA)
        assert [(r.field, r.code) for r in result.rejections] == [("entityId", "suppressed")]
        assert (await world.upsert("another", email=ADA)).created == 1

    async def test_lets_a_shared_address_be_wanted_again(self, world: World, acts: Acts) -> None:
        person = await world.contact(ADA)
        await world.contact(ADA)
        segment = await world.segment()
        await acts.erase(person)
        await world.sync(segment)
        assert await world.status(ADA) == "absent"
        await world.wait(60)
        await lift(world, email=ADA)
        await world.sync(segment)
        assert await world.status(ADA) == "subscribed"

    async def test_needs_a_consent_newer_than_the_erasure(self, world: World, acts: Acts) -> None:
        person = await world.contact(ADA)
        asked = await acts.ask(person)
        with pytest.raises(ConflictError) as error:
            await lift(world, email=ADA)
        assert error.value.code == "erasure_open"
        await acts.work(asked.id, times=3)
        with pytest.raises(ConflictError) as error:
            await lift(world, email=ADA, after=timedelta(hours=-1))
        assert error.value.code == "consent_not_newer"
        await world.wait(60)
        with pytest.raises(BadRequestError) as refused:
            await lift(world, email=ADA, after=timedelta(hours=1))
        assert refused.value.code == "invalid_consent_time"
        with pytest.raises(BadRequestError) as refused:
            await lift(world, email=ADA, proof={})
        assert refused.value.code == "proof_needed"
        with pytest.raises(BadRequestError) as refused:
            await lift(world)
        assert refused.value.code == "subject_needed"
        with pytest.raises(NotFoundError):
            await lift(world, email="nobody@acme.example")

    async def test_is_forgotten_with_the_next_erasure(self, world: World, acts: Acts) -> None:
        person = await world.contact(ADA)
        await acts.erase(person)
        await world.wait(60)
        await lift(
            world, entityType="employee", entityId=person, email=ADA,
            proof={"evidence": f"mail from {ADA}"},
        )  # fmt: skip
        await world.upsert(person, email=ADA)
        first = await acts.traces(ADA)
        assert [t for t in first if t.startswith("suppressions.lift")]

        await acts.erase(person)

        assert await acts.traces(ADA) == []
