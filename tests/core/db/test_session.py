"""Transactions: bound to one organisation, for exactly as long as they last."""

from __future__ import annotations

import asyncio

import asyncpg
import pytest
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncSession

from mcsync.core.db import Database, after_commit, before_commit
from mcsync.core.resources import Resources
from tests.support.organisations import Org

BOUND = text("select current_setting('app.org_id', true)")
SEEN = text("select name from organisations")


@pytest.fixture
def more_settings() -> dict[str, object]:
    """One connection (and one in reserve), so that whatever is left behind on it is found."""
    return {"database_pool_size": 1}


class TestBinding:
    async def test_sees_its_own_organisation_only(
        self, resources: Resources, organisation: Org, other_organisation: Org
    ) -> None:
        for org in (organisation, other_organisation, organisation):
            async with resources.db.transaction(org.id) as session:
                assert (await session.scalars(SEEN)).all() == [org.name]

    async def test_ends_with_the_transaction(self, resources: Resources, organisation: Org) -> None:
        async with resources.db.transaction(organisation.id) as session:
            assert await session.scalar(BOUND) == str(organisation.id)
        async with resources.db.system() as session:
            assert not await session.scalar(BOUND)
            assert (await session.scalars(SEEN)).all() == []

    async def test_of_a_block_without_statements_binds_nothing_later(
        self, resources: Resources, organisation: Org
    ) -> None:
        async with resources.db.transaction(organisation.id):
            pass
        async with resources.db.system() as session:
            assert (await session.scalars(SEEN)).all() == []

    async def test_does_not_outlive_a_rollback(
        self, resources: Resources, organisation: Org
    ) -> None:
        with pytest.raises(DBAPIError):
            async with resources.db.transaction(organisation.id) as session:
                await session.execute(text("select 1/0"))
        async with resources.db.system() as session:
            assert (await session.scalars(SEEN)).all() == []

    async def test_holds_in_savepoints(self, resources: Resources, organisation: Org) -> None:
        async with resources.db.transaction(organisation.id) as session:
            async with session.begin_nested():
                assert (await session.scalars(SEEN)).all() == [organisation.name]
            assert (await session.scalars(SEEN)).all() == [organisation.name]

    async def test_side_by_side_transactions_do_not_mix(
        self, resources: Resources, organisation: Org, other_organisation: Org
    ) -> None:
        async def look(org: Org) -> bool:
            async with resources.db.transaction(org.id) as session:
                await asyncio.sleep(0)
                return (await session.scalars(SEEN)).all() == [org.name]

        orgs = (organisation, other_organisation) * 20
        assert all(await asyncio.gather(*(look(org) for org in orgs)))


class TestCallbacks:
    async def test_run_in_their_order_around_the_commit(
        self, resources: Resources, organisation: Org, onlooker: asyncpg.Connection
    ) -> None:
        order: list[str] = []

        async def early(_: AsyncSession) -> None:
            order.append("before")

        async def last(_: AsyncSession) -> None:
            order.append("last")

        async def done() -> None:
            name = await onlooker.fetchval("select name from organisations")
            order.append(f"after {name}")

        async with resources.db.transaction(organisation.id) as session:
            before_commit(session, last, last=True)
            before_commit(session, early)
            before_commit(session, early)
            after_commit(session, done)
            await session.execute(text("update organisations set name = 'renamed'"))
            order.append("body")
        assert order == ["body", "before", "last", "after renamed"]

    async def test_do_not_run_after_a_failure(
        self, resources: Resources, organisation: Org
    ) -> None:
        ran: list[str] = []

        async def never() -> None:
            ran.append("after")

        async def fail() -> None:
            async with resources.db.transaction(organisation.id) as session:
                after_commit(session, never)
                raise RuntimeError

        with pytest.raises(RuntimeError):
            await fail()
        assert ran == []


class TestLostConnections:
    async def _work(self, db: Database, org: Org) -> None:
        async with db.transaction(org.id) as session:
            await session.scalars(SEEN)

    async def test_that_the_server_closed_are_replaced_unnoticed(
        self, resources: Resources, organisation: Org, onlooker: asyncpg.Connection
    ) -> None:
        for _ in range(3):
            await self._work(resources.db, organisation)
            await onlooker.execute(
                "select pg_terminate_backend(pid) from pg_stat_activity "
                "where datname = current_database() and pid <> pg_backend_pid()"
            )
            await asyncio.sleep(0.1)
            await self._work(resources.db, organisation)

    async def test_that_were_idle_are_asked_first(
        self, resources: Resources, organisation: Org, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        from mcsync.core.db import driver

        asked = 0
        fetchrow = asyncpg.Connection.fetchrow

        async def counted(self: asyncpg.Connection, query: str, *args: object) -> object:
            nonlocal asked
            asked += query == ";"
            return await fetchrow(self, query, *args)

        monkeypatch.setattr(asyncpg.Connection, "fetchrow", counted)
        await self._work(resources.db, organisation)
        await self._work(resources.db, organisation)
        assert asked == 0
        monkeypatch.setattr(driver, "_IDLE_SECONDS", -1.0)
        await self._work(resources.db, organisation)
        assert asked == 1
