"""The webhook at Mailchimp Transactional: made, found again, made anew, taken down (MC 17.4).

Without ``MCSYNC_PUBLIC_URL`` there is none, and outcomes are asked for on a schedule instead.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final
from uuid import UUID

import orjson
import structlog
from sqlalchemy import text

from mcsync.core.crypto import SecretError, new_path_token, path_token_hash
from mcsync.core.errors import ConflictError
from mcsync.core.resources import Resources
from mcsync.features.transactional import connections, links
from mcsync.features.transactional.models import TransactionalConnection as Connection
from mcsync.mailchimp import CredentialError, MailchimpError
from mcsync.mailchimp.transactional import (
    TransactionalClient,
    TransactionalWebhook,
    UnknownWebhookError,
    ValidationFailedError,
)

_log = structlog.get_logger(__name__)

PATH: Final = "/webhooks/mandrill"
EVENTS: Final = (
    "send", "delivered", "deferral", "hard_bounce", "soft_bounce", "open", "click", "spam", "unsub",
    "reject",
)  # fmt: skip
_DESCRIPTION: Final = "mcsync"
METADATA_NAME: Final = "mcsync_id"
"""Our message id at Mailchimp, by which a message is found again."""


@dataclass(frozen=True, slots=True)
class Address:
    """Where Mailchimp posts to and what it signs with; ``auth_key`` is empty until it has told."""

    url: str
    auth_key: str

    def pack(self) -> str:
        """As it is sealed."""
        return orjson.dumps({"url": self.url, "authKey": self.auth_key}).decode()

    @classmethod
    def unpack(cls, packed: str) -> Address:
        """What :meth:`pack` gave."""
        found = orjson.loads(packed)
        return cls(found["url"], found["authKey"])


def open_address(resources: Resources, row: Connection) -> Address | None:
    """The connection's webhook address; None where there is none. Raises ``SecretError``."""
    if row.webhook_secret is None:
        return None
    return Address.unpack(
        resources.keys.open(
            row.webhook_secret, context=connections.webhook_context(row.org_id, row.id)
        )
    )


async def ensure(resources: Resources, org_id: UUID) -> None:
    """Brings what a connection needs at Mailchimp in order: the searchable metadata name, the webhook.

    Harmless when repeated; trouble is noted on the connection and left for the next time.
    """
    try:
        link = await links.open_link(resources, org_id)
    except ConflictError:
        return
    error: str | None = None
    try:
        if not link.metadata_declared:
            await _declare(resources, org_id, link)
        if resources.settings.public_url:
            await _register(resources, org_id, link)
    except CredentialError:
        await links.refused(resources, org_id, link)
        error = "mailchimp_key_refused"
    except ValidationFailedError:
        error = "url_not_reachable"
    except MailchimpError as trouble:
        error = type(trouble).__name__
    if error is not None:
        _log.warning("transactional_webhook_not_registered", error=error)
    async with resources.db.transaction(org_id) as session:
        await connections.change_live(
            session, link.connection_id, webhook_error=error, webhook_checked_at=resources.clock()
        )


async def _declare(resources: Resources, org_id: UUID, link: links.Link) -> None:
    """Makes our id searchable: without it no message in doubt could be found."""
    known = {field.name for field in await link.client.metadata_fields()}
    if METADATA_NAME not in known:
        await link.client.add_metadata_field(METADATA_NAME)
    async with resources.db.transaction(org_id) as session:
        await connections.change_live(session, link.connection_id, metadata_declared=True)


async def _register(resources: Resources, org_id: UUID, link: links.Link) -> None:
    base = f"{(resources.settings.public_url or '').rstrip('/')}{PATH}/"
    async with resources.db.transaction(org_id) as session:
        row = await connections.get_live(session)
    if row is None:
        return
    try:
        address = open_address(resources, row)
    except SecretError:
        address = None
    existing = {hook.url: hook for hook in await link.client.webhooks()}
    if address is None or not address.url.startswith(base):
        stale = existing.get(address.url) if address is not None else None
        address = await _new_address(resources, org_id, row, base)
        if address is None:
            return
        if stale is not None:
            await _remove(link.client, stale.id)
    hook = existing.get(address.url)
    if hook is None:
        # Its outcome unknown, it is found in the list next time.
        hook = await link.client.add_webhook(address.url, events=EVENTS, description=_DESCRIPTION)
    await _keep(resources, org_id, row, hook, address)


async def _new_address(
    resources: Resources, org_id: UUID, row: Connection, base: str
) -> Address | None:
    """Stored before Mailchimp hears of it, since it asks the address whether it is there."""
    token = new_path_token()
    address = Address(base + token, "")
    sealed = resources.keys.seal(
        address.pack(), context=connections.webhook_context(org_id, row.id)
    )
    async with resources.db.transaction(org_id) as session:
        done = await connections.change_live(
            session, row.id, webhook_secret=sealed, webhook_token_hash=path_token_hash(token),
            webhook_id=None,
        )  # fmt: skip
    return address if done else None


async def _keep(
    resources: Resources,
    org_id: UUID,
    row: Connection,
    hook: TransactionalWebhook,
    address: Address,
) -> None:
    if row.webhook_id == hook.id and address.auth_key == hook.auth_key:
        return
    sealed = resources.keys.seal(
        Address(address.url, hook.auth_key).pack(),
        context=connections.webhook_context(org_id, row.id),
    )
    async with resources.db.transaction(org_id) as session:
        await connections.change_live(session, row.id, webhook_secret=sealed, webhook_id=hook.id)


async def _remove(client: TransactionalClient, webhook_id: int) -> None:
    try:
        await client.delete_webhook(webhook_id)
    except UnknownWebhookError:
        return
    except MailchimpError as error:
        _log.info("transactional_webhook_not_removed", error=type(error).__name__)


async def take_down(resources: Resources, org_id: UUID) -> None:
    """Removes the webhook at Mailchimp before a disconnect; what cannot be removed posts to nobody."""
    async with resources.db.transaction(org_id) as session:
        row = await connections.get_live(session)
    if row is None or row.webhook_id is None:
        return
    try:
        link = await links.open_link(resources, org_id)
    except ConflictError:
        return
    await _remove(link.client, row.webhook_id)


async def ensure_all(resources: Resources) -> None:
    """The hourly look after every connection whose webhook is missing or was switched off."""
    async with resources.db.system() as session:
        found = await session.scalars(text("select mcsync_transactional_organisation_ids()"))
        organisations = list(found)
    for org_id in organisations:
        await ensure(resources, org_id)
