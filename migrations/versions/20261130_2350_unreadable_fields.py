"""values that a merge field does not take are told

Revision ID: 0011_unreadable_fields
Revises: 0010_pulls_go_on
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0012_unreadable_fields"
down_revision = "0011_account_answers"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute("set local lock_timeout = '5s'")
    op.add_column("audience_members", sa.Column("unreadable", sa.ARRAY(sa.Text()), nullable=True))
    op.create_index(
        "ix_audience_members_unreadable", "audience_members", ["audience_id", "address_hash"],
        postgresql_where=sa.text("unreadable is not null"),
    )  # fmt: skip
    op.add_column("sync_changes", sa.Column("unreadable", postgresql.JSONB(), nullable=True))
    for name, empty in (("unreadable", "{}"), ("warnings", "[]")):
        op.add_column(
            "sync_runs",
            sa.Column(
                name, postgresql.JSONB(), server_default=sa.text(f"'{empty}'"), nullable=False
            ),
        )
    # times are read as dates by now, and what cannot be read is left alone: look at everybody once
    op.execute("alter table audiences no force row level security")
    op.execute("update audiences set definition_xid = pg_current_xact_id()::text::bigint")
    op.execute("alter table audiences force row level security")


def downgrade() -> None:
    op.execute("set local lock_timeout = '5s'")
    op.drop_column("sync_runs", "warnings")
    op.drop_column("sync_runs", "unreadable")
    op.drop_column("sync_changes", "unreadable")
    op.drop_index("ix_audience_members_unreadable", "audience_members")
    op.drop_column("audience_members", "unreadable")
