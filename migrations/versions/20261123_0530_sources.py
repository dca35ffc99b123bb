"""sources: queries against the organisation's own database, and what was pulled from them

Revision ID: 0004_sources
Revises: 0003_erasures
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

from mcsync.core.db import tenancy

revision = "0004_sources"
down_revision = "0003_erasures"
branch_labels = None
depends_on = None

TABLES = ("sources", "source_pulls")

# Look-ups across organisations: they answer ids only. Signature, its types, body, tables.
LOOKUPS = {
    "mcsync_due_source_pulls(most integer) returns table (pull_id uuid, org_id uuid, epoch integer)": """select p.id, p.org_id, p.epoch from source_pulls p
           where p.status in ('queued', 'pulling')
             and (p.lease_until is null or p.lease_until < clock_timestamp())
             and p.next_attempt_at <= clock_timestamp()
           order by p.next_attempt_at limit most""",
    "mcsync_source_organisation_ids() returns setof uuid": "select distinct org_id from sources where soft_deleted_at is null order by org_id",
}


def _moment(name: str, *, now: bool = False) -> sa.Column:
    return sa.Column(
        name,
        sa.DateTime(timezone=True),
        server_default=sa.text("now()") if now else None,
        nullable=not now,
    )


def _organisation(table: str) -> sa.ForeignKeyConstraint:
    return sa.ForeignKeyConstraint(
        ["org_id"],
        ["organisations.id"],
        name=op.f(f"fk_{table}_org_id_organisations"),
        ondelete="CASCADE",
    )


def upgrade() -> None:
    op.execute("set local lock_timeout = '5s'")
    op.add_column("contacts", sa.Column("source_id", sa.Uuid(), nullable=True))
    op.create_index(
        "ix_contacts_source",
        "contacts",
        ["org_id", "source_id"],
        unique=False,
        postgresql_where=sa.text("source_id is not null"),
    )
    jsonb = postgresql.JSONB(astext_type=sa.Text())
    op.create_table(
        "sources",
        sa.Column("id", sa.Uuid(), server_default=sa.text("mcsync_uuid7()"), nullable=False),
        sa.Column("org_id", sa.Uuid(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("url", sa.Text(), nullable=True),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("place", sa.Text(), nullable=False),
        sa.Column("query", sa.Text(), nullable=False),
        sa.Column("mode", sa.Text(), nullable=False),
        sa.Column("watermark_column", sa.Text(), nullable=True),
        sa.Column("watermark", jsonb, nullable=True),
        sa.Column("overlap", sa.Integer(), server_default="300", nullable=False),
        sa.Column("key_column", sa.Text(), nullable=True),
        sa.Column("acknowledge", sa.Text(), nullable=True),
        sa.Column("mapping", jsonb, nullable=False),
        sa.Column("snapshot", sa.Boolean(), server_default="false", nullable=False),
        sa.Column("timeout_seconds", sa.Integer(), server_default="300", nullable=False),
        sa.Column("status", sa.Text(), server_default="new", nullable=False),
        sa.Column("status_code", sa.Text(), nullable=True),
        sa.Column("status_detail", sa.Text(), nullable=True),
        _moment("scheduled_for"),
        _moment("soft_deleted_at"),
        _moment("created_at", now=True),
        _moment("updated_at", now=True),
        _organisation("sources"),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_sources")),
    )
    op.create_index(
        "uq_sources_name",
        "sources",
        ["org_id", sa.literal_column("lower(name)")],
        unique=True,
        postgresql_where=sa.text("soft_deleted_at is null"),
    )
    op.create_table(
        "source_pulls",
        sa.Column("id", sa.Uuid(), server_default=sa.text("mcsync_uuid7()"), nullable=False),
        sa.Column("org_id", sa.Uuid(), nullable=False),
        sa.Column("source_id", sa.Uuid(), nullable=False),
        sa.Column("trigger", sa.Text(), nullable=False),
        sa.Column("status", sa.Text(), server_default="queued", nullable=False),
        sa.Column("from_start", sa.Boolean(), server_default="false", nullable=False),
        sa.Column("confirm_withdrawals", sa.Boolean(), server_default="false", nullable=False),
        sa.Column("confirm_deletions", sa.Boolean(), server_default="false", nullable=False),
        sa.Column("import_id", sa.Uuid(), nullable=True),
        sa.Column("report", jsonb, server_default=sa.text("'{}'"), nullable=False),
        sa.Column("error", jsonb, nullable=True),
        sa.Column("request_id", sa.Text(), nullable=True),
        _moment("created_at", now=True),
        _moment("started_at"),
        _moment("finished_at"),
        sa.Column("epoch", sa.Integer(), server_default="0", nullable=False),
        sa.Column("attempts", sa.Integer(), server_default="0", nullable=False),
        _moment("next_attempt_at", now=True),
        sa.Column("lease_owner", sa.Text(), nullable=True),
        _moment("lease_until"),
        _organisation("source_pulls"),
        sa.ForeignKeyConstraint(
            ["source_id"],
            ["sources.id"],
            name=op.f("fk_source_pulls_source_id_sources"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_source_pulls")),
    )
    live = sa.text("status in ('queued', 'pulling')")
    op.create_index("ix_source_pulls_source", "source_pulls", ["source_id", "id"], unique=False)
    op.create_index(
        "uq_source_pulls_live", "source_pulls", ["source_id"], unique=True, postgresql_where=live
    )
    op.create_index(
        "ix_source_pulls_due",
        "source_pulls",
        ["next_attempt_at"],
        unique=False,
        postgresql_where=live,
    )
    tenancy.secure(*TABLES)
    tenancy.create_look_ups(LOOKUPS, reads=TABLES)


def downgrade() -> None:
    op.execute("set local lock_timeout = '5s'")
    tenancy.drop_look_ups(LOOKUPS)
    op.drop_table("source_pulls")
    op.drop_table("sources")
    op.drop_index("ix_contacts_source", table_name="contacts")
    op.drop_column("contacts", "source_id")
