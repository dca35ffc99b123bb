"""What the procedures of transactional mail take and answer; what a message holds is in content.py."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Literal
from uuid import UUID

from pydantic import AfterValidator, ConfigDict, Field, SecretStr
from pydantic.config import JsonDict

from mcsync.core.web.schemas import RequestModel, ResponseModel
from mcsync.features.transactional.content import MergeVars, TemplateName, VarName
from mcsync.mailchimp.transactional import TRANSACTIONAL_KEY_PATTERN

TransactionalStatus = Literal["connected", "needs_attention", "disconnected"]
MessageStatus = Literal["queued", "sending", "submitted", "unconfirmed", "failed", "cancelled"]
RecipientStatus = Literal[
    "pending", "scheduled", "queued", "deferred", "sent", "delivered", "soft_bounced", "bounced",
    "rejected", "invalid", "spam", "unsubscribed", "cancelled", "unconfirmed", "unknown",
]  # fmt: skip
MessageId = Annotated[UUID, Field(description="The message's id.")]


def _key_form(value: SecretStr) -> SecretStr:
    if TRANSACTIONAL_KEY_PATTERN.match(value.get_secret_value()) is None:
        message = (
            "this is not a Transactional API key: `md-` and 20 to 64 letters, digits, dashes or"
            " underscores, or 22 such without `md-`"
        )
        raise ValueError(message)
    return value


class ConnectTransactionalInput(RequestModel):
    """The key to connect with."""

    model_config = ConfigDict(
        json_schema_extra={"examples": [{"apiKey": "md-7Hq2vYw0Kc9sT4bLxN1eRg"}]}
    )

    api_key: Annotated[
        SecretStr,
        AfterValidator(_key_form),
        Field(
            description="A Mailchimp Transactional API key. It is verified, stored encrypted, never shown"
            " again.",
            json_schema_extra={"pattern": r"^(md-)?[0-9A-Za-z_-]{20,64}$"},
        ),
    ]


class TransactionalConnectionView(ResponseModel):
    """The link to the Transactional account, without its key."""

    id: UUID
    status: TransactionalStatus = Field(
        description="`needs_attention`: Mailchimp refuses the key, all mail waits; `statusDetail` says"
        " what to do. `disconnected` only in the answer of transactional.disconnect."
    )
    status_code: str | None
    status_detail: str | None
    account_id: str = Field(description="Mailchimp's public id of the account.")
    username: str
    key_last4: str
    connected_at: datetime
    verified_at: datetime
    outcomes_by: Literal["webhook", "polling"] = Field(
        description="How outcomes after the hand-over are learnt: by Mailchimp's signed webhook where the"
        " service has a public URL, else asked for on a schedule."
    )
    webhook_error: str | None = Field(
        description="Why the webhook could not be registered; tried again every hour."
    )
    soft_deleted_at: datetime | None

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "id": "019ab5a1-7c44-7d1e-9a51-0d7f5d3c2b22",
                    "status": "connected",
                    "statusCode": None,
                    "statusDetail": None,
                    "accountId": "8d3a3db4d976",
                    "username": "post@nordlicht-werke.example",
                    "keyLast4": "eRg7",
                    "connectedAt": "2026-11-23T09:12:44Z",
                    "verifiedAt": "2026-11-23T09:12:44Z",
                    "outcomesBy": "webhook",
                    "webhookError": None,
                    "softDeletedAt": None,
                }
            ]
        }
    )


class MessageInputId(RequestModel):
    """Names a message."""

    model_config = ConfigDict(
        json_schema_extra={"examples": [{"id": "019ab5b3-11d2-7a44-8f10-5c1d2e3f4a5b"}]}
    )

    id: MessageId


class StatusCount(ResponseModel):
    """How many recipients are in a state."""

    status: RecipientStatus
    count: int


_MESSAGE: JsonDict = {
    "id": "019ab5b3-11d2-7a44-8f10-5c1d2e3f4a5b",
    "status": "submitted",
    "errorCode": None,
    "errorDetail": None,
    "template": None,
    "tags": ["confirmation"],
    "recipients": 1,
    "outcomes": [{"status": "delivered", "count": 1}],
    "sendAt": None,
    "allowDuplicates": False,
    "handIns": 1,
    "createdAt": "2026-11-23T09:20:00Z",
    "handedInAt": "2026-11-23T09:20:01Z",
    "submittedAt": "2026-11-23T09:20:01Z",
    "nextAttemptAt": None,
}


class MessageView(ResponseModel):
    """A message, without whom it goes to and what it says."""

    id: UUID
    status: MessageStatus = Field(
        description="`queued`: waits for a worker or for `sendAt`. `sending`: being handed over, or looked"
        " up because Mailchimp's answer was lost. `submitted`: Mailchimp has it, see `outcomes`."
        " `unconfirmed`: the answer was lost and the message is not to be found after 15 minutes; it may"
        " have gone, transactional.resend sends it again. `failed`: refused as a whole, see `errorCode`."
    )
    error_code: str | None = Field(
        description="Why it failed, or what it waits for, such as `transactional_not_connected`."
    )
    error_detail: str | None
    template: str | None
    tags: list[str]
    recipients: int = Field(description="How many recipients it has.")
    outcomes: list[StatusCount]
    send_at: datetime | None
    allow_duplicates: bool
    hand_ins: int = Field(description="How often it was handed to Mailchimp.")
    created_at: datetime
    handed_in_at: datetime | None = Field(description="The time before the last hand-over.")
    submitted_at: datetime | None
    next_attempt_at: datetime | None = Field(
        description="When it is tried, or looked for, next; null once it is at rest."
    )

    model_config = ConfigDict(json_schema_extra={"examples": [_MESSAGE]})


class RecipientView(ResponseModel):
    """One recipient and what became of the message there."""

    email: str | None = Field(description="Null once the person was erased.")
    type: Literal["to", "cc", "bcc"]
    status: RecipientStatus = Field(
        description="`pending`: not handed over yet. `sent`, `queued`, `rejected`, `invalid`: Mailchimp's"
        " answer; the others are learnt later."
    )
    reason: str | None = Field(
        description="Why it is queued, rejected or bounced, in Mailchimp's words: `hard-bounce`, `spam`,"
        " `unsub`, `custom`, `unsigned`, ...; `suppressed` where mcsync kept it back, since the address"
        " was erased; the message's `errorCode` where Mailchimp refused it as a whole."
    )
    mailchimp_id: str | None = Field(description="Mailchimp's id of the message to this recipient.")
    opens: int
    clicks: int
    last_event_at: datetime | None


class MessageDetail(MessageView):
    """A message with its recipients."""

    people: list[RecipientView]

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    **_MESSAGE,
                    "people": [
                        {
                            "email": "ada.lindqvist@nordlicht-werke.example",
                            "type": "to",
                            "status": "delivered",
                            "reason": None,
                            "mailchimpId": "4b1f0c4e7d2a4c3f8e9a0b1c2d3e4f50",
                            "opens": 1,
                            "clicks": 0,
                            "lastEventAt": "2026-11-23T09:21:07Z",
                        }
                    ],
                }
            ]
        }
    )


class TemplateView(ResponseModel):
    """A template at Mailchimp Transactional."""

    template: str = Field(description="Its slug: what transactional.sendTemplate takes.")
    name: str
    labels: list[str]
    subject: str | None
    from_email: str | None
    from_name: str | None
    published_at: datetime | None = Field(description="Null: only a draft, which cannot be sent.")
    updated_at: datetime | None


class TemplateList(ResponseModel):
    """All templates."""

    items: list[TemplateView]

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "items": [
                        {
                            "template": "welcome",
                            "name": "Welcome",
                            "labels": ["onboarding"],
                            "subject": "Welcome, *|FNAME|*",
                            "fromEmail": "people@nordlicht-werke.example",
                            "fromName": "People team",
                            "publishedAt": "2026-10-01T08:00:00Z",
                            "updatedAt": "2026-10-01T08:00:00Z",
                        }
                    ]
                }
            ]
        }
    )


class RenderInput(RequestModel):
    """A template and what to fill into it."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "template": "welcome",
                    "templateContent": {"main": "<b>Shift news</b> every Monday."},
                    "mergeVars": {"FNAME": "Ada"},
                }
            ]
        }
    )

    template: TemplateName
    template_content: Annotated[dict[VarName, str], Field(max_length=100)] = Field(
        default_factory=dict
    )
    merge_vars: MergeVars = Field(default_factory=dict)


class RenderView(ResponseModel):
    """The HTML that a template gives."""

    html: str

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [{"html": "<p>Hello Ada</p><b>Shift news</b> every Monday."}]
        }
    )


class RejectView(ResponseModel):
    """An address that Mailchimp Transactional sends nothing to."""

    email: str
    reason: str = Field(description="`hard-bounce`, `soft-bounce`, `spam`, `unsub` or `custom`.")
    detail: str | None
    created_at: datetime | None
    last_event_at: datetime | None
    expires_at: datetime | None = Field(description="When it is lifted by itself; null: never.")


class RejectList(ResponseModel):
    """The rejects list, at most 1,000 addresses."""

    items: list[RejectView]

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "items": [
                        {
                            "email": "former.colleague@nordlicht-werke.example",
                            "reason": "hard-bounce",
                            "detail": "550 mailbox does not exist",
                            "createdAt": "2026-09-12T10:00:00Z",
                            "lastEventAt": "2026-09-12T10:00:00Z",
                            "expiresAt": "2026-12-11T10:00:00Z",
                        }
                    ]
                }
            ]
        }
    )
