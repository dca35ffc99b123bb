"""The ARQ functions: thin, called with ids only, harmless when called twice."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from mcsync.features.webhooks import polling, registration, work


async def webhook(ctx: dict[str, Any], org_id: str, audience_id: str) -> None:
    """``mailchimp-webhook``: what was posted about one audience."""
    await work.work_off(ctx["resources"], UUID(org_id), UUID(audience_id))


async def webhooks(ctx: dict[str, Any], org_id: str, _: str) -> None:
    """``mailchimp-webhooks``: one organisation's webhooks are registered, repaired or removed."""
    await registration.check_organisation(ctx["resources"], UUID(org_id))


async def audience_pull(ctx: dict[str, Any], org_id: str, audience_id: str) -> None:
    """``mailchimp-audience-pull``: what changed in one audience since the last pull."""
    await polling.pull_audience(ctx["resources"], UUID(org_id), UUID(audience_id))
