"""Who calls and what they may: tokens, roles, scopes, and the dependency that asks for one."""

from typing import TYPE_CHECKING, Any

from mcsync.core.auth.actor import Actor, ActorKind
from mcsync.core.auth.scopes import Role, Scope, scopes_of

if TYPE_CHECKING:
    from mcsync.core.auth.deps import ActorDep, requires

__all__ = ["Actor", "ActorDep", "ActorKind", "Role", "Scope", "requires", "scopes_of"]


def __getattr__(name: str) -> Any:
    # not at the top: only routers want these two, and they import the web framework
    if name in {"ActorDep", "requires"}:
        from mcsync.core.auth import deps

        found = getattr(deps, name)
        globals()[name] = found
        return found
    message = f"module {__name__!r} has no attribute {name!r}"
    raise AttributeError(message)
