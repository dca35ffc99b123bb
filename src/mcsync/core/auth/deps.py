"""``actor: Annotated[Actor, requires(Scope.SEGMENTS_READ)]``: the right, named in the signature."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import Depends, Request, Security
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer, SecurityScopes
from starlette.types import Scope as AsgiScope

from mcsync.core.auth.actor import Actor
from mcsync.core.auth.scopes import Scope
from mcsync.core.auth.tokens import TokenVerifier, with_request
from mcsync.core.errors import ForbiddenError, UnauthenticatedError
from mcsync.core.web.errors import request_id_of

_BEARER = HTTPBearer(
    scheme_name="token",
    bearerFormat="mcs_...",
    description=(
        "A service token of one organisation (`mcsync token create`). Its role decides the scopes: "
        "viewer reads, editor also writes and runs, owner also connects and erases."
    ),
    auto_error=False,
)

_Credentials = Annotated[HTTPAuthorizationCredentials | None, Depends(_BEARER)]


async def get_actor(request: Request, credentials: _Credentials) -> Actor:
    """Who calls. Raises ``UnauthenticatedError``."""
    if credentials is None:
        message = "Send `Authorization: Bearer` with a token."
        raise UnauthenticatedError(message)
    verifier: TokenVerifier = request.app.state.tokens
    actor = await verifier.verify(credentials.credentials)
    return with_request(actor, request_id_of(request.scope))


ActorDep = Annotated[Actor, Depends(get_actor)]


async def _allowed(actor: ActorDep, wanted: SecurityScopes) -> Actor:
    for name in wanted.scopes:
        if Scope(name) not in actor.scopes:
            message = f"This needs the scope {name}."
            raise ForbiddenError(message)
    return actor


def requires(scope: Scope) -> Any:
    """A dependency that gives the actor if it holds the scope, and shows in OpenAPI."""
    return Security(_allowed, scopes=[scope.value])


async def identify(scope: AsgiScope) -> Actor | None:
    """Who calls, for middleware; None where the route itself will refuse the token."""
    for name, value in scope["headers"]:
        if name == b"authorization":
            kind, _, token = value.decode("latin-1").partition(" ")
            if kind.lower() != "bearer":
                return None
            verifier: TokenVerifier = scope["app"].state.tokens
            try:
                return await verifier.verify(token.strip())
            except UnauthenticatedError:
                return None
    return None
