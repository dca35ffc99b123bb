"""The planner keeps no statistics of the columns that say whose a row is (decision 0017)."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0016_key_statistics"
down_revision = "0015_one_mailbox"
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


_POLICIES = sa.text(
    """select policyname, cmd, qual, with_check, permissive, array_to_string(roles, ', ') as roles
       from pg_policies where schemaname = current_schema() and tablename = :table
         and concat(qual, ' ', with_check) ~ :columns"""
)


def _forget() -> None:
    """Removes what was gathered of these columns before: only a superuser may delete statistics.

    A change of a column's type removes them as well, and one to the same type writes neither the table nor
    its indexes anew. Policies that name the column have to make room for it.
    """
    connection = op.get_bind()
    analysed = connection.scalars(
        sa.text(
            "select relname from pg_class where relnamespace = current_schema()::regnamespace"
            " and relname = any(:tables) and reltuples >= 0"
        ),
        {"tables": list(_OWNERS)},
    ).all()
    for table in sorted(analysed):
        columns = _OWNERS[table]
        named = rf"\m({'|'.join(columns)})\M"
        policies = connection.execute(_POLICIES, {"table": table, "columns": named}).all()
        for policy in policies:
            op.execute(f'drop policy "{policy.policyname}" on {table}')
        op.execute(
            f"alter table {table} " + ", ".join(f"alter column {c} type uuid" for c in columns)
        )
        for policy in policies:
            check = f"with check ({policy.with_check})" if policy.with_check else ""
            using = f"using ({policy.qual})" if policy.qual else ""
            op.execute(
                f'create policy "{policy.policyname}" on {table} as {policy.permissive}'
                f" for {policy.cmd} to {policy.roles} {using} {check}"
            )


def _set(target: int) -> None:
    for table, columns in _OWNERS.items():
        alterations = ", ".join(f"alter column {c} set statistics {target}" for c in columns)
        op.execute(f"alter table {table} {alterations}")


def upgrade() -> None:
    op.execute("set local lock_timeout = '5s'")
    _set(0)
    _forget()
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
