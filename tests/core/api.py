"""A small API of the tests' own: every kind of error, a mutation that counts, on the real middleware."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Annotated

import httpx
from fastapi import APIRouter, FastAPI, Request, Response
from sqlalchemy import text
from uuid6 import uuid7

from mcsync.app import create_app
from mcsync.core.auth import Actor, Role, Scope, requires
from mcsync.core.auth.tokens import IssuedToken, issue_token
from mcsync.core.db import org_of
from mcsync.core.resources import Resources
from mcsync.core.web.deps import UNLIMITED_BODY, ResourcesDep
from mcsync.core.web.schemas import RequestModel, ResponseModel
from mcsync.features import audit
from mcsync.features.audit import AuditAction
from tests.support.organisations import Org

Writer = Annotated[Actor, requires(Scope.SEGMENTS_WRITE)]

router = APIRouter(prefix="/mailchimp/probe", tags=["probe"])
plans: dict[str, list[str]] = {}
"""What the next calls of ``act`` do, by name; an empty list means success."""
inside: Callable[[], Awaitable[None]] | None = None
"""Runs inside the transaction of ``act``."""


class Act(RequestModel):
    """A name for what happens."""

    name: str


class Thing(RequestModel):
    """Something with values of several kinds."""

    kind: str
    values: dict[str, str | int | float | bool | None] | None = None


class Things(RequestModel):
    """Several things."""

    things: list[Thing]


class Acted(ResponseModel):
    """The row that was made."""

    seq: int
    name: str


class Boom(Exception):
    """Nobody expected this."""


@router.post("/act", status_code=202)
async def act(resources: ResourcesDep, actor: Writer, body: Act, response: Response) -> Acted:
    """One transaction with an audit entry; may crash before or after it."""
    steps = plans.get(body.name, [])
    step = steps.pop(0) if steps else ""
    if step == "before":
        raise Boom(body.name)
    async with resources.db.transaction(actor.org_id) as session:
        audit.record(
            session,
            actor,
            AuditAction.SEGMENTS_CREATE,
            entity="probe",
            entity_id=uuid7(),
            diff={"name": body.name},
        )
        if inside is not None:
            await inside()
        if step == "inside":
            raise Boom(body.name)
    if step == "slow":
        await asyncio.sleep(0.4)
    response.headers["Location"] = f"/probe/{body.name}"
    return Acted(seq=1, name=body.name)


@router.post("/things")
async def things(body: Things, actor: Writer) -> Acted:
    """Takes values of several kinds."""
    return Acted(seq=len(body.things), name=actor.kind)


@router.post("/twice")
async def twice(resources: ResourcesDep, actor: Writer, body: Act) -> Acted:
    """Two transactions, the second of which reads what the first wrote."""
    for number in range(2):
        async with resources.db.transaction(actor.org_id) as session:
            audit.record(
                session, actor, AuditAction.SYNC_START, entity="probe", entity_id=str(number)
            )
    async with resources.db.transaction(actor.org_id) as session:
        seen = await session.scalar(
            text("select count(*) from audit_entries where org_id = :org"),
            {"org": org_of(session)},
        )
    return Acted(seq=seen or 0, name=body.name)


@router.post("/stream", max_body_size=UNLIMITED_BODY)
async def stream(resources: ResourcesDep, actor: Writer, request: Request) -> Acted:
    """Counts a streamed body."""
    size = 0
    async for piece in request.stream():
        size += len(piece)
    async with resources.db.transaction(actor.org_id) as session:
        audit.record(session, actor, AuditAction.CONTACTS_IMPORT, entity="probe", entity_id=None)
    return Acted(seq=size, name="stream")


def make_app(resources: Resources) -> FastAPI:
    """The real app with the probe's routes."""
    app = create_app(resources=resources)
    app.include_router(router)
    return app


@asynccontextmanager
async def client_of(app: FastAPI, token: str | None = None) -> AsyncIterator[httpx.AsyncClient]:
    """A client of the app, in this process."""
    async with httpx.AsyncClient(
        transport=httpx.ASGITransport(app),
        base_url="http://mcsync.test",
        headers={"Authorization": f"Bearer {token}"} if token else {},
    ) as client:
        yield client


async def make_token(
    resources: Resources, org: Org, role: Role = Role.OWNER, name: str = "test"
) -> IssuedToken:
    """A token of an organisation."""
    async with resources.db.transaction(org.id) as session:
        return await issue_token(session, resources.hash_keys, name=name, role=role)
