"""Who is to be erased: the person, and every address they may be known under."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, Final, Self
from uuid import UUID

import orjson

from mcsync.core.crypto import keyed_hash
from mcsync.mailchimp import mailbox_hash, mailbox_of, spellings, subscriber_hash

BY_ENTITY: Final = "entity"
BY_ADDRESS: Final = "address"


def entity_key(hash_key: bytes, entity_type: str, entity_id: str) -> UUID:
    """The keyed hash an erased entity is remembered under (imports compute the same)."""
    return keyed_hash(hash_key, BY_ENTITY, f"{entity_type}\0{entity_id}")


def address_key(hash_key: bytes, email: str) -> UUID:
    """The keyed hash of an address, the same for both spellings of its domain."""
    return keyed_hash(hash_key, BY_ADDRESS, mailbox_of(email))


def address_hash(email: str) -> UUID:
    """The hash of an address as our tables keep it, the same for both spellings of its domain."""
    return UUID(mailbox_hash(email))


@dataclass(frozen=True, slots=True)
class Address:
    """An address of the person; ``email`` is None where only its member at Mailchimp is known."""

    hash: UUID
    email: str | None

    def spelled(self) -> list[Address]:
        """The address under each spelling of its domain, where it has two, with the hash of each.

        Mailchimp may have a member under either, so each is erased and read back by itself.
        """
        spelled = spellings(self.email) if self.email is not None else ()
        if len(spelled) < 2:
            return [self]
        found = [Address(UUID(subscriber_hash(each)), each) for each in spelled]
        return found if self.hash in [a.hash for a in found] else [*found, self]


@dataclass(slots=True)
class Subject:
    """A person: an entity, or an address alone. Addresses keep their place: receipts count by it, from 1."""

    entity_type: str | None
    entity_id: str | None
    contact_id: UUID | None = None
    addresses: list[Address] = field(default_factory=list)

    @property
    def kind(self) -> str:
        """Known as an entity, or by an address only."""
        return BY_ADDRESS if self.entity_id is None else BY_ENTITY

    def key(self, hash_key: bytes) -> UUID:
        """The keyed hash that tells this person from others."""
        if self.entity_type is not None and self.entity_id is not None:
            return entity_key(hash_key, self.entity_type, self.entity_id)
        email = self.addresses[0].email
        assert email is not None, "known by an address"
        return address_key(hash_key, email)

    def address_keys(self, hash_key: bytes) -> list[UUID]:
        """The keyed hashes of all addresses known."""
        return [address_key(hash_key, a.email) for a in self.addresses if a.email is not None]

    @property
    def hashes(self) -> list[UUID]:
        """Mailchimp's hashes of all addresses known."""
        return [a.hash for a in self.addresses]

    def learn(self, found: Iterable[Address]) -> list[tuple[int, Address]]:
        """Adds addresses not known yet, in all their spellings; answers them with their numbers."""
        known = set(self.hashes)
        new = []
        for address in (spelled for each in found for spelled in each.spelled()):
            if address.hash not in known:
                known.add(address.hash)
                self.addresses.append(address)
                new.append((len(self.addresses), address))
        return new

    @property
    def words(self) -> list[str]:
        """In lower case, as they would stand in a JSON text: the addresses, and the id as a whole value."""
        found = [a.email for a in self.addresses if a.email is not None]
        words = [json.dumps(email, ensure_ascii=False)[1:-1] for email in found]
        if self.entity_id is not None:
            words.append(json.dumps(self.entity_id, ensure_ascii=False))
        return [word.lower() for word in words]

    def named_in(self, text: str) -> bool:
        """Whether a text that is to be kept names the person."""
        lowered = text.lower()
        words = [a.email.lower() for a in self.addresses if a.email is not None]
        if self.entity_id is not None:
            words.append(self.entity_id.lower())
        return any(word in lowered for word in words)

    def dump(self) -> str:
        """As text, to be sealed."""
        told: dict[str, Any] = {
            "entityType": self.entity_type,
            "entityId": self.entity_id,
            "contactId": str(self.contact_id) if self.contact_id else None,
            "addresses": [[str(a.hash), a.email] for a in self.addresses],
        }
        return orjson.dumps(told).decode()

    @classmethod
    def load(cls, text: str) -> Self:
        """Reads what :meth:`dump` wrote."""
        told = orjson.loads(text)
        return cls(
            told["entityType"],
            told["entityId"],
            UUID(told["contactId"]) if told["contactId"] else None,
            [Address(UUID(known), email) for known, email in told["addresses"]],
        )


def subject_context(org_id: UUID, erasure_id: UUID) -> str:
    """Where a subject is sealed for."""
    return f"org:{org_id}|erasure_subject|{erasure_id}"
