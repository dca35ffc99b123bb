"""The rules of contacts: they come in sets, are keyed by their own system's id, and leave without a loss."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Final
from uuid import UUID
from zoneinfo import ZoneInfo

import structlog
from sqlalchemy.ext.asyncio import AsyncSession
from uuid6 import uuid7

from mcsync.core.auth import Actor
from mcsync.core.errors import (
    ConflictError,
    NotFoundError,
)
from mcsync.core.resources import Resources
from mcsync.core.web.paging import PageParams, encode_cursor
from mcsync.features import audit
from mcsync.features.audit import AuditAction
from mcsync.features.contacts import repository, staging
from mcsync.features.contacts.consent import ConsentCounts, ConsentSink
from mcsync.features.contacts.files import CONTACTS, opened
from mcsync.features.contacts.intake import Intake, ObjectIntake, message_of
from mcsync.features.contacts.intake.addresses import Addresses
from mcsync.features.contacts.intake.columns import Choice, Columns
from mcsync.features.contacts.intake.rows import RowStager
from mcsync.features.contacts.intake.times import zone_of
from mcsync.features.contacts.models import ImportRejection
from mcsync.features.contacts.refusals import RefusalReader
from mcsync.features.contacts.repository import ContactFilter
from mcsync.features.contacts.schemas import (
    MAX_REPORTED,
    ConsentOutcomes,
    ContactDetail,
    ContactInput,
    ContactPage,
    ContactView,
    ImportReportView,
    ImportResult,
    RejectedIndex,
    RejectedLine,
    UpsertResult,
)

_log = structlog.get_logger(__name__)

_AS_IT_IS: Final = Choice()
PULLED: Final = "source"
"""The kind of report of rows that were pulled, not sent."""
_KIND_NAMES: Final = frozenset({"csv", "ndjson", "xlsx", PULLED})


@dataclass(frozen=True, slots=True)
class Counted:
    """What became of the rows of an import."""

    received: int
    created: int
    updated: int
    unchanged: int
    rejected: int


async def upsert(
    resources: Resources,
    actor: Actor,
    contacts: Sequence[ContactInput | Mapping[str, Any]],
    sink: ConsentSink,
    *,
    confirm_withdrawals: bool = False,
    time_zone: str | None = None,
) -> UpsertResult:
    """Creates or changes contacts, given as they came. What is wrong with one of them is in the answer.

    Raises ConflictError (``confirm_withdrawals``) and BadRequestError (``unknown_time_zone``).
    """
    zone = zone_of(time_zone)
    given = [
        contact.model_dump(by_alias=True, exclude_unset=True)
        if isinstance(contact, ContactInput)
        else contact
        for contact in contacts
    ]
    async with resources.db.transaction(
        actor.org_id, behind=staging.lock_name(actor.org_id), waiters=staging.WAITERS
    ) as session:
        stager = await row_stager(resources, session, zone)
        intake = ObjectIntake(stager, strict=True)
        await staging.create(session)
        await staging.copy(session, _objects(intake, given))
        counted, consent = await take(
            session, intake, stager, sink, confirm_withdrawals=confirm_withdrawals,
            channel="contacts.upsert", source="api", proof={},
        )  # fmt: skip
        reported = await staging.first_reported(session, most=len(given) * 150)
        audit.record(
            session,
            actor,
            AuditAction.CONTACTS_UPSERT,
            entity="contact",
            entity_id=None,
            diff=consent_diff(counted, consent),
        )
    rejections = [
        RejectedIndex(
            index=row.line, field=row.field or None, code=row.code, taken=row.taken,
            message=message_of(row.code),
        )
        for row in reported
    ]  # fmt: skip
    return UpsertResult(**asdict(counted), consent=_told(consent), rejections=rejections)


async def import_file(
    resources: Resources,
    actor: Actor,
    body: AsyncIterator[bytes],
    content_type: str,
    sink: ConsentSink,
    *,
    confirm_withdrawals: bool = False,
    choice: Choice = _AS_IT_IS,
    time_zone: str | None = None,
) -> ImportResult:
    """Takes a file of any size, all of it or nothing; memory does not grow with it.

    ``choice``: what the caller says about the columns. ``time_zone``: of the times of consent that name none.
    Raises UnsupportedMediaError, BadRequestError for a file that cannot be read at all or a zone that is none,
    TooLargeError for a workbook, and ConflictError (``confirm_withdrawals``). Whatever is wrong with single
    rows is in the answer.
    """
    columns = Columns.of(choice)
    zone = zone_of(time_zone)
    file = await opened(body, content_type)
    import_id = uuid7()
    async with resources.db.transaction(
        actor.org_id, behind=staging.lock_name(actor.org_id), waiters=staging.WAITERS
    ) as session:
        stager = await row_stager(resources, session, zone)
        intake = file.intake(CONTACTS, stager, columns)
        await staging.create(session)
        await staging.copy(session, file.lines(intake))
        counted, consent = await take(
            session, intake, stager, sink, confirm_withdrawals=confirm_withdrawals,
            channel="contacts.import", source="import", proof={"importId": str(import_id)},
        )  # fmt: skip
        repository.add_report(
            session, import_id, intake.kind,
            asdict(counted) | {"consent": _told(consent).model_dump()},
        )  # fmt: skip
        reported = await staging.keep_report(session, import_id, most=MAX_REPORTED)
        audit.record(
            session,
            actor,
            AuditAction.CONTACTS_IMPORT,
            entity="contact_import",
            entity_id=import_id,
            diff=consent_diff(counted, consent),
        )
    _log.info(
        "contacts_imported", org=str(actor.org_id), import_id=str(import_id), kind=intake.kind,
        **asdict(counted), consent=_told(consent).model_dump(),
    )  # fmt: skip
    return ImportResult(
        **asdict(counted),
        consent=_told(consent),
        id=import_id,
        rejections=[reported_line(row) for row in reported],
        report=f"/mailchimp/contacts/getImport?id={import_id}",
    )


async def get_import(
    resources: Resources, actor: Actor, import_id: UUID, page: PageParams
) -> ImportReportView:
    """The report of an import, with a page of what was rejected. Raises NotFoundError."""
    async with resources.db.transaction(actor.org_id) as session:
        report = await repository.report(session, import_id)
        if report is None or report.kind not in _KIND_NAMES:
            message = "No import of this organisation has this id."
            raise NotFoundError(message)
        rows = await repository.rejections(
            session, import_id, after=page.after(int, str), limit=page.limit + 1
        )
    more = len(rows) > page.limit
    rows = rows[: page.limit]
    return ImportReportView(
        id=report.id,
        kind=report.kind,
        created_at=report.created_at,
        **report.counts,
        items=[reported_line(row) for row in rows],
        next_cursor=encode_cursor(rows[-1].line, rows[-1].field) if more else None,
    )


async def list_contacts(
    resources: Resources, actor: Actor, page: PageParams, wanted: ContactFilter
) -> ContactPage:
    """Contacts by entity type and id."""
    async with resources.db.transaction(actor.org_id) as session:
        rows = await repository.page(
            session, wanted, after=page.after(str, str), limit=page.limit + 1
        )
    more = len(rows) > page.limit
    rows = rows[: page.limit]
    cursor = encode_cursor(rows[-1].entity_type, rows[-1].entity_id) if more else None
    return ContactPage(items=[ContactView.of(row) for row in rows], next_cursor=cursor)


async def get(
    resources: Resources, actor: Actor, entity_type: str, entity_id: str, refusals: RefusalReader
) -> ContactDetail:
    """One contact, also one that left, with what was refused for its address. Raises NotFoundError."""
    async with resources.db.transaction(actor.org_id) as session:
        found = await _require(session, entity_type, entity_id)
        view = ContactView.of(found)
        address_hash = found.address_hash
    refused = await refusals(address_hash) if address_hash else []
    return ContactDetail(**view.model_dump(), refusals=refused)


async def delete(
    resources: Resources, actor: Actor, entity_type: str, entity_id: str
) -> ContactView:
    """The contact left. Nothing of it is erased; a later import brings it back. Raises NotFoundError."""
    async with resources.db.transaction(actor.org_id) as session:
        left = await repository.leave(session, entity_type, entity_id)
        contact = await _require(session, entity_type, entity_id)
        if left is not None:
            audit.record(
                session, actor, AuditAction.CONTACTS_DELETE, entity="contact", entity_id=left
            )
        return ContactView.of(contact)


async def _require(session: AsyncSession, entity_type: str, entity_id: str) -> Any:
    contact = await repository.get(session, entity_type, entity_id)
    if contact is None:
        raise NotFoundError(
            "No contact has this entityType and entityId.", code="contact_not_found"
        )
    return contact


async def row_stager(
    resources: Resources, session: AsyncSession, zone: ZoneInfo | None = None
) -> RowStager:
    """What checks and writes the rows of an import; it may be used in this transaction only."""
    addresses = Addresses(await resources.hash_keys.hash_key(session))
    # one more HMAC a row, only where somebody was erased
    erased = await staging.erased_entities(session)
    return RowStager(addresses, resources.clock, entity_keys=erased, zone=zone)


async def take(
    session: AsyncSession, intake: Intake, stager: RowStager, sink: ConsentSink, *,
    confirm_withdrawals: bool, channel: str, source: str, proof: dict[str, str],
    source_id: UUID | None = None,
) -> tuple[Counted, ConsentCounts]:  # fmt: skip
    """Merges what is staged, and records the consent in it. ``source_id``: see :func:`staging.merge`;
    ``channel``: see :class:`ConsentSink`.

    Raises ConflictError (``confirm_withdrawals``, ``erased_meanwhile``).
    """
    await staging.prepare(session, intake.received)
    await staging.lock_merge(session)
    if not stager.entity_keys and await staging.erased_entities(session):
        raise ConflictError(
            "Somebody was erased while these contacts were read. Send them again.",
            code="erased_meanwhile",
        )
    if intake.masked:
        await staging.keep_addresses(session)
    await staging.refuse_suppressed(session)
    await staging.refuse_duplicates(session)
    if intake.consent and not confirm_withdrawals:
        await sink.guard_withdrawals(session, staging.STAGED, channel=channel)
    merged = await staging.merge(session, intake.fields, masked=intake.masked, source_id=source_id)
    consent = ConsentCounts()
    if intake.consent:
        consent = await sink.apply_staged(
            session, staging.STAGED, channel=channel, default_source=source, proof=proof
        )
    counted = Counted(
        intake.received, merged.created, merged.updated, merged.unchanged,
        await staging.refused(session),
    )  # fmt: skip
    return counted, consent


async def _objects(
    intake: ObjectIntake, contacts: Sequence[Mapping[str, Any]]
) -> AsyncIterator[bytes]:
    for index, contact in enumerate(contacts):
        yield intake.stage(index, contact).encode()
        if index % 100 == 0:
            await asyncio.sleep(0)


def _told(consent: ConsentCounts) -> ConsentOutcomes:
    return ConsentOutcomes(
        opted_in=consent.opted_in,
        opted_out=consent.opted_out,
        unset=consent.unset,
        not_newer=consent.not_newer,
    )


def reported_line(row: staging.Reported | ImportRejection) -> RejectedLine:
    """What is wrong with a row, in words."""
    return RejectedLine(
        line=row.line, field=row.field or None, code=row.code, taken=row.taken,
        message=message_of(row.code),
    )  # fmt: skip


def consent_diff(counted: Counted, consent: ConsentCounts) -> dict[str, object]:
    """The difference that an import's audit entry carries: counts, nobody's data."""
    return {
        **asdict(counted),
        "optedIn": consent.opted_in,
        "optedOut": consent.opted_out,
        "unset": consent.unset,
        "optInNotNewer": consent.not_newer,
    }
