"""One HTTP attempt: out goes a request, back comes a body or an error (MC 1, 2, 14).

No slots, no retries. httpx limits each operation on the socket, not the whole call, so a
server that drips one byte a second would hold a call for ever; the total is limited here.
"""

import asyncio
import base64
import functools
import ssl
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import Final
from urllib.parse import quote

import httpx

from mcsync.certificates import certificate_problem, tls_error, untrusted_issuer
from mcsync.mailchimp.egress import EgressProxyError, ProxiedTransport
from mcsync.mailchimp.errors import (
    MailchimpError,
    MailchimpTimeout,
    TransientError,
    UnsafeConnectionError,
    error_from_response,
)

WRITE_SECONDS: Final = 120.0
"""Mailchimp works up to 120 s on a call; giving up earlier leaves the outcome open (MC 15)."""
READ_SECONDS: Final = 60.0
MAX_BODY_BYTES: Final = 64 * 1024 * 1024
"""Decompressed. The largest honest answer, 1000 full members, is about 2 MiB."""
CONNECT_SECONDS: Final = 10.0
_OK: Final = range(200, 300)


@dataclass(frozen=True, slots=True)
class Request:
    """One call. `operation` is a constant name for logs and metrics."""

    operation: str
    method: str
    path: str
    params: Mapping[str, str] = field(default_factory=dict)
    content: bytes | None = field(default=None, repr=False)
    repeatable: bool = True
    """False where a repetition would create a second thing."""
    about_contact: bool = False
    """Whether a 400 can be about one contact instead of the request as a whole."""
    retry_timeouts: bool = True
    """False where the caller has something better to do after a 504 than to repeat."""

    @property
    def write(self) -> bool:
        """Whether the call may change something."""
        return self.method != "GET"


def path(*segments: str | int) -> str:
    """Join path segments, each quoted.

    Raises `ValueError` for a segment that would change which resource is meant.
    """
    texts = [str(segment) for segment in segments]
    if any(text in {"", ".", ".."} for text in texts):
        message = "empty or relative path segment"
        raise ValueError(message)
    return "".join("/" + quote(text, safe="") for text in texts)


@functools.cache
def _tls(ca_file: Path | None = None) -> ssl.SSLContext:
    """The authorities that httpx trusts by itself, and those of the file; reading them takes 40 ms, once."""
    context = httpx.create_ssl_context(trust_env=False)
    if ca_file is not None:
        context.load_verify_locations(cafile=ca_file)
    return context


def build_http(
    max_connections: int = 100, *, ca_file: Path | None = None, proxy: str | None = None
) -> httpx.AsyncClient:
    """Build the HTTP client: no redirects, nothing from the environment, explicit time-outs.

    A redirect could carry the key to another host, a proxy variable could send it through
    one. `ca_file`: authorities in PEM form that are trusted too; `proxy`: the URL of the
    proxy that every call takes. The caller closes the client.
    """
    tls = _tls(ca_file)
    limits = httpx.Limits(
        max_connections=max_connections,
        max_keepalive_connections=max_connections,
        # Shorter than the other side's patience, so that a write rarely meets a
        # connection which is just being closed.
        keepalive_expiry=20.0,
    )
    proxied = None
    if proxy is not None:
        encrypted = httpx.URL(proxy).scheme == "https"
        named = httpx.Proxy(proxy, ssl_context=tls if encrypted else None)
        proxied = ProxiedTransport(verify=tls, limits=limits, proxy=named, trust_env=False)
    return httpx.AsyncClient(
        follow_redirects=False,
        trust_env=False,
        verify=tls,
        transport=proxied,
        timeout=httpx.Timeout(
            connect=CONNECT_SECONDS, read=WRITE_SECONDS, write=WRITE_SECONDS, pool=WRITE_SECONDS
        ),
        limits=limits,
    )


class Transport:
    """Makes single attempts with one key. Its text never shows the key."""

    def __init__(
        self,
        http: httpx.AsyncClient,
        *,
        api_key: str,
        base_url: str,
        read_seconds: float = READ_SECONDS,
        write_seconds: float = WRITE_SECONDS,
        max_body_bytes: int = MAX_BODY_BYTES,
        on_call: Callable[[str, float, str], None] | None = None,
    ) -> None:
        self._http = http
        self._base_url = base_url.rstrip("/")
        self._read_seconds = read_seconds
        self._write_seconds = write_seconds
        self._max_body_bytes = max_body_bytes
        self._on_call = on_call
        self.server_time: datetime | None = None
        """What Mailchimp's clock said in its last answer; None before one that tells."""
        token = base64.b64encode(f"mcsync:{api_key}".encode()).decode()
        self._headers = {
            "Authorization": f"Basic {token}",
            "Accept": "application/json, application/problem+json",
            "User-Agent": "mcsync",
        }

    def __repr__(self) -> str:
        """Name the place, not the key."""
        return f"Transport({self._base_url!r})"

    async def send(self, request: Request) -> bytes:
        """Make the call once and return the body of a 2xx answer.

        Raises a `MailchimpError`: see the tree in errors.py.
        """
        began = time.monotonic()
        outcome = "cancelled"
        try:
            status, headers, body = await self._exchange(request)
            outcome = str(status)
        except MailchimpTimeout:
            outcome = "timeout"
            raise
        except MailchimpError:
            outcome = "error"
            raise
        finally:
            if self._on_call is not None:
                self._on_call(request.operation, time.monotonic() - began, outcome)
        if status not in _OK:
            raise error_from_response(
                status, headers, body, write=request.write, about_contact=request.about_contact
            )
        return body

    async def _exchange(self, request: Request) -> tuple[int, Mapping[str, str], bytes]:
        seconds = self._write_seconds if request.write else self._read_seconds
        try:
            async with asyncio.timeout(seconds):
                return await self._read(request)
        except (httpx.ConnectTimeout, httpx.PoolTimeout) as error:
            raise MailchimpTimeout("no connection in time") from error
        except (TimeoutError, httpx.TimeoutException) as error:
            raise MailchimpTimeout("no answer in time", outcome_unknown=request.write) from error
        except EgressProxyError as error:
            raise UnsafeConnectionError(str(error)) from error
        except httpx.ConnectError as error:
            wrong = _tls_problem(error)
            if wrong is not None:
                raise UnsafeConnectionError(wrong) from error
            raise TransientError("cannot connect") from error
        except (httpx.HTTPError, httpx.StreamError) as error:
            raise TransientError("connection broke", outcome_unknown=request.write) from error

    async def _read(self, request: Request) -> tuple[int, Mapping[str, str], bytes]:
        headers = dict(self._headers)
        if request.content is not None:
            headers["Content-Type"] = "application/json"
        async with self._http.stream(
            request.method,
            self._base_url + request.path,
            params=request.params or None,
            content=request.content,
            headers=headers,
            follow_redirects=False,
        ) as response:
            self.server_time = _date(response.headers.get("Date")) or self.server_time
            body = bytearray()
            async for chunk in response.aiter_bytes():
                body += chunk
                if len(body) > self._max_body_bytes:
                    raise TransientError(
                        "answer too large",
                        status=response.status_code,
                        outcome_unknown=request.write,
                    )
            return response.status_code, response.headers, bytes(body)


def _tls_problem(error: BaseException) -> str | None:
    """What is wrong with TLS, in words; None where the connection failed for another reason."""
    if tls_error(error) is None:
        return None
    wrong = certificate_problem(error, of="Mailchimp's address")
    if wrong is None:
        return (
            "Mailchimp's address does not speak TLS as expected: something else may answer there."
        )
    if untrusted_issuer(error):
        wrong += " Where a proxy of your own inspects TLS, name its authority in MCSYNC_CA_FILE."
    return wrong


def _date(header: str | None) -> datetime | None:
    if header is None:
        return None
    try:
        date = parsedate_to_datetime(header)
    except ValueError:
        return None
    return date if date.tzinfo else None
