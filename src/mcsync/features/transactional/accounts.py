"""The rules of the one live link to a Mailchimp Transactional account: connect, look at it, disconnect."""

from __future__ import annotations

from typing import cast

from sqlalchemy.ext.asyncio import AsyncSession
from uuid6 import uuid7

from mcsync.core.auth import Actor
from mcsync.core.crypto import keyed_hash
from mcsync.core.db import org_of
from mcsync.core.errors import BadRequestError, ConflictError
from mcsync.core.resources import Resources
from mcsync.features import audit
from mcsync.features.audit import AuditAction
from mcsync.features.transactional import connections, hooks, links
from mcsync.features.transactional.models import TransactionalConnection as Connection
from mcsync.features.transactional.schemas import (
    TransactionalConnectionView,
    TransactionalStatus,
)
from mcsync.mailchimp import CredentialError
from mcsync.mailchimp.transactional import UserInfo


async def get(resources: Resources, actor: Actor) -> TransactionalConnectionView | None:
    """The live connection, or None."""
    async with resources.db.transaction(actor.org_id) as session:
        live = await connections.get_live(session)
        return None if live is None else _view(live)


async def connect(resources: Resources, actor: Actor, api_key: str) -> TransactionalConnectionView:
    """Verifies a key at Mailchimp Transactional and stores it sealed.

    A live connection keeps its id and gets the new key, provided that it is of the same account; mail
    that waited for a working key goes at once. Raises ``BadRequestError``
    (``transactional_key_refused``), ``ConflictError`` (``transactional_account_mismatch``) and
    ``MailchimpError`` where Mailchimp cannot be asked.
    """
    user = await _verify(resources, api_key)
    async with resources.db.transaction(actor.org_id) as session:
        fingerprint = await _fingerprint(resources, session, api_key)
        live = await connections.get_live(session, lock=True)
        if live is None and await _add(resources, session, user, api_key, fingerprint):
            action, before = AuditAction.TRANSACTIONAL_CONNECT, None
        else:
            live = live or await links.require_live(session, lock=True)
            action, before = AuditAction.TRANSACTIONAL_REPLACE_KEY, live.key_last4
            await _replace(resources, session, live, user, api_key, fingerprint)
        await connections.wake_messages(session)
        stored = await links.require_live(session)
        audit.record(
            session, actor, action, entity="transactional_connection", entity_id=stored.id,
            diff={"accountId": stored.account_id, "keyLast4": [before, stored.key_last4]},
        )  # fmt: skip
    await hooks.ensure(resources, actor.org_id)
    async with resources.db.transaction(actor.org_id) as session:
        return _view(await links.require_live(session))


async def disconnect(resources: Resources, actor: Actor) -> TransactionalConnectionView:
    """Destroys the stored key and ends the connection; messages stay, queued ones wait.

    Raises ``ConflictError`` (``transactional_not_connected``).
    """
    await hooks.take_down(resources, actor.org_id)
    async with resources.db.transaction(actor.org_id) as session:
        live = await links.require_live(session, lock=True)
        await connections.disconnect(session, live.id, resources.clock())
        await session.refresh(live)
        audit.record(
            session, actor, AuditAction.TRANSACTIONAL_DISCONNECT,
            entity="transactional_connection", entity_id=live.id,
            diff={"accountId": live.account_id, "keyLast4": [live.key_last4, None]},
        )  # fmt: skip
        return _view(live)


async def _verify(resources: Resources, api_key: str) -> UserInfo:
    client = links.client_of(resources, api_key)
    try:
        await client.ping()
        return await client.user_info()
    except CredentialError as error:
        raise BadRequestError(
            "Mailchimp Transactional does not accept this API key. Check that it was copied whole, that"
            " it has not been revoked, and that it is a Transactional key, not a Marketing key.",
            code="transactional_key_refused",
        ) from error


async def _add(
    resources: Resources,
    session: AsyncSession,
    user: UserInfo,
    api_key: str,
    fingerprint: bytes,
) -> bool:
    now, connection_id = resources.clock(), uuid7()
    context = connections.key_context(org_of(session), connection_id)
    return await connections.add_live(
        session,
        {
            "id": connection_id,
            "account_id": user.public_id,
            "username": user.username,
            "api_key": resources.keys.seal(api_key, context=context),
            "key_last4": api_key[-4:],
            "key_fingerprint": fingerprint,
            "connected_at": now,
            "verified_at": now,
        },
    )


async def _replace(
    resources: Resources,
    session: AsyncSession,
    live: Connection,
    user: UserInfo,
    api_key: str,
    fingerprint: bytes,
) -> None:
    if live.account_id != user.public_id:
        raise ConflictError(
            "This key belongs to another Mailchimp Transactional account than the connected one. Give a"
            " key of the same account, or disconnect first with transactional.disconnect.",
            code="transactional_account_mismatch",
        )
    context = connections.key_context(live.org_id, live.id)
    await connections.change(
        session, live.id, api_key=resources.keys.seal(api_key, context=context),
        key_last4=api_key[-4:], key_fingerprint=fingerprint, username=user.username,
        verified_at=resources.clock(), status="connected", status_code=None, status_detail=None,
    )  # fmt: skip


async def _fingerprint(resources: Resources, session: AsyncSession, api_key: str) -> bytes:
    hash_key = await resources.hash_keys.hash_key(session)
    return keyed_hash(hash_key, "transactional_api_key", api_key).bytes


def _view(row: Connection) -> TransactionalConnectionView:
    status = "disconnected" if row.soft_deleted_at else row.status
    return TransactionalConnectionView(
        id=row.id,
        status=cast("TransactionalStatus", status),
        status_code=row.status_code,
        status_detail=row.status_detail,
        account_id=row.account_id,
        username=row.username,
        key_last4=row.key_last4,
        connected_at=row.connected_at,
        verified_at=row.verified_at,
        outcomes_by="webhook" if row.webhook_id is not None else "polling",
        webhook_error=row.webhook_error,
        soft_deleted_at=row.soft_deleted_at,
    )
