"""Calls through an egress proxy: a failure of the proxy is told apart from one of Mailchimp.

httpx raises the same errors for both. What httpcore does is therefore followed step by step: until the
proxy has made the tunnel to Mailchimp, every failure is the proxy's, and nothing was sent to Mailchimp.
"""

import asyncio
from typing import Final

import httpx

from mcsync.certificates import certificate_problem, untrusted_issuer

_SECONDS: Final = 30.0
"""Seconds for the connection to the proxy and its answer to CONNECT together."""
_PROXY_AUTHENTICATION: Final = 407
_PROXY: Final = "The egress proxy (MCSYNC_EGRESS_PROXY)"
_LOGIN: Final = f"{_PROXY} refuses the user name and the password of its URL, or its URL has none and it wants both."


class EgressProxyError(httpx.ProxyError):
    """The proxy failed before anything was sent to Mailchimp. The message is a sentence for operators."""


class _Progress:
    """How far a call has come, as httpcore tells it (its extension ``trace``)."""

    def __init__(self, limit: asyncio.Timeout) -> None:
        self._limit = limit
        self.at_proxy = False
        """Whether the proxy has still to connect the call to Mailchimp."""
        self.connected = False
        """Whether something took the TCP connection."""

    async def note(self, event: str, info: dict[str, object]) -> None:
        """Called by httpcore at every step."""
        match event:
            case "connection.connect_tcp.started":
                self.at_proxy = True
                self._limit.reschedule(asyncio.get_running_loop().time() + _SECONDS)
            case "connection.connect_tcp.complete":
                self.connected = True
            case "proxy.start_tls.started":  # the proxy has said yes to CONNECT
                self._through()
            case "http11.send_request_headers.started":
                request = info.get("request")
                if getattr(request, "method", b"") != b"CONNECT":
                    self._through()

    def _through(self) -> None:
        self.at_proxy = False
        self._limit.reschedule(None)


class ProxiedTransport(httpx.AsyncHTTPTransport):
    """httpx's transport, which raises :class:`EgressProxyError` for what the proxy is to blame for."""

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Make the call; see httpx."""
        progress: _Progress | None = None
        try:
            async with asyncio.timeout(None) as limit:
                progress = _Progress(limit)
                request.extensions = {**request.extensions, "trace": progress.note}
                response = await super().handle_async_request(request)
        except httpx.ProxyError as error:
            raise EgressProxyError(_refused(str(error))) from error
        except (httpx.TransportError, TimeoutError) as error:
            if progress is None or not progress.at_proxy:
                raise
            raise EgressProxyError(_failed(error, connected=progress.connected)) from error
        if response.status_code == _PROXY_AUTHENTICATION:  # only proxies answer this
            await response.aclose()
            raise EgressProxyError(_LOGIN)
        return response


def _refused(answer: str) -> str:
    """What the answer to CONNECT means; ``answer`` begins with its status."""
    status = answer.partition(" ")[0]
    if status == str(_PROXY_AUTHENTICATION):
        return _LOGIN
    return (
        f"{_PROXY} does not connect to Mailchimp's address: it answered {status}."
        " Its log and its rules say why."
    )


def _failed(error: Exception, *, connected: bool) -> str:
    wrong = certificate_problem(error, of=_PROXY)
    if wrong is not None:
        issuer = " Name that authority in MCSYNC_CA_FILE." if untrusted_issuer(error) else ""
        return wrong + issuer
    if not connected:
        return f"{_PROXY} cannot be reached. Check its address, and that it runs."
    what = (
        "did not answer in time"
        if isinstance(error, TimeoutError | httpx.TimeoutException)
        else "ended the connection, or does not speak as expected"
    )
    return (
        f"{_PROXY} {what}. Check that it works, its port, and whether its URL begins with http:// or"
        " https://."
    )
