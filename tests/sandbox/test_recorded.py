"""What recordings and first-hand reports of the real Mailchimp showed (MC 21), and its switches."""

from __future__ import annotations

import dataclasses
from typing import Any

import httpx
import pytest

from mcsync.sandbox.config import SandboxConfig, patched
from mcsync.sandbox.switches import SWITCHES, Switch
from tests.sandbox.driver import Audience, problem, subscriber_hash

ADA = "ada@corp.test"


async def moved(staff: Audience, path: str, body: dict[str, Any], method: str = "POST") -> bool:
    """Whether a write moves the last_changed of Ada, who was changed long before."""
    await staff.control.advance_clock(10)
    before = (await staff.held(ADA))["lastChanged"]
    answer = await staff.api.request(method, f"{staff.member_path(ADA)}{path}", json=body)
    assert answer.status_code in (200, 204), answer.text
    return (await staff.held(ADA))["lastChanged"] != before


def tags(*names: str, status: str = "active") -> dict[str, Any]:
    return {"tags": [{"name": name, "status": status} for name in names]}


class TestLastChanged:
    async def test_a_change_of_tags_moves_it(self, staff: Audience) -> None:
        await staff.add(ADA)
        assert await moved(staff, "/tags", tags("one"))
        assert await moved(staff, "/tags", tags("one", status="inactive"))

    async def test_activating_a_held_tag_moves_it_by_switch(self, staff: Audience) -> None:
        await staff.add(ADA, tags=["one"])
        assert await moved(staff, "/tags", tags("one"))
        await staff.control.configure(heldTagMovesLastChanged=False)
        assert not await moved(staff, "/tags", tags("one"))

    async def test_an_empty_tag_list_never_moves_it(self, staff: Audience) -> None:
        await staff.add(ADA, tags=["one"])
        assert not await moved(staff, "/tags", {"tags": []})

    async def test_equal_values_move_it_by_switch(self, staff: Audience) -> None:
        await staff.add(ADA, merge_fields={"FNAME": "Ada"})
        same = {"merge_fields": {"FNAME": "Ada"}}
        assert await moved(staff, "", same, "PATCH")
        await staff.control.configure(equalValuesMoveLastChanged=False)
        assert not await moved(staff, "", same, "PATCH")

    async def test_a_tag_put_on_in_the_pages_moves_it(self, staff: Audience) -> None:
        before = await staff.add(ADA)
        await staff.control.advance_clock(10)
        await staff.control.admin(staff.id, ADA, "tag", tag="one")
        assert (await staff.held(ADA))["lastChanged"] > before["last_changed"]


class TestTimeOfTheOptIn:
    async def opted(self, staff: Audience, state: str, write: str) -> tuple[str, str]:
        """`timestamp_opt` before and after Ada is subscribed again."""
        await staff.prepare(ADA, state)
        before = (await staff.held(ADA))["timestampOpt"]
        await staff.control.advance_clock(10)
        body = {"email_address": ADA, "status": "subscribed"}
        paths = {"PUT": staff.member_path(ADA), "POST": f"{staff.path}/members"}
        stranger = f"{staff.path}/members/{subscriber_hash('x@else.test')}"
        if write == "bulk":
            await staff.bulk(body)
        elif write == "stranger":
            assert (await staff.api.put(stranger, json=body)).status_code == 200
        else:
            assert (await staff.api.request(write, paths[write], json=body)).status_code == 200
        held = await staff.held(ADA)
        assert held["status"] == "subscribed"
        return before, held["timestampOpt"]

    @pytest.mark.parametrize("state", ["unsubscribed by api", "archived"])
    async def test_a_put_by_the_own_hash_keeps_it(self, staff: Audience, state: str) -> None:
        before, after = await self.opted(staff, state, "PUT")
        assert before == after

    @pytest.mark.parametrize("write", ["POST", "stranger"])
    async def test_others_that_bring_an_archived_one_back_set_it(
        self, staff: Audience, write: str
    ) -> None:
        before, after = await self.opted(staff, "archived", write)
        assert before < after

    async def test_the_bulk_call_sets_or_keeps_it_by_switch(self, staff: Audience) -> None:
        before, after = await self.opted(staff, "archived", "bulk")
        assert before < after
        await staff.forget(ADA)
        await staff.control.reset()
        await staff.control.configure(bulkKeepsTimestampOpt=True)
        before, after = await self.opted(staff, "archived", "bulk")
        assert before == after


class TestAHashThatIsAnothers:
    path = f"/members/{subscriber_hash('x@else.test')}"

    async def test_an_archived_member_comes_back_under_its_own(self, staff: Audience) -> None:
        before = await staff.add(ADA, tags=["one"])
        await staff.delete(ADA)
        body = {"email_address": ADA, "status_if_new": "subscribed"}
        answer = await staff.api.put(f"{staff.path}{self.path}", json=body)
        assert answer.status_code == 200
        for same in ("id", "contact_id", "tags"):
            assert answer.json()[same] == before[same]
        assert answer.json()["status"] == "subscribed"

    async def test_an_active_one_exists(self, staff: Audience) -> None:
        await staff.add(ADA)
        body = {"email_address": ADA, "status_if_new": "subscribed"}
        answer = await staff.api.put(f"{staff.path}{self.path}", json=body)
        assert problem(answer) == (400, "Member Exists")
        assert "type" not in answer.json()


class TestShapes:
    async def test_members_of_a_segment_are_reduced(self, staff: Audience) -> None:
        ident = await staff.tag("one")
        await staff.add(ADA, tags=["one"])
        segment = f"{staff.path}/segments/{ident}"
        shown = (await staff.api.get(f"{segment}/members")).json()["members"][0]
        absent = {"contact_id", "full_name", "web_id", "source", "tags", "tags_count"}
        assert absent.isdisjoint(shown)
        assert shown["email_address"] == ADA
        assert "options" not in (await staff.api.get(segment)).json()

    async def test_an_add_keeps_the_callers_address_and_no_signup(self, staff: Audience) -> None:
        await staff.add(ADA)
        await staff.bulk({"email_address": "eve@corp.test", "status": "subscribed"})
        for email in (ADA, "eve@corp.test"):
            shown = (await staff.get(email)).json()
            assert (shown["ip_opt"], shown["timestamp_signup"]) == ("127.0.0.1", "")

    async def test_a_reason_only_while_unsubscribed(self, staff: Audience) -> None:
        assert "unsubscribe_reason" not in await staff.add(ADA)
        await staff.patch(ADA, status="unsubscribed")
        assert (await staff.get(ADA)).json()["unsubscribe_reason"] == "N/A (Unsubscribed by admin)"
        await staff.control.configure(saysAnAdmin=True)
        await staff.patch(ADA, status="subscribed")
        await staff.patch(ADA, status="unsubscribed")
        told = (await staff.get(ADA)).json()["unsubscribe_reason"]
        assert told == "N/A (Unsubscribed by an admin)"

    async def test_a_persons_reason_may_be_empty(self, staff: Audience) -> None:
        await staff.prepare(ADA, "unsubscribed by person")
        assert (await staff.get(ADA)).json()["unsubscribe_reason"] == "Unspecified"
        await staff.control.configure(ownReasonEmpty=True)
        await staff.prepare("eve@corp.test", "unsubscribed by person")
        assert (await staff.get("eve@corp.test")).json()["unsubscribe_reason"] == ""

    async def test_by_switch_listings_show_null(self, staff: Audience) -> None:
        await staff.add(ADA)
        assert (await staff.listing())["members"][0]["merge_fields"]["FNAME"] == ""
        await staff.control.configure(nullMergeFields=True)
        # Not through `staff`: its judge knows only what was published.
        async with httpx.AsyncClient(base_url=staff.api.base_url, auth=staff.api.auth) as client:
            shown = (await client.get(f"{staff.path}/members")).json()["members"][0]
        assert (shown["merge_fields"], shown["interests"]) == (None, None)

    async def test_tags_come_in_no_order_of_adding(self, staff: Audience) -> None:
        shown = await staff.add(ADA, tags=["zebra", "ant"])
        assert [tag["name"] for tag in shown["tags"]] == ["ant", "zebra"]


class TestRefusals:
    async def test_the_words_of_a_post(self, staff: Audience) -> None:
        await staff.prepare(ADA, "unsubscribed by person")
        answer = await staff.post(email_address=ADA, status="subscribed")
        assert problem(answer) == (400, "Member In Compliance State")
        assert "is already a list member in compliance state due to" in answer.json()["detail"]
        assert "type" not in answer.json()
        answer = await staff.put(ADA, status="subscribed")
        assert "is in a compliance state due to" in answer.json()["detail"]

    @pytest.mark.parametrize(
        ("state", "words"),
        [
            ("unsubscribed by person", "has previously unsubscribed from this list"),
            ("cleaned", 'This member\'s status is "cleaned."'),
            ("forgotten", "was previously removed from this audience."),
        ],
    )
    async def test_the_other_words_stand_in_errors(
        self, staff: Audience, state: str, words: str
    ) -> None:
        await staff.control.configure(otherRefusalWords=True)
        await staff.prepare(ADA, state)
        answer = await staff.put(ADA, status="subscribed")
        assert problem(answer) == (400, "Invalid Resource")
        assert words in answer.json()["errors"][0]["message"]

    async def test_an_empty_status_refuses_the_whole_call(self, staff: Audience) -> None:
        row = {"email_address": ADA, "status": "", "status_if_new": "subscribed"}
        answer = await staff.api.post(staff.path, json={"members": [row]})
        assert problem(answer) == (400, "Invalid Resource")
        error = answer.json()["errors"][0]
        assert error["field"] == "members.item:0.status"
        assert error["message"].startswith("Data presented is not one of the accepted values")

    async def test_a_choice_that_is_none(self, staff: Audience) -> None:
        field = {"tag": "SIZE", "name": "Size", "type": "dropdown", "options": {"choices": ["a"]}}
        await staff.api.post(f"{staff.path}/merge-fields", json=field)
        answer = await staff.post(
            email_address=ADA, status="subscribed", merge_fields={"SIZE": "z"}
        )
        assert answer.json()["detail"] == "Your merge fields were invalid."
        assert answer.json()["errors"][0]["message"] == "Value must be one of: a,  (not z)"


class TestBulk:
    async def held_tags(self, staff: Audience, **envelope: Any) -> list[str]:
        await staff.add(ADA, tags=["old"])
        await staff.bulk(
            {"email_address": ADA, "status_if_new": "subscribed", "tags": ["new"]}, **envelope
        )
        return (await staff.held(ADA))["tags"]

    @pytest.mark.parametrize(
        ("position", "held"),
        [("added", ["old", "new"]), ("replaced", ["new"]), ("ignored", ["old"])],
    )
    async def test_tags_of_existing_members(
        self, staff: Audience, position: str, held: list[str]
    ) -> None:
        await staff.control.configure(bulkTags=position)
        assert await self.held_tags(staff) == held

    async def test_sync_tags_by_switch_only_adds(self, staff: Audience) -> None:
        await staff.control.configure(syncTagsReplaces=False)
        assert await self.held_tags(staff, sync_tags=True) == ["old", "new"]

    async def test_a_resubscribe_is_ignored_by_switch(self, staff: Audience) -> None:
        await staff.control.configure(bulkResubscribeIgnored=True)
        await staff.prepare(ADA, "unsubscribed by api")
        answer = await staff.bulk({"email_address": ADA, "status": "subscribed"})
        assert [each["status"] for each in answer["updated_members"]] == ["unsubscribed"]


class TestBothSpellings:
    NAMES = ("x@bücher.test", "x@xn--bcher-kva.test")

    async def members(self, staff: Audience) -> set[str]:
        made = await staff.api.post(
            "/lists",
            json={
                "name": "New", "permission_reminder": "x", "email_type_option": False,
                "contact": {"company": "", "address1": "", "city": "", "country": "DE"},
                "campaign_defaults": {
                    "from_name": "", "from_email": "", "subject": "", "language": "en",
                },
            },
        )  # fmt: skip
        audience = Audience(staff.api, staff.control, made.json()["id"])
        return {(await audience.add(name))["contact_id"] for name in self.NAMES}

    async def test_two_members_or_by_switch_one(self, staff: Audience) -> None:
        assert len(await self.members(staff)) == 2
        await staff.control.configure(bothSpellingsOneMember=True)
        assert len(await self.members(staff)) == 1


class TestSwitches:
    @pytest.mark.parametrize("switch", SWITCHES, ids=lambda switch: switch.question)
    def test_the_first_position_is_the_default(self, switch: Switch) -> None:
        config = SandboxConfig()
        for position, settings in switch.positions.items():
            changed = patched(config, dict(settings))
            assert (changed == config) == (position == switch.default), position

    def test_every_question_is_asked_once(self) -> None:
        names = [switch.question for switch in SWITCHES]
        assert len(names) == len(set(names))
        fields = {each.name for each in dataclasses.fields(SandboxConfig)}
        used = {name for s in SWITCHES for each in s.positions.values() for name in each}
        assert used <= fields
