"""The status machine: what each request does to a member in each state (MC 4.4)."""

from __future__ import annotations

import pytest

from tests.sandbox.driver import Audience

WHO = "ada.lovelace@corp.test"

COMPLIANCE = "Member In Compliance State"
FORGOTTEN = "Forgotten Email Not Subscribed"

# state of the member, what the request says, status afterwards or the title of the refusal
TABLE = [
    ("absent", {"status": "subscribed"}, "subscribed"),
    ("absent", {"status": "pending"}, "pending"),
    ("absent", {"status": "unsubscribed"}, "unsubscribed"),
    ("absent", {"status_if_new": "subscribed"}, "subscribed"),
    ("absent", {"status_if_new": "pending"}, "pending"),
    ("absent", {"status_if_new": "transactional"}, "transactional"),
    ("subscribed", {"status": "subscribed"}, "subscribed"),
    ("subscribed", {"status": "pending"}, "pending"),
    ("subscribed", {"status": "unsubscribed"}, "unsubscribed"),
    ("subscribed", {"status_if_new": "unsubscribed"}, "subscribed"),
    ("unsubscribed by api", {"status": "subscribed"}, "subscribed"),
    ("unsubscribed by api", {"status": "pending"}, "pending"),
    ("unsubscribed by api", {"status": "unsubscribed"}, "unsubscribed"),
    ("unsubscribed by api", {"status_if_new": "subscribed"}, "unsubscribed"),
    ("unsubscribed by admin", {"status": "subscribed"}, "subscribed"),
    ("unsubscribed by admin", {"status": "pending"}, "pending"),
    ("unsubscribed by admin", {"status_if_new": "subscribed"}, "unsubscribed"),
    ("unsubscribed by person", {"status": "subscribed"}, COMPLIANCE),
    ("unsubscribed by person", {"status": "pending"}, "pending"),
    ("unsubscribed by person", {"status": "unsubscribed"}, "unsubscribed"),
    ("unsubscribed by person", {"status_if_new": "subscribed"}, "unsubscribed"),
    ("complained", {"status": "subscribed"}, COMPLIANCE),
    ("cleaned", {"status": "subscribed"}, COMPLIANCE),
    ("cleaned", {"status": "pending"}, COMPLIANCE),
    ("cleaned", {"status": "unsubscribed"}, "cleaned"),
    ("cleaned", {"status_if_new": "subscribed"}, "cleaned"),
    ("archived", {"status": "subscribed"}, "subscribed"),
    ("archived", {"status": "pending"}, "pending"),
    ("archived", {"status": "unsubscribed"}, "unsubscribed"),
    ("archived", {"status_if_new": "subscribed"}, "archived"),
    ("forgotten", {"status": "subscribed"}, FORGOTTEN),
    ("forgotten", {"status": "pending"}, FORGOTTEN),
    ("forgotten", {"status": "unsubscribed"}, FORGOTTEN),
    ("forgotten", {"status_if_new": "subscribed"}, FORGOTTEN),
    ("pending", {"status": "subscribed"}, "subscribed"),
    ("pending", {"status": "pending"}, "pending"),
    ("pending", {"status": "unsubscribed"}, "unsubscribed"),
    ("pending", {"status_if_new": "subscribed"}, "pending"),
    ("transactional", {"status": "subscribed"}, "subscribed"),
    ("transactional", {"status": "pending"}, "pending"),
    ("transactional", {"status": "unsubscribed"}, "unsubscribed"),
    ("transactional", {"status_if_new": "subscribed"}, "transactional"),
]
REFUSALS = {COMPLIANCE: "compliance state", FORGOTTEN: "permanently deleted"}


def _name(value: object) -> str:
    return "+".join(value.values()) if isinstance(value, dict) else str(value)


@pytest.mark.parametrize(("state", "request_", "expected"), TABLE, ids=_name)
class TestTable:
    """Every cell of the table, through the single and the bulk endpoint."""

    async def test_put(
        self, staff: Audience, state: str, request_: dict[str, str], expected: str
    ) -> None:
        await staff.prepare(WHO, state)
        before = await staff.status(WHO)
        answer = await staff.put(WHO, **request_)
        if expected in REFUSALS:
            assert (answer.status_code, answer.json()["title"]) == (400, expected)
            assert "type" not in answer.json()
            assert await staff.status(WHO) == before
        else:
            assert (answer.status_code, answer.json()["status"]) == (200, expected)
            assert await staff.status(WHO) == expected

    async def test_bulk(
        self, staff: Audience, state: str, request_: dict[str, str], expected: str
    ) -> None:
        await staff.prepare(WHO, state)
        before = await staff.status(WHO)
        body = await staff.bulk({"email_address": WHO, **request_})
        if expected in REFUSALS:
            [error] = body["errors"]
            assert error["error_code"] == "ERROR_GENERIC"
            assert REFUSALS[expected] in error["error"].lower()
            assert await staff.status(WHO) == before
        else:
            [member] = body["new_members"] + body["updated_members"]
            assert member["status"] == expected
            returning = state == "archived" and "status" in request_
            assert body["total_created"] == int(state == "absent" or returning)
            assert await staff.status(WHO) == expected


class TestOrigin:
    """Who unsubscribed a member decides who can bring it back."""

    async def test_api_unsubscribe_gives_the_admin_reason(self, staff: Audience) -> None:
        await staff.add(WHO)
        answer = await staff.patch(WHO, status="unsubscribed")
        assert answer.json()["unsubscribe_reason"] == "N/A (Unsubscribed by admin)"

    async def test_a_persons_unsubscribe_gives_another_reason(self, staff: Audience) -> None:
        await staff.prepare(WHO, "unsubscribed by person")
        assert "admin" not in (await staff.get(WHO)).json()["unsubscribe_reason"]
        assert (await staff.held(WHO))["unsubscribedBy"] == "person"

    async def test_unsubscribing_again_by_api_does_not_wash_off_the_persons_will(
        self, staff: Audience
    ) -> None:
        await staff.prepare(WHO, "unsubscribed by person")
        await staff.patch(WHO, status="unsubscribed")
        assert (await staff.patch(WHO, status="subscribed")).json()["title"] == COMPLIANCE

    async def test_the_person_comes_back_by_form(self, staff: Audience) -> None:
        await staff.prepare(WHO, "unsubscribed by person")
        await staff.control.advance_clock(60)
        old = await staff.held(WHO)
        await staff.control.person(staff.id, WHO, "resubscribe_form")
        member = (await staff.get(WHO)).json()
        assert member["status"] == "subscribed"
        assert member["source"] == "Hosted Signup Form"
        assert member["timestamp_opt"] > old["timestampOpt"]

    async def test_a_forgotten_person_comes_back_by_form_only(self, staff: Audience) -> None:
        await staff.prepare(WHO, "forgotten")
        await staff.control.person(staff.id, WHO, "subscribe_form", merge_fields={"FNAME": "Ada"})
        assert (await staff.get(WHO)).json()["merge_fields"]["FNAME"] == "Ada"
        assert await staff.control.forgotten(staff.id, WHO) == []

    async def test_a_form_of_a_double_optin_list_asks_first(self, staff: Audience) -> None:
        await staff.control.change_list(staff.id, double_optin=True)
        await staff.control.person(staff.id, WHO, "subscribe_form")
        assert await staff.status(WHO) == "pending"
        await staff.control.person(staff.id, WHO, "confirm")
        assert await staff.status(WHO) == "subscribed"

    async def test_the_api_subscribes_at_once_even_on_a_double_optin_list(
        self, staff: Audience
    ) -> None:
        await staff.control.change_list(staff.id, double_optin=True)
        await staff.add(WHO, "subscribed")
        assert await staff.status(WHO) == "subscribed"

    async def test_a_pending_contact_that_lapses_leaves_no_trace(self, staff: Audience) -> None:
        await staff.add(WHO, "pending")
        await staff.control.admin(staff.id, WHO, "pending_lapse")
        assert await staff.status(WHO) == "absent"


class TestConfirmationMails:
    async def test_pending_again_sends_no_second_mail(self, staff: Audience) -> None:
        await staff.add(WHO, "pending")
        await staff.put(WHO, status="pending")
        await staff.patch(WHO, status="pending")
        assert (await staff.held(WHO))["confirmationMails"] == 1

    async def test_asking_a_person_who_left_sends_one(self, staff: Audience) -> None:
        await staff.prepare(WHO, "unsubscribed by person")
        await staff.patch(WHO, status="pending")
        assert (await staff.held(WHO))["confirmationMails"] == 1


class TestSwitches:
    async def test_pending_may_leave_a_subscribed_member_as_it_is(self, staff: Audience) -> None:
        await staff.control.configure(subscribedTurnsPending=False)
        await staff.add(WHO)
        assert (await staff.patch(WHO, status="pending")).json()["status"] == "subscribed"

    async def test_archiving_may_keep_the_suppression(self, staff: Audience) -> None:
        await staff.control.configure(archiveKeepsCompliance=True)
        await staff.prepare(WHO, "unsubscribed by person")
        await staff.delete(WHO)
        assert (await staff.put(WHO, status="subscribed")).json()["title"] == COMPLIANCE

    async def test_archiving_washes_it_off_by_default(self, staff: Audience) -> None:
        await staff.prepare(WHO, "unsubscribed by person")
        await staff.delete(WHO)
        assert (await staff.put(WHO, status="subscribed")).json()["status"] == "subscribed"
