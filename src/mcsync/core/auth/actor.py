"""Who does something, for the rules and for the audit."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal
from uuid import UUID

from mcsync.core.auth.scopes import Scope

ActorKind = Literal["token", "user", "system", "cli"]


@dataclass(frozen=True, slots=True)
class Actor:
    """One organisation's actor. ``id`` is the token's or user's id, ``label`` its name."""

    org_id: UUID
    kind: ActorKind
    id: str | None
    label: str | None
    scopes: frozenset[Scope] = field(default=frozenset())
    request_id: str | None = None
    audiences: frozenset[str] | None = None
    """Of a publishable token: the audiences (Mailchimp's ids) it is for. None: no such limit."""

    @classmethod
    def system(cls, org_id: UUID, label: str, *, request_id: str | None = None) -> Actor:
        """mcsync itself, e.g. a worker; ``label`` names the job."""
        return cls(org_id, "system", None, label, frozenset(Scope), request_id)

    @classmethod
    def cli(cls, org_id: UUID, label: str | None = None) -> Actor:
        """An operator at the command line; ``label`` is the login name."""
        return cls(org_id, "cli", None, label, frozenset(Scope))

    def may(self, scope: Scope) -> bool:
        """Whether the actor holds a scope."""
        return scope in self.scopes
