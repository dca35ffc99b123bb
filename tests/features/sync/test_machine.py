"""Anything, in any order: see :mod:`machine` for what is done and what must never happen.

The gate tells the same few stories each time; ``make chaos`` tells others, as many as ``CHAOS_EXAMPLES``
says.
"""

from __future__ import annotations

import asyncio
import os
from typing import Any
from uuid import uuid4

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis.stateful import run_state_machine_as_test

from mcsync.core.resources import Resources
from mcsync.core.settings import Settings
from tests.features.sync.files_machine import FilesMachine
from tests.features.sync.machine import Machine
from tests.features.sync.world import World, make_world
from tests.support.organisations import make_organisation
from tests.support.sandbox import SandboxControl, SandboxProcess
from tests.support.travel import Travel


@pytest.fixture
def more_settings(more_settings: dict[str, Any]) -> dict[str, Any]:
    """With limits that the guard reaches in so small a world."""
    return more_settings | {"guard_removals_min": 4, "guard_additions_min": 3}


def tell(
    given: Settings, superuser_url: str, process: SandboxProcess, *, examples: int, steps: int,
    derandomize: bool, machine: type[Machine] = Machine,
) -> None:  # fmt: skip
    """Tells that many stories of at most so many steps, each in an organisation of its own."""
    with asyncio.Runner() as runner:
        resources = runner.run(Resources.build(given))
        sandbox = SandboxControl(process.control)
        travel = Travel(superuser_url, resources, sandbox)

        async def make() -> World:
            organisation = await make_organisation(resources, f"Acme {uuid4().hex}")
            world = await make_world(resources, organisation, sandbox)
            world.travel = travel
            await travel.wait()
            return world

        class Told(machine):  # type: ignore[valid-type, misc]
            pass

        Told.runner = runner
        Told.make = staticmethod(make)
        try:
            run_state_machine_as_test(
                Told,
                settings=settings(
                    max_examples=examples,
                    stateful_step_count=steps,
                    derandomize=derandomize,
                    deadline=None,
                    database=None,
                    phases=(Phase.generate, Phase.shrink),
                    suppress_health_check=list(HealthCheck),
                    print_blob=True,
                ),
            )
        finally:
            runner.run(travel.close())
            runner.run(sandbox.aclose())
            runner.run(resources.close())


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_no_story_ends_badly(
    settings: Settings, superuser_url: str, sandbox_process: SandboxProcess
) -> None:
    tell(settings, superuser_url, sandbox_process, examples=10, steps=20, derandomize=True)


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_nor_does_one_with_files_as_people_have_them(
    settings: Settings, superuser_url: str, sandbox_process: SandboxProcess
) -> None:
    tell(
        settings, superuser_url, sandbox_process, examples=8, steps=20, derandomize=True,
        machine=FilesMachine,
    )  # fmt: skip


@pytest.mark.chaos
@pytest.mark.timeout(0)
@pytest.mark.parametrize("machine", [Machine, FilesMachine])
def test_nor_does_any_of_many(
    settings: Settings, superuser_url: str, sandbox_process: SandboxProcess, machine: type[Machine]
) -> None:
    examples = int(os.environ.get("CHAOS_EXAMPLES", "200"))
    tell(
        settings, superuser_url, sandbox_process, examples=examples, steps=30, derandomize=False,
        machine=machine,
    )  # fmt: skip
