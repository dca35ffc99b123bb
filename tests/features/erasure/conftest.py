"""The world of the sync's tests, with erasures in it."""

from __future__ import annotations

import io
import logging
from collections.abc import Iterator

import asyncpg
import pytest
import structlog

from mcsync.core.logging import configure_logging
from mcsync.core.settings import Settings
from tests.features.erasure.acts import Acts
from tests.features.sync.conftest import (  # noqa: F401 - fixtures
    before_push,
    configure,
    database_url,
    more_settings,
    sandbox,
    sandbox_process,
    world,
)
from tests.features.sync.world import World


@pytest.fixture
async def acts(world: World, onlooker: asyncpg.Connection) -> Acts:  # noqa: F811
    """Erasures in the test's world."""
    return Acts(world, onlooker)


@pytest.fixture
def log() -> Iterator[io.StringIO]:
    """What is logged during the test, as an operator would get it."""
    stream = io.StringIO()
    root = logging.getLogger()
    before, level = root.handlers[:], root.level
    configure_logging(Settings(log_level="DEBUG"), stream=stream)
    yield stream
    root.handlers[:] = before
    root.setLevel(level)
    structlog.reset_defaults()
