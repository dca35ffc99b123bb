"""Working off the inbox: every event is only a hint to read the member at Mailchimp.

So late, doubled, forged events and any order of them end in what Mailchimp itself says. What a read
brings is merged and recorded as a pull does it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import Final
from uuid import UUID

import structlog
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from mcsync.core.auth import Actor
from mcsync.core.errors import ConflictError, UpstreamRefusedError
from mcsync.core.jobs import WEBHOOK, kept_alive
from mcsync.core.resources import Resources
from mcsync.features.audiences import mirror
from mcsync.features.connection import service as connection
from mcsync.features.sync.pull import (
    AudienceGoneError,
    AudienceState,
    Pull,
    audience_state,
    merge_and_record,
)
from mcsync.features.webhooks import inbox, repository
from mcsync.features.webhooks.inbox import Event
from mcsync.mailchimp import (
    Lane,
    MailchimpClient,
    MailchimpError,
    Member,
    NotFoundError,
    TransientError,
)

_log = structlog.get_logger(__name__)

ALONE: Final = 25
"""Up to so many addresses are read one by one; more are found by one pull of what changed."""
_MOST: Final = 10_000
_PAUSE_SECONDS: Final = 1.0
"""After a burst: what arrives meanwhile is found by one pull more, not by one for each handful."""
_LEASE_SECONDS: Final = 30
_DOUBTS: Final = 4
"""A member that an event says is gone, but that Mailchimp shows unchanged, is read so often."""
_LEAVING: Final = ("unsubscribe", "cleaned", "upemail")
_LIVE_RUN = """
select exists (select from sync_runs where audience_id = :audience and not dry_run and not immediate
               and status in ('pulling', 'planning', 'pushing'))
"""


async def work_off(resources: Resources, org_id: UUID, audience_id: UUID) -> int:
    """Works on the audience's due events; answers how many. Harmless when done twice."""
    worked = 0
    while True:
        async with resources.db.transaction(org_id) as session:
            events = await inbox.claim_events(
                session, audience_id, most=_MOST, lease_seconds=_LEASE_SECONDS
            )
        if not events:
            return worked
        worked += len(events)
        await _Work(resources, org_id, audience_id).holding(events)
        if len(events) > ALONE:
            await asyncio.sleep(_PAUSE_SECONDS)


@dataclass(slots=True)
class _Group:
    """What was posted about one address."""

    address_hash: UUID
    events: list[Event]

    @property
    def addresses(self) -> dict[UUID, str | None]:
        """The members to read: after a change of address the new one first."""
        found: dict[UUID, str | None] = {}
        for event in self.events:
            if event.new_hash is not None:
                found[event.new_hash] = event.new_email
        for event in self.events:
            found |= event.members
        return found

    def named(self, found: Mapping[UUID, Member]) -> Member | None:
        """Of the members read, the one that the posts are about, whichever spelling it has."""
        known = (hash_ for event in self.events for hash_ in event.members)
        return next((found[hash_] for hash_ in known if hash_ in found), None)


def _groups(events: Iterable[Event]) -> list[_Group]:
    groups: dict[UUID, _Group] = {}
    for event in events:
        groups.setdefault(event.address_hash, _Group(event.address_hash, [])).events.append(event)
    return list(groups.values())


class _Work:
    """One worker's hold on some events of one audience."""

    def __init__(self, resources: Resources, org_id: UUID, audience_id: UUID) -> None:
        self._resources = resources
        self._db = resources.db
        self._audience_id = audience_id
        self._actor = Actor.system(org_id, WEBHOOK)

    async def holding(self, events: Sequence[Event]) -> None:
        """Works on the events while nobody else does. Raises what nobody expects; they are tried again."""

        async def renew() -> None:
            async with self._db.transaction(self._actor.org_id, vital=True) as session:
                await inbox.renew_events(session, events, lease_seconds=_LEASE_SECONDS)

        async with kept_alive(renew, lease_seconds=_LEASE_SECONDS, audience=str(self._audience_id)):
            try:
                await self.on(events)
            except Exception as error:
                await self._later(events, type(error).__name__, first=2, most=300)
                raise

    async def on(self, events: Sequence[Event]) -> None:
        """Works on the events; whatever fails is tried again later."""
        try:
            async with connection.calling(
                self._resources, self._actor.org_id, lane=Lane.LIVE
            ) as link:
                async with self._transaction() as session:
                    account = await session.scalar(
                        text("select account_id from audiences where id = :audience"),
                        {"audience": self._audience_id},
                    )
                    state = await audience_state(session, self._audience_id)
                if link.account_id != account:
                    raise ConflictError("Another account is connected.", code="not_connected")
                await self._read(link.client, state, events)
        except AudienceGoneError:
            async with self._transaction() as session:
                await repository.mark_gone(session, self._audience_id)
                await inbox.finish_events(session, self._audience_id, events, "audience_gone")
        except ConflictError as error:
            if error.code == "not_connected":
                # connecting again begins with a full pull
                await self._finish(events, "not_connected")
            else:
                await self._later(events, error.code, first=60, most=900)
        except UpstreamRefusedError as error:
            await self._later(events, error.code, first=60, most=900)
        except MailchimpError as error:
            _log.info("webhook_events_delayed", error=type(error).__name__, status=error.status)
            await self._later(events, type(error).__name__, first=2, most=300)

    async def _read(
        self, client: MailchimpClient, state: AudienceState, events: Sequence[Event]
    ) -> None:
        groups = _groups(events)
        if len(groups) > ALONE and state.high_water is not None:
            await self._pull(client, state)
            async with self._transaction() as session:
                doubtful = await inbox.contradicted(session, self._audience_id, events)
                sure = [event for event in events if event.id not in doubtful]
                await inbox.finish_events(session, self._audience_id, sure, "pulled")
            groups = _groups(event for event in events if event.id in doubtful)
        for group in groups:
            await self._read_one(client, state, group)

    async def _pull(self, client: MailchimpClient, state: AudienceState) -> None:
        pull = Pull(self._resources, self._actor, client, check=_go_on)
        async with self._transaction() as session:
            running = await session.scalar(text(_LIVE_RUN), {"audience": self._audience_id})
        if running:
            await pull.changes_only(state)  # the mark is the run's
        else:
            await pull.catch_up(state)

    async def _read_one(self, client: MailchimpClient, state: AudienceState, group: _Group) -> None:
        found: dict[UUID, Member] = {}
        missing: dict[UUID, str | None] = {}
        for address_hash, email in group.addresses.items():
            member = await self._find(client, state.list_id, address_hash, email)
            if member is None:
                missing[address_hash] = email
            else:
                found[address_hash] = member
        if found:
            async with self._transaction() as session:
                await merge_and_record(
                    session, self._actor, self._audience_id, list(found.values()),
                    self._resources.hash_keys,
                )  # fmt: skip
        absent = await self._really_absent(client, state, missing) if missing else []
        async with self._transaction() as session:
            if absent:
                await mirror.mark_absent(session, self._audience_id, absent)
            about = group.named(found)
            doubted = [e for e in group.events if about is not None and _doubtful(e, about)]
            again = [e for e in doubted if e.attempts < _DOUBTS]
            done = [e for e in group.events if e not in again]
            if again:
                await inbox.postpone_events(session, again, "not_visible_yet", first=2, most=60)
            outcome = "contradicted" if doubted else "absent" if about is None else "read"
            await inbox.finish_events(session, self._audience_id, done, outcome)

    @staticmethod
    async def _find(
        client: MailchimpClient, list_id: str, address_hash: UUID, email: str | None
    ) -> Member | None:
        member = await client.find_member(list_id, address_hash.hex)
        if member is None and email is not None and not email.isascii():
            # which lower case Mailchimp hashes is not known beyond ASCII (MC 4.1)
            member = await client.find_member(list_id, email)
        if member is not None and not member.identified:
            message = "an answer without address or status"
            raise TransientError(message)
        return member

    async def _really_absent(
        self, client: MailchimpClient, state: AudienceState, missing: dict[UUID, str | None]
    ) -> list[UUID]:
        """Of addresses answered 404, those that the mirror shows and that are really gone.

        First what changed is pulled, so that a person who has another address by now moves there; it also
        proves that the list is there. Raises :class:`AudienceGoneError`.
        """
        if not await self._known(missing):
            return []
        if state.high_water is not None:
            await self._pull(client, state)
        else:
            try:
                await client.count_members(state.list_id)
            except NotFoundError as error:
                raise AudienceGoneError from error
        return [
            address_hash
            for address_hash in await self._known(missing)
            if await self._find(client, state.list_id, address_hash, missing[address_hash]) is None
        ]

    async def _known(self, hashes: Iterable[UUID]) -> list[UUID]:
        async with self._transaction() as session:
            return await inbox.known_hashes(session, self._audience_id, list(hashes))

    async def _finish(self, events: Sequence[Event], outcome: str) -> None:
        async with self._transaction() as session:
            await inbox.finish_events(session, self._audience_id, events, outcome)

    async def _later(
        self, events: Sequence[Event], error: str, *, first: float, most: float
    ) -> None:
        async with self._transaction() as session:
            await inbox.postpone_events(session, events, error, first=first, most=most)

    def _transaction(self) -> AbstractAsyncContextManager[AsyncSession]:
        return self._db.transaction(self._actor.org_id)


def _doubtful(event: Event, member: Member) -> bool:
    """Whether the event says that somebody left, and what was read is older than the event."""
    if event.type not in _LEAVING or member.status not in ("subscribed", "pending"):
        return False
    if member.last_changed is None or event.fired_at is None:
        return True
    return member.last_changed < event.fired_at


async def _go_on() -> None:
    """Nothing ends this pull before its time."""
