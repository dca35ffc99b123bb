"""the history of consent also of addresses that no contact has, looked up by address

Revision ID: 0009_history_by_address
Revises: 0008_marketing_permissions
"""

from __future__ import annotations

from alembic import op

from mcsync.core.db import tenancy

revision = "0009_history_by_address"
down_revision = "0008_marketing_permissions"
branch_labels = None
depends_on = None

# Beside mcsync_forget_history, which the version before goes on calling.
FORGET = "mcsync_forget_address_history(erasure uuid, keys uuid[]) returns integer"
FORGET_HISTORY = f"""
create function {FORGET}
language plpgsql security definer set search_path = public, pg_temp as $$
declare forgotten integer;
begin
    -- row-level security binds this to the organisation; and only an erasure under way may ask
    if not exists (select from erasures e where e.id = erasure and e.status = 'open') then
        return 0;
    end if;
    delete from preference_events where entity_id is null and address_key = any(keys);
    get diagnostics forgotten = row_count;
    return forgotten;
end $$
"""


def upgrade() -> None:
    op.execute("set local lock_timeout = '5s'")
    op.alter_column("preference_events", "entity_type", nullable=True)
    op.alter_column("preference_events", "entity_id", nullable=True)
    op.create_index(
        "ix_preference_events_address", "preference_events", ["org_id", "address_key", "id"]
    )
    tenancy.create_function(FORGET_HISTORY, FORGET, owner="mcsync_eraser")


def downgrade() -> None:
    op.execute("set local lock_timeout = '5s'")
    op.execute("drop function mcsync_forget_address_history")
    op.drop_index("ix_preference_events_address", table_name="preference_events")
    # the version before has no place for them; forced row-level security would hide them from the owner
    op.execute("alter table preference_events no force row level security")
    op.execute("delete from preference_events where entity_id is null")
    op.execute("alter table preference_events force row level security")
    op.alter_column("preference_events", "entity_id", nullable=False)
    op.alter_column("preference_events", "entity_type", nullable=False)
