"""marketing permissions: what an audience asks its members, and what of it our consents answer

Revision ID: 0008_marketing_permissions
Revises: 0007_transactional
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0008_marketing_permissions"
down_revision = "0007_transactional"
branch_labels = None
depends_on = None


def _json(name: str, default: str) -> sa.Column:
    return sa.Column(
        name,
        postgresql.JSONB(astext_type=sa.Text()),
        server_default=sa.text(f"'{default}'"),
        nullable=False,
    )


def upgrade() -> None:
    op.execute("set local lock_timeout = '5s'")
    op.add_column("audiences", _json("marketing_permissions", "[]"))
    op.add_column("audiences", _json("permission_map", "{}"))
    op.add_column("audience_members", sa.Column("permissions_pushed", sa.Uuid(), nullable=True))


def downgrade() -> None:
    op.execute("set local lock_timeout = '5s'")
    op.drop_column("audience_members", "permissions_pushed")
    op.drop_column("audiences", "permission_map")
    op.drop_column("audiences", "marketing_permissions")
