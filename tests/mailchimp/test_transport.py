"""One attempt against a server that misbehaves."""

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime

import httpx
import pytest
import respx

from mcsync.mailchimp import (
    InvalidApiKey,
    Lane,
    MailchimpClient,
    MailchimpTimeout,
    MemorySlotStore,
    RetryPolicy,
    SlotLimiter,
    TransientError,
    build_http,
)
from tests.mailchimp.server import Server, serving

KEY = "0123456789abcdef0123456789abcdef-us6"
ONCE = RetryPolicy(max_attempts=1)


@pytest.fixture
async def server() -> AsyncIterator[Server]:
    async with serving(Server()) as running:
        yield running


@pytest.fixture
async def http() -> AsyncIterator[httpx.AsyncClient]:
    async with build_http() as client:
        yield client


def client_for(http: httpx.AsyncClient, url: str, **options: object) -> MailchimpClient:
    settings: dict[str, object] = {
        "api_key": KEY,
        "base_url": url,
        "slots": SlotLimiter(MemorySlotStore()),
        "account": "a",
        "retry": ONCE,
        **options,
    }
    return MailchimpClient(http, **settings)  # type: ignore[arg-type]


async def test_it_signs_in_with_basic_credentials(server: Server, http: httpx.AsyncClient) -> None:
    assert (await client_for(http, server.url).account()).account_id == "acc"
    assert server.headers[b"authorization"] == httpx.BasicAuth("mcsync", KEY)._auth_header.encode()


async def test_a_hanging_server_is_given_up(server: Server, http: httpx.AsyncClient) -> None:
    server.behaviour = "hang"
    client = client_for(http, server.url, read_seconds=0.1, write_seconds=0.1)
    with pytest.raises(MailchimpTimeout) as caught:
        await client.ping()
    assert not caught.value.outcome_unknown
    with pytest.raises(MailchimpTimeout) as caught:
        await client.archive_member("l", "h")
    assert caught.value.outcome_unknown


async def test_a_dripping_server_is_given_up_in_total(
    server: Server, http: httpx.AsyncClient
) -> None:
    server.behaviour = "drip"
    with pytest.raises(MailchimpTimeout):
        await client_for(http, server.url, read_seconds=0.4).ping()
    assert server.drips < 100


async def test_a_redirect_is_not_followed(server: Server, http: httpx.AsyncClient) -> None:
    server.behaviour = "redirect"
    with pytest.raises(TransientError) as caught:
        await client_for(http, server.url).ping()
    assert caught.value.status == 302
    assert [path for _, path in server.requests] == ["/ping"]


async def test_the_environments_proxy_is_ignored(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    monkeypatch.setenv("NO_PROXY", "")
    async with build_http() as http:
        await client_for(http, server.url).ping()
    assert server.requests


async def test_an_endless_answer_is_cut_off(server: Server, http: httpx.AsyncClient) -> None:
    server.behaviour = "flood"
    with pytest.raises(TransientError, match="too large"):
        await client_for(http, server.url, max_body_bytes=3_000_000).ping()


async def test_an_answer_cut_short_leaves_a_write_open(
    server: Server, http: httpx.AsyncClient
) -> None:
    server.behaviour = "cut"
    with pytest.raises(TransientError) as caught:
        await client_for(http, server.url).archive_member("l", "h")
    assert caught.value.outcome_unknown


async def test_an_unreadable_answer_is_transient(server: Server, http: httpx.AsyncClient) -> None:
    server.behaviour = "garbage"
    client = client_for(http, server.url)
    with pytest.raises(TransientError) as caught:
        await client.account()
    assert not caught.value.outcome_unknown
    with pytest.raises(TransientError) as caught:
        await client.update_member("l", "h", {"status": "unsubscribed"})
    assert caught.value.outcome_unknown


@pytest.mark.parametrize(
    ("fault", "kind", "unknown"),
    [
        (httpx.ConnectError("x"), TransientError, False),
        (httpx.ConnectTimeout("x"), MailchimpTimeout, False),
        (httpx.PoolTimeout("x"), MailchimpTimeout, False),
        (httpx.ReadTimeout("x"), MailchimpTimeout, True),
        (httpx.WriteTimeout("x"), MailchimpTimeout, True),
        (httpx.ReadError("x"), TransientError, True),
        (httpx.WriteError("x"), TransientError, True),
        (httpx.RemoteProtocolError("x"), TransientError, True),
    ],
)
async def test_faults_of_the_network(
    http: httpx.AsyncClient, fault: Exception, kind: type[TransientError], unknown: bool
) -> None:
    with respx.mock() as router:
        router.delete(url__startswith="http://mc.test").mock(side_effect=fault)
        with pytest.raises(kind) as caught:
            await client_for(http, "http://mc.test").archive_member("l", "h")
    assert type(caught.value) is kind
    assert caught.value.outcome_unknown is unknown


async def test_each_attempt_is_reported(server: Server, http: httpx.AsyncClient) -> None:
    heard: list[tuple[str, str]] = []

    def on_call(operation: str, seconds: float, outcome: str) -> None:
        assert seconds >= 0
        heard.append((operation, outcome))

    client = client_for(http, server.url, on_call=on_call, read_seconds=0.2)
    await client.ping()
    server.behaviour = "hang"
    with pytest.raises(MailchimpTimeout):
        await client.ping()
    task = asyncio.create_task(client.ping())
    await asyncio.sleep(0.05)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    assert heard == [
        ("account.ping", "200"),
        ("account.ping", "timeout"),
        ("account.ping", "cancelled"),
    ]


async def test_the_data_centre_comes_from_the_key(http: httpx.AsyncClient) -> None:
    template = "https://{dc}.api.mailchimp.com/3.0"
    client = client_for(http, template)
    assert "us6.api.mailchimp.com" in repr(client)
    assert KEY not in repr(client)
    assert "0123456789abcdef" not in repr(vars(client._caller))
    with pytest.raises(InvalidApiKey):
        client_for(http, template, api_key="secret-evil.test/x")
    assert "live" in repr(client.with_lane(Lane.LIVE))
    assert "bulk" in repr(client)


@pytest.mark.parametrize(
    ("header", "told"),
    [
        ("Sun, 01 Mar 2026 12:00:00 GMT", datetime(2026, 3, 1, 12, tzinfo=UTC)),
        ("yesterday", None),
        (None, None),
    ],
)
async def test_it_remembers_what_time_it_is_there(
    http: httpx.AsyncClient, header: str | None, told: datetime | None
) -> None:
    client = client_for(http, "http://mailchimp.test/3.0")
    answer = httpx.Response(
        200, json={"health_status": "fine"}, headers={"Date": header} if header else {}
    )
    with respx.mock:
        respx.get("http://mailchimp.test/3.0/ping").mock(return_value=answer)
        await client.ping()
    assert client.server_time == told
