"""The right of access: every store shows what it holds, and is then empty."""

from __future__ import annotations

import pytest

from mcsync.core.errors import NotFoundError
from mcsync.features.erasure import service
from mcsync.features.erasure.schemas import ErasureInput, ExportView
from mcsync.features.erasure.stores import STORES
from tests.features.erasure.acts import Acts
from tests.features.sync.world import World

ADA = "ada.lovelace@acme.example"
NAME = "Lovelacia"


async def export(
    world: World, entity_id: str | None = None, email: str | None = None
) -> ExportView:
    """Everything held of somebody."""
    given = {"email": email} if email else {"entityType": "employee", "entityId": entity_id}
    return await service.export(world.resources, world.actor, ErasureInput.model_validate(given))


class TestEverythingHeld:
    async def test_is_shown_store_by_store(self, world: World, acts: Acts) -> None:
        person = await world.contact("old@acme.example", last_name=NAME)
        segment = await world.segment()
        await world.sync(segment)
        await world.move(person, ADA)
        await world.opt(person, "out", source="letter")
        await world.sync(segment)

        shown = await export(world, person)

        rows = {store.store: store.rows for store in shown.stores}
        assert set(rows) == {s.name for s in STORES if s.held}
        assert set(shown.addresses) == {ADA, "old@acme.example"}
        (contact,) = rows["contacts"]
        assert (contact["email"], contact["lastName"]) == (ADA, NAME)
        assert [r["email"] for r in rows["former_addresses"]] == ["old@acme.example"]
        # the last is of the old address, which is left behind at Mailchimp and withdrawn as well
        assert [(r["entityId"], r["status"]) for r in rows["preference_history"]] == [
            (person, "opted_in"), (person, "opted_out"), (None, "opted_out"),
        ]  # fmt: skip
        assert rows["preferences"][0]["source"] == "letter"
        assert {r["audience"] for r in rows["mirror"]} == {world.list_id}
        for name in ("sync_changes", "calls", "segment_skips", "orders", "address_consents"):
            assert rows[name], name

        await acts.erase(person)

        with pytest.raises(NotFoundError):
            await export(world, person)
        # by the address: what is kept of it under a keyed hash, times without a name
        kept = await export(world, email=ADA)
        rows = {store.store: store.rows for store in kept.stores if store.rows}
        assert set(rows) == {"address_consents", "suppressions"}
        assert ADA not in str(rows)

    async def test_is_found_by_address(self, world: World) -> None:
        person = await world.contact(ADA)
        assert (await export(world, email=ADA.upper())).entity_id == person

    async def test_of_nobody_is_not_found(self, world: World) -> None:
        with pytest.raises(NotFoundError):
            await export(world, "nobody")
