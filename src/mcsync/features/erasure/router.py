"""The procedures of erasure and access, in the namespace of consent."""

from __future__ import annotations

from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Query, Response

from mcsync.core.auth import Actor, Scope, requires
from mcsync.core.errors import BadRequestError
from mcsync.core.web.deps import PageDep, ResourcesDep
from mcsync.core.web.openapi import problems as documented
from mcsync.features.erasure import (
    problems,  # noqa: F401 - registers its codes
    service,
)
from mcsync.features.erasure.schemas import (
    MAX_EMAIL,
    CloseTargetInput,
    ErasureInput,
    ErasurePage,
    ErasureStatus,
    ErasureView,
    ExportView,
    LiftInput,
    LiftView,
    SubjectInput,
)
from mcsync.features.preferences.schemas import EntityType

router = APIRouter(prefix="/mailchimp/preferences", tags=["preferences"])

Reader = Annotated[Actor, requires(Scope.PREFERENCES_READ)]
Eraser = Annotated[Actor, requires(Scope.CONSENT_ERASE)]


@router.post(
    "/gdprDelete",
    status_code=202,
    summary="Erase a person",
    responses=documented(400, 404, 409, 502, 504),
)
async def gdpr_delete(
    body: ErasureInput, resources: ResourcesDep, actor: Eraser, response: Response
) -> ErasureView:
    """The right to erasure. Cannot be undone.

    At once: everything held here is deleted or made anonymous, and a later import of the person is refused.
    Then, however long it takes: the member is permanently deleted in every audience they may be in, under
    every address known, and read back until Mailchimp answers that it is not there. `getErasure` shows how
    far it is, and in the end the signed receipt. Asked for again, the same erasure is answered.

    By `email`: the one contact with that address, or somebody who is known by the address only. Of an address
    that is not known here every audience of the connected account is asked before the answer is
    `contact_not_found`, also of one that no contact could have (such as one with a quoted local part). Where
    other contacts share an address, they keep it, but it is wanted nowhere from then on.
    """
    erasure = await service.erase(resources, actor, body)
    response.headers["Location"] = f"/mailchimp/preferences/getErasure?id={erasure.id}"
    return erasure


@router.get("/getErasure", summary="One erasure, and its receipt", responses=documented(404))
async def get_erasure(
    resources: ResourcesDep,
    actor: Reader,
    id: Annotated[UUID, Query(description="The erasure's id.")],  # noqa: A002 - its name on the wire
) -> ErasureView:
    """What was done in each store, what Mailchimp answered for each address, and what is still open.

    Tells nothing of who it was: addresses are counted, from 1.
    """
    return await service.get(resources, actor, id)


@router.get("/listErasures", summary="Erasures, newest first")
async def list_erasures(
    resources: ResourcesDep,
    actor: Reader,
    page: PageDep,
    status: Annotated[ErasureStatus | None, Query(description="Only open or done ones.")] = None,
) -> ErasurePage:
    """All erasures of the organisation. An open one is tried again until all is confirmed."""
    return await service.list_erasures(resources, actor, page, status)


@router.get(
    "/exportEntity", summary="Everything held of a person", responses=documented(400, 404, 409)
)
async def export_entity(
    resources: ResourcesDep,
    actor: Reader,
    entity_type: Annotated[EntityType | None, Query(alias="entityType")] = None,
    entity_id: Annotated[str | None, Query(alias="entityId", min_length=1, max_length=255)] = None,
    email: Annotated[str | None, Query(min_length=3, max_length=MAX_EMAIL)] = None,
) -> ExportView:
    """The right of access: what each store holds of the person, row by row.

    By `entityType` and `entityId`, or by `email` for the one contact with that address or somebody who is
    known by the address only.
    """
    if (entity_type is None) != (entity_id is None):
        raise BadRequestError("Send entityType and entityId together.", code="subject_needed")
    wanted = SubjectInput.model_construct(entity_type=entity_type, entity_id=entity_id, email=email)
    return await service.export(resources, actor, wanted)


@router.post(
    "/closeErasureTarget", summary="Give up a target of an erasure", responses=documented(404)
)
async def close_erasure_target(
    body: CloseTargetInput, resources: ResourcesDep, actor: Eraser
) -> ErasureView:
    """For a target of an account that is no longer connected, and never will be.

    The receipt states that it was not confirmed, and the reason: name no person in it.
    """
    return await service.close_target(resources, actor, body)


@router.post(
    "/liftSuppression", summary="Let an erased person come back", responses=documented(404)
)
async def lift_suppression(body: LiftInput, resources: ResourcesDep, actor: Eraser) -> LiftView:
    """For a new, explicit consent that the person gave after the erasure. Audited, with its proof.

    By entity, by address, or both. Lifting brings nothing back: import the contact anew, with its
    consent. Mailchimp itself takes a permanently deleted address back only through a signup form.
    """
    return await service.lift(resources, actor, body)
