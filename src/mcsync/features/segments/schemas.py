"""What the segments' procedures take and answer."""

from __future__ import annotations

import unicodedata
from datetime import datetime
from typing import Annotated, Any, Literal
from uuid import UUID

from pydantic import AfterValidator, ConfigDict, Field, StringConstraints
from pydantic.config import JsonDict

from mcsync.core.web.problems import register_problem
from mcsync.core.web.schemas import RequestModel, ResponseModel
from mcsync.features.audiences.schemas import AudienceId, WarningView
from mcsync.features.segments.filters import ATTRIBUTES, COLUMNS

SegmentType = Literal["employee", "vendor", "mixed"]
SegmentStatus = Literal["pending", "syncing", "synced", "error"]
LegalBasis = Literal["consent", "legitimate_interest"]
OnLeave = Literal["archive", "unsubscribe", "keep"]
OptIn = Literal["single", "double"]

MAX_VALUES = 1000
MAX_ATTRIBUTES = 50
# Control characters, line and paragraph separators: a name is one line, and a Mailchimp tag.
_NOT_IN_A_NAME = frozenset({"Cc", "Zl", "Zp"})


def _one_line(value: str) -> str:
    if any(unicodedata.category(character) in _NOT_IN_A_NAME for character in value):
        message = "a name is one line without control characters"
        raise ValueError(message)
    return value


def _distinct(values: list[str]) -> list[str]:
    return list(dict.fromkeys(values))


Name = Annotated[
    str,
    StringConstraints(strip_whitespace=True, min_length=1, max_length=80),
    AfterValidator(_one_line),
    Field(
        description="Unique within the audience, whatever the case. Mailchimp shows the segment's members"
        " under the tag `mcsync: <name>`."
    ),
]
Description = Annotated[str, StringConstraints(strip_whitespace=True, max_length=1000)]
Value = Annotated[str, StringConstraints(min_length=1, max_length=500)]
Values = Annotated[list[Value], Field(max_length=MAX_VALUES), AfterValidator(_distinct)]
AttributeName = Annotated[str, StringConstraints(min_length=1, max_length=128)]
SegmentId = Annotated[UUID, Field(description="The segment's id.")]
Version = Annotated[
    int,
    Field(
        ge=1,
        description="The `version` that the change is based on; `version_conflict` if it has moved on.",
    ),
]


def _absent() -> Any:
    """The default of fields that may be left out but not be null; no value of its own in OpenAPI."""
    return None


class Filters(RequestModel):
    """Conditions over contacts: AND across, OR within; an absent or empty list is no condition.

    Values are compared exactly, upper and lower case included.
    """

    department: Values = Field(default_factory=list)
    location: Values = Field(default_factory=list)
    employment_type: Values = Field(default_factory=list)
    employment_status: Values = Field(default_factory=list)
    attributes: dict[AttributeName, Values] = Field(
        default_factory=dict,
        max_length=MAX_ATTRIBUTES,
        description="Any other attribute of the contacts, by its name.",
    )

    def stored(self) -> dict[str, Any]:
        """The form that is kept and compiled: only what is a condition."""
        whole = self.model_dump(by_alias=True)
        kept = {name: whole[name] for name in COLUMNS if whole[name]}
        attributes = {key: values for key, values in self.attributes.items() if values}
        return kept | ({ATTRIBUTES: attributes} if attributes else {})


class FiltersView(ResponseModel):
    """The segment's conditions; an empty list is none."""

    department: list[str]
    location: list[str]
    employment_type: list[str]
    employment_status: list[str]
    attributes: dict[str, list[str]]


_EXAMPLE_FILTERS: JsonDict = {"department": ["Operations", "Logistics"], "location": ["Lisbon"]}


class SegmentDefinition(RequestModel):
    """Who belongs to a segment and how its members are treated."""

    segment_type: SegmentType
    audience_id: AudienceId
    filters: Filters = Field(default_factory=lambda: Filters.model_validate({}))
    legal_basis: LegalBasis = Field(
        default="consent",
        description="`consent`: only contacts who opted in. `legitimate_interest`: all but those who"
        " opted out.",
    )
    on_leave: OnLeave = Field(
        default="archive",
        description="What happens at Mailchimp to a member that mcsync added and that no segment of the"
        " audience claims any more.",
    )
    opt_in: OptIn = Field(
        default="single", description="`double`: Mailchimp asks new members for confirmation first."
    )


class CreateSegmentInput(SegmentDefinition):
    """A new segment."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "name": "Lisbon operations",
                    "description": "Shift news for the Lisbon warehouse",
                    "segmentType": "employee",
                    "audienceId": "a1f0c3d2e4",
                    "filters": _EXAMPLE_FILTERS,
                    "legalBasis": "legitimate_interest",
                }
            ]
        }
    )

    name: Name
    description: Description | None = None


class UpdateSegmentInput(RequestModel):
    """What is to change; fields left out stay as they are. ``filters`` are replaced as a whole."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "id": "019ab5a3-1b9e-7c52-8a0e-6f0f2f6a9b01",
                    "filters": {"department": ["Operations"], "location": ["Lisbon", "Porto"]},
                }
            ]
        }
    )

    id: SegmentId
    version: Version | None = None
    name: Name = Field(default_factory=_absent)
    description: Description | None = Field(default_factory=_absent)
    segment_type: SegmentType = Field(default_factory=_absent)
    audience_id: AudienceId = Field(default_factory=_absent)
    filters: Filters = Field(default_factory=_absent)
    legal_basis: LegalBasis = Field(default_factory=_absent)
    on_leave: OnLeave = Field(default_factory=_absent)
    opt_in: OptIn = Field(default_factory=_absent)
    leave: bool = Field(
        default=False,
        description="With another `audienceId`: members leave the old audience as `onLeave` says, by one"
        " run. Otherwise they stay there as they are.",
    )


class DeleteSegmentInput(RequestModel):
    """The segment to delete."""

    model_config = ConfigDict(
        json_schema_extra={"examples": [{"id": "019ab5a3-1b9e-7c52-8a0e-6f0f2f6a9b01"}]}
    )

    id: SegmentId
    version: Version | None = None
    leave: bool = Field(
        default=False,
        description="Members leave the audience as `onLeave` says, by one run. Otherwise they stay at"
        " Mailchimp as they are.",
    )


class SegmentView(ResponseModel):
    """A segment."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "id": "019ab5a3-1b9e-7c52-8a0e-6f0f2f6a9b01",
                    "name": "Lisbon operations",
                    "description": "Shift news for the Lisbon warehouse",
                    "segmentType": "employee",
                    "audienceId": "a1f0c3d2e4",
                    "audienceName": "All staff",
                    "filters": {
                        "department": ["Operations", "Logistics"],
                        "location": ["Lisbon"],
                        "employmentType": [],
                        "employmentStatus": [],
                        "attributes": {},
                    },
                    "legalBasis": "legitimate_interest",
                    "onLeave": "archive",
                    "optIn": "single",
                    "status": "synced",
                    "statusCode": None,
                    "statusDetail": None,
                    "warnings": [],
                    "version": 1,
                    "lastSyncedAt": "2026-11-23T05:00:09Z",
                    "createdAt": "2026-11-20T14:03:51Z",
                    "updatedAt": "2026-11-20T14:03:51Z",
                    "softDeletedAt": None,
                }
            ]
        }
    )

    id: UUID
    name: str
    description: str | None
    segment_type: SegmentType
    audience_id: AudienceId
    audience_name: str
    filters: FiltersView
    legal_basis: LegalBasis
    on_leave: OnLeave
    opt_in: OptIn
    status: SegmentStatus = Field(description="`pending`: created, not yet synced.")
    status_code: str | None = Field(
        description="Why the status is `error`, for programs, such as `approval_needed`."
    )
    status_detail: str | None = Field(description="The same for people, with what to do.")
    warnings: list[WarningView] = Field(
        description="What of the audience needs attention, while the segment goes on being synced: a merge"
        " field that was deleted at Mailchimp (`merge_field_gone`)."
    )
    version: int = Field(description="Grows with every change of the definition.")
    last_synced_at: datetime | None
    created_at: datetime
    updated_at: datetime
    soft_deleted_at: datetime | None


for _problem in (
    ("segment_not_found", 404, "No such segment", "segments.list shows all segments."),
    (
        "leave_without_move",
        400,
        "There is nothing to leave",
        "`leave` belongs to a change of `audienceId`, or to segments.delete.",
    ),
    (
        "name_taken",
        409,
        "The name is taken",
        "Choose another name; upper and lower case count as the same.",
    ),
    (
        "version_conflict",
        409,
        "The segment was changed meanwhile",
        "Read it again with segments.get, look at the difference, and repeat with its `version`.",
    ),
    (
        "audience_not_connected",
        409,
        "The audience belongs to an account that is not connected",
        "Connect that Mailchimp account again, or choose an audience of the connected one.",
    ),
):
    register_problem(*_problem)
