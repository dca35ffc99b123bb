"""Faults on purpose, at random and targeted (MC 14, 15, 18.20, 18.23)."""

from __future__ import annotations

import httpx
import pytest

from tests.sandbox.driver import Audience, problem

ROW = {"email_address": "a@corp.test", "status": "subscribed"}


async def send(staff: Audience) -> httpx.Response:
    return await staff.api.post(staff.path, json={"members": [ROW]})


class TestTargeted:
    @pytest.mark.parametrize(
        ("kind", "status", "content_type"),
        [
            ("429_json", 429, "application/problem+json"),
            ("429_empty", 429, ""),
            ("500", 500, "application/problem+json"),
            ("502_html", 502, "text/html"),
            ("403_html", 403, "text/html"),
            ("401", 401, "application/problem+json"),
            ("403", 403, "application/problem+json"),
        ],
    )
    async def test_answers_at_once_and_applies_nothing(
        self, staff: Audience, kind: str, status: int, content_type: str
    ) -> None:
        await staff.control.fault(kind, method="POST", path=f"^/lists/{staff.id}$")
        answer = await send(staff)
        assert answer.status_code == status
        assert answer.headers.get("content-type", "").startswith(content_type)
        assert await staff.status("a@corp.test") == "absent"
        assert (await send(staff)).status_code == 200

    async def test_a_504_is_applied_all_the_same(self, staff: Audience) -> None:
        await staff.control.fault("504_after")
        answer = await send(staff)
        assert (answer.status_code, answer.headers["content-type"][:9]) == (504, "text/html")
        assert await staff.status("a@corp.test") == "subscribed"

    @pytest.mark.parametrize(
        ("kind", "after"), [("reset", "absent"), ("reset_after", "subscribed")]
    )
    async def test_a_reset_drops_the_connection(
        self, staff: Audience, kind: str, after: str
    ) -> None:
        await staff.control.fault(kind, method="POST")
        with pytest.raises(httpx.TransportError):
            await send(staff)
        assert await staff.status("a@corp.test") == after
        [call] = await staff.control.calls(write=True)
        assert (call["status"], call["fault"]) == (0, kind)
        assert (await staff.control.metrics())["inFlight"] == 0

    async def test_slow_adds_its_seconds(self, staff: Audience) -> None:
        await staff.control.fault("slow:0.3", method="GET")
        assert (await staff.api.get("/ping")).status_code == 200
        [call] = await staff.control.calls()
        assert call["at_end"] is not None
        # a machine's clocks differ by microseconds: the loop's, that sleeps, and the record's
        assert call["at_end"] - call["at_start"] > 0.29

    async def test_it_hits_as_many_calls_as_told(self, staff: Audience) -> None:
        await staff.control.fault("500", path="ping", times=2)
        assert (await staff.api.get("/lists")).status_code == 200
        found = [(await staff.api.get("/ping")).status_code for _ in range(3)]
        assert found == [500, 500, 200]

    async def test_an_unknown_kind_is_refused(self, staff: Audience) -> None:
        with pytest.raises(httpx.HTTPStatusError, match="unknown fault"):
            await staff.control.fault("earthquake")


class TestRandom:
    async def test_the_same_seed_gives_the_same_faults(self, staff: Audience) -> None:
        seen: list[list[int]] = []
        for _ in range(2):
            kinds = {"500": 1, "429_json": 2}
            await staff.control.configure(faults={"rate": 0.4, "kinds": kinds, "seed": 7})
            seen.append([(await staff.api.get("/ping")).status_code for _ in range(30)])
        assert seen[0] == seen[1]
        assert set(seen[0]) == {200, 429, 500}

    async def test_they_can_be_kept_to_some_calls(self, staff: Audience) -> None:
        faults = {"rate": 1, "kinds": {"500": 1}, "methods": ["POST"], "path": "^/lists/"}
        await staff.control.configure(faults=faults)
        assert (await staff.api.get("/ping")).status_code == 200
        assert problem(await send(staff)) == (500, "Internal Server Error")

    @pytest.mark.parametrize("faults", [{"rate": 1}, {"kinds": {"nonsense": 1}}, {"speed": 1}])
    async def test_bad_settings_are_refused_and_change_nothing(
        self, staff: Audience, faults: dict[str, object]
    ) -> None:
        with pytest.raises(httpx.HTTPStatusError):
            await staff.control.configure(faults=faults)
        assert (await staff.api.get("/ping")).status_code == 200
