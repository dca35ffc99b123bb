"""What the audit's procedures say."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, ConfigDict
from pydantic.config import JsonDict

from mcsync.core.web.schemas import Page, ResponseModel, Timestamp
from mcsync.features.audit.actions import AuditAction

_ENTRY_EXAMPLE: JsonDict = {
    "seq": 42,
    "at": "2026-03-01T09:30:00.000000Z",
    "actorKind": "token",
    "actorId": "0198c1d2-7a10-7c3e-9d52-3f1b8e0a4c11",
    "actorLabel": "HR platform",
    "action": "segments.create",
    "entityType": "segment",
    "entityId": "0198c1d2-8b21-7d4f-8e63-402c9f1b5d22",
    "requestId": "6f1c1e0b7f3a4f1f9a7f5f0a3c2d1e0b",
    "diff": {"optIn": "single"},
    "hash": "9b74c9897bac770ffc029102a200c5de9b74c9897bac770ffc029102a200c5de",
}


def _hex(value: object) -> object:
    return value.hex() if isinstance(value, bytes) else value


class AuditEntryOut(ResponseModel):
    """One state change."""

    model_config = ConfigDict(json_schema_extra={"example": _ENTRY_EXAMPLE})

    seq: int
    """Its place in the organisation's chain, from 1."""
    at: Timestamp
    actor_kind: Literal["token", "user", "system", "cli"]
    actor_id: str | None
    actor_label: str | None
    action: str
    """`subject.verb`, from a closed list."""
    entity_type: str
    entity_id: str | None
    request_id: str | None
    """The `X-Request-Id` of the call that did it."""
    diff: dict[str, Any]
    """What changed, without personal data."""
    hash: Annotated[str, BeforeValidator(_hex)]
    """SHA-256 over this entry and the hash of the one before, in hex."""


class AuditPage(Page[AuditEntryOut]):
    """Entries, newest first."""


BreakReason = Literal["missing", "changed", "head_changed"]


class Verification(ResponseModel):
    """The outcome of going over the whole chain."""

    model_config = ConfigDict(
        json_schema_extra={
            "example": {
                "valid": True,
                "entries": 1042,
                "head": _ENTRY_EXAMPLE["hash"],
                "brokenAt": None,
                "reason": None,
            }
        }
    )

    valid: bool
    entries: int
    """How many entries were found to be in order."""
    head: str
    """The hash of the newest entry. Keep a copy elsewhere to prove that none was cut off the end."""
    broken_at: int | None
    """The first entry that is not in order."""
    reason: BreakReason | None


ExportKind = Literal["csv", "ndjson"]

EXPORT_EXAMPLES: dict[str, str] = {
    "text/csv": "seq,at,actorKind,actorId,actorLabel,action,entityType,entityId,requestId,diff,hash,"
    "previousHash\r\n"
    "42,2026-03-01T09:30:00.000000Z,token,0198c1d2-7a10-7c3e-9d52-3f1b8e0a4c11,HR platform,"
    "segments.create,segment,0198c1d2-8b21-7d4f-8e63-402c9f1b5d22,6f1c1e0b7f3a4f1f9a7f5f0a3c2d1e0b,"
    '"{""optIn"":""single""}",9b74c989...,3c1e5f70...\r\n',
    "application/x-ndjson": '{"seq":42,"at":"2026-03-01T09:30:00.000000Z","actorKind":"token",'
    '"action":"segments.create","entityType":"segment","diff":{"optIn":"single"},...}\n',
}


@dataclass(frozen=True, slots=True)
class AuditFilter:
    """Which entries to list; None means any."""

    action: AuditAction | None = None
    entity_type: str | None = None
    entity_id: str | None = None
    actor_id: str | None = None
    since: datetime | None = None
    until: datetime | None = None
