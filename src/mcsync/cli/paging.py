"""Lists at the command line: the pages of a procedure, followed to the end."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any, TypeVar

from mcsync.core.web.paging import MAX_LIMIT, PageParams

if TYPE_CHECKING:
    from pydantic import BaseModel

    from mcsync.core.web.schemas import Page

ItemT = TypeVar("ItemT", bound="BaseModel")


async def every(
    fetch: Callable[[PageParams], Awaitable[Page[ItemT]]], *, most: int | None = None
) -> list[ItemT]:
    """The items of all pages, or the first ``most``."""
    found: list[ItemT] = []
    cursor: str | None = None
    while True:
        size = MAX_LIMIT if most is None else min(MAX_LIMIT, most - len(found))
        page = await fetch(PageParams(size, cursor))
        found += page.items
        cursor = page.next_cursor
        if cursor is None or (most is not None and len(found) >= most):
            return found


def dumped(item: BaseModel) -> dict[str, Any]:
    """An item as the API would answer it."""
    return item.model_dump(mode="json", by_alias=True)
