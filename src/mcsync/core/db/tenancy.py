"""What migrations do to keep organisations apart (``docs/decisions/0006-row-level-security.md``).

Migrations that have run stay as they were: where the recipe changes, these functions stay and others are
added beside them.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

from alembic import op

_BOUND = "nullif(current_setting('app.org_id', true), '')::uuid"
_NAMED = re.compile(r"\b\w+ (?=\w+[,)])")


def secure(
    *tables: str, column: str = "org_id", rights: str = "select, insert, update, delete"
) -> None:
    """Row-level security, forced even for the owner, and the service's rights.

    The organisation is asked for once a statement, not once a row.
    """
    rule = f"{column} = (select {_BOUND})"
    for table in tables:
        op.execute(f"alter table {table} enable row level security")
        op.execute(f"alter table {table} force row level security")
        op.execute(f"create policy org on {table} using ({rule}) with check ({rule})")
        op.execute(f"grant {rights} on {table} to mcsync_app")


def create_look_ups(
    look_ups: Mapping[str, str], *, reads: Iterable[str], policy: str = "lookup"
) -> None:
    """Functions that look across organisations, for the service: signature to body. They answer ids, and figures.

    ``reads``: the tables that they read and no earlier one did, or with a ``policy`` name of their own.
    """
    for table in reads:
        op.execute(f"grant select on {table} to mcsync_lookup")
        op.execute(f"create policy {policy} on {table} for select to mcsync_lookup using (true)")
    for signature, body in look_ups.items():
        create_function(
            f"create function {signature} language sql stable security definer "
            f"set search_path = public, pg_temp as $$ {body} $$",
            signature,
            owner="mcsync_lookup",
        )


def create_function(statement: str, signature: str, *, owner: str) -> None:
    """A function that acts as a role which nothing logs in as, and that only the service may call."""
    called = _NAMED.sub("", signature.split(" returns", maxsplit=1)[0])
    op.execute(f"grant create on schema public to {owner}")
    op.execute(statement)
    op.execute(f"alter function {called} owner to {owner}")
    op.execute(f"revoke all on function {called} from public")
    op.execute(f"grant execute on function {called} to mcsync_app")
    op.execute(f"revoke create on schema public from {owner}")


def drop_look_ups(look_ups: Mapping[str, str]) -> None:
    """Drops what :func:`create_look_ups` made; policies go with their tables."""
    for signature in look_ups:
        op.execute(f"drop function {signature.split('(')[0]}")


_NOT_ADMITTED = """
select c.oid::regclass::text as name, c.relrowsecurity and not exists (
           select from pg_policy p where p.polrelid = c.oid and p.polname = 'backup') as policy
  from pg_class c
 where c.relnamespace = 'public'::regnamespace and c.relkind in ('r', 'p', 'S')
   and pg_has_role(c.relowner, 'usage')
   and not exists (select from pg_depend d where d.objid = c.oid
                      and d.classid = 'pg_class'::regclass and d.deptype = 'e')
   and (not has_table_privilege('mcsync_backup', c.oid, 'select')
        or c.relrowsecurity and not exists (
           select from pg_policy p where p.polrelid = c.oid and p.polname = 'backup'))
 order by 1
"""


def admit_backups() -> None:
    """Lets the role ``mcsync_backup`` read every row of every table that there is by now.

    A migration that creates a table calls this last: without the policy a backup would leave the table
    empty, so ``mcsync backup`` refuses to run. The policy holds only for whoever has *become* the role
    (``pg_dump --role``), because the owner, who is a member of it, must stay bound in everything else.
    """
    op.execute("grant usage on schema public to mcsync_backup")
    for table, policy in op.get_bind().exec_driver_sql(_NOT_ADMITTED).all():
        op.execute(f"grant select on {table} to mcsync_backup")
        if policy:
            op.execute(
                f"create policy backup on {table} for select to mcsync_backup"
                " using (current_user = 'mcsync_backup')"
            )
