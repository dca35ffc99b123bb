"""Messages: taken in, handed over, shown, cancelled; what is refused before anything is stored."""

from __future__ import annotations

import asyncio
import base64
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import httpx
import pytest

from mcsync.core.crypto import keyed_hash
from mcsync.core.jobs import TRANSACTIONAL_SEND, ring_due
from mcsync.features.transactional import dispatch
from tests.features.transactional.conftest import Mail


async def stored(mail: Mail) -> int:
    return int(await mail.onlooker.fetchval("select count(*) from transactional_messages"))


class TestSend:
    async def test_a_message_goes_out_once_with_all_it_says(self, mail: Mail) -> None:
        message_id = await mail.send(
            "ada@corp.example",
            to=[{"email": "Ada@corp.example", "name": "Ada", "mergeVars": {"FNAME": "Ada"}}],
            cc=[{"email": "boss@corp.example"}],
            bcc=[{"email": "archive@corp.example"}],
            subject="Hello *|FNAME|*",
            html="<p>*|FNAME|*, *|CITY|*</p>",
            mergeVars={"FNAME": "colleague", "CITY": "Lisbon"},
            mergeLanguage="mailchimp",
            tags=["confirmation"],
            metadata={"signup": 4711},
            replyTo="help@corp.example",
        )
        before = await mail.get(message_id)
        assert before["status"] == "queued"
        assert before["outcomes"] == [{"status": "pending", "count": 3}]
        after = await mail.work(message_id)
        assert (after["status"], after["handIns"], after["nextAttemptAt"]) == ("submitted", 1, None)
        assert [(p["email"], p["type"], p["status"]) for p in after["people"]] == [
            ("Ada@corp.example", "to", "sent"),
            ("boss@corp.example", "cc", "sent"),
            ("archive@corp.example", "bcc", "sent"),
        ]
        first, second, _ = mails = await mail.sandbox.mails(key=mail.key)
        assert (first["subject"], first["html"]) == ("Hello Ada", "<p>Ada, Lisbon</p>")
        assert second["subject"] == "Hello colleague"
        assert first["tags"] == ["confirmation"]
        assert first["metadata"] == {"signup": 4711, "mcsync_id": UUID(message_id).hex}
        assert {each["handIn"] for each in mails} == {first["handIn"]}
        await mail.work(message_id)
        assert await mail.sent(message_id) == 1
        assert await mail.audited() == ["transactional.connect", "transactional.send"]

    async def test_what_it_says_is_sealed_and_then_gone(self, mail: Mail) -> None:
        message_id = await mail.send(subject="Very private words", text="even more so")
        query = "select payload from transactional_messages where id = $1"
        envelope = await mail.onlooker.fetchval(query, UUID(message_id))
        for text in ("private", "even more"):
            assert text not in envelope
            assert base64.b64encode(text.encode()).decode()[:-2] not in envelope
        await mail.work(message_id)
        assert await mail.onlooker.fetchval(query, UUID(message_id)) is None

    async def test_a_template_is_filled_in_and_its_preview_sends_nothing(self, mail: Mail) -> None:
        slug = await mail.sandbox.add_mail_template(
            "Welcome", '<p mc:edit="main"></p>*|NAME|*', key=mail.key, subject="Hi *|NAME|*",
            from_email="us@corp.example", labels=["new"],
        )  # fmt: skip
        (listed,) = (await mail.ask("listTemplates"))["items"]
        assert (listed["template"], listed["subject"]) == (slug, "Hi *|NAME|*")
        assert (await mail.ask("listTemplates", label="old"))["items"] == []
        body = {"template": slug, "templateContent": {"main": "<b>x</b>"}}
        shown = await mail.done("renderTemplate", **body, mergeVars={"NAME": "Ada"})
        assert shown == {"html": "<p><b>x</b></p>Ada"}
        missing = await mail.post("renderTemplate", template="none")
        assert (missing.status_code, missing.json()["code"]) == (404, "template_not_found")
        assert await mail.sandbox.mails(key=mail.key) == []
        taken = await mail.done(
            "sendTemplate", **body, to=[{"email": "ada@corp.example"}], mergeVars={"NAME": "Ada"}
        )
        assert (await mail.work(taken["id"]))["template"] == slug
        (sent,) = await mail.sandbox.mails(key=mail.key)
        assert (sent["subject"], sent["html"]) == ("Hi Ada", "<p><b>x</b></p>Ada")
        unknown = await mail.done("sendTemplate", template="none", to=[{"email": "a@corp.example"}])
        failed = await mail.work(unknown["id"])
        assert (failed["status"], failed["errorCode"]) == ("failed", "template_not_found")
        assert failed["outcomes"] == [{"status": "rejected", "count": 1}]
        (person,) = (await mail.ask("get", id=unknown["id"]))["people"]
        assert (person["status"], person["reason"]) == ("rejected", "template_not_found")

    async def test_what_mailchimp_rejects_is_shown_with_its_reason(self, mail: Mail) -> None:
        message_id = await mail.send("gone@corp.example")
        await mail.work(message_id)
        (sent,) = await mail.sandbox.mails(key=mail.key)
        await mail.sandbox.mail_act(sent["id"], "spam")
        (reject,) = (await mail.ask("listRejects"))["items"]
        assert (reject["email"], reject["reason"]) == ("gone@corp.example", "spam")
        assert (await mail.ask("listRejects", email="other@corp.example"))["items"] == []
        again = await mail.send("gone@corp.example", "ada@corp.example")
        people = (await mail.work(again))["people"]
        assert [(p["status"], p["reason"]) for p in people] == [
            ("rejected", "spam"),
            ("sent", None),
        ]
        assert people[0]["mailchimpId"]

    async def test_an_erased_address_gets_nothing(self, mail: Mail) -> None:
        key = keyed_hash(mail.org.hash_key, "address", "gone@corp.example")
        await mail.onlooker.execute(
            "insert into suppressions (org_id, kind, key) values ($1, 'address', $2)",
            mail.org.id,
            key,
        )
        both = await mail.work(await mail.send("Gone@corp.example", "ada@corp.example"))
        assert [(p["status"], p["reason"]) for p in both["people"]] == [
            ("rejected", "suppressed"),
            ("sent", None),
        ]
        alone = await mail.work(await mail.send("gone@corp.example"))
        assert (alone["status"], alone["errorCode"]) == ("failed", "all_suppressed")
        assert [each["email"] for each in await mail.sandbox.mails(key=mail.key)] == [
            "ada@corp.example"
        ]

    async def test_emptying_one_row_takes_a_person_out_of_what_is_still_to_be_sent(
        self, mail: Mail
    ) -> None:
        message_id = await mail.send(
            to=[
                {"email": "gone@corp.example", "name": "Gone", "mergeVars": {"NAME": "Gone"}},
                {"email": "ada@corp.example", "name": "Ada", "mergeVars": {"NAME": "Ada"}},
            ],
            html="*|NAME|*",
        )
        rows = await mail.onlooker.fetch("select own from transactional_recipients")
        assert all(row["own"] and "Gone" not in row["own"] for row in rows)
        # what an erasure does
        await mail.onlooker.execute(
            "update transactional_recipients set email = null, own = null where email like 'gone%'"
        )
        after = await mail.work(message_id)
        assert [(p["email"], p["status"]) for p in after["people"]] == [
            (None, "rejected"),
            ("ada@corp.example", "sent"),
        ]
        (sent,) = await mail.sandbox.mails(key=mail.key)
        assert (sent["email"], sent["html"]) == ("ada@corp.example", "Ada")
        kept = "select count(own) from transactional_recipients"
        assert await mail.onlooker.fetchval(kept) == 0

    async def test_who_is_known_by_a_message_alone_can_be_erased(self, mail: Mail) -> None:
        message_id = await mail.send("gone@corp.example")
        await mail.work(message_id)
        person = {"email": "gone@corp.example"}
        held = await mail.api.get("/mailchimp/preferences/exportEntity", params=person)
        assert held.status_code == 200, held.text
        assert "transactional" in {one["store"] for one in held.json()["stores"] if one["rows"]}
        erased = await mail.api.post("/mailchimp/preferences/gdprDelete", json=person)
        assert erased.is_success, erased.text
        assert [p["email"] for p in (await mail.get(message_id))["people"]] == [None]
        # nor does a later message bring the address back
        again = await mail.send("gone@corp.example", "ada@corp.example")
        for shown in (await mail.get(again), await mail.work(again)):
            first = shown["people"][0]
            assert (first["email"], first["status"], first["reason"]) == (
                None, "rejected", "suppressed",
            )  # fmt: skip
        assert [m["email"] for m in await mail.sandbox.mails(key=mail.key)] == [
            "gone@corp.example", "ada@corp.example",
        ]  # fmt: skip

    async def test_a_message_refused_as_a_whole_says_why(self, mail: Mail) -> None:
        await mail.sandbox.fault("402", path="messages/send")
        message = await mail.work(await mail.send())
        assert (message["status"], message["errorCode"]) == ("failed", "payment_required")
        assert message["errorDetail"]

    @pytest.mark.parametrize("fault", ["429_json", "403_html"])
    async def test_a_busy_moment_costs_only_time(self, mail: Mail, fault: str) -> None:
        await mail.sandbox.fault(fault, path="messages/send")
        message_id = await mail.send()
        waiting = await mail.work(message_id)
        assert (waiting["status"], waiting["errorCode"]) == ("queued", "mailchimp_busy")
        await mail.due(message_id)
        assert (await mail.work(message_id))["status"] == "submitted"
        assert await mail.sent(message_id) == 1

    async def test_a_revoked_key_stops_the_mail_until_there_is_a_new_one(self, mail: Mail) -> None:
        message_id = await mail.send()
        await mail.sandbox.revoke_mandrill(mail.key)
        waiting = await mail.work(message_id)
        assert (waiting["status"], waiting["errorCode"]) == ("queued", "mailchimp_key_refused")
        connection = await mail.ask("getConnection")
        assert connection["status"] == "needs_attention"
        refused = await mail.post("connect", apiKey=mail.key)
        assert refused.json()["code"] == "transactional_key_refused"
        assert (await mail.api.get("/mailchimp/transactional/listTemplates")).status_code == 502
        other = f"md-{uuid4().hex[:22]}"
        await mail.sandbox.open_mandrill(other)
        mismatch = await mail.post("connect", apiKey=other)
        assert mismatch.json()["code"] == "transactional_account_mismatch"
        await mail.done("disconnect")
        await mail.done("connect", apiKey=other)
        assert (await mail.work(message_id))["status"] == "submitted"


class TestRefusedBeforeAnythingIsStored:
    async def test_without_an_account(self, unconnected: Mail) -> None:
        body = {
            "to": [{"email": "a@corp.example"}], "fromEmail": "us@corp.example", "subject": "x", "text": "x",
        }  # fmt: skip
        answer = await unconnected.post("send", **body)
        assert answer.json()["code"] == "transactional_not_connected"
        assert await stored(unconnected) == 0

    async def test_files_too_large_for_one_call(self, mail: Mail) -> None:
        def file(size: int) -> dict[str, str]:
            content = base64.b64encode(b"x" * size).decode()
            return {"name": "a.bin", "type": "application/octet-stream", "content": content}

        body: dict[str, Any] = {
            "to": [{"email": "a@corp.example"}], "fromEmail": "us@corp.example", "subject": "x", "text": "x",
        }  # fmt: skip
        large = await mail.post("send", **body, attachments=[file(7_900_000)])
        assert (large.status_code, large.json()["code"]) == (413, "message_too_large")
        assert large.json()["limit"] == 10_000_000
        for key in ({}, {"Idempotency-Key": "large"}):
            huge = await mail.api.post(
                "/mailchimp/transactional/send",
                json={**body, "attachments": [file(9_500_000)]}, headers=key,
            )  # fmt: skip
            assert (huge.status_code, huge.json()["code"]) == (413, "too_large")
        assert await stored(mail) == 0
        fits = await mail.api.post(
            "/mailchimp/transactional/send",
            json={**body, "attachments": [file(7_000_000)]}, headers={"Idempotency-Key": "fits"},
        )  # fmt: skip
        assert fits.status_code == 202, fits.text
        assert (await mail.work(fits.json()["id"]))["people"][0]["reason"] == "attachments"
        (sent,) = await mail.sandbox.mails(key=mail.key)
        assert sent["attachments"] == ["a.bin"]

    @pytest.mark.parametrize(
        ("given", "code"),
        [
            ({"metadata": {"a": "x" * 190}}, "metadata_too_long"),
            ({"metadata": {"mcsync_id": "x"}}, "value_error"),
            (
                {"to": [{"email": "a@corp.example"}, {"email": "A@corp.example"}]},
                "duplicate_recipient",
            ),
            ({"cc": [{"email": "ada@corp.example"}]}, "duplicate_recipient"),
            ({"to": [{"email": "nobody"}]}, "invalid_email"),
            ({"text": None}, "missing_content"),
            ({"subject": "a\nBcc: x@corp.example"}, "value_error"),
            ({"tags": ["_mine"]}, "string_pattern_mismatch"),
            ({"mergeVars": {"N": 10**30}}, "value_error"),
            ({"attachments": [{"name": "a", "type": "a/b", "content": "?"}]}, "value_error"),
        ],
    )
    async def test_what_mailchimp_would_refuse(
        self, mail: Mail, given: dict[str, Any], code: str
    ) -> None:
        body = {
            "to": [{"email": "ada@corp.example"}], "fromEmail": "us@corp.example", "subject": "x", "text": "x",
        }  # fmt: skip
        answer = await mail.post("send", **(body | given))
        assert answer.status_code == 422, answer.text
        assert [error["code"] for error in answer.json()["errors"]] == [code]
        assert await stored(mail) == 0


class TestIdempotencyKey:
    async def test_the_same_message_is_taken_in_once(self, mail: Mail) -> None:
        ids = await asyncio.gather(*(mail.send(idempotencyKey="signup-1") for _ in range(5)))
        assert len(set(ids)) == 1
        assert await stored(mail) == 1
        await mail.work(ids[0])
        assert await mail.send(idempotencyKey="signup-1") == ids[0]
        assert await mail.sent(ids[0]) == 1
        assert await mail.audited() == ["transactional.connect", "transactional.send"]

    async def test_another_message_under_it_is_refused(self, mail: Mail) -> None:
        await mail.send(idempotencyKey="signup-1")
        body = {
            "to": [{"email": "ada@corp.example"}], "fromEmail": "us@corp.example", "subject": "Other",
            "text": "Hi", "idempotencyKey": "signup-1",
        }  # fmt: skip
        answer = await mail.post("send", **body)
        assert (answer.status_code, answer.json()["code"]) == (409, "idempotency_key_reused")
        assert await stored(mail) == 1


class TestScheduled:
    async def test_it_waits_here_and_can_be_cancelled(self, mail: Mail) -> None:
        due = datetime.now(UTC) + timedelta(hours=1)
        message_id = await mail.send(sendAt=due.isoformat())
        waiting = await mail.work(message_id)
        assert waiting["status"] == "queued"
        assert datetime.fromisoformat(waiting["nextAttemptAt"]) == due
        await ring_due(mail.resources.db, mail.resources.jobs, *dispatch.DUE)
        assert await rung(mail) == set()
        cancelled = await mail.done("cancel", id=message_id)
        assert cancelled["status"] == "cancelled"
        assert cancelled["outcomes"] == [{"status": "cancelled", "count": 1}]
        await mail.pass_time(message_id, 7200)
        await mail.work(message_id)
        assert await mail.sandbox.mails(key=mail.key) == []
        assert (await mail.audited())[-1] == "transactional.cancel"

    async def test_it_goes_at_its_time(self, mail: Mail) -> None:
        await mail.sandbox.configure(mandrill={"paid": False})
        due = datetime.now(UTC) + timedelta(hours=1)
        message_id = await mail.send(sendAt=due.isoformat())
        await mail.pass_time(message_id, 3601)
        await ring_due(mail.resources.db, mail.resources.jobs, *dispatch.DUE)
        assert await rung(mail) == {message_id}
        assert (await mail.work(message_id))["status"] == "submitted"
        late = await mail.post("cancel", id=message_id)
        assert (late.status_code, late.json()["code"]) == (409, "not_cancellable")

    async def test_a_cancellation_and_a_hand_over_exclude_each_other(self, mail: Mail) -> None:
        for _ in range(6):
            message_id = await mail.send()
            answer, _after = await asyncio.gather(
                mail.post("cancel", id=message_id), mail.work(message_id)
            )
            assert await mail.sent(message_id) == (0 if answer.status_code == 200 else 1)

    async def test_more_than_a_year_ahead_is_too_far(self, mail: Mail) -> None:
        body = {
            "to": [{"email": "ada@corp.example"}], "fromEmail": "us@corp.example", "subject": "x", "text": "x",
            "sendAt": (datetime.now(UTC) + timedelta(days=400)).isoformat(),
        }  # fmt: skip
        assert (await mail.post("send", **body)).json()["code"] == "send_at_too_far"


class TestList:
    async def test_by_status_tag_and_address_page_by_page(self, mail: Mail) -> None:
        first = await mail.send("ada@corp.example", tags=["a"])
        second = await mail.send("bob@corp.example", tags=["a", "b"])
        third = await mail.send("ada@corp.example", "bob@corp.example")
        await mail.work(first)

        async def ids(**params: Any) -> list[str]:
            return [each["id"] for each in (await mail.ask("list", **params))["items"]]

        assert await ids() == [third, second, first]
        assert await ids(status="submitted") == [first]
        assert await ids(tag="a") == [second, first]
        assert await ids(email="ADA@corp.example") == [third, first]
        page = await mail.ask("list", limit=2)
        assert "email" not in str(page["items"])
        rest = await mail.ask("list", limit=2, cursor=page["nextCursor"])
        assert [each["id"] for each in rest["items"]] == [first]
        assert rest["nextCursor"] is None


class TestCallers:
    async def test_who_may_do_what(
        self, mail: Mail, app: Any, tokens: dict[Any, str], other_token: str
    ) -> None:
        message_id = await mail.send()
        transport = httpx.ASGITransport(app)
        wanted = {"owner": 200, "editor": 200, "viewer": 403, "other": 404, "nobody": 401}
        headers = {str(role): token for role, token in tokens.items()} | {"other": other_token}
        async with httpx.AsyncClient(transport=transport, base_url="http://x") as http:
            for who in ("nobody", "viewer", "other", "editor"):
                token = {"Authorization": f"Bearer {headers[who]}"} if who in headers else {}
                answer = await http.post(
                    "/mailchimp/transactional/cancel", json={"id": message_id}, headers=token
                )
                assert answer.status_code == wanted[who], who
            editor = {"Authorization": f"Bearer {headers['editor']}"}
            body = {"apiKey": mail.key}
            answer = await http.post("/mailchimp/transactional/connect", json=body, headers=editor)
            assert answer.status_code == 403


async def rung(mail: Mail) -> set[str]:
    """The messages that a worker was rung for."""
    return {
        key.decode().split(":")[3]
        async for key in mail.resources.redis.scan_iter(f"arq:job:{TRANSACTIONAL_SEND}:*")
    }
