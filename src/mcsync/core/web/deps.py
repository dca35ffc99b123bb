"""Dependencies with names a reader can say."""

from __future__ import annotations

from typing import Annotated, Self

from fastapi import Depends, Query, Request

from mcsync.core.resources import Resources
from mcsync.core.web.paging import DEFAULT_LIMIT, MAX_LIMIT, PageParams


async def get_resources(request: Request) -> Resources:
    """What the process holds, as the lifespan built it."""
    resources = request.app.state.resources
    assert isinstance(resources, Resources)
    return resources


async def get_page(
    limit: Annotated[int, Query(ge=1, le=MAX_LIMIT, description="How many items.")] = DEFAULT_LIMIT,
    cursor: Annotated[
        str | None,
        Query(max_length=1000, description="`nextCursor` of the previous page."),
    ] = None,
) -> PageParams:
    """``limit`` and ``cursor`` of a list."""
    return PageParams(limit, cursor)


ResourcesDep = Annotated[Resources, Depends(get_resources)]
PageDep = Annotated[PageParams, Depends(get_page)]

UNLIMITED_BODY = 2**63 - 1
"""``max_body_size=`` of a route that streams its body instead of holding it."""


class BodyLimit(int):
    """``max_body_size=`` of a route that takes more (or less) than the others: ``limit`` bytes.

    FastAPI, which would answer in plain text, sees no limit; the middleware, which answers as everywhere,
    sees this one.
    """

    limit: int

    def __new__(cls, limit: int) -> Self:
        """A limit in bytes."""
        made = super().__new__(cls, UNLIMITED_BODY)
        made.limit = limit
        return made


def body_limit(route: object) -> int | None:
    """The limit of a route's own, if it has one."""
    found = getattr(route, "max_body_size", None)
    return found.limit if isinstance(found, BodyLimit) else found
