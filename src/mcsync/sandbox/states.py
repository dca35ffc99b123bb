"""The status machine of MC 4.4: what a request for a status does to a member."""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .config import SandboxConfig

STATUSES = ("subscribed", "unsubscribed", "cleaned", "pending", "transactional", "archived")
SUBSCRIBED, UNSUBSCRIBED, CLEANED, PENDING, TRANSACTIONAL, ARCHIVED = range(6)

CODES = {name: code for code, name in enumerate(STATUSES)}
WRITABLE = {name: code for name, code in CODES.items() if code != ARCHIVED}
"""What a request may name as a status; `archived` is reached by DELETE only (MC 3.3, 4.5)."""

ALL = tuple(range(6))
NOT_ARCHIVED = tuple(range(5))

ADMIN_REASON = "N/A (Unsubscribed by admin)"
OLD_ADMIN_REASON = "N/A (Unsubscribed by an admin)"
"""The wording of before 2018 (MC 21)."""
PERSON_REASON = "Unspecified"
ABUSE_REASON = "Abuse complaint"


class By(StrEnum):
    """Who unsubscribed a member: decides whether the API may subscribe it again (MC 4.4)."""

    NOBODY = ""
    PERSON = "person"
    ADMIN = "admin"
    API = "api"


def admin_reason(config: SandboxConfig) -> str:
    """The reason that an unsubscribe by the API or by staff leaves (MC 21)."""
    return OLD_ADMIN_REASON if config.says_an_admin else ADMIN_REASON


class Refused(Exception):
    """The transition needs the person: Member In Compliance State."""


def next_status(current: int, wanted: int, *, by_person: bool, config: SandboxConfig) -> int:
    """The status after a request for `wanted`; the same as `current` if nothing changes; Refused if not allowed.

    For an archived member `current` is ARCHIVED whatever it was before: by default the way back is open (MC 4.4).
    """
    if wanted == current:
        return current
    if current == UNSUBSCRIBED:
        return _from_unsubscribed(wanted, by_person=by_person)
    if current == CLEANED:
        if wanted in (SUBSCRIBED, PENDING):
            raise Refused
        return current
    if current == SUBSCRIBED and wanted == PENDING:
        return PENDING if config.subscribed_turns_pending else current
    if wanted == TRANSACTIONAL and current != ARCHIVED:
        return current
    return wanted


def _from_unsubscribed(wanted: int, *, by_person: bool) -> int:
    """A person who left can only be asked again (pending); who was taken off by us may simply return."""
    if wanted == SUBSCRIBED and by_person:
        raise Refused
    return wanted if wanted in (SUBSCRIBED, PENDING) else UNSUBSCRIBED
