"""Webhooks of an audience and the posts they get: what is kept of both (MC 9)."""

from __future__ import annotations

import asyncio
import hmac
import secrets
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Any

EVENTS = ("subscribe", "unsubscribe", "profile", "cleaned", "upemail", "campaign")
SOURCES = ("user", "admin", "api")

PENDING, HELD, DELIVERED, LOST, DROPPED = "pending", "held", "delivered", "lost", "dropped"


@dataclass(slots=True, eq=False)
class Webhook:
    """One webhook. `flags` are its events, `sources` whose acts it reports."""

    id: str
    list_id: str
    url: str
    flags: dict[str, bool]
    sources: dict[str, bool]
    slots: asyncio.Semaphore
    """Posts on their way at a time."""
    secret: str = ""
    """Set once signing was switched on."""
    signing: bool = False
    disabled: str = ""
    """Why it gets nothing any more; empty while it does."""
    losses: int = 0
    """Deliveries lost in a row."""
    removed: bool = False

    def wants(self, event: str, source: str) -> bool:
        """Whether an event of this source is to be posted here."""
        return not self.disabled and self.flags[event] and self.sources[source]

    def sign(self, body: bytes, second: int) -> str:
        """The value of X-Mailchimp-Signature; empty where signing is off."""
        if not self.signing:
            return ""
        text = str(second).encode() + b"." + body
        return f"t={second},v1={hmac.new(self.secret.encode(), text, sha256).hexdigest()}"

    def view(self) -> dict[str, Any]:
        """For the control API: everything."""
        return {
            "id": self.id,
            "listId": self.list_id,
            "url": self.url,
            "events": self.flags,
            "sources": self.sources,
            "signingEnabled": self.signing,
            "signingSecret": self.secret or None,
            "disabled": self.disabled or None,
            "losses": self.losses,
        }


def new_id() -> str:
    """10 hex characters (MC 2)."""
    return secrets.token_hex(5)


@dataclass(slots=True)
class Attempt:
    """One try to deliver; `status` 0 means that no answer came."""

    at: float
    """Unix seconds, of the host's clock."""
    status: int
    seconds: float
    signature: str
    answer: str


@dataclass(slots=True, eq=False)
class Delivery:
    """One post to one webhook, with all tries to deliver it."""

    seq: int
    hook: Webhook
    type: str
    email: str
    body: bytes
    state: str = PENDING
    repeats: int = 0
    """`seq` of the delivery that this one repeats, 0 for an original."""
    attempts: list[Attempt] = field(default_factory=list)

    def view(self) -> dict[str, Any]:
        """For the control API."""
        return {
            "seq": self.seq,
            "webhookId": self.hook.id,
            "listId": self.hook.list_id,
            "url": self.hook.url,
            "type": self.type,
            "email": self.email,
            "body": self.body.decode(),
            "state": self.state,
            "repeats": self.repeats or None,
            "attempts": [
                {
                    "at": each.at,
                    "status": each.status,
                    "seconds": each.seconds,
                    "signature": each.signature or None,
                    "answer": each.answer,
                }
                for each in self.attempts
            ],
        }
