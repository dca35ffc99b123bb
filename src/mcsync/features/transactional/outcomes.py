"""What became of messages after they were handed over: reports worked in, silence asked about."""

from __future__ import annotations

import asyncio
from typing import Any, Final
from uuid import UUID

import structlog

from mcsync.core.errors import ConflictError
from mcsync.core.resources import Resources
from mcsync.features.transactional import inbox, links, words
from mcsync.mailchimp import CredentialError, MailchimpError, ThrottledError
from mcsync.mailchimp.transactional import UnknownMessageError

_log = structlog.get_logger(__name__)

_EVENTS_AT_ONCE: Final = 1000
_POLLS_AT_ONCE: Final = 50
_HOLD_SECONDS: Final = 600.0
"""So long nobody else asks for recipients that this worker asks for."""
_PAUSE_SECONDS: Final = 900.0


async def work(resources: Resources, org_id: UUID, *, stopping: asyncio.Event) -> int:
    """Works an organisation's waiting reports in, then asks for who is due; how many of both."""
    done = 0
    while not stopping.is_set():
        async with resources.db.transaction(org_id) as session:
            taken = await inbox.work(session, words.EVENTS, most=_EVENTS_AT_ONCE)
        done += taken
        if taken < _EVENTS_AT_ONCE:
            break
    while not stopping.is_set():
        asked = await _poll(resources, org_id)
        done += asked
        if asked < _POLLS_AT_ONCE:
            break
    return done


async def _poll(resources: Resources, org_id: UUID) -> int:
    async with resources.db.transaction(org_id) as session:
        due = await inbox.due(session, most=_POLLS_AT_ONCE, hold_seconds=_HOLD_SECONDS)
    if not due:
        return 0
    rows: list[dict[str, Any]] = []
    try:
        link = await links.open_link(resources, org_id, retry=links.ONCE)
        for message_id, no, provider_id, polls in due:
            rows.append(await _ask(link, message_id, no, provider_id, polls))
    except CredentialError:
        await links.refused(resources, org_id, link)
        await _pause(resources, org_id)
        return 0
    except (ConflictError, ThrottledError):
        await _pause(resources, org_id)
        return 0
    except MailchimpError as error:
        # those not asked for come up again when their hold is over
        _log.info("transactional_poll_failed", error=type(error).__name__)
        return 0
    finally:
        if rows:
            async with resources.db.transaction(org_id) as session:
                await inbox.polled(session, rows)
    await links.works(resources, org_id, link)
    return len(due)


async def _ask(
    link: links.Link, message_id: UUID, no: int, provider_id: str | None, polls: int
) -> dict[str, Any]:
    """One recipient as Mailchimp shows it; unchanged where it does not know it (yet, or any more)."""
    known: dict[str, Any] = {"status": "pending", "opens": 0, "clicks": 0}
    try:
        if provider_id:
            info = await link.client.message_info(provider_id)
            known = words.of_info(no, info, webhook=link.has_webhook, polls=polls + 1)
    except UnknownMessageError:
        pass
    poll = known.get("poll")
    if known["status"] == "pending":
        poll = words.next_poll("sent", polls + 1, webhook=link.has_webhook)
    return {
        "message_id": message_id, "no": no, "status": known["status"], "opens": known["opens"],
        "clicks": known["clicks"], "poll": poll,
    }  # fmt: skip


async def _pause(resources: Resources, org_id: UUID) -> None:
    async with resources.db.transaction(org_id) as session:
        await inbox.postpone(session, _PAUSE_SECONDS)
