"""One furnished stage for the walks that change nothing, and a fresh one for each of those that do."""

from __future__ import annotations

import io
from collections.abc import AsyncIterator, Iterator

import pytest

from tests.support.databases import Databases
from tests.support.logs import captured_logs
from tests.support.sandbox import SandboxProcess
from tests.support.servers import VALKEY_DATABASES, Addresses
from tests.walks.stage import Stage, open_stage


def _redis_number(worker_id: str, offset: int) -> int:
    # apart from the databases that the other fixtures flush before each test
    number = 0 if worker_id == "master" else 1 + int(worker_id.removeprefix("gw"))
    return (VALKEY_DATABASES // 2 + 2 * number + offset) % VALKEY_DATABASES


@pytest.fixture(scope="session")
def mailchimp_of_walks() -> Iterator[SandboxProcess]:
    with SandboxProcess() as running:
        yield running


@pytest.fixture(scope="session")
async def stage(
    servers: Addresses,
    _databases: Databases,
    mailchimp_of_walks: SandboxProcess,
    worker_id: str,
) -> AsyncIterator[Stage]:
    """Shared: whoever uses it leaves every row as it was."""
    number = _redis_number(worker_id, 0)
    async with open_stage(servers, _databases, mailchimp_of_walks, number) as opened:
        yield opened


@pytest.fixture
async def own_stage(
    servers: Addresses,
    _databases: Databases,
    mailchimp_of_walks: SandboxProcess,
    worker_id: str,
) -> AsyncIterator[Stage]:
    """The test's own, to do with as it likes."""
    number = _redis_number(worker_id, 1)
    async with open_stage(servers, _databases, mailchimp_of_walks, number) as opened:
        yield opened


@pytest.fixture(autouse=True)
def log() -> Iterator[io.StringIO]:
    """What is logged during the test, as an operator would get it."""
    with captured_logs() as stream:
        yield stream
