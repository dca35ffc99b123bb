"""``Idempotency-Key``: the same mutation sent twice happens once, and is answered the same.

One record per organisation and key. A success is stored in the transaction of its effect and replayed;
a failure is not stored, so that repeating it tries again. The fingerprint of a request is its caller,
path, query and body; of a streamed body (anything but JSON) its declared length and type, since it
cannot be read twice. A claim on a key is a short lease, renewed while the request works: a crash frees
it, and who lost its lease can commit nothing more.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Final
from uuid import UUID, uuid4

import orjson
import structlog
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession
from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from mcsync.core.db import Database
from mcsync.core.db.hold import CommitHold, current_hold
from mcsync.core.errors import BadRequestError, ConflictError, McsyncError, TooLargeError
from mcsync.core.resources import Resources
from mcsync.core.web.errors import as_mcsync_error, problem_response, request_id_of

HEADER: Final = "Idempotency-Key"
REPLAYED: Final = "Idempotency-Replayed"
_LONGEST_KEY: Final = 255
_LEASE: Final = timedelta(seconds=30)
_RENEW_SECONDS: Final = 10.0
_KEPT_HEADERS: Final = ("content-type", "location")
_JSON: Final = ("application/json", "")

_CLAIM: Final = text("""
    insert into idempotency_keys as k (org_id, key, fingerprint, claim, locked_until)
    values (:org, :key, :fingerprint, :claim, clock_timestamp() + :lease)
    on conflict (org_id, key) do update
       set fingerprint = excluded.fingerprint, claim = excluded.claim,
           locked_until = excluded.locked_until, created_at = clock_timestamp(),
           status = null, headers = null, body = null
     where k.locked_until < clock_timestamp()
       and (k.created_at < clock_timestamp() - cast(:kept as interval)
            or k.status is null and k.fingerprint = excluded.fingerprint)
    returning 1""")
_READ: Final = text(
    "select fingerprint, status, headers, body from idempotency_keys where org_id = :org and key = :key"
)
_RENEW: Final = text("""
    update idempotency_keys set locked_until = clock_timestamp() + :lease
     where org_id = :org and key = :key and claim = :claim and status is null returning 1""")
_STORE: Final = text("""
    update idempotency_keys set status = :status, headers = cast(:headers as jsonb), body = :body,
           locked_until = clock_timestamp()
     where org_id = :org and key = :key and claim = :claim and status is null returning 1""")
_RELEASE: Final = text("""
    delete from idempotency_keys
     where org_id = :org and key = :key and claim = :claim and status is null""")
_PURGE: Final = text("""
    delete from idempotency_keys
     where org_id = :org and created_at < clock_timestamp() - cast(:kept as interval)
       and locked_until < clock_timestamp()""")

_log = structlog.get_logger(__name__)

Identify = Callable[[Scope], Awaitable["tuple[UUID, str] | None"]]
"""Tells the organisation and the caller of a request; None where its token will be refused."""


async def purge_idempotency_keys(db: Database, org_id: UUID, *, hours: int) -> None:
    """Forgets an organisation's answers that are older than ``hours``."""
    async with db.transaction(org_id) as session:
        await session.execute(_PURGE, {"org": org_id, "kept": timedelta(hours=hours)})


@dataclass(slots=True)
class _Answer:
    status: int = 0
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b""


@dataclass(frozen=True, slots=True)
class _Claim:
    """The right of this request to act under a key."""

    db: Database
    org_id: UUID
    key: str
    fingerprint: str
    id: UUID

    @property
    def names(self) -> dict[str, object]:
        return {"org": self.org_id, "key": self.key, "claim": self.id}

    async def take(self, kept: timedelta) -> _Answer | None:
        """Takes the key, or gives the stored answer. Raises ``ConflictError``."""
        async with self.db.transaction(self.org_id) as session:
            taken = await session.execute(
                _CLAIM,
                {**self.names, "fingerprint": self.fingerprint, "lease": _LEASE, "kept": kept},
            )
            if taken.first() is not None:
                return None
            stored = (await session.execute(_READ, {"org": self.org_id, "key": self.key})).first()
        if stored is not None and stored.fingerprint != self.fingerprint:
            message = "This key was used for another request. Make a new one for this request."
            raise ConflictError(message, code="idempotency_key_reused")
        if stored is None or stored.status is None:
            raise _in_use()
        if stored.body is None:
            message = (
                "This request was carried out. Its answer is not kept any more, since somebody named"
                " in it was erased."
            )
            raise ConflictError(message, code="answer_erased")
        return _Answer(stored.status, dict(stored.headers or {}), str(stored.body).encode())

    async def renew(self, session: AsyncSession) -> None:
        """Proves in a transaction that the claim still stands. Raises ``ConflictError``."""
        done = await session.execute(_RENEW, {**self.names, "lease": _LEASE})
        if done.first() is None:
            raise _in_use()

    async def store(self, session: AsyncSession, answer: _Answer) -> None:
        """Keeps the answer. Raises ``ConflictError`` where the claim was lost."""
        headers = {name: answer.headers[name] for name in _KEPT_HEADERS if name in answer.headers}
        done = await session.execute(
            _STORE,
            {
                **self.names,
                "status": answer.status,
                "headers": orjson.dumps(headers).decode(),
                "body": answer.body.decode(),
            },
        )
        if done.first() is None:
            raise _in_use()

    async def release(self) -> None:
        """Frees the key after a failure; left to the lease where even that fails."""
        try:
            async with self.db.transaction(self.org_id) as session:
                await session.execute(_RELEASE, self.names)
        except Exception as error:  # noqa: BLE001 - the lease frees it by itself
            _log.warning("idempotency_key_not_released", error=type(error).__name__)

    @contextlib.asynccontextmanager
    async def kept_alive(self) -> AsyncIterator[None]:
        """Renews the lease while the block runs."""
        task = asyncio.create_task(self._renew_for_ever())
        try:
            yield
        finally:
            task.cancel()

    async def _renew_for_ever(self) -> None:
        while True:
            await asyncio.sleep(_RENEW_SECONDS)
            try:
                async with self.db.transaction(self.org_id) as session:
                    await self.renew(session)
            except ConflictError:
                return
            except Exception as error:  # noqa: BLE001 - tried again; the fence decides at commit
                _log.warning("idempotency_lease_not_renewed", error=type(error).__name__)


class IdempotencyMiddleware:
    """Pure ASGI; costs nothing where the header is not sent."""

    def __init__(self, app: ASGIApp, identify: Identify) -> None:
        self.app = app
        self._identify = identify

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handles one request."""
        key = _key(scope) if scope["type"] == "http" and scope["method"] == "POST" else None
        if key is None:
            await self.app(scope, receive, send)
            return
        try:
            caller = await self._identify(scope)
            if caller is None:
                await self.app(scope, receive, send)
                return
            answer = await self._answer(scope, receive, key, caller)
        except McsyncError as error:
            response = problem_response(error, request_id=request_id_of(scope))
            await response(scope, receive, send)
            return
        await _send(answer, send)

    async def _answer(
        self, scope: Scope, receive: Receive, key: bytes, caller: tuple[UUID, str]
    ) -> _Answer:
        resources: Resources = scope["app"].state.resources
        settings = resources.settings
        org_id, actor = caller
        limit = scope["app"].state.body_limits.get(scope["path"], settings.max_body_bytes)
        fingerprint, receive = await _fingerprint(scope, receive, actor, limit)
        claim = _Claim(resources.db, org_id, _checked(key), fingerprint, uuid4())
        replay = await claim.take(timedelta(hours=settings.idempotency_hours))
        if replay is not None:
            replay.headers[REPLAYED] = "true"
            return replay
        async with claim.kept_alive():
            return await self._run(scope, receive, claim)

    async def _run(self, scope: Scope, receive: Receive, claim: _Claim) -> _Answer:
        """Runs the request; its last commit carries the answer."""
        answer = _Answer()
        hold = CommitHold(claim.org_id, claim.renew)
        token = current_hold.set(hold)
        is_stored = False
        try:
            try:
                await self.app(scope, receive, _recorder(answer))
            finally:
                current_hold.reset(token)
            if answer.status >= 400:
                # What the service committed before it failed stays committed.
                await hold.settle()
                return answer
            if not await hold.finish(lambda session: claim.store(session, answer)):
                async with claim.db.transaction(claim.org_id) as session:
                    await claim.store(session, answer)
            is_stored = True
            return answer
        except Exception as error:
            with contextlib.suppress(Exception):
                await hold.settle()
            if as_mcsync_error(error).status < 500:
                raise as_mcsync_error(error) from error
            raise
        finally:
            await hold.abandon()
            if not is_stored:
                await asyncio.shield(claim.release())


def _recorder(answer: _Answer) -> Send:
    async def record(message: Message) -> None:
        if message["type"] == "http.response.start":
            answer.status = message["status"]
            answer.headers = dict(Headers(raw=message.get("headers", [])))
        elif message["type"] == "http.response.body":
            answer.body += message.get("body", b"")

    return record


async def _send(answer: _Answer, send: Send) -> None:
    message: Message = {"type": "http.response.start", "status": answer.status, "headers": []}
    headers = MutableHeaders(scope=message)
    for name, value in answer.headers.items():
        headers[name] = value
    headers["content-length"] = str(len(answer.body))
    await send(message)
    await send({"type": "http.response.body", "body": answer.body})


async def _fingerprint(
    scope: Scope, receive: Receive, actor: str, limit: int
) -> tuple[str, Receive]:
    """The fingerprint of a request, and a ``receive`` that gives its body once more."""
    headers = Headers(scope=scope)
    kind = headers.get("content-type", "")
    parts = [actor.encode(), scope["path"].encode(), scope["query_string"]]
    if kind.partition(";")[0].strip().lower() in _JSON:
        body, receive = await _read(receive, limit)
        parts.append(hashlib.sha256(body).digest())
    else:
        parts += [kind.encode(), headers.get("content-length", "").encode()]
    digest = hashlib.sha256()
    for part in parts:
        digest.update(len(part).to_bytes(4, "big") + part)
    return digest.hexdigest(), receive


async def _read(receive: Receive, limit: int) -> tuple[bytes, Receive]:
    pieces, size, more = [], 0, True
    while more:
        message = await receive()
        if message["type"] == "http.disconnect":
            break
        pieces.append(message.get("body", b""))
        size += len(pieces[-1])
        if size > limit:
            raise TooLargeError("The body is larger than this procedure takes.")
        more = message.get("more_body", False)
    body = b"".join(pieces)
    is_given = False

    async def again() -> Message:
        nonlocal is_given
        if is_given:
            return await receive()
        is_given = True
        return {"type": "http.request", "body": body, "more_body": False}

    return body, again


def _key(scope: Scope) -> bytes | None:
    name = HEADER.lower().encode()
    values = [value for header, value in scope["headers"] if header == name]
    # two of them say the same as one with a comma (RFC 9110, 5.3), which is no key
    return b", ".join(values) if values else None


def _checked(key: bytes) -> str:
    if not 1 <= len(key) <= _LONGEST_KEY or any(not 0x21 <= byte <= 0x7E for byte in key):
        message = "Send one key of 1 to 255 printable ASCII characters, for example a UUID."
        raise BadRequestError(message, code="invalid_idempotency_key")
    return key.decode()


def _in_use() -> ConflictError:
    message = "A request with this key is still under way. Repeat it shortly with the same key."
    return ConflictError(message, code="idempotency_key_in_use", retry_after=1)
