"""Merge fields: /lists/{id}/merge-fields (MC 5)."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from .. import problems
from ..exchange import Answer, Request, no_content, ok
from ..render import links, render_field

if TYPE_CHECKING:
    from ..audience import Audience
    from ..model import MergeField

TYPES = (
    "text",
    "number",
    "address",
    "phone",
    "date",
    "url",
    "imageurl",
    "radio",
    "dropdown",
    "birthday",
    "zip",
)
_MOST = 80
_TAG = re.compile(r"[A-Z0-9_]{1,10}\Z")
_PLAIN = {
    "name": str,
    "required": bool,
    "default_value": str,
    "public": bool,
    "display_order": int,
    "help_text": str,
}


def index(request: Request) -> Answer:
    audience = request.audience()
    chosen = list(audience.fields)
    if kind := request.query.get("type"):
        chosen = [each for each in chosen if each.type == kind]
    if "required" in request.query:
        chosen = [each for each in chosen if each.required == request.flag("required")]
    offset, count = request.paging()
    body = {
        "merge_fields": [render_field(audience, each) for each in chosen[offset : offset + count]],
        "list_id": audience.id,
        "total_items": len(chosen),
        "_links": links(("self", request.path, "GET")),
    }
    return ok(body, request)


def show(request: Request) -> Answer:
    return ok(render_field(request.audience(), _found(request)), request)


def create(request: Request) -> Answer:
    """The tag comes back in upper case; without one the server makes it (MC 5, [U])."""
    audience = request.audience()
    given = request.json_object()
    missing = [name for name in ("name", "type") if not isinstance(given.get(name), str)]
    if missing:
        raise problems.invalid_resource(
            None, ("", f"Required fields were not provided: {', '.join(missing)}")
        )
    if given["type"] not in TYPES:
        raise problems.invalid_resource(None, ("type", f"Value must be one of: {', '.join(TYPES)}"))
    if len(audience.fields) >= _MOST:
        raise problems.bad_request("This list has the maximum number of merge fields.")
    tag = str(given.get("tag") or f"MMERGE{audience.last_merge_id + 1}").upper()
    _check_tag(audience, tag)
    changes = _checked(given)
    field = audience.add_field(tag, given["name"], given["type"])
    _change(field, changes)
    return ok(render_field(audience, field), request)


def update(request: Request) -> Answer:
    """The type cannot change (MC 5)."""
    audience = request.audience()
    field = _found(request)
    given = request.json_object()
    changes = _checked(given)
    tag = str(given.get("tag") or field.tag).upper()
    if tag != field.tag:
        _check_tag(audience, tag)
        field.tag = tag
    _change(field, changes)
    return ok(render_field(audience, field), request)


def remove(request: Request) -> Answer:
    request.audience().fields.remove(_found(request))
    return no_content()


def _found(request: Request) -> MergeField:
    for field in request.audience().fields:
        if str(field.merge_id) == request.args[1]:
            return field
    raise problems.not_found()


def _check_tag(audience: Audience, tag: str) -> None:
    if not _TAG.match(tag):
        raise problems.invalid_resource(
            None, ("tag", "Tags have 1 to 10 letters, digits or underscores.")
        )
    if tag == "EMAIL" or audience.field_tagged(tag):
        raise problems.invalid_resource(
            f'A Merge Field with the tag "{tag}" already exists for this list.'
        )


def _checked(given: dict[str, Any]) -> dict[str, Any]:
    for name, kind in _PLAIN.items():
        if name in given and type(given[name]) is not kind:
            raise problems.invalid_resource(None, (name, f"Schema describes {kind.__name__}"))
    if not isinstance(given.get("options", {}), dict):
        raise problems.invalid_resource(
            None, ("options", "Schema describes object, other type found instead")
        )
    return {name: given[name] for name in (*_PLAIN, "options") if name in given}


def _change(field: MergeField, changes: dict[str, Any]) -> None:
    for name, value in changes.items():
        setattr(field, name, value)
