"""Databases to pull from: another one on the same PostgreSQL, a SQLite file, a real MariaDB if there is one."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from uuid import uuid4

import asyncpg
import pytest

from mcsync.core.resources import Resources
from tests.features.sources.world import Home, MariaHome, PostgresHome, SqliteHome, World
from tests.support.mariadb import MariaDbServer
from tests.support.organisations import Org
from tests.support.servers import Addresses


@pytest.fixture(scope="session")
def mariadb() -> Iterator[MariaDbServer]:
    if not MariaDbServer.is_here():
        pytest.skip("there is no MariaDB on this machine")
    server = MariaDbServer()
    try:
        yield server.start()
    finally:
        server.close()


@pytest.fixture
async def postgres_home(
    servers: Addresses, _administrator: asyncpg.Connection
) -> AsyncIterator[PostgresHome]:
    name = f"home_{uuid4().hex}"
    await _administrator.execute(f'create database "{name}"')
    yield PostgresHome(servers.superuser_url(name))
    await _administrator.execute(f'drop database "{name}" with (force)')


@pytest.fixture
def sqlite_home(tmp_path: Path) -> SqliteHome:
    return SqliteHome(tmp_path / "people.db")


@pytest.fixture
def maria_home(mariadb: MariaDbServer) -> MariaHome:
    home = MariaHome(mariadb)
    with mariadb.connect("root", "", None) as root, root.cursor() as cursor:
        cursor.execute(f"create database {home.name} character set utf8mb4")
    return home


@pytest.fixture(params=["postgres_home", "sqlite_home", "maria_home"])
def home(request: pytest.FixtureRequest) -> Home:
    """Each kind of database in turn."""
    found: Home = request.getfixturevalue(request.param)
    return found


@pytest.fixture
async def world(
    resources: Resources, organisation: Org, home: Home, onlooker: asyncpg.Connection
) -> World:
    """The table of people is there, and empty."""
    made = World(resources, organisation, home, onlooker)
    await made.table()
    return made


@pytest.fixture
async def postgres_world(
    resources: Resources, organisation: Org, postgres_home: PostgresHome,
    onlooker: asyncpg.Connection,
) -> World:  # fmt: skip
    """The same, only on PostgreSQL."""
    made = World(resources, organisation, postgres_home, onlooker)
    await made.table()
    return made
