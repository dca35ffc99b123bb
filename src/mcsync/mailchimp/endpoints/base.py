"""What the modules of calls share: how parameters and bodies are written (MC 2)."""

from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import TypeVar

import orjson

from mcsync.mailchimp.caller import Caller
from mcsync.mailchimp.identity import subscriber_hash
from mcsync.mailchimp.transport import Request

_Answer = TypeVar("_Answer")
PAGE_SIZE = 1000
"""The largest page; a larger `count` is clipped without an error (MC 2)."""


class Endpoints:
    """Base of the groups of calls that make up the client."""

    def __init__(self, caller: Caller) -> None:
        self._caller = caller

    async def _call(self, request: Request, decode: Callable[[bytes], _Answer]) -> _Answer:
        return await self._caller.call(request, decode)


def encode(body: Mapping[str, object]) -> bytes:
    """Write a request body."""
    return orjson.dumps(body)


def flag(value: bool) -> str:
    """Write a boolean query parameter."""
    return "true" if value else "false"


def timestamp(moment: datetime) -> str:
    """Write a time as Mailchimp reads it: UTC, whole seconds, rounded down.

    Raises `ValueError` for a time without an offset.
    """
    if moment.tzinfo is None:
        message = "a time without an offset"
        raise ValueError(message)
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S+00:00")


def member_id(hash_or_address: str) -> str:
    """Return how a path names a member: a hash or contact id as it is, an address hashed.

    An address outside ASCII goes as it is, for Mailchimp to lower-case: how it does is
    unknown (MC 4.1). Others stay out of URLs, which end up in logs.
    """
    if "@" in hash_or_address and hash_or_address.isascii():
        return subscriber_hash(hash_or_address)
    return hash_or_address
