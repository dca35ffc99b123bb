"""The life of a run in SQL: made, claimed, kept alive, handed over, ended (``sync.md`` 7).

A run's row is its outbox. A worker holds it by a lease with a heartbeat; ``epoch`` grows with each
claim and fences every later write of a worker that lost it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

import orjson
from sqlalchemy import text
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncSession

from mcsync.core.jobs import FencedError
from mcsync.features.audiences.refusals import COLUMNS as REFUSAL_COLUMNS
from mcsync.features.sync import run_log

LIVE = ("queued", "pulling", "planning", "pushing")
ENDED = ("succeeded", "succeeded_with_errors", "failed", "cancelled")


@dataclass(frozen=True, slots=True)
class Claimed:
    """A run that this worker holds."""

    id: UUID
    org_id: UUID
    segment_id: UUID
    audience_id: UUID
    status: str
    dry_run: bool
    immediate: bool
    leave: bool
    approved: bool
    epoch: int
    plan_xmin: int | None
    request_id: str | None


async def create(
    session: AsyncSession,
    *,
    segment_id: UUID,
    audience_id: UUID,
    trigger: str,
    dry_run: bool = False,
    leave: bool = False,
    request_id: str | None = None,
    not_before: datetime | None = None,
) -> tuple[UUID, bool]:
    """A new run, or the live one of the segment; answers (id, is new).

    A run that waits for approval ends as ``superseded``: the new one plans anew. ``not_before``: the run
    waits until then; asked for once more by a person, it begins at once.
    """
    params = {
        "segment": segment_id, "audience": audience_id, "trigger": trigger, "dry": dry_run,
        "leave": leave, "request": request_id, "not_before": not_before,
    }  # fmt: skip
    row = (
        await session.execute(
            text(
                """insert into sync_runs (org_id, segment_id, audience_id, trigger, dry_run, leave,
                                          request_id, next_attempt_at)
                   select org_id, id, :audience, :trigger, :dry, :leave, :request,
                          coalesce(cast(:not_before as timestamptz), now())
                   from contact_segments where id = :segment
                   on conflict (segment_id) where not dry_run and not immediate
                       and status in ('queued', 'pulling', 'planning', 'pushing') do nothing
                   returning id"""
            ),
            params,
        )
    ).one_or_none()
    if row is None:
        if trigger != "schedule":
            await session.execute(
                text(
                    """update sync_runs set next_attempt_at = now()
                       where segment_id = :segment and status = 'queued' and next_attempt_at > now()"""
                ),
                {"segment": segment_id},
            )
        live = await session.execute(
            text(
                """select id from sync_runs where segment_id = :segment and not dry_run and not immediate
                   and status in ('queued', 'pulling', 'planning', 'pushing')"""
            ),
            {"segment": segment_id},
        )
        found = live.scalar_one_or_none()
        if found is not None:
            return found, False
        return await create(  # it ended between the two looks
            session, segment_id=segment_id, audience_id=audience_id, trigger=trigger,
            dry_run=dry_run, leave=leave, request_id=request_id, not_before=not_before,
        )  # fmt: skip
    if not dry_run:
        # one that lets members leave an audience where the segment is no more, nothing plans anew
        superseded = await session.execute(
            text(
                """update sync_runs set status = 'cancelled', finished_at = now(),
                       revision = revision + 1,
                       error = '{"code": "superseded",
                                 "message": "A newer run of the segment planned anew."}'::jsonb
                   where segment_id = :segment and audience_id = :audience
                     and status = 'awaiting_approval'"""
            ),
            {"segment": segment_id, "audience": audience_id},
        )
        if superseded.rowcount:  # type: ignore[attr-defined]
            await nothing_waits(session, segment_id)
    return row.id, True


async def nothing_waits(session: AsyncSession, segment_id: UUID) -> None:
    """No run of the segment waits for approval any more: it shows what it was before."""
    await session.execute(
        text(
            """update contact_segments set status_code = null, status_detail = null,
                   status = case when last_synced_at is null then 'pending' else 'synced' end
               where id = :segment and status_code = 'approval_needed'"""
        ),
        {"segment": segment_id},
    )


async def end_all(
    session: AsyncSession, segment_id: UUID, *, to: UUID | None, members: bool
) -> None:
    """Ends what was to be done for a segment that is deleted or goes ``to`` another audience, at once.

    Calls under way are still recorded. Members who are leaving yet another audience go on doing so, unless
    a run for more ``members`` takes the only turn.
    """
    message = "The segment was deleted." if to is None else "The segment went to another audience."
    await session.execute(
        text(
            """update sync_runs set status = 'cancelled', finished_at = now(),
                   revision = revision + 1, epoch = epoch + 1, lease_until = null,
                   error = cast(:error as jsonb)
               where segment_id = :segment and not dry_run
                 and status in ('queued', 'pulling', 'planning', 'pushing', 'awaiting_approval')
                 and not (leave and audience_id is distinct from :to
                          and (status = 'awaiting_approval' or not :members))"""
        ),
        {
            "segment": segment_id, "to": to, "members": members,
            "error": _json({"code": "segment_gone", "message": message}),
        },
    )  # fmt: skip
    await session.execute(
        text("update contact_segments set syncing_until = null where id = :segment"),
        {"segment": segment_id},
    )


async def claim(
    session: AsyncSession, run_id: UUID, *, owner: str, lease_seconds: int
) -> Claimed | None:
    """Takes the run, if it is due and nobody holds it; None otherwise.

    Runs of one audience take turns: a queued run stays so while another is under way (the unique
    index on live audiences decides a race).
    """
    statement = text(
        """update sync_runs r set
               lease_owner = :owner, lease_until = clock_timestamp() + make_interval(secs => :lease),
               epoch = epoch + 1, revision = revision + 1,
               started_at = coalesce(started_at, now()),
               status = case when status = 'queued' then 'pulling' else status end
           where r.id = :run and r.status in ('queued', 'pulling', 'planning', 'pushing')
             and (r.lease_until is null or r.lease_until < clock_timestamp())
             and r.next_attempt_at <= clock_timestamp()
             and (r.dry_run or r.status <> 'queued' or not exists (
                 select from sync_runs o where o.audience_id = r.audience_id and o.id <> r.id
                   and not o.dry_run and not o.immediate
                   and o.status in ('pulling', 'planning', 'pushing')))
           returning id, org_id, segment_id, audience_id, status, dry_run, immediate, leave, approved, epoch,
                     plan_xmin, request_id"""
    )
    try:
        async with session.begin_nested():
            row = (
                await session.execute(
                    statement, {"run": run_id, "owner": owner, "lease": lease_seconds}
                )
            ).one_or_none()
    except IntegrityError:  # another run of the audience was claimed at this very moment
        return None
    if row is None:
        return None
    claimed = Claimed(**row._mapping)  # noqa: SLF001 - SQLAlchemy's public name
    await _show_syncing(session, claimed, lease_seconds)
    await run_log.began(session, run_id)
    return claimed


async def _show_syncing(session: AsyncSession, run: Claimed, lease_seconds: int | None) -> None:
    """The segment shows ``syncing`` as long as the lease lives, and no longer; not for a dry or immediate run."""
    if not run.dry_run and not run.immediate:
        await session.execute(
            text(
                """update contact_segments set syncing_until =
                       clock_timestamp() + make_interval(secs => cast(:lease as integer))
                   where id = :segment"""
            ),
            {"segment": run.segment_id, "lease": lease_seconds},
        )


async def renew(session: AsyncSession, run: Claimed, *, lease_seconds: int) -> None:
    """Keeps the lease. Raises :class:`FencedError` where the run is another's by now."""
    kept = await session.execute(
        text(
            """update sync_runs
               set lease_until = clock_timestamp() + make_interval(secs => :lease)
               where id = :run and epoch = :epoch
                 and status in ('pulling', 'planning', 'pushing')"""
        ),
        {"run": run.id, "epoch": run.epoch, "lease": lease_seconds},
    )
    if kept.rowcount != 1:  # type: ignore[attr-defined]
        raise FencedError
    await _show_syncing(session, run, lease_seconds)


@dataclass(frozen=True, slots=True)
class Seen:
    """What others decided of a run under way. ``changed``: it would go on from what is not true any more."""

    cancelled: bool
    changed: bool


# Another connection or key; a segment of the audience or its merge-field map.
_LOOK = """
select r.cancel_requested_at is not null as cancelled,
       (cast(:link as uuid) is not null and not exists (
           select from mailchimp_connections c
           where c.id = :link and c.soft_deleted_at is null and c.key_fingerprint = :key))
       or coalesce(a.definition_xid <> cast(:definition as bigint), false) as changed
from sync_runs r join audiences a on a.id = r.audience_id
where r.id = :run and r.epoch = :epoch
"""


async def look(
    session: AsyncSession, run: Claimed, *, link: tuple[UUID, bytes] | None, definition: int | None
) -> Seen:
    """Whether the run may go on as it is. ``link``: its connection and the key's fingerprint.

    ``definition``: that of the audience as the run's push knows it. Raises :class:`FencedError`.
    """
    connection_id, key = link or (None, None)
    row = (
        await session.execute(
            text(_LOOK),
            {"run": run.id, "epoch": run.epoch, "link": connection_id, "key": key,
             "definition": definition},
        )
    ).one_or_none()  # fmt: skip
    if row is None:
        raise FencedError
    return Seen(row.cancelled, row.changed)


async def write(session: AsyncSession, run: Claimed, assignments: str, **values: Any) -> None:
    """A fenced update of the run's row. Raises :class:`FencedError`."""
    result = await session.execute(
        text(
            f"update sync_runs set {assignments}, revision = revision + 1 "
            "where id = :run and epoch = :epoch"
        ),
        {**values, "run": run.id, "epoch": run.epoch},
    )
    if result.rowcount != 1:  # type: ignore[attr-defined]
        raise FencedError


async def hand_over(session: AsyncSession, run: Claimed) -> None:
    """Gives the run back at once, as it stands; costs no attempt (deploys, long runs)."""
    await session.execute(
        text(
            """update sync_runs set lease_until = null, lease_owner = null, revision = revision + 1,
                   next_attempt_at = clock_timestamp()
               where id = :run and epoch = :epoch
                 and status in ('pulling', 'planning', 'pushing')"""
        ),
        {"run": run.id, "epoch": run.epoch},
    )
    await _show_syncing(session, run, None)


async def postpone(
    session: AsyncSession, run: Claimed, *, most: int | None, error: Mapping[str, Any]
) -> bool:
    """Something passing went wrong: the run is tried again later, where it stood.

    False, and nothing is written, where it was tried ``most`` times without getting any further, or is
    another worker's by now. Without ``most`` it costs no attempt, and the run goes on after some seconds.
    """
    postponed = await session.execute(
        text(
            """update sync_runs
               set lease_until = null, lease_owner = null, attempts = attempts + cast(:costs as integer),
                   revision = revision + 1, error = cast(:error as jsonb),
                   next_attempt_at = clock_timestamp()
                       + make_interval(secs => case when :costs = 0 then 1 + 2 * random()
                                                     else least(300, 2 ^ (attempts + 1)) end)
               where id = :run and epoch = :epoch and (:costs = 0 or attempts + 1 < :most)
                 and status in ('pulling', 'planning', 'pushing')"""
        ),
        {
            "run": run.id, "epoch": run.epoch, "error": _json(error),
            "most": most or 0, "costs": int(most is not None),
        },
    )  # fmt: skip
    if not postponed.rowcount:  # type: ignore[attr-defined]
        return False
    await _show_syncing(session, run, None)
    return True


async def end(
    session: AsyncSession, run: Claimed, status: str, *, error: Mapping[str, Any] | None = None
) -> None:
    """The run is over (or waits for approval)."""
    await write(
        session,
        run,
        """status = :status, lease_until = null, lease_owner = null, error = cast(:error as jsonb),
           cancel_requested_at = null,
           finished_at = case when :waits then null else clock_timestamp() end""",
        status=status,
        waits=status == "awaiting_approval",
        error=_json(error) if error else None,
    )
    await _show_syncing(session, run, None)
    await run_log.ended(session, run.id, status)


def _json(value: Mapping[str, Any]) -> str:

    return orjson.dumps(value).decode()


async def fetch(session: AsyncSession, run_id: UUID) -> dict[str, Any] | None:
    """One run as it stands, with its segment's names."""
    rows = await session.execute(text(_SELECT + " where r.id = :run"), {"run": run_id})
    row = rows.mappings().one_or_none()
    return None if row is None else {str(k): v for k, v in row.items()}


_SELECT = """
select r.*, coalesce(r.lease_until > clock_timestamp(), false) as alive, a.list_id
from sync_runs r join audiences a on a.id = r.audience_id
"""


async def page(
    session: AsyncSession,
    *,
    segment_id: UUID | None,
    status: str | None,
    before: UUID | None,
    limit: int,
) -> list[dict[str, Any]]:
    """Runs, newest first."""
    rows = await session.execute(
        text(
            _SELECT
            + """ where (cast(:segment as uuid) is null or r.segment_id = :segment)
                   and (cast(:status as text) is null or r.status = :status)
                   and (cast(:before as uuid) is null or r.id < :before)
                 order by r.id desc limit :limit"""
        ),
        {"segment": segment_id, "status": status, "before": before, "limit": limit},
    )
    return [{str(k): v for k, v in row.items()} for row in rows.mappings()]


async def change_page(
    session: AsyncSession,
    run_id: UUID,
    *,
    action: str | None,
    state: str | None,
    reason: str | None,
    after: int,
    limit: int,
) -> list[dict[str, Any]]:
    """The run's changes in the order planned."""
    rows = await session.execute(
        text(
            f"""select h.seq, h.action, h.reason, h.state, h.email, h.outcome_code, h.outcome,
                      h.done_at, h.unreadable, c.id as contact_id, c.entity_type, c.entity_id,
                      a.list_id, a.name, {REFUSAL_COLUMNS}
               from sync_changes h join sync_runs u on u.id = h.run_id
               join audiences a on a.id = u.audience_id
               left join contacts c on c.id = h.contact_id
               left join audience_refusals r on r.audience_id = u.audience_id
                    and r.address_hash = h.address_hash
                    and (h.state = 'failed' or h.reason = 'throttled' or h.reason like 'refused\\_%')
               where h.run_id = :run and h.seq > :after
                 and (cast(:action as text) is null or h.action = :action)
                 and (cast(:state as text) is null or h.state = :state)
                 and (cast(:reason as text) is null or h.reason = :reason)
               order by h.seq limit :limit"""
        ),
        {"run": run_id, "after": after, "action": action, "state": state, "reason": reason,
         "limit": limit},
    )  # fmt: skip
    return [{str(k): v for k, v in row.items()} for row in rows.mappings()]
