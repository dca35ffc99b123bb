"""What a Transactional account holds: mails, templates, rejects, webhooks (MC 17)."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

Json = dict[str, Any]

EVENTS = (
    "send", "delivered", "deferral", "hard_bounce", "soft_bounce", "open", "click", "spam",
    "unsub", "reject", "blacklist", "whitelist",
)  # fmt: skip

SCHEDULED, QUEUED, SENT, REJECTED = "scheduled", "queued", "sent", "rejected"
INVALID, CANCELED = "invalid", "canceled"
BOUNCED, SOFT_BOUNCED, SPAM, UNSUB = "bounced", "soft-bounced", "spam", "unsub"
LEFT = (SENT, BOUNCED, SOFT_BOUNCED, SPAM, UNSUB)
"""States of what really went out."""


def stamp(second: float) -> str:
    """`2013-01-01 15:30:27`, UTC without saying so."""
    return datetime.fromtimestamp(int(second), UTC).strftime("%Y-%m-%d %H:%M:%S")


def parse_stamp(text: str) -> int | None:
    """The second of a time or a date, None if it is neither."""
    try:
        moment = datetime.fromisoformat(text.strip())
    except ValueError:
        return None
    return int((moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp())


@dataclass(slots=True, eq=False)
class Mail:
    """A message to one recipient."""

    id: str
    hand_in: str
    """Common to all recipients of one call."""
    ts: int
    email: str
    name: str
    kind: str
    from_email: str
    from_name: str
    subject: str
    html: str
    text: str
    template: str | None
    tags: list[str]
    metadata: Json
    headers: Json
    attachments: list[Json]
    state: str = QUEUED
    due: int = 0
    """When it is to go, if it waits for a time; 0 if it does not."""
    reject_reason: str | None = None
    queued_reason: str | None = None
    opens: list[Json] = field(default_factory=list)
    clicks: list[Json] = field(default_factory=list)
    smtp: list[Json] = field(default_factory=list)

    def info(self) -> Json:
        """As /messages/info and search show it."""
        return {
            "ts": self.ts,
            "_id": self.id,
            "sender": self.from_email,
            "template": self.template,
            "subject": self.subject,
            "email": self.email,
            "tags": self.tags,
            "opens": len(self.opens),
            "opens_detail": self.opens,
            "clicks": len(self.clicks),
            "clicks_detail": self.clicks,
            "state": self.state,
            # An empty mapping is an array in PHP.
            "metadata": self.metadata or [],
            "smtp_events": self.smtp,
            "subaccount": None,
            "resends": [],
            "reject": None if self.reject_reason is None else {"reason": self.reject_reason},
        }

    def outcome(self) -> Json:
        """As the call that handed it in answers."""
        return {
            "email": self.email,
            "status": self.state,
            "_id": self.id,
            "reject_reason": self.reject_reason,
            "queued_reason": self.queued_reason,
        }


@dataclass(slots=True)
class Template:
    """A template; what is sent is the published part."""

    slug: str
    name: str
    created: int
    draft: dict[str, str]
    """code, subject, from_email, from_name, text"""
    labels: list[str]
    published: dict[str, str] | None = None
    published_at: int = 0
    updated: int = 0

    def view(self) -> Json:
        sent = self.published or {}
        body: Json = {
            "slug": self.slug,
            "name": self.name,
            "labels": self.labels,
            **self.draft,
            "publish_name": self.name,
            "published_at": stamp(self.published_at) if self.published_at else None,
            "created_at": stamp(self.created),
            "updated_at": stamp(self.updated or self.created),
            "draft_updated_at": stamp(self.updated or self.created),
            "is_broken_template": False,
        }
        return body | {f"publish_{part}": sent.get(part, "") for part in self.draft}


@dataclass(slots=True)
class Reject:
    """An address that gets nothing."""

    email: str
    reason: str
    detail: str
    created: int

    def view(self) -> Json:
        moment = stamp(self.created)
        return {
            "email": self.email,
            "reason": self.reason,
            "detail": self.detail,
            "created_at": moment,
            "last_event_at": moment,
            "expires_at": None,
            "expired": False,
            "subaccount": None,
        }


@dataclass(slots=True)
class Hook:
    """A webhook with the events that wait for it."""

    id: int
    url: str
    auth_key: str
    description: str
    events: list[str]
    created: int
    waiting: list[Json] = field(default_factory=list)
    last_sent: int = 0
    batches: int = 0
    sent: int = 0
    failures: int = 0
    disabled: bool = False
    last_error: str | None = None
    task: asyncio.Task[None] | None = None

    def view(self) -> Json:
        return {
            "id": self.id,
            "url": self.url,
            "auth_key": self.auth_key,
            "description": self.description,
            "events": self.events,
            "created_at": stamp(self.created),
            "last_sent_at": stamp(self.last_sent) if self.last_sent else None,
            "batches_sent": self.batches,
            "events_sent": self.sent,
            "last_error": self.last_error,
        }
