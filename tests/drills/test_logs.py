"""What the logs of an installation hold: its runs, its callers, and short lines of an outage."""

from __future__ import annotations

import contextlib
import threading
from collections import Counter
from pathlib import Path
from typing import Any, Self

import httpx
import pytest

from tests.support.installation import Installation, Process, until

pytestmark = pytest.mark.e2e

HEAD = "entityType,entityId,email,optStatus,consentSource,consentGivenAt"
PEOPLE = 30


def _import(there: Installation) -> None:
    there.import_csv(
        [HEAD, *(f"employee,E{n},e{n}@acme-works.com,opted_in,form,2026-01-01T00:00:00Z" for n in range(PEOPLE))]
    )  # fmt: skip


def _sync(there: Installation) -> tuple[str, dict[str, Any]]:
    list_id = there.query("connection.listAudiences")["items"][0]["audienceId"]
    segment = there.mutate(
        "segments.create", name="All", segmentType="employee", audienceId=list_id
    )
    run_id = there.mutate("segments.sync", id=segment["id"])["id"]
    return run_id, there.wait_for_run(run_id, seconds=120)


def _events(processes: list[Process], event: str) -> list[dict[str, Any]]:
    return [line for process in processes for line in process.events(event)]


class _Load:
    """Callers who go on calling, whatever they are answered."""

    def __init__(self, there: Installation, callers: int = 6) -> None:
        self._there = there
        self._over = threading.Event()
        self.statuses: Counter[int] = Counter()
        self._threads = [threading.Thread(target=self._call, daemon=True) for _ in range(callers)]

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        for thread in self._threads:
            thread.join()

    def _call(self) -> None:
        with self._there.client(self._there.urls[0]) as client:
            while not self._over.is_set():
                answer = client.get("/contacts/list")
                self.statuses[answer.status_code] += 1


def _assert_short(processes: list[Process]) -> None:
    """Each line is JSON with what every line has, and no cause is told more than a few times."""
    for process in processes:
        lines = process.events()
        told: Counter[tuple[str, ...]] = Counter()
        for line in lines:
            assert {"level", "timestamp", "event"} <= line.keys()
            assert len(str(line)) < 3_000, (process.name, line)
            if line["event"] != "request":
                told[line["event"], str(line.get("error")), str(line.get("loop"))] += 1
        assert max(told.values()) <= 5, (process.name, told.most_common(5))
        assert "Traceback" not in process.log.read_text()


def test_runs_and_callers_are_logged_and_an_outage_is_a_few_lines(tmp_path: Path) -> None:
    with Installation(tmp_path, apis=1, workers=1) as there:
        _import(there)
        run_id, run = _sync(there)
        (started,) = _events(there.workers, "run_started")
        (ended,) = _events(there.workers, "run_ended")
        assert started["run"] == ended["run"] == run_id
        assert (ended["status"], ended["done"], ended["failed"]) == ("succeeded", PEOPLE, 0)
        assert run["status"] == ended["status"]
        assert ended["calls"] > 0
        assert ended["org"] == started["org"]
        (imported,) = _events(there.apis, "contacts_imported")
        assert (imported["received"], imported["created"]) == (PEOPLE, PEOPLE)
        access = _events(there.apis, "request")
        assert not [line for line in access if line["route"].startswith("/health")]
        assert {line["client"] for line in access} == {"127.0.0.1"}
        assert access[-1]["org"] == ended["org"]
        assert access[-1]["token_id"]

        with _Load(there) as load:
            until(lambda: load.statuses[200] > 20, "requests are served", seconds=60)
            there.postgres.stop()
            until(lambda: load.statuses[503] > 300, "requests are refused", seconds=60)
            ready = there.ready()
            assert (ready.status_code, ready.json()["status"]) == (503, "unavailable")
            assert ready.json()["database"] in {"unreachable", "starting"}
            there.postgres.start()
            served = load.statuses[200]
            until(lambda: load.statuses[200] > served + 20, "requests are served", seconds=60)
        assert set(load.statuses) == {200, 503}
        until(lambda: there.ready().json()["status"] == "ok", "it is ready again", seconds=60)
        assert there.sql("select count(*) from contacts") == str(PEOPLE)
        refused = load.statuses[503]
        for process in there.apis:
            process.stop()
        lines = _events(there.apis, "request_failed")
        assert len(lines) <= 8
        assert sum(line.get("count", 1) for line in lines) == refused
        for process in there.workers:
            process.stop()
        _assert_short([*there.apis, *there.workers])


@pytest.mark.chaos
def test_connections_that_others_hold_are_no_outage(tmp_path: Path) -> None:
    env = {"MCSYNC_DATABASE_POOL_SIZE": "2"}
    with Installation(tmp_path, apis=1, workers=1, env=env) as there:
        _import(there)
        lock = "begin; lock table contacts in access exclusive mode; select pg_sleep(600)"
        blocker = threading.Thread(target=_ignoring_its_end, args=(there, lock), daemon=True)
        blocker.start()
        held = "select count(*) from pg_locks where mode = 'AccessExclusiveLock' and granted and relation = 'contacts'::regclass"
        until(lambda: there.sql(held) != "0", "contacts are locked", seconds=60)
        answers: list[httpx.Response] = []

        def ask() -> None:
            with there.client(there.urls[0]) as client:
                answers.append(client.get("/contacts/list"))

        waiting = [threading.Thread(target=ask, daemon=True) for _ in range(4)]
        for thread in waiting:
            thread.start()
        busy = "select count(*) from pg_stat_activity where wait_event_type = 'Lock'"
        until(lambda: int(there.sql(busy)) >= 4, "the pool is in use", seconds=60)
        ready = [there.ready() for _ in range(10)]
        assert {(one.status_code, one.json()["database"]) for one in ready} == {(200, "busy")}
        there.sql(
            "select pg_terminate_backend(pid) from pg_stat_activity where query like '%pg_sleep(600)%'"
            " and pid <> pg_backend_pid()"
        )
        for thread in [*waiting, blocker]:
            thread.join()
        assert [answer.status_code for answer in answers] == [200] * 4
        until(lambda: there.ready().json()["status"] == "ok", "it is ready again", seconds=60)


def _ignoring_its_end(there: Installation, statement: str) -> None:
    with contextlib.suppress(Exception):  # it is ended from outside, however that shows
        there.sql(statement)
