"""requests to be subscribed, publishable tokens, and members who were asked to confirm

Revision ID: 0006_subscribers
Revises: 0005_campaigns
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

from mcsync.core.db import tenancy

revision = "0006_subscribers"
down_revision = "0005_campaigns"
branch_labels = None
depends_on = None


# Form posts that are due and that nobody holds; answers ids only.
LOOKUPS = {
    "mcsync_due_form_posts(most integer) returns table (request_id uuid, org_id uuid, epoch integer)": """
        select r.id, r.org_id, r.epoch from subscription_requests r
        where r.next_attempt_at <= clock_timestamp()
          and (r.lease_until is null or r.lease_until < clock_timestamp())
        order by r.next_attempt_at limit most""",
}


def upgrade() -> None:
    op.execute("set local lock_timeout = '5s'")
    moment = sa.DateTime(timezone=True)
    op.add_column("service_tokens", sa.Column("audience_ids", sa.ARRAY(sa.Text()), nullable=True))
    op.add_column("audience_members", sa.Column("requested_at", moment, nullable=True))
    op.create_index(
        "ix_audience_members_requested",
        "audience_members",
        ["audience_id", "address_hash"],
        unique=False,
        postgresql_where=sa.text("requested_at is not null"),
    )
    op.create_table(
        "subscription_requests",
        sa.Column("id", sa.Uuid(), server_default=sa.text("mcsync_uuid7()"), nullable=False),
        sa.Column("org_id", sa.Uuid(), nullable=False),
        sa.Column("audience_id", sa.Uuid(), nullable=False),
        sa.Column("address_key", sa.Uuid(), nullable=False),
        sa.Column("address_hash", sa.Uuid(), nullable=False),
        sa.Column("email", sa.Text(), nullable=True),
        sa.Column("wanted", sa.Text(), nullable=False),
        sa.Column(
            "merge_fields",
            postgresql.JSONB(astext_type=sa.Text()),
            server_default=sa.text("'{}'"),
            nullable=False,
        ),
        sa.Column("language", sa.Text(), nullable=True),
        sa.Column("via", sa.Text(), nullable=False),
        sa.Column("source", sa.Text(), nullable=False),
        sa.Column(
            "proof",
            postgresql.JSONB(astext_type=sa.Text()),
            server_default=sa.text("'{}'"),
            nullable=False,
        ),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("outcome", sa.Text(), nullable=True),
        sa.Column("requested_at", moment, server_default=sa.text("now()"), nullable=False),
        sa.Column("done_at", moment, nullable=True),
        sa.Column("attempts", sa.Integer(), server_default="0", nullable=False),
        sa.Column("epoch", sa.Integer(), server_default="0", nullable=False),
        sa.Column("lease_until", moment, nullable=True),
        sa.Column("next_attempt_at", moment, nullable=True),
        sa.Column("last_error", sa.Text(), nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_subscription_requests")),
    )
    op.create_index(
        "ix_subscription_requests_key",
        "subscription_requests",
        ["org_id", "address_key"],
        unique=False,
    )
    op.create_index(
        "ix_subscription_requests_due",
        "subscription_requests",
        ["next_attempt_at"],
        unique=False,
        postgresql_where=sa.text("next_attempt_at is not null"),
    )
    tenancy.secure("subscription_requests")
    tenancy.create_look_ups(LOOKUPS, reads=["subscription_requests"])


def downgrade() -> None:
    op.execute("set local lock_timeout = '5s'")
    tenancy.drop_look_ups(LOOKUPS)
    op.drop_table("subscription_requests")
    op.drop_index(
        "ix_audience_members_requested",
        table_name="audience_members",
        postgresql_where=sa.text("requested_at is not null"),
    )
    op.drop_column("audience_members", "requested_at")
    op.drop_column("service_tokens", "audience_ids")
