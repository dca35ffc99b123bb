"""a full pull that is cut off goes on where it was

Revision ID: 0010_pulls_go_on
Revises: 0009_history_by_address
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0010_pulls_go_on"
down_revision = "0009_history_by_address"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute("set local lock_timeout = '5s'")
    for name in ("full_pull_from", "full_pull_to"):
        op.add_column("audiences", sa.Column(name, sa.DateTime(timezone=True), nullable=True))


def downgrade() -> None:
    op.execute("set local lock_timeout = '5s'")
    op.drop_column("audiences", "full_pull_to")
    op.drop_column("audiences", "full_pull_from")
