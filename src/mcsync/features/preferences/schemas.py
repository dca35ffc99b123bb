"""What the consent procedures take and answer."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Literal, Self
from uuid import UUID

from pydantic import AfterValidator, BeforeValidator, ConfigDict, Field
from pydantic.config import JsonDict
from pydantic_core import PydanticCustomError

from mcsync.core.web.schemas import Page, RequestModel, ResponseModel, Timestamp
from mcsync.features.contacts.consent import is_network_address
from mcsync.features.contacts.intake import message_of
from mcsync.features.contacts.schemas import RejectedLine
from mcsync.features.preferences.models import Preference, PreferenceEvent

OptStatus = Literal["opted_in", "opted_out", "unset"]
EntityType = Literal["employee", "vendor"]
EntityId = Annotated[str, Field(min_length=1, max_length=255)]
"""The id that the organisation's own system gave the person."""


def _text(value: object) -> object:
    if isinstance(value, str | datetime):
        return value
    message = "give a date and time as text, such as 2026-11-20T08:30:00Z"
    raise ValueError(message)


# Strict mode refuses the text of a time where a validator stands around the model; so it is read here.
Moment = Annotated[Timestamp, Field(strict=False), BeforeValidator(_text)]
"""A moment in a request: RFC 3339 with an offset."""


def _network_address(value: str) -> str:
    if not is_network_address(value):
        code, message = "invalid_ip_address", "Send an IPv4 or IPv6 address"
        raise PydanticCustomError(code, message)
    return value


NetworkAddress = Annotated[
    str, Field(min_length=2, max_length=45), AfterValidator(_network_address)
]

_ENTITY: JsonDict = {"entityType": "employee", "entityId": "E-1042"}
_PREFERENCE: JsonDict = {
    **_ENTITY,
    "status": "opted_in",
    "consentGivenAt": "2026-11-20T08:30:00Z",
    "consentWithdrawnAt": None,
    "source": "intranet form",
    "proof": {"form": "/newsletter", "wordingVersion": "2026-03"},
    "updatedAt": "2026-11-20T08:30:01Z",
}


class Proof(RequestModel):
    """How consent can be proven. All parts are optional; what is sent is kept as it is."""

    form: str | None = Field(None, max_length=500, description="The form or page it was given on.")
    wording_version: str | None = Field(
        None, max_length=200, description="Which version of the consent text the person saw."
    )
    ip_address: NetworkAddress | None = Field(
        None, description="The network address it came from (IPv4 or IPv6); Mailchimp is told too."
    )
    evidence: str | None = Field(
        None, max_length=4000, description="Anything else, such as a reference to a signed form."
    )


class OptStatusInput(RequestModel):
    """An opt-in or opt-out to record."""

    entity_type: EntityType
    entity_id: EntityId
    status: OptStatus = Field(
        description="`opted_out` withdraws everywhere, at once. `unset` takes an opt-in back without a"
        " withdrawal; it does not lift one."
    )
    source: str = Field(
        min_length=1, max_length=255, description="Where it comes from, such as `intranet form`."
    )
    consent_given_at: Moment | None = Field(
        None, description="When the person opted in, if not just now. Only with `opted_in`."
    )
    proof: Proof | None = None

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    **_ENTITY,
                    "status": "opted_in",
                    "source": "intranet form",
                    "consentGivenAt": "2026-11-20T08:30:00Z",
                    "proof": {"form": "/newsletter", "wordingVersion": "2026-03"},
                }
            ]
        }
    )


class PreferenceView(ResponseModel):
    """A contact's recorded consent."""

    entity_type: str
    entity_id: str
    status: OptStatus
    consent_given_at: Timestamp | None = Field(description="The latest opt-in.")
    consent_withdrawn_at: Timestamp | None = Field(description="The latest withdrawal.")
    source: str | None = Field(description="Of the statement that holds now.")
    proof: dict[str, Any]
    updated_at: Timestamp | None

    model_config = ConfigDict(json_schema_extra={"examples": [_PREFERENCE]})

    @classmethod
    def of(cls, row: Preference) -> Self:
        """The view of a stored preference."""
        return cls.model_validate(row)


class AddressView(ResponseModel):
    """What holds for the contact's address, over all living contacts that share it."""

    status: OptStatus = Field(
        description="Opted out if the address or anyone with it is; opted in if everyone is; else unset."
    )
    withdrawn: bool = Field(description="A withdrawal is recorded for the address itself.")
    consent_given_at: Timestamp | None
    consent_given_source: str | None
    consent_withdrawn_at: Timestamp | None
    consent_withdrawn_source: str | None
    other_contacts: int = Field(description="How many other living contacts have the address.")


class EntityPreference(PreferenceView):
    """A contact's consent, and what holds for its address."""

    address: AddressView | None = Field(description="Null where the contact has no usable address.")

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    **_PREFERENCE,
                    "address": {
                        "status": "opted_in",
                        "withdrawn": False,
                        "consentGivenAt": "2026-11-20T08:30:00Z",
                        "consentGivenSource": "intranet form",
                        "consentWithdrawnAt": None,
                        "consentWithdrawnSource": None,
                        "otherContacts": 0,
                    },
                }
            ]
        }
    )


class EventView(ResponseModel):
    """One statement in the history."""

    id: UUID
    entity_type: str | None = Field(
        description="Null, like `entityId`, in what was said of an address that no contact had."
    )
    entity_id: str | None
    status: OptStatus
    effective_at: Timestamp = Field(description="When the person gave or withdrew consent.")
    source: str
    proof: dict[str, Any]
    applied: bool = Field(description="False where the statement changed nothing; see `reason`.")
    reason: str | None = Field(
        description="`opt_in_not_newer`: a withdrawal is not older; `older_than_opt_in`: a later opt-in"
        " was recorded; `already_opted_in`."
    )
    actor_kind: str
    actor_id: str | None
    recorded_at: Timestamp

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "id": "019ab5a1-7c44-7d1e-9a51-0d7f5d3c2b10",
                    **_ENTITY,
                    "status": "opted_in",
                    "effectiveAt": "2026-11-20T08:30:00Z",
                    "source": "intranet form",
                    "proof": {"form": "/newsletter", "wordingVersion": "2026-03"},
                    "applied": True,
                    "reason": None,
                    "actorKind": "token",
                    "actorId": "0198c1d2-7a10-7c3e-9d52-3f1b8e0a4c11",
                    "recordedAt": "2026-11-20T08:30:01Z",
                }
            ]
        }
    )

    @classmethod
    def of(cls, row: PreferenceEvent) -> Self:
        """The view of a stored event."""
        return cls.model_validate(row)


_IMPORT: JsonDict = {
    "id": "019ab5a2-0d31-7c90-b1f4-5a6b7c8d9e0f",
    "received": 640, "optedIn": 611, "optedOut": 4, "unset": 0, "unchanged": 22, "notNewer": 2,
    "rejected": 1,
}  # fmt: skip
_REJECTED: JsonDict = {
    "line": 9,
    "field": "entityId",
    "code": "contact_not_found",
    "taken": False,
    "message": message_of("contact_not_found"),
}


class PreferenceCounts(ResponseModel):
    """What became of the statements of a file.

    `received` = `optedIn` + `optedOut` + `unset` + `unchanged` + `notNewer` + `rejected`; only an opt-out
    whose row is refused otherwise counts in both.
    """

    id: UUID
    received: int
    opted_in: int
    opted_out: int
    unset: int
    unchanged: int = Field(description="Said what was known, or nothing newer than that.")
    not_newer: int = Field(
        description="Opt-ins behind a withdrawal that is not older: kept in the history, not applied."
    )
    rejected: int


class PreferenceImportResult(PreferenceCounts):
    """What became of a file. `opt_in_not_newer` is listed, but its row was taken."""

    rejections: list[RejectedLine] = Field(description="The first 1,000.")
    report: str = Field(description="Path of preferences.getImport, which lists all of them.")

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    **_IMPORT,
                    "rejections": [_REJECTED],
                    "report": f"/mailchimp/preferences/getImport?id={_IMPORT['id']}",
                }
            ]
        }
    )


class PreferenceImportReport(PreferenceCounts):
    """A stored report with one page of its rejections."""

    kind: str = Field(description="`csv`, `ndjson` or `xlsx`.")
    created_at: Timestamp
    items: list[RejectedLine]
    next_cursor: str | None

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    **_IMPORT,
                    "kind": "csv",
                    "createdAt": "2026-11-23T09:12:44Z",
                    "items": [_REJECTED],
                    "nextCursor": None,
                }
            ]
        }
    )


PreferencePage = Page[PreferenceView]
EventPage = Page[EventView]
