"""both spellings of a domain are one mailbox

Revision ID: 0011_one_mailbox
Revises: 0010_pulls_go_on
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0015_one_mailbox"
down_revision = "0014_opt_outs_in_broken_rows"
branch_labels = None
depends_on = None

# The same as in the model: an index is used only by a condition that is spelled like its own.
TWO_SPELLINGS = "(octet_length(email) <> length(email) or strpos(email, 'xn--') > 0)"


def upgrade() -> None:
    op.execute("set local lock_timeout = '5s'")
    op.add_column("audience_members", sa.Column("mailbox_hash", sa.Uuid(), nullable=True))
    op.add_column("audience_members", sa.Column("spelled_domain", sa.Text(), nullable=True))
    op.create_index(
        "ix_audience_members_mailbox",
        "audience_members",
        ["audience_id", "mailbox_hash"],
        postgresql_where=sa.text("mailbox_hash is not null"),
    )
    op.add_column(
        "audience_aliases",
        sa.Column("spelling", sa.Boolean(), server_default="false", nullable=False),
    )
    op.create_index(
        "ix_contacts_two_spellings",
        "contacts",
        ["org_id", "address_hash"],
        postgresql_where=sa.text(TWO_SPELLINGS),
    )


def downgrade() -> None:
    op.execute("set local lock_timeout = '5s'")
    op.drop_index("ix_contacts_two_spellings", table_name="contacts")
    op.drop_column("audience_aliases", "spelling")
    op.drop_index("ix_audience_members_mailbox", table_name="audience_members")
    op.drop_column("audience_members", "spelled_domain")
    op.drop_column("audience_members", "mailbox_hash")
