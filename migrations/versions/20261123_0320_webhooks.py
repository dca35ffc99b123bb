"""webhooks: endpoints, inbox, pulls between runs, and members held until they are read

Revision ID: 0002_webhooks
Revises: 0001_initial
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from mcsync.core.db import tenancy

revision = "0002_webhooks"
down_revision = "0001_initial"
branch_labels = None
depends_on = None

TABLES = ("audience_pulls", "webhook_endpoints", "webhook_events")

# The audiences that somebody uses: of the connected account, with a live segment.
_USED = """
    select a.id, a.org_id from audiences a
    join mailchimp_connections c on c.org_id = a.org_id and c.account_id = a.account_id
         and c.soft_deleted_at is null
    where a.gone_at is null and exists (
        select from contact_segments s
        where s.audience_id = a.id and s.soft_deleted_at is null)
"""

# Look-ups across organisations: they answer ids only. Signature, its types, body, tables.
LOOKUPS = {
    "mcsync_webhook_endpoint(hash bytea) returns table (endpoint_id uuid, org_id uuid)": """select e.id, e.org_id from webhook_endpoints e
           where e.token_hash = hash
              or (e.previous_token_hash = hash and e.previous_until > clock_timestamp())""",
    "mcsync_due_webhook_events(most integer) returns table (audience_id uuid, org_id uuid)": """select w.audience_id, w.org_id from webhook_events w
           where w.status = 'due' and w.next_attempt_at <= clock_timestamp()
             and (w.lease_until is null or w.lease_until < clock_timestamp())
           group by 1, 2 order by min(w.next_attempt_at) limit most""",
    "mcsync_due_webhook_checks(most integer) returns setof uuid": f"""select distinct d.org_id from (
               select u.org_id from ({_USED}) u
               where not exists (select from webhook_endpoints e
                                 where e.audience_id = u.id and e.org_id = u.org_id
                                   and e.status <> 'removed')
               union all
               select e.org_id from webhook_endpoints e
               where e.status <> 'removed' and e.next_check_at <= clock_timestamp()
                 and (e.lease_until is null or e.lease_until < clock_timestamp())) d
           limit most""",
    "mcsync_due_audience_pulls(most integer) returns table (audience_id uuid, org_id uuid)": f"""select u.id, u.org_id from ({_USED}) u
           left join audience_pulls p on p.audience_id = u.id
           where p.audience_id is null
              or (p.next_pull_at <= clock_timestamp()
                  and (p.lease_until is null or p.lease_until < clock_timestamp())
                  and not exists (
                      select from sync_runs r where r.audience_id = u.id and not r.dry_run
                        and not r.immediate and r.status in ('pulling', 'planning', 'pushing')))
           order by p.next_pull_at limit most""",
}
READ_BY_LOOKUPS = (
    "audience_pulls",
    "audiences",
    "contact_segments",
    "webhook_endpoints",
    "webhook_events",
)


def upgrade() -> None:
    op.execute("set local lock_timeout = '5s'")
    op.add_column(
        "audience_members", sa.Column("hold_until", sa.DateTime(timezone=True), nullable=True)
    )
    op.create_index(
        "ix_audience_members_held",
        "audience_members",
        ["audience_id", "address_hash"],
        unique=False,
        postgresql_where=sa.text("hold_until is not null"),
    )
    op.create_table(
        "audience_pulls",
        sa.Column("audience_id", sa.Uuid(), nullable=False),
        sa.Column("org_id", sa.Uuid(), nullable=False),
        sa.Column(
            "next_pull_at",
            sa.DateTime(timezone=True),
            server_default=sa.text("now()"),
            nullable=False,
        ),
        sa.Column("lease_until", sa.DateTime(timezone=True), nullable=True),
        sa.Column("attempts", sa.Integer(), server_default="0", nullable=False),
        sa.Column("pulled_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("last_error", sa.Text(), nullable=True),
        sa.ForeignKeyConstraint(
            ["audience_id"],
            ["audiences.id"],
            name=op.f("fk_audience_pulls_audience_id_audiences"),
            ondelete="CASCADE",
        ),
        sa.ForeignKeyConstraint(
            ["org_id"],
            ["organisations.id"],
            name=op.f("fk_audience_pulls_org_id_organisations"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("audience_id", name=op.f("pk_audience_pulls")),
    )
    op.create_index("ix_audience_pulls_due", "audience_pulls", ["next_pull_at"], unique=False)
    op.create_table(
        "webhook_endpoints",
        sa.Column("id", sa.Uuid(), server_default=sa.text("mcsync_uuid7()"), nullable=False),
        sa.Column("org_id", sa.Uuid(), nullable=False),
        sa.Column("audience_id", sa.Uuid(), nullable=False),
        sa.Column("account_id", sa.Text(), nullable=False),
        sa.Column("list_id", sa.Text(), nullable=False),
        sa.Column("token", sa.Text(), nullable=False),
        sa.Column("token_hash", sa.LargeBinary(), nullable=False),
        sa.Column("signing_secret", sa.Text(), nullable=True),
        sa.Column("webhook_id", sa.Text(), nullable=True),
        sa.Column("previous_token_hash", sa.LargeBinary(), nullable=True),
        sa.Column("previous_until", sa.DateTime(timezone=True), nullable=True),
        sa.Column("previous_signing_secret", sa.Text(), nullable=True),
        sa.Column("status", sa.Text(), server_default="missing", nullable=False),
        sa.Column("last_event_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("checked_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("renewed_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("last_error", sa.Text(), nullable=True),
        sa.Column("attempts", sa.Integer(), server_default="0", nullable=False),
        sa.Column(
            "next_check_at",
            sa.DateTime(timezone=True),
            server_default=sa.text("now()"),
            nullable=False,
        ),
        sa.Column("lease_until", sa.DateTime(timezone=True), nullable=True),
        sa.Column(
            "created_at",
            sa.DateTime(timezone=True),
            server_default=sa.text("now()"),
            nullable=False,
        ),
        sa.Column(
            "updated_at",
            sa.DateTime(timezone=True),
            server_default=sa.text("now()"),
            nullable=False,
        ),
        sa.ForeignKeyConstraint(
            ["audience_id"],
            ["audiences.id"],
            name=op.f("fk_webhook_endpoints_audience_id_audiences"),
            ondelete="CASCADE",
        ),
        sa.ForeignKeyConstraint(
            ["org_id"],
            ["organisations.id"],
            name=op.f("fk_webhook_endpoints_org_id_organisations"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_webhook_endpoints")),
    )
    op.create_index(
        "ix_webhook_endpoints_due",
        "webhook_endpoints",
        ["next_check_at"],
        unique=False,
        postgresql_where=sa.text("status <> 'removed'"),
    )
    op.create_index(
        "uq_webhook_endpoints_audience",
        "webhook_endpoints",
        ["org_id", "audience_id"],
        unique=True,
    )
    op.create_index(
        "uq_webhook_endpoints_previous",
        "webhook_endpoints",
        ["previous_token_hash"],
        unique=True,
        postgresql_where=sa.text("previous_token_hash is not null"),
    )
    op.create_index("uq_webhook_endpoints_token", "webhook_endpoints", ["token_hash"], unique=True)
    op.create_table(
        "webhook_events",
        sa.Column("id", sa.Uuid(), server_default=sa.text("mcsync_uuid7()"), nullable=False),
        sa.Column("org_id", sa.Uuid(), nullable=False),
        sa.Column("audience_id", sa.Uuid(), nullable=False),
        sa.Column("endpoint_id", sa.Uuid(), nullable=False),
        sa.Column("type", sa.Text(), nullable=False),
        sa.Column("address_hash", sa.Uuid(), nullable=False),
        sa.Column("email", sa.Text(), nullable=True),
        sa.Column("new_hash", sa.Uuid(), nullable=True),
        sa.Column("new_email", sa.Text(), nullable=True),
        sa.Column("action", sa.Text(), nullable=True),
        sa.Column("reason", sa.Text(), nullable=True),
        sa.Column("fired_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("dedupe", sa.LargeBinary(), nullable=False),
        sa.Column(
            "received_at",
            sa.DateTime(timezone=True),
            server_default=sa.text("now()"),
            nullable=False,
        ),
        sa.Column("status", sa.Text(), server_default="due", nullable=False),
        sa.Column("outcome", sa.Text(), nullable=True),
        sa.Column("attempts", sa.Integer(), server_default="0", nullable=False),
        sa.Column(
            "next_attempt_at",
            sa.DateTime(timezone=True),
            server_default=sa.text("now()"),
            nullable=False,
        ),
        sa.Column("lease_until", sa.DateTime(timezone=True), nullable=True),
        sa.Column("worked_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("last_error", sa.Text(), nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_webhook_events")),
    )
    op.create_index(
        "ix_webhook_events_address",
        "webhook_events",
        ["audience_id", "address_hash"],
        unique=False,
    )
    op.create_index(
        "ix_webhook_events_due",
        "webhook_events",
        ["audience_id", "next_attempt_at"],
        unique=False,
        postgresql_where=sa.text("status = 'due'"),
    )
    op.create_index(
        "ix_webhook_events_received", "webhook_events", ["org_id", "received_at"], unique=False
    )
    op.create_index(
        "uq_webhook_events_dedupe", "webhook_events", ["audience_id", "dedupe"], unique=True
    )
    tenancy.secure(*TABLES)
    tenancy.create_look_ups(LOOKUPS, reads=READ_BY_LOOKUPS, policy="lookup_webhooks")


def downgrade() -> None:
    op.execute("set local lock_timeout = '5s'")
    tenancy.drop_look_ups(LOOKUPS)
    for table in READ_BY_LOOKUPS:
        op.execute(f"drop policy lookup_webhooks on {table}")
    op.drop_table("webhook_events")
    op.drop_table("webhook_endpoints")
    op.drop_table("audience_pulls")
    op.drop_index(
        "ix_audience_members_held",
        table_name="audience_members",
        postgresql_where=sa.text("hold_until is not null"),
    )
    op.drop_column("audience_members", "hold_until")
