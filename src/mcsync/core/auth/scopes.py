"""Scopes are what procedures ask for; roles are what people are given, and only expand to scopes."""

from __future__ import annotations

from enum import StrEnum
from typing import Final


class Scope(StrEnum):
    """The right to one kind of act."""

    CONNECTION_READ = "connection:read"
    CONNECTION_MANAGE = "connection:manage"
    CONTACTS_READ = "contacts:read"
    CONTACTS_WRITE = "contacts:write"
    AUDIENCES_READ = "audiences:read"
    AUDIENCES_WRITE = "audiences:write"
    SEGMENTS_READ = "segments:read"
    SEGMENTS_WRITE = "segments:write"
    SYNC_RUN = "sync:run"
    SYNC_APPROVE = "sync:approve"
    PREFERENCES_READ = "preferences:read"
    PREFERENCES_WRITE = "preferences:write"
    CONSENT_ERASE = "consent:erase"
    AUDIT_READ = "audit:read"
    CAMPAIGNS_READ = "campaigns:read"
    CAMPAIGNS_WRITE = "campaigns:write"
    SOURCES_READ = "sources:read"
    SOURCES_PULL = "sources:pull"
    SUBSCRIBERS_READ = "subscribers:read"
    SUBSCRIBERS_WRITE = "subscribers:write"
    SUBSCRIBERS_REQUEST = "subscribers:request"
    """Asking that somebody be asked to confirm: all that a publishable token may do."""
    SUBSCRIBERS_DIRECT = "subscribers:direct"
    """Subscribing somebody without asking them, on recorded proof."""
    TRANSACTIONAL_READ = "transactional:read"
    TRANSACTIONAL_SEND = "transactional:send"


class Role(StrEnum):
    """What a token may do, in one word."""

    VIEWER = "viewer"
    EDITOR = "editor"
    OWNER = "owner"


_VIEWER: Final = frozenset(scope for scope in Scope if scope.endswith(":read"))
_OWNERS_ONLY: Final = frozenset(
    {
        Scope.CONNECTION_MANAGE,
        Scope.CONSENT_ERASE,
        Scope.SOURCES_PULL,
        Scope.SUBSCRIBERS_DIRECT,
    }
)
_SCOPES: Final = {
    Role.VIEWER: _VIEWER,
    Role.EDITOR: frozenset(Scope) - _OWNERS_ONLY,
    Role.OWNER: frozenset(Scope),
}


PUBLISHABLE: Final = "publishable"
"""What a token that stands in a public page is called where others have a role."""
PUBLISHABLE_SCOPES: Final = frozenset({Scope.SUBSCRIBERS_REQUEST})


def scopes_of(role: Role) -> frozenset[Scope]:
    """viewer reads; editor also writes, runs and approves; owner also connects, erases and pulls sources."""
    return _SCOPES[role]
