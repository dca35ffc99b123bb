"""Migrations as an owner runs them whom row-level security binds, step by step."""

from __future__ import annotations

import asyncio
from urllib.parse import urlsplit
from uuid import uuid4

import asyncpg
from alembic import command

from mcsync.core.db import migrations
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
