"""Pulling: the mirror is brought up to date before a plan, and what people did comes home."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from uuid import UUID

import structlog
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from mcsync.core.auth import Actor
from mcsync.core.resources import Resources
from mcsync.features.audiences import mirror
from mcsync.features.audiences.repository import touch_definition
from mcsync.features.connection import capabilities
from mcsync.features.connection.capabilities import Capabilities
from mcsync.features.preferences.arrivals import merge_and_record
from mcsync.features.sync import lost_tags
from mcsync.mailchimp import MailchimpClient, NotFoundError, iterate_members

_log = structlog.get_logger(__name__)

__all__ = [
    "AudienceGoneError",
    "AudienceState",
    "Check",
    "Pull",
    "audience_state",
    "mark_after",
    "merge_and_record",
]

_SECOND = timedelta(seconds=1)
_DAY = timedelta(days=1)

Check = Callable[[], Awaitable[None]]
"""Raises where the work should stop (fenced, cancelled, shutting down)."""


class AudienceGoneError(Exception):
    """Mailchimp does not know the list any more. Never an empty list (``sync.md`` 1)."""


@dataclass(frozen=True, slots=True)
class AudienceState:
    """What a pull needs to know of an audience."""

    id: UUID
    list_id: str
    high_water: datetime | None
    full_pull_at: datetime | None
    capabilities: Capabilities = field(default_factory=Capabilities)


class Pull:
    """One pull of one audience."""

    def __init__(
        self, resources: Resources, actor: Actor, client: MailchimpClient, *, check: Check
    ) -> None:
        self._db = resources.db
        self._hash_keys = resources.hash_keys
        self._settings = resources.settings
        self._clock = resources.clock
        self._actor = actor
        self._client = client
        self._check = check
        self._newest: datetime | None = None
        self._asked: datetime | None = None

    async def bring_up_to_date(self, audience: AudienceState) -> bool:
        """Pulls what changed, compares the counts, and pulls all where they differ or a week is over.

        Answers whether it was a full pull. Raises :class:`AudienceGoneError`, ``MailchimpError``.
        """
        try:
            return await self._bring_up_to_date(audience)
        except NotFoundError as error:
            raise AudienceGoneError from error

    async def _bring_up_to_date(self, audience: AudienceState) -> bool:
        week = timedelta(days=self._settings.full_pull_days)
        mark, full_at = audience.high_water, audience.full_pull_at
        if mark is None or full_at is None or full_at < self._clock() - week:
            await self._pull_all(audience)
            return True
        tags = await self._tags(audience) if audience.capabilities.tags_move_last_changed else {}
        await self._read(audience, since=mark, tags=tags)
        differing = await self._differing(audience)
        if differing:
            # somebody changed something between the two looks, or archived members are not listed
            await self._read(audience, since=mark)
            if "archived" in differing and not audience.capabilities.plain_listing_has_archived:
                await self._read(audience, since=mark, status="archived")
            differing = await self._differing(audience)
        if differing:
            _log.info("counts_differ", audience=str(audience.id), statuses=sorted(differing))
            await self._pull_all(audience)
            return True
        await self._move_mark(audience, full=False)
        return False

    async def catch_up(self, audience: AudienceState) -> bool:
        """Reads what changed since the mark, and moves it: what is done between runs.

        Counts and permanent deletions stay the runs' business, as does a first or full pull: False, and
        nothing is read, where one is due (a run's and another full pull must never overlap). Raises
        :class:`AudienceGoneError`, ``MailchimpError``.
        """
        if audience.high_water is None or audience.full_pull_at is None:
            return False
        try:
            await self._read(audience, since=audience.high_water)
        except NotFoundError as error:
            raise AudienceGoneError from error
        await self._move_mark(audience, full=False)
        return True

    async def changes_only(self, audience: AudienceState) -> None:
        """A short look before archiving: only what changed since the mark."""
        if audience.high_water is not None:
            try:
                await self._read(audience, since=audience.high_water)
            except NotFoundError as error:
                raise AudienceGoneError from error

    async def _pull_all(self, audience: AudienceState) -> None:
        started, position = await self._begin_full(audience.id)
        generation = int(started.timestamp() * 1000)
        unreadable = await self._read(audience, since=position, generation=generation)
        # whether the plain listing holds archived members is unknown until the account was asked (MC 4.6)
        if not audience.capabilities.plain_listing_has_archived:
            unreadable += await self._read(
                audience, since=None, status="archived", generation=generation
            )
        if unreadable:
            # nobody knows whose rows these are: a member that was not seen may be one of them
            _log.warning("members_unreadable", audience=str(audience.id), rows=unreadable)
        else:
            async with self._db.transaction(self._actor.org_id) as session:
                await mirror.drop_unseen(session, audience.id, generation, started_at=started)
        await self._check_tags(audience)
        await self._move_mark(audience, full=True)

    async def _begin_full(self, audience_id: UUID) -> tuple[datetime, datetime | None]:
        """When the full pull began and where it goes on: one that was cut off today is not begun anew."""
        async with self._db.transaction(self._actor.org_id) as session:
            row = (
                await session.execute(
                    text(
                        """update audiences set
                               full_pull_to = case when full_pull_from > :stale then full_pull_to end,
                               full_pull_from = case when full_pull_from > :stale then full_pull_from
                                                     else :now end
                           where id = :audience returning full_pull_from, full_pull_to"""
                    ),
                    {"audience": audience_id, "now": self._clock(), "stale": self._clock() - _DAY},
                )
            ).one()
        return row.full_pull_from, row.full_pull_to

    async def _keep(
        self, session: AsyncSession, audience_id: UUID, last: datetime, *, full: bool
    ) -> None:
        """What was read stays read, oldest changes first: a pull that is cut off goes on from here."""
        column, begun = ("full_pull_to", "full_pull_from") if full else ("high_water", "high_water")
        upto = last - _SECOND if full else self._mark_after(last)
        await session.execute(
            text(
                f"update audiences set {column} = greatest({column}, :upto)"
                f" where id = :audience and {begun} is not null"
            ),
            {"audience": audience_id, "upto": upto},
        )

    async def _read(
        self,
        audience: AudienceState,
        *,
        since: datetime | None,
        status: str | None = None,
        generation: int | None = None,
        tags: Mapping[int, UUID] | None = None,
    ) -> int:
        """Brings pages into the mirror; answers how many of their rows could not be read.

        ``tags``: those of our segments whose carriers are compared.
        """
        fields = (*mirror.FIELDS, "tags", "tags_count") if tags else mirror.FIELDS
        pages = iterate_members(
            self._client, audience.list_id, since=since, status=status, fields=fields
        )
        began = time.monotonic()
        unreadable = 0
        async for page in pages:
            self._asked = self._asked or self._server_time_at(began)
            unreadable += page.members.unreadable
            await self._check()
            async with self._db.transaction(self._actor.org_id) as session:
                await merge_and_record(
                    session, self._actor, audience.id, page.members, self._hash_keys
                )
                if generation is not None:
                    hashes = [mirror.member_hash(m) for m in page.members]
                    await mirror.mark_seen(session, audience.id, hashes, generation)
                if tags:
                    await lost_tags.forget(session, audience.id, tags, page.members)
                last = page.members[-1].last_changed if page.members else None
                if generation is not None and unreadable:
                    last = None  # a full pull that goes on later meets the unreadable rows again
                if last is not None and status is None and not self._is_ahead(last):
                    await self._keep(session, audience.id, last, full=generation is not None)
            for member in page.members:
                changed = member.last_changed
                if changed and not self._is_ahead(changed):
                    self._newest = max(changed, self._newest or changed)
        self._asked = self._asked or self._server_time_at(began)
        return unreadable

    def _is_ahead(self, changed: datetime) -> bool:
        """Whether a change lies in Mailchimp's own future: it must not move the mark past the present."""
        return self._asked is not None and changed > self._asked + _DAY

    def _server_time_at(self, began: float) -> datetime | None:
        """What Mailchimp's clock said when ``began`` was now, or a little less."""
        now = self._client.server_time
        return now and now - timedelta(seconds=time.monotonic() - began)

    async def _differing(self, audience: AudienceState) -> set[str]:
        differing = set()
        for status in mirror.STATUSES:
            there = await self._client.count_members(audience.list_id, status=status)
            async with self._db.transaction(self._actor.org_id) as session:
                here = (await mirror.status_counts(session, audience.id)).get(status, 0)
            if there != here:
                differing.add(status)
        return differing

    async def _tags(self, audience: AudienceState) -> dict[int, UUID]:
        """The audience's tags of ours: id to segment."""
        async with self._db.transaction(self._actor.org_id) as session:
            return await lost_tags.ours(session, audience.id)

    async def _check_tags(self, audience: AudienceState) -> None:
        """A full pull also asks who carries our tags: a tag counts as present once pushed, until here."""
        tags = await self._tags(audience)
        for tag_id, segment_id in tags.items():
            carriers = await self._carriers(audience.list_id, tag_id)
            if carriers is None:
                continue
            async with self._db.transaction(self._actor.org_id) as session:
                # members in other states keep their tags, but may not be listed here
                await session.execute(
                    text(
                        """delete from segment_members t where t.segment_id = :segment
                             and t.audience_id = :audience
                             and not t.address_hash = any(cast(:hashes as uuid[]))
                             and exists (select from audience_members m
                                         where m.audience_id = t.audience_id
                                           and m.address_hash = t.address_hash
                                           and m.status = 'subscribed')"""
                    ),
                    {"segment": segment_id, "audience": audience.id, "hashes": carriers},
                )
        if tags:
            async with self._db.transaction(self._actor.org_id) as session:
                await touch_definition(session, audience.id)

    async def _carriers(self, list_id: str, tag_id: int) -> list[UUID] | None:
        """Who carries a tag; None where a row could not be read, so that nobody knows who does not."""
        found: list[UUID] = []
        passed = 0
        while True:
            await self._check()
            try:
                page = await self._client.tag_members_page(
                    list_id, tag_id, count=1000, offset=passed
                )
            except NotFoundError:
                return []
            if not page.members.complete:
                return None
            found += [mirror.member_hash(m) for m in page.members]
            passed += page.members.raw
            if not page.members or passed >= (page.total_items or 0):
                return found

    async def _move_mark(self, audience: AudienceState, *, full: bool) -> None:
        async with self._db.transaction(self._actor.org_id) as session:
            await session.execute(
                text(
                    """update audiences set high_water = greatest(high_water, :mark), gone_at = null,
                           full_pull_from = null, full_pull_to = null,
                           full_pull_at = case when :full then now() else full_pull_at end
                       where id = :audience
                         -- a reconnect meanwhile asks for a full pull, which must not be forgotten
                         and (:full or high_water is not null)"""
                ),
                {"audience": audience.id, "mark": self._mark(audience.high_water), "full": full},
            )

    def _mark(self, known: datetime | None) -> datetime | None:
        if self._newest is not None:
            return self._mark_after(self._newest)
        overlap = timedelta(seconds=self._settings.pull_overlap_seconds)
        # an empty audience still gets a mark, so that the next pull is a short one
        return None if known else (self._asked or self._clock()) - overlap

    def _mark_after(self, newest: datetime) -> datetime:
        overlap = timedelta(seconds=self._settings.pull_overlap_seconds)
        return mark_after(newest, self._asked, overlap=overlap)


def mark_after(newest: datetime, asked: datetime | None, *, overlap: timedelta) -> datetime:
    """Up to where everything has been read, given the newest change that was.

    A change may be listed up to ``overlap`` after the moment it carries. So a pull that began (``asked``,
    by Mailchimp's clock) later than that knows all but the newest second, which may not have been over:
    the members of a fast push are not read again for ever.
    """
    settled = min(newest, asked - overlap) if asked else newest - overlap
    return min(max(settled, newest - overlap), newest - _SECOND)


async def audience_state(session: AsyncSession, audience_id: UUID) -> AudienceState:
    """Reads what a pull needs."""
    row = (
        await session.execute(
            text(
                "select id, list_id, high_water, full_pull_at, account_id from audiences"
                " where id = :audience"
            ),
            {"audience": audience_id},
        )
    ).one()
    able = await capabilities.known(session, row.account_id)
    return AudienceState(row.id, row.list_id, row.high_water, row.full_pull_at, able)
