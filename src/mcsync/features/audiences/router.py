"""The procedures of audiences, and ``connection.listAudiences``, which fills the mirror of them."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query

from mcsync.core.auth import Actor, Scope, requires
from mcsync.core.web.deps import ResourcesDep
from mcsync.core.web.openapi import problems
from mcsync.core.web.schemas import Page
from mcsync.features.audiences import marketing, service
from mcsync.features.audiences.schemas import (
    AudienceId,
    AudienceSummary,
    AudienceView,
    CreatedMergeFields,
    CreateMergeFieldsInput,
    SetMarketingPermissionsInput,
    SetMergeFieldsInput,
)

_audiences = APIRouter(prefix="/mailchimp/audiences", tags=["audiences"])
_connection = APIRouter(prefix="/mailchimp/connection", tags=["connection"])

Connected = Annotated[Actor, requires(Scope.CONNECTION_READ)]
Reader = Annotated[Actor, requires(Scope.AUDIENCES_READ)]
Writer = Annotated[Actor, requires(Scope.AUDIENCES_WRITE)]


@_connection.get(
    "/listAudiences",
    summary="All audiences of the connected account",
    responses=problems(409, 502, 504),
)
async def list_audiences(resources: ResourcesDep, actor: Connected) -> Page[AudienceSummary]:
    """Asks Mailchimp and answers every audience at once: `nextCursor` is always `null`.

    Choose a segment's `audienceId` from here. `not_connected` when no account is connected.
    """
    items = await service.list_audiences(resources, actor)
    return Page[AudienceSummary](items=items, next_cursor=None)


@_audiences.get(
    "/get",
    summary="An audience, its merge fields and what feeds them",
    responses=problems(409, 502, 504),
)
async def get(
    resources: ResourcesDep,
    actor: Reader,
    audience_id: Annotated[AudienceId, Query(alias="audienceId")],
    refresh: Annotated[
        bool, Query(description="Ask Mailchimp even if the fields were read just now.")
    ] = False,
) -> AudienceView:
    """Shows which of a contact's data feeds which merge field at the next sync.

    Until a map is set, one is proposed from the fields' tags and names (`proposed: true`).
    `unfedRequired` names required fields that nothing feeds: Mailchimp refuses new members without
    them. Fields are read at Mailchimp again when they are older than five minutes.
    """
    return await service.get(resources, actor, audience_id, refresh=refresh)


@_audiences.post(
    "/setMergeFields",
    summary="Say what feeds an audience's merge fields",
    responses=problems(502, 504),
)
async def set_merge_fields(
    body: SetMergeFieldsInput, resources: ResourcesDep, actor: Writer
) -> AudienceView:
    """Replaces the audience's whole merge-field map; fields that are not in it are not fed.

    The map is shared by all segments of the audience. It is checked against the fields that the
    audience has at Mailchimp now; any entry that cannot stand is named in `errors` with
    `invalid_merge_map`, and nothing changes. `"map": null` goes back to the proposed map. The next
    sync writes the values of all members anew where they differ. A value that a field does not take (no
    date, none of its choices) is not sent, so that Mailchimp keeps the one it has; segments.preview
    counts such values.
    """
    return await service.set_merge_fields(resources, actor, body.audience_id, body.entries())


@_audiences.post(
    "/setMarketingPermissions",
    summary="Say which marketing permissions an opt-in ticks",
    responses=problems(409, 502, 504),
)
async def set_marketing_permissions(
    body: SetMarketingPermissionsInput, resources: ResourcesDep, actor: Writer
) -> AudienceView:
    """Replaces the audience's whole map of GDPR fields; what is not in it is never touched.

    `"feeds": "consent"` ticks the permission for members whose recorded opt-in stands, each by a call of
    its own after the other changes of a sync: Mailchimp's bulk call does not take them. Nobody is
    ticked on legitimate interest alone, and no tick is ever taken away: not when the map lets go of a
    permission, nor when somebody withdraws, which unsubscribes them. No permission is ticked a second
    time, so that one the person took away stays so until they are subscribed anew.
    `marketing_permission_not_found` names ids that the audience does not have;
    `marketing_permissions_unread`: it has no member yet that shows them.
    """
    wanted = {each.marketing_permission_id: each.feeds for each in body.permissions}
    return await marketing.set_marketing_permissions(resources, actor, body.audience_id, wanted)


@_audiences.post(
    "/createMergeFields",
    summary="Create merge fields that an audience lacks",
    responses=problems(502, 504),
)
async def create_merge_fields(
    body: CreateMergeFieldsInput, resources: ResourcesDep, actor: Writer
) -> CreatedMergeFields:
    """Creates the fields at Mailchimp; those whose tag exists already are left as they are.

    `refused` tells which fields Mailchimp did not take, and why (an audience holds at most 30, or 80
    on some plans). A new field is not fed before the map says so, or the proposed map recognises it.
    Safe to repeat.
    """
    return await service.create_merge_fields(resources, actor, body.audience_id, body.fields)


router = APIRouter()
router.include_router(_connection)
router.include_router(_audiences)
