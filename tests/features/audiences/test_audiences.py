"""The audiences' procedures, against PostgreSQL and the sandbox."""

from __future__ import annotations

import asyncio
from typing import Any

import asyncpg

from mcsync.core.resources import Resources
from mcsync.features.audiences import repository, service
from tests.features.connection.bench import Caller, audit_actions
from tests.support.organisations import Org
from tests.support.sandbox import ALL_STAFF, SUPPLIERS, SandboxControl

BIG_KEY = "bbbbccccddddeeeeffff000011112222-us3"


FIELDS_PATH = f"/lists/{ALL_STAFF}/merge-fields"


def two_fields() -> list[dict[str, str]]:
    return [{"tag": tag, "name": tag, "type": "text"} for tag in ("AAA", "BBB")]


async def definition(onlooker: asyncpg.Connection, list_id: str = ALL_STAFF) -> int:
    found = await onlooker.fetchval(
        "select definition_xid from audiences where list_id = $1", list_id
    )
    assert isinstance(found, int)
    return found


async def create_fields(caller: Caller, *tags: str, **more: Any) -> None:
    fields = [{"tag": tag, "name": tag.title(), "type": "text", **more} for tag in tags]
    answer = await caller.mutate("audiences.createMergeFields", audienceId=ALL_STAFF, fields=fields)
    assert answer.json()["created"] == list(tags), answer.text


class TestListAudiences:
    async def test_anonymous_is_refused(self, anyone: Caller) -> None:
        assert (await anyone.query("connection.listAudiences")).status_code == 401

    async def test_without_a_connection_it_is_a_conflict(self, stranger: Caller) -> None:
        answer = await stranger.query("connection.listAudiences")
        assert answer.status_code == 409
        assert answer.json()["code"] == "not_connected"

    async def test_shows_every_audience_and_fills_the_mirror(
        self, connected: Caller, viewer: Caller, mailchimp: SandboxControl, onlooker: Any
    ) -> None:
        await mailchimp.change_list(SUPPLIERS, double_optin=True)
        answer = await viewer.query("connection.listAudiences")
        assert answer.status_code == 200
        body = answer.json()
        assert body["nextCursor"] is None
        shown = {item["audienceId"]: item for item in body["items"]}
        assert set(shown) == {ALL_STAFF, SUPPLIERS}
        assert shown[SUPPLIERS]["doubleOptin"] is True
        assert shown[ALL_STAFF].keys() == {
            "audienceId",
            "name",
            "memberCount",
            "doubleOptin",
            "marketingPermissions",
        }
        rows = await onlooker.fetch("select list_id, name, double_optin, gone_at from audiences")
        assert {row["list_id"] for row in rows} == {ALL_STAFF, SUPPLIERS}
        assert all(row["gone_at"] is None for row in rows)

    async def test_follows_all_pages(self, owner: Caller, mailchimp: SandboxControl) -> None:
        names = [f"Audience {number}" for number in range(1003)]
        await mailchimp.open_account(BIG_KEY, lists=names)
        await owner.mutate("connection.connect", apiKey=BIG_KEY)
        answer = await owner.query("connection.listAudiences")
        assert {item["name"] for item in answer.json()["items"]} == set(names)

    async def test_one_that_vanished_is_marked_gone_and_comes_back(
        self, connected: Caller, mailchimp: SandboxControl, onlooker: asyncpg.Connection
    ) -> None:
        await connected.query("connection.listAudiences")
        await mailchimp.delete_list(SUPPLIERS)
        answer = await connected.query("connection.listAudiences")
        assert [item["audienceId"] for item in answer.json()["items"]] == [ALL_STAFF]
        gone = "select gone_at is not null from audiences where list_id = $1"
        assert await onlooker.fetchval(gone, SUPPLIERS) is True
        assert await onlooker.fetchval(gone, ALL_STAFF) is False
        await mailchimp.reset()
        await connected.query("connection.listAudiences")
        assert await onlooker.fetchval(gone, SUPPLIERS) is False

    async def test_an_audience_that_did_not_change_is_not_written(
        self, connected: Caller, onlooker: asyncpg.Connection
    ) -> None:
        await connected.query("connection.listAudiences")
        before = await onlooker.fetch("select xmin::text from audiences order by id")
        await connected.query("connection.listAudiences")
        assert await onlooker.fetch("select xmin::text from audiences order by id") == before


class TestUpsert:
    async def test_one_that_was_gone_is_pulled_anew(
        self, resources: Resources, organisation: Org, onlooker: asyncpg.Connection
    ) -> None:
        async with resources.db.transaction(organisation.id) as session:
            for name in ("kept", "gone"):
                await service.ensure_audience(session, "acc", name, name=name)
        await onlooker.execute("update audiences set high_water = now()")
        await onlooker.execute("update audiences set gone_at = now() where list_id = 'gone'")
        async with resources.db.transaction(organisation.id) as session:
            for name in ("kept", "gone"):
                audience = await service.ensure_audience(session, "acc", name, name="New name")
                assert audience.name == "New name"
                assert (audience.high_water is None) == (name == "gone")
                assert audience.gone_at is None

    async def test_the_list_of_another_account_is_not_found_by_its_id(
        self, connected: Caller, resources: Resources, organisation: Org
    ) -> None:
        async with resources.db.transaction(organisation.id) as session:
            await service.ensure_audience(session, "another", "zzz", name="z")
            assert await repository.by_list_id(session, "zzz") is None


class TestGet:
    async def test_anonymous_is_refused(self, anyone: Caller) -> None:
        answer = await anyone.query("audiences.get", audienceId=ALL_STAFF)
        assert answer.status_code == 401

    async def test_a_strangers_audience_is_not_found(
        self, connected: Caller, stranger: Caller, mailchimp: SandboxControl
    ) -> None:
        await mailchimp.open_account(BIG_KEY, lists=["Theirs"])
        await stranger.mutate("connection.connect", apiKey=BIG_KEY)
        await connected.query("audiences.get", audienceId=ALL_STAFF)
        answer = await stranger.query("audiences.get", audienceId=ALL_STAFF)
        assert answer.status_code == 404
        assert answer.json()["code"] == "audience_not_found"

    async def test_proposes_a_map_from_tags_and_names(
        self, connected: Caller, viewer: Caller
    ) -> None:
        answer = await viewer.query("audiences.get", audienceId=ALL_STAFF)
        assert answer.status_code == 200
        body = answer.json()
        assert body["proposed"] is True
        assert body["map"]["FNAME"] == "firstName"
        assert body["map"]["LNAME"] == "lastName"
        assert body["unknownTags"] == []
        assert body["mergeFieldsAt"].endswith("Z")
        assert {"FNAME", "LNAME"} <= {field["tag"] for field in body["mergeFields"]}

    async def test_names_required_fields_that_nothing_feeds(self, connected: Caller) -> None:
        await create_fields(connected, "BADGE", required=True)
        body = (await connected.query("audiences.get", audienceId=ALL_STAFF)).json()
        assert body["unfedRequired"] == ["BADGE"]

    async def test_nonsense_is_422(self, connected: Caller) -> None:
        for audience_id in ("", "../lists", "a b", "x" * 41):
            answer = await connected.query("audiences.get", audienceId=audience_id)
            assert answer.status_code == 422

    async def test_an_unknown_audience_is_404(self, connected: Caller) -> None:
        answer = await connected.query("audiences.get", audienceId="0000000000")
        assert answer.status_code == 404
        assert answer.json()["code"] == "audience_not_found"

    async def test_answers_from_the_mirror_for_five_minutes(
        self, connected: Caller, mailchimp: SandboxControl, onlooker: asyncpg.Connection
    ) -> None:
        await connected.query("audiences.get", audienceId=ALL_STAFF)
        since = await mailchimp.seq()
        await connected.query("audiences.get", audienceId=ALL_STAFF)
        assert await mailchimp.calls(since=since) == []
        await connected.query("audiences.get", audienceId=ALL_STAFF, refresh=True)
        assert len(await mailchimp.calls(since=since)) == 2
        since = await mailchimp.seq()
        await onlooker.execute(
            "update audiences set merge_fields_at = now() - interval '5 min 1 s'"
        )
        await connected.query("audiences.get", audienceId=ALL_STAFF)
        assert len(await mailchimp.calls(since=since)) == 2

    async def test_the_mirror_answers_while_mailchimp_is_down_unless_asked_to_refresh(
        self, connected: Caller, mailchimp: SandboxControl, onlooker: asyncpg.Connection
    ) -> None:
        await connected.query("audiences.get", audienceId=ALL_STAFF)
        await onlooker.execute("update audiences set merge_fields_at = now() - interval '1 h'")
        await mailchimp.fault("500", times=3)
        assert (await connected.query("audiences.get", audienceId=ALL_STAFF)).status_code == 200
        await mailchimp.fault("500", times=3)
        answer = await connected.query("audiences.get", audienceId=ALL_STAFF, refresh=True)
        assert answer.status_code == 503

    async def test_one_that_vanished_is_404_and_marked(
        self, connected: Caller, mailchimp: SandboxControl, onlooker: asyncpg.Connection
    ) -> None:
        await connected.query("audiences.get", audienceId=SUPPLIERS)
        await mailchimp.delete_list(SUPPLIERS)
        answer = await connected.query("audiences.get", audienceId=SUPPLIERS, refresh=True)
        assert answer.status_code == 404
        gone = "select gone_at is not null from audiences where list_id = $1"
        assert await onlooker.fetchval(gone, SUPPLIERS) is True

    async def test_once_pulled_members_are_counted_in_the_mirror(
        self, connected: Caller, viewer: Caller, onlooker: asyncpg.Connection
    ) -> None:
        async def count() -> int:
            answer = await viewer.query("audiences.get", audienceId=ALL_STAFF)
            counted = answer.json()["memberCount"]
            assert isinstance(counted, int)
            return counted

        await count()
        await onlooker.execute("update audiences set stats = stats || '{\"memberCount\": 7}'")
        assert await count() == 7
        await onlooker.execute(
            "insert into audience_members (org_id, audience_id, address_hash, status)"
            " select org_id, id, gen_random_uuid(), status from audiences,"
            " unnest(array['subscribed', 'subscribed', 'unsubscribed', 'absent']) status"
        )
        assert await count() == 7
        await onlooker.execute("update audiences set high_water = now()")
        assert await count() == 2


class TestSetMergeFields:
    async def test_anonymous_is_refused(self, anyone: Caller) -> None:
        answer = await anyone.mutate("audiences.setMergeFields", audienceId=ALL_STAFF, map={})
        assert answer.status_code == 401

    async def test_a_viewer_may_not(self, viewer: Caller) -> None:
        answer = await viewer.mutate("audiences.setMergeFields", audienceId=ALL_STAFF, map={})
        assert answer.status_code == 403

    async def test_a_strangers_audience_is_not_found(
        self, connected: Caller, stranger: Caller, mailchimp: SandboxControl
    ) -> None:
        await mailchimp.open_account(BIG_KEY, lists=["Theirs"])
        await stranger.mutate("connection.connect", apiKey=BIG_KEY)
        answer = await stranger.mutate("audiences.setMergeFields", audienceId=ALL_STAFF, map={})
        assert answer.status_code == 404

    async def test_replaces_the_map_and_makes_the_next_plan_look_anew(
        self,
        connected: Caller,
        editor: Caller,
        organisation: Org,
        onlooker: asyncpg.Connection,
    ) -> None:
        await create_fields(connected, "COSTC")
        before = await definition(onlooker)
        wanted = {"fname": "firstName", "COSTC": "attributes.costCentre"}
        answer = await editor.mutate("audiences.setMergeFields", audienceId=ALL_STAFF, map=wanted)
        assert answer.status_code == 200
        body = answer.json()
        assert body["map"] == {"FNAME": "firstName", "COSTC": "attributes.costCentre"}
        assert body["proposed"] is False
        moved = await definition(onlooker)
        assert moved > before
        await editor.mutate("audiences.setMergeFields", audienceId=ALL_STAFF, map=wanted)
        assert await definition(onlooker) == moved
        actions = await audit_actions(onlooker, organisation)
        assert actions.count("audiences.set_merge_fields") == 2

    async def test_null_goes_back_to_the_proposal(
        self, connected: Caller, onlooker: asyncpg.Connection
    ) -> None:
        await connected.mutate("audiences.setMergeFields", audienceId=ALL_STAFF, map={})
        before = await definition(onlooker)
        answer = await connected.mutate("audiences.setMergeFields", audienceId=ALL_STAFF, map=None)
        assert answer.json()["proposed"] is True
        assert answer.json()["map"]["FNAME"] == "firstName"
        assert await definition(onlooker) > before

    async def test_what_cannot_stand_is_named_and_nothing_changes(
        self, connected: Caller, onlooker: asyncpg.Connection
    ) -> None:
        answer = await connected.mutate(
            "audiences.setMergeFields",
            audienceId=ALL_STAFF,
            map={"FNAME": "firstName", "NOPE": "lastName", "LNAME": "surname"},
        )
        assert answer.status_code == 400
        body = answer.json()
        assert body["code"] == "invalid_merge_map"
        assert {(one["pointer"], one["code"]) for one in body["errors"]} == {
            ("/map/NOPE", "unknown_tag"),
            ("/map/LNAME", "unknown_source"),
        }
        assert (await connected.query("audiences.get", audienceId=ALL_STAFF)).json()["proposed"]

    async def test_nonsense_is_422(self, connected: Caller) -> None:
        body: Any
        for body in (
            {"audienceId": ALL_STAFF},
            {"audienceId": ALL_STAFF, "map": []},
            {"audienceId": ALL_STAFF, "map": {"FNAME": 3}},
            {"audienceId": ALL_STAFF, "map": {"not a tag": "firstName"}},
            {"audienceId": ALL_STAFF, "map": {}, "more": 1},
            {"map": {}},
        ):
            answer = await connected.mutate("audiences.setMergeFields", body=body)
            assert answer.status_code == 422

    async def test_a_mapped_field_deleted_at_mailchimp_is_told_and_left_out(
        self,
        connected: Caller,
        resources: Resources,
        organisation: Org,
        onlooker: asyncpg.Connection,
    ) -> None:
        await connected.mutate(
            "audiences.setMergeFields",
            audienceId=ALL_STAFF,
            map={"FNAME": "firstName", "LNAME": "lastName"},
        )
        await onlooker.execute(
            """update audiences set merge_field_map = merge_field_map || '{"OLD": "department"}'"""
        )
        answer = await connected.query("audiences.get", audienceId=ALL_STAFF)
        assert answer.json()["unknownTags"] == ["OLD"]
        assert "OLD" not in answer.json()["map"]
        async with resources.db.transaction(organisation.id) as session:
            audience = await repository.by_list_id(session, ALL_STAFF)
        assert audience is not None
        assert set(service.merge_map(audience)) == {"FNAME", "LNAME"}


class TestCreateMergeFields:
    async def test_anonymous_is_refused(self, anyone: Caller) -> None:
        answer = await anyone.mutate("audiences.createMergeFields", {})
        assert answer.status_code == 401

    async def test_a_viewer_may_not(self, viewer: Caller) -> None:
        answer = await viewer.mutate("audiences.createMergeFields", {})
        assert answer.status_code == 403

    async def test_a_strangers_audience_is_not_found(
        self, connected: Caller, stranger: Caller, mailchimp: SandboxControl
    ) -> None:
        await mailchimp.open_account(BIG_KEY, lists=["Theirs"])
        await stranger.mutate("connection.connect", apiKey=BIG_KEY)
        answer = await stranger.mutate(
            "audiences.createMergeFields",
            audienceId=ALL_STAFF,
            fields=[{"tag": "DEPT", "name": "Department", "type": "text"}],
        )
        assert answer.status_code == 404

    async def test_creates_what_is_missing_and_tells_what_existed(
        self,
        connected: Caller,
        editor: Caller,
        organisation: Org,
        onlooker: asyncpg.Connection,
    ) -> None:
        wanted = [
            {"tag": "FNAME", "name": "First Name", "type": "text"},
            {"tag": "DEPT", "name": "Department", "type": "text"},
            {"tag": "KIND", "name": "Kind", "type": "dropdown", "choices": ["a", "b"]},
        ]
        await connected.query("audiences.get", audienceId=ALL_STAFF)
        before = await definition(onlooker)
        answer = await editor.mutate(
            "audiences.createMergeFields", audienceId=ALL_STAFF, fields=wanted
        )
        assert answer.status_code == 200
        body = answer.json()
        assert (body["created"], body["existing"], body["refused"]) == (
            ["DEPT", "KIND"],
            ["FNAME"],
            [],
        )
        assert body["audience"]["map"]["DEPT"] == "department"
        kind = next(f for f in body["audience"]["mergeFields"] if f["tag"] == "KIND")
        assert kind["choices"] == ["a", "b"]
        assert await definition(onlooker) > before, "the proposal now feeds DEPT"
        again = await editor.mutate(
            "audiences.createMergeFields", audienceId=ALL_STAFF, fields=wanted
        )
        assert again.json()["created"] == []
        actions = await audit_actions(onlooker, organisation)
        assert actions.count("audiences.create_merge_fields") == 2

    async def test_what_mailchimp_refuses_is_reported_beside_what_it_took(
        self, connected: Caller, mailchimp: SandboxControl
    ) -> None:
        await mailchimp.fault("400", method="POST", path=FIELDS_PATH)
        answer = await connected.mutate(
            "audiences.createMergeFields", audienceId=ALL_STAFF, fields=two_fields()
        )
        body = answer.json()
        assert answer.status_code == 200, answer.text
        assert body["created"] == ["BBB"]
        assert [(one["tag"], one["code"]) for one in body["refused"]] == [
            ("AAA", "mailchimp_refused")
        ]
        assert body["refused"][0]["message"]

    async def test_one_that_was_created_although_its_answer_was_lost_is_found_on_repeating(
        self, connected: Caller, mailchimp: SandboxControl
    ) -> None:
        await mailchimp.fault("504_after", method="POST", path=FIELDS_PATH)
        answer = await connected.mutate(
            "audiences.createMergeFields", audienceId=ALL_STAFF, fields=two_fields()
        )
        assert answer.status_code in {503, 504}
        again = await connected.mutate(
            "audiences.createMergeFields", audienceId=ALL_STAFF, fields=two_fields()
        )
        assert (again.json()["created"], again.json()["existing"]) == (["BBB"], ["AAA"])

    async def test_trouble_half_way_is_raised_after_what_was_created_is_recorded(
        self,
        connected: Caller,
        mailchimp: SandboxControl,
        organisation: Org,
        onlooker: asyncpg.Connection,
    ) -> None:
        await mailchimp.configure(latency={"baseMs": 300})
        since = await mailchimp.seq()
        creating = asyncio.create_task(
            connected.mutate(
                "audiences.createMergeFields", audienceId=ALL_STAFF, fields=two_fields()
            )
        )
        while True:
            if any(call["method"] == "POST" for call in await mailchimp.calls(since=since)):
                break
            await asyncio.sleep(0.02)
        await mailchimp.fault("500", method="POST", path=FIELDS_PATH)
        assert (await creating).status_code == 503
        assert (await audit_actions(onlooker, organisation))[-1] == "audiences.create_merge_fields"
        diff = await onlooker.fetchval("select diff::text from audit_entries order by seq desc")
        assert "AAA" in diff
        assert "BBB" not in diff

    async def test_nonsense_is_422(self, connected: Caller) -> None:
        for fields in (
            [],
            [{"tag": "dept", "name": "Department", "type": "text"}],
            [{"tag": "TOOLONGATAG", "name": "x", "type": "text"}],
            [{"tag": "DEPT", "name": " ", "type": "text"}],
            [{"tag": "DEPT", "name": "x", "type": "colour"}],
            [{"tag": "DEPT", "name": "x", "type": "dropdown"}],
            [{"tag": "DEPT", "name": "x", "type": "text", "choices": ["a"]}],
            [{"tag": "EMAIL", "name": "x", "type": "text"}],
            [{"tag": "A", "name": "x", "type": "text"}, {"tag": "A", "name": "y", "type": "text"}],
        ):
            answer = await connected.mutate(
                "audiences.createMergeFields", audienceId=ALL_STAFF, fields=fields
            )
            assert answer.status_code == 422
