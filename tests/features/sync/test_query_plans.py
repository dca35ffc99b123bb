"""What a statement reads does not depend on what the planner believes (decision 0017).

A new organisation comes to an installation that holds others' contacts, and goes through its first days,
with statistics that are missing, or of an empty database, or of one that lost its rows and kept its pages, or
older than the organisation, or fresh.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any, Literal
from uuid import uuid4

import asyncpg
import pytest

from mcsync.core.db import statistics as core_statistics
from mcsync.core.resources import Resources
from mcsync.core.settings import Settings
from mcsync.features.contacts import service as contacts
from mcsync.features.contacts import staging
from mcsync.features.preferences.service import PreferencesConsentSink
from mcsync.features.sync import execute, service
from mcsync.features.sync.schemas import PreviewInput
from tests.features.sync.world import World, make_world
from tests.support.organisations import make_organisation
from tests.support.query_plans import Plans, explain_everything
from tests.support.sandbox import SandboxControl
from tests.support.servers import TEMPLATE

NEW = 1_000
OTHERS = 3
Statistics = Literal["missing", "empty", "emptied", "old", "fresh"]

# What a synced organisation leaves behind.
_NEIGHBOUR = (
    """insert into contacts (org_id, entity_type, entity_id, email, address_hash, address_key, department)
       select $1, 'employee', 'E' || n, a.email, md5(a.email)::uuid, md5('key' || a.email)::uuid, 'Sales'
       from generate_series(1, $2::int) n, lateral (select 'p' || n || '@' || cast($1 as uuid) || '.example' as email) a""",
    """insert into email_preferences (org_id, entity_type, entity_id, status, consent_given_at, source)
       select org_id, entity_type, entity_id, 'opted_in', now(), 'form' from contacts
       where org_id = $1""",
    """insert into preference_events (org_id, entity_type, entity_id, address_key, status, effective_at,
                                      source, applied, actor_kind, actor_id)
       select org_id, entity_type, entity_id, address_key, 'opted_in', now(), 'form', true, 'cli', 'test' from contacts
       where org_id = $1""",
    """insert into address_consents (org_id, address_key, address_hash, given_at)
       select org_id, address_key, address_hash, now() from contacts where org_id = $1""",
    """insert into audience_members (org_id, audience_id, address_hash, email, status)
       select org_id, $2, address_hash, email, 'subscribed' from contacts where org_id = $1""",
    """insert into segment_members (org_id, segment_id, audience_id, address_hash)
       select org_id, $2, $2, address_hash from contacts where org_id = $1""",
    """insert into sync_changes (org_id, run_id, seq, address_hash, contact_id, email, action, reason, state)
       select org_id, $2, row_number() over (), address_hash, id, email, 'add', 'new', 'done' from contacts
       where org_id = $1""",
)


@pytest.fixture
def template() -> str:
    return TEMPLATE


_FILLED = [statement.split()[2] for statement in _NEIGHBOUR]


async def neighbours(resources: Resources, onlooker: asyncpg.Connection) -> None:
    for _ in range(OTHERS):
        org = await make_organisation(resources, f"Neighbour {uuid4()}")
        thing = uuid4()
        for statement in _NEIGHBOUR:
            given = [NEW] if "$2::int" in statement else [thing] if "$2" in statement else []
            await onlooker.execute(statement, org.id, *given)


@pytest.fixture
def much(statistics: Statistics, monkeypatch: pytest.MonkeyPatch) -> None:
    """Tables that the planner takes for empty are found after many rows: for this small story, a hundred."""
    if statistics == "emptied":
        for module in (core_statistics, staging, execute):
            monkeypatch.setattr(module, "MUCH", 100)


@pytest.fixture
async def full(onlooker: asyncpg.Connection, resources: Resources, statistics: Statistics) -> None:
    """The others are there; autovacuum leaves the tables alone."""
    tables = await onlooker.fetch(
        "select relname from pg_class where relkind = 'r' and relnamespace = 'public'::regnamespace"
    )
    for (table,) in tables:
        await onlooker.execute(f"alter table {table} set (autovacuum_enabled = off)")
    # An earlier test may have used the database, and autovacuum may have seen it so.
    filled = ", ".join(_FILLED)
    await onlooker.execute(f"truncate {filled} cascade")
    if statistics == "empty":
        await onlooker.execute("vacuum analyze")
    if statistics == "emptied":
        # PostgreSQL keeps the pages, for example where one row is left on the last of them.
        await neighbours(resources, onlooker)
        async with onlooker.transaction():
            await onlooker.execute("set local session_replication_role = replica")
            for table in _FILLED:
                await onlooker.execute(f"delete from {table}")
        await onlooker.execute("vacuum (analyze, truncate off)")
    await neighbours(resources, onlooker)
    if statistics in ("old", "fresh"):
        await onlooker.execute("vacuum analyze")


@pytest.fixture
async def explained(
    full: None, much: None, onlooker: asyncpg.Connection, database: str, settings: Settings
) -> AsyncIterator[tuple[Resources, Plans]]:
    """Another process of the service, whose statements are explained."""
    await explain_everything(onlooker, database)
    built = await Resources.build(settings)
    yield built, Plans(built)
    await built.close()


def file(*, opted_out: int = 0, start: int = 0) -> list[str]:
    rows = [
        f"employee,N{n},n{n}@new.example,Ada,Sales,"
        + ("opted_out,form," if n < opted_out else "opted_in,form,2026-01-01T00:00:00Z")
        for n in range(start, NEW)
    ]
    columns = (
        "entityType,entityId,email,firstName,department,optStatus,consentSource,consentGivenAt"
    )
    return [columns, *rows]


async def bring(world: World, lines: list[str], **options: Any) -> None:
    async def body() -> AsyncIterator[bytes]:
        for line in lines:
            yield f"{line}\n".encode()

    sink = PreferencesConsentSink(world.resources, world.actor)
    result = await contacts.import_file(
        world.resources, world.actor, body(), "text/csv", sink, **options
    )
    assert result.received == len(lines) - 1
    assert result.rejected == 0


@pytest.mark.slow
@pytest.mark.parametrize("statistics", ["missing", "empty", "emptied", "old", "fresh"])
async def test_no_statement_reads_an_organisation_for_each_of_its_rows(
    statistics: Statistics,
    explained: tuple[Resources, Plans],
    onlooker: asyncpg.Connection,
    sandbox: SandboxControl,
) -> None:
    resources, plans = explained

    async def analyse() -> None:
        if statistics == "fresh":
            await onlooker.execute("analyze")

    org = await make_organisation(resources, "New")
    world = await make_world(resources, org, sandbox)
    await bring(world, file())
    await analyse()
    segment = await world.segment()
    preview = PreviewInput.model_validate({"id": segment})
    await service.preview(resources, world.actor, preview)
    run = await world.sync(segment)
    assert run.counts.done == NEW
    await analyse()
    await bring(world, file(opted_out=NEW // 10), confirm_withdrawals=True)
    await world.orders()
    run = await world.sync(segment)
    assert run.status == "succeeded"
    await world.changes(run)
    await world.nothing_left(segment)
    assert (await world.statuses())["subscribed"] == NEW - NEW // 10

    assert plans.statements > 100
    whole = NEW * (OTHERS + 1)
    too_much = {str(read): read for read in plans.reads if read.rows > 5 * whole}
    assert not too_much, "\n".join(too_much)
