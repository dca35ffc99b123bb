"""The world of the sync's tests, with erasures in it."""

from __future__ import annotations

import io
from collections.abc import Iterator

import asyncpg
import pytest

from tests.features.erasure.acts import Acts
from tests.features.sync.conftest import (  # noqa: F401 - fixtures
    before_push,
    configure,
    more_settings,
    sandbox,
    sandbox_process,
    template,
    world,
)
from tests.features.sync.world import World
from tests.support.logs import captured_logs


@pytest.fixture
async def acts(world: World, onlooker: asyncpg.Connection) -> Acts:  # noqa: F811
    """Erasures in the test's world."""
    return Acts(world, onlooker)


@pytest.fixture
def log() -> Iterator[io.StringIO]:
    """What is logged during the test, as an operator would get it."""
    with captured_logs() as stream:
        yield stream
