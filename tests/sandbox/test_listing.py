"""GET /lists/{id}/members and /search-members (MC 2, 4.6)."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest

from tests.sandbox.driver import Audience, problem


def emails(body: dict[str, Any]) -> list[str]:
    return [each["email_address"] for each in body["members"]]


class TestPaging:
    async def test_count_is_ten_by_default_and_at_most_a_thousand(self, staff: Audience) -> None:
        await staff.control.seed(staff.id, 1_100)
        assert len((await staff.listing())["members"]) == 10
        body = await staff.listing(count=5_000)
        assert (len(body["members"]), body["total_items"]) == (1_000, 1_100)

    async def test_an_offset_past_the_end_is_an_empty_page(self, staff: Audience) -> None:
        await staff.control.seed(staff.id, 3)
        body = await staff.listing(offset=50)
        assert (body["members"], body["total_items"]) == ([], 3)

    @pytest.mark.parametrize("direction", ["ASC", "DESC"])
    async def test_pages_cover_every_member_once_through_holes_and_blocks(
        self, staff: Audience, direction: str
    ) -> None:
        await staff.control.seed(staff.id, 3_000)
        changed = [
            {"email_address": f"member{n}@sandbox.test", "status": "unsubscribed"}
            for n in range(0, 900, 3)
        ]
        await staff.bulk(*changed)
        seen: Counter[str] = Counter()
        for status in ("subscribed", "unsubscribed"):
            for offset in range(0, 3_000, 700):
                params = {"count": 700, "offset": offset, "status": status, "sort_dir": direction}
                seen.update(emails(await staff.listing(sort_field="last_changed", **params)))
        assert len(seen) == 3_000
        assert set(seen.values()) == {1}

    async def test_totals_by_status_agree_with_what_is_listed(self, staff: Audience) -> None:
        states = [
            "subscribed",
            "unsubscribed by person",
            "cleaned",
            "pending",
            "transactional",
            "archived",
        ]
        for number, state in enumerate(states):
            await staff.prepare(f"m{number}@corp.test", state)
        for status in (
            "subscribed",
            "unsubscribed",
            "cleaned",
            "pending",
            "transactional",
            "archived",
        ):
            body = await staff.listing(status=status)
            assert (len(body["members"]), body["total_items"]) == (1, 1)

    async def test_archived_members_are_listed_by_default_or_not(self, staff: Audience) -> None:
        await staff.prepare("a@corp.test", "archived")
        assert (await staff.listing())["total_items"] == 0
        await staff.control.configure(archivedInDefaultListing=True)
        assert (await staff.listing())["total_items"] == 1


class TestTimeFilters:
    async def test_since_last_changed_is_exclusive_at_the_second(self, staff: Audience) -> None:
        first = (await staff.add("a@corp.test"))["last_changed"]
        await staff.control.advance_clock(10)
        second = (await staff.add("b@corp.test"))["last_changed"]
        assert emails(await staff.listing(since_last_changed=first)) == ["b@corp.test"]
        assert emails(await staff.listing(since_last_changed=second)) == []
        assert emails(await staff.listing(before_last_changed=second)) == ["a@corp.test"]
        assert emails(await staff.listing(before_last_changed=first)) == []

    async def test_z_milliseconds_and_a_raw_plus_are_understood(self, staff: Audience) -> None:
        changed = (await staff.add("a@corp.test"))["last_changed"]
        await staff.control.advance_clock(10)
        await staff.add("b@corp.test")
        for text in (changed.replace("+00:00", "Z"), changed.replace("+00:00", ".000Z"), changed):
            answer = await staff.api.get(f"{staff.path}/members?since_last_changed={text}")
            assert emails(answer.json()) == ["b@corp.test"]

    async def test_a_change_moves_a_member_to_the_end(self, staff: Audience) -> None:
        for name in "abc":
            await staff.add(f"{name}@corp.test")
        await staff.control.advance_clock(10)
        await staff.patch("a@corp.test", merge_fields={"FNAME": "A"})
        body = await staff.listing(sort_field="last_changed", sort_dir="ASC")
        assert emails(body) == ["b@corp.test", "c@corp.test", "a@corp.test"]
        body = await staff.listing(sort_field="last_changed", sort_dir="DESC", count=1)
        assert emails(body) == ["a@corp.test"]

    async def test_by_switches_an_unchanged_write_and_a_tag_do_not_move_it(
        self, staff: Audience
    ) -> None:
        await staff.control.configure(tagsMoveLastChanged=False, equalValuesMoveLastChanged=False)
        before = await staff.add("a@corp.test", merge_fields={"FNAME": "A"})
        await staff.control.advance_clock(10)
        await staff.put("a@corp.test", merge_fields={"FNAME": "A"}, status="subscribed")
        tags = {"tags": [{"name": "new", "status": "active"}]}
        await staff.api.post(f"{staff.member_path('a@corp.test')}/tags", json=tags)
        assert (await staff.held("a@corp.test"))["lastChanged"] == before["last_changed"]

    async def test_unsubscribed_since_needs_the_status(self, staff: Audience) -> None:
        stamp = (await staff.add("a@corp.test"))["last_changed"]
        await staff.control.advance_clock(10)
        await staff.patch("a@corp.test", status="unsubscribed")
        body = await staff.listing(status="unsubscribed", unsubscribed_since=stamp)
        assert emails(body) == ["a@corp.test"]
        answer = await staff.api.get(f"{staff.path}/members", params={"unsubscribed_since": stamp})
        assert answer.status_code == 400

    async def test_since_last_campaign_needs_a_status(self, staff: Audience) -> None:
        answer = await staff.api.get(f"{staff.path}/members?since_last_campaign=false")
        assert problem(answer) == (400, "Bad Request")
        assert (
            answer.json()["detail"] == "Status is required when using since_last_campaign filter."
        )

    async def test_filters_combine(self, staff: Audience) -> None:
        await staff.add("a@corp.test", vip=True)
        await staff.add("b@corp.test")
        await staff.add("c@corp.test", "unsubscribed", vip=True)
        body = await staff.listing(vip_only="true", status="subscribed", email_type="html")
        assert emails(body) == ["a@corp.test"]
        ident = body["members"][0]["unique_email_id"]
        assert emails(await staff.listing(unique_email_id=ident)) == ["a@corp.test"]


class TestFields:
    async def test_fields_keeps_and_exclude_fields_drops(self, staff: Audience) -> None:
        await staff.add("a@corp.test")
        body = await staff.listing(fields="members.id,members.merge_fields.FNAME,total_items")
        assert set(body) == {"members", "total_items"}
        assert set(body["members"][0]) == {"id", "merge_fields"}
        assert set(body["members"][0]["merge_fields"]) == {"FNAME"}
        body = await staff.listing(exclude_fields="members._links,_links,members.stats")
        assert "_links" not in body
        assert not {"_links", "stats"} & set(body["members"][0])
        assert "stats" in (await staff.listing())["members"][0]

    async def test_both_or_an_unknown_name_are_refused(self, staff: Audience) -> None:
        path = f"{staff.path}/members"
        both = {"fields": "members", "exclude_fields": "_links"}
        assert (await staff.api.get(path, params=both)).status_code == 400
        assert (await staff.api.get(path, params={"fields": "nonsense"})).status_code == 400


class TestSearch:
    async def test_exact_and_full_matches(self, staff: Audience) -> None:
        await staff.add("ada@corp.test", merge_fields={"LNAME": "Lovelace"})
        await staff.add("lovelace@corp.test")
        body = (await staff.api.get("/search-members", params={"query": "ada@corp.test"})).json()
        assert emails(body["exact_matches"]) == ["ada@corp.test"]
        params = {"query": "lovelace", "list_id": staff.id}
        body = (await staff.api.get("/search-members", params=params)).json()
        assert body["exact_matches"]["total_items"] == 0
        assert body["full_search"]["total_items"] == 2
