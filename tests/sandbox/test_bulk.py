"""POST /lists/{id}: the bulk endpoint (MC 3.3)."""

from __future__ import annotations

from typing import Any

import pytest

from tests.sandbox.driver import Audience, problem, subscriber_hash


def row(email: str, status_if_new: str = "subscribed", **more: Any) -> dict[str, Any]:
    return {"email_address": email, "status_if_new": status_if_new, **more}


class TestAccounting:
    async def test_every_row_of_500_is_in_the_answer_in_another_order(
        self, staff: Audience
    ) -> None:
        emails = [f"p{number}@corp.test" for number in range(500)]
        body = await staff.bulk(*[row(email) for email in emails])
        returned = [each["email_address"] for each in body["new_members"]]
        assert body["total_created"] == 500
        assert body["total_updated"] == body["error_count"] == 0
        assert sorted(returned) == sorted(emails)
        assert returned != emails

    async def test_501_rows_are_refused_as_a_whole(self, staff: Audience) -> None:
        rows = [row(f"p{number}@corp.test") for number in range(501)]
        answer = await staff.api.post(staff.path, json={"members": rows})
        assert problem(answer) == (400, "Invalid Resource")
        assert (await staff.listing())["total_items"] == 0

    async def test_members_are_reduced(self, staff: Audience) -> None:
        [member] = (await staff.bulk(row("a@corp.test")))["new_members"]
        assert member["id"] == subscriber_hash("a@corp.test")
        assert not {"full_name", "web_id", "source", "unsubscribe_reason"} & set(member)
        assert len(member["contact_id"]) == 32

    async def test_it_is_200_even_when_every_row_failed(self, staff: Audience) -> None:
        body = await staff.bulk(row("no address"), row("also@none"))
        assert body["error_count"] == 2
        assert {each["error_code"] for each in body["errors"]} == {"ERROR_GENERIC"}

    async def test_unchanged_members_are_listed_by_default(self, staff: Audience) -> None:
        await staff.bulk(row("a@corp.test"))
        assert (await staff.bulk(row("a@corp.test")))["total_updated"] == 1
        await staff.control.configure(unchangedInUpdatedMembers=False)
        body = await staff.bulk(row("a@corp.test"))
        assert body["total_updated"] == body["total_created"] == body["error_count"] == 0


class TestExistingMembers:
    async def test_without_update_existing_they_are_errors(self, staff: Audience) -> None:
        await staff.add("a@corp.test", merge_fields={"FNAME": "Ada"})
        update = row("A@corp.test", merge_fields={"FNAME": "Eve"})
        body = await staff.bulk(update, update_existing=False)
        [error] = body["errors"]
        assert error["error_code"] == "ERROR_CONTACT_EXISTS"
        assert "already a list member" in error["error"]
        assert (await staff.held("a@corp.test"))["mergeFields"]["FNAME"] == "Ada"

    async def test_named_fields_change_and_others_stay(self, staff: Audience) -> None:
        await staff.add("a@corp.test", merge_fields={"FNAME": "Ada", "LNAME": "Byron"})
        [member] = (await staff.bulk(row("a@corp.test", merge_fields={"LNAME": "Lovelace"})))[
            "updated_members"
        ]
        assert member["merge_fields"]["FNAME"] == "Ada"
        assert member["merge_fields"]["LNAME"] == "Lovelace"

    async def test_a_self_unsubscribed_member_may_be_kept_silently(self, staff: Audience) -> None:
        await staff.prepare("a@corp.test", "unsubscribed by person")
        await staff.control.configure(silentKeepUnsubscribed=True)
        body = await staff.bulk({"email_address": "a@corp.test", "status": "subscribed"})
        assert body["errors"] == []
        assert body["updated_members"][0]["status"] == "unsubscribed"

    async def test_an_archived_one_comes_back_as_created_even_without_update_existing(
        self, staff: Audience
    ) -> None:
        await staff.prepare("a@corp.test", "archived")
        returning = {"email_address": "a@corp.test", "status": "subscribed"}
        body = await staff.bulk(returning, update_existing=False)
        assert (body["total_created"], body["total_updated"]) == (1, 0)


class TestDuplicates:
    async def test_a_repeated_address_is_an_error(self, staff: Audience) -> None:
        body = await staff.bulk(row("a@corp.test"), row("A@Corp.test", "unsubscribed"))
        assert (body["total_created"], body["error_count"]) == (1, 1)
        assert await staff.status("a@corp.test") == "subscribed"

    async def test_skip_duplicate_check_keeps_the_first(self, staff: Audience) -> None:
        rows = [row("a@corp.test"), row("a@corp.test", "unsubscribed")]
        body = await staff.bulk(*rows, query={"skip_duplicate_check": "true"})
        assert (body["total_created"], body["error_count"]) == (1, 0)
        assert await staff.status("a@corp.test") == "subscribed"


class TestTags:
    async def test_unknown_tags_are_made_and_known_ones_compare_without_case(
        self, staff: Audience
    ) -> None:
        await staff.bulk(row("a@corp.test", tags=["mcsync: Staff"]))
        await staff.bulk(row("b@corp.test", tags=["MCSYNC: staff", "other"]))
        tags = (await staff.api.get(f"{staff.path}/tag-search")).json()
        assert sorted(each["name"] for each in tags["tags"]) == ["mcsync: Staff", "other"]
        assert (await staff.held("b@corp.test"))["tags"] == ["mcsync: Staff", "other"]

    async def test_tags_are_added_without_sync_tags(self, staff: Audience) -> None:
        await staff.bulk(row("a@corp.test", tags=["one"]))
        await staff.bulk(row("a@corp.test", tags=["two"]))
        assert (await staff.held("a@corp.test"))["tags"] == ["one", "two"]

    async def test_sync_tags_replaces_the_set(self, staff: Audience) -> None:
        await staff.bulk(row("a@corp.test", tags=["one", "two"]))
        await staff.bulk(row("a@corp.test", tags=["two", "three"]), sync_tags=True)
        assert (await staff.held("a@corp.test"))["tags"] == ["two", "three"]

    async def test_sync_tags_empties_the_set(self, staff: Audience) -> None:
        await staff.bulk(row("a@corp.test", tags=["one"]))
        await staff.bulk(row("a@corp.test", tags=[]), sync_tags=True)
        assert (await staff.held("a@corp.test"))["tags"] == []


class TestRefusals:
    async def test_a_merge_failure_names_field_and_message(self, staff: Audience) -> None:
        bad = row("a@corp.test", merge_fields={"BIRTHDAY": "31/12"})
        body = await staff.bulk(bad, row("b@corp.test"))
        [error] = body["errors"]
        assert (error["email_address"], error["field"]) == ("a@corp.test", "BIRTHDAY")
        assert error["field_message"] == "Please enter a month (01-12) and a day (01-31)"
        assert body["total_created"] == 1

    async def test_required_fields_and_skip_merge_validation(self, staff: Audience) -> None:
        await staff.api.patch(
            f"{staff.path}/merge-fields/1", json={"name": "First", "required": True}
        )
        [error] = (await staff.bulk(row("a@corp.test")))["errors"]
        assert (error["field"], error["field_message"]) == ("FNAME", "Please enter a value")
        skip = {"skip_merge_validation": "true"}
        assert (await staff.bulk(row("a@corp.test"), query=skip))["total_created"] == 1
        bad = row("b@corp.test", merge_fields={"BIRTHDAY": "13/13"})
        assert (await staff.bulk(bad, query=skip))["error_count"] == 1

    @pytest.mark.parametrize(
        ("setting", "text"),
        [
            ({"fakeAddressRule": True}, "looks fake or invalid"),
            ({"throttlePattern": "^a@"}, "signed up to a lot of lists"),
        ],
    )
    async def test_fake_and_throttled_addresses(
        self, staff: Audience, setting: dict[str, Any], text: str
    ) -> None:
        await staff.control.configure(**setting)
        body = await staff.bulk(row("a@example.com"), row("b@corp.test"))
        [error] = body["errors"]
        assert error["error_code"] == "ERROR_GENERIC"
        assert text in error["error"]
        assert body["total_created"] == 1

    @pytest.mark.parametrize(
        ("bad", "field"),
        [
            ({"email_address": "b@corp.test"}, "members.item:1"),
            ({"email_address": 7, "status": "subscribed"}, "members.item:1.email_address"),
            (row("b@corp.test", "nonsense"), "members.item:1.status_if_new"),
            (row("b@corp.test", merge_fields=[]), "members.item:1.merge_fields"),
            (row("b@corp.test", ip_opt="nowhere"), "members.item:1.ip_opt"),
        ],
    )
    async def test_a_malformed_row_refuses_the_whole_call(
        self, staff: Audience, bad: dict[str, Any], field: str
    ) -> None:
        answer = await staff.api.post(staff.path, json={"members": [row("a@corp.test"), bad]})
        assert problem(answer) == (400, "Invalid Resource")
        assert answer.json()["errors"][0]["field"] == field
        assert await staff.status("a@corp.test") == "absent"

    async def test_or_by_switch_only_itself(self, staff: Audience) -> None:
        await staff.control.configure(schemaErrorsPerRow=True)
        body = await staff.bulk(row("a@corp.test"), row("b@corp.test", "nonsense"))
        assert (body["total_created"], body["error_count"]) == (1, 1)

    @pytest.mark.parametrize("envelope", [{}, {"members": "all"}, {"members": [7]}])
    async def test_a_malformed_envelope_is_400(
        self, staff: Audience, envelope: dict[str, Any]
    ) -> None:
        answer = await staff.api.post(staff.path, json=envelope)
        assert problem(answer) == (400, "Invalid Resource")


class TestAccountsBefore2026:
    async def test_a_row_without_status_refuses_the_call(self, staff: Audience) -> None:
        await staff.control.configure(requireStatus=True)
        rows = [{"email_address": "a@corp.test", "status": "subscribed"}, row("b@corp.test")]
        answer = await staff.api.post(staff.path, json={"members": rows})
        assert problem(answer) == (400, "Invalid Resource")
        assert answer.json()["errors"] == [
            {
                "field": "members.item:1.status",
                "message": "Required fields were not provided: status",
            }
        ]

    async def test_status_if_new_is_ignored(self, staff: Audience) -> None:
        await staff.control.configure(requireStatus=True)
        await staff.bulk(row("a@corp.test", "pending", status="subscribed"))
        assert await staff.status("a@corp.test") == "subscribed"
