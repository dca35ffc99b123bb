"""tracked campaigns, their history, and the rounds that refresh them

Revision ID: 0005_campaigns
Revises: 0004_sources
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

from mcsync.core.db import tenancy

revision = "0005_campaigns"
down_revision = "0004_sources"
branch_labels = None
depends_on = None

ORG_TABLES = ("campaign_tracking", "campaign_points", "campaign_refreshes")

# Rounds that are due and that nobody holds; answers ids only.
LOOKUPS = {
    "mcsync_due_campaigns(most integer) returns table (org_id uuid, epoch integer)": """
        select r.org_id, r.epoch from campaign_refreshes r
        where r.next_attempt_at <= clock_timestamp()
          and (r.lease_until is null or r.lease_until < clock_timestamp())
        order by r.next_attempt_at limit most""",
}


def _figures() -> list[sa.Column]:
    count = lambda name: sa.Column(name, sa.Integer(), server_default="0", nullable=False)
    rate = lambda name: sa.Column(name, sa.Float(), server_default="0", nullable=False)
    return [
        count("emails_sent"),
        count("opens"),
        count("unique_opens"),
        rate("open_rate"),
        sa.Column("proxy_excluded_opens", sa.Integer(), nullable=True),
        sa.Column("proxy_excluded_unique_opens", sa.Integer(), nullable=True),
        sa.Column("proxy_excluded_open_rate", sa.Float(), nullable=True),
        count("clicks"),
        count("unique_clicks"),
        count("subscriber_clicks"),
        rate("click_rate"),
        count("hard_bounces"),
        count("soft_bounces"),
        count("syntax_errors"),
        count("unsubscribed"),
        count("abuse_reports"),
    ]


def upgrade() -> None:
    op.execute("set local lock_timeout = '5s'")
    moment = sa.DateTime(timezone=True)
    op.add_column(
        "mailchimp_connections", sa.Column("track_campaigns_since", moment, nullable=True)
    )
    op.create_table(
        "campaign_tracking",
        sa.Column("id", sa.Uuid(), server_default=sa.text("mcsync_uuid7()"), nullable=False),
        sa.Column("org_id", sa.Uuid(), nullable=False),
        sa.Column("account_id", sa.Text(), nullable=False),
        sa.Column("campaign_id", sa.Text(), nullable=False),
        sa.Column("web_id", sa.BigInteger(), nullable=True),
        sa.Column("list_id", sa.Text(), nullable=False),
        sa.Column("title", sa.Text(), nullable=False),
        sa.Column("subject", sa.Text(), nullable=False),
        sa.Column("type", sa.Text(), nullable=False),
        sa.Column("status", sa.Text(), nullable=False),
        sa.Column("create_time", moment, nullable=True),
        sa.Column("send_time", moment, nullable=True),
        sa.Column("last_open_at", moment, nullable=True),
        sa.Column("last_click_at", moment, nullable=True),
        sa.Column(
            "summary", postgresql.JSONB(none_as_null=True, astext_type=sa.Text()), nullable=True
        ),
        sa.Column("tracked_by", sa.Text(), nullable=False),
        sa.Column("gone_at", moment, nullable=True),
        sa.Column("settled_at", moment, nullable=True),
        sa.Column("untracked_at", moment, nullable=True),
        sa.Column("refreshed_at", moment, nullable=True),
        *_figures(),
        sa.Column("created_at", moment, server_default=sa.text("now()"), nullable=False),
        sa.Column("updated_at", moment, server_default=sa.text("now()"), nullable=False),
        sa.ForeignKeyConstraint(
            ["org_id"],
            ["organisations.id"],
            name=op.f("fk_campaign_tracking_org_id_organisations"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_campaign_tracking")),
    )
    op.create_index(
        "uq_campaign_tracking",
        "campaign_tracking",
        ["org_id", "account_id", "campaign_id"],
        unique=True,
    )
    op.create_index(
        "ix_campaign_tracking_live",
        "campaign_tracking",
        ["org_id", "account_id"],
        unique=False,
        postgresql_where=sa.text("settled_at is null and gone_at is null and untracked_at is null"),
    )
    op.create_table(
        "campaign_points",
        sa.Column("org_id", sa.Uuid(), nullable=False),
        sa.Column("tracking_id", sa.Uuid(), nullable=False),
        sa.Column("at", moment, nullable=False),
        sa.Column("status", sa.Text(), nullable=False),
        *_figures(),
        sa.PrimaryKeyConstraint("tracking_id", "at", name=op.f("pk_campaign_points")),
    )
    op.create_table(
        "campaign_refreshes",
        sa.Column("org_id", sa.Uuid(), nullable=False),
        sa.Column("due_at", moment, nullable=False),
        sa.Column("next_attempt_at", moment, nullable=True),
        sa.Column("attempts", sa.Integer(), server_default="0", nullable=False),
        sa.Column("epoch", sa.Integer(), server_default="0", nullable=False),
        sa.Column("lease_until", moment, nullable=True),
        sa.Column("last_error", sa.Text(), nullable=True),
        sa.Column("calls", sa.Integer(), server_default="0", nullable=False),
        sa.Column("finished_at", moment, nullable=True),
        sa.Column("updated_at", moment, server_default=sa.text("now()"), nullable=False),
        sa.ForeignKeyConstraint(
            ["org_id"],
            ["organisations.id"],
            name=op.f("fk_campaign_refreshes_org_id_organisations"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("org_id", name=op.f("pk_campaign_refreshes")),
    )
    op.create_index(
        "ix_campaign_refreshes_due",
        "campaign_refreshes",
        ["next_attempt_at"],
        unique=False,
        postgresql_where=sa.text("next_attempt_at is not null"),
    )
    tenancy.secure(*ORG_TABLES)
    tenancy.create_look_ups(LOOKUPS, reads=["campaign_refreshes"])


def downgrade() -> None:
    op.execute("set local lock_timeout = '5s'")
    tenancy.drop_look_ups(LOOKUPS)
    op.drop_table("campaign_refreshes")
    op.drop_table("campaign_points")
    op.drop_table("campaign_tracking")
    op.drop_column("mailchimp_connections", "track_campaigns_since")
