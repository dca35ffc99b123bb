"""What operators do to the platform itself: organisations, tokens, master keys. No procedure does this."""

from __future__ import annotations

import contextlib
import getpass
import unicodedata
from collections.abc import Collection
from datetime import datetime
from typing import TYPE_CHECKING, Final
from uuid import UUID

from uuid6 import uuid7

from mcsync.core.auth import Actor, Role
from mcsync.core.errors import BadRequestError, NotFoundError

if TYPE_CHECKING:
    from mcsync.core.auth.tokens import IssuedToken
    from mcsync.core.db.platform import Organisation, ServiceToken
    from mcsync.core.resources import Resources


def operator(org_id: UUID) -> Actor:
    """Whoever sits at this command line, with every scope: they hold the database's URL."""
    try:
        label = getpass.getuser()
    except (KeyError, OSError):
        label = "operator"
    return Actor.cli(org_id, label)


MOST_LETTERS: Final = 200


def checked_label(name: str) -> str:
    """The name as it is kept: in one Unicode form (NFC), without blanks around it.

    Raises ``BadRequestError`` (``invalid_name``) for one that is blank, longer than 200 letters, or holds
    control characters.
    """
    kept = unicodedata.normalize("NFC", name).strip()
    if not kept or len(kept) > MOST_LETTERS or any(unicodedata.category(c)[0] == "C" for c in kept):
        message = f"A name has 1 to {MOST_LETTERS} letters, and no control characters."
        raise BadRequestError(message, code="invalid_name")
    return kept


def checked_name(name: str) -> str:
    """An organisation's name: as :func:`checked_label`, and it does not look like an id.

    Raises ``BadRequestError`` (``invalid_name``).
    """
    kept = checked_label(name)
    with contextlib.suppress(ValueError):
        UUID(kept)
        message = "A name must not look like an id: commands take either."
        raise BadRequestError(message, code="invalid_name")
    return kept


async def new_organisation(resources: Resources, name: str) -> Organisation:
    """A new tenant. Raises ``BadRequestError`` (``invalid_name``) and ``ConflictError`` (``name_taken``)."""
    from mcsync.core.auth.organisations import create_organisation
    from mcsync.features import audit
    from mcsync.features.audit import AuditAction

    org_id = uuid7()
    async with resources.db.transaction(org_id) as session:
        organisation = await create_organisation(session, resources.keys, name=checked_name(name))
        audit.record(
            session,
            operator(org_id),
            AuditAction.ORGANISATION_CREATE,
            entity="organisation",
            entity_id=org_id,
        )
    return organisation


async def rename_organisation(resources: Resources, wanted: str, name: str) -> Organisation:
    """Gives an organisation another name. Raises as :func:`choose_organisation`, and for a name that cannot be."""
    from mcsync.core.auth.organisations import rename_organisation as rename
    from mcsync.features import audit
    from mcsync.features.audit import AuditAction

    chosen = await choose_organisation(resources, wanted)
    async with resources.db.transaction(chosen.id) as session:
        renamed = await rename(session, checked_name(name))
        audit.record(
            session,
            operator(chosen.id),
            AuditAction.ORGANISATION_RENAME,
            entity="organisation",
            entity_id=chosen.id,
        )
    return renamed


async def organisations(resources: Resources) -> list[Organisation]:
    """Every organisation, oldest first."""
    from mcsync.core.auth.organisations import get_organisation, organisation_ids

    found = []
    for org_id in await organisation_ids(resources.db):
        async with resources.db.transaction(org_id) as session:
            organisation = await get_organisation(session)
            if organisation is not None:
                found.append(organisation)
    return found


async def choose_organisation(resources: Resources, wanted: str | None) -> Organisation:
    """The organisation of this id or name (whatever the case); without either, the only one.

    Raises ``NotFoundError`` (``organisation_not_found``) and ``BadRequestError``
    (``organisation_needed``).
    """
    from mcsync.core.auth.organisations import (
        find_organisation,
        get_organisation,
        organisation_ids,
    )

    if wanted is None:
        ids = await organisation_ids(resources.db)
        if len(ids) != 1:
            message = (
                "There are several organisations: choose one with --org."
                if ids
                else "There is no organisation yet: make one with `mcsync org create NAME`."
            )
            raise BadRequestError(message, code="organisation_needed")
        org_id: UUID | None = ids[0]
    else:
        name = unicodedata.normalize("NFC", wanted).strip()
        org_id = await find_organisation(resources.db, name)
    if org_id is not None:
        async with resources.db.transaction(org_id) as session:
            organisation = await get_organisation(session)
        if organisation is not None:
            return organisation
    message = "There is no such organisation; `mcsync org list` shows all."
    raise NotFoundError(message, code="organisation_not_found")


async def acting(resources: Resources, organisation: str | None) -> Actor:
    """The operator, in the organisation that :func:`choose_organisation` finds."""
    return operator((await choose_organisation(resources, organisation)).id)


async def new_token(
    resources: Resources, org_id: UUID, *, name: str, role: Role | None,
    expires_at: datetime | None = None, audience_ids: Collection[str] | None = None,
) -> IssuedToken:  # fmt: skip
    """A token of the organisation; its secret is in the answer and nowhere else.

    With ``audience_ids`` and no role it is publishable. Raises ``BadRequestError`` (``invalid_name``), and
    ``NotFoundError`` for an audience that the connected account does not have.
    """
    from mcsync.core.auth.tokens import issue_token
    from mcsync.features import audit
    from mcsync.features.audiences import service as audiences
    from mcsync.features.audit import AuditAction

    kept = checked_label(name)
    for list_id in audience_ids or ():
        await audiences.find(resources, org_id, list_id)
    async with resources.db.transaction(org_id) as session:
        issued = await issue_token(
            session, resources.hash_keys, name=kept, role=role, expires_at=expires_at,
            audiences=audience_ids,
        )  # fmt: skip
        audit.record(
            session,
            operator(org_id),
            AuditAction.TOKEN_CREATE,
            entity="token",
            entity_id=issued.id,
            diff={"role": issued.role, "expiresAt": expires_at, "audiences": audience_ids},
        )
    return issued


async def tokens(resources: Resources, org_id: UUID) -> list[ServiceToken]:
    """The organisation's tokens, newest first; never their secrets."""
    from mcsync.core.auth.tokens import list_tokens

    async with resources.db.transaction(org_id) as session:
        return await list_tokens(session)


async def end_token(resources: Resources, org_id: UUID, token_id: UUID, *, at: datetime) -> None:
    """Ends a token at ``at``. Raises ``NotFoundError``."""
    from mcsync.core.auth.tokens import revoke_token
    from mcsync.features import audit
    from mcsync.features.audit import AuditAction

    async with resources.db.transaction(org_id) as session:
        await revoke_token(session, token_id, at=at)
        audit.record(
            session,
            operator(org_id),
            AuditAction.TOKEN_REVOKE,
            entity="token",
            entity_id=token_id,
            diff={"at": at},
        )
