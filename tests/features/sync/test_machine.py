"""Anything, in any order: see :mod:`machine` for what is done and what must never happen.

``MCSYNC_CHAOS_EXAMPLES`` sets how many stories are told (``make chaos`` tells many).
"""

from __future__ import annotations

import asyncio
import os
from uuid import uuid4
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis.stateful import run_state_machine_as_test

from mcsync.core.resources import Resources
from mcsync.core.settings import Settings
from tests.features.sync.machine import Machine
from tests.features.sync.travel import Travel
from tests.features.sync.world import World, make_world
from tests.support.organisations import make_organisation
from tests.support.sandbox import SandboxControl, SandboxProcess


@pytest.fixture
def more_settings(more_settings: dict[str, Any]) -> dict[str, Any]:
    """With limits that the guard reaches in so small a world."""
    return more_settings | {"guard_removals_min": 4, "guard_additions_min": 3}


def tell(
    given: Settings, superuser_url: str, process: SandboxProcess, *, examples: int, steps: int
) -> None:
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

        class Told(Machine):
            pass

        Told.runner = runner
        Told.make = staticmethod(make)
        try:
            run_state_machine_as_test(  # type: ignore[no-untyped-call]
                Told,
                settings=settings(
                    max_examples=examples,
                    stateful_step_count=steps,
                    deadline=None,
                    suppress_health_check=list(HealthCheck),
                    phases=(Phase.generate, Phase.shrink) if os.environ.get("SHRINK", "1") == "1" else (Phase.generate,),
                    print_blob=True,
                ),
            )
        finally:
            from tests.features.sync.machine import SEEN
            print(SEEN)
            runner.run(travel.close())
            runner.run(sandbox.aclose())
            runner.run(resources.close())


@pytest.mark.slow
@pytest.mark.timeout(0)
def test_no_story_ends_badly(
    settings: Settings, superuser_url: str, sandbox_process: SandboxProcess
) -> None:
    tell(settings, superuser_url, sandbox_process, examples=int(os.environ.get("MCSYNC_CHAOS_EXAMPLES", "20")), steps=25)
