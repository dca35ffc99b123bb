"""The Transactional client: one object for one key."""

import random
import re
from collections.abc import Callable
from typing import Final

import httpx

from mcsync.mailchimp.retry import RetryPolicy
from mcsync.mailchimp.transactional.caller import TransactionalCaller
from mcsync.mailchimp.transactional.endpoints import (
    AccountEndpoints,
    RejectEndpoints,
    TemplateEndpoints,
    TransactionalWebhookEndpoints,
)
from mcsync.mailchimp.transactional.messages import MessageEndpoints
from mcsync.mailchimp.transactional.transport import TransactionalTransport
from mcsync.mailchimp.transport import MAX_BODY_BYTES, READ_SECONDS, WRITE_SECONDS

BASE_URL: Final = "https://mandrillapp.com/api/1.0"
TRANSACTIONAL_KEY_PATTERN: Final = re.compile(r"(?:md-)?[0-9A-Za-z_-]{20,64}\Z")
"""Keys of today begin with `md-`; older ones are 22 characters without. Use `match`."""


class TransactionalClient(
    AccountEndpoints,
    MessageEndpoints,
    RejectEndpoints,
    TemplateEndpoints,
    TransactionalWebhookEndpoints,
):
    """All calls with one Transactional key; Marketing keys do not work here.

    `on_call` hears of every attempt: operation, seconds, and the HTTP status, `timeout`,
    `error` or `cancelled`. Total time-outs are in seconds. Passing trouble is retried by the
    policy, a message whose outcome is unknown never is.
    """

    def __init__(
        self,
        http: httpx.AsyncClient,
        *,
        api_key: str,
        base_url: str = BASE_URL,
        retry: RetryPolicy | None = None,
        on_call: Callable[[str, float, str], None] | None = None,
        read_seconds: float = READ_SECONDS,
        write_seconds: float = WRITE_SECONDS,
        max_body_bytes: int = MAX_BODY_BYTES,
        rand: Callable[[], float] = random.random,
    ) -> None:
        transport = TransactionalTransport(
            http,
            base_url=base_url,
            read_seconds=read_seconds,
            write_seconds=write_seconds,
            max_body_bytes=max_body_bytes,
            on_call=on_call,
        )
        super().__init__(
            TransactionalCaller(transport, api_key=api_key, retry=retry or RetryPolicy(), rand=rand)
        )

    def __repr__(self) -> str:
        """Name the place, not the key."""
        return f"TransactionalClient({self._caller.transport!r})"
