"""The procedures that sync segments and watch it happen."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Depends, Header, Query, Response
from fastapi.sse import EventSourceResponse, ServerSentEvent

from mcsync.core.auth import Actor, Scope, requires
from mcsync.core.web.deps import PageDep, ResourcesDep
from mcsync.core.web.openapi import problems as documented
from mcsync.core.web.schemas import Page
from mcsync.features.sync import (
    problems,  # noqa: F401 - registers its codes
    service,
)
from mcsync.features.sync.schemas import (
    RUN_EVENT,
    Action,
    ChangeState,
    ChangeView,
    PreviewInput,
    PreviewView,
    RunId,
    RunInput,
    RunStatus,
    RunView,
    SyncInput,
)

router = APIRouter(prefix="/mailchimp/segments", tags=["segments"])

Reader = Annotated[Actor, requires(Scope.SEGMENTS_READ)]
Runner = Annotated[Actor, requires(Scope.SYNC_RUN)]
Approver = Annotated[Actor, requires(Scope.SYNC_APPROVE)]

_REVISION = re.compile(r"[0-9]{1,9}")


@router.post("/sync", status_code=202, summary="Sync a segment now")
async def sync(
    body: SyncInput, resources: ResourcesDep, actor: Runner, response: Response
) -> RunView:
    """Starts a run: pull what changed at Mailchimp, plan, push. Answers at once with the run.

    A segment has one live run: while one is under way, that one is answered. `dryRun` plans and stops.
    """
    run = await service.start(resources, actor, body.id, dry_run=body.dry_run)
    response.headers["Location"] = f"/mailchimp/segments/getRun?id={run.id}"
    return run


@router.post(
    "/preview", summary="See what a sync would do", responses=documented(404, 409, 502, 504)
)
async def preview(body: PreviewInput, resources: ResourcesDep, actor: Reader) -> PreviewView:
    """Counts by action and reason and a sample of rows, for a stored segment or an unsaved definition.

    Reads only what mcsync knows of Mailchimp since the last pull; a dry run (`segments.sync` with
    `dryRun`) pulls first. A query, by POST because of its body.
    """
    return await service.preview(resources, actor, body)


@router.get("/listRuns", summary="Runs, newest first", responses=documented(404))
async def list_runs(
    resources: ResourcesDep,
    actor: Reader,
    page: PageDep,
    segment_id: Annotated[
        UUID | None, Query(alias="segmentId", description="Only of this segment.")
    ] = None,
    status: Annotated[RunStatus | None, Query(description="Only of this status.")] = None,
) -> Page[RunView]:
    """All runs of the organisation or of one segment."""
    return await service.list_runs(resources, actor, page, segment_id=segment_id, status=status)


@router.get("/getRun", summary="One run")
async def get_run(
    resources: ResourcesDep,
    actor: Reader,
    id: Annotated[RunId, Query()],  # noqa: A002 - its name on the wire
) -> RunView:
    """Counts, rate, time left, and why contacts were skipped."""
    return await service.get(resources, actor, id)


@router.get("/listChanges", summary="What a run did, row by row")
async def list_changes(
    resources: ResourcesDep,
    actor: Reader,
    page: PageDep,
    id: Annotated[RunId, Query()],  # noqa: A002 - its name on the wire
    action: Annotated[Action | None, Query(description="Only this action.")] = None,
    state: Annotated[ChangeState | None, Query(description="Only in this state.")] = None,
    reason: Annotated[
        str | None, Query(max_length=100, description="Only for this reason.")
    ] = None,
) -> Page[ChangeView]:
    """Every planned change of a run with its reason and outcome.

    Skipped contacts are listed by the run that (re)considered them; a run looks only at what changed
    since the one before. `segments.preview` shows all reasons as of now.
    """
    return await service.list_changes(
        resources, actor, page, id, action=action, state=state, reason=reason
    )


@router.post("/approveRun", summary="Approve held changes")
async def approve_run(body: RunInput, resources: ResourcesDep, actor: Approver) -> RunView:
    """Executes the changes that the guard held, as far as they still hold after a new look.

    The others end as `obsolete`. See `holds` of the run for what was held and why.
    """
    return await service.approve(resources, actor, body.id)


@router.post("/cancelRun", summary="Cancel a run")
async def cancel_run(body: RunInput, resources: ResourcesDep, actor: Runner) -> RunView:
    """Stops a run after the calls under way; what was sent stays, what was held is dropped.

    Withdrawals are no part of a run and go out all the same.
    """
    return await service.cancel(resources, actor, body.id)


async def _watched(
    resources: ResourcesDep,
    actor: Reader,
    id: Annotated[RunId, Query()],  # noqa: A002 - its name on the wire
) -> UUID:
    """A run that is there: once a stream has begun, no status can tell that it is not."""
    return (await service.get(resources, actor, id)).id


@router.get(
    "/watchRun",
    summary="Watch a run live",
    response_class=EventSourceResponse,
    responses={200: {"content": {"text/event-stream": {"example": RUN_EVENT}}}},
)
async def watch_run(
    resources: ResourcesDep,
    actor: Reader,
    run_id: Annotated[UUID, Depends(_watched)],
    last_event_id: Annotated[
        str | None, Header(alias="Last-Event-ID", description="Resume after this event.")
    ] = None,
) -> AsyncIterator[ServerSentEvent]:
    """Server-sent events: `run` with the run's state whenever it changes, until it ends.

    Each carries the run as of then, so nothing is lost when the stream is opened again.
    """
    seen = int(last_event_id) if last_event_id and _REVISION.fullmatch(last_event_id) else 0
    async for revision, view in service.watch(resources, actor, run_id, seen=seen):
        data = view.model_dump_json(by_alias=True)
        yield ServerSentEvent(raw_data=data, event="run", id=str(revision))
