"""Where Mailchimp posts to, and the procedures about it."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Request, Response
from starlette.background import BackgroundTask
from starlette.requests import ClientDisconnect

from mcsync.core.auth import Actor, Scope, requires
from mcsync.core.crypto import path_token_hash
from mcsync.core.errors import BadRequestError
from mcsync.core.web.deps import PageDep, ResourcesDep
from mcsync.core.web.schemas import Page
from mcsync.features.webhooks import service
from mcsync.features.webhooks.deps import IntakeDep
from mcsync.features.webhooks.intake import require
from mcsync.features.webhooks.schemas import RotateInput, WebhookView
from mcsync.mailchimp import MAX_WEBHOOK_BYTES, SIGNATURE_HEADER

router = APIRouter(prefix="/mailchimp/webhooks", tags=["webhooks"])
intake_router = APIRouter(prefix="/webhooks/mailchimp", include_in_schema=False)
"""Apart, and in no description: it is Mailchimp's, and needs no token but the one in its path."""

Reader = Annotated[Actor, requires(Scope.CONNECTION_READ)]
Manager = Annotated[Actor, requires(Scope.CONNECTION_MANAGE)]


@router.get("/list", name="list", summary="How Mailchimp reports to mcsync")
async def list_(resources: ResourcesDep, actor: Reader, page: PageDep) -> Page[WebhookView]:
    """The webhook of each audience: whether it is registered, when it last reported, what is wrong.

    Webhooks are registered and repaired by themselves for every audience that a segment uses, where the
    service has a public URL; without one, changes are pulled on a schedule and this list is empty.
    """
    return await service.list_webhooks(resources, actor, page)


@router.post("/rotate", summary="Replace a webhook's secret address")
async def rotate(body: RotateInput, resources: ResourcesDep, actor: Manager) -> WebhookView:
    """Registers the audience's webhook under another secret address, with another signing secret.

    Answered at once; a worker registers it within seconds, `status` is `missing` until then. Posts to the
    address before are accepted for 24 hours more, so that none is lost.
    """
    return await service.rotate(resources, actor, body.audience_id)


@intake_router.api_route("/{token}", methods=["GET", "HEAD"], name="verify")
async def verify(token: str, resources: ResourcesDep, intake: IntakeDep) -> Response:
    """What Mailchimp asks before it registers the address."""
    # not remembered: it is asked before the signing secret is told
    require(await intake.look_up(resources, path_token_hash(token)))
    return Response()


@intake_router.post("/{token}", name="receive", max_body_size=MAX_WEBHOOK_BYTES)
async def receive(
    token: str, request: Request, resources: ResourcesDep, intake: IntakeDep
) -> Response:
    """Stores what Mailchimp posts and answers; a worker is woken afterwards."""
    endpoint = await intake.find(resources, token)
    try:
        body = await request.body()
    except ClientDisconnect:
        raise BadRequestError("The body was not sent to its end.") from None
    signature = request.headers.get(SIGNATURE_HEADER)
    if not await intake.receive(resources, endpoint, signature, body):
        return Response()
    return Response(background=BackgroundTask(intake.ring, resources.jobs, require(endpoint)))
