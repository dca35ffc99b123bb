"""Webhooks of an audience: where Mailchimp reports what happens, and what of it (MC 9)."""

from pydantic import Field

from mcsync.mailchimp.types.base import UNTOLD, Ident, MailchimpModel, Rows, Text


class WebhookEvents(MailchimpModel):
    """What is reported. All flags are always sent: the defaults of omitted ones are unknown."""

    subscribe: bool = False
    unsubscribe: bool = False
    profile: bool = False
    cleaned: bool = False
    upemail: bool = False
    campaign: bool = False


class WebhookSources(MailchimpModel):
    """Whose acts are reported: the person's, the account's staff's, the API's (also our own)."""

    user: bool = False
    admin: bool = False
    api: bool = False


class Webhook(MailchimpModel):
    """A webhook. Its URL may hold a secret, so neither that nor the secret shows in its text."""

    id: Ident
    url: Text = Field(default="", repr=False)
    events: WebhookEvents = WebhookEvents()
    sources: WebhookSources = WebhookSources()
    list_id: Text = ""
    signing_enabled: bool | None = None
    """None where the account knows no signing yet (before 2026)."""
    signing_secret: str | None = Field(default=None, repr=False)
    """Told once, in the answer to the creation; one that got lost means a new webhook."""


class WebhooksPage(MailchimpModel):
    """Answer of the list of webhooks."""

    webhooks: Rows[Webhook] = UNTOLD
    total_items: int = 0
