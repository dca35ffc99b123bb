"""The procedures that keep segments, against PostgreSQL and the sandbox."""

from __future__ import annotations

import asyncio
from typing import Any, ClassVar
from uuid import uuid4

import asyncpg
from sqlalchemy import text

from mcsync.core.resources import Resources
from mcsync.features.segments.filters import compile_filters
from tests.conftest import MakeContacts
from tests.features.connection.bench import Caller, LeaveCalls, audit_actions
from tests.support.organisations import Org
from tests.support.sandbox import ALL_STAFF, SUPPLIERS, SandboxControl

OTHER_KEY = "ccccddddeeeeffff0000111122223333-us4"
MINIMAL = {"name": "Everyone", "segmentType": "mixed", "audienceId": ALL_STAFF}


async def made(caller: Caller, **given: Any) -> dict[str, Any]:
    answer = await caller.mutate("segments.create", body=MINIMAL | given)
    assert answer.status_code == 200, answer.text
    body: dict[str, Any] = answer.json()
    return body


async def touched(onlooker: asyncpg.Connection) -> dict[str, int]:
    """How far the definition of each audience has moved."""
    rows = await onlooker.fetch("select list_id, definition_xid from audiences")
    return {row["list_id"]: row["definition_xid"] for row in rows}


class TestCreate:
    async def test_anonymous_is_refused(self, anyone: Caller) -> None:
        assert (await anyone.mutate("segments.create", body=MINIMAL)).status_code == 401

    async def test_a_viewer_may_not(self, viewer: Caller) -> None:
        assert (await viewer.mutate("segments.create", body=MINIMAL)).status_code == 403

    async def test_the_audience_of_another_account_is_not_found(
        self, connected: Caller, stranger: Caller, mailchimp: SandboxControl
    ) -> None:
        await mailchimp.open_account(OTHER_KEY, lists=["Theirs"])
        await stranger.mutate("connection.connect", apiKey=OTHER_KEY)
        await made(connected)
        answer = await stranger.mutate("segments.create", body=MINIMAL)
        assert answer.status_code == 404
        assert answer.json()["code"] == "audience_not_found"
        assert answer.json()["errors"][0]["pointer"] == "/audienceId"

    async def test_without_a_connection_it_is_a_conflict(self, editor: Caller) -> None:
        answer = await editor.mutate("segments.create", body=MINIMAL)
        assert answer.json()["code"] == "not_connected"

    async def test_the_least_that_is_needed_gets_cautious_defaults(
        self,
        connected: Caller,
        editor: Caller,
        organisation: Org,
        onlooker: asyncpg.Connection,
    ) -> None:
        body = await made(editor, name="  Everyone  ")
        assert body == {
            "id": body["id"],
            "name": "Everyone",
            "description": None,
            "segmentType": "mixed",
            "audienceId": ALL_STAFF,
            "audienceName": body["audienceName"],
            "filters": {
                "department": [],
                "location": [],
                "employmentType": [],
                "employmentStatus": [],
                "attributes": {},
            },
            "legalBasis": "consent",
            "onLeave": "archive",
            "optIn": "single",
            "status": "pending",
            "statusCode": None,
            "statusDetail": None,
            "warnings": [],
            "version": 1,
            "lastSyncedAt": None,
            "createdAt": body["createdAt"],
            "updatedAt": body["updatedAt"],
            "softDeletedAt": None,
        }
        assert body["createdAt"].endswith("Z")
        actions = await audit_actions(onlooker, organisation)
        assert actions == ["connection.connect", "segments.create"]

    async def test_keeps_every_field_it_is_given(self, connected: Caller) -> None:
        given = {
            "name": "Lisbon ops",
            "description": "Shift news",
            "segmentType": "employee",
            "audienceId": SUPPLIERS,
            "filters": {
                "department": ["Ops", "Ops", "Logistics"],
                "location": [],
                "attributes": {"costCentre": ["12", "13"], "none": []},
            },
            "legalBasis": "legitimate_interest",
            "onLeave": "keep",
            "optIn": "double",
        }
        body = await made(connected, **given)
        stored = (await connected.query("segments.get", id=body["id"])).json()
        assert stored == body
        for name in ("description", "segmentType", "legalBasis", "onLeave", "optIn"):
            assert stored[name] == given[name]
        assert stored["filters"] == {
            "department": ["Ops", "Logistics"],
            "location": [],
            "employmentType": [],
            "employmentStatus": [],
            "attributes": {"costCentre": ["12", "13"]},
        }

    async def test_the_audience_is_asked_for_at_mailchimp_only_once(
        self, connected: Caller, mailchimp: SandboxControl
    ) -> None:
        since = await mailchimp.seq()
        await made(connected)
        await made(connected, name="Another")
        paths = [call["path"] for call in await mailchimp.calls(since=since)]
        assert len(paths) == 1

    async def test_an_audience_that_does_not_exist_is_not_found(self, connected: Caller) -> None:
        answer = await connected.mutate(
            "segments.create", body=MINIMAL | {"audienceId": "0123456789"}
        )
        assert answer.status_code == 404
        assert answer.json()["code"] == "audience_not_found"

    async def test_a_name_is_unique_in_its_audience_whatever_the_case(
        self, connected: Caller
    ) -> None:
        first = await made(connected)
        answer = await connected.mutate("segments.create", body=MINIMAL | {"name": "EVERYONE"})
        assert answer.status_code == 409
        assert answer.json()["code"] == "name_taken"
        await made(connected, audienceId=SUPPLIERS)
        await connected.mutate("segments.delete", id=first["id"])
        await made(connected, name="EVERYONE")

    async def test_of_two_at_once_with_one_name_one_wins(
        self, connected: Caller, organisation: Org, onlooker: asyncpg.Connection
    ) -> None:
        answers = await asyncio.gather(
            *(connected.mutate("segments.create", body=MINIMAL) for _ in range(2))
        )
        assert sorted(answer.status_code for answer in answers) == [200, 409]
        assert (await audit_actions(onlooker, organisation)).count("segments.create") == 1

    async def test_makes_the_next_plan_of_the_audience_look_anew(
        self, connected: Caller, onlooker: asyncpg.Connection
    ) -> None:
        await made(connected)
        before = await touched(onlooker)
        await made(connected, name="Another")
        after = await touched(onlooker)
        assert after[ALL_STAFF] > before[ALL_STAFF]

    async def test_nonsense_is_422(self, connected: Caller) -> None:
        wrong: dict[str, Any]
        for wrong in (
            {"name": ""},
            {"name": "   "},
            {"name": "x" * 81},
            {"name": "two\nlines"},
            {"name": "nul\0"},
            {"name": "line\u2028separator"},
            {"name": None},
            {"name": 7},
            {"segmentType": "contractor"},
            {"segmentType": None},
            {"audienceId": "../x"},
            {"filters": []},
            {"filters": {"department": "Ops"}},
            {"filters": {"department": [""]}},
            {"filters": {"department": [None]}},
            {"filters": {"departement": ["Ops"]}},
            {"filters": {"attributes": ["x"]}},
            {"filters": {"attributes": {"": ["x"]}}},
            {"filters": {"department": ["x"] * 1001}},
            {"legalBasis": "whim"},
            {"onLeave": "delete"},
            {"optIn": "none"},
            {"description": "x" * 1001},
            {"status": "synced"},
        ):
            answer = await connected.mutate("segments.create", body=MINIMAL | wrong)
            assert answer.status_code == 422, answer.text
            assert answer.json()["code"] == "invalid_request"


class TestGet:
    async def test_anonymous_is_refused(self, anyone: Caller) -> None:
        assert (await anyone.query("segments.get", id=uuid4())).status_code == 401

    async def test_a_strangers_segment_is_not_found(
        self, connected: Caller, stranger: Caller
    ) -> None:
        segment = await made(connected)
        answer = await stranger.query("segments.get", id=segment["id"])
        assert answer.status_code == 404
        assert answer.json()["code"] == "segment_not_found"

    async def test_answers_what_is_stored(self, connected: Caller, viewer: Caller) -> None:
        segment = await made(connected)
        answer = await viewer.query("segments.get", id=segment["id"])
        assert answer.status_code == 200
        assert answer.json() == segment

    async def test_an_unknown_id_is_404_and_no_id_is_422(self, viewer: Caller) -> None:
        assert (await viewer.query("segments.get", id=uuid4())).status_code == 404
        assert (await viewer.query("segments.get", id="7")).status_code == 422
        assert (await viewer.query("segments.get")).status_code == 422


class TestList:
    async def test_anonymous_is_refused(self, anyone: Caller) -> None:
        assert (await anyone.query("segments.list")).status_code == 401

    async def test_a_stranger_sees_none_of_ours(self, connected: Caller, stranger: Caller) -> None:
        await made(connected)
        answer = await stranger.query("segments.list")
        assert answer.json() == {"items": [], "nextCursor": None}

    async def test_pages_hold_every_segment_once_newest_first(
        self, connected: Caller, viewer: Caller
    ) -> None:
        names = [(await made(connected, name=f"S{number}"))["name"] for number in range(5)]
        seen: list[str] = []
        cursor: dict[str, Any] = {}
        for size in (2, 2, 1):
            page = (await viewer.query("segments.list", limit=2, **cursor)).json()
            assert len(page["items"]) == size
            seen += [item["name"] for item in page["items"]]
            cursor = {"cursor": page["nextCursor"]}
        assert cursor == {"cursor": None}
        assert seen == names[::-1]

    async def test_filters_by_status_and_type(
        self, connected: Caller, onlooker: asyncpg.Connection
    ) -> None:
        await made(connected, name="a", segmentType="employee")
        await made(connected, name="b", segmentType="vendor")
        await onlooker.execute("update contact_segments set status = 'synced' where name = 'b'")

        async def names(**params: Any) -> list[str]:
            answer = await connected.query("segments.list", **params)
            return [item["name"] for item in answer.json()["items"]]

        assert await names(status="pending") == ["a"]
        assert await names(segmentType="vendor") == ["b"]
        assert await names(status="pending", segmentType="vendor") == []

    async def test_nonsense_is_422(self, viewer: Caller) -> None:
        for params in ({"status": "x"}, {"segmentType": "x"}, {"limit": 201}):
            assert (await viewer.query("segments.list", **params)).status_code == 422

    async def test_a_mangled_cursor_is_400(self, viewer: Caller) -> None:
        answer = await viewer.query("segments.list", cursor="AAAA")
        assert answer.status_code == 400
        assert answer.json()["code"] == "invalid_cursor"


class TestUpdate:
    async def test_anonymous_is_refused(self, anyone: Caller) -> None:
        assert (await anyone.mutate("segments.update", id=str(uuid4()))).status_code == 401

    async def test_a_viewer_may_not(self, viewer: Caller) -> None:
        assert (await viewer.mutate("segments.update", id=str(uuid4()))).status_code == 403

    async def test_a_strangers_segment_is_not_found(
        self, connected: Caller, stranger: Caller
    ) -> None:
        segment = await made(connected)
        answer = await stranger.mutate("segments.update", id=segment["id"], name="Mine")
        assert answer.status_code == 404

    async def test_changes_what_is_given_and_nothing_else(
        self,
        connected: Caller,
        editor: Caller,
        organisation: Org,
        onlooker: asyncpg.Connection,
    ) -> None:
        segment = await made(connected, description="old", filters={"location": ["Lisbon"]})
        await onlooker.execute("update contact_segments set planned_xid = 5")
        before = await touched(onlooker)
        answer = await editor.mutate(
            "segments.update",
            id=segment["id"],
            name="Renamed",
            description=None,
            filters={"department": ["HR"]},
        )
        assert answer.status_code == 200
        changed = answer.json()
        assert changed == segment | {
            "name": "Renamed",
            "description": None,
            "filters": segment["filters"] | {"location": [], "department": ["HR"]},
            "version": 2,
            "updatedAt": changed["updatedAt"],
        }
        assert await onlooker.fetchval("select planned_xid from contact_segments") is None
        assert (await touched(onlooker))[ALL_STAFF] > before[ALL_STAFF]
        actions = await audit_actions(onlooker, organisation)
        assert actions[-2:] == ["segments.create", "segments.update"]

    async def test_a_change_that_changes_nothing_bumps_no_version(
        self, connected: Caller, onlooker: asyncpg.Connection
    ) -> None:
        segment = await made(connected)
        before = await touched(onlooker)
        answer = await connected.mutate(
            "segments.update", id=segment["id"], name=segment["name"], optIn="single"
        )
        assert answer.json() == segment
        assert await touched(onlooker) == before

    async def test_the_version_it_is_based_on_is_checked(self, connected: Caller) -> None:
        segment = await made(connected)
        first = await connected.mutate(
            "segments.update", id=segment["id"], version=1, onLeave="keep"
        )
        assert first.json()["version"] == 2
        answer = await connected.mutate(
            "segments.update", id=segment["id"], version=1, onLeave="archive"
        )
        assert answer.status_code == 409
        assert answer.json()["code"] == "version_conflict"

    async def test_a_taken_name_is_a_conflict(self, connected: Caller) -> None:
        await made(connected, name="One")
        two = await made(connected, name="Two")
        answer = await connected.mutate("segments.update", id=two["id"], name="one")
        assert answer.status_code == 409
        assert answer.json()["code"] == "name_taken"

    async def test_moving_leaves_members_as_they_are_by_default(
        self,
        connected: Caller,
        leaves: LeaveCalls,
        onlooker: asyncpg.Connection,
    ) -> None:
        segment = await made(connected)
        await connected.query("connection.listAudiences")
        await onlooker.execute(
            "update contact_segments set status = 'synced', last_synced_at = now()"
        )
        before = await touched(onlooker)
        answer = await connected.mutate("segments.update", id=segment["id"], audienceId=SUPPLIERS)
        body = answer.json()
        assert (body["audienceId"], body["status"], body["lastSyncedAt"]) == (
            SUPPLIERS,
            "pending",
            None,
        )
        after = await touched(onlooker)
        assert after[ALL_STAFF] > before[ALL_STAFF]
        assert after[SUPPLIERS] > before[SUPPLIERS]
        assert leaves == []

    async def test_moving_with_leave_asks_for_a_run_in_the_old_audience(
        self, connected: Caller, leaves: LeaveCalls, onlooker: asyncpg.Connection
    ) -> None:
        segment = await made(connected)
        await connected.mutate(
            "segments.update", id=segment["id"], audienceId=SUPPLIERS, leave=True
        )
        old = await onlooker.fetchval("select id from audiences where list_id = $1", ALL_STAFF)
        assert [(str(a), str(b)) for a, b in leaves] == [(segment["id"], str(old))]

    async def test_leave_without_a_move_is_refused(self, connected: Caller) -> None:
        segment = await made(connected)
        for more in ({}, {"audienceId": ALL_STAFF}):
            answer = await connected.mutate("segments.update", id=segment["id"], leave=True, **more)
            assert answer.status_code == 400
            assert answer.json()["code"] == "leave_without_move"

    async def test_moving_to_an_unknown_audience_is_not_found(self, connected: Caller) -> None:
        segment = await made(connected)
        answer = await connected.mutate(
            "segments.update", id=segment["id"], audienceId="0000000000"
        )
        assert answer.status_code == 404
        assert answer.json()["code"] == "audience_not_found"

    async def test_while_a_run_is_under_way_the_status_stays_its_own(
        self, connected: Caller, onlooker: asyncpg.Connection
    ) -> None:
        segment = await made(connected)
        await onlooker.execute(
            "update contact_segments set syncing_until = now() + interval '1 minute'"
        )
        answer = await connected.mutate("segments.update", id=segment["id"], audienceId=SUPPLIERS)
        assert answer.json()["status"] == "syncing"

    async def test_works_without_a_connection_as_long_as_the_audience_stays(
        self, connected: Caller
    ) -> None:
        segment = await made(connected)
        await connected.mutate("connection.disconnect", {})
        answer = await connected.mutate("segments.update", id=segment["id"], name="Later")
        assert answer.status_code == 200
        answer = await connected.mutate("segments.update", id=segment["id"], audienceId=SUPPLIERS)
        assert answer.json()["code"] == "not_connected"

    async def test_nonsense_is_422(self, connected: Caller) -> None:
        for wrong in (
            {"name": None},
            {"segmentType": None},
            {"audienceId": None},
            {"filters": None},
            {"onLeave": None},
            {"leave": None},
            {"leave": "yes"},
            {"version": 0},
            {"version": "1"},
            {"id": "7"},
            {"status": "synced"},
        ):
            answer = await connected.mutate("segments.update", body={"id": str(uuid4())} | wrong)
            assert answer.status_code == 422, answer.text

    async def test_the_audit_keeps_no_free_text_and_no_attribute_values(
        self, connected: Caller, onlooker: asyncpg.Connection
    ) -> None:
        person = "ana.silva@corp.test"
        filters = {"department": ["HR"], "attributes": {"manager": [person]}}
        segment = await made(connected, description=f"ask {person}", filters=filters)
        await connected.mutate("segments.update", id=segment["id"], description=person, filters={})
        told = await onlooker.fetchval("select string_agg(diff::text, '') from audit_entries")
        assert "HR" in told
        assert person not in told


class TestDelete:
    async def test_anonymous_is_refused(self, anyone: Caller) -> None:
        assert (await anyone.mutate("segments.delete", id=str(uuid4()))).status_code == 401

    async def test_a_viewer_may_not(self, viewer: Caller) -> None:
        assert (await viewer.mutate("segments.delete", id=str(uuid4()))).status_code == 403

    async def test_a_strangers_segment_is_not_found(
        self, connected: Caller, stranger: Caller
    ) -> None:
        segment = await made(connected)
        answer = await stranger.mutate("segments.delete", id=segment["id"])
        assert answer.status_code == 404
        assert (await connected.query("segments.get", id=segment["id"])).status_code == 200

    async def test_hides_the_segment_and_keeps_the_row(
        self,
        connected: Caller,
        editor: Caller,
        organisation: Org,
        leaves: LeaveCalls,
        onlooker: asyncpg.Connection,
    ) -> None:
        segment = await made(connected)
        before = await touched(onlooker)
        answer = await editor.mutate("segments.delete", id=segment["id"])
        assert answer.status_code == 200
        assert answer.json()["id"] == segment["id"]
        assert answer.json()["softDeletedAt"].endswith("Z")
        assert (await editor.query("segments.get", id=segment["id"])).status_code == 404
        assert (await editor.query("segments.list")).json()["items"] == []
        assert (await editor.mutate("segments.delete", id=segment["id"])).status_code == 404
        assert await onlooker.fetchval("select count(*) from contact_segments") == 1
        assert (await touched(onlooker))[ALL_STAFF] > before[ALL_STAFF]
        assert (await audit_actions(onlooker, organisation))[-1] == "segments.delete"
        assert leaves == []

    async def test_with_leave_asks_for_a_run_that_lets_members_leave(
        self, connected: Caller, leaves: LeaveCalls
    ) -> None:
        segment = await made(connected)
        await connected.mutate("segments.delete", id=segment["id"], leave=True)
        assert [str(segment_id) for segment_id, _ in leaves] == [segment["id"]]

    async def test_members_cannot_leave_an_account_that_is_not_connected(
        self, connected: Caller, mailchimp: SandboxControl, leaves: LeaveCalls
    ) -> None:
        segment = await made(connected)
        await connected.mutate("connection.disconnect", {})
        answer = await connected.mutate("segments.delete", id=segment["id"], leave=True)
        assert answer.json()["code"] == "not_connected"
        await mailchimp.open_account(OTHER_KEY, lists=["Elsewhere"])
        await connected.mutate("connection.connect", apiKey=OTHER_KEY)
        answer = await connected.mutate("segments.delete", id=segment["id"], leave=True)
        assert answer.status_code == 409
        assert answer.json()["code"] == "audience_not_connected"
        assert leaves == []
        answer = await connected.mutate("segments.delete", id=segment["id"])
        assert answer.status_code == 200

    async def test_the_version_it_is_based_on_is_checked(self, connected: Caller) -> None:
        segment = await made(connected)
        answer = await connected.mutate("segments.delete", id=segment["id"], version=9)
        assert answer.json()["code"] == "version_conflict"


class TestFiltersOverContacts:
    """What the compiled condition selects."""

    CASES: ClassVar[list[tuple[str, dict[str, Any], set[str]]]] = [
        ("mixed", {}, {"E1", "E2", "E3", "V1"}),
        ("employee", {}, {"E1", "E2", "E3"}),
        ("vendor", {}, {"V1"}),
        ("mixed", {"department": ["HR"]}, {"E1", "V1"}),
        ("employee", {"department": ["HR", "hr"]}, {"E1", "E2"}),
        ("mixed", {"department": ["HR"], "location": ["Porto"]}, set()),
        ("mixed", {"employmentType": ["temp"]}, {"E3"}),
        ("mixed", {"employmentStatus": ["active"]}, {"E1", "E2", "E3", "V1"}),
        ("mixed", {"attributes": {"team": ["red", "blue"]}}, {"E1", "E3"}),
        ("mixed", {"attributes": {"team": ["red"], "floor": ["3"]}}, {"E1"}),
        ("mixed", {"attributes": {"remote": ["true"]}}, {"E3"}),
    ]

    async def test_selects_exactly(
        self,
        resources: Resources,
        organisation: Org,
        make_contacts: MakeContacts,
    ) -> None:
        rows: list[tuple[str, str, dict[str, Any]]] = [
            ("employee", "E1", {"department": "HR", "attributes": {"team": "red", "floor": 3}}),
            ("employee", "E2", {"department": "hr", "attributes": {"team": "green"}}),
            (
                "employee",
                "E3",
                {
                    "department": None,
                    "employment_type": "temp",
                    "attributes": {"team": "blue", "remote": True},
                },
            ),
            ("vendor", "V1", {"department": "HR"}),
        ]
        for number, (entity_type, entity_id, more) in enumerate(rows, start=1):
            await make_contacts(
                1, start=number, entity_type=entity_type, entity_id=entity_id, **more
            )
        for segment_type, filters, expected in self.CASES:
            compiled = compile_filters(segment_type, filters, prefix="s0")
            async with resources.db.transaction(organisation.id) as session:
                chosen = await session.scalars(
                    text(f"select entity_id from contacts c where {compiled.sql}"), compiled.params
                )
                others = await session.scalars(
                    text(f"select entity_id from contacts c where not {compiled.sql}"),
                    compiled.params,
                )
                assert set(chosen) == expected
                assert set(others) == {"E1", "E2", "E3", "V1"} - expected
