"""The sandbox as an ASGI application: authentication, connection slots, latency, faults, then the handlers."""

from __future__ import annotations

import asyncio
import base64
import binascii
import uuid
from email.utils import formatdate
from typing import Any

import orjson

from . import problems
from .api.batches import RESULTS, results_of
from .api.perform import look_ahead, perform
from .asgi import Gone, Receive, Scope, Send, drop_connection, read_body, write_answer
from .config import SandboxConfig
from .control import router as control
from .control.state import Sandbox
from .exchange import Answer, Request, parse_query, refusal
from .faults import RESET, answer_at_once, gateway_timeout
from .history import Call
from .mandrill import app as mandrill
from .world import Account, split_key

_API = "/3.0"
_CONTROL = "/_sandbox"
_DESCRIBED_BY = (
    '<https://us1.api.mailchimp.com/schema/3.0/Definitions/Response.json>; rel="describedBy"'
)
_OVERRIDABLE = {"PUT", "PATCH", "DELETE"}


class Application:
    """The ASGI callable."""

    def __init__(self, config: SandboxConfig) -> None:
        self.sandbox = Sandbox(config)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await _lifespan(receive, send)
            return
        if scope["type"] != "http":
            return
        path = scope.get("raw_path", scope["path"].encode()).decode("latin-1").partition("?")[0]
        if path == _API or path.startswith(f"{_API}/"):
            await Exchange(self.sandbox, scope, receive, send).run(path[len(_API) :] or "/")
        elif path.startswith(f"{_CONTROL}/"):
            try:
                body = await read_body(receive)
            except Gone:
                return
            answer = control.handle(
                self.sandbox, scope["method"], path[len(_CONTROL) :], scope, body
            )
            await write_answer(send, answer, [])
        elif mandrill.PATH.match(path):
            await mandrill.serve(self.sandbox, path, scope, receive, send)
        elif path.startswith(f"{RESULTS}/"):
            await write_answer(send, results_of(self.sandbox.world, path), [])
        else:
            await write_answer(send, refusal(problems.not_found(), ""), [])


async def _lifespan(receive: Receive, send: Send) -> None:
    while True:
        message = await receive()
        await send({"type": f"{message['type']}.complete"})
        if message["type"] == "lifespan.shutdown":
            return


class Exchange:
    """One API call from its arrival to its answer."""

    def __init__(self, sandbox: Sandbox, scope: Scope, receive: Receive, send: Send) -> None:
        self.sandbox = sandbox
        self.world = sandbox.world
        self.scope = scope
        self.receive = receive
        self.send = send
        self.headers: dict[str, str] = {
            name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]
        }
        self.method: str = scope["method"]
        self.request_id = str(uuid.uuid4())

    async def run(self, path: str) -> None:
        """Answer the call and log it. A slot is held until the work is done, whether or not the client waits."""
        key = _key_of(self.headers.get("authorization", ""))
        account = self.world.authenticate(key) if key else None
        call = self._arrive(path, key, account)
        try:
            answer = await self._answer(path, key, account, call)
        except problems.Problem as problem:
            answer = refusal(problem, self.request_id)
        except Gone:
            answer = None
        finally:
            if account is not None:
                account.in_flight -= 1
        self._leave(call, 0 if answer is None else answer.status)
        if answer is None:
            await drop_connection(self.send, self.receive)
        else:
            headers = [
                ("server", "openresty"),
                ("date", formatdate(self.world.clock.now(), usegmt=True)),
                ("x-request-id", self.request_id),
                ("link", _DESCRIBED_BY),
            ]
            headers.append(("vary", "Accept-Encoding"))
            await write_answer(self.send, answer, headers)

    # The log

    def _arrive(self, path: str, key: str, account: Account | None) -> Call:
        if account is not None:
            account.in_flight += 1
        metrics = self.world.metrics
        in_flight = account.in_flight if account is not None else 0
        metrics.calls += 1
        metrics.max_in_flight = max(metrics.max_in_flight, in_flight)
        history = self.world.history
        call = Call(
            seq=history.next_seq(),
            at_start=self.world.clock.now(),
            method=self.method,
            path=path,
            account_id=account.id if account else "",
            key_last4=split_key(key)[0][-4:],
            in_flight=in_flight,
            write=self.method != "GET",
            request_id=self.request_id,
        )
        metrics.write_calls += call.write
        history.calls.append(call)
        return call

    def _leave(self, call: Call, status: int) -> None:
        call.at_end = self.world.clock.now()
        call.status = status
        if call.bulk:
            self.world.metrics.last_batch_end = call.at_end

    def _note_members(self, call: Call, path: str, body: Any) -> None:
        """Count the members a write carries; it decides how long the call takes."""
        if not call.write:
            return
        call.members = 1
        if not isinstance(body, dict):
            return
        if isinstance(members := body.get("members"), list) and path.count("/") == 2:
            call.members = len(members)
            call.bulk = True
            metrics = self.world.metrics
            metrics.batch_calls += 1
            metrics.batch_members += len(members)
            if metrics.first_batch_at is None:
                metrics.first_batch_at = call.at_start
        elif "members_to_add" in body or "members_to_remove" in body:
            lists = (body.get("members_to_add"), body.get("members_to_remove"))
            call.members = sum(len(each) for each in lists if isinstance(each, list))

    # The answer

    async def _answer(
        self, path: str, key: str, account: Account | None, call: Call
    ) -> Answer | None:
        """The answer; None means that the connection is to be dropped."""
        if account is None:
            raise problems.key_invalid() if key else problems.key_missing()
        config = self.world.config
        if account.in_flight > config.connections:
            self.world.metrics.refused += 1
            if config.too_many_empty:
                return Answer(429, None)
            raise problems.too_many_requests(config.connections)
        self._override_method(call)
        plan = self.sandbox.faults
        call.fault = plan.choose(self.method, path)
        if call.fault == RESET:
            return None
        if at_once := answer_at_once(call.fault, self.request_id):
            return at_once
        request = await self._request(path, account)
        self._note_members(call, path, request.body)
        await look_ahead(request)
        answer = await self._apply_in_time(request, call, plan.slowness(call.fault))
        if call.fault == "504_after":
            return gateway_timeout()
        return None if call.fault == "reset_after" else answer

    def _override_method(self, call: Call) -> None:
        """X-HTTP-Method-Override on POST, X-Trigger-Error on anything (MC 1)."""
        if override := self.headers.get("x-http-method-override", "").upper():
            if self.method != "POST" or override not in _OVERRIDABLE:
                raise problems.method_override()
            self.method = call.method = override
        if name := self.headers.get("x-trigger-error"):
            raise problems.by_name(name) or problems.bad_request(f"There is no error named {name}.")

    async def _request(self, path: str, account: Account) -> Request:
        raw = await read_body(self.receive)
        body: Any = None
        if raw and self.method != "GET":
            try:
                body = orjson.loads(raw)
            except orjson.JSONDecodeError as error:
                raise problems.Problem(
                    400, "JSON Parse Error", f"We could not parse the JSON body: {error}"
                ) from None
        return Request(
            world=self.world,
            account=account,
            method=self.method,
            path=path,
            query=parse_query(self.scope["query_string"]),
            body=body,
            request_id=self.request_id,
            host=self.headers.get("host", ""),
            caller=client[0] if (client := self.scope.get("client")) else "",
        )

    async def _apply_in_time(self, request: Request, call: Call, slow: float) -> Answer:
        """Do the work at its point within the latency, and answer when the latency is over."""
        latency = self.world.config.latency
        per_member = latency.per_member_ms * call.members
        if not call.write and latency.per_read_member_ms:
            per_member = latency.per_read_member_ms * request.paging()[1]
        total = (latency.base_ms + per_member) / 1000 + slow
        if not total:
            return perform(request)
        loop = asyncio.get_running_loop()
        start = loop.time()
        await asyncio.sleep(total * latency.apply_at)
        answer = perform(request)
        await asyncio.sleep(max(0.0, start + total - loop.time()))
        return answer


def _key_of(authorization: str) -> str:
    """The key of Basic (any user name) or Bearer credentials (MC 1); empty if there is none."""
    scheme, _, value = authorization.partition(" ")
    if scheme.lower() == "bearer":
        return value.strip()
    if scheme.lower() != "basic":
        return ""
    try:
        decoded = base64.b64decode(value.strip(), validate=True).decode()
    except (binascii.Error, UnicodeDecodeError):
        return ""
    return decoded.partition(":")[2]


def create_app(config: SandboxConfig | None = None) -> Application:
    """The sandbox with its own fresh state."""
    return Application(config or SandboxConfig())
