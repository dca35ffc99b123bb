"""The procedures of consent."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query

from mcsync.core.auth import Actor, Scope, requires
from mcsync.core.web.deps import PageDep, ResourcesDep
from mcsync.features.preferences import (
    problems,  # noqa: F401 - registers its codes
    service,
)
from mcsync.features.preferences.schemas import (
    EntityPreference,
    EntityType,
    EventPage,
    OptStatus,
    OptStatusInput,
    PreferencePage,
)

router = APIRouter(prefix="/mailchimp/preferences", tags=["preferences"])

Reader = Annotated[Actor, requires(Scope.PREFERENCES_READ)]
Writer = Annotated[Actor, requires(Scope.PREFERENCES_WRITE)]
TypeQuery = Annotated[EntityType, Query(alias="entityType")]
IdQuery = Annotated[str, Query(alias="entityId", min_length=1, max_length=255)]


@router.get("/getForEntity", summary="One contact's consent")
async def get_for_entity(
    resources: ResourcesDep, actor: Reader, entity_type: TypeQuery, entity_id: IdQuery
) -> EntityPreference:
    """What is recorded of the contact, and what holds for its address over all who share it.

    A contact about whom nothing was ever recorded is `unset`. Mailchimp hears the address's `status`:
    the strictest of all living contacts with the address.
    """
    return await service.get_for_entity(resources, actor, entity_type, entity_id)


@router.get("/list", summary="All recorded preferences")
async def list(  # noqa: A001 - the name of the procedure
    resources: ResourcesDep,
    actor: Reader,
    page: PageDep,
    status: Annotated[OptStatus | None, Query(description="Only this status.")] = None,
) -> PreferencePage:
    """Preferences by entity type and id. Contacts about whom nothing was recorded are not in it."""
    return await service.list_preferences(resources, actor, page, status)


@router.post("/updateOptStatus", summary="Record an opt-in or opt-out")
async def update_opt_status(
    body: OptStatusInput, resources: ResourcesDep, actor: Writer
) -> EntityPreference:
    """Records what a person said, with source and proof.

    A withdrawal holds for the contact and for the address, and is sent to every audience at once, not
    with the next sync. An opt-in must be later than every withdrawal of the contact and of the address
    (`opt_in_not_newer`); without `consentGivenAt` it is given now. `unset` takes an opt-in back, but lifts
    no withdrawal (`withdrawal_stands`).
    """
    return await service.update_opt_status(resources, actor, body)


@router.get("/history", summary="The proof: everything ever stated")
async def history(
    resources: ResourcesDep,
    actor: Reader,
    page: PageDep,
    entity_type: TypeQuery,
    entity_id: IdQuery,
) -> EventPage:
    """Every opt-in and opt-out recorded of a contact, newest first. Entries are never changed or deleted.

    Statements that changed nothing are kept too: `applied` is false and `reason` says why.
    """
    return await service.history(resources, actor, page, entity_type, entity_id)
