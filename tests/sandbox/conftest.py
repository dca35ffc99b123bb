"""One sandbox process per test worker, brought back to its start before each test."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator

import httpx
import pytest

from tests.sandbox.driver import Audience
from tests.sandbox.published import judge
from tests.support.sandbox import ALL_STAFF, SandboxControl, SandboxProcess


@pytest.fixture(scope="session")
def process() -> Iterator[SandboxProcess]:
    with SandboxProcess() as running:
        yield running


@pytest.fixture
async def control(process: SandboxProcess) -> AsyncIterator[SandboxControl]:
    async with SandboxControl(process.control) as made:
        await made.reset()
        yield made


@pytest.fixture
async def api(process: SandboxProcess, control: SandboxControl) -> AsyncIterator[httpx.AsyncClient]:
    """A client of the default account; every call and answer is held against the published document."""
    async with httpx.AsyncClient(
        base_url=process.url,
        auth=("anyone", process.api_key),
        event_hooks={"response": [judge]},
        timeout=60,
    ) as client:
        yield client


@pytest.fixture
def staff(api: httpx.AsyncClient, control: SandboxControl) -> Audience:
    """The audience "All staff", empty."""
    return Audience(api, control, ALL_STAFF)
