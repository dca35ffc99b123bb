"""Mails that were handed in: info, search, content, and those that wait for their time (MC 17.2)."""

from __future__ import annotations

from typing import Any

from . import failures, model
from .call import MailCall
from .model import Json, Mail
from .query import parse

_WEEK = 7 * 86_400
_DAY = 86_400
_MINUTE = 60
_LIMITS = (1, 1000)
_DEFAULT_LIMIT = 100


def info(call: MailCall) -> Json:
    return _indexed(call).info()


def content(call: MailCall) -> Json:
    mail = _indexed(call)
    return {
        "ts": mail.ts,
        "_id": mail.id,
        "from_email": mail.from_email,
        "from_name": mail.from_name,
        "subject": mail.subject,
        "to": {"email": mail.email, "name": mail.name},
        "tags": mail.tags,
        "headers": mail.headers or [],
        "text": mail.text,
        "html": mail.html,
        "attachments": mail.attachments,
    }


def _indexed(call: MailCall) -> Mail:
    """The mail named by `id`, once the index has it."""
    ident = call.required("id", str)
    mail = call.account.mails.get(ident)
    if mail is None or not _shown(call, mail):
        raise failures.unknown_message(ident)
    return mail


def _shown(call: MailCall, mail: Mail) -> bool:
    lag = call.rules.index_lag_seconds
    return not lag or call.account.office.world.clock.now() >= mail.ts + lag


def search(call: MailCall) -> list[Json]:
    """Newest first."""
    _count(call)
    limit = call.optional("limit", int)
    limit = _DEFAULT_LIMIT if limit is None else limit
    if not _LIMITS[0] <= limit <= _LIMITS[1]:
        raise failures.validation("limit", "Please enter a number of at most 1000")
    since, until = _bounds(call)
    test = parse(call.text("query") or "*", call.account.indexed)
    tags, senders = set(call.texts("tags")), {each.lower() for each in call.texts("senders")}
    found = [
        mail.info()
        for mail in reversed(call.account.mails.values())
        if since <= mail.ts < until
        and mail.state not in (model.SCHEDULED, model.CANCELED, model.INVALID)
        and _shown(call, mail)
        and (not tags or not tags.isdisjoint(mail.tags))
        and (not senders or mail.from_email.lower() in senders)
        and test(mail)
    ]
    return found[:limit]


def _count(call: MailCall) -> None:
    """20 searches a minute; those refused count too."""
    searches, now = call.account.searches, call.account.office.world.clock.now()
    searches.append(now)
    while searches[0] <= now - _MINUTE:
        searches.popleft()
    if len(searches) > call.rules.searches_per_minute:
        raise failures.too_many_requests()


def _bounds(call: MailCall) -> tuple[int, int]:
    """From when to when; a bare date as the end takes in its whole day."""
    given = {name: call.text(name) for name in ("date_from", "date_to")}
    parsed = {name: model.parse_stamp(text) if text else None for name, text in given.items()}
    for name, text in given.items():
        if text and parsed[name] is None:
            raise failures.validation(name, "Please enter a valid date/time")
    until, since = parsed["date_to"], parsed["date_from"]
    if until is None:
        until = call.now + 1
    elif len(given["date_to"].strip()) == len("2013-01-01"):
        until += _DAY
    return (call.now - _WEEK if since is None else since), until


# Scheduled mails


def _waiting(mail: Mail) -> Json:
    return {
        "_id": mail.id,
        "created_at": model.stamp(mail.ts),
        "send_at": model.stamp(mail.due),
        "from_email": mail.from_email,
        "to": mail.email,
        "subject": mail.subject,
    }


def list_scheduled(call: MailCall) -> list[Json]:
    to = call.text("to").lower()
    return [
        _waiting(mail)
        for mail in call.account.waiting
        if mail.state == model.SCHEDULED and to in ("", mail.email.lower())
    ]


def cancel_scheduled(call: MailCall) -> Json:
    mail = _scheduled(call)
    mail.state = model.CANCELED
    call.account.waiting.remove(mail)
    return _waiting(mail)


def reschedule(call: MailCall) -> Json:
    """A past time sends it at once."""
    mail = _scheduled(call)
    due = model.parse_stamp(call.required("send_at", str))
    if due is None:
        raise failures.validation("send_at", "Please enter a valid date/time")
    mail.due = due
    shown: dict[str, Any] = _waiting(mail)
    call.account.settle()
    call.account.office.wake_at(due)
    return shown


def _scheduled(call: MailCall) -> Mail:
    ident = call.required("id", str)
    mail = call.account.mails.get(ident)
    if mail is None or mail.state != model.SCHEDULED:
        raise failures.unknown_message(ident)
    return mail
