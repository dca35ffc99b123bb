"""Reports of campaigns that were sent: /reports, /reports/{id} (MC 12)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .. import problems
from ..campaigns import Campaign, figures
from ..clock import iso
from ..exchange import Answer, Request, ok
from ..render import links
from .campaigns import chosen, found

if TYPE_CHECKING:
    from ..campaigns import Campaigns

_HOUR = 3600


def index(request: Request) -> Answer:
    """Newest first, as Mailchimp's pages show them."""
    offset, count = request.paging()
    shelf = request.world.campaigns
    reported = [each for each in shelf.of(request.account.id) if each.reported]
    sent = sorted(chosen(request, reported), key=lambda each: -each.begun)
    body = {
        "reports": [render(shelf, each) for each in sent[offset : offset + count]],
        "total_items": len(sent),
        "_links": links(("self", "/reports", "GET")),
    }
    return ok(body, request)


def show(request: Request) -> Answer:
    campaign = found(request)
    if not campaign.reported:
        raise problems.not_found()
    return ok(render(request.world.campaigns, campaign), request)


def render(shelf: Campaigns, campaign: Campaign) -> dict[str, Any]:
    """The report; the opens without privacy proxies can be switched off."""
    now = shelf.figures(campaign)
    opens: dict[str, Any] = {
        "opens_total": now.opens,
        "unique_opens": now.unique_opens,
        "open_rate": now.rate(now.unique_opens),
        "last_open": iso(now.last_open),
    }
    if shelf.world.config.campaigns.proxy_excluded:
        opens["proxy_excluded_opens"] = now.proxy_excluded_opens
        opens["proxy_excluded_unique_opens"] = now.proxy_excluded_unique_opens
        opens["proxy_excluded_open_rate"] = now.rate(now.proxy_excluded_unique_opens)
    return {
        "id": campaign.id,
        "campaign_title": campaign.title,
        "type": campaign.type,
        "list_id": campaign.list_id,
        "list_is_active": campaign.list_id in shelf.world.audiences,
        "list_name": campaign.list_name,
        "subject_line": campaign.subject,
        "preview_text": campaign.preview,
        "emails_sent": now.emails_sent,
        "abuse_reports": now.abuse_reports,
        "unsubscribed": now.unsubscribed,
        "send_time": iso(campaign.begun),
        "bounces": {
            "hard_bounces": now.hard_bounces,
            "soft_bounces": now.soft_bounces,
            "syntax_errors": 0,
        },
        "forwards": {"forwards_count": 0, "forwards_opens": 0},
        "opens": opens,
        "clicks": {
            "clicks_total": now.clicks,
            "unique_clicks": now.unique_clicks,
            "unique_subscriber_clicks": now.subscriber_clicks,
            "click_rate": now.rate(now.subscriber_clicks),
            "last_click": iso(now.last_click),
        },
        "facebook_likes": {"recipient_likes": 0, "unique_likes": 0, "facebook_likes": 0},
        "list_stats": {"sub_rate": 0, "unsub_rate": 0, "open_rate": 20, "click_rate": 2},
        "timeseries": _hours(shelf, campaign),
        "ecommerce": {
            "total_orders": 0,
            "total_spent": 0,
            "total_revenue": 0,
            "currency_code": "GBP",
        },
        "delivery_status": {"enabled": False},
        "_links": links(("self", f"/reports/{campaign.id}", "GET")),
    }


def _hours(shelf: Campaigns, campaign: Campaign) -> list[dict[str, Any]]:
    """What each of the first 24 hours added, as far as they are over."""
    config = shelf.world.config.campaigns
    rows: list[dict[str, Any]] = []
    before = figures(campaign, campaign.begun, sending_seconds=0, tau=1)
    for hour in range(24):
        until = campaign.begun + (hour + 1) * _HOUR
        if until > shelf.world.clock.second():
            break
        after = figures(
            campaign,
            until,
            sending_seconds=config.sending_seconds,
            tau=config.response_hours * _HOUR,
        )
        rows.append(
            {
                "timestamp": iso(campaign.begun + hour * _HOUR),
                "emails_sent": after.emails_sent if not hour else 0,
                "unique_opens": after.unique_opens - before.unique_opens,
                "proxy_excluded_unique_opens": after.proxy_excluded_unique_opens
                - before.proxy_excluded_unique_opens,
                "recipients_clicks": after.subscriber_clicks - before.subscriber_clicks,
            }
        )
        before = after
    return rows
