"""The rules of consent: who may be written to, and since when.

A withdrawal belongs to the contact and to the address, places its orders in the transaction that records
it, and is lifted only by a later opt-in (``design.md`` 6; later is by the time consent was given).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final
from uuid import UUID

import orjson
from sqlalchemy import Row
from sqlalchemy.ext.asyncio import AsyncSession

from mcsync.core.auth import Actor
from mcsync.core.db import look_up_by_key, org_of
from mcsync.core.errors import BadRequestError, ConflictError, FieldProblem, NotFoundError
from mcsync.core.jobs import JobQueue
from mcsync.core.resources import Resources
from mcsync.core.web.paging import PageParams, encode_cursor
from mcsync.features import audit
from mcsync.features.audiences.orders import (
    order_opt_ins_from,
    order_withdrawals_from,
    ring_orders,
)
from mcsync.features.audit import AuditAction
from mcsync.features.contacts.consent import ConsentCounts
from mcsync.features.preferences import by_address, events, named, repeated, repository
from mcsync.features.preferences.models import Preference
from mcsync.features.preferences.schemas import (
    AddressView,
    EntityPreference,
    EventPage,
    EventView,
    OptStatus,
    OptStatusInput,
    PreferencePage,
    PreferenceView,
)

_CLOCKS_DIFFER: Final = timedelta(minutes=5)
_FEW: Final = 500
_ACTIONS: Final = {
    "opted_in": AuditAction.PREFERENCES_OPT_IN,
    "opted_out": AuditAction.PREFERENCES_OPT_OUT,
    "unset": AuditAction.PREFERENCES_UNSET,
}


async def get_for_entity(
    resources: Resources, actor: Actor, entity_type: str, entity_id: str
) -> EntityPreference:
    """A contact's consent. Raises NotFoundError for a contact that we do not know."""
    async with resources.db.transaction(actor.org_id) as session:
        return await _view(session, entity_type, entity_id)


async def list_preferences(
    resources: Resources, actor: Actor, page: PageParams, status: OptStatus | None
) -> PreferencePage:
    """All recorded preferences, by entity type and id."""
    async with resources.db.transaction(actor.org_id) as session:
        rows = await repository.page(
            session, status=status, after=page.after(str, str), limit=page.limit + 1
        )
    more = len(rows) > page.limit
    rows = rows[: page.limit]
    cursor = encode_cursor(rows[-1].entity_type, rows[-1].entity_id) if more else None
    return PreferencePage(items=[PreferenceView.of(row) for row in rows], next_cursor=cursor)


async def history(
    resources: Resources, actor: Actor, page: PageParams, *, entity_type: str | None = None,
    entity_id: str | None = None, email: str | None = None,
) -> EventPage:  # fmt: skip
    """Everything ever stated about a contact's consent, or under an address.

    Raises BadRequestError (``subject_needed``, ``invalid_email``) and NotFoundError.
    """
    after = page.after(UUID)
    before, limit = after[0] if after else None, page.limit + 1
    async with resources.db.transaction(actor.org_id) as session:
        if entity_type is not None and entity_id is not None and email is None:
            if await repository.effective(session, entity_type, entity_id) is None:
                raise _unknown()
            rows = await events.of_contact(
                session, entity_type, entity_id, before=before, limit=limit
            )
        elif entity_type is None and entity_id is None and email is not None:
            hash_key = await resources.hash_keys.hash_key(session)
            wanted = by_address.usable(hash_key, email)
            address = await by_address.address_of(session, resources.hash_keys, wanted)
            if not await events.address_is_known(session, address.hash, address.key):
                raise NotFoundError("Nothing is known of this address.", code="contact_not_found")
            rows = await events.of_address(session, address.key, before=before, limit=limit)
        else:
            raise BadRequestError(
                "Send entityType and entityId, or email, and not both.", code="subject_needed"
            )
    more = len(rows) > page.limit
    rows = rows[: page.limit]
    return EventPage(
        items=[EventView.of(row) for row in rows],
        next_cursor=encode_cursor(rows[-1].id) if more else None,
    )


async def update_opt_status(
    resources: Resources, actor: Actor, given: OptStatusInput
) -> EntityPreference:
    """Records what a person said; a withdrawal is on its way to Mailchimp when this returns.

    Raises what :func:`record` raises, and BadRequestError for a time in the future or of no opt-in.
    """
    at = given.consent_given_at
    if at is not None and given.status != "opted_in":
        raise _bad_time("only_with_opt_in", "Send consentGivenAt only with the status opted_in.")
    if at is not None and at > resources.clock() + _CLOCKS_DIFFER:
        raise _bad_time("in_the_future", "consentGivenAt lies in the future.")
    proof = given.proof.model_dump(by_alias=True, exclude_none=True) if given.proof else {}
    async with resources.db.transaction(actor.org_id) as session:
        await record(
            session,
            actor,
            entity_type=given.entity_type,
            entity_id=given.entity_id,
            status=given.status,
            effective_at=at,
            source=given.source,
            proof=proof,
            jobs=resources.jobs,
        )
        return await _view(session, given.entity_type, given.entity_id)


async def record(
    session: AsyncSession, actor: Actor, *, entity_type: str, entity_id: str, status: OptStatus,
    effective_at: datetime | None, source: str, proof: Mapping[str, Any], jobs: JobQueue | None = None,
) -> Preference | None:  # fmt: skip
    """Records one statement about one contact, in the caller's transaction; answers what holds now.

    ``effective_at`` None means now: a withdrawal then holds whatever was recorded, an opt-in is later than
    all. ``jobs``: rung after the commit for the orders of a withdrawal (a worker finds them anyway).
    Raises NotFoundError for a contact that we do not know, ConflictError (``opt_in_not_newer``) for an
    opt-in that is not later than a withdrawal, and (``withdrawal_stands``) for ``unset`` after one.
    """
    if not await repository.hold_contact(session, entity_type, entity_id):
        raise _unknown()
    now = await repository.moment(session)
    before = await repository.get(session, entity_type, entity_id)
    status_before = before.status if before else "unset"
    if status == "unset" and status_before == "opted_out":
        raise ConflictError(
            "This contact has withdrawn. Only a later opt-in lifts that; record one with its time.",
            code="withdrawal_stands",
        )
    at_once = status == "opted_out" and effective_at is None
    await repository.state(
        session,
        status,
        repository.one_contact(),
        {
            "entity_type": entity_type,
            "entity_id": entity_id,
            "at": None if at_once else (effective_at or now),
            "source": source,
            "proof": orjson.dumps(dict(proof)).decode(),
        },
        now=now,
        actor_kind=actor.kind,
        actor_id=actor.id,
        at_once=at_once,
        again=True,
    )
    after = await repository.get(session, entity_type, entity_id)
    # the second question is for a withdrawal that was recorded by somebody else at this very moment
    if await repository.refusal(session) == "opt_in_not_newer" or (
        status == "opted_in" and (after is None or after.status != status)
    ):
        raise ConflictError(
            "A withdrawal of this contact or of its address is recorded that is not older than this"
            " opt-in, so it stands. Record a newer consent, with the time when it was given.",
            code="opt_in_not_newer",
        )
    if status == "opted_out":
        await _order(session, jobs)
    elif status == "opted_in":
        ring_orders(session, jobs, await order_opt_ins_from(session, repository.APPLIED, {}))
    audit.record(
        session,
        actor,
        _ACTIONS[status],
        entity="preference",
        entity_id=after.id if after else None,
        diff={"status": [status_before, after.status if after else "unset"]},
    )
    return after


async def record_withdrawals_pulled(
    session: AsyncSession, actor: Actor, *, source: str, table: str, jobs: JobQueue | None = None,
    unwatched: bool = True,
) -> int:  # fmt: skip
    """Withdraws every contact with an address in a temporary table (address_hash, effective_at).

    One older than a recorded opt-in is only remembered. Nothing happens the second time. Places orders
    for members elsewhere; ``unwatched``: also in audiences that no segment uses. Answers how many contacts
    changed.
    """
    return await _pulled(
        session, actor, "opted_out", source=source, table=table, jobs=jobs, unwatched=unwatched
    )


async def record_opt_ins_pulled(
    session: AsyncSession, actor: Actor, *, source: str, table: str
) -> int:
    """Opts in every contact with an address in a temporary table (address_hash, effective_at).

    One that is not later than a withdrawal is only remembered. Answers how many contacts changed.
    """
    return await _pulled(session, actor, "opted_in", source=source, table=table, jobs=None)


async def _pulled(
    session: AsyncSession, actor: Actor, status: OptStatus, *, source: str, table: str,
    jobs: JobQueue | None, unwatched: bool = False,
) -> int:  # fmt: skip
    await look_up_by_key(session)
    await repository.state(
        session,
        status,
        repository.pulled(table, left_behind_too=status == "opted_out"),
        {"source": source},
        now=await repository.moment(session),
        actor_kind=actor.kind,
        actor_id=actor.id,
        again=True,
    )
    applied, _ = await repository.outcome_counts(session)
    if status == "opted_out" and applied:
        await _order(session, jobs, many=applied, unwatched=unwatched)
    if applied:
        audit.record(
            session,
            actor,
            AuditAction.PREFERENCES_PULLED,
            entity="preference",
            entity_id=None,
            diff={"status": status, "contacts": applied},
        )
    return applied


@dataclass(frozen=True, slots=True)
class PreferencesConsentSink:
    """Records the consent of an import; see :class:`mcsync.features.contacts.consent.ConsentSink`."""

    resources: Resources
    actor: Actor
    own_proof: bool = False
    """Each staged row brings its own proof, in ``attributes``."""

    async def guard_withdrawals(self, session: AsyncSession, staged: str, *, channel: str) -> None:
        """Raises ConflictError (``confirm_withdrawals``) where an import withdraws suspiciously many."""
        settings = self.resources.settings
        if "opted_out" not in await repository.staged_statuses(session, staged):
            return
        await repeated.mark(session, staged, channel, own_proof=self.own_proof)
        withdrawals = await repository.would_withdraw(session, staged)
        if withdrawals <= settings.guard_removals_min:
            return
        contacts = await repository.not_withdrawn(session)
        limit = max(settings.guard_removals_min, int(settings.guard_removals_share * contacts))
        if withdrawals > limit:
            raise ConflictError(
                f"This would withdraw {withdrawals} of {contacts} contacts that are not withdrawn now,"
                f" more than {limit}. Nothing was changed. If it is right, repeat it with"
                " confirmWithdrawals=true.",
                code="confirm_withdrawals",
                extra={"withdrawals": withdrawals, "contacts": contacts, "limit": limit},
            )

    async def apply_staged(
        self, session: AsyncSession, staged: str, *, channel: str, default_source: str,
        proof: dict[str, str],
    ) -> ConsentCounts:  # fmt: skip
        """Withdrawals first, so that a file that says both leaves the contact withdrawn."""
        await repeated.mark(session, staged, channel, own_proof=self.own_proof)
        stated = await repository.staged_statuses(session, staged)
        given = {"source": default_source, "proof": orjson.dumps(proof).decode()}
        now = await repository.moment(session)
        counts = {}
        of_refused = 0
        for status in ("opted_out", "unset", "opted_in"):
            if status not in stated:
                counts[status] = (0, 0)
                continue
            await self._state(session, staged, status, now, given)
            counts[status] = await repository.outcome_counts(session)
            if status == "opted_out" and counts[status][0]:
                of_refused = await repository.applied_of_refused(session, staged)
                await _order(session, self.resources.jobs, many=counts[status][0])
            if counts[status][1]:
                await repository.note_refused(session, staged)
        await repeated.remember(session, staged, channel, own_proof=self.own_proof)
        return ConsentCounts(
            opted_in=counts["opted_in"][0],
            opted_out=counts["opted_out"][0],
            unset=counts["unset"][0],
            not_newer=counts["opted_in"][1],
            of_refused=of_refused,
        )

    async def _state(
        self, session: AsyncSession, staged: str, status: str, now: datetime, given: dict[str, str]
    ) -> None:
        """Records the staged statements of one status; withdrawals also of addresses in refused rows."""
        out = status == "opted_out"
        own = repository.staged(staged, status, own_proof=self.own_proof)
        await repository.state(
            session,
            status,
            own + named.contacts(staged) if out else own,
            given,
            now=now,
            actor_kind=self.actor.kind,
            actor_id=self.actor.id,
            at_once=True,
        )
        if out:
            actor = {"actor_kind": self.actor.kind, "actor_id": self.actor.id}
            await named.withdraw(
                session, staged, {"org": org_of(session), "now": now, **actor, **given}
            )


async def _order(
    session: AsyncSession, jobs: JobQueue | None, *, many: int | None = None, unwatched: bool = True
) -> None:
    """Places the orders of the withdrawals just recorded; rings for them after the commit.

    Of one (``many`` None) in every audience. Of several where the mirror knows the address; and
    (``unwatched``) in the audiences that no segment uses, where nothing else would ever reach them, as long
    as they are few: each costs a call, and those of one person must not wait behind a file's.
    """
    audiences = await order_withdrawals_from(
        session, repository.APPLIED, {},
        everywhere=many is None, unwatched=many is not None and many <= _FEW and unwatched,
    )  # fmt: skip
    ring_orders(session, jobs, audiences)


async def _view(session: AsyncSession, entity_type: str, entity_id: str) -> EntityPreference:
    found = await repository.effective(session, entity_type, entity_id)
    if found is None:
        raise _unknown()
    address = _address_view(found, found.others) if found.usable else None
    return EntityPreference(
        entity_type=entity_type,
        entity_id=entity_id,
        status=found.status,
        consent_given_at=found.consent_given_at,
        consent_withdrawn_at=found.consent_withdrawn_at,
        source=found.source,
        proof=found.proof,
        updated_at=found.updated_at,
        address=address,
    )


async def address_standing(session: AsyncSession, address_hash: UUID) -> AddressView | None:
    """What holds for an address, over all living contacts that have it; None: nothing is known of it."""
    found = await repository.standing_of(session, address_hash)
    return _address_view(found, max(0, found.others - 1)) if found is not None else None


def _address_view(found: Row[Any], others: int) -> AddressView:
    withdrawn = bool(found.withdrawn)
    return AddressView(
        status="opted_out" if withdrawn else found.strictest,
        withdrawn=withdrawn,
        consent_given_at=found.given_at,
        consent_given_source=found.given_source,
        consent_withdrawn_at=found.withdrawn_at,
        consent_withdrawn_source=found.withdrawn_source,
        other_contacts=others,
    )


def _unknown() -> NotFoundError:
    return NotFoundError(
        "No contact has this entityType and entityId; send it with contacts.upsert first.",
        code="contact_not_found",
    )


def _bad_time(code: str, message: str) -> BadRequestError:
    return BadRequestError(
        message,
        code="invalid_consent_time",
        errors=[FieldProblem("/consentGivenAt", code, message)],
    )
