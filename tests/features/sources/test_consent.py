"""Consent that comes with a source's rows, whatever else is wrong with them."""

from __future__ import annotations

import pytest

from mcsync.core.errors import BadRequestError
from tests.features.sources.world import World

TABLE = (
    "create table consent (seq integer, kind varchar(20), id varchar(20), mail varchar(200),"
    " status varchar(40), given varchar(40))"
)
QUERY = "select * from consent order by seq"
COLUMNS = {
    "entityType": "kind", "entityId": "id", "email": "mail", "optStatus": "status",
    "consentGivenAt": "given",
}  # fmt: skip
DATED = "2026-06-01 13:40:00"
"""In Berlin: 11:40 UTC."""


async def rows(world: World, *given: tuple[str, ...]) -> None:
    await world.home.run("delete from consent")
    for seq, row in enumerate(given):
        cells = ", ".join(f"'{cell}'" for cell in row)
        await world.home.run(f"insert into consent values ({seq}, {cells})")


async def standing(world: World) -> dict[str, str]:
    found = await world.onlooker.fetch(
        "select entity_id, status from email_preferences where org_id = $1", world.org.id
    )
    return {row["entity_id"]: row["status"] for row in found}


@pytest.fixture
async def source(world: World) -> World:
    """A source of statements of consent."""
    await world.home.run(TABLE)
    await rows(
        world,
        ("employee", "1", "p1@nordlicht.example", "opted_in", "2026-01-01T00:00:00Z"),
        ("employee", "2", "p2@nordlicht.example", "opted_in", "2026-01-01T00:00:00Z"),
    )
    await world.source(query=QUERY, columns=COLUMNS, constants={})
    await world.pulled()
    assert await standing(world) == {"1": "opted_in", "2": "opted_in"}
    return world


async def test_an_opt_out_counts_in_a_refused_row(source: World) -> None:
    await rows(
        source,
        ("robot", "1", "p1@nordlicht.example", "Unsubscribed", ""),
        ("employee", "2", "broken", "false", "nonsense"),
    )
    report = await source.pulled()
    assert (report["rejected"], report["opted_out"]) == (1, 2)
    assert await standing(source) == {"1": "opted_out", "2": "opted_out"}


async def test_repeated_it_does_not_withdraw_what_was_given_since(source: World) -> None:
    out = ("employee", "1", "p1@nordlicht.example", "opted_out", "")
    await rows(source, out)
    await source.pulled()
    assert (await standing(source))["1"] == "opted_out"
    await source.onlooker.execute(
        "update email_preferences set status = 'opted_in', consent_given_at = now() where entity_id = '1'"
    )
    await source.pulled()
    assert (await standing(source))["1"] == "opted_in"
    await rows(source, (*out[:3], "", ""))
    await source.pulled()
    await rows(source, out)
    await source.pulled()
    assert (await standing(source))["1"] == "opted_out"


@pytest.mark.parametrize(("zone", "status"), [(None, "opted_out"), ("Europe/Berlin", "opted_in")])
async def test_a_time_without_a_zone(world: World, zone: str | None, status: str) -> None:
    await world.home.run(TABLE)
    await rows(world, ("employee", "1", "p1@nordlicht.example", "opted_out", ""))
    await world.source(query=QUERY, columns=COLUMNS, constants={}, time_zone=zone)
    await world.pulled()
    for table in ("email_preferences", "address_consents"):
        column = "consent_withdrawn_at" if table == "email_preferences" else "withdrawn_at"
        await world.onlooker.execute(f"update {table} set {column} = '2026-06-01T11:39:00Z'")
    await rows(world, ("employee", "1", "p1@nordlicht.example", "opted_in", DATED))
    report = await world.pulled()
    assert (await standing(world))["1"] == status
    assert report["opt_in_not_newer"] == (status == "opted_out")


async def test_an_unknown_zone_is_refused(world: World) -> None:
    with pytest.raises(BadRequestError) as error:
        await world.source(time_zone="Europe/Atlantis")
    assert error.value.code == "unknown_time_zone"
