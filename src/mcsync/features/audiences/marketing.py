"""The organisation says which of an audience's marketing permissions its consents feed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from mcsync.core.auth import Actor
from mcsync.core.errors import ConflictError, FieldProblem, NotFoundError
from mcsync.core.resources import Resources
from mcsync.features import audit
from mcsync.features.audiences import repository, service
from mcsync.features.audiences.models import Audience
from mcsync.features.audiences.permissions import CONSENT, Permission
from mcsync.features.audiences.schemas import AudienceView
from mcsync.features.audit import AuditAction


async def set_marketing_permissions(
    resources: Resources, actor: Actor, list_id: str, wanted: Mapping[str, str | None]
) -> AudienceView:
    """Stores the whole map ``{permissionId: "consent" | None}``; a changed one is pushed by the next run.

    Checked against what the audience asks at Mailchimp now. Raises ``ConflictError``
    (``marketing_permissions_unread``) where no member shows it yet, ``NotFoundError``
    (``marketing_permission_not_found``) with one problem for each id that the audience does not have.
    """
    audience = await service.find(resources, actor.org_id, list_id)
    audience = await service.read_anew(resources, actor.org_id, audience)
    _check(audience, list(wanted))
    stored = {ident: CONSENT for ident, feeds in sorted(wanted.items()) if feeds == CONSENT}
    async with resources.db.transaction(actor.org_id) as session:
        before = service.permissions_fed(await service.locked(session, audience.id))
        await repository.store_permission_map(session, audience.id, stored)
        after = await service.locked(session, audience.id)
        now = service.permissions_fed(after)
        if now != before:
            await repository.touch_definition(session, audience.id)
        audit.record(
            session,
            actor,
            AuditAction.AUDIENCES_SET_MARKETING_PERMISSIONS,
            entity="audience",
            entity_id=audience.id,
            diff={"consent": [list(before), list(now)]},
        )
        return await service.view(session, after)


def _check(audience: Audience, asked: Sequence[str]) -> None:
    known = {each.id for each in Permission.stored(audience.marketing_permissions)}
    unknown = [(at, ident) for at, ident in enumerate(asked) if ident not in known]
    if not unknown:
        return
    if not known and audience.stats.get("marketingPermissions"):
        raise ConflictError(
            "Mailchimp shows an audience's marketing permissions on its members only, and this one"
            " has no member yet. Sync a segment or add one member, then ask again.",
            code="marketing_permissions_unread",
        )
    raise NotFoundError(
        "The audience has no such marketing permission; audiences.get with refresh shows those it"
        " has. Nothing was changed.",
        code="marketing_permission_not_found",
        errors=[
            FieldProblem(
                f"/permissions/{at}/marketingPermissionId",
                "marketing_permission_not_found",
                "The audience has no marketing permission with this id.",
            )
            for at, _ in unknown
        ],
    )
