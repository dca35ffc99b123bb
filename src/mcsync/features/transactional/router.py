"""The procedures of transactional mail, and where Mailchimp posts to."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query, Request, Response
from starlette.background import BackgroundTask
from starlette.requests import ClientDisconnect

from mcsync.core.auth import Actor, Scope, requires
from mcsync.core.errors import BadRequestError
from mcsync.core.jobs import TRANSACTIONAL_OUTCOMES
from mcsync.core.web.deps import BodyLimit, PageDep, ResourcesDep
from mcsync.core.web.openapi import problems as documented
from mcsync.core.web.schemas import Page
from mcsync.features.transactional import (
    accounts,
    hooks,
    intake,
    problems,  # noqa: F401 - registers its codes
    service,
)
from mcsync.features.transactional.content import BODY_BYTES, SendInput, SendTemplateInput
from mcsync.features.transactional.schemas import (
    ConnectTransactionalInput,
    MessageDetail,
    MessageId,
    MessageInputId,
    MessageStatus,
    MessageView,
    RejectList,
    RenderInput,
    RenderView,
    TemplateList,
    TransactionalConnectionView,
)
from mcsync.mailchimp.transactional import SIGNATURE_HEADER as SIGNATURE

router = APIRouter(prefix="/mailchimp/transactional", tags=["transactional"])
intake_router = APIRouter(prefix=hooks.PATH, include_in_schema=False)
"""Apart, and in no description: it is Mailchimp's, and needs no token but the one in its path."""

Reader = Annotated[Actor, requires(Scope.TRANSACTIONAL_READ)]
Sender = Annotated[Actor, requires(Scope.TRANSACTIONAL_SEND)]
Looker = Annotated[Actor, requires(Scope.CONNECTION_READ)]
Manager = Annotated[Actor, requires(Scope.CONNECTION_MANAGE)]


@router.get("/getConnection", summary="The connected Transactional account")
async def get_connection(
    resources: ResourcesDep, actor: Looker
) -> TransactionalConnectionView | None:
    """The live connection with its status, or `null` when no account is connected."""
    return await accounts.get(resources, actor)


@router.post(
    "/connect",
    summary="Connect a Transactional account, or replace its key",
    responses=documented(502, 504),
)
async def connect(
    body: ConnectTransactionalInput, resources: ResourcesDep, actor: Manager
) -> TransactionalConnectionView:
    """Verifies the key at Mailchimp Transactional (Mandrill) at once and stores it encrypted.

    It is another key than the Marketing one of `connection.connect`. While an account is connected, a
    key of the same account takes the place of the stored one; another account's is refused. Where the
    service has a public URL, a signed webhook is registered, by which outcomes are learnt.
    """
    return await accounts.connect(resources, actor, body.api_key.get_secret_value())


@router.post("/disconnect", summary="Disconnect the Transactional account")
async def disconnect(resources: ResourcesDep, actor: Manager) -> TransactionalConnectionView:
    """Destroys the stored key, takes the webhook down and ends the connection.

    Messages and their outcomes stay; queued ones wait until an account is connected again.
    """
    return await accounts.disconnect(resources, actor)


@router.post(
    "/send", status_code=202, summary="Send a message", max_body_size=BodyLimit(BODY_BYTES)
)
async def send(
    body: SendInput, resources: ResourcesDep, actor: Sender, response: Response
) -> MessageView:
    """Stores the message and answers at once; a worker hands it to Mailchimp, at `sendAt` if given.

    It is handed over once, whatever crashes in between. Where Mailchimp's answer is lost it is looked
    up there by mcsync's id; not found after 15 minutes it ends as `unconfirmed`, and is sent again only
    by `transactional.resend`, or where it allows duplicates. Whoever withdrew a consent to marketing
    still gets what they asked for here; erased and suppressed addresses get nothing. The whole request
    may have 10 MB as Mailchimp counts them, attachments included.
    """
    return _located(response, await service.send(resources, actor, body))


@router.post(
    "/sendTemplate",
    status_code=202,
    summary="Send a message made from a template",
    max_body_size=BodyLimit(BODY_BYTES),
)
async def send_template(
    body: SendTemplateInput, resources: ResourcesDep, actor: Sender, response: Response
) -> MessageView:
    """As `transactional.send`, with a template of the Transactional account.

    An unknown template is found out when the message is handed over: it ends as `failed` with
    `template_not_found`.
    """
    return _located(response, await service.send(resources, actor, body))


def _located(response: Response, view: MessageView) -> MessageView:
    response.headers["Location"] = f"{router.prefix}/get?id={view.id}"
    return view


@router.get("/get", summary="One message with its recipients")
async def get(
    resources: ResourcesDep,
    actor: Reader,
    id: Annotated[MessageId, Query()],  # noqa: A002 - its name on the wire
) -> MessageDetail:
    """The message's state and what became of it at every recipient. What it says is not kept."""
    return await service.get(resources, actor, id)


@router.get("/list", name="list", summary="Messages, newest first")
async def list_(
    resources: ResourcesDep,
    actor: Reader,
    page: PageDep,
    status: Annotated[MessageStatus | None, Query(description="Only of this status.")] = None,
    tag: Annotated[
        str | None, Query(min_length=1, max_length=50, description="Only with this tag.")
    ] = None,
    email: Annotated[
        str | None, Query(min_length=1, max_length=254, description="Only to this address.")
    ] = None,
) -> Page[MessageView]:
    """All messages of the organisation, without their recipients."""
    return await service.list_messages(resources, actor, page, status=status, tag=tag, email=email)


@router.post("/cancel", summary="Cancel a message not handed over yet")
async def cancel(body: MessageInputId, resources: ResourcesDep, actor: Sender) -> MessageView:
    """Takes a queued or scheduled message back, to the last moment before it is handed over.

    Answers with a 409 (`not_cancellable`) once Mailchimp has it or may have it.
    """
    return await service.cancel(resources, actor, body.id)


@router.post("/resend", summary="Send an unconfirmed message again")
async def resend(body: MessageInputId, resources: ResourcesDep, actor: Sender) -> MessageView:
    """Queues a message whose status is `unconfirmed` once more.

    It is looked for at Mailchimp first; found there after all, it is not sent a second time.
    """
    return await service.resend(resources, actor, body.id)


@router.get(
    "/listTemplates", summary="The account's templates", responses=documented(409, 502, 504)
)
async def list_templates(
    resources: ResourcesDep,
    actor: Reader,
    label: Annotated[
        str | None, Query(min_length=1, max_length=100, description="Only with this label.")
    ] = None,
) -> TemplateList:
    """All templates, as they are at Mailchimp Transactional now."""
    return await service.list_templates(resources, actor, label=label)


@router.post(
    "/renderTemplate",
    summary="See what a template gives",
    responses=documented(404, 409, 502, 504),
)
async def render_template(body: RenderInput, resources: ResourcesDep, actor: Reader) -> RenderView:
    """The HTML of a template with its regions and merge tags filled in. Sends nothing.

    A query, by POST because of its body.
    """
    return await service.render_template(resources, actor, body)


@router.get(
    "/listRejects", summary="Addresses that get nothing", responses=documented(409, 502, 504)
)
async def list_rejects(
    resources: ResourcesDep,
    actor: Reader,
    email: Annotated[
        str | None, Query(min_length=1, max_length=254, description="Only this address.")
    ] = None,
) -> RejectList:
    """The rejects list of the Transactional account: bounces, complaints, unsubscribes, own entries.

    Mailchimp sends nothing to these; a message to one of them has the outcome `rejected` with the reason.
    """
    return await service.list_rejects(resources, actor, email=email)


# ------------------------------------------------------------------------------ Mailchimp's


@intake_router.api_route("/{token}", methods=["GET", "HEAD"], name="verify")
async def verify(token: str, resources: ResourcesDep) -> Response:
    """What Mailchimp asks before it registers the address."""
    await intake.find(resources, token)
    return Response()


@intake_router.post("/{token}", name="receive", max_body_size=BodyLimit(intake.MAX_BYTES))
async def receive(token: str, request: Request, resources: ResourcesDep) -> Response:
    """Stores what Mailchimp reports and answers; a worker is woken afterwards."""
    hook = await intake.find(resources, token)
    try:
        body = await request.body()
    except ClientDisconnect:
        raise BadRequestError("The body was not sent to its end.") from None
    stored = await intake.receive(resources, hook, request.headers.get(SIGNATURE), body)
    if not stored:
        return Response()
    ring = BackgroundTask(resources.jobs.ring, TRANSACTIONAL_OUTCOMES, hook.org_id, hook.org_id)
    return Response(background=ring)
