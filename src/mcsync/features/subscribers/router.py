"""The procedures of single subscribers."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Annotated, Any, Final

from fastapi import APIRouter, Query, Request, Response
from fastapi.routing import APIRoute

from mcsync.core.auth import Actor, Scope, requires
from mcsync.core.web.deps import PageDep, ResourcesDep
from mcsync.core.web.openapi import problems
from mcsync.features.audiences.schemas import AudienceId
from mcsync.features.subscribers import forms, html_form, requests, service
from mcsync.features.subscribers.schemas import (
    ArchiveInput,
    CreateOrUpdateInput,
    CreateOrUpdateResult,
    Email,
    RequestPage,
    RequestStatus,
    SubscribeInput,
    SubscribeResult,
    SubscriberView,
    UnsubscribeInput,
    UnsubscribeResult,
    UpdateInput,
)

router = APIRouter(prefix="/mailchimp/subscribers", tags=["subscribers"])

FORM_PATH: Final = router.prefix + "/subscribe"
"""The one path that pages of other sites may post to (`MCSYNC_FORM_ORIGINS`)."""


class _FormRoute(APIRoute):
    """Takes the posts of plain HTML forms beside JSON, on the same path."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """FastAPI's own handler, but for forms."""
        of_json = super().get_route_handler()

        async def handler(request: Request) -> Response:
            if html_form.is_form(request):
                return await html_form.answer(request)
            return await of_json(request)

        return handler


Reader = Annotated[Actor, requires(Scope.SUBSCRIBERS_READ)]
Writer = Annotated[Actor, requires(Scope.SUBSCRIBERS_WRITE)]
Requester = Annotated[Actor, requires(Scope.SUBSCRIBERS_REQUEST)]


@router.get("/getStatus", summary="How an address stands on a list", responses=problems(502, 504))
async def get_status(
    resources: ResourcesDep,
    actor: Reader,
    audience_id: Annotated[AudienceId, Query(alias="audienceId")],
    email: Annotated[Email, Query()],
) -> SubscriberView:
    """The member as Mailchimp has it now, and what is recorded of the address here.

    An address that is not on the list, never was, or was permanently deleted has the status
    `not_on_list`; that is an answer, not an error.
    """
    return await service.get_status(resources, actor, audience_id, email)


async def subscribe(
    body: SubscribeInput, request: Request, resources: ResourcesDep, actor: Requester
) -> SubscribeResult:
    """A wish to be subscribed. Mailchimp asks the person to confirm; their confirmation is the opt-in.

    With the status `subscribed` the person is subscribed at once: that needs the scope
    `subscribers:direct` (owners have it), `consentGivenAt` and `proof`. Refused are who is there already
    (`already_on_list`), who was erased (`suppressed`) and who may only come back by themselves.

    With a publishable token, which may stand in a public page (`mcsync token create --publishable
    --audience LIST`), it is always a request: the answer is the same and comes as fast whether or not the
    address is known, and the work is done afterwards. Posts are counted for each address and each
    client; `too_many_requests` says when to try again.

    A plain HTML form may post here too, with a publishable token in its hidden field `token`: see the page
    "Forms on web pages" of the documentation. It is answered by a page, or by a redirect to the address in
    its field `redirect`.
    """
    if actor.audiences is not None:
        client_ip = request.client.host if request.client else None
        return await forms.post(resources, actor, body, client_ip)
    return await service.subscribe(resources, actor, body)


router.add_api_route(
    "/subscribe",
    subscribe,
    methods=["POST"],
    summary="Ask somebody to confirm, or subscribe them",
    responses=problems(429, 502, 504),
    route_class_override=_FormRoute,
)


@router.get("/listRequests", summary="Requests to be subscribed, newest first")
async def list_requests(
    resources: ResourcesDep,
    actor: Reader,
    page: PageDep,
    status: Annotated[RequestStatus | None, Query(description="Only of this status.")] = None,
    audience_id: Annotated[
        AudienceId | None, Query(alias="audienceId", description="Only for this audience.")
    ] = None,
) -> RequestPage:
    """What became of the posts of forms, and of what `subscribe` and `createOrUpdate` asked for.

    A form is told nothing but `requested`; here is what happened then. `status=refused` lists what Mailchimp
    did not take and why. The address of a request is not kept after it has ended.
    """
    return await requests.list_requests(resources, actor, page, status=status, list_id=audience_id)


@router.post("/update", summary="Change a member's fields", responses=problems(502, 504))
async def update(body: UpdateInput, resources: ResourcesDep, actor: Writer) -> SubscriberView:
    """Changes what is named and keeps the rest. The member's status is not touched.

    What a segment's contact feeds is overwritten again as soon as the contact changes.
    """
    return await service.update(resources, actor, body)


@router.post(
    "/unsubscribe", summary="Unsubscribe an address everywhere", responses=problems(502, 504)
)
async def unsubscribe(
    body: UnsubscribeInput, resources: ResourcesDep, actor: Writer
) -> UnsubscribeResult:
    """Records the withdrawal of the address and of every contact that has it.

    It reaches every audience of the account that mcsync knows of (one is known from the first call, segment
    or form that names it) within seconds, also where the address has not been seen yet. Only a later opt-in
    lifts it. An erased address is refused (`suppressed`) unless a contact still has it or the person came
    back through one of Mailchimp's own forms.
    """
    return await service.unsubscribe(resources, actor, body)


@router.post("/archive", summary="Archive a member", responses=problems(502, 504))
async def archive(body: ArchiveInput, resources: ResourcesDep, actor: Writer) -> SubscriberView:
    """Takes a member off the list without a word about consent; Mailchimp keeps it, and it can come back.

    This erases nothing. A permanent deletion is irreversible, must reach every audience and address of the
    person and needs a receipt: `preferences.gdprDelete` does all of that, and is the only way here.
    Pending and bounced members cannot be archived (`cannot_archive`).
    """
    return await service.archive(resources, actor, body.audience_id, body.email)


@router.post("/createOrUpdate", summary="Make a member or change it", responses=problems(502, 504))
async def create_or_update(
    body: CreateOrUpdateInput, resources: ResourcesDep, actor: Writer
) -> CreateOrUpdateResult:
    """Puts somebody on the list with these fields, or changes the fields of who is there.

    `update_first` takes one call for who is there and two for who is new; `create_first` the other way
    round. Who is there keeps their status, whatever `status` says; who is new or archived is asked to
    confirm, or subscribed on proof, as with subscribers.subscribe. Members made here are no segment's: no sync ever
    archives them.
    """
    return await service.create_or_update(resources, actor, body)
