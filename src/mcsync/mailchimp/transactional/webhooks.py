"""Webhooks of the Transactional API: is it genuine, and what does it say (MC 17.4)."""

import base64
import hashlib
import hmac
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Final

import orjson
from pydantic import BeforeValidator, Field, ValidationError

from mcsync.mailchimp.transactional.results import JsonObject, Moment, Reject, SmtpEvent, Texts
from mcsync.mailchimp.types.base import Ident, MailchimpModel, Text

SIGNATURE_HEADER: Final = "X-Mandrill-Signature"
EVENTS_FIELD: Final = "mandrill_events"
TEST_KEY: Final = "test-webhook"
"""Signs the first, empty delivery, which comes before the webhook has a key of its own."""
MOST_EVENTS: Final = 1000
MAX_EVENTS_BYTES: Final = 16 * 1024 * 1024
"""A thousand events of their usual size are about 3 MiB."""


def mandrill_signature(key: str, url: str, params: Mapping[str, str]) -> str:
    """Return what Mandrill puts into `X-Mandrill-Signature`.

    `url` is the webhook's own, byte for byte; `params` are the decoded fields of the POST.
    """
    signed = url + "".join(name + params[name] for name in sorted(params))
    digest = hmac.new(key.encode(), signed.encode(), hashlib.sha1).digest()
    return base64.b64encode(digest).decode()


def verify_mandrill_signature(
    key: str, url: str, params: Mapping[str, str], header: str | None
) -> bool:
    """Whether the header signs this delivery; compares in constant time.

    False for a missing header or an empty key, which anybody could have signed with.
    """
    if not key or not header:
        return False
    expected = mandrill_signature(key, url, params)
    return hmac.compare_digest(expected.encode(), header.strip().encode())


def _as_mapping(value: object) -> object:
    return value if isinstance(value, dict) else {}


class EventMessage(MailchimpModel):
    """The message an event is about, as it was then."""

    id: Text = Field(default="", validation_alias="_id")
    ts: Moment = None
    state: Text = ""
    email: Text = Field(default="", repr=False)
    sender: Text = Field(default="", repr=False)
    subject: Text = Field(default="", repr=False)
    template: Text = ""
    tags: Texts = ()
    metadata: JsonObject = Field(default_factory=dict, repr=False)
    smtp_events: tuple[SmtpEvent, ...] = ()
    bounce_description: Text = ""
    diag: Text = Field(default="", repr=False)


class MessageEvent(MailchimpModel):
    """Something happened to a message.

    `event` is Mandrill's word: send, delivered, deferral, hard_bounce, soft_bounce, open,
    click, spam, unsub, reject. `url` is what was clicked.
    """

    event: Ident
    ts: Moment = None
    id: Text = Field(default="", validation_alias="_id")
    msg: Annotated[EventMessage, BeforeValidator(_as_mapping)] = EventMessage()
    url: Text = Field(default="", repr=False)


class SyncEvent(MailchimpModel):
    """The rejects list (type blacklist) or the allowlist (whitelist) changed.

    `action` is add, change or remove.
    """

    type: Ident
    action: Text = ""
    ts: Moment = None
    reject: Reject | None = None


@dataclass(frozen=True, slots=True)
class Delivery:
    """The events of one delivery, in Mandrill's order, and how many could not be read."""

    events: tuple[MessageEvent | SyncEvent, ...]
    unreadable: int = 0


class UnreadableEventsError(ValueError):
    """The delivery as a whole is no list of events, or too long. Its text holds no content."""


def parse_events(
    text: str | bytes, *, most: int = MOST_EVENTS, max_bytes: int = MAX_EVENTS_BYTES
) -> Delivery:
    """Read the field `mandrill_events` of a delivery whose signature was found right.

    Events of unknown kinds are kept. One that cannot be read is counted and left out, since
    refusing the delivery would bring it again and again. Raises `UnreadableEventsError`.
    """
    raw = text.encode() if isinstance(text, str) else text
    if len(raw) > max_bytes:
        message = "the delivery is too long"
        raise UnreadableEventsError(message)
    try:
        found = orjson.loads(raw)
    except orjson.JSONDecodeError:
        message = "the delivery is not JSON"
        raise UnreadableEventsError(message) from None
    if not isinstance(found, list) or len(found) > most:
        message = f"the delivery is not a list of at most {most} events"
        raise UnreadableEventsError(message)
    events: list[MessageEvent | SyncEvent] = []
    for entry in found:
        model = MessageEvent if isinstance(entry, dict) and "event" in entry else SyncEvent
        try:
            events.append(model.model_validate(entry))
        except ValidationError:
            continue
    return Delivery(tuple(events), len(found) - len(events))
