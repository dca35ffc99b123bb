"""A way to a server that is closed at first: connections are refused until it is opened."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator
from urllib.parse import urlsplit


class Relay:
    """A port of its own in front of the server that ``url`` names; :attr:`url` leads through it."""

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        assert parts.hostname is not None
        assert parts.port is not None
        self._target = (parts.hostname, parts.port)
        self._socket = socket.socket()
        self._socket.bind(("127.0.0.1", 0))  # without listening: taken, and refused
        self._server: asyncio.Server | None = None
        port = self._socket.getsockname()[1]
        login = parts.netloc.rpartition("@")[0]
        self.url = parts._replace(netloc=f"{login}@127.0.0.1:{port}").geturl()

    async def open(self) -> None:
        """Lets everybody through from now on."""
        self._server = await asyncio.start_server(self._connect, sock=self._socket)

    async def close(self) -> None:
        """Ends every connection."""
        if self._server is not None:
            self._server.close()
        self._socket.close()

    async def _connect(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            there, to = await asyncio.open_connection(*self._target)
            await asyncio.gather(_pump(reader, to), _pump(there, writer))


async def _pump(source: asyncio.StreamReader, target: asyncio.StreamWriter) -> None:
    try:
        while piece := await source.read(65536):
            target.write(piece)
            await target.drain()
    finally:
        target.close()


@contextlib.asynccontextmanager
async def relayed(url: str) -> AsyncIterator[Relay]:
    """A relay that is closed at the end."""
    relay = Relay(url)
    try:
        yield relay
    finally:
        await relay.close()
