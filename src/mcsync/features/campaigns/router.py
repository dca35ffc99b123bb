"""The procedures of tracked campaigns."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Header, Query, Response

from mcsync.core.auth import Actor, Scope, requires
from mcsync.core.web.deps import PageDep, ResourcesDep
from mcsync.core.web.openapi import problems
from mcsync.core.web.schemas import Page
from mcsync.features.audiences.schemas import AudienceId
from mcsync.features.campaigns import available, service
from mcsync.features.campaigns.negotiation import prefers_svg
from mcsync.features.campaigns.schemas import (
    AutoTrackingInput,
    AutoTrackingView,
    AvailableCampaign,
    CampaignView,
    PointView,
    TrackedInput,
    TrackingId,
    TrackInput,
)
from mcsync.features.campaigns.words import Status

router = APIRouter(prefix="/mailchimp/campaigns", tags=["campaigns"])

Reader = Annotated[Actor, requires(Scope.CAMPAIGNS_READ)]
Writer = Annotated[Actor, requires(Scope.CAMPAIGNS_WRITE)]
Search = Annotated[
    str | None, Query(max_length=200, description="Only titles with this text, whatever the case.")
]
_SVG = "image/svg+xml"
_PLOT: dict[int | str, dict[str, Any]] = {
    200: {
        "content": {
            _SVG: {
                "schema": {"type": "string"},
                "example": '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 720 320">'
                '<polyline points="56,280 704,60"/></svg>',
            }
        }
    }
}


@router.get("/list", name="list", summary="Tracked campaigns")
async def list_(
    resources: ResourcesDep,
    actor: Reader,
    page: PageDep,
    status: Annotated[Status | None, Query(description="Only of this status.")] = None,
    audience_id: Annotated[AudienceId | None, Query(alias="audienceId")] = None,
    search: Search = None,
) -> Page[CampaignView]:
    """Tracked campaigns with their figures, the last tracked first.

    Also those of accounts that were connected before, and those that Mailchimp has no more (`goneAt`).
    """
    return await service.list_campaigns(
        resources, actor, page, status=status, audience_id=audience_id, search=search
    )


@router.get("/get", summary="One tracked campaign")
async def get(
    resources: ResourcesDep,
    actor: Reader,
    id: Annotated[TrackingId, Query()],  # noqa: A002 - its name on the wire
) -> CampaignView:
    """The campaign as it was when it was last looked at (`refreshedAt`).

    Opens and clicks are followed every six hours until it settles: 30 days after it was sent, unless the
    operator set another window.
    """
    return await service.get(resources, actor, id)


@router.post("/trackCampaign", summary="Track a campaign", responses=problems(502, 504))
async def track_campaign(body: TrackInput, resources: ResourcesDep, actor: Writer) -> CampaignView:
    """Reads a campaign of the connected account by Mailchimp's id and follows it from now on.

    `campaign_not_found`: the connected account has none of this id, which may be mistyped or of another
    account. `already_tracked`: it is followed already; `trackedId` in the answer is our id of it. One that
    was untracked before comes back with its history.
    """
    return await service.track(resources, actor, body.campaign_id)


@router.post("/refreshStats", summary="Refresh a campaign now", responses=problems(502, 504))
async def refresh_stats(body: TrackedInput, resources: ResourcesDep, actor: Writer) -> CampaignView:
    """Reads the campaign anew, also one that has settled.

    A point is added to its history where something changed. One that was deleted at Mailchimp is marked
    with `goneAt`, and its figures stay.
    """
    return await service.refresh_stats(resources, actor, body.id)


@router.post("/untrack", summary="Stop tracking a campaign")
async def untrack(body: TrackedInput, resources: ResourcesDep, actor: Writer) -> CampaignView:
    """Stops following a campaign, and answers it as it was. Nothing changes at Mailchimp.

    It is not tracked again by itself; tracked by hand again, it has its history back.
    """
    return await service.untrack(resources, actor, body.id)


@router.get("/listAvailable", summary="Campaigns of the account", responses=problems(502, 504))
async def list_available(
    resources: ResourcesDep, actor: Reader, page: PageDep, search: Search = None
) -> Page[AvailableCampaign]:
    """The connected account's campaigns: those not tracked, newest first, then those tracked.

    A page may be short, or even empty, and still have a `nextCursor`: only so many of Mailchimp's pages
    are looked through for each.
    """
    return await available.list_available(resources, actor, page, search)


@router.get(
    "/history",
    summary="A campaign's figures over time",
    response_model=Page[PointView],
    responses=_PLOT,
)
async def history(
    resources: ResourcesDep,
    actor: Reader,
    page: PageDep,
    id: Annotated[TrackingId, Query()],  # noqa: A002 - its name on the wire
    accept: Annotated[str, Header(include_in_schema=False)] = "",
) -> Page[PointView] | Response:
    """The figures over time, oldest first; a point stands until the next one.

    With `Accept: image/svg+xml` the answer is a plot of the people who opened and clicked, over the
    whole history.
    """
    if prefers_svg(accept):
        drawn = await service.plot_history(resources, actor, id)
        return Response(
            drawn,
            media_type=_SVG,
            headers={"Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'"},
        )
    return await service.history(resources, actor, page, id)


@router.post("/setAutoTracking", summary="Track new campaigns by themselves")
async def set_auto_tracking(
    body: AutoTrackingInput, resources: ResourcesDep, actor: Writer
) -> AutoTrackingView:
    """Whether campaigns made at Mailchimp from now on are tracked without being asked for, at the next refresh.

    It belongs to the connection, and connection.get shows it: another account begins without it.
    """
    return await service.set_auto_tracking(resources, actor, enabled=body.enabled)
