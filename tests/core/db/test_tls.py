"""TLS between mcsync and PostgreSQL: what is wrong is said, and a URL means what libpq means by it."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from pathlib import Path

import pytest
from sqlalchemy import text

from mcsync.core.db import make_engine
from mcsync.core.db.troubles import Trouble, tls_words, trouble_of
from tests.support.authority import Authority
from tests.support.servers import Addresses
from tests.support.tls_server import TlsServer


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path)


async def ask(url: str) -> None:
    engine = make_engine(url, pool_size=None)
    try:
        async with engine.connect() as connection:
            assert await connection.scalar(text("select 1")) == 1
    finally:
        await engine.dispose()


async def words_for(url: str) -> str:
    with pytest.raises(Exception) as caught:  # noqa: PT011 - which one is the driver's affair
        await ask(url)
    assert trouble_of(caught.value) is Trouble.TLS
    found = tls_words(caught.value)
    assert found is not None
    return found


async def test_a_server_of_a_named_authority_is_believed(
    servers: Addresses, authority: Authority
) -> None:
    with TlsServer(servers.superuser_url("postgres"), "postgres", authority.server()) as server:
        for query in (
            "sslmode=require",
            f"sslmode=require&sslrootcert={authority.file}",
            f"sslmode=verify-ca&sslrootcert={authority.file}",
            f"sslmode=verify-full&sslrootcert={authority.file}&ssl_min_protocol_version=TLSv1.3",
            "sslmode=prefer",
            "ssl=true",
            "",
        ):
            await ask(server.url(query))


async def test_what_is_wrong_with_its_certificate_is_said(
    servers: Addresses, authority: Authority, tmp_path: Path
) -> None:
    known = f"sslrootcert={authority.file}"
    (tmp_path / "other").mkdir()
    stranger = Authority(tmp_path / "other")
    with TlsServer(servers.superuser_url("postgres"), "postgres", authority.server()) as server:
        for context, query, said in (
            (authority.server(days=(-3, -1)), f"sslmode=verify-full&{known}", "has expired"),
            (authority.server(name="db.example"), f"sslmode=verify-full&{known}", "another name"),
            (stranger.server(), f"sslmode=verify-full&{known}", "not trusted"),
            (stranger.server(), f"sslmode=require&{known}", "not trusted"),
            (authority.server(), "sslmode=verify-full", "sslrootcert of MCSYNC_DATABASE_URL"),
            (None, "sslmode=require", "offers no TLS"),
        ):
            server.context = context
            words = await words_for(server.url(query))
            assert said in words
            assert words.startswith("PostgreSQL ")

        # verify-ca believes the authority about any name
        server.context = authority.server(name="db.example")
        await ask(server.url(f"sslmode=verify-ca&{known}"))


async def test_the_first_of_several_hosts_that_serves_is_taken(servers: Addresses) -> None:
    url = servers.superuser_url("postgres")
    head, _, tail = url.rpartition("@")
    place, _, rest = tail.partition("/")
    await ask(f"{head}@127.0.0.1:1,{place}/{rest}?connect_timeout=5")
    with pytest.raises(OSError, match="Connect call failed"):
        await ask(f"{head}@127.0.0.1:1,127.0.0.1:2/{rest}?target_session_attrs=read-write")


async def test_parameters_reach_the_session(servers: Addresses) -> None:
    url = servers.superuser_url("postgres")
    engine = make_engine(
        f"{url}?application_name=theirs&options=-c%20work_mem%3D5MB&keepalives=1", pool_size=None
    )
    try:
        async with engine.connect() as connection:
            for setting, value in (
                ("application_name", "theirs"),
                ("work_mem", "5MB"),
                ("jit", "off"),
            ):
                assert await connection.scalar(text(f"show {setting}")) == value
    finally:
        await engine.dispose()


async def test_a_process_opens_as_many_connections_as_are_documented(servers: Addresses) -> None:
    engine = make_engine(servers.superuser_url("postgres"), pool_size=2, overflow=3)
    count = "select count(*) from pg_stat_activity where application_name = 'mcsync' and pid = any(:pids)"
    async with AsyncExitStack() as held:
        pids = []
        for _ in range(5):
            connection = await held.enter_async_context(engine.connect())
            pids.append(await connection.scalar(text("select pg_backend_pid()")))
        assert await connection.scalar(text(count), {"pids": pids}) == len(set(pids)) == 5
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.5), engine.connect():
                pass
    await engine.dispose()
