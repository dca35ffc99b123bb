"""Values of merge fields: what cannot be read never wipes what is there, and is told."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import orjson
import pytest

from mcsync.core.auth import Actor, Role
from mcsync.core.auth.scopes import scopes_of
from mcsync.features.audiences import service as audiences
from mcsync.features.preferences import service as preferences
from mcsync.features.sync import explain, service
from mcsync.features.sync.schemas import PreviewInput, PreviewView
from tests.features.sync.world import World, counted

ADA = "ada@acme.example"
BOB = "bob@acme.example"


async def give(world: World, entity_id: str, **attributes: Any) -> None:
    """Changes attributes of a contact; the others stay."""
    await world.sql(
        """update contacts set attributes = attributes || cast(:given as jsonb), updated_at = now()
           where entity_id = :entity""",
        given=orjson.dumps(attributes).decode(), entity=entity_id,
    )  # fmt: skip


async def person(world: World, email: str, **attributes: Any) -> str:
    entity_id = await world.contact(email)
    await give(world, entity_id, **attributes)
    return entity_id


async def fields_of(world: World, email: str) -> dict[str, Any]:
    member = await world.member(email)
    assert member is not None
    return dict(member["mergeFields"])


async def preview(world: World, segment_id: Any, actor: Actor | None = None) -> PreviewView:
    wanted = PreviewInput.model_validate({"id": str(segment_id)})
    return await service.preview(world.resources, actor or world.actor, wanted)


KINDS = [
    ("date", {}, "2026-06-01", "2026-06-01", "31.02.2026", "not_a_date"),
    ("date", {}, "2026-06-01 08:00:00+02", "2026-06-01", "someday", "not_a_date"),
    ("birthday", {}, "12/31", "12/31", "31/12", "not_a_birthday"),
    ("number", {}, "12.5", 12.5, "12,5", "not_a_number"),
    ("dropdown", {"choices": ["Lisbon", "Porto"]}, " lisbon ", "Lisbon", "Rome", "unknown_choice"),
    ("radio", {"choices": ["Yes", "No"]}, "NO", "No", "perhaps", "unknown_choice"),
    ("phone", {"phone_format": "US"}, "555-123-4567", "(555) 123-4567", "+49 30 1", "not_a_phone"),
    ("zip", {}, "02134", "02134", "2134", "not_a_zip"),
    ("url", {}, "https://acme.test/a", "https://acme.test/a", "acme.test", "not_a_url"),
    ("text", {}, "short", "short", "x" * 256, "too_long"),
]


class TestUnreadable:
    @pytest.mark.parametrize(
        ("kind", "options", "good", "sent", "bad", "problem"),
        KINDS,
        ids=lambda each: str(each)[:12],
    )
    async def test_a_value_that_cannot_be_read_leaves_the_field_as_it_is_and_sends_the_others(
        self, world: World, kind: str, options: dict[str, Any], good: str, sent: Any, bad: str,
        problem: str,
    ) -> None:  # fmt: skip
        await world.make_field("X", kind, **options)
        await world.map_fields({"FNAME": "firstName", "x": "attributes.v"})
        entity = await person(world, ADA, v=good)
        segment = await world.segment()
        run = await world.sync(segment)
        assert (run.counts.unreadable_fields, run.unreadable_by_field) == (0, {})
        assert (await fields_of(world, ADA))["X"] == sent

        await give(world, entity, v=bad)
        await world.change(entity, first_name="Adele")
        run = await world.sync(segment)
        assert counted(run) == {"update": 1, "unreadable_fields": 1, "done": 1}
        assert run.unreadable_by_field == {"X": 1}
        (change,) = await world.changes(run, action="update")
        assert [(f.tag, f.problem) for f in change.unreadable_fields] == [("X", problem)]
        now = await fields_of(world, ADA)
        assert (now["X"], now["FNAME"]) == (sent, "Adele")

        # it goes on being told, though nothing is sent any more
        run = await world.sync(segment)
        assert counted(run) == {"unreadable_fields": 1}
        await world.nothing_left(segment)

        # really empty: cleared, though it was unreadable in between
        await give(world, entity, v="")
        run = await world.sync(segment)
        assert counted(run) == {"update": 1, "done": 1}
        assert (await fields_of(world, ADA))["X"] == ""

    async def test_a_new_member_is_added_without_the_field(self, world: World) -> None:
        await world.make_field("HIRED", "date")
        await world.map_fields({"HIRED": "attributes.hired", "FNAME": "firstName"})
        await person(world, ADA, hired="2026-02-30")
        run = await world.sync(await world.segment())
        assert counted(run) == {"add": 1, "unreadable_fields": 1, "done": 1}
        assert (await fields_of(world, ADA))["HIRED"] == ""
        assert (await fields_of(world, ADA))["FNAME"] != ""

    async def test_who_is_to_be_added_is_skipped_where_the_field_is_required(
        self, world: World
    ) -> None:
        await world.make_field("HIRED", "date")
        await world.require_field("HIRED")
        await world.map_fields({"hired": "attributes.hired", "FNAME": "firstName"})
        ada = await person(world, ADA, hired="soon")
        await person(world, BOB, hired="2026-01-01T00:00:00Z")
        segment = await world.segment()
        run = await world.sync(segment)
        assert counted(run) == {"add": 1, "unreadable_fields": 1, "done": 1}
        assert run.skipped_by_reason == {"unreadable_HIRED": 1}
        (skip,) = await world.changes(run, reason="unreadable_HIRED")
        assert (skip.email, skip.state, skip.refusal) == (ADA, "skipped", None)
        assert [f.problem for f in skip.unreadable_fields] == ["not_a_date"]
        told = await explain.explain(world.resources, world.actor, email=ADA)
        (found,) = [s for a in told.audiences for s in a.segments]
        assert (found.rule, found.action, found.reason) == (9, "skip", "unreadable_HIRED")
        assert "requires HIRED" in found.explanation
        run = await world.sync(segment)
        assert (counted(run), run.unreadable_by_field) == ({"unreadable_fields": 1}, {"HIRED": 1})

        await give(world, ada, hired="2026-01-02")
        assert counted(await world.sync(segment)) == {"add": 1, "done": 1}

        # who is there already is not left behind for it
        await give(world, ada, hired="later")
        await world.change(ada, first_name="Adele")
        run = await world.sync(segment)
        assert counted(run) == {"update": 1, "unreadable_fields": 1, "done": 1}
        assert (await fields_of(world, ADA))["HIRED"] == "2026-01-02"

    async def test_a_rename_of_the_address_keeps_the_value_and_lets_it_be_cleared_later(
        self, world: World
    ) -> None:
        await world.make_field("NUM", "number")
        await world.map_fields({"NUM": "attributes.n"})
        entity = await person(world, ADA, n="7")
        segment = await world.segment()
        await world.sync(segment)
        await give(world, entity, n="seven")
        await world.move(entity, BOB)
        assert counted(await world.sync(segment)) == {
            "rename": 1, "unreadable_fields": 1, "done": 1,
        }  # fmt: skip
        assert (await fields_of(world, BOB))["NUM"] == 7
        await give(world, entity, n=" ")
        await world.sync(segment)
        assert (await fields_of(world, BOB))["NUM"] == ""


class TestToldInAdvance:
    async def test_a_preview_counts_each_field_with_three_examples_and_no_address(
        self, world: World
    ) -> None:
        await world.make_field("SITE", "dropdown", choices=["Lisbon"])
        await world.make_field("HIRED", "date")
        await world.map_fields({"SITE": "attributes.site", "HIRED": "attributes.hired"})
        for number in range(5):
            await person(world, f"p{number}@acme.example", site="Rome", hired="2026-01-01")
        await person(world, ADA, site="LISBON", hired="ada@acme.example")
        await person(world, BOB, site="Lisbon", hired="")
        await world.contact("left@acme.example", opted="out")
        found = await preview(world, await world.segment())
        assert found.counts.unreadable_fields == 6
        hired, site = found.unreadable_fields
        assert (hired.tag, hired.problem, hired.count) == ("HIRED", "not_a_date", 1)
        assert hired.examples[0].value is None  # it looks like an address
        assert (site.tag, site.problem, site.count) == ("SITE", "unknown_choice", 5)
        assert [example.value for example in site.examples] == ["Rome"] * 3
        assert len({example.entity_id for example in site.examples}) == 3
        assert "@" not in orjson.dumps([f.model_dump() for f in found.unreadable_fields]).decode()

    async def test_values_are_not_shown_to_who_may_not_read_contacts(self, world: World) -> None:
        await world.make_field("HIRED", "date")
        await world.map_fields({"HIRED": "attributes.hired"})
        await person(world, ADA, hired="soon")
        segment = await world.segment()
        scopes = frozenset(s for s in scopes_of(Role.VIEWER) if s != "contacts:read")
        blind = replace(world.actor, scopes=scopes)
        (field,) = (await preview(world, segment, blind)).unreadable_fields
        assert [(e.problem, e.value) for e in field.examples] == [("not_a_date", None)]

    async def test_explain_tells_what_is_not_sent_and_why(self, world: World) -> None:
        await world.make_field("NUM", "number")
        await world.map_fields({"NUM": "attributes.n"})
        await person(world, ADA, n="1.234,56")
        await world.sync(await world.segment())
        told = await explain.explain(world.resources, world.actor, email=ADA)
        (found,) = [s for a in told.audiences for s in a.segments]
        assert [(f.tag, f.problem) for f in found.unreadable_fields] == [("NUM", "not_a_number")]
        assert "NUM (it is no number of the format expected)" in found.explanation


class TestFormats:
    @pytest.mark.parametrize(
        ("kind", "value_format", "value", "sent"),
        [
            ("date", "DD.MM.YYYY", "31.12.2026", "2026-12-31"),
            ("date", "DD/MM/YYYY", "05/06/2026 07:30", "2026-06-05"),
            ("birthday", "DD/MM", "31/12", "12/31"),
            ("birthday", "DD.MM.YYYY", "9.1.1990", "01/09"),
            ("number", "1.234,56", "1.234,5", 1234.5),
        ],
    )
    async def test_a_map_may_name_the_format_of_its_values(
        self, world: World, kind: str, value_format: str, value: str, sent: Any
    ) -> None:
        await world.make_field("X", kind)
        entry = {"from": "attributes.v", "format": value_format}
        await audiences.set_merge_fields(
            world.resources, world.actor, world.list_id, {"x": entry, "FNAME": "firstName"}
        )
        await person(world, ADA, v=value)
        run = await world.sync(await world.segment())
        assert counted(run) == {"add": 1, "done": 1}
        assert (await fields_of(world, ADA))["X"] == sent

    async def test_an_unchanged_plain_map_sends_nothing_again_beside_one_with_a_format(
        self, world: World
    ) -> None:
        await world.make_field("X", "date")
        await world.map_fields({"X": "attributes.v"})
        await person(world, ADA, v="2026-06-01")
        segment = await world.segment()
        await world.sync(segment)
        entry = {"from": "attributes.v", "format": "YYYY-MM-DD"}
        await audiences.set_merge_fields(world.resources, world.actor, world.list_id, {"X": entry})
        assert counted(await world.sync(segment)) == {}


async def test_an_opt_in_that_is_carried_out_at_once_tells_the_same(world: World) -> None:
    await world.make_field("HIRED", "date")
    await world.map_fields({"HIRED": "attributes.hired"})
    await world.sync(await world.segment())
    entity = await world.contact(ADA, opted=None)
    await give(world, entity, hired="soon")
    async with world.resources.db.transaction(world.org.id) as session:
        await preferences.record(
            session, world.actor, entity_type="employee", entity_id=entity, status="opted_in",
            effective_at=None, source="console", proof={}, jobs=world.resources.jobs,
        )  # fmt: skip
    assert await world.live()
    assert await world.status(ADA) == "subscribed"
    (row,) = await world.sql("select id from sync_runs where immediate")
    run = await service.get(world.resources, world.actor, row.id)
    assert (run.counts.unreadable_fields, run.unreadable_by_field) == (1, {"HIRED": 1})
    (change,) = await world.changes(run)
    assert [field.problem for field in change.unreadable_fields] == ["not_a_date"]
