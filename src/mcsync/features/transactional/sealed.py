"""Everything of this feature that is sealed under master keys: for their rotation and their doctor."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Final

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from mcsync.core.db import org_of
from mcsync.core.resources import Resources
from mcsync.features.transactional import connections
from mcsync.features.transactional.service import context as message_context
from mcsync.features.transactional.service import own_context

_IDS: Final = text(
    "select id from transactional_messages where org_id = :org and payload is not null order by id"
)
_OWN_IDS: Final = text("""
select message_id, no from transactional_recipients where org_id = :org and own is not null
 order by message_id, no
""")
_OWN: Final = """select own from transactional_recipients
 where org_id = :org and message_id = :id and no = :no"""
_ONE: Final = "select payload from transactional_messages where org_id = :org and id = :id"


async def rewrap(resources: Resources, session: AsyncSession) -> int:
    """Seals the organisation's secrets under the active master key; how many were sealed anew.

    Contents one by one, since each may have megabytes. Raises ``SecretError`` where one cannot be opened.
    """
    count = await _rewrap_connection(resources, session)
    org_id = org_of(session)
    for message_id in (await session.scalars(_IDS, {"org": org_id})).all():
        here = {"org": org_id, "id": message_id}
        before = await session.scalar(text(f"{_ONE} for update"), here)
        if before is None:
            continue
        after = resources.keys.rewrap(before, message_context(org_id, message_id))
        if after != before:
            await session.execute(
                text(
                    "update transactional_messages set payload = :payload"
                    " where org_id = :org and id = :id"
                ),
                {**here, "payload": after},
            )
            count += 1
    return count + await _rewrap_own(resources, session)


async def _rewrap_own(resources: Resources, session: AsyncSession) -> int:
    org_id, count = org_of(session), 0
    for message_id, no in (await session.execute(_OWN_IDS, {"org": org_id})).all():
        here = {"org": org_id, "id": message_id, "no": no}
        before = await session.scalar(text(f"{_OWN} for update"), here)
        if before is None:
            continue
        after = resources.keys.rewrap(before, own_context(org_id, message_id, no))
        if after != before:
            await session.execute(
                text(
                    "update transactional_recipients set own = :own"
                    " where org_id = :org and message_id = :id and no = :no"
                ),
                {**here, "own": after},
            )
            count += 1
    return count


async def _rewrap_connection(resources: Resources, session: AsyncSession) -> int:
    live = await connections.get_live(session, lock=True)
    if live is None:
        return 0
    renewed: dict[str, str] = {}
    for column, where in connections.sealed_for(live).items():
        before = getattr(live, column)
        if before is not None and (after := resources.keys.rewrap(before, where)) != before:
            renewed[column] = after
    if renewed:
        await connections.change(session, live.id, **renewed)
    return len(renewed)


async def secrets(session: AsyncSession) -> AsyncIterator[tuple[str, str]]:
    """The organisation's envelopes and where each was sealed for, one at a time."""
    org_id = org_of(session)
    live = await connections.get_live(session)
    if live is not None:
        for column, where in connections.sealed_for(live).items():
            if (envelope := getattr(live, column)) is not None:
                yield envelope, where
    for message_id in (await session.scalars(_IDS, {"org": org_id})).all():
        found = await session.scalar(text(_ONE), {"org": org_id, "id": message_id})
        if found is not None:
            yield found, message_context(org_id, message_id)
    for message_id, no in (await session.execute(_OWN_IDS, {"org": org_id})).all():
        found = await session.scalar(text(_OWN), {"org": org_id, "id": message_id, "no": no})
        if found is not None:
            yield found, own_context(org_id, message_id, no)
