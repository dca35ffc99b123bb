"""PostgreSQL and Redis: can they be used, by this role, with these settings, and do the clocks agree?"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING, Final

from mcsync.certificates import tls_problem
from mcsync.cli.checks.finding import Finding, short

if TYPE_CHECKING:
    from mcsync.core.db.inspection import Load, ServerAndRole
    from mcsync.core.db.pooler import Pooler
    from mcsync.core.resources import Resources

OLDEST_POSTGRES: Final = 150_000
OLDEST_REDIS: Final = 7
PATIENCE: Final = 5.0
CLOCK_WARNING: Final = 5.0
CLOCK_PROBLEM: Final = 30.0
_STALE_ROWS: Final = 20_000
_NEARLY_FULL: Final = 0.85
_FULL: Final = 0.97


async def database(resources: Resources) -> list[Finding]:
    """The server, our role there, the schema, its connections, clock and statistics."""
    return [finding async for finding in _database(resources)]


async def _database(resources: Resources) -> AsyncIterator[Finding]:
    from mcsync.core.db import inspection, migrations
    from mcsync.core.db.pooler import find_pooler

    try:
        async with asyncio.timeout(PATIENCE):
            pooler = await find_pooler(resources.db.engine)
        if pooler is not None:
            yield _pooler(pooler)
        if pooler is not None and pooler.problem is not None:
            return  # no statement can be relied on
        async with asyncio.timeout(PATIENCE), resources.db.system() as session:
            about = await inspection.server_and_role(session)
            load = await inspection.load(session)
            before = time.time()
            theirs = await inspection.clock(session)
            after = time.time()
            vacuuming = await inspection.autovacuum(session)
            stale = await inspection.stale_statistics(session, changed=_STALE_ROWS)
            at = await migrations.current(session)
    except Exception as error:  # noqa: BLE001 - whatever it is, the database cannot be used
        yield Finding("database", "problem", _why_not(error), _what_to_do(error))
        return
    version = f"PostgreSQL {about.version // 10_000}.{about.version % 10_000}"
    if about.version < OLDEST_POSTGRES:
        yield Finding("database", "problem", f"{version} is too old", "Use PostgreSQL 15 or newer.")
    else:
        yield Finding("database", "ok", f"{version}, as the role {about.role}")
    role = _role(about)
    yield role
    if role.state == "problem" and not about.in_service_group and at is None:
        yield Finding("migrations", "problem", f"{about.role} may not read them", role.fix)
        return
    yield _migrations(at)
    yield await _disk(resources)
    yield _connections(load, resources.settings.most_connections)
    yield clock("PostgreSQL", theirs, before, after)
    if not vacuuming:
        yield Finding(
            "autovacuum", "warning", "autovacuum or track_counts is off: tables grow and statistics grow stale",
            "Set autovacuum = on and track_counts = on in postgresql.conf, and reload.",
        )  # fmt: skip
    names = ", ".join(f"{one.table} ({one.changed:,} of {one.rows:,} rows)" for one in stale[:5])
    if not stale:
        yield Finding("statistics", "ok", "as fresh as they need to be")
    elif all(one.automatic for one in stale):
        yield Finding(
            "statistics", "warning", f"more rows changed than the planner knows of: {names}",
            "autovacuum analyses these tables within minutes; if it does not, run ANALYZE as their owner.",
        )  # fmt: skip
    else:
        yield Finding(
            "statistics", "problem",
            f"more rows changed than the planner knows of, and autovacuum is off: {names}",
            "Run ANALYZE as the tables' owner, and set autovacuum = on.",
        )  # fmt: skip


async def _disk(resources: Resources) -> Finding:
    from sqlalchemy.exc import DBAPIError

    from mcsync.core.db import inspection
    from mcsync.core.db.troubles import sqlstate_of

    try:
        async with asyncio.timeout(PATIENCE), resources.db.system() as session:
            await inspection.spill(session)
    except TimeoutError:
        return Finding(
            "disk", "warning", f"PostgreSQL did not write a megabyte within {PATIENCE:.0f} s",
            "Look at the load of its disk.",
        )  # fmt: skip
    except DBAPIError as error:
        if (sqlstate_of(error) or "").startswith("53"):
            return Finding("disk", "problem", short(error), _what_to_do(error))
        raise
    return Finding("disk", "ok", "PostgreSQL has room to write")


def _why_not(error: Exception) -> str:
    from mcsync.core.db.troubles import tls_words

    if (words := tls_words(error)) is not None:
        return words
    if isinstance(error, TimeoutError):
        return f"no answer within {PATIENCE:.0f} s"
    return short(error)


def _what_to_do(error: Exception) -> str:
    from mcsync.core.db.troubles import sqlstate_of, tls_words

    if tls_words(error) is not None:
        return (
            "Mend the certificate or the URL (docs/databases.md). Work waits and nothing is lost."
        )
    state = sqlstate_of(error) or ""
    if state == "53300":
        return (
            "Raise max_connections, or lower MCSYNC_DATABASE_POOL_SIZE or the number of processes."
        )
    if state.startswith("53"):
        return "The server lacks disk space or memory: make room there. Work waits and nothing is lost."
    return "Check MCSYNC_DATABASE_URL and the server."


def _pooler(pooler: Pooler) -> Finding:
    if pooler.problem is not None:
        return Finding(
            "pooler", "problem", "it loses prepared statements", pooler.problem.partition(". ")[2]
        )
    what = "transactions" if pooler.shares else "sessions"
    return Finding("pooler", "ok", f"between mcsync and PostgreSQL, pools {what}")


def _role(about: ServerAndRole) -> Finding:
    if about.unbound:
        return Finding(
            "role", "problem", f"{about.role} is {about.unbound}: one organisation could see another's rows",
            "Use a role of its own in MCSYNC_DATABASE_URL: mcsync migrate --service-role mcsync_service",
        )  # fmt: skip
    if about.migrated and not about.in_service_group:
        fix = f"mcsync migrate --service-role {about.role}"
        return Finding("role", "problem", f"{about.role} is not in the group mcsync_app", fix)
    return Finding("role", "ok", "bound by row-level security")


def _migrations(at: str | None) -> Finding:
    from mcsync.core.db import migrations

    head = migrations.head()
    match migrations.compared(at):
        case "ok":
            return Finding("migrations", "ok", f"at {head}")
        case "ahead":
            return Finding(
                "migrations", "warning", f"at {at}, which a newer version of mcsync made",
                "Bring this installation to that version as well.",
            )  # fmt: skip
    return Finding("migrations", "problem", f"at {at or 'nothing'}, not {head}", "mcsync migrate")


def _connections(load: Load, each: int) -> Finding:
    """``each``: connections that one process opens at most."""
    if load.most < each:
        return Finding(
            "connections", "problem",
            f"each process may open {each}, and the server allows {load.most} in all",
            "Raise max_connections, or lower MCSYNC_DATABASE_POOL_SIZE (docs/databases.md).",
        )  # fmt: skip
    detail = f"{load.connections} of {load.most} are taken"
    if load.connections < load.most * _NEARLY_FULL:
        return Finding("connections", "ok", detail)
    state = "warning" if load.connections < load.most * _FULL else "problem"
    return Finding(
        "connections", "warning" if state == "warning" else "problem", f"{detail}: processes may be refused soon",
        "Raise max_connections, or lower MCSYNC_DATABASE_POOL_SIZE or the number of processes.",
    )  # fmt: skip


def clock(
    whose: str, theirs: float, before: float, after: float, *, precision: float = 0.0
) -> Finding:
    """Compares a server's clock, read between two moments of ours, with ours (all seconds since 1970).

    ``precision``: by so much the server's clock may be cut off.
    """
    off = theirs - after if theirs > after else min(theirs + precision - before, 0.0)
    name = f"clock of {whose}"
    if abs(off) < CLOCK_WARNING:
        return Finding(name, "ok", f"within {CLOCK_WARNING:.0f} s of this host's")
    detail = f"{abs(off):.0f} s {'ahead of' if off > 0 else 'behind'} this host's"
    fix = "Let both hosts follow a time server (chrony or systemd-timesyncd), and look which one is wrong."
    return Finding(name, "problem" if abs(off) >= CLOCK_PROBLEM else "warning", detail, fix)


async def redis(resources: Resources) -> list[Finding]:
    """The server's version, what it does when its memory is full, and its clock."""
    try:
        async with asyncio.timeout(PATIENCE):
            about = await resources.redis.info()
            before = time.time()
            seconds, micros = await resources.redis.time()
            after = time.time()
    except Exception as error:  # noqa: BLE001 - whatever it is, Redis cannot be used
        insecure = tls_problem(
            error, of="Redis", authority="the parameter ssl_ca_certs of MCSYNC_REDIS_URL"
        )
        return [
            Finding(
                "redis", "problem", insecure or _why_not(error),
                "Check MCSYNC_REDIS_URL and the server. Nothing is lost meanwhile: work waits in PostgreSQL.",
            )
        ]  # fmt: skip
    version = str(about.get("valkey_version") or about.get("redis_version") or "?")
    name = "Valkey" if "valkey_version" in about else "Redis"
    major = version.split(".", maxsplit=1)[0]
    found = [Finding("redis", "ok", f"{name} {version}")]
    if major.isdigit() and int(major) < OLDEST_REDIS:
        found = [
            Finding("redis", "problem", f"{name} {version} is too old", "Use version 7 or newer.")
        ]
    found.append(_eviction(about))
    found.append(clock(name, seconds + micros / 1e6, before, after))
    return found


def _eviction(about: dict[str, object]) -> Finding:
    policy = str(about.get("maxmemory_policy") or "unknown")
    if policy.startswith("allkeys"):
        limit = str(about.get("maxmemory_human") or "")
        bounded = bool(about.get("maxmemory"))
        when = f"at {limit}" if bounded else "as soon as a maxmemory is set"
        return Finding(
            "redis eviction", "problem" if bounded else "warning",
            f"{policy}: keys without expiry, among them the calls under way, may be dropped {when}",
            "Set maxmemory-policy to noeviction, or to one that begins with volatile-.",
        )  # fmt: skip
    return Finding("redis eviction", "ok", policy)
