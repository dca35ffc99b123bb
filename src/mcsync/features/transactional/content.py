"""What a message may hold on its way in.

The limits here are Mailchimp's where it has some; the others keep one message one message.
"""

from __future__ import annotations

import base64
import binascii
from typing import Annotated, Any, Final, Literal, Self

import orjson
from pydantic import (
    AfterValidator,
    BeforeValidator,
    ConfigDict,
    Field,
    JsonValue,
    StringConstraints,
    model_validator,
)
from pydantic.config import JsonDict
from pydantic_core import PydanticCustomError

from mcsync.core.addresses import validated
from mcsync.core.web.schemas import RequestModel, Timestamp
from mcsync.mailchimp import mailbox_of
from mcsync.mailchimp.transactional import METADATA_BYTES

MOST_RECIPIENTS: Final = 1000
MOST_FILES: Final = 100
BODY_BYTES: Final = 12_000_000
"""Largest body of send and sendTemplate: Mailchimp's 10 MB a call, and room for the way JSON is written."""
ID_NAME: Final = "mcsync_id"
_ID_BYTES: Final = len(orjson.dumps({ID_NAME: "0" * 32}))


def _address(value: str) -> str:
    found = validated(value.strip())
    if found is None or not 0 < len(found) <= 254:
        code, message = "invalid_email", "Not a valid e-mail address."
        raise PydanticCustomError(code, message)
    return found


def _one_line(value: str) -> str:
    if any(character < " " or character in "\x7f\u2028\u2029" for character in value):
        message = "one line without control characters"
        raise ValueError(message)
    return value


def _writable(value: JsonValue) -> JsonValue:
    # numbers beyond 64 bits are JSON, but nobody's
    try:
        orjson.dumps(value)
    except (TypeError, orjson.JSONEncodeError):
        message = "this value cannot be written as JSON"
        raise ValueError(message) from None
    return value


def _base64(value: str) -> str:
    try:
        base64.b64decode(value, validate=True)
    except (binascii.Error, ValueError):
        message = "not base64"
        raise ValueError(message) from None
    return value


def _as_text(value: object) -> object:
    # what follows is not strict, and would take numbers for Unix times
    if not isinstance(value, str):
        code, message = "datetime_type", "Input should be a valid datetime"
        raise PydanticCustomError(code, message)
    return value


def _no_id(value: dict[str, Any]) -> dict[str, Any]:
    if ID_NAME in value:
        message = f"{ID_NAME} is mcsync's own"
        raise ValueError(message)
    if len(orjson.dumps(value)) + _ID_BYTES > METADATA_BYTES:
        code = "metadata_too_long"
        message = f"Mailchimp keeps {METADATA_BYTES - _ID_BYTES} bytes of metadata as JSON"
        raise PydanticCustomError(code, message)
    return value


Address = Annotated[str, Field(min_length=3, max_length=254), AfterValidator(_address)]
Line = Annotated[str, StringConstraints(min_length=1, max_length=255), AfterValidator(_one_line)]
Subject = Annotated[str, StringConstraints(min_length=1, max_length=998), AfterValidator(_one_line)]
Text = Annotated[str, StringConstraints(min_length=1)]
VarName = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_.-]{1,100}$")]
VarValue = Annotated[JsonValue, AfterValidator(_writable)]
MergeVars = Annotated[dict[VarName, VarValue], Field(max_length=500)]
Tag = Annotated[str, StringConstraints(pattern=r"^[^_\x00-\x1f\x7f][^\x00-\x1f\x7f]{0,49}$")]
MetadataName = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9_]{0,49}$")]
MetadataText = Annotated[str, StringConstraints(max_length=200)]
Number = Annotated[int, Field(ge=-(2**53), le=2**53)]
Metadata = Annotated[
    dict[MetadataName, MetadataText | bool | Number], Field(max_length=20), AfterValidator(_no_id)
]
Content = Annotated[
    str, StringConstraints(min_length=1), AfterValidator(_base64), Field(description="Base64.")
]
MediaType = Annotated[
    str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9!#$&^_.+-]*/[A-Za-z0-9!#$&^_.+-]+$")
]
Moment = Annotated[Timestamp, Field(strict=False), BeforeValidator(_as_text)]
TemplateName = Annotated[Line, Field(description="The template's slug at Mailchimp Transactional.")]


class RecipientInput(RequestModel):
    """One recipient. ``mergeVars`` are its own and win over the message's."""

    email: Address
    name: Line | None = None
    merge_vars: MergeVars = Field(default_factory=dict)


class FileInput(RequestModel):
    """An attachment; or an image, which the HTML shows by ``<img src="cid:NAME">``."""

    name: Line
    type: MediaType = Field(description="Its media type, such as `application/pdf`.")
    content: Content


Recipients = Annotated[list[RecipientInput], Field(max_length=MOST_RECIPIENTS)]
Files = Annotated[list[FileInput], Field(max_length=MOST_FILES)]


class MessageInput(RequestModel):
    """What messages with and without a template have in common."""

    to: Annotated[list[RecipientInput], Field(min_length=1, max_length=MOST_RECIPIENTS)]
    cc: Recipients = Field(default_factory=list)
    bcc: Recipients = Field(default_factory=list)
    from_name: Line | None = None
    reply_to: Address | None = None
    html: Text | None = None
    text: Text | None = None
    merge_vars: MergeVars = Field(
        default_factory=dict, description="Values of merge tags, for all recipients."
    )
    merge_language: Literal["mailchimp", "handlebars"] | None = Field(
        default=None,
        description="How merge tags are written: `*|NAME|*` or `{{name}}`; left out, as the account is"
        " set.",
    )
    tags: Annotated[list[Tag], Field(max_length=20)] = Field(default_factory=list)
    metadata: Metadata = Field(
        default_factory=dict, description="Shown and searchable at Mailchimp; not kept by mcsync."
    )
    attachments: Files = Field(default_factory=list)
    images: Files = Field(default_factory=list)
    important: bool | None = None
    track_opens: bool | None = None
    track_clicks: bool | None = None
    auto_text: bool | None = None
    inline_css: bool | None = None
    preserve_recipients: bool | None = Field(
        default=None,
        description="Whether recipients see each other; left out, they do where there is a cc.",
    )
    subaccount: Line | None = None
    send_at: Moment | None = Field(
        default=None,
        description="Not before this time, at most a year ahead. mcsync keeps it until then, so that it"
        " can be cancelled to the last moment and needs no paid plan.",
    )
    allow_duplicates: bool = Field(
        default=False,
        description="Send again, unasked, where a message is unconfirmed: rather twice than not at all.",
    )
    idempotency_key: Annotated[str, StringConstraints(pattern=r"^[!-~]{1,255}$")] | None = Field(
        default=None,
        description="Your own id of this message. The same one again is answered with the message that"
        " is there, for as long as it is kept; with another content it is a 409.",
    )

    @model_validator(mode="after")
    def _everybody_once(self) -> Self:
        everybody = [mailbox_of(each.email) for each in self.everybody()]
        if len(everybody) > MOST_RECIPIENTS:
            code, message = "too_long", f"At most {MOST_RECIPIENTS} recipients in all"
            raise PydanticCustomError(code, message)
        if len(set(everybody)) < len(everybody):
            code, message = "duplicate_recipient", "An address is among the recipients twice"
            raise PydanticCustomError(code, message)
        return self

    def everybody(self) -> list[RecipientInput]:
        """All recipients in the order of their numbers."""
        return [*self.to, *self.cc, *self.bcc]

    def kinds(self) -> list[Literal["to", "cc", "bcc"]]:
        """How each of :meth:`everybody` is addressed."""
        kinds: list[Literal["to", "cc", "bcc"]] = ["to"] * len(self.to)
        kinds += ["cc"] * len(self.cc)
        kinds += ["bcc"] * len(self.bcc)
        return kinds


_ATTACHMENT: JsonDict = {
    "name": "welcome.txt",
    "type": "text/plain",
    "content": "V2VsY29tZSB0byB0aGUgTGlzYm9uIHdhcmVob3VzZSE=",
}
_ADA: JsonDict = {
    "email": "ada.lindqvist@nordlicht-werke.example",
    "name": "Ada Lindqvist",
    "mergeVars": {"FNAME": "Ada"},
}


class SendInput(MessageInput):
    """A message whose content comes with it."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "to": [_ADA],
                    "fromEmail": "people@nordlicht-werke.example",
                    "fromName": "People team",
                    "subject": "Please confirm your address",
                    "html": "<p>Hello *|FNAME|*, <a href='https://intranet.nordlicht-werke.example/c/8f2'>"
                    "confirm your address</a>.</p>",
                    "autoText": True,
                    "tags": ["confirmation"],
                    "metadata": {"signup": 4711},
                    "attachments": [_ATTACHMENT],
                    "idempotencyKey": "signup-4711",
                }
            ]
        }
    )

    from_email: Address
    subject: Subject

    @model_validator(mode="after")
    def _says_something(self) -> Self:
        if self.html is None and self.text is None:
            code, message = "missing_content", "Give html, text or both"
            raise PydanticCustomError(code, message)
        return self


class SendTemplateInput(MessageInput):
    """A message made from a template; what the message says itself wins over the template."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "template": "welcome",
                    "templateContent": {"main": "<b>Shift news</b> every Monday."},
                    "to": [_ADA],
                    "tags": ["welcome"],
                    "sendAt": "2026-12-01T07:30:00Z",
                }
            ]
        }
    )

    template: TemplateName
    template_content: Annotated[dict[VarName, str], Field(max_length=100)] = Field(
        default_factory=dict,
        description="HTML for the template's editable regions, by their names.",
    )
    from_email: Address | None = None
    subject: Subject | None = None
