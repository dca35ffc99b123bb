"""preferences.history: everything ever stated, of a contact or under an address."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import asyncpg
import pytest

from mcsync.core.auth import Actor
from mcsync.core.errors import ConflictError
from mcsync.core.resources import Resources
from mcsync.features.preferences import by_address
from tests.features.contacts.callers import PERSON, Caller
from tests.features.preferences.test_preferences import OTHER, WHO, days_ago
from tests.support.organisations import Org

EMAIL = PERSON["email"]
PROOF = {"form": "/newsletter", "wordingVersion": "2026-03", "ipAddress": "192.0.2.7"}


class Address:
    """What is said of an address alone."""

    def __init__(self, resources: Resources, org: Org, email: str = EMAIL) -> None:
        self.resources, self.org, self.email = resources, org, email

    async def leaves(self, *, source: str = "telephone", **proof: str) -> None:
        """As of now."""
        async with self.resources.db.transaction(self.org.id) as session:
            await by_address.withdraw(
                session, Actor.cli(self.org.id, "op"), await self._address(session), source=source,
                proof=proof, jobs=self.resources.jobs,
            )  # fmt: skip

    async def joins(self, at: str, *, source: str = "newsletter", **proof: str) -> None:
        """With a time."""
        async with self.resources.db.transaction(self.org.id) as session:
            await by_address.opt_in(
                session, Actor.cli(self.org.id, "op"), await self._address(session),
                at=datetime.fromisoformat(at), source=source, proof=proof, jobs=self.resources.jobs,
            )  # fmt: skip

    async def _address(self, session: Any) -> by_address.Address:
        return await by_address.address_of(session, self.resources.hash_keys, self.email)


@pytest.fixture
def address(resources: Resources, organisation: Org) -> Address:
    """The address that PERSON would have."""
    return Address(resources, organisation)


async def told(caller: Caller, **given: Any) -> list[dict[str, Any]]:
    """The history, newest first."""
    answer = await caller.query("preferences.history", **given)
    assert answer.status_code == 200, answer.text
    items: list[dict[str, Any]] = answer.json()["items"]
    return items


def brief(items: list[dict[str, Any]]) -> list[tuple[str | None, str, str]]:
    """(entityId, status, source) of each."""
    return [(item["entityId"], item["status"], item["source"]) for item in items]


class TestWhoIsMeant:
    async def test_anonymous_is_refused(self, anyone: Caller) -> None:
        assert (await anyone.query("preferences.history", email=EMAIL)).status_code == 401

    async def test_a_stranger_finds_nothing(
        self, stranger: Caller, editor: Caller, address: Address
    ) -> None:
        await editor.upserted(PERSON)
        await address.leaves()
        for given in (WHO, {"email": EMAIL}):
            answer = await stranger.query("preferences.history", **given)
            assert (answer.status_code, answer.json()["code"]) == (404, "contact_not_found")

    @pytest.mark.parametrize(
        "given", [{}, WHO | {"email": EMAIL}, {"entityType": "employee"}, {"entityId": "E-1"}]
    )
    async def test_nobody_or_two_at_once_is_refused(
        self, viewer: Caller, given: dict[str, str]
    ) -> None:
        answer = await viewer.query("preferences.history", **given)
        assert (answer.status_code, answer.json()["code"]) == (400, "subject_needed")

    async def test_what_cannot_be_an_address_is_refused(self, viewer: Caller) -> None:
        answer = await viewer.query("preferences.history", email="ada@nowhere@example")
        assert (answer.status_code, answer.json()["code"]) == (400, "invalid_email")
        assert "nowhere" not in answer.text

    async def test_of_an_address_nobody_knows_it_is_not_found(self, viewer: Caller) -> None:
        answer = await viewer.query("preferences.history", email=EMAIL)
        assert (answer.status_code, answer.json()["code"]) == (404, "contact_not_found")

    async def test_of_a_contact_about_whom_nothing_was_said_it_is_empty(
        self, viewer: Caller, editor: Caller
    ) -> None:
        await editor.upserted(PERSON)
        assert await told(viewer, email=EMAIL) == []
        assert await told(viewer, **WHO) == []


class TestOfAnAddressThatNoContactHas:
    async def test_every_statement_is_kept_with_its_proof_and_without_the_address(
        self, viewer: Caller, address: Address, onlooker: asyncpg.Connection
    ) -> None:
        given = days_ago(3)
        await address.joins(given, **PROOF)
        await address.leaves(evidence="call 4711")
        await address.leaves(source="letter")

        letter, call, newsletter = await told(viewer, email=f" {EMAIL.upper()}")

        assert brief([letter, call, newsletter]) == [
            (None, "opted_out", "letter"),
            (None, "opted_out", "telephone"),
            (None, "opted_in", "newsletter"),
        ]
        assert datetime.fromisoformat(newsletter["effectiveAt"]) == datetime.fromisoformat(given)
        assert (newsletter["proof"], call["proof"]) == (PROOF, {"evidence": "call 4711"})
        assert (call["entityType"], call["applied"], call["reason"]) == (None, True, None)
        assert call["actorKind"] == "cli"
        assert newsletter["effectiveAt"] < call["effectiveAt"] < letter["effectiveAt"]
        stored = await onlooker.fetchval("select string_agg(e::text, ' ') from preference_events e")
        assert EMAIL not in stored
        held = await onlooker.fetchval("select withdrawn_at from address_consents")
        assert datetime.fromisoformat(letter["effectiveAt"]) == held

    async def test_the_same_opt_in_twice_is_one_and_an_older_one_is_only_remembered(
        self, viewer: Caller, address: Address
    ) -> None:
        given = days_ago(3)
        await address.joins(given, **PROOF)
        await address.joins(given, **PROOF)
        await address.joins(days_ago(9), source="letter")
        older, first = await told(viewer, email=EMAIL)
        assert (first["source"], first["applied"]) == ("newsletter", True)
        assert (older["source"], older["applied"]) == ("letter", False)
        assert older["reason"] == "already_opted_in"

    async def test_an_opt_in_that_is_refused_leaves_nothing(
        self, viewer: Caller, address: Address
    ) -> None:
        await address.leaves()
        with pytest.raises(ConflictError):
            await address.joins(days_ago(1))
        await address.joins(datetime.now(UTC).isoformat())
        assert [item["status"] for item in await told(viewer, email=EMAIL)] == [
            "opted_in",
            "opted_out",
        ]

    async def test_it_comes_in_pages(self, viewer: Caller, address: Address) -> None:
        for source in "abcde":
            await address.leaves(source=source)
        seen, cursor = "", None
        while True:
            given = {"email": EMAIL, "limit": 2} | ({"cursor": cursor} if cursor else {})
            page = (await viewer.query("preferences.history", **given)).json()
            seen += "".join(item["source"] for item in page["items"])
            cursor = page["nextCursor"]
            if cursor is None:
                break
        assert seen == "edcba"


class TestOfAnAddressThatContactsHave:
    async def test_what_was_said_before_and_of_each_of_them_is_all_there(
        self, viewer: Caller, editor: Caller, address: Address
    ) -> None:
        await address.joins(days_ago(3))
        await editor.upserted(PERSON, OTHER)
        await editor.says("opted_in", source="intranet", consentGivenAt=days_ago(2))
        await editor.says("opted_out", "E-2", source="desk")
        assert brief(await told(viewer, email=EMAIL)) == [
            ("E-2", "opted_out", "desk"),
            ("E-1", "opted_in", "intranet"),
            (None, "opted_in", "newsletter"),
        ]
        (own,) = await told(viewer, **WHO)
        assert (own["entityType"], own["entityId"], own["source"]) == (
            "employee", "E-1", "intranet",
        )  # fmt: skip

    async def test_a_statement_of_the_address_is_one_of_each_contact_and_no_more(
        self, viewer: Caller, editor: Caller, address: Address
    ) -> None:
        await editor.upserted(PERSON, OTHER)
        await address.joins(days_ago(1), **PROOF)
        await address.leaves()
        assert sorted(brief(await told(viewer, email=EMAIL))) == [
            ("E-1", "opted_in", "newsletter"),
            ("E-1", "opted_out", "telephone"),
            ("E-2", "opted_in", "newsletter"),
            ("E-2", "opted_out", "telephone"),
        ]

    async def test_what_a_contact_said_stays_under_the_address_it_had_then(
        self, viewer: Caller, editor: Caller
    ) -> None:
        await editor.upserted(PERSON)
        await editor.says("opted_in", source="intranet")
        await editor.upserted(PERSON | {"email": "new@nordlicht-werke.example"})
        await editor.says("opted_out", source="desk")
        assert brief(await told(viewer, email=EMAIL)) == [("E-1", "opted_in", "intranet")]
        assert brief(await told(viewer, email="new@nordlicht-werke.example")) == [
            ("E-1", "opted_out", "desk")
        ]
