"""Migrations as an owner runs them whom row-level security binds, step by step."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from urllib.parse import urlsplit
from uuid import uuid4

import asyncpg
import pytest
from alembic import command
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError

from mcsync.core.db import migrations
from mcsync.core.db.session import make_engine
from mcsync.core.web.errors import as_mcsync_error
from tests.support.servers import Addresses


async def test_the_history_of_addresses_can_be_taken_back_and_that_of_contacts_stays(
    owner_url: str, servers: Addresses
) -> None:
    await asyncio.to_thread(migrations.upgrade, owner_url)
    database = urlsplit(owner_url).path.removeprefix("/")
    onlooker = await asyncpg.connect(servers.superuser_url(database))
    try:
        for entity in (None, "E-1"):
            await onlooker.execute(
                """insert into preference_events (org_id, entity_type, entity_id, address_key, status,
                       effective_at, source, actor_kind, applied)
                   values ($1, $2, $3, $4, 'opted_out', now(), 'test', 'cli', true)""",
                uuid4(), entity and "employee", entity, uuid4(),
            )  # fmt: skip
        config = migrations.config(owner_url)
        await asyncio.to_thread(command.downgrade, config, "0008_marketing_permissions")
        kept = await onlooker.fetch("select entity_id from preference_events")
        assert [row["entity_id"] for row in kept] == ["E-1"]
        await asyncio.to_thread(migrations.upgrade, owner_url)
        await asyncio.to_thread(migrations.check, owner_url)
        assert await onlooker.fetchval(
            "select relforcerowsecurity from pg_class where relname = 'preference_events'"
        )
    finally:
        await onlooker.close()


async def test_a_migration_says_who_blocks_it_and_goes_on_when_they_are_done(
    owner_url: str, servers: Addresses
) -> None:
    await asyncio.to_thread(migrations.upgrade, owner_url)
    await asyncio.to_thread(
        command.downgrade, migrations.config(owner_url), "0014_opt_outs_in_broken_rows"
    )
    database = urlsplit(owner_url).path.removeprefix("/")
    idler = await asyncpg.connect(
        servers.superuser_url(database), server_settings={"application_name": "a long report"}
    )
    try:
        pid = idler.get_server_pid()
        await idler.execute("begin; select count(*) from audience_members")

        with pytest.raises(migrations.MigrationBlockedError) as caught:
            await asyncio.to_thread(migrations.upgrade, owner_url)
        assert f"process {pid} of PostgreSQL" in str(caught.value)
        assert "application a long report" in str(caught.value)
        assert await idler.fetchval("select version_num from alembic_version") == (
            "0014_opt_outs_in_broken_rows"
        )

        told: list[str] = []
        loop = asyncio.get_running_loop()
        blocked = asyncio.Event()

        def tell(who: str) -> None:
            told.append(who)
            loop.call_soon_threadsafe(blocked.set)

        work = asyncio.create_task(
            asyncio.to_thread(migrations.upgrade, owner_url, patience_seconds=300, on_blocked=tell)
        )
        await blocked.wait()
        await idler.execute("commit")
        await work
        assert str(pid) in told[0]
        await asyncio.to_thread(migrations.check, owner_url)
    finally:
        await idler.close()


async def test_two_migrators_at_once_do_the_work_once(owner_url: str) -> None:
    environment = {k: v for k, v in os.environ.items() if not k.startswith("MCSYNC_")}
    both = [
        await asyncio.create_subprocess_exec(
            sys.executable, "-m", "mcsync", "migrate", "--json",
            env=environment | {"MCSYNC_MIGRATION_DATABASE_URL": owner_url},
            stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        )
        for _ in range(2)
    ]  # fmt: skip
    for process in both:
        output, errors = await process.communicate()
        assert process.returncode == 0, errors
        assert json.loads(output) == {"revision": migrations.head()}
    await asyncio.to_thread(migrations.check, owner_url)


async def test_a_database_of_a_newer_version_is_left_as_it_is(owner_url: str) -> None:
    assert await asyncio.to_thread(migrations.upgrade, owner_url) == migrations.head()
    owner = await asyncpg.connect(owner_url)
    try:
        await owner.execute("update alembic_version set version_num = '9999_of_tomorrow'")
        assert await asyncio.to_thread(migrations.upgrade, owner_url) == "9999_of_tomorrow"
        kept = await owner.fetchval("select version_num from alembic_version")
        assert kept == "9999_of_tomorrow"
    finally:
        await owner.close()


async def test_a_request_that_a_migration_cuts_off_is_to_be_repeated(owner_url: str) -> None:
    engine = make_engine(owner_url, pool_size=1)
    read = text("select * from changing")
    try:
        async with engine.begin() as connection:
            await connection.execute(text("create table changing (a int)"))
        async with engine.begin() as connection:
            await connection.execute(read)
        migrator = await asyncpg.connect(owner_url)
        await migrator.execute("alter table changing add column b int")
        await migrator.close()

        with pytest.raises(DBAPIError) as caught:
            async with engine.begin() as connection:
                await connection.execute(read)

        told = as_mcsync_error(caught.value)
        assert (told.status, told.code) == (503, "unavailable")
        async with engine.begin() as connection:
            assert list((await connection.execute(read)).keys()) == ["a", "b"]
    finally:
        await engine.dispose()


async def test_statistics_of_owner_columns_go_and_nothing_is_written_anew(
    owner_url: str, servers: Addresses
) -> None:
    config = migrations.config(owner_url)
    await asyncio.to_thread(command.upgrade, config, "0016_what_waits")
    onlooker = await asyncpg.connect(servers.superuser_url(urlsplit(owner_url).path[1:]))
    shape = """select (select array_agg((relname, relfilenode) order by relname) from pg_class
                       where relname in ('contacts', 'uq_contacts_entity', 'ix_contacts_address')),
                      (select array_agg(p order by p.tablename, p.policyname) from pg_policies p)"""
    try:
        await onlooker.execute(
            """insert into organisations (name, hash_key) values ('Acme', '');
               insert into contacts (org_id, entity_type, entity_id)
               select id, 'employee', n::text from organisations, generate_series(1, 1000) n;
               analyze contacts"""
        )
        before = await onlooker.fetchrow(shape)
        await asyncio.to_thread(command.upgrade, config, "0017_key_statistics")
        assert await onlooker.fetchrow(shape) == before
        await onlooker.execute("analyze contacts")
        known = "select attname from pg_stats where tablename = 'contacts'"
        columns = {row["attname"] for row in await onlooker.fetch(known)}
        assert "entity_id" in columns
        assert not {"org_id", "source_id"} & columns
    finally:
        await onlooker.close()
