"""/webhooks (MC 17.4)."""

from __future__ import annotations

from urllib.parse import urlsplit

from . import failures
from .call import MailCall
from .model import EVENTS, Hook, Json


def index(call: MailCall) -> list[Json]:
    return [each.view() for each in call.account.hooks.values()]


def show(call: MailCall) -> Json:
    return _found(call).view()


async def add(call: MailCall) -> Json:
    """Made if the URL answers HEAD, or a first empty POST, with 200."""
    url, events = await _checked(call)
    office = call.account.office
    ident = office.next_id()
    key = office.fresh_id("webhook", call.account.key)[:22]
    made = Hook(ident, url, key, call.text("description"), events, call.now)
    call.account.hooks[ident] = made
    return made.view()


async def update(call: MailCall) -> Json:
    found = _found(call)
    found.url, found.events = await _checked(call)
    found.description = call.text("description") or found.description
    found.disabled, found.failures = False, 0
    if found.waiting:
        call.account.office.deliveries.start(found)
    return found.view()


def delete(call: MailCall) -> Json:
    found = _found(call)
    del call.account.hooks[found.id]
    if found.task is not None:
        found.task.cancel()
    return found.view()


def _found(call: MailCall) -> Hook:
    ident = call.required("id", int)
    found = call.account.hooks.get(ident)
    if found is None:
        raise failures.unknown_webhook(ident)
    return found


async def _checked(call: MailCall) -> tuple[str, list[str]]:
    url, events = call.required("url", str), call.texts("events")
    if urlsplit(url).scheme not in ("http", "https"):
        raise failures.validation("url", "Please enter a valid URL")
    if unknown := set(events) - set(EVENTS):
        raise failures.validation("events", f"Unknown events: {', '.join(sorted(unknown))}")
    if not await call.account.office.deliveries.verify(url):
        raise failures.validation("url", "The URL did not answer with 200 OK")
    return url, events
