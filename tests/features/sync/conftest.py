"""The world of each test: its own database and its own account in a shared sandbox."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest

from mcsync.core.resources import Resources
from tests.features.sync.world import World, make_world
from tests.support.organisations import Org
from tests.support.sandbox import SandboxControl, SandboxProcess


@pytest.fixture(scope="session")
def sandbox_process() -> Iterator[SandboxProcess]:
    with SandboxProcess() as process:
        yield process


@pytest.fixture
async def sandbox(sandbox_process: SandboxProcess) -> AsyncIterator[SandboxControl]:
    async with SandboxControl(sandbox_process.control) as control:
        yield control


@pytest.fixture
def more_settings(sandbox_process: SandboxProcess) -> dict[str, Any]:
    return {"mailchimp_url": sandbox_process.url, "database_pool_size": 8}


@pytest.fixture
async def world(resources: Resources, organisation: Org, sandbox: SandboxControl) -> World:
    return await make_world(resources, organisation, sandbox)
