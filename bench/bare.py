"""The yardsticks of bench_rpc and bench_webhooks: bare handlers that run the same SQL, through SQLAlchemy
and asyncpg."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import asyncpg
import orjson
from fastapi import FastAPI, Request, Response
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine, async_sessionmaker, create_async_engine

URL = os.environ["MCSYNC_DATABASE_URL"]
ORG = os.environ["BENCH_ORG"]
SEGMENTS = os.environ["BENCH_SQL_SEGMENTS"]
PREFERENCE = os.environ["BENCH_SQL_PREFERENCE"]
BIND = "select set_config('app.org_id', $1, true)"


def engine() -> AsyncEngine:
    return create_async_engine(
        "postgresql+asyncpg://" + URL.split("://", 1)[1], pool_size=10, max_overflow=10,
        connect_args={"server_settings": {"jit": "off"}},
    )  # fmt: skip


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    app.state.sessions = async_sessionmaker(engine(), expire_on_commit=False)
    app.state.pool = await asyncpg.create_pool(URL, server_settings={"jit": "off"})
    yield
    await app.state.pool.close()


app = FastAPI(lifespan=lifespan)


async def _session(sql: str) -> list[dict[str, Any]]:
    async with app.state.sessions() as session:
        await session.execute(text("select set_config('app.org_id', :org, true)"), {"org": ORG})
        rows = [dict(row) for row in (await session.execute(text(sql))).mappings()]
        await session.commit()
        return rows


async def _pool(sql: str) -> Response:
    async with app.state.pool.acquire() as connection, connection.transaction():
        await connection.execute(BIND, ORG)
        rows = [dict(row) for row in await connection.fetch(sql)]
    return Response(orjson.dumps(rows, default=str), media_type="application/json")


@app.get("/session/segments")
async def session_segments() -> list[dict[str, Any]]:
    return await _session(SEGMENTS)


@app.get("/session/preference")
async def session_preference() -> list[dict[str, Any]]:
    return await _session(PREFERENCE)


@app.get("/asyncpg/segments")
async def asyncpg_segments() -> Response:
    return await _pool(SEGMENTS)


@app.get("/asyncpg/preference")
async def asyncpg_preference() -> Response:
    return await _pool(PREFERENCE)


@app.post("/insert")
async def insert(request: Request) -> Response:
    body = await request.body()
    async with app.state.sessions() as session:
        await session.execute(text("select set_config('app.org_id', :org, true)"), {"org": ORG})
        await session.execute(text("insert into bench_inbox values (:body)"), {"body": body})
        await session.commit()
    return Response()
