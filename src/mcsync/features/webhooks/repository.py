"""Every SQL statement about endpoints and the pulls between runs (the inbox stands apart)."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import select, text, update
from sqlalchemy.ext.asyncio import AsyncSession

from mcsync.core.db import org_of
from mcsync.features.webhooks.models import WebhookEndpoint

# --- endpoints ------------------------------------------------------------------------------------

# The audiences that live segments use, in the connected account.
_USED = """
select a.id, a.account_id, a.list_id from audiences a
join mailchimp_connections c on c.account_id = a.account_id and c.soft_deleted_at is null
where a.gone_at is null and exists (
    select from contact_segments s where s.audience_id = a.id and s.soft_deleted_at is null)
"""

_LACKING = text(f"""
select u.id, u.account_id, u.list_id from ({_USED}) u
where not exists (select from webhook_endpoints e where e.audience_id = u.id)
""")

_ADD = text("""
insert into webhook_endpoints (id, org_id, audience_id, account_id, list_id, token, token_hash)
values (:id, :org, :audience, :account, :list, :token, :hash)
on conflict (org_id, audience_id) do nothing
""")

# One that was removed keeps its token: if its webhook survived at Mailchimp, it is found by it.
_REVIVE = text(f"""
update webhook_endpoints e set status = 'missing', next_check_at = clock_timestamp(), attempts = 0,
       renewed_at = null, last_error = null, updated_at = now()
from ({_USED}) u where e.audience_id = u.id and e.status = 'removed'
""")

_CLAIM_ENDPOINT = text(f"""
with n as materialized (
    select id from webhook_endpoints
    where status <> 'removed' and next_check_at <= clock_timestamp()
      and (lease_until is null or lease_until < clock_timestamp())
    order by next_check_at limit 1 for update skip locked)
update webhook_endpoints e set lease_until = clock_timestamp() + make_interval(secs => :lease),
       attempts = attempts + 1
from n where e.id = n.id
returning e.id, exists (select from ({_USED}) u where u.id = e.audience_id) as used,
          exists (select from mailchimp_connections c where c.account_id = e.account_id
                  and c.soft_deleted_at is null) as connected
""")


@dataclass(frozen=True, slots=True)
class Used:
    """An audience that live segments use."""

    id: UUID
    account_id: str
    list_id: str


async def lacking(session: AsyncSession) -> list[Used]:
    """Audiences in use that never had an endpoint."""
    return [Used(*row) for row in await session.execute(_LACKING)]


async def add(
    session: AsyncSession, endpoint_id: UUID, used: Used, *, token: str, token_hash: bytes
) -> None:
    """Makes an endpoint, to be registered; nothing happens where another process just did."""
    await session.execute(
        _ADD,
        {
            "id": endpoint_id, "org": org_of(session), "audience": used.id,
            "account": used.account_id, "list": used.list_id, "token": token, "hash": token_hash,
        },
    )  # fmt: skip


async def revive(session: AsyncSession) -> None:
    """Endpoints of audiences that are used again are registered again."""
    await session.execute(_REVIVE)


@dataclass(frozen=True, slots=True)
class Claimed:
    """An endpoint that this worker looks at; whether a segment uses its audience, and is connected."""

    id: UUID
    used: bool
    connected: bool


async def claim_endpoint(session: AsyncSession, *, lease_seconds: float) -> Claimed | None:
    """Takes one endpoint whose check is due; None when there is none."""
    row = (await session.execute(_CLAIM_ENDPOINT, {"lease": lease_seconds})).one_or_none()
    return None if row is None else Claimed(row.id, row.used, row.connected)


async def get(
    session: AsyncSession, endpoint_id: UUID, *, lock: bool = False
) -> WebhookEndpoint | None:
    """One endpoint."""
    statement = select(WebhookEndpoint).where(
        WebhookEndpoint.org_id == org_of(session), WebhookEndpoint.id == endpoint_id
    )
    if lock:
        statement = statement.with_for_update()
    return (
        await session.execute(statement, execution_options={"populate_existing": True})
    ).scalar_one_or_none()


async def active(session: AsyncSession, audience_id: UUID) -> WebhookEndpoint | None:
    """The audience's endpoint, if its webhook is thought to be alive; locked until commit."""
    statement = (
        select(WebhookEndpoint)
        .where(
            WebhookEndpoint.org_id == org_of(session),
            WebhookEndpoint.audience_id == audience_id,
            WebhookEndpoint.status == "active",
        )
        .with_for_update()
    )
    return (
        await session.execute(statement, execution_options={"populate_existing": True})
    ).scalar_one_or_none()


async def write(session: AsyncSession, endpoint_id: UUID, **values: Any) -> None:
    """Changes an endpoint."""
    await session.execute(
        update(WebhookEndpoint)
        .where(WebhookEndpoint.org_id == org_of(session), WebhookEndpoint.id == endpoint_id)
        .values(**values)
    )


async def settle(
    session: AsyncSession, endpoint_id: UUID, *, status: str, error: str | None, seconds: float,
    url: str | None,
) -> None:  # fmt: skip
    """The outcome of a check, and when the next one is due. A removed endpoint stays removed.

    ``url``: the public URL that the check was made with.
    """
    await session.execute(
        text(
            """update webhook_endpoints set status = :status, last_error = :error, lease_until = null,
                   checked_at = clock_timestamp(), checked_url = :url, updated_at = now(),
                   attempts = case when cast(:error as text) is null then 0 else attempts end,
                   next_check_at = clock_timestamp() + make_interval(secs => :seconds)
               where id = :id and status <> 'removed'"""
        ),
        {
            "id": endpoint_id, "status": status, "error": error, "seconds": seconds, "url": url,
        },
    )  # fmt: skip


async def ask_check(session: AsyncSession, endpoint_id: UUID | None = None) -> None:
    """Makes the check of one endpoint, or of all, due at once."""
    await session.execute(
        text(
            """update webhook_endpoints set next_check_at = clock_timestamp()
               where status <> 'removed' and (cast(:id as uuid) is null or id = :id)"""
        ),
        {"id": endpoint_id},
    )


_ASK_CHANGED = text("""
update webhook_endpoints e set next_check_at = clock_timestamp(), attempts = 0
where e.org_id = :org and e.status <> 'removed' and e.checked_at is not null
  and (exists (select from mailchimp_connections c
               where c.org_id = e.org_id and c.soft_deleted_at is null and c.verified_at > e.checked_at
                 and c.verified_at <= clock_timestamp())
       or exists (select from contact_segments s
                  where s.audience_id = e.audience_id and s.soft_deleted_at > e.checked_at
                    and s.soft_deleted_at <= clock_timestamp()))
""")


async def ask_changed(session: AsyncSession) -> None:
    """Makes the check due of endpoints about which something changed since the last one.

    Another account or key was connected, or a segment that used the audience was removed.
    """
    await session.execute(_ASK_CHANGED, {"org": org_of(session)})


async def ask_elsewhere(session: AsyncSession, url: str | None) -> None:
    """Makes the check due of endpoints that were last looked at with another public URL than this."""
    await session.execute(
        text(
            """update webhook_endpoints set next_check_at = clock_timestamp(), attempts = 0
               where org_id = :org and status <> 'removed' and checked_at is not null
                 and checked_url is distinct from cast(:url as text)"""
        ),
        {"org": org_of(session), "url": url},
    )


async def elsewhere(session: AsyncSession, url: str | None) -> list[UUID]:
    """Organisations with such endpoints, for a session bound to nobody."""
    found = await session.execute(
        text("select * from mcsync_webhooks_elsewhere(cast(:url as text))"), {"url": url}
    )
    return list(found.scalars())


async def remove(session: AsyncSession, endpoint_id: UUID) -> bool:
    """From now on the endpoint answers 410; False where it did so before."""
    done = await session.execute(
        text(
            """update webhook_endpoints set status = 'removed', lease_until = null, attempts = 0,
                   last_error = null, checked_at = clock_timestamp(), updated_at = now()
               where id = :id and status <> 'removed'"""
        ),
        {"id": endpoint_id},
    )
    return bool(done.rowcount)  # type: ignore[attr-defined]


async def live_ids(session: AsyncSession) -> list[UUID]:
    """Every endpoint that is not removed."""
    rows = await session.execute(
        select(WebhookEndpoint.id).where(
            WebhookEndpoint.org_id == org_of(session), WebhookEndpoint.status != "removed"
        )
    )
    return list(rows.scalars())


async def secrets(session: AsyncSession) -> list[WebhookEndpoint]:
    """Every endpoint, for the rotation of master keys."""
    rows = await session.execute(
        select(WebhookEndpoint).where(WebhookEndpoint.org_id == org_of(session)).with_for_update()
    )
    return list(rows.scalars())


async def page(
    session: AsyncSession,
    *,
    after: UUID | None,
    limit: int,
    watched: bool,
    list_id: str | None = None,
) -> list[Any]:
    """Endpoints with their audience and what waits in their inbox, in the order they were made.

    ``watched``: whether the watchdog looks at webhooks at all.
    """
    rows = await session.execute(
        text(
            """select e.id, e.list_id as audience_id, a.name as audience_name, e.status, e.signing_secret is not null as signed,
                      e.last_event_at, e.checked_at, e.last_error,
                      case when e.status <> 'removed' and cast(:watched as boolean)
                           then e.next_check_at end as next_check_at,
                      case when e.previous_until > clock_timestamp() then e.previous_until end
                          as previous_until,
                      (select count(*) from webhook_events w
                       where w.audience_id = e.audience_id and w.status = 'due') as waiting
               from webhook_endpoints e join audiences a on a.id = e.audience_id
               where e.org_id = :org
                 and (cast(:after as uuid) is null or e.id > :after)
                 and (cast(:list as text) is null or e.list_id = :list)
               order by e.id limit :limit"""
        ),
        {"org": org_of(session), "after": after, "limit": limit, "list": list_id,
         "watched": watched},
    )  # fmt: skip
    return list(rows.all())


async def by_list_id(session: AsyncSession, list_id: str) -> WebhookEndpoint | None:
    """The endpoint of the connected account's audience, locked until commit."""
    statement = (
        select(WebhookEndpoint)
        .where(
            WebhookEndpoint.org_id == org_of(session),
            WebhookEndpoint.list_id == list_id,
            WebhookEndpoint.status != "removed",
        )
        .with_for_update()
    )
    return (
        await session.execute(statement, execution_options={"populate_existing": True})
    ).scalar_one_or_none()


# People who left since the mirror's state `since`, whom no post told of: then posts get lost.
_UNTOLD = text("""
select exists (
    select from audience_members m
    where m.audience_id = :audience and m.changed_xid >= :since
      and (m.status = 'cleaned' or (m.status = 'unsubscribed' and m.unsubscribed_by = 'person'))
      and m.last_changed > :registered and m.last_changed < now() - interval '2 minutes'
      and not exists (select from webhook_events w
                      where w.audience_id = m.audience_id
                        and w.address_hash in (m.address_hash, m.mailbox_hash)
                        and w.received_at > m.last_changed - interval '10 minutes'))
""")


async def moment(session: AsyncSession) -> int:
    """A mark that all later changes are beyond (see ``changed_xid``)."""
    found = await session.scalar(
        text("select pg_snapshot_xmin(pg_current_snapshot())::text::bigint")
    )
    return int(found or 0)


async def untold(
    session: AsyncSession, audience_id: UUID, *, since: int, registered: datetime
) -> bool:
    """Whether a pull brought departures, a while ago and after the registration, that no post told of."""
    return bool(
        await session.scalar(
            _UNTOLD, {"audience": audience_id, "since": since, "registered": registered}
        )
    )


# --- pulls between runs ---------------------------------------------------------------------------

# A row that is new was not due before: the run that made the audience known has just pulled it.
_CLAIM_PULL = text("""
with born as (
    insert into audience_pulls (audience_id, org_id, next_pull_at)
    values (:audience, :org, clock_timestamp() + make_interval(secs => :interval))
    on conflict (audience_id) do nothing
)
update audience_pulls p set lease_until = clock_timestamp() + make_interval(secs => :lease),
       attempts = attempts + 1
where p.audience_id = :audience and p.next_pull_at <= clock_timestamp()
  and (p.lease_until is null or p.lease_until < clock_timestamp())
  and not exists (select from sync_runs r where r.audience_id = p.audience_id and not r.dry_run
                    and not r.immediate and r.status in ('pulling', 'planning', 'pushing'))
returning p.attempts
""")


async def claim_pull(
    session: AsyncSession, audience_id: UUID, *, lease_seconds: float, interval: float
) -> int | None:
    """Takes the audience's pull if it is due, nobody holds it and no run is pulling by itself.

    Answers the number of the attempt, None where there is nothing to do.
    """
    row = await session.execute(
        _CLAIM_PULL,
        {
            "audience": audience_id, "org": org_of(session), "lease": lease_seconds,
            "interval": interval,
        },
    )  # fmt: skip
    found: int | None = row.scalar_one_or_none()
    return found


async def renew_pull(session: AsyncSession, audience_id: UUID, *, lease_seconds: float) -> None:
    """Keeps the pull's lease."""
    await session.execute(
        text(
            """update audience_pulls
               set lease_until = clock_timestamp() + make_interval(secs => :lease)
               where audience_id = :audience"""
        ),
        {"audience": audience_id, "lease": lease_seconds},
    )


async def settle_pull(
    session: AsyncSession, audience_id: UUID, *, error: str | None, seconds: float
) -> None:
    """The outcome of a pull, and when the next one is due."""
    await session.execute(
        text(
            """update audience_pulls set lease_until = null, last_error = :error,
                   pulled_at = case when cast(:error as text) is null then clock_timestamp()
                                    else pulled_at end,
                   attempts = case when cast(:error as text) is null then 0 else attempts end,
                   next_pull_at = clock_timestamp() + make_interval(secs => :seconds)
               where audience_id = :audience"""
        ),
        {"audience": audience_id, "error": error, "seconds": seconds},
    )


async def ask_pull(session: AsyncSession, audience_id: UUID) -> None:
    """Makes the audience's pull due at once."""
    await session.execute(
        text(
            """insert into audience_pulls (audience_id, org_id) values (:audience, :org)
               on conflict (audience_id) do update set next_pull_at = clock_timestamp()"""
        ),
        {"audience": audience_id, "org": org_of(session)},
    )


async def mark_gone(session: AsyncSession, audience_id: UUID) -> None:
    """Mailchimp does not know the audience any more."""
    await session.execute(
        text("update audiences set gone_at = coalesce(gone_at, now()) where id = :audience"),
        {"audience": audience_id},
    )
