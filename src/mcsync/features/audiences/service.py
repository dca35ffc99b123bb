"""The rules of audiences: the mirror of what the account has, and what feeds their merge fields."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from typing import Any
from uuid import UUID

from sqlalchemy.ext.asyncio import AsyncSession

from mcsync import mailchimp
from mcsync.core.auth import Actor
from mcsync.core.errors import BadRequestError, FieldProblem, McsyncError, NotFoundError
from mcsync.core.resources import Resources
from mcsync.features import audit
from mcsync.features.audiences import repository
from mcsync.features.audiences.definitions import (
    field_of,
    follow,
    merge_fields,
    merge_map,
    warnings,
)
from mcsync.features.audiences.merge_map import (
    Entry,
    Field,
    MergeMap,
    checked_map,
    format_of,
    gone_tags,
    source_of,
    unfed_required,
)
from mcsync.features.audiences.models import Audience
from mcsync.features.audiences.permissions import Permission, fed
from mcsync.features.audiences.repository import ensure_audience, touch_definition
from mcsync.features.audiences.schemas import (
    AudienceSummary,
    AudienceView,
    CreatedMergeFields,
    FeedView,
    MarketingPermissionView,
    MergeFieldView,
    NewMergeField,
    RefusedField,
    WarningView,
)
from mcsync.features.audit import AuditAction
from mcsync.features.connection import service as connection
from mcsync.mailchimp import MailchimpClient, MailchimpError

__all__ = [
    "audience_warnings",
    "create_merge_fields",
    "ensure_audience",
    "find",
    "get",
    "list_audiences",
    "locked",
    "merge_fields",
    "merge_map",
    "permissions_fed",
    "read_anew",
    "refresh_merge_fields",
    "set_merge_fields",
    "store_lists",
    "touch_definition",
    "warnings",
]

FIELDS_ARE_FRESH = timedelta(minutes=5)
"""So long ``audiences.get`` answers from the mirror: nobody changes merge fields by the minute."""

_WEATHER = (mailchimp.TransientError, mailchimp.ThrottledError)


def permissions_fed(audience: Audience) -> tuple[str, ...]:
    """Ids of the marketing permissions that an opt-in ticks: of the map, those that the audience has."""
    return fed(Permission.stored(audience.marketing_permissions), audience.permission_map)


async def view(session: AsyncSession, audience: Audience) -> AudienceView:
    """How a mirrored audience is shown.

    Its members are counted in the mirror, which knows at once what a sync has sent; before the first
    complete pull, Mailchimp's own number is all there is.
    """
    fields = Field.stored(audience.merge_fields)
    in_force = merge_map(audience)
    members = audience.stats.get("memberCount", 0)
    if audience.high_water is not None:
        members = await repository.subscribed(session, audience.id)
    return AudienceView(
        audience_id=audience.list_id,
        name=audience.name,
        member_count=members,
        double_optin=audience.double_optin,
        marketing_permissions=audience.stats.get("marketingPermissions", False),
        merge_fields=[
            MergeFieldView(
                tag=field.tag,
                name=field.name,
                type=field.type,
                required=field.required,
                choices=list(field.choices),
            )
            for field in fields
        ],
        merge_fields_at=audience.merge_fields_at,
        map={tag: _entry_view(entry) for tag, entry in in_force.items()},
        proposed=audience.merge_field_map is None,
        unfed_required=unfed_required(fields, in_force),
        unknown_tags=gone_tags(
            audience.merge_field_map, fields, known=audience.merge_fields_at is not None
        ),
        permissions=[
            MarketingPermissionView(
                marketing_permission_id=each.id,
                text=each.text,
                feeds="consent" if each.id in audience.permission_map else None,
            )
            for each in Permission.stored(audience.marketing_permissions)
        ],
    )


def _entry_view(entry: Entry) -> str | FeedView:
    value_format = format_of(entry)
    if value_format is None:
        return source_of(entry)
    return FeedView(source=source_of(entry), format=value_format)


async def list_audiences(resources: Resources, actor: Actor) -> list[AudienceSummary]:
    """All audiences of the connected account as Mailchimp shows them now; the mirror follows.

    One that is no longer listed is asked for by its id before it is called gone: a page cut short
    must not make an audience disappear.
    """
    async with connection.calling(resources, actor.org_id) as link:
        lists = await link.client.audiences()
        async with resources.db.transaction(actor.org_id) as session:
            unlisted = await repository.known_besides(
                session, link.account_id, [found.id for found in lists]
            )
        gone = [list_id for list_id in unlisted if await _is_gone(link.client, list_id)]
    async with resources.db.transaction(actor.org_id) as session:
        await store_lists(session, link.account_id, lists)
        if gone:
            await repository.mark_gone(session, link.account_id, gone, resources.clock())
    return [
        AudienceSummary(
            audience_id=found.id,
            name=found.name,
            member_count=found.stats.member_count,
            double_optin=found.double_optin,
            marketing_permissions=found.marketing_permissions,
        )
        for found in lists
    ]


async def audience_warnings(resources: Resources, org_id: UUID) -> list[WarningView]:
    """What needs attention in the mirrored audiences of the connected account."""
    async with resources.db.transaction(org_id) as session:
        mirrored = await repository.mirrored(session)
        return [warning for audience in mirrored for warning in warnings(audience)]


async def store_lists(
    session: AsyncSession, account_id: str, lists: Sequence[mailchimp.Audience]
) -> None:
    """The mirror follows what Mailchimp listed, in the caller's transaction."""
    await repository.upsert(session, account_id, [_row(found) for found in lists])


async def find(resources: Resources, org_id: UUID, list_id: str) -> Audience:
    """The connected account's audience with Mailchimp's id; Mailchimp is asked once if we do not know it.

    Raises ``NotFoundError`` (``audience_not_found``) and what ``connection.open_link`` raises.
    """
    async with resources.db.transaction(org_id) as session:
        await connection.require_live(session)
        known = await repository.by_list_id(session, list_id)
    if known is not None and known.gone_at is None:
        return known
    async with connection.calling(resources, org_id) as link:
        try:
            found = await link.client.audience(list_id)
        except mailchimp.NotFoundError as error:
            raise _not_found() from error
    async with resources.db.transaction(org_id) as session:
        return await ensure_audience(session, link.account_id, **_row(found))


async def get(
    resources: Resources, actor: Actor, list_id: str, *, refresh: bool = False
) -> AudienceView:
    """The audience, its merge fields and what feeds them.

    Read anew at Mailchimp when the mirror is older than five minutes or ``refresh`` asks for it. While
    Mailchimp cannot be reached, the mirror answers; with ``refresh`` the failure is told instead.
    """
    audience = await find(resources, actor.org_id, list_id)
    read_at = audience.merge_fields_at
    if refresh or read_at is None or resources.clock() - read_at > FIELDS_ARE_FRESH:
        try:
            audience = await read_anew(resources, actor.org_id, audience)
        except _WEATHER:
            if refresh or read_at is None:
                raise
    async with resources.db.transaction(actor.org_id) as session:
        return await view(session, audience)


async def set_merge_fields(
    resources: Resources, actor: Actor, list_id: str, wanted: MergeMap | None
) -> AudienceView:
    """Stores the audience's merge-field map (None: back to the proposal).

    Checked against the fields that Mailchimp has now. Raises ``BadRequestError``
    (``invalid_merge_map``) with one problem for each entry that cannot stand.
    """
    audience = await find(resources, actor.org_id, list_id)
    audience = await read_anew(resources, actor.org_id, audience)
    stored = None
    if wanted is not None:
        stored, problems = checked_map(wanted, Field.stored(audience.merge_fields))
        if problems:
            raise BadRequestError(
                "Some entries of the map cannot stand; see errors. Nothing was changed.",
                code="invalid_merge_map",
                errors=[
                    FieldProblem(f"/map/{problem.tag}", problem.code, problem.message)
                    for problem in problems
                ],
            )
    async with resources.db.transaction(actor.org_id) as session:
        before = await locked(session, audience.id)
        in_force = merge_map(before)
        await repository.store_map(session, audience.id, stored)
        after = await locked(session, audience.id)
        if merge_map(after) != in_force:
            await touch_definition(session, audience.id)
        audit.record(
            session,
            actor,
            AuditAction.AUDIENCES_SET_MERGE_FIELDS,
            entity="audience",
            entity_id=audience.id,
            diff={"map": [in_force, merge_map(after)], "proposed": stored is None},
        )
        return await view(session, after)


async def create_merge_fields(
    resources: Resources, actor: Actor, list_id: str, wanted: list[NewMergeField]
) -> CreatedMergeFields:
    """Creates at Mailchimp the fields that the audience lacks; those it has are left as they are.

    A field that Mailchimp refuses is reported and does not keep the others back. Trouble of any other
    kind is raised once what was created is recorded; asking again then finds it as existing.
    """
    audience = await find(resources, actor.org_id, list_id)
    audience = await read_anew(resources, actor.org_id, audience)
    before = _tags(audience)
    missing = [field for field in wanted if field.tag not in before]
    done: list[str] = []
    try:
        async with connection.calling(resources, actor.org_id) as link:
            refused = await _create(link.client, list_id, missing, done)
            audience = await refresh_merge_fields(
                resources, actor.org_id, audience, client=link.client
            )
    except (MailchimpError, McsyncError):
        if done:
            await _record_created(resources, actor, audience.id, done)
        raise
    # What Mailchimp has now decides, not what it answered: two requests may have asked at once.
    now = _tags(audience)
    created = [field.tag for field in missing if field.tag in now]
    await _record_created(resources, actor, audience.id, created)
    async with resources.db.transaction(actor.org_id) as session:
        shown = await view(session, audience)
    return CreatedMergeFields(
        created=created,
        existing=[field.tag for field in wanted if field.tag in before],
        refused=[
            RefusedField(tag=tag, code="mailchimp_refused", message=message)
            for tag, message in refused.items()
            if tag not in now
        ],
        audience=shown,
    )


async def refresh_merge_fields(
    resources: Resources,
    org_id: UUID,
    audience: Audience,
    *,
    client: MailchimpClient | None = None,
) -> Audience:
    """Reads merge fields and marketing permissions into the mirror; answers the audience as it then is.

    Fields that were renamed are followed. Where a definition changed, what Mailchimp refused about the field
    is forgotten. Where that, or a proposal that now finds a field, changes what is sent, the next plan
    looks at every address again. ``client``: the caller's own; without it the
    live connection's, which keeps that connection's status true. Raises ``MailchimpError``; its
    ``NotFoundError`` means that the audience is gone.
    """
    if client is not None:
        fields, permissions = await _read_fields(client, audience)
    else:
        async with connection.calling(resources, org_id) as link:
            fields, permissions = await _read_fields(link.client, audience)
    async with resources.db.transaction(org_id) as session:
        before = await locked(session, audience.id)
        was = merge_map(before), permissions_fed(before)
        told = [field_of(field) for field in fields]
        if not fields.complete:
            # one that could not be read was not deleted
            tags = {field.tag for field in told}
            told += [one for one in Field.stored(before.merge_fields) if one.tag not in tags]
        redefined = await follow(session, before, told)
        await repository.store_fields(session, audience.id, told, resources.clock())
        if permissions not in (None, list(Permission.stored(before.marketing_permissions))):
            await repository.store_permissions(session, audience.id, permissions)
        stored = await locked(session, audience.id)
        if redefined or (merge_map(stored), permissions_fed(stored)) != was:
            await touch_definition(session, audience.id)
        return stored


async def _read_fields(
    client: MailchimpClient, audience: Audience
) -> tuple[mailchimp.Rows[mailchimp.MergeField], list[Permission] | None]:
    """The merge fields, and the marketing permissions: None where there was nobody to show them."""
    fields = await client.merge_fields(audience.list_id)
    if not audience.stats.get("marketingPermissions"):
        return fields, []  # switched off, or never on: not worth a call
    shown = await client.marketing_permissions(audience.list_id)
    permissions = [Permission(each.marketing_permission_id, each.text) for each in shown]
    return fields, permissions or None


async def read_anew(resources: Resources, org_id: UUID, audience: Audience) -> Audience:
    """The audience and its fields from Mailchimp; a 404 marks it gone and is our ``audience_not_found``."""
    async with connection.calling(resources, org_id) as link:
        try:
            found = await link.client.audience(audience.list_id)
            async with resources.db.transaction(org_id) as session:
                audience = await ensure_audience(session, link.account_id, **_row(found))
            return await refresh_merge_fields(resources, org_id, audience, client=link.client)
        except mailchimp.NotFoundError as error:
            async with resources.db.transaction(org_id) as session:
                await repository.mark_gone(
                    session, link.account_id, [audience.list_id], resources.clock()
                )
            raise _not_found() from error


async def _is_gone(client: MailchimpClient, list_id: str) -> bool:
    try:
        await client.audience(list_id)
    except mailchimp.NotFoundError:
        return True
    return False


async def _create(
    client: MailchimpClient, list_id: str, fields: Sequence[NewMergeField], done: list[str]
) -> dict[str, str]:
    """Creates the fields one by one, telling ``done``; answers why Mailchimp refused the others."""
    refused: dict[str, str] = {}
    for field in fields:
        options = None if field.choices is None else {"choices": field.choices}
        try:
            await client.create_merge_field(
                list_id,
                tag=field.tag,
                name=field.name,
                type=field.type,
                required=field.required,
                options=options,
            )
        except (mailchimp.RefusedError, mailchimp.InvalidRequestError) as error:
            refused[field.tag] = error.detail or error.title
        else:
            done.append(field.tag)
    return refused


async def _record_created(
    resources: Resources, actor: Actor, audience_id: UUID, created: list[str]
) -> None:
    async with resources.db.transaction(actor.org_id) as session:
        audit.record(
            session,
            actor,
            AuditAction.AUDIENCES_CREATE_MERGE_FIELDS,
            entity="audience",
            entity_id=audience_id,
            diff={"created": created},
        )


def _tags(audience: Audience) -> set[str]:
    return {field.tag.upper() for field in Field.stored(audience.merge_fields)}


async def locked(session: AsyncSession, audience_id: UUID) -> Audience:
    audience = await repository.get(session, audience_id, lock=True)
    if audience is None:
        raise _not_found()
    return audience


def _not_found() -> NotFoundError:
    return NotFoundError(
        "The connected Mailchimp account has no audience with this id; connection.listAudiences shows"
        " those it has.",
        code="audience_not_found",
        errors=[
            FieldProblem("/audienceId", "audience_not_found", "No such audience in the account.")
        ],
    )


def _row(found: mailchimp.Audience) -> dict[str, Any]:
    return {
        "list_id": found.id,
        "name": found.name,
        "double_optin": found.double_optin,
        "stats": {
            "memberCount": found.stats.member_count,
            "unsubscribeCount": found.stats.unsubscribe_count,
            "cleanedCount": found.stats.cleaned_count,
            "marketingPermissions": found.marketing_permissions,
        },
    }
