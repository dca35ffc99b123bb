"""Tables that grew are analysed by the service, which does not own them."""

from __future__ import annotations

import asyncpg
import pytest
from sqlalchemy import text

from mcsync.core.db.statistics import MUCH, analyse_grown, wrote
from mcsync.core.resources import Resources
from tests.support.organisations import Org

_MANY = """insert into contacts (org_id, entity_type, entity_id, email, address_hash, address_key)
           select :org, 'employee', 'G' || n, n || '@grown.example', md5(n || '')::uuid,
                  md5(n || 'k')::uuid
           from generate_series(1, :count) n"""
_KNOWN = "select reltuples::bigint from pg_class where relname = 'contacts'"


async def _grow(resources: Resources, org: Org, count: int) -> None:
    async with resources.db.transaction(org.id) as session:
        await session.execute(text(_MANY), {"org": org.id, "count": count})


async def test_a_table_that_grew_is_analysed_once(
    resources: Resources, organisation: Org, onlooker: asyncpg.Connection
) -> None:
    await _grow(resources, organisation, 6_000)

    assert await analyse_grown(resources.db.engine) >= 1
    assert await onlooker.fetchval(_KNOWN) >= 6_000
    assert await analyse_grown(resources.db.engine) == 0


async def test_only_one_analyses_at_a_time(
    resources: Resources, organisation: Org, onlooker: asyncpg.Connection
) -> None:
    await _grow(resources, organisation, 6_000)
    async with onlooker.transaction():
        await onlooker.execute(
            "select pg_advisory_xact_lock(hashtextextended('mcsync.analyse', 0))"
        )
        assert await analyse_grown(resources.db.engine) == 0
    assert await analyse_grown(resources.db.engine) >= 1


async def test_a_table_that_is_held_is_left_alone(
    resources: Resources, organisation: Org, onlooker: asyncpg.Connection
) -> None:
    await _grow(resources, organisation, 6_000)
    before = await onlooker.fetchval(_KNOWN)
    async with onlooker.transaction():
        await onlooker.execute("lock table contacts in share update exclusive mode")
        await analyse_grown(resources.db.engine)
        assert await onlooker.fetchval(_KNOWN) == before


@pytest.mark.parametrize("rows", [6_000, 100])
async def test_a_table_taken_for_empty_is_analysed_while_much_is_written(
    resources: Resources, organisation: Org, onlooker: asyncpg.Connection, rows: int
) -> None:
    await onlooker.execute("truncate contacts cascade")
    await onlooker.execute("alter table contacts set (autovacuum_enabled = off)")
    await _grow(resources, organisation, 6_000)
    await onlooker.execute("delete from contacts")
    await onlooker.execute("vacuum (analyze, truncate off) contacts")
    await _grow(resources, organisation, 6_000)

    async with resources.db.transaction(organisation.id) as session:
        wrote(session, rows)
    looked = await onlooker.fetchval(_KNOWN) >= 6_000
    assert looked == (rows >= MUCH)

    async with resources.db.transaction(organisation.id) as session:
        wrote(session, MUCH - rows % MUCH)
    assert await onlooker.fetchval(_KNOWN) >= 6_000
    assert await analyse_grown(resources.db.engine, only_underrated=True) == 0


async def test_a_failure_is_no_failure_of_what_was_written(
    resources: Resources, organisation: Org, onlooker: asyncpg.Connection
) -> None:
    await onlooker.execute("drop function mcsync_analyse_grown(boolean)")
    assert await analyse_grown(resources.db.engine) == 0
