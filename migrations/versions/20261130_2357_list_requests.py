"""requests to be subscribed are listed by the time they were made

Revision ID: 0013_list_requests
Revises: 0010_pulls_go_on
"""

from __future__ import annotations

from alembic import op

revision = "0013_list_requests"
down_revision = "0012_unreadable_fields"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute("set local lock_timeout = '5s'")
    op.create_index(
        "ix_subscription_requests_listed", "subscription_requests", ["org_id", "requested_at", "id"]
    )


def downgrade() -> None:
    op.execute("set local lock_timeout = '5s'")
    op.drop_index("ix_subscription_requests_listed", "subscription_requests")
