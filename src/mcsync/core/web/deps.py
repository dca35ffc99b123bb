"""Dependencies with names a reader can say."""

from __future__ import annotations

from typing import Annotated

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
