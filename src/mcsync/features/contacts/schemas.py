"""What the contacts' procedures take and answer."""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self, cast
from uuid import UUID

from pydantic import (
    ConfigDict,
    Field,
    JsonValue,
    ModelWrapValidatorHandler,
    ValidationInfo,
    ValidatorFunctionWrapHandler,
    WrapValidator,
    model_validator,
)
from pydantic_core import PydanticCustomError

from mcsync.core.web.schemas import Page, RequestModel, ResponseModel, Timestamp
from mcsync.features.contacts.models import Contact
from mcsync.features.contacts.refusals import REFUSAL, RefusalView

EntityType = Literal["employee", "vendor"]
EntityId = Annotated[str, Field(min_length=1, max_length=255)]
AttributeValue = str | int | float | bool | None

MAX_UPSERT = 1_000
MAX_REPORTED = 1_000
"""Rejections in the answer of an import; all of them are in its report."""

_CONTACT: dict[str, JsonValue] = {
    "entityType": "employee",
    "entityId": "E-1042",
    "email": "zoe.lindqvist@nordlicht-werke.example",
    "firstName": "Zoë",
    "lastName": "Lindqvist",
    "department": "Engineering",
    "location": "Göteborg",
    "employmentType": "full_time",
    "employmentStatus": "active",
    "attributes": {"costCentre": "4711", "birthday": "03/14"},
}
_IMPORT_ID = "019ab5a2-0d31-7c90-b1f4-5a6b7c8d9e0f"
_COUNTS: dict[str, JsonValue] = {
    "received": 1200, "created": 1150, "updated": 45, "unchanged": 4, "rejected": 1,
    "consent": {"optedIn": 1140, "optedOut": 3, "unset": 0, "notNewer": 2},
}  # fmt: skip
_REJECTED: dict[str, JsonValue] = {
    "field": "email",
    "code": "invalid_email",
    "taken": False,
    "message": "This is not an e-mail address that can be delivered to; correct it.",
}


class ContactInput(RequestModel):
    """A contact as its own system knows it. A field left out keeps its value; null or "" clears it.

    A contact whose `email` is cleared has no address and leaves its audiences. A contact that is new cannot
    leave `email` out. Attributes are merged by name in the same way. A field that is wrong is reported and
    keeps its value; what is wrong with one contact does not keep the others out.
    """

    entity_type: str = Field(description="`employee` or `vendor`.")
    entity_id: str = Field(description="The id in the organisation's own system.")
    email: str | None = None
    first_name: str | None = None
    last_name: str | None = None
    department: str | None = None
    location: str | None = None
    employment_type: str | None = None
    employment_status: str | None = None
    attributes: dict[str, AttributeValue] | None = None
    opt_status: str | None = Field(
        None,
        description="`opted_in`, `opted_out` or `unset`: a statement of consent. Other words of withdrawal"
        " (`unsubscribed`, `false`) are understood too; no other word opts anybody in.",
    )
    consent_source: str | None = None
    consent_given_at: str | None = Field(
        None,
        description="When consent was given, ISO 8601. An opt-in without it lifts no withdrawal. A time"
        " without an offset counts as the earliest moment that it can be; see `timeZone`.",
    )


def _as_given(value: Any, _: ValidatorFunctionWrapHandler) -> Any:
    """What is wrong in a contact is reported by its place in the list, so it is not refused here."""
    if not isinstance(value, dict):
        raise PydanticCustomError("dict_type", "Send each contact as a JSON object")
    return value


class UpsertInput(RequestModel):
    """Up to 1,000 contacts."""

    contacts: list[Annotated[ContactInput, WrapValidator(_as_given)]] = Field(
        min_length=1, max_length=MAX_UPSERT
    )
    confirm_withdrawals: bool = Field(
        False, description="Go on although suspiciously many contacts would be withdrawn."
    )
    time_zone: str | None = Field(
        None,
        description="IANA name of the zone of the times that have no offset, such as `Europe/Berlin`.",
    )

    model_config = ConfigDict(json_schema_extra={"examples": [{"contacts": [_CONTACT]}]})

    @model_validator(mode="wrap")
    @classmethod
    def _as_json(
        cls, data: Any, handler: ModelWrapValidatorHandler[Self], _: ValidationInfo
    ) -> Self:
        """Text that cannot be stored is the problem of its contact, so the body is not refused for it."""
        return handler(data)

    @property
    def objects(self) -> list[dict[str, Any]]:
        """The contacts, as they were sent."""
        return cast("list[dict[str, Any]]", self.contacts)


class EntityInput(RequestModel):
    """Which contact."""

    entity_type: EntityType
    entity_id: EntityId

    model_config = ConfigDict(
        json_schema_extra={"examples": [{"entityType": "employee", "entityId": "E-1042"}]}
    )


class Rejected(ResponseModel):
    """One thing wrong with one row. The value itself is never repeated."""

    field: str | None = Field(description="Null where the row as a whole is wrong.")
    code: str
    taken: bool = Field(
        description="The row was taken, without this field or statement; false: the row was refused."
    )
    message: str


class RejectedLine(Rejected):
    """A row of a file."""

    line: int = Field(description="The first line of the row in the file; the header is line 1.")


class RejectedIndex(Rejected):
    """A contact of a list."""

    index: int = Field(description="Its place in `contacts`, from 0.")


class ConsentOutcomes(ResponseModel):
    """How many statements of consent changed something, and how many opt-ins did not hold."""

    opted_in: int
    opted_out: int = Field(description="Also of rows that were refused otherwise.")
    unset: int
    not_newer: int = Field(description="Opt-ins behind a withdrawal that is not older.")


class Counts(ResponseModel):
    """`received` = `created` + `updated` + `unchanged` + `rejected`."""

    received: int
    created: int
    updated: int
    unchanged: int
    rejected: int
    consent: ConsentOutcomes


class UpsertResult(Counts):
    """What became of the contacts. Each entry of `rejections` tells whether its contact was taken."""

    rejections: list[RejectedIndex]

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    **_COUNTS,
                    "rejections": [{"index": 7, **_REJECTED}],
                }
            ]
        }
    )


class ImportResult(Counts):
    """What became of a file. Each entry of `rejections` tells whether its row was taken."""

    id: UUID
    rejections: list[RejectedLine] = Field(description="The first 1,000.")
    report: str = Field(description="Path of contacts.getImport, which lists all of them.")

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "id": _IMPORT_ID,
                    **_COUNTS,
                    "rejections": [{"line": 9, **_REJECTED}],
                    "report": f"/mailchimp/contacts/getImport?id={_IMPORT_ID}",
                }
            ]
        }
    )


class ImportReportView(ResponseModel):
    """A stored report with one page of its rejections."""

    id: UUID
    kind: str
    created_at: Timestamp
    received: int
    created: int
    updated: int
    unchanged: int
    rejected: int
    consent: ConsentOutcomes
    items: list[RejectedLine]
    next_cursor: str | None

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "id": _IMPORT_ID,
                    "kind": "csv",
                    "createdAt": "2026-11-23T09:12:44Z",
                    **_COUNTS,
                    "items": [{"line": 9, **_REJECTED}],
                    "nextCursor": None,
                }
            ]
        }
    )


_VIEW: dict[str, JsonValue] = {
    "id": "019ab5a1-7c44-7d1e-9a51-0d7f5d3c2b10",
    **_CONTACT,
    "version": 1,
    "createdAt": "2026-11-23T09:12:44Z",
    "updatedAt": "2026-11-23T09:12:44Z",
    "leftAt": None,
}


class ContactView(ResponseModel):
    """A contact."""

    id: UUID
    entity_type: EntityType
    entity_id: str
    email: str | None
    first_name: str | None
    last_name: str | None
    department: str | None
    location: str | None
    employment_type: str | None
    employment_status: str | None
    attributes: dict[str, Any]
    version: int = Field(description="Counts the changes.")
    created_at: Timestamp
    updated_at: Timestamp
    left_at: Timestamp | None = Field(
        validation_alias="deleted_at", description="When the contact left; null while it has not."
    )

    model_config = ConfigDict(json_schema_extra={"examples": [_VIEW]})

    @classmethod
    def of(cls, row: Contact) -> Self:
        """The view of a stored contact."""
        return cls.model_validate(row)


class ContactDetail(ContactView):
    """A contact, and what Mailchimp refused for its address."""

    refusals: list[RefusalView] = Field(
        description="What each audience last refused for this address; see contacts.explain."
    )

    model_config = ConfigDict(json_schema_extra={"examples": [{**_VIEW, "refusals": [REFUSAL]}]})


ContactPage = Page[ContactView]
