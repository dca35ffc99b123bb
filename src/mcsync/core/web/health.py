"""Is the process alive, and can it serve?"""

from __future__ import annotations

import asyncio
from typing import Final, Literal

from fastapi import APIRouter, Response
from pydantic import ConfigDict
from sqlalchemy import text

from mcsync.core.db import migrations as schema
from mcsync.core.resources import Resources
from mcsync.core.web.deps import ResourcesDep
from mcsync.core.web.schemas import ResponseModel

_SECONDS: Final = 1.0

router = APIRouter(prefix="/health", tags=["health"])


class Liveness(ResponseModel):
    """The process answers."""

    model_config = ConfigDict(json_schema_extra={"example": {"status": "ok"}})

    status: Literal["ok"]


class Readiness(ResponseModel):
    """Whether the API can serve. Without Redis it can (`degraded`): work waits in PostgreSQL."""

    model_config = ConfigDict(
        json_schema_extra={
            "example": {"status": "ok", "database": "ok", "migrations": "ok", "redis": "ok"}
        }
    )

    status: Literal["ok", "degraded", "unavailable"]
    database: Literal["ok", "unreachable"]
    migrations: Literal["ok", "behind", "ahead", "unknown"]
    """`ahead`: a newer version has migrated already, which this one still works with."""
    redis: Literal["ok", "unreachable"]


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
    """Asks PostgreSQL, its migrations and Redis, for at most a second each."""
    (database, migrations), redis = await asyncio.gather(_database(resources), _redis(resources))
    status: Literal["ok", "degraded", "unavailable"] = "ok"
    if database != "ok" or migrations in {"behind", "unknown"}:
        status = "unavailable"
        response.status_code = 503
    elif redis != "ok":
        status = "degraded"
    return Readiness(status=status, database=database, migrations=migrations, redis=redis)


async def _database(
    resources: Resources,
) -> tuple[Literal["ok", "unreachable"], Literal["ok", "behind", "ahead", "unknown"]]:
    try:
        async with asyncio.timeout(_SECONDS), resources.db.system() as session:
            await session.execute(text("select 1"))
            at = await schema.current(session)
    except Exception:  # noqa: BLE001 - whatever it is, it cannot be reached
        return "unreachable", "unknown"
    if at is None:
        return "ok", "behind"
    return "ok", _compared(at)


def _compared(at: str) -> Literal["ok", "behind", "ahead"]:
    if at == schema.head():
        return "ok"
    return "behind" if at in schema.revisions() else "ahead"


async def _redis(resources: Resources) -> Literal["ok", "unreachable"]:
    try:
        async with asyncio.timeout(_SECONDS):
            await resources.redis.ping()
    except Exception:  # noqa: BLE001 - whatever it is, it cannot be reached
        return "unreachable"
    return "ok"
