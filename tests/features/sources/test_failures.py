"""Sources that refuse, hang, lie or leak: what is told, and what never is."""

from __future__ import annotations

import asyncio
import io
import json
import os
import shutil
import signal
import socket
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest

from mcsync.core.errors import BadRequestError, McsyncError, UnavailableError
from mcsync.core.settings import Settings
from mcsync.features.sources import drivers, execute, service
from mcsync.features.sources.drivers.url import read_url
from mcsync.features.sources.errors import SourceError
from mcsync.features.sources.schemas import PullInput
from tests.features.sources.world import QUERY, World, tally
from tests.support.authority import Authority
from tests.support.logs import captured_logs
from tests.support.tls_server import TlsServer

ENDLESS = {
    "postgresql": "select count(*) as emp_no, 'x@y.example' as mail"
    " from generate_series(1, 100000) a, generate_series(1, 100000) b",
    "mysql": "select count(*) as emp_no, 'x@y.example' as mail from seq_1_to_1000000 a, seq_1_to_100000 b",
    "sqlite": "with recursive n(i) as (select 1 union all select i + 1 from n where i < 1e10)"
    " select count(*) as emp_no, 'x@y.example' as mail from n",
}
PLAIN = {"columns": {"entityId": "emp_no", "email": "mail"}}


@pytest.fixture
def log() -> Iterator[io.StringIO]:
    """What is logged during the test, as an operator would get it."""
    with captured_logs() as stream:
        yield stream


def file_of(world: World) -> Path:
    """Where a SQLite home is."""
    return Path(read_url(world.home.url).database)


def damage(path: Path) -> None:
    path.write_bytes(b"not a database" * 1000)


async def refused(world: World, **given: Any) -> McsyncError:
    with pytest.raises(McsyncError) as caught:
        await world.source(**given)
    assert await world.onlooker.fetchval("select count(*) from sources") == 0
    return caught.value


class TestWhatTheDatabaseRefuses:
    async def test_bad_sql_is_told_in_its_own_words(self, world: World) -> None:
        error = await refused(world, query="select emp_no, mial from people")
        assert error.code == "source_query_refused"
        assert "mial" in error.detail
        assert isinstance(error, BadRequestError)

    @pytest.mark.parametrize("home", ["sqlite_home"], indirect=True)
    async def test_a_file_that_is_no_database_is_told(self, world: World) -> None:
        await world.people([1])
        await world.source()
        damage(file_of(world))
        view = await world.pull()
        assert view.status == "failed"
        assert view.error is not None
        assert view.error.code == "source_file_damaged"

    async def test_a_statement_that_takes_too_long_is_ended(self, world: World) -> None:
        error = await refused(world, query=ENDLESS[world.home.kind], timeout_seconds=1, **PLAIN)
        assert error.code == "source_timeout"
        assert isinstance(error, UnavailableError)

    async def test_a_wrong_mapping_names_what_is_missing(self, world: World) -> None:
        error = await refused(world, columns={"entityId": "emp_no", "email": "e_mail"})
        assert error.code == "source_mapping_wrong"
        assert "email=e_mail" in error.detail
        error = await refused(world, constants={})
        assert "entityType" in error.detail
        error = await refused(world, mode="watermark", watermark_column="changed_on")
        assert "changed_on" in error.detail

    async def test_what_writes_behind_a_select_is_refused(self, postgres_world: World) -> None:
        world = postgres_world
        await world.home.run(
            "create function bump() returns integer language sql as"
            " $$ insert into people (emp_no) values (99) returning emp_no $$"
        )
        error = await refused(
            world, query="select bump() as emp_no, 'x@y.example' as mail", **PLAIN
        )
        assert error.code == "source_write_refused"
        assert await world.home.ask("select * from people") == []

    @pytest.mark.parametrize("home", ["maria_home"], indirect=True)
    async def test_what_writes_behind_a_select_is_refused_by_mariadb(self, world: World) -> None:
        await world.home.run(
            "create function bump() returns integer modifies sql data begin"
            " insert into people (emp_no) values (99); return 99; end"
        )
        error = await refused(
            world, query="select bump() as emp_no, 'x@y.example' as mail", **PLAIN
        )
        assert error.code == "source_write_refused"
        assert await world.home.ask("select * from people") == []

    @pytest.mark.parametrize("home", ["sqlite_home"], indirect=True)
    async def test_sqlite_only_reads_whatever_the_statement(self, world: World) -> None:
        url = drivers.read_url(world.home.url)
        async with drivers.reading(url, seconds=5) as reader:
            for statement in (
                "delete from people",
                "attach ':memory:' as m",
                "pragma user_version = 3",
            ):
                with pytest.raises(SourceError) as caught:
                    await reader.open(statement)
                assert caught.value.code == "source_write_refused"

    async def test_nobody_listens(self, world: World) -> None:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        for url in (
            f"postgresql://u:s3cret@127.0.0.1:{port}/d",
            f"mysql://u:s3cret@127.0.0.1:{port}/d",
        ):
            error = await refused(world, url=url)
            assert error.code == "source_unreachable"
            assert "s3cret" not in repr(error.detail)

    @pytest.mark.parametrize("home", ["maria_home"], indirect=True)
    async def test_a_wrong_password(self, world: World) -> None:
        right = quote("p@ss:w/rd", safe="")
        error = await refused(world, url=world.home.url.replace(right, "wr0ng"))
        assert error.code == "source_login_refused"

    @pytest.mark.parametrize("home", ["sqlite_home"], indirect=True)
    async def test_a_file_that_is_not_there_is_not_made(self, world: World) -> None:
        error = await refused(world, url=world.home.url + ".gone")
        assert error.code == "source_unreachable"

    async def test_tls_that_fails_is_told_with_its_reason(
        self, postgres_world: World, tmp_path: Path
    ) -> None:
        authority = Authority(tmp_path)
        query = f"sslmode=verify-full&sslrootcert={authority.file}"
        with TlsServer(postgres_world.home.url, "postgres", authority.server()) as server:
            for context, said in (
                (authority.server(days=(-3, -1)), "has expired"),
                (authority.server(name="db.example"), "for another name"),
                (None, "offers no TLS"),
            ):
                server.context = context
                error = await refused(postgres_world, url=server.url(query))
                assert error.code == "source_tls_failed"
                assert said in error.detail

    async def test_a_parameter_that_is_not_understood_is_named(self, postgres_world: World) -> None:
        error = await refused(postgres_world, url=postgres_world.home.url + "?search_path=hr")
        assert error.code == "invalid_source_url"
        assert "search_path" in error.detail


class TestSecrets:
    async def test_rows_never_reach_errors_or_logs(
        self, postgres_world: World, log: io.StringIO
    ) -> None:
        world = postgres_world
        await world.people([1, 2], mail="canary{}@bird.example")
        query = "select emp_no, mail::integer as mail from people"
        await world.source(query=query, check=False, **PLAIN)
        view = await world.pull()
        assert view.status == "failed"
        assert view.error is not None
        assert view.error.code == "source_query_refused"
        told = view.model_dump_json() + log.getvalue()
        assert "22P02" in told
        assert "canary" not in told
        assert "Traceback" not in log.getvalue()

    @pytest.mark.parametrize("home", ["maria_home"], indirect=True)
    async def test_credentials_are_sealed_and_shown_nowhere(
        self, world: World, log: io.StringIO
    ) -> None:
        await world.people([1])
        view = await world.source()
        await world.pulled()
        assert view.place == f"127.0.0.1:{world.home.url.rpartition(':')[2]}"
        secret = ("p@ss:w/rd", quote("p@ss:w/rd", safe=""))
        stored = str([dict(r) for r in await world.onlooker.fetch("select * from sources")])
        stored += str([dict(r) for r in await world.onlooker.fetch("select * from source_pulls")])
        stored += str([dict(r) for r in await world.onlooker.fetch("select * from audit_entries")])
        for text in (stored, log.getvalue(), view.model_dump_json()):
            assert not [one for one in secret if one in text]

    @pytest.mark.parametrize("home", ["sqlite_home"], indirect=True)
    async def test_an_envelope_opens_only_in_its_row_and_is_gone_with_it(
        self, world: World
    ) -> None:
        await world.source()
        await world.source(name="other")
        await world.onlooker.execute(
            "update sources set url = (select url from sources where name = 'other') where name = 'hr'"
        )
        view = await world.pull()
        assert view.error is not None
        assert view.error.code == "source_url_unreadable"
        await service.remove(world.resources, world.actor, "hr")
        assert (await world.source_row())["url"] is None


@pytest.mark.parametrize("home", ["sqlite_home"], indirect=True)
class TestLives:
    async def test_a_passing_trouble_is_tried_again_and_then_told(self, world: World) -> None:
        await world.people([1])
        source = await world.source()
        await world.onlooker.execute("update sources set timeout_seconds = 1, query = $1",
                                     ENDLESS["sqlite"])  # fmt: skip
        asked = await service.request_pull(
            world.resources, world.actor, PullInput.model_validate({"id": str(source.id)})
        )
        for attempt in range(1, 7):
            await execute.work_on(
                world.resources, world.org.id, asked.id, owner="w", stopping=asyncio.Event()
            )
            row = await world.onlooker.fetchrow("select * from source_pulls")
            assert row is not None
            assert row["status"] == ("pulling" if attempt < 6 else "failed")
            assert "source_timeout" in row["error"]
            await world.onlooker.execute("update source_pulls set next_attempt_at = now()")
        assert (await world.source_row())["status_code"] == "source_timeout"

    async def test_who_asks_again_does_not_wait_for_the_next_attempt(self, world: World) -> None:
        await world.people([1])
        source = await world.source()
        given = PullInput.model_validate({"id": str(source.id)})
        path = file_of(world)
        away = path.with_suffix(".away")
        shutil.move(path, away)

        async def work() -> bool:
            asked = await service.request_pull(world.resources, world.actor, given)
            return await execute.work_on(
                world.resources, world.org.id, asked.id, owner="w", stopping=asyncio.Event()
            )

        assert await work()
        row = await world.onlooker.fetchrow("select status, attempts from source_pulls")
        assert tuple(row or ()) == ("pulling", 1)
        shutil.move(away, path)
        assert await work()
        rows = await world.onlooker.fetch("select status, attempts from source_pulls")
        assert [tuple(row) for row in rows] == [("succeeded", 1)]

    async def test_two_workers_do_it_once(self, world: World) -> None:
        await world.people(range(1, 50))
        source = await world.source()
        asked = await service.request_pull(
            world.resources, world.actor, PullInput.model_validate({"id": str(source.id)})
        )
        worked = await asyncio.gather(*(
            execute.work_on(
                world.resources, world.org.id, asked.id, owner=f"w{n}", stopping=asyncio.Event()
            )
            for n in range(3)
        ))  # fmt: skip
        assert sorted(worked) == [False, False, True]
        assert await world.onlooker.fetchval("select count(*) from contact_imports") == 1

    async def test_a_worker_that_stops_hands_over_at_once(self, world: World) -> None:
        await world.people([1])
        source = await world.source()
        await world.onlooker.execute("update sources set query = $1", ENDLESS["sqlite"])
        asked = await service.request_pull(
            world.resources, world.actor, PullInput.model_validate({"id": str(source.id)})
        )
        stopping = asyncio.Event()
        asyncio.get_running_loop().call_later(0.5, stopping.set)
        await execute.work_on(world.resources, world.org.id, asked.id, owner="w", stopping=stopping)
        await world.onlooker.execute("update sources set query = $1", QUERY)
        assert await execute.work_on(
            world.resources, world.org.id, asked.id, owner="v", stopping=asyncio.Event()
        )
        view = await service.get_pull(world.resources, world.actor, asked.id)
        assert view.status == "succeeded"
        assert await world.onlooker.fetchval("select attempts from source_pulls") == 0


class TestKilled:
    @pytest.fixture
    def more_settings(self) -> dict[str, Any]:
        return {"run_lease_seconds": 3}

    async def test_a_pull_cut_off_by_sigkill_is_done_again_by_another(
        self, postgres_world: World, settings: Settings
    ) -> None:
        """A process that pulls a slow source, ended in the middle: nothing is half done."""
        world = postgres_world
        await world.people(range(1, 2001))
        await world.home.run(
            "create function slowly(n integer) returns integer language plpgsql as"
            " $$ begin if n > 1000 then perform pg_sleep(0.01); end if; return n; end $$"
        )
        await world.source(
            query="select slowly(emp_no) as emp_no, mail, first, dept from people", check=False
        )
        keys = {kid: key.get_secret_value() for kid, key in settings.master_keys.items()}
        assert settings.database_url is not None
        assert settings.redis_url is not None
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "mcsync", "sources", "pull", "hr", "--json",
            stdout=asyncio.subprocess.DEVNULL,
            env={
                **os.environ,
                "MCSYNC_DATABASE_URL": settings.database_url.get_secret_value(),
                "MCSYNC_REDIS_URL": settings.redis_url.get_secret_value(),
                "MCSYNC_MASTER_KEYS": json.dumps(keys),
                "MCSYNC_RUN_LEASE_SECONDS": "3",
            },
        )  # fmt: skip
        copying = (
            "select count(*) from pg_stat_activity where query ilike 'copy %' and state = 'active'"
            " and datname = current_database()"
        )
        async with asyncio.timeout(60):
            while not await world.onlooker.fetchval(copying):  # noqa: ASYNC110 - of another process
                await asyncio.sleep(0.05)
        await asyncio.sleep(0.5)
        process.send_signal(signal.SIGKILL)
        await process.wait()
        pull = await world.onlooker.fetchrow("select id, status from source_pulls")
        assert pull is not None
        assert pull["status"] == "pulling"
        assert await world.contacts() == []

        await world.onlooker.execute("update sources set query = $1", QUERY)
        async with asyncio.timeout(60):
            while not await execute.work_on(  # noqa: ASYNC110 - until its lease runs out
                world.resources, world.org.id, pull["id"], owner="next", stopping=asyncio.Event()
            ):
                await asyncio.sleep(0.2)
        view = await service.get_pull(world.resources, world.actor, pull["id"])
        assert view.status == "succeeded"
        assert view.report is not None
        assert tally(view.report.model_dump()) == (2000, 2000, 0, 0, 0)
