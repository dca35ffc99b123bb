"""What the sandbox remembers for tests: changes, calls, counters."""

from __future__ import annotations

import httpx
import pytest

from tests.sandbox.driver import Audience

ADA = "Ada@corp.test"


class TestChanges:
    async def test_a_life_is_told_with_its_origins(self, staff: Audience) -> None:
        await staff.bulk({"email_address": ADA, "status": "subscribed"})
        await staff.patch(ADA, merge_fields={"FNAME": "Ada"})
        await staff.control.person(staff.id, ADA, "unsubscribe")
        await staff.control.person(staff.id, ADA, "resubscribe_form")
        await staff.control.admin(staff.id, ADA, "unsubscribe")
        await staff.put(ADA, status="subscribed")
        await staff.delete(ADA)
        await staff.forget(ADA)
        told = [
            (each["from_status"], each["to_status"], each["origin"], each["via"])
            for each in await staff.control.history(email=ADA)
        ]
        assert told == [
            ("absent", "subscribed", "api", "batch"),
            ("subscribed", "subscribed", "api", "patch"),
            ("subscribed", "unsubscribed", "person", "unsubscribe"),
            ("unsubscribed", "subscribed", "form", "resubscribe_form"),
            ("subscribed", "unsubscribed", "admin", "unsubscribe"),
            ("unsubscribed", "subscribed", "api", "put"),
            ("subscribed", "archived", "api", "delete"),
            ("archived", "deleted", "api", "delete-permanent"),
        ]

    async def test_nothing_effective_is_not_told(self, staff: Audience) -> None:
        await staff.add(ADA)
        seq = await staff.control.seq()
        await staff.put(ADA, status="subscribed")
        await staff.bulk({"email_address": ADA, "status_if_new": "pending"})
        assert await staff.control.history(since=seq) == []

    async def test_an_entry_names_its_call(self, staff: Audience) -> None:
        answer = await staff.put(ADA, status_if_new="subscribed")
        [entry] = await staff.control.history(list_id=staff.id)
        [call] = await staff.control.calls(write=True)
        assert entry["request_id"] == call["request_id"] == answer.headers["x-request-id"]
        assert entry["email"] == ADA.lower()
        assert call["at_start"] <= entry["at"] <= (call["at_end"] or 0)

    async def test_it_can_be_turned_off(self, staff: Audience) -> None:
        await staff.control.configure(history=False)
        await staff.add(ADA)
        assert await staff.control.history() == []
        assert len(await staff.control.calls()) == 1

    async def test_a_renamed_member_leaves_one_address_for_another(self, staff: Audience) -> None:
        await staff.add(ADA)
        await staff.patch(ADA, email_address="new@corp.test")
        told = [
            (each["email"], each["from_status"], each["to_status"])
            for each in await staff.control.history()
            if each["kind"] == "email"
        ]
        assert told == [
            ("ada@corp.test", "subscribed", "absent"),
            ("new@corp.test", "absent", "subscribed"),
        ]


class TestCalls:
    async def test_calls_and_counters(self, staff: Audience) -> None:
        await staff.api.get("/ping")
        await staff.bulk(
            *[{"email_address": f"{n}@corp.test", "status": "pending"} for n in range(3)]
        )
        read, write = await staff.control.calls()
        assert (read["method"], read["path"], read["write"]) == ("GET", "/ping", False)
        assert (write["status"], write["members"], write["key_last4"]) == (200, 3, "b2c3")
        metrics = await staff.control.metrics()
        assert (metrics["calls"], metrics["writeCalls"]) == (2, 1)
        assert (metrics["batchCalls"], metrics["batchMembers"], metrics["maxInFlight"]) == (1, 3, 1)
        assert metrics["firstBatchAt"] == write["at_start"]
        assert metrics["lastBatchEnd"] == write["at_end"]
        await staff.control.reset_metrics()
        assert (await staff.control.metrics())["calls"] == 0


class TestControl:
    async def test_reset_brings_everything_back(self, staff: Audience) -> None:
        await staff.add(ADA)
        await staff.control.configure(connections=1, requireStatus=True)
        before = await staff.control.state()
        await staff.control.reset()
        assert await staff.control.state() == before
        assert await staff.control.dump(staff.id) == []
        assert (await staff.control.config())["connections"] == 10
        assert await staff.control.history() == []
        assert await staff.control.calls() == []

    async def test_dump_and_seed(self, staff: Audience) -> None:
        made = await staff.control.seed(
            staff.id, 3, prefix="x", domain="y.test", status="cleaned", tag="T"
        )
        assert made == 3
        assert await staff.control.seed(staff.id, 4, prefix="x", domain="y.test") == 1
        lines = await staff.control.dump(staff.id)
        assert lines[0]["email"] == "x0@y.test"
        assert (lines[0]["status"], lines[0]["tags"]) == ("cleaned", ["T"])
        assert lines[3]["status"] == "subscribed"

    async def test_acts_that_are_not_possible_are_refused(self, staff: Audience) -> None:
        with pytest.raises(httpx.HTTPStatusError, match="not in the list"):
            await staff.control.person(staff.id, ADA, "unsubscribe")
        await staff.add(ADA)
        with pytest.raises(httpx.HTTPStatusError, match="is subscribed"):
            await staff.control.person(staff.id, ADA, "confirm")

    async def test_the_clock_moves_forward(self, staff: Audience) -> None:
        before = (await staff.add(ADA))["last_changed"]
        await staff.control.advance_clock(86_400)
        after = (await staff.patch(ADA, status="unsubscribed")).json()["last_changed"]
        assert after[:10] > before[:10]
        with pytest.raises(httpx.HTTPStatusError, match="only goes forward"):
            await staff.control.advance_clock(-1)

    @pytest.mark.parametrize(
        "settings", [{"nonsense": 1}, {"connections": "ten"}, {"fakePattern": "("}]
    )
    async def test_bad_settings_are_refused(
        self, staff: Audience, settings: dict[str, object]
    ) -> None:
        with pytest.raises(httpx.HTTPStatusError):
            await staff.control.configure(**settings)
