"""What tests and demos tell and ask the Transactional side of the sandbox."""

from __future__ import annotations

from typing import Any

from ..control.call import ControlCall, Unknown, reply
from ..exchange import Answer
from ..people import NotPossible
from .call import MailCall
from .lists import add_template
from .model import LEFT, Mail
from .post_office import MailAccount, view_of

_DIAG = "550 5.1.1 mailbox unavailable"


def open_account(call: ControlCall) -> Answer:
    body = call.body
    made = call.world.mandrill.open(str(body["key"]), str(body.get("username") or "another"))
    return reply({"accountId": made.id})


def revoke(call: ControlCall) -> Answer:
    """Invalid_Key from now on for this key."""
    if call.world.mandrill.keys.pop(str(call.body["key"]), None) is None:
        raise Unknown("no account has this key")
    return reply({})


def _chosen(call: ControlCall) -> list[tuple[MailAccount, Mail]]:
    office = call.world.mandrill
    office.settle()
    key, email, name = call.first("key"), call.first("email").lower(), call.first("metadata")
    return [
        (account, mail)
        for account in office.accounts
        for mail in account.mails.values()
        if key in ("", account.key)
        and email in ("", mail.email.lower())
        and (not name or str(mail.metadata.get(name)) == call.first("value"))
    ]


def messages(call: ControlCall) -> Answer:
    """Mails, filtered by `key`, `email`, and by `metadata` with `value`."""
    return reply({"messages": [view_of(account, mail) for account, mail in _chosen(call)]})


def sent(call: ControlCall) -> Answer:
    """How many mails really left, and how many hand-ins they came from; filters as in `messages`."""
    left = [mail for _, mail in _chosen(call) if mail.state in LEFT]
    return reply({"mails": len(left), "handIns": len({mail.hand_in for mail in left})})


def act(call: ControlCall) -> Answer:
    """open, click, delivered, deferral, hard_bounce, soft_bounce, spam or unsub of one mail that left."""
    found = call.world.mandrill.find(call.args[0])
    if found is None:
        raise Unknown(f"no message {call.args[0]}")
    account, mail = found
    if mail.state not in LEFT:
        raise NotPossible(f"the message is {mail.state}")
    account.happen(
        mail,
        str(call.body["act"]),
        url=str(call.body.get("url") or "https://sandbox.test/"),
        diag=str(call.body.get("diag") or _DIAG),
    )
    return reply({"message": view_of(account, mail)})


def make_template(call: ControlCall) -> Answer:
    """A published template."""
    body: dict[str, Any] = {
        "name": call.body["name"],
        "code": call.body["code"],
        "subject": call.body.get("subject"),
        "from_email": call.body.get("fromEmail"),
        "labels": call.body.get("labels"),
    }
    account = call.world.mandrill.account(str(call.body.get("key") or ""))
    return reply({"slug": add_template(MailCall(account, body))["slug"]})


def webhooks(call: ControlCall) -> Answer:
    """The webhooks of all accounts, with what waits for them."""
    hooks = [
        {
            "id": hook.id,
            "url": hook.url,
            "authKey": hook.auth_key,
            "events": hook.events,
            "batchesSent": hook.batches,
            "eventsSent": hook.sent,
            "failures": hook.failures,
            "disabled": hook.disabled,
            "lastError": hook.last_error,
            "waiting": len(hook.waiting),
        }
        for account in call.world.mandrill.accounts
        for hook in account.hooks.values()
    ]
    return reply({"webhooks": hooks})
