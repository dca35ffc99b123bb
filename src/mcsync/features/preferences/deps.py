"""Wiring: the consent sink that ``app.py`` hands to the contacts' import."""

from __future__ import annotations

from mcsync.core.auth import ActorDep
from mcsync.core.web.deps import ResourcesDep
from mcsync.features.preferences.service import PreferencesConsentSink


async def consent_sink(resources: ResourcesDep, actor: ActorDep) -> PreferencesConsentSink:
    """Stands in for :func:`mcsync.features.contacts.deps.consent_sink`."""
    return PreferencesConsentSink(resources, actor)
