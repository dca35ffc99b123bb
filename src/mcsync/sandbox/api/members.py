"""Members: listing, reading, the single writes, archive and permanent deletion (MC 4.3 to 4.6)."""

from __future__ import annotations

from typing import Any

from .. import problems
from ..exchange import Answer, Request, no_content, ok
from ..merge import MergeInvalid, SchemaMismatch
from ..model import Member
from ..render import MemberView, links
from ..rows import Row, SchemaErrors, parse_row
from ..states import ARCHIVED, CLEANED, PENDING, STATUSES, SUBSCRIBED, UNSUBSCRIBED
from ..writer import Writer
from .listing import page_of


def index(request: Request) -> Answer:
    audience = request.audience()
    selection = request.selection()
    found, total = page_of(audience, request)
    view = MemberView(
        audience,
        with_links=selection.wants("members", "_links"),
        nulls=request.config.null_merge_fields,
    )
    rendered = [view(member) for member in found] if selection.wants("members") else []
    body = {
        "members": rendered,
        "list_id": audience.id,
        "total_items": total,
        "_links": links(("self", f"/lists/{audience.id}/members", "GET")),
    }
    return ok(body, request)


def show(request: Request) -> Answer:
    return _answer(request, _existing(request))


def create(request: Request) -> Answer:
    """POST: existing members are refused, archived ones come back (MC 4.3)."""
    row = _row(request)
    missing = [
        name for name in ("email_address", "status") if getattr(row, _ATTRIBUTES[name]) is None
    ]
    if missing:
        raise problems.invalid_resource(
            None, ("", f"Required fields were not provided: {', '.join(missing)}")
        )
    writer = _writer(request, "post")
    email = row.email or ""
    member = writer.audience.find(email)
    if member is None:
        return _answer(request, _create(writer, row))
    if member.status != ARCHIVED:
        raise _already_there(writer, member, row)
    _update(writer, member, row)
    if row.tags:
        writer.set_tags(member, row.tags, replace=False)
    return _answer(request, member)


def upsert(request: Request) -> Answer:
    """PUT: creates from the body's address if the path's member does not exist (MC 4.3)."""
    row = _row(request)
    writer = _writer(request, "put")
    member = writer.audience.resolve(request.args[1])
    if member is not None:
        _rewrite(writer, member, row)
        return _answer(request, member)
    if row.email is None and "@" in request.args[1]:
        row.email = request.args[1].strip()
    if not row.email:
        raise problems.invalid_resource(
            None, ("", "Required fields were not provided: email_address")
        )
    if row.status is None and row.status_if_new is None:
        raise problems.invalid_resource(
            None, ("", "Required fields were not provided: status_if_new")
        )
    # A hash that is not the address's own: the member is made under its true hash, the second time it exists.
    return _answer(request, _by_another_hash(writer, row))


def update(request: Request) -> Answer:
    """PATCH: whatever is named changes; a missing member is a 404 (MC 4.3)."""
    row = _row(request)
    writer = _writer(request, "patch")
    member = _existing(request)
    _rewrite(writer, member, row)
    return _answer(request, member)


def archive(request: Request) -> Answer:
    _writer(request, "delete").archive(_existing(request))
    return no_content()


def forget(request: Request) -> Answer:
    member = request.audience().resolve(request.args[1], hash_only=request.config.hash_only_paths)
    if member is None:
        raise problems.not_found()
    _writer(request, "delete-permanent").forget(member)
    return no_content()


def _by_another_hash(writer: Writer, row: Row) -> Member:
    """An archived member comes back under its own hash, opted in now; one that is active exists (MC 21)."""
    writer.keeps_opt = False
    member = writer.audience.find(row.email or "")
    if member is None:
        return _create(writer, row)
    if member.status != ARCHIVED:
        raise problems.member_exists(row.email or "")
    if row.status is None:
        row.status = row.status_if_new
    _update(writer, member, row)
    return member


def _already_there(writer: Writer, member: Member, row: Row) -> problems.Problem:
    """POST of a member: it exists, and where only the person can bring it back the words say so (MC 21)."""
    left = member.status == CLEANED or (member.status == UNSUBSCRIBED and member.by_person)
    if left and row.status in (SUBSCRIBED, PENDING):
        return problems.in_compliance_state(
            row.email or "",
            STATUSES[member.status],
            via=writer.actor.via,
            other_words=writer.config.other_refusal_words,
        )
    return problems.member_exists(row.email or "")


_ATTRIBUTES = {"email_address": "email", "status": "status"}


def _existing(request: Request) -> Member:
    member = request.audience().resolve(request.args[1])
    if member is None:
        raise problems.not_found()
    return member


def _row(request: Request) -> Row:
    audience = request.audience()
    try:
        row = parse_row(request.json_object(), nullable=False)
    except SchemaErrors as wrong:
        raise problems.invalid_resource(None, *wrong.errors) from None
    # Unknown ids are refused ([U], as with interests, MC 6).
    if not audience.permissions.keys() >= (row.more or {}).get("marketing_permissions", {}).keys():
        text = "This is not a marketing permission of the list."
        raise problems.invalid_resource(None, ("marketing_permissions", text))
    return row


def _writer(request: Request, via: str) -> Writer:
    return Writer(
        request.world,
        request.audience(),
        request.actor(via),
        skip_required=request.flag("skip_merge_validation"),
        keeps_opt=via in ("put", "patch"),
        caller=request.caller,
    )


def _merge_problem(error: MergeInvalid | SchemaMismatch) -> problems.Problem:
    if isinstance(error, MergeInvalid):
        return problems.invalid_resource(str(error), *error.errors)
    return problems.invalid_resource(None, (error.field, error.message))


def _create(writer: Writer, row: Row) -> Member:
    status = row.status if row.status_if_new is None else row.status_if_new
    assert status is not None, "both callers checked it"
    try:
        return writer.create(row, status)
    except (MergeInvalid, SchemaMismatch) as error:
        raise _merge_problem(error) from None


def _update(writer: Writer, member: Member, row: Row) -> None:
    try:
        writer.update(member, row, status=row.status)
    except (MergeInvalid, SchemaMismatch) as error:
        raise _merge_problem(error) from None


def _rewrite(writer: Writer, member: Member, row: Row) -> None:
    """PUT or PATCH of an existing member, which may change its address (MC 4.3)."""
    if row.email is not None:
        writer.check_rename(member, row.email)
    _update(writer, member, row)
    if row.email is not None:
        writer.rename(member, row.email)
    if row.tags is not None and writer.config.tags_on_update:
        writer.set_tags(member, row.tags, replace=False)
    writer.touch(member)


def _answer(request: Request, member: Member) -> Answer:
    body: dict[str, Any] = MemberView(request.audience())(member)
    return ok(body, request)
