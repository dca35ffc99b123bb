"""Webhooks: /lists/{id}/webhooks (MC 9)."""

from __future__ import annotations

import asyncio
import secrets
import urllib.parse
from typing import Any

from .. import problems
from ..exchange import Answer, Request, no_content, ok
from ..render import links
from ..webhooks import EVENTS, SOURCES, Webhook, new_id

_OK = 200


async def probe(request: Request) -> None:
    """Ask the URL that the call names (or the webhook has) before the call is made: a non-200 refuses it."""
    try:
        hook = _found(request) if request.method == "PATCH" else None
        url = _url(request, hook)
    except problems.Problem:
        return  # the handler will say so
    request.probed = await request.world.courier.probe(url)


def index(request: Request) -> Answer:
    audience = request.audience()
    hooks = list(audience.webhooks.values())
    body = {
        "webhooks": [_rendered(request, each) for each in hooks],
        "list_id": audience.id,
        "total_items": len(hooks),
        "_links": links(("self", request.path, "GET")),
    }
    return ok(body, request)


def show(request: Request) -> Answer:
    return ok(_rendered(request, _found(request)), request)


def create(request: Request) -> Answer:
    """Omitted flags count as on ([U]: the defaults are not documented)."""
    audience = request.audience()
    url = _checked(request, None)
    given = request.json_object()
    rules = request.config.webhooks
    hook = Webhook(
        new_id(),
        audience.id,
        url,
        _flags(given, "events", dict.fromkeys(EVENTS, True)),
        _flags(given, "sources", dict.fromkeys(SOURCES, True)),
        asyncio.Semaphore(rules.connections),
    )
    told = _sign(request, hook)
    audience.webhooks[hook.id] = hook
    return ok(_rendered(request, hook) | told, request)


def update(request: Request) -> Answer:
    """What is named changes; one that was disabled gets posts again."""
    hook = _found(request)
    hook.url = _checked(request, hook)
    given = request.json_object()
    flags, sources = _flags(given, "events", hook.flags), _flags(given, "sources", hook.sources)
    told = _sign(request, hook)
    hook.flags, hook.sources = flags, sources
    hook.disabled, hook.losses = "", 0
    return ok(_rendered(request, hook) | told, request)


def remove(request: Request) -> Answer:
    hook = _found(request)
    hook.removed = True
    del request.audience().webhooks[hook.id]
    return no_content()


def _found(request: Request) -> Webhook:
    hook = request.audience().webhooks.get(request.args[1])
    if hook is None:
        raise problems.not_found()
    return hook


def _url(request: Request, hook: Webhook | None) -> str:
    """The URL named by the call, or the one the webhook has."""
    url = request.json_object().get("url", None if hook is None else hook.url)
    try:
        parts = urllib.parse.urlsplit(url if isinstance(url, str) else "")
    except ValueError:
        parts = urllib.parse.urlsplit("")
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise problems.invalid_resource(None, ("url", "This value is not a valid URL."))
    return str(url)


def _checked(request: Request, hook: Webhook | None) -> str:
    url = _url(request, hook)
    for other in request.audience().webhooks.values():
        if other is not hook and other.url.partition("?")[0] == url.partition("?")[0]:
            raise problems.invalid_resource("Sorry, you can't set up multiple WebHooks for one URL")
    if request.probed != _OK:
        raise problems.invalid_resource(
            "We couldn't verify the URL is working. Please double check and try again. "
            f"HTTP Code: {request.probed}"
        )
    return url


def _flags(given: dict[str, Any], group: str, current: dict[str, bool]) -> dict[str, bool]:
    named = given.get(group, {})
    if not isinstance(named, dict) or not all(isinstance(each, bool) for each in named.values()):
        raise problems.invalid_resource(None, (group, "Schema describes object of boolean"))
    return {name: named.get(name, on) for name, on in current.items()}


def _sign(request: Request, hook: Webhook) -> dict[str, Any]:
    """Switch signing; the secret is told in the one answer that makes it."""
    if not request.config.webhooks.signing:
        return {}
    wanted = request.json_object().get("signing_enabled", hook.signing)
    if not isinstance(wanted, bool):
        raise problems.invalid_resource(None, ("signing_enabled", "Schema describes boolean"))
    hook.signing = wanted
    told: dict[str, Any] = {"signing_enabled": wanted}
    if wanted and not hook.secret:
        hook.secret = secrets.token_hex(32)
        told["signing_secret"] = hook.secret
    return told


def _rendered(request: Request, hook: Webhook) -> dict[str, Any]:
    body: dict[str, Any] = {
        "id": hook.id,
        "url": hook.url,
        "events": hook.flags,
        "sources": hook.sources,
        "list_id": hook.list_id,
        "_links": links(("self", f"/lists/{hook.list_id}/webhooks/{hook.id}", "GET")),
    }
    if request.config.webhooks.signing:
        body["signing_enabled"] = hook.signing
    return body
