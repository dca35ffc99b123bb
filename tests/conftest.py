"""What every test can ask for. The servers are real; only Mailchimp is the sandbox."""

from __future__ import annotations

import base64
import os
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from typing import Any
from uuid import UUID

import asyncpg
import httpx
import pytest
import structlog
from fastapi import FastAPI
from pydantic import SecretStr
from sqlalchemy import Engine
from sqlalchemy.dialects.postgresql.asyncpg import PGDialect_asyncpg
from sqlalchemy.util import LRUCache

from mcsync.app import create_app
from mcsync.core.auth import Role
from mcsync.core.resources import Resources
from mcsync.core.settings import Settings
from tests.support.databases import Databases
from tests.support.network import loopback_only
from tests.support.organisations import (
    Org,
    contact_row,
    insert_contacts,
    make_organisation,
    make_token,
)
from tests.support.servers import TEMPLATE, TRAVELLING, VALKEY_DATABASES, Addresses, TestServers
from tests.support.travel import ON_ITS_PATH

_SERVERS = pytest.StashKey[TestServers]()
NOWHERE = "http://127.0.0.1:9/3.0"
"""Nothing listens on the discard port: a test that needs Mailchimp asks for the sandbox."""

# ------------------------------------------------------------------------------- servers


def _servers(config: pytest.Config) -> TestServers:
    if _SERVERS not in config.stash:
        config.stash[_SERVERS] = TestServers().start()
    return config.stash[_SERVERS]


@pytest.hookimpl(optionalhook=True)
def pytest_configure_node(node: Any) -> None:
    """Runs in the controller of xdist for each worker it is about to start."""
    node.workerinput["addresses"] = _servers(node.config).addresses.packed()


def pytest_unconfigure(config: pytest.Config) -> None:
    """Ends the servers with the run that started them."""
    if _SERVERS in config.stash:
        config.stash[_SERVERS].close()


@pytest.fixture(scope="session")
def servers(request: pytest.FixtureRequest) -> Addresses:
    """Where PostgreSQL (with a migrated template) and Valkey are."""
    packed: dict[str, str] | None = getattr(request.config, "workerinput", {}).get("addresses")
    if packed is not None:
        return Addresses(**packed)
    return _servers(request.config).addresses


@pytest.fixture(scope="session", autouse=True)
def _plain_tracebacks() -> None:
    # by default those that are logged show all locals of each frame, which here takes minutes
    renderer = structlog.dev.ConsoleRenderer(exception_formatter=structlog.dev.plain_traceback)
    structlog.configure(processors=[*structlog.get_config()["processors"][:-1], renderer])


@pytest.fixture(scope="session", autouse=True)
def _compiled_once() -> Iterator[None]:
    """All engines share what SQLAlchemy compiled; each test's own would do it anew for 0.1 s."""
    compiled: LRUCache[Any, Any] = LRUCache(2000)
    with pytest.MonkeyPatch.context() as patch:
        # statements are kept by dialect, of which each engine has its own
        patch.setattr(PGDialect_asyncpg, "__eq__", lambda self, other: type(self) is type(other))
        patch.setattr(PGDialect_asyncpg, "__hash__", lambda self: hash(type(self)))
        patch.setattr(
            Engine, "_compiled_cache", property(lambda _: compiled, lambda *_: None), raising=False
        )
        yield


@pytest.fixture(scope="session", autouse=True)
def _stay_on_this_machine() -> Iterator[None]:
    with loopback_only():
        yield


@pytest.fixture(scope="session")
async def _administrator(servers: Addresses) -> AsyncIterator[asyncpg.Connection]:
    connection = await asyncpg.connect(servers.superuser_url("postgres"))
    yield connection
    await connection.close()


@pytest.fixture
def template() -> str:
    """What the test's database is a copy of: override this fixture where the clock must move."""
    return TEMPLATE


@pytest.fixture(scope="session")
def _databases(servers: Addresses, _administrator: asyncpg.Connection) -> Databases:
    return Databases(servers, _administrator)


@pytest.fixture
async def database(_databases: Databases, template: str) -> AsyncIterator[str]:
    """Name of a migrated, empty database of the test's own."""
    settings = [ON_ITS_PATH] if template == TRAVELLING else []
    name = await _databases.take(template, *settings)
    yield name
    await _databases.give_back(name, template)


@pytest.fixture
def database_url(servers: Addresses, database: str) -> str:
    """The test's database as the service sees it: through row-level security."""
    return servers.service_url(database)


@pytest.fixture
def superuser_url(servers: Addresses, database: str) -> str:
    """The test's database as its owner sees it: everything."""
    return servers.superuser_url(database)


@pytest.fixture
async def onlooker(superuser_url: str) -> AsyncIterator[asyncpg.Connection]:
    """A plain connection that sees every row, for looking at what really happened."""
    connection = await asyncpg.connect(superuser_url)
    yield connection
    await connection.close()


@pytest.fixture
def redis_url(servers: Addresses, worker_id: str) -> str:
    """An empty database of Valkey; each worker of xdist has its own number."""
    from redis import Redis

    number = 0 if worker_id == "master" else 1 + int(worker_id.removeprefix("gw"))
    url = servers.redis_url(number % VALKEY_DATABASES)
    with Redis.from_url(url) as redis:
        redis.flushdb()
    return url


# ------------------------------------------------------------------------------- resources


@pytest.fixture(autouse=True)
def _clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in list(os.environ):
        if name.startswith("MCSYNC_"):
            monkeypatch.delenv(name)


@pytest.fixture
def master_keys() -> dict[str, SecretStr]:
    """One fresh master key."""
    return {"test": SecretStr(base64.b64encode(os.urandom(32)).decode())}


@pytest.fixture
def more_settings() -> dict[str, Any]:
    """Settings that a module or class sets otherwise: override this fixture there."""
    return {}


@pytest.fixture
def settings(
    database_url: str,
    redis_url: str,
    master_keys: dict[str, SecretStr],
    more_settings: dict[str, Any],
) -> Settings:
    """Complete settings for the test's own database, with no Mailchimp."""
    given: dict[str, Any] = {
        "database_url": SecretStr(database_url),
        "redis_url": SecretStr(redis_url),
        "master_keys": master_keys,
        "mailchimp_url": NOWHERE,
        "database_pool_size": 3,
    }
    return Settings(**(given | more_settings))


@pytest.fixture
async def resources(settings: Settings) -> AsyncIterator[Resources]:
    """What a process of the service holds, on the test's own database."""
    built = await Resources.build(settings)
    yield built
    await built.close()


# ----------------------------------------------------------------------- organisations, data


@pytest.fixture
async def organisation(resources: Resources) -> Org:
    """The organisation of the test."""
    return await make_organisation(resources, "Acme")


@pytest.fixture
async def other_organisation(resources: Resources) -> Org:
    """Another one, which must never be seen from the first."""
    return await make_organisation(resources, "Globex")


MakeContacts = Callable[..., Awaitable[list[UUID]]]


@pytest.fixture
def make_contacts(resources: Resources, organisation: Org) -> MakeContacts:
    """``await make_contacts(20, department="Sales")``: set-based; answers the ids in order.

    ``org=`` makes them for another organisation, ``start=`` numbers them from there.
    """

    async def make(
        count: int = 1, *, org: Org | None = None, start: int = 1, **given: Any
    ) -> list[UUID]:
        rows = [contact_row(number, **given) for number in range(start, start + count)]
        return await insert_contacts(resources, org or organisation, rows)

    return make


# --------------------------------------------------------------------------------- callers


@pytest.fixture
async def tokens(resources: Resources, organisation: Org) -> dict[Role, str]:
    """A token of the organisation for each role."""
    return {role: await make_token(resources, organisation, role) for role in Role}


@pytest.fixture
def token(tokens: dict[Role, str]) -> str:
    """The owner's token."""
    return tokens[Role.OWNER]


@pytest.fixture
async def other_token(resources: Resources, other_organisation: Org) -> str:
    """The token of the other organisation's owner."""
    return await make_token(resources, other_organisation, Role.OWNER)


@pytest.fixture
def app(resources: Resources) -> FastAPI:
    """The API on the test's resources."""
    return create_app(resources=resources)


@pytest.fixture
async def api(app: FastAPI, token: str) -> AsyncIterator[httpx.AsyncClient]:
    """A client of the API with the owner's token; errors inside come as the answers users get."""
    async with httpx.AsyncClient(
        transport=httpx.ASGITransport(app, raise_app_exceptions=False),
        base_url="http://mcsync.test",
        headers={"Authorization": f"Bearer {token}"},
    ) as client:
        yield client
