"""What people and operators can do about webhooks, and what other features ask of them."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from datetime import timedelta
from functools import partial
from typing import Final
from uuid import UUID

import structlog
from sqlalchemy.ext.asyncio import AsyncSession

from mcsync.core.auth import Actor
from mcsync.core.auth.organisations import organisation_ids
from mcsync.core.crypto import SecretError, new_path_token, path_token_hash
from mcsync.core.db import after_commit
from mcsync.core.errors import McsyncError, NotFoundError
from mcsync.core.jobs import WEBHOOKS
from mcsync.core.resources import Resources
from mcsync.core.web.paging import PageParams, encode_cursor
from mcsync.core.web.schemas import Page
from mcsync.features import audit
from mcsync.features.audit import AuditAction
from mcsync.features.connection import service as connection
from mcsync.features.webhooks import inbox, registration, repository
from mcsync.features.webhooks.intake import secret_context
from mcsync.features.webhooks.models import WebhookEndpoint
from mcsync.features.webhooks.schemas import WebhookView
from mcsync.mailchimp import Lane, MailchimpError
from mcsync.mailchimp import NotFoundError as NotThereError

_log = structlog.get_logger(__name__)

OVERLAP: Final = timedelta(hours=24)
"""How long a rotated address is still accepted: Mailchimp repeats a post for 75 minutes."""
KEPT_DAYS: Final = 7
"""How long a post that was worked on is remembered, so that a repetition changes nothing."""
_FAREWELL_SECONDS: Final = 5.0


async def list_webhooks(resources: Resources, actor: Actor, page: PageParams) -> Page[WebhookView]:
    """Every audience's endpoint as of its last check, in the order they were made."""
    after = page.after(UUID)
    async with resources.db.transaction(actor.org_id) as session:
        rows = await repository.page(
            session, after=after[0] if after else None, limit=page.limit + 1,
            watched=bool(resources.settings.public_url),
        )  # fmt: skip
    more = len(rows) > page.limit
    rows = rows[: page.limit]
    return Page[WebhookView](
        items=[_view(row) for row in rows],
        next_cursor=encode_cursor(rows[-1].id) if more else None,
    )


async def rotate(resources: Resources, actor: Actor, list_id: str) -> WebhookView:
    """Gives the audience's webhook another secret address and, where posts are signed, another secret.

    The worker registers it within seconds; until then, and for a day, posts to the one before are
    accepted. Raises ``NotFoundError`` (``webhook_not_found``) and ``ConflictError`` (``no_public_url``).
    """
    registration.url_of(resources.settings, "")
    token = new_path_token()
    async with resources.db.transaction(actor.org_id) as session:
        endpoint = await repository.by_list_id(session, list_id)
        if endpoint is None:
            raise NotFoundError(
                "No webhook is registered for this audience; see webhooks.list.",
                code="webhook_not_found",
            )
        context = registration.token_context(actor.org_id, endpoint.id)
        await repository.write(
            session, endpoint.id,
            token=resources.keys.seal(token, context=context), token_hash=path_token_hash(token),
            webhook_id=None, signing_secret=None, status="missing",
            **_previous(resources, endpoint),
        )  # fmt: skip
        await repository.ask_check(session, endpoint.id)
        audit.record(
            session, actor, AuditAction.WEBHOOKS_ROTATE, entity="webhook", entity_id=endpoint.id,
            diff={"audienceId": endpoint.list_id},
        )  # fmt: skip
        after_commit(session, partial(resources.jobs.ring, WEBHOOKS, actor.org_id, actor.org_id))
        (row,) = await repository.page(session, after=None, limit=1, watched=True, list_id=list_id)
    return _view(row)


def _previous(resources: Resources, endpoint: WebhookEndpoint) -> dict[str, object]:
    """What stays valid for a while: the address Mailchimp knows. One that never got there does not."""
    if endpoint.webhook_id is None:
        return {}
    return {
        "previous_token_hash": endpoint.token_hash,
        "previous_until": resources.clock() + OVERLAP,
        "previous_signing_secret": endpoint.signing_secret,
    }


async def check(resources: Resources, org_id: UUID) -> None:
    """Looks at every webhook of the organisation now. Raises ``ConflictError``: no URL, not connected."""
    registration.url_of(resources.settings, "")
    async with resources.db.transaction(org_id) as session:
        await connection.require_live(session)
        await repository.ask_check(session)
    await registration.check_organisation(resources, org_id)


async def farewell(resources: Resources, actor: Actor) -> None:
    """Before a disconnect destroys the key: removes the webhooks, as far as that goes in a few seconds.

    Never raises what Mailchimp does: posts that still come are answered 410, which ends them as well.
    """
    async with resources.db.transaction(actor.org_id) as session:
        hooks = []
        for endpoint_id in await repository.live_ids(session):
            endpoint = await repository.get(session, endpoint_id)
            if endpoint is not None and endpoint.webhook_id is not None:
                hooks.append((endpoint.list_id, endpoint.webhook_id))
            await repository.remove(session, endpoint_id)
    if not hooks:
        return
    try:
        async with asyncio.timeout(_FAREWELL_SECONDS):
            link = await connection.open_link(
                resources, actor.org_id, lane=Lane.LIVE, retry=connection.INTERACTIVE
            )
            for list_id, webhook_id in hooks:
                with suppress(NotThereError):
                    await link.client.delete_webhook(list_id, webhook_id)
    except (MailchimpError, McsyncError, SecretError, TimeoutError) as error:
        _log.info("webhooks_left_behind", error=type(error).__name__)


async def tidy(resources: Resources) -> None:
    """Forgets what was worked on long ago, and ends holds and rotations that are over."""
    for org_id in await organisation_ids(resources.db):
        async with resources.db.transaction(org_id) as session:
            await inbox.forget_events(session, days=KEPT_DAYS)


def sealed_secrets(endpoint: WebhookEndpoint) -> dict[str, tuple[str, str]]:
    """An endpoint's envelopes: column -> (envelope, where it was sealed for)."""
    token_at = registration.token_context(endpoint.org_id, endpoint.id)
    secret_at = secret_context(endpoint.org_id, endpoint.id)
    found = {
        "token": (endpoint.token, token_at),
        "signing_secret": (endpoint.signing_secret, secret_at),
        "previous_signing_secret": (endpoint.previous_signing_secret, secret_at),
    }
    return {name: (sealed, at) for name, (sealed, at) in found.items() if sealed is not None}


async def envelopes(session: AsyncSession) -> list[tuple[str, str]]:
    """Every sealed secret of the organisation's endpoints, and where it was sealed for."""
    rows = await repository.secrets(session)
    return [pair for endpoint in rows for pair in sealed_secrets(endpoint).values()]


async def rewrap(resources: Resources, session: AsyncSession) -> int:
    """Seals the endpoints' secrets under the active master key; answers how many were changed.

    Raises ``SecretError`` where one cannot be opened.
    """
    renewed = 0
    for endpoint in await repository.secrets(session):
        for name, (sealed, context) in sealed_secrets(endpoint).items():
            again = resources.keys.rewrap(sealed, context)
            renewed += again != sealed
            setattr(endpoint, name, again)
    await session.flush()
    return renewed


def _view(row: object) -> WebhookView:
    return WebhookView.model_validate(row)
