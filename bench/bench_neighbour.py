"""A new organisation on an installation that is already full, with statistics that do not know it.

The installation holds contacts of other organisations and was analysed then (or
before they came, or never); autovacuum is off and nothing is analysed afterwards. One organisation after the other imports a file with consents and
syncs it. Yardstick: one more organisation, in the same run, on a database that is analysed before
its import, after it, and all the time while it syncs.

    python bench/bench_neighbour.py [--others N] [--contacts N] [--organisations N]
                                    [--analysed full|empty|never]
"""

from __future__ import annotations

import argparse
import asyncio
import base64
import os
import tempfile
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from uuid import UUID

import asyncpg
from bench_import import body, write_file
from sqlalchemy import text
from stage import Stage, say, stage, verdict
from uuid6 import uuid7

from mcsync.core.auth import Actor
from mcsync.core.crypto import new_hash_key
from mcsync.features.audiences import service as audiences
from mcsync.features.connection import service as connection
from mcsync.features.contacts import service as contacts
from mcsync.features.preferences.service import PreferencesConsentSink
from mcsync.features.segments import service as segments
from mcsync.features.segments.schemas import CreateSegmentInput
from mcsync.features.sync import service as sync

_OTHERS = 10
TARGET = 1.3


@dataclass(frozen=True)
class Times:
    """Seconds that the three steps of an organisation's first sync took."""

    importing: float
    planning: float
    pushing: float

    def shown(self) -> str:
        return (
            f"import {self.importing:.2f} s, plan {self.planning:.2f} s, push {self.pushing:.2f} s"
        )


async def organisation(on: Stage, name: str) -> UUID:
    """A new organisation, without anything."""
    org_id = uuid7()
    async with on.resources.db.transaction(org_id) as session:
        await session.execute(
            text("insert into organisations (id, name, hash_key) values (:id, :name, :key)"),
            {"id": org_id, "name": name, "key": new_hash_key(on.resources.keys, org_id)},
        )
    return org_id


async def first_sync(
    on: Stage, name: str, file: Path, api_key: str, *, analyse: bool = False
) -> Times:
    """Imports the file into a new organisation and syncs all of it into an audience of its own.

    ``analyse``: the database is analysed before the import and before the sync.
    """
    if analyse:
        await on.superuser.execute("analyze")
    org_id = await organisation(on, name)
    actor = Actor.cli(org_id, "bench")
    began = time.perf_counter()
    result = await contacts.import_file(
        on.resources, actor, body(file), "text/csv", PreferencesConsentSink(on.resources, actor)
    )
    importing = time.perf_counter() - began
    assert result.created == result.received, result
    await connection.connect(on.resources, actor, api_key)
    audience = (await audiences.list_audiences(on.resources, actor))[0]
    segment = await segments.create(
        on.resources,
        actor,
        CreateSegmentInput.model_validate(
            {"name": name, "segmentType": "mixed", "audienceId": audience.audience_id}
        ),
    )
    if analyse:
        await on.superuser.execute("analyze")
    run = await sync.start(on.resources, actor, segment.id, dry_run=False)
    at: dict[str, float] = {}
    while run.status in ("queued", "pulling", "planning", "pushing"):
        at.setdefault(run.status, time.perf_counter())
        await asyncio.sleep(0.02)
        run = await sync.get(on.resources, actor, run.id)
    ended = time.perf_counter()
    assert run.status == "succeeded", run
    pushing = at.get("pushing", ended)
    return Times(importing, pushing - at.get("planning", pushing), ended - pushing)


async def analysed(url: str) -> None:
    """Analyses again and again, until cancelled."""
    connection = await asyncpg.connect(url)
    try:
        while True:
            await connection.execute("analyze")
            await asyncio.sleep(1)
    finally:
        await connection.close()


# What a synced organisation leaves behind, straight into the tables.
_NEIGHBOUR = (
    """insert into contacts (org_id, entity_type, entity_id, email, address_hash, address_key,
                             first_name, last_name, department, employment_type, employment_status)
       select $1, 'employee', 'E' || n, a.email, md5(a.email)::uuid, md5('key' || a.email)::uuid,
              'First' || n % 5000, 'Last' || n % 7000, 'Department ' || n % 40, 'full_time', 'active'
       from generate_series(1, $2::int) n,
       lateral (select $3 || '.person' || n || '@firm' || n % 977 || '.example' as email) a""",
    """insert into email_preferences (org_id, entity_type, entity_id, status, consent_given_at, source)
       select org_id, entity_type, entity_id, 'opted_in', now() - interval '1 day', 'bench'
       from contacts where org_id = $1""",
    """insert into address_consents (org_id, address_key, address_hash, given_at)
       select org_id, address_key, address_hash, now() - interval '1 day'
       from contacts where org_id = $1""",
    """insert into audience_members (org_id, audience_id, address_hash, email, status)
       select org_id, $2, address_hash, email, 'subscribed' from contacts where org_id = $1""",
    """insert into segment_members (org_id, segment_id, audience_id, address_hash)
       select org_id, $2, $2, address_hash from contacts where org_id = $1""",
)


async def neighbours(on: Stage, count: int) -> None:
    """Other organisations with so many contacts together, all synced."""
    first, *rest = _NEIGHBOUR
    for number in range(_OTHERS):
        org_id = await organisation(on, f"neighbour {number}")
        await on.superuser.execute(first, org_id, count // _OTHERS, f"n{number}")
        for statement in rest:
            await on.superuser.execute(statement, org_id, *([uuid7()] if "$2" in statement else []))


async def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--others", type=int, default=500_000)
    parser.add_argument("--contacts", type=int, default=50_000)
    parser.add_argument("--organisations", type=int, default=10)
    parser.add_argument(
        "--analysed", choices=("full", "empty", "never"), default="full",
        help="when the database was analysed last: with the others in it, before them, or never",
    )  # fmt: skip
    given = parser.parse_args()
    async with stage() as on:
        await on.superuser.execute("alter system set autovacuum = off")
        await on.superuser.execute("select pg_reload_conf()")
        if given.analysed == "empty":
            await on.superuser.execute("vacuum analyze")
        await neighbours(on, given.others)
        if given.analysed == "full":
            await on.superuser.execute("vacuum analyze")
        say(f"{given.others:,} contacts of {_OTHERS} others; last analysed: {given.analysed}")
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder) / "contacts.csv"
            await asyncio.to_thread(write_file, file, given.contacts, consent=True)
            seen = []
            for number in range(1, given.organisations + 1):
                seen.append(await first_sync(on, f"organisation {number}", file, await account(on)))
                say(f"organisation {number}, not analysed: {seen[-1].shown()}")
            analysing = asyncio.create_task(analysed(on.superuser_url))
            bare = await first_sync(on, "yardstick", file, await account(on), analyse=True)
            analysing.cancel()
            with suppress(asyncio.CancelledError):
                await analysing
            say(f"one more, analysed all the time (yardstick): {bare.shown()}")
    for number, times in ((1, seen[0]), (len(seen), seen[-1])):
        for step in ("importing", "planning", "pushing"):
            ratio = getattr(times, step) / getattr(bare, step)
            verdict(f"organisation {number}, {step}, of the yardstick", ratio, TARGET, at_most=True)


async def account(on: Stage) -> str:
    """A new Mailchimp account with one audience; answers its key."""
    key = base64.b16encode(os.urandom(16)).decode().lower() + "-us1"
    answer = await on.control.post(
        "/accounts", json={"apiKey": key, "name": "Bench", "lists": ["People"]}
    )
    answer.raise_for_status()
    return key


if __name__ == "__main__":
    asyncio.run(main())
