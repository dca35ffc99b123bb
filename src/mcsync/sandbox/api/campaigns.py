"""Campaigns: /campaigns, its actions and /search-campaigns (MC 11)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .. import problems
from ..campaigns import (
    CANCELING,
    PAUSED,
    SAVE,
    SCHEDULE,
    SENDING,
    SENT,
    TYPES,
    Campaign,
    NotNow,
)
from ..clock import iso, parse_time
from ..exchange import Answer, Request, no_content, ok
from ..render import links

if TYPE_CHECKING:
    from ..campaigns import Campaigns

_FILTERED = (SAVE, PAUSED, SCHEDULE, SENDING, SENT)
_SORTS = ("create_time", "send_time")
_QUARTER = 900


def found(request: Request) -> Campaign:
    """The campaign named in the path; 404 if this account has none of that id."""
    campaign = request.world.campaigns.find(request.args[0], request.account.id)
    if campaign is None:
        raise problems.not_found()
    return campaign


def chosen(request: Request, campaigns: list[Campaign]) -> list[Campaign]:
    """Those that pass the filters that /campaigns and /reports share; bounds are exclusive."""
    query = request.query
    if kind := query.get("type"):
        if kind not in TYPES:
            raise problems.bad_request(f"type must be one of {', '.join(TYPES)}.")
        campaigns = [each for each in campaigns if each.type == kind]
    if list_id := query.get("list_id"):
        campaigns = [each for each in campaigns if each.list_id == list_id]
    for name in ("create_time", "send_time"):
        since, before = request.time(f"since_{name}"), request.time(f"before_{name}")
        if since is not None:
            campaigns = [each for each in campaigns if _moment(each, name) > since]
        if before is not None:
            campaigns = [each for each in campaigns if 0 < _moment(each, name) < before]
    return campaigns


def _moment(campaign: Campaign, name: str) -> int:
    return campaign.created if name == "create_time" else campaign.begun or campaign.due


def index(request: Request) -> Answer:
    offset, count = request.paging()
    campaigns = chosen(request, request.world.campaigns.of(request.account.id))
    if status := request.query.get("status"):
        if status not in _FILTERED:
            raise problems.bad_request(f"status must be one of {', '.join(_FILTERED)}.")
        campaigns = [each for each in campaigns if each.status == status]
    if sort := request.query.get("sort_field"):
        if sort not in _SORTS:
            raise problems.bad_request("sort_field must be one of create_time, send_time.")
        campaigns = sorted(campaigns, key=lambda each: _moment(each, sort))
    if request.query.get("sort_dir", "").upper() == "DESC":
        campaigns = campaigns[::-1]
    shelf = request.world.campaigns
    body = {
        "campaigns": [render(shelf, each) for each in campaigns[offset : offset + count]],
        "total_items": len(campaigns),
        "_links": links(("self", "/campaigns", "GET")),
    }
    return ok(body, request)


def show(request: Request) -> Answer:
    return ok(render(request.world.campaigns, found(request)), request)


def search(request: Request) -> Answer:
    """Campaigns whose title or subject has all words; one page (MC 11)."""
    words = request.query.get("query", "").lower().split()
    if not words:
        raise problems.bad_request("The query parameter is required.")
    shelf = request.world.campaigns
    hits = [
        each
        for each in shelf.of(request.account.id)
        if all(word in f"{each.title} {each.subject}".lower() for word in words)
    ]
    results = [{"campaign": render(shelf, each), "snippet": each.subject} for each in hits]
    body = {
        "results": results,
        "total_items": len(hits),
        "_links": links(("self", "/search-campaigns", "GET")),
    }
    return ok(body, request)


def create(request: Request) -> Answer:
    given = request.json_object()
    if given.get("type") not in TYPES:
        raise problems.invalid_resource(None, ("type", "This value should not be blank."))
    list_id = str((given.get("recipients") or {}).get("list_id", ""))
    if list_id not in request.account.lists:
        raise problems.invalid_resource(None, ("recipients.list_id", "The list does not exist."))
    campaign = request.world.campaigns.make(request.account.id, list_id)
    campaign.type = given["type"]
    _settings(campaign, given)
    return ok(render(request.world.campaigns, campaign), request)


def update(request: Request) -> Answer:
    campaign = found(request)
    if campaign.status not in (SAVE, PAUSED, SCHEDULE):
        raise problems.bad_request("This campaign has been sent and cannot be edited.")
    _settings(campaign, request.json_object())
    return ok(render(request.world.campaigns, campaign), request)


def _settings(campaign: Campaign, given: dict[str, Any]) -> None:
    settings = given.get("settings") or {}
    campaign.title = str(settings.get("title", campaign.title))
    campaign.subject = str(settings.get("subject_line", campaign.subject))
    campaign.preview = str(settings.get("preview_text", campaign.preview))
    campaign.from_name = str(settings.get("from_name", campaign.from_name))
    campaign.reply_to = str(settings.get("reply_to", campaign.reply_to))


def remove(request: Request) -> Answer:
    campaign = found(request)
    if campaign.status in (SENDING, CANCELING):
        raise problems.method_not_allowed(
            "GET", "This campaign is being sent and cannot be deleted."
        )
    del request.world.campaigns.all[campaign.id]
    return no_content()


def act(request: Request) -> Answer:
    """POST /campaigns/{id}/actions/{action}: 204, or 400 where the status forbids it."""
    campaign, name = found(request), request.args[1]
    shelf = request.world.campaigns
    try:
        if name == "send":
            shelf.send(campaign)
        elif name == "schedule":
            shelf.schedule(campaign, _due(request))
        elif name == "unschedule":
            shelf.unschedule(campaign)
        elif name == "cancel-send":
            shelf.stop(campaign, CANCELING)
        elif name == "pause" and campaign.type == "rss":
            shelf.stop(campaign, PAUSED)
        elif name == "resume" and campaign.type == "rss":
            shelf.send(campaign)
        else:
            raise problems.not_found()
    except NotNow as reason:
        raise problems.bad_request(str(reason)) from None
    return no_content()


def _due(request: Request) -> int:
    due = parse_time(str(request.json_object().get("schedule_time", "")))
    if due is None or due % _QUARTER:
        raise problems.invalid_resource(
            None, ("schedule_time", "The time must be UTC and on a quarter hour.")
        )
    if due <= request.world.clock.second():
        raise problems.bad_request("You cannot schedule a campaign in the past.")
    return due


def render(shelf: Campaigns, campaign: Campaign) -> dict[str, Any]:
    """The campaign; `report_summary` is absent until it was begun."""
    figures = shelf.figures(campaign)
    body: dict[str, Any] = {
        "id": campaign.id,
        "web_id": campaign.web_id,
        "type": campaign.type,
        "create_time": iso(campaign.created),
        "archive_url": f"http://eepurl.com/{campaign.id[:6]}",
        "long_archive_url": f"https://mailchi.mp/{campaign.id}/sandbox",
        "status": campaign.status,
        "emails_sent": figures.emails_sent,
        "send_time": iso(campaign.begun or campaign.due),
        "content_type": "template",
        "needs_block_refresh": False,
        "resendable": False,
        "recipients": {
            "list_id": campaign.list_id,
            "list_is_active": campaign.list_id in shelf.world.audiences,
            "list_name": campaign.list_name,
            "segment_text": "",
            "recipient_count": campaign.recipients,
        },
        "settings": {
            "subject_line": campaign.subject,
            "preview_text": campaign.preview,
            "title": campaign.title,
            "from_name": campaign.from_name,
            "reply_to": campaign.reply_to,
            "use_conversation": False,
            "to_name": "*|FNAME|*",
            "folder_id": "",
            "authenticate": True,
            "auto_footer": False,
            "inline_css": False,
            "auto_tweet": False,
            "fb_comments": False,
            "timewarp": False,
            "template_id": 0,
            "drag_and_drop": True,
        },
        "tracking": {
            "opens": True,
            "html_clicks": True,
            "text_clicks": False,
            "goal_tracking": False,
            "ecomm360": False,
            "google_analytics": "",
            "clicktale": "",
        },
        "delivery_status": {"enabled": False},
        "_links": links(
            ("self", f"/campaigns/{campaign.id}", "GET"),
            ("delete", f"/campaigns/{campaign.id}", "DELETE"),
        ),
    }
    if campaign.reported:
        body["report_summary"] = {
            "opens": figures.opens,
            "unique_opens": figures.unique_opens,
            "open_rate": figures.rate(figures.unique_opens),
            "clicks": figures.clicks,
            "subscriber_clicks": figures.subscriber_clicks,
            "click_rate": figures.rate(figures.subscriber_clicks),
            "ecommerce": {"total_orders": 0, "total_spent": 0, "total_revenue": 0},
        }
    return body
