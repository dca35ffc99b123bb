"""tables that have grown can be analysed by the service

Revision ID: 0018_analyse_grown
Revises: 0017_key_statistics
"""

from __future__ import annotations

from alembic import op

revision = "0018_analyse_grown"
down_revision = "0017_key_statistics"
branch_labels = None
depends_on = None

TABLES = (
    "contacts",
    "contact_addresses",
    "email_preferences",
    "preference_events",
    "address_consents",
    "audience_members",
    "segment_members",
    "segment_skips",
    "sync_changes",
)
_NAMES = ", ".join(f"'{table}'" for table in TABLES)

# ANALYZE is for the owner of a table, who is whoever migrates: the function stays theirs. By pages, because
# the counters of changes are late, and may be turned off. A table that somebody else holds is left alone.
_FUNCTION = f"""
create function mcsync_analyse_grown() returns integer language plpgsql volatile security definer
set search_path = public, pg_temp as $$
declare
    grown record;
    analysed integer := 0;
begin
    if not pg_try_advisory_xact_lock(hashtextextended('mcsync.analyse', 0)) then
        return 0;
    end if;
    for grown in
        select c.oid::regclass as name from pg_class c
        where c.relnamespace = 'public'::regnamespace and c.relkind = 'r' and c.relname in ({_NAMES})
          and pg_relation_size(c.oid) / current_setting('block_size')::integer > 1.1 * c.relpages + 50
        order by c.relname
    loop
        execute format('analyze (skip_locked) %s', grown.name);
        analysed := analysed + 1;
    end loop;
    return analysed;
end
$$
"""


def upgrade() -> None:
    op.execute(_FUNCTION)
    op.execute("revoke all on function mcsync_analyse_grown() from public")
    op.execute("grant execute on function mcsync_analyse_grown() to mcsync_app")


def downgrade() -> None:
    op.execute("drop function mcsync_analyse_grown()")
