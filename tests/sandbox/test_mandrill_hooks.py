"""Transactional webhooks: made only where somebody listens, signed, in batches, retried (MC 17.4)."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
import json
import time
from collections import deque
from collections.abc import AsyncIterator, Callable
from typing import Any

import httpx
import pytest

from tests.sandbox.mandrill import Mandrill
from tests.sandbox.receiver import Post, Receiver, receiving
from tests.support.sandbox import SandboxControl, SandboxProcess

SWIFT = {"webhookScale": 0.0002, "webhookTimeoutSeconds": 2}
ALL = ["send", "delivered", "open", "click", "hard_bounce", "unsub", "reject", "blacklist"]


@pytest.fixture
async def mandrill(process: SandboxProcess, control: SandboxControl) -> AsyncIterator[Mandrill]:
    await control.configure(mandrill=SWIFT)
    async with httpx.AsyncClient(base_url=process.mandrill_url, timeout=30) as client:
        yield Mandrill(client, control, process.mandrill_key)


@pytest.fixture
async def receiver() -> AsyncIterator[Receiver]:
    async with receiving() as running:
        yield running


async def until(test: Callable[[], bool]) -> None:
    async with asyncio.timeout(60):
        while not test():  # noqa: ASYNC110 - another process delivers
            await asyncio.sleep(0.01)


def events(post: Post) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(post.form["mandrill_events"])
    return found


def is_signed(post: Post, key: str, url: str) -> bool:
    text = url + "mandrill_events" + post.form["mandrill_events"]
    digest = hmac.new(key.encode(), text.encode(), hashlib.sha1).digest()
    return post.headers["x-mandrill-signature"] == base64.b64encode(digest).decode()


async def hook(mandrill: Mandrill, receiver: Receiver, *wanted: str) -> dict[str, Any]:
    """A webhook for these events; what verified it is forgotten."""
    made: dict[str, Any] = await mandrill.ask(
        "webhooks/add", url=f"{receiver.url}/hook?a=b", events=list(wanted or ALL)
    )
    receiver.posts.clear()
    return made


class TestMaking:
    async def test_a_head_is_enough(self, mandrill: Mandrill, receiver: Receiver) -> None:
        made = await mandrill.ask("webhooks/add", url=receiver.url, events=["send"])
        assert [post.raw for post in receiver.posts] == [b""]
        assert len(made["auth_key"]) == 22
        assert await mandrill.ask("webhooks/list") == [made]

    async def test_else_an_empty_post_signed_with_the_test_key(
        self, mandrill: Mandrill, receiver: Receiver
    ) -> None:
        receiver.answers = deque([405, 200])
        await mandrill.ask("webhooks/add", url=receiver.url, events=["send"])
        first = receiver.posts[1]
        assert events(first) == []
        assert is_signed(first, "test-webhook", receiver.url)

    async def test_nobody_there(self, mandrill: Mandrill, receiver: Receiver) -> None:
        receiver.answers = deque([404, 204])
        for url in (receiver.url, "http://127.0.0.1:9/", "ftp://corp.test"):
            refused = await mandrill.refused("webhooks/add", url=url, events=["send"])
            assert refused == (422, "ValidationError")
        unknown = await mandrill.refused("webhooks/add", url=receiver.url, events=["teleport"])
        assert unknown == (422, "ValidationError")
        assert await mandrill.ask("webhooks/list") == []

    async def test_it_is_changed_and_removed(self, mandrill: Mandrill, receiver: Receiver) -> None:
        made = await hook(mandrill, receiver)
        changed = await mandrill.ask(
            "webhooks/update", id=made["id"], url=f"{receiver.url}/new", events=["open"]
        )
        assert (changed["auth_key"], changed["events"]) == (made["auth_key"], ["open"])
        await mandrill.ask("webhooks/delete", id=made["id"])
        for method in ("info", "delete"):
            refused = await mandrill.refused(f"webhooks/{method}", id=made["id"])
            assert refused == (404, "Unknown_Webhook")


class TestDelivering:
    async def test_a_life_of_a_message(self, mandrill: Mandrill, receiver: Receiver) -> None:
        made = await hook(mandrill, receiver)
        ident = await mandrill.one(metadata={"ref": "m1"}, tags=["t"])
        await mandrill.control.mail_act(ident, "open")
        await mandrill.control.mail_act(ident, "click", url="https://corp.test/x")
        await mandrill.control.mail_act(ident, "hard_bounce", diag="550 no")

        def came() -> list[dict[str, Any]]:
            return [event for post in receiver.posts for event in events(post)]

        await until(lambda: len(came()) == 6)
        assert [each.get("event") or each["type"] for each in came()] == [
            "send",
            "delivered",
            "open",
            "click",
            "hard_bounce",
            "blacklist",
        ]
        assert all(is_signed(post, made["auth_key"], made["url"]) for post in receiver.posts)
        bounce, listed = came()[4:]
        assert bounce["_id"] == bounce["msg"]["_id"] == ident
        assert bounce["msg"]["metadata"] == {"ref": "m1"}
        assert (bounce["msg"]["state"], bounce["msg"]["diag"]) == ("bounced", "550 no")
        assert came()[3]["url"] == "https://corp.test/x"
        assert (listed["action"], listed["reject"]["reason"]) == ("add", "hard-bounce")

    async def test_only_what_was_asked_for(self, mandrill: Mandrill, receiver: Receiver) -> None:
        await hook(mandrill, receiver, "reject")
        await mandrill.ask("rejects/add", email="no@corp.test")
        await mandrill.send("a@corp.test", "no@corp.test")
        await until(lambda: bool(receiver.posts))
        assert [each["event"] for each in events(receiver.posts[0])] == ["reject"]

    async def test_events_go_together(self, mandrill: Mandrill, receiver: Receiver) -> None:
        await mandrill.control.configure(mandrill={**SWIFT, "webhookScale": 0.005})
        await hook(mandrill, receiver, "send")
        for _ in range(5):
            await mandrill.one()
        await until(lambda: bool(receiver.posts))
        assert len(events(receiver.posts[0])) == 5

    async def test_anything_but_200_comes_again(
        self, mandrill: Mandrill, receiver: Receiver
    ) -> None:
        await hook(mandrill, receiver, "send")
        receiver.answers = deque([500, 204, 200])
        await mandrill.one()
        await until(lambda: len(receiver.posts) == 3)
        assert len({post.raw for post in receiver.posts}) == 1
        await mandrill.one("b@corp.test")
        await until(lambda: len(receiver.posts) == 4)
        [held] = await mandrill.control.mail_hooks()
        assert (held["failures"], held["lastError"]) == (0, None)

    async def test_lasting_failure_disables_it(
        self, mandrill: Mandrill, receiver: Receiver
    ) -> None:
        await mandrill.control.configure(mandrill={**SWIFT, "webhookRetries": 2})
        await hook(mandrill, receiver, "send")
        receiver.answers = deque([500] * 10)
        await mandrill.one()
        async with asyncio.timeout(60):
            while not (await mandrill.control.mail_hooks())[0]["disabled"]:  # noqa: ASYNC110
                await asyncio.sleep(0.02)
        [held] = await mandrill.control.mail_hooks()
        assert (held["failures"], held["waiting"], held["lastError"]) == (3, 1, "HTTP 500")

    async def test_a_scheduled_message_goes_though_nobody_asks(
        self, mandrill: Mandrill, receiver: Receiver
    ) -> None:
        await hook(mandrill, receiver, "send")
        due = time.strftime("%Y-%m-%d %H:%M:%S", time.gmtime(time.time() + 2))
        [outcome] = await mandrill.send(send_at=due)
        assert outcome["status"] == "scheduled"
        await until(lambda: bool(receiver.posts))
        assert events(receiver.posts[0])[0]["_id"] == outcome["_id"]

    async def test_a_queued_message_tells_when_it_went(
        self, mandrill: Mandrill, receiver: Receiver
    ) -> None:
        await hook(mandrill, receiver, "send")
        await mandrill.control.configure(mandrill={**SWIFT, "queueSeconds": 3600})
        await mandrill.send(*(f"p{number}@corp.test" for number in range(11)))
        assert receiver.posts == []
        await mandrill.control.advance_clock(3601)
        await until(lambda: bool(receiver.posts))
        assert len(events(receiver.posts[0])) == 11
