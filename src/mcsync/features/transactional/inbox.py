"""Every SQL statement about Mailchimp's reports: stored once, then worked into recipients."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final
from uuid import UUID

import orjson
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from mcsync.core.db import org_of
from mcsync.features.transactional.repository import RANKS

_STORE: Final = text("""
insert into transactional_events (org_id, digest, event, provider_id, message_id, address_key, reason,
                                  happened_at)
select :org, decode(digest, 'hex'), event, provider_id, message_id, address_key, reason, happened_at
  from json_to_recordset(cast(:rows as json))
       as t(digest text, event text, provider_id text, message_id uuid, address_key uuid, reason text,
            happened_at timestamptz)
on conflict (org_id, digest) do nothing
returning 1
""")
# In one statement: taken, matched by Mailchimp's id or by ours and the address, counted, marked as done.
_WORK: Final = text("""
with taken as materialized (
    select * from transactional_events
     where org_id = :org and worked_at is null
     order by id limit :most for update skip locked),
ranked as (
    select t.*, array_position(cast(:ranks as text[]), cast(:states as jsonb) ->> t.event) as rank
      from taken t),
matched as (
    select distinct on (e.id) e.*, r.message_id as of_message, r.no
      from ranked e
      join transactional_recipients r on r.org_id = :org
       and (r.provider_id = e.provider_id
            or (r.message_id = e.message_id and r.address_key = e.address_key
                and r.provider_id is null))
     order by e.id, (r.provider_id is not distinct from e.provider_id) desc),
summed as (
    select of_message, no,
           max(provider_id) as provider_id,
           max(rank) as rank,
           (array_agg(reason order by rank desc, id desc)
              filter (where reason is not null))[1] as reason,
           count(*) filter (where event = 'open') as opens,
           count(*) filter (where event = 'click') as clicks,
           max(happened_at) as happened_at
      from matched group by of_message, no),
changed as (
    update transactional_recipients r
       set provider_id = coalesce(r.provider_id, s.provider_id),
           status = case when s.rank >= array_position(cast(:ranks as text[]), r.status)
                         then (cast(:ranks as text[]))[s.rank] else r.status end,
           reason = case when s.rank >= array_position(cast(:ranks as text[]), r.status)
                              and (s.reason is not null or (cast(:ranks as text[]))[s.rank] <> r.status)
                         then s.reason else r.reason end,
           opens = r.opens + s.opens, clicks = r.clicks + s.clicks,
           last_event_at = greatest(r.last_event_at, s.happened_at)
      from summed s
     where r.org_id = :org and r.message_id = s.of_message and r.no = s.no
    returning r.message_id),
confirmed as (
    -- a report of it proves that Mailchimp took the message
    update transactional_messages m
       set status = 'submitted', error_code = null, payload = null,
           submitted_at = coalesce(submitted_at, clock_timestamp())
     where m.org_id = :org and m.status = 'unconfirmed' and m.id in (select message_id from changed))
update transactional_events e set worked_at = clock_timestamp()
  from taken t where e.org_id = :org and e.id = t.id
returning 1
""")
_DUE: Final = text("""
with due as materialized (
    select message_id, no from transactional_recipients
     where org_id = :org and next_poll_at <= clock_timestamp()
     order by next_poll_at limit :most for update skip locked)
update transactional_recipients r
   set next_poll_at = clock_timestamp() + make_interval(secs => :hold)
  from due d where r.org_id = :org and r.message_id = d.message_id and r.no = d.no
returning r.message_id, r.no, r.provider_id, r.polls
""")
_POLLED: Final = text("""
update transactional_recipients r
   set status = case when array_position(cast(:ranks as text[]), t.status)
                          >= array_position(cast(:ranks as text[]), r.status)
                     then t.status else r.status end,
       opens = greatest(r.opens, t.opens), clicks = greatest(r.clicks, t.clicks),
       polls = r.polls + 1,
       next_poll_at = clock_timestamp() + make_interval(secs => t.poll)
  from json_to_recordset(cast(:rows as json))
       as t(message_id uuid, no integer, status text, opens integer, clicks integer, poll float8)
 where r.org_id = :org and r.message_id = t.message_id and r.no = t.no
""")
_POSTPONE: Final = text("""
update transactional_recipients set next_poll_at = clock_timestamp() + make_interval(secs => :seconds)
 where org_id = :org and next_poll_at <= clock_timestamp() + make_interval(secs => :seconds)
""")
_TIDY: Final = (
    text("""delete from transactional_events where org_id = :org
             and worked_at < now() - interval '7 days'"""),
    text("""update transactional_messages set payload = null where org_id = :org
             and status = 'unconfirmed' and payload is not null
             and handed_in_at < now() - interval '30 days'"""),
    # also what is left of messages that a report confirmed
    text("""update transactional_recipients r set own = null from transactional_messages m
             where r.org_id = :org and r.own is not null and m.id = r.message_id
               and m.payload is null"""),
)


async def store(session: AsyncSession, rows: Sequence[Mapping[str, Any]]) -> int:
    """Stores the reports that are new; how many were."""
    done = await session.execute(
        _STORE, {"org": org_of(session), "rows": orjson.dumps(list(rows), default=str).decode()}
    )
    return len(done.all())


async def work(session: AsyncSession, states: Mapping[str, str], *, most: int) -> int:
    """Works waiting reports into their recipients; how many were taken. Unknown messages are passed by."""
    done = await session.execute(
        _WORK,
        {
            "org": org_of(session),
            "most": most,
            "ranks": list(RANKS),
            "states": orjson.dumps(dict(states)).decode(),
        },
    )
    return len(done.all())


async def due(
    session: AsyncSession, *, most: int, hold_seconds: float
) -> list[tuple[UUID, int, str | None, int]]:
    """Recipients to be asked for now: (message, number, Mailchimp's id, times asked); held for a while."""
    rows = await session.execute(_DUE, {"org": org_of(session), "most": most, "hold": hold_seconds})
    return [(row.message_id, row.no, row.provider_id, row.polls) for row in rows]


async def polled(session: AsyncSession, rows: Sequence[Mapping[str, Any]]) -> None:
    """Stores what was learnt of recipients."""
    await session.execute(
        _POLLED,
        {
            "org": org_of(session),
            "rows": orjson.dumps(list(rows), default=str).decode(),
            "ranks": list(RANKS),
        },
    )


async def postpone(session: AsyncSession, seconds: float) -> None:
    """Asks for nobody for a while."""
    await session.execute(_POSTPONE, {"org": org_of(session), "seconds": seconds})


async def tidy(session: AsyncSession) -> None:
    """Forgets reports long worked on, and the content of messages nobody sent again for a month."""
    for statement in _TIDY:
        await session.execute(statement, {"org": org_of(session)})
