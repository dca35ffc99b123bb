"""Organisations: made by operators, found by the look-up that answers ids only."""

from __future__ import annotations

import contextlib
import unicodedata
from typing import Final
from uuid import UUID

from sqlalchemy import select, text
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncSession

from mcsync.core.crypto import KeyRing, new_hash_key
from mcsync.core.db import Database, org_of
from mcsync.core.db.platform import Organisation
from mcsync.core.errors import BadRequestError, ConflictError, NotFoundError

MOST_LETTERS: Final = 200


def checked_name(name: str) -> str:
    """The name as it is kept: in one Unicode form (NFC), without blanks around it.

    Raises ``BadRequestError`` (``invalid_name``) for one that is blank, longer than 200 letters, holds control
    characters, or looks like an id.
    """
    kept = unicodedata.normalize("NFC", name).strip()
    if not kept or len(kept) > MOST_LETTERS or any(unicodedata.category(c)[0] == "C" for c in kept):
        message = f"A name has 1 to {MOST_LETTERS} letters, and no control characters."
        raise BadRequestError(message, code="invalid_name")
    with contextlib.suppress(ValueError):
        UUID(kept)
        message = "A name must not look like an id: commands take either."
        raise BadRequestError(message, code="invalid_name")
    return kept


async def create_organisation(session: AsyncSession, keys: KeyRing, *, name: str) -> Organisation:
    """Makes the organisation whose id the session is already bound to (a fresh UUIDv7).

    The caller records it in the audit. Raises what :func:`checked_name` raises, and ``ConflictError``
    (``name_taken``).
    """
    org_id = org_of(session)
    organisation = Organisation(
        id=org_id, name=checked_name(name), hash_key=new_hash_key(keys, org_id)
    )
    session.add(organisation)
    await _flush(session)
    return organisation


async def rename_organisation(session: AsyncSession, name: str) -> Organisation:
    """Gives the session's organisation another name; the caller records it in the audit.

    Raises what :func:`create_organisation` raises, and ``NotFoundError``.
    """
    organisation = await get_organisation(session)
    if organisation is None:
        message = "There is no such organisation."
        raise NotFoundError(message, code="organisation_not_found")
    organisation.name = checked_name(name)
    await _flush(session)
    return organisation


async def _flush(session: AsyncSession) -> None:
    try:
        await session.flush()
    except IntegrityError as error:
        message = "There is an organisation of this name already."
        raise ConflictError(message, code="name_taken") from error


async def organisation_ids(db: Database) -> list[UUID]:
    """The ids of all organisations."""
    async with db.system() as session:
        return list(await session.scalars(text("select mcsync_organisation_ids()")))


async def find_organisation(db: Database, wanted: str) -> UUID | None:
    """The id of the organisation with this id or name (whatever the case); None where there is none."""
    async with db.system() as session:
        try:
            number = UUID(wanted)
        except ValueError:
            found: UUID | None = await session.scalar(
                text("select mcsync_organisation_named(:wanted)"), {"wanted": wanted}
            )
            return found
    return number if number in await organisation_ids(db) else None


async def get_organisation(session: AsyncSession) -> Organisation | None:
    """The session's organisation."""
    found = await session.scalars(select(Organisation).where(Organisation.id == org_of(session)))
    return found.one_or_none()
