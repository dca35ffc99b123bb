"""Finding the person a request is about, and every address they may be known under."""

from __future__ import annotations

from collections.abc import Sequence
from uuid import UUID

from sqlalchemy.ext.asyncio import AsyncSession

from mcsync.core.errors import BadRequestError, ConflictError, NotFoundError
from mcsync.features.erasure import repository
from mcsync.features.erasure.models import Erasure
from mcsync.features.erasure.schemas import SubjectInput
from mcsync.features.erasure.subject import (
    BY_ADDRESS,
    BY_ENTITY,
    Address,
    Subject,
    address_hash,
    address_key,
    entity_key,
)
from mcsync.features.preferences.by_address import usable
from mcsync.mailchimp import normalise_address


def address_given(hash_key: bytes, email: str) -> str:
    """The address as it would be stored; or else as it was given, in lower case.

    Mailchimp may have taken an address that mcsync does not (a quoted local part, two dots in a row), and
    an erasure must reach it too. Raises ``BadRequestError`` (``invalid_email``) without anything before or
    behind an ``@``.
    """
    try:
        return usable(hash_key, email)
    except BadRequestError:
        given = normalise_address(email)
        local, _, domain = given.rpartition("@")
        if not local or not domain:
            raise
        return given


def spelled(hash_key: bytes, email: str) -> tuple[str, ...]:
    """The spellings under which Mailchimp may know the address: as stored here, and as given."""
    return tuple(dict.fromkeys((address_given(hash_key, email), normalise_address(email))))


async def find(
    session: AsyncSession, hash_key: bytes, wanted: SubjectInput, *, erasing: bool,
    at_mailchimp: bool = False,
) -> Subject | Erasure:  # fmt: skip
    """Who is meant; or, where this is for an erasure, the one that was made of them before.

    ``at_mailchimp``: the address was just found on a list, though nothing may be known of it here.
    Raises NotFoundError (``contact_not_found``) where nothing is known, BadRequestError for nobody or an
    address that cannot be one, ConflictError (``address_shared``) for the address of several contacts.
    """
    if wanted.entity_id is not None and wanted.email is not None:
        raise BadRequestError(
            "Send entityType and entityId, or email, and not both: all addresses of the entity are"
            " found by themselves.",
            code="subject_needed",
        )
    if wanted.entity_type is not None and wanted.entity_id is not None:
        return await _find_entity(
            session, hash_key, wanted.entity_type, wanted.entity_id, erasing=erasing
        )
    if wanted.email is None:
        raise BadRequestError("Send entityType and entityId, or email.", code="subject_needed")
    return await _find_address(
        session, hash_key, wanted.email, erasing=erasing, at_mailchimp=at_mailchimp
    )


async def _find_entity(
    session: AsyncSession, hash_key: bytes, entity_type: str, entity_id: str, *, erasing: bool
) -> Subject | Erasure:
    contact = await repository.contact(session, entity_type, entity_id, lock=erasing)
    before = await repository.newest_of(
        session, BY_ENTITY, entity_key(hash_key, entity_type, entity_id)
    )
    if before is not None and before.status == "open":
        return before
    if contact is None and not await repository.entity_is_known(session, entity_type, entity_id):
        if before is None:
            raise unknown()
        return before
    subject = Subject(entity_type, entity_id, contact.id if contact else None)
    if contact is not None:
        if contact.address_hash is not None:
            subject.learn([Address(contact.address_hash, contact.email)])
        subject.learn(await repository.former_addresses(session, contact.id))
    subject.learn(
        await repository.addresses_at_mailchimp(session, subject.hashes, subject.contact_id)
    )
    return subject


async def _find_address(
    session: AsyncSession, hash_key: bytes, given: str, *, erasing: bool, at_mailchimp: bool
) -> Subject | Erasure:
    """By address: the one contact who has it, or the address alone where no contact does."""
    email, *others = spelled(hash_key, given)
    known, key = address_hash(email), address_key(hash_key, email)
    hashes = [address.hash for address in Address(known, email).spelled()]
    before = await _erased_before(session, key) if erasing else None
    if before is not None:
        new = at_mailchimp or await repository.address_is_known(
            session, hashes, key, at_mailchimp_only=True
        )
        if before.status == "open" or not new:
            return before
        # they came back at Mailchimp by themselves, and ask again
        return await _address_alone(session, [email, *others])
    contacts = await repository.contacts_at(session, known, hashes)
    if len(contacts) > 1:
        raise ConflictError(
            "Several contacts have this address. Name the one who is meant.",
            code="address_shared",
            extra={
                "contacts": [
                    {"entityType": c.entity_type, "entityId": c.entity_id} for c in contacts
                ]
            },
        )
    if contacts:
        return await _find_entity(
            session, hash_key, contacts[0].entity_type, contacts[0].entity_id, erasing=erasing
        )
    if not at_mailchimp and not await repository.address_is_known(session, hashes, key):
        raise unknown()
    return await _address_alone(session, [email, *others])


async def _erased_before(session: AsyncSession, key: UUID) -> Erasure | None:
    """The erasure for which the address is suppressed, or that is under way for it."""
    newest = await repository.newest_of(session, BY_ADDRESS, key)
    if newest is not None and newest.status == "open":
        return newest
    suppressed = await repository.live_suppressions(session, [(BY_ADDRESS, key)])
    if not suppressed or suppressed[0].erasure_id is None:
        return None
    return await repository.get(session, suppressed[0].erasure_id)


async def _address_alone(session: AsyncSession, emails: Sequence[str]) -> Subject:
    subject = Subject(None, None, None)
    subject.learn(Address(address_hash(email), email) for email in emails)
    subject.learn(await repository.addresses_at_mailchimp(session, subject.hashes, None))
    return subject


def unknown() -> NotFoundError:
    return NotFoundError("Nothing is known of this person.", code="contact_not_found")
