"""Every SQL statement about the connections to Mailchimp Transactional."""

from __future__ import annotations

from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import select, text, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncSession

from mcsync.core.db import org_of
from mcsync.features.transactional.models import TransactionalConnection as Connection

_WAKE = text("""
update transactional_messages set next_attempt_at = greatest(now(), coalesce(send_at, now()))
 where org_id = :org and status = 'queued' and error_code is not null and lease_until is null
""")


async def get_live(session: AsyncSession, *, lock: bool = False) -> Connection | None:
    """The organisation's live connection; ``lock`` keeps others from changing it until commit."""
    statement = select(Connection).where(
        Connection.org_id == org_of(session), Connection.soft_deleted_at.is_(None)
    )
    if lock:
        statement = statement.with_for_update()
    found = await session.execute(statement, execution_options={"populate_existing": True})
    return found.scalar_one_or_none()


async def add_live(session: AsyncSession, values: dict[str, Any]) -> bool:
    """Stores a new live connection; False where another request has just stored one."""
    statement = (
        insert(Connection)
        .values(org_id=org_of(session), **values)
        .on_conflict_do_nothing(
            index_elements=[Connection.org_id],
            index_where=Connection.soft_deleted_at.is_(None),
        )
        .returning(Connection.id)
    )
    return (await session.execute(statement)).scalar_one_or_none() is not None


async def change(session: AsyncSession, connection_id: UUID, **values: Any) -> None:
    """Sets columns of a connection."""
    await session.execute(
        update(Connection)
        .where(Connection.org_id == org_of(session), Connection.id == connection_id)
        .values(**values)
    )


async def change_live(session: AsyncSession, connection_id: UUID, **values: Any) -> bool:
    """Sets columns of a connection that is still live; False where it is not."""
    done = await session.execute(
        update(Connection)
        .where(
            Connection.org_id == org_of(session),
            Connection.id == connection_id,
            Connection.soft_deleted_at.is_(None),
        )
        .values(**values)
        .returning(Connection.id)
    )
    return done.scalar_one_or_none() is not None


async def disconnect(session: AsyncSession, connection_id: UUID, at: datetime) -> None:
    """Ends the connection and destroys its secrets."""
    await change(
        session, connection_id, soft_deleted_at=at, api_key=None, webhook_secret=None,
        webhook_token_hash=None, webhook_id=None,
    )  # fmt: skip


async def wake_messages(session: AsyncSession) -> None:
    """Lets messages that waited for a working connection go at once."""
    await session.execute(_WAKE, {"org": org_of(session)})


def key_context(org_id: UUID, connection_id: UUID) -> str:
    """Where a connection's API key is sealed for."""
    return f"org:{org_id}|transactional_api_key|{connection_id}"


def webhook_context(org_id: UUID, connection_id: UUID) -> str:
    """Where a webhook's address and signing key are sealed for."""
    return f"org:{org_id}|transactional_webhook|{connection_id}"


def sealed_for(row: Connection) -> dict[str, str]:
    """The connection's sealed columns and where each is sealed for."""
    return {
        "api_key": key_context(row.org_id, row.id),
        "webhook_secret": webhook_context(row.org_id, row.id),
    }


async def find_hook(session: AsyncSession, token_hash: bytes) -> tuple[UUID, UUID] | None:
    """(connection id, organisation id) of a webhook's address; for a session bound to nobody."""
    row = (
        await session.execute(
            text("select * from mcsync_transactional_hook(:wanted)"), {"wanted": token_hash}
        )
    ).one_or_none()
    return None if row is None else (row.connection_id, row.org_id)
