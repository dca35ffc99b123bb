"""Segments; the static ones are tags: /lists/{id}/segments (MC 7)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .. import problems
from ..exchange import Answer, Request, no_content, ok
from ..model import Segment
from ..render import MemberView, links, render_segment, segment_statuses
from ..states import ARCHIVED
from ..writer import Writer

if TYPE_CHECKING:
    from ..model import Member

MOST = 500
_INCLUDES = ("include_unsubscribed", "include_cleaned", "include_transactional")
_TOO_MANY = (
    "Maximum allowed member items exceeded, please provide at most 500 items "
    "in members_to_add field or members_to_remove field"
)


def _statuses(request: Request) -> tuple[int, ...]:
    return segment_statuses(request.config, request.flags(*_INCLUDES))


def _found(request: Request) -> Segment:
    ident = request.args[1]
    segment = request.audience().segments.get(int(ident)) if ident.isdecimal() else None
    if segment is None:
        raise problems.not_found()
    return segment


def index(request: Request) -> Answer:
    audience = request.audience()
    chosen = list(audience.segments.values())
    if kind := request.query.get("type"):
        chosen = [each for each in chosen if each.static == (kind == "static") and kind != "fuzzy"]
    for name, attribute in (("created_at", "created_at"), ("updated_at", "updated_at")):
        since, before = request.time(f"since_{name}"), request.time(f"before_{name}")
        chosen = [
            each
            for each in chosen
            if (since is None or getattr(each, attribute) > since)
            and (before is None or getattr(each, attribute) < before)
        ]
    offset, count = request.paging()
    statuses = _statuses(request)
    body = {
        "segments": [
            render_segment(audience, each, statuses) for each in chosen[offset : offset + count]
        ],
        "list_id": audience.id,
        "total_items": len(chosen),
        "_links": links(("self", request.path, "GET")),
    }
    return ok(body, request)


def show(request: Request) -> Answer:
    return ok(render_segment(request.audience(), _found(request), _statuses(request)), request)


def create(request: Request) -> Answer:
    """`static_segment` makes a tag, `options` a saved segment, whose conditions the sandbox does not evaluate."""
    audience = request.audience()
    given = request.json_object()
    name = _name(given)
    if audience.tag_named(name) or any(
        each.name.lower() == name.lower() for each in audience.segments.values()
    ):
        raise problems.bad_request("Sorry, that tag already exists.")
    emails = _emails(given, "static_segment")
    options = given.get("options")
    if "static_segment" not in given and not isinstance(options, dict):
        raise problems.invalid_resource(
            None, ("", "Required fields were not provided: static_segment or options")
        )
    segment = Segment(
        request.world.next_id(),
        name,
        created_at=request.world.clock.second(),
        options=None if "static_segment" in given else options,
    )
    audience.add_segment(segment)
    _replace(request, segment, emails)
    return ok(render_segment(audience, segment, _statuses(request)), request)


def update(request: Request) -> Answer:
    """`static_segment` replaces the membership, an empty one empties it (MC 7)."""
    audience = request.audience()
    segment = _found(request)
    given = request.json_object()
    name = _name(given)
    other = audience.tag_named(name)
    if other is not None and other is not segment:
        raise problems.bad_request("Sorry, that tag already exists.")
    if name != segment.name:
        audience.rename_segment(segment, name)
    if segment.static and "static_segment" in given:
        _replace(request, segment, _emails(given, "static_segment"))
    elif isinstance(given.get("options"), dict) and not segment.static:
        segment.options = given["options"]
    segment.updated_at = request.world.clock.second()
    return ok(render_segment(audience, segment, _statuses(request)), request)


def remove(request: Request) -> Answer:
    segment = _found(request)
    request.audience().remove_segment(segment)
    return no_content()


def _name(given: dict[str, Any]) -> str:
    name = given.get("name")
    if not isinstance(name, str) or not name.strip():
        raise problems.invalid_resource(None, ("", "Required fields were not provided: name"))
    return name.strip()


def _emails(given: dict[str, Any], key: str) -> list[str]:
    emails = given.get(key, [])
    if not isinstance(emails, list) or any(not isinstance(each, str) for each in emails):
        raise problems.invalid_resource(
            None, (key, "Schema describes array of strings, other type found instead")
        )
    return emails


def _replace(request: Request, segment: Segment, emails: list[str]) -> None:
    writer = Writer(request.world, request.audience(), request.actor("segments"))
    wanted = [member for each in emails if (member := writer.audience.find(each.strip()))]
    keep = set(wanted)
    for member in [each for each in segment.members if each not in keep]:
        writer.take_tag(member, segment)
    for member in wanted:
        writer.put_tag(member, segment)


def add_and_remove(request: Request) -> Answer:
    """Up to 500 each way; addresses that are not in the list are ignored, never created (MC 7)."""
    segment = _found(request)
    given = request.json_object()
    adds, removes = _emails(given, "members_to_add"), _emails(given, "members_to_remove")
    if len(adds) > MOST or len(removes) > MOST:
        raise problems.invalid_resource(_TOO_MANY)
    if not segment.static:
        raise problems.bad_request("Members can only be added to or removed from static segments.")
    writer = Writer(request.world, request.audience(), request.actor("segments"))
    unknown: list[str] = []
    added = _each(writer, adds, unknown)
    removed = _each(writer, removes, unknown)
    for member in added:
        writer.put_tag(member, segment)
    removed = [member for member in removed if writer.take_tag(member, segment)]
    segment.updated_at = writer.now
    return ok(_outcome(request, added, removed, unknown), request)


def _each(writer: Writer, emails: list[str], unknown: list[str]) -> list[Member]:
    """The members among the addresses, each once; the others go to `unknown`."""
    found: dict[Member, None] = {}
    for email in emails:
        member = writer.audience.find(email.strip())
        if member is None or (
            member.status == ARCHIVED and not writer.config.segment_takes_archived
        ):
            unknown.append(email)
        else:
            found[member] = None
    return list(found)


def _outcome(
    request: Request, added: list[Member], removed: list[Member], unknown: list[str]
) -> dict[str, Any]:
    view = MemberView(request.audience(), of_segment=True)
    errors: list[dict[str, Any]] = []
    if unknown and request.config.segment_unknown_in_errors:
        errors = [{"email_addresses": unknown, "error": "Email addresses do not exist in the list"}]
    if request.config.shuffle:
        request.world.random.shuffle(added)
        request.world.random.shuffle(removed)
    return {
        "members_added": [view(member) for member in added],
        "members_removed": [view(member) for member in removed],
        "errors": errors,
        "total_added": len(added),
        "total_removed": len(removed),
        "error_count": len(errors),
        "_links": links(("self", request.path, "POST")),
    }


def members(request: Request) -> Answer:
    audience = request.audience()
    segment = _found(request)
    selection = request.selection()
    offset, count = request.paging()
    found = segment.listing(_statuses(request))
    view = MemberView(
        audience,
        of_segment=True,
        with_links=selection.wants("members", "_links"),
        nulls=request.config.null_merge_fields,
    )
    body = {
        "members": [view(member) for member in found[offset : offset + count]],
        "total_items": len(found),
        "_links": links(("self", request.path, "GET")),
    }
    return ok(body, request)


def add_member(request: Request) -> Answer:
    segment = _found(request)
    email = request.json_object().get("email_address")
    member = request.audience().find(email.strip()) if isinstance(email, str) else None
    if member is None:
        raise problems.invalid_resource("Please provide an email address that is in this list.")
    Writer(request.world, request.audience(), request.actor("segments")).put_tag(member, segment)
    return ok(MemberView(request.audience(), of_segment=True)(member), request)


def remove_member(request: Request) -> Answer:
    segment = _found(request)
    member = request.audience().resolve(request.args[2])
    if member is None or segment not in member.tags:
        raise problems.not_found()
    Writer(request.world, request.audience(), request.actor("segments")).take_tag(member, segment)
    return no_content()
