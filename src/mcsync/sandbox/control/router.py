"""Routing and errors of the control API: plain JSON, `{"error": ...}` with 400, 404 or 409."""

from __future__ import annotations

import re
import urllib.parse
from collections.abc import Callable
from typing import Any

import orjson

from ..asgi import Scope
from ..exchange import Answer
from ..mandrill import control as mandrill
from ..mandrill.failures import Failure
from ..merge import MergeInvalid, SchemaMismatch
from ..people import NotPossible
from . import acts, campaigns, logs, setup, webhooks
from .call import ControlCall, Unknown
from .state import Sandbox

Handler = Callable[[ControlCall], Answer]

_TABLE: dict[tuple[str, str], Handler] = {
    ("GET", "/state"): setup.state,
    ("POST", "/reset"): setup.reset,
    ("POST", "/accounts"): setup.open_account,
    ("POST", "/revoke"): setup.revoke,
    ("POST", "/rekey"): setup.rekey,
    ("GET", "/config"): setup.show_config,
    ("PATCH", "/config"): setup.configure,
    ("POST", "/faults"): setup.add_fault,
    ("DELETE", "/faults"): setup.clear_faults,
    ("POST", "/clock"): setup.advance_clock,
    ("POST", "/lists/{}/delete"): setup.delete_list,
    ("PATCH", "/lists/{}"): setup.change_list,
    ("POST", "/lists/{}/person"): acts.person,
    ("POST", "/lists/{}/admin"): acts.admin,
    ("POST", "/lists/{}/seed"): acts.seed,
    ("GET", "/lists/{}/members"): logs.members,
    ("GET", "/lists/{}/dump"): logs.dump,
    ("GET", "/history"): logs.history,
    ("GET", "/calls"): logs.calls,
    ("GET", "/metrics"): logs.metrics,
    ("GET", "/metrics/seq"): logs.newest,
    ("POST", "/metrics/reset"): logs.reset_metrics,
    ("GET", "/campaigns"): campaigns.index,
    ("POST", "/campaigns"): campaigns.create,
    ("POST", "/campaigns/{}/act"): campaigns.act,
    ("POST", "/mandrill/accounts"): mandrill.open_account,
    ("POST", "/mandrill/revoke"): mandrill.revoke,
    ("GET", "/mandrill/messages"): mandrill.messages,
    ("POST", "/mandrill/messages/{}/act"): mandrill.act,
    ("GET", "/mandrill/sent"): mandrill.sent,
    ("POST", "/mandrill/templates"): mandrill.make_template,
    ("GET", "/mandrill/webhooks"): mandrill.webhooks,
    ("GET", "/webhooks"): webhooks.index,
    ("GET", "/webhooks/deliveries"): webhooks.deliveries,
    ("POST", "/webhooks/deliveries/{}/repeat"): webhooks.repeat,
    ("POST", "/webhooks/hold"): webhooks.hold,
    ("POST", "/webhooks/release"): webhooks.release,
}
_ROUTES = [
    (method, re.compile(path.replace("{}", "([^/]+)") + r"/?\Z"), handler)
    for (method, path), handler in _TABLE.items()
]


def handle(sandbox: Sandbox, method: str, path: str, scope: Scope, raw: bytes) -> Answer:
    """Answer one control call."""
    for verb, pattern, handler in _ROUTES:
        if verb == method and (found := pattern.match(path)):
            return _run(handler, sandbox, found.groups(), scope, raw)
    return _error(404, f"no such control call: {method} {path}")


def _run(
    handler: Handler, sandbox: Sandbox, args: tuple[str, ...], scope: Scope, raw: bytes
) -> Answer:
    try:
        body: Any = orjson.loads(raw) if raw else {}
        if not isinstance(body, dict):
            return _error(400, "the body must be a JSON object")
        query = urllib.parse.parse_qs(
            scope["query_string"].decode("latin-1"), keep_blank_values=True
        )
        return handler(ControlCall(sandbox, args, query, body))
    except Unknown as unknown:
        return _error(404, str(unknown))
    except NotPossible as impossible:
        return _error(409, str(impossible))
    except KeyError as missing:
        return _error(400, f"missing or unknown: {missing}")
    except (MergeInvalid, SchemaMismatch) as invalid:
        return _error(400, f"{invalid}: {getattr(invalid, 'errors', '')}")
    except (ValueError, TypeError, Failure) as wrong:
        return _error(400, str(wrong))


def _error(status: int, text: str) -> Answer:
    return Answer(status, orjson.dumps({"error": text}))
