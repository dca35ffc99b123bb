"""Tags of one member: GET and POST /lists/{id}/members/{hash}/tags (MC 4.7)."""

from __future__ import annotations

from typing import Any

from .. import problems
from ..clock import iso
from ..exchange import Answer, Request, no_content, ok
from ..render import links
from ..writer import Writer


def index(request: Request) -> Answer:
    member = request.audience().resolve(request.args[1])
    if member is None:
        raise problems.not_found()
    offset, count = request.paging()
    rows = [
        {"id": tag.id, "name": tag.name, "date_added": iso(tag.members[member])}
        for tag in member.tags[offset : offset + count]
    ]
    body = {
        "tags": rows,
        "total_items": len(member.tags),
        "_links": links(("self", request.path, "GET")),
    }
    return ok(body, request)


def update(request: Request) -> Answer:
    """204 whatever it does: only named tags change, unknown names are made, archived members too can be tagged."""
    audience = request.audience()
    member = audience.resolve(request.args[1], hash_only=request.config.hash_only_paths)
    if member is None:
        raise problems.not_found()
    writer = Writer(request.world, audience, request.actor("tags"))
    for name, active in _wanted(request):
        if active:
            writer.put_tag(member, request.world.add_tag(audience, name))
        elif tag := audience.tag_named(name):
            writer.take_tag(member, tag)
    return no_content()


def _wanted(request: Request) -> list[tuple[str, bool]]:
    """Names and whether they shall be on. A malformed body does nothing and is answered 204 all the same (MC 4.7)."""
    given: Any = request.body.get("tags") if isinstance(request.body, dict) else None
    entries = given if isinstance(given, list) else [None]
    wanted: list[tuple[str, bool]] = []
    for entry in entries:
        name = entry.get("name") if isinstance(entry, dict) else None
        status = entry.get("status") if isinstance(entry, dict) else None
        if not isinstance(name, str) or not name.strip() or status not in ("active", "inactive"):
            if request.config.malformed_tags_accepted:
                return []
            raise problems.invalid_resource(None, ("tags", "Each tag needs a name and a status."))
        wanted.append((name, status == "active"))
    return wanted
