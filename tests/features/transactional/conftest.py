"""A Transactional account in a sandbox of its own, connected, and a worker's part as plain calls."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from typing import Any
from uuid import UUID, uuid4

import asyncpg
import httpx
import pytest
from fastapi import FastAPI

from mcsync.app import create_app
from mcsync.core.resources import Resources
from mcsync.features.transactional import handover, outcomes
from tests.support.organisations import Org
from tests.support.sandbox import SandboxControl, SandboxProcess


@pytest.fixture(scope="session")
def sandbox_process() -> Iterator[SandboxProcess]:
    with SandboxProcess() as process:
        yield process


@pytest.fixture
async def sandbox(sandbox_process: SandboxProcess) -> AsyncIterator[SandboxControl]:
    async with SandboxControl(sandbox_process.control) as control:
        await control.reset()
        yield control


@pytest.fixture
def more_settings(sandbox_process: SandboxProcess) -> dict[str, Any]:
    return {"mandrill_url": sandbox_process.mandrill_url, "database_pool_size": 6}


@pytest.fixture
def app(resources: Resources, sandbox: SandboxControl) -> FastAPI:
    return create_app(resources=resources)


@dataclass
class Mail:
    """The organisation's mail, as its owner and its worker see it."""

    api: httpx.AsyncClient
    resources: Resources
    org: Org
    sandbox: SandboxControl
    onlooker: asyncpg.Connection
    key: str

    async def post(self, procedure: str, /, **body: Any) -> httpx.Response:
        return await self.api.post(f"/mailchimp/transactional/{procedure}", json=body)

    async def ask(self, procedure: str, /, **params: Any) -> Any:
        answer = await self.api.get(f"/mailchimp/transactional/{procedure}", params=params)
        assert answer.status_code == 200, answer.text
        return answer.json()

    async def done(self, procedure: str, /, **body: Any) -> Any:
        answer = await self.post(procedure, **body)
        assert answer.is_success, answer.text
        return answer.json()

    async def send(self, *emails: str, **given: Any) -> str:
        """Takes a message in; answers its id."""
        body = {
            "to": [{"email": email} for email in emails or ("ada@corp.example",)],
            "fromEmail": "us@corp.example",
            "subject": "Hello",
            "text": "Hi",
        }
        return str((await self.done("send", **(body | given)))["id"])

    async def work(self, message_id: str) -> Any:
        """What a worker does with a message it was rung for; answers the message as it is then."""
        await handover.work_on(self.resources, self.org.id, UUID(message_id), owner="test")
        return await self.get(message_id)

    async def get(self, message_id: str) -> Any:
        return await self.ask("get", id=message_id)

    async def outcomes(self) -> int:
        """What a worker does about reports and silence."""
        return await outcomes.work(self.resources, self.org.id, stopping=asyncio.Event())

    async def sent(self, message_id: str) -> int:
        """How often the message really left."""
        return await self.sandbox.mails_sent("mcsync_id", UUID(message_id).hex)

    async def pass_time(self, message_id: str, seconds: float) -> None:
        """As if so much time had passed for the message since; frees a dead worker's hold."""
        await self.onlooker.execute(
            """update transactional_messages set
                   handed_in_at = handed_in_at - make_interval(secs => $2),
                   next_attempt_at = next_attempt_at - make_interval(secs => $2),
                   lease_until = lease_until - make_interval(secs => $2)
               where id = $1""",
            UUID(message_id),
            seconds,
        )

    async def due(self, message_id: str) -> None:
        """Makes the message's next attempt due."""
        await self.onlooker.execute(
            """update transactional_messages set lease_until = null,
                      next_attempt_at = clock_timestamp() where id = $1""",
            UUID(message_id),
        )

    async def audited(self) -> list[str]:
        rows = await self.onlooker.fetch(
            "select action from audit_entries where org_id = $1 order by seq", self.org.id
        )
        return [row["action"] for row in rows]


@pytest.fixture
async def unconnected(
    api: httpx.AsyncClient,
    resources: Resources,
    organisation: Org,
    sandbox: SandboxControl,
    onlooker: asyncpg.Connection,
) -> Mail:
    key = f"md-{uuid4().hex[:22]}"
    await sandbox.open_mandrill(key, username="acme")
    return Mail(api, resources, organisation, sandbox, onlooker, key)


@pytest.fixture
async def mail(unconnected: Mail) -> Mail:
    """Connected."""
    answer = await unconnected.post("connect", apiKey=unconnected.key)
    assert answer.status_code == 200, answer.text
    return unconnected
