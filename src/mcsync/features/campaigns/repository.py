"""Every SQL statement about tracked campaigns. One or a thousand go through the same statements."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final
from uuid import UUID

import orjson
from sqlalchemy import func, select, text, update
from sqlalchemy.ext.asyncio import AsyncSession

from mcsync.core.db import org_of
from mcsync.features.campaigns.models import Campaign, Point
from mcsync.features.campaigns.words import FIGURES
from mcsync.features.connection.models import Connection

_FRESH: Final = {"populate_existing": True}
_FACTS: Final = """campaign_id text, web_id bigint, list_id text, title text, subject text, type text,
    status text, create_time timestamptz, send_time timestamptz"""
_LIVE: Final = "settled_at is null and gone_at is null and untracked_at is null"

# Tracked anew, a campaign keeps its history. By itself none is tracked twice, nor one that was untracked.
_TRACK = f"""
insert into campaign_tracking as c (org_id, account_id, campaign_id, web_id, list_id, title, subject, type,
                                    status, create_time, send_time, tracked_by)
select :org, :account, campaign_id, web_id, list_id, title, subject, type, status, create_time, send_time,
       :by
from json_to_recordset(cast(:rows as json)) as g({_FACTS})
on conflict (org_id, account_id, campaign_id) do update
set untracked_at = null, gone_at = null, settled_at = null, tracked_by = excluded.tracked_by,
    updated_at = now()
where :by = 'manual' and c.untracked_at is not null
returning id, campaign_id
"""

_SEEN = f"""
update campaign_tracking c
set web_id = g.web_id, list_id = g.list_id, title = g.title, subject = g.subject, type = g.type,
    status = g.status, create_time = coalesce(g.create_time, c.create_time), send_time = g.send_time,
    gone_at = null, refreshed_at = :at,
    updated_at = case when (c.title, c.subject, c.status, c.send_time, c.list_id)
                           is distinct from (g.title, g.subject, g.status, g.send_time, g.list_id)
                      then :at else c.updated_at end
from json_to_recordset(cast(:rows as json)) as g({_FACTS})
where c.org_id = :org and c.account_id = :account and c.campaign_id = g.campaign_id
"""

_KINDS: Final = {
    name: "double precision" if name.endswith("rate") else "integer" for name in FIGURES
}
_ALL: Final = ", ".join(FIGURES)


def _of(alias: str) -> str:
    return ", ".join(f"{alias}.{name}" for name in FIGURES)


# A point stands for the time until the next one, so it is written only where something changed.
_REPORTED = f"""
with g as materialized (
    select * from json_to_recordset(cast(:rows as json)) as t(
        id uuid, summary jsonb, last_open_at timestamptz, last_click_at timestamptz,
        {", ".join(f"{name} {kind}" for name, kind in _KINDS.items())})
), written as (
    update campaign_tracking c
    set {", ".join(f"{name} = g.{name}" for name in FIGURES)},
        last_open_at = g.last_open_at, last_click_at = g.last_click_at,
        summary = g.summary, refreshed_at = :at,
        updated_at = case when ({_of("c")}) is distinct from ({_of("g")}) then :at
                          else c.updated_at end
    from g where c.org_id = :org and c.id = g.id
    returning c.id, c.status
)
insert into campaign_points (org_id, tracking_id, at, status, {_ALL})
select :org, g.id, :at, w.status, {_of("g")}
from g join written w on w.id = g.id
left join lateral (
    select * from campaign_points p where p.org_id = :org and p.tracking_id = g.id
    order by p.at desc limit 1) p on true
where p.tracking_id is null or (w.status, {_of("g")}) is distinct from (p.status, {_of("p")})
on conflict (tracking_id, at) do nothing
returning tracking_id
"""


@dataclass(frozen=True, slots=True)
class Tracked:
    """What a round needs to know of a campaign."""

    id: UUID
    campaign_id: str
    create_time: datetime | None
    summary: dict[str, Any] | None


def _json(rows: Sequence[Mapping[str, Any]]) -> str:
    return orjson.dumps([dict(row) for row in rows], default=str).decode()


async def moment(session: AsyncSession) -> datetime:
    """The database's clock."""
    now = await session.scalar(text("select clock_timestamp()"))
    assert isinstance(now, datetime)
    return now


async def get(session: AsyncSession, tracking_id: UUID) -> Campaign | None:
    """A tracked campaign by our id."""
    statement = select(Campaign).where(
        Campaign.org_id == org_of(session),
        Campaign.id == tracking_id,
        Campaign.untracked_at.is_(None),
    )
    return (await session.execute(statement, execution_options=_FRESH)).scalar_one_or_none()


async def known(session: AsyncSession, campaign_id: str) -> list[Campaign]:
    """The tracked campaigns of any account with Mailchimp's id."""
    statement = select(Campaign).where(
        Campaign.org_id == org_of(session),
        Campaign.campaign_id == campaign_id,
        Campaign.untracked_at.is_(None),
    )
    return list((await session.execute(statement, execution_options=_FRESH)).scalars())


async def page(
    session: AsyncSession,
    *,
    status: str | None,
    list_id: str | None,
    search: str | None,
    account_id: str | None = None,
    before: UUID | None,
    limit: int,
) -> list[Campaign]:
    """Tracked campaigns, the last tracked first."""
    query = select(Campaign).where(
        Campaign.org_id == org_of(session), Campaign.untracked_at.is_(None)
    )
    if status is not None:
        query = query.where(Campaign.status == status)
    if list_id is not None:
        query = query.where(Campaign.list_id == list_id)
    if account_id is not None:
        query = query.where(Campaign.account_id == account_id)
    if search is not None:
        query = query.where(
            func.strpos(func.lower(Campaign.title), search.lower()) > 0  # no pattern to escape
        )
    if before is not None:
        query = query.where(Campaign.id < before)
    query = query.order_by(Campaign.id.desc()).limit(limit)
    return list((await session.execute(query, execution_options=_FRESH)).scalars())


async def tracked_ids(
    session: AsyncSession, account_id: str, campaign_ids: Sequence[str]
) -> set[str]:
    """Which of these of Mailchimp's ids are tracked."""
    found = await session.scalars(
        select(Campaign.campaign_id).where(
            Campaign.org_id == org_of(session),
            Campaign.account_id == account_id,
            Campaign.campaign_id.in_(campaign_ids),
            Campaign.untracked_at.is_(None),
        )
    )
    return set(found)


async def track(
    session: AsyncSession, account_id: str, facts: Sequence[Mapping[str, Any]], *, by: str
) -> dict[str, UUID]:
    """Begins to track campaigns; answers those that were not tracked before, by Mailchimp's id."""
    rows = await session.execute(
        text(_TRACK),
        {"org": org_of(session), "account": account_id, "rows": _json(facts), "by": by},
    )
    return {row.campaign_id: row.id for row in rows}


async def untrack(session: AsyncSession, tracking_id: UUID, at: datetime) -> None:
    """Ends tracking; the row stays, so that it is not tracked again by itself."""
    await session.execute(
        update(Campaign)
        .where(Campaign.org_id == org_of(session), Campaign.id == tracking_id)
        .values(untracked_at=at, updated_at=at)
    )


async def store_seen(
    session: AsyncSession, account_id: str, facts: Sequence[Mapping[str, Any]], at: datetime
) -> None:
    """Keeps what campaigns say of themselves now."""
    await session.execute(
        text(_SEEN),
        {"org": org_of(session), "account": account_id, "rows": _json(facts), "at": at},
    )


async def store_reports(
    session: AsyncSession, rows: Sequence[Mapping[str, Any]], at: datetime
) -> int:
    """Keeps figures (``id``, ``summary`` and the columns of a report); answers how many are new points."""
    added = await session.execute(
        text(_REPORTED), {"org": org_of(session), "rows": _json(rows), "at": at}
    )
    return len(added.all())


async def settle(session: AsyncSession, ids: Sequence[UUID], at: datetime) -> None:
    """Nothing is expected of these any more."""
    await session.execute(
        update(Campaign)
        .where(Campaign.org_id == org_of(session), Campaign.id.in_(ids))
        .values(settled_at=at)
    )


async def reopen(session: AsyncSession, tracking_id: UUID) -> None:
    """Something may move again."""
    await session.execute(
        update(Campaign)
        .where(Campaign.org_id == org_of(session), Campaign.id == tracking_id)
        .values(settled_at=None)
    )


async def mark_gone(session: AsyncSession, ids: Sequence[UUID], at: datetime) -> None:
    """Mailchimp has these no more."""
    await session.execute(
        update(Campaign)
        .where(Campaign.org_id == org_of(session), Campaign.id.in_(ids), Campaign.gone_at.is_(None))
        .values(gone_at=at, refreshed_at=at, updated_at=at)
    )


async def live(session: AsyncSession, account_id: str) -> list[Tracked]:
    """The account's campaigns that may still move."""
    rows = await session.execute(
        text(
            f"""select id, campaign_id, create_time, summary from campaign_tracking
                where org_id = :org and account_id = :account and {_LIVE}"""
        ),
        {"org": org_of(session), "account": account_id},
    )
    return [Tracked(*row) for row in rows]


# ---- history


async def points(
    session: AsyncSession, tracking_id: UUID, *, after: datetime | None, limit: int
) -> list[Point]:
    """A campaign's history, oldest first."""
    query = select(Point).where(Point.org_id == org_of(session), Point.tracking_id == tracking_id)
    if after is not None:
        query = query.where(Point.at > after)
    return list((await session.execute(query.order_by(Point.at).limit(limit))).scalars())


async def last_opens(
    session: AsyncSession, ids: Sequence[UUID], *, most: int
) -> dict[UUID, list[int]]:
    """The unique opens of each campaign's last points, oldest first."""
    rows = await session.execute(
        text(
            """select t.id, array(select p.unique_opens from (
                       select at, unique_opens from campaign_points p
                       where p.org_id = :org and p.tracking_id = t.id
                       order by at desc limit :most) p order by p.at) as opens
               from unnest(cast(:ids as uuid[])) as t(id)"""
        ),
        {"org": org_of(session), "ids": list(ids), "most": most},
    )
    return {row.id: list(row.opens) for row in rows}


# ---- tracking by itself


async def set_auto_tracking(
    session: AsyncSession, connection_id: UUID, since: datetime | None
) -> None:
    """From when on made campaigns of the connection are tracked by themselves; None: none are."""
    await session.execute(
        update(Connection)
        .where(Connection.org_id == org_of(session), Connection.id == connection_id)
        .values(track_campaigns_since=since)
    )


async def move_auto_mark(session: AsyncSession, connection_id: UUID, newest: datetime) -> None:
    """All campaigns made before ``newest`` were looked at."""
    await session.execute(
        update(Connection)
        .where(
            Connection.org_id == org_of(session),
            Connection.id == connection_id,
            Connection.track_campaigns_since < newest,
        )
        .values(track_campaigns_since=newest)
    )


# ---- rounds

_ARM = f"""
insert into campaign_refreshes as r (org_id, due_at, next_attempt_at)
select :org, :due, clock_timestamp() + make_interval(secs => :delay)
where exists (
    select from mailchimp_connections k
    where k.org_id = :org and k.soft_deleted_at is null
      and (k.track_campaigns_since is not null or exists (
           select from campaign_tracking c
           where c.org_id = k.org_id and c.account_id = k.account_id and {_LIVE})))
on conflict (org_id) do update
set due_at = excluded.due_at, next_attempt_at = excluded.next_attempt_at, attempts = 0,
    last_error = null, updated_at = now()
where r.due_at < excluded.due_at
returning 1
"""


async def arm(session: AsyncSession, due: datetime, delay_seconds: float) -> bool:
    """Makes the organisation's round due, where there is anything to look at."""
    done = await session.execute(
        text(_ARM), {"org": org_of(session), "due": due, "delay": delay_seconds}
    )
    return done.one_or_none() is not None


async def ask_round(session: AsyncSession) -> None:
    """Makes the organisation's round due now, whatever its tick."""
    await session.execute(
        text(
            """insert into campaign_refreshes (org_id, due_at, next_attempt_at)
               values (:org, '-infinity', clock_timestamp())
               on conflict (org_id) do update set next_attempt_at = clock_timestamp(), attempts = 0"""
        ),
        {"org": org_of(session)},
    )


async def claim(session: AsyncSession, lease_seconds: float) -> int | None:
    """Takes the round that is due; answers its epoch, None where there is none or another has it."""
    taken: int | None = await session.scalar(
        text(
            """update campaign_refreshes
               set lease_until = clock_timestamp() + make_interval(secs => :lease), epoch = epoch + 1,
                   attempts = attempts + 1, calls = 0
               where org_id = :org and next_attempt_at <= clock_timestamp()
                 and (lease_until is null or lease_until < clock_timestamp())
               returning epoch"""
        ),
        {"org": org_of(session), "lease": lease_seconds},
    )
    return taken


async def renew(session: AsyncSession, epoch: int, lease_seconds: float, calls: int) -> bool:
    """Keeps the lease; False where the round is another worker's by now."""
    kept = await session.scalar(
        text(
            """update campaign_refreshes
               set lease_until = clock_timestamp() + make_interval(secs => :lease), calls = :calls
               where org_id = :org and epoch = :epoch returning 1"""
        ),
        {"org": org_of(session), "epoch": epoch, "lease": lease_seconds, "calls": calls},
    )
    return kept is not None


async def finish(
    session: AsyncSession, epoch: int, *, error: str | None, again: bool, calls: int
) -> bool:
    """Ends the round, or (``again``) asks for another attempt, later the more there were."""
    ended = await session.scalar(
        text(
            """update campaign_refreshes
               set lease_until = null, last_error = :error, calls = :calls, updated_at = now(),
                   finished_at = case when :again then finished_at else clock_timestamp() end,
                   next_attempt_at = case when :again then clock_timestamp()
                       + make_interval(secs => least(900, 15 * 2 ^ least(attempts, 6))) end
               where org_id = :org and epoch = :epoch returning 1"""
        ),
        {
            "org": org_of(session), "epoch": epoch, "error": error, "again": again, "calls": calls,
        },
    )  # fmt: skip
    return ended is not None


async def hand_back(session: AsyncSession, epoch: int) -> None:
    """This process stops: another one may begin the round anew at once."""
    await session.execute(
        text(
            """update campaign_refreshes set lease_until = null, next_attempt_at = clock_timestamp(),
                   attempts = attempts - 1
               where org_id = :org and epoch = :epoch"""
        ),
        {"org": org_of(session), "epoch": epoch},
    )
