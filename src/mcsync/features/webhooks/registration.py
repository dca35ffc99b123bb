"""``mailchimp-webhooks``: a webhook for every audience that a segment uses, registered and kept alive.

The watchdog compares what should be there with what Mailchimp lists. A webhook is known as ours by the
token in its URL, so that one whose creation was never answered is found again.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from datetime import timedelta
from typing import Any, Final
from uuid import UUID

import structlog
from uuid6 import uuid7

from mcsync.core.auth import Actor
from mcsync.core.crypto import SecretError, new_path_token, path_token_hash
from mcsync.core.errors import ConflictError, McsyncError
from mcsync.core.jobs import AUDIENCE_PULL, WEBHOOKS
from mcsync.core.resources import Resources
from mcsync.core.settings import Settings
from mcsync.features import audit
from mcsync.features.audit import AuditAction
from mcsync.features.connection import service as connection
from mcsync.features.webhooks import repository
from mcsync.features.webhooks.intake import secret_context
from mcsync.features.webhooks.models import WebhookEndpoint
from mcsync.features.webhooks.polling import WATCHDOG_SECONDS
from mcsync.mailchimp import (
    InvalidRequestError,
    Lane,
    MailchimpClient,
    MailchimpError,
    NotFoundError,
    UnverifiableUrlError,
    Webhook,
    WebhookEvents,
    WebhookSources,
)

_log = structlog.get_logger(__name__)

PATH: Final = "/webhooks/mailchimp/"
EVENTS: Final = WebhookEvents(
    subscribe=True, unsubscribe=True, profile=True, cleaned=True, upemail=True, campaign=False
)
SOURCES: Final = WebhookSources(user=True, admin=True, api=False)
"""Our own writes must not echo."""
RENEWAL: Final = timedelta(hours=24)
"""A disabled webhook may look like any other; asked to verify its URL again, it lives again."""
_LEASE_SECONDS: Final = 180.0
_FIRST_SECONDS: Final = 10.0


def token_context(org_id: UUID, endpoint_id: UUID) -> str:
    """Where an endpoint's token is sealed for."""
    return f"org:{org_id}|webhook_token|{endpoint_id}"


def url_of(settings: Settings, token: str) -> str:
    """Where Mailchimp posts to. Raises ``ConflictError`` (``no_public_url``)."""
    if not settings.public_url:
        raise ConflictError(
            "Webhooks need an address that Mailchimp can reach: set MCSYNC_PUBLIC_URL.",
            code="no_public_url",
        )
    return settings.public_url.rstrip("/") + PATH + token


async def check_organisation(resources: Resources, org_id: UUID) -> int:
    """Looks after every endpoint that is due; answers how many. Harmless when done twice."""
    async with resources.db.transaction(org_id) as session:
        await repository.revive(session)
        await repository.ask_changed(session)
        for used in await repository.lacking(session):
            endpoint_id, token = uuid7(), new_path_token()
            sealed = resources.keys.seal(token, context=token_context(org_id, endpoint_id))
            await repository.add(
                session, endpoint_id, used, token=sealed, token_hash=path_token_hash(token)
            )
    checked = 0
    while True:
        async with resources.db.transaction(org_id) as session:
            claimed = await repository.claim_endpoint(session, lease_seconds=_LEASE_SECONDS)
            endpoint = await repository.get(session, claimed.id) if claimed else None
        if claimed is None or endpoint is None:
            return checked
        checked += 1
        watch = _Watch(resources, org_id, endpoint)
        if not claimed.connected:
            await watch.forget()
        else:
            await watch.look(used=claimed.used)


class _Watch:
    """One look at one endpoint."""

    def __init__(self, resources: Resources, org_id: UUID, endpoint: WebhookEndpoint) -> None:
        self._resources = resources
        self._db = resources.db
        self._org_id = org_id
        self._endpoint = endpoint
        self._actor = Actor.system(org_id, WEBHOOKS)
        self._url = resources.settings.public_url

    async def forget(self) -> None:
        """Nothing can be done at Mailchimp any more: posts that still come are answered 410."""
        async with self._db.transaction(self._org_id) as session:
            await repository.remove(session, self._endpoint.id)

    async def look(self, *, used: bool) -> None:
        """Makes Mailchimp's webhook what it should be, or removes it; never raises what Mailchimp does."""
        endpoint = self._endpoint
        status, error = "error", "internal_error"
        try:
            async with connection.calling(self._resources, self._org_id, lane=Lane.BULK) as link:
                if link.account_id != endpoint.account_id:
                    await self.forget()
                elif used:
                    await self._ensure(link.client)
                else:
                    await self._retire(link.client)
            return
        except NotFoundError:
            await self.forget()
            async with self._db.transaction(self._org_id) as session:
                await repository.mark_gone(session, endpoint.audience_id)
            return
        except UnverifiableUrlError:
            error = "url_not_verified"
        except McsyncError as refused:
            error = refused.code
        except MailchimpError as trouble:
            error = type(trouble).__name__
            _log.info("webhook_check_failed", error=error, status=trouble.status)
        except SecretError:
            error = "secret_unreadable"
        async with self._db.transaction(self._org_id) as session:
            seconds = min(WATCHDOG_SECONDS, _FIRST_SECONDS * 2 ** min(endpoint.attempts - 1, 10))
            await repository.settle(
                session, endpoint.id, status=status, error=error, seconds=seconds, url=self._url
            )

    # --- what should be there ---------------------------------------------------------------------

    async def _ensure(self, client: MailchimpClient) -> None:
        endpoint = self._endpoint
        token = self._resources.keys.open(
            endpoint.token, context=token_context(self._org_id, endpoint.id)
        )
        url = url_of(self._resources.settings, token)
        ours = await self._ours(client)
        current = next((hook for hook in ours if hook.id == endpoint.webhook_id), None)
        if current is not None and current.signing_enabled and endpoint.signing_secret is None:
            current = None  # its secret got lost, so nothing it posts could be verified
        others = [hook for hook in ours if current is None or hook.id != current.id]
        if current is None:
            # Mailchimp refuses a second webhook of the same URL
            await self._delete(client, [hook for hook in others if _token(hook.url) == token])
            await self._create(client, url)
        elif self._wants_update(current, url):
            await self._update(client, current, url)
        else:
            await self._settle(None)
        await self._delete(client, [hook for hook in others if _token(hook.url) != token])

    async def _ours(self, client: MailchimpClient) -> list[Webhook]:
        endpoint = self._endpoint
        hashes = {endpoint.token_hash, endpoint.previous_token_hash}
        return [
            hook
            for hook in await client.webhooks(endpoint.list_id)
            if hook.id == endpoint.webhook_id or path_token_hash(_token(hook.url)) in hashes
        ]

    def _wants_update(self, hook: Webhook, url: str) -> bool:
        endpoint = self._endpoint
        renewed = endpoint.renewed_at
        return (
            hook.url != url
            or hook.events != EVENTS
            or hook.sources != SOURCES
            or endpoint.status != "active"
            or renewed is None
            or renewed < self._resources.clock() - RENEWAL
        )

    async def _create(self, client: MailchimpClient, url: str) -> None:
        list_id = self._endpoint.list_id
        try:
            made = await client.create_webhook(
                list_id, url=url, events=EVENTS, sources=SOURCES, signing_enabled=True
            )
        except UnverifiableUrlError:
            raise
        except InvalidRequestError:
            # an account from before signing that does not only ignore the wish
            made = await client.create_webhook(list_id, url=url, events=EVENTS, sources=SOURCES)
        await self._settle(
            "registered",
            webhook_id=made.id,
            signing_secret=self._sealed(made.signing_secret),
            renewed_at=self._resources.clock(),
        )

    async def _update(self, client: MailchimpClient, hook: Webhook, url: str) -> None:
        endpoint = self._endpoint
        changed = await client.update_webhook(
            endpoint.list_id, hook.id, url=url, events=EVENTS, sources=SOURCES
        )
        values: dict[str, Any] = {"renewed_at": self._resources.clock()}
        if changed.signing_secret:
            values["signing_secret"] = self._sealed(changed.signing_secret)
        # a renewal of what was all right is no news
        right = hook.url == url and hook.events == EVENTS and hook.sources == SOURCES
        await self._settle(None if right and endpoint.status == "active" else "repaired", **values)

    def _sealed(self, secret: str | None) -> str | None:
        if secret is None:
            return None
        context = secret_context(self._org_id, self._endpoint.id)
        return self._resources.keys.seal(secret, context=context)

    async def _settle(self, news: str | None, **values: Any) -> None:
        """Records a good end; after news (``registered``, ``repaired``) what was missed is pulled."""
        endpoint = self._endpoint
        async with self._db.transaction(self._org_id) as session:
            now = await repository.get(session, endpoint.id, lock=True)
            if now is None or now.token_hash != endpoint.token_hash:
                return  # rotated meanwhile: the next check finds both webhooks by their tokens
            if values:
                await repository.write(session, endpoint.id, **values)
            await repository.settle(
                session, endpoint.id, status="active", error=None, seconds=WATCHDOG_SECONDS,
                url=self._url,
            )  # fmt: skip
            if news is None:
                return
            await repository.ask_pull(session, endpoint.audience_id)
            audit.record(
                session, self._actor, AuditAction.WEBHOOKS_REGISTER,
                entity="webhook", entity_id=endpoint.id,
                diff={"audienceId": endpoint.list_id, "news": news},
            )  # fmt: skip
        await self._resources.jobs.ring(AUDIENCE_PULL, endpoint.audience_id, self._org_id)

    # --- what should not be there -----------------------------------------------------------------

    async def _retire(self, client: MailchimpClient) -> None:
        """No segment uses the audience any more."""
        endpoint = self._endpoint
        await self._delete(client, await self._ours(client))
        async with self._db.transaction(self._org_id) as session:
            if await repository.remove(session, endpoint.id):
                audit.record(
                    session, self._actor, AuditAction.WEBHOOKS_REMOVE,
                    entity="webhook", entity_id=endpoint.id,
                    diff={"audienceId": endpoint.list_id},
                )  # fmt: skip

    async def _delete(self, client: MailchimpClient, hooks: Sequence[Webhook]) -> None:
        for hook in hooks:
            with suppress(NotFoundError):
                await client.delete_webhook(self._endpoint.list_id, hook.id)


def _token(url: str) -> str:
    """The last part of a webhook's path: ours is the token."""
    return url.partition("?")[0].rstrip("/").rpartition("/")[2]
