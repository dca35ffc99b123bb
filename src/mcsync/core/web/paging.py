"""Lists come in pages: a limit, and a cursor that says where the next page begins.

A cursor is opaque to callers: the sort key of the last row of a page, with a check that tells a
mangled one. It grants nothing; the query behind it sees only the caller's organisation.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final
from uuid import UUID

import orjson

from mcsync.core.errors import BadRequestError

DEFAULT_LIMIT: Final = 50
MAX_LIMIT: Final = 200
_CHECK_BYTES: Final = 6
_BIGINT: Final = 2**63


@dataclass(frozen=True, slots=True)
class PageParams:
    """What a caller asked for. Fetch ``limit + 1`` rows: the extra one tells that there is more."""

    limit: int = DEFAULT_LIMIT
    cursor: str | None = None

    def after(self, *types: type) -> tuple[Any, ...] | None:
        """The sort key to continue after, or None on the first page. See :func:`decode_cursor`."""
        return None if self.cursor is None else decode_cursor(self.cursor, *types)


def _check(raw: bytes) -> bytes:
    return hashlib.blake2s(raw, digest_size=_CHECK_BYTES, person=b"mcscur01").digest()


def encode_cursor(*values: str | int | UUID | datetime | None) -> str:
    """The cursor for a sort key."""
    # the driver's own UUIDs are a subclass, which orjson leaves to us
    raw = orjson.dumps(values, default=str)
    return base64.urlsafe_b64encode(_check(raw) + raw).decode().rstrip("=")


def decode_cursor(cursor: str, *types: type) -> tuple[Any, ...]:
    """The sort key in a cursor, one value for each type (str, int, UUID or datetime; or None).

    Raises ``BadRequestError`` with code ``invalid_cursor`` for anything but a cursor of this list.
    """
    try:
        packed = base64.urlsafe_b64decode(cursor.encode() + b"=" * (-len(cursor) % 4))
        raw = packed[_CHECK_BYTES:]
        if packed[:_CHECK_BYTES] != _check(raw):
            raise ValueError
        values = orjson.loads(raw)
        return tuple(_read(value, wanted) for value, wanted in zip(values, types, strict=True))
    except (binascii.Error, ValueError, TypeError) as error:
        message = "Pass nextCursor of the previous page unchanged, to the same list."
        raise BadRequestError(message, code="invalid_cursor") from error


def _read(value: object, wanted: type) -> object:
    if value is None:
        return None
    if wanted is datetime and isinstance(value, str):
        return datetime.fromisoformat(value)
    if wanted is UUID and isinstance(value, str):
        return UUID(value)
    if type(value) is not wanted or _no_column_holds(value):
        raise TypeError
    return value


def _no_column_holds(value: object) -> bool:
    """A sort key of ours came from a row: no NUL character, nothing beyond a bigint."""
    return (isinstance(value, str) and "\0" in value) or (
        isinstance(value, int) and not -_BIGINT <= value < _BIGINT
    )
