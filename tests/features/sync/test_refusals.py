"""What follows when Mailchimp refuses somebody in one of the ways that were recorded (MC 21)."""

from __future__ import annotations

from typing import Any

import pytest

from tests.features.sync.conftest import Between, Configure
from tests.features.sync.test_pull import consent
from tests.features.sync.test_push import refusals
from tests.features.sync.world import World, counted
from tests.support.rewriting import rewrite_answers

ADA = "ada@acme.example"
BEN = "ben@acme.example"


def bulk_error(world: World, words: str) -> None:
    """Mailchimp gives another reason for the rows of a bulk call that the sandbox refuses."""

    def change(found: dict[str, Any]) -> None:
        if "error_code" in found:
            found |= {"error": words, "error_code": "ERROR_GENERIC"}
            found["email_address"] = f'"{found["email_address"]}"'

    rewrite_answers(world.resources.http, change)


class TestWhoIsThereAlready:
    @pytest.mark.parametrize(
        "words",
        [
            '"ada@acme.example" is already in this list with a status of "Unsubscribed".',
            'This member\'s status is "unsubscribed."',
            "ada@acme.example has previously unsubscribed from this list and must opt in again.",
        ],
    )
    async def test_is_read_and_not_added_again(
        self, world: World, configure: Configure, before_push: Between, words: str
    ) -> None:
        await configure(requireStatus=True)
        bulk_error(world, words)
        person = await world.contact(ADA)
        await world.contact(BEN)
        segment = await world.segment()

        async def come_and_go() -> None:
            await world.person(ADA, "subscribe_form")
            await world.person(ADA, "unsubscribe")

        before_push(come_and_go)
        run = await world.sync(segment)

        assert counted(run) == {"add": 2, "done": 1, "failed": 1}
        assert await refusals(world, run) == ["unsubscribed"]
        assert await consent(world, person) == ("opted_out", "mailchimp")
        since = await world.sandbox.seq()
        assert counted(await world.sync(segment)) == {}
        assert await world.writes(since) == []
        assert await world.status(ADA) == "unsubscribed"

    @pytest.mark.parametrize(
        ("words", "code"),
        [
            ('"ada@acme.example" is already in this list with a status of "Deleted".', "exists"),
            (
                (
                    "ada@acme.example was previously removed from this audience. To rejoin, they'll need to"
                    " sign up using a Mailchimp form."
                ),
                "forgotten",
            ),
        ],
    )
    async def test_and_nobody_finds_is_not_sent_again(
        self, world: World, words: str, code: str
    ) -> None:
        await world.person(ADA, "subscribe_form")
        await world.admin(ADA, "delete_permanent")
        bulk_error(world, words)
        await world.contact(ADA)
        segment = await world.segment()

        run = await world.sync(segment)

        assert await refusals(world, run) == [code]
        since = await world.sandbox.seq()
        run = await world.sync(segment)
        assert run.skipped_by_reason == {f"refused_{code}": 1}
        assert await world.writes(since) == []


class TestAnAddressChangedToOneThatIsListed:
    @pytest.fixture(autouse=True)
    def _recorded(self, world: World) -> None:
        def change(found: dict[str, Any]) -> None:
            if found.get("title") != "Member Exists":
                return
            message = f'"{ADA}" is already in this list with a status of "Unsubscribed".'
            found |= {
                "title": "Invalid Resource",
                "detail": "The resource submitted could not be validated. For field-specific details,"
                " see the 'errors' array.",
                "errors": [{"field": "email address", "message": message}],
            }

        rewrite_answers(world.resources.http, change)

    async def test_reads_who_is_there_and_names_no_merge_field(
        self, world: World, before_push: Between
    ) -> None:
        person = await world.contact("old@acme.example")
        segment = await world.segment()
        await world.sync(segment)
        await world.move(person, ADA)

        async def come_and_go() -> None:
            await world.person(ADA, "subscribe_form")
            await world.person(ADA, "unsubscribe")

        before_push(come_and_go)
        since = await world.sandbox.seq()
        await world.sync(segment)

        kept = await world.sql("select code, field, message from audience_refusals")
        assert [(one.code, one.field) for one in kept] == [("rename_refused", None)]
        assert ADA not in kept[0].message
        writes = await world.writes(since)
        assert [write.partition(" ")[0] for write in writes] == ["PATCH"], (
            "it was not added instead"
        )
        assert await world.status(ADA) == "unsubscribed"


async def test_an_account_that_refuses_bad_rows_one_by_one_is_no_old_account(
    world: World, configure: Configure
) -> None:
    """One bad row of several, refused with the same words as rows without a status would be."""
    await configure(schemaErrorsPerRow=True)
    await world.contact(ADA)
    await world.contact(BEN)

    def change(found: dict[str, Any]) -> None:
        members = [m for m in found.get("new_members", []) if m["email_address"] == BEN]
        if members:
            found["new_members"].remove(members[0])
            error = "The resource submitted could not be validated."
            found["errors"].append(
                {"email_address": BEN, "error": error, "error_code": "ERROR_GENERIC"}
            )

    rewrite_answers(world.resources.http, change)

    run = await world.sync(await world.segment())

    assert await refusals(world, run) == ["other"]
    rows = await world.sql("select requires_status from audiences where requires_status")
    assert rows == []
