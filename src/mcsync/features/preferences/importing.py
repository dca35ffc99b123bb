"""preferences.import: statements of consent about contacts that are known, from a file of any size."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Final
from uuid import UUID

import structlog
from sqlalchemy.ext.asyncio import AsyncSession
from uuid6 import uuid7

from mcsync.core.auth import Actor
from mcsync.core.errors import NotFoundError
from mcsync.core.resources import Resources
from mcsync.core.web.paging import PageParams, encode_cursor
from mcsync.features import audit
from mcsync.features.audit import AuditAction
from mcsync.features.contacts import repository as imports
from mcsync.features.contacts import staging
from mcsync.features.contacts.consent import ConsentCounts
from mcsync.features.contacts.files import opened
from mcsync.features.contacts.intake.addresses import Addresses
from mcsync.features.contacts.intake.columns import Choice, Columns
from mcsync.features.contacts.intake.times import zone_of
from mcsync.features.contacts.schemas import MAX_REPORTED
from mcsync.features.contacts.service import reported_line
from mcsync.features.preferences import repository
from mcsync.features.preferences.intake import FIELDS, STATEMENTS, StatementStager
from mcsync.features.preferences.schemas import PreferenceImportReport, PreferenceImportResult
from mcsync.features.preferences.service import PreferencesConsentSink

_AS_IT_IS: Final = Choice()
_log = structlog.get_logger(__name__)

_CHANNEL: Final = "preferences.import"
_OURS: Final = "preferences/"
"""Before the kind of a stored report, which tells it from those of contacts.import."""


async def import_file(
    resources: Resources,
    actor: Actor,
    body: AsyncIterator[bytes],
    content_type: str,
    *,
    confirm_withdrawals: bool = False,
    choice: Choice = _AS_IT_IS,
    time_zone: str | None = None,
) -> PreferenceImportResult:
    """Takes a file of any size, all of it or nothing; memory does not grow with it.

    ``choice``: what the caller says about the columns. ``time_zone``: of the times of consent that name none.
    Raises UnsupportedMediaError, BadRequestError for a file that cannot be read at all or a zone that is none,
    TooLargeError for a workbook, and ConflictError (``confirm_withdrawals``). Whatever is wrong with single
    rows is in the answer.
    """
    columns = Columns.of(choice, FIELDS, attributes=False)
    zone = zone_of(time_zone)
    file = await opened(body, content_type)
    import_id = uuid7()
    async with resources.db.transaction(actor.org_id) as session:
        stager = StatementStager(
            Addresses(await resources.hash_keys.hash_key(session)),
            resources.clock,
            entity_keys=True,
            zone=zone,
        )
        intake = file.intake(STATEMENTS, stager, columns)
        await staging.create(session)
        await staging.copy(session, file.lines(intake))
        consent = await _record(
            resources, session, actor, import_id, intake.received,
            confirm_withdrawals=confirm_withdrawals,
        )  # fmt: skip
        rejected = await staging.refused(session)
        counts = {
            "received": intake.received,
            "opted_in": consent.opted_in,
            "opted_out": consent.opted_out,
            "unset": consent.unset,
            "unchanged": intake.received - rejected - consent.opted_in - consent.opted_out
            - consent.unset - consent.not_newer + consent.of_refused,
            "not_newer": consent.not_newer,
            "rejected": rejected,
        }  # fmt: skip
        imports.add_report(session, import_id, _OURS + intake.kind, counts)
        reported = await staging.keep_report(session, import_id, most=MAX_REPORTED)
        audit.record(
            session, actor, AuditAction.PREFERENCES_IMPORT, entity="preference_import",
            entity_id=import_id, diff=dict(counts),
        )  # fmt: skip
    _log.info(
        "preferences_imported", org=str(actor.org_id), import_id=str(import_id), kind=intake.kind,
        **counts,
    )  # fmt: skip
    return PreferenceImportResult(
        id=import_id,
        **counts,
        rejections=[reported_line(row) for row in reported],
        report=f"/mailchimp/preferences/getImport?id={import_id}",
    )


async def _record(
    resources: Resources, session: AsyncSession, actor: Actor, import_id: UUID, received: int, *,
    confirm_withdrawals: bool,
) -> ConsentCounts:  # fmt: skip
    """What is staged becomes consent, by the same statements as that of contacts.import."""
    await staging.prepare(session, received)
    await staging.lock_merge(session)
    await staging.refuse_suppressed(session)
    await repository.find_contacts(session, staging.STAGED)
    await staging.refuse_duplicates(session)
    sink = PreferencesConsentSink(resources, actor, own_proof=True)
    if not confirm_withdrawals:
        await sink.guard_withdrawals(session, staging.STAGED, channel=_CHANNEL)
    return await sink.apply_staged(
        session, staging.STAGED, channel=_CHANNEL, default_source="import",
        proof={"importId": str(import_id)},
    )  # fmt: skip


async def get_import(
    resources: Resources, actor: Actor, import_id: UUID, page: PageParams
) -> PreferenceImportReport:
    """The report of an import, with a page of what was rejected. Raises NotFoundError."""
    async with resources.db.transaction(actor.org_id) as session:
        report = await imports.report(session, import_id)
        if report is None or not report.kind.startswith(_OURS):
            message = "No import of preferences of this organisation has this id."
            raise NotFoundError(message)
        rows = await imports.rejections(
            session, import_id, after=page.after(int, str), limit=page.limit + 1
        )
    more = len(rows) > page.limit
    rows = rows[: page.limit]
    return PreferenceImportReport(
        id=report.id,
        **report.counts,
        kind=report.kind.removeprefix(_OURS),
        created_at=report.created_at,
        items=[reported_line(row) for row in rows],
        next_cursor=encode_cursor(rows[-1].line, rows[-1].field) if more else None,
    )
