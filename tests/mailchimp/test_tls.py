"""TLS and proxies as companies have them: what is wrong is said, and never blamed on the key."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from mcsync.mailchimp import UnsafeConnectionError, build_http
from tests.mailchimp.test_transport import client_for
from tests.support.authority import Authority

_ANSWER = b'{"account_id": "acc", "account_name": "Acme", "login_id": "l"}'


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path)


async def _answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.readuntil(b"\r\n\r\n")
    writer.write(
        b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nConnection: close\r\n"
        b"Content-Length: %d\r\n\r\n%s" % (len(_ANSWER), _ANSWER)
    )
    await writer.drain()
    writer.close()


async def _plain(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.read(1)
    writer.write(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n")
    await writer.drain()
    writer.close()


@asynccontextmanager
async def serving(
    tls: ssl.SSLContext | None,
    handle: Callable[..., object] = _answer,
) -> AsyncIterator[int]:
    """A server on a port of its own; yields the port."""
    server = await asyncio.start_server(handle, "127.0.0.1", 0, ssl=tls)  # type: ignore[arg-type]
    async with server:
        yield server.sockets[0].getsockname()[1]


async def _problem(port: int, ca_file: Path | None) -> str:
    async with build_http(ca_file=ca_file) as http:
        with pytest.raises(UnsafeConnectionError) as caught:
            await client_for(http, f"https://127.0.0.1:{port}").account()
    assert "key" not in caught.value.title.lower()
    return caught.value.title


async def test_an_authority_of_ones_own_is_trusted_when_named(authority: Authority) -> None:
    async with serving(authority.server()) as port:
        assert "MCSYNC_CA_FILE" in await _problem(port, None)
        async with build_http(ca_file=authority.file) as http:
            account = await client_for(http, f"https://127.0.0.1:{port}").account()
    assert account.account_id == "acc"


async def test_what_is_wrong_with_a_certificate_is_said(authority: Authority) -> None:
    for tls, words in (
        (authority.server(days=(-3, -1)), "expired"),
        (authority.server(days=(1, 3)), "not valid yet"),
        (authority.server(name="elsewhere.example"), "another name"),
    ):
        async with serving(tls) as port:
            assert words in await _problem(port, authority.file)


async def test_a_port_without_tls_is_named(authority: Authority) -> None:
    async with serving(None, _plain) as port:
        assert "does not speak TLS" in await _problem(port, authority.file)


class Proxy:
    """An egress proxy (CONNECT) that wants a password or not."""

    def __init__(self, *, refuse: bool = False) -> None:
        self.asked: list[str] = []
        self._refuse = refuse

    async def handle(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        self.asked.append(head)
        if self._refuse:
            writer.write(b"HTTP/1.1 407 Proxy Authentication Required\r\nContent-Length: 0\r\n\r\n")
            await writer.drain()
            writer.close()
            return
        host, port = head.split()[1].rsplit(":", 1)
        there, to = await asyncio.open_connection(host, int(port))
        writer.write(b"HTTP/1.1 200 Connection established\r\n\r\n")
        await asyncio.gather(_pump(reader, to), _pump(there, writer))


async def _pump(source: asyncio.StreamReader, target: asyncio.StreamWriter) -> None:
    while piece := await source.read(65536):
        target.write(piece)
        await target.drain()
    target.close()


async def test_calls_take_the_named_proxy(authority: Authority) -> None:
    proxy = Proxy()
    async with serving(authority.server()) as port, serving(None, proxy.handle) as at:
        url = f"http://user:word@127.0.0.1:{at}"
        async with build_http(ca_file=authority.file, proxy=url) as http:
            account = await client_for(http, f"https://127.0.0.1:{port}").account()
    assert account.account_id == "acc"
    assert proxy.asked[0].startswith(f"CONNECT 127.0.0.1:{port} ")
    assert "proxy-authorization: basic" in proxy.asked[0].lower()


async def test_a_proxy_that_refuses_is_named() -> None:
    proxy = Proxy(refuse=True)
    async with (
        serving(None, proxy.handle) as at,
        build_http(proxy=f"http://127.0.0.1:{at}") as http,
    ):
        with pytest.raises(UnsafeConnectionError, match="MCSYNC_EGRESS_PROXY"):
            await client_for(http, "https://127.0.0.1:9").account()
