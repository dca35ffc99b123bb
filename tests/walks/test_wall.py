"""The second wall, row-level security, looked at past the service: plain statements as its role."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import Any
from uuid import UUID, uuid4

import asyncpg
import pytest
import sqlalchemy as sa
from sqlalchemy import Table
from sqlalchemy.dialects import postgresql

from mcsync.models import Base
from tests.support.organisations import Org
from tests.walks.stage import NOT_TENANTS, TENANT_TABLES, Stage, org_column

LOOK_UPS = {
    "mcsync_token_org",
    "mcsync_organisation_ids",
    "mcsync_connected_organisation_ids",
    "mcsync_due_runs",
    "mcsync_due_orders",
    "mcsync_webhook_endpoint",
    "mcsync_due_webhook_events",
    "mcsync_due_webhook_checks",
    "mcsync_due_audience_pulls",
    "mcsync_due_campaigns",
    "mcsync_due_form_posts",
    "mcsync_due_erasures",
    "mcsync_due_source_pulls",
    "mcsync_source_organisation_ids",
    "mcsync_due_messages",
    "mcsync_due_outcomes",
    "mcsync_transactional_hook",
    "mcsync_transactional_organisation_ids",
}
FIGURES = {
    "mcsync_backlog",
    "mcsync_webhook_states",
    "mcsync_sealed_keys",
    "mcsync_tenant_states",
    "mcsync_organisation_named",
    "mcsync_changed_webhooks",
    "mcsync_webhooks_elsewhere",
}
"""For operators: ids, counts, times and states of everybody."""
WORDS = {"kind", "status", "error", "key"}
"""The only texts in those: of mcsync itself, or an operator's name for a master key."""
ANALYSES = "mcsync_analyse_grown"
"""Acts as the owner of the tables, since only the owner may analyse them; it answers a count."""
ERASERS = {
    "mcsync_forget_history": "mcsync_eraser",
    "mcsync_forget_address_history": "mcsync_eraser",
}
"""What an erasure may do beyond the service's own rights, and as whom."""
APPEND_ONLY = ("audit_entries", "preference_events")

_tables = pytest.mark.parametrize("name", sorted(TENANT_TABLES))


@pytest.fixture
async def service(stage: Stage) -> AsyncIterator[asyncpg.Connection]:
    """A connection as the service's role, rolled back at the end."""
    connection = await asyncpg.connect(stage.service_url)
    transaction = connection.transaction()
    await transaction.start()
    yield connection
    await transaction.rollback()
    await connection.close()


async def bind(connection: asyncpg.Connection, org: Org | None) -> None:
    await connection.execute(
        "select set_config('app.org_id', $1, true)", str(org.id) if org else ""
    )


def some_value(kind: sa.types.TypeEngine[Any]) -> Any:
    """Any value of a column's type."""
    match kind:
        case postgresql.JSONB() | sa.JSON():
            return "{}"
        case sa.ARRAY():
            return []
        case sa.Uuid():
            return uuid4()
        case sa.Boolean():
            return True
        case sa.Integer():
            return 1
        case sa.DateTime():
            return datetime.now(UTC)
        case sa.LargeBinary():
            return uuid4().bytes
    return uuid4().hex


def insertion(table: Table, org_id: UUID) -> tuple[str, list[Any]]:
    """A statement that inserts a row of an organisation, and its parameters."""
    owner = org_column(table.name)
    given = {
        column.name: org_id if column.name == owner else some_value(column.type)
        for column in table.columns
        if column.name == owner or (not column.nullable and column.server_default is None)
    }
    places = ", ".join(f"${number}" for number in range(1, len(given) + 1))
    return f"insert into {table.name} ({', '.join(given)}) values ({places})", list(given.values())


async def fill(stage: Stage, name: str) -> None:
    """Makes sure, as the database's owner, that both organisations have a row in the table."""
    for tenant in (stage.ours, stage.theirs):
        owner = org_column(name)
        count = f"select count(*) from {name} where {owner} = $1"
        if await stage.onlooker.fetchval(count, tenant.org.id) == 0:
            async with stage.onlooker.transaction():
                # no foreign keys, no triggers: only the row matters here
                await stage.onlooker.execute("set local session_replication_role = replica")
                statement, values = insertion(TENANT_TABLES[name], tenant.org.id)
                await stage.onlooker.execute(statement, *values)


@_tables
async def test_without_a_where_only_the_bound_organisation_is_seen(
    stage: Stage, service: asyncpg.Connection, name: str
) -> None:
    await fill(stage, name)
    select = f"select {org_column(name)} as org from {name}"

    assert await service.fetch(select) == []
    await bind(service, None)
    assert await service.fetch(select) == []
    for tenant in (stage.ours, stage.theirs):
        await bind(service, tenant.org)
        assert {row["org"] for row in await service.fetch(select)} == {tenant.org.id}


@_tables
async def test_rows_of_another_organisation_cannot_be_made_changed_or_removed(
    stage: Stage, service: asyncpg.Connection, name: str
) -> None:
    await fill(stage, name)
    ours, theirs, owner = stage.ours.org, stage.theirs.org, org_column(name)
    before = await stage.rows(theirs)
    statement, values = insertion(TENANT_TABLES[name], theirs.id)
    for bound in (ours, None):
        await bind(service, bound)
        with pytest.raises(asyncpg.InsufficientPrivilegeError, match="row-level security"):
            async with service.transaction():
                await service.execute(statement, *values)
    await bind(service, ours)
    for change in (
        f"update {name} set {owner} = $1",
        f"update {name} set {owner} = {owner} where {owner} = $1",
        f"delete from {name} where {owner} = $1",
    ):
        try:
            async with service.transaction():
                done = await service.execute(change, theirs.id)
        except asyncpg.InsufficientPrivilegeError:
            continue
        assert done.rpartition(" ")[2] == "0", change
    assert await stage.rows(theirs) == before


async def test_every_table_is_behind_the_wall(stage: Stage) -> None:
    rows = await stage.onlooker.fetch(
        """select relname, relrowsecurity and relforcerowsecurity as walled,
                  pg_get_userbyid(relowner) as owner
           from pg_class where relnamespace = 'public'::regnamespace and relkind in ('r', 'p')"""
    )
    service = await _service_role(stage)
    assert {row["relname"] for row in rows} == set(Base.metadata.tables) | {"alembic_version"}
    assert {row["relname"] for row in rows if row["walled"]} == set(TENANT_TABLES)
    assert all(row["owner"] != service for row in rows), "an owner could take the wall down"
    for name in TENANT_TABLES:
        columns = TENANT_TABLES[name].columns
        assert not columns[org_column(name)].nullable
    for name in NOT_TENANTS:
        assert "org_id" not in Base.metadata.tables[name].columns


async def test_the_service_is_nobody_special(stage: Stage, service: asyncpg.Connection) -> None:
    role = await service.fetchrow(
        "select rolname, rolsuper, rolbypassrls, rolcreaterole, rolcreatedb, rolreplication"
        " from pg_roles where rolname = current_user"
    )
    assert role is not None
    assert not any(list(role.values())[1:]), dict(role)
    may_become = await service.fetch(
        "select rolname from pg_roles where pg_has_role(current_user, oid, 'member')"
        " and rolname <> current_user"
    )
    assert [row["rolname"] for row in may_become] == ["mcsync_app"]
    assert not await service.fetchval("select has_schema_privilege('public', 'create')")


@pytest.mark.parametrize("name", APPEND_ONLY)
async def test_what_is_recorded_cannot_be_changed(
    stage: Stage, service: asyncpg.Connection, name: str
) -> None:
    await bind(service, stage.ours.org)
    assert await service.fetchval(f"select count(*) from {name}") > 0
    for statement in (
        f"update {name} set org_id = org_id",
        f"delete from {name}",
        f"truncate {name}",
        f"alter table {name} disable row level security",
    ):
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            async with service.transaction():
                await service.execute(statement)


async def test_look_ups_answer_ids_only(stage: Stage, service: asyncpg.Connection) -> None:
    rows = await stage.onlooker.fetch(
        """select p.proname, pg_get_function_result(p.oid) as result, o.rolname as owner,
                  o.rolcanlogin or o.rolsuper or o.rolbypassrls as special,
                  has_function_privilege('public', p.oid, 'execute') as anybody
           from pg_proc p join pg_roles o on o.oid = p.proowner
           where p.prosecdef and p.pronamespace = 'public'::regnamespace"""
    )
    acts = [row for row in rows if row["proname"] == ANALYSES]
    assert [(row["result"], row["anybody"]) for row in acts] == [("integer", False)]
    rows = [row for row in rows if row["proname"] != ANALYSES]
    assert {row["proname"] for row in rows} == LOOK_UPS | FIGURES | set(ERASERS)
    for row in rows:
        assert row["owner"] == ERASERS.get(row["proname"], "mcsync_lookup")
        assert not row["special"]
        assert not row["anybody"], f"{row['proname']} is open to every role"
        texts = set(re.findall(r"(\w+) text\b", row["result"]))
        assert texts <= (WORDS if row["proname"] in FIGURES else set())
        if row["proname"] in FIGURES:
            continue
        words = set(row["result"].replace(",", " ").replace("(", " ").replace(")", " ").split())
        named = {
            "TABLE", "SETOF", "run_id", "org_id", "audience_id", "endpoint_id", "erasure_id", "epoch",
            "pull_id", "message_id", "connection_id", "request_id",
        }  # fmt: skip
        assert words <= named | {"uuid", "integer"}, row["result"]

    token = await stage.onlooker.fetchrow("select id, org_id from service_tokens limit 1")
    assert token is not None
    assert await service.fetchval("select mcsync_token_org($1)", token["id"]) == token["org_id"]
    assert await service.fetchval("select mcsync_token_org($1)", uuid4()) is None
    everybody = {stage.ours.org.id, stage.theirs.org.id}
    for name in (
        "mcsync_organisation_ids",
        "mcsync_connected_organisation_ids",
        "mcsync_source_organisation_ids",
    ):
        assert {row[0] for row in await service.fetch(f"select {name}()")} >= everybody
    due = await service.fetch("select * from mcsync_due_runs(10)")
    assert {row["org_id"] for row in due} == everybody
    everybodys = "select mcsync_transactional_organisation_ids()"
    assert {row[0] for row in await service.fetch(everybodys)} >= everybody
    hook = await stage.onlooker.fetchrow(
        """update transactional_connections set webhook_token_hash = 'x' where org_id = $1
           returning id, org_id""",
        stage.ours.org.id,
    )
    found = await service.fetch("select * from mcsync_transactional_hook('x')")
    assert found == [hook]
    assert await service.fetch("select * from mcsync_transactional_hook('y')") == []
    await stage.onlooker.execute("update transactional_connections set webhook_token_hash = null")
    for name in ("mcsync_due_messages", "mcsync_due_outcomes"):
        await service.fetch(f"select * from {name}(10)")
    orders = await service.fetch("select * from mcsync_due_orders(10)")
    assert {row["org_id"] for row in orders} == everybody
    erasures = await service.fetch("select * from mcsync_due_erasures(10)")
    assert {row["org_id"] for row in erasures} == everybody
    await stage.onlooker.execute("update source_pulls set status = 'queued'")
    pulls = await service.fetch("select * from mcsync_due_source_pulls(10)")
    await stage.onlooker.execute("update source_pulls set status = 'failed'")
    assert {row["org_id"] for row in pulls} == everybody


async def test_history_is_forgotten_for_an_erasure_under_way_and_within_the_organisation(
    stage: Stage, service: asyncpg.Connection
) -> None:
    forget = "select mcsync_forget_history($1, 'employee', $2)"
    ours, theirs = stage.ours, stage.theirs
    history = "select count(*) from preference_events where entity_id = $1"
    before = {
        t.org.id: await stage.onlooker.fetchval(history, t.entity(3)["entityId"])
        for t in (ours, theirs)
    }
    assert all(before.values())
    for bound, erasure, whom in (
        (None, ours.ids["erasure"], ours),
        (ours.org, str(uuid4()), ours),
        (ours.org, theirs.ids["erasure"], theirs),
        (ours.org, ours.ids["erasure"], theirs),
        (ours.org, ours.ids["erased"], ours),  # that one is done
    ):
        await bind(service, bound)
        async with service.transaction():
            assert await service.fetchval(forget, UUID(erasure), whom.entity(3)["entityId"]) == 0
    await bind(service, ours.org)
    forgotten = await service.fetchval(
        forget, UUID(ours.ids["erasure"]), ours.entity(3)["entityId"]
    )
    assert forgotten == before[ours.org.id]


async def test_what_was_said_of_an_address_is_forgotten_in_the_same_way(
    stage: Stage, service: asyncpg.Connection
) -> None:
    forget = "select mcsync_forget_address_history($1, array[$2::uuid])"
    ours, theirs, key = stage.ours, stage.theirs, uuid4()
    everything = "select count(*) from preference_events"
    for tenant in (theirs, ours):
        await bind(service, tenant.org)
        for entity in (None, "E-1"):
            await service.execute(
                """insert into preference_events (org_id, entity_type, entity_id, address_key, status,
                       effective_at, source, actor_kind, applied)
                   values ($1, $2, $3, $4, 'opted_out', now(), 'test', 'cli', true)""",
                tenant.org.id, entity and "employee", entity, key,
            )  # fmt: skip
    for bound, erasure in (
        (None, ours.ids["erasure"]),
        (ours.org, str(uuid4())),
        (ours.org, theirs.ids["erasure"]),
        (ours.org, ours.ids["erased"]),  # that one is done
    ):
        await bind(service, bound)
        assert await service.fetchval(forget, UUID(erasure), key) == 0
    await bind(service, ours.org)
    assert await service.fetchval(forget, UUID(ours.ids["erasure"]), uuid4()) == 0
    before = await service.fetchval(everything)
    assert await service.fetchval(forget, UUID(ours.ids["erasure"]), key) == 1
    assert await service.fetchval(everything) == before - 1
    await bind(service, theirs.org)
    left = "select count(*) from preference_events where address_key = $1"
    assert await service.fetchval(left, key) == 2


async def _service_role(stage: Stage) -> str:
    connection = await asyncpg.connect(stage.service_url)
    try:
        return str(await connection.fetchval("select current_user"))
    finally:
        await connection.close()
