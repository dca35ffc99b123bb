"""a role that may read every row, so that a backup is complete although row-level security is forced

Revision ID: 0019_backups
Revises: 0018_analyse_grown
"""

from __future__ import annotations

from alembic import op

from mcsync.core.db import tenancy

revision = "0019_backups"
down_revision = "0018_analyse_grown"
branch_labels = None
depends_on = None

# Roles belong to the server: another database's migration may have made this one, even just now.
ROLE = """
do $$
begin
    if not exists (select from pg_roles where rolname = 'mcsync_backup') then
        begin
            create role mcsync_backup nologin nosuperuser nobypassrls;
        exception when duplicate_object or unique_violation then null;
        end;
    end if;
    if not (select rolsuper from pg_roles where rolname = current_user) then
        execute format('grant mcsync_backup to %I', current_user);
    end if;
end $$
"""


def upgrade() -> None:
    op.execute("set local lock_timeout = '5s'")
    op.execute(ROLE)
    # A policy locks its table against everybody. One table at a time, each for a moment, is no deadlock
    # with the service; cut off in the middle, this goes on where it was when it is repeated.
    with op.get_context().autocommit_block():
        tenancy.admit_backups()


def downgrade() -> None:
    # The role stays, because another database of the same server may use it.
    op.execute("set local lock_timeout = '5s'")
    op.execute("""
do $$
declare found record;
begin
    for found in select polrelid::regclass as name from pg_policy where polname = 'backup' loop
        execute format('drop policy backup on %s', found.name);
    end loop;
    for found in select c.oid::regclass as name from pg_class c
                  where c.relnamespace = 'public'::regnamespace and c.relkind in ('r', 'p', 'S') loop
        execute format('revoke all on %s from mcsync_backup', found.name);
    end loop;
    revoke usage on schema public from mcsync_backup;
end $$
""")
