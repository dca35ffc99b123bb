"""The API: builds the resources, lists the routers. No rules here."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from uuid import UUID

from fastapi import FastAPI
from fastapi.routing import APIRoute
from starlette.middleware import Middleware
from starlette.types import Scope

import mcsync
from mcsync.core.auth.deps import identify
from mcsync.core.auth.tokens import TokenVerifier
from mcsync.core.environment import read_settings
from mcsync.core.logging import configure_logging, flush_logs
from mcsync.core.resources import PATIENCE_SECONDS, Resources
from mcsync.core.settings import Settings
from mcsync.core.start import StartCheck
from mcsync.core.web import health
from mcsync.core.web.cors import CorsMiddleware
from mcsync.core.web.deps import BodyLimit
from mcsync.core.web.docs import install_docs
from mcsync.core.web.errors import install_error_handlers
from mcsync.core.web.idempotency import IdempotencyMiddleware
from mcsync.core.web.middleware import (
    BodyLimitMiddleware,
    RequestContextMiddleware,
    StartGateMiddleware,
)
from mcsync.core.web.openapi import (
    DESCRIPTION,
    TITLE,
    install_openapi,
    operation_id,
)
from mcsync.core.web.routing import match_by_prefix
from mcsync.features.audiences import router as audiences
from mcsync.features.audiences.refusals import refusal_reader
from mcsync.features.audit import router as audit
from mcsync.features.campaigns import router as campaigns
from mcsync.features.connection import router as connection
from mcsync.features.contacts import router as contacts
from mcsync.features.erasure import router as erasure
from mcsync.features.preferences import deps as preferences_deps
from mcsync.features.preferences import router as preferences
from mcsync.features.segments import router as segments
from mcsync.features.sources import router as sources
from mcsync.features.subscribers import router as subscribers
from mcsync.features.sync import deps as sync_deps
from mcsync.features.sync import explain_router
from mcsync.features.sync import router as sync
from mcsync.features.transactional import router as transactional
from mcsync.features.webhooks import deps as webhooks_deps
from mcsync.features.webhooks import router as webhooks
from mcsync.features.webhooks.intake import Intake

ROUTERS = (
    connection.router,
    audiences.router,
    contacts.router,
    explain_router.router,
    preferences.router,
    erasure.router,
    segments.router,
    sync.router,
    webhooks.router,
    webhooks.intake_router,
    sources.router,
    campaigns.router,
    subscribers.router,
    transactional.router,
    transactional.intake_router,
    audit.router,
    health.router,
)


def create_app(
    settings: Settings | None = None,
    resources: Resources | None = None,
    *,
    check: StartCheck | None = None,
    refuse: Callable[[Exception], None] = lambda _error: None,
) -> FastAPI:
    """The API. Resources that are handed in stay their owner's; otherwise it builds and closes its own.

    Needs no configuration until it starts, so that ``openapi.json`` can be written anywhere. ``check`` is
    what the database has still to answer before anything is served; ``refuse`` is called with a
    ``SettingsError`` where the answer is that this process must not serve, and with any other error that
    ends the asking. Raises ``SettingsError`` where the environment cannot be read.
    """
    settings = settings or (resources.settings if resources else read_settings().sound())

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        if resources is not None:
            yield
            return
        configure_logging(settings)
        built = await Resources.build(settings, patience=PATIENCE_SECONDS)
        _attach(app, built)
        built.start_checked = check is None
        asking = None
        if check is not None:
            asking = asyncio.create_task(_ask(check, built, refuse))
        try:
            yield
        finally:
            if asking is not None:
                asking.cancel()
                await asyncio.gather(asking, return_exceptions=True)
            await built.close()
            flush_logs()  # SIGTERM ends the process in a way that runs nothing at exit

    app = FastAPI(
        title=TITLE,
        description=DESCRIPTION,
        version=mcsync.__version__,
        license_info={"name": "MIT", "identifier": "MIT"},
        lifespan=lifespan,
        generate_unique_id_function=operation_id,
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
        # FastAPI's own spans and logs carry raw paths, queries and submitted values.
        telemetry={"tracing": False, "metrics": False, "logs": False, "operation_spans": False},
        middleware=[
            Middleware(RequestContextMiddleware),
            Middleware(
                CorsMiddleware, paths={subscribers.FORM_PATH}, origins=settings.form_origins
            ),
            Middleware(StartGateMiddleware),
            Middleware(IdempotencyMiddleware, identify=_caller),
            Middleware(BodyLimitMiddleware, limit=settings.max_body_bytes),
        ],
    )
    install_error_handlers(app)
    for router in ROUTERS:
        app.include_router(match_by_prefix(router))
    app.state.procedures = frozenset(
        route.path for router in ROUTERS for route in router.routes if isinstance(route, APIRoute)
    )
    # what reads a body before its route is known must know the routes that take more, or less
    app.state.body_limits = {
        route.path: route.max_body_size.limit
        for router in ROUTERS
        for route in router.routes
        if isinstance(route, APIRoute) and isinstance(route.max_body_size, BodyLimit)
    }
    app.state.consent_sink = preferences_deps.consent_sink
    app.state.refusal_reader = refusal_reader
    app.state.leave_hook = sync_deps.leave_hook
    app.state.disconnect_hook = webhooks_deps.disconnect_hook
    app.state.webhook_intake = Intake()
    install_docs(app)
    install_openapi(app)
    if resources is not None:
        _attach(app, resources)
    return app


async def _ask(
    check: StartCheck, resources: Resources, refuse: Callable[[Exception], None]
) -> None:
    try:
        await check.until_answered(resources)
    except Exception as error:  # noqa: BLE001 - a process that asks no more would serve nothing in silence
        refuse(error)


def _attach(app: FastAPI, resources: Resources) -> None:
    app.state.resources = resources
    app.state.tokens = TokenVerifier(resources)


async def _caller(scope: Scope) -> tuple[UUID, str] | None:
    """Whose Idempotency-Key it is: the organisation, and the actor who must be the same each time."""
    actor = await identify(scope)
    return None if actor is None else (actor.org_id, f"{actor.kind}:{actor.id}")
