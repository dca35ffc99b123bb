"""The procedures of the Mailchimp connection. ``connection.listAudiences`` stands with the audiences."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter

from mcsync.core.auth import Actor, Scope, requires
from mcsync.core.web.deps import ResourcesDep
from mcsync.core.web.openapi import problems
from mcsync.features.connection import service
from mcsync.features.connection.deps import DisconnectDep
from mcsync.features.connection.schemas import ConnectInput, ConnectionView

router = APIRouter(prefix="/mailchimp/connection", tags=["connection"])

Reader = Annotated[Actor, requires(Scope.CONNECTION_READ)]
Manager = Annotated[Actor, requires(Scope.CONNECTION_MANAGE)]


@router.get("/get", summary="The connected Mailchimp account")
async def get(resources: ResourcesDep, actor: Reader) -> ConnectionView | None:
    """The live connection with its status, or `null` when no account is connected.

    The key itself is never shown: only the last four characters of its secret part.
    """
    return await service.get(resources, actor)


@router.post(
    "/connect",
    summary="Connect a Mailchimp account, or replace its key",
    responses=problems(502, 504),
)
async def connect(body: ConnectInput, resources: ResourcesDep, actor: Manager) -> ConnectionView:
    """Verifies the key at Mailchimp at once and stores it encrypted.

    While an account is connected, a key of the same account takes the place of the stored one: the
    connection keeps its id and a `needs_attention` status is cleared. A key of another account is
    refused with `account_mismatch`; disconnect first to change accounts. A key that Mailchimp does
    not accept is answered with `api_key_refused`, and nothing changes.
    """
    return await service.connect(resources, actor, body.api_key.get_secret_value())


@router.post("/disconnect", summary="Disconnect the Mailchimp account")
async def disconnect(
    resources: ResourcesDep, actor: Manager, before: DisconnectDep
) -> ConnectionView:
    """Destroys the stored key and ends the connection.

    Segments, the mirror of the audiences and all history stay; withdrawals that have not reached
    Mailchimp yet stay open until the same account is connected again. At Mailchimp only the webhooks
    of mcsync are removed, as far as that is possible within seconds; no member changes.
    Answers the connection as it was, with `status` `disconnected`; `not_connected` if there is none.
    """
    return await service.disconnect(resources, actor, before)
