"""Audiences: GET and POST /lists, GET, PATCH and DELETE /lists/{id} (MC 3.1, 3.2)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .. import problems
from ..audience import DEFAULT_PERMISSIONS
from ..exchange import Answer, Request, no_content, ok
from ..render import links, render_list

if TYPE_CHECKING:
    from ..audience import Audience

_REQUIRED = {
    "name": str,
    "permission_reminder": str,
    "email_type_option": bool,
    "contact": dict,
    "campaign_defaults": dict,
}
_REQUIRED_WITHIN = {
    "contact": ("company", "address1", "city", "country"),
    "campaign_defaults": ("from_name", "from_email", "subject", "language"),
}


def index(request: Request) -> Answer:
    offset, count = request.paging()
    chosen = list(request.account.lists.values())
    if email := request.query.get("email"):
        chosen = [each for each in chosen if each.find(email)]
    since, before = request.time("since_date_created"), request.time("before_date_created")
    chosen = [
        each
        for each in chosen
        if (since is None or each.created > since) and (before is None or each.created < before)
    ]
    if request.query.get("sort_dir", "").upper() == "DESC":
        chosen.reverse()
    totals = request.flag("include_total_contacts")
    body = {
        "lists": [
            render_list(each, total_contacts=totals) for each in chosen[offset : offset + count]
        ],
        "total_items": len(chosen),
        "constraints": {
            "may_create": not _full(request),
            "max_instances": request.config.most_lists or -1,
            "current_total_instances": len(request.account.lists),
        },
        "_links": links(("self", "/lists", "GET")),
    }
    return ok(body, request)


def show(request: Request) -> Answer:
    totals = request.flag("include_total_contacts")
    return ok(render_list(request.audience(), total_contacts=totals), request)


def create(request: Request) -> Answer:
    given = request.json_object()
    missing = [name for name, kind in _REQUIRED.items() if not isinstance(given.get(name), kind)]
    for outer, names in _REQUIRED_WITHIN.items():
        if outer not in missing:
            missing += [f"{outer}.{name}" for name in names if name not in given[outer]]
    if missing:
        raise problems.invalid_resource(
            None, ("", f"Required fields were not provided: {', '.join(missing)}")
        )
    if _full(request):
        raise problems.Problem(
            403, "Forbidden", "Your plan does not allow more audiences. Upgrade to add another one."
        )
    audience = request.world.open_list(request.account, given["name"])
    _configure(audience, given)
    return ok(render_list(audience, total_contacts=False), request)


def _full(request: Request) -> bool:
    """Whether the plan allows no further audience."""
    return 0 < request.config.most_lists <= len(request.account.lists)


def update(request: Request) -> Answer:
    """Lenient: whatever is named changes (MC 3.2, [U])."""
    audience = request.audience()
    given = request.json_object()
    audience.name = str(given.get("name", audience.name))
    _configure(audience, given)
    return ok(render_list(audience, total_contacts=False), request)


def _configure(audience: Audience, given: dict[str, Any]) -> None:
    audience.double_optin = bool(given.get("double_optin", audience.double_optin))
    asked = bool(given.get("marketing_permissions", audience.permissions))
    if asked != bool(audience.permissions):
        audience.ask_permissions(DEFAULT_PERMISSIONS if asked else ())
    apart = {"name", "double_optin", "marketing_permissions"}
    audience.settings |= {key: value for key, value in given.items() if key not in apart}


def remove(request: Request) -> Answer:
    request.world.close_list(request.audience())
    return no_content()
