"""The life of an erasure in SQL: claimed, kept alive, postponed, fenced (as runs are, T A3)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any
from uuid import UUID

import orjson
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from mcsync.core.jobs import FencedError


@dataclass(frozen=True, slots=True)
class Claimed:
    """An erasure that this worker holds."""

    id: UUID
    org_id: UUID
    epoch: int
    subject: str
    account_id: str | None
    scrubbed: bool


async def claim(
    session: AsyncSession, erasure_id: UUID, *, owner: str, lease_seconds: int
) -> Claimed | None:
    """Takes the erasure, if it is due and nobody holds it; None otherwise."""
    row = (
        await session.execute(
            text(
                """update erasures set lease_owner = :owner, epoch = epoch + 1,
                       lease_until = clock_timestamp() + make_interval(secs => :lease)
                   where id = :erasure and status = 'open'
                     and (lease_until is null or lease_until < clock_timestamp())
                     and next_attempt_at <= clock_timestamp()
                   returning id, org_id, epoch, subject, account_id, scrubbed_at is not null"""
            ),
            {"erasure": erasure_id, "owner": owner, "lease": lease_seconds},
        )
    ).one_or_none()
    return None if row is None else Claimed(*row)


async def renew(session: AsyncSession, held: Claimed, *, lease_seconds: int) -> None:
    """Keeps the lease. Raises :class:`FencedError` where the erasure is another's by now."""
    await write(
        session,
        held,
        "lease_until = clock_timestamp() + make_interval(secs => :lease)",
        lease=lease_seconds,
    )


async def write(session: AsyncSession, held: Claimed, assignments: str, **values: Any) -> None:
    """A fenced update of the erasure's row. Raises :class:`FencedError`."""
    result = await session.execute(
        text(
            f"update erasures set {assignments} "
            "where id = :erasure and epoch = :epoch and status = 'open'"
        ),
        {**values, "erasure": held.id, "epoch": held.epoch},
    )
    if result.rowcount != 1:  # type: ignore[attr-defined]
        raise FencedError


async def write_target(
    session: AsyncSession, held: Claimed, target_id: UUID, assignments: str, **values: Any
) -> None:
    """A fenced update of an open target. Raises :class:`FencedError`.

    One that an owner closed meanwhile stays as it is.
    """
    await fence(session, held)
    await session.execute(
        text(f"update erasure_targets set {assignments} where id = :target and state = 'open'"),
        {**values, "target": target_id},
    )


async def fence(session: AsyncSession, held: Claimed) -> None:
    """Holds the row until commit. Raises :class:`FencedError` where it is another's by now."""
    row = (
        await session.execute(
            text(
                """select 1 from erasures
                   where id = :erasure and epoch = :epoch and status = 'open' for no key update"""
            ),
            {"erasure": held.id, "epoch": held.epoch},
        )
    ).one_or_none()
    if row is None:
        raise FencedError


async def let_go(
    session: AsyncSession, held: Claimed, *, failed: bool, wait_seconds: float
) -> None:
    """Gives the erasure back until its next target is due (or ``wait_seconds`` have passed, if none is)."""
    await write(
        session,
        held,
        """lease_until = null, lease_owner = null, attempts = attempts + cast(:failed as integer),
           last_error = (select t.last_error from erasure_targets t
                         where t.erasure_id = :erasure and t.state = 'open'
                           and t.last_error is not null
                         order by t.next_attempt_at desc, t.id limit 1),
           next_attempt_at = coalesce(
               (select min(t.next_attempt_at) from erasure_targets t
                where t.erasure_id = :erasure and t.state = 'open'),
               clock_timestamp() + make_interval(secs => :wait))""",
        failed=int(failed),
        wait=wait_seconds,
    )


async def postpone(
    session: AsyncSession, held: Claimed, *, seconds: float, error: str | None
) -> None:
    """Something keeps the erasure as a whole from going on: tried again later."""
    await write(
        session,
        held,
        """lease_until = null, lease_owner = null, last_error = cast(:error as text),
           attempts = attempts + 1,
           next_attempt_at = clock_timestamp() + make_interval(secs => :seconds)""",
        error=error,
        seconds=seconds,
    )


async def add_pass(
    session: AsyncSession,
    held: Claimed,
    counts: dict[str, int],
    also: str = "",
    **more: object,
) -> None:
    """Adds what one pass through the stores touched to the report."""
    assignments = """report = jsonb_set(report, '{passes}',
        coalesce(report -> 'passes', '[]'::jsonb) || cast(:counts as jsonb))"""
    if also:
        assignments += ", " + also
    await write(session, held, assignments, counts=orjson.dumps([counts]).decode(), **more)
