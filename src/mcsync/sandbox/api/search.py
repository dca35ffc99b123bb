"""GET /search-members and GET /lists/{id}/tag-search (MC 4.6, 7)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .. import problems
from ..exchange import Answer, Request, ok
from ..render import MemberView, links

if TYPE_CHECKING:
    from ..audience import Audience
    from ..model import Member

_SHOWN = 30


def members(request: Request) -> Answer:
    """Exact addresses first, then everything that holds the text; up to 30 each (MC 4.6, [U])."""
    text = request.query.get("query", "").strip()
    if not text:
        raise problems.bad_request("The query parameter is required.")
    chosen = list(request.account.lists.values())
    if ident := request.query.get("list_id"):
        chosen = [each for each in chosen if each.id == ident]
        if not chosen:
            raise problems.not_found()
    exact = [(each, found) for each in chosen if (found := each.find(text))]
    full = [(each, found) for each in chosen for found in _holding(each, text.lower())]
    body = {
        "exact_matches": _group(exact),
        "full_search": _group(full),
        "_links": links(("self", "/search-members", "GET")),
    }
    return ok(body, request)


def _holding(audience: Audience, text: str) -> list[Member]:
    def holds(member: Member) -> bool:
        return text in member.email.lower() or any(
            isinstance(value, str) and text in value.lower() for value in member.merge
        )

    return [member for member in audience.members.values() if holds(member)]


def _group(found: list[tuple[Audience, Member]]) -> dict[str, Any]:
    return {
        "members": [MemberView(audience)(member) for audience, member in found[:_SHOWN]],
        "total_items": len(found),
    }


def tags(request: Request) -> Answer:
    """Tags whose name begins with `name`; all without it."""
    audience = request.audience()
    prefix = request.query.get("name", "").strip().lower()
    found = [tag for name, tag in audience.tag_names.items() if name.startswith(prefix)]
    body = {
        "tags": [{"id": tag.id, "name": tag.name} for tag in found],
        "total_items": len(found),
        "_links": links(("self", request.path, "GET")),
    }
    return ok(body, request)
