"""The procedures of contacts."""

from __future__ import annotations

from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Query, Request

from mcsync.core.auth import Actor, Scope, requires
from mcsync.core.web.deps import UNLIMITED_BODY, PageDep, ResourcesDep
from mcsync.core.web.openapi import problems as documented
from mcsync.features.contacts import (
    problems,  # noqa: F401 - registers its codes
    service,
)
from mcsync.features.contacts.deps import (
    ChoiceDep,
    ConfirmWithdrawals,
    ConsentSinkDep,
    RefusalsDep,
    TimeZone,
)
from mcsync.features.contacts.files import XLSX
from mcsync.features.contacts.repository import ContactFilter
from mcsync.features.contacts.schemas import (
    ContactDetail,
    ContactPage,
    ContactView,
    EntityInput,
    EntityType,
    ImportReportView,
    ImportResult,
    UpsertInput,
    UpsertResult,
)

router = APIRouter(prefix="/mailchimp/contacts", tags=["contacts"])

Reader = Annotated[Actor, requires(Scope.CONTACTS_READ)]
Writer = Annotated[Actor, requires(Scope.CONTACTS_WRITE)]
TypeQuery = Annotated[EntityType, Query(alias="entityType")]
IdQuery = Annotated[str, Query(alias="entityId", min_length=1, max_length=255)]
Text = Annotated[str | None, Query(min_length=1, max_length=255)]

_FILE = {"schema": {"type": "string", "format": "binary"}}
_IMPORT_BODY = {
    "requestBody": {
        "required": True,
        "content": {
            "text/csv": {
                **_FILE,
                "example": "entityType,entityId,email,firstName,costCentre\n"
                "employee,E-1042,zoe.lindqvist@nordlicht-werke.example,Zoë,4711\n",
            },
            "application/x-ndjson": {
                **_FILE,
                "example": '{"entityType": "employee", "entityId": "E-1042", '
                '"email": "zoe.lindqvist@nordlicht-werke.example", "firstName": "Zoë", '
                '"attributes": {"costCentre": "4711"}}\n',
            },
            XLSX: {**_FILE, "example": "(the bytes of people.xlsx, which begin with PK)"},
        },
    }
}


@router.post("/upsert", summary="Create or change up to 1,000 contacts")
async def upsert(
    body: UpsertInput, resources: ResourcesDep, actor: Writer, sink: ConsentSinkDep
) -> UpsertResult:
    """Takes every contact that is right and reports what is wrong with each other.

    Contacts are known by `entityType` and `entityId`. Fields left out keep their value, null clears. A
    field that is wrong is reported and keeps its value; the contact is refused only where these two, or
    the address of a new contact, are wrong. A contact that is as it was is `unchanged`, and one that had
    left is back. Consent in `optStatus` follows the rules of contacts.import.
    """
    return await service.upsert(
        resources, actor, body.objects, sink, confirm_withdrawals=body.confirm_withdrawals,
        time_zone=body.time_zone,
    )  # fmt: skip


@router.post(
    "/import",
    name="import",
    summary="Import a file of any size",
    openapi_extra=_IMPORT_BODY,
    responses=documented(413, 415),
    max_body_size=UNLIMITED_BODY,
)
async def import_(
    request: Request,
    resources: ResourcesDep,
    actor: Writer,
    sink: ConsentSinkDep,
    choice: ChoiceDep,
    confirm_withdrawals: ConfirmWithdrawals = False,
    time_zone: TimeZone = None,
) -> ImportResult:
    """The file itself is the body: CSV with a header (`text/csv`), one JSON object a line
    (`application/x-ndjson`), or an Excel workbook (.xlsx), of which the first sheet is read. Text is in
    UTF-8, in UTF-16 with a byte order mark, or in the `charset` of the content type. What is
    wrong with a row is reported with its line and, as `taken`, whether the rest of the row was taken.

    Comma, semicolon, tab or `|` separates the cells of CSV; a first line `sep=;` is obeyed, blank lines before
    the header are skipped, and a cell `\\N` is empty. `map`, `set` and `columns` read files whose columns have
    other names.

    Columns: `entityType`, `entityId`, `email` (these must be there), `firstName`, `lastName`, `department`,
    `location`, `employmentType`, `employmentStatus`, `optStatus`, `consentSource`, `consentGivenAt`; case,
    spaces, dashes and underscores in them do not matter. Every other column is an attribute. A column that
    the file lacks keeps its values; an empty cell clears, and a contact whose `email` is cleared leaves its
    audiences. A value that is wrong keeps the one before. Of rows about the same contact the first is taken.
    A JSON object follows contacts.upsert: a known contact may leave out even `email`.

    `optStatus` `opted_out`, or another word of withdrawal, withdraws at once, also where the row is refused,
    if its id or an address in it tells who is meant; so does a column such as `unsubscribed` that says yes. A
    row that only repeats the withdrawal of an earlier
    import does not withdraw what was given since. `opted_in` applies where no withdrawal of the contact or
    its address is as late as `consentGivenAt`; else the row is taken, the opt-in is not, and the row is
    reported as `opt_in_not_newer`. A time without an offset is of the zone `timeZone`; without it, it counts
    as the earliest moment that it can be. A file that would withdraw suspiciously many contacts changes
    nothing (409 `confirm_withdrawals`) until repeated with `confirmWithdrawals=true`.
    """
    return await service.import_file(
        resources, actor, request.stream(), request.headers.get("content-type", ""), sink,
        confirm_withdrawals=confirm_withdrawals, choice=choice, time_zone=time_zone,
    )  # fmt: skip


@router.get("/getImport", summary="The report of an import")
async def get_import(
    resources: ResourcesDep,
    actor: Reader,
    page: PageDep,
    import_id: Annotated[UUID, Query(alias="id")],
) -> ImportReportView:
    """What became of an import, and all that was rejected, page by page, by line."""
    return await service.get_import(resources, actor, import_id, page)


@router.get("/list", summary="List contacts")
async def list(  # noqa: A001 - the name of the procedure
    resources: ResourcesDep,
    actor: Reader,
    page: PageDep,
    entity_type: Annotated[EntityType | None, Query(alias="entityType")] = None,
    department: Text = None,
    location: Text = None,
    employment_status: Annotated[
        str | None, Query(alias="employmentStatus", min_length=1, max_length=255)
    ] = None,
    search: Annotated[
        str | None,
        Query(min_length=2, max_length=100, description="Part of a name, address or entity id."),
    ] = None,
    include_left: Annotated[
        bool, Query(alias="includeLeft", description="Also contacts that left.")
    ] = False,
) -> ContactPage:
    """Contacts by entity type and id; those who left only on request. Filters compare exactly."""
    wanted = ContactFilter(
        entity_type, department, location, employment_status, search, include_left
    )
    return await service.list_contacts(resources, actor, page, wanted)


@router.get("/get", summary="One contact")
async def get(
    resources: ResourcesDep,
    actor: Reader,
    refusals: RefusalsDep,
    entity_type: TypeQuery,
    entity_id: IdQuery,
) -> ContactDetail:
    """The contact; `leftAt` tells whether it left, `refusals` what Mailchimp does not take and why."""
    return await service.get(resources, actor, entity_type, entity_id, refusals)


@router.post("/delete", summary="A contact left")
async def delete(body: EntityInput, resources: ResourcesDep, actor: Writer) -> ContactView:
    """The contact left the organisation: the next syncs take it out of its segments.

    Nothing is erased: consent, history and withdrawals stay, and the contact is back with the next
    contacts.upsert or contacts.import that names it.
    """
    return await service.delete(resources, actor, body.entity_type, body.entity_id)
