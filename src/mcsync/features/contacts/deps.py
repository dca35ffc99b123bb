"""Wiring: what the contacts need from the floor above."""

from __future__ import annotations

from typing import Annotated

from fastapi import Depends, Query, Request

from mcsync.core.auth import ActorDep
from mcsync.core.web.deps import ResourcesDep
from mcsync.features.contacts.consent import ConsentSink
from mcsync.features.contacts.refusals import RefusalReader


async def consent_sink(request: Request, resources: ResourcesDep, actor: ActorDep) -> ConsentSink:
    """Who records the consent in an import; ``app.py`` puts the preferences' implementation here.

    By ``app.state``, not by ``dependency_overrides``: with any of those, FastAPI analyses every
    dependency anew for each request, which costs more than the request.
    """
    sink: ConsentSink = await request.app.state.consent_sink(resources, actor)
    return sink


async def refusal_reader(
    request: Request, resources: ResourcesDep, actor: ActorDep
) -> RefusalReader:
    """Who knows what Mailchimp refused; ``app.py`` puts the audiences' reader here."""
    reader: RefusalReader = await request.app.state.refusal_reader(resources, actor)
    return reader


ConfirmWithdrawals = Annotated[
    bool,
    Query(
        alias="confirmWithdrawals",
        description="Go on although suspiciously many contacts would be withdrawn.",
    ),
]
TimeZone = Annotated[
    str | None,
    Query(
        alias="timeZone",
        max_length=100,
        description="IANA name of the zone of the times that have no offset, such as `Europe/Berlin`.",
    ),
]
RefusalsDep = Annotated[RefusalReader, Depends(refusal_reader)]
ConsentSinkDep = Annotated[ConsentSink, Depends(consent_sink)]
