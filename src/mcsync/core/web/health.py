"""Is the process alive, and can it serve?"""

from __future__ import annotations

from typing import Literal

from fastapi import APIRouter, Response
from pydantic import ConfigDict

from mcsync.core import readiness
from mcsync.core.readiness import DatabaseState, MigrationState, RedisState, StartState
from mcsync.core.web.deps import ResourcesDep
from mcsync.core.web.schemas import ResponseModel

router = APIRouter(prefix="/health", tags=["health"])


class Liveness(ResponseModel):
    """The process answers."""

    model_config = ConfigDict(json_schema_extra={"example": {"status": "ok"}})

    status: Literal["ok"]


class Readiness(ResponseModel):
    """Whether the API can serve. Without Redis it can (`degraded`): work waits in PostgreSQL."""

    model_config = ConfigDict(
        json_schema_extra={
            "example": {
                "status": "ok",
                "database": "ok",
                "migrations": "ok",
                "redis": "ok",
                "start": "ok",
            }
        }
    )

    status: Literal["ok", "degraded", "unavailable"]
    database: DatabaseState
    """`busy`: all connections are in use; requests wait a moment. All others but `ok`: it cannot serve."""
    migrations: MigrationState
    """`ahead`: a newer version has migrated already, which this one still works with."""
    redis: RedisState
    start: StartState
    """`unchecked`: it is not known yet whether the process may serve, because the database has not answered
    all that is asked at the start: the role, the schema and the master keys. Nothing is served until then."""


@router.get("/live", summary="Is the process alive?")
@router.head("/live", include_in_schema=False)
async def live() -> Liveness:
    """Touches nothing: a slow database is no reason to restart the API."""
    return Liveness(status="ok")


@router.get(
    "/ready",
    summary="Can the API serve?",
    responses={503: {"model": Readiness, "description": "Not now"}},
)
@router.head("/ready", include_in_schema=False)
async def ready(resources: ResourcesDep, response: Response) -> Readiness:
    """Asks PostgreSQL, its migrations and Redis; answers within about two seconds.

    503 only where this process cannot serve. `degraded` with 200: Redis is in trouble, or all database
    connections are in use just now.
    """
    found = await readiness.check(resources)
    if found.status == "unavailable":
        response.status_code = 503
    return Readiness(
        status=found.status,
        database=found.database,
        migrations=found.migrations,
        redis=found.redis,
        start=found.start,
    )
