"""The append-only history of consent: how its entries are made and read.

An entry is of a contact, or of an address that no contact has: that one names no entity, and the address
by its keyed hash alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final
from uuid import UUID

from sqlalchemy import ColumnElement, select, text
from sqlalchemy.ext.asyncio import AsyncSession
from uuid6 import uuid7

from mcsync.core.db import org_of
from mcsync.features.preferences.models import PreferenceEvent

# The ids of one statement are one UUIDv7 with the row counted in, as in the merge of contacts: made one by
# one they cost a quarter of it.
ID: Final = "cast(:head || lpad(to_hex(n), 8, '0') || :tail as uuid)"
"""The id of row ``n``; binds what :func:`numbers` answers."""

NUMBERED: Final = ID.replace("(n)", "(row_number() over ())")
"""The id of each row of a select that counts them by itself."""

_OF_ADDRESSES: Final = f"""
insert into preference_events (id, org_id, address_key, status, effective_at, source, proof, actor_kind,
    actor_id, applied, reason)
select {NUMBERED}, :org, address_key, status, at, source, proof, :actor_kind, :actor_id, reason is null,
       reason
from ({{stated}}) itself
"""


def remember_of_addresses(stated: str) -> str:
    """The statement that remembers what was said of addresses themselves, also for use in a CTE.

    ``stated``: a select of address_key, status, at, source, proof and reason (null: it was applied). Binds
    org, actor_kind, actor_id and what :func:`numbers` answers.
    """
    return _OF_ADDRESSES.format(stated=stated)


def numbers() -> dict[str, str]:
    """New ids for one statement."""
    base = uuid7().hex
    return {"head": base[:20], "tail": base[28:]}


async def of_contact(
    session: AsyncSession, entity_type: str, entity_id: str, *, before: UUID | None, limit: int
) -> Sequence[PreferenceEvent]:
    """The history of one contact's consent, newest first."""
    return await _page(
        session, before, limit,
        PreferenceEvent.entity_type == entity_type, PreferenceEvent.entity_id == entity_id,
    )  # fmt: skip


async def of_address(
    session: AsyncSession, address_key: UUID, *, before: UUID | None, limit: int
) -> Sequence[PreferenceEvent]:
    """Everything stated under an address, of contacts who had it then and of itself, newest first."""
    return await _page(session, before, limit, PreferenceEvent.address_key == address_key)


async def _page(
    session: AsyncSession, before: UUID | None, limit: int, *whose: ColumnElement[bool]
) -> Sequence[PreferenceEvent]:
    query = select(PreferenceEvent).where(PreferenceEvent.org_id == org_of(session), *whose)
    if before is not None:
        query = query.where(PreferenceEvent.id < before)
    query = query.order_by(PreferenceEvent.id.desc()).limit(limit)
    return (await session.execute(query)).scalars().all()


_KNOWN = """
select exists (select from contacts where org_id = :org and address_hash = :hash)
    or exists (select from address_consents where org_id = :org and address_key = :key)
    or exists (select from preference_events where org_id = :org and address_key = :key)
"""


async def address_is_known(session: AsyncSession, address_hash: UUID, address_key: UUID) -> bool:
    """Whether a contact has the address, or anything was ever stated under it."""
    found = await session.scalar(
        text(_KNOWN), {"org": org_of(session), "hash": address_hash, "key": address_key}
    )
    return bool(found)
