"""The world of each test: its own database and its own account in a shared sandbox."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from typing import Any

import pytest

from mcsync.core.resources import Resources
from mcsync.features.sync import push
from mcsync.features.sync.pull import AudienceState
from tests.features.sync.world import World, make_world
from tests.support.organisations import Org
from tests.support.sandbox import SandboxControl, SandboxProcess
from tests.support.servers import TRAVELLING
from tests.support.travel import Travel


@pytest.fixture(scope="session")
def sandbox_process() -> Iterator[SandboxProcess]:
    with SandboxProcess() as process:
        yield process


@pytest.fixture
async def sandbox(sandbox_process: SandboxProcess) -> AsyncIterator[SandboxControl]:
    async with SandboxControl(sandbox_process.control) as control:
        yield control
        await control.clear_faults()  # the process is every test's


@pytest.fixture
def more_settings(sandbox_process: SandboxProcess) -> dict[str, Any]:
    return {"mailchimp_url": sandbox_process.url, "database_pool_size": 8}


@pytest.fixture
def template() -> str:
    """With a clock that can be moved (:mod:`tests.support.travel`)."""
    return TRAVELLING


@pytest.fixture
async def world(
    resources: Resources, organisation: Org, sandbox: SandboxControl, superuser_url: str
) -> AsyncIterator[World]:
    world = await make_world(resources, organisation, sandbox)
    world.travel = Travel(superuser_url, resources, sandbox)
    await world.travel.wait()
    yield world
    await world.travel.close()


Configure = Callable[..., Awaitable[None]]


@pytest.fixture
async def configure(sandbox: SandboxControl) -> AsyncIterator[Configure]:
    """``await configure(requireStatus=True)`` changes the sandbox's ways for the length of a test."""
    before = await sandbox.config()
    changed: set[str] = set()

    async def change(**given: Any) -> None:
        changed.update(given)
        await sandbox.configure(**given)

    yield change
    await sandbox.configure(**{name: before[name] for name in changed})


Between = Callable[[Callable[[], Awaitable[None]]], None]


@pytest.fixture
def before_push(monkeypatch: pytest.MonkeyPatch) -> Between:
    """``before_push(act)``: the act happens once, after the next plan and before its first write call."""

    def arrange(act: Callable[[], Awaitable[None]]) -> None:
        carry_out = push.Push.carry_out
        acts = [act]

        async def first_act(self: push.Push, audience: AudienceState) -> None:
            while acts:
                await acts.pop()()
            await carry_out(self, audience)

        monkeypatch.setattr(push.Push, "carry_out", first_act)

    return arrange
