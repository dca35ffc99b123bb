"""Time travel: PostgreSQL, the service and the sandbox share a clock that tests can move forward.

Consent lives and dies by what is later than what, in Mailchimp's whole seconds; retries and guards by
days. The statements of the service say ``now()`` and ``clock_timestamp()``: in a database made from the
template of :data:`CLOCK` those names are found in a schema before ``pg_catalog``, where they are real time
plus a shift. The shift is the sandbox's, so that all three always agree.
"""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta

import asyncpg

from mcsync.core.resources import Resources
from tests.support.sandbox import SandboxControl

CLOCK = """
create schema travel;
create table travel.shift (shift interval not null);
insert into travel.shift values ('0');
create function travel.now() returns timestamptz language sql stable as
    $$ select pg_catalog.now() + (select shift from travel.shift) $$;
create function travel.clock_timestamp() returns timestamptz language sql volatile as
    $$ select pg_catalog.clock_timestamp() + (select shift from travel.shift) $$;
grant usage on schema travel to public;
grant select on travel.shift to public;
do $$
declare found record;
begin
    for found in select table_name, column_name from information_schema.columns
                 where table_schema = 'public' and column_default = 'now()' loop
        execute format('alter table public.%I alter column %I set default travel.now()',
                       found.table_name, found.column_name);
    end loop;
    -- what looks across organisations has a path of its own, and must see the same clock
    for found in select oid::regprocedure as name from pg_proc
                 where pronamespace = 'public'::regnamespace and prosecdef loop
        execute format('alter function %s set search_path = travel, public, pg_catalog, pg_temp',
                       found.name);
    end loop;
end $$;
"""
"""Puts the shifted clock into a migrated database."""
ON_ITS_PATH = 'alter database "{database}" set search_path = travel, public, pg_catalog'
"""Lets who connects to a copy of it find that clock first: a template does not hand such a setting on."""


class Travel:
    """The common clock of one test."""

    def __init__(self, superuser_url: str, resources: Resources, sandbox: SandboxControl) -> None:
        self._url = superuser_url
        self._sandbox = sandbox
        self._shift = timedelta(0)
        self._connection: asyncpg.Connection | None = None
        resources.clock = self.now

    def now(self) -> datetime:
        """The present moment, as the service, its database and the sandbox see it."""
        return datetime.now(UTC) + self._shift

    async def wait(self, seconds: float = 0.0) -> None:
        """Lets time pass, in an instant; with nothing given only agrees with the sandbox's clock."""
        there = await self._sandbox.advance_clock(seconds)
        self._shift = timedelta(seconds=there - time.time())
        if self._connection is None:
            self._connection = await asyncpg.connect(self._url)
        await self._connection.execute("update travel.shift set shift = $1", self._shift)

    async def close(self) -> None:
        """Lets go of the database."""
        if self._connection is not None:
            await self._connection.close()
