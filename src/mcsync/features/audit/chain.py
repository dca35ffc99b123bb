"""The hash of an entry: over everything it says and the hash of the one before.

The form is fixed for ever, since old entries are verified with it: SHA-256 over JSON with sorted keys,
no spaces, UTF-8, of the fields named in :func:`entry_hash`.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from datetime import UTC, date, datetime
from typing import Any, Final
from uuid import UUID

GENESIS: Final = bytes(32)
"""What the first entry of an organisation follows."""
_LARGEST_PLAIN: Final = 1e15


def entry_hash(previous: bytes, entry: Mapping[str, Any]) -> bytes:
    """The link. ``entry`` maps column names to values, as written or as read back."""
    document = {
        "orgId": str(entry["org_id"]),
        "seq": entry["seq"],
        "at": entry["at"].astimezone(UTC).isoformat(timespec="microseconds"),
        "actorKind": entry["actor_kind"],
        "actorId": entry["actor_id"],
        "actorLabel": entry["actor_label"],
        "action": entry["action"],
        "entityType": entry["entity_type"],
        "entityId": entry["entity_id"],
        "requestId": entry["request_id"],
        "diff": entry["diff"],
        "previous": previous.hex(),
    }
    text = json.dumps(document, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return hashlib.sha256(text.encode()).digest()


def plain(value: object) -> Any:
    """The value as JSON that PostgreSQL gives back unchanged, so that its hash can be verified."""
    match value:
        case None | bool() | int():
            return value
        case float():
            # jsonb writes 1e22 in full and drops the sign of -0.0
            is_safe = (
                abs(value) < _LARGEST_PLAIN and "e" not in repr(value) and str(value) != "-0.0"
            )
            return value if is_safe else repr(value)
        case str():
            return str(value).replace("\0", "")
        case UUID() | date():
            return value.isoformat() if isinstance(value, date | datetime) else str(value)
        case Mapping():
            return {str(key).replace("\0", ""): plain(item) for key, item in value.items()}
        case list() | tuple():
            return [plain(item) for item in value]
        case set() | frozenset():
            return sorted((plain(item) for item in value), key=str)
    return str(value)
