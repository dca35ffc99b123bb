"""The lines of the log at which a run begins and ends, with its counts."""

from __future__ import annotations

from uuid import UUID

import structlog
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from mcsync.core.db import after_commit

_log = structlog.get_logger("mcsync.runs")

_RUN = text("""
select org_id, segment_id, audience_id, trigger, dry_run, immediate, epoch, matched, planned, skipped, held,
       done, failed, calls, error ->> 'code' as code,
       round(extract(epoch from coalesce(finished_at, clock_timestamp()) - started_at)::numeric, 3)::float8
           as seconds
from sync_runs where id = :run
""")


async def began(session: AsyncSession, run_id: UUID) -> None:
    """Once the claim is committed: ``run_started``, or ``run_resumed`` where it was worked on before."""
    row = (await session.execute(_RUN, {"run": run_id})).one()

    async def write() -> None:
        _log.info(
            "run_started" if row.epoch == 1 else "run_resumed",
            run=str(run_id), org=str(row.org_id), segment=str(row.segment_id),
            audience=str(row.audience_id), trigger=row.trigger, dry_run=row.dry_run,
            immediate=row.immediate,
        )  # fmt: skip

    after_commit(session, write)


async def ended(session: AsyncSession, run_id: UUID, status: str) -> None:
    """Once the end is committed: ``run_ended`` with what was planned and done."""
    row = (await session.execute(_RUN, {"run": run_id})).one()

    async def write() -> None:
        _log.info(
            "run_ended",
            run=str(run_id), org=str(row.org_id), segment=str(row.segment_id),
            audience=str(row.audience_id), trigger=row.trigger, status=status, code=row.code,
            matched=row.matched, planned=row.planned, skipped=row.skipped, held=row.held,
            done=row.done, failed=row.failed, calls=row.calls, seconds=row.seconds,
        )  # fmt: skip

    after_commit(session, write)
