"""What the benchmarks run on: real servers, the sandbox and a worker as processes of their own."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import os
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any
from uuid import UUID

import asyncpg
import httpx
import orjson
import psutil
from pydantic import SecretStr
from sqlalchemy import text
from uuid6 import uuid7

from mcsync.core.auth import Actor
from mcsync.core.crypto import new_hash_key
from mcsync.core.db import migrations
from mcsync.core.resources import Resources
from mcsync.core.settings import Settings
from mcsync.embedded import EmbeddedPostgres, EmbeddedValkey
from mcsync.features.audiences import service as audiences
from mcsync.features.connection import service as connection
from mcsync.features.segments import service as segments
from mcsync.features.segments.schemas import CreateSegmentInput
from mcsync.features.sync import service as sync
from mcsync.features.sync.schemas import RunView

MIB = 1024 * 1024

# Straight into the tables, as an import would leave them: what is measured is the sync.
_CONTACTS = """
insert into contacts (org_id, entity_type, entity_id, email, address_hash, address_key, first_name,
                      last_name, department, location, employment_type, employment_status)
select $1, 'employee', $3 || n, a.email, md5(a.email)::uuid, md5('key' || a.email)::uuid,
       'First' || n % 5000, 'Last' || n % 7000, $3, 'City ' || n % 200, 'full_time', 'active'
from generate_series(1, $2::int) n,
lateral (select $3 || '.person' || n || '@firm' || n % 977 || '.example' as email) a
"""
_PREFERENCES = """
insert into email_preferences (org_id, entity_type, entity_id, status, consent_given_at, source)
select $1, 'employee', $3 || n, 'opted_in', now() - interval '1 day', 'bench'
from generate_series(1, $2::int) n
"""


@dataclass
class Stage:
    """One organisation, connected to a sandbox, and a worker process."""

    resources: Resources
    superuser: asyncpg.Connection
    superuser_url: str
    org_id: UUID
    list_id: str
    control: httpx.AsyncClient
    environment: dict[str, str]
    worker: psutil.Process
    peak: int = 0

    @property
    def actor(self) -> Actor:
        return Actor.cli(self.org_id, "bench")

    async def contacts(self, name: str, count: int) -> None:
        """So many contacts of a department of that name, all opted in."""
        for statement in (_CONTACTS, _PREFERENCES):
            await self.superuser.execute(statement, self.org_id, count, name)
        await self.superuser.execute("checkpoint")

    async def segment(self, name: str) -> UUID:
        """A segment of that department."""
        view = await segments.create(
            self.resources,
            self.actor,
            CreateSegmentInput.model_validate(
                {"name": name, "segmentType": "employee", "audienceId": self.list_id,
                 "filters": {"department": [name]}}
            ),
        )  # fmt: skip
        return view.id

    async def sync(self, segment_id: UUID) -> RunView:
        """Syncs in the worker and answers the ended run."""
        run = await sync.start(self.resources, self.actor, segment_id, dry_run=False)
        while run.status in ("queued", "pulling", "planning", "pushing"):
            await asyncio.sleep(0.05)
            run = await sync.get(self.resources, self.actor, run.id)
        assert run.status == "succeeded", run
        return run

    async def approve(self, run: RunView) -> None:
        """Lets a held run go."""
        await sync.approve(self.resources, self.actor, run.id)

    async def sandbox(self, path: str) -> Any:
        """Reads from the sandbox's control."""
        return (await self.control.get(path)).raise_for_status().json()

    async def configure(self, **config: Any) -> None:
        """Sets the sandbox's latency and so on."""
        (await self.control.patch("/config", json=config)).raise_for_status()

    async def reset_metrics(self) -> None:
        """Counters of the sandbox from here on."""
        (await self.control.post("/metrics/reset")).raise_for_status()

    def cpu(self) -> float:
        """Seconds of CPU the worker has used."""
        times = self.worker.cpu_times()
        return float(times.user + times.system)

    def memory(self) -> int:
        """Resident bytes of the worker."""
        return int(self.worker.memory_info().rss)

    async def watch_memory(self) -> None:
        """Keeps the highest resident size in ``peak``, until cancelled."""
        while True:
            self.peak = max(self.peak, self.memory())
            await asyncio.sleep(0.05)


@contextlib.asynccontextmanager
async def stage(*, worker: bool = True) -> AsyncIterator[Stage]:
    """Starts everything; nothing is left afterwards."""
    with contextlib.ExitStack() as stack:
        postgres = stack.enter_context(EmbeddedPostgres(durable=False))
        valkey = stack.enter_context(EmbeddedValkey())
        postgres.create_database("bench")
        await asyncio.to_thread(migrations.upgrade, postgres.url("bench"))
        postgres.admit_service()
        box = subprocess.Popen(
            [sys.executable, "-m", "mcsync.sandbox", "--port", "0"], stdout=subprocess.PIPE
        )
        stack.callback(_end, box)
        assert box.stdout is not None
        ready = orjson.loads(box.stdout.readline())
        key = base64.b64encode(os.urandom(32)).decode()
        environment = {
            "MCSYNC_DATABASE_URL": postgres.service_url("bench"),
            "MCSYNC_REDIS_URL": valkey.url(),
            "MCSYNC_MASTER_KEYS": orjson.dumps({"bench": key}).decode(),
            "MCSYNC_MAILCHIMP_URL": ready["url"],
            "MCSYNC_LOG_LEVEL": "WARNING",
        }
        resources = await Resources.build(
            Settings(
                database_url=SecretStr(environment["MCSYNC_DATABASE_URL"]),
                redis_url=SecretStr(environment["MCSYNC_REDIS_URL"]),
                master_keys={"bench": SecretStr(key)},
                mailchimp_url=ready["url"],
            )
        )
        org_id = uuid7()
        async with resources.db.transaction(org_id) as session:
            await session.execute(
                text("insert into organisations (id, name, hash_key) values (:id, 'bench', :key)"),
                {"id": org_id, "key": new_hash_key(resources.keys, org_id)},
            )
        actor = Actor.cli(org_id, "bench")
        await connection.connect(resources, actor, ready["apiKey"])
        found = await audiences.list_audiences(resources, actor)
        working: psutil.Process | None = None
        if worker:
            process = subprocess.Popen(
                [sys.executable, "-m", "mcsync", "worker"],
                env={k: v for k, v in os.environ.items() if not k.startswith("MCSYNC_")}
                | environment,
            )
            stack.callback(_end, process)
            working = psutil.Process(process.pid)
        superuser = await asyncpg.connect(postgres.url("bench"))
        async with httpx.AsyncClient(base_url=ready["control"], timeout=600) as control:
            while worker and not await superuser.fetchval("select count(*) from worker_heartbeats"):
                await asyncio.sleep(0.1)
            await control.patch("/config", json={"history": False})
            yield Stage(
                resources, superuser, postgres.url("bench"), org_id, found[0].audience_id, control,
                environment, working or psutil.Process(),
            )  # fmt: skip
        await superuser.close()
        await resources.close()


def _end(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    process.wait(30)


def verdict(what: str, value: float, target: float, *, at_most: bool = False) -> None:
    """One line: the figure, the target, and whether it was met."""
    met = value <= target if at_most else value >= target
    sign = "<=" if at_most else ">="
    print(
        f"  {what}: {value:.3g} (target {sign} {target:g}): {'met' if met else 'MISSED'}",
        flush=True,
    )


def say(line: str) -> None:
    """Prints at once, so that a long run can be followed."""
    print(f"{time.strftime('%H:%M:%S')} {line}", flush=True)
