"""Databases of the tests: emptied and used again, since a copy of the template costs 200 ms of a processor.

Each test gets one under a name that was never used before, so that whatever an earlier test left running
does not find it. One whose tables, functions or policies a test changed is dropped instead.
"""

from __future__ import annotations

from collections import defaultdict
from typing import Final
from uuid import uuid4

import asyncpg

from tests.support.servers import Addresses

# A few rows are deleted; truncating tables that all others refer to makes hundreds of files anew.
_EMPTY: Final = """
do $$
declare dirty text[] = '{}'; found text; many boolean = false; rows integer;
begin
    for found in select format('public.%I', relname) from pg_class
                 where relkind = 'r' and relnamespace = 'public'::regnamespace
                   and relname <> 'alembic_version' loop
        execute format('select count(*) from (select from %s limit 500) some_of_them', found) into rows;
        if rows > 0 then dirty := dirty || found; end if;
        many := many or rows = 500;
    end loop;
    if many then
        execute 'truncate ' || array_to_string(dirty, ', ') || ' cascade';
    else
        set local session_replication_role = replica;  -- no triggers, in any order
        foreach found in array dirty loop execute 'delete from ' || found; end loop;
    end if;
    if to_regclass('travel.shift') is not null then update travel.shift set shift = '0'; end if;
end $$;
"""

_SHAPE: Final = """
select md5(concat(
    (select array_agg((c.oid, c.relname, c.relkind, c.relrowsecurity, c.relforcerowsecurity,
                       c.relacl, c.relnatts) order by c.oid)
     from pg_class c where c.relnamespace = 'public'::regnamespace),
    (select array_agg((a.attrelid, a.attnum, a.attname, a.atttypid, a.attnotnull, a.atthasdef)
                      order by a.attrelid, a.attnum)
     from pg_attribute a join pg_class c on c.oid = a.attrelid
     where c.relnamespace = 'public'::regnamespace and a.attnum > 0),
    (select array_agg((p.oid, p.xmin) order by p.oid) from pg_proc p
     where p.pronamespace = 'public'::regnamespace),
    (select array_agg((p.oid, p.xmin) order by p.oid) from pg_policy p),
    (select array_agg((t.oid, t.tgenabled) order by t.oid) from pg_trigger t),
    (select array_agg((s.*)) from pg_db_role_setting s
     where s.setdatabase = (select oid from pg_database where datname = current_database())),
    (select array_agg(v.*) from alembic_version v)))
"""


class Databases:
    """Hands out empty, migrated databases, and takes them back."""

    def __init__(self, servers: Addresses, administrator: asyncpg.Connection) -> None:
        self._servers = servers
        self._administrator = administrator
        self._spare: dict[str, list[str]] = defaultdict(list)
        self._shapes: dict[str, str] = {}

    async def take(self, template: str, *settings: str) -> str:
        """The name of one like the template. ``settings``: statements about a new ``{database}``."""
        name = f"test_{uuid4().hex}"
        if self._spare[template]:
            spare = self._spare[template].pop()
            await self._administrator.execute(f'alter database "{spare}" rename to "{name}"')
            self._shapes[name] = self._shapes.pop(spare)
            return name
        # Copying files takes half the time of copying pages through the log, with fsync off.
        await self._administrator.execute(
            f'create database "{name}" template "{template}" strategy file_copy'
        )
        for statement in settings:
            await self._administrator.execute(statement.format(database=name))
        self._shapes[name] = await self._look(name, empty=False)
        return name

    async def give_back(self, name: str, template: str) -> None:
        """Ends whoever is still connected to it, and empties it for another test."""
        await self._administrator.execute(
            "select pg_terminate_backend(pid, 5000) from pg_stat_activity where datname = $1", name
        )
        if await self._look(name, empty=True) == self._shapes[name]:
            self._spare[template].append(name)
        else:
            await self._administrator.execute(f'drop database "{name}" with (force)')

    async def _look(self, name: str, *, empty: bool) -> str:
        connection = await asyncpg.connect(self._servers.superuser_url(name))
        try:
            if empty:
                await connection.execute(_EMPTY)
            return str(await connection.fetchval(_SHAPE))
        finally:
            await connection.close()
