"""A world as the syncs have it, with the API on a real port, so that the sandbox can post to it."""

from __future__ import annotations

import socket
from collections.abc import AsyncIterator
from typing import Any

import pytest
from fastapi import FastAPI

from tests.features.sync.conftest import (
    Configure,
    before_push,
    configure,
    sandbox,
    sandbox_process,
    template,
    world,
)
from tests.features.webhooks.door import Door
from tests.support.sandbox import SandboxProcess
from tests.support.serving import serving

__all__ = [
    "Configure", "before_push", "configure", "sandbox", "sandbox_process", "template",
    "world",
]  # fmt: skip


@pytest.fixture
def listener() -> Any:
    """The API's socket; its port is known before anything is built."""
    with socket.create_server(("127.0.0.1", 0), backlog=256) as opened:
        yield opened


@pytest.fixture
def public(listener: socket.socket) -> str | None:
    """The public URL; a class that wants none overrides this."""
    return f"http://127.0.0.1:{listener.getsockname()[1]}"


@pytest.fixture
def more_settings(sandbox_process: SandboxProcess, public: str | None) -> dict[str, Any]:
    return {
        "mailchimp_url": sandbox_process.url,
        "database_pool_size": 8,
        "public_url": public,
    }


@pytest.fixture
async def served(app: FastAPI, listener: socket.socket) -> AsyncIterator[str]:
    """The API, answering on its port while the test lasts."""
    async with serving(app, listener) as url:
        yield url


@pytest.fixture
async def door(world: Any, served: str) -> AsyncIterator[Door]:
    """The world with its webhooks: registering, posting, working off."""
    yield Door(world, served)
    # the sandbox is every test's: nothing is kept back for the next one
    await world.sandbox.release_deliveries()
    await world.sandbox.delivered()
