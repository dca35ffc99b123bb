"""Migrations as an owner runs them whom row-level security binds, step by step."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from urllib.parse import urlsplit
from uuid import uuid4

import asyncpg
import pytest
from alembic import command

from mcsync.core.db import migrations
from tests.support.servers import Addresses


@pytest.fixture
async def owner_url(servers: Addresses, _administrator: asyncpg.Connection) -> AsyncIterator[str]:
    """An empty database of a role that is no superuser."""
    name = f"owner_{uuid4().hex}"
    await _administrator.execute(f"create role {name} login password '{name}'")
    for role in ("mcsync_app", "mcsync_lookup", "mcsync_eraser"):
        await _administrator.execute(f"grant {role} to {name} with admin option")
    await _administrator.execute(f"create database {name} owner {name}")
    host = urlsplit(servers.superuser_url(name)).netloc.rpartition("@")[2]
    yield f"postgresql://{name}:{name}@{host}/{name}"
    await _administrator.execute(f"drop database {name} with (force)")
    await _administrator.execute(f"drop role {name}")


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
