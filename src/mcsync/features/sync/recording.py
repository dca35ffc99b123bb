"""What became of a call, written at once: mirror, refusals, tags, the run's rows and counters."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

import orjson
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from mcsync.core.db import look_up_by_key, wrote
from mcsync.features.sync.calls import Row, cause, mark_answered
from mcsync.features.sync.runs import Claimed

THROTTLE_FIRST = timedelta(minutes=5)
"""How long a first signup throttle lasts; then 1, 2 and 7 days (MC 14)."""


@dataclass(slots=True)
class Outcome:
    """What became of one row, as recorded. ``code``: why it was refused; None where it was accepted.

    ``by_api``: read back, and Mailchimp names the API as the member's source. ``ours``: the member changed
    while our call was under way; an unsubscribe that is older was somebody else's.
    """

    row: Row
    status: str | None = None
    last_changed: datetime | None = None
    contact_id: str | None = None
    timestamp_opt: datetime | None = None
    timestamp_signup: datetime | None = None
    tagged: bool = False
    created: bool = False
    by_api: bool = False
    ours: bool = False
    code: str | None = None
    message: str | None = None
    field: str | None = None
    next_try_at: datetime | None = None


@dataclass(slots=True)
class Answer:
    """The outcomes of one call. ``reread``: rows that the answer did not account for.

    ``refused``: of these, by ``seq``, why Mailchimp refused them: what stands where nobody is found.
    """

    outcomes: list[Outcome] = field(default_factory=list)
    reread: list[Row] = field(default_factory=list)
    untagged: list[Row] = field(default_factory=list)
    refused: dict[int, Outcome] = field(default_factory=dict)


_RECORD_MEMBERS = """
update audience_members m set
    status = case when o.newer then o.status else m.status end,
    last_changed = case when o.newer then coalesce(o.last_changed, m.last_changed)
                        else m.last_changed end,
    contact_id = coalesce(nullif(o.contact_id, ''), m.contact_id),
    timestamp_opt = coalesce(o.opt, m.timestamp_opt),
    timestamp_signup = coalesce(o.signup, m.timestamp_signup),
    email = o.email,
    owned = m.owned or (o.action = 'add' and o.reason = 'new' and (
        -- or an earlier call of ours did it, whose answer was lost; what this one said proves nothing
        o.created or (not o.signed and coalesce(
            greatest(o.opt, o.signup) >= date_trunc('second', m.intent_at), false)))),
    intent_at = null,
    -- by us only if it was our call that changed it (sync.md 1)
    unsubscribed_by = case when not o.newer or (o.status = 'unsubscribed' and m.status = o.status)
                           then m.unsubscribed_by
                           when o.status = 'unsubscribed' and (
                               o.ours or o.action <> 'unsubscribe'
                               or o.last_changed >= date_trunc('second', m.unsubscribe_intent_at))
                           then 'us' end,
    unsubscribe_reason = case when o.newer and m.status is distinct from o.status then null
                              else m.unsubscribe_reason end,
    unsubscribe_cause = case when not o.newer or (o.status = 'unsubscribed' and m.status = o.status)
                             then m.unsubscribe_cause
                             when o.status = 'unsubscribed' and (
                               o.ours or o.action <> 'unsubscribe'
                               or o.last_changed >= date_trunc('second', m.unsubscribe_intent_at))
                             then o.cause end,
    unsubscribe_intent = null, unsubscribe_intent_at = null,
    archived_by_us = case when not o.newer then m.archived_by_us
                          else o.status = 'archived' and m.status = 'subscribed' end,
    archive_intent_at = null,
    resubscribed_at = case when o.newer then null else m.resubscribed_at end,
    pending_added_at = case
        when o.newer and o.status = 'subscribed' then null
        when o.action in ('add', 'resubscribe') and o.status = 'pending' then now()
        else m.pending_added_at end,
    asked_again_at = case when o.reason = 'ask_again' then o.given_at else m.asked_again_at end,
    payload_hash = coalesce(o.payload_hash, m.payload_hash),
    payload_tags = case when o.payload_hash is null then m.payload_tags
                        -- a field that was left out keeps at Mailchimp what it was sent before
                        else string_to_array(o.payload_tags, ',') || array(
                            select tag from unnest(m.payload_tags) tag
                            where tag = any(string_to_array(o.unreadable, ','))) end,
    unreadable = case when o.payload_hash is null then m.unreadable
                      else string_to_array(nullif(o.unreadable, ''), ',') end,
    fed_by = coalesce(o.feeder, m.fed_by),
    -- a new member has no ticks, and a newer opt-in speaks for them again
    permissions_pushed = case when o.action in ('add', 'resubscribe') then null
                              else m.permissions_pushed end,
    pushed_at = clock_timestamp()
from (select t.*, k.place, k.last_changed is null or t.last_changed is null
             or t.last_changed >= k.last_changed as newer
      from (select * from json_to_recordset(cast(:rows as json)) as t(
          h uuid, email text, action text, reason text, status text, last_changed timestamptz,
          contact_id text, opt timestamptz, signup timestamptz, created boolean, signed boolean,
          ours boolean, cause text, payload_hash uuid, payload_tags text, unreadable text, feeder uuid, given_at timestamptz)
          order by h) t  -- in the order in which a pull merges, see mirror
      cross join lateral (
          select ctid as place, last_changed from audience_members
          where audience_id = :audience and address_hash = t.h for update) k) o
where m.ctid = o.place
"""

# Only what the mirror still knows: who was erased meanwhile leaves no trace.
_RECORD_REFUSALS = """
insert into audience_refusals as r (org_id, audience_id, address_hash, code, message, field,
                                    payload_hash, next_try_at)
select :org, :audience, t.* from unnest(
    cast(:h as uuid[]), cast(:code as text[]), cast(:message as text[]), cast(:field as text[]),
    cast(:payload_hash as uuid[]), cast(:next_try_at as timestamptz[]))
    as t(h, code, message, field, payload_hash, next_try_at)
cross join lateral (select from audience_members
                    where audience_id = :audience and address_hash = t.h for key share) m
on conflict (audience_id, address_hash) do update set
    attempts = case when r.code = excluded.code then r.attempts + 1 else 1 end,
    first_seen_at = case when r.code = excluded.code then r.first_seen_at else now() end,
    code = excluded.code, message = excluded.message, field = excluded.field,
    payload_hash = excluded.payload_hash, last_seen_at = now(),
    next_try_at = case when excluded.code = 'throttled' and r.code = 'throttled'
        then now() + (array['5 minutes', '1 day', '2 days', '7 days'])[least(r.attempts + 1, 4)]::interval
        else excluded.next_try_at end
"""

_RECORD_CHANGES = """
with mine as materialized (
    select ctid as place, seq from sync_changes where call_id = :call and state = 'taken' for update)
update sync_changes h set state = o.state, outcome_code = o.code, outcome = o.message,
       done_at = clock_timestamp(), call_id = null
from mine
join json_to_recordset(cast(:rows as json)) as o(seq bigint, state text, code text, message text)
     on o.seq = mine.seq
where h.ctid = mine.place
"""


async def record(
    session: AsyncSession, run: Claimed, call_id: UUID, segment_id: UUID, outcomes: Sequence[Outcome],
    *, calls: int = 1, last: bool = True,
) -> None:  # fmt: skip
    """Writes what became of a call: mirror, refusals, tags, the run's rows and counters, in one go.

    ``last``: the call is answered altogether. The mirror is written even where the run is another
    worker's by now: the answer is true all the same; only rows still marked with this call change.
    """
    base = {"org": run.org_id, "audience": run.audience_id, "run": run.id, "call": call_id}
    await look_up_by_key(session)
    wrote(session, len(outcomes))
    accepted = [o for o in outcomes if o.code is None]
    refused = [o for o in outcomes if o.code is not None]
    if accepted:
        await session.execute(
            text(_RECORD_MEMBERS),
            {"audience": run.audience_id, "rows": _json(_accepted(o) for o in accepted)},
        )
        tagged = [o.row.address_hash for o in accepted if o.tagged]
        if tagged:
            await tag_members(session, run, segment_id, tagged)
        archived = [o.row.address_hash for o in accepted if o.row.action == "archive"]
        if archived:
            await forget_tags(session, run, segment_id, archived)
    if refused:
        await _record_refused(session, base, refused)
    changed = await session.execute(
        text(_RECORD_CHANGES),
        {
            "call": call_id,
            "rows": _json(
                {
                    "seq": o.row.seq,
                    "state": "failed" if o.code else "done",
                    "code": o.code,
                    "message": o.message,
                }
                for o in outcomes
            ),
        },
    )
    if last:
        await mark_answered(session, call_id)
    if changed.rowcount or calls:  # type: ignore[attr-defined]
        await session.execute(
            text(
                """update sync_runs set done = done + :done, failed = failed + :failed,
                       calls = calls + :calls, revision = revision + 1, error = null,
                       attempts = case when cast(:further as boolean) then 0 else attempts end
                   where id = :run"""
            ),
            {
                "run": run.id, "calls": calls, "further": changed.rowcount > 0,  # type: ignore[attr-defined]
                "done": len(accepted) if changed.rowcount else 0,  # type: ignore[attr-defined]
                "failed": len(refused) if changed.rowcount else 0,  # type: ignore[attr-defined]
            },
        )  # fmt: skip


def _json(rows: Iterable[dict[str, Any]]) -> str:
    """Rows as one parameter: encoding fifteen arrays of them takes several times as long."""
    return orjson.dumps(list(rows), default=str).decode()


def _accepted(outcome: Outcome) -> dict[str, Any]:
    row = outcome.row
    return {
        "h": row.address_hash,
        "email": row.email,
        "action": row.action,
        "reason": row.reason,
        "status": outcome.status,
        "last_changed": outcome.last_changed,
        "contact_id": outcome.contact_id,
        "opt": outcome.timestamp_opt,
        "signup": outcome.timestamp_signup,
        "created": outcome.created,
        "signed": row.signed and not outcome.by_api,
        "ours": outcome.ours,
        "cause": cause(row) if row.action == "unsubscribe" else "lapsed",
        "payload_hash": row.payload_hash,
        "payload_tags": row.payload_tags,
        "unreadable": row.unreadable,
        "feeder": row.feeder,
        "given_at": row.given_at,
    }


async def _record_refused(
    session: AsyncSession, base: dict[str, Any], refused: Sequence[Outcome]
) -> None:
    hashes = [o.row.old_hash if o.code == "rename_refused" else o.row.address_hash for o in refused]
    await session.execute(
        text(_RECORD_REFUSALS),
        {
            "org": base["org"],
            "audience": base["audience"],
            "h": hashes,
            "code": [o.code for o in refused],
            "message": [o.message or "" for o in refused],
            "field": [o.field for o in refused],
            "payload_hash": [o.row.payload_hash for o in refused],
            "next_try_at": [o.next_try_at for o in refused],
        },
    )
    await session.execute(
        text(
            """update audience_members set intent_at = null, unsubscribe_intent = null,
                   unsubscribe_intent_at = null, archive_intent_at = null
               where audience_id = :audience and address_hash = any(cast(:hashes as uuid[]))"""
        ),
        {"audience": base["audience"], "hashes": hashes},
    )


async def tag_members(
    session: AsyncSession, run: Claimed, segment_id: UUID, hashes: Sequence[UUID]
) -> None:
    """These members carry the segment's tag now; those erased meanwhile leave no trace."""
    await session.execute(
        text(
            """insert into segment_members (org_id, segment_id, audience_id, address_hash)
               select :org, :segment, :audience, m.address_hash
               from unnest(cast(:hashes as uuid[])) as t(h)
               cross join lateral (
                   select address_hash from audience_members
                   where audience_id = :audience and address_hash = t.h for key share) m
               on conflict do nothing"""
        ),
        {"org": run.org_id, "segment": segment_id, "audience": run.audience_id,
         "hashes": list(hashes)},
    )  # fmt: skip


async def forget_tags(
    session: AsyncSession, run: Claimed, segment_id: UUID, hashes: Sequence[UUID]
) -> None:
    """These members no longer carry the segment's tag."""
    await session.execute(
        text(
            """delete from segment_members where segment_id = :segment and audience_id = :audience
               and address_hash = any(cast(:hashes as uuid[]))"""
        ),
        {"segment": segment_id, "audience": run.audience_id, "hashes": list(hashes)},
    )
