"""how a Mailchimp account answers the open questions

Revision ID: 0011_account_answers
Revises: 0010_pulls_go_on
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from mcsync.core.db import tenancy

revision = "0011_account_answers"
down_revision = "0010_pulls_go_on"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute("set local lock_timeout = '5s'")
    op.create_table(
        "account_answers",
        sa.Column("org_id", sa.Uuid(), nullable=False),
        sa.Column("account_id", sa.Text(), nullable=False),
        sa.Column("question", sa.Text(), nullable=False),
        sa.Column("answer", sa.Text(), nullable=False),
        sa.Column("seen_at", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(
            ["org_id"],
            ["organisations.id"],
            name=op.f("fk_account_answers_org_id_organisations"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint(
            "org_id", "account_id", "question", name=op.f("pk_account_answers")
        ),
    )
    tenancy.secure("account_answers")


def downgrade() -> None:
    op.execute("set local lock_timeout = '5s'")
    op.drop_table("account_answers")
