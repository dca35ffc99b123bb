"""The rules of the one live link to a Mailchimp account, and the door to it for the other features.

Mailchimp is called between transactions, never inside one.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import cast
from uuid import UUID

from sqlalchemy.ext.asyncio import AsyncSession
from uuid6 import uuid7

from mcsync.core.auth import Actor
from mcsync.core.crypto import SecretError, keyed_hash
from mcsync.core.db import org_of
from mcsync.core.errors import BadRequestError, ConflictError, UpstreamRefusedError
from mcsync.core.resources import Resources
from mcsync.features import audit
from mcsync.features.audit import AuditAction
from mcsync.features.connection import repository
from mcsync.features.connection.models import Connection
from mcsync.features.connection.schemas import ConnectionStatus, ConnectionView, SyncStatus
from mcsync.mailchimp import (
    Account,
    CredentialError,
    Lane,
    MailchimpClient,
    RetryPolicy,
    data_centre,
)

INTERACTIVE = RetryPolicy(max_attempts=3, base_seconds=0.5, cap_seconds=4.0, total_seconds=20.0)
"""For calls that somebody waits for: the default policy would keep them waiting for minutes."""


@dataclass(frozen=True, slots=True)
class Link:
    """A client of the live connection, and which connection and key it speaks for."""

    client: MailchimpClient
    connection_id: UUID
    account_id: str
    fingerprint: bytes
    needs_attention: bool


async def get(resources: Resources, actor: Actor) -> ConnectionView | None:
    """The live connection, or None."""
    async with resources.db.transaction(actor.org_id) as session:
        live = await repository.get_live(session)
        if live is None:
            return None
        return _view(live, await repository.sync_status(session))


async def connect(resources: Resources, actor: Actor, api_key: str) -> ConnectionView:
    """Verifies a key at Mailchimp and stores it sealed.

    A live connection keeps its id and gets the new key, provided that it is of the same account.
    Raises ``BadRequestError`` (``api_key_refused``), ``ConflictError`` (``account_mismatch``) and
    ``MailchimpError`` where Mailchimp cannot be asked.
    """
    async with resources.db.transaction(actor.org_id) as session:
        live = await repository.get_live(session)
        fingerprint = await _fingerprint(resources, session, api_key)
    slots_of = live.account_id if live else f"verify:{fingerprint.hex()}"
    account = await _verify(resources, api_key, slots_of)
    async with resources.db.transaction(actor.org_id) as session:
        replaced = await repository.get_live(session, lock=True)
        if replaced is None and await _add(resources, session, account, api_key, fingerprint):
            action, key_before = AuditAction.CONNECTION_CONNECT, None
            await repository.ask_full_pulls(session, account.account_id)
        else:
            # None before, and still not ours: another request connected in between.
            replaced = replaced or await repository.get_live(session, lock=True)
            action, key_before = AuditAction.CONNECTION_REPLACE_KEY, replaced and replaced.key_last4
            await _replace(resources, session, replaced, account, api_key, fingerprint)
        stored = await require_live(session)
        audit.record(
            session,
            actor,
            action,
            entity="connection",
            entity_id=stored.id,
            diff={
                "accountId": stored.account_id,
                "dataCentre": stored.data_centre,
                "keyLast4": [key_before, stored.key_last4],
            },
        )
        return _view(stored, await repository.sync_status(session))


DisconnectHook = Callable[[Actor], Awaitable[None]]
"""What a higher floor does while the key is still there; raises nothing that Mailchimp does."""


async def disconnect(
    resources: Resources, actor: Actor, before: DisconnectHook | None = None
) -> ConnectionView:
    """Destroys the stored key and ends the connection; segments, history and open orders stay.

    ``before`` is called first, with the key still there. Raises ``ConflictError`` (``not_connected``).
    """
    if before is not None:
        async with resources.db.transaction(actor.org_id) as session:
            await require_live(session)
        await before(actor)
    async with resources.db.transaction(actor.org_id) as session:
        live = await require_live(session, lock=True)
        await repository.disconnect(session, live.id, resources.clock())
        await session.refresh(live)
        audit.record(
            session,
            actor,
            AuditAction.CONNECTION_DISCONNECT,
            entity="connection",
            entity_id=live.id,
            diff={"accountId": live.account_id, "keyLast4": [live.key_last4, None]},
        )
        return _view(live, await repository.sync_status(session))


async def get_live(session: AsyncSession) -> Connection | None:
    """The organisation's live connection, or None."""
    return await repository.get_live(session)


async def last_account(session: AsyncSession) -> str | None:
    """The account that is connected or, where none is, was connected last; None where none ever was."""
    return await repository.last_account(session)


async def require_live(session: AsyncSession, *, lock: bool = False) -> Connection:
    """The organisation's live connection; raises ``ConflictError`` (``not_connected``) without one."""
    live = await repository.get_live(session, lock=lock)
    if live is None:
        raise ConflictError(
            "No Mailchimp account is connected; connect one with connection.connect.",
            code="not_connected",
        )
    return live


async def open_link(
    resources: Resources, org_id: UUID, *, lane: Lane, retry: RetryPolicy | None = None
) -> Link:
    """Opens the sealed key of the live connection; makes no call.

    Raises ``ConflictError``: ``not_connected``, or ``api_key_unreadable`` where this server's master
    keys do not open the stored key (the connection then shows ``needs_attention``).
    """
    async with resources.db.transaction(org_id) as session:
        live = await require_live(session)
    try:
        api_key = resources.keys.open(live.api_key or "", context=key_context(org_id, live.id))
    except SecretError as error:
        detail = (
            "The stored API key cannot be opened with this server's master keys. Give the key again"
            " with connection.connect, or ask the operator to run 'mcsync keys doctor'."
        )
        await mark_needs_attention(resources, org_id, "api_key_unreadable", detail)
        raise ConflictError(detail, code="api_key_unreadable") from error
    return Link(
        client=_client(resources, api_key, live.account_id, lane, retry),
        connection_id=live.id,
        account_id=live.account_id,
        fingerprint=live.key_fingerprint,
        needs_attention=live.status == "needs_attention",
    )


async def client_for(resources: Resources, org_id: UUID, *, lane: Lane) -> MailchimpClient:
    """A client of the live connection. Raises what :func:`open_link` raises."""
    return (await open_link(resources, org_id, lane=lane)).client


@asynccontextmanager
async def calling(
    resources: Resources,
    org_id: UUID,
    *,
    lane: Lane = Lane.LIVE,
    retry: RetryPolicy | None = INTERACTIVE,
) -> AsyncIterator[Link]:
    """A block of Mailchimp calls that keeps the connection's status true.

    A key refused inside it marks the connection and becomes ``UpstreamRefusedError``
    (``mailchimp_key_refused``); a block that ends well clears an earlier mark. Hold no transaction
    open around it. Raises what :func:`open_link` raises.
    """
    link = await open_link(resources, org_id, lane=lane, retry=retry)
    try:
        yield link
    except CredentialError as error:
        detail = refused_detail(error)
        await mark_needs_attention(
            resources, org_id, error.code, detail, fingerprint=link.fingerprint
        )
        raise UpstreamRefusedError(detail, code="mailchimp_key_refused") from error
    if link.needs_attention:
        await clear_needs_attention(resources, org_id, fingerprint=link.fingerprint)


async def mark_needs_attention(
    resources: Resources,
    org_id: UUID,
    code: str,
    detail: str,
    *,
    fingerprint: bytes | None = None,
) -> bool:
    """Shows on the connection why its organisation's work stopped; True if that was news.

    A transaction of its own, audited. ``fingerprint`` names the key that was refused: nothing happens
    if another one was connected since.
    """
    return await _change_status(
        resources,
        org_id,
        AuditAction.CONNECTION_NEEDS_ATTENTION,
        status="needs_attention",
        code=code,
        detail=detail,
        fingerprint=fingerprint,
    )


async def clear_needs_attention(
    resources: Resources, org_id: UUID, *, fingerprint: bytes | None = None
) -> bool:
    """Takes the mark back once Mailchimp accepts the key again; True if there was one."""
    return await _change_status(
        resources,
        org_id,
        AuditAction.CONNECTION_RECOVERED,
        status="connected",
        code=None,
        detail=None,
        fingerprint=fingerprint,
    )


def refused_detail(error: CredentialError) -> str:
    """What the organisation should do about a refused key, in a sentence or two."""
    if error.code == "user_disabled":
        return "Mailchimp says that this account or user is deactivated. Settle that at Mailchimp."
    if error.status == 403:
        return (
            "The Mailchimp user behind the API key may not do this. Connect a key of a user with the"
            " role Manager or above, with connection.connect."
        )
    return (
        "Mailchimp refuses the stored API key: it was revoked, or its user was removed. Make a new"
        " key at Mailchimp and give it to connection.connect."
    )


async def _change_status(
    resources: Resources,
    org_id: UUID,
    action: AuditAction,
    *,
    status: str,
    code: str | None,
    detail: str | None,
    fingerprint: bytes | None,
) -> bool:
    async with resources.db.transaction(org_id) as session:
        changed = await repository.set_status(
            session, status=status, code=code, detail=detail, fingerprint=fingerprint
        )
        if changed is not None:
            audit.record(
                session,
                Actor.system(org_id, "connection"),
                action,
                entity="connection",
                entity_id=changed,
                diff={"status": status, "statusCode": code},
            )
    return changed is not None


async def _verify(resources: Resources, api_key: str, slots_of: str) -> Account:
    client = _client(resources, api_key, slots_of, Lane.LIVE, INTERACTIVE)
    try:
        return await client.account()
    except CredentialError as error:
        raise BadRequestError(
            "Mailchimp does not accept this API key. Check that it was copied whole, that it has not"
            " been revoked, and that its user may manage audiences.",
            code="api_key_refused",
        ) from error


async def _add(
    resources: Resources,
    session: AsyncSession,
    account: Account,
    api_key: str,
    fingerprint: bytes,
) -> bool:
    now = resources.clock()
    connection_id = uuid7()
    org_id = org_of(session)
    return await repository.add_live(
        session,
        Connection(
            id=connection_id,
            org_id=org_id,
            account_id=account.account_id,
            account_name=account.account_name,
            data_centre=data_centre(api_key),
            api_key=resources.keys.seal(api_key, context=key_context(org_id, connection_id)),
            key_last4=_last4(api_key),
            key_fingerprint=fingerprint,
            status="connected",
            connected_at=now,
            verified_at=now,
        ),
    )


async def _replace(
    resources: Resources,
    session: AsyncSession,
    live: Connection | None,
    account: Account,
    api_key: str,
    fingerprint: bytes,
) -> None:
    if live is None:
        raise ConflictError(
            "The connection was made and ended by others meanwhile; try again.", code="conflict"
        )
    if live.account_id != account.account_id:
        raise ConflictError(
            "This key belongs to another Mailchimp account than the connected one. Give a key of the"
            " same account, or disconnect first with connection.disconnect.",
            code="account_mismatch",
        )
    await repository.replace_key(
        session,
        live.id,
        envelope=resources.keys.seal(api_key, context=key_context(live.org_id, live.id)),
        last4=_last4(api_key),
        fingerprint=fingerprint,
        data_centre=data_centre(api_key),
        account_name=account.account_name,
        verified_at=resources.clock(),
    )


def _view(row: Connection, sync_status: str) -> ConnectionView:
    status = "disconnected" if row.soft_deleted_at else row.status
    return ConnectionView(
        id=row.id,
        status=cast("ConnectionStatus", status),
        status_code=row.status_code,
        status_detail=row.status_detail,
        account_id=row.account_id,
        account_name=row.account_name,
        data_centre=row.data_centre,
        key_last4=row.key_last4,
        connected_at=row.connected_at,
        verified_at=row.verified_at,
        sync_status=cast("SyncStatus", sync_status),
        track_new_campaigns=row.track_campaigns_since is not None,
        soft_deleted_at=row.soft_deleted_at,
    )


async def _fingerprint(resources: Resources, session: AsyncSession, api_key: str) -> bytes:
    hash_key = await resources.hash_keys.hash_key(session)
    return keyed_hash(hash_key, "mailchimp_api_key", api_key).bytes


def _client(
    resources: Resources, api_key: str, slots_of: str, lane: Lane, retry: RetryPolicy | None
) -> MailchimpClient:
    return MailchimpClient(
        resources.http,
        api_key=api_key,
        base_url=resources.settings.mailchimp_url,
        slots=resources.slots,
        account=slots_of,
        lane=lane,
        retry=retry,
    )


async def rewrap_key(resources: Resources, session: AsyncSession) -> bool:
    """Seals the live connection's key under the active master key; False where it is already, or none is.

    For the rotation of master keys. Raises ``SecretError`` where the stored key cannot be opened.
    """
    live = await repository.get_live(session, lock=True)
    if live is None or live.api_key is None:
        return False
    renewed = resources.keys.rewrap(live.api_key, key_context(live.org_id, live.id))
    changed = renewed != live.api_key
    live.api_key = renewed
    await session.flush()
    return changed


def key_context(org_id: UUID, connection_id: UUID) -> str:
    """Where a connection's API key is sealed for."""
    return f"org:{org_id}|mailchimp_api_key|{connection_id}"


def _last4(api_key: str) -> str:
    # The data centre at the end is shown beside it and tells keys of one account not apart.
    return api_key.rpartition("-")[0][-4:]
