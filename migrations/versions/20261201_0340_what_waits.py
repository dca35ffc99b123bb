"""what waits, who works, and how tenants are, as numbers

Revision ID: 0016_what_waits
Revises: 0015_one_mailbox
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from mcsync.core.db import tenancy

revision = "0016_what_waits"
down_revision = "0015_one_mailbox"
branch_labels = None
depends_on = None

# One kind of work in the form of `mcsync_backlog`: what is due is counted up to a limit, oldest first, since
# nobody needs to know whether it is ten thousand or a million.
_DUE = """(select '{kind}'::text, count(*) filter (where due), count(*) filter (where held),
    coalesce(max(extract(epoch from clock_timestamp() - since)) filter (where due), 0)::double precision
  from (select greatest({at}, {lease}) as since,
               {at} <= clock_timestamp() and ({lease} is null or {lease} < clock_timestamp()) as due,
               coalesce({lease} >= clock_timestamp(), false) as held
          from {table} w where {where} and ({at} <= clock_timestamp() or {lease} >= clock_timestamp())
         order by {at} limit 1000) x)"""

_RUN_MAY_BEGIN = """w.status in ('queued', 'pulling', 'planning', 'pushing')
    and (w.dry_run or w.status <> 'queued' or not exists (
        select from sync_runs o where o.audience_id = w.audience_id and o.id <> w.id
          and o.status in ('pulling', 'planning', 'pushing') and not o.dry_run and not o.immediate))"""


def _due(
    kind: str, table: str, where: str, at: str = "next_attempt_at", lease: str = "w.lease_until"
) -> str:
    return _DUE.format(kind=kind, table=table, where=where, at=f"w.{at}", lease=lease)


_NEVER = "null::timestamptz"
_BACKLOG = " union all ".join(
    (
        _due("runs", "sync_runs", _RUN_MAY_BEGIN),
        _due("orders", "audience_orders", "w.status = 'open'"),
        _due("erasures", "erasures", "w.status = 'open'"),
        _due("webhook_posts", "webhook_events", "w.status = 'due'"),
        _due("webhook_checks", "webhook_endpoints", "w.status <> 'removed'", "next_check_at"),
        _due("form_posts", "subscription_requests", "w.next_attempt_at is not null"),
        _due("source_pulls", "source_pulls", "w.status in ('queued', 'pulling')"),
        _due("transactional_mail", "transactional_messages", "w.status in ('queued', 'sending')"),
        _due("transactional_outcomes", "transactional_recipients", "w.next_poll_at is not null", "next_poll_at", _NEVER),
        _due("campaign_figures", "campaign_refreshes", "w.next_attempt_at is not null"),
    )
)  # fmt: skip

# The id of the master key that an envelope names, '' where it is no envelope (see `core/crypto.py`: base64url of
# a JSON object whose first members are short). `encode` takes any bytes; `decode` only what the pattern lets in.
_KEY_OF = """case when {0} ~ '^[A-Za-z0-9_-]+={{0,2}}$' and length({0}) % 4 = 0 then coalesce(substring(
    encode(decode(translate(left({0}, 400), '-_', '+/'), 'base64'), 'escape')
    from '"kid":"([^"]*)"'), '') else '' end"""


def _sealed(column: str, table: str, where: str = "true") -> str:
    owner = "id" if table == "organisations" else "org_id"
    return f"select {_KEY_OF.format(column)}, {owner} from {table} where {column} is not null and {where}"  # noqa: S608


_SEALED = " union all ".join(
    (
        _sealed("hash_key", "organisations"),
        _sealed("api_key", "mailchimp_connections"),
        _sealed("token", "webhook_endpoints"),
        _sealed("signing_secret", "webhook_endpoints"),
        _sealed("previous_signing_secret", "webhook_endpoints"),
        _sealed("subject", "erasures", "status = 'open'"),
        _sealed("url", "sources"),
        _sealed("api_key", "transactional_connections"),
        _sealed("webhook_secret", "transactional_connections"),
    )
)

LOOKUPS = {
    "mcsync_backlog() returns table (kind text, due bigint, held bigint, oldest_seconds double precision)": _BACKLOG,
    "mcsync_webhook_states() returns table (org_id uuid, status text, error text, endpoints bigint, checked_at timestamptz)": """
        select e.org_id, e.status, e.last_error, count(*), min(e.checked_at)
        from webhook_endpoints e where e.status <> 'removed' group by 1, 2, 3 order by 1, 2, 3""",
    "mcsync_sealed_keys() returns table (key text, secrets bigint, sample uuid)": f"""
        select s.key, count(*), (array_agg(s.org_id))[1] from ({_SEALED}) s (key, org_id)
        group by 1 order by 1""",
    "mcsync_tenant_states(days integer) returns table (org_id uuid, connected boolean, needs_attention boolean, fields_gone boolean, requests bigint, refused bigint)": """
        select o.id, c.id is not null, coalesce(c.status <> 'connected', false),
               c.id is not null and exists (
                   select from audiences a, jsonb_object_keys(a.merge_field_map) tag
                   where a.org_id = o.id and a.account_id = c.account_id and a.gone_at is null
                     and a.merge_fields_at is not null and jsonb_typeof(a.merge_field_map) = 'object'
                     and not exists (select from jsonb_array_elements(a.merge_fields) f
                                     where upper(f ->> 'tag') = upper(tag))),
               r.total, r.refused
        from organisations o
        left join mailchimp_connections c on c.org_id = o.id and c.soft_deleted_at is null
        cross join lateral (
            select count(*) as total, count(*) filter (where x.state in ('refused', 'dropped')) as refused
            from (select q.state from subscription_requests q
                  where q.org_id = o.id and q.requested_at > clock_timestamp() - make_interval(days => days)
                  order by q.requested_at desc limit 200) x) r
        order by o.id""",
    "mcsync_organisation_named(wanted text) returns uuid": "select id from organisations where lower(name) = lower(wanted)",
    # what changed since the last look: another account or key was connected, or a segment went
    "mcsync_changed_webhooks(most integer) returns setof uuid": """
        select distinct e.org_id from webhook_endpoints e
        where e.status <> 'removed' and (e.lease_until is null or e.lease_until < clock_timestamp())
          and e.checked_at is not null
          and (exists (select from mailchimp_connections c
                       where c.org_id = e.org_id and c.soft_deleted_at is null and c.verified_at > e.checked_at
                 and c.verified_at <= clock_timestamp())
               or exists (select from contact_segments s
                          where s.audience_id = e.audience_id and s.soft_deleted_at > e.checked_at
                    and s.soft_deleted_at <= clock_timestamp()))
        limit most""",
    "mcsync_webhooks_elsewhere(url text) returns setof uuid": """
        select distinct e.org_id from webhook_endpoints e
        where e.status <> 'removed' and e.checked_at is not null and e.checked_url is distinct from url
        order by 1""",
}  # fmt: skip


def upgrade() -> None:
    op.execute("set local lock_timeout = '5s'")
    op.add_column("worker_heartbeats", sa.Column("pid", sa.Integer(), nullable=True))
    op.add_column("worker_heartbeats", sa.Column("dispatch_seconds", sa.Float(), nullable=True))
    op.add_column("worker_heartbeats", sa.Column("idle_seconds", sa.Float(), nullable=True))
    op.add_column("worker_heartbeats", sa.Column("jobs", sa.Integer(), nullable=True))
    op.add_column("worker_heartbeats", sa.Column("clock_seconds", sa.Float(), nullable=True))
    op.add_column("webhook_endpoints", sa.Column("checked_url", sa.Text(), nullable=True))
    tenancy.create_look_ups(LOOKUPS, reads=())


def downgrade() -> None:
    op.execute("set local lock_timeout = '5s'")
    tenancy.drop_look_ups(LOOKUPS)
    op.drop_column("webhook_endpoints", "checked_url")
    for column in ("clock_seconds", "jobs", "idle_seconds", "dispatch_seconds", "pid"):
        op.drop_column("worker_heartbeats", column)
