"""The rules of runs as callers see them. What workers do stands in ``execute`` and ``withdrawals``."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from dataclasses import replace
from uuid import UUID

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession
from uuid6 import uuid7

from mcsync.core.auth import Actor, Scope
from mcsync.core.db import after_commit
from mcsync.core.errors import BadRequestError, ConflictError, NotFoundError
from mcsync.core.jobs import SEGMENT_SYNC
from mcsync.core.resources import Resources
from mcsync.core.web.paging import PageParams, encode_cursor
from mcsync.core.web.schemas import Page
from mcsync.features import audit
from mcsync.features.audiences import service as audiences
from mcsync.features.audiences.merge_map import Field, unfed_required
from mcsync.features.audiences.models import Audience
from mcsync.features.connection import service as connection
from mcsync.features.segments import repository as segments
from mcsync.features.sync import context, decide, previewing, runs
from mcsync.features.sync.decide import PlanScope, PlanSegment
from mcsync.features.sync.schemas import (
    ChangeView,
    Counts,
    PreviewInput,
    PreviewRowView,
    PreviewView,
    RunView,
    UnreadableExample,
    UnreadableField,
    UnreadableInPreview,
)

_WATCH_SECONDS = 0.5
_MOST_SHOWN = 100
"""So many characters of a value that a field does not take are shown."""


async def start(
    resources: Resources, actor: Actor, segment_id: UUID, *, dry_run: bool, trigger: str = "manual"
) -> RunView:
    """A run of the segment, or the one that is under way.

    Raises ``NotFoundError``, ``ConflictError`` (``not_connected``).
    """
    async with resources.db.transaction(actor.org_id) as session:
        found = await segments.get(session, segment_id)
        if found is None:
            raise _no_segment()
        await connection.require_live(session)
        segment, _ = found
        run_id = await _create(
            resources, session, actor, segment_id=segment.id, audience_id=segment.audience_id,
            trigger=trigger, dry_run=dry_run,
        )  # fmt: skip
        return await _view(resources, session, run_id)


async def leave_audience(
    resources: Resources, session: AsyncSession, segment_id: UUID, audience_id: UUID, actor: Actor,
    *, members: bool, to: UUID | None = None,
) -> None:  # fmt: skip
    """A segment was deleted, or went ``to`` another audience: its runs end (joins a transaction).

    With ``members``, a guarded run plans all its claims on the audience it leaves as left.
    """
    await runs.end_all(session, segment_id, to=to, members=members)
    if members:
        await _create(
            resources, session, actor, segment_id=segment_id, audience_id=audience_id,
            trigger="leave", leave=True,
        )  # fmt: skip


async def _create(
    resources: Resources, session: AsyncSession, actor: Actor, *, segment_id: UUID,
    audience_id: UUID, trigger: str, dry_run: bool = False, leave: bool = False,
) -> UUID:  # fmt: skip
    run_id, new = await runs.create(
        session, segment_id=segment_id, audience_id=audience_id, trigger=trigger,
        dry_run=dry_run, leave=leave, request_id=actor.request_id,
    )  # fmt: skip
    audit.record(
        session, actor, audit.AuditAction.SYNC_START, entity="run", entity_id=run_id,
        diff={"trigger": trigger, "dryRun": dry_run, "leave": leave, "new": new},
    )  # fmt: skip
    _ring(resources, session, actor.org_id, run_id)
    return run_id


def _ring(resources: Resources, session: AsyncSession, org_id: UUID, run_id: UUID) -> None:
    async def ring() -> None:
        await resources.jobs.ring(SEGMENT_SYNC, run_id, org_id)

    after_commit(session, ring)


async def get(resources: Resources, actor: Actor, run_id: UUID) -> RunView:
    """One run. Raises ``NotFoundError``."""
    async with resources.db.transaction(actor.org_id) as session:
        return await _view(resources, session, run_id)


async def _view(resources: Resources, session: AsyncSession, run_id: UUID) -> RunView:
    row = await runs.fetch(session, run_id)
    if row is None:
        raise _no_run()
    return RunView.of(row, resources.clock())


async def list_runs(
    resources: Resources, actor: Actor, page: PageParams, *, segment_id: UUID | None,
    status: str | None,
) -> Page[RunView]:  # fmt: skip
    """Runs, newest first. Raises ``NotFoundError`` for a segment that does not exist."""
    after = page.after(UUID)
    async with resources.db.transaction(actor.org_id) as session:
        if segment_id is not None and not await _segment_exists(session, segment_id):
            raise _no_segment()
        rows = await runs.page(
            session, segment_id=segment_id, status=status, before=after[0] if after else None,
            limit=page.limit + 1,
        )  # fmt: skip
    now = resources.clock()
    items = [RunView.of(row, now) for row in rows[: page.limit]]
    more = len(rows) > page.limit
    return Page(items=items, next_cursor=encode_cursor(items[-1].id) if more else None)


async def list_changes(
    resources: Resources, actor: Actor, page: PageParams, run_id: UUID, *, action: str | None,
    state: str | None, reason: str | None,
) -> Page[ChangeView]:  # fmt: skip
    """The run's changes, in the order planned. Raises ``NotFoundError``."""
    after = page.after(int)
    async with resources.db.transaction(actor.org_id) as session:
        if await runs.fetch(session, run_id) is None:
            raise _no_run()
        rows = await runs.change_page(
            session, run_id, action=action, state=state, reason=reason,
            after=after[0] if after else 0, limit=page.limit + 1,
        )  # fmt: skip
    items = [ChangeView.of(row) for row in rows[: page.limit]]
    more = len(rows) > page.limit
    return Page(items=items, next_cursor=encode_cursor(items[-1].seq) if more else None)


async def approve(resources: Resources, actor: Actor, run_id: UUID) -> RunView:
    """Lets the held changes go: pulled and decided again first, what no longer holds is ``obsolete``.

    Raises ``NotFoundError``, ``ConflictError`` (``not_awaiting_approval``).
    """
    async with resources.db.transaction(actor.org_id) as session:
        if await runs.fetch(session, run_id) is None:
            raise _no_run()
        approved = await session.execute(
            text(
                """update sync_runs r set status = 'queued', approved = true, attempts = 0,
                       next_attempt_at = clock_timestamp(), revision = revision + 1
                   where id = :run and status = 'awaiting_approval'
                     and not exists (select from sync_runs o where o.segment_id = r.segment_id
                         and not o.dry_run and not o.immediate and o.id <> r.id
                         and o.status in ('queued', 'pulling', 'planning', 'pushing'))
                   returning segment_id"""
            ),
            {"run": run_id},
        )
        if approved.one_or_none() is None:
            raise ConflictError(
                "Only a run that awaits approval can be approved; see segments.getRun.",
                code="not_awaiting_approval",
            )
        audit.record(session, actor, audit.AuditAction.SYNC_APPROVE, entity="run", entity_id=run_id)
        _ring(resources, session, actor.org_id, run_id)
        return await _view(resources, session, run_id)


async def cancel(resources: Resources, actor: Actor, run_id: UUID) -> RunView:
    """Ends a run: at once where nobody works on it, else after the calls under way.

    What was sent stays; withdrawals on their way are not part of it. Raises ``NotFoundError``,
    ``ConflictError`` (``run_ended``).
    """
    async with resources.db.transaction(actor.org_id) as session:
        row = await runs.fetch(session, run_id)
        if row is None:
            raise _no_run()
        ended = await session.execute(
            text(
                """update sync_runs set cancel_requested_at = now(), revision = revision + 1,
                       status = case when waits then 'cancelled' else status end,
                       finished_at = case when waits then now() end,
                       epoch = case when waits then epoch + 1 else epoch end
                   from (select status in ('queued', 'awaiting_approval')
                             or lease_until is null or lease_until < clock_timestamp() as waits
                         from sync_runs where id = :run for update) w
                   where id = :run and status in
                       ('queued', 'pulling', 'planning', 'pushing', 'awaiting_approval')
                   returning id"""
            ),
            {"run": run_id},
        )
        if ended.one_or_none() is None:
            raise ConflictError("The run has ended; nothing to cancel.", code="run_ended")
        if row["status"] == "awaiting_approval":
            await runs.nothing_waits(session, row["segment_id"])
        audit.record(session, actor, audit.AuditAction.SYNC_CANCEL, entity="run", entity_id=run_id)
        return await _view(resources, session, run_id)


async def watch(
    resources: Resources, actor: Actor, run_id: UUID, *, seen: int
) -> AsyncIterator[tuple[int, RunView]]:
    """Each new state of a run, with its revision, until it has ended (or waits for approval)."""
    while True:
        async with resources.db.transaction(actor.org_id) as session:
            row = await runs.fetch(session, run_id)
        if row is None:
            raise _no_run()
        over = row["status"] in (*runs.ENDED, "awaiting_approval")
        if row["revision"] > seen or over:
            seen = row["revision"]
            yield seen, RunView.of(row, resources.clock())
        if over:
            return
        await asyncio.sleep(_WATCH_SECONDS)


async def preview(resources: Resources, actor: Actor, wanted: PreviewInput) -> PreviewView:
    """What a sync would do now. Reads the mirror only; stores nothing.

    Raises ``BadRequestError``, ``NotFoundError``.
    """
    audience: Audience | None = None
    if wanted.definition is not None:
        audience = await audiences.find(resources, actor.org_id, wanted.definition.audience_id)
    async with resources.db.transaction(actor.org_id) as session:
        scope, mirrored = await _preview_scope(resources, session, actor, wanted, audience)
        found = await previewing.preview(session, scope, sample=wanted.sample)
        fields = Field.stored(mirrored.merge_fields)
    return PreviewView(
        counts=Counts(**found.plan.counts(), done=0, failed=0),
        by_reason=found.by_reason,
        skipped_by_reason=found.plan.skipped,
        unreadable_fields=_unreadable(
            found, decide.problems(scope), shown=actor.may(Scope.CONTACTS_READ)
        ),
        sample=[PreviewRowView.model_validate(row) for row in found.sample],
        mirrored_at=mirrored.high_water and mirrored.full_pull_at,
        unfed_required=unfed_required(fields, scope.merge_map),
        warnings=audiences.warnings(mirrored),
    )


def _unreadable(
    found: previewing.Preview, problems: Mapping[str, str], *, shown: bool
) -> list[UnreadableInPreview]:
    """Each field whose values are not all taken, with its examples. ``shown``: their values, too."""
    return [
        UnreadableInPreview(
            **UnreadableField.of(tag, problems[tag]).model_dump(),
            count=count,
            examples=[
                UnreadableExample(
                    entity_type=each.entity_type,
                    entity_id=each.entity_id,
                    problem=problems[tag],
                    # an address in the wrong column is still an address
                    value=each.value[:_MOST_SHOWN] if shown and "@" not in each.value else None,
                )
                for each in found.unreadable
                if each.tag == tag
            ],
        )
        for tag, count in sorted(found.plan.unreadable.items())
    ]


async def _preview_scope(
    resources: Resources, session: AsyncSession, actor: Actor, wanted: PreviewInput,
    audience: Audience | None,
) -> tuple[PlanScope, Audience]:  # fmt: skip
    now = resources.clock()
    scope: PlanScope | None = None
    if wanted.id is not None:
        found = await segments.get(session, wanted.id)
        if found is None:
            raise _no_segment()
        segment, audience_there = found
        audience = audience or audience_there
        ctx = await context.load(session, segment_id=segment.id, audience_id=audience.id, now=now)
        scope = ctx.scope if ctx else None
    if wanted.definition is None:
        if scope is None or audience is None:
            raise BadRequestError(
                "Give the id of a segment, or a definition, or both.", code="nothing_to_preview"
            )
        return scope, audience
    assert audience is not None
    given = wanted.definition
    unsaved = PlanSegment(
        id=wanted.id or uuid7(), name="", segment_type=given.segment_type,
        filters=given.filters.stored(), legal_basis=given.legal_basis, on_leave=given.on_leave,
        opt_in=given.opt_in,
    )  # fmt: skip
    if scope is not None:
        return replace(scope, segment=unsaved), audience
    return PlanScope(
        org_id=actor.org_id,
        audience_id=audience.id,
        segment=unsaved,
        others=await context.live_segments(session, audience.id),
        merge_map=audiences.merge_map(audience),
        merge_fields=audiences.merge_fields(audience),
        now=now,
    ), audience


async def _segment_exists(session: AsyncSession, segment_id: UUID) -> bool:
    """Also a deleted one: its history stays."""
    return bool(
        await session.scalar(
            text("select exists (select from contact_segments where id = :segment)"),
            {"segment": segment_id},
        )
    )


def _no_segment() -> NotFoundError:
    return NotFoundError("No such segment; see segments.list.", code="segment_not_found")


def _no_run() -> NotFoundError:
    return NotFoundError("No such run; see segments.listRuns.", code="run_not_found")
