"""Carrying out a run: claimed under a lease, kept alive, handed over, ended (``sync.md`` 7)."""

from __future__ import annotations

import asyncio
import random
import time
from dataclasses import asdict
from uuid import UUID

import orjson
import structlog
from sqlalchemy import text
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncSession

from mcsync.core.auth import Actor
from mcsync.core.db import MUCH, analyse_grown_later, is_passing
from mcsync.core.errors import ConflictError
from mcsync.core.jobs import SEGMENT_SYNC, FencedError, under_lease
from mcsync.core.resources import Resources
from mcsync.features import audit
from mcsync.features.audiences import repository as audiences
from mcsync.features.audiences import service as audience_service
from mcsync.features.audit import AuditAction
from mcsync.features.connection import service as connection
from mcsync.features.sync import (
    calls,
    context,
    leaving,
    permissions,
    planner,
    pull,
    push,
    runs,
    tags,
)
from mcsync.features.sync.endings import (
    CancelRequested,
    Failed,
    HandOver,
    SegmentGone,
    Verdict,
    verdict_on,
)
from mcsync.mailchimp import (
    CredentialError,
    Lane,
    MailchimpClient,
    NotFoundError,
)

_log = structlog.get_logger(__name__)

SLICE_SECONDS = 3000.0
"""A run that takes longer hands itself on, so that no job outlives ARQ's time-out.

Long enough for the steps that begin anew: who carries a tag of a million members is a thousand pages.
"""
_MOST_ATTEMPTS = 12
"""So often in a row passing trouble may stop a run that does not get any further."""
_POSTPONE_TRIES = 30
"""So often, about a second apart, a run whose database is away tries to say that it waits."""
_LOOK_SECONDS = 1.0
"""So often a run under way looks whether it may go on as it is."""


class Execution:
    """One worker's hold on one run."""

    def __init__(self, resources: Resources, run: runs.Claimed, *, stopping: asyncio.Event) -> None:
        self._resources = resources
        self._db = resources.db
        self._run = run
        self._stopping = stopping
        self._actor = Actor.system(run.org_id, "mailchimp-segment-sync", request_id=run.request_id)
        self._started = time.monotonic()
        self._cancelled = False
        self._link: connection.Link | None = None
        self._definition: int | None = None
        self._looked = self._started

    async def execute(self) -> None:
        """Works until the run ends, is handed over, or waits. Never raises but on cancellation."""
        await under_lease(
            self._work(), renew=self._renew, hand_over=self._hand_over, run=str(self._run.id),
            lease_seconds=self._resources.settings.run_lease_seconds,
        )  # fmt: skip

    async def _renew(self) -> None:
        lease = self._resources.settings.run_lease_seconds
        async with self._db.transaction(self._run.org_id, vital=True) as session:
            await runs.renew(session, self._run, lease_seconds=lease)

    async def _check(self) -> None:
        if self._stopping.is_set() or time.monotonic() - self._started > SLICE_SECONDS:
            raise HandOver
        if not self._cancelled and time.monotonic() - self._looked > _LOOK_SECONDS:
            self._looked = time.monotonic()
            await self._look()
        if self._cancelled:
            raise CancelRequested

    async def _look(self) -> None:
        """What others decided meanwhile: the run is cancelled, or it goes on from what is true now."""
        try:
            async with self._db.transaction(self._run.org_id) as session:
                seen = await runs.look(
                    session, self._run, definition=self._definition,
                    link=(self._link.connection_id, self._link.fingerprint) if self._link else None,
                )  # fmt: skip
        except (SQLAlchemyError, OSError) as error:  # a database that is away only costs a look
            _log.info("not_looked", run=str(self._run.id), error=type(error).__name__)
            return
        self._cancelled = seen.cancelled
        if seen.changed:
            raise HandOver

    async def _work(self) -> None:
        log = _log.bind(run=str(self._run.id), org=str(self._run.org_id), epoch=self._run.epoch)
        try:
            await self._steps()
        except FencedError:
            log.info("run_fenced")
        except HandOver:
            await self._hand_over()
        except CancelRequested:
            await self._end("cancelled")
        except SegmentGone:
            await self._end(
                "cancelled",
                error={"code": "segment_gone", "message": "The segment is not there any more."},
            )
        except CredentialError as error:
            await self._key_refused(error)
        except (pull.AudienceGoneError, NotFoundError):
            await self._audience_gone()
        except Exception as error:
            verdict = verdict_on(error)
            if verdict.code == "internal_error":
                log.exception("run_crashed")
            else:
                log.info("run_stopped", code=verdict.code, error=type(error).__name__)
            if verdict.passing:
                await self._postpone(verdict)
            else:
                await self._fail(verdict.code, verdict.message)

    # --- the steps --------------------------------------------------------------------------------

    async def _steps(self) -> None:
        run = self._run
        ctx = await self._context()
        client = await self._client(ctx)
        if run.status != "pushing":
            if run.leave:
                await leaving.settle(self._resources, run, self._check)
            ctx = await self._bring_up_to_date(ctx, client)
            await self._plan(ctx)
            if run.dry_run:
                await self._end("succeeded")
                return
        self._definition = ctx.definition_xid
        async with self._db.transaction(run.org_id) as session:
            await calls.recover(session, run)
            todo = await session.scalar(
                text(
                    """select exists (select from sync_changes
                                      where run_id = :run and state = 'planned')
                           or exists (select from segment_tags  -- the segment was renamed
                                      where segment_id = :segment and audience_id = :audience
                                        and tag_id <> 0 and name <> :tag)"""
                ),
                {
                    "run": run.id,
                    "segment": run.segment_id,
                    "audience": run.audience_id,
                    "tag": tags.tag_name(ctx.scope.segment.name),
                },
            )
        if todo:
            tag_id, tag = await tags.ensure_tag(self._db, client, ctx.scope, ctx.list_id)
            async with self._db.transaction(run.org_id) as session:
                audience = await pull.audience_state(session, run.audience_id)
            target = push.Target(
                run.audience_id, ctx.list_id, ctx.requires_status,
                tags_in_rows=ctx.capabilities.tags_in_rows,
                bulk_brings_back=ctx.capabilities.bulk_brings_back,
            )  # fmt: skip
            pushing = push.Push(
                self._resources, self._actor, client, run, ctx.scope, target,
                tag_id=tag_id, tag=tag, check=self._check,
            )  # fmt: skip
            await pushing.carry_out(audience)
        if ctx.permissions and not run.leave:
            await permissions.Ticking(
                self._resources, self._actor, client, run, ctx, check=self._check
            ).carry_out()
        await self._finish()

    async def _context(self) -> context.Context:
        run = self._run
        async with self._db.transaction(run.org_id) as session:
            ctx = await context.load(
                session, segment_id=run.segment_id, audience_id=run.audience_id,
                now=self._resources.clock(), leave=run.leave,
            )  # fmt: skip
        if ctx is None:
            raise Failed("segment_gone", "The segment does not exist any more.")
        if not ctx.lives and not run.leave:
            raise SegmentGone
        return ctx

    async def _client(self, ctx: context.Context) -> MailchimpClient:
        try:
            lane = Lane.LIVE if self._run.immediate else Lane.BULK
            link = await connection.open_link(self._resources, self._run.org_id, lane=lane)
        except ConflictError as error:
            raise Failed(error.code, error.detail) from error
        if link.account_id != ctx.account_id:
            raise Failed("audience_gone", "The connected Mailchimp account lacks this audience.")
        self._link = link
        return link.client

    async def _bring_up_to_date(
        self, ctx: context.Context, client: MailchimpClient
    ) -> context.Context:
        run = self._run
        async with self._db.transaction(run.org_id) as session:
            await runs.write(session, run, "status = 'pulling'")
            state = await pull.audience_state(session, run.audience_id)
            audience = await audiences.get(session, run.audience_id)
        if audience:  # always: what its fields take decides what is sent
            await audience_service.refresh_merge_fields(
                self._resources, run.org_id, audience, client=client
            )
        full = await pull.Pull(
            self._resources, self._actor, client, check=self._check
        ).bring_up_to_date(state)
        if full:
            await tags.forget_lost_tag(self._db, client, ctx.scope, ctx.list_id)
        return await self._context()

    async def _plan(self, ctx: context.Context) -> None:
        """The plan, the guard and the step to pushing, in one transaction."""
        run, settings = self._run, self._resources.settings
        async with self._db.transaction(run.org_id) as session:
            if run.approved:
                await session.execute(
                    text(
                        """update sync_changes set state = 'planned'
                           where run_id = :run and state = 'held'"""
                    ),
                    {"run": run.id},
                )
                await runs.write(session, run, "status = 'pushing', held = 0, hold_reasons = '[]'")
                return
            await runs.write(session, run, "status = 'planning'")
        async with self._db.transaction(run.org_id) as session:
            plan = await planner.store(session, ctx.scope, run.id, mark=ctx.mark)
            holds: list[planner.Hold] = []
            if not run.dry_run:
                holds = await planner.guard(
                    session, ctx.scope, run.id, plan, settings, first_run=ctx.first_run
                )
            counts = plan.counts()
            await runs.write(
                session,
                run,
                """status = :status, attempts = 0, plan_xmin = :xmin, matched = :matched,
                   planned = cast(:planned as jsonb), skipped = cast(:skipped as jsonb), held = :held,
                   unreadable = cast(:unreadable as jsonb), warnings = cast(:warnings as jsonb),
                   hold_reasons = cast(:reasons as jsonb),
                   push_started_at = clock_timestamp()""",
                # a dry run stops here: it never is `pushing`, whatever dies when
                status="planning" if run.dry_run else "pushing",
                xmin=plan.xmin,
                matched=plan.matched,
                planned=orjson.dumps(counts).decode(),
                skipped=orjson.dumps(plan.skipped).decode(),
                unreadable=orjson.dumps(plan.unreadable).decode(),
                warnings=orjson.dumps(ctx.warnings).decode(),
                held=await _held(session, run.id),
                reasons=orjson.dumps([asdict(h) for h in holds]).decode(),
            )

    # --- the ends ---------------------------------------------------------------------------------

    async def _finish(self) -> None:
        """All planned rows were worked on: the run ends, or waits for the approval of what is held."""
        run = self._run
        async with self._db.transaction(run.org_id) as session:
            row = (
                await session.execute(
                    text(
                        """select r.done, r.failed, r.held, r.plan_xmin, exists (
                               select from sync_changes c where c.run_id = r.id
                               and c.state in ('planned', 'taken')) as unfinished
                           from sync_runs r where r.id = :run"""
                    ),
                    {"run": run.id},
                )
            ).one()
            if row.unfinished:
                raise Failed("unfinished", "Rows were left over; please report this.")
            if row.done > MUCH:
                analyse_grown_later(session)
            if row.held:
                await runs.end(session, run, "awaiting_approval")
                await self._mark_segment(
                    session,
                    status="error",
                    code="approval_needed",
                    detail="The run would remove or add unusually many members: look at its held"
                    " changes, then call segments.approveRun or segments.cancelRun.",
                )
            else:
                status = "succeeded_with_errors" if row.failed else "succeeded"
                await runs.end(session, run, status)
                if not run.leave:
                    await self._mark_segment(
                        session, status="synced", code=None, detail=None, planned_xid=row.plan_xmin
                    )
            await self._audit(session, "awaiting_approval" if row.held else "finished")

    async def _end(self, status: str, *, error: dict[str, str] | None = None) -> None:
        async with self._db.transaction(self._run.org_id) as session:
            await calls.recover(session, self._run)
            await runs.end(session, self._run, status, error=error)
            await self._audit(session, status)

    async def _key_refused(self, error: CredentialError) -> None:
        detail = connection.refused_detail(error)
        key = self._link.fingerprint if self._link else None
        async with self._db.transaction(self._run.org_id) as session:
            live = await connection.get_live(session)
        if key is not None and (live is None or live.key_fingerprint != key):
            await self._hand_over()  # disconnected, or another key was given, which nobody refused
            return
        await connection.mark_needs_attention(
            self._resources, self._run.org_id, error.code, detail, fingerprint=key
        )
        await self._fail("mailchimp_key_refused", detail)

    async def _fail(self, code: str, message: str) -> None:
        try:
            async with self._db.transaction(self._run.org_id) as session:
                await calls.recover(session, self._run)
                error = {"code": code, "message": message}
                await runs.end(session, self._run, "failed", error=error)
                if not self._run.dry_run:
                    await self._mark_segment(session, status="error", code=code, detail=message)
                await self._audit(session, "failed")
        except FencedError:
            _log.info("run_fenced", run=str(self._run.id))

    async def _audience_gone(self) -> None:
        async with self._db.transaction(self._run.org_id) as session:
            await session.execute(
                text(
                    "update audiences set gone_at = coalesce(gone_at, now()) where id = :audience"
                ),
                {"audience": self._run.audience_id},
            )
        await self._fail(
            "audience_gone", "Mailchimp does not know this audience any more. Choose another one."
        )

    async def _postpone(self, verdict: Verdict) -> None:
        error = {"code": verdict.code, "message": verdict.message}
        most = None if verdict.ours else _MOST_ATTEMPTS
        for tried in range(1, _POSTPONE_TRIES + 1):
            try:
                async with self._db.transaction(self._run.org_id) as session:
                    later = await runs.postpone(session, self._run, most=most, error=error)
                break
            except Exception as away:
                if not is_passing(away):
                    raise
                if tried == _POSTPONE_TRIES or self._stopping.is_set():
                    # then the lease runs out by itself, and the dispatcher finds the run
                    _log.info("not_postponed", run=str(self._run.id), error=type(away).__name__)
                    return
            await asyncio.sleep(0.5 + random.random())  # noqa: S311
        if not later and most is not None:
            await self._fail(
                verdict.code, verdict.message.replace("; trying again", ", however often we tried")
            )

    async def _hand_over(self) -> None:
        async with self._db.transaction(self._run.org_id) as session:
            await runs.hand_over(session, self._run)
        await self._resources.jobs.ring(
            SEGMENT_SYNC, self._run.id, self._run.org_id, epoch=self._run.epoch
        )
        _log.info("run_handed_over", run=str(self._run.id))

    async def _mark_segment(
        self, session: AsyncSession, *, status: str, code: str | None, detail: str | None,
        planned_xid: int | None = None,
    ) -> None:  # fmt: skip
        if self._run.immediate:
            return  # it says nothing of the segment
        await session.execute(
            text(
                """update contact_segments set status = :status, status_code = :code,
                       status_detail = :detail,
                       last_synced_at = case when :status = 'synced' then now() else last_synced_at end,
                       planned_xid = coalesce(cast(:xid as bigint), planned_xid)
                   where id = :segment and (audience_id = :audience or :status <> 'synced')"""
            ),
            {
                "status": status, "code": code, "detail": detail, "xid": planned_xid,
                "segment": self._run.segment_id, "audience": self._run.audience_id,
            },
        )  # fmt: skip

    async def _audit(self, session: AsyncSession, outcome: str) -> None:
        audit.record(
            session, self._actor, AuditAction.SYNC_FINISH, entity="run", entity_id=self._run.id,
            diff={"outcome": outcome},
        )  # fmt: skip


async def _held(session: AsyncSession, run_id: UUID) -> int:
    return int(
        await session.scalar(
            text("select count(*) from sync_changes where run_id = :run and state = 'held'"),
            {"run": run_id},
        )
        or 0
    )


async def work_on(
    resources: Resources, org_id: UUID, run_id: UUID, *, owner: str, stopping: asyncio.Event
) -> bool:
    """Claims a run and works on it; False where it was not to be had."""
    async with resources.db.transaction(org_id) as session:
        run = await runs.claim(
            session, run_id, owner=owner, lease_seconds=resources.settings.run_lease_seconds
        )
    if run is None:
        return False
    await Execution(resources, run, stopping=stopping).execute()
    return True
