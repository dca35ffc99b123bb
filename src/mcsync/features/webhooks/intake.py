"""The intake: what anybody who knows the secret path may post, and what becomes of it at once.

Stored and answered within one statement; all else happens later. A post may only reduce what we do: it
keeps us from sending to somebody who is said to have left until the member was read at Mailchimp.
"""

from __future__ import annotations

import asyncio
import hmac
import time
from dataclasses import dataclass
from typing import Final
from uuid import UUID

import structlog

from mcsync.core.clock import Clock, utc_now
from mcsync.core.crypto import keyed_digest, path_token_hash
from mcsync.core.errors import BadRequestError, ForbiddenError, NotFoundError
from mcsync.core.jobs import WEBHOOK, JobQueue
from mcsync.core.resources import Resources
from mcsync.features.webhooks import inbox
from mcsync.features.webhooks.schemas import EndpointGoneError
from mcsync.mailchimp import (
    CleanedEvent,
    MalformedWebhook,
    ProfileEvent,
    SubscribeEvent,
    UnsubscribeEvent,
    UpemailEvent,
    WebhookEvent,
    WebhookSignatureError,
    parse_webhook,
    spellings,
    subscriber_hash,
    verify_webhook_signature,
)

_log = structlog.get_logger(__name__)

KNOWN_SECONDS: Final = 5.0
"""How long an endpoint is remembered: so long a removed one may still be answered 200."""
_KNOWN_MOST: Final = 10_000
_NOBODY: Final = UUID(int=0)
_NO_HASH: Final = bytes(32)
_PAUSE_SECONDS: Final = 0.02
_MOST_TEXT: Final = 100


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Where a post came in. ``secret``: posts must be signed with it."""

    id: UUID
    org_id: UUID
    audience_id: UUID
    list_id: str
    live: bool
    secret: str | None


class Intake:
    """One process's door for posts. ``clock``: what signatures are compared with."""

    def __init__(self, clock: Clock = utc_now) -> None:
        self._clock = clock
        self._known: dict[bytes, tuple[float, Endpoint]] = {}
        self._ringing: dict[UUID, bool] = {}

    async def find(self, resources: Resources, token: str) -> Endpoint | None:
        """The endpoint of a path's token, looked up at most every few seconds."""
        wanted = path_token_hash(token)
        known = self._known.get(wanted)
        if known is not None and known[0] > time.monotonic():
            return known[1]
        endpoint = await self.look_up(resources, wanted)
        if endpoint is not None:
            if len(self._known) >= _KNOWN_MOST:
                self._known.clear()
            self._known[wanted] = (time.monotonic() + KNOWN_SECONDS, endpoint)
        return endpoint

    @staticmethod
    async def look_up(resources: Resources, wanted: bytes) -> Endpoint | None:
        """The endpoint of a token's hash; the same steps whether there is one or not."""
        async with resources.db.system() as session:
            found = await inbox.find(session, wanted)
        endpoint_id, org_id = found or (_NOBODY, _NOBODY)
        async with resources.db.transaction(org_id) as session:
            row = await inbox.load(session, endpoint_id)
        current = row.token_hash if row else _NO_HASH
        previous = (row.previous_token_hash if row else None) or _NO_HASH
        is_current = hmac.compare_digest(current, wanted)
        is_previous = hmac.compare_digest(previous, wanted)
        if row is None or not (is_current or is_previous):
            return None
        sealed = row.signing_secret if is_current else row.previous_signing_secret
        secret = (
            resources.keys.open(sealed, context=secret_context(org_id, row.id)) if sealed else None
        )
        return Endpoint(row.id, org_id, row.audience_id, row.list_id, row.live, secret)

    async def receive(
        self, resources: Resources, endpoint: Endpoint | None, signature: str | None, body: bytes
    ) -> bool:
        """Stores a post; False where there is nothing to do for it (repeated, or of no interest).

        Raises ``NotFoundError``, :class:`EndpointGoneError`, ``ForbiddenError`` (``webhook_signature``) and
        ``BadRequestError`` (``webhook_malformed``); then nothing was changed.
        """
        endpoint = require(endpoint)
        if endpoint.secret is not None:
            try:
                verify_webhook_signature(endpoint.secret, signature, body, self._clock())
            except WebhookSignatureError as error:
                _log.warning(
                    "webhook_refused", endpoint=str(endpoint.id), reason=error.reason.value
                )
                raise ForbiddenError(
                    "The signature of this post is missing or wrong.", code="webhook_signature"
                ) from None
        try:
            event = parse_webhook(body)
        except MalformedWebhook:
            raise _malformed() from None
        if event.list_id and event.list_id != endpoint.list_id:
            raise _malformed()
        return await _store(resources, endpoint, event)

    async def ring(self, jobs: JobQueue, endpoint: Endpoint) -> None:
        """Rings for the inbox; while that is under way, others only ask for it to be done once more."""
        audience_id = endpoint.audience_id
        if audience_id in self._ringing:
            self._ringing[audience_id] = True
            return
        self._ringing[audience_id] = True
        try:
            while self._ringing[audience_id]:
                self._ringing[audience_id] = False
                await jobs.ring(WEBHOOK, audience_id, endpoint.org_id, at_once=True)
                if self._ringing[audience_id]:
                    await asyncio.sleep(_PAUSE_SECONDS)
        finally:
            del self._ringing[audience_id]


def require(endpoint: Endpoint | None) -> Endpoint:
    """The endpoint, if it is there and in use. Raises ``NotFoundError``, :class:`EndpointGoneError`."""
    if endpoint is None:
        raise NotFoundError("There is nothing here.")
    if not endpoint.live:
        raise EndpointGoneError("This webhook is not in use any more.")
    return endpoint


def secret_context(org_id: UUID, endpoint_id: UUID) -> str:
    """Where an endpoint's signing secret is sealed for."""
    return f"org:{org_id}|webhook_secret|{endpoint_id}"


async def _store(resources: Resources, endpoint: Endpoint, event: WebhookEvent) -> bool:
    new_email: str | None = None
    match event:
        case UpemailEvent():
            email, new_email = event.old_email, event.new_email
        case SubscribeEvent() | UnsubscribeEvent() | ProfileEvent() | CleanedEvent():
            email = event.email
        case _:
            return False  # campaigns, and what Mailchimp may invent
    async with resources.db.transaction(endpoint.org_id) as session:
        hash_key = await resources.hash_keys.hash_key(session)
        return await inbox.receive(
            session,
            audience=endpoint.audience_id,
            endpoint=endpoint.id,
            type=event.type,
            hash=UUID(hex=subscriber_hash(email)),
            hashes=[UUID(hex=subscriber_hash(each)) for each in spellings(email)],
            email=email,
            new_hash=UUID(hex=subscriber_hash(new_email)) if new_email else None,
            new_email=new_email,
            action=_short(getattr(event, "action", None)),
            reason=_short(getattr(event, "reason", None)),
            fired_at=event.fired_at,
            dedupe=keyed_digest(hash_key, "webhook", "\x1f".join(event.identity)),
            reduces=isinstance(event, UnsubscribeEvent | CleanedEvent | UpemailEvent),
        )


def _short(value: str | None) -> str | None:
    """A word of Mailchimp's (``unsub``, ``abuse``); nothing that somebody could write a letter in."""
    return value if value and len(value) <= _MOST_TEXT and value.isalnum() else None


def _malformed() -> BadRequestError:
    return BadRequestError("This is no post of this audience's webhook.", code="webhook_malformed")
