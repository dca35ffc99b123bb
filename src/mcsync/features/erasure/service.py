"""The rules of erasure as callers see them. What workers do stands in :mod:`work`.

The request finds the person, keeps them away (keyed hashes), fixes where Mailchimp must be asked, and
removes what is held here, all in one transaction. The rest is a job that ends in a receipt.
"""

from __future__ import annotations

import asyncio
import re
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping
from datetime import timedelta
from functools import partial
from typing import Any, Final, TypeVar, cast
from uuid import UUID

from sqlalchemy import text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncSession
from uuid6 import uuid7

from mcsync.core.auth import Actor
from mcsync.core.db import after_commit, org_of
from mcsync.core.errors import BadRequestError, ConflictError, NotFoundError
from mcsync.core.jobs import ERASURE
from mcsync.core.resources import Resources
from mcsync.core.web.paging import PageParams, encode_cursor
from mcsync.features import audit
from mcsync.features.audit import AuditAction
from mcsync.features.connection import service as connection
from mcsync.features.contacts import staging
from mcsync.features.erasure import completion, elsewhere, finding, receipt, repository, stores
from mcsync.features.erasure.models import Erasure, ErasureTarget
from mcsync.features.erasure.schemas import (
    CloseTargetInput,
    DeleteAnswer,
    ErasurePage,
    ErasureStatus,
    ErasureSummary,
    ErasureView,
    ExportView,
    HeldStore,
    LiftInput,
    LiftView,
    SharedAddress,
    StoreView,
    SubjectInput,
    TargetState,
    TargetView,
)
from mcsync.features.erasure.subject import (
    BY_ADDRESS,
    BY_ENTITY,
    Subject,
    address_key,
    entity_key,
    subject_context,
)

_CLOCKS_DIFFER: Final = timedelta(minutes=5)
_DEADLOCK: Final = "40P01"
_TRIES: Final = 5
_T = TypeVar("_T")


async def erase(resources: Resources, actor: Actor, wanted: SubjectInput) -> ErasureView:
    """Erases a person here, and orders the erasure at Mailchimp; answers the erasure.

    The same one where it was asked for before and nothing new is known. Raises NotFoundError
    (``contact_not_found``) where nothing at all is known, here and on the lists of the connected account;
    BadRequestError for nobody or an address that cannot be one; ConflictError (``address_shared``) for the
    address of several contacts; and, where only Mailchimp could tell, what :func:`elsewhere.is_on_a_list`
    raises.
    """
    there = await elsewhere.only_there(resources, actor, wanted)
    return await _unblocked(lambda: _erase(resources, actor, wanted, at_mailchimp=there))


async def _unblocked(act: Callable[[], Awaitable[_T]]) -> _T:
    """A run may lock the person's rows in another order: then the request begins anew."""
    for tried in range(1, _TRIES + 1):
        try:
            return await act()
        except DBAPIError as error:
            if getattr(error.orig, "sqlstate", None) != _DEADLOCK or tried == _TRIES:
                raise
            await asyncio.sleep(0.05 * tried)
    raise AssertionError


async def _erase(
    resources: Resources, actor: Actor, wanted: SubjectInput, *, at_mailchimp: bool
) -> ErasureView:
    async with resources.db.transaction(
        actor.org_id, behind=staging.lock_name(actor.org_id), waiters=staging.WAITERS
    ) as session:
        hash_key = await resources.hash_keys.hash_key(session)
        # no import is being merged from here on: all later ones know of the suppressions
        await staging.lock_merge(session)
        found = await finding.find(
            session, hash_key, wanted, erasing=True, at_mailchimp=at_mailchimp
        )
        if isinstance(found, Erasure):
            return await _view(session, found)
        erasure_id = uuid7()
        account_id = await connection.last_account(session)
        session.add(
            Erasure(
                id=erasure_id, org_id=actor.org_id, subject_kind=found.kind,
                subject_key=found.key(hash_key), account_id=account_id,
                subject=resources.keys.seal(
                    found.dump(), context=subject_context(actor.org_id, erasure_id)
                ),
                actor_kind=actor.kind, actor_id=actor.id, addresses=len(found.addresses),
            )
        )  # fmt: skip
        await session.flush()
        await _suppress(session, found, hash_key, erasure_id)
        connected = await connection.get_live(session) is not None
        await _aim(session, found, erasure_id, account_id, connected=connected)
        await repository.stop_unsent_calls(session, found.hashes)
        counts = await stores.scrub(
            session, found, hash_key, erasure_id=erasure_id, only=stores.When.AT_ONCE
        )
        report = {
            "passes": [counts],
            "shared": await completion.shared_addresses(session, found),
        }
        await session.execute(
            text("update erasures set report = cast(:report as jsonb) where id = :erasure"),
            {"report": repository.as_json(report), "erasure": erasure_id},
        )
        targets = await repository.targets(session, [erasure_id])
        audit.record(
            session, actor, AuditAction.ERASURE_REQUEST, entity="erasure", entity_id=erasure_id,
            diff={"knownBy": found.kind, "addresses": len(found.addresses),
                  "targets": sum(t.audience_id is not None for t in targets)},
        )  # fmt: skip
        after_commit(session, partial(resources.jobs.ring, ERASURE, erasure_id, actor.org_id))
        made = await repository.get(session, erasure_id)
        assert made is not None
        return await _view(session, made)


async def _suppress(
    session: AsyncSession, subject: Subject, hash_key: bytes, erasure_id: UUID
) -> None:
    keys = [(BY_ADDRESS, key) for key in subject.address_keys(hash_key)]
    if subject.kind == BY_ENTITY:
        keys.append((BY_ENTITY, subject.key(hash_key)))
    await repository.suppress(session, keys, erasure_id)


async def _aim(
    session: AsyncSession, subject: Subject, erasure_id: UUID, account_id: str | None, *,
    connected: bool,
) -> None:  # fmt: skip
    numbered = list(enumerate(subject.addresses, start=1))
    await repository.aim(session, erasure_id, numbered, account_id if connected else None)
    if account_id is not None and numbered:
        # the account as a whole: audiences that are not mirrored yet are listed by the job, and all of
        # them where nobody can be asked now; a missing connection never counts as done
        session.add(
            ErasureTarget(
                id=uuid7(), org_id=org_of(session), erasure_id=erasure_id, account_id=account_id,
                audience_id=None, list_id=None, address_no=0,
            )
        )  # fmt: skip
        await session.flush()


# ---- looking


async def get(resources: Resources, actor: Actor, erasure_id: UUID) -> ErasureView:
    """One erasure. Raises NotFoundError (``erasure_not_found``)."""
    async with resources.db.transaction(actor.org_id) as session:
        found = await repository.get(session, erasure_id)
        if found is None:
            raise _no_erasure()
        return await _view(session, found)


async def list_erasures(
    resources: Resources, actor: Actor, page: PageParams, status: ErasureStatus | None
) -> ErasurePage:
    """Erasures, newest first."""
    after = page.after(UUID)
    async with resources.db.transaction(actor.org_id) as session:
        rows = await repository.page(
            session, status=status, before=after[0] if after else None, limit=page.limit + 1
        )
        shown = rows[: page.limit]
        targets = await repository.targets(session, [row.id for row in shown])
    waiting = Counter(t.erasure_id for t in targets if t.state == "open")
    return ErasurePage(
        items=[ErasureSummary(**_summary(row, waiting[row.id])) for row in shown],
        next_cursor=encode_cursor(shown[-1].id) if len(rows) > page.limit else None,
    )


async def export(resources: Resources, actor: Actor, wanted: SubjectInput) -> ExportView:
    """Everything held of a person (the right of access). Raises what :func:`erase` raises."""
    async with resources.db.transaction(actor.org_id) as session:
        hash_key = await resources.hash_keys.hash_key(session)
        found = await finding.find(session, hash_key, wanted, erasing=False)
        if isinstance(found, Erasure):
            raise finding.unknown()
        held = await stores.held(session, found, hash_key)
    return ExportView(
        entity_type=found.entity_type,
        entity_id=found.entity_id,
        addresses=[a.email for a in found.addresses if a.email is not None],
        exported_at=resources.clock(),
        stores=[
            HeldStore(store=store.name, what=store.what, rows=[_camel(row) for row in rows])
            for store, rows in held
        ],
    )


def _camel(row: Mapping[str, Any]) -> dict[str, Any]:
    return {
        re.sub(r"_([a-z])", lambda found: found[1].upper(), name): value
        for name, value in row.items()
    }


# ---- what an owner may do about it


async def close_target(resources: Resources, actor: Actor, given: CloseTargetInput) -> ErasureView:
    """Gives up a target of an account that is no longer connected; the receipt will say so, and why.

    Raises NotFoundError, ConflictError (``account_connected``, ``target_not_open``) and BadRequestError
    (``reason_names_person``).
    """
    async with resources.db.transaction(actor.org_id) as session:
        seen = await repository.target(session, given.id)
        erasure = seen and await repository.get(session, seen.erasure_id, lock=True)
        target = await repository.target(session, given.id, lock=True)
        if target is None or not erasure:
            raise NotFoundError("There is no such target.", code="erasure_not_found")
        if target.state != "open":
            raise ConflictError("This target is not open any more.", code="target_not_open")
        live = await connection.get_live(session)
        if live is not None and live.account_id == target.account_id:
            raise ConflictError(
                "The account of this target is connected, so the work goes on by itself.",
                code="account_connected",
            )
        context = subject_context(actor.org_id, erasure.id)
        subject = Subject.load(resources.keys.open(erasure.subject or "", context=context))
        if subject.named_in(given.reason):
            raise BadRequestError(
                "The reason stands in the receipt and must not name the erased person.",
                code="reason_names_person",
            )
        by = f"{actor.kind}:{actor.id}" if actor.id else actor.kind
        await session.execute(
            text(
                """update erasure_targets set state = 'closed', closed_reason = :reason,
                       closed_by = :by, closed_at = clock_timestamp(), last_error = null
                   where id = :target"""
            ),
            {"reason": given.reason, "by": by, "target": target.id},
        )
        # whether it is over by that is for the job to find out
        await session.execute(
            text("update erasures set next_attempt_at = clock_timestamp() where id = :erasure"),
            {"erasure": erasure.id},
        )
        audit.record(
            session, actor, AuditAction.ERASURE_CLOSE_TARGET, entity="erasure",
            entity_id=erasure.id, diff={"target": str(target.id), "account": target.account_id},
        )  # fmt: skip
        after_commit(
            session,
            partial(resources.jobs.ring, ERASURE, erasure.id, actor.org_id, epoch=erasure.epoch),
        )
        closed = await repository.get(session, erasure.id)
        assert closed is not None
        return await _view(session, closed)


async def lift(resources: Resources, actor: Actor, given: LiftInput) -> LiftView:
    """Lets an erased person come back, for a new consent of theirs.

    Raises NotFoundError (``suppression_not_found``), ConflictError (``erasure_open``,
    ``consent_not_newer``) and BadRequestError for a time in the future or missing proof.
    """
    proof = given.proof.model_dump(by_alias=True, exclude_none=True)
    if not proof:
        raise BadRequestError("Say how the new consent can be proven.", code="proof_needed")
    if given.consent_given_at > resources.clock() + _CLOCKS_DIFFER:
        raise BadRequestError("consentGivenAt lies in the future.", code="invalid_consent_time")
    async with resources.db.transaction(actor.org_id) as session:
        hash_key = await resources.hash_keys.hash_key(session)
        found = await repository.live_suppressions(session, _keys_of(hash_key, given), lock=True)
        if not found:
            raise NotFoundError(
                "Nothing is suppressed under this id or address.", code="suppression_not_found"
            )
        for one in found:
            erasure = one.erasure_id and await repository.get(session, one.erasure_id)
            if erasure and erasure.status == "open":
                raise ConflictError("The erasure is still under way.", code="erasure_open")
            after = (erasure and erasure.completed_at) or one.created_at
            if given.consent_given_at <= after:
                raise ConflictError(
                    "The person must have given this consent after the erasure.",
                    code="consent_not_newer",
                )
        now = resources.clock()
        told = {
            "source": given.source,
            "consentGivenAt": receipt.moment(given.consent_given_at),
            "proof": proof,
            "by": {"kind": actor.kind, "id": actor.id},
        }
        for one in found:
            one.lifted_at, one.lift = now, told
        await session.flush()
        audit.record(
            session, actor, AuditAction.SUPPRESSION_LIFT, entity="suppression",
            entity_id=found[0].id, diff={"kinds": sorted(one.kind for one in found)},
        )  # fmt: skip
    kinds = {one.kind for one in found}
    return LiftView(entity=BY_ENTITY in kinds, address=BY_ADDRESS in kinds, lifted_at=now)


def _keys_of(hash_key: bytes, given: LiftInput) -> list[tuple[str, UUID]]:
    keys = []
    if given.entity_type is not None and given.entity_id is not None:
        keys.append((BY_ENTITY, entity_key(hash_key, given.entity_type, given.entity_id)))
    if given.email is not None:
        keys.append(
            (BY_ADDRESS, address_key(hash_key, finding.address_given(hash_key, given.email)))
        )
    if not keys:
        raise BadRequestError("Send entityType and entityId, or email.", code="subject_needed")
    return keys


# ---- how it is shown


async def _view(session: AsyncSession, row: Erasure) -> ErasureView:
    targets = await repository.targets(session, [row.id])
    return ErasureView(
        **_summary(row, sum(t.state == "open" for t in targets)),
        shared_addresses=[SharedAddress(**one) for one in row.report.get("shared", [])],
        stores=[StoreView(**one) for one in completion.store_report(row.report)],
        targets=[_target(t) for t in targets],
        receipt=row.receipt,
        signature=row.signature,
    )


def _summary(row: Erasure, open_targets: int) -> dict[str, Any]:
    return {
        "id": row.id,
        "status": row.status,
        "requested_at": row.requested_at,
        "completed_at": row.completed_at,
        "attempts": row.attempts,
        "next_attempt_at": row.next_attempt_at if row.status == "open" else None,
        "last_error": row.last_error,
        "addresses": row.addresses,
        "open_targets": open_targets,
    }


def _target(row: ErasureTarget) -> TargetView:
    return TargetView(
        id=row.id,
        account_id=row.account_id,
        audience_id=row.list_id,
        address=row.address_no,
        state=cast("TargetState", row.state),
        delete_answers=[DeleteAnswer(**answer) for answer in row.delete_answers],
        read_back_at=row.read_back_at,
        read_back_status=row.read_back_status,
        attempts=row.attempts,
        last_error=row.last_error,
        closed_reason=row.closed_reason,
        closed_by=row.closed_by,
        closed_at=row.closed_at,
    )


def _no_erasure() -> NotFoundError:
    return NotFoundError("No erasure of this organisation has this id.", code="erasure_not_found")


async def rewrap_subjects(resources: Resources, session: AsyncSession) -> int:
    """Seals the subjects of open erasures under the active master key; answers how many were anew."""
    renewed = 0
    for erasure_id, envelope in await sealed_subjects(session):
        again = resources.keys.rewrap(envelope, subject_context(org_of(session), erasure_id))
        if again != envelope:
            renewed += 1
            await session.execute(
                text("update erasures set subject = :again where id = :erasure and subject = :was"),
                {"again": again, "erasure": erasure_id, "was": envelope},
            )
    return renewed


async def sealed_subjects(session: AsyncSession) -> list[tuple[UUID, str]]:
    """The envelopes of open erasures, by id."""
    rows = await session.execute(
        text("select id, subject from erasures where subject is not null order by id")
    )
    return [(row[0], row[1]) for row in rows]
