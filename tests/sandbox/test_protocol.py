"""Keys, problems, conventions and the connection limit (MC 1, 2, 3.1, 3.2, 14, 15)."""

from __future__ import annotations

import asyncio
from email.utils import parsedate_to_datetime
from typing import Any

import httpx
import pytest

from tests.sandbox.driver import Audience, problem
from tests.support.sandbox import DEFAULT_KEY, SandboxControl, SandboxProcess

OTHER_KEY = "0123456789abcdef0123456789abcdef-us6"

LIST_BODY = {
    "name": "Freelancers",
    "permission_reminder": "You work with us.",
    "email_type_option": False,
    "contact": {
        "company": "X",
        "address1": "1 High Street",
        "city": "London",
        "country": "GB",
        "state": "",
        "zip": "",
    },
    "campaign_defaults": {
        "from_name": "X",
        "from_email": "x@corp.test",
        "subject": "",
        "language": "en",
    },
}


async def ping(process: SandboxProcess, auth: Any = None, **headers: str) -> httpx.Response:
    async with httpx.AsyncClient(base_url=process.url) as client:
        return await client.get("/ping", auth=auth, headers=headers)


async def test_the_date_is_of_the_sandboxs_own_clock(
    process: SandboxProcess, control: SandboxControl
) -> None:
    now = await control.advance_clock(7200)
    told = parsedate_to_datetime((await ping(process)).headers["date"])
    assert 0 <= told.timestamp() - int(now) < 60


class TestKeys:
    async def test_none_is_key_missing(
        self, process: SandboxProcess, control: SandboxControl
    ) -> None:
        assert problem(await ping(process)) == (401, "API Key Missing")

    async def test_basic_with_any_user_and_bearer(
        self, process: SandboxProcess, control: SandboxControl
    ) -> None:
        assert (await ping(process, auth=("", DEFAULT_KEY))).status_code == 200
        answer = await ping(process, authorization=f"Bearer {DEFAULT_KEY}")
        assert answer.json() == {"health_status": "Everything's Chimpy!"}

    @pytest.mark.parametrize(
        "key", [OTHER_KEY, DEFAULT_KEY.replace("us1", "us2"), DEFAULT_KEY.removesuffix("-us1")]
    )
    async def test_unknown_or_of_another_data_centre(
        self, process: SandboxProcess, control: SandboxControl, key: str
    ) -> None:
        answer = await ping(process, auth=("x", key))
        assert problem(answer) == (401, "API Key Invalid")
        assert answer.headers["content-type"] == "application/problem+json; charset=utf-8"
        assert answer.json()["type"].startswith("https://")

    async def test_revoke_and_rekey(self, process: SandboxProcess, control: SandboxControl) -> None:
        [before] = await control.state()
        await control.revoke(DEFAULT_KEY)
        assert (await ping(process, auth=("x", DEFAULT_KEY))).status_code == 401
        after = await control.rekey(DEFAULT_KEY, OTHER_KEY)
        assert after["accountId"] == before["accountId"]
        assert (await ping(process, auth=("x", OTHER_KEY))).status_code == 200
        assert (await ping(process, auth=("x", DEFAULT_KEY))).status_code == 401

    async def test_accounts_do_not_see_each_other(
        self, staff: Audience, process: SandboxProcess
    ) -> None:
        opened = await staff.control.open_account(OTHER_KEY, name="Other Ltd", lists=["Theirs"])
        async with httpx.AsyncClient(base_url=process.url, auth=("x", OTHER_KEY)) as client:
            lists = (await client.get("/lists")).json()["lists"]
            assert [each["id"] for each in lists] == [opened["lists"][0]["id"]]
            assert (await client.get("/")).json()["account_name"] == "Other Ltd"
            assert (await client.get(staff.path)).status_code == 404


class TestConventions:
    async def test_a_problem_carries_the_request_id(self, staff: Audience) -> None:
        answer = await staff.get("nobody@corp.test")
        assert problem(answer) == (404, "Resource Not Found")
        assert answer.json()["instance"] == answer.headers["x-request-id"]
        assert answer.json()["detail"] == "The requested resource could not be found."
        assert 'rel="describedBy"' in answer.headers["link"]

    async def test_unknown_paths_and_methods(self, api: httpx.AsyncClient) -> None:
        assert (await api.get("/nothing/here")).status_code == 404
        answer = await api.delete("/lists")
        assert problem(answer) == (405, "Method Not Allowed")
        assert answer.headers["allow"] == "GET, POST"

    async def test_broken_json(self, staff: Audience) -> None:
        assert problem(await staff.api.post(staff.path, content=b"{")) == (400, "JSON Parse Error")

    async def test_method_override_on_post_only(self, staff: Audience) -> None:
        await staff.add("a@corp.test")
        path, headers = staff.member_path("a@corp.test"), {"X-HTTP-Method-Override": "PATCH"}
        answer = await staff.api.post(path, json={"status": "unsubscribed"}, headers=headers)
        assert answer.json()["status"] == "unsubscribed"
        assert problem(await staff.api.get(path, headers=headers)) == (
            422,
            "Invalid Method Override",
        )

    @pytest.mark.parametrize(
        ("name", "status"),
        [
            ("APIKeyMissing", 401),
            ("UserDisabled", 403),
            ("TooManyRequests", 429),
            ("InternalServerError", 500),
        ],
    )
    async def test_errors_on_request(self, api: httpx.AsyncClient, name: str, status: int) -> None:
        answer = await api.get("/ping", headers={"X-Trigger-Error": name})
        assert answer.status_code == status
        assert answer.json()["title"].replace(" ", "") == name

    async def test_the_account(self, api: httpx.AsyncClient, control: SandboxControl) -> None:
        [account] = await control.state()
        body = (await api.get("/")).json()
        assert (body["account_id"], body["account_name"]) == (account["accountId"], "Sandbox Ltd")


class TestLists:
    async def test_index_and_stats(self, staff: Audience) -> None:
        await staff.add("a@corp.test")
        await staff.add("b@corp.test", "unsubscribed")
        body = (await staff.api.get("/lists")).json()
        assert [each["name"] for each in body["lists"]] == ["All staff", "Suppliers"]
        assert body["constraints"]["may_create"] is True
        answer = await staff.api.get(staff.path, params={"include_total_contacts": "true"})
        stats = answer.json()["stats"]
        assert (stats["member_count"], stats["unsubscribe_count"], stats["total_contacts"]) == (
            1,
            1,
            2,
        )
        assert "total_contacts" not in (await staff.api.get(staff.path)).json()["stats"]

    async def test_create_change_delete(self, api: httpx.AsyncClient) -> None:
        made = await api.post("/lists", json=LIST_BODY)
        assert made.status_code == 200
        path = f"/lists/{made.json()['id']}"
        assert (await api.patch(path, json={**LIST_BODY, "double_optin": True})).json()[
            "double_optin"
        ]
        assert (await api.delete(path)).status_code == 204
        assert (await api.get(path)).status_code == 404

    async def test_create_needs_its_fields(self, api: httpx.AsyncClient) -> None:
        assert problem(await api.post("/lists", json={"name": "X"})) == (400, "Invalid Resource")

    async def test_a_list_deleted_by_its_owner_is_404(self, staff: Audience) -> None:
        await staff.control.delete_list(staff.id)
        assert (await staff.api.get(f"{staff.path}/members")).status_code == 404


class TestConnectionLimit:
    async def test_the_eleventh_call_in_flight_is_429_at_once(self, staff: Audience) -> None:
        await staff.control.configure(latency={"baseMs": 400})
        answers = await asyncio.gather(*[staff.api.get("/ping") for _ in range(14)])
        refused = [each for each in answers if each.status_code == 429]
        assert len(refused) == 4
        assert (
            refused[0].json()["detail"]
            == "You have exceeded the limit of 10 simultaneous connections."
        )
        assert "retry-after" not in refused[0].headers
        metrics = await staff.control.metrics()
        assert (metrics["inFlight"], metrics["refused"]) == (0, 4)
        assert metrics["maxInFlight"] > 10

    async def test_it_may_come_without_a_body(self, staff: Audience) -> None:
        await staff.control.configure(latency={"baseMs": 400}, connections=1, tooManyEmpty=True)
        answers = await asyncio.gather(*[staff.api.get("/ping") for _ in range(3)])
        assert sorted(each.status_code for each in answers) == [200, 429, 429]
        assert {each.content for each in answers if each.status_code == 429} == {b""}

    async def test_an_abandoned_call_keeps_its_slot_and_is_applied(
        self, staff: Audience, process: SandboxProcess
    ) -> None:
        await staff.control.configure(latency={"baseMs": 1_500}, connections=1)
        impatient = httpx.AsyncClient(base_url=process.url, auth=("x", DEFAULT_KEY), timeout=0.3)
        body = {"members": [{"email_address": "a@corp.test", "status": "subscribed"}]}
        async with impatient:
            with pytest.raises(httpx.ReadTimeout):
                await impatient.post(staff.path, json=body)
        assert (await staff.api.get("/ping")).status_code == 429
        while (await staff.control.metrics())["inFlight"]:  # noqa: ASYNC110 - another process
            await asyncio.sleep(0.05)
        assert await staff.status("a@corp.test") == "subscribed"

    async def test_accounts_have_slots_of_their_own(
        self, staff: Audience, process: SandboxProcess
    ) -> None:
        await staff.control.open_account(OTHER_KEY)
        await staff.control.configure(latency={"baseMs": 300}, connections=1)
        async with httpx.AsyncClient(base_url=process.url, auth=("x", OTHER_KEY)) as other:
            answers = await asyncio.gather(staff.api.get("/ping"), other.get("/ping"))
        assert [each.status_code for each in answers] == [200, 200]


class TestLatency:
    async def test_it_grows_with_the_members_of_a_write(self, staff: Audience) -> None:
        await staff.control.configure(latency={"baseMs": 50, "perMemberMs": 2})
        rows = [{"email_address": f"p{n}@corp.test", "status": "subscribed"} for n in range(100)]
        await staff.bulk(*rows)
        [call] = await staff.control.calls(write=True)
        assert call["at_end"] is not None
        assert call["at_end"] - call["at_start"] > 0.24
        assert call["members"] == 100

    @pytest.mark.parametrize(("apply_at", "seen"), [(1, "absent"), (0, "subscribed")])
    async def test_the_work_is_done_at_its_point(
        self, staff: Audience, apply_at: int, seen: str
    ) -> None:
        await staff.control.configure(latency={"baseMs": 1_000, "applyAt": apply_at})
        call = asyncio.create_task(staff.add("a@corp.test"))
        while not await staff.control.calls(write=True):  # noqa: ASYNC110 - another process
            await asyncio.sleep(0.02)
        await asyncio.sleep(0.1)
        assert await staff.status("a@corp.test") == seen
        await call
        assert await staff.status("a@corp.test") == "subscribed"
