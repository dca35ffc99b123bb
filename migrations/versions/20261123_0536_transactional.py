"""transactional mail

Revision ID: 0007_transactional
Revises: 0006_subscribers
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

from mcsync.core.db import tenancy

revision = "0007_transactional"
down_revision = "0006_subscribers"
branch_labels = None
depends_on = None

TABLES = (
    "transactional_connections",
    "transactional_messages",
    "transactional_recipients",
    "transactional_events",
)
# Look-ups across organisations: they answer ids only.
LOOKUPS = {
    "mcsync_due_messages(most integer) returns table (message_id uuid, org_id uuid, epoch integer)": """select m.id, m.org_id, m.epoch from transactional_messages m
           where m.status in ('queued', 'sending') and m.next_attempt_at <= clock_timestamp()
             and (m.lease_until is null or m.lease_until < clock_timestamp())
           order by m.next_attempt_at limit most""",
    "mcsync_due_outcomes(most integer) returns setof uuid": """(select e.org_id from transactional_events e where e.worked_at is null
            group by e.org_id limit most)
           union
           (select r.org_id from transactional_recipients r
            where r.next_poll_at <= clock_timestamp() group by r.org_id limit most)""",
    "mcsync_transactional_hook(wanted bytea) returns table (connection_id uuid, org_id uuid)": """select c.id, c.org_id from transactional_connections c
           where c.webhook_token_hash = wanted and c.soft_deleted_at is null""",
    "mcsync_transactional_organisation_ids() returns setof uuid": """select c.org_id from transactional_connections c
           where c.soft_deleted_at is null order by c.org_id""",
}
READ_BY_LOOKUPS = (
    "transactional_connections",
    "transactional_messages",
    "transactional_recipients",
    "transactional_events",
)


def _moment(name: str, *, now: bool = False, null: bool = True) -> sa.Column:
    default = sa.text("now()") if now else None
    return sa.Column(name, sa.DateTime(timezone=True), server_default=default, nullable=null)


def _org(table: str) -> sa.ForeignKeyConstraint:
    return sa.ForeignKeyConstraint(
        ["org_id"],
        ["organisations.id"],
        name=op.f(f"fk_{table}_org_id_organisations"),
        ondelete="CASCADE",
    )


def _id() -> sa.Column:
    return sa.Column("id", sa.Uuid(), server_default=sa.text("mcsync_uuid7()"), nullable=False)


def _connections() -> None:
    op.create_table(
        "transactional_connections",
        _id(),
        sa.Column("org_id", sa.Uuid(), nullable=False),
        sa.Column("account_id", sa.Text(), nullable=False),
        sa.Column("username", sa.Text(), nullable=False),
        sa.Column("api_key", sa.Text(), nullable=True),
        sa.Column("key_last4", sa.Text(), nullable=False),
        sa.Column("key_fingerprint", sa.LargeBinary(), nullable=False),
        sa.Column("status", sa.Text(), server_default="connected", nullable=False),
        sa.Column("status_code", sa.Text(), nullable=True),
        sa.Column("status_detail", sa.Text(), nullable=True),
        _moment("connected_at", null=False),
        _moment("verified_at", null=False),
        sa.Column("metadata_declared", sa.Boolean(), server_default="false", nullable=False),
        sa.Column("webhook_id", sa.BigInteger(), nullable=True),
        sa.Column("webhook_secret", sa.Text(), nullable=True),
        sa.Column("webhook_token_hash", sa.LargeBinary(), nullable=True),
        sa.Column("webhook_error", sa.Text(), nullable=True),
        _moment("webhook_checked_at"),
        _moment("soft_deleted_at"),
        _moment("created_at", now=True, null=False),
        _moment("updated_at", now=True, null=False),
        _org("transactional_connections"),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_transactional_connections")),
    )
    op.create_index(
        "uq_transactional_connections_live",
        "transactional_connections",
        ["org_id"],
        unique=True,
        postgresql_where=sa.text("soft_deleted_at is null"),
    )
    op.create_index(
        "uq_transactional_connections_token",
        "transactional_connections",
        ["webhook_token_hash"],
        unique=True,
    )


def _messages() -> None:
    op.create_table(
        "transactional_messages",
        _id(),
        sa.Column("org_id", sa.Uuid(), nullable=False),
        sa.Column("idempotency_digest", sa.LargeBinary(), nullable=True),
        sa.Column("request_digest", sa.LargeBinary(), nullable=True),
        sa.Column("template", sa.Text(), nullable=True),
        sa.Column(
            "tags",
            postgresql.JSONB(astext_type=sa.Text()),
            server_default=sa.text("'[]'"),
            nullable=False,
        ),
        sa.Column("payload", sa.Text(), nullable=True),
        sa.Column("size", sa.Integer(), nullable=False),
        _moment("send_at"),
        sa.Column("allow_duplicates", sa.Boolean(), server_default="false", nullable=False),
        sa.Column("status", sa.Text(), server_default="queued", nullable=False),
        sa.Column("error_code", sa.Text(), nullable=True),
        sa.Column("account_id", sa.Text(), nullable=True),
        sa.Column("hand_ins", sa.Integer(), server_default="0", nullable=False),
        _moment("handed_in_at"),
        sa.Column("look_first", sa.Boolean(), server_default="false", nullable=False),
        sa.Column("looks", sa.Integer(), server_default="0", nullable=False),
        _moment("submitted_at"),
        sa.Column("request_id", sa.Text(), nullable=True),
        sa.Column("attempts", sa.Integer(), server_default="0", nullable=False),
        sa.Column("epoch", sa.Integer(), server_default="0", nullable=False),
        _moment("next_attempt_at", now=True, null=False),
        sa.Column("lease_owner", sa.Text(), nullable=True),
        _moment("lease_until"),
        _moment("created_at", now=True, null=False),
        _moment("updated_at", now=True, null=False),
        _org("transactional_messages"),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_transactional_messages")),
    )
    op.create_index(
        "uq_transactional_messages_key",
        "transactional_messages",
        ["org_id", "idempotency_digest"],
        unique=True,
        postgresql_where=sa.text("idempotency_digest is not null"),
    )
    op.create_index(
        "ix_transactional_messages_due",
        "transactional_messages",
        ["next_attempt_at"],
        postgresql_where=sa.text("status in ('queued', 'sending')"),
    )
    op.create_index("ix_transactional_messages_org", "transactional_messages", ["org_id", "id"])


def _recipients() -> None:
    op.create_table(
        "transactional_recipients",
        sa.Column("org_id", sa.Uuid(), nullable=False),
        sa.Column("message_id", sa.Uuid(), nullable=False),
        sa.Column("no", sa.Integer(), nullable=False),
        sa.Column("email", sa.Text(), nullable=True),
        sa.Column("address_key", sa.Uuid(), nullable=True),
        sa.Column("type", sa.Text(), nullable=False),
        sa.Column("own", sa.Text(), nullable=True),
        sa.Column("provider_id", sa.Text(), nullable=True),
        sa.Column("status", sa.Text(), server_default="pending", nullable=False),
        sa.Column("reason", sa.Text(), nullable=True),
        sa.Column("opens", sa.Integer(), server_default="0", nullable=False),
        sa.Column("clicks", sa.Integer(), server_default="0", nullable=False),
        _moment("last_event_at"),
        sa.Column("polls", sa.Integer(), server_default="0", nullable=False),
        _moment("next_poll_at"),
        sa.ForeignKeyConstraint(
            ["message_id"],
            ["transactional_messages.id"],
            name=op.f("fk_transactional_recipients_message_id_transactional_messages"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("message_id", "no", name=op.f("pk_transactional_recipients")),
    )
    op.create_index(
        "ix_transactional_recipients_provider",
        "transactional_recipients",
        ["org_id", "provider_id"],
    )
    op.create_index(
        "ix_transactional_recipients_address",
        "transactional_recipients",
        ["org_id", "address_key"],
    )
    op.create_index(
        "ix_transactional_recipients_poll",
        "transactional_recipients",
        ["next_poll_at"],
        postgresql_where=sa.text("next_poll_at is not null"),
    )


def _events() -> None:
    op.create_table(
        "transactional_events",
        _id(),
        sa.Column("org_id", sa.Uuid(), nullable=False),
        sa.Column("digest", sa.LargeBinary(), nullable=False),
        sa.Column("event", sa.Text(), nullable=False),
        sa.Column("provider_id", sa.Text(), nullable=False),
        sa.Column("message_id", sa.Uuid(), nullable=True),
        sa.Column("address_key", sa.Uuid(), nullable=True),
        sa.Column("reason", sa.Text(), nullable=True),
        _moment("happened_at"),
        _moment("received_at", now=True, null=False),
        _moment("worked_at"),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_transactional_events")),
    )
    op.create_index(
        "uq_transactional_events_digest",
        "transactional_events",
        ["org_id", "digest"],
        unique=True,
    )
    op.create_index(
        "ix_transactional_events_waiting",
        "transactional_events",
        ["org_id"],
        postgresql_where=sa.text("worked_at is null"),
    )


def upgrade() -> None:
    op.execute("set local lock_timeout = '5s'")
    _connections()
    _messages()
    _recipients()
    _events()
    tenancy.secure(*TABLES)
    tenancy.create_look_ups(LOOKUPS, reads=READ_BY_LOOKUPS)


def downgrade() -> None:
    op.execute("set local lock_timeout = '5s'")
    tenancy.drop_look_ups(LOOKUPS)
    for table in reversed(TABLES):
        op.drop_table(table)
