"""Wiring: what the contacts need from the floor above."""

from __future__ import annotations

from typing import Annotated

from fastapi import Depends, Request

from mcsync.core.auth import ActorDep
from mcsync.core.web.deps import ResourcesDep
from mcsync.features.contacts.consent import ConsentSink


async def consent_sink(request: Request, resources: ResourcesDep, actor: ActorDep) -> ConsentSink:
    """Who records the consent in an import; ``app.py`` puts the preferences' implementation here.

    By ``app.state``, not by ``dependency_overrides``: with any of those, FastAPI analyses every
    dependency anew for each request, which costs more than the request.
    """
    sink: ConsentSink = await request.app.state.consent_sink(resources, actor)
    return sink


ConsentSinkDep = Annotated[ConsentSink, Depends(consent_sink)]
