"""The procedures of consent."""

from __future__ import annotations

from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Query, Request

from mcsync.core.auth import Actor, Scope, requires
from mcsync.core.web.deps import UNLIMITED_BODY, PageDep, ResourcesDep
from mcsync.core.web.openapi import problems as documented
from mcsync.features.contacts.deps import ConfirmWithdrawals, TimeZone
from mcsync.features.contacts.intake.addresses import MAX_EMAIL
from mcsync.features.preferences import (
    importing,
    problems,  # noqa: F401 - registers its codes
    service,
)
from mcsync.features.preferences.schemas import (
    EntityPreference,
    EntityType,
    EventPage,
    OptStatus,
    OptStatusInput,
    PreferenceImportReport,
    PreferenceImportResult,
    PreferencePage,
)

router = APIRouter(prefix="/mailchimp/preferences", tags=["preferences"])

Reader = Annotated[Actor, requires(Scope.PREFERENCES_READ)]
Writer = Annotated[Actor, requires(Scope.PREFERENCES_WRITE)]
TypeQuery = Annotated[EntityType, Query(alias="entityType")]
_FILE = {"schema": {"type": "string", "format": "binary"}}
_IMPORT_BODY = {
    "requestBody": {
        "required": True,
        "content": {
            "text/csv": {
                **_FILE,
                "example": "entityType,entityId,optStatus,consentSource,consentGivenAt,form,wordingVersion\n"
                "employee,E-1042,opted_in,intranet form,2026-11-20T08:30:00Z,/newsletter,2026-03\n",
            },
            "application/x-ndjson": {
                **_FILE,
                "example": '{"entityType": "employee", "entityId": "E-1042", "optStatus": "opted_in", '
                '"consentSource": "intranet form", "consentGivenAt": "2026-11-20T08:30:00Z", '
                '"ipAddress": "192.0.2.17"}\n',
            },
        },
    }
}
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


@router.post(
    "/import",
    name="import",
    summary="Import preferences from a file",
    openapi_extra=_IMPORT_BODY,
    responses=documented(415),
    max_body_size=UNLIMITED_BODY,
)
async def import_(
    request: Request,
    resources: ResourcesDep,
    actor: Writer,
    confirm_withdrawals: ConfirmWithdrawals = False,
    time_zone: TimeZone = None,
) -> PreferenceImportResult:
    """Statements about contacts that are known, with their proof. The file itself is the body: CSV with a
    header (`text/csv`), or one JSON object a line (`application/x-ndjson`), in UTF-8, of any size.

    Columns: `entityType`, `entityId`, `optStatus` (these must be there), `consentSource`,
    `consentGivenAt`, `form`, `wordingVersion`, `ipAddress`, `evidence`. Others are refused, since they may
    be mistyped. The rules are those of contacts.import: an opt-out holds at once, also where its row is
    refused otherwise; an opt-in holds where no withdrawal is as late as its `consentGivenAt`, else it is
    reported as `opt_in_not_newer`; `timeZone` is the zone of times without an offset. Of rows about the same contact the first is taken, and any opt-out.
    """
    return await importing.import_file(
        resources, actor, request.stream(), request.headers.get("content-type", ""),
        confirm_withdrawals=confirm_withdrawals, time_zone=time_zone,
    )  # fmt: skip


@router.get("/getImport", summary="The report of an import of preferences")
async def get_import(
    resources: ResourcesDep,
    actor: Reader,
    page: PageDep,
    import_id: Annotated[UUID, Query(alias="id")],
) -> PreferenceImportReport:
    """What became of an import, and all that was rejected, page by page, by line."""
    return await importing.get_import(resources, actor, import_id, page)


@router.get("/history", summary="The proof: everything ever stated", responses=documented(400, 404))
async def history(
    resources: ResourcesDep,
    actor: Reader,
    page: PageDep,
    entity_type: Annotated[EntityType | None, Query(alias="entityType")] = None,
    entity_id: Annotated[str | None, Query(alias="entityId", min_length=1, max_length=255)] = None,
    email: Annotated[str | None, Query(min_length=3, max_length=MAX_EMAIL)] = None,
) -> EventPage:
    """Every opt-in and opt-out recorded, newest first. The service never changes or deletes an entry; only
    an erasure does.

    By `entityType` and `entityId`: of that contact. By `email`: everything stated under the address, of
    each contact when it had that address, and of the address itself while no contact had it (a newsletter
    form, an unsubscribe). Statements that changed nothing are kept too: `applied` is false and `reason`
    says why.
    """
    return await service.history(
        resources, actor, page, entity_type=entity_type, entity_id=entity_id, email=email
    )
