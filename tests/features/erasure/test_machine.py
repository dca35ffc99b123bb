"""Consent holds in any order of events: see :mod:`consent_machine`.

The gate tells the same few stories each time; ``make chaos`` tells others, as many as ``CHAOS_EXAMPLES``
says.
"""

from __future__ import annotations

import os
from typing import Any

import pytest

from mcsync.core.settings import Settings
from tests.features.erasure.consent_machine import ConsentMachine
from tests.features.sync.test_machine import tell
from tests.support.sandbox import SandboxProcess


@pytest.fixture
def more_settings(more_settings: dict[str, Any]) -> dict[str, Any]:
    """With limits that the guard reaches in so small a world."""
    return more_settings | {"guard_removals_min": 4, "guard_additions_min": 3}


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_nobody_is_mailed_again(
    settings: Settings, superuser_url: str, sandbox_process: SandboxProcess
) -> None:
    tell(
        settings, superuser_url, sandbox_process, examples=8, steps=20, derandomize=True,
        machine=ConsentMachine,
    )  # fmt: skip


@pytest.mark.chaos
@pytest.mark.timeout(0)
def test_in_none_of_many_stories(
    settings: Settings, superuser_url: str, sandbox_process: SandboxProcess
) -> None:
    examples = int(os.environ.get("CHAOS_EXAMPLES", "200"))
    tell(
        settings, superuser_url, sandbox_process, examples=examples, steps=30, derandomize=False,
        machine=ConsentMachine,
    )  # fmt: skip
