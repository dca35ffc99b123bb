"""Databases whose owner is no superuser, as managed servers have them."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from urllib.parse import urlsplit
from uuid import uuid4

import asyncpg
import pytest

from tests.support.servers import Addresses

GROUPS = ("mcsync_app", "mcsync_lookup", "mcsync_eraser", "mcsync_backup")
MakeOwned = Callable[[], Awaitable[str]]


@pytest.fixture
async def make_owned(
    servers: Addresses, _administrator: asyncpg.Connection
) -> AsyncIterator[MakeOwned]:
    """Makes empty databases, each of a role of its own that is no superuser; answers the URL."""
    made: list[str] = []

    async def make() -> str:
        name = f"owner_{uuid4().hex}"
        await _administrator.execute(f"create role {name} login password '{name}'")
        made.append(name)
        for role in GROUPS:
            await _administrator.execute(f"grant {role} to {name} with admin option")
        await _administrator.execute(f"create database {name} owner {name}")
        host = urlsplit(servers.superuser_url(name)).netloc.rpartition("@")[2]
        return f"postgresql://{name}:{name}@{host}/{name}"

    yield make
    for name in made:
        await _administrator.execute(f"drop database if exists {name} with (force)")
        await _administrator.execute(f"drop role {name}")


@pytest.fixture
async def owner_url(make_owned: MakeOwned) -> str:
    """An empty database of a role that is no superuser."""
    return await make_owned()
