"""Webhooks of an audience (MC 9)."""

from mcsync.mailchimp.caller import decoder, nothing
from mcsync.mailchimp.endpoints.base import PAGE_SIZE, Endpoints, encode
from mcsync.mailchimp.transport import Request, path
from mcsync.mailchimp.types.webhook import Webhook, WebhookEvents, WebhookSources, WebhooksPage


class WebhookEndpoints(Endpoints):
    """Calls about webhooks. Every call raises `MailchimpError`.

    Before a webhook is created or gets another URL, Mailchimp asks the URL by GET and raises
    `UnverifiableUrlError` unless it answers 200. It also refuses a URL that differs from
    another webhook's only in its query.
    """

    async def webhooks(self, list_id: str) -> list[Webhook]:
        """Return all webhooks of an audience, without their signing secrets."""
        found: list[Webhook] = []
        while True:
            # The published description knows no paging here; it is tried when rows are missing.
            params = {"count": str(PAGE_SIZE), "offset": str(len(found))} if found else {}
            request = Request("webhooks.list", "GET", _webhooks(list_id), params)
            page = await self._call(request, decoder(WebhooksPage))
            known = {webhook.id for webhook in found}
            fresh = [webhook for webhook in page.webhooks if webhook.id not in known]
            found += fresh
            if not fresh or len(found) >= page.total_items:
                return found

    async def create_webhook(
        self,
        list_id: str,
        *,
        url: str,
        events: WebhookEvents,
        sources: WebhookSources,
        signing_enabled: bool | None = None,
    ) -> Webhook:
        """Create a webhook; with signing, only this answer holds the `signing_secret`.

        `signing_enabled` None leaves the property out, for accounts that do not know it.
        Not repeated when the outcome is unknown (`TransientError.outcome_unknown`): look
        with `webhooks` first.
        """
        body = _body(url, events, sources, signing_enabled)
        request = Request(
            "webhooks.create", "POST", _webhooks(list_id), content=encode(body), repeatable=False
        )
        return await self._call(request, decoder(Webhook))

    async def update_webhook(
        self,
        list_id: str,
        webhook_id: str,
        *,
        url: str | None = None,
        events: WebhookEvents | None = None,
        sources: WebhookSources | None = None,
        signing_enabled: bool | None = None,
    ) -> Webhook:
        """Change what is named (PATCH); raises `NotFoundError`."""
        body = _body(url, events, sources, signing_enabled)
        target = path("lists", list_id, "webhooks", webhook_id)
        request = Request("webhooks.update", "PATCH", target, content=encode(body))
        return await self._call(request, decoder(Webhook))

    async def delete_webhook(self, list_id: str, webhook_id: str) -> None:
        """Delete a webhook; raises `NotFoundError` for one that is gone, also on repetition."""
        target = path("lists", list_id, "webhooks", webhook_id)
        await self._call(Request("webhooks.delete", "DELETE", target), nothing)


def _webhooks(list_id: str) -> str:
    return path("lists", list_id, "webhooks")


def _body(
    url: str | None,
    events: WebhookEvents | None,
    sources: WebhookSources | None,
    signing_enabled: bool | None,
) -> dict[str, object]:
    given = {
        "url": url,
        "events": None if events is None else events.model_dump(),
        "sources": None if sources is None else sources.model_dump(),
        "signing_enabled": signing_enabled,
    }
    return {name: value for name, value in given.items() if value is not None}
