"""Every SQL statement about connections."""

from __future__ import annotations

from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import select, text, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncSession

from mcsync.core.db import org_of
from mcsync.features.connection.models import Connection

# Segments are a floor above: only their status is read here, by its name.
_SYNC_STATUS = text("""
select case when bool_or(syncing_until > clock_timestamp()) then 'syncing'
            when bool_or(status = 'error') then 'error'
            else 'idle' end
from contact_segments where soft_deleted_at is null
""")

# Mailchimp went on while nobody looked: the next pull of each audience must read all of it.
_FORGET_HIGH_WATER = text(
    "update audiences set high_water = null, full_pull_from = null where account_id = :account_id"
)


async def get_live(session: AsyncSession, *, lock: bool = False) -> Connection | None:
    """The organisation's live connection; ``lock`` keeps others from changing it until commit."""
    statement = select(Connection).where(
        Connection.org_id == org_of(session), Connection.soft_deleted_at.is_(None)
    )
    if lock:
        statement = statement.with_for_update()
    return (
        await session.execute(statement, execution_options={"populate_existing": True})
    ).scalar_one_or_none()


async def last_account(session: AsyncSession) -> str | None:
    """The account that was connected last, live or not; None where none ever was."""
    statement = (
        select(Connection.account_id)
        .where(Connection.org_id == org_of(session))
        .order_by(Connection.soft_deleted_at.desc().nulls_first())
        .limit(1)
    )
    return (await session.execute(statement)).scalar_one_or_none()


async def add_live(session: AsyncSession, connection: Connection) -> bool:
    """Stores a new live connection; False when another request has just stored one (the index decides)."""
    columns = {
        column.key: value
        for column in Connection.__table__.columns
        if (value := getattr(connection, column.key)) is not None
    }
    statement = (
        insert(Connection)
        .values(**columns)
        .on_conflict_do_nothing(
            index_elements=[Connection.org_id],
            index_where=Connection.soft_deleted_at.is_(None),
        )
        .returning(Connection.id)
    )
    return (await session.execute(statement)).scalar_one_or_none() is not None


async def replace_key(
    session: AsyncSession,
    connection_id: UUID,
    *,
    envelope: str,
    last4: str,
    fingerprint: bytes,
    data_centre: str,
    account_name: str,
    verified_at: datetime,
) -> None:
    """Puts another, just verified key of the same account in place of the stored one."""
    await session.execute(
        update(Connection)
        .where(Connection.id == connection_id)
        .values(
            api_key=envelope,
            key_last4=last4,
            key_fingerprint=fingerprint,
            data_centre=data_centre,
            account_name=account_name,
            verified_at=verified_at,
            status="connected",
            status_code=None,
            status_detail=None,
        )
    )


async def disconnect(session: AsyncSession, connection_id: UUID, at: datetime) -> None:
    """Ends the connection and destroys its key."""
    await session.execute(
        update(Connection)
        .where(Connection.id == connection_id)
        .values(soft_deleted_at=at, api_key=None)
    )


async def set_status(
    session: AsyncSession,
    links: type[Any] = Connection,
    *,
    status: str,
    code: str | None,
    detail: str | None,
    fingerprint: bytes | None,
) -> UUID | None:
    """Sets the live connection's status; its id, or None where nothing changed.

    ``links``: where connections of another kind are kept, in a table with the same columns.
    ``fingerprint``: only while this key is still the stored one, so that a call which failed with the
    key before cannot speak against the new one.
    """
    statement = (
        update(links)
        .where(
            links.org_id == org_of(session),
            links.soft_deleted_at.is_(None),
            (links.status != status) | links.status_code.is_distinct_from(code),
        )
        .values(status=status, status_code=code, status_detail=detail)
        .returning(links.id)
    )
    if fingerprint is not None:
        statement = statement.where(links.key_fingerprint == fingerprint)
    changed: UUID | None = (await session.execute(statement)).scalar_one_or_none()
    return changed


async def sync_status(session: AsyncSession) -> str:
    """``syncing`` while any segment is, else ``error`` while any has one, else ``idle``."""
    return str((await session.execute(_SYNC_STATUS)).scalar_one())


async def ask_full_pulls(session: AsyncSession, account_id: str) -> None:
    """Makes the next pull of every audience of the account a full one."""
    await session.execute(_FORGET_HIGH_WATER, {"account_id": account_id})
