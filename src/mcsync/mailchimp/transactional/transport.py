"""One HTTP attempt to the Transactional API: everything is a POST with the key in its body."""

import time
from collections.abc import Callable
from dataclasses import dataclass

import httpx

from mcsync.mailchimp.errors import (
    MailchimpError,
    MailchimpTimeout,
    ThrottledError,
    TransientError,
)
from mcsync.mailchimp.transactional.errors import as_uncertain, error_from_answer
from mcsync.mailchimp.transport import Request, Transport


@dataclass(frozen=True, slots=True)
class Post(Request):
    """One call. Whether it changes anything, its method does not tell here."""

    changes: bool = True
    sends: bool = False
    """It hands in a message: without an answer nobody may repeat it."""
    throttled_seconds: float | None = None
    """How long a 429 lasts, where that is known."""

    @property
    def write(self) -> bool:
        """Whether the call may change something."""
        return self.changes


class TransactionalTransport(Transport):
    """Makes single attempts. Sends no credentials of its own: the bodies carry the key."""

    def __init__(
        self,
        http: httpx.AsyncClient,
        *,
        base_url: str,
        read_seconds: float,
        write_seconds: float,
        max_body_bytes: int,
        on_call: Callable[[str, float, str], None] | None,
    ) -> None:
        super().__init__(
            http,
            api_key="",
            base_url=base_url,
            read_seconds=read_seconds,
            write_seconds=write_seconds,
            max_body_bytes=max_body_bytes,
            on_call=on_call,
        )
        self._headers = {"Accept": "application/json", "User-Agent": "mcsync"}

    async def post(self, request: Post) -> bytes:
        """Make the call once and return the body of a 2xx answer.

        Raises a `MailchimpError`: see the tree in errors.py.
        """
        began = time.monotonic()
        outcome = "cancelled"
        try:
            status, headers, body = await self._exchange(request)
            outcome = str(status)
        except MailchimpError as error:
            outcome = "timeout" if isinstance(error, MailchimpTimeout) else "error"
            if request.sends and isinstance(error, TransientError) and error.outcome_unknown:
                raise as_uncertain(error) from error
            raise
        finally:
            if self._on_call is not None:
                self._on_call(request.operation, time.monotonic() - began, outcome)
        if status // 100 != 2:
            refused = error_from_answer(
                status, headers, body, sends=request.sends, changes=request.changes
            )
            if isinstance(refused, ThrottledError) and refused.retry_after is None:
                refused.retry_after = request.throttled_seconds
            raise refused
        return body
