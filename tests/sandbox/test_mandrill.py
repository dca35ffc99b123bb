"""The Transactional API: sending, outcomes, times, templates, rejects, faults (MC 17)."""

from __future__ import annotations

import base64
import time
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest

from tests.sandbox.mandrill import Mandrill
from tests.support.sandbox import SandboxControl, SandboxProcess

HOUR = 3600


def utc(offset: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S", time.gmtime(time.time() + offset))


@pytest.fixture
async def mandrill(process: SandboxProcess, control: SandboxControl) -> AsyncIterator[Mandrill]:
    async with httpx.AsyncClient(base_url=process.mandrill_url, timeout=30) as client:
        yield Mandrill(client, control, process.mandrill_key)


class TestProtocol:
    async def test_the_key_is_in_the_body(
        self, mandrill: Mandrill, process: SandboxProcess
    ) -> None:
        assert await mandrill.ask("users/ping2") == {"PING": "PONG!"}
        assert (await mandrill.ask("users/info"))["username"] == "sandbox"
        for key in ("", "md-nonsense", process.api_key):
            stranger = Mandrill(mandrill.client, mandrill.control, key)
            assert await stranger.refused("users/ping2") == (401, "Invalid_Key")

    @pytest.mark.parametrize("path", ["api/1.0/users/ping2", "api/1.4/users/ping2.json"])
    async def test_versions_and_suffixes(self, mandrill: Mandrill, path: str) -> None:
        url = str(mandrill.client.base_url).replace("api/1.0/", path)
        answer = await mandrill.client.post(url, json={"key": mandrill.key})
        assert answer.json() == {"PING": "PONG!"}

    async def test_what_is_no_call(self, mandrill: Mandrill) -> None:
        assert (await mandrill.client.get("/users/ping2.json")).status_code == 405
        assert (await mandrill.client.post("/users/ping2.json", content=b"{")).status_code == 400
        assert (await mandrill.client.post("/users/ping2.json", json=[])).status_code == 400
        assert await mandrill.refused("users/teleport") == (404, "Unknown_Method")

    async def test_accounts_are_apart(self, mandrill: Mandrill) -> None:
        await mandrill.control.open_mandrill("md-another")
        other = Mandrill(mandrill.client, mandrill.control, "md-another")
        ident = await mandrill.one()
        assert await other.refused("messages/info", id=ident) == (404, "Unknown_Message")
        assert len(await mandrill.control.mails(key="md-another")) == 0
        await mandrill.control.revoke_mandrill("md-another")
        assert await other.refused("users/ping2") == (401, "Invalid_Key")

    async def test_the_log_has_the_calls_without_the_key(self, mandrill: Mandrill) -> None:
        await mandrill.send("a@corp.test", "b@corp.test")
        await mandrill.ask("users/info")
        calls = await mandrill.control.calls()
        assert [(call["path"], call["write"], call["members"]) for call in calls] == [
            ("/api/1.0/messages/send.json", True, 2),
            ("/api/1.0/users/info.json", False, 0),
        ]
        assert mandrill.key not in str(calls)


class TestSending:
    async def test_outcomes_differ_by_recipient(self, mandrill: Mandrill) -> None:
        await mandrill.ask("rejects/add", email="No@corp.test", comment="asked us")
        outcomes = await mandrill.send("a@corp.test", "no@corp.test", "nonsense")
        assert [(each["status"], each["reject_reason"]) for each in outcomes] == [
            ("sent", None),
            ("rejected", "custom"),
            ("invalid", None),
        ]
        assert len({each["_id"] for each in outcomes}) == 3
        held = await mandrill.control.mails()
        assert [mail["sent"] for mail in held] == [True, False, False]
        assert len({mail["handIn"] for mail in held}) == 1

    async def test_senders_can_be_refused(self, mandrill: Mandrill) -> None:
        [nobody] = await mandrill.send(from_email="")
        await mandrill.control.configure(mandrill={"unsignedPattern": "^corp"})
        [unsigned] = await mandrill.send()
        assert (nobody["reject_reason"], unsigned["reject_reason"]) == (
            "invalid-sender",
            "unsigned",
        )

    async def test_attachments_and_crowds_are_queued(self, mandrill: Mandrill) -> None:
        await mandrill.control.configure(mandrill={"queueSeconds": HOUR})
        file = {"type": "text/plain", "name": "a.txt", "content": base64.b64encode(b"x").decode()}
        [with_file] = await mandrill.send(attachments=[file])
        crowd = await mandrill.send(*(f"p{number}@corp.test" for number in range(11)))
        assert (with_file["status"], with_file["queued_reason"]) == ("queued", "attachments")
        assert {each["queued_reason"] for each in crowd} == {"multiple-recipients"}
        assert await mandrill.state(with_file["_id"]) == "queued"
        await mandrill.control.advance_clock(HOUR + 1)
        assert await mandrill.state(with_file["_id"]) == "sent"
        content = await mandrill.ask("messages/content", id=with_file["_id"])
        assert content["attachments"][0]["content"] == file["content"]

    async def test_who_left_meanwhile_gets_nothing(self, mandrill: Mandrill) -> None:
        [later] = await mandrill.send(send_at=utc(HOUR))
        await mandrill.ask("rejects/add", email="a@corp.test")
        await mandrill.control.advance_clock(HOUR + 1)
        [held] = await mandrill.control.mails()
        assert (held["id"], held["state"], held["sent"]) == (later["_id"], "rejected", False)

    @pytest.mark.parametrize(
        "message",
        [
            {"to": []},
            {"to": "a@corp.test"},
            {"to": [{"name": "A"}]},
            {"to": [{"email": "a@corp.test", "type": "copy"}]},
            {"from_email": "nonsense"},
            {"tags": ["_private"]},
            {"tags": ["x" * 51]},
            {"metadata": {"note": "x" * 250}},
            {"recipient_metadata": [{"rcpt": "a@corp.test", "values": {"note": "x" * 250}}]},
            {"merge_language": "esperanto"},
            {"global_merge_vars": [7]},
        ],
    )
    async def test_a_malformed_message_is_refused(
        self, mandrill: Mandrill, message: dict[str, Any]
    ) -> None:
        given = {"to": [{"email": "a@corp.test"}], **message}
        assert await mandrill.refused("messages/send", message=given) == (422, "ValidationError")
        assert await mandrill.control.mails() == []

    async def test_sizes_have_limits(self, mandrill: Mandrill) -> None:
        await mandrill.control.configure(mandrill={"maxCallBytes": 5000, "maxMessageBytes": 1000})
        given = {"to": [{"email": "a@corp.test"}]}
        answer = await mandrill.call("messages/send", message=given | {"text": "x" * 5000})
        assert (answer.status_code, answer.headers["content-type"][:9]) == (413, "text/html")
        file = {"name": "a", "type": "text/plain", "content": "x" * 1001}
        large = given | {"attachments": [file]}
        assert await mandrill.refused("messages/send", message=large) == (422, "ValidationError")

    async def test_subaccounts_are_unknown(self, mandrill: Mandrill) -> None:
        given = {"to": [{"email": "a@corp.test"}], "subaccount": "x"}
        assert await mandrill.refused("messages/send", message=given) == (
            404,
            "Unknown_Subaccount",
        )


class TestSchedule:
    async def test_it_is_sent_when_due(self, mandrill: Mandrill) -> None:
        [outcome] = await mandrill.send(send_at=utc(HOUR))
        assert outcome["status"] == "scheduled"
        [listed] = await mandrill.ask("messages/list-scheduled", to="A@corp.test")
        assert listed["_id"] == outcome["_id"]
        assert await mandrill.ask("messages/list-scheduled", to="b@corp.test") == []
        await mandrill.control.advance_clock(HOUR + 1)
        assert await mandrill.state(outcome["_id"]) == "sent"
        assert await mandrill.ask("messages/list-scheduled") == []
        refused = await mandrill.refused("messages/cancel-scheduled", id=outcome["_id"])
        assert refused == (404, "Unknown_Message")

    async def test_it_is_cancelled_or_moved(self, mandrill: Mandrill) -> None:
        [one] = await mandrill.send(send_at=utc(HOUR))
        [two] = await mandrill.send(send_at=utc(HOUR))
        assert (await mandrill.ask("messages/cancel-scheduled", id=one["_id"]))["_id"] == one["_id"]
        moved = await mandrill.ask("messages/reschedule", id=two["_id"], send_at=utc(5 * HOUR))
        assert moved["send_at"] == utc(5 * HOUR)[:16] + moved["send_at"][16:]
        await mandrill.control.advance_clock(2 * HOUR)
        assert [mail["state"] for mail in await mandrill.control.mails()] == [
            "canceled",
            "scheduled",
        ]
        await mandrill.ask("messages/reschedule", id=two["_id"], send_at=utc(-HOUR))
        assert await mandrill.state(two["_id"]) == "sent"

    async def test_times_have_limits(self, mandrill: Mandrill) -> None:
        [past] = await mandrill.send(send_at=utc(-HOUR))
        assert past["status"] == "sent"
        given = {"to": [{"email": "a@corp.test"}]}
        for text in ("tomorrow", utc(400 * 24 * HOUR)):
            refused = await mandrill.refused("messages/send", message=given, send_at=text)
            assert refused == (422, "ValidationError")
        await mandrill.control.configure(mandrill={"paid": False})
        refused = await mandrill.refused("messages/send", message=given, send_at=utc(HOUR))
        assert refused == (402, "PaymentRequired")


class TestTemplates:
    async def test_a_template_is_filled_and_sent(self, mandrill: Mandrill) -> None:
        code = '<h1>Hi *|NAME|*</h1><p mc:edit="main">default</p><p mc:edit="foot">bye</p>'
        slug = await mandrill.control.add_mail_template(
            "Big Welcome", code, subject="Welcome *|NAME|*", from_email="us@corp.test"
        )
        assert slug == "big-welcome"
        to = [{"email": "a@corp.test"}, {"email": "b@corp.test"}]
        outcomes = await mandrill.ask(
            "messages/send-template",
            template_name="Big Welcome",
            template_content=[{"name": "main", "content": "<b>new</b>"}],
            message={
                "to": to,
                "global_merge_vars": [{"name": "name", "content": "you"}],
                "merge_vars": [
                    {"rcpt": "B@corp.test", "vars": [{"name": "NAME", "content": "Bea"}]}
                ],
            },
        )
        assert {each["status"] for each in outcomes} == {"sent"}
        first, second = await mandrill.control.mails()
        assert first["html"] == "<h1>Hi you</h1><p><b>new</b></p><p>bye</p>"
        assert (second["subject"], second["template"]) == ("Welcome Bea", "big-welcome")

    async def test_rendering_sends_nothing(self, mandrill: Mandrill) -> None:
        await mandrill.control.add_mail_template("t", '<p mc:edit="a">x</p>*|B|*')
        rendered = await mandrill.ask(
            "templates/render",
            template_name="t",
            template_content=[{"name": "a", "content": "y"}],
            merge_vars=[{"name": "b", "content": "z"}],
        )
        assert rendered == {"html": "<p>y</p>z"}
        assert await mandrill.control.mails() == []

    async def test_drafts_are_not_sent(self, mandrill: Mandrill) -> None:
        await mandrill.ask("templates/add", name="t", code="one", publish=False, labels=["l"])
        message = {"to": [{"email": "a@corp.test"}]}
        given = {"template_name": "t", "template_content": [], "message": message}
        assert (await mandrill.refused("messages/send-template", **given))[0] == 422
        await mandrill.ask("templates/publish", name="t")
        await mandrill.ask("templates/update", name="t", code="two", publish=False)
        shown = await mandrill.ask("templates/info", name="t")
        assert (shown["code"], shown["publish_code"]) == ("two", "one")
        assert len(await mandrill.ask("templates/list", label="l")) == 1
        assert await mandrill.ask("templates/list", label="other") == []
        await mandrill.ask("templates/delete", name="t")
        refused = await mandrill.refused("messages/send-template", **given)
        assert refused == (404, "Unknown_Template")

    async def test_a_name_is_taken_once(self, mandrill: Mandrill) -> None:
        await mandrill.ask("templates/add", name="A b", code="x")
        assert await mandrill.refused("templates/add", name="a-B") == (422, "Invalid_Template")


class TestRejects:
    async def test_they_come_and_go(self, mandrill: Mandrill) -> None:
        assert await mandrill.ask("rejects/add", email="a@corp.test") == {
            "email": "a@corp.test",
            "added": True,
        }
        [listed] = await mandrill.ask("rejects/list", email="a@")
        assert (listed["reason"], listed["expired"]) == ("custom", False)
        assert (await mandrill.ask("rejects/delete", email="A@corp.test"))["deleted"] is True
        refused = await mandrill.refused("rejects/delete", email="a@corp.test")
        assert refused == (404, "Invalid_Reject")
        assert await mandrill.refused("rejects/add", email="x") == (422, "ValidationError")

    @pytest.mark.parametrize(
        ("act", "state", "reason"),
        [
            ("hard_bounce", "bounced", "hard-bounce"),
            ("spam", "spam", "spam"),
            ("unsub", "unsub", "unsub"),
            ("soft_bounce", "soft-bounced", None),
        ],
    )
    async def test_what_recipients_do_leads_there(
        self, mandrill: Mandrill, act: Any, state: str, reason: str | None
    ) -> None:
        ident = await mandrill.one()
        assert (await mandrill.control.mail_act(ident, act))["state"] == state
        found = await mandrill.ask("rejects/list")
        assert [each["reason"] for each in found] == ([reason] if reason else [])
        [next_one] = await mandrill.send()
        assert next_one["reject_reason"] == reason

    async def test_opens_and_clicks_are_counted(self, mandrill: Mandrill) -> None:
        ident = await mandrill.one()
        await mandrill.control.mail_act(ident, "open")
        await mandrill.control.mail_act(ident, "click", url="https://corp.test/x")
        shown = await mandrill.ask("messages/info", id=ident)
        assert (shown["opens"], shown["clicks"]) == (1, 1)
        assert shown["clicks_detail"][0]["url"] == "https://corp.test/x"
        today = (await mandrill.ask("users/info"))["stats"]["today"]
        assert (today["sent"], today["unique_opens"]) == (1, 1)

    async def test_nobody_opens_what_was_not_sent(self, mandrill: Mandrill) -> None:
        [later] = await mandrill.send(send_at=utc(HOUR))
        with pytest.raises(httpx.HTTPStatusError, match="409"):
            await mandrill.control.mail_act(later["_id"], "open")


class TestFaults:
    @pytest.mark.parametrize(
        ("kind", "status", "name"),
        [
            ("429_json", 429, "RequestLimitExceeded"),
            ("500", 500, "GeneralError"),
            ("503", 503, "ServiceUnavailable"),
            ("401", 401, "Invalid_Key"),
            ("402", 402, "PaymentRequired"),
        ],
    )
    async def test_they_speak_this_apis_words(
        self, mandrill: Mandrill, kind: str, status: int, name: str
    ) -> None:
        await mandrill.control.fault(kind, path="messages/send")
        given = {"to": [{"email": "a@corp.test"}]}
        assert await mandrill.refused("messages/send", message=given) == (status, name)
        assert await mandrill.control.mails() == []

    async def test_an_answer_is_lost_after_the_message_was_sent(self, mandrill: Mandrill) -> None:
        message = {
            "to": [{"email": "a@corp.test"}],
            "from_email": "us@corp.test",
            "metadata": {"id": "m1"},
        }
        await mandrill.control.fault("504_after", path="messages/send")
        answer = await mandrill.call("messages/send", message=message)
        assert (answer.status_code, answer.headers["content-type"][:9]) == (504, "text/html")
        assert await mandrill.control.mails_sent("id", "m1") == 1
        await mandrill.control.fault("reset_after", path="messages/send")
        with pytest.raises(httpx.TransportError):
            await mandrill.call("messages/send", message=message)
        assert await mandrill.control.mails_sent("id", "m1") == 2
        await mandrill.control.fault("reset", path="messages/send")
        with pytest.raises(httpx.TransportError):
            await mandrill.call("messages/send", message=message)
        assert await mandrill.control.mails_sent("id", "m1") == 2
