"""Recording what was done, and proving that the record was not changed."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import AsyncIterator, Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final
from uuid import UUID

from pydantic.alias_generators import to_camel
from sqlalchemy.ext.asyncio import AsyncSession

from mcsync.core.auth.actor import Actor
from mcsync.core.db import before_commit, org_of
from mcsync.core.resources import Resources
from mcsync.core.web.paging import PageParams, encode_cursor
from mcsync.features.audit import repository
from mcsync.features.audit.actions import AuditAction
from mcsync.features.audit.chain import GENESIS, entry_hash, plain
from mcsync.features.audit.models import AuditEntry
from mcsync.features.audit.schemas import (
    AuditEntryOut,
    AuditFilter,
    AuditPage,
    BreakReason,
    ExportKind,
    Verification,
)

_WAITING: Final = "audit_entries"
_CHUNK: Final = 2_000


def record(
    session: AsyncSession,
    actor: Actor,
    action: AuditAction,
    *,
    entity: str,
    entity_id: UUID | str | None,
    diff: Mapping[str, object] | None = None,
) -> None:
    """Adds an entry to the session's transaction; ``diff`` must carry no personal data.

    The link is written by the last statement before commit, since it makes the organisation's other
    writers wait: a long import does not hold up an opt-out.
    """
    assert actor.org_id == org_of(session), "the actor belongs to the transaction's organisation"
    waiting: list[dict[str, Any]] = session.info.setdefault(_WAITING, [])
    waiting.append(
        {
            "org_id": actor.org_id,
            "at": datetime.now(UTC),
            "actor_kind": actor.kind,
            "actor_id": actor.id,
            "actor_label": actor.label,
            "action": action.value,
            "entity_type": entity,
            "entity_id": None if entity_id is None else str(entity_id),
            "request_id": actor.request_id,
            "diff": plain(diff or {}),
        }
    )
    before_commit(session, _write_links, last=True)


async def _write_links(session: AsyncSession) -> None:
    waiting: list[dict[str, Any]] = session.info.pop(_WAITING, [])
    if not waiting:
        return
    org_id = org_of(session)
    seq, previous = await repository.lock_head(session, org_id)
    for entry in waiting:
        seq += 1
        entry["seq"], entry["previous_hash"] = seq, previous
        entry["hash"] = previous = entry_hash(previous, entry)
    await repository.append(session, org_id, waiting, previous)


@dataclass(frozen=True, slots=True)
class _Break:
    seq: int
    reason: BreakReason


async def verify(resources: Resources, org_id: UUID) -> Verification:
    """Goes over the whole chain of the organisation, in pieces.

    Finds a changed, inserted or missing entry; entries cut off the end together with a head set back
    to match can only be found against a copy of ``head`` kept elsewhere.
    """
    async with resources.db.transaction(org_id) as session:
        head = await repository.read_head(session, org_id)
    until, newest = head or (0, GENESIS)
    seq, previous, broken = 0, GENESIS, None
    while broken is None and seq < until:
        async with resources.db.transaction(org_id) as session:
            entries = await repository.read_chain(
                session, org_id, after=seq, until=until, limit=_CHUNK
            )
        if not entries:
            broken = _Break(seq + 1, "missing")
        for entry in entries:
            broken = _check(entry, seq, previous)
            if broken is not None:
                break
            seq, previous = entry.seq, entry.hash
    if broken is None and previous != newest:
        broken = _Break(until, "head_changed")
    async with resources.db.transaction(org_id) as session:
        if broken is None and await repository.outlasts_head(session, org_id):
            broken = _Break(until + 1, "head_changed")
    return Verification(
        valid=broken is None,
        entries=seq,
        head=newest.hex(),
        broken_at=None if broken is None else broken.seq,
        reason=None if broken is None else broken.reason,
    )


def _check(entry: AuditEntry, after: int, previous: bytes) -> _Break | None:
    if entry.seq != after + 1:
        return _Break(after + 1, "missing")
    if entry.previous_hash != previous:
        return _Break(entry.seq, "changed")
    columns = {column.key: getattr(entry, column.key) for column in AuditEntry.__table__.columns}
    return None if entry_hash(previous, columns) == entry.hash else _Break(entry.seq, "changed")


async def list_entries(
    resources: Resources, actor: Actor, page: PageParams, wanted: AuditFilter
) -> AuditPage:
    """The organisation's entries, newest first."""
    after = page.after(int)
    async with resources.db.transaction(actor.org_id) as session:
        entries = await repository.list_entries(
            session,
            actor.org_id,
            wanted,
            limit=page.limit + 1,
            before=None if after is None else after[0],
        )
    shown = entries[: page.limit]
    return AuditPage(
        items=[AuditEntryOut.model_validate(entry) for entry in shown],
        next_cursor=encode_cursor(shown[-1].seq) if len(entries) > page.limit else None,
    )


async def export(
    resources: Resources, actor: Actor, kind: ExportKind, wanted: AuditFilter
) -> AsyncIterator[bytes]:
    """The entries as of now, oldest first, as a CSV or NDJSON file in pieces.

    Holds no transaction open while somebody reads slowly, and no more than a piece in memory.
    """
    async with resources.db.transaction(actor.org_id) as session:
        head = await repository.read_head(session, actor.org_id)
    until = head[0] if head else 0
    if kind == "csv":
        yield csv_line(name for name, _ in _EXPORTED)
    seq = 0
    while True:
        async with resources.db.transaction(actor.org_id) as session:
            entries = await repository.next_entries(
                session, actor.org_id, wanted, limit=_CHUNK, after=seq, until=until
            )
        if not entries:
            return
        seq = entries[-1].seq
        yield b"".join(_exported(entry, kind) for entry in entries)


_EXPORTED: Final = tuple(
    (to_camel(name), name) for name in (*AuditEntryOut.model_fields, "previous_hash")
)


def _exported(entry: AuditEntry, kind: ExportKind) -> bytes:
    """One entry, with all that its hash is computed from but the organisation's id."""
    shown = AuditEntryOut.model_validate(entry).model_dump(mode="json", by_alias=True)
    shown["previousHash"] = entry.previous_hash.hex()
    if kind == "ndjson":
        return f"{_json(shown)}\n".encode()
    shown["diff"] = _json(shown["diff"])
    return csv_line(shown[name] for name, _ in _EXPORTED)


def _json(value: object) -> str:
    # not orjson: a difference may hold integers of any size
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


_FORMULA: Final = ("=", "+", "-", "@", "\t", "\r")


def csv_line(cells: Iterable[object]) -> bytes:
    """A line of CSV (RFC 4180). What a spreadsheet would take for a formula gets an apostrophe before it."""
    out = io.StringIO()
    texts = ("" if cell is None else str(cell) for cell in cells)
    csv.writer(out, lineterminator="\r\n").writerow(
        f"'{text}" if text.startswith(_FORMULA) else text for text in texts
    )
    return out.getvalue().encode()
