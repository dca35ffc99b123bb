"""POST /lists/{id}: the bulk endpoint, 500 members a call (MC 3.3)."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from .. import problems
from ..exchange import Answer, Request, ok
from ..merge import MergeInvalid, SchemaMismatch
from ..render import MemberView, links
from ..rows import Row, SchemaErrors, parse_row
from ..states import ARCHIVED, SUBSCRIBED, UNSUBSCRIBED
from ..writer import Writer

if TYPE_CHECKING:
    from ..model import Member

MOST = 500
_EXISTS = "ERROR_CONTACT_EXISTS"
_GENERIC = "ERROR_GENERIC"


@dataclass(slots=True)
class Outcome:
    """Where the rows went: every row in one of the three, except repeats that the request asked to ignore."""

    created: list[Member] = field(default_factory=list)
    updated: list[Member] = field(default_factory=list)
    errors: list[dict[str, str]] = field(default_factory=list)

    def refuse(
        self, email: str, text: str, code: str = _GENERIC, *, at: tuple[str, str] = ("", "")
    ) -> None:
        self.errors.append(
            {
                "email_address": email,
                "error": text,
                "error_code": code,
                "field": at[0],
                "field_message": at[1],
            }
        )


@dataclass(slots=True)
class Batch:
    """The request: rows in order, those refused for their shape already in `outcome`."""

    rows: list[Row]
    update_existing: bool
    sync_tags: bool
    skip_duplicates: bool
    outcome: Outcome


def subscribe(request: Request) -> Answer:
    """200 even when every member failed; a malformed envelope is a 400 for the whole call."""
    audience = request.audience()
    batch = _parse(request)
    writer = Writer(
        request.world,
        audience,
        request.actor("batch"),
        skip_required=request.flag("skip_merge_validation"),
        keeps_opt=request.config.bulk_keeps_timestamp_opt,
        caller=request.caller,
    )
    seen: set[str] = set()
    outcome = batch.outcome
    fold = request.config.duplicates_ignore_case
    for row in batch.rows:
        email = row.email or ""
        key = audience.lower(email) if fold else email
        if key in seen:
            if not batch.skip_duplicates:
                outcome.refuse(email, f"{email} appears more than once in this request.")
            continue
        seen.add(key)
        _process(writer, row, batch)
    return ok(_body(request, outcome), request)


def _parse(request: Request) -> Batch:
    given = request.json_object()
    members = given.get("members")
    if members is None:
        raise problems.invalid_resource(None, ("", "Required fields were not provided: members"))
    if not isinstance(members, list):
        raise problems.invalid_resource(
            None, ("members", "Schema describes array, other type found instead")
        )
    if len(members) > MOST:
        text = f"Maximum allowed member items exceeded, please provide at most {MOST} items in members field"
        raise problems.invalid_resource(text, ("members", text))
    if not members and request.config.empty_batch_is_error:
        raise problems.invalid_resource(None, ("members", "At least one member is required."))
    for name in ("update_existing", "sync_tags"):
        if not isinstance(given.get(name, False), bool):
            raise problems.invalid_resource(
                None, (name, "Schema describes boolean, other type found instead")
            )
    outcome = Outcome()
    update = given.get("update_existing", False)
    return Batch(
        rows=_parse_rows(request, members, outcome),
        update_existing=update,
        # sync_tags acts only together with update_existing (MC 3.3).
        sync_tags=update and given.get("sync_tags", False),
        skip_duplicates=request.flag("skip_duplicate_check"),
        outcome=outcome,
    )


def _parse_rows(request: Request, members: list[Any], outcome: Outcome) -> list[Row]:
    config = request.config
    rows: list[Row] = []
    errors: list[problems.Detail] = []
    for number, raw in enumerate(members):
        prefix = f"members.item:{number}."
        try:
            row = parse_row(raw, nullable=config.nullable_rows, prefix=prefix, bulk=True)
            _check_status(row, prefix, require=config.require_status)
        except SchemaErrors as wrong:
            if config.schema_errors_per_row:
                email = raw.get("email_address") if isinstance(raw, dict) else ""
                text = "The resource submitted could not be validated. For field-specific details, see the 'errors' array."
                outcome.refuse(str(email or ""), text)
            else:
                errors += wrong.errors
        else:
            rows.append(row)
    if errors:
        raise problems.invalid_resource(None, *errors)
    return rows


def _check_status(row: Row, prefix: str, *, require: bool) -> None:
    """A row names `status` or `status_if_new`; before 2026 only `status` counted (MC 3.3)."""
    if require:
        row.status_if_new = None
        if row.status is None:
            raise SchemaErrors([(f"{prefix}status", "Required fields were not provided: status")])
    elif row.status is None and row.status_if_new is None:
        text = "Required fields were not provided: status or status_if_new"
        raise SchemaErrors([(prefix.rstrip("."), text)])


def _process(writer: Writer, row: Row, batch: Batch) -> None:
    outcome = batch.outcome
    email = row.email or ""
    try:
        _apply(writer, row, batch)
    except problems.Problem as problem:
        code = _EXISTS if problem.title == "Member Exists" else _GENERIC
        outcome.refuse(email, problem.detail, code)
    except MergeInvalid as invalid:
        outcome.refuse(email, str(invalid), at=invalid.errors[0])
    except SchemaMismatch as wrong:
        outcome.refuse(email, str(wrong), at=(wrong.field, wrong.message))


def _apply(writer: Writer, row: Row, batch: Batch) -> None:
    outcome = batch.outcome
    email = row.email or ""
    member = writer.audience.find(email)
    if member is None:
        status = row.status if row.status_if_new is None else row.status_if_new
        # A row without any status was refused while parsing.
        outcome.created.append(writer.create(row, SUBSCRIBED if status is None else status))
        return
    returning = member.status == ARCHIVED and row.status is not None
    if not batch.update_existing and not returning:
        raise problems.member_exists(email)
    status = _kept_status(writer, member, row)
    changed = writer.update(member, row, status=status)
    changed |= _retag(writer, member, row, batch)
    if returning:
        # An archived contact that comes back is counted as created (MC 3.3).
        outcome.created.append(member)
    elif changed or writer.config.unchanged_in_updated_members:
        outcome.updated.append(member)


def _retag(writer: Writer, member: Member, row: Row, batch: Batch) -> bool:
    """The row's tags on a member that was there: with sync_tags they are the whole set (MC 3.3, 21)."""
    config = writer.config
    if row.tags is None:
        return False
    if batch.sync_tags:
        return writer.set_tags(member, row.tags, replace=config.sync_tags_replaces)
    if not row.tags or config.bulk_tags == "ignored":
        return False
    return writer.set_tags(member, row.tags, replace=config.bulk_tags == "replaced")


def _kept_status(writer: Writer, member: Member, row: Row) -> int | None:
    """By switches the bulk call leaves who unsubscribed as they are, without an error (MC 18.1, 21)."""
    config = writer.config
    if row.status != SUBSCRIBED or member.status == ARCHIVED:
        return row.status
    if config.silent_keep_unsubscribed and member.by_person:
        return None
    if config.bulk_resubscribe_ignored and member.status == UNSUBSCRIBED and not member.by_person:
        return None
    return row.status


def _body(request: Request, outcome: Outcome) -> dict[str, Any]:
    """The answer, in an order of its own, so that clients join by address and not by place."""
    if request.config.shuffle:
        for group in (outcome.created, outcome.updated, outcome.errors):
            request.world.random.shuffle(group)
    view = MemberView(request.audience(), reduced=True)
    return {
        "new_members": [view(member) for member in outcome.created],
        "updated_members": [view(member) for member in outcome.updated],
        "errors": outcome.errors,
        "total_created": len(outcome.created),
        "total_updated": len(outcome.updated),
        "error_count": len(outcome.errors),
        "_links": links(("self", request.path, "POST")),
    }
