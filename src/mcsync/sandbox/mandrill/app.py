"""The Transactional API over HTTP: key, faults and log around the handlers (MC 17.1, 17.5)."""

from __future__ import annotations

import asyncio
import re
import uuid
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any

import orjson

from ..asgi import Gone, Receive, Scope, Send, drop_connection, read_body, write_answer
from ..exchange import Answer
from ..faults import RESET, answer_at_once, gateway_timeout
from ..history import Call
from . import failures, finding, hooks, lists, sending
from .call import MailCall
from .failures import Failure

if TYPE_CHECKING:
    from ..control.state import Sandbox
    from .post_office import MailAccount

PATH = re.compile(r"/api/1\.\d+/(?P<method>[\w/-]+?)(?:\.json)?/?\Z")

Handler = Callable[[MailCall], Any]

# Whether it changes anything, for the log.
_READS: dict[str, Handler] = {
    "users/ping": lists.ping,
    "users/ping2": lists.ping2,
    "users/info": lists.info,
    "messages/info": finding.info,
    "messages/search": finding.search,
    "messages/content": finding.content,
    "messages/list-scheduled": finding.list_scheduled,
    "rejects/list": lists.list_rejects,
    "metadata/list": lists.list_fields,
    "templates/list": lists.list_templates,
    "templates/info": lists.show_template,
    "templates/render": lists.render_template,
    "webhooks/list": hooks.index,
    "webhooks/info": hooks.show,
}
_WRITES: dict[str, Handler | Callable[[MailCall], Awaitable[Any]]] = {
    "messages/send": sending.send,
    "messages/send-template": sending.send_template,
    "messages/cancel-scheduled": finding.cancel_scheduled,
    "messages/reschedule": finding.reschedule,
    "rejects/add": lists.add_reject,
    "rejects/delete": lists.delete_reject,
    "metadata/add": lists.add_field,
    "templates/add": lists.add_template,
    "templates/update": lists.update_template,
    "templates/publish": lists.publish_template,
    "templates/delete": lists.delete_template,
    "webhooks/add": hooks.add,
    "webhooks/update": hooks.update,
    "webhooks/delete": hooks.delete,
}
_TOO_LARGE = b"<html><head><title>413 Request Entity Too Large</title></head><body></body></html>"


async def serve(sandbox: Sandbox, path: str, scope: Scope, receive: Receive, send: Send) -> None:
    """Answer one call and log it."""
    call = Call(
        seq=sandbox.world.history.next_seq(),
        at_start=sandbox.world.clock.now(),
        method=scope["method"],
        path=path,
        account_id="",
        key_last4="",
        in_flight=0,
        request_id=str(uuid.uuid4()),
    )
    world = sandbox.world
    world.history.calls.append(call)
    try:
        answer = await _answer(sandbox, path, call, await read_body(receive))
    except Gone:
        answer = None
    except Failure as failure:
        answer = failure.answer()
    call.at_end = world.clock.now()
    call.status = 0 if answer is None else answer.status
    if answer is None:
        await drop_connection(send, receive)
    else:
        await write_answer(send, answer, [("server", "nginx")])


async def _answer(sandbox: Sandbox, path: str, call: Call, raw: bytes) -> Answer | None:
    """The answer; None means that the connection is to be dropped."""
    world = sandbox.world
    call.fault = sandbox.faults.choose(call.method, path)
    if call.fault == RESET:
        return None
    if at_once := _at_once(call):
        return at_once
    if call.method != "POST":
        raise failures.not_a_post()
    if len(raw) > world.config.mandrill.max_call_bytes:
        return Answer(413, _TOO_LARGE, "text/html; charset=utf-8")
    body = _body(raw)
    account = world.mandrill.keys.get(str(body.get("key", "")))
    call.key_last4 = str(body.get("key", ""))[-4:]
    if account is None:
        raise failures.invalid_key()
    call.account_id = account.id
    seconds = world.config.latency.base_ms / 1000 + sandbox.faults.slowness(call.fault)
    if seconds:
        await asyncio.sleep(seconds)
    found = await _perform(account, path, call, body)
    if call.fault == "504_after":
        return gateway_timeout()
    return None if call.fault == "reset_after" else Answer(200, orjson.dumps(found))


async def _perform(account: MailAccount, path: str, call: Call, body: dict[str, Any]) -> Any:
    matched = PATH.match(path)
    method = matched["method"] if matched else path
    handler = _READS.get(method) or _WRITES.get(method)
    if handler is None:
        raise failures.unknown_method(method)
    call.write = method in _WRITES
    message = body.get("message")
    if isinstance(message, dict) and isinstance(message.get("to"), list):
        call.members = len(message["to"])
    account.settle()
    try:
        found = handler(MailCall(account, body))
    except (AttributeError, KeyError, TypeError) as error:
        # A struct where a text belongs, somewhere deep within: its place is not worth a check of its own.
        raise failures.validation("message", f"malformed: {type(error).__name__}") from error
    return await found if isinstance(found, Awaitable) else found


def _body(raw: bytes) -> dict[str, Any]:
    try:
        body = orjson.loads(raw)
    except orjson.JSONDecodeError:
        raise failures.malformed("We could not decode the JSON of your request.") from None
    if not isinstance(body, dict):
        raise failures.malformed("The request must be a JSON object.")
    return body


def _at_once(call: Call) -> Answer | None:
    """A fault that applies nothing, in this API's words."""
    if call.fault == "429_json":
        return failures.too_many_requests().answer()
    if len(call.fault) == 3 and call.fault.isdigit():
        return failures.by_status(int(call.fault)).answer()
    return answer_at_once(call.fault, call.request_id)
