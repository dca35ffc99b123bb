"""From method and path to a handler (MC: one row per endpoint the sandbox serves)."""

from __future__ import annotations

import re
import urllib.parse
from collections.abc import Awaitable, Callable
from typing import NamedTuple

from .. import problems
from ..exchange import Answer, Request
from . import (
    account,
    batch_subscribe,
    batches,
    campaigns,
    lists,
    member_tags,
    members,
    merge_fields,
    reports,
    search,
    segments,
    webhooks,
)

Handler = Callable[[Request], Answer]


class Route(NamedTuple):
    pattern: re.Pattern[str]
    methods: dict[str, Handler]


_TABLE: dict[str, dict[str, Handler]] = {
    "/": {"GET": account.show},
    "/ping": {"GET": account.ping},
    "/batches": {"GET": batches.index, "POST": batches.create},
    "/batches/{}": {"GET": batches.show, "DELETE": batches.remove},
    "/search-members": {"GET": search.members},
    "/search-campaigns": {"GET": campaigns.search},
    "/campaigns": {"GET": campaigns.index, "POST": campaigns.create},
    "/campaigns/{}": {
        "GET": campaigns.show,
        "PATCH": campaigns.update,
        "DELETE": campaigns.remove,
    },
    "/campaigns/{}/actions/{}": {"POST": campaigns.act},
    "/reports": {"GET": reports.index},
    "/reports/{}": {"GET": reports.show},
    "/lists": {"GET": lists.index, "POST": lists.create},
    "/lists/{}": {
        "GET": lists.show,
        "POST": batch_subscribe.subscribe,
        "PATCH": lists.update,
        "DELETE": lists.remove,
    },
    "/lists/{}/members": {"GET": members.index, "POST": members.create},
    "/lists/{}/members/{}": {
        "GET": members.show,
        "PUT": members.upsert,
        "PATCH": members.update,
        "DELETE": members.archive,
    },
    "/lists/{}/members/{}/actions/delete-permanent": {"POST": members.forget},
    "/lists/{}/members/{}/tags": {"GET": member_tags.index, "POST": member_tags.update},
    "/lists/{}/merge-fields": {"GET": merge_fields.index, "POST": merge_fields.create},
    "/lists/{}/merge-fields/{}": {
        "GET": merge_fields.show,
        "PATCH": merge_fields.update,
        "DELETE": merge_fields.remove,
    },
    "/lists/{}/segments": {"GET": segments.index, "POST": segments.create},
    "/lists/{}/segments/{}": {
        "GET": segments.show,
        "POST": segments.add_and_remove,
        "PATCH": segments.update,
        "DELETE": segments.remove,
    },
    "/lists/{}/segments/{}/members": {"GET": segments.members, "POST": segments.add_member},
    "/lists/{}/segments/{}/members/{}": {"DELETE": segments.remove_member},
    "/lists/{}/tag-search": {"GET": search.tags},
    "/lists/{}/webhooks": {"GET": webhooks.index, "POST": webhooks.create},
    "/lists/{}/webhooks/{}": {
        "GET": webhooks.show,
        "PATCH": webhooks.update,
        "DELETE": webhooks.remove,
    },
}

AHEAD: dict[Handler, Callable[[Request], Awaitable[None]]] = {
    webhooks.create: webhooks.probe,
    webhooks.update: webhooks.probe,
}
"""What has to be waited for before a handler can decide."""

_ROUTES = [
    Route(re.compile(path.replace("{}", "([^/]+)") + r"/?\Z"), methods)
    for path, methods in _TABLE.items()
]


def find(method: str, path: str) -> tuple[Handler, tuple[str, ...]]:
    """The handler and the decoded variable parts; 404 for an unknown path, 405 for an unknown method."""
    for route in _ROUTES:
        if found := route.pattern.match(path):
            handler = route.methods.get(method)
            if handler is None:
                raise problems.method_not_allowed(", ".join(route.methods))
            return handler, tuple(urllib.parse.unquote(part) for part in found.groups())
    raise problems.not_found()
