"""contacts.import against a bare COPY of the same rows into a table with the same columns and indexes.

Whole imports through the service, as its own database role (row-level security on), until commit: a new
file, the same file again, one with a tenth of the rows changed, and a new one whose rows state consent. The
yardstick is PostgreSQL's COPY of the finished rows into an empty copy of the contacts table; of a file with
consent, into empty copies of all four tables that its rows end in. Both on one embedded PostgreSQL (durable, its
defaults), in turns.

    python bench/bench_import.py [--rows N] [--rounds N]
"""

from __future__ import annotations

import argparse
import asyncio
import base64
import os
import random
import resource
import tempfile
import time
from collections.abc import AsyncIterator
from pathlib import Path
from statistics import median
from uuid import uuid4

import asyncpg
from pydantic import SecretStr
from sqlalchemy import text

from mcsync.core.auth import Actor
from mcsync.core.crypto import new_hash_key
from mcsync.core.db import migrations
from mcsync.core.resources import Resources
from mcsync.core.settings import Settings
from mcsync.embedded import EmbeddedPostgres
from mcsync.features.contacts import service
from mcsync.features.contacts.schemas import ImportResult
from mcsync.features.preferences.service import PreferencesConsentSink

TARGET = 1 / 3
HEAD = (
    "entityType,entityId,email,firstName,lastName,department,location,employmentType,"
    "employmentStatus,costCentre,birthday"
)
CONSENT = ("email_preferences", "preference_events", "address_consents")


def write_file(path: Path, rows: int, *, changed: float = 0.0, consent: bool = False) -> None:
    """The same rows each time, but for a share of them with another department; one in 20 opts out."""
    chance = random.Random(7)
    other = random.Random(11)
    with path.open("w", encoding="utf-8") as file:
        file.write(HEAD + (",optStatus,consentSource,consentGivenAt" if consent else "") + "\n")
        for number in range(rows):
            department = chance.randrange(40) + (100 if other.random() < changed else 0)
            file.write(
                f"{chance.choice(('employee', 'vendor'))},E{number:08},first.last{number}@firm{number % 977}"
                f".example,First{number % 5000},Lästname{number % 7000},Department {department},"
                f"City {chance.randrange(200)},full_time,active,CC{chance.randrange(300)},03/14"
            )
            if consent:
                status = "opted_in" if number % 20 else "opted_out"
                file.write(f",{status},intranet,2026-0{1 + number % 9}-1{number % 10}T08:30:00Z")
            file.write("\n")


async def body(path: Path) -> AsyncIterator[bytes]:
    """The file as an upload brings it."""
    with path.open("rb") as file:
        while piece := file.read(1 << 16):
            yield piece


async def timed_import(
    resources: Resources, actor: Actor, path: Path
) -> tuple[float, ImportResult]:
    began = time.perf_counter()
    sink = PreferencesConsentSink(resources, actor)
    result = await service.import_file(resources, actor, body(path), "text/csv", sink)
    return time.perf_counter() - began, result


async def timed_copy(superuser: asyncpg.Connection, path: Path, table: str = "contacts") -> float:
    """The yardstick."""
    await superuser.execute("drop table if exists bare")
    await superuser.execute(f"create table bare (like {table} including all)")
    await superuser.execute("checkpoint")
    began = time.perf_counter()
    await superuser.copy_to_table("bare", source=path)
    return time.perf_counter() - began


async def measure(postgres: EmbeddedPostgres, folder: Path, rows: int, rounds: int) -> None:
    postgres.create_database("bench")
    await asyncio.to_thread(migrations.upgrade, postgres.url("bench"))
    postgres.admit_service()
    resources = await Resources.build(
        Settings(
            database_url=SecretStr(postgres.service_url("bench")),
            redis_url=SecretStr("redis://127.0.0.1:9/0"),
            master_keys={"bench": SecretStr(base64.b64encode(os.urandom(32)).decode())},
        )
    )
    superuser = await asyncpg.connect(postgres.url("bench"))
    org_id = uuid4()
    async with resources.db.transaction(org_id) as session:
        await session.execute(
            text("insert into organisations (id, name, hash_key) values (:id, 'bench', :key)"),
            {"id": org_id, "key": new_hash_key(resources.keys, org_id)},
        )
    actor = Actor.cli(org_id)
    first, tenth, finished = folder / "first.csv", folder / "tenth.csv", folder / "finished.copy"
    await asyncio.to_thread(write_file, first, rows)
    await asyncio.to_thread(write_file, tenth, rows, changed=0.1)
    stated = folder / "stated.csv"
    await asyncio.to_thread(write_file, stated, rows, consent=True)
    names = ("copy", "new", "same", "tenth", "copy_all", "consent")
    times: dict[str, list[float]] = {name: [] for name in names}
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for _ in range(rounds):
        await superuser.execute("truncate contacts, contact_addresses")
        await superuser.execute("checkpoint")
        taken, result = await timed_import(resources, actor, first)
        assert (result.received, result.created) == (rows, rows)
        times["new"].append(taken)
        await superuser.copy_from_table("contacts", output=finished)
        taken, result = await timed_import(resources, actor, first)
        assert result.unchanged == rows
        times["same"].append(taken)
        taken, result = await timed_import(resources, actor, tenth)
        assert result.updated + result.unchanged == rows
        times["tenth"].append(taken)
        times["copy"].append(await timed_copy(superuser, finished))
        await superuser.execute(f"truncate contacts, contact_addresses, {', '.join(CONSENT)}")
        await superuser.execute("checkpoint")
        taken, result = await timed_import(resources, actor, stated)
        assert (result.received, result.created) == (rows, rows)
        times["consent"].append(taken)
        whole = 0.0
        for table in ("contacts", *CONSENT):
            await superuser.copy_from_table(table, output=finished)
            whole += await timed_copy(superuser, finished, table)
        times["copy_all"].append(whole)
        await superuser.execute(f"truncate {', '.join(CONSENT)}")
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - memory
    await superuser.close()
    await resources.close()
    report({name: median(values) for name, values in times.items()}, rows, grown)


def report(times: dict[str, float], rows: int, grown: int) -> None:
    print(f"import of {rows:,} contacts (medians)")
    for name, what, yardstick in (
        ("copy", "bare COPY of the finished rows (yardstick)", "copy"),
        ("new", "import, all new", "copy"),
        ("same", "import, all unchanged", "copy"),
        ("tenth", "import, a tenth changed", "copy"),
        ("copy_all", "bare COPY, with the rows of consent", "copy_all"),
        ("consent", "import, all new, each stating consent", "copy_all"),
    ):
        rate = rows / times[name]
        print(
            f"  {what:44}{times[name]:8.2f} s {rate:10,.0f} rows/s {1e6 / rate:6.1f} us/row"
            f"   ratio {times[yardstick] / times[name]:.2f}"
        )
    ratio = min(times["copy"] / times["new"], times["copy_all"] / times["consent"])
    print(f"  memory of the importing process grew by {grown / 1024:.0f} MiB")
    print(f"  target ratio {TARGET:.2f}: {'met' if ratio >= TARGET else 'MISSED'} ({ratio:.2f})")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=300_000)
    parser.add_argument("--rounds", type=int, default=3)
    given = parser.parse_args()
    postgres = EmbeddedPostgres(durable=True)
    postgres.start()
    try:
        with tempfile.TemporaryDirectory() as folder:
            asyncio.run(measure(postgres, Path(folder), given.rows, given.rounds))
    finally:
        postgres.close()


if __name__ == "__main__":
    main()
