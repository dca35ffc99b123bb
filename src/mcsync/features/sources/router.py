"""The procedures of sources. Setting them up is the operators' (``mcsync sources``)."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query, Response

from mcsync.core.auth import Actor, Scope, requires
from mcsync.core.web.deps import PageDep, ResourcesDep
from mcsync.core.web.openapi import problems as documented
from mcsync.features.sources import (
    problems,  # noqa: F401 - registers its codes
    service,
)
from mcsync.features.sources.schemas import (
    PullId,
    PullInput,
    PullPage,
    PullView,
    SourceId,
    SourcePage,
    SourceView,
)

router = APIRouter(prefix="/mailchimp/sources", tags=["sources"])

Reader = Annotated[Actor, requires(Scope.SOURCES_READ)]
Puller = Annotated[Actor, requires(Scope.SOURCES_PULL)]


@router.get("/list", summary="List sources")
async def list(  # noqa: A001 - the name of the procedure
    resources: ResourcesDep, actor: Reader, page: PageDep
) -> SourcePage:
    """The organisation's sources, oldest first, each with its newest pull.

    Sources are added and removed at the command line (`mcsync sources`), where their credentials are.
    """
    return await service.list_sources(resources, actor, page)


@router.get("/get", summary="One source")
async def get(
    resources: ResourcesDep,
    actor: Reader,
    id: Annotated[SourceId, Query()],  # noqa: A002 - its name on the wire
) -> SourceView:
    """Where it is, how it is pulled, and how that went last."""
    return await service.get(resources, actor, id)


@router.post("/pull", status_code=202, summary="Pull a source now")
async def pull(
    body: PullInput, resources: ResourcesDep, actor: Puller, response: Response
) -> PullView:
    """Starts a pull and answers at once with it; a source has one pull at a time.

    While one is under way that one is answered, or 409 `pull_under_way` where more is asked for than it
    does. A pull that would withdraw or remove suspiciously many ends as `approval_needed`.
    """
    started = await service.request_pull(resources, actor, body)
    response.headers["Location"] = f"/mailchimp/sources/getPull?id={started.id}"
    return started


@router.get("/getPull", summary="One pull")
async def get_pull(
    resources: ResourcesDep,
    actor: Reader,
    id: Annotated[PullId, Query()],  # noqa: A002 - its name on the wire
) -> PullView:
    """What came, and a link to every row that was rejected."""
    return await service.get_pull(resources, actor, id)


@router.get("/listPulls", summary="Pulls, newest first", responses=documented(404))
async def list_pulls(
    resources: ResourcesDep,
    actor: Reader,
    page: PageDep,
    source_id: Annotated[
        SourceId | None, Query(alias="sourceId", description="Only of this source.")
    ] = None,
) -> PullPage:
    """All pulls of the organisation or of one source."""
    return await service.list_pulls(resources, actor, page, source_id)
