"""Reading a collection by offset while it changes (MC 2).

Offsets shift when something before them is deleted: the rows move forward and the next page
begins too late. So each page begins one row early and must show a row of the page before;
where it does not, the walk steps back. What comes twice is dropped by its id. New rows do no
harm: they come at the end, or, in front, make rows come twice.
"""

from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Protocol, TypeVar

from mcsync.mailchimp.types.base import Rows

# A collection that answers in a new order each time would never show a known row.
_MOST_STEPS_BACK = 16


class Identified(Protocol):
    """A row with an id of its own."""

    @property
    def id(self) -> str:
        """What tells two rows apart."""
        ...


_Row = TypeVar("_Row", bound=Identified)
Fetch = Callable[[int, int], Awaitable[tuple[Rows[_Row], int]]]
"""Takes offset and count; returns the rows and how many there are in all."""


async def every_row(fetch: Fetch[_Row], page_size: int) -> AsyncIterator[_Row]:
    """Yield every row once, a page of `page_size` (2 or more) at a time.

    Raises `ValueError` for a smaller page, and what `fetch` raises.
    """
    if page_size < 2:
        message = "page_size must be at least 2"
        raise ValueError(message)
    known: set[str] = set()
    passed, overlap, steps_back = 0, 0, 0
    while True:
        offset = max(0, passed - overlap)
        rows, total = await fetch(offset, page_size)
        if offset and known.isdisjoint(row.id for row in rows) and steps_back < _MOST_STEPS_BACK:
            steps_back += 1
            overlap *= 2
            continue
        fresh = [row for row in rows if row.id not in known]
        for row in fresh:
            known.add(row.id)
            yield row
        reached = offset + rows.raw
        # A server that counts more rows than it shows must not hold the walk for ever.
        if not rows.raw or reached >= total or (not fresh and reached <= passed):
            return
        passed, overlap, steps_back = reached, 1, 0
