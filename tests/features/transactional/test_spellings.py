"""An address with two spellings: handed over as it was given, known under either."""

from __future__ import annotations

import pytest

from mcsync.core.crypto import keyed_hash
from tests.features.transactional.conftest import Mail

UNICODE = "ida@bücher.example"
A_LABEL = "ida@xn--bcher-kva.example"
BOTH_WAYS = pytest.mark.parametrize(("given", "other"), [(UNICODE, A_LABEL), (A_LABEL, UNICODE)])


@BOTH_WAYS
async def test_recipients_and_senders_are_handed_over_as_given(
    mail: Mail, given: str, other: str
) -> None:
    sender = given.replace("ida@", "post@")
    message_id = await mail.send(given, fromEmail=sender)
    shown = await mail.work(message_id)
    assert [(p["email"], p["status"]) for p in shown["people"]] == [(given, "sent")]
    (sent,) = await mail.sandbox.mails(key=mail.key)
    assert (sent["email"], sent["fromEmail"]) == (given, sender)
    for asked in (given, other):
        assert [m["id"] for m in (await mail.ask("list", email=asked))["items"]] == [message_id]


@BOTH_WAYS
async def test_an_erased_mailbox_is_sent_nothing(mail: Mail, given: str, other: str) -> None:
    await mail.onlooker.execute(
        "insert into suppressions (org_id, kind, key) values ($1, 'address', $2)",
        mail.org.id, keyed_hash(mail.org.hash_key, "address", A_LABEL),
    )  # fmt: skip
    for email in (given, other):
        shown = await mail.work(await mail.send(email))
        assert [(p["status"], p["reason"]) for p in shown["people"]] == [("rejected", "suppressed")]
    assert await mail.sandbox.mails(key=mail.key) == []


async def test_both_spellings_are_one_recipient(mail: Mail) -> None:
    answer = await mail.post(
        "send", to=[{"email": UNICODE}, {"email": A_LABEL}], subject="x", text="x",
        fromEmail="us@corp.example",
    )  # fmt: skip
    assert answer.status_code == 422
    assert "duplicate_recipient" in answer.text


@BOTH_WAYS
async def test_rejects_are_listed_by_either(mail: Mail, given: str, other: str) -> None:
    await mail.work(await mail.send(given))
    (sent,) = await mail.sandbox.mails(key=mail.key)
    await mail.sandbox.mail_act(sent["id"], "spam")
    for asked in (given, other):
        found = (await mail.ask("listRejects", email=asked))["items"]
        assert [each["email"] for each in found] == [given]
