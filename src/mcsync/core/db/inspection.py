"""For the doctor: which role we are at PostgreSQL, whether row-level security binds it, who works."""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import select, text
from sqlalchemy.ext.asyncio import AsyncSession

from mcsync.core.db.platform import WorkerHeartbeat


@dataclass(frozen=True, slots=True)
class ServerAndRole:
    """What the server and the role of a connection are; ``version`` is e.g. 180006."""

    version: int
    role: str
    superuser: bool
    bypasses_rls: bool
    in_service_group: bool
    migrated: bool
    """Whether there is a database of mcsync at all; a role outside the group cannot read more of it."""


async def server_and_role(session: AsyncSession) -> ServerAndRole:
    """Asks the server of this session."""
    row = (
        await session.execute(
            text(
                """select current_setting('server_version_num')::int as version,
                          rolname as role, rolsuper as superuser, rolbypassrls as bypasses_rls,
                          exists (select from pg_roles g where g.rolname = 'mcsync_app'
                                  and pg_has_role(r.oid, g.oid, 'member')) as in_service_group,
                          to_regclass('alembic_version') is not null as migrated
                     from pg_roles r where rolname = current_user"""
            )
        )
    ).one()
    return ServerAndRole(*row)


async def heartbeats(session: AsyncSession) -> list[WorkerHeartbeat]:
    """Every worker that was seen lately; ``seen_at`` says when."""
    return list(await session.scalars(select(WorkerHeartbeat)))
