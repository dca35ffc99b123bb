"""An egress proxy that fails is named, and Mailchimp is not blamed for it."""

from __future__ import annotations

import asyncio
from pathlib import Path

import httpx
import pytest

from mcsync.mailchimp import TransientError, UnsafeConnectionError, build_http, egress
from mcsync.mailchimp.transport import Request, Transport
from tests.mailchimp.test_tls import Proxy, serving
from tests.mailchimp.test_transport import client_for
from tests.support.authority import Authority

NOWHERE = "https://127.0.0.1:9"


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path)


async def _problem(proxy: str, *, ca_file: Path | None = None, target: str = NOWHERE) -> str:
    """What is said of a write that has to take the proxy."""
    async with build_http(ca_file=ca_file, proxy=proxy) as http:
        transport = Transport(http, api_key="k-us1", base_url=target)
        with pytest.raises(UnsafeConnectionError) as caught:
            await transport.send(Request("create", "POST", "/lists"))
    assert caught.value.outcome_unknown is False, "nothing was sent to Mailchimp"
    assert "Mailchimp's address has" not in caught.value.title
    assert caught.value.title.startswith("The egress proxy (MCSYNC_EGRESS_PROXY) ")
    return caught.value.title


async def _answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, line: bytes) -> None:
    await reader.readuntil(b"\r\n\r\n")
    writer.write(b"HTTP/1.1 " + line + b"\r\nContent-Length: 0\r\n\r\n")
    await writer.drain()
    writer.close()


async def test_nothing_listens_at_the_proxy() -> None:
    assert "cannot be reached" in await _problem("http://127.0.0.1:9")


async def test_a_proxy_with_tls_whose_issuer_is_unknown(authority: Authority) -> None:
    async with serving(authority.server(), Proxy().handle) as at:
        said = await _problem(f"https://127.0.0.1:{at}")
    assert "of an authority that is not trusted" in said
    assert "MCSYNC_CA_FILE" in said


async def test_a_proxy_with_tls_whose_certificate_has_expired(authority: Authority) -> None:
    async with serving(authority.server(days=(-3, -1)), Proxy().handle) as at:
        said = await _problem(f"https://127.0.0.1:{at}", ca_file=authority.file)
    assert "has expired" in said
    assert "MCSYNC_CA_FILE" not in said


@pytest.mark.parametrize("scheme", ["https", "HTTPS"])
async def test_a_proxy_with_tls_of_a_named_authority_works(
    authority: Authority, scheme: str
) -> None:
    proxy = Proxy()
    async with serving(authority.server()) as port, serving(authority.server(), proxy.handle) as at:
        url = f"{scheme}://user:word@127.0.0.1:{at}"
        async with build_http(ca_file=authority.file, proxy=url) as http:
            account = await client_for(http, f"https://127.0.0.1:{port}").account()
    assert account.account_id == "acc"
    assert proxy.asked[0].startswith(f"CONNECT 127.0.0.1:{port} ")


async def test_mailchimps_certificate_behind_a_proxy_is_mailchimps(authority: Authority) -> None:
    async with (
        serving(authority.server()) as port,
        serving(None, Proxy().handle) as at,
        build_http(proxy=f"http://127.0.0.1:{at}") as http,
    ):
        with pytest.raises(UnsafeConnectionError, match="Mailchimp's address has") as caught:
            await client_for(http, f"https://127.0.0.1:{port}").account()
    assert "Where a proxy of your own inspects TLS" in caught.value.title


async def test_a_port_that_is_no_http_proxy(authority: Authority) -> None:
    async def greet_and_end(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"220 mail.example ESMTP\r\n")
        await writer.drain()
        writer.close()

    async with serving(None, greet_and_end) as at:
        assert "does not speak as expected" in await _problem(f"http://127.0.0.1:{at}")
        said = await _problem(f"https://127.0.0.1:{at}", ca_file=authority.file)
    assert "http:// or https://" in said


async def test_a_proxy_that_never_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(egress, "_SECONDS", 1.0)
    ended = asyncio.Event()

    async def hang(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        writer.close()
        ended.set()

    async with serving(None, hang) as at:
        assert "did not answer in time" in await _problem(f"http://127.0.0.1:{at}")
        await ended.wait()


@pytest.mark.parametrize("target", [NOWHERE, "http://127.0.0.1:9"])
async def test_a_proxy_that_wants_a_password(target: str) -> None:
    async with serving(None, Proxy(refuse=True).handle) as at:
        said = await _problem(f"http://127.0.0.1:{at}", target=target)
    assert "password" in said


async def test_a_proxy_that_does_not_connect() -> None:
    async def forbid(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await _answer(reader, writer, b"403 Forbidden")

    async with serving(None, forbid) as at:
        assert "answered 403" in await _problem(f"http://127.0.0.1:{at}")


async def test_a_connection_that_breaks_behind_the_proxy_is_in_doubt(authority: Authority) -> None:
    """Mailchimp was asked and gave no answer: the proxy is not to blame, and the call may have been applied."""

    async def drop(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.close()

    async with serving(authority.server(), drop) as port, serving(None, Proxy().handle) as at:
        url = f"http://127.0.0.1:{at}"
        async with build_http(ca_file=authority.file, proxy=url) as http:
            transport = Transport(http, api_key="k-us1", base_url=f"https://127.0.0.1:{port}")
            with pytest.raises(TransientError) as caught:
                await transport.send(Request("create", "POST", "/lists"))
    assert not isinstance(caught.value, UnsafeConnectionError)
    assert caught.value.outcome_unknown is True


async def test_the_same_tunnel_serves_again(authority: Authority) -> None:
    """A connection that is kept says nothing of the proxy; its failures are not the proxy's."""
    answered = 0

    async def twice(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal answered
        for _ in range(2):
            await reader.readuntil(b"\r\n\r\n")
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}")
            await writer.drain()
            answered += 1
        await reader.readuntil(b"\r\n\r\n")
        writer.close()

    proxy = Proxy()
    async with (
        serving(authority.server(), twice) as port,
        serving(None, proxy.handle) as at,
        build_http(ca_file=authority.file, proxy=f"http://127.0.0.1:{at}") as http,
    ):
        url = f"https://127.0.0.1:{port}/"
        for _ in range(2):
            assert (await http.get(url)).status_code == 200
        with pytest.raises(httpx.RemoteProtocolError):
            await http.get(url)
    assert (answered, len(proxy.asked)) == (2, 1)
