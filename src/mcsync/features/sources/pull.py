"""One pull: the source's rows into staging, one merge, then whatever the mode asks for.

The source is read in one session that sees one moment of it, some hundred rows at a time. What is
stored, the watermark and the report are one transaction of ours; a queue is acknowledged after it.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AsyncExitStack
from dataclasses import asdict, dataclass, field
from typing import Any, Final
from uuid import UUID

from sqlalchemy.ext.asyncio import AsyncSession
from uuid6 import uuid7

from mcsync.core.auth import Actor
from mcsync.core.crypto import SecretError
from mcsync.core.resources import Resources
from mcsync.features import audit
from mcsync.features.audit import AuditAction
from mcsync.features.contacts import repository as contacts_repository
from mcsync.features.contacts import service as contacts
from mcsync.features.contacts import staging
from mcsync.features.contacts.intake.times import zone_of
from mcsync.features.contacts.schemas import MAX_REPORTED
from mcsync.features.preferences.service import PreferencesConsentSink
from mcsync.features.sources import drivers, repository, statements, values
from mcsync.features.sources.errors import SourceError
from mcsync.features.sources.mapping import Plan, SourceIntake, lay_over
from mcsync.features.sources.models import Source
from mcsync.features.sources.pulls import Wish
from mcsync.features.sources.spool import KeySpool

_BATCH: Final = 500
"""Rows in memory at a time: some milliseconds of the event loop."""
_ACKNOWLEDGED_AT_ONCE: Final = 1_000


@dataclass(slots=True)
class Outcome:
    """What became of a pull. ``status`` is that of its row."""

    status: str
    report: dict[str, Any]
    import_id: UUID
    error: dict[str, str] | None = None
    rejections: list[staging.Reported] = field(default_factory=list)
    ignored: tuple[str, ...] = ()
    sample: list[dict[str, Any]] = field(default_factory=list)


Record = Callable[[AsyncSession, Outcome], Awaitable[None]]
"""Writes the outcome, in the transaction that stores the contacts."""


class _OnlyTried(Exception):
    """Takes back everything that a dry run did."""


def url_context(org_id: UUID, source_id: UUID) -> str:
    """Where a source's URL is sealed for."""
    return f"org:{org_id}|source_url|{source_id}"


def open_url(resources: Resources, source: Source) -> drivers.SourceUrl:
    """The source's URL. Raises ``SourceError`` where it cannot be opened with the keys at hand."""
    try:
        raw = resources.keys.open(source.url or "", context=url_context(source.org_id, source.id))
    except SecretError:
        raise SourceError(
            "source_url_unreadable",
            "The stored connection URL cannot be opened with the configured master keys.",
        ) from None
    return drivers.read_url(raw)


class Pull:
    """One pull of one source by one worker (or a dry run by an operator)."""

    def __init__(self, resources: Resources, actor: Actor, source: Source, wish: Wish) -> None:
        self._resources = resources
        self._actor = actor
        self._source = source
        self._wish = wish
        self._keys = KeySpool() if source.mode == "queue" else None
        self._highest = values.Highest()

    # ------------------------------------------------------------------------- the whole of it

    async def carry_out(self, record: Record) -> Outcome:
        """Stores what the source has; ``record`` joins the transaction.

        Raises ``SourceError``, and ConflictError (``confirm_withdrawals``, ``erased_meanwhile``).
        """
        async with (
            self._reading() as (reader, plan, clock),
            self._resources.db.transaction(self._actor.org_id) as session,
        ):
            return await self._store(session, reader, plan, clock, record)

    async def try_out(self, *, most: int, shown: int) -> Outcome:
        """The same with the first ``most`` rows, and everything taken back at the end."""
        outcome: Outcome | None = None

        async def keep(_: AsyncSession, found: Outcome) -> None:
            nonlocal outcome
            outcome = found
            raise _OnlyTried

        try:
            async with (
                self._reading() as (reader, plan, clock),
                self._resources.db.transaction(self._actor.org_id) as session,
            ):
                await self._store(session, reader, plan, clock, keep, most=most, shown=shown)
        except _OnlyTried:
            pass
        assert outcome is not None
        return outcome

    def close(self) -> None:
        """Forgets the queue's keys."""
        if self._keys is not None:
            self._keys.close()

    # ------------------------------------------------------------------------------ the reading

    def _reading(self) -> _Reading:
        return _Reading(self._resources, self._source, self._wish)

    async def _lines(
        self, reading: _Session, intake: SourceIntake, *, most: int | None, sample: _Sample | None
    ) -> AsyncIterator[bytes]:
        while most is None or intake.received < most:
            wanted = _BATCH if most is None else min(_BATCH, most - intake.received)
            rows = await reading.reader.fetch(wanted)
            if not rows:
                return
            if reading.internal is not None:
                self._note(rows, reading.internal, intake.received + 1)
            if sample is not None:
                sample.take(intake, rows)
            yield intake.stage(rows)
            await asyncio.sleep(0)  # other work of this process gets its turn

    def _note(self, rows: drivers.Rows, place: int, line: int) -> None:
        """Remembers the highest watermark, or every queue row's key."""
        if self._keys is None:
            for row in rows:
                self._highest.note(row[place])
            return
        try:
            for number, row in enumerate(rows, line):
                key = row[place]
                # a row whose key cannot be read is stored, and stays in the queue
                if key is not None and not isinstance(key, values.Unreadable):
                    self._keys.add(number, key)
        except TypeError:
            raise _wrong_column("queue key") from None

    # ------------------------------------------------------------------------------ the storing

    async def _store(
        self, session: AsyncSession, reading: _Session, plan: Plan, clock: values.Clock,
        record: Record, *, most: int | None = None, shown: int = 0,
    ) -> Outcome:  # fmt: skip
        source, dry = self._source, most is not None
        import_id = uuid7()
        stager = await contacts.row_stager(self._resources, session, zone_of(source.time_zone))
        intake = SourceIntake(stager, plan, remember=source.snapshot)
        sample = _Sample(shown) if shown else None
        await staging.create(session)
        await staging.copy(session, self._lines(reading, intake, most=most, sample=sample))
        await reading.end()
        superseded = await repository.drop_superseded(session) if self._keys is not None else 0
        sink = PreferencesConsentSink(self._resources, self._actor)
        counted, consent = await contacts.take(
            session, intake, stager, sink, confirm_withdrawals=self._wish.confirm_withdrawals or dry,
            channel=f"source:{source.id}", source=f"source:{source.name}",
            proof={"sourceId": str(source.id), "importId": str(import_id)}, source_id=source.id,
        )  # fmt: skip
        counts = asdict(counted)
        # a queue's older rows about a person change nothing: the newer one says it all
        counts["unchanged"] += superseded
        report = {**contacts.consent_diff(counted, consent), **counts}
        outcome = Outcome(
            "succeeded_with_errors" if counted.rejected or stager.reported else "succeeded",
            report, import_id, ignored=plan.ignored, sample=sample.rows if sample else [],
        )  # fmt: skip
        if source.snapshot and not dry:
            await self._let_leave(session, intake, outcome)
        if dry:
            outcome.rejections = await staging.first_reported(session, most=MAX_REPORTED)
        else:
            contacts_repository.add_report(
                session, import_id, contacts.PULLED, counts | {"consent": asdict(consent)}
            )
            outcome.rejections = await staging.keep_report(session, import_id, most=MAX_REPORTED)
            await self._advance(session, clock)
            audit.record(
                session, self._actor, AuditAction.SOURCES_FINISH, entity="source",
                entity_id=source.id, diff={**report, "status": outcome.status},
            )  # fmt: skip
        await record(session, outcome)
        return outcome

    async def _let_leave(
        self, session: AsyncSession, intake: SourceIntake, outcome: Outcome
    ) -> None:
        """Contacts of this source that a whole pull did not bring are marked left, under the guard."""
        settings = self._resources.settings
        found = await repository.find_absent(session, self._source.id, intake.refused)
        report = outcome.report
        report["absent"], report["left"] = found.absent, 0
        if not found.absent:
            return
        limit = max(
            settings.guard_removals_min, int(settings.guard_removals_share * found.contacts)
        )
        if intake.unknown:
            outcome.status = "succeeded_with_errors"
            outcome.error = {
                "code": "unknown_rows",
                "message": f"{intake.unknown} rows could not be told to be anybody's, so nobody was"
                " marked left. Leave such rows out of the query.",
            }
        elif not self._wish.confirm_deletions and (
            found.absent > limit or report["received"] == report["rejected"]
        ):
            outcome.status = "approval_needed"
            outcome.error = {
                "code": "approval_needed",
                "message": f"{found.absent} of {found.contacts} contacts of this source are missing"
                f" from it, more than {limit}, or nothing came at all. Nobody was marked left; if it"
                " is right, pull again with confirmDeletions.",
            }
        else:
            report["left"] = await repository.mark_absent_left(session)

    async def _advance(self, session: AsyncSession, clock: values.Clock) -> None:
        """Moves the watermark on, never back, and never ahead of the source's present."""
        if self._source.mode != "watermark":
            return
        before = values.unpack(self._source.watermark) if self._source.watermark else None
        try:
            highest = self._highest.reached(None if self._wish.from_start else before)
            if highest is None:
                return
            reached = values.not_ahead(highest, clock)
            if before is not None and values.kind_of(before) == values.kind_of(reached):
                reached = max(before, reached)
            packed = values.pack(reached)
        except (TypeError, ValueError):
            raise _wrong_column("watermark") from None
        await repository.move_watermark(session, self._source.id, packed)

    # ------------------------------------------------------------------------ the acknowledging

    async def acknowledge(self, import_id: UUID) -> int:
        """Tells the source which queue rows are stored; those refused stay. Raises ``SourceError``.

        A crash before or in between costs nothing: the rows are read and found unchanged again.
        """
        if self._keys is None or not self._keys.rows or not self._source.acknowledge:
            return 0
        done = 0
        url = open_url(self._resources, self._source)
        async with drivers.acknowledging(
            url, self._source.acknowledge, seconds=self._source.timeout_seconds
        ) as session:
            for batch in self._keys.batches(_ACKNOWLEDGED_AT_ONCE):
                async with self._resources.db.transaction(self._actor.org_id) as ours:
                    refused = await contacts_repository.refused_lines(
                        ours, import_id, first=batch[0][0], last=batch[-1][0]
                    )
                keys = [key for line, key in batch if line not in refused]
                await session.acknowledge(keys)
                done += len(keys)
        return done


class _Sample:
    """The first rows as they were mapped, for an operator's eyes."""

    def __init__(self, most: int) -> None:
        self._most = most
        self.rows: list[dict[str, Any]] = []

    def take(self, intake: SourceIntake, rows: drivers.Rows) -> None:
        for row in rows[: self._most - len(self.rows)]:
            fields, attributes, _ = intake.read(row)
            shown = {name: _shown(value) for name, value in attributes.items()}
            self.rows.append({**fields, **({"attributes": shown} if shown else {})})


def _shown(value: object) -> object:
    """An attribute as an operator sees it; of one that is refused no more than that."""
    return value if value is None or isinstance(value, str | bool | int | float) else "(unreadable)"


@dataclass(slots=True)
class _Session:
    """A statement under way at the source. ``internal``: the place of the watermark or queue key."""

    reader: drivers.Reader
    internal: int | None
    stack: AsyncExitStack

    async def end(self) -> None:
        """Lets go of the source: the merge does not need it."""
        await self.stack.aclose()


class _Reading:
    """Opens the source, begins the query, and lays the mapping over its columns."""

    def __init__(self, resources: Resources, source: Source, wish: Wish) -> None:
        self._resources = resources
        self._source = source
        self._wish = wish
        self._stack = AsyncExitStack()

    async def __aenter__(self) -> tuple[_Session, Plan, values.Clock]:
        try:
            return await self._open()
        except BaseException:
            await self._stack.aclose()
            raise

    async def __aexit__(self, *_: object) -> None:
        await self._stack.aclose()

    async def _open(self) -> tuple[_Session, Plan, values.Clock]:
        source = self._source
        url = open_url(self._resources, source)
        reader = await self._stack.enter_async_context(
            drivers.reading(url, seconds=source.timeout_seconds)
        )
        clock = await reader.clock()
        statement, parameters = self._statement(url)
        columns = await reader.open(statement, *parameters)
        internal = _place(columns, source.watermark_column or source.key_column)
        names = {source.watermark_column, source.key_column} - {None}
        plan = lay_over(source.mapping, columns, frozenset(name.lower() for name in names if name))
        return _Session(reader, internal, self._stack), plan, clock

    def _statement(self, url: drivers.SourceUrl) -> tuple[str, tuple[Any, ...]]:
        source = self._source
        if source.mode == "queue" and source.key_column:
            return statements.newest_first(source.query, url.kind, source.key_column), ()
        if self._wish.from_start or not source.watermark_column or not source.watermark:
            return source.query, ()
        begin = values.less(values.unpack(source.watermark), source.overlap)
        place = drivers.PLACES[url.kind]
        wrapped = statements.since(source.query, url.kind, source.watermark_column, place)
        return wrapped, (begin,)


def _wrong_column(what: str) -> SourceError:
    return SourceError(
        "source_column_wrong", f"The {what}'s column holds values that cannot be compared or kept."
    )


def _place(columns: Sequence[str], wanted: str | None) -> int | None:
    if wanted is None:
        return None
    if wanted not in columns:
        raise SourceError(
            "source_mapping_wrong",
            f"The query has no column {wanted}. Names are compared exactly; give it an alias.",
        )
    return columns.index(wanted)
