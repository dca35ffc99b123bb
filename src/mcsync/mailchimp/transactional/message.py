"""What is handed in: a message and its parts (MC 17.2). Plain data, safe to store as JSON."""

import base64
import binascii
from datetime import UTC, datetime
from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, JsonValue

TAG_CHARS = 50
Scalar = str | int | float | bool | None
"""What metadata may hold."""


def _tag(value: str) -> str:
    if not 0 < len(value) <= TAG_CHARS or value.startswith("_"):
        message = f"a tag has 1 to {TAG_CHARS} characters and no leading underscore"
        raise ValueError(message)
    return value


def _base64(value: str) -> str:
    try:
        base64.b64decode(value, validate=True)
    except binascii.Error:
        message = "not base64"
        raise ValueError(message) from None
    return value


def _metadata_name(value: str) -> str:
    # Others are stored, but no search finds them.
    if value.startswith("_") or not value.replace("_", "a").isalnum() or not value.isascii():
        message = "a metadata name has letters, digits and underscores, none of them leading"
        raise ValueError(message)
    return value


Tag = Annotated[str, AfterValidator(_tag)]
Base64 = Annotated[str, AfterValidator(_base64)]
MetadataName = Annotated[str, AfterValidator(_metadata_name)]


class RequestPart(BaseModel):
    """A part of a request: immutable, nothing unknown, no values in error texts."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)


class Recipient(RequestPart):
    """Whom the message goes to."""

    email: str = Field(repr=False)
    name: str | None = Field(default=None, repr=False)
    type: Literal["to", "cc", "bcc"] = "to"


class MergeVar(RequestPart):
    """One value of a merge tag; beyond text only with handlebars."""

    name: str
    content: JsonValue = Field(repr=False)


class RecipientMergeVars(RequestPart):
    """Merge values of one recipient; they win over the global ones."""

    rcpt: str = Field(repr=False)
    vars: tuple[MergeVar, ...]


class RecipientMetadata(RequestPart):
    """Metadata of one recipient; it wins over the message's."""

    rcpt: str = Field(repr=False)
    values: dict[MetadataName, Scalar] = Field(repr=False)


class Attachment(RequestPart):
    """A file, or an image shown as `<img src="cid:NAME">`. `content` is base64."""

    type: str
    name: str
    content: Base64 = Field(repr=False)

    @classmethod
    def of(cls, data: bytes, *, name: str, type: str) -> "Attachment":  # noqa: A002 - their word
        """Make one of plain bytes; `type` is a media type."""
        return cls(type=type, name=name, content=base64.b64encode(data).decode())


class TemplateContent(RequestPart):
    """What goes into an editable region of a template."""

    name: str
    content: str = Field(repr=False)


class Message(RequestPart):
    """A message as `messages/send` takes it; what is None is left to the account's settings.

    `metadata` is limited to 200 bytes as JSON. Only names that were declared with
    `add_metadata_field` can be searched for.
    """

    html: str | None = Field(default=None, repr=False)
    text: str | None = Field(default=None, repr=False)
    subject: str | None = Field(default=None, repr=False)
    from_email: str | None = Field(default=None, repr=False)
    from_name: str | None = Field(default=None, repr=False)
    to: tuple[Recipient, ...] = Field(min_length=1)
    headers: dict[str, str] = Field(default_factory=dict, repr=False)
    important: bool | None = None
    track_opens: bool | None = None
    track_clicks: bool | None = None
    auto_text: bool | None = None
    auto_html: bool | None = None
    inline_css: bool | None = None
    url_strip_qs: bool | None = None
    preserve_recipients: bool | None = None
    view_content_link: bool | None = None
    bcc_address: str | None = Field(default=None, repr=False)
    tracking_domain: str | None = None
    signing_domain: str | None = None
    return_path_domain: str | None = None
    merge: bool | None = None
    merge_language: Literal["mailchimp", "handlebars"] | None = None
    global_merge_vars: tuple[MergeVar, ...] = ()
    merge_vars: tuple[RecipientMergeVars, ...] = ()
    tags: tuple[Tag, ...] = ()
    subaccount: str | None = None
    google_analytics_domains: tuple[str, ...] = ()
    google_analytics_campaign: str | None = None
    metadata: dict[MetadataName, Scalar] = Field(default_factory=dict, repr=False)
    recipient_metadata: tuple[RecipientMetadata, ...] = ()
    attachments: tuple[Attachment, ...] = ()
    images: tuple[Attachment, ...] = ()

    def as_json(self) -> dict[str, object]:
        """Return what goes on the wire: nothing that was left open."""
        return self.model_dump(mode="json", exclude_none=True, exclude_defaults=True)


def moment(when: datetime) -> str:
    """Write a time as Mandrill reads it: UTC, whole seconds, no offset.

    Raises `ValueError` for a time without an offset.
    """
    if when.tzinfo is None:
        message = "a time without an offset"
        raise ValueError(message)
    return when.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%S")
