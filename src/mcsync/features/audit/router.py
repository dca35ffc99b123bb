"""audit.list, audit.export and audit.verify."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends, Header, Query
from fastapi.responses import StreamingResponse

from mcsync.core.auth import Actor, Scope, requires
from mcsync.core.web.deps import PageDep, ResourcesDep
from mcsync.core.web.schemas import Timestamp
from mcsync.features.audit import service
from mcsync.features.audit.actions import AuditAction
from mcsync.features.audit.schemas import (
    EXPORT_EXAMPLES,
    AuditFilter,
    AuditPage,
    ExportKind,
    Verification,
)

router = APIRouter(prefix="/mailchimp/audit", tags=["audit"])

_MEDIA: dict[ExportKind, str] = {"csv": "text/csv", "ndjson": "application/x-ndjson"}

Reader = Annotated[Actor, requires(Scope.AUDIT_READ)]


async def _filter(
    action: Annotated[AuditAction | None, Query(description="Only this action.")] = None,
    entity_type: Annotated[
        str | None, Query(alias="entityType", max_length=100, description="Only this kind of row.")
    ] = None,
    entity_id: Annotated[
        str | None, Query(alias="entityId", max_length=200, description="Only the row of this id.")
    ] = None,
    actor_id: Annotated[
        str | None, Query(alias="actorId", max_length=200, description="Only what this actor did.")
    ] = None,
    since: Annotated[Timestamp | None, Query(description="From this moment on.")] = None,
    until: Annotated[Timestamp | None, Query(description="Before this moment.")] = None,
) -> AuditFilter:
    """What `list` and `export` have in common."""
    return AuditFilter(action, entity_type, entity_id, actor_id, since, until)


FilterDep = Annotated[AuditFilter, Depends(_filter)]


@router.get("/list", summary="List what was done")
async def list(  # noqa: A001 - the name of the procedure
    resources: ResourcesDep, actor: Reader, page: PageDep, wanted: FilterDep
) -> AuditPage:
    """Every state change of the organisation, newest first: who, what, which row, when.

    Entries are never changed or deleted. `diff` holds no personal data.
    """
    return await service.list_entries(resources, actor, page, wanted)


@router.get(
    "/export",
    summary="Download what was done",
    response_class=StreamingResponse,
    responses={200: {"content": {kind: {"example": e} for kind, e in EXPORT_EXAMPLES.items()}}},
)
async def export(
    resources: ResourcesDep,
    actor: Reader,
    wanted: FilterDep,
    file_format: Annotated[
        ExportKind | None,
        Query(alias="format", description="Else what `Accept` asks for; else `ndjson`."),
    ] = None,
    accept: Annotated[str | None, Header(include_in_schema=False)] = None,
) -> StreamingResponse:
    """The entries as one file, oldest first, with the same filters: CSV or one JSON object a line.

    Streamed, however many there are. Each entry carries its hash and the one before, so that a copy kept
    elsewhere can be verified by itself.
    """
    kind = file_format or ("csv" if "text/csv" in (accept or "") else "ndjson")
    return StreamingResponse(
        service.export(resources, actor, kind, wanted),
        media_type=_MEDIA[kind],
        headers={"Content-Disposition": f'attachment; filename="audit.{kind}"'},
    )


@router.get("/verify", summary="Verify the audit chain")
async def verify(resources: ResourcesDep, actor: Reader) -> Verification:
    """Recomputes the hash chain of the organisation from its first entry to its newest.

    A changed or missing entry makes `valid` false and is named by `brokenAt`.
    """
    return await service.verify(resources, actor.org_id)
