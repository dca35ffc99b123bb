"""Webhooks: how they are made, what is posted to them, and what becomes of posts nobody takes (MC 9)."""

from __future__ import annotations

import hmac
import re
import time
from collections.abc import AsyncIterator
from hashlib import sha256
from typing import Any

import pytest

from tests.sandbox.driver import Audience, problem
from tests.sandbox.receiver import Receiver, receiving

WHO = "ada.lovelace@corp.test"
ALL = dict.fromkeys(("subscribe", "unsubscribe", "profile", "cleaned", "upemail", "campaign"), True)
OUTSIDE = {"user": True, "admin": True, "api": False}
FAST = {"retryScale": 0.0001}


@pytest.fixture
async def receiver() -> AsyncIterator[Receiver]:
    async with receiving() as running:
        yield running


async def hook(staff: Audience, receiver: Receiver, **more: Any) -> dict[str, Any]:
    """A webhook of `staff` for all events that are not the API's, unless told otherwise."""
    body = {"url": f"{receiver.url}/hook", "events": ALL, "sources": OUTSIDE, **more}
    answer = await staff.api.post(f"{staff.path}/webhooks", json=body)
    assert answer.status_code == 200, answer.text
    made: dict[str, Any] = answer.json()
    return made


async def listed(staff: Audience) -> list[dict[str, Any]]:
    body = (await staff.api.get(f"{staff.path}/webhooks")).json()
    assert body["total_items"] == len(body["webhooks"])
    found: list[dict[str, Any]] = body["webhooks"]
    return found


class TestMaking:
    async def test_create_read_change_delete(self, staff: Audience, receiver: Receiver) -> None:
        made = await hook(staff, receiver)
        assert re.fullmatch("[0-9a-f]{10}", made["id"])
        assert (made["events"], made["sources"]) == (ALL, OUTSIDE)
        assert [each["id"] for each in await listed(staff)] == [made["id"]]
        path = f"{staff.path}/webhooks/{made['id']}"
        changed = await staff.api.patch(path, json={"events": {"campaign": False}})
        assert changed.json()["events"] == ALL | {"campaign": False}
        assert (await staff.api.get(path)).json()["url"] == made["url"]
        assert (await staff.api.delete(path)).status_code == 204
        assert problem(await staff.api.get(path)) == (404, "Resource Not Found")
        assert await listed(staff) == []

    async def test_the_url_is_asked_by_get(self, staff: Audience, receiver: Receiver) -> None:
        made = await hook(staff, receiver)
        await staff.api.patch(f"{staff.path}/webhooks/{made['id']}", json={"events": ALL})
        agents = [each["user-agent"] for each in receiver.probes]
        assert agents == ["MailChimp.com WebHook Validator"] * 2
        assert receiver.posts == []

    @pytest.mark.parametrize("status", [404, 500, 201, 301])
    async def test_another_answer_than_200_refuses(
        self, staff: Audience, receiver: Receiver, status: int
    ) -> None:
        receiver.get = status
        answer = await staff.api.post(f"{staff.path}/webhooks", json={"url": receiver.url})
        assert problem(answer) == (400, "Invalid Resource")
        assert answer.json()["detail"] == (
            "We couldn't verify the URL is working. Please double check and try again. "
            f"HTTP Code: {status}"
        )
        assert await listed(staff) == []

    async def test_nobody_there_refuses(self, staff: Audience) -> None:
        answer = await staff.api.post(
            f"{staff.path}/webhooks", json={"url": "http://127.0.0.1:9/hook"}
        )
        assert answer.json()["detail"].endswith("HTTP Code: 0")

    @pytest.mark.parametrize("url", ["", "hook", "ftp://mcsync.test/", "http://[::1/", 5, None])
    async def test_what_is_no_url(self, staff: Audience, url: object) -> None:
        answer = await staff.api.post(f"{staff.path}/webhooks", content=_json(url))
        assert answer.status_code == 400

    async def test_urls_that_differ_in_the_query_only(
        self, staff: Audience, receiver: Receiver
    ) -> None:
        await hook(staff, receiver, url=f"{receiver.url}/hook?a=1")
        body = {"url": f"{receiver.url}/hook?a=2"}
        answer = await staff.api.post(f"{staff.path}/webhooks", json=body)
        assert "multiple WebHooks" in answer.json()["detail"]
        await hook(staff, receiver, url=f"{receiver.url}/hook2")

    async def test_the_secret_is_told_once(self, staff: Audience, receiver: Receiver) -> None:
        made = await hook(staff, receiver, signing_enabled=True)
        assert len(made["signing_secret"]) == 64
        [shown] = await listed(staff)
        assert shown["signing_enabled"] is True
        assert "signing_secret" not in shown
        [held] = await staff.control.webhooks()
        assert held["signingSecret"] == made["signing_secret"]

    async def test_an_account_without_signing(self, staff: Audience, receiver: Receiver) -> None:
        await staff.control.configure(webhooks={"signing": False})
        made = await hook(staff, receiver, signing_enabled=True)
        assert "signing_enabled" not in made
        await staff.control.person(staff.id, WHO, "subscribe_form")
        await staff.control.delivered()
        assert "x-mailchimp-signature" not in receiver.posts[0].headers

    async def test_within_an_asynchronous_batch(self, staff: Audience, receiver: Receiver) -> None:
        operation = {
            "method": "POST",
            "path": f"{staff.path}/webhooks",
            "body": f'{{"url": "{receiver.url}"}}',
        }
        await staff.control.configure(batchStepMs=1)
        batch = (await staff.api.post("/batches", json={"operations": [operation]})).json()
        while (await staff.api.get(f"/batches/{batch['id']}")).json()["status"] != "finished":
            pass
        assert [each["url"] for each in await listed(staff)] == [receiver.url]


def _json(url: object) -> bytes:
    import orjson

    return orjson.dumps({"url": url})


class TestPosts:
    async def test_the_form(self, staff: Audience, receiver: Receiver) -> None:
        await staff.add(WHO, merge_fields={"FNAME": "Ada & Zoë"}, ip_opt="10.1.2.3")
        await hook(staff, receiver)
        await staff.control.person(
            staff.id,
            WHO,
            "update_profile",
            merge_fields={"ADDRESS": {"addr1": "1 A", "city": "B", "state": "C", "zip": "D"}},
        )
        await staff.control.delivered()
        [post] = receiver.posts
        assert post.headers["content-type"] == "application/x-www-form-urlencoded"
        assert post.headers["user-agent"] == "MailChimp.com"
        form = post.form
        assert list(form)[:2] == ["type", "fired_at"]
        assert re.fullmatch(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d", form["fired_at"])
        assert re.fullmatch("[0-9a-f]{10}", form["data[id]"])
        assert form["data[id]"] == (await staff.get(WHO)).json()["unique_email_id"]
        assert form["data[list_id]"] == staff.id
        assert form["data[email]"] == form["data[merges][EMAIL]"] == WHO
        assert form["data[merges][FNAME]"] == "Ada & Zoë"
        assert form["data[merges][ADDRESS][city]"] == "B"
        assert (form["data[merges][LNAME]"], form["data[ip_opt]"]) == ("", "10.1.2.3")
        assert b"data%5Bmerges%5D%5BFNAME%5D=Ada+%26+Zo%C3%AB" in post.raw

    @pytest.mark.parametrize(
        ("state", "who", "act", "types"),
        [
            ("absent", "person", "subscribe_form", ["subscribe"]),
            ("unsubscribed by person", "person", "resubscribe_form", ["subscribe"]),
            ("pending", "person", "confirm", ["subscribe"]),
            ("subscribed", "person", "unsubscribe", ["unsubscribe"]),
            ("subscribed", "person", "abuse", ["unsubscribe"]),
            ("subscribed", "person", "bounce", ["cleaned"]),
            ("unsubscribed by person", "person", "unsubscribe", []),
            ("subscribed", "admin", "unsubscribe", ["unsubscribe"]),
            ("subscribed", "admin", "archive", ["unsubscribe"]),
            ("subscribed", "admin", "delete_permanent", ["unsubscribe"]),
            ("absent", "admin", "subscribe", ["subscribe"]),
            ("pending", "admin", "pending_lapse", []),
        ],
    )
    async def test_what_is_reported(
        self, staff: Audience, receiver: Receiver, state: str, who: str, act: Any, types: list[str]
    ) -> None:
        await staff.prepare(WHO, state)
        await hook(staff, receiver)
        do = staff.control.person if who == "person" else staff.control.admin
        await do(staff.id, WHO, act)
        await staff.control.delivered()
        assert receiver.types == types

    @pytest.mark.parametrize(
        ("who", "act", "action", "reason"),
        [
            ("person", "unsubscribe", "unsub", "manual"),
            ("person", "abuse", "unsub", "abuse"),
            ("admin", "archive", "delete", "manual"),
            ("admin", "delete_permanent", "delete", "manual"),
        ],
    )
    async def test_how_somebody_left(
        self, staff: Audience, receiver: Receiver, who: str, act: Any, action: str, reason: str
    ) -> None:
        await staff.add(WHO)
        await hook(staff, receiver)
        do = staff.control.person if who == "person" else staff.control.admin
        await do(staff.id, WHO, act)
        await staff.control.delivered()
        form = receiver.posts[0].form
        assert (form["data[action]"], form["data[reason]"]) == (action, reason)

    async def test_the_action_may_be_missing(self, staff: Audience, receiver: Receiver) -> None:
        await staff.control.configure(webhooks={"actionMissing": True})
        await staff.add(WHO)
        await hook(staff, receiver)
        await staff.control.person(staff.id, WHO, "unsubscribe")
        await staff.control.delivered()
        assert "data[action]" not in receiver.posts[0].form

    async def test_a_permanent_deletion_may_be_silent(
        self, staff: Audience, receiver: Receiver
    ) -> None:
        await staff.control.configure(webhooks={"permanentDeleteFires": False})
        await staff.add(WHO)
        await hook(staff, receiver)
        await staff.control.admin(staff.id, WHO, "delete_permanent")
        await staff.control.delivered()
        assert receiver.posts == []

    async def test_another_address(self, staff: Audience, receiver: Receiver) -> None:
        await staff.add(WHO)
        await hook(staff, receiver)
        await staff.control.person(staff.id, WHO, "change_email", new_email="ada@new.test")
        await staff.control.delivered()
        assert sorted(receiver.types) == ["profile", "upemail"]
        [form] = [post.form for post in receiver.posts if post.type == "upemail"]
        member = (await staff.get("ada@new.test")).json()
        assert {key: value for key, value in form.items() if key.startswith("data")} == {
            "data[list_id]": staff.id,
            "data[new_id]": member["unique_email_id"],
            "data[new_email]": "ada@new.test",
            "data[old_email]": WHO,
        }

    async def test_tags_and_pending_are_not_reported(
        self, staff: Audience, receiver: Receiver
    ) -> None:
        await staff.control.change_list(staff.id, double_optin=True)
        await hook(staff, receiver)
        await staff.control.person(staff.id, WHO, "subscribe_form")
        await staff.control.admin(staff.id, WHO, "tag", tag="vip")
        await staff.control.delivered()
        assert receiver.posts == []


class TestSources:
    async def test_the_apis_own_writes_do_not_echo(
        self, staff: Audience, receiver: Receiver
    ) -> None:
        await hook(staff, receiver)
        await _write_all(staff)
        await staff.control.delivered()
        assert receiver.posts == []

    async def test_unless_asked_for(self, staff: Audience, receiver: Receiver) -> None:
        await hook(staff, receiver, sources={"user": False, "admin": False, "api": True})
        await _write_all(staff)
        await staff.control.person(staff.id, "other@corp.test", "subscribe_form")
        await staff.control.delivered()
        wanted = ["subscribe", "profile", "unsubscribe", "subscribe", "upemail", "profile"]
        assert sorted(receiver.types) == sorted([*wanted, "unsubscribe", "unsubscribe"])

    async def test_user_and_admin_are_told_apart(self, staff: Audience, receiver: Receiver) -> None:
        await hook(staff, receiver, sources={"user": False, "admin": True, "api": False})
        await staff.control.person(staff.id, WHO, "subscribe_form")
        await staff.control.admin(staff.id, WHO, "unsubscribe")
        await staff.control.delivered()
        assert receiver.types == ["unsubscribe"]

    async def test_only_the_events_asked_for(self, staff: Audience, receiver: Receiver) -> None:
        await hook(staff, receiver, events=ALL | {"subscribe": False})
        await staff.control.person(staff.id, WHO, "subscribe_form")
        await staff.control.person(staff.id, WHO, "unsubscribe")
        await staff.control.delivered()
        assert receiver.types == ["unsubscribe"]

    async def test_other_lists_are_not_reported(self, staff: Audience, receiver: Receiver) -> None:
        await hook(staff, receiver)
        [account] = await staff.control.state()
        other = account["lists"][1]["id"]
        await staff.control.person(other, WHO, "subscribe_form")
        await staff.control.delivered()
        assert receiver.posts == []


async def _write_all(staff: Audience) -> None:
    await staff.bulk({"email_address": WHO, "status": "subscribed"})
    await staff.patch(WHO, merge_fields={"FNAME": "Ada"})
    await staff.patch(WHO, status="unsubscribed")
    await staff.put(WHO, status="subscribed")
    await staff.patch(WHO, email_address="ada@new.test")
    await staff.delete("ada@new.test")
    await staff.forget("ada@new.test")


class TestSigning:
    async def test_every_try_is_signed_anew(self, staff: Audience, receiver: Receiver) -> None:
        await staff.control.configure(webhooks=FAST)
        receiver.answers.append(503)
        secret = (await hook(staff, receiver, signing_enabled=True))["signing_secret"]
        await staff.control.person(staff.id, WHO, "subscribe_form")
        await staff.control.delivered()
        assert len(receiver.posts) == 2
        for post in receiver.posts:
            header = post.headers["x-mailchimp-signature"]
            second = header.partition(",")[0].removeprefix("t=")
            text = second.encode() + b"." + post.raw
            assert header == f"t={second},v1={hmac.new(secret.encode(), text, sha256).hexdigest()}"
            assert abs(time.time() - int(second)) < 30


class TestRetries:
    async def test_it_is_tried_again_until_taken(self, staff: Audience, receiver: Receiver) -> None:
        await staff.control.configure(webhooks=FAST)
        receiver.answers.extend([500, 404, 302])
        await hook(staff, receiver)
        await staff.control.person(staff.id, WHO, "subscribe_form")
        await staff.control.delivered()
        [delivery] = await staff.control.deliveries()
        assert [each["status"] for each in delivery["attempts"]] == [500, 404, 302, 200]
        assert (delivery["state"], delivery["email"]) == ("delivered", WHO)
        assert len({post.raw for post in receiver.posts}) == 1

    async def test_no_answer_in_time(self, staff: Audience, receiver: Receiver) -> None:
        await staff.control.configure(webhooks=FAST | {"timeoutSeconds": 0.1})
        receiver.hang = True
        await hook(staff, receiver)
        await staff.control.person(staff.id, WHO, "subscribe_form")
        await staff.control.delivered()
        [delivery] = await staff.control.deliveries(state="lost")
        assert [each["status"] for each in delivery["attempts"]] == [0] * 7

    async def test_410_disables_at_once(self, staff: Audience, receiver: Receiver) -> None:
        receiver.answers.append(410)
        await hook(staff, receiver)
        await staff.control.person(staff.id, WHO, "subscribe_form")
        await staff.control.delivered()
        await staff.control.person(staff.id, WHO, "unsubscribe")
        await staff.control.delivered()
        assert receiver.types == ["subscribe"]
        assert await listed(staff) == []

    async def test_lost_deliveries_in_a_row_disable(
        self, staff: Audience, receiver: Receiver
    ) -> None:
        await staff.control.configure(webhooks=FAST | {"retrySeconds": [1], "disabledListed": True})
        made = await hook(staff, receiver)
        receiver.answers.extend([500] * 6)
        for number in range(3):
            await staff.control.person(staff.id, f"p{number}@corp.test", "subscribe_form")
            await staff.control.delivered()
        [held] = await staff.control.webhooks()
        assert held["disabled"] == "persistent failure"
        await staff.control.person(staff.id, WHO, "subscribe_form")
        assert len(receiver.posts) == 6
        assert [each["id"] for each in await listed(staff)] == [made["id"]]
        await staff.api.patch(f"{staff.path}/webhooks/{made['id']}", json={"events": ALL})
        await staff.control.person(staff.id, WHO, "unsubscribe")
        await staff.control.delivered()
        assert receiver.types[6:] == ["unsubscribe"]

    async def test_nothing_for_a_webhook_that_was_deleted_meanwhile(
        self, staff: Audience, receiver: Receiver
    ) -> None:
        await staff.control.hold_deliveries()
        made = await hook(staff, receiver)
        await staff.control.person(staff.id, WHO, "subscribe_form")
        await staff.api.delete(f"{staff.path}/webhooks/{made['id']}")
        await staff.control.release_deliveries()
        await staff.control.delivered()
        [delivery] = await staff.control.deliveries()
        assert (delivery["state"], receiver.posts) == ("dropped", [])


class TestDisorder:
    async def test_held_and_released_in_another_order(
        self, staff: Audience, receiver: Receiver
    ) -> None:
        await hook(staff, receiver)
        await staff.control.hold_deliveries()
        await staff.control.person(staff.id, WHO, "subscribe_form")
        await staff.control.person(staff.id, WHO, "unsubscribe")
        await staff.control.delivered()
        assert receiver.posts == []
        assert await staff.control.release_deliveries("reversed") == 2
        await staff.control.delivered()
        assert receiver.types == ["unsubscribe", "subscribe"]
        await staff.control.person(staff.id, WHO, "resubscribe_form")
        await staff.control.delivered()
        assert len(receiver.posts) == 3

    async def test_doubled(self, staff: Audience, receiver: Receiver) -> None:
        await staff.control.configure(webhooks={"doubleEvery": 2})
        await hook(staff, receiver)
        for number in range(4):
            await staff.control.person(staff.id, f"p{number}@corp.test", "subscribe_form")
        await staff.control.delivered()
        assert len(receiver.posts) == 6
        assert len({post.raw for post in receiver.posts}) == 4

    async def test_repeated_on_request(self, staff: Audience, receiver: Receiver) -> None:
        await hook(staff, receiver)
        await staff.control.person(staff.id, WHO, "subscribe_form")
        await staff.control.delivered()
        [first] = await staff.control.deliveries()
        await staff.control.repeat_delivery(first["seq"], times=3)
        await staff.control.delivered()
        assert len({post.raw for post in receiver.posts}) == 1
        assert len(receiver.posts) == 4
        again = await staff.control.deliveries(since=first["seq"])
        assert {each["repeats"] for each in again} == {first["seq"]}

    async def test_delayed(self, staff: Audience, receiver: Receiver) -> None:
        await staff.control.configure(webhooks={"delaySeconds": 0.2, "jitterSeconds": 0.1})
        await hook(staff, receiver)
        began = time.monotonic()
        await staff.control.person(staff.id, WHO, "subscribe_form")
        assert receiver.posts == []
        await staff.control.delivered()
        assert time.monotonic() - began > 0.2
        assert len(receiver.posts) == 1

    async def test_a_reset_gives_everything_up(self, staff: Audience, receiver: Receiver) -> None:
        await staff.control.configure(webhooks={"delaySeconds": 0.2})
        await hook(staff, receiver)
        await staff.control.person(staff.id, WHO, "subscribe_form")
        await staff.control.reset()
        await staff.control.delivered()
        assert await staff.control.deliveries() == []
        assert await staff.control.webhooks() == []
