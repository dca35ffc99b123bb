"""contacts.explain: of the contacts' namespace, and here because it needs all that a sync knows."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query

from mcsync.core.auth import Actor, Scope, requires
from mcsync.core.web.deps import ResourcesDep
from mcsync.core.web.openapi import problems as documented
from mcsync.features.contacts.schemas import EntityType
from mcsync.features.sync import explain as service
from mcsync.features.sync import problems  # noqa: F401 - registers its codes
from mcsync.features.sync.explain_schemas import Explanation

router = APIRouter(prefix="/mailchimp/contacts", tags=["contacts"])


@router.get(
    "/explain", summary="Why someone is in or out of audiences", responses=documented(400, 404)
)
async def explain(
    resources: ResourcesDep,
    actor: Annotated[Actor, requires(Scope.CONTACTS_READ)],
    entity_type: Annotated[EntityType | None, Query(alias="entityType")] = None,
    entity_id: Annotated[str | None, Query(alias="entityId", min_length=1, max_length=255)] = None,
    email: Annotated[
        str | None,
        Query(min_length=3, max_length=254, description="Instead of `entityType` and `entityId`."),
    ] = None,
) -> Explanation:
    """Everything that decides about one person, for whoever has to answer their question.

    The contacts with the address, the consent of each and of the address, an erasure; and for each
    audience the member at Mailchimp and since when, refusals, withdrawals on their way, what each
    segment makes of it, under which rule, what the next sync would do, and what the last ones did. Each
    audience's `summary` says it in words. Reads what mcsync knows since the last pull; changes nothing.
    """
    return await service.explain(
        resources, actor, entity_type=entity_type, entity_id=entity_id, email=email
    )
