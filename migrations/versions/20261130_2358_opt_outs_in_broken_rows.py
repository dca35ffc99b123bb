"""what imports said last of opt-outs, which reported rows were taken, and the zone of a source's times

Revision ID: 0011_rows
Revises: 0010_pulls_go_on
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from mcsync.core.db import tenancy

revision = "0014_opt_outs_in_broken_rows"
down_revision = "0013_list_requests"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute("set local lock_timeout = '5s'")
    op.create_table(
        "stated_opt_outs",
        sa.Column("org_id", sa.Uuid(), nullable=False),
        sa.Column("channel", sa.Text(), nullable=False),
        sa.Column("entity_type", sa.Text(), nullable=False),
        sa.Column("entity_id", sa.Text(), nullable=False),
        sa.Column("statement", sa.Uuid(), nullable=False),
        sa.PrimaryKeyConstraint(
            "org_id", "channel", "entity_type", "entity_id", name=op.f("pk_stated_opt_outs")
        ),
    )
    tenancy.secure("stated_opt_outs")
    op.add_column(
        "contact_import_rejections",
        sa.Column("taken", sa.Boolean(), server_default="false", nullable=False),
    )
    # Forced row-level security would hide the rows from the owner, who runs this.
    op.execute("alter table contact_import_rejections no force row level security")
    op.execute("update contact_import_rejections set taken = true where code = 'opt_in_not_newer'")
    op.execute("alter table contact_import_rejections force row level security")
    op.add_column("sources", sa.Column("time_zone", sa.Text(), nullable=True))


def downgrade() -> None:
    op.execute("set local lock_timeout = '5s'")
    op.drop_column("sources", "time_zone")
    op.drop_column("contact_import_rejections", "taken")
    op.drop_table("stated_opt_outs")
