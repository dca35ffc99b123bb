"""``mailchimp-audience-pull``: what changed at Mailchimp comes home between runs.

Without a public URL this is how mcsync hears of people; with one it is how lost posts are made good.
"""

from __future__ import annotations

from typing import Final
from uuid import UUID

import structlog
from sqlalchemy import text

from mcsync.core.auth import Actor
from mcsync.core.errors import ConflictError, UpstreamRefusedError
from mcsync.core.jobs import AUDIENCE_PULL, WEBHOOKS
from mcsync.core.resources import Resources
from mcsync.core.settings import Settings
from mcsync.features.connection import service as connection
from mcsync.features.sync.pull import AudienceGoneError, Pull, audience_state
from mcsync.features.webhooks import repository
from mcsync.mailchimp import Lane, MailchimpError

_log = structlog.get_logger(__name__)

WATCHDOG_SECONDS: Final = 15 * 60.0
"""How often the watchdog looks whether the webhooks are alive, and catches up."""
_LEASE_SECONDS: Final = 60.0


def interval(settings: Settings) -> float:
    """Seconds between two pulls of an audience; 0 for never.

    Webhooks without catching up would lose what was lost: with a public URL there is always a pull.
    """
    seconds = settings.audience_pull_minutes * 60.0
    return seconds or (WATCHDOG_SECONDS if settings.public_url else 0.0)


async def pull_audience(resources: Resources, org_id: UUID, audience_id: UUID) -> bool:
    """Pulls the audience if it is due; one process at a time, and not while a run pulls by itself.

    Answers whether it was pulled. Harmless when called twice.
    """
    every = interval(resources.settings)
    async with resources.db.transaction(org_id) as session:
        attempt = await repository.claim_pull(
            session, audience_id, lease_seconds=_LEASE_SECONDS, interval=every
        )
    if attempt is None:
        return False
    seconds, error = every or WATCHDOG_SECONDS, None
    pulled = False
    try:
        pulled = await _pull(resources, org_id, audience_id)
    except AudienceGoneError:
        error = "audience_gone"
        async with resources.db.transaction(org_id) as session:
            await repository.mark_gone(session, audience_id)
    except (ConflictError, UpstreamRefusedError) as refused:
        error = refused.code
    except MailchimpError as trouble:
        error = type(trouble).__name__
        seconds = min(seconds, 5.0 * 2 ** min(attempt, 10))
        _log.info("audience_pull_delayed", error=error, status=trouble.status)
    async with resources.db.transaction(org_id) as session:
        await repository.settle_pull(session, audience_id, error=error, seconds=seconds)
    return pulled


async def _pull(resources: Resources, org_id: UUID, audience_id: UUID) -> bool:
    async def renew() -> None:
        async with resources.db.transaction(org_id) as session:
            await repository.renew_pull(session, audience_id, lease_seconds=_LEASE_SECONDS)

    actor = Actor.system(org_id, AUDIENCE_PULL)
    async with connection.calling(resources, org_id, lane=Lane.BULK, retry=None) as link:
        async with resources.db.transaction(org_id) as session:
            state = await audience_state(session, audience_id)
            account = await session.scalar(
                text("select account_id from audiences where id = :id"), {"id": audience_id}
            )
            since = await repository.moment(session)
        if account != link.account_id:
            return False
        pulled = await Pull(resources, actor, link.client, check=renew).catch_up(state)
    if pulled:
        await _doubt_webhook(resources, org_id, audience_id, since)
    return pulled


async def _doubt_webhook(resources: Resources, org_id: UUID, audience_id: UUID, since: int) -> None:
    """People left whom no post told of: Mailchimp may have disabled the webhook without a word."""
    async with resources.db.transaction(org_id) as session:
        endpoint = await repository.active(session, audience_id)
        if endpoint is None or endpoint.renewed_at is None:
            return
        if not await repository.untold(
            session, audience_id, since=since, registered=endpoint.renewed_at
        ):
            return
        await repository.write(session, endpoint.id, status="disabled")
        await repository.ask_check(session, endpoint.id)
    _log.warning("webhook_silent", audience=str(audience_id))
    await resources.jobs.ring(WEBHOOKS, org_id, org_id)
