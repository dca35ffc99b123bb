"""Who calls and what they may: tokens, roles, scopes, and the dependency that asks for one."""

from mcsync.core.auth.actor import Actor, ActorKind
from mcsync.core.auth.deps import ActorDep, requires
from mcsync.core.auth.scopes import Role, Scope, scopes_of

__all__ = ["Actor", "ActorDep", "ActorKind", "Role", "Scope", "requires", "scopes_of"]
