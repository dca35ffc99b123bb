"""audit.list and audit.verify."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query

from mcsync.core.auth import Actor, Scope, requires
from mcsync.core.web.deps import PageDep, ResourcesDep
from mcsync.core.web.schemas import Timestamp
from mcsync.features.audit import service
from mcsync.features.audit.actions import AuditAction
from mcsync.features.audit.schemas import AuditFilter, AuditPage, Verification

router = APIRouter(prefix="/mailchimp/audit", tags=["audit"])

Reader = Annotated[Actor, requires(Scope.AUDIT_READ)]


@router.get("/list", summary="List what was done")
async def list(  # noqa: A001 - the name of the procedure
    resources: ResourcesDep,
    actor: Reader,
    page: PageDep,
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
) -> AuditPage:
    """Every state change of the organisation, newest first: who, what, which row, when.

    Entries are never changed or deleted. `diff` holds no personal data.
    """
    wanted = AuditFilter(action, entity_type, entity_id, actor_id, since, until)
    return await service.list_entries(resources, actor, page, wanted)


@router.get("/verify", summary="Verify the audit chain")
async def verify(resources: ResourcesDep, actor: Reader) -> Verification:
    """Recomputes the hash chain of the organisation from its first entry to its newest.

    A changed or missing entry makes `valid` false and is named by `brokenAt`.
    """
    return await service.verify(resources, actor.org_id)
