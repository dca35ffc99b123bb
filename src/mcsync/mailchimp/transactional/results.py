"""What Mandrill answers (MC 17)."""

from datetime import UTC, datetime
from enum import StrEnum
from typing import Annotated

from pydantic import AfterValidator, BeforeValidator, Field

from mcsync.mailchimp.types.base import Ident, MailchimpModel, Otherwise, Text


def _as_utc(value: datetime | None) -> datetime | None:
    """Mandrill's times bear no offset."""
    return value if value is None or value.tzinfo else value.replace(tzinfo=UTC)


def _as_mapping(value: object) -> object:
    """An empty mapping arrives as `[]`, or not at all."""
    return value if isinstance(value, dict) else {}


def _as_array(value: object) -> object:
    return value if isinstance(value, list | tuple) else ()


Moment = Annotated[datetime | None, AfterValidator(_as_utc), Otherwise(None)]
JsonObject = Annotated[dict[str, object], BeforeValidator(_as_mapping)]
Texts = Annotated[tuple[str, ...], BeforeValidator(_as_array)]


class SendStatus(StrEnum):
    """What became of a recipient at once. Models keep plain text, for states yet to come."""

    SENT = "sent"
    QUEUED = "queued"
    SCHEDULED = "scheduled"
    REJECTED = "rejected"
    INVALID = "invalid"


class RecipientOutcome(MailchimpModel):
    """The outcome for one recipient; an answer of 200 alone means nothing.

    `reject_reason` and `queued_reason` are Mandrill's words (MC 17.2), None where there is
    none. `id` is the message's id for this recipient.
    """

    id: Text = Field(default="", validation_alias="_id")
    email: Text = Field(default="", repr=False)
    status: Text = ""
    reject_reason: str | None = None
    queued_reason: str | None = None

    @property
    def accepted(self) -> bool:
        """Whether Mandrill has sent it or is going to."""
        return self.status in {SendStatus.SENT, SendStatus.QUEUED, SendStatus.SCHEDULED}


class Opening(MailchimpModel):
    """One open, or one click where `url` is set."""

    ts: Moment = None
    url: Text = Field(default="", repr=False)


class SmtpEvent(MailchimpModel):
    """What the recipient's server said."""

    ts: Moment = None
    type: Text = ""
    diag: Text = Field(default="", repr=False)


class MessageInfo(MailchimpModel):
    """One message to one recipient.

    `state` is sent, queued, scheduled, rejected, bounced, soft-bounced, spam, unsub, deferred
    or canceled, as Mandrill words it.
    """

    id: Text = Field(default="", validation_alias="_id")
    ts: Moment = None
    state: Text = ""
    sender: Text = Field(default="", repr=False)
    email: Text = Field(default="", repr=False)
    subject: Text = Field(default="", repr=False)
    template: Text = ""
    tags: Texts = ()
    opens: int = 0
    clicks: int = 0
    opens_detail: tuple[Opening, ...] = ()
    clicks_detail: tuple[Opening, ...] = ()
    smtp_events: tuple[SmtpEvent, ...] = ()
    metadata: JsonObject = Field(default_factory=dict, repr=False)
    subaccount: Text = ""


class ContentFile(MailchimpModel):
    """An attachment of a stored message."""

    name: Text = ""
    type: Text = ""
    content: Text = Field(default="", repr=False)


class ContentRecipient(MailchimpModel):
    """Whom a stored message went to."""

    email: Text = Field(default="", repr=False)
    name: Text = Field(default="", repr=False)


class MessageContent(MailchimpModel):
    """A message as it went out; kept for a while only."""

    id: Text = Field(default="", validation_alias="_id")
    ts: Moment = None
    from_email: Text = Field(default="", repr=False)
    from_name: Text = Field(default="", repr=False)
    subject: Text = Field(default="", repr=False)
    to: ContentRecipient = ContentRecipient()
    tags: Texts = ()
    headers: JsonObject = Field(default_factory=dict, repr=False)
    text: Text = Field(default="", repr=False)
    html: Text = Field(default="", repr=False)
    attachments: tuple[ContentFile, ...] = ()


class ScheduledMessage(MailchimpModel):
    """A message that waits for its time."""

    id: Text = Field(default="", validation_alias="_id")
    created_at: Moment = None
    send_at: Moment = None
    from_email: Text = Field(default="", repr=False)
    to: Text = Field(default="", repr=False)
    subject: Text = Field(default="", repr=False)


class Reject(MailchimpModel):
    """An address that Mandrill does not send to.

    `reason` is hard-bounce, soft-bounce, spam, unsub or custom.
    """

    email: Text = Field(default="", repr=False)
    reason: Text = ""
    detail: Text = Field(default="", repr=False)
    created_at: Moment = None
    last_event_at: Moment = None
    expires_at: Moment = None
    expired: bool = False
    subaccount: Text = ""


class AddedReject(MailchimpModel):
    """Answer of `rejects/add`; `added` is False for an address on the allowlist."""

    email: Text = Field(default="", repr=False)
    added: bool = False


class DeletedReject(MailchimpModel):
    """Answer of `rejects/delete`."""

    email: Text = Field(default="", repr=False)
    deleted: bool = False


class Template(MailchimpModel):
    """A template: its draft, and what `publish_*` says is sent."""

    slug: Text = ""
    name: Text = ""
    labels: Texts = ()
    subject: Text = ""
    from_email: Text = Field(default="", repr=False)
    from_name: Text = ""
    code: Text = Field(default="", repr=False)
    text: Text = Field(default="", repr=False)
    publish_name: Text = ""
    publish_subject: Text = ""
    publish_from_email: Text = Field(default="", repr=False)
    publish_from_name: Text = ""
    publish_code: Text = Field(default="", repr=False)
    publish_text: Text = Field(default="", repr=False)
    published_at: Moment = None
    created_at: Moment = None
    updated_at: Moment = None
    is_broken_template: bool = False


class RenderedTemplate(MailchimpModel):
    """Answer of `templates/render`."""

    html: Text = Field(default="", repr=False)


class MetadataField(MailchimpModel):
    """A metadata name that can be searched for once `state` is active (before: index)."""

    name: Text = ""
    state: Text = ""


class TransactionalWebhook(MailchimpModel):
    """A webhook. `auth_key` signs what it delivers; `last_error` is of the last delivery."""

    id: int
    url: Text = Field(default="", repr=False)
    auth_key: Text = Field(default="", repr=False)
    description: Text = ""
    events: Texts = ()
    created_at: Moment = None
    last_sent_at: Moment = None
    batches_sent: int = 0
    events_sent: int = 0
    last_error: Text = ""


class UserInfo(MailchimpModel):
    """The account behind the key. `hourly_quota` and `backlog` count messages."""

    username: Text = Field(default="", repr=False)
    public_id: Text = ""
    reputation: int = 0
    hourly_quota: int = 0
    backlog: int = 0
    created_at: Moment = None


class Pong(MailchimpModel):
    """Answer of `users/ping2`."""

    ping: Ident = Field(validation_alias="PING")
