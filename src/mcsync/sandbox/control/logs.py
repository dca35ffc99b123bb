"""Asking the sandbox: members as they are, what happened, how busy it was."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from operator import attrgetter
from typing import TypeVar

import orjson

from ..exchange import Answer
from ..history import Call, Change, Metrics
from ..model import digest
from ..render import MemberView
from ..states import STATUSES
from .call import ControlCall, reply
from .view import internal

Entry = TypeVar("Entry", Call, Change)


def members(call: ControlCall) -> Answer:
    """The named members, or all; absent addresses are left out, permanently deleted ones are in `forgotten`."""
    audience = call.audience()
    emails = call.query.get("email")
    if emails is None:
        return reply(
            {
                "members": [internal(audience, each) for each in audience.members.values()],
                "forgotten": [],
            }
        )
    found = [each for email in emails if (each := audience.find(email))]
    gone = [email for email in emails if digest(audience.lower(email)) in audience.forgotten]
    return reply({"members": [internal(audience, each) for each in found], "forgotten": gone})


def dump(call: ControlCall) -> Answer:
    """One JSON line per member: email, status, tags, mergeFields."""
    audience = call.audience()
    view = MemberView(audience)
    lines = [
        orjson.dumps(
            {
                "email": audience.lower(each.email),
                "status": STATUSES[each.status],
                "tags": [tag.name for tag in each.tags],
                "mergeFields": view.merge_fields(each),
            },
            option=orjson.OPT_APPEND_NEWLINE,
        )
        for each in audience.members.values()
    ]
    return Answer(200, b"".join(lines), "application/x-ndjson")


def _since(entries: Sequence[Entry], since: str) -> Sequence[Entry]:
    """Entries whose `seq` is greater; both logs are in its order."""
    if not since:
        return entries
    return entries[bisect_right(entries, int(since), key=attrgetter("seq")) :]


def history(call: ControlCall) -> Answer:
    """Changes of members, filtered by `email`, `listId` and `since` (exclusive seq)."""
    email, list_id = call.first("email").lower(), call.first("listId")
    chosen = [
        each._asdict()
        for each in _since(call.world.history.changes, call.first("since"))
        if (not email or each.email == email) and (not list_id or each.list_id == list_id)
    ]
    return reply({"history": chosen, "seq": call.world.history.seq})


def calls(call: ControlCall) -> Answer:
    """API calls, filtered by `since` (exclusive seq) and `write=true`."""
    write = call.first("write").lower() in ("true", "1")
    chosen = [
        each.as_json()
        for each in _since(call.world.history.calls, call.first("since"))
        if each.write or not write
    ]
    return reply({"calls": chosen, "seq": call.world.history.seq})


def metrics(call: ControlCall) -> Answer:
    return reply(call.world.metrics.as_json(call.world.in_flight()))


def newest(call: ControlCall) -> Answer:
    """The newest `seq`, to be given as `since` later."""
    return reply({"seq": call.world.history.seq})


def reset_metrics(call: ControlCall) -> Answer:
    call.world.metrics = Metrics()
    return reply({})
