"""initial schema

Revision ID: 0001_initial
Revises:
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

from mcsync.core.db import tenancy

revision = "0001_initial"
down_revision = None
branch_labels = None
depends_on = None


ORG_TABLES = (
    "address_consents",
    "audience_aliases",
    "audience_calls",
    "audience_members",
    "audience_orders",
    "audience_refusals",
    "contact_addresses",
    "contact_import_rejections",
    "contacts",
    "email_preferences",
    "preference_events",
    "segment_members",
    "segment_skips",
    "sync_changes",
    "audiences",
    "audit_entries",
    "audit_heads",
    "contact_imports",
    "idempotency_keys",
    "mailchimp_connections",
    "service_tokens",
    "suppressions",
    "contact_segments",
    "segment_tags",
    "sync_runs",
)
CHANGE_TRACKED = (
    "address_consents",
    "audience_members",
    "audience_refusals",
    "contacts",
    "email_preferences",
    "suppressions",
)
APPEND_ONLY = ("audit_entries", "preference_events")

FUNCTIONS = (
    """
create function mcsync_uuid7() returns uuid language sql volatile parallel safe as $$
    -- 48 bits of milliseconds, version 7, variant 10, the rest random (RFC 9562, 5.7)
    select encode(
        set_bit(set_bit(overlay(
            uuid_send(gen_random_uuid())
            placing substring(int8send((extract(epoch from clock_timestamp()) * 1000)::bigint) from 3)
            from 1 for 6), 52, 1), 53, 1), 'hex')::uuid
$$""",
    """
create function mcsync_stamp_xid() returns trigger language plpgsql as $$
begin
    new.changed_xid := pg_current_xact_id()::text::bigint;
    return new;
end $$""",
)

# The group of the service's login role(s), and the owner of the look-ups: nothing logs in as either.
# Roles belong to the cluster, so another database's migration may have made them, even just now.
ROLES = """
do $$
declare wanted text;
begin
    foreach wanted in array array['mcsync_app', 'mcsync_lookup'] loop
        if not exists (select from pg_roles where rolname = wanted) then
            begin
                execute format('create role %I nologin nosuperuser nobypassrls', wanted);
            exception when duplicate_object or unique_violation then null;
            end;
        end if;
    end loop;
    -- the look-ups' owner must be grantable by whoever migrates (a superuser needs no grant)
    if not (select rolsuper from pg_roles where rolname = current_user) then
        execute format('grant mcsync_lookup to %I', current_user);
    end if;
end $$;
"""

# Look-ups across organisations: they answer ids only.
LOOKUPS = {
    "mcsync_token_org(wanted uuid) returns uuid": "select org_id from service_tokens where id = wanted",
    "mcsync_organisation_ids() returns setof uuid": "select id from organisations order by id",
    "mcsync_connected_organisation_ids() returns setof uuid": "select org_id from mailchimp_connections where soft_deleted_at is null order by org_id",
    "mcsync_due_runs(most integer) returns table (run_id uuid, org_id uuid, epoch integer)": """select r.id, r.org_id, r.epoch from sync_runs r
           where r.status in ('queued', 'pulling', 'planning', 'pushing')
             and (r.lease_until is null or r.lease_until < clock_timestamp())
             and r.next_attempt_at <= clock_timestamp()
             and (r.dry_run or r.status <> 'queued' or not exists (
                 select from sync_runs o where o.audience_id = r.audience_id and o.id <> r.id
                   and o.status in ('pulling', 'planning', 'pushing')
                   and not o.dry_run and not o.immediate))
           order by r.next_attempt_at limit most""",
    "mcsync_due_orders(most integer) returns table (audience_id uuid, org_id uuid)": """select o.audience_id, o.org_id from audience_orders o
           where o.status = 'open' and o.next_attempt_at <= clock_timestamp()
             and (o.lease_until is null or o.lease_until < clock_timestamp())
           group by 1, 2 order by min(o.next_attempt_at) limit most""",
}


READ_BY_LOOKUPS = (
    "service_tokens",
    "organisations",
    "mailchimp_connections",
    "sync_runs",
    "audience_orders",
)


def _secure() -> None:
    """Row-level security, forced even for the owner, and the grants of the service."""
    op.execute(ROLES)
    op.execute("grant usage on schema public to mcsync_app, mcsync_lookup")
    tenancy.secure(*(table for table in ORG_TABLES if table not in APPEND_ONLY))
    tenancy.secure(*APPEND_ONLY, rights="select, insert")
    tenancy.secure("organisations", column="id")
    op.execute("grant select, insert, update, delete on job_ticks, worker_heartbeats to mcsync_app")
    op.execute("grant select on alembic_version to mcsync_app")


def _track_changes() -> None:
    for table in CHANGE_TRACKED:
        op.execute(
            f"create trigger stamp_xid before update on {table} "
            "for each row execute function mcsync_stamp_xid()"
        )


def upgrade() -> None:
    op.execute("set local lock_timeout = '5s'")
    for function in FUNCTIONS:
        op.execute(function)
    op.create_table(
        "address_consents",
        sa.Column("org_id", sa.Uuid(), nullable=False),
        sa.Column("address_key", sa.Uuid(), nullable=False),
        sa.Column("address_hash", sa.Uuid(), nullable=True),
        sa.Column("withdrawn_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("withdrawn_source", sa.Text(), nullable=True),
        sa.Column("given_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("given_source", sa.Text(), nullable=True),
        sa.Column(
            "changed_xid",
            sa.BigInteger(),
            server_default=sa.text("(pg_current_xact_id()::text::bigint)"),
            nullable=False,
        ),
        sa.PrimaryKeyConstraint("org_id", "address_key", name=op.f("pk_address_consents")),
    )
    op.create_index(
        "ix_address_consents_changed", "address_consents", ["org_id", "changed_xid"], unique=False
    )
    op.create_index(
        "ix_address_consents_hash", "address_consents", ["org_id", "address_hash"], unique=False
    )
    op.create_table(
        "audience_aliases",
        sa.Column("org_id", sa.Uuid(), nullable=False),
        sa.Column("audience_id", sa.Uuid(), nullable=False),
        sa.Column("source_hash", sa.Uuid(), nullable=False),
        sa.Column("member_hash", sa.Uuid(), nullable=False),
        sa.Column("email", sa.Text(), nullable=False),
        sa.Column(
            "created_at",
            sa.DateTime(timezone=True),
            server_default=sa.text("now()"),
            nullable=False,
        ),
        sa.PrimaryKeyConstraint("audience_id", "source_hash", name=op.f("pk_audience_aliases")),
    )
    op.create_index(
        "ix_audience_aliases_member",
        "audience_aliases",
        ["audience_id", "member_hash"],
        unique=False,
    )
    op.create_table(
        "audience_calls",
        sa.Column("id", sa.Uuid(), server_default=sa.text("mcsync_uuid7()"), nullable=False),
        sa.Column("org_id", sa.Uuid(), nullable=False),
        sa.Column("audience_id", sa.Uuid(), nullable=False),
        sa.Column("run_id", sa.Uuid(), nullable=True),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("state", sa.Text(), server_default="taken", nullable=False),
        sa.Column("epoch", sa.Integer(), server_default="0", nullable=False),
        sa.Column("addresses", sa.ARRAY(sa.Uuid()), nullable=False),
        sa.Column(
            "taken_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False
        ),
        sa.Column("sent_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("answered_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("error", sa.Text(), nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_audience_calls")),
    )
    op.create_index(
        "ix_audience_calls_open",
        "audience_calls",
        ["audience_id"],
        unique=False,
        postgresql_where=sa.text("state <> 'answered'"),
    )
    op.create_index("ix_audience_calls_run", "audience_calls", ["run_id"], unique=False)
    op.create_table(
        "audience_members",
        sa.Column("org_id", sa.Uuid(), nullable=False),
        sa.Column("audience_id", sa.Uuid(), nullable=False),
        sa.Column("address_hash", sa.Uuid(), nullable=False),
        sa.Column("email", sa.Text(), nullable=True),
        sa.Column("contact_id", sa.Text(), nullable=True),
        sa.Column("status", sa.Text(), nullable=False),
        sa.Column("last_changed", sa.DateTime(timezone=True), nullable=True),
        sa.Column("timestamp_opt", sa.DateTime(timezone=True), nullable=True),
        sa.Column("timestamp_signup", sa.DateTime(timezone=True), nullable=True),
        sa.Column("unsubscribe_reason", sa.Text(), nullable=True),
        sa.Column("source", sa.Text(), nullable=True),
        sa.Column("owned", sa.Boolean(), server_default="false", nullable=False),
        sa.Column("intent_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("unsubscribed_by", sa.Text(), nullable=True),
        sa.Column("unsubscribe_cause", sa.Text(), nullable=True),
        sa.Column("unsubscribe_intent", sa.Text(), nullable=True),
        sa.Column("unsubscribe_intent_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("archive_intent_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("archived_by_us", sa.Boolean(), server_default="false", nullable=False),
        sa.Column("resubscribed_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("pending_added_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("asked_again_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("payload_hash", sa.Uuid(), nullable=True),
        sa.Column("payload_tags", sa.ARRAY(sa.Text()), nullable=True),
        sa.Column("fed_by", sa.Uuid(), nullable=True),
        sa.Column("pushed_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("pulled_in", sa.BigInteger(), nullable=True),
        sa.Column(
            "changed_xid",
            sa.BigInteger(),
            server_default=sa.text("(pg_current_xact_id()::text::bigint)"),
            nullable=False,
        ),
        sa.PrimaryKeyConstraint("audience_id", "address_hash", name=op.f("pk_audience_members")),
    )
    op.create_index(
        "ix_audience_members_changed",
        "audience_members",
        ["audience_id", "changed_xid"],
        unique=False,
    )
    op.create_index(
        "ix_audience_members_contact",
        "audience_members",
        ["audience_id", "contact_id"],
        unique=False,
    )
    op.create_index(
        "ix_audience_members_fed_by", "audience_members", ["audience_id", "fed_by"], unique=False
    )
    op.create_index(
        "ix_audience_members_status", "audience_members", ["audience_id", "status"], unique=False
    )
    op.create_table(
        "audience_orders",
        sa.Column("id", sa.Uuid(), server_default=sa.text("mcsync_uuid7()"), nullable=False),
        sa.Column("org_id", sa.Uuid(), nullable=False),
        sa.Column("audience_id", sa.Uuid(), nullable=False),
        sa.Column("address_hash", sa.Uuid(), nullable=False),
        sa.Column("email", sa.Text(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("status", sa.Text(), server_default="open", nullable=False),
        sa.Column("outcome", sa.Text(), nullable=True),
        sa.Column("attempts", sa.Integer(), server_default="0", nullable=False),
        sa.Column(
            "next_attempt_at",
            sa.DateTime(timezone=True),
            server_default=sa.text("now()"),
            nullable=False,
        ),
        sa.Column("lease_until", sa.DateTime(timezone=True), nullable=True),
        sa.Column("last_error", sa.Text(), nullable=True),
        sa.Column(
            "created_at",
            sa.DateTime(timezone=True),
            server_default=sa.text("now()"),
            nullable=False,
        ),
        sa.Column("answered_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("closed_at", sa.DateTime(timezone=True), nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_audience_orders")),
    )
    op.create_index(
        "ix_audience_orders_due",
        "audience_orders",
        ["next_attempt_at"],
        unique=False,
        postgresql_where=sa.text("status = 'open'"),
    )
    op.create_index(
        "uq_audience_orders_open",
        "audience_orders",
        ["audience_id", "address_hash", "kind"],
        unique=True,
        postgresql_where=sa.text("status = 'open'"),
    )
    op.create_table(
        "audience_refusals",
        sa.Column("org_id", sa.Uuid(), nullable=False),
        sa.Column("audience_id", sa.Uuid(), nullable=False),
        sa.Column("address_hash", sa.Uuid(), nullable=False),
        sa.Column("code", sa.Text(), nullable=False),
        sa.Column("message", sa.Text(), nullable=False),
        sa.Column("field", sa.Text(), nullable=True),
        sa.Column("payload_hash", sa.Uuid(), nullable=True),
        sa.Column("attempts", sa.Integer(), server_default="1", nullable=False),
        sa.Column(
            "first_seen_at",
            sa.DateTime(timezone=True),
            server_default=sa.text("now()"),
            nullable=False,
        ),
        sa.Column(
            "last_seen_at",
            sa.DateTime(timezone=True),
            server_default=sa.text("now()"),
            nullable=False,
        ),
        sa.Column("next_try_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column(
            "changed_xid",
            sa.BigInteger(),
            server_default=sa.text("(pg_current_xact_id()::text::bigint)"),
            nullable=False,
        ),
        sa.PrimaryKeyConstraint("audience_id", "address_hash", name=op.f("pk_audience_refusals")),
    )
    op.create_table(
        "contact_addresses",
        sa.Column("org_id", sa.Uuid(), nullable=False),
        sa.Column("contact_id", sa.Uuid(), nullable=False),
        sa.Column("address_hash", sa.Uuid(), nullable=False),
        sa.Column("address_key", sa.Uuid(), nullable=False),
        sa.Column("email", sa.Text(), nullable=False),
        sa.Column(
            "replaced_at",
            sa.DateTime(timezone=True),
            server_default=sa.text("now()"),
            nullable=False,
        ),
        sa.PrimaryKeyConstraint("contact_id", "address_hash", name=op.f("pk_contact_addresses")),
    )
    op.create_table(
        "contacts",
        sa.Column("id", sa.Uuid(), server_default=sa.text("mcsync_uuid7()"), nullable=False),
        sa.Column("org_id", sa.Uuid(), nullable=False),
        sa.Column("entity_type", sa.Text(), nullable=False),
        sa.Column("entity_id", sa.Text(), nullable=False),
        sa.Column("email", sa.Text(), nullable=True),
        sa.Column("address_hash", sa.Uuid(), nullable=True),
        sa.Column("address_key", sa.Uuid(), nullable=True),
        sa.Column("first_name", sa.Text(), nullable=True),
        sa.Column("last_name", sa.Text(), nullable=True),
        sa.Column("department", sa.Text(), nullable=True),
        sa.Column("location", sa.Text(), nullable=True),
        sa.Column("employment_type", sa.Text(), nullable=True),
        sa.Column("employment_status", sa.Text(), nullable=True),
        sa.Column(
            "attributes",
            postgresql.JSONB(astext_type=sa.Text()),
            server_default=sa.text("'{}'"),
            nullable=False,
        ),
        sa.Column("version", sa.Integer(), server_default="1", nullable=False),
        sa.Column("deleted_at", sa.DateTime(timezone=True), nullable=True),
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
        sa.Column(
            "changed_xid",
            sa.BigInteger(),
            server_default=sa.text("(pg_current_xact_id()::text::bigint)"),
            nullable=False,
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_contacts")),
    )
    op.create_index("ix_contacts_address", "contacts", ["org_id", "address_hash"], unique=False)
    op.create_index("ix_contacts_changed", "contacts", ["org_id", "changed_xid"], unique=False)
    op.create_index(
        "uq_contacts_entity", "contacts", ["org_id", "entity_type", "entity_id"], unique=True
    )
    op.create_table(
        "email_preferences",
        sa.Column("id", sa.Uuid(), server_default=sa.text("mcsync_uuid7()"), nullable=False),
        sa.Column("org_id", sa.Uuid(), nullable=False),
        sa.Column("entity_type", sa.Text(), nullable=False),
        sa.Column("entity_id", sa.Text(), nullable=False),
        sa.Column("status", sa.Text(), nullable=False),
        sa.Column("consent_given_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("consent_withdrawn_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("source", sa.Text(), nullable=False),
        sa.Column(
            "proof",
            postgresql.JSONB(astext_type=sa.Text()),
            server_default=sa.text("'{}'"),
            nullable=False,
        ),
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
        sa.Column(
            "changed_xid",
            sa.BigInteger(),
            server_default=sa.text("(pg_current_xact_id()::text::bigint)"),
            nullable=False,
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_email_preferences")),
    )
    op.create_index(
        "ix_email_preferences_changed", "email_preferences", ["org_id", "changed_xid"], unique=False
    )
    op.create_index(
        "uq_email_preferences_entity",
        "email_preferences",
        ["org_id", "entity_type", "entity_id"],
        unique=True,
    )
    op.create_table(
        "job_ticks",
        sa.Column("job", sa.Text(), nullable=False),
        sa.Column("due_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("job", name=op.f("pk_job_ticks")),
    )
    op.create_table(
        "organisations",
        sa.Column("id", sa.Uuid(), server_default=sa.text("mcsync_uuid7()"), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("hash_key", sa.Text(), nullable=False),
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
        sa.PrimaryKeyConstraint("id", name=op.f("pk_organisations")),
    )
    op.create_index(
        "uq_organisations_name", "organisations", [sa.literal_column("lower(name)")], unique=True
    )
    op.create_table(
        "preference_events",
        sa.Column("id", sa.Uuid(), server_default=sa.text("mcsync_uuid7()"), nullable=False),
        sa.Column("org_id", sa.Uuid(), nullable=False),
        sa.Column("entity_type", sa.Text(), nullable=False),
        sa.Column("entity_id", sa.Text(), nullable=False),
        sa.Column("address_key", sa.Uuid(), nullable=True),
        sa.Column("status", sa.Text(), nullable=False),
        sa.Column("effective_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("source", sa.Text(), nullable=False),
        sa.Column(
            "proof",
            postgresql.JSONB(astext_type=sa.Text()),
            server_default=sa.text("'{}'"),
            nullable=False,
        ),
        sa.Column("actor_kind", sa.Text(), nullable=False),
        sa.Column("actor_id", sa.Text(), nullable=True),
        sa.Column("applied", sa.Boolean(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=True),
        sa.Column(
            "recorded_at",
            sa.DateTime(timezone=True),
            server_default=sa.text("now()"),
            nullable=False,
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_preference_events")),
    )
    op.create_index(
        "ix_preference_events_entity",
        "preference_events",
        ["org_id", "entity_type", "entity_id", "id"],
        unique=False,
    )
    op.create_table(
        "segment_members",
        sa.Column("org_id", sa.Uuid(), nullable=False),
        sa.Column("segment_id", sa.Uuid(), nullable=False),
        sa.Column("audience_id", sa.Uuid(), nullable=False),
        sa.Column("address_hash", sa.Uuid(), nullable=False),
        sa.PrimaryKeyConstraint(
            "segment_id", "audience_id", "address_hash", name=op.f("pk_segment_members")
        ),
    )
    op.create_index(
        "ix_segment_members_address",
        "segment_members",
        ["audience_id", "address_hash"],
        unique=False,
    )
    op.create_table(
        "segment_skips",
        sa.Column("org_id", sa.Uuid(), nullable=False),
        sa.Column("segment_id", sa.Uuid(), nullable=False),
        sa.Column("contact_id", sa.Uuid(), nullable=False),
        sa.Column("address_hash", sa.Uuid(), nullable=True),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("segment_id", "contact_id", name=op.f("pk_segment_skips")),
    )
    op.create_index(
        "ix_segment_skips_address", "segment_skips", ["segment_id", "address_hash"], unique=False
    )
    op.create_index(
        "ix_segment_skips_reason", "segment_skips", ["segment_id", "reason"], unique=False
    )
    op.create_table(
        "sync_changes",
        sa.Column("org_id", sa.Uuid(), nullable=False),
        sa.Column("run_id", sa.Uuid(), nullable=False),
        sa.Column("seq", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("address_hash", sa.Uuid(), nullable=True),
        sa.Column("contact_id", sa.Uuid(), nullable=True),
        sa.Column("email", sa.Text(), nullable=True),
        sa.Column("action", sa.Text(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("untag", sa.Boolean(), server_default="false", nullable=False),
        sa.Column("untagged", sa.Boolean(), server_default="false", nullable=False),
        sa.Column("old_hash", sa.Uuid(), nullable=True),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("call_id", sa.Uuid(), nullable=True),
        sa.Column("tries", sa.Integer(), server_default="0", nullable=False),
        sa.Column("outcome_code", sa.Text(), nullable=True),
        sa.Column("outcome", sa.Text(), nullable=True),
        sa.Column("done_at", sa.DateTime(timezone=True), nullable=True),
        sa.PrimaryKeyConstraint("run_id", "seq", name=op.f("pk_sync_changes")),
    )
    op.create_index(
        "ix_sync_changes_call",
        "sync_changes",
        ["call_id"],
        unique=False,
        postgresql_where=sa.text("call_id is not null"),
    )
    op.create_index(
        "ix_sync_changes_done",
        "sync_changes",
        ["org_id", "done_at"],
        unique=False,
        postgresql_where=sa.text("done_at is not null and action in ('archive', 'unsubscribe')"),
    )
    op.create_index(
        "ix_sync_changes_todo",
        "sync_changes",
        ["run_id", "seq"],
        unique=False,
        postgresql_where=sa.text("state = 'planned'"),
    )
    op.create_table(
        "worker_heartbeats",
        sa.Column("worker_id", sa.Text(), nullable=False),
        sa.Column("host", sa.Text(), nullable=False),
        sa.Column("version", sa.Text(), nullable=False),
        sa.Column("started_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("seen_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("worker_id", name=op.f("pk_worker_heartbeats")),
    )
    op.create_table(
        "audiences",
        sa.Column("id", sa.Uuid(), server_default=sa.text("mcsync_uuid7()"), nullable=False),
        sa.Column("org_id", sa.Uuid(), nullable=False),
        sa.Column("account_id", sa.Text(), nullable=False),
        sa.Column("list_id", sa.Text(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("double_optin", sa.Boolean(), server_default="false", nullable=False),
        sa.Column(
            "stats",
            postgresql.JSONB(astext_type=sa.Text()),
            server_default=sa.text("'{}'"),
            nullable=False,
        ),
        sa.Column(
            "merge_fields",
            postgresql.JSONB(astext_type=sa.Text()),
            server_default=sa.text("'[]'"),
            nullable=False,
        ),
        sa.Column("merge_fields_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column(
            "merge_field_map",
            postgresql.JSONB(none_as_null=True, astext_type=sa.Text()),
            nullable=True,
        ),
        sa.Column("requires_status", sa.Boolean(), server_default="false", nullable=False),
        sa.Column("high_water", sa.DateTime(timezone=True), nullable=True),
        sa.Column("full_pull_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("gone_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column(
            "definition_xid",
            sa.BigInteger(),
            server_default=sa.text("(pg_current_xact_id()::text::bigint)"),
            nullable=False,
        ),
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
            ["org_id"],
            ["organisations.id"],
            name=op.f("fk_audiences_org_id_organisations"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_audiences")),
    )
    op.create_index(
        "uq_audiences_list", "audiences", ["org_id", "account_id", "list_id"], unique=True
    )
    op.create_table(
        "audit_entries",
        sa.Column("org_id", sa.Uuid(), nullable=False),
        sa.Column("seq", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("actor_kind", sa.Text(), nullable=False),
        sa.Column("actor_id", sa.Text(), nullable=True),
        sa.Column("actor_label", sa.Text(), nullable=True),
        sa.Column("action", sa.Text(), nullable=False),
        sa.Column("entity_type", sa.Text(), nullable=False),
        sa.Column("entity_id", sa.Text(), nullable=True),
        sa.Column("request_id", sa.Text(), nullable=True),
        sa.Column("diff", postgresql.JSONB(astext_type=sa.Text()), nullable=False),
        sa.Column("previous_hash", sa.LargeBinary(), nullable=False),
        sa.Column("hash", sa.LargeBinary(), nullable=False),
        sa.ForeignKeyConstraint(
            ["org_id"],
            ["organisations.id"],
            name=op.f("fk_audit_entries_org_id_organisations"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("org_id", "seq", name=op.f("pk_audit_entries")),
        sa.UniqueConstraint("org_id", "hash", name=op.f("uq_audit_entries_org_id_hash")),
    )
    op.create_table(
        "audit_heads",
        sa.Column("org_id", sa.Uuid(), nullable=False),
        sa.Column("seq", sa.BigInteger(), nullable=False),
        sa.Column("hash", sa.LargeBinary(), nullable=False),
        sa.ForeignKeyConstraint(
            ["org_id"],
            ["organisations.id"],
            name=op.f("fk_audit_heads_org_id_organisations"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("org_id", name=op.f("pk_audit_heads")),
    )
    op.create_table(
        "contact_imports",
        sa.Column("id", sa.Uuid(), server_default=sa.text("mcsync_uuid7()"), nullable=False),
        sa.Column("org_id", sa.Uuid(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column(
            "created_at",
            sa.DateTime(timezone=True),
            server_default=sa.text("now()"),
            nullable=False,
        ),
        sa.Column("counts", postgresql.JSONB(astext_type=sa.Text()), nullable=False),
        sa.ForeignKeyConstraint(
            ["org_id"],
            ["organisations.id"],
            name=op.f("fk_contact_imports_org_id_organisations"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_contact_imports")),
    )
    op.create_table(
        "contact_import_rejections",
        sa.Column("org_id", sa.Uuid(), nullable=False),
        sa.Column("import_id", sa.Uuid(), nullable=False),
        sa.Column("line", sa.BigInteger(), nullable=False),
        sa.Column("field", sa.Text(), nullable=False),
        sa.Column("code", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint(
            "import_id", "line", "field", name=op.f("pk_contact_import_rejections")
        ),
    )
    op.create_table(
        "idempotency_keys",
        sa.Column("org_id", sa.Uuid(), nullable=False),
        sa.Column("key", sa.Text(), nullable=False),
        sa.Column("fingerprint", sa.Text(), nullable=False),
        sa.Column("claim", sa.Uuid(), nullable=False),
        sa.Column("locked_until", sa.DateTime(timezone=True), nullable=False),
        sa.Column("status", sa.Integer(), nullable=True),
        sa.Column("headers", postgresql.JSONB(astext_type=sa.Text()), nullable=True),
        sa.Column("body", sa.Text(), nullable=True),
        sa.Column(
            "created_at",
            sa.DateTime(timezone=True),
            server_default=sa.text("now()"),
            nullable=False,
        ),
        sa.ForeignKeyConstraint(
            ["org_id"],
            ["organisations.id"],
            name=op.f("fk_idempotency_keys_org_id_organisations"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("org_id", "key", name=op.f("pk_idempotency_keys")),
    )
    op.create_table(
        "mailchimp_connections",
        sa.Column("id", sa.Uuid(), server_default=sa.text("mcsync_uuid7()"), nullable=False),
        sa.Column("org_id", sa.Uuid(), nullable=False),
        sa.Column("account_id", sa.Text(), nullable=False),
        sa.Column("account_name", sa.Text(), nullable=False),
        sa.Column("data_centre", sa.Text(), nullable=False),
        sa.Column("api_key", sa.Text(), nullable=True),
        sa.Column("key_last4", sa.Text(), nullable=False),
        sa.Column("key_fingerprint", sa.LargeBinary(), nullable=False),
        sa.Column("status", sa.Text(), server_default="connected", nullable=False),
        sa.Column("status_code", sa.Text(), nullable=True),
        sa.Column("status_detail", sa.Text(), nullable=True),
        sa.Column("connected_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("verified_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("soft_deleted_at", sa.DateTime(timezone=True), nullable=True),
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
            ["org_id"],
            ["organisations.id"],
            name=op.f("fk_mailchimp_connections_org_id_organisations"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_mailchimp_connections")),
    )
    op.create_index(
        "uq_mailchimp_connections_live",
        "mailchimp_connections",
        ["org_id"],
        unique=True,
        postgresql_where=sa.text("soft_deleted_at is null"),
    )
    op.create_table(
        "service_tokens",
        sa.Column("id", sa.Uuid(), server_default=sa.text("mcsync_uuid7()"), nullable=False),
        sa.Column("org_id", sa.Uuid(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("role", sa.Text(), nullable=False),
        sa.Column("token_hash", sa.LargeBinary(), nullable=False),
        sa.Column("last4", sa.Text(), nullable=False),
        sa.Column("expires_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("revoked_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("last_used_at", sa.DateTime(timezone=True), nullable=True),
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
            ["org_id"],
            ["organisations.id"],
            name=op.f("fk_service_tokens_org_id_organisations"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_service_tokens")),
    )
    op.create_table(
        "suppressions",
        sa.Column("id", sa.Uuid(), server_default=sa.text("mcsync_uuid7()"), nullable=False),
        sa.Column("org_id", sa.Uuid(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("key", sa.Uuid(), nullable=False),
        sa.Column(
            "created_at",
            sa.DateTime(timezone=True),
            server_default=sa.text("now()"),
            nullable=False,
        ),
        sa.Column("lifted_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column(
            "changed_xid",
            sa.BigInteger(),
            server_default=sa.text("(pg_current_xact_id()::text::bigint)"),
            nullable=False,
        ),
        sa.ForeignKeyConstraint(
            ["org_id"],
            ["organisations.id"],
            name=op.f("fk_suppressions_org_id_organisations"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_suppressions")),
    )
    op.create_index(
        "uq_suppressions_live",
        "suppressions",
        ["org_id", "kind", "key"],
        unique=True,
        postgresql_where=sa.text("lifted_at is null"),
    )
    op.create_table(
        "contact_segments",
        sa.Column("id", sa.Uuid(), server_default=sa.text("mcsync_uuid7()"), nullable=False),
        sa.Column("org_id", sa.Uuid(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("description", sa.Text(), nullable=True),
        sa.Column("segment_type", sa.Text(), nullable=False),
        sa.Column("audience_id", sa.Uuid(), nullable=False),
        sa.Column(
            "filters",
            postgresql.JSONB(astext_type=sa.Text()),
            server_default=sa.text("'{}'"),
            nullable=False,
        ),
        sa.Column("legal_basis", sa.Text(), server_default="consent", nullable=False),
        sa.Column("on_leave", sa.Text(), server_default="archive", nullable=False),
        sa.Column("opt_in", sa.Text(), server_default="single", nullable=False),
        sa.Column("status", sa.Text(), server_default="pending", nullable=False),
        sa.Column("status_code", sa.Text(), nullable=True),
        sa.Column("status_detail", sa.Text(), nullable=True),
        sa.Column("version", sa.Integer(), server_default="1", nullable=False),
        sa.Column("planned_xid", sa.BigInteger(), nullable=True),
        sa.Column("last_synced_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("syncing_until", sa.DateTime(timezone=True), nullable=True),
        sa.Column("soft_deleted_at", sa.DateTime(timezone=True), nullable=True),
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
            name=op.f("fk_contact_segments_audience_id_audiences"),
        ),
        sa.ForeignKeyConstraint(
            ["org_id"],
            ["organisations.id"],
            name=op.f("fk_contact_segments_org_id_organisations"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_contact_segments")),
    )
    op.create_index(
        "ix_contact_segments_audience", "contact_segments", ["audience_id"], unique=False
    )
    op.create_index(
        "uq_contact_segments_name",
        "contact_segments",
        ["org_id", "audience_id", sa.literal_column("lower(name)")],
        unique=True,
        postgresql_where=sa.text("soft_deleted_at is null"),
    )
    op.create_table(
        "segment_tags",
        sa.Column("org_id", sa.Uuid(), nullable=False),
        sa.Column("segment_id", sa.Uuid(), nullable=False),
        sa.Column("audience_id", sa.Uuid(), nullable=False),
        sa.Column("tag_id", sa.BigInteger(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column(
            "created_at",
            sa.DateTime(timezone=True),
            server_default=sa.text("now()"),
            nullable=False,
        ),
        sa.ForeignKeyConstraint(
            ["audience_id"],
            ["audiences.id"],
            name=op.f("fk_segment_tags_audience_id_audiences"),
            ondelete="CASCADE",
        ),
        sa.ForeignKeyConstraint(
            ["org_id"],
            ["organisations.id"],
            name=op.f("fk_segment_tags_org_id_organisations"),
            ondelete="CASCADE",
        ),
        sa.ForeignKeyConstraint(
            ["segment_id"],
            ["contact_segments.id"],
            name=op.f("fk_segment_tags_segment_id_contact_segments"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("segment_id", "audience_id", name=op.f("pk_segment_tags")),
    )
    op.create_table(
        "sync_runs",
        sa.Column("id", sa.Uuid(), server_default=sa.text("mcsync_uuid7()"), nullable=False),
        sa.Column("org_id", sa.Uuid(), nullable=False),
        sa.Column("segment_id", sa.Uuid(), nullable=False),
        sa.Column("audience_id", sa.Uuid(), nullable=False),
        sa.Column("trigger", sa.Text(), nullable=False),
        sa.Column("dry_run", sa.Boolean(), server_default="false", nullable=False),
        sa.Column("leave", sa.Boolean(), server_default="false", nullable=False),
        sa.Column("approved", sa.Boolean(), server_default="false", nullable=False),
        sa.Column("immediate", sa.Boolean(), server_default="false", nullable=False),
        sa.Column("status", sa.Text(), server_default="queued", nullable=False),
        sa.Column("status_before", sa.Text(), nullable=True),
        sa.Column("matched", sa.Integer(), server_default="0", nullable=False),
        sa.Column(
            "planned",
            postgresql.JSONB(astext_type=sa.Text()),
            server_default=sa.text("'{}'"),
            nullable=False,
        ),
        sa.Column(
            "skipped",
            postgresql.JSONB(astext_type=sa.Text()),
            server_default=sa.text("'{}'"),
            nullable=False,
        ),
        sa.Column("held", sa.Integer(), server_default="0", nullable=False),
        sa.Column(
            "hold_reasons",
            postgresql.JSONB(astext_type=sa.Text()),
            server_default=sa.text("'[]'"),
            nullable=False,
        ),
        sa.Column("done", sa.Integer(), server_default="0", nullable=False),
        sa.Column("failed", sa.Integer(), server_default="0", nullable=False),
        sa.Column("calls", sa.Integer(), server_default="0", nullable=False),
        sa.Column("plan_xmin", sa.BigInteger(), nullable=True),
        sa.Column(
            "error", postgresql.JSONB(none_as_null=True, astext_type=sa.Text()), nullable=True
        ),
        sa.Column("request_id", sa.Text(), nullable=True),
        sa.Column(
            "created_at",
            sa.DateTime(timezone=True),
            server_default=sa.text("now()"),
            nullable=False,
        ),
        sa.Column("started_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("push_started_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("finished_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("cancel_requested_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("epoch", sa.Integer(), server_default="0", nullable=False),
        sa.Column("attempts", sa.Integer(), server_default="0", nullable=False),
        sa.Column(
            "next_attempt_at",
            sa.DateTime(timezone=True),
            server_default=sa.text("now()"),
            nullable=False,
        ),
        sa.Column("lease_owner", sa.Text(), nullable=True),
        sa.Column("lease_until", sa.DateTime(timezone=True), nullable=True),
        sa.Column("revision", sa.Integer(), server_default="1", nullable=False),
        sa.ForeignKeyConstraint(
            ["audience_id"],
            ["audiences.id"],
            name=op.f("fk_sync_runs_audience_id_audiences"),
            ondelete="CASCADE",
        ),
        sa.ForeignKeyConstraint(
            ["org_id"],
            ["organisations.id"],
            name=op.f("fk_sync_runs_org_id_organisations"),
            ondelete="CASCADE",
        ),
        sa.ForeignKeyConstraint(
            ["segment_id"],
            ["contact_segments.id"],
            name=op.f("fk_sync_runs_segment_id_contact_segments"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_sync_runs")),
    )
    op.create_index(
        "ix_sync_runs_due",
        "sync_runs",
        ["next_attempt_at"],
        unique=False,
        postgresql_where=sa.text("status in ('queued', 'pulling', 'planning', 'pushing')"),
    )
    op.create_index("ix_sync_runs_segment", "sync_runs", ["segment_id", "id"], unique=False)
    op.create_index(
        "uq_sync_runs_live_audience",
        "sync_runs",
        ["audience_id"],
        unique=True,
        postgresql_where=sa.text(
            "not dry_run and not immediate and status in ('pulling', 'planning', 'pushing')"
        ),
    )
    op.create_index(
        "uq_sync_runs_live_segment",
        "sync_runs",
        ["segment_id"],
        unique=True,
        postgresql_where=sa.text(
            "not dry_run and not immediate and status in ('queued', 'pulling', 'planning', 'pushing')"
        ),
    )
    _secure()
    tenancy.create_look_ups(LOOKUPS, reads=READ_BY_LOOKUPS)
    _track_changes()


def downgrade() -> None:
    op.execute("set local lock_timeout = '5s'")
    tenancy.drop_look_ups(LOOKUPS)
    op.drop_index(
        "uq_sync_runs_live_segment",
        table_name="sync_runs",
        postgresql_where=sa.text(
            "not dry_run and not immediate and status in ('queued', 'pulling', 'planning', 'pushing')"
        ),
    )
    op.drop_index(
        "uq_sync_runs_live_audience",
        table_name="sync_runs",
        postgresql_where=sa.text(
            "not dry_run and not immediate and status in ('pulling', 'planning', 'pushing')"
        ),
    )
    op.drop_index("ix_sync_runs_segment", table_name="sync_runs")
    op.drop_index(
        "ix_sync_runs_due",
        table_name="sync_runs",
        postgresql_where=sa.text("status in ('queued', 'pulling', 'planning', 'pushing')"),
    )
    op.drop_table("sync_runs")
    op.drop_table("segment_tags")
    op.drop_index(
        "uq_contact_segments_name",
        table_name="contact_segments",
        postgresql_where=sa.text("soft_deleted_at is null"),
    )
    op.drop_index("ix_contact_segments_audience", table_name="contact_segments")
    op.drop_table("contact_segments")
    op.drop_index(
        "uq_suppressions_live",
        table_name="suppressions",
        postgresql_where=sa.text("lifted_at is null"),
    )
    op.drop_table("suppressions")
    op.drop_table("service_tokens")
    op.drop_index(
        "uq_mailchimp_connections_live",
        table_name="mailchimp_connections",
        postgresql_where=sa.text("soft_deleted_at is null"),
    )
    op.drop_table("mailchimp_connections")
    op.drop_table("idempotency_keys")
    op.drop_table("contact_import_rejections")
    op.drop_table("contact_imports")
    op.drop_table("audit_heads")
    op.drop_table("audit_entries")
    op.drop_index("uq_audiences_list", table_name="audiences")
    op.drop_table("audiences")
    op.drop_table("worker_heartbeats")
    op.drop_index(
        "ix_sync_changes_todo",
        table_name="sync_changes",
        postgresql_where=sa.text("state = 'planned'"),
    )
    op.drop_index(
        "ix_sync_changes_done",
        table_name="sync_changes",
        postgresql_where=sa.text("done_at is not null and action in ('archive', 'unsubscribe')"),
    )
    op.drop_index(
        "ix_sync_changes_call",
        table_name="sync_changes",
        postgresql_where=sa.text("call_id is not null"),
    )
    op.drop_table("sync_changes")
    op.drop_index("ix_segment_skips_reason", table_name="segment_skips")
    op.drop_index("ix_segment_skips_address", table_name="segment_skips")
    op.drop_table("segment_skips")
    op.drop_index("ix_segment_members_address", table_name="segment_members")
    op.drop_table("segment_members")
    op.drop_index("ix_preference_events_entity", table_name="preference_events")
    op.drop_table("preference_events")
    op.drop_index("uq_organisations_name", table_name="organisations")
    op.drop_table("organisations")
    op.drop_table("job_ticks")
    op.drop_index("uq_email_preferences_entity", table_name="email_preferences")
    op.drop_index("ix_email_preferences_changed", table_name="email_preferences")
    op.drop_table("email_preferences")
    op.drop_index("uq_contacts_entity", table_name="contacts")
    op.drop_index("ix_contacts_changed", table_name="contacts")
    op.drop_index("ix_contacts_address", table_name="contacts")
    op.drop_table("contacts")
    op.drop_table("contact_addresses")
    op.drop_table("audience_refusals")
    op.drop_index(
        "uq_audience_orders_open",
        table_name="audience_orders",
        postgresql_where=sa.text("status = 'open'"),
    )
    op.drop_index(
        "ix_audience_orders_due",
        table_name="audience_orders",
        postgresql_where=sa.text("status = 'open'"),
    )
    op.drop_table("audience_orders")
    op.drop_index("ix_audience_members_status", table_name="audience_members")
    op.drop_index("ix_audience_members_fed_by", table_name="audience_members")
    op.drop_index("ix_audience_members_contact", table_name="audience_members")
    op.drop_index("ix_audience_members_changed", table_name="audience_members")
    op.drop_table("audience_members")
    op.drop_index("ix_audience_calls_run", table_name="audience_calls")
    op.drop_index(
        "ix_audience_calls_open",
        table_name="audience_calls",
        postgresql_where=sa.text("state <> 'answered'"),
    )
    op.drop_table("audience_calls")
    op.drop_index("ix_audience_aliases_member", table_name="audience_aliases")
    op.drop_table("audience_aliases")
    op.drop_index("ix_address_consents_hash", table_name="address_consents")
    op.drop_index("ix_address_consents_changed", table_name="address_consents")
    op.drop_table("address_consents")
    op.execute("drop function mcsync_stamp_xid, mcsync_uuid7")
    # the roles stay: they belong to the cluster, and other databases may use them
