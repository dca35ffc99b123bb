"""Wiring: what the contacts need from the floor above."""

from __future__ import annotations

from typing import Annotated

from fastapi import Depends, Query, Request

from mcsync.core.auth import ActorDep
from mcsync.core.web.deps import ResourcesDep
from mcsync.features.contacts.consent import ConsentSink
from mcsync.features.contacts.intake.columns import Choice
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


def column_choice(
    mapped: Annotated[
        list[str] | None,
        Query(
            alias="map",
            description="`NAME:field` for a column (or member) with another name, `NAME:attributes.OTHER` to"
            " rename an attribute, `NAME:` to leave the column out. Repeat it, or write several with commas;"
            " an entry whose name holds a comma stands in double quotes.",
            examples=[["E-Mail:email", "Personalnummer:entityId"]],
        ),
    ] = None,
    constants: Annotated[
        list[str] | None,
        Query(
            alias="set",
            description="`field:value` for a field that the file lacks, which is the same in every row.",
            examples=[["entityType:employee"]],
        ),
    ] = None,
    columns: Annotated[
        list[str] | None,
        Query(
            description="The columns to take as attributes, with commas. Without it all are taken that are"
            " no field."
        ),
    ] = None,
) -> Choice:
    """What the caller says about the columns of a file."""
    return Choice(mapped or (), constants or (), columns)


ChoiceDep = Annotated[Choice, Depends(column_choice)]
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
