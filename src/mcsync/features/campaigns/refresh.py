"""One organisation's round over its tracked campaigns: many with few calls.

A page of the account's campaigns tells which figures moved; only then reports are asked for, singly or
as a page, whichever takes fewer calls. A campaign that no page shows is asked for by its id before it is
called gone. Calls run one after another on the bulk slots: a round takes at most one of an account's, and
withdrawals have their own.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from math import ceil
from typing import Any
from uuid import UUID

import structlog
from sqlalchemy.ext.asyncio import AsyncSession

from mcsync.core.auth import Actor
from mcsync.core.errors import ConflictError
from mcsync.core.jobs import CAMPAIGN_STATS
from mcsync.core.resources import Resources
from mcsync.features import audit
from mcsync.features.audit import AuditAction
from mcsync.features.campaigns import repository, words
from mcsync.features.campaigns.repository import Tracked
from mcsync.features.connection import service as connection
from mcsync.mailchimp import (
    Campaign,
    CredentialError,
    InvalidRequestError,
    Lane,
    MailchimpClient,
    MailchimpError,
    NotFoundError,
    Report,
)

_log = structlog.get_logger(__name__)

CAMPAIGNS_A_PAGE = 500
REPORTS_A_PAGE = 250
_LEASE_SECONDS = 120.0
_SECOND = timedelta(seconds=1)


class HandOverError(Exception):
    """This process stops, or the round is another worker's by now."""


@dataclass(slots=True)
class Outcome:
    """What a round did."""

    calls: int = 0
    seen: int = 0
    reports: int = 0
    points: int = 0
    gone: int = 0
    tracked: int = 0
    error: str | None = None

    def diff(self) -> dict[str, int]:
        """For the audit."""
        return {
            "seen": self.seen, "moved": self.points, "gone": self.gone, "tracked": self.tracked,
            "calls": self.calls,
        }  # fmt: skip


async def work_on(resources: Resources, org_id: UUID, *, stopping: asyncio.Event) -> Outcome | None:
    """Works on the organisation's round if it is due and free; None otherwise.

    Trouble with Mailchimp asks for another attempt. A refused key ends the round: it concerns this
    organisation only, and the next tick tries again.
    """
    async with resources.db.transaction(org_id) as session:
        epoch = await repository.claim(session, _LEASE_SECONDS)
    if epoch is None:
        return None
    outcome = Outcome()
    again = False
    try:
        await _Round(resources, org_id, epoch, outcome, stopping).carry_out()
    except HandOverError:
        async with resources.db.transaction(org_id) as session:
            await repository.hand_back(session, epoch)
        return outcome
    except CredentialError as error:
        detail = connection.refused_detail(error)
        await connection.mark_needs_attention(resources, org_id, error.code, detail)
        outcome.error = "mailchimp_key_refused"
    except ConflictError as error:
        outcome.error = error.code
    except InvalidRequestError as error:
        _log.warning("campaign_refresh_refused", status=error.status, title=error.title)
        outcome.error = "mailchimp_refused"
    except MailchimpError as error:
        _log.info("campaign_refresh_delayed", error=type(error).__name__, status=error.status)
        outcome.error, again = type(error).__name__, True
    async with resources.db.transaction(org_id) as session:
        ended = await repository.finish(
            session, epoch, error=outcome.error, again=again, calls=outcome.calls
        )
        if ended and (outcome.points or outcome.gone or outcome.tracked):
            audit.record(
                session, Actor.system(org_id, CAMPAIGN_STATS), AuditAction.CAMPAIGNS_REFRESH,
                entity="campaign", entity_id=None, diff=outcome.diff(),
            )  # fmt: skip
    return outcome


@dataclass(slots=True)
class _Seen:
    """A tracked campaign as Mailchimp told it in this round."""

    tracked: Tracked
    campaign: Campaign
    final: bool
    reported: bool = False

    @property
    def summary(self) -> dict[str, Any] | None:
        return words.summary_of(self.campaign)

    @property
    def wants_report(self) -> bool:
        """Its figures moved; or it is over, and bounces or complaints may have come in silence."""
        moved = self.summary is not None and self.summary != self.tracked.summary
        return moved or (self.final and words.has_report(self.campaign))


@dataclass(slots=True)
class _Round:
    resources: Resources
    org_id: UUID
    epoch: int
    outcome: Outcome
    stopping: asyncio.Event
    account_id: str = ""
    missing: dict[str, Tracked] = field(default_factory=dict)
    seen: dict[str, _Seen] = field(default_factory=dict)
    sent_times: list[datetime] = field(default_factory=list)
    """Of all the account's campaigns that pages showed, tracked or not."""

    async def carry_out(self) -> None:
        """The whole round. Raises ``MailchimpError``, ``ConflictError`` and :class:`HandOverError`."""
        link = await connection.open_link(self.resources, self.org_id, lane=Lane.BULK)
        self.account_id = link.account_id
        async with self.resources.db.transaction(self.org_id) as session:
            live = await connection.require_live(session)
            since = live.track_campaigns_since
            self.missing = {
                one.campaign_id: one for one in await repository.live(session, self.account_id)
            }
        if not self.missing and since is None:
            return
        await self._walk(link.client, since, link.connection_id)
        for tracked in list(self.missing.values()):
            await self._ask_for(link.client, tracked)
        await self._read_reports(link.client)
        await self._settle()
        if link.needs_attention:
            await connection.clear_needs_attention(
                self.resources, self.org_id, fingerprint=link.fingerprint
            )

    # campaigns

    async def _walk(
        self, client: MailchimpClient, since: datetime | None, connection_id: UUID
    ) -> None:
        """Pages of campaigns, newest first, for as long as a page costs less than asking one by one."""
        if since is None and len(self.missing) == 1:
            return
        oldest = [one.create_time for one in self.missing.values()] + ([since] if since else [])
        bounds = [moment for moment in oldest if moment is not None]
        from_then = min(bounds) - _SECOND if len(bounds) == len(oldest) else None
        offset, newest = 0, since
        while True:
            await self._next_call()
            page = await client.campaigns_page(
                count=CAMPAIGNS_A_PAGE, offset=offset, since_create_time=from_then, sort_dir="DESC"
            )
            async with self._recording() as (session, at):
                await self._take(session, page.campaigns, since, at)
            made = [one.create_time for one in page.campaigns if one.create_time is not None]
            newest = max([newest, *made]) if newest else None
            offset += page.campaigns.raw
            left = ceil(max(0, page.total_items - offset) / CAMPAIGNS_A_PAGE)
            looked_for_new = since is None or any(one < since for one in made)
            if not page.campaigns.raw or not left or (looked_for_new and len(self.missing) <= left):
                break
        if newest is not None:
            async with self.resources.db.transaction(self.org_id) as session:
                await repository.move_auto_mark(session, connection_id, newest)

    async def _take(
        self, session: AsyncSession, campaigns: tuple[Campaign, ...], since: datetime | None,
        at: datetime,
    ) -> None:  # fmt: skip
        """Keeps what a page says of tracked campaigns; begins to track the new ones if asked to."""
        self.sent_times += [one.send_time for one in campaigns if one.send_time is not None]
        if since is not None:
            fresh = {
                one.id: one for one in campaigns
                if one.create_time is not None and one.create_time >= since
            }  # fmt: skip
            facts = [words.facts_of(one) for one in fresh.values()]
            added = await repository.track(session, self.account_id, facts, by="auto")
            self.outcome.tracked += len(added)
            self.missing |= {
                ident: Tracked(tracking_id, ident, fresh[ident].create_time, None)
                for ident, tracking_id in added.items()
            }
        found = [one for one in campaigns if one.id in self.missing]
        await repository.store_seen(
            session, self.account_id, [words.facts_of(one) for one in found], at
        )
        for one in found:
            self._note(self.missing.pop(one.id), one, at)

    def _note(self, tracked: Tracked, campaign: Campaign, at: datetime) -> None:
        settling = timedelta(days=self.resources.settings.campaign_settling_days)
        status = words.status_of(campaign)
        final = words.is_final(status, campaign.send_time, now=at, settling=settling)
        self.seen[campaign.id] = _Seen(tracked, campaign, final)
        self.outcome.seen += 1

    async def _ask_for(self, client: MailchimpClient, tracked: Tracked) -> None:
        """One that no page showed: a page may be cut short, so only its own 404 makes it gone."""
        await self._next_call()
        try:
            found = await client.campaign(tracked.campaign_id)
        except NotFoundError:
            async with self._recording() as (session, at):
                await repository.mark_gone(session, [tracked.id], at)
            self.outcome.gone += 1
            return
        async with self._recording() as (session, at):
            await self._take(session, (found,), None, at)

    # reports

    async def _read_reports(self, client: MailchimpClient) -> None:
        wanted = {ident for ident, one in self.seen.items() if one.wants_report}
        times = [
            moment
            for ident in wanted
            if (moment := self.seen[ident].campaign.send_time) is not None
        ]
        if len(times) == len(wanted) and len(wanted) > 1:
            first, last = min(times), max(times)
            among = sum(1 for moment in self.sent_times if first <= moment <= last)
            if ceil(among / REPORTS_A_PAGE) < len(wanted):
                await self._page_reports(client, wanted, first - _SECOND, last + _SECOND)
        for ident in sorted(wanted):
            if self.seen[ident].reported:
                continue
            await self._next_call()
            try:
                await self._keep([await client.report(ident)])
            except NotFoundError:
                # nothing to report after all; asked again while its summary says otherwise
                continue

    async def _page_reports(
        self, client: MailchimpClient, wanted: set[str], since: datetime, before: datetime
    ) -> None:
        offset = 0
        while True:
            await self._next_call()
            page = await client.reports_page(
                count=REPORTS_A_PAGE, offset=offset, since_send_time=since, before_send_time=before
            )
            await self._keep([one for one in page.reports if one.id in self.seen])
            offset += page.reports.raw
            left = ceil(max(0, page.total_items - offset) / REPORTS_A_PAGE)
            waiting = sum(1 for ident in wanted if not self.seen[ident].reported)
            if not page.reports.raw or waiting <= left:
                return

    async def _keep(self, reports: list[Report]) -> None:
        rows: list[Mapping[str, Any]] = []
        for report in reports:
            seen = self.seen[report.id]
            seen.reported = True
            rows.append(
                {
                    "id": seen.tracked.id, "summary": seen.summary, **words.figures_of(report),
                }
            )  # fmt: skip
        self.outcome.reports += len(rows)
        if rows:
            async with self._recording() as (session, at):
                self.outcome.points += await repository.store_reports(session, rows, at)

    async def _settle(self) -> None:
        over = [one.tracked.id for one in self.seen.values() if one.final]
        if over:
            async with self._recording() as (session, at):
                await repository.settle(session, over, at)

    # the lease

    async def _next_call(self) -> None:
        """Before each call: goes on only while the round is ours."""
        if self.stopping.is_set():
            raise HandOverError
        self.outcome.calls += 1
        async with self.resources.db.transaction(self.org_id) as session:
            await self._renew(session)

    async def _renew(self, session: AsyncSession) -> None:
        if not await repository.renew(session, self.epoch, _LEASE_SECONDS, self.outcome.calls):
            raise HandOverError

    @asynccontextmanager
    async def _recording(self) -> AsyncIterator[tuple[AsyncSession, datetime]]:
        """A transaction that writes only while the round is ours, and the moment it writes at."""
        async with self.resources.db.transaction(self.org_id) as session:
            await self._renew(session)
            yield session, await repository.moment(session)
