"""The dispatcher of transactional mail, also its sweeper: what is due in PostgreSQL is rung for (T A3)."""

from __future__ import annotations

from typing import Final

from mcsync.core.auth.organisations import organisation_ids
from mcsync.core.jobs import TRANSACTIONAL_OUTCOMES, TRANSACTIONAL_SEND, Due
from mcsync.core.resources import Resources
from mcsync.features.transactional import hooks, inbox

DUE: Final = (
    Due("mcsync_due_messages", TRANSACTIONAL_SEND),
    Due("mcsync_due_outcomes", TRANSACTIONAL_OUTCOMES),
)
"""Every message and organisation with something due."""


async def tidy(resources: Resources) -> None:
    """Once an hour: forgets what is no longer needed, and looks after the webhooks."""
    for org_id in await organisation_ids(resources.db):
        async with resources.db.transaction(org_id) as session:
            await inbox.tidy(session)
    await hooks.ensure_all(resources)
