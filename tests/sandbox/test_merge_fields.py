"""Merge fields and what each type of value takes (MC 5)."""

from __future__ import annotations

from typing import Any

import pytest

from tests.sandbox.driver import Audience, problem

ADA = "ada@corp.test"
FULL = {"addr1": "1 High Street", "city": "London", "state": "LDN", "zip": "EC1A"}


async def add_field(staff: Audience, **body: Any) -> dict[str, Any]:
    answer = await staff.api.post(f"{staff.path}/merge-fields", json=body)
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    return found


class TestFields:
    async def test_the_defaults(self, staff: Audience) -> None:
        body = (await staff.api.get(f"{staff.path}/merge-fields")).json()
        tags = [each["tag"] for each in body["merge_fields"]]
        assert tags == ["FNAME", "LNAME", "ADDRESS", "PHONE", "BIRTHDAY"]
        assert body["total_items"] == 5

    async def test_create_change_delete(self, staff: Audience) -> None:
        made = await add_field(staff, name="Department", type="text", tag="dept")
        assert made["tag"] == "DEPT"
        await staff.add(ADA, merge_fields={"DEPT": "IT"})
        path = f"{staff.path}/merge-fields/{made['merge_id']}"
        assert (await staff.api.patch(path, json={"name": "Team"})).json()["name"] == "Team"
        assert (await staff.api.delete(path)).status_code == 204
        assert "DEPT" not in (await staff.get(ADA)).json()["merge_fields"]

    async def test_a_field_made_later_is_empty_on_old_members(self, staff: Audience) -> None:
        await staff.add(ADA, merge_fields={"FNAME": "Ada"})
        await add_field(staff, name="Department", type="text", tag="DEPT")
        member = (await staff.get(ADA)).json()
        assert member["merge_fields"]["DEPT"] == ""
        assert member["merge_fields"]["FNAME"] == "Ada"

    @pytest.mark.parametrize("body", [{"name": "X"}, {"name": "X", "type": "poem"}])
    async def test_bad_definitions(self, staff: Audience, body: dict[str, Any]) -> None:
        answer = await staff.api.post(f"{staff.path}/merge-fields", json=body)
        assert problem(answer) == (400, "Invalid Resource")

    async def test_a_field_made_required_later_breaks_writes(self, staff: Audience) -> None:
        await staff.add(ADA)
        await add_field(staff, name="Department", type="text", tag="DEPT", required=True)
        answer = await staff.patch(ADA, status="unsubscribed")
        assert answer.json()["detail"] == "Your merge fields were invalid."
        assert answer.json()["errors"] == [{"field": "DEPT", "message": "Please enter a value"}]
        skip = f"{staff.member_path(ADA)}?skip_merge_validation=true"
        assert (await staff.api.patch(skip, json={"status": "unsubscribed"})).status_code == 200


GOOD = [
    ("text", "x" * 300, "x" * 255),
    ("text", "", ""),
    ("number", 7, 7),
    ("number", "7.5", 7.5),
    ("date", "2026-02-28", "2026-02-28"),
    ("date", "2026/2/8", "2026-02-08"),
    ("date", "28-02-2026", "2026-02-28"),
    ("date", "02/28/2026", "2026-02-28"),
    ("birthday", "2/9", "02/09"),
    ("zip", "12345", "12345"),
    ("url", "https://corp.test/x", "https://corp.test/x"),
    ("dropdown", "red", "red"),
    ("address", FULL, {**FULL, "addr2": "", "country": "US"}),
    ("address", "", ""),
]
BAD = [
    ("number", "many", "Please enter a number"),
    ("date", "31/12/2026", "Please enter the date"),
    ("date", "2026-02-30", "Please enter the date"),
    ("birthday", "31/12", "Please enter a month (01-12) and a day (01-31)"),
    ("birthday", "2000-12-31", "Please enter a month (01-12) and a day (01-31)"),
    ("address", {"addr1": "1 High Street"}, "Please enter a complete address"),
    ("address", {**FULL, "zip": ""}, "Please enter a complete address"),
    ("dropdown", "mauve", None),
    ("zip", "EC1A", None),
    ("url", "nowhere", None),
    ("text", {"a": 1}, "Data did not match any of the schemas described in anyOf."),
    ("text", True, "Data did not match any of the schemas described in anyOf."),
]


class TestValues:
    @pytest.mark.parametrize(("kind", "value", "stored"), GOOD)
    async def test_taken(self, staff: Audience, kind: str, value: Any, stored: Any) -> None:
        await add_field(staff, name="X", type=kind, tag="X", options={"choices": ["red", "blue"]})
        member = await staff.add(ADA, merge_fields={"X": value, "UNKNOWN": "ignored"})
        assert member["merge_fields"]["X"] == stored
        assert "UNKNOWN" not in member["merge_fields"]

    @pytest.mark.parametrize(("kind", "value", "message"), BAD)
    async def test_refused_also_with_skip_merge_validation(
        self, staff: Audience, kind: str, value: Any, message: str | None
    ) -> None:
        await add_field(staff, name="X", type=kind, tag="X", options={"choices": ["red", "blue"]})
        path = f"{staff.path}/members?skip_merge_validation=true"
        body = {"email_address": ADA, "status": "subscribed", "merge_fields": {"X": value}}
        answer = await staff.api.post(path, json=body)
        assert problem(answer) == (400, "Invalid Resource")
        [error] = answer.json()["errors"]
        assert error["field"].endswith("X")
        assert message is None or error["message"] == message

    async def test_an_empty_text_clears_any_type(self, staff: Audience) -> None:
        await add_field(staff, name="X", type="number", tag="X")
        await staff.add(ADA, merge_fields={"X": 7, "ADDRESS": FULL})
        member = (await staff.patch(ADA, merge_fields={"X": "", "ADDRESS": ""})).json()
        assert (member["merge_fields"]["X"], member["merge_fields"]["ADDRESS"]) == ("", "")

    async def test_a_partial_address_may_be_dropped_quietly(self, staff: Audience) -> None:
        await staff.control.configure(partialAddressDropped=True)
        member = await staff.add(ADA, merge_fields={"ADDRESS": {"addr1": "1"}, "FNAME": "Ada"})
        assert (member["merge_fields"]["ADDRESS"], member["merge_fields"]["FNAME"]) == ("", "Ada")
