"""What consent and erasure need: deletions under faults, permissions, proof of the opt-in (MC 4.5, 16)."""

from __future__ import annotations

from typing import Any

import pytest

from tests.sandbox.driver import Audience, problem, subscriber_hash
from tests.sandbox.test_protocol import LIST_BODY

WHO = "ada.lovelace@corp.test"
TEXTS = ["Email", "Letters"]


class TestErasingUnderFaults:
    """Every answer that an erasure may meet, at the deletion and at the read-back (MC 4.5)."""

    @pytest.mark.parametrize("kind", ["500", "429_json", "404", "405", "502_html"])
    async def test_the_deletion_is_not_applied(self, staff: Audience, kind: str) -> None:
        await staff.add(WHO)
        await staff.control.fault(kind, method="POST", path="/actions/delete-permanent$")
        assert (await staff.forget(WHO)).status_code == int(kind[:3])
        assert await staff.status(WHO) == "subscribed"
        assert (await staff.forget(WHO)).status_code == 204
        assert await staff.status(WHO) == "forgotten"

    async def test_a_revoked_key(self, staff: Audience) -> None:
        await staff.add(WHO)
        [account] = await staff.control.state()
        await staff.control.revoke(account["apiKey"])
        assert problem(await staff.forget(WHO)) == (401, "API Key Invalid")
        assert await staff.status(WHO) == "subscribed"

    @pytest.mark.parametrize("kind", ["500", "429_empty", "404", "405"])
    async def test_the_read_back(self, staff: Audience, kind: str) -> None:
        await staff.add(WHO)
        path = f"/members/{subscriber_hash(WHO)}$"
        await staff.control.fault(kind, method="GET", path=path)
        assert (await staff.get(WHO)).status_code == int(kind[:3])
        assert (await staff.get(WHO)).status_code == 200

    async def test_applied_although_it_looks_failed(self, staff: Audience) -> None:
        await staff.add(WHO)
        await staff.control.fault("504_after", path="/actions/delete-permanent$")
        assert (await staff.forget(WHO)).status_code == 504
        assert (await staff.get(WHO)).status_code == 404
        assert (await staff.forget(WHO)).status_code == 404


async def shown(staff: Audience, email: str) -> dict[str, bool]:
    """The permissions that the API shows, by text."""
    member = (await staff.get(email)).json()
    return {each["text"]: each["enabled"] for each in member["marketing_permissions"]}


def ticks(**enabled: bool) -> list[dict[str, Any]]:
    return [
        {"marketing_permission_id": ident.removeprefix("_"), "enabled": on}
        for ident, on in enabled.items()
    ]


class TestPermissions:
    async def test_a_list_without_shows_none(self, staff: Audience) -> None:
        member = await staff.add(WHO)
        assert "marketing_permissions" not in member
        assert (await staff.api.get(staff.path)).json()["marketing_permissions"] is False

    async def test_they_are_off_until_given(self, staff: Audience) -> None:
        await staff.control.change_list(staff.id, marketing_permissions=TEXTS)
        await staff.add(WHO)
        assert await shown(staff, WHO) == {"Email": False, "Letters": False}
        [member] = (await staff.listing())["members"]
        assert len(member["marketing_permissions"]) == 2
        assert (await staff.api.get(staff.path)).json()["marketing_permissions"] is True

    async def test_single_writes_change_what_they_name(self, staff: Audience) -> None:
        ids = await staff.control.change_list(staff.id, marketing_permissions=TEXTS)
        email, letters = ids
        await staff.post(
            email_address=WHO,
            status="subscribed",
            marketing_permissions=ticks(**{f"_{email}": True}),
        )
        assert await shown(staff, WHO) == {"Email": True, "Letters": False}
        await staff.put(WHO, marketing_permissions=ticks(**{f"_{letters}": True}))
        assert await shown(staff, WHO) == {"Email": True, "Letters": True}
        await staff.patch(WHO, marketing_permissions=ticks(**{f"_{email}": False}))
        assert await shown(staff, WHO) == {"Email": False, "Letters": True}

    async def test_the_bulk_call_leaves_them_alone(self, staff: Audience) -> None:
        [ident] = await staff.control.change_list(staff.id, marketing_permissions=["Email"])
        row = {"email_address": WHO, "status": "subscribed"}
        body = await staff.bulk(row | {"marketing_permissions": ticks(**{f"_{ident}": True})})
        assert "marketing_permissions" not in body["new_members"][0]
        assert await shown(staff, WHO) == {"Email": False}

    async def test_an_unknown_one_is_refused(self, staff: Audience) -> None:
        await staff.control.change_list(staff.id, marketing_permissions=TEXTS)
        answer = await staff.put(
            WHO, status_if_new="subscribed", marketing_permissions=ticks(nobody=True)
        )
        assert problem(answer) == (400, "Invalid Resource")
        assert await staff.status(WHO) == "absent"

    async def test_the_person_ticks_them_on_the_form(self, staff: Audience) -> None:
        email, letters = await staff.control.change_list(staff.id, marketing_permissions=TEXTS)
        person = staff.control.person
        await person(staff.id, WHO, "subscribe_form", marketing_permissions={email: True})
        await person(staff.id, WHO, "update_profile", marketing_permissions={letters: True})
        assert await shown(staff, WHO) == {"Email": True, "Letters": True}
        entries = await staff.control.history(email=WHO)
        assert [entry["kind"] for entry in entries] == ["created", "profile"]

    async def test_the_owner_switches_them_on_by_api(self, staff: Audience) -> None:
        await staff.add(WHO)
        await staff.api.patch(staff.path, json=LIST_BODY | {"marketing_permissions": True})
        assert len(await shown(staff, WHO)) == 3
        await staff.api.patch(staff.path, json=LIST_BODY | {"marketing_permissions": False})
        assert "marketing_permissions" not in (await staff.get(WHO)).json()

    async def test_lists_may_have_them_from_the_start(self, staff: Audience) -> None:
        await staff.control.configure(permissions=["Email"])
        key = "c0ffee0c1e2f3a4b5c6d7e8f90a1b2c3-us1"
        opened = await staff.control.open_account(key, lists=["GDPR"])
        assert await staff.control.change_list(opened["lists"][0]["id"])


PROOF = {
    "timestamp_opt": "2020-02-29T12:30:00+00:00",
    "ip_opt": "192.0.2.7",
    "timestamp_signup": "2020-02-29T12:29:00+00:00",
    "ip_signup": "2001:db8::1",
}


class TestProof:
    async def test_single_writes_keep_it(self, staff: Audience) -> None:
        await staff.add(WHO, **PROOF)
        assert PROOF.items() <= (await staff.get(WHO)).json().items()

    async def test_so_does_the_bulk_call(self, staff: Audience) -> None:
        row = {"email_address": WHO, "status_if_new": "subscribed", **PROOF}
        [member] = (await staff.bulk(row))["new_members"]
        assert PROOF.items() <= member.items()
        held = await staff.held(WHO)
        assert (held["timestampOpt"], held["ipOpt"]) == (PROOF["timestamp_opt"], PROOF["ip_opt"])

    async def test_somebody_who_comes_back_with_it(self, staff: Audience) -> None:
        await staff.prepare(WHO, "unsubscribed by api")
        await staff.bulk({"email_address": WHO, "status": "subscribed", **PROOF})
        assert PROOF.items() <= (await staff.get(WHO)).json().items()

    async def test_without_it_the_time_is_now(self, staff: Audience) -> None:
        member = await staff.add(WHO)
        assert member["timestamp_opt"] == member["last_changed"]
        assert member["ip_opt"] == "127.0.0.1"  # the caller's own address (MC 21)

    async def test_an_address_that_is_none_is_refused(self, staff: Audience) -> None:
        answer = await staff.put(WHO, status_if_new="subscribed", ip_opt="10.0.0.300")
        assert problem(answer) == (400, "Invalid Resource")
