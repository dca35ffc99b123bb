"""``mcsync doctor``: what it finds, by a real database where it reads one, and that it stays light."""

from __future__ import annotations

import base64
import json
import os
from typing import Any
from uuid import UUID

import asyncpg
import pytest
from sqlalchemy import event

from mcsync.cli.checks import servers, tenants, work
from mcsync.cli.checks.finding import SHOWN, Finding
from mcsync.cli.checks.tenants import Asked
from mcsync.cli.doctor import _in_time, examine
from mcsync.core.db.heartbeats import SILENT_SECONDS, Heartbeat
from mcsync.core.db.inspection import Backlog, Load
from mcsync.core.errors import NotFoundError
from mcsync.core.resources import Resources
from mcsync.core.worker_health import DISPATCHER_STUCK_SECONDS
from tests.support.organisations import Org

OFFLINE = Asked(offline=True)


def _worker(name: str = "w1", **changed: Any) -> Heartbeat:
    usual: dict[str, Any] = {
        "worker_id": name, "host": "here", "pid": 42, "version": "1", "jobs": 0, "clock_seconds": 0.0,
        "silent_seconds": 1.0, "dispatch_seconds": 2.0, "idle_seconds": 3.0,
    }  # fmt: skip
    return Heartbeat(**usual | changed)


def _states(found: list[Finding]) -> dict[str, str]:
    return {one.check: one.state for one in found}


RUN_HELD = [Backlog("runs", 0, 1, 0.0)]
SILENT: dict[str, Any] = {"silent_seconds": SILENT_SECONDS + 1}
STUCK: dict[str, Any] = {"dispatch_seconds": DISPATCHER_STUCK_SECONDS + 1}


class TestWorkers:
    @pytest.mark.parametrize(
        ("seen", "waiting", "states"),
        [
            ([], [], {"workers": "warning"}),
            ([], RUN_HELD, {"workers": "problem"}),
            ([_worker()], RUN_HELD, {"workers": "ok"}),
            ([_worker(**SILENT)], [], {"workers": "problem", "worker w1": "problem"}),
            ([_worker(**SILENT), _worker("w2")], [], {"workers": "ok", "worker w1": "warning"}),
            ([_worker(**STUCK)], [], {"workers": "problem", "worker w1": "problem"}),
            ([_worker(**STUCK), _worker("w2")], [], {"workers": "ok", "worker w1": "problem"}),
            ([_worker(clock_seconds=-8.0)], [], {"workers": "ok", "worker w1": "warning"}),
            ([_worker(clock_seconds=90.0)], [], {"workers": "ok", "worker w1": "problem"}),
            (
                [_worker(pid=None, dispatch_seconds=None, idle_seconds=None, clock_seconds=None)],
                [], {"workers": "ok"},
            ),
        ],
        ids=["none, no work", "none, work", "one", "one silent", "one of two silent", "one stuck",
             "one of two stuck", "clock a little off", "clock far off", "an older version"],
    )  # fmt: skip
    def test_each_is_judged_and_named(
        self, seen: list[Heartbeat], waiting: list[Backlog], states: dict[str, str]
    ) -> None:
        found = work.judge_workers(seen, waiting)
        assert _states(found) == states
        assert all(one.fix for one in found if one.state != "ok")
        assert all("pid" in one.detail for one in found if one.check.startswith("worker w"))

    def test_work_is_late_by_its_kind(self) -> None:
        late = [
            Backlog(kind, 3, 0, expected + 1) for kind, expected in work.EXPECTED_SECONDS.items()
        ]
        on_time = [
            Backlog(kind, 3, 0, expected - 1) for kind, expected in work.EXPECTED_SECONDS.items()
        ]
        assert {one.state for one in work.judge_backlog(late, anybody=True)} == {"problem"}
        assert len(work.judge_backlog(late, anybody=True)) == len(late)
        assert {one.state for one in work.judge_backlog(on_time, anybody=False)} == {"ok"}


class TestClock:
    @pytest.mark.parametrize(
        ("theirs", "state", "side"),
        [(101.0, "ok", ""), (99.0, "ok", ""), (110.0, "warning", "ahead"), (92.0, "warning", "behind"),
         (200.0, "problem", "ahead"), (10.0, "problem", "behind")],
    )  # fmt: skip
    def test_a_clock_is_compared_with_ours(self, theirs: float, state: str, side: str) -> None:
        found = servers.clock("Mailchimp", theirs, 100.0, 101.5)
        assert (found.state, side in found.detail) == (state, True)

    def test_a_slow_answer_is_not_a_clock_that_is_off(self) -> None:
        assert servers.clock("Mailchimp", 105.0, 100.0, 160.0).state == "ok"
        assert servers.clock("Mailchimp", 94.5, 100.0, 100.1, precision=1.0).state == "ok"


@pytest.mark.parametrize(
    ("taken", "most", "each", "state"),
    [(20, 97, 20, "ok"), (84, 97, 20, "warning"), (96, 97, 20, "problem"), (5, 15, 20, "problem"),
     (5, 20, 20, "ok")],
)  # fmt: skip
def test_connections_that_run_out(taken: int, most: int, each: int, state: str) -> None:
    found = servers._connections(Load(taken, most), each)
    assert (found.state, bool(found.fix)) == (state, state != "ok")


@pytest.mark.parametrize(
    ("policy", "limit", "state"),
    [("noeviction", 0, "ok"), ("volatile-lru", 100, "ok"), ("allkeys-lru", 0, "warning"),
     ("allkeys-random", 100, "problem")],
)  # fmt: skip
def test_an_eviction_that_drops_keys_without_expiry(policy: str, limit: int, state: str) -> None:
    found = servers._eviction({"maxmemory_policy": policy, "maxmemory": limit})
    assert found.state == state


async def _found(resources: Resources, check: str) -> list[Finding]:
    return [one for one in await examine(resources.settings, OFFLINE) if one.check == check]


class TestAgainstADatabase:
    async def test_work_that_waits_without_a_worker_is_a_problem(
        self, resources: Resources, organisation: Org, onlooker: asyncpg.Connection
    ) -> None:
        assert [one.state for one in await _found(resources, "workers")] == ["warning"]
        await _queue_erasure(onlooker, organisation.id)
        (workers,) = await _found(resources, "workers")
        assert (workers.state, "erasures: 1" in workers.detail) == ("problem", True)
        (late,) = await _found(resources, "backlog of erasures")
        assert late.state == "problem"

    async def test_statistics_that_nobody_mends_are_a_problem(
        self, resources: Resources, onlooker: asyncpg.Connection
    ) -> None:
        await onlooker.execute("alter table job_ticks set (autovacuum_enabled = off)")
        await onlooker.execute(
            "insert into job_ticks select 'stale-' || n, now() from generate_series(1, 21000) n"
        )
        await onlooker.execute("select pg_stat_force_next_flush()")
        (found,) = await _found(resources, "statistics")
        assert (found.state, "job_ticks" in found.detail) == ("problem", True)
        await onlooker.execute("alter table job_ticks reset (autovacuum_enabled)")
        await onlooker.execute("analyze job_ticks")
        (found,) = await _found(resources, "statistics")
        assert "job_ticks" not in found.detail

    async def test_a_server_that_cannot_write_is_a_problem(
        self, resources: Resources, onlooker: asyncpg.Connection
    ) -> None:
        assert [one.state for one in await _found(resources, "disk")] == ["ok"]
        # the server's own limit refuses in the same class of errors as a disk that is full
        name = await onlooker.fetchval("select quote_ident(current_database())")
        await onlooker.execute(f"alter database {name} set temp_file_limit = '64kB'")
        try:
            (found,) = await _found(resources, "disk")
        finally:
            await onlooker.execute(f"alter database {name} reset temp_file_limit")
        assert (found.state, "temporary file size" in found.detail) == ("problem", True)

    async def test_webhooks_in_error_are_a_problem_as_of_their_check(
        self, resources: Resources, organisation: Org, onlooker: asyncpg.Connection
    ) -> None:
        audience = await onlooker.fetchval(
            """insert into audiences (org_id, account_id, list_id, name) values ($1, 'a', 'l', 'All')
               returning id""",
            organisation.id,
        )  # fmt: skip
        await onlooker.execute(
            """insert into webhook_endpoints (org_id, audience_id, account_id, list_id, token, token_hash,
                   status, last_error, checked_at)
               values ($1, $2, 'a', 'l', $3, 'h', 'error', 'url_not_verified', '2026-11-30T10:00:00Z')""",
            organisation.id, audience, resources.keys.seal("t", context="c"),
        )  # fmt: skip
        (found,) = await _found(resources, f"webhooks of {organisation.name}")
        assert found.state == "problem"
        assert "url_not_verified (as of 2026-11-30 10:00:00 UTC)" in found.detail
        assert "MCSYNC_PUBLIC_URL" in found.fix

    async def test_another_key_of_the_same_name_is_found(
        self, resources: Resources, organisation: Org, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        assert [one.state for one in await _found(resources, "master keys")] == ["ok"]
        names = resources.settings.master_keys
        wrong = {kid: base64.b64encode(os.urandom(32)).decode() for kid in names}
        monkeypatch.setenv("MCSYNC_MASTER_KEYS", json.dumps(wrong))
        settings = resources.settings.model_copy(
            update={"master_keys": type(resources.settings)().master_keys}
        )
        found = [one for one in await examine(settings, OFFLINE) if one.check == "master keys"]
        assert [one.state for one in found] == ["problem"]
        assert "cannot be opened" in found[0].detail

    async def test_a_damaged_secret_is_counted_and_breaks_nothing(
        self, resources: Resources, organisation: Org, onlooker: asyncpg.Connection
    ) -> None:
        for damaged in ("not base64!", "QUJD", "AAAA" * 30, "_-8=" * 10, ""):
            await onlooker.execute("update organisations set hash_key = $1", damaged)
            (found,) = [
                one for one in await _found(resources, "master keys") if "damaged" in one.detail
            ]
            assert found.state == "problem"

    async def test_a_table_that_is_locked_is_a_problem_and_not_a_wait(
        self, resources: Resources, onlooker: asyncpg.Connection
    ) -> None:
        async with onlooker.transaction():
            await onlooker.execute("lock table erasures in access exclusive mode")
            late = await _in_time("backlog", work.backlog(resources), 0.5)
        assert [(one.check, one.state) for one in late] == [("backlog", "problem")]
        assert "pg_locks" in late[0].fix
        assert {one.state for one in await work.backlog(resources)} == {"ok"}

    async def test_one_organisation_is_found_by_name_or_id(
        self, resources: Resources, organisation: Org, other_organisation: Org
    ) -> None:
        for wanted in (organisation.name.upper(), str(organisation.id)):
            found = await examine(resources.settings, Asked(wanted, offline=True))
            told = [one.check for one in found if one.check.startswith("Mailchimp of")]
            assert told == [f"Mailchimp of {organisation.name}"]
        for unknown in ("Nobody", "01a22fc5-f0a1-7fec-a136-de72676d7ecc"):
            with pytest.raises(NotFoundError):
                await examine(resources.settings, Asked(unknown, offline=True))

    async def test_a_thousand_organisations_cost_no_more_statements_than_one(
        self, resources: Resources, organisation: Org, onlooker: asyncpg.Connection
    ) -> None:
        async def statements() -> int:
            count = 0

            def counted(*_: object) -> None:
                nonlocal count
                count += 1

            async with resources.db.system():
                pass
            engine = resources.db.engine.sync_engine
            event.listen(engine, "before_cursor_execute", counted)
            try:
                await tenants.master_keys(resources)
                await work.workers(resources)
                await work.backlog(resources)
                await tenants.organisations(resources, OFFLINE)
            finally:
                event.remove(engine, "before_cursor_execute", counted)
            return count

        await onlooker.execute(
            """insert into organisations (name, hash_key)
               select 'Org ' || n, $1 from generate_series(1, 30) n""",
            resources.keys.seal("k", context="c"),
        )
        some = await statements()
        await onlooker.execute(
            """insert into organisations (name, hash_key)
               select 'More ' || n, $1 from generate_series(1, 1000) n""",
            resources.keys.seal("k", context="c"),
        )
        assert await statements() == some
        found = await tenants.organisations(resources, OFFLINE)
        assert len(found) == SHOWN + 2
        assert any("1006 more organisations are not connected" in one.detail for one in found)


async def _queue_erasure(onlooker: asyncpg.Connection, org_id: UUID) -> None:
    await onlooker.execute(
        """insert into erasures (org_id, subject_kind, subject_key, actor_kind, next_attempt_at)
           values ($1, 'address', $2, 'cli', now() - interval '1 hour')""",
        org_id, UUID(int=7),
    )  # fmt: skip
