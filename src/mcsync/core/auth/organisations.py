"""Organisations: made by operators, found by the look-up that answers ids only."""

from __future__ import annotations

from uuid import UUID

from sqlalchemy import select, text
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncSession

from mcsync.core.crypto import KeyRing, SecretError, hash_key_context, new_hash_key
from mcsync.core.db import Database, org_of
from mcsync.core.db.inspection import SealedUnder
from mcsync.core.db.platform import Organisation
from mcsync.core.errors import ConflictError


async def create_organisation(session: AsyncSession, keys: KeyRing, *, name: str) -> Organisation:
    """Makes the organisation whose id the session is already bound to (a fresh UUIDv7).

    The caller has checked the name and records it in the audit. Raises ``ConflictError`` (``name_taken``).
    """
    org_id = org_of(session)
    organisation = Organisation(id=org_id, name=name, hash_key=new_hash_key(keys, org_id))
    session.add(organisation)
    await _flush(session)
    return organisation


async def rename_organisation(session: AsyncSession, name: str) -> Organisation:
    """Gives the session's organisation another name, like :func:`create_organisation`."""
    organisation = await session.get_one(Organisation, org_of(session))
    organisation.name = name
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


async def opens_hash_key(db: Database, keys: KeyRing, sealed: SealedUnder) -> bool | None:
    """Whether the master key opens the hash key of an organisation that has secrets under it.

    None where that hash key is under another key, and so says nothing of this one.
    """
    async with db.transaction(sealed.sample) as session:
        owner = await get_organisation(session)
    if owner is None:
        return None
    try:
        if keys.key_id(owner.hash_key) != sealed.key:
            return None
        keys.open(owner.hash_key, context=hash_key_context(sealed.sample))
    except SecretError:
        return False
    return True
