"""Campaigns as tests and demos make and move them, with what became of them."""

from __future__ import annotations

import dataclasses
from typing import Any

from ..campaigns import (
    ARCHIVED,
    CANCELED,
    PAUSED,
    SENDING,
    SENT,
    STATUSES,
    TYPES,
    Campaign,
    NotNow,
)
from ..clock import iso
from ..exchange import Answer
from ..people import NotPossible
from .call import ControlCall, Unknown, reply


def _view(call: ControlCall, campaign: Campaign) -> dict[str, Any]:
    figures = dataclasses.asdict(call.world.campaigns.figures(campaign))
    return {
        "id": campaign.id,
        "webId": campaign.web_id,
        "accountId": campaign.account_id,
        "listId": campaign.list_id,
        "type": campaign.type,
        "title": campaign.title,
        "subject": campaign.subject,
        "status": campaign.status,
        "sendTime": iso(campaign.begun or campaign.due),
        "figures": figures,
    }


def index(call: ControlCall) -> Answer:
    """All campaigns, of one list if `listId` is given."""
    shelf, list_id = call.world.campaigns, call.first("listId")
    found = [each for each in shelf.all.values() if list_id in ("", each.list_id)]
    for each in found:
        shelf.settle(each)
    return reply({"campaigns": [_view(call, each) for each in found]})


def create(call: ControlCall) -> Answer:
    """`count` campaigns of a list in a `status`; `agoSeconds` gives sent ones a past.

    Their titles are `title`, from the second on with a number.
    """
    body, world = call.body, call.world
    audience = world.audiences.get(str(body["listId"]))
    if audience is None:
        raise Unknown(f"no list {body['listId']}")
    kind, status = str(body.get("type", "regular")), str(body.get("status", "save"))
    if kind not in TYPES or status not in STATUSES:
        raise ValueError("unknown type or status")
    made = []
    for number in range(int(body.get("count", 1))):
        campaign = world.campaigns.make(audience.account_id, audience.id)
        suffix = f" {number + 1}" if number else ""
        campaign.type = kind
        campaign.title = str(body.get("title", "Campaign")) + suffix
        campaign.subject = str(body.get("subject", "News from the sandbox"))
        _bring(call, campaign, status)
        made.append(campaign)
    return reply({"campaigns": [_view(call, each) for each in made]})


def _bring(call: ControlCall, campaign: Campaign, status: str) -> None:
    shelf, now = call.world.campaigns, call.world.clock.second()
    ago = int(call.body.get("agoSeconds", 0))
    campaign.created = min(campaign.created, now - ago)
    try:
        if status == "schedule":
            shelf.schedule(campaign, now + int(call.body.get("inSeconds", 3600)))
        elif status in (SENDING, SENT, ARCHIVED):
            shelf.send(campaign, now - ago)
            campaign.status = status
        elif status != "save":
            campaign.status = status
    except NotNow as reason:
        raise NotPossible(str(reason)) from None


def act(call: ControlCall) -> Answer:
    """send, finish, pause, cancel, archive or delete; answers the campaign, None once deleted."""
    shelf, name = call.world.campaigns, str(call.body["act"])
    campaign = shelf.find(call.args[0])
    if campaign is None:
        raise Unknown(f"no campaign {call.args[0]}")
    try:
        if name == "send":
            shelf.send(campaign)
        elif name == "finish":
            if campaign.status != SENDING:
                shelf.send(campaign)
            campaign.status = SENT
        elif name == "pause":
            shelf.stop(campaign, PAUSED)
        elif name == "cancel":
            shelf.stop(campaign, CANCELED)
        elif name == "archive":
            campaign.status = ARCHIVED
        elif name == "delete":
            del shelf.all[campaign.id]
            return reply({"campaign": None})
        else:
            raise ValueError(f"unknown act: {name}")
    except NotNow as reason:
        raise NotPossible(str(reason)) from None
    return reply({"campaign": _view(call, campaign)})
