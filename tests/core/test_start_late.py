"""A process whose database was away at its start: it is checked as soon as the database answers."""

from __future__ import annotations

import asyncio
import base64
import json
import os
import signal
import sys
from asyncio.subprocess import PIPE
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import asyncpg
import httpx
import pytest
from alembic import command
from fastapi import FastAPI

from mcsync.app import create_app
from mcsync.core.db import migrations
from mcsync.core.resources import Resources
from mcsync.core.settings import Settings, SettingsError
from mcsync.core.start import StartCheck
from tests.support.organisations import Org
from tests.support.relay import Relay, relayed

pytestmark = pytest.mark.timeout(300)


class Process:
    """``mcsync api`` or ``worker`` as an operator starts it; its log is read line by line."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self.process = process
        self.lines: list[dict[str, Any]] = []

    async def says(self, event: str) -> dict[str, Any]:
        """The first line with this event. Fails where the process ends without it."""
        assert self.process.stderr is not None
        for known in self.lines:  # which of two events comes first may be up to the machine
            if known["event"] == event:
                return known
        async for line in self.process.stderr:
            self.lines.append(json.loads(line))
            if self.lines[-1]["event"] == event:
                return self.lines[-1]
        raise AssertionError((event, self.lines))

    async def ends(self) -> int:
        """The exit code, once it has ended; all it said is in :attr:`lines`."""
        assert self.process.stderr is not None
        async for line in self.process.stderr:
            self.lines.append(json.loads(line))
        return await self.process.wait()

    @property
    def events(self) -> list[str]:
        return [line["event"] for line in self.lines]


Starts = Callable[..., Awaitable[Process]]


@pytest.fixture
async def start(settings: Settings) -> AsyncIterator[Starts]:
    """``await start("worker", url)``: a process whose database is there."""
    assert settings.redis_url is not None
    known = {
        "MCSYNC_REDIS_URL": settings.redis_url.get_secret_value(),
        "MCSYNC_MASTER_KEYS": json.dumps(
            {name: key.get_secret_value() for name, key in settings.master_keys.items()}
        ),
        "MCSYNC_MAILCHIMP_URL": settings.mailchimp_url,
    }
    started = []

    async def begin(
        kind: str, url: str, *options: str, env: dict[str, str] | None = None
    ) -> Process:
        given = known | {"MCSYNC_DATABASE_URL": url} | (env or {})
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "mcsync", kind, *(options or ("--port", "0")),
            env=os.environ | given, stderr=PIPE,
        )  # fmt: skip
        started.append(process)
        return Process(process)

    yield begin
    for process in started:
        if process.returncode is None:
            process.kill()
            await process.wait()


@pytest.fixture
async def way(database_url: str) -> AsyncIterator[Relay]:
    """To the test's database as the service's role."""
    async with relayed(database_url) as relay:
        yield relay


@pytest.fixture
async def owners_way(superuser_url: str) -> AsyncIterator[Relay]:
    """To the test's database as a superuser, whom row-level security does not bind."""
    async with relayed(superuser_url) as relay:
        yield relay


async def _ready(port: int) -> dict[str, Any]:
    async with httpx.AsyncClient(timeout=60) as client:
        answer = await client.get(f"http://127.0.0.1:{port}/health/ready")
    return {"http": answer.status_code, **answer.json()}


async def test_a_worker_of_the_wrong_role_ends_and_takes_nothing(
    start: Starts, owners_way: Relay, onlooker: asyncpg.Connection
) -> None:
    worker = await start("worker", owners_way.url)
    port = (await worker.says("health_port_opened"))["port"]
    waits = await worker.says("start_unchecked")
    assert (waits["kind"], waits["error"]) == ("worker", "database_unreachable")
    ready = await _ready(port)
    assert (ready["http"], ready["status"], ready["start"]) == (503, "unavailable", "unchecked")
    await owners_way.open()
    assert await worker.ends() == 3
    (line,) = [line for line in worker.lines if line["event"] == "start_failed"]
    assert (line["exit_code"], line["level"]) == (3, "critical")
    assert "is a superuser" in line["message"]
    assert "worker_started" not in worker.events
    assert await onlooker.fetchval("select count(*) from worker_heartbeats") == 0


async def test_with_i_know_the_role_is_accepted_late_as_well(
    start: Starts, owners_way: Relay
) -> None:
    worker = await start("worker", owners_way.url, "--port", "0", "--i-know")
    await worker.says("start_unchecked")
    await owners_way.open()
    await worker.says("start_checked")
    await worker.says("worker_started")


async def test_a_worker_begins_when_it_was_checked(start: Starts, way: Relay) -> None:
    worker = await start("worker", way.url)
    port = (await worker.says("health_port_opened"))["port"]
    await worker.says("start_unchecked")
    await way.open()
    await worker.says("worker_started")
    assert worker.events.index("start_checked") < worker.events.index("worker_started")
    while (ready := await _ready(port))["status"] != "ok":  # noqa: ASYNC110 - another process
        await asyncio.sleep(0.1)
    assert ready["start"] == "ok"
    worker.process.send_signal(signal.SIGTERM)
    assert await worker.ends() == 0
    assert worker.events[-1] == "worker_stopped"


async def test_a_worker_that_waits_stops_when_it_is_told(start: Starts, way: Relay) -> None:
    worker = await start("worker", way.url)
    await worker.says("start_unchecked")
    worker.process.send_signal(signal.SIGTERM)
    assert await worker.ends() == 0
    assert "worker_started" not in worker.events


async def test_wrong_master_keys_end_a_worker_late(
    start: Starts, way: Relay, organisation: Org, settings: Settings
) -> None:
    (name,) = settings.master_keys
    others = json.dumps({name: base64.b64encode(os.urandom(32)).decode()})
    worker = await start("worker", way.url, env={"MCSYNC_MASTER_KEYS": others})
    await worker.says("start_unchecked")
    await way.open()
    assert f"The key {name}" in (await worker.says("start_failed"))["message"]
    assert await worker.ends() == 3


async def test_a_schema_that_is_behind_ends_a_worker_late(
    start: Starts, way: Relay, superuser_url: str
) -> None:
    await asyncio.to_thread(command.downgrade, migrations.config(superuser_url), "-1")
    worker = await start("worker", way.url)
    await worker.says("start_unchecked")
    await way.open()
    assert "mcsync migrate" in (await worker.says("start_failed"))["message"]
    assert await worker.ends() == 3


async def test_an_api_of_the_wrong_role_serves_nothing_and_ends(
    start: Starts, owners_way: Relay, token: str, unused_tcp_port: int
) -> None:
    api = await start("api", owners_way.url, "--port", str(unused_tcp_port))
    await api.says("start_unchecked")
    await api.says(f"Uvicorn running on http://127.0.0.1:{unused_tcp_port} (Press CTRL+C to quit)")
    ready = await _ready(unused_tcp_port)
    assert (ready["http"], ready["start"]) == (503, "unchecked")
    async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{unused_tcp_port}") as client:
        headers = {"Authorization": f"Bearer {token}"}
        answer = await client.get("/mailchimp/connection/get", headers=headers, timeout=60)
    assert (answer.status_code, answer.json()["code"]) == (503, "unavailable")
    await owners_way.open()
    assert "is a superuser" in (await api.says("start_failed"))["message"]
    assert await api.ends() == 3
    served = [line for line in api.lines if line["event"] == "request" and line["status"] == 200]
    assert served == []


async def test_an_api_serves_when_it_was_checked(
    start: Starts, way: Relay, token: str, unused_tcp_port: int
) -> None:
    api = await start("api", way.url, "--port", str(unused_tcp_port))
    await api.says("start_unchecked")
    await way.open()
    await api.says("start_checked")
    async with httpx.AsyncClient(
        base_url=f"http://127.0.0.1:{unused_tcp_port}",
        transport=httpx.AsyncHTTPTransport(retries=10),
    ) as client:
        headers = {"Authorization": f"Bearer {token}"}
        answer = await client.get("/mailchimp/segments/list", headers=headers, timeout=60)
    assert answer.status_code == 200
    api.process.send_signal(signal.SIGTERM)
    await api.ends()
    assert "start_failed" not in api.events


async def test_an_api_waits_for_the_migration(resources: Resources, superuser_url: str) -> None:
    """An older schema is no refusal for an API; the keys can be asked for only when it is migrated."""
    config = migrations.config(superuser_url)
    await asyncio.to_thread(command.downgrade, config, "-1")
    resources.start_checked = False
    asking = asyncio.create_task(StartCheck("api").until_answered(resources))
    done, _ = await asyncio.wait({asking}, timeout=1.5)
    assert not done
    assert resources.start_checked is False
    await asyncio.to_thread(command.upgrade, config, "head")
    await asking
    assert resources.start_checked is True


async def test_an_answer_of_no_leaves_the_process_unchecked(
    resources: Resources, organisation: Org
) -> None:
    resources.start_checked = False
    resources.keys._ciphers["other"] = resources.keys._ciphers.pop("test")
    with pytest.raises(SettingsError, match="lacks the key test"):
        await StartCheck("worker").until_answered(resources)
    assert resources.start_checked is False


async def test_until_checked_only_probes_and_the_documentation_are_answered(
    app: FastAPI, owner: httpx.AsyncClient, resources: Resources
) -> None:
    resources.start_checked = False
    answer = await owner.get("/mailchimp/segments/list", headers={"Idempotency-Key": "k" * 20})
    assert (answer.status_code, answer.headers["Retry-After"]) == (503, "5")
    assert answer.json()["code"] == "unavailable"
    assert answer.json()["requestId"] == answer.headers["X-Request-Id"]
    assert (await owner.get("/health/live")).status_code == 200
    ready = await owner.get("/health/ready")
    assert (ready.status_code, ready.json()["start"]) == (503, "unchecked")
    assert ready.json()["database"] == "ok"
    assert (await owner.get("/openapi.json")).status_code == 200
    assert (await owner.get("/docs")).status_code == 200
    resources.start_checked = True
    assert (await owner.get("/mailchimp/segments/list")).status_code == 200


async def test_a_check_that_ends_by_a_fault_of_ours_is_told(settings: Settings) -> None:
    """An API that no longer asks would answer 503 for as long as it runs, and nobody would know why."""

    class Faulty(StartCheck):
        async def until_answered(self, resources: Resources) -> None:
            assert resources.start_checked is False
            raise LookupError("faulty")

    told: asyncio.Queue[Exception] = asyncio.Queue()
    app = create_app(settings, check=Faulty("api"), refuse=told.put_nowait)
    async with app.router.lifespan_context(app):
        assert isinstance(await told.get(), LookupError)
