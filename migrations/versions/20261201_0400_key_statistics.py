"""The planner keeps no statistics of the columns that say whose a row is (decision 0017)."""

from __future__ import annotations

from alembic import op

revision = "0017_key_statistics"
down_revision = "0016_what_waits"
branch_labels = None
depends_on = None

_OWNERS = {
    "address_consents": ("org_id",),
    "audience_aliases": ("org_id", "audience_id"),
    "audience_calls": ("org_id", "audience_id", "run_id"),
    "audience_members": ("org_id", "audience_id"),
    "audience_orders": ("org_id", "audience_id"),
    "audience_refusals": ("org_id", "audience_id"),
    "audit_entries": ("org_id",),
    "contact_addresses": ("org_id",),
    "contact_import_rejections": ("org_id", "import_id"),
    "contacts": ("org_id", "source_id"),
    "email_preferences": ("org_id",),
    "idempotency_keys": ("org_id",),
    "preference_events": ("org_id",),
    "segment_members": ("org_id", "segment_id", "audience_id"),
    "segment_skips": ("org_id", "segment_id"),
    "stated_opt_outs": ("org_id",),
    "subscription_requests": ("org_id",),
    "suppressions": ("org_id",),
    "sync_changes": ("org_id", "run_id"),
    "sync_runs": ("org_id", "segment_id"),
    "transactional_events": ("org_id",),
    "transactional_messages": ("org_id",),
    "transactional_recipients": ("org_id",),
    "webhook_events": ("org_id", "audience_id"),
}


# Only a superuser may delete statistics. A change of a column's type removes them as well, and one to the
# same type writes neither the table nor its indexes anew. Policies that name the column make room for it.
_FORGET = """
do $$
declare
    policy record;
    again text[] := '{{}}';
    statement text;
begin
    if (select reltuples from pg_class where oid = '{table}'::regclass) < 0 then
        return;  -- never analysed
    end if;
    for policy in select * from pg_policies
                  where schemaname = current_schema() and tablename = '{table}'
                    and concat(qual, ' ', with_check) ~ '{named}' loop
        execute format('drop policy %I on {table}', policy.policyname);
        again := again || concat(
            format('create policy %I on {table} as %s for %s to %s', policy.policyname,
                   policy.permissive, policy.cmd, array_to_string(policy.roles, ', ')),
            ' using (' || policy.qual || ')', ' with check (' || policy.with_check || ')');
    end loop;
    execute 'alter table {table} {alterations}';
    foreach statement in array again loop
        execute statement;
    end loop;
end $$
"""


def _forget() -> None:
    for table, columns in _OWNERS.items():
        op.execute(
            _FORGET.format(
                table=table,
                named=rf"\m({'|'.join(columns)})\M",
                alterations=", ".join(f"alter column {c} type uuid" for c in columns),
            )
        )


def _set(target: int) -> None:
    for table, columns in _OWNERS.items():
        alterations = ", ".join(f"alter column {c} set statistics {target}" for c in columns)
        op.execute(f"alter table {table} {alterations}")


def upgrade() -> None:
    # One table at a time, each locked for a moment: no deadlock with the service.
    with op.get_context().autocommit_block():
        _set(0)
        _forget()
    op.execute("set local lock_timeout = '5s'")
    op.drop_index("ix_audience_members_status", "audience_members")
    op.create_index(
        "ix_audience_members_status",
        "audience_members",
        ["audience_id"],
        postgresql_include=["status"],
    )


def downgrade() -> None:
    _set(-1)
    op.drop_index("ix_audience_members_status", "audience_members")
    op.create_index("ix_audience_members_status", "audience_members", ["audience_id", "status"])
