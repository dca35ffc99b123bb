"""What the audiences' procedures take and answer."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Literal, Self

from pydantic import ConfigDict, Field, StringConstraints, model_validator
from pydantic.config import JsonDict

from mcsync.core.web.problems import register_problem
from mcsync.core.web.schemas import RequestModel, ResponseModel
from mcsync.features.audiences.merge_map import Entry

AudienceId = Annotated[
    str,
    StringConstraints(pattern=r"^[0-9A-Za-z]{1,40}$"),
    Field(description="Mailchimp's own id of the audience, such as `a1f0c3d2e4`."),
]
PermissionId = Annotated[
    str,
    StringConstraints(pattern=r"^[0-9A-Za-z_-]{1,64}$"),
    Field(description="An id from `permissions` of audiences.get."),
]
Tag = Annotated[str, StringConstraints(pattern=r"^[0-9A-Za-z_]{1,10}$")]
NewTag = Annotated[str, StringConstraints(pattern=r"^[0-9A-Z_]{1,10}$")]
Source = Annotated[str, StringConstraints(min_length=1, max_length=160)]
FieldType = Literal[
    "text",
    "number",
    "address",
    "phone",
    "date",
    "url",
    "imageurl",
    "radio",
    "dropdown",
    "birthday",
    "zip",
]
Choice = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=255)]

_FIELD: JsonDict = {
    "tag": "DEPT",
    "name": "Department",
    "type": "text",
    "required": False,
    "choices": [],
}
_AUDIENCE: JsonDict = {
    "audienceId": "a1f0c3d2e4",
    "name": "All staff",
    "memberCount": 4180,
    "doubleOptin": False,
    "marketingPermissions": False,
}
_PERMISSION: JsonDict = {
    "marketingPermissionId": "9c1f2b7a04",
    "text": "Email",
    "feeds": "consent",
}
_VIEW: JsonDict = {
    **_AUDIENCE,
    "marketingPermissions": True,
    "mergeFields": [
        {"tag": "FNAME", "name": "First Name", "type": "text", "required": False, "choices": []},
        _FIELD,
    ],
    "mergeFieldsAt": "2026-11-23T09:20:00Z",
    "map": {"DEPT": "department", "FNAME": "firstName"},
    "proposed": True,
    "unfedRequired": [],
    "unknownTags": [],
    "permissions": [_PERMISSION],
}


class AudienceSummary(ResponseModel):
    """An audience of the connected account, as Mailchimp shows it now."""

    model_config = ConfigDict(json_schema_extra={"examples": [_AUDIENCE]})

    audience_id: AudienceId
    name: str
    member_count: int = Field(description="Subscribed members; Mailchimp may be minutes behind.")
    double_optin: bool = Field(description="The audience's own forms ask for confirmation.")
    marketing_permissions: bool = Field(description="The audience uses Mailchimp's GDPR fields.")


class MergeFieldView(ResponseModel):
    """A merge field of an audience; `EMAIL`, the address itself, is never listed."""

    model_config = ConfigDict(json_schema_extra={"examples": [_FIELD]})

    tag: str
    name: str
    type: str
    required: bool
    choices: list[str] = Field(description="What a radio or dropdown field takes; else empty.")


class FeedView(ResponseModel):
    """What feeds a merge field whose values are written in a format of their own."""

    source: str = Field(alias="from")
    format: str


class WarningView(ResponseModel):
    """Something that needs attention, while everything else goes on."""

    code: str = Field(description="Stable, such as `merge_field_gone`.")
    message: str = Field(description="What it is, and what to do.")


class MarketingPermissionView(ResponseModel):
    """One of the audience's GDPR texts, and what ticks it."""

    model_config = ConfigDict(json_schema_extra={"examples": [_PERMISSION]})

    marketing_permission_id: str = Field(description="Mailchimp's own id, valid in this audience.")
    text: str
    feeds: Literal["consent"] | None = Field(
        description="`consent`: ticked for members who opted in. `null`: never touched."
    )


class AudienceView(ResponseModel):
    """An audience with its merge fields and what feeds them."""

    model_config = ConfigDict(json_schema_extra={"examples": [_VIEW]})

    audience_id: AudienceId
    name: str
    member_count: int = Field(
        description="Subscribed members as of the last pull, and with what was sent since; before the"
        " first sync, Mailchimp's own count."
    )
    double_optin: bool
    marketing_permissions: bool = Field(description="The audience uses Mailchimp's GDPR fields.")
    merge_fields: list[MergeFieldView]
    merge_fields_at: datetime | None = Field(
        description="When the fields were last read at Mailchimp."
    )
    map: dict[str, str | FeedView] = Field(
        description="Merge tag to source, or to source and format: what feeds each field at the next sync."
    )
    proposed: bool = Field(
        description="`true`: nobody has set a map; this one is guessed from tags and names."
    )
    unfed_required: list[str] = Field(
        description="Required fields that nothing feeds: Mailchimp would refuse new members."
    )
    unknown_tags: list[str] = Field(
        description="Tags of the stored map that Mailchimp no longer has; they are left out."
    )
    permissions: list[MarketingPermissionView] = Field(
        description="The GDPR texts, as a member of the audience last showed them: Mailchimp lists"
        " them nowhere else, so that they are unknown while the audience is empty."
    )


class Feed(RequestModel):
    """What feeds a merge field, and in which format its values are written."""

    source: Source = Field(alias="from", description="As the plain text would be.")
    format: Annotated[str, StringConstraints(min_length=1, max_length=20)] | None = Field(
        default=None,
        description="Of a date or birthday field: `DD` or `D`, `MM` or `M`, `YYYY` or `YY`, and what stands"
        " between them, such as `DD.MM.YYYY` or `DD/MM`. Of a number field: one of `1234.56`,"
        " `1,234.56`, `1234,56`, `1.234,56`, `1 234,56` and `1'234.56`.",
    )

    def entry(self) -> Entry:
        """The form that a map keeps."""
        return {"from": self.source, "format": self.format} if self.format else self.source


class SetMergeFieldsInput(RequestModel):
    """The whole map: what is not in it is not fed."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "audienceId": "a1f0c3d2e4",
                    "map": {
                        "FNAME": "firstName",
                        "LNAME": "lastName",
                        "DEPT": "department",
                        "COSTC": "attributes.costCentre",
                        "HIRED": {"from": "attributes.hired", "format": "DD.MM.YYYY"},
                    },
                }
            ]
        }
    )

    audience_id: AudienceId
    map: dict[Tag, Source | Feed] | None = Field(
        description="Merge tag, whatever its case, to source: `firstName`, `lastName`, `department`, `location`,"
        " `employmentType`, `employmentStatus`, `entityType`, `entityId` or `attributes.<name>`; or to"
        ' `{"from": source, "format": format}`.'
        " `null` goes back to the proposal.",
        max_length=100,
    )

    def entries(self) -> dict[str, Entry] | None:
        """The map as it is checked and kept."""
        if self.map is None:
            return None
        return {tag: f.entry() if isinstance(f, Feed) else f for tag, f in self.map.items()}


class PermissionFeed(RequestModel):
    """What ticks one marketing permission."""

    marketing_permission_id: PermissionId
    feeds: Literal["consent"] | None = Field(
        description="`consent` ticks it for members who opted in; `null` leaves it alone."
    )


class SetMarketingPermissionsInput(RequestModel):
    """The whole map: what is not in it is never touched."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "audienceId": "a1f0c3d2e4",
                    "permissions": [{"marketingPermissionId": "9c1f2b7a04", "feeds": "consent"}],
                }
            ]
        }
    )

    audience_id: AudienceId
    permissions: list[PermissionFeed] = Field(max_length=100)

    @model_validator(mode="after")
    def _ids_once(self) -> Self:
        ids = [each.marketing_permission_id for each in self.permissions]
        if len(set(ids)) != len(ids):
            message = "each marketingPermissionId may stand only once"
            raise ValueError(message)
        return self


class NewMergeField(RequestModel):
    """A merge field to be created; its type can never change afterwards."""

    tag: NewTag = Field(description="1 to 10 of A-Z, 0-9 and _, unique in the audience.")
    name: Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=50)]
    type: FieldType
    required: bool = False
    choices: list[Choice] | None = Field(
        default=None, description="For radio and dropdown only.", min_length=1, max_length=100
    )

    @model_validator(mode="after")
    def _choices_fit(self) -> Self:
        if (self.type in {"radio", "dropdown"}) != (self.choices is not None):
            message = "choices belong to radio and dropdown fields, which cannot be without"
            raise ValueError(message)
        return self


class CreateMergeFieldsInput(RequestModel):
    """The fields that the audience should have."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "audienceId": "a1f0c3d2e4",
                    "fields": [
                        {"tag": "DEPT", "name": "Department", "type": "text"},
                        {"tag": "COSTC", "name": "Cost centre", "type": "text"},
                    ],
                }
            ]
        }
    )

    audience_id: AudienceId
    fields: list[NewMergeField] = Field(min_length=1, max_length=80)

    @model_validator(mode="after")
    def _tags_once(self) -> Self:
        tags = [field.tag for field in self.fields]
        if len(set(tags)) != len(tags):
            message = "each tag may stand only once"
            raise ValueError(message)
        if "EMAIL" in tags:
            message = "EMAIL is the address itself and always exists"
            raise ValueError(message)
        return self


class RefusedField(ResponseModel):
    """A field that Mailchimp did not create, and its reason."""

    tag: str
    code: str
    message: str


class CreatedMergeFields(ResponseModel):
    """What became of each field asked for, and the audience as it is now."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {"created": ["COSTC"], "existing": ["DEPT"], "refused": [], "audience": _VIEW}
            ]
        }
    )

    created: list[str]
    existing: list[str] = Field(
        description="Were there already and are left as they are, whatever their name and type."
    )
    refused: list[RefusedField]
    audience: AudienceView


register_problem(
    "audience_not_found",
    404,
    "The connected account has no such audience",
    "Take an `audienceId` from connection.listAudiences.",
)
register_problem(
    "invalid_merge_map",
    400,
    "The merge-field map cannot stand",
    "`errors` names each tag with its reason; audiences.get shows the fields that exist.",
)
register_problem(
    "marketing_permission_not_found",
    404,
    "The audience has no such marketing permission",
    "Take the ids from `permissions` of audiences.get; `errors` names each that is unknown.",
)
register_problem(
    "marketing_permissions_unread",
    409,
    "The audience's marketing permissions are not known yet",
    "Mailchimp shows them on members only: sync a segment or add one member, then ask again.",
)
