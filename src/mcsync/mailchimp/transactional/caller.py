"""Attempts of the Transactional client, repeated only where nothing can happen twice."""

import asyncio
import random
import time
from collections.abc import Callable, Mapping
from typing import TypeVar

import orjson
from pydantic import ConfigDict, TypeAdapter, ValidationError

from mcsync.mailchimp.errors import MailchimpError, TransientError
from mcsync.mailchimp.reading import reader, rows_reader
from mcsync.mailchimp.retry import RetryPolicy, retry_delay
from mcsync.mailchimp.transactional.errors import SendUncertainError
from mcsync.mailchimp.transactional.transport import Post, TransactionalTransport
from mcsync.mailchimp.types.base import MailchimpModel, Rows

_Answer = TypeVar("_Answer")
_Model = TypeVar("_Model", bound=MailchimpModel)
_QUIET = ConfigDict(hide_input_in_errors=True)


def one(model: type[_Model]) -> Callable[[bytes], _Model]:
    """Return a reader of the model's JSON."""
    return reader(model)


def many(model: type[_Model]) -> Callable[[bytes], Rows[_Model]]:
    """Return a reader of an array of the model's JSON; a lone object counts as one.

    What cannot be read of the array is left out and counted.
    """
    adapter: TypeAdapter[Rows[_Model]] = TypeAdapter(Rows[model], config=_QUIET)  # type: ignore[valid-type]
    return rows_reader(adapter, model.__name__)


class TransactionalCaller:
    """Adds the key, makes the attempts, reads the answer."""

    def __init__(
        self,
        transport: TransactionalTransport,
        *,
        api_key: str,
        retry: RetryPolicy,
        rand: Callable[[], float] = random.random,
    ) -> None:
        self.transport = transport
        self._api_key = api_key
        self._retry = retry
        self._rand = rand

    def body(self, params: Mapping[str, object]) -> bytes:
        """Write a request body, key included."""
        return orjson.dumps({"key": self._api_key, **params})

    async def call(self, request: Post, decode: Callable[[bytes], _Answer]) -> _Answer:
        """Make the call and read its answer; raises `MailchimpError`.

        A message is handed in again only after an answer that surely refused it for now
        (429), or where no connection was made.
        """
        began = time.monotonic()
        attempt = 0
        while True:
            attempt += 1
            try:
                return self._read(request, await self.transport.post(request), decode)
            except MailchimpError as error:
                unknown = isinstance(error, TransientError) and error.outcome_unknown
                if unknown and not request.repeatable:
                    raise
                elapsed = time.monotonic() - began
                delay = retry_delay(error, attempt, self._rand, self._retry, elapsed=elapsed)
                if delay is None:
                    raise
            await asyncio.sleep(delay)

    @staticmethod
    def _read(request: Post, body: bytes, decode: Callable[[bytes], _Answer]) -> _Answer:
        try:
            return decode(body)
        except (ValidationError, ValueError) as error:
            if request.sends:
                raise SendUncertainError("unreadable answer") from error
            raise TransientError("unreadable answer", outcome_unknown=request.changes) from error
