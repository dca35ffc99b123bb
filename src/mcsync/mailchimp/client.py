"""The Mailchimp Marketing client: one object for one account and key."""

import copy
import random
import time
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from datetime import datetime, timedelta

import httpx

from mcsync.mailchimp.caller import Caller
from mcsync.mailchimp.endpoints.account import AccountEndpoints
from mcsync.mailchimp.endpoints.audiences import AudienceEndpoints
from mcsync.mailchimp.endpoints.batches import BatchEndpoints
from mcsync.mailchimp.endpoints.campaigns import CampaignEndpoints
from mcsync.mailchimp.endpoints.members import MemberEndpoints
from mcsync.mailchimp.endpoints.merge_fields import MergeFieldEndpoints
from mcsync.mailchimp.endpoints.observing import ObservingEndpoints
from mcsync.mailchimp.endpoints.reports import ReportEndpoints
from mcsync.mailchimp.endpoints.tags import TagEndpoints
from mcsync.mailchimp.endpoints.webhooks import WebhookEndpoints
from mcsync.mailchimp.identity import data_centre
from mcsync.mailchimp.retry import RetryPolicy
from mcsync.mailchimp.slots import Lane, Slot, SlotLimiter
from mcsync.mailchimp.transport import MAX_BODY_BYTES, READ_SECONDS, WRITE_SECONDS, Transport


class MailchimpClient(
    AccountEndpoints,
    AudienceEndpoints,
    MemberEndpoints,
    TagEndpoints,
    MergeFieldEndpoints,
    BatchEndpoints,
    CampaignEndpoints,
    ReportEndpoints,
    WebhookEndpoints,
    ObservingEndpoints,
):
    """All calls to one account.

    `base_url` is fixed or a template in which `{dc}` becomes the key's data centre.
    `account` names the account for the slots: clients of one account must use one name.
    `on_call` hears of every attempt: operation, seconds, and the HTTP status, `timeout`,
    `error` or `cancelled`. Total time-outs are in seconds.

    Every attempt runs in a slot. Within `async with client.slot(lane)` the calls of that
    task use the held slot and make one attempt each; elsewhere each attempt takes a slot of
    the client's lane, and passing trouble is retried by the policy.

    Raises `InvalidApiKey` when the template needs a data centre and the key has none.
    """

    def __init__(
        self,
        http: httpx.AsyncClient,
        *,
        api_key: str,
        base_url: str,
        slots: SlotLimiter,
        account: str,
        lane: Lane = Lane.BULK,
        retry: RetryPolicy | None = None,
        on_call: Callable[[str, float, str], None] | None = None,
        read_seconds: float = READ_SECONDS,
        write_seconds: float = WRITE_SECONDS,
        max_body_bytes: int = MAX_BODY_BYTES,
        rand: Callable[[], float] = random.random,
    ) -> None:
        if "{dc}" in base_url:
            base_url = base_url.replace("{dc}", data_centre(api_key))
        transport = Transport(
            http,
            api_key=api_key,
            base_url=base_url,
            read_seconds=read_seconds,
            write_seconds=write_seconds,
            max_body_bytes=max_body_bytes,
            on_call=on_call,
        )
        super().__init__(
            Caller(
                transport,
                slots=slots,
                account=account,
                lane=lane,
                retry=retry or RetryPolicy(),
                rand=rand,
            )
        )

    def __repr__(self) -> str:
        """Name the place and the lane, not the key."""
        return f"MailchimpClient({self._caller.transport!r}, lane={self._caller.lane.value!r})"

    @property
    def server_time(self) -> datetime | None:
        """Mailchimp's clock when it last answered, to the second; None where it has not told."""
        return self._caller.transport.server_time

    def began(self, at: float) -> datetime | None:
        """What Mailchimp's clock said at the moment `at` of `time.monotonic`, to the second, or a little less.

        What carries an older time was not done by a call that began then. None before the first answer.
        """
        now = self.server_time
        if now is None:
            return None
        return (now - timedelta(seconds=time.monotonic() - at)).replace(microsecond=0)

    def with_lane(self, lane: Lane) -> "MailchimpClient":
        """Return a copy whose calls use slots of another lane."""
        other = copy.copy(self)
        other._caller = self._caller.with_lane(lane)  # noqa: SLF001 - its own class
        return other

    def slot(self, lane: Lane | None = None) -> AbstractAsyncContextManager[Slot]:
        """Hold a slot for the calls of this task (None: of the client's lane).

        Child tasks do not share it: before Python 3.12 `asyncio.wait_for` makes one, so
        bound calls in a slot with `asyncio.timeout`.
        """
        return self._caller.slot(lane or self._caller.lane)
