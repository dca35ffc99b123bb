"""Sessions with the organisation's own databases: read-only to pull, writing only to acknowledge."""

from __future__ import annotations

from contextlib import AbstractAsyncContextManager

from mcsync.features.sources.drivers import mysql, postgres, sqlite
from mcsync.features.sources.drivers.base import Acknowledger, Reader, Rows
from mcsync.features.sources.drivers.url import SourceUrl, read_url

_DRIVERS = {"postgresql": postgres, "mysql": mysql, "sqlite": sqlite}
PLACES = {"postgresql": "$1", "mysql": "%s", "sqlite": "?"}
"""How the one parameter of a statement is written."""


def reading(url: SourceUrl, *, seconds: int) -> AbstractAsyncContextManager[Reader]:
    """A session that can only read; each statement may take ``seconds``. Raises ``SourceError``."""
    return _DRIVERS[url.kind].reading(url, seconds=seconds)  # type: ignore[no-any-return]


def acknowledging(
    url: SourceUrl, statement: str, *, seconds: int
) -> AbstractAsyncContextManager[Acknowledger]:
    """A session for the acknowledging statement. Raises ``SourceError``."""
    return _DRIVERS[url.kind].acknowledging(url, statement, seconds=seconds)  # type: ignore[no-any-return]


__all__ = [
    "PLACES", "Acknowledger", "Reader", "Rows", "SourceUrl", "acknowledging", "read_url", "reading",
]  # fmt: skip
