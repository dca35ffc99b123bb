"""The door to the connected Transactional account: a client of the stored key, and the connection's status."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Final
from uuid import UUID

from sqlalchemy.ext.asyncio import AsyncSession

from mcsync.core.auth import Actor
from mcsync.core.crypto import SecretError
from mcsync.core.errors import ConflictError, UpstreamRefusedError
from mcsync.core.resources import Resources
from mcsync.features import audit
from mcsync.features.audit import AuditAction
from mcsync.features.connection import repository
from mcsync.features.transactional import connections
from mcsync.features.transactional.models import TransactionalConnection as Connection
from mcsync.mailchimp import CredentialError, RetryPolicy
from mcsync.mailchimp.transactional import TransactionalClient

INTERACTIVE: Final = RetryPolicy(
    max_attempts=3, base_seconds=0.5, cap_seconds=4.0, total_seconds=20.0
)
"""For calls that somebody waits for."""
ONCE: Final = RetryPolicy(max_attempts=1)
"""For jobs: their row says when to try again, and what was handed in is noted only once."""
CALL_SECONDS: Final = 60.0
"""After so long a call counts as lost; what it did is then looked up."""
REFUSED: Final = (
    "Mailchimp Transactional refuses the stored API key: it was revoked or restricted. Make a new key"
    " there and give it to transactional.connect."
)
UNREADABLE: Final = (
    "The stored Transactional key cannot be opened with this server's master keys. Give the key again"
    " with transactional.connect, or ask the operator to run 'mcsync keys doctor'."
)


@dataclass(frozen=True, slots=True)
class Link:
    """A client of the live connection, and which account and key it speaks for."""

    client: TransactionalClient
    connection_id: UUID
    account_id: str
    fingerprint: bytes
    needs_attention: bool
    has_webhook: bool
    metadata_declared: bool


def client_of(
    resources: Resources, api_key: str, *, retry: RetryPolicy = INTERACTIVE
) -> TransactionalClient:
    """A client with any key."""
    return TransactionalClient(
        resources.http,
        api_key=api_key,
        base_url=resources.settings.mandrill_url,
        retry=retry,
        read_seconds=CALL_SECONDS / 2,
        write_seconds=CALL_SECONDS,
    )


async def require_live(session: AsyncSession, *, lock: bool = False) -> Connection:
    """The live connection; raises ``ConflictError`` (``transactional_not_connected``) without one."""
    live = await connections.get_live(session, lock=lock)
    if live is None:
        raise ConflictError(
            "No Mailchimp Transactional account is connected; connect one with transactional.connect.",
            code="transactional_not_connected",
        )
    return live


async def open_link(
    resources: Resources, org_id: UUID, *, retry: RetryPolicy = INTERACTIVE
) -> Link:
    """Opens the sealed key of the live connection; makes no call.

    Raises ``ConflictError``: ``transactional_not_connected``, or ``api_key_unreadable`` where this
    server's master keys do not open the stored key (the connection then shows ``needs_attention``).
    """
    async with resources.db.transaction(org_id) as session:
        live = await require_live(session)
    try:
        api_key = resources.keys.open(
            live.api_key or "", context=connections.key_context(org_id, live.id)
        )
    except SecretError as error:
        await mark_needs_attention(resources, org_id, "api_key_unreadable", UNREADABLE)
        raise ConflictError(UNREADABLE, code="api_key_unreadable") from error
    return Link(
        client=client_of(resources, api_key, retry=retry),
        connection_id=live.id,
        account_id=live.account_id,
        fingerprint=live.key_fingerprint,
        needs_attention=live.status == "needs_attention",
        has_webhook=live.webhook_id is not None,
        metadata_declared=live.metadata_declared,
    )


@asynccontextmanager
async def calling(resources: Resources, org_id: UUID) -> AsyncIterator[Link]:
    """A block of calls that keeps the connection's status true, for procedures.

    A key refused inside it marks the connection and becomes ``UpstreamRefusedError``
    (``mailchimp_key_refused``). Hold no transaction open around it. Raises what :func:`open_link` raises.
    """
    link = await open_link(resources, org_id)
    try:
        yield link
    except CredentialError as error:
        await refused(resources, org_id, link)
        raise UpstreamRefusedError(REFUSED, code="mailchimp_key_refused") from error
    await works(resources, org_id, link)


async def refused(resources: Resources, org_id: UUID, link: Link) -> None:
    """Shows on the connection that Mailchimp refuses its key."""
    await mark_needs_attention(
        resources, org_id, "transactional_key_invalid", REFUSED, fingerprint=link.fingerprint
    )


async def works(resources: Resources, org_id: UUID, link: Link) -> None:
    """Takes an earlier mark back once a call was answered."""
    if link.needs_attention:
        await _change_status(
            resources, org_id, AuditAction.TRANSACTIONAL_RECOVERED,
            status="connected", code=None, detail=None, fingerprint=link.fingerprint,
        )  # fmt: skip


async def mark_needs_attention(
    resources: Resources, org_id: UUID, code: str, detail: str, *, fingerprint: bytes | None = None
) -> None:
    """Shows on the connection why its organisation's mail stands still; audited once."""
    await _change_status(
        resources, org_id, AuditAction.TRANSACTIONAL_NEEDS_ATTENTION,
        status="needs_attention", code=code, detail=detail, fingerprint=fingerprint,
    )  # fmt: skip


async def _change_status(
    resources: Resources,
    org_id: UUID,
    action: AuditAction,
    *,
    status: str,
    code: str | None,
    detail: str | None,
    fingerprint: bytes | None,
) -> None:
    async with resources.db.transaction(org_id) as session:
        changed = await repository.set_status(
            session, Connection, status=status, code=code, detail=detail, fingerprint=fingerprint
        )
        if changed is not None:
            audit.record(
                session, Actor.system(org_id, "transactional"), action,
                entity="transactional_connection", entity_id=changed,
                diff={"status": status, "statusCode": code},
            )  # fmt: skip
