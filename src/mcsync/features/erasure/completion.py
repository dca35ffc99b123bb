"""The end of an erasure: the stores once more, nothing that tells who it was, the receipt."""

from __future__ import annotations

from collections import Counter
from typing import Any, Final

import structlog
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from mcsync.core.auth import Actor
from mcsync.core.crash import crash_point
from mcsync.core.resources import Resources
from mcsync.features import audit
from mcsync.features.audit import AuditAction
from mcsync.features.erasure import leases, receipt, repository, stores
from mcsync.features.erasure.models import Erasure, ErasureTarget
from mcsync.features.erasure.subject import Subject, address_hash
from mcsync.features.sync.planner import PLAN_LOCK

_log = structlog.get_logger(__name__)

_ACTOR: Final = "gdpr-erasure"


class NotYetError(Exception):
    """A plan that began before the request is still being written: it may name the person."""


async def complete(
    resources: Resources, held: leases.Claimed, subject: Subject, hash_key: bytes
) -> None:
    """Ends an erasure without open targets, in one transaction.

    Raises :class:`NotYetError`, and ``FencedError`` where the erasure is another worker's by now.
    """
    async with resources.db.transaction(held.org_id) as session:
        await leases.fence(session, held)
        alone = "select " + PLAN_LOCK.format(try_="try_", shared="")
        if not await session.scalar(text(alone), {"org": str(held.org_id)}):
            raise NotYetError
        last = await stores.scrub(session, subject, hash_key, erasure_id=held.id)
        shared = await shared_addresses(session, subject)
        erasure = await repository.get(session, held.id)
        assert erasure is not None
        targets = await repository.targets(session, [held.id])
        now = await session.scalar(text("select clock_timestamp()"))
        passes = [*erasure.report.get("passes", []), last]
        report = {**erasure.report, "passes": passes, "shared": shared}
        content = _content(erasure, targets, report, completed_at=receipt.moment(now))
        signed, signature = receipt.sign(content, hash_key, held.org_id)
        await session.execute(
            text(
                """update erasure_targets set address_hash = null, member_id = null
                   where erasure_id = :erasure"""
            ),
            {"erasure": held.id},
        )
        await leases.write(
            session, held,
            """status = 'done', subject = null, completed_at = :now, last_error = null,
               lease_until = null, lease_owner = null, report = cast(:report as jsonb),
               receipt = cast(:receipt as jsonb), signature = :signature""",
            now=now, signature=signature,
            report=repository.as_json(report), receipt=repository.as_json(signed),
        )  # fmt: skip
        audit.record(
            session, Actor.system(held.org_id, _ACTOR), AuditAction.ERASURE_COMPLETE,
            entity="erasure", entity_id=held.id,
            diff={"targets": dict(Counter(t.state for t in targets if t.audience_id))},
        )  # fmt: skip
        crash_point("erasure.completing")
    _log.info(
        "erasure_completed", erasure=str(held.id), org=str(held.org_id), passes=len(passes),
        targets=dict(Counter(t.state for t in targets if t.audience_id)),
    )  # fmt: skip


async def shared_addresses(session: AsyncSession, subject: Subject) -> list[dict[str, int]]:
    """The addresses, by number, that other living contacts hold, and how many do."""
    holders = await repository.holders(session, subject.hashes, subject.contact_id)
    boxes = [
        address.hash if address.email is None else address_hash(address.email)
        for address in subject.addresses
    ]
    return [
        {"address": number, "contacts": holders[box]}
        for number, box in enumerate(boxes, start=1)
        if box in holders
    ]


def store_report(report: dict[str, Any]) -> list[dict[str, Any]]:
    """What was done in each store, over all passes so far."""
    named = [(store.name, store.what, store.how) for store in stores.STORES]
    return receipt.stores_of(named, *report.get("passes", []))


def _content(
    erasure: Erasure,
    targets: list[ErasureTarget],
    report: dict[str, Any],
    *,
    completed_at: str | None,
) -> dict[str, Any]:
    return {
        "erasureId": str(erasure.id),
        "organisationId": str(erasure.org_id),
        "requestedAt": receipt.moment(erasure.requested_at),
        "requestedBy": {"kind": erasure.actor_kind, "id": erasure.actor_id},
        "completedAt": completed_at,
        "knownBy": erasure.subject_kind,
        "addresses": erasure.addresses,
        "stores": store_report(report),
        "sharedAddresses": report["shared"],
        "targets": [_target(t) for t in targets],
    }


def _target(target: ErasureTarget) -> dict[str, Any]:
    closed = target.state == "closed"
    return {
        "account": target.account_id,
        "audience": target.list_id,
        "address": target.address_no or None,
        "outcome": target.state,
        "deleteAnswers": target.delete_answers,
        "readBack": None if target.read_back_status is None or closed else {
            "at": receipt.moment(target.read_back_at), "status": target.read_back_status,
        },
        "closed": {
            "at": receipt.moment(target.closed_at), "by": target.closed_by,
            "reason": target.closed_reason,
        } if closed else None,
    }  # fmt: skip
