"""From Mailchimp's words to ours: statuses, figures, and when a campaign is over. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any, Final, Literal, get_args

from mcsync import mailchimp

Status = Literal["draft", "scheduled", "sending", "sent", "paused", "cancelled"]
STATUSES: Final[tuple[str, ...]] = get_args(Status)

_STATUS: Final[Mapping[str, Status]] = {
    "save": "draft",
    "schedule": "scheduled",
    "sending": "sending",
    "sent": "sent",
    "paused": "paused",
    "canceled": "cancelled",
    "canceling": "cancelled",
}

FIGURES: Final = (
    "emails_sent", "opens", "unique_opens", "open_rate", "proxy_excluded_opens",
    "proxy_excluded_unique_opens", "proxy_excluded_open_rate", "clicks", "unique_clicks",
    "subscriber_clicks", "click_rate", "hard_bounces", "soft_bounces", "syntax_errors", "unsubscribed",
    "abuse_reports",
)  # fmt: skip
"""The columns that tracked campaigns and points have in common."""


def status_of(campaign: mailchimp.Campaign) -> Status:
    """A campaign's status. One that was put into Mailchimp's archive, or has a status yet to come, is
    ``sent`` if it ever went out."""
    known = _STATUS.get(campaign.status)
    if known is not None:
        return known
    went_out = campaign.emails_sent > 0 or campaign.report_summary is not None
    if went_out:
        return "sent"
    return "cancelled" if campaign.status == "archived" else "draft"


def summary_of(campaign: mailchimp.Campaign) -> dict[str, Any] | None:
    """What a list of campaigns tells of the figures; None before there is anything to report."""
    if campaign.report_summary is None:
        return None
    return {**campaign.report_summary.model_dump(), "emails_sent": campaign.emails_sent}


def has_report(campaign: mailchimp.Campaign) -> bool:
    """Whether it is worth asking for its report."""
    return campaign.report_summary is not None or status_of(campaign) in ("sending", "sent")


def is_final(
    status: str, send_time: datetime | None, *, now: datetime, settling: timedelta
) -> bool:
    """Whether nothing is expected to move any more: cancelled, or sent longer ago than ``settling``."""
    if status == "cancelled":
        return True
    return status == "sent" and (send_time is None or send_time + settling <= now)


def facts_of(campaign: mailchimp.Campaign) -> dict[str, Any]:
    """What a campaign says of itself, by column."""
    return {
        "campaign_id": campaign.id,
        "web_id": campaign.web_id,
        "list_id": campaign.list_id,
        "title": campaign.title,
        "subject": campaign.subject,
        "type": campaign.type,
        "status": status_of(campaign),
        "create_time": campaign.create_time,
        "send_time": campaign.send_time,
    }


def figures_of(report: mailchimp.Report) -> dict[str, Any]:
    """What a report says, by column."""
    opens, clicks, bounces = report.opens, report.clicks, report.bounces
    return {
        "emails_sent": report.emails_sent,
        "opens": opens.total,
        "unique_opens": opens.unique,
        "open_rate": opens.rate,
        "proxy_excluded_opens": opens.proxy_excluded_opens,
        "proxy_excluded_unique_opens": opens.proxy_excluded_unique_opens,
        "proxy_excluded_open_rate": opens.proxy_excluded_open_rate,
        "clicks": clicks.total,
        "unique_clicks": clicks.unique,
        "subscriber_clicks": clicks.unique_subscribers,
        "click_rate": clicks.rate,
        "hard_bounces": bounces.hard,
        "soft_bounces": bounces.soft,
        "syntax_errors": bounces.syntax,
        "unsubscribed": report.unsubscribed,
        "abuse_reports": report.abuse_reports,
        "last_open_at": opens.last_open,
        "last_click_at": clicks.last_click,
    }
