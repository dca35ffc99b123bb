"""Service tokens: issued once, kept as a keyed hash, verified with a short memory."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
from collections.abc import Collection
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from time import monotonic
from typing import Final
from uuid import UUID

from sqlalchemy import select, text, update
from sqlalchemy.ext.asyncio import AsyncSession
from uuid6 import uuid7

from mcsync.core.auth.actor import Actor
from mcsync.core.auth.scopes import PUBLISHABLE, PUBLISHABLE_SCOPES, Role, scopes_of
from mcsync.core.auth.token_format import make_token, read_token_id
from mcsync.core.crypto import HashKeys, keyed_digest
from mcsync.core.db import org_of
from mcsync.core.db.platform import Organisation, ServiceToken
from mcsync.core.errors import NotFoundError, UnauthenticatedError
from mcsync.core.resources import Resources

_HASH_KIND: Final = "token"
_USED_EVERY: Final = timedelta(minutes=1)
_MOST_CACHED: Final = 10_000


@dataclass(frozen=True, slots=True)
class IssuedToken:
    """A new token; ``token`` is shown this once and cannot be recovered."""

    id: UUID
    token: str
    last4: str
    role: str
    expires_at: datetime | None

    def __repr__(self) -> str:
        """Shows no secret."""
        return f"IssuedToken({self.id}, {self.role}, ...{self.last4})"


async def issue_token(
    session: AsyncSession,
    hash_keys: HashKeys,
    *,
    name: str,
    role: Role | None,
    expires_at: datetime | None = None,
    audiences: Collection[str] | None = None,
) -> IssuedToken:
    """Makes a token of the session's organisation. The caller records it in the audit.

    With ``audiences`` (Mailchimp's ids) and no role it is publishable: all that it may do is to ask people
    who filled in a form of these audiences to confirm.
    """
    assert (role is None) == (audiences is not None), "a role, or the audiences of a form"
    kind = PUBLISHABLE if role is None else role.value
    token_id = uuid7()
    token = make_token(token_id, publishable=role is None)
    key = await hash_keys.hash_key(session)
    session.add(
        ServiceToken(
            id=token_id,
            org_id=org_of(session),
            name=name,
            role=kind,
            audience_ids=None if audiences is None else sorted(audiences),
            token_hash=keyed_digest(key, _HASH_KIND, token),
            last4=token[-4:],
            expires_at=expires_at,
        )
    )
    await session.flush()
    return IssuedToken(token_id, token, token[-4:], kind, expires_at)


async def revoke_token(session: AsyncSession, token_id: UUID, *, at: datetime) -> None:
    """Ends a token at ``at`` (in the future for a rotation with overlap).

    Processes that verified it lately believe it for ``token_cache_seconds`` more. Raises
    ``NotFoundError`` where the organisation has no such token.
    """
    done = await session.execute(
        update(ServiceToken)
        .where(ServiceToken.id == token_id, ServiceToken.org_id == org_of(session))
        .values(revoked_at=at)
        .returning(ServiceToken.id)
    )
    if done.scalar_one_or_none() is None:
        message = "There is no such token."
        raise NotFoundError(message)


async def list_tokens(session: AsyncSession) -> list[ServiceToken]:
    """The organisation's tokens, newest first."""
    found = await session.scalars(
        select(ServiceToken)
        .where(ServiceToken.org_id == org_of(session))
        .order_by(ServiceToken.id.desc())
    )
    return list(found)


@dataclass(frozen=True, slots=True)
class _Known:
    actor: Actor
    until: float
    ends_at: datetime | None


class TokenVerifier:
    """Turns a bearer token into an actor. One per process: it remembers for a few seconds.

    Many requests with a token that is not remembered ask the database once.
    """

    def __init__(self, resources: Resources) -> None:
        self._resources = resources
        self._known: dict[bytes, _Known] = {}
        self._asked: dict[bytes, asyncio.Task[_Known]] = {}

    async def verify(self, token: str) -> Actor:
        """The token's actor. Raises ``UnauthenticatedError``, the same for every reason."""
        digest = hashlib.sha256(token.encode()).digest()
        known = self._known.get(digest)
        if known is None or known.until < monotonic():
            known = await self._ask_once(digest, token)
        if known.ends_at is not None and known.ends_at <= self._resources.clock():
            raise _refused()
        return known.actor

    def forget(self) -> None:
        """Drops the memory, e.g. after a revocation in this process."""
        self._known.clear()

    async def _ask_once(self, digest: bytes, token: str) -> _Known:
        task = self._asked.get(digest)
        if task is None:
            token_id = read_token_id(token)
            if token_id is None:
                raise _refused()
            task = asyncio.create_task(self._load(token_id, token))
            self._asked[digest] = task
            task.add_done_callback(lambda _: self._asked.pop(digest, None))
        # One caller that goes away must not take the answer from the others.
        known = await asyncio.shield(task)
        if len(self._known) >= _MOST_CACHED:
            self._known.clear()
        self._known[digest] = known
        return known

    async def _load(self, token_id: UUID, token: str) -> _Known:
        resources = self._resources
        async with resources.db.system() as session:
            org_id = await session.scalar(text("select mcsync_token_org(:id)"), {"id": token_id})
        if org_id is None:
            raise _refused()
        now = resources.clock()
        async with resources.db.transaction(org_id) as session:
            row = (
                await session.execute(
                    select(ServiceToken, Organisation.hash_key)
                    .join(Organisation, Organisation.id == ServiceToken.org_id)
                    .where(ServiceToken.id == token_id, ServiceToken.org_id == org_id)
                )
            ).one_or_none()
            if row is None:
                raise _refused()
            stored, envelope = row
            key = resources.hash_keys.remember(org_id, envelope)
            if not hmac.compare_digest(stored.token_hash, keyed_digest(key, _HASH_KIND, token)):
                raise _refused()
            ends = [end for end in (stored.expires_at, stored.revoked_at) if end is not None]
            ends_at = min(ends, default=None)
            if ends_at is not None and ends_at <= now:
                raise _refused()
            await _touch(session, stored, now)
        actor = Actor(
            org_id,
            "token",
            str(token_id),
            stored.name,
            PUBLISHABLE_SCOPES if stored.role == PUBLISHABLE else scopes_of(Role(stored.role)),
            audiences=None if stored.audience_ids is None else frozenset(stored.audience_ids),
        )
        until = monotonic() + resources.settings.token_cache_seconds
        return _Known(actor, until, ends_at)


async def _touch(session: AsyncSession, stored: ServiceToken, now: datetime) -> None:
    """Notes the use, at most once a minute; never waits for another one who does."""
    if stored.last_used_at is not None and stored.last_used_at > now - _USED_EVERY:
        return
    await session.execute(
        text(
            "update service_tokens set last_used_at = :now where (org_id, id) in "
            "(select org_id, id from service_tokens where id = :id for update skip locked)"
        ),
        {"now": now, "id": stored.id},
    )


def with_request(actor: Actor, request_id: str | None) -> Actor:
    """The actor, for one request."""
    return replace(actor, request_id=request_id)


def _refused() -> UnauthenticatedError:
    message = "Send a valid token: it may be mistyped, expired or revoked."
    return UnauthenticatedError(message)
