"""A sandbox for Mailchimp, and callers with tokens of each role, for the features around audiences."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from typing import Any

import httpx
import pytest
from fastapi import FastAPI
from sqlalchemy import text

from mcsync.app import create_app
from mcsync.core.auth import Role
from mcsync.core.resources import Resources
from mcsync.features.segments.deps import leave_hook
from tests.support.organisations import Org, make_token
from tests.support.sandbox import SandboxControl, SandboxProcess


@dataclass
class Caller:
    """Calls procedures as one token; ``last`` is the last answer."""

    http: httpx.AsyncClient

    async def query(self, procedure: str, **params: Any) -> httpx.Response:
        """A GET with query parameters."""
        path = "/mailchimp/" + procedure.replace(".", "/")
        return await self.http.get(path, params=params)

    async def mutate(self, procedure: str, body: Any = None, **given: Any) -> httpx.Response:
        """A POST with a JSON body."""
        path = "/mailchimp/" + procedure.replace(".", "/")
        return await self.http.post(path, json=given if body is None else body)


class LeaveCalls(list[tuple[Any, Any]]):
    """Which leaving runs were asked for: (segment id, our audience id)."""

    async def __call__(
        self, session: Any, segment_id: Any, audience_id: Any, actor: Any, *, members: bool,
        to: Any = None,
    ) -> None:  # fmt: skip
        await session.execute(text("select 1"))
        if members:
            self.append((segment_id, audience_id))


@pytest.fixture(scope="session")
def mailchimp_process() -> Iterator[SandboxProcess]:
    with SandboxProcess() as running:
        yield running


@pytest.fixture
async def mailchimp(mailchimp_process: SandboxProcess) -> AsyncIterator[SandboxControl]:
    """The sandbox's control, at its start."""
    async with SandboxControl(mailchimp_process.control) as control:
        await control.reset()
        yield control


@pytest.fixture
def more_settings(mailchimp_process: SandboxProcess) -> dict[str, Any]:
    return {"mailchimp_url": mailchimp_process.url}


@pytest.fixture
def leaves() -> LeaveCalls:
    return LeaveCalls()


@pytest.fixture
async def app(resources: Resources, mailchimp: SandboxControl, leaves: LeaveCalls) -> FastAPI:
    app = create_app(resources=resources)
    app.dependency_overrides[leave_hook] = lambda: leaves
    return app


async def _caller(
    app: FastAPI, resources: Resources, org: Org | None, role: Role = Role.OWNER
) -> Caller:
    headers = {}
    if org is not None:
        headers["Authorization"] = f"Bearer {await make_token(resources, org, role)}"
    transport = httpx.ASGITransport(app=app, raise_app_exceptions=False)
    return Caller(httpx.AsyncClient(transport=transport, base_url="http://api", headers=headers))


@pytest.fixture
async def owner(app: FastAPI, resources: Resources, organisation: Org) -> AsyncIterator[Caller]:
    caller = await _caller(app, resources, organisation)
    async with caller.http:
        yield caller


@pytest.fixture
async def editor(app: FastAPI, resources: Resources, organisation: Org) -> AsyncIterator[Caller]:
    caller = await _caller(app, resources, organisation, Role.EDITOR)
    async with caller.http:
        yield caller


@pytest.fixture
async def viewer(app: FastAPI, resources: Resources, organisation: Org) -> AsyncIterator[Caller]:
    caller = await _caller(app, resources, organisation, Role.VIEWER)
    async with caller.http:
        yield caller


@pytest.fixture
async def stranger(
    app: FastAPI, resources: Resources, other_organisation: Org
) -> AsyncIterator[Caller]:
    """An owner of another organisation."""
    caller = await _caller(app, resources, other_organisation)
    async with caller.http:
        yield caller


@pytest.fixture
async def anyone(app: FastAPI, resources: Resources) -> AsyncIterator[Caller]:
    """Nobody we know."""
    caller = await _caller(app, resources, None)
    async with caller.http:
        yield caller


@pytest.fixture
async def connected(owner: Caller, mailchimp_process: SandboxProcess) -> Caller:
    """The owner, after the sandbox's default account was connected."""
    answer = await owner.mutate("connection.connect", apiKey=mailchimp_process.api_key)
    assert answer.status_code == 200, answer.text
    return owner


async def audit_actions(onlooker: Any, org: Org) -> list[str]:
    """What the organisation's audit says was done, oldest first."""
    rows = await onlooker.fetch(
        "select action from audit_entries where org_id = $1 order by seq", org.id
    )
    return [row["action"] for row in rows]
