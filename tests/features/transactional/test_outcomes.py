"""What becomes of messages after the hand-over: signed reports over a real socket, or questions on a schedule."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Iterator
from typing import Any
from uuid import UUID

import httpx
import orjson
import pytest
from fastapi import FastAPI

from mcsync.core.jobs import ring_due
from mcsync.features.transactional import dispatch, hooks
from mcsync.mailchimp.transactional import TEST_KEY, mandrill_signature
from tests.features.transactional.conftest import Mail
from tests.support.sandbox import SandboxProcess
from tests.support.serving import serving


@pytest.fixture
def door() -> Iterator[socket.socket]:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        yield listener


@pytest.fixture
def public_url(door: socket.socket) -> str:
    return f"http://127.0.0.1:{door.getsockname()[1]}"


class TestReported:
    @pytest.fixture
    def more_settings(self, sandbox_process: SandboxProcess, public_url: str) -> dict[str, Any]:
        return {
            "mandrill_url": sandbox_process.mandrill_url,
            "database_pool_size": 6,
            "public_url": public_url + "/",
        }

    @pytest.fixture(autouse=True)
    async def _served(self, app: FastAPI, door: socket.socket) -> AsyncIterator[None]:
        """The API on the port that the public URL names."""
        async with serving(app, door):
            yield

    @pytest.fixture
    async def hook(self, mail: Mail) -> dict[str, Any]:
        """The webhook as the sandbox has it."""
        (hook,) = await mail.sandbox.mail_hooks()
        return dict(hook)

    async def reported(self, mail: Mail, count: int) -> None:
        async with asyncio.timeout(60):
            while await _events(mail) < count:  # noqa: ASYNC110 - the sandbox tells nobody
                await asyncio.sleep(0.02)
        await mail.outcomes()

    async def test_the_webhook_is_registered_with_the_connection(
        self, mail: Mail, hook: dict[str, Any], public_url: str
    ) -> None:
        assert hook["url"].startswith(f"{public_url}/webhooks/mandrill/")
        assert set(hook["events"]) == set(hooks.EVENTS)
        view = await mail.ask("getConnection")
        assert (view["outcomesBy"], view["webhookError"]) == ("webhook", None)
        rows = str(await mail.onlooker.fetch("select * from transactional_connections"))
        assert hook["authKey"] not in rows
        assert hook["url"].rpartition("/")[2] not in rows
        await mail.done("connect", apiKey=mail.key)
        await dispatch.tidy(mail.resources)
        assert [each["id"] for each in await mail.sandbox.mail_hooks()] == [hook["id"]]
        await mail.done("disconnect")
        assert await mail.sandbox.mail_hooks() == []
        async with httpx.AsyncClient() as http:
            assert (await http.get(hook["url"])).status_code == 404

    async def test_reports_move_recipients_on(self, mail: Mail, hook: dict[str, Any]) -> None:
        await mail.sandbox.configure(mandrill={"webhookScale": 0.0005})
        message_id = await mail.send("ada@corp.example", "bob@corp.example", "eve@corp.example")
        await mail.work(message_id)
        ada, bob, eve = await mail.sandbox.mails(key=mail.key)
        for act in ("open", "click"):
            await mail.sandbox.mail_act(ada["id"], act)
        await mail.sandbox.mail_act(bob["id"], "hard_bounce")
        await mail.sandbox.mail_act(eve["id"], "spam")
        await self.reported(mail, 10)
        people = (await mail.get(message_id))["people"]
        shown = [(p["status"], p["reason"], p["opens"], p["clicks"]) for p in people]
        assert shown == [
            ("delivered", None, 1, 1),
            ("bounced", "bad_mailbox", 0, 0),
            ("spam", None, 0, 0),
        ]
        assert all(p["lastEventAt"] for p in people)
        rows = str(await mail.onlooker.fetch("select * from transactional_events"))
        assert "@corp" not in rows

    async def test_the_same_delivery_twice_counts_once(
        self, mail: Mail, hook: dict[str, Any]
    ) -> None:
        message_id = await mail.send()
        person = (await mail.work(message_id))["people"][0]
        events = [
            _event("open", person["mailchimpId"], ts=1_790_000_000),
            _event("open", person["mailchimpId"], ts=1_790_000_005),
            _event("click", person["mailchimpId"], ts=1_790_000_005, url="https://a.example/"),
        ]
        for _ in range(2):
            assert (await _deliver(hook, events)).status_code == 200
            assert await mail.outcomes() in {3, 0}
        await mail.outcomes()
        assert await _events(mail) == 3
        person = (await mail.get(message_id))["people"][0]
        assert (person["opens"], person["clicks"]) == (2, 1)

    async def test_late_reports_never_lead_back(self, mail: Mail, hook: dict[str, Any]) -> None:
        message_id = await mail.send()
        ident = (await mail.work(message_id))["people"][0]["mailchimpId"]
        for number, event in enumerate(("hard_bounce", "delivered", "deferral", "send")):
            await _deliver(hook, [_event(event, ident, ts=1_790_000_000 - number)])
            await mail.outcomes()
        assert (await mail.get(message_id))["people"][0]["status"] == "bounced"

    async def test_a_report_confirms_an_unconfirmed_message(
        self, mail: Mail, hook: dict[str, Any]
    ) -> None:
        await mail.sandbox.configure(mandrill={"indexLagSeconds": 3600})
        await mail.sandbox.fault("504_after", path="messages/send")
        message_id = await mail.send("Ada@corp.example")
        await mail.work(message_id)
        await mail.pass_time(message_id, 901)
        assert (await mail.work(message_id))["status"] == "unconfirmed"
        (sent,) = await mail.sandbox.mails(key=mail.key)
        event = _event("send", sent["id"], ours=message_id, email="ada@corp.example")
        await _deliver(hook, [event])
        await mail.outcomes()
        message = await mail.get(message_id)
        assert (message["status"], message["errorCode"]) == ("submitted", None)
        assert (message["people"][0]["status"], message["people"][0]["mailchimpId"]) == (
            "sent",
            sent["id"],
        )

    async def test_forged_deliveries_change_nothing(self, mail: Mail, hook: dict[str, Any]) -> None:
        message_id = await mail.send()
        ident = (await mail.work(message_id))["people"][0]["mailchimpId"]
        events = [_event("hard_bounce", ident)]
        body = {"mandrill_events": orjson.dumps(events).decode()}
        right = mandrill_signature(hook["authKey"], hook["url"], body)
        other = {"mandrill_events": orjson.dumps([_event("spam", ident)]).decode()}
        forged: list[tuple[str, Any, dict[str, str], int]] = [
            (hook["url"], body, {}, 403),
            (hook["url"], body, {"X-Mandrill-Signature": "x"}, 403),
            (hook["url"], other, {"X-Mandrill-Signature": right}, 403),
            (hook["url"], {**body, "more": "x"}, {"X-Mandrill-Signature": right}, 403),
            (
                hook["url"], body,
                {"X-Mandrill-Signature": mandrill_signature(TEST_KEY, hook["url"], body)}, 403,
            ),
            (
                hook["url"], body,
                {"X-Mandrill-Signature": mandrill_signature("", hook["url"], body)}, 403,
            ),
            (hook["url"] + "x", body, {"X-Mandrill-Signature": right}, 404),
            (hook["url"], {"x": "y"}, {"X-Mandrill-Signature": right}, 400),
        ]  # fmt: skip
        async with httpx.AsyncClient() as http:
            for url, data, headers, status in forged:
                answer = await http.post(url, data=data, headers=headers)
                assert answer.status_code == status, (answer.text, data)
                assert answer.headers["content-type"] == "application/problem+json"
                assert hook["url"].rpartition("/")[2] not in answer.text
        assert await _events(mail) == 0

    async def test_the_first_empty_delivery_is_answered(self, hook: dict[str, Any]) -> None:
        form = {"mandrill_events": "[]"}
        async with httpx.AsyncClient() as http:
            for method in ("HEAD", "GET"):
                assert (await http.request(method, hook["url"])).status_code == 200
            signed = {"X-Mandrill-Signature": mandrill_signature(TEST_KEY, hook["url"], form)}
            assert (await http.post(hook["url"], data=form, headers=signed)).status_code == 200
            assert (await http.post(hook["url"], data=form)).status_code == 403

    async def test_an_unreachable_address_leaves_the_connection_and_is_tried_again(
        self, unconnected: Mail
    ) -> None:
        await unconnected.sandbox.fault("422", path="webhooks/add")
        view = await unconnected.done("connect", apiKey=unconnected.key)
        assert (view["outcomesBy"], view["webhookError"]) == ("polling", "url_not_reachable")
        await dispatch.tidy(unconnected.resources)
        view = await unconnected.ask("getConnection")
        assert (view["outcomesBy"], view["webhookError"]) == ("webhook", None)

    async def test_an_answer_lost_makes_no_second_webhook(self, unconnected: Mail) -> None:
        await unconnected.sandbox.fault("504_after", path="webhooks/add")
        await unconnected.done("connect", apiKey=unconnected.key)
        await dispatch.tidy(unconnected.resources)
        (hook,) = await unconnected.sandbox.mail_hooks()
        answer = await _deliver(dict(hook), [_event("open", "unknown")])
        assert answer.status_code == 200


class TestAskedFor:
    async def test_who_is_undecided_is_asked_about_ever_more_rarely(self, mail: Mail) -> None:
        await mail.sandbox.configure(mandrill={"queueSeconds": 30.0})
        file = {"name": "a.txt", "type": "text/plain", "content": "eA=="}
        message_id = await mail.send(attachments=[file])
        person = (await mail.work(message_id))["people"][0]
        assert (person["status"], person["reason"]) == ("queued", "attachments")
        assert await mail.outcomes() == 0
        await self.let_pass(mail, 130)
        assert await mail.outcomes() == 1
        assert (await mail.get(message_id))["people"][0]["status"] == "sent"
        (sent,) = await mail.sandbox.mails(key=mail.key)
        await mail.sandbox.mail_act(sent["id"], "open")
        await self.let_pass(mail, 130)
        assert await mail.outcomes() == 0
        await self.let_pass(mail, 480)
        assert await mail.outcomes() == 1
        assert (await mail.get(message_id))["people"][0]["opens"] == 1
        await mail.sandbox.mail_act(sent["id"], "hard_bounce")
        await self.let_pass(mail, 3600)
        assert await mail.outcomes() == 1
        assert (await mail.get(message_id))["people"][0]["status"] == "bounced"
        await self.let_pass(mail, 10_000_000)
        assert await mail.outcomes() == 0

    async def test_trouble_only_delays(self, mail: Mail) -> None:
        message_id = await mail.send()
        await mail.work(message_id)
        for fault in ("429_json", "502_html"):
            await mail.sandbox.fault(fault, path="messages/info")
            await self.let_pass(mail, 901)
            assert await mail.outcomes() == 0
        await mail.sandbox.configure(mandrill={"indexLagSeconds": 3600})
        await self.let_pass(mail, 901)
        assert await mail.outcomes() == 1
        assert (await mail.get(message_id))["people"][0]["status"] == "sent"
        await mail.done("disconnect")
        await self.let_pass(mail, 4000)
        assert await mail.outcomes() == 0
        await ring_due(mail.resources.db, mail.resources.jobs, *dispatch.DUE)

    async def let_pass(self, mail: Mail, seconds: float) -> None:
        await mail.sandbox.advance_clock(seconds)
        await mail.onlooker.execute(
            """update transactional_recipients
                  set next_poll_at = next_poll_at - make_interval(secs => $1)""",
            seconds,
        )


def _event(
    name: str,
    ident: str,
    *,
    ts: int = 1_790_000_000,
    url: str = "",
    ours: str | None = None,
    email: str = "",
) -> dict[str, Any]:
    metadata = {"mcsync_id": UUID(ours).hex} if ours else {}
    message = {"_id": ident, "email": email, "metadata": metadata}
    return {"event": name, "_id": ident, "ts": ts, "url": url, "msg": message}


async def _deliver(hook: dict[str, Any], events: list[dict[str, Any]]) -> httpx.Response:
    form = {"mandrill_events": orjson.dumps(events).decode()}
    signature = mandrill_signature(hook["authKey"], hook["url"], form)
    async with httpx.AsyncClient() as http:
        return await http.post(hook["url"], data=form, headers={"X-Mandrill-Signature": signature})


async def _events(mail: Mail) -> int:
    return int(await mail.onlooker.fetchval("select count(*) from transactional_events"))
