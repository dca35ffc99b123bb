"""The life of a pull in SQL: asked for, claimed, kept alive, handed over, ended.

As with runs, the row is the outbox: a lease with a heartbeat says who works on it, and ``epoch`` fences
every write of a worker that lost it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from uuid import UUID

import orjson
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from mcsync.core.db import org_of
from mcsync.core.jobs import FencedError

LIVE = ("queued", "pulling")


@dataclass(frozen=True, slots=True)
class Wish:
    """What a pull is asked to do beyond the usual."""

    from_start: bool = False
    confirm_withdrawals: bool = False
    confirm_deletions: bool = False

    def __bool__(self) -> bool:
        return self.from_start or self.confirm_withdrawals or self.confirm_deletions


@dataclass(frozen=True, slots=True)
class Claimed:
    """A pull that this worker holds."""

    id: UUID
    org_id: UUID
    source_id: UUID
    trigger: str
    epoch: int
    attempts: int
    request_id: str | None
    wish: Wish


async def create(
    session: AsyncSession, source_id: UUID, *, trigger: str, wish: Wish, request_id: str | None
) -> tuple[UUID, bool]:
    """A new pull, or the live one of the source; answers (id, is new)."""
    created = await session.scalar(
        text(
            """insert into source_pulls (org_id, source_id, trigger, from_start, confirm_withdrawals,
                                         confirm_deletions, request_id)
               values (:org, :source, :trigger, :start, :withdrawals, :deletions, :request)
               on conflict (source_id) where status in ('queued', 'pulling') do nothing
               returning id"""
        ),
        {
            "org": org_of(session), "source": source_id, "trigger": trigger, "start": wish.from_start,
            "withdrawals": wish.confirm_withdrawals, "deletions": wish.confirm_deletions,
            "request": request_id,
        },
    )  # fmt: skip
    if created is not None:
        return created, True
    # one that waits for its next attempt need not wait any longer
    live = await session.execute(
        text(
            """update source_pulls set next_attempt_at = least(next_attempt_at, clock_timestamp())
               where source_id = :source and status in ('queued', 'pulling') returning id"""
        ),
        {"source": source_id},
    )
    return live.scalar_one(), False


async def claim(
    session: AsyncSession, pull_id: UUID, *, owner: str, lease_seconds: int
) -> Claimed | None:
    """Takes the pull, if it is due and nobody holds it; None otherwise."""
    row = (
        await session.execute(
            text(
                """update source_pulls set
                       lease_owner = :owner, epoch = epoch + 1, status = 'pulling',
                       lease_until = clock_timestamp() + make_interval(secs => :lease),
                       started_at = coalesce(started_at, now())
                   where id = :pull and status in ('queued', 'pulling')
                     and (lease_until is null or lease_until < clock_timestamp())
                     and next_attempt_at <= clock_timestamp()
                   returning *"""
            ),
            {"pull": pull_id, "owner": owner, "lease": lease_seconds},
        )
    ).one_or_none()
    if row is None:
        return None
    wish = Wish(row.from_start, row.confirm_withdrawals, row.confirm_deletions)
    return Claimed(
        row.id, row.org_id, row.source_id, row.trigger, row.epoch, row.attempts, row.request_id, wish
    )  # fmt: skip


async def renew(session: AsyncSession, pull: Claimed, *, lease_seconds: int) -> None:
    """Keeps the lease. Raises :class:`FencedError` where the pull is another's by now."""
    await write(
        session,
        pull,
        "lease_until = clock_timestamp() + make_interval(secs => :lease)",
        lease=lease_seconds,
    )


async def write(session: AsyncSession, pull: Claimed, assignments: str, **values: Any) -> None:
    """A fenced update of the pull's row. Raises :class:`FencedError`."""
    result = await session.execute(
        text(
            f"update source_pulls set {assignments}"
            " where id = :pull and epoch = :epoch and status = 'pulling'"
        ),
        {**values, "pull": pull.id, "epoch": pull.epoch},
    )
    if result.rowcount != 1:  # type: ignore[attr-defined]
        raise FencedError


async def hand_over(session: AsyncSession, pull: Claimed) -> None:
    """Gives the pull back at once; costs no attempt (deploys)."""
    await write(
        session,
        pull,
        "lease_until = null, lease_owner = null, next_attempt_at = clock_timestamp()",
    )


async def postpone(
    session: AsyncSession, pull: Claimed, *, seconds: float, error: Mapping[str, Any]
) -> None:
    """Something passing went wrong: the pull begins anew later."""
    await write(
        session,
        pull,
        """lease_until = null, lease_owner = null, attempts = attempts + 1,
           error = cast(:error as jsonb),
           next_attempt_at = clock_timestamp() + make_interval(secs => :seconds)""",
        error=orjson.dumps(error).decode(),
        seconds=float(seconds),
    )


async def end(
    session: AsyncSession,
    pull: Claimed,
    status: str,
    *,
    report: Mapping[str, Any] | None = None,
    import_id: UUID | None = None,
    error: Mapping[str, Any] | None = None,
) -> None:
    """The pull is over; the source shows how it went."""
    await write(
        session,
        pull,
        """status = :status, lease_until = null, lease_owner = null, finished_at = clock_timestamp(),
           report = coalesce(cast(:report as jsonb), report), error = cast(:error as jsonb),
           import_id = coalesce(:import, import_id)""",
        status=status,
        report=orjson.dumps(report).decode() if report is not None else None,
        error=orjson.dumps(error).decode() if error else None,
        **{"import": import_id},
    )
    shown = {"failed": "error", "approval_needed": "approval_needed"}.get(status, "ok")
    await session.execute(
        text(
            """update sources set status = :status, status_code = :code, status_detail = :detail,
                      updated_at = now()
               where id = :source"""
        ),
        {
            "source": pull.source_id, "status": shown,
            "code": error["code"] if error else None, "detail": error["message"] if error else None,
        },
    )  # fmt: skip


async def any_live(session: AsyncSession) -> bool:
    """Whether the organisation has a pull that is under way or about to begin."""
    found = await session.scalar(
        text(
            """select exists (select from source_pulls
                              where org_id = :org and status in ('queued', 'pulling'))"""
        ),
        {"org": org_of(session)},
    )
    return bool(found)


async def ask_for_the_night(session: AsyncSession, due: Any) -> list[UUID]:
    """Asks once for the nightly pull of each live source; answers the pulls that are new."""
    made = await session.execute(
        text(
            """with due as (
                   update sources set scheduled_for = :due
                   where org_id = :org and soft_deleted_at is null
                     and (scheduled_for is null or scheduled_for < :due)
                   returning id)
               insert into source_pulls (org_id, source_id, trigger)
               select :org, id, 'schedule' from due
               on conflict (source_id) where status in ('queued', 'pulling') do nothing
               returning id"""
        ),
        {"org": org_of(session), "due": due},
    )
    return list(made.scalars())
