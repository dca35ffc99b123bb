"""Wiring: what the contacts need from the floor above."""

from __future__ import annotations

from typing import Annotated

from fastapi import Depends

from mcsync.features.contacts.consent import ConsentSink


async def consent_sink() -> ConsentSink:
    """Who records the consent in an import; ``app.py`` puts the preferences' implementation here."""
    message = "app.py must override contacts.deps.consent_sink with preferences.deps.consent_sink"
    raise RuntimeError(message)


ConsentSinkDep = Annotated[ConsentSink, Depends(consent_sink)]
