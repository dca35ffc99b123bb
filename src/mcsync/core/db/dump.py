"""Backups with ``pg_dump`` and ``pg_restore``: complete under row-level security, or not at all.

The owner of the tables is bound by row-level security like everybody, so a plain ``pg_dump`` fails. Here
it becomes the role ``mcsync_backup`` for the time of the dump, whom a policy on every table lets read
(``docs/backups.md``). No superuser is needed, neither for the dump nor for the restore.
"""

from __future__ import annotations

import asyncio
import os
import re
import tempfile
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Final, TypeVar

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from mcsync.core.db.pg_tools import ToolFailedError, find_tool, libpq_target, run_tool
from mcsync.core.db.session import make_engine

BACKUP_ROLE: Final = "mcsync_backup"
DEFINERS: Final = ("mcsync_lookup", "mcsync_eraser")
"""The owners of functions that look across organisations. Nothing logs in as them."""
GROUPS: Final = ("mcsync_app", *DEFINERS, BACKUP_ROLE)
_SET_OPTION_SINCE: Final = 16
_LOCK_WAIT: Final = "60s"
_FUNCTION: Final = re.compile(
    r"^\d+; \d+ \d+ FUNCTION public (?P<signature>.+) (?P<owner>\S+)$", re.MULTILINE
)
_T = TypeVar("_T")


class BackupRefusedError(Exception):
    """It cannot be done as asked; the message says what to do."""


@dataclass(frozen=True, slots=True)
class Backup:
    """A complete backup: its file, size in bytes, and the revision of the database in it."""

    file: Path
    size: int
    revision: str | None


@dataclass(frozen=True, slots=True)
class _Server:
    major: int
    role: str
    unbound: bool
    """Whether row-level security does not bind the role: a superuser, or one that bypasses it."""
    may_become: bool
    """Whether the role can become ``mcsync_backup``."""
    hidden: list[str]
    """Tables of which ``mcsync_backup`` would not see every row."""


def back_up(url: str, file: Path, *, pg_bin: Path | None = None) -> Backup:
    """Writes a consistent backup of the database to a new file, which only its owner can read.

    The file gets its name when it is complete and was read back; until then it does not exist. Raises
    :class:`BackupRefusedError`, ``ToolError``, ``ToolFailedError`` and ``OSError``.
    """
    if file.exists():
        message = f"{file} exists already, and a backup replaces nothing: choose another name."
        raise BackupRefusedError(message)
    server = asyncio.run(_with(url, _inspect))
    dump = find_tool("pg_dump", server.major, pg_bin)
    check = find_tool("pg_restore", server.major, pg_bin or dump.parent)
    target = libpq_target(url)
    descriptor, name = tempfile.mkstemp(dir=file.parent, prefix=f".{file.name}.", suffix=".partial")
    partial = Path(name)
    try:
        os.close(descriptor)
        run_tool(
            dump,
            [
                "--format=custom", f"--file={partial}", "--no-password", f"--lock-wait-timeout={_LOCK_WAIT}",
                *_as_backup_role(server), "--dbname", target.conninfo,
            ],
            target.environment,
        )  # fmt: skip
        revision = _archived_revision(check, partial)
        run_tool(check, [f"--file={os.devnull}", partial], {})  # reads every block of it
        _keep(partial, file)
    finally:
        partial.unlink(missing_ok=True)
    return Backup(file, file.stat().st_size, revision)


def _keep(partial: Path, file: Path) -> None:
    """Gives the file its name once it is safe against a loss of power."""
    _flush(partial, os.O_RDONLY)
    partial.rename(file)
    _flush(file.parent, os.O_RDONLY | os.O_DIRECTORY)


def _flush(path: Path, flags: int) -> None:
    descriptor = os.open(path, flags)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _as_backup_role(server: _Server) -> list[str]:
    if server.unbound:
        return []
    if not server.may_become:
        message = (
            f"The role {server.role} is bound by row-level security and cannot become {BACKUP_ROLE}:"
            " use the URL of the owner or of a member of that role. On a database of an older"
            " version of mcsync the role does not exist yet: take the backup before the upgrade as a"
            " superuser, or as a snapshot of the server."
        )
        raise BackupRefusedError(message)
    if server.hidden:
        message = (
            f"{BACKUP_ROLE} cannot read all of {', '.join(server.hidden)}, so the backup would be"
            " incomplete. Are there tables of others in this database? Otherwise `mcsync migrate`"
            " gives it the rights."
        )
        raise BackupRefusedError(message)
    return [f"--role={BACKUP_ROLE}", "--enable-row-security"]


def restore(url: str, file: Path, *, pg_bin: Path | None = None) -> Backup:
    """Restores a backup into an empty database, wholly or not at all, with grants, policies and owners.

    The role of the URL owns the tables from then on; the groups of mcsync are made where the server
    lacks them. Raises :class:`BackupRefusedError` (among others for a database that is not empty),
    ``ToolError`` and ``ToolFailedError``.
    """
    if not file.is_file():
        message = f"There is no file {file}."
        raise BackupRefusedError(message)
    major, owned = asyncio.run(_with(url, _contents))
    if owned:
        message = (
            f"The database is not empty (it has {', '.join(owned)}), and a restore replaces nothing."
            " Create a new database, restore into it, and let the URLs of the processes name it."
        )
        raise BackupRefusedError(message)
    tool = find_tool("pg_restore", major, pg_bin)
    revision = _archived_revision(tool, file)
    functions = [
        found
        for found in _FUNCTION.finditer(run_tool(tool, ["--list", file], {}))
        if found["owner"] in DEFINERS
    ]
    owners = [f"alter function public.{f['signature']} owner to {f['owner']}" for f in functions]
    target = libpq_target(url)
    asyncio.run(_with(url, partial(_prepare, major=major)))
    run_tool(
        tool,
        ["--single-transaction", "--exit-on-error", "--no-owner", "--no-password",
         "--dbname", target.conninfo, file],
        target.environment,
    )  # fmt: skip

    async def finish(connection: AsyncConnection) -> None:
        for role in DEFINERS:
            await connection.exec_driver_sql(f"grant create on schema public to {role}")
        for statement in owners:
            await connection.exec_driver_sql(statement)
        for role in DEFINERS:
            await connection.exec_driver_sql(f"revoke create on schema public from {role}")
        # A restored database has no statistics, and plans without them are slow.
        await connection.exec_driver_sql("analyze")

    asyncio.run(_with(url, finish))
    return Backup(file, file.stat().st_size, revision)


def _archived_revision(tool: Path, file: Path) -> str | None:
    """The revision in a backup. Raises :class:`BackupRefusedError` for any other file."""
    try:
        rows = run_tool(
            tool,
            ["--data-only", "--schema=public", "--table=alembic_version", "--file=-", file],
            {},
        )
    except ToolFailedError as error:
        message = f"{file} cannot be read as a backup: {error}"
        raise BackupRefusedError(message) from error
    found = re.search(r"^COPY public\.alembic_version .*\n(\S+)\n\\\.$", rows, re.MULTILINE)
    if found is None or found[1] == "\\.":
        message = f"{file} is not the backup of a database of mcsync."
        raise BackupRefusedError(message)
    return found[1]


async def _with(url: str, work: Callable[[AsyncConnection], Awaitable[_T]]) -> _T:
    engine = make_engine(url, pool_size=1, application_name="mcsync_backup")
    try:
        async with engine.begin() as connection:
            return await work(connection)
    finally:
        await engine.dispose()


async def _inspect(connection: AsyncConnection) -> _Server:
    row = (
        await connection.execute(
            text("""
                select current_setting('server_version_num')::int / 10000 as major,
                       r.rolname as role, r.rolsuper or r.rolbypassrls as unbound,
                       coalesce((select pg_has_role(r.oid, b.oid, case
                                   when current_setting('server_version_num')::int >= 160000
                                   then 'set' else 'member' end)
                                   from pg_roles b where b.rolname = :backup), false) as may_become
                  from pg_roles r where r.rolname = current_user"""),
            {"backup": BACKUP_ROLE},
        )
    ).one()
    hidden: list[str] = []
    if row.may_become:
        found = await connection.scalars(
            text("""
                select c.oid::regclass::text from pg_class c
                  join pg_namespace n on n.oid = c.relnamespace
                 where c.relkind in ('r', 'p', 'S', 'm') and n.nspname !~ '^pg_'
                   and n.nspname <> 'information_schema'
                   and (not has_table_privilege(:backup, c.oid, 'select')
                        or (c.relrowsecurity and not exists (
                            select from pg_policy p where p.polrelid = c.oid
                               and p.polname = 'backup' and p.polcmd in ('r', '*'))))
                 order by 1"""),
            {"backup": BACKUP_ROLE},
        )
        hidden = [str(name) for name in found]
    return _Server(row.major, row.role, row.unbound, row.may_become, hidden)


async def _contents(connection: AsyncConnection) -> tuple[int, list[str]]:
    """The server's major version, and up to five things in the schema that no extension brought."""
    major = await connection.scalar(
        text("select current_setting('server_version_num')::int / 10000")
    )
    found = await connection.scalars(
        text("""
            select c.name from (
                select oid, relname::text as name, 'pg_class'::regclass as kind from pg_class
                 where relnamespace = 'public'::regnamespace and relkind in ('r', 'p', 'v', 'm', 'f', 'S')
                union all
                select oid, proname::text || '()', 'pg_proc'::regclass from pg_proc
                 where pronamespace = 'public'::regnamespace) c
             where not exists (select from pg_depend d where d.objid = c.oid and d.classid = c.kind
                                  and d.deptype = 'e')
             order by 1 limit 5""")
    )
    return int(major or 0), [str(name) for name in found]


async def _prepare(connection: AsyncConnection, *, major: int) -> None:
    """Makes the groups that grants, policies and owners in the backup name; ``major``: the server's version."""
    # From 16 on, whoever makes a role is a member of it that may not become it.
    right = "set" if major >= _SET_OPTION_SINCE else "member"
    for role in GROUPS:
        await connection.exec_driver_sql(f"""
            do $$
            begin
                if not exists (select from pg_roles where rolname = '{role}') then
                    create role {role} nologin nosuperuser nobypassrls;
                end if;
                if '{role}' <> 'mcsync_app' and not (
                    select rolsuper or pg_has_role(oid, '{role}', '{right}')
                      from pg_roles where rolname = current_user) then
                    execute format('grant {role} to %I', current_user);
                end if;
            end $$""")
