"""Attempts in slots, repeated where that helps (MC 14, 15)."""

import asyncio
import contextlib
import copy
import random
import time
from collections.abc import AsyncIterator, Callable
from contextvars import ContextVar
from dataclasses import dataclass
from typing import TypeVar

from pydantic import ValidationError

from mcsync.mailchimp.errors import (
    MailchimpError,
    MailchimpTimeout,
    ThrottledError,
    TransientError,
)
from mcsync.mailchimp.reading import reader
from mcsync.mailchimp.retry import RetryPolicy, retry_delay
from mcsync.mailchimp.slots import Lane, Slot, SlotLimiter
from mcsync.mailchimp.transport import Request, Transport
from mcsync.mailchimp.types.base import MailchimpModel

_Answer = TypeVar("_Answer")
_Model = TypeVar("_Model", bound=MailchimpModel)
_GATEWAY_TIMEOUT = 504


@dataclass(frozen=True, slots=True)
class _Held:
    slot: Slot
    task: "asyncio.Task[object] | None"


# Child tasks inherit the context but not the slot: one slot is one call at a time.
_held: ContextVar[_Held | None] = ContextVar("mcsync_mailchimp_slot", default=None)


def decoder(model: type[_Model]) -> Callable[[bytes], _Model]:
    """Return a reader of the model's JSON."""
    return reader(model)


def nothing(_: bytes) -> None:
    """Read an answer without content."""


class Caller:
    """Runs every attempt of a client inside a slot of its account."""

    def __init__(
        self,
        transport: Transport,
        *,
        slots: SlotLimiter,
        account: str,
        lane: Lane,
        retry: RetryPolicy,
        rand: Callable[[], float] = random.random,
    ) -> None:
        self.transport = transport
        self.slots = slots
        self.account = account
        self.lane = lane
        self.retry = retry
        self.rand = rand

    def with_lane(self, lane: Lane) -> "Caller":
        """Return a copy whose calls use slots of another lane."""
        other = copy.copy(self)
        other.lane = lane
        return other

    @contextlib.asynccontextmanager
    async def slot(self, lane: Lane) -> AsyncIterator[Slot]:
        """Hold a slot which the calls of this very task then use, one attempt each."""
        async with self.slots.hold(self.account, lane) as slot:
            token = _held.set(_Held(slot, asyncio.current_task()))
            try:
                yield slot
            finally:
                _held.reset(token)

    async def call(self, request: Request, decode: Callable[[bytes], _Answer]) -> _Answer:
        """Make the call and read its answer; raises `MailchimpError`."""
        held = _held.get()
        if (
            held is not None
            and held.task is asyncio.current_task()
            and held.slot.account == self.account
        ):
            return await self._attempt(held.slot, request, decode)
        began = time.monotonic()
        attempt = 0
        while True:
            attempt += 1
            try:
                async with self.slots.hold(self.account, self.lane) as slot:
                    return await self._attempt(slot, request, decode)
            except MailchimpError as error:
                delay = self._delay(error, request, attempt, time.monotonic() - began)
                if delay is None:
                    raise
            # Outside the slot: others can use it meanwhile.
            await asyncio.sleep(delay)

    def _delay(
        self, error: MailchimpError, request: Request, attempt: int, elapsed: float
    ) -> float | None:
        if isinstance(error, TransientError):
            if error.outcome_unknown and not request.repeatable:
                return None
            late = isinstance(error, MailchimpTimeout) or error.status == _GATEWAY_TIMEOUT
            if late and not request.retry_timeouts:
                return None
        return retry_delay(error, attempt, self.rand, self.retry, elapsed=elapsed)

    async def _attempt(
        self, slot: Slot, request: Request, decode: Callable[[bytes], _Answer]
    ) -> _Answer:
        began = time.monotonic()
        try:
            body = await self.transport.send(request)
            try:
                return decode(body)
            except (ValidationError, ValueError) as error:
                raise TransientError("unreadable answer", outcome_unknown=request.write) from error
        except ThrottledError:
            slot.throttled()
            raise
        except (asyncio.CancelledError, MailchimpTimeout):
            slot.abandoned()
            raise
        finally:
            slot.record(time.monotonic() - began)
