"""What may be forgotten, so that tables written by every call do not grow for ever.

Runs, their changes and the consent history stay: they are what the organisation can show.
"""

from __future__ import annotations

from sqlalchemy import text

from mcsync.core.auth.organisations import organisation_ids
from mcsync.core.resources import Resources
from mcsync.core.web.idempotency import purge_idempotency_keys

_CALLS = """
delete from audience_calls where taken_at < now() - interval '7 days'
  and (state = 'answered' or taken_at < now() - interval '30 days')
"""

# They carry the address. Only open ones have work to do; what carrying them out found is in the mirror,
# and why they were made in the history of consent.
_ORDERS = """
delete from audience_orders where status = 'closed' and closed_at < now() - interval '30 days'
"""


async def tidy(resources: Resources) -> None:
    """Forgets stored answers past their time, and calls and orders long done, of every organisation."""
    for org_id in await organisation_ids(resources.db):
        await purge_idempotency_keys(
            resources.db, org_id, hours=resources.settings.idempotency_hours
        )
        async with resources.db.transaction(org_id) as session:
            await session.execute(text(_CALLS))
            await session.execute(text(_ORDERS))
