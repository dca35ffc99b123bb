"""the right to erasure

Revision ID: 0003_erasures
Revises: 0002_webhooks
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

from mcsync.core.db import tenancy

revision = "0003_erasures"
down_revision = "0002_webhooks"
branch_labels = None
depends_on = None


# The owner of the one way to delete from the append-only history of consent. Nothing logs in as it.
ERASER = """
do $$
begin
    if not exists (select from pg_roles where rolname = 'mcsync_eraser') then
        begin
            create role mcsync_eraser nologin nosuperuser nobypassrls;
        exception when duplicate_object or unique_violation then null;
        end;
    end if;
    if not (select rolsuper from pg_roles where rolname = current_user) then
        execute format('grant mcsync_eraser to %I', current_user);
    end if;
end $$;
"""

FORGET = "mcsync_forget_history(erasure uuid, kind text, ident text) returns integer"
FORGET_HISTORY = f"""
create function {FORGET}
language plpgsql security definer set search_path = public, pg_temp as $$
declare forgotten integer;
begin
    -- row-level security binds this to the organisation; and only an erasure under way may ask
    if not exists (select from erasures e where e.id = erasure and e.status = 'open') then
        return 0;
    end if;
    delete from preference_events where entity_type = kind and entity_id = ident;
    get diagnostics forgotten = row_count;
    return forgotten;
end $$
"""

# Erasures that are due and that nobody holds; answers ids only.
LOOKUPS = {
    "mcsync_due_erasures(most integer) returns table (erasure_id uuid, org_id uuid, epoch integer)": """
        select e.id, e.org_id, e.epoch from erasures e
        where e.status = 'open' and e.next_attempt_at <= clock_timestamp()
          and (e.lease_until is null or e.lease_until < clock_timestamp())
        order by e.next_attempt_at limit most""",
}


def _moment(name: str, *, nullable: bool = True, default: str | None = None) -> sa.Column:
    return sa.Column(
        name,
        sa.DateTime(timezone=True),
        server_default=sa.text(default) if default else None,
        nullable=nullable,
    )


def _jsonb(name: str, default: str) -> sa.Column:
    return sa.Column(
        name,
        postgresql.JSONB(astext_type=sa.Text()),
        server_default=sa.text(default),
        nullable=False,
    )


def upgrade() -> None:
    op.execute("set local lock_timeout = '5s'")
    op.create_table(
        "erasures",
        sa.Column("id", sa.Uuid(), server_default=sa.text("mcsync_uuid7()"), nullable=False),
        sa.Column("org_id", sa.Uuid(), nullable=False),
        sa.Column("status", sa.Text(), server_default="open", nullable=False),
        sa.Column("subject_kind", sa.Text(), nullable=False),
        sa.Column("subject_key", sa.Uuid(), nullable=False),
        sa.Column("subject", sa.Text(), nullable=True),
        sa.Column("account_id", sa.Text(), nullable=True),
        _moment("requested_at", nullable=False, default="now()"),
        sa.Column("actor_kind", sa.Text(), nullable=False),
        sa.Column("actor_id", sa.Text(), nullable=True),
        _moment("scrubbed_at"),
        sa.Column("addresses", sa.Integer(), server_default="0", nullable=False),
        sa.Column("epoch", sa.Integer(), server_default="0", nullable=False),
        sa.Column("lease_owner", sa.Text(), nullable=True),
        _moment("lease_until"),
        sa.Column("attempts", sa.Integer(), server_default="0", nullable=False),
        _moment("next_attempt_at", nullable=False, default="now()"),
        sa.Column("last_error", sa.Text(), nullable=True),
        _jsonb("report", "'{}'"),
        sa.Column(
            "receipt", postgresql.JSONB(none_as_null=True, astext_type=sa.Text()), nullable=True
        ),
        sa.Column("signature", sa.Text(), nullable=True),
        _moment("completed_at"),
        sa.ForeignKeyConstraint(
            ["org_id"],
            ["organisations.id"],
            name=op.f("fk_erasures_org_id_organisations"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_erasures")),
    )
    op.create_index(
        "ix_erasures_due",
        "erasures",
        ["next_attempt_at"],
        unique=False,
        postgresql_where=sa.text("status = 'open'"),
    )
    op.create_index("ix_erasures_subject", "erasures", ["org_id", "subject_key"], unique=False)
    op.create_index(
        "uq_erasures_open",
        "erasures",
        ["org_id", "subject_kind", "subject_key"],
        unique=True,
        postgresql_where=sa.text("status = 'open'"),
    )
    op.create_table(
        "erasure_targets",
        sa.Column("id", sa.Uuid(), server_default=sa.text("mcsync_uuid7()"), nullable=False),
        sa.Column("org_id", sa.Uuid(), nullable=False),
        sa.Column("erasure_id", sa.Uuid(), nullable=False),
        sa.Column("account_id", sa.Text(), nullable=False),
        sa.Column("audience_id", sa.Uuid(), nullable=True),
        sa.Column("list_id", sa.Text(), nullable=True),
        sa.Column("address_no", sa.Integer(), nullable=False),
        sa.Column("address_hash", sa.Uuid(), nullable=True),
        sa.Column("member_id", sa.Text(), nullable=True),
        sa.Column("state", sa.Text(), server_default="open", nullable=False),
        _jsonb("delete_answers", "'[]'"),
        _moment("read_back_at"),
        sa.Column("read_back_status", sa.Integer(), nullable=True),
        sa.Column("attempts", sa.Integer(), server_default="0", nullable=False),
        _moment("next_attempt_at", nullable=False, default="now()"),
        sa.Column("last_error", sa.Text(), nullable=True),
        sa.Column("closed_reason", sa.Text(), nullable=True),
        sa.Column("closed_by", sa.Text(), nullable=True),
        _moment("closed_at"),
        sa.ForeignKeyConstraint(
            ["erasure_id"],
            ["erasures.id"],
            name=op.f("fk_erasure_targets_erasure_id_erasures"),
            ondelete="CASCADE",
        ),
        sa.ForeignKeyConstraint(
            ["org_id"],
            ["organisations.id"],
            name=op.f("fk_erasure_targets_org_id_organisations"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_erasure_targets")),
    )
    op.create_index(
        "uq_erasure_targets",
        "erasure_targets",
        ["erasure_id", "account_id", "audience_id", "address_no"],
        unique=True,
        postgresql_nulls_not_distinct=True,
    )
    op.add_column("suppressions", sa.Column("erasure_id", sa.Uuid(), nullable=True))
    op.add_column(
        "suppressions",
        sa.Column(
            "lift", postgresql.JSONB(none_as_null=True, astext_type=sa.Text()), nullable=True
        ),
    )
    tenancy.secure("erasures", "erasure_targets")
    tenancy.create_look_ups(LOOKUPS, reads=["erasures"])
    op.execute(ERASER)
    op.execute("grant usage on schema public to mcsync_eraser")
    op.execute("grant select on erasures to mcsync_eraser")
    op.execute("grant select, delete on preference_events to mcsync_eraser")
    tenancy.create_function(FORGET_HISTORY, FORGET, owner="mcsync_eraser")


def downgrade() -> None:
    op.execute("set local lock_timeout = '5s'")
    tenancy.drop_look_ups(LOOKUPS)
    op.execute("drop function mcsync_forget_history")
    op.execute("revoke all on preference_events from mcsync_eraser")
    op.execute("revoke usage on schema public from mcsync_eraser")
    op.drop_column("suppressions", "lift")
    op.drop_column("suppressions", "erasure_id")
    op.drop_table("erasure_targets")
    op.drop_table("erasures")
    # the role stays: it belongs to the cluster, and other databases may use it
