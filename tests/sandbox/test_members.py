"""Single members: identity, writes, archive and deletion (MC 4.1 to 4.3, 4.5)."""

from __future__ import annotations

from typing import Any

import pytest

from tests.sandbox.driver import Audience, problem, subscriber_hash

ADA = "ada.lovelace@corp.test"


class TestIdentity:
    async def test_the_hash_is_the_md5_of_the_lowered_address(self, staff: Audience) -> None:
        member = await staff.add("Ada.Lovelace@example.com")
        assert member["id"] == "2b9150605ac374d671a306b5fcee60a0"
        assert member["email_address"] == "Ada.Lovelace@example.com"

    async def test_a_member_is_found_by_hash_address_and_contact_id(self, staff: Audience) -> None:
        member = await staff.add("user+tag@corp.test")
        for key in (member["id"], "user%2Btag%40corp.test", member["contact_id"]):
            answer = await staff.api.get(f"{staff.path}/members/{key}")
            assert answer.json()["id"] == member["id"]

    async def test_delete_permanent_takes_the_hash_only(self, staff: Audience) -> None:
        member = await staff.add(ADA)
        path = f"{staff.path}/members/{member['contact_id']}/actions/delete-permanent"
        assert (await staff.api.post(path)).status_code == 404
        assert (await staff.forget(ADA)).status_code == 204

    async def test_unset_values_are_empty_texts(self, staff: Audience) -> None:
        member = await staff.add(ADA, "pending")
        assert member["timestamp_opt"] == ""
        assert member["timestamp_signup"].endswith("+00:00")
        assert set(member["merge_fields"].values()) == {""}
        assert "EMAIL" not in member["merge_fields"]
        assert "unsubscribe_reason" not in member
        assert member["source"] == "API - Generic"


class TestPost:
    async def test_an_existing_member_is_refused(self, staff: Audience) -> None:
        await staff.post(email_address=ADA, status="subscribed")
        answer = await staff.post(email_address=ADA.upper(), status="subscribed")
        assert problem(answer) == (400, "Member Exists")
        assert "type" not in answer.json()
        assert "Use PUT to insert or update list members." in answer.json()["detail"]

    async def test_an_archived_one_comes_back_with_its_data(self, staff: Audience) -> None:
        await staff.add(ADA, merge_fields={"FNAME": "Ada", "LNAME": "B"}, tags=["old"])
        await staff.delete(ADA)
        body = {"merge_fields": {"LNAME": "Lovelace"}}
        answer = await staff.post(email_address=ADA, status="subscribed", **body)
        member = answer.json()
        assert (answer.status_code, member["status"]) == (200, "subscribed")
        assert member["merge_fields"]["FNAME"] == "Ada"
        assert member["full_name"] == "Ada Lovelace"
        assert [tag["name"] for tag in member["tags"]] == ["old"]

    @pytest.mark.parametrize(
        "body",
        [
            {"status": "subscribed"},
            {"email_address": ADA},
            {"email_address": ADA, "status": "archived"},
        ],
    )
    async def test_address_and_status_are_required(
        self, staff: Audience, body: dict[str, Any]
    ) -> None:
        assert problem(await staff.post(**body)) == (400, "Invalid Resource")

    @pytest.mark.parametrize(
        "email", ["nobody", "a@b", "a b@corp.test", "müller@corp.test", "@corp.test"]
    )
    async def test_bad_addresses_are_refused(self, staff: Audience, email: str) -> None:
        answer = await staff.post(email_address=email, status="subscribed")
        assert answer.json()["detail"] == "Please provide a valid email address."

    async def test_null_and_php_empties_are_refused(self, staff: Audience) -> None:
        answer = await staff.post(email_address=ADA, status="subscribed", language=None)
        assert answer.json()["errors"][0]["message"].endswith("NULL found instead")
        answer = await staff.post(email_address=ADA, status="subscribed", merge_fields=[])
        message = "Schema describes object, array found instead"
        assert answer.json()["errors"] == [{"field": "merge_fields", "message": message}]


class TestPut:
    async def test_any_subset_updates_an_existing_member(self, staff: Audience) -> None:
        await staff.add(ADA, merge_fields={"FNAME": "Ada"})
        answer = await staff.api.put(staff.member_path(ADA), json={"merge_fields": {"LNAME": "L"}})
        assert answer.json()["full_name"] == "Ada L"

    async def test_nothing_to_create_from(self, staff: Audience) -> None:
        answer = await staff.api.put(staff.member_path(ADA), json={"status_if_new": "subscribed"})
        assert problem(answer) == (400, "Invalid Resource")
        message = "Required fields were not provided: email_address"
        assert answer.json()["errors"] == [{"field": "", "message": message}]

    async def test_a_wrong_hash_creates_once_and_then_exists(self, staff: Audience) -> None:
        path = f"{staff.path}/members/{subscriber_hash('somebody@else.test')}"
        body = {"email_address": ADA, "status_if_new": "subscribed"}
        assert (await staff.api.put(path, json=body)).json()["id"] == subscriber_hash(ADA)
        assert (await staff.api.get(path)).status_code == 404
        assert problem(await staff.api.put(path, json=body)) == (400, "Member Exists")

    async def test_tags_act_on_creation_and_by_switch_on_updates(self, staff: Audience) -> None:
        await staff.add(ADA, tags=["one"])
        await staff.put(ADA, tags=["two"])
        assert (await staff.held(ADA))["tags"] == ["one"]
        await staff.control.configure(tagsOnUpdate=True)
        await staff.put(ADA, tags=["two"])
        assert (await staff.held(ADA))["tags"] == ["one", "two"]

    async def test_patch_of_a_missing_member_is_404(self, staff: Audience) -> None:
        assert problem(await staff.patch(ADA, status="subscribed")) == (404, "Resource Not Found")


class TestEmailChange:
    @pytest.mark.parametrize("method", ["PUT", "PATCH"])
    async def test_the_contact_stays_and_the_hash_moves(self, staff: Audience, method: str) -> None:
        before = await staff.add(ADA, tags=["kept"])
        body = {"email_address": "ada@new.test"}
        answer = await staff.api.request(method, staff.member_path(ADA), json=body)
        after = answer.json()
        assert after["id"] == subscriber_hash("ada@new.test")
        for same in ("contact_id", "web_id", "tags", "timestamp_opt"):
            assert after[same] == before[same]
        assert after["unique_email_id"] != before["unique_email_id"]
        assert (await staff.get(ADA)).status_code == 404

    async def test_an_address_in_the_list_is_refused(self, staff: Audience) -> None:
        await staff.add(ADA)
        await staff.add("eve@corp.test")
        answer = await staff.patch(ADA, email_address="EVE@corp.test", merge_fields={"FNAME": "X"})
        assert problem(answer) == (400, "Invalid Resource")
        assert answer.json()["errors"] == [
            {
                "field": "email address",
                "message": '"EVE@corp.test" is already in this list with a status of "Subscribed".',
            }
        ]
        assert (await staff.held(ADA))["mergeFields"]["FNAME"] == ""

    @pytest.mark.parametrize(
        ("state", "told"),
        [
            ("unsubscribed by person", "Unsubscribed"),
            ("cleaned", "Cleaned"),
            ("archived", "Subscribed"),  # what it was before
            ("forgotten", "Deleted"),
        ],
    )
    async def test_the_status_of_the_other_one_is_told(
        self, staff: Audience, state: str, told: str
    ) -> None:
        await staff.prepare("eve@corp.test", state)
        await staff.add(ADA)
        answer = await staff.patch(ADA, email_address="eve@corp.test")
        assert problem(answer) == (400, "Invalid Resource")
        assert answer.json()["errors"][0]["message"].endswith(f'a status of "{told}".')

    async def test_only_subscribed_members_may_change(self, staff: Audience) -> None:
        await staff.prepare(ADA, "unsubscribed by api")
        assert (await staff.patch(ADA, email_address="ada@new.test")).status_code == 400
        await staff.control.configure(emailChangeNeedsSubscribed=False)
        assert (await staff.patch(ADA, email_address="ada@new.test")).status_code == 200

    async def test_a_person_may_change_the_address(self, staff: Audience) -> None:
        before = await staff.add(ADA)
        await staff.control.person(staff.id, ADA, "change_email", new_email="ada@new.test")
        assert (await staff.held("ada@new.test"))["contactId"] == before["contact_id"]
        assert await staff.status(ADA) == "absent"


class TestLeaving:
    async def test_archiving_keeps_everything(self, staff: Audience) -> None:
        await staff.add(ADA, merge_fields={"FNAME": "Ada"}, tags=["kept"])
        answer = await staff.delete(ADA)
        assert (answer.status_code, answer.content) == (204, b"")
        member = (await staff.get(ADA)).json()
        assert member["status"] == "archived"
        assert member["merge_fields"]["FNAME"] == "Ada"
        assert member["tags_count"] == 1

    @pytest.mark.parametrize("state", ["archived", "pending", "cleaned"])
    async def test_what_cannot_be_archived_is_405(self, staff: Audience, state: str) -> None:
        await staff.prepare(ADA, state)
        answer = await staff.delete(ADA)
        assert problem(answer) == (405, "Method Not Allowed")
        assert answer.headers["allow"] == "GET, PUT"
        assert answer.json()["detail"].startswith("This list member cannot be removed.")

    async def test_an_unknown_member_is_404(self, staff: Audience) -> None:
        assert (await staff.delete(ADA)).status_code == 404
        assert (await staff.forget(ADA)).status_code == 404

    async def test_a_forgotten_member_looks_as_if_never_seen(self, staff: Audience) -> None:
        await staff.prepare(ADA, "forgotten")
        assert problem(await staff.get(ADA)) == (404, "Resource Not Found")
        assert (await staff.listing(status="archived"))["total_items"] == 0
        answer = await staff.post(email_address=ADA, status="subscribed")
        assert problem(answer) == (400, "Forgotten Email Not Subscribed")
