"""What the connected account has: campaigns not tracked first, newest first, then the tracked ones."""

from __future__ import annotations

from typing import Final
from uuid import UUID

from mcsync.core.auth import Actor
from mcsync.core.errors import BadRequestError
from mcsync.core.resources import Resources
from mcsync.core.web.paging import PageParams, encode_cursor
from mcsync.core.web.schemas import Page
from mcsync.features.campaigns import repository
from mcsync.features.campaigns.schemas import AvailableCampaign
from mcsync.features.connection import service as connection
from mcsync.mailchimp import MailchimpClient

_PAGES: Final = 5
"""So many of Mailchimp's pages one request looks through; its cursor goes on from there."""
_PAGE_SIZES: Final = (200, 1000)
"""Without a search, and with one, which may find little on each page."""
_FIELDS: Final = (
    "id", "type", "status", "create_time", "send_time", "emails_sent", "settings.title",
    "settings.subject_line", "variate_settings.subject_lines", "recipients.list_id",
    "report_summary.opens",
)  # fmt: skip
_TRACKED: Final = -1
_FURTHEST: Final = 10_000_000


async def list_available(
    resources: Resources, actor: Actor, page: PageParams, search: str | None
) -> Page[AvailableCampaign]:
    """One page. It may be short, or even empty, and still have a cursor.

    ``search`` is looked for in titles, whatever the case. Mailchimp's own search would also look into
    contents, gives no pages, and learns of new campaigns late. Raises what ``connection.calling`` raises.
    """
    offset, before = _place(page)
    wanted = (search or "").strip().lower()
    if offset == _TRACKED:
        return await _tracked(resources, actor, page.limit, before, wanted)
    async with connection.calling(resources, actor.org_id) as link:
        return await _not_tracked(
            resources, actor, link.client, link.account_id, page.limit, offset, wanted
        )


def _place(page: PageParams) -> tuple[int, UUID | None]:
    if page.cursor is None:
        return 0, None
    offset, before = page.after(int, UUID) or (0, None)
    if offset is None or not _TRACKED <= offset <= _FURTHEST:
        message = "Pass nextCursor of the previous page unchanged, to the same list."
        raise BadRequestError(message, code="invalid_cursor")
    return offset, before


async def _not_tracked(
    resources: Resources, actor: Actor, client: MailchimpClient, account_id: str, limit: int,
    offset: int, wanted: str,
) -> Page[AvailableCampaign]:  # fmt: skip
    items: list[AvailableCampaign] = []
    for _ in range(_PAGES):
        found = await client.campaigns_page(
            count=_PAGE_SIZES[bool(wanted)], offset=offset, sort_dir="DESC", fields=_FIELDS
        )
        async with resources.db.transaction(actor.org_id) as session:
            tracked = await repository.tracked_ids(
                session, account_id, [one.id for one in found.campaigns]
            )
        for place, one in enumerate(found.campaigns, start=offset):
            if len(items) == limit:
                return Page(items=items, next_cursor=encode_cursor(place, None))
            if one.id not in tracked and wanted in one.title.lower():
                items.append(AvailableCampaign.of(one))
        offset += found.campaigns.raw
        if not found.campaigns.raw or offset >= found.total_items:
            return Page(items=items, next_cursor=encode_cursor(_TRACKED, None))
    return Page(items=items, next_cursor=encode_cursor(offset, None))


async def _tracked(
    resources: Resources, actor: Actor, limit: int, before: UUID | None, wanted: str
) -> Page[AvailableCampaign]:
    async with resources.db.transaction(actor.org_id) as session:
        live = await connection.require_live(session)
        rows = await repository.page(
            session, status=None, list_id=None, search=wanted or None, account_id=live.account_id,
            before=before, limit=limit + 1,
        )  # fmt: skip
    items = [AvailableCampaign.tracked(row) for row in rows[:limit]]
    more = len(rows) > limit
    return Page(
        items=items, next_cursor=encode_cursor(_TRACKED, rows[limit - 1].id) if more else None
    )
