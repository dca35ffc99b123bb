"""For the doctor: what the server and our role are, and what waits, by set-based look-ups over all tenants."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession


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
    owner: bool
    """Whether the role owns the tables, so that it could turn row-level security off."""

    @property
    def unbound(self) -> str | None:
        """What the role is that row-level security does not bind; None where it does."""
        if self.superuser:
            return "a superuser"
        return "free of row-level security (BYPASSRLS)" if self.bypasses_rls else None


async def server_and_role(session: AsyncSession) -> ServerAndRole:
    """Asks the server of this session."""
    row = (
        await session.execute(
            text(
                """select current_setting('server_version_num')::int as version,
                          rolname as role, rolsuper as superuser, rolbypassrls as bypasses_rls,
                          exists (select from pg_roles g where g.rolname = 'mcsync_app'
                                  and pg_has_role(r.oid, g.oid, 'member')) as in_service_group,
                          to_regclass('alembic_version') is not null as migrated,
                          exists (select from pg_class c where c.oid = to_regclass('contacts')
                                  and pg_has_role(r.oid, c.relowner, 'member')) as owner
                     from pg_roles r where rolname = current_user"""
            )
        )
    ).one()
    return ServerAndRole(*row)


@dataclass(frozen=True, slots=True)
class Load:
    """``connections`` of at most ``most`` are taken at this server, whoever has them."""

    connections: int
    most: int


async def load(session: AsyncSession) -> Load:
    """How many connections of the server are taken. Needs no right of its own."""
    row = (
        await session.execute(
            text(
                """select coalesce(sum(numbackends), 0)::int,
                          current_setting('max_connections')::int
                          - current_setting('superuser_reserved_connections')::int
                          - coalesce(nullif(current_setting('reserved_connections', true), ''), '0')::int
                     from pg_stat_database"""
            )
        )
    ).one()
    return Load(*row)


@dataclass(frozen=True, slots=True)
class Staleness:
    """A table whose statistics say little of what is in it now.

    ``rows`` is what the planner believes, ``changed`` how many rows changed since the last ANALYZE.
    ``automatic``: autovacuum is going to analyse it.
    """

    table: str
    rows: int
    changed: int
    automatic: bool


_STALE = text("""
select s.relname as table, greatest(c.reltuples, 0)::bigint as rows, s.n_mod_since_analyze as changed,
       current_setting('autovacuum')::bool and current_setting('track_counts')::bool
       and not exists (select from unnest(c.reloptions) o
                       where o in ('autovacuum_enabled=false', 'autovacuum_enabled=off')) as automatic
from pg_stat_user_tables s join pg_class c on c.oid = s.relid
where s.schemaname = 'public' and s.n_mod_since_analyze > :changed
  and s.n_mod_since_analyze > greatest(c.reltuples, 0)
order by s.n_mod_since_analyze desc
""")


async def stale_statistics(session: AsyncSession, *, changed: int) -> list[Staleness]:
    """Tables of which more rows changed since the last ANALYZE than the planner believes they have.

    Those with at most ``changed`` such rows are left out. The worst first.
    """
    rows = await session.execute(_STALE, {"changed": changed})
    return [Staleness(**row._mapping) for row in rows]  # noqa: SLF001 - SQLAlchemy's public name


async def autovacuum(session: AsyncSession) -> bool:
    """Whether the server analyses and vacuums by itself."""
    return bool(
        await session.scalar(
            text(
                "select current_setting('autovacuum')::bool and current_setting('track_counts')::bool"
            )
        )
    )


async def spill(session: AsyncSession, *, rows: int = 20_000) -> None:
    """Lets the server sort so many rows on its disk, by default about a megabyte, and forget them again.

    Raises SQLAlchemy's ``DBAPIError`` with SQLSTATE 53100 where the disk is full.
    """
    await session.execute(text("set local work_mem = '64kB'"))  # too little for the rows
    await session.execute(
        text(
            "select max(n) from (select row_number() over (order by md5(g::text)) as n"
            " from generate_series(1, cast(:rows as integer)) g) sorted"
        ),
        {"rows": rows},
    )


async def clock(session: AsyncSession) -> float:
    """PostgreSQL's clock, in seconds since 1970."""
    return float(await session.scalar(text("select extract(epoch from clock_timestamp())")) or 0.0)


@dataclass(frozen=True, slots=True)
class Backlog:
    """One kind of work. ``due``: rows that nobody works on, counted up to 1,000; ``held``: rows that somebody
    works on, or did until lately; ``oldest_seconds``: how long the oldest due one has been due."""

    kind: str
    due: int
    held: int
    oldest_seconds: float


async def backlog(session: AsyncSession) -> list[Backlog]:
    """All kinds of work, over all organisations."""
    rows = await session.execute(text("select * from mcsync_backlog()"))
    return [Backlog(*row) for row in rows]


@dataclass(frozen=True, slots=True)
class WebhookState:
    """``endpoints`` of an organisation that are in one state, as of ``checked_at`` (the longest ago of them)."""

    org_id: UUID
    status: str
    error: str | None
    endpoints: int
    checked_at: datetime | None


async def webhook_states(session: AsyncSession) -> list[WebhookState]:
    """The webhooks of all organisations, by their state."""
    rows = await session.execute(text("select * from mcsync_webhook_states()"))
    return [WebhookState(*row) for row in rows]


@dataclass(frozen=True, slots=True)
class SealedUnder:
    """``secrets`` are sealed under master key ``key`` ("" for what is no envelope); one of their owners."""

    key: str
    secrets: int
    sample: UUID


async def sealed_keys(session: AsyncSession) -> list[SealedUnder]:
    """Which master keys the stored secrets need; the contents of waiting mail are left out."""
    rows = await session.execute(text("select * from mcsync_sealed_keys()"))
    return [SealedUnder(*row) for row in rows]


@dataclass(frozen=True, slots=True)
class TenantState:
    """An organisation, in figures.

    ``connected``: to an account of Mailchimp; ``needs_attention``: its key does not work; ``fields_gone``: a
    merge field that is fed exists no more; ``refused`` of the latest ``requests`` of its forms were not taken.
    """

    org_id: UUID
    connected: bool
    needs_attention: bool
    fields_gone: bool
    requests: int
    refused: int


async def tenant_states(session: AsyncSession, *, days: int) -> list[TenantState]:
    """Every organisation, oldest first. Of forms, at most the latest 200 each of the last ``days`` count."""
    rows = await session.execute(text("select * from mcsync_tenant_states(:days)"), {"days": days})
    return [TenantState(*row) for row in rows]
