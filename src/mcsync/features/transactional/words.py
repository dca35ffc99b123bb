"""Mailchimp's words for what became of a message, and ours; when each recipient is asked for again."""

from __future__ import annotations

from typing import Any, Final

from mcsync.features.transactional.repository import RANKS
from mcsync.mailchimp.transactional import MessageInfo, RecipientOutcome

_STATES: Final = {
    "soft-bounced": "soft_bounced",
    "canceled": "cancelled",
    "unsub": "unsubscribed",
    "hard-bounced": "bounced",
}
EVENTS: Final = {
    "send": "sent",
    "delivered": "delivered",
    "deferral": "deferred",
    "hard_bounce": "bounced",
    "soft_bounce": "soft_bounced",
    "spam": "spam",
    "unsub": "unsubscribed",
    "reject": "rejected",
    "open": "sent",
    "click": "sent",
}
"""An event and the state it proves: who opened a message got it."""
POLLED_AT: Final = (120.0, 600.0, 3_600.0, 21_600.0, 86_400.0, 259_200.0)
"""Seconds between the questions about a recipient where no webhook reports."""
CHECKED_AT: Final = (21_600.0, 172_800.0)
"""The same where one does: a report may have been lost."""
_OPEN: Final = frozenset({"scheduled", "queued", "deferred", "sent", "delivered", "unknown"})


def state_of(word: str) -> str:
    """Our word for a state of Mailchimp's; ``unknown`` for one that is yet to come."""
    found = _STATES.get(word, word)
    return found if found in RANKS else "unknown"


def next_poll(status: str, polls: int, *, webhook: bool) -> float | None:
    """Seconds until a recipient is asked for; None where nothing more is to be learnt."""
    steps = CHECKED_AT if webhook else POLLED_AT
    return steps[polls] if status in _OPEN and polls < len(steps) else None


def of_outcome(no: int, outcome: RecipientOutcome, *, webhook: bool) -> dict[str, Any]:
    """What Mailchimp answered for a recipient, as a row."""
    status = state_of(outcome.status)
    return {
        "no": no,
        "provider_id": outcome.id,
        "status": status,
        "reason": outcome.reject_reason or outcome.queued_reason,
        "opens": 0,
        "clicks": 0,
        "poll": next_poll(status, 0, webhook=webhook),
    }


def of_info(no: int, info: MessageInfo, *, webhook: bool, polls: int = 0) -> dict[str, Any]:
    """What Mailchimp shows of a recipient, as a row."""
    status = state_of(info.state)
    return {
        "no": no,
        "provider_id": info.id,
        "status": status,
        "reason": None,
        "opens": info.opens,
        "clicks": info.clicks,
        "poll": next_poll(status, polls, webhook=webhook),
    }
