"""The rules of tracked campaigns as callers see them. The six-hourly rounds stand in ``refresh``.

Mailchimp is called between transactions, never inside one.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Final
from uuid import UUID

from sqlalchemy.ext.asyncio import AsyncSession

from mcsync import mailchimp
from mcsync.core.auth import Actor
from mcsync.core.errors import ConflictError, FieldProblem, NotFoundError
from mcsync.core.resources import Resources
from mcsync.core.web.paging import PageParams, encode_cursor
from mcsync.core.web.schemas import Page
from mcsync.features import audit
from mcsync.features.audit import AuditAction
from mcsync.features.campaigns import plot, repository, words
from mcsync.features.campaigns.models import Campaign
from mcsync.features.campaigns.schemas import (
    AutoTrackingView,
    CampaignView,
    PointView,
)
from mcsync.features.connection import service as connection

_MOST_POINTS: Final = 5_000


async def list_campaigns(
    resources: Resources, actor: Actor, page: PageParams, *, status: str | None = None,
    audience_id: str | None = None, search: str | None = None,
) -> Page[CampaignView]:  # fmt: skip
    """Tracked campaigns, the last tracked first."""
    after = page.after(UUID)
    async with resources.db.transaction(actor.org_id) as session:
        rows = await repository.page(
            session, status=status, list_id=audience_id, search=search,
            before=after[0] if after else None, limit=page.limit + 1,
        )  # fmt: skip
    shown = [CampaignView.of(row) for row in rows[: page.limit]]
    more = len(rows) > page.limit
    return Page(items=shown, next_cursor=encode_cursor(shown[-1].id) if more else None)


async def get(resources: Resources, actor: Actor, tracking_id: UUID) -> CampaignView:
    """A tracked campaign. Raises ``NotFoundError``."""
    async with resources.db.transaction(actor.org_id) as session:
        return await _view(session, tracking_id)


async def track(resources: Resources, actor: Actor, campaign_id: str) -> CampaignView:
    """Reads a campaign of the connected account and begins to follow it.

    Raises ``NotFoundError`` where the account has none of this id, ``ConflictError``
    (``already_tracked``; ``campaign_of_another_account`` where we know it from an account that was
    connected before), and what ``connection.calling`` raises.
    """
    async with resources.db.transaction(actor.org_id) as session:
        live = await connection.require_live(session)
        for known in await repository.known(session, campaign_id):
            if known.account_id != live.account_id:
                raise _other_account()
            raise _already_tracked(known.id)
    async with connection.calling(resources, actor.org_id) as link:
        try:
            found, report = await _look(link.client, campaign_id)
        except mailchimp.NotFoundError as error:
            raise _not_in_account() from error
    async with resources.db.transaction(actor.org_id) as session:
        added = await repository.track(
            session, link.account_id, [words.facts_of(found)], by="manual"
        )
        if campaign_id not in added:
            # another request was quicker
            raise _already_tracked(None)
        tracking_id = added[campaign_id]
        await _keep(resources, session, link.account_id, tracking_id, found, report)
        audit.record(
            session, actor, AuditAction.CAMPAIGNS_TRACK, entity="campaign", entity_id=tracking_id,
            diff={"campaignId": campaign_id, "status": words.status_of(found)},
        )  # fmt: skip
        return await _view(session, tracking_id)


async def refresh_stats(resources: Resources, actor: Actor, tracking_id: UUID) -> CampaignView:
    """Reads a tracked campaign anew, also one that has settled or was thought gone.

    One that Mailchimp has no more is marked, which is no error. Raises ``NotFoundError``,
    ``ConflictError`` (``campaign_of_another_account``), and what ``connection.calling`` raises.
    """
    async with resources.db.transaction(actor.org_id) as session:
        row = await _stored(session, tracking_id)
        live = await connection.require_live(session)
        if live.account_id != row.account_id:
            raise _other_account()
    found, report = None, None
    async with connection.calling(resources, actor.org_id) as link:
        try:
            found, report = await _look(link.client, row.campaign_id)
        except mailchimp.NotFoundError:
            found = None
    async with resources.db.transaction(actor.org_id) as session:
        points = 0
        if found is None:
            await repository.mark_gone(session, [tracking_id], await repository.moment(session))
        else:
            points = await _keep(resources, session, row.account_id, tracking_id, found, report)
        audit.record(
            session, actor, AuditAction.CAMPAIGNS_REFRESH, entity="campaign", entity_id=tracking_id,
            diff={"moved": points, "gone": found is None},
        )  # fmt: skip
        return await _view(session, tracking_id)


async def untrack(resources: Resources, actor: Actor, tracking_id: UUID) -> CampaignView:
    """Ends tracking; answers the campaign as it was. Raises ``NotFoundError``."""
    async with resources.db.transaction(actor.org_id) as session:
        shown = await _view(session, tracking_id)
        await repository.untrack(session, tracking_id, await repository.moment(session))
        audit.record(
            session, actor, AuditAction.CAMPAIGNS_UNTRACK, entity="campaign", entity_id=tracking_id,
            diff={"campaignId": shown.campaign_id},
        )  # fmt: skip
        return shown


async def history(
    resources: Resources, actor: Actor, page: PageParams, tracking_id: UUID
) -> Page[PointView]:
    """A campaign's figures over time, oldest first. Raises ``NotFoundError``."""
    key = page.after(datetime)
    after = key[0] if key else None
    if after is not None and after.tzinfo is None:
        after = after.replace(tzinfo=UTC)
    async with resources.db.transaction(actor.org_id) as session:
        await _stored(session, tracking_id)
        rows = await repository.points(session, tracking_id, after=after, limit=page.limit + 1)
    shown = [PointView.of(row) for row in rows[: page.limit]]
    more = len(rows) > page.limit
    return Page(items=shown, next_cursor=encode_cursor(shown[-1].at) if more else None)


async def plot_history(resources: Resources, actor: Actor, tracking_id: UUID) -> str:
    """The whole history as an SVG document. Raises ``NotFoundError``."""
    async with resources.db.transaction(actor.org_id) as session:
        row = await _stored(session, tracking_id)
        points = await repository.points(session, tracking_id, after=None, limit=_MOST_POINTS)
    samples = [plot.Sample(one.at, one.unique_opens, one.subscriber_clicks) for one in points]
    return plot.render(row.title or row.subject or row.campaign_id, samples)


async def last_opens(
    resources: Resources, actor: Actor, ids: Sequence[UUID], *, most: int = 24
) -> dict[UUID, list[int]]:
    """How many people had opened each campaign at its last points, oldest first."""
    async with resources.db.transaction(actor.org_id) as session:
        return await repository.last_opens(session, ids, most=most)


async def ask_round(resources: Resources, actor: Actor) -> None:
    """Makes the organisation's round due now. Raises ``ConflictError`` (``not_connected``)."""
    async with resources.db.transaction(actor.org_id) as session:
        await connection.require_live(session)
        await repository.ask_round(session)


async def set_auto_tracking(
    resources: Resources, actor: Actor, *, enabled: bool
) -> AutoTrackingView:
    """Whether campaigns made from now on are tracked by themselves. Raises ``ConflictError``
    (``not_connected``)."""
    async with resources.db.transaction(actor.org_id) as session:
        live = await connection.require_live(session, lock=True)
        before = live.track_campaigns_since
        since = (before or await repository.moment(session)) if enabled else None
        await repository.set_auto_tracking(session, live.id, since)
        audit.record(
            session, actor, AuditAction.CAMPAIGNS_SET_AUTO_TRACKING, entity="connection",
            entity_id=live.id, diff={"enabled": [before is not None, enabled]},
        )  # fmt: skip
    return AutoTrackingView(enabled=enabled, since=since)


async def _look(
    client: mailchimp.MailchimpClient, campaign_id: str
) -> tuple[mailchimp.Campaign, mailchimp.Report | None]:
    """A campaign and, once it went out, its report. Raises ``NotFoundError`` for the campaign only."""
    found = await client.campaign(campaign_id)
    if not words.has_report(found):
        return found, None
    try:
        return found, await client.report(campaign_id)
    except mailchimp.NotFoundError:
        return found, None


async def _keep(
    resources: Resources, session: AsyncSession, account_id: str, tracking_id: UUID,
    found: mailchimp.Campaign, report: mailchimp.Report | None,
) -> int:  # fmt: skip
    """Stores what was just read; answers how many points that made."""
    at = await repository.moment(session)
    await repository.store_seen(session, account_id, [words.facts_of(found)], at)
    points = 0
    if report is not None:
        row = {
            "id": tracking_id, "summary": words.summary_of(found), **words.figures_of(report),
        }  # fmt: skip
        points = await repository.store_reports(session, [row], at)
    settling = timedelta(days=resources.settings.campaign_settling_days)
    if words.is_final(words.status_of(found), found.send_time, now=at, settling=settling):
        await repository.settle(session, [tracking_id], at)
    else:
        await repository.reopen(session, tracking_id)
    return points


async def _stored(session: AsyncSession, tracking_id: UUID) -> Campaign:
    row = await repository.get(session, tracking_id)
    if row is None:
        raise NotFoundError(
            "There is no tracked campaign with this id; campaigns.list shows all.",
            code="campaign_not_found",
        )
    return row


async def _view(session: AsyncSession, tracking_id: UUID) -> CampaignView:
    return CampaignView.of(await _stored(session, tracking_id))


def _not_in_account() -> NotFoundError:
    message = "The connected Mailchimp account has no campaign with this id."
    return NotFoundError(
        message
        + " Check it, and that the right account is connected; campaigns.listAvailable shows"
        " those it has.",
        code="campaign_not_found",
        errors=[FieldProblem("/campaignId", "campaign_not_found", message)],
    )


def _other_account() -> ConflictError:
    return ConflictError(
        "This campaign belongs to a Mailchimp account that was connected before. Connect that account"
        " again to read it anew.",
        code="campaign_of_another_account",
    )


def _already_tracked(tracking_id: UUID | None) -> ConflictError:
    return ConflictError(
        "This campaign is tracked already; campaigns.refreshStats reads it anew.",
        code="already_tracked",
        extra={"trackedId": str(tracking_id)} if tracking_id else {},
    )
