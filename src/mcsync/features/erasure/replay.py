"""Erasing again who is back after an older backup was restored.

What has to be kept outside of the database for that are keyed hashes only: whoever has neither the
organisation's hash key nor the person's address learns nothing from them.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Collection, Iterable
from dataclasses import dataclass, field
from datetime import datetime
from uuid import UUID

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from mcsync.core.auth import Actor
from mcsync.core.db import org_of
from mcsync.core.errors import McsyncError
from mcsync.core.resources import Resources
from mcsync.features import audit
from mcsync.features.audit import AuditAction
from mcsync.features.contacts import staging
from mcsync.features.erasure import repository, service
from mcsync.features.erasure.schemas import SubjectInput
from mcsync.features.erasure.subject import BY_ADDRESS, BY_ENTITY, address_key, entity_key
from mcsync.mailchimp import MailchimpError

Key = tuple[str, UUID]
"""The kind (``entity`` or ``address``) and the keyed hash of somebody erased."""

_ENTITIES = """
    select entity_type, entity_id from contacts where org_id = :org
    union select entity_type, entity_id from email_preferences where org_id = :org
    union select entity_type, entity_id from preference_events
           where org_id = :org and entity_id is not null
"""
_ADDRESSES = """
    select email from contact_addresses where org_id = :org and email is not null
    union select m.email from audiences a join audience_members m on m.audience_id = a.id
           where a.org_id = :org and m.email is not null
    union select email from audience_aliases where org_id = :org
    union select email from subscription_requests where org_id = :org and email is not null
    union select email from transactional_recipients where org_id = :org and email is not null
"""
_OF_CONTACTS = """
    select address_key from contacts
     where org_id = :org and address_key = any(cast(:keys as uuid[]))
"""


@dataclass(slots=True)
class Replayed:
    """What a replay did. Counts are of keys, ``erasures`` are ids; the workers finish these."""

    remembered: int = 0
    """Keys of the list that the database knew."""
    erasures: list[UUID] = field(default_factory=list)
    """Erasures asked for again, because the person is in the database."""
    suppressed: int = 0
    """Keys of nobody who is known here: they are refused when they come in an import."""
    held: int = 0
    """Addresses that a contact has who was not erased. They are wanted nowhere; the contact stays."""
    failed: int = 0
    """Addresses whose erasure could not be asked for. They are wanted nowhere; repeat the replay."""


async def remembered(resources: Resources, org_id: UUID) -> list[tuple[Key, datetime]]:
    """Everybody whom the organisation erased and did not take back, with the time, oldest first."""
    async with resources.db.transaction(org_id) as session:
        rows = await session.execute(
            text(
                "select kind, key, created_at from suppressions"
                " where org_id = :org and lifted_at is null order by created_at, kind, key"
            ),
            {"org": org_id},
        )
        return [((row.kind, row.key), row.created_at) for row in rows]


async def replay(resources: Resources, actor: Actor, keys: Collection[Key]) -> Replayed:
    """Erases again whom the database does not know as erased. Safe to repeat.

    Whoever is in the database is erased here and at Mailchimp as if asked for now; the others are
    refused from now on. An address that a contact has who is not to be erased is only refused, since
    whose it was is not known.
    """
    done = Replayed()
    missing = await _missing(resources, actor, keys)
    done.remembered = len(set(keys)) - len(missing)
    for wanted in await _entities(resources, actor, missing):
        done.erasures.append((await service.erase(resources, actor, wanted)).id)
    missing = await _missing(resources, actor, missing)
    held, alone = await _addresses(resources, actor, missing)
    for email in alone:
        try:
            asked = await service.erase(
                resources, actor, SubjectInput.model_validate({"email": email})
            )
            done.erasures.append(asked.id)
        except (McsyncError, MailchimpError):
            done.failed += 1
    missing = await _missing(resources, actor, missing)
    done.held = len(held)
    done.suppressed = len(missing) - done.held - done.failed
    await _suppress(resources, actor, missing, done)
    return done


async def _missing(resources: Resources, actor: Actor, keys: Iterable[Key]) -> set[Key]:
    wanted = set(keys)
    async with resources.db.transaction(actor.org_id) as session:
        live = await repository.live_suppressions(session, list(wanted))
    return wanted - {(one.kind, one.key) for one in live}


async def _entities(
    resources: Resources, actor: Actor, missing: Collection[Key]
) -> list[SubjectInput]:
    wanted = {key for kind, key in missing if kind == BY_ENTITY}
    if not wanted:
        return []
    async with resources.db.transaction(actor.org_id) as session:
        hash_key = await resources.hash_keys.hash_key(session)
        return [
            SubjectInput.model_validate({"entityType": entity_type, "entityId": entity_id})
            async for entity_type, entity_id in _rows(session, _ENTITIES)
            if entity_key(hash_key, entity_type, entity_id) in wanted
        ]


async def _addresses(
    resources: Resources, actor: Actor, missing: Collection[Key]
) -> tuple[set[UUID], list[str]]:
    """The keys of addresses that a contact has, and the addresses that are known without one."""
    wanted = {key for kind, key in missing if kind == BY_ADDRESS}
    if not wanted:
        return set(), []
    async with resources.db.transaction(actor.org_id) as session:
        hash_key = await resources.hash_keys.hash_key(session)
        rows = await session.scalars(
            text(_OF_CONTACTS), {"org": actor.org_id, "keys": list(wanted)}
        )
        held = set(rows)
        alone = {
            key: email
            async for (email,) in _rows(session, _ADDRESSES)
            if (key := address_key(hash_key, email)) in wanted - held
        }
    return held, list(alone.values())


async def _rows(session: AsyncSession, query: str) -> AsyncIterator[tuple[str, ...]]:
    found = await session.stream(text(query), {"org": org_of(session)})
    async for row in found:
        yield tuple(row)


async def _suppress(
    resources: Resources, actor: Actor, keys: Collection[Key], done: Replayed
) -> None:
    async with resources.db.transaction(actor.org_id) as session:
        # no import is being merged from here on: all later ones know of the suppressions
        await staging.lock_merge(session)
        if keys:
            await repository.suppress(session, sorted(keys), None)
        if keys or done.erasures:
            audit.record(
                session, actor, AuditAction.ERASURE_REPLAY, entity="erasure", entity_id=None,
                diff={"erasures": len(done.erasures), "suppressed": len(keys)},
            )  # fmt: skip
