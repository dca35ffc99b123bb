"""The procedures that keep segments. Those that sync them stand with ``sync``."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query

from mcsync.core.auth import Actor, Scope, requires
from mcsync.core.web.deps import PageDep, ResourcesDep
from mcsync.core.web.openapi import problems
from mcsync.core.web.schemas import Page
from mcsync.features.segments import service
from mcsync.features.segments.deps import LeaveDep
from mcsync.features.segments.schemas import (
    CreateSegmentInput,
    DeleteSegmentInput,
    SegmentId,
    SegmentStatus,
    SegmentType,
    SegmentView,
    UpdateSegmentInput,
)

router = APIRouter(prefix="/mailchimp/segments", tags=["segments"])

Reader = Annotated[Actor, requires(Scope.SEGMENTS_READ)]
Writer = Annotated[Actor, requires(Scope.SEGMENTS_WRITE)]


@router.get("/list", name="list", summary="All segments")
async def list_(
    resources: ResourcesDep,
    actor: Reader,
    page: PageDep,
    status: Annotated[SegmentStatus | None, Query(description="Only of this status.")] = None,
    segment_type: Annotated[
        SegmentType | None, Query(alias="segmentType", description="Only of this type.")
    ] = None,
) -> Page[SegmentView]:
    """Segments, newest first; deleted ones are left out."""
    return await service.list_segments(
        resources, actor, page, status=status, segment_type=segment_type
    )


@router.get("/get", summary="One segment")
async def get(
    resources: ResourcesDep,
    actor: Reader,
    id: Annotated[SegmentId, Query()],  # noqa: A002 - its name on the wire
) -> SegmentView:
    """The segment's definition and its sync status."""
    return await service.get(resources, actor, id)


@router.post("/create", summary="Create a segment", responses=problems(502, 504))
async def create(body: CreateSegmentInput, resources: ResourcesDep, actor: Writer) -> SegmentView:
    """Defines a group of contacts and the audience that it is kept in.

    Nothing is sent to Mailchimp yet: the segment is `pending` until `segments.sync` or the nightly
    sync. `segments.preview` shows beforehand what a sync would do. The audience must exist in the
    connected account, `audience_not_found` otherwise.
    """
    return await service.create(resources, actor, body)


@router.post("/update", summary="Change a segment", responses=problems(502, 504))
async def update(
    body: UpdateSegmentInput, resources: ResourcesDep, actor: Writer, leave: LeaveDep
) -> SegmentView:
    """Changes the fields given; the others stay. The next sync carries it to Mailchimp.

    `filters` are replaced as a whole. A new name renames the Mailchimp tag. A run under way follows the
    change. With another `audienceId`, runs for the old audience end, and members stay there as they are
    unless `leave` is `true`: then one run lets them leave it as `onLeave` says, held for approval where
    it is large.
    """
    return await service.update(resources, actor, body, leave)


@router.post("/delete", summary="Delete a segment")
async def delete(
    body: DeleteSegmentInput, resources: ResourcesDep, actor: Writer, leave: LeaveDep
) -> SegmentView:
    """Deletes the segment, and answers it as it was; its runs end, its history stays.

    Members stay at Mailchimp as they are unless `leave` is `true`: then one run lets those leave that no
    other segment of the audience claims, as `onLeave` says, held for approval where it is large.
    """
    return await service.delete(resources, actor, body, leave)
