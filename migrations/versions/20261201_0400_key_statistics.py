"""The planner keeps no statistics of the columns that say whose a row is (decision 0017)."""

from __future__ import annotations

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


def _set(target: int) -> None:
    for table, columns in _OWNERS.items():
        alterations = ", ".join(f"alter column {c} set statistics {target}" for c in columns)
        op.execute(f"alter table {table} {alterations}")


def upgrade() -> None:
    op.execute("set local lock_timeout = '5s'")
    _set(0)
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
