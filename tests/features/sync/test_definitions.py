"""Mailchimp's own definitions of merge fields change, and mcsync follows."""

from __future__ import annotations

from typing import Any
from uuid import UUID

import pytest

from mcsync.cli.doctor import examine
from mcsync.features.audiences import service as audiences
from mcsync.features.segments import service as segments
from tests.features.sync.test_fields import fields_of, give, person
from tests.features.sync.world import World, counted

ADA = "ada@acme.example"
BOB = "bob@acme.example"


async def segment_warnings(world: World, segment_id: UUID) -> list[str]:
    view = await segments.get(world.resources, world.actor, segment_id)
    assert (view.status, view.status_code) == ("synced", None)
    return [warning.code for warning in view.warnings]


class TestRefusals:
    async def test_a_field_that_is_not_required_any_more_lets_the_refused_in(
        self, world: World
    ) -> None:
        await world.make_field("BADGE", "text")
        await world.require_field("BADGE")
        await world.map_fields({"BADGE": "attributes.badge"})
        await person(world, ADA, badge="")
        segment = await world.segment()
        run = await world.sync(segment)
        assert counted(run) == {"add": 1, "failed": 1}
        assert (await world.sync(segment)).skipped_by_reason == {
            "refused_required_field_missing": 1
        }
        await world.change_field("BADGE", required=False)
        assert counted(await world.sync(segment)) == {"add": 1, "done": 1}

    @pytest.mark.parametrize("field", ["badge", "merge_fields.BADGE", "BADGE", "", None])
    async def test_refusals_about_the_field_are_forgotten_however_it_is_spelled(
        self, world: World, field: str | None
    ) -> None:
        await world.make_field("BADGE", "dropdown", choices=["a"])
        await person(world, ADA)
        await person(world, BOB)
        segment = await world.segment()
        await world.sync(segment)
        await world.sql(
            """insert into audience_refusals (org_id, audience_id, address_hash, code, message, field)
               select org_id, audience_id, address_hash, 'invalid_value', '',
                      case when email = :ada then cast(:field as text) else 'OTHER' end
               from audience_members where email in (:ada, :bob)""",
            ada=ADA, bob=BOB, field=field,
        )  # fmt: skip
        await world.change_field("BADGE", options={"choices": ["a", "b"]})
        await world.sync(segment)
        left = await world.sql("select field from audience_refusals")
        assert [row.field for row in left] == ["OTHER"]

    async def test_other_refusals_and_an_unchanged_audience_stay_as_they_are(
        self, world: World
    ) -> None:
        await world.make_field("BADGE", "text")
        await person(world, ADA)
        segment = await world.segment()
        await world.sync(segment)
        await world.sql(
            """insert into audience_refusals (org_id, audience_id, address_hash, code, message, field)
               select org_id, audience_id, address_hash, 'other', '', null from audience_members"""
        )
        before = await world.sql("select definition_xid from audiences order by list_id")
        await world.change_field("BADGE", name="The badge")
        await world.sync(segment)
        assert await world.sql("select definition_xid from audiences order by list_id") == before
        await world.change_field("BADGE", required=True)
        await world.sync(segment)
        assert len(await world.sql("select code from audience_refusals")) == 1


class TestQuietMembers:
    @pytest.mark.parametrize(
        ("kind", "options", "value", "change", "sent"),
        [
            ("dropdown", {"choices": ["Lisbon"]}, "rome", {"options": {"choices": ["Rome"]}}, "Rome"),
            ("radio", {"choices": ["rome"]}, "ROME", {"options": {"choices": ["ROME"]}}, "ROME"),
            (
                "phone", {"phone_format": "US"}, "+49 30 123456",
                {"options": {"phone_format": "International"}}, "+49 30 123456",
            ),
        ],
    )  # fmt: skip
    async def test_members_without_a_change_are_planned_again(
        self, world: World, kind: str, options: dict[str, Any], value: str,
        change: dict[str, Any], sent: str,
    ) -> None:  # fmt: skip
        await world.make_field("X", kind, **options)
        await world.map_fields({"X": "attributes.v"})
        await person(world, ADA, v=value)
        segment = await world.segment()
        await world.sync(segment)
        assert (await fields_of(world, ADA))["X"] != sent
        await world.change_field("X", **change)
        assert counted(await world.sync(segment)) == {"update": 1, "done": 1}
        assert (await fields_of(world, ADA))["X"] == sent
        assert counted(await world.sync(segment)) == {}


class TestRenamed:
    async def test_a_stored_map_follows_the_field_and_can_still_clear_it(
        self, world: World
    ) -> None:
        await world.make_field("HIRED", "date")
        await audiences.set_merge_fields(
            world.resources, world.actor, world.list_id,
            {"HIRED": {"from": "attributes.hired", "format": "DD.MM.YYYY"}, "FNAME": "firstName"},
        )  # fmt: skip
        ada = await person(world, ADA, hired="01.06.2026")
        bob = await person(world, BOB, hired="02.06.2026")
        segment = await world.segment()
        await world.sync(segment)
        await world.change_field("HIRED", tag="STARTED")
        await give(world, ada, hired="03.06.2026")
        await give(world, bob, hired="")
        await world.sync(segment)
        assert (await fields_of(world, ADA))["STARTED"] == "2026-06-03"
        assert (await fields_of(world, BOB))["STARTED"] == ""
        view = await audiences.get(world.resources, world.actor, world.list_id)
        assert (view.unknown_tags, sorted(view.map)) == ([], ["FNAME", "STARTED"])
        assert await segment_warnings(world, segment) == []

    async def test_two_fields_that_change_places_keep_their_values(self, world: World) -> None:
        await world.make_field("AAA", "text")
        await world.make_field("BBB", "number")
        await world.map_fields({"AAA": "department", "BBB": "attributes.n"})
        await person(world, ADA, n="7")
        segment = await world.segment()
        await world.sync(segment)
        await world.change_field("AAA", tag="TMP")
        await world.change_field("BBB", tag="AAA")
        await world.change_field("TMP", tag="BBB")
        run = await world.sync(segment)
        assert run.unreadable_by_field == {}
        now = await fields_of(world, ADA)
        assert (now["AAA"], now["BBB"]) == (7, "Sales")

    async def test_a_proposal_goes_on_feeding_a_field_whose_words_it_no_longer_knows(
        self, world: World
    ) -> None:
        ada = await person(world, ADA)
        segment = await world.segment()
        await world.sync(segment)
        await world.change_field("FNAME", tag="VORNAME", name="Vorname")
        await world.change(ada, first_name="Adele")
        await world.sync(segment)
        assert (await fields_of(world, ADA))["VORNAME"] == "Adele"


class TestDeleted:
    async def test_it_shows_on_the_segment_and_the_run_and_the_rest_goes_on(
        self, world: World
    ) -> None:
        await world.make_field("HIRED", "date")
        await world.map_fields({"HIRED": "attributes.hired", "FNAME": "firstName"})
        ada = await person(world, ADA, hired="2026-06-01")
        segment = await world.segment()
        assert (await world.sync(segment)).warnings == []
        await world.delete_field("HIRED")
        await world.change(ada, first_name="Adele")
        run = await world.sync(segment)
        assert run.status == "succeeded"
        assert [warning.code for warning in run.warnings] == ["merge_field_gone"]
        assert "HIRED" in run.warnings[0].message
        assert (await fields_of(world, ADA))["FNAME"] == "Adele"
        assert await segment_warnings(world, segment) == ["merge_field_gone"]
        told = await audiences.audience_warnings(world.resources, world.org.id)
        assert [warning.code for warning in told] == ["merge_field_gone"]
        found = [f for f in await examine(world.resources.settings) if "HIRED" in f.detail]
        assert [(f.state, f.check.startswith("Audiences of")) for f in found] == [("warning", True)]
        view = await audiences.get(world.resources, world.actor, world.list_id)
        assert view.unknown_tags == ["HIRED"]

        # made again, it is fed again
        await world.make_field("HIRED", "date")
        assert (await world.sync(segment)).warnings == []
        assert (await fields_of(world, ADA))["HIRED"] == "2026-06-01"
        assert await segment_warnings(world, segment) == []

    async def test_a_field_that_only_a_proposal_fed_is_missed_too_until_a_map_is_set(
        self, world: World
    ) -> None:
        await person(world, ADA)
        segment = await world.segment()
        await world.sync(segment)
        await world.delete_field("LNAME")
        run = await world.sync(segment)
        assert [warning.code for warning in run.warnings] == ["merge_field_gone"]
        await world.map_fields({"FNAME": "firstName"})
        assert (await world.sync(segment)).warnings == []
