"""The intake of Mailchimp's reports: genuine ones are stored and answered, all else happens later.

Kept of an event is what it says, not whom it names: addresses are hashed with the organisation's key.
"""

from __future__ import annotations

import asyncio
import hashlib
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import parse_qsl
from uuid import UUID

import structlog

from mcsync.core.crypto import SecretError, keyed_hash, path_token_hash
from mcsync.core.errors import (
    BadRequestError,
    ForbiddenError,
    NotFoundError,
    UnavailableError,
)
from mcsync.core.resources import Resources
from mcsync.features.transactional import connections, hooks, inbox
from mcsync.features.transactional.words import EVENTS
from mcsync.mailchimp import mailbox_of
from mcsync.mailchimp.transactional import (
    EVENTS_FIELD,
    TEST_KEY,
    MessageEvent,
    UnreadableEventsError,
    parse_events,
    verify_mandrill_signature,
)

_log = structlog.get_logger(__name__)

MAX_BYTES: Final = 24 * 1024 * 1024
"""A thousand events, as a form."""
_MOST_FIELDS: Final = 20
_HIDDEN: Final = "There is no such address."


@dataclass(frozen=True, slots=True)
class Hook:
    """Where a delivery came in."""

    org_id: UUID
    connection_id: UUID
    address: hooks.Address


async def find(resources: Resources, token: str) -> Hook:
    """The webhook of a path's token. Raises ``NotFoundError``, the same for every reason."""
    wanted = path_token_hash(token)
    async with resources.db.system() as session:
        found = await connections.find_hook(session, wanted)
    if found is None:
        raise NotFoundError(_HIDDEN)
    connection_id, org_id = found
    async with resources.db.transaction(org_id) as session:
        row = await connections.get_live(session)
    if row is None or row.id != connection_id or row.webhook_token_hash != wanted:
        raise NotFoundError(_HIDDEN)
    try:
        address = hooks.open_address(resources, row)
    except SecretError as error:
        message = "The webhook cannot be checked just now."
        raise UnavailableError(message, retry_after=600) from error
    if address is None:
        raise NotFoundError(_HIDDEN)
    return Hook(org_id, connection_id, address)


async def receive(resources: Resources, hook: Hook, signature: str | None, body: bytes) -> int:
    """Stores a delivery's new events; how many there were.

    Raises ``ForbiddenError`` (``bad_signature``), ``BadRequestError`` (``unreadable_events``) and
    ``UnavailableError`` where Mailchimp's signing key is not known yet; then nothing was changed.
    """
    try:
        fields = await asyncio.to_thread(_fields, body)
    except ValueError:
        message = "The body is not a form with mandrill_events."
        raise BadRequestError(message, code="unreadable_events") from None
    if fields[EVENTS_FIELD].strip() == "[]" and verify_mandrill_signature(
        TEST_KEY, hook.address.url, fields, signature
    ):
        return 0  # the first one: it asks whether we are here
    if not hook.address.auth_key:
        message = "The webhook is being registered."
        raise UnavailableError(message, retry_after=60)
    if not verify_mandrill_signature(hook.address.auth_key, hook.address.url, fields, signature):
        message = "The signature is not Mailchimp's."
        raise ForbiddenError(message, code="bad_signature")
    try:
        delivery = await asyncio.to_thread(parse_events, fields[EVENTS_FIELD])
    except UnreadableEventsError:
        message = "The events could not be read."
        raise BadRequestError(message, code="unreadable_events") from None
    if delivery.unreadable:
        _log.warning("transactional_events_unreadable", count=delivery.unreadable)
    hash_key = await resources.hash_keys.hash_key(hook.org_id)
    rows = [
        _row(event, hash_key)
        for event in delivery.events
        if isinstance(event, MessageEvent) and event.event in EVENTS and event.id
    ]
    if not rows:
        return 0
    async with resources.db.transaction(hook.org_id) as session:
        return await inbox.store(session, rows)


def _fields(body: bytes) -> dict[str, str]:
    pairs = parse_qsl(
        body.decode("ascii"), keep_blank_values=True, strict_parsing=True, errors="strict",
        max_num_fields=_MOST_FIELDS,
    )  # fmt: skip
    fields = dict(pairs)
    if EVENTS_FIELD not in fields or len(fields) < len(pairs):
        raise ValueError
    return fields


def _row(event: MessageEvent, hash_key: bytes) -> dict[str, Any]:
    """What is kept of an event. Two of the same kind, message, second and link are one."""
    happened = event.ts.isoformat() if event.ts else ""
    told = f"{event.event}\0{event.id}\0{happened}\0{event.url}"
    email = event.msg.email
    return {
        "digest": hashlib.sha256(told.encode("utf-8", "surrogatepass")).hexdigest(),
        "event": event.event,
        "provider_id": event.id[:100].replace("\0", ""),
        "message_id": _our_id(event.msg.metadata.get(hooks.METADATA_NAME)),
        "address_key": keyed_hash(hash_key, "address", mailbox_of(email)) if email else None,
        "reason": _reason(event),
        "happened_at": happened or None,
    }


def _reason(event: MessageEvent) -> str | None:
    if event.event == "reject":
        return "rejected"
    return event.msg.bounce_description[:100].replace("\0", "") or None


def _our_id(given: object) -> UUID | None:
    try:
        return UUID(hex=given) if isinstance(given, str) else None
    except ValueError:
        return None
