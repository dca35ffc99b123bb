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
#
# Whether a table has grown cannot be seen by its pages where they stayed when its rows went (VACUUM gives
# back only those at the end). Until then such a table is taken for nearly empty, however much comes into it.
_FUNCTION = f"""
create function mcsync_analyse_grown(only_underrated boolean default false)
returns integer language plpgsql volatile security definer
set search_path = public, pg_temp as $$
declare
    grown record;
    analysed integer := 0;
begin
    if not pg_try_advisory_xact_lock(hashtextextended('mcsync.analyse', 0)) then
        return 0;
    end if;
    for grown in
        select t.name from (
            select c.oid::regclass as name, c.relname, c.relpages, c.reltuples,
                   pg_relation_size(c.oid) / current_setting('block_size')::integer as pages
            from pg_class c
            where c.relnamespace = 'public'::regnamespace and c.relkind = 'r'
              and c.relname in ({_NAMES})) t
        where (not only_underrated and t.pages > 1.1 * t.relpages + 50)
           or (t.pages > 50 and t.relpages > 0 and t.reltuples >= 0
               and t.reltuples / t.relpages * t.pages < 1000)
        order by t.relname
    loop
        execute format('analyze (skip_locked) %s', grown.name);
        analysed := analysed + 1;
    end loop;
    return analysed;
end
$$
"""
_SIGNATURE = "mcsync_analyse_grown(boolean)"


def upgrade() -> None:
    op.execute(_FUNCTION)
    op.execute(f"revoke all on function {_SIGNATURE} from public")
    op.execute(f"grant execute on function {_SIGNATURE} to mcsync_app")


def downgrade() -> None:
    op.execute(f"drop function {_SIGNATURE}")
