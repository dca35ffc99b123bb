"""``actor: Annotated[Actor, requires(Scope.SEGMENTS_READ)]``: the right, named in the signature."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import Depends, Request, Security
from fastapi.security import HTTPBearer
from starlette.types import Scope as AsgiScope

from mcsync.core.auth.actor import Actor
from mcsync.core.auth.scopes import Scope
from mcsync.core.auth.tokens import TokenVerifier, with_request
from mcsync.core.errors import ForbiddenError, UnauthenticatedError
from mcsync.core.web.errors import ACTOR, request_id_of


class _Bearer(HTTPBearer):
    """Turns the bearer token into an actor that holds ``scope``, if one is wanted.

    One flat dependency: every level of dependencies costs FastAPI more than the check itself.
    """

    def __init__(self, scope: Scope | None = None) -> None:
        super().__init__(
            scheme_name="token",
            bearerFormat="mcs_...",
            description=(
                "A service token of one organisation (`mcsync token create`). Its role decides the "
                "scopes: viewer reads, editor also writes and runs, owner also connects and erases."
            ),
            auto_error=False,
        )
        self._scope = scope

    async def __call__(self, request: Request) -> Actor:  # type: ignore[override]
        """Who calls. Raises ``UnauthenticatedError`` and ``ForbiddenError``."""
        kind, _, token = request.headers.get("authorization", "").partition(" ")
        if kind.lower() != "bearer" or not token:
            message = "Send `Authorization: Bearer` with a token."
            raise UnauthenticatedError(message)
        verifier: TokenVerifier = request.app.state.tokens
        actor = await verifier.verify(token.strip())
        request.scope[ACTOR] = actor
        if self._scope is not None and self._scope not in actor.scopes:
            message = f"This needs the scope {self._scope}."
            raise ForbiddenError(message)
        return with_request(actor, request_id_of(request.scope))


_ANY = _Bearer()
_BY_SCOPE = {scope: _Bearer(scope) for scope in Scope}

ActorDep = Annotated[Actor, Depends(_ANY)]


def requires(scope: Scope) -> Any:
    """A dependency that gives the actor if it holds the scope, and shows in OpenAPI."""
    return Security(_BY_SCOPE[scope], scopes=[scope.value])


async def identify(scope: AsgiScope) -> Actor | None:
    """Who calls, for middleware; None where the route itself will refuse the token."""
    for name, value in scope["headers"]:
        if name == b"authorization":
            kind, _, token = value.decode("latin-1").partition(" ")
            if kind.lower() != "bearer":
                return None
            verifier: TokenVerifier = scope["app"].state.tokens
            try:
                scope[ACTOR] = await verifier.verify(token.strip())
            except UnauthenticatedError:
                return None
            found: Actor = scope[ACTOR]
            return found
    return None
