"""Reading what a webhook posts (MC 9).

The post is a form with bracketed names (`data[merges][FNAME]`), its fields are documented by
examples only, and anybody who knows the address can send one. So unknown types and fields are
let through, sizes are bounded, and nothing here is more than a hint to read the member.
"""

import re
import urllib.parse
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Final, TypedDict

MAX_WEBHOOK_BYTES: Final = 64 * 1024
MAX_WEBHOOK_FIELDS: Final = 1000
_MOST_NAME: Final = 256
_MOST_ADDRESS: Final = 320
_MOST_ID: Final = 64
_DEEPEST: Final = 6
_NAME: Final = re.compile(r"([^\[\]]+)((?:\[[^\[\]]*\])*)")
_STEP: Final = re.compile(r"\[([^\[\]]*)\]")

Fields = dict[str, "str | Fields"]


class MalformedWebhook(ValueError):
    """Not the form of a webhook. The text says what is wrong and repeats nothing of it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class WebhookEvent:
    """What all posts have in common; of this very class where the type is unknown.

    `fired_at` is taken for UTC and None where it cannot be read. `list_id` is empty where the post names
    no audience. Mailchimp sends no id of a delivery; `identity` is what the repetitions of one post share.
    """

    type: str
    fired_at: datetime | None
    list_id: str

    @property
    def identity(self) -> tuple[str, ...]:
        """Type, time, audience, then id and addresses. Holds personal data: hash before storing."""
        moment = "" if self.fired_at is None else self.fired_at.isoformat()
        return (self.type, moment, self.list_id, *self._subject())

    def _subject(self) -> tuple[str, ...]:
        return ()


@dataclass(frozen=True, slots=True, kw_only=True)
class MemberEvent(WebhookEvent):
    """What the events that show a member have in common."""

    email: str = field(repr=False)
    id: str
    """10 hex characters, not the member's MD5 (MC 9): join on the address."""
    email_type: str
    ip_opt: str = field(repr=False)
    ip_signup: str = field(repr=False)
    merges: Mapping[str, object] = field(repr=False)

    @property
    def interests(self) -> tuple[str, ...]:
        """The names of the groups that the member chose; a comma in a name is escaped (MC 21)."""
        listed = self.merges.get("INTERESTS")
        return split_interests(listed) if isinstance(listed, str) else ()

    def _subject(self) -> tuple[str, ...]:
        return (self.id, self.email)


@dataclass(frozen=True, slots=True, kw_only=True)
class SubscribeEvent(MemberEvent):
    """Somebody is subscribed now."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ProfileEvent(MemberEvent):
    """A profile changed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class UnsubscribeEvent(MemberEvent):
    """Somebody is gone: unsubscribed (`unsub`), archived or deleted (`delete`).

    `action` is at times empty; `reason` is `manual` or `abuse`.
    """

    action: str
    reason: str
    campaign_id: str


@dataclass(frozen=True, slots=True, kw_only=True)
class CleanedEvent(WebhookEvent):
    """An address is dead (`hard`) or complained (`abuse`)."""

    email: str = field(repr=False)
    reason: str
    campaign_id: str

    def _subject(self) -> tuple[str, ...]:
        return (self.email,)


@dataclass(frozen=True, slots=True, kw_only=True)
class UpemailEvent(WebhookEvent):
    """A member has another address; a profile event may come along."""

    new_id: str
    new_email: str = field(repr=False)
    old_email: str = field(repr=False)

    def _subject(self) -> tuple[str, ...]:
        return (self.new_id, self.old_email, self.new_email)


@dataclass(frozen=True, slots=True, kw_only=True)
class CampaignEvent(WebhookEvent):
    """A campaign was sent or cancelled."""

    id: str
    subject: str
    status: str
    reason: str

    def _subject(self) -> tuple[str, ...]:
        return (self.id, self.status)


def parse_webhook(raw_body: bytes) -> WebhookEvent:
    """Return the event of a post, of the class of its type.

    Raises `MalformedWebhook` for what is no such form, is too large (64 KiB, 1000 fields), or
    lacks the addresses that its type cannot be without. A post may lack its audience (MC 21): then
    `list_id` is empty, and the path that it came to says which one it is.
    """
    form = _form(raw_body)
    kind = _text(form, "type")
    if not kind or len(kind) > _MOST_ID:
        raise MalformedWebhook("no type")
    data = form.get("data", {})
    if isinstance(data, str):
        raise MalformedWebhook("data is no group of fields")
    read = _READERS.get(kind)
    list_id = _text(data, "list_id")
    if len(list_id) > _MOST_ID or isinstance(data.get("list_id"), dict):
        raise MalformedWebhook("no audience")
    head = _Head(type=kind, fired_at=_moment(_text(form, "fired_at")), list_id=list_id)
    return WebhookEvent(**head) if read is None else read(head, data)


def split_interests(listed: str) -> tuple[str, ...]:
    """Split Mailchimp's list of groups: by commas, a blank after each; a backslash escapes a comma in a name."""
    names = [""]
    escaped = False
    for letter in listed:
        if letter == "\\" and not escaped:
            escaped = True
            continue
        if letter == "," and not escaped:
            names.append("")
        else:
            names[-1] += letter if letter in ",\\" or not escaped else f"\\{letter}"
        escaped = False
    if escaped:
        names[-1] += "\\"
    return tuple(name for each in names if (name := each.strip()))


def _form(raw_body: bytes) -> Fields:
    if len(raw_body) > MAX_WEBHOOK_BYTES:
        raise MalformedWebhook("too large")
    try:
        pairs = urllib.parse.parse_qsl(
            raw_body.decode("ascii"),
            keep_blank_values=True,
            errors="strict",
            max_num_fields=MAX_WEBHOOK_FIELDS,
        )
    except ValueError:
        # Not chained: the cause would quote the body.
        raise MalformedWebhook("not a form, or too many fields") from None
    form: Fields = {}
    for name, value in pairs:
        if "\0" in name or "\0" in value:
            raise MalformedWebhook("a zero byte")
        _place(form, _steps(name), value)
    return form


def _steps(name: str) -> list[str]:
    found = _NAME.fullmatch(name) if len(name) <= _MOST_NAME else None
    if found is None:
        raise MalformedWebhook("a field's name")
    steps = [found[1], *_STEP.findall(found[2])]
    if len(steps) > _DEEPEST:
        raise MalformedWebhook("fields nested too deep")
    return steps


def _place(form: Fields, steps: list[str], value: str) -> None:
    """Put a value at its place; of two at one place the last counts."""
    for step in steps[:-1]:
        inner = form.setdefault(step, {})
        if isinstance(inner, str):
            raise MalformedWebhook("a field that is both a value and a group")
        form = inner
    last = steps[-1] or str(len(form))
    if isinstance(form.get(last), dict):
        raise MalformedWebhook("a field that is both a value and a group")
    form[last] = value


def _text(fields: Fields, name: str) -> str:
    found = fields.get(name, "")
    return found if isinstance(found, str) else ""


def _address(fields: Fields, name: str) -> str:
    merges = fields.get("merges", {})
    found = _text(fields, name).strip()
    if not found and name == "email" and isinstance(merges, dict):
        found = _text(merges, "EMAIL").strip()
    if not found or "@" not in found or len(found) > _MOST_ADDRESS:
        raise MalformedWebhook("no address")
    return found


def _moment(text: str) -> datetime | None:
    try:
        return datetime.strptime(text, "%Y-%m-%d %H:%M:%S").replace(tzinfo=UTC)
    except ValueError:
        return None


class _Head(TypedDict):
    type: str
    fired_at: datetime | None
    list_id: str


class _Member(TypedDict):
    email: str
    id: str
    email_type: str
    ip_opt: str
    ip_signup: str
    merges: Mapping[str, object]


def _member(data: Fields) -> _Member:
    merges = data.get("merges", {})
    return _Member(
        email=_address(data, "email"),
        id=_text(data, "id")[:_MOST_ID],
        email_type=_text(data, "email_type"),
        ip_opt=_text(data, "ip_opt"),
        ip_signup=_text(data, "ip_signup"),
        merges=merges if isinstance(merges, dict) else {},
    )


def _subscribe(head: _Head, data: Fields) -> WebhookEvent:
    return SubscribeEvent(**head, **_member(data))


def _profile(head: _Head, data: Fields) -> WebhookEvent:
    return ProfileEvent(**head, **_member(data))


def _unsubscribe(head: _Head, data: Fields) -> WebhookEvent:
    return UnsubscribeEvent(
        **head,
        **_member(data),
        action=_text(data, "action"),
        reason=_text(data, "reason"),
        campaign_id=_text(data, "campaign_id"),
    )


def _cleaned(head: _Head, data: Fields) -> WebhookEvent:
    return CleanedEvent(
        **head,
        email=_address(data, "email"),
        reason=_text(data, "reason"),
        campaign_id=_text(data, "campaign_id"),
    )


def _upemail(head: _Head, data: Fields) -> WebhookEvent:
    return UpemailEvent(
        **head,
        new_id=_text(data, "new_id")[:_MOST_ID],
        new_email=_address(data, "new_email"),
        old_email=_address(data, "old_email"),
    )


def _campaign(head: _Head, data: Fields) -> WebhookEvent:
    return CampaignEvent(
        **head,
        id=_text(data, "id")[:_MOST_ID],
        subject=_text(data, "subject"),
        status=_text(data, "status"),
        reason=_text(data, "reason"),
    )


_READERS: Final[dict[str, Callable[[_Head, Fields], WebhookEvent]]] = {
    "subscribe": _subscribe,
    "unsubscribe": _unsubscribe,
    "profile": _profile,
    "cleaned": _cleaned,
    "upemail": _upemail,
    "campaign": _campaign,
}
