"""The rules of sources: operators set them up, owners pull them, everybody may see how it went."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Final
from uuid import UUID

from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncSession
from uuid6 import uuid7

from mcsync.core.auth import Actor
from mcsync.core.db import after_commit
from mcsync.core.errors import (
    BadRequestError,
    ConflictError,
    McsyncError,
    NotFoundError,
    UnavailableError,
)
from mcsync.core.jobs import SOURCE_PULL
from mcsync.core.resources import Resources
from mcsync.core.web.paging import PageParams, encode_cursor
from mcsync.features import audit
from mcsync.features.audit import AuditAction
from mcsync.features.contacts.intake import message_of
from mcsync.features.contacts.intake.times import zone_of
from mcsync.features.sources import drivers, execute, pulls, repository, statements
from mcsync.features.sources.errors import SourceError
from mcsync.features.sources.mapping import checked_mapping
from mcsync.features.sources.models import Source
from mcsync.features.sources.pull import Outcome, Pull, url_context
from mcsync.features.sources.pulls import Wish
from mcsync.features.sources.schemas import (
    PullInput,
    PullPage,
    PullView,
    SourcePage,
    SourceView,
)

TRIED_ROWS: Final = 10_000
"""How many rows a dry run reads, unless told otherwise."""
SHOWN_ROWS: Final = 10
_MODES: Final = ("watermark", "queue", "full")
_WATCH_SECONDS: Final = 0.3


@dataclass(frozen=True, slots=True)
class NewSource:
    """What an operator says of a source. ``overlap``: seconds, or steps of a number. ``time_zone``: of times
    of consent that name none."""

    name: str
    url: str = field(repr=False)
    query: str
    mode: str
    columns: Mapping[str, str]
    constants: Mapping[str, str]
    watermark_column: str | None = None
    overlap: int = 300
    key_column: str | None = None
    acknowledge: str | None = None
    snapshot: bool = False
    timeout_seconds: int = 300
    time_zone: str | None = None


@dataclass(frozen=True, slots=True)
class Trial:
    """What a dry run found. ``sample`` holds people's data: for an operator's eyes."""

    counts: dict[str, Any]
    sample: list[dict[str, Any]]
    rejections: list[dict[str, Any]]
    ignored: tuple[str, ...]


# ------------------------------------------------------------------------------ by operators


async def add(
    resources: Resources, actor: Actor, given: NewSource, *, check: bool = True
) -> SourceView:
    """Sets a source up. With ``check`` it must be readable and its mapping fit.

    Raises BadRequestError (``invalid_source...``, ``unknown_time_zone``, or why it cannot be read), UnavailableError,
    ConflictError (``source_name_taken``).
    """
    source = _described(resources, actor, given)
    async with resources.db.transaction(actor.org_id) as session:
        if await repository.by_name(session, source.name) is not None:
            raise _taken()
    if check:
        await _tried(resources, actor, source, most=SHOWN_ROWS)
    try:
        async with resources.db.transaction(actor.org_id) as session:
            session.add(source)
            await session.flush()
            audit.record(
                session, actor, AuditAction.SOURCES_ADD, entity="source", entity_id=source.id,
                diff={"kind": source.kind, "mode": source.mode, "snapshot": source.snapshot},
            )  # fmt: skip
    except IntegrityError as error:
        raise _taken() from error
    return await get(resources, actor, source.id)


def _taken() -> ConflictError:
    return ConflictError("There is a source of this name already.", code="source_name_taken")


def _described(resources: Resources, actor: Actor, given: NewSource) -> Source:
    """The source as it would be stored, checked as far as reading can."""
    if not given.name.strip() or len(given.name) > 100 or "\0" in given.name:
        raise _invalid("A source's name has 1 to 100 characters.")
    if given.mode not in _MODES:
        raise _invalid("The mode is watermark, queue or full.")
    if (given.mode == "watermark") != bool(given.watermark_column):
        raise _invalid("Mode watermark needs a watermark column, and no other mode takes one.")
    if (given.mode == "queue") != bool(given.key_column and given.acknowledge):
        raise _invalid(
            "Mode queue needs a key column and an acknowledging statement, and no other takes them."
        )
    if given.snapshot and given.mode != "full":
        raise _invalid("Only a full pull can tell who is absent: a snapshot needs the mode full.")
    if not 0 <= given.overlap <= 10**9:
        raise _invalid("The overlap is 0 or more.")
    if not 1 <= given.timeout_seconds <= 3600:
        raise _invalid("The time-out is 1 to 3600 seconds.")
    zone_of(given.time_zone)
    url = drivers.read_url(given.url)
    query = statements.check_query(given.query, url.kind)
    acknowledge = (
        statements.check_acknowledge(given.acknowledge, url.kind) if given.acknowledge else None
    )
    source_id = uuid7()
    return Source(
        id=source_id, org_id=actor.org_id, name=given.name.strip(),
        url=resources.keys.seal(url.raw, context=url_context(actor.org_id, source_id)),
        kind=url.kind, place=url.place, query=query, mode=given.mode,
        watermark_column=given.watermark_column, overlap=given.overlap, key_column=given.key_column,
        acknowledge=acknowledge, mapping=checked_mapping(given.columns, given.constants),
        snapshot=given.snapshot, timeout_seconds=given.timeout_seconds, time_zone=given.time_zone,
    )  # fmt: skip


def _invalid(message: str) -> BadRequestError:
    return BadRequestError(message, code="invalid_source")


async def try_out(
    resources: Resources, actor: Actor, name: str, *, most: int = TRIED_ROWS
) -> Trial:
    """What a pull from the beginning would do with the first ``most`` rows; stores nothing."""
    return await _tried(resources, actor, await find(resources, actor, name), most=most)


async def _tried(resources: Resources, actor: Actor, source: Source, *, most: int) -> Trial:
    pull = Pull(resources, actor, source, Wish(from_start=True))
    try:
        outcome = await pull.try_out(most=most, shown=SHOWN_ROWS)
    except SourceError as error:
        raise _told(error) from None
    finally:
        pull.close()
    return Trial(outcome.report, outcome.sample, _rejections(outcome), outcome.ignored)


def _rejections(outcome: Outcome) -> list[dict[str, Any]]:
    return [
        {"row": one.line, "field": one.field or None, "code": one.code, "taken": one.taken,
         "message": message_of(one.code)}
        for one in outcome.rejections
    ]  # fmt: skip


def _told(error: SourceError) -> McsyncError:
    if error.passing:
        return UnavailableError(error.message, code=error.code, retry_after=30)
    return BadRequestError(error.message, code=error.code)


async def find(resources: Resources, actor: Actor, name: str) -> Source:
    """A live source by name or id. Raises NotFoundError."""
    async with resources.db.transaction(actor.org_id) as session:
        found = await repository.by_name(session, name)
        if found is None:
            try:
                found = await repository.get(session, UUID(name))
            except ValueError:
                found = None
    if found is None:
        raise _unknown()
    return found


async def remove(resources: Resources, actor: Actor, name: str) -> UUID:
    """Ends a source and destroys its credentials. Its contacts stay as they are."""
    source = await find(resources, actor, name)
    async with resources.db.transaction(actor.org_id) as session:
        if await repository.lock(session, source.id) is None:
            raise _unknown()
        await repository.remove(session, source.id)
        audit.record(
            session, actor, AuditAction.SOURCES_REMOVE, entity="source", entity_id=source.id
        )
    return source.id


async def pull_now(
    resources: Resources, actor: Actor, name: str, wish: Wish, *, owner: str
) -> tuple[PullView, list[dict[str, Any]]]:
    """Pulls a source in this process, or watches the worker that was quicker; with the first rejections."""
    source = await find(resources, actor, name)
    async with resources.db.transaction(actor.org_id) as session:
        pull_id = await _asked(session, actor, source.id, wish, trigger="cli")
    await execute.work_on(resources, actor.org_id, pull_id, owner=owner, stopping=asyncio.Event())
    while True:
        view = await get_pull(resources, actor, pull_id)
        if view.status not in pulls.LIVE:
            break
        await asyncio.sleep(_WATCH_SECONDS)
    return view, await _first_rejections(resources, actor, pull_id)


async def _first_rejections(
    resources: Resources, actor: Actor, pull_id: UUID
) -> list[dict[str, Any]]:
    from mcsync.features.contacts import repository as contacts

    async with resources.db.transaction(actor.org_id) as session:
        row = await repository.pull(session, pull_id)
        if row is None or row.import_id is None:
            return []
        found = await contacts.rejections(session, row.import_id, after=None, limit=1_000)
    return [
        {"row": one.line, "field": one.field or None, "code": one.code, "taken": one.taken,
         "message": message_of(one.code)}
        for one in found
    ]  # fmt: skip


async def rewrap_urls(resources: Resources, session: AsyncSession) -> int:
    """Seals every source's URL under the active master key; how many were sealed anew.

    Raises ``SecretError`` where one cannot be opened.
    """
    org_id: UUID = session.info["org_id"]
    renewed = 0
    for source_id, envelope in await repository.envelopes(session):
        fresh = resources.keys.rewrap(envelope, url_context(org_id, source_id))
        if fresh != envelope:
            renewed += await repository.reseal(session, source_id, old=envelope, new=fresh)
    return renewed


async def sealed_urls(session: AsyncSession) -> list[tuple[str, str]]:
    """The envelopes of the organisation's sources, each with where it was sealed for."""
    org_id: UUID = session.info["org_id"]
    return [
        (envelope, url_context(org_id, source_id))
        for source_id, envelope in await repository.envelopes(session)
    ]


# ----------------------------------------------------------------------------------- by all


async def list_sources(resources: Resources, actor: Actor, page: PageParams) -> SourcePage:
    """The organisation's sources, oldest first."""
    position = page.after(UUID)
    async with resources.db.transaction(actor.org_id) as session:
        rows = await repository.page(
            session, after=position[0] if position else None, limit=page.limit + 1
        )
        rows, more = rows[: page.limit], len(rows) > page.limit
        latest = await repository.latest_pulls(session, [row.id for row in rows])
    return SourcePage(
        items=[SourceView.of(row, latest.get(row.id)) for row in rows],
        next_cursor=encode_cursor(rows[-1].id) if more else None,
    )


async def get(resources: Resources, actor: Actor, source_id: UUID) -> SourceView:
    """One source. Raises NotFoundError."""
    async with resources.db.transaction(actor.org_id) as session:
        row = await repository.get(session, source_id)
        if row is None:
            raise _unknown()
        latest = await repository.latest_pulls(session, [row.id])
    return SourceView.of(row, latest.get(row.id))


async def request_pull(resources: Resources, actor: Actor, given: PullInput) -> PullView:
    """Asks for a pull. Raises NotFoundError, ConflictError (``pull_under_way``)."""
    wish = Wish(given.from_start, given.confirm_withdrawals, given.confirm_deletions)
    async with resources.db.transaction(actor.org_id) as session:
        if await repository.lock(session, given.id) is None:
            raise _unknown()
        pull_id = await _asked(session, actor, given.id, wish, trigger="request")
        after_commit(session, partial(resources.jobs.ring, SOURCE_PULL, pull_id, actor.org_id))
        row = await repository.pull(session, pull_id)
    assert row is not None
    return PullView.of(row)


async def _asked(
    session: AsyncSession, actor: Actor, source_id: UUID, wish: Wish, *, trigger: str
) -> UUID:
    pull_id, new = await pulls.create(
        session, source_id, trigger=trigger, wish=wish, request_id=actor.request_id
    )
    if not new and wish:
        raise ConflictError(
            "A pull of this source is under way, and does less than is asked for now.",
            code="pull_under_way",
        )
    audit.record(
        session, actor, AuditAction.SOURCES_PULL, entity="source_pull", entity_id=pull_id,
        diff={
            "trigger": trigger, "fromStart": wish.from_start,
            "confirmWithdrawals": wish.confirm_withdrawals,
            "confirmDeletions": wish.confirm_deletions,
        },
    )  # fmt: skip
    return pull_id


async def get_pull(resources: Resources, actor: Actor, pull_id: UUID) -> PullView:
    """One pull. Raises NotFoundError."""
    async with resources.db.transaction(actor.org_id) as session:
        row = await repository.pull(session, pull_id)
    if row is None:
        raise NotFoundError("No pull of this organisation has this id.")
    return PullView.of(row)


async def list_pulls(
    resources: Resources, actor: Actor, page: PageParams, source_id: UUID | None
) -> PullPage:
    """Pulls, newest first. Raises NotFoundError for a source that is not there."""
    position = page.after(UUID)
    async with resources.db.transaction(actor.org_id) as session:
        if source_id is not None and await repository.get(session, source_id) is None:
            raise _unknown()
        rows = await repository.pull_page(
            session, source_id=source_id, before=position[0] if position else None,
            limit=page.limit + 1,
        )  # fmt: skip
    rows, more = rows[: page.limit], len(rows) > page.limit
    return PullPage(
        items=[PullView.of(row) for row in rows],
        next_cursor=encode_cursor(rows[-1].id) if more else None,
    )


def _unknown() -> NotFoundError:
    return NotFoundError("There is no such source.", code="source_not_found")
