"""Tags and segments (MC 4.7, 7)."""

from __future__ import annotations

from typing import Any

import pytest

from tests.sandbox.driver import Audience, problem

ADA = "ada@corp.test"


async def set_tags(staff: Audience, email: str, **tags: str) -> int:
    entries = [{"name": name, "status": status} for name, status in tags.items()]
    answer = await staff.api.post(f"{staff.member_path(email)}/tags", json={"tags": entries})
    return answer.status_code


class TestMemberTags:
    async def test_only_named_tags_change_and_unknown_ones_are_made(self, staff: Audience) -> None:
        await staff.add(ADA, tags=["one", "two"])
        assert await set_tags(staff, ADA, ONE="inactive", three="active", never="inactive") == 204
        body = (await staff.api.get(f"{staff.member_path(ADA)}/tags")).json()
        assert [each["name"] for each in body["tags"]] == ["two", "three"]
        assert body["total_items"] == 2
        names = {
            each["name"]
            for each in (await staff.api.get(f"{staff.path}/tag-search")).json()["tags"]
        }
        assert names == {"one", "two", "three"}

    async def test_archived_members_can_be_tagged_and_missing_ones_not(
        self, staff: Audience
    ) -> None:
        await staff.prepare(ADA, "archived")
        assert await set_tags(staff, ADA, one="active") == 204
        assert (await staff.held(ADA))["tags"] == ["one"]
        assert await set_tags(staff, "nobody@corp.test", one="active") == 404

    async def test_a_malformed_body_is_204_and_does_nothing(self, staff: Audience) -> None:
        await staff.add(ADA)
        path = f"{staff.member_path(ADA)}/tags"
        assert (await staff.api.post(path, json={"tags": ["one"]})).status_code == 204
        assert (await staff.held(ADA))["tags"] == []
        await staff.control.configure(malformedTagsAccepted=False)
        assert (await staff.api.post(path, json={"tags": ["one"]})).status_code == 400

    async def test_staff_can_tag_by_hand(self, staff: Audience) -> None:
        await staff.add(ADA, tags=["one"])
        await staff.control.admin(staff.id, ADA, "untag", tag="One")
        await staff.control.admin(staff.id, ADA, "tag", tag="by hand")
        assert (await staff.held(ADA))["tags"] == ["by hand"]


class TestSegments:
    async def test_a_tag_is_a_static_segment(self, staff: Audience) -> None:
        ident = await staff.tag("mcsync: Staff")
        await staff.bulk({"email_address": ADA, "status": "subscribed", "tags": ["MCSYNC: STAFF"]})
        body = (await staff.api.get(f"{staff.path}/segments/{ident}")).json()
        assert (body["type"], body["member_count"], body["name"]) == ("static", 1, "mcsync: Staff")
        found = await staff.api.get(f"{staff.path}/tag-search", params={"name": "MCS"})
        assert found.json()["tags"] == [{"id": ident, "name": "mcsync: Staff"}]

    async def test_a_duplicate_name_is_400_whatever_its_case(self, staff: Audience) -> None:
        await staff.tag("Staff")
        body = {"name": "STAFF", "static_segment": []}
        answer = await staff.api.post(f"{staff.path}/segments", json=body)
        assert problem(answer) == (400, "Bad Request")

    async def test_rename_replace_empty_and_delete(self, staff: Audience) -> None:
        await staff.add(ADA)
        await staff.add("eve@corp.test")
        ident = await staff.tag("Staff")
        path = f"{staff.path}/segments/{ident}"
        await staff.api.patch(path, json={"name": "Crew", "static_segment": [ADA, "eve@corp.test"]})
        assert (await staff.held(ADA))["tags"] == ["Crew"]
        answer = await staff.api.patch(path, json={"name": "Crew", "static_segment": [ADA]})
        assert answer.json()["member_count"] == 1
        assert (await staff.api.delete(path)).status_code == 204
        assert (await staff.held(ADA))["tags"] == []
        assert (await staff.api.get(path)).status_code == 404
        assert await staff.tag("Staff") != ident

    async def test_add_and_remove_in_bulk(self, staff: Audience) -> None:
        await staff.add(ADA, tags=["Staff"])
        await staff.add("eve@corp.test")
        [tag] = (await staff.api.get(f"{staff.path}/tag-search")).json()["tags"]
        path = f"{staff.path}/segments/{tag['id']}"
        body = {
            "members_to_add": ["EVE@corp.test", "nobody@corp.test"],
            "members_to_remove": [ADA],
        }
        answer = (await staff.api.post(path, json=body)).json()
        assert (answer["total_added"], answer["total_removed"], answer["error_count"]) == (1, 1, 0)
        assert answer["members_removed"][0]["email_address"] == ADA
        assert await staff.status("nobody@corp.test") == "absent"
        await staff.control.configure(segmentUnknownInErrors=True)
        answer = (await staff.api.post(path, json=body)).json()
        assert answer["errors"][0]["email_addresses"] == ["nobody@corp.test"]

    @pytest.mark.parametrize("key", ["members_to_add", "members_to_remove"])
    async def test_more_than_500_are_refused(self, staff: Audience, key: str) -> None:
        ident = await staff.tag("Staff")
        body: dict[str, Any] = {key: [f"p{number}@corp.test" for number in range(501)]}
        answer = await staff.api.post(f"{staff.path}/segments/{ident}", json=body)
        assert problem(answer) == (400, "Invalid Resource")
        assert answer.json()["detail"].startswith("Maximum allowed member items exceeded")

    async def test_members_are_active_ones_and_more_by_flags(self, staff: Audience) -> None:
        states = [
            "subscribed",
            "unsubscribed by person",
            "cleaned",
            "transactional",
            "archived",
            "pending",
        ]
        for number, state in enumerate(states):
            email = f"m{number}@corp.test"
            await staff.prepare(email, state)
            await set_tags(staff, email, Staff="active")
        [tag] = (await staff.api.get(f"{staff.path}/tag-search")).json()["tags"]
        path = f"{staff.path}/segments/{tag['id']}/members"
        assert (await staff.api.get(path)).json()["total_items"] == 1
        flags = {
            "include_unsubscribed": "1",
            "include_cleaned": "TRUE",
            "include_transactional": "true",
        }
        body = (await staff.api.get(path, params=flags)).json()
        assert {each["status"] for each in body["members"]} == {
            "subscribed",
            "unsubscribed",
            "cleaned",
            "transactional",
        }

    async def test_a_tag_listing_follows_changes(self, staff: Audience) -> None:
        await staff.control.seed(staff.id, 1_500, tag="big")
        [tag] = (await staff.api.get(f"{staff.path}/tag-search")).json()["tags"]
        path = f"{staff.path}/segments/{tag['id']}/members"
        params = {"count": 1_000, "offset": 1_000}
        assert len((await staff.api.get(path, params=params)).json()["members"]) == 500
        await staff.patch("member3@sandbox.test", status="unsubscribed")
        assert len((await staff.api.get(path, params=params)).json()["members"]) == 499
