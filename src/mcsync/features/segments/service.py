"""The rules of segments: who belongs to them is data; when it changes, the next plan looks anew."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol, cast
from uuid import UUID

from sqlalchemy.ext.asyncio import AsyncSession

from mcsync.core.auth import Actor
from mcsync.core.errors import BadRequestError, ConflictError, FieldProblem, NotFoundError
from mcsync.core.resources import Resources
from mcsync.core.web.paging import PageParams, encode_cursor
from mcsync.core.web.schemas import Page
from mcsync.features import audit
from mcsync.features.audiences import service as audiences
from mcsync.features.audiences.models import Audience
from mcsync.features.audit import AuditAction
from mcsync.features.connection import service as connection
from mcsync.features.segments import repository
from mcsync.features.segments.filters import ATTRIBUTES, COLUMNS
from mcsync.features.segments.models import Segment
from mcsync.features.segments.repository import NameTakenError, SegmentRow
from mcsync.features.segments.schemas import (
    CreateSegmentInput,
    DeleteSegmentInput,
    FiltersView,
    LegalBasis,
    OnLeave,
    OptIn,
    SegmentStatus,
    SegmentType,
    SegmentView,
    UpdateSegmentInput,
)


class LeaveHook(Protocol):
    """What is to be done where a segment goes from an audience; wired by a higher floor."""

    async def __call__(
        self,
        session: AsyncSession,
        segment_id: UUID,
        audience_id: UUID,
        actor: Actor,
        *,
        members: bool,
        to: UUID | None = None,
    ) -> None:
        """Ends the segment's runs, in the caller's transaction; it is deleted, or goes ``to`` another one.

        ``members``: stores the guarded run that makes its members leave too. Audience ids are ours.
        """
        ...


def view(segment: Segment, audience: Audience) -> SegmentView:
    """How a stored segment is shown."""
    return SegmentView(
        id=segment.id,
        name=segment.name,
        description=segment.description,
        segment_type=cast("SegmentType", segment.segment_type),
        audience_id=audience.list_id,
        audience_name=audience.name,
        filters=FiltersView(
            **{field: segment.filters.get(name, []) for name, field in COLUMNS.items()},
            attributes=segment.filters.get(ATTRIBUTES, {}),
        ),
        legal_basis=cast("LegalBasis", segment.legal_basis),
        on_leave=cast("OnLeave", segment.on_leave),
        opt_in=cast("OptIn", segment.opt_in),
        status=cast("SegmentStatus", segment.current_status),
        status_code=segment.status_code,
        status_detail=segment.status_detail,
        warnings=audiences.warnings(audience),
        version=segment.version,
        last_synced_at=segment.last_synced_at,
        created_at=segment.created_at,
        updated_at=segment.updated_at,
        soft_deleted_at=segment.soft_deleted_at,
    )


async def list_segments(
    resources: Resources,
    actor: Actor,
    page: PageParams,
    *,
    status: str | None = None,
    segment_type: str | None = None,
) -> Page[SegmentView]:
    """Live segments, newest first."""
    after = page.after(UUID)
    async with resources.db.transaction(actor.org_id) as session:
        rows = await repository.page(
            session,
            status=status,
            segment_type=segment_type,
            before=after[0] if after else None,
            limit=page.limit + 1,
        )
    shown = rows[: page.limit]
    more = len(rows) > page.limit
    return Page[SegmentView](
        items=[view(*row) for row in shown],
        next_cursor=encode_cursor(str(shown[-1][0].id)) if more else None,
    )


async def get(resources: Resources, actor: Actor, segment_id: UUID) -> SegmentView:
    """One live segment; raises ``NotFoundError`` (``segment_not_found``)."""
    async with resources.db.transaction(actor.org_id) as session:
        return view(*await require(session, segment_id))


async def require(session: AsyncSession, segment_id: UUID, *, lock: bool = False) -> SegmentRow:
    """The live segment and its audience; raises ``NotFoundError`` (``segment_not_found``)."""
    found = await repository.get(session, segment_id, lock=lock)
    if found is None:
        raise NotFoundError(
            "There is no such segment; segments.list shows all.", code="segment_not_found"
        )
    return found


async def create(resources: Resources, actor: Actor, wanted: CreateSegmentInput) -> SegmentView:
    """A new segment of an audience that the connected account has.

    Raises ``ConflictError`` (``not_connected``, ``name_taken``) and ``NotFoundError``
    (``audience_not_found``).
    """
    audience = await audiences.find(resources, actor.org_id, wanted.audience_id)
    async with resources.db.transaction(actor.org_id) as session:
        await _still_connected(session, audience)
        values = {
            "name": wanted.name,
            "description": wanted.description or None,
            "segment_type": wanted.segment_type,
            "audience_id": audience.id,
            "filters": wanted.filters.stored(),
            "legal_basis": wanted.legal_basis,
            "on_leave": wanted.on_leave,
            "opt_in": wanted.opt_in,
        }
        try:
            segment_id = await repository.add(session, values)
        except NameTakenError as error:
            raise _name_taken() from error
        await audiences.touch_definition(session, audience.id)
        audit.record(
            session,
            actor,
            AuditAction.SEGMENTS_CREATE,
            entity="segment",
            entity_id=segment_id,
            diff=_told({**values, "audience_id": audience.list_id}),
        )
        return view(*await require(session, segment_id))


async def update(
    resources: Resources, actor: Actor, wanted: UpdateSegmentInput, leave: LeaveHook
) -> SegmentView:
    """Changes what is given. A run under way reads the segment anew and follows.

    With another audience, runs of the old one end, and members stay there as they are unless
    ``wanted.leave``. Raises
    ``NotFoundError`` (``segment_not_found``, ``audience_not_found``), ``ConflictError``
    (``version_conflict``, ``name_taken``, ``not_connected``) and ``BadRequestError``
    (``leave_without_move``).
    """
    async with resources.db.transaction(actor.org_id) as session:
        _, audience = await require(session, wanted.id)
    if "audience_id" in wanted.model_fields_set and wanted.audience_id != audience.list_id:
        audience = await audiences.find(resources, actor.org_id, wanted.audience_id)
    async with resources.db.transaction(actor.org_id) as session:
        segment, audience_before = await require(session, wanted.id, lock=True)
        _check_version(segment, wanted.version)
        moved = audience.id != audience_before.id
        if moved:
            await _still_connected(session, audience)
        elif wanted.leave:
            raise BadRequestError(
                "leave belongs to a change of audienceId, or to segments.delete.",
                code="leave_without_move",
                errors=[FieldProblem("/leave", "leave_without_move", "The audience stays.")],
            )
        changes = _changes(segment, wanted)
        if moved:
            changes |= {"audience_id": audience.id, "last_synced_at": None} | _unsynced()
        before = {name: getattr(segment, name) for name in changes}
        diff = {name: [was, _told(changes)[name]] for name, was in _told(before).items()}
        if moved:
            diff["audience_id"] = [audience_before.list_id, audience.list_id]
        if changes:
            await _apply(session, segment, changes)
            await audiences.touch_definition(session, audience.id)
        if moved:
            await audiences.touch_definition(session, audience_before.id)
            if wanted.leave:
                await _still_connected(session, audience_before)
            await leave(
                session, segment.id, audience_before.id, actor, members=wanted.leave, to=audience.id
            )
        audit.record(
            session,
            actor,
            AuditAction.SEGMENTS_UPDATE,
            entity="segment",
            entity_id=segment.id,
            diff={**diff, "leave": wanted.leave},
        )
        return view(*await require(session, segment.id))


async def delete(
    resources: Resources, actor: Actor, wanted: DeleteSegmentInput, leave: LeaveHook
) -> SegmentView:
    """Soft-deletes the segment and ends its runs; its members stay at Mailchimp unless ``wanted.leave``.

    Raises ``NotFoundError`` (``segment_not_found``) and ``ConflictError`` (``version_conflict``, and
    ``not_connected`` where members should leave an account that is not connected).
    """
    async with resources.db.transaction(actor.org_id) as session:
        segment, audience = await require(session, wanted.id, lock=True)
        _check_version(segment, wanted.version)
        if wanted.leave:
            await _still_connected(session, audience)
        await _apply(session, segment, {"soft_deleted_at": resources.clock()})
        await audiences.touch_definition(session, audience.id)
        await leave(session, segment.id, audience.id, actor, members=wanted.leave)
        audit.record(
            session,
            actor,
            AuditAction.SEGMENTS_DELETE,
            entity="segment",
            entity_id=segment.id,
            diff={"name": [segment.name, None], "leave": wanted.leave},
        )
        await session.refresh(segment)
        return view(segment, audience)


async def _apply(session: AsyncSession, segment: Segment, changes: dict[str, Any]) -> None:
    # planned_xid null: the next run looks at every contact of the segment again.
    values = {**changes, "version": segment.version + 1, "planned_xid": None}
    try:
        await repository.change(session, segment.id, values)
    except NameTakenError as error:
        raise _name_taken() from error


def _changes(segment: Segment, wanted: UpdateSegmentInput) -> dict[str, Any]:
    """The columns that the request gives another value."""
    given: dict[str, Any] = {
        name: getattr(wanted, name)
        for name in ("name", "description", "segment_type", "legal_basis", "on_leave", "opt_in")
        if name in wanted.model_fields_set
    }
    if "description" in given:
        given["description"] = given["description"] or None
    if "filters" in wanted.model_fields_set:
        given["filters"] = wanted.filters.stored()
    return {name: value for name, value in given.items() if getattr(segment, name) != value}


def _told(values: Mapping[str, Any]) -> dict[str, Any]:
    """Values as the audit may keep them: free text, and attributes that may name people, by size only."""
    told = dict(values)
    if told.get("description") is not None:
        told["description"] = f"{len(told['description'])} characters"
    filters = told.get("filters")
    if filters is not None and ATTRIBUTES in filters:
        sizes = {key: f"{len(found)} values" for key, found in filters[ATTRIBUTES].items()}
        told["filters"] = {**filters, ATTRIBUTES: sizes}
    return told


def _unsynced() -> dict[str, Any]:
    return {"status": "pending", "status_code": None, "status_detail": None}


def _check_version(segment: Segment, version: int | None) -> None:
    if version is not None and version != segment.version:
        raise ConflictError(
            "The segment was changed since it was read; read it again with segments.get.",
            code="version_conflict",
        )


async def _still_connected(session: AsyncSession, audience: Audience) -> None:
    live = await connection.require_live(session)
    if live.account_id != audience.account_id:
        raise ConflictError(
            "The audience belongs to a Mailchimp account that is not connected (any more).",
            code="audience_not_connected",
        )


def _name_taken() -> ConflictError:
    return ConflictError(
        "Another segment of this audience has this name (upper and lower case count as the same);"
        " choose another one.",
        code="name_taken",
        errors=[FieldProblem("/name", "name_taken", "The name is taken in this audience.")],
    )
