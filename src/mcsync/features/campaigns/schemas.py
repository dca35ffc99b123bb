"""What the campaigns' procedures take and answer."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Literal, Self, cast
from uuid import UUID

from pydantic import ConfigDict, Field, StringConstraints
from pydantic.config import JsonDict

from mcsync import mailchimp
from mcsync.core.web.problems import register_problem
from mcsync.core.web.schemas import RequestModel, ResponseModel
from mcsync.features.campaigns.models import Campaign, Figures, Point
from mcsync.features.campaigns.words import Status, status_of

CampaignId = Annotated[
    str,
    StringConstraints(pattern=r"^[0-9A-Za-z]{1,40}$"),
    Field(description="Mailchimp's own id of the campaign, such as `42694e9e57`."),
]
TrackingId = Annotated[UUID, Field(description="The tracked campaign's id.")]

_FIGURES: JsonDict = {
    "emailsSent": 4180,
    "opens": 2903,
    "uniqueOpens": 1652,
    "openRate": 0.4021,
    "proxyExcludedOpens": 1740,
    "proxyExcludedUniqueOpens": 1013,
    "proxyExcludedOpenRate": 0.2466,
    "clicks": 512,
    "uniqueClicks": 398,
    "subscriberClicks": 341,
    "clickRate": 0.083,
    "hardBounces": 31,
    "softBounces": 41,
    "syntaxErrors": 0,
    "unsubscribed": 12,
    "abuseReports": 1,
}
_CAMPAIGN: JsonDict = {
    "id": "019ab5b0-4c1d-7e52-9a0e-2f0f2f6a9b01",
    "campaignId": "42694e9e57",
    "title": "November news",
    "subject": "What moved in November",
    "type": "regular",
    "audienceId": "a1f0c3d2e4",
    "status": "sent",
    "createTime": "2026-11-19T08:12:00Z",
    "sendTime": "2026-11-20T09:00:00Z",
    **_FIGURES,
    "lastOpenAt": "2026-11-23T05:41:17Z",
    "lastClickAt": "2026-11-23T04:02:55Z",
    "trackedBy": "manual",
    "settled": False,
    "goneAt": None,
    "refreshedAt": "2026-11-23T06:04:11Z",
    "createdAt": "2026-11-20T10:30:00Z",
}


class TrackInput(RequestModel):
    """The campaign to track."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"campaignId": "42694e9e57"}]})

    campaign_id: CampaignId


class TrackedInput(RequestModel):
    """A tracked campaign."""

    model_config = ConfigDict(
        json_schema_extra={"examples": [{"id": "019ab5b0-4c1d-7e52-9a0e-2f0f2f6a9b01"}]}
    )

    id: TrackingId


class AutoTrackingInput(RequestModel):
    """Whether new campaigns are tracked by themselves."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"enabled": True}]})

    enabled: bool


class AutoTrackingView(ResponseModel):
    """Whether new campaigns are tracked by themselves."""

    model_config = ConfigDict(
        json_schema_extra={"examples": [{"enabled": True, "since": "2026-11-23T09:12:44Z"}]}
    )

    enabled: bool
    since: datetime | None = Field(
        description="Campaigns made from then on are new: when it was switched on, or the newest one seen."
    )


class FiguresView(ResponseModel):
    """What became of a campaign. Rates are fractions 0-1."""

    emails_sent: int
    opens: int
    unique_opens: int = Field(description="How many people opened it.")
    open_rate: float
    proxy_excluded_opens: int | None = Field(
        description="Opens without what mail clients fetch for privacy (Apple Mail Privacy Protection);"
        " null where Mailchimp does not tell."
    )
    proxy_excluded_unique_opens: int | None
    proxy_excluded_open_rate: float | None
    clicks: int
    unique_clicks: int = Field(description="People, counted for each link.")
    subscriber_clicks: int = Field(description="How many people clicked at all.")
    click_rate: float
    hard_bounces: int
    soft_bounces: int
    syntax_errors: int
    unsubscribed: int
    abuse_reports: int


class CampaignView(FiguresView):
    """A tracked campaign as it was when it was last looked at."""

    model_config = ConfigDict(json_schema_extra={"examples": [_CAMPAIGN]})

    id: UUID
    campaign_id: CampaignId
    title: str
    subject: str
    type: str
    audience_id: str | None = Field(description="Mailchimp's id of the audience.")
    status: Status
    create_time: datetime | None
    send_time: datetime | None = Field(description="When it was, or is going to be, sent.")
    last_open_at: datetime | None
    last_click_at: datetime | None
    tracked_by: Literal["manual", "auto"]
    settled: bool = Field(
        description="Nothing is expected to move any more, and only refreshStats looks again: it was"
        " cancelled, or sent longer ago than the settling window (30 days unless set otherwise)."
    )
    gone_at: datetime | None = Field(
        description="When Mailchimp was found to have it no more; the figures stay."
    )
    refreshed_at: datetime | None
    created_at: datetime = Field(description="When tracking began.")

    @classmethod
    def of(cls, row: Campaign) -> Self:
        """The view of a stored campaign."""
        return cls(
            **_figures(row),
            id=row.id,
            campaign_id=row.campaign_id,
            title=row.title,
            subject=row.subject,
            type=row.type,
            audience_id=row.list_id or None,
            status=cast("Status", row.status),
            create_time=row.create_time,
            send_time=row.send_time,
            last_open_at=row.last_open_at,
            last_click_at=row.last_click_at,
            tracked_by=cast("Literal['manual', 'auto']", row.tracked_by),
            settled=row.settled_at is not None,
            gone_at=row.gone_at,
            refreshed_at=row.refreshed_at,
            created_at=row.created_at,
        )


class PointView(FiguresView):
    """The figures from one moment on, until the next point."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [{"at": "2026-11-23T06:04:11Z", "status": "sent", **_FIGURES}]
        }
    )

    at: datetime
    status: Status

    @classmethod
    def of(cls, row: Point) -> Self:
        """The view of a stored point."""
        return cls(**_figures(row), at=row.at, status=cast("Status", row.status))


class AvailableCampaign(ResponseModel):
    """A campaign of the connected account."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "campaignId": "7b1e0d92aa",
                    "title": "December news",
                    "subject": "What is coming in December",
                    "type": "regular",
                    "audienceId": "a1f0c3d2e4",
                    "status": "scheduled",
                    "createTime": "2026-11-22T15:40:00Z",
                    "sendTime": "2026-12-01T09:00:00Z",
                    "emailsSent": 0,
                    "trackedId": None,
                }
            ]
        }
    )

    campaign_id: CampaignId
    title: str
    subject: str
    type: str
    audience_id: str | None
    status: Status
    create_time: datetime | None
    send_time: datetime | None
    emails_sent: int
    tracked_id: UUID | None = Field(
        description="Our id of it where it is tracked; null where it is not."
    )

    @classmethod
    def of(cls, found: mailchimp.Campaign) -> Self:
        """The view of one that is not tracked."""
        return cls(
            campaign_id=found.id,
            title=found.title,
            subject=found.subject,
            type=found.type,
            audience_id=found.list_id or None,
            status=status_of(found),
            create_time=found.create_time,
            send_time=found.send_time,
            emails_sent=found.emails_sent,
            tracked_id=None,
        )

    @classmethod
    def tracked(cls, row: Campaign) -> Self:
        """The view of one that is."""
        return cls(
            campaign_id=row.campaign_id,
            title=row.title,
            subject=row.subject,
            type=row.type,
            audience_id=row.list_id or None,
            status=cast("Status", row.status),
            create_time=row.create_time,
            send_time=row.send_time,
            emails_sent=row.emails_sent,
            tracked_id=row.id,
        )


def _figures(row: Figures) -> dict[str, Any]:
    return {name: getattr(row, name) for name in FiguresView.model_fields}


for _problem in (
    ("campaign_not_found", 404, "No such campaign",
     "campaigns.listAvailable shows those of the account, campaigns.list those that are tracked."),
    ("campaign_of_another_account", 409, "The campaign belongs to an account that is not connected",
     "Connect that Mailchimp account again; what is stored of the campaign stays until then."),
    ("already_tracked", 409, "The campaign is tracked already",
     "campaigns.refreshStats reads it anew."),
):  # fmt: skip
    register_problem(*_problem)
