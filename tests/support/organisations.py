"""Organisations and contacts for tests, made with as few statements as it takes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

import orjson
from sqlalchemy import text
from uuid6 import uuid7

from mcsync.core.auth import Role
from mcsync.core.auth.tokens import issue_token
from mcsync.core.crypto import keyed_hash, new_hash_key
from mcsync.core.resources import Resources
from mcsync.mailchimp import mailbox_hash, mailbox_of

DEPARTMENTS = ("Engineering", "Finance", "People", "Sales", "Support")
LOCATIONS = ("Berlin", "Lisbon", "Osaka")

_SEED = text("""
insert into contacts (org_id, entity_type, entity_id, email, address_hash, address_key, first_name,
                      last_name, department, location, employment_type, employment_status, attributes)
select :org, entity_type, entity_id, email, address_hash, address_key, first_name, last_name,
       department, location, employment_type, employment_status, attributes
  from jsonb_to_recordset(cast(:rows as jsonb)) as given (
       entity_type text, entity_id text, email text, address_hash uuid, address_key uuid,
       first_name text, last_name text, department text, location text, employment_type text,
       employment_status text, attributes jsonb)
returning id
""")


@dataclass(frozen=True)
class Org:
    """An organisation of a test; ``hash_key`` is the key of its keyed hashes."""

    id: UUID
    name: str
    hash_key: bytes


async def make_organisation(resources: Resources, name: str) -> Org:
    """A new organisation with a hash key, and nothing else."""
    org_id = uuid7()
    envelope = new_hash_key(resources.keys, org_id)
    async with resources.db.transaction(org_id) as session:
        await session.execute(
            text("insert into organisations (id, name, hash_key) values (:id, :name, :key)"),
            {"id": org_id, "name": name, "key": envelope},
        )
    return Org(org_id, name, await resources.hash_keys.hash_key(org_id))


async def make_token(resources: Resources, org: Org, role: Role) -> str:
    """A fresh token of the organisation."""
    async with resources.db.transaction(org.id) as session:
        issued = await issue_token(session, resources.hash_keys, name=f"test {role}", role=role)
    return issued.token


def contact_row(number: int, **given: Any) -> dict[str, Any]:
    """One employee, in every field predictable from ``number``, except where ``given`` says."""
    return {
        "entity_type": "employee",
        "entity_id": f"E{number:06}",
        "email": f"person{number}@example.com",
        "first_name": f"First{number}",
        "last_name": f"Last{number}",
        "department": DEPARTMENTS[number % len(DEPARTMENTS)],
        "location": LOCATIONS[number % len(LOCATIONS)],
        "employment_type": "full_time",
        "employment_status": "active",
        "attributes": {},
    } | given


async def insert_contacts(
    resources: Resources, org: Org, rows: Sequence[dict[str, Any]]
) -> list[UUID]:
    """Contacts straight into the table, with their hashes, in one statement; their ids in order."""
    complete = []
    for row in rows:
        email = row["email"]
        address = mailbox_of(email) if email else None
        complete.append(
            row
            | {
                "address_hash": UUID(mailbox_hash(email)) if email else None,
                "address_key": keyed_hash(org.hash_key, "address", address) if address else None,
            }
        )
    async with resources.db.transaction(org.id) as session:
        found = await session.execute(
            _SEED, {"org": org.id, "rows": orjson.dumps(complete, default=str).decode()}
        )
        return list(found.scalars())
